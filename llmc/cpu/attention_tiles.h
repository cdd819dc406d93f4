/*
attention_tiles.h: the passes of attention.h on the tile unit (amx.h), for bf16.

Products take bf16 operands and sum in fp32; maximum, exponential and sums are fp32. What lies in vectors are the
queries, in both passes: tiles of scores are (keys, queries). Then no product needs a transposition of what was just
computed, since a tile of the right operand is pairs of rows, and one of the left is rows of pairs:

    forward     S^T = K Q^T           P^T = exp(S^T - m)            O^T (HS, queries) += V^T P^T
    backward    S^T = K Q^T           P^T = exp(S^T - lse)          dV (keys, HS) += P^T dO
                dP^T = V dO^T         dS^T = P^T (dP^T - delta)     dK (keys, HS) += dS^T Q
                                                                    dQ^T (HS, queries) += K^T dS^T

Blocks of 32 keys and 32 queries that the causal mask, the borders of documents or a window hide are left out; those of
which a part is hidden are computed and masked.
*/
#ifndef LLMC_CPU_ATTENTION_TILES_H
#define LLMC_CPU_ATTENTION_TILES_H

#include "../model.h"
#include "heads.h"

#ifdef REAL_DOUBLE // tiles are of bf16
static inline void attention_tiles_forward(real *out, real *lse, Heads in, AttentionShape s, Cpu *cpu) {
    (void)out, (void)lse, (void)in, (void)s, (void)cpu;
}
static inline void attention_tiles_backward(Heads d, const real *dout, const real *out, const real *lse, Heads in,
                                            AttentionShape shape, Cpu *cpu) {
    (void)d, (void)dout, (void)out, (void)lse, (void)in, (void)shape, (void)cpu;
}
#else

enum {
    TILES_N = AMX_BLOCK,                 // queries, or keys, of a block
    TILES_V = TILES_N / VL,              // its vectors
    TILES_KEYS = 128,                    // tunable: keys, and in the backward pass queries, whose P exists at a time
    TILES_SIDE = TILES_KEYS / AMX_BLOCK, // blocks of them
    TILES_BLOCK = AMX_BLOCK * AMX_BLOCK, // numbers of a block of sums
    TILES_PANEL = AMX_BLOCK * AMX_K / 2, // numbers, each a pair, of a panel for one tile of k
    TILES_TILE = AMX_TILE / (int)sizeof(real), // of a tile
};

// x (32 rows of k, 32 queries), ld numbers apart -> one k-tile of a right operand: pairs of rows.
ALWAYS_INLINE void tiles_of_rows(real *to, const real *x, size_t ld) {
    for (int k = 0; k < AMX_K; k += 2)
        for (int j = 0; j < TILES_V; j++) {
            vreal v = bf16_merge(vload(x + (size_t)k * ld + j * VL), vload(x + (size_t)(k + 1) * ld + j * VL));
            int column = j * VL;
            vstore(to + column / AMX_ROWS * TILES_TILE + k / 2 * AMX_ROWS + column % AMX_ROWS, v);
        }
}
// x (32 rows, 32 of k), ld numbers apart -> one k-tile of a left operand: rows of pairs.
ALWAYS_INLINE void tiles_along_rows(real *to, const real *x, size_t ld) {
    for (int i = 0; i < AMX_BLOCK; i++)
        for (int p = 0; p < AMX_ROWS; p += VL)
            vstore(to + i * AMX_ROWS + p,
                   bf16_pairs(vload(x + (size_t)i * ld + 2 * p), vload(x + (size_t)i * ld + 2 * p + VL)));
}

// Sizes, in numbers, of one head's packed operands: T and HS in whole blocks.
typedef struct {
    int t_blocks, hs_blocks;
    size_t t_rows, hs_rows, panels; // panels: of either operand, T x HS
} TilesShape;

static inline TilesShape tiles_shape(int T, int HS) {
    TilesShape s;
    s.t_blocks = ceil_divide(T, AMX_BLOCK), s.hs_blocks = ceil_divide(HS, AMX_BLOCK);
    s.t_rows = (size_t)s.t_blocks * AMX_BLOCK, s.hs_rows = (size_t)s.hs_blocks * AMX_BLOCK;
    s.panels = s.t_rows * s.hs_rows / 2;
    return s;
}

// Rows (T, HS) of one head as panels. along: k is HS, a panel is 32 tokens; else k is T, a panel is 32 of HS.
static inline void tiles_pack(real *to, Rows x, int T, int HS, bool along, bool of_a) {
    Operand from = {x.at, (size_t)x.ld, along ? LAYOUT_ALONG_K : LAYOUT_ACROSS_K};
    TilesShape s = tiles_shape(T, HS);
    if (along) pack_tiles(to, (size_t)s.hs_blocks * TILES_PANEL, from, 0, T, 0, HS, of_a);
    else pack_tiles(to, (size_t)s.t_blocks * TILES_PANEL, from, 0, HS, 0, T, of_a);
}

// out (32, 32) (+)= panels a, b from k-tile `first` on, `count` of them.
ALWAYS_INLINE void tiles_product(real *out, bool add, const real *a, const real *b, int first, int count,
                                 const Cpu *cpu) {
    amx_block(cpu->emulated, out, AMX_BLOCK, add ? out : NULL, (const char *)(a + first * TILES_PANEL),
              (const char *)(b + first * TILES_PANEL), count);
}

// ---------------------------------------------------------------- forward

// At most 32 queries of one head. kp: K (T/32 panels along HS), and behind it V^T (HS/32 panels along T). scratch:
// (TILES_KEYS, 32) scores, their pairs, Q^T, O^T.
static inline void attention_tiles_block(Rows out, real *lse, Rows q, const real *kp, QueryBlock block,
                                         AttentionShape shape, real *scratch, const Cpu *cpu) {
    int HS = shape.HS, count = block.count, limit = shape.Tkv - shape.Tq + block.t;
    TilesShape size = tiles_shape(shape.Tkv, HS);
    const real *vp = kp + size.panels;
    real *s = scratch, *p = s + TILES_KEYS * TILES_N, *qt = p + TILES_KEYS * TILES_N / 2,
         *ot = qt + size.hs_rows * TILES_N / 2;
    Operand Q = {q.at, (size_t)q.ld, LAYOUT_ALONG_K};
    pack_tiles(qt, 0, Q, 0, count, 0, HS, false);
    memset(ot, 0, sizeof(real) * size.hs_rows * TILES_N);
    Softmax x[TILES_V];
    vreal scale = vset((real)shape.scale);
    vint first[TILES_V] = {{0}}, last[TILES_V] = {{0}}; // of each query: the keys it sees
    block_firsts(first, TILES_V, block, shape);
    for (int j = 0; j < TILES_V; j++) {
        x[j] = (Softmax){vset((real)SCORE_LEAST), {0}};
        for (int i = 0; i < VL; i++) last[j][i] = limit + j * VL + i;
    }
    // Keys that any of them sees, in whole panels; and from where on all see them.
    int begin = attention_first(shape, block.b, block.t) / AMX_BLOCK * AMX_BLOCK, end = limit + count,
        all_first = attention_first(shape, block.b, block.t + count - 1);
    for (int k0 = begin; k0 < end; k0 += TILES_KEYS) {
        int keys = end - k0 < TILES_KEYS ? (int)round_up((size_t)(end - k0), AMX_BLOCK) : TILES_KEYS;
        vreal top[TILES_V];
        for (int j = 0; j < TILES_V; j++) top[j] = x[j].m;
        for (int k = 0; k < keys; k += AMX_BLOCK) {
            real *at = s + k * TILES_N;
            tiles_product(at, false, kp + (size_t)(k0 + k) / AMX_BLOCK * (size_t)size.hs_blocks * TILES_PANEL, qt, 0,
                          size.hs_blocks, cpu);
            bool masked = k0 + k + AMX_BLOCK - 1 > limit || k0 + k < all_first;
            for (int i = 0; i < AMX_BLOCK; i++)
                for (int j = 0; j < TILES_V; j++) {
                    vreal v = vload(at + i * TILES_N + j * VL) * scale;
                    int key = k0 + k + i;
                    if (masked) v = vselect((last[j] >= key) & (first[j] <= key), v, vset(-(real)INFINITY));
                    top[j] = vmax(v, top[j]);
                    vstore(at + i * TILES_N + j * VL, v);
                }
        }
        for (int j = 0; j < TILES_V; j++)
            softmax_step(&x[j], top[j], s + j * VL, keys, ot + j * VL, size.hs_rows, TILES_N);
        for (int k = 0; k < keys; k += AMX_K) tiles_of_rows(p + k / AMX_K * TILES_PANEL, s + k * TILES_N, TILES_N);
        for (int d = 0; d < size.hs_blocks; d++)
            tiles_product(ot + (size_t)d * TILES_BLOCK, true,
                          vp + ((size_t)d * (size_t)size.t_blocks + (size_t)(k0 / AMX_K)) * TILES_PANEL, p, 0,
                          keys / AMX_K, cpu);
    }
    softmax_store(out, lse, x, ot, TILES_N, HS, count);
}

// As attention_forward.
static inline void attention_tiles_forward(real *out, real *lse, Heads in, AttentionShape s, Cpu *cpu) {
    int B = s.B, Tq = s.Tq, Tkv = s.Tkv, NH = s.NH, NKV = s.NKV, HS = s.HS;
    TilesShape size = tiles_shape(Tkv, HS);
    size_t head = 2 * size.panels;
    size_t own =
        cpu_align(sizeof(real) * (TILES_KEYS * TILES_N * 3 / 2 + size.hs_rows * TILES_N * 3 / 2) + PACK_AHEAD) /
        sizeof(real);
    real *packed =
        (real *)cpu_workspace(cpu, sizeof(real) * (head * (size_t)B * (size_t)NKV + own * (size_t)cpu->threads));
    real *scratch = packed + head * (size_t)B * (size_t)NKV;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int i = 0; i < B * NKV; i++) {
        Rows k = {head_at(in.k, i / NKV, 0, i % NKV, Tkv, HS), in.k.ld},
             v = {head_at(in.v, i / NKV, 0, i % NKV, Tkv, HS), in.v.ld};
        tiles_pack(packed + (size_t)i * head, k, Tkv, HS, true, true);
        tiles_pack(packed + (size_t)i * head + size.panels, v, Tkv, HS, false, true);
    }
    int blocks = ceil_divide(Tq, TILES_N);
    Rows all = {out, NH * HS};
    OMP(parallel num_threads(cpu->threads)) {
        amx_begin(cpu->emulated);
        OMP(for schedule(dynamic))
        for (int task = 0; task < B * NH * blocks; task++) {
            // The last blocks see the most keys: first the long tasks, then the short ones.
            int b = task % (B * NH) / NH, h = task % NH, t = (blocks - 1 - task / (B * NH)) * TILES_N;
            QueryBlock block = {b, t, Tq - t < TILES_N ? Tq - t : TILES_N};
            const real *kp = packed + ((size_t)b * (size_t)NKV + (size_t)(h / (NH / NKV))) * head;
            Rows to = {head_at(all, b, t, h, Tq, HS), all.ld}, q = {head_at(in.q, b, t, h, Tq, HS), in.q.ld};
            attention_tiles_block(to, lse ? lse + ((size_t)b * (size_t)NH + (size_t)h) * (size_t)Tq + t : NULL, q, kp,
                                  block, s, scratch + own * (size_t)this_thread(), cpu);
        }
        amx_end(cpu->emulated);
    }
}

// ---------------------------------------------------------------- backward

// The scratch memory of one thread, laid out.
typedef struct {
    TilesShape size;
    AttentionShape shape;
    int b, T, HS; // b: which sequence
    real scale;
    real *ka, *va, *kt;      // K and V along HS, K^T along T: left operands of the head of keys
    real *qb, *gb, *qt, *gt; // Q and dO along HS, Q and dO along T: right operands of the head of queries
    real *stat, *delta;      // (t_rows): lse, Inf behind T (probability 0); delta
    real *s, *dp;            // (32 keys, 32 queries)
    real *pa, *dsa;          // (TILES_KEYS/32, TILES_KEYS/32 k-tiles) panels of P^T and dS^T along queries
    real *dsb;               // (TILES_KEYS/32 blocks of queries, TILES_KEYS/32 k-tiles) panels of dS^T, keys are k
    real *dk, *dv;           // (t_blocks, hs_blocks, 32 keys, 32 of HS)
} TilesParts;

enum { TILES_PAIRS = TILES_KEYS * TILES_KEYS / 2 };
static inline size_t tiles_parts_numbers(TilesShape s) {
    return round_up(11 * s.panels + 2 * s.t_rows + 2 * TILES_BLOCK + 3 * TILES_PAIRS + PACK_AHEAD / sizeof(real), 64);
}
static inline TilesParts tiles_parts(real *at, AttentionShape shape, int b) {
    TilesParts s;
    s.size = tiles_shape(shape.Tq, shape.HS), s.shape = shape, s.b = b, s.T = shape.Tq, s.HS = shape.HS,
    s.scale = (real)shape.scale;
    size_t n = s.size.panels;
    s.ka = at, s.va = s.ka + n, s.kt = s.va + n, s.qb = s.kt + n, s.gb = s.qb + n, s.qt = s.gb + n, s.gt = s.qt + n;
    s.stat = s.gt + n, s.delta = s.stat + s.size.t_rows, s.s = s.delta + s.size.t_rows, s.dp = s.s + TILES_BLOCK;
    s.pa = s.dp + TILES_BLOCK, s.dsa = s.pa + TILES_PAIRS, s.dsb = s.dsa + TILES_PAIRS, s.dk = s.dsb + TILES_PAIRS,
    s.dv = s.dk + 2 * n;
    return s;
}

// The first block of keys of which the block of queries `qb` sees any. The block kb of keys is seen by queries up to
// the last block for which this is not above kb.
static inline int tiles_first(const TilesParts *s, int qb) {
    return attention_first(s->shape, s->b, qb * TILES_N) / AMX_BLOCK;
}

// P^T and dS^T of the block of keys `kb` and that of queries `qb`, kb <= qb, which are the i-th and j-th of their
// TILES_KEYS.
static inline void tiles_slopes(const TilesParts *s, int kb, int qb, int i, int j, const Cpu *cpu) {
    const int hs = s->size.hs_blocks;
    size_t key = (size_t)kb * (size_t)hs * TILES_PANEL, query = (size_t)qb * (size_t)hs * TILES_PANEL;
    tiles_product(s->s, false, s->ka + key, s->qb + query, 0, hs, cpu);
    tiles_product(s->dp, false, s->va + key, s->gb + query, 0, hs, cpu);
    QueryBlock block = {s->b, qb * TILES_N, s->T - qb * TILES_N < TILES_N ? s->T - qb * TILES_N : TILES_N};
    vint first[TILES_V] = {{0}};
    block_firsts(first, TILES_V, block, s->shape);
    bool masked = kb == qb || kb * AMX_BLOCK < attention_first(s->shape, s->b, block.t + block.count - 1);
    for (int v = 0; v < TILES_V; v++) {
        vreal stat = vload(s->stat + qb * TILES_N + v * VL), delta = vload(s->delta + qb * TILES_N + v * VL);
        vint number = {0};
        for (int n = 0; n < VL; n++) number[n] = (qb - kb) * AMX_BLOCK + v * VL + n; // from the first key
        first[v] -= kb * AMX_BLOCK;
        for (int k = 0; k < AMX_BLOCK; k++) {
            real *at = s->s + k * TILES_N + v * VL, *slope = s->dp + k * TILES_N + v * VL;
            vreal p = vexp_falling(vload(at) * s->scale - stat);
            vreal ds = p * (vload(slope) - delta);
            if (masked) {
                vint seen = (number >= k) & (first[v] <= k);
                p = vselect(seen, p, (vreal){0}), ds = vselect(seen, ds, (vreal){0});
            }
            vstore(at, p);
            vstore(slope, ds);
        }
    }
    tiles_along_rows(s->pa + (i * TILES_SIDE + j) * TILES_PANEL, s->s, TILES_N);
    tiles_along_rows(s->dsa + (i * TILES_SIDE + j) * TILES_PANEL, s->dp, TILES_N);
    tiles_of_rows(s->dsb + (j * TILES_SIDE + i) * TILES_PANEL, s->dp, TILES_N);
}

// All of TILES_KEYS keys from block k0 on and as many queries from block q0 on, n and m blocks of them, that see each
// other.
static inline void tiles_square(const TilesParts *s, real *dqt, int k0, int n, int q0, int m, const Cpu *cpu) {
    const int hs = s->size.hs_blocks;
    bool diagonal = k0 == q0;
    int key_first[TILES_SIDE], query_end[TILES_SIDE];
    for (int j = 0; j < m; j++) key_first[j] = (int)int64_max(tiles_first(s, q0 + j) - k0, 0);
    for (int i = 0; i < n; i++)
        for (query_end[i] = 0; query_end[i] < m && key_first[query_end[i]] <= i;) query_end[i]++;
    for (int i = 0; i < n; i++)
        for (int j = diagonal ? i : 0; j < query_end[i]; j++) tiles_slopes(s, k0 + i, q0 + j, i, j, cpu);
    for (int d = 0; d < hs; d++) {
        const real *gt = s->gt + ((size_t)d * (size_t)s->size.t_blocks + (size_t)q0) * TILES_PANEL,
                   *qt = s->qt + ((size_t)d * (size_t)s->size.t_blocks + (size_t)q0) * TILES_PANEL,
                   *kt = s->kt + ((size_t)d * (size_t)s->size.t_blocks + (size_t)k0) * TILES_PANEL;
        for (int i = 0; i < n; i++) { // queries from block i on see these keys
            int first = diagonal ? i : 0, count = query_end[i] - first;
            if (count <= 0) continue;
            size_t to = ((size_t)(k0 + i) * (size_t)hs + (size_t)d) * TILES_BLOCK;
            amx_block(cpu->emulated, s->dv + to, AMX_BLOCK, s->dv + to,
                      (const char *)(s->pa + (i * TILES_SIDE + first) * TILES_PANEL),
                      (const char *)(gt + first * TILES_PANEL), count);
            amx_block(cpu->emulated, s->dk + to, AMX_BLOCK, s->dk + to,
                      (const char *)(s->dsa + (i * TILES_SIDE + first) * TILES_PANEL),
                      (const char *)(qt + first * TILES_PANEL), count);
        }
        for (int j = 0; j < m; j++) {
            int count = (diagonal && j + 1 < n ? j + 1 : n) - key_first[j];
            if (count <= 0) continue;
            tiles_product(dqt + ((size_t)(q0 + j) * (size_t)hs + (size_t)d) * TILES_BLOCK, true, kt,
                          s->dsb + j * TILES_SIDE * TILES_PANEL, key_first[j], count, cpu);
        }
    }
}

// to (T, HS) = factor * from (t_blocks, hs_blocks, 32 tokens, 32)
static inline void tiles_store(Rows to, const real *from, real factor, const TilesParts *s, int first, int end) {
    for (int t = first * AMX_BLOCK; t < end * AMX_BLOCK && t < s->T; t++)
        for (int d = 0; d < s->HS; d += VL) {
            size_t block = (size_t)(t / AMX_BLOCK * s->size.hs_blocks + d / AMX_BLOCK) * TILES_BLOCK;
            vreal v = vload(from + block + t % AMX_BLOCK * AMX_BLOCK + d % AMX_BLOCK) * factor;
            store_up_to(to.at + (size_t)t * (size_t)to.ld + d, v, s->HS - d);
        }
}

// As attention_backward; the parts of dq are summed in the order of the ranges.
static inline void attention_tiles_backward(Heads d, const real *dout, const real *out, const real *lse, Heads in,
                                            AttentionShape shape, Cpu *cpu) {
    int B = shape.B, T = shape.Tq, NH = shape.NH, NKV = shape.NKV, HS = shape.HS, group = NH / NKV;
    TilesShape size = tiles_shape(T, HS);
    int squares = ceil_divide(size.t_blocks, TILES_SIDE);
    int ranges = key_ranges(squares, T, B * NKV);
    size_t dq_head = size.t_rows * size.hs_rows, dq_size = (size_t)B * (size_t)NH * dq_head,
           own = tiles_parts_numbers(size);
    real *dq_parts = (real *)cpu_workspace(cpu, sizeof(real) * (dq_size * (size_t)ranges + own * (size_t)cpu->threads)),
         *scratch = dq_parts + dq_size * (size_t)ranges;
    OMP(parallel num_threads(cpu->threads)) {
        amx_begin(cpu->emulated);
        OMP(for schedule(dynamic))
        for (int task = 0; task < ranges * B * NKV; task++) {
            int range = task / (B * NKV), b = task % (B * NKV) / NKV, kh = task % NKV;
            int first = key_range_start(squares, range, ranges), end = key_range_start(squares, range + 1, ranges);
            TilesParts s = tiles_parts(scratch + own * (size_t)this_thread(), shape, b);
            Rows k = {head_at(in.k, b, 0, kh, T, HS), in.k.ld}, v = {head_at(in.v, b, 0, kh, T, HS), in.v.ld};
            memset(s.dk, 0, sizeof(real) * 4 * size.panels); // dk and dv
            tiles_pack(s.ka, k, T, HS, true, true);
            tiles_pack(s.va, v, T, HS, true, true);
            tiles_pack(s.kt, k, T, HS, false, true);
            for (int h = kh * group; h < (kh + 1) * group; h++) {
                size_t head = (size_t)b * (size_t)NH + (size_t)h, ld = (size_t)NH * (size_t)HS,
                       at = (size_t)b * (size_t)T * ld + (size_t)h * (size_t)HS;
                Rows q = {head_at(in.q, b, 0, h, T, HS), in.q.ld}, g = {(real *)dout + at, (int)ld};
                real *dqt = dq_parts + (size_t)range * dq_size + head * dq_head;
                memset(dqt, 0, sizeof(real) * dq_head);
                tiles_pack(s.qb, q, T, HS, true, false);
                tiles_pack(s.gb, g, T, HS, true, false);
                tiles_pack(s.qt, q, T, HS, false, false);
                tiles_pack(s.gt, g, T, HS, false, false);
                QueryStats stats = {s.stat, s.delta, T, (int)size.t_rows, HS};
                query_stats(stats, lse + head * (size_t)T, dout + at, out + at, ld, 0);
                for (int ks = first; ks < end; ks++) {
                    int q_end = queries_end(shape, b, (ks + 1) * TILES_KEYS - 1, ks * TILES_KEYS, TILES_KEYS);
                    for (int qs = ks; qs < q_end / TILES_KEYS; qs++)
                        tiles_square(&s, dqt, ks * TILES_SIDE,
                                     (int)int64_min(TILES_SIDE, size.t_blocks - ks * TILES_SIDE), qs * TILES_SIDE,
                                     (int)int64_min(TILES_SIDE, size.t_blocks - qs * TILES_SIDE), cpu);
                }
            }
            Rows dk = {head_at(d.k, b, 0, kh, T, HS), d.k.ld}, dv = {head_at(d.v, b, 0, kh, T, HS), d.v.ld};
            tiles_store(dk, s.dk, s.scale, &s, first * TILES_SIDE, end * TILES_SIDE);
            tiles_store(dv, s.dv, 1, &s, first * TILES_SIDE, end * TILES_SIDE);
        }
        amx_end(cpu->emulated);
    }
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int task = 0; task < B * NH * size.t_blocks; task++) {
        int block = task % size.t_blocks, head = task / size.t_blocks, t = block * TILES_N,
            count = T - t < TILES_N ? T - t : TILES_N;
        real factor[TILES_N], *sum = dq_parts + (size_t)head * dq_head + (size_t)t * size.hs_rows;
        key_ranges_sum(sum, size.hs_rows * TILES_N, dq_size, block / TILES_SIDE, squares, ranges);
        for (int i = 0; i < TILES_N; i++) factor[i] = (real)shape.scale;
        Rows dq = {head_at(d.q, head / NH, t, head % NH, T, HS), d.q.ld};
        store_transposed(dq, sum, TILES_N, factor, HS, count);
    }
}
#endif

#endif
