/*
train_gpt_cpu.c: the reference program: a GPT trained, evaluated and sampled on CPUs.

This file holds the model: forward, backward, update, as lists of equations over the kernels of
llmc/cpu/. llmc/model.h lists the tensors, llmc/run/trainer.h is the training loop around a step,
llmc/run/verbs.h has the other verbs. train_gpt.cu defines the same functions in the same order.

Reading order: Model, then block_forward() and block_backward() (one transformer block, step by step),
then model_forward() (embedding, blocks, head and loss), then the rest. llmc/cpu/shards.h says
where weights, gradients and moments lie, and how the ranks shard them.

Numbers are `real`: float, or double when built with -DREAL_DOUBLE, which is what the finite
difference tests use. Files hold floats either way.

B batch, T time, N = B T, C channels, L layers, NH query heads, NKV key/value heads, HS head size,
F MLP size, V vocabulary. Gradients carry a d in front.
*/
#include "llmc/cpu/cpu.h"

#include "llmc/cpu/attention.h"
#include "llmc/cpu/distill.h"
#include "llmc/cpu/embedding.h"
#include "llmc/cpu/gemm.h"
#include "llmc/cpu/lora.h"
#include "llmc/cpu/loss.h"
#include "llmc/cpu/mlp.h"
#include "llmc/cpu/norm.h"
#include "llmc/cpu/objective.h"
#include "llmc/cpu/peak.h"
#include "llmc/cpu/prefix.h"
#include "llmc/cpu/rope.h"
#include "llmc/cpu/shards.h"
#include "llmc/cpu/unit.h"
#include "llmc/cpu/xielu.h"
#include "llmc/engine.h"

// Most bytes of logits that exist at a time. The head works through the batch in chunks of rows of
// this size: large enough that a chunk is an efficient matrix product, small beside the weights.
// Tunable; 96 MiB is 500 rows of a 50k vocabulary in float.
#define LOGITS_BYTES ((size_t)96 << 20)

// The activations of one layer (and those outside the layers), or their gradients, as pointers.
typedef struct {
#define X(id, ...) real *id;
    ACTIVATIONS(X)
#undef X
} Activations;

struct Model {
    ModelSetup setup;
    Config config;
    Cpu cpu;
    char device[256];
    double bf16_gain;  // that --precision=auto measured; 0: it was not asked
    double peak_flops; // 0: not measured yet
    Shards shards;     // weights, gradients, moments
    ActTable acts, backs;
    char *activations; // (acts.bytes)
    char *backward;    // (backs.bytes): gradients of activations; only for training
    real *rope;        // (T + 1, HS/2, 2) of rope_table: cosines and sines; NULL with learned positions
    real *logits;      // (logits_rows, V): one chunk
    int logits_rows;
    real *cache;                     // (L, 2, seq_len, NKV HS): keys and values of decoding; NULL until it is called
    real *kept[SHARE_SLOTS];         // (L, 2, G, P, NKV HS) at most: of model_share; NULL likewise
    real *joined;                    // (2, B, P + T, NKV HS) at most: what a layer reads behind a slot
    PrefixShape prefix[SHARE_SLOTS]; // G and P of what was kept
    int keep, behind;                // ShareSlot, for the next forward pass
    const int32_t *row_of;
    ModelBatch batch; // of the last forward pass
    uint64_t seed;    // of dropout, and the run's number of the first token of a training pass
    int64_t token;
    bool drops;      // the last forward pass was one of training
    PairBatch pairs; // of the next pass, as model_pairs said; items NULL: there are none
    real *weights;   // (N) of its tokens, NULL until there are pairs
    double figures[PAIR_FIGURE_COUNT];
    double loss;
    Model *teacher; // NULL: none
    bool teaches;   // this is one: what it makes ends with the last norm
    DistillRule lesson;
    DistillSum taught;
    real *parts; // (2, B T): cross entropy and divergence
};

static Activations tensors_at(const ActTable *t, char *base, int layer) {
    Activations a;
#define X(id, width, per_head, place, ...)                                                                             \
    a.id = t->items[ACT_##id].present ? (real *)(base + act_offset(t, ACT_##id, place == PLACE_LAYER ? layer : 0))     \
                                      : NULL;
    ACTIVATIONS(X)
#undef X
    return a;
}
static Activations activations_of(const Model *m, int layer) { return tensors_at(&m->acts, m->activations, layer); }
static Activations backward_of(const Model *m, int layer) { return tensors_at(&m->backs, m->backward, layer); }

// ---------------------------------------------------------------- one transformer block

// The keys and values of T tokens go into the layer's KV cache (2, seq_len, NKV HS) at position `first`; attention then
// sees those of all positions so far.
static void cache_append(Model *m, Heads *h, real *cache, int T, int first) {
    size_t NK = (size_t)(m->config.kv_heads * m->config.head_size);
    Rows *both[2] = {&h->k, &h->v};
    for (int i = 0; i < 2; i++, cache += (size_t)m->setup.seq_len * NK) {
        for (int t = 0; t < T; t++)
            memcpy(cache + (size_t)(first + t) * NK, both[i]->at + (size_t)t * (size_t)both[i]->ld, sizeof(real) * NK);
        both[i]->at = cache, both[i]->ld = (int)NK;
    }
}

// How a layer's queries and keys are normalised and rotated; first: the position of a document's first token.
static Rotation rotation_of(const Model *m, int layer, const Weights *w, const Activations *a, int first,
                            AttentionShape shape) {
    const Config *c = &m->config;
    const real *rope = m->rope ? m->rope + rope_first(c, layer, m->setup.seq_len) : NULL;
    Rotation r = {w->qnorm_w, w->knorm_w, a->qk_rstd, rope, rope_step(c, layer), first, (real)c->norm_eps, shape};
    return r;
}

// Queries, keys and values (or their gradients) as columns of qkv, and of qk once rotated.
static Heads heads_of(const Config *c, const Activations *a) {
    int NQ = c->heads * c->head_size, NK = c->kv_heads * c->head_size, QKV = config_qkv(c);
    Rows q = {c->rope ? a->qk : a->qkv, c->rope ? NQ + NK : QKV};
    Heads h = {q, {q.at + NQ, q.ld}, {a->qkv + NQ + NK, QKV}};
    return h;
}

// Where a layer's keys and values of N tokens of prefixes begin.
static size_t prefix_layer(const Model *m, int layer, int N) {
    return (size_t)layer * 2 * (size_t)N * (size_t)(m->config.kv_heads * m->config.head_size);
}

// Keys and values of B sequences of T tokens become those of their prefixes and their own.
static void behind_prefix(Model *m, int layer, Heads *h, int B, int T) {
    PrefixShape s = m->prefix[m->behind];
    s.B = B, s.T = T, s.NK = m->config.kv_heads * m->config.head_size;
    prefix_join(m->joined, m->kept[m->behind] + prefix_layer(m, layer, s.G * s.P), *h, m->row_of, s, &m->cpu);
    h->k.at = m->joined, h->v.at = m->joined + (size_t)B * (size_t)(s.P + T) * (size_t)s.NK;
    h->k.ld = h->v.ld = s.NK;
}

// The keys and values of N tokens of a layer, into the slot that model_share named.
static void keep_prefix(Model *m, int layer, Heads h, int N) {
    prefix_keep(m->kept[m->keep] + prefix_layer(m, layer, N), h, N, m->config.kv_heads * m->config.head_size, &m->cpu);
}

// The adapters beside a matrix in a layer, in the order of its rows; returns how many there are.
static int adapters_of(Adapter list[LORA_KINDS], const Model *m, int layer, int matrix, int N) {
    const Config *c = &m->config;
    if (!c->lora.rank) return 0;
    Weights w = shards_weights(&m->shards, layer);
    Activations a = activations_of(m, layer), d = {0};
    Gradients dw = {0};
    int count = 0;
    if (m->setup.gradients) dw = shards_gradients(&m->shards, layer), d = backward_of(m, layer);
#define X(id, matrix_, row, rows)                                                                                      \
    if (PARAM_##matrix_ == matrix && lora_has(c, LORA_##id)) {                                                         \
        int C = param_find(&m->shards.table, PARAM_lora_##id##_a, layer)->cols;                                        \
        list[count++] = (Adapter){w.lora_##id##_a,                                                                     \
                                  w.lora_##id##_b,                                                                     \
                                  dw.lora_##id##_a,                                                                    \
                                  dw.lora_##id##_b,                                                                    \
                                  a.lora_##id,                                                                         \
                                  d.lora_##id,                                                                         \
                                  m->drops ? a.lora_x : NULL,                                                          \
                                  N,                                                                                   \
                                  C,                                                                                   \
                                  c->lora.rank,                                                                        \
                                  rows,                                                                                \
                                  row,                                                                                 \
                                  (real)lora_scale(c),                                                                 \
                                  c->lora.dropout,                                                                     \
                                  lora_stream(m->seed, layer, #id),                                                    \
                                  (uint64_t)m->token};                                                                 \
    }
    LORA_TARGETS(X)
#undef X
    return count;
}

// y (N, width of the matrix) += what its adapters make of x; NULL: only what they keep for the backward pass.
static void adapters_forward(real *y, const real *x, Model *m, int layer, int matrix, int N) {
    Adapter list[LORA_KINDS];
    int count = adapters_of(list, m, layer, matrix, N), ld = param_find(&m->shards.table, matrix, layer)->rows;
    for (int i = 0; i < count; i++) {
        lora_inner(&list[i], x, &m->cpu);
        if (y) lora_outer(y, ld, &list[i], &m->cpu);
    }
}

// dx += and the gradients of the adapters +=, from dy (N, width of the matrix); dx NULL: not wanted.
static void adapters_backward(real *dx, const real *dy, const real *x, Model *m, int layer, int matrix, int N) {
    Adapter list[LORA_KINDS];
    int count = adapters_of(list, m, layer, matrix, N), ld = param_find(&m->shards.table, matrix, layer)->rows;
    for (int i = 0; i < count; i++) lora_backward(dx, dy, ld, x, &list[i], &m->cpu);
}

// What of a block's forward pass is wanted: all of it, or what the backward pass needs and does not have.
typedef enum { EXTENT_ALL, EXTENT_CHEAP, EXTENT_AGAIN } Extent;

// a.residual2 = block(x), x: (N, C). With a cache (model_decode_rows) B is 1, the tokens stand at positions
// first .. first + T - 1, and attention reaches back over all positions before.
static void block_forward(Model *m, int layer, const real *x, int B, int T, Extent extent, real *cache, int first) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    Weights w = shards_weights(&m->shards, layer);
    Activations a = activations_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NQ = c->heads * c->head_size;
    real eps = (real)c->norm_eps;
    LinearShape qkv = {N, C, config_qkv(c)}, proj = {N, NQ, C}, fc = {N, C, config_fc(c)}, fcproj = {N, F, C};
    AttentionShape shape = attention_shape(c, layer, B, T, first + T, cache ? NULL : m->batch.starts);
    Norm norm1 = {w.norm1_w, w.norm1_b, a.norm1_mean, a.norm1_rstd, N, C, eps};
    Norm norm2 = {w.norm2_w, w.norm2_b, a.norm2_mean, a.norm2_rstd, N, C, eps};
    Rotation rotation = rotation_of(m, layer, &w, &a, first, shape);
    bool products = extent != EXTENT_CHEAP;

    // 1. norm1 = norm(x)
    norm_forward(a.norm1, x, norm1, cpu);
    // 2. qkv = norm1 Wqkv^T + b, and here as in 5, 7 and 9 what adapters add: u = scale x A^T, y += u B^T
    if (products) linear_forward(a.qkv, a.norm1, w.qkv_w, w.qkv_b, NULL, qkv, cpu);
    if (products) adapters_forward(a.qkv, a.norm1, m, layer, PARAM_qkv_w, N);
    // 3. qk = rotate(norm(q), norm(k))
    if (c->rope) qk_forward(a.qk, a.qkv, rotation, cpu);
    // 4. attention = softmax(q k^T / sqrt(HS)) v
    if (products) {
        Heads h = heads_of(c, &a);
        if (cache) cache_append(m, &h, cache, T, first);
        if (m->behind) behind_prefix(m, layer, &h, B, T);
        if (m->keep) keep_prefix(m, layer, h, B * (first + T));
        attention_forward(a.attention, a.attention_lse, h, shape, cpu);
    }
    // 5. residual1 = x + attention Wproj^T + b
    if (products) linear_forward(a.residual1, a.attention, w.proj_w, w.proj_b, x, proj, cpu);
    if (products) adapters_forward(a.residual1, a.attention, m, layer, PARAM_proj_w, N);
    // 6. norm2 = norm(residual1)
    norm_forward(a.norm2, a.residual1, norm2, cpu);
    // 7. fc = norm2 Wfc^T + b
    if (products) linear_forward(a.fc, a.norm2, w.fc_w, w.fc_b, NULL, fc, cpu);
    if (products) adapters_forward(a.fc, a.norm2, m, layer, PARAM_fc_w, N);
    // 8. mlp = f(fc), or f(gate) up
    if (w.xielu) xielu_forward(a.mlp, a.fc, w.xielu, w.xielu_fixed, N, F, cpu);
    else mlp_forward(a.mlp, a.fc, N, F, c->activation, c->gated, cpu);
    // 9. residual2 = residual1 + mlp Wfcproj^T + b
    if (extent == EXTENT_ALL) linear_forward(a.residual2, a.mlp, w.fcproj_w, w.fcproj_b, a.residual1, fcproj, cpu);
    if (products) adapters_forward(extent == EXTENT_ALL ? a.residual2 : NULL, a.mlp, m, layer, PARAM_fcproj_w, N);
}

// The gradient of the residual stream, one step further down: one memory, unless every gradient is kept.
static void pass_on(real *to, const real *from, size_t n) {
    if (to != from) memcpy(to, from, sizeof(real) * n);
}

// dx (N, C), the gradient of the block's input x, from d.residual2, that of its output; adds the gradients of the
// block's weights. dx NULL: nothing below is trained. The steps of block_forward, backwards.
static void block_backward(Model *m, int layer, const real *x, real *dx, int B, int T) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    Weights w = shards_weights(&m->shards, layer);
    Gradients dw = shards_gradients(&m->shards, layer);
    Activations a = activations_of(m, layer), d = backward_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NQ = c->heads * c->head_size;
    size_t NC = (size_t)N * (size_t)C;
    real eps = (real)c->norm_eps;
    LinearShape qkv = {N, C, config_qkv(c)}, proj = {N, NQ, C}, fc = {N, C, config_fc(c)}, fcproj = {N, F, C};
    AttentionShape shape = attention_shape(c, layer, B, T, T, m->batch.starts);
    Norm norm1 = {w.norm1_w, w.norm1_b, a.norm1_mean, a.norm1_rstd, N, C, eps};
    Norm norm2 = {w.norm2_w, w.norm2_b, a.norm2_mean, a.norm2_rstd, N, C, eps};
    Rotation rotation = rotation_of(m, layer, &w, &a, 0, shape);

    // What was not kept is computed again (activation checkpointing).
    if (m->setup.recompute == RECOMPUTE_CHEAP) block_forward(m, layer, x, B, T, EXTENT_CHEAP, NULL, 0);
    if (m->setup.recompute == RECOMPUTE_BLOCK) block_forward(m, layer, x, B, T, EXTENT_AGAIN, NULL, 0);

    // 9. dmlp = dresidual2 Wfcproj
    linear_backward_weight(dw.fcproj_w, dw.fcproj_b, d.residual2, a.mlp, fcproj, cpu);
    linear_backward_input(d.mlp, d.residual2, w.fcproj_w, fcproj, cpu);
    adapters_backward(d.mlp, d.residual2, a.mlp, m, layer, PARAM_fcproj_w, N);
    // 8. dfc = dmlp f'(fc), or of gate and up
    if (w.xielu) xielu_backward(d.fc, dw.xielu, d.mlp, a.fc, w.xielu, w.xielu_fixed, N, F, cpu);
    else mlp_backward(d.fc, d.mlp, a.fc, N, F, c->activation, c->gated, cpu);
    // 7. dnorm2 = dfc Wfc
    linear_backward_weight(dw.fc_w, dw.fc_b, d.fc, a.norm2, fc, cpu);
    linear_backward_input(d.norm2, d.fc, w.fc_w, fc, cpu);
    adapters_backward(d.norm2, d.fc, a.norm2, m, layer, PARAM_fc_w, N);
    // 6. dresidual1 = dresidual2 + norm2 backward
    pass_on(d.residual1, d.residual2, NC);
    norm_backward(d.residual1, dw.norm2_w, dw.norm2_b, d.norm2, a.residual1, norm2, cpu);
    // 5. dattention = dresidual1 Wproj
    linear_backward_weight(dw.proj_w, dw.proj_b, d.residual1, a.attention, proj, cpu);
    linear_backward_input(d.attention, d.residual1, w.proj_w, proj, cpu);
    adapters_backward(d.attention, d.residual1, a.attention, m, layer, PARAM_proj_w, N);
    // 4. dq, dk, dv
    attention_backward(heads_of(c, &d), d.attention, a.attention, a.attention_lse, heads_of(c, &a), shape, cpu);
    // 3. through rotation and norm
    if (c->rope) qk_backward(d.qkv, dw.qnorm_w, dw.knorm_w, d.qk, a.qkv, rotation, cpu);
    // 2. dnorm1 = dqkv Wqkv
    linear_backward_weight(dw.qkv_w, dw.qkv_b, d.qkv, a.norm1, qkv, cpu);
    if (dx) linear_backward_input(d.norm1, d.qkv, w.qkv_w, qkv, cpu);
    adapters_backward(dx ? d.norm1 : NULL, d.qkv, a.norm1, m, layer, PARAM_qkv_w, N);
    if (!dx) return;
    // 1. dx = dresidual1 + norm1 backward
    pass_on(dx, d.residual1, NC);
    norm_backward(dx, dw.norm1_w, dw.norm1_b, d.norm1, x, norm1, cpu);
}

// ---------------------------------------------------------------- the whole model

// The input of a layer: the output of the one before, or the embedding; and its gradient.
static real *layer_input(const Model *m, int layer) {
    Activations a = activations_of(m, layer > 0 ? layer - 1 : 0);
    return layer > 0 ? a.residual2 : a.embedding;
}
static real *layer_input_gradient(const Model *m, int layer) {
    Activations d = backward_of(m, layer > 0 ? layer - 1 : 0);
    return layer > 0 ? d.residual2 : d.embedding;
}

static void model_share(Model *m, ShareSlot keep, ShareSlot behind, const int32_t *row_of) {
    const Config *c = &m->config;
    size_t row = sizeof(real) * 2 * (size_t)(c->kv_heads * c->head_size), most = model_share_rows(&m->setup, keep);
    if (keep && !m->kept[keep]) m->kept[keep] = (real *)mem_alloc(row * most * (size_t)c->layers);
    if (!m->joined) m->joined = (real *)mem_alloc(row * (size_t)m->setup.batch_size * (size_t)m->setup.seq_len);
    m->keep = keep, m->behind = behind, m->row_of = row_of;
}

// The losses of a pass, for those of its pairs: returns the weights (N) of its tokens in the gradient, and adds the
// pairs' losses to the model's. A chunk of all rows is still there as logits then.
static const real *pair_losses(Model *m, Matrix head, double grad_scale, int N) {
    const ModelBatch *b = &m->batch;
    int C = m->config.channels, V = m->config.vocab_size;
    Activations a = activations_of(m, 0);
    for (int row = 0; row < N; row += m->logits_rows) {
        int rows = N - row < m->logits_rows ? N - row : m->logits_rows;
        LinearShape chunk = {rows, C, V};
        linear_forward(m->logits, a.normf + (size_t)row * (size_t)C, head, NULL, NULL, chunk, &m->cpu);
        cross_entropy(a.losses + row, m->logits, b->targets + row, NULL, 0, rows, V, &m->cpu);
    }
    if (!m->weights) m->weights = (real *)mem_alloc(sizeof(real) * (size_t)(m->setup.batch_size * m->setup.seq_len));
    m->pairs.scale = grad_scale;
    m->loss += objective_weights(m->weights, m->figures, a.losses, &m->pairs, N, &m->cpu);
    return m->weights;
}

// losses and gradients of the logits of `rows` rows, which take the place of them, beside those of the teacher. With
// alpha 0 the teacher is only looked at: the gradient is the ordinary one, to the bit.
static void learn(Model *m, int row, int rows, real grad_scale) {
    Model *t = m->teacher;
    Weights w = shards_weights(&t->shards, 0);
    int C = t->config.channels, V = t->config.vocab_size, N = m->batch.B * m->batch.T;
    real *losses = activations_of(m, 0).losses + row, *ce = m->parts + row, *kl = m->parts + N + row;
    const int32_t *targets = m->batch.targets + row;
    bool weighs = m->lesson.alpha > 0;
    DistillShape s = {rows, V, weighs ? grad_scale : 0, (real)m->lesson.alpha, (real)m->lesson.temperature};
    linear_forward(t->logits, activations_of(t, 0).normf + (size_t)row * (size_t)C, t->config.tied ? w.wte : w.head_w,
                   NULL, NULL, (LinearShape){rows, C, V}, &t->cpu);
    distill(losses, ce, kl, m->logits, t->logits, targets, s, &m->cpu);
    if (!weighs) cross_entropy(losses, m->logits, targets, NULL, grad_scale, rows, V, &m->cpu);
    for (int i = 0; i < rows; i++) m->taught.ce += (double)ce[i], m->taught.kl += (double)kl[i];
}

static void model_forward(Model *m, const ModelBatch *batch, double grad_scale, float *logits_out) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    int B = batch->B, T = batch->T, N = B * T, C = c->channels, V = c->vocab_size;
    Weights w = shards_weights(&m->shards, 0);
    Activations a = activations_of(m, 0);
    Norm normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, N, C, (real)c->norm_eps};
    int first = m->behind ? m->prefix[m->behind].P : 0;
    model_batch_check(batch);
    m->batch = *batch;
    if (m->keep) m->prefix[m->keep].G = B, m->prefix[m->keep].P = first + T;
    m->drops = c->lora.dropout > 0 && grad_scale != 0;

    // 1. token and position embedding
    embedding_forward(a.embedding, (TokenRows){batch->inputs, batch->starts, first, B, T}, w.wte, w.wpe, C, cpu);
    // 2. the blocks
    for (int l = 0; l < c->layers; l++) block_forward(m, l, layer_input(m, l), B, T, EXTENT_ALL, NULL, first);
    m->keep = m->behind = SHARE_NONE;
    // 3. the last norm
    norm_forward(a.normf, layer_input(m, c->layers), normf, cpu);
    if (m->teaches) return;
    bool learns = m->teacher && grad_scale != 0;
    if (learns) model_forward(m->teacher, batch, 0, NULL);
    // 4. head and loss, a chunk of rows at a time; with their backward, since the logits go away
    Matrix head = c->tied ? w.wte : w.head_w;
    real *dhead = NULL, *dnormf = NULL;
    if (grad_scale != 0) {
        Gradients dw = shards_gradients(&m->shards, 0);
        dhead = c->tied ? dw.wte : dw.head_w;
        dnormf = backward_of(m, 0).normf;
    }
    const real *weights = m->pairs.items && grad_scale != 0 ? pair_losses(m, head, grad_scale, N) : NULL;
    for (int row = 0; row < N; row += m->logits_rows) {
        int rows = N - row < m->logits_rows ? N - row : m->logits_rows;
        size_t at = (size_t)row * (size_t)C;
        LinearShape chunk = {rows, C, V};
        if (!weights || rows < N) linear_forward(m->logits, a.normf + at, head, NULL, NULL, chunk, cpu);
        for (size_t i = 0; logits_out && i < (size_t)rows * (size_t)V; i++)
            logits_out[(size_t)row * (size_t)V + i] = (float)m->logits[i];
        const real *own = weights ? weights + row : NULL;
        if (learns) learn(m, row, rows, (real)grad_scale);
        else cross_entropy(a.losses + row, m->logits, batch->targets + row, own, (real)grad_scale, rows, V, cpu);
        if (grad_scale == 0) continue;
        linear_backward_weight(dhead, NULL, m->logits, a.normf + at, chunk, cpu);
        linear_backward_input(dnormf + at, m->logits, head, chunk, cpu);
    }
    for (int i = 0; i < N && !weights; i++) m->loss += (double)a.losses[i];
    m->pairs.items = NULL;
}

static void model_place(Model *m, uint64_t seed, int64_t token) { m->seed = seed, m->token = token; }

static void model_pairs(Model *m, const PairBatch *pairs) { m->pairs = *pairs; }

static void model_figures(Model *m, double *figures) {
    memcpy(figures, m->figures, sizeof m->figures);
    memset(m->figures, 0, sizeof m->figures);
}

static void model_backward(Model *m, bool last) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    int B = m->batch.B, T = m->batch.T, N = B * T, C = c->channels, L = c->layers;
    Weights w = shards_weights(&m->shards, 0);
    Gradients dw = shards_gradients(&m->shards, 0);
    Activations a = activations_of(m, 0), d = backward_of(m, 0);
    Norm normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, N, C, (real)c->norm_eps};

    // 3. the last norm (4, the head, went backward in model_forward)
    memset(layer_input_gradient(m, L), 0, sizeof(real) * (size_t)N * (size_t)C);
    norm_backward(layer_input_gradient(m, L), dw.normf_w, dw.normf_b, d.normf, layer_input(m, L), normf, cpu);
    shards_sum(&m->shards, 1 + L, last);
    // 2. the blocks; below the first one's products may be nothing that is trained
    bool below = dw.norm1_w || dw.norm1_b || dw.wte || dw.wpe || m->setup.keep_backward;
    for (int l = L - 1; l >= 0; l--) {
        block_backward(m, l, layer_input(m, l), l > 0 || below ? layer_input_gradient(m, l) : NULL, B, T);
        shards_sum(&m->shards, 1 + l, last);
    }
    // 1. embeddings
    embedding_backward(dw.wte, dw.wpe, layer_input_gradient(m, 0),
                       (TokenRows){m->batch.inputs, m->batch.starts, 0, B, T}, C, cpu);
    shards_sum(&m->shards, 0, last);
}

static void model_zero_gradients(Model *m) { shards_zero_gradients(&m->shards); }

static double model_loss(Model *m) {
    double loss = m->loss;
    m->loss = 0;
    return loss;
}

static void model_teach(Model *m, Model *teacher, DistillRule rule) {
    m->teacher = teacher, m->lesson = rule;
    teacher->teaches = true;
    m->parts = (real *)mem_alloc(sizeof(real) * 2 * (size_t)m->setup.batch_size * (size_t)m->setup.seq_len);
}

static DistillSum model_taught(Model *m) {
    DistillSum sum = m->taught;
    m->taught.ce = m->taught.kl = 0;
    return sum;
}

// Here all is computed before model_update returns, so there is no time for anything else.
static bool model_begin_update(Model *m, const UpdateRule *rule) { return (void)m, (void)rule, false; }

static UpdateResult model_update(Model *m, const UpdateRule *rule) {
    UpdateResult result;
    // 1. loss and gradient norm over all ranks
    double squares;
    result.loss = model_loss(m);
    shards_totals(&m->shards, &result.loss, &squares);
    result.grad_norm = sqrt(squares);
    // 2. nothing that is not finite, or above its bound, reaches the weights
    result.updated = isfinite(result.loss) && isfinite(result.grad_norm) &&
                     !(rule->max_loss > 0 && result.loss > rule->max_loss) &&
                     !(rule->max_norm > 0 && result.grad_norm > rule->max_norm);
    result.finite = true;
    if (!result.updated) return result;
    // 3. clip and update, gradients back to zero; then everybody has everybody's weights, and knows if they are numbers
    double clip = rule->grad_clip > 0 && result.grad_norm > rule->grad_clip ? rule->grad_clip / result.grad_norm : 1.0;
    result.finite = shards_update(&m->shards, rule, clip);
    return result;
}

static void model_send(Model *m, const ModelBatch *batch) { (void)m, (void)batch; }

static double model_muon_seconds(const Model *m) { return m->shards.muon_seconds; }

// The logits (rows, V), as floats, of rows x (rows, C) behind the last norm.
static const float *head_rows(Model *m, const real *x, int rows) {
    const Config *c = &m->config;
    Weights w = shards_weights(&m->shards, 0);
    LinearShape head = {rows, c->channels, c->vocab_size};
    linear_forward(m->logits, x, c->tied ? w.wte : w.head_w, NULL, NULL, head, &m->cpu);
#ifdef REAL_DOUBLE
    float *out = (float *)m->logits; // narrowed in place, front to back: each write lies behind the reads
    for (size_t i = 0; i < (size_t)rows * (size_t)c->vocab_size; i++) {
        float value = (float)m->logits[i];
        memcpy(out + i, &value, sizeof value);
    }
    return out;
#else
    return m->logits;
#endif
}

static const float *model_logits(Model *m, int row) {
    return head_rows(m, activations_of(m, 0).normf + (size_t)row * (size_t)m->config.channels, 1);
}

static const float *model_decode_rows(Model *m, const int32_t *tokens, int n, int position, int rows) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    int C = c->channels, most = m->setup.batch_size * m->setup.seq_len;
    size_t layer_cache = (size_t)2 * (size_t)m->setup.seq_len * (size_t)(c->kv_heads * c->head_size);
    if (!m->cache) m->cache = (real *)mem_alloc(sizeof(real) * layer_cache * (size_t)c->layers);
    Weights w = shards_weights(&m->shards, 0);
    Activations a = activations_of(m, 0);
    Norm normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, rows, C, (real)c->norm_eps};
    const real *x = NULL;
    m->drops = false;
    int T = 0;
    for (int done = 0; done < n; done += T) {
        T = n - done < most ? n - done : most;
        embedding_forward(a.embedding, (TokenRows){tokens + done, NULL, position + done, 1, T}, w.wte, w.wpe, C, cpu);
        for (int l = 0; l < c->layers; l++)
            block_forward(m, l, layer_input(m, l), 1, T, EXTENT_ALL, m->cache + layer_cache * (size_t)l,
                          position + done);
        x = layer_input(m, c->layers) + (size_t)(T - rows) * (size_t)C;
    }
    norm_forward(a.normf, x, normf, cpu);
    return head_rows(m, a.normf, rows);
}

// ---------------------------------------------------------------- the program and its memory

static const char *engine_name(void) { return "train_gpt_cpu"; }

static bool engine_preflight(const Dist *dist, Error *err) {
    (void)err;
#ifdef _OPENMP
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = omp_get_max_threads();
    if (dist->rank == 0 && dist->local_size > 1 && (long)dist->local_size * threads > cores)
        warn("%d ranks of %d threads on %s, which has %ld cores: expect them to wait for each other; set --threads",
             dist->local_size, threads, dist->host, cores);
#else
    (void)dist;
#endif
    return true;
}

static void *engine_host_alloc(size_t bytes) { return mem_alloc(bytes); }
static void engine_host_free(void *memory) { free(memory); }

// Rows of logits that exist at a time.
static size_t logits_rows(const ModelSetup *setup) {
    size_t N = (size_t)setup->batch_size * (size_t)setup->seq_len,
           rows = LOGITS_BYTES / sizeof(real) / (size_t)setup->config.vocab_size / 64 * 64;
    return rows < 64 ? (N < 64 ? N : 64) : rows < N ? rows : N;
}

static ModelMemory model_memory(const ModelSetup *setup) {
    const Config *c = &setup->config;
    int B = setup->batch_size, T = setup->seq_len, R = setup->dist->size;
    ParamTable t = coded_table(&setup->config, setup->frozen, setup->base);
    double trained = 0, size = sizeof(real);
    for (int i = 0; i < t.segments && setup->gradients; i++)
        trained += (double)(t.segment_trained[i] - t.segment_start[i]);
    ActTable acts =
        act_table(c, B, T, setup->gradients ? setup->recompute : RECOMPUTE_BLOCK, sizeof(real), sizeof(real));
    ModelMemory m = {shards_weight_bytes(&t, setup),
                     size * trained,
                     setup->gradients ? size * state_numbers(&t, setup->muon.optimizer) / (setup->zero ? R : 1) : 0,
                     (double)acts.bytes,
                     0,
                     setup->shares ? model_share_bytes(setup, sizeof(real)) : 0,
                     true};
    m.buffers = size * (double)logits_rows(setup) * c->vocab_size;
    if (setup->gradients) m.buffers += (double)backward_table(c, B, T, setup->keep_backward, sizeof(real)).bytes;
    if (c->rope) m.buffers += size * (T + 1) * (double)c->head_size;
    if (setup->gradients && R > 1) m.buffers += size * RANKS_WINDOW * (double)RANKS_PIECE * (R - 1);
    if (setup->gradients) m.buffers += size * (double)muon_scratch_most(&t, &setup->muon, MUON_SQUARES);
    if (setup->pairs) m.buffers += size * B * T; // weights of their tokens
    param_table_free(&t);
    return m;
}

static double engine_memory(const Dist *dist) {
    MemoryRoom room;
    memory_room(&room, "");
    const MemoryBound *least = memory_least(&room);
    return least ? least->left / dist->local_size : 0;
}

// Whether the model's products are to be in bf16, the same on all ranks.
static bool model_in_bf16(Model *m) {
    const ModelSetup *s = &m->setup;
    if (s->precision != PRECISION_AUTO) return s->precision == PRECISION_BF16;
    if (s->kernels == KERNELS_MATRIX || s->kernels == KERNELS_EMULATED) return true; // it has no other products
    if (s->dist->rank == 0)
        m->bf16_gain =
            cpu_bf16_gain(&m->cpu, s->batch_size * s->seq_len, s->config.channels, s->config.hidden, s->kernels);
    dist_broadcast(s->dist, &m->bf16_gain, sizeof m->bf16_gain);
    return m->bf16_gain >= 1.3;
}

static Model *model_create(const ModelSetup *setup, Error *err) {
    if (!setup_check(setup, err)) return NULL;
    if (setup->zero > 1 || setup->zero_group) {
        error_set(err, "train_gpt_cpu shares out the optimizer's state at most, among all ranks: --zero=0 or 1 and no "
                       "--zero_group; train_gpt does more");
        return NULL;
    }
    if (setup->no_master) {
        error_set(err, "train_gpt_cpu keeps its weights in fp32, which --master_weights=none is not for: leave it out");
        return NULL;
    }
    if (setup->gradients && setup->dist->size > 1 && !setup->dist->mpi) {
        error_set(err,
                  "%d ranks without MPI, which train_gpt_cpu sums gradients over: build it with MPI=1 and start it "
                  "with mpirun, or with srun --mpi=pmix",
                  setup->dist->size);
        return NULL;
    }
    int deal;
    if (!shards_deal(&deal, setup->muon.optimizer, err)) return NULL;
    Model *m = (Model *)mem_alloc(sizeof(Model));
    m->setup = *setup;
    m->config = setup->config;
    const Config *c = &m->config;
    if (!cpu_open(&m->cpu, setup->threads, err) || !cpu_choose_unit(&m->cpu, model_in_bf16(m), setup->kernels, err)) {
        free(m);
        return NULL;
    }
    int B = setup->batch_size, T = setup->seq_len;
    size_t angles = (size_t)(T + 1) * (size_t)c->head_size;
    shards_open(&m->shards, setup, deal, &m->cpu);
    // Without a backward pass one slot for each activation serves all layers.
    m->acts = act_table(c, B, T, setup->gradients ? setup->recompute : RECOMPUTE_BLOCK, sizeof(real), sizeof(real));
    m->activations = (char *)mem_alloc(m->acts.bytes);
    if (setup->gradients) {
        m->backs = backward_table(c, B, T, setup->keep_backward, sizeof(real));
        m->backward = (char *)mem_alloc(m->backs.bytes);
    }
    if (c->rope) {
        double *table = (double *)mem_alloc(sizeof(double) * angles);
        m->rope = (real *)mem_alloc(sizeof(real) * angles);
        rope_table(table, T, c);
        for (size_t i = 0; i < angles; i++) m->rope[i] = (real)table[i];
        free(table);
    }
    m->logits_rows = (int)logits_rows(setup);
    m->logits = (real *)mem_alloc(sizeof(real) * (size_t)m->logits_rows * (size_t)c->vocab_size);
    return m;
}

static void model_destroy(Model *m) {
    if (!m) return;
    model_destroy(m->teacher);
    free(m->parts);
    shards_close(&m->shards);
    free(m->activations);
    free(m->backward);
    free(m->rope);
    free(m->logits);
    free(m->cache);
    for (int i = 0; i < SHARE_SLOTS; i++) free(m->kept[i]);
    free(m->joined);
    free(m->weights);
    cpu_close(&m->cpu);
    free(m);
}

static const char *model_device(Model *m) {
    cpu_description(m->device, &m->cpu);
    size_t n = strlen(m->device);
    if (m->bf16_gain > 0)
        snprintf(m->device + n, sizeof m->device - n, "; --precision=auto: bf16 is %.2f times as fast as fp32 here",
                 m->bf16_gain);
    return m->device;
}

static int model_precision(const Model *m) { return m->cpu.bf16 ? PRECISION_BF16 : PRECISION_FP32; }

static double model_peak_flops(Model *m) {
    if (m->peak_flops == 0) m->peak_flops = cpu_peak_flops(&m->cpu);
    return m->peak_flops;
}

static DeviceReadings model_readings(Model *m) { return (void)m, no_readings(); }

// ---------------------------------------------------------------- numbers in and out

static void model_set(Model *m, int array, const Param *p, const float *values) {
    shards_set(&m->shards, array, p, values);
}

static void model_get(Model *m, int array, const Param *p, float *values, int to) {
    shards_get(&m->shards, array, p, values, to);
}

static bool model_copy(Model *m, bool begins) { return (void)m, (void)begins, false; }
static void model_copied(Model *m) { (void)m; }

static bool model_keeps(const Model *m, int array, const Param *p) { return shards_keeps(&m->shards, array, p); }

static void copy_out(float *values, const Model *m, const ActTable *t, const char *base, int kind, int layer) {
    const real *from = (const real *)(base + act_offset(t, kind, layer));
    size_t n = (size_t)m->batch.B * (size_t)m->batch.T * (size_t)t->items[kind].width;
    for (size_t i = 0; i < n; i++) values[i] = (float)from[i];
}

static bool model_get_activation(Model *m, int kind, int layer, float *values) {
    const Act *a = &m->acts.items[kind];
    // A slot that the layers share holds the last one after a forward pass and the first after a backward pass.
    if (!a->present || (a->place == PLACE_LAYER && a->slots == 1 && m->config.layers > 1)) return false;
    copy_out(values, m, &m->acts, m->activations, kind, layer);
    return true;
}

// Tests alone ask for it so far.
static bool model_get_activation_gradient(Model *m, int kind, int layer, float *values) {
    if (!m->setup.keep_backward || !m->backs.items[kind].present) return false;
    copy_out(values, m, &m->backs, m->backward, kind, layer);
    return true;
}

// ---------------------------------------------------------------- main

#include "llmc/run/verbs.h"

#ifndef LLMC_NO_MAIN
int main(int argc, char **argv) {
    process_open();
    const char *missing = cpu_missing_instructions();
    if (missing)
        fail("this binary was built for CPUs with %s, which this one lacks; build it with make ARCH=x86-64-v3, or "
             "ARCH=native on this machine",
             missing);
    return program_main(argc, argv);
}
#endif
