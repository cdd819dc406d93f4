/*
process.h: what a process settles before it does anything else, and deaths that would come without a word.

    process_open()       first in main(): descriptors 0 to 2 are open, SIGPIPE and SIGXFSZ are errors of write(2), and
                         SIGBUS says which file it was
    process_threads()    starts OpenMP's threads: libgomp ends a process that can have none with a line of its own

A mapped file that becomes shorter, or whose disk fails, is SIGBUS where it is read. There is nothing to go back to, so
the handler prints one line with the file's name (which it finds in /proc/self/maps, so that it needs no state) and ends
the process with 1. What is read while a model trains is therefore not mapped (data.h), and fails as reads do.
*/
#ifndef LLMC_PROCESS_H
#define LLMC_PROCESS_H

#include "file.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#ifdef _OPENMP
#include <omp.h>
#endif

// ---------------------------------------------------------------- descriptors and signals

// The file that is mapped at `address` into name (size), or "". For a signal handler: system calls, and no locks.
static inline void process_mapped_file(const void *address, char *name, size_t size) {
    char buffer[1024], line[1024];
    size_t length = 0;
    name[0] = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; fd >= 0 && (n = read(fd, buffer, sizeof buffer)) > 0;)
        for (ssize_t i = 0; i < n; i++) {
            if (buffer[i] != '\n') {
                if (length < sizeof line - 1) line[length++] = buffer[i];
                continue;
            }
            line[length] = 0;
            length = 0;
            char *rest; // FROM-TO rights offset device inode NAME
            uintptr_t from = strtoul(line, &rest, 16), to = *rest ? strtoul(rest + 1, &rest, 16) : 0;
            const char *path = strchr(rest, '/');
            if (path && (uintptr_t)address >= from && (uintptr_t)address < to) {
                size_t k = 0;
                for (; path[k] && k < size - 1; k++) name[k] = path[k];
                name[k] = 0;
            }
        }
    if (fd >= 0) close(fd);
}

static inline void process_bus_error(int signal_number, siginfo_t *info, void *context) {
    char name[512], line[1024] = "error: ";
    (void)signal_number;
    (void)context;
    process_mapped_file(info->si_addr, name, sizeof name);
    text_make_printable(name);
    strcat(line, name[0] ? name : "memory");
    strcat(line, name[0] ? " could not be read: it became shorter meanwhile, its disk fails, or, in /dev/shm, is full"
                         : " could not be read");
    strcat(line, " (SIGBUS); look at the file, and start again\n");
    ssize_t written = write(STDERR_FILENO, line, strlen(line));
    (void)written;
    _exit(1);
}

// A descriptor from 0 to 2 that is closed would be the number of the next file that is opened, and messages would go
// into it. Stands for it: a folder, which can be neither read nor written, so that what is printed there is an error.
static inline void process_standard_files(void) {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/", O_RDONLY | O_DIRECTORY) != fd) _exit(1);
}

static inline void process_open(void) {
    struct sigaction action;
    struct rlimit files;
    process_standard_files();
    signal(SIGPIPE, SIG_IGN); // a reader that has gone away
    signal(SIGXFSZ, SIG_IGN); // a file at its size limit
    memset(&action, 0, sizeof action);
    action.sa_sigaction = process_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, NULL);
    // Every shard of the data is a descriptor; many systems give 1,024 at first, and more to who asks.
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

// ---------------------------------------------------------------- threads

// Smallest stack of a thread, bytes: kernels and paths take up to a tenth of it. Not to be tuned.
#define PROCESS_STACK_LEAST ((size_t)512 << 10)

// The number at *text, and spaces about it, as libgomp reads it; -1: there is none, or one too large. *text: behind it.
static inline int64_t process_number(const char **text) {
    const char *p = *text + strspn(*text, " "), *digits = p;
    int64_t value = 0;
    for (; *p >= '0' && *p <= '9' && value < ((int64_t)1 << 31); p++) value = 10 * value + (*p - '0');
    bool ok = p > digits && value > 0 && value <= INT32_MAX;
    *text = p + strspn(p, " ");
    return ok ? value : -1;
}

// A list of numbers in the environment, of which the first counts (OMP_NUM_THREADS=8,4: one for each level of nesting,
// and there is one here). 0: not set; -1: no such list, which libgomp would pass over.
static inline int64_t process_omp_number(const char *name, Error *err) {
    const char *text = getenv(name), *p = text;
    if (!text || !*text) return 0;
    int64_t first = process_number(&p), value = first;
    while (value > 0 && *p == ',') {
        p++;
        value = process_number(&p);
    }
    if (value > 0 && !*p) return first;
    error_set(err, "%s=%s in the environment: expected a whole number above 0; correct or unset it", name, text);
    return -1;
}

// Bytes of stack that the environment asks for: kilobytes, unless another unit is given. 0: nothing; -1: no size.
static inline int64_t process_omp_stack(const char *name, Error *err) {
    const char *text = getenv(name), *p = text, *units = "BKMGbkmg";
    if (!text || !*text) return 0;
    int64_t value = process_number(&p);
    const char *unit = *p ? strchr(units, *p) : NULL;
    if (unit) p++;
    p += strspn(p, " ");
    if (value > 0 && !*p) return value << (unit ? 10 * ((unit - units) % 4) : 10);
    error_set(err, "%s=%s in the environment: expected a size such as 8M; correct or unset it", name, text);
    return -1;
}

static inline void *process_wait(void *gate) {
    pthread_mutex_lock((pthread_mutex_t *)gate);
    pthread_mutex_unlock((pthread_mutex_t *)gate);
    return NULL;
}

// Can `count` more threads with stacks of `stack` bytes (0: the system's) live at once? Tries it.
static inline int process_try_threads(int count, size_t stack) {
    pthread_mutex_t gate;
    pthread_attr_t attributes;
    pthread_t *threads = (pthread_t *)mem_alloc(sizeof(pthread_t) * (size_t)count);
    int made = 0, why = pthread_attr_init(&attributes);
    if (!why && stack) why = pthread_attr_setstacksize(&attributes, stack);
    pthread_mutex_init(&gate, NULL);
    pthread_mutex_lock(&gate);
    while (!why && made < count && !(why = pthread_create(&threads[made], &attributes, process_wait, &gate))) made++;
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < made; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&gate);
    pthread_attr_destroy(&attributes);
    free(threads);
    return why;
}

// libgomp ends the process with exit(1) and its own line if a thread that was there a moment ago is not to be had now.
static inline void process_threads_died(int status, void *starting) {
    (void)status;
    if (*(bool *)starting)
        fputs("error: OpenMP's threads could not be started (above); give fewer --threads\n", stderr);
}

// Starts OpenMP's threads, `wanted` of them, or as many as OpenMP would take (0).
static inline bool process_threads(int wanted, Error *err) {
#ifdef _OPENMP
    struct rlimit limit;
    const char *stack_name = getenv("OMP_STACKSIZE") ? "OMP_STACKSIZE" : "GOMP_STACKSIZE";
    if (process_omp_number("OMP_NUM_THREADS", err) < 0 || process_omp_number("OMP_THREAD_LIMIT", err) < 0) return false;
    int64_t stack = process_omp_stack(stack_name, err);
    if (stack < 0) return false;
    if (!stack) stack_name = "ulimit -s";
    bool bounded = getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    if ((stack && (size_t)stack < PROCESS_STACK_LEAST) || (bounded && limit.rlim_cur < PROCESS_STACK_LEAST))
        return error_set(err, "stacks of %lld kB (%s) are too small: give at least %zu kB",
                         (long long)(stack ? stack : (int64_t)limit.rlim_cur) / 1024, stack_name,
                         PROCESS_STACK_LEAST / 1024);
    int threads = wanted > 0 ? wanted : omp_get_max_threads();
    if (threads > omp_get_thread_limit()) threads = omp_get_thread_limit();
    omp_set_num_threads(threads);
    if (threads == 1) return true;
    int why = process_try_threads(threads - 1, (size_t)stack);
    if (why)
        return error_set(err,
                         "%d threads cannot be started here: %s; set --threads or OMP_NUM_THREADS to fewer, or raise "
                         "the limits (ulimit -u, ulimit -v)",
                         threads, strerror(why));
    bool *starting = (bool *)mem_alloc(sizeof(bool)); // lives as long as the process: exit() looks at it
    *starting = on_exit(process_threads_died, starting) == 0;
    signals_threads();
    *starting = false;
#else
    (void)wanted;
    (void)err;
#endif
    return true;
}

#endif
