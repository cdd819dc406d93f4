/*
checkpoint_writer.h: writes checkpoints (checkpoint.h) while training goes on (asynchronously), sharded over ranks.

    checkpoint_writer_open(&w, err)         on all ranks: who writes which file, and the memory for it
    checkpoint_start(&w, step, run, ...)    on all ranks: copies the numbers and begins to write
    checkpoint_under_way(&w, seconds)       on all ranks, while w.busy: false when it has ended
    checkpoint_finish(&w)                   w.ok, err, prune_err and seconds say on rank 0 what came of it

Weights and moments are spread over `files` pairs of files, whole tensors in the order of the parameter table, a
rank each, ranks far from each other so that nodes share the work. In the background a rank first copies the numbers
of its files to host memory (12 bytes a number, allocated once), then a thread writes the copy; there is one copy,
so the next checkpoint waits for the last one. A GPU that has all numbers of its files copies them while it computes the
next step, behind which the thread begins. Without the background the files are written from the
model, one after the other, and training waits.

Checksums are those of the bytes that were meant to be written, taken on their way to the disk.

Two stages: all files of numbers; then, once every rank has written its own, rank 0 writes the small ones, run.json
last, and renames the folder. With one file both are one piece of work of rank 0, and no other rank is asked.
*/
#ifndef LLMC_CHECKPOINT_WRITER_H
#define LLMC_CHECKPOINT_WRITER_H

#include "checkpoint.h"
#include "../ranks/dist.h"

// Above this a checkpoint is spread over more files (--checkpoint_files=0): host memory of a rank, bytes of a copy.
#define CHECKPOINT_FILE_BYTES 40e9

// What became of a rank's files.
typedef struct {
    bool ok;
    uint64_t bytes[CHECKPOINT_KINDS], sums[CHECKPOINT_KINDS];
    char text[512]; // the error, where not ok
} CheckpointPart;

typedef enum { CHECKPOINT_NUMBERS, CHECKPOINT_WHOLE } CheckpointStage;

typedef struct {
    // Set by the caller before checkpoint_writer_open; all else is zero then.
    const char *run_dir;
    CheckpointKeep keep;
    const Tokenizer *tokenizer;
    Model *model;
    const CheckpointTables *tables;
    const Config *config;
    const char *base; // of an adapter: the path under which its base was read
    const Dist *dist;
    int files;   // at most; 0: by size; of an adapter 1
    bool copies; // in the background

    int *first;            // (files + 1): file f holds parameters first[f] .. first[f + 1] - 1
    int file;              // this rank's, or -1
    float *copy;           // one array behind the other, each the numbers of this rank's file
    float *values;         // (DISK_PIECE): scratch of model_get on ranks that do not receive
    uint32_t mark;         // of this start: what another start of the run still writes has another folder
    CheckpointPart *parts; // (files) on rank 0

    // The write under way, or the one that ended and was not yet looked at.
    bool busy;
    bool copying; // the copy is being made beside the next step (model_copy), and no thread writes yet
    CheckpointStage stage;
    int64_t step;
    Str run;     // the lines of run.json that are the caller's
    int metrics; // file descriptor of metrics.jsonl
    bool made;   // the folder; on rank 0
    double began;
    pthread_t thread;
    bool threaded;
    pthread_mutex_t mutex; // guards done; what follows it belongs to the thread until done
    pthread_cond_t ended;
    bool done;
    CheckpointPart part;
    bool ok;
    Error err;
    Error prune_err; // the checkpoint is written, but old ones could not be removed; empty: they could
    double seconds;
} CheckpointWriter;

static inline Path checkpoint_temporary(const CheckpointWriter *w) {
    return path_of("%s/step_%08lld.%08x.tmp", w->run_dir, (long long)w->step, w->mark);
}

// The rank that writes a file.
static inline int checkpoint_rank(const CheckpointWriter *w, int file) {
    return (int)((int64_t)file * w->dist->size / w->files);
}

// The name of a file.
static inline Path checkpoint_file_of(const CheckpointWriter *w, int kind, int file) {
    if (w->config->lora.rank && kind == CHECKPOINT_MODEL) return path_of("%s", ADAPTER_WEIGHTS);
    return checkpoint_file(kind, file, w->files);
}

// Spreads the parameters over the files, as evenly as whole tensors allow, at least one in each.
static inline void checkpoint_spread(CheckpointWriter *w) {
    const ParamTable *t = &w->tables->array[0];
    double all = (double)t->parameters, before = 0;
    w->first = (int *)mem_alloc(sizeof(int) * (size_t)(w->files + 1));
    for (int i = 0, file = 0; i < t->count; before += (double)t->items[i++].count)
        if (file < w->files &&
            (before + (double)t->items[i].count / 2 >= all * file / w->files || t->count - i <= w->files - file))
            w->first[file++] = i;
    w->first[w->files] = t->count;
}

// Of a file's parameters in the first `arrays` arrays.
static inline size_t checkpoint_numbers(const CheckpointWriter *w, int file, int arrays) {
    size_t n = 0;
    for (int k = 0; k < arrays; k++)
        for (int i = w->first[file]; i < w->first[file + 1]; i++) n += w->tables->array[k].items[i].count;
    return n;
}

// Can all ranks that write do so, in the folder that rank 0 sees? Called by all ranks, before the first step.
static inline void checkpoint_probe(const CheckpointWriter *w) {
    Error err;
    if (w->files == 1) return;
    Path mine = path_of("%s/.writer-%d", w->run_dir, w->dist->rank);
    dist_agree(w->dist, w->file < 0 || file_write_all(mine.text, "", 0, &err), &err);
    bool ok = true;
    for (int file = 0; w->dist->rank == 0 && file < w->files; file++) {
        Path other = path_of("%s/.writer-%d", w->run_dir, checkpoint_rank(w, file));
        if (unlink(other.text) == 0 || !ok) continue;
        if (errno != ENOENT) ok = error_set(&err, "cannot remove %s: %s", other.text, strerror(errno));
        else
            ok = error_set(&err,
                           "what rank %d writes to %s is not there for rank 0: --out must be the same folder on all "
                           "hosts",
                           checkpoint_rank(w, file), w->run_dir);
    }
    dist_agree(w->dist, ok, &err);
}

// Over how many files a checkpoint is spread. asked: 0: as many as keep each below CHECKPOINT_FILE_BYTES.
static inline int checkpoint_files(const CheckpointTables *t, int asked, int ranks) {
    int files = asked ? asked : (int)ceil(checkpoint_bytes(t) / CHECKPOINT_FILE_BYTES);
    return (int)int64_min(int64_min(files, ranks), t->array[0].count);
}

// In the background, the memory for the copy is taken now, so that a lack of it shows before the first step.
static inline bool checkpoint_writer_open(CheckpointWriter *w, Error *err) {
    const Dist *dist = w->dist;
    w->files = checkpoint_files(w->tables, w->config->lora.rank ? 1 : w->files, dist->size);
    checkpoint_spread(w);
    w->file = -1;
    for (int f = 0; f < w->files; f++)
        if (checkpoint_rank(w, f) == dist->rank) w->file = f;
    if (dist->rank == 0) w->parts = (CheckpointPart *)mem_alloc(sizeof(CheckpointPart) * (size_t)w->files);
    pthread_mutex_init(&w->mutex, NULL);
    clock_condition(&w->ended);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    w->mark = (uint32_t)now.tv_nsec ^ (uint32_t)now.tv_sec ^ (uint32_t)getpid() << 16;
    dist_broadcast(dist, &w->mark, sizeof w->mark);
    if (!w->copies) return true;
    if (dist->rank > 0 || w->files > 1) w->values = (float *)mem_alloc(sizeof(float) * DISK_PIECE);
    if (w->file < 0) return true;
    size_t bytes = sizeof(float) * checkpoint_numbers(w, w->file, CHECKPOINT_ARRAYS);
    w->copy = (float *)engine_host_alloc(bytes);
    return w->copy ? true
                   : error_set(err,
                               "out of memory: checkpoints in the background need %.2f GiB of host memory; try more "
                               "--checkpoint_files, or --background_checkpoints=off",
                               (double)bytes / (1024.0 * 1024.0 * 1024.0));
}

static inline void checkpoint_writer_close(CheckpointWriter *w) {
    if (w->copy) engine_host_free(w->copy);
    free(w->values);
    free(w->first);
    free(w->parts);
    free(w->run.data);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->ended);
    memset(w, 0, sizeof *w);
}

// ---------------------------------------------------------------- the numbers

// Copies weights and moments to the ranks that write them. Called by all ranks.
static inline void checkpoint_copy(CheckpointWriter *w) {
    float *to = w->copy;
    bool beside = model_copy(w->model, true); // on all ranks, so that they make the next step in the same way
    for (int k = 0; k < CHECKPOINT_ARRAYS; k++)
        for (int file = 0; file < w->files; file++)
            for (int i = w->first[file]; i < w->first[file + 1]; i++) {
                const Param *p = &w->tables->array[k].items[i];
                for (size_t at = 0; at < p->count; at += DISK_PIECE) {
                    Param piece = param_piece(p, at, p->count - at < DISK_PIECE ? p->count - at : DISK_PIECE);
                    model_get(w->model, checkpoint_arrays[k].array, &piece, file == w->file ? to : w->values,
                              checkpoint_rank(w, file));
                    if (file == w->file) to += piece.count;
                }
            }
    if (beside) model_copy(w->model, false);
    w->copying = beside && w->file >= 0;
}

// Writes a file of a kind, from the copy or from the model. From the model all ranks call this, and those that do not
// write only hand over.
static inline void checkpoint_write_numbers(CheckpointWriter *w, int file, int kind) {
    SafeWriter s;
    Path path = path_of("%.3000s/%.100s", checkpoint_temporary(w).text, checkpoint_file_of(w, kind, file).text);
    int first = w->first[file], last = w->first[file + 1], from = checkpoint_first[kind],
        to = checkpoint_first[kind + 1];
    CheckpointPart *part = &w->part;
    Error err;
    bool mine = file == w->file, ok = mine && part->ok && safewriter_open(&s, path.text, &err);
    if (ok) s.summed = true;
    for (int k = from; ok && k < to; k++)
        disk_declare(&s, &w->tables->array[k], first, last, w->config, checkpoint_arrays[k].prefix);
    if (ok) safewriter_begin_data(&s);
    if (w->copies && ok) {
        size_t most, most_turned;
        disk_sizes(&most, &most_turned, &w->tables->array[0], w->config);
        float *turned = (float *)mem_alloc(sizeof(float) * most_turned);
        const float *values = w->copy + checkpoint_numbers(w, file, from);
        for (int k = from; k < to; k++)
            for (int i = first; i < last; values += w->tables->array[k].items[i++].count)
                disk_write_one(&s, &w->tables->array[k].items[i], w->config, values, turned);
        free(turned);
    }
    for (int k = from; !w->copies && k < to; k++)
        disk_write(ok ? &s : NULL, w->model, checkpoint_arrays[k].array, &w->tables->array[k], first, last, w->config,
                   checkpoint_rank(w, file));
    if (!mine || !part->ok) return;
    if (ok) part->bytes[kind] = s.sum.bytes, part->sums[kind] = xxh64_value(&s.sum);
    part->ok = ok && safewriter_commit(&s, &err);
    if (!part->ok) snprintf(part->text, sizeof part->text, "%.500s", err.text);
}

// ---------------------------------------------------------------- the folder

// The index of the files of weights or moments, as Transformers writes it. There is one even of a single file of
// weights: vLLM would else take all *.safetensors of the folder for weights.
static inline bool checkpoint_write_index(const CheckpointWriter *w, const char *folder, int kind, FileSums *sums,
                                          Error *err) {
    int from = checkpoint_first[kind], to = checkpoint_first[kind + 1];
    size_t parameters = 0;
    Str s;
    memset(&s, 0, sizeof s);
    for (int k = from; k < to; k++) parameters += w->tables->array[k].parameters;
    str_printf(&s, "{\n  \"metadata\": {\"total_size\": %zu},\n  \"weight_map\": {", sizeof(float) * parameters);
    const char *comma = "";
    for (int k = from; k < to; k++)
        for (int file = 0; file < w->files; file++)
            for (int i = w->first[file]; i < w->first[file + 1]; i++) {
                const Param *p = &w->tables->array[k].items[i];
                const NameRow *names = folder_names(p, w->config);
                Path name = checkpoint_file(kind, file, w->files);
                for (int j = 0; p->count && j < disk_count(names, w->config); j++, comma = ",")
                    str_printf(&s, "%s\n    \"%s%s\": \"%s\"", comma, checkpoint_arrays[k].prefix,
                               disk_part(names, p, w->config, j).name, name.text);
            }
    str_puts(&s, "\n  }\n}\n");
    Path path = path_of("%s/%s.safetensors.index.json", folder, kind == CHECKPOINT_OPTIMIZER ? "optimizer" : "model");
    bool ok = file_write_summed(sums, path.text, s.data, s.size, err);
    free(s.data);
    return ok;
}

// The files of a folder and of folders in it (chat templates), by their paths from there.
static inline bool checkpoint_walk(StrList *files, const char *folder, Error *err) {
    StrList names;
    memset(&names, 0, sizeof names);
    bool ok = folder_list(&names, folder, err);
    for (int i = 0; ok && i < names.count; i++) {
        Path path = path_of("%.3000s/%.1000s", folder, names.items[i]);
        FileKind kind;
        ok = path_look(path.text, &kind, err);
        if (ok && kind != FILE_FOLDER) str_list_add(files, names.items[i]);
        if (!ok || kind != FILE_FOLDER) continue;
        StrList inner;
        memset(&inner, 0, sizeof inner);
        ok = folder_list(&inner, path.text, err);
        for (int k = 0; ok && k < inner.count; k++)
            str_list_add(files, path_of("%.1000s/%.1000s", names.items[i], inner.items[k]).text);
        str_list_free(&inner);
    }
    str_list_free(&names);
    return ok;
}

// run.json: sums of all files that the folder holds. What nobody noted when it was written is read.
static inline bool checkpoint_write_run(const CheckpointWriter *w, const char *folder, const FileSums *sums,
                                        Error *err) {
    Str s;
    StrList names;
    memset(&s, 0, sizeof s);
    memset(&names, 0, sizeof names);
    str_printf(&s, RUN_FORMAT_2 "  \"program\": \"%s\",\n%s  \"files\": {", engine_name(), w->run.data);
    bool ok = checkpoint_walk(&names, folder, err);
    for (int i = 0, k; ok && i < names.count; i++) {
        const char *name = names.items[i];
        uint64_t sum = 0;
        int64_t bytes = 0;
        for (k = sums->names.count - 1; k >= 0 && strcmp(sums->names.items[k], name) != 0; k--) {}
        if (k >= 0) sum = sums->items[k].sum, bytes = (int64_t)sums->items[k].bytes;
        else ok = file_sum(&sum, &bytes, path_of("%s/%s", folder, name).text, -1, err);
        str_puts(&s, i ? ",\n    " : "\n    ");
        json_escape(&s, name, strlen(name));
        str_printf(&s, ": {\"bytes\": %" PRId64 ", \"xxh64\": \"%016" PRIx64 "\"}", bytes, sum);
    }
    str_puts(&s, "\n  },");
    run_record_seal(&s);
    Path run = path_of("%s/run.json", folder);
    ok = ok && file_write_all(run.text, s.data, s.size, err);
    free(s.data);
    str_list_free(&names);
    return ok;
}

// Are the files of numbers where rank 0 sees them, in their sizes? Notes their sums.
static inline bool checkpoint_gathered(const CheckpointWriter *w, const char *folder, FileSums *sums, Error *err) {
    for (int file = 0; file < w->files; file++) {
        const CheckpointPart *part = &w->parts[file];
        int rank = checkpoint_rank(w, file);
        if (!part->ok && rank) return error_set(err, "rank %d: %s", rank, part->text);
        if (!part->ok) return error_set(err, "%s", part->text);
        for (int kind = 0; kind < CHECKPOINT_KINDS; kind++) {
            Path name = checkpoint_file_of(w, kind, file), path = path_of("%.3000s/%.100s", folder, name.text);
            struct stat st;
            Error why;
            int fd = file_open(path.text, &st, &why);
            if (fd >= 0) close(fd);
            if (fd < 0 || (uint64_t)st.st_size != part->bytes[kind])
                return error_set(err,
                                 "%.700s, which rank %d wrote, is not there for rank 0%s%.200s: --out must be the same "
                                 "folder on all hosts",
                                 path.text, rank, fd < 0 ? ": " : "", fd < 0 ? why.text : "");
            file_sums_add(sums, name.text, part->bytes[kind], part->sums[kind]);
        }
    }
    return true;
}

// On rank 0, when the numbers are written: everything else, and the folder's name. Nothing is left of one that fails.
static inline void checkpoint_complete(CheckpointWriter *w) {
    const Config *c = w->config;
    Error *err = &w->err;
    Path final = checkpoint_folder(w->run_dir, w->step), temporary = checkpoint_temporary(w);
    const char *folder = temporary.text;
    FileSums sums;
    memset(&sums, 0, sizeof sums);
    bool ok = w->made && checkpoint_gathered(w, folder, &sums, err); // where it was not made, err says why not
    bool adapter = c->lora.rank > 0;
    ok = ok &&
         (adapter ? adapter_write_config(folder, c, w->base, &sums, err)
                  : folder_write_config(folder, c, w->tokenizer, &sums, err)) &&
         tokenizer_write_folder(w->tokenizer, folder, c->max_seq_len, &sums, err);
    ok = ok && (adapter || checkpoint_write_index(w, folder, CHECKPOINT_MODEL, &sums, err)) &&
         (w->files == 1 || checkpoint_write_index(w, folder, CHECKPOINT_OPTIMIZER, &sums, err));
    ok = ok && checkpoint_write_run(w, folder, &sums, err) && path_sync_folder(folder, err);
    if (ok && rename(folder, final.text) != 0) { // somebody may have put something there
        bool taken = errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR;
        ok = taken ? checkpoint_remove(w->run_dir, w->step, err) : true;
        if (ok && (!taken || rename(folder, final.text) != 0))
            ok = error_set(err, "cannot rename %s: %s", folder, strerror(errno));
    }
    if (!ok) path_remove_tree(folder, NULL);
    ok = ok && path_sync_folder(w->run_dir, err);
    if (ok) checkpoint_prune(w->run_dir, &w->keep, &w->prune_err);
    file_sums_free(&sums);
    w->ok = ok;
    w->seconds = clock_seconds() - w->began;
}

// ---------------------------------------------------------------- the write

static inline void *checkpoint_thread(void *argument) {
    CheckpointWriter *w = (CheckpointWriter *)argument;
    if (w->stage == CHECKPOINT_NUMBERS) {
        // Metrics of these steps are on disk before the weights are: what is cut off on resuming is there.
        if (w->metrics > 0 && fsync(w->metrics) != 0 && errno != EINVAL && w->part.ok) {
            w->part.ok = false;
            snprintf(w->part.text, sizeof w->part.text, "cannot sync metrics.jsonl: %s", strerror(errno));
        }
        for (int file = 0; file < w->files; file++) {
            if (w->copies && file != w->file) continue;
            for (int kind = 0; kind < CHECKPOINT_KINDS; kind++) checkpoint_write_numbers(w, file, kind);
        }
    }
    if (w->files == 1 && w->dist->rank == 0) w->parts[0] = w->part;
    if (w->dist->rank == 0 && (w->files == 1 || w->stage == CHECKPOINT_WHOLE)) checkpoint_complete(w);
    pthread_mutex_lock(&w->mutex);
    w->done = true;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

// Does this stage's work: in the background, or before it returns.
static inline void checkpoint_run(CheckpointWriter *w, CheckpointStage stage) {
    bool work = stage == CHECKPOINT_WHOLE ? w->dist->rank == 0 : w->file >= 0 || !w->copies;
    w->stage = stage;
    w->done = !work;
    int why = work && w->copies ? pthread_create(&w->thread, NULL, checkpoint_thread, w) : 0;
    w->threaded = work && w->copies && why == 0;
    if (why && stage == CHECKPOINT_NUMBERS &&
        w->dist->size > 1) { // the others would wait, and their watchdogs end the job
        w->part.ok = false;
        snprintf(w->part.text, sizeof w->part.text, "cannot start a thread: %s", strerror(why));
    }
    if (work && !w->threaded) checkpoint_thread(w);
}

// Writes a checkpoint of the model as it is now. Called by all ranks; no write is under way. run: lines of run.json,
// which end in a comma. metrics: the file descriptor of metrics.jsonl, 0 for none.
static inline void checkpoint_start(CheckpointWriter *w, int64_t step, const char *run, int metrics) {
    w->began = clock_seconds();
    w->step = step;
    w->run.size = 0;
    str_puts(&w->run, run);
    w->metrics = metrics;
    w->err.text[0] = w->prune_err.text[0] = 0;
    w->ok = false;
    w->made = true;
    if (w->dist->rank == 0) {
        Path temporary = checkpoint_temporary(w);
        w->made = path_remove_tree(temporary.text, &w->err) && path_make_folder(temporary.text, &w->err);
    }
    memset(&w->part, 0, sizeof w->part);
    w->part.ok = !dist_max(w->dist, !w->made);
    if (w->copies) checkpoint_copy(w);
    w->busy = w->files > 1 || w->file >= 0;
    w->done = false;
    if (!w->copying) checkpoint_run(w, CHECKPOINT_NUMBERS);
}

// Between steps, while a write is under way: begins to write a copy that is being made, once it is there.
static inline void checkpoint_copied(CheckpointWriter *w) {
    if (!w->copying) return;
    model_copied(w->model);
    w->copying = false;
    checkpoint_run(w, CHECKPOINT_NUMBERS);
}

// Has this rank's work ended? Waits for it up to `seconds`.
static inline bool checkpoint_ended(CheckpointWriter *w, double seconds) {
    struct timespec until = clock_deadline(seconds);
    pthread_mutex_lock(&w->mutex);
    while (!w->done && seconds > 0 && pthread_cond_timedwait(&w->ended, &w->mutex, &until) == 0) {}
    bool done = w->done;
    pthread_mutex_unlock(&w->mutex);
    return done;
}

static inline void checkpoint_join(CheckpointWriter *w) {
    if (w->threaded) pthread_join(w->thread, NULL);
    w->threaded = false;
}

// Is the write that checkpoint_start began still going on? Waits for a stage's end up to `seconds`. With several files
// all ranks call this together, and get the same answer.
static inline bool checkpoint_under_way(CheckpointWriter *w, double seconds) {
    checkpoint_copied(w);
    bool ended = checkpoint_ended(w, seconds);
    if (w->files == 1) return !ended;
    if (dist_max(w->dist, !ended)) return true;
    if (w->stage == CHECKPOINT_WHOLE) return false;
    checkpoint_join(w);
    CheckpointPart *all = (CheckpointPart *)mem_alloc(sizeof(CheckpointPart) * (size_t)w->dist->size);
    dist_gather(w->dist, all, &w->part, sizeof w->part);
    for (int file = 0; w->dist->rank == 0 && file < w->files; file++) {
        w->parts[file] = all[checkpoint_rank(w, file)];
        dist_text(w->parts[file].text, sizeof w->parts[file].text);
    }
    free(all);
    checkpoint_run(w, CHECKPOINT_WHOLE);
    return true;
}

// After checkpoint_under_way() was false: the copy is free again.
static inline void checkpoint_finish(CheckpointWriter *w) {
    checkpoint_join(w);
    w->busy = false;
}

#endif
