/*
checkpoint.h: a run's checkpoints, RUN_DIR/step_00001000/: which there are, reading and removing them.
checkpoint_writer.h writes them; run_folder.h says where the run stands that made one.

A checkpoint is a Hugging Face model folder (huggingface.h, tokenizer.h) with more in it: the Adam moments under
the names of the weights, moment1.NAME and moment2.NAME, and run.json, which holds the position in the run, every
option, size and XXH64 of every other file, and the XXH64 of itself (verify.h).

    model.safetensors, model.safetensors.index.json, optimizer-00001-of-00001.safetensors
of an adapter, whose base stays where it is (adapters.h), likewise in one file each,
    adapter_config.json, adapter_model.safetensors, optimizer-00001-of-00001.safetensors
or, sharded over N files, which N ranks write,
    model-00001-of-0000N.safetensors ..., model.safetensors.index.json
    optimizer-00001-of-0000N.safetensors ..., optimizer.safetensors.index.json

It is written to step_N.MARK.tmp, every file flushed and synced, and the folder renamed at the end: it is
there whole or it is not there. The newest checkpoint is found by looking; nothing points at it.
*/
#ifndef LLMC_CHECKPOINT_H
#define LLMC_CHECKPOINT_H

#include "../base/hash.h"
#include "adapters.h"
#include "huggingface.h"
#include "../text/tokenizer.h"
#include "verify.h"

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

// The tables of what a checkpoint holds: the weights' (of an adapter's run, those of the adapter alone), and the
// optimizer's state's in its own shapes.
typedef struct {
    ParamTable array[CHECKPOINT_ARRAYS];
} CheckpointTables;

static inline CheckpointTables checkpoint_tables(const Config *c, int optimizer) {
    CheckpointTables t;
    t.array[0] = c->lora.rank ? param_table_adapter(c) : param_table(c);
    for (int k = 1; k < CHECKPOINT_ARRAYS; k++)
        t.array[k] = param_table_state(&t.array[0], optimizer, checkpoint_arrays[k].array - MODEL_STATE);
    return t;
}

static inline void checkpoint_tables_free(CheckpointTables *t) {
    for (int k = 0; k < CHECKPOINT_ARRAYS; k++)
        if (t->array[k].items) param_table_free(&t->array[k]);
}

// The bytes of a checkpoint but for its small files.
static inline double checkpoint_bytes(const CheckpointTables *t) {
    double numbers = 0;
    for (int k = 0; k < CHECKPOINT_ARRAYS; k++) numbers += (double)t->array[k].parameters;
    return sizeof(float) * numbers;
}

// The name of file number `file` (from 0) of `files` of a kind.
static inline Path checkpoint_file(int kind, int file, int files) {
    if (kind == CHECKPOINT_OPTIMIZER) return path_of("optimizer-%05d-of-%05d.safetensors", file + 1, files);
    return files == 1 ? path_of("model.safetensors") : path_of("model-%05d-of-%05d.safetensors", file + 1, files);
}

static inline Path checkpoint_folder(const char *run_dir, int64_t step) {
    return path_of("%s/step_%08lld", run_dir, (long long)step);
}

// The step in a name like step_00001000, in any number of digits, or -1.
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

// What stands in a run's folder under the names of checkpoints.
typedef struct {
    int64_t *steps; // (count) of the whole ones, ascending
    int count;
    StrList odd; // a line for each that is none, or that another name hides from the run
    int newest_odd;
    int64_t odd_step; // the highest step that one of those names, -1: there are none
} CheckpointSurvey;

static inline void checkpoint_survey_free(CheckpointSurvey *s) {
    free(s->steps);
    str_list_free(&s->odd);
    memset(s, 0, sizeof *s);
}

// Why what has a checkpoint's name is no checkpoint of its run; empty: it is one. False: it cannot be looked at.
static inline bool checkpoint_oddity(Path *why, const char *run_dir, const char *name, Error *err) {
    Path usual = checkpoint_folder(run_dir, checkpoint_step(name)), own = path_of("%s/%s", run_dir, name), target;
    FileKind kind;
    why->text[0] = 0;
    if (strcmp(usual.text, own.text) != 0) {
        *why = path_of("%s is not named as the checkpoint %.2000s would be", own.text, strrchr(usual.text, '/') + 1);
        return true;
    }
    if (!path_look(own.text, &kind, err)) { // a link to nothing is known for what it is, any other error is one
        bool dangling =
            readlink(own.text, target.text, sizeof target.text) >= 0 && access(own.text, F_OK) != 0 && errno == ENOENT;
        if (dangling) *why = path_of("%s is a link to a folder that is not there", own.text);
        return dangling;
    }
    Path run = path_of("%s/run.json", own.text);
    if (kind != FILE_FOLDER) *why = path_of("%s is a file, expected the folder of a checkpoint", own.text);
    else if (!path_look(run.text, &kind, err)) return false;
    else if (kind == FILE_ABSENT) *why = path_of("%s has no run.json, and so is no whole checkpoint", own.text);
    return true;
}

// False: the folder, or what is in it, cannot be looked at; what can is in the survey all the same. To be freed in any
// case; a missing folder is empty.
static inline bool checkpoint_survey(CheckpointSurvey *s, const char *run_dir, Error *err) {
    StrList names;
    memset(s, 0, sizeof *s);
    s->odd_step = -1;
    bool ok = checkpoint_names(&names, run_dir, err);
    if (names.count) s->steps = (int64_t *)mem_alloc((size_t)names.count * sizeof(int64_t));
    for (int k = 0; k < names.count; k++) {
        int64_t step = checkpoint_step(names.items[k]);
        Path why;
        if (step < 0) continue;
        if (!checkpoint_oddity(&why, run_dir, names.items[k], ok ? err : NULL)) {
            ok = false;
        } else if (why.text[0]) {
            if (step > s->odd_step) s->odd_step = step, s->newest_odd = s->odd.count;
            str_list_add(&s->odd, why.text);
        } else {
            int i = s->count++;
            for (; i > 0 && s->steps[i - 1] > step; i--) s->steps[i] = s->steps[i - 1];
            s->steps[i] = step;
        }
    }
    str_list_free(&names);
    return ok;
}

// The steps of all whole checkpoints, ascending; *steps is to be freed, on an error too.
static inline bool checkpoint_list(int64_t **steps, int *count, const char *run_dir, Error *err) {
    CheckpointSurvey s;
    bool ok = checkpoint_survey(&s, run_dir, err);
    *steps = s.steps;
    *count = ok ? s.count : 0;
    str_list_free(&s.odd);
    return ok;
}

// The newest whole checkpoint of a run's folder; *folder is empty where there is none. What has the name of a newer one
// and is none is an error: to pass it over would be to go on from another state than the folder shows. An older one is
// named in a warning.
static inline bool checkpoint_newest(Path *folder, const char *run_dir, Error *err) {
    CheckpointSurvey s;
    folder->text[0] = 0;
    bool ok = checkpoint_survey(&s, run_dir, err);
    int64_t newest = s.count ? s.steps[s.count - 1] : -1;
    if (ok && s.odd_step > newest)
        ok = error_set(err, "%.800s: rename it if it is to be the newest one, or move it away",
                       s.odd.items[s.newest_odd]);
    if (ok && newest >= 0) *folder = checkpoint_folder(run_dir, newest);
    if (ok && s.odd.count == 1) warn("%s: it is passed over", s.odd.items[0]);
    if (ok && s.odd.count > 1)
        warn("%s: it and %d more like it are passed over", s.odd.items[s.newest_odd], s.odd.count - 1);
    checkpoint_survey_free(&s);
    return ok;
}

// Is this the name of a temporary folder of this program, step_N.tmp or step_N.MARK.tmp, or of checkpoint_probe()?
static inline bool checkpoint_is_temporary(const char *name) {
    if (strncmp(name, ".writer-", 8) == 0) return true;
    if (strncmp(name, "step_", 5) != 0) return false;
    size_t digits = strspn(name + 5, "0123456789");
    const char *rest = name + 5 + digits;
    if (digits && *rest == '.' && strspn(rest + 1, "0123456789abcdef") == 8) rest += 9;
    return digits && strcmp(rest, ".tmp") == 0;
}

// Removes what a killed run left half-written. The caller holds the run's lock, so that no other process writes there.
static inline bool checkpoint_sweep(const char *run_dir, Error *err) {
    StrList names;
    bool ok = checkpoint_names(&names, run_dir, err);
    for (int i = 0; ok && i < names.count; i++)
        if (checkpoint_is_temporary(names.items[i]))
            ok = path_remove_tree(path_of("%s/%s", run_dir, names.items[i]).text, err);
    str_list_free(&names);
    return ok;
}

// Gives up the name of a checkpoint, or of what has taken it, and removes it.
static inline bool checkpoint_remove(const char *run_dir, int64_t step, Error *err) {
    // First the name, so that a kill in between leaves no half-removed checkpoint under a good name.
    Path p = checkpoint_folder(run_dir, step), gone = path_of("%s.tmp", p.text);
    if (!path_remove_tree(gone.text, err)) return false;
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
    CheckpointSurvey s;
    if (keep->newest == 0) return true;
    bool ok = checkpoint_survey(&s, run_dir, err);
    int64_t spared = keep->rollback ? checkpoint_regular(s.steps, s.count, keep->every, INT64_MAX) : -1;
    // One that cannot be looked at or removed is told, and does not keep the others from going.
    for (int i = 0; i < s.count - keep->newest; i++)
        if (s.steps[i] != spared) ok = checkpoint_remove(run_dir, s.steps[i], ok ? err : NULL) && ok;
    checkpoint_survey_free(&s);
    return ok;
}

// ---------------------------------------------------------------- reading

// Reads run.json and holds its step against the folder's name. On false there is nothing to close.
static inline bool checkpoint_open(RunRecord *r, const char *folder, Error *err) {
    Path path = path_of("%s/run.json", folder), name = path_of("%s", folder);
    Str text;
    Error why;
    memset(&text, 0, sizeof text);
    bool ok = file_read(&text, path.text, RUN_RECORD_MOST, &why) &&
              run_record_parse(r, text.data, text.size, path.text, &why);
    free(text.data);
    for (size_t n = strlen(name.text); n > 1 && name.text[n - 1] == '/'; n--) name.text[n - 1] = 0;
    const char *slash = strrchr(name.text, '/');
    int64_t named = ok ? checkpoint_step(slash ? slash + 1 : name.text) : -1,
            step = ok ? json_integer(json_get(r->root, "step"), -1) : 0;
    if (ok && named >= 0 && named != step) {
        ok = error_set(&why, "%s says that it is of step %lld, the folder's name says %lld", path.text, (long long)step,
                       (long long)named);
        run_record_close(r);
    }
    return ok ? true
              : error_set(err,
                          "%.600s: the checkpoint %.300s cannot be used; restore it from a copy, or rename or remove "
                          "it "
                          "to go on from an earlier one",
                          why.text, folder);
}

// One that somebody has put there would be taken before the files that an index names, and no sum covers it.
static inline bool checkpoint_no_intruder(const RunRecord *r, const char *folder, Error *err) {
    static const char *const single[] = {"model.safetensors", "optimizer-00001-of-00001.safetensors"};
    FileKind kind;
    for (int i = 0; i < 2; i++) {
        Path path = path_of("%s/%s", folder, single[i]);
        if (!path_look(path.text, &kind, err)) return false;
        if (kind != FILE_ABSENT && !json_get(json_get(r->root, "files"), single[i]))
            return error_set(err,
                             "%s is not part of this checkpoint, and would be read in place of its own files; remove "
                             "it",
                             path.text);
    }
    return true;
}

// Checks run.json and the files that it lists. All `ranks` call this and share the work: rank r checks files r, r +
// ranks, ...
static inline bool checkpoint_verify_part(const char *folder, VerifyPart part, int rank, int ranks, Error *err) {
    RunRecord r;
    VerifyFile *files;
    int all, mine = 0;
    if (!checkpoint_open(&r, folder, err)) return false;
    Error why;
    bool ok = checkpoint_no_intruder(&r, folder, err) && verify_list(&files, &all, &r, folder, part, err);
    if (ok) {
        for (int i = rank; i < all; i += ranks) files[mine++] = files[i];
        ok = verify_files(folder, files, mine, &why);
        free(files);
        if (!ok)
            error_set(err,
                      "%.700s: the checkpoint is damaged; restore it from a copy, or rename or remove %.200s to go on "
                      "from "
                      "an earlier one",
                      why.text, folder);
    }
    run_record_close(&r);
    return ok;
}

static inline bool checkpoint_verify(const char *folder, int rank, int ranks, Error *err) {
    return checkpoint_verify_part(folder, VERIFY_ALL, rank, ranks, err);
}

// The same of any model folder, without the optimizer's state; one without run.json is a foreign one: there is nothing
// to hold it against.
static inline bool checkpoint_verify_model(const char *folder, int rank, int ranks, Error *err) {
    FileKind kind;
    if (!path_look(path_of("%s/run.json", folder).text, &kind, err)) return false;
    return kind == FILE_ABSENT || checkpoint_verify_part(folder, VERIFY_MODEL, rank, ranks, err);
}

// Holds one file, a tokenizer.json, against the record that lies beside it, if there is one of this program.
static inline bool checkpoint_verify_file(const char *path, Error *err) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    Path run = path_of("%s/run.json", path_parent(path).text);
    FileKind kind;
    RunRecord r;
    Str text;
    Error why;
    memset(&text, 0, sizeof text);
    if (!path_look(run.text, &kind, err)) return false;
    if (kind != FILE_REGULAR) return true;
    if (!file_read(&text, run.text, RUN_RECORD_MOST, err)) return false;
    bool ours = run_record_parse(&r, text.data, text.size, run.text, &why), ok = true;
    free(text.data);
    const Json *listed = ours ? json_get(json_get(r.root, "files"), name) : NULL;
    uint64_t sum = 0;
    int64_t bytes = json_integer(json_get(listed, "bytes"), -1), found = 0;
    if (bytes >= 0 && (ok = file_sum(&sum, &found, path, bytes, err)) &&
        (found != bytes || sum != strtoull(json_string(json_get(listed, "xxh64"), "0"), NULL, 16)))
        ok = error_set(err, "%s is not the file that %s lists: it is damaged or another one; copy it again", path,
                       run.text);
    if (ours) run_record_close(&r);
    return ok;
}

static inline bool checkpoint_load_moments(Model *m, const CheckpointTables *t, const Config *c, const char *folder,
                                           Error *err) {
    SafeTensors st;
    Path one = checkpoint_file(CHECKPOINT_OPTIMIZER, 0, 1);
    bool ok = safetensors_open_folder(&st, folder, one.text, "optimizer.safetensors.index.json", err);
    if (!ok) return false;
    for (int k = checkpoint_first[CHECKPOINT_OPTIMIZER]; ok && k < CHECKPOINT_ARRAYS; k++)
        ok = disk_load(m, checkpoint_arrays[k].array, &st, &t->array[k], c, checkpoint_arrays[k].prefix, folder, err);
    safetensors_close(&st);
    return ok;
}

#endif
