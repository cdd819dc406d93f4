/*
peak.h: what this machine can do at most, measured in a few milliseconds, so that speed can be given as
a share of it: multiply-adds (or dot products of bf16 pairs, or products of tiles or of 2 x 4 matrices) on registers
alone, on all threads at once.
*/
#ifndef LLMC_CPU_PEAK_H
#define LLMC_CPU_PEAK_H

#include "gemm.h"

// Keeps a vector in a register, and its value from the compiler.
#if defined(__x86_64__)
#define IN_REGISTER(v) __asm__ volatile("" : "+v"(v))
#elif defined(__aarch64__)
#define IN_REGISTER(v) __asm__ volatile("" : "+w"(v))
#endif

enum { PEAK_CHAINS = TILE_M * TILE_V }; // independent sums, as the micro-kernel has

ALWAYS_INLINE vreal peak_product(vreal sum, vreal a, vreal b, Unit unit) {
#ifdef BF16_MATRIX
    if (unit == UNIT_MMLA) return bf16_mmla(sum, a, b);
#endif
    return unit == UNIT_DOTS ? bf16_dot(sum, a, b) : sum + a * b;
}

ALWAYS_INLINE void peak_chains(int64_t rounds, Unit unit) {
    vreal s[PEAK_CHAINS], a = vset((real)1.0000001), b = vset((real)1e-9);
    UNROLL
    for (int i = 0; i < PEAK_CHAINS; i++) s[i] = vset((real)i);
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < PEAK_CHAINS; i++) s[i] = peak_product(s[i], a, b, unit);
        IN_REGISTER(a);
        IN_REGISTER(b);
    }
    UNROLL
    for (int i = 0; i < PEAK_CHAINS; i++) IN_REGISTER(s[i]);
}

// FLOP/s of cpu->threads threads of cpu->unit (where it is emulated: of vectors): the best of 9 runs of about 4 ms.
// A limit is what the machine can do undisturbed; the clock is read around all of a run's threads.
static inline double cpu_peak_flops(const Cpu *cpu) {
    bool tiles = cpu->unit == UNIT_TILES && !cpu->emulated;
    const int64_t rounds = tiles ? 120000 : 600000;
    double a_vector = cpu->unit == UNIT_MMLA ? 2 * 2 * 4 * 2 : VL * (cpu->unit == UNIT_DOTS ? 4 : 2),
           flops = tiles ? 4.0 * AMX_ROWS * AMX_ROWS * AMX_K * 2 : PEAK_CHAINS * a_vector, best = 0;
    for (int attempt = 0; attempt < 9; attempt++) {
        double start = clock_seconds();
        OMP(parallel for num_threads(cpu->threads) schedule(static, 1))
        for (int t = 0; t < cpu->threads; t++) {
            if (tiles) amx_peak(rounds);
            else if (cpu->unit == UNIT_MMLA) peak_chains(rounds, UNIT_MMLA);
            else if (cpu->unit == UNIT_DOTS) peak_chains(rounds, UNIT_DOTS);
            else peak_chains(rounds, UNIT_VECTORS);
        }
        double rate = (double)cpu->threads * (double)rounds * flops / (clock_seconds() - start);
        if (rate > best) best = rate;
    }
    return best;
}

#endif
