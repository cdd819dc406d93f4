/*
attention.h: causal attention with grouped queries, within documents and windows.

Both passes follow FlashAttention-2 (Dao 2023, arXiv:2307.08691): scores exist only for one block of
queries and keys at a time, so memory grows with T and not with T^2. The matrix products of the blocks
are tiles of gemm.h (TILE_M x TILE_N), on operands packed as there; blocks that the causal mask, the
borders of documents or a window (attention_first) hide are skipped.

Forward: TILE_N queries are the numbers of TILE_V vectors, keys are rows. Maximum, sum and rescaling
then need no operation across a vector, and P^T comes out in the layout in which the next product
wants it:
    S^T (keys, queries) = K Q^T          P^T = exp(S^T - m)          O^T (HS, queries) += V^T P^T
Backward: TILE_N keys are the numbers of the vectors, queries are rows:
    S (queries, keys) = Q K^T            P = exp(S / sqrt(HS) - lse)
    dP = dO V^T                          dS = P (dP - delta),  delta = sum of dO * O
    dV^T (HS, keys) += dO^T P            dK^T += Q^T dS          dQ^T (HS, queries) += K^T dS^T
which needs one transposition, of dS.

A NaN in a key or value that the mask hides can reach queries less than TILE_N away, since the products run over
whole tiles with a probability of 0.

On the tile unit both passes are those of attention_tiles.h; with dot products of bf16 they stay in fp32.
*/
#ifndef LLMC_CPU_ATTENTION_H
#define LLMC_CPU_ATTENTION_H

#include "../model.h"
#include "attention_tiles.h"
#include "gemm.h"

enum { ATTENTION_KEYS = 64 };   // tunable, a multiple of TILE_M: keys whose scores exist at a time; with Q they fit L1
enum { ATTENTION_QUERIES = 4 }; // tunable: panels of TILE_N queries at a time in the backward pass
enum { ATTENTION_FEW_QUERIES = 7 }; // up to here keys and values are read as they lie
enum { ATTENTION_CHUNK = 256 };     // keys of one piece of work with few queries; fixed: bits do not depend on threads

// out (TILE_M, TILE_N) += A panel (units, TILE_M)^T B panel (units, TILE_N), thirds first .. end-1
ALWAYS_INLINE void tile_add(real *out, const real *a, const real *b, int units, int first, int end) {
    vreal sums[TILE_M][TILE_V];
    tile_product(sums, a, b, units, first * THIRD, end * THIRD, false, NULL, 0);
    UNROLL
    for (int i = 0; i < TILE_M; i++) {
        UNROLL
        for (int j = first * THIRD; j < end * THIRD; j++)
            vstore(out + i * TILE_N + j * VL, vload(out + i * TILE_N + j * VL) + sums[i][j]);
    }
}

// rows / TILE_M of these, one below the other; the panels of A are `stride` numbers apart.
ALWAYS_INLINE void tiles_add_of(real *out, const real *a, size_t stride, const real *b, size_t rows, int units,
                                int first, int end) {
    for (size_t d = 0; d < rows; d += TILE_M) tile_add(out + d * TILE_N, a + d / TILE_M * stride, b, units, first, end);
}
static inline void tiles_add(real *out, const real *a, size_t stride, const real *b, size_t rows, int units, int first,
                             int end) {
    if (units <= 0) return;
    if (first == 1) tiles_add_of(out, a, stride, b, rows, units, 1, 3);
    else if (first == 2) tiles_add_of(out, a, stride, b, rows, units, 2, 3);
    else if (end == 1) tiles_add_of(out, a, stride, b, rows, units, 0, 1);
    else if (end == 2) tiles_add_of(out, a, stride, b, rows, units, 0, 2);
    else tiles_add_of(out, a, stride, b, rows, units, 0, 3);
}

// The keys that the queries of a block see, from which to which; and those that all of them see.
typedef struct {
    vint first[TILE_V], last[TILE_V];
    int all_first, all_last;
} Sight;

// Scores of TILE_M keys: s (TILE_M, TILE_N) = K panel (HS, TILE_M)^T Q^T (HS, TILE_N), thirds from
// `first`; what is hidden becomes -Inf; top: the running maximum of each query.
ALWAYS_INLINE void attention_scores(real *s, vreal top[TILE_V], const real *k_panel, const real *qt, int HS,
                                    const Sight *sight, int key, bool masked, int first) {
    vreal sums[TILE_M][TILE_V];
    tile_product(sums, k_panel, qt, HS, first * THIRD, TILE_V, false, NULL, 0);
    UNROLL
    for (int i = 0; i < TILE_M; i++) {
        UNROLL
        for (int j = first * THIRD; j < TILE_V; j++) {
            if (masked) {
                vint seen = (sight->last[j] >= key + i) & (sight->first[j] <= key + i);
                sums[i][j] = vselect(seen, sums[i][j], vset(-(real)INFINITY));
            }
            top[j] = vmax(sums[i][j], top[j]);
            vstore(s + i * TILE_N + j * VL, sums[i][j]);
        }
    }
}

// One block of at most TILE_N queries of one head. k_panels (Tkv/TILE_M, stride HS) and behind them
// (HS/TILE_M, Tkv, TILE_M) of the values are packed, from the first key that any query sees.
static inline void attention_block(Rows out, real *lse, Rows q, const real *k_panels, QueryBlock block,
                                   AttentionShape shape, real *scratch) {
    int HS = shape.HS, count = block.count, limit = shape.Tkv - shape.Tq + block.t;
    size_t hs_units = (size_t)panel_units(HS, UNIT_VECTORS), hs_rows = round_up((size_t)HS, TILE_M),
           t_rows = round_up((size_t)shape.Tkv, TILE_M);
    const real *v_panels = k_panels + t_rows * hs_units;
    real *qt = scratch, *s = qt + hs_units * TILE_N, *ot = s + (size_t)ATTENTION_KEYS * TILE_N;
    Operand Q = {q.at, (size_t)q.ld, LAYOUT_ALONG_K};
    pack_panels(qt, 0, Q, 0, count, 0, HS, TILE_N, false);
    real scale = (real)shape.scale;
    for (size_t i = 0; i < hs_units * TILE_N; i += VL) vstore(qt + i, vload(qt + i) * scale);
    memset(ot, 0, sizeof(real) * hs_rows * TILE_N);
    Softmax x[TILE_V];
    Sight sight;
    block_firsts(sight.first, TILE_V, block, shape);
    for (int j = 0; j < TILE_V; j++) {
        x[j] = (Softmax){vset((real)SCORE_LEAST), {0}};
        for (int i = 0; i < VL; i++) sight.last[j][i] = limit + j * VL + i;
    }
    sight.all_first = attention_first(shape, block.b, block.t + count - 1), sight.all_last = limit;
    // Keys that any of them sees, in whole panels.
    int begin = attention_first(shape, block.b, block.t) / TILE_M * TILE_M, end = limit + count;
    for (int k0 = begin; k0 < end; k0 += ATTENTION_KEYS) {
        int keys = end - k0 < ATTENTION_KEYS ? (int)round_up((size_t)(end - k0), TILE_M) : ATTENTION_KEYS;
        vreal top[TILE_V];
        for (int j = 0; j < TILE_V; j++) top[j] = x[j].m;
        for (int k = 0; k < keys; k += TILE_M) {
            const real *panel = k_panels + (size_t)(k0 + k) * hs_units;
            real *at = s + (size_t)k * TILE_N;
            // Third i of the queries sees nothing behind key limit + (i+1)*THIRD_N - 1.
            int hidden = (k0 + k - limit) / THIRD_N;
            bool whole = k0 + k + TILE_M - 1 <= sight.all_last && k0 + k >= sight.all_first;
            if (whole) attention_scores(at, top, panel, qt, HS, &sight, k0 + k, false, 0);
            else if (hidden <= 0) attention_scores(at, top, panel, qt, HS, &sight, k0 + k, true, 0);
            else if (hidden == 1) attention_scores(at, top, panel, qt, HS, &sight, k0 + k, true, 1);
            else attention_scores(at, top, panel, qt, HS, &sight, k0 + k, true, 2);
        }
        int seen[3]; // keys of this block that each third sees
        for (int i = 0; i < 3; i++)
            seen[i] = (int)int64_max(0, int64_min(keys, (int64_t)(limit + (i + 1) * THIRD_N - k0 + TILE_M - 1) /
                                                            TILE_M * TILE_M));
        for (int j = 0; j < TILE_V; j++)
            softmax_step(&x[j], top[j], s + j * VL, seen[j / THIRD], ot + j * VL, hs_rows, TILE_N);
        const real *v_block = v_panels + (size_t)k0 * TILE_M;
        for (int i = 0, k = 0; i < 3; k = seen[i++])
            tiles_add(ot, v_block + (size_t)k * TILE_M, t_rows * TILE_M, s + (size_t)k * TILE_N, hs_rows, seen[i] - k,
                      i, 3);
    }
    softmax_store(out, lse, x, ot, TILE_N, HS, count);
}

// Few queries: each piece of work is one head and ATTENTION_CHUNK keys and leaves maximum, sum and
// output (2 + HS) of its keys; these are put together at the end. Bound by reading keys and values.
static inline void attention_few_queries(real *out, real *lse, Heads in, AttentionShape shape, Cpu *cpu) {
    int B = shape.B, Tq = shape.Tq, Tkv = shape.Tkv, NH = shape.NH, NKV = shape.NKV, HS = shape.HS;
    int chunk0 = attention_first(shape, 0, 0) / ATTENTION_CHUNK, chunks = ceil_divide(Tkv, ATTENTION_CHUNK) - chunk0;
    size_t width = round_up((size_t)HS + 2, 16), rows = (size_t)B * (size_t)NH * (size_t)Tq;
    real *partial =
        (real *)cpu_workspace(cpu, sizeof(real) * rows * (size_t)chunks * width); // (B, NH, Tq, chunks, width)
    real scale = (real)shape.scale;
    int whole = HS / VL * VL, rest = HS - whole;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int64_t task = 0; task < (int64_t)rows * chunks; task++) {
        int chunk = chunk0 + (int)(task % chunks), t = (int)(task / chunks % Tq), h = (int)(task / chunks / Tq % NH),
            b = (int)(task / chunks / Tq / NH), kh = h / (NH / NKV);
        int first = (int)int64_max(chunk * ATTENTION_CHUNK, attention_first(shape, b, t)),
            end = (int)int64_min((chunk + 1) * ATTENTION_CHUNK, Tkv - Tq + t + 1);
        real *p = partial + (size_t)task * width, *o = p + 2, s[ATTENTION_CHUNK + VL], m = -(real)INFINITY;
        memset(p, 0, sizeof(real) * width);
        p[0] = m;
        if (first >= end) continue;
        const real *qr = head_at(in.q, b, t, h, Tq, HS), *kr = head_at(in.k, b, first, kh, Tkv, HS),
                   *vr = head_at(in.v, b, first, kh, Tkv, HS);
        for (int i = 0; i < end - first; i++, kr += in.k.ld) {
            vreal dot = {0};
            for (int d = 0; d < whole; d += VL) dot += vload(qr + d) * vload(kr + d);
            if (rest) dot += vload_part(qr + whole, rest) * vload_part(kr + whole, rest);
            s[i] = vsum(dot) * scale;
            m = s[i] > m ? s[i] : m;
        }
        vreal sum = {0};
        for (int i = 0; i < end - first; i += VL) {
            int n = end - first - i < VL ? end - first - i : VL;
            vreal e = vexp(vload_part(s + i, n) - m);
            vstore_part(s + i, e, n);
            sum += vload_part(s + i, n);
        }
        p[0] = m;
        p[1] = vsum(sum);
        for (int d = 0; d < HS; d += 4 * VL) {
            vreal acc[4] = {{0}, {0}, {0}, {0}};
            int n = HS - d < 4 * VL ? HS - d : 4 * VL;
            for (int i = 0; i < end - first; i++)
                for (int j = 0; j < 4; j++) {
                    const real *at = vr + (size_t)i * (size_t)in.v.ld + d + j * VL;
                    if (n >= (j + 1) * VL) acc[j] += s[i] * vload(at);
                    else if (n > j * VL) acc[j] += s[i] * vload_part(at, n - j * VL);
                }
            for (int j = 0; j < 4 && n > j * VL; j++)
                vstore_part(o + d + j * VL, acc[j], n - j * VL < VL ? n - j * VL : VL);
        }
    }
    for (size_t row = 0; row < rows; row++) {
        const real *p = partial + row * (size_t)chunks * width;
        int t = (int)(row % (size_t)Tq), h = (int)(row / (size_t)Tq % (size_t)NH),
            b = (int)(row / (size_t)Tq / (size_t)NH);
        real *o = out + (((size_t)b * (size_t)Tq + (size_t)t) * (size_t)NH + (size_t)h) * (size_t)HS, m = p[0], l = 0;
        for (int c = 1; c < chunks; c++) m = p[(size_t)c * width] > m ? p[(size_t)c * width] : m;
        memset(o, 0, sizeof(real) * (size_t)HS);
        for (int c = 0; c < chunks; c++, p += width) {
            if ((chunk0 + c) * ATTENTION_CHUNK > Tkv - Tq + t) break;
            real factor = vexp(vset(p[0] - m))[0];
            l += factor * p[1];
            for (int d = 0; d < HS; d++) o[d] += factor * p[2 + d];
        }
        for (int d = 0; d < HS; d++) o[d] /= l;
        if (lse) lse[row] = (real)(log((double)l) + (double)m);
    }
}

// out (B, Tq, NH*HS), lse (B, NH, Tq) or NULL. Query i sees keys 0 .. Tkv-Tq+i.
static inline void attention_forward(real *out, real *lse, Heads in, AttentionShape s, Cpu *cpu) {
    int B = s.B, Tq = s.Tq, Tkv = s.Tkv, NH = s.NH, NKV = s.NKV, HS = s.HS;
    if (Tq <= ATTENTION_FEW_QUERIES) {
        attention_few_queries(out, lse, in, s, cpu);
        return;
    }
    if (cpu->unit == UNIT_TILES) {
        attention_tiles_forward(out, lse, in, s, cpu);
        return;
    }
    size_t hs_units = (size_t)panel_units(HS, UNIT_VECTORS), hs_rows = round_up((size_t)HS, TILE_M),
           t_rows = round_up((size_t)Tkv, TILE_M);
    size_t head = t_rows * (hs_units + hs_rows); // packed keys and values of one head
    size_t own =
        cpu_align(sizeof(real) * (hs_units + (size_t)ATTENTION_KEYS + hs_rows) * TILE_N + PACK_AHEAD) / sizeof(real);
    real *packed =
        (real *)cpu_workspace(cpu, sizeof(real) * (head * (size_t)B * (size_t)NKV + own * (size_t)cpu->threads));
    real *scratch = packed + head * (size_t)B * (size_t)NKV;
    int begin = attention_first(s, 0, 0) / TILE_M * TILE_M; // no query sees a key before it
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int i = 0; i < B * NKV; i++) {
        Operand K = {head_at(in.k, i / NKV, 0, i % NKV, Tkv, HS), (size_t)in.k.ld, LAYOUT_ALONG_K};
        Operand V = {head_at(in.v, i / NKV, 0, i % NKV, Tkv, HS), (size_t)in.v.ld, LAYOUT_ACROSS_K};
        real *kp = packed + (size_t)i * head, *vp = kp + t_rows * hs_units;
        pack_panels(kp + (size_t)begin * hs_units, hs_units * TILE_M, K, begin, Tkv, 0, HS, TILE_M, false);
        pack_panels(vp + (size_t)begin * TILE_M, t_rows * TILE_M, V, 0, HS, begin, Tkv - begin, TILE_M, false);
        for (size_t d = 0; d < hs_rows; d += TILE_M)
            memset(vp + d * t_rows + (size_t)Tkv * TILE_M, 0, sizeof(real) * (t_rows - (size_t)Tkv) * TILE_M);
    }
    int blocks = ceil_divide(Tq, TILE_N);
    Rows all = {out, NH * HS};
    OMP(parallel for num_threads(cpu->threads) schedule(dynamic))
    for (int task = 0; task < B * NH * blocks; task++) {
        // The last blocks see the most keys: first the long tasks, then the short ones.
        int b = task % (B * NH) / NH, h = task % NH, t = (blocks - 1 - task / (B * NH)) * TILE_N;
        QueryBlock block = {b, t, Tq - t < TILE_N ? Tq - t : TILE_N};
        const real *kp = packed + ((size_t)b * (size_t)NKV + (size_t)(h / (NH / NKV))) * head;
        Rows to = {head_at(all, b, t, h, Tq, HS), all.ld}, q = {head_at(in.q, b, t, h, Tq, HS), in.q.ld};
        attention_block(to, lse ? lse + ((size_t)b * (size_t)NH + (size_t)h) * (size_t)Tq + t : NULL, q, kp, block, s,
                        scratch + own * (size_t)this_thread());
    }
}

// P and dS (TILE_M, TILE_N) of TILE_M queries and the first `end` thirds of a panel of keys.
ALWAYS_INLINE void attention_slopes(real *p, real *ds, const real *q_panel, const real *g_panel, const real *kt,
                                    const real *vt, const real *lse, const real *delta, real scale, int HS, int end) {
    vreal sums[TILE_M][TILE_V];
    tile_product(sums, q_panel, kt, HS, 0, end * THIRD, false, NULL, 0);
    UNROLL
    for (int i = 0; i < TILE_M; i++) {
        UNROLL
        for (int j = 0; j < end * THIRD; j++)
            vstore(p + i * TILE_N + j * VL, vexp_falling(sums[i][j] * scale - lse[i]));
    }
    tile_product(sums, g_panel, vt, HS, 0, end * THIRD, false, NULL, 0);
    UNROLL
    for (int i = 0; i < TILE_M; i++) {
        UNROLL
        for (int j = 0; j < end * THIRD; j++)
            vstore(ds + i * TILE_N + j * VL, vload(p + i * TILE_N + j * VL) * (sums[i][j] - delta[i]));
    }
}

// Numbers of scratch memory that attention_backward needs for one thread, in BackwardParts.
typedef struct {
    size_t hs_units, hs_rows, t_rows; // HS in whole vectors, in whole TILE_M; T in whole TILE_N
    size_t q_panels, q_across, keys, block, total;
} AttentionScratch;

static inline AttentionScratch attention_scratch(int T, int HS) {
    AttentionScratch s;
    s.hs_units = (size_t)panel_units(HS, UNIT_VECTORS), s.hs_rows = round_up((size_t)HS, TILE_M),
    s.t_rows = round_up((size_t)T, TILE_N);
    s.q_panels = s.t_rows * s.hs_units;
    s.q_across = s.t_rows * s.hs_rows;
    s.keys = s.hs_units * TILE_N;
    s.block = (size_t)ATTENTION_QUERIES * TILE_N * TILE_N;
    s.total = round_up(2 * s.q_panels + 2 * s.q_across + 3 * s.keys + 3 * s.block + 2 * s.t_rows + TILE_N +
                           3 * s.q_across + PACK_AHEAD / sizeof(real),
                       64);
    return s;
}

// The scratch memory of one thread, laid out, and what all steps ask for.
typedef struct {
    AttentionScratch size;
    AttentionShape shape;
    int b, T, HS; // b: which sequence
    real scale;
    real *qp, *gp;      // Q, dO (T/TILE_M, hs_units, TILE_M), as rows of A
    real *qa, *ga;      // Q, dO (hs_rows/TILE_M, t_rows, TILE_M), as columns of A
    real *kt, *vt;      // K^T, V^T (HS, TILE_N) of one panel of keys
    real *ka;           // K (hs_rows/TILE_M, TILE_N, TILE_M)
    real *p, *ds;       // P, dS (queries, TILE_N)
    real *dst;          // dS^T (panel of queries, TILE_N keys, TILE_N queries)
    real *stat, *delta; // (t_rows): lse, Inf behind T (probability 0); delta
    real *factor;       // (TILE_N)
    real *dkt, *dvt;    // dK^T, dV^T (panels, hs_rows, TILE_N)
} BackwardParts;

static inline BackwardParts backward_parts(real *at, AttentionScratch size, AttentionShape shape, int b) {
    BackwardParts s = {0};
    s.size = size, s.shape = shape, s.b = b, s.T = shape.Tq, s.HS = shape.HS, s.scale = (real)shape.scale;
    s.qp = at, s.gp = s.qp + size.q_panels, s.qa = s.gp + size.q_panels, s.ga = s.qa + size.q_across;
    s.kt = s.ga + size.q_across, s.vt = s.kt + size.keys, s.ka = s.vt + size.keys;
    s.p = s.ka + size.keys, s.ds = s.p + size.block, s.dst = s.ds + size.block;
    s.stat = s.dst + size.block, s.delta = s.stat + size.t_rows, s.factor = s.delta + size.t_rows;
    s.dkt = s.factor + TILE_N, s.dvt = s.dkt + size.q_across;
    return s;
}

// 1. Packs rows start .. end - 1 of a head, of Q or dO, both ways, with rows of zeros from T up to a whole panel.
ALWAYS_INLINE void backward_pack(const BackwardParts *s, real *rows, real *across, Rows x, int start, int end) {
    Operand X = {x.at, (size_t)x.ld, LAYOUT_ALONG_K}, Xt = {x.at, (size_t)x.ld, LAYOUT_ACROSS_K};
    int T = end < s->T ? end : s->T, HS = s->HS;
    size_t units = s->size.hs_units, t_rows = s->size.t_rows, whole = round_up((size_t)T, TILE_M);
    pack_panels(rows + (size_t)start * units, units * TILE_M, X, start, T, 0, HS, TILE_M, false);
    if (end >= s->T) memset(rows + whole * units, 0, sizeof(real) * (t_rows - whole) * units);
    pack_panels(across + (size_t)start * TILE_M, t_rows * TILE_M, Xt, 0, HS, start, T - start, TILE_M, false);
    for (size_t d = 0; d < s->size.hs_rows && end >= s->T; d += TILE_M)
        memset(across + d * t_rows + (size_t)T * TILE_M, 0, sizeof(real) * (t_rows - (size_t)T) * TILE_M);
}

// 2. Packs the panel of keys from k0 on.
ALWAYS_INLINE void backward_pack_keys(const BackwardParts *s, Rows k, Rows v, int k0) {
    int HS = s->HS, k1 = k0 + TILE_N < s->T ? k0 + TILE_N : s->T;
    Operand K = {k.at, (size_t)k.ld, LAYOUT_ALONG_K}, V = {v.at, (size_t)v.ld, LAYOUT_ALONG_K},
            Kt = {k.at, (size_t)k.ld, LAYOUT_ACROSS_K};
    pack_panels(s->kt, 0, K, k0, k1, 0, HS, TILE_N, false);
    pack_panels(s->vt, 0, V, k0, k1, 0, HS, TILE_N, false);
    pack_panels(s->ka, TILE_N * TILE_M, Kt, 0, HS, k0, k1 - k0, TILE_M, false);
    for (size_t d = 0; d < s->size.hs_rows && k1 - k0 < TILE_N; d += TILE_M)
        memset(s->ka + d * TILE_N + (size_t)(k1 - k0) * TILE_M, 0,
               sizeof(real) * (size_t)(TILE_N - (k1 - k0)) * TILE_M);
}

// 3. P and dS of the queries q0 .. q0 + rows - 1 and the panel of keys from k0 on.
ALWAYS_INLINE void backward_slopes(const BackwardParts *s, int k0, int q0, int rows) {
    const real *kt = s->kt, *vt = s->vt;
    int HS = s->HS;
    for (int i0 = 0; i0 < rows; i0 += TILE_M) {
        const real *qr = s->qp + (size_t)(q0 + i0) * s->size.hs_units,
                   *gr = s->gp + (size_t)(q0 + i0) * s->size.hs_units;
        real *pr = s->p + (size_t)i0 * TILE_N, *dsr = s->ds + (size_t)i0 * TILE_N;
        const real *st = s->stat + q0 + i0, *de = s->delta + q0 + i0;
        int row = q0 + i0 - k0;                  // the first of these queries, counted from the first key
        int last = (row + TILE_M - 1) / THIRD_N; // the third that the last of them sees a part of
        if (last == 0) attention_slopes(pr, dsr, qr, gr, kt, vt, st, de, s->scale, HS, 1);
        else if (last == 1) attention_slopes(pr, dsr, qr, gr, kt, vt, st, de, s->scale, HS, 2);
        else attention_slopes(pr, dsr, qr, gr, kt, vt, st, de, s->scale, HS, 3);
        for (int i = 0; i < TILE_M; i++) {
            int t = q0 + i0 + i < s->T ? q0 + i0 + i : s->T - 1, before = attention_first(s->shape, s->b, t) - k0;
            for (int c = 0; c < before && c < TILE_N; c++) pr[i * TILE_N + c] = dsr[i * TILE_N + c] = 0;
            for (int c = row + i + 1; c < TILE_N; c++) pr[i * TILE_N + c] = dsr[i * TILE_N + c] = 0;
        }
    }
}

// 4. dS^T, a panel of queries at a time.
ALWAYS_INLINE void backward_transpose(const BackwardParts *s, int rows) {
    for (int i0 = 0; i0 < rows; i0 += VL)
        for (int j = 0; j < TILE_V; j++) {
            vreal r[VL > TILE_M ? VL : TILE_M];
            for (int i = 0; i < VL; i++) r[i] = vload(s->ds + (size_t)(i0 + i) * TILE_N + j * VL);
            transpose_rows(r, VL);
            for (int i = 0; i < VL; i++)
                vstore(s->dst + (size_t)(i0 / TILE_N) * TILE_N * TILE_N + (size_t)(j * VL + i) * TILE_N +
                           (size_t)(i0 % TILE_N),
                       r[i]);
        }
}

// 5. The three products that are sums over blocks.
ALWAYS_INLINE void backward_sums(const BackwardParts *s, real *dqt, int k0, int q0, int rows) {
    real *dv_sum = s->dvt + (size_t)k0 * s->size.hs_rows, *dk_sum = s->dkt + (size_t)k0 * s->size.hs_rows;
    const real *g_block = s->ga + (size_t)q0 * TILE_M, *q_block = s->qa + (size_t)q0 * TILE_M;
    size_t t_stride = s->size.t_rows * TILE_M;
    for (int i0 = 0; i0 < rows;) { // queries that see the same thirds of the keys
        int seen = q0 + i0 - k0 >= TILE_N ? 3 : (q0 + i0 - k0) / THIRD_N + 1, n = seen < 3 ? THIRD_N : rows - i0;
        tiles_add(dv_sum, g_block + (size_t)i0 * TILE_M, t_stride, s->p + (size_t)i0 * TILE_N, s->size.hs_rows, n, 0,
                  seen);
        tiles_add(dk_sum, q_block + (size_t)i0 * TILE_M, t_stride, s->ds + (size_t)i0 * TILE_N, s->size.hs_rows, n, 0,
                  seen);
        i0 += n;
    }
    for (int i0 = 0; i0 < rows; i0 += TILE_N) {
        real *dq_sum = dqt + (size_t)(q0 + i0) * s->size.hs_rows;
        const real *ds_block = s->dst + (size_t)i0 * TILE_N;
        if (q0 + i0 == k0) // key c is seen by queries from c on
            for (int i = 0; i < 3; i++)
                tiles_add(dq_sum, s->ka + (size_t)(i * THIRD_N) * TILE_M, TILE_N * TILE_M,
                          ds_block + (size_t)(i * THIRD_N) * TILE_N, s->size.hs_rows, THIRD_N, i, 3);
        else tiles_add(dq_sum, s->ka, TILE_N * TILE_M, ds_block, s->size.hs_rows, TILE_N, 0, 3);
    }
}

// 6. Stores dK and dV of the panel of keys from k0 on.
ALWAYS_INLINE void backward_store(const BackwardParts *s, Rows dk, Rows dv, int k0) {
    int HS = s->HS, count = s->T - k0 < TILE_N ? s->T - k0 : TILE_N;
    size_t at = (size_t)k0 * s->size.hs_rows;
    for (int i = 0; i < TILE_N; i++) s->factor[i] = s->scale;
    store_transposed(dk, s->dkt + at, TILE_N, s->factor, HS, count);
    for (int i = 0; i < TILE_N; i++) s->factor[i] = 1;
    store_transposed(dv, s->dvt + at, TILE_N, s->factor, HS, count);
}

// d is overwritten; dout, out and lse as in attention_forward with Tq == Tkv == T. A task is one head of
// keys and a range of keys; the ranges add to dq separately, and these parts are summed at the end in
// a fixed order. Their number depends on the shape alone.
static inline void attention_backward(Heads d, const real *dout, const real *out, const real *lse, Heads in,
                                      AttentionShape shape, Cpu *cpu) {
    if (cpu->unit == UNIT_TILES) {
        attention_tiles_backward(d, dout, out, lse, in, shape, cpu);
        return;
    }
    int B = shape.B, T = shape.Tq, NH = shape.NH, NKV = shape.NKV, HS = shape.HS;
    AttentionScratch size = attention_scratch(T, HS);
    int group = NH / NKV, panels = ceil_divide(T, TILE_N);
    int ranges = key_ranges(panels, T, B * NKV);
    size_t dq_size = (size_t)B * (size_t)NH * size.q_across; // dQ^T (B, NH, panels, hs_rows, TILE_N), for each range
    real *dq_parts =
             (real *)cpu_workspace(cpu, sizeof(real) * (dq_size * (size_t)ranges + size.total * (size_t)cpu->threads)),
         *scratch = dq_parts + dq_size * (size_t)ranges;
    real scale = (real)shape.scale;
    OMP(parallel for num_threads(cpu->threads) schedule(dynamic))
    for (int task = 0; task < ranges * B * NKV; task++) {
        int range = task / (B * NKV), b = task % (B * NKV) / NKV, kh = task % NKV;
        int p_first = key_range_start(panels, range, ranges), p_last = key_range_start(panels, range + 1, ranges);
        int start = p_first * TILE_N; // queries before it see none of these keys
        int q_end = queries_end(shape, b, p_last * TILE_N - 1, start, TILE_N); // of those that see any of them
        BackwardParts s = backward_parts(scratch + size.total * (size_t)this_thread(), size, shape, b);
        size_t first = (size_t)start * size.hs_rows, numbers = (size_t)(p_last - p_first) * TILE_N * size.hs_rows;
        memset(s.dkt + first, 0, sizeof(real) * numbers);
        memset(s.dvt + first, 0, sizeof(real) * numbers);
        Rows k = {head_at(in.k, b, 0, kh, T, HS), in.k.ld}, v = {head_at(in.v, b, 0, kh, T, HS), in.v.ld};
        for (int h = kh * group; h < (kh + 1) * group; h++) {
            size_t head = (size_t)b * (size_t)NH + (size_t)h, ld = (size_t)NH * (size_t)HS,
                   at = (size_t)b * (size_t)T * ld + (size_t)h * (size_t)HS;
            Rows q = {head_at(in.q, b, 0, h, T, HS), in.q.ld}, g = {(real *)dout + at, NH * HS};
            real *dqt = dq_parts + (size_t)range * dq_size + head * size.q_across;
            memset(dqt + first, 0, sizeof(real) * (size.t_rows - (size_t)start) * size.hs_rows);
            backward_pack(&s, s.qp, s.qa, q, start, q_end);
            backward_pack(&s, s.gp, s.ga, g, start, q_end);
            QueryStats stats = {s.stat, s.delta, T, (int)size.t_rows, HS};
            query_stats(stats, lse + head * (size_t)T, dout + at, out + at, ld, start);
            for (int k0 = start; k0 < p_last * TILE_N; k0 += TILE_N) {
                backward_pack_keys(&s, k, v, k0);
                int end = queries_end(shape, b, k0 + TILE_N - 1, k0, TILE_N);
                for (int q0 = k0; q0 < end; q0 += ATTENTION_QUERIES * TILE_N) {
                    int rows = (int)int64_min(ATTENTION_QUERIES * TILE_N, end - q0);
                    backward_slopes(&s, k0, q0, rows);
                    backward_transpose(&s, rows);
                    backward_sums(&s, dqt, k0, q0, rows);
                }
            }
        }
        for (int k0 = start; k0 < p_last * TILE_N; k0 += TILE_N) {
            Rows dk = {head_at(d.k, b, k0, kh, T, HS), d.k.ld}, dv = {head_at(d.v, b, k0, kh, T, HS), d.v.ld};
            backward_store(&s, dk, dv, k0);
        }
    }
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int task = 0; task < B * NH * panels; task++) {
        int panel = task % panels, head = task / panels, t = panel * TILE_N, count = T - t < TILE_N ? T - t : TILE_N;
        real factor[TILE_N], *sum = dq_parts + (size_t)head * size.q_across + (size_t)t * size.hs_rows;
        key_ranges_sum(sum, size.hs_rows * TILE_N, dq_size, panel, panels, ranges);
        for (int i = 0; i < TILE_N; i++) factor[i] = scale;
        Rows dq = {head_at(d.q, head / NH, t, head % NH, T, HS), d.q.ld};
        store_transposed(dq, sum, TILE_N, factor, HS, count);
    }
}

#endif
