/*
verbs.h: the program's verbs but for `train` (trainer.h), and the entry that both programs share.

Each verb prints its result to stdout and, if something is wrong, one line to stderr; exit codes are
those of --help. program_main() is what main() calls.
*/
#ifndef LLMC_VERBS_H
#define LLMC_VERBS_H

#include "../text/bpe.h"
#include "../files/gguf.h"
#include "../text/tokenize.h"
#include "trainer.h"

// ---------------------------------------------------------------- a model to look at

// The model of --model for the verbs that do not train: a folder with weights, or, where `random` is
// allowed, a preset or a folder with only a config, with random weights from the seed.
typedef struct {
    Config config;
    ParamTable table;
    Model *model;
} LoadedModel;

static inline void model_config_or_fail(Config *c, const Options *o, int vocab_size) {
    Error err;
    if (path_is_folder(o->model)) {
        Path config = path_of("%s/config.json", o->model);
        int64_t *steps;
        int n = path_exists(config.text) ? 0 : checkpoint_list(&steps, o->model);
        if (n)
            fail("--model=%s is a run's folder; name a checkpoint in it: --model=%s", o->model,
                 checkpoint_folder(o->model, steps[n - 1]).text);
        if (!folder_read_config(c, o->model, &err)) fail("%s", err.text);
        return;
    }
    if (strchr(o->model, '/'))
        fail("--model=%s: no such folder%s", o->model,
             path_exists(o->model) ? " (a file; name the folder that it is in)" : "");
    if (!config_of_preset(c, o->model, &err)) fail("%s", err.text);
    if (vocab_size) c->vocab_size = vocab_size;
    if (!config_check(c, &err)) fail("%s", err.text);
}

static inline void model_load_or_fail(LoadedModel *l, const Options *o, ModelSetup *setup, bool random) {
    Error err;
    setup->config = l->config;
    setup->precision = o->precision;
    setup->threads = (int)o->threads;
    bool weights = path_is_folder(o->model) && folder_has_weights(o->model);
    if (!weights && !random)
        fail("--model=%s: %s needs a folder with weights (a checkpoint or a Hugging Face model)", o->model,
             verb_name(o->verb));
    l->model = model_create(setup, &err);
    if (!l->model) fail("%s", err.text);
    l->table = param_table(&l->config);
    if (!weights) model_init_weights(l->model, &l->table, &l->config, (uint64_t)o->seed);
    else if (!folder_load_weights(l->model, &l->table, &l->config, o->model, &err)) fail("%s", err.text);
}

static inline void model_unload(LoadedModel *l) {
    model_destroy(l->model);
    param_table_free(&l->table);
}

// ---------------------------------------------------------------- bpe, tokenize

static inline int verb_bpe(const Options *o) {
    Error err;
    Tokenizer tok;
    BpeStats stats;
    StrList files;
    memset(&files, 0, sizeof files);
    memset(&stats, 0, sizeof stats);
    double start = clock_seconds();
    if (!path_expand(&files, o->input, &err) ||
        !bpe_train(&tok, &files, o->vocab_size ? (int)o->vocab_size : 8192, &stats, &err) ||
        !tokenizer_save(&tok, o->out, &err))
        fail("%s", err.text);
    printf("%s: vocabulary of %d with %d merges, from %.2f MB of text with %lld distinct words of %lld, in %.1f s\n",
           o->out, tok.vocab_size, stats.merges, (double)stats.bytes / 1e6, (long long)stats.words,
           (long long)stats.pretokens, clock_seconds() - start);
    if (stats.invalid_bytes) printf("%lld bytes are not UTF-8 and were left out\n", (long long)stats.invalid_bytes);
    str_list_free(&files);
    tokenizer_free(&tok);
    return EXIT_DONE;
}

static inline void tokenize_progress(const TokenizeStats *s) {
    if (!isatty(STDERR_FILENO)) return;
    fprintf(stderr, "\r%.0f of %.0f MB%s", (double)s->done_bytes / 1e6, (double)s->input_bytes / 1e6,
            s->done_bytes >= s->input_bytes ? "\n" : "");
}

static inline int verb_tokenize(const Options *o) {
    Error err;
    Tokenizer tok;
    TokenizeStats stats;
    memset(&stats, 0, sizeof stats);
    stats.progress = tokenize_progress;
    if (!tokenizer_load(&tok, o->tokenizer, &err) ||
        !tokenize_files(&tok, o->input, o->out, o->val_fraction, o->doc_split, o->shard_tokens, &stats, &err))
        fail("%s", err.text);
    static const char *const sides[2] = {"training", "validation"};
    for (int i = 0; i < 2; i++)
        printf("%s: %lld documents, %lld tokens, %lld bytes of text (%.3f bytes a token), %d shard%s\n", sides[i],
               (long long)stats.documents[i], (long long)stats.tokens[i], (long long)stats.bytes[i],
               stats.tokens[i] ? (double)stats.bytes[i] / (double)stats.tokens[i] : 0.0, stats.shards[i],
               stats.shards[i] == 1 ? "" : "s");
    if (stats.tail) printf("there is only one document: its end became the validation text\n");
    if (stats.invalid_bytes)
        printf("%lld bytes are not UTF-8 and became byte tokens\n", (long long)stats.invalid_bytes);
    printf("%.1f MB/s\n", (double)stats.input_bytes / 1e6 / (stats.seconds > 0 ? stats.seconds : 1e-9));
    tokenizer_free(&tok);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- generate

static inline int verb_generate(const Options *o, const Dist *dist) {
    Error err;
    Tokenizer tok;
    LoadedModel l;
    Path path = path_of("%s/tokenizer.json", o->model);
    model_config_or_fail(&l.config, o, 0);
    if (!path_is_folder(o->model))
        fail("--model=%s is a preset, which has no weights; name the folder of a trained model", o->model);
    if (!tokenizer_load(&tok, path.text, &err)) fail("%s", err.text);
    if (tok.vocab_size > l.config.vocab_size)
        fail("%s has %d tokens, the model only %d", path.text, tok.vocab_size, l.config.vocab_size);
    IdList prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt_tokens(&prompt, &tok, o->prompt);
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.batch_size = 1;
    setup.seq_len = (int)int64_min(l.config.max_seq_len, (int64_t)prompt.count + o->tokens);
    setup.dist = dist;
    model_load_or_fail(&l, o, &setup, false);
    Sampler sampler = sampler_create(l.config.vocab_size, o->temperature, (int)o->top_k, o->top_p, (uint64_t)o->seed);
    for (int64_t i = 0; i < o->samples; i++) {
        TextSink sink;
        memset(&sink, 0, sizeof sink);
        sink.tok = &tok;
        sink.echo = stdout;
        fputs(o->prompt, stdout);
        generate_tokens(l.model, &tok, &sampler, prompt.items, (int)prompt.count, (int)o->tokens, setup.seq_len,
                        (uint64_t)i << 32, text_sink, &sink);
        size_t shown = sink.text.size;
        utf8_stream_finish(&sink.utf8, &sink.text);
        printf("%s\n%s", sink.text.data ? sink.text.data + shown : "", i + 1 < o->samples ? "\n" : "");
        free(sink.text.data);
    }
    sampler_free(&sampler);
    free(prompt.items);
    tokenizer_free(&tok);
    model_unload(&l);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- eval, dump

static inline int verb_eval(const Options *o, const Dist *dist) {
    Error err;
    LoadedModel l;
    Tokenizer tok;
    Dataset data;
    Path path = path_of("%s/tokenizer.json", o->model);
    model_config_or_fail(&l.config, o, 0);
    if (o->seq_len > l.config.max_seq_len)
        fail("--seq_len=%lld is longer than the model's %d positions; give --seq_len=%d or less", (long long)o->seq_len,
             l.config.max_seq_len, l.config.max_seq_len);
    bool text = path_exists(path.text);
    if (text && !tokenizer_load(&tok, path.text, &err)) fail("%s", err.text);
    if (!dataset_open(&data, o->data, (int)o->seq_len, &err)) fail("%s", err.text);
    if (text && data.tokenizer_hash && data.tokenizer_hash != tok.hash)
        fail("--data=%s was tokenised with another tokenizer than %s", o->data, path.text);
    data.vocab_size = l.config.vocab_size;
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    int B = setup.batch_size = (int)o->batch_size, T = setup.seq_len = (int)o->seq_len;
    setup.dist = dist;
    model_load_or_fail(&l, o, &setup, false);
    int32_t *inputs = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)B * (size_t)T),
            *targets = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)B * (size_t)T);
    EvalResult r;
    double start = clock_seconds();
    if (!evaluate(&r, l.model, &data, text ? &tok : NULL, dist, B, T, o->val_tokens, inputs, targets, &err))
        fail("%s", err.text);
    if (dist->rank == 0) {
        printf("{\"loss\": %.9g, \"perplexity\": %.9g, \"bits_per_byte\": ", r.loss, exp(r.loss));
        if (isfinite(r.bits_per_byte)) printf("%.9g", r.bits_per_byte);
        else printf("null");
        printf(", \"tokens\": %lld, \"bytes\": %lld, \"tokens_per_s\": %.1f}\n", (long long)r.tokens,
               (long long)r.bytes, (double)r.tokens / (clock_seconds() - start));
    }
    free(inputs);
    free(targets);
    dataset_close(&data);
    if (text) tokenizer_free(&tok);
    model_unload(&l);
    return EXIT_DONE;
}

// Shape of an activation in a dump: (B, T, width), (B, heads, T), or (B, T).
static inline int act_shape(int64_t shape[3], const Act *a, int B, int T) {
    shape[0] = B;
    shape[1] = a->per_head_first ? a->width : T;
    shape[2] = a->per_head_first ? T : a->width;
    return a->width == 1 ? 2 : 3;
}

// One step on the first B sequences of the data. Writes tokens, targets, loss, logits, act.NAME for every
// activation that is kept, grad.NAME and updated.NAME for every parameter, in Hugging Face's names and
// layout. The gradient is that of the mean loss.
static inline int verb_dump(const Options *o, const Dist *dist) {
    Error err;
    LoadedModel l;
    Dataset data;
    int B = (int)o->batch_size, T = (int)o->seq_len;
    if (dist->size > 1) fail("dump runs on one rank, not %d", dist->size);
    if (!dataset_open(&data, o->data, T, &err)) fail("%s", err.text);
    model_config_or_fail(&l.config, o, (int)data.vocab_size);
    if (T > l.config.max_seq_len)
        fail("--seq_len=%d is longer than the model's %d positions; give --seq_len=%d or less", T, l.config.max_seq_len,
             l.config.max_seq_len);
    if (data.sequences < B)
        fail("--data=%s holds %lld sequences of %d tokens, fewer than --batch_size=%d", o->data,
             (long long)data.sequences, T, B);
    data.vocab_size = l.config.vocab_size;
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.batch_size = B;
    setup.seq_len = T;
    setup.recompute = o->recompute == RECOMPUTE_AUTO ? RECOMPUTE_NONE : o->recompute;
    setup.gradients = true;
    setup.dist = dist;
    model_load_or_fail(&l, o, &setup, true);
    size_t N = (size_t)B * (size_t)T, V = (size_t)l.config.vocab_size;
    int32_t *inputs = (int32_t *)mem_alloc(sizeof(int32_t) * N), *targets = (int32_t *)mem_alloc(sizeof(int32_t) * N);
    float *logits = (float *)mem_alloc(sizeof(float) * N * V);
    for (int b = 0; b < B; b++)
        if (!dataset_sequence(&data, b, inputs + (size_t)b * (size_t)T, targets + (size_t)b * (size_t)T, &err))
            fail("%s", err.text);
    model_forward(l.model, inputs, targets, B, T, 1.0 / (double)N, logits);
    model_backward(l.model, true);

    SafeWriter w;
    ActTable acts = act_table(&l.config, B, T, setup.recompute, 1, 1);
    if (!safewriter_open(&w, o->out, &err)) fail("%s", err.text);
    int64_t two[2] = {B, T}, three[3] = {B, T, (int64_t)V}, one[1] = {1};
    safewriter_declare(&w, "tokens", ST_I32, 2, two);
    safewriter_declare(&w, "targets", ST_I32, 2, two);
    safewriter_declare(&w, "loss", ST_F32, 1, one);
    safewriter_declare(&w, "logits", ST_F32, 3, three);
    size_t most = 0;
    for (int writing = 0; writing < 2; writing++) { // first the declarations, then the data, over the same tensors
        float *values = NULL, loss = 0;
        if (writing) {
            values = (float *)mem_alloc(sizeof(float) * most);
            safewriter_begin_data(&w);
            safewriter_data(&w, inputs, sizeof(int32_t) * N);
            safewriter_data(&w, targets, sizeof(int32_t) * N);
            loss = (float)(model_loss(l.model) / (double)N);
            safewriter_data(&w, &loss, sizeof loss);
            safewriter_data(&w, logits, sizeof(float) * N * V);
        }
        for (int layer = 0; layer < l.config.layers; layer++)
            for (int k = 0; k < ACT_KINDS; k++) {
                const Act *a = &acts.items[k];
                bool once = a->place != PLACE_LAYER;
                if (!a->present || (once && layer > 0) || (!once && a->slots == 1 && l.config.layers > 1)) continue;
                size_t count = N * (size_t)a->width;
                if (writing) {
                    model_get_activation(l.model, k, layer, values);
                    safewriter_data(&w, values, sizeof(float) * count);
                    continue;
                }
                int64_t shape[3];
                Path name = once ? path_of("act.%s", a->name) : path_of("act.layer.%d.%s", layer, a->name);
                safewriter_declare(&w, name.text, ST_F32, act_shape(shape, a, B, T), shape);
                if (count > most) most = count;
            }
        if (!writing) {
            disk_declare(&w, &l.table, 0, l.table.count, &l.config, "grad.");
            disk_declare(&w, &l.table, 0, l.table.count, &l.config, "updated.");
        } else {
            disk_write(&w, l.model, MODEL_GRADIENT, &l.table, 0, l.table.count, &l.config, 0);
            GroupRule adam = {o->lr, o->beta1, o->beta2, o->adam_eps, o->weight_decay};
            UpdateRule rule = update_rule(1, adam, o->grad_clip);
            model_update(l.model, &rule);
            disk_write(&w, l.model, MODEL_WEIGHT, &l.table, 0, l.table.count, &l.config, 0);
            free(values);
            printf("%s: loss %.6f over %zu tokens, %d tensors\n", o->out, (double)loss, N, w.count);
        }
    }
    if (!safewriter_commit(&w, &err)) fail("%s", err.text);
    free(inputs);
    free(targets);
    free(logits);
    dataset_close(&data);
    model_unload(&l);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- export

static inline int verb_export(const Options *o) {
    Error err;
    if (!gguf_export(o->model, o->out, o->dtype, &err)) fail("%s", err.text);
    struct stat st;
    if (stat(o->out, &st) == 0) printf("%s: %.1f MB\n", o->out, (double)st.st_size / 1e6);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- info

static inline void info_presets(void) {
    printf("%-14s %12s %7s %9s %6s %9s %10s %7s %11s %8s\n", "preset", "parameters", "layers", "channels", "heads",
           "kv heads", "head size", "MLP", "vocabulary", "length");
    Error err;
#define X(size, fam, l, c, nh, nkv, hs, f, v, t, tie)                                                                  \
    {                                                                                                                  \
        char name[64];                                                                                                 \
        Config config;                                                                                                 \
        snprintf(name, sizeof name, "%s-%s", family_name(fam), size);                                                  \
        if (!config_of_preset(&config, name, &err)) fail("%s", err.text);                                              \
        ParamTable table = param_table(&config);                                                                       \
        printf("%-14s %11.2fM %7d %9d %6d %9d %10d %7d %11d %8d\n", name, (double)table.parameters / 1e6, l, c, nh,    \
               nkv, hs, f, v, t);                                                                                      \
        param_table_free(&table);                                                                                      \
    }
    PRESETS(X)
#undef X
}

static inline void info_model(const Config *c, const Options *o) {
    ParamTable t = param_table(c);
    int B = (int)o->batch_size, T = (int)o->seq_len,
        recompute = o->recompute == RECOMPUTE_AUTO ? RECOMPUTE_CHEAP : o->recompute;
    printf("%s: %s, %s head, up to %d positions\n\n", family_name(c->family), config_words(c).text,
           c->tied ? "tied" : "untied", c->max_seq_len);
    printf("%-10s %-18s %7s %16s %8s  %-6s %s\n", "tensor", "shape", "times", "parameters", "share", "decay",
           "on disk");
    for (int kind = 0; kind < PARAM_KINDS; kind++) {
        const Param *p = param_find(&t, kind, -1);
        double times = 1;
        if (!p) p = param_find(&t, kind, 0), times = c->layers;
        if (!p) continue;
        char shape[32];
        snprintf(shape, sizeof shape, p->is_vector ? "(%d)" : "(%d, %d)", p->rows, p->cols);
        const NameRow *names = folder_names(p, c);
        DiskPart part = disk_part(names, p, c, 0);
        const char *name = p->layer < 0 ? p->name : strrchr(p->name, '.') + 1;
        printf("%-10s %-18s %7.0f %16.0f %7.2f%%  %-6s %s", name, shape, times, times * (double)p->count,
               100 * times * (double)p->count / (double)t.parameters, p->group == GROUP_VECTOR ? "no" : "yes",
               part.name);
        for (int i = 1; i < disk_count(names, c); i++) printf(", %s", disk_part(names, p, c, i).name);
        printf("%s\n", part.transposed ? " (transposed)" : "");
    }
    ActTable a = act_table(c, B, T, recompute, sizeof(float), sizeof(float));
    double GiB = 1024.0 * 1024.0 * 1024.0, weights = 4.0 * (double)t.elements;
    printf("\nparameters: %.3fM (%.3fM in matrix products)\n", (double)t.parameters / 1e6,
           config_matmul_parameters(c) / 1e6);
    printf("FLOPs a token of training at T=%d: %.4e = %s\n", T, config_flops_per_token(c, T), FLOPS_FORMULA);
    printf("memory for training in fp32 at B=%d, T=%d: weights %.3f, gradients %.3f, moments %.3f, activations %.3f "
           "GiB; %.3f GiB in all\n",
           B, T, weights / GiB, weights / GiB, 2 * weights / GiB, (double)a.bytes / GiB,
           (4 * weights + (double)a.bytes) / GiB);
    param_table_free(&t);
}

static inline void info_data(const Options *o) {
    Error err;
    Dataset d;
    if (!dataset_open(&d, o->data, (int)o->seq_len, &err)) fail("%s", err.text);
    for (int i = 0; i < d.count; i++) {
        const Shard *s = &d.shards[i];
        printf("%s: %lld tokens of %u bytes, %lld documents, %lld bytes of text, vocabulary %lld, tokenizer %016" PRIx64
               ", xxh64 %016" PRIx64 "\n",
               s->path, (long long)s->header.tokens, s->header.token_bytes, (long long)s->header.documents,
               (long long)s->header.bytes, (long long)s->header.vocab_size, s->header.tokenizer_hash,
               s->header.checksum);
    }
    if (!dataset_verify(&d, &err)) fail("%s", err.text);
    printf("%lld tokens, %lld sequences of %lld; %.3f bytes a token; checksums match\n", (long long)d.tokens,
           (long long)d.sequences, (long long)o->seq_len, d.tokens ? (double)d.bytes / (double)d.tokens : 0.0);
    dataset_close(&d);
}

static inline int verb_info(const Options *o) {
    Error err;
    if (!*o->model && !*o->data && !*o->tokenizer) info_presets();
    if (*o->model) {
        Config c;
        model_config_or_fail(&c, o, (int)o->vocab_size);
        info_model(&c, o);
    }
    if (*o->tokenizer) {
        Tokenizer tok;
        if (!tokenizer_load(&tok, o->tokenizer, &err)) fail("%s", err.text);
        printf("%s: vocabulary %d, end of text %d, hash %016" PRIx64 "\n", o->tokenizer, tok.vocab_size, tok.eot,
               tok.hash);
        tokenizer_free(&tok);
    }
    if (*o->data) info_data(o);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- the entry

static inline int program_main(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        options_help(argc < 2 ? stderr : stdout, engine_name(), -1);
        return argc < 2 ? 1 : EXIT_DONE;
    }
    int verb = verb_of(argv[1]);
    if (verb < 0) fail("unknown verb `%s`; %s --help lists the verbs", argv[1], engine_name());
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            options_help(stdout, engine_name(), verb);
            return EXIT_DONE;
        }
    Options o;
    Error err;
    bool ok = options_parse(&o, verb, argc - 2, argv + 2, &err) && options_require(&o, &err);
    int code = EXIT_DONE;
    Dist dist;
    dist_single(&dist);
    signal(SIGXFSZ, SIG_IGN); // a file at its size limit is a failed write with a message, not a death
#ifdef _OPENMP
    if (o.threads > 0) omp_set_num_threads((int)o.threads);
#endif
    if (verb == VERB_TRAIN) trainer_block_signals();
    bool ranks = verb == VERB_TRAIN || verb == VERB_EVAL || verb == VERB_GENERATE || verb == VERB_DUMP;
    if (ranks) dist_open(&dist, &argc, &argv);
    dist_agree(&dist, ok, &err); // with wrong options, too, so that one rank says it
    // --out=DIR/file: DIR need not be there yet.
    Path parent = path_parent(o.out);
    dist_agree(&dist, !*o.out || path_make_folder(parent.text, &err), &err);
    switch (verb) {
    case VERB_TRAIN: code = train(&o, &dist); break;
    case VERB_BPE: code = verb_bpe(&o); break;
    case VERB_TOKENIZE: code = verb_tokenize(&o); break;
    case VERB_GENERATE: code = verb_generate(&o, &dist); break;
    case VERB_EVAL: code = verb_eval(&o, &dist); break;
    case VERB_DUMP: code = verb_dump(&o, &dist); break;
    case VERB_EXPORT: code = verb_export(&o); break;
    case VERB_INFO: code = verb_info(&o); break;
    }
    if (ranks) dist_close(&dist);
    options_free(&o);
    return code;
}

#endif
