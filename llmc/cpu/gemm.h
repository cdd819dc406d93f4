/*
gemm.h: linear layers, forward and the two backward forms, at the speed of the machine's FMA units.

    linear_forward           y  (N, OC)  = x w^T + b + residual
    linear_backward_input    dx (N, C)   = dy w              (or +=)
    linear_backward_weight   dw (OC, C) += dy^T x,  db (OC) += column sums of dy

All are one product out (M, N) = A (M, K) B (K, N), where each operand may lie in memory either way.
It is computed after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
(2008), and Van Zee and van de Geijn, "BLIS" (2015): pieces of A and B are copied ("packed") into the
order in which the innermost loop reads them, in sizes that stay in a cache, and the innermost loop
holds a tile of the result in registers. The loops, from outside:

    5  rows of A in blocks of `m_block`: their packed form stays in a share of the L3 cache
    4  K in blocks of K_BLOCK: a packed panel of A (TILE_M x K_BLOCK) takes half of L1
    3  columns of B in strips: a packed strip (K_BLOCK x n_strip) takes a part of L2
    2  panels of A: one goes to L1 and stays there for
    1  panels of B in the strip, streamed from L2
    0  K: TILE_M x TILE_V vector FMAs an iteration (tile_product)

Threads form a grid over rows and columns of the result, chosen for even work. A is packed by all of
them, a strip of B by those that share it.

Bits do not depend on threads or on the caches: an output element is the sum over loop 4's blocks of
sums over k in order, and K_BLOCK is a constant of the build.

With cpu->bf16, packing rounds both operands to bf16 (to nearest even) in pairs along K, and the
innermost loop uses the CPU's dot product of pairs with fp32 sums; everything else is the same code.
Few rows (generation) take another way, linear_few_rows, which reads the weights once, as they lie.
*/
#ifndef LLMC_CPU_GEMM_H
#define LLMC_CPU_GEMM_H

#include "cpu.h"

// ---------------------------------------------------------------- tile and blocks

// The tile in registers: TILE_M x TILE_V vectors of sums, TILE_V of B, one broadcast number of A.
// 8 x 3 + 3 + 1 = 28 of the 32 registers of AVX-512 and NEON; 4 x 3 + 3 + 1 = 16 of AVX2's 16.
// 24 (12) independent sums are more than enough for an FMA latency of 4 on 2 units, and an iteration
// has 24 FMAs for 11 loads (12 for 7), so that loads never limit.
#if defined(__AVX512F__) || defined(__aarch64__)
enum { TILE_M = 8 };
#else
enum { TILE_M = 4 };
#endif
enum { TILE_V = 3, TILE_N = TILE_V * VL };

// Tunable. Bytes of one panel of A = half of a 32 KiB L1 cache; the rest is for the panel of B that
// streams by. A constant, so that results do not depend on the machine that runs the program.
enum { K_BLOCK = (16 << 10) / (TILE_M * (int)sizeof(real)) / VL * VL };

enum { LINEAR_FEW_ROWS = 4 }; // up to here linear_forward is bound by reading w

typedef struct {
    const real *data;
    size_t ld;         // numbers from one row in memory to the next
    bool k_contiguous; // element (i, k) is data[i*ld + k], otherwise data[k*ld + i]
} Operand;             // i is a row of A or a column of B

#define ALWAYS_INLINE static inline __attribute__((always_inline))

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

// panel (units, width) = rows i0 .. i0+count of the operand, columns k0 .. k0+kc; rows past count are
// zero. width is TILE_M or TILE_N, a constant.
ALWAYS_INLINE void pack_panel(real *panel, Operand from, int i0, int count, int k0, int kc, int width, bool bf16) {
    int units = k_units(kc, bf16), per_unit = bf16 ? 2 : 1;
    if (from.k_contiguous) {
        int group = width < VL ? width : VL; // rows that are transposed together
        for (int g = 0; g < width; g += group) {
            const real *row = from.data + (size_t)(i0 + g) * from.ld + k0;
            for (int u = 0; u < units; u += VL) {
                vreal r[VL > TILE_M ? VL : TILE_M];
                int k = u * per_unit, left = kc - k;
                bool whole = left >= VL * per_unit && g + group <= count;
                for (int i = 0; i < group; i++) {
                    const real *at = row + (size_t)i * from.ld + k;
                    if (whole) r[i] = bf16 ? bf16_pairs(vload(at), vload(at + VL)) : vload(at);
                    else if (g + i >= count) r[i] = (vreal){0};
                    else {
                        vreal low = vload_part(at, left < VL ? left : VL);
                        if (bf16) {
                            int more = left - VL < 0 ? 0 : left - VL < VL ? left - VL : VL;
                            r[i] = bf16_pairs(low, vload_part(at + (more ? VL : 0), more));
                        } else r[i] = low;
                    }
                }
                transpose_rows(r, group);
                // r is now (VL, group): a vector holds VL/group units of `group` rows.
                for (int i = 0; i < group; i++) vstore(panel + (size_t)u * width + (size_t)(i * VL / group) * width + (size_t)(i * VL % group) + g, r[i]);
            }
        }
    } else {
        const real *at = from.data + (size_t)k0 * from.ld + i0;
        for (int u = 0; u < units; u++, panel += width, at += from.ld * (size_t)per_unit) {
            bool two = bf16 && 2 * u + 1 < kc;
            for (int g = 0; g < width; g += VL) {
                int n = width - g < VL ? width - g : VL; // TILE_M may be less than a vector
                int have = count - g < 0 ? 0 : count - g < n ? count - g : n;
                vreal a, b = {0};
                if (have == VL) {
                    a = vload(at + g);
                    if (two) b = vload(at + from.ld + g);
                } else {
                    a = vload_part(at + g, have);
                    if (two) b = vload_part(at + from.ld + g, have);
                }
                if (bf16) a = bf16_merge(a, b);
                if (n == VL) vstore(panel + g, a);
                else vstore_part(panel + g, a, n);
            }
        }
    }
}

// ---------------------------------------------------------------- the micro-kernel

// sums (TILE_M, TILE_V) = panel of A (units, TILE_M), transposed, times panel of B (units, TILE_N)
ALWAYS_INLINE void tile_product(vreal sums[TILE_M][TILE_V], const real *a, const real *b, int units, bool bf16) {
    vreal s[TILE_M][TILE_V];
    UNROLL
    for (int i = 0; i < TILE_M; i++)
        for (int j = 0; j < TILE_V; j++) s[i][j] = (vreal){0};
    for (int k = 0; k < units; k++, a += TILE_M, b += TILE_N) { // loop 0
        vreal bv[TILE_V];
        UNROLL
        for (int j = 0; j < TILE_V; j++) bv[j] = vload(b + j * VL);
        UNROLL
        for (int i = 0; i < TILE_M; i++) {
            vreal av = vset(a[i]);
            UNROLL
            for (int j = 0; j < TILE_V; j++) s[i][j] = bf16 ? bf16_dot(s[i][j], av, bv[j]) : s[i][j] + av * bv[j];
        }
    }
    UNROLL
    for (int i = 0; i < TILE_M; i++)
        for (int j = 0; j < TILE_V; j++) sums[i][j] = s[i][j];
}

// out (rows, columns) = sums + bias + init, where bias (columns) and init (rows, columns) may be NULL
ALWAYS_INLINE void tile_store(vreal sums[TILE_M][TILE_V], real *out, const real *init, const real *bias, size_t ld, int rows, int columns) {
    for (int i = 0; i < TILE_M; i++) {
        if (i >= rows) break;
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

// ---------------------------------------------------------------- the product

typedef struct {
    real *out;        // (M, N), ld apart
    const real *init; // (M, N), ld apart, added; NULL: nothing; may be out
    const real *bias; // (N), added to each row; NULL: nothing
    size_t ld;
} Target;

typedef struct {
    int m_block; // rows of A that are packed at a time, a multiple of TILE_M
    int n_strip; // columns of B that one thread packs at a time, a multiple of TILE_N
    int k_block, k_blocks;
    int units;   // k_block in units of a packed panel
    size_t a_size, b_size; // numbers in a packed block of A and a packed strip of B
} Blocking;

static inline int ceil_divide(int a, int b) { return (a + b - 1) / b; }

static inline Blocking gemm_blocking(int M, int N, int K, bool bf16, const Cpu *cpu) {
    Blocking s;
    int k_max = bf16 ? 2 * K_BLOCK : K_BLOCK;
    s.k_blocks = ceil_divide(K, k_max);
    s.k_block = ceil_divide(ceil_divide(K, s.k_blocks), 2 * VL) * 2 * VL; // even blocks, whole vectors of pairs
    if (s.k_block > k_max) s.k_block = k_max;
    s.k_blocks = ceil_divide(K, s.k_block);
    s.units = panel_units(s.k_block, bf16);
    size_t column = (size_t)s.units * sizeof(real); // bytes of one packed row of A or column of B
    // L2 holds the strip in use and the one that is prefetched, and a quarter remains.
    int n_most = (int)(cpu->l2 * 3 / 8 / column) / TILE_N;
    s.n_strip = (n_most < 1 ? 1 : n_most) * TILE_N;
    if (s.n_strip > ceil_divide(N, TILE_N) * TILE_N) s.n_strip = ceil_divide(N, TILE_N) * TILE_N;
    // The packed block of A may take half of L3; blocks of even size.
    int m_most = (int)(cpu->l3 / 2 / column) / TILE_M * TILE_M;
    if (m_most < 32 * TILE_M) m_most = 32 * TILE_M;
    s.m_block = ceil_divide(ceil_divide(M, ceil_divide(M, m_most)), TILE_M) * TILE_M;
    s.a_size = (size_t)s.m_block * (size_t)s.units;
    s.b_size = (size_t)s.n_strip * (size_t)s.units;
    return s;
}

// Threads as a grid of rows x columns: the one whose busiest thread has the fewest tiles; of equals
// the one with the most columns, since threads of one column share strips of B and wait for each other.
static inline int gemm_grid_rows(int threads, int m_panels, int n_panels) {
    int best = 1;
    int64_t least = INT64_MAX;
    for (int rows = 1; rows <= threads; rows++) {
        if (threads % rows) continue;
        int64_t work = (int64_t)ceil_divide(m_panels, rows) * ceil_divide(n_panels, threads / rows);
        if (work < least) {
            least = work;
            best = rows;
        }
    }
    return best;
}

// What one thread of `threads` does. a_packed: 2 blocks of A, used in turn, shared; b_packed: 2 strips
// of B for each column of the grid.
ALWAYS_INLINE void gemm_thread(Target to, Operand A, Operand B, int M, int N, int K, Blocking s, int thread, int threads, real *a_packed, real *b_packed, bool bf16) {
    int grid_rows = gemm_grid_rows(threads, ceil_divide(M < s.m_block ? M : s.m_block, TILE_M), ceil_divide(N, TILE_N)), grid_columns = threads / grid_rows;
    int row = thread % grid_rows, column = thread / grid_rows;
    int n_first = (int)cpu_chunk(N, TILE_N, grid_columns, column), n_last = (int)cpu_chunk(N, TILE_N, grid_columns, column + 1);
    // Every column of the grid has the same number of strips, so that all threads meet at all barriers.
    int strips = ceil_divide(ceil_divide(ceil_divide(N, TILE_N), grid_columns) * TILE_N, s.n_strip);
    int turn_a = 0, turn_b = 0;
    for (int m0 = 0; m0 < M; m0 += s.m_block) { // loop 5
        int m1 = m0 + s.m_block < M ? m0 + s.m_block : M;
        int m_first = m0 + (int)cpu_chunk(m1 - m0, TILE_M, grid_rows, row), m_last = m0 + (int)cpu_chunk(m1 - m0, TILE_M, grid_rows, row + 1);
        for (int k0 = 0; k0 < K; k0 += s.k_block) { // loop 4
            int kc = K - k0 < s.k_block ? K - k0 : s.k_block, units = k_units(kc, bf16), stride = panel_units(kc, bf16);
            real *a_block = a_packed + (size_t)turn_a * s.a_size;
            turn_a = !turn_a;
            int a_end = m0 + (int)cpu_chunk(m1 - m0, TILE_M, threads, thread + 1);
            for (int i = m0 + (int)cpu_chunk(m1 - m0, TILE_M, threads, thread); i < a_end; i += TILE_M)
                pack_panel(a_block + (size_t)(i - m0) * (size_t)stride, A, i, M - i < TILE_M ? M - i : TILE_M, k0, kc, TILE_M, bf16);
            OMP(barrier)
            for (int strip = 0; strip < strips; strip++) { // loop 3
                int j0 = n_first + (int)cpu_chunk(n_last - n_first, TILE_N, strips, strip), j1 = n_first + (int)cpu_chunk(n_last - n_first, TILE_N, strips, strip + 1);
                real *b_strip = b_packed + ((size_t)column * 2 + (size_t)turn_b) * s.b_size;
                turn_b = !turn_b;
                int b_end = j0 + (int)cpu_chunk(j1 - j0, TILE_N, grid_rows, row + 1);
                for (int j = j0 + (int)cpu_chunk(j1 - j0, TILE_N, grid_rows, row); j < b_end; j += TILE_N)
                    pack_panel(b_strip + (size_t)(j - j0) * (size_t)stride, B, j, N - j < TILE_N ? N - j : TILE_N, k0, kc, TILE_N, bf16);
                if (grid_rows > 1) {
                    OMP(barrier)
                }
                for (int i = m_first; i < m_last; i += TILE_M) { // loop 2
                    const real *a_panel = a_block + (size_t)(i - m0) * (size_t)stride;
                    for (int j = j0; j < j1; j += TILE_N) { // loop 1
                        size_t at = (size_t)i * to.ld + (size_t)j;
                        real *out = to.out + at;
                        for (int r = 0; r < TILE_M; r++)
                            for (int c = 0; c < TILE_N; c += 64 / (int)sizeof(real)) __builtin_prefetch(out + (size_t)r * to.ld + c, 1);
                        vreal sums[TILE_M][TILE_V];
                        tile_product(sums, a_panel, b_strip + (size_t)(j - j0) * (size_t)stride, units, bf16);
                        int rows = M - i, columns = N - j;
                        const real *init = k0 > 0 ? out : to.init ? to.init + at : NULL, *bias = k0 == 0 && to.bias ? to.bias + j : NULL;
                        if (rows >= TILE_M && columns >= TILE_N) tile_store(sums, out, init, bias, to.ld, TILE_M, TILE_N);
                        else tile_store(sums, out, init, bias, to.ld, rows, columns);
                    }
                }
            }
        }
    }
}

static inline void gemm_thread_real(Target to, Operand A, Operand B, int M, int N, int K, Blocking s, int thread, int threads, real *a_packed, real *b_packed) {
    gemm_thread(to, A, B, M, N, K, s, thread, threads, a_packed, b_packed, false);
}
static inline void gemm_thread_bf16(Target to, Operand A, Operand B, int M, int N, int K, Blocking s, int thread, int threads, real *a_packed, real *b_packed) {
#ifdef BF16_PRODUCTS
    gemm_thread(to, A, B, M, N, K, s, thread, threads, a_packed, b_packed, true);
#else
    gemm_thread(to, A, B, M, N, K, s, thread, threads, a_packed, b_packed, false); // cpu_open does not let it come to this
#endif
}

static inline void gemm(Target to, Operand A, Operand B, int M, int N, int K, Cpu *cpu) {
    if (M <= 0 || N <= 0) return;
    Blocking s = gemm_blocking(M, N, K, cpu->bf16, cpu);
    real *packed = (real *)cpu_workspace(cpu, sizeof(real) * (2 * s.a_size + 2 * s.b_size * (size_t)cpu->threads));
    OMP(parallel num_threads(cpu->threads))
    {
#ifdef _OPENMP
        int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#else
        int thread = 0, threads = 1;
#endif
        if (cpu->bf16) gemm_thread_bf16(to, A, B, M, N, K, s, thread, threads, packed, packed + 2 * s.a_size);
        else gemm_thread_real(to, A, B, M, N, K, s, thread, threads, packed, packed + 2 * s.a_size);
    }
}

// ---------------------------------------------------------------- few rows

// `rows` rows (a constant) of y, `step` neighbouring outputs at a time.
ALWAYS_INLINE void few_rows_dots(real *y, const real *x, const real *w, const real *b, const real *residual, int C, int OC, int o, int rows, int step) {
    vreal s[LINEAR_FEW_ROWS][4];
    for (int n = 0; n < rows; n++)
        for (int j = 0; j < step; j++) s[n][j] = (vreal){0};
    int whole = C / VL * VL;
    const real *wr = w + (size_t)o * C;
    for (int c = 0; c < whole; c += VL)
        for (int j = 0; j < step; j++) {
            vreal wv = vload(wr + (size_t)j * C + c);
            for (int n = 0; n < rows; n++) s[n][j] += vload(x + (size_t)n * C + c) * wv;
        }
    for (int j = 0; j < step; j++)
        for (int n = 0; n < rows; n++) {
            vreal v = s[n][j];
            if (whole < C) v += vload_part(x + (size_t)n * C + whole, C - whole) * vload_part(wr + (size_t)j * C + whole, C - whole);
            real sum = vsum(v);
            size_t at = (size_t)n * OC + (size_t)(o + j);
            if (b) sum += b[o + j];
            y[at] = residual ? residual[at] + sum : sum;
        }
}

// N <= LINEAR_FEW_ROWS: w is read once, in its own order, and nothing is packed. fp32 even with bf16
// products: reading w is the limit, not arithmetic.
static inline void linear_few_rows(real *y, const real *x, const real *w, const real *b, const real *residual, int N, int C, int OC, Cpu *cpu) {
    int steps = OC / 4;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int i = 0; i < steps; i++) {
        if (N == 1) few_rows_dots(y, x, w, b, residual, C, OC, i * 4, 1, 4);
        else if (N == 2) few_rows_dots(y, x, w, b, residual, C, OC, i * 4, 2, 4);
        else if (N == 3) few_rows_dots(y, x, w, b, residual, C, OC, i * 4, 3, 4);
        else few_rows_dots(y, x, w, b, residual, C, OC, i * 4, 4, 4);
    }
    for (int o = steps * 4; o < OC; o++)
        for (int n = 0; n < N; n++) few_rows_dots(y + (size_t)n * OC, x + (size_t)n * C, w, b, residual ? residual + (size_t)n * OC : NULL, C, OC, o, 1, 1);
    (void)cpu;
}

// ---------------------------------------------------------------- the three products of a linear layer

// y (N, OC) = x (N, C) w (OC, C)^T + b (OC) + residual (N, OC); b and residual may be NULL, residual may be y
static inline void linear_forward(real *y, const real *x, const real *w, const real *b, const real *residual, int N, int C, int OC, Cpu *cpu) {
    if (N <= LINEAR_FEW_ROWS) {
        linear_few_rows(y, x, w, b, residual, N, C, OC, cpu);
        return;
    }
    Target to = {y, residual, b, (size_t)OC};
    Operand A = {x, (size_t)C, true}, B = {w, (size_t)C, true};
    gemm(to, A, B, N, OC, C, cpu);
}

// dx (N, C) = dy (N, OC) w (OC, C), or += where accumulate
static inline void linear_backward_input(real *dx, const real *dy, const real *w, bool accumulate, int N, int C, int OC, Cpu *cpu) {
    Target to = {dx, accumulate ? dx : NULL, NULL, (size_t)C};
    Operand A = {dy, (size_t)OC, true}, B = {w, (size_t)C, false};
    gemm(to, A, B, N, C, OC, cpu);
}

// dw (OC, C) += dy (N, OC)^T x (N, C), db (OC) += column sums of dy; db may be NULL
static inline void linear_backward_weight(real *dw, real *db, const real *dy, const real *x, int N, int C, int OC, Cpu *cpu) {
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
    Target to = {dw, dw, NULL, (size_t)C};
    Operand A = {dy, (size_t)OC, false}, B = {x, (size_t)C, false};
    gemm(to, A, B, OC, C, N, cpu);
}

#endif
