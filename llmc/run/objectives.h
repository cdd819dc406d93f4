/*
objectives.h: --objective: what a run learns from pairs of answers (objective.h), from its options to its metrics.
*/
#ifndef LLMC_OBJECTIVES_H
#define LLMC_OBJECTIVES_H

#include "inputs.h"
#include "references.h"

// Of a run.
typedef struct {
    ObjectiveRule rule; // OBJECTIVE_NEXT: it has none of the rest
    ModelPair *items;   // (micro-batches, B T / 2): of the step that comes
    int *counts;        // (micro-batches)
    int most;           // B T / 2
    double step;        // pairs of the step, on all ranks
    References references;
    Str said; // what the line of the last step in the metrics tells
    double figures[PAIR_FIGURE_COUNT];
} PairPasses;

static inline ObjectiveRule objective_of_options(const Options *o) {
    ObjectiveRule r = {o->objective, o->beta, o->label_smoothing, o->simpo_gamma, 0};
    return r;
}

static inline const char *objective_name(int objective) {
    static const char *const names[] = {
#define X(id, text) text,
        OBJECTIVES(X)
#undef X
    };
    return names[objective];
}

static inline bool objective_check_data(const Dataset *d, const char *option, const char *files, int objective,
                                        Error *err) {
    if (objective == OBJECTIVE_NEXT && d->pairs)
        return error_set(err,
                         "--%s=%s holds pairs of answers: give --objective=dpo, ipo, simpo or orpo, or tokenise "
                         "conversations with --format=chat",
                         option, files);
    for (int i = 0; objective != OBJECTIVE_NEXT && i < d->count; i++)
        if (!shard_is_pairs(&d->shards[i]))
            return error_set(err,
                             "--objective=%s learns from pairs of answers, and %s holds none: make shards of them with "
                             "tokenize --format=preferences",
                             objective_name(objective), d->shards[i].path);
    return true;
}

// Do the objective, the data and the model fit together?
static inline bool objective_check(const RunInputs *in, const Options *o, Error *err) {
    bool folder, weights;
    if (!objective_check_data(&in->train, "train_data", o->train_data, o->objective, err) ||
        !objective_check_data(&in->val, "val_data", o->val_data, o->objective, err))
        return false;
    if (o->objective == OBJECTIVE_NEXT) return true;
    if (*o->teacher)
        return error_set(err,
                         "--teacher=%s teaches the next token, which --objective=%s is not of: leave one of them out",
                         o->teacher, objective_name(o->objective));
    if (o->lr == LR_AUTO)
        return error_set(err,
                         "--lr=auto measures the loss of the next token, not that of --objective=%s: give --lr a "
                         "number",
                         objective_name(o->objective));
    if (!objective_has_reference(o->objective)) return true;
    if (!folder_look(o->model, &folder, &weights, err)) return false;
    return weights ? true
                   : error_set(err,
                               "--objective=%s compares with what the model was before, and --model=%s is no folder "
                               "with weights",
                               objective_name(o->objective), o->model);
}

static inline void pair_passes_open(PairPasses *p, int micro_batches, int B, int T) {
    if (p->rule.objective == OBJECTIVE_NEXT) return;
    p->most = B * T / 2;
    p->items = (ModelPair *)mem_alloc(sizeof(ModelPair) * (size_t)micro_batches * (size_t)p->most);
    p->counts = (int *)mem_alloc(sizeof(int) * (size_t)micro_batches);
}

static inline void pair_passes_free(PairPasses *p) {
    free(p->items);
    free(p->counts);
    free(p->said.data);
}

// The pairs of a pass that was read from position `first` on: B rows.
static inline void pair_passes_find(PairPasses *p, int micro, const BatchSource *source, const Dataset *d,
                                    int64_t first, int B, SourceRows rows) {
    int T = source->seq_len;
    ModelPair *items = p->items + (size_t)micro * (size_t)p->most;
    p->counts[micro] = 0;
    for (int b = 0; b < B; b++, rows = source_rows_behind(rows, T))
        p->counts[micro] +=
            pairs_of_row(items + p->counts[micro], d, source->index(source, first + b), b * T, rows, p->rule.objective);
}

static inline PairBatch pair_passes_batch(const PairPasses *p, int micro) {
    PairBatch b = {p->items + (size_t)micro * (size_t)p->most, p->counts[micro], p->rule, 0};
    return b;
}

// Counts the pairs of the step on all ranks, by all of them.
static inline void pair_passes_count(PairPasses *p, int micro_batches, const Dist *dist) {
    double sums[2] = {0, 0}; // pairs, tokens of their chosen sides
    for (int micro = 0; micro < micro_batches; micro++)
        for (int i = 0; i < p->counts[micro]; i++) {
            const ModelPair *pair = &p->items[(size_t)micro * (size_t)p->most + (size_t)i];
            sums[0] += 1, sums[1] += pair->rejected - pair->chosen;
        }
    dist_sum(dist, sums, 2);
    p->step = sums[0];
    p->rule.nll = sums[0] / sums[1];
}

// Behind a step, on all ranks: its figures, for the metrics.
static inline void pair_passes_tell(PairPasses *p, Model *m, const Dist *dist) {
    if (p->rule.objective == OBJECTIVE_NEXT) return;
    model_figures(m, p->figures);
    dist_sum(dist, p->figures, PAIR_FIGURE_COUNT);
    for (int k = 0; k < PAIR_FIGURE_COUNT; k++) p->figures[k] /= p->step;
    p->said.size = 0;
    str_printf(&p->said, ", \"pairs\": %.0f", p->step);
    pairs_json(&p->said, "", p->figures);
}

#endif
