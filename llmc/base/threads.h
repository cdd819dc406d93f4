/*
threads.h: work on all cores in either program: by OpenMP where it is built in, else by threads made for the purpose.

    threads_for(n, threads, work, argument)     work(argument, i) for every i in 0 .. n - 1, in any order, on several
                                                threads at once; threads: at most, 0: as many as this process may use

Returns when all is done. What cannot be started is done by the others; the caller's thread always works.
*/
#ifndef LLMC_THREADS_H
#define LLMC_THREADS_H

#include "common.h"
#include <pthread.h>
#include <sched.h>

typedef void ThreadWork(void *argument, int64_t i);

enum { THREADS_MOST = 64 };

// CPUs that this process may use.
static inline int threads_here(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n < THREADS_MOST ? n : THREADS_MOST;
}

typedef struct {
    ThreadWork *work;
    void *argument;
    int64_t n, next; // next: taken by whoever comes
} ThreadsJob;

static inline void *threads_run(void *job_) {
    ThreadsJob *job = (ThreadsJob *)job_;
    for (int64_t i; (i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->n;) job->work(job->argument, i);
    return NULL;
}

// By threads of its own, whatever is built in.
static inline void threads_own(int64_t n, int threads, ThreadWork *work, void *argument) {
    pthread_t made[THREADS_MOST];
    ThreadsJob job = {work, argument, n, 0};
    int wanted = threads > 0 && threads < THREADS_MOST ? threads : threads_here(), count = 0;
    if (wanted > n) wanted = (int)n;
    while (count + 1 < wanted && pthread_create(&made[count], NULL, threads_run, &job) == 0) count++;
    threads_run(&job);
    for (int i = 0; i < count; i++) pthread_join(made[i], NULL);
}

static inline void threads_for(int64_t n, int threads, ThreadWork *work, void *argument) {
#ifdef _OPENMP
    if (threads == 0) {
#pragma omp parallel for
        for (int64_t i = 0; i < n; i++) work(argument, i);
        return;
    }
#endif
    threads_own(n, threads, work, argument);
}

#endif
