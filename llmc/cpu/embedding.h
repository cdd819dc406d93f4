/*
embedding.h: reads rows of the token table (and of the learned position table), and adds up their gradients.
*/
#ifndef LLMC_CPU_EMBEDDING_H
#define LLMC_CPU_EMBEDDING_H

#include "cpu.h"

// x (B, T, C) = wte[token] (+ wpe[first_position + t]); tokens (B, T) must be rows of wte (V, C),
// first_position + T must not pass the rows of wpe (Tmax, C), which may be NULL, both ways
static inline void embedding_forward(real *x, const int32_t *tokens, Matrix wte, Matrix wpe, int first_position, int B,
                                     int T, int C, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < B * T; n++) {
        real *xr = x + (size_t)n * C;
        size_t e = (size_t)tokens[n] * (size_t)C, p = (size_t)(first_position + n % T) * (size_t)C;
        for (int c = 0; c < C; c += VL) {
            vreal v = matrix_load(wte, e + (size_t)c, C - c);
            if (wpe.full || wpe.half) v += matrix_load(wpe, p + (size_t)c, C - c);
            store_up_to(xr + c, v, C - c);
        }
    }
    (void)cpu;
}

// dwte (V, C) += or NULL, dwpe (T, C) += or NULL, from dx (B, T, C). Each thread has its own
// rows of the table, by token id, and walks all tokens in order: a row is always summed in the
// order of the tokens.
static inline void embedding_backward(real *dwte, real *dwpe, const real *dx, const int32_t *tokens, int B, int T,
                                      int C, int V, Cpu *cpu) {
    int parts = dwte ? cpu->threads : 0;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int part = 0; part < parts; part++) {
        for (int n = 0; n < B * T; n++) {
            if ((uint32_t)tokens[n] % (uint32_t)parts != (uint32_t)part) continue;
            real *d = dwte + (size_t)tokens[n] * C;
            for (int c = 0; c < C; c++) d[c] += dx[(size_t)n * C + c];
        }
    }
    (void)V;
    if (!dwpe) return;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int t = 0; t < T; t++)
        for (int b = 0; b < B; b++)
            for (int c = 0; c < C; c++) dwpe[(size_t)t * C + c] += dx[((size_t)b * T + t) * C + c];
}

#endif
