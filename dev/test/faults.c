/*
faults.c: a library in front of the C library (LD_PRELOAD), in which one call fails.

    cc -shared -fPIC dev/test/faults.c -o faults.so -ldl
    FAULT_COUNT=counts LD_PRELOAD=./faults.so ./train_gpt_cpu ...         how many calls of each kind there are
    FAULT_CALL=rename FAULT_N=3 FAULT_ERRNO=EIO LD_PRELOAD=./faults.so ./train_gpt_cpu ...

FAULT_CALL   a kind of CALLS below: all spellings of a call are one kind (open: open, openat, creat, fopen, ...)
FAULT_N      this call of that kind fails, counted from 1; all others are done
FAULT_ERRNO  what errno is then (EIO, ENOSPC, ...: names of ERRORS, or a number), or in place of a failure
             short    read, write: the call does half of what it was asked for
             after    the call is done, and fails with EIO (a server whose answer was lost)
             kill     SIGKILL in place of the call
             torn     write: half of it, then SIGKILL
             cut      SIGKILL as kill, and what was written and not synced (fsync) is lost, as when the power goes
             EIO+     this call fails and all that follow it: a disk that stays full, a server that stays away
FAULT_COUNT  a file: gets "KIND N" for each kind when the program ends, and "fired" when the call has failed

Calls of the program itself and of the C library for it (the memory of an opendir) count, those of other libraries do
not (OpenMP, MPI). AddressSanitizer has to come first (LD_PRELOAD="libasan.so ./faults.so"), and keeps the memory. A
stream of fopen, and stdout, reads and writes through calls that are counted: glibc's own streams would call read and
write past any library; fopencookie(3) makes such streams. stderr is left alone: nobody could tell.

Needs glibc (__libc_malloc, copy relocation of stdout). dev/test/faults_run.c is the driver.
*/
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

// clang-format off
#define CALLS(X)                                                                                                       \
    X(open) X(read) X(write) X(seek) X(fsync) X(close) X(rename) X(mkdir) X(opendir) X(readdir) X(stat) X(mmap)        \
    X(unlink) X(ftruncate) X(lock) X(statvfs) X(realpath) X(memory) X(thread)
#define ERRORS(X)                                                                                                      \
    X(EACCES) X(EAGAIN) X(EBUSY) X(EDQUOT) X(EEXIST) X(EFBIG) X(EINTR) X(EINVAL) X(EIO) X(ELOOP) X(EMFILE) X(EMLINK)   \
    X(ENFILE) X(ENODEV) X(ENOENT) X(ENOLCK) X(ENOMEM) X(ENOSPC) X(ENOSYS) X(ENOTEMPTY) X(EPERM) X(EPIPE) X(EROFS)      \
    X(ESTALE) X(ETIMEDOUT) X(EXDEV)
// clang-format on
// No errno has these values.
enum { FAULT_SHORT = 100001, FAULT_AFTER, FAULT_KILL, FAULT_TORN, FAULT_CUT };

#define X(name) CALL_##name,
enum { CALLS(X) CALL_COUNT };
#undef X
static const char *const call_names[CALL_COUNT] = {
#define X(name) #name,
    CALLS(X)
#undef X
};

static struct {
    bool ready;
    int call, value; // which kind fails and how; call -1: none
    long n;
    bool lasting; // all calls from this one on
    const char *counts;
    atomic_long done[CALL_COUNT];
    struct {
        uintptr_t first, last;
    } callers[8]; // the code of the program and of the C library
    int caller_count;
} faults;

// ---------------------------------------------------------------- which call

// One line into FAULT_COUNT's file, by calls that nothing stands in front of.
static void note(const char *line, size_t n) {
    static int (*real_open)(const char *, int, ...);
    static ssize_t (*real_write)(int, const void *, size_t);
    static int (*real_close)(int);
    if (!faults.counts) return;
    if (!real_open) real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    if (!real_write) real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (!real_close) real_close = (int (*)(int))dlsym(RTLD_NEXT, "close");
    int fd = real_open(faults.counts, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0 || real_write(fd, line, n) != (ssize_t)n) abort();
    real_close(fd);
}

// The program comes first (dl_iterate_phdr(3)); the calls behind a stream come from here.
static int find_callers(struct dl_phdr_info *info, size_t size, void *first) {
    (void)size;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : info->dlpi_name;
    bool wanted = *(bool *)first || strncmp(name, "libc.", 5) == 0 || strncmp(name, "libasan.", 8) == 0;
    *(bool *)first = false;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < info->dlpi_phnum && faults.caller_count < 8; i++) {
            uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, to = from + info->dlpi_phdr[i].p_memsz;
            if (info->dlpi_phdr[i].p_type != PT_LOAD || !(info->dlpi_phdr[i].p_flags & PF_X)) continue;
            if (round == 0) wanted |= (uintptr_t)note >= from && (uintptr_t)note < to;
            if (round == 0 || !wanted) continue;
            faults.callers[faults.caller_count].first = from;
            faults.callers[faults.caller_count++].last = to;
        }
    return 0;
}

static bool is_caller(const void *address) {
    uintptr_t a = (uintptr_t)address;
    for (int i = 0; i < faults.caller_count; i++)
        if (a >= faults.callers[i].first && a < faults.callers[i].last) return true;
    return false;
}

// ---------------------------------------------------------------- what a disk may still lose

// Files that were written and not synced since, by inode, and how long they were before; for `cut` alone. fd: of its
// own, since a lock goes away with the last copy of a descriptor.
enum { UNSYNCED = 256 };
static struct {
    int fd;
    dev_t device;
    ino_t inode;
    off_t size;
} unsynced[UNSYNCED];
static int unsynced_count;
static pthread_mutex_t unsynced_mutex = PTHREAD_MUTEX_INITIALIZER;

static int unsynced_find(const struct stat *st) {
    int i = 0;
    while (i < unsynced_count && (unsynced[i].device != st->st_dev || unsynced[i].inode != st->st_ino)) i++;
    return i;
}

// Before a write.
static void unsynced_add(int fd) {
    struct stat st;
    if (faults.value != FAULT_CUT || !faults.ready || fd <= STDERR_FILENO || syscall(SYS_fstat, fd, &st) != 0) return;
    if (!S_ISREG(st.st_mode)) return;
    pthread_mutex_lock(&unsynced_mutex);
    int i = unsynced_find(&st);
    if (i == unsynced_count) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        unsynced[i].fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
        unsynced[i].device = st.st_dev, unsynced[i].inode = st.st_ino, unsynced[i].size = st.st_size;
        if (unsynced[i].fd < 0 || ++unsynced_count == UNSYNCED) abort();
    }
    pthread_mutex_unlock(&unsynced_mutex);
}

// After a sync.
static void unsynced_drop(int fd) {
    struct stat st;
    if (faults.value != FAULT_CUT || syscall(SYS_fstat, fd, &st) != 0) return;
    pthread_mutex_lock(&unsynced_mutex);
    int i = unsynced_find(&st);
    if (i < unsynced_count) {
        syscall(SYS_close, unsynced[i].fd);
        unsynced[i] = unsynced[--unsynced_count];
    }
    pthread_mutex_unlock(&unsynced_mutex);
}

static void unsynced_lose(void) {
    pthread_mutex_lock(&unsynced_mutex);
    for (int i = 0; i < unsynced_count; i++)
        if (syscall(SYS_ftruncate, unsynced[i].fd, unsynced[i].size) != 0) abort();
}

// ---------------------------------------------------------------- the call that fails

// Counts a call, and says how it is to fail: 0, an errno, or FAULT_SHORT, FAULT_AFTER, FAULT_TORN. errno is kept.
static int fault(int call, const void *caller) {
    if (!faults.ready || !is_caller(caller)) return 0;
    long n = atomic_fetch_add(&faults.done[call], 1) + 1;
    if (call != faults.call || n < faults.n || (n > faults.n && !faults.lasting)) return 0;
    int kept = errno;
    if (n == faults.n) note("fired\n", 6);
    errno = kept;
    if (faults.value == FAULT_CUT) unsynced_lose();
    if (faults.value == FAULT_KILL || faults.value == FAULT_CUT) raise(SIGKILL);
    return faults.value;
}
#define FAULT(kind) fault(CALL_##kind, __builtin_return_address(0))

// The function of this name that stands behind this library.
#define NEXT(name)                                                                                                     \
    static __typeof__(name) *next;                                                                                     \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

// A call that fails before it is done, or after; RESULT is what it then returns. DO: the call itself.
#define PLAIN(kind, type, failure, name, ...)                                                                          \
    NEXT(name);                                                                                                        \
    int how = FAULT(kind);                                                                                             \
    if (how && how < FAULT_SHORT) {                                                                                    \
        errno = how;                                                                                                   \
        return failure;                                                                                                \
    }                                                                                                                  \
    type result = next(__VA_ARGS__);                                                                                   \
    if (how != FAULT_AFTER) return result;                                                                             \
    errno = EIO;                                                                                                       \
    return failure

// ---------------------------------------------------------------- files

#define OPEN(name, flags, ...)                                                                                         \
    va_list args;                                                                                                      \
    va_start(args, flags);                                                                                             \
    mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t) : 0;                      \
    va_end(args);                                                                                                      \
    PLAIN(open, int, -1, name, __VA_ARGS__, flags, mode)
int open(const char *path, int flags, ...) { OPEN(open, flags, path); }
int open64(const char *path, int flags, ...) { OPEN(open64, flags, path); }
int openat(int dir, const char *path, int flags, ...) { OPEN(openat, flags, dir, path); }
int openat64(int dir, const char *path, int flags, ...) { OPEN(openat64, flags, dir, path); }
int creat(const char *path, mode_t mode) { PLAIN(open, int, -1, creat, path, mode); }

// The descriptor is gone, whatever close says (close(2)).
int close(int fd) {
    NEXT(close);
    int how = FAULT(close), result = next(fd);
    if (!how || result != 0) return result;
    errno = how < FAULT_SHORT ? how : EIO;
    return -1;
}

#define READ(name, fd, data, n, ...)                                                                                   \
    NEXT(name);                                                                                                        \
    int how = FAULT(read);                                                                                             \
    if (how && how < FAULT_SHORT) {                                                                                    \
        errno = how;                                                                                                   \
        return -1;                                                                                                     \
    }                                                                                                                  \
    return next(fd, data, how == FAULT_SHORT ? (n + 1) / 2 : n __VA_ARGS__)
ssize_t read(int fd, void *data, size_t n) { READ(read, fd, data, n, ); }
#define COMMA ,
ssize_t pread(int fd, void *data, size_t n, off_t at) { READ(pread, fd, data, n, COMMA at); }
ssize_t pread64(int fd, void *data, size_t n, off64_t at) { READ(pread64, fd, data, n, COMMA at); }

#define WRITE(name, fd, data, n, ...)                                                                                  \
    NEXT(name);                                                                                                        \
    int how = FAULT(write);                                                                                            \
    if (how && how < FAULT_SHORT) {                                                                                    \
        errno = how;                                                                                                   \
        return -1;                                                                                                     \
    }                                                                                                                  \
    unsynced_add(fd);                                                                                                  \
    ssize_t written = next(fd, data, how == FAULT_SHORT || how == FAULT_TORN ? (n + 1) / 2 : n __VA_ARGS__);           \
    if (how == FAULT_TORN) raise(SIGKILL);                                                                             \
    return written
ssize_t write(int fd, const void *data, size_t n) { WRITE(write, fd, data, n, ); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { WRITE(pwrite, fd, data, n, COMMA at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { WRITE(pwrite64, fd, data, n, COMMA at); }

off_t lseek(int fd, off_t at, int from) { PLAIN(seek, off_t, -1, lseek, fd, at, from); }
#define SYNC(name)                                                                                                     \
    NEXT(name);                                                                                                        \
    int how = FAULT(fsync);                                                                                            \
    if (how) {                                                                                                         \
        errno = how < FAULT_SHORT ? how : EIO;                                                                         \
        return -1;                                                                                                     \
    }                                                                                                                  \
    int result = next(fd);                                                                                             \
    if (result == 0) unsynced_drop(fd);                                                                                \
    return result
int fsync(int fd) { SYNC(fsync); }
int fdatasync(int fd) { SYNC(fdatasync); }
int ftruncate(int fd, off_t size) { PLAIN(ftruncate, int, -1, ftruncate, fd, size); }
int ftruncate64(int fd, off64_t size) { PLAIN(ftruncate, int, -1, ftruncate64, fd, size); }
int truncate(const char *path, off_t size) { PLAIN(ftruncate, int, -1, truncate, path, size); }
int flock(int fd, int what) { PLAIN(lock, int, -1, flock, fd, what); }
int rename(const char *from, const char *to) { PLAIN(rename, int, -1, rename, from, to); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    PLAIN(rename, int, -1, renameat, from_dir, from, to_dir, to);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    PLAIN(rename, int, -1, renameat2, from_dir, from, to_dir, to, flags);
}
int link(const char *from, const char *to) { PLAIN(rename, int, -1, link, from, to); }
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    PLAIN(rename, int, -1, linkat, from_dir, from, to_dir, to, flags);
}
int unlink(const char *path) { PLAIN(unlink, int, -1, unlink, path); }
int unlinkat(int dir, const char *path, int flags) { PLAIN(unlink, int, -1, unlinkat, dir, path, flags); }
int rmdir(const char *path) { PLAIN(unlink, int, -1, rmdir, path); }
int remove(const char *path) { PLAIN(unlink, int, -1, remove, path); }
int mkdir(const char *path, mode_t mode) { PLAIN(mkdir, int, -1, mkdir, path, mode); }
int mkdirat(int dir, const char *path, mode_t mode) { PLAIN(mkdir, int, -1, mkdirat, dir, path, mode); }
DIR *opendir(const char *path) { PLAIN(opendir, DIR *, NULL, opendir, path); }
DIR *fdopendir(int fd) { PLAIN(opendir, DIR *, NULL, fdopendir, fd); }
struct dirent *readdir(DIR *dir) {
    PLAIN(readdir, struct dirent *, NULL, readdir, dir);
}
struct dirent64 *readdir64(DIR *dir) {
    PLAIN(readdir, struct dirent64 *, NULL, readdir64, dir);
}
char *realpath(const char *path, char *resolved) { PLAIN(realpath, char *, NULL, realpath, path, resolved); }

int stat(const char *path, struct stat *s) { PLAIN(stat, int, -1, stat, path, s); }
int lstat(const char *path, struct stat *s) { PLAIN(stat, int, -1, lstat, path, s); }
int fstat(int fd, struct stat *s) { PLAIN(stat, int, -1, fstat, fd, s); }
int fstatat(int dir, const char *path, struct stat *s, int flags) {
    PLAIN(stat, int, -1, fstatat, dir, path, s, flags);
}
int stat64(const char *path, struct stat64 *s) { PLAIN(stat, int, -1, stat64, path, s); }
int lstat64(const char *path, struct stat64 *s) { PLAIN(stat, int, -1, lstat64, path, s); }
int fstat64(int fd, struct stat64 *s) { PLAIN(stat, int, -1, fstat64, fd, s); }
int statx(int dir, const char *path, int flags, unsigned mask, struct statx *s) {
    PLAIN(stat, int, -1, statx, dir, path, flags, mask, s);
}
int access(const char *path, int how_) { PLAIN(stat, int, -1, access, path, how_); }
int faccessat(int dir, const char *path, int how_, int flags) {
    PLAIN(stat, int, -1, faccessat, dir, path, how_, flags);
}
// The spellings before glibc 2.33.
int __xstat(int version, const char *path, struct stat *s);
int __xstat(int version, const char *path, struct stat *s) { PLAIN(stat, int, -1, __xstat, version, path, s); }
int __lxstat(int version, const char *path, struct stat *s);
int __lxstat(int version, const char *path, struct stat *s) { PLAIN(stat, int, -1, __lxstat, version, path, s); }
int __fxstat(int version, int fd, struct stat *s);
int __fxstat(int version, int fd, struct stat *s) { PLAIN(stat, int, -1, __fxstat, version, fd, s); }
int statvfs(const char *path, struct statvfs *s) { PLAIN(statvfs, int, -1, statvfs, path, s); }
int fstatvfs(int fd, struct statvfs *s) { PLAIN(statvfs, int, -1, fstatvfs, fd, s); }

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    PLAIN(mmap, void *, MAP_FAILED, mmap, at, n, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset) {
    PLAIN(mmap, void *, MAP_FAILED, mmap64, at, n, protection, flags, fd, offset);
}

// Only locks of files; all other commands are done.
int fcntl(int fd, int command, ...) {
    va_list args;
    va_start(args, command);
    void *argument = va_arg(args, void *);
    va_end(args);
    NEXT(fcntl);
    bool lock = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    int how = lock ? FAULT(lock) : 0;
    if (how && how < FAULT_SHORT) {
        errno = how;
        return -1;
    }
    return next(fd, command, argument);
}

// ---------------------------------------------------------------- memory and threads

// glibc's own names of these: dlsym might need memory itself.
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

#define MEMORY(failure)                                                                                                \
    if (FAULT(memory)) {                                                                                               \
        errno = ENOMEM;                                                                                                \
        return failure;                                                                                                \
    }
void *malloc(size_t n) {
    MEMORY(NULL)
    return __libc_malloc(n);
}
void *calloc(size_t count, size_t n) {
    MEMORY(NULL)
    return __libc_calloc(count, n);
}
void *realloc(void *p, size_t n) {
    MEMORY(NULL)
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t alignment, size_t n) {
    MEMORY(NULL)
    return __libc_memalign(alignment, n);
}
int posix_memalign(void **p, size_t alignment, size_t n) {
    MEMORY(ENOMEM)
    void *made = __libc_memalign(alignment, n);
    if (!made) return ENOMEM;
    *p = made;
    return 0;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    NEXT(pthread_create);
    int how = FAULT(thread);
    return how ? how : next(thread, attributes, run, argument);
}

// ---------------------------------------------------------------- streams

// Streams over counted calls. A place is taken when fd is not -1; no program here has more open at a time.
enum { STREAMS = 64 };
typedef struct {
    FILE *file;
    int fd;
} Stream;
static Stream streams[STREAMS];
static pthread_mutex_t streams_mutex = PTHREAD_MUTEX_INITIALIZER;

// These are called by the C library, and so they count.
static ssize_t stream_read(void *cookie, char *data, size_t n) { return read(((Stream *)cookie)->fd, data, n); }

// As glibc's own streams do it: what a write left is written again, and any error ends it.
static ssize_t stream_write(void *cookie, const char *data, size_t n) {
    size_t done = 0;
    while (done < n) {
        ssize_t written = write(((Stream *)cookie)->fd, data + done, n - done);
        if (written < 0) break;
        done += (size_t)written;
    }
    return (ssize_t)done;
}

static int stream_seek(void *cookie, off64_t *at, int from) {
    *at = lseek(((Stream *)cookie)->fd, *at, from);
    return *at < 0 ? -1 : 0;
}

static int stream_close(void *cookie) {
    Stream *s = (Stream *)cookie;
    int result = close(s->fd);
    pthread_mutex_lock(&streams_mutex);
    s->file = NULL;
    pthread_mutex_unlock(&streams_mutex);
    return result;
}

static FILE *stream_of(int fd, const char *mode) {
    static const cookie_io_functions_t functions = {stream_read, stream_write, stream_seek, stream_close};
    pthread_mutex_lock(&streams_mutex);
    int i = 0;
    while (i < STREAMS && streams[i].file) i++;
    if (i == STREAMS) abort();
    streams[i].fd = fd;
    streams[i].file = fopencookie(&streams[i], mode, functions);
    FILE *f = streams[i].file;
    pthread_mutex_unlock(&streams_mutex);
    return f;
}

static FILE *stream_open(const char *path, const char *mode) {
    bool both = strchr(mode, '+') != NULL;
    int flags = *mode == 'r' ? (both ? O_RDWR : O_RDONLY) : (both ? O_RDWR : O_WRONLY) | O_CREAT;
    if (*mode == 'w') flags |= O_TRUNC;
    if (*mode == 'a') flags |= O_APPEND;
    if (strchr(mode, 'x')) flags |= O_EXCL;
    if (strchr(mode, 'e')) flags |= O_CLOEXEC;
    int fd = open(path, flags, 0666);
    if (fd < 0) return NULL;
    FILE *f = stream_of(fd, mode);
    if (!f) {
        int why = errno;
        close(fd);
        errno = why;
    }
    return f;
}

FILE *fopen(const char *path, const char *mode) {
    NEXT(fopen);
    return faults.ready && is_caller(__builtin_return_address(0)) ? stream_open(path, mode) : next(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    NEXT(fopen64);
    return faults.ready && is_caller(__builtin_return_address(0)) ? stream_open(path, mode) : next(path, mode);
}
FILE *fdopen(int fd, const char *mode) {
    NEXT(fdopen);
    return faults.ready && is_caller(__builtin_return_address(0)) ? stream_of(fd, mode) : next(fd, mode);
}

// The descriptor of one of these streams, or -1.
static int stream_fd(FILE *f) {
    int fd = -1;
    pthread_mutex_lock(&streams_mutex);
    for (int i = 0; i < STREAMS; i++)
        if (streams[i].file == f) fd = streams[i].fd;
    pthread_mutex_unlock(&streams_mutex);
    return fd;
}

int fileno(FILE *f) {
    NEXT(fileno);
    int fd = stream_fd(f);
    return fd >= 0 ? fd : next(f);
}
int fileno_unlocked(FILE *f) { return fileno(f); }

// A stream without a buffer reads large pieces at once; one of fopencookie would read byte by byte.
int setvbuf(FILE *f, char *buffer, int mode, size_t n) {
    NEXT(setvbuf);
    return mode == _IONBF && stream_fd(f) > STDERR_FILENO ? 0 : next(f, buffer, mode, n);
}

// ---------------------------------------------------------------- beginning and end

static int environment_errno(const char *text) {
    static const struct {
        const char *name;
        int value;
    } names[] = {{"short", FAULT_SHORT},
                 {"after", FAULT_AFTER},
                 {"kill", FAULT_KILL},
                 {"torn", FAULT_TORN},
                 {"cut", FAULT_CUT},
#define X(name) {#name, name},
                 ERRORS(X)
#undef X
    };
    size_t n = strcspn(text, "+");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(text, names[i].name, n) == 0 && !names[i].name[n]) return names[i].value;
    return atoi(text);
}

__attribute__((constructor)) static void faults_begin(void) {
    const char *call = getenv("FAULT_CALL"), *n = getenv("FAULT_N"), *value = getenv("FAULT_ERRNO");
    bool first = true;
    dl_iterate_phdr(find_callers, &first);
    faults.call = -1;
    for (int i = 0; i < CALL_COUNT; i++)
        if (call && strcmp(call, call_names[i]) == 0) faults.call = i;
    faults.n = n ? atol(n) : 0;
    faults.value = value ? environment_errno(value) : EIO;
    faults.lasting = value && strchr(value, '+');
    faults.counts = getenv("FAULT_COUNT");
    if ((call && faults.call < 0) || faults.value == 0) {
        fprintf(stderr, "faults.c: unknown FAULT_CALL or FAULT_ERRNO\n");
        abort();
    }
    FILE *out = stream_of(STDOUT_FILENO, "w");
    if (out) stdout = out;
    faults.ready = true;
}

__attribute__((destructor)) static void faults_end(void) {
    char line[64];
    for (int i = 0; i < CALL_COUNT; i++)
        note(line, (size_t)snprintf(line, sizeof line, "%s %ld\n", call_names[i], atomic_load(&faults.done[i])));
}
