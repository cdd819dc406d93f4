/*
contamination.h: which documents hold what a model is to be asked: runs of words that stand in evaluation sets.

    contamination_open(&set, "FILE,GLOB,...", err)     task files of `eval --tasks` (tasks.h), or plain text
    contamination_find(&set, &scan, text, n)           scan.items (count): the items that the text overlaps, each once
    contamination_count(&set, &scan)                   a document more for each of them
    contamination_describe(&s, &set)                   a JSON list: for each file what was found

An item is a line of a task file: context and right choice or continuation as one text, its sentences (good, bad), or
its text; of plain text a paragraph. Text and item overlap where CONTAMINATION_WORDS words in a row are the same; an
item with fewer words, but at least CONTAMINATION_LEAST, where all of it is there; shorter ones are counted as short and
looked for nowhere. Words are what white space separates, in small letters, without signs (and without diacritics):
GPT-3's rule (Brown and others 2020, appendix C: lower case, punctuation ignored, N of 8 to 13 by the length of the
examples) and that of lm-evaluation-harness (13).

Memory: 40 bytes for each different run of words of the evaluation sets; nothing for the corpus.
*/
#ifndef LLMC_CONTAMINATION_H
#define LLMC_CONTAMINATION_H

#include "../text/reader.h"
#include "../text/window.h"
#include "near.h"

#define CONTAMINATION_WORDS 13
#define CONTAMINATION_LEAST 8
#define CONTAMINATION_BYTES ((size_t)1 << 32) // of a file, unpacked

typedef struct {
    int file;
    int64_t place;     // line, or number of the paragraph
    int64_t documents; // that it was found in
} ContaminationItem;

typedef struct {
    Path path;
    char sha256[65];
    int64_t items, too_short, documents;
} ContaminationFile;

// A run of words, and an item that has it; several items: `next` is the number of another entry, plus one.
typedef struct {
    uint64_t key;
    uint32_t item, next;
} ContaminationEntry;

typedef struct {
    ContaminationFile *files;    // (file_count)
    ContaminationItem *items;    // (item_count)
    ContaminationEntry *entries; // (entry_count)
    uint32_t *slots;             // (mask + 1) numbers of entries, plus one
    uint64_t *filter;            // (filter_mask + 1) bits: no key without its bit
    size_t item_count, item_capacity, entry_count, entry_capacity, mask, filter_mask;
    int file_count;
    bool lengths[CONTAMINATION_WORDS + 1]; // runs of so many words are looked for
} Contamination;

// One thread's, zeroed once, used for many texts.
typedef struct {
    NearText words;
    uint32_t *items; // (count)
    size_t count, capacity;
} ContaminationScan;

// ---------------------------------------------------------------- words

// Hashes of the words of a text (valid UTF-8) into t->words; returns how many.
static inline size_t contamination_words(NearText *t, const uint8_t *p, const uint8_t *end) {
    size_t count = 0;
    uint64_t h = 0;
    CharList parts;
    memset(&parts, 0, sizeof parts);
    if (!t->ready) near_prepare(t);
    while (p <= end) {
        uint32_t c = ' ', folded;
        int n = 1;
        if (p < end) n = text_decode_valid(p, &c);
        p += n;
        bool space = c < 0x80 ? text_is_space((char)c) : (unicode_class(c) & UNICODE_CLASS_MASK) == UNICODE_SPACE;
        if (!space) {
            folded = c - '0' < 10 ? c : c < NEAR_FOLDED ? t->fold[c] : near_character(c, &parts);
            if (folded > NEAR_MARK) h = ((h ? h : FNV1A64_START) ^ folded) * 0x100000001b3ull;
        } else if (h) {
            t->words = (uint64_t *)mem_grow(t->words, &t->word_capacity, count + 1, sizeof *t->words);
            t->words[count++] = near_mix(h);
            h = 0;
        }
    }
    free(parts.items);
    return count;
}

// Runs of n words: the next from the one before, whose first word goes.
typedef struct {
    uint64_t hash, first; // first: what the oldest word was multiplied by, in all
    size_t n;
} ContaminationRoll;

static inline void contamination_roll_open(ContaminationRoll *r, size_t n) {
    r->hash = 0;
    r->first = 1;
    r->n = n;
    for (size_t i = 0; i < n; i++) r->first *= 0x9e3779b97f4a7c15ull;
}

// The key of the run that ends with word i; 0: there are too few.
static inline uint64_t contamination_roll(ContaminationRoll *r, const uint64_t *words, size_t i) {
    r->hash = r->hash * 0x9e3779b97f4a7c15ull + words[i] - (i >= r->n ? words[i - r->n] * r->first : 0);
    return i + 1 < r->n ? 0 : near_mix(r->hash + r->n) | 1;
}

// ---------------------------------------------------------------- the table

static inline size_t contamination_place(const Contamination *set, uint64_t key) {
    size_t at = (size_t)(key >> 8) & set->mask;
    while (set->slots[at] && set->entries[set->slots[at] - 1].key != key) at = (at + 1) & set->mask;
    return at;
}

static inline bool contamination_add_key(Contamination *set, uint64_t key, uint32_t item, Error *err) {
    if (set->entry_count >= UINT32_MAX / 2) return error_set(err, "more than 2^31 runs of words in --contamination");
    if (set->slots) {
        uint32_t entry = set->slots[contamination_place(set, key)];
        for (; entry; entry = set->entries[entry - 1].next)
            if (set->entries[entry - 1].item == item) return true;
    }
    set->entries = (ContaminationEntry *)mem_grow(set->entries, &set->entry_capacity, set->entry_count + 1,
                                                  sizeof(ContaminationEntry));
    ContaminationEntry *e = &set->entries[set->entry_count++];
    e->key = key, e->item = item, e->next = 0;
    bool grow = 2 * set->entry_count > set->mask;
    if (grow) {
        free(set->slots);
        set->mask = set->mask ? 2 * set->mask + 1 : 1023;
        set->slots = (uint32_t *)mem_alloc((set->mask + 1) * sizeof *set->slots);
    }
    for (size_t i = grow ? 0 : set->entry_count - 1; i < set->entry_count; i++) {
        size_t at = contamination_place(set, set->entries[i].key);
        set->entries[i].next = set->slots[at];
        set->slots[at] = (uint32_t)i + 1;
    }
    return true;
}

// All of an item's texts. *longest: words of the longest.
static inline bool contamination_add_text(Contamination *set, NearText *t, const char *text, size_t n, size_t *longest,
                                          Error *err) {
    size_t words = contamination_words(t, (const uint8_t *)text, (const uint8_t *)text + n),
           length = words < CONTAMINATION_WORDS ? words : CONTAMINATION_WORDS;
    if (words > *longest) *longest = words;
    if (length < CONTAMINATION_LEAST) return true;
    ContaminationRoll roll;
    contamination_roll_open(&roll, length);
    set->lengths[length] = true;
    for (size_t i = 0; i < words; i++) {
        uint64_t key = contamination_roll(&roll, t->words, i);
        if (key && !contamination_add_key(set, key, (uint32_t)set->item_count - 1, err)) return false;
    }
    return true;
}

static inline void contamination_item(Contamination *set, int64_t place) {
    set->items =
        (ContaminationItem *)mem_grow(set->items, &set->item_capacity, set->item_count + 1, sizeof *set->items);
    ContaminationItem *item = &set->items[set->item_count++];
    item->file = set->file_count - 1;
    item->place = place;
    item->documents = 0;
    set->files[item->file].items++;
}

// ---------------------------------------------------------------- files

// The texts of a line of a task file, each ended by a NUL.
static inline bool contamination_texts(Str *out, const Json *line) {
    static const char *const alone[] = {"good", "bad", "text"};
    const Json *context = json_get(line, "context"), *rest = json_get(line, "continuation"),
               *choices = json_get(line, "choices");
    int64_t answer = json_integer(json_get(line, "answer"), -1);
    out->size = 0;
    if (json_is(choices, JSON_ARRAY))
        for (rest = choices->child; rest && answer > 0; answer--) rest = rest->next;
    if (json_is(context, JSON_STRING) || json_is(rest, JSON_STRING)) {
        if (json_is(context, JSON_STRING)) str_add(out, context->text, context->size);
        str_puts(out, " ");
        if (json_is(rest, JSON_STRING)) str_add(out, rest->text, rest->size);
        str_add(out, "", 1);
    }
    for (size_t i = 0; i < 3; i++) {
        const Json *text = json_get(line, alone[i]);
        if (!json_is(text, JSON_STRING)) continue;
        str_add(out, text->text, text->size);
        str_add(out, "", 1);
    }
    return out->size > 0;
}

static inline bool contamination_line(Contamination *set, NearText *t, Str *texts, const char *line, size_t n,
                                      int64_t number, Error *err) {
    ContaminationFile *f = &set->files[set->file_count - 1];
    JsonDoc doc;
    Error why;
    size_t longest = 0;
    const Json *root = json_parse(&doc, line, n, &why);
    bool ok = root ? true : error_set(err, "%.300s:%lld: %.600s", f->path.text, (long long)number, why.text);
    if (ok && !contamination_texts(texts, root))
        ok = error_set(err, "%.300s:%lld has none of context, choices, continuation, good, bad and text", f->path.text,
                       (long long)number);
    if (ok) contamination_item(set, number);
    for (size_t at = 0; ok && at < texts->size; at += strlen(texts->data + at) + 1)
        ok = contamination_add_text(set, t, texts->data + at, strlen(texts->data + at), &longest, err);
    if (ok && longest < CONTAMINATION_LEAST) f->too_short++;
    if (root) json_free(&doc);
    return ok;
}

static inline bool contamination_read(Contamination *set, NearText *t, const char *text, size_t n, Error *err) {
    ContaminationFile *f = &set->files[set->file_count - 1];
    const char *end = text + n, *start = text_skip_space(text, end);
    bool lines = start < end && *start == '{', ok = true;
    Str texts;
    int64_t number = 0;
    memset(&texts, 0, sizeof texts);
    if (text_valid((const uint8_t *)text, (const uint8_t *)end) != n)
        return error_set(err, "%s is not UTF-8; --contamination wants task files (JSON lines) or plain text",
                         f->path.text);
    for (const char *p = text, *next; ok && p < end; p = next) {
        const char *gap = (const char *)memmem(p, (size_t)(end - p), lines ? "\n" : "\n\n", lines ? 1 : 2),
                   *to = gap ? gap : end;
        next = to + (gap ? 1 : 0);
        number += lines;
        if (text_skip_space(p, to) == to) continue;
        if (lines) {
            ok = contamination_line(set, t, &texts, p, (size_t)(to - p), number, err);
            continue;
        }
        size_t longest = 0;
        contamination_item(set, ++number);
        ok = contamination_add_text(set, t, p, (size_t)(to - p), &longest, err);
        if (longest < CONTAMINATION_LEAST) f->too_short++;
    }
    free(texts.data);
    if (ok && f->items == 0) return error_set(err, "%s holds nothing that could be found", f->path.text);
    return ok;
}

static inline void contamination_filter(Contamination *set) {
    size_t bits = 1024;
    while (bits < 16 * set->entry_count) bits *= 2;
    set->filter = (uint64_t *)mem_alloc(bits / 8);
    set->filter_mask = bits - 1;
    for (size_t i = 0; i < set->entry_count; i++) {
        size_t bit = (size_t)(set->entries[i].key >> 20) & set->filter_mask;
        set->filter[bit / 64] |= (uint64_t)1 << bit % 64;
    }
}

static inline void contamination_close(Contamination *set) {
    free(set->files);
    free(set->items);
    free(set->entries);
    free(set->slots);
    free(set->filter);
    memset(set, 0, sizeof *set);
}

static inline bool contamination_open(Contamination *set, const char *list, Error *err) {
    StrList paths;
    NearText t;
    memset(set, 0, sizeof *set);
    memset(&paths, 0, sizeof paths);
    memset(&t, 0, sizeof t);
    bool ok = path_expand(&paths, list, err);
    if (ok) set->files = (ContaminationFile *)mem_alloc((size_t)paths.count * sizeof(ContaminationFile));
    for (int i = 0; ok && i < paths.count; i++) {
        ByteWindow w;
        ContaminationFile *f = &set->files[set->file_count++];
        f->path = path_of("%s", paths.items[i]);
        ok = sha256_file(f->sha256, f->path.text, err) && window_open(&w, f->path.text, err);
        if (!ok) break;
        if (window_want(&w, CONTAMINATION_BYTES))
            ok = error_set(err, "%s has more than %zu bytes, more than an evaluation set has", f->path.text,
                           CONTAMINATION_BYTES);
        else if (w.damage) ok = error_set(err, "%s: %.900s", f->path.text, w.damage->text);
        else ok = contamination_read(set, &t, w.data, w.size, err);
        window_close(&w);
    }
    near_text_free(&t);
    str_list_free(&paths);
    if (ok) contamination_filter(set);
    else contamination_close(set);
    return ok;
}

// ---------------------------------------------------------------- documents

static inline int contamination_order(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// true: there is one. text: valid UTF-8, or nothing is found.
static inline bool contamination_find(const Contamination *set, ContaminationScan *scan, const char *text, size_t n) {
    ContaminationRoll rolls[CONTAMINATION_WORDS];
    int count = 0;
    scan->count = 0;
    if (text_valid((const uint8_t *)text, (const uint8_t *)text + n) != n) return false;
    for (size_t length = CONTAMINATION_LEAST; length <= CONTAMINATION_WORDS; length++)
        if (set->lengths[length]) contamination_roll_open(&rolls[count++], length);
    size_t words = contamination_words(&scan->words, (const uint8_t *)text, (const uint8_t *)text + n);
    for (size_t i = 0; i < words; i++)
        for (int k = 0; k < count; k++) {
            uint64_t key = contamination_roll(&rolls[k], scan->words.words, i);
            size_t bit = (size_t)(key >> 20) & set->filter_mask;
            if (!key || !(set->filter[bit / 64] >> bit % 64 & 1)) continue;
            for (uint32_t e = set->slots[contamination_place(set, key)]; e; e = set->entries[e - 1].next) {
                uint32_t item = set->entries[e - 1].item;
                if (scan->count && scan->items[scan->count - 1] == item) continue;
                scan->items = (uint32_t *)mem_grow(scan->items, &scan->capacity, scan->count + 1, sizeof *scan->items);
                scan->items[scan->count++] = item;
            }
        }
    if (!scan->count) return false;
    size_t kept = 1;
    qsort(scan->items, scan->count, sizeof *scan->items, contamination_order);
    for (size_t i = 1; i < scan->count; i++)
        if (scan->items[i] != scan->items[kept - 1]) scan->items[kept++] = scan->items[i];
    scan->count = kept;
    return true;
}

static inline void contamination_scan_free(ContaminationScan *scan) {
    near_text_free(&scan->words);
    free(scan->items);
    memset(scan, 0, sizeof *scan);
}

// items: in order, so that those of a file stand together.
static inline void contamination_count(Contamination *set, const uint32_t *items, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ContaminationItem *item = &set->items[items[i]];
        if (i == 0 || set->items[items[i - 1]].file != item->file) set->files[item->file].documents++;
        item->documents++;
    }
}

static inline void contamination_describe(Str *s, const Contamination *set) {
    str_puts(s, "[");
    for (int i = 0; i < set->file_count; i++) {
        const ContaminationFile *f = &set->files[i];
        int64_t found = 0;
        for (size_t k = 0; k < set->item_count; k++) found += set->items[k].file == i && set->items[k].documents > 0;
        str_printf(s, "%s\n    {\"path\": ", i ? "," : "");
        json_escape(s, f->path.text, strlen(f->path.text));
        str_printf(s,
                   ", \"sha256\": \"%s\", \"items\": %lld, \"too_short\": %lld, \"items_found\": %lld, \"documents\": "
                   "%lld, \"found\": [",
                   f->sha256, (long long)f->items, (long long)f->too_short, (long long)found, (long long)f->documents);
        const char *comma = "";
        for (size_t k = 0; k < set->item_count; k++) {
            if (set->items[k].file != i || !set->items[k].documents) continue;
            str_printf(s, "%s{\"item\": %lld, \"documents\": %lld}", comma, (long long)set->items[k].place,
                       (long long)set->items[k].documents);
            comma = ", ";
        }
        str_puts(s, "]}");
    }
    str_puts(s, set->file_count ? "\n  ]" : "]");
}

#endif
