/*
accounting.h: the training loop's side of the record in run.json (llmc/account/account.h): what it is told, and when.
*/
#ifndef LLMC_ACCOUNTING_H
#define LLMC_ACCOUNTING_H

#include "../account/account.h"
#include "inputs.h"
#include "run_folder.h"
#include "scores.h"

// What a run's weights began with: a folder, whose files are known by the checksums of its own record or by SHA-256,
// and what that record says it cost. embeddings: how they came into another vocabulary; NULL: they are the folder's.
static inline void accounting_base(Account *a, const char *folder, const EmbeddingCounts *embeddings) {
    StrList names;
    RunRecord r;
    Error err;
    Str *s = &a->base;
    const char *comma = "";
    memset(&names, 0, sizeof names);
    str_puts(s, "{\"path\": "), json_escape(s, folder, strlen(folder));
    FileKind kind;
    bool own = path_look(path_of("%.3000s/run.json", folder).text, &kind, NULL) && kind == FILE_REGULAR &&
               checkpoint_open(&r, folder, &err);
    const Json *totals = own ? json_get(json_get(r.root, "account"), "totals") : NULL;
    if (own) str_printf(s, ", \"step\": %lld", (long long)json_integer(json_get(r.root, "step"), 0));
    if (totals) str_puts(s, ", \"totals\": "), json_copy(s, totals);
    str_puts(s, ", \"files\": {");
    folder_list(&names, folder, NULL);
    for (int i = 0; i < names.count; i++) {
        char sum[65] = "";
        const Json *known = own ? json_get(json_get(json_get(r.root, "files"), names.items[i]), "xxh64") : NULL;
        if (!str_ends_with(names.items[i], ".safetensors") || strncmp(names.items[i], "optimizer", 9) == 0) continue;
        if (!known && !sha256_file(sum, path_of("%.3000s/%.1000s", folder, names.items[i]).text, NULL)) continue;
        str_puts(s, comma), json_escape(s, names.items[i], strlen(names.items[i]));
        str_printf(s, ": \"%s:%s\"", known ? "xxh64" : "sha256", known ? json_string(known, "") : sum);
        comma = ", ";
    }
    str_puts(s, "}");
    if (embeddings) embeddings_json(s, embeddings);
    str_puts(s, "}");
    str_list_free(&names);
    if (own) run_record_close(&r);
}

// On rank 0, before metrics.jsonl is cut: what the checkpoint's record says, or nothing. checkpoint: empty at a new
// start.
static inline bool accounting_begin(Account *a, Str *changed, const char *checkpoint, const Options *o, Error *err) {
    RunRecord r;
    if (!*checkpoint) return true;
    if (!checkpoint_open(&r, checkpoint, err)) return false;
    account_resume(a, r.root);
    run_options_changed(changed, json_get(r.root, "options"), o);
    account_lost(a, path_of("%s/metrics.jsonl", o->out).text, json_integer(json_get(r.root, "step"), 0));
    run_record_close(&r);
    return true;
}

// On rank 0, when all of it is open.
static inline void accounting_inputs(Account *a, const RunInputs *in, const Options *o, double flops_per_token) {
    ParamTable all = param_table(&in->config);
    size_t parameters = all.parameters;
    param_table_free(&all);
    str_printf(&a->model, "{\"family\": \"%s\", \"parameters\": %zu, \"flops_per_token\": %.17g, \"flops_formula\": ",
               family_name(in->config.family), parameters, flops_per_token);
    json_escape(&a->model, flops_formula(&in->config), strlen(flops_formula(&in->config)));
    str_puts(&a->model, "}");
    if (!a->tokenizer.size)
        sources_tokenizer(&a->tokenizer, o->tokenizer, in->tokenizer.hash, in->tokenizer.vocab_size);
    if (!a->data.size) sources_data(&a->data, &in->train, &in->val);
}

// A validation, or scores (`, "name": value` ...), of a step.
static inline void accounting_validation(Account *a, int64_t step, double loss, double bits, int64_t tokens) {
    Str *s = &a->validation;
    s->size = 0;
    str_printf(s, "{\"step\": %lld, \"tokens\": %lld", (long long)step, (long long)tokens);
    json_member_number(s, "loss", loss);
    if (isfinite(bits)) json_member_number(s, "bits_per_byte", bits);
    str_puts(s, "}");
}

static inline void accounting_tasks(Account *a, int64_t step, const char *scores, const char *tasks) {
    Str *s = &a->tasks;
    s->size = 0;
    str_printf(s, "{\"step\": %lld, \"files\": ", (long long)step);
    json_escape(s, tasks, strlen(tasks));
    str_printf(s, "%s}", scores);
}

#endif
