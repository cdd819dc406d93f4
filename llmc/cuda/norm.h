/*
norm.h: LayerNorm (Ba et al. 2016, arXiv:1607.06450) and RMSNorm (Zhang and Sennrich 2019,
arXiv:1910.07467), forward and backward. RMSNorm is asked for by mean == NULL; it has no bias.

    LayerNorm   y = (x - mean(x)) * rstd * w + b     rstd = 1 / sqrt(var(x) + eps), var divided by C
    RMSNorm     y = x * rstd * w                     rstd = 1 / sqrt(mean(x^2) + eps)

The residual sum that comes before a norm is part of the matrix product before it (beta = 1, gemm.h):
that moves 4 N C numbers, where a kernel for sum and norm would move 5 N C. Backward, the gradient is
added to the residual stream's in the same pass.

Both are bound by memory: forward reads and writes N C, backward reads 3 N C and writes N C.
Limit: C <= 16384 (bf16), 8192 (float) backward, where a row is held in registers.
*/
#ifndef LLMC_CUDA_NORM_H
#define LLMC_CUDA_NORM_H

#include "cuda.h"

// A warp a row; the row is read from memory once and then from the L1 cache.
template <typename T>
__global__ void norm_forward_kernel(T *y, float *mean, float *rstd, const T *x, const T *w, const T *b, int N, int C, float eps) {
    const int P = PackOf<T>::SIZE;
    int n = (int)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32), lane = (int)(threadIdx.x % 32);
    if (n >= N) return;
    bool fit = packs_fit<T>(C);
    const T *xr = x + (size_t)n * (size_t)C;
    T *yr = y + (size_t)n * (size_t)C;
    float v[P], m = 0, q = 0;
    if (mean) {
        for (int c = lane * P; c < C; c += 32 * P) {
            load_pack(v, xr, c, C, fit);
            for (int i = 0; i < P; i++) m += v[i];
        }
        m = warp_sum(m) / (float)C;
    }
    for (int c = lane * P; c < C; c += 32 * P) {
        load_pack(v, xr, c, C, fit);
        for (int i = 0; i < P; i++)
            if (c + i < C) q += (v[i] - m) * (v[i] - m);
    }
    float rs = 1.0f / sqrtf(warp_sum(q) / (float)C + eps);
    if (lane == 0) {
        rstd[n] = rs;
        if (mean) mean[n] = m;
    }
    for (int c = lane * P; c < C; c += 32 * P) {
        float weight[P], bias[P];
        load_pack(v, xr, c, C, fit);
        load_pack(weight, w, c, C, fit);
        if (b) load_pack(bias, b, c, C, fit);
        for (int i = 0; i < P; i++) v[i] = (v[i] - m) * rs * weight[i] + (b ? bias[i] : 0.0f);
        store_pack(yr, v, c, C, fit);
    }
}

// y (N, C), mean (N) or NULL, rstd (N) from x (N, C), w (C), b (C) or NULL
template <typename T>
static inline void norm_forward(T *y, float *mean, float *rstd, const T *x, const T *w, const T *b, int N, int C, float eps, Device *d) {
    const int warps = 4;
    norm_forward_kernel<T><<<blocks_for((size_t)N, warps), warps * 32, 0, d->stream>>>(y, mean, rstd, x, w, b, N, C, eps);
    LAUNCH_CHECK();
}

// A block takes rows blockIdx.x, blockIdx.x + gridDim.x, ... one after the other; a thread keeps to its
// K packs of columns, so that dw and db gather in its registers. partial (gridDim.x, 2, C).
template <typename T, int K>
__global__ void norm_backward_kernel(T *dx, float *partial, const T *dy, const T *x, const T *w, const float *mean, const float *rstd, int N, int C) {
    const int P = PackOf<T>::SIZE;
    __shared__ float sums[2][64]; // of two rows in turn, so that one barrier a row is enough
    bool fit = packs_fit<T>(C);
    float weight[K][P], dw[K][P], db[K][P];
    for (int k = 0; k < K; k++) {
        load_pack(weight[k], w, ((int)threadIdx.x + k * (int)blockDim.x) * P, C, fit && ((int)threadIdx.x + k * (int)blockDim.x) * P < C);
        for (int i = 0; i < P; i++) dw[k][i] = db[k][i] = 0;
    }
    int turn = 0;
    for (int n = (int)blockIdx.x; n < N; n += (int)gridDim.x) {
        const T *xr = x + (size_t)n * (size_t)C, *gr = dy + (size_t)n * (size_t)C;
        T *dr = dx + (size_t)n * (size_t)C;
        float m = mean ? mean[n] : 0.0f, rs = rstd[n], xhat[K][P], g[K][P], s1 = 0, s2 = 0;
        for (int k = 0; k < K; k++) {
            int c = ((int)threadIdx.x + k * (int)blockDim.x) * P;
            load_pack(xhat[k], xr, c, C, fit && c < C);
            load_pack(g[k], gr, c, C, fit && c < C);
            for (int i = 0; i < P; i++) {
                xhat[k][i] = c + i < C ? (xhat[k][i] - m) * rs : 0.0f;
                dw[k][i] += g[k][i] * xhat[k][i];
                db[k][i] += g[k][i];
                g[k][i] *= weight[k][i];
                s1 += g[k][i];
                s2 += g[k][i] * xhat[k][i];
            }
        }
        block_sum2(&s1, &s2, sums[turn]);
        turn ^= 1;
        s1 = mean ? s1 / (float)C : 0.0f;
        s2 /= (float)C;
        for (int k = 0; k < K; k++) {
            int c = ((int)threadIdx.x + k * (int)blockDim.x) * P;
            if (c >= C) continue;
            float old[P];
            load_pack(old, dr, c, C, fit);
            for (int i = 0; i < P; i++) old[i] += rs * (g[k][i] - s1 - xhat[k][i] * s2);
            store_pack(dr, old, c, C, fit);
        }
    }
    float *pw = partial + (size_t)blockIdx.x * 2 * (size_t)C, *pb = pw + C;
    for (int k = 0; k < K; k++)
        for (int i = 0; i < P; i++) {
            int c = ((int)threadIdx.x + k * (int)blockDim.x) * P + i;
            if (c >= C) continue;
            pw[c] = dw[k][i];
            pb[c] = db[k][i];
        }
}

// dx (N, C) +=, dw (C) +=, db (C) += or NULL, from dy (N, C), x (N, C), w (C), mean (N) or NULL, rstd (N).
// With xhat = (x - mean) * rstd and g = dy * w:
//     dx += rstd * (g - mean(g) - xhat * mean(g * xhat))       RMSNorm: without the middle term
//     dw += sum over rows of dy * xhat,   db += sum over rows of dy
template <typename T>
static inline void norm_backward(T *dx, float *dw, float *db, const T *dy, const T *x, const T *w, const float *mean, const float *rstd, int N, int C, Device *d) {
    const int P = PackOf<T>::SIZE;
    int packs = (C + P - 1) / P;
    if (packs > 2048) fail("norm_backward: rows of %d numbers are longer than the %d it can hold", C, 2048 * P);
    int blocks = N < 512 ? N : 512; // a constant: the sums' order must not depend on the device
    if ((size_t)blocks * 2 * (size_t)C * sizeof(float) > d->scratch_bytes) blocks = (int)(d->scratch_bytes / (2 * (size_t)C * sizeof(float)));
    int threads = packs <= 512 ? (packs + 31) / 32 * 32 : packs <= 1024 ? ((packs + 1) / 2 + 31) / 32 * 32 : 512;
    if (packs <= 512) norm_backward_kernel<T, 1><<<blocks, threads, 0, d->stream>>>(dx, d->scratch, dy, x, w, mean, rstd, N, C);
    else if (packs <= 1024) norm_backward_kernel<T, 2><<<blocks, threads, 0, d->stream>>>(dx, d->scratch, dy, x, w, mean, rstd, N, C);
    else norm_backward_kernel<T, 4><<<blocks, threads, 0, d->stream>>>(dx, d->scratch, dy, x, w, mean, rstd, N, C);
    LAUNCH_CHECK();
    add_columns(dw, db, d->scratch, blocks, C, 2 * C, d);
}

#endif
