/*
gemm.h: linear layers, forward and the two backward forms.
*/
#ifndef LLMC_CPU_GEMM_H
#define LLMC_CPU_GEMM_H
#include "cpu.h"

enum { LINEAR_FEW_ROWS = 8 };

// y = x w^T + b + residual. b (OC) and residual (N, OC) may be NULL; residual may equal y.
static inline void linear_forward(real *y, const real *x, const real *w, const real *b, const real *residual, int N, int C, int OC, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads) collapse(2))
    for (int o0 = 0; o0 < OC; o0 += 4)
        for (int n0 = 0; n0 < N; n0 += 64)
            for (int n = n0; n < n0 + 64 && n < N; n++) {
                const real *xr = x + (size_t)n * C, *wr[4];
                for (int j = 0; j < 4; j++) wr[j] = w + (size_t)(o0 + j < OC ? o0 + j : o0) * C;
                vreal s[4] = {{0}, {0}, {0}, {0}};
                int c = 0;
                for (; c + VL <= C; c += VL)
                    for (int j = 0; j < 4; j++) s[j] += vload(xr + c) * vload(wr[j] + c);
                for (int j = 0; j < 4 && o0 + j < OC; j++) {
                    real sum = vsum(s[j]);
                    for (int t = c; t < C; t++) sum += xr[t] * wr[j][t];
                    size_t at = (size_t)n * OC + o0 + j;
                    if (b) sum += b[o0 + j];
                    y[at] = residual ? residual[at] + sum : sum;
                }
            }
    (void)cpu;
}

// dx (N, C) = or += dy (N, OC) w (OC, C)
static inline void linear_backward_input(real *dx, const real *dy, const real *w, bool accumulate, int N, int C, int OC, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads))
    for (int n0 = 0; n0 < N; n0 += 8) {
        int n1 = n0 + 8 < N ? n0 + 8 : N;
        if (!accumulate) memset(dx + (size_t)n0 * C, 0, sizeof(real) * (size_t)(n1 - n0) * C);
        for (int o = 0; o < OC; o++)
            for (int n = n0; n < n1; n++) {
                real g = dy[(size_t)n * OC + o];
                for (int c = 0; c < C; c++) dx[(size_t)n * C + c] += g * w[(size_t)o * C + c];
            }
    }
    (void)cpu;
}

// dw (OC, C) += dy^T x, db (OC) += column sums of dy; db may be NULL
static inline void linear_backward_weight(real *dw, real *db, const real *dy, const real *x, int N, int C, int OC, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads))
    for (int o0 = 0; o0 < OC; o0 += 8) {
        int o1 = o0 + 8 < OC ? o0 + 8 : OC;
        for (int n = 0; n < N; n++)
            for (int o = o0; o < o1; o++) {
                real g = dy[(size_t)n * OC + o];
                if (db) db[o] += g;
                for (int c = 0; c < C; c++) dw[(size_t)o * C + c] += g * x[(size_t)n * C + c];
            }
    }
    (void)cpu;
}
#endif
