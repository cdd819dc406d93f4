/*
common.h: what every other header stands on: errors, memory, strings, time.

Errors. A function that can fail for a reason outside the program (a file, a user's value) returns
bool and takes an Error* last; on false the Error holds one line that says what was expected, what
was found, where, and what to do next. Nothing in llmc/ ends the process on bad input: the verbs do,
through fail(), so that tests and fuzzers can call everything in-process. The exceptions are memory
(mem_alloc() ends the process with the size that could not be had) and numbers in the environment.

This header and all others in llmc/ outside llmc/cpu and llmc/cuda compile as C11 and as C++17.
*/
#ifndef LLMC_COMMON_H
#define LLMC_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "memory.h"
#include <errno.h>
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

// A message may quote a file that somebody else has made: control characters (also those of 8 bits, U+0080 to U+009F)
// and bytes that are no UTF-8 become '?', so that it stays one line and moves no terminal. keep: what may stay.
static inline void text_make_printable_but(char *text, const char *keep) {
    uint8_t *p = (uint8_t *)text, *end = p + strlen(text);
    uint32_t c = 0;
    for (int n; p < end; p += n) {
        n = utf8_decode(p, end, &c);
        if (n && c >= 32 && (c < 127 || c > 159)) continue;
        if (n == 1 && strchr(keep, *p)) continue;
        n = n ? n : 1;
        memset(p, '?', (size_t)n);
    }
}
static inline void text_make_printable(char *text) { text_make_printable_but(text, ""); }

// Fills err (which may be NULL) and returns false, so that callers write `return error_set(err, ...)`.
PRINTF_LIKE(2, 3) static inline bool error_set(Error *err, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        text_make_printable(err->text);
    }
    return false;
}

// `kind: message`, one line on stderr.
static inline void message_print(const char *kind, const char *format, va_list args) {
    char line[1100];
    vsnprintf(line, sizeof line, format, args);
    text_make_printable(line);
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", kind, line);
}

// Prints one line to stderr and ends the process with exit code 1. For the verbs, not for library code. stderr stays
// locked: another thread that fails meanwhile, for want of the same memory, waits here and adds no line.
PRINTF_LIKE(1, 2) static inline void fail(const char *format, ...) {
    va_list args;
    flockfile(stderr);
    va_start(args, format);
    message_print("error", format, args);
    va_end(args);
    exit(1);
}

PRINTF_LIKE(1, 2) static inline void warn(const char *format, ...) {
    va_list args;
    va_start(args, format);
    message_print("warning", format, args);
    va_end(args);
}

// ---------------------------------------------------------------- memory

#define MEM_GIB (1024.0 * 1024.0 * 1024.0)

// Ends the process, with a line that says so, where so much memory would be a bare "Killed" as soon as it is touched.
static inline void mem_look(size_t bytes) {
    const size_t worth_it = (size_t)16 << 20; // of reading the files of /proc
    if (bytes < worth_it || !memory_checked()) return;
    MemoryRoom room;
    memory_room(&room, "");
    const MemoryBound *least = memory_least(&room);
    if (least && (double)bytes > least->left)
        fail("out of memory: %.3f GiB are needed at once, and %.3f GiB are left (%s); try a smaller model, "
             "--batch_size "
             "or --seq_len, or a larger limit; LLMC_MEMORY_CHECK=off in the environment tries it all the same",
             (double)bytes / MEM_GIB, least->left / MEM_GIB, least->name);
}

#define MEM_HUGE ((size_t)2 << 20) // bytes of a huge page

// Asks for huge pages in what of them lies whole in bytes at p: the first touch of one is a fault and not 512, and
// lookups that lead through all of it find their pages. A wish: failure changes nothing but speed.
static inline void mem_wish_huge(void *p, size_t bytes) {
#ifdef MADV_HUGEPAGE
    size_t before = (MEM_HUGE - (uintptr_t)p % MEM_HUGE) % MEM_HUGE;
    if (bytes >= before + MEM_HUGE) madvise((char *)p + before, (bytes - before) / MEM_HUGE * MEM_HUGE, MADV_HUGEPAGE);
#else
    (void)p, (void)bytes;
#endif
}

// Zeroed memory, aligned to 64 bytes (one cache line, one AVX-512 register), in huge pages where it fills one and the
// system gives them; freed with free(). Ends the process when there is none: nothing sensible can follow.
static inline void *mem_alloc(size_t bytes) {
    void *p = NULL;
    size_t unit = bytes < MEM_HUGE ? 64 : MEM_HUGE, rounded = bytes ? (bytes + unit - 1) / unit * unit : unit;
    mem_look(bytes);
    if (rounded < bytes || posix_memalign(&p, unit, rounded) != 0)
        fail("out of memory: %.2f GiB could not be allocated; try a smaller model, --batch_size or --seq_len",
             (double)bytes / MEM_GIB);
    mem_wish_huge(p, rounded);
    memset(p, 0, rounded);
    return p;
}

// Grows a plain array (elements of `size` bytes) so that it holds at least `need`; doubles, so that
// appending n elements costs O(n). Returns the array, *capacity updated.
static inline void *mem_grow(void *array, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity) return array;
    size_t wanted = *capacity ? *capacity : 64;
    while (wanted < need) wanted *= 2;
    void *grown = realloc(array, wanted * size);
    if (!grown) fail("out of memory: %.2f GiB could not be allocated", (double)(wanted * size) / MEM_GIB);
    mem_wish_huge(grown, wanted * size);
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

static inline void str_vprintf(Str *s, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    s->data = (char *)mem_grow(s->data, &s->capacity, s->size + (size_t)n + 1, 1);
    vsnprintf(s->data + s->size, (size_t)n + 1, format, again);
    va_end(again);
    s->size += (size_t)n;
}

PRINTF_LIKE(2, 3) static inline void str_printf(Str *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    str_vprintf(s, format, args);
    va_end(args);
}

// One line of a result on standard output; names in it are made printable.
PRINTF_LIKE(1, 2) static inline void print_line(const char *format, ...) {
    Str s;
    va_list args;
    memset(&s, 0, sizeof s);
    va_start(args, format);
    str_vprintf(&s, format, args);
    va_end(args);
    text_make_printable(s.data);
    printf("%s\n", s.data);
    free(s.data);
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

// ---------------------------------------------------------------- time and numbers

// Seconds on a clock that only goes forward.
static inline double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// A whole number that a person or a launcher wrote where no Error goes: one of another form ends the process. from:
// what it is, for the message.
static inline int int_or_fail(const char *text, const char *from) {
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (!*text || *end || errno || value < INT32_MIN || value > INT32_MAX ||
        strspn(text, "-0123456789") != strlen(text))
        fail("%s=%.200s: expected a whole number", from, text);
    return (int)value;
}

static inline int environment_int(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text && *text ? int_or_fail(text, name) : otherwise;
}

static inline int64_t int64_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t int64_max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
