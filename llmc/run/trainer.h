/*
trainer.h: the training loop. It knows no arithmetic of the model: that is behind engine.h.

    prepare: tokenizer, data, config, run folder, weights (new, from a folder, or from a checkpoint)
    step:    micro-batches forward and backward; update; metrics; now and then validate, sample, checkpoint
    stop:    done (exit 0); a signal, the time limit or the file RUN_DIR/stop (a checkpoint, exit 3); a number
             that is not finite, a last checkpoint that cannot be written (exit 1)

What a step reads is a function of the step and the options alone, so a run that was killed and
resumed gives the same bits as one that was not, on the same number of ranks.

SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 are blocked and asked for between steps: no handler, no global
state, and never a half-made step. All ranks agree on stopping in the same step. RUN_DIR/stop is removed
when the run has stopped for it, so that the next job of a chain goes on.

Checkpoints are written in the background. A write that fails is reported and tried again when the next
one is due; only the last one of a run, at its end or at a stop, is waited for and must succeed.

Spikes (spikes.h): a skipped step counts as a step and its data as seen, but neither weights nor moments
nor Adam's count of steps take notice. A rollback goes to the last checkpoint that --checkpoint_every made
(without one the step is skipped); the data go on behind the step that was the spike, so that none of
what led to it is seen again, and the metrics of the steps that were undone are taken out. Both are a
function of checkpoint and data, so a resumed run takes the same way.
*/
#ifndef LLMC_TRAINER_H
#define LLMC_TRAINER_H

#include "../files/checkpoint_writer.h"
#include "../text/data.h"
#include "evaluate.h"
#include "generate.h"
#include "log.h"
#include "preflight.h"
#include "schedule.h"
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

enum { EXIT_DONE = 0, EXIT_STOPPED = 3 };
// Why a run stops early: the number of a signal, or one of these. The largest of any rank counts.
enum { STOP_TIME = 1000, STOP_FILE };

// A spike as the metrics tell it, in the line of the step that came of it.
typedef struct {
    const char *action;                     // NULL: there was none
    int64_t step;                           // that was the spike; after a rollback not that of the line
    double loss, grad_norm, z_loss, z_norm; // z NAN: the window was not full
} SpikeEvent;

typedef struct {
    const Options *o;
    Dist *dist;
    Log log;
    Tokenizer tokenizer;
    Dataset train, val;
    Config config;
    ParamTable table;
    Model *model;
    Schedule schedule;
    RunState state;
    int lock; // file descriptor that holds the run folder's lock
    Watchdog watchdog;
    CheckpointWriter writer;
    SpikeBounds bounds; // of the step under way
    SpikeEvent event;   // for the next line of metrics
    bool finished;      // before it began: all steps are in the checkpoint

    int B, T;
    int64_t step_tokens;                // in one update, over all ranks
    int micro_batches;                  // passes a step on each rank
    int32_t *inputs, *targets;          // (B, T) each
    double flops_per_token, peak_flops; // peak: over all ranks; 0: not known
    double val_loss, val_bits;          // the newest, for the progress line; NAN: none yet
    double started, step_seconds;       // step_seconds: smoothed
    double looked;                      // when rank 0 last looked for the stop file
    int checkpoints;                    // begun, and how long training stood still for them, seconds
    double stalled;
} Trainer;

// ---------------------------------------------------------------- preparing

// The config of --model: a preset in the tokenizer's vocabulary, or a folder's own.
static inline bool trainer_config(Config *c, const Options *o, const Tokenizer *tok, Error *err) {
    int T = (int)o->seq_len;
    if (!path_is_folder(o->model)) {
        if (!config_of_preset(c, o->model, err)) {
            if (strchr(o->model, '/')) return error_set(err, "--model=%s: no such folder", o->model);
            return false;
        }
        c->vocab_size = tok->vocab_size;
        c->max_seq_len = T;
        return config_check(c, err);
    }
    if (!folder_read_config(c, o->model, err)) return false;
    if (c->vocab_size < tok->vocab_size)
        return error_set(err, "the tokenizer %s has %d tokens, the model %s only %d: use the model's own tokenizer",
                         o->tokenizer, tok->vocab_size, o->model, c->vocab_size);
    if (T > c->max_seq_len) {
        if (!c->rope)
            return error_set(err, "--seq_len=%d is longer than the %d learned positions of %s", T, c->max_seq_len,
                             o->model);
        c->max_seq_len = T; // rotary positions have no table to outgrow
    }
    return true;
}

static inline bool trainer_check_data(const Dataset *d, const char *option, const char *files, const Trainer *t,
                                      Error *err) {
    if (d->tokenizer_hash && d->tokenizer_hash != t->tokenizer.hash)
        return error_set(err, "--%s=%s was tokenised with another tokenizer than %s: run tokenize again with this one",
                         option, files, t->o->tokenizer);
    if (d->vocab_size > t->config.vocab_size)
        return error_set(err, "--%s=%s has a vocabulary of %lld, the model of %d", option, files,
                         (long long)d->vocab_size, t->config.vocab_size);
    return true;
}

// Finds the newest checkpoint of the run folder, and refuses a folder that holds another run.
// *folder is empty when there is none. On rank 0.
static inline bool trainer_find_checkpoint(Trainer *t, Path *folder, Error *err) {
    const Options *o = t->o;
    int64_t *steps, newest = -1;
    int n = checkpoint_list(&steps, o->out);
    if (n) newest = steps[n - 1];
    free(steps);
    folder->text[0] = 0;
    Path metrics = path_of("%s/metrics.jsonl", o->out);
    if (o->resume == RESUME_NO && (n || path_exists(metrics.text)))
        return error_set(err, "%s holds another run; go on with it by --resume=auto, or choose another --out", o->out);
    if (!n) return true;
    *folder = checkpoint_folder(o->out, newest);
    RunState s;
    if (!checkpoint_read(&s, folder->text, err)) return false;
    const char *other = NULL;
    if (s.seed != o->seed) other = "--seed";
    else if (s.seq_len != o->seq_len) other = "--seq_len";
    else if (s.data != t->train.fingerprint) other = "training data";
    if (other)
        return error_set(err,
                         "%s belongs to a run with another %s; a run resumes only as what it was: choose another --out",
                         folder->text, other);
    Config c;
    if (!folder_read_config(&c, folder->text, err)) return false;
    const char *field = config_difference(&c, &t->config);
    if (field)
        return error_set(err, "%s holds another model than --model=%s; choose another --out (%s differs)", folder->text,
                         o->model, field);
    t->state = s;
    return true;
}

static inline void trainer_load(Trainer *t, const char *checkpoint) {
    const Options *o = t->o;
    Error err;
    if (*checkpoint) {
        dist_agree(t->dist,
                   folder_load_weights(t->model, &t->table, &t->config, checkpoint, &err) &&
                       checkpoint_load_moments(t->model, &t->table, &t->config, checkpoint, &err),
                   &err);
        log_line(&t->log, "resumed from %s", checkpoint);
    } else if (path_is_folder(o->model) && folder_has_weights(o->model)) {
        dist_agree(t->dist, folder_load_weights(t->model, &t->table, &t->config, o->model, &err), &err);
        log_line(&t->log, "weights from %s", o->model);
    } else {
        model_init_weights(t->model, &t->table, &t->config, (uint64_t)o->seed);
        log_line(&t->log, "new weights from seed %lld", (long long)o->seed);
    }
}

static inline void trainer_log_data(Trainer *t, const char *what, const Dataset *d) {
    log_line(&t->log, "%s: %lld tokens, %lld documents, %lld bytes of text, %lld sequences in %d shard%s", what,
             (long long)d->tokens, (long long)d->documents, (long long)d->bytes, (long long)d->sequences, d->count,
             d->count == 1 ? "" : "s");
    for (int i = 0; i < d->count; i++)
        log_line(&t->log, "  %s  %lld tokens  xxh64 %016" PRIx64, d->shards[i].path,
                 (long long)d->shards[i].header.tokens, d->shards[i].header.checksum);
}

// Everything that a reader of run.log needs to make the run again.
static inline void trainer_log_run(Trainer *t) {
    const Options *o = t->o;
    Log *log = &t->log;
    Str s;
    memset(&s, 0, sizeof s);
    options_json(&s, o);
    log_line(log, "%s, commit %s, compiler %s", engine_name(), GIT_COMMIT, __VERSION__);
    log_line(log, "options: {%s\n}", s.data);
    free(s.data);
    log_line(log, "device: %s; %d rank%s", model_device(t->model), t->dist->size, t->dist->size == 1 ? "" : "s");
    const Config *c = &t->config;
    log_line(log, "model: %s, %.2fM parameters, %s", family_name(c->family), (double)t->table.parameters / 1e6,
             config_words(c).text);
    for (int i = 0; i < t->table.count; i++) {
        const Param *p = &t->table.items[i];
        char shape[32];
        snprintf(shape, sizeof shape, p->is_vector ? "(%d)" : "(%d, %d)", p->rows, p->cols);
        if (log->file) // to run.log alone: it is long
            fprintf(log->file, "  %-22s %-16s %s\n", p->name, shape, p->group == GROUP_VECTOR ? "" : "decay");
    }
    Error err;
    char hex[65];
    if (sha256_file(hex, o->tokenizer, &err))
        log_line(log, "tokenizer: %s  %d tokens  sha256 %s", o->tokenizer, t->tokenizer.vocab_size, hex);
    trainer_log_data(t, "training data", &t->train);
    trainer_log_data(t, "validation data", &t->val);
    int64_t sequences = o->steps * (t->step_tokens / t->T);
    log_line(log,
             "%lld steps of %lld tokens (%d x %d x %d x %d micro-batches): %.2fM tokens, %.2f epochs over the training "
             "data",
             (long long)o->steps, (long long)t->step_tokens, t->dist->size, t->B, t->T, t->micro_batches,
             (double)o->steps * (double)t->step_tokens / 1e6, (double)sequences / (double)t->train.sequences);
    log_line(log, "FLOPs a token: %.3e = %s; peak %.1f GFLOP/s", t->flops_per_token, FLOPS_FORMULA,
             t->peak_flops / 1e9);
    if (log->file) {
        schedule_print(stdout, &t->schedule);
        schedule_print(log->file, &t->schedule);
    }
}

// Lines that must be the same on every rank: what is trained on what. The lines of the data go without
// folders, which may be mounted elsewhere.
static inline void trainer_describe(Str *s, const Trainer *t) {
    const Dataset *both[2] = {&t->train, &t->val};
    str_printf(s, "the tokenizer %s of hash %016" PRIx64 "\n", t->o->tokenizer, t->tokenizer.hash);
    str_printf(s, "the model %s: ", t->o->model);
    config_describe(s, &t->config);
    str_puts(s, "\n");
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < both[k]->count; i++) {
            const Shard *d = &both[k]->shards[i];
            const char *slash = strrchr(d->path, '/');
            str_printf(s, "the shard %s of %zu bytes, %lld tokens, checksum %016" PRIx64 "\n",
                       slash ? slash + 1 : d->path, d->file.size, (long long)d->header.tokens, d->header.checksum);
        }
}

// Tokenizer, data, config, and whether they fit together.
static inline bool trainer_open_files(Trainer *t, Error *err) {
    const Options *o = t->o;
    if (!tokenizer_load(&t->tokenizer, o->tokenizer, err) || !trainer_config(&t->config, o, &t->tokenizer, err) ||
        !dataset_open(&t->train, o->train_data, t->T, err) || !dataset_open(&t->val, o->val_data, t->T, err) ||
        !trainer_check_data(&t->train, "train_data", o->train_data, t, err) ||
        !trainer_check_data(&t->val, "val_data", o->val_data, t, err))
        return false;
    t->train.vocab_size = t->val.vocab_size = t->config.vocab_size;
    int64_t pass = (int64_t)t->B * t->T * t->dist->size;
    t->step_tokens = o->total_batch_tokens ? o->total_batch_tokens : pass;
    if (t->step_tokens % pass)
        return error_set(err,
                         "--total_batch_tokens=%lld is not a multiple of batch_size x seq_len x ranks = %d x %d x %d = "
                         "%lld; take %lld or another batch size",
                         (long long)t->step_tokens, t->B, t->T, t->dist->size, (long long)pass,
                         (long long)((t->step_tokens / pass + 1) * pass));
    t->micro_batches = (int)(t->step_tokens / pass);
    return true;
}

// The run folder: one writer at a time; the lock goes away with the process, however it ends. On rank 0.
static inline bool trainer_lock(Trainer *t, Error *err) {
    const Options *o = t->o;
    if (!path_make_folder(o->out, err)) return false;
    Path lock = path_of("%s/.lock", o->out);
    t->lock = open(lock.text, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (t->lock < 0) return error_set(err, "cannot write into %s: %s", o->out, strerror(errno));
    if (flock(t->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return error_set(err, "another process is training in %s", o->out);
    return checkpoint_sweep(o->out, err);
}

// Everything that can be known to fail before memory is taken (preflight.h). *checkpoint: where to go on, or empty.
static inline void trainer_preflight(Trainer *t, Path *checkpoint) {
    const Options *o = t->o;
    Dist *dist = t->dist;
    Error err;
    dist_agree(dist, preflight_ranks(o, dist, &err), &err);
    dist_agree(dist, trainer_open_files(t, &err), &err);
    Str s;
    memset(&s, 0, sizeof s);
    trainer_describe(&s, t);
    dist_agree(dist, preflight_same(dist, "what is read is", s.data, &err), &err);
    free(s.data);
    t->table = param_table(&t->config);
    t->state.seed = o->seed;
    t->state.seq_len = o->seq_len;
    t->state.data = t->train.fingerprint;
    bool ok = dist->rank > 0 || (trainer_lock(t, &err) && trainer_find_checkpoint(t, checkpoint, &err));
    t->finished = t->state.step >= o->steps;
    ok = ok && (dist->rank > 0 || t->finished || preflight_disk(o, &t->table, t->state.step, &err));
    dist_agree(dist, ok, &err);
    // What rank 0 found counts: a shared file system may show others less for a moment.
    dist_broadcast(dist, &t->state, sizeof t->state);
    dist_broadcast(dist, checkpoint, sizeof *checkpoint);
    t->finished = t->state.step >= o->steps;
    if (!t->finished && checkpoint->text[0])
        dist_agree(dist, checkpoint_verify(checkpoint->text, dist->rank, dist->size, &err), &err);
    if (!t->finished) dist_agree(dist, engine_preflight(dist, &err), &err);
}

static inline void trainer_prepare(Trainer *t, const Options *o, Dist *dist) {
    memset(t, 0, sizeof *t);
    Error err;
    t->o = o;
    t->dist = dist;
    t->started = clock_seconds();
    t->B = (int)o->batch_size;
    t->T = (int)o->seq_len;
    t->val_loss = t->val_bits = (double)NAN;
    t->schedule = schedule_of_options(o);
    watchdog_open(&t->watchdog, o->comm_timeout, dist->rank, dist->host);
    dist->watchdog = &t->watchdog;
    Path metrics = path_of("%s/metrics.jsonl", o->out), log_path = path_of("%s/run.log", o->out), checkpoint;
    memset(&checkpoint, 0, sizeof checkpoint);
    trainer_preflight(t, &checkpoint);
    double checked = clock_seconds() - t->started;
    if (t->finished) {
        if (dist->rank == 0) printf("finished: %s has all %lld steps\n", checkpoint.text, (long long)o->steps);
        return;
    }

    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.config = t->config;
    setup.batch_size = t->B;
    setup.seq_len = t->T;
    setup.recompute = o->recompute == RECOMPUTE_AUTO ? RECOMPUTE_CHEAP : o->recompute;
    setup.precision = o->precision;
    setup.no_master = o->master_weights == MASTER_NONE;
    setup.zero = (int)o->zero;
    setup.zero_group = (int)o->zero_group;
    setup.threads = (int)o->threads;
    setup.gradients = true;
    setup.dist = dist;
    t->model = model_create(&setup, &err);
    dist_agree(dist, t->model != NULL, &err);
    bool background =
        o->background_checkpoints && (dist->size > 1 || (o->checkpoint_every > 0 && o->checkpoint_every < o->steps));
    dist_agree(dist,
               checkpoint_writer_open(&t->writer, o->out, o, t->model, &t->table, &t->config, &t->tokenizer, dist,
                                      background, &err),
               &err);
    checkpoint_probe(&t->writer);
    t->inputs = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)t->B * (size_t)t->T);
    t->targets = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)t->B * (size_t)t->T);
    t->flops_per_token = config_flops_per_token(&t->config, t->T);
    t->peak_flops = model_peak_flops(t->model) * dist->size;
    bool ok = true;
    if (dist->rank == 0) {
        t->log.file = fopen(log_path.text, *checkpoint.text ? "a" : "w");
        ok = t->log.file ? log_open_metrics(&t->log, metrics.text, t->state.step, &err)
                         : error_set(&err, "cannot write %s: %s", log_path.text, strerror(errno));
        t->log.terminal = isatty(STDOUT_FILENO);
        t->log.progress = o->progress;
    }
    dist_agree(dist, ok, &err);
    if (dist->rank == 0) {
        trainer_log_run(t);
        log_line(&t->log, "checks before the start: %d rank%s, program, options, files, disk and devices, %.2f s",
                 dist->size, dist->size == 1 ? "" : "s", checked);
    }
    trainer_load(t, checkpoint.text);
}

// ---------------------------------------------------------------- one step

// Forward and backward over the step's sequences, then the update. The gradient is that of the mean
// loss over all tokens of the step, on all ranks.
static inline UpdateResult trainer_step(Trainer *t) {
    const Options *o = t->o;
    Error err;
    for (int micro = 0; micro < t->micro_batches; micro++) {
        int64_t first = t->state.position + ((int64_t)micro * t->dist->size + t->dist->rank) * t->B;
        for (int b = 0; b < t->B; b++) {
            int64_t index = dataset_index(&t->train, (uint64_t)o->seed, first + b);
            if (!dataset_sequence(&t->train, index, t->inputs + (size_t)b * (size_t)t->T,
                                  t->targets + (size_t)b * (size_t)t->T, &err))
                dist_fail(t->dist, "%s", err.text);
        }
        model_forward(t->model, t->inputs, t->targets, t->B, t->T, 1.0 / (double)t->step_tokens, NULL);
        model_backward(t->model, micro == t->micro_batches - 1);
    }
    GroupRule adam = {schedule_lr(&t->schedule, t->state.step + 1), o->beta1, o->beta2, o->adam_eps, o->weight_decay};
    UpdateRule rule = update_rule(t->state.step + 1 - t->state.skipped, adam, o->grad_clip);
    t->bounds = spike_bounds(&t->state.window, o);
    rule.max_loss = o->spike_action == SPIKE_NONE ? 0 : t->bounds.max_loss * (double)t->step_tokens;
    rule.max_norm = o->spike_action == SPIKE_NONE ? 0 : t->bounds.max_norm;
    UpdateResult r = model_update(t->model, &rule);
    r.loss /= (double)t->step_tokens;
    return r;
}

static inline bool all_finite(const float *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

// Names the first tensor, in the order of computation, that holds a NaN or an infinity on any rank:
// activations of the last micro-batch forwards, then gradients backwards. Called by all ranks. name: 64 bytes.
static inline void trainer_find_nonfinite(Trainer *t, char *name) {
    size_t rows = (size_t)t->B * (size_t)t->T, most = 0;
    ActTable acts = act_table(&t->config, t->B, t->T, RECOMPUTE_NONE, 1, 1);
    for (int k = 0; k < ACT_KINDS; k++)
        if (rows * (size_t)acts.items[k].width > most) most = rows * (size_t)acts.items[k].width;
    for (int i = 0; i < t->table.count; i++)
        if (t->table.items[i].count > most) most = t->table.items[i].count;
    float *values = (float *)mem_alloc(sizeof(float) * most);
    // Tensors are numbered in that order; the lowest number of any rank is found as the largest below `end`.
    int number = 0, found = 0;
    const int end = 1 << 30;
    for (int place = PLACE_START; place <= PLACE_END; place++)
        for (int l = 0; l < (place == PLACE_LAYER ? t->config.layers : 1); l++)
            for (int k = 0; k < ACT_KINDS; k++, number++) {
                const Act *a = &acts.items[k];
                if (found || a->place != place || !a->present || !model_get_activation(t->model, k, l, values))
                    continue;
                if (!all_finite(values, rows * (size_t)a->width)) found = end - number;
            }
    const int gradients = number;
    for (int i = t->table.count - 1; i >= 0; i--, number++) {
        const Param *p = &t->table.items[i];
        model_get(t->model, MODEL_GRADIENT, p, values, t->dist->rank); // on all ranks: some engines spread them
        if (!found && !all_finite(values, p->count)) found = end - number;
    }
    free(values);
    found = dist_max(t->dist, found);
    number = end - found;
    snprintf(name, 64, "no single tensor");
    if (!found) return;
    if (number >= gradients) {
        snprintf(name, 64, "gradient of %s", t->table.items[t->table.count - 1 - (number - gradients)].name);
        return;
    }
    int layer = number / ACT_KINDS - 1; // as they were numbered: the start, the layers, the end
    const Act *a = &acts.items[number % ACT_KINDS];
    if (a->place == PLACE_LAYER) snprintf(name, 64, "activation layer.%d.%s", layer, a->name);
    else snprintf(name, 64, "activation %s", a->name);
}

// A number of JSON, which knows neither NaN nor infinities.
static inline void metrics_number(Str *s, const char *name, double x) {
    if (isfinite(x)) str_printf(s, "\"%s\": %.9g", name, x);
    else str_printf(s, "\"%s\": null", name);
}

static inline void trainer_write_metrics(Trainer *t, const UpdateResult *r, double lr, double seconds, bool validated) {
    if (t->dist->rank > 0) return;
    double rate = (double)t->step_tokens / seconds;
    Str s;
    memset(&s, 0, sizeof s);
    str_printf(&s, "{\"step\": %lld, \"tokens\": %lld, \"epoch\": %.6g, ", (long long)t->state.step,
               (long long)t->state.tokens, (double)t->state.position / (double)t->train.sequences);
    metrics_number(&s, "loss", r->loss);
    str_printf(&s, ", \"lr\": %.9g, ", lr);
    metrics_number(&s, "grad_norm", r->grad_norm);
    str_printf(&s, ", \"step_ms\": %.3f, \"tokens_per_s\": %.1f, \"mfu\": ", seconds * 1e3, rate);
    if (t->peak_flops > 0) str_printf(&s, "%.4f", rate * t->flops_per_token / t->peak_flops);
    else str_puts(&s, "null");
    if (validated) {
        str_printf(&s, ", \"val_loss\": %.9g", t->val_loss);
        if (isfinite(t->val_bits)) str_printf(&s, ", \"val_bits_per_byte\": %.9g", t->val_bits);
    }
    const SpikeEvent *e = &t->event;
    if (e->action) {
        str_printf(&s, ", \"event\": \"%s\", \"event_step\": %lld, ", e->action, (long long)e->step);
        metrics_number(&s, "event_loss", e->loss);
        str_puts(&s, ", ");
        metrics_number(&s, "event_grad_norm", e->grad_norm);
        str_puts(&s, ", ");
        metrics_number(&s, "z_loss", e->z_loss);
        str_puts(&s, ", ");
        metrics_number(&s, "z_grad_norm", e->z_norm);
    }
    DeviceReadings d = model_readings(t->model); // of rank 0's device
    struct {
        const char *name;
        double value;
    } readings[] = {{"power_w", d.power_w},       {"temperature_c", d.temperature_c}, {"sm_mhz", d.sm_mhz},
                    {"memory_mhz", d.memory_mhz}, {"memory_gb", d.memory_gb},         {"energy_kwh", d.energy_kwh}};
    for (size_t i = 0; i < sizeof readings / sizeof readings[0]; i++)
        if (isfinite(readings[i].value)) str_printf(&s, ", \"gpu_%s\": %.9g", readings[i].name, readings[i].value);
    str_puts(&s, "}\n");
    // A full disk must not end the run here: the lines are kept and tried again.
    bool before = t->log.pending.size > 0;
    if (!log_metrics(&t->log, s.data, s.size) && !before)
        warn("cannot write metrics.jsonl in %s: %s; its lines are kept in memory for now", t->o->out, strerror(errno));
    free(s.data);
}

static inline void trainer_progress(Trainer *t, const UpdateResult *r, double seconds) {
    t->step_seconds = t->step_seconds == 0 ? seconds : 0.9 * t->step_seconds + 0.1 * seconds;
    double rate = (double)t->step_tokens / t->step_seconds;
    char left[16], val[64] = "", share[24] = "";
    log_duration(left, (double)(t->o->steps - t->state.step) * t->step_seconds);
    if (isfinite(t->val_bits)) snprintf(val, sizeof val, " | val %.4f, %.4f bits/byte", t->val_loss, t->val_bits);
    else if (isfinite(t->val_loss)) snprintf(val, sizeof val, " | val %.4f", t->val_loss);
    if (t->peak_flops > 0)
        snprintf(share, sizeof share, " | mfu %.0f%%", 100 * rate * t->flops_per_token / t->peak_flops);
    log_progress(&t->log, "step %lld/%lld | loss %.4f%s | %.0f tokens/s%s | %s left", (long long)t->state.step,
                 (long long)t->o->steps, r->loss, val, rate, share, left);
}

// Generates from --sample_prompt, into the log.
static inline void trainer_sample(Trainer *t) {
    const Options *o = t->o;
    IdList prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt_tokens(&prompt, &t->tokenizer, o->sample_prompt);
    Sampler sampler = sampler_create(t->config.vocab_size, o->temperature, (int)o->top_k, o->top_p, (uint64_t)o->seed);
    TextSink sink;
    memset(&sink, 0, sizeof sink);
    sink.tok = &t->tokenizer;
    int length = t->T < t->config.max_seq_len ? t->T : t->config.max_seq_len;
    generate_tokens(t->model, &t->tokenizer, &sampler, prompt.items, (int)prompt.count, (int)o->tokens, length,
                    (uint64_t)t->state.step << 32, text_sink, &sink);
    utf8_stream_finish(&sink.utf8, &sink.text);
    log_line(&t->log, "sample at step %lld: %s%s", (long long)t->state.step, o->sample_prompt,
             sink.text.data ? sink.text.data : "");
    free(sink.text.data);
    free(prompt.items);
    sampler_free(&sampler);
}

// ---------------------------------------------------------------- checkpoints

// A write that failed, and that the next one will make good.
static inline void trainer_not_written(Trainer *t) {
    const CheckpointWriter *w = &t->writer;
    Error line;
    error_set(&line, "no checkpoint at step %lld: %.800s; training goes on, the next one is tried when it is due",
              (long long)w->state.step, w->err.text);
    log_line(&t->log, "%s", line.text);
    warn("%s", line.text);
}

// Ends a write that is no longer under way, and says on rank 0 what became of it. False, on rank 0: it failed.
static inline bool trainer_written(Trainer *t, bool waited) {
    CheckpointWriter *w = &t->writer;
    bool busy = w->busy;
    checkpoint_finish(w);
    if (t->dist->rank > 0 || !busy) return true;
    if (!w->ok) return false;
    Path p = checkpoint_folder(t->o->out, w->state.step);
    log_line(&t->log, "checkpoint %s (%.1f s%s)", p.text, w->seconds, waited ? "" : " in the background");
    if (w->prune_err.text[0]) warn("%s", w->prune_err.text);
    return true;
}

// Looks after a write in the background; between steps, on all ranks.
static inline void trainer_look_at_writer(Trainer *t) {
    if (t->writer.busy && !checkpoint_under_way(&t->writer, 0) && !trainer_written(t, false)) trainer_not_written(t);
}

// Waits until no write is under way. Called by all ranks: they meet several times a second, so that a write of
// any length is none of the watchdog's business, but a rank that hangs is.
static inline void trainer_wait_for_writer(Trainer *t) {
    while (dist_max(t->dist, t->writer.busy && checkpoint_under_way(&t->writer, 0.2))) {}
}

// A checkpoint of the step that was just done. last: it is waited for, and the job ends if it cannot be written.
static inline void trainer_checkpoint(Trainer *t, bool last) {
    CheckpointWriter *w = &t->writer;
    double start = clock_seconds();
    if (w->busy && !checkpoint_ended(w, 0))
        log_line(&t->log, "step %lld: waiting for the checkpoint of step %lld", (long long)t->state.step,
                 (long long)w->state.step);
    trainer_wait_for_writer(t);
    trainer_look_at_writer(t);
    checkpoint_start(w, &t->state, t->dist->rank == 0 ? t->log.metrics : 0);
    bool ok = true;
    if (last || !w->copies) {
        trainer_wait_for_writer(t);
        ok = trainer_written(t, true);
    }
    if (!last) {
        double stood = clock_seconds() - start;
        log_line(&t->log, "step %lld: training stood still for %.1f ms for a checkpoint", (long long)t->state.step,
                 1e3 * stood);
        t->checkpoints++;
        t->stalled += stood;
        if (!ok) trainer_not_written(t);
        return;
    }
    Error err;
    if (!ok)
        error_set(&err, "no checkpoint at step %lld: %.800s; earlier checkpoints are untouched",
                  (long long)t->state.step, w->err.text);
    dist_agree(t->dist, ok, &err);
}

// ---------------------------------------------------------------- spikes

// Back to the last regular checkpoint, with the data going on at `position`. False: there is none. Called
// by all ranks.
static inline bool trainer_roll_back(Trainer *t, int64_t position) {
    const Options *o = t->o;
    Dist *dist = t->dist;
    Error err;
    trainer_wait_for_writer(t);
    trainer_look_at_writer(t);
    int64_t *steps = NULL, to = -1;
    int n = dist->rank == 0 ? checkpoint_list(&steps, o->out) : 0;
    if (dist->rank == 0) to = checkpoint_regular(steps, n, o->checkpoint_every, t->state.step);
    dist_broadcast(dist, &to, sizeof to);
    if (to < 0) {
        free(steps);
        return false;
    }
    RunState s;
    memset(&s, 0, sizeof s);
    Path folder = checkpoint_folder(o->out, to), metrics = path_of("%s/metrics.jsonl", o->out);
    dist_agree(dist,
               (dist->rank > 0 || checkpoint_read(&s, folder.text, &err)) &&
                   checkpoint_verify(folder.text, dist->rank, dist->size, &err),
               &err);
    dist_broadcast(dist, &s, sizeof s);
    dist_agree(dist,
               folder_load_weights(t->model, &t->table, &t->config, folder.text, &err) &&
                   checkpoint_load_moments(t->model, &t->table, &t->config, folder.text, &err),
               &err);
    model_zero_gradients(t->model);
    // Checkpoints of the steps that are undone would be taken for newer ones than those to come.
    bool ok = true;
    for (int i = 0; ok && i < n; i++)
        if (steps[i] > to) ok = checkpoint_remove(o->out, steps[i], &err);
    free(steps);
    if (ok && dist->rank == 0) ok = log_open_metrics(&t->log, metrics.text, to, &err);
    dist_agree(dist, ok, &err);
    s.position = position;
    s.spikes = t->state.spikes;
    s.spike_step = t->state.spike_step;
    t->state = s;
    return true;
}

// The number of standard deviations above the mean; NAN where nothing is judged.
static inline double trainer_z(double x, const SpikeStatistics *s) {
    return s->deviation > 0 ? (x - s->mean) / s->deviation : (double)NAN;
}

typedef enum { STEP_TAKEN, STEP_SKIPPED, STEP_UNDONE } StepOutcome;

// Ends the job for a step that cannot be gone on from, after the checkpoint that may be under way.
static inline void trainer_give_up(Trainer *t, const Error *err) {
    trainer_wait_for_writer(t);
    trainer_look_at_writer(t);
    dist_agree(t->dist, false, err);
}

// What becomes of a step after its update, or the refusal of it; ends the job where that is the answer. All
// ranks see the same numbers and say the same.
static inline StepOutcome trainer_judge(Trainer *t, const UpdateResult *r) {
    const Options *o = t->o;
    const SpikeBounds *b = &t->bounds;
    int64_t step = t->state.step + 1;
    bool finite = isfinite(r->loss) && isfinite(r->grad_norm);
    bool spike =
        !r->updated || (b->max_loss > 0 && r->loss > b->max_loss) || (b->max_norm > 0 && r->grad_norm > b->max_norm);
    if (!spike) {
        if (step >= t->state.spike_step) t->state.spikes = 0;
        return STEP_TAKEN;
    }
    char name[64];
    Error line;
    if (!finite) {
        trainer_find_nonfinite(t, name);
        error_set(&line, "step %lld: loss %g, gradient norm %g; the first tensor that is not finite is %s",
                  (long long)step, r->loss, r->grad_norm, name);
    } else {
        error_set(&line,
                  "step %lld: loss %.6g, gradient norm %.6g stand %.1f and %.1f standard deviations above the last %d "
                  "steps",
                  (long long)step, r->loss, r->grad_norm, trainer_z(r->loss, &b->loss),
                  trainer_z(r->grad_norm, &b->grad_norm), t->state.window.count);
    }
    if (!finite && o->spike_action == SPIKE_NONE) {
        Error err;
        log_line(&t->log, "%s", line.text);
        error_set(&err,
                  "%.500s; the weights were not touched and no checkpoint was written: resume from the last one with a "
                  "lower --lr or with --spike_action=skip, "
                  "or look at the data of this step",
                  line.text);
        trainer_give_up(t, &err);
    }
    SpikeEvent *e = &t->event;
    e->action = o->spike_action == SPIKE_NONE ? "spike" : o->spike_action == SPIKE_SKIP ? "skip" : "rollback";
    e->step = step;
    e->loss = r->loss;
    e->grad_norm = r->grad_norm;
    e->z_loss = trainer_z(r->loss, &b->loss);
    e->z_norm = trainer_z(r->grad_norm, &b->grad_norm);
    if (o->spike_action == SPIKE_NONE) {
        log_line(&t->log, "spike: %s", line.text);
        return STEP_TAKEN;
    }
    t->state.spikes++;
    t->state.spike_step = int64_max(t->state.spike_step, step);
    if (t->state.spikes > o->spike_limit) {
        Error err;
        log_line(&t->log, "%s", line.text);
        error_set(&err,
                  "%.500s; these are %lld spikes in a row, --spike_limit=%lld: resume from the last checkpoint with a "
                  "lower --lr, or look at the data",
                  line.text, (long long)t->state.spikes, (long long)o->spike_limit);
        trainer_give_up(t, &err);
    }
    int64_t position = t->state.position + t->step_tokens / t->T;
    if (o->spike_action == SPIKE_ROLLBACK && trainer_roll_back(t, position)) {
        log_line(&t->log, "spike: %s; rolled back to step %lld, data go on at sequence %lld", line.text,
                 (long long)t->state.step, (long long)position);
        return STEP_UNDONE;
    }
    e->action = "skip";
    model_zero_gradients(t->model);
    log_line(&t->log, "spike: %s; its update was skipped", line.text);
    return STEP_SKIPPED;
}

// ---------------------------------------------------------------- the loop

// The signals that end a run in good order.
static inline void trainer_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2);
}

// To be called before any thread is made (MPI makes some), so that all inherit it.
static inline void trainer_block_signals(void) {
    sigset_t set;
    trainer_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

// Why the run is to stop after this step, 0: it is not; the same on all ranks.
static inline int trainer_stop(Trainer *t) {
    sigset_t set;
    struct timespec none = {0, 0};
    trainer_signals(&set);
    int reason = sigtimedwait(&set, NULL, &none);
    double now = clock_seconds();
    if (reason < 0) reason = 0;
    if (t->o->max_minutes > 0 && now - t->started > 60 * t->o->max_minutes) reason = STOP_TIME;
    if (t->dist->rank == 0 && now - t->looked > 1) { // once a second: metadata servers serve many
        Path stop = path_of("%s/stop", t->o->out);
        t->looked = now;
        if (path_exists(stop.text)) reason = STOP_FILE;
    }
    return dist_max(t->dist, reason);
}

// After the checkpoint: says why the run stops, and clears the stop file away for the next job of a chain.
static inline void trainer_stopped(Trainer *t, int reason) {
    const Options *o = t->o;
    Path stop = path_of("%s/stop", o->out);
    char why[128];
    if (reason == STOP_FILE) snprintf(why, sizeof why, "the file %.100s", stop.text);
    else if (reason == STOP_TIME) snprintf(why, sizeof why, "--max_minutes=%g", o->max_minutes);
    else snprintf(why, sizeof why, "signal %d (%s)", reason, strsignal(reason));
    log_line(&t->log, "stopped by %s after step %lld; go on with --resume=auto", why, (long long)t->state.step);
    if (reason == STOP_FILE && t->dist->rank == 0 && unlink(stop.text) != 0)
        warn("cannot remove %s: %s; the next run will stop for it", stop.text, strerror(errno));
}

static inline bool due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

static inline void trainer_close(Trainer *t) {
    log_close(&t->log);
    if (t->model) checkpoint_writer_close(&t->writer);
    model_destroy(t->model);
    param_table_free(&t->table);
    dataset_close(&t->train);
    dataset_close(&t->val);
    tokenizer_free(&t->tokenizer);
    free(t->inputs);
    free(t->targets);
    if (t->lock > 0) close(t->lock);
    t->dist->watchdog = NULL;
    watchdog_close(&t->watchdog);
}

// The verb `train`. Returns the exit code; ends the process on errors.
static inline int train(const Options *o, Dist *dist) {
    Trainer *t = (Trainer *)mem_alloc(sizeof(Trainer));
    trainer_prepare(t, o, dist);
    Log *log = &t->log;
    Error err;
    int stop = 0;
    double began = clock_seconds();
    while (t->state.step < o->steps && !stop) {
        watchdog_step(dist->watchdog, t->state.step + 1);
        double start = clock_seconds();
        UpdateResult r = trainer_step(t);
        double seconds = clock_seconds() - start, lr = schedule_lr(&t->schedule, t->state.step + 1);
        StepOutcome outcome = trainer_judge(t, &r);
        if (outcome == STEP_UNDONE) continue;
        t->state.step++;
        t->state.position += t->step_tokens / t->T;
        if (outcome == STEP_SKIPPED) t->state.skipped++;
        else {
            t->state.tokens += t->step_tokens;
            spike_add(&t->state.window, o->spike_window, r.loss, r.grad_norm);
        }
        bool last = t->state.step == o->steps,
             validate = due(o->val_every, t->state.step) || (last && o->val_every > 0);
        if (validate) {
            EvalResult v;
            if (!evaluate(&v, t->model, &t->val, &t->tokenizer, dist, t->B, t->T, o->val_tokens, t->inputs, t->targets,
                          &err))
                dist_fail(dist, "%s", err.text);
            t->val_loss = v.loss;
            t->val_bits = v.bits_per_byte;
        }
        trainer_write_metrics(t, &r, lr, seconds, validate);
        memset(&t->event, 0, sizeof t->event);
        trainer_progress(t, &r, seconds);
        if (validate)
            log_line(log, "step %lld: train %.4f, val %.4f nats/token, %.4f bits/byte", (long long)t->state.step,
                     r.loss, t->val_loss, t->val_bits);
        if (due(o->sample_every, t->state.step)) trainer_sample(t); // on all ranks: weights may be spread over them
        trainer_look_at_writer(t);
        stop = trainer_stop(t);
        if (due(o->checkpoint_every, t->state.step) || last || stop) trainer_checkpoint(t, last || stop);
        if (stop) trainer_stopped(t, stop);
    }
    if (log->pending.size && !log_metrics(log, "", 0))
        warn("the last lines of metrics.jsonl in %s could not be written: %s", o->out, strerror(errno));
    if (t->checkpoints)
        log_line(log, "training stood still for %.3f s, %.2f%% of the time, for %d checkpoints before the last",
                 t->stalled, 100 * t->stalled / (clock_seconds() - began), t->checkpoints);
    if (t->model) {
        double kwh = model_readings(t->model).energy_kwh;
        dist_sum(dist, &kwh, 1);
        if (isfinite(kwh)) log_line(log, "energy: %.3f kWh, of the GPUs alone, since this start", kwh);
    }
    bool finished = t->state.step >= o->steps;
    if (finished && !t->finished) {
        Path p = checkpoint_folder(o->out, t->state.step);
        struct rusage used;
        getrusage(RUSAGE_SELF, &used); // ru_maxrss is in KiB on Linux
        log_line(log, "finished: %lld steps, %.2fM tokens, peak memory %.2f GB; the model is in %s",
                 (long long)t->state.step, (double)t->state.tokens / 1e6, (double)used.ru_maxrss * 1024 / 1e9, p.text);
    }
    trainer_close(t);
    free(t);
    return finished ? EXIT_DONE : EXIT_STOPPED;
}

#endif
