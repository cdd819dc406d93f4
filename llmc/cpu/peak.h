/*
peak.h: what this machine can do at most, measured in a few milliseconds, so that speed can be given as
a share of it: multiply-adds on registers alone, on all threads at once.
*/
#ifndef LLMC_CPU_PEAK_H
#define LLMC_CPU_PEAK_H

#include "cpu.h"

// Enough independent chains to cover an FMA's latency of 4-5 cycles on two pipes, few enough to stay
// in the 16 registers of AVX2 (32 in AVX-512 and NEON).
#define PEAK_CHAINS 12

// One run of the loop; returns something that depends on all of it, so that it is not optimised away.
static inline real peak_fma_loop(int64_t rounds, real seed) {
    vreal acc[PEAK_CHAINS], a = vset(seed), b = vset((real)1.0 - seed);
    for (int i = 0; i < PEAK_CHAINS; i++) acc[i] = vset((real)i);
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++) acc[i] = acc[i] * b + a;
    }
    vreal sum = {0};
    for (int i = 0; i < PEAK_CHAINS; i++) sum += acc[i];
    return vsum(sum);
}

// FLOP/s of `real` multiply-adds over all threads: the best of 5 runs of about 2 ms.
static inline double cpu_peak_flops(const Cpu *cpu) {
    const int64_t rounds = 400000;
    double best = 0;
    volatile real sink = 0;
    for (int attempt = 0; attempt < 5; attempt++) {
        real total = 0;
        double start = clock_seconds();
        OMP(parallel for num_threads(cpu->threads) reduction(+ : total) schedule(static, 1))
        for (int t = 0; t < cpu->threads; t++) total += peak_fma_loop(rounds, (real)1e-9);
        double seconds = clock_seconds() - start;
        sink = sink + total;
        double flops = 2.0 * VL * PEAK_CHAINS * (double)rounds * cpu->threads / seconds;
        if (flops > best) best = flops;
    }
    return best;
}

// "2 threads, AVX-512, fp32". The text lies in `out` (64 bytes).
static inline const char *cpu_description(char *out, const Cpu *cpu) {
    const char *vectors = VECTOR_BYTES == 64 ? "AVX-512" : VECTOR_BYTES == 32 ? "AVX2" : "128-bit vectors";
    snprintf(out, 64, "%d thread%s, %s, %s", cpu->threads, cpu->threads == 1 ? "" : "s", vectors, cpu->bf16 ? "bf16 products" : sizeof(real) == 8 ? "fp64" : "fp32");
    return out;
}

#endif
