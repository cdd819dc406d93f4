/*
checkpoint.h: a run's checkpoints, RUN_DIR/step_00001000/.

A checkpoint is a Hugging Face model folder (huggingface.h, tokenizer.h) with two more things in it:
optimizer-00001-of-00001.safetensors, the Adam moments under the names of the weights, and run.json,
which holds the position in the run, every option, and size and XXH64 of every other file.

It is written to step_N.tmp, every file flushed and synced, and the folder renamed at the end: it is
there whole or it is not there. The newest checkpoint is found by looking; nothing points at it.

CheckpointWriter writes one while training goes on: the numbers are copied to host memory (12 bytes a
parameter, on rank 0, allocated once), then a thread writes the copy. There is one copy: who asks for the
next checkpoint waits for the last one. Without the copy the model itself is written, and training waits.
*/
#ifndef LLMC_CHECKPOINT_H
#define LLMC_CHECKPOINT_H

#include "hash.h"
#include "huggingface.h"
#include "options.h"
#include "spikes.h"
#include "tokenizer.h"
#include <pthread.h>

// Where a run stands, and what a resumed one must have in common with it.
typedef struct {
    int64_t step;     // done; an update each, but for those skipped
    int64_t position; // sequences seen, over all ranks: the next one to read in dataset order
    int64_t tokens;   // trained on
    int64_t skipped;  // steps whose update was refused
    int64_t spikes;   // in a row, and the furthest step that was one
    int64_t spike_step;
    SpikeWindow window;
    int64_t seed;
    int64_t seq_len;
    uint64_t data; // Dataset.fingerprint of the training shards
} RunState;

#define CHECKPOINT_OPTIMIZER "optimizer-00001-of-00001.safetensors"

static inline Path checkpoint_folder(const char *run_dir, int64_t step) { return path_of("%s/step_%08lld", run_dir, (long long)step); }

// The step in a name like step_00001000, or -1.
static inline int64_t checkpoint_step(const char *name) {
    if (strncmp(name, "step_", 5) != 0 || !name[5] || name[5 + strspn(name + 5, "0123456789")]) return -1;
    return strtoll(name + 5, NULL, 10);
}

// The steps of all whole checkpoints, ascending; *steps is to be freed. A missing folder has none.
static inline int checkpoint_list(int64_t **steps, const char *run_dir) {
    size_t capacity = 0;
    int count = 0;
    *steps = NULL;
    DIR *dir = opendir(run_dir);
    if (!dir) return 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        int64_t step = checkpoint_step(e->d_name);
        if (step < 0) continue;
        *steps = (int64_t *)mem_grow(*steps, &capacity, (size_t)count + 1, sizeof(int64_t));
        int i = count++;
        for (; i > 0 && (*steps)[i - 1] > step; i--) (*steps)[i] = (*steps)[i - 1];
        (*steps)[i] = step;
    }
    closedir(dir);
    return count;
}

// Removes what a killed run left half-written.
static inline bool checkpoint_sweep(const char *run_dir, Error *err) {
    DIR *dir = opendir(run_dir);
    if (!dir) return true;
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) {
        if (strncmp(e->d_name, "step_", 5) != 0 || !str_ends_with(e->d_name, ".tmp")) continue;
        Path p = path_of("%s/%s", run_dir, e->d_name);
        ok = path_remove_tree(p.text, err);
    }
    closedir(dir);
    return ok;
}

static inline bool checkpoint_remove(const char *run_dir, int64_t step, Error *err) {
    // First the name, so that a kill in between leaves no half-removed checkpoint under a good name.
    Path p = checkpoint_folder(run_dir, step), gone = path_of("%s.tmp", p.text);
    if (rename(p.text, gone.text) != 0) return error_set(err, "cannot remove the checkpoint %s: %s", p.text, strerror(errno));
    return path_remove_tree(gone.text, err);
}

// The newest checkpoint before or at `step` that --checkpoint_every made, and no stop of the run; -1: none.
static inline int64_t checkpoint_regular(const int64_t *steps, int n, int64_t every, int64_t step) {
    for (int i = n - 1; i >= 0 && every > 0; i--)
        if (steps[i] <= step && steps[i] % every == 0) return steps[i];
    return -1;
}

// Removes all but the newest `keep` checkpoints (0: keeps all), and the newest regular one where a
// rollback may need it: a run that was stopped and one that was not must roll back to the same step.
static inline bool checkpoint_prune(const char *run_dir, const Options *o, Error *err) {
    int64_t *steps;
    int n = checkpoint_list(&steps, run_dir);
    int64_t spared = o->spike_action == SPIKE_ROLLBACK ? checkpoint_regular(steps, n, o->checkpoint_every, INT64_MAX) : -1;
    bool ok = true;
    for (int i = 0; ok && o->keep_checkpoints > 0 && i < n - o->keep_checkpoints; i++)
        if (steps[i] != spared) ok = checkpoint_remove(run_dir, steps[i], err);
    free(steps);
    return ok;
}

// XXH64 and size of a file. Read in pieces, not mapped: mapped pages would count as this process's memory.
static inline bool checkpoint_sum(uint64_t *sum, uint64_t *bytes, const char *path, Error *err) {
    FILE *f = fopen(path, "rb");
    if (!f) return error_set(err, "cannot open %s: %s", path, strerror(errno));
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

// ---------------------------------------------------------------- writing

// Where a checkpoint's numbers come from.
typedef struct {
    Model *model;
    const float *copy; // (3, parameters): weights, first moments, second moments; NULL: from the model
    const ParamTable *table;
    const Config *config;
} CheckpointSource;

static const int checkpoint_arrays[3] = {MODEL_WEIGHT, MODEL_MOMENT1, MODEL_MOMENT2}; // in the order of the files

// Writes array number k of checkpoint_arrays; w NULL only asks the model for it, since all ranks must.
static inline void checkpoint_put(SafeWriter *w, const CheckpointSource *from, int k) {
    const ParamTable *t = from->table;
    if (!from->copy) {
        disk_write(w, from->model, checkpoint_arrays[k], t, from->config);
        return;
    }
    size_t most, most_turned;
    disk_sizes(&most, &most_turned, t, from->config);
    float *turned = (float *)mem_alloc(sizeof(float) * most_turned);
    const float *values = from->copy + (size_t)k * t->parameters;
    for (int i = 0; w && i < t->count; values += t->items[i++].count) disk_write_one(w, &t->items[i], from->config, values, turned);
    free(turned);
}

// Arrays [first, last) into one file, under the prefixes of their names. With ok == false only the model is asked.
static inline bool checkpoint_write_tensors(bool ok, const char *path, const CheckpointSource *from, int first, int last, Error *err) {
    static const char *const prefixes[3] = {"", "moment1.", "moment2."};
    SafeWriter w;
    ok = ok && safewriter_open(&w, path, err);
    for (int k = first; ok && k < last; k++) disk_declare(&w, from->table, from->config, prefixes[k]);
    if (ok) safewriter_begin_data(&w);
    for (int k = first; k < last; k++) checkpoint_put(ok ? &w : NULL, from, k);
    return ok && safewriter_commit(&w, err);
}

// Writes RUN_DIR/step_N whole or not at all. Called on one rank; without a copy, the others call
// checkpoint_hand_over() meanwhile.
static inline bool checkpoint_write(const char *run_dir, const RunState *state, const Options *o, const CheckpointSource *from, const Tokenizer *tok, Error *err) {
    const Config *c = from->config;
    Path final = checkpoint_folder(run_dir, state->step), temporary = path_of("%s.tmp", final.text);
    const char *folder = temporary.text;
    Path model = path_of("%s/model.safetensors", folder), moments = path_of("%s/%s", folder, CHECKPOINT_OPTIMIZER);
    Path tokens = path_of("%s/tokenizer.json", folder), tokens_config = path_of("%s/tokenizer_config.json", folder);
    int pad = tokenizer_special(tok, "<|pad|>");
    bool ok = path_remove_tree(folder, err) && path_make_folder(folder, err) && folder_write_config(folder, c, tok->eot, pad >= 0 ? pad : tok->eot, err) &&
              tokenizer_save(tok, tokens.text, err) && tokenizer_save_config(tok, tokens_config.text, c->max_seq_len, err);
    ok = checkpoint_write_tensors(ok, model.text, from, 0, 1, err);
    ok = checkpoint_write_tensors(ok, moments.text, from, 1, 3, err);
    Str s;
    memset(&s, 0, sizeof s);
    str_printf(&s, "{\n  \"format\": 1,\n  \"program\": \"%s\",\n  \"step\": %lld,\n  \"position\": %lld,\n  \"tokens\": %lld,\n", engine_name(), (long long)state->step,
               (long long)state->position, (long long)state->tokens);
    str_printf(&s, "  \"skipped\": %lld,\n  \"spikes\": %lld,\n  \"spike_step\": %lld,\n  \"window\": {", (long long)state->skipped, (long long)state->spikes,
               (long long)state->spike_step);
    spike_json(&s, &state->window);
    str_puts(&s, "},\n");
    str_printf(&s, "  \"seed\": %lld,\n  \"seq_len\": %lld,\n  \"data\": \"%016" PRIx64 "\",\n  \"options\": {", (long long)state->seed, (long long)state->seq_len,
               state->data);
    options_json(&s, o);
    str_puts(&s, "\n  },\n  \"files\": {");
    static const char *const files[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", CHECKPOINT_OPTIMIZER};
    for (size_t i = 0; ok && i < sizeof files / sizeof files[0]; i++) {
        Path p = path_of("%s/%s", folder, files[i]);
        uint64_t sum = 0, bytes = 0;
        ok = checkpoint_sum(&sum, &bytes, p.text, err);
        str_printf(&s, "%s\n    \"%s\": {\"bytes\": %" PRIu64 ", \"xxh64\": \"%016" PRIx64 "\"}", i ? "," : "", files[i], bytes, sum);
    }
    str_puts(&s, "\n  }\n}\n");
    Path run = path_of("%s/run.json", folder);
    ok = ok && file_write_all(run.text, s.data, s.size, err) && path_sync_folder(folder, err) && path_remove_tree(final.text, err);
    free(s.data);
    if (ok && rename(temporary.text, final.text) != 0) ok = error_set(err, "cannot rename %s: %s", temporary.text, strerror(errno));
    if (!ok) {
        path_remove_tree(temporary.text, NULL);
        return false;
    }
    return path_sync_folder(run_dir, err);
}

// What the ranks that do not write do while rank 0 writes from the model.
static inline void checkpoint_hand_over(const CheckpointSource *from) {
    for (int k = 0; k < 3; k++) checkpoint_put(NULL, from, k);
}

// ---------------------------------------------------------------- writing in the background

typedef struct {
    const char *run_dir;
    const Options *o;
    const Tokenizer *tokenizer;
    CheckpointSource from;
    float *copy;   // from.copy; NULL: training waits for every write. Only on rank 0
    float *values; // (the largest parameter): what model_get fills on the other ranks

    // The write under way, or the one that ended and was not yet looked at.
    bool busy;
    RunState state;
    int metrics; // file descriptor of metrics.jsonl
    pthread_t thread;
    bool threaded;
    pthread_mutex_t mutex; // guards done; what follows it belongs to the thread until done
    pthread_cond_t ended;
    bool done, ok;
    Error err;
    Error prune_err; // the checkpoint is written, but old ones could not be removed; empty: they could
    double seconds;
} CheckpointWriter;

static inline void checkpoint_run(CheckpointWriter *w) {
    double start = clock_seconds();
    // Metrics of these steps are on disk before the weights are: what is cut off on resuming is there.
    if (w->metrics > 0) fsync(w->metrics);
    w->err.text[0] = w->prune_err.text[0] = 0;
    w->ok = checkpoint_write(w->run_dir, &w->state, w->o, &w->from, w->tokenizer, &w->err);
    if (w->ok) checkpoint_prune(w->run_dir, w->o, &w->prune_err);
    w->seconds = clock_seconds() - start;
}

static inline void *checkpoint_thread(void *argument) {
    CheckpointWriter *w = (CheckpointWriter *)argument;
    checkpoint_run(w);
    pthread_mutex_lock(&w->mutex);
    w->done = true;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

// background: take the memory for the copy now, so that a lack of it shows before the first step.
static inline bool checkpoint_writer_open(CheckpointWriter *w, const char *run_dir, const Options *o, Model *m, const ParamTable *t, const Config *c,
                                          const Tokenizer *tok, bool background, int rank, Error *err) {
    memset(w, 0, sizeof *w);
    w->run_dir = run_dir;
    w->o = o;
    w->tokenizer = tok;
    w->from.model = m;
    w->from.table = t;
    w->from.config = c;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->ended, NULL);
    if (!background) return true;
    size_t most = 0;
    for (int i = 0; i < t->count; i++)
        if (t->items[i].count > most) most = t->items[i].count;
    if (rank > 0) {
        w->values = (float *)mem_alloc(sizeof(float) * most);
        return true;
    }
    w->from.copy = w->copy = (float *)engine_host_alloc(3 * sizeof(float) * t->parameters);
    return w->copy ? true
                   : error_set(err, "out of memory: checkpoints in the background need %.2f GiB of host memory; try --background_checkpoints=off",
                               3 * sizeof(float) * (double)t->parameters / (1024.0 * 1024.0 * 1024.0));
}

static inline void checkpoint_writer_close(CheckpointWriter *w) {
    if (w->copy) engine_host_free(w->copy);
    free(w->values);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->ended);
    memset(w, 0, sizeof *w);
}

// Copies weights and moments. Called by all ranks; no write is under way.
static inline void checkpoint_copy(CheckpointWriter *w) {
    float *to = w->copy;
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < w->from.table->count; i++) {
            const Param *p = &w->from.table->items[i];
            model_get(w->from.model, checkpoint_arrays[k], p, w->values ? w->values : to);
            to += w->values ? 0 : p->count;
        }
}

// Writes a checkpoint: in the background what checkpoint_copy copied, or before it returns.
static inline void checkpoint_start(CheckpointWriter *w, const RunState *state, int metrics, bool background) {
    w->state = *state;
    w->metrics = metrics;
    w->busy = true;
    w->done = false;
    w->threaded = background && pthread_create(&w->thread, NULL, checkpoint_thread, w) == 0;
    if (!w->threaded) checkpoint_thread(w); // also where no thread is to be had
}

// Has the write that checkpoint_start began ended? Waits for it up to `seconds`.
static inline bool checkpoint_ended(CheckpointWriter *w, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    until.tv_sec += (time_t)seconds + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&w->mutex);
    while (!w->done && seconds > 0 && pthread_cond_timedwait(&w->ended, &w->mutex, &until) == 0) {
    }
    bool done = w->done;
    pthread_mutex_unlock(&w->mutex);
    return done;
}

// After checkpoint_ended(): w->ok, err, prune_err and seconds say what came of it, and the copy is free again.
static inline void checkpoint_finish(CheckpointWriter *w) {
    if (w->threaded) pthread_join(w->thread, NULL);
    w->busy = false;
}

// ---------------------------------------------------------------- reading

static inline uint64_t checkpoint_hex(const Json *j) { return strtoull(json_string(j, "0"), NULL, 16); }

// Reads where a checkpoint stands.
static inline bool checkpoint_read(RunState *state, const char *folder, Error *err) {
    Path path = path_of("%s/run.json", folder);
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
    state->data = checkpoint_hex(json_get(root, "data"));
    bool ok = state->step >= 0 && state->position >= 0 && state->tokens >= 0 && spike_read(&state->window, json_get(root, "window")) &&
              json_is(json_get(root, "files"), JSON_OBJECT);
    json_free(&doc);
    return ok ? true : error_set(err, "%s does not describe a checkpoint; remove or rename %s to go on from an earlier one", path.text, folder);
}

// Checks every file that run.json lists.
static inline bool checkpoint_verify(const char *folder, Error *err) {
    Path path = path_of("%s/run.json", folder);
    JsonDoc doc;
    const Json *root = json_load(&doc, path.text, err), *files = json_get(root, "files");
    bool ok = root != NULL;
    for (const Json *j = ok && json_is(files, JSON_OBJECT) ? files->child : NULL; ok && j; j = j->next) {
        Path file = path_of("%s/%s", folder, j->key);
        uint64_t sum = 0, bytes = 0;
        ok = checkpoint_sum(&sum, &bytes, file.text, err);
        if (ok && bytes != (uint64_t)json_integer(json_get(j, "bytes"), -1))
            ok = error_set(err, "%s has %" PRIu64 " bytes, expected %lld: the checkpoint is damaged; remove or rename %s to go on from an earlier one", file.text,
                           bytes, (long long)json_integer(json_get(j, "bytes"), -1), folder);
        else if (ok && sum != checkpoint_hex(json_get(j, "xxh64")))
            ok = error_set(err, "%s does not match its checksum: the checkpoint is damaged; remove or rename %s to go on from an earlier one", file.text, folder);
    }
    if (root) json_free(&doc);
    return ok;
}

static inline bool checkpoint_load_moments(Model *m, const ParamTable *t, const Config *c, const char *folder, Error *err) {
    Path path = path_of("%s/%s", folder, CHECKPOINT_OPTIMIZER);
    SafeTensors st;
    if (!safetensors_open(&st, path.text, err)) return false;
    bool ok = disk_load(m, MODEL_MOMENT1, &st, t, c, "moment1.", path.text, err) && disk_load(m, MODEL_MOMENT2, &st, t, c, "moment2.", path.text, err);
    safetensors_close(&st);
    return ok;
}

#endif
