/*
lr_test.h: --lr=auto: a learning rate from a range test before the first step of a new run.

From the run's start weights on, by its own rule of updates (optimizer, clipping, weight decay, size of an update), the
first sequences of its data are trained on, and with every step the learning rate is LR_TEST_RATIO times that of the
step before. Behind each update the loss is measured, always of the same sequences, which are none of those (the probe).
It falls, and rises again where the rate is too high: the test is over when a tenth of the fall, or LR_TEST_LEAST_RISE,
is lost. Then

    lr = share x the rate by which LR_TEST_FALL of the whole fall was made x (512 / steps)^(1/3)

with a share of 1 for AdamW and 1.6 for Muon and NorMuon, rounded to a tenth of a decade (1, 1.3, 1.6, 2, 2.5, 3.2, 4,
5, 6.3, 7.9), so that the last digits of sums, which differ between machines and numbers of ranks, do not show. By a
budget of time nobody knows the number of steps: it counts as 512.

Then the start weights are loaded again, and moments, gradients, position and counts are those of the start: the run has
the same bits as with the number in place of auto. What was chosen is part of every checkpoint (run.json, "lr"), and the
curve stands in the line of step 1 in metrics.jsonl. Nothing here is a step of the run: no spike, metric, step of the
watchdog or time of --time_budget. A loss or update that is not finite ends the test, and is no error. A loss that does
not fall, or not rise again, is one: then there is nothing to choose by. A reason to stop (stop.h) ends the test and
the run; there is no checkpoint yet, and a new start makes the test again, with the same result: no clock is in it.

The rise of the rate is Smith's (2015, "Cyclical learning rates", section 3.3) and fastai's lr_find, which looks at each
batch's own loss before its update, smooths its noise away (about 0.1 nats of 512 tokens), and suggests the steepest
point, a tenth of the lowest, or the longest valley's. A probe has no such noise: its curve is smooth up to its lowest
point, and one pass of 40 steps is enough. Of the points of the curve that were compared (shares of the fall, steepest,
lowest, rises of 5 to 50%) this one moves least between seeds, by a tenth, and with its two shares it was within a
factor of 2 of the best rate of every sweep. That the best rate sinks with the cube root of the length is from Bjorck et
al. (2024, "Scaling optimal LR across token horizons": exponent 0.32). dev/bench/learning.md has the sweeps.

Limits: the ratio does not depend on the length of the run, since the loss rises at a rate that sinks with the number of
steps that lead to it: new weights begin at 1e-5 and reach 1e-2 in 32 steps, and a run of a few hundred steps spends a
tenth of its time on the test. With --muon_lr the matrices have that rate in every step of it, and what is found is that
of all others, with AdamW's share, which nobody measured there. Measured up to 5M parameters and
2048 steps; beyond, it is hope that the law holds.
*/
#ifndef LLMC_LR_TEST_H
#define LLMC_LR_TEST_H

#include "passes.h"

// None of these is to be tuned apart from the others: the shares are what was measured with them.
#define LR_TEST_RATIO 1.25
#define LR_TEST_NEW 1e-5    // the first rate, of new weights
#define LR_TEST_LOADED 1e-6 // and of those from a folder, which are better as they are
#define LR_TEST_LAST 10.0   // what --lr may be
#define LR_TEST_FALL 0.7    // of the whole
#define LR_TEST_RISE 0.1    // of the fall
#define LR_TEST_ADAMW 1.0
#define LR_TEST_MUON 1.6
#define LR_TEST_STEPS 512.0      // of the runs that these are for
#define LR_TEST_LEAST_FALL 0.002 // nats: rounding makes less
#define LR_TEST_LEAST_RISE 0.02
#define LR_TEST_BUDGET 0.25 // of --time_budget that the test may take
enum { LR_TEST_MOST = 80 }; // steps: 73 are from LR_TEST_LOADED to LR_TEST_LAST

// ---------------------------------------------------------------- the curve

typedef struct {
    double start; // the probe's loss with the start weights
    int count;
    double lr[LR_TEST_MOST], loss[LR_TEST_MOST]; // (count): loss: behind the update with lr
    int lowest;                                  // where the loss is lowest, -1: nowhere lower than at the start
    bool rose;                                   // behind the last update
} LrCurve;

static inline LrCurve lr_curve(double start) {
    LrCurve c;
    memset(&c, 0, sizeof c);
    c.start = start;
    c.lowest = -1;
    return c;
}

static inline double lr_curve_lowest(const LrCurve *c) { return c->lowest < 0 ? c->start : c->loss[c->lowest]; }

// A point behind the others. False: the test is over.
static inline bool lr_curve_add(LrCurve *c, double lr, double loss) {
    c->lr[c->count] = lr;
    c->loss[c->count] = loss;
    if (loss < lr_curve_lowest(c)) c->lowest = c->count;
    c->count++;
    double rise = fmax(LR_TEST_LEAST_RISE, LR_TEST_RISE * (c->start - lr_curve_lowest(c)));
    c->rose = !(loss <= lr_curve_lowest(c) + rise); // or is not finite
    return !c->rose && c->count < LR_TEST_MOST && lr * LR_TEST_RATIO <= LR_TEST_LAST;
}

// The rate by which LR_TEST_FALL of the fall was made, between two points on a line in the logarithm of the rate.
static inline double lr_curve_falls_at(const LrCurve *c) {
    double loss = c->start - LR_TEST_FALL * (c->start - lr_curve_lowest(c));
    int i = 0;
    while (c->loss[i] > loss) i++; // the lowest is not
    double before = i ? c->loss[i - 1] : c->start, way = (before - loss) / (before - c->loss[i]);
    return c->lr[i] * pow(LR_TEST_RATIO, way - 1);
}

// How much more a run of so many steps gets than one of LR_TEST_STEPS, within what was measured and hope; 0: not known.
static inline double lr_length_factor(int64_t steps) {
    return steps ? fmax(0.125, fmin(2, cbrt(LR_TEST_STEPS / (double)steps))) : 1;
}

// What is chosen by it. share: of the optimizer; steps: of the run, 0: not known.
static inline bool lr_curve_choose(double *chosen, const LrCurve *c, double share, int64_t steps, Error *err) {
    char digits[32];
    double fall = c->start - lr_curve_lowest(c), last = c->count ? c->lr[c->count - 1] : 0;
    if (!(fall >= LR_TEST_LEAST_FALL))
        return error_set(err,
                         "--lr=auto: in a test with learning rates from %g to %.2g the loss fell by no more than %.2g "
                         "from the %g of the start, which is nothing to choose by; give --lr a number (these weights "
                         "may have learnt what the data can teach them, or be of another kind)",
                         c->count ? c->lr[0] : 0, last, fall, c->start);
    if (!c->rose)
        return error_set(err,
                         "--lr=auto: in a test with learning rates from %g to %.2g the loss did not rise again; give "
                         "--lr a number (it was lowest, %g, at %g)",
                         c->lr[0], last, lr_curve_lowest(c), c->lr[c->lowest]);
    double decades = log10(share * lr_length_factor(steps) * lr_curve_falls_at(c));
    snprintf(digits, sizeof digits, "%.1e", pow(10, floor(10 * decades + 0.5) / 10));
    *chosen = strtod(digits, NULL); // what a user would write
    return true;
}

// Appends `, "lr_test": {...}`, for the metrics.
static inline void lr_curve_json(Str *s, const LrCurve *c, double chosen) {
    str_puts(s, ", \"lr_test\": {\"lr\": ");
    json_add_number(s, chosen);
    str_printf(s, ", \"start\": %.9g, \"curve\": [", c->start);
    for (int i = 0; i < c->count; i++) {
        str_printf(s, "%s[%.4g, ", i ? ", " : "", c->lr[i]);
        if (isfinite(c->loss[i])) str_printf(s, "%.6g]", c->loss[i]);
        else str_puts(s, "null]");
    }
    str_puts(s, "]}");
}

// ---------------------------------------------------------------- the test

// Reads the sequences of an update from `position` on; a rank that cannot ends the job.
static inline void lr_test_read(Trainer *t, int64_t position) {
    t->state.position = position;
    dist_agree(t->dist, trainer_read(t), &t->data_err);
}

// The loss of the sequences at `position`, over all ranks.
static inline double lr_test_probe(Trainer *t, int64_t position) {
    lr_test_read(t, position);
    trainer_count_targets(t);
    for (int micro = 0; micro < t->micro_batches; micro++) {
        ModelBatch batch = trainer_batch(t, micro);
        model_forward(t->model, &batch, 0, NULL);
    }
    double loss = model_loss(t->model);
    dist_sum(t->dist, &loss, 1);
    return loss / t->step_targets;
}

// One update. False: it made something that is not finite, or was refused for that.
static inline bool lr_test_step(Trainer *t, int64_t position, int step, double lr) {
    lr_test_read(t, position);
    trainer_passes(t);
    UpdateRule rule = rule_of_options(t->o, step, lr, lr);
    UpdateResult r = model_update(t->model, &rule);
    return r.updated && r.finite;
}

// Weights, moments and gradients as they were before.
static inline void lr_test_undo(Trainer *t) {
    float *zeros = (float *)mem_alloc(sizeof(float) * INIT_WEIGHTS_MOST);
    for (int k = 0; k < STATE_KINDS; k++) {
        const ParamTable *table = &t->in.tables.array[1 + k]; // in the order of checkpoint_arrays
        for (int i = 0; i < table->count; i++) {
            const Param *p = &table->items[i];
            for (size_t first = 0, n; first < p->count; first += n) {
                n = p->count - first < INIT_WEIGHTS_MOST ? p->count - first : INIT_WEIGHTS_MOST;
                Param piece = param_piece(p, first, n);
                if (model_keeps(t->model, checkpoint_arrays[1 + k].array, &piece))
                    model_set(t->model, checkpoint_arrays[1 + k].array, &piece, zeros);
            }
        }
    }
    free(zeros);
    model_zero_gradients(t->model);
    model_loss(t->model);
    model_taught(t->model);
    trainer_load_start(t);
    t->state.position = 0;
}

// The steps that have been made took so long that the test would be too large a part of --time_budget: an error, and
// not a shorter test, whose result would hang on the clock.
static inline void lr_test_look_at_time(const Trainer *t, int done, double seconds) {
    const double usual = 40, most = LR_TEST_BUDGET * t->budget.limit;
    Error err;
    error_set(&err,
              "--lr=auto: its test would take about %.0f s, more than a quarter of --time_budget=%g minutes; give "
              "--lr a number",
              seconds / done * usual, t->o->time_budget);
    bool late = t->budget.limit > 0 && t->dist->rank == 0 && seconds / done * usual > most;
    dist_agree(t->dist, !late, &err);
}

// Sets the schedule's peak. Called by all ranks. t->stopped: there was a reason to stop before that.
static inline void trainer_test_lr(Trainer *t) {
    const int64_t sequences = t->step_tokens / t->T, probe = LR_TEST_MOST * sequences;
    const bool muon = t->o->optimizer != OPTIMIZER_ADAMW && t->o->muon_lr == 0;
    const double share = muon ? LR_TEST_MUON : LR_TEST_ADAMW;
    const int64_t steps = t->budget.limit > 0 ? 0 : t->o->steps;
    double begin = clock_seconds(), lr = t->loaded ? LR_TEST_LOADED : LR_TEST_NEW;
    Error err;
    LrCurve c = lr_curve(lr_test_probe(t, probe));
    for (bool on = true; on && !t->stopped; lr *= LR_TEST_RATIO) {
        bool finite = lr_test_step(t, c.count * sequences, c.count + 1, lr);
        on = lr_curve_add(&c, lr, finite ? lr_test_probe(t, probe) : (double)NAN);
        if (c.count == 3) lr_test_look_at_time(t, c.count, clock_seconds() - begin);
        log_progress(&t->log, "--lr=auto: step %d of its test, learning rate %.2g, loss %.4f", c.count, lr,
                     c.loss[c.count - 1]);
        t->stopped = stop_reason(&t->stop, true);
    }
    if (t->stopped) {
        char why[128];
        stop_done(&t->stop, t->stopped, why);
        log_line(&t->log, "stopped by %s in the test of --lr=auto: there is no step and no checkpoint yet", why);
        return;
    }
    double chosen = 0;
    dist_agree(t->dist, lr_curve_choose(&chosen, &c, share, steps, &err), &err);
    dist_broadcast(t->dist, &chosen, sizeof chosen);
    lr_test_undo(t);
    t->state.lr = t->schedule.peak = chosen;
    lr_curve_json(&t->lr_test, &c, chosen);
    log_line(&t->log,
             "--lr=auto: %g; in a test of %d steps with learning rates from %g on the loss fell from %.4f to %.4f, "
             "70%% of that by %.2g, and rose again at %.2g; times %g for the optimizer and %.2f for the length; "
             "it took %.1f s and is undone",
             chosen, c.count, c.lr[0], c.start, lr_curve_lowest(&c), lr_curve_falls_at(&c), c.lr[c.count - 1], share,
             lr_length_factor(steps), clock_seconds() - begin);
    trainer_log_schedule(t);
}

#endif
