/*
norm.h: LayerNorm (Ba et al. 2016, arXiv:1607.06450) and RMSNorm (Zhang and Sennrich 2019,
arXiv:1910.07467), forward and backward.

    LayerNorm   y = (x - mean(x)) * rstd * w + b     rstd = 1 / sqrt(var(x) + eps), var divided by C
    RMSNorm     y = x * rstd * w                     rstd = 1 / sqrt(mean(x^2) + eps)

Both are bound by memory: each pass reads a row once from memory and then from the L1 cache.
*/
#ifndef LLMC_CPU_NORM_H
#define LLMC_CPU_NORM_H

#include "cpu.h"

typedef struct {
    const real *w, *b; // (C); b may be NULL
    real *mean, *rstd; // (N) of the forward pass; mean NULL: RMSNorm
    int N, C;
    real eps;
} Norm;

// y (N, C), mean, rstd from x (N, C)
static inline void norm_forward(real *y, const real *x, Norm n, Cpu *cpu) {
    const real *w = n.w, *b = n.b;
    int N = n.N, C = n.C;
    int whole = C / VL * VL, rest = C - whole;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int row = 0; row < N; row++) {
        const real *xr = x + (size_t)row * C;
        real *yr = y + (size_t)row * C;
        real m = 0;
        if (n.mean) {
            vreal s = {0};
            for (int c = 0; c < whole; c += VL) s += vload(xr + c);
            s += vload_part(xr + whole, rest);
            m = vsum(s) / (real)C;
            n.mean[row] = m;
        }
        vreal q = {0};
        for (int c = 0; c < whole; c += VL) {
            vreal d = vload(xr + c) - m;
            q += d * d;
        }
        real v = vsum(q);
        for (int c = whole; c < C; c++) v += (xr[c] - m) * (xr[c] - m);
        real rs = 1 / (real)sqrt((double)(v / (real)C + n.eps));
        n.rstd[row] = rs;
        for (int c = 0; c < whole; c += VL) {
            vreal o = (vload(xr + c) - m) * rs * vload(w + c);
            vstore(yr + c, b ? o + vload(b + c) : o);
        }
        for (int c = whole; c < C; c++) yr[c] = (xr[c] - m) * rs * w[c] + (b ? b[c] : 0);
    }
    (void)cpu;
}

enum { NORM_CHUNKS = 64 }; // partial sums of dw and db; fixed, so that bits do not depend on threads

// dx (N, C) +=, dw (C) += or NULL, db (C) += or NULL, from dy (N, C), x (N, C)
// With xhat = (x - mean) * rstd and g = dy * w:
//     dx += rstd * (g - mean(g) - xhat * mean(g * xhat))       RMSNorm: without the middle term
//     dw += sum over rows of dy * xhat,   db += sum over rows of dy
static inline void norm_backward(real *dx, real *dw, real *db, const real *dy, const real *x, Norm n, Cpu *cpu) {
    const real *w = n.w, *mean = n.mean, *rstd = n.rstd;
    int N = n.N, C = n.C;
    size_t width = cpu_align((size_t)C * sizeof(real)) / sizeof(real);
    int chunks = N < NORM_CHUNKS ? N : NORM_CHUNKS;
    real *partial = (real *)cpu_workspace(cpu, (size_t)chunks * 2 * width * sizeof(real)); // (chunks, 2, width): dw, db
    int whole = C / VL * VL, rest = C - whole;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int chunk = 0; chunk < chunks; chunk++) {
        real *pw = partial + (size_t)chunk * 2 * width, *pb = pw + width;
        memset(pw, 0, 2 * width * sizeof(real));
        int end = (int)cpu_chunk(N, 1, chunks, chunk + 1);
        for (int row = (int)cpu_chunk(N, 1, chunks, chunk); row < end; row++) {
            const real *xr = x + (size_t)row * C, *gr = dy + (size_t)row * C;
            real *dr = dx + (size_t)row * C;
            real m = mean ? mean[row] : 0, rs = rstd[row];
            vreal s1 = {0}, s2 = {0};
            for (int c = 0; c < whole; c += VL) {
                vreal d = vload(gr + c), xhat = (vload(xr + c) - m) * rs, g = d * vload(w + c);
                s1 += g;
                s2 += g * xhat;
                vstore(pw + c, vload(pw + c) + d * xhat);
                vstore(pb + c, vload(pb + c) + d);
            }
            if (rest) {
                vreal d = vload_part(gr + whole, rest), xhat = (vload_part(xr + whole, rest) - m) * rs,
                      g = d * vload_part(w + whole, rest);
                s1 += g;
                s2 += g * xhat;
                vstore_part(pw + whole, vload_part(pw + whole, rest) + d * xhat, rest);
                vstore_part(pb + whole, vload_part(pb + whole, rest) + d, rest);
            }
            real a = mean ? vsum(s1) / (real)C : 0, q = vsum(s2) / (real)C;
            for (int c = 0; c < whole; c += VL) {
                vreal xhat = (vload(xr + c) - m) * rs, g = vload(gr + c) * vload(w + c);
                vstore(dr + c, vload(dr + c) + rs * (g - a - xhat * q));
            }
            for (int c = whole; c < C; c++) {
                real xhat = (xr[c] - m) * rs;
                dr[c] += rs * (gr[c] * w[c] - a - xhat * q);
            }
        }
    }
    for (int chunk = 0; chunk < chunks; chunk++) {
        const real *pw = partial + (size_t)chunk * 2 * width, *pb = pw + width;
        for (int c = 0; dw && c < C; c++) dw[c] += pw[c];
        for (int c = 0; db && c < C; c++) db[c] += pb[c];
    }
}

#endif
