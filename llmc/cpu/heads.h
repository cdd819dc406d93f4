/*
heads.h: what the two ways of attention share, attention.h and attention_tiles.h: where heads lie, the softmax over
blocks of keys, and how the backward pass deals out keys.
*/
#ifndef LLMC_CPU_HEADS_H
#define LLMC_CPU_HEADS_H

#include "../model.h"
#include "pack.h"
#include <float.h>

// Rows that lie ld numbers apart.
typedef struct {
    real *at;
    int ld;
} Rows;

// Queries (B, Tq, NH HS), keys and values (B, Tkv, NKV HS), or their gradients.
typedef struct {
    Rows q, k, v;
} Heads;

// Queries of one head that are worked on together: `count` of sequence b from the t-th on.
typedef struct {
    int b, t, count;
} QueryBlock;

// A number that every score is above, and that can be subtracted from itself: where scores begin that documents and
// windows may all hide from a query. -Inf - -Inf would be NaN.
#ifdef REAL_DOUBLE
#define SCORE_LEAST (-DBL_MAX)
#else
#define SCORE_LEAST (-FLT_MAX)
#endif

// The first key that each of a block's queries sees; queries that only fill the block see what the last one does.
ALWAYS_INLINE void block_firsts(vint *firsts, int vectors, QueryBlock block, AttentionShape s) {
    for (int i = 0; i < vectors * VL; i++)
        firsts[i / VL][i % VL] = attention_first(s, block.b, block.t + (i < block.count ? i : block.count - 1));
}

// Where the queries end, in blocks of `step` from query t on, of which one sees a key up to `key` of sequence b.
static inline int queries_end(AttentionShape s, int b, int key, int t, int step) {
    if (!s.window && !s.starts) return (s.Tq + step - 1) / step * step;
    while (t < s.Tq && attention_first(s, b, t) <= key) t += step;
    return t;
}

ALWAYS_INLINE size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

// to (count, HS) = from (HS, count)^T, whose rows lie ld apart, column q times factor[q]
static inline void store_transposed(Rows to, const real *from, int ld, const real *factor, int HS, int count) {
    for (int q = 0; q < count; q += VL) {
        vreal f = vload(factor + q);
        for (int d = 0; d < HS; d += VL) {
            vreal r[VL > TILE_M ? VL : TILE_M];
            for (int i = 0; i < VL; i++)
                r[i] = d + i < HS ? vload(from + (size_t)(d + i) * (size_t)ld + q) * f : (vreal){0};
            transpose_rows(r, VL);
            for (int i = 0; i < VL && q + i < count; i++) {
                store_up_to(to.at + (size_t)(q + i) * (size_t)to.ld + d, r[i], HS - d);
            }
        }
    }
}

// ---------------------------------------------------------------- softmax, block by block

// Of VL queries: the largest score so far, and the sum of e^(score - m).
typedef struct {
    vreal m, l;
} Softmax;

// Scores s (keys, VL), ld apart, of a block of keys become e^(s - m), where m is now top, the largest with this block;
// what was summed by the m before, l and o (rows, VL), ld apart, is scaled to it.
ALWAYS_INLINE void softmax_step(Softmax *x, vreal top, real *s, int keys, real *o, size_t rows, int ld) {
    vreal alpha = vexp_falling(x->m - top), sum = {0};
    x->m = top;
    for (int k = 0; k < keys; k++) {
        real *at = s + (size_t)k * (size_t)ld;
        vreal p = vexp_falling(vload(at) - x->m);
        sum += p;
        vstore(at, p);
    }
    x->l = x->l * alpha + sum;
    vint changed = ~(alpha == 1);
    bool any = false;
    for (int i = 0; i < VL; i++) any = any || changed[i];
    for (size_t d = 0; d < rows && any; d++) vstore(o + d * (size_t)ld, vload(o + d * (size_t)ld) * alpha);
}

// out (count, HS) = o (HS, ld)^T / l, lse (count) or NULL = log(l) + m; x: of the ld queries
static inline void softmax_store(Rows out, real *lse, const Softmax *x, const real *o, int ld, int HS, int count) {
    real factor[(int)TILE_N > (int)AMX_BLOCK ? (int)TILE_N : (int)AMX_BLOCK];
    for (int j = 0; j < ld / VL; j++) vstore(factor + j * VL, 1 / x[j].l);
    store_transposed(out, o, ld, factor, HS, count);
    if (lse)
        for (int i = 0; i < count; i++) lse[i] = (real)(log((double)x[i / VL].l[i % VL]) + (double)x[i / VL].m[i % VL]);
}

// ---------------------------------------------------------------- the backward pass

// Of a head's T queries, and of those up to `rows` that fill a block.
typedef struct {
    real *stat, *delta; // (rows): lse, Inf behind T (probability 0); sum of dO * O
    int T, rows, HS;
} QueryStats;

// Of the queries from `start` on; rows of dO (g) and O lie ld apart.
static inline void query_stats(QueryStats q, const real *lse, const real *g, const real *o, size_t ld, int start) {
    for (int t = start; t < q.rows; t++) {
        q.stat[t] = t < q.T ? lse[t] : (real)INFINITY;
        vreal sum = {0};
        for (int d = 0; t < q.T && d < q.HS; d += VL)
            sum += load_up_to(o + (size_t)t * ld + d, q.HS - d) * load_up_to(g + (size_t)t * ld + d, q.HS - d);
        q.delta[t] = vsum(sum);
    }
}

// A task is a head of keys and a range of its panels of keys, of equal areas under the diagonal: key i is seen by T - i
// queries. Each range adds to dq separately: more than one only where heads are few and threads may be many.
static inline int key_ranges(int panels, int T, int heads) {
    return (int)int64_min(panels, int64_max(1, int64_min(T / 1024, 96 / heads)));
}
// The first panel of a range; range == ranges: their end.
static inline int key_range_start(int panels, int range, int ranges) {
    return range == ranges ? panels : (int)(panels * (1 - sqrt(1 - (double)range / ranges)));
}
// sum (n) += what the other ranges added, `stride` numbers apart; those that begin behind the queries' panel did not.
static inline void key_ranges_sum(real *sum, size_t n, size_t stride, int panel, int panels, int ranges) {
    for (int range = 1; range < ranges && key_range_start(panels, range, ranges) <= panel; range++) {
        const real *part = sum + (size_t)range * stride;
        for (size_t i = 0; i < n; i += VL) vstore(sum + i, vload(sum + i) + vload(part + i));
    }
}

// ---------------------------------------------------------------- where heads lie

// Head h of token t of sequence b, of sequences of T tokens.
static inline real *head_at(Rows r, int b, int t, int h, int T, int HS) {
    return r.at + ((size_t)b * (size_t)T + (size_t)t) * (size_t)r.ld + (size_t)h * (size_t)HS;
}

#endif
