/*
schedule.h: the learning rate as a function of the step.

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
} Schedule;

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
    double progress = (double)(step - from) / (double)(s->steps - from);
    if (progress > 1) progress = 1;
    double remaining =
        s->kind == SCHEDULE_COSINE ? 0.5 * (1.0 + cos(3.14159265358979323846 * progress)) : 1.0 - progress;
    return s->peak * (s->final_fraction + (1.0 - s->final_fraction) * remaining);
}

// Prints the curve as a small chart, so that a wrong schedule is seen before the first step.
static inline void schedule_print(FILE *out, const Schedule *s) {
    enum { W = 60, H = 6 };
    static const char *const names[] = {SCHEDULES(CHOICE_NAME)};
    fprintf(out, "learning rate: %s, warm-up %lld steps, peak %g, last step %g\n", names[s->kind], (long long)s->warmup,
            s->peak, schedule_lr(s, s->steps));
    for (int row = H; row >= 1; row--) {
        fprintf(out, "  %9.2e |", s->peak * row / H);
        for (int x = 0; x < W; x++) {
            int64_t step = s->steps <= 1 ? 1 : 1 + (int64_t)((double)(s->steps - 1) * x / (W - 1));
            double level = s->peak > 0 ? schedule_lr(s, step) / s->peak * H : 0;
            fputc(level >= row - 0.5 ? '#' : ' ', out);
        }
        fputc('\n', out);
    }
    fprintf(out, "            +");
    for (int x = 0; x < W; x++) fputc('-', out);
    fprintf(out, "\n             1%*lld\n", W - 1, (long long)s->steps);
}

#endif
