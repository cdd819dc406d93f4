/*
watchdog.h: a thread that ends a job in which nothing moves any more (a hang, a deadlock).

    watchdog_open(&w, seconds, rank, host, &launcher);   seconds 0, and no launcher: no thread, nothing ever happens
    watchdog_enter(w, "sum of the gradients");           around every place where this rank waits for another
    ...                                                  one, or for its device
    watchdog_leave(w);

If a rank stays between the two for longer than `seconds`, its watchdog prints one line (rank, host,
step, what was waited for) and ends the job: MPI_Abort, and should that hang as well, this process
alone some seconds later, which makes the launcher end the others. The rank that prints is one that
waited; the one that is missing in the messages is the one to look at.

It also looks after the launcher (launcher.h): if that has ended, a rank that does not train yet ends at once, and one
that trains stops by itself with a checkpoint, for which others get ORPHAN_SECONDS wherever they are waited for.

enter and leave belong to one thread. They may be nested; the outermost counts. w may be NULL.

Limits: a rank that waits for another one's disk cannot tell that from a hang. What takes long on one
rank alone is either done while the ranks meet now and then (a checkpoint's writing), or the time must
be longer than it takes (reading a large checkpoint on a slow disk).
*/
#ifndef LLMC_WATCHDOG_H
#define LLMC_WATCHDOG_H

#include "launcher.h"
#include <pthread.h>
#include <signal.h>
#ifdef USE_MPI
#include <mpi.h>
#endif

// Seconds that MPI_Abort gets. Not to be tuned: launchers take one or two.
#define WATCHDOG_ABORT_SECONDS 10
// Seconds that a rank whose launcher has ended waits for the others, beyond twice the longest wait so far: a step may
// take long, but what is waited for is most often dead, too.
#define ORPHAN_SECONDS 20

typedef struct Watchdog {
    pthread_t thread;
    pthread_mutex_t mutex; // guards all that follows
    pthread_cond_t wake;
    bool running, closing;
    double timeout; // seconds; 0: for ever
    int rank, depth;
    char host[64];
    Launcher launcher;
    int64_t step;     // the newest that was begun; 0: it does not train (yet)
    const char *what; // NULL: not waiting
    double waited;    // seconds, as far as this process ran: one that was stopped must not accuse the others
    double longest;   // that it has waited before
} Watchdog;

// Waiting counts on the clock that nobody sets: a condition for clock_deadline.
static inline void clock_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

// That clock `seconds` from now, as pthread_cond_timedwait wants it for such a condition.
static inline struct timespec clock_deadline(double seconds) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    t.tv_sec += (time_t)seconds + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static inline void watchdog_exit(int signal_number) {
    (void)signal_number;
    _exit(1);
}

// Ends the job with exit code 1, whatever state MPI is in. For every thread.
static inline void job_abort(void) {
    struct sigaction action;
    sigset_t unblocked;
    memset(&action, 0, sizeof action);
    action.sa_handler = watchdog_exit; // the alarm runs even where every thread hangs in a library
    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&unblocked); // stop.h may have it blocked
    sigaddset(&unblocked, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &unblocked, NULL);
    alarm(WATCHDOG_ABORT_SECONDS);
#ifdef USE_MPI
    int joined = 0, left = 0;
    MPI_Initialized(&joined);
    MPI_Finalized(&left);
    if (joined && !left) MPI_Abort(MPI_COMM_WORLD, 1);
#endif
    _exit(1);
}

// One line, in one write, so that lines of several ranks stay whole; then the end.
PRINTF_LIKE(2, 3) static inline void watchdog_end(const Watchdog *w, const char *format, ...) {
    char line[1024];
    int n = snprintf(line, sizeof line, "error: rank %d on %s, step %lld: ", w->rank, w->host, (long long)w->step);
    va_list args;
    va_start(args, format);
    vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    text_make_printable(line);
    strcat(line, "\n");
    ssize_t written = write(STDERR_FILENO, line, strlen(line));
    (void)written;
    job_abort();
}

static inline void *watchdog_run(void *argument) {
    Watchdog *w = (Watchdog *)argument;
    double nap = w->launcher.parent ? LAUNCHER_LOOK : 1, last = clock_seconds(); // between two looks; the last one
    if (w->timeout > 0 && w->timeout / 10 < nap) nap = w->timeout / 10;
    pthread_mutex_lock(&w->mutex);
    while (!w->closing) {
        double now = clock_seconds(), patience = 2 * w->longest + ORPHAN_SECONDS;
        w->waited += now - last < 2 * nap + 1 ? now - last : nap;
        last = now;
        if (w->what && w->timeout > 0 && w->waited > w->timeout)
            watchdog_end(w,
                         "waited %.0f s for: %s; a rank or its network hangs (look for the rank that does not say "
                         "this), or --comm_timeout=%g is too short; the job ends, resume from the last checkpoint",
                         w->waited, w->what, w->timeout);
        bool orphan = launcher_gone(&w->launcher);
        if (orphan && w->step) launcher_outlive();
        if (orphan && (!w->step || (w->what && w->waited > patience)))
            watchdog_end(w,
                         "the process that started it (mpirun, srun) has ended%s%s; the job ends, resume from the last "
                         "checkpoint",
                         w->step ? ", and the other ranks do not answer: " : "", w->step ? w->what : "");
        struct timespec until = clock_deadline(nap);
        pthread_cond_timedwait(&w->wake, &w->mutex, &until);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static inline void watchdog_open(Watchdog *w, double timeout, int rank, const char *host, const Launcher *launcher) {
    memset(w, 0, sizeof *w);
    w->timeout = timeout;
    w->rank = rank;
    w->launcher = *launcher;
    snprintf(w->host, sizeof w->host, "%s", host);
    pthread_mutex_init(&w->mutex, NULL);
    clock_condition(&w->wake);
    if (timeout <= 0 && !launcher->parent) return;
    sigset_t all, before; // signals are for the thread that works, which may have a file to remove first
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int why = pthread_create(&w->thread, NULL, watchdog_run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why) warn("no watchdog on rank %d: %s", rank, strerror(why));
    w->running = why == 0;
}

static inline void watchdog_close(Watchdog *w) {
    if (w->running) {
        pthread_mutex_lock(&w->mutex);
        w->closing = true;
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->mutex);
        pthread_join(w->thread, NULL);
    }
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    w->running = false;
}

// what: a literal, or text that lives until watchdog_leave.
static inline void watchdog_enter(Watchdog *w, const char *what) {
    if (!w || !w->running || w->depth++) return;
    pthread_mutex_lock(&w->mutex);
    w->what = what;
    w->waited = 0;
    pthread_mutex_unlock(&w->mutex);
}

static inline void watchdog_leave(Watchdog *w) {
    if (!w || !w->running || --w->depth) return;
    pthread_mutex_lock(&w->mutex);
    w->what = NULL;
    if (w->waited > w->longest) w->longest = w->waited;
    pthread_mutex_unlock(&w->mutex);
}

static inline void watchdog_step(Watchdog *w, int64_t step) {
    if (!w || !w->running) return;
    pthread_mutex_lock(&w->mutex);
    w->step = step;
    pthread_mutex_unlock(&w->mutex);
}

#endif
