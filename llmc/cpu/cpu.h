/*
cpu.h: what every CPU kernel stands on: the number type, vectors of it, the machine, threads.

real        float, or double in a build with -DREAL_DOUBLE (the build that finite differences need).
vreal       VL numbers in one vector register: GCC vector extensions, so that one source serves
            AVX-512 (64 bytes), AVX2 (32), NEON and SSE2 (16). Their rules are in the GCC manual,
            "Using Vector Instructions through Built-in Functions".
Cpu         how many threads to use, whether products may round to bf16, cache sizes, work space.
vexp()      e^x. float: polynomial, at most 1.1 ulp for results that are normal numbers; double: libm.

Every kernel gives the same bits for any number of threads: either each output element is computed
by one thread in an order that does not depend on the split, or partial sums are made over a number
of chunks that depends only on the problem's size. NaN and Inf go through all kernels.

Needs GCC >= 9 or clang >= 11; -fopenmp is optional. C11 only (vector extensions).
*/
#ifndef LLMC_CPU_H
#define LLMC_CPU_H

#include "../common.h"
#include <limits.h>
#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

// OMP(parallel for ...) is a pragma in an OpenMP build and nothing in another.
#ifdef _OPENMP
#define OMP_TEXT(x) #x
#define OMP(...) _Pragma(OMP_TEXT(omp __VA_ARGS__))
#else
#define OMP(...)
#endif

// ---------------------------------------------------------------- numbers and vectors

#ifdef REAL_DOUBLE
typedef double real;
typedef int64_t real_int; // same size: holds the bits of a real
#else
typedef float real;
typedef int32_t real_int;
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#ifdef REAL_DOUBLE
#define VL (VECTOR_BYTES / 8)
#else
#define VL (VECTOR_BYTES / 4)
#endif

typedef real vreal __attribute__((vector_size(VECTOR_BYTES)));
typedef real_int vint __attribute__((vector_size(VECTOR_BYTES)));
// The same at any address that a real may have.
typedef real vreal_anywhere __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

static inline vreal vload(const real *p) { return *(const vreal_anywhere *)p; }
static inline void vstore(real *p, vreal v) { *(vreal_anywhere *)p = v; }
static inline vreal vset(real x) { return x - (vreal){0}; } // minus: -0 stays -0

// The first n (0 <= n <= VL) numbers at p, zeros behind; and the way back.
static inline vreal vload_part(const real *p, int n) {
    vreal v = {0};
    memcpy(&v, p, sizeof(real) * (size_t)n);
    return v;
}
static inline void vstore_part(real *p, vreal v, int n) { memcpy(p, &v, sizeof(real) * (size_t)n); }

static inline vreal vselect(vint condition, vreal yes, vreal no) {
    return (vreal)((condition & (vint)yes) | (~condition & (vint)no));
}
static inline vreal vmax(vreal a, vreal b) { return vselect(a > b, a, b); } // b if one of them is NaN

static inline real vsum(vreal v) {
    real s = 0;
    for (int i = 0; i < VL; i++) s += v[i];
    return s;
}
static inline real vmaximum(vreal v) {
    real m = v[0];
    for (int i = 1; i < VL; i++) m = v[i] > m ? v[i] : m;
    return m;
}

#ifdef REAL_DOUBLE
static inline vreal vexp(vreal x) {
    for (int i = 0; i < VL; i++) x[i] = exp(x[i]);
    return x;
}
#else
// e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2, with ln 2 split in two so that n * high is
// exact (Cody and Waite). e^r: Taylor-like polynomial of degree 7. Outside [-104, 89] the result is
// 0 or Inf as it must be; 2^n is multiplied in two halves so that results below 2^-126 come out right.
static inline vreal vexp(vreal x) {
    const real magic = 12582912.0f; // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
    x = vselect(x < -104.0f, vset(-104.0f), x);
    x = vselect(x > 89.0f, vset(89.0f), x);
    vreal shifted = x * 1.44269504f + magic;
    vreal n = shifted - magic;
    vint ni = (vint)shifted - 0x4B400000;
    vreal r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vreal p = r * 1.98412698e-4f + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 5.0e-1f;
    p = p * (r * r) + r + 1.0f;
    vint half = ni >> 1;
    vreal a = (vreal)((half + 127) << 23), b = (vreal)((ni - half + 127) << 23);
    return p * a * b;
}
#endif

// ---------------------------------------------------------------- the machine

typedef struct {
    int threads;
    int bf16;                       // products of linear layers take bf16 operands, sums stay fp32
    size_t l1, l2, l3;              // data cache bytes: l1 and l2 of one core, l3 shared
    void *workspace;                // grows as kernels need it, never shrinks
    size_t workspace_bytes;
} Cpu;

// The feature that this build was compiled for and this machine lacks; NULL if there is none. To be
// called first in main(): everything after it may use those instructions.
static inline const char *cpu_missing_instructions(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#ifdef __AVX2__
    if (!__builtin_cpu_supports("avx2")) return "AVX2";
#endif
#ifdef __FMA__
    if (!__builtin_cpu_supports("fma")) return "FMA";
#endif
#ifdef __AVX512F__
    if (!__builtin_cpu_supports("avx512f")) return "AVX-512F";
#endif
#endif
    return NULL;
}

static inline size_t cpu_cache_bytes(int which, size_t otherwise) {
    long n = sysconf(which);
    return n > 0 ? (size_t)n : otherwise;
}

// threads 0: as many as OpenMP would use. Fails if bf16 is asked for and the build or machine has no
// bf16 dot products.
static inline bool cpu_open(Cpu *cpu, int threads, bool bf16, Error *err) {
    memset(cpu, 0, sizeof *cpu);
    if (threads < 0) return error_set(err, "threads must be 0 (all) or more, not %d", threads);
#ifdef _OPENMP
    cpu->threads = threads ? threads : omp_get_max_threads();
#else
    cpu->threads = 1;
#endif
    if (bf16) return error_set(err, "bf16 products need a CPU with avx512_bf16, which this build does not use; use --precision=fp32");
    cpu->l1 = cpu_cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
    cpu->l2 = cpu_cache_bytes(_SC_LEVEL2_CACHE_SIZE, 512 << 10);
    cpu->l3 = cpu_cache_bytes(_SC_LEVEL3_CACHE_SIZE, 8 << 20);
    return true;
}

static inline void cpu_close(Cpu *cpu) {
    free(cpu->workspace);
    memset(cpu, 0, sizeof *cpu);
}

// At least `bytes` of scratch memory, aligned to 64; what an earlier call held is lost. Only from
// outside parallel regions.
static inline void *cpu_workspace(Cpu *cpu, size_t bytes) {
    if (bytes > cpu->workspace_bytes) {
        free(cpu->workspace);
        cpu->workspace = mem_alloc(bytes);
        cpu->workspace_bytes = bytes;
    }
    return cpu->workspace;
}

static inline size_t cpu_align(size_t n) { return (n + 63) / 64 * 64; }

// Chunk i of `chunks` of [0, n), in steps of `step`: first index; the end is the start of chunk i+1.
static inline int64_t cpu_chunk(int64_t n, int64_t step, int64_t chunks, int64_t i) {
    int64_t steps = (n + step - 1) / step;
    return int64_min(n, steps * i / chunks * step);
}

#endif
