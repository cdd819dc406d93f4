/*
mlp.h: the pointwise parts of the feed-forward layer: GELU in its tanh form (Hendrycks and Gimpel
2016, arXiv:1606.08415; "gelu_new" in Hugging Face configs) and SwiGLU (Shazeer 2020,
arXiv:2002.05202).

0.5 (1 + tanh(u)) is the logistic function of 2u, so GELU needs one exp and no tanh:
    gelu(x) = x * s,  s = 1 / (1 + exp(-2u)),  u = sqrt(2/pi) (x + 0.044715 x^3)
*/
#ifndef LLMC_CPU_MLP_H
#define LLMC_CPU_MLP_H

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

static inline vreal gelu(vreal x) {
    vreal z = GELU_A * (x + GELU_B * x * x * x), s, c;
    sigmoid_pair(z, &s, &c);
    return x * s;
}
static inline vreal gelu_slope(vreal x) {
    vreal z = GELU_A * (x + GELU_B * x * x * x), s, c;
    sigmoid_pair(z, &s, &c);
    return s + x * s * c * (GELU_A * (1 + 3 * GELU_B * x * x));
}

// y (n) = gelu(x (n)); y may equal x
static inline void gelu_forward(real *y, const real *x, size_t n, Cpu *cpu) {
    int64_t blocks = (int64_t)(n / VL);
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int64_t i = 0; i < blocks; i++) vstore(y + i * VL, gelu(vload(x + i * VL)));
    size_t whole = (size_t)blocks * VL;
    vstore_part(y + whole, gelu(vload_part(x + whole, (int)(n - whole))), (int)(n - whole));
    (void)cpu;
}

// dx (n) = dy (n) * gelu'(x (n)); dx may equal dy
static inline void gelu_backward(real *dx, const real *dy, const real *x, size_t n, Cpu *cpu) {
    int64_t blocks = (int64_t)(n / VL);
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int64_t i = 0; i < blocks; i++) vstore(dx + i * VL, vload(dy + i * VL) * gelu_slope(vload(x + i * VL)));
    size_t whole = (size_t)blocks * VL;
    int rest = (int)(n - whole);
    vstore_part(dx + whole, vload_part(dy + whole, rest) * gelu_slope(vload_part(x + whole, rest)), rest);
    (void)cpu;
}

// y (N, F) = g * sigmoid(g) * u with x (N, 2F) holding the gate g (F), then u (F)
static inline void swiglu_forward(real *y, const real *x, int N, int F, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < N; n++) {
        const real *gate = x + (size_t)n * 2 * F, *up = gate + F;
        real *yr = y + (size_t)n * F;
        vreal s, c;
        for (int f = 0; f < F; f += VL) {
            int k = F - f < VL ? F - f : VL;
            vreal g = k == VL ? vload(gate + f) : vload_part(gate + f, k),
                  u = k == VL ? vload(up + f) : vload_part(up + f, k);
            sigmoid_pair(g, &s, &c);
            if (k == VL) vstore(yr + f, g * s * u);
            else vstore_part(yr + f, g * s * u, k);
        }
    }
    (void)cpu;
}

// dx (N, 2F) from dy (N, F), x (N, 2F):  du = dy g s,  dg = dy u s (1 + g (1 - s))
static inline void swiglu_backward(real *dx, const real *dy, const real *x, int N, int F, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < N; n++) {
        const real *gate = x + (size_t)n * 2 * F, *up = gate + F, *dyr = dy + (size_t)n * F;
        real *dgate = dx + (size_t)n * 2 * F, *dup = dgate + F;
        vreal s, c;
        for (int f = 0; f < F; f += VL) {
            int k = F - f < VL ? F - f : VL;
            vreal g = k == VL ? vload(gate + f) : vload_part(gate + f, k),
                  u = k == VL ? vload(up + f) : vload_part(up + f, k);
            vreal d = k == VL ? vload(dyr + f) : vload_part(dyr + f, k);
            sigmoid_pair(g, &s, &c);
            vreal dg = d * u * s * (1 + g * c), du = d * g * s;
            if (k == VL) {
                vstore(dgate + f, dg);
                vstore(dup + f, du);
            } else {
                vstore_part(dgate + f, dg, k);
                vstore_part(dup + f, du, k);
            }
        }
    }
    (void)cpu;
}

#endif
