/*
dist.h: the ranks of a job, and the few numbers that they exchange on the host.

They are joined by MPI where the program is built with it (-DUSE_MPI) and a launcher that speaks it
started this process; else, where Slurm started several, by bootstrap.h; else there is one rank.
LLMC_BOOTSTRAP in the environment asks for bootstrap.h even where MPI is.

Results never depend on timing: every sum over ranks has a fixed order.
*/
#ifndef LLMC_DIST_H
#define LLMC_DIST_H

#include "bootstrap.h"
#include "common.h"
#ifdef USE_MPI
#include <mpi.h>
#endif

typedef struct {
    int rank, size;
    int local;       // this rank's number among those of its node
    bool mpi;        // several ranks, joined by MPI
    RanksLine *line; // several ranks, joined without
} Dist;

// The launcher's number of this rank on its node, -1 if it gives none. Slurm's comes last: ranks that mpirun
// starts inside a Slurm job all inherit the same one.
static inline int dist_local_rank(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (getenv(names[i])) return bootstrap_variable(names[i], 0);
    return -1;
}

// Joins the job, if a launcher started this process: without one MPI_Init would only cost time, and
// in some installations fail. The names are those that Open MPI, MPICH, Intel MPI and PMIx set.
static inline void dist_open(Dist *d, int *argc, char ***argv) {
    memset(d, 0, sizeof *d);
    d->size = 1;
    d->local = dist_local_rank();
    // Ranks that mpirun started know each other, even if there is only one; Slurm's variables are then about mpirun.
    bool asked = getenv("LLMC_BOOTSTRAP") != NULL, by_mpirun = getenv("OMPI_COMM_WORLD_SIZE") || getenv("MPI_LOCALNRANKS");
#ifdef USE_MPI
    static const char *const launched[] = {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS"};
    bool any = false;
    for (size_t i = 0; i < sizeof launched / sizeof launched[0] && !asked; i++) any |= getenv(launched[i]) != NULL;
    if (any) {
        int provided;
        MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
        MPI_Comm_rank(MPI_COMM_WORLD, &d->rank);
        MPI_Comm_size(MPI_COMM_WORLD, &d->size);
        d->mpi = d->size > 1;
        if (d->mpi && d->local < 0) {
            MPI_Comm node;
            MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, d->rank, MPI_INFO_NULL, &node);
            MPI_Comm_rank(node, &d->local);
            MPI_Comm_free(&node);
        }
    }
#else
    (void)argc;
    (void)argv;
#endif
    int rank, size;
    Error err;
    if (d->size == 1 && (asked || !by_mpirun) && bootstrap_found(&rank, &size)) {
        d->line = bootstrap_open(rank, size, &err);
        if (!d->line) fail("%s", err.text);
        d->rank = rank;
        d->size = size;
    }
    if (d->local < 0) d->local = 0;
}

static inline void dist_close(Dist *d) {
    if (d->line) line_close(d->line);
    d->line = NULL;
#ifdef USE_MPI
    int joined = 0;
    MPI_Initialized(&joined);
    if (joined) MPI_Finalize();
#endif
}

// all (ranks, n) = every rank's n numbers, on every rank
static inline void dist_gather(const Dist *d, double *all, const double *own, int n) {
    if (d->size == 1) memcpy(all, own, sizeof(double) * (size_t)n);
    else if (d->line) line_gather(d->line, all, own, sizeof(double) * (size_t)n);
#ifdef USE_MPI
    else MPI_Allgather(own, n, MPI_DOUBLE, all, n, MPI_DOUBLE, MPI_COMM_WORLD);
#endif
}

// Element-wise sum over all ranks, in place, in rank order; the same bits on every rank.
static inline void dist_sum(const Dist *d, double *values, int n) {
    if (d->size == 1) return;
    double *all = (double *)mem_alloc(sizeof(double) * (size_t)n * (size_t)d->size);
    dist_gather(d, all, values, n);
    for (int i = 0; i < n; i++) {
        values[i] = 0;
        for (int r = 0; r < d->size; r++) values[i] += all[r * n + i];
    }
    free(all);
}

// Rank 0's bytes on all ranks.
static inline void dist_broadcast(const Dist *d, void *values, size_t bytes) {
    if (d->size == 1) return;
    if (d->line) line_broadcast(d->line, values, bytes);
#ifdef USE_MPI
    else MPI_Bcast(values, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
#endif
}

// The largest value of any rank, on all ranks.
static inline int dist_max(const Dist *d, int value) {
    int most = value;
    if (d->size == 1) return most;
#ifdef USE_MPI
    if (d->mpi) MPI_Allreduce(&value, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
#endif
    if (d->line) {
        double own = value, *all = (double *)mem_alloc(sizeof(double) * (size_t)d->size);
        line_gather(d->line, all, &own, sizeof own);
        for (int r = 0; r < d->size; r++)
            if (all[r] > most) most = (int)all[r];
        free(all);
    }
    return most;
}

// Returns when all ranks have come here.
static inline void dist_barrier(const Dist *d) {
    if (d->size > 1) dist_max(d, 0);
}

#endif
