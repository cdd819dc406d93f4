/*
lora.h: low-rank adapters beside a frozen product (LoRA, Hu et al. 2021, arXiv:2106.09685), as in llmc/cpu/lora.h.

    forward    u = scale drop(x) A^T                   lora_inner
               y += u B^T                              lora_outer
    backward   dB += dy^T u,  du = scale dy B          lora_backward
               dA += du^T drop(x),  dx += drop(du A)

All are products of the library: y is a range of columns of a wider matrix, whose rows it is told to stride over. That
the rank is small makes them bound by reading and writing x and y.
*/
#ifndef LLMC_CUDA_LORA_H
#define LLMC_CUDA_LORA_H

#include "../engine.h"
#include "gemm.h"

// One target in one layer, on N tokens: C features in, OC out, in columns first .. first + OC - 1 of y.
template <typename Real> struct Adapter {
    const Real *A, *B; // (R, C), (OC, R)
    float *dA, *dB;    // likewise; NULL where nothing is trained
    Real *u, *du;      // (N, R): see above
    Real *scratch;     // (N, C), of dropout; NULL: there is none
    int N, C, R, OC, first;
    float scale;
    double dropout;
    RngStream stream;
    const uint64_t *token; // on the device: the run's number of the first of N
};

enum { DROP_THREADS = 256 };

// to (N, C) = or, where `add`, += from (N, C) with a share left out and the rest made larger by as much. A thread has
// the four numbers of a draw.
template <typename Real>
__global__ void lora_drop_kernel(Real *to, const Real *from, const uint64_t *token, RngStream stream, double dropout,
                                 int N, int C, bool add) {
    size_t draws = (size_t)((C + 3) / 4), i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * draws) return;
    Philox draw = rng_draw(stream, *token * draws + i);
    int c = (int)(i % draws) * 4;
    size_t at = i / draws * (size_t)C + (size_t)c;
    float keep = (float)(1 / (1 - dropout));
    for (int k = 0; k < 4 && c + k < C; k++, at++) {
        float value = (double)rng_uniform_bits(draw.x[k]) < dropout ? 0.0f : keep * to_float(from[at]);
        from_float(&to[at], add ? to_float(to[at]) + value : value);
    }
}

template <typename Real>
static inline void lora_drop(Real *to, const Real *from, const Adapter<Real> *a, bool add, Device *d) {
    size_t draws = (size_t)((a->C + 3) / 4);
    lora_drop_kernel<Real>
        <<<blocks_for((size_t)a->N * draws, DROP_THREADS), DROP_THREADS, 0, d->stream>>>(to, from, a->token, a->stream,
                                                                                         a->dropout, a->N, a->C, add);
    LAUNCH_CHECK();
}

static __global__ void lora_place_kernel(uint64_t *to, uint64_t token) { *to = token; }

static inline void lora_place(uint64_t *to, uint64_t token, Device *d) {
    lora_place_kernel<<<1, 1, 0, d->stream>>>(to, token);
    LAUNCH_CHECK();
}

// D (m, n) = alpha op(A) op(B) + C, where C is given; ldb, ldd: of B and of D and C, 0: as wide as they are.
template <typename Out, typename In>
static inline void lora_product(Out *D, const In *A, const In *B, const Out *C, float alpha, GemmKey key, Device *d) {
    GemmOperands o = {D, A, B, C, NULL, NULL, alpha, 1};
    gemm_operands(o, key, d);
}

template <typename Real> static inline void lora_inner(const Adapter<Real> *a, const Real *x, Device *d) {
    if (a->scratch) lora_drop(a->scratch, x, a, false, d);
    lora_product(a->u, a->A, a->scratch ? (const Real *)a->scratch : x, (const Real *)NULL, a->scale,
                 gemm_key<Real, Real>(a->R, a->N, a->C, true, false), d);
}

// y (N, ld)
template <typename Real> static inline void lora_outer(Real *y, int ld, const Adapter<Real> *a, Device *d) {
    GemmKey key = gemm_key<Real, Real>(a->OC, a->N, a->R, true, false);
    key.ldd = ld;
    lora_product(y + a->first, a->B, (const Real *)a->u, (const Real *)y + a->first, 1, key, d);
}

// dx (N, C) +=, or NULL: nothing below is trained. dy (N, ld), x (N, C)
template <typename Real>
static inline void lora_backward(Real *dx, const Real *dy, int ld, const Real *x, const Adapter<Real> *a, Device *d) {
    GemmKey dB = gemm_key<float, Real>(a->R, a->OC, a->N, false, true),
            du = gemm_key<Real, Real>(a->R, a->N, a->OC, false, false);
    dB.ldb = du.ldb = ld;
    dy += a->first;
    lora_product(a->dB, (const Real *)a->u, dy, (const float *)a->dB, 1, dB, d);
    lora_product(a->du, a->B, dy, (const Real *)NULL, a->scale, du, d);
    if (a->scratch) lora_drop(a->scratch, x, a, false, d);
    linear_backward_weight<Real>(a->dA, NULL, a->du, a->scratch ? a->scratch : x, {a->N, a->C, a->R}, d);
    if (!dx) return;
    Real *to = a->scratch ? a->scratch : dx;
    lora_product(to, a->A, (const Real *)a->du, a->scratch ? (const Real *)NULL : (const Real *)dx, 1,
                 gemm_key<Real, Real>(a->C, a->N, a->R, false, false), d);
    if (a->scratch) lora_drop(dx, a->scratch, a, true, d);
}

#endif
