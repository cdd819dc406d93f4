/*
log.h: what a run says: the terminal, run.log, metrics.jsonl, the progress line.

run.log gets every line with no time stamps but those of events; metrics.jsonl one JSON object a step,
flushed at once, so that a killed run loses at most its last line. On resuming, lines past the
checkpoint are cut off (history.h): the file is then what an undisturbed run would have written.

A run goes on where nobody takes what it says: a full disk, a reader of standard output that has gone. It warns once;
lines of files are kept and tried again (lines.h), and at the end the exit code tells that something is missing.
*/
#ifndef LLMC_LOG_H
#define LLMC_LOG_H

#include "../base/file.h"
#include "../base/json.h"
#include "history.h"
#include "lines.h"

typedef struct {
    LineFile file;    // run.log; not open on ranks other than 0, which say nothing
    LineFile metrics; // metrics.jsonl
    bool terminal;    // stdout is one: the progress line overwrites itself
    bool progress;
    bool unheard;   // stdout cannot be written, which was said
    int line_width; // of the progress line that stands there now
    double last_line;
} Log;

// Sends what was printed to standard output on its way.
static inline void log_flush(Log *log) {
    errno = 0;
    if ((fflush(stdout) == 0 && !ferror(stdout)) || log->unheard) return;
    log->unheard = true;
    warn("cannot write to standard output: %s; training goes on, and run.log has its lines",
         errno ? strerror(errno) : "an earlier write failed");
}

// Ends the progress line, so that other output starts on a line of its own.
static inline void log_clear(Log *log) {
    if (log->line_width) fprintf(stdout, "\r%*s\r", log->line_width, "");
    log->line_width = 0;
}

// To run.log alone: whole lines.
PRINTF_LIKE(2, 3) static inline void log_file(Log *log, const char *format, ...) {
    if (log->file.fd <= 0) return;
    Str s;
    va_list args;
    memset(&s, 0, sizeof s);
    va_start(args, format);
    str_vprintf(&s, format, args);
    va_end(args);
    text_make_printable_but(s.data, "\n");
    lines_add(&log->file, s.data, s.size);
    free(s.data);
}

// keep: control characters that may stand in it.
static inline void log_add(Log *log, const char *keep, const char *format, va_list args) {
    if (log->file.fd <= 0) return;
    Str s;
    memset(&s, 0, sizeof s);
    str_vprintf(&s, format, args);
    text_make_printable_but(s.data, keep);
    str_puts(&s, "\n");
    log_clear(log);
    fputs(s.data, stdout);
    log_flush(log);
    lines_add(&log->file, s.data, s.size);
    free(s.data);
}

// One line to the terminal and to run.log. Names of files in it may be anybody's: they are made printable.
PRINTF_LIKE(2, 3) static inline void log_line(Log *log, const char *format, ...) {
    va_list args;
    va_start(args, format);
    log_add(log, "", format, args);
    va_end(args);
}

// Several lines.
PRINTF_LIKE(2, 3) static inline void log_text(Log *log, const char *format, ...) {
    va_list args;
    va_start(args, format);
    log_add(log, "\n\t", format, args);
    va_end(args);
}

// Lines that others put together, each with its newline.
static inline void log_notes(Log *log, const Str *notes) {
    for (size_t at = 0; at < notes->size;) {
        int n = (int)strcspn(notes->data + at, "\n");
        log_line(log, "%.*s", n, notes->data + at);
        at += (size_t)n + 1;
    }
}

// The live line: in place on a terminal; elsewhere a line every 10 seconds.
PRINTF_LIKE(2, 3) static inline void log_progress(Log *log, const char *format, ...) {
    if (log->file.fd <= 0 || !log->progress) return;
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
    log_flush(log);
}

// "1h02m", "3m20s", "12s".
static inline const char *log_duration(char out[16], double seconds) {
    long s = seconds > 0 && seconds < 1e9 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600) snprintf(out, 16, "%ldh%02ldm", s / 3600 % 100000, s / 60 % 60);
    else if (s >= 60) snprintf(out, 16, "%ldm%02lds", s / 60 % 100, s % 60);
    else snprintf(out, 16, "%lds", s % 100);
    return out;
}

// Opens metrics.jsonl for appending, after cutting it back to the lines of steps <= last_step.
static inline bool log_open_metrics(Log *log, const char *path, int64_t last_step, Error *err) {
    Str notes;
    off_t size = 0;
    memset(&notes, 0, sizeof notes);
    bool ok = history_cut(&notes, &size, path, last_step, err);
    log_notes(log, &notes);
    free(notes.data);
    return ok && lines_open(&log->metrics, path, size, err);
}

// False: lines are missing in one of the files.
static inline bool log_close(Log *log, Error *err) {
    if (log->file.fd > 0) log_clear(log);
    bool ok = lines_finish(&log->metrics, err);
    ok = lines_finish(&log->file, ok ? err : NULL) && ok;
    memset(log, 0, sizeof *log);
    return ok;
}

#endif
