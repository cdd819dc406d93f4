/*
fuzz_text.c: a text that is cut where text_safe_cut says has the pre-tokens of the uncut one: in every split pattern,
for every place that may be asked for.

    make fuzz MINUTES=60

The input is the text, up to its first byte that is not UTF-8.
*/
#include "../../llmc/text/text.h"
#include "fuzz.h"

enum { TEXT_MOST = 400 }; // places are tried in pairs

// Marks the ends of the pre-tokens of [begin, end).
static void mark_ends(bool *ends, TextPattern pattern, const uint8_t *text, size_t begin, size_t end) {
    for (const uint8_t *p = text + begin; p < text + end;) {
        const uint8_t *next = text_split(pattern, p, text + end);
        REQUIRE(next > p && next <= text + end);
        ends[next - text] = true;
        p = next;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t n = size < TEXT_MOST ? size : TEXT_MOST;
    n = text_valid(data, data + n);
    uint8_t *text = (uint8_t *)malloc(n ? n : 1); // exactly, for AddressSanitizer
    if (n) memcpy(text, data, n);
    for (int k = 0; k < TEXT_PATTERNS; k++) {
        bool whole[TEXT_MOST + 1] = {false};
        size_t last = 0;
        mark_ends(whole, (TextPattern)k, text, 0, n);
        for (size_t at = 0; at < n; at++) {
            size_t cut = text_safe_cut((TextPattern)k, (const char *)text, n, at);
            REQUIRE(cut <= n && cut >= at);
            if (cut == last || cut == n) continue;
            bool parts[TEXT_MOST + 1] = {false};
            mark_ends(parts, (TextPattern)k, text, 0, cut);
            mark_ends(parts, (TextPattern)k, text, cut, n);
            REQUIRE(memcmp(whole, parts, sizeof whole) == 0);
            last = cut;
        }
    }
    free(text);
    return 0;
}
