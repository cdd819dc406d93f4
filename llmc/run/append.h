/*
append.h: a file that grows beside a run and that the run can do without: events.jsonl, samples.jsonl, TensorBoard's
events, MLflow's metrics.

What cannot be written costs the file those bytes and the user one warning, never the run: nothing is kept for later
(lines.h does that for metrics.jsonl), and what was written in part is cut off again.
*/
#ifndef LLMC_APPEND_H
#define LLMC_APPEND_H

#include "../base/file.h"

typedef struct {
    int fd; // 0: not open
    Path path;
    off_t size;  // bytes of whole records
    bool warned; // of this file
} AppendFile;

// One warning for a file, whatever else becomes of it.
static inline void append_warn(AppendFile *f, const char *why) {
    if (!f->warned) warn("cannot write %s: %s; training goes on without it", f->path.text, why);
    f->warned = true;
}

static inline void append_close(AppendFile *f) {
    if (f->fd > 0) close(f->fd);
    f->fd = 0;
}

// Opens a file, which may be new, to go on behind what is there.
static inline bool append_open(AppendFile *f, const char *path) {
    struct stat st;
    f->path = path_of("%s", path);
    f->fd = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    bool ok = f->fd > 0 && fstat(f->fd, &st) == 0;
    if (!ok || !S_ISREG(st.st_mode)) {
        append_warn(f, ok ? "it is not a regular file" : strerror(errno));
        append_close(f);
        return false;
    }
    f->size = st.st_size;
    return true;
}

// Writes a whole record or nothing of it.
static inline void append_add(AppendFile *f, const void *bytes, size_t n) {
    size_t done = 0;
    if (f->fd <= 0) return;
    while (done < n) {
        ssize_t wrote = write(f->fd, (const char *)bytes + done, n - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) break;
        done += (size_t)wrote;
    }
    if (done == n) {
        f->size += (off_t)n;
        return;
    }
    append_warn(f, strerror(errno ? errno : ENOSPC));
    if (done > 0 && ftruncate(f->fd, f->size) != 0) append_close(f); // behind a part of a record nothing is read
}

// The same for a line of its own. What a kill cut short before it ends with a newline first.
static inline void append_line(AppendFile *f, const Str *line) {
    char last = '\n';
    int fd = f->fd > 0 && f->size > 0 ? open(f->path.text, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0 && pread(fd, &last, 1, f->size - 1) != 1) last = '\n';
    if (fd >= 0) close(fd);
    if (last != '\n') append_add(f, "\n", 1);
    append_add(f, line->data, line->size);
}

#endif
