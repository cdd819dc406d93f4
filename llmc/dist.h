/*
dist.h: the ranks of a job. Built with MPI (-DUSE_MPI) or without; without, there is one rank.

Results never depend on timing: every sum over ranks has a fixed order.
*/
#ifndef LLMC_DIST_H
#define LLMC_DIST_H

#include "common.h"
#ifdef USE_MPI
#include <mpi.h>
#endif

typedef struct {
    int rank, size;
} Dist;

// Joins the job, if a launcher started this process: without one MPI_Init would only cost time, and
// in some installations fail. The names are those that Open MPI, MPICH, Intel MPI and PMIx set.
static inline void dist_open(Dist *d, int *argc, char ***argv) {
    d->rank = 0;
    d->size = 1;
#ifdef USE_MPI
    static const char *const launched[] = {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS"};
    bool any = false;
    for (size_t i = 0; i < sizeof launched / sizeof launched[0]; i++) any |= getenv(launched[i]) != NULL;
    if (!any) return;
    int provided;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &d->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &d->size);
#else
    (void)argc;
    (void)argv;
#endif
}

static inline void dist_close(Dist *d) {
    (void)d;
#ifdef USE_MPI
    int joined = 0;
    MPI_Initialized(&joined);
    if (joined) MPI_Finalize();
#endif
}

static inline void dist_barrier(const Dist *d) {
    (void)d;
#ifdef USE_MPI
    if (d->size > 1) MPI_Barrier(MPI_COMM_WORLD);
#endif
}

// Element-wise sum over all ranks, in place, in rank order; the same bits on every rank.
static inline void dist_sum(const Dist *d, double *values, int n) {
    (void)d;
    (void)values;
    (void)n;
#ifdef USE_MPI
    if (d->size == 1) return;
    double *all = (double *)mem_alloc(sizeof(double) * (size_t)n * (size_t)d->size);
    MPI_Allgather(values, n, MPI_DOUBLE, all, n, MPI_DOUBLE, MPI_COMM_WORLD);
    for (int i = 0; i < n; i++) {
        values[i] = 0;
        for (int r = 0; r < d->size; r++) values[i] += all[r * n + i];
    }
    free(all);
#endif
}

// Rank 0's bytes on all ranks.
static inline void dist_broadcast(const Dist *d, void *values, size_t bytes) {
    (void)d;
    (void)values;
    (void)bytes;
#ifdef USE_MPI
    if (d->size > 1) MPI_Bcast(values, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
#endif
}

// The largest value of any rank, on all ranks.
static inline int dist_max(const Dist *d, int value) {
    (void)d;
#ifdef USE_MPI
    int most = value;
    if (d->size > 1) MPI_Allreduce(&value, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return most;
#else
    return value;
#endif
}

#endif
