/*
pack.h: the operands of matrix products, copied ("packed") into the order in which gemm.h and attention.h read them.

A panel holds TILE_M rows of A or TILE_N columns of B, k after k; for dot products of bf16 a pair of k stands for one;
for the tile unit (amx.h) a panel is tiles, two side by side; for matrix products of vectors (mmla.h) it is vectors of
two rows or columns by four k. Weights that are kept as codes become numbers piece by piece on their way into panels.
*/
#ifndef LLMC_CPU_PACK_H
#define LLMC_CPU_PACK_H

#include "amx.h"
#include "codes.h"
#include "mmla.h"

// ---------------------------------------------------------------- tile and cache blocking

// The tile in registers: TILE_M x TILE_V vectors of sums, TILE_V of B, one broadcast number of A:
//     AVX-512  8 x 3 + 3 + 1 = 28 of 32 registers        NEON  4 x 6 + 6 + 1 = 31 of 32
//     AVX2     4 x 3 + 3 + 1 = 16 of 16
// 24 (12) independent sums hide an FMA latency of 4 on up to 4 (2) units, and 24 FMAs go with 11 or 10
// loads (12 with 7), so that loads do not limit. attention.h needs TILE_V to be a multiple of 3 and
// TILE_N / 3 a multiple of TILE_M.
#if VL == 2 // double in short vectors, where speed does not matter
enum { TILE_M = 2, TILE_V = 3 };
#elif defined(__AVX512F__)
enum { TILE_M = 8, TILE_V = 3 };
#elif defined(__aarch64__)
enum { TILE_M = 4, TILE_V = 6 };
#else
enum { TILE_M = 4, TILE_V = 3 };
#endif
enum { TILE_N = TILE_V * VL };
enum {
    THIRD = TILE_V / 3,
    THIRD_N = THIRD * VL
}; // vectors and numbers of a third of a tile's width: its parts that may be left out

// What a micro-kernel computes at a time: rows of A, columns of B.
ALWAYS_INLINE int unit_rows(Unit unit) { return unit == UNIT_TILES ? AMX_BLOCK : unit == UNIT_MMLA ? MMLA_M : TILE_M; }
ALWAYS_INLINE int unit_columns(Unit unit) {
    return unit == UNIT_TILES ? AMX_BLOCK : unit == UNIT_MMLA ? MMLA_N : TILE_N;
}

// Tunable. Bytes of one panel of A = half of a 32 KiB L1 cache; the rest is for the panel of
// B that streams by. A constant, so that results do not depend on the machine that runs the program.
enum { KC = (16 << 10) / (TILE_M * (int)sizeof(real)) / VL * VL };
// The same of tiles, two thirds of 48 KiB: with half of it the sums would be loaded and stored twice as often.
enum { KC_TILES = (32 << 10) / (AMX_BLOCK * 2) };
enum { KC_MMLA = (16 << 10) / (MMLA_M * 2) };
ALWAYS_INLINE int unit_kc(Unit unit) {
    return unit == UNIT_VECTORS ? KC : unit == UNIT_DOTS ? 2 * KC : unit == UNIT_TILES ? KC_TILES : KC_MMLA;
}
// Runs of K are multiples of this.
ALWAYS_INLINE int unit_k_step(Unit unit) { return unit == UNIT_TILES ? AMX_K : unit == UNIT_MMLA ? MMLA_K : 2 * VL; }

static inline int ceil_divide(int a, int b) { return (a + b - 1) / b; }

// Where element (i, k) of an operand stands, i a row of A or a column of B: k*ld + i; i*ld + k; there, as bf16; or in
// either place of a matrix of codes, which only B can be.
typedef enum {
    LAYOUT_ACROSS_K,
    LAYOUT_ALONG_K,
    LAYOUT_ALONG_K_BF16,
    LAYOUT_ALONG_K_CODES,
    LAYOUT_ACROSS_K_CODES
} Layout;

typedef struct {
    const real *data; // bf16: const uint16_t *; codes: const Coded *
    size_t ld;        // numbers from one row in memory to the next
    Layout layout;
} Operand;

static inline Operand operand_of(Matrix w, size_t ld) {
    Operand o = {w.half ? (const real *)w.half : w.full, ld, w.half ? LAYOUT_ALONG_K_BF16 : LAYOUT_ALONG_K};
    if (w.codes) o.data = (const real *)(const void *)w.codes, o.layout = LAYOUT_ALONG_K_CODES;
    return o;
}
// The same matrix transposed; it must not be bf16.
static inline Operand operand_across(Matrix w, size_t ld) {
    Operand o = {w.full, ld, LAYOUT_ACROSS_K};
    if (w.codes) o.data = (const real *)(const void *)w.codes, o.layout = LAYOUT_ACROSS_K_CODES;
    return o;
}
ALWAYS_INLINE const char *operand_at(Operand from, size_t at) {
    return from.layout == LAYOUT_ALONG_K_BF16 ? (const char *)((const uint16_t *)from.data + at)
                                              : (const char *)(from.data + at);
}
static inline real operand_number(Operand from, int i, int k) {
    size_t at = from.layout == LAYOUT_ACROSS_K ? (size_t)k * from.ld + (size_t)i : (size_t)i * from.ld + (size_t)k;
    return from.layout == LAYOUT_ALONG_K_BF16 ? (real)bf16_to_float(((const uint16_t *)from.data)[at]) : from.data[at];
}
// VL numbers, or pairs of bf16, of a row that lies along k, of which `left` numbers are there.
ALWAYS_INLINE vreal operand_units(Operand from, size_t at, int left, bool bf16) {
    if (from.layout == LAYOUT_ALONG_K_BF16) return half_pairs_up_to((const uint16_t *)from.data + at, left);
    const real *row = from.data + at;
    if (!bf16) return load_up_to(row, left);
    return bf16_pairs(load_up_to(row, left), left > VL ? load_up_to(row + VL, left - VL) : (vreal){0});
}

// ---------------------------------------------------------------- packing

// VL (or TILE_M) rows of VL numbers -> the numbers of one column behind those of the one before.
// Seen as bits of an address, row bits stand above column bits; each stage moves the top bit to the
// bottom, and after log2(rows) stages column bits stand above row bits.
ALWAYS_INLINE void transpose_rows(vreal *r, int rows) {
    vreal t[VL > TILE_M ? VL : TILE_M];
    for (int stage = 1; stage < rows; stage *= 2) {
        for (int i = 0; i < rows / 2; i++) {
            t[2 * i] = interleave_low(r[i], r[i + rows / 2]);
            t[2 * i + 1] = interleave_high(r[i], r[i + rows / 2]);
        }
        for (int i = 0; i < rows; i++) r[i] = t[i];
    }
}

// Numbers in `panel`, in units of 4 or 8 bytes: a real, or two bf16 of neighbouring k. Tiles and MMLA_K are whole.
ALWAYS_INLINE int k_units(int kc, Unit unit) {
    if (unit == UNIT_MMLA) return (kc + MMLA_K - 1) / MMLA_K * (MMLA_K / 2);
    return unit == UNIT_VECTORS ? kc : unit == UNIT_DOTS ? (kc + 1) / 2 : (kc + AMX_K - 1) / AMX_K * AMX_ROWS;
}
// Rows of a panel in memory: whole vectors along k, as the transposition writes them.
ALWAYS_INLINE int panel_units(int kc, Unit unit) { return (k_units(kc, unit) + VL - 1) / VL * VL; }

// A store waits for its cache line: a prefetch this many bytes ahead of it hides that.
enum { PACK_AHEAD = 768 };
// Rows that lie across k are prefetched this many rows ahead: hardware does not follow strides of pages.
enum { PACK_ROWS_AHEAD = 8 };

// One panel (units, width) from rows that lie along k: rows i0 .. i0+count, columns k0 .. k0+kc.
ALWAYS_INLINE void pack_along_k(real *panel, Operand from, int i0, int count, int k0, int kc, int width, bool bf16) {
    int per_unit = bf16 ? 2 : 1, units = (kc + per_unit - 1) / per_unit;
    int group = width < VL ? width : VL; // rows that are transposed together
    for (int u = 0; u < units; u += VL)
        for (int g = 0; g < width; g += group) {
            vreal r[VL > TILE_M ? VL : TILE_M];
            int k = u * per_unit, left = kc - k;
            size_t at = (size_t)(i0 + g) * from.ld + (size_t)(k0 + k);
            real *to = panel + (size_t)u * width + g;
            // Long rows are prefetched along k, short ones (heads of attention) a panel ahead.
            size_t ahead = kc > 8 * VL ? at + 4 * VL : at + (size_t)width * from.ld;
            if (left >= VL * per_unit && g + group <= count) {
                UNROLL
                for (int i = 0; i < group; i++, at += from.ld, ahead += from.ld) {
                    __builtin_prefetch(operand_at(from, ahead), 0, 3);
                    r[i] = operand_units(from, at, VL * per_unit, bf16);
                }
            } else
                for (int i = 0; i < group; i++, at += from.ld)
                    r[i] = g + i < count ? operand_units(from, at, left, bf16) : (vreal){0};
            transpose_rows(r, group); // now (VL, group): a vector holds VL/group units of `group` rows
            UNROLL
            for (int i = 0; i < group; i++, to += width * VL / group) {
                __builtin_prefetch((char *)to + PACK_AHEAD, 1);
                vstore(to, r[i]);
            }
        }
}

// Tunable: narrow panels are packed as many at a time as fill these columns, since the rows of a wide
// matrix lie pages apart and each visit to one costs.
enum { PACK_COLUMNS = 4 * VL };

// Panels (units, width), `stride` numbers apart, from rows that lie across k; `columns` of them, a
// constant: one panel, or as many as fill a vector or PACK_COLUMNS.
ALWAYS_INLINE void pack_across_k(real *panel, size_t stride, Operand from, int i0, int k0, int kc, int width,
                                 int columns, bool bf16) {
    int units = bf16 ? (kc + 1) / 2 : kc;
    const real *at = from.data + (size_t)k0 * from.ld + i0;
    for (int u = 0; u < units; u++, panel += width, at += from.ld * (bf16 ? 2 : 1)) {
        bool two = bf16 && 2 * u + 1 < kc;
        for (int g = 0; g < columns; g += 64 / (int)sizeof(real))
            __builtin_prefetch(at + PACK_ROWS_AHEAD * from.ld * (bf16 ? 2 : 1) + g, 0, 3);
        UNROLL
        for (int g = 0; g < columns; g += VL) {
            vreal v = vload(at + g);
            if (bf16) v = bf16_merge(v, two ? vload(at + from.ld + g) : (vreal){0});
            if (width >= VL) {
                __builtin_prefetch((char *)(panel + g) + PACK_AHEAD, 1);
                vstore(panel + g, v);
            } else
                for (int p = 0; p < VL / width; p++)
                    memcpy(panel + (size_t)(g / width + p) * stride,
                           (const char *)&v + (size_t)p * (size_t)width * sizeof(real), (size_t)width * sizeof(real));
        }
    }
}

// Rows i0 .. i1 of the operand as panels of `width` (TILE_M or TILE_N, a constant), columns
// k0 .. k0+kc; rows past i1 that fill a panel are zeros. Panels are `stride` numbers apart.
ALWAYS_INLINE void pack_panels(real *panel, size_t stride, Operand from, int i0, int i1, int k0, int kc, int width,
                               bool bf16) {
    if (from.layout != LAYOUT_ACROSS_K)
        for (int i = i0; i < i1; i += width, panel += stride) pack_along_k(panel, from, i, i1 - i, k0, kc, width, bf16);
    else {
        int i = i0;
        if (width >= VL)
            for (; i + width <= i1; i += width, panel += stride)
                pack_across_k(panel, stride, from, i, k0, kc, width, width, bf16);
        else {
            for (; i + PACK_COLUMNS <= i1; i += PACK_COLUMNS, panel += stride * (PACK_COLUMNS / width))
                pack_across_k(panel, stride, from, i, k0, kc, width, PACK_COLUMNS, bf16);
            for (; i + VL <= i1; i += VL, panel += stride * (VL / width))
                pack_across_k(panel, stride, from, i, k0, kc, width, VL, bf16);
        }
        // What is left is narrower than that, or its panels are: number by number.
        for (; i < i1; i += width, panel += stride)
            for (int u = 0; u < (bf16 ? (kc + 1) / 2 : kc); u++)
                for (int g = 0; g < width; g++) {
                    const real *at = from.data + (size_t)(k0 + u * (bf16 ? 2 : 1)) * from.ld + (size_t)(i + g);
                    real even = i + g < i1 ? *at : 0, odd = bf16 && i + g < i1 && 2 * u + 1 < kc ? at[from.ld] : 0;
                    panel[(size_t)u * (size_t)width + (size_t)g] = bf16 ? bf16_merge(vset(even), vset(odd))[0] : even;
                }
    }
}

// ---------------------------------------------------------------- packing for tiles

// 16 rows of 16 numbers -> the same transposed. A row is 16/VL vectors.
ALWAYS_INLINE void transpose_tile(vreal r[AMX_ROWS][AMX_ROWS / VL]) {
    vreal t[AMX_ROWS][AMX_ROWS / VL];
    UNROLL
    for (int i = 0; i < AMX_ROWS; i += VL) {
        UNROLL
        for (int p = 0; p < AMX_ROWS / VL; p++) {
            vreal part[VL > TILE_M ? VL : TILE_M];
            UNROLL
            for (int n = 0; n < VL; n++) part[n] = r[i + n][p];
            transpose_rows(part, VL);
            UNROLL
            for (int n = 0; n < VL; n++) t[p * VL + n][i / VL] = part[n];
        }
    }
    UNROLL
    for (int i = 0; i < AMX_ROWS; i++) {
        UNROLL
        for (int p = 0; p < AMX_ROWS / VL; p++) r[i][p] = t[i][p];
    }
}

// One tile of rows i0 .. i0+15, all there, and columns k0 .. k0+31: of A 16 rows of 16 pairs, of B 16 pairs of 16.
ALWAYS_INLINE void pack_tile(real *tile, Operand from, int i0, int k0, bool of_a) {
    vreal r[AMX_ROWS][AMX_ROWS / VL];
    bool along = from.layout != LAYOUT_ACROSS_K;
    UNROLL
    for (int n = 0; n < AMX_ROWS; n++) { // a row of the operand, or a pair of k
        size_t at = along ? (size_t)(i0 + n) * from.ld + (size_t)k0 : (size_t)(k0 + 2 * n) * from.ld + (size_t)i0;
        __builtin_prefetch(operand_at(from, along ? at + 4 * AMX_K : at + AMX_K * from.ld), 0, 3);
        if (!along) __builtin_prefetch(from.data + at + (AMX_K + 1) * from.ld, 0, 3);
        UNROLL
        for (int p = 0; p < AMX_ROWS / VL; p++)
            r[n][p] = along ? operand_units(from, at + (size_t)(2 * p * VL), 2 * VL, true)
                            : bf16_merge(vload(from.data + at + p * VL), vload(from.data + at + from.ld + p * VL));
    }
    if (along != of_a) transpose_tile(r);
    UNROLL
    for (int n = 0; n < AMX_ROWS; n++) {
        __builtin_prefetch((char *)(tile + n * AMX_ROWS) + PACK_AHEAD, 1);
        UNROLL
        for (int p = 0; p < AMX_ROWS / VL; p++) vstore(tile + n * AMX_ROWS + p * VL, r[n][p]);
    }
}

// A tile at an edge: `rows` <= 16 rows and `columns` <= 32 columns are there, zeros stand for the others.
static inline void pack_tile_part(real *tile, Operand from, int i0, int rows, int k0, int columns, bool of_a) {
    real whole[(AMX_ROWS + 4) * AMX_K] = {0}; // 4: pack_tile prefetches so far behind what it reads
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < columns; k++) whole[i * AMX_K + k] = operand_number(from, i0 + i, k0 + k);
    Operand part = {whole, AMX_K, LAYOUT_ALONG_K};
    pack_tile(tile, part, 0, 0, of_a);
}

// Rows i0 .. i1 as panels of AMX_BLOCK rows, (tiles along k, 2 tiles), `stride` numbers apart.
ALWAYS_INLINE void pack_tiles(real *panel, size_t stride, Operand from, int i0, int i1, int k0, int kc, bool of_a) {
    enum { TILE = AMX_TILE / sizeof(float) };
    for (int i = i0; i < i1; i += AMX_BLOCK, panel += stride)
        for (int k = 0; k < kc; k += AMX_K)
            for (int half = 0; half < 2; half++) {
                real *tile = panel + (k / AMX_K * 2 + half) * (int)TILE;
                int row = i + half * AMX_ROWS, rows = i1 - row, columns = kc - k;
                if (rows >= AMX_ROWS && columns >= AMX_K) pack_tile(tile, from, row, k0 + k, of_a);
                else
                    pack_tile_part(tile, from, row, rows < AMX_ROWS ? rows : AMX_ROWS, k0 + k,
                                   columns < AMX_K ? columns : AMX_K, of_a);
            }
}

// ---------------------------------------------------------------- packing for matrix products of vectors

#ifdef BF16_MATRIX
enum { MMLA_PACKED = 8 }; // k that are packed at a time: two steps of four

// `width` rows from i0 on, all there, and columns k0 .. k0+7, as two steps of width/2 vectors.
ALWAYS_INLINE void pack_mmla_step(real *panel, Operand from, int i0, int k0, int width) {
    if (from.layout != LAYOUT_ACROSS_K) { // no transposition: a row's halves go to the two steps
        size_t at = (size_t)i0 * from.ld + (size_t)k0;
        UNROLL
        for (int i = 0; i < width; i += 2, at += 2 * from.ld) {
            __builtin_prefetch(operand_at(from, at + 4 * MMLA_PACKED), 0, 3);
            __builtin_prefetch(operand_at(from, at + from.ld + 4 * MMLA_PACKED), 0, 3);
            vreal one = operand_units(from, at, 2 * VL, true), two = operand_units(from, at + from.ld, 2 * VL, true);
            vstore(panel + 2 * i, lower_halves(one, two));
            vstore(panel + 2 * width + 2 * i, upper_halves(one, two));
        }
        return;
    }
    const real *at = from.data + (size_t)k0 * from.ld + i0;
    UNROLL
    for (int step = 0; step < 2; step++, panel += 2 * width, at += 4 * from.ld) {
        UNROLL
        for (int k = 0; k < 4; k++) __builtin_prefetch(at + (size_t)(k + PACK_ROWS_AHEAD) * from.ld, 0, 3);
        UNROLL
        for (int i = 0; i < width; i += VL) {
            vreal low = bf16_merge(vload(at + i), vload(at + from.ld + i)),
                  high = bf16_merge(vload(at + 2 * from.ld + i), vload(at + 3 * from.ld + i));
            vstore(panel + 2 * i, interleave_low(low, high));
            vstore(panel + 2 * i + VL, interleave_high(low, high));
        }
    }
}

// The same at an edge: `rows` and `columns` (maybe none) are there, zeros stand for the others.
static inline void pack_mmla_part(real *panel, Operand from, int i0, int rows, int k0, int columns, int width) {
    real whole[(MMLA_N + 5) * MMLA_PACKED] = {0}; // 5: pack_mmla_step prefetches so far behind what it reads
    for (int i = 0; i < rows && i < width; i++)
        for (int k = 0; k < columns && k < MMLA_PACKED; k++)
            whole[i * MMLA_PACKED + k] = operand_number(from, i0 + i, k0 + k);
    Operand part = {whole, MMLA_PACKED, LAYOUT_ALONG_K};
    pack_mmla_step(panel, part, 0, 0, width);
}

// Rows i0 .. i1 as panels of `width` (MMLA_M or MMLA_N, a constant) rows, `stride` numbers apart.
ALWAYS_INLINE void pack_mmla(real *panel, size_t stride, Operand from, int i0, int i1, int k0, int kc, int width) {
    int whole = k_units(kc, UNIT_MMLA) * 2;
    for (int i = i0; i < i1; i += width, panel += stride)
        for (int k = 0; k < whole; k += MMLA_PACKED) {
            real *to = panel + k / 2 * width;
            if (i1 - i >= width && kc - k >= MMLA_PACKED) pack_mmla_step(to, from, i, k0 + k, width);
            else pack_mmla_part(to, from, i, i1 - i, k0 + k, kc - k, width);
        }
}
#endif

ALWAYS_INLINE void pack_unit(real *panel, size_t stride, Operand from, int i0, int i1, int k0, int kc, bool of_a,
                             Unit unit) {
#ifdef BF16_MATRIX
    if (unit == UNIT_MMLA) {
        pack_mmla(panel, stride, from, i0, i1, k0, kc, of_a ? MMLA_M : MMLA_N);
        return;
    }
#endif
    if (unit == UNIT_TILES) pack_tiles(panel, stride, from, i0, i1, k0, kc, of_a);
    else pack_panels(panel, stride, from, i0, i1, k0, kc, of_a ? TILE_M : TILE_N, unit == UNIT_DOTS);
}

// Tunable. Numbers of a row of codes that are read at a time; across k, rows of so many panels. Whole steps of every
// unit, so that a panel can be packed in parts.
enum { CODES_ALONG = 256, CODES_ACROSS = 64, CODES_PANELS = 4 };
enum { CODES_WIDTH = (int)TILE_N > (int)AMX_BLOCK ? (int)TILE_N : (int)AMX_BLOCK };

// pack_unit of a matrix of codes: the same panels as of its numbers.
static __attribute__((noinline)) void pack_codes(real *panel, size_t stride, Operand from, int i0, int i1, int k0,
                                                 int kc, Unit unit) {
    const Coded *w = (const Coded *)(const void *)from.data;
    bool along = from.layout == LAYOUT_ALONG_K_CODES;
    int width = unit_columns(unit), wide = along ? width : CODES_PANELS * width,
        run = along ? CODES_ALONG : CODES_ACROSS;
    real numbers[CODES_WIDTH * CODES_ALONG];
    for (int i = i0; i < i1; i += wide)
        for (int k = 0; k < kc; k += run) {
            int rows = i1 - i < wide ? i1 - i : wide, columns = kc - k < run ? kc - k : run;
            for (int r = 0; r < (along ? rows : columns); r++) {
                size_t at =
                    along ? (size_t)(i + r) * from.ld + (size_t)(k0 + k) : (size_t)(k0 + k + r) * from.ld + (size_t)i;
                codes_read(numbers + r * (along ? run : wide), w, at, (size_t)(along ? columns : rows));
            }
            Operand part = {numbers, (size_t)(along ? run : wide), along ? LAYOUT_ALONG_K : LAYOUT_ACROSS_K};
            real *to = panel + (size_t)((i - i0) / width) * stride + (size_t)(k_units(k, unit) * width);
            if (unit == UNIT_TILES) pack_unit(to, stride, part, 0, rows, 0, columns, false, UNIT_TILES);
            else if (unit == UNIT_DOTS) pack_unit(to, stride, part, 0, rows, 0, columns, false, UNIT_DOTS);
            else if (unit == UNIT_MMLA) pack_unit(to, stride, part, 0, rows, 0, columns, false, UNIT_MMLA);
            else pack_unit(to, stride, part, 0, rows, 0, columns, false, UNIT_VECTORS);
        }
}

// Of A, or of B, for what computes the product. bf16 (weights, which are B) has code of its own: no loop asks.
ALWAYS_INLINE void pack_operand(real *panel, size_t stride, Operand from, int i0, int i1, int k0, int kc, bool of_a,
                                Unit unit) {
    if (!of_a && from.layout >= LAYOUT_ALONG_K_CODES) {
        pack_codes(panel, stride, from, i0, i1, k0, kc, unit);
        return;
    }
    if (!of_a && unit != UNIT_VECTORS && from.layout == LAYOUT_ALONG_K_BF16) {
        pack_unit(panel, stride, from, i0, i1, k0, kc, of_a, unit);
        return;
    }
    from.layout = from.layout == LAYOUT_ACROSS_K ? LAYOUT_ACROSS_K : LAYOUT_ALONG_K;
    pack_unit(panel, stride, from, i0, i1, k0, kc, of_a, unit);
}

// Prefetches part `part` of `parts` of what pack_operand will read for rows i0 .. i1 into L2: memory is then read
// while the micro-kernels run, not between them. Codes are few bytes, which hardware prefetches.
ALWAYS_INLINE void prefetch_rows(Operand from, int i0, int i1, int k0, int kc, int part, int parts) {
    if (from.layout >= LAYOUT_ALONG_K_CODES) return;
    const int line = 64 / (int)(from.layout == LAYOUT_ALONG_K_BF16 ? sizeof(uint16_t) : sizeof(real));
    bool along = from.layout != LAYOUT_ACROSS_K;
    int lines = along ? i1 - i0 : kc, length = along ? kc : i1 - i0;
    size_t start = along ? (size_t)i0 * from.ld + (size_t)k0 : (size_t)k0 * from.ld + (size_t)i0;
    int last = (int)((int64_t)lines * (part + 1) / parts);
    for (int r = (int)((int64_t)lines * part / parts); r < last; r++)
        for (int c = 0; c < length; c += line)
            __builtin_prefetch(operand_at(from, start + (size_t)r * from.ld + (size_t)c), 0, 2);
}

#endif
