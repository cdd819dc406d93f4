/*
unit.h: what computes the matrix products here: which unit is taken, what it is called, what bf16 gains with it, and
what this build leaves unused.
*/
#ifndef LLMC_CPU_UNIT_H
#define LLMC_CPU_UNIT_H

#include "gemm.h"

#if defined(__aarch64__)
#define DOTS_MISSING "the CPU feature BF16 (Armv8.6) and a build for it, such as make ARCH=armv8.2-a+bf16"
#else
#define DOTS_MISSING "the CPU feature AVX512_BF16 and a build for it, such as make ARCH=native on that CPU, or AMX"
#endif

// The matrix unit of this kind of CPU, with permission where that is needed. *missing: why it cannot be used, or NULL.
static inline Unit cpu_matrix_unit(const char **missing) {
#if defined(BF16_MATRIX)
    *missing = NULL;
    return UNIT_MMLA;
#elif defined(__aarch64__) && !defined(REAL_DOUBLE)
    *missing = "this build has no bf16 matrix products, which " DOTS_MISSING " bring";
    return UNIT_MMLA;
#else
    *missing = amx_missing();
    return UNIT_TILES;
#endif
}

// What is to compute the products of linear layers, in bf16 or not; kernels: Kernels. Asks for permission where that is
// needed. False: this build or machine has not what is asked for.
static inline bool cpu_choose_unit(Cpu *cpu, bool bf16, int kernels, Error *err) {
    bool matrix = kernels == KERNELS_MATRIX || kernels == KERNELS_EMULATED, dots = false;
#ifdef BF16_DOTS
    dots = true;
#endif
    cpu->bf16 = bf16;
    cpu->emulated = kernels == KERNELS_EMULATED;
    cpu->unit = UNIT_VECTORS;
    if (!bf16 && matrix)
        return error_set(err, "--kernels=%s: matrix units compute bf16 products; add --precision=bf16",
                         cpu->emulated ? "emulated" : "matrix");
    if (!bf16) return true;
    if (sizeof(real) != 4)
        return error_set(err, "bf16 products need a build with float numbers, and this one was made for double; use "
                              "--precision=fp32");
    const char *missing = kernels == KERNELS_VECTOR ? "not asked for" : NULL;
    Unit unit = UNIT_TILES;
    if (!cpu->emulated && !missing) unit = cpu_matrix_unit(&missing);
    cpu->unit = missing ? UNIT_DOTS : unit;
    if (!missing || (dots && !matrix)) return true;
    if (matrix) return error_set(err, "--kernels=matrix: %s; leave it out", missing);
    return error_set(err, "bf16 products need %s; use --precision=fp32", DOTS_MISSING);
}

// How many times as fast as in fp32 a product of a model's shape is in bf16, N rows, C in, OC out; 0: there is no bf16
// here. Each is the best of 5, in turns, of at most 1024 x 1024 x 1024: a tenth of a second on two cores.
static inline double cpu_bf16_gain(const Cpu *machine, int N, int C, int OC, int kernels) {
    enum { MOST = 1024 };
    Cpu cpu = *machine;
    Error none;
    LinearShape s = {N < MOST ? N : MOST, C < MOST ? C : MOST, OC < MOST ? OC : MOST};
    size_t nx = (size_t)s.N * (size_t)s.C, nw = (size_t)s.C * (size_t)s.OC, ny = (size_t)s.N * (size_t)s.OC;
    if (!cpu_choose_unit(&cpu, true, kernels, &none)) return 0;
    Unit units[2] = {UNIT_VECTORS, cpu.unit};
    real *x = (real *)mem_alloc(sizeof(real) * (nx + nw + ny)), *w = x + nx, *y = w + nw;
    for (size_t i = 0; i < nx + nw; i++) x[i] = (real)(i % 17) - 8;
    double best[2] = {INFINITY, INFINITY};
    for (int i = 0; i < 2 * 6; i++) {
        cpu.unit = units[i % 2];
        double start = clock_seconds();
        linear_forward(y, x, matrix_of(w), NULL, NULL, s, &cpu);
        double seconds = clock_seconds() - start;
        if (i >= 2 && seconds < best[i % 2]) best[i % 2] = seconds; // the first of each warms up
    }
    free(x);
    free(cpu.workspace);
    return best[0] / best[1];
}

// What this CPU has and this build leaves out, and what to do; "" where that is nothing.
static inline const char *cpu_unused(void) {
#if defined(__x86_64__)
#ifndef __AVX512F__
    if (__builtin_cpu_supports("avx512f")) return "; this CPU has AVX-512, built without: make ARCH=native adds it";
#endif
#if !defined(__AVX2__) || !defined(__FMA__)
    if (__builtin_cpu_supports("avx2")) return "; this CPU has AVX2, built without: make ARCH=native adds it";
#endif
#ifndef AMX_BUILT
    unsigned a, b, c, d;
    if (sizeof(real) == 4 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & 1u << 22))
        return "; this CPU has AMX, built without: gcc 11 or clang 12 adds it";
#endif
#elif defined(__aarch64__) && defined(__linux__) && !defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    if (getauxval(AT_HWCAP2) & (1UL << 14)) return "; this CPU has BF16, built without: make ARCH=native adds it";
#endif
    return "";
}

// "2 threads, AVX-512, fp32". The text lies in `out` (160 bytes).
static inline const char *cpu_description(char out[160], const Cpu *cpu) {
    const char *vectors = VECTOR_BYTES == 64 ? "AVX-512" : VECTOR_BYTES == 32 ? "AVX2" : "128-bit vectors";
    const char *products = cpu->unit == UNIT_DOTS                     ? "bf16 products"
                           : cpu->unit == UNIT_TILES && cpu->emulated ? "bf16 products, AMX emulated"
                           : cpu->unit == UNIT_TILES                  ? "bf16 products by AMX"
                           : cpu->unit == UNIT_MMLA                   ? "bf16 products by BFMMLA"
                           : sizeof(real) == 8                        ? "fp64"
                                                                      : "fp32";
    snprintf(out, 160, "%d thread%s, %s, %s%s", cpu->threads, cpu->threads == 1 ? "" : "s", vectors, products,
             cpu_unused());
    return out;
}

#endif
