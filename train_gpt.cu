/*
train_gpt.cu: the same program as train_gpt_cpu.c for NVIDIA GPUs, in fused kernels.

This file holds the model: forward, backward, update, as lists of equations over the kernels of
llmc/cuda/. It defines the functions of train_gpt_cpu.c in the same order with the same numbered
steps (the passes of model_forward, model_backward and model_update as forward_pass, backward_pass and
update_pass); where one kernel or product does two steps, it stands under both numbers.

Parameters and activations are `real`: bf16, or float when built with -DFLOAT32. Always float:
statistics (means, rstd, lse, losses), gradients of parameters, which add up over micro-batches,
Adam's moments, and the master copy of the weights that the update works on.

Several ranks share out optimizer state, gradients and weights as llmc/cuda/ranks.h says. What a rank does
not keep whole lies, while a block needs it, in a slot: see use_block(), begin_gradients(), reduce_block().

The host runs ahead of the device: it waits only where a loss is read (model_update, model_loss) and
where values are copied out. A step is one CUDA graph, captured at the second step of a shape and replayed
from then on: forward, backward, the sums over the ranks and the update. To have it in one, model_forward and
model_backward only note what is to be done (see catch_up()); micro-batches before a step's last one replay a
graph of forward and backward. LLMC_GRAPHS=0 in the environment turns graphs off (for debuggers).

B batch, T time, N = B T, C channels, L layers, NH query heads, NKV key/value heads, HS head size,
F MLP size, V vocabulary, W columns of logits. Gradients carry a d in front.
*/
#include "llmc/cuda/cuda.h"

#include "llmc/cuda/attention.h"
#include "llmc/cuda/embedding.h"
#include "llmc/cuda/gemm.h"
#include "llmc/cuda/graph.h"
#include "llmc/cuda/loss.h"
#include "llmc/cuda/mlp.h"
#include "llmc/cuda/norm.h"
#include "llmc/cuda/nvml.h"
#include "llmc/cuda/optimizer.h"
#include "llmc/cuda/peak.h"
#include "llmc/cuda/preflight.h"
#include "llmc/cuda/ranks.h"
#include "llmc/cuda/rope.h"
#include "llmc/engine.h"
#include "llmc/base/half.h"
#include "llmc/base/hash.h"
#include <type_traits>

// Most bytes of logits that exist at a time. The head works through the batch in chunks of rows of
// this size: large enough for an efficient matrix product, small beside the activations. Tunable.
#define LOGITS_BYTES ((size_t)512 << 20)

// Logits have so many columns that rows start on 128 bytes: of a vocabulary that is no multiple (GPT-2's 50,257), products
// would else take kernels for unaligned rows. The columns behind the vocabulary belong to rows of zeros behind the
// head's weights, which stay zero: their logits are never read, their gradients are zero.
#define VOCAB_ALIGN 64

// The tensors of one layer (and those outside the layers) as pointers, named as in model.h.
template <typename Real> struct Tensors {
#define X(id, rows, cols, place, present, ...) Real *id;
    PARAMETERS(X)
#undef X
};
typedef Tensors<const real> Weights;
typedef Tensors<float> Gradients;

typedef struct {
#define X(id, width, per_head, place, present, lifetime, type_)                                                        \
    std::conditional<type_ == TYPE_STATISTIC, float, real>::type *id;
    ACTIVATIONS(X)
#undef X
} Activations;

// What of a training pass is not on the stream yet: bits of Model.pending.
enum Pass { PASS_FORWARD = 1, PASS_BACKWARD = 2 };

// Buffers for blocks that this rank does not keep whole. Two take turns among the layers' blocks, one or two
// serve the blocks at the ends.
enum { SLOTS = 4 };
typedef struct {
    void *buffer[SLOTS];      // NULL: not needed
    int holds[SLOTS];         // a block, or -1
    bool awaited[SLOTS];      // in this pass: the event was recorded
    cudaEvent_t event[SLOTS]; // weights: they are there; gradients: they were summed
} Slots;

struct Model {
    ModelSetup setup;
    Dist alone; // in place of setup.dist where nothing is updated: ranks have nothing to tell each other then
    Config config;
    Device gpu;
    Ranks ranks;
    Nvml nvml;
    char description[384];
    ParamTable table;
    ActTable acts;

    size_t own_elements;      // of table.elements those that this rank updates
    real *weights;            // (table.elements), with ZeRO-3 (own_elements)
    float *master;            // (own_elements); NULL in a float build and without updates
    float *gradients;         // (table.elements), with ZeRO-2 and 3 (own_elements); only for training
    float *moment1, *moment2; // (own_elements) each, only for training
    unsigned char *groups;    // (own_elements / 64): parameter groups
    Owned owned;
    Slots weight_slots, gradient_slots; // ZeRO-3; ZeRO-2 and 3
    char *activations;                  // (acts.bytes)
    float *rope;                        // (T, HS/2, 2) cosines and sines; NULL with learned positions
    real *logits;                       // (logits_rows, logits_width): one chunk
    int logits_rows, logits_width;      // width: V, filled up to VOCAB_ALIGN

    ActTable backs;
    char *backward; // (backs.bytes): gradients of activations; only for training

    // A batch: tokens (N), targets (N), token_groups (embedding.h). The host fills one of two pinned
    // copies while the other may still be on its way.
    int32_t *batch, *staging[2];
    cudaEvent_t staged[2];
    int turn;
    int32_t *counts; // (V) host, for token_groups

    double *loss; // sum since it was last read, on the device
    double *sums; // (ranks, 2) on the device: loss and sum of squares of every rank
    AdamRule *rule, *rule_host;
    AdamResult *result, *result_host;

    real *cache;        // (L, 2, seq_len, NKV HS): keys and values of model_decode; NULL until it is called
    real *logits_real;  // (V) host
    float *logits_host; // (V) host
    int B, T;           // of the last forward pass
    double grad_scale;  // and of its loss
    int pending;        // of enum Pass; a backward pass among them is a step's last
    bool check_ranks;
    Graph eval_graph, micro_graph,
        step_graph; // a loss; a micro-batch before a step's last; the last one and the update
};

static size_t block_size(const Model *m, int block) {
    return m->table.block_start[block + 1] - m->table.block_start[block];
}

// Blocks that are needed at the same time have different slots: neighbouring layers; the embedding and the
// head block where the head is the embedding.
static int slot_of(const Model *m, int block) {
    if (block > 0 && block < m->table.blocks - 1) return block % 2;
    return block > 0 && m->config.tied ? 3 : 2;
}

// Where a block lies: in the whole array, or in its slot.
static real *block_weights(const Model *m, int block) {
    return m->ranks.zero == 3 ? (real *)m->weight_slots.buffer[slot_of(m, block)]
                              : m->weights + m->table.block_start[block];
}
static float *block_gradients(const Model *m, int block) {
    return m->ranks.zero >= 2 ? (float *)m->gradient_slots.buffer[slot_of(m, block)]
                              : m->gradients + m->table.block_start[block];
}

template <typename Real, typename BlockOf>
static Tensors<Real> tensors_of(const Model *m, BlockOf block_of, int layer) {
    Tensors<Real> w;
#define X(id, rows, cols, place, present, ...)                                                                         \
    {                                                                                                                  \
        const Param *p = param_find(&m->table, PARAM_##id, place == PLACE_LAYER ? layer : -1);                         \
        w.id = p ? block_of(m, p->block) + (p->offset - m->table.block_start[p->block]) : NULL;                        \
    }
    PARAMETERS(X)
#undef X
    return w;
}
static Weights weights_of(const Model *m, int layer) { return tensors_of<const real>(m, block_weights, layer); }
static Gradients gradients_of(const Model *m, int layer) { return tensors_of<float>(m, block_gradients, layer); }

static Activations tensors_in(const ActTable *table, char *memory, int layer) {
    Activations a;
#define X(id, width, per_head, place, ...)                                                                             \
    a.id = table->items[ACT_##id].present                                                                              \
               ? (decltype(a.id))(memory + act_offset(table, ACT_##id, place == PLACE_LAYER ? layer : 0))              \
               : NULL;
    ACTIVATIONS(X)
#undef X
    return a;
}
static Activations activations_of(const Model *m, int layer) { return tensors_in(&m->acts, m->activations, layer); }
// Their gradients; NULL where there are none.
static Activations backward_of(const Model *m, int layer) { return tensors_in(&m->backs, m->backward, layer); }

// The elements of a tensor that a member of the group owns, as offsets into the table's elements, and where
// such an element stands in that member's arrays of own elements.
static Range own_part(const Model *m, const Param *p, int member) {
    return overlap(p, ranks_owned(&m->ranks, &m->table, p->block, member));
}
static size_t own_index(const Model *m, const Param *p, size_t element, int member) {
    return ranks_index(&m->ranks, &m->table, p->block, member, element);
}

static float *model_array(const Model *m, int array) {
    return array == MODEL_WEIGHT                  ? m->master
           : array == MODEL_GRADIENT              ? m->gradients
           : array == MODEL_STATE + STATE_moment1 ? m->moment1
                                                  : m->moment2;
}

// The input of a layer, the output of the one before or the embedding; and its gradient.
static real *layer_input(const Model *m, int layer) {
    Activations a = activations_of(m, layer > 0 ? layer - 1 : 0);
    return layer > 0 ? a.residual2 : a.embedding;
}
static real *layer_input_gradient(const Model *m, int layer) {
    Activations d = backward_of(m, layer > 0 ? layer - 1 : 0);
    return layer > 0 ? d.residual2 : d.embedding;
}

// to (n) = from, where they are not the same memory: gradients of the residual stream, which go on while more is added.
static void pass_on(real *to, const real *from, size_t n, Device *gpu) {
    if (to != from) CUDA_CHECK(cudaMemcpyAsync(to, from, sizeof(real) * n, cudaMemcpyDeviceToDevice, gpu->stream));
}

// ---------------------------------------------------------------- one transformer block

// The keys and values of T tokens go into the cache (2, seq_len, NKV HS) at position `first`; those of all positions so
// far are then what attention sees.
static void cache_append(Model *m, Heads<real> *h, real *cache, int T, int first) {
    size_t NK = (size_t)(m->config.kv_heads * m->config.head_size), row = sizeof(real) * NK;
    for (Rows<real> *from : {&h->k, &h->v}) {
        CUDA_CHECK(cudaMemcpy2DAsync(cache + (size_t)first * NK, row, from->at, sizeof(real) * (size_t)from->ld, row,
                                     (size_t)T, cudaMemcpyDeviceToDevice, m->gpu.stream));
        *from = {cache, (int)NK};
        cache += (size_t)m->setup.seq_len * NK;
    }
}

// Queries, keys and values (or their gradients) as columns of qkv, and of qk once rotated.
static Heads<real> heads_of(const Config *c, const Activations *a) {
    int NQ = c->heads * c->head_size, NK = c->kv_heads * c->head_size, QKV = config_qkv(c);
    Rows<real> qk = c->rope ? Rows<real>{a->qk, NQ + NK} : Rows<real>{a->qkv, QKV}, v = {a->qkv + NQ + NK, QKV};
    return {qk, qk.from(0, NQ), v};
}

// What of a block's forward pass is wanted: all of it, or what the backward pass needs and does not have.
typedef enum { EXTENT_ALL, EXTENT_CHEAP, EXTENT_AGAIN } Extent;

// a.residual2 = block(x), x: (N, C). With a cache (model_decode) B is 1, the tokens stand at positions
// first .. first + T - 1, and attention reaches back over all positions before.
static void block_forward(Model *m, int layer, const real *x, int B, int T, Extent extent, real *cache, int first) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    Weights w = weights_of(m, layer);
    Activations a = activations_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NQ = c->heads * c->head_size;
    float eps = (float)c->norm_eps;
    AttentionShape shape = attention_shape(c, B, T, first + T);
    Norm<real> norm1 = {w.norm1_w, w.norm1_b, a.norm1_mean, a.norm1_rstd, N, C, eps},
               norm2 = {w.norm2_w, w.norm2_b, a.norm2_mean, a.norm2_rstd, N, C, eps};
    Rotation<real> rotation = {w.qnorm_w, w.knorm_w, a.qk_rstd, m->rope, first, eps, shape};
    MlpShape mlp = {N, C, F, c->activation, c->gated != 0};
    bool products = extent != EXTENT_CHEAP;

    // 1. norm1 = norm(x)
    norm_forward<real>(a.norm1, x, norm1, gpu);
    // 2. qkv = norm1 Wqkv^T + b
    if (products) linear_forward<real>(a.qkv, a.norm1, w.qkv_w, w.qkv_b, NULL, {N, C, config_qkv(c)}, gpu);
    // 3. qk = rotate(norm(q), norm(k))
    if (c->rope) qk_forward<real>(a.qk, a.qkv, rotation, gpu);
    // 4. attention = softmax(q k^T / sqrt(HS)) v
    if (products) {
        Heads<real> h = heads_of(c, &a);
        if (cache) cache_append(m, &h, cache, T, first);
        attention_forward<real>(a.attention, a.attention_lse, h, shape, gpu);
    }
    // 5. residual1 = x + attention Wproj^T + b. The product adds x: it and the norm behind it then read and write (N, C) four
    //    times in all; a norm that added it would make it five, and round the product before the sum.
    if (products) linear_forward<real>(a.residual1, a.attention, w.proj_w, w.proj_b, x, {N, NQ, C}, gpu);
    // 6. norm2 = norm(residual1)
    norm_forward<real>(a.norm2, a.residual1, norm2, gpu);
    // 7. fc = norm2 Wfc^T + b
    // 8. mlp = f(fc), or f(gate) up
    if (products) linear_mlp_forward<real>(a.mlp, a.fc, a.norm2, w.fc_w, w.fc_b, mlp, gpu);
    else mlp_forward<real>(a.mlp, a.fc, N, F, c->activation, c->gated, gpu);
    // 9. residual2 = residual1 + mlp Wfcproj^T + b
    if (extent == EXTENT_ALL)
        linear_forward<real>(a.residual2, a.mlp, w.fcproj_w, w.fcproj_b, a.residual1, {N, F, C}, gpu);
}

// dx = the gradient of the block's input x, from that of its output; adds the gradients of the block's weights. The steps
// of block_forward, backwards.
static void block_backward(Model *m, int layer, const real *x, real *dx, int B, int T) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    Weights w = weights_of(m, layer);
    Gradients dw = gradients_of(m, layer);
    Activations a = activations_of(m, layer), d = backward_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NQ = c->heads * c->head_size;
    size_t NC = (size_t)N * (size_t)C;
    float eps = (float)c->norm_eps;
    AttentionShape shape = attention_shape(c, B, T, T);
    Norm<real> norm1 = {w.norm1_w, w.norm1_b, a.norm1_mean, a.norm1_rstd, N, C, eps},
               norm2 = {w.norm2_w, w.norm2_b, a.norm2_mean, a.norm2_rstd, N, C, eps};
    Rotation<real> rotation = {w.qnorm_w, w.knorm_w, a.qk_rstd, m->rope, 0, eps, shape};
    MlpShape mlp = {N, C, F, c->activation, c->gated != 0};
    LinearShape qkv = {N, C, config_qkv(c)}, proj = {N, NQ, C}, fc = {N, C, config_fc(c)}, fcproj = {N, F, C};

    // What was not kept is computed again.
    if (m->setup.recompute == RECOMPUTE_CHEAP) block_forward(m, layer, x, B, T, EXTENT_CHEAP, NULL, 0);
    if (m->setup.recompute == RECOMPUTE_BLOCK) block_forward(m, layer, x, B, T, EXTENT_AGAIN, NULL, 0);

    // 9. dmlp = dresidual2 Wfcproj
    // 8. dfc = dmlp f'(fc), or of gate and up
    linear_backward_weight<real>(dw.fcproj_w, dw.fcproj_b, d.residual2, a.mlp, fcproj, gpu);
    linear_mlp_backward<real>(d.fc, d.mlp, d.residual2, w.fcproj_w, a.fc, mlp, gpu);
    // 7. dnorm2 = dfc Wfc
    linear_backward_weight<real>(dw.fc_w, dw.fc_b, d.fc, a.norm2, fc, gpu);
    linear_backward_input<real>(d.norm2, d.fc, w.fc_w, fc, gpu);
    // 6. dresidual1 = dresidual2 + norm2 backward
    pass_on(d.residual1, d.residual2, NC, gpu);
    norm_backward<real>(d.residual1, dw.norm2_w, dw.norm2_b, d.norm2, a.residual1, norm2, gpu);
    // 5. dattention = dresidual1 Wproj
    linear_backward_weight<real>(dw.proj_w, dw.proj_b, d.residual1, a.attention, proj, gpu);
    linear_backward_input<real>(d.attention, d.residual1, w.proj_w, proj, gpu);
    // 4. dq, dk, dv
    attention_backward<real>(heads_of(c, &d), d.attention, a.attention, a.attention_lse, heads_of(c, &a), shape, gpu);
    // 3. through rotation and norm
    if (c->rope) qk_backward<real>(d.qkv, dw.qnorm_w, dw.knorm_w, d.qk, a.qkv, rotation, gpu);
    // 2. dnorm1 = dqkv Wqkv
    linear_backward_weight<real>(dw.qkv_w, dw.qkv_b, d.qkv, a.norm1, qkv, gpu);
    linear_backward_input<real>(d.norm1, d.qkv, w.qkv_w, qkv, gpu);
    // 1. dx = dresidual1 + norm1 backward
    pass_on(dx, d.residual1, NC, gpu);
    norm_backward<real>(dx, dw.norm1_w, dw.norm1_b, d.norm1, x, norm1, gpu);
}

// ---------------------------------------------------------------- the whole model

// Puts the passes that are pending on the stream, for whoever looks at the device in the middle of a step.
static void catch_up(Model *m);

// n numbers between the device's `real` and the host's float, through host memory
static void real_to_host(Model *m, float *out, const real *in, size_t n) {
    real *values = (real *)mem_alloc(sizeof(real) * n);
    CUDA_CHECK(cudaMemcpyAsync(values, in, sizeof(real) * n, cudaMemcpyDeviceToHost, m->gpu.stream));
    device_synchronize(&m->gpu);
    for (size_t i = 0; i < n; i++) out[i] = to_float(values[i]);
    free(values);
}

// A pass begins with all its slots free, and what it starts beside the model's stream has ended when it ends:
// so it can be captured as a graph.
static void begin_pass(Model *m, bool forward) {
    memset(m->weight_slots.awaited, 0, sizeof m->weight_slots.awaited);
    memset(m->gradient_slots.awaited, 0, sizeof m->gradient_slots.awaited);
    // A backward pass finds in the slots what the forward pass left there.
    for (int i = 0; i < SLOTS; i++) m->weight_slots.holds[i] = -1;
    for (int block = 0; !forward && block < m->table.blocks; block++) m->weight_slots.holds[slot_of(m, block)] = block;
    if (m->ranks.zero >= 2) ranks_fork(&m->ranks, m->gpu.stream);
}
static void end_pass(Model *m) { ranks_join(&m->ranks, m->gpu.stream); }

// ZeRO-3: starts to gather a block's weights, beside the work that follows.
static void gather_block(Model *m, int block) {
    Slots *s = &m->weight_slots;
    int slot = slot_of(m, block);
    if (s->holds[slot] == block) return;
    ranks_fork(&m->ranks, m->gpu.stream); // the block that was there is no longer needed
    size_t own = block_size(m, block) / (size_t)m->ranks.group;
    ranks_gather(&m->ranks, s->buffer[slot], m->weights + m->table.block_start[block] / (size_t)m->ranks.group,
                 sizeof(real) * own);
    CUDA_CHECK(cudaEventRecord(s->event[slot], ranks_stream(&m->ranks, m->gpu.stream)));
    s->holds[slot] = block;
    s->awaited[slot] = true;
}

// Work put on the stream after this may read the block's weights; those of `next` (-1: none) are on their way.
static void use_block(Model *m, int block, int next) {
    if (m->ranks.zero < 3 || m->ranks.quiet) return;
    Slots *s = &m->weight_slots;
    int slot = slot_of(m, block);
    gather_block(m, block);
    if (s->awaited[slot]) CUDA_CHECK(cudaStreamWaitEvent(m->gpu.stream, s->event[slot], 0));
    if (next >= 0 && slot_of(m, next) != slot) gather_block(m, next);
}

// Work put on the stream after this may add to the block's gradients.
static void begin_gradients(Model *m, int block) {
    if (m->ranks.zero < 2) return;
    Slots *s = &m->gradient_slots;
    int slot = slot_of(m, block);
    if (s->awaited[slot]) CUDA_CHECK(cudaStreamWaitEvent(m->gpu.stream, s->event[slot], 0));
    CUDA_CHECK(cudaMemsetAsync(s->buffer[slot], 0, sizeof(float) * block_size(m, block), m->gpu.stream));
}

// Sends a batch to the device; targets may be NULL, groups are sent where gradients will be wanted.
static void model_upload(Model *m, const int32_t *inputs, const int32_t *targets, size_t N, bool groups) {
    size_t count = 2 * N + (groups ? token_groups_size(N) : 0);
    int32_t *to = m->staging[m->turn];
    device_wait(&m->gpu, m->staged[m->turn]); // of the upload before the last one: long done, if no rank is late
    memcpy(to, inputs, sizeof(int32_t) * N);
    if (targets) memcpy(to + N, targets, sizeof(int32_t) * N);
    else memset(to + N, 0, sizeof(int32_t) * N);
    if (groups) token_groups(to + 2 * N, inputs, N, m->counts);
    CUDA_CHECK(cudaMemcpyAsync(m->batch, to, sizeof(int32_t) * count, cudaMemcpyHostToDevice, m->gpu.stream));
    CUDA_CHECK(cudaEventRecord(m->staged[m->turn], m->gpu.stream));
    m->turn ^= 1;
}

static void forward_pass(Model *m, float *logits_out) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int B = m->B, T = m->T, N = B * T, C = c->channels, V = c->vocab_size, W = m->logits_width;
    double grad_scale = m->grad_scale;
    Weights w = weights_of(m, 0);
    Activations a = activations_of(m, 0), d = backward_of(m, 0);
    const int32_t *inputs = m->batch, *targets = m->batch + N;

    // 1. token and position embedding
    begin_pass(m, true);
    use_block(m, 0, 1);
    embedding_forward<real>(a.embedding, inputs, w.wte, w.wpe, 0, B, T, C, gpu);
    // 2. the blocks
    for (int l = 0; l < c->layers; l++) {
        use_block(m, 1 + l, 2 + l);
        block_forward(m, l, layer_input(m, l), B, T, EXTENT_ALL, NULL, 0);
    }
    // 3. the last norm
    use_block(m, 1 + c->layers, -1);
    const real *x = layer_input(m, c->layers);
    Norm<real> normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, N, C, (float)c->norm_eps};
    norm_forward<real>(a.normf, x, normf, gpu);
    // 4. head and loss, a chunk of rows at a time; with their backward, since the logits go away
    const real *head = c->tied ? w.wte : w.head_w;
    float *dhead = NULL;
    if (grad_scale != 0) {
        Gradients dw = gradients_of(m, 0);
        begin_gradients(m, c->tied ? 0 : 1 + c->layers);
        dhead = c->tied ? dw.wte : dw.head_w;
    }
    for (int row = 0; row < N; row += m->logits_rows) {
        int rows = N - row < m->logits_rows ? N - row : m->logits_rows;
        const real *x_chunk = a.normf + (size_t)row * (size_t)C;
        linear_forward<real>(m->logits, x_chunk, head, NULL, NULL, {rows, C, W}, gpu);
        for (int i = 0; logits_out && i < rows; i++)
            real_to_host(m, logits_out + (size_t)(row + i) * (size_t)V, m->logits + (size_t)i * (size_t)W, (size_t)V);
        cross_entropy<real>(a.losses + row, m->logits, targets + row, (float)grad_scale, rows, V, W, gpu);
        if (grad_scale == 0) continue;
        linear_backward_weight<real>(dhead, NULL, m->logits, x_chunk, {rows, C, W}, gpu);
        linear_backward_input<real>(d.normf + (size_t)row * (size_t)C, m->logits, head, {rows, C, W}, gpu);
    }
    sum_losses(m->loss, a.losses, N, gpu);
    end_pass(m);
}

static void model_forward(Model *m, const int32_t *inputs, const int32_t *targets, int B, int T, double grad_scale,
                          float *logits_out) {
    catch_up(m);
    m->B = B, m->T = T, m->grad_scale = grad_scale;
    model_upload(m, inputs, targets, (size_t)B * (size_t)T, grad_scale != 0);
    GraphKey key = {B, T, 0, PASS_FORWARD};
    if (logits_out) forward_pass(m, logits_out); // copies to the host, which no graph can
    else if (grad_scale != 0) m->pending = PASS_FORWARD;
    else graph_run(&m->eval_graph, key, &m->gpu, [=]() { forward_pass(m, NULL); });
}

// Starts to sum a block's gradients over the ranks, as soon as this pass adds nothing more to them; the sums
// go on beside the work that follows. Gradients that this rank keeps whole wait for the last pass.
static void reduce_block(Model *m, int block, bool last) {
    Ranks *r = &m->ranks;
    size_t n = block_size(m, block), own = n / (size_t)r->group;
    if ((!last && r->zero < 2) || r->dist->size == 1 || r->quiet) return;
    float *g = block_gradients(m, block), *sum = g + own * (size_t)r->member;
    ranks_fork(r, m->gpu.stream);
    ranks_sum_inside(r, g, n);
    if (r->zero >= 2) {
        Slots *s = &m->gradient_slots;
        int slot = slot_of(m, block);
        cudaStream_t stream = ranks_stream(r, m->gpu.stream);
        float *total = m->gradients + m->table.block_start[block] / (size_t)r->group;
        add_gradients(total, sum, own, stream);
        CUDA_CHECK(cudaEventRecord(s->event[slot], stream));
        s->awaited[slot] = true;
        sum = total;
    }
    if (last) ranks_sum_across(r, sum, own);
}

static void backward_pass(Model *m, bool last) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int B = m->B, T = m->T, N = B * T, C = c->channels;
    Weights w = weights_of(m, 0);
    Gradients dw = gradients_of(m, 0);
    Activations a = activations_of(m, 0), d = backward_of(m, 0);
    Norm<real> normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, N, C, (float)c->norm_eps};
    real *dx = layer_input_gradient(m, c->layers);

    // 3. the last norm (4, the head, went backward in forward_pass)
    begin_pass(m, false);
    use_block(m, 1 + c->layers, c->layers);
    if (c->tied) begin_gradients(m, 1 + c->layers);
    CUDA_CHECK(cudaMemsetAsync(dx, 0, sizeof(real) * (size_t)N * (size_t)C, gpu->stream));
    norm_backward<real>(dx, dw.normf_w, dw.normf_b, d.normf, layer_input(m, c->layers), normf, gpu);
    reduce_block(m, 1 + c->layers, last);
    // 2. the blocks
    for (int l = c->layers - 1; l >= 0; l--) {
        use_block(m, 1 + l, l > 0 ? l : -1);
        begin_gradients(m, 1 + l);
        block_backward(m, l, layer_input(m, l), layer_input_gradient(m, l), B, T);
        reduce_block(m, 1 + l, last);
    }
    // 1. embeddings
    if (!c->tied) begin_gradients(m, 0);
    embedding_backward<real>(dw.wte, dw.wpe, d.embedding, token_groups_at(m->batch + 2 * N, (size_t)N), B, T, C,
                             c->vocab_size, gpu);
    reduce_block(m, 0, last);
    end_pass(m);
}

static void run_passes(Model *m, int passes, bool last) {
    if (passes & PASS_FORWARD) forward_pass(m, NULL);
    if (passes & PASS_BACKWARD) backward_pass(m, last);
}

// What was pending, for a graph that does it.
static GraphKey take_pending(Model *m) {
    GraphKey key = {m->B, m->T, m->grad_scale, m->pending};
    m->pending = 0;
    return key;
}

static void catch_up(Model *m) { run_passes(m, take_pending(m).passes, true); }

static void model_backward(Model *m, bool last) {
    m->pending |= PASS_BACKWARD;
    if (last) return; // model_update completes the graph
    GraphKey key = take_pending(m);
    graph_run(&m->micro_graph, key, &m->gpu, [=]() { run_passes(m, key.passes, false); });
}

static void model_zero_gradients(Model *m) {
    catch_up(m);
    size_t n = m->ranks.zero >= 2 ? m->own_elements : m->table.elements;
    CUDA_CHECK(cudaMemsetAsync(m->gradients, 0, sizeof(float) * n, m->gpu.stream));
}

static double model_loss(Model *m) {
    catch_up(m);
    double loss = 0;
    CUDA_CHECK(cudaMemcpyAsync(&loss, m->loss, sizeof loss, cudaMemcpyDeviceToHost, m->gpu.stream));
    device_synchronize(&m->gpu);
    CUDA_CHECK(cudaMemsetAsync(m->loss, 0, sizeof loss, m->gpu.stream));
    return loss;
}

static void update_pass(Model *m) {
    Ranks *r = &m->ranks;
    Device *gpu = &m->gpu;
    // 1. loss and gradient norm over all ranks, each from the ranges that it owns
    gradient_squares(m->sums + 2 * r->dist->rank, m->loss, m->gradients, m->own_elements, m->owned, gpu);
    ranks_fork(r, gpu->stream);
    ranks_gather_sums(r, m->sums);
    ranks_join(r, gpu->stream);
    // 2. nothing that is not finite reaches the weights (the device decides)
    adamw_decide(m->result, m->sums, r->dist->size, r->group, m->rule, gpu);
    // 3. clip and update, all tensors at once, gradients back to zero; then everybody gets everybody's weights
    ParamRun<real> run = {m->weights, m->master, m->gradients, {m->moment1, m->moment2}, m->groups, m->own_elements};
    adamw<real>(run, m->owned, m->rule, m->result, gpu);
    if (r->zero == 1) clear_gradients(m->gradients, m->table.elements, m->result, gpu);
    if (r->zero == 0 || r->zero == 3) return;
    ranks_fork(r, gpu->stream);
    for (int block = 0; block < m->table.blocks; block++) {
        Range own = ranks_owned(r, &m->table, block, r->member);
        ranks_gather(r, block_weights(m, block), m->weights + own.first, sizeof(real) * own.count);
    }
    ranks_join(r, gpu->stream);
}

// LLMC_CHECK_RANKS=1: ends the process where ranks that should hold the same bits do not. For debugging: it
// reads everything back.
static void check_ranks(Model *m, int64_t step) {
    Ranks *r = &m->ranks;
    int R = r->dist->size;
    struct {
        const char *what;
        const void *array;
        size_t bytes;
        bool everywhere; // or only on ranks of the same place in their groups
    } checks[] = {{"weights", m->weights, sizeof(real) * (r->zero == 3 ? m->own_elements : m->table.elements),
                   r->zero < 3},
                  {"master weights", m->master, m->master ? sizeof(float) * m->own_elements : 0, false},
                  {"first moments", m->moment1, sizeof(float) * m->own_elements, false},
                  {"second moments", m->moment2, sizeof(float) * m->own_elements, false}};
    double *hashes = (double *)mem_alloc(sizeof(double) * (size_t)R);
    for (size_t k = 0; k < sizeof checks / sizeof checks[0]; k++) {
        void *host = mem_alloc(checks[k].bytes);
        CUDA_CHECK(cudaMemcpyAsync(host, checks[k].array, checks[k].bytes, cudaMemcpyDeviceToHost, m->gpu.stream));
        device_synchronize(&m->gpu);
        memset(hashes, 0, sizeof(double) * (size_t)R);
        Xxh64 hash;
        xxh64_init(&hash, 0);
        xxh64_update(&hash, host, checks[k].bytes);
        hashes[r->dist->rank] = (double)(xxh64_value(&hash) >> 12); // exact in a double
        dist_sum(r->dist, hashes, R);
        for (int rank = 0; rank < R; rank++) {
            int with = checks[k].everywhere ? 0 : rank % r->group;
            if (hashes[rank] != hashes[with])
                fail("step %lld: the %s of rank %d are not those of rank %d", (long long)step, checks[k].what, rank,
                     with);
        }
        free(host);
    }
    free(hashes);
}

static UpdateResult model_update(Model *m, const UpdateRule *rule) {
    cudaStream_t stream = m->gpu.stream;
    *m->rule_host = adam_rule(rule);
    CUDA_CHECK(cudaMemcpyAsync(m->rule, m->rule_host, sizeof(AdamRule), cudaMemcpyHostToDevice, stream));
    GraphKey key = take_pending(m);
    graph_run(&m->step_graph, key, &m->gpu, [=]() {
        run_passes(m, key.passes, true);
        update_pass(m);
    });
    CUDA_CHECK(cudaMemcpyAsync(m->result_host, m->result, sizeof(AdamResult), cudaMemcpyDeviceToHost, stream));
    watchdog_enter(m->setup.dist->watchdog, "the device, which waits for the other ranks' gradients (model_update)");
    device_synchronize(&m->gpu);
    watchdog_leave(m->setup.dist->watchdog);
    if (m->check_ranks) check_ranks(m, rule->step);
    UpdateResult result;
    result.loss = m->result_host->loss;
    result.grad_norm = m->result_host->grad_norm;
    result.updated = m->result_host->updated != 0;
    return result;
}

static const float *model_decode(Model *m, const int32_t *tokens, int n, int position) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int C = c->channels, V = c->vocab_size, most = m->setup.batch_size * m->setup.seq_len;
    catch_up(m);
    size_t layer_cache = (size_t)2 * (size_t)m->setup.seq_len * (size_t)(c->kv_heads * c->head_size);
    if (!m->cache)
        m->cache = (real *)device_alloc(gpu, sizeof(real) * layer_cache * (size_t)c->layers,
                                        "the keys and values of generation");
    Weights w = weights_of(m, 0);
    Activations a = activations_of(m, 0);
    const real *x = NULL;
    int T = 0;
    begin_pass(m, true);
    for (int done = 0; done < n; done += T) {
        T = n - done < most ? n - done : most;
        model_upload(m, tokens + done, NULL, (size_t)T, false);
        use_block(m, 0, 1);
        embedding_forward<real>(a.embedding, m->batch, w.wte, w.wpe, position + done, 1, T, C, gpu);
        for (int l = 0; l < c->layers; l++) {
            use_block(m, 1 + l, l + 1 < c->layers ? 2 + l : -1);
            block_forward(m, l, layer_input(m, l), 1, T, EXTENT_ALL, m->cache + layer_cache * (size_t)l,
                          position + done);
        }
        x = layer_input(m, c->layers) + (size_t)(T - 1) * (size_t)C;
    }
    use_block(m, 1 + c->layers, -1);
    Norm<real> normf = {w.normf_w, w.normf_b, a.normf_mean, a.normf_rstd, 1, C, (float)c->norm_eps};
    norm_forward<real>(a.normf, x, normf, gpu);
    linear_forward<real>(m->logits, a.normf, c->tied ? w.wte : w.head_w, NULL, NULL, {1, C, m->logits_width}, gpu);
    if (m->ranks.zero == 3) { // the ranks must go on together: with the same bits they choose the same tokens
        ranks_fork(&m->ranks, gpu->stream);
        ranks_broadcast(&m->ranks, m->logits, sizeof(real) * (size_t)V);
    }
    end_pass(m);
    CUDA_CHECK(
        cudaMemcpyAsync(m->logits_real, m->logits, sizeof(real) * (size_t)V, cudaMemcpyDeviceToHost, gpu->stream));
    device_synchronize(gpu);
    for (int i = 0; i < V; i++) m->logits_host[i] = to_float(m->logits_real[i]);
    return m->logits_host;
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

// Makes room in the table for the rows of zeros behind the head's weights.
static void pad_head(ParamTable *t, const Config *c, int rows) {
    size_t shift = 0, width = (size_t)c->channels;
    for (int block = 0, i = 0; block <= t->blocks; block++) {
        t->block_start[block] += shift;
        for (; i < t->count && t->items[i].block == block; i++) {
            Param *p = &t->items[i];
            p->offset += shift;
            if (p->kind != (c->tied ? PARAM_wte : PARAM_head_w)) continue;
            shift +=
                (((size_t)rows * width + PARAM_ALIGN - 1) / PARAM_ALIGN - (p->count + PARAM_ALIGN - 1) / PARAM_ALIGN) *
                PARAM_ALIGN;
        }
    }
    t->elements += shift;
}

static void slots_open(Model *m, Slots *s, size_t bytes) {
    size_t most[SLOTS] = {0, 0, 0, 0};
    for (int block = 0; block < m->table.blocks; block++) {
        size_t *slot = &most[slot_of(m, block)];
        if (block_size(m, block) > *slot) *slot = block_size(m, block);
    }
    for (int i = 0; i < SLOTS; i++) {
        s->holds[i] = -1;
        if (most[i]) s->buffer[i] = device_alloc(&m->gpu, bytes * most[i], "a block shared out over the ranks");
        CUDA_CHECK(cudaEventCreateWithFlags(&s->event[i], cudaEventDisableTiming));
    }
}

static void slots_close(Slots *s) {
    for (int i = 0; i < SLOTS; i++) {
        cudaFree(s->buffer[i]);
        if (s->event[i]) cudaEventDestroy(s->event[i]);
    }
}

// Small pseudo-random numbers: products are timed on them, since zeros would run at a higher clock.
static __global__ void fill_kernel(real *x, size_t n) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) from_float(&x[i], (float)((uint32_t)i * 2654435761u >> 8) * (1.0f / 268435456.0f) - 0.03f);
}

static void fill(Model *m, real *x, size_t n) {
    fill_kernel<<<blocks_for(n, 256), 256, 0, m->gpu.stream>>>(x, n);
    LAUNCH_CHECK();
}

// Runs every shape of a step once, so that the fastest products are known before the first step.
static void model_warm_up(Model *m) {
    Device *gpu = &m->gpu;
    int B = m->setup.batch_size, T = m->setup.seq_len, rank = m->ranks.dist->rank;
    size_t n = m->ranks.zero == 3 ? m->own_elements : m->table.elements, N = (size_t)B * (size_t)T;
    int32_t *tokens = (int32_t *)mem_alloc(sizeof(int32_t) * N);
    for (size_t i = 0; i < N; i++) tokens[i] = (int32_t)(i % (size_t)m->config.vocab_size);
    fill(m, m->weights, n);
    for (int block = 0; m->ranks.zero == 3 && block < m->table.blocks; block++)
        fill(m, block_weights(m, block), block_size(m, block));
    m->ranks.quiet = true;
    if (rank > 0) gemm_share_choices(gpu, m->ranks.dist);
    gemm_measure(gpu, true);
    model_forward(m, tokens, tokens, B, T, 1.0 / (double)N, NULL);
    model_backward(m, false);
    gemm_measure(gpu, false);
    if (rank == 0) gemm_share_choices(gpu, m->ranks.dist);
    m->ranks.quiet = false;
    m->micro_graph.runs = 0; // its first real run makes the ranks' connections
    CUDA_CHECK(cudaMemsetAsync(m->weights, 0, sizeof(real) * n, gpu->stream));
    CUDA_CHECK(cudaMemsetAsync(m->loss, 0, sizeof(double), gpu->stream));
    model_zero_gradients(m);
    free(tokens);
}

static Model *model_create(const ModelSetup *setup, Error *err) {
    if (!config_check(&setup->config, err)) return NULL;
    const int built_for = sizeof(real) == sizeof(float) ? PRECISION_FP32 : PRECISION_BF16;
    if (setup->precision != PRECISION_AUTO && setup->precision != built_for) {
        error_set(err,
                  "this train_gpt was built for %s; leave --precision out, or use the other build (train_gpt: bf16, "
                  "train_gpt_fp32: fp32)",
                  built_for == PRECISION_FP32 ? "fp32" : "bf16");
        return NULL;
    }
    Model *m = (Model *)mem_alloc(sizeof(Model));
    m->setup = *setup;
    m->config = setup->config;
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    dist_single(&m->alone);
    if (!ranks_plan(&m->ranks, setup->gradients ? setup->dist : &m->alone, setup->zero, setup->zero_group, err) ||
        !device_open(gpu, setup->dist, err)) {
        free(m);
        return NULL;
    }
    gemm_open(gpu);
    ranks_open(&m->ranks);
    nvml_open(&m->nvml, gpu->number);
    size_t N = (size_t)setup->batch_size * (size_t)setup->seq_len;
    m->table = param_table(c);
    m->logits_width = (c->vocab_size + VOCAB_ALIGN - 1) / VOCAB_ALIGN * VOCAB_ALIGN;
    pad_head(&m->table, c, m->logits_width);
    ranks_pad(&m->ranks, &m->table);
    // Without a backward pass one slot for each activation serves all layers.
    m->acts = act_table(c, setup->batch_size, setup->seq_len, setup->gradients ? setup->recompute : RECOMPUTE_BLOCK,
                        sizeof(real), sizeof(float));
    size_t n = m->table.elements, own = m->own_elements = n / (size_t)m->ranks.group;
    m->weights = (real *)device_alloc(gpu, sizeof(real) * (m->ranks.zero == 3 ? own : n), "the weights");
    if (m->ranks.zero == 3) slots_open(m, &m->weight_slots, sizeof(real));
    m->activations = (char *)device_alloc(gpu, m->acts.bytes, "the activations");
    if (c->rope) {
        size_t bytes = sizeof(float) * (size_t)setup->seq_len * (size_t)c->head_size;
        double *exact = (double *)mem_alloc(2 * bytes);
        float *table = (float *)mem_alloc(bytes);
        rope_table(exact, setup->seq_len, c->head_size, c->rope_theta);
        for (size_t i = 0; i < bytes / sizeof(float); i++) table[i] = (float)exact[i];
        m->rope = (float *)device_alloc(gpu, bytes, "the rotary table");
        CUDA_CHECK(cudaMemcpyAsync(m->rope, table, bytes, cudaMemcpyHostToDevice, gpu->stream));
        device_synchronize(gpu);
        free(table);
        free(exact);
    }
    size_t most = LOGITS_BYTES / sizeof(real) / (size_t)m->logits_width;
    if (most < 128) most = 128;
    size_t chunks = (N + most - 1) / most, rows = ((N + chunks - 1) / chunks + 127) / 128 * 128;
    m->logits_rows = (int)(rows < N ? rows : N);
    m->logits =
        (real *)device_alloc(gpu, sizeof(real) * (size_t)m->logits_rows * (size_t)m->logits_width, "the logits");
    size_t batch = 2 * N + token_groups_size(N);
    m->batch = (int32_t *)device_alloc(gpu, sizeof(int32_t) * batch, "the batch");
    for (int i = 0; i < 2; i++) {
        CUDA_CHECK(cudaMallocHost((void **)&m->staging[i], sizeof(int32_t) * batch));
        CUDA_CHECK(cudaEventCreateWithFlags(&m->staged[i], cudaEventDisableTiming));
    }
    m->counts = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)c->vocab_size);
    m->loss = (double *)device_alloc(gpu, sizeof(double), "the loss");
    m->sums = (double *)device_alloc(gpu, sizeof(double) * 2 * (size_t)m->ranks.dist->size, "the sums over the ranks");
    m->logits_real = (real *)mem_alloc(sizeof(real) * (size_t)c->vocab_size);
    m->logits_host = (float *)mem_alloc(sizeof(float) * (size_t)c->vocab_size);
    m->rule = (AdamRule *)device_alloc(gpu, sizeof(AdamRule), "the update rule");
    m->result = (AdamResult *)device_alloc(gpu, sizeof(AdamResult), "the update's result");
    CUDA_CHECK(cudaMallocHost((void **)&m->rule_host, sizeof(AdamRule)));
    CUDA_CHECK(cudaMallocHost((void **)&m->result_host, sizeof(AdamResult)));
    if (setup->gradients) {
        if (sizeof(real) != sizeof(float) && !setup->no_master)
            m->master = (float *)device_alloc(gpu, sizeof(float) * own, "the master weights");
        m->gradients = (float *)device_alloc(gpu, sizeof(float) * (m->ranks.zero >= 2 ? own : n), "the gradients");
        if (m->ranks.zero >= 2) slots_open(m, &m->gradient_slots, sizeof(float));
        m->moment1 = (float *)device_alloc(gpu, sizeof(float) * own, "the first moments");
        m->moment2 = (float *)device_alloc(gpu, sizeof(float) * own, "the second moments");
        m->backs = backward_table(c, setup->batch_size, setup->seq_len, setup->keep_backward, sizeof(real));
        m->backward = (char *)device_alloc(gpu, m->backs.bytes, "the backward pass");
        m->groups = (unsigned char *)device_alloc(gpu, own / PARAM_ALIGN, "the table of parameter groups");
        for (int i = 0; i < m->table.count; i++) {
            const Param *p = &m->table.items[i];
            Range part = own_part(m, p, m->ranks.member); // tensors and ranges start on multiples of PARAM_ALIGN
            size_t at = own_index(m, p, part.first, m->ranks.member) / PARAM_ALIGN;
            if (part.count)
                CUDA_CHECK(cudaMemsetAsync(m->groups + at, p->group, (part.count + PARAM_ALIGN - 1) / PARAM_ALIGN,
                                           gpu->stream));
        }
        if (m->ranks.group > 1) {
            size_t bytes = sizeof(size_t) * (size_t)(m->table.blocks + 1);
            size_t *start = (size_t *)device_alloc(gpu, bytes, "the table of blocks");
            CUDA_CHECK(cudaMemcpyAsync(start, m->table.block_start, bytes, cudaMemcpyHostToDevice, gpu->stream));
            m->owned.block_start = start;
        }
        m->owned.blocks = m->table.blocks, m->owned.group = m->ranks.group, m->owned.member = m->ranks.member;
        m->owned.whole_gradients = m->ranks.zero < 2, m->owned.whole_weights = m->ranks.zero < 3;
        model_warm_up(m);
    }
    gpu->graphs = environment_int("LLMC_GRAPHS", 1) != 0;
    m->check_ranks = environment_int("LLMC_CHECK_RANKS", 0) != 0;
    device_synchronize(gpu);
    return m;
}

static void model_destroy(Model *m) {
    if (!m) return;
    device_synchronize(&m->gpu);
    graph_close(&m->eval_graph);
    graph_close(&m->micro_graph);
    graph_close(&m->step_graph);
    void *all[] = {m->weights,
                   m->master,
                   m->gradients,
                   m->moment1,
                   m->moment2,
                   m->groups,
                   m->activations,
                   m->rope,
                   m->logits,
                   m->backward,
                   m->batch,
                   m->loss,
                   m->sums,
                   m->rule,
                   m->result,
                   m->cache,
                   (void *)m->owned.block_start};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) cudaFree(all[i]);
    slots_close(&m->weight_slots);
    slots_close(&m->gradient_slots);
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(m->staging[i]);
        cudaEventDestroy(m->staged[i]);
    }
    cudaFreeHost(m->rule_host);
    cudaFreeHost(m->result_host);
    free(m->counts);
    free(m->logits_real);
    free(m->logits_host);
    param_table_free(&m->table);
    nvml_close(&m->nvml);
    ranks_close(&m->ranks);
    gemm_close(&m->gpu);
    device_close(&m->gpu);
    free(m);
}

static const char *model_device(Model *m) {
    int runtime = 0, driver = 0;
    CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
    CUDA_CHECK(cudaDriverGetVersion(&driver));
    int n = snprintf(m->description, sizeof m->description,
                     "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB, " REAL_NAME
                     ", CUDA %d.%d, driver for CUDA %d.%d",
                     m->gpu.name, m->gpu.major, m->gpu.minor, m->gpu.multiprocessors, (double)m->gpu.memory / (1 << 30),
                     runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
    if (m->ranks.dist->size > 1 && n > 0 && (size_t)n < sizeof m->description)
        snprintf(m->description + n, sizeof m->description - (size_t)n, ", ZeRO-%d among groups of %d", m->ranks.zero,
                 m->ranks.group);
    return m->description;
}

static double model_peak_flops(Model *m) { return device_peak_flops(&m->gpu); }

static DeviceReadings model_readings(Model *m) { return nvml_read(&m->nvml); }

// ---------------------------------------------------------------- numbers in and out

// The same parameter, or piece of one, in this program's own table, whose blocks may be padded.
static Param own_param(const Model *m, const Param *p) {
    return param_piece(param_find(&m->table, p->kind, p->layer), p->first, p->count);
}

static void model_set(Model *m, int array, const Param *of, const float *values) {
    catch_up(m);
    Param own = own_param(m, of), *p = &own;
    Range part = own_part(m, p, m->ranks.member), all = {p->offset, p->count};
    float *to = model_array(m, array);
    bool whole = array == MODEL_GRADIENT && m->ranks.zero < 2;
    Range r = whole ? all : part;
    if (to && r.count)
        CUDA_CHECK(cudaMemcpyAsync(to + (whole ? r.first : own_index(m, p, r.first, m->ranks.member)),
                                   values + (r.first - p->offset), sizeof(float) * r.count, cudaMemcpyHostToDevice,
                                   m->gpu.stream));
    r = m->ranks.zero == 3 ? part : all;
    if (array == MODEL_WEIGHT && r.count) {
        real *rounded = (real *)mem_alloc(sizeof(real) * r.count);
        for (size_t i = 0; i < r.count; i++) from_float(&rounded[i], values[r.first - p->offset + i]);
        CUDA_CHECK(
            cudaMemcpyAsync(m->weights + (m->ranks.zero == 3 ? own_index(m, p, r.first, m->ranks.member) : r.first),
                            rounded, sizeof(real) * r.count, cudaMemcpyHostToDevice, m->gpu.stream));
        device_synchronize(&m->gpu);
        free(rounded);
    }
    device_synchronize(&m->gpu);
}

// out (n) = n numbers of `real` or float on the device
template <typename Real> static void to_host(Model *m, float *out, const Real *in, size_t n) {
    if (sizeof(Real) == sizeof(real)) real_to_host(m, out, (const real *)in, n);
    else {
        CUDA_CHECK(cudaMemcpyAsync(out, in, sizeof(float) * n, cudaMemcpyDeviceToHost, m->gpu.stream));
        device_synchronize(&m->gpu);
    }
}

// values (rows, cols) on rank `to` from the own elements of its group's members, piece by piece through scratch
// memory.
template <typename Real> static void collect(Model *m, const Real *own, const Param *p, float *values, int to) {
    Ranks *r = &m->ranks;
    int rank = r->dist->rank, receiver = to % r->group;
    if (rank / r->group != to / r->group) return;
    for (int member = 0; member < r->group; member++) {
        Range part = own_part(m, p, member);
        size_t most = m->gpu.scratch_bytes / sizeof(Real), at = own_index(m, p, part.first, member);
        if (rank != to && r->member != member) continue;
        for (size_t done = 0, n; done < part.count; done += n) {
            n = part.count - done < most ? part.count - done : most;
            const Real *from = own + at + done;
            if (member != receiver) {
                ranks_fork(r, m->gpu.stream);
                ranks_hand_over(r, m->gpu.scratch, from, sizeof(Real) * n, member, receiver);
                ranks_join(r, m->gpu.stream);
                from = (const Real *)m->gpu.scratch;
            }
            if (rank == to) to_host(m, values + (part.first - p->offset) + done, from, n);
            else device_synchronize(&m->gpu); // what the ranks do next may not need the device, and the receiver waits
        }
    }
}

static bool model_keeps(const Model *m, int array, const Param *of) {
    Param own = own_param(m, of);
    return (array == MODEL_WEIGHT && m->ranks.zero < 3) || own_part(m, &own, m->ranks.member).count > 0;
}

static void model_get(Model *m, int array, const Param *of, float *values, int to) {
    catch_up(m);
    Param own = own_param(m, of), *p = &own;
    const float *from = model_array(m, array);
    if (array == MODEL_GRADIENT) {
        Range part = {p->offset, p->count};
        size_t at = p->offset;
        if (m->ranks.zero >= 2) {
            part = own_part(m, p, m->ranks.member);
            at = own_index(m, p, part.first, m->ranks.member);
            memset(values, 0, sizeof(float) * p->count);
        }
        if (part.count) to_host(m, values + (part.first - p->offset), from + at, part.count);
    } else if (from) collect(m, from, p, values, to);
    else if (m->ranks.zero == 3) collect(m, m->weights, p, values, to);
    else if (m->ranks.dist->rank == to) real_to_host(m, values, m->weights + p->offset, p->count);
}

// values (B, T, width) of a tensor; false where it is not kept. A slot that layers share holds, after the backward pass,
// the first layer's; before it, the last layer's.
static bool get_tensor(Model *m, const ActTable *table, const char *memory, int kind, int layer, float *values) {
    catch_up(m);
    const Act *a = &table->items[kind];
    if (!a->present || (a->place == PLACE_LAYER && a->slots == 1 && m->config.layers > 1)) return false;
    size_t n = (size_t)m->B * (size_t)m->T * (size_t)a->width;
    const char *from = memory + act_offset(table, kind, layer);
    if (a->type == TYPE_REAL) to_host(m, values, (const real *)from, n);
    else to_host(m, values, (const float *)from, n);
    return true;
}

static bool model_get_activation(Model *m, int kind, int layer, float *values) {
    return get_tensor(m, &m->acts, m->activations, kind, layer, values);
}

static bool model_get_activation_gradient(Model *m, int kind, int layer, float *values) {
    MlpShape mlp = {0, 0, 0, m->config.activation, m->config.gated != 0};
    if (!m->setup.keep_backward || (kind == ACT_mlp && mlp_fuses(mlp))) return false;
    return get_tensor(m, &m->backs, m->backward, kind, layer, values);
}

// ---------------------------------------------------------------- main

#include "llmc/run/verbs.h"

#ifndef LLMC_NO_MAIN
int main(int argc, char **argv) { return program_main(argc, argv); }
#endif
