/*
attention_plain.h: causal attention, within documents and windows, in plain fp32 arithmetic, for any head size up to
256.

The kernels behind attention.h for the fp32 build, and for bf16 with head sizes that its tensor core
kernels do not have. Same algorithm (tiles of keys with a running maximum: online softmax,
FlashAttention, arXiv 2205.14135), one rounding to the storage type at the end. Written to be read, not to be fast:
about a tenth of the fp32 peak, bound by loads from shared memory (5 for 4 FMA).

A thread block has 8 warps and 32 rows (queries, or keys in attention_dkdv_plain_kernel), 4 to a warp. Tiles
of 32 rows of the other kind pass by in shared memory. In the scores a lane stands for one row of that
tile, in the sums over it for head dimensions lane, lane + 32, ... So the 4 rows of a warp concern no
other warp: a block's warps only meet when a tile comes or goes. E = ceil(HS/32) numbers a lane, the rest is
filled with zeros; rows in shared memory are 32 E + 1 floats apart, so that lanes reading one column
of 32 rows use 32 banks.
*/
#ifndef LLMC_CUDA_ATTENTION_PLAIN_H
#define LLMC_CUDA_ATTENTION_PLAIN_H

#include "../model.h"
#include "cuda.h"
#include <float.h>

// Rows of numbers that stand ld apart.
template <typename Real> struct Rows {
    Real *at;
    int ld;
    __host__ __device__ Rows from(size_t row, int column = 0) const { return {at + row * (size_t)ld + column, ld}; }
};

// Queries (B, Tq, NH HS), keys and values (B, Tkv, NKV HS), or their gradients.
template <typename Real> struct Heads { Rows<Real> q, k, v; };

// What the backward pass knows of the forward's results.
template <typename Real> struct AttentionResults {
    const Real *dout, *out; // (B, T, NH HS)
    const float *lse;       // (B, NH, T)
    float *delta;           // (B, NH, T) rowsum(dout out)
};

// 1/sqrt(HS) in a float: by way of HS, since a scale that is rounded twice would have other bits than before.
static inline float attention_scale(AttentionShape shape) {
    return 1 / sqrtf((float)(1 / (shape.scale * shape.scale)));
}

// A number that every score is above, and that can be subtracted from itself, which -Inf cannot: where the maximum of a
// row begins, of which documents and windows may hide all of the first tile.
#define SCORE_LEAST (-FLT_MAX)

// attention_first for rows past the last query too, which see what that one sees.
__device__ inline int attention_first_of(AttentionShape s, int b, int t) {
    return attention_first(s, b, min(t, s.Tq - 1));
}

// How many tiles of `rows` queries from query t on see a key up to `key` of batch b: they follow each other.
__device__ inline int attention_query_tiles(AttentionShape s, int b, int key, int t, int rows) {
    int some = 1, most = (s.Tq - t + rows - 1) / rows; // the first tile does
    while (some < most) {
        int half = (some + most + 1) / 2;
        if (attention_first(s, b, t + (half - 1) * rows) <= key) some = half;
        else most = half - 1;
    }
    return some;
}

enum { PLAIN_TILE = 32, PLAIN_WARPS = 8, PLAIN_ROWS = PLAIN_TILE / PLAIN_WARPS, PLAIN_MAX_HS = 256 };

// tile (32, 32 E + 1) = x (rows <= 32, HS), zeros around it
template <int E, typename Real> __device__ void plain_load(float *tile, Rows<Real> x, int rows, int HS) {
    for (int i = (int)threadIdx.x; i < PLAIN_TILE * 32 * E; i += PLAIN_WARPS * 32) {
        int r = i / (32 * E), d = i % (32 * E);
        tile[r * (32 * E + 1) + d] = r < rows && d < HS ? to_float(x.from((size_t)r).at[d]) : 0;
    }
}

// s[u] = row u of the warp's rows a . row `lane` of the tile b
template <int E> __device__ void plain_dot(float (&s)[PLAIN_ROWS], const float *a, const float *b) {
    b += (int)(threadIdx.x % 32) * (32 * E + 1);
    for (int u = 0; u < PLAIN_ROWS; u++) s[u] = 0;
#pragma unroll 8
    for (int d = 0; d < 32 * E; d++)
        for (int u = 0; u < PLAIN_ROWS; u++) s[u] = fmaf(a[u * (32 * E + 1) + d], b[d], s[u]);
}

// acc[u][e] += sum over c of p[u][c] x[c][lane + 32 e]; p (4, 32) was written by this warp's lanes
template <int E> __device__ void plain_accumulate(float (&acc)[PLAIN_ROWS][E], const float *p, const float *x) {
    __syncwarp();
#pragma unroll 4
    for (int c = 0; c < PLAIN_TILE; c++)
        for (int e = 0; e < E; e++) {
            float xv = x[c * (32 * E + 1) + (int)(threadIdx.x % 32) + 32 * e];
            for (int u = 0; u < PLAIN_ROWS; u++) acc[u][e] = fmaf(p[u * PLAIN_TILE + c], xv, acc[u][e]);
        }
    __syncwarp();
}

template <int E, typename Real>
__device__ void plain_write(Rows<Real> x, int rows, int HS, const float (&acc)[PLAIN_ROWS][E],
                            const float (&factor)[PLAIN_ROWS]) {
    for (int u = 0; u < PLAIN_ROWS; u++)
        for (int e = 0; e < E; e++) {
            int d = (int)(threadIdx.x % 32) + 32 * e;
            if (u < rows && d < HS) from_float(x.from((size_t)u, d).at, acc[u][e] * factor[u]);
        }
}

// grid (NH, B, query tiles)
template <int E, typename Real>
__global__ void __launch_bounds__(PLAIN_WARPS * 32, 1)
    attention_forward_plain_kernel(Real *out, float *lse, Heads<Real> in, AttentionShape shape, float scale) {
    const int Tq = shape.Tq, Tkv = shape.Tkv, NH = shape.NH, HS = shape.HS;
    extern __shared__ __align__(128) unsigned char attention_smem[];
    constexpr int TILE_FLOATS = PLAIN_TILE * (32 * E + 1);
    float *q_smem = (float *)attention_smem, *k_smem = q_smem + TILE_FLOATS, *v_smem = k_smem + TILE_FLOATS;
    int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    float *p_smem = v_smem + TILE_FLOATS + warp * PLAIN_ROWS * PLAIN_TILE; // this warp's (4, 32)
    int h = (int)blockIdx.x, b = (int)blockIdx.y, kh = h / (NH / shape.NKV);
    int first = (int)(gridDim.z - 1 - blockIdx.z) * PLAIN_TILE, row = warp * PLAIN_ROWS;
    int before = Tkv - Tq, keys = min(Tkv, before + first + PLAIN_TILE); // query i sees keys 0 .. before + i
    Rows<Real> k = in.k.from((size_t)b * Tkv, kh * HS), v = in.v.from((size_t)b * Tkv, kh * HS);

    plain_load<E>(q_smem, in.q.from((size_t)b * Tq + first, h * HS), Tq - first, HS);
    float acc[PLAIN_ROWS][E] = {}, top[PLAIN_ROWS], sum[PLAIN_ROWS] = {}; // sum: of this lane's keys
    int row_first[PLAIN_ROWS];
    for (int u = 0; u < PLAIN_ROWS; u++) {
        top[u] = SCORE_LEAST;
        row_first[u] = attention_first_of(shape, b, first + row + u);
    }
    for (int key = attention_first(shape, b, first) / PLAIN_TILE * PLAIN_TILE; key < keys; key += PLAIN_TILE) {
        __syncthreads();
        plain_load<E>(k_smem, k.from((size_t)key), Tkv - key, HS);
        plain_load<E>(v_smem, v.from((size_t)key), Tkv - key, HS);
        __syncthreads();
        float s[PLAIN_ROWS];
        plain_dot<E>(s, q_smem + row * (32 * E + 1), k_smem);
        for (int u = 0; u < PLAIN_ROWS; u++) {
            bool seen = key + lane <= before + first + row + u && key + lane >= row_first[u];
            s[u] = seen ? s[u] * scale : -INFINITY;
            float grown = fmaxf(top[u], warp_max(s[u])), shrink = expf(top[u] - grown), p = expf(s[u] - grown);
            top[u] = grown;
            sum[u] = sum[u] * shrink + p;
            for (int e = 0; e < E; e++) acc[u][e] *= shrink;
            p_smem[u * PLAIN_TILE + lane] = p;
        }
        plain_accumulate<E>(acc, p_smem, v_smem);
    }
    float factor[PLAIN_ROWS];
    for (int u = 0; u < PLAIN_ROWS; u++) {
        sum[u] = warp_sum(sum[u]);
        factor[u] = 1 / sum[u];
        int t = first + row + u;
        if (lse && lane == 0 && t < Tq) lse[((size_t)b * NH + h) * Tq + t] = top[u] + logf(sum[u]);
    }
    Rows<Real> to = {out, NH * HS};
    plain_write<E>(to.from((size_t)b * Tq + first + row, h * HS), Tq - first - row, HS, acc, factor);
}

// delta (B, NH, T) = sum over HS of out * dout, and dq; grid (NH, B, query tiles)
template <int E, typename Real>
__global__ void __launch_bounds__(PLAIN_WARPS * 32, 1)
    attention_dq_plain_kernel(Heads<Real> d, AttentionResults<Real> r, Heads<Real> in, AttentionShape shape,
                              float scale) {
    const int T = shape.Tq, NH = shape.NH, HS = shape.HS;
    extern __shared__ __align__(128) unsigned char attention_smem[];
    constexpr int TILE_FLOATS = PLAIN_TILE * (32 * E + 1);
    float *q_smem = (float *)attention_smem, *dout_smem = q_smem + TILE_FLOATS, *k_smem = dout_smem + TILE_FLOATS,
          *v_smem = k_smem + TILE_FLOATS;
    int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    float *ds_smem = v_smem + TILE_FLOATS + warp * PLAIN_ROWS * PLAIN_TILE;
    int h = (int)blockIdx.x, b = (int)blockIdx.y, kh = h / (NH / shape.NKV);
    int first = (int)(gridDim.z - 1 - blockIdx.z) * PLAIN_TILE, row = warp * PLAIN_ROWS,
        keys = min(T, first + PLAIN_TILE);
    const Rows<const Real> out_rows = Rows<const Real>{r.out, NH * HS}.from((size_t)b * T + first, h * HS),
                           dout_rows = Rows<const Real>{r.dout, NH * HS}.from((size_t)b * T + first, h * HS);
    Rows<Real> k = in.k.from((size_t)b * T, kh * HS), v = in.v.from((size_t)b * T, kh * HS);

    plain_load<E>(q_smem, in.q.from((size_t)b * T + first, h * HS), T - first, HS);
    plain_load<E>(dout_smem, dout_rows, T - first, HS);
    __syncthreads();
    float row_lse[PLAIN_ROWS], row_delta[PLAIN_ROWS];
    for (int u = 0; u < PLAIN_ROWS; u++) {
        bool inside = first + row + u < T;
        size_t at = ((size_t)b * NH + h) * T + first + row + u;
        float sum = 0;
        for (int i = lane; inside && i < HS; i += 32)
            sum = fmaf(to_float(out_rows.from((size_t)(row + u)).at[i]), dout_smem[(row + u) * (32 * E + 1) + i], sum);
        row_delta[u] = warp_sum(sum);
        row_lse[u] = inside ? r.lse[at] : 0;
        if (inside && lane == 0) r.delta[at] = row_delta[u];
    }
    float acc[PLAIN_ROWS][E] = {}, factor[PLAIN_ROWS];
    int row_first[PLAIN_ROWS];
    for (int u = 0; u < PLAIN_ROWS; u++) {
        factor[u] = scale;
        row_first[u] = attention_first_of(shape, b, first + row + u);
    }
    for (int key = attention_first(shape, b, first) / PLAIN_TILE * PLAIN_TILE; key < keys; key += PLAIN_TILE) {
        __syncthreads();
        plain_load<E>(k_smem, k.from((size_t)key), T - key, HS);
        plain_load<E>(v_smem, v.from((size_t)key), T - key, HS);
        __syncthreads();
        float s[PLAIN_ROWS], dp[PLAIN_ROWS];
        plain_dot<E>(s, q_smem + row * (32 * E + 1), k_smem);
        plain_dot<E>(dp, dout_smem + row * (32 * E + 1), v_smem);
        for (int u = 0; u < PLAIN_ROWS; u++) {
            bool seen = key + lane <= first + row + u && key + lane >= row_first[u];
            float p = seen ? expf(s[u] * scale - row_lse[u]) : 0;
            ds_smem[u * PLAIN_TILE + lane] = p * (dp[u] - row_delta[u]);
        }
        plain_accumulate<E>(acc, ds_smem, k_smem);
    }
    plain_write<E>(d.q.from((size_t)b * T + first + row, h * HS), T - first - row, HS, acc, factor);
}

// dk and dv: the rows are keys, the tiles queries, of all the query heads that share them; grid (NKV, B, key tiles)
template <int E, typename Real>
__global__ void __launch_bounds__(PLAIN_WARPS * 32, 1)
    attention_dkdv_plain_kernel(Heads<Real> d, AttentionResults<Real> r, Heads<Real> in, AttentionShape shape,
                                float scale) {
    const int T = shape.Tq, NH = shape.NH, HS = shape.HS;
    extern __shared__ __align__(128) unsigned char attention_smem[];
    constexpr int TILE_FLOATS = PLAIN_TILE * (32 * E + 1);
    float *k_smem = (float *)attention_smem, *v_smem = k_smem + TILE_FLOATS, *q_smem = v_smem + TILE_FLOATS,
          *dout_smem = q_smem + TILE_FLOATS;
    int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    float *p_smem = dout_smem + TILE_FLOATS + warp * 2 * PLAIN_ROWS * PLAIN_TILE,
          *ds_smem = p_smem + PLAIN_ROWS * PLAIN_TILE;
    int kh = (int)blockIdx.x, b = (int)blockIdx.y, group = NH / shape.NKV;
    int first = (int)blockIdx.z * PLAIN_TILE, row = warp * PLAIN_ROWS;

    Rows<const Real> dout = {r.dout, NH * HS};

    plain_load<E>(k_smem, in.k.from((size_t)b * T + first, kh * HS), T - first, HS);
    plain_load<E>(v_smem, in.v.from((size_t)b * T + first, kh * HS), T - first, HS);
    float dk_acc[PLAIN_ROWS][E] = {}, dv_acc[PLAIN_ROWS][E] = {}, factor[PLAIN_ROWS], one[PLAIN_ROWS];
    for (int u = 0; u < PLAIN_ROWS; u++) {
        factor[u] = scale;
        one[u] = 1;
    }
    int last = min(T, first + PLAIN_TILE) - 1, // the last of these keys, and where the queries end that see any
        end = first + PLAIN_TILE * attention_query_tiles(shape, b, last, first, PLAIN_TILE);
    for (int h = kh * group; h < (kh + 1) * group; h++)
        for (int query = first; query < end; query += PLAIN_TILE) {
            __syncthreads();
            plain_load<E>(q_smem, in.q.from((size_t)b * T + query, h * HS), T - query, HS);
            plain_load<E>(dout_smem, dout.from((size_t)b * T + query, h * HS), T - query, HS);
            __syncthreads();
            bool inside = query + lane < T;
            size_t at = ((size_t)b * NH + h) * T + query + lane;
            float column_lse = inside ? r.lse[at] : 0, column_delta = inside ? r.delta[at] : 0;
            int column_first = attention_first_of(shape, b, query + lane);
            float s[PLAIN_ROWS], dp[PLAIN_ROWS];
            plain_dot<E>(s, k_smem + row * (32 * E + 1), q_smem);
            plain_dot<E>(dp, v_smem + row * (32 * E + 1), dout_smem);
            for (int u = 0; u < PLAIN_ROWS; u++) {
                int key = first + row + u;
                bool seen = inside && key <= query + lane && key >= column_first;
                float p = seen ? expf(s[u] * scale - column_lse) : 0;
                p_smem[u * PLAIN_TILE + lane] = p;
                ds_smem[u * PLAIN_TILE + lane] = p * (dp[u] - column_delta);
            }
            plain_accumulate<E>(dv_acc, p_smem, dout_smem);
            plain_accumulate<E>(dk_acc, ds_smem, q_smem);
        }
    plain_write<E>(d.k.from((size_t)b * T + first + row, kh * HS), T - first - row, HS, dk_acc, factor);
    plain_write<E>(d.v.from((size_t)b * T + first + row, kh * HS), T - first - row, HS, dv_acc, one);
}

#endif
