/*
gemm.h: linear layers, forward and the two backward forms, at the speed of the machine's FMA units.

    linear_forward           y  (N, OC)  = x w^T + b + residual
    linear_backward_input    dx (N, C)   = dy w              (or +=)
    linear_backward_weight   dw (OC, C) += dy^T x,  db (OC) += column sums of dy

All are one product out (M, N) = A (M, K) B (K, N), where each operand may lie in memory either way.
It is computed after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
(2008), and Van Zee and van de Geijn, "BLIS" (2015): pieces of A and B are copied ("packed") into the
order in which the innermost loop reads them, in sizes that stay in a cache, and the innermost loop
holds a tile of the result in registers. One side, the smaller one, is kept; the other passes by, so
that what is packed of it is used while it is still near. The loops from outside, with BLIS's names where B is kept:

    5  nc  the kept side in slabs: a packed slab stays in a share of the L3 cache
    4  kc  K in runs of at most KC: a packed panel of A (TILE_M x KC) takes half of L1
    3  mc  the passing side in strips of panels: a packed strip takes an eighth of L2
    2  nr  panels of the slab, one after the other
    1  mr  panels of the strip, from L2
    0      K: TILE_M x TILE_V vector FMAs an iteration (tile_product, the micro-kernel)

Threads form a grid over rows and columns of the result and share nothing: each packs what it needs.
Packing into shared memory was tried: a line that another core has read costs more to write again
than packing a panel twice.

Bits do not depend on threads or on the caches: an output element is the sum over loop 4's runs of
sums over k in order, and KC is a constant of the build.

With cpu->bf16, packing rounds both operands to bf16 (to nearest even) in pairs along K, and the
innermost loop uses the CPU's dot product of pairs with fp32 sums; everything else is the same code.
Few rows (generation) take another way, linear_few_rows, which reads the weights once, as they lie.
*/
#ifndef LLMC_CPU_GEMM_H
#define LLMC_CPU_GEMM_H

#include "../model.h"
#include "cpu.h"

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

// Tunable. Bytes of one panel of A = half of a 32 KiB L1 cache; the rest is for the panel of
// B that streams by. A constant, so that results do not depend on the machine that runs the program.
enum { KC = (16 << 10) / (TILE_M * (int)sizeof(real)) / VL * VL };

enum { LINEAR_FEW_ROWS = 4 }; // up to here linear_forward is bound by reading w

typedef struct {
    const real *data;
    size_t ld;         // numbers from one row in memory to the next
    bool k_contiguous; // element (i, k) is data[i*ld + k], otherwise data[k*ld + i]
} Operand;             // i is a row of A or a column of B

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

// Numbers in `panel`, in units of 4 or 8 bytes: a real, or two bf16 of neighbouring k.
ALWAYS_INLINE int k_units(int kc, bool bf16) { return bf16 ? (kc + 1) / 2 : kc; }
// Rows of a panel in memory: whole vectors along k, as the transposition writes them.
ALWAYS_INLINE int panel_units(int kc, bool bf16) { return (k_units(kc, bf16) + VL - 1) / VL * VL; }

// A store waits for its cache line: a prefetch this many bytes ahead of it hides that.
enum { PACK_AHEAD = 768 };
// Rows that lie across k are prefetched this many rows ahead: hardware does not follow strides of pages.
enum { PACK_ROWS_AHEAD = 8 };

// One panel (units, width) from rows that lie along k: rows i0 .. i0+count, columns k0 .. k0+kc.
ALWAYS_INLINE void pack_along_k(real *panel, Operand from, int i0, int count, int k0, int kc, int width, bool bf16) {
    int units = k_units(kc, bf16), per_unit = bf16 ? 2 : 1;
    int group = width < VL ? width : VL; // rows that are transposed together
    for (int u = 0; u < units; u += VL)
        for (int g = 0; g < width; g += group) {
            vreal r[VL > TILE_M ? VL : TILE_M];
            int k = u * per_unit, left = kc - k;
            const real *at = from.data + (size_t)(i0 + g) * from.ld + (size_t)(k0 + k);
            real *to = panel + (size_t)u * width + g;
            // Long rows are prefetched along k, short ones (heads of attention) a panel ahead.
            const real *ahead = kc > 8 * VL ? at + 4 * VL : at + (size_t)width * from.ld;
            if (left >= VL * per_unit && g + group <= count) {
                UNROLL
                for (int i = 0; i < group; i++, at += from.ld, ahead += from.ld) {
                    __builtin_prefetch(ahead, 0, 3);
                    r[i] = bf16 ? bf16_pairs(vload(at), vload(at + VL)) : vload(at);
                }
            } else
                for (int i = 0; i < group; i++, at += from.ld) {
                    if (g + i >= count) r[i] = (vreal){0};
                    else if (bf16)
                        r[i] =
                            bf16_pairs(load_up_to(at, left), left > VL ? load_up_to(at + VL, left - VL) : (vreal){0});
                    else r[i] = load_up_to(at, left);
                }
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
    int units = k_units(kc, bf16);
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
    if (from.k_contiguous)
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
            for (int u = 0; u < k_units(kc, bf16); u++)
                for (int g = 0; g < width; g++) {
                    const real *at = from.data + (size_t)(k0 + u * (bf16 ? 2 : 1)) * from.ld + (size_t)(i + g);
                    real even = i + g < i1 ? *at : 0, odd = bf16 && i + g < i1 && 2 * u + 1 < kc ? at[from.ld] : 0;
                    panel[(size_t)u * (size_t)width + (size_t)g] = bf16 ? bf16_merge(vset(even), vset(odd))[0] : even;
                }
    }
}

// Prefetches part `part` of `parts` of what pack_panels will read for rows i0 .. i1 into L2: memory is then read
// while the micro-kernels run, not between them.
ALWAYS_INLINE void prefetch_rows(Operand from, int i0, int i1, int k0, int kc, int part, int parts) {
    const int line = 64 / (int)sizeof(real);
    int lines = from.k_contiguous ? i1 - i0 : kc, length = from.k_contiguous ? kc : i1 - i0;
    const real *start =
        from.k_contiguous ? from.data + (size_t)i0 * from.ld + k0 : from.data + (size_t)k0 * from.ld + i0;
    int last = (int)((int64_t)lines * (part + 1) / parts);
    for (int r = (int)((int64_t)lines * part / parts); r < last; r++)
        for (int c = 0; c < length; c += line) __builtin_prefetch(start + (size_t)r * from.ld + c, 0, 2);
}

// ---------------------------------------------------------------- the micro-kernel

// sums (TILE_M, TILE_V) = panel of A (units, TILE_M), transposed, times panel of B (units, TILE_N).
// Only vectors first .. end-1 of each row, constants: attention leaves out what its mask hides.
// soon: NULL, or TILE_M rows, ld apart, that will be read and written next. They are prefetched one after
// the other: all at once they would take the line fill buffers, in which misses of L1 wait, from a and b.
ALWAYS_INLINE void tile_product(vreal sums[TILE_M][TILE_V], const real *a, const real *b, int units, int first, int end,
                                bool bf16, const real *soon, size_t ld) {
    vreal s[TILE_M][TILE_V];
    UNROLL
    for (int i = 0; i < TILE_M; i++) {
        UNROLL
        for (int j = first; j < end; j++) s[i][j] = (vreal){0};
    }
    for (int row = 0, k = 0; k < units; row++) {
        for (int c = 0; soon && c < TILE_N; c += 64 / (int)sizeof(real))
            __builtin_prefetch(soon + (size_t)row * ld + c, 1);
        int stop = soon ? units * (row + 1) / TILE_M : units;
        for (; k < stop; k++, a += TILE_M, b += TILE_N) { // loop 0
            vreal bv[TILE_V];
            UNROLL
            for (int j = first; j < end; j++) bv[j] = vload(b + j * VL);
            UNROLL
            for (int i = 0; i < TILE_M; i++) {
                vreal av = vset(a[i]);
                UNROLL
                for (int j = first; j < end; j++) s[i][j] = bf16 ? bf16_dot(s[i][j], av, bv[j]) : s[i][j] + av * bv[j];
            }
        }
    }
    UNROLL
    for (int i = 0; i < TILE_M; i++) {
        UNROLL
        for (int j = first; j < end; j++) sums[i][j] = s[i][j];
    }
}

// out (rows, columns) = sums + bias + init, where bias (columns) and init (rows, columns) may be NULL
ALWAYS_INLINE void tile_store(vreal sums[TILE_M][TILE_V], real *out, const real *init, const real *bias, size_t ld,
                              int rows, int columns) {
    UNROLL
    for (int i = 0; i < TILE_M; i++) {
        if (i >= rows) break;
        UNROLL
        for (int j = 0; j < TILE_V; j++) {
            int n = columns - j * VL;
            if (n <= 0) break;
            size_t at = (size_t)i * ld + (size_t)(j * VL);
            vreal v = sums[i][j];
            if (n >= VL) {
                if (bias) v += vload(bias + j * VL);
                if (init) v += vload(init + at);
                vstore(out + at, v);
            } else {
                if (bias) v += vload_part(bias + j * VL, n);
                if (init) v += vload_part(init + at, n);
                vstore_part(out + at, v, n);
            }
        }
    }
}

// A tile of which only `rows` x `columns` lie in the result.
ALWAYS_INLINE void tile_at_edge(real *out, const real *init, const real *bias, const real *a, const real *b, int units,
                                size_t ld, int rows, int columns, bool bf16) {
    vreal sums[TILE_M][TILE_V] = {{{0}}};
    if (columns <= THIRD_N) tile_product(sums, a, b, units, 0, THIRD, bf16, NULL, 0);
    else if (columns <= 2 * THIRD_N) tile_product(sums, a, b, units, 0, 2 * THIRD, bf16, NULL, 0);
    else tile_product(sums, a, b, units, 0, TILE_V, bf16, NULL, 0);
    tile_store(sums, out, init, bias, ld, rows, columns);
}

// ---------------------------------------------------------------- the product

typedef struct {
    real *out;        // (M, N), ld apart
    const real *init; // (M, N), ld apart, added; NULL: nothing; may be out
    const real *bias; // (N), added to each row; NULL: nothing
    size_t ld;
} Target;

typedef struct {
    bool keep_a;     // A is the side that is kept packed, else B
    int slab, strip; // nc, mc: rows of A or columns of B packed at a time, of the kept and of the passing side
    int kc;          // a multiple of two vectors
    size_t slab_size, strip_size; // numbers in a packed slab and a packed strip
} Blocking;

static inline int ceil_divide(int a, int b) { return (a + b - 1) / b; }

// For a part of M x N x K that one of `threads` works on.
static inline Blocking gemm_blocking(int M, int N, int K, int threads, bool bf16, const Cpu *cpu) {
    Blocking s;
    int k_most = bf16 ? 2 * KC : KC;
    s.kc = ceil_divide(ceil_divide(K, ceil_divide(K, k_most)), 2 * VL) * 2 * VL; // runs of even size
    if (s.kc > k_most) s.kc = k_most;
    size_t units = (size_t)panel_units(s.kc, bf16),
           row = units * sizeof(real); // bytes of a packed row of A or column of B
    s.keep_a = M <= N;
    int kept = s.keep_a ? M : N, passing = s.keep_a ? N : M;
    int kept_tile = s.keep_a ? TILE_M : TILE_N, passing_tile = s.keep_a ? TILE_N : TILE_M;
    // An eighth of L2 for the strip, an eighth for the one that is prefetched; the rest is for the other side and out.
    s.strip = (int)int64_max(1, (int64_t)(cpu->l2 / 8 / row) / passing_tile) * passing_tile;
    s.strip = (int)int64_min(s.strip, ceil_divide(passing, passing_tile) * passing_tile);
    // Half of this thread's share of L3, in slabs of even size; the passing side is packed again for each
    // of them, which costs little from 256 rows on.
    int most = (int)int64_max(256, (int64_t)(cpu->l3 / 2 / (size_t)threads / row)) / kept_tile * kept_tile;
    s.slab = ceil_divide(ceil_divide(kept, ceil_divide(kept, most)), kept_tile) * kept_tile;
    s.slab_size = (size_t)s.slab * units;
    s.strip_size = (size_t)s.strip * units;
    return s;
}

// Threads as a grid of rows x columns over the result. The cost of a thread, in cycles for each k: a
// row takes one for each vector of its columns, packing a number takes about one.
static inline int gemm_grid_rows(int threads, int M, int N) {
    int best = 1;
    int64_t least = INT64_MAX;
    for (int rows = 1; rows <= threads; rows++) {
        if (threads % rows) continue;
        int64_t m = (int64_t)ceil_divide(ceil_divide(M, TILE_M), rows) * TILE_M,
                n = int64_min(N, (int64_t)ceil_divide(ceil_divide(N, TILE_N), threads / rows) * TILE_N);
        int64_t cost = m * ceil_divide((int)n, THIRD_N) * THIRD + m + n;
        if (cost < least) {
            least = cost;
            best = rows;
        }
    }
    return best;
}

// Rows [m_first, m_last) and columns [n_first, n_last) of the product. `packed`: room for a slab and a
// strip. keep_a is s.keep_a as a constant.
ALWAYS_INLINE void gemm_part(Target to, Operand A, Operand B, int m_first, int m_last, int n_first, int n_last, int K,
                             Blocking s, real *packed, bool bf16, bool keep_a) {
    Operand kept = keep_a ? A : B, passing = keep_a ? B : A;
    int kept_first = keep_a ? m_first : n_first, kept_last = keep_a ? m_last : n_last,
        kept_tile = keep_a ? TILE_M : TILE_N;
    int passing_first = keep_a ? n_first : m_first, passing_last = keep_a ? n_last : m_last,
        passing_tile = keep_a ? TILE_N : TILE_M;
    real *slab = packed, *strip = packed + s.slab_size;
    for (int b0 = kept_first; b0 < kept_last; b0 += s.slab) { // loop 5 (nc)
        int b1 = kept_last - b0 < s.slab ? kept_last : b0 + s.slab;
        for (int k0 = 0; k0 < K; k0 += s.kc) { // loop 4 (kc)
            int kc = K - k0 < s.kc ? K - k0 : s.kc, units = k_units(kc, bf16);
            size_t row = (size_t)panel_units(kc, bf16), slab_stride = row * (size_t)kept_tile,
                   strip_stride = row * (size_t)passing_tile;
            pack_panels(slab, slab_stride, kept, b0, b1, k0, kc, kept_tile, bf16);
            for (int s0 = passing_first; s0 < passing_last; s0 += s.strip) { // loop 3 (mc)
                int s1 = passing_last - s0 < s.strip ? passing_last : s0 + s.strip;
                pack_panels(strip, strip_stride, passing, s0, s1, k0, kc, passing_tile, bf16);
                // The strip that comes next: beside this one, or at the start of the next run of K.
                int next = s1 < passing_last ? s1 : passing_first, next_k = s1 < passing_last ? k0 : k0 + s.kc;
                int next_count = passing_last - next < s.strip ? passing_last - next : s.strip,
                    next_kc = K - next_k < s.kc ? K - next_k : s.kc;
                const real *slab_panel = slab;
                for (int b = b0; b < b1; b += kept_tile, slab_panel += slab_stride) { // loop 2 (nr)
                    prefetch_rows(passing, next, next + next_count, next_k, next_kc, (b - b0) / kept_tile,
                                  ceil_divide(b1 - b0, kept_tile));
                    const real *strip_panel = strip;
                    for (int p = s0; p < s1; p += passing_tile, strip_panel += strip_stride) { // loop 1 (mr)
                        int i = keep_a ? b : p, j = keep_a ? p : b, rows = (keep_a ? b1 : s1) - i,
                            columns = (keep_a ? s1 : b1) - j;
                        const real *a_panel = keep_a ? slab_panel : strip_panel,
                                   *b_panel = keep_a ? strip_panel : slab_panel;
                        size_t at = (size_t)i * to.ld + (size_t)j;
                        real *out = to.out + at;
                        const real *init = k0 > 0    ? out
                                           : to.init ? to.init + at
                                                     : NULL,
                                   *bias = k0 == 0 && to.bias ? to.bias + j : NULL;
                        if (rows >= TILE_M && columns >= TILE_N) {
                            vreal sums[TILE_M][TILE_V];
                            tile_product(sums, a_panel, b_panel, units, 0, TILE_V, bf16, out, to.ld);
                            tile_store(sums, out, init, bias, to.ld, TILE_M, TILE_N);
                        } else tile_at_edge(out, init, bias, a_panel, b_panel, units, to.ld, rows, columns, bf16);
                    }
                }
            }
        }
    }
}

static inline void gemm_part_real(Target to, Operand A, Operand B, int m_first, int m_last, int n_first, int n_last,
                                  int K, Blocking s, real *packed) {
    if (s.keep_a) gemm_part(to, A, B, m_first, m_last, n_first, n_last, K, s, packed, false, true);
    else gemm_part(to, A, B, m_first, m_last, n_first, n_last, K, s, packed, false, false);
}
#ifdef BF16_PRODUCTS
static inline void gemm_part_bf16(Target to, Operand A, Operand B, int m_first, int m_last, int n_first, int n_last,
                                  int K, Blocking s, real *packed) {
    if (s.keep_a) gemm_part(to, A, B, m_first, m_last, n_first, n_last, K, s, packed, true, true);
    else gemm_part(to, A, B, m_first, m_last, n_first, n_last, K, s, packed, true, false);
}
#endif

static inline void gemm(Target to, Operand A, Operand B, int M, int N, int K, Cpu *cpu) {
    int threads = cpu->threads, grid_rows = gemm_grid_rows(threads, M, N), grid_columns = threads / grid_rows;
    int m_part = ceil_divide(ceil_divide(M, TILE_M), grid_rows) * TILE_M,
        n_part = ceil_divide(ceil_divide(N, TILE_N), grid_columns) * TILE_N;
    Blocking s = gemm_blocking(m_part, n_part, K, threads, cpu->bf16, cpu);
    size_t packed_size = s.slab_size + s.strip_size + PACK_AHEAD / sizeof(real);
    real *packed = (real *)cpu_workspace(cpu, sizeof(real) * packed_size * (size_t)threads);
    OMP(parallel for num_threads(threads) schedule(static, 1))
    for (int part = 0; part < threads; part++) {
        int row = part % grid_rows, column = part / grid_rows;
        int m_first = (int)cpu_chunk(M, TILE_M, grid_rows, row), m_last = (int)cpu_chunk(M, TILE_M, grid_rows, row + 1);
        int n_first = (int)cpu_chunk(N, TILE_N, grid_columns, column),
            n_last = (int)cpu_chunk(N, TILE_N, grid_columns, column + 1);
#ifdef BF16_PRODUCTS
        if (cpu->bf16) {
            gemm_part_bf16(to, A, B, m_first, m_last, n_first, n_last, K, s, packed + (size_t)part * packed_size);
            continue;
        }
#endif
        gemm_part_real(to, A, B, m_first, m_last, n_first, n_last, K, s, packed + (size_t)part * packed_size);
    }
    if (cpu->between_kernels) cpu->between_kernels(cpu->between_context);
}

// ---------------------------------------------------------------- few rows

// Output o of `rows` rows (a constant) of y. One row of w at a time, in one stream that goes on with the
// next row: four rows at a time, or with prefetches, it read a third slower.
ALWAYS_INLINE void few_rows_dots(real *y, const real *x, const real *w, const real *b, const real *residual, int C,
                                 int OC, int o, int rows) {
    const real *wr = w + (size_t)o * C;
    vreal s[LINEAR_FEW_ROWS][4];
    UNROLL
    for (int n = 0; n < rows; n++) {
        UNROLL
        for (int j = 0; j < 4; j++) s[n][j] = (vreal){0};
    }
    int c = 0;
    for (; c + 4 * VL <= C; c += 4 * VL) {
        UNROLL
        for (int j = 0; j < 4; j++) {
            vreal wv = vload(wr + c + j * VL);
            UNROLL
            for (int n = 0; n < rows; n++) s[n][j] += vload(x + (size_t)n * C + c + j * VL) * wv;
        }
    }
    UNROLL
    for (int n = 0; n < rows; n++) {
        vreal v = s[n][0] + s[n][1] + (s[n][2] + s[n][3]);
        for (int k = c; k < C; k += VL) v += load_up_to(x + (size_t)n * C + k, C - k) * load_up_to(wr + k, C - k);
        real sum = vsum(v);
        size_t at = (size_t)n * OC + (size_t)o;
        if (b) sum += b[o];
        y[at] = residual ? residual[at] + sum : sum;
    }
}

// N <= LINEAR_FEW_ROWS (matrix-vector): w is read once, in its own order, and nothing is packed. fp32 even with bf16
// products: it is bound by memory, by reading w.
static inline void linear_few_rows(real *y, const real *x, const real *w, const real *b, const real *residual,
                                   LinearShape s, Cpu *cpu) {
    int C = s.C, OC = s.OC, N = s.N;
    OMP(parallel for num_threads(cpu->threads) schedule(dynamic, 32))
    for (int o = 0; o < OC; o++) { // dynamic: cores do not get equal shares of the memory's bandwidth
        if (N == 1) few_rows_dots(y, x, w, b, residual, C, OC, o, 1);
        else if (N == 2) few_rows_dots(y, x, w, b, residual, C, OC, o, 2);
        else if (N == 3) few_rows_dots(y, x, w, b, residual, C, OC, o, 3);
        else few_rows_dots(y, x, w, b, residual, C, OC, o, 4);
    }
    (void)cpu;
}

// ---------------------------------------------------------------- the three products of a linear layer

// y (N, OC) = x (N, C) w (OC, C)^T + b (OC) + residual (N, OC); b and residual may be NULL, residual may be y
static inline void linear_forward(real *y, const real *x, const real *w, const real *b, const real *residual,
                                  LinearShape s, Cpu *cpu) {
    if (s.N <= LINEAR_FEW_ROWS) {
        linear_few_rows(y, x, w, b, residual, s, cpu);
        return;
    }
    Target to = {y, residual, b, (size_t)s.OC};
    Operand A = {x, (size_t)s.C, true}, B = {w, (size_t)s.C, true};
    gemm(to, A, B, s.N, s.OC, s.C, cpu);
}

// dx (N, C) = dy (N, OC) w (OC, C)
static inline void linear_backward_input(real *dx, const real *dy, const real *w, LinearShape s, Cpu *cpu) {
    Target to = {dx, NULL, NULL, (size_t)s.C};
    Operand A = {dy, (size_t)s.OC, true}, B = {w, (size_t)s.C, false};
    gemm(to, A, B, s.N, s.C, s.OC, cpu);
}

// dw (OC, C) += dy (N, OC)^T x (N, C), db (OC) += column sums of dy; what is NULL is not computed
static inline void linear_backward_weight(real *dw, real *db, const real *dy, const real *x, LinearShape s, Cpu *cpu) {
    int N = s.N, OC = s.OC;
    if (db) {
        OMP(parallel for num_threads(cpu->threads) schedule(static))
        for (int o0 = 0; o0 < OC; o0 += 64) {
            int width = OC - o0 < 64 ? OC - o0 : 64;
            real sum[64] = {0};
            for (int n = 0; n < N; n++)
                for (int o = 0; o < width; o++) sum[o] += dy[(size_t)n * OC + o0 + o];
            for (int o = 0; o < width; o++) db[o0 + o] += sum[o];
        }
    }
    if (!dw) return;
    Target to = {dw, dw, NULL, (size_t)s.C};
    Operand A = {dy, (size_t)OC, false}, B = {x, (size_t)s.C, false};
    gemm(to, A, B, OC, s.C, N, cpu);
}

#endif
