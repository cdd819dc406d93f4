/*
nccl.h (emulator): the NCCL calls of llmc/cuda/ranks.h as MPI calls.
*/
#ifndef EMU_NCCL_H
#define EMU_NCCL_H

#include "cuda_runtime.h"
#include <mpi.h>

typedef enum { ncclSuccess = 0, ncclSystemError = 2 } ncclResult_t;
typedef enum { ncclFloat32, ncclFloat64 } ncclDataType_t;
typedef enum { ncclSum } ncclRedOp_t;
typedef int *ncclComm_t;
typedef struct { char internal[128]; } ncclUniqueId;

static inline const char *ncclGetErrorString(ncclResult_t r) { return r == ncclSuccess ? "no error" : "system error"; }
static inline ncclResult_t ncclGetUniqueId(ncclUniqueId *id) { return memset(id, 7, sizeof *id), ncclSuccess; }
static inline ncclResult_t ncclCommInitRank(ncclComm_t *comm, int, ncclUniqueId id, int) {
    *comm = new int;
    return id.internal[127] == 7 ? ncclSuccess : ncclSystemError; // the id must have come from rank 0
}
static inline ncclResult_t ncclCommDestroy(ncclComm_t comm) { return delete comm, ncclSuccess; }
static inline ncclResult_t ncclAllReduce(const void *in, void *out, size_t n, ncclDataType_t type, ncclRedOp_t, ncclComm_t, cudaStream_t) {
    emu_submit([=]() {
        if (in != out || n > INT_MAX) abort();
        MPI_Allreduce(MPI_IN_PLACE, out, (int)n, type == ncclFloat32 ? MPI_FLOAT : MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    });
    return ncclSuccess;
}

#endif
