/*
log.h: what a run says: the terminal, run.log, metrics.jsonl, the progress line.

run.log gets every line with no time stamps but those of events; metrics.jsonl one JSON object a step,
flushed at once, so that a killed run loses at most its last line. On resuming, lines of steps past the
checkpoint are taken out: the file is then what an undisturbed run would have written. A line that is not JSON for a NaN
or an infinity in it gets null there; one that cannot be read goes to metrics.jsonl.unreadable; nothing else is lost.
*/
#ifndef LLMC_LOG_H
#define LLMC_LOG_H

#include "../base/file.h"
#include "../base/json.h"

typedef struct {
    FILE *file;  // run.log; NULL on ranks other than 0, which say nothing
    int metrics; // metrics.jsonl, -1 or, before it is opened, 0: not open
    off_t metrics_size;
    Str pending;   // lines of metrics that a full disk did not take yet
    bool terminal; // stdout is one: the progress line overwrites itself
    bool progress;
    int line_width; // of the progress line that stands there now
    double last_line;
} Log;

// Ends the progress line, so that other output starts on a line of its own.
static inline void log_clear(Log *log) {
    if (log->line_width) fprintf(stdout, "\r%*s\r", log->line_width, "");
    log->line_width = 0;
}

// One line (or several) to the terminal and to run.log.
PRINTF_LIKE(2, 3) static inline void log_line(Log *log, const char *format, ...) {
    if (!log->file) return;
    va_list args;
    log_clear(log);
    va_start(args, format);
    vfprintf(stdout, format, args);
    va_end(args);
    va_start(args, format);
    vfprintf(log->file, format, args);
    va_end(args);
    fputc('\n', stdout);
    fputc('\n', log->file);
    fflush(stdout);
    fflush(log->file);
}

// The live line: in place on a terminal; elsewhere a line every 10 seconds.
PRINTF_LIKE(2, 3) static inline void log_progress(Log *log, const char *format, ...) {
    if (!log->file || !log->progress) return;
    double now = clock_seconds();
    if (now - log->last_line < (log->terminal ? 0.1 : 10.0)) return;
    log->last_line = now;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    int width = (int)strlen(line);
    if (log->terminal) {
        fprintf(stdout, "\r%s%*s", line, log->line_width > width ? log->line_width - width : 0, "");
        log->line_width = width;
    } else {
        fprintf(stdout, "%s\n", line);
    }
    fflush(stdout);
}

// "1h02m", "3m20s", "12s".
static inline const char *log_duration(char out[16], double seconds) {
    long s = seconds > 0 && seconds < 1e9 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600) snprintf(out, 16, "%ldh%02ldm", s / 3600 % 100000, s / 60 % 60);
    else if (s >= 60) snprintf(out, 16, "%ldm%02lds", s / 60 % 100, s % 60);
    else snprintf(out, 16, "%lds", s % 100);
    return out;
}

// Puts null for numbers that JSON does not know, as printf and Python write them.
static inline void log_without_nan(Str *out, const char *line, size_t n) {
    static const char *const words[] = {"-nan", "nan", "-inf", "inf", "-Infinity", "Infinity", "-NaN", "NaN"};
    bool quoted = false;
    out->size = 0;
    for (size_t i = 0, k; i < n; i++) {
        if (line[i] == '"' && (i == 0 || line[i - 1] != '\\')) quoted = !quoted;
        size_t length = 0;
        for (k = 0; !quoted && k < sizeof words / sizeof *words; k++) {
            size_t m = strlen(words[k]);
            char next = i + m < n ? line[i + m] : 0;
            if (m <= n - i && memcmp(line + i, words[k], m) == 0 && (next == ',' || next == '}' || next == ' '))
                length = m;
        }
        if (length) str_puts(out, "null"), i += length - 1;
        else str_add(out, line + i, 1);
    }
}

// The step of a line of metrics, -1: the line cannot be read.
static inline int64_t log_step(const char *line, size_t n) {
    JsonDoc doc;
    const Json *root = json_parse(&doc, line, n, NULL);
    int64_t step = root ? json_integer(json_get(root, "step"), -1) : -1;
    if (root) json_free(&doc);
    return step;
}

// What became of the lines of metrics.jsonl.
typedef struct {
    int64_t kept, later, mended, unreadable;
} LogLines;

// Writes the lines of steps <= last_step to `out`, those that cannot be read to `aside`.
static inline bool log_sort_lines(LogLines *lines, OutFile *out, Str *aside, FILE *old, int64_t last_step,
                                  const char *path, Error *err) {
    Str mended;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    memset(&mended, 0, sizeof mended);
    errno = 0;
    while ((n = getline(&line, &capacity, old)) > 0) {
        bool cut = line[n - 1] != '\n'; // by a kill, or the newline alone is missing
        size_t size = (size_t)(cut ? n : n - 1);
        if (strspn(line, " \t\r\n") >= size) continue;
        int64_t step = log_step(line, size);
        const char *text = line;
        if (step < 0) {
            log_without_nan(&mended, line, size);
            step = log_step(mended.data, mended.size);
            if (step >= 0) lines->mended++, text = mended.data, size = mended.size;
        }
        if (step > last_step) lines->later++;
        else if (step >= 0) out_write(out, text, size), out_write(out, "\n", 1), lines->kept++;
        else if (!cut) str_add(aside, line, (size_t)n), lines->unreadable++;
    }
    int why = errno;
    bool ok = !ferror(old);
    free(line);
    free(mended.data);
    return ok ? true : error_set(err, "cannot read %s: %s", path, strerror(why));
}

// Adds lines to a file of their own, synced; they are to survive that metrics.jsonl is written without them.
static inline bool log_set_aside(const char *path, const Str *lines, Error *err) {
    if (!lines->size) return true;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    bool ok = fd >= 0 && write(fd, lines->data, lines->size) == (ssize_t)lines->size && fsync(fd) == 0;
    if (!ok) error_set(err, "cannot write %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

// Opens metrics.jsonl for appending, after taking out the lines of steps > last_step.
static inline bool log_open_metrics(Log *log, const char *path, int64_t last_step, Error *err) {
    LogLines lines;
    FileKind kind;
    OutFile out;
    Str aside;
    memset(&lines, 0, sizeof lines);
    memset(&aside, 0, sizeof aside);
    if (!path_look(path, &kind, err)) return false;
    FILE *old = kind == FILE_ABSENT ? NULL : file_open_read(path, err);
    if (kind != FILE_ABSENT && !old) return false;
    bool ok = out_open(&out, path, err);
    if (ok) {
        Path unreadable = path_of("%s.unreadable", path);
        ok = (!old || log_sort_lines(&lines, &out, &aside, old, last_step, path, err)) &&
             log_set_aside(unreadable.text, &aside, err);
        if (ok) ok = out_commit(&out, err);
        else out_abort(&out);
    }
    if (old) fclose(old);
    free(aside.data);
    if (!ok) return false;
    if (lines.later)
        log_line(log, "metrics.jsonl: %" PRId64 " lines of steps after %" PRId64 " were taken out", lines.later,
                 last_step);
    if (lines.mended)
        log_line(log, "metrics.jsonl: %" PRId64 " lines were not JSON for a NaN or an infinity; it is null now",
                 lines.mended);
    if (lines.unreadable)
        log_line(log, "metrics.jsonl: %" PRId64 " lines could not be read; they stand in metrics.jsonl.unreadable now",
                 lines.unreadable);
    if (log->metrics > 0) close(log->metrics);
    log->metrics = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    struct stat st;
    if (log->metrics < 0 || fstat(log->metrics, &st) != 0)
        return error_set(err, "cannot write %s: %s", path, strerror(errno));
    log->metrics_size = st.st_size;
    log->pending.size = 0;
    return true;
}

// Appends whole lines to metrics.jsonl. False, with errno: the disk took nothing, and they are tried again with
// the next ones. A part of a line is never left behind.
static inline bool log_metrics(Log *log, const char *lines, size_t n) {
    str_add(&log->pending, lines, n);
    errno = 0;
    ssize_t written = write(log->metrics, log->pending.data, log->pending.size);
    if (written == (ssize_t)log->pending.size) {
        log->metrics_size += written;
        log->pending.size = 0;
        return true;
    }
    int why = errno ? errno : ENOSPC;
    if (written > 0 && ftruncate(log->metrics, log->metrics_size) != 0) why = errno;
    errno = why;
    return false;
}

static inline void log_close(Log *log) {
    if (log->file) {
        log_clear(log);
        fclose(log->file);
    }
    if (log->metrics > 0) close(log->metrics);
    free(log->pending.data);
    memset(log, 0, sizeof *log);
}

#endif
