/* batch.h: a batch of tokens on its way to the device: tokens (N), targets (N) and, for the backward pass, the
tokens' groups (embedding.h). The host fills one of two pinned copies while the other may still be on its way (double
buffering).
*/
#ifndef LLMC_CUDA_BATCH_H
#define LLMC_CUDA_BATCH_H

#include "embedding.h"

typedef struct {
    int32_t *inputs; // on the device: tokens (N), targets (N), token groups
    int32_t *staging[2];
    cudaEvent_t staged[2];
    int turn;
    int32_t *counts; // (V) host, for token_groups
} Batch;

static inline void batch_open(Batch *b, size_t N, int V, Device *d) {
    size_t bytes = sizeof(int32_t) * (2 * N + token_groups_size(N));
    memset(b, 0, sizeof *b);
    b->inputs = (int32_t *)device_alloc(d, bytes, "the batch");
    b->counts = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)V);
    for (int i = 0; i < 2; i++) {
        CUDA_CHECK(cudaMallocHost((void **)&b->staging[i], bytes));
        CUDA_CHECK(cudaEventCreateWithFlags(&b->staged[i], cudaEventDisableTiming));
    }
}

static inline void batch_close(Batch *b) {
    cudaFree(b->inputs);
    free(b->counts);
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(b->staging[i]);
        cudaEventDestroy(b->staged[i]);
    }
}

// Sends N tokens to the device; targets may be NULL, groups are sent where gradients will be wanted.
static inline void batch_upload(Batch *b, const int32_t *inputs, const int32_t *targets, size_t N, bool groups,
                                Device *d) {
    size_t count = 2 * N + (groups ? token_groups_size(N) : 0);
    int32_t *to = b->staging[b->turn];
    device_wait(d, b->staged[b->turn]); // of the upload before the last one: long done, if no rank is late
    memcpy(to, inputs, sizeof(int32_t) * N);
    if (targets) memcpy(to + N, targets, sizeof(int32_t) * N);
    else memset(to + N, 0, sizeof(int32_t) * N);
    if (groups) token_groups(to + 2 * N, inputs, N, b->counts);
    CUDA_CHECK(cudaMemcpyAsync(b->inputs, to, sizeof(int32_t) * count, cudaMemcpyHostToDevice, d->stream));
    CUDA_CHECK(cudaEventRecord(b->staged[b->turn], d->stream));
    b->turn ^= 1;
}

#endif
