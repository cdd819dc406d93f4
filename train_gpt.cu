/*
train_gpt.cu: the same program as train_gpt_cpu.c for NVIDIA GPUs, in fused kernels.

This file holds the model: forward, backward, update, as lists of equations over the kernels of
llmc/cuda/. It defines the functions of train_gpt_cpu.c in the same order with the same numbered
steps (the passes of model_forward, model_backward and model_update as forward_pass, backward_pass and
update_pass); where one kernel or product does two steps, it stands under both numbers.

Parameters and activations are `real`: bf16, or float when built with -DFLOAT32. Always float:
statistics (means, rstd, lse, losses), the parameters' gradients, which micro-batches add to (gradient
accumulation), Adam's moments, and the master weights, which the update works on (mixed precision).

Several ranks shard optimizer state, gradients and weights (ZeRO): see llmc/cuda/shards.h.

The host runs ahead of the device (asynchronous launches): it waits only where a loss is read (model_update,
model_loss) and where values are copied out. A step is one CUDA graph, captured at the second step of a shape and
replayed from then on: forward, backward, the sums over the ranks and the update. To have it in one, model_forward and
model_backward only note what is to be done (see catch_up()); micro-batches before a step's last one replay a
graph of forward and backward. LLMC_GRAPHS=0 in the environment turns graphs off (for debuggers).

B batch, T time, N = B T, C channels, L layers, NH query heads, NKV key/value heads, HS head size,
F MLP size, V vocabulary, W columns of logits. Gradients carry a d in front.
*/
#include "llmc/cuda/cuda.h"

#include "llmc/cuda/attention.h"
#include "llmc/cuda/distill.h"
#include "llmc/cuda/embedding.h"
#include "llmc/cuda/gemm.h"
#include "llmc/cuda/graph.h"
#include "llmc/cuda/lora.h"
#include "llmc/cuda/loss.h"
#include "llmc/cuda/mlp.h"
#include "llmc/cuda/norm.h"
#include "llmc/cuda/nvml.h"
#include "llmc/cuda/objective.h"
#include "llmc/cuda/optimizer.h"
#include "llmc/cuda/peak.h"
#include "llmc/cuda/prefix.h"
#include "llmc/cuda/preflight.h"
#include "llmc/cuda/rope.h"
#include "llmc/cuda/shards.h"
#include "llmc/cuda/xielu.h"
#include "llmc/engine.h"
#include "llmc/run/options.h"
#include <type_traits>

typedef struct {
#define X(id, width, per_head, place, present, lifetime, type_)                                                        \
    std::conditional<type_ == TYPE_STATISTIC, float, real>::type *id;
    ACTIVATIONS(X)
#undef X
} Activations;

// What of a training pass is not on the stream yet: bits of Model.pending.
enum Pass { PASS_FORWARD = 1, PASS_BACKWARD = 2 };

struct Model {
    ModelSetup setup;
    Config config;
    Device gpu;
    Shards shards;
    Nvml nvml;
    Str description;
    ActTable acts, backs;
    char *activations, *backward;  // (acts.bytes), (backs.bytes): their gradients; only for training
    float *rope;                   // (T + 1, HS/2, 2) of rope_table: cosines and sines; NULL with learned positions
    real *logits;                  // (logits_rows, logits_width): one chunk
    int logits_rows, logits_width; // width: V, filled up to GPU_VOCAB_ALIGN

    Batch batch;
    double *loss; // sum since it was last read, on the device
    AdamRule *rule, *rule_host;
    AdamResult *result, *result_host;

    real *cache;                     // (L, 2, seq_len, NKV HS): keys and values of decoding; NULL until it is called
    real *kept[SHARE_SLOTS];         // (L, 2, G, P, NKV HS) at most: of model_share; NULL likewise
    real *joined;                    // (2, B, P + T, NKV HS) at most: what a layer reads behind a slot
    int32_t *rows;                   // (batch_size): the rows of row_of
    PrefixShape prefix[SHARE_SLOTS]; // G and P of what was kept
    int keep, behind;                // ShareSlot, for the next forward pass
    const int32_t *row_of;
    float *logits_host; // (min(DECODE_ROWS, B T), V) host
    int B, T;           // of the last forward pass
    double grad_scale;  // and of its loss
    uint64_t seed;      // of dropout
    int64_t token;      // the run's number of the first token of the next training pass
    uint64_t *place;    // and of the last one, on the device
    bool drops;         // the pass that is put on the stream is one of training
    PairBatch pairs;    // of the next pass, as model_pairs said; items NULL: there are none
    bool paired;        // the last one had some, which are in device_pairs
    DevicePairs device_pairs;
    float *weights;  // (N) of tokens in the gradient of pairs; NULL, as device_pairs, until there are any
    double *figures; // (PAIR_FIGURE_COUNT), on the device
    int pending;     // of enum Pass; a backward pass among them is a step's last
    Graph eval_graph, micro_graph,
        step_graph;      // a loss; a micro-batch before a step's last; the last one and the update
    bool begun;          // by model_begin_update
    cudaStream_t copies; // of a checkpoint's numbers, on their way to the host
    cudaEvent_t copied;
    bool copying;            // the host has not waited for them, nor has an update
    Model *teacher;          // NULL: none
    bool teaches;            // this is one: what it makes ends with the last norm
    cudaStream_t own_stream; // a teacher's; it works on its student's
    DistillRule lesson;
    float *parts;   // (2, B T): cross entropy and divergence
    double *taught; // (2): their sums since they were last read, on the device
};

static Activations tensors_at(const ActTable *table, char *memory, int layer) {
    Activations a;
#define X(id, width, per_head, place, ...)                                                                             \
    a.id = table->items[ACT_##id].present                                                                              \
               ? (decltype(a.id))(memory + act_offset(table, ACT_##id, place == PLACE_LAYER ? layer : 0))              \
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
static void cache_append(Model *m, Heads<real> *h, real *cache, int T, int first) {
    size_t NK = (size_t)(m->config.kv_heads * m->config.head_size), row = sizeof(real) * NK;
    Rows<real> *both[] = {&h->k, &h->v};
    for (Rows<real> *from : both) {
        CUDA_CHECK(cudaMemcpy2DAsync(cache + (size_t)first * NK, row, from->at, sizeof(real) * (size_t)from->ld, row,
                                     (size_t)T, cudaMemcpyDeviceToDevice, m->gpu.stream));
        *from = {cache, (int)NK};
        cache += (size_t)m->setup.seq_len * NK;
    }
}

// How a layer's queries and keys are normalised and rotated; first: the position of a document's first token.
static Rotation<real> rotation_of(const Model *m, int layer, const Weights *w, const Activations *a, int first,
                                  AttentionShape shape) {
    const Config *c = &m->config;
    const float *rope = m->rope ? m->rope + rope_first(c, layer, m->setup.seq_len) : NULL;
    return {w->qnorm_w, w->knorm_w, a->qk_rstd, rope, rope_step(c, layer), first, (float)c->norm_eps, shape};
}

// Queries, keys and values (or their gradients) as columns of qkv, and of qk once rotated.
static Heads<real> heads_of(const Config *c, const Activations *a) {
    int NQ = c->heads * c->head_size, NK = c->kv_heads * c->head_size, QKV = config_qkv(c);
    Rows<real> qk = c->rope ? Rows<real>{a->qk, NQ + NK} : Rows<real>{a->qkv, QKV}, v = {a->qkv + NQ + NK, QKV};
    return {qk, qk.from(0, NQ), v};
}

// Where a layer's keys and values of N tokens of prefixes begin.
static size_t prefix_layer(const Model *m, int layer, int N) {
    return (size_t)layer * 2 * (size_t)N * (size_t)(m->config.kv_heads * m->config.head_size);
}

// Keys and values of B sequences of T tokens become those of their prefixes and their own.
static void behind_prefix(Model *m, int layer, Heads<real> *h, int B, int T) {
    PrefixShape s = m->prefix[m->behind];
    s.B = B, s.T = T, s.NK = m->config.kv_heads * m->config.head_size;
    prefix_join<real>(m->joined, m->kept[m->behind] + prefix_layer(m, layer, s.G * s.P), *h, m->rows, s, &m->gpu);
    h->k = {m->joined, s.NK}, h->v = {m->joined + (size_t)B * (size_t)(s.P + T) * (size_t)s.NK, s.NK};
}

// The keys and values of N tokens of a layer, into the slot that model_share named.
static void keep_prefix(Model *m, int layer, Heads<real> h, int N) {
    prefix_keep(m->kept[m->keep] + prefix_layer(m, layer, N), h, N, m->config.kv_heads * m->config.head_size, &m->gpu);
}

// The adapters beside a matrix in a layer, in the order of its rows; returns how many there are.
static int adapters_of(Adapter<real> list[LORA_KINDS], const Model *m, int layer, int matrix, int N) {
    const Config *c = &m->config;
    if (!c->lora.rank) return 0;
    Weights w = shards_weights(&m->shards, layer);
    Activations a = activations_of(m, layer), d = {};
    Gradients dw = {};
    int count = 0;
    if (m->setup.gradients) dw = shards_gradients(&m->shards, layer), d = backward_of(m, layer);
#define X(id, matrix_, row, rows)                                                                                      \
    if (PARAM_##matrix_ == matrix && lora_has(c, LORA_##id)) {                                                         \
        int C = param_find(&m->shards.table, PARAM_lora_##id##_a, layer)->cols;                                        \
        list[count++] = {w.lora_##id##_a,                                                                              \
                         w.lora_##id##_b,                                                                              \
                         dw.lora_##id##_a,                                                                             \
                         dw.lora_##id##_b,                                                                             \
                         a.lora_##id,                                                                                  \
                         d.lora_##id,                                                                                  \
                         m->drops ? a.lora_x : NULL,                                                                   \
                         N,                                                                                            \
                         C,                                                                                            \
                         c->lora.rank,                                                                                 \
                         rows,                                                                                         \
                         row,                                                                                          \
                         (float)lora_scale(c),                                                                         \
                         c->lora.dropout,                                                                              \
                         lora_stream(m->seed, layer, #id),                                                             \
                         m->place};                                                                                    \
    }
    LORA_TARGETS(X)
#undef X
    return count;
}

// y (N, width of the matrix) += what its adapters make of x; NULL: only what they keep for the backward pass.
static void adapters_forward(real *y, const real *x, Model *m, int layer, int matrix, int N) {
    Adapter<real> list[LORA_KINDS];
    int count = adapters_of(list, m, layer, matrix, N), ld = param_find(&m->shards.table, matrix, layer)->rows;
    for (int i = 0; i < count; i++) {
        lora_inner<real>(&list[i], x, &m->gpu);
        if (y) lora_outer<real>(y, ld, &list[i], &m->gpu);
    }
}

// dx += and the gradients of the adapters +=, from dy (N, width of the matrix); dx NULL: not wanted.
static void adapters_backward(real *dx, const real *dy, const real *x, Model *m, int layer, int matrix, int N) {
    Adapter<real> list[LORA_KINDS];
    int count = adapters_of(list, m, layer, matrix, N), ld = param_find(&m->shards.table, matrix, layer)->rows;
    for (int i = 0; i < count; i++) lora_backward<real>(dx, dy, ld, x, &list[i], &m->gpu);
}

// Whether adapters stand beside a matrix: then nothing that follows its product can be part of it.
static bool adapted(const Model *m, int matrix) {
    Adapter<real> list[LORA_KINDS];
    return adapters_of(list, m, 0, matrix, 1) > 0;
}

// What of a block's forward pass is wanted: all of it, or what the backward pass needs and does not have.
typedef enum { EXTENT_ALL, EXTENT_CHEAP, EXTENT_AGAIN } Extent;

// a.residual2 = block(x), x: (N, C). With a cache (model_decode_rows) B is 1, the tokens stand at positions
// first .. first + T - 1, and attention reaches back over all positions before.
static void block_forward(Model *m, int layer, const real *x, int B, int T, Extent extent, real *cache, int first) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    const Shards *s = &m->shards;
    Weights w = shards_weights(s, layer);
    Activations a = activations_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NQ = c->heads * c->head_size;
    float eps = (float)c->norm_eps;
    AttentionShape shape = attention_shape(c, layer, B, T, first + T, cache ? NULL : m->batch.starts);
    Norm<real> norm1 = {w.norm1_w, w.norm1_b, a.norm1_mean, a.norm1_rstd, N, C, eps},
               norm2 = {w.norm2_w, w.norm2_b, a.norm2_mean, a.norm2_rstd, N, C, eps};
    Rotation<real> rotation = rotation_of(m, layer, &w, &a, first, shape);
    LinearShape qkv = {N, C, config_qkv(c)}, proj = {N, NQ, C}, fc = {N, C, config_fc(c)}, fcproj = {N, F, C};
    MlpShape mlp = {N, C, F, c->activation, c->gated != 0};
    bool products = extent != EXTENT_CHEAP;

    // 1. norm1 = norm(x)
    norm_forward<real>(a.norm1, x, norm1, gpu);
    // 2. qkv = norm1 Wqkv^T + b, and here as in 5, 7 and 9 what adapters add: u = scale x A^T, y += u B^T
    if (products) linear_forward<real>(a.qkv, a.norm1, shards_matrix(s, PARAM_qkv_w, layer), w.qkv_b, NULL, qkv, gpu);
    if (products) adapters_forward(a.qkv, a.norm1, m, layer, PARAM_qkv_w, N);
    // 3. qk = rotate(norm(q), norm(k))
    if (c->rope) qk_forward<real>(a.qk, a.qkv, rotation, gpu);
    // 4. attention = softmax(q k^T / sqrt(HS)) v
    if (products) {
        Heads<real> h = heads_of(c, &a);
        if (cache) cache_append(m, &h, cache, T, first);
        if (m->behind) behind_prefix(m, layer, &h, B, T);
        if (m->keep) keep_prefix(m, layer, h, B * (first + T));
        attention_forward<real>(a.attention, a.attention_lse, h, shape, gpu);
    }
    // 5. residual1 = x + attention Wproj^T + b
    //    The product adds x: it and the norm behind it then read and write (N, C) four times in all; a norm that
    //    added it would make it five, and round the product before the sum.
    if (products)
        linear_forward<real>(a.residual1, a.attention, shards_matrix(s, PARAM_proj_w, layer), w.proj_b, x, proj, gpu);
    if (products) adapters_forward(a.residual1, a.attention, m, layer, PARAM_proj_w, N);
    // 6. norm2 = norm(residual1)
    norm_forward<real>(a.norm2, a.residual1, norm2, gpu);
    // 7. fc = norm2 Wfc^T + b
    // 8. mlp = f(fc), or f(gate) up
    bool fused = products && !adapted(m, PARAM_fc_w) && !w.xielu;
    if (fused) linear_mlp_forward<real>(a.mlp, a.fc, a.norm2, shards_matrix(s, PARAM_fc_w, layer), w.fc_b, mlp, gpu);
    else if (products) linear_forward<real>(a.fc, a.norm2, shards_matrix(s, PARAM_fc_w, layer), w.fc_b, NULL, fc, gpu);
    if (products) adapters_forward(a.fc, a.norm2, m, layer, PARAM_fc_w, N);
    if (w.xielu) xielu_forward<real>(a.mlp, a.fc, w.xielu, w.xielu_fixed, N, F, gpu);
    else if (!fused) mlp_forward<real>(a.mlp, a.fc, N, F, c->activation, c->gated, gpu);
    // 9. residual2 = residual1 + mlp Wfcproj^T + b
    if (extent == EXTENT_ALL)
        linear_forward<real>(a.residual2, a.mlp, shards_matrix(s, PARAM_fcproj_w, layer), w.fcproj_b, a.residual1,
                             fcproj, gpu);
    if (products) adapters_forward(extent == EXTENT_ALL ? a.residual2 : NULL, a.mlp, m, layer, PARAM_fcproj_w, N);
}

// to (n) = from, where they are not the same memory: gradients of the residual stream, which go on while more is added.
static void pass_on(real *to, const real *from, size_t n, Device *gpu) {
    if (to != from) CUDA_CHECK(cudaMemcpyAsync(to, from, sizeof(real) * n, cudaMemcpyDeviceToDevice, gpu->stream));
}

// dx = the gradient of the block's input x, from that of its output; adds the gradients of the block's weights. dx
// NULL: nothing below is trained. The steps of block_forward, backwards.
static void block_backward(Model *m, int layer, const real *x, real *dx, int B, int T) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    const Shards *s = &m->shards;
    Weights w = shards_weights(s, layer);
    Gradients dw = shards_gradients(&m->shards, layer);
    Activations a = activations_of(m, layer), d = backward_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NQ = c->heads * c->head_size;
    size_t NC = (size_t)N * (size_t)C;
    float eps = (float)c->norm_eps;
    AttentionShape shape = attention_shape(c, layer, B, T, T, m->batch.starts);
    Norm<real> norm1 = {w.norm1_w, w.norm1_b, a.norm1_mean, a.norm1_rstd, N, C, eps},
               norm2 = {w.norm2_w, w.norm2_b, a.norm2_mean, a.norm2_rstd, N, C, eps};
    Rotation<real> rotation = rotation_of(m, layer, &w, &a, 0, shape);
    MlpShape mlp = {N, C, F, c->activation, c->gated != 0};
    LinearShape qkv = {N, C, config_qkv(c)}, proj = {N, NQ, C}, fc = {N, C, config_fc(c)}, fcproj = {N, F, C};

    // What was not kept is computed again (activation checkpointing).
    if (m->setup.recompute == RECOMPUTE_CHEAP) block_forward(m, layer, x, B, T, EXTENT_CHEAP, NULL, 0);
    if (m->setup.recompute == RECOMPUTE_BLOCK) block_forward(m, layer, x, B, T, EXTENT_AGAIN, NULL, 0);

    // 9. dmlp = dresidual2 Wfcproj
    // 8. dfc = dmlp f'(fc), or of gate and up
    linear_backward_weight<real>(dw.fcproj_w, dw.fcproj_b, d.residual2, a.mlp, fcproj, gpu);
    if (adapted(m, PARAM_fcproj_w) || w.xielu) {
        linear_backward_input<real>(d.mlp, d.residual2, shards_matrix(s, PARAM_fcproj_w, layer), fcproj, gpu);
        adapters_backward(d.mlp, d.residual2, a.mlp, m, layer, PARAM_fcproj_w, N);
        if (w.xielu) xielu_backward<real>(d.fc, dw.xielu, d.mlp, a.fc, w.xielu, w.xielu_fixed, N, F, gpu);
        else mlp_backward<real>(d.fc, d.mlp, a.fc, N, F, c->activation, c->gated, gpu);
    } else {
        linear_mlp_backward<real>(d.fc, d.mlp, d.residual2, shards_matrix(s, PARAM_fcproj_w, layer), a.fc, mlp, gpu);
    }
    // 7. dnorm2 = dfc Wfc
    linear_backward_weight<real>(dw.fc_w, dw.fc_b, d.fc, a.norm2, fc, gpu);
    linear_backward_input<real>(d.norm2, d.fc, shards_matrix(s, PARAM_fc_w, layer), fc, gpu);
    adapters_backward(d.norm2, d.fc, a.norm2, m, layer, PARAM_fc_w, N);
    // 6. dresidual1 = dresidual2 + norm2 backward
    pass_on(d.residual1, d.residual2, NC, gpu);
    norm_backward<real>(d.residual1, dw.norm2_w, dw.norm2_b, d.norm2, a.residual1, norm2, gpu);
    // 5. dattention = dresidual1 Wproj
    linear_backward_weight<real>(dw.proj_w, dw.proj_b, d.residual1, a.attention, proj, gpu);
    linear_backward_input<real>(d.attention, d.residual1, shards_matrix(s, PARAM_proj_w, layer), proj, gpu);
    adapters_backward(d.attention, d.residual1, a.attention, m, layer, PARAM_proj_w, N);
    // 4. dq, dk, dv
    attention_backward<real>(heads_of(c, &d), d.attention, a.attention, a.attention_lse, heads_of(c, &a), shape, gpu);
    // 3. through rotation and norm
    if (c->rope) qk_backward<real>(d.qkv, dw.qnorm_w, dw.knorm_w, d.qk, a.qkv, rotation, gpu);
    // 2. dnorm1 = dqkv Wqkv
    linear_backward_weight<real>(dw.qkv_w, dw.qkv_b, d.qkv, a.norm1, qkv, gpu);
    if (dx) linear_backward_input<real>(d.norm1, d.qkv, shards_matrix(s, PARAM_qkv_w, layer), qkv, gpu);
    adapters_backward(dx ? d.norm1 : NULL, d.qkv, a.norm1, m, layer, PARAM_qkv_w, N);
    if (!dx) return;
    // 1. dx = dresidual1 + norm1 backward
    pass_on(dx, d.residual1, NC, gpu);
    norm_backward<real>(dx, dw.norm1_w, dw.norm1_b, d.norm1, x, norm1, gpu);
}

// ---------------------------------------------------------------- the whole model

// The input of a layer, the output of the one before or the embedding; and its gradient.
static real *layer_input(const Model *m, int layer) {
    Activations a = activations_of(m, layer > 0 ? layer - 1 : 0);
    return layer > 0 ? a.residual2 : a.embedding;
}
static real *layer_input_gradient(const Model *m, int layer) {
    Activations d = backward_of(m, layer > 0 ? layer - 1 : 0);
    return layer > 0 ? d.residual2 : d.embedding;
}

// Puts the passes that are pending on the stream, for whoever looks at the device in the middle of a step.
static void catch_up(Model *m);

// The losses of a pass, for those of its pairs: returns the weights (N) of its tokens in the gradient, and adds the
// pairs' losses to the model's. A chunk of all rows is still there as logits then.
static const float *pair_losses(Model *m, const real *head, int N) {
    Device *gpu = &m->gpu;
    int C = m->config.channels, V = m->config.vocab_size, W = m->logits_width;
    Activations a = activations_of(m, 0);
    for (int row = 0; row < N; row += m->logits_rows) {
        int rows = N - row < m->logits_rows ? N - row : m->logits_rows;
        linear_forward<real>(m->logits, a.normf + (size_t)row * (size_t)C, head, NULL, NULL, {rows, C, W}, gpu);
        cross_entropy<real>(a.losses + row, m->logits, m->batch.targets + row, NULL, 0, rows, V, W, gpu);
    }
    objective_weights(m->weights, m->figures, a.losses, &m->device_pairs, N, gpu);
    return m->weights;
}

static void forward_pass(Model *m, float *logits_out);

// The teacher's pass over the model's batch, on the model's stream, up to its last norm.
static void teacher_pass(Model *m) {
    Model *t = m->teacher;
    Batch own = t->batch;
    t->batch = m->batch;
    t->B = m->B, t->T = m->T, t->grad_scale = 0;
    forward_pass(t, NULL);
    t->batch = own;
}

// losses and gradients of the logits of `rows` rows, which take the place of them, beside those of the teacher. With
// alpha 0 the teacher is only looked at: the gradient is the ordinary one, to the bit.
static void learn(Model *m, int row, int rows, float grad_scale) {
    Model *t = m->teacher;
    Weights w = shards_weights(&t->shards, 0);
    int C = t->config.channels, V = t->config.vocab_size, W = t->logits_width, N = m->B * m->T;
    float *losses = activations_of(m, 0).losses + row, *ce = m->parts + row, *kl = m->parts + N + row;
    const int32_t *targets = m->batch.targets + row;
    bool weighs = m->lesson.alpha > 0;
    DistillShape s = {rows, V, W, weighs ? grad_scale : 0, (float)m->lesson.alpha, (float)m->lesson.temperature};
    linear_forward<real>(t->logits, activations_of(t, 0).normf + (size_t)row * (size_t)C,
                         t->config.tied ? w.wte : w.head_w, NULL, NULL, {rows, C, W}, &t->gpu);
    distill<real>(losses, ce, kl, m->logits, t->logits, targets, s, &m->gpu);
    if (!weighs) cross_entropy<real>(losses, m->logits, targets, NULL, grad_scale, rows, V, W, &m->gpu);
}

static void forward_pass(Model *m, float *logits_out) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int B = m->B, T = m->T, N = B * T, C = c->channels, V = c->vocab_size, W = m->logits_width;
    double grad_scale = m->grad_scale;
    m->drops = c->lora.dropout > 0 && grad_scale != 0;
    Weights w = shards_weights(&m->shards, 0);
    Activations a = activations_of(m, 0), d = backward_of(m, 0);
    const int32_t *targets = m->batch.targets;

    // 1. token and position embedding
    shards_begin_pass(&m->shards, true);
    shards_use(&m->shards, 0, 1);
    int first = m->behind ? m->prefix[m->behind].P : 0;
    embedding_forward<real>(a.embedding, {m->batch.inputs, m->batch.starts, first, B, T}, w.wte, w.wpe, C, gpu);
    // 2. the blocks
    for (int l = 0; l < c->layers; l++) {
        shards_use(&m->shards, 1 + l, 2 + l);
        block_forward(m, l, layer_input(m, l), B, T, EXTENT_ALL, NULL, first);
    }
    // 3. the last norm
    shards_use(&m->shards, 1 + c->layers, -1);
    const real *x = layer_input(m, c->layers);
    Norm<real> normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, N, C, (float)c->norm_eps};
    norm_forward<real>(a.normf, x, normf, gpu);
    if (m->teaches) return;
    bool learns = m->teacher && grad_scale != 0;
    if (learns) teacher_pass(m);
    // 4. head and loss, a chunk of rows at a time; with their backward, since the logits go away
    const real *head = c->tied ? w.wte : w.head_w;
    float *dhead = NULL;
    if (grad_scale != 0) {
        Gradients dw = shards_gradients(&m->shards, 0);
        shards_begin(&m->shards, c->tied ? 0 : 1 + c->layers);
        dhead = c->tied ? dw.wte : dw.head_w;
    }
    const float *weights = m->paired ? pair_losses(m, head, N) : NULL;
    for (int row = 0; row < N; row += m->logits_rows) {
        int rows = N - row < m->logits_rows ? N - row : m->logits_rows;
        const real *x_chunk = a.normf + (size_t)row * (size_t)C;
        if (!weights || rows < N) linear_forward<real>(m->logits, x_chunk, head, NULL, NULL, {rows, C, W}, gpu);
        for (int i = 0; logits_out && i < rows; i++)
            device_floats(gpu, logits_out + (size_t)(row + i) * (size_t)V, m->logits + (size_t)i * (size_t)W,
                          (size_t)V);
        const float *own = weights ? weights + row : NULL;
        if (learns) learn(m, row, rows, (float)grad_scale);
        else cross_entropy<real>(a.losses + row, m->logits, targets + row, own, (float)grad_scale, rows, V, W, gpu);
        if (grad_scale == 0) continue;
        linear_backward_weight<real>(dhead, NULL, m->logits, x_chunk, {rows, C, W}, gpu);
        linear_backward_input<real>(d.normf + (size_t)row * (size_t)C, m->logits, head, {rows, C, W}, gpu);
    }
    if (!weights) sum_losses(m->loss, a.losses, N, gpu);
    for (int i = 0; learns && i < 2; i++) sum_losses(m->taught + i, m->parts + i * N, N, gpu);
    shards_end_pass(&m->shards);
}

static void model_share(Model *m, ShareSlot keep, ShareSlot behind, const int32_t *row_of) {
    const Config *c = &m->config;
    size_t row = sizeof(real) * 2 * (size_t)(c->kv_heads * c->head_size), most = model_share_rows(&m->setup, keep);
    const char *what = "the keys and values of what tasks begin with";
    if (keep && !m->kept[keep]) m->kept[keep] = (real *)device_alloc(&m->gpu, row * most * (size_t)c->layers, what);
    if (!m->joined)
        m->joined = (real *)device_alloc(&m->gpu, row * (size_t)m->setup.batch_size * (size_t)m->setup.seq_len, what);
    if (!m->rows) m->rows = (int32_t *)device_alloc(&m->gpu, sizeof(int32_t) * (size_t)m->setup.batch_size, what);
    m->keep = keep, m->behind = behind, m->row_of = row_of;
}

static void model_forward(Model *m, const ModelBatch *batch, double grad_scale, float *logits_out) {
    catch_up(m);
    m->B = batch->B, m->T = batch->T, m->grad_scale = grad_scale;
    model_batch_check(batch);
    batch_upload(&m->batch, batch, grad_scale != 0, &m->gpu);
    m->paired = m->pairs.items && grad_scale != 0;
    m->pairs.scale = grad_scale;
    if (m->paired) pairs_upload(&m->device_pairs, &m->pairs, &m->gpu);
    m->pairs.items = NULL;
    if (grad_scale != 0 && m->config.lora.dropout > 0) lora_place(m->place, (uint64_t)m->token, &m->gpu);
    GraphKey key = {m->B, m->T, 0, PASS_FORWARD, batch->starts != NULL, false};
    int first = m->behind ? m->prefix[m->behind].P : 0;
    if (m->keep) m->prefix[m->keep].G = m->B, m->prefix[m->keep].P = first + m->T;
    if (m->behind) device_write(&m->gpu, m->rows, m->row_of, sizeof(int32_t) * (size_t)m->B);
    // Copies to the host no graph can, and sizes of prefixes are no part of its key.
    if (logits_out || m->keep || m->behind) forward_pass(m, logits_out);
    else if (grad_scale != 0) m->pending = PASS_FORWARD;
    else graph_run(&m->eval_graph, key, &m->gpu, [=]() { forward_pass(m, NULL); });
    m->keep = m->behind = SHARE_NONE;
}

static void backward_pass(Model *m, bool last) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int B = m->B, T = m->T, N = B * T, C = c->channels;
    Weights w = shards_weights(&m->shards, 0);
    Gradients dw = shards_gradients(&m->shards, 0);
    Activations a = activations_of(m, 0), d = backward_of(m, 0);
    Norm<real> normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, N, C, (float)c->norm_eps};
    real *dx = layer_input_gradient(m, c->layers);

    // 3. the last norm (4, the head, went backward in forward_pass)
    shards_begin_pass(&m->shards, false);
    shards_use(&m->shards, 1 + c->layers, c->layers);
    if (c->tied) shards_begin(&m->shards, 1 + c->layers);
    CUDA_CHECK(cudaMemsetAsync(dx, 0, sizeof(real) * (size_t)N * (size_t)C, gpu->stream));
    norm_backward<real>(dx, dw.normf_w, dw.normf_b, d.normf, layer_input(m, c->layers), normf, gpu);
    shards_sum(&m->shards, 1 + c->layers, last);
    // 2. the blocks; below the first one's products may be nothing that is trained
    bool below = dw.norm1_w || dw.norm1_b || dw.wte || dw.wpe || m->setup.keep_backward;
    for (int l = c->layers - 1; l >= 0; l--) {
        shards_use(&m->shards, 1 + l, l > 0 ? l : -1);
        shards_begin(&m->shards, 1 + l);
        block_backward(m, l, layer_input(m, l), l > 0 || below ? layer_input_gradient(m, l) : NULL, B, T);
        shards_sum(&m->shards, 1 + l, last);
    }
    // 1. embeddings
    if (!c->tied) shards_begin(&m->shards, 0);
    embedding_backward<real>(dw.wte, dw.wpe, d.embedding, m->batch.groups, C, c->vocab_size, gpu);
    shards_sum(&m->shards, 0, last);
    shards_end_pass(&m->shards);
}

static void run_passes(Model *m, int passes, bool last) {
    if (passes & PASS_FORWARD) forward_pass(m, NULL);
    if (passes & PASS_BACKWARD) backward_pass(m, last);
}

// What was pending, for a graph that does it.
static GraphKey take_pending(Model *m) {
    double grad_scale = m->paired ? 1 : m->grad_scale; // that of pairs lies on the device
    GraphKey key = {m->B, m->T, grad_scale, m->pending, m->batch.starts != NULL, m->paired};
    m->pending = 0;
    return key;
}

static void catch_up(Model *m) { run_passes(m, take_pending(m).passes, true); }

static void model_place(Model *m, uint64_t seed, int64_t token) { m->seed = seed, m->token = token; }

static void model_pairs(Model *m, const PairBatch *pairs) {
    size_t N = (size_t)m->setup.batch_size * (size_t)m->setup.seq_len;
    if (!m->weights) {
        pairs_open(&m->device_pairs, m->loss, N, &m->gpu);
        m->weights = (float *)device_alloc(&m->gpu, sizeof(float) * N, "the weights of pairs");
        m->figures = (double *)device_alloc(&m->gpu, sizeof(double) * PAIR_FIGURE_COUNT, "the figures of pairs");
    }
    m->pairs = *pairs;
}

static void model_figures(Model *m, double *figures) {
    catch_up(m);
    device_read(&m->gpu, figures, m->figures, sizeof(double) * PAIR_FIGURE_COUNT);
    CUDA_CHECK(cudaMemsetAsync(m->figures, 0, sizeof(double) * PAIR_FIGURE_COUNT, m->gpu.stream));
}

static void model_backward(Model *m, bool last) {
    m->pending |= PASS_BACKWARD;
    if (last) return; // model_update completes the graph
    GraphKey key = take_pending(m);
    graph_run(&m->micro_graph, key, &m->gpu, [=]() { run_passes(m, key.passes, false); });
}

static void model_zero_gradients(Model *m) {
    catch_up(m);
    shards_zero_gradients(&m->shards);
}

static double model_loss(Model *m) {
    catch_up(m);
    double loss = 0;
    device_read(&m->gpu, &loss, m->loss, sizeof loss);
    CUDA_CHECK(cudaMemsetAsync(m->loss, 0, sizeof loss, m->gpu.stream));
    return loss;
}

static void model_teach(Model *m, Model *teacher, DistillRule rule) {
    Device *gpu = &m->gpu;
    m->teacher = teacher, m->lesson = rule;
    device_synchronize(&teacher->gpu);
    teacher->teaches = true;
    teacher->own_stream = teacher->gpu.stream, teacher->gpu.stream = gpu->stream;
    m->parts = (float *)device_alloc(gpu, sizeof(float) * 2 * (size_t)m->setup.batch_size * (size_t)m->setup.seq_len,
                                     "the parts of the loss");
    m->taught = (double *)device_alloc(gpu, sizeof(double) * 2, "the sums of the parts of the loss");
    CUDA_CHECK(cudaMemsetAsync(m->taught, 0, sizeof(double) * 2, gpu->stream));
}

static DistillSum model_taught(Model *m) {
    DistillSum sum = {0, 0};
    if (!m->teacher) return sum;
    catch_up(m);
    device_read(&m->gpu, &sum, m->taught, sizeof sum);
    CUDA_CHECK(cudaMemsetAsync(m->taught, 0, sizeof sum, m->gpu.stream));
    return sum;
}

static void update_pass(Model *m) {
    const Ranks *r = &m->shards.ranks;
    // 1. loss and gradient norm over all ranks
    shards_totals(&m->shards, m->loss);
    // 2. nothing that is not finite, or above its bound, reaches the weights
    update_decide(m->result, m->shards.sums, m->shards.sum_parts, r->dist->size, r->group, m->rule, &m->gpu);
    // 3. clip and update, gradients back to zero; then everybody has everybody's weights
    shards_update(&m->shards, m->rule, m->result);
}

static bool model_begin_update(Model *m, const UpdateRule *rule) {
    cudaStream_t stream = m->gpu.stream;
    *m->rule_host = adam_rule(rule);
    CUDA_CHECK(cudaMemcpyAsync(m->rule, m->rule_host, sizeof(AdamRule), cudaMemcpyHostToDevice, stream));
    GraphKey key = take_pending(m);
    bool graphs = m->gpu.graphs, copying = m->copying;
    if (copying) m->gpu.graphs = false; // the update waits for what no graph of it knows
    graph_run(&m->step_graph, key, &m->gpu, [=]() {
        run_passes(m, key.passes, true);
        if (copying) CUDA_CHECK(cudaStreamWaitEvent(m->gpu.stream, m->copied, 0));
        update_pass(m);
    });
    m->gpu.graphs = graphs;
    CUDA_CHECK(cudaMemcpyAsync(m->result_host, m->result, sizeof(AdamResult), cudaMemcpyDeviceToHost, stream));
    return m->begun = true;
}

static UpdateResult model_update(Model *m, const UpdateRule *rule) {
    if (!m->begun) model_begin_update(m, rule);
    watchdog_enter(m->setup.dist->watchdog, "the device, which waits for the other ranks' gradients (model_update)");
    device_synchronize(&m->gpu);
    watchdog_leave(m->setup.dist->watchdog);
    m->begun = m->copying = false;
    shards_check(&m->shards, rule->step);
    UpdateResult result;
    result.loss = m->result_host->loss;
    result.grad_norm = m->result_host->grad_norm;
    result.updated = m->result_host->updated != 0;
    result.finite = !dist_max(m->shards.ranks.dist, !m->result_host->finite);
    return result;
}

static void model_send(Model *m, const ModelBatch *batch) { batch_send(&m->batch, batch, true, &m->gpu); }

static double model_muon_seconds(const Model *m) { return (void)m, (double)NAN; }

// The logits, on the device, of rows x (rows, C) behind the last norm. The head's weights are there.
static void head_rows(Model *m, const real *x, int rows) {
    const Config *c = &m->config;
    Weights w = shards_weights(&m->shards, 0);
    linear_forward<real>(m->logits, x, c->tied ? w.wte : w.head_w, NULL, NULL, {rows, c->channels, m->logits_width},
                         &m->gpu);
}

// These as floats on the host, (rows, V).
static const float *rows_to_host(Model *m, int rows) {
    size_t V = (size_t)m->config.vocab_size;
    for (int i = 0; i < rows; i++)
        device_floats(&m->gpu, m->logits_host + (size_t)i * V, m->logits + (size_t)i * (size_t)m->logits_width, V);
    return m->logits_host;
}

static const float *model_logits(Model *m, int row) {
    const Config *c = &m->config;
    catch_up(m);
    shards_begin_pass(&m->shards, true);
    shards_use(&m->shards, c->tied ? 0 : 1 + c->layers, -1);
    head_rows(m, activations_of(m, 0).normf + (size_t)row * (size_t)c->channels, 1);
    shards_end_pass(&m->shards);
    return rows_to_host(m, 1);
}

static const float *model_decode_rows(Model *m, const int32_t *tokens, int n, int position, int rows) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int C = c->channels, most = m->setup.batch_size * m->setup.seq_len;
    catch_up(m);
    size_t layer_cache = (size_t)2 * (size_t)m->setup.seq_len * (size_t)(c->kv_heads * c->head_size);
    if (!m->cache)
        m->cache = (real *)device_alloc(gpu, sizeof(real) * layer_cache * (size_t)c->layers,
                                        "the keys and values of generation");
    Weights w = shards_weights(&m->shards, 0);
    Activations a = activations_of(m, 0);
    const real *x = NULL;
    int T = 0;
    m->drops = false;
    shards_begin_pass(&m->shards, true);
    for (int done = 0; done < n; done += T) {
        T = n - done < most ? n - done : most;
        ModelBatch batch = {tokens + done, NULL, NULL, 1, T};
        batch_upload(&m->batch, &batch, false, gpu);
        shards_use(&m->shards, 0, 1);
        embedding_forward<real>(a.embedding, {m->batch.inputs, NULL, position + done, 1, T}, w.wte, w.wpe, C, gpu);
        for (int l = 0; l < c->layers; l++) {
            shards_use(&m->shards, 1 + l, l + 1 < c->layers ? 2 + l : -1);
            block_forward(m, l, layer_input(m, l), 1, T, EXTENT_ALL, m->cache + layer_cache * (size_t)l,
                          position + done);
        }
        x = layer_input(m, c->layers) + (size_t)(T - rows) * (size_t)C;
    }
    shards_use(&m->shards, 1 + c->layers, -1);
    Norm<real> normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, rows, C, (float)c->norm_eps};
    norm_forward<real>(a.normf, x, normf, gpu);
    head_rows(m, a.normf, rows);
    if (m->shards.ranks.zero == 3) { // the ranks must go on together: with the same bits they choose the same tokens
        ranks_fork(&m->shards.ranks, gpu->stream);
        ranks_broadcast(&m->shards.ranks, m->logits, sizeof(real) * (size_t)rows * (size_t)m->logits_width);
    }
    shards_end_pass(&m->shards);
    return rows_to_host(m, rows);
}

// ---------------------------------------------------------------- the program and its memory

static const char *engine_name(void) { return "train_gpt"; }

static bool engine_preflight(const Dist *dist, Error *err) { return device_preflight(dist, err); }

static void *engine_host_alloc(size_t bytes) {
    void *p = NULL; // pinned: the device writes into it directly
    if (cudaMallocHost(&p, bytes) != cudaSuccess) return NULL;
    memset(p, 0, bytes);
    return p;
}
static void engine_host_free(void *memory) { cudaFreeHost(memory); }

// Runs every shape of a step once, so that the fastest products are known before the first step.
static void model_warm_up(Model *m) {
    Device *gpu = &m->gpu;
    const Dist *dist = m->shards.ranks.dist;
    int B = m->setup.batch_size, T = m->setup.seq_len;
    size_t N = (size_t)B * (size_t)T;
    int32_t *tokens = (int32_t *)mem_alloc(sizeof(int32_t) * N);
    for (size_t i = 0; i < N; i++) tokens[i] = (int32_t)(i % (size_t)m->config.vocab_size);
    shards_rehearse(&m->shards, true);
    if (dist->rank > 0) gemm_share_choices(gpu, dist);
    gemm_measure(gpu, true);
    ModelBatch batch = {tokens, tokens, NULL, B, T};
    model_forward(m, &batch, 1.0 / (double)N, NULL);
    model_backward(m, false);
    gemm_measure(gpu, false);
    Activations a = activations_of(m, 0);
    AttentionShape shape = attention_shape(&m->config, 0, B, T, T, NULL);
    attention_choose<real>(a.attention, a.attention_lse, heads_of(&m->config, &a), shape, N, gpu);
    loss_choose<real>(a.losses, m->logits, m->batch.targets, m->logits_rows, m->config.vocab_size, m->logits_width,
                      gpu);
    if (dist->rank == 0) gemm_share_choices(gpu, dist);
    dist_broadcast(dist, &gpu->attention_way, sizeof gpu->attention_way);
    shards_rehearse(&m->shards, false);
    m->micro_graph.runs = 0; // its first real run makes the ranks' connections
    CUDA_CHECK(cudaMemsetAsync(m->loss, 0, sizeof(double), gpu->stream));
    free(tokens);
}

static ModelMemory model_memory(const ModelSetup *setup) { return gpu_model_memory(setup, sizeof(real)); }

static double engine_memory(const Dist *dist) { return gpu_room(device_free(dist), dist); }

// Rows of a chunk of N rows of logits, `width` columns each.
static int logits_rows(size_t N, int width) {
    size_t most = GPU_LOGITS_BYTES / sizeof(real) / (size_t)width;
    if (most < 128) most = 128;
    size_t chunks = (N + most - 1) / most, rows = ((N + chunks - 1) / chunks + 127) / 128 * 128;
    return (int)(rows < N ? rows : N);
}

static Model *model_create(const ModelSetup *setup, Error *err) {
    if (!setup_check(setup, err)) return NULL;
    int deal;
    if (!shards_deal(&deal, setup->muon.optimizer, err)) return NULL;
    const int built_for = sizeof(real) == sizeof(float) ? PRECISION_FP32 : PRECISION_BF16;
    if (setup->precision != PRECISION_AUTO && setup->precision != PRECISION_USUAL && setup->precision != built_for) {
        error_set(err,
                  "this train_gpt was built for %s; leave --precision out, or use the other build (train_gpt: bf16, "
                  "train_gpt_fp32: fp32)",
                  built_for == PRECISION_FP32 ? "fp32" : "bf16");
        return NULL;
    }
    if (setup->kernels != KERNELS_AUTO) {
        error_set(err, "--kernels is for train_gpt_cpu; leave it out");
        return NULL;
    }
    if (setup->no_master && built_for == PRECISION_FP32) {
        error_set(err,
                  "this train_gpt keeps its weights in fp32, which --master_weights=none is not for: leave it out");
        return NULL;
    }
    Model *m = (Model *)mem_alloc(sizeof(Model));
    m->setup = *setup;
    m->config = setup->config;
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    if (!shards_plan(&m->shards, setup, err) || !device_find(gpu, setup->dist, err) ||
        !attention_fits<real>(c->head_size, setup->gradients, gpu, err) || !device_open(gpu, setup->dist, err)) {
        param_table_free(&m->shards.table);
        free(m);
        return NULL;
    }
    gemm_open(gpu);
    shards_open(&m->shards, setup, deal, gpu);
    nvml_open(&m->nvml, gpu->number);
    size_t N = (size_t)setup->batch_size * (size_t)setup->seq_len;
    m->logits_width = gpu_head_rows(c);
    // Without a backward pass one slot for each activation serves all layers.
    m->acts = act_table(c, setup->batch_size, setup->seq_len, setup->gradients ? setup->recompute : RECOMPUTE_BLOCK,
                        sizeof(real), sizeof(float));
    m->activations = (char *)device_alloc(gpu, m->acts.bytes, "the activations");
    if (c->rope) m->rope = rope_open(gpu, setup->seq_len, c);
    m->logits_rows = logits_rows(N, m->logits_width);
    m->logits =
        (real *)device_alloc(gpu, sizeof(real) * (size_t)m->logits_rows * (size_t)m->logits_width, "the logits");
    batch_open(&m->batch, N, c->vocab_size, gpu);
    m->loss = (double *)device_alloc(gpu, sizeof(double), "the loss");
    m->place = (uint64_t *)device_alloc(gpu, sizeof(uint64_t), "the place in the run");
    m->logits_host =
        (float *)mem_alloc(sizeof(float) * (N < (size_t)DECODE_ROWS ? N : (size_t)DECODE_ROWS) * (size_t)c->vocab_size);
    m->rule = (AdamRule *)device_alloc(gpu, sizeof(AdamRule), "the update rule");
    m->result = (AdamResult *)device_alloc(gpu, sizeof(AdamResult), "the update's result");
    CUDA_CHECK(cudaMallocHost((void **)&m->rule_host, sizeof(AdamRule)));
    CUDA_CHECK(cudaMallocHost((void **)&m->result_host, sizeof(AdamResult)));
    CUDA_CHECK(cudaStreamCreateWithFlags(&m->copies, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&m->copied, cudaEventDisableTiming));
    if (setup->gradients) {
        m->backs = backward_table(c, setup->batch_size, setup->seq_len, setup->keep_backward, sizeof(real));
        m->backward = (char *)device_alloc(gpu, m->backs.bytes, "the backward pass");
        model_warm_up(m);
    }
    gpu->graphs = environment_int("LLMC_GRAPHS", 1) != 0;
    device_synchronize(gpu);
    return m;
}

static void model_destroy(Model *m) {
    if (!m) return;
    model_copied(m);
    device_synchronize(&m->gpu);
    if (m->teacher) m->teacher->gpu.stream = m->teacher->own_stream;
    model_destroy(m->teacher);
    cudaEventDestroy(m->copied);
    cudaStreamDestroy(m->copies);
    graph_close(&m->eval_graph);
    graph_close(&m->micro_graph);
    graph_close(&m->step_graph);
    void *all[] = {m->activations, m->backward, m->rope, m->logits,  m->loss,    m->place, m->rule,  m->result,
                   m->cache,       m->joined,   m->rows, m->weights, m->figures, m->parts, m->taught};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) cudaFree(all[i]);
    for (real *kept : m->kept) cudaFree(kept);
    cudaFreeHost(m->rule_host);
    cudaFreeHost(m->result_host);
    free(m->logits_host);
    free(m->description.data);
    batch_close(&m->batch);
    pairs_close(&m->device_pairs);
    nvml_close(&m->nvml);
    shards_close(&m->shards);
    gemm_close(&m->gpu);
    device_close(&m->gpu);
    free(m);
}

static const char *model_device(Model *m) {
    int runtime = 0, driver = 0;
    CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
    CUDA_CHECK(cudaDriverGetVersion(&driver));
    Str *s = &m->description;
    s->size = 0;
    str_printf(s,
               "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB, " REAL_NAME
               ", CUDA %d.%d, driver for CUDA %d.%d",
               m->gpu.name, m->gpu.major, m->gpu.minor, m->gpu.multiprocessors, (double)m->gpu.memory / (1 << 30),
               runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
    if (m->shards.ranks.dist->size > 1)
        str_printf(s, ", ZeRO-%d among groups of %d", m->shards.ranks.zero, m->shards.ranks.group);
    gemm_describe(s, &m->gpu);
    if (m->setup.gradients) {
        attention_describe<real>(s, m->config.head_size, &m->gpu);
        loss_describe(s, &m->gpu);
    }
    return s->data;
}

static int model_precision(const Model *m) {
    return (void)m, sizeof(real) == sizeof(float) ? PRECISION_FP32 : PRECISION_BF16;
}

static double model_peak_flops(Model *m) { return device_peak_flops(&m->gpu); }

static DeviceReadings model_readings(Model *m) { return nvml_read(&m->nvml); }

// ---------------------------------------------------------------- numbers in and out

static void model_set(Model *m, int array, const Param *p, const float *values) {
    catch_up(m);
    model_copied(m);
    shards_set(&m->shards, array, p, values);
}

static void model_get(Model *m, int array, const Param *p, float *values, int to) {
    catch_up(m);
    shards_get(&m->shards, array, p, values, to);
}

// What other ranks have comes through scratch memory, which the next step needs: that is waited for.
static bool model_copy(Model *m, bool begins) {
    if (m->shards.ranks.group > 1) return false;
    if (begins) {
        catch_up(m);
        model_copied(m);
        CUDA_CHECK(cudaEventRecord(m->copied, m->gpu.stream));
        CUDA_CHECK(cudaStreamWaitEvent(m->copies, m->copied, 0));
    } else CUDA_CHECK(cudaEventRecord(m->copied, m->copies));
    m->gpu.later = begins ? m->copies : NULL;
    m->copying = true;
    return true;
}

static void model_copied(Model *m) {
    if (m->copying) device_wait(&m->gpu, m->copied);
    m->copying = false;
}

static bool model_keeps(const Model *m, int array, const Param *p) { return shards_keeps(&m->shards, array, p); }

// values (B, T, width) of a tensor; false where it is not kept. A slot that layers share holds, after the backward
// pass, the first layer's; before it, the last layer's.
static bool get_tensor(Model *m, const ActTable *table, const char *memory, int kind, int layer, float *values) {
    catch_up(m);
    const Act *a = &table->items[kind];
    if (!a->present || (a->place == PLACE_LAYER && a->slots == 1 && m->config.layers > 1)) return false;
    size_t n = (size_t)m->B * (size_t)m->T * (size_t)a->width;
    const char *from = memory + act_offset(table, kind, layer);
    if (a->type == TYPE_REAL) device_floats(&m->gpu, values, (const real *)from, n);
    else device_floats(&m->gpu, values, (const float *)from, n);
    return true;
}

static bool model_get_activation(Model *m, int kind, int layer, float *values) {
    return get_tensor(m, &m->acts, m->activations, kind, layer, values);
}

static bool model_get_activation_gradient(Model *m, int kind, int layer, float *values) {
    MlpShape mlp = {0, 0, 0, m->config.activation, m->config.gated != 0};
    bool fused = mlp_fuses<real>(mlp) && !adapted(m, PARAM_fcproj_w);
    if (!m->setup.keep_backward || (kind == ACT_mlp && fused)) return false;
    return get_tensor(m, &m->backs, m->backward, kind, layer, values);
}

// ---------------------------------------------------------------- main

#include "llmc/run/verbs.h"

#ifndef LLMC_NO_MAIN
int main(int argc, char **argv) {
    process_open();
    return program_main(argc, argv);
}
#endif
