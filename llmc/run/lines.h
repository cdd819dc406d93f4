/*
lines.h: a file that grows by whole lines: run.log, metrics.jsonl, time_budget.jsonl.

A full disk must not end a run for its records. Lines that the disk did not take are kept in memory, said once in a
warning, and tried again with the next ones; a part of a line is never left behind. lines_finish() says at the end if
some are still missing.
*/
#ifndef LLMC_LINES_H
#define LLMC_LINES_H

#include "../base/file.h"

typedef struct {
    int fd; // 0: not open
    Path path;
    off_t size;  // bytes of whole lines
    Str pending; // lines that the file has not got yet
    bool torn;   // a part of a line stands behind them, which could not be cut off yet
    bool warned;
} LineFile;

// Goes on behind the first `size` bytes of a file, which may be new; what stands behind them is cut off. size < 0:
// behind all that is there.
static inline bool lines_open(LineFile *f, const char *path, off_t size, Error *err) {
    if (f->fd > 0) close(f->fd);
    f->pending.size = 0;
    f->warned = f->torn = false;
    f->size = size;
    f->path = path_of("%s", path);
    f->fd = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    struct stat st;
    bool ok = f->fd > 0 && fstat(f->fd, &st) == 0;
    if (ok && !S_ISREG(st.st_mode)) return error_set(err, "cannot write %s: it is not a regular file", path);
    if (ok && size < 0) f->size = st.st_size;
    if (ok && (size < 0 || ftruncate(f->fd, size) == 0)) return true;
    return error_set(err, "cannot write %s: %s", path, strerror(errno));
}

// Tries to write what is pending. False, with errno: the disk did not take all, and the file has none of it.
static inline bool lines_flush(LineFile *f) {
    size_t done = 0;
    if (f->torn && ftruncate(f->fd, f->size) != 0) return false;
    f->torn = false;
    while (done < f->pending.size) {
        ssize_t n = write(f->fd, f->pending.data + done, f->pending.size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) break;
        done += (size_t)n;
    }
    if (done == f->pending.size) {
        f->size += (off_t)done;
        f->pending.size = 0;
        f->warned = false;
        return true;
    }
    int why = errno;
    f->torn = done > 0 && ftruncate(f->fd, f->size) != 0;
    errno = why;
    return false;
}

// Appends whole lines.
static inline void lines_add(LineFile *f, const char *lines, size_t n) {
    str_add(&f->pending, lines, n);
    if (lines_flush(f) || f->warned) return;
    f->warned = true;
    warn("cannot write %s: %s; its lines are kept in memory for now", f->path.text, strerror(errno));
}

// Closes the file. False: its last lines could not be written.
static inline bool lines_finish(LineFile *f, Error *err) {
    bool ok = true;
    if (f->fd > 0) {
        ok = lines_flush(f);
        if (close(f->fd) != 0 && ok && errno != EINTR) ok = false;
        if (!ok) error_set(err, "the last lines of %s could not be written: %s", f->path.text, strerror(errno));
    }
    free(f->pending.data);
    memset(f, 0, sizeof *f);
    return ok;
}

#endif
