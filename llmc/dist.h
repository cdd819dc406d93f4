/*
dist.h: the ranks of a job. Built with MPI (-DUSE_MPI) or without; without, there is one rank.

Results never depend on timing: every sum over ranks has a fixed order.

Errors are said once a job: dist_agree() is called by all ranks after a piece of work that may fail
on some of them, and ends the job with one line of rank 0 if it did. dist_fail() is for what a single
rank finds while the others go on.
*/
#ifndef LLMC_DIST_H
#define LLMC_DIST_H

#include "watchdog.h"
#ifdef USE_MPI
#include <mpi.h>
#endif

typedef struct {
    int rank, size;
    int local_rank, local_size; // among the ranks on this host
    char host[64];
    Watchdog *watchdog; // NULL: none
} Dist;

// The one rank of a job without a launcher.
static inline void dist_single(Dist *d) {
    memset(d, 0, sizeof *d);
    d->size = d->local_size = 1;
    if (gethostname(d->host, sizeof d->host - 1) != 0) snprintf(d->host, sizeof d->host, "unknown host");
}

// Joins the job, if a launcher started this process: without one MPI_Init would only cost time, and
// in some installations fail. The names are those that Open MPI, MPICH, Intel MPI and PMIx set.
static inline void dist_open(Dist *d, int *argc, char ***argv) {
    dist_single(d);
#ifdef USE_MPI
    static const char *const launched[] = {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS"};
    bool any = false;
    for (size_t i = 0; i < sizeof launched / sizeof launched[0]; i++) any |= getenv(launched[i]) != NULL;
    if (!any) return;
    int provided;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &d->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &d->size);
    MPI_Comm local;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, d->rank, MPI_INFO_NULL, &local);
    MPI_Comm_rank(local, &d->local_rank);
    MPI_Comm_size(local, &d->local_size);
    MPI_Comm_free(&local);
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
    if (d->size == 1) return;
    watchdog_enter(d->watchdog, "barrier (MPI_Barrier)");
    MPI_Barrier(MPI_COMM_WORLD);
    watchdog_leave(d->watchdog);
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
    watchdog_enter(d->watchdog, "sum of loss and norm over the ranks (MPI_Allgather)");
    MPI_Allgather(values, n, MPI_DOUBLE, all, n, MPI_DOUBLE, MPI_COMM_WORLD);
    watchdog_leave(d->watchdog);
    for (int i = 0; i < n; i++) {
        values[i] = 0;
        for (int r = 0; r < d->size; r++) values[i] += all[r * n + i];
    }
    free(all);
#endif
}

// Element-wise sum of gradients over all ranks, in place; the same bits on every rank and in every
// repeat, since the exchange has a fixed pattern. size: bytes of an element, 4 or 8.
static inline void dist_sum_gradients(const Dist *d, void *values, size_t n, size_t size) {
    (void)d;
    (void)values;
    (void)n;
    (void)size;
#ifdef USE_MPI
    if (d->size == 1) return;
    size_t most = (size_t)1 << 28; // MPI counts are ints
    watchdog_enter(d->watchdog, "sum of the gradients over the ranks (MPI_Allreduce)");
    for (size_t i = 0; i < n; i += most)
        MPI_Allreduce(MPI_IN_PLACE, (char *)values + i * size, (int)(n - i < most ? n - i : most), size == 4 ? MPI_FLOAT : MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    watchdog_leave(d->watchdog);
#endif
}

// The largest value of any rank, on all ranks.
static inline int dist_max(const Dist *d, int value) {
    (void)d;
#ifdef USE_MPI
    int most = value;
    if (d->size == 1) return value;
    watchdog_enter(d->watchdog, "agreement of the ranks (MPI_Allreduce)");
    MPI_Allreduce(&value, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    watchdog_leave(d->watchdog);
    return most;
#else
    return value;
#endif
}

// What rank 0 has there, on all ranks. n below 2 GiB.
static inline void dist_broadcast(const Dist *d, void *bytes, size_t n) {
    (void)d;
    (void)bytes;
    (void)n;
#ifdef USE_MPI
    if (d->size == 1) return;
    watchdog_enter(d->watchdog, "message of rank 0 to all ranks (MPI_Bcast)");
    MPI_Bcast(bytes, (int)n, MPI_BYTE, 0, MPI_COMM_WORLD);
    watchdog_leave(d->watchdog);
#endif
}

// all (size, n) = the n bytes of every rank, on all ranks.
static inline void dist_gather(const Dist *d, void *all, const void *bytes, size_t n) {
    (void)d;
#ifdef USE_MPI
    if (d->size > 1) {
        watchdog_enter(d->watchdog, "messages of all ranks (MPI_Allgather)");
        MPI_Allgather(bytes, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, MPI_COMM_WORLD);
        watchdog_leave(d->watchdog);
        return;
    }
#endif
    memcpy(all, bytes, n);
}

// Ends the job with one line on stderr, for an error that this rank alone has found.
PRINTF_LIKE(2, 3) static inline void dist_fail(const Dist *d, const char *format, ...) {
    Error err;
    va_list args;
    va_start(args, format);
    vsnprintf(err.text, sizeof err.text, format, args);
    va_end(args);
    if (d->size == 1) fail("%s", err.text);
    fflush(stdout);
    fprintf(stderr, "error: rank %d on %s: %s\n", d->rank, d->host, err.text);
    job_abort();
}

typedef struct {
    char text[sizeof(Error)], host[64];
} DistError;

// "1, 3-5": the ranks whose text is that of `first`, as far as out (128 bytes) holds them.
static inline void dist_error_ranks(char *out, const DistError *all, int size, int first) {
    int n = 0;
    for (int r = first, next; r < size && n < 100; r = next + 1) {
        for (next = r; next < size && strcmp(all[next].text, all[first].text) == 0;) next++;
        if (next == r) continue;
        n += snprintf(out + n, (size_t)(128 - n), next == r + 1 ? "%s%d" : "%s%d-%d", n ? ", " : "", r, next - 1);
    }
    if (n >= 100) snprintf(out + n, (size_t)(128 - n), ", ...");
}

// Called by all ranks. If any of them is not ok, rank 0 prints its error once (with rank and host, if
// others are fine or say something else), and the job ends with exit code 1; else this returns.
static inline void dist_agree(const Dist *d, bool ok, const Error *err) {
    if (d->size == 1 && !ok) fail("%s", err->text);
    if (!dist_max(d, !ok)) return;
    DistError mine, *all = (DistError *)mem_alloc(sizeof(DistError) * (size_t)d->size);
    memset(&mine, 0, sizeof mine);
    snprintf(mine.host, sizeof mine.host, "%s", d->host);
    if (!ok) snprintf(mine.text, sizeof mine.text, "%s", *err->text ? err->text : "failed");
    dist_gather(d, all, &mine, sizeof mine);
    int first = 0, same = 0; // the first rank that failed; ranks that say what it says
    while (!all[first].text[0]) first++;
    for (int r = 0; r < d->size; r++) same += strcmp(all[r].text, all[first].text) == 0;
    if (d->rank == 0) {
        char ranks[128];
        dist_error_ranks(ranks, all, d->size, first);
        fflush(stdout);
        if (same == d->size) fprintf(stderr, "error: %s\n", all[first].text);
        else if (same == 1) fprintf(stderr, "error: rank %d on %s: %s\n", first, all[first].host, all[first].text);
        else fprintf(stderr, "error: ranks %s of %d (the first on %s): %s\n", ranks, d->size, all[first].host, all[first].text);
        fflush(stderr);
    }
    free(all);
    dist_barrier(d); // nobody leaves before it is said: the launcher kills the rest
#ifdef USE_MPI
    MPI_Finalize();
#endif
    exit(1);
}

#endif
