/*
bench_gpu.cu: speed of train_gpt on this GPU: whole steps, and each kernel as a share of its own limit.

    bench_gpu PRESET B T [MICRO_BATCHES [STEPS [none|cheap|block]]]

Prints Markdown. A step is MICRO_BATCHES passes forward and backward over random tokens, and an update,
as trainer.h does it, with graphs; the median of STEPS steps after 5 to warm up. MFU counts the FLOPs of
model.h against the dense peak of llmc/cuda/peak.h. Then every kernel alone, on the model's own buffers
and shapes: its median time, its share of a step (time x calls), and what it reaches of its limit: FLOPs
against the same peak (attention: causal, 4 products forward and 10 backward of half a score matrix, two
FLOPs each), or the bytes that it must move against the memory's rate (clock x bus width x 2).
*/
#define LLMC_NO_MAIN
#include "../../train_gpt.cu"

enum { BENCH_RUNS = 11 };

typedef struct {
    Model *m;
    cudaEvent_t start, stop;
    double step_ms, peak_flops, peak_bytes;
} Bench;

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

template <typename Work> static double bench_ms(Bench *b, Work work) {
    double ms[BENCH_RUNS];
    work();
    for (int i = 0; i < BENCH_RUNS; i++) {
        float t;
        CUDA_CHECK(cudaEventRecord(b->start, b->m->gpu.stream));
        work();
        CUDA_CHECK(cudaEventRecord(b->stop, b->m->gpu.stream));
        CUDA_CHECK(cudaEventSynchronize(b->stop));
        CUDA_CHECK(cudaEventElapsedTime(&t, b->start, b->stop));
        ms[i] = (double)t;
    }
    qsort(ms, BENCH_RUNS, sizeof ms[0], compare_doubles);
    return ms[BENCH_RUNS / 2];
}

// One row; flops or bytes is 0.
template <typename Work>
static void row(Bench *b, const char *name, double calls, double flops, double bytes, Work work) {
    double ms = bench_ms(b, work), rate = (flops > 0 ? flops : bytes) / ms * 1e3,
           limit = flops > 0 ? b->peak_flops : b->peak_bytes;
    char share[32] = "-";
    if (limit > 0) snprintf(share, sizeof share, "%.0f%%", 100 * rate / limit);
    printf("| %s | %.0f | %.4f | %.1f%% | %.1f %s | %s |\n", name, calls, ms, 100 * ms * calls / b->step_ms,
           rate / (flops > 0 ? 1e12 : 1e9), flops > 0 ? "TFLOP/s" : "GB/s", share);
}

static void bench_kernels(Bench *b, double passes) {
    Model *m = b->m;
    const Config *c = &m->config;
    Device *gpu = &m->gpu;
    int B = m->setup.batch_size, T = m->setup.seq_len, N = B * T, C = c->channels, F = c->hidden, NH = c->heads,
        NKV = c->kv_heads, HS = c->head_size, QKV = config_qkv(c), FC = config_fc(c), V = c->vocab_size,
        W = m->logits_width, rows = m->logits_rows;
    double n = N, s = sizeof(real), L = c->layers * passes, chunks = passes * ((N + rows - 1) / rows),
           elements = (double)m->shards.table.elements;
    Weights w = shards_weights(&m->shards, 0);
    Gradients dw = shards_gradients(&m->shards, 0);
    Activations a = activations_of(m, 0), d = backward_of(m, 0);
    const real *head = c->tied ? w.wte : w.head_w;
    float *dhead = c->tied ? dw.wte : dw.head_w;
    real *x = a.embedding, *dx = d.residual2;
    AttentionShape shape = attention_shape(c, B, T, T);
    Norm<real> norm = {w.norm1_w, w.norm1_b, a.norm1_mean, a.norm1_rstd, N, C, (float)c->norm_eps};
    Rotation<real> rotation = {w.qnorm_w, w.knorm_w, a.qk_rstd, m->rope, 0, (float)c->norm_eps, shape};
    MlpShape mlp = {N, C, F, c->activation, c->gated != 0};
    LinearShape qkv = {N, C, QKV}, proj = {N, NH * HS, C}, fc = {N, C, FC}, fcproj = {N, F, C}, vocab = {rows, C, W};
    bool fused = mlp_fuses(mlp);
    printf("\n| kernel | calls a step | ms a call | share of the step | rate | of its limit "
           "|\n|---|---|---|---|---|---|\n");
    row(b, "qkv product", L, 2 * n * C * QKV, 0,
        [=]() { linear_forward<real>(a.qkv, a.norm1, w.qkv_w, w.qkv_b, NULL, qkv, gpu); });
    row(b, "projection + residual", L, 2 * n * NH * HS * C, 0,
        [=]() { linear_forward<real>(a.residual1, a.attention, w.proj_w, w.proj_b, x, proj, gpu); });
    if (fused)
        row(b, "fc product + GELU", L, 2 * n * C * F, 0,
            [=]() { linear_mlp_forward<real>(a.mlp, a.fc, a.norm2, w.fc_w, w.fc_b, mlp, gpu); });
    else
        row(b, "fc product", L, 2 * n * C * FC, 0,
            [=]() { linear_forward<real>(a.fc, a.norm2, w.fc_w, w.fc_b, NULL, fc, gpu); });
    row(b, "fcproj product + residual", L, 2 * n * F * C, 0,
        [=]() { linear_forward<real>(a.residual2, a.mlp, w.fcproj_w, w.fcproj_b, a.residual1, fcproj, gpu); });
    row(b, "qkv: dweight, dbias", L, 2 * n * C * QKV, 0,
        [=]() { linear_backward_weight<real>(dw.qkv_w, dw.qkv_b, d.qkv, a.norm1, qkv, gpu); });
    row(b, "qkv: dinput", L, 2 * n * C * QKV, 0,
        [=]() { linear_backward_input<real>(d.norm1, d.qkv, w.qkv_w, qkv, gpu); });
    row(b, "projection: dweight, dbias", L, 2 * n * NH * HS * C, 0,
        [=]() { linear_backward_weight<real>(dw.proj_w, dw.proj_b, dx, a.attention, proj, gpu); });
    row(b, "projection: dinput", L, 2 * n * NH * HS * C, 0,
        [=]() { linear_backward_input<real>(d.attention, dx, w.proj_w, proj, gpu); });
    row(b, "fc: dweight, dbias", L, 2 * n * C * FC, 0,
        [=]() { linear_backward_weight<real>(dw.fc_w, dw.fc_b, d.fc, a.norm2, fc, gpu); });
    row(b, "fc: dinput", L, 2 * n * C * FC, 0, [=]() { linear_backward_input<real>(d.norm2, d.fc, w.fc_w, fc, gpu); });
    row(b, "fcproj: dweight, dbias", L, 2 * n * F * C, 0,
        [=]() { linear_backward_weight<real>(dw.fcproj_w, dw.fcproj_b, dx, a.mlp, fcproj, gpu); });
    if (fused)
        row(b, "fcproj: dinput + dGELU", L, 2 * n * F * C, 0,
            [=]() { linear_mlp_backward<real>(d.fc, d.mlp, dx, w.fcproj_w, a.fc, mlp, gpu); });
    else
        row(b, "fcproj: dinput", L, 2 * n * F * C, 0,
            [=]() { linear_backward_input<real>(d.mlp, dx, w.fcproj_w, fcproj, gpu); });
    row(b, "head product", chunks, 2.0 * rows * C * V, 0,
        [=]() { linear_forward<real>(m->logits, a.normf, head, NULL, NULL, vocab, gpu); });
    row(b, "head: dweight", chunks, 2.0 * rows * C * V, 0,
        [=]() { linear_backward_weight<real>(dhead, NULL, m->logits, a.normf, vocab, gpu); });
    row(b, "head: dinput", chunks, 2.0 * rows * C * V, 0,
        [=]() { linear_backward_input<real>(d.normf, m->logits, head, vocab, gpu); });
    Heads<real> h = heads_of(c, &a), dh = heads_of(c, &d);
    double pairs = (double)B * NH * T * T / 2 * HS;
    int NQ = NH * HS, NK = NKV * HS;
    row(b, "attention", L, 4 * pairs, 0,
        [=]() { attention_forward<real>(a.attention, a.attention_lse, h, shape, gpu); });
    row(b, "attention: backward", L, 10 * pairs, 0,
        [=]() { attention_backward<real>(dh, d.attention, a.attention, a.attention_lse, h, shape, gpu); });
    row(b, "norm", 2 * L + passes, 0, 2 * n * C * s, [=]() { norm_forward<real>(a.norm1, x, norm, gpu); });
    row(b, "norm: backward + residual", 2 * L + passes, 0, 4 * n * C * s,
        [=]() { norm_backward<real>(dx, dw.norm1_w, dw.norm1_b, d.norm1, x, norm, gpu); });
    if (c->rope) {
        row(b, "rotation (+ QK-norm)", L, 0, 2 * n * (NQ + NK) * s,
            [=]() { qk_forward<real>(a.qk, a.qkv, rotation, gpu); });
        row(b, "rotation: backward", L, 0, (c->qk_norm ? 3 : 2) * n * (NQ + NK) * s,
            [=]() { qk_backward<real>(d.qkv, dw.qnorm_w, dw.knorm_w, d.qk, a.qkv, rotation, gpu); });
    }
    if (!fused) {
        bool gated = c->gated;
        row(b, gated ? "gated MLP" : "MLP", L, 0, (gated ? 3 : 2) * n * F * s,
            [=]() { mlp_forward<real>(a.mlp, a.fc, N, F, c->activation, gated, gpu); });
        row(b, gated ? "gated MLP: backward" : "MLP: backward", L, 0, (gated ? 5 : 3) * n * F * s,
            [=]() { mlp_backward<real>(d.fc, d.mlp, a.fc, N, F, c->activation, gated, gpu); });
    }
    row(b, "embedding", passes, 0, 2 * n * C * s,
        [=]() { embedding_forward<real>(x, m->batch.inputs, w.wte, w.wpe, 0, B, T, C, gpu); });
    row(b, "embedding: backward", passes, 0, n * C * s, [=]() {
        embedding_backward<real>(dw.wte, dw.wpe, dx, token_groups_at(m->batch.inputs + 2 * N, (size_t)N), B, T, C, V,
                                 gpu);
    });
    row(b, "softmax, loss, gradient", chunks, 0, 2.0 * rows * V * s,
        [=]() { cross_entropy<real>(a.losses, m->logits, m->batch.inputs + N, 1e-6f, rows, V, W, gpu); });
    row(b, "gradient norm + AdamW", 1, 0, elements * (32 + 4 + (m->shards.master ? s : 0)), [=]() { update_pass(m); });
}

int main(int argc, char **argv) {
    if (argc < 4) fail("use: bench_gpu PRESET B T [MICRO_BATCHES [STEPS [none|cheap|block]]]");
    Bench b;
    Error err;
    ModelSetup setup;
    Dist one;
    memset(&b, 0, sizeof b);
    memset(&setup, 0, sizeof setup);
    dist_single(&one);
    int passes = argc > 4 ? int_or_fail(argv[4], "MICRO_BATCHES") : 1,
        steps = argc > 5 ? int_or_fail(argv[5], "STEPS") : 20;
    const char *recompute = argc > 6 ? argv[6] : "none";
    if (!config_of_preset(&setup.config, argv[1], &err)) fail("%s", err.text);
    setup.batch_size = int_or_fail(argv[2], "B");
    setup.seq_len = int_or_fail(argv[3], "T");
    if (setup.batch_size < 1 || setup.seq_len < 1 || passes < 1 || steps < 1 || steps > 1000)
        fail("bench_gpu: B, T, MICRO_BATCHES and STEPS are whole numbers from 1, STEPS at most 1000");
    if (strcmp(recompute, "none") != 0 && strcmp(recompute, "cheap") != 0 && strcmp(recompute, "block") != 0)
        fail("bench_gpu: %s, expected none, cheap or block", recompute);
    setup.config.max_seq_len = setup.seq_len;
    setup.recompute = strcmp(recompute, "block") == 0   ? RECOMPUTE_BLOCK
                      : strcmp(recompute, "cheap") == 0 ? RECOMPUTE_CHEAP
                                                        : RECOMPUTE_NONE;
    setup.precision = sizeof(real) == 4 ? PRECISION_FP32 : PRECISION_BF16;
    setup.gradients = true;
    setup.dist = &one;
    size_t after = 0, all = 0;
    Model *m = b.m = model_create(&setup, &err);
    if (!m) fail("%s", err.text);
    CUDA_CHECK(cudaMemGetInfo(&after, &all));
    model_init_weights(m, &m->shards.table, &m->config, 1);
    CUDA_CHECK(cudaEventCreate(&b.start));
    CUDA_CHECK(cudaEventCreate(&b.stop));
    int clock = 0, width = 0;
    CUDA_CHECK(cudaDeviceGetAttribute(&clock, cudaDevAttrMemoryClockRate, m->gpu.number));
    CUDA_CHECK(cudaDeviceGetAttribute(&width, cudaDevAttrGlobalMemoryBusWidth, m->gpu.number));
    b.peak_flops = model_peak_flops(m);
    b.peak_bytes = 2.0 * clock * 1e3 * width / 8;

    size_t N = (size_t)setup.batch_size * (size_t)setup.seq_len;
    int32_t *tokens = (int32_t *)mem_alloc(sizeof(int32_t) * (N + 1));
    RngStream stream = rng_stream(1, "bench");
    for (size_t i = 0; i <= N; i++) tokens[i] = (int32_t)(rng_draw(stream, i).x[0] % (uint32_t)setup.config.vocab_size);
    double *ms = (double *)mem_alloc(sizeof(double) * (size_t)steps), loss = 0;
    for (int step = -5; step < steps; step++) {
        double start = clock_seconds();
        for (int p = 0; p < passes; p++) {
            model_forward(m, tokens, tokens + 1, setup.batch_size, setup.seq_len, 1.0 / (double)N / passes, NULL);
            model_backward(m, p == passes - 1);
        }
        UpdateRule rule = update_rule(step + 6, {1e-4, 0.9, 0.95, 1e-8, 0.1}, 1.0);
        UpdateResult r = model_update(m, &rule);
        if (!r.updated) fail("bench_gpu: the loss is not finite");
        loss = r.loss / (double)N / passes;
        if (step >= 0) ms[step] = 1e3 * (clock_seconds() - start);
    }
    qsort(ms, (size_t)steps, sizeof(double), compare_doubles);
    b.step_ms = ms[steps / 2];
    double rate = (double)N * passes / b.step_ms * 1e3, flops = config_flops_per_token(&m->config, setup.seq_len);
    printf("### %s, B=%d T=%d, %d micro-batch%s, recompute %s\n\n%s. %s.\n\n", argv[1], setup.batch_size, setup.seq_len,
           passes, passes > 1 ? "es" : "", recompute, model_device(m), "FLOPs a token: " FLOPS_FORMULA);
    printf("| parameters | ms a step (median of %d; fastest, slowest) | tokens/s | TFLOP/s | MFU | device memory in "
           "use, GiB | loss |\n|---|---|---|---|---|---|---|\n",
           steps);
    printf("| %.1fM | %.2f (%.2f, %.2f) | %.0f | %.1f | ", (double)m->shards.table.parameters / 1e6, b.step_ms, ms[0],
           ms[steps - 1], rate, rate * flops / 1e12);
    if (b.peak_flops > 0) printf("%.1f%%", 100 * rate * flops / b.peak_flops);
    else printf("-");
    printf(" | %.2f | %.4f |\n", (double)(all - after) / (1 << 30), loss);
    bench_kernels(&b, passes);
    cudaEventDestroy(b.start);
    cudaEventDestroy(b.stop);
    free(tokens);
    free(ms);
    model_destroy(m);
    return 0;
}
