/*
load.h: the model of --model for the verbs that do not train.
*/
#ifndef LLMC_LOAD_H
#define LLMC_LOAD_H

#include "../files/checkpoint.h"
#include "../ranks/dist.h"
#include "options.h"
#include "../text/tokenizer_folder.h"
#include "room.h"

// A folder with weights, or, where `random` is allowed, a preset or a folder with only a config, with random
// weights from the seed.
typedef struct {
    Config config;
    ParamTable table;
    Model *model;
} LoadedModel;

// Where --model (or --adapter) names a run's folder: its newest checkpoint; otherwise *folder is empty. config: the
// file that tells a model's folder from a run's.
static inline bool model_of_run(Path *folder, const char *option, const char *model, const char *config, Error *err) {
    FileKind config_kind;
    bool named;
    Path run = path_of("%s", model);
    folder->text[0] = 0;
    for (size_t n = strlen(run.text); n > 1 && run.text[n - 1] == '/'; n--) run.text[n - 1] = 0;
    if (!model_is_folder(&named, model, err)) return false;
    if (!named) return true;
    if (!path_look(path_of("%s/%s", model, config).text, &config_kind, err)) return false;
    if (config_kind != FILE_ABSENT) return true;
    if (!checkpoint_newest(folder, run.text, err)) return false;
    return folder->text[0] ? true
                           : error_set(err, "--%s=%s: the folder has no %s, and no checkpoint of a run is in it",
                                       option, model, config);
}

// Takes a run's folder for its newest checkpoint, and says so. On all ranks.
static inline bool model_take_run(const char **model, Options *o, const char *option, const char *config,
                                  const Dist *dist, Error *err) {
    Path folder;
    memset(&folder, 0, sizeof folder);
    bool ok = dist->rank > 0 || !**model || model_of_run(&folder, option, *model, config, err);
    dist_broadcast(dist, &folder, sizeof folder); // others may see another one as the newest
    if (!ok || !folder.text[0]) return ok;
    if (dist->rank == 0)
        fprintf(stderr, "note: --%s=%s is a run: its newest checkpoint is taken, %s\n", option, *model, folder.text);
    str_list_add(&o->kept, folder.text);
    *model = o->kept.items[o->kept.count - 1];
    return true;
}

// Takes --model=RUN for the run's newest checkpoint, and says so; looks at the checksums of a checkpoint's model and of
// a tokenizer that lies in one. `train` looks at the model's later, when it knows from where it goes on. On all ranks.
static inline bool model_prepare(Options *o, const Dist *dist, Error *err) {
    bool named = false, ok = model_take_run(&o->model, o, "model", "config.json", dist, err) &&
                             model_take_run(&o->adapter, o, "adapter", "adapter_config.json", dist, err) &&
                             model_take_run(&o->draft, o, "draft", "config.json", dist, err) &&
                             model_take_run(&o->teacher, o, "teacher", "config.json", dist, err);
    if (!ok || !o->verify) return ok;
    if (*o->tokenizer && !checkpoint_verify_file(o->tokenizer, err)) return false;
    if (!*o->model || o->verb == VERB_TRAIN) return true;
    const char *beside[] = {o->adapter, o->draft};
    for (int i = 0; i < 2; i++)
        if (*beside[i] && !checkpoint_verify_model(beside[i], dist->rank, dist->size, err)) return false;
    return model_is_folder(&named, o->model, err) &&
           (!named || checkpoint_verify_model(o->model, dist->rank, dist->size, err));
}

// The adapter that the options ask for, on a model of config c.
static inline bool lora_of_options(Config *c, const Options *o, Error *err) {
    Lora lora = {(int)o->lora_rank, 0, o->lora_rs, o->lora_alpha, o->lora_dropout};
    Error why;
    if (!o->lora_rank) return base_check(c, o->base, err);
    if (!lora_targets_named(&lora.targets, c, o->lora_targets, &why))
        return error_set(err, "--lora_targets=%.200s: %.800s", o->lora_targets, why.text);
    c->lora = lora;
    return base_check(c, o->base, err);
}

// c->lora as the folder of --adapter has it.
static inline bool model_adapter(Config *c, const Options *o, Error *err) {
    bool adapter;
    if (!*o->adapter) return true;
    if (!folder_is_adapter(&adapter, o->adapter, err)) return false;
    if (!adapter) return error_set(err, "--adapter=%s: no adapter_config.json is in it", o->adapter);
    return adapter_read_config(c, o->adapter, err) && adapter_check_base(o->adapter, o->model, err) &&
           adapter_check(c, o->adapter, err);
}

static inline bool model_config(Config *c, const Options *o, int vocab_size, Error *err) {
    FileKind kind;
    bool folder;
    if (!model_is_folder(&folder, o->model, err) || !path_look(o->model, &kind, err)) return false;
    if (folder) return folder_read_config(c, o->model, err) && model_adapter(c, o, err);
    if (*o->adapter)
        return error_set(err, "--adapter=%s stands on the weights of a folder, which --model=%s is not", o->adapter,
                         o->model);
    if (strchr(o->model, '/'))
        return error_set(err, "--model=%s: no such folder%s", o->model,
                         kind != FILE_ABSENT ? " (a file; name the folder that it is in)" : "");
    if (!config_of_preset(c, o->model, err)) return false;
    if (vocab_size) c->vocab_size = vocab_size;
    return config_check(c, err);
}

// The most that the verb takes beside the model: the keys and values of `generate`, what `dump` writes.
static inline bool model_room(const LoadedModel *l, const Options *o, const ModelSetup *setup, Error *err) {
    Str note;
    memset(&note, 0, sizeof note);
    const Config *c = &l->config;
    RoomNeed need = {model_memory(setup), 0, room_scratch(&l->table, c, false)};
    double N = (double)setup->batch_size * setup->seq_len, size = sizeof(float);
    bool text = o->verb == VERB_GENERATE || o->verb == VERB_CHAT;
    if (text && need.model.host) need.other += 2 * size * N * c->kv_heads * c->head_size * c->layers;
    if (o->verb == VERB_DUMP) need.other += size * N * (c->vocab_size + config_fc(c));
    const char *advice =
        text ? "take a smaller model, or for chat a smaller --context" : "take a smaller --batch_size or --seq_len";
    bool ok = room_check(&note, &need, verbs[o->verb].name, advice, setup->dist, "", err);
    free(note.data);
    return ok && room_on_device(&need.model, verbs[o->verb].name, advice, setup->dist, err);
}

// On all ranks, which end together, with one line, if one of them cannot.
static inline void model_load(LoadedModel *l, const Options *o, ModelSetup *setup, bool random) {
    Error err;
    const Dist *dist = setup->dist;
    setup->config = l->config;
    setup->precision = o->precision;
    setup->kernels = o->kernels;
    setup->threads = (int)o->threads;
    bool folder, weights, ok = folder_look(o->model, &folder, &weights, &err);
    if (ok && !weights && !random)
        ok = error_set(&err, "--model=%s: %s needs a folder with weights (a checkpoint or a Hugging Face model)%s",
                       o->model, verbs[o->verb].name, folder ? "" : model_folder_beside(o->model).text);
    dist_agree(dist, ok && (!weights || folder_check_weights(&l->config, o->model, &err)) && setup_check(setup, &err),
               &err);
    l->table = param_table(&l->config);
    dist_agree(dist, model_room(l, o, setup, &err), &err);
    l->model = model_create(setup, &err);
    dist_agree(dist, l->model != NULL, &err);
    if (!weights) model_init_weights(l->model, &l->table, &l->config, (uint64_t)o->seed);
    else dist_agree(dist, folder_load_weights(l->model, &l->table, &l->config, o->model, &err), &err);
    if (l->config.lora.rank) dist_agree(dist, adapter_load(l->model, &l->config, o->adapter, &err), &err);
}

// Config and tokenizer of a folder with weights, for the verbs that make text. An adapter that has learnt to answer has
// a tokenizer of its own, with the chat template.
static inline bool generate_open(Config *c, Tokenizer *tok, const Options *o, Error *err) {
    Path path = path_of("%s/tokenizer.json", *o->adapter ? o->adapter : o->model);
    FileKind kind;
    bool folder, weights;
    if (!model_config(c, o, 0, err) || !folder_look(o->model, &folder, &weights, err) ||
        !path_look(path.text, &kind, err))
        return false;
    if (kind == FILE_ABSENT) path = path_of("%s/tokenizer.json", o->model);
    if (!folder)
        return error_set(err, "--model=%s is a preset, which has no weights; name the folder of a trained model%s",
                         o->model, model_folder_beside(o->model).text);
    if (!tokenizer_open(tok, path.text, err)) return false;
    return tok->vocab_size <= c->vocab_size
               ? true
               : error_set(err, "%s has %d tokens, the model only %d", path.text, tok->vocab_size, c->vocab_size);
}

static inline void model_unload(LoadedModel *l) {
    model_destroy(l->model);
    param_table_free(&l->table);
}

#endif
