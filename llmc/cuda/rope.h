/*
rope.h: rotary positions (Su et al. 2021, arXiv:2104.09864) with an optional RMSNorm of each query and
key head before (QK-norm, as in Qwen3), forward and backward, one pass each.

Dimension i of a head pairs with i + HS/2, as in Hugging Face's models. A group of G lanes takes a
head; lane j of it the pairs j V .. j V + V - 1, and so on in steps of G V: V is a pack where one
divides HS/2, otherwise 1. Bound by memory. Limit: HS <= 512.
*/
#ifndef LLMC_CUDA_ROPE_H
#define LLMC_CUDA_ROPE_H

#include "../model.h"
#include "cuda.h"

// The table (T + 1, HS/2, 2) on the device
static inline float *rope_open(Device *d, int T, const Config *c) {
    size_t n = ((size_t)T + 1) * (size_t)c->head_size;
    double *exact = (double *)mem_alloc(sizeof(double) * n);
    float *table = (float *)mem_alloc(sizeof(float) * n), *rope;
    rope_table(exact, T, c);
    for (size_t i = 0; i < n; i++) table[i] = (float)exact[i];
    rope = (float *)device_alloc(d, sizeof(float) * n, "the rotary table");
    device_write(d, rope, table, sizeof(float) * n);
    free(table);
    free(exact);
    return rope;
}

// Lanes of a group, and its steps over a head: V * L = 8, V * L * 32 >= 256 = most pairs of a head
static inline int rope_lanes(int half, int V) {
    int G = 1;
    while (G < 32 && G * V < half) G *= 2;
    return G;
}

enum { ROPE_THREADS = 256 };

template <typename Real, int V, int L>
__global__ void qk_forward_kernel(Real *qk, float *rstd, const Real *qkv, const Real *q_weight, const Real *k_weight,
                                  const float *rope, int step, const int32_t *starts, int first_position, int N, int T,
                                  int NH, int NKV, int HS, float eps, int G) {
    int heads = NH + NKV, half = HS / 2, j = (int)threadIdx.x % G;
    size_t item = ((size_t)blockIdx.x * ROPE_THREADS + threadIdx.x) / (unsigned)G, items = (size_t)N * (size_t)heads;
    bool active = item < items; // all lanes stay for the shuffles
    size_t n = active ? item / (size_t)heads : 0;
    int h = active ? (int)(item % (size_t)heads) : 0;
    const Real *in = qkv + (n * (size_t)(NH + 2 * NKV) + (size_t)h) * (size_t)HS,
               *weight = h < NH ? q_weight : k_weight;
    Real *out = qk + (n * (size_t)heads + (size_t)h) * (size_t)HS;
    const float *table = rope + (size_t)token_position(first_position, starts, T, (int)n) * (size_t)step;
    float a[L][V], b[L][V], s = 0;
    for (int l = 0; l < L; l++) {
        int i = (j + l * G) * V;
        if (i >= half) continue;
        load_pack(a[l], in, i, half, V > 1);
        load_pack(b[l], in + half, i, half, V > 1);
        for (int v = 0; v < V; v++) s += a[l][v] * a[l][v] + b[l][v] * b[l][v];
    }
    float rs = 1;
    if (q_weight) {
        rs = 1.0f / sqrtf(group_sum(s, G) / (float)HS + eps);
        if (active && j == 0) rstd[item] = rs;
    }
    if (!active) return;
    for (int l = 0; l < L; l++) {
        int i = (j + l * G) * V;
        if (i >= half) continue;
        float wa[V], wb[V];
        if (q_weight) {
            load_pack(wa, weight, i, half, V > 1);
            load_pack(wb, weight + half, i, half, V > 1);
        }
        for (int v = 0; v < V; v++) {
            float x = a[l][v], y = b[l][v], c = table[2 * (i + v)], sn = table[2 * (i + v) + 1];
            if (q_weight) {
                x *= rs * wa[v];
                y *= rs * wb[v];
            }
            a[l][v] = x * c - y * sn;
            b[l][v] = y * c + x * sn;
        }
        store_pack(out, a[l], i, half, V > 1);
        store_pack(out + half, b[l], i, half, V > 1);
    }
}

template <typename Real> struct Rotation {
    const Real *q_weight, *k_weight; // (HS) of QK-norm; NULL: none
    float *rstd;                     // (N, NH + NKV) 1 / RMS of each head, of the forward pass; with QK-norm
    const float *rope;               // (T, HS/2, 2) of rope_table, from the layer's rope_first on
    int step;                        // from one position's row of it to the next: rope_step
    int first;                       // position of a document's first token
    float eps;
    AttentionShape shape; // N = B Tq tokens
};

// qk (N, (NH+NKV) HS) from qkv (N, (NH+2 NKV) HS): each head is normalised where weights are given, then rotated.
template <typename Real> static inline void qk_forward(Real *qk, const Real *qkv, Rotation<Real> r, Device *d) {
    const int P = PackOf<Real>::SIZE, T = r.shape.Tq, NH = r.shape.NH, NKV = r.shape.NKV, HS = r.shape.HS;
    bool wide = HS / 2 % P == 0;
    int N = r.shape.B * T, G = rope_lanes(HS / 2, wide ? P : 1);
    unsigned blocks = blocks_for((size_t)N * (size_t)(NH + NKV) * (size_t)G, ROPE_THREADS);
    auto kernel = wide ? qk_forward_kernel<Real, P, 8 / P> : qk_forward_kernel<Real, 1, 8>;
    kernel<<<blocks, ROPE_THREADS, 0, d->stream>>>(qk, r.rstd, qkv, r.q_weight, r.k_weight, r.rope, r.step,
                                                   r.shape.starts, r.first, N, T, NH, NKV, HS, r.eps, G);
    LAUNCH_CHECK();
}

// Groups of the whole grid take heads in turn, so that a lane's sums for the weights' gradients stay in
// registers; at the end each thread block writes its sums: partial (gridDim.x, 2, HS).
template <typename Real, int V, int L>
__global__ void qk_backward_kernel(Real *dqkv, float *partial, const Real *dqk, const Real *qkv, const float *rstd,
                                   const Real *q_weight, const Real *k_weight, const float *rope, int turns,
                                   const int32_t *starts, int N, int T, int NH, int NKV, int HS, int G) {
    extern __shared__ __align__(16) float sums[]; // (warps, HS)
    int heads = NH + NKV, half = HS / 2, j = (int)threadIdx.x % G, groups = ROPE_THREADS / G;
    size_t items = (size_t)N * (size_t)heads, step = (size_t)gridDim.x * (size_t)groups;
    float dw[2][2][L][V]; // query, key; lower, upper half
    for (int w = 0; w < 4; w++)
        for (int l = 0; l < L; l++)
            for (int v = 0; v < V; v++) dw[w / 2][w % 2][l][v] = 0;
    for (size_t first = (size_t)blockIdx.x * (size_t)groups; first < items;
         first += step) { // the same trips for all: shuffles inside
        size_t item = first + threadIdx.x / (unsigned)G;
        bool active = item < items;
        size_t n = active ? item / (size_t)heads : 0;
        int h = active ? (int)(item % (size_t)heads) : 0;
        const Real *dr = dqk + (n * (size_t)heads + (size_t)h) * (size_t)HS,
                   *in = qkv + (n * (size_t)(NH + 2 * NKV) + (size_t)h) * (size_t)HS;
        const Real *weight = h < NH ? q_weight : k_weight;
        Real *out = dqkv + (n * (size_t)(NH + 2 * NKV) + (size_t)h) * (size_t)HS;
        const float *table = rope + (size_t)token_position(0, starts, T, (int)n) * (size_t)turns;
        float ga[L][V], gb[L][V], xa[L][V], xb[L][V], s = 0, rs = 1;
        if (q_weight && active) rs = rstd[item];
        for (int l = 0; l < L; l++) {
            int i = (j + l * G) * V;
            if (i >= half) continue;
            load_pack(ga[l], dr, i, half, V > 1);
            load_pack(gb[l], dr + half, i, half, V > 1);
            for (int v = 0; v < V; v++) {
                float x = ga[l][v], y = gb[l][v], c = table[2 * (i + v)], sn = table[2 * (i + v) + 1];
                ga[l][v] = x * c + y * sn;
                gb[l][v] = y * c - x * sn;
            }
            if (!q_weight || !active) continue;
            float wa[V], wb[V];
            load_pack(xa[l], in, i, half, V > 1);
            load_pack(xb[l], in + half, i, half, V > 1);
            load_pack(wa, weight, i, half, V > 1);
            load_pack(wb, weight + half, i, half, V > 1);
            for (int v = 0; v < V; v++) {
                xa[l][v] *= rs;
                xb[l][v] *= rs;
                float pa = ga[l][v] * xa[l][v], pb = gb[l][v] * xb[l][v];
                dw[0][0][l][v] += h < NH ? pa : 0.0f;
                dw[0][1][l][v] += h < NH ? pb : 0.0f;
                dw[1][0][l][v] += h < NH ? 0.0f : pa;
                dw[1][1][l][v] += h < NH ? 0.0f : pb;
                ga[l][v] *= wa[v];
                gb[l][v] *= wb[v];
                s += ga[l][v] * xa[l][v] + gb[l][v] * xb[l][v];
            }
        }
        if (q_weight) s = group_sum(s, G) / (float)HS;
        if (!active) continue;
        for (int l = 0; l < L; l++) {
            int i = (j + l * G) * V;
            if (i >= half) continue;
            if (q_weight)
                for (int v = 0; v < V; v++) {
                    ga[l][v] = rs * (ga[l][v] - xa[l][v] * s);
                    gb[l][v] = rs * (gb[l][v] - xb[l][v] * s);
                }
            store_pack(out, ga[l], i, half, V > 1);
            store_pack(out + half, gb[l], i, half, V > 1);
        }
    }
    if (!q_weight) return;
    // groups of a warp by shuffles, then the warps one after the other
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    for (int w = 0; w < 2; w++) {
        for (int side = 0; side < 2; side++)
            for (int l = 0; l < L; l++)
                for (int v = 0; v < V; v++) {
                    float x = dw[w][side][l][v];
                    for (int bit = 16; bit >= G; bit /= 2) x += __shfl_xor_sync(0xffffffffu, x, bit);
                    int i = (j + l * G) * V + v;
                    if (lane < G && i < half) sums[warp * HS + side * half + i] = x;
                }
        __syncthreads();
        for (int i = (int)threadIdx.x; i < HS; i += ROPE_THREADS) {
            float x = 0;
            for (int k = 0; k < ROPE_THREADS / 32; k++) x += sums[k * HS + i];
            partial[((size_t)blockIdx.x * 2 + (size_t)w) * (size_t)HS + (size_t)i] = x;
        }
        __syncthreads();
    }
}

// dqkv (N, (NH+2 NKV) HS): its q and k parts are written; dq_weight, dk_weight (HS) += or NULL; from dqk
// (N, (NH+NKV) HS). Positions start at 0.
template <typename Real>
static inline void qk_backward(Real *dqkv, float *dq_weight, float *dk_weight, const Real *dqk, const Real *qkv,
                               Rotation<Real> r, Device *d) {
    const int P = PackOf<Real>::SIZE, T = r.shape.Tq, NH = r.shape.NH, NKV = r.shape.NKV, HS = r.shape.HS;
    bool wide = HS / 2 % P == 0;
    int N = r.shape.B * T, G = rope_lanes(HS / 2, wide ? P : 1);
    size_t shared = sizeof(float) * (size_t)(ROPE_THREADS / 32 * HS);
    unsigned blocks = blocks_for((size_t)N * (size_t)(NH + NKV), (size_t)(ROPE_THREADS / G));
    if (r.q_weight && blocks > 512) blocks = 512; // a constant: the order of the sums must not depend on the device
    auto kernel = wide ? qk_backward_kernel<Real, P, 8 / P> : qk_backward_kernel<Real, 1, 8>;
    kernel<<<blocks, ROPE_THREADS, shared, d->stream>>>(dqkv, d->scratch, dqk, qkv, r.rstd, r.q_weight, r.k_weight,
                                                        r.rope, r.step, r.shape.starts, N, T, NH, NKV, HS, G);
    LAUNCH_CHECK();
    if (dq_weight || dk_weight) add_columns(dq_weight, dk_weight, d->scratch, (int)blocks, HS, 2 * HS, d);
}

#endif
