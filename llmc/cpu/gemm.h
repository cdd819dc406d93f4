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
Weights that are kept as codes (--base) become numbers while they are packed: the same bits as of a matrix of those
numbers.
Few rows (generation) take another way, linear_few_rows, which reads the weights once, as they lie: as bf16 where
nothing trains them (Matrix), since memory is what limits it.
*/
#ifndef LLMC_CPU_GEMM_H
#define LLMC_CPU_GEMM_H

#include "../model.h"
#include "pack.h"

// Tunable: bytes of a matrix asked for ahead where it is read once, into L2: what is on its way to L1 waits in the few
// buffers that loads themselves need.
enum { ROWS_AHEAD = 4096 };
enum { LINEAR_FEW_ROWS = 7, LINEAR_ROWS = 4 }; // linear_forward: bound by reading w up to here; rows at a time

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

typedef struct {
    real *out;        // (M, N), ld apart
    const real *init; // (M, N), ld apart, added; NULL: nothing; may be out
    const real *bias; // (N), added to each row; NULL: nothing
    size_t ld;
} Target;

// Vector j of row i of a tile: to = v + bias + init, as far as it lies in the tile's `columns`.
ALWAYS_INLINE void target_store(Target to, int i, int j, int columns, vreal v) {
    int n = columns - j * VL;
    if (n <= 0) return;
    size_t at = (size_t)i * to.ld + (size_t)(j * VL);
    if (n >= VL) {
        if (to.bias) v += vload(to.bias + j * VL);
        if (to.init) v += vload(to.init + at);
        vstore(to.out + at, v);
    } else {
        if (to.bias) v += vload_part(to.bias + j * VL, n);
        if (to.init) v += vload_part(to.init + at, n);
        vstore_part(to.out + at, v, n);
    }
}

// to (rows, columns) = sums + bias + init
ALWAYS_INLINE void tile_store(vreal sums[TILE_M][TILE_V], Target to, int rows, int columns) {
    UNROLL
    for (int i = 0; i < TILE_M; i++) {
        if (i >= rows) break;
        UNROLL
        for (int j = 0; j < TILE_V; j++) target_store(to, i, j, columns, sums[i][j]);
    }
}

// A tile of which only `rows` x `columns` lie in the result.
ALWAYS_INLINE void tile_at_edge(Target to, const real *a, const real *b, int units, int rows, int columns, bool bf16) {
    vreal sums[TILE_M][TILE_V] = {{{0}}};
    if (columns <= THIRD_N) tile_product(sums, a, b, units, 0, THIRD, bf16, NULL, 0);
    else if (columns <= 2 * THIRD_N) tile_product(sums, a, b, units, 0, 2 * THIRD, bf16, NULL, 0);
    else tile_product(sums, a, b, units, 0, TILE_V, bf16, NULL, 0);
    tile_store(sums, to, rows, columns);
}

// The same of the tile unit. units: pairs of k. What does not lie in the result as 32 x 32 numbers, or has a bias, goes
// through a block of its own.
static inline void tile_of_amx(Target to, const real *a, const real *b, int units, int rows, int columns,
                               const Cpu *cpu) {
#ifndef REAL_DOUBLE
    bool whole = rows >= AMX_BLOCK && columns >= AMX_BLOCK;
    float block[AMX_BLOCK * AMX_BLOCK];
    if (whole && !to.bias) {
        amx_block(cpu->emulated, to.out, to.ld, to.init, (const char *)a, (const char *)b, units / AMX_ROWS);
        return;
    }
    rows = rows < AMX_BLOCK ? rows : AMX_BLOCK, columns = columns < AMX_BLOCK ? columns : AMX_BLOCK;
    for (int i = 0; i < AMX_BLOCK; i++)
        for (int j = 0; j < AMX_BLOCK; j++) {
            bool inside = i < rows && j < columns;
            real bias = inside && to.bias ? to.bias[j] : 0;
            block[i * AMX_BLOCK + j] = inside && to.init ? bias + to.init[(size_t)i * to.ld + (size_t)j] : bias;
        }
    amx_block(cpu->emulated, block, AMX_BLOCK, block, (const char *)a, (const char *)b, units / AMX_ROWS);
    for (int i = 0; i < rows; i++)
        memcpy(to.out + (size_t)i * to.ld, block + i * AMX_BLOCK, sizeof(real) * (size_t)columns);
#else
    (void)to, (void)a, (void)b, (void)units, (void)rows, (void)columns, (void)cpu;
#endif
}

// The same of matrix products of vectors: a tile of which `rows` x `columns` or more lie in the result.
ALWAYS_INLINE void tile_of_mmla(Target to, const real *a, const real *b, int units, int rows, int columns) {
#ifdef BF16_MATRIX
    vreal sums[MMLA_M][MMLA_N / VL];
    mmla_tile(sums, a, b, units, to.out, to.ld);
    if (rows >= MMLA_M && columns >= MMLA_N) rows = MMLA_M, columns = MMLA_N; // constants: no branches below
    UNROLL
    for (int i = 0; i < MMLA_M; i++) {
        if (i >= rows) break;
        UNROLL
        for (int j = 0; j < MMLA_N / VL; j++) target_store(to, i, j, columns, sums[i][j]);
    }
#else
    (void)to, (void)a, (void)b, (void)units, (void)rows, (void)columns;
#endif
}

// ---------------------------------------------------------------- the product

typedef struct {
    bool keep_a;     // A is the side that is kept packed, else B
    int slab, strip; // nc, mc: rows of A or columns of B packed at a time, of the kept and of the passing side
    int kc;          // a multiple of two vectors
    size_t slab_size, strip_size; // numbers in a packed slab and a packed strip
} Blocking;

// For a part of M x N x K that one of `threads` works on.
static inline Blocking gemm_blocking(int M, int N, int K, int threads, const Cpu *cpu) {
    Blocking s;
    Unit unit = cpu->unit;
    int k_most = unit_kc(unit);
    int k_step = unit_k_step(unit);
    s.kc = ceil_divide(ceil_divide(K, ceil_divide(K, k_most)), k_step) * k_step; // runs of even size
    if (s.kc > k_most) s.kc = k_most;
    size_t units = (size_t)panel_units(s.kc, unit),
           row = units * sizeof(real); // bytes of a packed row of A or column of B
    s.keep_a = M <= N;
    int kept = s.keep_a ? M : N, passing = s.keep_a ? N : M;
    int kept_tile = s.keep_a ? unit_rows(unit) : unit_columns(unit),
        passing_tile = s.keep_a ? unit_columns(unit) : unit_rows(unit);
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
// row takes one for each vector of its columns, packing a number takes about one. Matrix units: both take less,
// products a 64th (mmla.h: a 16th) of a cycle for each number of the result where packing takes one.
static inline int gemm_grid_rows(int threads, int M, int N, Unit unit) {
    int best = 1, tile_m = unit_rows(unit), tile_n = unit_columns(unit);
    int64_t least = INT64_MAX;
    for (int rows = 1; rows <= threads; rows++) {
        if (threads % rows) continue;
        int64_t m = (int64_t)ceil_divide(ceil_divide(M, tile_m), rows) * tile_m,
                n = int64_min(N, (int64_t)ceil_divide(ceil_divide(N, tile_n), threads / rows) * tile_n);
        int64_t cost = m + n;
        if (unit == UNIT_TILES || unit == UNIT_MMLA) cost += m * n / (unit == UNIT_TILES ? 64 : 16);
        else cost += m * ceil_divide((int)n, THIRD_N) * THIRD;
        if (cost < least) {
            least = cost;
            best = rows;
        }
    }
    return best;
}

// Rows [m_first, m_last) and columns [n_first, n_last) of the product. `packed`: room for a slab and a
// strip. unit is cpu's and keep_a is s.keep_a, as constants.
ALWAYS_INLINE void gemm_part(Target to, Operand A, Operand B, int m_first, int m_last, int n_first, int n_last, int K,
                             Blocking s, real *packed, const Cpu *cpu, Unit unit, bool keep_a) {
    Operand kept = keep_a ? A : B, passing = keep_a ? B : A;
    int kept_first = keep_a ? m_first : n_first, kept_last = keep_a ? m_last : n_last,
        kept_tile = keep_a ? unit_rows(unit) : unit_columns(unit);
    int passing_first = keep_a ? n_first : m_first, passing_last = keep_a ? n_last : m_last,
        passing_tile = keep_a ? unit_columns(unit) : unit_rows(unit);
    real *slab = packed, *strip = packed + s.slab_size;
    for (int b0 = kept_first; b0 < kept_last; b0 += s.slab) { // loop 5 (nc)
        int b1 = kept_last - b0 < s.slab ? kept_last : b0 + s.slab;
        for (int k0 = 0; k0 < K; k0 += s.kc) { // loop 4 (kc)
            int kc = K - k0 < s.kc ? K - k0 : s.kc, units = k_units(kc, unit);
            size_t row = (size_t)panel_units(kc, unit), slab_stride = row * (size_t)kept_tile,
                   strip_stride = row * (size_t)passing_tile;
            pack_operand(slab, slab_stride, kept, b0, b1, k0, kc, keep_a, unit);
            for (int s0 = passing_first; s0 < passing_last; s0 += s.strip) { // loop 3 (mc)
                int s1 = passing_last - s0 < s.strip ? passing_last : s0 + s.strip;
                pack_operand(strip, strip_stride, passing, s0, s1, k0, kc, !keep_a, unit);
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
                        Target tile = {out, init, bias, to.ld};
                        if (unit == UNIT_TILES) tile_of_amx(tile, a_panel, b_panel, units, rows, columns, cpu);
                        else if (unit == UNIT_MMLA) tile_of_mmla(tile, a_panel, b_panel, units, rows, columns);
                        else if (rows >= TILE_M && columns >= TILE_N) {
                            vreal sums[TILE_M][TILE_V];
                            tile_product(sums, a_panel, b_panel, units, 0, TILE_V, unit == UNIT_DOTS, out, to.ld);
                            tile_store(sums, tile, TILE_M, TILE_N);
                        } else tile_at_edge(tile, a_panel, b_panel, units, rows, columns, unit == UNIT_DOTS);
                    }
                }
            }
        }
    }
}

// Each unit's code is made once for each side that is kept.
#define GEMM_PART(NAME, UNIT)                                                                                          \
    static inline void NAME(Target to, Operand A, Operand B, int m_first, int m_last, int n_first, int n_last, int K,  \
                            Blocking s, real *packed, const Cpu *cpu) {                                                \
        if (s.keep_a) gemm_part(to, A, B, m_first, m_last, n_first, n_last, K, s, packed, cpu, UNIT, true);            \
        else gemm_part(to, A, B, m_first, m_last, n_first, n_last, K, s, packed, cpu, UNIT, false);                    \
    }
GEMM_PART(gemm_part_vectors, UNIT_VECTORS)
#ifdef BF16_DOTS
GEMM_PART(gemm_part_dots, UNIT_DOTS)
#endif
GEMM_PART(gemm_part_tiles, UNIT_TILES)
#ifdef BF16_MATRIX
GEMM_PART(gemm_part_mmla, UNIT_MMLA)
#endif
#undef GEMM_PART

static inline void gemm(Target to, Operand A, Operand B, int M, int N, int K, Cpu *cpu) {
    int threads = cpu->threads, tile_m = unit_rows(cpu->unit), tile_n = unit_columns(cpu->unit),
        grid_rows = gemm_grid_rows(threads, M, N, cpu->unit), grid_columns = threads / grid_rows;
    int m_part = ceil_divide(ceil_divide(M, tile_m), grid_rows) * tile_m,
        n_part = ceil_divide(ceil_divide(N, tile_n), grid_columns) * tile_n;
    Blocking s = gemm_blocking(m_part, n_part, K, threads, cpu);
    size_t packed_size = s.slab_size + s.strip_size + PACK_AHEAD / sizeof(real);
    real *packed = (real *)cpu_workspace(cpu, sizeof(real) * packed_size * (size_t)threads);
    OMP(parallel for num_threads(threads) schedule(static, 1))
    for (int part = 0; part < threads; part++) {
        int row = part % grid_rows, column = part / grid_rows;
        int m_first = (int)cpu_chunk(M, tile_m, grid_rows, row), m_last = (int)cpu_chunk(M, tile_m, grid_rows, row + 1);
        int n_first = (int)cpu_chunk(N, tile_n, grid_columns, column),
            n_last = (int)cpu_chunk(N, tile_n, grid_columns, column + 1);
        real *own = packed + (size_t)part * packed_size;
        if (cpu->unit == UNIT_TILES) {
            amx_begin(cpu->emulated);
            gemm_part_tiles(to, A, B, m_first, m_last, n_first, n_last, K, s, own, cpu);
            amx_end(cpu->emulated);
            continue;
        }
#ifdef BF16_DOTS
        if (cpu->unit == UNIT_DOTS) {
            gemm_part_dots(to, A, B, m_first, m_last, n_first, n_last, K, s, own, cpu);
            continue;
        }
#endif
#ifdef BF16_MATRIX
        if (cpu->unit == UNIT_MMLA) {
            gemm_part_mmla(to, A, B, m_first, m_last, n_first, n_last, K, s, own, cpu);
            continue;
        }
#endif
        gemm_part_vectors(to, A, B, m_first, m_last, n_first, n_last, K, s, own, cpu);
    }
    if (cpu->between_kernels) cpu->between_kernels(cpu->between_context);
}

// ---------------------------------------------------------------- few rows

// Output o of `rows` rows (a constant) of y. One row of w at a time, in one stream that goes on with the
// next row: four rows at a time, or with prefetches into L1, it read a third slower.
ALWAYS_INLINE void few_rows_dots(real *y, const real *x, Matrix w, const real *b, const real *residual, LinearShape s,
                                 int o, int rows, bool half) {
    size_t C = (size_t)s.C, wr = (size_t)o * C, c = 0;
    vreal sums[LINEAR_ROWS][4];
    UNROLL
    for (int n = 0; n < rows; n++) {
        UNROLL
        for (int j = 0; j < 4; j++) sums[n][j] = (vreal){0};
    }
    size_t size = half ? sizeof *w.half : sizeof *w.full;
    const char *ahead = (half ? (const char *)w.half : (const char *)w.full) + wr * size + ROWS_AHEAD;
    for (; c + 4 * VL <= C; c += 4 * VL) {
        for (size_t j = 0; j < 4 * VL * size; j += 64) __builtin_prefetch(ahead + c * size + j, 0, 2);
        UNROLL
        for (int j = 0; j < 4; j++) {
            vreal wv = half ? half_load(w.half + wr + c + j * VL) : vload(w.full + wr + c + j * VL);
            UNROLL
            for (int n = 0; n < rows; n++) sums[n][j] += vload(x + (size_t)n * C + c + j * VL) * wv;
        }
    }
    UNROLL
    for (int n = 0; n < rows; n++) {
        vreal v = sums[n][0] + sums[n][1] + (sums[n][2] + sums[n][3]);
        for (size_t k = c; k < C; k += VL) {
            int have = (int)(C - k);
            vreal wv = half ? half_load_up_to(w.half + wr + k, have) : load_up_to(w.full + wr + k, have);
            v += load_up_to(x + (size_t)n * C + k, have) * wv;
        }
        real sum = vsum(v);
        size_t at = (size_t)n * (size_t)s.OC + (size_t)o;
        if (b) sum += b[o];
        y[at] = residual ? residual[at] + sum : sum;
    }
}
// The same of all rows. A row of w comes from L1 the second time; sums of a row of x are the same beside any others.
ALWAYS_INLINE void few_rows_output(real *y, const real *x, Matrix w, const real *b, const real *residual, LinearShape s,
                                   int o, bool half) {
    for (int n = 0; n < s.N; n += LINEAR_ROWS, x += LINEAR_ROWS * (size_t)s.C, y += LINEAR_ROWS * (size_t)s.OC) {
        const real *add = residual ? residual + (size_t)n * (size_t)s.OC : NULL;
        if (s.N - n == 1) few_rows_dots(y, x, w, b, add, s, o, 1, half);
        else if (s.N - n == 2) few_rows_dots(y, x, w, b, add, s, o, 2, half);
        else if (s.N - n == 3) few_rows_dots(y, x, w, b, add, s, o, 3, half);
        else few_rows_dots(y, x, w, b, add, s, o, LINEAR_ROWS, half);
    }
}

// N <= LINEAR_FEW_ROWS (matrix-vector): w is read once, in its own order, and nothing is packed. x and sums are fp32
// even with bf16 products: it is bound by memory, by reading w.
static inline void linear_few_rows(real *y, const real *x, Matrix w, const real *b, const real *residual, LinearShape s,
                                   Cpu *cpu) {
    size_t C = cpu_align((size_t)s.C);
    real *rows = w.codes ? (real *)cpu_workspace(cpu, sizeof(real) * C * (size_t)cpu->threads) : NULL;
    OMP(parallel for num_threads(cpu->threads) schedule(dynamic, 32))
    for (int o = 0; o < s.OC; o++) { // dynamic: cores do not get equal shares of the memory's bandwidth
        if (w.codes) {               // a row of codes becomes numbers, and the one row of a matrix
            real *row = rows + C * (size_t)this_thread();
            codes_read(row, w.codes, (size_t)o * (size_t)s.C, (size_t)s.C);
            few_rows_output(y + o, x, matrix_of(row), b ? b + o : NULL, residual ? residual + o : NULL, s, 0, false);
        } else if (w.half) few_rows_output(y, x, w, b, residual, s, o, true);
        else few_rows_output(y, x, w, b, residual, s, o, false);
    }
    (void)cpu;
}

// ---------------------------------------------------------------- the three products of a linear layer

// y (N, OC) = x (N, C) w (OC, C)^T + b (OC) + residual (N, OC); b and residual may be NULL, residual may be y
static inline void linear_forward(real *y, const real *x, Matrix w, const real *b, const real *residual, LinearShape s,
                                  Cpu *cpu) {
    if (s.N <= LINEAR_FEW_ROWS) {
        linear_few_rows(y, x, w, b, residual, s, cpu);
        return;
    }
    Target to = {y, residual, b, (size_t)s.OC};
    Operand A = {x, (size_t)s.C, LAYOUT_ALONG_K}, B = operand_of(w, (size_t)s.C);
    gemm(to, A, B, s.N, s.OC, s.C, cpu);
}

// dx (N, C) = dy (N, OC) w (OC, C), which must not be bf16
static inline void linear_backward_input(real *dx, const real *dy, Matrix w, LinearShape s, Cpu *cpu) {
    Target to = {dx, NULL, NULL, (size_t)s.C};
    Operand A = {dy, (size_t)s.OC, LAYOUT_ALONG_K}, B = operand_across(w, (size_t)s.C);
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
    Operand A = {dy, (size_t)OC, LAYOUT_ACROSS_K}, B = {x, (size_t)s.C, LAYOUT_ACROSS_K};
    gemm(to, A, B, OC, s.C, N, cpu);
}

#endif
