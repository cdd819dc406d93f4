/*
history.h: metrics.jsonl of a run that goes on: the lines of the steps before are kept, whatever else stands there.

Lines of steps past the checkpoint are taken out: the file is then what an undisturbed run would have written. A line
that is not JSON for a NaN or an infinity in it gets null there; one that cannot be read goes to
metrics.jsonl.unreadable, and so does one of a later step that stands before an earlier one: its number is damaged;
blank ones and the rest of a line that a kill cut short go. Nothing else is lost, and a file that cannot be read is an
error, and stays as it is.
*/
#ifndef LLMC_HISTORY_H
#define LLMC_HISTORY_H

#include "../base/file.h"
#include "../base/json.h"

// Puts null for numbers that JSON does not know, as printf and Python write them.
static inline void history_without_nan(Str *out, const char *line, size_t n) {
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
static inline int64_t history_step(const char *line, size_t n) {
    JsonDoc doc;
    const Json *root = json_parse(&doc, line, n, NULL);
    int64_t step = root ? json_integer(json_get(root, "step"), -1) : -1;
    if (root) json_free(&doc);
    return step;
}

// What became of the lines of metrics.jsonl.
typedef struct {
    int64_t bytes, later, mended, unreadable; // bytes: of those that stay
} HistoryLines;

// Writes the lines of steps <= last_step to `out`, those that cannot be read to `aside`.
static inline bool history_sort(HistoryLines *lines, OutFile *out, Str *aside, FILE *old, int64_t last_step,
                                const char *path, Error *err) {
    Str mended, late; // late: lines of later steps, which go if no earlier one follows
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    memset(&mended, 0, sizeof mended);
    memset(&late, 0, sizeof late);
    errno = 0;
    while ((n = getline(&line, &capacity, old)) > 0) {
        bool cut = line[n - 1] != '\n'; // by a kill, or the newline alone is missing
        size_t size = (size_t)(cut ? n : n - 1);
        if (strspn(line, " \t\r\n") >= size) continue;
        int64_t step = history_step(line, size);
        const char *text = line;
        if (step < 0) {
            history_without_nan(&mended, line, size);
            step = history_step(mended.data, mended.size);
            if (step >= 0) lines->mended++, text = mended.data, size = mended.size;
        }
        if (step > last_step) {
            str_add(&late, text, size), str_puts(&late, "\n"), lines->later++;
        } else if (step >= 0) {
            if (late.size) str_add(aside, late.data, late.size);
            lines->unreadable += lines->later, lines->later = 0, late.size = 0;
            out_write(out, text, size), out_write(out, "\n", 1), lines->bytes += (int64_t)size + 1;
        } else if (!cut) {
            str_add(aside, line, (size_t)n), lines->unreadable++;
        }
    }
    int why = errno;
    bool ok = feof(old) && !ferror(old); // no memory for a line is an error of getline(), not of the file
    free(line);
    free(mended.data);
    free(late.data);
    return ok ? true : error_set(err, "cannot read %s: %s", path, strerror(why));
}

// Adds lines to a file of their own, synced; they are to survive that metrics.jsonl is written without them.
static inline bool history_set_aside(const char *path, const Str *lines, Error *err) {
    if (!lines->size) return true;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    bool ok = fd >= 0 && write(fd, lines->data, lines->size) == (ssize_t)lines->size && fsync(fd) == 0;
    if (!ok) error_set(err, "cannot write %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

// Takes the lines of steps > last_step out of metrics.jsonl, which is made where it is not there. *size: of what is
// left; notes: what else was done, lines for the log, each with its newline.
static inline bool history_cut(Str *notes, off_t *size, const char *path, int64_t last_step, Error *err) {
    HistoryLines lines;
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
        ok = (!old || history_sort(&lines, &out, &aside, old, last_step, path, err)) &&
             history_set_aside(unreadable.text, &aside, err);
        if (ok) ok = out_commit(&out, err);
        else out_abort(&out);
    }
    if (old) fclose(old);
    free(aside.data);
    if (lines.later)
        str_printf(notes, "metrics.jsonl: %" PRId64 " lines of steps after %" PRId64 " were taken out\n", lines.later,
                   last_step);
    if (lines.mended)
        str_printf(notes, "metrics.jsonl: %" PRId64 " lines were not JSON for a NaN or an infinity; it is null now\n",
                   lines.mended);
    if (lines.unreadable)
        str_printf(notes,
                   "metrics.jsonl: %" PRId64 " lines could not be read; they stand in metrics.jsonl.unreadable now\n",
                   lines.unreadable);
    *size = (off_t)lines.bytes;
    return ok;
}

#endif
