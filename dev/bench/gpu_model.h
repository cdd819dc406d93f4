/*
gpu_model.h: what a training step asks of a GPU, kernel by kernel: calls, FLOPs and bytes; and how long it
should take (a roofline model).

step_work()     every kernel of a step as a row: what a call computes and the least that it must move
work_ms()       the time of a call: the larger of FLOPs / rate and bytes / bandwidth
limits_of()     rates of a device by its data sheet, or by ceilings that were measured on it

The rates are what can be reached, not the peak:
    products    81% of the dense peak: 798 of 989 TFLOP/s, measured for a bf16 product of 8192 cubed on an H100
                80GB HBM3 (cuBLAS 13.0, through PyTorch 2.11)
    memory      90% of the data sheet: 3.0 of 3.35 TB/s, read and written, measured for a copy on that machine
    attention   60% of the peak: what FlashAttention-2, which feeds the tensor cores as attention.h does (mma), reaches
                on an A100 (50 to 73%, Dao 2023); 35% where only wgmma reaches the peak (the same on an H100, Shah et
                al. 2024), which are the devices above 700 TFLOP/s
bench_gpu measures the first two on the device it finds and takes those instead. What is computed in registers beside
(softmax, GELU), launches, and products too small to fill the device are left out: a measurement is seldom faster
than its row, and one far slower says where to look.
*/
#ifndef LLMC_GPU_MODEL_H
#define LLMC_GPU_MODEL_H

#include "../../llmc/model.h"

#define PRODUCT_SHARE 0.81
#define MEMORY_SHARE 0.90
#define ATTENTION_SHARE 0.60
#define ATTENTION_SHARE_WGMMA 0.35
#define WGMMA_PEAK 700e12

typedef enum { WORK_PRODUCT, WORK_ATTENTION, WORK_MEMORY, WORK_CLASSES } WorkClass;
static inline const char *work_class(int kind) {
    static const char *const names[] = {"matrix products", "attention", "memory-bound"};
    return names[kind];
}

// A kernel in a step. flops, bytes: of a call. ms: of a call, measured; below 0: not yet.
typedef struct {
    const char *name;
    int kind;
    double calls, flops, bytes, ms;
} Work;

enum { WORK_MOST = 32 };
typedef struct {
    Work items[WORK_MOST];
    int count;
} StepWork;

typedef struct {
    double product, attention, memory; // FLOP/s, FLOP/s, bytes/s
} Limits;

// peak: dense FLOP/s, 0 where it is not known; product, memory: ceilings that were measured, 0 where none were.
static inline Limits limits_of(double peak, double bandwidth, double product, double memory) {
    Limits l;
    l.product = product > 0 ? product : PRODUCT_SHARE * peak;
    l.memory = memory > 0 ? memory : MEMORY_SHARE * bandwidth;
    l.attention =
        (peak > WGMMA_PEAK ? ATTENTION_SHARE_WGMMA : ATTENTION_SHARE) * (peak > 0 ? peak : l.product / PRODUCT_SHARE);
    return l;
}

static inline double work_ms(const Work *w, const Limits *l) {
    double compute = w->flops / (w->kind == WORK_ATTENTION ? l->attention : l->product), move = w->bytes / l->memory;
    return 1e3 * (compute > move ? compute : move);
}

static inline void work_add(StepWork *s, const char *name, int kind, double calls, double flops, double bytes) {
    Work w;
    w.name = name, w.kind = kind, w.calls = calls, w.flops = flops, w.bytes = bytes, w.ms = -1;
    if (calls <= 0) return;
    if (s->count == WORK_MOST) fail("gpu_model.h: more than %d kernels", WORK_MOST);
    s->items[s->count++] = w;
}

static inline Work *work_find(StepWork *s, const char *name) {
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->items[i].name, name) == 0) return &s->items[i];
    return NULL;
}

// A step's shape. rows: of a chunk of logits; bytes: of a number; fuses: GELU is part of its products.
typedef struct {
    double calls, passes; // of a layer's kernels: layers x micro-batches; micro-batches
    int B, T, rows, recompute, bytes;
    bool fuses;
} StepShape;

// The products of a linear layer (in -> out): forward with what is added, and both gradients.
static inline void work_linear(StepWork *s, const StepShape *t, const char *const names[3], double in, double out,
                               double again, double more) {
    double n = (double)t->B * t->T, b = t->bytes, flops = 2 * n * in * out, all = b * (n * in + in * out + n * out);
    work_add(s, names[0], WORK_PRODUCT, t->calls + again, flops, all + b * n * more);
    // the weight's gradient is fp32, read and written
    work_add(s, names[1], WORK_PRODUCT, t->calls, flops, b * n * (in + out) + 8 * in * out);
    if (names[2]) work_add(s, names[2], WORK_PRODUCT, t->calls, flops, all);
}

static inline StepWork step_work(const Config *c, const StepShape *t, double elements, bool master) {
    static const char *const qkv[] = {"qkv product", "qkv: dweight, dbias", "qkv: dinput"},
                             *const proj[] = {"projection + residual", "projection: dweight, dbias",
                                              "projection: dinput"},
                             *const fc[] = {"fc product", "fc: dweight, dbias", "fc: dinput"},
                             *const gelu[] = {"fc product + GELU", "fc: dweight, dbias", "fc: dinput"},
                             *const fcproj[] = {"fcproj product + residual", "fcproj: dweight, dbias", NULL};
    StepWork s;
    memset(&s, 0, sizeof s);
    double n = (double)t->B * t->T, b = t->bytes, C = c->channels, F = c->hidden, V = c->vocab_size,
           NQ = (double)c->heads * c->head_size, NK = (double)c->kv_heads * c->head_size, L = t->calls,
           chunks = t->passes * (double)(((int64_t)n + t->rows - 1) / t->rows), rows = t->rows,
           cheap = t->recompute >= RECOMPUTE_CHEAP ? L : 0, block = t->recompute == RECOMPUTE_BLOCK ? L : 0;
    work_linear(&s, t, qkv, C, config_qkv(c), block, 0);
    work_linear(&s, t, proj, NQ, C, block, C);
    work_linear(&s, t, t->fuses ? gelu : fc, C, config_fc(c), block, t->fuses ? F : 0);
    work_linear(&s, t, fcproj, F, C, 0, C);
    work_add(&s, t->fuses ? "fcproj: dinput + dGELU" : "fcproj: dinput", WORK_PRODUCT, L, 2 * n * F * C,
             b * (n * C + F * C + n * F * (t->fuses ? 2 : 1)));
    double head = 2 * rows * C * V, logits = rows * V, both = b * (rows * C + C * V + logits);
    work_add(&s, "head product", WORK_PRODUCT, chunks, head, both);
    work_add(&s, "head: dweight", WORK_PRODUCT, chunks, head, b * (rows * C + logits) + 8 * C * V);
    work_add(&s, "head: dinput", WORK_PRODUCT, chunks, head, both);
    // Causal: half of the scores. 2 products forward, 5 backward.
    double pairs = (double)t->B * c->heads * t->T * t->T / 2 * c->head_size;
    work_add(&s, "attention", WORK_ATTENTION, L + block, 4 * pairs, b * n * 2 * (NQ + NK));
    work_add(&s, "attention: backward", WORK_ATTENTION, L, 10 * pairs, b * n * 4 * (NQ + NK));
    work_add(&s, "norm", WORK_MEMORY, 2 * L + 2 * cheap + t->passes, 0, 2 * b * n * C);
    work_add(&s, "norm: backward + residual", WORK_MEMORY, 2 * L + t->passes, 0, 4 * b * n * C);
    if (c->rope) {
        work_add(&s, "rotation (+ QK-norm)", WORK_MEMORY, L + cheap, 0, 2 * b * n * (NQ + NK));
        work_add(&s, "rotation: backward", WORK_MEMORY, L, 0, (c->qk_norm ? 3 : 2) * b * n * (NQ + NK));
    }
    // A fused GELU is a kernel of its own where it alone is computed again.
    double mlp = t->fuses ? cheap - block : L + cheap;
    work_add(&s, c->gated ? "gated MLP" : "MLP", WORK_MEMORY, mlp, 0, (c->gated ? 3 : 2) * b * n * F);
    work_add(&s, c->gated ? "gated MLP: backward" : "MLP: backward", WORK_MEMORY, t->fuses ? 0 : L, 0,
             (c->gated ? 5 : 3) * b * n * F);
    work_add(&s, "embedding", WORK_MEMORY, t->passes, 0, 2 * b * n * C);
    work_add(&s, "embedding: backward", WORK_MEMORY, t->passes, 0, b * n * C);
    work_add(&s, "softmax, loss, gradient", WORK_MEMORY, chunks, 0, 2 * b * logits);
    // Master weight and moments read and written, the gradient read twice and cleared, the weight written.
    work_add(&s, "gradient norm + AdamW", WORK_MEMORY, 1, 0, elements * (24 + 12 + (master ? b : 0)));
    return s;
}

static inline double step_ms(const StepWork *s, const Limits *l) {
    double ms = 0;
    for (int i = 0; i < s->count; i++) ms += s->items[i].calls * work_ms(&s->items[i], l);
    return ms;
}

#endif
