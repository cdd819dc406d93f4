/*
file.h: paths, folders, files to read and files to write.

An error is never taken for absence: only ENOENT means "there is none". On network file systems stat, open and
readdir fail for a moment (ESTALE, EIO, EMFILE), and a program that takes this for an empty folder starts again from
nothing. So nobody else here calls stat, opendir, readdir or fopen.

Only regular files are read: a FIFO would wait for ever, a device has no end. What is read whole is read by read(2),
whose errors are errors; a mapping (file_map, for what is large) turns them into SIGBUS.

Files are written through OutFile: to a temporary name beside the target (O_EXCL), flushed, synced, then renamed, so
that a file with its final name is always whole (POSIX rename(2), fsync(2)). What a killed process left under a
temporary name is removed by the next that writes the same file; SIGTERM, SIGINT and their like wait until the process
has removed it.
*/
#ifndef LLMC_FILE_H
#define LLMC_FILE_H

#include "common.h"
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef _OPENMP
#include <omp.h>
#endif

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

typedef enum { FILE_ABSENT, FILE_REGULAR, FILE_FOLDER, FILE_OTHER } FileKind;

// What stands at a path, links followed. A link to nothing is an error: somebody meant a file to be there.
static inline bool path_look(const char *path, FileKind *kind, Error *err) {
    struct stat st;
    *kind = FILE_ABSENT;
    if (stat(path, &st) == 0) {
        *kind = S_ISREG(st.st_mode) ? FILE_REGULAR : S_ISDIR(st.st_mode) ? FILE_FOLDER : FILE_OTHER;
        return true;
    }
    if (errno == ENAMETOOLONG) return true; // nothing can have such a name
    if (errno != ENOENT) return error_set(err, "cannot look at %s: %s", path, strerror(errno));
    if (lstat(path, &st) == 0) return error_set(err, "%s is a link to a file that is not there", path);
    return errno == ENOENT ? true : error_set(err, "cannot look at %s: %s", path, strerror(errno));
}

// What a file is, whatever its names: links lead to the same. {0, 0}: none.
typedef struct {
    uint64_t device, inode;
} FileId;

static inline bool file_id_same(FileId a, FileId b) {
    return a.device == b.device && a.inode == b.inode && (a.device || a.inode);
}

static inline bool path_id(const char *path, FileId *id, Error *err) {
    FileKind kind;
    struct stat st;
    memset(id, 0, sizeof *id);
    if (!path_look(path, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    if (stat(path, &st) != 0) return error_set(err, "cannot look at %s: %s", path, strerror(errno));
    id->device = (uint64_t)st.st_dev, id->inode = (uint64_t)st.st_ino;
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

// ---------------------------------------------------------------- folders

// fsync of a folder, so that a rename inside it survives a power cut.
static inline bool path_sync_folder(const char *path, Error *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return error_set(err, "cannot open the folder %s: %s", path, strerror(errno));
    int rc = fsync(fd);
    int why = errno;
    close(fd);
    // Some network file systems refuse to sync a folder (EINVAL); their rename is synchronous anyway.
    if (rc != 0 && why != EINVAL) return error_set(err, "cannot sync the folder %s: %s", path, strerror(why));
    return true;
}

// Makes a folder and all that lead to it, and syncs what they are made in; an existing one is fine.
static inline bool path_make_folder(const char *path, Error *err) {
    Path p = path_of("%s", path);
    for (char *c = p.text + 1;; c++) {
        if (*c != '/' && *c != 0) continue;
        char kept = *c;
        *c = 0;
        bool made = mkdir(p.text, 0777) == 0;
        if (!made && errno != EEXIST) return error_set(err, "cannot make the folder %s: %s", p.text, strerror(errno));
        Path parent = path_parent(p.text); // one that nobody may read cannot be synced, and does without
        if (made && access(parent.text, R_OK) == 0 && !path_sync_folder(parent.text, err)) return false;
        *c = kept;
        if (!kept) break;
    }
    FileKind kind;
    if (!path_look(path, &kind, err)) return false;
    return kind == FILE_FOLDER ? true : error_set(err, "%s exists and is not a folder", path);
}

static inline int path_order(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// The names in a folder without . and .., sorted by byte value, added to `names`. A missing folder is an error.
static inline bool folder_list(StrList *names, const char *path, Error *err) {
    int before = names->count;
    DIR *dir = opendir(path);
    if (!dir) return error_set(err, "cannot open the folder %s: %s", path, strerror(errno));
    errno = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL; errno = 0)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) str_list_add(names, e->d_name);
    int why = errno;
    closedir(dir);
    if (why) return error_set(err, "cannot read the folder %s: %s", path, strerror(why));
    if (names->count > before)
        qsort(names->items + before, (size_t)(names->count - before), sizeof names->items[0], path_order);
    return true;
}

// Removes a folder and what is in it; used for half-written checkpoints and for old ones. A missing
// folder is fine.
static inline bool path_remove_tree(const char *path, Error *err) {
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? true : error_set(err, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return unlink(path) == 0 ? true : error_set(err, "cannot remove %s: %s", path, strerror(errno));
    StrList names;
    memset(&names, 0, sizeof names);
    bool ok = folder_list(&names, path, err);
    for (int i = 0; ok && i < names.count; i++) ok = path_remove_tree(path_of("%s/%s", path, names.items[i]).text, err);
    str_list_free(&names);
    if (ok && rmdir(path) != 0) return error_set(err, "cannot remove the folder %s: %s", path, strerror(errno));
    return ok;
}

// ---------------------------------------------------------------- lists of files

// Adds the paths that `base` (empty, or ending in '/') followed by `rest` matches. A component that exists as it is
// written is taken literally, whatever signs are in it; else it is a pattern (fnmatch(3)) over the folder's names.
static inline bool path_match(StrList *out, const char *base, const char *rest, Error *err) {
    while (*rest == '/') rest++;
    if (!*rest) {
        str_list_add(out, base);
        return true;
    }
    int n = (int)strcspn(rest, "/");
    FileKind kind = FILE_ABSENT;
    Path component = path_of("%.*s", n, rest), literal = path_of("%s%.*s", base, n, rest);
    if (!path_look(literal.text, &kind, err)) return false;
    if (kind != FILE_ABSENT) {
        if (!rest[n]) str_list_add(out, literal.text);
        return !rest[n] || kind != FILE_FOLDER || path_match(out, path_of("%s/", literal.text).text, rest + n, err);
    }
    if (!strpbrk(component.text, "*?[\\")) return true;
    StrList names;
    memset(&names, 0, sizeof names);
    bool ok = folder_list(&names, *base ? base : ".", err);
    for (int i = 0; ok && i < names.count; i++) {
        if (fnmatch(component.text, names.items[i], FNM_PERIOD) != 0) continue;
        Path found = path_of("%s%s", base, names.items[i]);
        if (!rest[n]) {
            str_list_add(out, found.text);
            continue;
        }
        ok = path_look(found.text, &kind, err) &&
             (kind != FILE_FOLDER || path_match(out, path_of("%s/", found.text).text, rest + n, err));
    }
    str_list_free(&names);
    return ok;
}

// The end of the alternatives {a,b} that begin at text; NULL: they are not closed, or are none.
static inline const char *path_brace_end(const char *text) {
    int depth = 0, commas = 0;
    for (const char *c = text; *c; c++) {
        depth += (*c == '{') - (*c == '}');
        commas += *c == ',' && depth == 1;
        if (depth == 0) return commas ? c : NULL;
    }
    return NULL;
}

// One part of a list: a file of that name, else its braces spelled out, else a pattern; the matches of each sorted.
static inline bool path_expand_part(StrList *out, const char *part, Error *err) {
    FileKind kind;
    if (!path_look(part, &kind, err)) return false;
    const char *open = kind == FILE_ABSENT ? strchr(part, '{') : NULL, *close = NULL;
    while (open && !(close = path_brace_end(open))) open = strchr(open + 1, '{');
    if (open) {
        bool ok = true;
        for (const char *from = open + 1, *to; ok && from <= close; from = to + 1) {
            int depth = 0;
            for (to = from; to < close && (depth || *to != ','); to++) depth += (*to == '{') - (*to == '}');
            Path one = path_of("%.*s%.*s%s", (int)(open - part), part, (int)(to - from), from, close + 1);
            ok = path_expand_part(out, one.text, err);
        }
        return ok;
    }
    int before = out->count;
    if (kind != FILE_ABSENT) str_list_add(out, part);
    else if (!path_match(out, *part == '/' ? "/" : "", part, err)) return false;
    if (out->count > before)
        qsort(out->items + before, (size_t)(out->count - before), sizeof out->items[0], path_order);
    return true;
}

// ~ and ~/PATH: the user's own folder, as a shell has it at the start of a word. The rest stays as it is.
static inline Path path_home(const char *path) {
    const char *home = getenv("HOME");
    bool tilde = path[0] == '~' && (path[1] == '/' || !path[1]) && home && *home;
    return tilde ? path_of("%s%s", home, path + 1) : path_of("%s", path);
}

// Expands "FILE,FILE,GLOB" into existing paths: the comma-separated parts in the order given, each glob's matches
// sorted by byte value. A name that exists is that file, even if it looks like a pattern or holds commas: where a part
// matches nothing, it is tried together with the parts behind it. One that still matches nothing is an error.
static inline bool path_expand(StrList *out, const char *list, Error *err) {
    bool any = false;
    for (const char *part = list, *end; *part; part = *end ? end + 1 : end) {
        end = part + strcspn(part, ",");
        if (end == part) continue;
        int before = out->count;
        for (;;) {
            Path text = path_of("%.*s", (int)int64_min(end - part, PATH_SIZE - 1), part);
            if (end - part >= PATH_SIZE) break;
            if (!path_expand_part(out, path_home(text.text).text, err)) return false;
            if (out->count > before || !*end) break;
            end += 1 + strcspn(end + 1, ",");
        }
        if (out->count == before)
            return error_set(err, "no such file: %.*s", (int)int64_min(strcspn(part, ","), 900), part);
        any = true;
    }
    return any ? true : error_set(err, "an empty list of files was given");
}

// ---------------------------------------------------------------- reading

// Opens a regular file, -1: error. O_NONBLOCK: the open of a FIFO would wait for a writer.
static inline int file_open(const char *path, struct stat *st, Error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        error_set(err, "cannot open %s: %s", path, strerror(errno));
        return -1;
    }
    if (fstat(fd, st) != 0) error_set(err, "cannot look at %s: %s", path, strerror(errno));
    else if (S_ISDIR(st->st_mode)) error_set(err, "%s is a folder, expected a file", path);
    else if (!S_ISREG(st->st_mode)) error_set(err, "%s is not a regular file", path);
    else return fd;
    close(fd);
    return -1;
}

// A regular file as a stream, NULL: error. Look at ferror() before fclose().
static inline FILE *file_open_read(const char *path, Error *err) {
    struct stat st;
    int fd = file_open(path, &st, err);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "rb");
    if (fd >= 0 && !f) {
        error_set(err, "cannot open %s: %s", path, strerror(errno));
        close(fd);
    }
    return f;
}

// Reads a whole file of at most `limit` bytes into `out` (replaced; empty on error).
static inline bool file_read(Str *out, const char *path, size_t limit, Error *err) {
    struct stat st;
    out->size = 0;
    int fd = file_open(path, &st, err);
    if (fd < 0) return false;
    bool ok = (uint64_t)st.st_size <= limit
                  ? true
                  : error_set(err, "%s has %lld bytes, expected at most %zu", path, (long long)st.st_size, limit);
    size_t size = (size_t)st.st_size;
    if (ok) out->data = (char *)mem_grow(out->data, &out->capacity, size + 1, 1);
    while (ok && out->size < size) {
        ssize_t n = read(fd, out->data + out->size, size - out->size);
        if (n > 0) out->size += (size_t)n;
        else if (n == 0) ok = error_set(err, "%s became shorter while it was read", path);
        else if (errno != EINTR) ok = error_set(err, "cannot read %s: %s", path, strerror(errno));
    }
    close(fd);
    if (!ok) out->size = 0;
    if (out->data) out->data[out->size] = 0;
    return ok;
}

// A memory-mapped file (mmap), read-only. An empty file has data == "" and size 0.
typedef struct {
    const uint8_t *data;
    size_t size;
    void *mapping; // NULL for an empty file
    FileId id;
} MappedFile;

static inline bool file_map(MappedFile *f, const char *path, Error *err) {
    struct stat st;
    memset(f, 0, sizeof *f);
    f->data = (const uint8_t *)"";
    int fd = file_open(path, &st, err);
    if (fd < 0) return false;
    f->id.device = (uint64_t)st.st_dev, f->id.inode = (uint64_t)st.st_ino;
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

// The pages of a range of the file's bytes are no longer this process's memory; read again, they come from the file.
// A model that is read through a mapping would else be there twice until the end: as weights and as pages of its file.
static inline void file_forget(const MappedFile *f, const void *first, size_t n) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)first + page - 1) / page * page, end = ((uintptr_t)first + n) / page * page;
    if (f->mapping && begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static inline void file_unmap(MappedFile *f) {
    if (f->mapping) munmap(f->mapping, f->size);
    memset(f, 0, sizeof *f);
}

// ---------------------------------------------------------------- writing

// While something has a temporary name, a signal that would end the process waits: the writer asks for it, stops, and
// removes what it began; then the signal ends the process. Signals that somebody blocked before (a run that stops with
// a checkpoint) are left to him. Of several threads the others must have them blocked: see signals_threads().
typedef struct {
    sigset_t before, mine; // the thread's mask; the signals that wait because of this
    bool held;
} SignalHold;

static inline void signals_hold(SignalHold *h) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGXCPU, SIGUSR1, SIGUSR2};
    sigset_t set;
    sigemptyset(&set);
    sigemptyset(&h->mine);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) sigaddset(&set, numbers[i]);
    if (pthread_sigmask(SIG_BLOCK, &set, &h->before) != 0) return;
    h->held = true;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action;
        if (sigismember(&h->before, numbers[i]) || sigaction(numbers[i], NULL, &action) != 0) continue;
        if (action.sa_handler != SIG_IGN) sigaddset(&h->mine, numbers[i]); // nohup ignores one
    }
}

// One has come: stop writing.
static inline bool signals_waiting(const SignalHold *h) {
    sigset_t pending;
    if (!h->held || sigpending(&pending) != 0) return false;
    for (int i = 1; i < 32; i++)
        if (sigismember(&h->mine, i) == 1 && sigismember(&pending, i) == 1) return true;
    return false;
}

// The process may end here.
static inline void signals_release(SignalHold *h) {
    if (h->held) pthread_sigmask(SIG_SETMASK, &h->before, NULL);
    h->held = false;
}

// Makes the threads that OpenMP will use, with these signals blocked: they come to the thread that writes. To be called
// before the first parallel part of a verb that writes a file.
static inline void signals_threads(void) {
#ifdef _OPENMP
    SignalHold hold;
    memset(&hold, 0, sizeof hold);
    signals_hold(&hold);
#pragma omp parallel
    (void)omp_get_thread_num();
    signals_release(&hold);
#endif
}

// A file that is there whole or not at all (atomic rename). Errors stick: write as much as you like and look at the
// result of out_commit() alone. out_abort() removes the temporary file.
typedef struct {
    FILE *stream;
    Path path, temporary;
    int failed; // errno of the first failure
    SignalHold hold;
    size_t since; // bytes written since signals were last asked for
} OutFile;

// Removes PATH.tmp.PID of processes that are gone: not known here, and without the lock that a writer holds on its file
// (the process may live on another machine). What cannot be looked at stays: it harms nobody.
static inline void out_sweep(const char *path) {
    Path folder = path_parent(path);
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strlen(base);
    StrList names;
    memset(&names, 0, sizeof names);
    folder_list(&names, folder.text, NULL);
    for (int i = 0; i < names.count; i++) {
        const char *name = names.items[i], *digits = name + n + 5;
        if (strncmp(name, base, n) != 0 || strncmp(name + n, ".tmp.", 5) != 0) continue;
        if (!*digits || digits[strspn(digits, "0123456789")] || strlen(digits) > 9) continue;
        if (atoi(digits) != (int)getpid() && (kill(atoi(digits), 0) == 0 || errno != ESRCH)) continue;
        Path left = path_of("%.3000s/%.1000s", folder.text, name);
        int fd = open(left.text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlink(left.text);
        close(fd);
    }
    str_list_free(&names);
}

// Opens `path` for writing under a temporary name. A link is followed to the file that it names.
static inline bool out_open(OutFile *f, const char *path, Error *err) {
    FileKind kind;
    memset(f, 0, sizeof *f);
    if (!path_look(path, &kind, err)) return false;
    if (kind == FILE_FOLDER)
        return error_set(err, "cannot write %s: it is a folder, expected the name of a file", path);
    if (kind == FILE_OTHER) return error_set(err, "cannot write %s: it is a device or a pipe, expected a file", path);
    char *real = kind == FILE_REGULAR ? realpath(path, NULL) : NULL;
    if (kind == FILE_REGULAR && !real) return error_set(err, "cannot look at %s: %s", path, strerror(errno));
    f->path = path_of("%s", real ? real : path);
    free(real);
    f->temporary = path_of("%s.tmp.%d", f->path.text, (int)getpid());
    out_sweep(f->path.text);
    signals_hold(&f->hold);
    int fd = open(f->temporary.text, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0) {
        error_set(err, "cannot write %s: %s", errno == EEXIST ? f->temporary.text : path, strerror(errno));
        signals_release(&f->hold);
        return false;
    }
    flock(fd, LOCK_EX | LOCK_NB); // not everywhere to be had; then nobody else can take it either
    f->stream = fdopen(fd, "wb");
    if (!f->stream) {
        error_set(err, "cannot write %s: %s", path, strerror(errno));
        close(fd);
        unlink(f->temporary.text);
        signals_release(&f->hold);
        return false;
    }
    setvbuf(f->stream, NULL, _IOFBF, 1 << 20);
    return true;
}

static inline void out_write(OutFile *f, const void *bytes, size_t n) {
    if (f->failed || n == 0) return;
    errno = 0;
    if (fwrite(bytes, 1, n, f->stream) != n) f->failed = errno ? errno : EIO;
    f->since += n;
    if (f->since < (size_t)1 << 20) return;
    f->since = 0;
    if (!f->failed && signals_waiting(&f->hold)) f->failed = EINTR;
}

static inline void out_abort(OutFile *f) {
    if (f->stream) fclose(f->stream);
    f->stream = NULL;
    unlink(f->temporary.text);
    signals_release(&f->hold);
}

static inline bool out_commit(OutFile *f, Error *err) {
    errno = 0;
    if (!f->failed && fflush(f->stream) != 0) f->failed = errno ? errno : EIO;
    if (!f->failed && fsync(fileno(f->stream)) != 0 && errno != EINVAL) f->failed = errno;
    if (fclose(f->stream) != 0 && !f->failed) f->failed = errno ? errno : EIO;
    f->stream = NULL;
    if (!f->failed && rename(f->temporary.text, f->path.text) != 0) f->failed = errno;
    if (f->failed) unlink(f->temporary.text);
    signals_release(&f->hold);
    if (f->failed) return error_set(err, "cannot write %s: %s", f->path.text, strerror(f->failed));
    Path folder = path_parent(f->path.text);
    return path_sync_folder(folder.text, err);
}

static inline bool file_write_all(const char *path, const void *bytes, size_t n, Error *err) {
    OutFile f;
    if (!out_open(&f, path, err)) return false;
    out_write(&f, bytes, n);
    return out_commit(&f, err);
}

// ---------------------------------------------------------------- scratch files

// A file without a name in a folder, to write and read again: gone with the process, however that ends. -1: error.
static inline int file_scratch(const char *folder, Error *err) {
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    Path name = path_of("%s/.scratch.XXXXXX", folder); // not every file system has files without a name
    fd = mkostemp(name.text, O_CLOEXEC);
    if (fd < 0) error_set(err, "cannot make a scratch file in %s: %s", folder, strerror(errno));
    else unlink(name.text);
    return fd;
}

static inline bool file_write_at(int fd, const void *bytes, size_t n, int64_t at, Error *err) {
    for (size_t done = 0; done < n;) {
        ssize_t k = pwrite(fd, (const char *)bytes + done, n - done, (off_t)(at + (int64_t)done));
        if (k >= 0) done += (size_t)k;
        else if (errno != EINTR) return error_set(err, "cannot write a scratch file: %s", strerror(errno));
    }
    return true;
}

static inline bool file_read_at(int fd, void *bytes, size_t n, int64_t at, Error *err) {
    for (size_t done = 0; done < n;) {
        ssize_t k = pread(fd, (char *)bytes + done, n - done, (off_t)(at + (int64_t)done));
        if (k > 0) done += (size_t)k;
        else if (k == 0) return error_set(err, "a scratch file became shorter while it was read");
        else if (errno != EINTR) return error_set(err, "cannot read a scratch file: %s", strerror(errno));
    }
    return true;
}

#endif
