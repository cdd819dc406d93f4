/*
ranks.h: sums arrays over MPI ranks while other work goes on, and shares them again (overlapped collectives).

An array is cut into one part a rank. The part's rank sums it (reduce-scatter), and later everybody gets
everybody's part (all-gather). Together that moves 2 (R-1)/R of the array's bytes from and to each rank, as an
all-reduce would.

Sums are taken in rank order by the owner, so they do not depend on when messages arrive: two runs on
the same number of ranks give the same bits. The sums run in pieces small enough to stay in the cache
between arriving and being added. MPI makes progress only inside its calls: ranks_progress() is called
between the kernels of the backward pass (Cpu.between_kernels).

Without MPI, or with one rank, everything here does nothing.
*/
#ifndef LLMC_CPU_RANKS_H
#define LLMC_CPU_RANKS_H

#include "../ranks/dist.h"
#include "../model.h"
#include "cpu.h"

// Elements of one piece: 1 MiB of float. Tunable: below, messages cost; above, pieces leave the cache.
#define RANKS_PIECE ((size_t)1 << 18)
// Pieces in flight at a time.
#define RANKS_WINDOW 4

typedef struct {
    real *values;         // to be summed
    const Range *parts;   // (ranks): which of them each rank sums
    size_t pieces;        // of the longest part
    size_t posted, added; // pieces of it that are in flight or done; that are done
} RanksJob;

typedef struct {
    const Dist *dist;
#ifdef USE_MPI
    RanksJob *jobs; // (capacity) a queue
    int first, count, capacity;
    real *incoming;        // (RANKS_WINDOW, R - 1, RANKS_PIECE)
    MPI_Request *requests; // (RANKS_WINDOW, 2 (R - 1)) of the sums
    MPI_Request *gathers;  // (capacity, 2 (R - 1)) of the weights
    int gather_count;
    size_t next_slot, oldest_slot; // counted up without end; modulo RANKS_WINDOW
#endif
} Ranks;

// arrays: how many arrays at most are queued at a time.
static inline void ranks_open(Ranks *r, const Dist *dist, int arrays) {
    memset(r, 0, sizeof *r);
    r->dist = dist;
    (void)arrays;
#ifdef USE_MPI
    if (dist->size == 1) return;
    size_t others = (size_t)dist->size - 1;
    r->capacity = arrays;
    r->jobs = (RanksJob *)mem_alloc(sizeof(RanksJob) * (size_t)arrays);
    r->incoming = (real *)mem_alloc(sizeof(real) * RANKS_WINDOW * others * RANKS_PIECE);
    r->requests = (MPI_Request *)mem_alloc(sizeof(MPI_Request) * RANKS_WINDOW * 2 * others);
    r->gathers = (MPI_Request *)mem_alloc(sizeof(MPI_Request) * (size_t)arrays * 2 * others);
#endif
}

static inline void ranks_close(Ranks *r) {
#ifdef USE_MPI
    free(r->jobs);
    free(r->incoming);
    free(r->requests);
    free(r->gathers);
#endif
    memset(r, 0, sizeof *r);
}

#ifdef USE_MPI

#ifdef REAL_DOUBLE
#define MPI_REAL_TYPE MPI_DOUBLE
#else
#define MPI_REAL_TYPE MPI_FLOAT
#endif
enum { RANKS_TAG_SUM = 1, RANKS_TAG_GATHER = 2, RANKS_TAG_COLLECT = 3 };

// Piece p of a part; count 0 if it has no such piece.
static inline Range ranks_piece(Range part, size_t p) {
    size_t from = p * RANKS_PIECE, left = part.count > from ? part.count - from : 0;
    Range r = {part.first + from, left < RANKS_PIECE ? left : RANKS_PIECE};
    return r;
}

static inline void ranks_post(Ranks *r, RanksJob *job) {
    int R = r->dist->size, me = r->dist->rank;
    size_t slot = r->next_slot++ % RANKS_WINDOW, others = (size_t)R - 1;
    MPI_Request *q = r->requests + slot * 2 * others;
    real *in = r->incoming + slot * others * RANKS_PIECE;
    Range mine = ranks_piece(job->parts[me], job->posted);
    for (int other = 0, k = 0; other < R; other++) {
        if (other == me) continue;
        Range theirs = ranks_piece(job->parts[other], job->posted);
        q[2 * k] = q[2 * k + 1] = MPI_REQUEST_NULL;
        if (mine.count)
            MPI_Irecv(in + (size_t)k * RANKS_PIECE, (int)mine.count, MPI_REAL_TYPE, other, RANKS_TAG_SUM,
                      MPI_COMM_WORLD, &q[2 * k]);
        if (theirs.count)
            MPI_Isend(job->values + theirs.first, (int)theirs.count, MPI_REAL_TYPE, other, RANKS_TAG_SUM,
                      MPI_COMM_WORLD, &q[2 * k + 1]);
        k++;
    }
    job->posted++;
}

// Adds the arrived contributions to the oldest piece, in rank order with its own in its place.
static inline void ranks_add(Ranks *r, RanksJob *job) {
    int R = r->dist->size, me = r->dist->rank;
    size_t slot = r->oldest_slot++ % RANKS_WINDOW, others = (size_t)R - 1;
    const real *in = r->incoming + slot * others * RANKS_PIECE;
    Range mine = ranks_piece(job->parts[me], job->added++);
    real *own = job->values + mine.first;
    for (size_t i = 0; i < mine.count; i += VL) { // counts are multiples of 64, VL divides 64
        vreal sum = me == 0 ? vload(own + i) : vload(in + i);
        for (int rank = 1; rank < R; rank++)
            sum += rank == me ? vload(own + i) : vload(in + (size_t)(rank < me ? rank : rank - 1) * RANKS_PIECE + i);
        vstore(own + i, sum);
    }
}
#endif

// Moves sums along without waiting.
static inline void ranks_progress(Ranks *r) {
    (void)r;
#ifdef USE_MPI
    if (r->dist->size == 1) return;
    size_t others = (size_t)r->dist->size - 1;
    // The queue's pieces go out in order; so do they arrive and get added.
    for (;;) {
        RanksJob *posting = NULL;
        for (int i = r->first; i < r->count && !posting; i++)
            if (r->jobs[i].posted < r->jobs[i].pieces) posting = &r->jobs[i];
        if (posting && r->next_slot - r->oldest_slot < RANKS_WINDOW) {
            ranks_post(r, posting);
            continue;
        }
        if (r->first == r->count) break;
        int done = 0;
        MPI_Testall((int)(2 * others), r->requests + r->oldest_slot % RANKS_WINDOW * 2 * others, &done,
                    MPI_STATUSES_IGNORE);
        if (!done) break;
        RanksJob *job = &r->jobs[r->first];
        ranks_add(r, job);
        if (job->added == job->pieces) r->first++;
    }
    if (r->first == r->count) r->first = r->count = 0;
    if (r->gather_count) {
        int done;
        MPI_Testall(r->gather_count, r->gathers, &done, MPI_STATUSES_IGNORE);
    }
#endif
}

static inline void ranks_between_kernels(void *ranks) { ranks_progress((Ranks *)ranks); }

// Queues an array (reduce-scatter): when ranks_wait returns, each rank's part holds the sum over all ranks. Until then
// the array belongs to the queue. Parts are multiples of 64 numbers.
static inline void ranks_sum(Ranks *r, real *values, const Range *parts) {
    (void)values;
    (void)parts;
    (void)r;
#ifdef USE_MPI
    size_t most = 0;
    for (int rank = 0; rank < r->dist->size; rank++) most = parts[rank].count > most ? parts[rank].count : most;
    if (r->dist->size == 1 || most == 0) return;
    RanksJob job = {values, parts, (most + RANKS_PIECE - 1) / RANKS_PIECE, 0, 0};
    r->jobs[r->count++] = job;
    ranks_progress(r);
#endif
}

static inline void ranks_wait(Ranks *r) {
    (void)r;
#ifdef USE_MPI
    while (r->count) ranks_progress(r);
#endif
}

// Starts the all-gather of an array of which each rank holds its part: after ranks_gather_wait all hold all.
static inline void ranks_gather(Ranks *r, real *values, const Range *parts) {
    (void)r;
    (void)values;
    (void)parts;
#ifdef USE_MPI
    int R = r->dist->size, me = r->dist->rank;
    for (int other = 0; other < R; other++) {
        if (other == me) continue;
        MPI_Irecv(values + parts[other].first, (int)parts[other].count, MPI_REAL_TYPE, other, RANKS_TAG_GATHER,
                  MPI_COMM_WORLD, &r->gathers[r->gather_count++]);
        MPI_Isend(values + parts[me].first, (int)parts[me].count, MPI_REAL_TYPE, other, RANKS_TAG_GATHER,
                  MPI_COMM_WORLD, &r->gathers[r->gather_count++]);
    }
#endif
}

static inline void ranks_gather_wait(Ranks *r) {
    (void)r;
#ifdef USE_MPI
    if (r->gather_count) MPI_Waitall(r->gather_count, r->gathers, MPI_STATUSES_IGNORE);
    r->gather_count = 0;
#endif
}

// Completes values on rank `to` from the parts that the ranks hold: rank q holds the elements parts[q]. Called by all
// ranks; values of the others stay as they are.
static inline void ranks_collect(Ranks *r, float *values, const Range *parts, int to) {
    (void)r;
    (void)values;
    (void)parts;
    (void)to;
#ifdef USE_MPI
    for (int q = 0; q < r->dist->size; q++) {
        if (!parts[q].count || q == to) continue;
        if (r->dist->rank == q)
            MPI_Send(values + parts[q].first, (int)parts[q].count, MPI_FLOAT, to, RANKS_TAG_COLLECT, MPI_COMM_WORLD);
        if (r->dist->rank == to)
            MPI_Recv(values + parts[q].first, (int)parts[q].count, MPI_FLOAT, q, RANKS_TAG_COLLECT, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
    }
#endif
}

#endif
