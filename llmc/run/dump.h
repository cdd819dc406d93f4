/*
dump.h: the verb `dump`: one training step on the first B sequences of the data, into a .safetensors file.

Writes tokens, targets, loss, logits, act.NAME for every activation that is kept, grad.NAME and updated.NAME for every
parameter, in Hugging Face's names and layout. The gradient is that of the mean loss.
*/
#ifndef LLMC_DUMP_H
#define LLMC_DUMP_H

#include "../text/source.h"
#include "load.h"
#include "stop.h"

// Shape of an activation in a dump: (B, T, width), (B, heads, T), or (B, T).
static inline int act_shape(int64_t shape[3], const Act *a, int B, int T) {
    shape[0] = B;
    shape[1] = a->per_head_first ? a->width : T;
    shape[2] = a->per_head_first ? T : a->width;
    return a->width == 1 ? 2 : 3;
}

static inline int verb_dump(const Options *o, Dist *dist) {
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
    BatchSource source = source_of_dataset(&data, false, 0);
    if (!source.next(&source, 0, B, inputs, targets, &err)) fail("%s", err.text);
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

#endif
