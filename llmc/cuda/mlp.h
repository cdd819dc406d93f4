/*
mlp.h: the pointwise part of the feed-forward layer: f(fc), or f(gate) up where it is gated. f is the config's
activation: GELU in its tanh form (Hendrycks and Gimpel 2016, arXiv:1606.08415) or SiLU; gated SiLU is SwiGLU
(Shazeer 2020, arXiv:2002.05202).

    gelu(x) = x * s,  s = 1 / (1 + exp(-2u)),  u = sqrt(2/pi) (x + 0.044715 x^3)
    silu(x) = x * s,  s = 1 / (1 + exp(-x))

GELU is normally part of a matrix product (gemm.h). Bound by memory. A new activation is a struct with f and slope, and
a case in with_activation().
*/
#ifndef LLMC_CUDA_MLP_H
#define LLMC_CUDA_MLP_H

#include "../model.h"
#include "cuda.h"

// s = 1 / (1 + e^-z) and c = 1 - s, each to full relative accuracy
__device__ inline void sigmoid_pair(float z, float *s, float *c) {
    float e = expf(-fmaxf(z, -88.0f)); // e^88 is still finite; fmaxf drops NaN, x itself carries it on
    *s = 1.0f / (1.0f + e);
    *c = e * *s;
}

#define GELU_A 1.5957691216057308f // 2 sqrt(2/pi)
#define GELU_B 0.044715f

// The activation functions: f(a, x) = a f(x) and slope(a, x) = a f'(x), evaluated from left to right.
struct GeluTanh {
    static __device__ inline float f(float a, float x) {
        float s, c;
        sigmoid_pair(GELU_A * (x + GELU_B * x * x * x), &s, &c);
        return a * x * s;
    }
    static __device__ inline float slope(float a, float x) {
        float s, c;
        sigmoid_pair(GELU_A * (x + GELU_B * x * x * x), &s, &c);
        return a * (s + x * s * c * (GELU_A * (1 + 3 * GELU_B * x * x)));
    }
};
struct Silu {
    static __device__ inline float f(float a, float x) {
        float s, c;
        sigmoid_pair(x, &s, &c);
        return a * x * s;
    }
    static __device__ inline float slope(float a, float x) {
        float s, c;
        sigmoid_pair(x, &s, &c);
        return a * s * (1 + x * c);
    }
};

// work(F()) with the activation's struct
template <typename Work> static inline void with_activation(int activation, Work work) {
    switch (activation) {
    case ACTIVATION_GELU_TANH: return work(GeluTanh());
    case ACTIVATION_SILU: return work(Silu());
    default: fail("mlp: there is no activation %d", activation);
    }
}

// out (N, F) from fc (N, F), or (N, 2F) with the gate (F), then up (F), of a row; or, where dmlp (N, F) is given, out =
// dfc, as wide as fc
template <typename Function, bool GATED, typename Real>
__global__ void mlp_kernel(Real *out, const Real *dmlp, const Real *fc, int N, int F) {
    const int P = PackOf<Real>::SIZE;
    size_t packs = (size_t)((F + P - 1) / P), i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * packs) return;
    size_t n = i / packs, wide = (GATED ? 2 : 1) * (size_t)F;
    int f = (int)(i % packs) * P;
    bool fit = packs_fit<Real>(F);
    float g[P], u[P], d[P];
    load_pack(g, fc + n * wide, f, F, fit);
    if (GATED) load_pack(u, fc + n * wide + F, f, F, fit);
    if (dmlp) load_pack(d, dmlp + n * (size_t)F, f, F, fit);
    for (int k = 0; k < P; k++) {
        if (!dmlp) {
            g[k] = GATED ? Function::f(1, g[k]) * u[k] : Function::f(1, g[k]);
            continue;
        }
        float dg = Function::slope(GATED ? d[k] * u[k] : d[k], g[k]);
        if (GATED) u[k] = Function::f(d[k], g[k]);
        g[k] = dg;
    }
    out += n * (dmlp ? wide : (size_t)F);
    store_pack(out, g, f, F, fit);
    if (GATED && dmlp) store_pack(out + F, u, f, F, fit);
}

template <typename Real>
static inline void mlp_launch(Real *out, const Real *dmlp, const Real *fc, int N, int F, int activation, bool gated,
                              Device *d) {
    const int P = PackOf<Real>::SIZE;
    unsigned blocks = blocks_for((size_t)N * (size_t)((F + P - 1) / P), 256);
    with_activation(activation, [=](auto function) {
        typedef decltype(function) Function;
        auto kernel = gated ? mlp_kernel<Function, true, Real> : mlp_kernel<Function, false, Real>;
        kernel<<<blocks, 256, 0, d->stream>>>(out, dmlp, fc, N, F);
    });
    LAUNCH_CHECK();
}

// mlp (N, F) from fc (N, F), or (N, 2F) where gated
template <typename Real>
static inline void mlp_forward(Real *mlp, const Real *fc, int N, int F, int activation, bool gated, Device *d) {
    mlp_launch(mlp, (const Real *)NULL, fc, N, F, activation, gated, d);
}

// dfc, as wide as fc, from dmlp (N, F); may equal dmlp where not gated
template <typename Real>
static inline void mlp_backward(Real *dfc, const Real *dmlp, const Real *fc, int N, int F, int activation, bool gated,
                                Device *d) {
    mlp_launch(dfc, dmlp, fc, N, F, activation, gated, d);
}

#endif
