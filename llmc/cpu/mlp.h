/*
mlp.h: the pointwise parts of the feed-forward layer: GELU in its tanh form (Hendrycks and Gimpel
2016, arXiv:1606.08415; "gelu_new" in Hugging Face configs) and SiLU (x times its logistic function), either with a
gate (Shazeer 2020, arXiv:2002.05202; with SiLU: SwiGLU).

0.5 (1 + tanh(u)) is the logistic function of 2u, so GELU needs one exp and no tanh:
    gelu(x) = x * s,  s = 1 / (1 + exp(-2u)),  u = sqrt(2/pi) (x + 0.044715 x^3)
*/
#ifndef LLMC_CPU_MLP_H
#define LLMC_CPU_MLP_H

#include "../model.h"
#include "cpu.h"

// s = 1 / (1 + e^-z) and its complement c = 1 - s, each to full relative accuracy. e^-z is kept
// finite so that c is 1 and not Inf * 0 for very negative z.
#define SIGMOID_LOW ((real)(sizeof(real) == 4 ? -88 : -709)) // e^88 and e^709 are still finite
static inline void sigmoid_pair(vreal z, vreal *s, vreal *c) {
    vreal e = vexp(-vselect(z < SIGMOID_LOW, vset(SIGMOID_LOW), z));
    *s = 1 / (1 + e);
    *c = e * *s;
}

#define GELU_A ((real)1.5957691216057308) // 2 sqrt(2/pi)
#define GELU_B ((real)0.044715)

// f: a f(x). slope: a f'(x), f' the derivative.
ALWAYS_INLINE vreal gelu(vreal a, vreal x) {
    vreal z = GELU_A * (x + GELU_B * x * x * x), s, c;
    sigmoid_pair(z, &s, &c);
    return a * x * s;
}
ALWAYS_INLINE vreal gelu_slope(vreal a, vreal x) {
    vreal z = GELU_A * (x + GELU_B * x * x * x), s, c;
    sigmoid_pair(z, &s, &c);
    return a * (s + x * s * c * (GELU_A * (1 + 3 * GELU_B * x * x)));
}
ALWAYS_INLINE vreal silu(vreal a, vreal x) {
    vreal s, c;
    sigmoid_pair(x, &s, &c);
    return a * x * s;
}
ALWAYS_INLINE vreal silu_slope(vreal a, vreal x) {
    vreal s, c;
    sigmoid_pair(x, &s, &c);
    return a * s * (1 + x * c);
}

// X(function of model.h, f, slope)
#define ACTIVATION_KERNELS(X)                                                                                          \
    X(GELU_TANH, gelu, gelu_slope)                                                                                     \
    X(SILU, silu, silu_slope)

typedef vreal (*Pointwise)(vreal a, vreal x);

// One token, numbers i .. i + n - 1: y (F) = f(x (F)), or with a gate f(g (F)) u (F), x = g, u
ALWAYS_INLINE void mlp_forward_part(real *y, const real *x, int i, int n, int F, bool gated, Pointwise f) {
    vreal v = f(vset(1), load_up_to(x + i, n));
    store_up_to(y + i, gated ? v * load_up_to(x + F + i, n) : v, n);
}
ALWAYS_INLINE void mlp_forward_row(real *y, const real *x, int F, bool gated, Pointwise f) {
    int i = 0;
    for (; i + VL <= F; i += VL) mlp_forward_part(y, x, i, VL, F, gated, f);
    if (i < F) mlp_forward_part(y, x, i, F - i, F, gated, f);
}
// The way back: dx = dy f'(x), or dg = dy u f'(g), du = dy f(g)
ALWAYS_INLINE void mlp_backward_part(real *dx, const real *dy, const real *x, int i, int n, int F, bool gated,
                                     Pointwise f, Pointwise slope) {
    vreal d = load_up_to(dy + i, n), g = load_up_to(x + i, n), u = gated ? load_up_to(x + F + i, n) : (vreal){0};
    store_up_to(dx + i, slope(gated ? d * u : d, g), n);
    if (gated) store_up_to(dx + F + i, f(d, g), n);
}
ALWAYS_INLINE void mlp_backward_row(real *dx, const real *dy, const real *x, int F, bool gated, Pointwise f,
                                    Pointwise slope) {
    int i = 0;
    for (; i + VL <= F; i += VL) mlp_backward_part(dx, dy, x, i, VL, F, gated, f, slope);
    if (i < F) mlp_backward_part(dx, dy, x, i, F - i, F, gated, f, slope);
}

// mlp (N, F) of fc (N, F), or (N, 2F) with a gate: its gates (F), then what they let through (F)
static inline void mlp_forward(real *mlp, const real *fc, int N, int F, int activation, bool gated, Cpu *cpu) {
    int width = gated ? 2 * F : F;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < N; n++) {
        real *y = mlp + (size_t)n * F;
        const real *x = fc + (size_t)n * width;
        switch (2 * activation + gated) {
#define X(id, f, slope)                                                                                                \
    case 2 * ACTIVATION_##id: mlp_forward_row(y, x, F, false, f); break;                                               \
    case 2 * ACTIVATION_##id + 1: mlp_forward_row(y, x, F, true, f); break;
            ACTIVATION_KERNELS(X)
#undef X
        }
    }
    (void)cpu;
}

// dfc (shape of fc) from dmlp (N, F); dfc may be dmlp where there is no gate
static inline void mlp_backward(real *dfc, const real *dmlp, const real *fc, int N, int F, int activation, bool gated,
                                Cpu *cpu) {
    int width = gated ? 2 * F : F;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < N; n++) {
        real *dx = dfc + (size_t)n * width;
        const real *dy = dmlp + (size_t)n * F, *x = fc + (size_t)n * width;
        switch (2 * activation + gated) {
#define X(id, f, slope)                                                                                                \
    case 2 * ACTIVATION_##id: mlp_backward_row(dx, dy, x, F, false, f, slope); break;                                  \
    case 2 * ACTIVATION_##id + 1: mlp_backward_row(dx, dy, x, F, true, f, slope); break;
            ACTIVATION_KERNELS(X)
#undef X
        }
    }
    (void)cpu;
}

#endif
