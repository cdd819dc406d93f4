/*
text.h: characters: UTF-8, normalisation form C, and the patterns that cut text into pre-tokens.

    text_valid(p, end)                  bytes of the longest valid UTF-8 prefix
    text_invalid(p, end)                bytes up to the next valid character
    text_nfc(&out, p, n)                NFC (UAX #15) of valid UTF-8, linear in n
    text_split(pattern, p, end)         end of the pre-token that begins at p; valid UTF-8 only
    text_safe_cut(pattern, p, n, at)    a place behind `at` where a text may be cut in two without changing
                                        its pre-tokens
    Utf8Stream                          bytes in, whole characters out, for printing while sampling

The patterns are regular expressions that were published with the tokenizers of GPT-2, GPT-4 / Llama 3,
Qwen 2, GPT-4o and Mistral's Tekken. They are matched by hand-written code, which the tests compare with an engine for
regular expressions. \p{..} follows Unicode UNICODE_VERSION, \s is the property White_Space, and (?i:s)
also matches U+017F, as everywhere in Unicode case folding.
*/
#ifndef LLMC_TEXT_H
#define LLMC_TEXT_H

#include "../base/file.h"
#include "unicode.h"

// ---------------------------------------------------------------- UTF-8

// utf8_decode for text that is known to be valid.
static inline int text_decode_valid(const uint8_t *p, uint32_t *c) {
    uint32_t b = p[0];
    if (b < 0x80) {
        *c = b;
        return 1;
    }
    if (b < 0xe0) {
        *c = (b & 31) << 6 | (p[1] & 63u);
        return 2;
    }
    if (b < 0xf0) {
        *c = (b & 15) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
        return 3;
    }
    *c = (b & 7) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    return 4;
}

static inline size_t text_valid(const uint8_t *p, const uint8_t *end) {
    const uint8_t *start = p;
    uint32_t c;
    while (p < end) {
        uint64_t eight;
        while (end - p >= 8) {
            memcpy(&eight, p, 8);
            eight &= 0x8080808080808080u;
            if (eight) {
                p += __builtin_ctzll(eight) / 8;
                break;
            }
            p += 8;
        }
        if (p == end) break;
        int n = utf8_decode(p, end, &c);
        if (n == 0) break;
        p += n;
    }
    return (size_t)(p - start);
}

static inline size_t text_invalid(const uint8_t *p, const uint8_t *end) {
    const uint8_t *start = p;
    uint32_t c;
    while (p < end && utf8_decode(p, end, &c) == 0) p++;
    return (size_t)(p - start);
}

// ---------------------------------------------------------------- printing while sampling

// {0} is an empty stream.
typedef struct {
    uint8_t pending[4]; // the beginning of a character
    int count;
} Utf8Stream;

// Appends to out every character that n more bytes complete. Bytes that belong to no character become
// U+FFFD, one for each maximal prefix of a character (Unicode 3.9, as in WHATWG decoders).
static inline void utf8_stream_push(Utf8Stream *s, const void *bytes, size_t n, Str *out) {
    const uint8_t *in = (const uint8_t *)bytes;
    for (size_t i = 0; i < n; i++) {
        for (;;) {
            s->pending[s->count] = in[i];
            const uint8_t *p = s->pending;
            int held = s->count + 1;
            uint32_t c, lead = p[0];
            int length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
            bool possible = length > 0;
            if (held >= 2) { // the second byte decides about overlong forms, surrogates and the upper limit
                uint32_t low = lead == 0xe0   ? 0xa0
                               : lead == 0xf0 ? 0x90
                                              : 0x80,
                         high = lead == 0xed   ? 0x9f
                                : lead == 0xf4 ? 0x8f
                                               : 0xbf;
                possible = held == 2 ? p[1] >= low && p[1] <= high : (p[held - 1] & 0xc0) == 0x80;
            }
            if (possible) {
                s->count = held;
                if (held == length && utf8_decode(p, p + held, &c)) {
                    str_add(out, p, (size_t)held);
                    s->count = 0;
                }
                break;
            }
            str_puts(out, "\xef\xbf\xbd");
            bool again = s->count > 0; // this byte may begin a character
            s->count = 0;
            if (!again) break;
        }
    }
}

// The end of the text: what is still pending becomes U+FFFD.
static inline void utf8_stream_finish(Utf8Stream *s, Str *out) {
    if (s->count) str_puts(out, "\xef\xbf\xbd");
    s->count = 0;
}

// ---------------------------------------------------------------- NFC

static inline int text_combining_class(uint32_t c) {
    int low = 0, high = (int)(sizeof unicode_combining / sizeof unicode_combining[0]) - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        if (c < unicode_combining[middle][0]) high = middle - 1;
        else if (c > unicode_combining[middle][1]) low = middle + 1;
        else return (int)unicode_combining[middle][2];
    }
    return 0;
}

enum { HANGUL_S = 0xac00, HANGUL_L = 0x1100, HANGUL_V = 0x1161, HANGUL_T = 0x11a7 };
enum { HANGUL_L_COUNT = 19, HANGUL_V_COUNT = 21, HANGUL_T_COUNT = 28, HANGUL_S_COUNT = 11172 };

// The character that first and second compose to, or 0.
static inline uint32_t text_compose(uint32_t first, uint32_t second) {
    if (first - HANGUL_L < HANGUL_L_COUNT && second - HANGUL_V < HANGUL_V_COUNT)
        return HANGUL_S + ((first - HANGUL_L) * HANGUL_V_COUNT + (second - HANGUL_V)) * HANGUL_T_COUNT;
    if (first - HANGUL_S < HANGUL_S_COUNT && (first - HANGUL_S) % HANGUL_T_COUNT == 0 &&
        second - (HANGUL_T + 1) < HANGUL_T_COUNT - 1)
        return first + (second - HANGUL_T);
    int low = 0, high = (int)(sizeof unicode_compositions / sizeof unicode_compositions[0]) - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        const uint32_t *d = unicode_decompositions[unicode_compositions[middle]];
        if (first < d[1] || (first == d[1] && second < d[2])) high = middle - 1;
        else if (first > d[1] || second > d[2]) low = middle + 1;
        else return d[0];
    }
    return 0;
}

typedef struct {
    uint32_t *items; // code points with their combining class in the upper 8 bits
    size_t count, capacity;
} CharList;

// Appends the full canonical decomposition of c.
static inline void text_decompose(CharList *list, uint32_t c) {
    if (c - HANGUL_S < HANGUL_S_COUNT) {
        uint32_t s = c - HANGUL_S, t = s % HANGUL_T_COUNT;
        list->items = (uint32_t *)mem_grow(list->items, &list->capacity, list->count + 3, sizeof(uint32_t));
        list->items[list->count++] = HANGUL_L + s / (HANGUL_V_COUNT * HANGUL_T_COUNT);
        list->items[list->count++] = HANGUL_V + s / HANGUL_T_COUNT % HANGUL_V_COUNT;
        if (t) list->items[list->count++] = HANGUL_T + t;
        return;
    }
    int low = 0, high = (int)(sizeof unicode_decompositions / sizeof unicode_decompositions[0]) - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        const uint32_t *d = unicode_decompositions[middle];
        if (c == d[0]) {
            text_decompose(list, d[1]);
            if (d[2]) text_decompose(list, d[2]);
            return;
        }
        if (c < d[0]) high = middle - 1;
        else low = middle + 1;
    }
    list->items = (uint32_t *)mem_grow(list->items, &list->capacity, list->count + 1, sizeof(uint32_t));
    list->items[list->count++] = c | (uint32_t)text_combining_class(c) << 24;
}

// Sorts runs of combining characters by class, stably; a counting sort where a run is long, since a
// text of nothing but accents must not take quadratic time.
static inline void text_reorder(CharList *list) {
    for (size_t i = 0; i < list->count;) {
        if (list->items[i] >> 24 == 0) {
            i++;
            continue;
        }
        size_t end = i;
        while (end < list->count && list->items[end] >> 24) end++;
        uint32_t *run = list->items + i;
        size_t n = end - i;
        if (n <= 32) {
            for (size_t j = 1; j < n; j++) {
                uint32_t x = run[j];
                size_t k = j;
                for (; k > 0 && run[k - 1] >> 24 > x >> 24; k--) run[k] = run[k - 1];
                run[k] = x;
            }
        } else {
            size_t start[257] = {0};
            for (size_t j = 0; j < n; j++) start[(run[j] >> 24) + 1]++;
            for (int c = 0; c < 256; c++) start[c + 1] += start[c];
            uint32_t *sorted = (uint32_t *)mem_alloc(n * sizeof(uint32_t));
            for (size_t j = 0; j < n; j++) sorted[start[run[j] >> 24]++] = run[j];
            memcpy(run, sorted, n * sizeof(uint32_t));
            free(sorted);
        }
        i = end;
    }
}

// Composes in place what text_decompose and text_reorder left, and appends it to out as UTF-8.
static inline void text_recompose(CharList *list, Str *out) {
    size_t n = 0, starter = 0;
    bool have_starter = false;
    int last_class = 0; // of the character before, since the starter; 0: it is the starter itself
    for (size_t i = 0; i < list->count; i++) {
        uint32_t c = list->items[i] & 0xffffff;
        int combining = (int)(list->items[i] >> 24);
        if (have_starter && (last_class < combining || (last_class == 0 && starter + 1 == n))) {
            uint32_t whole = text_compose(list->items[starter], c);
            if (whole) {
                list->items[starter] = whole;
                continue;
            }
        }
        if (combining == 0) {
            starter = n;
            have_starter = true;
        }
        last_class = combining;
        list->items[n++] = c;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[4];
        str_add(out, bytes, (size_t)utf8_put(bytes, list->items[i]));
    }
    list->count = 0;
}

// Appends the NFC of n bytes of valid UTF-8. Text that is in NFC already, as nearly all is, is copied.
static inline void text_nfc(Str *out, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n, *copied = p, *before = p;
    CharList list;
    memset(&list, 0, sizeof list);
    while (p < end) {
        uint32_t c;
        int length = text_decode_valid(p, &c);
        if (c < 0x300 || !(unicode_class(c) & UNICODE_NFC_CHECK)) {
            before = p;
            p += length;
            continue;
        }
        // From the last character that does not depend on what is before it to the next such one.
        str_add(out, copied, (size_t)(before - copied));
        while (before < p) {
            before += text_decode_valid(before, &c);
            text_decompose(&list, c);
        }
        while (p < end) {
            length = text_decode_valid(p, &c);
            if (c < 0x300 || !(unicode_class(c) & UNICODE_NFC_CHECK)) break;
            text_decompose(&list, c);
            p += length;
        }
        text_reorder(&list);
        text_recompose(&list, out);
        copied = before = p;
    }
    str_add(out, copied, (size_t)(end - copied));
    free(list.items);
}

// ---------------------------------------------------------------- patterns

typedef enum { TEXT_GPT2, TEXT_LLAMA3, TEXT_QWEN2, TEXT_O200K, TEXT_TEKKEN, TEXT_PATTERNS } TextPattern;

typedef struct {
    const char *name, *regex;
} TextPatternInfo;

#define TEXT_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TEXT_CASED_LOWER "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define TEXT_CASED_UPPER "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define TEXT_SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static inline TextPatternInfo text_pattern(TextPattern pattern) {
    static const TextPatternInfo table[TEXT_PATTERNS] =
        {{"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
         {"llama3",
          TEXT_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TEXT_SPACES},
         {"qwen2",
          TEXT_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TEXT_SPACES},
         {"o200k", TEXT_CASED_LOWER TEXT_CONTRACTIONS "?|" TEXT_CASED_UPPER TEXT_CONTRACTIONS
                                                      "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TEXT_SPACES},
         {"tekken", TEXT_CASED_LOWER "|" TEXT_CASED_UPPER "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TEXT_SPACES}};
    return table[pattern];
}

// The pattern with that regular expression, written exactly so, or -1.
static inline int text_pattern_of_regex(const char *regex) {
    for (int i = 0; i < TEXT_PATTERNS; i++)
        if (strcmp(regex, text_pattern((TextPattern)i).regex) == 0) return i;
    return -1;
}

// Sets of classes as bits.
enum {
    TEXT_LETTER = 1 << UNICODE_LU | 1 << UNICODE_LT | 1 << UNICODE_LM | 1 << UNICODE_LO | 1 << UNICODE_LL,
    TEXT_UPPER =
        1 << UNICODE_LU | 1 << UNICODE_LT | 1 << UNICODE_LM | 1 << UNICODE_LO | 1 << UNICODE_M, // o200k's first set
    TEXT_LOWER = 1 << UNICODE_LL | 1 << UNICODE_LM | 1 << UNICODE_LO | 1 << UNICODE_M,          // o200k's second set
    TEXT_NUMBER = 1 << UNICODE_N,
    TEXT_SPACE = 1 << UNICODE_SPACE,
    TEXT_SYMBOL = 1 << UNICODE_OTHER | 1 << UNICODE_M // [^\s\p{L}\p{N}]
};

// Class of the character at p as a bit, its length in *n.
static inline unsigned text_class(const uint8_t *p, int *n) {
    if (*p < 0x80) {
        *n = 1;
        return 1u << unicode_classes[*p]; // the first page is ASCII
    }
    uint32_t c;
    *n = text_decode_valid(p, &c);
    return 1u << (unicode_class(c) & UNICODE_CLASS_MASK);
}

// Past all characters of a set.
static inline const uint8_t *text_skip(const uint8_t *p, const uint8_t *end, unsigned set) {
    int n;
    while (p < end && (text_class(p, &n) & set)) p += n;
    return p;
}

// Past all letters. ASCII letters are taken eight at a time: words end too irregularly for a loop whose
// end the processor could predict.
static inline const uint8_t *text_skip_letters(const uint8_t *p, const uint8_t *end) {
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    int n;
    for (;;) {
        while (end - p >= 8) {
            uint64_t x;
            memcpy(&x, p, 8);
            uint64_t lower = (x | 0x20 * ones) & ~high; // high bits: from 'a' up, but not above 'z', and ASCII
            uint64_t other = ~((lower + (0x80 - 'a') * ones) & ~(lower + (0x7f - 'z') * ones) & ~x) & high;
            if (other) {
                p += __builtin_ctzll(other) / 8;
                break;
            }
            p += 8;
        }
        if (p == end || !(text_class(p, &n) & TEXT_LETTER)) return p;
        p += n;
    }
}

// Past an English contraction at p, or p.
static inline const uint8_t *text_contraction(const uint8_t *p, const uint8_t *end, bool any_case) {
    if (end - p < 2 || *p != '\'') return p;
    unsigned a = p[1], b = end - p > 2 ? p[2] : 0;
    if (any_case) {
        if (a == 0xc5 && b == 0xbf) return p + 3; // U+017F, long s
        if (a - 'A' < 26) a += 32;
        if (b - 'A' < 26) b += 32;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
    return p;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at a space; without the first part for GPT-2.
static inline const uint8_t *text_split_spaces(const uint8_t *p, const uint8_t *end, bool lines) {
    const uint8_t *last = p, *newline = NULL, *q = p;
    int n;
    while (q < end && (text_class(q, &n) & TEXT_SPACE)) {
        last = q;
        if (*q == '\r' || *q == '\n') newline = q;
        q += n;
    }
    if (lines && newline) return newline + 1;
    return q == end || last == p ? q : last;
}

// The word rules of o200k and tekken, which has no contractions, from p, where a prefix was or was not taken before;
// NULL: no match.
static inline const uint8_t *text_split_cased(TextPattern pattern, const uint8_t *p, const uint8_t *end,
                                              bool lower_needed) {
    // [upper]*[lower]+: the greedy first part gives back characters until the second finds one.
    const uint8_t *q = p, *give_back = NULL;
    int n;
    unsigned class_bit;
    while (q < end && ((class_bit = text_class(q, &n)) & TEXT_UPPER)) {
        q += n;
        if (class_bit & TEXT_LOWER) give_back = q;
    }
    const uint8_t *r = text_skip(q, end, TEXT_LOWER);
    if (lower_needed) {
        if (r == q) r = give_back;
    } else if (q == p) {
        r = NULL;
    }
    return r && pattern == TEXT_O200K ? text_contraction(r, end, true) : r;
}

// End of the pre-token that begins at p < end. [p, end) is valid UTF-8.
static inline const uint8_t *text_split(TextPattern pattern, const uint8_t *p, const uint8_t *end) {
    int n, m;
    unsigned first = text_class(p, &n);
    const uint8_t *q;
    if (pattern == TEXT_GPT2) {
        q = text_contraction(p, end, false);
        if (q > p) return q;
        q = p;
        if (*p == ' ' && p + 1 < end) first = text_class(++q, &n);
        if (first & TEXT_LETTER) return text_skip_letters(q + n, end);
        if (first & TEXT_NUMBER) return text_skip(q + n, end, TEXT_NUMBER);
        if (first & TEXT_SYMBOL) return text_skip(q + n, end, TEXT_SYMBOL);
        return text_split_spaces(p, end, false);
    }
    const bool cased = pattern == TEXT_O200K || pattern == TEXT_TEKKEN;
    if (cased) {
        bool prefix = !(first & (TEXT_LETTER | TEXT_NUMBER)) && *p != '\r' && *p != '\n';
        if (prefix && (q = text_split_cased(pattern, p + n, end, true)) != NULL) return q;
        if ((q = text_split_cased(pattern, p, end, true)) != NULL) return q;
        if (prefix && (q = text_split_cased(pattern, p + n, end, false)) != NULL) return q;
        if ((q = text_split_cased(pattern, p, end, false)) != NULL) return q;
    } else {
        if (first & TEXT_LETTER) return text_skip_letters(p + n, end);
        q = text_contraction(p, end, true);
        if (q > p) return q;
        if (!(first & TEXT_NUMBER) && *p != '\r' && *p != '\n' && p + n < end && (text_class(p + n, &m) & TEXT_LETTER))
            return text_skip_letters(p + n + m, end);
    }
    if (first & TEXT_NUMBER) {
        q = p + n;
        int most = pattern == TEXT_QWEN2 || pattern == TEXT_TEKKEN ? 1 : 3;
        for (int i = most; i > 1 && q < end && (text_class(q, &m) & TEXT_NUMBER); i--) q += m;
        return q;
    }
    q = *p == ' ' ? p + 1 : p;
    if (q < end && (text_class(q, &n) & TEXT_SYMBOL)) {
        q = text_skip(q + n, end, TEXT_SYMBOL);
        while (q < end && (*q == '\r' || *q == '\n' || (*q == '/' && cased))) q++;
        return q;
    }
    return text_split_spaces(p, end, true);
}

// The first place at or behind `at` where the text may be cut: both parts alone have the pre-tokens that the whole has;
// n: none. The text may be anything.
//
// No pattern looks back, so the second part needs no more than a border between pre-tokens. The first part must not
// miss what a pattern saw behind the cut. That is so
//   all but GPT-2             between a line feed and an ASCII letter or digit: whatever ends in a line feed ends with
//                             the last one ([\r\n]*, \s*[\r\n]+), and \s+(?!\S) is not tried where there is one
//   GPT-2                     between a printable ASCII character and a line feed. Not behind one: in "\n\nA" its
//                             \s+(?!\S) gives the last \n back because of the A, at the end of a text it does not
static inline size_t text_safe_cut(TextPattern pattern, const char *text, size_t n, size_t at) {
    for (size_t i = at > 0 ? at : 1; i < n; i++) {
        unsigned before = (unsigned char)text[i - 1], c = (unsigned char)text[i];
        if (pattern == TEXT_GPT2 ? c == '\n' && before - 0x21 < 0x7f - 0x21
                                 : before == '\n' && ((c | 32) - 'a' < 26 || c - '0' < 10))
            return i;
    }
    return n;
}

#endif
