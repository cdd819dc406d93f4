/*
removal_list.h: which documents are to be removed: what --remove names.

    RemovalList list;
    removal_list_read(&list, "ids.txt", err)
    removal_list_find(&list, &document)      a document of the corpus or of the shards: one of these?
    removal_list_has(&list, sha256)          after all were asked: is it one of those, or a duplicate of one?
    removal_list_free(&list)

--remove is a SHA-256, or files, each of which is a list or a text. A list has an id a line; empty lines and those that
begin with # count nothing:
    64 hexadecimal digits           SHA-256 of the original
    SOURCE:OFFSET                   where the original stood
    {"sha256": ...}, {"source": ..., "offset": ...}, {"text": ...}, {"origin": {...}}: a line of corpus.jsonl as it is
A file whose first line is no id is a text: the document that is equal to it, as it is or as the steps of clean.h leave
it. A list with a line that is no id is an error, since something would stay that somebody wants removed.

In the end a document is known by the SHA-256 of its original alone. So its duplicates go with it, wherever they are.
*/
#ifndef LLMC_REMOVAL_LIST_H
#define LLMC_REMOVAL_LIST_H

#include "../base/hash.h"
#include "../text/documents.h"
#include "clean.h"

#define REMOVAL_LIST_MOST ((size_t)1 << 30) // bytes of a file of ids, or of a text

typedef struct {
    uint8_t bytes[32];
    int64_t request; // that it is of
} RemovalSum;

typedef struct {
    RemovalSum *items; // (count)
    size_t count, capacity, sorted;
} RemovalSums;

typedef struct {
    char *source;
    int64_t offset, request;
} RemovalPlace;

typedef struct {
    char *said;    // the line, or what stands for a text
    int64_t found; // documents, with duplicates
    int64_t same;  // the request that is counted for both: its own number, or that of one for the same document
} RemovalRequest;

typedef struct {
    RemovalRequest *requests;
    size_t count, capacity;
    RemovalSums originals;
    RemovalSums texts; // of texts as they are
    RemovalPlace *places;
    size_t place_count, place_capacity;
} RemovalList;

// A document as both corpus and shards know it. text: NULL where nobody knows it.
typedef struct {
    uint8_t sha256[32];
    const char *source;
    int64_t offset;
    const char *text; // (n)
    size_t n;
} RemovalDocument;

// ---------------------------------------------------------------- sets

// What stands first in RemovalSum is all that a key needs to have.
static inline int removal_sum_order(const void *key, const void *sum) { return memcmp(key, sum, 32); }

static inline int removal_sum_order_all(const void *a, const void *b) {
    const RemovalSum *x = (const RemovalSum *)a, *y = (const RemovalSum *)b;
    int sums = memcmp(x->bytes, y->bytes, 32);
    return sums ? sums : (x->request > y->request) - (x->request < y->request);
}

static inline int removal_place_order(const void *a, const void *b) {
    const RemovalPlace *x = (const RemovalPlace *)a, *y = (const RemovalPlace *)b;
    int names = strcmp(x->source, y->source);
    return names ? names : (x->offset > y->offset) - (x->offset < y->offset);
}

static inline void removal_sums_add(RemovalSums *s, const uint8_t sha256[32], int64_t request) {
    s->items = (RemovalSum *)mem_grow(s->items, &s->capacity, s->count + 1, sizeof *s->items);
    memcpy(s->items[s->count].bytes, sha256, 32);
    s->items[s->count++].request = request;
}

// Of several requests for one document the first is counted.
static inline void removal_sums_sort(RemovalList *list, RemovalSums *s) {
    if (s->sorted == s->count) return;
    qsort(s->items, s->count, sizeof *s->items, removal_sum_order_all);
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        RemovalSum *last = &s->items[kept ? kept - 1 : 0], *sum = &s->items[i];
        if (kept == 0 || memcmp(last->bytes, sum->bytes, 32) != 0) s->items[kept++] = *sum;
        else if (sum->request != last->request) list->requests[sum->request].same = last->request;
    }
    s->count = s->sorted = kept;
}

// The request that a sum is of; -1: of none.
static inline int64_t removal_sums_find(const RemovalSums *s, const uint8_t sha256[32]) {
    const RemovalSum *found =
        s->sorted ? (const RemovalSum *)bsearch(sha256, s->items, s->sorted, sizeof *s->items, removal_sum_order)
                  : NULL;
    return found ? found->request : -1;
}

static inline void removal_sum_of(uint8_t sha256[32], const char *text, size_t n) {
    Sha256 sum;
    sha256_init(&sum);
    sha256_update(&sum, text, n);
    sha256_final(sha256, &sum);
}

// ---------------------------------------------------------------- reading

static inline int64_t removal_request(RemovalList *list, const char *said, size_t n) {
    list->requests =
        (RemovalRequest *)mem_grow(list->requests, &list->capacity, list->count + 1, sizeof *list->requests);
    RemovalRequest *r = &list->requests[list->count];
    r->said = (char *)mem_alloc(n + 1);
    memcpy(r->said, said, n);
    r->found = 0;
    r->same = (int64_t)list->count;
    return (int64_t)list->count++;
}

static inline void removal_place(RemovalList *list, const char *source, size_t n, int64_t offset, int64_t request) {
    list->places =
        (RemovalPlace *)mem_grow(list->places, &list->place_capacity, list->place_count + 1, sizeof *list->places);
    RemovalPlace *p = &list->places[list->place_count++];
    p->source = (char *)mem_alloc(n + 1);
    memcpy(p->source, source, n);
    p->offset = offset;
    p->request = request;
}

// A text stands for itself and for what cleaning makes of it, with and without placeholders for all personal data.
static inline void removal_text(RemovalList *list, const char *text, size_t n, int64_t request) {
    Str cleaned, spare;
    CleanCounts changed;
    uint8_t sum[32];
    memset(&cleaned, 0, sizeof cleaned);
    memset(&spare, 0, sizeof spare);
    if (n) doc_trim(&text, &n);
    removal_sum_of(sum, text, n);
    removal_sums_add(&list->originals, sum, request);
    removal_sums_add(&list->texts, sum, request);
    for (unsigned kinds = 0; kinds <= PERSONAL_ALL; kinds += PERSONAL_ALL) {
        unsigned steps = ((1u << CLEAN_STEP_COUNT) - 1) | kinds << CLEAN_KINDS;
        if (!clean_text(&cleaned, &spare, text, n, steps, &changed) || !cleaned.size) continue;
        removal_sum_of(sum, cleaned.data, cleaned.size);
        removal_sums_add(&list->texts, sum, request);
    }
    free(cleaned.data);
    free(spare.data);
}

// 64 hexadecimal digits, of either case.
static inline bool removal_hex(uint8_t sha256[32], const char *p, size_t n) {
    char lower[65];
    if (n != 64) return false;
    for (size_t i = 0; i < 64; i++) lower[i] = (char)(p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 'a' : p[i]);
    lower[64] = 0;
    return doc_hex(sha256, lower);
}

static inline bool removal_json(RemovalList *list, const char *p, size_t n) {
    JsonDoc doc;
    uint8_t sum[32];
    const Json *root = json_parse(&doc, p, n, NULL), *origin = json_get(root, "origin");
    if (!root) return false;
    const Json *from = json_is(origin, JSON_OBJECT) ? origin : root, *text = json_get(root, "text"),
               *hex = json_get(from, "sha256"), *source = json_get(from, "source"), *offset = json_get(from, "offset");
    bool known = true;
    if (json_is(hex, JSON_STRING) && removal_hex(sum, hex->text, hex->size))
        removal_sums_add(&list->originals, sum, removal_request(list, p, n));
    else if (!hex && json_is(source, JSON_STRING) && json_integer(offset, -1) >= 0)
        removal_place(list, source->text, source->size, offset->integer, removal_request(list, p, n));
    else if (!hex && !source && json_is(text, JSON_STRING) && text->size)
        removal_text(list, text->text, text->size, removal_request(list, p, n));
    else known = false;
    json_free(&doc);
    return known;
}

// A line of a list; false: it is no id.
static inline bool removal_line(RemovalList *list, const char *p, size_t n) {
    uint8_t sum[32];
    if (removal_hex(sum, p, n)) {
        removal_sums_add(&list->originals, sum, removal_request(list, p, n));
        return true;
    }
    if (*p == '{') return removal_json(list, p, n);
    size_t digits = 0;
    int64_t offset = 0;
    while (digits < n && p[n - 1 - digits] >= '0' && p[n - 1 - digits] <= '9') digits++;
    if (digits == 0 || digits > 18 || digits + 1 >= n || p[n - 1 - digits] != ':') return false;
    for (size_t i = n - digits; i < n; i++) offset = 10 * offset + (p[i] - '0');
    removal_place(list, p, n - digits - 1, offset, removal_request(list, p, n));
    return true;
}

static inline bool removal_file(RemovalList *list, const char *path, Error *err) {
    Str file;
    memset(&file, 0, sizeof file);
    if (!file_read(&file, path, REMOVAL_LIST_MOST, err)) {
        free(file.data);
        return false;
    }
    bool ok = true, ids = false, text = false;
    int64_t number = 0;
    for (const char *p = file.data, *end = p + file.size, *next; ok && !text && p < end; p = next) {
        const char *line = (const char *)memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((line ? line : end) - p);
        next = line ? line + 1 : end;
        number++;
        while (n && strchr(" \t\r", p[n - 1])) n--;
        while (n && strchr(" \t", *p)) p++, n--;
        if (n == 0 || *p == '#') continue;
        if (removal_line(list, p, n)) ids = true;
        else if (!ids) text = true;
        else
            ok = error_set(err,
                           "%s: line %lld is \"%.*s\", which is no id; expected a SHA-256, SOURCE:OFFSET or a JSON "
                           "object with \"sha256\", \"source\" and \"offset\", \"origin\" or \"text\"",
                           path, (long long)number, (int)int64_min((int64_t)n, 100), p);
    }
    if (ok && text) {
        Path said = path_of("the text %s", path);
        removal_text(list, file.data, file.size, removal_request(list, said.text, strlen(said.text)));
    }
    free(file.data);
    return ok && !ids && !text ? error_set(err, "%s names no document to remove", path) : ok;
}

static inline void removal_list_free(RemovalList *list) {
    for (size_t i = 0; i < list->count; i++) free(list->requests[i].said);
    for (size_t i = 0; i < list->place_count; i++) free(list->places[i].source);
    free(list->requests);
    free(list->places);
    free(list->originals.items);
    free(list->texts.items);
    memset(list, 0, sizeof *list);
}

// To be freed in any case.
static inline bool removal_list_read(RemovalList *list, const char *what, Error *err) {
    StrList paths;
    memset(list, 0, sizeof *list);
    memset(&paths, 0, sizeof paths);
    bool ok = true, sum = strlen(what) == 64 && removal_line(list, what, 64);
    if (!sum) ok = path_expand(&paths, what, err);
    for (int i = 0; ok && i < paths.count; i++) ok = removal_file(list, paths.items[i], err);
    str_list_free(&paths);
    removal_sums_sort(list, &list->originals);
    removal_sums_sort(list, &list->texts);
    if (list->place_count) qsort(list->places, list->place_count, sizeof *list->places, removal_place_order);
    return ok;
}

// ---------------------------------------------------------------- asking

// Is a document one that was asked for? The request, -1: it is not. Its sum is noted, so that duplicates are found too,
// which removal_list_has() does when removal_list_settle() was called.
static inline int64_t removal_list_find(RemovalList *list, const RemovalDocument *d) {
    int64_t request = removal_sums_find(&list->originals, d->sha256);
    if (request < 0 && list->place_count) {
        RemovalPlace place = {(char *)(uintptr_t)d->source, d->offset, 0};
        const RemovalPlace *found = (const RemovalPlace *)bsearch(&place, list->places, list->place_count,
                                                                  sizeof *list->places, removal_place_order);
        if (found) request = found->request;
    }
    if (request < 0 && d->text && list->texts.count) {
        uint8_t sum[32];
        removal_sum_of(sum, d->text, d->n);
        request = removal_sums_find(&list->texts, sum);
    }
    if (request >= 0 && removal_sums_find(&list->originals, d->sha256) < 0)
        removal_sums_add(&list->originals, d->sha256, request);
    return request;
}

static inline void removal_list_settle(RemovalList *list) { removal_sums_sort(list, &list->originals); }

static inline bool removal_list_has(const RemovalList *list, const uint8_t sha256[32]) {
    return removal_sums_find(&list->originals, sha256) >= 0;
}

#endif
