/*
run_folder.h: the folder of a run, --out: one writer at a time, the checkpoint to go on from, and where a run stands, as
its lines in a checkpoint's run.json say.
*/
#ifndef LLMC_RUN_FOLDER_H
#define LLMC_RUN_FOLDER_H

#include "../files/checkpoint.h"
#include "options.h"
#include "spikes.h"
#include <sys/file.h>

// Where a run stands, and what a resumed one must have in common with it.
typedef struct {
    int64_t step;     // done; an update each, but for those skipped
    int64_t position; // sequences seen, over all ranks: the next one to read from the source of batches
    int64_t tokens;   // trained on
    int64_t skipped;  // steps whose update was refused
    int64_t spikes;   // in a row, and the furthest step that was one
    int64_t spike_step;
    SpikeWindow window;
    int64_t seed;
    int64_t seq_len;
    uint64_t data; // the source's fingerprint
} RunState;

static inline void run_state_json(Str *s, const RunState *state) {
    str_printf(s, "  \"step\": %lld,\n  \"position\": %lld,\n  \"tokens\": %lld,\n", (long long)state->step,
               (long long)state->position, (long long)state->tokens);
    str_printf(s, "  \"skipped\": %lld,\n  \"spikes\": %lld,\n  \"spike_step\": %lld,\n  \"window\": {",
               (long long)state->skipped, (long long)state->spikes, (long long)state->spike_step);
    spike_json(s, &state->window);
    str_printf(s, "},\n  \"seed\": %lld,\n  \"seq_len\": %lld,\n  \"data\": \"%016" PRIx64 "\",\n",
               (long long)state->seed, (long long)state->seq_len, state->data);
}

// Reads the state of a checkpoint.
static inline bool run_state_load(RunState *state, const char *checkpoint, Error *err) {
    Path path = path_of("%s/run.json", checkpoint);
    JsonDoc doc;
    const Json *root = json_load(&doc, path.text, err);
    if (!root) return false;
    memset(state, 0, sizeof *state);
    state->step = json_integer(json_get(root, "step"), -1);
    state->position = json_integer(json_get(root, "position"), -1);
    state->tokens = json_integer(json_get(root, "tokens"), -1);
    state->skipped = json_integer(json_get(root, "skipped"), 0);
    state->spikes = json_integer(json_get(root, "spikes"), 0);
    state->spike_step = json_integer(json_get(root, "spike_step"), 0);
    state->seed = json_integer(json_get(root, "seed"), -1);
    state->seq_len = json_integer(json_get(root, "seq_len"), -1);
    state->data = strtoull(json_string(json_get(root, "data"), "0"), NULL, 16);
    bool ok = state->step >= 0 && state->position >= 0 && state->tokens >= 0 &&
              spike_read(&state->window, json_get(root, "window")) && json_is(json_get(root, "files"), JSON_OBJECT);
    json_free(&doc);
    return ok ? true
              : error_set(err, "%s does not describe a checkpoint; remove or rename %s to go on from an earlier one",
                          path.text, checkpoint);
}

// Makes the folder and locks it; the lock goes away with the process, however it ends. *lock: to be closed. On rank 0.
static inline bool run_folder_lock(int *lock, const char *run_dir, Error *err) {
    if (!path_make_folder(run_dir, err)) return false;
    Path path = path_of("%s/.lock", run_dir);
    *lock = open(path.text, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (*lock < 0) return error_set(err, "cannot write into %s: %s", run_dir, strerror(errno));
    if (flock(*lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return error_set(err, "another process is training in %s", run_dir);
    return checkpoint_sweep(run_dir, err);
}

// Finds the newest checkpoint of the run folder, and refuses a folder that holds another run. state holds what this run
// is (seed, length, data), and then where the checkpoint stands; *folder is empty when there is none. On rank 0.
static inline bool run_folder_find(Path *folder, RunState *state, const Config *config, const Options *o, Error *err) {
    int64_t *steps, newest = -1;
    int n;
    FileKind kind = FILE_ABSENT;
    Path metrics = path_of("%s/metrics.jsonl", o->out);
    bool ok = checkpoint_list(&steps, &n, o->out, err) && path_look(metrics.text, &kind, err);
    if (n) newest = steps[n - 1];
    free(steps);
    folder->text[0] = 0;
    if (!ok) return false;
    if (o->resume == RESUME_NO && (n || kind != FILE_ABSENT))
        return error_set(err, "%s holds another run; go on with it by --resume=auto, or choose another --out", o->out);
    if (!n) return true;
    *folder = checkpoint_folder(o->out, newest);
    RunState s;
    if (!run_state_load(&s, folder->text, err)) return false;
    const char *other = NULL;
    if (s.seed != state->seed) other = "--seed";
    else if (s.seq_len != state->seq_len) other = "--seq_len";
    else if (s.data != state->data) other = "training data";
    if (other)
        return error_set(err,
                         "%s belongs to a run with another %s; a run resumes only as what it was: choose another --out",
                         folder->text, other);
    Config c;
    if (!folder_read_config(&c, folder->text, err)) return false;
    const char *field = config_difference(&c, config);
    if (field)
        return error_set(err, "%s holds another model than --model=%s; choose another --out (%s differs)", folder->text,
                         o->model, field);
    *state = s;
    return true;
}

#endif
