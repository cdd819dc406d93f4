/*
view.h: a model's record as documents read it: the figures of run.json and config.json, the files with their SHA-256,
and what a person has answered (facts.h), held against each other.

Nothing else is known: what the record does not say and nobody has answered is a gap, which every document marks by the
question that is open.
*/
#ifndef LLMC_VIEW_H
#define LLMC_VIEW_H

#include "../files/checkpoint.h"
#include "facts.h"
#include "machine.h"

typedef struct {
    Path folder, name; // name: as a person calls it, else of the run and its step
    RunRecord record;
    const Json *root, *account, *totals, *options, *data, *tokenizer, *base, *validation, *tasks; // NULL: not recorded
    const Json *evaluations; // of `eval --record` (results.h), an array or NULL
    const Json *last;        // of the starts
    Config config;
    size_t parameters;
    double step, tokens; // made, trained on
    StrList files, sums; // of the weights and the tokenizer; SHA-256
    StrList licenses;    // that manifests name
    Facts facts;
} View;

static inline void view_close(View *v) {
    run_record_close(&v->record);
    str_list_free(&v->files);
    str_list_free(&v->sums);
    str_list_free(&v->licenses);
    facts_free(&v->facts);
}

static inline bool list_has(const StrList *list, const char *text) {
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0) return true;
    return false;
}

// A number of the totals; NAN: not recorded.
static inline double view_total(const View *v, const char *name) {
    return json_number(json_get(v->totals, name), (double)NAN);
}

// A recorded option as it was given; of a switch, or where there is none, a question mark.
static inline const char *view_option(const View *v, const char *name) {
    const Json *j = json_get(v->options, name);
    return j && (j->type == JSON_STRING || j->type == JSON_NUMBER) ? j->text : "?";
}

// The licences that a manifest and those behind it name: options.license, and the column of a table.
static inline void view_licenses(StrList *out, const Json *manifest) {
    const Json *told = json_get(json_get(manifest, "options"), "license"), *sources = json_get(manifest, "sources");
    if (*json_string(told, "") && !list_has(out, told->text)) str_list_add(out, told->text);
    for (const Json *s = json_is(sources, JSON_ARRAY) ? sources->child : NULL; s; s = s->next) {
        const Json *lists = json_get(s, "lists");
        for (const Json *row = json_is(lists, JSON_ARRAY) ? lists->child : NULL; row; row = row->next) {
            const char *text = json_string(json_get(row, "licence"), json_string(json_get(row, "license"), ""));
            if (*text && !list_has(out, text)) str_list_add(out, text);
        }
        view_licenses(out, json_get(s, "made_by"));
    }
}

// The files that a model consists of, with their sums.
static inline bool view_files(View *v, Error *err) {
    const Json *files = json_get(v->root, "files");
    for (const Json *j = files ? files->child : NULL; j; j = j->next) {
        char sum[65];
        bool weights = str_ends_with(j->key, ".safetensors") && strncmp(j->key, "optimizer", 9) != 0;
        if (!weights && strcmp(j->key, "tokenizer.json") != 0 && strcmp(j->key, "config.json") != 0) continue;
        if (!sha256_file(sum, path_of("%.3000s/%.1000s", v->folder.text, j->key).text, err)) return false;
        str_list_add(&v->files, j->key);
        str_list_add(&v->sums, sum);
    }
    return true;
}

static inline const char *view_sum(const View *v, const char *file) {
    for (int i = 0; i < v->files.count; i++)
        if (strcmp(v->files.items[i], file) == 0) return v->sums.items[i];
    return "";
}

// ---------------------------------------------------------------- what a person says against what was recorded

static inline bool view_refuse(const View *v, int fact, const char *recorded, Error *err) {
    return error_set(err,
                     "%s: line %d says %s = %.200s, and the record %s/run.json %.300s; correct the line or take it out",
                     v->facts.path.text, v->facts.lines[fact], fact_key(fact), v->facts.values[fact], v->folder.text,
                     recorded);
}

// The number that a person gave, in *x; NAN: none.
static inline bool view_number(double *x, const View *v, int fact, Error *err) {
    const char *text = v->facts.values[fact];
    char *end = NULL;
    *x = (double)NAN;
    if (!text) return true;
    *x = strtod(text, &end);
    return end != text && !*end && !text[strspn(text, "0123456789.eE+-")] && isfinite(*x) && *x >= 0
               ? true
               : error_set(err, "%s: line %d: %s = %.200s: expected a number like 1250000 or 1.25e6",
                           v->facts.path.text, v->facts.lines[fact], fact_key(fact), text);
}

// One that must be the recorded one, up to a share of it.
static inline bool view_check_number(const View *v, int fact, double recorded, double share, Error *err) {
    double said;
    if (!view_number(&said, v, fact, err)) return false;
    if (!isfinite(said) || !isfinite(recorded) || fabs(said - recorded) <= share * fabs(recorded)) return true;
    return view_refuse(v, fact, path_of("has %.9g", recorded).text, err);
}

static inline bool view_check_text(const View *v, int fact, const char *recorded, Error *err) {
    const char *text = v->facts.values[fact];
    return !text || !*recorded || strcmp(text, recorded) == 0
               ? true
               : view_refuse(v, fact, path_of("has %.200s", recorded).text, err);
}

// Was the energy of every start measured?
static inline bool view_measured(const View *v) {
    return strcmp(json_string(json_get(v->totals, "energy_method"), ""), "measured") == 0;
}

// Figures may be rounded to about two digits, as people write them; counts may not.
static inline bool view_agree(const View *v, Error *err) {
    const Config *c = &v->config;
    const Facts *f = &v->facts;
    const double rounded = 0.01, exact = 0;
    bool whole = !(view_total(v, "unrecorded_steps") > 0);
    double flops = whole ? view_total(v, "flops") : (double)NAN,
           hours = whole ? view_total(v, "wall_s") / 3600 : (double)NAN;
    if (!view_check_text(v, FACT_architecture, family_name(c->family), err) ||
        !view_check_number(v, FACT_parameters, (double)v->parameters, exact, err) ||
        !view_check_number(v, FACT_context_length, c->max_seq_len, exact, err) ||
        !view_check_number(v, FACT_vocab_size, c->vocab_size, exact, err) ||
        !view_check_number(v, FACT_training_tokens, v->tokens, exact, err) ||
        !view_check_number(v, FACT_training_steps, v->step, exact, err) ||
        !view_check_number(v, FACT_training_flops, flops, rounded, err) ||
        !view_check_number(v, FACT_training_hours, hours, rounded, err) ||
        !view_check_number(v, FACT_energy_kwh, view_measured(v) && whole ? view_total(v, "energy_kwh") : (double)NAN,
                           rounded, err) ||
        !view_check_text(v, FACT_model_sha256, view_sum(v, "model.safetensors"), err))
        return false;
    if (f->values[FACT_base_model] && v->account && !v->base)
        return view_refuse(v, FACT_base_model, "began with new weights, from no other model", err);
    if (f->values[FACT_data_license] && v->licenses.count > 0) {
        for (int i = 0; i < v->licenses.count; i++)
            if (!strstr(f->values[FACT_data_license], v->licenses.items[i]))
                return view_refuse(v, FACT_data_license,
                                   path_of("names %.200s among the data's licences", v->licenses.items[i]).text, err);
    }
    double grams;
    return view_number(&grams, v, FACT_grid_intensity, err);
}

// ---------------------------------------------------------------- opening

// The name: a person's, else that of the run's folder.
static inline Path view_name(const View *v) {
    const char *told = v->facts.values[FACT_model_name];
    char *real = realpath(v->folder.text, NULL);
    Path folder = path_of("%s", real ? real : v->folder.text), run = path_parent(folder.text);
    free(real);
    bool step = checkpoint_step(path_name(folder.text)) >= 0;
    return path_of("%.200s", told ? told : path_name(step ? run.text : folder.text));
}

static inline bool view_open(View *v, const char *folder, const char *facts, Error *err) {
    FileKind kind;
    memset(v, 0, sizeof *v);
    v->folder = path_of("%s", folder);
    if (!path_look(path_of("%.3000s/run.json", folder).text, &kind, err)) return false;
    if (kind == FILE_ABSENT)
        return error_set(err, "%s has no run.json: nothing is recorded of a model that this program did not train",
                         folder);
    if (!folder_read_config(&v->config, folder, err) || !facts_load(&v->facts, facts, err)) return false;
    if (!checkpoint_open(&v->record, folder, err)) {
        facts_free(&v->facts);
        return false;
    }
    v->root = v->record.root;
    v->account = json_get(v->root, "account");
    v->options = json_get(v->root, "options");
    v->totals = json_get(v->account, "totals");
    v->data = json_present(v->account, "data");
    v->tokenizer = json_present(v->account, "tokenizer");
    v->base = json_present(v->account, "base");
    v->validation = json_present(v->account, "validation");
    v->tasks = json_present(v->account, "tasks");
    v->evaluations = json_is(json_get(v->root, "evaluations"), JSON_ARRAY) ? json_get(v->root, "evaluations") : NULL;
    const Json *starts = json_get(v->account, "starts");
    for (const Json *s = json_is(starts, JSON_ARRAY) ? starts->child : NULL; s; s = s->next) v->last = s;
    v->step = json_number(json_get(v->root, "step"), 0);
    v->tokens = json_number(json_get(v->root, "tokens"), 0);
    ParamTable t = param_table(&v->config);
    v->parameters = t.parameters;
    param_table_free(&t);
    v->name = view_name(v);
    const Json *manifests = json_get(v->data, "manifests");
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next)
        view_licenses(&v->licenses, m);
    bool ok = view_files(v, err) && view_agree(v, err);
    if (!ok) view_close(v);
    return ok;
}

#endif
