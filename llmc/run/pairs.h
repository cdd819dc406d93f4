/*
pairs.h: pairs of answers in passes: where they lie in the rows that are read, and what a model makes of them.

    pairs_of_row(items, data, sequence, first, rows, objective)    the pairs of a row that was read
    pairs_evaluate(&result, &evaluation, &rule, err)               loss and figures (objective.h), means over pairs

A row holds whole pairs (chat_rows.h), so that every pass has both sides of each of its pairs.
*/
#ifndef LLMC_PAIRS_H
#define LLMC_PAIRS_H

#include "evaluate.h"

// items: the pairs of a row that was read into rows, whose first token is number `first` of its pass; returns how many.
// ORPO's targets are all tokens of the chosen side: they are put in.
static inline int pairs_of_row(ModelPair *items, const Dataset *d, int64_t sequence, int32_t first, SourceRows rows,
                               int objective) {
    const Shard *s = dataset_shard(d, sequence);
    int64_t n;
    int32_t t = 0;
    const ChatItem *all = chat_rows_items(&s->rows, sequence - s->first, &n);
    for (int64_t i = 0; i < n; t += all[i++].n) {
        int32_t other = t + all[i].other - 1, end = t + all[i].n, answer[2] = {t, other};
        while (rows.targets[answer[0]] < 0) answer[0]++;
        while (rows.targets[answer[1]] < 0) answer[1]++;
        for (int32_t k = t; objective == OBJECTIVE_ORPO && k < answer[0]; k++) rows.targets[k] = rows.inputs[k + 1];
        const double *r = s->references ? s->references + 2 * (int64_t)all[i].number : NULL;
        ModelPair pair = {first + t,         first + other, first + end, first + answer[0],
                          first + answer[1], r ? r[0] : 0,  r ? r[1] : 0};
        items[i] = pair;
    }
    return (int)n;
}

static inline double pair_sum(const float *losses, int32_t first, int32_t end) {
    double sum = 0;
    for (int32_t n = first; n < end; n++) sum += (double)losses[n];
    return sum;
}

static inline PairSums pair_sums(const ModelPair *p, const float *losses) {
    PairSums s = {pair_sum(losses, p->chosen_answer, p->rejected), pair_sum(losses, p->rejected_answer, p->end),
                  pair_sum(losses, p->chosen, p->rejected)};
    return s;
}

// Called for a row on the rank that has computed it: its pairs, and the losses that they point into.
typedef void PairVisit(void *context, int64_t sequence, const ModelPair *pairs, int n, const float *losses);

// A batch of pairs_sweep: n rows from `first` on, which may be none. False: they could not be read, and none were.
static inline bool pairs_sweep_batch(const Evaluation *e, int objective, int64_t first, int n, SourceRows rows,
                                     ModelPair *pairs, float *losses, PairVisit *visit, void *context, Error *err) {
    const Dataset *d = (const Dataset *)e->source.context;
    int T = e->source.seq_len, *counts = (int *)mem_alloc(sizeof(int) * (size_t)(n + 1)), found = 0;
    bool ok = e->source.next(&e->source, first, n, rows, err);
    for (int i = 0; ok && i < n; i++) {
        counts[i] =
            pairs_of_row(pairs + found, d, first + i, i * T, source_rows_behind(rows, (int64_t)i * T), objective);
        found += counts[i];
    }
    if (!ok || n == 0) evaluate_nothing(rows, T), n = 0;
    ModelBatch batch = {rows.inputs, rows.targets, rows.starts, n ? n : 1, T};
    model_forward(e->model, &batch, 0, NULL);
    if (n && !model_get_activation(e->model, ACT_losses, 0, losses)) fail("the losses of a pass are not kept");
    for (int i = 0; i < n; pairs += counts[i++]) visit(context, first + i, pairs, counts[i], losses);
    free(counts);
    return ok;
}

// Visits the first `sequences` rows of a source, which is a data set in its own order. Called by all ranks, which share
// the rows. False on those that could not read theirs: the passes went on for the others. *whole: e->go_on has not
// ended it.
static inline bool pairs_sweep(const Evaluation *e, int objective, int64_t sequences, PairVisit *visit, void *context,
                               bool *whole, Error *err) {
    int B = e->batch_size, ranks = e->dist->size;
    size_t N = (size_t)B * (size_t)e->source.seq_len;
    SourceRows rows = evaluate_rows(e);
    float *losses = (float *)mem_alloc(sizeof(float) * N);
    ModelPair *pairs = (ModelPair *)mem_alloc(sizeof(ModelPair) * (N / 2 + 1));
    bool ok = true;
    *whole = true;
    for (int64_t round = 0; round < sequences && *whole; round += (int64_t)ranks * B) {
        int64_t first = round + (int64_t)e->dist->rank * B, n = int64_max(0, int64_min(B, sequences - first));
        *whole = round == 0 || !e->go_on || e->go_on(e->context, round, sequences);
        if (!*whole) break;
        ok = pairs_sweep_batch(e, objective, first, ok ? (int)n : 0, rows, pairs, losses, visit, context,
                               ok ? err : NULL) &&
             ok;
    }
    model_loss(e->model);
    evaluate_rows_free(rows);
    free(losses);
    free(pairs);
    return ok;
}

// ---------------------------------------------------------------- validation

typedef struct {
    double figures[PAIR_FIGURE_COUNT]; // means over the pairs
    double pairs, tokens; // that they are of; tokens of the answers, with ORPO of prompts of chosen ones, too
    bool whole;           // false: it was given up, and the numbers mean nothing
} PairResult;

typedef struct {
    PairResult *out;
    ObjectiveRule rule;
    double side_losses, side_tokens; // of chosen sides, prompts included
} PairMeasure;

static inline void pairs_measure(void *context, int64_t sequence, const ModelPair *pairs, int n, const float *losses) {
    PairMeasure *m = (PairMeasure *)context;
    (void)sequence;
    for (int i = 0; i < n; i++) {
        const ModelPair *p = &pairs[i];
        PairNumbers numbers;
        PairSums sums = pair_sums(p, losses);
        pair_numbers(&numbers, &m->rule, p, sums);
        for (int k = 0; k < PAIR_FIGURE_COUNT; k++) m->out->figures[k] += numbers.figures[k];
        m->out->pairs += 1;
        m->side_losses += sums.chosen_side, m->side_tokens += p->rejected - p->chosen;
        m->out->tokens += p->rejected - p->chosen_answer + p->end - p->rejected_answer;
    }
}

// Called by all ranks. False on all of them if one cannot read its part; err is empty on those that can read theirs.
static inline bool pairs_evaluate(PairResult *out, const Evaluation *e, const ObjectiveRule *rule, Error *err) {
    PairMeasure m;
    double *sums = (double *)mem_alloc(sizeof(double) * (PAIR_FIGURE_COUNT + 5)), *rest = sums + PAIR_FIGURE_COUNT;
    memset(out, 0, sizeof *out);
    memset(&m, 0, sizeof m);
    m.out = out, m.rule = *rule;
    m.rule.nll = 0; // its tokens are counted here
    err->text[0] = 0;
    rest[4] = !pairs_sweep(e, rule->objective, evaluate_sequences(e), pairs_measure, &m, &out->whole, err);
    memcpy(sums, out->figures, sizeof out->figures);
    rest[0] = out->pairs, rest[1] = out->tokens, rest[2] = m.side_losses, rest[3] = m.side_tokens;
    dist_sum(e->dist, sums, PAIR_FIGURE_COUNT + 5);
    bool ok = rest[4] == 0;
    for (int k = 0; k < PAIR_FIGURE_COUNT; k++) out->figures[k] = sums[k] / rest[0];
    if (rule->objective == OBJECTIVE_ORPO) out->figures[PAIR_LOSS] += rest[2] / rest[3];
    out->pairs = rest[0], out->tokens = rest[1];
    free(sums);
    return ok;
}

// Appends `, "rewards/chosen": ...`, all figures but the loss, each name behind `before`.
static inline void pairs_json(Str *s, const char *before, const double *figures) {
    static const char *const names[PAIR_FIGURE_COUNT] = {
#define X(id, name) name,
        PAIR_FIGURES(X)
#undef X
    };
    for (int k = 0; k < PAIR_FIGURE_COUNT; k++) {
        if (k == PAIR_LOSS) continue;
        if (isfinite(figures[k])) str_printf(s, ", \"%s%s\": %.9g", before, names[k], figures[k]);
        else str_printf(s, ", \"%s%s\": null", before, names[k]);
    }
}

#endif
