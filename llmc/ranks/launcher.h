/*
launcher.h: the process that started this rank (mpirun, orted, slurmstepd, ...), and whether it is still there.

A launcher that is killed cannot end its ranks, and nobody reads what they say from then on: they end by themselves,
after a checkpoint where they train (stop.h, watchdog.h). Only processes that a launcher started have one: what a shell
started in the background (nohup) goes on when the shell has ended.

It is known by its environment, which lacks the variable that it gave to its ranks; between it and this process there
may be wrapper scripts, which have it. A process whose parent has ended gets another one, so a look at the parent's
number is enough: getppid(2), no signal. (PR_SET_PDEATHSIG would also come when a thread of the launcher ends, and Open
MPI starts ranks from threads where there are many on a node.)

Limits: Linux's /proc. A launcher outside this process's PID namespace is not seen.
*/
#ifndef LLMC_LAUNCHER_H
#define LLMC_LAUNCHER_H

#include "../base/file.h"
#include <dlfcn.h>

// More wrappers than this are none.
#define LAUNCHER_WRAPPERS 16
// Seconds until MPI may end a process whose launcher has ended. A checkpoint takes seconds to minutes.
#define LAUNCHER_OUTLIVE_SECONDS 600
// Seconds between two looks whether it is there. Below the second that Open MPI leaves.
#define LAUNCHER_LOOK 0.25

typedef struct {
    pid_t child, parent; // this process or the outermost wrapper, and the launcher; parent 0: there is none
} Launcher;

// The parent of a process; 0: the process is not there; -1: it could not be looked at.
static inline pid_t launcher_parent_of(pid_t process) {
    char text[512];
    if (process == getpid()) return getppid();
    int fd = open(path_of("/proc/%d/stat", (int)process).text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || errno == ESRCH ? 0 : -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    int why = errno, parent = 0;
    char state = 0;
    close(fd);
    if (n < 0) return why == ESRCH ? 0 : -1;
    text[n] = 0;
    const char *behind = strrchr(text, ')'); // the name before it may hold anything
    if (!behind || sscanf(behind + 1, " %c %d", &state, &parent) != 2) return -1;
    return state == 'Z' || state == 'X' ? 0 : (pid_t)parent;
}

// Does a process have this variable in its environment? What may not be looked at belongs to somebody else: no.
static inline bool launcher_has(pid_t process, const char *variable) {
    Str all;
    char piece[4096];
    ssize_t n;
    memset(&all, 0, sizeof all);
    int fd = open(path_of("/proc/%d/environ", (int)process).text, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = read(fd, piece, sizeof piece)) > 0) str_add(&all, piece, (size_t)n);
    if (fd >= 0) close(fd);
    bool found = false;
    size_t length = strlen(variable);
    for (size_t at = 0; at < all.size && !found; at += strlen(all.data + at) + 1)
        found = strncmp(all.data + at, variable, length) == 0 && all.data[at + length] == '=';
    free(all.data);
    return found;
}

// Looks for the launcher; to be called at the start.
static inline Launcher launcher_find(void) {
    static const char *const given[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MPI_LOCALRANKID"};
    Launcher l = {0, 0};
    const char *variable = NULL;
    for (size_t i = 0; i < sizeof given / sizeof given[0] && !variable; i++)
        if (getenv(given[i])) variable = given[i];
    if (!variable && getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID")) variable = "SLURM_PROCID";
    if (!variable) return l;
    l.child = getpid();
    l.parent = getppid();
    for (int i = 0; i < LAUNCHER_WRAPPERS && l.parent > 1 && launcher_has(l.parent, variable); i++) {
        pid_t next = launcher_parent_of(l.parent);
        if (next <= 0) break;
        l.child = l.parent;
        l.parent = next;
    }
    return l;
}

// Has it ended?
static inline bool launcher_gone(const Launcher *l) {
    if (!l->parent) return false;
    pid_t now = launcher_parent_of(l->child);
    return now >= 0 && now != l->parent;
}

// Open MPI ends a process about a second after its launcher has ended (a thread of its own notices, and calls what
// MPI_Abort calls). Makes it wait long enough for a checkpoint. Its setting for debuggers does that, a variable that it
// lets nobody set any more once it runs; other MPI libraries lack it, and need nothing.
static inline void launcher_outlive(void) {
    int *delay = (int *)dlsym(RTLD_DEFAULT, "opal_abort_delay");
    if (delay) *delay = LAUNCHER_OUTLIVE_SECONDS;
}

#endif
