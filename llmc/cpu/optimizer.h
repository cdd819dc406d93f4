/*
optimizer.h: the gradient norm and AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101). Both are
bound by memory: AdamW reads and writes 28 bytes a float parameter.

What an update makes is looked at while it is made: a learning rate, a decay or a moment that is too large can overflow
a weight although loss and gradients were finite.
*/
#ifndef LLMC_CPU_OPTIMIZER_H
#define LLMC_CPU_OPTIMIZER_H

#include "../model.h"
#include "cpu.h"

enum { SQUARES_CHUNK = 1 << 14 }; // numbers summed in one piece; fixed, so that bits do not depend on threads

enum { SQUARES_RUN = 16 }; // numbers of a lane that are summed as real before they go to double, a multiple of 4

// Sum of x^2 over x (n), in a fixed order. Runs are summed as real, which costs a relative 1e-7 in float,
// and runs in double: to widen every number took a third longer than to read it. In float a number
// above 1.8e19 makes the sum Inf, and below 1e-19 counts little: neither is a gradient.
static inline double sum_of_squares(const real *x, size_t n, Cpu *cpu) {
    int64_t chunks = (int64_t)((n + SQUARES_CHUNK - 1) / SQUARES_CHUNK);
    double *partial = (double *)cpu_workspace(cpu, sizeof(double) * (size_t)(chunks + 1));
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        size_t i = (size_t)chunk * SQUARES_CHUNK, end = i + SQUARES_CHUNK < n ? i + SQUARES_CHUNK : n;
        double lanes[VL] = {0}, sum = 0;
        for (; i + SQUARES_RUN * VL <= end; i += SQUARES_RUN * VL) {
            vreal s[4] = {{0}, {0}, {0}, {0}};
            for (int k = 0; k < SQUARES_RUN; k += 4)
                for (int j = 0; j < 4; j++) {
                    vreal v = vload(x + i + (k + j) * VL);
                    s[j] += v * v;
                }
            vreal run = (s[0] + s[1]) + (s[2] + s[3]);
            for (int lane = 0; lane < VL; lane++) lanes[lane] += (double)run[lane];
        }
        for (int lane = 0; lane < VL; lane++) sum += lanes[lane];
        for (; i < end; i++) sum += (double)x[i] * (double)x[i];
        partial[chunk] = sum;
    }
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) sum += partial[chunk];
    return sum;
}

// A run of parameters that this rank updates: (n) each.
typedef struct {
    real *w;
    const real *g;
    real *state[STATE_KINDS];
    size_t n;
} ParamRun;

// g is multiplied by clip first; rule->step counts from 1. m, v: moment1, moment2.
//     m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//     w -= lr (mhat / (sqrt(vhat) + eps) + weight_decay w),  mhat = m / (1 - beta1^step), vhat likewise
// False: a w or v is not finite now. An m that is not makes its w so, unless v is not either.
static inline bool adamw(ParamRun run, const UpdateRule *rule, int group, double clip, Cpu *cpu) {
    const GroupRule *r = &rule->group[group];
    double step = (double)rule->step;
    real *w = run.w, *m = run.state[STATE_moment1], *v = run.state[STATE_moment2];
    real b1 = (real)r->beta1, b2 = (real)r->beta2, c1 = (real)(1 - r->beta1), c2 = (real)(1 - r->beta2),
         gs = (real)clip;
    real rate = (real)(r->lr / (1 - pow(r->beta1, step))), vs = (real)(1 / sqrt(1 - pow(r->beta2, step))),
         e = (real)r->eps, keep = (real)(1 - r->lr * r->weight_decay);
    int bad = 0;
    OMP(parallel for num_threads(cpu->threads) schedule(static) reduction(| : bad))
    for (int64_t i = 0; i < (int64_t)run.n; i++) {
        real gi = run.g[i] * gs, mi = b1 * m[i] + c1 * gi, vi = b2 * v[i] + c2 * gi * gi;
        m[i] = mi;
        v[i] = vi;
        real wi = w[i] * keep - rate * mi / ((real)sqrt(vi) * vs + e);
        w[i] = wi;
        bad |= (wi - wi) + (vi - vi) != 0; // NaN, which is not equal to 0, if one of them is Inf or NaN
    }
    (void)cpu;
    return !bad;
}

#endif
