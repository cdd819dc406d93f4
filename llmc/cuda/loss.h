/*
loss.h: cross entropy of the softmax of logits, in nats, and its gradient in place.

A row of logits is read from memory once for maximum and sum together (rescaling the sum whenever the
maximum grows: Milakov and Gimelshein 2018, arXiv:1805.02867), and again, mostly from the L2 cache, to
be replaced by its gradient. The logits of a whole batch never exist: the caller works in chunks.
*/
#ifndef LLMC_CUDA_LOSS_H
#define LLMC_CUDA_LOSS_H

#include "cuda.h"

enum { LOSS_THREADS = 512 };

// A block a row. shared: maxima and sums of the warps.
template <typename T>
__global__ void cross_entropy_kernel(float *losses, T *logits, const int32_t *targets, float dscale, int V) {
    const int P = PackOf<T>::SIZE;
    __shared__ float maxima[LOSS_THREADS / 32], sums[LOSS_THREADS / 32];
    size_t n = blockIdx.x;
    T *x = logits + n * (size_t)V;
    int target = targets[n];
    bool fit = packs_fit<T>(V);
    float v[P];
    if (target < 0) {
        if (threadIdx.x == 0) losses[n] = 0;
        if (dscale == 0) return;
        for (int i = 0; i < P; i++) v[i] = 0;
        for (int c = (int)threadIdx.x * P; c < V; c += LOSS_THREADS * P) store_pack(x, v, c, V, fit);
        return;
    }
    float wanted = to_float(x[target]), m = -INFINITY, sum = 0;
    for (int c = (int)threadIdx.x * P; c < V; c += LOSS_THREADS * P) {
        load_pack(v, x, c, V, fit);
        float top = m;
        for (int i = 0; i < P; i++)
            if (c + i < V) top = fmaxf(top, v[i]);
        sum *= m == top ? 1.0f : expf(m - top);
        for (int i = 0; i < P; i++)
            if (c + i < V) sum += v[i] == top ? 1.0f : expf(v[i] - top);
        m = top;
    }
    float warp_top = warp_max(m);
    sum = warp_sum(m == warp_top ? sum : sum * expf(m - warp_top));
    if (threadIdx.x % 32 == 0) {
        maxima[threadIdx.x / 32] = warp_top;
        sums[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    m = maxima[0];
    for (int w = 1; w < LOSS_THREADS / 32; w++) m = fmaxf(m, maxima[w]);
    sum = 0;
    for (int w = 0; w < LOSS_THREADS / 32; w++) sum += maxima[w] == m ? sums[w] : sums[w] * expf(maxima[w] - m);
    if (threadIdx.x == 0) losses[n] = logf(sum) + m - wanted;
    if (dscale == 0) return;
    float scale = dscale / sum;
    for (int c = (int)threadIdx.x * P; c < V; c += LOSS_THREADS * P) {
        load_pack(v, x, c, V, fit);
        for (int i = 0; i < P; i++) v[i] = (v[i] == m ? 1.0f : expf(v[i] - m)) * scale - (c + i == target ? dscale : 0.0f);
        store_pack(x, v, c, V, fit);
    }
}

// losses (N). logits (N, V): in logits, out dlogits = (softmax - onehot) * dscale; left as they are when
// dscale == 0. targets (N) on the device: in [0, V), or -1: ignored, loss 0 and gradient 0.
template <typename T>
static inline void cross_entropy(float *losses, T *logits, const int32_t *targets, float dscale, int N, int V, Device *d) {
    cross_entropy_kernel<T><<<blocks_for((size_t)N, 1), LOSS_THREADS, 0, d->stream>>>(losses, logits, targets, dscale, V);
    LAUNCH_CHECK();
}

static __global__ void sum_losses_kernel(double *total, const float *losses, int N) {
    __shared__ double sums[256];
    double sum = 0;
    for (int n = (int)threadIdx.x; n < N; n += 256) sum += (double)losses[n];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    sum = 0;
    for (int i = 0; i < 256; i++) sum += sums[i];
    *total += sum;
}

// *total += the sum of losses (N), in double; total on the device
static inline void sum_losses(double *total, const float *losses, int N, Device *d) {
    sum_losses_kernel<<<1, 256, 0, d->stream>>>(total, losses, N);
    LAUNCH_CHECK();
}

#endif
