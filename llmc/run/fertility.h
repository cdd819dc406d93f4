/*
fertility.h: bpe --report: what tokenizers make of a text that they were not trained on, side by side.

    fertility_report("A.json,B.json", "FILE,...", &documents, json, err)    prints it

    tokens a word       all tokens over words, which are what stands between white space: the fertility of a tokenizer
    bytes a token       of UTF-8
    by kind             by source: the file that a document came from, or had come from before it was cleaned
    unused              tokens that text can become and that this text did not: of a small text there are many
    compounds           words of FERTILITY_COMPOUND letters or more that are two other words of the text beside each
                        other, with a linking element between them or without one (s, es, n, en, er, e). At the
                        seam: a token ends with the first word, or begins with the second

Whether a word is a compound is guessed from the text alone: both parts have FERTILITY_PART letters or more and stand by
themselves at least twice. Of several seams that is taken whose rarer part is the more frequent. In a text of less than
a megabyte few are found. Needs the text once, in memory that grows with its distinct words.
*/
#ifndef LLMC_FERTILITY_H
#define LLMC_FERTILITY_H

#include "../text/bpe.h"
#include "../text/tokenizer_folder.h"

#define FERTILITY_MOST 8      // tokenizers
#define FERTILITY_SOURCES 30  // that a terminal is shown; the others are summed up
#define FERTILITY_COMPOUND 12 // letters
#define FERTILITY_PART 4
#define FERTILITY_SHOWN 12 // compounds

typedef struct {
    int64_t documents, bytes, words, tokens[FERTILITY_MOST];
} FertilityCounts;

typedef struct {
    char *name;
    FertilityCounts n;
} FertilitySource;

typedef struct {
    const BpeWord *word;
    size_t head, tail; // bytes of the first part; where the second begins
    int letters;
} FertilityCompound;

typedef struct {
    int count; // of tokenizers
    StrList paths;
    Tokenizer tok[FERTILITY_MOST];
    TokenizerCache cache[FERTILITY_MOST];
    uint8_t *used[FERTILITY_MOST]; // (vocab_size)
    FertilitySource *sources;      // (source_count) in the order of their first documents
    size_t source_count, source_capacity;
    FertilityCounts all;
    BpeWords words; // runs of letters, with how often they stand there
    FertilityCompound *compounds;
    size_t compound_count, compound_capacity;
    int64_t compound_places;
    int64_t compound_tokens[FERTILITY_MOST], compound_seams[FERTILITY_MOST], compound_whole[FERTILITY_MOST];
} Fertility;

// ---------------------------------------------------------------- counting

// What stands between white space, and runs of letters. The text may be anything.
static inline int64_t fertility_words(BpeWords *letters, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    int64_t words = 0;
    bool inside = false;
    while (p < end) {
        const uint8_t *valid = p + text_valid(p, end);
        while (p < valid) {
            int size;
            unsigned kind = text_class(p, &size);
            const uint8_t *q = kind & TEXT_LETTER ? text_skip(p, valid, TEXT_LETTER | 1u << UNICODE_M) : p + size;
            if (kind & TEXT_LETTER && q - p <= BPE_MAX_WORD) bpe_words_add(letters, p, (size_t)(q - p), 1);
            words += !inside && !(kind & TEXT_SPACE);
            inside = !(kind & TEXT_SPACE);
            p = q;
        }
        size_t invalid = text_invalid(p, end);
        words += invalid && !inside;
        inside |= invalid > 0;
        p += invalid;
    }
    return words;
}

static inline FertilitySource *fertility_source(Fertility *f, const char *name) {
    for (size_t i = f->source_count; i-- > 0;)
        if (strcmp(f->sources[i].name, name) == 0) return &f->sources[i];
    f->sources = (FertilitySource *)mem_grow(f->sources, &f->source_capacity, f->source_count + 1, sizeof *f->sources);
    FertilitySource *s = &f->sources[f->source_count++];
    memset(s, 0, sizeof *s);
    s->name = (char *)mem_alloc(strlen(name) + 1);
    memcpy(s->name, name, strlen(name));
    return s;
}

static inline void fertility_add(FertilityCounts *to, const FertilityCounts *n) {
    to->documents += n->documents, to->bytes += n->bytes, to->words += n->words;
    for (int i = 0; i < FERTILITY_MOST; i++) to->tokens[i] += n->tokens[i];
}

// A batch of documents by all tokenizers at once. Their counts: (count + 1, documents), the last are words.
static inline void fertility_batch(Fertility *f, const DocBatch *batch) {
    int64_t *counts = (int64_t *)mem_alloc(((size_t)f->count + 1) * batch->count * sizeof(int64_t));
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1)
#endif
    for (int i = 0; i <= f->count; i++) {
        IdList ids;
        memset(&ids, 0, sizeof ids);
        for (size_t k = 0; k < batch->count; k++) {
            const Document *d = &batch->docs[k];
            int64_t *n = &counts[(size_t)i * batch->count + k];
            ids.count = 0;
            if (i == f->count) *n = fertility_words(&f->words, d->text, d->n);
            else *n = (int64_t)tokenizer_encode(&f->tok[i], &f->cache[i], d->text, d->n, &ids);
            for (size_t at = 0; at < ids.count; at++) f->used[i][ids.items[at]] = 1;
        }
        free(ids.items);
    }
    for (size_t k = 0; k < batch->count; k++) {
        FertilityCounts n;
        memset(&n, 0, sizeof n);
        n.documents = 1;
        n.bytes = (int64_t)batch->docs[k].n;
        n.words = counts[(size_t)f->count * batch->count + k];
        for (int i = 0; i < f->count; i++) n.tokens[i] = counts[(size_t)i * batch->count + k];
        fertility_add(&fertility_source(f, batch->docs[k].source)->n, &n);
        fertility_add(&f->all, &n);
    }
    free(counts);
}

static inline bool fertility_read(Fertility *f, const char *list, const DocSettings *documents, DocDamage *damage,
                                  Error *err) {
    DocInputs in;
    DocBatch *batch = NULL;
    if (!doc_inputs_open(&in, list, documents, err)) return false;
    bool ok;
    while ((ok = doc_inputs_next(&in, &batch, err)) && batch) {
        fertility_batch(f, batch);
        doc_inputs_release(&in, batch);
    }
    *damage = in.damage;
    memset(&in.damage, 0, sizeof in.damage);
    doc_inputs_close(&in);
    if (ok && f->all.words == 0) return error_set(err, "--input=%.500s holds no words to report on", list);
    return ok;
}

// ---------------------------------------------------------------- compounds

// How often a word stands in the text.
static inline int64_t fertility_seen(const BpeWords *w, const uint8_t *p, size_t n) {
    uint64_t hash = tokenizer_hash_bytes(p, n);
    for (uint64_t slot = hash & w->mask;; slot = (slot + 1) & w->mask) {
        const BpeWord *s = &w->slots[slot];
        if (s->count == 0) return 0;
        if (s->hash == hash && s->size == n && memcmp(w->bytes.data + s->offset, p, n) == 0) return s->count;
    }
}

// The same with a capital or a small first letter: those of ASCII and Latin-1, which German has.
static inline int64_t fertility_known(const BpeWords *w, const uint8_t *p, size_t n) {
    uint8_t other[BPE_MAX_WORD];
    memcpy(other, p, n);
    bool latin = n > 1 && p[0] == 0xc3 && p[1] != 0x97 && p[1] != 0x9f && p[1] != 0xb7 && p[1] != 0xbf;
    if ((p[0] | 32u) - 'a' < 26) other[0] ^= 32;
    else if (latin) other[1] ^= 32;
    else return fertility_seen(w, p, n);
    return fertility_seen(w, p, n) + fertility_seen(w, other, n);
}

static inline int fertility_letters(const uint8_t *p, size_t n) {
    int letters = 0;
    for (size_t i = 0; i < n; i++) letters += (p[i] & 0xc0) != 0x80;
    return letters;
}

// The best seam of a word; false: there is none.
static inline bool fertility_seam(FertilityCompound *c, const BpeWords *w, const BpeWord *word) {
    static const char *const links[] = {"", "s", "es", "n", "en", "er", "e"};
    const uint8_t *p = (const uint8_t *)w->bytes.data + word->offset;
    int64_t best = 1; // both parts stand there more often
    int before = 0;
    c->word = word;
    c->letters = fertility_letters(p, word->size);
    if (c->letters < FERTILITY_COMPOUND) return false;
    for (size_t head = 0; head < word->size; head++) {
        if ((p[head] & 0xc0) == 0x80) continue;
        if (before++ < FERTILITY_PART) continue;
        if (c->letters - before + 1 < FERTILITY_PART) break;
        int64_t first = fertility_known(w, p, head);
        for (size_t i = 0; first > best && i < sizeof links / sizeof *links; i++) {
            size_t link = strlen(links[i]), tail = head + link;
            if (tail >= word->size || memcmp(p + head, links[i], link) != 0 || (p[tail] & 0xc0) == 0x80) continue;
            if (fertility_letters(p + tail, word->size - tail) < FERTILITY_PART) continue;
            int64_t second = fertility_known(w, p + tail, word->size - tail);
            if (int64_min(first, second) <= best) continue;
            best = int64_min(first, second);
            c->head = head, c->tail = tail;
        }
    }
    return best > 1;
}

// The longest first; of equally long ones by their bytes.
static inline int fertility_longer(const void *a, const void *b) {
    const FertilityCompound *x = (const FertilityCompound *)a, *y = (const FertilityCompound *)b;
    if (x->letters != y->letters) return y->letters - x->letters;
    if (x->word->size != y->word->size) return x->word->size < y->word->size ? -1 : 1;
    return x->word->hash < y->word->hash ? -1 : x->word->hash > y->word->hash;
}

// How a tokenizer cuts a word behind a blank: ids, of which the first may hold the blank or be it alone.
static inline void fertility_cut(Fertility *f, int i, const FertilityCompound *c, IdList *ids) {
    char text[BPE_MAX_WORD + 1] = {' '};
    memcpy(text + 1, f->words.bytes.data + c->word->offset, c->word->size);
    ids->count = 0;
    tokenizer_encode(&f->tok[i], &f->cache[i], text, c->word->size + 1, ids);
}

static inline void fertility_compounds(Fertility *f) {
    FertilityCompound c;
    IdList ids;
    memset(&ids, 0, sizeof ids);
    memset(&c, 0, sizeof c);
    for (size_t i = 0; i <= f->words.mask; i++) {
        if (f->words.slots[i].count == 0 || !fertility_seam(&c, &f->words, &f->words.slots[i])) continue;
        f->compounds = (FertilityCompound *)mem_grow(f->compounds, &f->compound_capacity, f->compound_count + 1,
                                                     sizeof(FertilityCompound));
        f->compounds[f->compound_count++] = c;
        const int64_t places = c.word->count;
        f->compound_places += places;
        for (int k = 0; k < f->count; k++) {
            bool seam = false;
            size_t end = 0;
            fertility_cut(f, k, &c, &ids);
            for (size_t at = 0; at + 1 < ids.count; at++) {
                int n;
                tokenizer_bytes(&f->tok[k], ids.items[at], &n);
                end += (size_t)n;
                seam = seam || end - 1 == c.head || end - 1 == c.tail;
            }
            f->compound_tokens[k] += places * (int64_t)ids.count;
            f->compound_seams[k] += places * seam;
            f->compound_whole[k] += places * (ids.count == 1);
        }
    }
    if (f->compound_count) qsort(f->compounds, f->compound_count, sizeof c, fertility_longer);
    free(ids.items);
}

// Tokens that text can become, and those of them that this one did not; *one: the first of these, or -1.
static inline int fertility_unused(const Fertility *f, int i, int *possible, int *one) {
    int unused = 0;
    *possible = 0;
    *one = -1;
    for (int id = 0; id < f->tok[i].vocab_size; id++) {
        TokenKind kind = tokenizer_kind(&f->tok[i], id);
        if (kind != TOKEN_NORMAL && kind != TOKEN_ADDED) continue;
        ++*possible;
        if (f->used[i][id]) continue;
        if (*one < 0 && id > 256) *one = id;
        unused++;
    }
    return unused;
}

// ---------------------------------------------------------------- for a terminal

static inline double fertility_ratio(int64_t a, int64_t b) { return b ? (double)a / (double)b : 0; }

// A name in 36 columns; of a longer one its end.
static inline void fertility_name(Str *s, const char *name) {
    const int wide = 36;
    const char *p = name;
    int letters = fertility_letters((const uint8_t *)name, strlen(name));
    for (int over = letters - wide; letters > wide && (over >= 0 || (*p & 0xc0) == 0x80); p++)
        over -= (*p & 0xc0) != 0x80;
    str_puts(s, p);
    for (int i = letters < wide ? letters : wide; i < wide; i++) str_puts(s, " ");
}

static inline void fertility_line(const Fertility *f, const char *name, const FertilityCounts *n, bool per_word) {
    Str s;
    memset(&s, 0, sizeof s);
    fertility_name(&s, name);
    str_printf(&s, " %12lld", (long long)(per_word ? n->words : n->bytes));
    for (int i = 0; i < f->count; i++)
        str_printf(&s, " %8.3f",
                   per_word ? fertility_ratio(n->tokens[i], n->words) : fertility_ratio(n->bytes, n->tokens[i]));
    print_line("%s", s.data);
    free(s.data);
}

static inline void fertility_head(const Fertility *f, const char *what, const char *unit) {
    Str s;
    memset(&s, 0, sizeof s);
    printf("\n");
    fertility_name(&s, what);
    str_printf(&s, " %12s", unit);
    for (int i = 0; i < f->count; i++) str_printf(&s, " %8c", 'A' + i);
    print_line("%s", s.data);
    free(s.data);
}

static inline void fertility_table(const Fertility *f, bool per_word) {
    FertilityCounts others;
    memset(&others, 0, sizeof others);
    fertility_head(f, per_word ? "tokens a word" : "bytes a token", per_word ? "words" : "bytes");
    size_t shown = f->source_count <= FERTILITY_SOURCES ? f->source_count : FERTILITY_SOURCES - 1;
    for (size_t i = 0; i < shown; i++) fertility_line(f, f->sources[i].name, &f->sources[i].n, per_word);
    for (size_t i = shown; i < f->source_count; i++) fertility_add(&others, &f->sources[i].n);
    if (shown < f->source_count)
        fertility_line(f, path_of("%zu other sources", f->source_count - shown).text, &others, per_word);
    if (f->source_count > 1) fertility_line(f, "all", &f->all, per_word);
}

// Text, with bytes that are parts of letters as <c3>.
static inline void fertility_bytes(Str *s, const uint8_t *p, const uint8_t *end) {
    while (p < end) {
        size_t valid = text_valid(p, end);
        str_add(s, p, valid);
        p += valid;
        for (size_t bad = text_invalid(p, end); bad > 0; bad--) str_printf(s, "<%02x>", *p++);
    }
}

// A word as a tokenizer cuts it: a|b|c.
static inline void fertility_show(Str *s, Fertility *f, int i, const FertilityCompound *c) {
    IdList ids;
    memset(&ids, 0, sizeof ids);
    fertility_cut(f, i, c, &ids);
    size_t skip = 1; // the blank
    for (size_t k = 0; k < ids.count; k++) {
        int n;
        const uint8_t *p = tokenizer_bytes(&f->tok[i], ids.items[k], &n), *end = p + n;
        if (k) str_puts(s, "|");
        for (; p < end && skip; skip--) p++;
        fertility_bytes(s, p, end);
    }
    free(ids.items);
}

static inline void fertility_print_compounds(Fertility *f) {
    static const char *const rows[3] = {"tokens a compound", "with a border at the seam, in %", "in one token, in %"};
    fertility_head(f, "compounds", "");
    for (int row = 0; row < 3; row++) {
        Str s;
        memset(&s, 0, sizeof s);
        fertility_name(&s, rows[row]);
        str_printf(&s, " %12lld", (long long)f->compound_places);
        for (int i = 0; i < f->count; i++) {
            const int64_t n = row == 0   ? f->compound_tokens[i]
                              : row == 1 ? 100 * f->compound_seams[i]
                                         : 100 * f->compound_whole[i];
            str_printf(&s, " %8.2f", fertility_ratio(n, f->compound_places));
        }
        print_line("%s", s.data);
        free(s.data);
    }
    printf("%zu different ones; the longest:\n", f->compound_count);
    for (size_t k = 0; k < f->compound_count && k < FERTILITY_SHOWN; k++) {
        const FertilityCompound *c = &f->compounds[k];
        const char *p = f->words.bytes.data + c->word->offset;
        print_line("  %.*s + %s%.*s", (int)c->head, p,
                   c->tail > c->head ? path_of("%.*s + ", (int)(c->tail - c->head), p + c->head).text : "",
                   (int)(c->word->size - c->tail), p + c->tail);
        for (int i = 0; i < f->count; i++) {
            Str s;
            memset(&s, 0, sizeof s);
            fertility_show(&s, f, i, c);
            print_line("    %c  %s", 'A' + i, s.data);
            free(s.data);
        }
    }
}

static inline void fertility_print(Fertility *f) {
    for (int i = 0; i < f->count; i++) {
        int possible, one, n, unused = fertility_unused(f, i, &possible, &one);
        Str example;
        memset(&example, 0, sizeof example);
        const uint8_t *p = tokenizer_bytes(&f->tok[i], one, &n);
        fertility_bytes(&example, p, p + n);
        str_puts(&example, "");
        print_line("%c: %s: vocabulary of %d; of %d tokens that text can become %d (%.1f%%) do not occur here%s%s%s",
                   'A' + i, f->paths.items[i], f->tok[i].vocab_size, possible, unused,
                   100 * fertility_ratio(unused, possible), one < 0 ? "" : ", for one \"", example.data,
                   one < 0 ? "" : "\"");
        free(example.data);
    }
    fertility_table(f, true);
    fertility_table(f, false);
    if (f->compound_count) fertility_print_compounds(f);
    else printf("\nno compounds whose parts stand in the text by themselves\n");
}

// ---------------------------------------------------------------- as JSON

static inline void fertility_json_counts(Str *s, const Fertility *f, const char *name, const FertilityCounts *n) {
    str_puts(s, "{\"source\": ");
    if (name) json_escape(s, name, strlen(name));
    else str_puts(s, "null");
    str_printf(s, ", \"documents\": %lld, \"bytes\": %lld, \"words\": %lld, \"tokens\": [", (long long)n->documents,
               (long long)n->bytes, (long long)n->words);
    for (int i = 0; i < f->count; i++) str_printf(s, "%s%lld", i ? ", " : "", (long long)n->tokens[i]);
    str_puts(s, "], \"tokens_per_word\": [");
    for (int i = 0; i < f->count; i++) str_printf(s, "%s%.6f", i ? ", " : "", fertility_ratio(n->tokens[i], n->words));
    str_puts(s, "], \"bytes_per_token\": [");
    for (int i = 0; i < f->count; i++) str_printf(s, "%s%.6f", i ? ", " : "", fertility_ratio(n->bytes, n->tokens[i]));
    str_puts(s, "]}");
}

static inline void fertility_json_compounds(Str *s, Fertility *f) {
    str_printf(s, ",\n  \"compounds\": {\"different\": %zu, \"places\": %lld, \"longest\": [", f->compound_count,
               (long long)f->compound_places);
    for (size_t k = 0; k < f->compound_count && k < FERTILITY_SHOWN; k++) {
        const FertilityCompound *c = &f->compounds[k];
        const char *p = f->words.bytes.data + c->word->offset;
        str_puts(s, k ? ",\n    {\"parts\": [" : "\n    {\"parts\": [");
        json_escape(s, p, c->head);
        str_puts(s, ", ");
        json_escape(s, p + c->head, c->tail - c->head);
        str_puts(s, ", ");
        json_escape(s, p + c->tail, c->word->size - c->tail);
        str_puts(s, "], \"tokens\": [");
        for (int i = 0; i < f->count; i++) {
            Str cut;
            memset(&cut, 0, sizeof cut);
            fertility_show(&cut, f, i, c);
            if (i) str_puts(s, ", ");
            json_escape(s, cut.data, cut.size);
            free(cut.data);
        }
        str_puts(s, "]}");
    }
    str_puts(s, "]}");
}

static inline void fertility_json(Fertility *f) {
    Str s;
    memset(&s, 0, sizeof s);
    str_puts(&s, "{\n  \"tokenizers\": [");
    for (int i = 0; i < f->count; i++) {
        int possible, one, unused = fertility_unused(f, i, &possible, &one);
        str_puts(&s, i ? ",\n    {\"path\": " : "\n    {\"path\": ");
        json_escape(&s, f->paths.items[i], strlen(f->paths.items[i]));
        str_printf(&s,
                   ", \"hash\": \"%016llx\", \"vocab_size\": %d, \"text_tokens\": %d, \"unused\": %d, "
                   "\"tokens_per_compound\": %.6f, \"compounds_with_a_border_at_the_seam\": %.6f, "
                   "\"compounds_in_one_token\": %.6f}",
                   (unsigned long long)f->tok[i].hash, f->tok[i].vocab_size, possible, unused,
                   fertility_ratio(f->compound_tokens[i], f->compound_places),
                   fertility_ratio(f->compound_seams[i], f->compound_places),
                   fertility_ratio(f->compound_whole[i], f->compound_places));
    }
    str_puts(&s, "\n  ],\n  \"all\": ");
    fertility_json_counts(&s, f, NULL, &f->all);
    str_puts(&s, ",\n  \"sources\": [");
    for (size_t i = 0; i < f->source_count; i++) {
        str_puts(&s, i ? ",\n    " : "\n    ");
        fertility_json_counts(&s, f, f->sources[i].name, &f->sources[i].n);
    }
    str_puts(&s, "\n  ]");
    fertility_json_compounds(&s, f);
    str_puts(&s, "\n}\n");
    fputs(s.data, stdout);
    free(s.data);
}

// ---------------------------------------------------------------- the whole

static inline void fertility_free(Fertility *f) {
    for (int i = 0; i < f->count; i++) {
        tokenizer_free(&f->tok[i]);
        tokenizer_cache_free(&f->cache[i]);
        free(f->used[i]);
    }
    for (size_t i = 0; i < f->source_count; i++) free(f->sources[i].name);
    free(f->sources);
    free(f->compounds);
    bpe_words_free(&f->words);
    str_list_free(&f->paths);
    free(f);
}

// Prints a report on the tokenizers of a list. What was left out of the text is damage, for the caller to tell.
static inline bool fertility_report(const char *tokenizers, const char *inputs, const DocSettings *documents, bool json,
                                    DocDamage *damage, Error *err) {
    Fertility *f = (Fertility *)mem_alloc(sizeof *f);
    bpe_words_open(&f->words, TEXT_LLAMA3);
    bool ok = path_expand(&f->paths, tokenizers, err);
    if (ok && f->paths.count > FERTILITY_MOST)
        ok = error_set(err, "--report names %d tokenizers, at most %d can be compared", f->paths.count, FERTILITY_MOST);
    for (int i = 0; ok && i < f->paths.count; i++) {
        ok = tokenizer_open(&f->tok[i], f->paths.items[i], err);
        if (ok) f->used[f->count] = (uint8_t *)mem_alloc((size_t)f->tok[i].vocab_size);
        f->count += ok;
    }
    ok = ok && fertility_read(f, inputs, documents, damage, err);
    if (ok) {
        fertility_compounds(f);
        if (json) fertility_json(f);
        else fertility_print(f);
    }
    fertility_free(f);
    return ok;
}

#endif
