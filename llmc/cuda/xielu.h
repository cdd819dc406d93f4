/*
xielu.h: xIELU (Huang and Schlag 2024, arXiv:2411.13010), the activation function of apertus, which learns two numbers
in each layer. With p = softplus(alpha_p), n = beta + softplus(alpha_n), as Transformers' XIELUActivation has it:

    f(x) = p x^2 + beta x                                x > 0
    f(x) = n (e^min(x, eps) - 1 - x) + beta x            else; eps is a little below 0

learned: alpha_p, alpha_n; fixed: beta, eps. Their gradients are sums over all of fc: each of a constant number of
thread blocks has its own, which are added in a fixed order. Bound by memory.
*/
#ifndef LLMC_CUDA_XIELU_H
#define LLMC_CUDA_XIELU_H

#include "cuda.h"

// log(1 + e^x), without an overflow. The logarithm of 1 + t is 2 atanh(t / (2 + t)), whose series is short, as t <= 1:
// its terms fall by 9, and the rest is below a rounding.
__device__ inline float softplus(float x) {
    float t = expf(-fabsf(x)), z = t / (2 + t), sum = 0;
    for (int k = 15; k > 0; k -= 2) sum = sum * z * z + 2.0f / (float)k;
    return fmaxf(x, 0) + z * sum;
}

// e^x - 1 - x for x <= 0; above -1/2 the first terms of its series, whose rest is below a rounding (2 / 10! 2^-8 of the
// first)
__device__ inline float xielu_rest(float x) {
    float sum = 1;
    for (int k = 9; k > 2; k--) sum = 1 + x * (1.0f / (float)k) * sum;
    return x < -0.5f ? expf(x) - 1 - x : 0.5f * x * x * sum;
}

struct Xielu {
    float p, n, beta, eps;
    float dp, dn; // derivatives of p by alpha_p and of n by alpha_n: logistic functions
    template <typename Real> __device__ inline Xielu(const Real *learned, const Real *fixed) {
        float high = to_float(learned[0]), low = to_float(learned[1]);
        beta = to_float(fixed[0]), eps = to_float(fixed[1]);
        p = softplus(high), n = beta + softplus(low);
        dp = 1 / (1 + expf(-high)), dn = 1 / (1 + expf(-low));
    }
    // What stands behind n; the comparison leaves NaN as it is.
    __device__ inline float low(float x) const {
        float m = x >= eps ? eps : x;
        return xielu_rest(m) + (m - x);
    }
    __device__ inline float f(float x) const { return (x > 0 ? p * x * x : n * low(x)) + beta * x; }
    __device__ inline float slope(float x) const {
        return (x > 0 ? 2 * p * x : n * (x >= eps ? -1 : expf(x) - 1)) + beta;
    }
};

// mlp (N, F) of fc (N, F), a pack a thread
template <typename Real>
__global__ void xielu_forward_kernel(Real *mlp, const Real *fc, const Real *learned, const Real *fixed, int N, int F) {
    const int P = PackOf<Real>::SIZE;
    size_t packs = (size_t)((F + P - 1) / P), i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * packs) return;
    size_t row = i / packs * (size_t)F;
    int f = (int)(i % packs) * P;
    bool fit = packs_fit<Real>(F);
    Xielu curve(learned, fixed);
    float x[P];
    load_pack(x, fc + row, f, F, fit);
    for (int k = 0; k < P; k++) x[k] = curve.f(x[k]);
    store_pack(mlp + row, x, f, F, fit);
}

enum { XIELU_THREADS = 256, XIELU_BLOCKS = 528 }; // 4 blocks for each of an H100's multiprocessors

// dfc (N, F), partial (gridDim.x, 2) from dmlp (N, F) and fc: every gridDim.x-th block of packs is a thread block's.
// What lies behind a row's end is loaded as zeros, which add zeros.
template <typename Real>
__global__ void xielu_backward_kernel(Real *dfc, float *partial, const Real *dmlp, const Real *fc, const Real *learned,
                                      const Real *fixed, int N, int F) {
    const int P = PackOf<Real>::SIZE;
    __shared__ float sums_smem[2][XIELU_THREADS / 32];
    size_t packs = (size_t)((F + P - 1) / P);
    bool fit = packs_fit<Real>(F);
    Xielu curve(learned, fixed);
    float high = 0, low = 0;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < (size_t)N * packs;
         i += (size_t)gridDim.x * blockDim.x) {
        size_t row = i / packs * (size_t)F;
        int f = (int)(i % packs) * P;
        float x[P], d[P];
        load_pack(x, fc + row, f, F, fit);
        load_pack(d, dmlp + row, f, F, fit);
        for (int k = 0; k < P; k++) {
            high += x[k] > 0 ? d[k] * x[k] * x[k] : 0;
            low += x[k] > 0 ? 0 : d[k] * curve.low(x[k]);
            d[k] *= curve.slope(x[k]);
        }
        store_pack(dfc + row, d, f, F, fit);
    }
    high = warp_sum(high), low = warp_sum(low);
    if (threadIdx.x % 32 == 0) sums_smem[0][threadIdx.x / 32] = high, sums_smem[1][threadIdx.x / 32] = low;
    __syncthreads();
    if (threadIdx.x > 1) return;
    float sum = 0;
    for (int w = 0; w < XIELU_THREADS / 32; w++) sum += sums_smem[threadIdx.x][w];
    partial[2 * blockIdx.x + threadIdx.x] = sum * (threadIdx.x ? curve.dn : curve.dp);
}

// mlp (N, F) of fc (N, F); learned (2), fixed (2)
template <typename Real>
static inline void xielu_forward(Real *mlp, const Real *fc, const Real *learned, const Real *fixed, int N, int F,
                                 Device *d) {
    const int P = PackOf<Real>::SIZE;
    unsigned blocks = blocks_for((size_t)N * (size_t)((F + P - 1) / P), XIELU_THREADS);
    xielu_forward_kernel<Real><<<blocks, XIELU_THREADS, 0, d->stream>>>(mlp, fc, learned, fixed, N, F);
    LAUNCH_CHECK();
}

// dfc (N, F) and dlearned (2) += (NULL: not wanted) from dmlp (N, F) and fc (N, F); dfc may be dmlp
template <typename Real>
static inline void xielu_backward(Real *dfc, float *dlearned, const Real *dmlp, const Real *fc, const Real *learned,
                                  const Real *fixed, int N, int F, Device *d) {
    const int P = PackOf<Real>::SIZE;
    unsigned blocks = blocks_for((size_t)N * (size_t)((F + P - 1) / P), XIELU_THREADS);
    if (blocks > XIELU_BLOCKS) blocks = XIELU_BLOCKS;
    xielu_backward_kernel<Real>
        <<<blocks, XIELU_THREADS, 0, d->stream>>>(dfc, d->scratch, dmlp, fc, learned, fixed, N, F);
    LAUNCH_CHECK();
    if (dlearned) add_columns(dlearned, NULL, d->scratch, (int)blocks, 2, 2, d);
}

#endif
