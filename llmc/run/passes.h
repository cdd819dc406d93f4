/*
passes.h: what a step of training reads, and its passes forward and backward: for the training loop (trainer.h) and for
the test that --lr=auto makes before it (lr_test.h).
*/
#ifndef LLMC_PASSES_H
#define LLMC_PASSES_H

#include "prepare.h"

// Reads what the step is of that begins at `position`.
static inline bool passes_read(Trainer *t, int64_t position, Error *err) {
    size_t pass = (size_t)t->B * (size_t)t->T;
    bool ok = true;
    for (int micro = 0; micro < t->micro_batches && ok; micro++) {
        int64_t first = position + ((int64_t)micro * t->dist->size + t->dist->rank) * t->B;
        SourceRows all = {t->inputs, t->targets, t->starts};
        SourceRows rows = source_rows_behind(all, (int64_t)micro * (int64_t)pass);
        ok = t->source.next(&t->source, first, t->B, rows, err);
        if (ok && t->pairs.rule.objective != OBJECTIVE_NEXT)
            pair_passes_find(&t->pairs, micro, &t->source, &t->in.train, first, t->B, rows);
    }
    return ok;
}

// Reads what the coming step is of, if trainer_read_ahead() has not. Before that step and not in it: a rank that cannot
// read says so when all agree on going on (stop.h), and the steps until then are saved.
static inline bool trainer_read(Trainer *t) {
    double start = clock_seconds();
    bool ahead = t->ahead == t->state.position, before = t->data_ok;
    if (before) t->data_ok = ahead ? t->ahead_ok : passes_read(t, t->state.position, &t->data_err);
    if (before && ahead && !t->ahead_ok) t->data_err = t->ahead_err;
    t->ahead = -1;
    t->data_seconds = clock_seconds() - start;
    return t->data_ok;
}

// One pass of what was read.
static inline ModelBatch trainer_batch(const Trainer *t, int micro) {
    size_t at = (size_t)micro * (size_t)t->B * (size_t)t->T;
    ModelBatch batch = {t->inputs + at, t->targets + at, t->starts ? t->starts + at : NULL, t->B, t->T};
    return batch;
}

// While the device is at a step: reads what the next one is of, and sends its first pass to the device. What it comes
// to shows when trainer_read() asks for that step.
static inline void trainer_read_ahead(Trainer *t) {
    bool last = t->state.step + 1 >= t->o->steps || (t->budget.limit > 0 && t->mark >= t->budget.limit);
    if (last || !t->data_ok) return;
    t->ahead = t->state.position + t->step_tokens / t->T;
    t->ahead_ok = passes_read(t, t->ahead, &t->ahead_err);
    ModelBatch batch = trainer_batch(t, 0);
    if (t->ahead_ok) model_send(t->model, &batch);
}

// How many targets of the step under way count, on all ranks: of conversations not all do; and of how many targets or
// pairs its loss is the mean. Called by all of them.
static inline void trainer_count_targets(Trainer *t) {
    size_t n = (size_t)t->micro_batches * (size_t)t->B * (size_t)t->T;
    t->step_targets = t->step_items = (double)t->step_tokens;
    if (!t->source.documents) return;
    t->step_targets = 0;
    for (size_t i = 0; i < n; i++) t->step_targets += t->targets[i] >= 0;
    dist_sum(t->dist, &t->step_targets, 1);
    t->step_items = t->step_targets;
    if (t->pairs.rule.objective == OBJECTIVE_NEXT) return;
    pair_passes_count(&t->pairs, t->micro_batches, t->dist);
    t->step_items = t->pairs.step;
}

// Forward and backward over the step's sequences (gradient accumulation). The gradient is that of the mean loss over
// all targets of the step, or all its pairs, on all ranks.
static inline void trainer_passes(Trainer *t) {
    trainer_count_targets(t);
    for (int micro = 0; micro < t->micro_batches; micro++) {
        ModelBatch batch = trainer_batch(t, micro);
        int64_t first = t->state.position + ((int64_t)micro * t->dist->size + t->dist->rank) * t->B;
        model_place(t->model, (uint64_t)t->o->seed, first * t->T);
        PairBatch pairs;
        if (t->pairs.rule.objective != OBJECTIVE_NEXT)
            pairs = pair_passes_batch(&t->pairs, micro), model_pairs(t->model, &pairs);
        model_forward(t->model, &batch, 1.0 / t->step_items, NULL);
        model_backward(t->model, micro == t->micro_batches - 1);
    }
}

#endif
