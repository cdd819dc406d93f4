/*
shard_writer.h: writes the shards of a set (data.h: the format; shard_set.h: how they appear).

    ShardSet set;  ShardWriter w[2];                          // SIDE_TRAIN, SIDE_VAL
    shard_set_open(&set, "data/german", err);
    shardwriter_open(&w[side], &set, side, vocab_size, hash, eot, limit);
    shardwriter_document(&w[side], &doc, "a.txt");            // if it begins at the next token but doc.first
    shardwriter_add(&w[side], ids, n, text_bytes, documents); // as often as there is something
    shards_finish(w, 2, err) && shards_commit(&set, w, 2, err);
    shards_abort(&set, w, 2);                                 // in any case

Errors stick: shards_finish() reports the first.
*/
#ifndef LLMC_SHARD_WRITER_H
#define LLMC_SHARD_WRITER_H

#include "../base/json.h"
#include "data.h"

typedef struct {
    ShardHeader shard;
    ShardDocsHeader docs;
} ShardComplete;

typedef struct {
    const ShardSet *set;
    int side;
    ShardHeader header;      // of the shard that is being written
    ShardComplete *complete; // (count) of those before it
    size_t count, capacity;
    Xxh64 sum;
    OutFile out;
    OutFile docs; // the list of its documents
    Xxh64 docs_sum;
    int64_t docs_count;
    ShardSources sources;
    bool open;
    int64_t limit; // tokens a shard
    int64_t tokens, documents, bytes;
    int failed; // errno of the first failure
} ShardWriter;

static inline void shardwriter_open(ShardWriter *w, const ShardSet *set, int side, int64_t vocab_size,
                                    uint64_t tokenizer_hash, int64_t eot, int64_t limit) {
    memset(w, 0, sizeof *w);
    w->set = set;
    w->side = side;
    w->limit = limit > 0 ? limit : SHARD_TOKENS;
    w->header.magic = SHARD_MAGIC;
    w->header.version = SHARD_VERSION;
    w->header.token_bytes = vocab_size <= 65536 ? 2 : 4;
    w->header.vocab_size = vocab_size;
    w->header.tokenizer_hash = tokenizer_hash;
    w->header.eot = eot;
}

// Shard number i, or the list of its documents, in the folder where the set is made.
static inline Path shardwriter_path(const ShardWriter *w, size_t i, bool docs) {
    return path_of("%s/%s_%05zu.%s", w->set->staging.text, shard_sides[w->side], i, shard_ending(docs));
}

// Tokens that still fit into the shard that is being written; at least 1.
static inline int64_t shardwriter_room(const ShardWriter *w) {
    return w->open ? w->limit - w->header.tokens : w->limit;
}

// The errno of a file whose bytes did not reach the disk, 0: they did. Closes it.
static inline int shardwriter_close_file(OutFile *f) {
    errno = 0;
    if (!f->failed && fflush(f->stream) != 0) f->failed = errno ? errno : EIO;
    if (!f->failed && fsync(fileno(f->stream)) != 0 && errno != EINVAL) f->failed = errno;
    if (fclose(f->stream) != 0 && !f->failed) f->failed = errno ? errno : EIO;
    f->stream = NULL;
    return f->failed;
}

// All but the headers, which say what set it is of: that is known when all shards are there.
static inline void shardwriter_close_shard(ShardWriter *w) {
    if (!w->open) return;
    w->open = false;
    w->header.checksum = xxh64_value(&w->sum);
    out_write(&w->docs, w->sources.names.data, w->sources.names.size);
    xxh64_update(&w->docs_sum, w->sources.names.data, w->sources.names.size);
    int failed = shardwriter_close_file(&w->out), docs_failed = shardwriter_close_file(&w->docs);
    if (!w->failed) w->failed = failed ? failed : docs_failed;
    w->complete = (ShardComplete *)mem_grow(w->complete, &w->capacity, w->count + 1, sizeof(ShardComplete));
    ShardComplete *c = &w->complete[w->count++];
    memset(c, 0, sizeof *c);
    c->shard = w->header;
    c->docs.magic = SHARD_DOCS_MAGIC;
    c->docs.version = SHARD_DOCS_VERSION;
    c->docs.record_bytes = sizeof(ShardDoc);
    c->docs.documents = w->docs_count;
    c->docs.sources = (int64_t)w->sources.count;
    c->docs.names_bytes = (int64_t)w->sources.names.size;
    c->docs.tokens = w->header.tokens;
    c->docs.tokens_sum = w->header.checksum;
    c->docs.checksum = xxh64_value(&w->docs_sum);
    shard_sources_free(&w->sources);
}

static inline bool shardwriter_open_file(ShardWriter *w, OutFile *f, bool docs, const void *header, size_t n) {
    memset(f, 0, sizeof *f);
    f->path = f->temporary = shardwriter_path(w, w->count, docs);
    int fd = open(f->path.text, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    f->stream = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!f->stream) {
        w->failed = errno ? errno : EIO;
        if (fd >= 0) close(fd);
        return false;
    }
    setvbuf(f->stream, NULL, _IOFBF, 1 << 20);
    out_write(f, header, n); // its place
    return true;
}

static inline void shardwriter_open_shard(ShardWriter *w) {
    ShardHeader empty;
    ShardDocsHeader no_docs;
    memset(&empty, 0, sizeof empty);
    memset(&no_docs, 0, sizeof no_docs);
    if (!shardwriter_open_file(w, &w->out, false, &empty, sizeof empty)) return;
    if (!shardwriter_open_file(w, &w->docs, true, &no_docs, sizeof no_docs)) {
        fclose(w->out.stream);
        return;
    }
    w->open = true;
    w->header.tokens = w->header.documents = w->header.bytes = 0;
    w->docs_count = 0;
    xxh64_init(&w->sum, 0);
    xxh64_init(&w->docs_sum, 0);
}

// A document that begins doc->first tokens behind those that were added, doc->first < shardwriter_room(); the tokens up
// to it must come in the next call of shardwriter_add.
static inline void shardwriter_document(ShardWriter *w, const ShardDoc *doc, const char *source) {
    if (!w->failed && !w->open) shardwriter_open_shard(w);
    if (w->failed) return;
    ShardDoc record = *doc;
    record.first += w->header.tokens;
    record.source = shard_source(&w->sources, source);
    out_write(&w->docs, &record, sizeof record);
    xxh64_update(&w->docs_sum, &record, sizeof record);
    w->docs_count++;
}

// The next n tokens stand in one shard, which may become longer than its limit where they alone are.
static inline void shardwriter_keep_together(ShardWriter *w, int64_t n) {
    if (w->open && w->header.tokens + n > w->limit) shardwriter_close_shard(w);
}

// ids (n), n <= shardwriter_room(): tokens that stand for text_bytes bytes and close `documents` documents.
static inline void shardwriter_add(ShardWriter *w, const int32_t *ids, int64_t n, int64_t text_bytes,
                                   int64_t documents) {
    uint16_t narrow[4096];
    if (w->failed || n == 0) return;
    if (!w->open) shardwriter_open_shard(w);
    if (w->failed) return;
    if (w->header.token_bytes == 4) {
        xxh64_update(&w->sum, ids, (size_t)n * 4);
        out_write(&w->out, ids, (size_t)n * 4);
    } else {
        for (int64_t i = 0; i < n; i += 4096) {
            int64_t piece = int64_min(4096, n - i);
            for (int64_t k = 0; k < piece; k++) narrow[k] = (uint16_t)ids[i + k];
            xxh64_update(&w->sum, narrow, (size_t)piece * 2);
            out_write(&w->out, narrow, (size_t)piece * 2);
        }
    }
    w->failed = w->out.failed ? w->out.failed : w->docs.failed;
    w->header.tokens += n, w->tokens += n;
    w->header.bytes += text_bytes, w->bytes += text_bytes;
    w->header.documents += documents, w->documents += documents;
    if (w->header.tokens >= w->limit) shardwriter_close_shard(w);
}

// ---------------------------------------------------------------- all of a set

// Writes a header (n bytes) over its place.
static inline bool shardwriter_write_header(const ShardWriter *w, size_t i, bool docs, const void *header, size_t n) {
    Path path = shardwriter_path(w, i, docs);
    int fd = open(path.text, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    errno = EIO; // where fewer bytes were written
    bool ok = pwrite(fd, header, n, 0) == (ssize_t)n;
    if (ok && fsync(fd) != 0 && errno != EINVAL) ok = false;
    int why = errno;
    if (close(fd) != 0 && ok) return false;
    errno = why;
    return ok;
}

// Both headers of shard i, which is of this set.
static inline bool shardwriter_write_headers(ShardWriter *w, size_t i, uint64_t set) {
    ShardHeader *h = &w->complete[i].shard;
    ShardDocsHeader *d = &w->complete[i].docs;
    h->set = d->set = set;
    d->set_side = h->set_side;
    d->set_index = h->set_index;
    h->header_sum = xxh64(h, sizeof *h - 8, 0);
    d->header_sum = xxh64(d, sizeof *d - 8, 0);
    return shardwriter_write_header(w, i, false, h, sizeof *h) && shardwriter_write_header(w, i, true, d, sizeof *d);
}

// Completes all shards, still in their own folder. The set's number comes from what is in it: the same text gives the
// same bytes.
static inline bool shards_finish(ShardWriter *writers, int n, Error *err) {
    Xxh64 print;
    xxh64_init(&print, 0);
    for (int k = 0; k < n; k++) {
        ShardWriter *w = &writers[k];
        shardwriter_close_shard(w);
        for (size_t i = 0; i < w->count; i++) {
            ShardHeader *h = &w->complete[i].shard;
            h->set_side = (uint32_t)w->side;
            h->set_index = (uint32_t)i;
            h->set_count = w->count;
            xxh64_update(&print, h, offsetof(ShardHeader, set));
            xxh64_update(&print, &h->set_side, 16);
        }
    }
    uint64_t set = xxh64_value(&print);
    for (int k = 0; k < n; k++) {
        ShardWriter *w = &writers[k];
        size_t at = w->count ? w->count - 1 : 0;
        for (size_t i = 0; !w->failed && i < w->count; i++)
            if (!shardwriter_write_headers(w, at = i, set ? set : 1)) w->failed = errno;
        if (w->failed)
            return error_set(err, "cannot write %s: %s", shard_path(&w->set->name, w->side, (int64_t)at).text,
                             strerror(w->failed));
    }
    return true;
}

// The shards by name, each with its SHA-256; they are complete. To be called before the manifest.
static inline bool shards_sums(Str *s, const ShardWriter writers[2], Error *err) {
    const char *comma = "\n    ";
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < writers[side].count; i++, comma = ",\n    ") {
            const ShardWriter *w = &writers[side];
            const ShardHeader *h = &w->complete[i].shard;
            char sum[65];
            if (!sha256_file(sum, shardwriter_path(w, i, false).text, err)) return false;
            Path path = shard_path(&w->set->name, side, (int64_t)i);
            const char *name = strrchr(path.text, '/') + 1;
            str_printf(s, "%s{\"name\": ", comma);
            json_escape(s, name, strlen(name));
            str_printf(s, ", \"tokens\": %lld, \"bytes\": %lld, \"sha256\": \"%s\", \"xxh64\": \"%016llx\"}",
                       (long long)h->tokens, (long long)(sizeof *h + (uint64_t)h->tokens * h->token_bytes), sum,
                       (unsigned long long)h->checksum);
        }
    return true;
}

// How a manifest of a training and a validation side begins: shards, program, tokenizer; members may follow.
static inline void shards_manifest_begin(Str *s, const ShardWriter writers[2], const ShardSet *set,
                                         const char *program) {
    const ShardWriter *w = &writers[writers[0].count ? 0 : 1];
    str_puts(s, SHARD_MANIFEST_START);
    str_printf(s, "{\"train\": %zu, \"val\": %zu, \"prefix\": ", writers[0].count, writers[1].count);
    json_escape(s, set->name.base, strlen(set->name.base));
    str_printf(s, ", \"set\": \"%016llx\"},\n  \"program\": ", (unsigned long long)w->complete[0].shard.set);
    json_escape(s, program, strlen(program));
    str_printf(s, ",\n  \"tokenizer\": {\"hash\": \"%016llx\", \"vocab_size\": %lld}",
               (unsigned long long)w->header.tokenizer_hash, (long long)w->header.vocab_size);
}

// What stands in its sides. options: an object, or NULL; files: what shards_sums wrote.
static inline void shards_manifest_sides(Str *s, const ShardWriter writers[2], const char *options, const char *files) {
    for (int side = 0; side < 2; side++)
        str_printf(s, ",\n  \"%s\": {\"documents\": %lld, \"tokens\": %lld, \"bytes\": %lld}", shard_sides[side],
                   (long long)writers[side].documents, (long long)writers[side].tokens, (long long)writers[side].bytes);
    if (options) str_printf(s, ",\n  \"options\": %s", options);
    str_printf(s, ",\n  \"files\": [%s\n  ]", files);
}

// What is said of the set, beside it.
static inline bool shards_manifest(const ShardSet *set, const Str *text, Error *err) {
    return file_write_all(path_of("%s/manifest.json", set->staging.text).text, text->data, text->size, err);
}

// After shards_finish() and shards_manifest(): they take the place of those of an earlier run.
static inline bool shards_commit(ShardSet *set, const ShardWriter *writers, int n, Error *err) {
    int64_t counts[3] = {0, 0, 1};
    for (int k = 0; k < n; k++) counts[writers[k].side] = (int64_t)writers[k].count;
    return shard_set_commit(set, counts, err);
}

// Gives back memory; what was not committed is gone, and shards of an earlier run are as they were.
static inline void shards_abort(ShardSet *set, ShardWriter *writers, int n) {
    for (int k = 0; k < n; k++) {
        if (writers[k].open) fclose(writers[k].out.stream), fclose(writers[k].docs.stream);
        shard_sources_free(&writers[k].sources);
        free(writers[k].complete);
        memset(&writers[k], 0, sizeof writers[k]);
    }
    shard_set_abort(set);
}

#endif
