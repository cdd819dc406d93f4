/*
peak.h: what this machine can do at most, measured in a few milliseconds, so that speed can be given as
a share of it: multiply-adds (or dot products of bf16 pairs) on registers alone, on all threads at once.
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

ALWAYS_INLINE void peak_chains(int64_t rounds, bool bf16) {
    vreal s[PEAK_CHAINS], a = vset((real)1.0000001), b = vset((real)1e-9);
    UNROLL
    for (int i = 0; i < PEAK_CHAINS; i++) s[i] = vset((real)i);
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < PEAK_CHAINS; i++) s[i] = bf16 ? bf16_dot(s[i], a, b) : s[i] + a * b;
        IN_REGISTER(a);
        IN_REGISTER(b);
    }
    UNROLL
    for (int i = 0; i < PEAK_CHAINS; i++) IN_REGISTER(s[i]);
}

// FLOP/s of cpu->threads threads with cpu->bf16 or `real` operands: the best of 9 runs of about 4 ms.
// A limit is what the machine can do undisturbed; the clock is read around all of a run's threads.
static inline double cpu_peak_flops(const Cpu *cpu) {
    const int64_t rounds = 600000;
    double best = 0;
    for (int attempt = 0; attempt < 9; attempt++) {
        double start = clock_seconds();
        OMP(parallel for num_threads(cpu->threads) schedule(static, 1))
        for (int t = 0; t < cpu->threads; t++) {
            if (cpu->bf16) peak_chains(rounds, true);
            else peak_chains(rounds, false);
        }
        double seconds = clock_seconds() - start;
        double rate = (double)cpu->threads * (double)rounds * PEAK_CHAINS * VL * (cpu->bf16 ? 4 : 2) / seconds;
        if (rate > best) best = rate;
    }
    return best;
}

// "2 threads, AVX-512, fp32". The text lies in `out` (64 bytes).
static inline const char *cpu_description(char *out, const Cpu *cpu) {
    const char *vectors = VECTOR_BYTES == 64 ? "AVX-512" : VECTOR_BYTES == 32 ? "AVX2" : "128-bit vectors";
    snprintf(out, 64, "%d thread%s, %s, %s", cpu->threads, cpu->threads == 1 ? "" : "s", vectors,
             cpu->bf16           ? "bf16 products"
             : sizeof(real) == 8 ? "fp64"
                                 : "fp32");
    return out;
}

#endif
