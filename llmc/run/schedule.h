/*
schedule.h: the learning rate as a function of the step, or of the share of a budget of time that is used (budget.h).

Warm-up is linear. After it: half a cosine (Loshchilov and Hutter 2017), a line, a level, or a level
with a linear decay at the end (warm-up/stable/decay, WSD, Hu et al. 2024, "MiniCPM").
*/
#ifndef LLMC_SCHEDULE_H
#define LLMC_SCHEDULE_H

#include "../base/common.h"
#include <math.h>

#define SCHEDULES(X)                                                                                                   \
    X(SCHEDULE_COSINE, "cosine") X(SCHEDULE_LINEAR, "linear") X(SCHEDULE_CONSTANT, "constant") X(SCHEDULE_WSD, "wsd")
enum { SCHEDULES(CHOICE_ENUM) };

typedef struct {
    int kind; // SCHEDULE_...
    double peak, final_fraction, decay_fraction;
    int64_t warmup, steps; // warmup: at most steps
    double warmup_share;   // for schedule_lr_at
} Schedule;

// The rate behind the level, of the way that it goes down: progress, 0 to 1.
static inline double schedule_down(const Schedule *s, double progress) {
    if (progress > 1) progress = 1;
    double remaining =
        s->kind == SCHEDULE_COSINE ? 0.5 * (1.0 + cos(3.14159265358979323846 * progress)) : 1.0 - progress;
    return s->peak * (s->final_fraction + (1.0 - s->final_fraction) * remaining);
}

// Learning rate of step 1 .. steps. Step 1 has peak / warmup, step `warmup` has the peak, the last
// step has final_fraction x peak (but under `constant`).
static inline double schedule_lr(const Schedule *s, int64_t step) {
    if (step <= s->warmup) return s->peak * (double)step / (double)s->warmup;
    int64_t from = s->warmup;
    if (s->kind == SCHEDULE_WSD) {
        from = s->steps - (int64_t)(s->decay_fraction * (double)s->steps + 0.5);
        if (from < s->warmup) from = s->warmup;
    }
    if (s->kind == SCHEDULE_CONSTANT || step <= from || s->steps <= from) return s->peak;
    return schedule_down(s, (double)(step - from) / (double)(s->steps - from));
}

// The same of a step at whose end `share` of all is used, 0 to 1. The last one has 1.
static inline double schedule_lr_at(const Schedule *s, double share) {
    if (share < s->warmup_share) return s->peak * share / s->warmup_share;
    double from = s->warmup_share;
    if (s->kind == SCHEDULE_WSD && 1 - s->decay_fraction > from) from = 1 - s->decay_fraction;
    if (s->kind == SCHEDULE_CONSTANT || share <= from || from >= 1) return s->peak;
    return schedule_down(s, (share - from) / (1 - from));
}

// Prints the curve as a small chart, so that a wrong schedule is seen before the first step. minutes: of the budget of
// time that it runs by, 0: by steps.
static inline void schedule_print(Str *out, const Schedule *s, double minutes) {
    enum { W = 60, H = 6 };
    static const char *const names[] = {SCHEDULES(CHOICE_NAME)};
    bool timed = minutes > 0;
    str_printf(out, "learning rate: %s, warm-up ", names[s->kind]);
    if (timed) str_printf(out, "%g%% of the time", 100 * s->warmup_share);
    else str_printf(out, "%lld steps", (long long)s->warmup);
    str_printf(out, ", peak %g, last step %g\n", s->peak, timed ? schedule_lr_at(s, 1) : schedule_lr(s, s->steps));
    for (int row = H; row >= 1; row--) {
        str_printf(out, "  %9.2e |", s->peak * row / H);
        for (int x = 0; x < W; x++) {
            double share = (double)x / (W - 1);
            int64_t step = s->steps <= 1 ? 1 : 1 + (int64_t)((double)(s->steps - 1) * x / (W - 1));
            double lr = timed ? schedule_lr_at(s, share) : schedule_lr(s, step);
            double level = s->peak > 0 ? lr / s->peak * H : 0;
            str_puts(out, level >= row - 0.5 ? "#" : " ");
        }
        str_puts(out, "\n");
    }
    str_printf(out, "            +%.*s\n", W, "------------------------------------------------------------");
    if (timed) str_printf(out, "             0%*g min", W - 5, minutes);
    else str_printf(out, "             1%*lld", W - 1, (long long)s->steps);
}

#endif
