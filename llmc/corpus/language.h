/*
language.h: is a document German? Against its neighbours (Dutch, Low German, Luxembourgish, Yiddish in Latin letters,
Danish, Swedish, Norwegian), other languages in Latin letters, and source code.

    language_judge(text, n, &class)     how much more German it is than any other class, in nats a feature: above 0 it
                                        is German; NAN: too short to say; -1: another script. class: the likeliest one

Naive Bayes over features of words: every three bytes, blanks at both ends, and the word, hashed into 8192 slots, with
the counts of language_table.h, made by dev/bench/languages.sh. Swiss and Austrian German are German: a word with ss for
ß shares most of its features. Looked at are 8 KiB of a longer text, evenly spread. Of a text in several languages the
sum decides. Where more than half of the letters belong to another script it is "other".
*/
#ifndef LLMC_LANGUAGE_H
#define LLMC_LANGUAGE_H

#include "../base/common.h"
#include "language_table.h"
#include <math.h>

#define X(name) LANGUAGE_##name,
enum { LANGUAGES(X) LANGUAGE_COUNT };
#undef X

#define LANGUAGE_SLOTS 8192
#define LANGUAGE_STEP 0.3    // nats of a letter in the table
#define LANGUAGE_PIECE 1024  // bytes that are looked at in one place
#define LANGUAGE_PIECES 8    // places
#define LANGUAGE_FEATURES 60 // about 8 words: of fewer nothing can be said
#define LANGUAGE_LETTERS 20  // of fewer nothing can be said of the script
#define LANGUAGE_WORD 60     // bytes; what is longer is no word

static inline const char *language_name(int class_) {
    static const char *const names[] = {
#define X(name) #name,
        LANGUAGES(X)
#undef X
    };
    return names[class_];
}

typedef struct {
    int32_t sums[LANGUAGE_COUNT];
    int32_t features;
    int32_t letters, foreign; // foreign: beyond U+0240, but for U+1000 to U+1FFF, where Latin ones are, too
} LanguageSums;

static inline void language_feature(LanguageSums *s, uint32_t hash) {
    uint32_t slot = (hash ^ hash >> 15) & (LANGUAGE_SLOTS - 1);
    char row[LANGUAGE_COUNT]; // a copy, which no sum can alias: the loop becomes vectors
    memcpy(row, language_table[slot / 6] + slot % 6 * LANGUAGE_COUNT, sizeof row);
    for (int k = 0; k < LANGUAGE_COUNT; k++) s->sums[k] += row[k];
    s->features++;
}

// word: small letters, a blank in front and behind; size with these.
static inline void language_word(LanguageSums *s, const uint8_t *word, int size) {
    uint32_t whole = 0x9e3779b9;
    for (int i = 1; i < size - 1; i++) whole = (whole ^ word[i]) * 16777619u;
    language_feature(s, whole);
    for (int i = 0; i + 3 <= size; i++) {
        uint32_t hash = 2166136261u;
        for (int k = 0; k < 3; k++) hash = (hash ^ word[i + k]) * 16777619u;
        language_feature(s, hash);
    }
}

// Bytes of the sign at p that is no letter, 0: a letter begins, or goes on.
static inline int language_sign(const uint8_t *p, const uint8_t *end) {
    if (*p < 0x80) return !((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z'));
    if (*p == 0xc2) return end - p >= 2 ? 2 : 1; // U+0080 to U+00BF
    if (*p == 0xe2) return end - p >= 3 ? 3 : 1; // U+2000 to U+2FFF
    return 0;
}

static inline void language_piece(LanguageSums *s, const uint8_t *p, const uint8_t *end) {
    uint8_t word[LANGUAGE_WORD + 2];
    while (p < end) {
        int sign = language_sign(p, end), n = 1;
        if (sign) {
            p += sign;
            continue;
        }
        word[0] = ' ';
        for (; p < end && !language_sign(p, end); p++) {
            bool upper = (*p >= 'A' && *p <= 'Z') || (n > 1 && p[-1] == 0xc3 && *p >= 0x80 && *p <= 0x9e && *p != 0x97);
            s->letters += (*p & 0xc0) != 0x80;
            s->foreign += *p >= 0xc9 && *p != 0xe1;
            if (n <= LANGUAGE_WORD) word[n] = (uint8_t)(upper ? *p + 32 : *p);
            n++;
        }
        if (n > LANGUAGE_WORD + 1) continue;
        word[n++] = ' ';
        language_word(s, word, n);
    }
}

static inline double language_judge(const char *text, size_t n, int *class_) {
    LanguageSums s;
    const uint8_t *start = (const uint8_t *)text;
    memset(&s, 0, sizeof s);
    if (n <= LANGUAGE_PIECE * LANGUAGE_PIECES) language_piece(&s, start, start + n);
    else
        for (size_t i = 0; i < LANGUAGE_PIECES; i++) {
            const uint8_t *p = start + (n - LANGUAGE_PIECE) / (LANGUAGE_PIECES - 1) * i;
            language_piece(&s, p, p + LANGUAGE_PIECE);
        }
    int best = 0, other = 1;
    for (int k = 1; k < LANGUAGE_COUNT; k++) {
        if (s.sums[k] > s.sums[best]) best = k;
        if (s.sums[k] > s.sums[other]) other = k;
    }
    *class_ = best;
    if (2 * s.foreign > s.letters && s.letters >= LANGUAGE_LETTERS) {
        *class_ = LANGUAGE_other;
        return -1;
    }
    if (s.features < LANGUAGE_FEATURES) return (double)NAN;
    return LANGUAGE_STEP * (s.sums[LANGUAGE_de] - s.sums[other]) / s.features;
}

#endif
