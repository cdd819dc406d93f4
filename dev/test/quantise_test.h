/*
quantise_test.h: weights as codes, and training beside them (QLoRA) in train_gpt_cpu.c.

  bytes      those of bitsandbytes (dev/test/fixtures/quantised), and its numbers back from them
  bounds     how far a number may be from its code; pieces and threads change nothing
  products   of codes = of a matrix of their numbers, bit by bit, by every unit that is here
  models     an adapter beside codes = beside their numbers in fp32, over twenty steps, bit by bit
  memory     in bytes: codes alone, no other copy; what it comes to for Qwen3-0.6B

To be included after lora_test.h and kernels_test.h.
*/
#ifndef QUANTISE_TEST_H
#define QUANTISE_TEST_H

#include "check.h"
#include "kernels_test.h"
#include "lora_test.h"

#define QUANTISE_FIXTURE "dev/test/fixtures/quantised/nf4.safetensors"

// Codes of n numbers; to be freed with its bytes.
static Quantised quantise_all(int format, const float *x, size_t n, size_t piece, int threads, const QuantTables *t) {
    Quantised q = {format, n, (uint8_t *)mem_alloc(quant_bytes(format, n))};
    float *largest = (float *)mem_alloc(sizeof(float) * nf4_blocks(n));
    for (size_t at = 0; at < n; at += piece)
        quant_numbers(q, largest, at, x + at, n - at < piece ? n - at : piece, t, threads);
    quant_finish(q, largest, t);
    free(largest);
    return q;
}

// ---------------------------------------------------------------- bytes

static const SafeTensor *quantise_expected(const SafeTensors *st, const char *name, const char *what) {
    const SafeTensor *t = safetensors_find(st, path_of("%s.%s", name, what).text);
    CHECK(t != NULL, "%s: no %s.%s", QUANTISE_FIXTURE, name, what);
    return t;
}

static void quantise_same_bytes(const SafeTensors *st, const char *name, const char *what, const void *ours,
                                size_t bytes) {
    const SafeTensor *t = quantise_expected(st, name, what);
    CHECK(t && t->bytes == bytes && memcmp(t->data, ours, bytes) == 0, "%s: %s is not bitsandbytes'", name, what);
}

static void quantise_check_fixture(void) {
    static const char *const names[] = {"normal", "partial", "odd", "special"};
    SafeTensors st;
    Error err;
    QuantTables t;
    quant_tables(&t);
    bool ok = safetensors_open(&st, QUANTISE_FIXTURE, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    if (!ok) return;
    const SafeTensor *map = safetensors_find(&st, "nested_quant_map"), *levels = safetensors_find(&st, "quant_map");
    CHECK(map && memcmp(map->data, t.map, sizeof t.map) == 0, "the levels of 8 bits are not bitsandbytes'");
    for (int i = 0; levels && i < NF4_LEVELS; i++) {
        float level = nf4_level(i);
        CHECK(memcmp((const char *)levels->data + sizeof(float) * (size_t)i, &level, sizeof level) == 0,
              "level %d of 4 bits is not bitsandbytes'", i);
    }
    for (int i = 0; i < 4; i++) {
        const SafeTensor *input = quantise_expected(&st, names[i], "input"),
                         *back = quantise_expected(&st, names[i], "dequantised");
        if (!input || !back) continue;
        size_t n = (size_t)input->elements;
        float *x = (float *)mem_alloc(sizeof(float) * n);
        ok = safetensors_to_f32(x, input, 0, input->elements, &err);
        CHECK(ok, "%s", ok ? "" : err.text);
        Quantised q = quantise_all(BASE_NF4, x, n, n, 1, &t);
        quantise_same_bytes(&st, names[i], "weight", nf4_codes(q), (n + 1) / 2);
        quantise_same_bytes(&st, names[i], "absmax", nf4_largest(q), nf4_blocks(n));
        quantise_same_bytes(&st, names[i], "nested_offset", nf4_scales(q), sizeof(float));
        quantise_same_bytes(&st, names[i], "nested_absmax", nf4_scales(q) + 1, sizeof(float) * nf4_groups(n));
        quant_read(x, q, &t, 0, n);
        quantise_same_bytes(&st, names[i], "dequantised", x, back->bytes);
        free(x), free(q.bytes);
    }
    safetensors_close(&st);
}

// ---------------------------------------------------------------- bounds

static void quantise_normal(float *x, size_t n, uint64_t seed) {
    RngStream s = rng_stream(seed, "quantise");
    for (size_t i = 0; i < n; i += 4) {
        float four[4];
        rng_normal4(s, i / 4, four);
        for (size_t j = 0; j < 4 && i + j < n; j++) x[i + j] = 0.02f * four[j];
    }
}

static void quantise_check_bounds(void) {
    enum { N = 64 * 1500 + 24 };
    QuantTables t;
    quant_tables(&t);
    float *x = (float *)mem_alloc(sizeof(float) * N), *y = (float *)mem_alloc(sizeof(float) * N);
    quantise_normal(x, N, 3);
    for (int format = BASE_NF4; format <= BASE_Q8; format++) {
        size_t n = format == BASE_Q8 ? N / 32 * 32 : N;
        Quantised q = quantise_all(format, x, n, n, 1, &t), again = quantise_all(format, x, n, 64 * 7, 3, &t);
        CHECK(memcmp(q.bytes, again.bytes, quant_bytes(format, n)) == 0, "%s: pieces and threads change codes",
              base_name(format));
        quant_read(y, q, &t, 0, n);
        double worst = 0;
        size_t block = quant_block(format);
        for (size_t i = 0; i < n; i++) {
            size_t first = i / block * block, many = n - first < block ? n - first : block;
            double largest = (double)quant_largest(x + first, many), bound;
            // nf4: half of the widest gap, 1 - 0.6962, and the largest's own error, half of the widest gap of its map
            // over its group's largest difference; q8: half a step of largest / 127, and 2^-11 of f16. 1e-6: floats.
            if (format == BASE_NF4)
                bound = 0.15191 * largest + 0.00704 * (double)nf4_scales(q)[1 + i / block / NF4_GROUP];
            else bound = largest / 127 * 0.5 + largest * 0x1p-11;
            worst = fmax(worst, fabs((double)y[i] - (double)x[i]) / (bound * (1 + 1e-6)));
        }
        CHECK(worst <= 1 && worst > 0.5, "%s: numbers are off by %.3f of what they may", base_name(format), worst);
        for (size_t i = 0; i < n; i += 577) { // any range
            size_t many = i % 131 < n - i ? i % 131 : n - i;
            float part[131];
            real fast[131];
            Coded c = {{q}, {0, n}, 1, &t};
            quant_read(part, q, &t, i, many);
            codes_read(fast, &c, i, many);
            bool same = memcmp(part, y + i, sizeof(float) * many) == 0;
            for (size_t k = 0; k < many; k++) same &= fast[k] == (real)part[k];
            CHECK(same, "%s: numbers %zu .. are others when read alone", base_name(format), i);
        }
        free(q.bytes), free(again.bytes);
    }
    uint8_t block[Q8_BYTES];
    for (int i = 0; i < 32; i++) x[i] = i == 5 ? 9e6f : 1;
    CHECK(!q8_encode(block, x, 32) && !isfinite(q8_scale(block)), "q8: 9e6 has a scale");
    x[5] = 8e6f;
    CHECK(q8_encode(block, x, 32) && isfinite(q8_scale(block)), "q8: 8e6 has no scale");
    free(x), free(y);
}

// ---------------------------------------------------------------- products

// A matrix (OC, C) of `parts` equal parts as codes, and its numbers.
typedef struct {
    Coded codes;
    QuantTables tables;
    real *numbers; // (OC, C)
    uint8_t *bytes;
} QuantiseMatrix;

static void quantise_matrix(QuantiseMatrix *m, int format, int OC, int C, int parts) {
    size_t n = (size_t)OC * (size_t)C;
    float *x = (float *)mem_alloc(sizeof(float) * n);
    CodedFill fill = {(float *)mem_alloc(sizeof(float) * nf4_blocks(n)), NULL, 0};
    int done;
    quantise_normal(x, n, 5);
    quant_tables(&m->tables);
    memset(&m->codes, 0, sizeof m->codes);
    m->codes.count = parts, m->codes.tables = &m->tables;
    for (int i = 0; i < parts; i++) {
        m->codes.parts[i].format = format;
        m->codes.parts[i].count = (size_t)(OC * (i + 1) / parts - OC * i / parts) * (size_t)C;
        m->codes.start[i + 1] = m->codes.start[i] + m->codes.parts[i].count;
    }
    m->bytes = (uint8_t *)mem_alloc(coded_bytes(&m->codes));
    coded_place(&m->codes, m->bytes);
    for (size_t at = 0; at < n;) at += coded_take(&fill, &m->codes, at, x + at, n - at, &done);
    coded_read(x, &m->codes, 0, n);
    m->numbers = (real *)mem_alloc(sizeof(real) * n);
    for (size_t i = 0; i < n; i++) m->numbers[i] = (real)x[i];
    free(x), free(fill.largest);
}

static void quantise_check_product(int format, LinearShape s, int parts, Cpu *cpu, const char *unit) {
    QuantiseMatrix m;
    quantise_matrix(&m, format, s.OC, s.C, parts);
    Matrix codes = {NULL, NULL, &m.codes};
    int in = s.N * s.C, out = s.N * s.OC;
    real *x = kernel_random(in, 61), *dy = kernel_random(out, 63), *b = kernel_random(s.OC, 64), *y[2], *dx[2];
    for (int i = 0; i < 2; i++) {
        y[i] = kernel_garbage(out), dx[i] = kernel_garbage(in);
        linear_forward(y[i], x, i ? codes : matrix_of(m.numbers), b, dy, s, cpu);
        linear_backward_input(dx[i], dy, i ? codes : matrix_of(m.numbers), s, cpu);
    }
    CHECK(model_same_bits(y[0], y[1], (size_t)out), "%s, %s, %d x %d x %d: the product of codes has other bits", unit,
          base_name(format), s.N, s.C, s.OC);
    CHECK(model_same_bits(dx[0], dx[1], (size_t)in), "%s, %s, %d x %d x %d: backwards, codes give other bits", unit,
          base_name(format), s.N, s.C, s.OC);
    for (int i = 0; i < 2; i++) free(y[i]), free(dx[i]);
    free(x), free(dy), free(b), free(m.numbers), free(m.bytes);
}

static void quantise_check_products(void) {
    static const LinearShape shapes[] = {{1, 100, 70},  {4, 37, 9},     {5, 37, 9},     {70, 100, 130},
                                         {33, 640, 96}, {200, 96, 600}, {21, 1200, 51}, {64, 2112, 64}};
    for (int kernels = 0; kernels < 3; kernels++) { // vectors, dot products or a matrix unit, tiles emulated
        Cpu cpu;
        Error err;
        static const int which[] = {KERNELS_AUTO, KERNELS_AUTO, KERNELS_EMULATED};
        bool opened = cpu_open(&cpu, 3, &err);
        CHECK(opened, "cpu_open");
        if (!cpu_choose_unit(&cpu, kernels > 0, which[kernels], &err)) continue; // no bf16 here, or a build for double
        static const char *const names[] = {"fp32", "bf16", "emulated tiles"};
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int format = BASE_NF4; format <= BASE_Q8; format++)
                if (format == BASE_NF4 || shapes[i].C % 32 == 0)
                    quantise_check_product(format, shapes[i], 1 + (int)i % 3, &cpu, names[kernels]);
#ifdef BF16_DOTS
        if (kernels == 1 && cpu.unit != UNIT_DOTS) {
            cpu.unit = UNIT_DOTS;
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                quantise_check_product(BASE_NF4, shapes[i], 1, &cpu, "dot products");
        }
#endif
        cpu_close(&cpu);
    }
}

// ---------------------------------------------------------------- models

static Model *quantise_model(const Config *c, int base, int threads, int recompute) {
    ModelSetup setup = model_setup(c, model_shape(recompute, threads, 2, 13, true));
    setup.base = base;
    return model_make_of(&setup);
}

// Weights of any kind of model through model_set; codes: then as numbers into another.
static void quantise_randomise(Model *m, Model *plain) {
    ParamTable *t = &m->shards.table;
    for (int i = 0; i < t->count; i++) {
        const Param *p = &t->items[i];
        float *x = (float *)mem_alloc(sizeof(float) * p->count);
        quantise_normal(x, p->count, (uint64_t)i + 9);
        for (size_t k = 0; k < p->count; k++) x[k] = 12 * x[k] + (p->init == INIT_ONE ? 1.0f : 0.0f);
        model_set(m, MODEL_WEIGHT, p, x);
        model_get(m, MODEL_WEIGHT, p, x, 0);
        if (plain) model_set(plain, MODEL_WEIGHT, p, x);
        free(x);
    }
}

// Twenty steps: losses into curve.
static void quantise_steps(Model *m, double *curve) {
    LoraBatch b = lora_batch(&m->config);
    GroupRule adam = {0.01, 0.9, 0.95, 1e-8, 0.1};
    UpdateRule rule = update_rule(0, adam, 1);
    ModelBatch batch = {b.tokens, b.targets, NULL, 2, 13};
    for (rule.step = 1; rule.step <= 20; rule.step++) {
        model_place(m, 7, 26 * (rule.step - 1));
        model_forward(m, &batch, 1.0 / 26, NULL);
        model_backward(m, true);
        UpdateResult r = model_update(m, &rule);
        CHECK(r.updated, "step %d: no update", (int)rule.step);
        curve[rule.step - 1] = r.loss;
    }
    free(b.logits);
}

static void quantise_check_model(int family, int base, const char *targets) {
    Config c = lora_small_config(family, targets, 0.1);
    if (base == BASE_Q8) c.channels = 32, c.heads = 4, c.kv_heads = family == FAMILY_GPT2 ? 4 : 2, c.hidden = 64;
    Path what = path_of("%s, %s beside %s", family_name(family), base_name(base), targets);
    Model *coded = quantise_model(&c, base, 1, RECOMPUTE_CHEAP),
          *plain = quantise_model(&c, BASE_FULL, 1, RECOMPUTE_CHEAP),
          *other = quantise_model(&c, base, 3, RECOMPUTE_BLOCK);
    double curve[3][20];
    quantise_randomise(coded, plain);
    quantise_randomise(other, NULL);
    Shards *s = &coded->shards;
    size_t bytes = coded_sizes(&s->table, &c, base).bytes;
    uint8_t *before = (uint8_t *)mem_alloc(bytes);
    memcpy(before, s->codes, bytes);
    quantise_steps(coded, curve[0]);
    quantise_steps(plain, curve[1]);
    quantise_steps(other, curve[2]);
    CHECK(memcmp(curve[0], curve[1], sizeof curve[0]) == 0, "%s: other losses than beside the numbers in fp32",
          what.text);
    CHECK(memcmp(curve[0], curve[2], sizeof curve[0]) == 0, "%s: threads or --recompute change losses", what.text);
    CHECK(curve[0][19] < curve[0][0], "%s: the loss goes from %g to %g", what.text, curve[0][0], curve[0][19]);
    CHECK(memcmp(before, s->codes, bytes) == 0, "%s: codes moved", what.text);
    free(before);
    // Token by token: rows of codes. The numbers' bits.
    for (int t = 0; t < 6; t++) {
        int32_t token = 3 * t + 1;
        size_t V = (size_t)c.vocab_size;
        float *one = (float *)mem_alloc(sizeof(float) * V);
        memcpy(one, model_decode(coded, &token, 1, t), sizeof(float) * V);
        CHECK(memcmp(one, model_decode(plain, &token, 1, t), sizeof(float) * V) == 0, "%s: decoding token %d",
              what.text, t);
        free(one);
    }
    model_destroy(coded), model_destroy(plain), model_destroy(other);
}

// ---------------------------------------------------------------- memory

static void quantise_check_memory(int family, int base) {
    Config c = lora_small_config(family, "all", 0);
    if (base == BASE_Q8) c.channels = 32, c.heads = 4, c.kv_heads = family == FAMILY_GPT2 ? 4 : 2, c.hidden = 64;
    Model *m = quantise_model(&c, base, 1, RECOMPUTE_NONE);
    const ParamTable *t = &m->shards.table;
    const char *what = family_name(family);
    size_t kept = 0, codes = 0, matrices = 0;
    for (int i = 0; i < t->count; i++) {
        const Param *p = &t->items[i];
        CHECK(p->coded == (p->group == GROUP_MATRIX), "%s: %s is kept as another thing", what, p->name);
        if (!p->coded) kept += (p->count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
        else {
            int parts = family == FAMILY_GPT2    ? 1
                        : p->kind == PARAM_qkv_w ? 3
                        : p->kind == PARAM_fc_w  ? 1 + c.gated
                                                 : 1;
            size_t most = base == BASE_Q8 ? p->count / 32 * 34 : p->count / 2 + p->count / 64 + p->count / 4096;
            codes += coded_bytes(&m->shards.coded[i]), matrices += p->count;
            CHECK(m->shards.coded[i].count == parts, "%s: %s has %d parts", what, p->name, m->shards.coded[i].count);
            CHECK(coded_bytes(&m->shards.coded[i]) <= most + 80 * (size_t)parts, "%s: %s takes %zu bytes", what,
                  p->name, coded_bytes(&m->shards.coded[i]));
        }
    }
    // The flat array ends where what it holds ends, and the codes are what is foreseen: no other copy is there.
    CHECK(t->elements == kept && codes == coded_sizes(t, &c, base).bytes && codes < 3 * matrices,
          "%s: %zu numbers of %zu, %zu bytes of codes", what, t->elements, kept, codes);
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_NONE, 1, 2, 13, true)), full = setup;
    setup.base = base;
    ModelMemory need = model_memory(&setup), was = model_memory(&full);
    CHECK(need.weights == (double)(sizeof(real) * kept + codes), "%s: %.0f bytes of weights are foreseen", what,
          need.weights);
    CHECK(need.gradients == was.gradients && need.moments == was.moments && need.activations == was.activations,
          "%s: codes change the memory of what is trained", what);
    Gradients d = shards_gradients(&m->shards, 0);
    CHECK(!d.qkv_w && !d.proj_w && !d.fc_w && !d.fcproj_w, "%s: codes have gradients", what);
    model_destroy(m);
}

// train_gpt in bf16, rank 16 on Qwen3-0.6B, as parts of the base's bytes: 440.4M of 596M numbers are in blocks.
static void quantise_check_promise(void) {
    Config c = config_of_family(FAMILY_QWEN3);
    c.layers = 28, c.channels = 1024, c.heads = 16, c.kv_heads = 8, c.head_size = 128, c.hidden = 3072;
    c.vocab_size = 151936, c.max_seq_len = 40960;
    Error err;
    ParamTable t = param_table(&c);
    double bytes = 2 * (double)t.parameters;
    param_table_free(&t);
    Lora lora = {16, 0, 0, 32, 0};
    CHECK(lora_targets_named(&lora.targets, &c, "all", &err), "%s", err.text);
    c.lora = lora;
    static const double most[] = {1.2, 0.61, 0.81}; // measured 1.152, 0.604, 0.806
    for (int base = BASE_FULL; base <= BASE_Q8; base++) {
        ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_BLOCK, 1, 1, 1024, true));
        setup.base = base;
        ModelMemory m = gpu_model_memory(&setup, 2);
        double share = (m.weights + m.gradients + m.moments) / bytes;
        CHECK(share < most[base] && share > most[base] - 0.2,
              "--base=%s takes %.3f times the bytes of its base of %.0f", base_name(base), share, bytes);
    }
}

static void quantise_check_refusals(void) {
    Error err;
    Config c = lora_small_config(FAMILY_LLAMA, "all", 0), plain = config_base(&c);
    CHECK(base_check(&plain, BASE_FULL, &err) && base_check(&c, BASE_NF4, &err), "%s", err.text);
    CHECK_ERROR(base_check(&plain, BASE_NF4, &err), "--lora_rank");
    CHECK_ERROR(base_check(&c, BASE_Q8, &err), "layer.0.qkv_w has rows of 24");
    ModelSetup setup = model_setup(&plain, model_shape(RECOMPUTE_NONE, 1, 2, 13, true));
    setup.base = BASE_NF4;
    CHECK(model_create(&setup, &err) == NULL, "a model without an adapter has codes");
}

static void test_quantise(void) {
    quantise_check_fixture();
    quantise_check_bounds();
    quantise_check_products();
    for (int family = 0; family < FAMILY_KINDS; family++)
        for (int base = BASE_NF4; base <= BASE_Q8; base++) {
            quantise_check_model(family, base, family % 2 ? "mlp" : "all");
            quantise_check_memory(family, base);
        }
    quantise_check_promise();
    quantise_check_refusals();
}

#endif
