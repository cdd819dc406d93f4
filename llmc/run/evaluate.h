/*
evaluate.h: the mean loss over a source, in nats a token and in bits a byte of text.

Only the latter can be compared between tokenizers: the sum of the losses over the bytes that the predicted tokens
stand for.
*/
#ifndef LLMC_EVALUATE_H
#define LLMC_EVALUATE_H

#include "../engine.h"
#include "../text/source.h"
#include "../text/tokenizer.h"

// The number of text bytes in n tokens; special tokens and ignored targets (-1) have none.
static inline int64_t tokens_text_bytes(const Tokenizer *tok, const int32_t *tokens, int64_t n) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        int length = 0;
        if (tokens[i] >= 0 && tokens[i] < tok->vocab_size) tokenizer_bytes(tok, tokens[i], &length);
        bytes += length;
    }
    return bytes;
}

// What is measured on what.
typedef struct {
    Model *model;
    BatchSource source;   // from its first sequence on, at most an epoch
    const Tokenizer *tok; // NULL: the bytes are not known
    const Dist *dist;     // its ranks share the work, batch by batch
    int batch_size;       // B
    int64_t max_tokens;   // 0: all
    // NULL, or called by all ranks between batches: so many of the sequences are done; false gives up.
    bool (*go_on)(void *context, int64_t done, int64_t all);
    void *context;
} Evaluation;

typedef struct {
    double loss;          // mean, nats a token
    double bits_per_byte; // NAN where the bytes are not known
    int64_t tokens, bytes;
    bool whole; // false: it was given up, and the numbers mean nothing
} EvalResult;

static inline int64_t evaluate_sequences(const Evaluation *e) {
    int64_t all = e->source.sequences;
    return e->max_tokens > 0 ? int64_min(all, int64_max(1, e->max_tokens / e->source.seq_len)) : all;
}

// A row of a rank that has nothing left and makes its pass all the same: targets that count nothing.
static inline void evaluate_nothing(SourceRows r, int T) {
    size_t row = sizeof(int32_t) * (size_t)T;
    memset(r.inputs, 0, row), memset(r.targets, 0xff, row);
    if (r.starts) memset(r.starts, 0, row);
}

// One batch of a rank, of the sequences from `first` on: n, which may be none. r: room for (B, T).
static inline bool evaluate_batch(const Evaluation *e, int64_t first, int n, SourceRows r, Error *err) {
    int T = e->source.seq_len;
    if (!e->source.next(&e->source, first, n, r, err)) return false;
    if (n == 0) evaluate_nothing(r, T);
    ModelBatch batch = {r.inputs, r.targets, r.starts, n ? n : 1, T};
    model_forward(e->model, &batch, 0, NULL);
    return true;
}

static inline SourceRows evaluate_rows(const Evaluation *e) {
    size_t bytes = sizeof(int32_t) * (size_t)e->batch_size * (size_t)e->source.seq_len;
    SourceRows r = {(int32_t *)mem_alloc(bytes), (int32_t *)mem_alloc(bytes),
                    e->source.documents ? (int32_t *)mem_alloc(bytes) : NULL};
    return r;
}

static inline void evaluate_rows_free(SourceRows r) { free(r.inputs), free(r.targets), free(r.starts); }

// Called by all ranks. False on all of them if one cannot read its part; err is empty on those that can read theirs.
static inline bool evaluate(EvalResult *out, const Evaluation *e, Error *err) {
    int B = e->batch_size, T = e->source.seq_len, ranks = e->dist->size;
    int64_t sequences = evaluate_sequences(e);
    SourceRows rows = evaluate_rows(e);
    double sums[4] = {0, 0, 0, 0}; // loss, tokens, bytes, ranks that could not read
    err->text[0] = 0;
    out->whole = true;
    model_loss(e->model);
    for (int64_t round = 0; round < sequences; round += (int64_t)ranks * B) {
        int64_t first = round + (int64_t)e->dist->rank * B;
        int n = (int)int64_max(0, int64_min(B, sequences - first));
        if (round > 0 && e->go_on && !e->go_on(e->context, round, sequences)) {
            out->whole = false;
            break;
        }
        if (sums[3] || !evaluate_batch(e, first, n, rows, err)) {
            sums[3] = 1;
            evaluate_batch(e, 0, 0, rows, NULL); // the passes go on, for the other ranks
            continue;
        }
        for (int i = 0; i < n * T; i++) sums[1] += rows.targets[i] >= 0;
        if (e->tok) sums[2] += (double)tokens_text_bytes(e->tok, rows.targets, (int64_t)n * T);
    }
    evaluate_rows_free(rows);
    sums[0] = model_loss(e->model);
    dist_sum(e->dist, sums, 4);
    if (sums[3]) return false;
    out->loss = sums[0] / sums[1];
    out->tokens = (int64_t)sums[1];
    out->bytes = (int64_t)sums[2];
    out->bits_per_byte = sums[2] > 0 ? sums[0] / sums[2] / 0.69314718055994530942 : (double)NAN;
    return true;
}

// Where a loss that is not finite comes from: the first sequence, and the token in it. Goes over the same batches
// again, one loss at a time. -1: all losses are finite. By all ranks; reading has succeeded before.
static inline int64_t evaluate_find(const Evaluation *e, int64_t *token) {
    int B = e->batch_size, T = e->source.seq_len, ranks = e->dist->size;
    size_t N = (size_t)B * (size_t)T;
    int64_t sequences = evaluate_sequences(e), none = INT64_MAX, found = none;
    SourceRows rows = evaluate_rows(e);
    float *losses = (float *)mem_alloc(sizeof(float) * N);
    int64_t *all = (int64_t *)mem_alloc(sizeof(int64_t) * (size_t)ranks);
    for (int64_t round = 0; found == none && round < sequences; round += (int64_t)ranks * B) {
        int64_t first = round + (int64_t)e->dist->rank * B, mine = none;
        int n = (int)int64_max(0, int64_min(B, sequences - first));
        Error err;
        if (!evaluate_batch(e, first, n, rows, &err)) dist_fail(e->dist, "%s", err.text);
        if (!isfinite(model_loss(e->model))) mine = first * T;
        if (mine != none && model_get_activation(e->model, ACT_losses, 0, losses))
            for (int i = n * T - 1; i >= 0; i--)
                if (!isfinite(losses[i])) mine = first * T + i;
        dist_gather(e->dist, all, &mine, sizeof mine);
        for (int r = 0; r < ranks; r++) found = int64_min(found, all[r]);
    }
    evaluate_rows_free(rows);
    free(losses);
    free(all);
    *token = found % T;
    return found == none ? -1 : found / T;
}

// Ends the job where the loss is not finite. Weights are finite here (folder_load_weights and model_update see to it),
// but activations can be too large for their type. By all ranks.
static inline void evaluate_refuse(const Evaluation *e, const EvalResult *r, const char *data) {
    Error err;
    int64_t token, sequence;
    if (!r->whole || isfinite(r->loss)) return;
    if (r->tokens == 0) error_set(&err, "%s holds no token whose loss counts", data);
    else {
        sequence = evaluate_find(e, &token);
        error_set(&err,
                  "the loss of %s is %g, first at token %lld of sequence %lld, although all weights are finite: they "
                  "are too large for its activations; take an earlier checkpoint",
                  data, r->loss, (long long)token, (long long)sequence);
    }
    dist_agree(e->dist, false, &err);
}

#endif
