/*
tokenize.h: text files -> documents -> tokens -> shards; what the verb `tokenize` does.

What a document is (DocSplit):
    blank      paragraphs: lines up to the next empty one (a line of spaces, tabs or \r is empty)
    formfeed   what stands between form feeds (\f)
    file       a whole file
    none       a whole file, byte for byte
All but `none` drop a byte order mark, empty lines in front, and white space at the end; what is empty
then is no document. Every document is followed by the end-of-text token, and begins with the token that the tokenizer
puts in front of a text, if it does.

Validation: a document belongs to it if a hash of its text falls below val_fraction. So the split is the
same for any order of files, stays the same when files are added, and two copies of a text are never
divided between training and validation. With two or more documents both sides get at least one (the
one whose hash is nearest). A single document is cut in two, and its tail is the validation text.

Bytes that are not UTF-8 are kept as byte tokens and counted.

The input is read twice, first to find and hash the documents, then to encode them; it may be larger than
memory. Text is encoded in chunks of about 128 kB by all OpenMP threads, and long documents are cut where
no token of any pattern can reach across (text_safe_cut; a text without such places is one chunk). The
shards depend on text, tokenizer and options alone, not on threads. They appear together at the end, and
shards that an earlier run left under the same prefix go away then (shard_set.h).

What is read is text (reader.h); with `none` anything is, and said. No input may be one of the shards that
would be replaced.
*/
#ifndef LLMC_TOKENIZE_H
#define LLMC_TOKENIZE_H

#include "reader.h"
#include "shard_writer.h"
#include "tokenizer.h"
#ifdef _OPENMP
#include <omp.h>
#endif

#define DOC_SPLITS(X) X(DOC_BLANK, "blank") X(DOC_FORMFEED, "formfeed") X(DOC_FILE, "file") X(DOC_NONE, "none")
typedef enum { DOC_SPLITS(CHOICE_ENUM) } DocSplit;

// Zero it; set progress where wanted. Index 0: training, 1: validation.
typedef struct TokenizeStats {
    int files;
    int64_t input_bytes, done_bytes;
    TextCounts counts;
    int strange;  // files that are no text, read byte for byte
    Error what;   // and what the first of them is
    int doubles;  // files that were named twice, under this name or another
    Path doubled; // the first of them
    int empty;    // files without a document
    Path without; // the first of them
    int64_t documents[2], tokens[2], bytes[2];
    int shards[2];
    bool tail; // one document: its tail became the validation text
    double seconds;
    void (*progress)(const struct TokenizeStats *); // called every few MB, or NULL
} TokenizeStats;

// ---------------------------------------------------------------- documents

typedef struct {
    const char *p, *end; // of the text not yet read
    DocSplit split;
} DocReader;

// The line at p is empty: where the next one begins. Otherwise p.
static inline const char *doc_skip_empty_line(const char *p, const char *end) {
    const char *c = p;
    while (c < end && (*c == ' ' || *c == '\t' || *c == '\r')) c++;
    return c == end ? end : *c == '\n' ? c + 1 : p;
}

static inline const char *doc_skip_empty_lines(const char *p, const char *end) {
    for (;;) {
        const char *next = doc_skip_empty_line(p, end);
        if (next == p) return p;
        p = next;
    }
}

static inline void doc_begin(DocReader *r, const TextFile *f, DocSplit split) {
    r->p = f->text;
    r->end = f->text + f->size;
    r->split = split;
}

// The next document of a file, not empty; false: there is no more.
static inline bool doc_next(DocReader *r, const char **text, size_t *n) {
    while (r->p < r->end) {
        const char *start = r->p, *end = r->end;
        r->p = r->end;
        if (r->split == DOC_FORMFEED) {
            const char *feed = (const char *)memchr(start, '\f', (size_t)(end - start));
            if (feed) end = feed, r->p = feed + 1;
        }
        if (r->split != DOC_NONE) start = doc_skip_empty_lines(start, end);
        if (r->split == DOC_BLANK) {
            for (const char *line = start; line < end;) {
                const char *newline = (const char *)memchr(line, '\n', (size_t)(end - line));
                if (!newline) break;
                line = newline + 1;
                const char *next = doc_skip_empty_line(line, end);
                if (next == line) continue;
                r->p = next;
                end = newline;
            }
        }
        if (r->split != DOC_NONE)
            while (end > start && text_is_space(end[-1])) end--;
        if (end == start) continue;
        *text = start;
        *n = (size_t)(end - start);
        return true;
    }
    return false;
}

// ---------------------------------------------------------------- the split

// What the first pass finds out.
typedef struct {
    int64_t documents, bytes, validation;
    uint64_t smallest, largest;            // hashes
    int64_t smallest_index, largest_index; // of their first documents
    uint64_t print;                        // of all hashes: has a file changed between the passes?
} DocCensus;

static inline uint64_t doc_hash(const char *text, size_t n) { return xxh64(text, n, 0x56414c); }

static inline bool doc_below(uint64_t hash, double fraction) { return (double)(hash >> 11) * 0x1p-53 < fraction; }

static inline void census_add(DocCensus *c, uint64_t hash, size_t n, double val_fraction) {
    if (c->documents == 0 || hash < c->smallest) c->smallest = hash, c->smallest_index = c->documents;
    if (c->documents == 0 || hash > c->largest) c->largest = hash, c->largest_index = c->documents;
    c->validation += doc_below(hash, val_fraction);
    c->print = (c->print ^ hash) * 0x9e3779b97f4a7c15ull;
    c->bytes += (int64_t)n;
    c->documents++;
}

// The side of document number `index`, with its hash.
static inline int census_side(const DocCensus *c, int64_t index, uint64_t hash, double val_fraction) {
    if (val_fraction <= 0) return SIDE_TRAIN;
    if (c->validation == 0) return index == c->smallest_index ? SIDE_VAL : SIDE_TRAIN;
    if (c->validation == c->documents) return index == c->largest_index ? SIDE_TRAIN : SIDE_VAL;
    return doc_below(hash, val_fraction) ? SIDE_VAL : SIDE_TRAIN;
}

static inline bool tokenize_no_text(const TokenizeStats *stats, Error *err) {
    return error_set(err, "no text to tokenize: %d file%s with %lld bytes, and not one document", stats->files,
                     stats->files == 1 ? "" : "s", (long long)stats->input_bytes);
}

// ids (paths): of the files.
static inline bool tokenize_census(DocCensus *c, FileId *ids, const StrList *paths, double val_fraction, DocSplit split,
                                   TokenizeStats *stats, Error *err) {
    memset(c, 0, sizeof *c);
    for (int i = 0; i < paths->count; i++) {
        TextFile f;
        DocReader r;
        const char *text;
        size_t n;
        if (!text_file_open(&f, paths->items[i], split == DOC_NONE, err)) return false;
        if (f.foreign && stats->strange++ == 0) error_set(&stats->what, "%s is %s", paths->items[i], f.foreign);
        stats->files++;
        stats->input_bytes += (int64_t)f.file.size;
        ids[i] = f.file.id;
        doc_begin(&r, &f, split);
        int64_t before = c->documents;
        while (doc_next(&r, &text, &n)) census_add(c, doc_hash(text, n), n, val_fraction);
        if (c->documents == before && stats->empty++ == 0) stats->without = path_of("%s", paths->items[i]);
        text_file_close(&f);
    }
    return c->documents > 0 || tokenize_no_text(stats, err);
}

// Where the validation part of a single document begins: at the start of a line, else of a word, else of a
// character; 0 or n: it cannot be cut.
static inline size_t tokenize_tail(const char *text, size_t n, double val_fraction) {
    size_t at = (size_t)((double)n * (1.0 - val_fraction));
    if (at >= n) at = n - 1;
    const char *newline = (const char *)memchr(text + at, '\n', n - at);
    if (newline && newline + 1 < text + n) return (size_t)(newline + 1 - text);
    const char *space = (const char *)memchr(text + at, ' ', n - at);
    if (space) return (size_t)(space - text);
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
    return at;
}

// ---------------------------------------------------------------- batches

#define TOKENIZE_CHUNK ((size_t)128 << 10) // bytes of text that one thread encodes at a time
#define TOKENIZE_MAX_FILES 1000            // that are mapped at the same time

typedef struct {
    const char *text; // (n)
    size_t n;
    int side;
    bool first, last; // of its document
} TokenizePiece;

typedef struct {
    size_t first, count; // pieces
    size_t bytes;
    IdList ids[2]; // what they become, for each side
    int64_t text_bytes[2], documents[2];
    TextCounts counts;
} TokenizeChunk;

typedef struct {
    const Tokenizer *tok;
    ShardWriter writers[2];
    TokenizePiece *pieces;
    size_t piece_count, piece_capacity;
    TokenizeChunk *chunks; // (chunk_limit), their id lists are used again
    int chunk_count, chunk_limit;
    TokenizerCache *caches; // (threads)
    int threads;
    TextFile files[TOKENIZE_MAX_FILES];
    int file_count;
    TokenizeStats *stats;
} Tokenize;

// Bytes of text that ids (n) stand for, and how many close a document.
static inline void tokenize_measure(const Tokenizer *tok, const int32_t *ids, size_t n, int64_t *bytes,
                                    int64_t *documents) {
    int length;
    *bytes = *documents = 0;
    for (size_t i = 0; i < n; i++) {
        tokenizer_bytes(tok, ids[i], &length);
        *bytes += length;
        *documents += ids[i] == tok->eot;
    }
}

static inline int64_t tokenize_count_invalid(const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    int64_t invalid = 0;
    while (p < end) {
        p += text_valid(p, end);
        size_t run = p < end ? text_invalid(p, end) : 0;
        invalid += (int64_t)run;
        p += run;
    }
    return invalid;
}

static inline void tokenize_chunk(const Tokenize *t, TokenizeChunk *c, TokenizerCache *cache) {
    memset(&c->counts, 0, sizeof c->counts);
    c->ids[0].count = c->ids[1].count = 0;
    memset(c->text_bytes, 0, sizeof c->text_bytes);
    memset(c->documents, 0, sizeof c->documents);
    for (size_t i = c->first; i < c->first + c->count; i++) {
        const TokenizePiece *piece = &t->pieces[i];
        if (piece->first && t->tok->bos >= 0) id_list_add(&c->ids[piece->side], t->tok->bos);
        tokenizer_encode(t->tok, cache, piece->text, piece->n, &c->ids[piece->side]);
        if (piece->last) id_list_add(&c->ids[piece->side], t->tok->eot);
        c->text_bytes[piece->side] += (int64_t)piece->n;
        c->documents[piece->side] += piece->last;
        c->counts.invalid += tokenize_count_invalid(piece->text, piece->n);
        text_count(&c->counts, piece->text, piece->n);
    }
    // Normalisation changes the number of bytes; and an end of text that is not special can be in the text.
    bool known = !t->tok->nfc && tokenizer_kind(t->tok, t->tok->eot) == TOKEN_SPECIAL;
    for (int side = 0; side < 2 && !known; side++)
        tokenize_measure(t->tok, c->ids[side].items, c->ids[side].count, &c->text_bytes[side], &c->documents[side]);
}

// Writes the ids of one side, cut where shards are full.
static inline void tokenize_write(Tokenize *t, const TokenizeChunk *c, int side) {
    ShardWriter *w = &t->writers[side];
    const IdList *ids = &c->ids[side];
    if ((int64_t)ids->count <= shardwriter_room(w)) {
        shardwriter_add(w, ids->items, (int64_t)ids->count, c->text_bytes[side], c->documents[side]);
        return;
    }
    for (int64_t at = 0, n; at < (int64_t)ids->count; at += n) {
        int64_t bytes, documents;
        n = int64_min(shardwriter_room(w), (int64_t)ids->count - at);
        tokenize_measure(t->tok, ids->items + at, (size_t)n, &bytes, &documents);
        shardwriter_add(w, ids->items + at, n, bytes, documents);
    }
}

// Encodes what has been collected and hands it to the writers; gives back the files before `keep`.
static inline void tokenize_flush(Tokenize *t, int keep) {
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(t->threads)
    for (int i = 0; i < t->chunk_count; i++) tokenize_chunk(t, &t->chunks[i], &t->caches[omp_get_thread_num()]);
#else
    for (int i = 0; i < t->chunk_count; i++) tokenize_chunk(t, &t->chunks[i], &t->caches[0]);
#endif
    for (int i = 0; i < t->chunk_count; i++) {
        for (int side = 0; side < 2; side++) tokenize_write(t, &t->chunks[i], side);
        text_counts_add(&t->stats->counts, &t->chunks[i].counts);
        t->stats->done_bytes += (int64_t)t->chunks[i].bytes;
    }
    if (signals_waiting(&t->writers[0].set->hold)) t->writers[0].failed = EINTR;
    t->chunk_count = 0;
    t->piece_count = 0;
    int kept = 0;
    for (int i = 0; i < t->file_count; i++)
        if (i < keep) text_file_close(&t->files[i]);
        else t->files[kept++] = t->files[i];
    t->file_count = kept;
    for (int side = 0; side < 2; side++) {
        t->stats->documents[side] = t->writers[side].documents;
        t->stats->tokens[side] = t->writers[side].tokens;
        t->stats->bytes[side] = t->writers[side].bytes;
    }
    if (t->stats->progress) t->stats->progress(t->stats);
}

static inline void tokenize_piece(Tokenize *t, const char *text, size_t n, int side, bool first, bool last) {
    TokenizeChunk *c = t->chunk_count ? &t->chunks[t->chunk_count - 1] : NULL;
    if (!c || c->bytes + n > TOKENIZE_CHUNK) {
        if (t->chunk_count == t->chunk_limit) tokenize_flush(t, t->file_count - 1);
        c = &t->chunks[t->chunk_count++];
        c->first = t->piece_count;
        c->count = c->bytes = 0;
    }
    t->pieces = (TokenizePiece *)mem_grow(t->pieces, &t->piece_capacity, t->piece_count + 1, sizeof(TokenizePiece));
    TokenizePiece *p = &t->pieces[t->piece_count++];
    p->text = text, p->n = n, p->side = side, p->first = first, p->last = last;
    c->count++;
    c->bytes += n;
}

// A document, in pieces of about a chunk.
static inline void tokenize_document(Tokenize *t, const char *text, size_t n, int side, bool may_cut) {
    bool first = true;
    while (may_cut && n > TOKENIZE_CHUNK) {
        size_t at = text_safe_cut(t->tok->pattern, text, n, TOKENIZE_CHUNK - TOKENIZE_CHUNK / 8);
        if (at == n) break;
        tokenize_piece(t, text, at, side, first, false);
        text += at, n -= at, first = false;
    }
    tokenize_piece(t, text, n, side, first, true);
}

// The second pass.
static inline bool tokenize_encode_files(Tokenize *t, const StrList *paths, const DocCensus *census,
                                         double val_fraction, DocSplit split, Error *err) {
    DocCensus again;
    memset(&again, 0, sizeof again);
    bool may_cut = true, ok = true; // an added token with a line feed in it could reach over a cut
    for (int stage = 0; stage < 2; stage++)
        for (int i = 0; i < t->tok->added_count[stage]; i++)
            may_cut = may_cut && !memchr(t->tok->added[stage][i].text, '\n', t->tok->added[stage][i].size);
    for (int i = 0; ok && i < paths->count; i++) {
        DocReader r;
        const char *text;
        size_t n;
        if (t->file_count == TOKENIZE_MAX_FILES) tokenize_flush(t, t->file_count);
        if (!text_file_open(&t->files[t->file_count], paths->items[i], split == DOC_NONE, err)) return false;
        doc_begin(&r, &t->files[t->file_count++], split);
        while (ok && doc_next(&r, &text, &n)) {
            uint64_t hash = doc_hash(text, n);
            int side = census_side(census, again.documents, hash, val_fraction);
            census_add(&again, hash, n, val_fraction);
            if (census->documents == 1 && val_fraction > 0) {
                size_t tail = tokenize_tail(text, n, val_fraction);
                t->stats->tail = tail > 0 && tail < n;
                if (t->stats->tail) tokenize_document(t, text, tail, SIDE_TRAIN, may_cut);
                else tail = 0;
                tokenize_document(t, text + tail, n - tail, t->stats->tail ? SIDE_VAL : SIDE_TRAIN, may_cut);
            } else {
                tokenize_document(t, text, n, side, may_cut);
            }
            ok = !t->writers[0].failed && !t->writers[1].failed;
        }
    }
    tokenize_flush(t, t->file_count);
    if (ok && (again.print != census->print || again.documents != census->documents))
        return error_set(err, "the input files changed while they were read; run it again when they are complete");
    return true;
}

// The second pass, into a set of shards.
static inline bool tokenize_encode(const Tokenizer *tok, const StrList *paths, const DocCensus *census, ShardSet *set,
                                   double val_fraction, DocSplit split, int64_t shard_tokens, TokenizeStats *stats,
                                   Error *err) {
    Tokenize *t = (Tokenize *)mem_alloc(sizeof(Tokenize));
    t->tok = tok;
    t->stats = stats;
    t->threads = 1;
#ifdef _OPENMP
    t->threads = omp_get_max_threads();
#endif
    t->caches = (TokenizerCache *)mem_alloc((size_t)t->threads * sizeof(TokenizerCache));
    t->chunk_limit = t->threads * 16; // enough that no thread waits long for the last chunk
    t->chunks = (TokenizeChunk *)mem_alloc((size_t)t->chunk_limit * sizeof(TokenizeChunk));
    for (int side = 0; side < 2; side++)
        shardwriter_open(&t->writers[side], set, side, tok->vocab_size, tok->hash, tok->eot, shard_tokens);

    bool ok = tokenize_encode_files(t, paths, census, val_fraction, split, err) && shards_finish(t->writers, 2, err);
    for (int side = 0; side < 2; side++) stats->shards[side] = (int)t->writers[side].count;
    ok = ok && shards_commit(set, t->writers, 2, err);
    shards_abort(set, t->writers, 2);

    for (int i = 0; i < t->threads; i++) tokenizer_cache_free(&t->caches[i]);
    for (int i = 0; i < t->chunk_limit; i++) free(t->chunks[i].ids[0].items), free(t->chunks[i].ids[1].items);
    for (int i = 0; i < t->file_count; i++) text_file_close(&t->files[i]);
    free(t->caches);
    free(t->chunks);
    free(t->pieces);
    free(t);
    return ok;
}

// Writes PREFIX_train_00000.bin ... and PREFIX_val_00000.bin ... from "FILE,GLOB,..."; shard_tokens 0: the
// usual size. On false nothing was written, and earlier shards are as they were.
static inline bool tokenize_files(const Tokenizer *tok, const char *inputs, const char *out_prefix, double val_fraction,
                                  int doc_split, int64_t shard_tokens, TokenizeStats *stats, Error *err) {
    double start = clock_seconds();
    DocSplit split = (DocSplit)doc_split;
    StrList paths;
    DocCensus census;
    ShardName name;
    ShardSet set;
    memset(&paths, 0, sizeof paths);
    if (tok->eot < 0)
        return error_set(err,
                         "the tokenizer has no token for the end of a text: neither one called %s or the like, nor do "
                         "files beside it name one; name it by --end_token=NAME",
                         TOKENIZER_EOT);
    if (!(val_fraction >= 0 && val_fraction < 1))
        return error_set(err, "val_fraction must be at least 0 and less than 1, it is %g", val_fraction);
    if (!shard_prefix_parse(&name, out_prefix, err)) return false;
    bool ok = path_expand(&paths, inputs, err);
    FileId *ids = (FileId *)mem_alloc((size_t)paths.count * sizeof(FileId));
    ok = ok && tokenize_census(&census, ids, &paths, val_fraction, split, stats, err) &&
         shard_set_open(&set, out_prefix, err);
    if (ok) {
        stats->doubles = text_doubles(ids, &paths, &stats->doubled);
        ok = shard_set_replaces(&name, ids, (size_t)paths.count, err);
        if (!ok) shard_set_abort(&set);
    }
    ok = ok && tokenize_encode(tok, &paths, &census, &set, val_fraction, split, shard_tokens, stats, err);
    free(ids);
    str_list_free(&paths);
    stats->seconds = clock_seconds() - start;
    return ok;
}

#endif
