/*
prepare.h: a run from its options to the moment before its first step, and its end.

Looks first at everything that can fail without memory being taken (preflight.h): ranks, files, the run's folder, disk,
devices. Then the model, the checkpoint's writer and the logs, and last the weights: new, from a folder, or from the
checkpoint that the run goes on from.
*/
#ifndef LLMC_PREPARE_H
#define LLMC_PREPARE_H

#include "accounting.h"
#include "budget.h"
#include "evaluate.h"
#include "fit.h"
#include "followers.h"
#include "inputs.h"
#include "metrics.h"
#include "objectives.h"
#include "preflight.h"
#include "room.h"
#include "rule.h"
#include "run_folder.h"
#include "saving.h"
#include "score.h"
#include "scores.h"
#include "stop.h"
#include "teach.h"

typedef struct {
    const Options *o;
    Dist *dist;
    Log log;
    Followers followers; // on rank 0
    RunInputs in;
    BatchSource source;    // what is trained on
    Evaluation validation; // what is validated on
    Model *model;
    Schedule schedule;
    Budget budget;
    double mark, lr; // of the step under way: seconds of the budget that are used at its end; learning rate
    SpikeRule spikes;
    RunState state;
    int lock;  // file descriptor that holds the run folder's lock
    Str notes; // lines of the checkpoint that the run goes on from, for the log
    Watchdog watchdog;
    Saving saving;
    Account account;     // the record of what it costs
    double update_flops; // of a step beside its passes: Muon's
    Stop stop;
    int stopped;         // by what, 0: it goes on
    SpikeBounds bounds;  // of the step under way
    StepMetrics metrics; // of the last one
    bool finished;       // before it began: all steps are in the checkpoint
    Str memory;          // a line for the log: what was needed and what was there
    bool loaded;         // the weights that it began with are not new ones, but a folder's
    double muon_before;  // seconds of Muon's matrices before the first step: in the test of --lr=auto
    TaskSet tasks;       // of --eval_tasks
    Str scores;          // what the line of the last step in the metrics tells of them
    Str line;            // of the last step in the metrics
    Str lr_test;         // what the line of step 1 in the metrics tells of --lr=auto

    EmbeddingCounts embeddings; // of --init_embeddings
    Teacher teacher;
    Str taught;           // its line of run.json
    double teacher_flops; // a token; 0: there is none

    int B, T, recompute;
    Str fit;                   // what was chosen by the memory, for the log
    int64_t step_tokens;       // in one update, over all ranks
    int micro_batches;         // passes a step on each rank
    int32_t *inputs, *targets; // (micro_batches, B, T) each: of the step that comes
    int32_t *starts;           // (micro_batches, B, T), of conversations; else NULL
    double step_targets;       // that count in it, on all ranks
    double step_items;         // that its loss is the mean of: those targets, or pairs
    PairPasses pairs;          // of --objective
    double data_seconds;       // to read them
    bool data_ok;              // they could be read
    Error data_err;            // why not
    int64_t ahead;             // position that they were read of while the step before was made, or -1
    bool ahead_ok;
    Error ahead_err;
    double flops_per_token, peak_flops; // peak: over all ranks; 0: not known
} Trainer;

// Are checkpoints written in the background, from a copy?
static inline bool checkpoint_copies(const Options *o, const Dist *d) {
    return o->background_checkpoints && (d->size > 1 || (o->checkpoint_every > 0 && o->checkpoint_every < o->steps));
}

// The bytes of that copy on this rank, as far as the tensors can be spread over the files evenly.
static inline double checkpoint_copy_bytes(const Options *o, const CheckpointTables *t, const Dist *d) {
    int files = checkpoint_files(t, (int)o->checkpoint_files, d->size);
    bool writes = false;
    for (int f = 0; f < files; f++) writes |= (int)((int64_t)f * d->size / files) == d->rank;
    return checkpoint_copies(o, d) && writes ? checkpoint_bytes(t) / files : 0;
}

static inline void trainer_load_checkpoint(Trainer *t, const char *folder) {
    Error err;
    const RunInputs *in = &t->in;
    dist_agree(t->dist,
               (in->config.lora.rank
                    ? adapter_load(t->model, &in->config, folder, &err)
                    : folder_load_weights(t->model, &in->tables.array[0], &in->config, folder, &err)) &&
                   checkpoint_load_moments(t->model, &in->tables, &in->config, folder, &err),
               &err);
}

// Could all numbers become codes? The scales of q8 are f16: from 8.3 million on, a block's numbers are not.
static inline bool trainer_base_fits(const Trainer *t, Error *err) {
    const Config *c = &t->in.config;
    if (t->o->base != BASE_Q8) return true;
    ParamTable table = param_table(c);
    float *values = (float *)mem_alloc(sizeof(float) * DISK_PIECE);
    bool ok = true;
    for (int i = 0; ok && i < table.count; i++) {
        const Param *p = &table.items[i];
        if (p->group != GROUP_MATRIX) continue;
        for (size_t at = 0; ok && at < p->count; at += DISK_PIECE) {
            Param piece = param_piece(p, at, p->count - at < DISK_PIECE ? p->count - at : DISK_PIECE);
            model_get(t->model, MODEL_WEIGHT, &piece, values, t->dist->rank);
            ok = all_finite(values, piece.count);
        }
        if (!ok)
            error_set(err, "--base=q8: numbers of %s in %s are above 8.3 million, more than Q8_0 can hold: take nf4",
                      p->name, t->o->model);
    }
    free(values);
    param_table_free(&table);
    return ok;
}

// The frozen weights that an adapter stands on, which no checkpoint holds.
static inline void trainer_load_base(Trainer *t) {
    const RunInputs *in = &t->in;
    Error err;
    if (!in->config.lora.rank) return;
    dist_agree(t->dist, folder_load_weights(t->model, &in->tables.array[0], &in->config, t->o->model, &err), &err);
    dist_agree(t->dist, trainer_base_fits(t, &err), &err);
    log_line(&t->log, "the adapter stands on the weights of %s%s", t->o->model,
             base_said(&in->config, t->o->base).text);
}

// The weights of --model, whose vocabulary may be smaller; tokens that nobody has trained begin as the mean of others.
static inline bool trainer_load_folder(Trainer *t, Error *err) {
    const RunInputs *in = &t->in;
    const ParamTable *table = &in->tables.array[0];
    ParamTable there = param_table_fewer(table, in->base_vocab ? in->base_vocab : in->config.vocab_size);
    bool ok = folder_load_weights(t->model, &there, &in->config, t->o->model, err);
    param_table_fewer_free(&there);
    return ok && (!in->fresh.count || embed_mean(t->model, table, &in->config, t->o->model, &in->fresh, err));
}

// The weights that a new run begins with. Returns whether they are those of a folder, and not new ones.
static inline bool trainer_load_start(Trainer *t) {
    const Options *o = t->o;
    const RunInputs *in = &t->in;
    Error err;
    bool folder = false, weights = false;
    dist_agree(t->dist, folder_look(o->model, &folder, &weights, &err), &err);
    const ParamTable *table = &in->tables.array[0];
    if (!weights || in->config.lora.rank) model_init_weights(t->model, table, &in->config, (uint64_t)o->seed);
    else if (*o->init_embeddings)
        dist_agree(t->dist,
                   embeddings_load(t->model, &t->embeddings, table, &in->config, &in->tokenizer, o->model, &err), &err);
    else dist_agree(t->dist, trainer_load_folder(t, &err), &err);
    return weights;
}

// The references of pairs that are missing, by the weights that the run begins with, which the model has.
static inline void trainer_references(Trainer *t) {
    References *r = &t->pairs.references;
    double start = clock_seconds();
    int64_t missing = r->missing;
    if (!r->count) return;
    if (missing) {
        Evaluation e = {t->model, t->source, NULL, t->dist, t->B, 0, NULL, NULL};
        const char *numbers = model_precision(t->model) == PRECISION_BF16 ? "bf16" : "fp32";
        references_compute(r, &e, path_of("%s, %s", engine_name(), numbers).text);
    }
    log_line(&t->log, "references: %lld pairs by the model of hash %016" PRIx64 ", %lld of them stored; %.1f s",
             (long long)(r->stored + missing), r->model, (long long)r->stored, clock_seconds() - start);
}

static inline void trainer_load(Trainer *t, const char *checkpoint) {
    trainer_load_base(t);
    if (*checkpoint && t->pairs.references.missing && !t->in.config.lora.rank) trainer_load_start(t);
    if (*checkpoint) {
        trainer_references(t);
        trainer_load_checkpoint(t, checkpoint);
        log_line(&t->log, "resumed from %s", checkpoint);
        log_notes(&t->log, &t->notes);
        if (t->o->lr == LR_AUTO)
            log_line(&t->log, "--lr=auto: %g, as it was chosen before the first step", t->state.lr);
    } else if ((t->loaded = trainer_load_start(t))) {
        bool other = *t->o->init_embeddings != 0;
        if (t->dist->rank == 0) accounting_base(&t->account, t->o->model, other ? &t->embeddings : NULL);
        if (!t->in.config.lora.rank) log_line(&t->log, "weights from %s", t->o->model);
        else log_line(&t->log, "a new adapter from seed %lld", (long long)t->o->seed);
        if (other) log_line(&t->log, "%s", embeddings_said(&t->embeddings).text);
    } else {
        log_line(&t->log, "new weights from seed %lld", (long long)t->o->seed);
    }
    if (!*checkpoint) trainer_references(t);
}

// Has the run made its last step?
static inline bool trainer_over(const Trainer *t) {
    bool time = t->budget.limit > 0 && t->state.seconds >= t->budget.limit;
    return time || t->state.step >= t->o->steps;
}

// What Muon costs: the same for many tokens a step as for few.
static inline void trainer_log_muon(Trainer *t) {
    const Options *o = t->o;
    const ParamTable *table = &t->in.tables.array[0];
    MuonRule rule = muon_rule(o);
    int ranks = t->dist->size, group = o->zero == 0 ? 1 : o->zero_group > 0 ? (int)o->zero_group : ranks;
    double flops = 0, passes = (double)t->step_tokens * t->flops_per_token;
    for (int i = 0; i < table->count; i++) flops += param_muon_flops(&table->items[i], &t->in.config, &rule);
    t->update_flops = flops * ranks / group; // every group of ranks does all of it
    double share = t->update_flops / (t->update_flops + passes);
    log_line(&t->log,
             "Muon: %.3e FLOPs an update = %d x (3 m^2 n + m^3), summed over matrices of m x n, m <= n; %.1f%% of a "
             "step's arithmetic%s",
             flops, rule.steps, 100 * share,
             share > 0.2 ? "; more --total_batch_tokens or fewer --muon_steps make it less" : "");
}

// --lr=auto has not chosen yet.
static inline bool trainer_lr_open(const Trainer *t) { return t->o->lr == LR_AUTO && t->state.lr == 0; }

static inline void trainer_log_schedule(Trainer *t) {
    Str chart;
    memset(&chart, 0, sizeof chart);
    schedule_print(&chart, &t->schedule, t->o->time_budget);
    log_text(&t->log, "%s", chart.data);
    free(chart.data);
}

// Everything that a reader of run.log needs to make the run again. options: as a run records them.
static inline void trainer_log_run(Trainer *t, const char *options) {
    const Options *o = t->o;
    Log *log = &t->log;
    log_line(log, "%s, commit %s, compiler %s", engine_name(), build_commit, __VERSION__);
    log_text(log, "options: {%s\n}", options);
    log_line(log, "device: %s; %d rank%s", model_device(t->model), t->dist->size, t->dist->size == 1 ? "" : "s");
    inputs_log(log, &t->in, o);
    if (o->objective != OBJECTIVE_NEXT)
        log_line(log,
                 "objective: %s, beta %g, label smoothing %g, gamma %g; the loss is the mean over pairs of answers",
                 objective_name(o->objective), o->beta, o->label_smoothing, o->simpo_gamma);
    double epochs = (double)o->steps * ((double)t->step_tokens / t->T) / (double)t->source.sequences;
    char steps[64];
    if (o->time_budget > 0) snprintf(steps, sizeof steps, "as many steps as fit into %g minutes", o->time_budget);
    else snprintf(steps, sizeof steps, "%lld steps", (long long)o->steps);
    log_line(log, "%s, of %lld tokens (%d x %d x %d x %d micro-batches)", steps, (long long)t->step_tokens,
             t->dist->size, t->B, t->T, t->micro_batches);
    if (o->steps < STEPS_MOST)
        log_line(log, "%s%lld steps are %.2fM tokens, %.2f epochs over the training data",
                 o->time_budget > 0 ? "at most: " : "", (long long)o->steps,
                 (double)o->steps * (double)t->step_tokens / 1e6, epochs);
    if (o->steps < STEPS_MOST) inputs_log_mix(log, &t->in.mix, o->steps * (t->step_tokens / t->T), "to be seen");
    int64_t all = t->in.val.tokens, some = int64_min(o->val_tokens ? o->val_tokens : all, all);
    int64_t last = int64_min(o->final_val_tokens ? o->final_val_tokens : all, all);
    if (o->val_every > 0) // a forward pass is a third of a step
        log_line(log,
                 "validation: %lld of %lld tokens every %lld steps; %s%lld at the end, about as long as %.0f steps",
                 (long long)some, (long long)all, (long long)o->val_every, last == all ? "all " : "", (long long)last,
                 (double)last / 3 / (double)t->step_tokens);
    log_line(log, "FLOPs a token: %.3e = %s; peak %.1f GFLOP/s", t->flops_per_token, flops_formula(&t->in.config),
             t->peak_flops / 1e9);
    if (*o->teacher)
        log_line(log,
                 "teacher: %s, %.2fM parameters, hash %016" PRIx64 "; the loss is %g of cross entropy and %g x %g^2 of "
                 "the divergence from its distribution, at temperature %g; its pass: %.3e FLOPs a token",
                 o->teacher, teacher_parameters(&t->teacher) / 1e6, t->teacher.hash, 1 - o->distill_alpha,
                 o->distill_alpha, o->distill_temperature, o->distill_temperature, t->teacher_flops);
    if (o->by_size.size) log_line(&t->log, "by the preset's size: %s", o->by_size.data);
    if (o->optimizer != OPTIMIZER_ADAMW) trainer_log_muon(t);
    if (!trainer_lr_open(t)) trainer_log_schedule(t);
}

// An option that changes nothing beside the others is an error: whoever gave it expects something of it.
static inline bool trainer_options_effective(const Options *o, Error *err) {
    const bool muon = o->optimizer != OPTIMIZER_ADAMW, normuon = o->optimizer == OPTIMIZER_NORMUON,
               samples = o->sample_every > 0, pairs = o->objective != OBJECTIVE_NEXT,
               smoothed = o->objective == OBJECTIVE_DPO || o->objective == OBJECTIVE_SIMPO;
    const struct {
        const char *name, *needs;
        bool met;
    } rules[] = {{"muon_lr", "--optimizer=muon or normuon", muon},
                 {"muon_scale", "--optimizer=muon or normuon", muon},
                 {"muon_momentum", "--optimizer=muon or normuon", muon},
                 {"muon_nesterov", "--optimizer=muon or normuon", muon},
                 {"muon_steps", "--optimizer=muon or normuon", muon},
                 {"muon_polynomials", "--optimizer=muon or normuon", muon},
                 {"muon_cautious", "--optimizer=muon or normuon", muon},
                 {"muon_beta2", "--optimizer=normuon", normuon},
                 {"lora_alpha", "--lora_rank", o->lora_rank > 0},
                 {"lora_targets", "--lora_rank", o->lora_rank > 0},
                 {"lora_dropout", "--lora_rank", o->lora_rank > 0},
                 {"lora_rs", "--lora_rank", o->lora_rank > 0},
                 {"lora_plus", "--lora_rank", o->lora_rank > 0},
                 {"base", "--lora_rank", o->lora_rank > 0},
                 {"beta", "--objective=dpo, ipo, simpo or orpo", pairs},
                 {"label_smoothing", "--objective=dpo or simpo", smoothed},
                 {"simpo_gamma", "--objective=simpo", o->objective == OBJECTIVE_SIMPO},
                 {"decay_fraction", "--lr_schedule=wsd", o->lr_schedule == SCHEDULE_WSD},
                 {"final_lr_fraction", "a --lr_schedule that is not constant", o->lr_schedule != SCHEDULE_CONSTANT},
                 {"sample_prompt", "--sample_every", samples},
                 {"eval_every", "--eval_tasks", *o->eval_tasks != 0},
                 {"truncate", "--eval_tasks", *o->eval_tasks != 0},
                 {"distill_alpha", "--teacher", *o->teacher != 0},
                 {"distill_temperature", "--teacher", *o->teacher != 0},
                 {"spike_limit", "--spike_action=skip or rollback", o->spike_action != SPIKE_NONE}};
    Options usual;
    Str was, is;
    memset(&was, 0, sizeof was);
    memset(&is, 0, sizeof is);
    bool ok = options_default(&usual, o->verb, err);
    for (size_t i = 0; ok && i < sizeof rules / sizeof *rules; i++) {
        const Option *p = option_find(rules[i].name);
        was.size = is.size = 0;
        option_text(&was, p, &usual), option_text(&is, p, o);
        str_puts(&was, ""), str_puts(&is, "");
        if (!rules[i].met && strcmp(was.data, is.data) != 0)
            ok = error_set(err, "--%s=%s has no effect without %s: give both, or neither", p->name, is.data,
                           rules[i].needs);
    }
    free(was.data), free(is.data);
    options_free(&usual);
    return ok;
}

// The schedule, by steps or by the budget of time. Warm-up is a share of either, or a number of steps. With --lr=auto
// its peak is still to be set.
static inline bool trainer_schedule(Trainer *t, Error *err) {
    const Options *o = t->o;
    if (!trainer_options_effective(o, err)) return false;
    if (o->lora_rank && o->optimizer != OPTIMIZER_ADAMW)
        return error_set(err,
                         "--optimizer=muon and normuon move the matrices inside blocks, which stay as they are with "
                         "--lora_rank: leave --optimizer out");
    if (o->warmup_steps > 0 && o->warmup_fraction > 0)
        return error_set(err, "--warmup_steps=%lld and --warmup_fraction=%g: give one of them",
                         (long long)o->warmup_steps, o->warmup_fraction);
    if (o->warmup_steps > 0 && o->time_budget > 0)
        return error_set(err,
                         "--warmup_steps=%lld with --time_budget=%g: nobody knows how many steps will fit; give the "
                         "warm-up as a share of the time, like --warmup_fraction=0.05",
                         (long long)o->warmup_steps, o->time_budget);
    int64_t warmup = o->warmup_fraction > 0 ? (int64_t)(o->warmup_fraction * (double)o->steps + 0.5) : o->warmup_steps;
    Schedule schedule =
        {o->lr_schedule,    o->lr, o->final_lr_fraction, o->decay_fraction, int64_min(warmup, o->steps), o->steps,
         o->warmup_fraction};
    t->schedule = schedule;
    return true;
}

// How the tokens of an update are cut into passes: ranks and micro-batches (gradient accumulation). What is counted
// over the run, tokens and sequences, must fit as well.
static inline bool trainer_batches(Trainer *t, Error *err) {
    const Options *o = t->o;
    int64_t pass = (int64_t)t->B * t->T * t->dist->size, total = o->total_batch_tokens, all;
    if (!config_check_batch(&t->in.config, t->B, t->T, err)) return false;
    t->step_tokens = total ? total : pass;
    if (t->step_tokens % pass)
        return error_set(err,
                         "--total_batch_tokens=%lld is not a multiple of batch_size x seq_len x ranks = %d x %d x %d = "
                         "%lld; take %lld or another batch size",
                         (long long)total, t->B, t->T, t->dist->size, (long long)pass,
                         (long long)((total / pass + 1) * pass));
    if (t->step_tokens / pass > INT32_MAX)
        return error_set(err,
                         "--total_batch_tokens=%lld is %lld micro-batches of %d x %d x %d (batch_size x seq_len x "
                         "ranks), more than %d; take fewer or a larger --batch_size",
                         (long long)total, (long long)(t->step_tokens / pass), t->B, t->T, t->dist->size, INT32_MAX);
    // A run that something else than its steps will end may have the most that there can be.
    if (o->steps < 1ll << 40 && (__builtin_mul_overflow(o->steps, t->step_tokens, &all) || all > INT64_MAX / 4))
        return error_set(err,
                         "--steps=%lld x %lld tokens a step = %.3g tokens, more than can be counted; take fewer steps",
                         (long long)o->steps, (long long)t->step_tokens, (double)o->steps * (double)t->step_tokens);
    if (o->warmup_steps > o->steps)
        return error_set(err, "--warmup_steps=%lld is more than --steps=%lld: the learning rate would never reach --lr",
                         (long long)o->warmup_steps, (long long)o->steps);
    t->micro_batches = (int)(t->step_tokens / pass);
    return true;
}

// --batch_size=auto: an update must not hang on the memory of the machine.
static inline bool trainer_batches_free(const Trainer *t, Error *err) {
    const Options *o = t->o;
    int64_t unit = (int64_t)t->T * t->dist->size;
    if (o->total_batch_tokens == 0)
        return error_set(err, "--batch_size=auto needs --total_batch_tokens, the tokens of an update: what is learned "
                              "must not hang on the memory of the machine");
    if (o->total_batch_tokens % unit)
        return error_set(err,
                         "--total_batch_tokens=%lld is not a multiple of seq_len x ranks = %d x %d = %lld; take %lld",
                         (long long)o->total_batch_tokens, t->T, t->dist->size, (long long)unit,
                         (long long)((o->total_batch_tokens / unit + 1) * unit));
    return true;
}

// What the options say of the model.
static inline ModelSetup trainer_setup(const Trainer *t) {
    const Options *o = t->o;
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.config = t->in.config;
    setup.batch_size = t->B;
    setup.seq_len = t->T;
    setup.recompute = t->recompute;
    setup.precision = o->precision;
    setup.kernels = o->kernels;
    setup.no_master = o->master_weights == MASTER_NONE;
    setup.zero = (int)o->zero;
    setup.zero_group = (int)o->zero_group;
    setup.base = o->base;
    setup.threads = (int)o->threads;
    setup.gradients = true;
    setup.pairs = o->objective != OBJECTIVE_NEXT;
    setup.muon = muon_rule(o);
    setup.teacher = *o->teacher ? &t->teacher.config : NULL;
    setup.dist = t->dist;
    return setup;
}

// What a resumed run takes of --recompute=auto and --batch_size=auto. A version that did not record them took "cheap".
static inline bool trainer_fit_again(Trainer *t, Error *err) {
    const RunState *s = &t->state;
    if (t->recompute == RECOMPUTE_AUTO) t->recompute = s->recompute == RECOMPUTE_AUTO ? RECOMPUTE_CHEAP : s->recompute;
    if (!t->B && !s->batch_size)
        return error_set(err, "--batch_size=auto: the checkpoint of step %lld does not say what it was; give a number",
                         (long long)s->step);
    if (!t->B) t->B = (int)s->batch_size;
    str_printf(&t->fit, "as before: --batch_size=%d, --recompute=%s", t->B, recompute_name(t->recompute));
    return true;
}

// --recompute=auto and --batch_size=auto. On all ranks, which choose the same: what the one with the least room can.
static inline bool trainer_fit(Trainer *t, Error *err) {
    const Options *o = t->o;
    bool free_batch = o->batch_size == INT_AUTO;
    if (!free_batch && o->recompute != RECOMPUTE_AUTO) return true;
    if (t->state.step > 0) return trainer_fit_again(t, err) && (!free_batch || trainer_batches(t, err));
    ModelSetup setup = trainer_setup(t), one = setup;
    one.batch_size = 1, one.recompute = RECOMPUTE_BLOCK;
    double *all = (double *)mem_alloc(sizeof(double) * (size_t)t->dist->size), room = engine_memory(t->dist);
    bool host = model_memory(&one).host;
    if (host && free_batch) room /= 2; // other programs live here, too
    if (host && room > 0)
        room = fmax(1, room - checkpoint_copy_bytes(o, &t->in.tables, t->dist) -
                           room_scratch(&t->in.tables.array[0], &t->in.config, true));
    dist_gather(t->dist, all, &room, sizeof room);
    for (int r = 0; r < t->dist->size; r++) room = fmin(room, all[r]);
    free(all);
    FitRoom f = {room, free_batch ? o->total_batch_tokens / ((int64_t)t->T * t->dist->size) : 0,
                 host ? RECOMPUTE_CHEAP : RECOMPUTE_NONE, 0};
    bool fits = room > 0 && fit_choose(&setup, &f);
    if (room <= 0 && !free_batch) setup.recompute = RECOMPUTE_CHEAP;
    if (!fits && free_batch && room <= 0)
        return error_set(err, "--batch_size=auto: how much memory there is cannot be seen here; give a number");
    if (!fits && free_batch)
        return error_set(err,
                         "--batch_size=auto: not even one sequence of %d tokens fits: it needs %.3f GiB with "
                         "--recompute=%s, and a model may take %.3f GiB here; take a smaller --seq_len or model",
                         t->T, fit_need(&setup, setup.recompute, 1, &f) / MEM_GIB, recompute_name(setup.recompute),
                         room / MEM_GIB);
    t->recompute = setup.recompute, t->B = setup.batch_size;
    str_printf(&t->fit, "by the memory: --recompute=%s, --batch_size=%d: %.3f GiB of %.3f that a model may take%s",
               recompute_name(t->recompute), t->B, fit_need(&setup, t->recompute, t->B, &f) / MEM_GIB, room / MEM_GIB,
               room <= 0 ? " (not known)"
               : fits    ? ""
                         : " (too little)");
    return !free_batch || trainer_batches(t, err);
}

// The tasks of --eval_tasks, as far as there are any. described: gets lines that must be the same on every rank.
static inline bool trainer_open_tasks(Trainer *t, Str *described, Error *err) {
    TaskRules rules = {&t->in.tokenizer, t->T, t->o->truncate != 0};
    if (*t->o->eval_tasks && !tasks_open(&t->tasks, t->o->eval_tasks, &rules, err)) return false;
    for (int i = 0; i < t->tasks.count; i++)
        str_printf(described, "the task %s of %zu items\n", t->tasks.tasks[i].name.text, t->tasks.tasks[i].count);
    if (t->tasks.count)
        str_printf(described, "the tokens of all tasks, of hash %016" PRIx64 "\n",
                   xxh64(t->tasks.ids.items, sizeof(int32_t) * t->tasks.ids.count, 0));
    return true;
}

// A checkpoint's embeddings mean the tokens that it was trained with. Shards of llm.c do not say which these were.
static inline bool trainer_same_tokenizer(const Trainer *t, const char *checkpoint, Error *err) {
    bool same = true;
    if (*checkpoint && !tokenizer_is_of(&same, t->in.tokenizer.hash, checkpoint, err)) return false;
    return same ? true
                : error_set(err,
                            "%s has another tokenizer than --tokenizer=%s; a run resumes only as what it was: choose "
                            "another --out",
                            checkpoint, t->o->tokenizer);
}

// Is what the weights come from that which was written, and the model of these options? On all ranks, which share the
// reading.
static inline void trainer_verify(const Trainer *t, const char *checkpoint) {
    const Options *o = t->o;
    const Dist *dist = t->dist;
    bool named = false;
    Error err;
    bool ok = true;
    if (o->verify && *checkpoint) ok = checkpoint_verify(checkpoint, dist->rank, dist->size, &err);
    if (ok && o->verify && (!*checkpoint || o->lora_rank)) // the model is in no checkpoint of an adapter
        ok = model_is_folder(&named, o->model, &err) &&
             (!named || checkpoint_verify_model(o->model, dist->rank, dist->size, &err));
    dist_agree(dist, ok, &err);
    dist_agree(dist, dist->rank > 0 || !*checkpoint || run_folder_model(checkpoint, &t->in.config, o, &err), &err);
    if (o->lora_rank && *checkpoint)
        dist_agree(dist,
                   dist->rank > 0 || (adapter_check_base(checkpoint, o->model, &err) &&
                                      adapter_check(&t->in.config, checkpoint, &err)),
                   &err);
}

// Everything that can be known to fail before memory is taken (preflight.h). *checkpoint: where to go on, or empty.
static inline void trainer_preflight(Trainer *t, const CheckpointKeep *keep, const char *options, Path *checkpoint) {
    const Options *o = t->o;
    Dist *dist = t->dist;
    Error err;
    dist_agree(dist, preflight_ranks(options, dist, &err), &err);
    dist_agree(dist,
               trainer_schedule(t, &err) && inputs_open(&t->in, o, &err) && objective_check(&t->in, o, &err) &&
                   teacher_open(&t->teacher, &t->in, o, &err) &&
                   (o->batch_size == INT_AUTO ? trainer_batches_free(t, &err) : trainer_batches(t, &err)),
               &err);
    Str s;
    memset(&s, 0, sizeof s);
    inputs_describe(&s, &t->in, o);
    dist_agree(dist, trainer_open_tasks(t, &s, &err), &err);
    dist_agree(dist, preflight_same(dist, "what is read is", s.data, &err), &err);
    free(s.data);
    t->source = source_of_mix(&t->in.mix, (uint64_t)o->seed);
    t->state.seed = o->seed;
    t->state.seq_len = o->seq_len;
    t->state.data = t->source.fingerprint;
    bool ok =
        dist->rank > 0 ||
        (run_folder_lock(&t->lock, o->out, &err) && run_folder_find(checkpoint, &t->state, &t->notes, o, &err) &&
         trainer_same_tokenizer(t, checkpoint->text, &err) && teacher_same(&t->teacher, checkpoint->text, o, &err));
    t->finished = trainer_over(t);
    ok = ok && (dist->rank > 0 || t->finished ||
                preflight_disk(o->out, keep, checkpoint_bytes(&t->in.tables), t->state.step, o->steps, &err));
    dist_agree(dist, ok, &err);
    // What rank 0 found counts: a shared file system may show others less for a moment.
    dist_broadcast(dist, &t->state, sizeof t->state);
    if (o->lr == LR_AUTO) t->schedule.peak = t->state.lr;
    dist_broadcast(dist, checkpoint, sizeof *checkpoint);
    checkpoint->text[sizeof checkpoint->text - 1] = 0;
    t->finished = trainer_over(t);
    trainer_verify(t, checkpoint->text);
    if (!t->finished)
        dist_agree(dist, data_verify(&t->in.train, o, dist, &err) && data_verify(&t->in.val, o, dist, &err), &err);
    bool resumes = checkpoint->text[0] && !o->lora_rank;
    const char *from = resumes ? checkpoint->text : o->model;
    bool folder = true, weights = true;
    dist_agree(dist, resumes || folder_look(o->model, &folder, &weights, &err), &err);
    Config there = t->in.config;
    if (!resumes && t->in.base_vocab) there.vocab_size = t->in.base_vocab;
    bool other = *o->init_embeddings && !resumes;
    if (!t->finished && weights)
        dist_agree(dist, other ? embeddings_check(o, &err) : folder_check_weights(&there, from, &err), &err);
    if (t->finished) return;
    bool reference = objective_has_reference(o->objective);
    dist_agree(dist, dist->rank > 0 || !(o->lora_rank || reference) || adapter_base(&t->in.base, o->model, &err), &err);
    References *r = &t->pairs.references;
    if (reference) r->sets[r->count++] = &t->in.train;
    if (reference && o->val_every > 0) r->sets[r->count++] = &t->in.val;
    references_open(r, t->in.base, dist);
    dist_agree(dist, engine_preflight(dist, &err), &err);
    dist_agree(dist, trainer_fit(t, &err), &err);
}

// The parts of the options that others take.
static inline void trainer_settings(Trainer *t, const Options *o, Dist *dist) {
    t->o = o;
    t->dist = dist;
    t->B = o->batch_size == INT_AUTO ? 0 : (int)o->batch_size;
    t->recompute = o->recompute;
    t->T = (int)o->seq_len;
    t->data_ok = true;
    t->ahead = -1;
    t->metrics.steps = o->steps;
    t->metrics.val_loss = t->metrics.val_bits = t->metrics.ce = t->metrics.kl = (double)NAN;
    SpikeRule spikes = {o->spike_window, o->spike_threshold, o->spike_action, o->spike_limit};
    Stop stop = {dist, path_of("%s/stop", o->out), clock_seconds(), o->max_minutes, 0};
    t->budget.limit = 60 * o->time_budget;
    t->pairs.rule = objective_of_options(o);
    t->budget.clock = clock_seconds;
    t->spikes = spikes;
    t->stop = stop;
    t->account.began = stop.started;
    t->saving.account = &t->account;
}

// Is there room for the model, its checkpoints and samples?
static inline void trainer_room(Trainer *t, const ModelSetup *setup) {
    const Options *o = t->o;
    const Config *c = &t->in.config;
    Error err;
    ParamTable all = param_table(c);
    RoomNeed need = {model_memory(setup), checkpoint_copy_bytes(o, &t->in.tables, t->dist),
                     room_scratch(&all, c, t->state.step == 0)};
    param_table_free(&all);
    double kv = (double)c->kv_heads * c->head_size * c->layers;
    if (o->sample_every && need.model.host) need.other += 2 * sizeof(float) * kv * t->T;
    if (need.model.host) need.other += fit_teacher(setup, 0);
    dist_agree(t->dist,
               room_check(&t->memory, &need, "training",
                          "take a smaller --batch_size or --seq_len, --recompute=block, --background_checkpoints=off "
                          "or "
                          "a smaller model",
                          t->dist, "", &err),
               &err);
}

static inline void trainer_make_model(Trainer *t) {
    const Options *o = t->o;
    Error err;
    ModelSetup setup = trainer_setup(t);
    bool goes_on = o->precision == PRECISION_AUTO && t->state.step > 0;
    if (goes_on) setup.precision = t->state.precision;
    trainer_room(t, &setup);
    t->model = model_create(&setup, &err);
    dist_agree(t->dist, t->model != NULL, &err);
    t->state.precision = model_precision(t->model);
    t->state.recompute = t->recompute;
    t->state.batch_size = t->B;
    t->flops_per_token = config_flops_per_token(&t->in.config, t->T);
    if (!setup.teacher) return;
    teacher_load(&t->teacher, t->model, &setup, o);
    t->teacher_flops = config_flops_per_token(setup.teacher, t->T) / 3; // the forward pass
}

static inline void trainer_open_writer(Trainer *t, const CheckpointKeep *keep) {
    const Options *o = t->o;
    Error err;
    CheckpointWriter *w = &t->saving.writer;
    w->run_dir = o->out;
    w->keep = *keep;
    w->tokenizer = &t->in.tokenizer;
    w->model = t->model;
    w->tables = &t->in.tables;
    w->config = &t->in.config;
    w->base = o->model;
    w->dist = t->dist;
    w->files = (int)o->checkpoint_files;
    w->copies = checkpoint_copies(o, t->dist);
    t->saving.log = &t->log;
    t->saving.mix = &t->in.mix;
    t->saving.base = o->lora_rank ? t->in.base : 0;
    if (*o->teacher) teacher_json(&t->taught, &t->teacher, o);
    t->saving.more = t->taught.data;
    dist_agree(t->dist, checkpoint_writer_open(w, &err), &err);
    checkpoint_probe(w);
}

static inline bool trainer_open_log(Trainer *t, bool append, Error *err) {
    Path metrics = path_of("%s/metrics.jsonl", t->o->out), log = path_of("%s/run.log", t->o->out);
    t->log.terminal = isatty(STDOUT_FILENO);
    t->log.progress = t->o->progress;
    return lines_open(&t->log.file, log.text, append ? -1 : 0, err) &&
           log_open_metrics(&t->log, metrics.text, t->state.step, err);
}

// The clock of the budget starts. On rank 0.
static inline bool trainer_open_budget(Trainer *t, Error *err) {
    Budget *b = &t->budget;
    Path record = path_of("%s/time_budget.jsonl", t->o->out);
    if (!b->limit) return true;
    if (!budget_open(b, record.text, t->state.position, t->state.seconds, err)) return false;
    log_line(&t->log, "%.1f of %g minutes are used", t->state.seconds / 60, t->o->time_budget);
    if (b->next < b->count)
        log_line(&t->log, "the first %zu steps follow the record %s, and the clock those behind them",
                 b->count - b->next, record.text);
    return true;
}

// The record of the run, before metrics.jsonl is cut to the checkpoint.
static inline void trainer_open_account(Trainer *t, const char *checkpoint) {
    Account *a = &t->account;
    Str changed;
    Error err;
    double threads = 1;
#ifdef _OPENMP
    threads = omp_get_max_threads();
#endif
    memset(&changed, 0, sizeof changed);
    account_open(a, t->dist, strcmp(engine_name(), "train_gpt") == 0, threads);
    bool root = t->dist->rank == 0;
    dist_agree(t->dist, !root || accounting_begin(a, &changed, checkpoint, t->o, &err), &err);
    if (root) account_describe(a, t->dist, model_device(t->model), t->state.step, changed.size ? changed.data : "");
    if (root) accounting_inputs(a, &t->in, t->o, t->flops_per_token);
    free(changed.data);
}

// Opens what is written for those who follow the run.
static inline void trainer_follow(Trainer *t) {
    FollowStart start = {t->o,           t->dist,       &t->in,         model_device(t->model),
                         t->memory.data, t->state.step, t->step_tokens, t->flops_per_token,
                         t->peak_flops};
    followers_open(&t->followers, &start);
}

static inline void trainer_prepare(Trainer *t, const Options *o, Dist *dist) {
    Error err;
    CheckpointKeep keep = {o->keep_checkpoints, o->checkpoint_every, o->spike_action == SPIKE_ROLLBACK};
    trainer_settings(t, o, dist);
    watchdog_open(&t->watchdog, o->comm_timeout, dist->rank, dist->host, &dist->launcher);
    dist->watchdog = &t->watchdog;
    Path checkpoint;
    Str options;
    memset(&checkpoint, 0, sizeof checkpoint);
    memset(&options, 0, sizeof options);
    options_json(&options, o);
    trainer_preflight(t, &keep, options.data, &checkpoint);
    double checked = clock_seconds() - t->stop.started;
    if (t->finished) {
        if (dist->rank == 0 && t->state.step >= o->steps)
            print_line("finished: %s has all %lld steps", checkpoint.text, (long long)o->steps);
        else if (dist->rank == 0)
            print_line("finished: %s is the last step in %g minutes", checkpoint.text, o->time_budget);
        if (dist->rank == 0) followers_report_again(o->out);
        free(options.data);
        return;
    }
    trainer_make_model(t);
    trainer_open_writer(t, &keep);
    size_t tokens = (size_t)t->micro_batches * (size_t)t->B * (size_t)t->T;
    t->inputs = (int32_t *)mem_alloc(sizeof(int32_t) * tokens);
    t->targets = (int32_t *)mem_alloc(sizeof(int32_t) * tokens);
    if (t->source.documents) t->starts = (int32_t *)mem_alloc(sizeof(int32_t) * tokens);
    pair_passes_open(&t->pairs, t->micro_batches, t->B, t->T);
    Evaluation v =
        {t->model, source_of_dataset(&t->in.val, false, 0), &t->in.tokenizer, dist, t->B, o->val_tokens, NULL, NULL};
    t->validation = v;
    t->peak_flops = model_peak_flops(t->model) * dist->size;
    trainer_open_account(t, checkpoint.text);
    dist_agree(dist, dist->rank > 0 || trainer_open_log(t, o->resume == RESUME_AUTO, &err), &err);
    if (dist->rank == 0) {
        trainer_log_run(t, options.data);
        log_line(&t->log, "checks before the start: %d rank%s, program, options, files, disk and devices, %.2f s",
                 dist->size, dist->size == 1 ? "" : "s", checked);
        log_line(&t->log, "%s", t->memory.data);
        if (t->fit.size) log_line(&t->log, "%s", t->fit.data);
        if (!o->verify) log_line(&t->log, "--verify=off: the checksums of what is read were not looked at");
    }
    if (dist->rank == 0) trainer_follow(t);
    if (dist->rank == 0) data_hints(&t->log, &t->in.train, &t->in.val, t->step_tokens / t->T);
    free(options.data);
    trainer_load(t, checkpoint.text);
}

// Ends the job with an error if lines of its files could not be written. Called by all ranks.
static inline void trainer_close(Trainer *t) {
    Error err;
    bool ok = log_close(&t->log, &err);
    ok = lines_finish(&t->budget.file, ok ? &err : NULL) && ok;
    dist_agree(t->dist, ok, &err);
    free(t->budget.marks);
    if (t->model) checkpoint_writer_close(&t->saving.writer);
    model_destroy(t->model);
    inputs_close(&t->in);
    tasks_free(&t->tasks);
    free(t->scores.data);
    free(t->memory.data);
    free(t->fit.data);
    free(t->lr_test.data);
    free(t->taught.data);
    account_free(&t->account);
    free(t->line.data);
    free(t->inputs);
    free(t->targets);
    free(t->starts);
    pair_passes_free(&t->pairs);
    if (t->lock > 0) close(t->lock);
    free(t->notes.data);
    t->dist->watchdog = NULL;
    watchdog_close(&t->watchdog);
    free(t);
}

#endif
