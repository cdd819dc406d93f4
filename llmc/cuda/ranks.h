/*
ranks.h: sums over the ranks of a job, on device memory. One rank has one GPU.

With -DUSE_NCCL (which needs -DUSE_MPI: MPI hands out NCCL's id) sums of gradients run on a stream of
their own beside the backward pass, and can be captured in its graph. Without it they go through host
memory and dist.h: right everywhere, slow. Both add in a fixed pattern, so that the ranks hold the same
bits and so do two runs on the same machines.
*/
#ifndef LLMC_CUDA_RANKS_H
#define LLMC_CUDA_RANKS_H

#include "../dist.h"
#include "cuda.h"

#ifdef USE_NCCL
#ifndef USE_MPI
#error "-DUSE_NCCL needs -DUSE_MPI: NCCL's id is handed out over MPI"
#endif
#include <nccl.h>
#endif

typedef struct {
    const Dist *dist;
#ifdef USE_NCCL
    ncclComm_t comm;
    cudaStream_t stream; // sums run here, beside the model's stream
    cudaEvent_t ready, done;
#endif
} Ranks;

#ifdef USE_NCCL

static inline void nccl_check(ncclResult_t status, const char *expression, const char *file, int line) {
    if (status != ncclSuccess) fail("%s:%d: %s: %s", file, line, expression, ncclGetErrorString(status));
}
#define NCCL_CHECK(expression) nccl_check(expression, #expression, __FILE__, __LINE__)

static inline void ranks_open(Ranks *r, const Dist *dist) {
    r->dist = dist;
    if (dist->size == 1) return;
    ncclUniqueId id;
    if (dist->rank == 0) NCCL_CHECK(ncclGetUniqueId(&id));
    MPI_Bcast(&id, (int)sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    NCCL_CHECK(ncclCommInitRank(&r->comm, dist->size, id, dist->rank));
    CUDA_CHECK(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&r->ready, cudaEventDisableTiming));
    CUDA_CHECK(cudaEventCreateWithFlags(&r->done, cudaEventDisableTiming));
}

static inline void ranks_close(Ranks *r) {
    if (r->dist->size == 1) return;
    ncclCommDestroy(r->comm);
    cudaStreamDestroy(r->stream);
    cudaEventDestroy(r->ready);
    cudaEventDestroy(r->done);
}

// Can the sums be part of a captured graph?
static inline bool ranks_capturable(const Ranks *r) { return r != NULL; }

// g (n) on the device becomes its sum over the ranks, some time before ranks_join(). What was put on
// `stream` until now is waited for; nothing put on it later may touch g before ranks_join().
static inline void ranks_sum_gradients(Ranks *r, float *g, size_t n, cudaStream_t stream) {
    if (r->dist->size == 1 || n == 0) return;
    CUDA_CHECK(cudaEventRecord(r->ready, stream));
    CUDA_CHECK(cudaStreamWaitEvent(r->stream, r->ready, 0));
    NCCL_CHECK(ncclAllReduce(g, g, n, ncclFloat32, ncclSum, r->comm, r->stream));
}

// Work put on the stream after this sees all sums.
static inline void ranks_join(Ranks *r, cudaStream_t stream) {
    if (r->dist->size == 1) return;
    CUDA_CHECK(cudaEventRecord(r->done, r->stream));
    CUDA_CHECK(cudaStreamWaitEvent(stream, r->done, 0));
}

// *loss on the device becomes its sum over the ranks.
static inline void ranks_sum_loss(Ranks *r, double *loss, cudaStream_t stream) {
    if (r->dist->size > 1) NCCL_CHECK(ncclAllReduce(loss, loss, 1, ncclFloat64, ncclSum, r->comm, stream));
}

#else

static inline void ranks_open(Ranks *r, const Dist *dist) { r->dist = dist; }
static inline void ranks_close(Ranks *r) { r->dist = NULL; }
static inline bool ranks_capturable(const Ranks *r) { return r->dist->size == 1; }

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
#endif
