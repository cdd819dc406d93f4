/*
tokenize.h: text files -> documents -> tokens -> shards; what the verb `tokenize` does.

What a document of plain text is (DocSplit):
    blank      paragraphs: lines up to the next empty one (a line of spaces, tabs or \r is empty)
    formfeed   what stands between form feeds (\f)
    file       a whole file
    none       a whole file, byte for byte, whatever it is
All but `none` drop a byte order mark, empty lines in front, and white space at the end; what is empty then is no
document. They also unpack files, and take the documents that JSON lines, WARC, tar and the like hold (documents.h); a
file in a folder is one document. Every document is followed by the end-of-text token, and begins with the token that
the tokenizer puts in front of a text, if it does.

Validation: a document belongs to it if a hash of its text falls below val_fraction. So the split is the
same for any order of files, stays the same when files are added, and two copies of a text are never
divided between training and validation. With two or more documents both sides get at least one (the
one whose hash is nearest). A single document is cut in two, and its tail is the validation text.

Bytes that are not UTF-8 are kept as byte tokens and counted.

The input is read once: documents wait until both sides have one, since from then on the hash alone decides. Where
TOKENIZE_HOLD bytes of text do not tell, all is read once before to count, and again. It may be larger than memory.
Text is encoded in chunks of about 128 kB by all OpenMP threads, and long documents are cut where
no token of any pattern can reach across (text_safe_cut; a text without such places is one chunk). The
shards depend on text, tokenizer and options alone, not on threads. They appear together at the end, and
shards that an earlier run left under the same prefix go away then (shard_set.h).

Beside each shard: its documents with SHA-256, source and offset (shard_docs.h); beside the set: PREFIX_manifest.json.
No input may be one of the files that would be replaced.
*/
#ifndef LLMC_TOKENIZE_H
#define LLMC_TOKENIZE_H

#include "doc_inputs.h"
#include "shard_writer.h"
#include "tokenizer.h"
#ifdef _OPENMP
#include <omp.h>
#endif

// Zero it; set progress where wanted. Index 0: training, 1: validation.
typedef struct TokenizeStats {
    int files;
    int64_t input_bytes, done_bytes; // on disk; of text
    TextCounts counts;
    int strange;      // files that are no text, read byte for byte
    Error what;       // and what the first of them is
    int doubles;      // files that were named twice, under this name or another
    Path doubled;     // the first of them
    int empty;        // files without a document
    Path without;     // the first of them
    DocDamage damage; // what was left out; str_list_free(&damage.named)
    int64_t documents[2], tokens[2], bytes[2];
    int shards[2];
    bool tail; // one document: its tail became the validation text
    double seconds;
    void (*progress)(const struct TokenizeStats *); // called every few MB, or NULL
} TokenizeStats;

// ---------------------------------------------------------------- the split

// What is known of the documents that were looked at.
typedef struct {
    int64_t documents, bytes, validation;
    uint64_t smallest, largest;            // hashes
    int64_t smallest_index, largest_index; // of their first documents
    uint64_t print;                        // of all hashes: has a file changed between two passes?
} DocCensus;

static inline bool doc_below(uint64_t hash, double fraction) { return (double)(hash >> 11) * 0x1p-53 < fraction; }

static inline void census_add(DocCensus *c, uint64_t hash, size_t n, double val_fraction) {
    if (c->documents == 0 || hash < c->smallest) c->smallest = hash, c->smallest_index = c->documents;
    if (c->documents == 0 || hash > c->largest) c->largest = hash, c->largest_index = c->documents;
    c->validation += doc_below(hash, val_fraction);
    c->print = (c->print ^ hash) * 0x9e3779b97f4a7c15ull;
    c->bytes += (int64_t)n;
    c->documents++;
}

// Both sides have a document: from here on the hash decides.
static inline bool census_decided(const DocCensus *c, double val_fraction) {
    return val_fraction <= 0 || (c->validation > 0 && c->validation < c->documents);
}

// The side of document number `index`, with its hash; c: of all documents, or decided.
static inline int census_side(const DocCensus *c, int64_t index, uint64_t hash, double val_fraction) {
    if (val_fraction <= 0) return SIDE_TRAIN;
    if (c->validation == 0) return index == c->smallest_index ? SIDE_VAL : SIDE_TRAIN;
    if (c->validation == c->documents) return index == c->largest_index ? SIDE_TRAIN : SIDE_VAL;
    return doc_below(hash, val_fraction) ? SIDE_VAL : SIDE_TRAIN;
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
#define TOKENIZE_BATCHES 1000              // of documents that are kept at the same time, and files mapped for them
#define TOKENIZE_HOLD ((int64_t)64 << 20)  // bytes of text that wait for both sides to have a document

typedef struct {
    const char *text; // (n)
    size_t n;
    const Document *doc;
    int side;
    bool first, last; // of its document
    bool part;        // its document is cut in two
} TokenizePiece;

// Where a document begins among the tokens of a chunk.
typedef struct {
    ShardDoc record;
    const char *source;
} TokenizeMark;

typedef struct {
    size_t first, count; // pieces
    size_t bytes;
    IdList ids[2]; // what they become, for each side
    TokenizeMark *marks[2];
    size_t mark_count[2], mark_capacity[2];
    int64_t text_bytes[2], documents[2];
    TextCounts counts;
    bool encoded; // and not yet written
} TokenizeChunk;

// What is read, with which tokenizer, and how it is divided.
typedef struct {
    const Tokenizer *tok;
    const char *inputs; // "FILE,GLOB,..."
    DocSettings docs;
    double val_fraction;
    int64_t shard_tokens; // 0: the usual number
    int64_t hold;         // 0: TOKENIZE_HOLD
    const char *program;  // which one it is, for the manifest
    const char *options;  // what it was told, a JSON object, for the manifest; NULL: it does not say
} TokenizeJob;

typedef struct {
    const TokenizeJob *job;
    const Tokenizer *tok;
    ShardWriter writers[2];
    TokenizePiece *pieces;
    size_t piece_count, piece_capacity;
    TokenizeChunk *chunks; // (chunk_limit), their lists are used again
    int chunk_count, chunk_limit, written;
#ifdef _OPENMP
    omp_lock_t writing;
#endif
    TokenizerCache *caches; // (threads)
    int threads;
    bool may_cut;
    DocInputs inputs;
    DocBatch **batches;                             // (batch_count) whose texts are in use
    size_t batch_count, batch_capacity, batch_done; // of the first batch_done all documents are among the pieces
    DocCensus census;                               // of what came before the first document was given out, or of all
    DocCensus again;                                // of what was given out
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

// Notes where a document begins.
static inline void tokenize_mark(TokenizeChunk *c, const TokenizePiece *piece) {
    int side = piece->side;
    const Document *d = piece->doc;
    c->marks[side] = (TokenizeMark *)mem_grow(c->marks[side], &c->mark_capacity[side], c->mark_count[side] + 1,
                                              sizeof(TokenizeMark));
    TokenizeMark *m = &c->marks[side][c->mark_count[side]++];
    memset(m, 0, sizeof *m);
    m->source = d->source;
    m->record.first = (int64_t)c->ids[side].count;
    m->record.offset = d->offset;
    m->record.flags = piece->part ? SHARD_DOC_PART : 0;
    memcpy(m->record.sha256, d->sha256, 32);
    if (d->known) return;
    Sha256 sum;
    sha256_init(&sum);
    sha256_update(&sum, d->text, d->n);
    sha256_final(m->record.sha256, &sum);
}

static inline void tokenize_chunk(const Tokenize *t, TokenizeChunk *c, TokenizerCache *cache) {
    memset(&c->counts, 0, sizeof c->counts);
    c->mark_count[0] = c->mark_count[1] = 0;
    c->ids[0].count = c->ids[1].count = 0;
    memset(c->text_bytes, 0, sizeof c->text_bytes);
    memset(c->documents, 0, sizeof c->documents);
    cache->invalid = 0;
    for (size_t i = c->first; i < c->first + c->count; i++) {
        const TokenizePiece *piece = &t->pieces[i];
        if (piece->first) tokenize_mark(c, piece);
        if (piece->first && t->tok->bos >= 0) id_list_add(&c->ids[piece->side], t->tok->bos);
        tokenizer_encode(t->tok, cache, piece->text, piece->n, &c->ids[piece->side]);
        if (piece->last) id_list_add(&c->ids[piece->side], t->tok->eot);
        c->text_bytes[piece->side] += (int64_t)piece->n;
        c->documents[piece->side] += piece->last;
        text_count(&c->counts, piece->text, piece->n);
    }
    c->counts.invalid = cache->invalid;
    // Normalisation changes the number of bytes; and an end of text that is not special can be in the text.
    bool known = !t->tok->nfc && tokenizer_kind(t->tok, t->tok->eot) == TOKEN_SPECIAL;
    for (int side = 0; side < 2 && !known; side++)
        tokenize_measure(t->tok, c->ids[side].items, c->ids[side].count, &c->text_bytes[side], &c->documents[side]);
}

// Documents that begin at tokens from `at` on, up to `end`, of what comes next. Returns how many of them are done.
static inline size_t tokenize_write_marks(ShardWriter *w, const TokenizeChunk *c, size_t done, int64_t at,
                                          int64_t end) {
    for (; done < c->mark_count[w->side] && c->marks[w->side][done].record.first < end; done++) {
        TokenizeMark m = c->marks[w->side][done];
        m.record.first -= at;
        shardwriter_document(w, &m.record, m.source);
    }
    return done;
}

// Writes the ids of one side, cut where shards are full.
static inline void tokenize_write(Tokenize *t, const TokenizeChunk *c, int side) {
    ShardWriter *w = &t->writers[side];
    const IdList *ids = &c->ids[side];
    int64_t count = (int64_t)ids->count;
    if (count <= shardwriter_room(w)) {
        tokenize_write_marks(w, c, 0, 0, count);
        shardwriter_add(w, ids->items, count, c->text_bytes[side], c->documents[side]);
        return;
    }
    size_t done = 0;
    for (int64_t at = 0, n; at < count; at += n) {
        int64_t bytes, documents;
        n = int64_min(shardwriter_room(w), count - at);
        tokenize_measure(t->tok, ids->items + at, (size_t)n, &bytes, &documents);
        done = tokenize_write_marks(w, c, done, at, at + n);
        shardwriter_add(w, ids->items + at, n, bytes, documents);
    }
}

// Hands the writers those chunks that are encoded, up to the first that is not.
static inline void tokenize_write_encoded(Tokenize *t) {
    for (TokenizeChunk *c; t->written < t->chunk_count; t->written++) {
        c = &t->chunks[t->written];
        if (!__atomic_load_n(&c->encoded, __ATOMIC_ACQUIRE)) return;
        for (int side = 0; side < 2; side++) tokenize_write(t, c, side);
        text_counts_add(&t->stats->counts, &c->counts);
        t->stats->done_bytes += (int64_t)c->bytes;
        c->encoded = false;
    }
}

// Encodes what has been collected and hands it to the writers; gives back the batches that are done. Who has encoded a
// chunk writes what can be written, unless another thread is at it: none waits.
static inline void tokenize_flush(Tokenize *t) {
    t->written = 0;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(t->threads)
    for (int i = 0; i < t->chunk_count; i++) {
        tokenize_chunk(t, &t->chunks[i], &t->caches[omp_get_thread_num()]);
        __atomic_store_n(&t->chunks[i].encoded, true, __ATOMIC_RELEASE);
        if (!omp_test_lock(&t->writing)) continue;
        tokenize_write_encoded(t);
        omp_unset_lock(&t->writing);
    }
#else
    for (int i = 0; i < t->chunk_count; i++) {
        tokenize_chunk(t, &t->chunks[i], &t->caches[0]);
        t->chunks[i].encoded = true;
    }
#endif
    tokenize_write_encoded(t);
    if (signals_waiting(&t->writers[0].set->hold)) t->writers[0].failed = EINTR;
    t->chunk_count = 0;
    t->piece_count = 0;
    for (size_t i = 0; i < t->batch_done; i++) doc_inputs_release(&t->inputs, t->batches[i]);
    t->batch_count -= t->batch_done;
    if (t->batch_count) memmove(t->batches, t->batches + t->batch_done, t->batch_count * sizeof *t->batches);
    t->batch_done = 0;
    for (int side = 0; side < 2; side++) {
        t->stats->documents[side] = t->writers[side].documents;
        t->stats->tokens[side] = t->writers[side].tokens;
        t->stats->bytes[side] = t->writers[side].bytes;
    }
    if (t->stats->progress) t->stats->progress(t->stats);
}

// Adds a piece, whose text is counted when it is encoded.
static inline void tokenize_piece(Tokenize *t, const TokenizePiece *piece) {
    size_t n = piece->n;
    TokenizeChunk *c = t->chunk_count ? &t->chunks[t->chunk_count - 1] : NULL;
    if (!c || c->bytes + n > TOKENIZE_CHUNK) {
        if (t->chunk_count == t->chunk_limit) tokenize_flush(t);
        c = &t->chunks[t->chunk_count++];
        c->first = t->piece_count;
        c->count = c->bytes = 0;
    }
    t->pieces = (TokenizePiece *)mem_grow(t->pieces, &t->piece_capacity, t->piece_count + 1, sizeof(TokenizePiece));
    t->pieces[t->piece_count++] = *piece;
    c->count++;
    c->bytes += n;
}

// A document, or a part of it, in pieces of about a chunk.
static inline void tokenize_document(Tokenize *t, TokenizePiece piece) {
    const char *text = piece.text;
    size_t n = piece.n;
    piece.first = true;
    piece.last = false;
    while (t->may_cut && n > TOKENIZE_CHUNK) {
        size_t at = text_safe_cut(t->tok->pattern, text, n, TOKENIZE_CHUNK - TOKENIZE_CHUNK / 8);
        if (at == n) break;
        piece.text = text, piece.n = at;
        tokenize_piece(t, &piece);
        text += at, n -= at, piece.first = false;
    }
    piece.text = text, piece.n = n, piece.last = true;
    tokenize_piece(t, &piece);
}

// Gives out the documents of a batch, each on its side.
static inline void tokenize_batch(Tokenize *t, const DocBatch *batch) {
    double fraction = t->job->val_fraction;
    for (size_t i = 0; i < batch->count; i++) {
        const Document *d = &batch->docs[i];
        TokenizePiece piece = {d->text, d->n, d, SIDE_TRAIN, false, false, false};
        piece.side = census_side(&t->census, t->again.documents, d->hash, fraction);
        census_add(&t->again, d->hash, d->n, fraction);
        size_t tail = t->census.documents == 1 && fraction > 0 ? tokenize_tail(d->text, d->n, fraction) : 0;
        t->stats->tail |= tail > 0 && tail < d->n;
        if (tail > 0 && tail < d->n) {
            piece.part = true;
            piece.n = tail;
            piece.side = SIDE_TRAIN;
            tokenize_document(t, piece);
            piece.text = d->text + tail, piece.n = d->n - tail;
            piece.side = SIDE_VAL;
        } else if (t->census.documents == 1) piece.side = SIDE_TRAIN;
        tokenize_document(t, piece);
    }
    t->batch_done++;
}

// ---------------------------------------------------------------- the passes

// The next batch, kept until a flush behind its end. *batch == NULL: there is none.
static inline bool tokenize_next(Tokenize *t, DocBatch **batch, Error *err) {
    if (t->batch_count >= TOKENIZE_BATCHES && t->batch_done == t->batch_count) tokenize_flush(t);
    if (!doc_inputs_next(&t->inputs, batch, err)) return false;
    if (!*batch) return true;
    t->batches = (DocBatch **)mem_grow(t->batches, &t->batch_capacity, t->batch_count + 1, sizeof *t->batches);
    t->batches[t->batch_count++] = *batch;
    return true;
}

static inline void tokenize_census(Tokenize *t, const DocBatch *batch) {
    for (size_t i = 0; i < batch->count; i++)
        census_add(&t->census, batch->docs[i].hash, batch->docs[i].n, t->job->val_fraction);
}

// Counts all documents, where those at the beginning did not tell, and begins again. The order of files is that of the
// first pass: a list of files is expanded but once.
static inline bool tokenize_count_all(Tokenize *t, Error *err) {
    DocBatch *batch;
    while (doc_inputs_next(&t->inputs, &batch, err)) {
        if (!batch) {
            for (size_t i = 0; i < t->batch_count; i++) doc_inputs_release(&t->inputs, t->batches[i]);
            t->batch_count = 0;
            doc_inputs_rewind(&t->inputs);
            return true;
        }
        tokenize_census(t, batch);
        doc_inputs_release(&t->inputs, batch);
    }
    return false;
}

static inline bool tokenize_run(Tokenize *t, Error *err) {
    const TokenizeJob *job = t->job;
    DocBatch *batch = NULL;
    int64_t hold = job->hold ? job->hold : TOKENIZE_HOLD;
    bool more = true, counted = false;
    // 1. Documents wait until the hash alone decides, or there are no more.
    while (more && !counted && !census_decided(&t->census, job->val_fraction)) {
        counted = t->census.bytes > hold || t->batch_count >= TOKENIZE_BATCHES;
        if (counted ? !tokenize_count_all(t, err) : !tokenize_next(t, &batch, err)) return false;
        more = counted || batch;
        if (batch && !counted) tokenize_census(t, batch);
    }
    // 2. Those that waited. A flush on the way takes what is done off the list.
    while (t->batch_done < t->batch_count) tokenize_batch(t, t->batches[t->batch_done]);
    // 3. The others, as they come. What cannot be written is said in the end.
    while (more && !t->writers[0].failed && !t->writers[1].failed) {
        if (!tokenize_next(t, &batch, err)) return false;
        more = batch != NULL;
        if (more) tokenize_batch(t, batch);
    }
    tokenize_flush(t);
    if (counted && !more && (t->again.print != t->census.print || t->again.documents != t->census.documents))
        return error_set(err, "the input files changed while they were read; run it again when they are complete");
    return true;
}

// What was read, with which tokenizer, and what became of it.
static inline void tokenize_manifest(Str *s, const Tokenize *t, const ShardSet *set, const char *files) {
    const TokenizeJob *job = t->job;
    const DocInputs *in = &t->inputs;
    static const char *const splits[] = {DOC_SPLITS(CHOICE_NAME)};
    shards_manifest_begin(s, t->writers, set, job->program);
    str_printf(s, ",\n  \"doc_split\": \"%s\", \"field\": ", splits[job->docs.split]);
    json_escape(s, job->docs.field, strlen(job->docs.field));
    str_puts(s, ", \"val_fraction\": ");
    json_add_number(s, job->val_fraction);
    shards_manifest_sides(s, t->writers, job->options, files);
    doc_inputs_describe(s, in);
    str_puts(s, "\n}\n");
}

// Into a set of shards, and commits it.
static inline bool tokenize_encode(Tokenize *t, ShardSet *set, Error *err) {
    Str manifest, files;
    TokenizeStats *stats = t->stats;
    memset(&manifest, 0, sizeof manifest);
    memset(&files, 0, sizeof files);
    bool ok = tokenize_run(t, err);
    stats->damage = t->inputs.damage;
    memset(&t->inputs.damage, 0, sizeof t->inputs.damage);
    stats->empty = t->inputs.empty;
    stats->without = t->inputs.without;
    if (ok && t->again.documents == 0 && !t->writers[0].failed && !t->writers[1].failed)
        ok = error_set(err, "no text to tokenize: %d file%s with %lld bytes, and not one document%s%.700s",
                       stats->files, stats->files == 1 ? "" : "s", (long long)stats->input_bytes,
                       stats->damage.count ? "; " : "", stats->damage.count ? stats->damage.named.items[0] : "");
    ok = ok && doc_inputs_sums(&t->inputs, err) && shards_finish(t->writers, 2, err) &&
         shards_sums(&files, t->writers, err);
    for (int side = 0; side < 2; side++) stats->shards[side] = (int)t->writers[side].count;
    if (ok) {
        t->inputs.damage = stats->damage; // lent
        tokenize_manifest(&manifest, t, set, files.data);
        memset(&t->inputs.damage, 0, sizeof t->inputs.damage);
        ok = shards_manifest(set, &manifest, err) && shards_commit(set, t->writers, 2, err);
    }
    free(manifest.data);
    free(files.data);
    return ok;
}

static inline void tokenize_open(Tokenize *t, const TokenizeJob *job, TokenizeStats *stats) {
    t->job = job;
    t->tok = job->tok;
    t->stats = stats;
    t->threads = 1;
#ifdef _OPENMP
    t->threads = omp_get_max_threads();
    omp_init_lock(&t->writing);
#endif
    t->caches = (TokenizerCache *)mem_alloc((size_t)t->threads * sizeof(TokenizerCache));
    t->chunk_limit = t->threads * 32; // enough that no thread waits long for the last chunk
    t->chunks = (TokenizeChunk *)mem_alloc((size_t)t->chunk_limit * sizeof(TokenizeChunk));
    t->may_cut = true; // an added token with a line feed in it could reach over a cut
    for (int stage = 0; stage < 2; stage++)
        for (int i = 0; i < t->tok->added_count[stage]; i++)
            t->may_cut = t->may_cut && !memchr(t->tok->added[stage][i].text, '\n', t->tok->added[stage][i].size);
}

static inline void tokenize_close(Tokenize *t) {
#ifdef _OPENMP
    omp_destroy_lock(&t->writing);
#endif
    for (size_t i = 0; i < t->batch_count; i++) doc_inputs_release(&t->inputs, t->batches[i]);
    doc_inputs_close(&t->inputs);
    for (int i = 0; i < t->threads; i++) tokenizer_cache_free(&t->caches[i]);
    for (int i = 0; i < t->chunk_limit; i++)
        for (int side = 0; side < 2; side++) free(t->chunks[i].ids[side].items), free(t->chunks[i].marks[side]);
    free(t->batches);
    free(t->caches);
    free(t->chunks);
    free(t->pieces);
    free(t);
}

static inline bool tokenize_check(const TokenizeJob *job, Error *err) {
    if (job->tok->eot < 0)
        return error_set(err,
                         "the tokenizer has no token for the end of a text: neither one called %s or the like, nor do "
                         "files beside it name one; name it by --end_token=NAME",
                         TOKENIZER_EOT);
    return job->val_fraction >= 0 && job->val_fraction < 1
               ? true
               : error_set(err, "val_fraction must be at least 0 and less than 1, it is %g", job->val_fraction);
}

// Writes PREFIX_train_00000.bin ... and PREFIX_val_00000.bin ..., and what stands beside them. On false nothing was
// written, and earlier shards are as they were.
static inline bool tokenize_files(const TokenizeJob *job, const char *out_prefix, TokenizeStats *stats, Error *err) {
    double start = clock_seconds();
    ShardName name;
    ShardSet set;
    if (!tokenize_check(job, err) || !shard_prefix_parse(&name, out_prefix, err)) return false;
    Tokenize *t = (Tokenize *)mem_alloc(sizeof(Tokenize));
    if (!doc_inputs_open(&t->inputs, job->inputs, &job->docs, err)) {
        free(t);
        return false;
    }
    tokenize_open(t, job, stats);
    DocInputs *in = &t->inputs;
    stats->files = in->count;
    stats->input_bytes = in->bytes;
    stats->strange = in->strange;
    stats->what = in->what;
    bool ok = shard_set_open(&set, out_prefix, err);
    if (ok) {
        FileId *ids = doc_inputs_ids(in);
        stats->doubles = doc_inputs_doubles(in, ids, &stats->doubled);
        ok = shard_set_replaces(&name, ids, (size_t)in->count, err);
        free(ids);
        for (int side = 0; side < 2; side++)
            shardwriter_open(&t->writers[side], &set, side, job->tok->vocab_size, job->tok->hash, job->tok->eot,
                             job->shard_tokens);
        ok = ok && tokenize_encode(t, &set, err);
        shards_abort(&set, t->writers, 2);
    }
    tokenize_close(t);
    stats->seconds = clock_seconds() - start;
    return ok;
}

#endif
