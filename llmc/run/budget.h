/*
budget.h: a budget of time, --time_budget. The schedule of the learning rate runs by the share of it that is used, so
that a run ends when its time does, with its decay done, whatever else the machine does meanwhile.

Before each step rank 0 foresees what will be used when it ends: what is used now, and as long as the shorter of the
last two steps took. This mark, and no clock, is what the step's learning rate is a function of (schedule_lr_at), on all
ranks. Marks never go back. A step behind which not half another one would fit has the budget itself as its mark, and
is the last.

Marks are recorded, a line a step, in RUN_DIR/time_budget.jsonl, before the step is made:

    {"position": 0, "step": 1, "seconds": 0}      position: sequences read before it, which no rollback takes back

Where the record of the run's folder has the position of the next step, its mark is taken, and the clock is set by it;
behind its end the clock goes on. So a run that was killed comes to the same bits as far as it had come, and a new run
into whose folder the record of another one was copied makes the same steps as that one, on a machine of any speed. The
mark of a checkpoint stands in its run.json.

What counts is the time of the training loop: steps, validations, samples, checkpoints between them. The start, the last
validation and the last checkpoint do not, nor does what a killed run did behind its last checkpoint and its record.
*/
#ifndef LLMC_BUDGET_H
#define LLMC_BUDGET_H

#include "../base/json.h"
#include "lines.h"
#include <math.h>

typedef struct {
    int64_t position;
    double seconds;
    off_t start; // of its line
} BudgetMark;

typedef struct {
    double limit;          // seconds; 0: there is no budget, and nothing below is used
    double (*clock)(void); // seconds that only go forward; tests have their own
    double origin;         // what it showed when nothing was used yet
    double began;          // and at the beginning of the step under way
    double took[2];        // what the last steps took; 0: not known
    BudgetMark *marks;     // (count): the record
    size_t count, next;
    bool recorded; // the step under way is in the record
    LineFile file;
} Budget;

// One line of the record.
static inline bool budget_read_line(BudgetMark *mark, const char *line, size_t n) {
    JsonDoc doc;
    const Json *root = json_parse(&doc, line, n, NULL);
    if (!root) return false;
    mark->position = json_integer(json_get(root, "position"), -1);
    mark->seconds = json_number(json_get(root, "seconds"), -1);
    json_free(&doc);
    return mark->position >= 0 && mark->seconds >= 0 && isfinite(mark->seconds);
}

// Reads the record, if there is one; a line that a kill cut short does not count. used: seconds, and position, where
// the run stands now. On rank 0.
static inline bool budget_open(Budget *b, const char *path, int64_t position, double used, Error *err) {
    FileKind kind;
    Str text;
    bool ok = path_look(path, &kind, err);
    memset(&text, 0, sizeof text);
    if (ok && kind != FILE_ABSENT) ok = file_read(&text, path, (size_t)1 << 34, err);
    size_t capacity = 0, at = 0;
    for (size_t number = 1; ok && at < text.size; number++) {
        const char *line = text.data + at, *end = (const char *)memchr(line, '\n', text.size - at);
        if (!end) break;
        b->marks = (BudgetMark *)mem_grow(b->marks, &capacity, b->count + 1, sizeof(BudgetMark));
        BudgetMark *mark = &b->marks[b->count], *before = b->count ? mark - 1 : NULL;
        ok = budget_read_line(mark, line, (size_t)(end - line)) &&
             (!before || (mark->position > before->position && mark->seconds >= before->seconds));
        if (!ok)
            error_set(err,
                      "%s:%zu: expected a step's position and seconds, not below those before; remove the file "
                      "to go on by the clock alone",
                      path, number);
        mark->start = (off_t)at;
        b->count++;
        at += (size_t)(end + 1 - line);
    }
    free(text.data);
    while (b->next < b->count && b->marks[b->next].position < position) b->next++;
    b->origin = b->clock() - used;
    return ok && lines_open(&b->file, path, (off_t)at, err);
}

// The mark of the step that begins at `position`, which is recorded; last: of the step before. On rank 0.
static inline double budget_begin(Budget *b, int64_t position, int64_t step, double last) {
    b->began = b->clock();
    b->recorded = b->next < b->count && b->marks[b->next].position == position;
    if (b->recorded) return fmin(b->marks[b->next++].seconds, b->limit);
    double step_took = b->took[1] > 0 ? fmin(b->took[0], b->took[1]) : b->took[0];
    double mark = fmax(b->began - b->origin + step_took, last);
    if (mark + 0.5 * step_took >= b->limit) mark = b->limit;
    Error err;
    // A record of other steps, say of another batch size, does not go on here.
    if (b->next < b->count && !lines_open(&b->file, b->file.path.text, b->marks[b->next].start, &err))
        warn("%s", err.text);
    if (b->next < b->count) b->count = b->next;
    char line[128];
    int n = snprintf(line, sizeof line, "{\"position\": %lld, \"step\": %lld, \"seconds\": %.17g}\n",
                     (long long)position, (long long)step, mark);
    lines_add(&b->file, line, (size_t)n);
    return mark;
}

// The step ended that had this mark.
static inline void budget_end(Budget *b, double mark) {
    double now = b->clock();
    if (b->recorded) b->origin = now - mark;
    b->took[1] = b->took[0];
    b->took[0] = now - b->began;
}

#endif
