/*
window.h: the bytes of a file, plain or packed, of which a part is in memory at a time.

    ByteWindow w;
    window_open(&w, path, err)       a file: mapped, or through the unpacker that its first bytes ask for
    w.data, w.size, w.offset         what is there, and where it stands in the unpacked bytes
    window_more(&w)                  more of it; false: w.end, there is no more
    window_drop(&w, n)               the first n bytes are done with
    window_close(&w)

gzip, bzip2, xz and zstd are unpacked by the programs of these names, which run beside this one; several members behind
each other are one file, as those programs have it. Where one ends with an error (a truncated file, a wrong checksum),
the window ends there and w.damage says so: what came before is given out. Of a mapped file all is there at once and
nothing is copied.
*/
#ifndef LLMC_WINDOW_H
#define LLMC_WINDOW_H

#include "../base/child.h"

#define WINDOW_READ ((size_t)1 << 20) // bytes asked for at a time

typedef struct {
    const char *data;
    size_t size;
    int64_t offset; // of data[0]
    bool end;       // nothing follows what is there
    bool packed;    // it comes from another program
    Error *damage;  // why it ended early, or NULL
    MappedFile file;
    Child child;
    Str buffer; // of a packed file; data points into it
} ByteWindow;

// The program that unpacks a file with these first bytes, with its arguments; NULL: it is not packed.
static inline const char *const *window_unpacker(const uint8_t *p, size_t n) {
    static const char *const gzip[] = {"gzip", "-dc", NULL}, *const bzip2[] = {"bzip2", "-dc", NULL},
                             *const xz[] = {"xz", "-dc", NULL},
                             // frames with windows of up to 2 GiB, as --ultra and --long make them
                                 *const zstd[] = {"zstd", "-dcq", "--long=31", NULL};
    if (n >= 3 && memcmp(p, "\x1f\x8b\x08", 3) == 0) return gzip;
    if (n >= 10 && memcmp(p, "BZh", 3) == 0 &&
        (memcmp(p + 4, "\x31\x41\x59\x26\x53\x59", 6) == 0 || memcmp(p + 4, "\x17\x72\x45\x38\x50\x90", 6) == 0))
        return bzip2;
    if (n >= 6 && memcmp(p, "\xfd\x37zXZ", 6) == 0) return xz;
    if (n >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0) return zstd;
    return NULL;
}

// The output of a program; fd, or -1, is its input.
static inline bool window_of_program(ByteWindow *w, const char *const *argv, int fd, const char *path,
                                     const char *advice, Error *err) {
    bool missing;
    Error why;
    memset(w, 0, sizeof *w);
    w->packed = true;
    w->data = "";
    if (child_start(&w->child, argv, fd, &missing, &why)) return true;
    if (!missing) return error_set(err, "%s cannot be read: %s", path, why.text);
    return error_set(err, "%s is read through the program %s, which is not there; %s", path, argv[0], advice);
}

// Bytes that are in memory already; they must outlive the window.
static inline void window_of_memory(ByteWindow *w, const char *data, size_t size, int64_t offset) {
    memset(w, 0, sizeof *w);
    w->data = data;
    w->size = size;
    w->offset = offset;
    w->end = true;
}

static inline bool window_open(ByteWindow *w, const char *path, Error *err) {
    MappedFile file;
    if (!file_map(&file, path, err)) return false;
    const char *const *unpacker = window_unpacker(file.data, file.size);
    if (!unpacker) {
        window_of_memory(w, (const char *)file.data, file.size, 0);
        w->file = file;
        if (file.mapping) madvise(file.mapping, file.size, MADV_SEQUENTIAL);
        return true;
    }
    file_unmap(&file);
    struct stat st;
    int fd = file_open(path, &st, err);
    if (fd < 0) return false;
    Path advice = path_of("install it (Debian: apt-get install %s), or unpack the file", unpacker[0]);
    if (strcmp(unpacker[0], "xz") == 0) advice = path_of("install it (Debian: xz-utils), or unpack the file");
    bool ok = window_of_program(w, unpacker, fd, path, advice.text, err);
    close(fd);
    return ok;
}

static inline void window_damage(ByteWindow *w, const char *what) {
    if (!w->damage) w->damage = (Error *)mem_alloc(sizeof(Error));
    error_set(w->damage, "%s", what);
    w->end = true;
}

// As many bytes again as are there, so that who needs all of a long document copies it a few times only.
static inline bool window_more(ByteWindow *w) {
    if (w->end) return false;
    Str *b = &w->buffer;
    size_t front = b->data ? (size_t)(w->data - b->data) : 0, wanted = w->size > WINDOW_READ ? w->size : WINDOW_READ;
    if (front) memmove(b->data, w->data, w->size);
    b->data = (char *)mem_grow(b->data, &b->capacity, w->size + wanted, 1);
    size_t before = w->size;
    while (w->size < before + wanted) {
        ssize_t n = child_read(&w->child, b->data + w->size, before + wanted - w->size);
        Error why;
        if (n > 0) {
            w->size += (size_t)n;
            continue;
        }
        if (n < 0) {
            window_damage(w, strerror(errno));
            child_kill(&w->child);
        } else if (!child_end(&w->child, &why)) window_damage(w, why.text);
        w->end = true;
        break;
    }
    w->data = b->data;
    return w->size > before;
}

// At least n bytes, as far as there are so many.
static inline bool window_want(ByteWindow *w, size_t n) {
    while (w->size < n && window_more(w)) {}
    return w->size >= n;
}

static inline void window_drop(ByteWindow *w, size_t n) {
    w->data += n;
    w->size -= n;
    w->offset += (int64_t)n;
}

// Leaves out the next n bytes, also those that are not there yet; false: there are fewer.
static inline bool window_skip(ByteWindow *w, int64_t n) {
    for (;;) {
        size_t step = (uint64_t)n < w->size ? (size_t)n : w->size;
        window_drop(w, step);
        n -= (int64_t)step;
        if (n == 0) return true;
        if (!window_more(w)) return false;
    }
}

static inline void window_close(ByteWindow *w) {
    if (w->packed) child_kill(&w->child);
    file_unmap(&w->file);
    free(w->buffer.data);
    free(w->damage);
    memset(w, 0, sizeof *w);
}

#endif
