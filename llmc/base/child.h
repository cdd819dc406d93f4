/*
child.h: another program's output as a stream: the user's own zstd, gzip, bzip2, xz and duckdb.

    Child c;
    child_start(&c, argv, fd, err)       argv[0] is looked for in PATH; fd becomes its standard input; -1: it has none
    child_read(&c, buffer, n)            0: the end; -1: an error (errno)
    child_end(&c, err)                   waits; false: it ended with an error, and err has its own first line on it
    child_kill(&c)                       in any case: nobody reads on

No shell stands between: names with spaces or quotes are what they are. What it writes to its standard error goes to an
unnamed file, so that a program that complains at length waits for nobody. Its signals are the usual ones, whatever this
process has blocked or ignores; it ends by SIGPIPE when its reader goes. Linux (memfd_create, pipe2).
*/
#ifndef LLMC_CHILD_H
#define LLMC_CHILD_H

#include "file.h"
#include <spawn.h>
#include <sys/wait.h>

#define CHILD_PIPE (1 << 20) // bytes between the two processes, where the system gives so many; may be tuned

typedef struct {
    pid_t pid;    // 0: there is none
    int out;      // what it writes; -1: closed
    int messages; // what it complains of
    char name[64];
} Child;

// All but the last argument of posix_spawnp: what its descriptors and signals are.
static inline int child_spawn(Child *c, const char *const *argv, int in, int out) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int why = posix_spawn_file_actions_init(&files);
    if (why) return why;
    why = posix_spawnattr_init(&attributes);
    if (!why) {
        if (in >= 0) why = posix_spawn_file_actions_adddup2(&files, in, 0);
        else why = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        if (!why) why = posix_spawn_file_actions_adddup2(&files, out, 1);
        if (!why) why = posix_spawn_file_actions_adddup2(&files, c->messages, 2);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (!why) why = posix_spawnp(&c->pid, argv[0], &files, &attributes, (char *const *)(uintptr_t)argv, environ);
        if (why) c->pid = 0;
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&files);
    return why;
}

// argv ends in NULL. *missing (may be NULL): there is no such program.
static inline bool child_start(Child *c, const char *const *argv, int in, bool *missing, Error *err) {
    int ends[2];
    memset(c, 0, sizeof *c);
    snprintf(c->name, sizeof c->name, "%s", argv[0]);
    c->out = -1;
    c->messages = memfd_create("messages", MFD_CLOEXEC);
    int why = c->messages < 0 ? errno : 0;
    if (!why && pipe2(ends, O_CLOEXEC) != 0) why = errno;
    else if (!why) {
        fcntl(ends[0], F_SETPIPE_SZ, CHILD_PIPE); // fewer where the user's pipes are limited
        why = child_spawn(c, argv, in, ends[1]);
        close(ends[1]);
        if (why) close(ends[0]);
        else c->out = ends[0];
    }
    if (missing) *missing = why == ENOENT;
    if (!why) return true;
    if (c->messages >= 0) close(c->messages);
    memset(c, 0, sizeof *c);
    c->out = c->messages = -1;
    return error_set(err, "cannot start the program %s: %s", argv[0], strerror(why));
}

// The file that is open in fd, opened once more at the same place. A lock (flock) belongs to who opened: a program that
// wrote through fd itself would hold this process's lock until it has noticed that this process was killed, and who
// comes next would take what was left for somebody's work. -1: it cannot be had; fd is a pipe.
static inline int child_own_file(int fd) {
    char name[40];
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return -1;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int own = open(name, O_WRONLY | O_CLOEXEC);
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (own < 0 || (at >= 0 && lseek(own, at, SEEK_SET) == at)) return own;
    close(own);
    return -1;
}

// The same with its standard output in `out`: a file, or a pipe that somebody else reads. This process's place in the
// file stays where it is.
static inline bool child_start_writing(Child *c, const char *const *argv, int in, int out, bool *missing, Error *err) {
    memset(c, 0, sizeof *c);
    snprintf(c->name, sizeof c->name, "%s", argv[0]);
    c->out = -1;
    c->messages = memfd_create("messages", MFD_CLOEXEC);
    int own = child_own_file(out), why = c->messages < 0 ? errno : child_spawn(c, argv, in, own >= 0 ? own : out);
    if (own >= 0) close(own);
    *missing = why == ENOENT;
    if (!why) return true;
    if (c->messages >= 0) close(c->messages);
    c->messages = -1;
    return error_set(err, "cannot start the program %s: %s", argv[0], strerror(why));
}

static inline ssize_t child_read(Child *c, void *buffer, size_t n) {
    for (;;) {
        ssize_t got = read(c->out, buffer, n);
        if (got >= 0 || errno != EINTR) return got;
    }
}

// Closes what is open and takes the process's end. Its wait(2) status.
static inline int child_reap(Child *c) {
    int status = 0;
    if (c->out >= 0) close(c->out);
    while (c->pid > 0 && waitpid(c->pid, &status, 0) < 0 && errno == EINTR) {}
    c->pid = 0;
    c->out = -1;
    return status;
}

static inline bool child_end(Child *c, Error *err) {
    char text[300] = "";
    if (c->pid == 0) return true;
    int status = child_reap(c);
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    ssize_t n = ok ? 0 : pread(c->messages, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    // "\ngzip: stdin: unexpected end of file\n"
    const char *line = text + strspn(text, "\n ");
    int length = (int)strcspn(line, "\n");
    close(c->messages);
    c->messages = -1;
    if (ok) return true;
    bool named = strncmp(line, c->name, strlen(c->name)) == 0;
    if (length) return error_set(err, "%s%s%.*s", named ? "" : c->name, named ? "" : ": ", length, line);
    if (WIFSIGNALED(status)) return error_set(err, "%s was ended by signal %d", c->name, WTERMSIG(status));
    return error_set(err, "%s ended with exit code %d", c->name, WEXITSTATUS(status));
}

static inline void child_kill(Child *c) {
    if (c->pid > 0) kill(c->pid, SIGTERM);
    child_reap(c);
    if (c->messages > 0) close(c->messages);
    c->messages = -1;
}

#endif
