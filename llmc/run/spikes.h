/*
spikes.h: steps whose loss or gradient norm stands out from the steps before.

Of the last --spike_window accepted steps both numbers are kept. A new step is a spike if one of them
is more than --spike_threshold standard deviations above the window's mean; below the mean nothing is.
Before the window is full nothing is judged but what is not finite.

The bounds are known before the step, so that the engine itself can refuse the update (UpdateRule in
engine.h) without asking. The window is part of a checkpoint, digit by digit: a resumed run judges as
an undisturbed one does.

Limits: a window of at most SPIKE_WINDOW_MOST steps.
*/
#ifndef LLMC_SPIKES_H
#define LLMC_SPIKES_H

#include "options.h"

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

static inline SpikeBounds spike_bounds(const SpikeWindow *w, const Options *o) {
    SpikeBounds b;
    memset(&b, 0, sizeof b);
    if (o->spike_window == 0 || o->spike_threshold == 0 || w->count < o->spike_window) return b;
    b.loss = spike_statistics(w->loss, w->count);
    b.grad_norm = spike_statistics(w->grad_norm, w->count);
    b.max_loss = b.loss.mean + o->spike_threshold * b.loss.deviation;
    b.max_norm = b.grad_norm.mean + o->spike_threshold * b.grad_norm.deviation;
    return b;
}

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

static inline void spike_json_values(Str *s, const double *x, int n) {
    for (int i = 0; i < n; i++) str_printf(s, "%s%.17g", i ? ", " : "", x[i]);
}

// Appends `"loss": [...], "grad_norm": [...]`.
static inline void spike_json(Str *s, const SpikeWindow *w) {
    str_puts(s, "\"loss\": [");
    spike_json_values(s, w->loss, w->count);
    str_puts(s, "], \"grad_norm\": [");
    spike_json_values(s, w->grad_norm, w->count);
    str_puts(s, "]");
}

// From what spike_json wrote; a checkpoint without one has an empty window. False: damaged.
static inline bool spike_read(SpikeWindow *w, const Json *object) {
    w->count = 0;
    int norms = 0;
    for (const Json *j = json_is(json_get(object, "loss"), JSON_ARRAY) ? json_get(object, "loss")->child : NULL; j;
         j = j->next) {
        if (w->count == SPIKE_WINDOW_MOST) return false;
        w->loss[w->count++] = json_number(j, 0);
    }
    for (const Json *j = json_is(json_get(object, "grad_norm"), JSON_ARRAY) ? json_get(object, "grad_norm")->child
                                                                            : NULL;
         j; j = j->next) {
        if (norms == SPIKE_WINDOW_MOST) return false;
        w->grad_norm[norms++] = json_number(j, 0);
    }
    return norms == w->count;
}

#endif
