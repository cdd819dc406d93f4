/*
trainer.h: the training loop. It knows no arithmetic of the model: that is behind engine.h.

    prepare: tokenizer, data, config, run folder, weights (new, from a folder, or from a checkpoint)
    step:    micro-batches forward and backward; update; metrics; now and then validate, sample, checkpoint
    stop:    done (exit 0), a signal or the time limit (a checkpoint, exit 3), a number that is not finite (exit 1)

What a step reads is a function of the step and the options alone, so a run that was killed and
resumed gives the same bits as one that was not, on the same number of ranks.

SIGTERM, SIGINT and SIGUSR1 are blocked and asked for between steps: no handler, no global state, and
never a half-made step. All ranks agree on stopping in the same step.
*/
#ifndef LLMC_TRAINER_H
#define LLMC_TRAINER_H

#include "checkpoint.h"
#include "data.h"
#include "log.h"
#include "sample.h"
#include "schedule.h"
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#ifndef GIT_COMMIT
#define GIT_COMMIT "unknown"
#endif

enum { EXIT_DONE = 0, EXIT_STOPPED = 3 };

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

    int B, T;
    int64_t step_tokens;     // in one update, over all ranks
    int micro_batches;       // passes a step on each rank
    int32_t *inputs, *targets; // (B, T) each
    double flops_per_token, peak_flops; // peak: over all ranks; 0: not known
    double val_loss, val_bits;          // the newest, for the progress line; NAN: none yet
    double started, step_seconds;       // step_seconds: smoothed
} Trainer;

// ---------------------------------------------------------------- what tokens stand for

// The number of text bytes in n tokens; special tokens and ignored targets (-1) have none.
static inline int64_t tokens_text_bytes(const Tokenizer *tok, const int32_t *tokens, int64_t n) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        int length = 0;
        if (tokens[i] >= 0 && tokens[i] < tok->vocab_size) tokenizer_bytes(tok, tokens[i], &length);
        bytes += length;
    }
    return bytes;
}

// ---------------------------------------------------------------- evaluation

typedef struct {
    double loss;          // mean, nats a token
    double bits_per_byte; // NAN where the bytes are not known
    int64_t tokens, bytes;
} EvalResult;

// Mean loss over the first sequences of a data set, at most max_tokens of them (0: all), shared out
// over the ranks by batches. tok may be NULL. inputs, targets: (B, T) scratch.
static inline bool evaluate(EvalResult *out, Model *m, const Dataset *d, const Tokenizer *tok, const Dist *dist, int B, int T, int64_t max_tokens,
                            int32_t *inputs, int32_t *targets, Error *err) {
    int64_t sequences = d->sequences;
    if (max_tokens > 0) sequences = int64_min(sequences, int64_max(1, max_tokens / T));
    double sums[3] = {0, 0, 0}; // loss, tokens, bytes
    model_loss(m);
    for (int64_t round = 0; round < sequences; round += (int64_t)dist->size * B) {
        int64_t first = round + (int64_t)dist->rank * B;
        int n = (int)int64_max(0, int64_min(B, sequences - first));
        for (int b = 0; b < n; b++)
            if (!dataset_sequence(d, first + b, inputs + (size_t)b * (size_t)T, targets + (size_t)b * (size_t)T, err)) return false;
        // A rank with nothing left makes its pass all the same, over targets that count nothing.
        if (n == 0) memset(inputs, 0, sizeof(int32_t) * (size_t)T), memset(targets, 0xff, sizeof(int32_t) * (size_t)T);
        model_forward(m, inputs, targets, n ? n : 1, T, 0, NULL);
        sums[1] += (double)n * T;
        if (tok) sums[2] += (double)tokens_text_bytes(tok, targets, (int64_t)n * T);
    }
    sums[0] = model_loss(m);
    dist_sum(dist, sums, 3);
    out->loss = sums[0] / sums[1];
    out->tokens = (int64_t)sums[1];
    out->bytes = (int64_t)sums[2];
    out->bits_per_byte = sums[2] > 0 ? sums[0] / sums[2] / 0.69314718055994530942 : (double)NAN;
    return true;
}

// ---------------------------------------------------------------- generation

// Continues `prompt` (n tokens, at least one) by at most `count` tokens, handing each to `each` (which
// returns false to stop). Ends at end of text. When the context is full, the newer half of it is fed
// again and generation goes on. draw: number of the first random draw.
typedef bool (*TokenSink)(void *context, int token);

static inline void generate_tokens(Model *m, const Tokenizer *tok, Sampler *sampler, const int32_t *prompt, int n, int count, int context_length,
                                   uint64_t draw, TokenSink each, void *context) {
    int32_t *window = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)(context_length + 1));
    int keep = n < context_length ? n : context_length;
    memcpy(window, prompt + n - keep, sizeof(int32_t) * (size_t)keep);
    int filled = keep, fed = 0;
    for (int i = 0; i < count; i++) {
        const float *logits = model_decode(m, window + fed, filled - fed, fed);
        fed = filled;
        int token = sample_token(sampler, logits, tok->vocab_size, draw + (uint64_t)i);
        if (token == tok->eot || !each(context, token)) break;
        if (filled == context_length) {
            int half = context_length / 2;
            memmove(window, window + filled - half, sizeof(int32_t) * (size_t)half);
            filled = half;
            fed = 0;
        }
        window[filled++] = token;
    }
    free(window);
}

// Collects generated text; only whole characters come out.
typedef struct {
    const Tokenizer *tok;
    Utf8Stream utf8;
    Str text;
    FILE *echo; // prints as it goes, or NULL
} TextSink;

static inline bool text_sink(void *context, int token) {
    TextSink *s = (TextSink *)context;
    int length;
    const uint8_t *bytes = tokenizer_bytes(s->tok, token, &length);
    size_t before = s->text.size;
    utf8_stream_push(&s->utf8, bytes, (size_t)length, &s->text);
    if (s->echo) {
        fwrite(s->text.data ? s->text.data + before : "", 1, s->text.size - before, s->echo);
        fflush(s->echo);
    }
    return true;
}

// Tokens of a prompt; an empty one is the end-of-text token, behind which every document starts.
static inline void prompt_tokens(IdList *ids, const Tokenizer *tok, const char *prompt) {
    tokenizer_encode(tok, NULL, prompt, strlen(prompt), ids);
    if (ids->count > 0) return;
    if (tok->eot < 0) fail("this tokenizer has no end-of-text token to start a text with: give a prompt");
    id_list_add(ids, tok->eot);
}

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
    generate_tokens(t->model, &t->tokenizer, &sampler, prompt.items, (int)prompt.count, (int)o->tokens, length, (uint64_t)t->state.step << 32, text_sink, &sink);
    utf8_stream_finish(&sink.utf8, &sink.text);
    log_line(&t->log, "sample at step %lld: %s%s", (long long)t->state.step, o->sample_prompt, sink.text.data ? sink.text.data : "");
    free(sink.text.data);
    free(prompt.items);
    sampler_free(&sampler);
}

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
        return error_set(err, "the tokenizer %s has %d tokens, the model %s only %d: use the model's own tokenizer", o->tokenizer, tok->vocab_size, o->model,
                         c->vocab_size);
    if (T > c->max_seq_len) {
        if (!c->rope) return error_set(err, "--seq_len=%d is longer than the %d learned positions of %s", T, c->max_seq_len, o->model);
        c->max_seq_len = T; // rotary positions have no table to outgrow
    }
    return true;
}

static inline bool trainer_check_data(const Dataset *d, const char *option, const char *files, const Trainer *t, Error *err) {
    if (d->tokenizer_hash && d->tokenizer_hash != t->tokenizer.hash)
        return error_set(err, "--%s=%s was tokenised with another tokenizer than %s: run tokenize again with this one", option, files, t->o->tokenizer);
    if (d->vocab_size > t->config.vocab_size)
        return error_set(err, "--%s=%s has a vocabulary of %lld, the model of %d", option, files, (long long)d->vocab_size, t->config.vocab_size);
    return true;
}

static inline bool config_equal(const Config *a, const Config *b) {
    return a->family == b->family && a->vocab_size == b->vocab_size && a->channels == b->channels && a->layers == b->layers && a->heads == b->heads &&
           a->kv_heads == b->kv_heads && a->head_size == b->head_size && a->hidden == b->hidden && a->max_seq_len == b->max_seq_len && a->tied == b->tied &&
           a->bias == b->bias;
}

// Finds the newest checkpoint of the run folder, and refuses a folder that holds another run.
// *folder is empty when there is none.
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
    if (!checkpoint_open(&s, folder->text, err)) return false;
    const char *other = NULL;
    if (s.seed != o->seed) other = "--seed";
    else if (s.seq_len != o->seq_len) other = "--seq_len";
    else if (s.data != t->train.fingerprint) other = "training data";
    if (other) return error_set(err, "%s belongs to a run with another %s; a run resumes only as what it was: choose another --out", folder->text, other);
    Config c;
    if (!folder_read_config(&c, folder->text, err)) return false;
    if (!config_equal(&c, &t->config)) return error_set(err, "%s holds another model than --model=%s; choose another --out", folder->text, o->model);
    t->state = s;
    return true;
}

static inline void trainer_load(Trainer *t, const char *checkpoint) {
    const Options *o = t->o;
    Error err;
    if (*checkpoint) {
        if (!folder_load_weights(t->model, &t->table, &t->config, checkpoint, &err) || !checkpoint_load_moments(t->model, &t->table, &t->config, checkpoint, &err))
            fail("%s", err.text);
        log_line(&t->log, "resumed from %s", checkpoint);
    } else if (path_is_folder(o->model) && folder_has_weights(o->model)) {
        if (!folder_load_weights(t->model, &t->table, &t->config, o->model, &err)) fail("%s", err.text);
        log_line(&t->log, "weights from %s", o->model);
    } else {
        model_init_weights(t->model, &t->table, &t->config, (uint64_t)o->seed);
        log_line(&t->log, "new weights from seed %lld", (long long)o->seed);
    }
}

static inline void trainer_log_data(Trainer *t, const char *what, const Dataset *d) {
    log_line(&t->log, "%s: %lld tokens, %lld documents, %lld bytes of text, %lld sequences in %d shard%s", what, (long long)d->tokens, (long long)d->documents,
             (long long)d->bytes, (long long)d->sequences, d->count, d->count == 1 ? "" : "s");
    for (int i = 0; i < d->count; i++)
        log_line(&t->log, "  %s  %lld tokens  xxh64 %016" PRIx64, d->shards[i].path, (long long)d->shards[i].header.tokens, d->shards[i].header.checksum);
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
    log_line(log, "model: %s, %.2fM parameters, %d layers, %d channels, %d heads of %d (%d for keys and values), MLP %d, vocabulary %d", family_name(c->family),
             (double)t->table.parameters / 1e6, c->layers, c->channels, c->heads, c->head_size, c->kv_heads, c->hidden, c->vocab_size);
    for (int i = 0; i < t->table.count; i++) {
        const Param *p = &t->table.items[i];
        char shape[32];
        snprintf(shape, sizeof shape, p->is_vector ? "(%d)" : "(%d, %d)", p->rows, p->cols);
        if (log->file) // to run.log alone: it is long
            fprintf(log->file, "  %-22s %-16s %s\n", p->name, shape, p->decay ? "decay" : "");
    }
    Error err;
    char hex[65];
    if (sha256_file(hex, o->tokenizer, &err)) log_line(log, "tokenizer: %s  %d tokens  sha256 %s", o->tokenizer, t->tokenizer.vocab_size, hex);
    trainer_log_data(t, "training data", &t->train);
    trainer_log_data(t, "validation data", &t->val);
    int64_t sequences = o->steps * (t->step_tokens / t->T);
    log_line(log, "%lld steps of %lld tokens (%d x %d x %d x %d micro-batches): %.2fM tokens, %.2f epochs over the training data", (long long)o->steps,
             (long long)t->step_tokens, t->dist->size, t->B, t->T, t->micro_batches, (double)o->steps * (double)t->step_tokens / 1e6,
             (double)sequences / (double)t->train.sequences);
    log_line(log, "FLOPs a token: %.3e = %s; peak %.1f GFLOP/s", t->flops_per_token, FLOPS_FORMULA, t->peak_flops / 1e9);
    if (log->file) {
        schedule_print(stdout, &t->schedule);
        schedule_print(log->file, &t->schedule);
    }
}

static inline void trainer_prepare(Trainer *t, const Options *o, Dist *dist) {
    memset(t, 0, sizeof *t);
    Error err;
    t->o = o;
    t->dist = dist;
    t->B = (int)o->batch_size;
    t->T = (int)o->seq_len;
    t->val_loss = t->val_bits = (double)NAN;
    t->schedule = schedule_of_options(o);
    if (!tokenizer_load(&t->tokenizer, o->tokenizer, &err) || !trainer_config(&t->config, o, &t->tokenizer, &err) ||
        !dataset_open(&t->train, o->train_data, t->T, &err) || !dataset_open(&t->val, o->val_data, t->T, &err) ||
        !trainer_check_data(&t->train, "train_data", o->train_data, t, &err) || !trainer_check_data(&t->val, "val_data", o->val_data, t, &err))
        fail("%s", err.text);
    t->train.vocab_size = t->val.vocab_size = t->config.vocab_size;
    int64_t pass = (int64_t)t->B * t->T * dist->size;
    t->step_tokens = o->total_batch_tokens ? o->total_batch_tokens : pass;
    if (t->step_tokens % pass)
        fail("--total_batch_tokens=%lld is not a multiple of batch_size x seq_len x ranks = %d x %d x %d = %lld", (long long)t->step_tokens, t->B, t->T, dist->size,
             (long long)pass);
    t->micro_batches = (int)(t->step_tokens / pass);

    // The run folder: one writer at a time; the lock goes away with the process, however it ends.
    Path metrics = path_of("%s/metrics.jsonl", o->out), log_path = path_of("%s/run.log", o->out), checkpoint;
    if (dist->rank == 0) {
        if (!path_make_folder(o->out, &err)) fail("%s", err.text);
        Path lock = path_of("%s/.lock", o->out);
        t->lock = open(lock.text, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
        if (t->lock < 0) fail("cannot write into %s: %s", o->out, strerror(errno));
        if (flock(t->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) fail("another process is training in %s", o->out);
        if (!checkpoint_sweep(o->out, &err)) fail("%s", err.text);
    }
    dist_barrier(dist);
    t->state.seed = o->seed;
    t->state.seq_len = o->seq_len;
    t->state.data = t->train.fingerprint;
    if (!trainer_find_checkpoint(t, &checkpoint, &err)) fail("%s", err.text);

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
    if (!t->model) fail("%s", err.text);
    t->table = param_table(&t->config);
    t->inputs = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)t->B * (size_t)t->T);
    t->targets = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)t->B * (size_t)t->T);
    t->flops_per_token = config_flops_per_token(&t->config, t->T);
    t->peak_flops = model_peak_flops(t->model) * dist->size;
    if (dist->rank == 0) {
        t->log.file = fopen(log_path.text, *checkpoint.text ? "a" : "w");
        if (!t->log.file) fail("cannot write %s: %s", log_path.text, strerror(errno));
        t->log.terminal = isatty(STDOUT_FILENO);
        t->log.progress = o->progress;
        if (!log_open_metrics(&t->log, metrics.text, t->state.step, &err)) fail("%s", err.text);
        trainer_log_run(t);
    }
    trainer_load(t, checkpoint.text);
    t->started = clock_seconds();
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
            if (!dataset_sequence(&t->train, index, t->inputs + (size_t)b * (size_t)t->T, t->targets + (size_t)b * (size_t)t->T, &err)) fail("%s", err.text);
        }
        model_forward(t->model, t->inputs, t->targets, t->B, t->T, 1.0 / (double)t->step_tokens, NULL);
        model_backward(t->model, micro == t->micro_batches - 1);
    }
    UpdateRule rule;
    rule.step = t->state.step + 1;
    rule.lr = schedule_lr(&t->schedule, rule.step);
    rule.beta1 = o->beta1;
    rule.beta2 = o->beta2;
    rule.eps = o->adam_eps;
    rule.weight_decay = o->weight_decay;
    rule.grad_clip = o->grad_clip;
    UpdateResult r = model_update(t->model, &rule);
    r.loss /= (double)t->step_tokens;
    return r;
}

static inline bool all_finite(const float *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

// Names the first tensor, in the order of computation, that holds a NaN or an infinity: activations of
// the last micro-batch forwards, then gradients backwards. name: 64 bytes.
static inline void trainer_find_nonfinite(Trainer *t, char *name) {
    size_t rows = (size_t)t->B * (size_t)t->T, most = 0;
    ActTable acts = act_table(&t->config, t->B, t->T, RECOMPUTE_NONE);
    for (int k = 0; k < ACT_KINDS; k++)
        if (rows * (size_t)acts.items[k].width > most) most = rows * (size_t)acts.items[k].width;
    for (int i = 0; i < t->table.count; i++)
        if (t->table.items[i].count > most) most = t->table.items[i].count;
    float *values = (float *)mem_alloc(sizeof(float) * most);
    snprintf(name, 64, "no single tensor");
    bool found = false;
    for (int place = AT_START; place <= AT_END && !found; place++) {
        int layers = place == IN_LAYER ? t->config.layers : 1;
        for (int l = 0; l < layers && !found; l++)
            for (int k = 0; k < ACT_KINDS && !found; k++) {
                const Act *a = &acts.items[k];
                if (a->place != place || !a->present || !model_get_activation(t->model, k, l, values)) continue;
                if (all_finite(values, rows * (size_t)a->width)) continue;
                found = true;
                if (place == IN_LAYER) snprintf(name, 64, "activation layer.%d.%s", l, a->name);
                else snprintf(name, 64, "activation %s", a->name);
            }
    }
    for (int i = t->table.count - 1; i >= 0 && !found; i--) {
        const Param *p = &t->table.items[i];
        model_get(t->model, MODEL_GRADIENT, p, values);
        if (all_finite(values, p->count)) continue;
        found = true;
        snprintf(name, 64, "gradient of %s", p->name);
    }
    free(values);
}

static inline void trainer_write_metrics(Trainer *t, const UpdateResult *r, double lr, double seconds, bool validated) {
    if (!t->log.metrics) return;
    double rate = (double)t->step_tokens / seconds;
    Str s;
    memset(&s, 0, sizeof s);
    str_printf(&s, "{\"step\": %lld, \"tokens\": %lld, \"epoch\": %.6g, \"loss\": %.9g, \"lr\": %.9g, \"grad_norm\": %.9g, ", (long long)t->state.step,
               (long long)t->state.tokens, (double)t->state.position / (double)t->train.sequences, r->loss, lr, r->grad_norm);
    str_printf(&s, "\"step_ms\": %.3f, \"tokens_per_s\": %.1f, \"mfu\": ", seconds * 1e3, rate);
    if (t->peak_flops > 0) str_printf(&s, "%.4f", rate * t->flops_per_token / t->peak_flops);
    else str_puts(&s, "null");
    if (validated) {
        str_printf(&s, ", \"val_loss\": %.9g", t->val_loss);
        if (isfinite(t->val_bits)) str_printf(&s, ", \"val_bits_per_byte\": %.9g", t->val_bits);
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
    // A full disk must not end the run here: the checkpoint will say it, and nothing is lost.
    if (fwrite(s.data, 1, s.size, t->log.metrics) != s.size || fflush(t->log.metrics) != 0)
        warn("cannot write metrics.jsonl in %s: %s", t->o->out, strerror(errno));
    free(s.data);
}

static inline void trainer_progress(Trainer *t, const UpdateResult *r, double seconds) {
    t->step_seconds = t->step_seconds == 0 ? seconds : 0.9 * t->step_seconds + 0.1 * seconds;
    double rate = (double)t->step_tokens / t->step_seconds;
    char left[16], val[64] = "", share[24] = "";
    log_duration(left, (double)(t->o->steps - t->state.step) * t->step_seconds);
    if (isfinite(t->val_bits)) snprintf(val, sizeof val, " | val %.4f, %.4f bits/byte", t->val_loss, t->val_bits);
    else if (isfinite(t->val_loss)) snprintf(val, sizeof val, " | val %.4f", t->val_loss);
    if (t->peak_flops > 0) snprintf(share, sizeof share, " | mfu %.0f%%", 100 * rate * t->flops_per_token / t->peak_flops);
    log_progress(&t->log, "step %lld/%lld | loss %.4f%s | %.0f tokens/s%s | %s left", (long long)t->state.step, (long long)t->o->steps, r->loss, val, rate,
                 share, left);
}

static inline void trainer_checkpoint(Trainer *t) {
    Error err;
    int failed = 0;
    if (t->dist->rank == 0) {
        if (t->log.metrics) fsync(fileno(t->log.metrics)); // the metrics of these steps are on disk before the weights are
        double start = clock_seconds();
        failed = !checkpoint_write(t->o->out, &t->state, t->o, t->model, &t->table, &t->config, &t->tokenizer, &err) ||
                 !checkpoint_prune(t->o->out, t->o->keep_checkpoints, &err);
        if (!failed) {
            Path p = checkpoint_folder(t->o->out, t->state.step);
            log_line(&t->log, "checkpoint %s (%.1f s)", p.text, clock_seconds() - start);
        }
    }
    if (t->dist->rank > 0) {
        disk_write(NULL, t->model, MODEL_WEIGHT, &t->table, &t->config);
        disk_write(NULL, t->model, MODEL_MOMENT1, &t->table, &t->config);
        disk_write(NULL, t->model, MODEL_MOMENT2, &t->table, &t->config);
    }
    if (dist_max(t->dist, failed)) {
        if (t->dist->rank == 0) fail("no checkpoint at step %lld: %s; earlier checkpoints are untouched", (long long)t->state.step, err.text);
        exit(1);
    }
}

// ---------------------------------------------------------------- the loop

// The signals that end a run in good order.
static inline void trainer_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGUSR1);
}

// To be called before any thread is made (MPI makes some), so that all inherit it.
static inline void trainer_block_signals(void) {
    sigset_t set;
    trainer_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

// The pending signal that asks to stop, 0 if there is none; the same on all ranks.
static inline int trainer_stop_signal(const Dist *dist) {
    sigset_t set;
    struct timespec now = {0, 0};
    trainer_signals(&set);
    int signal_number = sigtimedwait(&set, NULL, &now);
    return dist_max(dist, signal_number > 0 ? signal_number : 0);
}

static inline bool due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

// The verb `train`. Returns the exit code; ends the process on errors.
static inline int train(const Options *o, Dist *dist) {
    Trainer trainer, *t = &trainer;
    trainer_prepare(t, o, dist);
    Log *log = &t->log;
    Error err;
    int exit_code = EXIT_DONE;
    int64_t saved = t->state.step > 0 ? t->state.step : -1;
    while (t->state.step < o->steps) {
        double start = clock_seconds();
        UpdateResult r = trainer_step(t);
        double seconds = clock_seconds() - start, lr = schedule_lr(&t->schedule, t->state.step + 1);
        if (!r.updated) {
            char name[64];
            trainer_find_nonfinite(t, name);
            log_line(log, "step %lld: loss %g, gradient norm %g: not finite, first in %s", (long long)t->state.step + 1, r.loss, r.grad_norm, name);
            fail("step %lld: loss %g, gradient norm %g; the first tensor that is not finite is %s (rank %d); the weights were not touched and no checkpoint was "
                 "written: resume from the last one with a lower --lr, or look at the data of this step",
                 (long long)t->state.step + 1, r.loss, r.grad_norm, name, dist->rank);
        }
        t->state.step++;
        t->state.tokens += t->step_tokens;
        t->state.position += t->step_tokens / t->T;
        bool last = t->state.step == o->steps, validate = due(o->val_every, t->state.step) || (last && o->val_every > 0);
        if (validate) {
            EvalResult v;
            if (!evaluate(&v, t->model, &t->val, &t->tokenizer, dist, t->B, t->T, o->val_tokens, t->inputs, t->targets, &err)) fail("%s", err.text);
            t->val_loss = v.loss;
            t->val_bits = v.bits_per_byte;
        }
        trainer_write_metrics(t, &r, lr, seconds, validate);
        trainer_progress(t, &r, seconds);
        if (validate) log_line(log, "step %lld: train %.4f, val %.4f nats/token, %.4f bits/byte", (long long)t->state.step, r.loss, t->val_loss, t->val_bits);
        if (due(o->sample_every, t->state.step)) trainer_sample(t);

        int stop_signal = trainer_stop_signal(dist);
        bool late = dist_max(dist, o->max_minutes > 0 && clock_seconds() - t->started > 60 * o->max_minutes);
        if (due(o->checkpoint_every, t->state.step) || last || stop_signal || late) {
            trainer_checkpoint(t);
            saved = t->state.step;
        }
        if (!last && (stop_signal || late)) {
            if (stop_signal) log_line(log, "stopped by signal %d (%s) after step %lld; go on with --resume=auto", stop_signal, strsignal(stop_signal), (long long)saved);
            else log_line(log, "stopped by --max_minutes=%g after step %lld; go on with --resume=auto", o->max_minutes, (long long)saved);
            exit_code = EXIT_STOPPED;
            break;
        }
    }
    double kwh = model_readings(t->model).energy_kwh;
    dist_sum(dist, &kwh, 1);
    if (isfinite(kwh)) log_line(log, "energy: %.3f kWh, of the GPUs alone, since this start", kwh);
    if (exit_code == EXIT_DONE) {
        Path p = checkpoint_folder(o->out, t->state.step);
        struct rusage used;
        getrusage(RUSAGE_SELF, &used); // ru_maxrss is in KiB on Linux
        log_line(log, "finished: %lld steps, %.2fM tokens, peak memory %.2f GB; the model is in %s", (long long)t->state.step, (double)t->state.tokens / 1e6,
                 (double)used.ru_maxrss * 1024 / 1e9, p.text);
    }
    log_close(log);
    model_destroy(t->model);
    param_table_free(&t->table);
    dataset_close(&t->train);
    dataset_close(&t->val);
    tokenizer_free(&t->tokenizer);
    free(t->inputs);
    free(t->targets);
    if (t->lock > 0) close(t->lock);
    return exit_code;
}

#endif
