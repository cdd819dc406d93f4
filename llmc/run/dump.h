/*
dump.h: the verb `dump`: one training step on the first B sequences of the data, into a .safetensors file.

Writes tokens, targets, loss, logits, act.NAME for every activation that is kept, dact.NAME for every gradient of one,
grad.NAME and updated.NAME for every parameter (with --adapter: of the adapter), in Hugging Face's names and layout. The
gradients are those of the mean loss. What a fused kernel never makes (train_gpt: dact.*.mlp with GELU) is left out.
*/
#ifndef LLMC_DUMP_H
#define LLMC_DUMP_H

#include "../text/source.h"
#include "data_checks.h"
#include "load.h"
#include "rule.h"
#include "stop.h"

// Shape of an activation in a dump: (B, T, width), (B, heads, T), or (B, T).
static inline int act_shape(int64_t shape[3], const Act *a, int B, int T) {
    shape[0] = B;
    shape[1] = a->per_head_first ? a->width : T;
    shape[2] = a->per_head_first ? T : a->width;
    return a->width == 1 ? 2 : 3;
}

// The tensors of a step: first they are all declared, then written, in the same order.
typedef struct {
    SafeWriter w;
    Model *m;
    ActTable acts, backs;
    int B, T, L;
    bool writing;
    float *values; // scratch for the largest activation
} Dump;

// One activation, or its gradient, of a layer (0 outside the layers), if the model has it.
static inline void dump_act(Dump *d, int kind, int layer, bool gradient) {
    const Act *a = gradient ? &d->backs.items[kind] : &d->acts.items[kind];
    bool once = a->place != PLACE_LAYER;
    if (!a->present || (once && layer > 0)) return;
    bool there = gradient ? model_get_activation_gradient(d->m, kind, layer, d->values)
                          : model_get_activation(d->m, kind, layer, d->values);
    const char *prefix = gradient ? "dact" : "act";
    int64_t shape[3];
    int ndim = act_shape(shape, a, d->B, d->T);
    Path name = once ? path_of("%s.%s", prefix, a->name) : path_of("%s.layer.%d.%s", prefix, layer, a->name);
    if (there && d->writing)
        safewriter_data(&d->w, d->values, sizeof(float) * (size_t)d->B * (size_t)d->T * (size_t)a->width);
    else if (there) safewriter_declare(&d->w, name.text, ST_F32, ndim, shape);
}

static inline void dump_acts(Dump *d) {
    int rows;
    const BackwardRow *backward = backward_rows(&rows);
    for (int layer = 0; layer < d->L; layer++)
        for (int kind = 0; kind < ACT_KINDS; kind++) dump_act(d, kind, layer, false);
    for (int layer = d->L - 1; layer >= 0; layer--)
        for (int i = 0; i < rows; i++) dump_act(d, backward[i].kind, layer, true);
}

static inline int verb_dump(const Options *o, Dist *dist) {
    Error err;
    LoadedModel l;
    Dataset data;
    int B = (int)o->batch_size, T = (int)o->seq_len;
    if (dist->size > 1) fail("dump runs on one rank, not %d", dist->size);
    if (o->lr == LR_AUTO) fail("--lr=auto chooses for the many steps of train, and dump makes one: give --lr a number");
    if (!dataset_open(&data, o->data, T, &err) || !data_no_pairs(&data, o->data, &err) ||
        !data_verify(&data, o, dist, &err))
        fail("%s", err.text);
    if (!model_config(&l.config, o, (int)data.vocab_size, &err)) fail("%s", err.text);
    bool same = true;
    if (data.tokenizer_hash && !tokenizer_is_of(&same, data.tokenizer_hash, o->model, &err)) fail("%s", err.text);
    if (!same) fail("--data=%s was tokenised with another tokenizer than %s/tokenizer.json", o->data, o->model);
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
    setup.gradients = setup.keep_backward = true;
    setup.muon = muon_rule(o);
    setup.dist = dist;
    model_load(&l, o, &setup, true);
    ParamTable adapter = param_table_adapter(&l.config);
    const ParamTable *table = l.config.lora.rank ? &adapter : &l.table; // of what is trained
    size_t N = (size_t)B * (size_t)T, V = (size_t)l.config.vocab_size;
    int32_t *inputs = (int32_t *)mem_alloc(sizeof(int32_t) * N), *targets = (int32_t *)mem_alloc(sizeof(int32_t) * N);
    float *logits = (float *)mem_alloc(sizeof(float) * N * V);
    BatchSource source = source_of_dataset(&data, false, 0);
    SourceRows rows = {inputs, targets, source.documents ? (int32_t *)mem_alloc(sizeof(int32_t) * N) : NULL};
    if (!source.next(&source, 0, B, rows, &err)) fail("%s", err.text);
    ModelBatch batch = {inputs, targets, rows.starts, B, T};
    size_t count = 0;
    for (size_t i = 0; i < N; i++) count += targets[i] >= 0;
    model_forward(l.model, &batch, 1.0 / (double)count, logits);
    model_backward(l.model, true);

    Dump d;
    memset(&d, 0, sizeof d);
    d.m = l.model, d.B = B, d.T = T, d.L = l.config.layers;
    d.acts = act_table(&l.config, B, T, setup.recompute, 1, 1);
    d.backs = backward_table(&l.config, B, T, true, 1);
    int widest = 0;
    for (int kind = 0; kind < ACT_KINDS; kind++)
        if (d.acts.items[kind].width > widest) widest = d.acts.items[kind].width;
    d.values = (float *)mem_alloc(sizeof(float) * N * (size_t)widest);
    if (!safewriter_open(&d.w, o->out, &err)) fail("%s", err.text);
    int64_t two[2] = {B, T}, three[3] = {B, T, (int64_t)V}, one[1] = {1};
    safewriter_declare(&d.w, "tokens", ST_I32, 2, two);
    safewriter_declare(&d.w, "targets", ST_I32, 2, two);
    if (rows.starts) safewriter_declare(&d.w, "starts", ST_I32, 2, two);
    safewriter_declare(&d.w, "loss", ST_F32, 1, one);
    safewriter_declare(&d.w, "logits", ST_F32, 3, three);
    dump_acts(&d);
    disk_declare(&d.w, table, 0, table->count, &l.config, "grad.");
    disk_declare(&d.w, table, 0, table->count, &l.config, "updated.");
    safewriter_begin_data(&d.w);
    d.writing = true;
    safewriter_data(&d.w, inputs, sizeof(int32_t) * N);
    safewriter_data(&d.w, targets, sizeof(int32_t) * N);
    if (rows.starts) safewriter_data(&d.w, rows.starts, sizeof(int32_t) * N);
    float loss = (float)(model_loss(l.model) / (double)count);
    safewriter_data(&d.w, &loss, sizeof loss);
    safewriter_data(&d.w, logits, sizeof(float) * N * V);
    dump_acts(&d);
    disk_write(&d.w, l.model, MODEL_GRADIENT, table, 0, table->count, &l.config, 0);
    UpdateRule rule = rule_of_options(o, 1, o->lr, o->lr);
    UpdateResult r = model_update(l.model, &rule);
    disk_write(&d.w, l.model, MODEL_WEIGHT, table, 0, table->count, &l.config, 0);
    print_line("%s: loss %.6f over %zu tokens, %d tensors", o->out, (double)loss, count, d.w.count);
    free(rows.starts);
    free(d.values);
    if (!safewriter_commit(&d.w, &err)) fail("%s", err.text);
    if (!r.updated || !r.finite) // the file shows where it comes from
        fail("%s is written, but loss %g, gradient norm %g or a weight after the update is not finite%s", o->out, loss,
             r.grad_norm, r.updated ? "" : ", and updated.* are the weights from before");
    free(inputs);
    free(targets);
    free(logits);
    dataset_close(&data);
    param_table_free(&adapter);
    model_unload(&l);
    return EXIT_DONE;
}

#endif
