/*
info.h: the verb `info`: what a model consists of and costs, what a tokenizer is, what shards hold.

With --json the same as one object: "presets", or "model", "tokenizer" and "data" as far as they were named; sizes under
the names of Config, memory in bytes.
*/
#ifndef LLMC_INFO_H
#define LLMC_INFO_H

#include "../account/account_main.h"
#include "../base/json.h"
#include "../text/data.h"
#include "chat_inputs.h"
#include "data_checks.h"
#include "fit.h"
#include "load.h"
#include "room.h"
#include "stop.h"
#include "teach.h"

static inline void info_config(Str *json, const char *name, const Config *c, const ParamTable *t) {
    str_puts(json, "\"name\": ");
    json_escape(json, name, strlen(name));
    str_printf(json, ", \"parameters\": %zu", t->parameters);
    for (int i = 0; i < CONFIG_KINDS; i++) {
        const ConfigField *f = config_field(i);
        double value = f->type == FIELD_LAYERS ? 0 : config_value(c, i);
        str_printf(json, ", \"%s\": ", f->name);
        if (i == CONFIG_family) str_printf(json, "\"%s\"", family_name(c->family));
        else if (i == CONFIG_activation)
            str_printf(json, "\"%.*s\"", (int)strcspn(activation_names(c->activation), "|"),
                       activation_names(c->activation));
        else if (f->type == FIELD_LAYERS) layers_list(json, config_layers(c, i), c->layers);
        else if (f->type == FIELD_SWITCH) str_puts(json, value != 0 ? "true" : "false");
        else json_add_number(json, value);
    }
}

// Every function says its part as JSON, or as text where json is NULL.
static inline void info_preset(Str *json, const char *comma, const char *family, const char *size) {
    Error err;
    Config c;
    Path name = path_of("%s-%s", family, size);
    if (!config_of_preset(&c, name.text, &err)) fail("%s", err.text);
    ParamTable t = param_table(&c);
    if (json) {
        str_printf(json, "%s{", comma);
        info_config(json, name.text, &c, &t);
        str_puts(json, "}");
    } else {
        printf("%-14s %11.2fM %7d %9d %6d %9d %10d %7d %11d %8d\n", name.text, (double)t.parameters / 1e6, c.layers,
               c.channels, c.heads, c.kv_heads, c.head_size, c.hidden, c.vocab_size, c.max_seq_len);
    }
    param_table_free(&t);
}

static inline void info_presets(Str *json) {
    const char *comma = "\"presets\": [";
    if (!json)
        printf("%-14s %12s %7s %9s %6s %9s %10s %7s %11s %8s\n", "preset", "parameters", "layers", "channels", "heads",
               "kv heads", "head size", "MLP", "vocabulary", "length");
#define X(size, fam, l, c, nh, nkv, hs, f, v, t, tie) info_preset(json, comma, family_name(fam), size), comma = ", ";
    PRESETS(X)
#undef X
    if (json) str_puts(json, "]");
}

// A kind of parameter; times: in so many layers.
static inline void info_tensor(Str *json, const Param *p, int times, const Config *c, const ParamTable *t) {
    const char *name = p->layer < 0 ? p->name : strrchr(p->name, '.') + 1, *comma = "";
    double count = times * (double)p->count, share = 100 * count / (double)t->parameters;
    char shape[32];
    snprintf(shape, sizeof shape, p->is_vector ? "%d" : "%d, %d", p->rows, p->cols);
    const NameRow *row = folder_names(p, c);
    DiskPart part = disk_part(row, p, c, 0);
    Str names; // on disk
    memset(&names, 0, sizeof names);
    for (int i = 0; i < disk_count(row, c); i++, comma = json ? "\", \"" : ", ")
        str_printf(&names, "%s%s", comma, disk_part(row, p, c, i).name);
    if (json)
        str_printf(json,
                   "{\"name\": \"%s\", \"shape\": [%s], \"times\": %d, \"parameters\": %.0f, \"share\": %.9g, "
                   "\"decay\": %s, \"on_disk\": [\"%s\"], \"transposed\": %s}",
                   name, shape, times, count, share / 100, p->group == GROUP_VECTOR ? "false" : "true", names.data,
                   part.transposed ? "true" : "false");
    else
        printf("%-10s (%s)%*s %7d %16.0f %7.2f%%  %-6s %s%s\n", name, shape, 16 - (int)strlen(shape), "", times, count,
               share, p->group == GROUP_VECTOR ? "no" : "yes", names.data, part.transposed ? " (transposed)" : "");
    free(names.data);
}

static inline ModelSetup info_setup(const Config *c, const Options *o, const Dist *dist) {
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.config = *c;
    setup.batch_size = o->batch_size == INT_AUTO ? 0 : (int)o->batch_size, setup.seq_len = (int)o->seq_len;
    setup.recompute = o->recompute, setup.gradients = true, setup.pairs = o->objective != OBJECTIVE_NEXT;
    setup.dist = dist, setup.muon.optimizer = o->optimizer, setup.base = o->base;
    return setup;
}

// What train_gpt in bf16 needs of --device, and what fits in its memory. setup: gets the batch that was chosen.
static inline void info_device(Str *s, bool json, ModelSetup *setup, const Options *o) {
    const Gpu *gpu = gpu_find(o->device);
    if (!gpu)
        fail("--device=%s is not known; say it as the driver does: A100, H100, H200, B200, L40S, RTX 4090", o->device);
    FitRoom f = {gpu_room(0.98 * gpu->size * MEM_GIB, setup->dist), 0, RECOMPUTE_NONE, 2};
    int wanted = setup->recompute, most[RECOMPUTE_AUTO];
    for (int r = RECOMPUTE_NONE; r < RECOMPUTE_AUTO; r++) most[r] = fit_batch(setup, r, &f);
    fit_choose(setup, &f);
    double need = fit_need(setup, setup->recompute, setup->batch_size, &f);
    if (json)
        str_printf(s,
                   ", \"device\": {\"name\": \"%s\", \"room\": %.0f, \"need\": %.0f, \"fits\": %s, "
                   "\"recompute\": \"%s\", \"batch_size\": %d, \"largest_batch\": {",
                   gpu->name, f.room, need, need <= f.room ? "true" : "false", recompute_name(setup->recompute),
                   setup->batch_size);
    else
        str_printf(s,
                   "%s (%.0f GiB), train_gpt in bf16: B=%d and --recompute=%s%s need %.3f of the %.3f GiB that a model "
                   "may take%s\nlargest batch there at T=%d:",
                   gpu->name, gpu->size, setup->batch_size, recompute_name(setup->recompute),
                   wanted == RECOMPUTE_AUTO ? " (auto)" : "", need / MEM_GIB, f.room / MEM_GIB,
                   need <= f.room ? "" : ": too much", setup->seq_len);
    for (int r = RECOMPUTE_NONE; r < RECOMPUTE_AUTO; r++)
        str_printf(s, json ? "%s\"%s\": %d" : "%s%s %d", r ? ", " : json ? "" : " ", recompute_name(r), most[r]);
    str_puts(s, json ? "}}" : "\n");
}

static inline void info_model(Str *json, const Config *c, const Options *o, const Dist *dist) {
    ParamTable t = param_table(c);
    ModelSetup setup = info_setup(c, o, dist);
    Config teacher;
    Error err;
    if (*o->teacher) {
        if (!folder_read_config(&teacher, o->teacher, &err) || !teacher_fits(&teacher, c, o, &err))
            fail("%s", err.text);
        setup.teacher = &teacher;
    }
    Str device;
    memset(&device, 0, sizeof device);
    if (*o->device) info_device(&device, json != NULL, &setup, o);
    int B = setup.batch_size, T = setup.seq_len;
    setup.recompute = o->recompute == RECOMPUTE_AUTO ? RECOMPUTE_CHEAP : o->recompute; // of this program
    if (json) {
        str_puts(json, "\"model\": {");
        info_config(json, o->model, c, &t);
    } else {
        printf("%s: %s, %s head, up to %d positions\n\n", family_name(c->family), config_words(c).text,
               c->tied ? "tied" : "untied", c->max_seq_len);
        printf("%-10s %-18s %7s %16s %8s  %-6s %s\n", "tensor", "shape", "times", "parameters", "share", "decay",
               "on disk");
    }
    const char *comma = ", \"tensors\": [";
    for (int kind = 0; kind < PARAM_KINDS; kind++) {
        const Param *once = param_find(&t, kind, -1), *p = once ? once : param_find(&t, kind, 0);
        if (!p) continue;
        if (json) str_puts(json, comma);
        info_tensor(json, p, once ? 1 : c->layers, c, &t);
        comma = ", ";
    }
    ModelMemory m = model_memory(&setup);
    CheckpointTables tables = checkpoint_tables(c, setup.muon.optimizer);
    double copy = checkpoint_bytes(&tables), scratch = room_scratch(&t, c, true), taught = fit_teacher(&setup, 0),
           all = model_memory_sum(&m) + taught + (m.host ? copy + scratch : 0), products = config_matmul_parameters(c),
           flops = config_flops_per_token(c, T);
    ModelSetup scored = setup;
    scored.gradients = scored.pairs = false, scored.shares = true;
    ModelMemory e = model_memory(&scored);
    if (json) {
        str_printf(json,
                   "], \"matmul_parameters\": %.0f, \"batch_size\": %d, \"seq_len\": %d, \"flops_per_token\": %.17g, "
                   "\"flops_formula\": \"%s\", \"memory\": {\"weights\": %.0f, \"gradients\": %.0f, \"moments\": %.0f, "
                   "\"activations\": %.0f, \"buffers\": %.0f, \"checkpoint_copy\": %.0f, \"scratch\": %.0f, \"all\": "
                   "%.0f, \"teacher\": %.0f}, \"eval_memory\": {\"weights\": %.0f, \"activations\": %.0f, \"buffers\": "
                   "%.0f, \"shared\": %.0f, \"all\": %.0f}%s}",
                   products, B, T, flops, flops_formula(c), m.weights, m.gradients, m.moments, m.activations, m.buffers,
                   copy, scratch, all, taught, e.weights, e.activations, e.buffers, e.shared, model_memory_sum(&e),
                   device.size ? device.data : "");
    } else {
        printf("\nparameters: %.3fM (%.3fM in matrix products)\n", (double)t.parameters / 1e6, products / 1e6);
        if (c->lora.rank)
            printf("trained: %.3fM, the adapter's alone; all else stays as it is, without gradients and moments%s\n",
                   (double)tables.array[0].parameters / 1e6, base_said(c, o->base).text);
        printf("FLOPs a token of training at T=%d: %.4e = %s\n", T, flops, flops_formula(c));
        printf("memory for training at B=%d, T=%d: weights %.3f, gradients %.3f, moments %.3f, activations %.3f, "
               "buffers %.3f, copy for checkpoints %.3f, scratch %.3f GiB; %.3f GiB in all%s\n",
               B, T, m.weights / MEM_GIB, m.gradients / MEM_GIB, m.moments / MEM_GIB, m.activations / MEM_GIB,
               m.buffers / MEM_GIB, copy / MEM_GIB, scratch / MEM_GIB, all / MEM_GIB,
               m.host ? "" : " but copy and scratch, which the host holds");
        if (*o->teacher) printf("of it the teacher %s: %.3f GiB\n", o->teacher, taught / MEM_GIB);
        printf("memory for eval --tasks there: weights %.3f, activations %.3f, buffers %.3f, keys and values of what "
               "tasks begin with %.3f GiB; %.3f GiB in all\n",
               e.weights / MEM_GIB, e.activations / MEM_GIB, e.buffers / MEM_GIB, e.shared / MEM_GIB,
               model_memory_sum(&e) / MEM_GIB);
        if (device.size) fputs(device.data, stdout);
    }
    free(device.data);
    checkpoint_tables_free(&tables);
    param_table_free(&t);
}

static inline void info_tokenizer(Str *json, const char *path) {
    Error err;
    Tokenizer tok;
    if (!tokenizer_open(&tok, path, &err)) fail("%s", err.text);
    if (json) {
        str_puts(json, "\"tokenizer\": {\"path\": ");
        json_escape(json, path, strlen(path));
        str_printf(json, ", \"vocab_size\": %d, \"eot\": %d, \"hash\": \"%016" PRIx64 "\"}", tok.vocab_size, tok.eot,
                   tok.hash);
    } else {
        print_line("%s: vocabulary %d, end of text %d, hash %016" PRIx64, path, tok.vocab_size, tok.eot, tok.hash);
    }
    tokenizer_free(&tok);
}

static inline void info_shard(Str *json, const Shard *s) {
    const ShardHeader *h = &s->header;
    char text[400];
    snprintf(text, sizeof text,
             json
                 ? ", \"tokens\": %lld, \"token_bytes\": %u, \"documents\": %lld, \"bytes\": %lld, "
                   "\"vocab_size\": %lld, \"tokenizer\": \"%016llx\", \"xxh64\": \"%016llx\"}"
                 : ": %lld tokens of %u bytes, %lld documents, %lld bytes of text, vocabulary %lld, tokenizer %016llx, "
                   "xxh64 %016llx",
             (long long)h->tokens, h->token_bytes, (long long)h->documents, (long long)h->bytes,
             (long long)h->vocab_size, (unsigned long long)h->tokenizer_hash, (unsigned long long)h->checksum);
    if (!json) print_line("%s%s", s->path, text);
    else str_puts(json, "{\"path\": "), json_escape(json, s->path, strlen(s->path)), str_puts(json, text);
}

static inline void info_data(Str *json, const Options *o) {
    Error err;
    Dataset d;
    if (!dataset_open(&d, o->data, (int)o->seq_len, &err)) fail("%s", err.text);
    for (int i = 0; i < d.count; i++) {
        if (json) str_puts(json, i ? ", " : "\"data\": {\"shards\": [");
        info_shard(json, &d.shards[i]);
    }
    int64_t read;
    if (o->verify && !dataset_verify(&d, 0, 1, true, &read, &err)) fail("%s", err.text);
    Log none;
    memset(&none, 0, sizeof none);
    data_hint_unused(&none, &d, "data");
    if (!json) chat_inputs_log(&none, &d, "data");
    double bytes = d.tokens ? (double)d.bytes / (double)d.tokens : 0.0;
    if (json)
        str_printf(json, "], \"tokens\": %lld, \"sequences\": %lld, \"seq_len\": %d, \"bytes_per_token\": %.9g}",
                   (long long)d.tokens, (long long)d.sequences, d.seq_len, bytes);
    else
        printf("%lld tokens, %lld sequences of %d; %.3f bytes a token; %s\n", (long long)d.tokens,
               (long long)d.sequences, d.seq_len, bytes,
               o->verify ? "checksums match" : "checksums were not looked at");
    dataset_close(&d);
}

static inline int verb_info(const Options *o, Dist *dist) {
    Error err;
    Str s, *json = o->json ? &s : NULL;
    memset(&s, 0, sizeof s);
    if (*o->device && !*o->model) fail("--device=%s: for which model? Give --model", o->device);
    if (!*o->model && !*o->data && !*o->tokenizer) info_presets(json);
    if (*o->model) {
        Config c;
        if (!model_config(&c, o, (int)o->vocab_size, &err) || !lora_of_options(&c, o, &err)) fail("%s", err.text);
        if (o->vocab_size && c.vocab_size != o->vocab_size)
            fail("--vocab_size=%lld is for presets; the folder --model=%s has a vocabulary of %d",
                 (long long)o->vocab_size, o->model, c.vocab_size);
        if (o->batch_size == INT_AUTO && !*o->device)
            fail("--batch_size=auto: for which memory? Give --device=H100 or another GPU, or a number");
        if (o->batch_size != INT_AUTO && !config_check_batch(&c, o->batch_size, o->seq_len, &err)) fail("%s", err.text);
        info_model(json, &c, o, dist);
        if (!account_show(json, o->model, &err)) fail("%s", err.text);
    }
    if (json && s.size && *o->tokenizer) str_puts(json, ", ");
    if (*o->tokenizer) info_tokenizer(json, o->tokenizer);
    if (json && s.size && *o->data) str_puts(json, ", ");
    if (*o->data) info_data(json, o);
    if (json) printf("{%s}\n", s.data);
    free(s.data);
    return EXIT_DONE;
}

#endif
