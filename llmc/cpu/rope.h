/*
rope.h: rotary positions (Su et al. 2021, arXiv:2104.09864) with an optional RMSNorm of each query and
key head before (QK-norm, as in Qwen3), forward and backward, one pass each.

Dimension i of a head pairs with i + HS/2, as in Hugging Face's models.
*/
#ifndef LLMC_CPU_ROPE_H
#define LLMC_CPU_ROPE_H

#include "../model.h"
#include "cpu.h"

typedef struct {
    const real *q_weight, *k_weight; // (HS) of QK-norm; NULL: none
    real *rstd;                      // (N, NH + NKV) 1 / RMS of each head, of the forward pass; with QK-norm
    const real *rope;                // (T, HS/2, 2) of rope_table, from the layer's rope_first on
    int step;                        // from one position's row of it to the next: rope_step
    int first;                       // position of a document's first token
    real eps;
    AttentionShape shape; // N = B Tq tokens
} Rotation;

// qk (N, (NH+NKV)*HS) from qkv (N, (NH+2 NKV)*HS): each head is normalised where weights are given, then rotated.
static inline void qk_forward(real *qk, const real *qkv, Rotation r, Cpu *cpu) {
    int T = r.shape.Tq, N = r.shape.B * T, NH = r.shape.NH, NKV = r.shape.NKV, HS = r.shape.HS;
    int heads = NH + NKV, half = HS / 2;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < N; n++) {
        const real *table = r.rope + (size_t)token_position(r.first, r.shape.starts, T, n) * (size_t)r.step;
        for (int h = 0; h < heads; h++) {
            const real *in = qkv + ((size_t)n * (NH + 2 * NKV) + h) * HS, *weight = h < NH ? r.q_weight : r.k_weight;
            real *out = qk + ((size_t)n * heads + h) * HS;
            real rs = 1;
            if (weight) {
                real s = 0;
                for (int i = 0; i < HS; i++) s += in[i] * in[i];
                rs = 1 / (real)sqrt((double)(s / (real)HS + r.eps));
                r.rstd[(size_t)n * heads + h] = rs;
            }
            for (int i = 0; i < half; i++) {
                real a = in[i], b = in[i + half], c = table[2 * i], s = table[2 * i + 1];
                if (weight) {
                    a *= rs * weight[i];
                    b *= rs * weight[i + half];
                }
                out[i] = a * c - b * s;
                out[i + half] = b * c + a * s;
            }
        }
    }
    (void)cpu;
}

enum { QK_CHUNKS = 64 }; // partial sums of the weights' gradients; fixed, so that bits do not depend on threads

// dqkv (N, (NH+2 NKV)*HS), its q and k parts, from dqk (N, (NH+NKV)*HS); dq_weight, dk_weight (HS) += or NULL.
static inline void qk_backward(real *dqkv, real *dq_weight, real *dk_weight, const real *dqk, const real *qkv,
                               Rotation r, Cpu *cpu) {
    int T = r.shape.Tq, N = r.shape.B * T, NH = r.shape.NH, NKV = r.shape.NKV, HS = r.shape.HS;
    int heads = NH + NKV, half = HS / 2, chunks = N < QK_CHUNKS ? N : QK_CHUNKS;
    // (chunks, 3, HS): q weight, k weight, scratch
    real *partial = (real *)cpu_workspace(cpu, sizeof(real) * (size_t)chunks * 3 * HS);
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int chunk = 0; chunk < chunks; chunk++) {
        real *pq = partial + (size_t)chunk * 3 * HS, *pk = pq + HS, *g = pk + HS;
        memset(pq, 0, sizeof(real) * 2 * (size_t)HS);
        int end = (int)cpu_chunk(N, 1, chunks, chunk + 1);
        for (int n = (int)cpu_chunk(N, 1, chunks, chunk); n < end; n++) {
            const real *table = r.rope + (size_t)token_position(r.first, r.shape.starts, T, n) * (size_t)r.step;
            for (int h = 0; h < heads; h++) {
                const real *dr = dqk + ((size_t)n * heads + h) * HS, *in = qkv + ((size_t)n * (NH + 2 * NKV) + h) * HS,
                           *weight = h < NH ? r.q_weight : r.k_weight;
                real *out = dqkv + ((size_t)n * (NH + 2 * NKV) + h) * HS, *pw = h < NH ? pq : pk;
                for (int i = 0; i < half; i++) {
                    real a = dr[i], b = dr[i + half], c = table[2 * i], s = table[2 * i + 1];
                    g[i] = a * c + b * s;
                    g[i + half] = b * c - a * s;
                }
                if (!weight) {
                    memcpy(out, g, sizeof(real) * (size_t)HS);
                    continue;
                }
                real rs = r.rstd[(size_t)n * heads + h], s = 0;
                for (int i = 0; i < HS; i++) {
                    real xhat = in[i] * rs;
                    pw[i] += g[i] * xhat;
                    s += g[i] * weight[i] * xhat;
                }
                s /= (real)HS;
                for (int i = 0; i < HS; i++) out[i] = rs * (g[i] * weight[i] - in[i] * rs * s);
            }
        }
    }
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int i = 0; i < HS; i++) {
            if (dq_weight) dq_weight[i] += partial[(size_t)chunk * 3 * HS + i];
            if (dk_weight) dk_weight[i] += partial[(size_t)chunk * 3 * HS + HS + i];
        }
}

#endif
