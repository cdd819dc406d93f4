/*
xielu.h: xIELU (Huang and Schlag 2024, arXiv:2411.13010), the activation function of apertus, which learns two numbers
in each layer. With p = softplus(alpha_p), n = beta + softplus(alpha_n), as Transformers' XIELUActivation has it:

    f(x) = p x^2 + beta x                                x > 0
    f(x) = n (e^min(x, eps) - 1 - x) + beta x            else; eps is a little below 0

learned: alpha_p, alpha_n; fixed: beta, eps. Their gradients are sums over all of fc, gathered in a fixed number of
parts, so that bits do not depend on threads.
*/
#ifndef LLMC_CPU_XIELU_H
#define LLMC_CPU_XIELU_H

#include "cpu.h"

typedef struct {
    real p, n, beta, eps;
    real dp, dn; // derivatives of p by alpha_p and of n by alpha_n: logistic functions
} Xielu;

static inline Xielu xielu_of(const real *learned, const real *fixed) {
    real e[2], d[2]; // log(1 + e^x), without an overflow; its derivative
    for (int i = 0; i < 2; i++) {
        double x = (double)learned[i];
        e[i] = (real)((x > 0 ? x : 0) + log1p(exp(-fabs(x))));
        d[i] = (real)(1 / (1 + exp(-x)));
    }
    Xielu k = {e[0], fixed[0] + e[1], fixed[0], fixed[1], d[0], d[1]};
    return k;
}

// e^x - 1 - x for x <= 0. Above -1/2 the first terms of its series, whose rest is below a rounding: 2 / 10! 2^-8 and
// 2 / 18! 2^-16 of the first.
ALWAYS_INLINE vreal xielu_rest(vreal x) {
    const int terms = sizeof(real) == 4 ? 8 : 16;
    vreal sum = vset(1);
    for (int k = terms + 1; k > 2; k--) sum = 1 + x * ((real)1 / (real)k) * sum;
    return vselect(x < (real)-0.5, vexp(x) - 1 - x, (real)0.5 * x * x * sum);
}

// What stands behind n below 0, and e^min(x, eps) - 1 - x is made of: for x > eps the rest of eps, and what is left.
ALWAYS_INLINE vreal xielu_low(vreal x, Xielu k) {
    vreal m = vselect(x >= k.eps, vset(k.eps), x); // NaN stays NaN
    return xielu_rest(m) + (m - x);
}

ALWAYS_INLINE vreal xielu(vreal x, Xielu k) { return vselect(x > 0, k.p * x * x, k.n * xielu_low(x, k)) + k.beta * x; }

ALWAYS_INLINE vreal xielu_slope(vreal x, Xielu k) {
    vreal below = vselect(x >= k.eps, vset(-1), vexp(x) - 1);
    return vselect(x > 0, 2 * k.p * x, k.n * below) + k.beta;
}

// mlp (N, F) of fc (N, F); learned (2), fixed (2)
static inline void xielu_forward(real *mlp, const real *fc, const real *learned, const real *fixed, int N, int F,
                                 Cpu *cpu) {
    Xielu k = xielu_of(learned, fixed);
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int row = 0; row < N; row++) {
        const real *x = fc + (size_t)row * F;
        for (int i = 0; i < F; i += VL) {
            int n = F - i < VL ? F - i : VL;
            store_up_to(mlp + (size_t)row * F + i, xielu(load_up_to(x + i, n), k), n);
        }
    }
    (void)cpu;
}

enum { XIELU_PARTS = 64 }; // of the sums; fixed

// dfc (N, F) and dlearned (2) += (NULL: not wanted) from dmlp (N, F) and fc (N, F); dfc may be dmlp
static inline void xielu_backward(real *dfc, real *dlearned, const real *dmlp, const real *fc, const real *learned,
                                  const real *fixed, int N, int F, Cpu *cpu) {
    Xielu k = xielu_of(learned, fixed);
    int parts = N < XIELU_PARTS ? N : XIELU_PARTS;
    double sums[XIELU_PARTS][2];
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int part = 0; part < parts; part++) {
        int end = (int)cpu_chunk(N, 1, parts, part + 1);
        sums[part][0] = sums[part][1] = 0;
        for (int row = (int)cpu_chunk(N, 1, parts, part); row < end; row++) {
            const real *x = fc + (size_t)row * F, *dy = dmlp + (size_t)row * F;
            vreal high = {0}, low = {0};
            for (int i = 0; i < F; i += VL) {
                int n = F - i < VL ? F - i : VL;
                vreal v = load_up_to(x + i, n), d = load_up_to(dy + i, n);
                high += vselect(v > 0, d * v * v, vset(0));
                low += vselect(v > 0, vset(0), d * xielu_low(v, k));
                store_up_to(dfc + (size_t)row * F + i, d * xielu_slope(v, k), n);
            }
            sums[part][0] += (double)vsum(high), sums[part][1] += (double)vsum(low);
        }
    }
    double all[2] = {0, 0};
    for (int part = 0; part < parts; part++) all[0] += sums[part][0], all[1] += sums[part][1];
    if (dlearned) dlearned[0] += k.dp * (real)all[0], dlearned[1] += k.dn * (real)all[1];
    (void)cpu;
}

#endif
