/*
muon.h: Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) and NorMuon (Li et al. 2025, arXiv:2510.05491):
momentum, whose matrix is replaced by the nearest one with orthogonal rows (or columns), so that every direction moves
equally far. llmc/cuda/muon.h has the same functions.

    1. m = momentum m + (1 - momentum) g;  u = momentum m + (1 - momentum) g (Nesterov), or m
    2. X = u / |u|;  several times  X = a X + (b A + c A A) X,  A = X X^T    (Newton-Schulz; rows <= columns, else X^T)
    3. NorMuon: rows of X to equal root mean squares over time, and back to the norm of before
    4. w = w (1 - lr decay) - lr scale X;  cautious: decay only where the update shrinks w too

Each (rows, cols) matrix is one of the model's: queries, keys and values apart, gate and up apart (param_matrices).
Symmetric products (A and A A) are computed in stripes that leave out most of the lower half. With bf16 products 2. runs
in bf16, which the iteration forgives.

Needs 2 rows cols + 3 min(rows, cols)^2 numbers of scratch memory. Bits do not depend on threads.
*/
#ifndef LLMC_CPU_MUON_H
#define LLMC_CPU_MUON_H

#include "gemm.h"
#include "optimizer.h"

// A matrix and its state: (rows, cols) each. row_moment (rows): NorMuon's, or NULL.
typedef struct {
    real *w;
    const real *g;
    real *moment, *row_moment;
    int rows, cols;
} MuonMatrix;

enum { MUON_SQUARES = 3 }; // of muon_scratch

// Rows (or columns) i of an operand onwards.
static inline Operand operand_from(Operand o, int i) {
    o.data += (size_t)i * (o.layout == LAYOUT_ALONG_K ? o.ld : 1);
    return o;
}

enum { SYMMETRIC_STRIPE = 256 }; // rows; narrower ones leave out more and cost more in edges. Tunable.

// out (m, m) = A (m, K) B (K, m), or += where `add`, which is known to be symmetric: what lies left of a stripe's
// square is mirrored.
static inline void gemm_symmetric(real *out, Operand A, Operand B, int m, int K, bool add, Cpu *cpu) {
    for (int i = 0; i < m; i += SYMMETRIC_STRIPE) {
        int rows = m - i < SYMMETRIC_STRIPE ? m - i : SYMMETRIC_STRIPE;
        real *at = out + (size_t)i * (size_t)m + i;
        Target to = {at, add ? at : NULL, NULL, (size_t)m};
        gemm(to, operand_from(A, i), operand_from(B, i), rows, m - i, K, cpu);
    }
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int i = SYMMETRIC_STRIPE; i < m; i++)
        for (int j = 0; j < i / SYMMETRIC_STRIPE * SYMMETRIC_STRIPE; j++)
            out[(size_t)i * (size_t)m + j] = out[(size_t)j * (size_t)m + i];
}

// x (n) *= by
static inline void scale_numbers(real *x, size_t n, real by, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int64_t i = 0; i < (int64_t)n; i++) x[i] *= by;
    (void)cpu;
}

// x (rows, cols) becomes nearly orthogonal: singular values go towards 1. x lies in scratch; returns where the result
// is, x or `other`. squares (3, m, m): A, c A, and b A + c A A.
static inline real *newton_schulz(real *x, real *other, real *squares, int rows, int cols, const MuonRule *rule,
                                  Cpu *cpu) {
    size_t n = (size_t)rows * (size_t)cols;
    bool wide = rows <= cols;
    int m = wide ? rows : cols, K = wide ? cols : rows;
    size_t square = cpu_align((size_t)m * (size_t)m), ld = (size_t)cols, lm = (size_t)m;
    real *a = squares, *ca = squares + square, *p = squares + 2 * square;
    scale_numbers(x, n, (real)muon_start(rule, sqrt(sum_of_squares(x, n, cpu))), cpu);
    for (int step = 0; step < rule->steps; step++) {
        const double *c = muon_coefficients(rule, step);
        Operand X = {x, ld, wide ? LAYOUT_ALONG_K : LAYOUT_ACROSS_K}, A = {a, lm, LAYOUT_ALONG_K},
                CA = {ca, lm, LAYOUT_ALONG_K}, P = {p, lm, LAYOUT_ALONG_K};
        gemm_symmetric(a, X, X, m, K, false, cpu);
        // What is added to a product stands in its result before: it is not rounded where products are in bf16, and the
        // coefficients cancel.
        OMP(parallel for num_threads(cpu->threads) schedule(static))
        for (int64_t i = 0; i < (int64_t)(lm * lm); i++) {
            ca[i] = (real)c[2] * a[i];
            p[i] = (real)c[1] * a[i];
        }
        OMP(parallel for num_threads(cpu->threads) schedule(static))
        for (int64_t i = 0; i < (int64_t)n; i++) other[i] = (real)c[0] * x[i];
        gemm_symmetric(p, A, CA, m, m, true, cpu);
        Target to = {other, other, NULL, ld};
        Operand across = {x, ld, LAYOUT_ACROSS_K}, along = {x, ld, LAYOUT_ALONG_K};
        if (wide) gemm(to, P, across, rows, cols, m, cpu);
        else gemm(to, along, P, rows, cols, m, cpu);
        real *free_ = x;
        x = other, other = free_;
    }
    return x;
}

// 3. x (rows, cols), v (rows)
static inline void normuon_rows(real *x, real *v, int rows, int cols, const MuonRule *rule, Cpu *cpu) {
    size_t n = (size_t)rows * (size_t)cols;
    double before = sqrt(sum_of_squares(x, n, cpu));
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int r = 0; r < rows; r++) {
        real *xr = x + (size_t)r * (size_t)cols, sum = 0;
        for (int c = 0; c < cols; c++) sum += xr[c] * xr[c];
        v[r] = (real)rule->beta2 * v[r] + (real)(1 - rule->beta2) * (sum / (real)cols);
        real by = 1 / ((real)sqrt((double)v[r]) + (real)MUON_EPS);
        for (int c = 0; c < cols; c++) xr[c] *= by;
    }
    double after = sqrt(sum_of_squares(x, n, cpu));
    scale_numbers(x, n, (real)(before / (after + MUON_EPS)), cpu);
}

// One step of a matrix. g is multiplied by clip first. scratch: muon_scratch(rows, cols, MUON_SQUARES) numbers.
// False: a w is not finite now; an m or a row moment that is not makes all of them so.
static inline bool muon_update(MuonMatrix s, const MuonRule *r, const GroupRule *group, double clip, real *scratch,
                               Cpu *cpu) {
    size_t n = (size_t)s.rows * (size_t)s.cols;
    real *x = scratch, *other = scratch + cpu_align(n), *squares = scratch + 2 * cpu_align(n);
    real keep = (real)r->momentum, add = (real)(1 - r->momentum), gs = (real)clip;
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int64_t i = 0; i < (int64_t)n; i++) {
        real gi = s.g[i] * gs, mi = keep * s.moment[i] + add * gi;
        s.moment[i] = mi;
        x[i] = r->nesterov ? keep * mi + add * gi : mi;
    }
    x = newton_schulz(x, other, squares, s.rows, s.cols, r, cpu);
    if (s.row_moment) normuon_rows(x, s.row_moment, s.rows, s.cols, r, cpu);
    real rate = (real)(group->lr * muon_scale(r, s.rows, s.cols)), decay = (real)(group->lr * group->weight_decay);
    real bad = 0; // NaN: one that is not finite
    OMP(parallel for num_threads(cpu->threads) schedule(static) reduction(+ : bad))
    for (int64_t i = 0; i < (int64_t)n; i++) {
        real w = s.w[i], shrink = !r->cautious || x[i] * w > 0 ? decay : 0;
        w = w - shrink * w - rate * x[i];
        s.w[i] = w;
        bad += w * 0;
    }
    return bad == 0;
}

#endif
