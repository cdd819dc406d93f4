/*
attention.h: causal attention with grouped queries, within documents and windows, forward and backward, never storing
T x T.

    attention_forward<Real>     out, and the logarithm of each row's sum (lse)
    attention_backward<Real>    dq, dk, dv
    Real                     __nv_bfloat16, or float for comparisons (attention_plain.h)

Head h of the NH query heads uses key/value head h / (NH / NKV). bf16 with head size 64 or 128 runs on
tensor cores (mma.sync, sm_80 and later; sums in fp32), all else in plain fp32. Any T. The same inputs
give the same bits: no atomics, every sum has a fixed order.

Forward (FlashAttention-2, Dao 2023, arXiv 2307.08691). A block has 128 queries of one head, a warp 32
of them; tiles of 64 keys and values pass by. For a warp, S = Q K^T is in registers, P = exp(S - max)
is made of it in place, and its registers are at once the left operand of O += P V (ptx.h): P never
leaves them. K of the next tile arrives while P V is computed, V of this one while Q K^T is, both by
cp.async. The maximum only moves when it would grow by more than 2^8 (as FlashAttention-4 does): P is
then at most 256, the fp32 sums have room, bf16 has the same relative precision, and most tiles need
not rescale O. Tiles past the diagonal are not visited, and only tiles on it are masked.

Documents and windows (attention_first of model.h) hide keys before the first that a query sees. Which tiles of keys a
tile of queries sees, and the other way round, is known before the loop, so that no tile is visited of which nothing is
seen; tiles that a border crosses are masked. Kernels for it (MASKED) are compiled apart, those of ordinary rows stay as
they are: at HS=128 there is no register left.

Blocks start in sections: of as many heads of as many batches as have K and V (dkdv: Q and dO) that stay
in the L2 cache together, so that each is read from memory once and not once for each tile of queries.
Within a section the longest rows start first, and query heads that share keys are neighbours.

Backward. FlashAttention-2 adds to dQ with atomics from all blocks of keys: other bits in every run.
Here one kernel with rows of queries makes dQ, and one with rows of keys makes dK and dV:

    dQ:      S = Q K^T      dP = dO V^T    dQ += dS K                      3 products
    dK, dV:  S^T = K Q^T    dP^T = V dO^T  dV += P^T dO   dK += dS^T Q     4 products

with P = exp(S scale - lse), dS = P (dP - delta), delta = rowsum(dO O). 7 products in place of 5, and
exp twice. What it buys, besides fixed bits: P and dS stay in registers (they are left operands in
both kernels, where the 5-product kernel sends both through shared memory), no fp32 dQ in memory (2 x
the traffic of dQ, and atomics: 32 KB through L2 for the 5.2 M FMA of a 128 x 128 tile), no kernel that
zeroes or converts it, no order between blocks. The deterministic alternatives with 5 products let
blocks take turns at dQ and wait for one another, or sum dQ from T/128 parts, which need the memory.
Estimate in clocks of an H100's multiprocessor for one score at HS=64, from the instructions of the
inner loops (mma.sync at 63% of 2048 FMA a clock, exp 16 a clock, 4 warp instructions a clock):

                    products  exp    all instructions  shared memory
    forward         0.10      0.06   0.07              0.06
    dQ              0.15      0.06   0.09              0.09
    dK, dV          0.20      0.06   0.11              0.13

These overlap between the 8 warps of a multiprocessor. If nothing did, forward would reach 250 TFLOP/s
and backward 220 (of 5 products), if all did, 600 and 430. To be replaced by measurements
(cuda_attention_test bench); FlashAttention-2 was measured at 230-300 and 240-265.

Shared memory. A tile is (rows, HS) bf16 without padding; 16-byte piece i of row r lies at i XOR (r mod
8), so that the 8 rows of an ldmatrix, and the 8 pieces of a cp.async or of a 16-byte store, use all 32
banks once. What limits a warp is the right operand: 256 bytes for a mma, 2 clocks of shared memory, when
H100 can start one every 1.6 clocks and A100 one every 2. A warp with 32 rows uses each right operand
twice. At HS=128 the accumulators of the backward kernels leave registers for 16 rows only. The left
operands stay in registers too, but for Q in the forward kernel at HS=128.

Registers bound the number of warps to 8 a multiprocessor, as two blocks of 4 or one of 8. nvcc 13.0,
no spills (MASKED: forward at 128 spills 40 and 56 bytes, dK, dV on sm_90 8 and 4; first keys that wait in lanes and
come by shuffles cost about as many, in other kernels):

                        rows of a warp  registers sm_80, sm_90  shared memory  clocks of it for a mma
    forward      64     32              223, 226                32 KB          1.0
                 128    32              255, 255                64 KB          1.25
    dQ           64     32              250, 250                48 KB          1.0
                 128    16              228, 228                96 KB          2.0
    dK, dV       64     32              255, 255                49 KB          1.0
                 128    16              253, 255                97 KB          2.0

Limits: HS up to 256. An infinity or NaN in k or v also reaches earlier queries of its tile of 64 (0 times
infinity is NaN); one in q or dout stays in its row of out and dq.

A version for Hopper (wgmma, TMA) would stand beside the three kernels here and be chosen in the
launchers by the device's architecture; interface, lse and delta are the same.
*/
#ifndef LLMC_CUDA_ATTENTION_H
#define LLMC_CUDA_ATTENTION_H

#include "attention_plain.h"
#include "cuda.h"
#include "product.h"
#include "ptx.h"

// ---------------------------------------------------------------- tiles in shared memory

// Byte offset of 16-byte piece `piece` of row `row` in a tile (rows, HS)
template <int HS> __device__ constexpr uint32_t tile_offset(int row, int piece) {
    return (uint32_t)(row * HS * 2 + ((piece ^ (row & 7)) << 4));
}

// Where this lane points in an ldmatrix of the 16 x 16 numbers of rows 0 .. 15, columns 16k .. 16k + 15 of a tile.
// Order of the four 8 x 8 matrices: down the left half, then the right half, as a left operand and a transposed right
// one need them; ACROSS: the upper half from left to right, then the lower one, which puts the two registers of a
// right operand side by side. k = 0 .. 3 take four registers, more are further along the row; all else is a sum.
template <int HS, bool ACROSS> __device__ inline uint32_t lane_offset(int k) {
    int lane = (int)(threadIdx.x % 32), row = ACROSS ? lane / 16 * 8 + lane % 8 : lane % 16,
        half = ACROSS ? lane / 8 % 2 : lane / 16;
    return (tile_offset<HS>(row, half) ^ (uint32_t)(k % 4 * 32)) + (uint32_t)(k / 4 * 128);
}

// Begins the copy of rows first .. first + ROWS - 1 of x (end, HS) to a tile; zeros from row `end` on.
// Rows are counted over all batches and addresses made anew for each (one multiply-add): held across the loop over
// tiles they would cost registers.
template <int ROWS, int HS, int THREADS, typename Number>
__device__ inline void tile_load(SmemAddress tile, Rows<Number> x, int first, int end) {
    constexpr int PIECES = HS / 8, STEP = THREADS / PIECES;
    static_assert(STEP % 8 == 0 && ROWS % STEP == 0, "a thread keeps its place in the pattern of pieces");
    int row = (int)(threadIdx.x / PIECES), piece = (int)(threadIdx.x % PIECES);
    SmemAddress to = tile + tile_offset<HS>(row, piece);
    x.at += piece * 8;
#pragma unroll
    for (int i = 0; i < ROWS / STEP; i++) {
        int r = first + row + i * STEP;
        cp_async_16(to + i * STEP * HS * 2, x.at + (int64_t)min(r, end - 1) * x.ld, r < end);
    }
}

// The left operand: M * 16 rows of a tile, all of them in registers (KEPT) or fetched when used.
template <int HS, int M, bool KEPT> struct LeftOperand {
    SmemAddress tile; // of the warp's first row
    uint32_t kept[KEPT ? HS / 16 : 1][M][4];

    // a: columns 16k .. 16k + 15
    __device__ inline void fetch(uint32_t (&a)[M][4], int k) const {
#pragma unroll
        for (int m = 0; m < M; m++) ldmatrix(a[m], tile + m * 16 * HS * 2 + lane_offset<HS, false>(k));
    }
    __device__ inline void open(SmemAddress first_row) {
        tile = first_row;
        if constexpr (KEPT) {
#pragma unroll
            for (int k = 0; k < HS / 16; k++) fetch(kept[k], k);
        }
    }
    __device__ inline void get(uint32_t (&a)[M][4], int k) const {
        if constexpr (KEPT) {
#pragma unroll
            for (int i = 0; i < M * 4; i++) a[i / 4][i % 4] = kept[k][i / 4][i % 4];
        } else fetch(a, k);
    }
};

// s (M*16, N*8) += a (M*16, HS) b^T; b: N*8 rows of a tile
template <int HS, int M, int N, bool KEPT>
__device__ inline void tile_multiply_transposed(float (&s)[M][N][4], const LeftOperand<HS, M, KEPT> &a, SmemAddress b) {
#pragma unroll
    for (int k = 0; k < HS / 16; k++) {
        uint32_t a_rmem[M][4];
        a.get(a_rmem, k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b_rmem[4];
            ldmatrix(b_rmem, b + n * 8 * HS * 2 + lane_offset<HS, true>(k));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16(s[m][n], a_rmem[m], b_rmem[0], b_rmem[1]);
                mma_bf16(s[m][n + 1], a_rmem[m], b_rmem[2], b_rmem[3]);
            }
        }
    }
}

// acc (M*16, HS) += p (M*16, N*8) x; x: N*8 rows of a tile
template <int HS, int M, int N>
__device__ inline void tile_multiply(float (&acc)[M][HS / 8][4], const uint32_t (&p)[M][N / 2][4], SmemAddress x) {
#pragma unroll
    for (int k = 0; k < N / 2; k++)
#pragma unroll
        for (int n = 0; n < HS / 8; n += 2) {
            uint32_t x_rmem[4];
            ldmatrix_transposed(x_rmem, x + k * 16 * HS * 2 + lane_offset<HS, false>(n / 2));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16(acc[m][n], p[m][k], x_rmem[0], x_rmem[1]);
                mma_bf16(acc[m][n + 1], p[m][k], x_rmem[2], x_rmem[3]);
            }
        }
}

// Sums of a product, rounded, as left operand of the next
template <int M, int N> __device__ inline void tile_pack(uint32_t (&p)[M][N / 2][4], const float (&s)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                p[m][n / 2][n % 2 * 2 + half] = pack_bf16(s[m][n][2 * half], s[m][n][2 * half + 1]);
}

// x (rows <= M*16, HS) = acc * factor; factor[m][half] belongs to row m*16 + half*8 + lane/4.
// `staging` holds M*16 rows of a tile that only this warp uses by now.
template <int HS, int M>
__device__ inline void tile_store(Rows<__nv_bfloat16> x, int rows, const float (&acc)[M][HS / 8][4],
                                  const float (&factor)[M][2], unsigned char *staging) {
    int lane = (int)(threadIdx.x % 32);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int n = 0; n < HS / 8; n++)
                *(uint32_t *)(staging + tile_offset<HS>(m * 16 + half * 8 + lane / 4, n) + lane % 4 * 4) =
                    pack_bf16(acc[m][n][2 * half] * factor[m][half], acc[m][n][2 * half + 1] * factor[m][half]);
    __syncwarp();
    constexpr int PIECES = HS / 8;
#pragma unroll
    for (int i = 0; i < M * 16 * PIECES / 32; i++) {
        int row = (i * 32 + lane) / PIECES, piece = lane % PIECES;
        if (row < rows)
            *(uint4 *)x.from((size_t)row, piece * 8).at = *(const uint4 *)(staging + tile_offset<HS>(row, piece));
    }
}
template <int HS, int M>
__device__ inline void tile_store(Rows<__nv_bfloat16> x, int rows, const float (&acc)[M][HS / 8][4], float factor,
                                  unsigned char *staging) {
    float factors[M][2];
#pragma unroll
    for (int i = 0; i < M * 2; i++) factors[i / 2][i % 2] = factor;
    tile_store<HS, M>(x, rows, acc, factors, staging);
}

template <int M, int N> __device__ inline void tile_clear(float (&x)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) x[m][n][i] = 0;
}

// The causal mask: scores of keys behind their query become -Inf. TRANSPOSED: queries are the columns. ahead: from the
// first key to the first query.
template <bool TRANSPOSED, int M, int N> __device__ inline void tile_mask(float (&s)[M][N][4], int ahead) {
    int lane = (int)(threadIdx.x % 32), row = lane / 4, column = lane % 4 * 2; // of this lane's first number
    int last = TRANSPOSED ? ahead + column - row : ahead + row - column;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int right = n * 8 + i % 2 - m * 16 - i / 2 * 8;
                if ((TRANSPOSED ? -right : right) > last) s[m][n][i] = -INFINITY;
            }
}

// The same of keys before the first that their query sees. query: of the first row (TRANSPOSED: column), key: of the
// first column (row). The first keys are read anew at each tile that needs it.
template <bool TRANSPOSED, int M, int N>
__device__ inline void tile_mask_before(float (&s)[M][N][4], AttentionShape shape, int b, int query, int key) {
    int lane = (int)(threadIdx.x % 32), row = lane / 4, column = lane % 4 * 2;
#pragma unroll
    for (int line = 0; line < (TRANSPOSED ? N * 2 : M * 2); line++) { // of queries: columns, or rows
        int t = query + (TRANSPOSED ? line / 2 * 8 + line % 2 + column : line * 8 + row);
        int first = attention_first_of(shape, b, t) - key - (TRANSPOSED ? row : column);
#pragma unroll
        for (int across = 0; across < (TRANSPOSED ? M * 2 : N * 2); across++) {
            int at = TRANSPOSED ? across * 8 : across / 2 * 8 + across % 2;
            float *x = TRANSPOSED ? &s[across / 2][line / 2][across % 2 * 2 + line % 2]
                                  : &s[line / 2][across / 2][line % 2 * 2 + across % 2];
            if (at < first) *x = -INFINITY;
        }
    }
}

// The block's b*heads + h. A section's blocks have one blockIdx.z; the last section may have some too many.
__device__ inline int attention_pair() { return (int)(blockIdx.z * gridDim.x + blockIdx.x); }

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

// ---------------------------------------------------------------- forward

// M: 16-row tiles of a warp. KEPT: Q stays in registers. May be tuned, as long as nothing spills.
template <int HS> struct ForwardTile {
    enum {
        WARPS = 4,
        M = 2,
        QUERIES = WARPS * M * 16,
        KEYS = 64,
        THREADS = WARPS * 32,
        BLOCKS = 2,
        SMEM = (QUERIES + 2 * KEYS) * HS * 2
    };
    static constexpr bool KEPT = HS == 64;
};

// Raises each row's `top` to the maximum of S scale, and shrinks `sum` and O by as much, where it would grow by more
// than 2^8.
template <int HS, int M, int N>
__device__ inline void forward_rescale(float (&o)[M][HS / 8][4], float (&top)[M][2], float (&sum)[M][2],
                                       const float (&s)[M][N][4], float scale) {
    float now[M][2];
    bool grows = false;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float x = fmaxf(s[m][0][2 * half], s[m][0][2 * half + 1]);
#pragma unroll
            for (int n = 1; n < N; n++) x = fmaxf(x, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
            x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
            x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2)) * scale;
            now[m][half] = x;
            grows = grows || x > top[m][half] + 8;
        }
    if (!__any_sync(0xffffffffu, grows)) return;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float grown = fmaxf(top[m][half], now[m][half]), shrink = exp2_fast(top[m][half] - grown);
            top[m][half] = grown;
            sum[m][half] *= shrink;
#pragma unroll
            for (int n = 0; n < HS / 8; n++) {
                o[m][n][2 * half] *= shrink;
                o[m][n][2 * half + 1] *= shrink;
            }
        }
}

// S becomes P = 2^(S scale - top); `sum` += its rows
template <int M, int N>
__device__ inline void forward_exponentials(float (&s)[M][N][4], float (&sum)[M][2], const float (&top)[M][2],
                                            float scale) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[m][n][i] = exp2_fast(fmaf(s[m][n][i], scale, -top[m][i / 2]));
                sum[m][i / 2] += s[m][n][i];
            }
}

// grid: attention_sections() of B*NH; scale: log2(e) / sqrt(HS). The shape in single
// numbers: fields of a struct would be kept in registers, and at HS=128 there is none left. mask: the shape again, for
// MASKED.
template <int HS, bool MASKED>
__global__ void __launch_bounds__(ForwardTile<HS>::THREADS, ForwardTile<HS>::BLOCKS)
    attention_forward_kernel(__nv_bfloat16 *out, float *lse, Heads<__nv_bfloat16> in, int Tq, int Tkv, int NH, int NKV,
                             int pairs, float scale, AttentionShape mask) {
    typedef ForwardTile<HS> Tile;
    constexpr int M = Tile::M, N = Tile::KEYS / 8, KEYS = Tile::KEYS, THREADS = Tile::THREADS;
    extern __shared__ __align__(128) unsigned char attention_smem[];
    SmemAddress q_smem = smem_address(attention_smem), k_smem = q_smem + Tile::QUERIES * HS * 2,
                v_smem = k_smem + KEYS * HS * 2;
    int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    int pair = attention_pair(), b = pair / NH, h = pair % NH, kh = h / (NH / NKV);
    if (pair >= pairs) return;
    int first = (int)(gridDim.y - 1 - blockIdx.y) * Tile::QUERIES,
        row = first + warp * M * 16; // the block's first query, the warp's
    int before = Tkv - Tq,
        tiles = (min(Tkv, before + first + Tile::QUERIES) + KEYS - 1) / KEYS; // query i sees keys 0 .. before + i
    int end = (b + 1) * Tkv;                                                  // of the rows of k and v
    int begin = MASKED ? attention_first(mask, b, first) / KEYS : 0; // the first tile that any query sees a key of

    tile_load<Tile::QUERIES, HS, THREADS>(q_smem, in.q.from(0, h * HS), b * Tq + first, (b + 1) * Tq);
    tile_load<KEYS, HS, THREADS>(k_smem, in.k.from(0, kh * HS), end - Tkv + begin * KEYS, end);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    LeftOperand<HS, M, Tile::KEPT> q_rmem;
    q_rmem.open(q_smem + warp * M * 16 * HS * 2);
    float o_rmem[M][HS / 8][4], top[M][2], sum[M][2]; // per row: maximum so far, sum over this lane's columns
    tile_clear(o_rmem);
#pragma unroll
    for (int i = 0; i < M * 2; i++) {
        top[i / 2][i % 2] = MASKED ? SCORE_LEAST : -INFINITY;
        sum[i / 2][i % 2] = 0;
    }

    for (int tile = begin; tile < tiles; tile++) {
        int key = tile * KEYS;
        bool active = key <= before + row + M * 16 - 1; // does any row of this warp see the tile?
        if (MASKED) active = active && key + KEYS > attention_first_of(mask, b, row);
        tile_load<KEYS, HS, THREADS>(v_smem, in.v.from(0, kh * HS), end - Tkv + key, end);
        cp_async_commit();

        // 1. S = Q K^T, while V arrives
        float s_rmem[M][N][4];
        if (active) {
            tile_clear(s_rmem);
            tile_multiply_transposed<HS, M, N>(s_rmem, q_rmem, k_smem);
        }
        cp_async_wait<0>();
        __syncthreads(); // V is there, K has been read by all
        if (tile + 1 < tiles) tile_load<KEYS, HS, THREADS>(k_smem, in.k.from(0, kh * HS), end - Tkv + key + KEYS, end);
        cp_async_commit();

        // 2. P = 2^(S scale - top), while the next K arrives
        if (active) {
            if (key + KEYS - 1 > before + row) tile_mask<false>(s_rmem, before + row - key);
            if (MASKED && key < attention_first_of(mask, b, row + M * 16 - 1))
                tile_mask_before<false>(s_rmem, mask, b, row, key);
            forward_rescale<HS>(o_rmem, top, sum, s_rmem, scale);
            forward_exponentials(s_rmem, sum, top, scale);

            // 3. O += P V
            uint32_t p_rmem[M][N / 2][4];
            tile_pack(p_rmem, s_rmem);
            tile_multiply<HS, M, N>(o_rmem, p_rmem, v_smem);
        }
        cp_async_wait<0>();
        __syncthreads(); // K is there, V has been read by all
    }

    // 4. out = O / sum, lse
    float factor[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float x = sum[m][half];
            x += __shfl_xor_sync(0xffffffffu, x, 1);
            x += __shfl_xor_sync(0xffffffffu, x, 2);
            factor[m][half] = 1 / x;
            int t = row + m * 16 + half * 8 + lane / 4;
            if (lse && lane % 4 == 0 && t < Tq) lse[(size_t)attention_pair() * Tq + t] = top[m][half] * LN_2 + logf(x);
        }
    b = end / Tkv - 1; // anew: kept over the loop, two registers would spill
    h = attention_pair() - b * NH;
    Rows<__nv_bfloat16> to = {out + (((size_t)b * Tq + row) * NH + h) * HS, NH * HS};
    tile_store<HS, M>(to, Tq - row, o_rmem, factor, attention_smem + warp * M * 16 * HS * 2);
}

// ---------------------------------------------------------------- forward for one query: generation

enum { DECODE_THREADS = 256, DECODE_AHEAD = 4 };

// 16 bytes of a row as floats
__device__ inline void decode_unpack(float (&x)[4], uint4 piece, const float *) {
    x[0] = __uint_as_float(piece.x);
    x[1] = __uint_as_float(piece.y);
    x[2] = __uint_as_float(piece.z);
    x[3] = __uint_as_float(piece.w);
}
__device__ inline void decode_unpack(float (&x)[8], uint4 piece, const __nv_bfloat16 *) {
    const uint32_t w[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = __uint_as_float(i % 2 ? w[i / 2] & 0xffff0000u : w[i / 2] << 16);
}

// One query for each block of the grid (NH, B): reads K and V once, bound by memory. Lanes in groups of
// HS*sizeof(Real)/16 share a key, 16 bytes each; every group has its own keys, maximum, sum and O, which are joined
// at the end.
template <typename Real, int HS>
__global__ void __launch_bounds__(DECODE_THREADS)
    attention_decode_kernel(Real *out, float *lse, Heads<Real> in, AttentionShape shape, float scale) {
    const int Tkv = shape.Tkv, NH = shape.NH;
    constexpr int PER = 16 / (int)sizeof(Real), LANES = HS / PER, GROUPS = DECODE_THREADS / LANES;
    __shared__ float o_smem[GROUPS][HS], top_smem[GROUPS], sum_smem[GROUPS];
    int h = (int)blockIdx.x, b = (int)blockIdx.y, kh = h / (NH / shape.NKV);
    int group = (int)(threadIdx.x / LANES),
        first = (int)(threadIdx.x % LANES) * PER; // this lane's first head dimension
    Rows<Real> k = in.k.from((size_t)b * Tkv, kh * HS + first), v = in.v.from((size_t)b * Tkv, kh * HS + first);
    float q_rmem[PER], o_rmem[PER] = {}, top = -INFINITY, sum = 0;
    int begin = attention_first(shape, b, 0);
    decode_unpack(q_rmem, *(const uint4 *)in.q.from((size_t)b, h * HS + first).at, out);

    for (int key = begin + group; key - group < Tkv; key += GROUPS * DECODE_AHEAD) {
        uint4 k_rmem[DECODE_AHEAD], v_rmem[DECODE_AHEAD];
#pragma unroll
        for (int i = 0; i < DECODE_AHEAD; i++) {
            size_t at = (size_t)min(key + i * GROUPS, Tkv - 1);
            k_rmem[i] = *(const uint4 *)k.from(at).at;
            v_rmem[i] = *(const uint4 *)v.from(at).at;
        }
#pragma unroll
        for (int i = 0; i < DECODE_AHEAD; i++) {
            float x[PER], s = 0;
            decode_unpack(x, k_rmem[i], out);
#pragma unroll
            for (int d = 0; d < PER; d++) s = fmaf(q_rmem[d], x[d], s);
#pragma unroll
            for (int d = LANES / 2; d > 0; d /= 2) s += __shfl_xor_sync(0xffffffffu, s, d);
            if (key + i * GROUPS >= Tkv) continue; // after the shuffles, in which all lanes meet
            s *= scale;
            float grown = fmaxf(top, s), shrink = exp2f(top - grown), p = exp2f(s - grown);
            top = grown;
            sum = sum * shrink + p;
            decode_unpack(x, v_rmem[i], out);
#pragma unroll
            for (int d = 0; d < PER; d++) o_rmem[d] = o_rmem[d] * shrink + p * x[d];
        }
    }
#pragma unroll
    for (int d = 0; d < PER; d++) o_smem[group][first + d] = o_rmem[d];
    if (first == 0) {
        top_smem[group] = top;
        sum_smem[group] = sum;
    }
    __syncthreads();
    if ((int)threadIdx.x >= HS) return;
    float all_top = -INFINITY, all_sum = 0, o = 0;
    for (int i = 0; i < GROUPS; i++) all_top = fmaxf(all_top, top_smem[i]);
    for (int i = 0; i < GROUPS; i++) {
        float shrink = exp2f(top_smem[i] - all_top); // 0 for a group that had no key
        all_sum += sum_smem[i] * shrink;
        o += o_smem[i][threadIdx.x] * shrink;
    }
    from_float(out + ((size_t)b * NH + h) * HS + threadIdx.x, o / all_sum);
    if (lse && threadIdx.x == 0) lse[(size_t)b * NH + h] = all_top * LN_2 + logf(all_sum);
}

// ---------------------------------------------------------------- backward

// M and WARPS: 16-row tiles of a warp and warps, always 128 rows of a block. *_STEP: rows of the passing tile that are
// in registers at once as scores. May be tuned, as long as nothing spills. A stage is the two tiles that pass by. The
// block's own two tiles move to registers before the loop, so stage 1 takes their place: 99 KB suffice for HS=128.
template <int HS> struct BackwardTile {
    enum {
        M = HS == 64 ? 2 : 1,
        WARPS = 8 / M,
        ROWS = WARPS * M * 16,
        THREADS = WARPS * 32,
        BLOCKS = HS == 64 ? 2 : 1,
        PASSING = 64,
        DQ_STEP = 32,
        DKDV_STEP = 16
    };
    enum {
        OWN = ROWS * HS * 2,
        PASSED = PASSING * HS * 2,
        NUMBERS = 2 * OWN + 2 * PASSED /* stage 0 */,
        DQ_SMEM = NUMBERS,
        DKDV_SMEM = NUMBERS + 2 * 2 * PASSING * 4
    };
    __device__ static inline int stage(int i) { return i % 2 ? 0 : 2 * OWN; }
};

// r.delta (B, NH, T) = rowsum(dO O) of the warp's rows: PIECES lanes to a row; then from lane to lane, in the layout
// that S has, beside lse log2(e). dout: the warp's rows of the tile. A barrier.
template <int HS, int M>
__device__ inline void dq_delta(float (&row_lse)[M][2], float (&row_delta)[M][2], const unsigned char *dout,
                                AttentionResults<__nv_bfloat16> r, int b, int h, int row, int T, int NH) {
    constexpr int PIECES = HS / 8;
    int lane = (int)(threadIdx.x % 32), numbers = (b * NH + h) * T; // of this head
#pragma unroll
    for (int i = 0; i < M * 16 * PIECES / 32; i++) {
        int own = (i * 32 + lane) / PIECES, piece = lane % PIECES;
        float sum = 0, x[8], y[8];
        if (row + own < T) {
            decode_unpack(x, *(const uint4 *)(r.out + ((int64_t)(b * T + row + own) * NH + h) * HS + piece * 8), r.out);
            decode_unpack(y, *(const uint4 *)(dout + tile_offset<HS>(own, piece)), r.out);
#pragma unroll
            for (int c = 0; c < 8; c++) sum = fmaf(x[c], y[c], sum);
        }
#pragma unroll
        for (int bit = PIECES / 2; bit > 0; bit /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bit);
        if (piece == 0 && row + own < T) r.delta[numbers + row + own] = sum;
    }
    __syncthreads(); // delta is written, the own tiles have been read
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int t = row + m * 16 + half * 8 + lane / 4;
            row_lse[m][half] = t < T ? r.lse[numbers + t] * LOG2_E : 0;
            row_delta[m][half] = t < T ? r.delta[numbers + t] : 0;
        }
}

// dq, and delta (B, NH, T) for the next kernel; grid: attention_sections() of B*NH; scale: log2(e) / sqrt(HS)
template <int HS, bool MASKED>
__global__ void __launch_bounds__(BackwardTile<HS>::THREADS, BackwardTile<HS>::BLOCKS)
    attention_dq_kernel(Heads<__nv_bfloat16> d, AttentionResults<__nv_bfloat16> r, Heads<__nv_bfloat16> in,
                        AttentionShape shape, float scale) {
    typedef BackwardTile<HS> Tile;
    const int T = shape.Tq, NH = shape.NH;
    constexpr int M = Tile::M, KEYS = Tile::PASSING, STEP = Tile::DQ_STEP, N = STEP / 8, THREADS = Tile::THREADS;
    extern __shared__ __align__(128) unsigned char attention_smem[];
    SmemAddress smem = smem_address(attention_smem);
    int warp = (int)(threadIdx.x / 32);
    int pair = attention_pair(), b = pair / NH, h = pair % NH, kh = h / (NH / shape.NKV);
    if (pair >= shape.B * NH) return;
    int first = (int)(gridDim.y - 1 - blockIdx.y) * Tile::ROWS, row = first + warp * M * 16;
    int begin = MASKED ? attention_first(shape, b, first) / KEYS : 0; // the first tile that any query sees a key of
    int tiles = (min(T, first + Tile::ROWS) + KEYS - 1) / KEYS - begin;
    int start = b * T, end = start + T; // rows of this batch

    tile_load<Tile::ROWS, HS, THREADS>(smem, in.q.from(0, h * HS), start + first, end);
    tile_load<Tile::ROWS, HS, THREADS>(smem + Tile::OWN, Rows<const __nv_bfloat16>{r.dout + h * HS, NH * HS},
                                       start + first, end);
    tile_load<KEYS, HS, THREADS>(smem + Tile::stage(0), in.k.from(0, kh * HS), start + begin * KEYS, end);
    tile_load<KEYS, HS, THREADS>(smem + Tile::stage(0) + Tile::PASSED, in.v.from(0, kh * HS), start + begin * KEYS,
                                 end);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    LeftOperand<HS, M, true> q_rmem, dout_rmem;
    q_rmem.open(smem + warp * M * 16 * HS * 2);
    dout_rmem.open(smem + Tile::OWN + warp * M * 16 * HS * 2);

    // 1. delta = rowsum(dO O)
    float row_lse[M][2], row_delta[M][2];
    dq_delta<HS>(row_lse, row_delta, attention_smem + Tile::OWN + warp * M * 16 * HS * 2, r, b, h, row, T, NH);

    float dq_rmem[M][HS / 8][4];
    tile_clear(dq_rmem);
    for (int tile = 0; tile < tiles; tile++) {
        SmemAddress k_smem = smem + Tile::stage(tile), v_smem = k_smem + Tile::PASSED;
        if (tile + 1 < tiles) {
            int next = start + (begin + tile + 1) * KEYS;
            tile_load<KEYS, HS, THREADS>(smem + Tile::stage(tile + 1), in.k.from(0, kh * HS), next, end);
            tile_load<KEYS, HS, THREADS>(smem + Tile::stage(tile + 1) + Tile::PASSED, in.v.from(0, kh * HS), next, end);
        }
        cp_async_commit();
#pragma unroll 1
        for (int step = 0; step < KEYS; step += STEP) {
            int key = (begin + tile) * KEYS + step;
            if (key > row + M * 16 - 1) break;
            if (MASKED && key + STEP <= attention_first_of(shape, b, row)) continue;

            // 2. S = Q K^T, dP - delta = dO V^T - delta
            float s_rmem[M][N][4], dp_rmem[M][N][4];
            tile_clear(s_rmem);
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) dp_rmem[m][n][i] = -row_delta[m][i / 2];
            tile_multiply_transposed<HS, M, N>(s_rmem, q_rmem, k_smem + step * HS * 2);
            tile_multiply_transposed<HS, M, N>(dp_rmem, dout_rmem, v_smem + step * HS * 2);

            // 3. dS = P (dP - delta)
            if (key + STEP - 1 > row) tile_mask<false>(s_rmem, row - key);
            if (MASKED && key < attention_first_of(shape, b, row + M * 16 - 1))
                tile_mask_before<false>(s_rmem, shape, b, row, key);
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        s_rmem[m][n][i] =
                            exp2_fast(fmaf(s_rmem[m][n][i], scale, -row_lse[m][i / 2])) * dp_rmem[m][n][i];

            // 4. dQ += dS K
            uint32_t ds_rmem[M][N / 2][4];
            tile_pack(ds_rmem, s_rmem);
            tile_multiply<HS, M, N>(dq_rmem, ds_rmem, k_smem + step * HS * 2);
        }
        cp_async_wait<0>();
        __syncthreads(); // the next stage is there, this one has been read by all
    }
    tile_store<HS, M>(d.q.from((size_t)b * T + row, h * HS), T - row, dq_rmem, scale * LN_2,
                      attention_smem + warp * M * 16 * HS * 2);
}

// Stage i of the next kernel: Q and dO of 64 queries, their lse and delta; zeros past T
template <int HS>
__device__ inline void queries_load(SmemAddress smem, int i, AttentionResults<__nv_bfloat16> r, Rows<__nv_bfloat16> q,
                                    int b, int h, int query, int T, int NH) {
    typedef BackwardTile<HS> Tile;
    SmemAddress stage = smem + Tile::stage(i), numbers = smem + Tile::NUMBERS + i * 2 * Tile::PASSING * 4;
    tile_load<Tile::PASSING, HS, Tile::THREADS>(stage, q.from(0, h * HS), b * T + query, (b + 1) * T);
    tile_load<Tile::PASSING, HS, Tile::THREADS>(stage + Tile::PASSED,
                                                Rows<const __nv_bfloat16>{r.dout + h * HS, NH * HS}, b * T + query,
                                                (b + 1) * T);
    if ((int)threadIdx.x < Tile::PASSING) {
        int t = query + (int)threadIdx.x;
        int at = (b * NH + h) * T + min(t, T - 1);
        cp_async_4(numbers + threadIdx.x * 4, r.lse + at, t < T);
        cp_async_4(numbers + (Tile::PASSING + threadIdx.x) * 4, r.delta + at, t < T);
    }
}

// S^T becomes P^T, dP^T - delta becomes dS^T = P^T (dP^T - delta); lse of the columns' queries
template <int M, int N>
__device__ inline void dkdv_slopes(float (&s)[M][N][4], float (&dp)[M][N][4], const float *lse, float scale) {
#pragma unroll
    for (int n = 0; n < N; n++) {
        float2 l = *(const float2 *)(lse + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float p = exp2_fast(fmaf(s[m][n][i], scale, -LOG2_E * (i % 2 ? l.y : l.x)));
                s[m][n][i] = p;
                dp[m][n][i] *= p;
            }
    }
}

// dk and dv, summed over the query heads of the group in their order; grid: attention_sections() of B*NKV;
// scale: log2(e) / sqrt(HS)
template <int HS, bool MASKED>
__global__ void __launch_bounds__(BackwardTile<HS>::THREADS, BackwardTile<HS>::BLOCKS)
    attention_dkdv_kernel(Heads<__nv_bfloat16> d, AttentionResults<__nv_bfloat16> r, Heads<__nv_bfloat16> in,
                          AttentionShape shape, float scale) {
    typedef BackwardTile<HS> Tile;
    const int T = shape.Tq, NH = shape.NH;
    constexpr int M = Tile::M, QUERIES = Tile::PASSING, STEP = Tile::DKDV_STEP, N = STEP / 8, THREADS = Tile::THREADS;
    extern __shared__ __align__(128) unsigned char attention_smem[];
    SmemAddress smem = smem_address(attention_smem);
    int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    int pair = attention_pair(), b = pair / shape.NKV, kh = pair % shape.NKV, group = NH / shape.NKV;
    if (pair >= shape.B * shape.NKV) return;
    int first = (int)blockIdx.y * Tile::ROWS, row = first + warp * M * 16; // the block's first key, the warp's

    tile_load<Tile::ROWS, HS, THREADS>(smem, in.k.from(0, kh * HS), b * T + first, (b + 1) * T);
    tile_load<Tile::ROWS, HS, THREADS>(smem + Tile::OWN, in.v.from(0, kh * HS), b * T + first, (b + 1) * T);
    queries_load<HS>(smem, 0, r, in.q, b, kh * group, first, T, NH);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    LeftOperand<HS, M, true> k_rmem, v_rmem;
    k_rmem.open(smem + warp * M * 16 * HS * 2);
    v_rmem.open(smem + Tile::OWN + warp * M * 16 * HS * 2);
    __syncthreads(); // the own tiles have been read

    float dk_rmem[M][HS / 8][4], dv_rmem[M][HS / 8][4];
    tile_clear(dk_rmem);
    tile_clear(dv_rmem);
    int h = kh * group, query = first, stage = 0; // of the stage that was loaded last
    int tiles = MASKED ? attention_query_tiles(shape, b, min(T, first + Tile::ROWS) - 1, first, QUERIES)
                       : (T - first + QUERIES - 1) / QUERIES;
    for (int left = group * tiles; left > 0; left--) {
        int tile = query;
        SmemAddress q_smem = smem + Tile::stage(stage), dout_smem = q_smem + Tile::PASSED;
        const float *numbers = (const float *)(attention_smem + Tile::NUMBERS) + stage * 2 * QUERIES; // lse, delta
        stage ^= 1;
        query += QUERIES;
        if (query >= (MASKED ? first + tiles * QUERIES : T)) {
            query = first;
            h++;
        }
        if (left > 1) queries_load<HS>(smem, stage, r, in.q, b, h, query, T, NH);
        cp_async_commit();
#pragma unroll 1
        for (int step = 0; step < QUERIES; step += STEP) {
            int first_query = tile + step;
            if (first_query + STEP - 1 < row) continue;
            if (MASKED && attention_first_of(shape, b, first_query) > row + M * 16 - 1) break;

            // 1. S^T = K Q^T, dP^T - delta = V dO^T - delta
            float s_rmem[M][N][4], dp_rmem[M][N][4];
            tile_clear(s_rmem);
#pragma unroll
            for (int n = 0; n < N; n++) {
                float2 of = *(const float2 *)(numbers + QUERIES + step + n * 8 + lane % 4 * 2);
#pragma unroll
                for (int m = 0; m < M; m++)
#pragma unroll
                    for (int i = 0; i < 4; i++) dp_rmem[m][n][i] = i % 2 ? -of.y : -of.x;
            }
            tile_multiply_transposed<HS, M, N>(s_rmem, k_rmem, q_smem + step * HS * 2);
            tile_multiply_transposed<HS, M, N>(dp_rmem, v_rmem, dout_smem + step * HS * 2);

            // 2. P^T, dS^T = P^T (dP^T - delta)
            if (first_query < row + M * 16 - 1) tile_mask<true>(s_rmem, first_query - row);
            if (MASKED && attention_first_of(shape, b, first_query + STEP - 1) > row)
                tile_mask_before<true>(s_rmem, shape, b, first_query, row);
            dkdv_slopes(s_rmem, dp_rmem, numbers + step, scale);

            // 3. dV += P^T dO, dK += dS^T Q
            uint32_t p_rmem[M][N / 2][4], ds_rmem[M][N / 2][4];
            tile_pack(p_rmem, s_rmem);
            tile_multiply<HS, M, N>(dv_rmem, p_rmem, dout_smem + step * HS * 2);
            tile_pack(ds_rmem, dp_rmem);
            tile_multiply<HS, M, N>(dk_rmem, ds_rmem, q_smem + step * HS * 2);
        }
        cp_async_wait<0>();
        __syncthreads(); // the next stage is there, this one has been read by all
    }
    tile_store<HS, M>(d.k.from((size_t)b * T + row, kh * HS), T - row, dk_rmem, scale * LN_2,
                      attention_smem + warp * M * 16 * HS * 2);
    tile_store<HS, M>(d.v.from((size_t)b * T + row, kh * HS), T - row, dv_rmem, 1,
                      attention_smem + Tile::OWN + warp * M * 16 * HS * 2);
}

// ---------------------------------------------------------------- launchers

// Shapes that no kernel can have, as our own mistakes: they end the program with the value that broke the rule.
// out: the addresses of what has rows of NH*HS, together.
template <typename Real>
static inline void attention_check(const char *name, Heads<Real> in, uintptr_t out, AttentionShape s) {
    if (s.B < 1 || s.Tq < 1 || s.Tkv < s.Tq || s.NKV < 1 || s.NH < 1 || s.NH % s.NKV != 0 || s.HS < 1 ||
        s.HS > PLAIN_MAX_HS)
        fail("%s: B=%d Tq=%d Tkv=%d NH=%d NKV=%d HS=%d: expected sizes of at least 1, Tq <= Tkv, NH divisible by NKV, "
             "HS <= %d",
             name, s.B, s.Tq, s.Tkv, s.NH, s.NKV, s.HS, PLAIN_MAX_HS);
    if (s.window < 0 || (s.starts && s.Tq != s.Tkv))
        fail("%s: window=%d Tq=%d Tkv=%d: expected a window of 0 or more, and no documents behind a cache", name,
             s.window, s.Tq, s.Tkv);
    if ((int64_t)s.B * s.NH * s.Tkv > INT32_MAX - 256 || s.B > 65535 || s.Tq > 65535 * PLAIN_TILE)
        fail("%s: B=%d NH=%d T=%d: expected B < 65536 and B*NH*T < 2^31", name, s.B, s.NH, s.Tkv);
    const Rows<Real> all[] = {in.q, in.k, in.v}; // nvcc takes no list in the loop itself
    for (const Rows<Real> &rows : all)
        if ((s.HS == 64 || s.HS == 128) && (((uintptr_t)rows.at | out) % 16 || (size_t)rows.ld * sizeof(Real) % 16))
            fail("%s: an operand at %p with rows %d apart: expected both on multiples of 16 bytes", name,
                 (const void *)rows.at, rows.ld);
}

// Numbers a lane holds of a row of HS.
static inline int plain_each(int HS) { return HS <= 32 ? 1 : HS <= 64 ? 2 : HS <= 128 ? 4 : 8; }
static inline int plain_forward_bytes(int E) { return (3 * PLAIN_TILE * (32 * E + 1) + PLAIN_TILE * PLAIN_TILE) * 4; }
static inline int plain_backward_bytes(int E) {
    return (4 * PLAIN_TILE * (32 * E + 1) + 2 * PLAIN_TILE * PLAIN_TILE) * 4;
}

// Can this GPU compute attention with heads of this size (and its gradient)? Asked before anything is allocated.
template <typename Real> static inline bool attention_fits(int HS, bool gradient, const Device *d, Error *err) {
    int E = plain_each(HS), bytes = gradient ? plain_backward_bytes(E) : plain_forward_bytes(E);
    if (HS > PLAIN_MAX_HS)
        return error_set(err,
                         "model config: a head size of %d; train_gpt computes heads of up to %d, train_gpt_cpu of "
                         "up to 512",
                         HS, PLAIN_MAX_HS);
    if (sizeof(Real) == 2 && HS == 64) bytes = BackwardTile<64>::DKDV_SMEM;
    if (sizeof(Real) == 2 && HS == 128) bytes = BackwardTile<128>::DKDV_SMEM;
    if ((size_t)bytes <= d->shared) return true;
    return error_set(err,
                     "model config: a head size of %d needs %d bytes of shared memory a thread block, and %s (compute "
                     "capability %d.%d) has %zu; take heads of up to 128, an A100, H100 or later, or train_gpt_cpu",
                     HS, bytes, d->name, d->major, d->minor, d->shared);
}

// Launches `kernel` with more shared memory than the 48 KB that need no permission.
template <typename... P, typename... A>
static inline void attention_launch(const char *name, void (*kernel)(P...), dim3 grid, int threads, int smem, Device *d,
                                    A... args) {
    cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, smem);
    if (error == cudaSuccess) {
        kernel<<<grid, dim3((unsigned)threads), (size_t)smem, d->stream>>>(args...);
        error = cudaGetLastError();
    }
    if (error != cudaSuccess)
        fail("%s: %s (grid %u x %u x %u, %d threads, %d bytes of shared memory)", name, cudaGetErrorString(error),
             grid.x, grid.y, grid.z, threads, smem);
}

static inline dim3 attention_grid(int heads, int B, int T, int rows) {
    return dim3((unsigned)heads, (unsigned)B, (unsigned)((T + rows - 1) / rows));
}

// Bytes that pass by in a section; half of an H100's L2 cache, since a section's last blocks still run when the next
// one's first do. Changed by the test alone.
static size_t attention_section_bytes = (size_t)24 << 20;

// Grid (heads of a section, tiles, sections) over `pairs` = batches * heads: blocks start in the order of x, then y,
// then z. `bytes` pass by for each of the groups of `group` heads. No division in the kernels by tiles or sections, and
// no 32-bit product of them: x < 2^31, y and z < 2^16 (65536 sections have 768 GB of K and V).
static inline dim3 attention_sections(int pairs, int group, size_t bytes, int T, int rows) {
    size_t groups = (size_t)(pairs / group), most = attention_section_bytes / bytes;
    if (most < 1) most = 1;
    size_t sections = (groups + most - 1) / most;
    return dim3((unsigned)((groups + sections - 1) / sections * (size_t)group), (unsigned)((T + rows - 1) / rows),
                (unsigned)sections);
}

template <int HS>
static inline void attention_forward_mma(__nv_bfloat16 *out, float *lse, Heads<__nv_bfloat16> in, AttentionShape s,
                                         Device *gpu) {
    typedef ForwardTile<HS> Tile;
    bool masked = s.starts || s.window;
    attention_launch("attention_forward",
                     masked ? attention_forward_kernel<HS, true> : attention_forward_kernel<HS, false>,
                     attention_sections(s.B * s.NH, s.NH / s.NKV, (size_t)s.Tkv * HS * 4, s.Tq, Tile::QUERIES),
                     Tile::THREADS, Tile::SMEM, gpu, out, lse, in, s.Tq, s.Tkv, s.NH, s.NKV, s.B * s.NH,
                     LOG2_E * attention_scale(s), s);
}

template <int HS>
static inline void attention_backward_mma(Heads<__nv_bfloat16> d, AttentionResults<__nv_bfloat16> r,
                                          Heads<__nv_bfloat16> in, AttentionShape s, Device *gpu) {
    typedef BackwardTile<HS> Tile;
    float scale = LOG2_E * attention_scale(s);
    size_t bytes = (size_t)s.Tq * HS * 4;
    bool masked = s.starts || s.window;
    attention_launch("attention_backward: dq", masked ? attention_dq_kernel<HS, true> : attention_dq_kernel<HS, false>,
                     attention_sections(s.B * s.NH, s.NH / s.NKV, bytes, s.Tq, Tile::ROWS), Tile::THREADS,
                     Tile::DQ_SMEM, gpu, d, r, in, s, scale);
    attention_launch("attention_backward: dk, dv",
                     masked ? attention_dkdv_kernel<HS, true> : attention_dkdv_kernel<HS, false>,
                     attention_sections(s.B * s.NKV, 1, bytes * (size_t)(s.NH / s.NKV), s.Tq, Tile::ROWS),
                     Tile::THREADS, Tile::DKDV_SMEM, gpu, d, r, in, s, scale);
}

template <typename Real, int HS>
static inline void attention_decode(Real *out, float *lse, Heads<Real> in, AttentionShape s, Device *gpu) {
    attention_launch("attention_forward: one query", attention_decode_kernel<Real, HS>, attention_grid(s.NH, s.B, 1, 1),
                     DECODE_THREADS, 0, gpu, out, lse, in, s, LOG2_E * attention_scale(s));
}

template <int E, typename Real>
static inline void attention_forward_plain(Real *out, float *lse, Heads<Real> in, AttentionShape s, Device *gpu) {
    int smem = plain_forward_bytes(E);
    attention_launch("attention_forward", attention_forward_plain_kernel<E, Real>,
                     attention_grid(s.NH, s.B, s.Tq, PLAIN_TILE), PLAIN_WARPS * 32, smem, gpu, out, lse, in, s,
                     attention_scale(s));
}

template <int E, typename Real>
static inline void attention_backward_plain(Heads<Real> d, AttentionResults<Real> r, Heads<Real> in, AttentionShape s,
                                            Device *gpu) {
    int smem = plain_backward_bytes(E), threads = PLAIN_WARPS * 32;
    attention_launch("attention_backward: dq", attention_dq_plain_kernel<E, Real>,
                     attention_grid(s.NH, s.B, s.Tq, PLAIN_TILE), threads, smem, gpu, d, r, in, s, attention_scale(s));
    attention_launch("attention_backward: dk, dv", attention_dkdv_plain_kernel<E, Real>,
                     attention_grid(s.NKV, s.B, s.Tq, PLAIN_TILE), threads, smem, gpu, d, r, in, s, attention_scale(s));
}

// How bf16 heads of 64 and 128 are worked at: on tensor cores; or as all others are, because that is faster or the
// numbers differ.
typedef enum { ATTENTION_TENSOR, ATTENTION_PLAIN, ATTENTION_DIFFERS, ATTENTION_WAYS } AttentionWay;
enum { ATTENTION_ROUNDS = 3, ATTENTION_ROWS = 1024 }; // of attention_choose

template <typename Real> static inline bool attention_may_choose(int HS) {
    return sizeof(Real) == 2 && (HS == 64 || HS == 128);
}

// out (B, Tq, NH*HS), lse (B, NH, Tq) or NULL: natural logarithm of the row's sum of exp(score). Query i sees keys 0
// .. Tkv-Tq+i. Batch b begins b*Tq rows behind the first of q, b*Tkv behind those of k and v. At head sizes 64 and
// 128 all must lie on multiples of 16 bytes.
template <typename Real>
static inline void attention_forward(Real *out, float *lse, Heads<Real> in, AttentionShape s, Device *gpu) {
    attention_check("attention_forward", in, (uintptr_t)out, s);
    if (s.Tq == 1 && s.HS == 64) return attention_decode<Real, 64>(out, lse, in, s, gpu);
    if (s.Tq == 1 && s.HS == 128) return attention_decode<Real, 128>(out, lse, in, s, gpu);
    if constexpr (sizeof(Real) == 2) {
        bool tensor = gpu->attention_way == ATTENTION_TENSOR;
        if (tensor && s.HS == 64) return attention_forward_mma<64>(out, lse, in, s, gpu);
        if (tensor && s.HS == 128) return attention_forward_mma<128>(out, lse, in, s, gpu);
    }
    switch (plain_each(s.HS)) {
    case 1: return attention_forward_plain<1>(out, lse, in, s, gpu);
    case 2: return attention_forward_plain<2>(out, lse, in, s, gpu);
    case 4: return attention_forward_plain<4>(out, lse, in, s, gpu);
    default: attention_forward_plain<8>(out, lse, in, s, gpu);
    }
}

// d is overwritten (its rows may be parts of one (B, T, (NH + 2 NKV)*HS)); dout and out (B, T, NH*HS), lse (B, NH, T)
// of the forward pass. Shapes as above with Tq == Tkv == T. As many sequences at a time as scratch memory holds delta
// of.
template <typename Real>
static inline void attention_backward(Heads<Real> d, const Real *dout, const Real *out, const float *lse,
                                      Heads<Real> in, AttentionShape shape, Device *gpu) {
    attention_check("attention_backward", d, (uintptr_t)out | (uintptr_t)dout, shape);
    attention_check("attention_backward", in, 0, shape);
    size_t numbers = (size_t)shape.NH * (size_t)shape.Tq, most = gpu->scratch_bytes / sizeof(float) / numbers;
    if (most < 1) fail("attention_backward: NH*T=%zu: a sequence's delta does not fit into scratch memory", numbers);
    AttentionShape s = shape;
    for (int b = 0; b < shape.B; b += s.B) {
        size_t row = (size_t)b * (size_t)s.Tq, at = row * (size_t)(s.NH * s.HS);
        s.B = (size_t)(shape.B - b) < most ? shape.B - b : (int)most;
        if (shape.starts) s.starts = shape.starts + row;
        Heads<Real> dpart = {d.q.from(row), d.k.from(row), d.v.from(row)},
                    part = {in.q.from(row), in.k.from(row), in.v.from(row)};
        AttentionResults<Real> r = {dout + at, out + at, lse + (size_t)b * numbers, gpu->scratch};
        if constexpr (sizeof(Real) == 2) {
            bool tensor = gpu->attention_way == ATTENTION_TENSOR && attention_may_choose<Real>(s.HS);
            if (tensor && s.HS == 64) attention_backward_mma<64>(dpart, r, part, s, gpu);
            if (tensor && s.HS == 128) attention_backward_mma<128>(dpart, r, part, s, gpu);
            if (tensor) continue;
        }
        switch (plain_each(s.HS)) {
        case 1: attention_backward_plain<1>(dpart, r, part, s, gpu); break;
        case 2: attention_backward_plain<2>(dpart, r, part, s, gpu); break;
        case 4: attention_backward_plain<4>(dpart, r, part, s, gpu); break;
        default: attention_backward_plain<8>(dpart, r, part, s, gpu);
        }
    }
}

// Chooses by the forward pass over the first tokens of a sequence, in which both ways must come to the same numbers.
// in: as attention_forward's, finite; out (rows, NH*HS), lse (rows NH): used up. The choice is not
// kept for a resume: a GPU's tensor cores have about ten times the rate of its other units in bf16, so that times
// choose the same at every start, which no hardware has shown yet.
template <typename Real>
static inline void attention_choose(Real *out, float *lse, Heads<Real> in, AttentionShape s, size_t rows, Device *gpu) {
    float best[2] = {0, 0};
    size_t T = (size_t)s.Tq < rows / 2 ? (size_t)s.Tq : rows / 2;
    if (T > ATTENTION_ROWS) T = ATTENTION_ROWS;
    gpu->attention_way = ATTENTION_TENSOR;
    if (!attention_may_choose<Real>(s.HS) || T < 2) return; // one query has a kernel of its own
    size_t n = T * (size_t)(s.NH * s.HS);
    s.B = 1, s.Tq = s.Tkv = (int)T;
    for (int way = ATTENTION_TENSOR; way <= ATTENTION_PLAIN; way++) {
        gpu->attention_way = way;
        attention_forward<Real>(out + n * (size_t)way, lse, in, s, gpu);
    }
    bool same = !differs(out, out + n, n, gpu);
    for (int round = 0; round < ATTENTION_ROUNDS; round++)
        for (int way = ATTENTION_TENSOR; way <= ATTENTION_PLAIN; way++) {
            gpu->attention_way = way;
            float ms = device_time(gpu, 1, [&]() { attention_forward<Real>(out, lse, in, s, gpu); });
            if (round == 0 || ms < best[way]) best[way] = ms;
        }
    gpu->attention_way = !same                                             ? ATTENTION_DIFFERS
                         : best[ATTENTION_TENSOR] <= best[ATTENTION_PLAIN] ? ATTENTION_TENSOR
                                                                           : ATTENTION_PLAIN;
}

// Appends what was chosen, where there was a choice.
template <typename Real> static inline void attention_describe(Str *s, int HS, const Device *gpu) {
    static const char *const ways[ATTENTION_WAYS] = {"on tensor cores (faster)", "without tensor cores (faster)",
                                                     "without tensor cores (their numbers differ)"};
    if (attention_may_choose<Real>(HS)) str_printf(s, ", attention %s", ways[gpu->attention_way]);
}

#endif
