/*
outputs.h: what a verb is about to write must not be what it reads, and must be a file that can be written.

Asked before anything else is done: a tokenizer's training takes minutes, and its text is gone when it was named as the
output as well. Files are compared by device and inode, so that links and other spellings of a path are seen through.
The shards that tokenize replaces are compared where their names are known (shard_set.h).
*/
#ifndef LLMC_OUTPUTS_H
#define LLMC_OUTPUTS_H

#include "../files/huggingface.h"
#include "../text/mix.h"
#include "options.h"

// Whether a file begins as a GGUF: what export wrote before, it may write again.
static inline bool output_is_gguf(const char *path) {
    uint32_t magic = 0;
    FILE *f = file_open_read(path, NULL);
    bool same = f && fread(&magic, sizeof magic, 1, f) == 1 && magic == GGUF_MAGIC;
    if (f) fclose(f);
    return same;
}

// Refuses an output (of the option --out, which made `out`) that is a file of a model's folder.
static inline bool output_spares_model(const Options *o, const char *out, FileId id, Error *err) {
    StrList names;
    bool same = false, folder;
    memset(&names, 0, sizeof names);
    if (!*o->model || !model_is_folder(&folder, o->model, err)) return !*o->model;
    if (!folder) return true; // a preset, also where a run's folder has its name
    bool ok = folder_list(&names, o->model, err);
    for (int i = 0; ok && !same && i < names.count; i++) {
        FileId other;
        // A link to nothing is no file that could be overwritten.
        same = path_id(path_of("%s/%s", o->model, names.items[i]).text, &other, NULL) && file_id_same(id, other);
    }
    str_list_free(&names);
    if (!ok || !same || (o->verb == VERB_EXPORT && output_is_gguf(out))) return ok;
    return error_set(err, "--out=%s is a file of --model=%s, which it would replace; choose another --out", out,
                     o->model);
}

// Refuses an output that is one of the files that an option names; a list that is wrong is the verb's business.
static inline bool output_spares_list(const char *out, FileId id, const char *name, const char *list, Error *err) {
    StrList paths;
    memset(&paths, 0, sizeof paths);
    bool ok = true;
    if (*list && path_expand(&paths, list, NULL))
        for (int i = 0; ok && i < paths.count; i++) {
            FileId other;
            if (path_id(paths.items[i], &other, NULL) && file_id_same(id, other))
                ok = error_set(err, "--out=%s would replace %s, which --%s names to be read; choose another --out", out,
                               paths.items[i], name);
        }
    str_list_free(&paths);
    return ok;
}

static inline bool output_spares_inputs(const Options *o, const char *out, Error *err) {
    FileId id;
    if (!path_id(out, &id, err)) return false;
    if (id.device == 0 && id.inode == 0) return true;
    for (int i = 0; i < o->configs.count; i++) {
        FileId config;
        if (!path_id(o->configs.items[i], &config, err)) return false;
        if (file_id_same(id, config))
            return error_set(err, "--out=%s would replace the config file %s; choose another --out", out,
                             o->configs.items[i]);
    }
    Str train;
    memset(&train, 0, sizeof train);
    mix_plain(&train, o->train_data);
    bool ok = output_spares_list(out, id, "train_data", train.data ? train.data : "", err);
    free(train.data);
    return ok && output_spares_list(out, id, "input", o->input, err) &&
           output_spares_list(out, id, "data", o->data, err) && output_spares_list(out, id, "tasks", o->tasks, err) &&
           output_spares_list(out, id, "contamination", o->contamination, err) &&
           output_spares_list(out, id, "val_data", o->val_data, err) &&
           output_spares_list(out, id, "tokenizer", o->tokenizer, err) && output_spares_model(o, out, id, err);
}

// --out of a verb that writes one file.
static inline bool output_check_file(const Options *o, Error *err) {
    FileKind kind;
    const char *slash = strrchr(o->out, '/'), *name = slash ? slash + 1 : o->out;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return error_set(err, "--out=%s is a folder; expected the name of a file in it", o->out);
    if (strncmp(o->out, "/dev/std", 8) == 0 || strncmp(o->out, "/dev/fd/", 8) == 0 || strncmp(o->out, "/proc/", 6) == 0)
        return error_set(err,
                         "--out=%s is not a file, and what is written is a file that is there whole or not at "
                         "all; name one",
                         o->out);
    if (!path_look(o->out, &kind, err)) return false;
    if (kind == FILE_FOLDER) return error_set(err, "--out=%s is a folder; expected the name of a file", o->out);
    if (kind == FILE_OTHER) return error_set(err, "--out=%s is a device or a pipe; expected a file", o->out);
    return output_spares_inputs(o, o->out, err);
}

// To be called when --out's folder is not made yet.
static inline bool outputs_check(const Options *o, Error *err) {
    static const char *const logs[] = {"run.log", "metrics.jsonl", ".lock"};
    bool file = (o->verb == VERB_BPE && !*o->report) || o->verb == VERB_DUMP || o->verb == VERB_EXPORT;
    if (file || ((o->verb == VERB_EVAL || o->verb == VERB_REPORT) && *o->out)) return output_check_file(o, err);
    FileKind prefix = FILE_ABSENT;
    if (o->verb == VERB_TOKENIZE && !path_look(o->out, &prefix, err)) return false;
    if (prefix == FILE_OTHER)
        return error_set(err, "--out=%s is a device or a pipe; expected the prefix of the shards", o->out);
    bool ok = true;
    for (size_t i = 0; ok && o->verb == VERB_TRAIN && i < sizeof logs / sizeof logs[0]; i++) {
        FileKind kind;
        Path path = path_of("%s/%s", o->out, logs[i]);
        if (!path_look(o->out, &kind, err)) return false;
        if (kind != FILE_FOLDER) break;
        ok = path_look(path.text, &kind, err);
        if (ok && kind != FILE_REGULAR && kind != FILE_ABSENT)
            ok =
                error_set(err, "%s is not a regular file, and a run writes one there; choose another --out", path.text);
        ok = ok && output_spares_inputs(o, path.text, err);
    }
    return ok;
}

// And when it is: it must be possible to write there.
static inline bool outputs_folder(const Options *o, Error *err) {
    Path folder = path_parent(o->out);
    if (!*o->out) return true;
    if (!path_make_folder(folder.text, err)) return false;
    return access(folder.text, W_OK | X_OK) == 0
               ? true
               : error_set(err, "cannot write %s: the folder %s: %s", o->out, folder.text, strerror(errno));
}

#endif
