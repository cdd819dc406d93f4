/*
cpu.h: what every CPU kernel stands on: the number type, vectors of it, the machine, threads.

real        float, or double in a build with -DREAL_DOUBLE (the build that finite differences need).
vreal       VL numbers in one vector register: GCC vector extensions, so that one source serves
            AVX-512 (64 bytes), AVX2 (32), NEON and SSE2 (16). Their rules are in the GCC manual,
            "Using Vector Instructions through Built-in Functions".
Cpu         how many threads to use, what computes products, cache sizes, work space.
vexp()      e^x, float: polynomial, at most 1.1 ulp for results that are normal numbers; double: libm.

Every kernel gives the same bits for any number of threads: either each output element is computed
by one thread in an order that does not depend on the split, or partial sums are made over a number
of chunks that depends only on the problem's size. NaN and Inf go through all kernels.

Needs GCC >= 9 or clang >= 11; -fopenmp is optional. C11 only (vector extensions).
*/
#ifndef LLMC_CPU_H
#define LLMC_CPU_H

#include "../base/file.h"
#include "../base/quantise.h"
#include <limits.h>
#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if !defined(REAL_DOUBLE) && defined(__AVX512F__)
#include <immintrin.h>
#endif

// OMP(parallel for ...) is a pragma in an OpenMP build and nothing in another.
#ifdef _OPENMP
#define OMP_TEXT(x) #x
#define OMP(...) _Pragma(OMP_TEXT(omp __VA_ARGS__))
#else
#define OMP(...)
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

// Before a loop of constant length over an array of vectors that must become registers.
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
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
#ifndef REAL_DOUBLE
typedef uint32_t vbits __attribute__((vector_size(VECTOR_BYTES)));
#endif
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

// Up to VL numbers at `at`, `have` of them; the usual whole vector is the fast case.
ALWAYS_INLINE vreal load_up_to(const real *at, int have) {
    return have >= VL ? vload(at) : vload_part(at, have < 0 ? 0 : have);
}
ALWAYS_INLINE void store_up_to(real *at, vreal v, int have) {
    if (have >= VL) vstore(at, v);
    else vstore_part(at, v, have < 0 ? 0 : have);
}

static inline vreal vselect(vint condition, vreal yes, vreal no) {
    return (vreal)((condition & (vint)yes) | (~condition & (vint)no));
}
// Both give b if a or b is NaN.
static inline vreal vmax(vreal a, vreal b) { return vselect(a > b, a, b); }
static inline vreal vmin(vreal a, vreal b) { return vselect(a < b, a, b); }

// SHUFFLE(a, b, indices): picks VL numbers of the 2 VL of a and b, by constant indices.
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vint){__VA_ARGS__})
#endif
// interleave_low: a0 b0 a1 b1 ... of the lower halves; interleave_high: of the upper halves; EVEN_NUMBERS: a0 a2 ...
#if VL == 16
#define ROTATE_8(v) SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define ROTATE_4(v) SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define ROTATE_2(v) SHUFFLE(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define ROTATE_1(v) SHUFFLE(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
static inline vreal interleave_low(vreal a, vreal b) {
    return SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
static inline vreal interleave_high(vreal a, vreal b) {
    return SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#define EVEN_NUMBERS(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD_NUMBERS(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#elif VL == 8
#define ROTATE_4(v) SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
#define ROTATE_2(v) SHUFFLE(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
#define ROTATE_1(v) SHUFFLE(v, v, 1, 0, 3, 2, 5, 4, 7, 6)
static inline vreal interleave_low(vreal a, vreal b) { return SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
static inline vreal interleave_high(vreal a, vreal b) { return SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#define EVEN_NUMBERS(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD_NUMBERS(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#elif VL == 4
#define ROTATE_2(v) SHUFFLE(v, v, 2, 3, 0, 1)
#define ROTATE_1(v) SHUFFLE(v, v, 1, 0, 3, 2)
static inline vreal interleave_low(vreal a, vreal b) { return SHUFFLE(a, b, 0, 4, 1, 5); }
static inline vreal interleave_high(vreal a, vreal b) { return SHUFFLE(a, b, 2, 6, 3, 7); }
#define EVEN_NUMBERS(a, b) SHUFFLE(a, b, 0, 2, 4, 6)
#define ODD_NUMBERS(a, b) SHUFFLE(a, b, 1, 3, 5, 7)
#elif VL == 2
#define ROTATE_1(v) SHUFFLE(v, v, 1, 0)
static inline vreal interleave_low(vreal a, vreal b) { return SHUFFLE(a, b, 0, 2); }
static inline vreal interleave_high(vreal a, vreal b) { return SHUFFLE(a, b, 1, 3); }
#endif

static inline real vsum(vreal v) {
#if VL > 8
    v += ROTATE_8(v);
#endif
#if VL > 4
    v += ROTATE_4(v);
#endif
#if VL > 2
    v += ROTATE_2(v);
#endif
    v += ROTATE_1(v);
    return v[0];
}
// The largest number of v; which one, where there are NaN, is open.
static inline real vmaximum(vreal v) {
#if VL > 8
    v = vmax(v, ROTATE_8(v));
#endif
#if VL > 4
    v = vmax(v, ROTATE_4(v));
#endif
#if VL > 2
    v = vmax(v, ROTATE_2(v));
#endif
    v = vmax(v, ROTATE_1(v));
    return v[0];
}

// vexp: e^x. vexp_falling: the same for x <= 0 (or NaN), and 0 where e^x < 3e-38; a third cheaper.
#ifdef REAL_DOUBLE
static inline vreal vexp(vreal x) {
    for (int i = 0; i < VL; i++) x[i] = exp(x[i]);
    return x;
}
static inline vreal vexp_falling(vreal x) { return vexp(x); }
#else
// e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2, with ln 2 split in two so that n * high is
// exact (Cody and Waite). e^r: its Taylor polynomial of degree 7. Returns e^r and, in *shifted, n in
// the low bits of 1.5 * 2^23 + n.
static inline vreal exp_reduced(vreal x, vreal *shifted) {
    const real magic = 12582912.0f; // 1.5 * 2^23
    *shifted = x * 1.44269504f + magic;
    vreal n = *shifted - magic;
    vreal r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vreal p = r * 1.98412698e-4f + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 5.0e-1f;
    return p * (r * r) + r + 1.0f;
}
// Beyond [-104, 89] the result is 0 or Inf as it must be; 2^n is multiplied in two halves so that
// results below 2^-126 come out right.
static inline vreal vexp(vreal x) {
    vreal shifted, p = exp_reduced(vmin(vset(89.0f), vmax(vset(-104.0f), x)), &shifted);
    vint n = (vint)shifted - 0x4B400000, half = n >> 1;
    return p * (vreal)((half + 127) << 23) * (vreal)((n - half + 127) << 23);
}
// Unsigned: where x is far below (masked, or a run that blows up), the sum wraps, and the mask takes it.
static inline vreal vexp_falling(vreal x) {
    vreal shifted, p = exp_reduced(x, &shifted);
    p *= (vreal)(((vbits)shifted << 23) + (127u << 23));
    return (vreal)((vint)p & ~(x < -86.5f));
}
#endif

// ---------------------------------------------------------------- bf16 products

// The one place with intrinsics: vector extensions have no dot product of bf16 pairs. A vreal then
// holds VL pairs of bf16, the one with the even k in the lower half of each 32 bits.
#if !defined(REAL_DOUBLE) && defined(__AVX512BF16__)
#define BF16_DOTS
// sum + a.even * b.even + a.odd * b.odd
static inline vreal bf16_dot(vreal sum, vreal a, vreal b) {
    return (vreal)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
// k, k+1, ... of one row: VL numbers and the VL behind them -> VL pairs; rounded to nearest even
static inline vreal bf16_pairs(vreal first, vreal second) {
    return (vreal)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}
// VL numbers with an even k and the ones with the k behind it -> VL pairs
static inline vreal bf16_merge(vreal even, vreal odd) {
    __m512i e = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)even)),
            o = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)odd));
    return (vreal)_mm512_or_si512(e, _mm512_slli_epi32(o, 16));
}
#elif !defined(REAL_DOUBLE) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define BF16_DOTS
#include <arm_neon.h>
static inline vreal bf16_dot(vreal sum, vreal a, vreal b) {
    return (vreal)vbfdotq_f32((float32x4_t)sum, (bfloat16x8_t)a, (bfloat16x8_t)b);
}
static inline vreal bf16_pairs(vreal first, vreal second) {
    return (vreal)vcvtq_high_bf16_f32(vcvtq_low_bf16_f32((float32x4_t)first), (float32x4_t)second);
}
static inline vreal bf16_merge(vreal even, vreal odd) {
    uint32x4_t e = vshll_n_u16(vreinterpret_u16_bf16(vcvt_bf16_f32((float32x4_t)even)), 0),
               o = vshll_n_u16(vreinterpret_u16_bf16(vcvt_bf16_f32((float32x4_t)odd)), 0);
    return (vreal)vorrq_u32(e, vshlq_n_u32(o, 16));
}
// Vectors of 2 rows (of b: columns) by 4 k: sum (2, 2) + a b
#define BF16_MATRIX
static inline vreal bf16_mmla(vreal sum, vreal a, vreal b) {
    return (vreal)vbfmmlaq_f32((float32x4_t)sum, (bfloat16x8_t)a, (bfloat16x8_t)b);
}
static inline vreal lower_halves(vreal a, vreal b) { return SHUFFLE(a, b, 0, 1, 4, 5); }
static inline vreal upper_halves(vreal a, vreal b) { return SHUFFLE(a, b, 2, 3, 6, 7); }
#elif !defined(REAL_DOUBLE)
// Dot products are never called: cpu_choose_unit sees to it. Conversions are for the tile unit, or for who emulates it.
static inline vreal bf16_dot(vreal sum, vreal a, vreal b) { return (void)a, (void)b, sum; }
#define BF16_PLAIN
#else
// Never called, since cpu_choose_unit refuses bf16; here so that the kernels read the same in every build.
static inline vreal bf16_dot(vreal sum, vreal a, vreal b) { return sum + a * b; }
static inline vreal bf16_pairs(vreal first, vreal second) { return (void)second, first; }
static inline vreal bf16_merge(vreal even, vreal odd) { return (void)odd, even; }
#endif

#ifndef REAL_DOUBLE
// The same conversions by operations that every CPU has, as the instructions of x86 make them: denormals become 0,
// NaN stays NaN and becomes quiet. Result: bf16 in the upper half of each 32 bits.
static inline vint bf16_rounded(vreal x) {
    vint bits = (vint)x, nan = x != x, denormal = (bits & 0x7F800000) == 0, sign = bits & (int32_t)0x80000000;
    vint up = (vint)((vbits)bits + 0x7FFFu + (((vbits)bits >> 16) & 1u));
    vint r = (nan & (bits | 0x00400000)) | (~nan & up);
    return ((denormal & sign) | (~denormal & r)) & (int32_t)0xFFFF0000;
}
static inline vreal bf16_merge_plain(vreal even, vreal odd) {
    return (vreal)((vint)((vbits)bf16_rounded(even) >> 16) | bf16_rounded(odd));
}
static inline vreal bf16_pairs_plain(vreal first, vreal second) {
    return bf16_merge_plain(EVEN_NUMBERS(first, second), ODD_NUMBERS(first, second));
}
#ifdef BF16_PLAIN
static inline vreal bf16_pairs(vreal first, vreal second) { return bf16_pairs_plain(first, second); }
static inline vreal bf16_merge(vreal even, vreal odd) { return bf16_merge_plain(even, odd); }
#endif
#endif

// ---------------------------------------------------------------- matrices of weights

// Numbers as they are trained, or, where nothing trains them (shards.h), as bf16 or as codes: one of them, the others
// are NULL.
typedef struct {
    const real *full;
    const uint16_t *half;
    const Coded *codes;
} Matrix;
static inline Matrix matrix_of(const real *full) { return (Matrix){full, NULL, NULL}; }

// VL numbers of bf16, widened; the first `have` of them, zeros behind.
#ifdef REAL_DOUBLE
static inline vreal half_load(const uint16_t *p) {
    vreal v;
    for (int i = 0; i < VL; i++) v[i] = (real)bf16_to_float(p[i]);
    return v;
}
#elif defined(__AVX512F__) // gcc 12 widens to two halves of a vector and joins these
static inline vreal half_load(const uint16_t *p) {
    return (vreal)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
}
#else
static inline vreal half_load(const uint16_t *p) {
    typedef uint16_t vhalf __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));
    return (vreal)(__builtin_convertvector(*(const vhalf *)p, vbits) << 16);
}
#endif
static inline vreal half_load_up_to(const uint16_t *p, int have) {
    uint16_t part[VL] = {0};
    if (have >= VL) return half_load(p);
    memcpy(part, p, sizeof *p * (size_t)have);
    return half_load(part);
}
// VL numbers of a matrix from `at` on, of which `have` are there.
static inline vreal matrix_load(Matrix w, size_t at, int have) {
    return w.half ? half_load_up_to(w.half + at, have) : load_up_to(w.full + at, have);
}
// VL pairs as they lie; the first `have` numbers, zeros behind.
static inline vreal half_pairs_up_to(const uint16_t *p, int have) {
    vreal v = {0};
    memcpy(&v, p, have >= 2 * VL ? sizeof v : sizeof *p * (size_t)have);
    return v;
}
// n numbers rounded as for products, and the way back.
static inline void half_store(uint16_t *to, const float *from, size_t n) {
    for (size_t i = 0; i < n; i += 2 * VL) {
        size_t part = n - i < 2 * VL ? n - i : 2 * VL;
        real x[2 * VL] = {0};
        for (size_t j = 0; j < part; j++) x[j] = (real)from[i + j];
        vreal pairs = bf16_pairs(vload(x), vload(x + VL));
        memcpy(to + i, &pairs, sizeof *to * part);
    }
}
static inline void half_widen(float *to, const uint16_t *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = bf16_to_float(from[i]);
}

// ---------------------------------------------------------------- the machine

// What computes products: multiply-adds of vectors; dot products of bf16 pairs; tiles of bf16 (amx.h); matrix products
// of bf16 vectors (mmla.h).
typedef enum { UNIT_VECTORS, UNIT_DOTS, UNIT_TILES, UNIT_MMLA } Unit;

typedef struct {
    int threads;
    bool bf16;         // products of linear layers take bf16 operands, sums stay fp32
    Unit unit;         // that of products
    bool emulated;     // the unit is plain C
    size_t l1, l2, l3; // data cache bytes: l1 and l2 of one core, l3 shared
    // What else is to be moved along: the products call it when they are done; NULL: nothing.
    void (*between_kernels)(void *context);
    void *between_context;
    void *workspace; // grows as kernels need it, never shrinks
    size_t workspace_bytes;
} Cpu;

// The feature that this build was compiled for and this machine lacks; NULL if there is none. To be
// called first in main(): everything after it may use those instructions. It is itself compiled
// without them, as far as attributes reach.
#if defined(__x86_64__)
__attribute__((noinline, unused, target("no-avx,no-bmi,no-bmi2")))
#else
__attribute__((noinline, unused))
#endif
static const char *
cpu_missing_instructions(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#ifdef __SSE4_2__
    if (!__builtin_cpu_supports("sse4.2")) return "SSE4.2";
#endif
#ifdef __POPCNT__
    if (!__builtin_cpu_supports("popcnt")) return "POPCNT";
#endif
#ifdef __AVX__
    if (!__builtin_cpu_supports("avx")) return "AVX";
#endif
#ifdef __AVX2__
    if (!__builtin_cpu_supports("avx2")) return "AVX2";
#endif
#ifdef __FMA__
    if (!__builtin_cpu_supports("fma")) return "FMA";
#endif
#ifdef __BMI__
    if (!__builtin_cpu_supports("bmi")) return "BMI";
#endif
#ifdef __BMI2__
    if (!__builtin_cpu_supports("bmi2")) return "BMI2";
#endif
#ifdef __AVX512F__
    if (!__builtin_cpu_supports("avx512f")) return "AVX512F";
#endif
#ifdef __AVX512BW__
    if (!__builtin_cpu_supports("avx512bw")) return "AVX512BW";
#endif
#ifdef __AVX512DQ__
    if (!__builtin_cpu_supports("avx512dq")) return "AVX512DQ";
#endif
#ifdef __AVX512VL__
    if (!__builtin_cpu_supports("avx512vl")) return "AVX512VL";
#endif
#ifdef __AVX512VBMI__
    if (!__builtin_cpu_supports("avx512vbmi")) return "AVX512VBMI";
#endif
#ifdef __AVX512VNNI__
    if (!__builtin_cpu_supports("avx512vnni")) return "AVX512VNNI";
#endif
#ifdef __AVX512BF16__
    if (!__builtin_cpu_supports("avx512bf16")) return "AVX512_BF16";
#endif
#elif defined(__aarch64__) && defined(__linux__)
#ifdef __ARM_FEATURE_ATOMICS
    if (!(getauxval(AT_HWCAP) & (1UL << 8))) return "LSE atomics"; // bit numbers: Linux, asm/hwcap.h
#endif
#ifdef __ARM_FEATURE_SVE
    if (!(getauxval(AT_HWCAP) & (1UL << 22))) return "SVE";
#endif
#ifdef __ARM_FEATURE_SVE2
    if (!(getauxval(AT_HWCAP2) & (1UL << 1))) return "SVE2";
#endif
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
    if (!(getauxval(AT_HWCAP2) & (1UL << 14))) return "BF16";
#endif
#endif
    return NULL;
}

static inline size_t cpu_cache_bytes(int which, size_t otherwise) {
    long n = sysconf(which);
    return n > 0 ? (size_t)n : otherwise;
}

// threads 0: as many as OpenMP would use. Products are those of vectors: cpu_choose_unit (unit.h) changes that.
static inline bool cpu_open(Cpu *cpu, int threads, Error *err) {
    memset(cpu, 0, sizeof *cpu);
    if (threads < 0) return error_set(err, "threads must be 0 (all) or more, not %d", threads);
#ifdef _OPENMP
    cpu->threads = threads ? threads : omp_get_max_threads();
#else
    cpu->threads = 1;
#endif
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

static inline int this_thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static inline size_t cpu_align(size_t n) { return (n + 63) / 64 * 64; }

// Chunk i of `chunks` of [0, n), in steps of `step`: first index; the end is the start of chunk i+1.
static inline int64_t cpu_chunk(int64_t n, int64_t step, int64_t chunks, int64_t i) {
    int64_t steps = (n + step - 1) / step;
    return int64_min(n, steps * i / chunks * step);
}

#endif
