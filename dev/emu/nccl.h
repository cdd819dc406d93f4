/*
nccl.h (emulator): the NCCL calls of llmc/cuda/ranks.h as MPI calls, in the order of their stream.

Sums are taken in the order of the ranks, one element after the other. As with NCCL, calls of one
communicator must come in the same order on all its ranks; here the same holds for all of them
together, since a call keeps the whole rank busy until the others have come. Calls of two communicators that may run at
once are refused (streams.h).

CUDA_EMU_BYTES=1 prints, when the first communicator of all ranks is destroyed, how many bytes rank 0 sent
in each kind of call, as a ring would send them.
*/
#ifndef EMU_NCCL_H
#define EMU_NCCL_H

#include "cuda_runtime.h"
#include <climits>
#include <mpi.h>

#define NCCL_VERSION_CODE 21800

typedef enum { ncclSuccess = 0, ncclInvalidArgument = 4, ncclInvalidUsage = 5 } ncclResult_t;
typedef enum { ncclUint8, ncclFloat32, ncclFloat64 } ncclDataType_t;
typedef enum { ncclSum } ncclRedOp_t;
struct EmuComm {
    MPI_Comm mpi;
    int rank, size;
};
typedef EmuComm *ncclComm_t;
typedef struct ncclConfig ncclConfig_t;
typedef struct {
    char internal[128];
} ncclUniqueId;

enum { EMU_ALL_REDUCE, EMU_REDUCE_SCATTER, EMU_ALL_GATHER, EMU_SEND, EMU_CALLS };
inline double emu_sent[EMU_CALLS];
inline bool emu_bytes_printed;

static inline void emu_mpi(int status, const char *call) {
    if (status == MPI_SUCCESS) return;
    fprintf(stderr, "error: emulator: %s fails\n", call);
    abort();
}
static inline size_t emu_nccl_size(ncclDataType_t t) { return t == ncclUint8 ? 1 : t == ncclFloat32 ? 4 : 8; }
static inline int emu_count(size_t n) {
    if (n <= INT_MAX) return (int)n;
    fprintf(stderr, "error: emulator: %zu bytes are more than an MPI call takes\n", n);
    abort();
}

static inline const char *ncclGetErrorString(ncclResult_t r) {
    return r == ncclSuccess ? "no error" : r == ncclInvalidUsage ? "invalid usage" : "invalid argument";
}
static inline ncclResult_t ncclGetVersion(int *v) { return *v = 0, ncclSuccess; }
static inline ncclResult_t ncclGetUniqueId(ncclUniqueId *id) { return memset(id, 7, sizeof *id), ncclSuccess; }
static inline ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank) {
    EmuComm c;
    int joined = 0;
    MPI_Initialized(&joined);
    if (!joined) MPI_Init(nullptr, nullptr); // the ranks found each other without MPI
    c.mpi = MPI_COMM_WORLD;
    MPI_Comm_rank(c.mpi, &c.rank);
    MPI_Comm_size(c.mpi, &c.size);
    if (id.internal[127] != 7 || c.size != size || c.rank != rank)
        return ncclInvalidArgument; // the id must have come from rank 0
    MPI_Comm_dup(MPI_COMM_WORLD, &c.mpi);
    *comm = new EmuComm(c);
    return ncclSuccess;
}
static inline ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *part, ncclConfig_t *) {
    EmuComm c;
    MPI_Comm_split(comm->mpi, color, key, &c.mpi);
    MPI_Comm_rank(c.mpi, &c.rank);
    MPI_Comm_size(c.mpi, &c.size);
    *part = new EmuComm(c);
    return ncclSuccess;
}
static inline ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    int size, rank;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (getenv("CUDA_EMU_BYTES") && rank == 0 && comm->size == size && !emu_bytes_printed) {
        emu_bytes_printed = true;
        printf("bytes sent: all-reduce %.0f, reduce-scatter %.0f, all-gather %.0f, send %.0f\n", emu_sent[0],
               emu_sent[1], emu_sent[2], emu_sent[3]);
    }
    emu_streams.last_collective.erase(comm);
    MPI_Comm_free(&comm->mpi);
    return delete comm, ncclSuccess;
}

// What stands between GroupStart and GroupEnd is put into its stream at the end: nothing may count on it before.
inline int emu_group_depth;
inline std::vector<std::pair<cudaStream_t, std::function<void()>>> emu_group;
static inline ncclResult_t ncclGroupStart(void) { return emu_group_depth++, ncclSuccess; }
static inline ncclResult_t ncclGroupEnd(void) {
    if (emu_group_depth < 1) return ncclInvalidUsage;
    if (--emu_group_depth > 0) return ncclSuccess;
    for (auto &call : emu_group) emu_submit(call.first, std::move(call.second));
    return emu_group.clear(), ncclSuccess;
}
static inline void emu_nccl_submit(cudaStream_t stream, std::function<void()> work) {
    if (emu_group_depth) emu_group.emplace_back(stream, std::move(work));
    else emu_submit(stream, std::move(work));
}

// out (n) = the sum over the ranks of elements [first, first + n) of `in`
template <typename T>
static inline void emu_sum(T *out, const T *in, size_t first, size_t n, size_t whole, const EmuComm &c) {
    std::vector<T> all(whole * (size_t)c.size);
    emu_mpi(MPI_Allgather(in, emu_count(whole * sizeof(T)), MPI_BYTE, all.data(), (int)(whole * sizeof(T)), MPI_BYTE,
                          c.mpi),
            "MPI_Allgather");
    for (size_t i = 0; i < n; i++) {
        T sum = all[first + i];
        for (size_t r = 1; r < (size_t)c.size; r++) sum += all[r * whole + first + i];
        out[i] = sum;
    }
}
static inline ncclResult_t ncclAllReduce(const void *in, void *out, size_t n, ncclDataType_t type, ncclRedOp_t,
                                         ncclComm_t comm, cudaStream_t stream) {
    EmuComm c = *comm;
    emu_collective(stream, comm);
    if (type == ncclUint8) return ncclInvalidArgument;
    emu_nccl_submit(stream, [=]() {
        if (type == ncclFloat32) emu_sum((float *)out, (const float *)in, 0, n, n, c);
        else emu_sum((double *)out, (const double *)in, 0, n, n, c);
        emu_sent[EMU_ALL_REDUCE] += 2.0 * (double)(n * emu_nccl_size(type)) * (c.size - 1) / c.size;
    });
    return ncclSuccess;
}
static inline ncclResult_t ncclReduceScatter(const void *in, void *out, size_t n, ncclDataType_t type, ncclRedOp_t,
                                             ncclComm_t comm, cudaStream_t stream) {
    EmuComm c = *comm;
    emu_collective(stream, comm);
    if (type == ncclUint8) return ncclInvalidArgument;
    emu_nccl_submit(stream, [=]() {
        size_t first = n * (size_t)c.rank, whole = n * (size_t)c.size;
        if (type == ncclFloat32) emu_sum((float *)out, (const float *)in, first, n, whole, c);
        else emu_sum((double *)out, (const double *)in, first, n, whole, c);
        emu_sent[EMU_REDUCE_SCATTER] += (double)(n * emu_nccl_size(type)) * (c.size - 1);
    });
    return ncclSuccess;
}
static inline ncclResult_t ncclReduce(const void *in, void *out, size_t n, ncclDataType_t type, ncclRedOp_t, int root,
                                      ncclComm_t comm, cudaStream_t stream) {
    EmuComm c = *comm;
    emu_collective(stream, comm);
    if (type != ncclFloat32) return ncclInvalidArgument;
    emu_nccl_submit(stream, [=]() {
        emu_sum((float *)out, (const float *)in, 0, c.rank == root ? n : 0, n, c);
        emu_sent[EMU_REDUCE_SCATTER] += (double)(n * emu_nccl_size(type)) * (c.rank != root);
    });
    return ncclSuccess;
}
static inline ncclResult_t ncclAllGather(const void *in, void *out, size_t n, ncclDataType_t type, ncclComm_t comm,
                                         cudaStream_t stream) {
    EmuComm c = *comm;
    emu_collective(stream, comm);
    emu_nccl_submit(stream, [=]() {
        size_t bytes = n * emu_nccl_size(type);
        std::vector<char> own((const char *)in, (const char *)in + bytes); // `in` may lie in `out`
        emu_mpi(MPI_Allgather(own.data(), emu_count(bytes), MPI_BYTE, out, (int)bytes, MPI_BYTE, c.mpi),
                "MPI_Allgather");
        emu_sent[EMU_ALL_GATHER] += (double)bytes * (c.size - 1);
    });
    return ncclSuccess;
}
static inline ncclResult_t ncclBroadcast(const void *in, void *out, size_t n, ncclDataType_t type, int root,
                                         ncclComm_t comm, cudaStream_t stream) {
    EmuComm c = *comm;
    emu_collective(stream, comm);
    emu_nccl_submit(stream, [=]() {
        if (c.rank == root && in != out) memcpy(out, in, n * emu_nccl_size(type));
        emu_mpi(MPI_Bcast(out, emu_count(n * emu_nccl_size(type)), MPI_BYTE, root, c.mpi), "MPI_Bcast");
    });
    return ncclSuccess;
}
static inline ncclResult_t ncclSend(const void *in, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                                    cudaStream_t stream) {
    EmuComm c = *comm;
    emu_collective(stream, comm);
    emu_nccl_submit(stream, [=]() {
        emu_mpi(MPI_Send(in, emu_count(n * emu_nccl_size(type)), MPI_BYTE, peer, 0, c.mpi), "MPI_Send");
        emu_sent[EMU_SEND] += (double)(n * emu_nccl_size(type));
    });
    return ncclSuccess;
}
static inline ncclResult_t ncclRecv(void *out, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                                    cudaStream_t stream) {
    EmuComm c = *comm;
    emu_collective(stream, comm);
    emu_nccl_submit(stream, [=]() {
        emu_mpi(MPI_Recv(out, emu_count(n * emu_nccl_size(type)), MPI_BYTE, peer, 0, c.mpi, MPI_STATUS_IGNORE),
                "MPI_Recv");
    });
    return ncclSuccess;
}

#endif
