/*
stop.h: how a run comes to an early end in good order: a signal, the time limit, a file, its launcher's death, data that
cannot be read any more.

The signals by which others ask a process to end are blocked and asked for between steps: no handler, no global
state, and never a half-made step. All ranks agree on stopping in the same step. RUN_DIR/stop is removed
when the run has stopped for it, so that the next job of a chain goes on.
*/
#ifndef LLMC_STOP_H
#define LLMC_STOP_H

#include "../ranks/dist.h"
#include <signal.h>

enum { EXIT_DONE = 0, EXIT_STOPPED = 3 };
// Why a run stops early: the number of a signal, or one of these. The largest of any rank counts.
enum { STOP_TIME = 1000, STOP_FILE, STOP_LAUNCHER, STOP_DATA };

typedef struct {
    const Dist *dist;
    Path file;
    double started, max_minutes; // 0: no limit
    double looked;               // when rank 0 last looked for the file
} Stop;

// The signals that end a run in good order: from people (INT, QUIT, a terminal that is closed: HUP), batch systems
// (TERM, USR1, USR2), limits of time (XCPU, ALRM, which lives through exec) and the power supply (PWR).
static inline void stop_signals(sigset_t *set) {
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU, SIGALRM, SIGPWR};
    struct sigaction hangup;
    sigemptyset(set);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) sigaddset(set, signals[i]);
    // nohup(1) ignores SIGHUP, which must not stop a run then; one that is blocked would come all the same.
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaddset(set, SIGHUP);
}

// To be called before any thread is made (MPI makes some), so that all inherit it.
static inline void stop_block_signals(void) {
    sigset_t set;
    stop_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

// Why the run is to stop after this step, 0: it is not; the same on all ranks. data: this rank can read on.
static inline int stop_reason(Stop *s, bool data) {
    sigset_t set;
    struct timespec none = {0, 0};
    stop_signals(&set);
    int reason = sigtimedwait(&set, NULL, &none);
    double now = clock_seconds();
    if (reason < 0) reason = 0;
    if (launcher_gone(&s->dist->launcher)) {
        launcher_outlive();
        reason = STOP_LAUNCHER;
    }
    if (s->max_minutes > 0 && now - s->started > 60 * s->max_minutes) reason = STOP_TIME;
    if (s->dist->rank == 0 && now - s->looked > 1) { // once a second: metadata servers serve many
        s->looked = now;
        FileKind kind = FILE_ABSENT;
        Error err; // what cannot be looked at now is looked at again in a second
        if (path_look(s->file.text, &kind, &err) && kind != FILE_ABSENT) reason = STOP_FILE;
    }
    if (!data) reason = STOP_DATA;
    return dist_max(s->dist, reason);
}

// After the checkpoint: says what the run stops by, and clears the stop file away for the next job of a chain.
static inline void stop_done(const Stop *s, int reason, char why[128]) {
    if (reason == STOP_FILE) snprintf(why, 128, "the file %.100s", s->file.text);
    else if (reason == STOP_TIME) snprintf(why, 128, "--max_minutes=%g", s->max_minutes);
    else if (reason == STOP_LAUNCHER) snprintf(why, 128, "the end of the process that started the ranks");
    else if (reason == STOP_DATA) snprintf(why, 128, "data that cannot be read");
    else snprintf(why, 128, "signal %d (%s)", reason, strsignal(reason));
    if (reason == STOP_FILE && s->dist->rank == 0 && unlink(s->file.text) != 0)
        warn("cannot remove %s: %s; the next run will stop for it", s->file.text, strerror(errno));
}

#endif
