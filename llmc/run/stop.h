/*
stop.h: how a run comes to an early end in good order: a signal, the time limit, a file.

SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 are blocked and asked for between steps: no handler, no global
state, and never a half-made step. All ranks agree on stopping in the same step. RUN_DIR/stop is removed
when the run has stopped for it, so that the next job of a chain goes on.
*/
#ifndef LLMC_STOP_H
#define LLMC_STOP_H

#include "../ranks/dist.h"
#include <signal.h>

enum { EXIT_DONE = 0, EXIT_STOPPED = 3 };
// Why a run stops early: the number of a signal, or one of these. The largest of any rank counts.
enum { STOP_TIME = 1000, STOP_FILE };

typedef struct {
    const Dist *dist;
    Path file;
    double started, max_minutes; // 0: no limit
    double looked;               // when rank 0 last looked for the file
} Stop;

// The signals that end a run in good order.
static inline void stop_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2);
}

// To be called before any thread is made (MPI makes some), so that all inherit it.
static inline void stop_block_signals(void) {
    sigset_t set;
    stop_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

// Why the run is to stop after this step, 0: it is not; the same on all ranks.
static inline int stop_reason(Stop *s) {
    sigset_t set;
    struct timespec none = {0, 0};
    stop_signals(&set);
    int reason = sigtimedwait(&set, NULL, &none);
    double now = clock_seconds();
    if (reason < 0) reason = 0;
    if (s->max_minutes > 0 && now - s->started > 60 * s->max_minutes) reason = STOP_TIME;
    if (s->dist->rank == 0 && now - s->looked > 1) { // once a second: metadata servers serve many
        s->looked = now;
        FileKind kind = FILE_ABSENT;
        Error err; // what cannot be looked at now is looked at again in a second
        if (path_look(s->file.text, &kind, &err) && kind != FILE_ABSENT) reason = STOP_FILE;
    }
    return dist_max(s->dist, reason);
}

// After the checkpoint: says what the run stops by, and clears the stop file away for the next job of a chain.
static inline void stop_done(const Stop *s, int reason, char why[128]) {
    if (reason == STOP_FILE) snprintf(why, 128, "the file %.100s", s->file.text);
    else if (reason == STOP_TIME) snprintf(why, 128, "--max_minutes=%g", s->max_minutes);
    else snprintf(why, 128, "signal %d (%s)", reason, strsignal(reason));
    if (reason == STOP_FILE && s->dist->rank == 0 && unlink(s->file.text) != 0)
        warn("cannot remove %s: %s; the next run will stop for it", s->file.text, strerror(errno));
}

#endif
