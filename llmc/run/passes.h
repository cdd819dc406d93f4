/*
passes.h: what a step of training reads, and its passes forward and backward: for the training loop (trainer.h) and for
the test that --lr=auto makes before it (lr_test.h).
*/
#ifndef LLMC_PASSES_H
#define LLMC_PASSES_H

#include "prepare.h"

// Reads what the coming step is of. Before that step and not in it: a rank that cannot read says so when all agree on
// going on (stop.h), and the steps until then are saved.
static inline bool trainer_read(Trainer *t) {
    double start = clock_seconds();
    size_t pass = (size_t)t->B * (size_t)t->T;
    for (int micro = 0; micro < t->micro_batches && t->data_ok; micro++) {
        int64_t first = t->state.position + ((int64_t)micro * t->dist->size + t->dist->rank) * t->B;
        t->data_ok = t->source.next(&t->source, first, t->B, t->inputs + (size_t)micro * pass,
                                    t->targets + (size_t)micro * pass, &t->data_err);
    }
    t->data_seconds = clock_seconds() - start;
    return t->data_ok;
}

// One pass of what was read.
static inline ModelBatch trainer_batch(const Trainer *t, int micro) {
    size_t at = (size_t)micro * (size_t)t->B * (size_t)t->T;
    ModelBatch batch = {t->inputs + at, t->targets + at, NULL, t->B, t->T};
    return batch;
}

// Forward and backward over the step's sequences (gradient accumulation). The gradient is that of the mean loss over
// all tokens of the step, on all ranks.
static inline void trainer_passes(Trainer *t) {
    for (int micro = 0; micro < t->micro_batches; micro++) {
        ModelBatch batch = trainer_batch(t, micro);
        model_forward(t->model, &batch, 1.0 / (double)t->step_tokens, NULL);
        model_backward(t->model, micro == t->micro_batches - 1);
    }
}

#endif
