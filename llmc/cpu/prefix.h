/*
prefix.h: keys and values of text that several sequences begin with: computed once, and joined with those of what
follows in each. Copies only, so that attention reads the same numbers as without.
*/
#ifndef LLMC_CPU_PREFIX_H
#define LLMC_CPU_PREFIX_H

#include "cpu.h"
#include "heads.h"

// kept (2, N, NK) = keys and values of N rows
static inline void prefix_keep(real *kept, Heads h, int N, int NK, Cpu *cpu) {
    Rows both[2] = {h.k, h.v};
    (void)cpu; // without OpenMP
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int i = 0; i < 2 * N; i++)
        memcpy(kept + (size_t)i * (size_t)NK, both[i / N].at + (size_t)(i % N) * (size_t)both[i / N].ld,
               sizeof(real) * (size_t)NK);
}

// joined (2, B, P + T, NK): of row b the P keys and values of prefix row_of[b], then its own T. kept (2, G, P, NK).
static inline void prefix_join(real *joined, const real *kept, Heads h, const int32_t *row_of, PrefixShape s,
                               Cpu *cpu) {
    Rows both[2] = {h.k, h.v};
    size_t NK = (size_t)s.NK, P = (size_t)s.P, T = (size_t)s.T;
    (void)cpu; // without OpenMP
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int i = 0; i < 2 * s.B; i++) {
        int b = i % s.B;
        Rows own = both[i / s.B];
        real *to = joined + (size_t)i * (P + T) * NK;
        memcpy(to, kept + ((size_t)(i / s.B) * (size_t)s.G + (size_t)row_of[b]) * P * NK, sizeof(real) * P * NK);
        for (size_t t = 0; t < T; t++)
            memcpy(to + (P + t) * NK, own.at + ((size_t)b * T + t) * (size_t)own.ld, sizeof(real) * NK);
    }
}

#endif
