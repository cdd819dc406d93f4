/*
references.h: the reference of DPO and IPO: what the model made of each answer before it was trained.

    references_open(&r, data, count, hash, dist, err)      what is stored beside the shards of each data set
    references_compute(&r, &evaluation)                    what is missing, by the model as it is now; and stores it

The log-probabilities of a shard's pairs are a file beside it, with .ref for .bin: the first run on a base computes
them, all ranks together, and every further one (another beta, another rate, a resumed one) reads them. The file names
the shard by its checksum and the model by its hash. Of another model it is an error: whose reference it is cannot be
told from the numbers. Of another shard it is replaced. A pair that had no room in the rows of the run that wrote it is
computed when rows are longer; numbers that are there stay, so that a run that goes on reads what it began with.

    ReferenceHeader, then double (pairs, 2): chosen, rejected; NaN: not known

With an adapter the reference is the base without it, as it is before the first step, when B is 0.
*/
#ifndef LLMC_REFERENCES_H
#define LLMC_REFERENCES_H

#include "pairs.h"

#define REFERENCE_MAGIC 0x3145434e45524546ull // "FERENCE1" as its bytes stand on disk
enum { REFERENCE_SETS = 2 };                  // training and validation

typedef struct {
    uint64_t magic;
    uint64_t shard;   // checksum of its tokens
    uint64_t model;   // adapter_base of its folder
    int64_t pairs;    // of the shard
    char program[64]; // and type of numbers that computed the first of them
    uint64_t sum;     // XXH64, seed 0, of what is before it and of the numbers
} ReferenceHeader;

typedef struct {
    Dataset *sets[REFERENCE_SETS]; // (count)
    int count;
    uint64_t model;
    int64_t missing; // pairs of rows, on all ranks
    int64_t stored;  // pairs that were read
} References;

static inline int64_t reference_pairs(const Shard *s) { return s->rows.conversations + s->rows.left; }

static inline Path reference_path(const Shard *s) {
    size_t n = strlen(s->path);
    if (str_ends_with(s->path, ".bin")) n -= 4;
    return path_of("%.*s" SHARD_REFERENCES, (int)n, s->path);
}

static inline uint64_t reference_sum(const ReferenceHeader *h, const double *numbers) {
    Xxh64 x;
    xxh64_init(&x, 0);
    xxh64_update(&x, h, offsetof(ReferenceHeader, sum));
    xxh64_update(&x, numbers, sizeof(double) * 2 * (size_t)h->pairs);
    return xxh64_value(&x);
}

// The numbers of a shard from its file, if there is one of these tokens and this model; they are NaN before.
static inline bool reference_read(Shard *s, uint64_t model, Error *err) {
    Path path = reference_path(s);
    FileKind kind;
    Str text;
    ReferenceHeader h;
    size_t numbers = sizeof(double) * 2 * (size_t)reference_pairs(s);
    memset(&text, 0, sizeof text);
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    if (!file_read(&text, path.text, (size_t)1 << 40, err)) return false;
    bool header = text.size >= sizeof h, ok = true;
    if (header) memcpy(&h, text.data, sizeof h);
    if (!header || h.magic != REFERENCE_MAGIC)
        ok = error_set(err, "%s holds no references of pairs; remove it, and they are computed anew", path.text);
    else if (h.shard == s->header.checksum &&
             (text.size != sizeof h + numbers || h.pairs != reference_pairs(s) ||
              h.sum != reference_sum(&h, (const double *)(const void *)(text.data + sizeof h))))
        ok = error_set(err, "%s is damaged; remove it, and the references are computed anew", path.text);
    else if (h.shard == s->header.checksum && h.model != model)
        ok = error_set(err,
                       "%s holds the references of another model (hash %016" PRIx64 ", that of --model is %016" PRIx64
                       "): remove it, and they are computed anew, or train that model",
                       path.text, h.model, model);
    else if (h.shard == s->header.checksum) memcpy(s->references, text.data + sizeof h, numbers);
    free(text.data);
    return ok;
}

static inline bool reference_write(const Shard *s, uint64_t model, const char *program, Error *err) {
    ReferenceHeader h;
    Str text;
    memset(&h, 0, sizeof h);
    memset(&text, 0, sizeof text);
    h.magic = REFERENCE_MAGIC, h.shard = s->header.checksum, h.model = model, h.pairs = reference_pairs(s);
    snprintf(h.program, sizeof h.program, "%.60s", program);
    h.sum = reference_sum(&h, s->references);
    str_add(&text, (const char *)&h, sizeof h);
    str_add(&text, (const char *)s->references, sizeof(double) * 2 * (size_t)h.pairs);
    bool ok = file_write_all(reference_path(s).text, text.data, text.size, err);
    free(text.data);
    return ok;
}

// Pairs in the rows of a shard whose numbers are not known.
static inline int64_t reference_missing(const Shard *s) {
    int64_t missing = 0;
    for (int64_t i = 0; i < s->rows.conversations; i++) {
        const double *r = s->references + 2 * (int64_t)s->rows.items[i].number;
        missing += isnan(r[0]) || isnan(r[1]);
    }
    return missing;
}

// model: the hash, as rank 0 knows it. Called by all ranks, which get what rank 0 reads.
static inline void references_open(References *r, uint64_t model, const Dist *dist) {
    Error err;
    bool ok = true;
    r->model = model;
    r->missing = r->stored = 0;
    for (int k = 0; k < r->count; k++)
        for (int i = 0; i < r->sets[k]->count; i++) {
            Shard *s = &r->sets[k]->shards[i];
            size_t n = 2 * (size_t)reference_pairs(s);
            s->references = (double *)mem_alloc(sizeof(double) * (n ? n : 1));
            for (size_t j = 0; j < n; j++) s->references[j] = (double)NAN;
            ok = ok && (dist->rank > 0 || reference_read(s, r->model, &err));
        }
    dist_agree(dist, ok, &err);
    for (int k = 0; k < r->count; k++)
        for (int i = 0; i < r->sets[k]->count; i++) {
            Shard *s = &r->sets[k]->shards[i];
            size_t left = sizeof(double) * 2 * (size_t)reference_pairs(s), most = (size_t)1 << 30;
            for (size_t at = 0; at < left; at += most)
                dist_broadcast(dist, (char *)s->references + at, left - at < most ? left - at : most);
            r->missing += reference_missing(s);
            r->stored += s->rows.conversations - reference_missing(s);
        }
}

typedef struct {
    const Dataset *data;
    double *values; // (all pairs, 2), shard by shard
} ReferenceVisit;

// Where the pairs of a shard begin among all of its data set.
static inline int64_t reference_first(const Dataset *d, const Shard *shard) {
    int64_t first = 0;
    for (const Shard *s = d->shards; s < shard; s++) first += reference_pairs(s);
    return first;
}

static inline void reference_visit(void *context, int64_t sequence, const ModelPair *pairs, int n,
                                   const float *losses) {
    ReferenceVisit *v = (ReferenceVisit *)context;
    const Shard *s = dataset_shard(v->data, sequence);
    int64_t count;
    const ChatItem *items = chat_rows_items(&s->rows, sequence - s->first, &count);
    double *values = v->values + 2 * reference_first(v->data, s);
    for (int i = 0; i < n; i++) {
        PairSums sums = pair_sums(&pairs[i], losses);
        values[2 * items[i].number] = -sums.chosen, values[2 * items[i].number + 1] = -sums.rejected;
    }
}

// Computes what is missing, by the weights that the model has, and stores it. e: how; its source is set here. Called by
// all ranks; ends the job where a rank cannot read, or rank 0 not write.
static inline void references_compute(References *r, const Evaluation *e, const char *program) {
    Error err;
    for (int k = 0; k < r->count; k++) {
        Dataset *d = r->sets[k];
        int64_t all = 0, missing = 0;
        for (int i = 0; i < d->count; i++)
            all += reference_pairs(&d->shards[i]), missing += reference_missing(&d->shards[i]);
        if (!missing) continue;
        Evaluation own = *e;
        ReferenceVisit v = {d, (double *)mem_alloc(sizeof(double) * 2 * (size_t)all)};
        bool whole, ok;
        own.source = source_of_dataset(d, false, 0);
        ok = pairs_sweep(&own, OBJECTIVE_NEXT, d->sequences, reference_visit, &v, &whole, &err);
        dist_agree(e->dist, ok, &err);
        for (int64_t at = 0; at < 2 * all; at += 1 << 20)
            dist_sum(e->dist, v.values + at, (int)int64_min(1 << 20, 2 * all - at));
        for (int i = 0; i < d->count; i++) {
            Shard *s = &d->shards[i];
            const double *values = v.values + 2 * reference_first(d, s);
            int64_t here = reference_missing(s);
            for (int64_t j = 0; j < s->rows.conversations; j++) {
                int64_t at = 2 * (int64_t)s->rows.items[j].number;
                if (isnan(s->references[at]) || isnan(s->references[at + 1]))
                    for (int side = 0; side < 2; side++) s->references[at + side] = values[at + side];
            }
            ok = ok && (!here || e->dist->rank > 0 || reference_write(s, r->model, program, &err));
        }
        free(v.values);
        dist_agree(e->dist, ok, &err);
    }
    r->missing = 0;
}

#endif
