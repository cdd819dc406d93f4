/*
clean.h: one document, mended: what encodings, typesetting and web pages left in its text.

    clean_text(&out, text, n, steps, &counts)    false: it does not settle; nobody has seen such a text
    CLEAN_STEPS                                  the steps, each of which can be left out

    repair       bytes that are no UTF-8 are read as Windows-1252; UTF-8 that was read as Windows-1252 and written as
                 UTF-8 again ("Ã¼", "â€ž") is turned back, also where that happened several times
    nfc          normalisation form C: "a" and a combining diaeresis become "ä"
    control      line ends become \n, control and invisible characters go, no-break spaces become spaces; no white space
                 at the ends of lines, one empty line at most, none in front and at the end. A soft hyphen goes, and at
                 the end of a line the break with it
    hyphens      a word divided at the end of a line ("Silben-\ntrennung") is joined where the joined word stands
                 elsewhere in the document; compounds with a hyphen stay
    boilerplate  lines that belong to the page and not to its text: CLEAN_LINES, rows of | and -, cookie notices
    personal     personal data becomes placeholders (personal.h)

Cleaning twice changes nothing: all steps are repeated until none changes the text, and most texts need one look. What
comes out depends on the text alone.
*/
#ifndef LLMC_CLEAN_H
#define LLMC_CLEAN_H

#include "../base/hash.h"
#include "personal.h"

#define CLEAN_STEPS(X)                                                                                                 \
    X(CLEAN_REPAIR, "repair")                                                                                          \
    X(CLEAN_NFC, "nfc")                                                                                                \
    X(CLEAN_CONTROL, "control")                                                                                        \
    X(CLEAN_HYPHENS, "hyphens") X(CLEAN_BOILERPLATE, "boilerplate") X(CLEAN_PERSONAL, "personal")
enum { CLEAN_STEPS(CHOICE_ENUM) CLEAN_STEP_COUNT };
#define CLEAN_ROUNDS 16 // a text that still changes then is given up
#define CLEAN_KINDS 20  // the bits of `steps` from here on: kinds of personal data

typedef struct {
    bool changed[CLEAN_STEP_COUNT]; // by which steps
    int64_t masked[PERSONAL_KIND_COUNT];
} CleanCounts;

// ---------------------------------------------------------------- encodings

// Windows-1252, bytes 0x80 to 0x9f; 0: not assigned.
static inline uint32_t clean_1252(uint8_t byte) {
    static const uint16_t high[32] = {0x20ac, 0,      0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                      0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0,      0x17d,  0,
                                      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                      0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0,      0x17e,  0x178};
    return byte < 0x80 || byte > 0x9f ? byte : high[byte - 0x80];
}

// The byte that a character stands for where UTF-8 was read as Windows-1252, or as Latin-1; -1: none.
static inline int clean_byte(uint32_t c) {
    if (c >= 0x80 && c <= 0xff) return (int)c;
    for (int byte = 0x80; c > 0xff && byte <= 0x9f; byte++)
        if (clean_1252((uint8_t)byte) == c) return byte;
    return -1;
}

// The character that was encoded twice and begins at p: its bytes are characters of their own there. 0: none. Of
// two-byte sequences those of Latin-1's letters and signs (Ã, Â), of three-byte ones the punctuation (â€) and the euro.
static inline int clean_double(const uint8_t *p, const uint8_t *end, uint32_t *c) {
    uint32_t lead, next, last;
    int a = utf8_decode(p, end, &lead), b, d;
    if (a == 0 || (lead != 0xc2 && lead != 0xc3 && lead != 0xe2) || p + a == end) return 0;
    if ((b = utf8_decode(p + a, end, &next)) == 0) return 0;
    int byte = clean_byte(next);
    if (byte < 0x80 || byte > 0xbf) return 0;
    if (lead == 0xc3 || (lead == 0xc2 && byte >= 0xa0)) {
        *c = (lead & 3) << 6 | (uint32_t)(byte & 0x3f);
        return a + b;
    }
    if (lead != 0xe2 || (byte != 0x80 && byte != 0x82) || p + a + b == end) return 0;
    if ((d = utf8_decode(p + a + b, end, &last)) == 0) return 0;
    int third = clean_byte(last);
    if (third < 0x80 || third > 0xbf || (byte == 0x82 && third != 0xac)) return 0;
    *c = 0x2000 | (uint32_t)(byte & 0x3f) << 6 | (uint32_t)(third & 0x3f);
    return a + b + d;
}

static inline void clean_put(Str *out, uint32_t c) {
    uint8_t bytes[4];
    str_add(out, bytes, (size_t)utf8_put(bytes, c));
}

static inline bool clean_repair(Str *out, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n, *plain = p;
    uint32_t c;
    bool changed = false;
    while (p < end) {
        if (*p < 0x80) {
            p++;
            continue;
        }
        int length = utf8_decode(p, end, &c), doubled = length ? clean_double(p, end, &c) : 0;
        if (length && !doubled) {
            p += length;
            continue;
        }
        str_add(out, plain, (size_t)(p - plain));
        if (!doubled) c = clean_1252(*p);
        clean_put(out, c ? c : 0xfffd);
        p += doubled ? doubled : 1;
        plain = p;
        changed = true;
    }
    str_add(out, plain, (size_t)(p - plain));
    return changed;
}

// ---------------------------------------------------------------- characters and white space

typedef enum { CLEAN_KEEP, CLEAN_DROP, CLEAN_SPACE, CLEAN_LINE, CLEAN_SOFT } CleanKind;

static inline CleanKind clean_kind(uint32_t c) {
    if (c < 0x20) return c == '\t' ? CLEAN_KEEP : c >= '\n' && c <= '\r' ? CLEAN_LINE : CLEAN_DROP;
    if (c < 0x7f) return CLEAN_KEEP;
    if (c < 0xa0) return c == 0x85 ? CLEAN_LINE : CLEAN_DROP;
    if (c == 0xad) return CLEAN_SOFT;
    if (c == 0xa0 || c == 0x2007 || c == 0x202f) return CLEAN_SPACE;
    if (c < 0x200b) return CLEAN_KEEP;
    if (c == 0x2028 || c == 0x2029) return CLEAN_LINE;
    // Zero-width space, marks and overrides of direction, word joiner and its like, byte order marks, annotations.
    if (c == 0x200b || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f))
        return CLEAN_DROP;
    if (c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe)
        return CLEAN_DROP;
    return CLEAN_KEEP;
}

// Ends a line: blanks before go, and the third line feed in a row.
static inline void clean_end_line(Str *out) {
    while (out->size && (out->data[out->size - 1] == ' ' || out->data[out->size - 1] == '\t')) out->size--;
    size_t n = out->size;
    if (n == 0 || (n >= 2 && out->data[n - 1] == '\n' && out->data[n - 2] == '\n')) return;
    str_add(out, "\n", 1);
}

// Behind a soft hyphen: blanks and the end of a line, which go with it. 0: something else follows.
static inline size_t clean_soft_break(const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = p;
    while (q < end && *q == ' ') q++;
    if (end - q >= 2 && q[0] == '\r' && q[1] == '\n') q++;
    return q < end && (*q == '\n' || *q == '\r') ? (size_t)(q + 1 - p) : 0;
}

static inline bool clean_control(Str *out, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    size_t before = out->size;
    while (p < end) {
        const uint8_t *plain = p;
        while (p < end && *p >= 0x20 && *p < 0x7f) p++;
        str_add(out, plain, (size_t)(p - plain));
        if (p == end) break;
        uint32_t c = *p;
        int length = utf8_decode(p, end, &c);
        CleanKind kind = length ? clean_kind(c) : CLEAN_KEEP; // bytes that nobody repaired
        length = length ? length : 1;
        if (kind == CLEAN_KEEP) str_add(out, p, (size_t)length);
        else if (kind == CLEAN_SPACE) str_add(out, " ", 1);
        else if (kind == CLEAN_LINE) {
            length += c == '\r' && end - p > 1 && p[1] == '\n';
            clean_end_line(out);
        } else if (kind == CLEAN_SOFT) length += (int)clean_soft_break(p + length, end);
        p += length;
    }
    while (out->size > before && strchr(" \t\n", out->data[out->size - 1])) out->size--;
    return out->size - before != n || (n && memcmp(out->data + before, text, n) != 0);
}

// ---------------------------------------------------------------- words divided at the end of a line

// Hashes of the words of a text, but for those at a division.
typedef struct {
    uint64_t *slots; // 0: free
    size_t mask, count;
} CleanWords;

static inline void clean_words_add(CleanWords *w, uint64_t hash) {
    if (2 * (w->count + 1) > w->mask) {
        size_t slots = w->mask ? 2 * (w->mask + 1) : 1024;
        uint64_t *grown = (uint64_t *)mem_alloc(slots * sizeof *grown);
        for (size_t i = 0; w->slots && i <= w->mask; i++)
            if (w->slots[i]) {
                size_t at = (size_t)w->slots[i] & (slots - 1);
                while (grown[at]) at = (at + 1) & (slots - 1);
                grown[at] = w->slots[i];
            }
        free(w->slots);
        w->slots = grown;
        w->mask = slots - 1;
    }
    size_t at = (size_t)hash & w->mask;
    for (; w->slots[at]; at = (at + 1) & w->mask)
        if (w->slots[at] == hash) return;
    w->slots[at] = hash;
    w->count++;
}

static inline bool clean_words_have(const CleanWords *w, uint64_t hash) {
    for (size_t at = (size_t)hash & w->mask; w->slots && w->slots[at]; at = (at + 1) & w->mask)
        if (w->slots[at] == hash) return true;
    return false;
}

static inline uint64_t clean_word_hash(const void *a, size_t n, const void *b, size_t m) {
    Xxh64 s;
    xxh64_init(&s, 0);
    xxh64_update(&s, a, n);
    xxh64_update(&s, b, m);
    uint64_t hash = xxh64_value(&s);
    return hash ? hash : 1;
}

// A word that ends in a hyphen at the end of a line, and its rest, in small letters, at the start of the next.
typedef struct {
    const uint8_t *word, *hyphen, *rest, *end;
} CleanDivision;

static inline bool clean_division(CleanDivision *d, const uint8_t *word, const uint8_t *word_end, const uint8_t *end) {
    int n;
    if (end - word_end < 3 || word_end[0] != '-' || word_end[1] != '\n') return false;
    d->word = word, d->hyphen = word_end, d->rest = word_end + 2;
    if (text_class(d->rest, &n) != 1u << UNICODE_LL) return false;
    d->end = text_skip_letters(d->rest, end);
    return true;
}

// Words of letters; text: valid UTF-8.
static inline void clean_words_of(CleanWords *w, const uint8_t *p, const uint8_t *end) {
    CleanDivision d;
    for (int n; p < end;) {
        if (!(text_class(p, &n) & TEXT_LETTER)) {
            p += n;
            continue;
        }
        const uint8_t *word_end = text_skip_letters(p, end);
        if (clean_division(&d, p, word_end, end)) {
            // The rest may be divided again: it is looked at next, but is no word by itself.
            p = d.rest;
            while (clean_division(&d, p, text_skip_letters(p, end), end)) p = d.rest;
            p = text_skip_letters(p, end);
            continue;
        }
        clean_words_add(w, clean_word_hash(p, (size_t)(word_end - p), "", 0));
        p = word_end;
    }
}

// Joins what is known. The break goes behind the joined word, where a blank was, or stays if none follows.
static inline bool clean_hyphens(Str *out, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n, *plain = p;
    bool changed = false;
    CleanWords words;
    CleanDivision d;
    memset(&words, 0, sizeof words);
    const char *first = (const char *)memmem(text, n, "-\n", 2);
    if (first) clean_words_of(&words, p, end);
    for (int length; first && p < end;) {
        if (!(text_class(p, &length) & TEXT_LETTER)) {
            p += length;
            continue;
        }
        const uint8_t *word_end = text_skip_letters(p, end);
        uint64_t joined = 0;
        if (clean_division(&d, p, word_end, end))
            joined = clean_word_hash(p, (size_t)(word_end - p), d.rest, (size_t)(d.end - d.rest));
        if (!joined || !clean_words_have(&words, joined)) {
            p = word_end;
            continue;
        }
        str_add(out, plain, (size_t)(d.hyphen - plain));
        const uint8_t *stop = d.end; // up to the blank or the end of the line behind it, so that no comma begins a line
        while (stop < end && *stop != ' ' && *stop != '\n') stop++;
        str_add(out, d.rest, (size_t)(stop - d.rest));
        if (stop < end && *stop == ' ') str_add(out, "\n", 1), stop++;
        p = plain = stop;
        changed = true;
    }
    str_add(out, plain, (size_t)(end - plain));
    free(words.slots);
    return changed;
}

// ---------------------------------------------------------------- lines of a page

// Whole lines, without case, and without signs and digits at both ends.
// clang-format off
#define CLEAN_LINES(X) \
    X("zum inhalt springen") X("zum hauptinhalt springen") X("zur navigation springen") X("zum seitenanfang") \
    X("nach oben") X("zurück nach oben") X("seite drucken") X("druckversion") X("seite empfehlen") X("weiterlesen") \
    X("weiter lesen") X("mehr lesen") X("mehr erfahren") X("mehr anzeigen") X("alle rechte vorbehalten") \
    X("impressum") X("datenschutz") X("datenschutzerklärung") X("cookie-einstellungen") X("impressum | datenschutz") \
    X("datenschutz | impressum") X("anmelden") X("registrieren") X("einloggen") X("anmelden | registrieren") \
    X("passwort vergessen") X("newsletter abonnieren") X("auf facebook teilen") X("auf twitter teilen") \
    X("per e-mail teilen") X("in den warenkorb") X("kommentar schreiben") X("kommentar hinterlassen") \
    X("bitte aktivieren sie javascript") X("javascript ist deaktiviert")
// clang-format on

// Lower case of Latin letters with one or two bytes, enough for the table above: Ä to ä.
static inline size_t clean_fold(char *out, const char *line, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)line[i], before = i ? (unsigned char)line[i - 1] : 0;
        bool upper = (c >= 'A' && c <= 'Z') || (before == 0xc3 && c >= 0x80 && c <= 0x9e && c != 0x97);
        out[i] = (char)(upper ? c + 32 : c);
    }
    return n;
}

// Bytes of the sign at p: of ASCII, but for small letters, or of Latin-1 («, ·); 0: a letter or something else.
static inline size_t clean_sign(const char *p, const char *end) {
    if ((unsigned char)*p < 0x80) return *p < 'a' || *p > 'z';
    return *p == '\xc2' && end - p >= 2 ? 2 : 0;
}

static inline bool clean_is_boilerplate(const char *line, size_t n) {
    static const char *const rows[] = {
#define X(text) text,
        CLEAN_LINES(X)
#undef X
    };
    char folded[400];
    size_t bars = 0, marks = 0;
    for (size_t i = 0; i < n; i++) {
        bars += line[i] == '|';
        marks += line[i] == '|' || line[i] == '-' || line[i] == ' ' || line[i] == '\t' || line[i] == ':';
    }
    if (bars && marks == n) return true;
    if (n == 0 || n > sizeof folded) return false;
    clean_fold(folded, line, n);
    const char *from = folded, *to = folded + n;
    for (size_t k; from < to && (k = clean_sign(from, to)) > 0;) from += k;
    for (size_t k; to > from && (k = clean_sign(to - (to - from >= 2 && to[-2] == '\xc2' ? 2 : 1), to)) > 0;) to -= k;
    size_t size = (size_t)(to - from);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strlen(rows[i]) == size && memcmp(rows[i], from, size) == 0) return true;
    // "Diese Website verwendet Cookies. Mit der Nutzung stimmen Sie ... zu"
    if (!memmem(from, size, "cookies", 7)) return false;
    bool site = memmem(from, size, "website", 7) || memmem(from, size, "webseite", 8) || memmem(from, size, "seite", 5);
    bool use =
        memmem(from, size, "verwendet", 9) || memmem(from, size, "nutzt", 5) || memmem(from, size, "akzeptier", 9);
    return site && use;
}

static inline bool clean_boilerplate(Str *out, const char *text, size_t n) {
    const char *end = text + n;
    bool changed = false;
    for (const char *line = text; line < end;) {
        const char *newline = (const char *)memchr(line, '\n', (size_t)(end - line)), *to = newline ? newline : end;
        if (clean_is_boilerplate(line, (size_t)(to - line))) changed = true;
        else str_add(out, line, (size_t)((newline ? newline + 1 : end) - line));
        line = newline ? newline + 1 : end;
    }
    return changed;
}

// ---------------------------------------------------------------- all of it

static inline bool clean_step(int step, unsigned steps, Str *out, const char *text, size_t n, CleanCounts *counts) {
    bool valid = text_valid((const uint8_t *)text, (const uint8_t *)text + n) == n;
    switch (step) {
    case CLEAN_REPAIR: return clean_repair(out, text, n);
    case CLEAN_NFC:
        if (!valid) return false;
        text_nfc(out, text, n);
        return out->size != n || memcmp(out->data, text, n) != 0;
    case CLEAN_CONTROL: return clean_control(out, text, n);
    case CLEAN_HYPHENS: return valid && clean_hyphens(out, text, n);
    case CLEAN_PERSONAL: return personal_mask(out, text, n, steps >> CLEAN_KINDS, counts->masked);
    default: return clean_boilerplate(out, text, n);
    }
}

// out (replaced) = the cleaned text; spare: for what lies between steps. steps: bits, 1 << CLEAN_..., and kinds.
static inline bool clean_text(Str *out, Str *spare, const char *text, size_t n, unsigned steps, CleanCounts *counts) {
    out->size = 0;
    str_add(out, text, n);
    memset(counts, 0, sizeof *counts);
    for (int round = 0; round < CLEAN_ROUNDS; round++) {
        bool any = false;
        for (int step = 0; step < CLEAN_STEP_COUNT; step++) {
            if (!(steps & 1u << step) || out->size == 0) continue;
            spare->size = 0;
            if (!clean_step(step, steps, spare, out->data, out->size, counts)) continue;
            Str swap = *out;
            *out = *spare;
            *spare = swap;
            str_puts(out, ""); // steps that took bytes back left no NUL
            any = counts->changed[step] = true;
        }
        if (!any) return true;
    }
    return false;
}

#endif
