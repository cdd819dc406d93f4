/*
results.h: what was measured of a model: what training noted (the validation, scores of tasks), and what `eval --record`
added to run.json, whose last member it is:

    "evaluations": [
      {"task": "pairs", "form": "pairs", "items": 30, "acc": 0.6, "acc_stderr": ..., "groups": {...}, "sha256": of the
       file, "program": "train_gpt_cpu", "commit": ..., "precision": "fp32", "date": ...},
      {"data": "val_*.bin", "seq_len": 256, "loss": ..., "fingerprint": of the tokens, "program": ..., ...}
    ]

A result is known by the task's name and its file's bytes, or by the tokens and how many of them were read: measured
again it takes the place of the earlier one, and none stands there twice. They belong to these weights: a run that goes
on from them does not take them along. All that stands before them in run.json keeps its bytes; whoever reads at the
same time sees the old file or the new one, and of two who write one waits.
*/
#ifndef LLMC_RESULTS_H
#define LLMC_RESULTS_H

#include "view.h"

#define RESULTS_MEMBER "\n  \"evaluations\": ["

// ---------------------------------------------------------------- writing

// What a result is known by; empty: it is none.
static inline Path result_key(const Json *entry) {
    const char *task = json_string(json_get(entry, "task"), ""), *data = json_string(json_get(entry, "data"), "");
    if (*task) return path_of("task %.2000s %.64s", task, json_string(json_get(entry, "sha256"), ""));
    if (!*data) return path_of("%s", "");
    return path_of("data %.16s %lld %lld", json_string(json_get(entry, "fingerprint"), ""),
                   (long long)json_integer(json_get(entry, "seq_len"), 0),
                   (long long)json_integer(json_get(entry, "tokens"), 0));
}

// Ends the object of a result (`{"task": ...`, without its brace) with who measured it, and when.
static inline void result_sign(Str *s, const char *program, const char *precision) {
    json_member(s, "program", program);
    json_member(s, "commit", build_commit);
    json_member(s, "precision", precision);
    json_member(s, "date", machine_time().text);
    str_puts(s, "}");
}

// Are they the same but for the date, which comes last?
static inline bool result_same(const char *a, const char *b) {
    const char *date = strstr(a, ", \"date\": ");
    return date && strncmp(a, b, (size_t)(date - a) + strlen(", \"date\": ")) == 0;
}

// The list with a new result in it. Returns whether that changed it.
static inline bool results_put(StrList *list, const char *fresh) {
    JsonDoc docs[2];
    Error err;
    const Json *entry = json_parse(&docs[0], fresh, strlen(fresh), &err);
    if (!entry) fail("the result %.300s: %.300s", fresh, err.text);
    Path key = result_key(entry);
    bool changed = true, placed = false;
    for (int i = 0; i < list->count && !placed; i++) {
        const Json *old = json_parse(&docs[1], list->items[i], strlen(list->items[i]), &err);
        placed = old && strcmp(result_key(old).text, key.text) == 0;
        if (old) json_free(&docs[1]);
        if (!placed) continue;
        changed = !result_same(list->items[i], fresh);
        if (changed) free(list->items[i]), list->items[i] = str_copy(fresh);
    }
    if (!placed) str_list_add(list, fresh);
    json_free(&docs[0]);
    return changed;
}

// The text of run.json with these results; text: as it was, with its checksum.
static inline Str results_text(const Str *text, const StrList *list) {
    Str s;
    memset(&s, 0, sizeof s);
    str_add(&s, text->data, text->size - strlen(run_record_tail(0).text));
    char *before = strstr(s.data, RESULTS_MEMBER); // a line of its own: strings hold no line breaks
    if (before) s.size = (size_t)(before - s.data), *before = 0;
    str_puts(&s, RESULTS_MEMBER);
    for (int i = 0; i < list->count; i++) str_printf(&s, "%s\n    ", i ? "," : ""), str_puts(&s, list->items[i]);
    str_puts(&s, "\n  ],");
    run_record_seal(&s);
    return s;
}

// Reads a model's record, to be written again. list: its results. On false there is nothing to free.
static inline bool results_open(Str *text, StrList *list, const char *folder, Error *err) {
    Path path = path_of("%.3000s/run.json", folder);
    FileKind kind;
    RunRecord r;
    memset(&r, 0, sizeof r);
    memset(list, 0, sizeof *list);
    memset(text, 0, sizeof *text);
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT)
        return error_set(err,
                         "--record writes into run.json, which %s does not have: this program did not train that "
                         "model; leave --record out",
                         folder);
    bool ok = file_read(text, path.text, RUN_RECORD_MOST, err) &&
              run_record_parse(&r, text->data, text->size, path.text, err);
    if (ok && !r.sealed)
        ok = error_set(err, "%s is of an earlier version of the program, to which --record adds nothing", path.text);
    const Json *old = ok ? json_get(r.root, "evaluations") : NULL;
    for (const Json *j = json_is(old, JSON_ARRAY) ? old->child : NULL; j; j = j->next) {
        Str s;
        memset(&s, 0, sizeof s);
        json_copy(&s, j);
        str_list_add(list, s.data);
        free(s.data);
    }
    if (r.root) run_record_close(&r);
    if (!ok) free(text->data), str_list_free(list);
    return ok;
}

// Whether results can be added to a model's record: asked before anything is computed.
static inline bool results_writable(const char *folder, Error *err) {
    Str text;
    StrList list;
    if (!results_open(&text, &list, folder, err)) return false;
    free(text.data);
    str_list_free(&list);
    return access(folder, W_OK | X_OK) == 0
               ? true
               : error_set(err, "--record cannot write into %s: %s", folder, strerror(errno));
}

// Adds results, objects that result_sign ended. *changed: so many are new, or others than before.
static inline bool results_record(int *changed, const char *folder, const StrList *fresh, Error *err) {
    Str text;
    StrList list;
    int lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0) return error_set(err, "cannot open the folder %s: %s", folder, strerror(errno));
    while (flock(lock, LOCK_EX) != 0 && errno == EINTR) {} // not everywhere to be had
    bool opened = results_open(&text, &list, folder, err), ok = opened;
    *changed = 0;
    for (int i = 0; opened && i < fresh->count; i++) *changed += results_put(&list, fresh->items[i]);
    if (*changed) {
        Str s = results_text(&text, &list);
        ok = file_write_all(path_of("%.3000s/run.json", folder).text, s.data, s.size, err);
        free(s.data);
    }
    if (opened) free(text.data), str_list_free(&list);
    close(lock);
    return ok;
}

// ---------------------------------------------------------------- reading

// One figure.
typedef struct {
    const char *metric;
    double value, error; // standard error, NAN: none
    double low, high;    // the 95% interval, NAN: none
} ResultFigure;

enum { RESULT_FIGURES = 8 };

// The figures of one measurement.
typedef struct {
    Path name;         // of the task, or of the shards
    const char *group; // "validation", "training" (scores that it noted) or "evaluation"
    const Json *entry; // that it comes from
    double step, items;
    const char *sha256; // of the task file; NULL: not recorded
    ResultFigure figures[RESULT_FIGURES];
    int count;
} Result;

typedef struct {
    Result *items; // (count)
    size_t count, capacity;
} Results;

static const char *const result_metrics[RESULT_FIGURES] =
    {"acc", "acc_norm", "acc_bytes", "perplexity", "byte_perplexity", "bits_per_byte", "bits_per_char", "loss"};

static inline Result *results_add(Results *r, const char *name, const char *group, const Json *entry) {
    r->items = (Result *)mem_grow(r->items, &r->capacity, r->count + 1, sizeof(Result));
    Result *one = &r->items[r->count++];
    memset(one, 0, sizeof *one);
    one->name = path_of("%.3000s", name), one->group = group, one->entry = entry;
    one->items = json_number(json_get(entry, "items"), (double)NAN);
    return one;
}

// The figures of an object whose members are called PREFIX and the metric.
static inline void result_figures(Result *one, const char *prefix) {
    for (int k = 0; k < RESULT_FIGURES; k++) {
        Path key = path_of("%.2000s%s", prefix, result_metrics[k]);
        ResultFigure f = {result_metrics[k], json_number(json_get(one->entry, key.text), (double)NAN), (double)NAN,
                          (double)NAN, (double)NAN};
        f.error = json_number(json_get(one->entry, path_of("%.2100s_stderr", key.text).text), (double)NAN);
        f.low = json_number(json_get(one->entry, path_of("%.2100s_low", key.text).text), f.value - 1.959964 * f.error);
        f.high =
            json_number(json_get(one->entry, path_of("%.2100s_high", key.text).text), f.value + 1.959964 * f.error);
        if (isfinite(f.value)) one->figures[one->count++] = f;
    }
}

// Scores that training noted, `eval_NAME_acc`; what `eval` measured of a task of that name stands for it.
static inline void results_trained(Results *r, const View *v) {
    static const char *const last[] = {"acc", "bits_per_byte"}; // which every form of tasks has one of
    for (const Json *j = v->tasks ? v->tasks->child : NULL; j; j = j->next)
        for (int k = 0; k < 2; k++) {
            size_t n = j->key_size, m = strlen(last[k]) + 1;
            if (j->type != JSON_NUMBER || n <= m + 5 || strncmp(j->key, "eval_", 5) != 0) continue;
            if (j->key[n - m] != '_' || strcmp(j->key + n - m + 1, last[k]) != 0) continue;
            Path name = path_of("%.*s", (int)(n - m - 5), j->key + 5);
            bool again = false;
            for (const Json *e = v->evaluations ? v->evaluations->child : NULL; e && !again; e = e->next)
                again = strcmp(json_string(json_get(e, "task"), ""), name.text) == 0;
            if (again) continue;
            Result *one = results_add(r, name.text, "training", v->tasks);
            one->step = json_number(json_get(v->tasks, "step"), 0);
            result_figures(one, path_of("eval_%.2000s_", name.text).text);
        }
}

// All that is recorded. To be freed.
static inline Results results_of(const View *v) {
    Results r;
    memset(&r, 0, sizeof r);
    if (v->validation) {
        Result *one = results_add(&r, "validation", "validation", v->validation);
        double none = (double)NAN, loss = json_number(json_get(v->validation, "loss"), none);
        one->step = json_number(json_get(v->validation, "step"), 0);
        result_figures(one, "");
        ResultFigure perplexity = {"perplexity", exp(loss), none, none, none};
        if (isfinite(loss)) one->figures[one->count++] = perplexity;
    }
    results_trained(&r, v);
    for (const Json *e = v->evaluations ? v->evaluations->child : NULL; e; e = e->next) {
        const char *task = json_string(json_get(e, "task"), "");
        Result *one = results_add(&r, *task ? task : json_string(json_get(e, "data"), "?"), "evaluation", e);
        one->step = v->step;
        if (*json_string(json_get(e, "sha256"), "")) one->sha256 = json_get(e, "sha256")->text;
        result_figures(one, "");
    }
    return r;
}

#endif
