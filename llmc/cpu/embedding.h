/*
embedding.h: reads rows of the token table (and of the learned position table), and adds up their gradients.
*/
#ifndef LLMC_CPU_EMBEDDING_H
#define LLMC_CPU_EMBEDDING_H

#include "../model.h"
#include "cpu.h"

// x (B, T, C) = wte[token] (+ wpe[position]); tokens must be rows of wte (V, C), positions of wpe (Tmax, C), which may
// be NULL, both ways
static inline void embedding_forward(real *x, TokenRows tokens, Matrix wte, Matrix wpe, int C, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < tokens.B * tokens.T; n++) {
        real *xr = x + (size_t)n * C;
        size_t e = (size_t)tokens.ids[n] * (size_t)C,
               p = (size_t)token_position(tokens.first, tokens.starts, tokens.T, n) * (size_t)C;
        for (int c = 0; c < C; c += VL) {
            vreal v = matrix_load(wte, e + (size_t)c, C - c);
            if (wpe.full || wpe.half) v += matrix_load(wpe, p + (size_t)c, C - c);
            store_up_to(xr + c, v, C - c);
        }
    }
    (void)cpu;
}

// dwte (V, C) += or NULL, dwpe (T, C) += or NULL, from dx (B, T, C). Each thread has its own rows of the tables, by
// token id and by position, and walks all tokens in order: a row is always summed in the order of the tokens.
static inline void embedding_backward(real *dwte, real *dwpe, const real *dx, TokenRows tokens, int C, Cpu *cpu) {
    uint32_t parts = (uint32_t)cpu->threads;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (uint32_t part = 0; part < parts; part++) {
        for (int n = 0; n < tokens.B * tokens.T; n++) {
            int rows[2] = {tokens.ids[n], token_position(tokens.first, tokens.starts, tokens.T, n)};
            real *tables[2] = {dwte, dwpe};
            for (int i = 0; i < 2; i++) {
                if (!tables[i] || (uint32_t)rows[i] % parts != part) continue;
                real *d = tables[i] + (size_t)rows[i] * C;
                for (int c = 0; c < C; c++) d[c] += dx[(size_t)n * C + c];
            }
        }
    }
}

#endif
