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
} Evaluation;

typedef struct {
    double loss;          // mean, nats a token
    double bits_per_byte; // NAN where the bytes are not known
    int64_t tokens, bytes;
} EvalResult;

// Called by all ranks. False on all of them if one cannot read its part; err is empty on those that can read theirs.
static inline bool evaluate(EvalResult *out, const Evaluation *e, Error *err) {
    int B = e->batch_size, T = e->source.seq_len, ranks = e->dist->size;
    int64_t sequences = e->source.sequences;
    if (e->max_tokens > 0) sequences = int64_min(sequences, int64_max(1, e->max_tokens / T));
    size_t bytes = sizeof(int32_t) * (size_t)B * (size_t)T;
    int32_t *inputs = (int32_t *)mem_alloc(bytes), *targets = (int32_t *)mem_alloc(bytes); // (B, T)
    double sums[4] = {0, 0, 0, 0}; // loss, tokens, bytes, ranks that could not read
    err->text[0] = 0;
    model_loss(e->model);
    for (int64_t round = 0; round < sequences; round += (int64_t)ranks * B) {
        int64_t first = round + (int64_t)e->dist->rank * B;
        int n = (int)int64_max(0, int64_min(B, sequences - first));
        if (!sums[3] && !e->source.next(&e->source, first, n, inputs, targets, err)) sums[3] = 1;
        if (sums[3]) n = 0; // the passes go on, for the other ranks
        // A rank with nothing left makes its pass all the same, over targets that count nothing.
        if (n == 0) memset(inputs, 0, sizeof(int32_t) * (size_t)T), memset(targets, 0xff, sizeof(int32_t) * (size_t)T);
        model_forward(e->model, inputs, targets, n ? n : 1, T, 0, NULL);
        for (int i = 0; i < n * T; i++) sums[1] += targets[i] >= 0;
        if (e->tok) sums[2] += (double)tokens_text_bytes(e->tok, targets, (int64_t)n * T);
    }
    free(inputs);
    free(targets);
    sums[0] = model_loss(e->model);
    dist_sum(e->dist, sums, 4);
    if (sums[3]) return false;
    out->loss = sums[0] / sums[1];
    out->tokens = (int64_t)sums[1];
    out->bytes = (int64_t)sums[2];
    out->bits_per_byte = sums[2] > 0 ? sums[0] / sums[2] / 0.69314718055994530942 : (double)NAN;
    return true;
}

#endif
