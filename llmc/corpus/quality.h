/*
quality.h: is a document a text worth training on? Thresholds by name; those of FineWeb-2's German configuration are the
default (configs/deu_Latn.yml there), which are Gopher's and FineWeb's rules with figures fitted to German.

    quality_judge(text, n, &rules)      the rule that it breaks first, in the order of QUALITY_RULES; -1: none
    quality_rules_load(&rules, path)    lines NAME = VALUE change some; `#` begins a comment; `off` switches a rule off

Words are those of words.h. Lengths and shares count characters. Repetition: an n-gram is n words in a row; top_n: the
characters of the most frequent one, all its places together, as a share of the text; dup_n: of those that stood before.
Beside datatrove's filters on the same documents: dev/bench/quality.md.
*/
#ifndef LLMC_QUALITY_H
#define LLMC_QUALITY_H

#include "../base/hash.h"
#include "words.h"
#include <math.h>

// X(NAME, default, what breaks it). Rules that were fitted to German come with FineWeb-2; the others are Gopher's.
// clang-format off
#define QUALITY_RULES(X)                                                                        \
    X(min_words, 50, "fewer words, signs not counted")                                          \
    X(max_words, 100000, "more words")                                                          \
    X(max_word_length, 15, "a longer average word")                                             \
    X(max_hash_share, 0.1, "more # a word")                                                     \
    X(max_ellipsis_share, 0.1, "more ellipses a word")                                          \
    X(max_bullet_lines, 0.9, "a larger share of lines that begin with a bullet")                \
    X(max_ellipsis_lines, 0.3, "a larger share of lines that end in an ellipsis")               \
    X(min_alpha_words, 0.774, "a smaller share of words with a letter")                         \
    X(min_stop_words, 2, "fewer of the commonest words of German")                              \
    X(dup_line_frac, 0.263, "a larger share of lines that stood before")                        \
    X(top_2_gram, 0.169, "a more frequent pair of words")                                       \
    X(top_3_gram, 0.153, "the same of 3 words")                                                 \
    X(top_4_gram, 0.137, "the same of 4 words")                                                 \
    X(dup_5_gram, 0.141, "more in runs of 5 words that stood before")                           \
    X(dup_6_gram, 0.134, "the same of 6 words")                                                 \
    X(dup_7_gram, 0.126, "the same of 7 words")                                                 \
    X(dup_8_gram, 0.117, "the same of 8 words")                                                 \
    X(dup_9_gram, 0.108, "the same of 9 words")                                                 \
    X(dup_10_gram, 0.098, "the same of 10 words")                                               \
    X(char_dup_ratio, 0.1, "more characters in lines that stood before")                        \
    X(new_line_ratio, 0.152, "more lines a word")
// clang-format on

#define X(name, value, what) QUALITY_##name,
enum { QUALITY_RULES(X) QUALITY_RULE_COUNT };
#undef X

typedef struct {
    double value[QUALITY_RULE_COUNT]; // NAN: off
} QualityRules;

static inline const char *quality_name(int rule) {
    static const char *const names[] = {
#define X(name, value, what) #name,
        QUALITY_RULES(X)
#undef X
    };
    return names[rule];
}

static inline QualityRules quality_defaults(void) {
    static const double values[] = {
#define X(name, value, what) value,
        QUALITY_RULES(X)
#undef X
    };
    QualityRules r;
    memcpy(r.value, values, sizeof r.value);
    return r;
}

static inline bool quality_rules_line(QualityRules *r, char *line, Error *err) {
    char *equals = strchr(line, '='), *end;
    size_t n = strcspn(line, " \t="), blanks = equals ? strspn(equals + 1, " \t") : 0;
    for (int i = 0; equals && i < QUALITY_RULE_COUNT; i++) {
        if (strlen(quality_name(i)) != n || memcmp(quality_name(i), line, n) != 0) continue;
        const char *text = equals + 1 + blanks;
        if (strcmp(text, "off") == 0) {
            r->value[i] = (double)NAN;
            return true;
        }
        r->value[i] = strtod(text, &end);
        if (end != text && !*end && isfinite(r->value[i]) && r->value[i] >= 0) return true;
        return error_set(err, "%s = %.100s: expected a number from 0 on, or off", quality_name(i), text);
    }
    error_set(err, "\"%.100s\": expected NAME = VALUE or NAME = off, where NAME is one of", line);
    for (int i = 0; i < QUALITY_RULE_COUNT; i++) {
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, " %s", quality_name(i));
    }
    return false;
}

static inline bool quality_rules_load(QualityRules *r, const char *path, Error *err) {
    Str text;
    Error why;
    memset(&text, 0, sizeof text);
    if (!file_read(&text, path, (size_t)1 << 20, err)) return false;
    bool ok = true;
    int number = 0;
    for (char *line = text.data, *next; ok && line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        number++;
        line += strspn(line, " \t");
        size_t n = strcspn(line, "#\r");
        while (n && (line[n - 1] == ' ' || line[n - 1] == '\t')) n--;
        line[n] = 0;
        if (*line && !quality_rules_line(r, line, &why))
            ok = error_set(err, "%s: line %d: %.700s", path, number, why.text);
    }
    free(text.data);
    return ok;
}

// ---------------------------------------------------------------- what is counted

typedef struct {
    uint64_t hash;
    uint32_t length; // characters
    bool sign, alpha;
} QualityWord;

typedef struct {
    QualityWord *words; // (count)
    size_t count, capacity;
    uint64_t *slots; // (mask + 1) a table of hashes, or of hashes and counts
    uint32_t *counts;
    size_t slots_size;
    size_t characters;
} QualityText;

static inline size_t quality_characters(const char *text, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

static inline void quality_word(void *to, const uint8_t *start, const uint8_t *end, int kind) {
    QualityText *q = (QualityText *)to;
    q->words = (QualityWord *)mem_grow(q->words, &q->capacity, q->count + 1, sizeof(QualityWord));
    QualityWord *w = &q->words[q->count++];
    w->hash = xxh64(start, (size_t)(end - start), 1) | 1;
    w->length = (uint32_t)quality_characters((const char *)start, (size_t)(end - start));
    w->alpha = (kind & WORDS_ALPHA) != 0;
    w->sign = (kind & WORDS_SIGN) != 0;
}

static inline void quality_words(QualityText *q, const uint8_t *p, const uint8_t *end) {
    q->count = 0;
    words_cut(p, end, quality_word, q);
}

// An empty table with room for n.
static inline size_t quality_table(QualityText *q, size_t n) {
    size_t slots = 64;
    while (slots < 2 * n) slots *= 2;
    if (slots > q->slots_size) {
        free(q->slots);
        free(q->counts);
        q->slots = (uint64_t *)mem_alloc(slots * sizeof *q->slots);
        q->counts = (uint32_t *)mem_alloc(slots * sizeof *q->counts);
        q->slots_size = slots;
    } else memset(q->slots, 0, slots * sizeof *q->slots);
    return slots - 1;
}

// The place of a hash; q->slots[place] is 0 where it is new.
static inline size_t quality_place(const QualityText *q, size_t mask, uint64_t hash) {
    size_t at = (size_t)(hash ^ hash >> 32) & mask;
    while (q->slots[at] && q->slots[at] != hash) at = (at + 1) & mask;
    return at;
}

static inline uint64_t quality_gram(const QualityWord *w, int n) {
    uint64_t hash = 0;
    for (int i = 0; i < n; i++) hash = (hash ^ w[i].hash) * 0x9e3779b97f4a7c15ull, hash ^= hash >> 29;
    return hash | 1;
}

static inline size_t quality_gram_length(const QualityWord *w, int n) {
    size_t length = 0;
    for (int i = 0; i < n; i++) length += w[i].length;
    return length;
}

// Characters of the most frequent n-gram, blanks between its words, times its count; the earliest of equals.
static inline double quality_top(QualityText *q, int n) {
    size_t grams = q->count >= (size_t)n ? q->count - (size_t)n + 1 : 0, mask = quality_table(q, grams), best = 0;
    uint32_t most = 0;
    for (size_t i = 0; i < grams; i++) {
        uint64_t hash = quality_gram(&q->words[i], n);
        size_t at = quality_place(q, mask, hash);
        q->counts[at] = q->slots[at] ? q->counts[at] + 1 : 1;
        q->slots[at] = hash;
        if (q->counts[at] > most) most = q->counts[at];
    }
    for (size_t i = 0; i < grams; i++) {
        size_t at = quality_place(q, mask, quality_gram(&q->words[i], n));
        if (q->counts[at] != most) continue;
        best = i;
        break;
    }
    return grams ? (double)(quality_gram_length(&q->words[best], n) + (size_t)n - 1) * most : 0;
}

// Characters in n-grams that stood before; after one of them the next begins behind it.
static inline double quality_repeated(QualityText *q, int n) {
    size_t grams = q->count >= (size_t)n ? q->count - (size_t)n + 1 : 0, mask = quality_table(q, grams), repeated = 0;
    for (size_t i = 0; i < grams;) {
        uint64_t hash = quality_gram(&q->words[i], n);
        size_t at = quality_place(q, mask, hash);
        bool known = q->slots[at] != 0;
        if (known) repeated += quality_gram_length(&q->words[i], n);
        q->slots[at] = hash;
        i += known ? (size_t)n : 1;
    }
    return (double)repeated;
}

typedef struct {
    size_t lines, newlines;  // lines that are not empty
    size_t all;              // lines
    size_t twice;            // of them stood before
    size_t twice_characters; // in those
    size_t bullets, ellipses;
} QualityLines;

static inline bool quality_ends(const char *line, size_t n, const char *end) {
    size_t k = strlen(end);
    return n >= k && memcmp(line + n - k, end, k) == 0;
}

// Blanks and tabs at the start of a line.
static inline size_t quality_blanks(const char *line, size_t n) {
    size_t i = 0;
    while (i < n && (line[i] == ' ' || line[i] == '\t')) i++;
    return i;
}

static inline void quality_lines(QualityText *q, QualityLines *l, const char *text, size_t n) {
    memset(l, 0, sizeof *l);
    for (size_t i = 0; i < n; i++) l->newlines += text[i] == '\n';
    size_t mask = quality_table(q, l->newlines + 1);
    l->all = l->newlines + (n > 0 && text[n - 1] != '\n');
    for (const char *line = text, *end = text + n; line < end;) {
        const char *newline = (const char *)memchr(line, '\n', (size_t)(end - line)), *to = newline ? newline : end;
        size_t size = (size_t)(to - line), blanks = quality_blanks(line, size);
        if (blanks < size) {
            uint64_t hash = xxh64(line, size, 2) | 1;
            size_t at = quality_place(q, mask, hash);
            l->lines++;
            if (q->slots[at]) l->twice++, l->twice_characters += quality_characters(line, size);
            q->slots[at] = hash;
            const char *start = line + blanks;
            size_t rest = size - blanks;
            while (strchr(" \t", line[size - 1])) size--;
            l->bullets += (rest >= 3 && memcmp(start, "\xe2\x80\xa2", 3) == 0) || *start == '-';
            l->ellipses += quality_ends(line, size, "...") || quality_ends(line, size, "\xe2\x80\xa6");
        }
        line = newline ? newline + 1 : end;
    }
}

// Different ones of the commonest words: der und die in von im den des mit das er dem als wurde für.
static inline int quality_stop_words(const QualityText *q) {
    static const char *const words[] = {"der", "und", "die", "in",  "von", "im",    "den",       "des",
                                        "mit", "das", "er",  "dem", "als", "wurde", "f\xc3\xbcr"};
    enum { WORDS = sizeof words / sizeof words[0] };
    uint64_t hashes[WORDS];
    bool seen[WORDS] = {false};
    int found = 0;
    for (int k = 0; k < WORDS; k++) hashes[k] = xxh64(words[k], strlen(words[k]), 1) | 1;
    for (size_t i = 0; i < q->count && found < WORDS; i++)
        for (int k = 0; q->words[i].length <= 5 && k < WORDS; k++)
            if (q->words[i].hash == hashes[k] && !seen[k]) seen[k] = true, found++;
    return found;
}

static inline size_t quality_count(const char *text, size_t n, const char *what) {
    size_t count = 0, k = strlen(what);
    for (const char *p = text, *end = text + n; (p = (const char *)memmem(p, (size_t)(end - p), what, k)); p += k)
        count++;
    return count;
}

// What a rule measures. *over: it is broken by more than its value, else by less.
static inline double quality_measure(QualityText *q, const QualityLines *l, int rule, const char *text, size_t n,
                                     bool *over) {
    double words = (double)(q->count ? q->count : 1), lines = (double)(l->lines ? l->lines : 1),
           all = (double)(l->all ? l->all : 1), characters = (double)(q->characters ? q->characters : 1);
    size_t real = 0, length = 0, alpha = 0;
    *over = rule != QUALITY_min_words && rule != QUALITY_min_alpha_words && rule != QUALITY_min_stop_words;
    if (rule <= QUALITY_max_word_length || rule == QUALITY_min_alpha_words)
        for (size_t i = 0; i < q->count; i++) {
            real += !q->words[i].sign;
            length += q->words[i].sign ? 0 : q->words[i].length;
            alpha += q->words[i].alpha;
        }
    switch (rule) {
    case QUALITY_min_words:
    case QUALITY_max_words: return (double)real;
    case QUALITY_max_word_length: return (double)length / (double)(real ? real : 1);
    case QUALITY_max_hash_share: return (double)quality_count(text, n, "#") / words;
    case QUALITY_max_ellipsis_share:
        return (double)(quality_count(text, n, "...") + quality_count(text, n, "\xe2\x80\xa6")) / words;
    case QUALITY_max_bullet_lines: return (double)l->bullets / all;
    case QUALITY_max_ellipsis_lines: return (double)l->ellipses / all;
    case QUALITY_min_alpha_words: return (double)alpha / words;
    case QUALITY_min_stop_words: return quality_stop_words(q);
    case QUALITY_dup_line_frac: return (double)l->twice / lines;
    case QUALITY_char_dup_ratio: return (double)l->twice_characters / (characters - (double)l->newlines);
    case QUALITY_new_line_ratio: return (double)l->newlines / words;
    default: break;
    }
    if (rule <= QUALITY_top_4_gram) return quality_top(q, 2 + rule - QUALITY_top_2_gram) / characters;
    return quality_repeated(q, 5 + rule - QUALITY_dup_5_gram) / characters;
}

// The first rule that a text of valid UTF-8 breaks, -1: none. q: zeroed once, used for many texts; quality_free() at
// the end.
static inline int quality_judge(QualityText *q, const char *text, size_t n, const QualityRules *rules) {
    QualityLines lines;
    quality_words(q, (const uint8_t *)text, (const uint8_t *)text + n);
    q->characters = quality_characters(text, n);
    quality_lines(q, &lines, text, n);
    for (int rule = 0; rule < QUALITY_RULE_COUNT; rule++) {
        bool over;
        double limit = rules->value[rule];
        if (isnan(limit)) continue;
        double found = quality_measure(q, &lines, rule, text, n, &over);
        if (over ? found > limit : found < limit) return rule;
    }
    return -1;
}

static inline void quality_free(QualityText *q) {
    free(q->words);
    free(q->slots);
    free(q->counts);
    memset(q, 0, sizeof *q);
}

#endif
