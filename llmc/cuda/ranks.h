/*
ranks.h: sums over the ranks of a job, on device memory. One rank has one GPU.

Without NCCL the sums go through host memory and dist.h: right everywhere, slow. Every way adds in a
fixed pattern, so the ranks hold the same bits.
*/
#ifndef LLMC_CUDA_RANKS_H
#define LLMC_CUDA_RANKS_H

#include "../dist.h"
#include "cuda.h"

typedef struct {
    const Dist *dist;
} Ranks;

static inline void ranks_open(Ranks *r, const Dist *dist) { r->dist = dist; }
static inline void ranks_close(Ranks *r) { r->dist = NULL; }

// Can the sums be part of a captured graph?
static inline bool ranks_capturable(const Ranks *r) { return r->dist->size == 1; }

// g (n) on the device becomes its sum over the ranks.
static inline void ranks_sum_gradients(Ranks *r, float *g, size_t n, cudaStream_t stream) {
    if (r->dist->size == 1 || n == 0) return;
    float *host = (float *)mem_alloc(sizeof(float) * n);
    CUDA_CHECK(cudaMemcpyAsync(host, g, sizeof(float) * n, cudaMemcpyDeviceToHost, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    dist_sum_gradients(r->dist, host, n, sizeof(float));
    CUDA_CHECK(cudaMemcpyAsync(g, host, sizeof(float) * n, cudaMemcpyHostToDevice, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    free(host);
}

// Work put on the stream after this sees all sums.
static inline void ranks_join(Ranks *r, cudaStream_t stream) {
    (void)r;
    (void)stream;
}

static inline void ranks_sum_loss(Ranks *r, double *loss, cudaStream_t stream) {
    if (r->dist->size == 1) return;
    double host = 0;
    CUDA_CHECK(cudaMemcpyAsync(&host, loss, sizeof host, cudaMemcpyDeviceToHost, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    dist_sum(r->dist, &host, 1);
    CUDA_CHECK(cudaMemcpyAsync(loss, &host, sizeof host, cudaMemcpyHostToDevice, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
}

#endif
