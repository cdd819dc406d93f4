/*
inputs.h: what a run reads: tokenizer, model, data. Whether they fit together, and what run.log says of them.
*/
#ifndef LLMC_INPUTS_H
#define LLMC_INPUTS_H

#include "../files/checkpoint.h"
#include "../text/mix.h"
#include "../text/tokenizer_folder.h"
#include "../files/embed_mean.h"
#include "chat_inputs.h"
#include "data_checks.h"
#include "init_embeddings.h"
#include "load.h"
#include "log.h"
#include "options.h"

typedef struct {
    Tokenizer tokenizer;
    Dataset train, val;
    Mix mix; // of what is in train
    Config config;
    ChatTokens fresh;        // of conversations: tokens that nobody has trained yet
    int base_vocab;          // the vocabulary of --model, where it is smaller than config's; else 0
    CheckpointTables tables; // the weights' and the optimizer's
    Path stand_in;           // a checkpoint of the run, where the folder of --model is gone; else empty
    uint64_t base;           // of an adapter: adapter_base of --model, on rank 0 once the run's folder is known
} RunInputs;

// The run goes on, and the folder that it began with is gone: its checkpoints hold the model, too. *own: the newest
// one, if it says that --model was this; otherwise empty.
static inline bool inputs_stand_in(Path *own, const Options *o, Error *err) {
    RunRecord r;
    own->text[0] = 0;
    if (o->resume != RESUME_AUTO) return true;
    if (!checkpoint_newest(own, o->out, err)) return false;
    if (!own->text[0]) return true;
    if (!checkpoint_open(&r, own->text, err)) return false;
    if (strcmp(json_string(json_get(json_get(r.root, "options"), "model"), ""), o->model) != 0) own->text[0] = 0;
    run_record_close(&r);
    return true;
}

// The config of --model: a preset in the tokenizer's vocabulary, or a folder's own.
static inline bool inputs_config(RunInputs *in, const Options *o, Error *err) {
    int T = (int)o->seq_len;
    Tokenizer *tok = &in->tokenizer;
    Config *c = &in->config;
    Error why;
    bool folder, weights;
    if (!folder_look(o->model, &folder, &weights, err)) return false;
    if (*o->init_embeddings && folder && !weights)
        return error_set(err, "--init_embeddings=%s: the folder has no weights", o->init_embeddings);
    if (*o->init_embeddings && !folder && config_of_preset(c, o->model, &why))
        return error_set(err, "--init_embeddings=%s takes all weights from there: give --model=%s as well, not %s",
                         o->init_embeddings, o->init_embeddings, o->model);
    if (*o->init_embeddings && o->lora_rank)
        return error_set(err,
                         "--init_embeddings trains new rows of the embedding, which stays as it is with --lora_rank: "
                         "train without an adapter first");
    if (o->lora_rank && (!folder || !weights))
        return error_set(err,
                         "--lora_rank=%lld trains an adapter of a model that is there: --model=%s is no folder with "
                         "weights",
                         (long long)o->lora_rank, o->model);
    if (!folder && config_of_preset(c, o->model, &why)) {
        c->vocab_size = tok->vocab_size;
        c->max_seq_len = T;
        return config_check(c, err);
    }
    if (!folder && !inputs_stand_in(&in->stand_in, o, err)) return false;
    if (!folder && !in->stand_in.text[0])
        return strchr(o->model, '/') ? error_set(err, "--model=%s: no such folder", o->model)
                                     : error_set(err, "%.1000s", why.text);
    const char *model = folder ? o->model : in->stand_in.text;
    bool other = folder && *o->init_embeddings; // a checkpoint has the new tokenizer already
    if (!folder_read_config(c, model, err) ||
        !(other ? embeddings_config(c, tok, o, err) : tokenizer_of_model(tok, model, err)))
        return false;
    if (c->vocab_size < tok->vocab_size)
        return error_set(err, "the tokenizer %s has %d tokens, the model %s only %d: use the model's own tokenizer",
                         o->tokenizer, tok->vocab_size, o->model, c->vocab_size);
    if (T > c->max_seq_len) {
        if (!c->rope)
            return error_set(err, "--seq_len=%d is longer than the %d learned positions of %s", T, c->max_seq_len,
                             o->model);
        if (c->rope_scaling == ROPE_DYNAMIC)
            return error_set(err,
                             "--seq_len=%d is longer than the %d positions of %s, and behind them rope_type "
                             "\"dynamic\" "
                             "turns by angles that change with the length of each text: give a length up to there, or "
                             "change it in config.json, to \"yarn\" or \"linear\"",
                             T, c->max_seq_len, o->model);
        c->max_seq_len = T; // rotary positions have no table to outgrow
    }
    return lora_of_options(c, o, err);
}

static inline bool inputs_check_data(const RunInputs *in, const Dataset *d, const char *option, const char *files,
                                     const char *tokenizer, Error *err) {
    if (d->tokenizer_hash && d->tokenizer_hash != in->tokenizer.hash)
        return error_set(err, "--%s=%s was tokenised with another tokenizer than %s: run tokenize again with this one",
                         option, files, tokenizer);
    if (d->vocab_size > in->config.vocab_size)
        return error_set(err, "--%s=%s has a vocabulary of %lld, the model of %d", option, files,
                         (long long)d->vocab_size, in->config.vocab_size);
    return true;
}

// Conversations: the tokenizer gets their tokens and their template. A vocabulary without room for them grows.
static inline bool inputs_chat(RunInputs *in, const Options *o, Error *err) {
    const Dataset *const both[2] = {&in->train, &in->val};
    Config *c = &in->config;
    if (!in->train.chat_template && !in->val.chat_template) return true;
    if (*o->init_embeddings)
        return error_set(err,
                         "--init_embeddings with conversations: train on text first, and answers from its checkpoint");
    if (!chat_inputs_tokenizer(&in->tokenizer, &in->fresh, both, c->max_seq_len, err)) return false;
    if (in->tokenizer.vocab_size <= c->vocab_size) return true;
    if (o->lora_rank)
        return error_set(err,
                         "%s has no room for the tokens of the chat template, and an adapter adds no rows: train "
                         "without --lora_rank, or take a base with %d tokens",
                         o->model, in->tokenizer.vocab_size);
    in->base_vocab = c->vocab_size;
    c->vocab_size = in->tokenizer.vocab_size;
    return config_check(c, err);
}

// The token that ends the documents; shards of llm.c do not say.
static inline bool inputs_take_end(Tokenizer *tok, const Dataset *d, const char *files, Error *err) {
    return tokenizer_end_of_shards(tok, d->tokenizer_hash ? d->shards[0].header.eot : -1, files, err);
}

static inline bool inputs_open(RunInputs *in, const Options *o, Error *err) {
    int T = (int)o->seq_len;
    if (!tokenizer_open(&in->tokenizer, o->tokenizer, err) || !inputs_config(in, o, err) ||
        !mix_open(&in->mix, &in->train, o->train_data, T, err) || !dataset_open(&in->val, o->val_data, T, err) ||
        !inputs_chat(in, o, err) ||
        !inputs_check_data(in, &in->train, "train_data", o->train_data, o->tokenizer, err) ||
        !inputs_check_data(in, &in->val, "val_data", o->val_data, o->tokenizer, err) ||
        !inputs_take_end(&in->tokenizer, &in->train, o->train_data, err) ||
        !inputs_take_end(&in->tokenizer, &in->val, o->val_data, err) || !data_apart(&in->train, &in->val, o, err))
        return false;
    in->train.vocab_size = in->val.vocab_size = in->config.vocab_size;
    in->tables = checkpoint_tables(&in->config, o->optimizer);
    return true;
}

static inline void inputs_close(RunInputs *in) {
    checkpoint_tables_free(&in->tables);
    mix_close(&in->mix);
    dataset_close(&in->train);
    dataset_close(&in->val);
    tokenizer_free(&in->tokenizer);
}

// Lines that must be the same on every rank: what is trained on what. The lines of the data go without
// folders, which may be mounted elsewhere.
static inline void inputs_describe(Str *s, const RunInputs *in, const Options *o) {
    const Dataset *both[2] = {&in->train, &in->val};
    str_printf(s, "the tokenizer %s of hash %016" PRIx64 "\n", o->tokenizer, in->tokenizer.hash);
    str_printf(s, "the model %s: ", o->model);
    config_describe(s, &in->config);
    str_puts(s, "\n");
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < both[k]->count; i++) {
            const Shard *d = &both[k]->shards[i];
            const char *slash = strrchr(d->path, '/');
            str_printf(s, "the shard %s of %zu bytes, %lld tokens, checksum %016" PRIx64 "\n",
                       slash ? slash + 1 : d->path, d->file.size, (long long)d->header.tokens, d->header.checksum);
        }
}

// What a run sees of each source of a mixture up to a position.
static inline void inputs_log_mix(Log *log, const Mix *m, int64_t position, const char *when) {
    for (int k = 0; m->count > 1 && k < m->count; k++)
        log_line(log, "  %g%% from %s: %lld sequences of %lld %s, %.4f epochs",
                 100.0 * (double)m->sources[k].weight / MIX_UNIT, m->sources[k].list,
                 (long long)mix_seen(m, k, position), (long long)m->sources[k].sequences, when,
                 mix_epoch(m, k, position));
}

static inline void inputs_log(Log *log, const RunInputs *in, const Options *o) {
    const Config *c = &in->config;
    ParamTable whole = param_table(c);
    double all = (double)whole.parameters / 1e6, trained = (double)in->tables.array[0].parameters / 1e6;
    param_table_free(&whole);
    log_line(log, "model: %s, %.2fM parameters, %s", family_name(c->family), c->lora.rank ? all - trained : all,
             config_words(c).text);
    if (c->lora.rank)
        log_line(log, "adapter: rank %d, alpha %g%s, beside %s; %.3fM parameters, which alone are trained",
                 c->lora.rank, c->lora.alpha, c->lora.rs ? " (rsLoRA)" : "", o->lora_targets, trained);
    for (int i = 0; i < in->tables.array[0].count; i++) { // to run.log alone: it is long
        const Param *p = &in->tables.array[0].items[i];
        char shape[32];
        snprintf(shape, sizeof shape, p->is_vector ? "(%d)" : "(%d, %d)", p->rows, p->cols);
        log_file(log, "  %-22s %-16s %s\n", p->name, shape, p->group == GROUP_VECTOR ? "" : "decay");
    }
    Error err;
    char hex[65];
    bool read = sha256_file(hex, o->tokenizer, &err);
    log_line(log, "tokenizer: %s  %d tokens  sha256 %s", o->tokenizer, in->tokenizer.vocab_size, read ? hex : err.text);
    if (in->stand_in.text[0])
        log_line(log, "--model=%s is not there any more; the model is that of %s", o->model, in->stand_in.text);
    if (in->tokenizer.note.text[0]) log_line(log, "%s", in->tokenizer.note.text);
    for (int k = 0; k < 2; k++) {
        const Dataset *d = k ? &in->val : &in->train;
        log_line(log, "%s data: %lld tokens, %lld documents, %lld bytes of text, %lld sequences in %d shard%s",
                 k ? "validation" : "training", (long long)d->tokens, (long long)d->documents, (long long)d->bytes,
                 (long long)d->sequences, d->count, d->count == 1 ? "" : "s");
        chat_inputs_log(log, d, k ? "validation" : "training");
        for (int i = 0; i < d->count; i++)
            log_line(log, "  %s  %lld tokens  xxh64 %016" PRIx64, d->shards[i].path,
                     (long long)d->shards[i].header.tokens, d->shards[i].header.checksum);
    }
}

#endif
