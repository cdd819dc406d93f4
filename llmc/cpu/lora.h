/*
lora.h: low-rank adapters beside a frozen product (LoRA, Hu et al. 2021, arXiv:2106.09685).

    forward    u = scale drop(x) A^T                   lora_inner
               y += u B^T                              lora_outer
    backward   dB += dy^T u,  du = scale dy B          lora_backward
               dA += du^T drop(x),  dx += drop(du A)

y is a range of columns of a wider matrix: queries, keys and values lie in one, and so do gate and up. u is kept or
computed again as other activations are. drop() leaves out what it left out in the forward pass, as often as it is
asked: it is a function of seed, layer, target and the token's number in the run. llmc/cuda/lora.h has the same
functions.
*/
#ifndef LLMC_CPU_LORA_H
#define LLMC_CPU_LORA_H

#include "../engine.h"
#include "gemm.h"

// One target in one layer, on N tokens: C features in, OC out, in columns first .. first + OC - 1 of y.
typedef struct {
    Matrix A, B;   // (R, C), (OC, R)
    real *dA, *dB; // likewise; NULL where nothing is trained
    real *u, *du;  // (N, R): see above
    real *scratch; // (N, C), of dropout; NULL: there is none
    int N, C, R, OC, first;
    real scale;
    double dropout;
    RngStream stream;
    uint64_t token; // the run's number of the first of N
} Adapter;

// to (N, C) = or += from (N, C) with a share left out and the rest made larger by as much.
static inline void lora_drop(real *to, const real *from, const Adapter *a, bool add, Cpu *cpu) {
    int C = a->C, draws = (C + 3) / 4;
    real keep = (real)(1 / (1 - a->dropout));
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < a->N; n++)
        for (int c = 0; c < C; c += 4) {
            Philox draw = rng_draw(a->stream, (a->token + (uint64_t)n) * (uint64_t)draws + (uint64_t)(c / 4));
            size_t at = (size_t)n * (size_t)C + (size_t)c;
            for (int i = 0; i < 4 && c + i < C; i++, at++) {
                real value = (double)rng_uniform_bits(draw.x[i]) < a->dropout ? 0 : keep * from[at];
                to[at] = add ? to[at] + value : value;
            }
        }
    (void)cpu;
}

static inline void lora_scale_by(real *u, real scale, size_t n) {
    for (size_t i = 0; i < n; i++) u[i] *= scale;
}

static inline void lora_inner(const Adapter *a, const real *x, Cpu *cpu) {
    LinearShape s = {a->N, a->C, a->R};
    if (a->scratch) lora_drop(a->scratch, x, a, false, cpu);
    linear_forward(a->u, a->scratch ? a->scratch : x, a->A, NULL, NULL, s, cpu);
    lora_scale_by(a->u, a->scale, (size_t)a->N * (size_t)a->R);
}

// y (N, ld)
static inline void lora_outer(real *y, int ld, const Adapter *a, Cpu *cpu) {
    Target to = {y + a->first, y + a->first, NULL, (size_t)ld};
    Operand u = {a->u, (size_t)a->R, LAYOUT_ALONG_K}, B = operand_of(a->B, (size_t)a->R);
    gemm(to, u, B, a->N, a->OC, a->R, cpu);
}

// dx (N, C) +=, or NULL: nothing below is trained. dy (N, ld), x (N, C)
static inline void lora_backward(real *dx, const real *dy, int ld, const real *x, const Adapter *a, Cpu *cpu) {
    LinearShape inner = {a->N, a->C, a->R};
    dy += a->first;
    Target dB = {a->dB, a->dB, NULL, (size_t)a->R}, du = {a->du, NULL, NULL, (size_t)a->R};
    Operand along = {dy, (size_t)ld, LAYOUT_ALONG_K}, across = {dy, (size_t)ld, LAYOUT_ACROSS_K},
            u = {a->u, (size_t)a->R, LAYOUT_ACROSS_K}, B = {a->B.full, (size_t)a->R, LAYOUT_ACROSS_K};
    gemm(dB, across, u, a->OC, a->R, a->N, cpu);
    gemm(du, along, B, a->N, a->R, a->OC, cpu);
    lora_scale_by(a->du, a->scale, (size_t)a->N * (size_t)a->R);
    if (a->scratch) lora_drop(a->scratch, x, a, false, cpu);
    linear_backward_weight(a->dA, NULL, a->du, a->scratch ? a->scratch : x, inner, cpu);
    if (!dx) return;
    if (a->scratch) {
        linear_backward_input(a->scratch, a->du, a->A, inner, cpu);
        lora_drop(dx, a->scratch, a, true, cpu);
        return;
    }
    Target to = {dx, dx, NULL, (size_t)a->C};
    Operand d = {a->du, (size_t)a->R, LAYOUT_ALONG_K}, A = {a->A.full, (size_t)a->C, LAYOUT_ACROSS_K};
    gemm(to, d, A, a->N, a->C, a->R, cpu);
}

#endif
