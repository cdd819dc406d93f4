/*
memory.h: how much memory this process can still get, before the kernel ends it with a bare "Killed".

    memory_room(&room, "")     every bound: what the machine has left, the cgroups, the limits of the process
    memory_least(&room)        the tightest; NULL: nothing is known
    memory_checked()           false: LLMC_MEMORY_CHECK=off in the environment, for machines that count otherwise

The bounds are upper ones. Linux gives memory out on credit and takes it back from whoever it chooses, so what is within
them may fail all the same; what is beyond them cannot work. Page cache counts as free, and swap as memory.

    MemAvailable + SwapFree of /proc/meminfo, and the commit limit where the kernel gives no credit (overcommit 2)
    memory.max of this process's cgroup (version 2) and of all above it, minus memory.current, plus page cache and swap
    memory.limit_in_bytes and memory.memsw.limit_in_bytes of version 1, likewise
    RLIMIT_AS and RLIMIT_DATA (ulimit -v, -d)

Sources: proc(5), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel. A file that cannot be
read is no bound. `root` stands before every path, so that a test can show machines that it is not on.

Needs nothing of this project: common.h includes it.
*/
#ifndef LLMC_MEMORY_H
#define LLMC_MEMORY_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    double left;    // bytes that can still be taken
    uint64_t id[2]; // processes of a host with the same id share it; {0, 0}: it is this process's own
    char name[400];
} MemoryBound;

enum { MEMORY_BOUNDS = 32 };
typedef struct {
    MemoryBound items[MEMORY_BOUNDS];
    int count;
} MemoryRoom;

static inline bool memory_checked(void) {
    const char *choice = getenv("LLMC_MEMORY_CHECK");
    return !choice || strcmp(choice, "off") != 0;
}

// ---------------------------------------------------------------- files of /proc and /sys

// A file's text, to be freed; NULL: it cannot be read. These files have no size of their own; 4 MiB are more than any
// has.
static inline char *memory_text(const char *root, const char *folder, const char *name) {
    char path[8192];
    if (snprintf(path, sizeof path, "%s%s%s", root, folder, name) >= (int)sizeof path) return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return NULL;
    const size_t most = (size_t)4 << 20;
    size_t size = 0, capacity = 0;
    char *text = NULL;
    for (;;) {
        if (size + 4096 > capacity) {
            capacity = capacity ? 2 * capacity : 16384;
            char *grown = capacity <= most ? (char *)realloc(text, capacity) : NULL;
            if (!grown) break;
            text = grown;
        }
        ssize_t n = read(fd, text + size, capacity - size - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n > 0) {
            size += (size_t)n;
            continue;
        }
        close(fd);
        if (n == 0) {
            text[size] = 0;
            return text;
        }
        free(text);
        return NULL;
    }
    close(fd);
    free(text);
    return NULL;
}

// The number behind a word at the start of a line, -1: there is none ("max", "unlimited", no such line).
static inline double memory_field(const char *text, const char *word) {
    size_t n = strlen(word);
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, word, n) != 0) continue;
        const char *digits = line + n + strspn(line + n, " \t");
        if (*digits < '0' || *digits > '9') return -1;
        return (double)strtoull(digits, NULL, 10);
    }
    return -1;
}

// The number that is a whole file.
static inline double memory_number(const char *root, const char *folder, const char *name) {
    char *text = memory_text(root, folder, name);
    double value = text ? memory_field(text, "") : -1;
    free(text);
    return value;
}

static inline void memory_add(MemoryRoom *r, double left, uint64_t a, uint64_t b, const char *name, const char *file) {
    if (r->count == MEMORY_BOUNDS) return;
    MemoryBound *bound = &r->items[r->count++];
    bound->left = left > 0 ? left : 0;
    bound->id[0] = a, bound->id[1] = b;
    snprintf(bound->name, sizeof bound->name, "%.340s%.50s", name, file);
}

// ---------------------------------------------------------------- the machine, the process

// Returns the swap that is free, in bytes.
static inline double memory_of_machine(MemoryRoom *r, const char *root) {
    char *text = memory_text(root, "/proc/meminfo", "");
    if (!text) return 0;
    double there = 1024 * memory_field(text, "MemAvailable:"), swap = 1024 * memory_field(text, "SwapFree:"),
           limit = 1024 * memory_field(text, "CommitLimit:"), promised = 1024 * memory_field(text, "Committed_AS:");
    free(text);
    if (swap < 0) swap = 0;
    if (there >= 0) memory_add(r, there + swap, 1, 1, "MemAvailable and SwapFree of /proc/meminfo", "");
    if (limit >= 0 && promised >= 0 && memory_number(root, "/proc/sys/vm/overcommit_memory", "") == 2)
        memory_add(r, limit - promised, 1, 2, "CommitLimit of /proc/meminfo, with vm.overcommit_memory=2", "");
    return swap;
}

static inline void memory_of_process(MemoryRoom *r, const char *root) {
    char *limits = memory_text(root, "/proc/self/limits", ""), *status = memory_text(root, "/proc/self/status", "");
    if (limits && status) {
        double space = memory_field(limits, "Max address space"), taken = 1024 * memory_field(status, "VmSize:");
        if (space >= 0 && taken >= 0) memory_add(r, space - taken, 0, 0, "the limit on address space, ulimit -v", "");
        space = memory_field(limits, "Max data size"), taken = 1024 * memory_field(status, "VmData:");
        if (space >= 0 && taken >= 0) memory_add(r, space - taken, 0, 0, "the limit on data, ulimit -d", "");
    }
    free(limits);
    free(status);
}

// ---------------------------------------------------------------- cgroups

// One group: its limit and what is used, without what the kernel can drop (page cache), with what it may swap out.
static inline void memory_of_group(MemoryRoom *r, const char *root, const char *folder, bool v2, bool own,
                                   double swap) {
    // A group of version 1 may not count what the groups in it use; then it does not bound them either.
    if (!v2 && !own && memory_number(root, folder, "/memory.use_hierarchy") == 0) return;
    const char *limit_file = v2 ? "/memory.max" : "/memory.limit_in_bytes",
               *both_file = "/memory.memsw.limit_in_bytes"; // memory and swap together
    double limit = memory_number(root, folder, limit_file),
           used = memory_number(root, folder, v2 ? "/memory.current" : "/memory.usage_in_bytes");
    if (limit < 0 || used < 0 || limit > 1e18) limit = -1; // version 1 has a huge number where there is none
    char *counts = memory_text(root, folder, "/memory.stat");
    static const char *const words[2][3] = {{"total_inactive_file ", "total_active_file ", "none "},
                                            {"inactive_file ", "active_file ", "slab_reclaimable "}};
    double cache = 0;
    for (int i = 0; i < 3 && counts; i++) {
        double bytes = memory_field(counts, words[v2][i]);
        cache += bytes > 0 ? bytes : 0;
    }
    free(counts);
    if (cache > used) cache = used;
    double more = v2 ? memory_number(root, folder, "/memory.swap.max") : -1,
           swapped = v2 ? memory_number(root, folder, "/memory.swap.current") : -1,
           both = v2 ? -1 : memory_number(root, folder, both_file),
           both_used = v2 ? -1 : memory_number(root, folder, "/memory.memsw.usage_in_bytes");
    if (more >= 0 && swapped >= 0 && more - swapped < swap) swap = more > swapped ? more - swapped : 0;
    char path[8192];
    struct stat st;
    snprintf(path, sizeof path, "%s%s", root, folder);
    if (stat(path, &st) != 0) return;
    uint64_t id = (uint64_t)st.st_ino;
    if (limit >= 0) memory_add(r, limit - used + cache + swap, 2 + (uint64_t)st.st_dev, id, folder, limit_file);
    if (both >= 0 && both < 1e18 && both_used >= 0)
        memory_add(r, both - both_used + cache, 2 + (uint64_t)st.st_dev, id ^ (uint64_t)1 << 63, folder, both_file);
}

// A word of /proc/self/mountinfo, up to a space: \040 is a space in a name.
static inline const char *memory_word(char *out, size_t size, const char *text) {
    size_t n = 0;
    while (*text && *text != ' ' && *text != '\n') {
        unsigned code = 0;
        bool octal = text[0] == '\\' && sscanf(text + 1, "%3o", &code) == 1;
        if (n + 1 < size) out[n++] = octal ? (char)code : *text;
        text += octal ? 4 : 1;
    }
    out[n] = 0;
    return *text == ' ' ? text + 1 : text;
}

typedef struct {
    char root[4096], point[4096]; // which group is at its top, and where it is mounted
} MemoryMount;

// Where the groups of a version are mounted; else where they usually are.
static inline void memory_mount(MemoryMount *m, const char *mountinfo, bool v2) {
    for (const char *line = mountinfo; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        const char *at = line, *end = strchr(line, '\n'), *type = strstr(line, " - ");
        if (!type || (end && type > end)) continue;
        char kind[32], source[64], options[1024];
        const char *behind = memory_word(kind, sizeof kind, type + 3);
        memory_word(options, sizeof options, memory_word(source, sizeof source, behind));
        if (strcmp(kind, v2 ? "cgroup2" : "cgroup") != 0) continue;
        bool memory = v2;
        for (const char *o = options; *o && !memory; o += strcspn(o, ","), o += *o == ',')
            memory = strcspn(o, ",") == 6 && strncmp(o, "memory", 6) == 0;
        if (!memory) continue;
        for (int i = 0; i < 3; i++) at += strcspn(at, " "), at += *at == ' ';
        memory_word(m->point, sizeof m->point, memory_word(m->root, sizeof m->root, at));
        return;
    }
    snprintf(m->root, sizeof m->root, "/");
    snprintf(m->point, sizeof m->point, "%s", v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
}

// The group of this process in one version, and all above it up to where the file system of groups is mounted.
static inline void memory_of_groups(MemoryRoom *r, const char *root, const char *path, const char *mountinfo, bool v2,
                                    double swap) {
    MemoryMount m;
    char folder[8192];
    memory_mount(&m, mountinfo, v2);
    size_t top = strlen(m.root), length = strcspn(path, "\n");
    if (top == 1) top = 0; // "/"
    // In a namespace of its own a process may stand outside of what it sees.
    if (length < top || strncmp(path, m.root, top) != 0 || (length > top && path[top] != '/') ||
        strncmp(path, "/..", 3) == 0)
        top = length;
    size_t point = strcmp(m.point, "/") == 0 ? 0 : strlen(m.point);
    int n = snprintf(folder, sizeof folder, "%.*s%.*s", (int)point, m.point, (int)(length - top), path + top);
    if (n >= (int)sizeof folder) return;
    while (n > (int)point && folder[n - 1] == '/') folder[--n] = 0;
    for (bool own = true;; own = false) {
        memory_of_group(r, root, folder, v2, own, swap);
        if (n <= (int)point) return;
        while (n > (int)point && folder[n - 1] != '/') n--;
        if (n > (int)point) n--;
        folder[n] = 0;
    }
}

static inline void memory_room(MemoryRoom *r, const char *root) {
    r->count = 0;
    double swap = memory_of_machine(r, root);
    memory_of_process(r, root);
    char *groups = memory_text(root, "/proc/self/cgroup", ""), *mounts = memory_text(root, "/proc/self/mountinfo", "");
    for (const char *line = groups; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        const char *names = line + strcspn(line, ":\n"),
                   *path = *names == ':' ? names + 1 + strcspn(names + 1, ":\n") : names;
        if (*path != ':') continue;
        bool v2 = path == names + 1, memory = v2; // 0::/PATH, or NUMBER:NAME,NAME:/PATH
        for (const char *o = names + 1; o < path && !memory; o += strcspn(o, ",:") + 1)
            memory = strcspn(o, ",:") == 6 && strncmp(o, "memory", 6) == 0;
        if (memory) memory_of_groups(r, root, path + 1, mounts, v2, swap);
    }
    free(groups);
    free(mounts);
}

static inline const MemoryBound *memory_least(const MemoryRoom *r) {
    const MemoryBound *least = NULL;
    for (int i = 0; i < r->count; i++)
        if (!least || r->items[i].left < least->left) least = &r->items[i];
    return least;
}

#endif
