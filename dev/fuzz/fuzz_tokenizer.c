/*
fuzz_tokenizer.c: whatever the bytes, tokenizer.json is read or refused, and text comes back.

    make fuzz MINUTES=60

Runs in the repository's root. An input that begins with '{' is a tokenizer.json; anything else is text
for the tokenizers in dev/test/fixtures/tokenizer, the first byte chooses which.
*/
#include "../../llmc/text/tokenizer.h"
#include "fuzz.h"

static Tokenizer tokenizers[7];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const char *const names[7] = {"trained", "gpt2", "llama3", "qwen2", "o200k", "added", "tekken"};
    (void)argc, (void)argv;
    for (int i = 0; i < 7; i++) {
        Error err;
        Path path = path_of("dev/test/fixtures/tokenizer/%s.json", names[i]);
        if (!tokenizer_load(&tokenizers[i], path.text, &err)) fail("%s", err.text);
    }
    return 0;
}

static bool same(const void *a, size_t n, const void *b, size_t m) {
    return n == m && (n == 0 || memcmp(a, b, n) == 0);
}

static void fuzz_encode(const Tokenizer *tok, const uint8_t *data, size_t n) {
    TokenizerCache cache;
    IdList cold, warm, plain;
    Str back;
    memset(&cache, 0, sizeof cache);
    memset(&cold, 0, sizeof cold);
    memset(&warm, 0, sizeof warm);
    memset(&plain, 0, sizeof plain);
    memset(&back, 0, sizeof back);
    tokenizer_encode(tok, &cache, (const char *)data, n, &cold);
    tokenizer_encode(tok, &cache, (const char *)data, n, &warm);
    tokenizer_encode(tok, NULL, (const char *)data, n, &plain);
    REQUIRE(same(cold.items, cold.count * 4, plain.items, plain.count * 4));
    REQUIRE(same(warm.items, warm.count * 4, plain.items, plain.count * 4));
    for (size_t i = 0; i < plain.count; i++)
        REQUIRE(tokenizer_kind(tok, plain.items[i]) == TOKEN_NORMAL ||
                tokenizer_kind(tok, plain.items[i]) == TOKEN_ADDED);
    tokenizer_decode(tok, plain.items, plain.count, &back);
    if (!tok->nfc) REQUIRE(same(back.data, back.size, data, n));

    // A safe cut is safe.
    size_t cut = text_safe_cut(tok->pattern, (const char *)data, n, n / 2);
    if (tok->added_count[0] + tok->added_count[1] == 0) {
        warm.count = 0;
        tokenizer_encode(tok, NULL, (const char *)data, cut, &warm);
        tokenizer_encode(tok, NULL, (const char *)data + cut, n - cut, &warm);
        REQUIRE(same(warm.items, warm.count * 4, plain.items, plain.count * 4));
    }

    // The printed text is valid and does not depend on how the bytes are cut; NFC is a fixed point.
    Utf8Stream whole, single;
    Str a, b, once, twice;
    memset(&whole, 0, sizeof whole);
    memset(&single, 0, sizeof single);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    memset(&once, 0, sizeof once);
    memset(&twice, 0, sizeof twice);
    utf8_stream_push(&whole, data, n, &a);
    for (size_t i = 0; i < n; i++) utf8_stream_push(&single, data + i, 1, &b);
    utf8_stream_finish(&whole, &a);
    utf8_stream_finish(&single, &b);
    REQUIRE(same(a.data, a.size, b.data, b.size));
    REQUIRE(a.size == 0 || text_valid((const uint8_t *)a.data, (const uint8_t *)a.data + a.size) == a.size);
    text_nfc(&once, a.data ? a.data : "", a.size);
    text_nfc(&twice, once.data ? once.data : "", once.size);
    REQUIRE(same(once.data, once.size, twice.data, twice.size));
    free(a.data);
    free(b.data);
    free(once.data);
    free(twice.data);
    tokenizer_cache_free(&cache);
    free(cold.items);
    free(warm.items);
    free(plain.items);
    free(back.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n == 0) return 0;
    if (data[0] != '{') {
        fuzz_encode(&tokenizers[data[0] % 7], data + 1, n - 1);
        return 0;
    }
    Tokenizer tok;
    Error err;
    err.text[0] = 0;
    if (tokenizer_parse(&tok, (const char *)data, n, &err)) {
        fuzz_encode(&tok, data, n < 2000 ? n : 2000);
        tokenizer_free(&tok);
    } else {
        REQUIRE(err.text[0] != 0 && !strchr(err.text, '\n'));
    }
    return 0;
}
