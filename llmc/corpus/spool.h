/*
spool.h: bytes that one pass writes and a later one reads, packed by zstd on the way or as they are.

    spool_write_to(&s, fd, pack, err); spool_put(&s, bytes, n); ... spool_written(&s, err)
    spool_read_from(&s, fd, 0, pack, err); spool_get(&s, bytes, n, err) ...
    spool_close(&s)                       in any case; fd stays the caller's

Errors of writing stick: spool_written() says them. Nothing that is read is shorter than asked for without an error.
*/
#ifndef LLMC_SPOOL_H
#define LLMC_SPOOL_H

#include "../base/child.h"

#define SPOOL_BUFFER ((size_t)1 << 20)

typedef struct {
    int fd;     // the file; -1: closed
    int stream; // what is written to or read from: the file, or a pipe to or from zstd
    Child zstd;
    Str buffer; // not yet written; or read, from `at` on not yet given out
    size_t at;
    int failed; // errno of the first failure
} Spool;

static inline void spool_close(Spool *s) {
    if (s->stream >= 0 && s->stream != s->fd && s->stream != s->zstd.out) close(s->stream);
    child_kill(&s->zstd);
    free(s->buffer.data);
    memset(s, 0, sizeof *s);
    s->fd = s->stream = s->zstd.out = s->zstd.messages = -1;
}

static inline void spool_init(Spool *s, int fd) {
    memset(s, 0, sizeof *s);
    s->zstd.out = s->zstd.messages = -1;
    s->fd = s->stream = fd;
}

static inline bool spool_missing(Error *err) {
    return error_set(err, "the program zstd is not there; install it (Debian: zstd), or give --pack=none");
}

static inline bool spool_write_to(Spool *s, int fd, bool pack, Error *err) {
    static const char *const argv[] = {"zstd", "-q", "-1", "-c", NULL};
    int ends[2];
    bool missing;
    spool_init(s, fd);
    if (!pack) return true;
    if (pipe2(ends, O_CLOEXEC) != 0) return error_set(err, "cannot make a pipe: %s", strerror(errno));
    bool ok = child_start_writing(&s->zstd, argv, ends[0], fd, &missing, err);
    close(ends[0]);
    if (ok) s->stream = ends[1];
    else close(ends[1]);
    return ok || !missing ? ok : spool_missing(err);
}

static inline void spool_flush(Spool *s) {
    for (size_t at = 0; at < s->buffer.size && !s->failed;) {
        ssize_t n = write(s->stream, s->buffer.data + at, s->buffer.size - at);
        if (n >= 0) at += (size_t)n;
        else if (errno != EINTR) s->failed = errno;
    }
    s->buffer.size = 0;
}

static inline void spool_put(Spool *s, const void *bytes, size_t n) {
    if (!s->failed) str_add(&s->buffer, bytes, n);
    if (s->buffer.size >= SPOOL_BUFFER) spool_flush(s);
}

// All is in the file; false: it is not.
static inline bool spool_written(Spool *s, Error *err) {
    Error why;
    bool packed = s->zstd.pid > 0;
    spool_flush(s);
    if (packed) close(s->stream), s->stream = -1;
    if (packed && !child_end(&s->zstd, &why)) return error_set(err, "cannot write a scratch file: %.900s", why.text);
    return !s->failed ? true : error_set(err, "cannot write a scratch file: %s", strerror(s->failed));
}

// From byte `from` of the file on.
static inline bool spool_read_from(Spool *s, int fd, int64_t from, bool packed, Error *err) {
    static const char *const argv[] = {"zstd", "-dcq", NULL};
    bool missing = false;
    spool_init(s, fd);
    if (lseek(fd, from, SEEK_SET) != from) return error_set(err, "cannot read a scratch file: %s", strerror(errno));
    if (!packed) return true;
    bool ok = child_start(&s->zstd, argv, fd, &missing, err);
    s->stream = s->zstd.out;
    return ok || !missing ? ok : spool_missing(err);
}

// Exactly n bytes.
static inline bool spool_get(Spool *s, void *bytes, size_t n, Error *err) {
    char *to = (char *)bytes;
    while (n > 0) {
        size_t have = s->buffer.size - s->at, take = have < n ? have : n;
        if (take) memcpy(to, s->buffer.data + s->at, take);
        to += take, n -= take, s->at += take;
        if (n == 0) break;
        s->buffer.data = (char *)mem_grow(s->buffer.data, &s->buffer.capacity, SPOOL_BUFFER, 1);
        ssize_t got = read(s->stream, s->buffer.data, SPOOL_BUFFER);
        if (got < 0 && errno == EINTR) got = 0;
        else if (got <= 0) {
            Error why;
            if (got == 0 && s->zstd.pid > 0 && !child_end(&s->zstd, &why))
                return error_set(err, "cannot read what was written before: %.900s", why.text);
            return error_set(err, "cannot read what was written before: %s",
                             got ? strerror(errno) : "it ends too early");
        }
        s->at = 0;
        s->buffer.size = (size_t)got;
    }
    return true;
}

#endif
