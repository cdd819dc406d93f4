/*
teach.h: the teacher of --teacher: is it one for this run, what memory does it take, how does it come beside the model,
and what of it a checkpoint's run.json keeps.

Every rank has a whole teacher: it is not sharded. It runs in the precision of the model, forward alone, so that its
activations are those of one block, and has logits for a chunk of rows (model_teach in engine.h).
*/
#ifndef LLMC_TEACH_H
#define LLMC_TEACH_H

#include "../files/adapters.h"
#include "inputs.h"

typedef struct {
    Config config;
    uint64_t hash; // adapter_base of its folder, on rank 0
} Teacher;

// Whether a teacher can teach a model of this vocabulary on rows of --seq_len tokens.
static inline bool teacher_fits(const Config *teacher, const Config *c, const Options *o, Error *err) {
    if (teacher->vocab_size != c->vocab_size)
        return error_set(err, "--teacher=%s has a vocabulary of %d, the model %s of %d: both must have the same",
                         o->teacher, teacher->vocab_size, o->model, c->vocab_size);
    if (o->seq_len > teacher->max_seq_len)
        return error_set(err, "--seq_len=%lld is longer than the %d positions of --teacher=%s", (long long)o->seq_len,
                         teacher->max_seq_len, o->teacher);
    return true;
}

// Its config, if it is a teacher for this run.
static inline bool teacher_open(Teacher *t, const RunInputs *in, const Options *o, Error *err) {
    bool folder = false, weights = false, same = false;
    if (!*o->teacher) return true;
    if (!folder_look(o->teacher, &folder, &weights, err)) return false;
    if (!weights)
        return error_set(err, "--teacher=%s needs a folder with weights (a checkpoint or a Hugging Face model)%s",
                         o->teacher, folder ? "" : model_folder_beside(o->teacher).text);
    if (!folder_read_config(&t->config, o->teacher, err)) return false;
    Tokenizer given; // in->tokenizer may have got the tokens of a chat template since
    if (!tokenizer_open(&given, o->tokenizer, err)) return false;
    bool ok = tokenizer_is_of(&same, given.hash, o->teacher, err) &&
              (same || tokenizer_is_of(&same, in->tokenizer.hash, o->teacher, err));
    tokenizer_free(&given);
    if (!ok) return false;
    if (!same)
        return error_set(err,
                         "--teacher=%s has another tokenizer than --tokenizer=%s, so that its numbers mean other text: "
                         "take a teacher that was trained with the same tokenizer.json",
                         o->teacher, o->tokenizer);
    return teacher_fits(&t->config, &in->config, o, err) && folder_check_weights(&t->config, o->teacher, err);
}

// Is the teacher that which the checkpoint was made with? Sets its hash. On rank 0; checkpoint: empty at a new start.
static inline bool teacher_same(Teacher *t, const char *checkpoint, const Options *o, Error *err) {
    RunRecord r;
    if (*o->teacher && !adapter_base(&t->hash, o->teacher, err)) return false;
    if (!*checkpoint) return true;
    if (!checkpoint_open(&r, checkpoint, err)) return false;
    const Json *j = json_get(r.root, "teacher");
    uint64_t hash = strtoull(json_string(json_get(j, "xxh64"), "0"), NULL, 16);
    double alpha = json_number(json_get(j, "alpha"), -1), temperature = json_number(json_get(j, "temperature"), -1);
    bool there = j != NULL;
    run_record_close(&r);
    const char *other = there != (*o->teacher != 0)             ? "--teacher"
                        : !there                                ? NULL
                        : hash != t->hash                       ? "--teacher (its weights differ)"
                        : alpha != o->distill_alpha             ? "--distill_alpha"
                        : temperature != o->distill_temperature ? "--distill_temperature"
                                                                : NULL;
    return !other ? true
                  : error_set(err,
                              "%s belongs to a run with another %s; a run resumes only as what it was: choose another "
                              "--out",
                              checkpoint, other);
}

static inline double teacher_parameters(const Teacher *t) {
    ParamTable table = param_table(&t->config);
    double n = (double)table.parameters;
    param_table_free(&table);
    return n;
}

// A line of run.json.
static inline void teacher_json(Str *s, const Teacher *t, const Options *o) {
    str_puts(s, "  \"teacher\": {\"path\": ");
    json_escape(s, o->teacher, strlen(o->teacher));
    str_printf(s, ", \"xxh64\": \"%016" PRIx64 "\", \"alpha\": %.17g, \"temperature\": %.17g},\n", t->hash,
               o->distill_alpha, o->distill_temperature);
}

// Loads it and puts it beside the model. On all ranks.
static inline void teacher_load(const Teacher *t, Model *m, const ModelSetup *model, const Options *o) {
    Error err;
    const Dist *dist = model->dist;
    ModelSetup s = setup_of_teacher(model);
    s.precision = model_precision(m); // where it was `auto`
    DistillRule rule = {o->distill_alpha, o->distill_temperature};
    dist_agree(dist, !o->verify || checkpoint_verify_model(o->teacher, dist->rank, dist->size, &err), &err);
    Model *teacher = model_create(&s, &err);
    dist_agree(dist, teacher != NULL, &err);
    ParamTable table = param_table(&t->config);
    dist_agree(dist, folder_load_weights(teacher, &table, &t->config, o->teacher, &err), &err);
    param_table_free(&table);
    model_teach(m, teacher, rule);
}

#endif
