/*
norm.h: LayerNorm (Ba et al. 2016, arXiv:1607.06450) and RMSNorm (Zhang and Sennrich 2019,
arXiv:1910.07467), forward and backward. RMSNorm is asked for by mean == NULL; it has no bias.

    LayerNorm   y = (x - mean(x)) * rstd * w + b     rstd = 1 / sqrt(var(x) + eps), var divided by C
    RMSNorm     y = x * rstd * w                     rstd = 1 / sqrt(mean(x^2) + eps)

The residual sum that comes before a norm is part of the matrix product before it (beta = 1, gemm.h):
that moves 4 N C numbers, where a kernel for sum and norm would move 5 N C. Backward, the gradient is
added to the residual stream's in the same pass.

Both are bound by memory: forward reads and writes N C, backward reads 3 N C and writes N C.
Limit: backward C <= 16384 (bf16), 8192 (float), where a row is held in registers; forward what a thread block may have
of shared memory (227 KB on an H100, 99 KB on sm_86 and sm_89).
*/
#ifndef LLMC_CUDA_NORM_H
#define LLMC_CUDA_NORM_H

#include "cuda.h"
#include "ptx.h"

// 16 bytes of a row from c on, as they are, zeros from C on; number by number where rows do not start on 16 bytes
template <bool FIT, typename Real> __device__ inline int4 row_bits(const Real *row, int c, int C) {
    const int P = PackOf<Real>::SIZE;
    int4 bits = make_int4(0, 0, 0, 0);
    if constexpr (FIT) {
        if (c < C) bits = *(const int4 *)(row + c);
    } else {
        Real part[P];
#pragma unroll
        for (int i = 0; i < P; i++) {
            from_float(&part[i], 0.0f);
            if (c + i < C) part[i] = row[c + i];
        }
        memcpy(&bits, part, 16);
    }
    return bits;
}

// A warp a row, which is read once: all of it is in flight at a time, on its way to shared memory. A lane works on what
// it brought itself, so that no barrier is needed.
template <typename Real, bool FIT>
__global__ void norm_forward_kernel(Real *y, float *mean, float *rstd, const Real *x, const Real *w, const Real *b,
                                    int N, int C, float eps) {
    const int P = PackOf<Real>::SIZE;
    extern __shared__ int4 norm_rows_smem[]; // (warps, packs)
    int n = (int)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32), lane = (int)(threadIdx.x % 32);
    int packs = (C + P - 1) / P;
    if (n >= N) return;
    int4 *row = norm_rows_smem + (int)(threadIdx.x / 32) * packs;
    const Real *xr = x + (size_t)n * (size_t)C;
    for (int p = lane; p < packs; p += 32) {
        if (FIT) cp_async_16(smem_address(row + p), xr + p * P, true);
        else row[p] = row_bits<false>(xr, p * P, C);
    }
    if (FIT) cp_async_commit(), cp_async_wait<0>();
    float v[P], m = 0, q = 0;
    if (mean) {
#pragma unroll 4
        for (int p = lane; p < packs; p += 32) {
            load_pack(v, (const Real *)&row[p], 0, P, true);
            for (int i = 0; i < P; i++) m += v[i];
        }
        m = warp_sum(m) / (float)C;
    }
#pragma unroll 4
    for (int p = lane; p < packs; p += 32) {
        load_pack(v, (const Real *)&row[p], 0, P, true);
        for (int i = 0; i < P; i++)
            if (FIT || p * P + i < C) q += (v[i] - m) * (v[i] - m);
    }
    float rs = 1.0f / sqrtf(warp_sum(q) / (float)C + eps);
    if (lane == 0) {
        rstd[n] = rs;
        if (mean) mean[n] = m;
    }
    Real *yr = y + (size_t)n * (size_t)C;
#pragma unroll 2
    for (int p = lane; p < packs; p += 32) {
        float weight[P], bias[P] = {0};
        load_pack(weight, w, p * P, C, FIT);
        if (b) load_pack(bias, b, p * P, C, FIT);
        load_pack(v, (const Real *)&row[p], 0, P, true);
        for (int i = 0; i < P; i++) v[i] = (v[i] - m) * rs * weight[i] + bias[i];
        store_pack(yr, v, p * P, C, FIT);
    }
}

// A norm over rows of C numbers: w (C), b (C) or NULL; what the forward pass keeps of a row, mean (N) or NULL, rstd (N)
template <typename Real> struct Norm {
    const Real *w, *b;
    float *mean, *rstd;
    int N, C;
    float eps;
};

// y (N, C), n.mean and n.rstd from x (N, C)
template <typename Real> static inline void norm_forward(Real *y, const Real *x, Norm<Real> n, Device *d) {
    const size_t row = ((size_t)n.C * sizeof(Real) + 15) / 16 * 16;
    unsigned warps = 4;
    while (warps > 1 && warps * row > DEVICE_SHARED_BYTES) warps /= 2;
    auto kernel = packs_fit<Real>(n.C) ? norm_forward_kernel<Real, true> : norm_forward_kernel<Real, false>;
    if (row > d->shared)
        fail("norm_forward: rows of %d numbers are longer than the %zu that shared memory holds", n.C,
             d->shared / sizeof(Real));
    device_shared(kernel, warps * row);
    kernel<<<blocks_for((size_t)n.N, warps), warps * 32, warps * row, d->stream>>>(y, n.mean, n.rstd, x, n.w, n.b, n.N,
                                                                                   n.C, n.eps);
    LAUNCH_CHECK();
}

// dw and db of the first group += those of the others, in their order; others (groups - 1, 2 P, columns): room, from
// this thread's column on
template <int P> __device__ inline void groups_join(float (&dw)[P], float (&db)[P], float *others) {
    int width = (int)blockDim.x, y = (int)threadIdx.y;
#pragma unroll
    for (int i = 0; i < P && y > 0; i++) {
        others[((y - 1) * 2 * P + i) * width] = dw[i];
        others[((y - 1) * 2 * P + P + i) * width] = db[i];
    }
    __syncthreads();
    if (y > 0) return;
#pragma unroll 1
    for (int group = 0; group < (int)blockDim.y - 1; group++)
#pragma unroll
        for (int i = 0; i < P; i++) {
            dw[i] += others[(group * 2 * P + i) * width];
            db[i] += others[(group * 2 * P + P + i) * width];
        }
}

enum { NORM_THREADS = 1024, NORM_LONG_THREADS = 512 }; // with up to 64 and 128 registers: what a multiprocessor holds

// A block (columns, groups of threads) takes groups rows at a time: rows blockIdx.x groups + threadIdx.y, + gridDim.x
// groups, ... A thread keeps to its K packs of columns, so that dw and db gather in its registers. One barrier and
// one trip to memory a row: with K = 1 the next row's x and dy come while this one is worked on, and the row's old dx
// before the barrier. inverse: 1 / C. partial (gridDim.x, 2, C).
template <typename Real, int K, bool FIT>
__global__ void __launch_bounds__(K == 1 ? NORM_THREADS : NORM_LONG_THREADS)
    norm_backward_kernel(Real *dx, float *partial, const Real *dy, const Real *x, const Real *w, const float *mean,
                         const float *rstd, int N, int C, float inverse) {
    const int P = PackOf<Real>::SIZE;
    constexpr bool AHEAD = K == 1 && FIT; // what 64 registers allow
    __shared__ float2 sums[2][32];        // a warp's, of two rows in turn, so that one barrier a row is enough
    extern __shared__ float norm_smem[];  // (groups - 1, 2 P, columns): dw and db of the groups after the first
    int width = (int)blockDim.x, y = (int)threadIdx.y, first = (int)threadIdx.x * P, group_warps = width / 32,
        warp = y * group_warps + (int)threadIdx.x / 32;
    int step = (int)gridDim.x * (int)blockDim.y, turn = 0;
    float dw[K][P], db[K][P], next_m = 0, next_rs = 0;
    int4 x_bits[K], dy_bits[K];
#pragma unroll
    for (int k = 0; k < K; k++) {
        x_bits[k] = dy_bits[k] = make_int4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < P; i++) dw[k][i] = db[k][i] = 0;
    }
    // Rows from N on are zeros with rstd = 0: they add zeros to all sums.
    auto fetch = [&](int row) {
        next_m = mean && row < N ? mean[row] : 0.0f;
        next_rs = row < N ? rstd[row] : 0.0f;
#pragma unroll
        for (int k = 0; k < K; k++) {
            int c = row < N ? first + k * width * P : C;
            x_bits[k] = row_bits<FIT>(x + (size_t)row * (size_t)C, c, C);
            dy_bits[k] = row_bits<FIT>(dy + (size_t)row * (size_t)C, c, C);
        }
    };
    if (AHEAD) fetch((int)blockIdx.x * (int)blockDim.y + y);
#pragma unroll 1
    for (int row = (int)blockIdx.x * (int)blockDim.y; row < N; row += step) {
        int n = row + y;
        Real *dr = dx + (size_t)n * (size_t)C;
        int4 old[K];
        float xhat[K][P], g[K][P], s1 = 0, s2 = 0;
        if (!AHEAD) fetch(n);
        float m = next_m, rs = next_rs;
#pragma unroll
        for (int k = 0; k < K; k++) {
            load_pack(xhat[k], (const Real *)&x_bits[k], 0, P, true);
            load_pack(g[k], (const Real *)&dy_bits[k], 0, P, true);
            if (AHEAD) old[k] = row_bits<FIT>(dr, n < N ? first : C, C);
        }
        if (AHEAD) fetch(n < N - step ? n + step : N);
#pragma unroll
        for (int k = 0; k < K; k++) {
            float v[P];
            int4 weight =
                row_bits<FIT>(w, first + k * width * P, C); // from the L1 cache: kept, it would cost registers
            load_pack(v, (const Real *)&weight, 0, P, true);
#pragma unroll
            for (int i = 0; i < P; i++) {
                xhat[k][i] = (xhat[k][i] - m) * rs;
                dw[k][i] += g[k][i] * xhat[k][i];
                db[k][i] += g[k][i];
                g[k][i] *= v[i];
                s1 += g[k][i];
                s2 += g[k][i] * xhat[k][i];
            }
        }
        s1 = warp_sum(s1);
        s2 = warp_sum(s2);
        if (threadIdx.x % 32 == 0) sums[turn][warp] = make_float2(s1, s2);
        __syncthreads();
        s1 = s2 = 0;
#pragma unroll 2
        for (int i = 0; i < group_warps; i++) {
            float2 of = sums[turn][y * group_warps + i];
            s1 += of.x;
            s2 += of.y;
        }
        turn ^= 1;
        s1 = mean ? s1 * inverse : 0.0f;
        s2 *= inverse;
#pragma unroll
        for (int k = 0; k < K; k++) {
            int c = n < N ? first + k * width * P : C;
            float v[P];
            if (!AHEAD) old[k] = row_bits<FIT>(dr, c, C);
            load_pack(v, (const Real *)&old[k], 0, P, true);
#pragma unroll
            for (int i = 0; i < P; i++) v[i] += rs * (g[k][i] - s1 - xhat[k][i] * s2);
            if (c < C) store_pack(dr, v, c, C, FIT);
        }
    }
    if (K == 1 && blockDim.y > 1) {
        groups_join(dw[0], db[0], norm_smem + threadIdx.x);
        if (y > 0) return;
    }
    float *pw = partial + (size_t)blockIdx.x * 2 * (size_t)C;
#pragma unroll
    for (int k = 0; k < K; k++) {
        int c = first + k * width * P;
        if (c >= C) continue;
        store_pack(pw, dw[k], c, C, FIT);
        store_pack(pw + C, db[k], c, C, FIT);
    }
}

template <typename Real, int K>
static inline void norm_backward_launch(Real *dx, const Real *dy, const Real *x, Norm<Real> n, int blocks, dim3 threads,
                                        Device *d) {
    size_t shared = sizeof(float) * 2 * PackOf<Real>::SIZE * threads.x * (threads.y - 1);
    auto kernel = packs_fit<Real>(n.C) ? norm_backward_kernel<Real, K, true> : norm_backward_kernel<Real, K, false>;
    kernel<<<(unsigned)blocks, threads, shared, d->stream>>>(dx, d->scratch, dy, x, n.w, n.mean, n.rstd, n.N, n.C,
                                                             1.0f / (float)n.C);
    LAUNCH_CHECK();
}

// dx (N, C) +=, dw (C) +=, db (C) += (NULL: not wanted) from dy (N, C), x (N, C) and what the forward pass kept.
// With xhat = (x - mean) * rstd and g = dy * w:
//     dx += rstd * (g - mean(g) - xhat * mean(g * xhat))       RMSNorm: without the middle term
//     dw += sum over rows of dy * xhat,   db += sum over rows of dy
template <typename Real>
static inline void norm_backward(Real *dx, float *dw, float *db, const Real *dy, const Real *x, Norm<Real> n,
                                 Device *d) {
    const int P = PackOf<Real>::SIZE, C = n.C;
    int packs = (C + P - 1) / P;
    if (packs > 2048) fail("norm_backward: rows of %d numbers are longer than the %d it can hold", C, 2048 * P);
    // Blocks of about 256 threads, or of one row; as many as an H100 holds at once, up to 4 on each of its 132
    // multiprocessors. Constants: the order of sums must not depend on the device. Scratch: at most 17 MB.
    int each = packs <= NORM_THREADS ? 1 : 4, columns = ((packs + each - 1) / each + 31) / 32 * 32,
        groups = columns <= 128 ? 256 / columns : 1;
    int fitting = each > 1 ? 1 : NORM_THREADS / (columns * groups), blocks = 132 * (fitting < 4 ? fitting : 4),
        rows = (n.N + groups - 1) / groups;
    if (blocks > rows) blocks = rows;
    dim3 threads((unsigned)columns, (unsigned)groups);
    if (each == 1) norm_backward_launch<Real, 1>(dx, dy, x, n, blocks, threads, d);
    else norm_backward_launch<Real, 4>(dx, dy, x, n, blocks, threads, d);
    if (dw || db) add_columns(dw, db, d->scratch, blocks, C, 2 * C, d);
}

#endif
