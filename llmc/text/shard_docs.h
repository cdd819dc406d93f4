/*
shard_docs.h: which documents stand in a shard: PREFIX_train_00000.docs beside PREFIX_train_00000.bin.

    ShardDocsHeader, 128 bytes
    ShardDoc (documents), 56 bytes each, in the order of their first tokens
    names of sources (names_bytes), each closed by a NUL; ShardDoc.source counts them from 0

A document stands in the file of the shard in which it begins. Tokens before the first document of a shard belong to the
last one of the shard before. The header names the shard by its set (data.h) and its tokens by their checksum, so that a
.docs file of another run is found. XXH64 over everything, as in shards.

    ShardDocs d;
    shard_docs_open(&d, "data/german_train_00000.docs", err)   d.header, d.items, shard_docs_source(&d, i)
    shard_docs_close(&d)
*/
#ifndef LLMC_SHARD_DOCS_H
#define LLMC_SHARD_DOCS_H

#include "../base/hash.h"
#include "shard_set.h"

#define SHARD_DOCS_VERSION 1

typedef struct {
    uint64_t magic; // SHARD_DOCS_MAGIC
    uint32_t version;
    uint32_t record_bytes; // sizeof(ShardDoc)
    int64_t documents;
    int64_t sources; // names
    int64_t names_bytes;
    uint64_t set; // of the shard: ShardHeader.set, set_side, set_index, tokens, checksum
    uint32_t set_side;
    uint32_t set_index;
    int64_t tokens;
    uint64_t tokens_sum;
    uint64_t checksum;    // of all bytes behind the header
    uint64_t reserved[5]; // zero
    uint64_t header_sum;  // of the 120 bytes before it
} ShardDocsHeader;

enum { SHARD_DOC_PART = 1 }; // the document was cut in two: one half is for training, the other for validation

typedef struct {
    uint8_t sha256[32]; // of the original's text: without empty lines in front and white space at the end
    int64_t first;      // token in the shard
    int64_t offset;     // of the document in its source, in bytes of the unpacked file (of parquet: its row)
    uint32_t source;
    uint32_t flags; // SHARD_DOC_...
} ShardDoc;

typedef char shard_docs_sizes[sizeof(ShardDocsHeader) == 128 && sizeof(ShardDoc) == 56 ? 1 : -1];

// ---------------------------------------------------------------- reading

typedef struct {
    MappedFile file;
    ShardDocsHeader header;
    const uint8_t *records; // (documents) of sizeof(ShardDoc)
    const char **names;     // (sources)
} ShardDocs;

static inline ShardDoc shard_docs_item(const ShardDocs *d, int64_t i) {
    ShardDoc doc;
    memcpy(&doc, d->records + (size_t)i * sizeof doc, sizeof doc);
    return doc;
}

static inline void shard_docs_close(ShardDocs *d) {
    file_unmap(&d->file);
    free(d->names);
    memset(d, 0, sizeof *d);
}

// Whether what is mapped is a whole and sound file.
static inline bool shard_docs_check(ShardDocs *d, const char *path, Error *err) {
    const ShardDocsHeader *h = &d->header;
    size_t size = d->file.size;
    if (size < sizeof *h) return error_set(err, "%s has %zu bytes, too few for a list of documents", path, size);
    memcpy(&d->header, d->file.data, sizeof *h);
    if (h->magic != SHARD_DOCS_MAGIC || h->version != SHARD_DOCS_VERSION || h->record_bytes != sizeof(ShardDoc))
        return error_set(err, "%s is no list of documents of version %d", path, SHARD_DOCS_VERSION);
    size_t behind = size - sizeof *h;
    bool ok = h->header_sum == xxh64(h, sizeof *h - 8, 0) && h->documents >= 0 && h->names_bytes >= 0 &&
              h->sources >= 0 && (uint64_t)h->documents <= behind / sizeof(ShardDoc) &&
              (uint64_t)h->sources <= behind &&
              behind - (size_t)h->documents * sizeof(ShardDoc) == (size_t)h->names_bytes &&
              h->checksum == xxh64(d->file.data + sizeof *h, behind, 0);
    if (!ok) return error_set(err, "%s is damaged or not complete; tokenise again", path);
    d->records = d->file.data + sizeof *h;
    d->names = (const char **)mem_alloc((size_t)h->sources * sizeof(char *));
    const char *name = (const char *)d->records + (size_t)h->documents * sizeof(ShardDoc), *end = name + h->names_bytes;
    int64_t names = 0;
    for (const char *zero; name < end && names < h->sources; name = zero + 1) {
        zero = (const char *)memchr(name, 0, (size_t)(end - name));
        if (!zero) break;
        d->names[names++] = name;
    }
    ok = names == h->sources && name == end;
    int64_t before = -1;
    for (int64_t i = 0; ok && i < h->documents; i++) {
        ShardDoc doc = shard_docs_item(d, i);
        ok = doc.first > before && doc.first < h->tokens && doc.source < h->sources;
        before = doc.first;
    }
    return ok ? true : error_set(err, "%s is damaged: its documents contradict each other; tokenise again", path);
}

static inline bool shard_docs_open(ShardDocs *d, const char *path, Error *err) {
    memset(d, 0, sizeof *d);
    if (!file_map(&d->file, path, err)) return false;
    if (shard_docs_check(d, path, err)) return true;
    shard_docs_close(d);
    return false;
}

// ---------------------------------------------------------------- writing

// The names of sources of one shard, each once.
typedef struct {
    Str names;
    uint32_t *slots; // number + 1; 0: free
    size_t *starts;  // (count) of the names
    size_t count, capacity, mask;
    uint32_t last; // the one that was asked for last
} ShardSources;

static inline uint32_t shard_source(ShardSources *s, const char *name) {
    if (s->count && strcmp(s->names.data + s->starts[s->last], name) == 0) return s->last;
    if (2 * (s->count + 1) > s->mask) {
        size_t slots = s->mask ? 2 * (s->mask + 1) : 256;
        free(s->slots);
        s->slots = (uint32_t *)mem_alloc(slots * sizeof *s->slots);
        s->mask = slots - 1;
        for (size_t i = 0; i < s->count; i++) {
            const char *old = s->names.data + s->starts[i];
            size_t at = (size_t)fnv1a64(old, strlen(old), FNV1A64_START) & s->mask;
            while (s->slots[at]) at = (at + 1) & s->mask;
            s->slots[at] = (uint32_t)i + 1;
        }
    }
    size_t at = (size_t)fnv1a64(name, strlen(name), FNV1A64_START) & s->mask;
    for (; s->slots[at]; at = (at + 1) & s->mask)
        if (strcmp(s->names.data + s->starts[s->slots[at] - 1], name) == 0) return s->last = s->slots[at] - 1;
    s->starts = (size_t *)mem_grow(s->starts, &s->capacity, s->count + 1, sizeof *s->starts);
    s->starts[s->count] = s->names.size;
    str_add(&s->names, name, strlen(name) + 1);
    s->slots[at] = (uint32_t)s->count + 1;
    return s->last = (uint32_t)s->count++;
}

static inline void shard_sources_free(ShardSources *s) {
    free(s->names.data);
    free(s->slots);
    free(s->starts);
    memset(s, 0, sizeof *s);
}

#endif
