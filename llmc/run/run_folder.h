/*
run_folder.h: the folder of a run, --out: one writer at a time, the checkpoint to go on from, and where a run stands, as
its lines in a checkpoint's run.json say.
*/
#ifndef LLMC_RUN_FOLDER_H
#define LLMC_RUN_FOLDER_H

#include "../files/checkpoint.h"
#include "help.h"
#include "spikes.h"

// Where a run stands, and what a resumed one must have in common with it.
typedef struct {
    int64_t step;     // done; an update each, but for those skipped
    int64_t position; // sequences seen, over all ranks: the next one to read from the source of batches
    int64_t tokens;   // trained on
    int64_t skipped;  // steps whose update was refused
    int64_t spikes;   // in a row, and the furthest step that was one
    int64_t spike_step;
    double seconds;     // of --time_budget that are used; 0: there is none
    double lr;          // that --lr=auto chose before the first step; 0: it was not asked
    int precision;      // Precision that the model works in
    int recompute;      // Recompute that it works with; AUTO: of a version that did not say
    int64_t batch_size; // B; 0: likewise
    SpikeWindow window;
    int64_t seed;
    int64_t seq_len;
    uint64_t data; // the source's fingerprint
} RunState;

static inline void run_state_json(Str *s, const RunState *state) {
    str_printf(s, "  \"step\": %lld,\n  \"position\": %lld,\n  \"tokens\": %lld,\n", (long long)state->step,
               (long long)state->position, (long long)state->tokens);
    str_printf(s, "  \"seconds\": %.17g,\n  \"lr\": %.17g,\n  \"precision\": \"%s\",\n", state->seconds, state->lr,
               state->precision == PRECISION_BF16 ? "bf16" : "fp32");
    static const char *const recomputes[] = {RECOMPUTES(CHOICE_NAME)};
    str_printf(s, "  \"recompute\": \"%s\",\n  \"batch_size\": %lld,\n", recomputes[state->recompute],
               (long long)state->batch_size);
    str_printf(s, "  \"skipped\": %lld,\n  \"spikes\": %lld,\n  \"spike_step\": %lld,\n  \"window\": {",
               (long long)state->skipped, (long long)state->spikes, (long long)state->spike_step);
    spike_json(s, &state->window);
    str_printf(s, "},\n  \"seed\": %lld,\n  \"seq_len\": %lld,\n  \"data\": \"%016" PRIx64 "\",\n",
               (long long)state->seed, (long long)state->seq_len, state->data);
}

// A number of the state: absent, it is what it is in records of versions before; of another type, it is damaged (-1).
static inline int64_t run_integer(const Json *root, const char *name, int64_t absent) {
    const Json *j = json_get(root, name);
    return j ? json_integer(j, -1) : absent;
}

// False: it is not the state of a run.
static inline bool run_state_read(RunState *state, const Json *root) {
    memset(state, 0, sizeof *state);
    state->step = run_integer(root, "step", -1);
    state->position = run_integer(root, "position", -1);
    state->tokens = run_integer(root, "tokens", -1);
    state->skipped = run_integer(root, "skipped", 0);
    state->spikes = run_integer(root, "spikes", 0);
    state->spike_step = run_integer(root, "spike_step", 0);
    const Json *seconds = json_get(root, "seconds"), *lr = json_get(root, "lr");
    state->seconds = seconds ? json_number(seconds, -1) : 0;
    state->lr = lr ? json_number(lr, -1) : 0;
    const char *precision = json_string(json_get(root, "precision"), "");
    state->precision = strcmp(precision, "bf16") == 0   ? PRECISION_BF16
                       : strcmp(precision, "fp32") == 0 ? PRECISION_FP32
                                                        : PRECISION_USUAL; // of a version before
    state->recompute = options_choice(CHOICES(RECOMPUTES), json_string(json_get(root, "recompute"), "auto"));
    state->batch_size = run_integer(root, "batch_size", 0);
    state->seed = run_integer(root, "seed", -1);
    state->seq_len = run_integer(root, "seq_len", -1);
    const char *data = json_string(json_get(root, "data"), "");
    state->data = strtoull(data, NULL, 16);
    return state->step >= 0 && state->position >= 0 && state->tokens >= 0 && state->skipped >= 0 &&
           state->skipped <= state->step && state->spikes >= 0 && state->spike_step >= 0 && state->seconds >= 0 &&
           state->lr >= 0 && isfinite(state->lr) && state->recompute >= 0 && state->batch_size >= 0 &&
           strlen(data) == 16 && spike_read(&state->window, json_get(root, "window"));
}

static inline bool run_state_wrong(const char *checkpoint, Error *err) {
    return error_set(err,
                     "%s/run.json does not describe a checkpoint; remove or rename %s to go on from an earlier one",
                     checkpoint, checkpoint);
}

// Reads the state of a checkpoint.
static inline bool run_state_load(RunState *state, const char *checkpoint, Error *err) {
    RunRecord r;
    if (!checkpoint_open(&r, checkpoint, err)) return false;
    bool ok = run_state_read(state, r.root);
    run_record_close(&r);
    return ok ? true : run_state_wrong(checkpoint, err);
}

// Makes the folder and locks it; the lock goes away with the process, however it ends. *lock: to be closed. On rank 0.
static inline bool run_folder_lock(int *lock, const char *run_dir, Error *err) {
    if (!path_make_folder(run_dir, err)) return false;
    Path path = path_of("%s/.lock", run_dir);
    *lock = open(path.text, O_CREAT | O_RDWR | O_CLOEXEC | O_NONBLOCK, 0666);
    if (*lock < 0) return error_set(err, "cannot write into %s: %s", run_dir, strerror(errno));
    int rc;
    while ((rc = flock(*lock, LOCK_EX | LOCK_NB)) != 0 && errno == EINTR) {}
    if (rc != 0 && errno == EWOULDBLOCK) return error_set(err, "another process is training in %s", run_dir);
    if (rc != 0 && errno != ENOSYS && errno != EOPNOTSUPP && errno != ENOLCK)
        return error_set(err, "cannot lock %s: %s", path.text, strerror(errno));
    if (rc != 0)
        warn("%s cannot be locked (%s): see to it that no other process trains in it", run_dir, strerror(errno));
    return checkpoint_sweep(run_dir, err);
}

// ---------------------------------------------------------------- the options of a run that goes on

// A recorded value as a user would write it.
static inline void run_option_recorded(Str *s, const Option *p, const Json *j, const Options *usual) {
    if (json_is(j, JSON_BOOL)) str_puts(s, j->boolean ? "on" : "off");
    else if (json_is(j, JSON_NUMBER) || json_is(j, JSON_STRING)) str_add(s, j->text, j->size);
    else option_text(s, p, usual); // there was no such option
}

// "lr 0.003 -> 0.001, ...": what is now another option than the checkpoint's, as far as results hang on it.
static inline void run_options_changed(Str *s, const Json *recorded, const Options *o) {
    static const char *const aside[] = {"out",          "resume",      "verify",           "progress",
                                        "comm_timeout", "max_minutes", "checkpoint_files", "background_checkpoints",
                                        "tensorboard",  "mlflow"};
    Options usual;
    options_default(&usual, o->verb, NULL);
    for (const Option *p = option_rows; p < option_rows + OPTION_COUNT; p++) {
        bool told = (p->verbs & 1 << o->verb) != 0;
        for (size_t i = 0; i < sizeof aside / sizeof *aside; i++) told = told && strcmp(p->name, aside[i]) != 0;
        if (!told) continue;
        Str was, is;
        memset(&was, 0, sizeof was);
        memset(&is, 0, sizeof is);
        run_option_recorded(&was, p, json_get(recorded, p->name), &usual);
        option_text(&is, p, o);
        str_puts(&was, ""), str_puts(&is, "");
        if (strcmp(was.data, is.data) != 0)
            str_printf(s, "%s%s %s -> %s", s->size ? ", " : "", p->name, *was.data ? was.data : "(empty)",
                       *is.data ? is.data : "(empty)");
        free(was.data);
        free(is.data);
    }
    options_free(&usual);
}

// ---------------------------------------------------------------- where to go on

// Finds the newest checkpoint of the run folder, and refuses a folder that holds another run. state holds what this run
// is (seed, length, data), and then where the checkpoint stands; *folder is empty when there is none. notes: lines for
// the log, each with its newline. On rank 0.
static inline bool run_folder_find(Path *folder, RunState *state, Str *notes, const Options *o, Error *err) {
    FileKind kind;
    struct stat st;
    Path metrics = path_of("%s/metrics.jsonl", o->out);
    folder->text[0] = 0;
    st.st_size = 0; // of a start that failed before its first step
    if (!checkpoint_newest(folder, o->out, err) || !path_look(metrics.text, &kind, err)) return false;
    int fd = kind == FILE_ABSENT ? -1 : file_open(metrics.text, &st, err);
    if (fd < 0 && kind != FILE_ABSENT) return false;
    if (fd >= 0) close(fd);
    if (o->resume == RESUME_NO && (folder->text[0] || st.st_size > 0))
        return error_set(err, "%s holds another run; go on with it by --resume=auto, or choose another --out", o->out);
    if (!folder->text[0]) return true;
    RunState s;
    RunRecord r;
    if (!checkpoint_open(&r, folder->text, err)) return false;
    bool ok = run_state_read(&s, r.root);
    Str changed;
    memset(&changed, 0, sizeof changed);
    run_options_changed(&changed, json_get(r.root, "options"), o);
    if (!r.sealed)
        str_printf(notes, "%s/run.json is of an earlier version of the program and has no checksum of its own\n",
                   folder->text);
    static const char *const optimizers[] = {OPTIMIZERS(CHOICE_NAME)}; // a record of before has none
    const char *optimizer = json_string(json_get(json_get(r.root, "options"), "optimizer"), optimizers[0]);
    bool same_optimizer = strcmp(optimizer, optimizers[o->optimizer]) == 0;
    Path base = path_of("%.100s", json_string(json_get(json_get(r.root, "options"), "base"), base_name(BASE_FULL)));
    text_make_printable(base.text);
    if (changed.size) text_make_printable(changed.data); // the record may be anybody's
    if (changed.size) str_printf(notes, "options changed since that checkpoint, old -> new: %s\n", changed.data);
    free(changed.data);
    run_record_close(&r);
    if (!ok) return run_state_wrong(folder->text, err);
    const char *other = NULL;
    if (s.seed != state->seed) other = "--seed";
    else if (s.seq_len != state->seq_len) other = "--seq_len";
    else if (s.data != state->data) other = "training data";
    else if (!same_optimizer) other = "--optimizer";
    if (!other && o->lr == LR_AUTO && s.lr == 0)
        return error_set(err,
                         "--lr=auto chooses before the first step, and %s stands at step %lld of a run that was given "
                         "a number: give --lr one",
                         folder->text, (long long)s.step);
    if (strcmp(base.text, base_name(o->base)) != 0)
        return error_set(err,
                         "%s belongs to a run with --base=%s, not %s; a run resumes only as what it was: choose "
                         "another --out",
                         folder->text, base.text, base_name(o->base));
    if (other)
        return error_set(err,
                         "%s belongs to a run with another %s; a run resumes only as what it was: choose another --out",
                         folder->text, other);
    *state = s;
    return true;
}

// Is the model of a checkpoint that of --model?
static inline bool run_folder_model(const char *checkpoint, const Config *config, const Options *o, Error *err) {
    Config c = *config;
    bool adapter;
    if (!folder_is_adapter(&adapter, checkpoint, err)) return false;
    if (adapter != (config->lora.rank > 0))
        return error_set(err, "%s holds %s; a run resumes only as what it was: choose another --out", checkpoint,
                         adapter ? "an adapter, and --lora_rank is not given" : "a model, and --lora_rank is given");
    if (!(adapter ? adapter_read_config(&c, checkpoint, err) : folder_read_config(&c, checkpoint, err))) return false;
    const char *field = adapter ? adapter_difference(&c.lora, &config->lora) : config_difference(&c, config);
    return !field ? true
                  : error_set(err, "%s holds another %s than --model=%s; choose another --out (%s differs)", checkpoint,
                              adapter ? "adapter" : "model", o->model, field);
}

#endif
