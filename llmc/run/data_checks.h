/*
data_checks.h: whether shards are what they say, whether training and validation are apart, and what else a user may
not have meant with them.
*/
#ifndef LLMC_DATA_CHECKS_H
#define LLMC_DATA_CHECKS_H

#include "../ranks/dist.h"
#include "../text/data.h"
#include "log.h"
#include "options.h"

// Compares the checksums of shards, which the ranks of a host share among them: a host may have copies of its own. On
// all ranks.
static inline bool data_verify(const Dataset *d, const Options *o, const Dist *dist, Error *err) {
    int64_t bytes;
    int parts = dist->local_size > 0 ? dist->local_size : 1;
    return !o->verify || dataset_verify(d, dist->local_rank % parts, parts, false, &bytes, err);
}

// Shards of one prefix must be of one run of tokenize, on both sides: or texts that are trained on now were set apart
// for validation then. And no shard may be on both sides, unless nothing is ever validated (--val_every=0).
static inline bool data_apart(const Dataset *train, const Dataset *val, const Options *o, Error *err) {
    const Dataset *both[2] = {train, val};
    if (!datasets_same_sets(both, 2, err)) return false;
    for (int i = 0; i < val->count && o->val_every > 0; i++) {
        const Shard *s = &val->shards[i], *copy = dataset_find_copy(train, s);
        if (copy)
            return error_set(err,
                             "--train_data=%s holds %s, the same tokens as %s of --val_data=%s: a model must not be "
                             "trained on what it is validated on; name the training shards alone",
                             o->train_data, copy->path, s->path, o->val_data);
    }
    return true;
}

// Pairs of answers (--objective) have a loss that verbs other than train do not know.
static inline bool data_no_pairs(const Dataset *d, const char *files, Error *err) {
    return !d->pairs ? true
                     : error_set(err,
                                 "--data=%s holds pairs of answers, which only train reads, with --objective: it "
                                 "measures them on --val_data",
                                 files);
}

// A line on stderr, and in run.log.
PRINTF_LIKE(2, 3) static inline void log_warn(Log *log, const char *format, ...) {
    Error line;
    va_list args;
    va_start(args, format);
    vsnprintf(line.text, sizeof line.text, format, args);
    va_end(args);
    log_clear(log);
    warn("%s", line.text);
    log_file(log, "warning: %s\n", line.text);
}

#define DATA_UNUSED_MOST 0.1 // of the tokens; what the end of a usual shard leaves is far less

// Says what share of the tokens no sequence holds, where that is much.
static inline void data_hint_unused(Log *log, const Dataset *d, const char *what) {
    double unused = dataset_unused(d);
    if (unused > DATA_UNUSED_MOST)
        log_warn(log,
                 "%.0f%% of the %s tokens are not used: %d shard%s of %.0f tokens on average %s cut into sequences of "
                 "--seq_len=%d, and what is left of each is too short; tokenise with a larger --shard_tokens, or take "
                 "a smaller --seq_len",
                 100 * unused, what, d->count, d->count == 1 ? "" : "s", (double)d->tokens / d->count,
                 d->count == 1 ? "is" : "are", d->seq_len);
}

// step_sequences: what one step takes. On rank 0.
static inline void data_hints(Log *log, const Dataset *train, const Dataset *val, int64_t step_sequences) {
    int unchecked = 0;
    data_hint_unused(log, train, "training");
    data_hint_unused(log, val, "validation");
    if (step_sequences > train->sequences)
        log_warn(log,
                 "a step takes %lld sequences, and the training data have %lld of %d tokens: a step sees each of them "
                 "%.1f times; give more text, or a smaller --total_batch_tokens",
                 (long long)step_sequences, (long long)train->sequences, train->seq_len,
                 (double)step_sequences / (double)train->sequences);
    const Shard *twice = dataset_doubled(train);
    if (twice) log_warn(log, "%s is among the training shards twice, under this name or another", twice->path);
    for (int i = 0; i < train->count; i++) unchecked += !train->shards[i].checked;
    for (int i = 0; i < val->count; i++) unchecked += !val->shards[i].checked;
    if (unchecked) log_line(log, "%d shards are llm.c's, which have no checksums", unchecked);
}

#endif
