/*
checkpoint.h: a run's checkpoints, RUN_DIR/step_00001000/.

A checkpoint is a Hugging Face model folder (huggingface.h, tokenizer.h) with two more things in it:
optimizer-00001-of-00001.safetensors, the Adam moments under the names of the weights, and run.json,
which holds the position in the run, every option, and size and XXH64 of every other file.

It is written to step_N.tmp, every file flushed and synced, and the folder renamed at the end: it is
there whole or it is not there. The newest checkpoint is found by looking; nothing points at it.
*/
#ifndef LLMC_CHECKPOINT_H
#define LLMC_CHECKPOINT_H

#include "hash.h"
#include "huggingface.h"
#include "options.h"
#include "tokenizer.h"

// Where a run stands, and what a resumed one must have in common with it.
typedef struct {
    int64_t step;     // updates made
    int64_t position; // sequences seen, over all ranks: the next one to read in dataset order
    int64_t tokens;   // trained on
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

// Removes all but the newest `keep` checkpoints (0: keeps all).
static inline bool checkpoint_prune(const char *run_dir, int64_t keep, Error *err) {
    int64_t *steps;
    int n = checkpoint_list(&steps, run_dir);
    bool ok = true;
    for (int i = 0; ok && keep > 0 && i < n - keep; i++) {
        // First the name, so that a kill in between leaves no half-removed checkpoint under a good name.
        Path p = checkpoint_folder(run_dir, steps[i]), gone = path_of("%s.tmp", p.text);
        if (rename(p.text, gone.text) != 0) ok = error_set(err, "cannot remove the old checkpoint %s: %s", p.text, strerror(errno));
        else ok = path_remove_tree(gone.text, err);
    }
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

static inline bool checkpoint_write_tensors(const char *path, Model *m, const ParamTable *t, const Config *c, bool moments, Error *err) {
    SafeWriter w;
    if (!safewriter_open(&w, path, err)) return false;
    disk_declare(&w, t, c, moments ? "moment1." : "");
    if (moments) disk_declare(&w, t, c, "moment2.");
    safewriter_begin_data(&w);
    disk_write(&w, m, moments ? MODEL_MOMENT1 : MODEL_WEIGHT, t, c);
    if (moments) disk_write(&w, m, MODEL_MOMENT2, t, c);
    return safewriter_commit(&w, err);
}

// Writes RUN_DIR/step_N whole or not at all. Called on one rank.
static inline bool checkpoint_write(const char *run_dir, const RunState *state, const Options *o, Model *m, const ParamTable *t, const Config *c,
                                    const Tokenizer *tok, Error *err) {
    Path final = checkpoint_folder(run_dir, state->step), temporary = path_of("%s.tmp", final.text);
    if (!path_remove_tree(temporary.text, err) || !path_make_folder(temporary.text, err)) return false;
    const char *folder = temporary.text;
    Path model = path_of("%s/model.safetensors", folder), moments = path_of("%s/%s", folder, CHECKPOINT_OPTIMIZER);
    Path tokens = path_of("%s/tokenizer.json", folder), tokens_config = path_of("%s/tokenizer_config.json", folder);
    bool ok = folder_write_config(folder, c, tok->eot, err) && tokenizer_save(tok, tokens.text, err) &&
              tokenizer_save_config(tok, tokens_config.text, c->max_seq_len, err) && checkpoint_write_tensors(model.text, m, t, c, false, err) &&
              checkpoint_write_tensors(moments.text, m, t, c, true, err);
    Str s;
    memset(&s, 0, sizeof s);
    str_printf(&s, "{\n  \"format\": 1,\n  \"program\": \"%s\",\n  \"step\": %lld,\n  \"position\": %lld,\n  \"tokens\": %lld,\n", engine_name(), (long long)state->step,
               (long long)state->position, (long long)state->tokens);
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

// ---------------------------------------------------------------- reading

static inline uint64_t checkpoint_hex(const Json *j) { return strtoull(json_string(j, "0"), NULL, 16); }

// Reads run.json and checks every file that it lists.
static inline bool checkpoint_open(RunState *state, const char *folder, Error *err) {
    Path path = path_of("%s/run.json", folder);
    JsonDoc doc;
    const Json *root = json_load(&doc, path.text, err);
    if (!root) return false;
    memset(state, 0, sizeof *state);
    state->step = json_integer(json_get(root, "step"), -1);
    state->position = json_integer(json_get(root, "position"), -1);
    state->tokens = json_integer(json_get(root, "tokens"), -1);
    state->seed = json_integer(json_get(root, "seed"), -1);
    state->seq_len = json_integer(json_get(root, "seq_len"), -1);
    state->data = checkpoint_hex(json_get(root, "data"));
    const Json *files = json_get(root, "files");
    bool ok = true;
    if (state->step < 0 || state->position < 0 || state->tokens < 0 || !json_is(files, JSON_OBJECT))
        ok = error_set(err, "%s does not describe a checkpoint; remove or rename %s to go on from an earlier one", path.text, folder);
    for (const Json *j = ok ? files->child : NULL; ok && j; j = j->next) {
        Path file = path_of("%s/%s", folder, j->key);
        uint64_t sum = 0, bytes = 0;
        ok = checkpoint_sum(&sum, &bytes, file.text, err);
        if (ok && bytes != (uint64_t)json_integer(json_get(j, "bytes"), -1))
            ok = error_set(err, "%s has %" PRIu64 " bytes, expected %lld: the checkpoint is damaged; remove or rename %s to go on from an earlier one", file.text,
                           bytes, (long long)json_integer(json_get(j, "bytes"), -1), folder);
        else if (ok && sum != checkpoint_hex(json_get(j, "xxh64")))
            ok = error_set(err, "%s does not match its checksum: the checkpoint is damaged; remove or rename %s to go on from an earlier one", file.text, folder);
    }
    json_free(&doc);
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
