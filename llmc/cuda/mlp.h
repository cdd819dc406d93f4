/*
mlp.h: the pointwise parts of the feed-forward layer: GELU in its tanh form (Hendrycks and Gimpel
2016, arXiv:1606.08415) and SwiGLU (Shazeer 2020, arXiv:2002.05202).

    gelu(x) = x * s,  s = 1 / (1 + exp(-2u)),  u = sqrt(2/pi) (x + 0.044715 x^3)

GELU is normally part of a matrix product (gemm.h); its kernels serve the recomputation and shapes
for which the library has no such product. Bound by memory.
*/
#ifndef LLMC_CUDA_MLP_H
#define LLMC_CUDA_MLP_H

#include "cuda.h"

// s = 1 / (1 + e^-z) and c = 1 - s, each to full relative accuracy
__device__ inline void sigmoid_pair(float z, float *s, float *c) {
    float e = expf(-fmaxf(z, -88.0f)); // e^88 is still finite; fmaxf drops NaN, x itself carries it on
    *s = 1.0f / (1.0f + e);
    *c = e * *s;
}

#define GELU_A 1.5957691216057308f // 2 sqrt(2/pi)
#define GELU_B 0.044715f

__device__ inline float gelu(float x) {
    float s, c;
    sigmoid_pair(GELU_A * (x + GELU_B * x * x * x), &s, &c);
    return x * s;
}
__device__ inline float gelu_slope(float x) {
    float s, c;
    sigmoid_pair(GELU_A * (x + GELU_B * x * x * x), &s, &c);
    return s + x * s * c * (GELU_A * (1 + 3 * GELU_B * x * x));
}

// y (n) = gelu(x), or dx (n) = dy gelu'(x) where dy is given
template <typename Real> __global__ void gelu_kernel(Real *out, const Real *dy, const Real *x, size_t n) {
    const int P = PackOf<Real>::SIZE;
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * P;
    if (i >= n) return;
    int left = n - i < (size_t)P ? (int)(n - i) : P;
    float v[P], g[P];
    load_pack(v, x + i, 0, left, left == P);
    if (dy) load_pack(g, dy + i, 0, left, left == P);
    for (int k = 0; k < P; k++) v[k] = dy ? g[k] * gelu_slope(v[k]) : gelu(v[k]);
    store_pack(out + i, v, 0, left, left == P);
}

// y (n) = gelu(x (n))
template <typename Real> static inline void gelu_forward(Real *y, const Real *x, size_t n, Device *d) {
    gelu_kernel<Real><<<blocks_for(n, 256 * PackOf<Real>::SIZE), 256, 0, d->stream>>>(y, NULL, x, n);
    LAUNCH_CHECK();
}

// dx (n) = dy (n) gelu'(x (n)); dx may equal dy
template <typename Real>
static inline void gelu_backward(Real *dx, const Real *dy, const Real *x, size_t n, Device *d) {
    gelu_kernel<Real><<<blocks_for(n, 256 * PackOf<Real>::SIZE), 256, 0, d->stream>>>(dx, dy, x, n);
    LAUNCH_CHECK();
}

// y (N, F) from x (N, 2F); or, where dy (N, F) is given, dx (N, 2F): du = dy g s, dg = dy u s (1 + g (1 - s))
template <typename Real> __global__ void swiglu_kernel(Real *y, Real *dx, const Real *dy, const Real *x, int N, int F) {
    const int P = PackOf<Real>::SIZE;
    size_t packs = (size_t)((F + P - 1) / P), i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * packs) return;
    size_t n = i / packs;
    int f = (int)(i % packs) * P;
    bool fit = packs_fit<Real>(F);
    const Real *gate = x + n * 2 * (size_t)F, *up = gate + F;
    float g[P], u[P], v[P];
    load_pack(g, gate, f, F, fit);
    load_pack(u, up, f, F, fit);
    if (dy) load_pack(v, dy + n * (size_t)F, f, F, fit);
    for (int k = 0; k < P; k++) {
        float s, c;
        sigmoid_pair(g[k], &s, &c);
        if (!dy) {
            v[k] = g[k] * s * u[k];
            continue;
        }
        float dg = v[k] * u[k] * s * (1 + g[k] * c);
        u[k] = v[k] * g[k] * s;
        g[k] = dg;
    }
    if (!dy) {
        store_pack(y + n * (size_t)F, v, f, F, fit);
        return;
    }
    store_pack(dx + n * 2 * (size_t)F, g, f, F, fit);
    store_pack(dx + n * 2 * (size_t)F + F, u, f, F, fit);
}

// y (N, F) = g * sigmoid(g) * u with x (N, 2F) holding the gate g (F), then u (F)
template <typename Real> static inline void swiglu_forward(Real *y, const Real *x, int N, int F, Device *d) {
    const int P = PackOf<Real>::SIZE;
    swiglu_kernel<Real>
        <<<blocks_for((size_t)N * (size_t)((F + P - 1) / P), 256), 256, 0, d->stream>>>(y, NULL, NULL, x, N, F);
    LAUNCH_CHECK();
}

// dx (N, 2F) from dy (N, F), x (N, 2F)
template <typename Real>
static inline void swiglu_backward(Real *dx, const Real *dy, const Real *x, int N, int F, Device *d) {
    const int P = PackOf<Real>::SIZE;
    swiglu_kernel<Real>
        <<<blocks_for((size_t)N * (size_t)((F + P - 1) / P), 256), 256, 0, d->stream>>>(NULL, dx, dy, x, N, F);
    LAUNCH_CHECK();
}

#endif
