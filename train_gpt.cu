/*
train_gpt.cu: the same program as train_gpt_cpu.c for NVIDIA GPUs, in fused kernels.

This file holds the model: forward, backward, update, as lists of equations over the kernels of
llmc/cuda/. It defines the functions of train_gpt_cpu.c in the same order with the same numbered
steps; where one kernel or product does two steps, it stands under both numbers.

Parameters and activations are `real`: bf16, or float when built with -DFLOAT32. Always float:
statistics (means, rstd, lse, losses), gradients of parameters, which add up over micro-batches,
Adam's moments, and the master copy of the weights that the update works on.

The host runs ahead of the device: it waits only where a loss is read (model_update, model_loss) and
where values are copied out. Forward, backward and update are each captured as a CUDA graph at their
second use with the same shape, and replayed from then on; LLMC_GRAPHS=0 in the environment turns
that off (for debuggers).

B batch, T time, N = B T, C channels, L layers, NH query heads, NKV key/value heads, HS head size,
F MLP size, V vocabulary. Gradients carry a d in front.
*/
#include "llmc/cuda/cuda.h"

#include "llmc/cuda/attention.h"
#include "llmc/cuda/embedding.h"
#include "llmc/cuda/gemm.h"
#include "llmc/cuda/loss.h"
#include "llmc/cuda/mlp.h"
#include "llmc/cuda/norm.h"
#include "llmc/cuda/optimizer.h"
#include "llmc/cuda/peak.h"
#include "llmc/cuda/preflight.h"
#include "llmc/cuda/ranks.h"
#include "llmc/cuda/rope.h"
#include "llmc/engine.h"
#include "llmc/half.h"
#include "llmc/options.h"
#include <type_traits>

// Most bytes of logits that exist at a time. The head works through the batch in chunks of rows of
// this size: large enough for an efficient matrix product, small beside the activations. Tunable.
#define LOGITS_BYTES ((size_t)512 << 20)

// The tensors of one layer (and those outside the layers) as pointers, named as in model.h.
template <typename T> struct Tensors {
#define X(id, rows, cols, place, present, init, decay, gpt2, parts, llama) T *id;
    PARAMETERS(X)
#undef X
};
typedef Tensors<const real> Weights;
typedef Tensors<float> Gradients;

// Activations that are statistics are float in every build.
static constexpr bool is_statistic(int kind) {
    return kind == ACT_norm1_mean || kind == ACT_norm1_rstd || kind == ACT_qk_rstd || kind == ACT_attention_lse || kind == ACT_norm2_mean || kind == ACT_norm2_rstd ||
           kind == ACT_normf_mean || kind == ACT_normf_rstd || kind == ACT_losses;
}

typedef struct {
#define X(id, width, per_head, place, present, lifetime) std::conditional<is_statistic(ACT_##id), float, real>::type *id;
    ACTIVATIONS(X)
#undef X
} Activations;

// Work that is captured once and replayed while its key stays the same.
typedef struct {
    int B, T;
    double grad_scale;
    bool last;
} GraphKey;

typedef struct {
    GraphKey key;
    int runs; // with this key; 0: none
    cudaGraphExec_t exec;
} Graph;

struct Model {
    ModelSetup setup;
    Config config;
    Device gpu;
    Ranks ranks;
    char description[384];
    ParamTable table;
    ActTable acts;
    size_t act_bytes[ACT_KINDS]; // where slot 0 of each kind starts in `activations`

    real *weights;                          // (table.elements)
    float *master;                          // (table.elements); NULL in a float build and without updates
    float *gradients, *moment1, *moment2;   // (table.elements) each, only for training
    unsigned char *decay;                   // (table.elements / 64): does weight decay apply?
    char *activations;                      // one after the other, see act_bytes
    float *rope;                            // (T, HS/2, 2) cosines and sines; NULL with learned positions
    real *logits;                           // (logits_rows, V): one chunk
    int logits_rows;

    // Backward: gradients of activations. dx is (N, C), the gradient of the residual stream, which
    // every block turns from the gradient of its output into that of its input.
    real *dx;
    real *dwide;   // (N, max(fc, QKV)): d of fc, then of qkv
    real *dnarrow; // (N, max(F, C, (2 NH + NKV) HS)): d of mlp, of the norms' outputs, of attention and qk
    float *delta;  // (B, NH, T): attention's backward

    // A batch: tokens (N), targets (N), token_groups (embedding.h). The host fills one of two pinned
    // copies while the other may still be on its way.
    int32_t *batch, *staging[2];
    cudaEvent_t staged[2];
    int turn;
    int32_t *counts; // (V) host, for token_groups

    double *loss; // sum since it was last read, on the device
    AdamRule *rule, *rule_host;
    AdamResult *result, *result_host;

    real *cache;                 // (L, 2, seq_len, NKV HS): keys and values of model_decode; NULL until it is called
    real *logits_real;           // (V) host
    float *logits_host;          // (V) host
    int B, T;                    // of the last forward pass
    bool use_graphs;
    Graph forward_graph, eval_graph, backward_graph[2], update_graph; // [2]: of a last micro-batch or not
};

static const char *engine_name(void) { return "train_gpt"; }

// ---------------------------------------------------------------- memory

static bool engine_preflight(const Dist *dist, Error *err) { return device_preflight(dist, err); }

static void *engine_host_alloc(size_t bytes) {
    void *p = NULL; // pinned: the device writes into it directly
    if (cudaMallocHost(&p, bytes) != cudaSuccess) return NULL;
    memset(p, 0, bytes);
    return p;
}
static void engine_host_free(void *memory) { cudaFreeHost(memory); }

template <typename T> static Tensors<T> tensors_of(const Model *m, T *base, int layer) {
    Tensors<T> w;
#define X(id, rows, cols, place, present, init, decay, gpt2, parts, llama)                                             \
    {                                                                                                                  \
        const Param *p = param_find(&m->table, PARAM_##id, place == IN_LAYER ? layer : -1);                            \
        w.id = p ? base + p->offset : NULL;                                                                            \
    }
    PARAMETERS(X)
#undef X
    return w;
}
static Weights weights_of(const Model *m, int layer) { return tensors_of<const real>(m, m->weights, layer); }
static Gradients gradients_of(const Model *m, int layer) { return tensors_of<float>(m, m->gradients, layer); }

static size_t act_size(int kind) { return is_statistic(kind) ? sizeof(float) : sizeof(real); }

static char *act_at(const Model *m, int kind, int layer) {
    const Act *a = &m->acts.items[kind];
    return m->activations + m->act_bytes[kind] + (a->slots > 1 ? (size_t)layer : 0) * a->stride * act_size(kind);
}

static Activations activations_of(const Model *m, int layer) {
    Activations a;
#define X(id, width, per_head, place, present_, lifetime)                                                              \
    a.id = m->acts.items[ACT_##id].present ? (decltype(a.id))act_at(m, ACT_##id, place == IN_LAYER ? layer : 0) : NULL;
    ACTIVATIONS(X)
#undef X
    return a;
}

// Runs every shape of a step once, so that the fastest products are known before the first step.
static void model_warm_up(Model *m);

static Model *model_create(const ModelSetup *setup, Error *err) {
    if (!config_check(&setup->config, err)) return NULL;
    const int built_for = sizeof(real) == sizeof(float) ? PRECISION_FP32 : PRECISION_BF16;
    if (setup->precision != PRECISION_AUTO && setup->precision != built_for) {
        error_set(err, "this train_gpt was built for %s; leave --precision out, or use the other build (train_gpt: bf16, train_gpt_fp32: fp32)",
                  built_for == PRECISION_FP32 ? "fp32" : "bf16");
        return NULL;
    }
    Model *m = (Model *)mem_alloc(sizeof(Model));
    m->setup = *setup;
    m->config = setup->config;
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    if (!device_open(gpu, err)) {
        free(m);
        return NULL;
    }
    gemm_open(gpu);
    ranks_open(&m->ranks, setup->dist);
    size_t N = (size_t)setup->batch_size * (size_t)setup->seq_len;
    m->table = param_table(c);
    // Without a backward pass one slot for each activation serves all layers.
    m->acts = act_table(c, setup->batch_size, setup->seq_len, setup->gradients ? setup->recompute : RECOMPUTE_BLOCK);
    size_t act_bytes = 0, n = m->table.elements;
    for (int k = 0; k < ACT_KINDS; k++) {
        const Act *a = &m->acts.items[k];
        m->act_bytes[k] = act_bytes;
        if (a->present) act_bytes += a->stride * (size_t)a->slots * act_size(k);
    }
    m->weights = (real *)device_alloc(gpu, sizeof(real) * n, "the weights");
    m->activations = (char *)device_alloc(gpu, act_bytes, "the activations");
    if (c->rope) {
        size_t bytes = sizeof(float) * (size_t)setup->seq_len * (size_t)c->head_size;
        float *table = (float *)mem_alloc(bytes);
        rope_table(table, setup->seq_len, c->head_size, c->rope_theta);
        m->rope = (float *)device_alloc(gpu, bytes, "the rotary table");
        CUDA_CHECK(cudaMemcpyAsync(m->rope, table, bytes, cudaMemcpyHostToDevice, gpu->stream));
        device_synchronize(gpu);
        free(table);
    }
    size_t most = LOGITS_BYTES / sizeof(real) / (size_t)c->vocab_size;
    if (most < 128) most = 128;
    size_t chunks = (N + most - 1) / most, rows = ((N + chunks - 1) / chunks + 127) / 128 * 128;
    m->logits_rows = (int)(rows < N ? rows : N);
    m->logits = (real *)device_alloc(gpu, sizeof(real) * (size_t)m->logits_rows * (size_t)c->vocab_size, "the logits");
    size_t batch = 2 * N + token_groups_size(N);
    m->batch = (int32_t *)device_alloc(gpu, sizeof(int32_t) * batch, "the batch");
    for (int i = 0; i < 2; i++) {
        CUDA_CHECK(cudaMallocHost((void **)&m->staging[i], sizeof(int32_t) * batch));
        CUDA_CHECK(cudaEventCreateWithFlags(&m->staged[i], cudaEventDisableTiming));
    }
    m->counts = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)c->vocab_size);
    m->loss = (double *)device_alloc(gpu, sizeof(double), "the loss");
    m->logits_real = (real *)mem_alloc(sizeof(real) * (size_t)c->vocab_size);
    m->logits_host = (float *)mem_alloc(sizeof(float) * (size_t)c->vocab_size);
    m->rule = (AdamRule *)device_alloc(gpu, sizeof(AdamRule), "the update rule");
    m->result = (AdamResult *)device_alloc(gpu, sizeof(AdamResult), "the update's result");
    CUDA_CHECK(cudaMallocHost((void **)&m->rule_host, sizeof(AdamRule)));
    CUDA_CHECK(cudaMallocHost((void **)&m->result_host, sizeof(AdamResult)));
    if (setup->gradients) {
        if (sizeof(real) != sizeof(float) && !setup->no_master) m->master = (float *)device_alloc(gpu, sizeof(float) * n, "the master weights");
        m->gradients = (float *)device_alloc(gpu, sizeof(float) * n, "the gradients");
        m->moment1 = (float *)device_alloc(gpu, sizeof(float) * n, "the first moments");
        m->moment2 = (float *)device_alloc(gpu, sizeof(float) * n, "the second moments");
        int64_t wide = int64_max(config_fc(c), config_qkv(c));
        int64_t heads = (int64_t)(2 * c->heads + c->kv_heads) * c->head_size;
        int64_t narrow = int64_max(int64_max(c->hidden, c->channels), heads);
        m->dx = (real *)device_alloc(gpu, sizeof(real) * N * (size_t)c->channels, "the backward pass");
        m->dwide = (real *)device_alloc(gpu, sizeof(real) * N * (size_t)wide, "the backward pass");
        m->dnarrow = (real *)device_alloc(gpu, sizeof(real) * N * (size_t)narrow, "the backward pass");
        m->delta = (float *)device_alloc(gpu, sizeof(float) * N * (size_t)c->heads, "the backward pass");
        m->decay = (unsigned char *)device_alloc(gpu, n / PARAM_ALIGN, "the table of weight decay");
        for (int i = 0; i < m->table.count; i++) {
            const Param *p = &m->table.items[i];
            if (p->decay) CUDA_CHECK(cudaMemsetAsync(m->decay + p->offset / PARAM_ALIGN, 1, (p->count + PARAM_ALIGN - 1) / PARAM_ALIGN, gpu->stream));
        }
        model_warm_up(m);
    }
    m->use_graphs = environment_int("LLMC_GRAPHS", 1) != 0;
    device_synchronize(gpu);
    return m;
}

static void model_destroy(Model *m) {
    if (!m) return;
    device_synchronize(&m->gpu);
    Graph *graphs[] = {&m->forward_graph, &m->eval_graph, &m->backward_graph[0], &m->backward_graph[1], &m->update_graph};
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++)
        if (graphs[i]->exec) cudaGraphExecDestroy(graphs[i]->exec);
    void *all[] = {m->weights, m->master, m->gradients, m->moment1, m->moment2, m->decay, m->activations, m->rope, m->logits, m->dx,
                   m->dwide,   m->dnarrow, m->delta,    m->batch,   m->loss,    m->rule,  m->result,      m->cache};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) cudaFree(all[i]);
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
    ranks_close(&m->ranks);
    gemm_close(&m->gpu);
    device_close(&m->gpu);
    free(m);
}

static const char *model_device(Model *m) {
    int runtime = 0, driver = 0;
    CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
    CUDA_CHECK(cudaDriverGetVersion(&driver));
    snprintf(m->description, sizeof m->description, "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB, " REAL_NAME ", CUDA %d.%d, driver for CUDA %d.%d", m->gpu.name,
             m->gpu.major, m->gpu.minor, m->gpu.multiprocessors, (double)m->gpu.memory / (1 << 30), runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
    return m->description;
}

static double model_peak_flops(Model *m) { return device_peak_flops(&m->gpu); }

static float *model_array(const Model *m, int array) {
    return array == MODEL_WEIGHT ? m->master : array == MODEL_GRADIENT ? m->gradients : array == MODEL_MOMENT1 ? m->moment1 : m->moment2;
}

// n numbers between the device's `real` and the host's float, through host memory
static void real_to_host(Model *m, float *out, const real *in, size_t n) {
    real *values = (real *)mem_alloc(sizeof(real) * n);
    CUDA_CHECK(cudaMemcpyAsync(values, in, sizeof(real) * n, cudaMemcpyDeviceToHost, m->gpu.stream));
    device_synchronize(&m->gpu);
    for (size_t i = 0; i < n; i++) out[i] = to_float(values[i]);
    free(values);
}

static void model_set(Model *m, int array, const Param *p, const float *values) {
    float *to = model_array(m, array);
    if (to) CUDA_CHECK(cudaMemcpyAsync(to + p->offset, values, sizeof(float) * p->count, cudaMemcpyHostToDevice, m->gpu.stream));
    if (array == MODEL_WEIGHT) {
        real *rounded = (real *)mem_alloc(sizeof(real) * p->count);
        for (size_t i = 0; i < p->count; i++) from_float(&rounded[i], values[i]);
        CUDA_CHECK(cudaMemcpyAsync(m->weights + p->offset, rounded, sizeof(real) * p->count, cudaMemcpyHostToDevice, m->gpu.stream));
        device_synchronize(&m->gpu);
        free(rounded);
    }
    device_synchronize(&m->gpu);
}

static void model_get(Model *m, int array, const Param *p, float *values) {
    const float *from = model_array(m, array);
    if (!from) {
        real_to_host(m, values, m->weights + p->offset, p->count);
        return;
    }
    CUDA_CHECK(cudaMemcpyAsync(values, from + p->offset, sizeof(float) * p->count, cudaMemcpyDeviceToHost, m->gpu.stream));
    device_synchronize(&m->gpu);
}

static bool model_get_activation(Model *m, int kind, int layer, float *values) {
    const Act *a = &m->acts.items[kind];
    // A slot that layers share holds, after the backward pass, the first layer's; before it, the last layer's.
    if (!a->present || (a->place == IN_LAYER && a->slots == 1 && m->config.layers > 1)) return false;
    size_t n = (size_t)m->B * (size_t)m->T * (size_t)a->width;
    if (!is_statistic(kind)) {
        real_to_host(m, values, (const real *)act_at(m, kind, layer), n);
        return true;
    }
    CUDA_CHECK(cudaMemcpyAsync(values, act_at(m, kind, layer), sizeof(float) * n, cudaMemcpyDeviceToHost, m->gpu.stream));
    device_synchronize(&m->gpu);
    return true;
}

// ---------------------------------------------------------------- graphs

// Does `work` (a function that only puts work on the stream): at first directly, which also settles how
// its products are made, then as a captured graph for as long as the key stays the same.
template <typename Work> static void replay(Model *m, Graph *g, GraphKey key, Work work) {
    cudaStream_t stream = m->gpu.stream;
    bool same = g->runs && g->key.B == key.B && g->key.T == key.T && g->key.grad_scale == key.grad_scale && g->key.last == key.last;
    if (!same) {
        if (g->exec) CUDA_CHECK(cudaGraphExecDestroy(g->exec));
        g->exec = NULL;
        g->key = key;
        g->runs = 0;
    }
    g->runs++;
    if (!m->use_graphs || g->runs == 1) {
        work();
        return;
    }
    if (!g->exec) {
        cudaGraph_t graph;
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        work();
        CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
        CUDA_CHECK(cudaGraphInstantiate(&g->exec, graph, 0));
        CUDA_CHECK(cudaGraphDestroy(graph));
    }
    CUDA_CHECK(cudaGraphLaunch(g->exec, stream));
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
typedef enum { ALL, AGAIN_CHEAP, AGAIN_ALL } Extent;

// a.residual2 = block(x), x: (N, C). With a cache (model_decode) B is 1, the tokens stand at positions
// first .. first + T - 1, and attention reaches back over all positions before.
static void block_forward(Model *m, int layer, const real *x, int B, int T, Extent extent, real *cache, int first) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    Weights w = weights_of(m, layer);
    Activations a = activations_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NH = c->heads, NKV = c->kv_heads, HS = c->head_size, QKV = config_qkv(c);
    bool products = extent != AGAIN_CHEAP;

    // 1. norm1 = norm(x)
    norm_forward<real>(a.norm1, a.norm1_mean, a.norm1_rstd, x, w.norm1_w, w.norm1_b, N, C, (float)c->norm_eps, gpu);
    // 2. qkv = norm1 Wqkv^T + b
    if (products) linear_forward<real>(a.qkv, a.norm1, w.qkv_w, w.qkv_b, NULL, N, C, QKV, gpu);
    // 3. qk = rotate(norm(q), norm(k))
    if (c->rope) qk_forward<real>(a.qk, a.qk_rstd, a.qkv, w.qnorm_w, w.knorm_w, m->rope, first, B, T, NH, NKV, HS, (float)c->norm_eps, gpu);
    // 4. attention = softmax(q k^T / sqrt(HS)) v
    if (products) {
        Heads h = heads_of(c, &a);
        if (cache) {
            size_t NK = (size_t)(NKV * HS), row = sizeof(real) * NK;
            real *keys = cache, *values = cache + (size_t)m->setup.seq_len * NK; // (seq_len, NKV HS) each
            CUDA_CHECK(cudaMemcpy2DAsync(keys + (size_t)first * NK, row, h.k, sizeof(real) * (size_t)h.ldk, row, (size_t)T, cudaMemcpyDeviceToDevice, gpu->stream));
            CUDA_CHECK(cudaMemcpy2DAsync(values + (size_t)first * NK, row, h.v, sizeof(real) * (size_t)h.ldv, row, (size_t)T, cudaMemcpyDeviceToDevice, gpu->stream));
            h.k = keys, h.v = values, h.ldk = h.ldv = (int)NK;
        }
        attention_forward<real>(a.attention, a.attention_lse, h.q, h.ldq, h.k, h.ldk, h.v, h.ldv, B, T, first + T, NH, NKV, HS, gpu->stream);
    }
    // 5. residual1 = x + attention Wproj^T + b
    if (products) linear_forward<real>(a.residual1, a.attention, w.proj_w, w.proj_b, x, N, NH * HS, C, gpu);
    // 6. norm2 = norm(residual1)
    norm_forward<real>(a.norm2, a.norm2_mean, a.norm2_rstd, a.residual1, w.norm2_w, w.norm2_b, N, C, (float)c->norm_eps, gpu);
    // 7. fc = norm2 Wfc^T + b
    // 8. mlp = gelu(fc), or silu(gate) up
    if (products && c->swiglu) linear_forward<real>(a.fc, a.norm2, w.fc_w, w.fc_b, NULL, N, C, config_fc(c), gpu);
    else if (products) linear_gelu_forward<real>(a.mlp, a.fc, a.norm2, w.fc_w, w.fc_b, N, C, F, gpu);
    if (c->swiglu) swiglu_forward<real>(a.mlp, a.fc, N, F, gpu);
    else if (!products) gelu_forward<real>(a.mlp, a.fc, (size_t)N * (size_t)F, gpu);
    // 9. residual2 = residual1 + mlp Wfcproj^T + b
    if (extent == ALL) linear_forward<real>(a.residual2, a.mlp, w.fcproj_w, w.fcproj_b, a.residual1, N, F, C, gpu);
}

// Turns m->dx from the gradient of the block's output into that of its input x, and adds the
// gradients of the block's weights. The steps of block_forward, backwards.
static void block_backward(Model *m, int layer, const real *x, int B, int T) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    Weights w = weights_of(m, layer);
    Gradients dw = gradients_of(m, layer);
    Activations a = activations_of(m, layer);
    int N = B * T, C = c->channels, F = c->hidden, NH = c->heads, NKV = c->kv_heads, HS = c->head_size, QKV = config_qkv(c);
    int NQ = NH * HS, NK = NKV * HS;
    real *dx = m->dx, *dwide = m->dwide, *dnarrow = m->dnarrow;

    // What was not kept is computed again.
    if (m->setup.recompute == RECOMPUTE_CHEAP) block_forward(m, layer, x, B, T, AGAIN_CHEAP, NULL, 0);
    if (m->setup.recompute == RECOMPUTE_BLOCK) block_forward(m, layer, x, B, T, AGAIN_ALL, NULL, 0);

    // 9. dmlp = dx Wfcproj
    // 8. dfc
    real *dmlp = dnarrow; // (N, F); with GELU it never exists
    real *dfc = dwide;    // (N, F) or (N, 2F)
    linear_backward_weight<real>(dw.fcproj_w, dw.fcproj_b, dx, a.mlp, N, F, C, gpu);
    if (c->swiglu) {
        linear_backward_input<real>(dmlp, dx, w.fcproj_w, N, F, C, gpu);
        swiglu_backward<real>(dfc, dmlp, a.fc, N, F, gpu);
    } else linear_gelu_backward_input<real>(dfc, dx, w.fcproj_w, a.fc, N, F, C, gpu);
    // 7. dnorm2 = dfc Wfc
    real *dnorm = dnarrow; // (N, C); dmlp is used up
    linear_backward_weight<real>(dw.fc_w, dw.fc_b, dfc, a.norm2, N, C, config_fc(c), gpu);
    linear_backward_input<real>(dnorm, dfc, w.fc_w, N, C, config_fc(c), gpu);
    // 6. dresidual1 = dx + norm2 backward
    norm_backward<real>(dx, dw.norm2_w, dw.norm2_b, dnorm, a.residual1, w.norm2_w, a.norm2_mean, a.norm2_rstd, N, C, gpu);
    // 5. dattention = dx Wproj
    real *dattention = dnarrow; // (N, NH HS)
    linear_backward_weight<real>(dw.proj_w, dw.proj_b, dx, a.attention, N, NQ, C, gpu);
    linear_backward_input<real>(dattention, dx, w.proj_w, N, NQ, C, gpu);
    // 4. dq, dk, dv
    real *dqkv = dwide;                             // (N, QKV); dfc is used up
    real *dqk = dnarrow + (size_t)N * (size_t)NQ;   // (N, (NH + NKV) HS), behind dattention
    real *dq = c->rope ? dqk : dqkv, *dk = dq + NQ; // as heads_of() splits them
    int lddq = c->rope ? NQ + NK : QKV;
    Heads h = heads_of(c, &a);
    attention_backward<real>(dq, lddq, dk, lddq, dqkv + NQ + NK, QKV, dattention, a.attention, a.attention_lse, m->delta, h.q, h.ldq, h.k, h.ldk, h.v, h.ldv, B, T, NH, NKV,
                             HS, gpu->stream);
    // 3. through rotation and norm
    if (c->rope)
        qk_backward<real>(dqkv, dw.qnorm_w, dw.knorm_w, dqk, a.qkv, a.qk_rstd, w.qnorm_w, w.knorm_w, m->rope, B, T, NH, NKV, HS, gpu);
    // 2. dnorm1 = dqkv Wqkv
    linear_backward_weight<real>(dw.qkv_w, dw.qkv_b, dqkv, a.norm1, N, C, QKV, gpu);
    linear_backward_input<real>(dnorm, dqkv, w.qkv_w, N, C, QKV, gpu);
    // 1. dx = dx + norm1 backward
    norm_backward<real>(dx, dw.norm1_w, dw.norm1_b, dnorm, x, w.norm1_w, a.norm1_mean, a.norm1_rstd, N, C, gpu);
}

// ---------------------------------------------------------------- the whole model

// The input of a layer: the output of the one before, or the embedding.
static real *layer_input(const Model *m, int layer) {
    Activations a = activations_of(m, layer > 0 ? layer - 1 : 0);
    return layer > 0 ? a.residual2 : a.embedding;
}

// Sends a batch to the device; targets may be NULL, groups are sent where gradients will be wanted.
static void model_upload(Model *m, const int32_t *inputs, const int32_t *targets, size_t N, bool groups) {
    size_t count = 2 * N + (groups ? token_groups_size(N) : 0);
    int32_t *to = m->staging[m->turn];
    CUDA_CHECK(cudaEventSynchronize(m->staged[m->turn])); // of the upload before the last one: long done
    memcpy(to, inputs, sizeof(int32_t) * N);
    if (targets) memcpy(to + N, targets, sizeof(int32_t) * N);
    else memset(to + N, 0, sizeof(int32_t) * N);
    if (groups) token_groups(to + 2 * N, inputs, N, m->counts);
    CUDA_CHECK(cudaMemcpyAsync(m->batch, to, sizeof(int32_t) * count, cudaMemcpyHostToDevice, m->gpu.stream));
    CUDA_CHECK(cudaEventRecord(m->staged[m->turn], m->gpu.stream));
    m->turn ^= 1;
}

static void forward_pass(Model *m, int B, int T, double grad_scale, float *logits_out) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int N = B * T, C = c->channels, V = c->vocab_size;
    Weights w = weights_of(m, 0);
    Activations a = activations_of(m, 0);
    const int32_t *inputs = m->batch, *targets = m->batch + N;

    // 1. token and position embedding
    embedding_forward<real>(a.embedding, inputs, w.wte, w.wpe, 0, B, T, C, gpu);
    // 2. the blocks
    for (int l = 0; l < c->layers; l++) block_forward(m, l, layer_input(m, l), B, T, ALL, NULL, 0);
    // 3. the last norm
    const real *x = layer_input(m, c->layers);
    norm_forward<real>(a.normf, a.normf_mean, a.normf_rstd, x, w.normf_w, w.normf_b, N, C, (float)c->norm_eps, gpu);
    // 4. head and loss, a chunk of rows at a time; with their backward, since the logits go away
    const real *head = c->tied ? w.wte : w.head_w;
    float *dhead = NULL;
    real *dnormf = m->dnarrow; // (N, C)
    if (grad_scale != 0) {
        Gradients dw = gradients_of(m, 0);
        dhead = c->tied ? dw.wte : dw.head_w;
    }
    for (int row = 0; row < N; row += m->logits_rows) {
        int rows = N - row < m->logits_rows ? N - row : m->logits_rows;
        const real *x_chunk = a.normf + (size_t)row * (size_t)C;
        linear_forward<real>(m->logits, x_chunk, head, NULL, NULL, rows, C, V, gpu);
        if (logits_out) real_to_host(m, logits_out + (size_t)row * (size_t)V, m->logits, (size_t)rows * (size_t)V);
        cross_entropy<real>(a.losses + row, m->logits, targets + row, (float)grad_scale, rows, V, gpu);
        if (grad_scale == 0) continue;
        linear_backward_weight<real>(dhead, NULL, m->logits, x_chunk, rows, C, V, gpu);
        linear_backward_input<real>(dnormf + (size_t)row * (size_t)C, m->logits, head, rows, C, V, gpu);
    }
    sum_losses(m->loss, a.losses, N, gpu);
}

static void model_forward(Model *m, const int32_t *inputs, const int32_t *targets, int B, int T, double grad_scale, float *logits_out) {
    m->B = B, m->T = T;
    model_upload(m, inputs, targets, (size_t)B * (size_t)T, grad_scale != 0);
    if (logits_out) { // copies to the host, which no graph can
        forward_pass(m, B, T, grad_scale, logits_out);
        return;
    }
    GraphKey key = {B, T, grad_scale, false};
    replay(m, grad_scale != 0 ? &m->forward_graph : &m->eval_graph, key, [=]() { forward_pass(m, B, T, grad_scale, NULL); });
}

// Sums a block's gradients over the ranks; called as soon as no pass will add to them.
static void reduce_block(Model *m, int block) {
    size_t from = m->table.block_start[block], n = m->table.block_start[block + 1] - from;
    ranks_sum_gradients(&m->ranks, m->gradients + from, n, m->gpu.stream);
}

static void backward_pass(Model *m, int B, int T, bool last) {
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int N = B * T, C = c->channels;
    Weights w = weights_of(m, 0);
    Gradients dw = gradients_of(m, 0);
    Activations a = activations_of(m, 0);
    real *dnormf = m->dnarrow;

    // 3. the last norm (4, the head, went backward in model_forward)
    CUDA_CHECK(cudaMemsetAsync(m->dx, 0, sizeof(real) * (size_t)N * (size_t)C, gpu->stream));
    norm_backward<real>(m->dx, dw.normf_w, dw.normf_b, dnormf, layer_input(m, c->layers), w.normf_w, a.normf_mean, a.normf_rstd, N, C, gpu);
    if (last) reduce_block(m, m->table.blocks - 1);
    // 2. the blocks
    for (int l = c->layers - 1; l >= 0; l--) {
        block_backward(m, l, layer_input(m, l), B, T);
        if (last) reduce_block(m, 1 + l);
    }
    // 1. embeddings
    embedding_backward<real>(dw.wte, dw.wpe, m->dx, token_groups_at(m->batch + 2 * N, (size_t)N), B, T, C, c->vocab_size, gpu);
    if (last) reduce_block(m, 0);
    if (last) ranks_join(&m->ranks, gpu->stream);
}

static void model_backward(Model *m, bool last) {
    int B = m->B, T = m->T;
    if (last && !ranks_capturable(&m->ranks)) {
        backward_pass(m, B, T, last);
        return;
    }
    GraphKey key = {B, T, 0, last};
    replay(m, &m->backward_graph[last], key, [=]() { backward_pass(m, B, T, last); });
}

static void model_zero_gradients(Model *m) { CUDA_CHECK(cudaMemsetAsync(m->gradients, 0, sizeof(float) * m->table.elements, m->gpu.stream)); }

static double model_loss(Model *m) {
    double loss = 0;
    CUDA_CHECK(cudaMemcpyAsync(&loss, m->loss, sizeof loss, cudaMemcpyDeviceToHost, m->gpu.stream));
    device_synchronize(&m->gpu);
    CUDA_CHECK(cudaMemsetAsync(m->loss, 0, sizeof loss, m->gpu.stream));
    return loss;
}

static UpdateResult model_update(Model *m, const UpdateRule *rule) {
    cudaStream_t stream = m->gpu.stream;
    *m->rule_host = adam_rule(rule->step, rule->lr, rule->beta1, rule->beta2, rule->eps, rule->weight_decay, rule->grad_clip);
    m->rule_host->max_loss = rule->max_loss, m->rule_host->max_norm = rule->max_norm;
    CUDA_CHECK(cudaMemcpyAsync(m->rule, m->rule_host, sizeof(AdamRule), cudaMemcpyHostToDevice, stream));
    // 1. loss and gradient norm over all ranks
    ranks_sum_loss(&m->ranks, m->loss, stream);
    // 2. nothing that is not finite, or above its bound, reaches the weights (the device decides)
    // 3. clip and update, all tensors at once; gradients back to zero
    GraphKey key = {0, 0, 0, false};
    replay(m, &m->update_graph, key, [=]() {
        adamw<real>(m->result, m->loss, m->weights, m->master, m->moment1, m->moment2, m->gradients, m->decay, m->table.elements, m->rule, &m->gpu);
    });
    CUDA_CHECK(cudaMemcpyAsync(m->result_host, m->result, sizeof(AdamResult), cudaMemcpyDeviceToHost, stream));
    watchdog_enter(m->setup.dist->watchdog, "the device, which waits for the other ranks' gradients (model_update)");
    device_synchronize(&m->gpu);
    watchdog_leave(m->setup.dist->watchdog);
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
    size_t layer_cache = (size_t)2 * (size_t)m->setup.seq_len * (size_t)(c->kv_heads * c->head_size);
    if (!m->cache) m->cache = (real *)device_alloc(gpu, sizeof(real) * layer_cache * (size_t)c->layers, "the keys and values of generation");
    Weights w = weights_of(m, 0);
    Activations a = activations_of(m, 0);
    const real *x = NULL;
    int T = 0;
    for (int done = 0; done < n; done += T) {
        T = n - done < most ? n - done : most;
        model_upload(m, tokens + done, NULL, (size_t)T, false);
        embedding_forward<real>(a.embedding, m->batch, w.wte, w.wpe, position + done, 1, T, C, gpu);
        for (int l = 0; l < c->layers; l++) block_forward(m, l, layer_input(m, l), 1, T, ALL, m->cache + layer_cache * (size_t)l, position + done);
        x = layer_input(m, c->layers) + (size_t)(T - 1) * (size_t)C;
    }
    norm_forward<real>(a.normf, a.normf_mean, a.normf_rstd, x, w.normf_w, w.normf_b, 1, C, (float)c->norm_eps, gpu);
    linear_forward<real>(m->logits, a.normf, c->tied ? w.wte : w.head_w, NULL, NULL, 1, C, V, gpu);
    CUDA_CHECK(cudaMemcpyAsync(m->logits_real, m->logits, sizeof(real) * (size_t)V, cudaMemcpyDeviceToHost, gpu->stream));
    device_synchronize(gpu);
    for (int i = 0; i < V; i++) m->logits_host[i] = to_float(m->logits_real[i]);
    return m->logits_host;
}

// Small pseudo-random numbers: products are timed on them, since zeros would run at a higher clock.
static __global__ void fill_kernel(real *x, size_t n) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) from_float(&x[i], (float)((uint32_t)i * 2654435761u >> 8) * (1.0f / 268435456.0f) - 0.03f);
}

static void model_warm_up(Model *m) {
    Device *gpu = &m->gpu;
    int B = m->setup.batch_size, T = m->setup.seq_len;
    size_t n = m->table.elements, N = (size_t)B * (size_t)T;
    int32_t *tokens = (int32_t *)mem_alloc(sizeof(int32_t) * N);
    for (size_t i = 0; i < N; i++) tokens[i] = (int32_t)(i % (size_t)m->config.vocab_size);
    fill_kernel<<<blocks_for(n, 256), 256, 0, gpu->stream>>>(m->weights, n);
    LAUNCH_CHECK();
    gemm_measure(gpu, true);
    model_forward(m, tokens, tokens, B, T, 1.0 / (double)N, NULL);
    model_backward(m, false);
    gemm_measure(gpu, false);
    CUDA_CHECK(cudaMemsetAsync(m->weights, 0, sizeof(real) * n, gpu->stream));
    CUDA_CHECK(cudaMemsetAsync(m->loss, 0, sizeof(double), gpu->stream));
    model_zero_gradients(m);
    free(tokens);
}

// ---------------------------------------------------------------- main

#include "llmc/verbs.h"

#ifndef LLMC_NO_MAIN
int main(int argc, char **argv) { return program_main(argc, argv); }
#endif
