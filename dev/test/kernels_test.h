/*
kernels_test.h: every kernel of llmc/cpu/ against a plain version of itself: loops without blocking,
in double, written from the formula. Shapes divide nothing (no vector length, no tile, no run of K), and
some cross the borders of the fast version. Each kernel runs with several thread counts, and their
results must be the same bit for bit; inputs with NaN and Inf must give NaN and Inf where the formula
does; what accumulates is called twice.

Tolerances. A sum of K products in float, in any order, is off by at most K eps/2 times the sum of
the magnitudes of its terms, and by about sqrt(K) of that where errors are random. The plain version
therefore also sums magnitudes, and an element may be off by FACTOR * eps * that magnitude, where the
factor is chosen per kernel beside the check. The same factors serve float and double: eps changes.
*/
#ifndef KERNELS_TEST_H
#define KERNELS_TEST_H

#include "../../llmc/cpu/attention.h"
#include "../../llmc/cpu/embedding.h"
#include "../../llmc/cpu/gemm.h"
#include "../../llmc/cpu/loss.h"
#include "../../llmc/cpu/mlp.h"
#include "../../llmc/cpu/xielu.h"
#include "../../llmc/cpu/muon.h"
#include "../../llmc/cpu/norm.h"
#include "../../llmc/cpu/optimizer.h"
#include "../../llmc/cpu/peak.h"
#include "../../llmc/cpu/rope.h"
#include "../../llmc/cpu/unit.h"
#include <float.h>

#ifdef REAL_DOUBLE
#define REAL_EPS DBL_EPSILON
#else
#define REAL_EPS ((double)FLT_EPSILON)
#endif

// ---------------------------------------------------------------- helpers

// What the plain version gave in the first run of a case, one array behind the other: the runs with other thread counts
// read it again.
typedef struct {
    double *data;
    size_t size, capacity, read;
    bool known;
} KernelPlain;

// Everything a case computed, likewise, to compare runs bit for bit.
typedef struct {
    real *data;
    size_t size, capacity;
    KernelPlain *plain;
} KernelOutputs;

static void kernel_keep(KernelOutputs *o, const real *x, size_t n) {
    o->data = (real *)mem_grow(o->data, &o->capacity, o->size + n, sizeof(real));
    memcpy(o->data + o->size, x, n * sizeof(real));
    o->size += n;
}

static bool kernel_plain_known(KernelPlain *p, double *x, size_t n) {
    if (!p->known) return false;
    memcpy(x, p->data + p->read, n * sizeof(double));
    p->read += n;
    return true;
}
static void kernel_plain_keep(KernelPlain *p, const double *x, size_t n) {
    p->data = (double *)mem_grow(p->data, &p->capacity, p->size + n, sizeof(double));
    memcpy(p->data + p->size, x, n * sizeof(double));
    p->size += n;
}

// Numbers in [-1, 1) that depend on seed and index alone.
static real kernel_number(uint64_t seed, uint64_t i) {
    uint64_t z = seed * 0x9E3779B97F4A7C15u + i * 0xD1B54A32D192ED03u + 0x632BE59BD9B4E019u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (real)((double)(z >> 40) / (double)(1 << 23) - 1.0);
}
static real *kernel_random(size_t n, uint64_t seed) {
    real *x = (real *)mem_alloc(n * sizeof(real));
    for (size_t i = 0; i < n; i++) x[i] = kernel_number(seed, i);
    return x;
}
static real *kernel_zeros(size_t n) { return (real *)mem_alloc(n * sizeof(real)); }
// Fills an output that must be overwritten: a value that is left over is NaN and is found.
static real *kernel_garbage(size_t n) {
    real *x = (real *)mem_alloc(n * sizeof(real));
    for (size_t i = 0; i < n; i++) x[i] = (real)NAN;
    return x;
}
static double *kernel_doubles(size_t n) { return (double *)mem_alloc(n * sizeof(double)); }

// got (n) must be within factor * eps * magnitude of want; NaN where want is NaN, Inf where it is Inf.
static void kernel_compare(const char *what, const real *got, const double *want, const double *magnitude, size_t n,
                           double factor) {
    double worst = -1;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        double w = want[i], g = (double)got[i], ratio;
        if (isnan(w)) ratio = isnan(g) ? 0 : INFINITY;
        else if (isinf(w)) ratio = g == w ? 0 : INFINITY;
        else ratio = fabs(g - w) / (REAL_EPS * (magnitude[i] + 1e-30));
        if (isnan(ratio)) ratio = INFINITY;
        if (ratio > worst) {
            worst = ratio;
            at = i;
        }
    }
    CHECK(worst <= factor,
          "%s: element %zu of %zu is %.9g, plain version %.9g: off by %.2f eps of its terms' magnitude, allowed %.2f",
          what, at, n, (double)got[at], want[at], worst, factor);
    if (getenv("KERNELS_TEST_VERBOSE")) printf("    %-40s worst %.2f of allowed %.2f\n", what, worst, factor);
}

typedef void (*KernelCase)(Cpu *cpu, KernelOutputs *out, int variant);

// Runs a case with several thread counts; every count must give the bits of the first.
static void kernel_run_on(const char *name, KernelCase run, int variants, bool bf16, int kernels) {
    static const int threads[4] = {1, 2, 3, 7};
    for (int variant = 0; variant < variants; variant++) {
        KernelPlain plain = {0};
        KernelOutputs first = {0}, other = {0};
        first.plain = other.plain = &plain;
        for (int i = 0; i < 4; i++) {
            Cpu cpu;
            Error err;
            bool opened = cpu_open(&cpu, threads[i], &err) && cpu_choose_unit(&cpu, bf16, kernels, &err);
            CHECK(opened, "%s: %s", name, opened ? "" : err.text);
            if (!opened) return;
            KernelOutputs *o = i == 0 ? &first : &other;
            o->size = plain.read = 0;
            run(&cpu, o, variant);
            plain.known = true;
            if (i > 0)
                CHECK(first.size == other.size && memcmp(first.data, other.data, first.size * sizeof(real)) == 0,
                      "%s, variant %d: %d threads give other bits than 1", name, variant, threads[i]);
            cpu_close(&cpu);
        }
        free(first.data), free(other.data), free(plain.data);
    }
}

static void kernel_run(const char *name, KernelCase run, int variants) {
    kernel_run_on(name, run, variants, false, KERNELS_AUTO);
}

// ---------------------------------------------------------------- linear layers

static double plain_bf16(double x) {
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, 4);
    if (f != f) return x;
    u += 0x7FFF + ((u >> 16) & 1); // to nearest, ties to even
    u &= 0xFFFF0000u;
    memcpy(&f, &u, 4);
    return (double)f;
}
// z (M, N) = op(a) op(b), onto zeros, every element a plain sum over k in order; magnitude likewise. a at (m, k) is
// a[m*am + k*ak], b at (k, n) is b[k*bk + n*bn]. rounded: both operands are rounded to bf16 first.
static void plain_product(KernelPlain *plain, double *z, double *magnitude, const real *a, size_t am, size_t ak,
                          const real *b, size_t bk, size_t bn, int M, int N, int K, bool rounded) {
    size_t count = (size_t)M * (size_t)N;
    if (kernel_plain_known(plain, z, count) && kernel_plain_known(plain, magnitude, count)) return;
    double *rows = kernel_doubles((size_t)K * (size_t)N); // b, rounded once
    for (int k = 0; k < K; k++)
        for (int n = 0; n < N; n++) {
            double y = (double)b[k * bk + n * bn];
            rows[(size_t)k * N + n] = rounded ? plain_bf16(y) : y;
        }
    for (int m = 0; m < M; m++)
        for (int k = 0; k < K; k++) {
            double x = (double)a[m * am + k * ak], *sum = z + (size_t)m * N, *size = magnitude + (size_t)m * N;
            const double *y = rows + (size_t)k * N;
            if (rounded) x = plain_bf16(x);
            for (int n = 0; n < N; n++) sum[n] += x * y[n], size[n] += fabs(x * y[n]);
        }
    free(rows);
    kernel_plain_keep(plain, z, count), kernel_plain_keep(plain, magnitude, count);
}

// N rows, C in, OC out. The last two cross the slab, the strip and the run of K; N <= 8 is the path of generation.
static const int linear_shapes[][3] = {{37, 71, 53}, {1, 1, 1},    {1, 131, 77},     {3, 64, 48},    {8, 19, 257},
                                       {5, 7, 3},    {16, 96, 96}, {131, 1101, 203}, {301, 67, 1201}};
enum { LINEAR_SHAPES = sizeof linear_shapes / sizeof linear_shapes[0] };

static void linear_case(Cpu *cpu, KernelOutputs *out, int variant) {
    int N = linear_shapes[variant / 2][0], C = linear_shapes[variant / 2][1], OC = linear_shapes[variant / 2][2];
    LinearShape shape = {N, C, OC};
    bool poison = variant % 2; // some NaN and Inf among the inputs
    size_t nx = (size_t)N * C, nw = (size_t)OC * C, ny = (size_t)N * OC;
    real *x = kernel_random(nx, 1), *w = kernel_random(nw, 2), *b = kernel_random((size_t)OC, 3),
         *res = kernel_random(ny, 4), *dy = kernel_random(ny, 5);
    if (poison) {
        x[nx / 3] = (real)NAN;
        w[nw / 2] = (real)INFINITY;
        dy[ny - 1] = (real)NAN;
        dy[ny / 2] = -(real)INFINITY;
    }
    // Sums over K run by run: errors of a random walk, with room for the largest of many elements.
    double factor_y = 2 + 0.5 * sqrt(C), factor_x = 2 + 0.5 * sqrt(OC), factor_w = 2 + 0.5 * sqrt(N);
    bool bf16 = cpu->bf16 && N > LINEAR_FEW_ROWS;

    double *want = kernel_doubles(ny), *size = kernel_doubles(ny);
    plain_product(out->plain, want, size, x, C, 1, w, 1, C, N, OC, C, bf16);
    real *y = kernel_garbage(ny);
    linear_forward(y, x, matrix_of(w), NULL, NULL, shape, cpu);
    kernel_compare("linear_forward", y, want, size, ny, factor_y);
    kernel_keep(out, y, ny);
    for (size_t i = 0; i < ny; i++) {
        want[i] += (double)b[i % OC];
        size[i] += fabs((double)b[i % OC]);
    }
    linear_forward(y, x, matrix_of(w), b, NULL, shape, cpu);
    kernel_compare("linear_forward with bias", y, want, size, ny, factor_y);
    for (size_t i = 0; i < ny; i++) {
        want[i] += (double)res[i];
        size[i] += fabs((double)res[i]);
    }
    linear_forward(y, x, matrix_of(w), b, res, shape, cpu);
    kernel_compare("linear_forward with bias and residual", y, want, size, ny, factor_y);
    kernel_keep(out, y, ny);
    memcpy(y, res, ny * sizeof(real));
    linear_forward(y, x, matrix_of(w), b, y, shape, cpu);
    kernel_compare("linear_forward onto its residual", y, want, size, ny, factor_y);

    double *want_x = kernel_doubles(nx), *size_x = kernel_doubles(nx);
    bf16 = cpu->bf16;
    plain_product(out->plain, want_x, size_x, dy, OC, 1, w, C, 1, N, C, OC, bf16);
    real *dx = kernel_garbage(nx);
    linear_backward_input(dx, dy, matrix_of(w), shape, cpu);
    kernel_compare("linear_backward_input", dx, want_x, size_x, nx, factor_x);
    kernel_keep(out, dx, nx);

    double *want_w = kernel_doubles(nw), *size_w = kernel_doubles(nw), *want_b = kernel_doubles((size_t)OC),
           *size_b = kernel_doubles((size_t)OC);
    plain_product(out->plain, want_w, size_w, dy, 1, OC, x, C, 1, OC, C, N, bf16);
    for (size_t i = 0; i < ny; i++) {
        want_b[i % OC] += (double)dy[i];
        size_b[i % OC] += fabs((double)dy[i]);
    }
    real *dw = kernel_zeros(nw), *db = kernel_zeros((size_t)OC);
    linear_backward_weight(dw, db, dy, x, shape, cpu);
    kernel_compare("linear_backward_weight", dw, want_w, size_w, nw, factor_w);
    kernel_compare("linear_backward_weight, bias", db, want_b, size_b, (size_t)OC, factor_w);
    linear_backward_weight(dw, db, dy, x, shape, cpu);
    for (size_t i = 0; i < nw; i++) want_w[i] *= 2;
    for (size_t i = 0; i < nw; i++) size_w[i] *= 2;
    for (int i = 0; i < OC; i++) want_b[i] *= 2;
    for (int i = 0; i < OC; i++) size_b[i] *= 2;
    kernel_compare("linear_backward_weight twice", dw, want_w, size_w, nw, factor_w);
    kernel_compare("linear_backward_weight twice, bias", db, want_b, size_b, (size_t)OC, factor_w);
    kernel_keep(out, dw, nw);
    kernel_keep(out, db, (size_t)OC);
    linear_backward_weight(dw, NULL, dy, x, shape, cpu); // no bias
    linear_backward_weight(NULL, db, dy, x, shape, cpu); // frozen weights
    for (int i = 0; i < OC; i++) want_b[i] *= 1.5, size_b[i] *= 1.5;
    for (size_t i = 0; i < nw; i++) want_w[i] *= 1.5, size_w[i] *= 1.5;
    kernel_compare("linear_backward_weight, no bias, then no weights", dw, want_w, size_w, nw, factor_w);
    kernel_compare("linear_backward_weight, no bias, then no weights: bias", db, want_b, size_b, (size_t)OC, factor_w);

    free(x), free(w), free(b), free(res), free(dy), free(want), free(size), free(y), free(want_x), free(size_x),
        free(dx);
    free(want_w), free(size_w), free(want_b), free(size_b), free(dw), free(db);
}

#ifndef REAL_DOUBLE
// Weights that are kept as bf16: the sums of the rounded weights, and to the bit what these give as floats.
static void half_case(Cpu *cpu, KernelOutputs *out, int variant) {
    int N = linear_shapes[variant / 2][0], C = linear_shapes[variant / 2][1], OC = linear_shapes[variant / 2][2];
    LinearShape shape = {N, C, OC};
    size_t nx = (size_t)N * C, nw = (size_t)OC * C, ny = (size_t)N * OC;
    real *x = kernel_random(nx, 1), *w = kernel_random(nw, 2), *b = kernel_random((size_t)OC, 3),
         *res = kernel_random(ny, 4), *y = kernel_garbage(ny), *same = kernel_garbage(ny);
    if (variant % 2) x[nx / 3] = (real)NAN, w[nw / 2] = (real)INFINITY;
    uint16_t *half = (uint16_t *)mem_alloc(sizeof *half * nw);
    int wrong = 0;
    half_store(half, w, nw);
    for (size_t i = 0; i < nw; i++) wrong += (double)bf16_to_float(half[i]) != plain_bf16((double)w[i]);
    CHECK(wrong == 0, "half_store: %d of %zu numbers are not the nearest of bf16", wrong, nw);
    half_widen(w, half, nw);
    double *want = kernel_doubles(ny), *size = kernel_doubles(ny);
    plain_product(out->plain, want, size, x, C, 1, w, 1, C, N, OC, C, N > LINEAR_FEW_ROWS);
    for (size_t i = 0; i < ny; i++) {
        want[i] += (double)b[i % OC] + (double)res[i];
        size[i] += fabs((double)b[i % OC]) + fabs((double)res[i]);
    }
    Matrix halved = {NULL, half, NULL};
    linear_forward(y, x, halved, b, res, shape, cpu);
    kernel_compare("linear_forward, weights in bf16", y, want, size, ny, 2 + 0.5 * sqrt(C));
    linear_forward(same, x, matrix_of(w), b, res, shape, cpu);
    for (size_t i = 0; i < ny; i++)
        wrong += memcmp(y + i, same + i, sizeof *y) != 0 && !(isnan(y[i]) && isnan(same[i]));
    CHECK(wrong == 0, "linear_forward: %d of %zu sums of weights in bf16 have other bits than of floats", wrong, ny);
    kernel_keep(out, y, ny);
    free(x), free(w), free(b), free(res), free(y), free(same), free(half), free(want), free(size);
}
#endif

// ---------------------------------------------------------------- norms

static void norm_case(Cpu *cpu, KernelOutputs *out, int variant) {
    static const int shapes[][2] = {{7, 24}, {131, 97}, {3, 1}, {65, 64}, {2, 769}};
    int N = shapes[variant / 4][0], C = shapes[variant / 4][1];
    bool layer = variant / 2 % 2, poison = variant % 2;
    real eps = (real)1e-5;
    size_t n = (size_t)N * C;
    real *x = kernel_random(n, 11), *w = kernel_random((size_t)C, 12), *b = kernel_random((size_t)C, 13),
         *dy = kernel_random(n, 14);
    for (size_t i = 0; i < n; i++) x[i] += (real)0.5;
    if (poison) {
        x[n / 2] = (real)NAN;
        dy[0] = (real)NAN;
    }
    real *y = kernel_garbage(n), *mean = kernel_garbage((size_t)N), *rstd = kernel_garbage((size_t)N),
         *dx = kernel_zeros(n), *dw = kernel_zeros((size_t)C), *db = kernel_zeros((size_t)C);
    double *want = kernel_doubles(n), *size = kernel_doubles(n), *want_dx = kernel_doubles(n),
           *size_dx = kernel_doubles(n);
    double *want_dw = kernel_doubles((size_t)C), *size_dw = kernel_doubles((size_t)C),
           *want_db = kernel_doubles((size_t)C), *size_db = kernel_doubles((size_t)C);
    for (int i = 0; i < N; i++) {
        const real *xr = x + (size_t)i * C, *gr = dy + (size_t)i * C;
        double m = 0, v = 0, a = 0, q = 0, sa = 0, sq = 0;
        for (int c = 0; c < C; c++) m += layer ? (double)xr[c] / C : 0;
        for (int c = 0; c < C; c++) v += ((double)xr[c] - m) * ((double)xr[c] - m) / C;
        double rs = 1 / sqrt(v + (double)eps);
        for (int c = 0; c < C; c++) {
            double xhat = ((double)xr[c] - m) * rs, g = (double)gr[c] * (double)w[c];
            want[(size_t)i * C + c] = xhat * (double)w[c] + (layer ? (double)b[c] : 0);
            size[(size_t)i * C + c] = (fabs((double)xr[c]) + fabs(m)) * rs * fabs((double)w[c]) + fabs((double)b[c]);
            a += layer ? g / C : 0;
            q += g * xhat / C;
            sa += fabs(g) / C;
            sq += fabs(g * xhat) / C;
            want_dw[c] += (double)gr[c] * xhat;
            size_dw[c] += fabs((double)gr[c]) * (fabs((double)xr[c]) + fabs(m)) * rs;
            want_db[c] += (double)gr[c];
            size_db[c] += fabs((double)gr[c]);
        }
        for (int c = 0; c < C; c++) {
            double xhat = ((double)xr[c] - m) * rs, g = (double)gr[c] * (double)w[c];
            want_dx[(size_t)i * C + c] = rs * (g - a - xhat * q);
            size_dx[(size_t)i * C + c] = rs * (fabs(g) + sa + (fabs((double)xr[c]) + fabs(m)) * rs * sq);
        }
    }
    // Mean and variance carry errors of their own, of about the size of the last sum: 8 + sqrt(terms).
    double factor = 8 + sqrt(C), factor_w = 8 + sqrt(C) + sqrt(N);
    // One number in a row: x - mean is 0, and what is left is its rounding error times 1/sqrt(eps).
    if (C == 1) factor *= 10;
    Norm norm = {w, layer ? b : NULL, layer ? mean : NULL, rstd, N, C, eps};
    norm_forward(y, x, norm, cpu);
    kernel_compare(layer ? "norm_forward, LayerNorm" : "norm_forward, RMSNorm", y, want, size, n, factor);
    for (int twice = 0; twice < 2; twice++) {
        norm_backward(dx, dw, layer ? db : NULL, dy, x, norm, cpu);
        kernel_compare("norm_backward, dx", dx, want_dx, size_dx, n, factor);
        kernel_compare("norm_backward, dw", dw, want_dw, size_dw, (size_t)C, factor_w);
        if (layer) kernel_compare("norm_backward, db", db, want_db, size_db, (size_t)C, factor_w);
        for (size_t i = 0; i < n; i++) want_dx[i] *= 2, size_dx[i] *= 2;
        for (int c = 0; c < C; c++) want_dw[c] *= 2, size_dw[c] *= 2, want_db[c] *= 2, size_db[c] *= 2;
    }
    kernel_keep(out, y, n), kernel_keep(out, rstd, (size_t)N), kernel_keep(out, dx, n), kernel_keep(out, dw, (size_t)C),
        kernel_keep(out, db, (size_t)C);
    free(x), free(w), free(b), free(dy), free(y), free(mean), free(rstd), free(dx), free(dw), free(db);
    free(want), free(size), free(want_dx), free(size_dx), free(want_dw), free(size_dw), free(want_db), free(size_db);
}

// ---------------------------------------------------------------- rotary positions and QK-norm

static void qk_case(Cpu *cpu, KernelOutputs *out, int variant) {
    static const int shapes[][5] = {{2, 13, 3, 1, 8}, {1, 70, 4, 2, 10}, {3, 5, 2, 2, 64}}; // B, T, NH, NKV, HS
    const int *s = shapes[variant / 2];
    int B = s[0], T = s[1], NH = s[2], NKV = s[3], HS = s[4], N = B * T, heads = NH + NKV, width = (NH + 2 * NKV) * HS,
        half = HS / 2;
    bool normed = variant % 2;
    real eps = (real)1e-6;
    real *qkv = kernel_random((size_t)N * width, 21), *qw = kernel_random((size_t)HS, 22),
         *kw = kernel_random((size_t)HS, 23), *dqk = kernel_random((size_t)N * heads * HS, 24);
    real *rope = kernel_garbage((size_t)(T + 4) * half * 2), *qk = kernel_garbage((size_t)N * heads * HS),
         *rstd = kernel_garbage((size_t)N * heads);
    real *dqkv = kernel_garbage((size_t)N * width), *dqw = kernel_zeros((size_t)HS), *dkw = kernel_zeros((size_t)HS);
    size_t n = (size_t)N * heads * HS;
    double *want = kernel_doubles(n), *size = kernel_doubles(n), *want_d = kernel_doubles(n),
           *size_d = kernel_doubles(n);
    double *want_w[2] = {kernel_doubles((size_t)HS), kernel_doubles((size_t)HS)},
           *size_w[2] = {kernel_doubles((size_t)HS), kernel_doubles((size_t)HS)};
    double *angles = kernel_doubles((size_t)(T + 4) * half * 2);
    Config plain = config_of_family(FAMILY_LLAMA);
    plain.head_size = HS, plain.rope_theta = 10000;
    rope_table(angles, T + 3, &plain);
    for (int i = 0; i < (T + 4) * half * 2; i++) rope[i] = (real)angles[i];
    free(angles);
    AttentionShape heads_shape = {B, T, T, NH, NKV, HS, 1, 0, NULL};
    Rotation rotation = {normed ? qw : NULL, normed ? kw : NULL, normed ? rstd : NULL, rope, HS, 3, eps, heads_shape};
    CHECK(rope[0] == 1 && rope[1] == 0, "rope_table: position 0 is not the identity");

    // Forward at positions 3 .. T+2, as when a prompt is continued.
    for (int i = 0; i < N; i++)
        for (int h = 0; h < heads; h++) {
            const real *in = qkv + (size_t)i * width + (size_t)h * HS, *w = h < NH ? qw : kw;
            double q = 0;
            for (int d = 0; d < HS; d++) q += (double)in[d] * (double)in[d] / HS;
            double rs = normed ? 1 / sqrt(q + (double)eps) : 1;
            for (int d = 0; d < HS; d++) {
                int pair = d % half;
                double angle = (i % T + 3) * pow(10000, -2.0 * pair / HS), a = (double)in[d] * rs,
                       b = (double)in[(d + half) % HS] * rs;
                if (normed) a *= (double)w[d], b *= (double)w[(d + half) % HS];
                want[((size_t)i * heads + h) * HS + d] = a * cos(angle) + (d < half ? -b : b) * sin(angle);
                size[((size_t)i * heads + h) * HS + d] = fabs(a) + fabs(b);
            }
        }
    qk_forward(qk, qkv, rotation, cpu);
    kernel_compare("qk_forward", qk, want, size, n, 8);
    kernel_keep(out, qk, n);

    // Backward at positions 0 .. T-1: gradient through the rotation, then through the norm.
    rotation.first = 0;
    qk_forward(qk, qkv, rotation, cpu);
    for (int i = 0; i < N; i++)
        for (int h = 0; h < heads; h++) {
            const real *in = qkv + (size_t)i * width + (size_t)h * HS, *w = h < NH ? qw : kw,
                       *g = dqk + ((size_t)i * heads + h) * HS;
            double q = 0, mixed = 0, mixed_size = 0;
            for (int d = 0; d < HS; d++) q += (double)in[d] * (double)in[d] / HS;
            double rs = normed ? 1 / sqrt(q + (double)eps) : 1;
            for (int pass = 0; pass < 2; pass++)
                for (int d = 0; d < HS; d++) {
                    double angle = (i % T) * pow(10000, -2.0 * (d % half) / HS), other = (double)g[(d + half) % HS];
                    double t = (double)g[d] * cos(angle) + (d < half ? other : -other) * sin(angle),
                           t_size = fabs((double)g[d]) + fabs(other);
                    double xhat = (double)in[d] * rs, wd = normed ? (double)w[d] : 1;
                    size_t at = ((size_t)i * heads + h) * HS + d;
                    if (pass == 0) {
                        mixed += t * wd * xhat / HS;
                        mixed_size += t_size * fabs(wd * xhat) / HS;
                        want_w[h >= NH][d] += t * xhat;
                        size_w[h >= NH][d] += t_size * fabs(xhat);
                    } else {
                        want_d[at] = normed ? rs * (t * wd - xhat * mixed) : t;
                        size_d[at] = normed ? rs * (t_size * fabs(wd) + fabs(xhat) * mixed_size) : t_size;
                    }
                }
        }
    for (int twice = 1; twice <= 2; twice++) {
        qk_backward(dqkv, normed ? dqw : NULL, normed ? dkw : NULL, dqk, qkv, rotation, cpu);
        real *packed = kernel_garbage(n);
        bool v_left = true;
        for (int i = 0; i < N; i++) {
            memcpy(packed + (size_t)i * heads * HS, dqkv + (size_t)i * width, sizeof(real) * (size_t)heads * HS);
            for (int d = heads * HS; d < width; d++) v_left = v_left && isnan((double)dqkv[(size_t)i * width + d]);
        }
        kernel_compare("qk_backward", packed, want_d, size_d, n, 16);
        CHECK(v_left, "qk_backward wrote into the v part");
        if (twice == 1) kernel_keep(out, packed, n);
        free(packed);
        if (normed) {
            for (int i = 0; i < 2; i++)
                for (int d = 0; d < HS && twice == 2; d++) want_w[i][d] *= 2, size_w[i][d] *= 2;
            kernel_compare("qk_backward, q weight", dqw, want_w[0], size_w[0], (size_t)HS, 16);
            kernel_compare("qk_backward, k weight", dkw, want_w[1], size_w[1], (size_t)HS, 16);
        }
    }
    kernel_keep(out, dqw, (size_t)HS), kernel_keep(out, dkw, (size_t)HS);
    // A layer without positions: nothing is turned, at any of them.
    layers_add(&plain.unrotated, 2);
    rotation.rope = rope + rope_first(&plain, 2, T + 3), rotation.step = rope_step(&plain, 2), rotation.first = 3;
    CHECK(rope_first(&plain, 1, T + 3) == 0 && rope_step(&plain, 1) == HS, "layers beside it turn");
    if (!normed) {
        qk_forward(qk, qkv, rotation, cpu), qk_backward(dqkv, NULL, NULL, dqk, qkv, rotation, cpu);
        bool still = true;
        for (int i = 0; i < N; i++)
            for (int d = 0; d < heads * HS; d++)
                still = still && qk[i * heads * HS + d] == qkv[i * width + d] &&
                        dqkv[i * width + d] == dqk[i * heads * HS + d];
        CHECK(still, "queries and keys of a layer without positions are turned");
    }
    free(qkv), free(qw), free(kw), free(dqk), free(rope), free(qk), free(rstd), free(dqkv), free(dqw), free(dkw),
        free(want), free(size), free(want_d), free(size_d);
    for (int i = 0; i < 2; i++) free(want_w[i]), free(size_w[i]);
}

// ---------------------------------------------------------------- attention

// B, Tq, Tkv, NH, NKV, HS. q, k and v are columns of one wider array, as in the model.
static const int attention_shapes[][6] = {{2, 13, 13, 3, 1, 8},  {1, 1, 1, 1, 1, 1},      {1, 147, 147, 2, 2, 64},
                                          {2, 75, 75, 4, 2, 10}, {1, 20, 61, 3, 3, 24},   {2, 1, 333, 6, 2, 64},
                                          {1, 1, 50, 2, 1, 7},   {1, 331, 331, 2, 1, 33}, {1, 5, 200, 2, 1, 128}};
enum { ATTENTION_SHAPES = sizeof attention_shapes / sizeof attention_shapes[0] };

// attention.h says that a NaN behind the causal mask may reach queries and keys of the same block of
// TILE_N: there, in batch 0 and the first group of heads alone, NaN is as good as a number.
static void attention_spread(const real *got, double *want, int head, int position, int poisoned, int group, int HS) {
    int block = unit_columns(UNIT_VECTORS) > AMX_BLOCK ? TILE_N : AMX_BLOCK;
    if (head >= group || position + block <= poisoned) return;
    for (int d = 0; d < HS; d++)
        if (isnan((double)got[d])) want[d] = NAN;
}

// Whether query t of sequence b sees key i.
static bool attention_sees(AttentionShape s, int b, int t, int i) {
    int position = s.Tkv - s.Tq + t;
    return i <= position && (!s.window || position - i < s.window) && (!s.starts || i >= s.starts[b * s.Tq + t]);
}

// From the formula: what attention and its backward pass give, and the magnitudes of its terms (_size). q (B, NH, Tq,
// HS) and k, v (B, NKV, Tkv, HS) are gradients, where Tq == Tkv.
typedef struct {
    double *all, *out, *out_size, *lse, *lse_size, *q, *q_size, *k, *k_size, *v, *v_size;
} AttentionPlain;

static void attention_plain(AttentionPlain w, Heads in, const real *dout, AttentionShape shape) {
    int B = shape.B, Tq = shape.Tq, Tkv = shape.Tkv, NH = shape.NH, NKV = shape.NKV, HS = shape.HS, group = NH / NKV;
    int ldq = in.q.ld, ldk = in.k.ld, ldo = NH * HS;
    const real *q = in.q.at, *k = in.k.at, *v = in.v.at;
    double *p = kernel_doubles((size_t)Tkv), scale = shape.scale;
    for (int b = 0; b < B; b++)
        for (int h = 0; h < NH; h++)
            for (int t = 0; t < Tq; t++) {
                int n = Tkv - Tq + t + 1, kh = h / group;
                const real *qr = q + ((size_t)b * Tq + t) * ldq + (size_t)h * HS,
                           *go = dout + ((size_t)b * Tq + t) * ldo + (size_t)h * HS;
                double m = -INFINITY, sum = 0, biggest = 0, delta = 0, delta_size = 0;
                for (int i = 0; i < n; i++) {
                    const real *kr = k + ((size_t)b * Tkv + i) * ldk + (size_t)kh * HS;
                    double dot = 0, mag = 0;
                    for (int d = 0; d < HS; d++)
                        dot += (double)qr[d] * (double)kr[d] * scale,
                            mag += fabs((double)qr[d] * (double)kr[d] * scale);
                    p[i] = -INFINITY;
                    if (!attention_sees(shape, b, t, i)) continue;
                    p[i] = dot;
                    if (!(dot <= m)) m = dot;
                    if (mag > biggest) biggest = mag;
                }
                for (int i = 0; i < n; i++) sum += (p[i] = exp(p[i] - m));
                for (int i = 0; i < n; i++) p[i] /= sum;
                size_t at = ((size_t)b * NH + h) * Tq + t, row = ((size_t)b * Tq + t) * ldo + (size_t)h * HS;
                w.lse[at] = log(sum) + m;
                w.lse_size[at] = biggest + fabs(w.lse[at]) + 1;
                // An error of eps * biggest in a score is a relative error of that size in its probability.
                for (int d = 0; d < HS; d++) {
                    for (int i = 0; i < n; i++) {
                        double x = p[i] * (double)v[((size_t)b * Tkv + i) * ldk + (size_t)kh * HS + d];
                        w.out[row + d] += x;
                        w.out_size[row + d] += fabs(x) * (1 + biggest);
                    }
                    delta += w.out[row + d] * (double)go[d];
                    delta_size += w.out_size[row + d] * fabs((double)go[d]);
                }
                if (Tq != Tkv) continue;
                for (int i = 0; i < n; i++) {
                    const real *kr = k + ((size_t)b * Tkv + i) * ldk + (size_t)kh * HS,
                               *vr = v + ((size_t)b * Tkv + i) * ldk + (size_t)kh * HS;
                    double dp = 0, dp_size = 0;
                    for (int d = 0; d < HS; d++)
                        dp += (double)go[d] * (double)vr[d], dp_size += fabs((double)go[d] * (double)vr[d]);
                    double ds = p[i] * (dp - delta) * scale,
                           ds_size = p[i] * (dp_size + delta_size) * scale * (1 + biggest);
                    for (int d = 0; d < HS; d++) {
                        size_t kd = (((size_t)b * NKV + kh) * Tkv + i) * HS + d;
                        w.q[at * HS + d] += ds * (double)kr[d];
                        w.q_size[at * HS + d] += ds_size * fabs((double)kr[d]);
                        w.k[kd] += ds * (double)qr[d];
                        w.k_size[kd] += ds_size * fabs((double)qr[d]);
                        w.v[kd] += p[i] * (double)go[d];
                        w.v_size[kd] += p[i] * fabs((double)go[d]) * (1 + biggest);
                    }
                }
            }
    free(p);
}

// The same, remembered over runs; one allocation, w.all.
static AttentionPlain attention_recall(KernelPlain *plain, Heads in, const real *dout, AttentionShape s) {
    size_t out = (size_t)s.B * (size_t)s.Tq * (size_t)(s.NH * s.HS), lse = (size_t)s.B * (size_t)s.NH * (size_t)s.Tq,
           keys = (size_t)s.B * (size_t)s.NKV * (size_t)s.Tkv * (size_t)s.HS, all = 4 * (out + keys) + 2 * lse;
    AttentionPlain w;
    w.all = w.out = kernel_doubles(all), w.out_size = w.out + out;
    w.lse = w.out_size + out, w.lse_size = w.lse + lse;
    w.q = w.lse_size + lse, w.q_size = w.q + out;
    w.k = w.q_size + out, w.k_size = w.k + keys;
    w.v = w.k_size + keys, w.v_size = w.v + keys;
    if (kernel_plain_known(plain, w.all, all)) return w;
    attention_plain(w, in, dout, s);
    kernel_plain_keep(plain, w.all, all);
    return w;
}

static void attention_check(Cpu *cpu, KernelOutputs *out, AttentionShape shape, bool poison) {
    int B = shape.B, Tq = shape.Tq, Tkv = shape.Tkv, NH = shape.NH, NKV = shape.NKV, HS = shape.HS, group = NH / NKV;
    int ldq = NH * HS + 5, ldk = 2 * NKV * HS + 3, ldo = NH * HS;
    size_t nq = (size_t)B * Tq * ldq, nk = (size_t)B * Tkv * ldk, no = (size_t)B * Tq * ldo, nl = (size_t)B * NH * Tq;
    real *q = kernel_random(nq, 31), *k = kernel_random(nk, 32), *v = k + (size_t)NKV * HS,
         *dout = kernel_random(no, 33);
    for (size_t i = 0; i < nq; i++) q[i] *= 4; // scores that are spread out, so that the running maximum moves
    if (poison) {
        q[(size_t)(Tq / 2) * ldq] = (real)NAN;
        k[(size_t)(Tkv - 1) * ldk] = (real)NAN; // only the last query may see it
        v[(size_t)(Tkv / 2) * ldk + HS - 1] = (real)NAN;
    }
    real *o = kernel_garbage(no), *lse = kernel_garbage(nl);
    size_t nd = (size_t)B * NH * Tq * HS, ndk = (size_t)B * NKV * Tkv * HS;
    Heads in = {{q, ldq}, {k, ldk}, {v, ldk}};
    AttentionPlain w = attention_recall(out->plain, in, dout, shape);
    // Tiles round Q, K, V, dO, P and dS to bf16, each by 2^-9 at most.
    double factor_back = cpu->unit == UNIT_TILES ? 0x1p15 : 8, factor = Tq > ATTENTION_FEW_QUERIES ? factor_back : 8;
    attention_forward(o, lse, in, shape, cpu);
    int poisoned = Tkv - Tq + Tq / 2 < Tkv / 2 ? Tkv - Tq + Tq / 2 : Tkv / 2; // the first position with a NaN
    for (int t = 0; t < Tq && poison; t++)
        for (int h = 0; h < NH; h++)
            attention_spread(o + ((size_t)t * NH + h) * HS, w.out + ((size_t)t * NH + h) * HS, h, Tkv - Tq + t,
                             poisoned, group, HS);
    kernel_compare("attention_forward", o, w.out, w.out_size, no, factor);
    kernel_compare("attention_forward, lse", lse, w.lse, w.lse_size, nl, factor);
    kernel_keep(out, o, no), kernel_keep(out, lse, nl);
    real *again = kernel_garbage(no);
    attention_forward(again, NULL, in, shape, cpu);
    CHECK(memcmp(again, o, no * sizeof(real)) == 0, "attention_forward gives other bits without lse");
    free(again);
    if (Tq == Tkv) {
        int ld = (NH + 2 * NKV) * HS + 7, T = Tq;
        size_t n = (size_t)B * T * ld;
        real *d = kernel_garbage(n), *dq = kernel_garbage(nd), *dk = kernel_garbage(ndk), *dv = kernel_garbage(ndk);
        Heads gradients = {{d, ld}, {d + NH * HS, ld}, {d + (NH + NKV) * HS, ld}};
        attention_backward(gradients, dout, o, lse, in, shape, cpu);
        for (int b = 0; b < B; b++)
            for (int t = 0; t < T; t++)
                for (int c = 0; c < NH + 2 * NKV; c++) {
                    const real *from = d + ((size_t)b * T + t) * ld + (size_t)c * HS;
                    real *to = c < NH         ? dq + (((size_t)b * NH + c) * T + t) * HS
                               : c < NH + NKV ? dk + (((size_t)b * NKV + c - NH) * T + t) * HS
                                              : dv + (((size_t)b * NKV + c - NH - NKV) * T + t) * HS;
                    memcpy(to, from, sizeof(real) * (size_t)HS);
                }
        for (int t = 0; t < T && poison; t++) {
            for (int h = 0; h < NH; h++)
                attention_spread(dq + ((size_t)h * T + t) * HS, w.q + ((size_t)h * T + t) * HS, h, t, poisoned, group,
                                 HS);
            attention_spread(dk + (size_t)t * HS, w.k + (size_t)t * HS, 0, t, poisoned, group, HS);
            attention_spread(dv + (size_t)t * HS, w.v + (size_t)t * HS, 0, t, poisoned, group, HS);
        }
        kernel_compare("attention_backward, dq", dq, w.q, w.q_size, nd, factor_back);
        kernel_compare("attention_backward, dk", dk, w.k, w.k_size, ndk, factor_back);
        kernel_compare("attention_backward, dv", dv, w.v, w.v_size, ndk, factor_back);
        bool rest_left = true;
        for (size_t i = 0; i < n; i++)
            if (i % ld >= (size_t)(NH + 2 * NKV) * HS) rest_left = rest_left && isnan((double)d[i]);
        CHECK(rest_left, "attention_backward wrote between its columns");
        kernel_keep(out, dq, nd), kernel_keep(out, dk, ndk), kernel_keep(out, dv, ndk);
        free(d), free(dq), free(dk), free(dv);
    }
    free(q), free(k), free(dout), free(o), free(lse), free(w.all);
}

static void attention_case(Cpu *cpu, KernelOutputs *out, int variant) {
    const int *s = attention_shapes[variant / 2];
    AttentionShape shape = {s[0], s[1], s[2], s[3], s[4], s[5], 1 / sqrt(s[5]), 0, NULL};
    attention_check(cpu, out, shape, variant % 2);
}

// ---------------------------------------------------------------- pointwise

// The plain versions use the logistic function: in double, 1 + tanh(u) has lost its tail at u = -18.
// An input that is not finite must give a result that is not finite; whether NaN or Inf is open.
static void mlp_finite(const char *what, real *got, double *want, double *size, const real *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite((double)x[i])) {
            CHECK(!isfinite((double)got[i]), "%s made %g of %g", what, (double)got[i], (double)x[i]);
            got[i] = 0, want[i] = 0, size[i] = 1;
        }
}

// A gate with GELU and SiLU without one, on the finite inputs among x: products of what was checked above, so that
// one rounding more is allowed. dmlp of ones and ups of ones leave the function and its slope.
static void mlp_crossed(const real *x, const real *dy, int N, int F, Cpu *cpu) {
    size_t n = (size_t)N * F;
    real *fc = kernel_zeros(2 * n), *gates = kernel_garbage(n), *y = kernel_garbage(n), *plain = kernel_garbage(n),
         *dx = kernel_garbage(2 * n), *dplain = kernel_garbage(n), *d = kernel_zeros(n);
    double *want = kernel_doubles(n), *size = kernel_doubles(n), *want_d = kernel_doubles(2 * n),
           *size_d = kernel_doubles(2 * n);
    for (int activation = 0; activation < ACTIVATION_XIELU; activation++) { // which has no gate
        for (size_t i = 0; i < n; i++) {
            size_t gate = i + i / F * F, up = gate + F;
            gates[i] = fc[gate] = isfinite((double)x[gate]) ? x[gate] : 0;
            fc[up] = isfinite((double)x[up]) ? x[up] : 0;
            d[i] = isfinite((double)dy[i]) ? dy[i] : 0;
        }
        mlp_forward(plain, gates, N, F, activation, false, cpu);
        mlp_backward(dplain, d, gates, N, F, activation, false, cpu);
        mlp_forward(y, fc, N, F, activation, true, cpu);
        mlp_backward(dx, d, fc, N, F, activation, true, cpu);
        for (size_t i = 0; i < n; i++) {
            size_t gate = i + i / F * F, up = gate + F;
            want[i] = (double)plain[i] * (double)fc[up], size[i] = fabs(want[i]) + 1e-28;
            want_d[gate] = (double)dplain[i] * (double)fc[up], size_d[gate] = fabs(want_d[gate]) + 1e-28;
            want_d[up] = (double)d[i] * (double)plain[i], size_d[up] = fabs(want_d[up]) + 1e-28;
        }
        kernel_compare("mlp_forward, gated and not", y, want, size, n, 8);
        kernel_compare("mlp_backward, gated and not", dx, want_d, size_d, 2 * n, 8);
    }
    free(fc), free(gates), free(y), free(plain), free(dx), free(dplain), free(d), free(want), free(size), free(want_d),
        free(size_d);
}

static void mlp_case(Cpu *cpu, KernelOutputs *out, int variant) {
    static const int sizes[][2] = {{3, 67}, {1, 1}, {129, 33}, {2, 5}}; // N, F
    int N = sizes[variant][0], F = sizes[variant][1];
    size_t n = (size_t)N * F;
    real *x = kernel_random(2 * n, 41), *dy = kernel_random(n, 42), *y = kernel_garbage(n), *dx = kernel_garbage(2 * n);
    for (size_t i = 0; i < 2 * n; i++) x[i] *= i % 3 == 0 ? 30 : 3;
    if (n > 200) {
        x[7] = (real)NAN, x[8] = (real)INFINITY, x[9] = -(real)INFINITY, x[10] = 0, x[11] = (real)1e9;
        dy[20] = (real)NAN;
    }
    // An error of eps in 2u is a relative error of 2|u| eps where the logistic function is e^2u.
    // tiny: where the result falls below the normal numbers of a float, only absolute size counts.
    double tiny = 1e-28, *want = kernel_doubles(2 * n), *size = kernel_doubles(2 * n);
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], u = sqrt(2 / M_PI) * (v + 0.044715 * v * v * v), s = 1 / (1 + exp(-2 * u));
        CHECK(!(fabs(u) < 5) || fabs(s - 0.5 * (1 + tanh(u))) < 1e-14,
              "the logistic function of 2u is not (1 + tanh(u)) / 2");
        want[i] = v * s;
        size[i] = fabs(v * s) * (1 + (u < 0 ? 2 * fabs(u) : 0)) + tiny;
    }
    mlp_forward(y, x, N, F, ACTIVATION_GELU_TANH, false, cpu);
    kernel_keep(out, y, n);
    mlp_finite("gelu, mlp_forward", y, want, size, x, n);
    kernel_compare("gelu, mlp_forward", y, want, size, n, 8);
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], u = sqrt(2 / M_PI) * (v + 0.044715 * v * v * v),
               du = sqrt(2 / M_PI) * (1 + 3 * 0.044715 * v * v);
        double s = 1 / (1 + exp(-2 * u)), rest = 1 / (1 + exp(2 * u)), bend = 2 * v * s * rest * du, d = (double)dy[i];
        want[i] = d * (s + bend);
        size[i] = fabs(d) * (s + fabs(bend)) * (1 + 2 * fabs(u)) + tiny;
    }
    mlp_backward(dx, dy, x, N, F, ACTIVATION_GELU_TANH, false, cpu);
    kernel_keep(out, dx, n);
    real *same = kernel_garbage(n);
    memcpy(same, dy, n * sizeof(real));
    mlp_backward(same, same, x, N, F, ACTIVATION_GELU_TANH, false, cpu);
    CHECK(memcmp(same, dx, n * sizeof(real)) == 0, "gelu, mlp_backward in place gives other bits");
    free(same);
    for (size_t i = 0; i < n; i++)
        if (isinf((double)x[i])) dx[i] = (real)NAN; // the slope at Inf is 1 or 0 or NaN
    mlp_finite("gelu, mlp_backward", dx, want, size, x, n);
    kernel_compare("gelu, mlp_backward", dx, want, size, n, 8);

    for (int r = 0; r < N; r++)
        for (int f = 0; f < F; f++) {
            size_t i = (size_t)r * F + f;
            double g = (double)x[i + (size_t)r * F], u = (double)x[i + (size_t)(r + 1) * F], s = 1 / (1 + exp(-g));
            want[i] = g * s * u;
            size[i] = fabs(want[i]) * (1 + fabs(g)) + tiny;
        }
    mlp_forward(y, x, N, F, ACTIVATION_SILU, true, cpu);
    kernel_keep(out, y, n);
    for (int r = 0; r < N; r++)
        for (int f = 0; f < F; f++) {
            size_t i = (size_t)r * F + f, gate = i + (size_t)r * F, up = gate + F;
            if (isfinite((double)x[gate]) && isfinite((double)x[up])) continue;
            CHECK(!isfinite((double)y[i]), "swiglu, mlp_forward lost %g, %g", (double)x[gate], (double)x[up]);
            y[i] = 0, want[i] = 0, size[i] = 1;
        }
    kernel_compare("swiglu, mlp_forward", y, want, size, n, 8);
    for (int r = 0; r < N; r++)
        for (int f = 0; f < F; f++) {
            size_t gate = (size_t)r * 2 * F + f, up = gate + F;
            double g = (double)x[gate], u = (double)x[up], s = 1 / (1 + exp(-g)), rest = 1 / (1 + exp(g)),
                   d = (double)dy[(size_t)r * F + f];
            want[up] = d * g * s;
            size[up] = fabs(d * g * s) * (1 + fabs(g)) + tiny;
            want[gate] = d * u * s * (1 + g * rest);
            size[gate] = fabs(d * u * s) * (1 + fabs(g) * rest) * (1 + fabs(g)) + tiny;
        }
    mlp_backward(dx, dy, x, N, F, ACTIVATION_SILU, true, cpu);
    kernel_keep(out, dx, 2 * n);
    for (int r = 0; r < N; r++)
        for (int f = 0; f < F; f++) {
            size_t gate = (size_t)r * 2 * F + f, up = gate + F;
            if (isfinite((double)x[gate]) && isfinite((double)x[up])) continue;
            CHECK(!isfinite((double)dx[gate]) || !isfinite((double)dx[up]), "swiglu, mlp_backward lost %g, %g",
                  (double)x[gate], (double)x[up]);
            dx[gate] = dx[up] = 0, want[gate] = want[up] = 0, size[gate] = size[up] = 1;
        }
    kernel_compare("swiglu, mlp_backward", dx, want, size, 2 * n, 8);
    mlp_crossed(x, dy, N, F, cpu);
    free(x), free(dy), free(y), free(dx), free(want), free(size);
}

// xIELU against its formula in double, numbers close to 0 among its inputs, where its parts nearly cancel.
static void xielu_case(Cpu *cpu, KernelOutputs *out, int variant) {
    static const int sizes[][2] = {{3, 67}, {1, 1}, {129, 33}, {2, 5}}; // N, F
    static const real learned[][2] = {{(real)0.2, (real)-1.05}, {-30, 30}, {100, -100}, {(real)-0.7, (real)0.4}},
                      fixed[2] = {(real)0.5, (real)-1e-6};
    int N = sizes[variant][0], F = sizes[variant][1];
    size_t n = (size_t)N * F;
    const real *alpha = learned[variant];
    real *x = kernel_random(n, 43), *dy = kernel_random(n, 44), *y = kernel_garbage(n), *dx = kernel_garbage(n),
         grad[2] = {3, -5};
    double *want = kernel_doubles(n), *size = kernel_doubles(n), *want_d = kernel_doubles(n),
           *size_d = kernel_doubles(n), sums[2] = {3, -5}, sizes_of[2] = {3, 5}, tiny = 1e-28;
    for (size_t i = 0; i < n; i++) x[i] *= i % 5 == 0 ? (real)1e-3 : i % 3 == 0 ? 30 : 2;
    if (n > 200) {
        x[11] = 0, x[12] = (real)-5e-7, x[13] = (real)-0.5, x[14] = -(real)0.49999997, x[15] = (real)-1e-6;
        x[7] = (real)NAN, x[8] = (real)INFINITY, x[9] = -(real)INFINITY;
        dy[7] = dy[8] = dy[9] = 0;
    }
    double slope[2] = {1 / (1 + exp(-(double)alpha[0])), 1 / (1 + exp(-(double)alpha[1]))},
           p = fmax((double)alpha[0], 0) + log1p(exp(-fabs((double)alpha[0]))), beta = (double)fixed[0],
           q = beta + fmax((double)alpha[1], 0) + log1p(exp(-fabs((double)alpha[1])));
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], d = (double)dy[i], m = fmin(v, (double)fixed[1]), low = expm1(m) - v;
        want[i] = v > 0 ? p * v * v + beta * v : q * low + beta * v;
        size[i] = (v > 0 ? p * v * v : q * fabs(low)) + beta * fabs(v) + tiny;
        double bend = v > 0 ? 2 * p * v : q * (v < (double)fixed[1] ? expm1(v) : -1);
        want_d[i] = d * (bend + beta), size_d[i] = fabs(d) * (fabs(bend) + q + beta) + tiny;
        if (!isfinite(v)) continue;
        double part = slope[v <= 0] * d * (v > 0 ? v * v : low);
        sums[v <= 0] += part, sizes_of[v <= 0] += fabs(part);
    }
    // gradients first: an input that is not finite spoils the sums, as it must
    real *finite = kernel_garbage(n);
    for (size_t i = 0; i < n; i++) finite[i] = isfinite((double)x[i]) ? x[i] : 0;
    xielu_backward(dx, grad, dy, finite, alpha, fixed, N, F, cpu);
    kernel_keep(out, grad, 2);
    // Sums of up to 67 numbers of a row in lanes, then in double: a few roundings of the size.
    kernel_compare("xielu_backward, alphas", grad, sums, sizes_of, 2, 8);
    real *same = kernel_garbage(n);
    memcpy(same, dy, n * sizeof(real));
    xielu_backward(same, NULL, same, finite, alpha, fixed, N, F, cpu);
    CHECK(memcmp(same, dx, n * sizeof(real)) == 0, "xielu_backward in place gives other bits");
    for (size_t i = 0; i < n; i++)
        if (!isfinite((double)x[i])) dx[i] = 0, want_d[i] = 0, size_d[i] = 1;
    kernel_keep(out, dx, n);
    kernel_compare("xielu_backward", dx, want_d, size_d, n, 8);
    xielu_forward(y, x, alpha, fixed, N, F, cpu);
    kernel_keep(out, y, n);
    mlp_finite("xielu_forward", y, want, size, x, n);
    kernel_compare("xielu_forward", y, want, size, n, 8);
    for (size_t i = 0; i < n; i++) dy[i] = 1;
    xielu_backward(dx, NULL, dy, x, alpha, fixed, N, F, cpu);
    for (size_t i = 0; i < n; i++)
        CHECK(!isnan((double)x[i]) || isnan((double)dx[i]), "xielu_backward made %g of NaN", (double)dx[i]);
    free(x), free(dy), free(y), free(dx), free(want), free(size), free(want_d), free(size_d), free(finite), free(same);
}

// ---------------------------------------------------------------- embedding

static void embedding_case(Cpu *cpu, KernelOutputs *out, int variant) {
    int B = 3, T = 29, C = 37, V = 11, first = variant % 2 ? 4 : 0;
    bool learned = variant < 2;
    int32_t tokens[87];
    for (int i = 0; i < B * T; i++) tokens[i] = (i * i * 7 + 3 * i) % V;
    real *wte = kernel_random((size_t)V * C, 51), *wpe = kernel_random((size_t)(T + 4) * C, 52),
         *dx = kernel_random((size_t)B * T * C, 53), *x = kernel_garbage((size_t)B * T * C);
    real *dwte = kernel_zeros((size_t)V * C), *dwpe = kernel_zeros((size_t)T * C);
    double *want = kernel_doubles((size_t)B * T * C), *size = kernel_doubles((size_t)B * T * C),
           *want_e = kernel_doubles((size_t)V * C), *size_e = kernel_doubles((size_t)V * C),
           *want_p = kernel_doubles((size_t)T * C), *size_p = kernel_doubles((size_t)T * C);
    wte[5] = (real)NAN;
    for (int twice = 0; twice < 2; twice++)
        for (int i = 0; i < B * T * C; i++) {
            int n = i / C, c = i % C, t = n % T;
            double e = (double)wte[tokens[n] * C + c], p = learned ? (double)wpe[(first + t) * C + c] : 0;
            want[i] = e + p, size[i] = fabs(e) + fabs(p);
            want_e[tokens[n] * C + c] += (double)dx[i], size_e[tokens[n] * C + c] += fabs((double)dx[i]);
            want_p[t * C + c] += (double)dx[i], size_p[t * C + c] += fabs((double)dx[i]);
        }
    TokenRows of = {tokens, NULL, first, B, T};
    embedding_forward(x, of, matrix_of(wte), matrix_of(learned ? wpe : NULL), C, cpu);
    kernel_compare("embedding_forward", x, want, size, (size_t)B * T * C, 1);
    of.first = 0;
    for (int twice = 0; twice < 2; twice++) embedding_backward(dwte, learned ? dwpe : NULL, dx, of, C, cpu);
    kernel_compare("embedding_backward twice, tokens", dwte, want_e, size_e, (size_t)V * C, 4);
    if (learned) kernel_compare("embedding_backward twice, positions", dwpe, want_p, size_p, (size_t)T * C, 4);
    kernel_keep(out, x, (size_t)B * T * C), kernel_keep(out, dwte, (size_t)V * C),
        kernel_keep(out, dwpe, (size_t)T * C);
    free(wte), free(wpe), free(dx), free(x), free(dwte), free(dwpe), free(want), free(size), free(want_e), free(size_e),
        free(want_p), free(size_p);
}

// ---------------------------------------------------------------- loss

static void loss_case(Cpu *cpu, KernelOutputs *out, int variant) {
    static const int sizes[][2] = {{5, 101}, {3, 1}, {4, 7}, {2, 50257}, {17, 128}};
    int N = sizes[variant][0], V = sizes[variant][1];
    size_t n = (size_t)N * V;
    double dscale = 0.37;
    real *x = kernel_random(n, 61), *kept = kernel_garbage(n), *losses = kernel_garbage((size_t)N);
    int32_t targets[17];
    for (int i = 0; i < N; i++) targets[i] = i == 1 ? -1 : (i * 77 + 5) % V;
    for (size_t i = 0; i < n; i++) x[i] *= 20;
    if (variant == 4) x[3 * V + 2] = (real)NAN, x[1 * V] = (real)NAN; // row 1 is ignored, NaN and all
    memcpy(kept, x, n * sizeof(real));
    double *want = kernel_doubles(n), *size = kernel_doubles(n), want_l[17], size_l[17];
    for (int i = 0; i < N; i++) {
        double m = -INFINITY;
        long double sum = 0; // 50257 terms: a plain sum in double would be the less exact of the two
        for (int v = 0; v < V; v++) m = (double)x[(size_t)i * V + v] > m ? (double)x[(size_t)i * V + v] : m;
        for (int v = 0; v < V; v++) sum += exp((double)x[(size_t)i * V + v] - m);
        bool ignored = targets[i] < 0;
        want_l[i] = ignored ? 0 : log((double)sum) + m - (double)x[(size_t)i * V + targets[i]];
        size_l[i] = ignored ? 0 : 1 + fabs(m) + fabs((double)x[(size_t)i * V + targets[i]]);
        for (int v = 0; v < V; v++) {
            double p = exp((double)x[(size_t)i * V + v] - m) / (double)sum;
            want[(size_t)i * V + v] = ignored ? 0 : (p - (v == targets[i])) * dscale;
            size[(size_t)i * V + v] =
                ignored ? 0 : (p * (1 + fabs(m - (double)x[(size_t)i * V + v])) + (v == targets[i])) * dscale;
        }
    }
    cross_entropy(losses, x, targets, NULL, 0, N, V, cpu);
    kernel_compare("cross_entropy, loss", losses, want_l, size_l, (size_t)N, 8);
    CHECK(memcmp(kept, x, n * sizeof(real)) == 0, "cross_entropy changed the logits although dscale is 0");
    real *first = kernel_garbage((size_t)N);
    memcpy(first, losses, sizeof(real) * (size_t)N);
    cross_entropy(losses, x, targets, NULL, (real)dscale, N, V, cpu);
    CHECK(memcmp(first, losses, sizeof(real) * (size_t)N) == 0,
          "cross_entropy: the loss depends on whether the gradient is wanted");
    kernel_compare("cross_entropy, gradient", x, want, size, n, 8 + 0.1 * sqrt(V));
    kernel_keep(out, losses, (size_t)N), kernel_keep(out, x, n);
    free(first), free(x), free(kept), free(losses), free(want), free(size);
}

// ---------------------------------------------------------------- optimizer

static void optimizer_case(Cpu *cpu, KernelOutputs *out, int variant) {
    static const size_t sizes[] = {1, 37, 100003, 65536};
    long double sum = 0; // a plain sum in double would be the less exact of the two
    size_t n = sizes[variant];
    real *w = kernel_random(n, 71), *m = kernel_random(n, 72), *v = kernel_random(n, 73), *g = kernel_random(n, 74);
    double *want[3] = {kernel_doubles(n), kernel_doubles(n), kernel_doubles(n)},
           *size[3] = {kernel_doubles(n), kernel_doubles(n), kernel_doubles(n)};
    if (n > 100) g[77] = (real)NAN;
    for (size_t i = 0; i < n; i++) v[i] *= v[i], sum += isnan((double)g[i]) ? 0 : (double)g[i] * (double)g[i];
    double lr = 0.01, b1 = 0.9, b2 = 0.95, eps = 1e-8, decay = 0.1, gs = 0.7;
    for (size_t i = 0; i < n; i++) {
        double wi = (double)w[i], mi = (double)m[i], vi = (double)v[i], gi = (double)g[i] * gs, mag = fabs(mi);
        for (int step = 3; step <= 4; step++) { // twice, so that the state that was written is also read
            mi = b1 * mi + (1 - b1) * gi;
            vi = b2 * vi + (1 - b2) * gi * gi;
            wi = wi - lr * (mi / (1 - pow(b1, step)) / (sqrt(vi / (1 - pow(b2, step))) + eps) + decay * wi);
        }
        mag += fabs(gi);
        want[0][i] = wi, want[1][i] = mi, want[2][i] = vi;
        size[0][i] = fabs((double)w[i]) + 2 * lr * mag / (sqrt(vi / (1 - pow(b2, 3))) + eps) / (1 - pow(b1, 3)),
        size[1][i] = mag, size[2][i] = fabs(vi);
    }
    double got = 0;
    if (n > 100) {
        CHECK(isnan(sum_of_squares(g, n, cpu)), "sum_of_squares lost a NaN");
        real kept = g[77];
        g[77] = 0;
        got = sum_of_squares(g, n, cpu);
        g[77] = kept;
    } else got = sum_of_squares(g, n, cpu);
    // At most 6 roundings of a positive number before it is a double.
    CHECK(fabs(got - (double)sum) <= (sizeof(real) == 4 ? 6 * 5.97e-8 : 1e-13) * (double)sum,
          "sum_of_squares of %zu numbers is %.17g, plain version %.17g", n, got, (double)sum);
    UpdateRule rule = update_rule(3, (GroupRule){9, 9, 9, 9, 9}, 0); // other groups' numbers must not matter
    rule.group[GROUP_MATRIX] = (GroupRule){lr, b1, b2, eps, decay};
    ParamRun run = {w, g, {m, v}, n};
    for (; rule.step <= 4; rule.step++) adamw(run, &rule, GROUP_MATRIX, gs, cpu);
    kernel_compare("adamw, w", w, want[0], size[0], n, 16);
    kernel_compare("adamw, m", m, want[1], size[1], n, 8);
    kernel_compare("adamw, v", v, want[2], size[2], n, 8);
    real as_real = (real)got;
    kernel_keep(out, w, n), kernel_keep(out, m, n), kernel_keep(out, v, n), kernel_keep(out, &as_real, 1);
    for (int i = 0; i < 3; i++) free(want[i]), free(size[i]);
    free(w), free(m), free(v), free(g);
}

// ---------------------------------------------------------------- Muon

// out (rows, cols) = the plain iteration on x, in double.
static void muon_plain_iteration(double *x, int rows, int cols, const MuonRule *rule) {
    int m = rows < cols ? rows : cols, K = rows < cols ? cols : rows;
    double norm = 0, *a = kernel_doubles((size_t)m * (size_t)m), *y = kernel_doubles((size_t)rows * (size_t)cols);
    double *b = kernel_doubles((size_t)m * (size_t)m);
    // Element k of line i: of a row, or, of a tall matrix, of a column.
#define LINE(i, k) (rows <= cols ? (size_t)(i) * (size_t)cols + (size_t)(k) : (size_t)(k) * (size_t)cols + (size_t)(i))
    for (size_t i = 0; i < (size_t)rows * (size_t)cols; i++) norm += x[i] * x[i];
    for (size_t i = 0; i < (size_t)rows * (size_t)cols; i++) x[i] *= muon_start(rule, sqrt(norm));
    for (int step = 0; step < rule->steps; step++) {
        const double *c = muon_coefficients(rule, step);
        for (int i = 0; i < m; i++)
            for (int j = 0; j < m; j++) {
                double sum = 0;
                for (int k = 0; k < K; k++) sum += x[LINE(i, k)] * x[LINE(j, k)];
                a[i * m + j] = sum;
            }
        for (int i = 0; i < m; i++)
            for (int j = 0; j < m; j++) {
                double sum = 0;
                for (int k = 0; k < m; k++) sum += a[i * m + k] * a[k * m + j];
                b[i * m + j] = c[1] * a[i * m + j] + c[2] * sum;
            }
        for (int i = 0; i < m; i++)
            for (int k = 0; k < K; k++) {
                double sum = c[0] * x[LINE(i, k)];
                for (int j = 0; j < m; j++) sum += b[i * m + j] * x[LINE(j, k)];
                y[LINE(i, k)] = sum;
            }
        memcpy(x, y, sizeof(double) * (size_t)rows * (size_t)cols);
    }
#undef LINE
    free(a), free(b), free(y);
}

// How far the lines of the smaller side are from orthonormal: the largest |x x^T - 1|.
static double muon_distance(const real *x, int rows, int cols) {
    int m = rows < cols ? rows : cols, K = rows < cols ? cols : rows;
    double worst = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++) {
            double sum = i == j ? -1 : 0;
            for (int k = 0; k < K; k++)
                sum += rows <= cols ? (double)x[(size_t)i * (size_t)cols + (size_t)k] *
                                          (double)x[(size_t)j * (size_t)cols + (size_t)k]
                                    : (double)x[(size_t)k * (size_t)cols + (size_t)i] *
                                          (double)x[(size_t)k * (size_t)cols + (size_t)j];
            if (fabs(sum) > worst) worst = fabs(sum);
        }
    return worst;
}

enum { MUON_CASES = 12 };

// Two steps of a matrix against the plain version in double, every option in one case or another.
static void muon_case(Cpu *cpu, KernelOutputs *out, int variant) {
    static const int shapes[6][2] = {{5, 7}, {64, 64}, {40, 150}, {150, 40}, {1, 40}, {97, 97}};
    int rows = shapes[variant % 6][0], cols = shapes[variant % 6][1];
    size_t n = (size_t)rows * (size_t)cols;
    MuonRule muon = {variant % 2 ? OPTIMIZER_NORMUON : OPTIMIZER_MUON,
                     variant % 3 ? MUON_SCALE_RMS : MUON_SCALE_ORIGINAL,
                     variant / 6 ? MUON_POLAR : MUON_JORDAN,
                     5,
                     0.95,
                     0.9,
                     variant % 4 < 2,
                     variant % 5 > 2};
    bool rows_too = muon.optimizer == OPTIMIZER_NORMUON;
    GroupRule group = {0.02, 9, 9, 9, 0.1};
    real *w = kernel_random(n, 81), *g = kernel_random(n, 82), *m = kernel_random(n, 83);
    real *v = kernel_random((size_t)rows, 84), *scratch = kernel_random(muon_scratch(rows, cols, MUON_SQUARES), 85);
    double *ww = kernel_doubles(n), *wm = kernel_doubles(n), *x = kernel_doubles(n), *wv = kernel_doubles((size_t)rows);
    double *size = kernel_doubles(n), *msize = kernel_doubles(n), *vsize = kernel_doubles((size_t)rows);
    for (int r = 0; r < rows; r++) v[r] *= v[r], wv[r] = (double)v[r];
    for (size_t i = 0; i < n; i++) ww[i] = (double)w[i], wm[i] = (double)m[i];
    double lr = 0.02 * muon_scale(&muon, rows, cols), clip = 0.5;
    for (int step = 0; step < 2; step++) {
        MuonMatrix matrix = {w, g, m, rows_too ? v : NULL, rows, cols};
        muon_update(matrix, &muon, &group, clip, scratch, cpu);
        for (size_t i = 0; i < n; i++) {
            double gi = (double)g[i] * clip;
            wm[i] = 0.95 * wm[i] + (1 - 0.95) * gi;
            x[i] = muon.nesterov ? 0.95 * wm[i] + (1 - 0.95) * gi : wm[i];
            msize[i] = fabs(wm[i]) + fabs(gi);
        }
        muon_plain_iteration(x, rows, cols, &muon);
        double before = 0, after = 0;
        for (size_t i = 0; i < n; i++) before += x[i] * x[i];
        for (int r = 0; rows_too && r < rows; r++) {
            double sum = 0;
            for (int c = 0; c < cols; c++) sum += x[r * cols + c] * x[r * cols + c];
            wv[r] = 0.9 * wv[r] + (1 - 0.9) * sum / cols, vsize[r] = wv[r];
            for (int c = 0; c < cols; c++) x[r * cols + c] /= sqrt(wv[r]) + MUON_EPS;
        }
        for (size_t i = 0; i < n; i++) after += x[i] * x[i];
        for (size_t i = 0; i < n; i++) {
            x[i] *= rows_too ? sqrt(before) / (sqrt(after) + MUON_EPS) : 1;
            double decay = !muon.cautious || x[i] * ww[i] > 0 ? 0.02 * 0.1 : 0;
            ww[i] = ww[i] * (1 - decay) - lr * x[i];
            // Rounding of directions that are nearly lost in u grows with the iteration: 3.44^5 = 485 times by
            // Jordan's polynomial, 8.2 x 4 x 3.9 x 3.3 x 2.3 = 970 by the other; an element is at most about 1. Where
            // the sign of the update is in doubt, cautious decay may differ.
            size[i] = fabs(ww[i]) + 1000 * lr + (muon.cautious ? 0.002 * fabs(ww[i]) * 1e5 : 0);
        }
    }
    kernel_compare("muon, m", m, wm, msize, n, 8);
    kernel_compare("muon, w", w, ww, size, n, 8);
    if (rows_too) kernel_compare("muon, rows", v, wv, vsize, (size_t)rows, 4000);
    kernel_keep(out, w, n), kernel_keep(out, m, n), kernel_keep(out, v, (size_t)rows);
    free(w), free(g), free(m), free(v), free(scratch);
    free(ww), free(wm), free(x), free(wv), free(size), free(msize), free(vsize);
}

// The stripes of a symmetric product give what one product does.
static void muon_stripes_case(void) {
    enum { M = 2 * SYMMETRIC_STRIPE + 70, K = 33 };
    Cpu cpu;
    Error err;
    CHECK(cpu_open(&cpu, 2, &err), "%s", err.text);
    real *x = kernel_random((size_t)M * K, 95), *whole = kernel_garbage((size_t)M * M),
         *got = kernel_garbage((size_t)M * M);
    for (int wide = 0; wide < 2; wide++) {
        Operand X = {x, wide ? K : M, wide ? LAYOUT_ALONG_K : LAYOUT_ACROSS_K};
        Target to = {whole, NULL, NULL, M};
        gemm(to, X, X, M, M, K, &cpu);
        gemm_symmetric(got, X, X, M, K, false, &cpu);
        CHECK(memcmp(got, whole, sizeof(real) * M * M) == 0, "x x^T in stripes is not x x^T");
    }
    free(x), free(whole), free(got);
    cpu_close(&cpu);
}

// The result is orthogonal, as far as each polynomial promises it, also for a matrix of one direction and of none.
static void muon_orthogonal_case(void) {
    static const int shapes[3][2] = {{96, 256}, {256, 96}, {128, 128}};
    Cpu cpu;
    Error err;
    CHECK(cpu_open(&cpu, 2, &err), "%s", err.text);
    for (int i = 0; i < 6; i++) {
        int rows = shapes[i % 3][0], cols = shapes[i % 3][1];
        size_t n = (size_t)rows * (size_t)cols;
        MuonRule rule = {OPTIMIZER_MUON, 0, i / 3 ? MUON_POLAR : MUON_JORDAN, i / 3 ? 8 : 5, 0, 0, false, false};
        real *scratch = kernel_random(muon_scratch(rows, cols, MUON_SQUARES), 91), *x;
        x = newton_schulz(scratch, scratch + cpu_align(n), scratch + 2 * cpu_align(n), rows, cols, &rule, &cpu);
        // Singular values end within 0.68 and 1.13 by Jordan's polynomial, so that squares are at most 0.54 from 1, and
        // around 1.035, to which the last of the other polynomials leads: 1.07.
        double distance = muon_distance(x, rows, cols), most = i / 3 ? 0.12 : 0.54;
        if (rows != cols)
            CHECK(distance < most, "(%d, %d): %g from orthogonal, expected %g", rows, cols, distance, most);
        memset(scratch, 0, sizeof(real) * n);
        x = newton_schulz(scratch, scratch + cpu_align(n), scratch + 2 * cpu_align(n), rows, cols, &rule, &cpu);
        CHECK(sum_of_squares(x, n, &cpu) == 0, "a matrix of zeros does not stay one");
        for (size_t k = 0; k < n; k++) scratch[k] = (real)((double)(k / (size_t)cols + 1) * 1e-12);
        x = newton_schulz(scratch, scratch + cpu_align(n), scratch + 2 * cpu_align(n), rows, cols, &rule, &cpu);
        double norm = sqrt(sum_of_squares(x, n, &cpu));
        CHECK(isfinite(norm) && norm < 1.2, "a matrix of one direction gets the norm %g", norm);
        free(scratch);
    }
    cpu_close(&cpu);
}

// torch.optim.Muon's steps: dev/test/fixtures/optimizer/README.md.
static void muon_torch_case(void) {
    static const struct {
        const char *name;
        int scale, rows, cols;
        bool nesterov;
    } cases[] = {{"rms.nesterov.12x20", MUON_SCALE_RMS, 12, 20, true},
                 {"rms.plain.20x12", MUON_SCALE_RMS, 20, 12, false},
                 {"rms.nesterov.16x16", MUON_SCALE_RMS, 16, 16, true},
                 {"original.plain.12x20", MUON_SCALE_ORIGINAL, 12, 20, false},
                 {"original.nesterov.20x12", MUON_SCALE_ORIGINAL, 20, 12, true}};
    enum { MOST = 256 };
    Cpu cpu;
    Error err;
    SafeTensors st;
    CHECK(cpu_open(&cpu, 1, &err) && safetensors_open(&st, "dev/test/fixtures/optimizer/muon.safetensors", &err), "%s",
          err.text);
    GroupRule group = {0.02, 0, 0, 0, 0.1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rows = cases[i].rows, cols = cases[i].cols, n = rows * cols;
        MuonRule rule = {OPTIMIZER_MUON, cases[i].scale, MUON_JORDAN, 5, 0.95, 0, cases[i].nesterov, false};
        float before[MOST], after[MOST], gradient[MOST];
        real w[MOST], g[MOST], m[MOST] = {0}, *scratch = kernel_random(muon_scratch(rows, cols, MUON_SQUARES), 93);
        bool ok =
            safetensors_to_f32(before, safetensors_find(&st, path_of("%s.before", cases[i].name).text), 0, n, &err) &&
            safetensors_to_f32(after, safetensors_find(&st, path_of("%s.after", cases[i].name).text), 0, n, &err);
        for (int k = 0; k < n; k++) w[k] = (real)before[k];
        for (int step = 0; ok && step < 3; step++) {
            Path name = path_of("%s.gradient.%d", cases[i].name, step);
            ok = safetensors_to_f32(gradient, safetensors_find(&st, name.text), 0, n, &err);
            for (int k = 0; k < n; k++) g[k] = (real)gradient[k];
            ok = ok && muon_update((MuonMatrix){w, g, m, NULL, rows, cols}, &rule, &group, 1, scratch, &cpu);
        }
        double away = 0, change = 0;
        for (int k = 0; k < n; k++) {
            away += pow((double)w[k] - (double)after[k], 2);
            change += pow((double)before[k] - (double)after[k], 2);
        }
        away = sqrt(away), change = sqrt(change);
        CHECK(ok && change > 0 && away <= 5e-5 * change, "%s: %g away after a change of %g", cases[i].name, away,
              change);
        free(scratch);
    }
    safetensors_close(&st);
    cpu_close(&cpu);
}

// ---------------------------------------------------------------- elementary functions, machine

static void exp_case(void) {
    double worst = 0, at = 0, below = -103.9;
    for (double x = below; x < 88.72; x += 0.00037) {
        real r = (real)x;
        double want = exp((double)r), got = (double)vexp(vset(r))[0];
        int exponent;
        frexp(want, &exponent);
        double ulp = ldexp(1, exponent - (sizeof(real) == 4 ? 24 : 53));
        if (sizeof(real) == 4 && ulp < 0x1p-149) ulp = 0x1p-149; // numbers below 2^-126 are all this far apart
        if (fabs(got - want) / ulp > worst) worst = fabs(got - want) / ulp, at = x;
    }
    CHECK(worst <= 1.1, "vexp(%g) is off by %.3f ulp, promised 1.1", at, worst);
    CHECK(vexp(vset((real)INFINITY))[0] == (real)INFINITY && vexp(vset(-(real)INFINITY))[0] == 0 &&
              isnan((double)vexp(vset((real)NAN))[0]) && vexp(vset(0))[0] == 1,
          "vexp at Inf, -Inf, NaN and 0");
}

static void test_kernels(void) {
    CHECK(cpu_missing_instructions() == NULL, "this machine lacks %s, which this build uses",
          cpu_missing_instructions());
    Cpu cpu;
    Error err;
    CHECK_ERROR(cpu_open(&cpu, -1, &err), "threads");
    exp_case();
    muon_stripes_case();
    muon_orthogonal_case();
    muon_torch_case();
    kernel_run("linear", linear_case, 2 * LINEAR_SHAPES);
    // bf16: the plain version rounds both operands first and then sums in double, so that what is left
    // is the error of fp32 sums and the same factors hold. Infinite operands stay so, NaN stays NaN.
    CHECK(cpu_open(&cpu, 1, &err), "%s", err.text);
    if (cpu_choose_unit(&cpu, true, KERNELS_VECTOR, &err)) {
        kernel_run_on("linear bf16", linear_case, 2 * LINEAR_SHAPES, true, KERNELS_VECTOR);
    } else {
        if (sizeof(real) == 4) skip_test("test_gpt, matrix products in bf16", "this CPU has no instructions for them");
        CHECK(strstr(err.text, "bf16") && strstr(err.text, "--precision=fp32"),
              "bf16 was refused with '%s', which does not say what to do", err.text);
    }
    kernel_run("norm", norm_case, 20);
    kernel_run("qk", qk_case, 6);
    kernel_run("attention", attention_case, 2 * ATTENTION_SHAPES);
    kernel_run("mlp", mlp_case, 4);
    kernel_run("xielu", xielu_case, 4);
    kernel_run("embedding", embedding_case, 4);
    kernel_run("loss", loss_case, 5);
    kernel_run("muon", muon_case, MUON_CASES);
    kernel_run("optimizer", optimizer_case, 4);
}

#endif
