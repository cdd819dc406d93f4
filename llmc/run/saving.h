/*
saving.h: the checkpoints of a run while it goes on: begun, looked after between steps, waited for.

They are written in the background (asynchronously). A write that fails is reported and tried again when the next is
due; only the last one of a run, at its end or at a stop, is waited for and must succeed.
*/
#ifndef LLMC_SAVING_H
#define LLMC_SAVING_H

#include "../account/account.h"
#include "../files/checkpoint_writer.h"
#include "help.h"
#include "log.h"
#include "../text/mix.h"
#include "run_folder.h"

typedef struct {
    CheckpointWriter writer;
    Log *log;
    Account *account; // the record of the run; NULL: none
    const Mix *mix;   // of the training data
    const char *more; // further lines of run.json
    uint64_t base;    // what an adapter stands on (adapter_base); 0: there is none
    int count;        // begun, and how long training stood still for them, seconds
    double stalled;
} Saving;

// A write that failed, and that the next one will make good.
static inline void saving_failed(Saving *s) {
    Error line;
    error_set(&line, "no checkpoint at step %lld: %.800s; training goes on, the next one is tried when it is due",
              (long long)s->writer.step, s->writer.err.text);
    log_line(s->log, "%s", line.text);
    warn("%s", line.text);
}

// Ends a write that is no longer under way, and says on rank 0 what became of it. False, on rank 0: it failed.
static inline bool saving_ended(Saving *s, bool waited) {
    CheckpointWriter *w = &s->writer;
    bool busy = w->busy;
    checkpoint_finish(w);
    if (w->dist->rank > 0 || !busy) return true;
    if (!w->ok) return false;
    Path p = checkpoint_folder(w->run_dir, w->step);
    log_line(s->log, "checkpoint %s (%.1f s%s)", p.text, w->seconds, waited ? "" : " in the background");
    if (w->prune_err.text[0]) warn("%s", w->prune_err.text);
    return true;
}

// Looks after a write in the background; between steps, on all ranks.
static inline void saving_look(Saving *s) {
    if (s->writer.busy && !checkpoint_under_way(&s->writer, 0) && !saving_ended(s, false)) saving_failed(s);
}

// Waits until no write is under way. Called by all ranks: they meet several times a second, so that a write of
// any length is none of the watchdog's business, but a rank that hangs is.
static inline void saving_wait(Saving *s) {
    while (dist_max(s->writer.dist, s->writer.busy && checkpoint_under_way(&s->writer, 0.2))) {}
}

static inline void saving_wait_and_look(Saving *s) {
    saving_wait(s);
    saving_look(s);
}

// A checkpoint of the step that was just done. last: it is waited for, and the job ends if it cannot be written.
static inline void saving_start(Saving *s, const RunState *state, const Options *o, bool last) {
    CheckpointWriter *w = &s->writer;
    double start = clock_seconds();
    if (w->busy && !checkpoint_ended(w, 0))
        log_line(s->log, "step %lld: waiting for the checkpoint of step %lld", (long long)state->step,
                 (long long)w->step);
    saving_wait_and_look(s);
    Str run;
    memset(&run, 0, sizeof run);
    run_state_json(&run, state);
    mix_json(&run, s->mix, state->position);
    if (w->config->lora.rank) adapter_base_json(&run, w->base, s->base, o->base);
    if (s->more) str_puts(&run, s->more);
    if (s->account) {
        AccountNow now = account_now(s->account, w->model, w->dist);
        if (w->dist->rank == 0) account_json(&run, s->account, &now, model_device(w->model));
    }
    str_puts(&run, "  \"options\": {");
    options_json(&run, o);
    str_puts(&run, "\n  },\n");
    if (s->log->metrics.fd > 0) lines_flush(&s->log->metrics); // a resume keeps the lines that are there
    checkpoint_start(w, state->step, run.data, w->dist->rank == 0 ? s->log->metrics.fd : 0);
    free(run.data);
    bool ok = true;
    if (last || !w->copies) {
        saving_wait(s);
        ok = saving_ended(s, true);
    }
    if (!last) {
        double stood = clock_seconds() - start;
        log_line(s->log, "step %lld: training stood still for %.1f ms for a checkpoint", (long long)state->step,
                 1e3 * stood);
        s->count++;
        s->stalled += stood;
        if (!ok) saving_failed(s);
        return;
    }
    Error err;
    if (!ok)
        error_set(&err, "no checkpoint at step %lld: %.800s; earlier checkpoints are untouched", (long long)state->step,
                  w->err.text);
    dist_agree(w->dist, ok, &err);
}

#endif
