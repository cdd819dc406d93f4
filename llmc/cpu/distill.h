/*
distill.h: the loss of a student beside a teacher's logits (distillation; Hinton, Vinyals and Dean 2015,
arXiv:1503.02531), and its gradient in place.

    loss = (1 - a) CE + a T^2 KL(teacher_T || student_T),   p_T = softmax(logits / T)
    dloss / dlogits = (1 - a) (student_1 - onehot) + a T (student_T - teacher_T)

T^2 keeps the second gradient as large as the first, whatever T is (section 2.1 there).
*/
#ifndef LLMC_CPU_DISTILL_H
#define LLMC_CPU_DISTILL_H

#include "loss.h"

typedef struct {
    int N, V;
    real scale;              // of the gradient; 0: none is made
    real alpha, temperature; // a and T
} DistillShape;

// The sums of a row: of exponentials of student and teacher, relative to their maxima, and of the teacher's times the
// difference of both in the exponent.
typedef struct {
    double one, student, teacher, cross;
} DistillSums;

static inline real distill_maximum(const real *x, int V) {
    int whole = V / VL * VL;
    vreal top = vset(x[0]);
    for (int v = 0; v < whole; v += VL) top = vmax(vload(x + v), top);
    real m = vmaximum(top);
    for (int v = whole; v < V; v++) m = x[v] > m ? x[v] : m;
    return m;
}

static inline DistillSums distill_sums(const real *x, real top, const real *t, real teacher_top, int V, real cold) {
    DistillSums s = {0, 0, 0, 0};
    for (int v = 0; v < V;) { // of runs, as in cross_entropy
        int end = V - v < LOSS_RUN ? V : v + LOSS_RUN;
        vreal one = {0}, student = {0}, teacher = {0}, cross = {0};
        for (; v < end; v += VL) {
            vreal dx = load_up_to(x + v, V - v) - top, dt = load_up_to(t + v, V - v) - teacher_top;
            vreal e = vexp_falling(dx), es = vexp_falling(dx * cold), et = vexp_falling(dt * cold);
            for (int i = V - v; i < VL; i++) e[i] = es[i] = et[i] = dx[i] = dt[i] = 0; // behind the row
            one += e, student += es, teacher += et, cross += et * ((dt - dx) * cold);
        }
        s.one += (double)vsum(one), s.student += (double)vsum(student), s.teacher += (double)vsum(teacher);
        s.cross += (double)vsum(cross);
    }
    return s;
}

// losses, ce, kl (N): the loss above and its two parts, in nats, the second without a and T^2. logits (N, V): in the
// student's, out their gradient times scale, or left as they are when scale is 0. teacher (N, V): its logits. targets
// (N): in [0, V), or -1: ignored, everything 0.
static inline void distill(real *losses, real *ce, real *kl, real *logits, const real *teacher, const int32_t *targets,
                           DistillShape s, Cpu *cpu) {
    const int V = s.V;
    const real cold = 1 / s.temperature;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < s.N; n++) {
        real *x = logits + (size_t)n * (size_t)V;
        const real *t = teacher + (size_t)n * (size_t)V;
        if (targets[n] < 0) {
            losses[n] = ce[n] = kl[n] = 0;
            if (s.scale != 0) memset(x, 0, sizeof(real) * (size_t)V);
            continue;
        }
        real top = distill_maximum(x, V), teacher_top = distill_maximum(t, V), wanted = x[targets[n]];
        DistillSums sums = distill_sums(x, top, t, teacher_top, V, cold);
        ce[n] = (real)(log(sums.one) + (double)top - (double)wanted);
        kl[n] = (real)(sums.cross / sums.teacher - log(sums.teacher) + log(sums.student));
        losses[n] = (1 - s.alpha) * ce[n] + s.alpha * s.temperature * s.temperature * kl[n];
        if (s.scale == 0) continue;
        real hard = s.scale * (1 - s.alpha), soft = s.scale * s.alpha * s.temperature;
        real one = (real)((double)hard / sums.one), student = (real)((double)soft / sums.student),
             taught = (real)((double)soft / sums.teacher);
        for (int v = 0; v < V; v += VL) {
            vreal dx = load_up_to(x + v, V - v) - top, dt = load_up_to(t + v, V - v) - teacher_top;
            vreal g = vexp_falling(dx) * one + (vexp_falling(dx * cold) * student - vexp_falling(dt * cold) * taught);
            store_up_to(x + v, g, V - v);
        }
        x[targets[n]] -= hard;
    }
    (void)cpu;
}

#endif
