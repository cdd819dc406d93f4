/*
amx.h: the tile unit of x86 CPUs (AMX: Xeon from Sapphire Rapids on), which multiplies bf16 matrices.

amx_missing   asks the kernel for permission, once for the process and before it has threads; says what is missing
amx_begin     sets up the tiles of the calling thread; amx_end gives them back, so that switches to it are cheap again
amx_block     sums of 32 x 32, from panels that pack.h packs
amx_peak      products on tiles alone, for peak.h

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG, TILELOADD, TDPBF16PS; and
Linux, Documentation/arch/x86/xstate.rst. This is the one file that names these instructions.

Any machine can compute what the unit computes, to the bit: with `emulated` plain C does it, in the manual's order of
sums and with its denormals. It is for tests and comparisons, and slow. Norms, softmax and sums of vectors stay those
of this build: a whole run has the bits of a CPU with tiles only where the vectors are as long.
*/
#ifndef LLMC_CPU_AMX_H
#define LLMC_CPU_AMX_H

#include "cpu.h"
#ifdef __x86_64__
#include <cpuid.h>
#endif
#if defined(__x86_64__) && !defined(REAL_DOUBLE) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define AMX_BUILT
#include <immintrin.h>
#include <sys/syscall.h>
#define AMX_CODE __attribute__((target("amx-tile,amx-bf16"), noinline, unused))
#endif

// A tile: 16 rows of 64 bytes, which are 32 bf16, 16 pairs of them, or 16 sums. A block: 2 x 2 tiles of sums.
enum { AMX_ROWS = 16, AMX_K = 32, AMX_TILE = 1024, AMX_BLOCK = 32 };

// ---------------------------------------------------------------- permission

// NULL: this thread and those that it starts may use the tiles. Else why not.
static inline const char *amx_missing(void) {
#ifdef AMX_BUILT
    enum { TILE_CONFIG = 17, TILE_DATA = 18, ARCH_REQ_XCOMP_PERM = 0x1023 }; // bits of XCR0; Linux, asm/prctl.h
    unsigned a, b, c, d, xcr0, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return "this CPU has no AMX"; // no XGETBV
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 22) || !(d & 1u << 24))
        return "this CPU has no AMX for bf16";
    __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if (!(xcr0 >> TILE_CONFIG & 1) || !(xcr0 >> TILE_DATA & 1)) return "the operating system has not switched AMX on";
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) != 0)
        return "the kernel gives no permission to use AMX (Linux 5.16 or later does)";
    return NULL;
#elif defined(REAL_DOUBLE)
    return "this build is for double";
#elif defined(__x86_64__)
    return "this build has no AMX: gcc 11 or clang 12, or later, add it";
#else
    return "this CPU has no AMX, which is of x86";
#endif
}

// ---------------------------------------------------------------- the unit

#ifdef AMX_BUILT
AMX_CODE static void amx_tiles_begin(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int t = 0; t < 8; t++) config.row_bytes[t] = 64, config.rows[t] = AMX_ROWS;
    _tile_loadconfig(&config);
}
AMX_CODE static void amx_tiles_end(void) { _tile_release(); }

// Tiles 0 to 3 hold the sums, 4 and 5 rows, 6 and 7 columns: 4 loads of 8 cycles go with 4 products of 16.
AMX_CODE static void amx_tiles_block(float *out, size_t ld, const float *init, const char *a, const char *b,
                                     int blocks) {
    const size_t row = ld * sizeof(float);
    __asm__ volatile("" ::: "memory"); // gcc's loads of tiles do not say that they read memory
    if (init) {
        _tile_loadd(0, init, row);
        _tile_loadd(1, init + 16, row);
        _tile_loadd(2, init + 16 * ld, row);
        _tile_loadd(3, init + 16 * ld + 16, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int k = 0; k < blocks; k++, a += 2 * AMX_TILE, b += 2 * AMX_TILE) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + AMX_TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + AMX_TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, row);
    _tile_stored(1, out + 16, row);
    _tile_stored(2, out + 16 * ld, row);
    _tile_stored(3, out + 16 * ld + 16, row);
}

// 4 `rounds` products of zeros: 16 x 16 x 32 multiply-adds each.
AMX_CODE static void amx_peak(int64_t rounds) {
    amx_tiles_begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(6);
    for (int64_t r = 0; r < rounds; r++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 6);
        _tile_dpbf16ps(2, 4, 6);
        _tile_dpbf16ps(3, 4, 6);
    }
    amx_tiles_end();
}
#else
// Never called: amx_missing says why.
static inline void amx_tiles_begin(void) {}
static inline void amx_tiles_end(void) {}
static inline void amx_tiles_block(float *out, size_t ld, const float *init, const char *a, const char *b, int blocks) {
    (void)out, (void)ld, (void)init, (void)a, (void)b, (void)blocks;
}
static inline void amx_peak(int64_t rounds) { (void)rounds; }
#endif

// ---------------------------------------------------------------- the same in plain C

static inline float amx_flush(float x) { // denormals count as zeros
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (!(bits & 0x7F800000u)) bits &= 0x80000000u;
    memcpy(&x, &bits, 4);
    return x;
}

// The low (odd: the high) bf16 of each of n pairs, as floats.
static inline void amx_widen(float *out, const char *pairs, int n, bool odd) {
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, pairs + 4 * i, 4);
        bits = odd ? bits & 0xFFFF0000u : bits << 16;
        memcpy(out + i, &bits, 4);
        out[i] = amx_flush(out[i]);
    }
}

// sums (16, 16) += tile a (16 rows, 16 pairs) times tile b (16 pairs, 16 columns). TDPBF16PS adds up the even and the
// odd numbers of the pairs apart, by fused multiply-adds from zero on, then both, then that and the sum there was.
// Where the unit differs: a result between 2^-126 (1 - 2^-24) and 2^-126 (1 - 2^-25) is 0 there, and 2^-126 here.
static inline void amx_emulated_product(float sums[AMX_ROWS][AMX_ROWS], const char *a, const char *b) {
    enum { N = AMX_ROWS };
    float left[2][N * N], right[2][N * N];
    for (int odd = 0; odd < 2; odd++) {
        amx_widen(left[odd], a, N * N, odd);
        amx_widen(right[odd], b, N * N, odd);
    }
    for (int m = 0; m < N; m++) {
        float even_odd[2][N] = {{0}};
        for (int odd = 0; odd < 2; odd++)
            for (int k = 0; k < N; k++)
                for (int n = 0; n < N; n++)
                    even_odd[odd][n] = amx_flush(fmaf(left[odd][m * N + k], right[odd][k * N + n], even_odd[odd][n]));
        for (int n = 0; n < N; n++)
            sums[m][n] = amx_flush(amx_flush(sums[m][n]) + amx_flush(even_odd[0][n] + even_odd[1][n]));
    }
}

static inline void amx_emulated_block(float *out, size_t ld, const float *init, const char *a, const char *b,
                                      int blocks) {
    for (int t = 0; t < 4; t++) {
        size_t at = (size_t)(t / 2) * AMX_ROWS * ld + (size_t)(t % 2) * AMX_ROWS;
        float sums[AMX_ROWS][AMX_ROWS] = {{0}};
        for (int r = 0; r < AMX_ROWS && init; r++) memcpy(sums[r], init + at + (size_t)r * ld, sizeof sums[r]);
        for (int k = 0; k < blocks; k++)
            amx_emulated_product(sums, a + (2 * k + t / 2) * AMX_TILE, b + (2 * k + t % 2) * AMX_TILE);
        for (int r = 0; r < AMX_ROWS; r++) memcpy(out + at + (size_t)r * ld, sums[r], sizeof sums[r]);
    }
}

// ---------------------------------------------------------------- both

static inline void amx_begin(bool emulated) {
    if (!emulated) amx_tiles_begin();
}
static inline void amx_end(bool emulated) {
    if (!emulated) amx_tiles_end();
}
// out (32, 32) = init (32, 32), or 0, + the product of a panel of A, (blocks, 2 tiles) of rows, and one of B, (blocks,
// 2 tiles) of columns. init lies as out does, ld numbers from row to row, and may be out.
static inline void amx_block(bool emulated, float *out, size_t ld, const float *init, const char *a, const char *b,
                             int blocks) {
    if (emulated) amx_emulated_block(out, ld, init, a, b, blocks);
    else amx_tiles_block(out, ld, init, a, b, blocks);
}

#endif
