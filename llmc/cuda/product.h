/*
product.h: what gemm.h has beside cuBLASLt: a matrix product for shapes that the library has no algorithm for, and the
comparison of two ways to the same numbers.

product()    D = alpha op(A) op(B) + beta C, of any sizes, on plain fp32 units: a tile of 64 x 64 a thread block, 4 x 4
             numbers a thread, sums in the order of k. 10 to 20 times slower than tensor cores.
differs()    do two results of the same sum differ by more than their rounding?

Matrices are counted by columns, as in the library.
*/
#ifndef LLMC_CUDA_PRODUCT_H
#define LLMC_CUDA_PRODUCT_H

#include "cuda.h"

// ---------------------------------------------------------------- a product

typedef struct {
    int m, n, k; // D (m, n)
    int transa, transb;
    float alpha, beta; // beta 0: C is not read
    int ldb, ldd;      // from a column of B to the next, and of D and C
} ProductShape;

enum { PRODUCT_TILE = 64, PRODUCT_DEPTH = 16, PRODUCT_SIDE = 16, PRODUCT_EACH = PRODUCT_TILE / PRODUCT_SIDE };

// smem (DEPTH, TILE) = columns `first` .. of x (k, count), by columns, ld apart, or where turned of its transpose
// (count, k), from row `start` on; zeros outside.
template <typename In>
__device__ inline void product_load(float (&smem)[PRODUCT_DEPTH][PRODUCT_TILE + 1], const In *x, bool turned, int first,
                                    int count, int start, int k, int ld) {
    for (int e = (int)threadIdx.x; e < PRODUCT_DEPTH * PRODUCT_TILE; e += PRODUCT_SIDE * PRODUCT_SIDE) {
        int i = turned ? e % PRODUCT_TILE : e / PRODUCT_DEPTH, l = turned ? e / PRODUCT_TILE : e % PRODUCT_DEPTH;
        size_t row = (size_t)(start + l), column = (size_t)first + (size_t)i;
        bool inside = start + l < k && first + i < count;
        size_t at = turned ? column + row * (size_t)ld : row + column * (size_t)ld;
        smem[l][i] = inside ? to_float(x[at]) : 0.0f;
    }
}

template <typename Out, typename In>
__global__ void __launch_bounds__(PRODUCT_SIDE *PRODUCT_SIDE)
    product_kernel(Out *D, const In *A, const In *B, const Out *C, ProductShape s) {
    __shared__ float a_smem[PRODUCT_DEPTH][PRODUCT_TILE + 1], b_smem[PRODUCT_DEPTH][PRODUCT_TILE + 1];
    int tiles = (s.m + PRODUCT_TILE - 1) / PRODUCT_TILE, x = (int)threadIdx.x % PRODUCT_SIDE,
        y = (int)threadIdx.x / PRODUCT_SIDE;
    int first_i = (int)blockIdx.x % tiles * PRODUCT_TILE, first_j = (int)blockIdx.x / tiles * PRODUCT_TILE;
    float sum[PRODUCT_EACH][PRODUCT_EACH] = {};
    for (int start = 0; start < s.k; start += PRODUCT_DEPTH) {
        product_load(a_smem, A, !s.transa, first_i, s.m, start, s.k, s.transa ? s.k : s.m);
        product_load(b_smem, B, s.transb != 0, first_j, s.n, start, s.k, s.ldb);
        __syncthreads();
        for (int l = 0; l < PRODUCT_DEPTH; l++)
#pragma unroll
            for (int u = 0; u < PRODUCT_EACH; u++)
#pragma unroll
                for (int v = 0; v < PRODUCT_EACH; v++)
                    sum[u][v] += a_smem[l][x + u * PRODUCT_SIDE] * b_smem[l][y + v * PRODUCT_SIDE];
        __syncthreads();
    }
    for (int v = 0; v < PRODUCT_EACH; v++)
        for (int u = 0; u < PRODUCT_EACH; u++) {
            int i = first_i + x + u * PRODUCT_SIDE, j = first_j + y + v * PRODUCT_SIDE;
            size_t at = (size_t)i + (size_t)j * (size_t)s.ldd;
            if (i >= s.m || j >= s.n) continue;
            float value = s.alpha * sum[u][v];
            if (C) value += s.beta * to_float(C[at]);
            from_float(&D[at], value);
        }
}

// C may be D.
template <typename Out, typename In>
static inline void product(Out *D, const In *A, const In *B, const Out *C, ProductShape s, Device *d) {
    size_t tiles =
        (size_t)((s.m + PRODUCT_TILE - 1) / PRODUCT_TILE) * (size_t)((s.n + PRODUCT_TILE - 1) / PRODUCT_TILE);
    const Out *added = s.beta != 0 ? C : NULL;
    product_kernel<Out, In><<<blocks_for(tiles, 1), PRODUCT_SIDE * PRODUCT_SIDE, 0, d->stream>>>(D, A, B, added, s);
    LAUNCH_CHECK();
}

// ---------------------------------------------------------------- two ways to the same numbers

enum { DIFFERS_THREADS = 256, DIFFERS_BLOCKS = 256, DIFFERS_NUMBERS = 3 };

// out (gridDim.x, 3): of a block's numbers the sum of b^2, the sum of (a - b)^2, and the largest
// |a - b| / (|b| + size), infinite where one is NaN.
template <typename Real>
__global__ void __launch_bounds__(DIFFERS_THREADS)
    differs_kernel(float *out, const Real *a, const Real *b, size_t n, float size) {
    __shared__ float warps[DIFFERS_THREADS / 32][DIFFERS_NUMBERS];
    float squares = 0, away = 0, most = 0;
    for (size_t i = (size_t)blockIdx.x * DIFFERS_THREADS + threadIdx.x; i < n;
         i += (size_t)gridDim.x * DIFFERS_THREADS) {
        float x = to_float(a[i]), y = to_float(b[i]), far = fabsf(x - y);
        float share = far == 0 ? 0 : far / (fabsf(y) + size);
        if (!(share <= 3e38f)) share = INFINITY;
        squares += y * y, away += far * far, most = fmaxf(most, share);
    }
    squares = warp_sum(squares), away = warp_sum(away), most = warp_max(most);
    float *mine = warps[threadIdx.x / 32];
    if (threadIdx.x % 32 == 0) mine[0] = squares, mine[1] = away, mine[2] = most;
    __syncthreads();
    if (threadIdx.x) return;
    for (int w = 1; w < DIFFERS_THREADS / 32; w++)
        squares += warps[w][0], away += warps[w][1], most = fmaxf(most, warps[w][2]);
    out += (size_t)blockIdx.x * DIFFERS_NUMBERS;
    out[0] = squares, out[1] = away, out[2] = most;
}

// As differs_kernel, over all blocks; uses scratch memory, and waits.
template <typename Real>
static inline void differs_sums(double sums[DIFFERS_NUMBERS], const Real *a, const Real *b, size_t n, float size,
                                Device *d) {
    float parts[DIFFERS_BLOCKS][DIFFERS_NUMBERS];
    unsigned blocks = blocks_for(n, DIFFERS_THREADS);
    if (blocks > DIFFERS_BLOCKS) blocks = DIFFERS_BLOCKS;
    differs_kernel<Real><<<blocks, DIFFERS_THREADS, 0, d->stream>>>(d->scratch, a, b, n, size);
    LAUNCH_CHECK();
    device_read(d, parts, d->scratch, sizeof parts[0] * blocks);
    sums[0] = sums[1] = sums[2] = 0;
    for (unsigned i = 0; i < blocks; i++) {
        sums[0] += (double)parts[i][0], sums[1] += (double)parts[i][1];
        if ((double)parts[i][2] > sums[2]) sums[2] = (double)parts[i][2];
    }
}

// a (n) against b (n), on the device. A rounding to bf16 moves a number by 2^-9 at most, a vector by about 2^-10, and
// one way has up to three more than the other; fp32 sums of a million numbers in another order are about 2^-14 apart.
// The bounds are 4 and 2 times that. A single number may be 8 times as far away as the vector, against its own size and
// the mean one: numbers cancel.
template <typename Real> static inline bool differs(const Real *a, const Real *b, size_t n, Device *d) {
    const double bound = sizeof(Real) == 2 ? 1.0 / 128 : 1.0 / 8192;
    double sums[DIFFERS_NUMBERS];
    if (!n) return false;
    differs_sums(sums, a, b, n, 1, d);
    double size = sqrt(sums[0] / (double)n);
    if (!(sums[1] <= bound * bound * sums[0])) return true;
    differs_sums(sums, a, b, n, (float)size, d);
    return !(sums[2] <= 8 * bound);
}

#endif
