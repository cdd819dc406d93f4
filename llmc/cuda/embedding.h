/*
embedding.h: brings a batch of tokens to the device; reads rows of the token table (and of the learned position
table), and adds up their gradients.

The backward pass must add the rows of dx that belong to one token in a fixed order. The host sorts
the positions of a batch by token (counting sort, O(N + V), while the GPU works on the batch before),
and one thread block for each token adds them: no atomics.
*/
#ifndef LLMC_CUDA_EMBEDDING_H
#define LLMC_CUDA_EMBEDDING_H

#include "../model.h"
#include "cuda.h"

// x (B, T, C) = wte[token] (+ wpe[position]); a thread a pack
template <typename Real>
__global__ void embedding_forward_kernel(Real *x, TokenRows tokens, const Real *wte, const Real *wpe, int C) {
    const int P = PackOf<Real>::SIZE;
    size_t packs = (size_t)((C + P - 1) / P), i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)(tokens.B * tokens.T) * packs) return;
    size_t n = i / packs;
    int c = (int)(i % packs) * P;
    bool fit = packs_fit<Real>(C);
    float v[P], p[P];
    load_pack(v, wte + (size_t)tokens.ids[n] * (size_t)C, c, C, fit);
    if (wpe) {
        int position = token_position(tokens.first, tokens.starts, tokens.T, (int)n);
        load_pack(p, wpe + (size_t)position * (size_t)C, c, C, fit);
        for (int k = 0; k < P; k++) v[k] += p[k];
    }
    store_pack(x + n * (size_t)C, v, c, C, fit);
}

// x (B, T, C) = wte[token] (+ wpe[position]); tokens on the device
template <typename Real>
static inline void embedding_forward(Real *x, TokenRows tokens, const Real *wte, const Real *wpe, int C, Device *d) {
    const int P = PackOf<Real>::SIZE;
    size_t packs = (size_t)(tokens.B * tokens.T) * (size_t)((C + P - 1) / P);
    embedding_forward_kernel<Real><<<blocks_for(packs, 256), 256, 0, d->stream>>>(x, tokens, wte, wpe, C);
    LAUNCH_CHECK();
}

// The positions of a batch, grouped by token, in order within a group. order (N), start (N + 1), token (N).
typedef struct {
    const int32_t *count; // (1): groups in use
    const int32_t *order, *start, *token;
} TokenGroups;

// Number of int32 that token_groups() writes for N tokens: count, order, start, token.
static inline size_t token_groups_size(size_t N) { return 1 + N + (N + 1) + N; }

static inline TokenGroups token_groups_at(const int32_t *base, size_t N) {
    TokenGroups g;
    g.count = base;
    g.order = base + 1;
    g.start = g.order + N;
    g.token = g.start + N + 1;
    return g;
}

// out: token_groups_size(N) numbers; tokens (N) in [0, V); counts (V): scratch, zeros before and after
static inline void token_groups(int32_t *out, const int32_t *tokens, size_t N, int32_t *counts) {
    int32_t *order = out + 1, *start = order + N, *token = start + N + 1, groups = 0, at = 0;
    for (size_t n = 0; n < N; n++)
        if (counts[tokens[n]]++ == 0) token[groups++] = tokens[n];
    for (int32_t g = 0; g < groups; g++) {
        start[g] = at;
        int32_t size = counts[token[g]];
        counts[token[g]] = at;
        at += size;
    }
    start[groups] = at;
    for (size_t n = 0; n < N; n++) order[counts[tokens[n]]++] = (int32_t)n;
    for (int32_t g = 0; g < groups; g++) counts[token[g]] = 0;
    out[0] = groups;
}

// ---------------------------------------------------------------- a batch

// Whose gradients add up to one: tokens with the same id, and with the same position. B rows of T.
typedef struct {
    TokenGroups tokens, positions; // positions: NULL where all rows are one document
    int B, T;
} EmbeddingGroups;

// The host fills one of two pinned copies while the other may still be in flight (double buffering). It goes to one of
// two places on the device on a stream of its own, while the device works at the batch before; `inputs`, which every
// launch and graph reads, gets it from there in its turn. Pointers into it depend on B T and on whether there are
// starts alone, so that a graph may keep them.
typedef struct {
    int32_t *inputs;                 // on the device: (N), and behind them targets, groups, starts, groups of positions
    const int32_t *targets, *starts; // (N); starts as in ModelBatch
    EmbeddingGroups groups;          // where they were asked for
    int32_t *staging[2], *place[2];  // pinned; on the device
    cudaEvent_t staged[2], taken[2]; // it is there; `inputs` has it
    cudaStream_t stream;
    int turn;
    size_t sent;     // numbers of the next batch that were sent already, 0: none
    int32_t *counts; // (the larger of V and N) host, for token_groups
} Batch;

static inline void batch_open(Batch *b, size_t N, int V, Device *d) {
    size_t bytes = sizeof(int32_t) * (3 * N + 2 * token_groups_size(N)), most = N > (size_t)V ? N : (size_t)V;
    memset(b, 0, sizeof *b);
    b->inputs = (int32_t *)device_alloc(d, bytes, "the batch");
    b->counts = (int32_t *)mem_alloc(sizeof(int32_t) * most);
    CUDA_CHECK(cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking));
    for (int i = 0; i < 2; i++) {
        CUDA_CHECK(cudaMallocHost((void **)&b->staging[i], bytes));
        b->place[i] = (int32_t *)device_alloc(d, bytes, "the batch");
        CUDA_CHECK(cudaEventCreateWithFlags(&b->staged[i], cudaEventDisableTiming));
        CUDA_CHECK(cudaEventCreateWithFlags(&b->taken[i], cudaEventDisableTiming));
        CUDA_CHECK(cudaEventRecord(b->taken[i], d->stream)); // zeroed
    }
}

static inline void batch_close(Batch *b) {
    cudaFree(b->inputs);
    free(b->counts);
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(b->staging[i]);
        cudaFree(b->place[i]);
        cudaEventDestroy(b->staged[i]);
        cudaEventDestroy(b->taken[i]);
    }
    cudaStreamDestroy(b->stream);
}

// Numbers of rows as they are sent: up to where their starts would stand, and of all.
static inline size_t batch_numbers(const ModelBatch *rows, bool groups, size_t *starts) {
    size_t N = (size_t)rows->B * (size_t)rows->T, each = token_groups_size(N);
    *starts = 2 * N + each;
    if (rows->starts) return *starts + N + (groups ? each : 0);
    return groups ? *starts : 2 * N;
}

// Starts to send rows to the device, for the pass that comes; targets may be NULL, groups are sent where gradients will
// be wanted.
static inline void batch_send(Batch *b, const ModelBatch *rows, bool groups, Device *d) {
    size_t N = (size_t)rows->B * (size_t)rows->T, starts;
    int32_t *to = b->staging[b->turn];
    device_wait(d, b->staged[b->turn]); // of the batch before the last one: long there, if no rank is late
    b->sent = batch_numbers(rows, groups, &starts);
    memcpy(to, rows->inputs, sizeof(int32_t) * N);
    if (rows->targets) memcpy(to + N, rows->targets, sizeof(int32_t) * N);
    else memset(to + N, 0, sizeof(int32_t) * N);
    if (groups) token_groups(to + 2 * N, rows->inputs, N, b->counts);
    for (size_t n = 0; rows->starts && n < N; n++)
        to[starts + n] = token_position(0, rows->starts, rows->T, (int)n); // what is grouped; then come the starts
    if (rows->starts && groups) token_groups(to + starts + N, to + starts, N, b->counts);
    if (rows->starts) memcpy(to + starts, rows->starts, sizeof(int32_t) * N);
    CUDA_CHECK(cudaStreamWaitEvent(b->stream, b->taken[b->turn], 0));
    CUDA_CHECK(cudaMemcpyAsync(b->place[b->turn], to, sizeof(int32_t) * b->sent, cudaMemcpyHostToDevice, b->stream));
    CUDA_CHECK(cudaEventRecord(b->staged[b->turn], b->stream));
}

// The same for a pass that is put on the stream after this; what was sent before and is another batch is sent anew.
static inline void batch_upload(Batch *b, const ModelBatch *rows, bool groups, Device *d) {
    size_t N = (size_t)rows->B * (size_t)rows->T, bytes = sizeof(int32_t) * N, starts;
    const int32_t *have = b->staging[b->turn];
    bool sent = b->sent == batch_numbers(rows, groups, &starts) && rows->targets &&
                memcmp(have, rows->inputs, bytes) == 0 && memcmp(have + N, rows->targets, bytes) == 0 &&
                (!rows->starts || memcmp(have + starts, rows->starts, bytes) == 0);
    if (!sent) batch_send(b, rows, groups, d);
    b->targets = b->inputs + N;
    b->starts = rows->starts ? b->inputs + starts : NULL;
    memset(&b->groups, 0, sizeof b->groups);
    b->groups.tokens = token_groups_at(b->inputs + 2 * N, N);
    if (rows->starts) b->groups.positions = token_groups_at(b->inputs + starts + N, N);
    b->groups.B = rows->B, b->groups.T = rows->T;
    CUDA_CHECK(cudaStreamWaitEvent(d->stream, b->staged[b->turn], 0));
    CUDA_CHECK(
        cudaMemcpyAsync(b->inputs, b->place[b->turn], sizeof(int32_t) * b->sent, cudaMemcpyDeviceToDevice, d->stream));
    CUDA_CHECK(cudaEventRecord(b->taken[b->turn], d->stream));
    b->turn ^= 1;
    b->sent = 0;
}

// ---------------------------------------------------------------- backward

// dwte: of ids, or of positions. A thread block (32, 8) a group and 32 packs of columns: warp y adds the group's rows
// y, y + 8, ..., then the eight sums are added one after the other.
template <typename Real>
__global__ void embedding_backward_kernel(float *dwte, const Real *dx, TokenGroups groups, int C) {
    const int P = PackOf<Real>::SIZE;
    __shared__ float sums[8][32 * P + 4];
    int g = (int)blockIdx.x, c = ((int)blockIdx.y * 32 + (int)threadIdx.x) * P;
    if (g >= *groups.count) return;
    int start = groups.start[g], end = groups.start[g + 1];
    bool fit = packs_fit<Real>(C);
    float sum[P], v[P];
    for (int i = 0; i < P; i++) sum[i] = 0;
    if (c < C)
        for (int r = start + (int)threadIdx.y; r < end; r += 8) {
            load_pack(v, dx + (size_t)groups.order[r] * (size_t)C, c, C, fit);
            for (int i = 0; i < P; i++) sum[i] += v[i];
        }
    for (int i = 0; i < P; i++) sums[threadIdx.y][(int)threadIdx.x * P + i] = sum[i];
    __syncthreads();
    if (threadIdx.y || c >= C) return;
    float *to = dwte + (size_t)groups.token[g] * (size_t)C;
    load_pack(v, to, c, C, fit);
    for (int y = 0; y < 8 && y < end - start; y++)
        for (int i = 0; i < P; i++) v[i] += sums[y][(int)threadIdx.x * P + i];
    store_pack(to, v, c, C, fit);
}

// dwpe (T, C) += the sum over the batch of dx (B, T, C)
template <typename Real> __global__ void position_backward_kernel(float *dwpe, const Real *dx, int B, int T, int C) {
    const int P = PackOf<Real>::SIZE;
    size_t packs = (size_t)((C + P - 1) / P), i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i / packs >= (size_t)T) return;
    int t = (int)(i / packs), c = (int)(i % packs) * P;
    bool fit = packs_fit<Real>(C);
    float sum[P], v[P];
    load_pack(sum, dwpe + (size_t)t * (size_t)C, c, C, fit);
    for (int b = 0; b < B; b++) {
        load_pack(v, dx + ((size_t)b * (size_t)T + (size_t)t) * (size_t)C, c, C, fit);
        for (int k = 0; k < P; k++) sum[k] += v[k];
    }
    store_pack(dwpe + (size_t)t * (size_t)C, sum, c, C, fit);
}

// dwte (V, C) +=, dwpe (T, C) += (NULL: not wanted) from dx (B, T, C); groups on the device
template <typename Real>
static inline void embedding_backward(float *dwte, float *dwpe, const Real *dx, EmbeddingGroups groups, int C, int V,
                                      Device *d) {
    const int P = PackOf<Real>::SIZE;
    int B = groups.B, T = groups.T, N = B * T, most = N < V ? N : V,
        columns = (C + 32 * P - 1) / (32 * P); // most: the count itself is on the device
    if (dwte)
        embedding_backward_kernel<Real>
            <<<dim3((unsigned)most, (unsigned)columns), dim3(32, 8), 0, d->stream>>>(dwte, dx, groups.tokens, C);
    LAUNCH_CHECK();
    if (dwpe && groups.positions.count)
        embedding_backward_kernel<Real>
            <<<dim3((unsigned)T, (unsigned)columns), dim3(32, 8), 0, d->stream>>>(dwpe, dx, groups.positions, C);
    LAUNCH_CHECK();
    if (!dwpe || groups.positions.count) return;
    position_backward_kernel<Real>
        <<<blocks_for((size_t)T * (size_t)((C + P - 1) / P), 128), 128, 0, d->stream>>>(dwpe, dx, B, T, C);
    LAUNCH_CHECK();
}

#endif
