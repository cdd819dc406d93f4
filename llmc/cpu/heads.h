/*
heads.h: where the heads of attention lie, for attention.h and attention_tiles.h.
*/
#ifndef LLMC_CPU_HEADS_H
#define LLMC_CPU_HEADS_H

#include "pack.h"

// Rows that lie ld numbers apart.
typedef struct {
    real *at;
    int ld;
} Rows;

// Queries (B, Tq, NH HS), keys and values (B, Tkv, NKV HS), or their gradients.
typedef struct {
    Rows q, k, v;
} Heads;

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

// Head h of token t of sequence b, of sequences of T tokens.
static inline real *head_at(Rows r, int b, int t, int h, int T, int HS) {
    return r.at + ((size_t)b * (size_t)T + (size_t)t) * (size_t)r.ld + (size_t)h * (size_t)HS;
}

#endif
