/*
muon.h: Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) and NorMuon (Li et al. 2025, arXiv:2510.05491):
momentum, whose matrix is replaced by the nearest one with orthogonal rows (or columns). llmc/cpu/muon.h says what is
computed, and has the same functions.

Momentum, scaling and the update itself are in fp32; the iteration runs in `real`, bf16 but in a float build, with sums
in fp32. Whether the step happens, learning rate and clipping are read from device memory (optimizer.h), so that the
launches can be replayed as a graph: of a step that does not happen the products are computed and thrown away.

Scratch memory: 2 rows cols + 2 min(rows, cols)^2 numbers.
*/
#ifndef LLMC_CUDA_MUON_H
#define LLMC_CUDA_MUON_H

#include "gemm.h"
#include "optimizer.h"

// A matrix and its state: (rows, cols) each. All on the device.
template <typename Real> struct MuonMatrix {
    Real *w;
    float *master; // NULL: w itself is rounded stochastically
    float *g, *moment;
    float *row_moment; // (rows): NorMuon's, or NULL
    size_t at;         // of the first element among all: for the random numbers
    int rows, cols;
};

enum { MUON_SQUARES = GPU_MUON_SQUARES }; // of muon_scratch

// ---------------------------------------------------------------- kernels

// Sum over the thread block, in a fixed order; all threads get it. sums_smem (SQUARES_THREADS).
__device__ inline double block_sum(double *sums_smem, double x) {
    __syncthreads(); // an earlier sum has been read
    sums_smem[threadIdx.x] = x;
    __syncthreads();
    for (int half = SQUARES_THREADS / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) sums_smem[threadIdx.x] += sums_smem[threadIdx.x + (unsigned)half];
        __syncthreads();
    }
    return sums_smem[0];
}

__device__ inline float muon_direction(float m, float g, float momentum, bool nesterov) {
    return nesterov ? momentum * m + (1 - momentum) * g : m;
}

// m (n) = momentum m + (1 - momentum) g, if there is an update; partial (blocks): sums of squares of the direction
static __global__ void muon_momentum_kernel(double *partial, float *m, const float *g, size_t n, float momentum,
                                            bool nesterov, const AdamResult *result) {
    __shared__ double sums[SQUARES_THREADS];
    double sum = 0;
    for (size_t i = (size_t)blockIdx.x * SQUARES_THREADS + threadIdx.x; i < n;
         i += (size_t)gridDim.x * SQUARES_THREADS) {
        float gi = g[i] * result->clip, mi = momentum * m[i] + (1 - momentum) * gi;
        if (result->updated) m[i] = mi;
        float u = muon_direction(mi, gi, momentum, nesterov);
        sum += (double)u * (double)u;
    }
    sum = block_sum(sums, sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// x (n) = the direction, times what the iteration starts with; partial (parts) as above
template <typename Real>
__global__ void muon_start_kernel(Real *x, const float *m, const float *g, size_t n, MuonRule rule,
                                  const double *partial, int parts, const AdamResult *result) {
    __shared__ double sums[SQUARES_THREADS];
    double sum = 0;
    for (int i = (int)threadIdx.x; i < parts; i += SQUARES_THREADS) sum += partial[i];
    float by = (float)muon_start(&rule, sqrt(block_sum(sums, sum)));
    size_t i = (size_t)blockIdx.x * SQUARES_THREADS + threadIdx.x;
    if (i < n) from_float(&x[i], by * muon_direction(m[i], g[i] * result->clip, (float)rule.momentum, rule.nesterov));
}

// One thread block a row: v = beta2 v + (1 - beta2) mean x^2; x = x / sqrt(v). partial (rows, 2): the row's sum of
// squares before and after
template <typename Real>
__global__ void normuon_rows_kernel(Real *x, float *v, double *partial, int cols, float beta2,
                                    const AdamResult *result) {
    __shared__ double sums[SQUARES_THREADS];
    Real *xr = x + (size_t)blockIdx.x * (size_t)cols;
    double before = 0, after = 0;
    for (int c = (int)threadIdx.x; c < cols; c += SQUARES_THREADS)
        before += (double)to_float(xr[c]) * (double)to_float(xr[c]);
    before = block_sum(sums, before);
    float vr = beta2 * v[blockIdx.x] + (1 - beta2) * (float)(before / cols), by = 1 / (sqrtf(vr) + (float)MUON_EPS);
    __syncthreads(); // v is read by all before it is written
    for (int c = (int)threadIdx.x; c < cols; c += SQUARES_THREADS) {
        float to = to_float(xr[c]) * by;
        from_float(&xr[c], to);
        after += (double)to * (double)to;
    }
    after = block_sum(sums, after);
    if (threadIdx.x) return;
    partial[2 * blockIdx.x] = before, partial[2 * blockIdx.x + 1] = after;
    if (result->updated) v[blockIdx.x] = vr;
}

// factor: what brings NorMuon's rows back to the norm of before
static __global__ void normuon_factor_kernel(float *factor, const double *partial, int rows) {
    __shared__ double sums[SQUARES_THREADS];
    double before = 0, after = 0;
    for (int r = (int)threadIdx.x; r < rows; r += SQUARES_THREADS)
        before += partial[2 * r], after += partial[2 * r + 1];
    before = block_sum(sums, before);
    after = block_sum(sums, after);
    if (threadIdx.x == 0) *factor = (float)(sqrt(before) / (sqrt(after) + MUON_EPS));
}

// w = w (1 - lr decay) - lr scale factor x, g = 0, if there is an update. Four elements a thread.
template <typename Real>
__global__ void muon_apply_kernel(MuonMatrix<Real> s, const Real *x, const float *factor, float scale, bool cautious,
                                  const AdamRule *rule, AdamResult *result) {
    size_t n = (size_t)s.rows * (size_t)s.cols, first = ((size_t)blockIdx.x * SQUARES_THREADS + threadIdx.x) * 4;
    if (first >= n || !result->updated) return;
    float lr = rule->matrix_lr, decay = rule->matrix_decay, by = lr * scale * (factor ? *factor : 1);
    size_t word = (s.at + first) / 4;
    Philox random =
        philox4x32((uint32_t)word, (uint32_t)(word >> 32), rule->step_low, rule->step_high, 0x6d756f6eu, 0x64696e67u);
    float bad = 0; // NaN: a weight, before or after it is rounded, is not finite
    for (size_t i = first; i < n && i < first + 4; i++) {
        float w = s.master ? s.master[i] : to_float(s.w[i]), xi = to_float(x[i]);
        w -= (!cautious || xi * w > 0 ? decay * w : 0) + by * xi;
        bad += w * 0;
        if (s.master) {
            s.master[i] = w;
            from_float(&s.w[i], w);
        } else s.w[i] = round_stochastic_to(s.w, w, random.x[i - first]);
        bad += to_float(s.w[i]) * 0;
        s.g[i] = 0;
    }
    if (bad != 0) result->finite = 0; // whichever thread comes first
}

// ---------------------------------------------------------------- launchers; all pointers are on the device

static inline void muon_momentum(double *partial, unsigned parts, float *m, const float *g, size_t n, const MuonRule *r,
                                 const AdamResult *result, Device *d) {
    muon_momentum_kernel<<<parts, SQUARES_THREADS, 0, d->stream>>>(partial, m, g, n, (float)r->momentum, r->nesterov,
                                                                   result);
    LAUNCH_CHECK();
}

static inline void normuon_factor(float *factor, const double *partial, int rows, Device *d) {
    normuon_factor_kernel<<<1, SQUARES_THREADS, 0, d->stream>>>(factor, partial, rows);
    LAUNCH_CHECK();
}

// x (rows, cols), of norm 1 at most, becomes nearly orthogonal. Returns where the result is: x or other. squares
// (2, m, m).
template <typename Real>
static inline Real *newton_schulz(Real *x, Real *other, Real *squares, int rows, int cols, const MuonRule *rule,
                                  Device *d) {
    bool wide = rows <= cols;
    int m = wide ? rows : cols, K = wide ? cols : rows;
    Real *a = squares, *p = squares + ((size_t)m * (size_t)m + 63) / 64 * 64;
    // The library counts by columns: its x is x^T (cols, rows). Symmetric results are the same both ways.
    GemmKey square = gemm_key<Real, Real>(m, m, K, wide, !wide), mixed = gemm_key<Real, Real>(m, m, m, false, false),
            last = gemm_key<Real, Real>(cols, rows, m, false, false);
    for (int step = 0; step < rule->steps; step++) {
        const double *c = muon_coefficients(rule, step);
        GemmOperands A = {a, x, x, NULL, NULL, NULL, 1, 1}, P = {p, a, a, a, NULL, NULL, (float)c[2], (float)c[1]};
        GemmOperands X = {other, wide ? x : p, wide ? p : x, x, NULL, NULL, 1, (float)c[0]};
        gemm_operands(A, square, d);
        gemm_operands(P, mixed, d);
        gemm_operands(X, last, d);
        Real *free_ = x;
        x = other, other = free_;
    }
    return x;
}

// One step of a matrix, if *result says so; its gradient is zero then. scratch: muon_scratch(rows, cols,
// MUON_SQUARES) numbers.
template <typename Real>
static inline void muon_update(MuonMatrix<Real> s, const MuonRule *r, const AdamRule *rule, AdamResult *result,
                               Real *scratch, Device *d) {
    size_t n = (size_t)s.rows * (size_t)s.cols, room = (n + 63) / 64 * 64;
    unsigned blocks = blocks_for(n, SQUARES_THREADS), parts = blocks;
    if (parts > SQUARES_BLOCKS) parts = SQUARES_BLOCKS;
    double *partial = (double *)d->scratch; // (parts), then (rows, 2)
    float *factor = NULL;
    if (sizeof(double) * (2 * (size_t)s.rows + 1) > d->scratch_bytes) fail("muon_update: %d rows are too many", s.rows);
    muon_momentum(partial, parts, s.moment, s.g, n, r, result, d);
    muon_start_kernel<Real>
        <<<blocks, SQUARES_THREADS, 0, d->stream>>>(scratch, s.moment, s.g, n, *r, partial, (int)parts, result);
    LAUNCH_CHECK();
    Real *x = newton_schulz(scratch, scratch + room, scratch + 2 * room, s.rows, s.cols, r, d);
    if (s.row_moment) {
        factor = (float *)(partial + 2 * (size_t)s.rows);
        normuon_rows_kernel<Real><<<(unsigned)s.rows, SQUARES_THREADS, 0, d->stream>>>(x, s.row_moment, partial, s.cols,
                                                                                       (float)r->beta2, result);
        normuon_factor(factor, partial, s.rows, d);
    }
    muon_apply_kernel<Real>
        <<<blocks_for(n, SQUARES_THREADS * 4), SQUARES_THREADS, 0, d->stream>>>(s, x, factor,
                                                                                (float)muon_scale(r, s.rows, s.cols),
                                                                                r->cautious, rule, result);
    LAUNCH_CHECK();
}

#endif
