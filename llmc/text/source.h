/*
source.h: a source of batches (data loader): it stands between the data and whoever runs a model over them.

The training loop, evaluate and dump know nothing of files and orders: they ask a BatchSource for the B
sequences from a position on. A position counts sequences, from the start of a run and over all ranks; what
stands at it depends on the source alone, so that resuming costs nothing and the number of ranks and the batch
size do not change what is seen when. A target of -1 counts nothing.

Sources of conversations (chat_template.h) have documents within a sequence: they say where each begins.

Here: a data set (data.h), in its own order, with the tails of its shards or without, or in an order of its own for
every epoch.
*/
#ifndef LLMC_SOURCE_H
#define LLMC_SOURCE_H

#include "data.h"

static inline SourceRows source_rows_behind(SourceRows r, int64_t tokens) {
    SourceRows next = {r.inputs + tokens, r.targets + tokens, r.starts ? r.starts + tokens : NULL};
    return next;
}

typedef struct BatchSource BatchSource;
struct BatchSource {
    // rows: inputs, targets (B, T) = the sequences at position .. position + B - 1; and starts (B, T), unless NULL,
    // where in its sequence the document of a token begins
    bool (*next)(const BatchSource *s, int64_t position, int B, SourceRows rows, Error *err);
    const void *context;
    uint64_t seed;
    int seq_len;          // T
    int64_t sequences;    // in an epoch
    uint64_t fingerprint; // changes when what stands at a position does, but for the seed
    bool documents;       // starts are needed, and not every target counts
    // Which sequence of the data set stands at a position; NULL: where it can be other things.
    int64_t (*index)(const BatchSource *s, int64_t position);
};

static inline int64_t source_index_permuted(const BatchSource *s, int64_t position) {
    return dataset_index((const Dataset *)s->context, s->seed, position);
}

static inline int64_t source_index_in_order(const BatchSource *s, int64_t position) { return (void)s, position; }

// Training position p of a run reads sequence permutation(seed, p / n, n, p % n).
static inline bool source_next_permuted(const BatchSource *s, int64_t position, int B, SourceRows r, Error *err) {
    const Dataset *d = (const Dataset *)s->context;
    for (int b = 0; b < B; b++, r = source_rows_behind(r, s->seq_len))
        if (!dataset_sequence(d, dataset_index(d, s->seed, position + b), r.inputs, r.targets, r.starts, err))
            return false;
    return true;
}

static inline bool source_next_in_order(const BatchSource *s, int64_t position, int B, SourceRows r, Error *err) {
    for (int b = 0; b < B; b++, r = source_rows_behind(r, s->seq_len))
        if (!dataset_sequence((const Dataset *)s->context, position + b, r.inputs, r.targets, r.starts, err))
            return false;
    return true;
}

// Behind the last sequence come the tails of the shards: every token but the first of a shard is a target once.
static inline bool source_next_whole(const BatchSource *s, int64_t position, int B, SourceRows r, Error *err) {
    const Dataset *d = (const Dataset *)s->context;
    for (int b = 0; b < B; b++, position++, r = source_rows_behind(r, s->seq_len))
        if (position < d->sequences ? !dataset_sequence(d, position, r.inputs, r.targets, r.starts, err)
                                    : !dataset_tail(d, position - d->sequences, r.inputs, r.targets, r.starts, err))
            return false;
    return true;
}

static inline BatchSource source_of_whole_dataset(const Dataset *d) {
    int64_t tails = 0;
    for (int i = 0; i < d->count; i++) tails += shard_tail(&d->shards[i], d->seq_len) > 0;
    BatchSource s = {source_next_whole,     d,   0, d->seq_len, d->sequences + tails, d->fingerprint,
                     d->chat_template != 0, NULL};
    return s;
}

// The data set must outlive the source.
static inline BatchSource source_of_dataset(const Dataset *d, bool permuted, uint64_t seed) {
    BatchSource s = {permuted ? source_next_permuted : source_next_in_order,
                     d,
                     seed,
                     d->seq_len,
                     d->sequences,
                     d->fingerprint,
                     d->chat_template != 0,
                     permuted ? source_index_permuted : source_index_in_order};
    return s;
}

#endif
