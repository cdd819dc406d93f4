/*
lora_test.h: adapters (LoRA) of train_gpt_cpu.c.

  fixtures       logits, loss, gradients and fifty steps of PEFT's own adapters (dev/test/fixtures/adapters)
  the step       recompute policies, threads, micro-batches, decoding: as for whole models; dropout is the same however
                 the tokens are cut into passes
  memory         gradients and moments are the adapter's alone, in bytes; the base stays as it is, bit by bit
  folders        written and read again; merged = unmerged; GGUF; what is refused
  finite differences of A and B of every target, with -DREAL_DOUBLE

To be included after model_test.h. Tolerances: MODEL_ORDER of model_test.h for sums in another order; LORA_PEFT against
PEFT, whose model is one of Transformers in float64 but for its RMSNorm and rotary table, which are float32 whatever the
type: 1e-5, far below what a mistake in a formula gives (measured: 1.6e-6 with double, likewise with float).
*/
#ifndef LORA_TEST_H
#define LORA_TEST_H

#include "../../llmc/files/merge.h"
#include "check.h"
#include "model_test.h"

#define LORA_PEFT 1e-5
#define LORA_FIXTURES "dev/test/fixtures/adapters/"

static const struct {
    const char *name, *base;
} lora_fixtures[] = {{"gpt2", "gpt2"},
                     {"gpt2-mlp", "gpt2-untied"},
                     {"llama-untied", "llama-untied"},
                     {"qwen3-tied", "qwen3-tied"},
                     {"qwen2-yarn", "qwen2-yarn"}};
enum { LORA_FIXTURE_COUNT = sizeof lora_fixtures / sizeof *lora_fixtures };

static Config lora_small_config(int family, const char *targets, double dropout) {
    Config c = model_small_config(family, family == FAMILY_GPT2 ? 3 : 1, 8, false);
    Error err;
    Lora lora = {3, 0, 0, 4, dropout};
    bool ok = lora_targets_named(&lora.targets, &c, targets, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    c.lora = lora;
    return c;
}

// ---------------------------------------------------------------- fixtures

typedef struct {
    Path base, folder;
    Config config;
    SafeTensors expected;
    int B, T;
    const int32_t *tokens, *targets;
} LoraFixture;

static bool lora_fixture_open(LoraFixture *f, int i) {
    Error err;
    memset(f, 0, sizeof *f);
    f->base = path_of(MODEL_FIXTURES "%s", lora_fixtures[i].base);
    f->folder = path_of(LORA_FIXTURES "%s", lora_fixtures[i].name);
    bool ok =
        folder_read_config(&f->config, f->base.text, &err) && adapter_read_config(&f->config, f->folder.text, &err) &&
        adapter_check_base(f->folder.text, f->base.text, &err) && adapter_check(&f->config, f->folder.text, &err) &&
        safetensors_open(&f->expected, path_of("%s/expected.safetensors", f->folder.text).text, &err);
    CHECK(ok, "%s: %s", f->folder.text, ok ? "" : err.text);
    if (!ok) return false;
    const SafeTensor *tokens = safetensors_find(&f->expected, "tokens"),
                     *targets = safetensors_find(&f->expected, "targets");
    f->B = (int)tokens->shape[0], f->T = (int)tokens->shape[1];
    f->tokens = (const int32_t *)(const void *)tokens->data, f->targets = (const int32_t *)(const void *)targets->data;
    return true;
}

static Model *lora_fixture_model(const LoraFixture *f, ModelShape shape) {
    Error err;
    Model *m = model_make(&f->config, shape);
    bool ok = m && folder_load_weights(m, &m->shards.table, &f->config, f->base.text, &err) &&
              adapter_load(m, &f->config, f->folder.text, &err);
    CHECK(ok, "%s: %s", f->folder.text, ok ? "" : err.text);
    return m;
}

// A tensor of the expected values as floats; to be freed.
static float *lora_expected(const LoraFixture *f, const char *name, size_t *count) {
    Error err;
    const SafeTensor *t = safetensors_find(&f->expected, name);
    CHECK(t != NULL, "%s: %s is missing", f->folder.text, name);
    if (!t) return NULL;
    float *values = (float *)mem_alloc(sizeof(float) * (size_t)t->elements);
    if (count) *count = (size_t)t->elements;
    bool ok = safetensors_to_f32(values, t, 0, t->elements, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    return values;
}

static void lora_check_fixture(int i) {
    LoraFixture f;
    if (!lora_fixture_open(&f, i)) return;
    size_t n, steps;
    float *want = lora_expected(&f, "logits", &n), *loss = lora_expected(&f, "loss", NULL),
          *curve = lora_expected(&f, "curve", &steps), *logits = (float *)mem_alloc(sizeof(float) * n);
    double scale = 1.0 / (f.B * f.T);
    Model *m = lora_fixture_model(&f, model_shape(RECOMPUTE_NONE, 1, f.B, f.T, true));
    double ours = scale * model_pass(m, f.tokens, f.targets, f.B, f.T, scale, logits),
           error = model_error(logits, want, n);
    CHECK(error <= LORA_PEFT, "%s: logits are off by %.2e", f.folder.text, error);
    CHECK(fabs(ours - (double)*loss) <= LORA_PEFT * (double)*loss, "%s: loss %.9g, PEFT %.9g", f.folder.text, ours,
          (double)*loss);
    ParamTable t = param_table_adapter(&f.config);
    int grads = 0;
    for (int k = 0; k < f.expected.count; k++) grads += strncmp(f.expected.tensors[k].name, "grad.", 5) == 0;
    CHECK(grads == t.count, "%s: %d gradients of PEFT's, %d of ours", f.folder.text, grads, t.count);
    for (int k = 0; k < t.count; k++) {
        const Param *p = &t.items[k];
        DiskPart part = disk_part(folder_names(p, &f.config), p, &f.config, 0);
        float *theirs = lora_expected(&f, path_of("grad.%s", part.name).text, NULL),
              *own = (float *)mem_alloc(sizeof(float) * p->count);
        if (!theirs) continue;
        model_get(m, MODEL_GRADIENT, p, own, 0);
        error = model_error(own, theirs, p->count);
        CHECK(error <= LORA_PEFT, "%s: the gradient of %s is off by %.2e", f.folder.text, part.name, error);
        free(theirs), free(own);
    }
    // Fifty steps of AdamW, clipped; measured 7e-7, with gcc and clang.
    GroupRule adam = {1e-3, 0.9, 0.95, 1e-8, 0.1};
    UpdateRule rule = update_rule(0, adam, 1);
    model_zero_gradients(m);
    for (size_t s = 0; s < steps; s++) {
        ModelBatch batch = {f.tokens, f.targets, NULL, f.B, f.T};
        model_forward(m, &batch, scale, NULL);
        model_backward(m, true);
        rule.step = (int64_t)s + 1;
        UpdateResult r = model_update(m, &rule);
        CHECK(fabs(r.loss * scale - (double)curve[s]) <= 1e-5 * (double)curve[s],
              "%s: loss of step %zu %.9g, PEFT %.9g", f.folder.text, s + 1, r.loss * scale, (double)curve[s]);
    }
    param_table_free(&t);
    free(want), free(loss), free(curve), free(logits);
    model_destroy(m);
    safetensors_close(&f.expected);
}

// ---------------------------------------------------------------- the step

typedef struct {
    int32_t tokens[26], targets[26];
    float *logits; // (26, V)
} LoraBatch;

static LoraBatch lora_batch(const Config *c) {
    LoraBatch b;
    model_random_ids(b.tokens, 26, c->vocab_size, 1);
    model_random_ids(b.targets, 26, c->vocab_size, 2);
    b.logits = (float *)mem_alloc(sizeof(float) * 26 * (size_t)c->vocab_size);
    return b;
}

static size_t lora_gradients(const Model *m) { return m->shards.gradient_start[m->shards.table.segments]; }

static void lora_check_policies(int family, double dropout) {
    Config c = lora_small_config(family, "all", dropout);
    LoraBatch b = lora_batch(&c);
    const char *what = family_name(family);
    Model *m = model_make(&c, model_shape(RECOMPUTE_NONE, 1, 2, 13, true));
    model_randomise(m, 5);
    model_place(m, 3, 130);
    double loss = model_pass(m, b.tokens, b.targets, 2, 13, 0.1, b.logits);
    size_t n = lora_gradients(m);
    for (int recompute = RECOMPUTE_NONE; recompute <= RECOMPUTE_BLOCK; recompute++)
        for (int threads = 1; threads <= 3; threads += 2) {
            Model *other = model_make(&c, model_shape(recompute, threads, 2 + recompute, 13, true));
            model_randomise(other, 5);
            model_place(other, 3, 130);
            double same = model_pass(other, b.tokens, b.targets, 2, 13, 0.1, NULL);
            CHECK(same == loss && model_same_bits(m->shards.gradients, other->shards.gradients, n),
                  "%s, dropout %g, recompute %d, %d threads: another loss or gradient", what, dropout, recompute,
                  threads);
            model_destroy(other);
        }
    // One sequence a pass: dropout goes by the token's number in the run.
    real *kept = (real *)mem_alloc(sizeof(real) * n);
    memcpy(kept, m->shards.gradients, sizeof(real) * n);
    model_zero_gradients(m);
    double parts = 0;
    for (int i = 0; i < 2; i++) {
        model_place(m, 3, 130 + 13 * i);
        parts += model_pass(m, b.tokens + 13 * i, b.targets + 13 * i, 1, 13, 0.1, NULL);
    }
    double error = model_error_real(m->shards.gradients, kept, n);
    CHECK(error <= MODEL_ORDER && fabs(parts - loss) <= MODEL_ORDER * loss,
          "%s, dropout %g: gradients of micro-batches are off by %.2e", what, dropout, error);
    if (dropout > 0) {
        model_place(m, 4, 130);
        CHECK(model_pass(m, b.tokens, b.targets, 2, 13, 0.1, NULL) != loss, "%s: another seed drops the same", what);
        model_place(m, 3, 0);
        CHECK(model_pass(m, b.tokens, b.targets, 2, 13, 0.1, NULL) != loss, "%s: other tokens drop the same", what);
        Config none = c;
        none.lora.dropout = 0;
        Model *plain = model_make(&none, model_shape(RECOMPUTE_NONE, 1, 2, 13, true));
        model_randomise(plain, 5);
        CHECK(model_pass(m, b.tokens, b.targets, 2, 13, 0, NULL) ==
                  model_pass(plain, b.tokens, b.targets, 2, 13, 0, NULL),
              "%s: an evaluation drops something", what);
        model_destroy(plain);
    }
    model_pass(m, b.tokens, b.targets, 2, 13, 0, b.logits);
    for (int t = 0; t < 13; t++) { // token by token, with a cache
        const float *next = model_decode(m, b.tokens + t, 1, t);
        error = model_error(next, b.logits + (size_t)t * (size_t)c.vocab_size, (size_t)c.vocab_size);
        CHECK(error <= MODEL_LOGITS, "%s: logits of decoding token %d are off by %.2e", what, t, error);
    }
    free(kept), free(b.logits);
    model_destroy(m);
}

// The share that is left out, and what becomes of the rest.
static void lora_check_dropout(void) {
    enum { N = 200, C = 50 };
    real *x = (real *)mem_alloc(sizeof(real) * N * C), *y = (real *)mem_alloc(sizeof(real) * N * C);
    Cpu cpu;
    Error err;
    Adapter a;
    memset(&a, 0, sizeof a);
    CHECK(cpu_open(&cpu, 2, &err), "cpu_open");
    a.N = N, a.C = C, a.dropout = 0.3, a.stream = lora_stream(1, 2, "q");
    int dropped = 0, wrong = 0;
    for (int i = 0; i < N * C; i++) x[i] = (real)(1 + i);
    lora_drop(y, x, &a, false, &cpu);
    for (int i = 0; i < N * C; i++) {
        dropped += y[i] == 0;
        wrong += y[i] != 0 && fabs((double)y[i] * 0.7 / (double)x[i] - 1) > 1e-6;
    }
    // Binomial: 0.3 of 10000, deviation 46.
    CHECK(wrong == 0 && abs(dropped - 3000) < 5 * 46, "dropout of 0.3 leaves out %d of %d; %d are wrong", dropped,
          N * C, wrong);
    // Rows of their own begin where they stand in the run.
    a.token = 150, a.N = N - 150;
    lora_drop(x, x + 150 * C, &a, false, &cpu);
    CHECK(model_same_bits(x, y + 150 * C, (N - 150) * C),
          "token 150 of a run drops something else in a pass of its own");
    free(x), free(y);
    cpu_close(&cpu);
}

// ---------------------------------------------------------------- memory

static void lora_check_memory(int family, const char *targets) {
    Config c = lora_small_config(family, targets, 0), base = config_base(&c);
    c.lora.rank = 16;
    Model *m = model_make(&c, model_shape(RECOMPUTE_NONE, 1, 2, 13, true));
    model_randomise(m, 5);
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_NONE, 1, 2, 13, true));
    ParamTable all = param_table(&c), adapter = param_table_adapter(&c), plain = param_table(&base);
    size_t padded = 0;
    for (int i = 0; i < adapter.count; i++)
        padded += (adapter.items[i].count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
    ModelMemory need = model_memory(&setup);
    const char *what = family_name(family);
    CHECK(all.parameters == plain.parameters + adapter.parameters && all.count == plain.count + adapter.count,
          "%s: %zu parameters with an adapter of %zu on %zu", what, all.parameters, adapter.parameters,
          plain.parameters);
    CHECK(lora_gradients(m) == padded && need.gradients == (double)(sizeof(real) * padded) &&
              need.moments == 2 * (double)(sizeof(real) * padded),
          "%s: %zu gradients, %.0f bytes of them and %.0f of moments are foreseen, expected %zu of the adapter alone",
          what, lora_gradients(m), need.gradients, need.moments, padded);
    for (int k = 0; k < STATE_KINDS; k++)
        CHECK(m->shards.state_start[k][m->shards.table.count] == padded, "%s: %s of more than the adapter", what,
              state_name(k));
    Gradients d = shards_gradients(&m->shards, 0);
    CHECK(!d.wte && !d.norm1_w && !d.qkv_w && !d.proj_w && !d.fc_w && !d.fcproj_w && !d.normf_w && !d.head_w,
          "%s: frozen weights have gradients", what);
    // Three steps leave every bit of the base as it is, and change every matrix of the adapter.
    LoraBatch b = lora_batch(&c);
    real *before = (real *)mem_alloc(sizeof(real) * m->shards.table.elements);
    memcpy(before, m->shards.weights, sizeof(real) * m->shards.table.elements);
    GroupRule adam = {0.01, 0.9, 0.95, 1e-8, 0.3};
    UpdateRule rule = update_rule(0, adam, 1);
    for (rule.step = 1; rule.step <= 3; rule.step++) {
        ModelBatch batch = {b.tokens, b.targets, NULL, 2, 13};
        model_forward(m, &batch, 1.0 / 26, NULL);
        model_backward(m, true);
        CHECK(model_update(m, &rule).updated, "%s: no update", what);
    }
    for (int i = 0; i < m->shards.table.count; i++) {
        const Param *p = &m->shards.table.items[i];
        bool same = model_same_bits(before + p->offset, m->shards.weights + p->offset, p->count);
        CHECK(same == !param_is_adapter(p), "%s: %s %s", what, p->name, same ? "did not move" : "moved");
    }
    free(before), free(b.logits);
    param_table_free(&all), param_table_free(&adapter), param_table_free(&plain);
    model_destroy(m);
}

// What train_gpt in bf16 takes of rank 16 on Qwen3-0.6B: within 1.2 times the base's bytes, activations aside.
static void lora_check_promise(void) {
    Config c = config_of_family(FAMILY_QWEN3);
    c.layers = 28, c.channels = 1024, c.heads = 16, c.kv_heads = 8, c.head_size = 128, c.hidden = 3072;
    c.vocab_size = 151936, c.max_seq_len = 40960;
    Error err;
    Config base = c;
    Lora lora = {16, 0, 0, 32, 0};
    CHECK(lora_targets_named(&lora.targets, &c, "all", &err), "%s", err.text);
    c.lora = lora;
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_BLOCK, 1, 1, 1024, true));
    ParamTable t = param_table(&base);
    ModelMemory m = gpu_model_memory(&setup, 2);
    double bytes = 2 * (double)t.parameters, share = (m.weights + m.gradients + m.moments) / bytes;
    CHECK(share > 1 && share < 1.2, "an adapter takes %.3f times the bytes of its base of %.0f", share, bytes);
    param_table_free(&t);
}

// A new adapter adds nothing, and its A is uniform in Kaiming's bounds, whatever the number of ranks or pieces.
static void lora_check_new(void) {
    Config c = lora_small_config(FAMILY_QWEN3, "all", 0), base = config_base(&c);
    ParamTable t = param_table_adapter(&c);
    Model *m = model_make(&c, model_shape(RECOMPUTE_NONE, 1, 2, 13, true)),
          *plain = model_make(&base, model_shape(RECOMPUTE_NONE, 1, 2, 13, true));
    LoraBatch b = lora_batch(&c);
    model_randomise(m, 5), model_randomise(plain, 5);
    model_init_weights(m, &t, &c, 7);
    CHECK(model_pass(m, b.tokens, b.targets, 2, 13, 0, NULL) == model_pass(plain, b.tokens, b.targets, 2, 13, 0, NULL),
          "a new adapter changes the loss");
    double most = 0, squares = 0, n = 0;
    for (int i = 0; i < t.count; i++) {
        const Param *p = param_find(&m->shards.table, t.items[i].kind, t.items[i].layer);
        const real *w = m->shards.weights + p->offset;
        for (size_t k = 0; k < p->count; k++) {
            double x = (double)w[k] * (p->group == GROUP_LORA_A ? sqrt(p->cols) : 0);
            CHECK(p->group == GROUP_LORA_A || w[k] == 0, "%s is not zero", p->name);
            most = fabs(x) > most ? fabs(x) : most, squares += x * x, n += p->group == GROUP_LORA_A;
        }
    }
    // Uniform in [-1, 1): a mean square of 1/3, with a deviation of 0.3 / sqrt n.
    CHECK(most <= 1 && most > 0.99 && fabs(squares / n - 1.0 / 3) < 1.5 / sqrt(n), "A: largest %g, mean square %g",
          most, squares / n);
    free(b.logits);
    param_table_free(&t);
    model_destroy(m), model_destroy(plain);
}

// ---------------------------------------------------------------- folders

// Writes the adapter of a model as a checkpoint does.
static bool lora_write_folder(const char *folder, Model *m, const Config *c, const char *base, Error *err) {
    ParamTable t = param_table_adapter(c);
    SafeWriter w;
    FileSums sums;
    memset(&sums, 0, sizeof sums);
    bool ok = path_make_folder(folder, err) && adapter_write_config(folder, c, base, &sums, err) &&
              safewriter_open(&w, path_of("%s/" ADAPTER_WEIGHTS, folder).text, err);
    if (ok) {
        disk_declare(&w, &t, 0, t.count, c, "");
        safewriter_begin_data(&w);
        disk_write(&w, m, MODEL_WEIGHT, &t, 0, t.count, c, 0);
        ok = safewriter_commit(&w, err);
    }
    file_sums_free(&sums);
    param_table_free(&t);
    return ok;
}

static void lora_check_folders(int i) {
    LoraFixture f;
    Error err;
    if (!lora_fixture_open(&f, i)) return;
    Model *m = lora_fixture_model(&f, model_shape(RECOMPUTE_NONE, 1, f.B, f.T, false));
    Path folder = test_temp(path_of("adapter.%d", i).text), merged = test_temp(path_of("merged.%d", i).text);
    bool ok = lora_write_folder(folder.text, m, &f.config, f.base.text, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    // Read again: the same adapter, in the same bits.
    LoraFixture g = f;
    g.folder = folder, g.config = config_base(&f.config);
    ok = adapter_read_config(&g.config, folder.text, &err) && adapter_check(&g.config, folder.text, &err);
    CHECK(ok && !adapter_difference(&f.config.lora, &g.config.lora), "%s: %s", folder.text,
          ok ? adapter_difference(&f.config.lora, &g.config.lora) : err.text);
    Model *again = lora_fixture_model(&g, model_shape(RECOMPUTE_NONE, 1, f.B, f.T, false));
    CHECK(model_same_bits(m->shards.weights, again->shards.weights, m->shards.table.elements),
          "%s: other weights after writing and reading", folder.text);
    // Merged = unmerged: a weight is rounded once more.
    size_t n;
    float *logits = lora_expected(&f, "logits", &n), *own = (float *)mem_alloc(sizeof(float) * n);
    model_pass(m, f.tokens, f.targets, f.B, f.T, 0, logits);
    ok = merge_folder(f.base.text, f.folder.text, merged.text, DTYPE_F32, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    Config c;
    ok = ok && folder_read_config(&c, merged.text, &err);
    Model *whole = ok ? model_make(&c, model_shape(RECOMPUTE_NONE, 1, f.B, f.T, false)) : NULL;
    ok = whole && folder_load_weights(whole, &whole->shards.table, &c, merged.text, &err);
    CHECK(ok, "%s: %s", merged.text, ok ? "" : err.text);
    if (ok) {
        model_pass(whole, f.tokens, f.targets, f.B, f.T, 0, own);
        double error = model_error(own, logits, n);
        // A float's rounding of each weight, in both builds (measured 4e-7).
        CHECK(error <= 1e-5, "%s: merged logits are off by %.2e", merged.text, error);
    }
    CHECK_ERROR(merge_folder(f.base.text, f.folder.text, merged.text, DTYPE_F32, &err), "is there");
    CHECK_ERROR(merge_folder(f.base.text, f.folder.text, path_of("%s.q", merged.text).text, DTYPE_Q8_0, &err), "q8_0");
    free(logits), free(own);
    model_destroy(m), model_destroy(again);
    if (whole) model_destroy(whole);
    safetensors_close(&f.expected);
}

// The same tensors, whether the model is merged into a folder and that exported, or on the way to GGUF.
static void lora_check_gguf(void) {
    Error err;
    const char *base = MODEL_FIXTURES "llama-untied", *adapter = LORA_FIXTURES "llama-untied";
    Path folder = test_temp("gguf.merged"), one = test_temp("one.gguf"), two = test_temp("two.gguf"),
         alone = test_temp("alone.gguf");
    bool ok = merge_folder(base, adapter, folder.text, DTYPE_F32, &err) &&
              gguf_export(folder.text, one.text, DTYPE_F32, &err) &&
              gguf_export_merged(base, adapter, two.text, DTYPE_F32, &err) &&
              gguf_export_adapter(base, adapter, alone.text, DTYPE_F32, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    if (!ok) return;
    MappedFile a, b, c;
    ok = file_map(&a, one.text, &err) && file_map(&b, two.text, &err) && file_map(&c, alone.text, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    Config config;
    ok = folder_read_config(&config, base, &err) && adapter_read_config(&config, adapter, &err);
    Config plain = config_base(&config);
    ParamTable t = param_table(&plain), own = param_table_adapter(&config);
    size_t bytes = sizeof(float) * t.parameters, numbers = 0;
    CHECK(a.size > bytes && b.size > bytes && memcmp(a.data + a.size - bytes, b.data + b.size - bytes, bytes) == 0,
          "merging on the way to GGUF gives other numbers than merging first");
    for (int i = 0; i < own.count; i++)
        numbers += (sizeof(float) * own.items[i].count + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
    CHECK(c.size > numbers && c.size < numbers + 8192, "%s has %zu bytes for %zu of numbers", alone.text, c.size,
          numbers);
    // Row 2i + h of a head of B is row i of its half h, as in the base's queries; A is as it is.
    AdapterFile file;
    ok = adapter_open(&file, &plain, base, adapter, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    size_t at = c.size - numbers;
    for (int i = 0; ok && i < own.count; i++) {
        const Param *p = &own.items[i];
        float *values = (float *)mem_alloc(sizeof(float) * p->count);
        ok = adapter_values(values, &file, p->kind, p->layer, &err);
        bool turns = p->kind == PARAM_lora_q_b || p->kind == PARAM_lora_k_b;
        int HS = turns ? config.head_size : p->rows, wrong = 0;
        for (int r = 0; r < p->rows; r++) {
            int in = r % HS, source = turns ? r - in + in % 2 * (HS / 2) + in / 2 : r;
            wrong += memcmp(c.data + at + sizeof(float) * (size_t)(r * p->cols), values + source * p->cols,
                            sizeof(float) * (size_t)p->cols) != 0;
        }
        CHECK(!wrong, "%s: %d rows are not those that llama.cpp expects", p->name, wrong);
        at += (sizeof(float) * p->count + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
        free(values);
    }
    if (ok) adapter_close(&file);
    param_table_free(&t), param_table_free(&own);
    file_unmap(&a), file_unmap(&b), file_unmap(&c);
}

// What is said of adapter_config.json with `changed` in place of `member`.
static void lora_check_refusal(const char *member, const char *changed, const char *said) {
    static const char good[] = "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"r\": 4, \"lora_alpha\": 8, "
                               "\"bias\": \"none\", \"target_modules\": [\"q_proj\", \"v_proj\"], \"use_dora\": false, "
                               "\"modules_to_save\": null, \"rank_pattern\": {}, \"lora_dropout\": 0.1}";
    Error err;
    JsonDoc doc;
    Config c = model_small_config(FAMILY_LLAMA, 1, 8, true);
    Str s;
    memset(&s, 0, sizeof s);
    const char *at = strstr(good, member);
    str_add(&s, good, (size_t)(at - good));
    str_puts(&s, changed);
    str_puts(&s, at + strlen(member));
    const Json *root = json_parse(&doc, s.data, s.size, &err);
    CHECK(root != NULL, "%s", s.data);
    if (*said) CHECK_ERROR(adapter_parse_config(&c, root, &err), said);
    else CHECK(adapter_parse_config(&c, root, &err) && c.lora.rank == 4, "%s: %s", s.data, err.text);
    json_free(&doc);
    free(s.data);
}

static void lora_check_refusals(void) {
    lora_check_refusal("}, \"lora", "}, \"lora", "");
    lora_check_refusal("false, \"mod", "true, \"mod", "\"use_dora\"");
    lora_check_refusal("null", "[\"lm_head\"]", "\"modules_to_save\"");
    lora_check_refusal("\"none\"", "\"lora_only\"", "\"bias\"");
    lora_check_refusal("\"LORA\"", "\"IA3\"", "\"peft_type\"");
    lora_check_refusal("\"CAUSAL_LM\"", "\"SEQ_CLS\"", "\"task_type\"");
    lora_check_refusal("{}", "{\"q_proj\": 8}", "\"rank_pattern\"");
    lora_check_refusal("\"v_proj\"", "\"lm_head\"", "\"lm_head\"");
    lora_check_refusal("[\"q_proj\", \"v_proj\"]", "[]", "\"target_modules\" is empty");
    lora_check_refusal("[\"q_proj\", \"v_proj\"]", "\"c_attn\"", "self_attn.q_proj");
    lora_check_refusal("[\"q_proj\", \"v_proj\"]", "\"o_proj\"", "");
    lora_check_refusal("\"r\": 4", "\"r\": 0", "\"r\"");
    lora_check_refusal("\"lora_alpha\": 8", "\"lora_alpha\": \"8\"", "\"lora_alpha\"");
    lora_check_refusal("0.1", "1.0", "\"lora_dropout\"");
    lora_check_refusal("0.1", "0.1, \"init_lora_weights\": \"pissa\"", "\"init_lora_weights\"");
    lora_check_refusal("0.1", "0.1, \"layers_to_transform\": [1]", "\"layers_to_transform\"");
    lora_check_refusal("0.1", "0.1, \"init_lora_weights\": \"gaussian\"", "");
    // Names of targets.
    Error err;
    unsigned all, some;
    Config gpt2 = model_small_config(FAMILY_GPT2, 3, 8, true), llama = model_small_config(FAMILY_LLAMA, 1, 8, true);
    CHECK(lora_targets_named(&all, &gpt2, "all", &err) &&
              lora_targets_named(&some, &gpt2, "c_proj,c_attn,c_fc", &err) && all == some &&
              all == (1u << LORA_qkv | 1u << LORA_o | 1u << LORA_up | 1u << LORA_down),
          "gpt2: all is %x, its names are %x", all, some);
    CHECK(lora_targets_named(&some, &gpt2, "attn.c_proj", &err) && some == 1u << LORA_o, "attn.c_proj is %x", some);
    CHECK(lora_targets_named(&some, &llama, "attention", &err) &&
              some == (1u << LORA_q | 1u << LORA_k | 1u << LORA_v | 1u << LORA_o),
          "llama: attention is %x", some);
    CHECK(lora_targets_named(&some, &llama, "mlp", &err) && some == (1u << LORA_gate | 1u << LORA_up | 1u << LORA_down),
          "llama: mlp is %x", some);
    CHECK_ERROR(lora_targets_named(&some, &llama, "q_proj,c_attn", &err), "\"c_attn\"");
    CHECK_ERROR(lora_targets_named(&some, &llama, "", &err), "no module");
    // Of another base: by its shapes, by its tensors, by its hash.
    LoraFixture f;
    if (!lora_fixture_open(&f, 2)) return;
    Config other = f.config;
    other.hidden++;
    CHECK_ERROR(adapter_check(&other, f.folder.text, &err), "has the shape");
    other = f.config, other.layers = 3;
    CHECK_ERROR(adapter_check(&other, f.folder.text, &err), "layers.2");
    other = f.config, other.layers = 1;
    CHECK_ERROR(adapter_check(&other, f.folder.text, &err), "has no place");
    other = f.config, other.lora.targets &= ~(1u << LORA_q);
    CHECK_ERROR(adapter_check(&other, f.folder.text, &err), "q_proj");
    uint64_t one, two;
    CHECK(adapter_base(&one, MODEL_FIXTURES "llama-untied", &err) &&
              adapter_base(&two, MODEL_FIXTURES "llama-tied-bf16", &err) && one != two,
          "two bases have one hash");
    safetensors_close(&f.expected);
}

#ifdef REAL_DOUBLE
static void lora_finite_differences(void) {
    for (int family = 0; family < FAMILY_KINDS; family++)
        for (int i = 0; i < 3; i++) {
            static const char *const sets[] = {"all", "attention", "mlp"};
            Config c = lora_small_config(family, sets[i], i == 0 ? 0.4 : 0);
            c.lora.rs = i == 1;
            c.lora.alpha = 1.5; // with random weights a larger one bends the loss too much for differences of this size
            Path what = path_of("%s, adapter of %s", family_name(family), sets[i]);
            fd_config(what.text, c, i, i != 1, i == 2);
        }
}
#endif

static void test_lora(void) {
    for (int i = 0; i < LORA_FIXTURE_COUNT; i++) lora_check_fixture(i), lora_check_folders(i);
    for (int family = 0; family < FAMILY_KINDS; family++) {
        lora_check_policies(family, 0);
        lora_check_policies(family, 0.4);
        lora_check_memory(family, "all");
    }
    lora_check_memory(FAMILY_LLAMA, "q_proj");
    lora_check_dropout();
    lora_check_new();
    lora_check_promise();
    lora_check_gguf();
    lora_check_refusals();
#ifdef REAL_DOUBLE
    lora_finite_differences();
#endif
}

#endif
