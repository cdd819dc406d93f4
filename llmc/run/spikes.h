/*
spikes.h: steps whose loss or gradient norm stands out from the steps before.

Of the last --spike_window accepted steps both numbers are kept. A new step is a spike if one of them
is more than --spike_threshold standard deviations above the window's mean (z-score); below the mean nothing is.
Before the window is full nothing is judged but what is not finite.

The bounds are known before the step, so that the engine itself can refuse the update (UpdateRule in
engine.h) without asking. The window is part of a checkpoint, digit by digit: a resumed run judges as
an undisturbed one does.

Limits: a window of at most SPIKE_WINDOW_MOST steps.
*/
#ifndef LLMC_SPIKES_H
#define LLMC_SPIKES_H

#include "../base/json.h"
#include "../engine.h"

enum { SPIKE_WINDOW_MOST = 1024 }; // steps; two doubles each in memory and in run.json

#define SPIKE_ACTIONS(X) X(SPIKE_NONE, "none") X(SPIKE_SKIP, "skip") X(SPIKE_ROLLBACK, "rollback")
enum { SPIKE_ACTIONS(CHOICE_ENUM) };

// What is a spike, and what becomes of one: the options of these names.
typedef struct {
    int64_t window;
    double threshold;
    int action;
    int64_t limit;
} SpikeRule;

typedef struct {
    int count; // of values, oldest first
    double loss[SPIKE_WINDOW_MOST], grad_norm[SPIKE_WINDOW_MOST];
} SpikeWindow;

typedef struct {
    double mean, deviation;
} SpikeStatistics;

// Mean and standard deviation of x (n), n > 0. A window in which nothing moves would make a spike of
// every rounding error: the deviation counts as at least a thousandth of the mean.
static inline SpikeStatistics spike_statistics(const double *x, int n) {
    SpikeStatistics s = {0, 0};
    for (int i = 0; i < n; i++) s.mean += x[i];
    s.mean /= n;
    for (int i = 0; i < n; i++) s.deviation += (x[i] - s.mean) * (x[i] - s.mean);
    s.deviation = sqrt(s.deviation / n);
    double least = 1e-3 * fabs(s.mean);
    if (s.deviation < least) s.deviation = least;
    return s;
}

// What of the next step is a spike above; 0: nothing is judged yet.
typedef struct {
    SpikeStatistics loss, grad_norm;
    double max_loss, max_norm;
} SpikeBounds;

static inline SpikeBounds spike_bounds(const SpikeWindow *w, const SpikeRule *rule) {
    SpikeBounds b;
    memset(&b, 0, sizeof b);
    if (rule->window == 0 || rule->threshold == 0 || w->count < rule->window) return b;
    b.loss = spike_statistics(w->loss, w->count);
    b.grad_norm = spike_statistics(w->grad_norm, w->count);
    b.max_loss = b.loss.mean + rule->threshold * b.loss.deviation;
    b.max_norm = b.grad_norm.mean + rule->threshold * b.grad_norm.deviation;
    return b;
}

// Is the step that had this result a spike?
static inline bool spike_judge(const SpikeBounds *b, const UpdateResult *r) {
    return !r->updated || !r->finite || (b->max_loss > 0 && r->loss > b->max_loss) ||
           (b->max_norm > 0 && r->grad_norm > b->max_norm);
}

// The number of standard deviations above the mean; NAN where nothing is judged.
static inline double spike_z(double x, const SpikeStatistics *s) {
    return s->deviation > 0 ? (x - s->mean) / s->deviation : (double)NAN;
}

// What the metrics say became of one, by SPIKE_...
static const char *const spike_events[] = {"spike", "skip", "rollback"};

// A spike as the metrics tell it, in the line of the step that came of it.
typedef struct {
    const char *action;                     // NULL: there was none
    int64_t step;                           // that was the spike; after a rollback not that of the line
    double loss, grad_norm, z_loss, z_norm; // z NAN: the window was not full
} SpikeEvent;

// Adds an accepted step; the oldest ones go.
static inline void spike_add(SpikeWindow *w, int64_t window, double loss, double grad_norm) {
    if (window == 0) return;
    int gone = w->count + 1 - (int)window;
    if (gone > 0) {
        w->count -= gone;
        memmove(w->loss, w->loss + gone, sizeof(double) * (size_t)w->count);
        memmove(w->grad_norm, w->grad_norm + gone, sizeof(double) * (size_t)w->count);
    }
    w->loss[w->count] = loss;
    w->grad_norm[w->count++] = grad_norm;
}

// Appends `"loss": [...], "grad_norm": [...]`.
static inline void spike_json(Str *s, const SpikeWindow *w) {
    for (int k = 0; k < 2; k++) {
        str_puts(s, k ? ", \"grad_norm\": [" : "\"loss\": [");
        for (int i = 0; i < w->count; i++) str_printf(s, "%s%.17g", i ? ", " : "", (k ? w->grad_norm : w->loss)[i]);
        str_puts(s, "]");
    }
}

// From what spike_json wrote; a checkpoint without one has an empty window. False: damaged.
static inline bool spike_read(SpikeWindow *w, const Json *object) {
    int count[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
        const Json *list = json_get(object, k ? "grad_norm" : "loss");
        double *values = k ? w->grad_norm : w->loss;
        if ((object && object->type != JSON_OBJECT) || (list && list->type != JSON_ARRAY)) return false;
        for (const Json *j = list ? list->child : NULL; j; j = j->next) {
            if (count[k] == SPIKE_WINDOW_MOST || !json_is(j, JSON_NUMBER) || !isfinite(j->number)) return false;
            values[count[k]++] = j->number;
        }
    }
    w->count = count[0];
    return count[0] == count[1];
}

#endif
