/*
eval.h: the verb `eval`: the loss on shards (evaluate.h), and the scores of tasks (tasks.h, score.h, scores.h).

Prints one JSON object for --data and one for each file of --tasks, or tables (--table); --record adds the objects to
the model's record (results.h). All inputs are looked at before the model is loaded.
*/
#ifndef LLMC_EVAL_H
#define LLMC_EVAL_H

#include "../account/results.h"
#include "data_checks.h"
#include "evaluate.h"
#include "load.h"
#include "score.h"
#include "scores.h"
#include "stop.h"

typedef struct {
    Tokenizer tok;
    bool text;    // there is a tokenizer
    Dataset data; // of --data
    TaskSet tasks;
    StrList results; // for the record
} EvalInputs;

static inline bool eval_open_data(EvalInputs *in, const Config *c, const Options *o, const char *tokenizer,
                                  Error *err) {
    if (!*o->data) return true;
    if (o->seq_len > c->max_seq_len)
        return error_set(err, "--seq_len=%lld is longer than the model's %d positions; give --seq_len=%d or less",
                         (long long)o->seq_len, c->max_seq_len, c->max_seq_len);
    if (!dataset_open(&in->data, o->data, (int)o->seq_len, err) || !data_no_pairs(&in->data, o->data, err))
        return false;
    in->data.vocab_size = c->vocab_size;
    return !in->text || !in->data.tokenizer_hash || in->data.tokenizer_hash == in->tok.hash
               ? true
               : error_set(err, "--data=%s was tokenised with another tokenizer than %s", o->data, tokenizer);
}

static inline bool eval_open_tasks(EvalInputs *in, const Config *c, const Options *o, const char *tokenizer,
                                   Error *err) {
    TaskRules rules = {&in->tok, c->max_seq_len, o->truncate != 0};
    if (!*o->tasks) return true;
    if (!in->text) return error_set(err, "--tasks are texts, and there is no %s to read them with", tokenizer);
    if (in->tok.vocab_size > c->vocab_size)
        return error_set(err, "%s has %d tokens, the model only %d", tokenizer, in->tok.vocab_size, c->vocab_size);
    return tasks_open(&in->tasks, o->tasks, &rules, err);
}

static inline bool eval_open(EvalInputs *in, Config *c, const Options *o, Error *err) {
    Path path = path_of("%s/tokenizer.json", o->model);
    FileKind kind;
    memset(in, 0, sizeof *in);
    if (!*o->data && !*o->tasks)
        return error_set(err, "eval needs --data=..., --tasks=... or both; eval --help says what they are");
    if (*o->out && !*o->tasks)
        return error_set(err, "--out=%s is for the items of --tasks, and there are none", o->out);
    if ((o->table || o->truncate) && !*o->tasks)
        return error_set(err, "--%s has no effect without --tasks: give both, or neither",
                         o->table ? "table" : "truncate");
    if (!model_config(c, o, 0, err) || !path_look(path.text, &kind, err)) return false;
    if (o->record && *o->adapter)
        return error_set(err,
                         "--record keeps what the model itself scores, and --adapter=%s changes it: merge them first "
                         "(export --merge=on --format=folder)",
                         o->adapter);
    if (o->record && !results_writable(o->model, err)) return false;
    in->text = kind != FILE_ABSENT;
    if (in->text && !tokenizer_open(&in->tok, path.text, err)) return false;
    return eval_open_data(in, c, o, path.text, err) && eval_open_tasks(in, c, o, path.text, err);
}

// A result for the record; text: its object without the end.
static inline void eval_keep(EvalInputs *in, const LoadedModel *l, Str *text) {
    result_sign(text, engine_name(), model_precision(l->model) == PRECISION_BF16 ? "bf16" : "fp32");
    str_list_add(&in->results, text->data);
    free(text->data);
}

// printed: `{"loss": ..., "bytes": N, `
static inline void eval_keep_data(EvalInputs *in, const LoadedModel *l, const Options *o, const Str *printed) {
    Str s;
    memset(&s, 0, sizeof s);
    str_puts(&s, "{\"data\": "), json_escape(&s, o->data, strlen(o->data));
    str_printf(&s, ", \"seq_len\": %lld, %.*s\"fingerprint\": \"%016" PRIx64 "\"", (long long)o->seq_len,
               (int)(printed->size - 1), printed->data + 1, in->data.fingerprint);
    eval_keep(in, l, &s);
}

static inline void eval_keep_task(EvalInputs *in, const LoadedModel *l, const Task *task, const TaskScore *scores) {
    Str s;
    memset(&s, 0, sizeof s);
    task_json(&s, task, scores);
    s.data[--s.size] = 0;
    json_member(&s, "sha256", task->sha256);
    eval_keep(in, l, &s);
}

// The results into the model's record, on rank 0.
static inline bool eval_record(const EvalInputs *in, const Options *o, Error *err) {
    int changed = 0;
    if (!results_record(&changed, o->model, &in->results, err)) return false;
    fprintf(stderr, "note: %s/run.json: %d of %d result%s recorded%s\n", o->model, changed, in->results.count,
            in->results.count == 1 ? "" : "s", changed < in->results.count ? ", the others stood there" : "");
    return true;
}

// The loss on the shards of --data.
static inline void eval_data(EvalInputs *in, const LoadedModel *l, const Options *o, const Dist *dist) {
    Error err;
    Evaluation e = {l->model,
                    source_of_whole_dataset(&in->data),
                    in->text ? &in->tok : NULL,
                    dist,
                    (int)o->batch_size,
                    o->val_tokens,
                    NULL,
                    NULL};
    double start = clock_seconds();
    EvalResult r;
    if (!evaluate(&r, &e, &err)) dist_agree(dist, !*err.text, &err);
    evaluate_refuse(&e, &r, "--data");
    if (dist->rank > 0) return;
    Str s;
    memset(&s, 0, sizeof s);
    str_puts(&s, "{");
    metrics_number(&s, "loss", r.loss);
    str_puts(&s, ", "), metrics_number(&s, "perplexity", exp(r.loss));
    str_puts(&s, ", "), metrics_number(&s, "bits_per_byte", r.bits_per_byte);
    str_printf(&s, ", \"tokens\": %lld, \"bytes\": %lld, ", (long long)r.tokens, (long long)r.bytes);
    if (o->record) eval_keep_data(in, l, o, &s);
    metrics_decimals(&s, "tokens_per_s", (double)r.tokens / (clock_seconds() - start), 1);
    printf("%s}\n", s.data);
    free(s.data);
}

static inline void eval_progress(int64_t done, int64_t all) {
    if (!isatty(STDERR_FILENO)) return;
    fprintf(stderr, "\r%lld of %lld sequences%s", (long long)done, (long long)all, done >= all ? "\n" : "");
}

// The scores of --tasks, of which rank 0 tells.
static inline void eval_tasks(EvalInputs *in, const LoadedModel *l, const Options *o, const Dist *dist) {
    Error err;
    int seq_len = score_seq_len(&in->tasks, l->config.max_seq_len);
    Scorer scorer = {l->model, dist, (int)o->batch_size, seq_len, l->config.vocab_size, true, eval_progress, NULL};
    dist_agree(dist, score(&in->tasks, &scorer, &err), &err);
    Str s, items;
    memset(&s, 0, sizeof s);
    memset(&items, 0, sizeof items);
    for (int i = 0; i < in->tasks.count; i++) {
        const Task *task = &in->tasks.tasks[i];
        TaskScore *scores = task_scores(&in->tasks, task);
        if (o->table) task_table(&s, task, scores);
        else task_json(&s, task, scores);
        if (o->record && dist->rank == 0) eval_keep_task(in, l, task, scores);
        if (!o->table || i + 1 < in->tasks.count) str_puts(&s, "\n");
        if (*o->out) task_items_json(&items, &in->tasks, task);
        free(scores);
    }
    if (dist->rank == 0) fputs(s.data, stdout);
    bool ok = dist->rank > 0 || !*o->out || file_write_all(o->out, items.data, items.size, &err);
    free(s.data);
    free(items.data);
    dist_agree(dist, ok, &err);
}

static inline int verb_eval(const Options *o, Dist *dist) {
    Error err;
    LoadedModel l;
    EvalInputs in;
    memset(&l, 0, sizeof l);
    dist_agree(dist, eval_open(&in, &l.config, o, &err), &err);
    dist_agree(dist, data_verify(&in.data, o, dist, &err), &err);
    Log none;
    memset(&none, 0, sizeof none);
    if (dist->rank == 0 && *o->data) data_hint_unused(&none, &in.data, "evaluation");
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.batch_size = (int)o->batch_size;
    setup.seq_len = (int)int64_max(*o->data ? o->seq_len : 1, score_seq_len(&in.tasks, l.config.max_seq_len));
    setup.shares = *o->tasks != 0;
    setup.dist = dist;
    model_load(&l, o, &setup, false);
    if (*o->data) eval_data(&in, &l, o, dist);
    if (*o->tasks) eval_tasks(&in, &l, o, dist);
    dist_agree(dist, !o->record || dist->rank > 0 || eval_record(&in, o, &err), &err);
    str_list_free(&in.results);
    dataset_close(&in.data);
    tasks_free(&in.tasks);
    if (in.text) tokenizer_free(&in.tok);
    model_unload(&l);
    return EXIT_DONE;
}

#endif
