/*
words.h: words as spaCy's rules for German cut them, near enough for rules that count words: FineWeb-2's figures were
fitted with them.

    words_cut(p, end, put, to)      calls put(to, start, end, kind) for each word of valid UTF-8

White space ends a word. Brackets, quotes and punctuation in front and behind are words of their own, two dots or more
are one; inside a word , ! ? : < > = / -- brackets and quotes between letters, a dot between a small and a capital
letter and a hyphen between digits. So 1.000,50, 31., Nord-Süd, z.B. and http://a.de/b?c=d are one word each. Left out:
spaCy's longer lists of abbreviations, units behind a number (5km), emoticons.
*/
#ifndef LLMC_WORDS_H
#define LLMC_WORDS_H

#include "../text/text.h"

enum {
    WORDS_ALPHA = 1, // has a letter
    WORDS_SIGN = 2,  // has signs alone
};

typedef void WordsPut(void *to, const uint8_t *start, const uint8_t *end, int kind);

typedef struct {
    WordsPut *put;
    void *to;
} Words;

static inline uint32_t words_char(const uint8_t *p, int *n) {
    uint32_t c;
    *n = text_decode_valid(p, &c);
    return c;
}

// The character that ends at p.
static inline uint32_t words_last(const uint8_t *p, int *n) {
    int back = 1;
    while (back < 4 && (p[-back] & 0xc0) == 0x80) back++;
    return words_char(p - back, n);
}

static inline bool words_of(uint32_t c, unsigned set) {
    return (1u << (unicode_class(c) & UNICODE_CLASS_MASK) & set) != 0;
}
static inline bool words_digit(uint32_t c) { return c >= '0' && c <= '9'; }

// Signs that datatrove does not count as words.
static inline bool words_punctuation(uint32_t c) {
    if (c < 0x80) return c > ' ' && !words_digit(c) && !((c | 32) >= 'a' && (c | 32) <= 'z');
    static const uint16_t others[] = {0xab,   0xbb,   0xb4,   0x2013, 0x2014, 0x2019, 0x201c,
                                      0x201d, 0x201e, 0x2026, 0x2236, 0x25ba, 0};
    for (int i = 0; others[i]; i++)
        if (others[i] == c) return true;
    return c < 0xa0;
}

static inline bool words_quote(uint32_t c) {
    return c == '\'' || c == '"' || c == '`' || c == 0xb4 || c == 0xab || c == 0xbb || (c >= 0x2018 && c <= 0x201e);
}
static inline bool words_icon(uint32_t c) {
    return c == 0xa6 || c == 0xa9 || c == 0xae || c == 0xb0 || (c >= 0x2190 && c <= 0x2bff);
}
static inline bool words_currency(uint32_t c) {
    return c == '$' || c == 0xa3 || c == 0xa5 || (c >= 0x20a0 && c <= 0x20bf);
}

// What is cut off at both ends.
static inline bool words_affix(uint32_t c) {
    return (c < 0x80 && c && strchr(",:;!?()[]{}<>_#*&", (int)c)) || c == 0xbf || c == 0xa1 || c == 0xb7 ||
           c == 0x2026 || words_quote(c) || words_icon(c);
}

static inline void words_put(const Words *w, const uint8_t *start, const uint8_t *end) {
    int kind = WORDS_SIGN, n;
    for (const uint8_t *p = start; p < end; p += n) {
        uint32_t c = words_char(p, &n);
        if (!words_punctuation(c)) kind &= ~WORDS_SIGN;
        if (words_of(c, TEXT_LETTER)) kind |= WORDS_ALPHA;
    }
    if (start < end) w->put(w->to, start, end, kind);
}

// "z.B.", "a.", "Nr.": the dot belongs to them.
static inline bool words_abbreviation(const uint8_t *p, const uint8_t *end) {
    static const char *const rows[] = {"abs",  "abb", "anm",  "art",  "bd",  "bsp",  "bspw", "bzgl", "bzw",
                                       "ca",   "dez", "dr",   "ebd",  "etc", "evtl", "feb",  "geb",  "ggf",
                                       "hrsg", "ing", "inkl", "insb", "jan", "jh",   "max",  "min",  "mind",
                                       "mio",  "mrd", "nov",  "nr",   "okt", "prof", "sept", "sog",  "st",
                                       "std",  "str", "tel",  "usf",  "usw", "vgl",  "vol",  "vs",   "zzgl"};
    int n, letters = 0, dots = 0;
    if (end - p < 2 || end - p > 9 || end[-1] != '.') return false;
    for (const uint8_t *q = p; q < end; q += n) {
        uint32_t c = words_char(q, &n);
        if (c == '.') {
            if (letters == 0) return false;
            dots++, letters = 0;
        } else if (!words_of(c, TEXT_LETTER)) return false;
        else letters++;
        if (letters > 1 && dots) return false; // fstab.conf.
        if (letters > 1) break;
    }
    if (letters == 0) return true;
    char small[9];
    for (n = 0; n < end - p - 1; n++) small[n] = (char)(p[n] >= 'A' && p[n] <= 'Z' ? p[n] + 32 : p[n]);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strlen(rows[i]) == (size_t)n && memcmp(rows[i], small, (size_t)n) == 0) return true;
    return false;
}

// Bytes that are cut off in front, 0: none.
static inline int words_prefix(const uint8_t *p, const uint8_t *end) {
    int n, m = 0;
    uint32_t c = words_char(p, &n);
    while (p + m < end && p[m] == '.') m++;
    if (m) return m >= 2 ? m : 0;
    if (c == '+') return end - p < 2 || !words_digit(p[1]);
    bool cut = words_affix(c) || words_currency(c) || c == 0xa7 || c == '%' || c == '=' || c == 0x2013 || c == 0x2014;
    return cut ? n : 0;
}

// Bytes that are cut off behind.
static inline int words_suffix(const uint8_t *p, const uint8_t *end) {
    int n, m = 0, before;
    uint32_t c = words_last(end, &n);
    if (words_affix(c) || c == '/') return n;
    while (end - m > p && end[-m - 1] == '.') m++;
    if (m >= 2) return m;
    if (end - n <= p) return 0;
    uint32_t last = words_last(end - n, &before);
    if (c == '+' || c == '%' || words_currency(c)) return words_digit(last) ? n : 0;
    if (c != '.') return 0;
    if (words_of(last, 1u << UNICODE_LL) || (words_affix(last) && !words_icon(last)) || last == 0xb2 ||
        (last < 0x80 && last && strchr("%-+", (int)last)))
        return 1;
    int first;
    return end - n - before > p && words_of(last, 1u << UNICODE_LU) &&
           words_of(words_last(end - n - before, &first), 1u << UNICODE_LU);
}

// Bytes of the sign at p that divides a word. before: the character in front.
static inline int words_infix(const uint8_t *p, const uint8_t *end, uint32_t before) {
    int n, next_n, m = 0;
    uint32_t c = words_char(p, &n);
    while (p + m < end && p[m] == '.') m++;
    if (m >= 2) return m;
    if (c == 0x2026 || words_icon(c)) return n;
    if (p + n == end) return 0;
    uint32_t next = words_char(p + n, &next_n);
    bool letters = words_of(before, TEXT_LETTER) && words_of(next, TEXT_LETTER);
    if (c == '.') return words_of(before, 1u << UNICODE_LL) && words_of(next, 1u << UNICODE_LU);
    if (c == '-' && words_digit(before) && words_digit(next)) return 1;
    if (c == '-' && next == '-' && end - p > 2)
        return words_of(before, TEXT_LETTER) && words_of(words_char(p + 2, &next_n), TEXT_LETTER) ? 2 : 0;
    if (c < 0x80 && c && strchr(":<>=/", (int)c))
        return (letters || words_digit(before)) && words_of(next, TEXT_LETTER);
    return letters && ((c < 0x80 && c && strchr(",!?()[]", (int)c)) || words_quote(c)) ? n : 0;
}

// Past letters of ASCII and Latin-1: most of what there is.
static inline const uint8_t *words_plain(const uint8_t *p, const uint8_t *end) {
    while (p < end) {
        if ((uint8_t)((*p | 32) - 'a') < 26) p++;
        else if (*p == 0xc3 && p[1] != 0x97 && p[1] != 0xb7) p += 2;
        else break;
    }
    return p;
}

// What stands between white space.
static inline void words_chunk(const Words *w, const uint8_t *p, const uint8_t *end) {
    const uint8_t *stop = end, *plain = words_plain(p, end);
    uint32_t before = 0;
    int n;
    if (plain == end || (plain > p && plain + 1 == end && *plain == ',')) {
        w->put(w->to, p, plain, WORDS_ALPHA);
        if (plain < end) w->put(w->to, plain, end, WORDS_SIGN);
        return;
    }
    while (p < end && !words_abbreviation(p, end) && (n = words_prefix(p, end)) > 0) words_put(w, p, p + n), p += n;
    while (stop > p && !words_abbreviation(p, stop) && (n = words_suffix(p, stop)) > 0) stop -= n;
    bool whole = words_abbreviation(p, stop) || memmem(p, (size_t)(stop - p), "://", 3);
    const uint8_t *start = p;
    for (const uint8_t *q = p; q < stop && !whole;) {
        int sign = q > p ? words_infix(q, stop, before) : 0;
        if (sign) {
            words_put(w, start, q);
            words_put(w, q, q + sign);
            q += sign, start = q, before = 0;
            continue;
        }
        before = words_char(q, &n);
        q += n;
    }
    words_put(w, start, stop);
    while (stop < end) { // the signs behind, one by one, dots together
        for (n = 0; stop + n < end && stop[n] == '.'; n++) {}
        if (n < 2) words_char(stop, &n);
        words_put(w, stop, stop + n);
        stop += n;
    }
}

static inline void words_cut(const uint8_t *p, const uint8_t *end, WordsPut *put, void *to) {
    Words w = {put, to};
    for (int n; p < end;) {
        if (text_class(p, &n) & TEXT_SPACE) {
            p += n;
            continue;
        }
        const uint8_t *start = p;
        p = words_plain(p, end);
        while (p < end && !(text_class(p, &n) & TEXT_SPACE)) p += n;
        words_chunk(&w, start, p);
    }
}

#endif
