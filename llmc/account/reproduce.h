/*
reproduce.h: the commands that make a model again, as a script for sh, from what its record names: the text, the
corpus, the tokenizer, the shards, the run. On the same kind of machine the script ends with the same SHA-256 of the
weights, which it compares, as it compares every stage with what the record says.

What it takes from outside are the texts at the beginning, known by their SHA-256, and where the record goes back no
further: a tokenizer (from the model's folder), shards (where they were). A run is made again in one go; restarts give
the same bits, but for those that changed options: then no single command is the run, and it says so.

run.json may be anybody's: words of it are quoted, sums are digits, names have no folders, and what is in comments has
no line breaks.

A budget of time: its record is part of the run's folder and not of run.json; where it lies beside the checkpoint, it
goes into the script, so that steps and learning rates are the same.
*/
#ifndef LLMC_REPRODUCE_H
#define LLMC_REPRODUCE_H

#include "view.h"

#define REPRODUCE_MARKS ((size_t)1 << 26) // bytes of time_budget.jsonl

// A word for the shell, in quotes.
static inline void shell_word(Str *s, const char *text) {
    if (*text && text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:@,=")] == 0) {
        str_puts(s, text);
        return;
    }
    str_puts(s, "'");
    for (const char *c = text; *c; c++)
        if (*c == '\'') str_puts(s, "'\\''");
        else str_add(s, c, 1);
    str_puts(s, "'");
}

// A name that a script may take as it is: of an option or a setting.
static inline bool shell_plain(const char *name) {
    return *name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")];
}

// A SHA-256 in digits.
static inline bool shell_sum(const char *sum) { return strlen(sum) == 64 && !sum[strspn(sum, "0123456789abcdef")]; }

// The name of a file without folders; another one becomes a name that no file has.
static inline const char *shell_file(const char *name) {
    return *name && !strchr(name, '/') && strcmp(name, "..") != 0 ? name : "no-such-file";
}

// ` \` and --name=value of every recorded option but those that are given otherwise (between blanks).
static inline void reproduce_options(Str *s, const Json *options, const char *aside) {
    for (const Json *j = options ? options->child : NULL; j; j = j->next) {
        if (strstr(aside, path_of(" %.100s ", j->key).text) || !shell_plain(j->key)) continue;
        if (j->type == JSON_STRING && !*j->text) continue; // empty is what it is without
        str_printf(s, " \\\n    --%s=", j->key);
        if (j->type == JSON_BOOL) str_puts(s, j->boolean ? "on" : "off");
        else if (j->type == JSON_STRING || j->type == JSON_NUMBER) shell_word(s, j->text);
    }
}

// Lines for sha256sum of the sources of a manifest that the script does not make.
static inline bool reproduce_sums(Str *s, const Json *manifest, Error *err) {
    const Json *sources = json_get(manifest, "sources");
    if (json_number(json_get(manifest, "source_count"), 0) > (sources ? sources->size : 0))
        return error_set(err, "the record names %u of %.0f sources; too many to be made again from it alone",
                         sources ? sources->size : 0, json_number(json_get(manifest, "source_count"), 0));
    for (const Json *j = json_is(sources, JSON_ARRAY) ? sources->child : NULL; j; j = j->next) {
        const char *path = json_string(json_get(j, "path"), ""), *sum = json_string(json_get(j, "sha256"), "");
        if (json_get(j, "made_by")) {
            if (!reproduce_sums(s, json_get(j, "made_by"), err)) return false;
            continue;
        }
        if (!*path || !shell_sum(sum))
            return error_set(err,
                             "the record has no SHA-256 of the source %.500s, which an earlier version of this program "
                             "read",
                             path);
        if (strpbrk(path, "\n\r\\"))
            return error_set(err, "a source has a name that no list of sums can hold: %.500s", path);
        Path line = path_of("%s  %.3000s\n", sum, path);
        if (!s->data || !strstr(s->data, line.text)) str_puts(s, line.text);
    }
    return true;
}

// The corpora that a script makes, in the order in which it does.
typedef struct {
    const Json *made[64]; // manifests
    int count;
} ReproduceCorpora;

static inline int reproduce_made(const ReproduceCorpora *c, const char *sum) {
    int i = 0;
    while (i < c->count && strcmp(json_string(json_get(c->made[i], "sha256"), ""), sum) != 0) i++;
    return i < c->count ? i : -1;
}

// --input of a manifest, with the corpora that are made here in their new places.
static inline void reproduce_input(Str *s, const Json *manifest, const ReproduceCorpora *c) {
    const Json *sources = json_get(manifest, "sources");
    const char *input = json_string(json_get(json_get(manifest, "options"), "input"), ""), *comma = "";
    bool any = false;
    for (const Json *j = json_is(sources, JSON_ARRAY) ? sources->child : NULL; j; j = j->next)
        any |= json_get(j, "made_by") != NULL;
    str_puts(s, " --input=");
    if (!any) { // as it was given: a folder is not its files
        shell_word(s, input);
        return;
    }
    for (const Json *j = sources->child; j; j = j->next, comma = ",") {
        int made = json_get(j, "made_by") ? reproduce_made(c, json_string(json_get(j, "sha256"), "")) : -1;
        str_puts(s, comma);
        if (made < 0) shell_word(s, json_string(json_get(j, "path"), ""));
        else
            str_printf(s, "\"$out\"/corpus%d/", made),
                shell_word(s, shell_file(json_string(json_get(c->made[made], "corpus"), "corpus.jsonl")));
    }
}

// `check SUM FILE`: the script ends where they differ.
static inline void reproduce_check(Str *s, const char *sum, const char *file) {
    if (shell_sum(sum)) str_printf(s, "check %s \"$out\"/%s\n", sum, file);
}

// The corpora behind a manifest, deepest first.
static inline bool reproduce_corpora(Str *s, const Json *manifest, ReproduceCorpora *c, Error *err) {
    const Json *sources = json_get(manifest, "sources");
    for (const Json *j = json_is(sources, JSON_ARRAY) ? sources->child : NULL; j; j = j->next) {
        const Json *made = json_get(j, "made_by");
        const char *sum = json_string(json_get(made, "sha256"), "");
        if (!made || reproduce_made(c, sum) >= 0) continue;
        if (!reproduce_corpora(s, made, c, err)) return false;
        if (c->count == 64) return error_set(err, "more than 64 corpora are behind these data");
        if (!json_get(made, "options"))
            return error_set(err,
                             "the manifest of the corpus %.500s is of an earlier version, and does not say by which "
                             "options it was made",
                             json_string(json_get(j, "path"), "?"));
        str_puts(s, "\n\"$program\" corpus"), reproduce_input(s, made, c);
        reproduce_options(s, json_get(made, "options"), " input ");
        str_printf(s, " --out=\"$out\"/corpus%d\n", c->count);
        c->made[c->count] = made;
        Str name;
        memset(&name, 0, sizeof name);
        shell_word(&name, shell_file(json_string(json_get(made, "corpus"), "corpus.jsonl")));
        // Packed, its bytes depend on the version of the program that packs.
        if (!str_ends_with(name.data, ".zst"))
            reproduce_check(s, sum, path_of("corpus%d/%s", c->count, name.data).text);
        free(name.data);
        c->count++;
    }
    return true;
}

static inline bool reproduce_tokenizer(Str *s, const View *v, ReproduceCorpora *c, Error *err) {
    const Json *manifest = json_get(v->tokenizer, "manifest");
    if (json_get(manifest, "options")) {
        if (!reproduce_corpora(s, manifest, c, err)) return false;
        str_puts(s, "\n\"$program\" bpe"), reproduce_input(s, manifest, c);
        reproduce_options(s, json_get(manifest, "options"), " input ");
        str_puts(s, " --out=\"$out\"/tokenizer.json\n");
        reproduce_check(s, json_string(json_get(v->tokenizer, "sha256"), ""), "tokenizer.json");
        return true;
    }
    str_puts(s, "\n# How the tokenizer was made is not recorded: the model's own is taken.\ncp ");
    shell_word(s, path_of("%.3000s/tokenizer.json", v->folder.text).text);
    str_puts(s, " \"$out\"/tokenizer.json\n");
    return true;
}

// Each set of shards again; false also where one has no manifest.
static inline bool reproduce_shards(Str *s, const View *v, ReproduceCorpora *c, Error *err) {
    const Json *manifests = json_get(v->data, "manifests");
    int number = 0;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next, number++) {
        if (!json_get(m, "options"))
            return error_set(err, "%.300s; tokenize the text again to have shards with their manifest",
                             json_string(json_get(m, "problem"), "the manifest of the shards is of an earlier version, "
                                                                 "and does not say by which options they were made"));
        if (!reproduce_corpora(s, m, c, err)) return false;
        str_puts(s, "\n\"$program\" tokenize --tokenizer=\"$out\"/tokenizer.json"), reproduce_input(s, m, c);
        reproduce_options(s, json_get(m, "options"), " input tokenizer ");
        str_printf(s, " --out=\"$out\"/data%d/", number);
        shell_word(s, shell_file(json_string(json_get(json_get(m, "shards"), "prefix"), "text"))), str_puts(s, "\n");
        const Json *files = json_get(m, "files");
        for (const Json *f = json_is(files, JSON_ARRAY) ? files->child : NULL; f; f = f->next) {
            Str name;
            memset(&name, 0, sizeof name);
            shell_word(&name, shell_file(json_string(json_get(f, "name"), "?")));
            reproduce_check(s, json_string(json_get(f, "sha256"), ""), path_of("data%d/%s", number, name.data).text);
            free(name.data);
        }
    }
    return number ? true
                  : error_set(err,
                              "the record of %s names no manifest of its shards: they are of an earlier version or of "
                              "another program, "
                              "and nobody knows what text they were made of",
                              v->folder.text);
}

// The list of a side's shards, by the sets that hold them.
static inline bool reproduce_list(Str *s, const View *v, const char *side, Error *err) {
    const Json *shards = json_get(json_get(v->data, side), "shards"), *manifests = json_get(v->data, "manifests");
    for (const Json *j = json_is(shards, JSON_ARRAY) ? shards->child : NULL; j; j = j->next) {
        const char *set = json_string(json_get(j, "set"), ""), *name = path_name(json_string(json_get(j, "path"), ""));
        int number = 0, found = -1;
        for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next, number++)
            if (strcmp(json_string(json_get(json_get(m, "shards"), "set"), ""), set) == 0) found = number;
        if (found < 0)
            return error_set(err, "no manifest names the set of the shard %.500s",
                             json_string(json_get(j, "path"), "?"));
        str_printf(s, "%s\"$out\"/data%d/", j == shards->child ? "" : ",", found), shell_word(s, name);
    }
    return true;
}

// The record of a budget of time, up to this checkpoint, as a document in the script.
static inline bool reproduce_marks(Str *s, const View *v, Error *err) {
    Path run = path_parent(v->folder.text), marks = path_of("%.3000s/time_budget.jsonl", run.text);
    Str text;
    Error why;
    memset(&text, 0, sizeof text);
    if (!file_read(&text, marks.text, REPRODUCE_MARKS, &why)) {
        free(text.data);
        return error_set(err,
                         "the run went by a budget of time, and the steps that it made are recorded beside its "
                         "checkpoints alone: %.300s",
                         why.text);
    }
    if (!text.size || text.data[0] != '{' || memchr(text.data, 0, text.size) || strstr(text.data, "\nMARKS\n")) {
        free(text.data);
        return error_set(err, "%s is damaged", marks.text);
    }
    str_puts(s, "mkdir -p \"$out\"/model\ncat >\"$out\"/model/time_budget.jsonl <<'MARKS'\n");
    str_add(s, text.data, text.size);
    str_puts(s, "MARKS\n");
    free(text.data);
    return true;
}

// An option that the memory may have chosen, as run.json says it; an older one has only the option.
static inline void reproduce_chosen(Str *s, const View *v, const char *name) {
    const Json *j = json_get(v->root, name) ? json_get(v->root, name) : json_get(v->options, name);
    if (!json_is(j, JSON_NUMBER) && !json_is(j, JSON_STRING)) return;
    Path value = path_of("%.*s", (int)j->size, j->text);
    str_printf(s, " \\\n    --%s=", name), shell_word(s, value.text);
}

// Whether "NAME was -> is, ..." names only options that change no bit of the weights.
static inline bool reproduce_harmless(const char *changed) {
    static const char aside[] = " checkpoint_every keep_checkpoints val_every val_tokens final_val_tokens sample_every "
                                "sample_prompt eval_every eval_tasks truncate tokens temperature top_k top_p threads ";
    for (const char *part = changed; *part;) {
        Path name = path_of(" %.*s ", (int)int64_min((int64_t)strcspn(part, " "), 100), part);
        if (!strstr(aside, name.text)) return false;
        const char *next = strstr(part, ", ");
        part = next ? next + 2 : part + strlen(part);
    }
    return true;
}

// Is it the checkpoint with which its run ended? Another one must be kept when the run is made again.
static inline bool reproduce_last(const View *v) {
    double budget = 60 * json_number(json_get(v->options, "time_budget"), 0);
    return v->step >= json_number(json_get(v->options, "steps"), 0) ||
           (budget > 0 && json_number(json_get(v->root, "seconds"), 0) >= budget);
}

static inline bool reproduce_train(Str *s, const View *v, Error *err) {
    const Json *options = v->options, *environment = json_get(v->account, "environment"),
               *starts = json_get(v->account, "starts");
    double ranks = json_number(json_get(v->last, "ranks"), 1), chosen = json_number(json_get(v->root, "lr"), 0);
    for (const Json *j = json_is(starts, JSON_ARRAY) ? starts->child : NULL; j; j = j->next) {
        if (!reproduce_harmless(json_string(json_get(j, "changed"), "")))
            return error_set(err, "a start from step %.0f changed options (%.300s): no single command makes this run",
                             json_number(json_get(j, "from_step"), 0), json_string(json_get(j, "changed"), ""));
        if (json_number(json_get(j, "ranks"), 1) != ranks)
            return error_set(err, "the run went on with another number of ranks: sums over ranks have other bits");
    }
    str_puts(s, "\n");
    if (json_number(json_get(options, "time_budget"), 0) > 0 && !reproduce_marks(s, v, err)) return false;
    for (const Json *j = environment ? environment->child : NULL; j; j = j->next)
        if (strncmp(j->key, "LLMC_", 5) == 0 && shell_plain(j->key))
            str_printf(s, "export %s=", j->key), shell_word(s, json_string(j, "")), str_puts(s, "\n");
    if (ranks > 1) str_printf(s, "mpirun -n %.0f ", ranks);
    str_puts(s, "\"$program\" train --train_data=");
    if (!reproduce_list(s, v, "train", err)) return false;
    str_puts(s, " --val_data=");
    if (!reproduce_list(s, v, "val", err)) return false;
    str_puts(s, " --tokenizer=\"$out\"/tokenizer.json");
    reproduce_options(s, options,
                      " train_data val_data tokenizer out resume verify progress mlflow max_minutes threads precision "
                      "lr steps keep_checkpoints checkpoint_every recompute batch_size ");
    reproduce_chosen(s, v, "recompute"), reproduce_chosen(s, v, "batch_size");
    double every = json_number(json_get(options, "checkpoint_every"), 0),
           kept = json_number(json_get(options, "keep_checkpoints"), 0);
    if (!reproduce_last(v)) {
        kept = 0;
        if (!(every > 0) || fmod(v->step, every) != 0) every = v->step; // it was stopped there
    }
    str_printf(s, " \\\n    --checkpoint_every=%.0f --keep_checkpoints=%.0f", every, kept);
    str_puts(s, " \\\n    --precision="), shell_word(s, json_string(json_get(v->root, "precision"), "fp32"));
    str_puts(s, " --lr=");
    if (chosen > 0) json_add_number(s, chosen); // by --lr=auto
    else shell_word(s, view_option(v, "lr"));
    // With a budget of time the number of steps is the most that there may be, and the marks end the run.
    if (!(json_number(json_get(options, "time_budget"), 0) > 0 &&
          json_number(json_get(options, "steps"), 0) >= (double)(1ll << 40)))
        str_printf(s, " --steps=%.0f", json_number(json_get(options, "steps"), 0));
    str_puts(s, " --out=\"$out\"/model\n");
    return true;
}

// The script. To be freed, also on false.
static inline bool reproduce_write(Str *s, const View *v, Error *err) {
    ReproduceCorpora made;
    Str sums, stages;
    memset(&made, 0, sizeof made);
    memset(&sums, 0, sizeof sums);
    memset(&stages, 0, sizeof stages);
    if (!v->account)
        return error_set(err,
                         "%s/run.json is of an earlier version of the program, and does not say what the model was "
                         "made of",
                         v->folder.text);
    const Json *teacher = json_get(v->root, "teacher");
    if (teacher)
        return error_set(err,
                         "%s was trained beside the model %.500s: make that model first, and train with the options in "
                         "run.json",
                         v->folder.text, json_string(json_get(teacher, "path"), "?"));
    if (v->base)
        return error_set(err,
                         "%s began with the weights of %.500s: make that model first, and train it with the options in "
                         "run.json",
                         v->folder.text, json_string(json_get(v->base, "path"), "?"));
    const Json *manifests = json_get(v->data, "manifests");
    bool ok = true;
    if (json_get(json_get(v->tokenizer, "manifest"), "options"))
        ok = reproduce_sums(&sums, json_get(v->tokenizer, "manifest"), err);
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; ok && m; m = m->next)
        ok = reproduce_sums(&sums, m, err);
    ok = ok && reproduce_tokenizer(&stages, v, &made, err) && reproduce_shards(&stages, v, &made, err) &&
         reproduce_train(&stages, v, err);
    if (ok) {
        Path made_by =
            path_of("%.200s, commit %.100s, compiler %.200s, on %.500s", json_string(json_get(v->last, "program"), "?"),
                    json_string(json_get(v->last, "commit"), "?"), json_string(json_get(v->last, "compiler"), "?"),
                    json_string(json_get(json_get(v->last, "machine"), "device"), "?"));
        text_make_printable(made_by.text);
        str_printf(
            s,
            "#!/bin/sh\n# Makes the model of step %.0f again, with the same bits on the same kind of machine:\n#\n"
            "#   sh SCRIPT [PROGRAM] [FOLDER]     PROGRAM: ./%s unless given; FOLDER: where all goes, ./reproduced\n#\n"
            "# It was made by %s.\n# Run it where the names of the texts below lead to them.\nset -eu\n",
            v->step, engine_name(), made_by.text);
        str_printf(s, "program=${1:-./%s} out=${2:-./reproduced}\n", engine_name());
        str_puts(s,
                 "check() { # SUM FILE\n    found=$(sha256sum <\"$2\" | cut -c1-64)\n    [ \"$found\" = \"$1\" ] && "
                 "return\n"
                 "    echo \"error: $2 has the SHA-256 $found, expected $1\" >&2\n    exit 1\n}\nmkdir -p \"$out\"\n");
        if (sums.size) str_printf(s, "\nsha256sum --check --quiet <<'SUMS'\n%sSUMS\n", sums.data);
        str_add(s, stages.data, stages.size);
        str_puts(s, "\n");
        for (int i = 0; i < v->files.count; i++)
            if (str_ends_with(v->files.items[i], ".safetensors"))
                reproduce_check(s, v->sums.items[i], path_of("model/step_%08.0f/%s", v->step, v->files.items[i]).text);
        str_printf(s, "echo \"the same: $out/model/step_%08.0f\"\n", v->step);
    }
    free(sums.data);
    free(stages.data);
    return ok;
}

#endif
