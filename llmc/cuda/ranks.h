/*
ranks.h: the ranks of a job, one GPU each: who keeps what, and the collectives on device memory.

What ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054) leaves out is chosen by --zero:
    0  every rank keeps everything; gradients are summed
    1  the optimizer's state (master weights, moments) is sharded; each rank updates its part
    2  and gradients: those of a segment live only until they are summed
    3  and weights: those of a segment live only while it computes
With --zero_group=G things are sharded over G neighbouring ranks (the GPUs of a node) and kept
once in each such group (hybrid sharding, Zhao et al. 2023, arXiv:2304.11277): sums go through the
group first, and then, G times smaller, across the groups.

Which part of a segment each member owns stands in shards.h.

A step moves, from and to each rank and with n weights: gradients (G-1)/G n floats in the group and 2 (R/G - 1) /
(R/G) n/G across groups; weights (G-1)/G n numbers, with ZeRO-3 twice in every micro-batch. With ZeRO-2 and -3
gradients go through the group after every micro-batch, since no rank keeps them whole.

All collectives run on one stream beside the model's (they overlap its work), in the order of the calls, so that no
two of them can wait for each other: NCCL's guide ("Using multiple NCCL communicators concurrently") asks for this where
there are several communicators, as here three, and a captured graph keeps the order as a chain. Gathers with nothing
between them are one group, which NCCL starts at once. NCCL adds in an order that follows from ranks, machines and
sizes, not from time: two runs have the same bits. Two things would change that order, and are switched off unless the
environment says otherwise: sums inside the switch (NVLS; NCCL issue 1497: they differ between calls), and buffers
registered with a graph (NCCL_GRAPH_REGISTER), with which a captured pass may use fewer channels than the direct
pass before it.

Built without NCCL there is one rank.
*/
#ifndef LLMC_CUDA_RANKS_H
#define LLMC_CUDA_RANKS_H

#include "../ranks/dist.h"
#include "../model.h"
#include "cuda.h"

#ifdef USE_NCCL
#include <nccl.h>
#if NCCL_VERSION_CODE < 21800
#error "NCCL 2.18 or later is needed (ncclCommSplit); build with NCCL=0 for one GPU"
#endif
#endif

typedef struct {
    const Dist *dist;
    int zero;   // 0 to 3; 0 where a group has one member
    int group;  // G
    int member; // s, this rank's place in its group
    bool quiet; // collectives do nothing: while products are timed
    bool open;  // there is work on the collectives' stream that the model's has not waited for
#ifdef USE_NCCL
    ncclComm_t all, inside, across; // all ranks; those of this group; those of this place in every group
    cudaStream_t stream;
    cudaEvent_t there, back;
#endif
} Ranks;

// Checks and settles who shares what with whom.
static inline bool ranks_plan(Ranks *r, const Dist *dist, int zero, int zero_group, Error *err) {
    memset(r, 0, sizeof *r);
    r->dist = dist;
    if (zero_group > dist->size || (zero_group && dist->size % zero_group))
        return error_set(err, "--zero_group=%d does not divide the %d ranks; 0 makes them one group", zero_group,
                         dist->size);
    r->group = zero == 0 ? 1 : zero_group ? zero_group : dist->size;
    r->zero = r->group == 1 ? 0 : zero;
    r->member = dist->rank % r->group;
#ifndef USE_NCCL
    if (dist->size > 1)
        return error_set(err,
                         "%d ranks, but this train_gpt was built without NCCL: build it where nccl.h is, or start one "
                         "rank",
                         dist->size);
#endif
    return true;
}

#ifdef USE_NCCL

static inline void nccl_check(ncclResult_t status, const char *expression, const char *file, int line) {
    if (status != ncclSuccess) fail("%s:%d: %s: %s", file, line, expression, ncclGetErrorString(status));
}
#define NCCL_CHECK(expression) nccl_check(expression, #expression, __FILE__, __LINE__)

static inline void ranks_open(Ranks *r) {
    int rank = r->dist->rank, size = r->dist->size;
    if (size == 1) return;
    ncclUniqueId id;
    setenv("NCCL_NVLS_ENABLE", "0", 0);
    setenv("NCCL_GRAPH_REGISTER", "0", 0);
    watchdog_enter(r->dist->watchdog, "the other ranks' connections (ncclCommInitRank)");
    if (rank == 0) NCCL_CHECK(ncclGetUniqueId(&id));
    dist_broadcast(r->dist, &id, sizeof id);
    NCCL_CHECK(ncclCommInitRank(&r->all, size, id, rank));
    NCCL_CHECK(ncclCommSplit(r->all, rank / r->group, rank, &r->inside, NULL));
    NCCL_CHECK(ncclCommSplit(r->all, r->member, rank, &r->across, NULL));
    watchdog_leave(r->dist->watchdog);
    // A collective must not wait behind the blocks of a matrix product that fills the device.
    int low, high;
    CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&low, &high));
    CUDA_CHECK(cudaStreamCreateWithPriority(&r->stream, cudaStreamNonBlocking, high));
    CUDA_CHECK(cudaEventCreateWithFlags(&r->there, cudaEventDisableTiming));
    CUDA_CHECK(cudaEventCreateWithFlags(&r->back, cudaEventDisableTiming));
}

static inline void ranks_close(Ranks *r) {
    if (r->dist->size == 1 || !r->all) return;
    ncclCommDestroy(r->inside);
    ncclCommDestroy(r->across);
    ncclCommDestroy(r->all);
    cudaStreamDestroy(r->stream);
    cudaEventDestroy(r->there);
    cudaEventDestroy(r->back);
}

// Collectives put in after this see all work that is on the model's stream now.
static inline void ranks_fork(Ranks *r, cudaStream_t stream) {
    if (r->dist->size == 1 || r->quiet) return;
    CUDA_CHECK(cudaEventRecord(r->there, stream));
    CUDA_CHECK(cudaStreamWaitEvent(r->stream, r->there, 0));
    r->open = true;
}

// Work put on the model's stream after this sees all collectives until now.
static inline void ranks_join(Ranks *r, cudaStream_t stream) {
    if (!r->open) return;
    CUDA_CHECK(cudaEventRecord(r->back, r->stream));
    CUDA_CHECK(cudaStreamWaitEvent(stream, r->back, 0));
    r->open = false;
}

// The stream that collectives run on; the model's where there are none.
static inline cudaStream_t ranks_stream(const Ranks *r, cudaStream_t stream) {
    return r->dist->size > 1 ? r->stream : stream;
}

// Are all members' parts (G) of a segment equally long?
static inline bool ranks_even(const Ranks *r, const Range *parts) {
    for (int member = 1; member < r->group; member++)
        if (parts[member].count != parts[0].count || parts[member].first != parts[0].count * (size_t)member)
            return false;
    return true;
}

// Reduce-scatter: this rank's part of a segment's gradients becomes its sum over the group; the rest is used up.
static inline void ranks_sum_inside(Ranks *r, float *g, const Range *parts) {
    if (r->group == 1 || r->quiet) return;
    if (ranks_even(r, parts)) {
        NCCL_CHECK(ncclReduceScatter(g, g + parts[r->member].first, parts[0].count, ncclFloat32, ncclSum, r->inside,
                                     r->stream));
        return;
    }
    NCCL_CHECK(ncclGroupStart());
    for (int member = 0; member < r->group; member++) {
        float *part = g + parts[member].first;
        if (parts[member].count)
            NCCL_CHECK(ncclReduce(part, part, parts[member].count, ncclFloat32, ncclSum, member, r->inside, r->stream));
    }
    NCCL_CHECK(ncclGroupEnd());
}

// All-reduce: own gradients (n) become their sum over the groups.
static inline void ranks_sum_across(Ranks *r, float *own, size_t n) {
    if (r->group == r->dist->size || r->quiet) return;
    NCCL_CHECK(ncclAllReduce(own, own, n, ncclFloat32, ncclSum, r->across, r->stream));
}

// All-gather: a segment's parts (numbers of `size` bytes) from their owners; own may be this rank's part of whole.
static inline void ranks_gather(Ranks *r, void *whole, const void *own, const Range *parts, size_t size) {
    if (r->group == 1 || r->quiet) return;
    if (ranks_even(r, parts)) {
        NCCL_CHECK(ncclAllGather(own, whole, size * parts[0].count, ncclUint8, r->inside, r->stream));
        return;
    }
    NCCL_CHECK(ncclGroupStart());
    for (int member = 0; member < r->group; member++) {
        char *part = (char *)whole + size * parts[member].first;
        if (parts[member].count)
            NCCL_CHECK(ncclBroadcast(member == r->member ? own : part, part, size * parts[member].count, ncclUint8,
                                     member, r->inside, r->stream));
    }
    NCCL_CHECK(ncclGroupEnd());
}

// Collectives between the two calls are one launch. Nothing else may be put on the stream between them.
static inline void ranks_group(Ranks *r, bool begins) {
    if (r->group == 1 || r->quiet) return;
    if (begins) NCCL_CHECK(ncclGroupStart());
    else NCCL_CHECK(ncclGroupEnd());
}

// sums (R, 2): this rank's pair becomes known to all. They are added by each, in the order of the ranks.
static inline void ranks_gather_sums(Ranks *r, double *sums, int n) {
    if (r->dist->size == 1 || r->quiet) return;
    const double *own = sums + (size_t)r->dist->rank * (size_t)n;
    NCCL_CHECK(ncclAllGather(own, sums, (size_t)n, ncclFloat64, r->all, r->stream));
}

// Rank 0's bytes on every rank.
static inline void ranks_broadcast(Ranks *r, void *values, size_t bytes) {
    if (r->dist->size > 1 && !r->quiet)
        NCCL_CHECK(ncclBroadcast(values, values, bytes, ncclUint8, 0, r->all, r->stream));
}

// Bytes of the group's member `from` come to its member `to`, into `place`; both call it.
static inline void ranks_hand_over(Ranks *r, void *place, const void *values, size_t bytes, int from, int to) {
    if (r->member == from) NCCL_CHECK(ncclSend(values, bytes, ncclUint8, to, r->inside, r->stream));
    else NCCL_CHECK(ncclRecv(place, bytes, ncclUint8, from, r->inside, r->stream));
}

#else

static inline void ranks_open(Ranks *r) { (void)r; }
static inline void ranks_close(Ranks *r) { (void)r; }
static inline void ranks_fork(Ranks *r, cudaStream_t stream) { (void)r, (void)stream; }
static inline void ranks_join(Ranks *r, cudaStream_t stream) { (void)r, (void)stream; }
static inline cudaStream_t ranks_stream(const Ranks *r, cudaStream_t stream) { return (void)r, stream; }
static inline void ranks_sum_inside(Ranks *r, float *g, const Range *parts) { (void)r, (void)g, (void)parts; }
static inline void ranks_sum_across(Ranks *r, float *own, size_t n) { (void)r, (void)own, (void)n; }
static inline void ranks_gather(Ranks *r, void *whole, const void *own, const Range *parts, size_t size) {
    (void)r, (void)whole, (void)own, (void)parts, (void)size;
}
static inline void ranks_group(Ranks *r, bool begins) { (void)r, (void)begins; }
static inline void ranks_gather_sums(Ranks *r, double *sums, int n) { (void)r, (void)sums, (void)n; }
static inline void ranks_broadcast(Ranks *r, void *values, size_t bytes) { (void)r, (void)values, (void)bytes; }
static inline void ranks_hand_over(Ranks *r, void *place, const void *values, size_t bytes, int from, int to) {
    (void)r, (void)place, (void)values, (void)bytes, (void)from, (void)to;
}

#endif
#endif
