/*
train_gpt_cpu.c: the reference program: a GPT trained, evaluated and sampled on CPUs.

This file holds the model: forward, backward, update, as lists of equations over the kernels of
llmc/cpu/. What the tensors are stands in llmc/model.h; what happens around a step in llmc/run/trainer.h;
the other verbs in llmc/run/verbs.h. train_gpt.cu defines the same functions in the same order.

Reading order: Model, then block_forward() and block_backward() (one transformer block, step by step),
then model_forward() (embedding, blocks, head and loss), then the rest.

Numbers are `real`: float, or double when built with -DREAL_DOUBLE, which is what the finite
difference tests use. Files hold floats either way.

B batch, T time, N = B T, C channels, L layers, NH query heads, NKV key/value heads, HS head size,
F MLP size, V vocabulary. Gradients carry a d in front.
*/
#include "llmc/cpu/cpu.h"

#include "llmc/cpu/attention.h"
#include "llmc/cpu/embedding.h"
#include "llmc/cpu/gemm.h"
#include "llmc/cpu/loss.h"
#include "llmc/cpu/mlp.h"
#include "llmc/cpu/norm.h"
#include "llmc/cpu/optimizer.h"
#include "llmc/cpu/peak.h"
#include "llmc/cpu/ranks.h"
#include "llmc/engine.h"

// Most bytes of logits that exist at a time. The head works through the batch in chunks of rows of
// this size: large enough that a chunk is an efficient matrix product, small beside the weights.
// Tunable; 96 MiB is 500 rows of a 50k vocabulary in float.
#define LOGITS_BYTES ((size_t)96 << 20)

// The tensors of one layer (and those outside the layers) as pointers, named as in model.h.
typedef struct {
#define X(id, rows, cols, place, present, ...) real *id;
    PARAMETERS(X)
#undef X
} Weights;

typedef struct {
#define X(id, ...) real *id;
    ACTIVATIONS(X)
#undef X
} Activations;

struct Model {
    ModelSetup setup;
    Config config;
    Cpu cpu;
    char device[64];
    double peak_flops; // 0: not measured yet
    Ranks ranks;
    ParamTable table;
    ActTable acts;

    real *weights, *gradients; // (table.elements); gradients only for training
    Range *owned;              // (table.blocks): what this rank updates, as offsets into weights; all of it on one rank
    size_t *moment_start;      // (table.blocks): where the moments of owned[block] begin
    real *moment1, *moment2;   // of the owned ranges, one behind the other; only for training
    char *activations;         // (acts.bytes)
    real *rope;                // (T, HS/2, 2) cosines and sines; NULL with learned positions
    real *logits;              // (logits_rows, V): one chunk
    int logits_rows;

    // Backward: gradients of activations. dx is (N, C), the gradient of the residual stream, which
    // every block turns from the gradient of its output into that of its input.
    real *dx;
    real *dwide;   // (N, max(fc, QKV)): d of fc, then of qkv
    real *dnarrow; // (N, max(F, C, (2 NH + NKV) HS)): d of mlp, of the norms' outputs, of attention and qk

    real *cache;           // (L, 2, seq_len, NKV HS): keys and values of model_decode; NULL until it is called
    int B, T;              // of the last forward pass
    const int32_t *inputs; // (B, T) of the last forward pass; the caller keeps them until backward
    double loss;
};

static Weights weights_of(const Model *m, real *base, int layer) {
    Weights w;
#define X(id, rows, cols, place, present, ...)                                                                         \
    {                                                                                                                  \
        const Param *p = param_find(&m->table, PARAM_##id, place == PLACE_LAYER ? layer : -1);                         \
        w.id = p ? base + p->offset : NULL;                                                                            \
    }
    PARAMETERS(X)
#undef X
    return w;
}

static Activations activations_of(const Model *m, int layer) {
    Activations a;
#define X(id, width, per_head, place, ...)                                                                             \
    a.id = m->acts.items[ACT_##id].present                                                                             \
               ? (real *)(m->activations + act_offset(&m->acts, ACT_##id, place == PLACE_LAYER ? layer : 0))           \
               : NULL;
    ACTIVATIONS(X)
#undef X
    return a;
}

// The input of a layer: the output of the one before, or the embedding.
static real *layer_input(const Model *m, int layer) {
    Activations a = activations_of(m, layer > 0 ? layer - 1 : 0);
    return layer > 0 ? a.residual2 : a.embedding;
}

// The elements of a block whose gradients a rank sums, as offsets into the flat array; and those that it
// updates: the same, or with --zero=0 all of them.
static Range summed_range(const Model *m, int block, int rank) {
    size_t from = m->table.block_start[block];
    Range r = ranks_range(m->table.block_start[block + 1] - from, rank, m->setup.dist->size);
    r.first += from;
    return r;
}
static Range owned_range(const Model *m, int block, int rank) {
    Range all = {m->table.block_start[block], m->table.block_start[block + 1] - m->table.block_start[block]};
    return m->setup.zero ? summed_range(m, block, rank) : all;
}

// Moments exist only for what this rank owns: element i of the flat array, for owned i.
static real *moment_at(const Model *m, int array, int block, size_t i) {
    return (array == MODEL_STATE + STATE_moment1 ? m->moment1 : m->moment2) + m->moment_start[block] +
           (i - m->owned[block].first);
}

// ---------------------------------------------------------------- one transformer block

// Where keys and values come from. In training they are columns of qkv (and qk, once rotated).
typedef struct {
    const real *q, *k, *v; // (N, NH HS), (N, NKV HS), (N, NKV HS), rows ld apart
    int ldq, ldk, ldv;
} Heads;

static Heads heads_of(const Config *c, const Activations *a) {
    Heads h;
    int NQ = c->heads * c->head_size, NK = c->kv_heads * c->head_size;
    h.q = c->rope ? a->qk : a->qkv;
    h.k = h.q + NQ;
    h.v = a->qkv + NQ + NK;
    h.ldq = h.ldk = c->rope ? NQ + NK : config_qkv(c);
    h.ldv = config_qkv(c);
    return h;
}

// What of a block's forward pass is wanted: all of it, or what the backward pass needs and does not have.
typedef enum { EXTENT_ALL, EXTENT_CHEAP, EXTENT_AGAIN } Extent;

// a.residual2 = block(x), x: (N, C). With a cache (model_decode) B is 1, the tokens stand at positions
// first .. first + T - 1, and attention reaches back over all positions before.
static void block_forward(Model *m, int layer, const real *x, int B, int T, Extent extent, real *cache, int first) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    Weights w = weights_of(m, m->weights, layer);
    Activations a = activations_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NH = c->heads, NKV = c->kv_heads, HS = c->head_size,
        QKV = config_qkv(c);
    bool products = extent != EXTENT_CHEAP;

    // 1. norm1 = norm(x)
    norm_forward(a.norm1, a.norm1_mean, a.norm1_rstd, x, w.norm1_w, w.norm1_b, N, C, (real)c->norm_eps, cpu);
    // 2. qkv = norm1 Wqkv^T + b
    if (products) linear_forward(a.qkv, a.norm1, w.qkv_w, w.qkv_b, NULL, N, C, QKV, cpu);
    // 3. qk = rotate(norm(q), norm(k))
    if (c->rope)
        qk_forward(a.qk, a.qk_rstd, a.qkv, w.qnorm_w, w.knorm_w, m->rope, first, B, T, NH, NKV, HS, (real)c->norm_eps,
                   cpu);
    // 4. attention = softmax(q k^T / sqrt(HS)) v
    if (products) {
        Heads h = heads_of(c, &a);
        if (cache) {
            int NK = NKV * HS;
            real *keys = cache, *values = cache + (size_t)m->setup.seq_len * (size_t)NK; // (seq_len, NKV HS) each
            for (int t = 0; t < T; t++) {
                memcpy(keys + (size_t)(first + t) * (size_t)NK, h.k + (size_t)t * (size_t)h.ldk,
                       sizeof(real) * (size_t)NK);
                memcpy(values + (size_t)(first + t) * (size_t)NK, h.v + (size_t)t * (size_t)h.ldv,
                       sizeof(real) * (size_t)NK);
            }
            h.k = keys, h.v = values, h.ldk = h.ldv = NK;
        }
        attention_forward(a.attention, a.attention_lse, h.q, h.ldq, h.k, h.ldk, h.v, h.ldv, B, T, first + T, NH, NKV,
                          HS, cpu);
    }
    // 5. residual1 = x + attention Wproj^T + b
    if (products) linear_forward(a.residual1, a.attention, w.proj_w, w.proj_b, x, N, NH * HS, C, cpu);
    // 6. norm2 = norm(residual1)
    norm_forward(a.norm2, a.norm2_mean, a.norm2_rstd, a.residual1, w.norm2_w, w.norm2_b, N, C, (real)c->norm_eps, cpu);
    // 7. fc = norm2 Wfc^T + b
    if (products) linear_forward(a.fc, a.norm2, w.fc_w, w.fc_b, NULL, N, C, config_fc(c), cpu);
    // 8. mlp = gelu(fc), or silu(gate) up
    if (c->gated) swiglu_forward(a.mlp, a.fc, N, F, cpu);
    else gelu_forward(a.mlp, a.fc, (size_t)N * (size_t)F, cpu);
    // 9. residual2 = residual1 + mlp Wfcproj^T + b
    if (extent == EXTENT_ALL) linear_forward(a.residual2, a.mlp, w.fcproj_w, w.fcproj_b, a.residual1, N, F, C, cpu);
}

// Turns m->dx from the gradient of the block's output into that of its input x, and adds the
// gradients of the block's weights. The steps of block_forward, backwards.
static void block_backward(Model *m, int layer, const real *x, int B, int T) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    Weights w = weights_of(m, m->weights, layer), dw = weights_of(m, m->gradients, layer);
    Activations a = activations_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NH = c->heads, NKV = c->kv_heads, HS = c->head_size,
        QKV = config_qkv(c);
    int NQ = NH * HS, NK = NKV * HS;
    real *dx = m->dx, *dwide = m->dwide, *dnarrow = m->dnarrow;

    // What was not kept is computed again.
    if (m->setup.recompute == RECOMPUTE_CHEAP) block_forward(m, layer, x, B, T, EXTENT_CHEAP, NULL, 0);
    if (m->setup.recompute == RECOMPUTE_BLOCK) block_forward(m, layer, x, B, T, EXTENT_AGAIN, NULL, 0);

    // 9. dmlp = dx Wfcproj
    real *dmlp = dnarrow; // (N, F)
    linear_backward_weight(dw.fcproj_w, dw.fcproj_b, dx, a.mlp, N, F, C, cpu);
    linear_backward_input(dmlp, dx, w.fcproj_w, false, N, F, C, cpu);
    ranks_progress(&m->ranks);
    // 8. dfc
    real *dfc = dwide; // (N, F) or (N, 2F)
    if (c->gated) swiglu_backward(dfc, dmlp, a.fc, N, F, cpu);
    else gelu_backward(dfc, dmlp, a.fc, (size_t)N * (size_t)F, cpu);
    // 7. dnorm2 = dfc Wfc
    real *dnorm = dnarrow; // (N, C); dmlp is used up
    linear_backward_weight(dw.fc_w, dw.fc_b, dfc, a.norm2, N, C, config_fc(c), cpu);
    linear_backward_input(dnorm, dfc, w.fc_w, false, N, C, config_fc(c), cpu);
    ranks_progress(&m->ranks);
    // 6. dresidual1 = dx + norm2 backward
    norm_backward(dx, dw.norm2_w, dw.norm2_b, dnorm, a.residual1, w.norm2_w, a.norm2_mean, a.norm2_rstd, N, C, cpu);
    // 5. dattention = dx Wproj
    real *dattention = dnarrow; // (N, NH HS)
    linear_backward_weight(dw.proj_w, dw.proj_b, dx, a.attention, N, NQ, C, cpu);
    linear_backward_input(dattention, dx, w.proj_w, false, N, NQ, C, cpu);
    ranks_progress(&m->ranks);
    // 4. dq, dk, dv
    real *dqkv = dwide;                             // (N, QKV); dfc is used up
    real *dqk = dnarrow + (size_t)N * (size_t)NQ;   // (N, (NH + NKV) HS), behind dattention
    real *dq = c->rope ? dqk : dqkv, *dk = dq + NQ; // as heads_of() splits them
    int lddq = c->rope ? NQ + NK : QKV;
    Heads h = heads_of(c, &a);
    attention_backward(dq, lddq, dk, lddq, dqkv + NQ + NK, QKV, dattention, a.attention, a.attention_lse, h.q, h.ldq,
                       h.k, h.ldk, h.v, h.ldv, B, T, NH, NKV, HS, cpu);
    // 3. through rotation and norm
    if (c->rope)
        qk_backward(dqkv, dw.qnorm_w, dw.knorm_w, dqk, a.qkv, a.qk_rstd, w.qnorm_w, w.knorm_w, m->rope, B, T, NH, NKV,
                    HS, cpu);
    ranks_progress(&m->ranks);
    // 2. dnorm1 = dqkv Wqkv
    linear_backward_weight(dw.qkv_w, dw.qkv_b, dqkv, a.norm1, N, C, QKV, cpu);
    linear_backward_input(dnorm, dqkv, w.qkv_w, false, N, C, QKV, cpu);
    ranks_progress(&m->ranks);
    // 1. dx = dx + norm1 backward
    norm_backward(dx, dw.norm1_w, dw.norm1_b, dnorm, x, w.norm1_w, a.norm1_mean, a.norm1_rstd, N, C, cpu);
}

// ---------------------------------------------------------------- the whole model

static void model_forward(Model *m, const int32_t *inputs, const int32_t *targets, int B, int T, double grad_scale,
                          float *logits_out) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    int N = B * T, C = c->channels, V = c->vocab_size;
    Weights w = weights_of(m, m->weights, 0), dw;
    Activations a = activations_of(m, 0);
    m->B = B, m->T = T, m->inputs = inputs;

    // 1. token and position embedding
    embedding_forward(a.embedding, inputs, w.wte, w.wpe, 0, B, T, C, cpu);
    // 2. the blocks
    for (int l = 0; l < c->layers; l++) block_forward(m, l, layer_input(m, l), B, T, EXTENT_ALL, NULL, 0);
    // 3. the last norm
    const real *x = layer_input(m, c->layers);
    norm_forward(a.normf, a.normf_mean, a.normf_rstd, x, w.normf_w, w.normf_b, N, C, (real)c->norm_eps, cpu);
    // 4. head and loss, a chunk of rows at a time; with their backward, since the logits go away
    real *head = c->tied ? w.wte : w.head_w, *dhead = NULL;
    real *dnormf = m->dnarrow; // (N, C)
    if (grad_scale != 0) {
        dw = weights_of(m, m->gradients, 0);
        dhead = c->tied ? dw.wte : dw.head_w;
    }
    for (int row = 0; row < N; row += m->logits_rows) {
        int rows = N - row < m->logits_rows ? N - row : m->logits_rows;
        const real *x_chunk = a.normf + (size_t)row * (size_t)C;
        linear_forward(m->logits, x_chunk, head, NULL, NULL, rows, C, V, cpu);
        if (logits_out)
            for (size_t i = 0; i < (size_t)rows * (size_t)V; i++)
                logits_out[(size_t)row * (size_t)V + i] = (float)m->logits[i];
        cross_entropy(a.losses + row, m->logits, targets + row, (real)grad_scale, rows, V, cpu);
        if (grad_scale == 0) continue;
        linear_backward_weight(dhead, NULL, m->logits, x_chunk, rows, C, V, cpu);
        linear_backward_input(dnormf + (size_t)row * (size_t)C, m->logits, head, false, rows, C, V, cpu);
    }
    for (int i = 0; i < N; i++) m->loss += (double)a.losses[i];
}

// Starts to sum a block's gradients over the ranks, as soon as no pass will add to them; the sums go on
// between the kernels of the blocks before.
static void reduce_block(Model *m, int block) {
    size_t from = m->table.block_start[block];
    ranks_sum(&m->ranks, m->gradients + from, m->table.block_start[block + 1] - from);
}

static void model_backward(Model *m, bool last) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    int B = m->B, T = m->T, N = B * T, C = c->channels;
    Weights w = weights_of(m, m->weights, 0), dw = weights_of(m, m->gradients, 0);
    Activations a = activations_of(m, 0);
    real *dnormf = m->dnarrow;

    // 3. the last norm (4, the head, went backward in model_forward)
    memset(m->dx, 0, sizeof(real) * (size_t)N * (size_t)C);
    norm_backward(m->dx, dw.normf_w, dw.normf_b, dnormf, layer_input(m, c->layers), w.normf_w, a.normf_mean,
                  a.normf_rstd, N, C, cpu);
    if (last) reduce_block(m, m->table.blocks - 1);
    // 2. the blocks
    for (int l = c->layers - 1; l >= 0; l--) {
        block_backward(m, l, layer_input(m, l), B, T);
        if (last) reduce_block(m, 1 + l);
    }
    // 1. embeddings
    embedding_backward(dw.wte, dw.wpe, m->dx, m->inputs, B, T, C, c->vocab_size, cpu);
    if (last) reduce_block(m, 0);
}

static void model_zero_gradients(Model *m) { memset(m->gradients, 0, sizeof(real) * m->table.elements); }

static double model_loss(Model *m) {
    double loss = m->loss;
    m->loss = 0;
    return loss;
}

static UpdateResult model_update(Model *m, const UpdateRule *rule) {
    UpdateResult result;
    // 1. loss and gradient norm over all ranks, each from the ranges that it has summed
    Watchdog *watchdog = m->setup.dist->watchdog;
    watchdog_enter(watchdog, "sums of the gradients (ranks_wait)");
    ranks_wait(&m->ranks);
    watchdog_leave(watchdog);
    double sums[2] = {model_loss(m), 0}; // loss, squares
    for (int block = 0; block < m->table.blocks; block++) {
        Range part = summed_range(m, block, m->setup.dist->rank);
        sums[1] += sum_of_squares(m->gradients + part.first, part.count, &m->cpu);
        if (!m->setup.zero)
            ranks_gather(&m->ranks, m->gradients + m->table.block_start[block],
                         m->table.block_start[block + 1] - m->table.block_start[block]);
    }
    ranks_gather_wait(&m->ranks);
    dist_sum(m->setup.dist, sums, 2);
    result.loss = sums[0];
    result.grad_norm = sqrt(sums[1]);
    // 2. nothing that is not finite, or above its bound, reaches the weights
    result.updated = isfinite(result.loss) && isfinite(result.grad_norm) &&
                     !(rule->max_loss > 0 && result.loss > rule->max_loss) &&
                     !(rule->max_norm > 0 && result.grad_norm > rule->max_norm);
    if (!result.updated) return result;
    // 3. clip and update, tensor by tensor; finished blocks go to the other ranks meanwhile
    double clip = rule->grad_clip > 0 && result.grad_norm > rule->grad_clip ? rule->grad_clip / result.grad_norm : 1.0;
    for (int i = 0; i < m->table.count; i++) {
        const Param *p = &m->table.items[i];
        Range part = overlap(p, m->owned[p->block]);
        const GroupRule *adam = &rule->group[p->group];
        if (part.count)
            adamw(m->weights + part.first, moment_at(m, MODEL_STATE + STATE_moment1, p->block, part.first),
                  moment_at(m, MODEL_STATE + STATE_moment2, p->block, part.first), m->gradients + part.first,
                  part.count, adam->lr, adam->beta1, adam->beta2, adam->eps, adam->weight_decay, rule->step, clip,
                  &m->cpu);
        ranks_progress(&m->ranks);
        if (!m->setup.zero || (i + 1 < m->table.count && m->table.items[i + 1].block == p->block)) continue;
        size_t from = m->table.block_start[p->block];
        ranks_gather(&m->ranks, m->weights + from, m->table.block_start[p->block + 1] - from);
    }
    model_zero_gradients(m);
    watchdog_enter(watchdog, "the other ranks' new weights (ranks_gather_wait)");
    ranks_gather_wait(&m->ranks);
    watchdog_leave(watchdog);
    return result;
}

static const float *model_decode(Model *m, const int32_t *tokens, int n, int position) {
    const Config *c = &m->config;
    Cpu *cpu = &m->cpu;
    int C = c->channels, V = c->vocab_size, most = m->setup.batch_size * m->setup.seq_len;
    size_t layer_cache = (size_t)2 * (size_t)m->setup.seq_len * (size_t)(c->kv_heads * c->head_size);
    if (!m->cache) m->cache = (real *)cpu_alloc(sizeof(real) * layer_cache * (size_t)c->layers);
    Weights w = weights_of(m, m->weights, 0);
    Activations a = activations_of(m, 0);
    const real *x = NULL;
    int T = 0;
    for (int done = 0; done < n; done += T) {
        T = n - done < most ? n - done : most;
        embedding_forward(a.embedding, tokens + done, w.wte, w.wpe, position + done, 1, T, C, cpu);
        for (int l = 0; l < c->layers; l++)
            block_forward(m, l, layer_input(m, l), 1, T, EXTENT_ALL, m->cache + layer_cache * (size_t)l,
                          position + done);
        x = layer_input(m, c->layers) + (size_t)(T - 1) * (size_t)C;
    }
    norm_forward(a.normf, a.normf_mean, a.normf_rstd, x, w.normf_w, w.normf_b, 1, C, (real)c->norm_eps, cpu);
    linear_forward(m->logits, a.normf, c->tied ? w.wte : w.head_w, NULL, NULL, 1, C, V, cpu);
#ifdef REAL_DOUBLE
    float *out = (float *)m->logits; // narrowed in place, front to back: each write lies behind the reads
    for (int i = 0; i < V; i++) {
        float value = (float)m->logits[i];
        memcpy(out + i, &value, sizeof value);
    }
    return out;
#else
    return m->logits;
#endif
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

static Model *model_create(const ModelSetup *setup, Error *err) {
    if (!config_check(&setup->config, err)) return NULL;
    if (setup->zero > 1 || setup->zero_group) {
        error_set(err, "train_gpt_cpu shares out the optimizer's state at most, among all ranks: --zero=0 or 1 and no "
                       "--zero_group; train_gpt does more");
        return NULL;
    }
    if (setup->gradients && setup->dist->size > 1 && !setup->dist->mpi) {
        error_set(err,
                  "%d ranks without MPI, which train_gpt_cpu sums gradients over: build it with MPI=1 and start it "
                  "with mpirun, or with srun --mpi=pmix",
                  setup->dist->size);
        return NULL;
    }
    Model *m = (Model *)mem_alloc(sizeof(Model));
    m->setup = *setup;
    m->config = setup->config;
    const Config *c = &m->config;
    if (!cpu_open(&m->cpu, setup->threads, setup->precision == PRECISION_BF16, err)) {
        free(m);
        return NULL;
    }
    size_t N = (size_t)setup->batch_size * (size_t)setup->seq_len;
    m->table = param_table(c);
    // Without a backward pass one slot for each activation serves all layers.
    m->acts = act_table(c, setup->batch_size, setup->seq_len, setup->gradients ? setup->recompute : RECOMPUTE_BLOCK,
                        sizeof(real), sizeof(real));
    m->weights = (real *)cpu_alloc(sizeof(real) * m->table.elements);
    m->activations = (char *)cpu_alloc(m->acts.bytes);
    if (c->rope) {
        m->rope = (real *)mem_alloc(sizeof(real) * (size_t)setup->seq_len * (size_t)c->head_size);
        rope_table(m->rope, setup->seq_len, c->head_size, c->rope_theta);
    }
    size_t rows = LOGITS_BYTES / sizeof(real) / (size_t)c->vocab_size / 64 * 64;
    m->logits_rows = (int)(rows < 64 ? (N < 64 ? N : 64) : rows < N ? rows : N);
    m->logits = (real *)cpu_alloc(sizeof(real) * (size_t)m->logits_rows * (size_t)c->vocab_size);
    if (setup->gradients) {
        m->gradients = (real *)cpu_alloc(sizeof(real) * m->table.elements);
        ranks_open(&m->ranks, setup->dist, m->table.blocks);
        m->owned = (Range *)mem_alloc(sizeof(Range) * (size_t)m->table.blocks);
        m->moment_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)m->table.blocks);
        size_t moments = 0;
        for (int block = 0; block < m->table.blocks; block++) {
            m->owned[block] = owned_range(m, block, setup->dist->rank);
            m->moment_start[block] = moments;
            moments += m->owned[block].count;
        }
        m->moment1 = (real *)cpu_alloc(sizeof(real) * moments);
        m->moment2 = (real *)cpu_alloc(sizeof(real) * moments);
        int64_t wide = int64_max(config_fc(c), config_qkv(c));
        int64_t heads = (int64_t)(2 * c->heads + c->kv_heads) * c->head_size;
        int64_t narrow = int64_max(int64_max(c->hidden, c->channels), heads);
        m->dx = (real *)cpu_alloc(sizeof(real) * N * (size_t)c->channels);
        m->dwide = (real *)cpu_alloc(sizeof(real) * N * (size_t)wide);
        m->dnarrow = (real *)cpu_alloc(sizeof(real) * N * (size_t)narrow);
    }
    return m;
}

static void model_destroy(Model *m) {
    if (!m) return;
    ranks_close(&m->ranks);
    free(m->owned);
    free(m->moment_start);
    void *all[] = {m->weights, m->gradients, m->moment1, m->moment2, m->activations, m->rope,
                   m->logits,  m->dx,        m->dwide,   m->dnarrow, m->cache};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    param_table_free(&m->table);
    cpu_close(&m->cpu);
    free(m);
}

static const char *model_device(Model *m) { return cpu_description(m->device, &m->cpu); }

static double model_peak_flops(Model *m) {
    if (m->peak_flops == 0) m->peak_flops = cpu_peak_flops(&m->cpu);
    return m->peak_flops;
}

static DeviceReadings model_readings(Model *m) { return (void)m, no_readings(); }

// ---------------------------------------------------------------- numbers in and out

static void model_set(Model *m, int array, const Param *p, const float *values) {
    bool moments = array >= MODEL_STATE;
    Range part = {p->offset, p->count};
    if (moments) part = overlap(p, m->owned[p->block]);
    if (part.count == 0) return;
    real *to = moments ? moment_at(m, array, p->block, part.first)
                       : (array == MODEL_WEIGHT ? m->weights : m->gradients) + part.first;
    for (size_t i = 0; i < part.count; i++) to[i] = (real)values[part.first - p->offset + i];
}

static void model_get(Model *m, int array, const Param *p, float *values, int to) {
    if (array == MODEL_WEIGHT || array == MODEL_GRADIENT) {
        if (array == MODEL_WEIGHT && to != m->setup.dist->rank) return;
        const real *from = (array == MODEL_WEIGHT ? m->weights : m->gradients) + p->offset;
        for (size_t i = 0; i < p->count; i++) values[i] = (float)from[i];
        return;
    }
    int size = m->setup.zero ? m->setup.dist->size : 1; // else every rank has everything
    Range *parts = (Range *)mem_alloc(sizeof(Range) * (size_t)size);
    for (int rank = 0; rank < size; rank++) {
        parts[rank] = overlap(p, owned_range(m, p->block, rank));
        if ((rank == m->setup.dist->rank || !m->setup.zero) && parts[rank].count) {
            const real *from = moment_at(m, array, p->block, parts[rank].first);
            for (size_t i = 0; i < parts[rank].count; i++) values[parts[rank].first - p->offset + i] = (float)from[i];
        }
        parts[rank].first -= parts[rank].count ? p->offset : parts[rank].first;
    }
    watchdog_enter(m->setup.dist->watchdog, "moments for a checkpoint (ranks_collect)");
    if (m->setup.zero) ranks_collect(&m->ranks, values, parts, to);
    watchdog_leave(m->setup.dist->watchdog);
    free(parts);
}

static bool model_keeps(const Model *m, int array, const Param *p) {
    bool moments = array >= MODEL_STATE;
    return !moments || overlap(p, m->owned[p->block]).count > 0;
}

static bool model_get_activation(Model *m, int kind, int layer, float *values) {
    const Act *a = &m->acts.items[kind];
    // A slot that the layers share holds the last one after a forward pass and the first after a backward pass.
    if (!a->present || (a->place == PLACE_LAYER && a->slots == 1 && m->config.layers > 1)) return false;
    const real *from = (const real *)(m->activations + act_offset(&m->acts, kind, layer));
    size_t n = (size_t)m->B * (size_t)m->T * (size_t)a->width;
    for (size_t i = 0; i < n; i++) values[i] = (float)from[i];
    return true;
}

// ---------------------------------------------------------------- main

#include "llmc/run/verbs.h"

#ifndef LLMC_NO_MAIN
int main(int argc, char **argv) {
    const char *missing = cpu_missing_instructions();
    if (missing)
        fail("this binary was built for CPUs with %s, which this one lacks; build it with make ARCH=x86-64-v3, or "
             "ARCH=native on this machine",
             missing);
    return program_main(argc, argv);
}
#endif
