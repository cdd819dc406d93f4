/*
dist.h: the ranks of a job, and the few numbers that they exchange on the host.

They are joined by MPI where the program is built with it (-DUSE_MPI) and a launcher that speaks it
started this process; else, where Slurm started several, by bootstrap.h; else there is one rank.
LLMC_BOOTSTRAP in the environment asks for bootstrap.h even where MPI is.

Results never depend on timing: every sum over ranks has a fixed order.

Errors are said once a job: dist_agree() is called by all ranks after a piece of work that may fail
on some of them, and ends the job with one line of rank 0 if it did. dist_fail() is for what a single
rank finds while the others go on.
*/
#ifndef LLMC_DIST_H
#define LLMC_DIST_H

#include "bootstrap.h"
#include "launcher.h"
#include "watchdog.h"
#ifdef USE_MPI
#include <mpi.h>
#endif

typedef struct {
    int rank, size;
    int local_rank, local_size; // among the ranks on this host
    char host[64];
    Watchdog *watchdog; // NULL: none
    bool mpi;           // several ranks, joined by MPI
    RanksLine *line;    // several ranks, joined without
    Launcher launcher;  // what started this rank
} Dist;

// The one rank of a job without a launcher.
static inline void dist_single(Dist *d) {
    memset(d, 0, sizeof *d);
    d->size = d->local_size = 1;
    if (gethostname(d->host, sizeof d->host - 1) != 0) snprintf(d->host, sizeof d->host, "unknown host");
    text_make_printable(d->host);
}

// A text (n bytes) that came from another rank: ends within them, and can be printed.
static inline void dist_text(char *text, size_t n) {
    text[n - 1] = 0;
    text_make_printable(text);
}

// all (size, n) = the n bytes of every rank, on all ranks. n below 2 GiB.
static inline void dist_gather(const Dist *d, void *all, const void *bytes, size_t n) {
    if (d->size == 1) {
        memcpy(all, bytes, n);
        return;
    }
    watchdog_enter(d->watchdog, "messages of all ranks");
    if (d->line) line_gather(d->line, all, bytes, n);
#ifdef USE_MPI
    else MPI_Allgather(bytes, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, MPI_COMM_WORLD);
#endif
    watchdog_leave(d->watchdog);
}

// The launcher's number of this rank on its node, -1 if it gives none. Slurm's comes last: ranks that mpirun
// starts inside a Slurm job all inherit the same one.
static inline int dist_launcher_local_rank(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_LOCAL_RANK",
                                        "SLURM_LOCALID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (getenv(names[i])) return environment_int(names[i], 0);
    return -1;
}

// Joins the job, if a launcher started this process: without one MPI_Init would only cost time, and
// in some installations fail. The names are those that Open MPI, MPICH, Intel MPI and PMIx set.
static inline void dist_open(Dist *d, int *argc, char ***argv) {
    dist_single(d);
    d->launcher = launcher_find();
    // Ranks that mpirun started know each other, even if there is only one; Slurm's variables are then about mpirun.
    bool asked = getenv("LLMC_BOOTSTRAP") != NULL,
         by_mpirun = getenv("OMPI_COMM_WORLD_SIZE") || getenv("MPI_LOCALNRANKS");
#ifdef USE_MPI
    static const char *const launched[] = {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK",
                                           "MPI_LOCALNRANKS"};
    bool any = false;
    for (size_t i = 0; i < sizeof launched / sizeof launched[0] && !asked; i++) any |= getenv(launched[i]) != NULL;
    if (any) {
        int provided;
        MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
        MPI_Comm_rank(MPI_COMM_WORLD, &d->rank);
        MPI_Comm_size(MPI_COMM_WORLD, &d->size);
        d->mpi = d->size > 1;
    }
#else
    (void)argc;
    (void)argv;
#endif
    int rank, size;
    Error err;
    if (d->size == 1 && (asked || !by_mpirun) && bootstrap_found(&rank, &size)) {
        d->line = bootstrap_open(rank, size, &d->launcher, &err);
        if (!d->line) fail("%s", err.text);
        d->rank = rank;
        d->size = size;
    }
    if (d->size == 1) return;
#ifdef USE_MPI
    if (d->mpi) {
        MPI_Comm local;
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, d->rank, MPI_INFO_NULL, &local);
        MPI_Comm_rank(local, &d->local_rank);
        MPI_Comm_size(local, &d->local_size);
        MPI_Comm_free(&local);
    }
#endif
    if (d->line) {
        char *hosts = (char *)mem_alloc(sizeof d->host * (size_t)d->size);
        dist_gather(d, hosts, d->host, sizeof d->host);
        d->local_rank = d->local_size = 0;
        for (int r = 0; r < d->size; r++) {
            dist_text(hosts + (size_t)r * sizeof d->host, sizeof d->host);
            bool here = strcmp(hosts + (size_t)r * sizeof d->host, d->host) == 0;
            d->local_size += here;
            d->local_rank += here && r < d->rank;
        }
        free(hosts);
    }
    if (dist_launcher_local_rank() >= 0) d->local_rank = dist_launcher_local_rank();
}

static inline void dist_leave_mpi(const Dist *d) {
    (void)d;
#ifdef USE_MPI
    int joined = 0;
    MPI_Initialized(&joined);
    if (joined && !launcher_gone(&d->launcher)) MPI_Finalize(); // it asks the launcher, and would wait for ever
#endif
}

static inline void dist_close(Dist *d) {
    if (d->line) line_close(d->line);
    d->line = NULL;
    dist_leave_mpi(d);
}

// Element-wise sum over all ranks, in place, in rank order; the same bits on every rank.
static inline void dist_sum(const Dist *d, double *values, int n) {
    if (d->size == 1) return;
    double *all = (double *)mem_alloc(sizeof(double) * (size_t)n * (size_t)d->size);
    watchdog_enter(d->watchdog, "sum of loss and norm over the ranks");
    dist_gather(d, all, values, sizeof(double) * (size_t)n);
    watchdog_leave(d->watchdog);
    for (int i = 0; i < n; i++) {
        values[i] = 0;
        for (int r = 0; r < d->size; r++) values[i] += all[r * n + i];
    }
    free(all);
}

// The largest value of any rank, on all ranks.
static inline int dist_max(const Dist *d, int value) {
    int most = value;
    if (d->size == 1) return most;
    watchdog_enter(d->watchdog, "agreement of the ranks");
#ifdef USE_MPI
    if (d->mpi) MPI_Allreduce(&value, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
#endif
    if (d->line) {
        int *all = (int *)mem_alloc(sizeof(int) * (size_t)d->size);
        line_gather(d->line, all, &value, sizeof value);
        for (int r = 0; r < d->size; r++)
            if (all[r] > most) most = all[r];
        free(all);
    }
    watchdog_leave(d->watchdog);
    return most;
}

// Returns when all ranks have come here.
static inline void dist_barrier(const Dist *d) { dist_max(d, 0); }

// Rank 0's bytes on all ranks. n below 2 GiB.
static inline void dist_broadcast(const Dist *d, void *bytes, size_t n) {
    if (d->size == 1) return;
    watchdog_enter(d->watchdog, "message of rank 0 to all ranks");
    if (d->line) line_broadcast(d->line, bytes, n);
#ifdef USE_MPI
    else MPI_Bcast(bytes, (int)n, MPI_BYTE, 0, MPI_COMM_WORLD);
#endif
    watchdog_leave(d->watchdog);
}

// Ends the job with one line on stderr, for an error that this rank alone has found.
PRINTF_LIKE(2, 3) static inline void dist_fail(const Dist *d, const char *format, ...) {
    Error err;
    va_list args;
    va_start(args, format);
    vsnprintf(err.text, sizeof err.text, format, args);
    va_end(args);
    text_make_printable(err.text);
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
    for (int r = 0; r < d->size; r++) {
        dist_text(all[r].text, sizeof all[r].text);
        dist_text(all[r].host, sizeof all[r].host);
    }
    while (first < d->size - 1 && !all[first].text[0]) first++;
    for (int r = 0; r < d->size; r++) same += strcmp(all[r].text, all[first].text) == 0;
    if (d->rank == 0) {
        char ranks[128];
        dist_error_ranks(ranks, all, d->size, first);
        fflush(stdout);
        if (same == d->size) fprintf(stderr, "error: %s\n", all[first].text);
        else if (same == 1) fprintf(stderr, "error: rank %d on %s: %s\n", first, all[first].host, all[first].text);
        else
            fprintf(stderr, "error: ranks %s of %d (the first on %s): %s\n", ranks, d->size, all[first].host,
                    all[first].text);
        fflush(stderr);
    }
    free(all);
    dist_barrier(d); // nobody leaves before it is said: the launcher kills the rest
    if (d->mpi) dist_leave_mpi(d);
    exit(1);
}

#endif
