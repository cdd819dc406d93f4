/*
followers.h: what a run writes for those who follow it, beside metrics.jsonl and run.log. On rank 0 alone:

    RUN/events.jsonl    a line at each start (what the run is: options, model, data, device), checkpoint, rollback, stop
                        and end, with the time in seconds since 1970
    RUN/samples.jsonl   a line for each sample
    RUN/report.html     report_page.h; at checkpoints and at the end
    RUN/tb/             tensorboard.h; --tensorboard=off leaves it out
    --mlflow=FOLDER     mlflow.h

Nothing of this can end a run, or change its numbers: what cannot be written costs one warning. What a step adds is kept
in memory, and written every FOLLOW_SECONDS. A report is made where the time since the last one is a hundred times what
that took, and in any case at the end: together they are below 1% of the time.
*/
#ifndef LLMC_FOLLOWERS_H
#define LLMC_FOLLOWERS_H

#include "append.h"
#include "history.h"
#include "inputs.h"
#include "mlflow.h"
#include "report_page.h"
#include "tensorboard.h"

#define FOLLOW_SECONDS 2.0 // how old what others see may be

typedef struct {
    bool open;
    Path folder;
    AppendFile events, samples, tb;
    Str tb_pending;
    bool report_warned;
    Mlflow mlflow;
    RunView *view; // for the report
    double flushed, reported, report_took;
    double seconds; // that all of this has taken
    int64_t step;   // the newest
} Followers;

// What a run is, for the line of its start.
typedef struct {
    const Options *o;
    const Dist *dist;
    const RunInputs *in;
    const char *device, *memory;
    int64_t step, step_tokens; // done before; in one update
    double flops_per_token, peak_flops;
} FollowStart;

// ---------------------------------------------------------------- events.jsonl, samples.jsonl

// A line of events.jsonl: its beginning, which the caller goes on with.
static inline void followers_event(Str *s, const char *kind, int64_t step) {
    str_printf(s, "{\"event\": \"%s\", \"step\": %" PRId64 ", \"time\": %.3f", kind, step, tb_now());
}

static inline void followers_write_event(Followers *f, const char *kind, int64_t step, const char *why) {
    Str s;
    memset(&s, 0, sizeof s);
    followers_event(&s, kind, step);
    if (*why) str_puts(&s, ", \"why\": "), json_escape(&s, why, strlen(why));
    str_puts(&s, "}\n");
    append_line(&f->events, &s);
    free(s.data);
}

static inline void followers_dataset(Str *s, const char *name, const Dataset *d) {
    str_printf(
        s, ", \"%s\": {\"tokens\": %lld, \"documents\": %lld, \"bytes\": %lld, \"sequences\": %lld, \"shards\": %d}",
        name, (long long)d->tokens, (long long)d->documents, (long long)d->bytes, (long long)d->sequences, d->count);
}

static inline void followers_text(Str *s, const char *name, const char *text) {
    str_printf(s, ", \"%s\": ", name);
    json_escape(s, text, strlen(text));
}

static inline void followers_start_line(Str *s, const FollowStart *start) {
    const Options *o = start->o;
    followers_event(s, "start", start->step);
    followers_text(s, "why", start->step ? "resumed" : "");
    followers_text(s, "program", engine_name());
    followers_text(s, "commit", build_commit);
    followers_text(s, "compiler", __VERSION__);
    followers_text(s, "host", start->dist->host);
    followers_text(s, "device", start->device);
    followers_text(s, "memory", start->memory);
    str_printf(s, ", \"ranks\": %d, \"step_tokens\": %" PRId64, start->dist->size, start->step_tokens);
    str_printf(s, ", \"flops_per_token\": %.9g, \"peak_flops\": %.9g", start->flops_per_token, start->peak_flops);
    str_puts(s, ", \"tokenizer\": {\"path\": ");
    json_escape(s, o->tokenizer, strlen(o->tokenizer));
    str_printf(s, ", \"vocab_size\": %d, \"hash\": \"%016" PRIx64 "\"}", start->in->tokenizer.vocab_size,
               start->in->tokenizer.hash);
    followers_dataset(s, "train", &start->in->train);
    followers_dataset(s, "val", &start->in->val);
    str_puts(s, ", ");
    info_model(s, &start->in->config, o, start->dist);
    str_puts(s, ", \"options\": {");
    options_json(s, o);
    str_puts(s, "}}");
    for (size_t i = 0; i < s->size; i++) // in texts they are escaped
        if (s->data[i] == '\n') s->data[i] = ' ';
    str_puts(s, "\n");
}

// Takes samples of steps behind `last` out of samples.jsonl, and opens it.
static inline void followers_open_samples(Followers *f, int64_t last) {
    Path path = path_of("%.3000s/samples.jsonl", f->folder.text);
    FileKind kind;
    Error err;
    Str notes;
    off_t size;
    memset(&notes, 0, sizeof notes);
    append_close(&f->samples);
    f->samples.path = path;
    bool ok =
        path_look(path.text, &kind, &err) && (kind == FILE_ABSENT || history_cut(&notes, &size, path.text, last, &err));
    if (!ok) append_warn(&f->samples, err.text);
    free(notes.data);
    if (ok && kind != FILE_ABSENT) append_open(&f->samples, path.text);
}

// ---------------------------------------------------------------- TensorBoard

// The options as TensorBoard shows text: a table in Markdown.
static inline void followers_tb_options(Followers *f, const FollowStart *start) {
    Str s, value;
    memset(&s, 0, sizeof s);
    memset(&value, 0, sizeof value);
    str_printf(&s, "%s, commit %s\n\n| option | value |\n|---|---|\n", engine_name(), build_commit);
    for (const Option *p = option_rows; p < option_rows + OPTION_COUNT; p++) {
        if (!(p->verbs & O_TRAIN)) continue;
        value.size = 0;
        option_text(&value, p, start->o);
        str_printf(&s, "| %s | ", p->name);
        for (size_t i = 0; i < value.size; i++) // a path may hold what Markdown takes for its own
            if (value.data[i] == '\n') str_puts(&s, " ");
            else if (strchr("|<`*_\\", value.data[i])) str_printf(&s, "\\%c", value.data[i]);
            else str_add(&s, value.data + i, 1);
        str_puts(&s, " |\n");
    }
    tb_text(&f->tb_pending, start->step, "options", &s);
    free(s.data), free(value.data);
}

static inline void followers_flush(Followers *f) {
    if (f->tb_pending.size) append_add(&f->tb, f->tb_pending.data, f->tb_pending.size);
    f->tb_pending.size = 0;
    mlflow_flush(&f->mlflow);
    f->flushed = clock_seconds();
}

// ---------------------------------------------------------------- what the training loop calls

// On rank 0, when the run's other files are open.
static inline void followers_open(Followers *f, const FollowStart *start) {
    const Options *o = start->o;
    double began = clock_seconds();
    Str s;
    memset(f, 0, sizeof *f);
    memset(&s, 0, sizeof s);
    f->open = true, f->step = start->step;
    f->folder = path_of("%.3000s", o->out);
    append_open(&f->events, path_of("%.3000s/events.jsonl", o->out).text);
    followers_start_line(&s, start);
    append_line(&f->events, &s);
    free(s.data);
    followers_open_samples(f, start->step);
    if (o->tensorboard && tb_open(&f->tb, path_of("%.3000s/tb", o->out).text, start->dist->host, start->step + 1))
        followers_tb_options(f, start);
    uint64_t what =
        (uint64_t)o->seed ^ fnv1a64(&start->in->train.count, sizeof(int), (uint64_t)start->in->train.tokens);
    if (*o->mlflow) mlflow_open(&f->mlflow, o, what, start->step);
    followers_flush(f);
    f->reported = clock_seconds();
    f->seconds += clock_seconds() - began;
}

// line: of metrics.jsonl, of n bytes.
static inline void followers_step(Followers *f, int64_t step, const char *line, size_t n) {
    JsonDoc doc;
    if (!f->open) return;
    double began = clock_seconds();
    f->step = step;
    const Json *root = f->tb.fd > 0 || f->mlflow.open ? json_parse(&doc, line, n, NULL) : NULL;
    if (root && f->tb.fd > 0) tb_scalars(&f->tb_pending, step, root, tb_now());
    if (root) mlflow_step(&f->mlflow, step, root), json_free(&doc);
    if (began - f->flushed > FOLLOW_SECONDS) followers_flush(f);
    f->seconds += clock_seconds() - began;
}

static inline void followers_sample(Followers *f, int64_t step, const char *prompt, const char *text) {
    Str s;
    if (!f->open) return;
    memset(&s, 0, sizeof s);
    if (f->samples.fd <= 0 && !f->samples.warned)
        append_open(&f->samples, path_of("%.3000s/samples.jsonl", f->folder.text).text);
    str_printf(&s, "{\"step\": %" PRId64 ", \"time\": %.3f", step, tb_now());
    followers_text(&s, "prompt", prompt);
    followers_text(&s, "text", text);
    str_puts(&s, "}\n");
    append_line(&f->samples, &s);
    s.size = 0;
    str_printf(&s, "%s%s", prompt, text);
    if (f->tb.fd > 0) tb_text(&f->tb_pending, step, "sample", &s);
    free(s.data);
}

// Steps behind `to` are undone.
static inline void followers_roll_back(Followers *f, int64_t to, int64_t from) {
    if (!f->open) return;
    followers_write_event(f, "rollback", to, path_of("from step %" PRId64, from).text);
    followers_open_samples(f, to);
    if (f->tb.fd > 0) tb_start(&f->tb_pending, to + 1);
    mlflow_rollback(&f->mlflow, to);
    f->step = to;
}

// The page as the run's files have it now.
static inline void followers_report(Followers *f) {
    Error err;
    double began = clock_seconds();
    if (!f->view) f->view = run_view_open(f->folder.text);
    Report r;
    memset(&r, 0, sizeof r);
    r.views[0] = f->view, r.count = 1;
    if (!report_write(&r, path_of("%.3000s/report.html", f->folder.text).text, &err) && !f->report_warned) {
        f->report_warned = true;
        warn("no report: %.900s; training goes on", err.text);
    }
    f->reported = clock_seconds();
    f->report_took = f->reported - began;
}

// The same of a run that has nothing more to do: a kill may have come before its last one.
static inline void followers_report_again(const char *run_dir) {
    Followers f;
    memset(&f, 0, sizeof f);
    f.folder = path_of("%.3000s", run_dir);
    followers_report(&f);
    run_view_close(f.view);
}

// A checkpoint was begun.
static inline void followers_checkpoint(Followers *f) {
    if (!f->open) return;
    double began = clock_seconds();
    followers_write_event(f, "checkpoint", f->step, "");
    followers_flush(f);
    if (began - f->reported > 100 * f->report_took) followers_report(f);
    f->seconds += clock_seconds() - began;
}

// The last word of a run. kind: finished, stopped or failed; why: what did it.
static inline void followers_close(Followers *f, const char *kind, const char *why) {
    if (!f->open) return;
    bool stopped = strcmp(kind, "stopped") == 0, failed = strcmp(kind, "failed") == 0;
    followers_write_event(f, kind, f->step, why);
    followers_flush(f);
    followers_report(f);
    mlflow_close(&f->mlflow, stopped ? MLFLOW_KILLED : failed ? MLFLOW_FAILED : MLFLOW_FINISHED);
    append_close(&f->events), append_close(&f->samples), append_close(&f->tb);
    free(f->tb_pending.data);
    run_view_close(f->view);
    f->view = NULL, f->open = false;
}

#endif
