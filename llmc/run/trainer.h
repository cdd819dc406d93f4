/*
trainer.h: the training loop. It knows no arithmetic of the model, which is behind engine.h, and no files of data, which
are behind a source of batches.

    prepare: inputs, the run's folder, model, weights (prepare.h); a learning rate, if it is to be found (lr_test.h)
    step:    micro-batches forward and backward (gradient accumulation); update; metrics (metrics.h); now and then
             validate, sample, checkpoint (saving.h)
    stop:    done (exit 0); a signal, the time limit or the file RUN_DIR/stop (stop.h; a checkpoint, exit 3); a number
             that is not finite (nonfinite.h), a last checkpoint that cannot be written (exit 1)

What a step reads is a function of the step and the options alone, so a run that was killed and
resumed gives the same bits as one that was not, on the same number of ranks.

Spikes (spikes.h): a skipped step counts as a step and its data as seen, but neither weights nor moments
nor Adam's count of steps take notice. A rollback goes to the last checkpoint that --checkpoint_every made
(without one the step is skipped); the data go on behind the step that was the spike, so that none of
what led to it is seen again, and the metrics of the steps that were undone are taken out. Both are a
function of checkpoint and data, so a resumed run takes the same way.
*/
#ifndef LLMC_TRAINER_H
#define LLMC_TRAINER_H

#include "generate.h"
#include "lr_test.h"
#include "nonfinite.h"
#include "passes.h"
#include <sys/resource.h>

// ---------------------------------------------------------------- one step

// The learning rate of the step under way, and the mark, which is the same on all ranks.
static inline double trainer_lr(Trainer *t) {
    Budget *b = &t->budget;
    int64_t step = t->state.step + 1;
    if (!b->limit) return schedule_lr(&t->schedule, step);
    if (t->dist->rank == 0) t->mark = budget_begin(b, t->state.position, step, t->state.seconds);
    dist_broadcast(t->dist, &t->mark, sizeof t->mark);
    // --steps ends the run, too, if they come first.
    return schedule_lr_at(&t->schedule, fmax(t->mark / b->limit, (double)step / (double)t->o->steps));
}

// The rule of the step under way. Steps that were skipped are none of Adam's.
static inline UpdateRule trainer_rule(const Trainer *t) {
    const Options *o = t->o;
    bool bounded = o->spike_action != SPIKE_NONE;
    UpdateRule rule = rule_of_options(o, t->state.step + 1 - t->state.skipped, t->lr, t->schedule.peak);
    rule.max_loss = bounded ? t->bounds.max_loss * t->step_items : 0;
    rule.max_norm = bounded ? t->bounds.max_norm : 0;
    return rule;
}

// Forward and backward over the step's sequences, then the update. The gradient is that of the mean
// loss over all targets of the step, or all its pairs, on all ranks.
static inline UpdateResult trainer_step(Trainer *t) {
    t->lr = trainer_lr(t);
    trainer_passes(t);
    t->bounds = spike_bounds(&t->state.window, &t->spikes);
    UpdateRule rule = trainer_rule(t);
    if (model_begin_update(t->model, &rule)) trainer_read_ahead(t);
    UpdateResult r = model_update(t->model, &rule);
    r.loss /= t->step_items;
    pair_passes_tell(&t->pairs, t->model, t->dist);
    if (*t->o->teacher) {
        DistillSum sum = model_taught(t->model);
        double parts[2] = {sum.ce, sum.kl};
        dist_sum(t->dist, parts, 2);
        t->metrics.ce = parts[0] / t->step_targets, t->metrics.kl = parts[1] / t->step_targets;
    }
    if (t->budget.limit) {
        if (t->dist->rank == 0) budget_end(&t->budget, t->mark);
        t->state.seconds = t->mark;
    }
    return r;
}

// Generates from --sample_prompt, into the log. On all ranks: weights may be spread over them.
static inline void trainer_sample(Trainer *t) {
    const Options *o = t->o;
    const Config *c = &t->in.config;
    Generator g = generator_open(o, o->sample_prompt, c, &t->in.tokenizer);
    g.model = t->model;
    g.context_length = t->T < c->max_seq_len ? t->T : c->max_seq_len;
    Str text;
    Error err;
    bool ok = generate(&text, &g, (uint64_t)t->state.step << 32, &err);
    log_text(&t->log, "sample at step %lld: %s%s", (long long)t->state.step, o->sample_prompt, text.data);
    dist_agree(t->dist, ok, &err);
    followers_sample(&t->followers, t->state.step, o->sample_prompt, text.data);
    free(text.data);
    generator_free(&g);
}

// ---------------------------------------------------------------- spikes

// Back to the last regular checkpoint, with the data going on at `position`. False: there is none. Called
// by all ranks.
static inline bool trainer_roll_back(Trainer *t, int64_t position) {
    const Options *o = t->o;
    Dist *dist = t->dist;
    Error err;
    saving_wait_and_look(&t->saving);
    int64_t *steps = NULL, to = -1;
    int n = 0;
    dist_agree(dist, dist->rank > 0 || checkpoint_list(&steps, &n, o->out, &err), &err);
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
               (dist->rank > 0 || run_state_load(&s, folder.text, &err)) &&
                   checkpoint_verify(folder.text, dist->rank, dist->size, &err),
               &err);
    dist_broadcast(dist, &s, sizeof s);
    trainer_load_checkpoint(t, folder.text);
    model_zero_gradients(t->model);
    // Checkpoints of the steps that are undone would be taken for newer ones than those to come.
    bool ok = true;
    for (int i = 0; ok && i < n; i++)
        if (steps[i] > to) ok = checkpoint_remove(o->out, steps[i], &err);
    free(steps);
    if (ok && dist->rank == 0) ok = log_open_metrics(&t->log, metrics.text, to, &err);
    dist_agree(dist, ok, &err);
    followers_roll_back(&t->followers, to, t->state.step);
    s.position = position;
    // Time does not roll back. If the step was the last in the budget, another one takes its place.
    s.seconds = fmin(t->state.seconds, (1 - 1e-9) * t->budget.limit);
    s.spikes = t->state.spikes;
    s.spike_step = t->state.spike_step;
    t->state = s;
    dist_agree(dist, trainer_read(t), &t->data_err);
    return true;
}

typedef enum { STEP_TAKEN, STEP_SKIPPED, STEP_UNDONE } StepOutcome;

// Ends the job for a step that cannot be gone on from, after the checkpoint that may be under way.
PRINTF_LIKE(3, 4) static inline void trainer_give_up(Trainer *t, const Error *line, const char *format, ...) {
    Error err;
    va_list args;
    log_line(&t->log, "%s", line->text);
    size_t n = (size_t)snprintf(err.text, sizeof err.text, "%.500s; ", line->text);
    va_start(args, format);
    vsnprintf(err.text + n, sizeof err.text - n, format, args);
    va_end(args);
    saving_wait_and_look(&t->saving);
    followers_close(&t->followers, "failed", line->text);
    dist_agree(t->dist, false, &err);
}

// Why a step was refused or stands out, in one line.
static inline void trainer_describe(Trainer *t, const UpdateResult *r, const SpikeEvent *e, Error *line) {
    char name[64];
    if (!r->finite) {
        nonfinite_find_state(name, t->model, &t->in.tables, t->dist);
        error_set(line, "step %lld: loss %g, gradient norm %g, learning rate %g: after the update %s is not finite",
                  (long long)e->step, r->loss, r->grad_norm, t->lr, name);
    } else if (!isfinite(r->loss) || !isfinite(r->grad_norm)) {
        nonfinite_find(name, t->model, &t->in.tables.array[0], &t->in.config, t->dist, t->B, t->T);
        error_set(line, "step %lld: loss %g, gradient norm %g; the first tensor that is not finite is %s",
                  (long long)e->step, r->loss, r->grad_norm, name);
    } else {
        error_set(line,
                  "step %lld: loss %.6g, gradient norm %.6g stand %.1f and %.1f standard deviations above the last %d "
                  "steps",
                  (long long)e->step, r->loss, r->grad_norm, e->z_loss, e->z_norm, t->state.window.count);
    }
}

// What becomes of a step after its update, or the refusal of it; ends the job where that is the answer. All
// ranks see the same numbers and say the same. An update that left something that is not finite cannot be taken
// back but by a rollback.
static inline StepOutcome trainer_judge(Trainer *t, const UpdateResult *r) {
    static const char spoilt[] = "the weights are lost and no checkpoint is made of them: resume from the last one, or "
                                 "one before, with a lower --lr or --weight_decay";
    const SpikeRule *rule = &t->spikes;
    const SpikeBounds *b = &t->bounds;
    int64_t step = t->state.step + 1;
    if (!spike_judge(b, r)) {
        if (step >= t->state.spike_step) t->state.spikes = 0;
        return STEP_TAKEN;
    }
    SpikeEvent e = {spike_events[rule->action],          step, r->loss, r->grad_norm, spike_z(r->loss, &b->loss),
                    spike_z(r->grad_norm, &b->grad_norm)};
    bool finite = isfinite(r->loss) && isfinite(r->grad_norm);
    Error line;
    trainer_describe(t, r, &e, &line);
    if (!r->finite && rule->action != SPIKE_ROLLBACK) trainer_give_up(t, &line, "%s", spoilt);
    if (!finite && rule->action == SPIKE_NONE)
        trainer_give_up(t, &line,
                        "this step did not touch the weights, and no checkpoint is made of it: resume from the last "
                        "one, or one before, with a lower --lr or with --spike_action=skip, or look at the data of "
                        "this step");
    t->metrics.event = e;
    if (rule->action == SPIKE_NONE) {
        log_line(&t->log, "spike: %s", line.text);
        return STEP_TAKEN;
    }
    t->state.spikes++;
    t->state.spike_step = int64_max(t->state.spike_step, step);
    if (t->state.spikes > rule->limit)
        trainer_give_up(t, &line,
                        "these are %lld spikes in a row, --spike_limit=%lld: resume from the last checkpoint with a "
                        "lower --lr, or look at the data",
                        (long long)t->state.spikes, (long long)rule->limit);
    int64_t position = t->state.position + t->step_tokens / t->T;
    if (rule->action == SPIKE_ROLLBACK && trainer_roll_back(t, position)) {
        log_line(&t->log, "spike: %s; rolled back to step %lld, data go on at sequence %lld", line.text,
                 (long long)t->state.step, (long long)position);
        return STEP_UNDONE;
    }
    if (!r->finite) trainer_give_up(t, &line, "%s", spoilt);
    t->metrics.event.action = spike_events[SPIKE_SKIP];
    model_zero_gradients(t->model);
    log_line(&t->log, "spike: %s; its update was skipped", line.text);
    return STEP_SKIPPED;
}

// ---------------------------------------------------------------- the loop

static inline bool due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

// Between the batches of the last validation, which may be long: says how far it is, and looks for a reason to stop.
static inline bool trainer_go_on(void *context, int64_t done, int64_t all) {
    Trainer *t = (Trainer *)context;
    log_progress(&t->log, "the last validation: %lld of %lld sequences", (long long)done, (long long)all);
    rapl_joules(&t->account.rapl, clock_seconds(), false);
    t->stopped = stop_reason(&t->stop, true);
    return !t->stopped;
}

// The objective's loss and figures on the validation pairs, likewise.
static inline void trainer_validate_pairs(Trainer *t, const UpdateResult *r, const Evaluation *from, bool last) {
    StepMetrics *m = &t->metrics;
    Evaluation e = *from;
    double start = clock_seconds();
    e.source = t->validation.source; // pairs have no tails
    PairResult v;
    bool read = pairs_evaluate(&v, &e, &t->pairs.rule, &t->data_err);
    if (!read) t->data_ok = !*t->data_err.text; // the run stops for it
    m->validated = read && v.whole;
    if (!m->validated) return;
    Error err;
    error_set(&err,
              "the loss of the validation pairs, at step %lld, is %g, although all weights are finite: they are too "
              "large for its activations; take an earlier checkpoint",
              (long long)t->state.step, v.figures[PAIR_LOSS]);
    dist_agree(t->dist, isfinite(v.figures[PAIR_LOSS]), &err);
    m->val_loss = v.figures[PAIR_LOSS], m->val_bits = (double)NAN, m->val_tokens = (int64_t)v.tokens;
    pairs_json(&t->pairs.said, "val_", v.figures);
    t->account.flops += (double)evaluate_sequences(&e) * t->T * t->flops_per_token / 3; // the forward pass
    accounting_validation(&t->account, t->state.step, m->val_loss, m->val_bits, m->val_tokens);
    log_line(&t->log,
             "step %lld: train %.4f, val %.4f, margin %.4f, accuracy %.3f, log-probabilities %.2f and %.2f, over "
             "%s%.0f "
             "pairs in %.1f s",
             (long long)t->state.step, r->loss, m->val_loss, v.figures[PAIR_MARGIN], v.figures[PAIR_ACCURACY],
             v.figures[PAIR_CHOSEN_LOGP], v.figures[PAIR_REJECTED_LOGP],
             last && e.source.sequences == evaluate_sequences(&e) ? "all " : "", v.pairs, clock_seconds() - start);
}

// The loss on the validation data: on --val_tokens of them, or, behind the last step, on --final_val_tokens.
static inline void trainer_validate(Trainer *t, const UpdateResult *r, bool last) {
    StepMetrics *m = &t->metrics;
    Evaluation e = t->validation;
    double start = clock_seconds();
    if (last) {
        e.source = source_of_whole_dataset(&t->in.val);
        e.max_tokens = t->o->final_val_tokens, e.go_on = trainer_go_on, e.context = t;
    }
    if (t->pairs.rule.objective != OBJECTIVE_NEXT) {
        trainer_validate_pairs(t, r, &e, last);
        return;
    }
    char what[64];
    snprintf(what, sizeof what, "the validation data, at step %lld,", (long long)t->state.step);
    EvalResult v;
    bool read = evaluate(&v, &e, &t->data_err);
    if (!read) t->data_ok = !*t->data_err.text; // the run stops for it
    m->validated = read && v.whole;
    if (!m->validated) return;
    evaluate_refuse(&e, &v, what);
    m->val_loss = v.loss, m->val_bits = v.bits_per_byte, m->val_tokens = v.tokens;
    t->account.flops += (double)v.tokens * t->flops_per_token / 3; // the forward pass
    accounting_validation(&t->account, t->state.step, v.loss, v.bits_per_byte, v.tokens);
    char parts[64] = "";
    if (isfinite(m->kl)) snprintf(parts, sizeof parts, " (ce %.4f, kl %.4f)", m->ce, m->kl);
    log_line(&t->log, "step %lld: train %.4f%s, val %.4f nats/token, %.4f bits/byte, over %s%lld tokens in %.1f s",
             (long long)t->state.step, r->loss, parts, m->val_loss, m->val_bits,
             last && e.source.sequences == evaluate_sequences(&e) ? "all " : "", (long long)v.tokens,
             clock_seconds() - start);
}

// The scores of --eval_tasks, for the log and the line of this step in the metrics.
static inline void trainer_score(Trainer *t) {
    Error err;
    Str words;
    Scorer scorer = {t->model, t->dist, t->B, t->T, t->in.config.vocab_size, false, NULL, NULL};
    double start = clock_seconds();
    memset(&words, 0, sizeof words);
    dist_agree(t->dist, score(&t->tasks, &scorer, &err), &err);
    for (int i = 0; i < t->tasks.count; i++) {
        TaskScore *scores = task_scores(&t->tasks, &t->tasks.tasks[i]);
        task_metrics(&t->scores, &words, &t->tasks.tasks[i], &scores[0]);
        free(scores);
    }
    accounting_tasks(&t->account, t->state.step, t->scores.data, t->o->eval_tasks);
    log_line(&t->log, "step %lld: %s, in %.1f s", (long long)t->state.step, words.data, clock_seconds() - start);
    free(words.data);
}

// The step that was just done, as metrics and progress tell it. On all ranks.
static inline void trainer_tell(Trainer *t, const UpdateResult *r, double seconds, bool validate) {
    StepMetrics *m = &t->metrics;
    double limit = t->budget.limit;
    m->validated = false;
    t->scores.size = 0;
    if (t->tasks.count && (due(t->o->eval_every, t->state.step) || trainer_over(t))) trainer_score(t);
    m->scores = t->scores.size ? t->scores.data : NULL;
    if (validate) trainer_validate(t, r, trainer_over(t));
    m->pairs = t->pairs.said.size ? t->pairs.said.data : NULL;
    m->step = t->state.step;
    m->more = m->step == 1 ? t->lr_test.data : NULL;
    m->tokens = t->state.tokens;
    m->position = t->state.position;
    m->mix = &t->in.mix;
    m->epoch = (double)t->state.position / (double)t->source.sequences;
    m->loss = r->loss;
    m->targets = t->source.documents ? (int64_t)t->step_targets : 0;
    m->lr = t->lr;
    m->grad_norm = r->grad_norm;
    m->seconds = seconds;
    m->smoothed = m->smoothed == 0 ? seconds : 0.9 * m->smoothed + 0.1 * seconds;
    m->rate = (double)t->step_tokens / seconds;
    m->mfu = t->peak_flops > 0 ? m->rate * t->flops_per_token / t->peak_flops : (double)NAN;
    m->share = limit > 0 ? t->state.seconds / limit : (double)NAN;
    m->left = (double)(m->steps - m->step) * m->smoothed;
    if (limit > 0) m->left = fmin(m->left, limit - t->state.seconds);
    if (t->dist->rank == 0) {
        DeviceReadings d = model_readings(t->model);
        metrics_write(&t->line, &t->log, m, &d);
        followers_step(&t->followers, m->step, t->line.data, t->line.size);
    }
    memset(&m->event, 0, sizeof m->event);
    metrics_progress(&t->log, m);
}

// What is said at the end, finished or not.
static inline void trainer_sum_up(Trainer *t, double seconds) {
    const Options *o = t->o;
    Log *log = &t->log;
    if (t->saving.count)
        log_line(log, "training stood still for %.3f s, %.2f%% of the time, for %d checkpoints before the last",
                 t->saving.stalled, 100 * t->saving.stalled / seconds, t->saving.count);
    double muon = model_muon_seconds(t->model) - t->muon_before;
    if (o->optimizer != OPTIMIZER_ADAMW && isfinite(muon))
        log_line(log, "Muon's matrices took %.2f%% of the time", 100 * muon / seconds);
    if (t->followers.open)
        log_line(log, "curves, report and events took %.3f s, %.2f%% of the time", t->followers.seconds,
                 100 * t->followers.seconds / seconds);
    double kwh = model_readings(t->model).energy_kwh;
    dist_sum(t->dist, &kwh, 1);
    if (isfinite(kwh)) log_line(log, "energy: %.3f kWh, of the GPUs alone, since this start", kwh);
    if (!trainer_over(t)) return;
    Path p = checkpoint_folder(o->out, t->state.step);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used); // ru_maxrss is in KiB on Linux
    inputs_log_mix(log, &t->in.mix, t->state.position, "seen");
    log_line(log, "finished: %lld steps, %.2fM tokens, peak memory %.2f GB; the model is in %s",
             (long long)t->state.step, (double)t->state.tokens / 1e6, (double)used.ru_maxrss * 1024 / 1e9, p.text);
}

// Was the last validation, if one is wanted, made to its end?
static inline bool trainer_measured(const Trainer *t) { return t->metrics.validated || t->o->val_every == 0; }

// The checkpoint of the step that was just done, if one is due; waited for if it is the last.
static inline void trainer_save(Trainer *t, bool last) {
    bool end = last || t->stopped;
    if (end || due(t->o->checkpoint_every, t->state.step)) saving_start(&t->saving, &t->state, t->o, end);
    if (!end && due(t->o->checkpoint_every, t->state.step)) followers_checkpoint(&t->followers);
    if (!t->stopped) return;
    char why[128];
    stop_done(&t->stop, t->stopped, why);
    if (!last) followers_close(&t->followers, "stopped", why);
    if (!last)
        log_line(&t->log, "stopped by %s after step %lld; go on with --resume=auto", why, (long long)t->state.step);
    else if (!trainer_measured(t))
        log_line(&t->log, "stopped by %s in the last validation: the model is whole, and the verb eval can measure it",
                 why);
}

// Between the preparation and the first step: --lr=auto, then the clock of the budget, then what the step reads.
static inline void trainer_begin(Trainer *t) {
    Error err;
    if (trainer_lr_open(t)) trainer_test_lr(t);
    t->muon_before = model_muon_seconds(t->model);
    if (t->stopped) return;
    dist_agree(t->dist, t->dist->rank > 0 || trainer_open_budget(t, &err), &err);
    dist_agree(t->dist, trainer_read(t), &t->data_err);
}

// The verb `train`. Returns the exit code; ends the process on errors.
static inline int verb_train(const Options *o, Dist *dist) {
    Trainer *t = (Trainer *)mem_alloc(sizeof(Trainer));
    trainer_prepare(t, o, dist);
    if (!t->finished) trainer_begin(t);
    double began = clock_seconds();
    while (!trainer_over(t) && !t->stopped) {
        watchdog_step(dist->watchdog, t->state.step + 1);
        double start = clock_seconds() - t->data_seconds;
        UpdateResult r = trainer_step(t);
        double seconds = clock_seconds() - start;
        account_step(&t->account, (double)t->step_tokens * (t->flops_per_token + t->teacher_flops) + t->update_flops);
        StepOutcome outcome = trainer_judge(t, &r);
        if (outcome == STEP_UNDONE) continue;
        t->state.step++;
        t->state.position += t->step_tokens / t->T;
        if (outcome == STEP_SKIPPED) t->state.skipped++;
        else {
            t->state.tokens += t->step_tokens;
            spike_add(&t->state.window, o->spike_window, r.loss, r.grad_norm);
        }
        bool last = trainer_over(t);
        trainer_tell(t, &r, seconds, due(o->val_every, t->state.step) || (last && o->val_every > 0));
        if (due(o->sample_every, t->state.step)) trainer_sample(t);
        saving_look(&t->saving);
        if (!trainer_over(t)) trainer_read(t);
        if (!t->stopped) t->stopped = stop_reason(&t->stop, t->data_ok);
        trainer_save(t, last);
    }
    if (!t->finished) trainer_sum_up(t, clock_seconds() - began);
    followers_close(&t->followers, trainer_over(t) ? "finished" : "stopped", "");
    bool finished = t->finished || (trainer_over(t) && trainer_measured(t)), readable = t->data_ok;
    int stopped = t->stopped;
    Error err = t->data_err;
    size_t n = strlen(err.text);
    snprintf(err.text + n, sizeof err.text - n,
             "; the checkpoint of step %lld is written: make the file whole, and go "
             "on with --resume=auto",
             (long long)t->state.step);
    trainer_close(t);
    if (stopped == STOP_DATA) dist_agree(dist, readable, &err);
    return finished ? EXIT_DONE : EXIT_STOPPED;
}

#endif
