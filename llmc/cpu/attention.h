/*
attention.h: rotary positions with optional QK-norm, and causal attention with grouped queries.
*/
#ifndef LLMC_CPU_ATTENTION_H
#define LLMC_CPU_ATTENTION_H

#include "cpu.h"

// rope (T, HS/2, 2): cos and sin of position * theta^(-2i/HS) (Su et al. 2021, arXiv:2104.09864)
static inline void rope_table(real *rope, int T, int HS, double theta) {
    for (int t = 0; t < T; t++)
        for (int i = 0; i < HS / 2; i++) {
            double angle = t * pow(theta, -2.0 * i / HS);
            rope[((size_t)t * (HS / 2) + i) * 2] = (real)cos(angle);
            rope[((size_t)t * (HS / 2) + i) * 2 + 1] = (real)sin(angle);
        }
}

// qk (N, (NH+NKV)*HS) from qkv (N, (NH+2 NKV)*HS), N = B*T: each head is normalised (RMS over its HS
// numbers, times q_weight or k_weight (HS)) where these are given, rstd (N, NH+NKV) is then kept;
// then rotated in Hugging Face's convention: dimension i pairs with i + HS/2.
static inline void qk_forward(real *qk, real *rstd, const real *qkv, const real *q_weight, const real *k_weight, const real *rope, int first_position, int B, int T, int NH, int NKV, int HS, real eps, Cpu *cpu) {
    int heads = NH + NKV, half = HS / 2;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < B * T; n++) {
        const real *table = rope + (size_t)(first_position + n % T) * half * 2;
        for (int h = 0; h < heads; h++) {
            const real *in = qkv + ((size_t)n * (NH + 2 * NKV) + h) * HS, *weight = h < NH ? q_weight : k_weight;
            real *out = qk + ((size_t)n * heads + h) * HS;
            real rs = 1;
            if (weight) {
                real s = 0;
                for (int i = 0; i < HS; i++) s += in[i] * in[i];
                rs = 1 / (real)sqrt((double)(s / (real)HS + eps));
                rstd[(size_t)n * heads + h] = rs;
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

// dqkv (N, (NH+2 NKV)*HS): its q and k parts are written; dq_weight, dk_weight (HS) += or NULL;
// from dqk (N, (NH+NKV)*HS). Positions start at 0.
static inline void qk_backward(real *dqkv, real *dq_weight, real *dk_weight, const real *dqk, const real *qkv, const real *rstd, const real *q_weight, const real *k_weight, const real *rope, int B, int T, int NH, int NKV, int HS, Cpu *cpu) {
    int heads = NH + NKV, half = HS / 2, N = B * T, chunks = N < QK_CHUNKS ? N : QK_CHUNKS;
    real *partial = (real *)cpu_workspace(cpu, sizeof(real) * (size_t)chunks * 3 * HS); // (chunks, 3, HS): q weight, k weight, scratch
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int chunk = 0; chunk < chunks; chunk++) {
        real *pq = partial + (size_t)chunk * 3 * HS, *pk = pq + HS, *g = pk + HS;
        memset(pq, 0, sizeof(real) * 2 * (size_t)HS);
        int end = (int)cpu_chunk(N, 1, chunks, chunk + 1);
        for (int n = (int)cpu_chunk(N, 1, chunks, chunk); n < end; n++) {
            const real *table = rope + (size_t)(n % T) * half * 2;
            for (int h = 0; h < heads; h++) {
                const real *dr = dqk + ((size_t)n * heads + h) * HS, *in = qkv + ((size_t)n * (NH + 2 * NKV) + h) * HS, *weight = h < NH ? q_weight : k_weight;
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
                real rs = rstd[(size_t)n * heads + h], s = 0;
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

// out (B, Tq, NH*HS), lse (B, NH, Tq) or NULL. Query i sees keys 0 .. Tkv-Tq+i; scores are scaled by
// 1/sqrt(HS). Batch b of q starts at q + b*Tq*ldq, of k at k + b*Tkv*ldk, of v at v + b*Tkv*ldv.
static inline void attention_forward(real *out, real *lse, const real *q, int ldq, const real *k, int ldk, const real *v, int ldv, int B, int Tq, int Tkv, int NH, int NKV, int HS, Cpu *cpu) {
    real *scores = (real *)cpu_workspace(cpu, sizeof(real) * (size_t)cpu->threads * Tkv); // a row for each thread
    real scale = (real)(1 / sqrt((double)HS));
    OMP(parallel for num_threads(cpu->threads) schedule(dynamic, 4))
    for (int64_t row = 0; row < (int64_t)B * NH * Tq; row++) {
        int b = (int)(row / Tq / NH), h = (int)(row / Tq % NH), t = (int)(row % Tq), kh = h / (NH / NKV), n = Tkv - Tq + t + 1;
        const real *qr = q + ((size_t)b * Tq + t) * ldq + (size_t)h * HS;
        const real *kb = k + (size_t)b * Tkv * ldk + (size_t)kh * HS, *vb = v + (size_t)b * Tkv * ldv + (size_t)kh * HS;
        real *o = out + (((size_t)b * Tq + t) * NH + h) * HS, m = 0, sum = 0;
#ifdef _OPENMP
        real *s = scores + (size_t)omp_get_thread_num() * Tkv;
#else
        real *s = scores;
#endif
        for (int i = 0; i < n; i++) {
            real dot = 0;
            vreal acc = {0};
            int d = 0;
            for (; d + VL <= HS; d += VL) acc += vload(qr + d) * vload(kb + (size_t)i * ldk + d);
            for (; d < HS; d++) dot += qr[d] * kb[(size_t)i * ldk + d];
            s[i] = (dot + vsum(acc)) * scale;
            m = i == 0 || s[i] > m ? s[i] : m;
        }
        for (int i = 0; i < n; i += VL) {
            int c = n - i < VL ? n - i : VL;
            vreal e = vexp(vload_part(s + i, c) - m);
            vstore_part(s + i, e, c);
            for (int j = 0; j < c; j++) sum += e[j];
        }
        for (int d = 0; d < HS; d++) o[d] = 0;
        for (int i = 0; i < n; i++)
            for (int d = 0; d < HS; d++) o[d] += s[i] * vb[(size_t)i * ldv + d];
        for (int d = 0; d < HS; d++) o[d] /= sum;
        if (lse) lse[row] = (real)(log((double)sum) + (double)m);
    }
}

// dq, dk, dv are overwritten; shapes as above with Tq == Tkv == T
static inline void attention_backward(real *dq, int lddq, real *dk, int lddk, real *dv, int lddv, const real *dout, const real *out, const real *lse, const real *q, int ldq, const real *k, int ldk, const real *v, int ldv, int B, int T, int NH, int NKV, int HS, Cpu *cpu) {
    real scale = (real)(1 / sqrt((double)HS));
    OMP(parallel for num_threads(cpu->threads) schedule(dynamic))
    for (int task = 0; task < B * NKV; task++) {
        int b = task / NKV, kh = task % NKV;
        const real *kb = k + (size_t)b * T * ldk + (size_t)kh * HS, *vb = v + (size_t)b * T * ldv + (size_t)kh * HS;
        real *dkb = dk + (size_t)b * T * lddk + (size_t)kh * HS, *dvb = dv + (size_t)b * T * lddv + (size_t)kh * HS;
        for (int t = 0; t < T; t++)
            for (int d = 0; d < HS; d++) dkb[(size_t)t * lddk + d] = dvb[(size_t)t * lddv + d] = 0;
        for (int h = kh * (NH / NKV); h < (kh + 1) * (NH / NKV); h++)
            for (int t = 0; t < T; t++) {
                const real *qr = q + ((size_t)b * T + t) * ldq + (size_t)h * HS;
                const real *o = out + (((size_t)b * T + t) * NH + h) * HS, *go = dout + (((size_t)b * T + t) * NH + h) * HS;
                real *dqr = dq + ((size_t)b * T + t) * lddq + (size_t)h * HS, delta = 0, l = lse[((size_t)b * NH + h) * T + t];
                for (int d = 0; d < HS; d++) {
                    delta += o[d] * go[d];
                    dqr[d] = 0;
                }
                for (int i = 0; i <= t; i++) {
                    const real *kr = kb + (size_t)i * ldk, *vr = vb + (size_t)i * ldv;
                    real *dkr = dkb + (size_t)i * lddk, *dvr = dvb + (size_t)i * lddv, s = 0, dp = 0;
                    for (int d = 0; d < HS; d++) {
                        s += qr[d] * kr[d];
                        dp += go[d] * vr[d];
                    }
                    real p = vexp(vset(s * scale - l))[0], ds = p * (dp - delta) * scale;
                    for (int d = 0; d < HS; d++) {
                        dvr[d] += p * go[d];
                        dkr[d] += ds * qr[d];
                        dqr[d] += ds * kr[d];
                    }
                }
            }
    }
    (void)cpu;
}

#endif
