/*
common.h: what every other header stands on: errors, memory, strings, files, time.

Errors. A function that can fail for a reason outside the program (a file, a user's value) returns
bool and takes an Error* last; on false the Error holds one line that says what was expected, what
was found, where, and what to do next. Nothing in llmc/ ends the process on bad input: the verbs do,
through fail(), so that tests and fuzzers can call everything in-process. The exception is memory:
mem_alloc() ends the process with the size that could not be had.

Files are written through OutFile: to a temporary name beside the target, flushed, synced, then
renamed, so that a file with its final name is always whole (POSIX rename(2), fsync(2)).

This header and all others in llmc/ outside llmc/cpu and llmc/cuda compile as C11 and as C++17.
*/
#ifndef LLMC_COMMON_H
#define LLMC_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// HD marks a function that runs on the host and on a CUDA device.
#ifdef __CUDACC__
#define HD __host__ __device__
#else
#define HD
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "every file format here is little-endian; this code reads and writes them as memory"
#endif

// ---------------------------------------------------------------- errors

typedef struct {
    char text[1024]; // one line without a newline; empty: no error
} Error;

#if defined(__GNUC__)
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#else
#define PRINTF_LIKE(f, a)
#endif

// Fills err (which may be NULL) and returns false, so that callers write `return error_set(err, ...)`.
PRINTF_LIKE(2, 3) static inline bool error_set(Error *err, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return false;
}

// Prints one line to stderr and ends the process with exit code 1. For the verbs, not for library code.
PRINTF_LIKE(1, 2) static inline void fail(const char *format, ...) {
    char line[1100];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "error: %s\n", line);
    exit(1);
}

PRINTF_LIKE(1, 2) static inline void warn(const char *format, ...) {
    char line[1100];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "warning: %s\n", line);
}

// ---------------------------------------------------------------- memory

// Zeroed memory, aligned to 64 bytes (one cache line, one AVX-512 register); freed with free().
// Ends the process when there is none: nothing sensible can follow.
static inline void *mem_alloc(size_t bytes) {
    void *p = NULL;
    size_t rounded = (bytes + 63) / 64 * 64;
    if (rounded < bytes || posix_memalign(&p, 64, rounded ? rounded : 64) != 0)
        fail("out of memory: %.2f GiB could not be allocated; try a smaller model, --batch_size or --seq_len",
             (double)bytes / (1024.0 * 1024.0 * 1024.0));
    memset(p, 0, rounded ? rounded : 64);
    return p;
}

// Grows a plain array (elements of `size` bytes) so that it holds at least `need`; doubles, so that
// appending n elements costs O(n). Returns the array, *capacity updated.
static inline void *mem_grow(void *array, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity) return array;
    size_t wanted = *capacity ? *capacity : 64;
    while (wanted < need) wanted *= 2;
    void *grown = realloc(array, wanted * size);
    if (!grown)
        fail("out of memory: %.2f GiB could not be allocated", (double)(wanted * size) / (1024.0 * 1024.0 * 1024.0));
    *capacity = wanted;
    return grown;
}

// ---------------------------------------------------------------- strings

// A growing byte string, always NUL-terminated; {0} is the empty string. free(s.data) when done.
typedef struct {
    char *data;
    size_t size, capacity;
} Str;

static inline void str_add(Str *s, const void *bytes, size_t n) {
    s->data = (char *)mem_grow(s->data, &s->capacity, s->size + n + 1, 1);
    if (n) memcpy(s->data + s->size, bytes, n);
    s->size += n;
    s->data[s->size] = 0;
}

static inline void str_puts(Str *s, const char *text) { str_add(s, text, strlen(text)); }

PRINTF_LIKE(2, 3) static inline void str_printf(Str *s, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    s->data = (char *)mem_grow(s->data, &s->capacity, s->size + (size_t)n + 1, 1);
    vsnprintf(s->data + s->size, (size_t)n + 1, format, again);
    va_end(again);
    s->size += (size_t)n;
}

// Length of the valid sequence at p < end, its code point in *c; 0: not valid UTF-8 (Unicode, table 3-7).
static inline int utf8_decode(const uint8_t *p, const uint8_t *end, uint32_t *c) {
    ptrdiff_t n = end - p;
    uint32_t b = p[0];
    if (b < 0x80) {
        *c = b;
        return 1;
    }
    if (b < 0xe0) {
        if (b < 0xc2 || n < 2 || (p[1] & 0xc0) != 0x80) return 0;
        *c = (b & 31) << 6 | (p[1] & 63u);
        return 2;
    }
    if (b < 0xf0) {
        if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return 0;
        *c = (b & 15) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
        return *c < 0x800 || (*c >= 0xd800 && *c < 0xe000) ? 0 : 3;
    }
    if (b > 0xf4 || n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80) return 0;
    *c = (b & 7) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    return *c < 0x10000 || *c > 0x10ffff ? 0 : 4;
}

// Writes 1 to 4 bytes.
static inline int utf8_put(uint8_t *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (uint8_t)(0x80 | (c & 63));
    out[0] = (uint8_t)(c | (n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0));
    return n;
}

// A list of choices, X(ENUMERATOR, "name on the command line") ..., makes their enum and the text "a|b|c":
//     enum { LIST(CHOICE_ENUM) };  const char *choices = CHOICES(LIST);
#define CHOICE_ENUM(id, text) id,
#define CHOICE_NAME(id, text) text,
#define CHOICE_TEXT(id, text) "|" text
#define CHOICES(list) (&(list(CHOICE_TEXT))[1])

static inline char *str_copy(const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = (char *)mem_alloc(n);
    memcpy(copy, text, n);
    return copy;
}

static inline bool str_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && memcmp(text + n - k, end, k) == 0;
}

// ---------------------------------------------------------------- paths

#define PATH_SIZE 4096
typedef struct {
    char text[PATH_SIZE];
} Path;

PRINTF_LIKE(1, 2) static inline Path path_of(const char *format, ...) {
    Path p;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(p.text, sizeof p.text, format, args);
    va_end(args);
    if (n >= (int)sizeof p.text) fail("path longer than %d bytes: %.100s...", PATH_SIZE, p.text);
    return p;
}

static inline bool path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

static inline bool path_is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// Makes a folder and all that lead to it; an existing one is fine.
static inline bool path_make_folder(const char *path, Error *err) {
    Path p = path_of("%s", path);
    for (char *c = p.text + 1;; c++) {
        if (*c != '/' && *c != 0) continue;
        char kept = *c;
        *c = 0;
        if (mkdir(p.text, 0777) != 0 && errno != EEXIST)
            return error_set(err, "cannot make the folder %s: %s", p.text, strerror(errno));
        *c = kept;
        if (!kept) break;
    }
    if (!path_is_folder(path)) return error_set(err, "%s exists and is not a folder", path);
    return true;
}

// fsync of a folder, so that a rename inside it survives a power cut.
static inline bool path_sync_folder(const char *path, Error *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return error_set(err, "cannot open the folder %s: %s", path, strerror(errno));
    int rc = fsync(fd);
    int why = errno;
    close(fd);
    // Some network file systems refuse to sync a folder (EINVAL); their rename is synchronous anyway.
    if (rc != 0 && why != EINVAL) return error_set(err, "cannot sync the folder %s: %s", path, strerror(why));
    return true;
}

static inline Path path_parent(const char *path) {
    Path p = path_of("%s", path);
    size_t n = strlen(p.text);
    while (n > 1 && p.text[n - 1] == '/') p.text[--n] = 0;
    char *slash = strrchr(p.text, '/');
    if (!slash) return path_of(".");
    if (slash == p.text) slash[1] = 0;
    else *slash = 0;
    return p;
}

// Removes a folder and what is in it; used for half-written checkpoints and for old ones. A missing
// folder is fine.
static inline bool path_remove_tree(const char *path, Error *err) {
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? true : error_set(err, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return unlink(path) == 0 ? true : error_set(err, "cannot remove %s: %s", path, strerror(errno));
    DIR *dir = opendir(path);
    if (!dir) return error_set(err, "cannot open the folder %s: %s", path, strerror(errno));
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        Path inner = path_of("%s/%s", path, e->d_name);
        ok = path_remove_tree(inner.text, err);
    }
    closedir(dir);
    if (ok && rmdir(path) != 0) return error_set(err, "cannot remove the folder %s: %s", path, strerror(errno));
    return ok;
}

typedef struct {
    char **items;
    int count;
} StrList;

static inline void str_list_add(StrList *list, const char *text) {
    list->items = (char **)realloc(list->items, sizeof(char *) * (size_t)(list->count + 1));
    if (!list->items) fail("out of memory");
    list->items[list->count++] = str_copy(text);
}

static inline void str_list_free(StrList *list) {
    for (int i = 0; i < list->count; i++) free(list->items[i]);
    free(list->items);
    list->items = NULL;
    list->count = 0;
}

// Expands "FILE,FILE,GLOB" into existing paths: the comma-separated parts in the order given, each
// glob's matches sorted by byte value. A part that matches nothing is an error that names it.
static inline bool path_expand(StrList *out, const char *patterns, Error *err) {
    Path all = path_of("%s", patterns);
    bool any = false;
    char *rest = NULL;
    for (char *part = strtok_r(all.text, ",", &rest); part; part = strtok_r(NULL, ",", &rest)) {
        glob_t found;
        memset(&found, 0, sizeof found);
        int rc = glob(part, GLOB_ERR | GLOB_BRACE | GLOB_TILDE, NULL, &found);
        if (rc != 0) {
            globfree(&found);
            if (rc == GLOB_NOMATCH) return error_set(err, "no such file: %s", part);
            return error_set(err, "cannot read the folders of %s: %s", part, strerror(errno));
        }
        for (size_t i = 0; i < found.gl_pathc; i++) str_list_add(out, found.gl_pathv[i]);
        any = true;
        globfree(&found);
    }
    if (!any) return error_set(err, "an empty list of files was given");
    return true;
}

// ---------------------------------------------------------------- reading

// A memory-mapped file (mmap), read-only. An empty file has data == "" and size 0.
typedef struct {
    const uint8_t *data;
    size_t size;
    void *mapping; // NULL for an empty file
} MappedFile;

static inline bool file_map(MappedFile *f, const char *path, Error *err) {
    memset(f, 0, sizeof *f);
    f->data = (const uint8_t *)"";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_set(err, "cannot open %s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(err, "%s is not a regular file", path);
    }
    if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            int why = errno;
            close(fd);
            return error_set(err, "cannot map %s (%lld bytes): %s", path, (long long)st.st_size, strerror(why));
        }
        f->mapping = p;
        f->data = (const uint8_t *)p;
        f->size = (size_t)st.st_size;
    }
    close(fd);
    return true;
}

static inline void file_unmap(MappedFile *f) {
    if (f->mapping) munmap(f->mapping, f->size);
    memset(f, 0, sizeof *f);
}

// ---------------------------------------------------------------- writing

// A file that is there whole or not at all (atomic rename). Errors stick: write as much as you like and look at the
// result of out_commit() alone. out_abort() removes the temporary file.
typedef struct {
    FILE *stream;
    Path path, temporary;
    int failed; // errno of the first failure
} OutFile;

static inline bool out_open(OutFile *f, const char *path, Error *err) {
    memset(f, 0, sizeof *f);
    f->path = path_of("%s", path);
    f->temporary = path_of("%s.tmp.%d", path, (int)getpid());
    f->stream = fopen(f->temporary.text, "wb");
    if (!f->stream) return error_set(err, "cannot write %s: %s", path, strerror(errno));
    setvbuf(f->stream, NULL, _IOFBF, 1 << 20);
    return true;
}

static inline void out_write(OutFile *f, const void *bytes, size_t n) {
    if (f->failed || n == 0) return;
    errno = 0;
    if (fwrite(bytes, 1, n, f->stream) != n) f->failed = errno ? errno : EIO;
}

static inline void out_puts(OutFile *f, const char *text) { out_write(f, text, strlen(text)); }

static inline void out_abort(OutFile *f) {
    if (f->stream) fclose(f->stream);
    f->stream = NULL;
    unlink(f->temporary.text);
}

static inline bool out_commit(OutFile *f, Error *err) {
    errno = 0;
    if (!f->failed && fflush(f->stream) != 0) f->failed = errno ? errno : EIO;
    if (!f->failed && fsync(fileno(f->stream)) != 0 && errno != EINVAL) f->failed = errno;
    if (fclose(f->stream) != 0 && !f->failed) f->failed = errno ? errno : EIO;
    f->stream = NULL;
    if (!f->failed && rename(f->temporary.text, f->path.text) != 0) f->failed = errno;
    if (f->failed) {
        unlink(f->temporary.text);
        return error_set(err, "cannot write %s: %s", f->path.text, strerror(f->failed));
    }
    Path folder = path_parent(f->path.text);
    return path_sync_folder(folder.text, err);
}

static inline bool file_write_all(const char *path, const void *bytes, size_t n, Error *err) {
    OutFile f;
    if (!out_open(&f, path, err)) return false;
    out_write(&f, bytes, n);
    return out_commit(&f, err);
}

// ---------------------------------------------------------------- time and numbers

// Seconds on a clock that only goes forward.
static inline double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// The time of day `seconds` from now, as pthread_cond_timedwait wants it.
static inline struct timespec clock_deadline(double seconds) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    t.tv_sec += (time_t)seconds + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static inline int environment_int(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

static inline int64_t int64_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t int64_max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
