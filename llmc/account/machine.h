/*
machine.h: what a process runs on, as a record says it: processor, memory, system, compiler, libraries.

Read from /proc and the system's own calls; what cannot be read is left out, and a record without it says so.
*/
#ifndef LLMC_MACHINE_H
#define LLMC_MACHINE_H

#include "../base/json.h"
#include "../ranks/dist.h"
#include <gnu/libc-version.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#ifdef USE_NCCL
#include <nccl.h>
#endif

extern const char *const build_commit;

// The last part of a path.
static inline const char *path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// Copies a value as JSON on one line. Numbers keep the digits that they have.
static inline void json_copy(Str *s, const Json *j) {
    const char *comma = "";
    switch (j->type) {
    case JSON_NULL: str_puts(s, "null"); return;
    case JSON_BOOL: str_puts(s, j->boolean ? "true" : "false"); return;
    case JSON_NUMBER: str_add(s, j->text, j->size); return;
    case JSON_STRING: json_escape(s, j->text, j->size); return;
    default: break;
    }
    str_puts(s, j->type == JSON_OBJECT ? "{" : "[");
    for (const Json *c = j->child; c; c = c->next, comma = ", ") {
        str_puts(s, comma);
        if (c->key) json_escape(s, c->key, c->key_size), str_puts(s, ": ");
        json_copy(s, c);
    }
    str_puts(s, j->type == JSON_OBJECT ? "}" : "]");
}

// Appends `, "name": "text"`, or nothing where there is no text.
static inline void json_member(Str *s, const char *name, const char *text) {
    if (!*text) return;
    str_printf(s, ", \"%s\": ", name);
    json_escape(s, text, strlen(text));
}

static inline void json_member_number(Str *s, const char *name, double x) {
    str_printf(s, ", \"%s\": ", name);
    json_add_number(s, x);
}

// What stands behind the first line of a file that begins with one of these names and a `sign`; empty: there is none.
// Files of /proc have no size, hence no file_read().
static inline Path machine_line(const char *path, const char *name, char sign) {
    Path found = path_of("%s", "");
    char line[1024];
    FILE *f = file_open_read(path, NULL);
    size_t n = strlen(name);
    while (f && !found.text[0] && fgets(line, (int)sizeof line, f)) {
        const char *at = strncmp(line, name, n) == 0 ? line + n + strspn(line + n, " \t") : line;
        if (at == line || *at != sign) continue;
        at += 1 + strspn(at + 1, " \t\"");
        found = path_of("%.*s", (int)strcspn(at, "\"\r\n"), at);
    }
    if (f) fclose(f);
    text_make_printable(found.text);
    return found;
}

// Bytes of memory of this machine, 0: not known.
static inline double machine_memory(void) {
    return 1024 * strtod(machine_line("/proc/meminfo", "MemTotal", ':').text, NULL);
}

// `"cpu": ..., "processors": ..., ...` of this host; not what a job got of it.
static inline void machine_json(Str *s, const char *device) {
    struct utsname u;
    Path cpu = machine_line("/proc/cpuinfo", "model name", ':');
    str_puts(s, "\"device\": ");
    json_escape(s, device, strlen(device));
    json_member(s, "cpu", cpu.text);
    json_member_number(s, "processors", (double)sysconf(_SC_NPROCESSORS_ONLN));
    json_member_number(s, "memory_bytes", machine_memory());
    json_member(s, "system", machine_line("/etc/os-release", "PRETTY_NAME", '=').text);
    if (uname(&u) == 0) json_member(s, "kernel", path_of("%s %s %s", u.sysname, u.release, u.machine).text);
}

// `"libc": ..., "openmp": ..., ...`: what the program is linked with. CUDA's versions stand in the device's line.
static inline void machine_libraries(Str *s) {
    str_printf(s, "\"libc\": \"glibc %s\"", gnu_get_libc_version());
#ifdef _OPENMP
    str_printf(s, ", \"openmp\": \"%d\"", _OPENMP);
#endif
#ifdef USE_MPI
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    int size = 0;
    MPI_Get_library_version(mpi, &size);
    mpi[strcspn(mpi, "\n")] = 0;
    json_member(s, "mpi", mpi);
#endif
#ifdef USE_NCCL
    int nccl = 0;
    if (ncclGetVersion(&nccl) == ncclSuccess)
        str_printf(s, ", \"nccl\": \"%d.%d.%d\"", nccl / 10000, nccl / 100 % 100, nccl % 100);
#endif
}

// The settings of the environment that this program reads, but for those of how ranks find each other.
static inline void machine_environment(Str *s) {
    const char *comma = "";
    for (char **e = environ; *e; e++) {
        size_t n = strcspn(*e, "=");
        if (strncmp(*e, "LLMC_", 5) != 0 || strncmp(*e, "LLMC_BOOTSTRAP", 14) == 0 || !(*e)[n]) continue;
        str_puts(s, comma);
        json_escape(s, *e, n);
        str_puts(s, ": ");
        json_escape(s, *e + n + 1, strlen(*e + n + 1));
        comma = ", ";
    }
}

// Now, in UTC: "2026-11-26T23:19:07Z".
static inline Path machine_time(void) {
    time_t now = time(NULL);
    struct tm utc;
    char text[32];
    gmtime_r(&now, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return path_of("%s", text);
}

#endif
