/*
checkpoint.h: a run's checkpoints, RUN_DIR/step_00001000/: which there are, reading and removing them.
checkpoint_writer.h writes them; run_folder.h says where the run stands that made one.

A checkpoint is a Hugging Face model folder (huggingface.h, tokenizer.h) with more in it: the Adam moments under
the names of the weights, moment1.NAME and moment2.NAME, and run.json, which holds the position in the run, every
option, and size and XXH64 of every other file.

    model.safetensors, model.safetensors.index.json, optimizer-00001-of-00001.safetensors
or, sharded over N files, which N ranks write,
    model-00001-of-0000N.safetensors ..., model.safetensors.index.json
    optimizer-00001-of-0000N.safetensors ..., optimizer.safetensors.index.json

It is written to step_N.MARK.tmp, every file flushed and synced, and the folder renamed at the end: it is
there whole or it is not there. The newest checkpoint is found by looking; nothing points at it.
*/
#ifndef LLMC_CHECKPOINT_H
#define LLMC_CHECKPOINT_H

#include "../base/hash.h"
#include "huggingface.h"
#include "../text/tokenizer.h"

// The two kinds of files with numbers, and what a checkpoint holds of each parameter, in the order of the files.
enum { CHECKPOINT_MODEL, CHECKPOINT_OPTIMIZER, CHECKPOINT_KINDS };

typedef struct {
    int array;          // for model_get
    const char *prefix; // of the parameter's names
} CheckpointArray;

enum { CHECKPOINT_ARRAYS = 1 + STATE_KINDS };
static const CheckpointArray checkpoint_arrays[CHECKPOINT_ARRAYS] = {{MODEL_WEIGHT, ""},
#define X(id) {MODEL_STATE + STATE_##id, #id "."},
                                                                     OPTIMIZER_STATE(X)
#undef X
};
static const int checkpoint_first[CHECKPOINT_KINDS + 1] = {0, 1, CHECKPOINT_ARRAYS}; // of these in a kind of file

// The bytes of a checkpoint but for its small files.
static inline double checkpoint_bytes(const ParamTable *t) {
    return (double)CHECKPOINT_ARRAYS * sizeof(float) * (double)t->parameters;
}

// The name of file number `file` (from 0) of `files` of a kind.
static inline Path checkpoint_file(int kind, int file, int files) {
    if (kind == CHECKPOINT_OPTIMIZER) return path_of("optimizer-%05d-of-%05d.safetensors", file + 1, files);
    return files == 1 ? path_of("model.safetensors") : path_of("model-%05d-of-%05d.safetensors", file + 1, files);
}

static inline Path checkpoint_folder(const char *run_dir, int64_t step) {
    return path_of("%s/step_%08lld", run_dir, (long long)step);
}

// The step in a name like step_00001000, or -1.
static inline int64_t checkpoint_step(const char *name) {
    if (strncmp(name, "step_", 5) != 0 || !name[5] || name[5 + strspn(name + 5, "0123456789")]) return -1;
    return strtoll(name + 5, NULL, 10);
}

// The names in a run's folder; a missing folder has none.
static inline bool checkpoint_names(StrList *names, const char *run_dir, Error *err) {
    FileKind kind;
    memset(names, 0, sizeof *names);
    return path_look(run_dir, &kind, err) && (kind == FILE_ABSENT || folder_list(names, run_dir, err));
}

// The steps of all whole checkpoints, ascending; *steps is to be freed, on an error too.
static inline bool checkpoint_list(int64_t **steps, int *count, const char *run_dir, Error *err) {
    StrList names;
    *count = 0;
    *steps = NULL;
    bool ok = checkpoint_names(&names, run_dir, err);
    if (names.count) *steps = (int64_t *)mem_alloc((size_t)names.count * sizeof(int64_t));
    for (int k = 0; ok && k < names.count; k++) {
        int64_t step = checkpoint_step(names.items[k]);
        if (step < 0) continue;
        int i = (*count)++;
        for (; i > 0 && (*steps)[i - 1] > step; i--) (*steps)[i] = (*steps)[i - 1];
        (*steps)[i] = step;
    }
    str_list_free(&names);
    return ok;
}

// Removes what a killed run left half-written.
static inline bool checkpoint_sweep(const char *run_dir, Error *err) {
    StrList names;
    bool ok = checkpoint_names(&names, run_dir, err);
    for (int i = 0; ok && i < names.count; i++)
        if (strncmp(names.items[i], "step_", 5) == 0 && str_ends_with(names.items[i], ".tmp"))
            ok = path_remove_tree(path_of("%s/%s", run_dir, names.items[i]).text, err);
    str_list_free(&names);
    return ok;
}

static inline bool checkpoint_remove(const char *run_dir, int64_t step, Error *err) {
    // First the name, so that a kill in between leaves no half-removed checkpoint under a good name.
    Path p = checkpoint_folder(run_dir, step), gone = path_of("%s.tmp", p.text);
    if (rename(p.text, gone.text) != 0)
        return error_set(err, "cannot remove the checkpoint %s: %s", p.text, strerror(errno));
    return path_remove_tree(gone.text, err);
}

// The newest checkpoint before or at `step` that --checkpoint_every made, and no stop of the run; -1: none.
static inline int64_t checkpoint_regular(const int64_t *steps, int n, int64_t every, int64_t step) {
    for (int i = n - 1; i >= 0 && every > 0; i--)
        if (steps[i] <= step && steps[i] % every == 0) return steps[i];
    return -1;
}

// Which checkpoints of a run are to stay.
typedef struct {
    int64_t newest; // so many; 0: all
    int64_t every;  // a regular one is made every so many steps; 0: only at the end
    bool rollback;  // the newest regular one may be needed
} CheckpointKeep;

// Removes the others. A run that was stopped and one that was not must roll back to the same step, hence the
// newest regular one stays where a rollback may need it.
static inline bool checkpoint_prune(const char *run_dir, const CheckpointKeep *keep, Error *err) {
    int64_t *steps;
    int n;
    bool ok = checkpoint_list(&steps, &n, run_dir, err);
    int64_t spared = keep->rollback ? checkpoint_regular(steps, n, keep->every, INT64_MAX) : -1;
    for (int i = 0; ok && keep->newest > 0 && i < n - keep->newest; i++)
        if (steps[i] != spared) ok = checkpoint_remove(run_dir, steps[i], err);
    free(steps);
    return ok;
}

// XXH64 and size of a file. Read in pieces, not mapped: mapped pages would count as this process's memory.
static inline bool checkpoint_sum(uint64_t *sum, uint64_t *bytes, const char *path, Error *err) {
    FILE *f = file_open_read(path, err);
    if (!f) return false;
    size_t piece = (size_t)1 << 20, n;
    uint8_t *buffer = (uint8_t *)mem_alloc(piece);
    Xxh64 state;
    xxh64_init(&state, 0);
    *bytes = 0;
    while ((n = fread(buffer, 1, piece, f)) > 0) {
        xxh64_update(&state, buffer, n);
        *bytes += n;
    }
    bool ok = !ferror(f);
    *sum = xxh64_value(&state);
    free(buffer);
    fclose(f);
    return ok ? true : error_set(err, "cannot read %s: %s", path, strerror(errno));
}

// ---------------------------------------------------------------- reading

// Checks the files that run.json lists. All `ranks` call this and share the work: rank r checks files r, r + ranks, ...
static inline bool checkpoint_verify(const char *folder, int rank, int ranks, Error *err) {
    Path path = path_of("%s/run.json", folder);
    JsonDoc doc;
    const Json *root = json_load(&doc, path.text, err), *files = json_get(root, "files");
    bool ok = root != NULL;
    int number = 0, listed = 0;
    for (const Json *j = ok && json_is(files, JSON_OBJECT) ? files->child : NULL; ok && j; j = j->next) {
        listed += strcmp(j->key, "model.safetensors") == 0;
        if (number++ % ranks != rank) continue;
        Path file = path_of("%s/%s", folder, j->key);
        uint64_t sum = 0, bytes = 0;
        ok = checkpoint_sum(&sum, &bytes, file.text, err);
        if (ok && bytes != (uint64_t)json_integer(json_get(j, "bytes"), -1))
            ok = error_set(err,
                           "%s has %" PRIu64 " bytes, expected %lld: the checkpoint is damaged; remove or rename %s to "
                           "go on from an earlier one",
                           file.text, bytes, (long long)json_integer(json_get(j, "bytes"), -1), folder);
        else if (ok && sum != strtoull(json_string(json_get(j, "xxh64"), "0"), NULL, 16))
            ok = error_set(err,
                           "%s does not match its checksum: the checkpoint is damaged; remove or rename %s to go on "
                           "from an earlier one",
                           file.text, folder);
    }
    if (root) json_free(&doc);
    // One that somebody has put there would be taken before the files that an index names, and no sum covers it.
    Path single = path_of("%s/model.safetensors", folder);
    FileKind kind = FILE_ABSENT;
    if (ok && !listed) ok = path_look(single.text, &kind, err);
    if (ok && kind != FILE_ABSENT)
        ok = error_set(err, "%s is not part of this checkpoint, and would be read in place of its own files; remove it",
                       single.text);
    return ok;
}

static inline bool checkpoint_load_moments(Model *m, const ParamTable *t, const Config *c, const char *folder,
                                           Error *err) {
    SafeTensors st;
    Path one = checkpoint_file(CHECKPOINT_OPTIMIZER, 0, 1);
    bool ok = safetensors_open_folder(&st, folder, one.text, "optimizer.safetensors.index.json", err);
    if (!ok) return false;
    for (int k = checkpoint_first[CHECKPOINT_OPTIMIZER]; ok && k < CHECKPOINT_ARRAYS; k++)
        ok = disk_load(m, checkpoint_arrays[k].array, &st, t, c, checkpoint_arrays[k].prefix, folder, err);
    safetensors_close(&st);
    return ok;
}

#endif
