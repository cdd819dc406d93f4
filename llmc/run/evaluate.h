/*
evaluate.h: the mean loss over a data set, in nats a token and in bits a byte of text.

Only the latter can be compared between tokenizers: the sum of the losses over the bytes that the predicted tokens stand for.
*/
#ifndef LLMC_EVALUATE_H
#define LLMC_EVALUATE_H

#include "../text/data.h"
#include "../engine.h"
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

typedef struct {
    double loss;          // mean, nats a token
    double bits_per_byte; // NAN where the bytes are not known
    int64_t tokens, bytes;
} EvalResult;

// Mean loss over the first sequences of a data set, at most max_tokens of them (0: all), shared out
// over the ranks by batches. tok may be NULL. inputs, targets: (B, T) scratch.
static inline bool evaluate(EvalResult *out, Model *m, const Dataset *d, const Tokenizer *tok, const Dist *dist, int B,
                            int T, int64_t max_tokens, int32_t *inputs, int32_t *targets, Error *err) {
    int64_t sequences = d->sequences;
    if (max_tokens > 0) sequences = int64_min(sequences, int64_max(1, max_tokens / T));
    double sums[3] = {0, 0, 0}; // loss, tokens, bytes
    model_loss(m);
    for (int64_t round = 0; round < sequences; round += (int64_t)dist->size * B) {
        int64_t first = round + (int64_t)dist->rank * B;
        int n = (int)int64_max(0, int64_min(B, sequences - first));
        for (int b = 0; b < n; b++)
            if (!dataset_sequence(d, first + b, inputs + (size_t)b * (size_t)T, targets + (size_t)b * (size_t)T, err))
                return false;
        // A rank with nothing left makes its pass all the same, over targets that count nothing.
        if (n == 0) memset(inputs, 0, sizeof(int32_t) * (size_t)T), memset(targets, 0xff, sizeof(int32_t) * (size_t)T);
        model_forward(m, inputs, targets, n ? n : 1, T, 0, NULL);
        sums[1] += (double)n * T;
        if (tok) sums[2] += (double)tokens_text_bytes(tok, targets, (int64_t)n * T);
    }
    sums[0] = model_loss(m);
    dist_sum(dist, sums, 3);
    out->loss = sums[0] / sums[1];
    out->tokens = (int64_t)sums[1];
    out->bytes = (int64_t)sums[2];
    out->bits_per_byte = sums[2] > 0 ? sums[0] / sums[2] / 0.69314718055994530942 : (double)NAN;
    return true;
}

#endif
