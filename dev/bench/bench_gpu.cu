/*
bench_gpu.cu: speed of train_gpt on this GPU: whole steps, and each kernel beside what it should take.

    bench_gpu PRESET B T [MICRO_BATCHES [STEPS [none|cheap|block]]]
    bench_gpu ceilings
    bench_gpu predict DEVICE PRESET B T [MICRO_BATCHES [none|cheap|block]]

Prints Markdown. A step is MICRO_BATCHES passes forward and backward over random tokens, and an update, as trainer.h
does it, with graphs; the median of STEPS steps after 5 to warm up. MFU counts the FLOPs of model.h against the dense
peak of llmc/cuda/peak.h. Then every kernel alone, on the model's own buffers and shapes: its median time, what
gpu_model.h predicts of it from FLOPs, bytes and the device's two ceilings, its share of a step (time x calls), and
what it reaches of its limit: FLOPs against the same peak (attention: causal, 4 products forward and 10 backward of half
a score matrix, two FLOPs each), or the bytes that it must move against the memory's rate (peak.h; else clock x bus
width x 2). Then which epilogues were fused. Power, clocks and temperature are NVML's; the mean is over the timed steps.

The ceilings, which `ceilings` measures alone: a product of 8192 cubed on random numbers (zeros are faster: less
power) through linear_forward, and a copy of 1 GiB on the device, bytes read and written. predict: the
same tables for a device of llmc/cuda/peak.h, named by its name there, where none is.

On the emulator sizes and repetitions are small: there it only has to run.
*/
#define LLMC_NO_MAIN
#include "../../train_gpt.cu"

#include "gpu_model.h"

#ifdef CUDA_EMU
enum { BENCH_RUNS = 1, WARM_UP = 2, CEILING_SIDE = 32 };
#define CEILING_BYTES ((size_t)1 << 16)
#else
enum { BENCH_RUNS = 11, WARM_UP = 5, CEILING_SIDE = 8192 };
#define CEILING_BYTES ((size_t)1 << 30)
#endif

typedef struct {
    Model *m;
    Device *gpu;
    cudaEvent_t start, stop;
    double step_ms, peak_flops, peak_bytes;
    Limits limits;
    StepWork work;
} Bench;

// The words of the command line that name a step.
typedef struct {
    const char *preset, *recompute;
    int passes, steps;
    ModelSetup setup;
} BenchCase;

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

template <typename Call> static double bench_ms(Bench *b, Call work) {
    double ms[BENCH_RUNS];
    work();
    for (int i = 0; i < BENCH_RUNS; i++) {
        float t;
        CUDA_CHECK(cudaEventRecord(b->start, b->gpu->stream));
        work();
        CUDA_CHECK(cudaEventRecord(b->stop, b->gpu->stream));
        CUDA_CHECK(cudaEventSynchronize(b->stop));
        CUDA_CHECK(cudaEventElapsedTime(&t, b->start, b->stop));
        ms[i] = (double)t;
    }
    qsort(ms, BENCH_RUNS, sizeof ms[0], compare_doubles);
    return ms[BENCH_RUNS / 2];
}

// ---------------------------------------------------------------- ceilings

// x (n) = numbers between -1 and 1
__global__ void random_kernel(real *x, size_t n, uint32_t seed) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        uint32_t h = ((uint32_t)i + seed) * 2654435761u;
        h = (h ^ (h >> 15)) * 2246822519u;
        from_float(&x[i], (float)(h >> 8) / (float)(1 << 23) - 1.0f);
    }
}

// What this device reaches, now: b->limits. Its memory is free again afterwards.
static void bench_ceilings(Bench *b) {
    const int S = CEILING_SIDE;
    Device *gpu = b->gpu;
    size_t n = (size_t)S * S;
    real *x = (real *)device_alloc(gpu, 3 * sizeof(real) * n, "the product of the ceilings");
    char *from = (char *)device_alloc(gpu, 2 * CEILING_BYTES, "the copy of the ceilings");
    LinearShape shape = {S, S, S};
    int blocks = (int)(2 * n / 256 < 4096 ? 2 * n / 256 : 4096);
    random_kernel<<<blocks, 256, 0, gpu->stream>>>(x, 2 * n, 1);
    LAUNCH_CHECK();
    gemm_measure(gpu, true);
    linear_forward<real>(x + 2 * n, x, x + n, NULL, NULL, shape, gpu);
    gemm_measure(gpu, false);
    double product = bench_ms(b, [=]() { linear_forward<real>(x + 2 * n, x, x + n, NULL, NULL, shape, gpu); });
    double copy = bench_ms(b, [=]() {
        CUDA_CHECK(cudaMemcpyAsync(from + CEILING_BYTES, from, CEILING_BYTES, cudaMemcpyDeviceToDevice, gpu->stream));
    });
    CUDA_CHECK(cudaFree(x));
    CUDA_CHECK(cudaFree(from));
    b->limits = limits_of(b->peak_flops, 0, 2.0 * S * S * S / product * 1e3, 2.0 * CEILING_BYTES / copy * 1e3);
}

static void print_ceilings(const Bench *b) {
    const Limits *l = &b->limits;
    printf("| ceiling | measured | of the data sheet's |\n|---|---|---|\n");
    printf("| %s product, %d cubed | %.1f TFLOP/s | ", REAL_NAME, (int)CEILING_SIDE, l->product / 1e12);
    if (b->peak_flops > 0) printf("%.0f%% of %.0f |\n", 100 * l->product / b->peak_flops, b->peak_flops / 1e12);
    else printf("not known |\n");
    printf("| copy, read and written | %.1f GB/s | ", l->memory / 1e9);
    if (b->peak_bytes > 0) printf("%.0f%% of %.0f |\n", 100 * l->memory / b->peak_bytes, b->peak_bytes / 1e9);
    else printf("not known |\n");
    printf("| attention, assumed | %.1f TFLOP/s | |\n", l->attention / 1e12);
}

// Of the steps that were just timed.
static void print_readings(double mean_w, DeviceReadings r) {
    if (!(r.sm_mhz >= 0)) {
        printf("\nPower and clocks: NVML does not say.\n");
        return;
    }
    printf("\nPower and clocks while these steps ran: ");
    if (mean_w > 0) printf("%.0f W (mean), ", mean_w); // a step or two end before the meter moves
    printf("%.0f W (now), %.0f C, SM %.0f MHz, memory %.0f MHz.\n", r.power_w, r.temperature_c, r.sm_mhz, r.memory_mhz);
}

// ---------------------------------------------------------------- kernels

// A kernel of the list, measured, where it has such.
template <typename Call> static void row(Bench *b, const char *name, Call call) {
    Work *w = work_find(&b->work, name);
    if (!w) return;
    w->ms = bench_ms(b, call);
    bool flops = w->flops > 0;
    double ms = w->ms, rate = (flops ? w->flops : w->bytes) / ms * 1e3, limit = flops ? b->peak_flops : b->peak_bytes,
           predicted = work_ms(w, &b->limits);
    char share[32] = "-";
    if (limit > 0) snprintf(share, sizeof share, "%.0f%%", 100 * rate / limit);
    printf("| %s | %.0f | %.4f | %.4f | %.2f | %.1f%% | %.1f %s | %s |\n", name, w->calls, ms, predicted,
           ms / predicted, 100 * ms * w->calls / b->step_ms, rate / (flops ? 1e12 : 1e9), flops ? "TFLOP/s" : "GB/s",
           share);
}

// Every kernel of b->work, which fails if one has no call here.
static void bench_kernels(Bench *b) {
    Model *m = b->m;
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int B = m->setup.batch_size, T = m->setup.seq_len, N = B * T, C = c->channels, F = c->hidden, NH = c->heads,
        HS = c->head_size, QKV = config_qkv(c), FC = config_fc(c), V = c->vocab_size, W = m->logits_width,
        rows = m->logits_rows;
    bool gated = c->gated;
    Weights w = shards_weights(&m->shards, 0);
    Gradients dw = shards_gradients(&m->shards, 0);
    Activations a = activations_of(m, 0), d = backward_of(m, 0);
    const real *head = c->tied ? w.wte : w.head_w;
    float *dhead = c->tied ? dw.wte : dw.head_w;
    real *x = a.embedding, *dx = d.residual2;
    AttentionShape shape = attention_shape(c, 0, B, T, T, NULL);
    Norm<real> norm = {w.norm1_w, w.norm1_b, a.norm1_mean, a.norm1_rstd, N, C, (float)c->norm_eps};
    Rotation<real> rotation = rotation_of(m, 0, &w, &a, 0, shape);
    MlpShape mlp = {N, C, F, c->activation, c->gated != 0};
    LinearShape qkv = {N, C, QKV}, proj = {N, NH * HS, C}, fc = {N, C, FC}, fcproj = {N, F, C}, vocab = {rows, C, W};
    printf(
        "\n| kernel | calls a step | ms a call | predicted ms | measured / predicted | share of the step | rate | of "
        "its limit |\n|---|---|---|---|---|---|---|---|\n");
    row(b, "qkv product", [=]() { linear_forward<real>(a.qkv, a.norm1, w.qkv_w, w.qkv_b, NULL, qkv, gpu); });
    row(b, "projection + residual",
        [=]() { linear_forward<real>(a.residual1, a.attention, w.proj_w, w.proj_b, x, proj, gpu); });
    row(b, "fc product + GELU", [=]() { linear_mlp_forward<real>(a.mlp, a.fc, a.norm2, w.fc_w, w.fc_b, mlp, gpu); });
    row(b, "fc product", [=]() { linear_forward<real>(a.fc, a.norm2, w.fc_w, w.fc_b, NULL, fc, gpu); });
    row(b, "fcproj product + residual",
        [=]() { linear_forward<real>(a.residual2, a.mlp, w.fcproj_w, w.fcproj_b, a.residual1, fcproj, gpu); });
    row(b, "qkv: dweight, dbias",
        [=]() { linear_backward_weight<real>(dw.qkv_w, dw.qkv_b, d.qkv, a.norm1, qkv, gpu); });
    row(b, "qkv: dinput", [=]() { linear_backward_input<real>(d.norm1, d.qkv, w.qkv_w, qkv, gpu); });
    row(b, "projection: dweight, dbias",
        [=]() { linear_backward_weight<real>(dw.proj_w, dw.proj_b, dx, a.attention, proj, gpu); });
    row(b, "projection: dinput", [=]() { linear_backward_input<real>(d.attention, dx, w.proj_w, proj, gpu); });
    row(b, "fc: dweight, dbias", [=]() { linear_backward_weight<real>(dw.fc_w, dw.fc_b, d.fc, a.norm2, fc, gpu); });
    row(b, "fc: dinput", [=]() { linear_backward_input<real>(d.norm2, d.fc, w.fc_w, fc, gpu); });
    row(b, "fcproj: dweight, dbias",
        [=]() { linear_backward_weight<real>(dw.fcproj_w, dw.fcproj_b, dx, a.mlp, fcproj, gpu); });
    row(b, "fcproj: dinput + dGELU", [=]() { linear_mlp_backward<real>(d.fc, d.mlp, dx, w.fcproj_w, a.fc, mlp, gpu); });
    row(b, "fcproj: dinput", [=]() { linear_backward_input<real>(d.mlp, dx, w.fcproj_w, fcproj, gpu); });
    row(b, "head product", [=]() { linear_forward<real>(m->logits, a.normf, head, NULL, NULL, vocab, gpu); });
    row(b, "head: dweight", [=]() { linear_backward_weight<real>(dhead, NULL, m->logits, a.normf, vocab, gpu); });
    row(b, "head: dinput", [=]() { linear_backward_input<real>(d.normf, m->logits, head, vocab, gpu); });
    Heads<real> h = heads_of(c, &a), dh = heads_of(c, &d);
    row(b, "attention", [=]() { attention_forward<real>(a.attention, a.attention_lse, h, shape, gpu); });
    row(b, "attention: backward",
        [=]() { attention_backward<real>(dh, d.attention, a.attention, a.attention_lse, h, shape, gpu); });
    row(b, "norm", [=]() { norm_forward<real>(a.norm1, x, norm, gpu); });
    row(b, "norm: backward + residual",
        [=]() { norm_backward<real>(dx, dw.norm1_w, dw.norm1_b, d.norm1, x, norm, gpu); });
    row(b, "rotation (+ QK-norm)", [=]() { qk_forward<real>(a.qk, a.qkv, rotation, gpu); });
    row(b, "rotation: backward",
        [=]() { qk_backward<real>(d.qkv, dw.qnorm_w, dw.knorm_w, d.qk, a.qkv, rotation, gpu); });
    row(b, gated ? "gated MLP" : "MLP", [=]() { mlp_forward<real>(a.mlp, a.fc, N, F, c->activation, gated, gpu); });
    row(b, gated ? "gated MLP: backward" : "MLP: backward",
        [=]() { mlp_backward<real>(d.fc, d.mlp, a.fc, N, F, c->activation, gated, gpu); });
    row(b, "embedding", [=]() { embedding_forward<real>(x, {m->batch.inputs, NULL, 0, B, T}, w.wte, w.wpe, C, gpu); });
    row(b, "embedding: backward", [=]() { embedding_backward<real>(dw.wte, dw.wpe, dx, m->batch.groups, C, V, gpu); });
    row(b, "softmax, loss, gradient",
        [=]() { cross_entropy<real>(a.losses, m->logits, m->batch.targets, NULL, 1e-6f, rows, V, W, gpu); });
    row(b, "gradient norm + AdamW", [=]() { update_pass(m); });
    for (int i = 0; i < b->work.count; i++)
        if (b->work.items[i].ms < 0) fail("bench_gpu: nothing measures \"%s\"", b->work.items[i].name);
}

// Per class: what was predicted and what came out; the rest of the step is launches, copies and gaps.
static void print_classes(const Bench *b) {
    double predicted[WORK_CLASSES] = {0}, measured[WORK_CLASSES] = {0}, sums[2] = {0, 0};
    for (int i = 0; i < b->work.count; i++) {
        const Work *w = &b->work.items[i];
        predicted[w->kind] += w->calls * work_ms(w, &b->limits);
        if (b->m) measured[w->kind] += w->calls * w->ms;
    }
    printf("\n| class | predicted ms a step |%s\n|---|---|%s\n", b->m ? " measured ms | measured / predicted |" : "",
           b->m ? "---|---|" : "");
    for (int k = 0; k < WORK_CLASSES; k++) {
        printf("| %s | %.2f |", work_class(k), predicted[k]);
        if (b->m) printf(" %.2f | %.2f |", measured[k], measured[k] / predicted[k]);
        printf("\n");
        sums[0] += predicted[k], sums[1] += measured[k];
    }
    printf("| sum of the kernels | %.2f |", sums[0]);
    if (b->m) printf(" %.2f | %.2f |\n| whole step | | %.2f | |", sums[1], sums[1] / sums[0], b->step_ms);
    printf("\n");
}

// Which products do what follows them, and where a kernel does: settled when the plans were made (gemm.h).
static void print_epilogues(const Device *gpu) {
    printf("\n| epilogue | of the product (m x n x k, by columns) | way taken |\n|---|---|---|\n");
    for (size_t i = 0; i < gpu->plans->count; i++) {
        const GemmPlan *p = &gpu->plans->items[i];
        int e = p->key.epilogue;
        const char *name = e == (int)CUBLASLT_EPILOGUE_BIAS            ? "bias"
                           : e == (int)CUBLASLT_EPILOGUE_GELU_AUX_BIAS ? "bias, GELU"
                           : e == (int)CUBLASLT_EPILOGUE_GELU_AUX      ? "GELU"
                           : e == (int)CUBLASLT_EPILOGUE_DGELU         ? "backward of GELU"
                           : e == (int)CUBLASLT_EPILOGUE_BGRADB        ? "gradient of a bias"
                                                                       : "another";
        bool again = false; // the same with other alignment
        for (size_t j = 0; j < i && !again; j++) {
            const GemmPlan *q = &gpu->plans->items[j];
            again = q->key.epilogue == e && q->key.m == p->key.m && q->key.n == p->key.n && q->key.k == p->key.k &&
                    q->way == p->way;
        }
        if (e != (int)CUBLASLT_EPILOGUE_DEFAULT && !again)
            printf("| %s | %d x %d x %d | %s%s |\n", name, p->key.m, p->key.n, p->key.k,
                   p->way == GEMM_FUSED ? "" : "a kernel of its own: ", gemm_way_name(p->way));
    }
}

// ---------------------------------------------------------------- steps

static void bench_steps(Bench *b, const BenchCase *c) {
    Model *m = b->m;
    const ModelSetup *s = &m->setup;
    size_t N = (size_t)s->batch_size * (size_t)s->seq_len;
    int32_t *tokens = (int32_t *)mem_alloc(sizeof(int32_t) * (N + 1));
    RngStream stream = rng_stream(1, "bench");
    for (size_t i = 0; i <= N; i++) tokens[i] = (int32_t)(rng_draw(stream, i).x[0] % (uint32_t)s->config.vocab_size);
    ModelBatch batch = {tokens, tokens + 1, NULL, s->batch_size, s->seq_len};
    double *ms = (double *)mem_alloc(sizeof(double) * (size_t)c->steps), loss = 0, begin = 0;
    DeviceReadings before = no_readings();
    for (int step = -WARM_UP; step < c->steps; step++) {
        if (step == 0) before = model_readings(m), begin = clock_seconds();
        double start = clock_seconds();
        for (int p = 0; p < c->passes; p++) {
            model_forward(m, &batch, 1.0 / (double)N / c->passes, NULL);
            model_backward(m, p == c->passes - 1);
        }
        UpdateRule rule = update_rule(step + WARM_UP + 1, {1e-4, 0.9, 0.95, 1e-8, 0.1}, 1.0);
        UpdateResult r = model_update(m, &rule);
        if (!r.updated) fail("bench_gpu: the loss is not finite");
        loss = r.loss / (double)N / c->passes;
        if (step >= 0) ms[step] = 1e3 * (clock_seconds() - start);
    }
    DeviceReadings after = model_readings(m);
    double mean_w = (after.energy_kwh - before.energy_kwh) * 3.6e6 / (clock_seconds() - begin);
    qsort(ms, (size_t)c->steps, sizeof(double), compare_doubles);
    b->step_ms = ms[c->steps / 2];
    double rate = (double)N * c->passes / b->step_ms * 1e3, flops = config_flops_per_token(&m->config, s->seq_len),
           predicted = step_ms(&b->work, &b->limits);
    size_t free_now = 0, all = 0;
    CUDA_CHECK(cudaMemGetInfo(&free_now, &all));
    printf("| parameters | ms a step (median of %d; fastest, slowest) | predicted ms | measured / predicted | tokens/s "
           "| "
           "TFLOP/s | MFU | predicted MFU | device memory in use, GiB | loss "
           "|\n|---|---|---|---|---|---|---|---|---|---|\n",
           c->steps);
    printf("| %.1fM | %.2f (%.2f, %.2f) | %.2f | %.2f | %.0f | %.1f |", (double)m->shards.table.parameters / 1e6,
           b->step_ms, ms[0], ms[c->steps - 1], predicted, b->step_ms / predicted, rate, rate * flops / 1e12);
    if (b->peak_flops > 0)
        printf(" %.1f%% | %.1f%% |", 100 * rate * flops / b->peak_flops,
               100 * rate * flops / b->peak_flops * b->step_ms / predicted);
    else printf(" - | - |");
    printf(" %.2f | %.4f |\n", (double)(all - free_now) / (1 << 30), loss);
    print_readings(mean_w, after);
    free(tokens);
    free(ms);
}

static StepWork work_of(const BenchCase *c, int rows, double elements) {
    const ModelSetup *s = &c->setup;
    MlpShape mlp = {s->batch_size * s->seq_len, s->config.channels, s->config.hidden, s->config.activation,
                    s->config.gated != 0};
    StepShape t = {(double)s->config.layers * c->passes,
                   (double)c->passes,
                   s->batch_size,
                   s->seq_len,
                   rows,
                   s->recompute,
                   (int)sizeof(real),
                   mlp_fuses<real>(mlp)};
    return step_work(&s->config, &t, elements, sizeof(real) < sizeof(float));
}

static void print_title(const BenchCase *c, const char *device) {
    printf("### %s, B=%d T=%d, %d micro-batch%s, recompute %s\n\n%s. %s.\n\n", c->preset, c->setup.batch_size,
           c->setup.seq_len, c->passes, c->passes > 1 ? "es" : "", c->recompute, device,
           "FLOPs a token: " FLOPS_FORMULA);
}

// The tables of a step without a device.
static void predict(const BenchCase *c, const char *device) {
    const DevicePeak *d = device_peak(device);
    if (!d) fail("bench_gpu: %s is not in llmc/cuda/peak.h; H100, H200, GH200 and A100 are", device);
    Bench b;
    memset(&b, 0, sizeof b);
    b.peak_flops = 1e12 * (sizeof(real) == 4 ? d->fp32 : d->bf16);
    b.limits = limits_of(b.peak_flops, 1e9 * d->memory, 0, 0);
    ParamTable t = param_table(&c->setup.config);
    size_t N = (size_t)c->setup.batch_size * (size_t)c->setup.seq_len;
    b.work = work_of(c, logits_rows(N, gpu_head_rows(&c->setup.config)), (double)t.elements);
    param_table_free(&t);
    double ms = step_ms(&b.work, &b.limits), rate = (double)N * c->passes / ms * 1e3;
    print_title(c, d->name);
    printf("| predicted ms a step | tokens/s | MFU |\n|---|---|---|\n| %.2f | %.0f | %.1f%% |\n", ms, rate,
           100 * rate * config_flops_per_token(&c->setup.config, c->setup.seq_len) / b.peak_flops);
    printf("\n| kernel | calls a step | predicted ms a call | share | by |\n|---|---|---|---|---|\n");
    for (int i = 0; i < b.work.count; i++) {
        const Work *w = &b.work.items[i];
        double call = work_ms(w, &b.limits);
        printf("| %s | %.0f | %.4f | %.1f%% | %s |\n", w->name, w->calls, call, 100 * call * w->calls / ms,
               call > 1e3 * w->bytes / b.limits.memory ? "FLOPs" : "bytes");
    }
    print_classes(&b);
}

static void bench_open(Bench *b, Device *gpu) {
    int clock = 0, width = 0;
    b->gpu = gpu;
    CUDA_CHECK(cudaEventCreate(&b->start));
    CUDA_CHECK(cudaEventCreate(&b->stop));
    CUDA_CHECK(cudaDeviceGetAttribute(&clock, cudaDevAttrMemoryClockRate, gpu->number));
    CUDA_CHECK(cudaDeviceGetAttribute(&width, cudaDevAttrGlobalMemoryBusWidth, gpu->number));
    const DevicePeak *known = device_peak(gpu->name);
    b->peak_flops = device_peak_flops(gpu);
    b->peak_bytes = known ? 1e9 * known->memory : 2.0 * clock * 1e3 * width / 8;
}

// `words`: PRESET B T [MICRO_BATCHES [STEPS] [RECOMPUTE]]; STEPS only where `timed`.
static BenchCase case_of(char **words, int count, bool timed, const Dist *one) {
    BenchCase c;
    Error err;
    memset(&c, 0, sizeof c);
    if (count < 3 || count > (timed ? 6 : 5)) fail("bench_gpu: expected PRESET B T [MICRO_BATCHES ...], see bench_gpu");
    c.preset = words[0];
    if (!config_of_preset(&c.setup.config, c.preset, &err)) fail("%s", err.text);
    c.setup.batch_size = int_or_fail(words[1], "B");
    c.setup.seq_len = int_or_fail(words[2], "T");
    c.passes = count > 3 ? int_or_fail(words[3], "MICRO_BATCHES") : 1;
    c.steps = timed && count > 4 ? int_or_fail(words[4], "STEPS") : 20;
    c.recompute = count > 4 + timed ? words[4 + timed] : "none";
    if (c.setup.batch_size < 1 || c.setup.seq_len < 1 || c.passes < 1 || c.steps < 1 || c.steps > 1000)
        fail("bench_gpu: B, T, MICRO_BATCHES and STEPS are whole numbers from 1, STEPS at most 1000");
    if (strcmp(c.recompute, "none") != 0 && strcmp(c.recompute, "cheap") != 0 && strcmp(c.recompute, "block") != 0)
        fail("bench_gpu: %s, expected none, cheap or block", c.recompute);
    c.setup.config.max_seq_len = c.setup.seq_len;
    if (!config_check_batch(&c.setup.config, c.setup.batch_size, c.setup.seq_len, &err)) fail("%s", err.text);
    c.setup.recompute = strcmp(c.recompute, "block") == 0   ? RECOMPUTE_BLOCK
                        : strcmp(c.recompute, "cheap") == 0 ? RECOMPUTE_CHEAP
                                                            : RECOMPUTE_NONE;
    c.setup.precision = sizeof(real) == 4 ? PRECISION_FP32 : PRECISION_BF16;
    c.setup.gradients = true;
    c.setup.dist = one;
    return c;
}

int main(int argc, char **argv) {
    Bench b;
    Error err;
    Dist one;
    Device gpu;
    memset(&b, 0, sizeof b);
    dist_single(&one);
    if (argc > 2 && strcmp(argv[1], "predict") == 0) {
        BenchCase c = case_of(argv + 3, argc - 3, false, &one);
        return predict(&c, argv[2]), 0;
    }
    bool alone = argc == 2 && strcmp(argv[1], "ceilings") == 0;
    if (argc < 4 && !alone)
        fail("use: bench_gpu PRESET B T [MICRO_BATCHES [STEPS [none|cheap|block]]], bench_gpu ceilings, or bench_gpu "
             "predict DEVICE PRESET B T [MICRO_BATCHES [none|cheap|block]]");
    BenchCase c;
    if (!alone) c = case_of(argv + 1, argc - 1, true, &one);
    if (!device_open(&gpu, &one, &err)) fail("%s", err.text);
    gemm_open(&gpu);
    bench_open(&b, &gpu);
    bench_ceilings(&b);
    if (alone) print_ceilings(&b);
    gemm_close(&gpu);
    device_close(&gpu);
    if (!alone) {
        Model *m = b.m = model_create(&c.setup, &err);
        if (!m) fail("%s", err.text);
        b.gpu = &m->gpu;
        model_init_weights(m, &m->shards.table, &m->config, 1);
        b.work = work_of(&c, m->logits_rows, (double)m->shards.table.elements);
        print_title(&c, model_device(m));
        bench_steps(&b, &c);
        bench_kernels(&b);
        print_classes(&b);
        print_epilogues(&m->gpu);
        printf("\n");
        print_ceilings(&b);
        model_destroy(m);
    }
    CUDA_CHECK(cudaEventDestroy(b.start));
    CUDA_CHECK(cudaEventDestroy(b.stop));
    return 0;
}
