/*
model_test.h: the model of train_gpt_cpu.c against PyTorch, against itself, against finite differences.

  fixtures           loss, logits and every gradient of the folders in dev/test/fixtures/models, which
                     PyTorch computed in float64 (README.md there); through the files' names and layouts
  against itself     recompute policies, threads, capacity, chunks of the head: the same bits where the
                     order of sums is the same; micro-batches; model_decode against model_forward
  backward           gradients of activations that are kept change nothing, and times the layer's input they are the
                     gradients of its weights
  halved             weights as bf16 alone: what comes out, and the same bits as floats of these values
  shards             what is frozen, and how parts of a segment are dealt out
  update             clipping and AdamW with decay on matrices only, against the formula in double
  folders            what config.json and tensors may look like, and what is refused
  finite differences only with -DREAL_DOUBLE: all parameter tensors of all families

To be included after train_gpt_cpu.c (with LLMC_NO_MAIN), whose struct Model it looks into, and run
from the repository's root.

Tolerances, all on the relative L2 error |a - b| / |b|; measured: the largest on AVX-512.
  MODEL_PYTORCH   float: 1e-5, some ten times what PyTorch itself in float32 is off from the expected
                  values, and far below what any mistake in a formula gives (measured 1.7e-6). double:
                  expected values and ours both end as floats; they differ only where a value lies
                  within 1e-15 of the middle between two floats, which is rare, and then by 6e-8 of
                  one element (measured 4e-16).
  MODEL_ORDER     the same sums in another order: some eps in each of a few hundred additions, which
                  partly cancel (measured 1.4e-7 and 5e-16).
*/
#ifndef MODEL_TEST_H
#define MODEL_TEST_H

#include "../../llmc/files/huggingface.h"
#include "../../llmc/base/rng.h"
#include "check.h"
#include "kernels_test.h"

#define MODEL_FIXTURES "dev/test/fixtures/models/"
#ifdef REAL_DOUBLE
#define MODEL_PYTORCH 1e-8
#define MODEL_ORDER 1e-12
#else
#define MODEL_PYTORCH 1e-5
#define MODEL_ORDER 1e-6
#endif
// Logits come as floats, and those of one token alone have larger relative errors than a batch of them.
#define MODEL_LOGITS MODEL_PYTORCH

// ---------------------------------------------------------------- helpers

static const Dist model_test_dist = {0, 1, 0, 1, "", NULL, false, NULL, {0, 0}};

// |a - b| / |b|; what is not a number comes out as infinity.
static double model_error(const float *a, const float *b, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    double e = sqrt(difference) / (sqrt(size) + 1e-30);
    return isfinite(e) ? e : INFINITY;
}

static double model_error_real(const real *a, const real *b, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    double e = sqrt(difference) / (sqrt(size) + 1e-30);
    return isfinite(e) ? e : INFINITY;
}

static bool model_same_bits(const real *a, const real *b, size_t n) { return memcmp(a, b, sizeof(real) * n) == 0; }

typedef struct {
    int recompute, threads, batch_size, seq_len;
    bool gradients;
} ModelShape;

static ModelShape model_shape(int recompute, int threads, int batch_size, int seq_len, bool gradients) {
    ModelShape s;
    s.recompute = recompute, s.threads = threads, s.batch_size = batch_size, s.seq_len = seq_len,
    s.gradients = gradients;
    return s;
}

static ModelSetup model_setup(const Config *c, ModelShape shape) {
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.config = *c;
    setup.batch_size = shape.batch_size, setup.seq_len = shape.seq_len;
    setup.recompute = shape.recompute;
    setup.precision = PRECISION_FP32;
    setup.threads = shape.threads;
    setup.gradients = shape.gradients;
    setup.dist = &model_test_dist;
    return setup;
}

static Model *model_make_of(const ModelSetup *setup) {
    Error err;
    Model *m = model_create(setup, &err);
    CHECK(m != NULL, "model_create: %s", m ? "" : err.text);
    return m;
}

static Model *model_make(const Config *c, ModelShape shape) {
    ModelSetup setup = model_setup(c, shape);
    return model_make_of(&setup);
}

// A config of 24 channels and 3 heads whose sizes divide nothing.
static Config model_small_config(int family, int kv_heads, int head_size, bool tied) {
    Config c = config_of_family(family);
    c.vocab_size = 67, c.channels = 24, c.layers = 2, c.heads = 3, c.kv_heads = kv_heads, c.head_size = head_size;
    c.hidden = 37, c.max_seq_len = 13, c.tied = tied;
    if (family_of(family)->unrotated_step) layers_add(&c.unrotated, 1);
    return c;
}

// Rotary positions that begin to be scaled at a third of a small model's length.
static void model_scale_rope(Config *c, RopeScaling scaling) {
    config_unscale(c);
    c->rope_scaling = scaling;
    if (scaling == ROPE_PLAIN) return;
    c->rope_factor = 10.0 / 3;
    if (scaling == ROPE_LINEAR || scaling == ROPE_DYNAMIC) return;
    c->rope_original = 5, c->rope_slow = 1.0 / 7, c->rope_fast = 2.0 / 3;
    if (scaling == ROPE_YARN) c->rope_attention = 1.1, c->rope_between = 1;
}

// Numbers of the gradient.
static size_t model_gradients(const Model *m) { return m->shards.gradient_start[m->shards.table.segments]; }

// All weights random, but for constants; norms around one and biases too, so that no term is hidden by a zero or a one.
static void model_randomise(Model *m, uint64_t seed) {
    for (int i = 0; i < m->shards.table.count; i++) {
        const Param *p = &m->shards.table.items[i];
        RngStream s = rng_stream(seed, p->name);
        real *w = m->shards.weights + p->offset;
        float fixed[2];
        if (p->init == INIT_XIELU_FIXED) {
            param_init(fixed, p, &m->config, seed, 0, 2);
            w[0] = (real)fixed[0], w[1] = (real)fixed[1];
#ifdef REAL_DOUBLE
            w[1] = 0; // finite differences want no step in the function, which eps makes
#endif
            continue;
        }
        for (size_t j = 0; j < p->count; j++) {
            float four[4];
            rng_normal4(s, j / 4, four);
            w[j] = (p->init == INIT_ONE ? (real)1 : (real)0) + (real)0.25 * (real)four[j % 4];
        }
#ifdef REAL_DOUBLE // nor one in its second derivative, which is 2 p above 0 and n below
        if (p->init == INIT_XIELU) w[1] = log(expm1(2 * log1p(exp(w[0])) - 0.5));
#endif
    }
}

static void model_random_ids(int32_t *ids, int n, int V, uint64_t seed) {
    RngStream s = rng_stream(seed, "ids");
    for (int i = 0; i < n; i++) {
        float four[4];
        rng_normal4(s, (uint64_t)i, four);
        ids[i] = (int32_t)fmod(fabs((double)four[0]) * 1e4, V);
    }
}

static void model_pass_forward(Model *m, const int32_t *tokens, const int32_t *targets, int B, int T, double scale,
                               float *logits) {
    ModelBatch batch = {tokens, targets, NULL, B, T};
    model_forward(m, &batch, scale, logits);
}
// One pass over a batch; the gradient is that of scale times the sum of losses. Returns that sum.
static double model_pass_of(Model *m, ModelBatch batch, double scale, float *logits) {
    model_forward(m, &batch, scale, logits);
    if (scale != 0) model_backward(m, true);
    return model_loss(m);
}
static double model_pass(Model *m, const int32_t *tokens, const int32_t *targets, int B, int T, double scale,
                         float *logits) {
    ModelBatch batch = {tokens, targets, NULL, B, T};
    return model_pass_of(m, batch, scale, logits);
}

// ---------------------------------------------------------------- fixtures

typedef struct {
    Path folder;
    Config config;
    SafeTensors expected;
    int B, T;
    int32_t *tokens, *targets; // (B, T)
    float *logits;             // (B, T, V), expected
    float loss;
} ModelFixture;

static bool fixture_open(ModelFixture *f, const char *name) {
    Error err;
    memset(f, 0, sizeof *f);
    f->folder = path_of(MODEL_FIXTURES "%s", name);
    bool ok = folder_read_config(&f->config, f->folder.text, &err);
    CHECK(ok, "%s: %s", name, ok ? "" : err.text);
    if (!ok) return false;
    Path path = path_of("%s/expected.safetensors", f->folder.text);
    ok = safetensors_open(&f->expected, path.text, &err);
    CHECK(ok, "%s: %s", name, ok ? "" : err.text);
    if (!ok) return false;
    const SafeTensor *tokens = safetensors_find(&f->expected, "tokens"),
                     *targets = safetensors_find(&f->expected, "targets");
    const SafeTensor *logits = safetensors_find(&f->expected, "logits"), *loss = safetensors_find(&f->expected, "loss");
    ok = tokens && targets && logits && loss && tokens->dtype == ST_I32 && targets->dtype == ST_I32 &&
         tokens->ndim == 2 && logits->ndim == 3 && logits->shape[2] == f->config.vocab_size;
    CHECK(ok, "%s: tokens, targets, loss or logits are missing or have another shape", path.text);
    if (!ok) return false;
    f->B = (int)tokens->shape[0], f->T = (int)tokens->shape[1];
    f->tokens = (int32_t *)mem_alloc(tokens->bytes);
    f->targets = (int32_t *)mem_alloc(targets->bytes);
    f->logits = (float *)mem_alloc(logits->bytes);
    memcpy(f->tokens, tokens->data, tokens->bytes);
    memcpy(f->targets, targets->data, targets->bytes);
    ok = safetensors_to_f32(f->logits, logits, 0, logits->elements, &err) &&
         safetensors_to_f32(&f->loss, loss, 0, 1, &err);
    CHECK(ok, "%s: %s", path.text, ok ? "" : err.text);
    return ok;
}

static void fixture_close(ModelFixture *f) {
    safetensors_close(&f->expected);
    free(f->tokens);
    free(f->targets);
    free(f->logits);
}

static Model *fixture_model(const ModelFixture *f, ModelShape shape) {
    Error err;
    Model *m = model_make(&f->config, shape);
    if (!m) return NULL;
    bool ok = folder_load_weights(m, &m->shards.table, &f->config, f->folder.text, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    return m;
}

// Writes the gradients as `dump` does, reads them back, and compares each with PyTorch's.
static void fixture_check_gradients(const ModelFixture *f, Model *m) {
    Error err;
    Path path = test_temp("gradients.safetensors");
    SafeWriter w;
    bool ok = safewriter_open(&w, path.text, &err);
    if (ok) {
        disk_declare(&w, &m->shards.table, 0, m->shards.table.count, &f->config, "grad.");
        safewriter_begin_data(&w);
        disk_write(&w, m, MODEL_GRADIENT, &m->shards.table, 0, m->shards.table.count, &f->config, 0);
        ok = safewriter_commit(&w, &err);
    }
    SafeTensors ours;
    ok = ok && safetensors_open(&ours, path.text, &err);
    CHECK(ok, "%s: %s", f->folder.text, ok ? "" : err.text);
    if (!ok) return;
    int compared = 0, constants = 0;
    for (int i = 0; i < m->shards.table.count; i++) {
        const Param *p = &m->shards.table.items[i];
        if (!p->trained) constants += disk_count(folder_names(p, &f->config), &f->config);
    }
    for (int i = 0; i < f->expected.count; i++) {
        const SafeTensor *e = &f->expected.tensors[i];
        if (strncmp(e->name, "grad.", 5) != 0) continue;
        const SafeTensor *o = safetensors_find(&ours, e->name);
        bool shape = o && o->ndim == e->ndim && memcmp(o->shape, e->shape, sizeof e->shape[0] * (size_t)e->ndim) == 0;
        CHECK(shape, "%s: %s is missing or has another shape than PyTorch's", f->folder.text, e->name);
        if (!shape) continue;
        float *a = (float *)mem_alloc(sizeof(float) * (size_t)o->elements),
              *b = (float *)mem_alloc(sizeof(float) * (size_t)o->elements);
        ok = safetensors_to_f32(a, o, 0, o->elements, &err) && safetensors_to_f32(b, e, 0, o->elements, &err);
        double error = ok ? model_error(a, b, (size_t)o->elements) : INFINITY;
        CHECK(error <= MODEL_PYTORCH, "%s: %s is off by %.2e (relative L2), allowed %.2e", f->folder.text, e->name,
              error, MODEL_PYTORCH);
        compared++;
        free(a);
        free(b);
    }
    CHECK(compared == ours.count - constants, "%s: %d gradients in the file, %d of them in PyTorch's", f->folder.text,
          ours.count, compared);
    safetensors_close(&ours);
}

static void fixture_check(const char *name) {
    ModelFixture f;
    if (!fixture_open(&f, name)) return;
    int B = f.B, T = f.T, V = f.config.vocab_size;
    double scale = 1.0 / (B * T);
    size_t logits_count = (size_t)B * (size_t)T * (size_t)V;
    float *logits = (float *)mem_alloc(sizeof(float) * logits_count),
          *again = (float *)mem_alloc(sizeof(float) * logits_count);

    // 1. against PyTorch
    Model *m = fixture_model(&f, model_shape(RECOMPUTE_NONE, 1, B, T, true));
    if (!m) return;
    double loss = model_pass(m, f.tokens, f.targets, B, T, scale, logits);
    double error = fabs((double)(float)(loss * scale) - (double)f.loss) / (double)f.loss; // a float on both sides
    CHECK(error <= MODEL_PYTORCH, "%s: loss %.9g, PyTorch %.9g", name, loss * scale, (double)f.loss);
    error = model_error(logits, f.logits, logits_count);
    CHECK(error <= MODEL_PYTORCH, "%s: logits are off by %.2e (relative L2), allowed %.2e", name, error, MODEL_PYTORCH);
    fixture_check_gradients(&f, m);

    // 2. the same bits, however it is computed: what is recomputed, by how many threads, with how much
    // room (and so other offsets), with what earlier passes left in the activations
    size_t elements = model_gradients(m);
    for (int recompute = RECOMPUTE_NONE; recompute <= RECOMPUTE_BLOCK; recompute++)
        for (int threads = 1; threads <= 3; threads += 2) {
            int room = f.config.max_seq_len < T + 4 ? f.config.max_seq_len : T + 4;
            Model *n = fixture_model(&f, model_shape(recompute, threads, B + recompute, room, true));
            model_pass(n, f.targets, f.tokens, B, T - 1, scale, NULL);
            model_zero_gradients(n);
            double same = model_pass(n, f.tokens, f.targets, B, T, scale, again);
            CHECK(same == loss && memcmp(logits, again, sizeof(float) * logits_count) == 0,
                  "%s: recompute %d, %d threads: another loss or logits", name, recompute, threads);
            CHECK(model_same_bits(n->shards.gradients, m->shards.gradients, elements),
                  "%s: recompute %d, %d threads: other gradients", name, recompute, threads);
            model_destroy(n);
        }

    // 3. without gradients: the same loss, and none are touched where there are some
    Model *eval = fixture_model(&f, model_shape(RECOMPUTE_NONE, 2, B, T, false));
    CHECK(model_pass(eval, f.tokens, f.targets, B, T, 0, NULL) == loss, "%s: another loss without gradients", name);
    model_destroy(eval);
    real *kept = (real *)mem_alloc(sizeof(real) * elements);
    memcpy(kept, m->shards.gradients, sizeof(real) * elements);
    CHECK(model_pass(m, f.tokens, f.targets, B, T, 0, NULL) == loss, "%s: another loss in evaluation", name);
    CHECK(model_same_bits(kept, m->shards.gradients, elements), "%s: evaluation changed gradients", name);

    // 4. the head in chunks of 7 rows, which do not divide B T, as a large vocabulary gives them
    m->logits_rows = 7;
    model_zero_gradients(m);
    double chunked = model_pass(m, f.tokens, f.targets, B, T, scale, again);
    CHECK(fabs(chunked - loss) <= MODEL_ORDER * loss, "%s: loss %.9g in chunks, %.9g at once", name, chunked, loss);
    error = model_error(again, logits, logits_count);
    CHECK(error <= MODEL_LOGITS, "%s: logits in chunks are off by %.2e", name, error);
    error = model_error_real(m->shards.gradients, kept, elements);
    CHECK(error <= MODEL_ORDER, "%s: gradients of a head in chunks are off by %.2e", name, error);
    m->logits_rows = B * T;

    // 5. accumulation: one sequence a pass, and everything twice
    model_zero_gradients(m);
    double parts = 0;
    for (int b = 0; b < B; b++) parts += model_pass(m, f.tokens + b * T, f.targets + b * T, 1, T, scale, NULL);
    CHECK(fabs(parts - loss) <= MODEL_ORDER * loss, "%s: loss %.9g in micro-batches, %.9g at once", name, parts, loss);
    for (int i = 0; i < m->shards.table.count; i++) {
        const Param *p = &m->shards.table.items[i];
        if (!p->trained) continue;
        const real *g = shards_gradient_at(&m->shards, p->segment, p->offset);
        error = model_error_real(g, kept + (g - m->shards.gradients), p->count);
        CHECK(error <= MODEL_ORDER, "%s: the gradient of %s from micro-batches is off by %.2e", name, p->name, error);
    }
    model_pass_forward(m, f.tokens, f.targets, B, T, -2 * scale, NULL);
    model_backward(m, false);
    model_pass_forward(m, f.tokens, f.targets, B, T, 2 * scale, NULL);
    model_backward(m, true);
    double twice = model_loss(m);
    CHECK(fabs(twice - 2 * loss) <= 1e-12 * loss, "%s: loss of two passes %.9g, expected %.9g", name, twice, 2 * loss);
    for (int i = 0; i < m->shards.table.count; i++) {
        const Param *p = &m->shards.table.items[i];
        if (!p->trained) continue;
        const real *g = shards_gradient_at(&m->shards, p->segment, p->offset);
        error = model_error_real(g, kept + (g - m->shards.gradients), p->count);
        CHECK(error <= 2 * MODEL_ORDER, "%s: %s after adding and taking away a gradient is off by %.2e", name, p->name,
              error);
    }

    // 6. targets of -1: every second one; then all of the second sequence, which is as if it were not there
    const real *losses = activations_of(m, 0).losses; // (B, T), of the last pass, which was unmasked
    int32_t *masked = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)(B * T));
    double rest = 0;
    for (int i = 0; i < B * T; i++) {
        masked[i] = i % 2 ? -1 : f.targets[i];
        rest += i % 2 ? 0 : (double)losses[i];
    }
    model_zero_gradients(m);
    CHECK(model_pass(m, f.tokens, masked, B, T, scale, NULL) == rest,
          "%s: the loss with every second target ignored is not the sum of the others", name);
    for (int i = 0; i < B * T; i++) masked[i] = i < T ? f.targets[i] : -1;
    model_zero_gradients(m);
    model_pass(m, f.tokens, masked, B, T, scale, NULL);
    memcpy(kept, m->shards.gradients, sizeof(real) * elements);
    model_zero_gradients(m);
    model_pass(m, f.tokens, f.targets, 1, T, scale, NULL);
    error = model_error_real(kept, m->shards.gradients, elements);
    CHECK(error <= MODEL_ORDER, "%s: with a sequence ignored, gradients are off by %.2e from those without it", name,
          error);
    free(masked);

    // 7. model_decode: token by token, in chunks, from the start again
    for (int gradients = 0; gradients < 2; gradients++) {
        Model *d = fixture_model(&f, model_shape(RECOMPUTE_CHEAP, 2, 1, T, gradients != 0));
        for (int b = 0; b < B; b++)
            for (int chunk = 1; chunk <= T; chunk += chunk == 1 ? 3 : 9)
                for (int t = 0; t < T; t += chunk) {
                    int n = t + chunk < T ? chunk : T - t;
                    const float *next = model_decode(d, f.tokens + b * T + t, n, t);
                    error = model_error(next, logits + (size_t)(b * T + t + n - 1) * (size_t)V, (size_t)V);
                    CHECK(error <= MODEL_LOGITS, "%s: logits of decoding %d tokens at %d are off by %.2e", name, n, t,
                          error);
                }
        model_destroy(d);
    }
    free(kept);
    free(logits);
    free(again);
    model_destroy(m);
    fixture_close(&f);
}

// ---------------------------------------------------------------- gradients of activations

// dW (OC, C) against dY^T X, with dY (N, OC) and X (N, C) as model_get_activation(_gradient) gave them.
static void kept_check(const char *what, Model *m, const Param *p, const float *dy, const float *x, int N) {
    double *want = (double *)mem_alloc(sizeof(double) * p->count), difference = 0, size = 0;
    const real *dw = shards_gradient_at(&m->shards, p->segment, p->offset);
    for (int n = 0; n < N; n++)
        for (int o = 0; o < p->rows; o++)
            for (int c = 0; c < p->cols; c++)
                want[o * p->cols + c] += (double)dy[n * p->rows + o] * (double)x[n * p->cols + c];
    for (size_t i = 0; i < p->count; i++) difference += pow((double)dw[i] - want[i], 2), size += want[i] * want[i];
    // Sums of 26 products of numbers that were rounded to float on their way here: some 1e-7.
    double error = sqrt(difference) / (sqrt(size) + 1e-30);
    CHECK(error <= 1e-6, "%s: the gradient of %s is %.2e away from dY^T X", what, p->name, error);
    free(want);
}

static void kept_case(const char *what, Config c) {
    enum { B = 2, T = 13, N = B * T };
    static const struct {
        int weight, gradient, input;
    } layers[] = {{PARAM_qkv_w, ACT_qkv, ACT_norm1},
                  {PARAM_proj_w, ACT_residual1, ACT_attention},
                  {PARAM_fc_w, ACT_fc, ACT_norm2},
                  {PARAM_fcproj_w, ACT_residual2, ACT_mlp}};
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_NONE, 1, B, T, true));
    Model *plain = model_make_of(&setup);
    setup.keep_backward = true;
    Model *m = model_make_of(&setup);
    if (!m || !plain) return;
    CHECK(m->backs.bytes > plain->backs.bytes, "%s: kept gradients take %zu bytes, shared ones %zu", what,
          m->backs.bytes, plain->backs.bytes);
    int32_t tokens[N], targets[N];
    model_random_ids(tokens, N, c.vocab_size, 1);
    model_random_ids(targets, N, c.vocab_size, 2);
    size_t most = (size_t)N * (size_t)(config_fc(&c) + config_qkv(&c) + c.vocab_size);
    float *dy = (float *)mem_alloc(sizeof(float) * most), *x = (float *)mem_alloc(sizeof(float) * most),
          *logits = (float *)mem_alloc(sizeof(float) * most);
    model_randomise(m, 5);
    model_randomise(plain, 5);
    model_pass(plain, tokens, targets, B, T, 1.0 / N, NULL);
    model_pass(m, tokens, targets, B, T, 1.0 / N, logits);
    CHECK(model_same_bits(m->shards.gradients, plain->shards.gradients, model_gradients(m)),
          "%s: keeping the activations' gradients changes those of the weights", what);
    CHECK(!model_get_activation_gradient(plain, ACT_fc, 0, dy), "%s: a gradient that was not kept is given out", what);
    CHECK(!model_get_activation_gradient(m, ACT_norm1_rstd, 0, dy), "%s: a statistic has a gradient", what);
    for (int layer = 0; layer < c.layers; layer++)
        for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
            const Param *p = param_find(&m->shards.table, layers[i].weight, layer);
            bool got = model_get_activation_gradient(m, layers[i].gradient, layer, dy) &&
                       model_get_activation(m, layers[i].input, layer, x);
            CHECK(got, "%s: %s: no gradient of its output, or no input", what, p->name);
            if (got) kept_check(what, m, p, dy, x, N);
        }
    // The head: the gradient of its logits is (softmax - onehot) / N.
    for (int n = 0; n < N; n++) {
        double sum = 0;
        int V = c.vocab_size;
        for (int v = 0; v < V; v++) sum += exp((double)logits[n * V + v]);
        for (int v = 0; v < V; v++)
            dy[n * V + v] = (float)((exp((double)logits[n * V + v]) / sum - (v == targets[n])) / N);
    }
    model_get_activation(m, ACT_normf, 0, x);
    const Param *head = param_find(&m->shards.table, PARAM_head_w, -1);
    kept_check(what, m, head, dy, x, N);
    // And that of normf, on through the head.
    model_get_activation_gradient(m, ACT_normf, 0, x);
    for (int n = 0; n < N; n++)
        for (int k = 0; k < c.channels; k++) {
            double sum = 0;
            for (int v = 0; v < c.vocab_size; v++)
                sum += (double)dy[n * c.vocab_size + v] *
                       (double)m->shards.weights[head->offset + (size_t)(v * c.channels + k)];
            logits[n * c.channels + k] = (float)sum;
        }
    double error = model_error(x, logits, (size_t)N * (size_t)c.channels);
    CHECK(error <= 1e-5, "%s: the gradient of normf is off by %.2e", what, error);
    // Of the embedding: summed by token it is the gradient of wte.
    const Param *wte = param_find(&m->shards.table, PARAM_wte, -1);
    float *sums = (float *)mem_alloc(sizeof(float) * wte->count);
    model_get_activation_gradient(m, ACT_embedding, 0, x);
    for (int n = 0; n < N; n++)
        for (int k = 0; k < c.channels; k++) sums[tokens[n] * c.channels + k] += x[n * c.channels + k];
    model_get(m, MODEL_GRADIENT, wte, logits, 0);
    error = model_error(logits, sums, wte->count);
    CHECK(error <= 1e-6, "%s: the gradient of wte is %.2e away from that of the embedding", what, error);
    free(dy), free(x), free(logits), free(sums);
    model_destroy(m);
    model_destroy(plain);
}

// ---------------------------------------------------------------- weights as bf16

#ifndef REAL_DOUBLE
// A model that nothing trains, in bf16, has rounded matrices and tables, and computes to the bit what one that is
// trained computes with the same weights as floats: token by token, a prompt at once, and a whole batch.
static void halved_case(const char *what, Config c) {
    enum { B = 2, T = 13, N = B * T };
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_CHEAP, 2, B, T, false));
    double fp32 = model_memory(&setup).weights;
    setup.precision = PRECISION_BF16, setup.kernels = KERNELS_EMULATED;
    double bf16 = model_memory(&setup).weights;
    Model *m = model_make_of(&setup);
    setup.gradients = true;
    Model *floats = model_make_of(&setup);
    if (!m || !floats) return;
    const ParamTable *t = &m->shards.table;
    double numbers = 0;
    for (int i = 0; i < t->count; i++) {
        const Param *p = &t->items[i];
        float *values = kernel_random(p->count, (uint64_t)i), *got = kernel_garbage(p->count);
        for (size_t j = 0; j < p->count; j++) values[j] = (p->init == INIT_ONE ? 1.0f : 0.0f) + 0.4f * values[j];
        bool vector = p->group == GROUP_VECTOR;
        numbers += (double)p->count * (vector ? sizeof(float) : sizeof(uint16_t));
        size_t cut = p->count / 3; // in pieces, as from a file
        Param first = param_piece(p, 0, cut), rest = param_piece(p, cut, p->count - cut);
        model_set(m, MODEL_WEIGHT, &rest, values + cut);
        model_set(m, MODEL_WEIGHT, &first, values);
        model_get(m, MODEL_WEIGHT, p, got, 0);
        int wrong = 0;
        for (size_t j = 0; j < p->count; j++)
            wrong += (double)got[j] != (vector ? (double)values[j] : plain_bf16((double)values[j]));
        CHECK(wrong == 0, "%s: %s: %d of %zu weights come out wrong", what, p->name, wrong, p->count);
        model_get(m, MODEL_WEIGHT, &rest, values, 0);
        CHECK(memcmp(values, got + cut, sizeof(float) * rest.count) == 0, "%s: %s: a piece is another", what, p->name);
        model_set(floats, MODEL_WEIGHT, p, got);
        free(values), free(got);
    }
    CHECK(numbers <= bf16 && bf16 < fp32 && bf16 <= numbers * 1.02 + 512.0 * t->count,
          "%s: %.0f bytes of weights for numbers of %.0f; in fp32 %.0f", what, bf16, numbers, fp32);
    int32_t tokens[N], targets[N];
    model_random_ids(tokens, N, c.vocab_size, 1), model_random_ids(targets, N, c.vocab_size, 2);
    size_t V = (size_t)c.vocab_size;
    float *last = kernel_garbage(V), *logits = kernel_garbage(2 * N * V);
    for (int at = 0, n = 7; at + n <= T; at += n, n = 1) { // a prompt, then tokens
        memcpy(last, model_decode(floats, tokens + at, n, at), sizeof(float) * V);
        CHECK(memcmp(last, model_decode(m, tokens + at, n, at), sizeof(float) * V) == 0,
              "%s: other logits at position %d", what, at + n - 1);
    }
    model_pass_forward(m, tokens, targets, B, T, 0, logits);
    model_pass_forward(floats, tokens, targets, B, T, 0, logits + N * V);
    double loss[2] = {model_loss(m), model_loss(floats)};
    CHECK(isfinite(loss[0]) && loss[0] == loss[1] && memcmp(logits, logits + N * V, sizeof(float) * N * V) == 0,
          "%s: loss %.9g with weights in bf16, %.9g with floats of these values", what, loss[0], loss[1]);
    free(last), free(logits);
    model_destroy(m), model_destroy(floats);
}
#endif

static void test_model_halved(void) {
#ifndef REAL_DOUBLE
    halved_case("gpt2", model_small_config(FAMILY_GPT2, 3, 8, true));
    halved_case("llama", model_small_config(FAMILY_LLAMA, 1, 8, false));
    halved_case("qwen3", model_small_config(FAMILY_QWEN3, 3, 10, true));
#endif
}

// ---------------------------------------------------------------- shards

// Tensors that are frozen do not move, and the others' gradients do not notice.
static void frozen_case(const char *what, Config c, const int *kinds, int count) {
    enum { B = 2, T = 13, N = B * T };
    bool frozen[PARAM_KINDS] = {false};
    for (int i = 0; i < count; i++) frozen[kinds[i]] = true;
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_CHEAP, 1, B, T, true));
    Model *all = model_make_of(&setup);
    setup.frozen = frozen;
    Model *m = model_make_of(&setup);
    if (!m || !all) return;
    int32_t tokens[N], targets[N];
    model_random_ids(tokens, N, c.vocab_size, 1);
    model_random_ids(targets, N, c.vocab_size, 2);
    const ParamTable *t = &all->shards.table;
    size_t trained = 0;
    float *a = (float *)mem_alloc(sizeof(float) * t->elements), *b = (float *)mem_alloc(sizeof(float) * t->elements),
          *start = (float *)mem_alloc(sizeof(float) * t->elements);
    model_randomise(all, 5);
    for (int i = 0; i < t->count; i++) { // by the table of all: places differ
        const Param *p = &t->items[i];
        model_get(all, MODEL_WEIGHT, p, start + p->offset, 0);
        model_set(all, MODEL_WEIGHT, p, start + p->offset); // as floats
        model_set(m, MODEL_WEIGHT, p, start + p->offset);
        trained += frozen[p->kind] || !p->trained ? 0 : (p->count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
    }
    int segments = t->segments;
    CHECK(m->shards.gradient_start[segments] == trained && m->shards.state_start[0][t->count] == trained &&
              trained < t->elements,
          "%s: %zu gradients and %zu moments for %zu trained numbers of %zu", what, m->shards.gradient_start[segments],
          m->shards.state_start[0][t->count], trained, t->elements);
    GroupRule adam = {0.01, 0.9, 0.95, 1e-8, 0.3};
    UpdateRule rule = update_rule(1, adam, 0); // without clipping, since the norm is another
    for (int turn = 0; turn < 2; turn++) {
        double loss = model_pass(all, tokens, targets, B, T, 1.0 / N, NULL);
        CHECK(turn > 0 || model_pass(m, tokens, targets, B, T, 1.0 / N, NULL) == loss, "%s: another loss", what);
        for (int i = 0; i < t->count && turn == 0; i++) {
            const Param *p = &t->items[i];
            model_get(all, MODEL_GRADIENT, p, a, 0);
            model_get(m, MODEL_GRADIENT, p, b, 0);
            if (frozen[p->kind]) memset(a, 0, sizeof(float) * p->count);
            CHECK(memcmp(a, b, sizeof(float) * p->count) == 0, "%s: %s has another gradient", what, p->name);
            CHECK(model_keeps(m, MODEL_STATE + STATE_moment2, p) == (p->trained && !frozen[p->kind]) &&
                      model_keeps(m, MODEL_WEIGHT, p),
                  "%s: %s: state that is kept, or weights that are not", what, p->name);
        }
        if (turn == 0) model_update(all, &rule), model_update(m, &rule);
    }
    for (int i = 0; i < t->count; i++) {
        const Param *p = &t->items[i];
        model_get(all, MODEL_WEIGHT, p, a, 0);
        model_get(m, MODEL_WEIGHT, p, b, 0);
        if (frozen[p->kind]) memcpy(a, start + p->offset, sizeof(float) * p->count);
        CHECK(memcmp(a, b, sizeof(float) * p->count) == 0, "%s: %s after an update: %s", what, p->name,
              frozen[p->kind] ? "moved" : "not as without frozen tensors");
        model_get(all, MODEL_STATE + STATE_moment2, p, a, 0);
        model_get(m, MODEL_STATE + STATE_moment2, p, b, 0);
        if (frozen[p->kind]) memset(a, 0, sizeof(float) * p->count);
        CHECK(memcmp(a, b, sizeof(float) * p->count) == 0, "%s: %s has another second moment", what, p->name);
    }
    free(a), free(b), free(start);
    model_destroy(m);
    model_destroy(all);
}

// Parts follow one another, hold every trained element once and nothing that is frozen; whole tensors stay whole.
static void deal_case(Config c, const bool *frozen, int deal, int ranks) {
    Cpu cpu;
    Error err;
    Shards s;
    Dist dist = model_test_dist;
    dist.size = ranks, dist.rank = ranks - 1;
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_NONE, 1, 1, 13, true));
    setup.dist = &dist, setup.zero = 1, setup.frozen = frozen;
    bool opened = cpu_open(&cpu, 1, &err);
    CHECK(opened, "cpu_open: %s", opened ? "" : err.text);
    shards_open(&s, &setup, deal, &cpu);
    for (int segment = 0; segment < s.table.segments; segment++) {
        const Range *parts = shards_parts(&s, segment);
        size_t n = s.table.segment_trained[segment] - s.table.segment_start[segment], at = 0, largest = 0;
        for (int rank = 0; rank < ranks; at += parts[rank++].count)
            CHECK((parts[rank].first == at || deal == SHARDS_TENSORS) && parts[rank].first % PARAM_ALIGN == 0,
                  "segment %d: rank %d begins at %zu, expected %zu", segment, rank, parts[rank].first, at);
        CHECK(at == n, "segment %d: %zu of %zu elements are dealt out", segment, at, n);
        for (int i = 0; i < s.table.count; i++) {
            const Param *p = &s.table.items[i];
            size_t owners = 0, owned = 0;
            for (int rank = 0; rank < ranks && p->segment == segment; rank++) {
                size_t part = overlap(p, shards_owned(&s, segment, rank)).count;
                owners += part > 0, owned += part;
            }
            if (p->segment != segment) continue;
            CHECK(owned == (p->trained ? p->count : 0) && (deal == SHARDS_RANGES || owners == p->trained),
                  "%s: %zu of %zu elements have one of %zu owners", p->name, owned, p->count, owners);
            if (p->trained && p->count > largest) largest = p->count;
        }
        for (int rank = 0; rank < ranks; rank++) // within a tensor of an equal share
            CHECK(parts[rank].count <= n / (size_t)ranks + (deal == SHARDS_RANGES ? 0 : largest) + PARAM_ALIGN,
                  "segment %d: rank %d has %zu of %zu elements", segment, rank, parts[rank].count, n);
    }
    shards_close(&s);
    cpu_close(&cpu);
}

static void test_model_shards(void) {
    static const int norms[] = {PARAM_norm1_w, PARAM_norm2_w, PARAM_normf_w, PARAM_qnorm_w, PARAM_wte};
    static const int matrices[] = {PARAM_qkv_w, PARAM_fcproj_w, PARAM_proj_b, PARAM_wpe, PARAM_head_w};
    static const int most[] = {PARAM_wte,     PARAM_wpe,     PARAM_norm1_w, PARAM_norm1_b, PARAM_qkv_b,
                               PARAM_knorm_w, PARAM_proj_w,  PARAM_norm2_w, PARAM_fc_w,    PARAM_fcproj_b,
                               PARAM_normf_w, PARAM_normf_b, PARAM_head_w};
    static const struct {
        const int *kinds;
        int count;
    } sets[] = {{norms, 5}, {matrices, 5}, {most, 13}};
    for (int family = 0; family < FAMILY_KINDS; family++) {
        Config tied = model_small_config(family, family == FAMILY_GPT2 ? 3 : 1, 8, true),
               untied = model_small_config(family, family == FAMILY_GPT2 ? 3 : 1, 8, false);
        kept_case(family_of(family)->name, untied);
        for (int i = 0; i < 3; i++) {
            bool frozen[PARAM_KINDS] = {false};
            for (int k = 0; k < sets[i].count; k++) frozen[sets[i].kinds[k]] = true;
            frozen_case(family_of(family)->name, i % 2 ? untied : tied, sets[i].kinds, sets[i].count);
            for (int ranks = 1; ranks <= 7; ranks++)
                for (int deal = SHARDS_RANGES; deal <= SHARDS_TENSORS; deal++)
                    deal_case(untied, i ? frozen : NULL, deal, ranks);
        }
    }
    int deal;
    Error err;
    setenv("LLMC_SHARDS", "halves", 1);
    CHECK_ERROR(shards_deal(&deal, OPTIMIZER_ADAMW, &err), "LLMC_SHARDS=halves");
    unsetenv("LLMC_SHARDS");
}

// ---------------------------------------------------------------- update

static void test_model_update(void) {
    Config c = model_small_config(FAMILY_GPT2, 3, 8, false);
    Model *m = model_make(&c, model_shape(RECOMPUTE_NONE, 2, 2, 13, true));
    if (!m) return;
    model_randomise(m, 5);
    int32_t tokens[26], targets[26];
    model_random_ids(tokens, 26, c.vocab_size, 1);
    model_random_ids(targets, 26, c.vocab_size, 2);
    size_t n = m->shards.table.elements;
    double *w = (double *)mem_alloc(sizeof(double) * n), *m1 = (double *)mem_alloc(sizeof(double) * n),
           *m2 = (double *)mem_alloc(sizeof(double) * n);
    real *start = (real *)mem_alloc(sizeof(real) * n);
    memcpy(start, m->shards.weights, sizeof(real) * n);
    for (size_t i = 0; i < n; i++) w[i] = (double)m->shards.weights[i];
    const GroupRule adam = {0.01, 0.9, 0.95, 1e-8, 0.3};
    UpdateRule rule = update_rule(0, adam, 0);
    for (int step = 1; step <= 3; step++) {
        double loss = 0, squares = 0;
        model_pass_forward(m, tokens, targets, 2, 13, 1.0 / 26, NULL);
        model_backward(m, true);
        for (int i = 0; i < 26; i++) loss += (double)activations_of(m, 0).losses[i];
        for (size_t i = 0; i < n; i++) squares += (double)m->shards.gradients[i] * (double)m->shards.gradients[i];
        rule.step = step;
        rule.grad_clip = step == 1   ? 0
                         : step == 2 ? sqrt(squares) * 2
                                     : sqrt(squares) / 2; // off, too high to matter, halving
        double clip = step == 3 ? 0.5 : 1;
        for (int k = 0; k < m->shards.table.count; k++) {
            const Param *p = &m->shards.table.items[k];
            for (size_t i = p->offset; i < p->offset + p->count; i++) {
                double g = (double)m->shards.gradients[i] * clip;
                m1[i] = adam.beta1 * m1[i] + (1 - adam.beta1) * g;
                m2[i] = adam.beta2 * m2[i] + (1 - adam.beta2) * g * g;
                double mean = m1[i] / (1 - pow(adam.beta1, step)), square = m2[i] / (1 - pow(adam.beta2, step));
                w[i] -= adam.lr * (mean / (sqrt(square) + adam.eps) + (p->is_vector ? 0 : adam.weight_decay) * w[i]);
            }
        }
        UpdateResult r = model_update(m, &rule);
        CHECK(r.updated && fabs(r.loss - loss) <= 1e-12 * loss, "update %d: loss %.9g, expected %.9g", step, r.loss,
              loss);
        // Half of sum_of_squares's bound: 6 roundings of a positive number.
        CHECK(fabs(r.grad_norm - sqrt(squares)) <= (sizeof(real) == 4 ? 3 * 5.97e-8 : 1e-12) * sqrt(squares),
              "update %d: gradient norm %.9g, expected %.9g", step, r.grad_norm, sqrt(squares));
        for (size_t i = 0; i < n; i++)
            if (m->shards.gradients[i] != 0) {
                CHECK(false, "update %d left gradients behind", step);
                break;
            }
    }
    // A weight of 0.25 rounds by 2^-26 in float and has moved by about 0.03: some 1e-6 of the movement.
    for (int k = 0; k < m->shards.table.count; k++) {
        const Param *p = &m->shards.table.items[k];
        double difference = 0, moved = 0;
        for (size_t i = p->offset; i < p->offset + p->count; i++) {
            difference += pow((double)m->shards.weights[i] - w[i], 2);
            moved += pow(w[i] - (double)start[i], 2);
        }
        double error = sqrt(difference / moved), allowed = sizeof(real) == 4 ? 1e-5 : 1e-12;
        CHECK(error <= allowed, "three updates of %s are off by %.2e of the movement, allowed %.0e", p->name, error,
              allowed);
    }
    // What is not finite touches nothing.
    real *moments = (real *)mem_alloc(sizeof(real) * n);
    for (int where = 0; where < 2; where++) {
        model_pass_forward(m, tokens, targets, 2, 13, 1.0 / 26, NULL);
        model_backward(m, true);
        if (where) m->shards.gradients[param_find(&m->shards.table, PARAM_fc_b, 1)->offset] = (real)NAN;
        else m->loss = INFINITY;
        memcpy(start, m->shards.weights, sizeof(real) * n);
        memcpy(moments, m->shards.state[STATE_moment1], sizeof(real) * n);
        UpdateResult r = model_update(m, &rule);
        CHECK(!r.updated && model_same_bits(start, m->shards.weights, n) &&
                  model_same_bits(moments, m->shards.state[STATE_moment1], n),
              "an update went ahead with a %s that is not finite", where ? "gradient" : "loss");
        model_zero_gradients(m);
    }
    free(moments);
    free(start);
    free(w);
    free(m1);
    free(m2);
    model_destroy(m);
}

// A step of Muon in a model, without decay: what each of its matrices moves by is orthogonal, queries, keys and
// values each for itself; all others move as with AdamW.
static void test_model_muon(int family) {
    Config c = model_small_config(family, family == FAMILY_GPT2 ? 3 : 1, 8, false);
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_NONE, 2, 2, 13, true));
    Model *adam = model_make_of(&setup);
    setup.muon = (MuonRule){OPTIMIZER_MUON, MUON_SCALE_RMS, MUON_POLAR, 12, 0.95, 0, true, false};
    Model *m = model_make_of(&setup), *both[2] = {adam, m};
    if (!adam || !m) return;
    int32_t tokens[26], targets[26];
    model_random_ids(tokens, 26, c.vocab_size, 1);
    model_random_ids(targets, 26, c.vocab_size, 2);
    UpdateRule rule = update_rule(1, (GroupRule){0.01, 0.9, 0.95, 1e-8, 0}, 0);
    real *start = (real *)mem_alloc(sizeof(real) * m->shards.table.elements);
    for (int k = 0; k < 2; k++) {
        model_randomise(both[k], 5);
        memcpy(start, both[k]->shards.weights, sizeof(real) * m->shards.table.elements);
        model_pass_forward(both[k], tokens, targets, 2, 13, 1.0 / 26, NULL);
        model_backward(both[k], true);
        CHECK(model_update(both[k], &rule).updated, "no update");
    }
    for (int k = 0; k < m->shards.table.count; k++) {
        const Param *p = &m->shards.table.items[k];
        const real *w = m->shards.weights + p->offset;
        if (p->is_vector || p->layer < 0) {
            CHECK(model_same_bits(w, adam->shards.weights + p->offset, p->count), "%s does not move as with AdamW",
                  p->name);
            continue;
        }
        int starts[4], n = param_matrices(starts, p, &c), expected = p->kind == PARAM_qkv_w ? 3 : 1;
        if (p->kind == PARAM_fc_w && c.gated) expected = 2;
        CHECK(n == expected && starts[n] == p->rows, "%s is %d matrices, expected %d", p->name, n, expected);
        for (int j = 0; j < n; j++) {
            int rows = starts[j + 1] - starts[j];
            double step = 0.01 * 0.2 * sqrt(rows > p->cols ? rows : p->cols), squares = 0;
            for (int i = starts[j] * p->cols; i < starts[j + 1] * p->cols; i++)
                squares += pow((double)(w[i] - start[p->offset + (size_t)i]) / step, 2);
            // As many singular values as the smaller side is long, near 1; a gradient of 26 tokens may lack some.
            double full = rows < p->cols ? rows : p->cols, most = 26 < full ? 26 : full;
            CHECK(squares > 0.8 * most * 0.9 && squares < 1.15 * most, "%s, matrix %d: squares add up to %g of %g",
                  p->name, j, squares, most);
        }
    }
    free(start);
    model_destroy(m);
    model_destroy(adam);
}

// ---------------------------------------------------------------- folders

static Path folder_with_config(const char *name, const char *config) {
    Error err;
    Path folder = test_temp(name);
    bool ok = path_make_folder(folder.text, &err);
    Path path = path_of("%s/config.json", folder.text);
    ok = ok && file_write_all(path.text, config, strlen(config), &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    return folder;
}

static bool config_of_text(Config *c, const char *config, Error *err) {
    Path folder = folder_with_config("config", config);
    return folder_read_config(c, folder.text, err);
}

#define LLAMA_TEXT                                                                                                     \
    "\"model_type\": \"llama\", \"vocab_size\": 99, \"hidden_size\": 24, \"intermediate_size\": 40, "                  \
    "\"num_hidden_layers\": 1, "                                                                                       \
    "\"num_attention_heads\": 3, \"max_position_embeddings\": 32"
#define GPT2_TEXT                                                                                                      \
    "\"model_type\": \"gpt2\", \"vocab_size\": 99, \"n_embd\": 24, \"n_layer\": 1, \"n_head\": 3, \"n_positions\": 32"

static void test_model_configs(void) {
    Config c;
    Error err;
    bool ok =
        config_of_text(&c,
                       "{" LLAMA_TEXT ", \"head_dim\": null, \"num_key_value_heads\": null, \"rope_scaling\": null}",
                       &err);
    CHECK(ok && c.head_size == 8 && c.kv_heads == 3 && !c.tied && c.rope_theta == 10000 && c.norm_eps == 1e-6,
          "defaults of LlamaConfig: %s", ok ? "" : err.text);
    ok = config_of_text(&c,
                        "{" LLAMA_TEXT
                        ", \"attention_bias\": true, \"mlp_bias\": true, \"rope_theta\": 5e5, \"rms_norm_eps\": 1e-5}",
                        &err);
    CHECK(ok && c.bias && c.rope_theta == 5e5 && c.norm_eps == 1e-5, "llama with biases: %s", ok ? "" : err.text);
    ok = config_of_text(&c, "{" GPT2_TEXT "}", &err);
    CHECK(ok && c.tied && c.hidden == 96 && c.norm_eps == 1e-5 && !c.rope, "defaults of GPT2Config: %s",
          ok ? "" : err.text);

    ok = config_of_text(&c, "{\"model_type\": \"gpt2\", \"n_ctx\": 77}", &err);
    CHECK(ok && c.max_seq_len == 77, "n_ctx, the older name: %s", ok ? "" : err.text);
    // What nothing but a model_type means: the defaults of the classes of Transformers.
    static const struct {
        const char *text;
        int sizes[8]; // V, T, C, L, NH, NKV, HS, F
    } classes[] = {{"{\"model_type\": \"gpt2\"}", {50257, 1024, 768, 12, 12, 12, 64, 3072}},
                   {"{\"model_type\": \"llama\"}", {32000, 2048, 4096, 32, 32, 32, 128, 11008}},
                   {"{\"model_type\": \"qwen3\"}", {151936, 32768, 4096, 32, 32, 32, 128, 22016}},
                   {"{\"model_type\": \"qwen2\"}", {151936, 32768, 4096, 32, 32, 32, 128, 22016}},
                   {"{\"model_type\": \"mistral\", \"sliding_window\": null}",
                    {32000, 131072, 4096, 32, 32, 8, 128, 14336}},
                   {"{\"model_type\": \"smollm3\"}", {128256, 32768, 2048, 36, 16, 4, 128, 11008}},
                   {"{\"model_type\": \"apertus\"}", {131072, 65536, 4096, 32, 32, 32, 128, 14336}}};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        ok = config_of_text(&c, classes[i].text, &err);
        int found[8] = {c.vocab_size, c.max_seq_len, c.channels, c.layers, c.heads, c.kv_heads, c.head_size, c.hidden};
        CHECK(ok && memcmp(found, classes[i].sizes, sizeof found) == 0 && c.init_std == 0.02 &&
                  c.tied == (i == 0 || i == 5) && c.bias == (i == 0) && c.norm_eps == (i % 6 ? 1e-6 : 1e-5),
              "defaults of %s: %s", classes[i].text, ok ? "other sizes" : err.text);
    }
    CHECK(c.rope_scaling == ROPE_LLAMA3 && c.rope_factor == 8 && c.rope_original == 8192 && c.rope_slow == 1 &&
              c.rope_fast == 4 && c.rope_theta == 12e6,
          "the rotary positions of ApertusConfig");
    // What its class takes for granted is gone where something else is said; what two Transformers read in two ways is
    // not guessed.
    ok = config_of_text(&c,
                        "{\"model_type\": \"apertus\", \"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": "
                        "\"linear\", \"factor\": 2.0}, \"qk_norm\": true}",
                        &err);
    CHECK(ok && c.rope_scaling == ROPE_LINEAR && c.rope_factor == 2 && !c.rope_original && c.rope_theta == 5e5,
          "apertus, scaled otherwise: %s", ok ? "" : err.text);
    static const char *const ambiguous[] = {"\"rope_theta\": 12000000.0", "\"rope_scaling\": null"};
    for (int i = 0; i < 2; i++)
        CHECK_ERROR(config_of_text(&c, path_of("{\"model_type\": \"apertus\", %s}", ambiguous[i]).text, &err),
                    "say \"rope_parameters\"");
    CHECK_ERROR(config_of_text(&c, "{\"model_type\": \"apertus\", \"qk_norm\": false}", &err), "\"qk_norm\" is false");
    ok = config_of_text(&c,
                        "{\"model_type\": \"apertus\", \"rope_parameters\": {\"rope_type\": \"default\", "
                        "\"rope_theta\": 12000000.0}, \"rope_scaling\": null}",
                        &err);
    CHECK(ok && c.rope_scaling == ROPE_PLAIN && !c.rope_factor, "apertus, not scaled: %s", ok ? "" : err.text);
    Config plain = c;
    model_scale_rope(&c, ROPE_DYNAMIC);
    for (int i = 0; i < c.head_size / 2; i++)
        CHECK(rope_frequency(&c, i) == rope_frequency(&plain, i), "dynamic scaling within a model's length, pair %d",
              i);
    // Windows: which layers have one, whatever says so, and what is written says the same.
    static const struct {
        const char *text;
        int window;
        const char *whole, *unrotated; // layers
    } windows[] = {
        {"{\"model_type\": \"mistral\"}", 4096, "[]", "[]"},
        {"{\"model_type\": \"mistral\", \"sliding_window\": 9}", 9, "[]", "[]"},
        {"{\"model_type\": \"mistral\", \"sliding_window\": 131072}", 0, "[]", "[]"},
        {"{\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"num_hidden_layers\": 30, \"max_window_layers\": "
         "3}",
         4096, "[0, 1, 2]", "[]"},
        {"{\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"num_hidden_layers\": 28}", 0, "[]", "[]"},
        {"{\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"sliding_window\": null}", 0, "[]", "[]"},
        {"{\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"max_window_layers\": 32}", 0, "[]", "[]"},
        {"{\"model_type\": \"qwen3\", \"sliding_window\": 9}", 0, "[]", "[]"},
        {"{\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"sliding_window\": 9, \"num_hidden_layers\": 6, "
         "\"layer_types\": [\"sliding_attention\", \"sliding_attention\", \"full_attention\", \"sliding_attention\", "
         "\"sliding_attention\", \"full_attention\"]}",
         9, "[2, 5]", "[]"},
        {"{\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"sliding_window\": 9, \"num_hidden_layers\": 5, "
         "\"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\", \"full_attention\", "
         "\"sliding_attention\"]}",
         9, "[0, 2, 3]", "[]"},
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 9}", 0, "[]", "[3, 7]"},
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 3}", 0, "[]", "[]"},
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 5, \"no_rope_layer_interval\": 2}", 0, "[]", "[1, 3]"},
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 5, \"no_rope_layer_interval\": 4, "
         "\"no_rope_layers\": [0, 1, 1, 0, 1, 0]}",
         0, "[]", "[0, 3]"},
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 9, \"use_sliding_window\": true, \"sliding_window\": 9}",
         9, "[0, 1, 2, 4, 5, 6, 8]", "[3, 7]"},
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 2, \"use_sliding_window\": true, \"sliding_window\": 9, "
         "\"layer_types\": [\"sliding_attention\", \"full_attention\"]}",
         9, "[1]", "[]"},
        {"{\"model_type\": \"smollm3\", \"use_sliding_window\": true}", 0, "[]", "[3, 7, 11, 15, 19, 23, 27, 31, 35]"},
        {"{\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"sliding_window\": 9, \"num_hidden_layers\": 3, "
         "\"layer_types\": [\"full_attention\", \"full_attention\", \"sliding_attention\"], \"max_window_layers\": 1}",
         9, "[0, 1]", "[]"}};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        Config back;
        Path folder = test_temp("windows");
        CHECK(path_make_folder(folder.text, &err), "%s", err.text);
        ok = config_of_text(&c, windows[i].text, &err);
        Str lists;
        memset(&lists, 0, sizeof lists);
        if (ok)
            layers_list(&lists, &c.whole, c.layers), str_puts(&lists, " "), layers_list(&lists, &c.unrotated, c.layers);
        Path want = path_of("%s %s", windows[i].whole, windows[i].unrotated);
        CHECK(ok && c.window == windows[i].window && strcmp(lists.data, want.text) == 0, "%s: window %d, not in %s: %s",
              windows[i].text, c.window, lists.data ? lists.data : "", ok ? "" : err.text);
        free(lists.data);
        ok = folder_write_config(folder.text, &c, NULL, NULL, &err) && folder_read_config(&back, folder.text, &err);
        CHECK(ok && !config_difference(&c, &back), "%s: not as written: %s", windows[i].text, ok ? "" : err.text);
    }
    CHECK_ERROR(config_of_text(&c, "{\"model_type\": \"mixtral\"}", &err), "mixtral");
    CHECK_ERROR(config_of_text(&c, "{}", &err), "model_type");
    CHECK_ERROR(config_of_text(&c, "{" LLAMA_TEXT ", \"hidden_act\": \"gelu\"}", &err), "hidden_act");
    CHECK_ERROR(config_of_text(&c, "{" LLAMA_TEXT ", \"attention_bias\": true}", &err), "attention_bias");
    CHECK_ERROR(config_of_text(&c, "{" LLAMA_TEXT ", \"num_key_value_heads\": 2}", &err), "key/value");
    CHECK_ERROR(config_of_text(&c, "{" LLAMA_TEXT ", \"head_dim\": 7}", &err), "even");
    CHECK_ERROR(config_of_text(&c, "{" GPT2_TEXT ", \"activation_function\": \"gelu\"}", &err), "activation_function");
    CHECK_ERROR(config_of_text(&c, "{" GPT2_TEXT ", \"scale_attn_weights\": false}", &err), "scale_attn_weights");
    CHECK_ERROR(config_of_text(&c, "{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_head\": 5}", &err), "divide");
    CHECK_ERROR(config_of_text(&c, "{\"model_type\": \"gpt2\", \"n_head\": 0}", &err), "\"n_head\" is 0");
    CHECK_ERROR(folder_read_config(&c, test_temp("no_folder").text, &err), "config.json");
}

// Writes the fixture gpt2 again with other names: `from` in a name becomes `to`, one tensor is left
// out, one is added.
static Path folder_renamed(const char *from, const char *to, const char *without, const char *with) {
    Error err;
    SafeTensors st;
    Path folder = test_temp("renamed"), path = path_of("%s/model.safetensors", folder.text);
    bool ok = path_make_folder(folder.text, &err) && safetensors_open(&st, MODEL_FIXTURES "gpt2", &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    if (!ok) return folder;
    SafeWriter w;
    ok = safewriter_open(&w, path.text, &err);
    int64_t one[4] = {1, 1, 1, 1};
    for (int pass = 0; ok && pass < 2; pass++) {
        if (pass) safewriter_begin_data(&w);
        for (int i = 0; i < st.count; i++) {
            const SafeTensor *t = &st.tensors[i];
            if (without && strcmp(t->name, without) == 0) continue;
            const char *at = strncmp(t->name, from, strlen(from)) == 0 ? t->name + strlen(from) : NULL;
            Path name = at ? path_of("%s%s", to, at) : path_of("%s", t->name);
            if (pass) safewriter_data(&w, t->data, t->bytes);
            else safewriter_declare(&w, name.text, t->dtype, t->ndim, t->shape);
        }
        float zero = 0;
        if (with && pass) safewriter_data(&w, &zero, sizeof zero);
        else if (with) safewriter_declare(&w, with, ST_F32, 4, one);
    }
    ok = ok && safewriter_commit(&w, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    safetensors_close(&st);
    return folder;
}

// The fixture gpt2 with a head of its own in the file: the embedding, as `type`, with `add` on its last number and
// `rows` more rows.
static Path folder_with_head(SafeType type, float add, int rows) {
    Error err;
    SafeTensors st;
    Path folder = test_temp("with_head"), path = path_of("%s/model.safetensors", folder.text);
    bool ok = path_make_folder(folder.text, &err) && safetensors_open(&st, MODEL_FIXTURES "gpt2", &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    if (!ok) return folder;
    SafeWriter w;
    const SafeTensor *wte = safetensors_find(&st, "transformer.wte.weight");
    int64_t shape[2] = {wte->shape[0] + rows, wte->shape[1]}, n = shape[0] * shape[1];
    float *head = (float *)mem_alloc(sizeof(float) * (size_t)n);
    double *wide = (double *)mem_alloc(sizeof(double) * (size_t)n);
    ok = safewriter_open(&w, path.text, &err) && safetensors_to_f32(head, wte, 0, wte->elements, &err);
    head[wte->elements - 1] += add;
    for (int64_t i = 0; i < n; i++) wide[i] = (double)head[i];
    for (int pass = 0; ok && pass < 2; pass++) {
        if (pass) safewriter_begin_data(&w);
        for (int i = 0; i < st.count; i++) {
            const SafeTensor *t = &st.tensors[i];
            if (pass) safewriter_data(&w, t->data, t->bytes);
            else safewriter_declare(&w, t->name, t->dtype, t->ndim, t->shape);
        }
        if (!pass) safewriter_declare(&w, "lm_head.weight", type, 2, shape);
        else if (type == ST_F32) safewriter_data(&w, head, sizeof(float) * (size_t)n);
        else safewriter_data(&w, wide, sizeof(double) * (size_t)n);
    }
    ok = ok && safewriter_commit(&w, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    free(head);
    free(wide);
    safetensors_close(&st);
    return folder;
}

static void test_model_folders(void) {
    ModelFixture f;
    if (!fixture_open(&f, "gpt2")) return;
    Error err;
    Model *m = fixture_model(&f, model_shape(RECOMPUTE_NONE, 1, 1, 2, false)),
          *n = model_make(&f.config, model_shape(RECOMPUTE_NONE, 1, 1, 2, false));
    if (m && n) {
        const ParamTable *t = &n->shards.table;
        size_t bytes = sizeof(real) * t->elements;
        // Names as the bare GPT2Model saves them, with a mask that no parameter is.
        Path folder = folder_renamed("transformer.", "", NULL, "h.0.attn.bias");
        bool ok = folder_load_weights(n, t, &f.config, folder.text, &err);
        CHECK(ok && memcmp(m->shards.weights, n->shards.weights, bytes) == 0, "a bare model's names: %s",
              ok ? "other weights" : err.text);
        // A copy of the tied embedding under the head's name changes nothing.
        for (int type = ST_F32; type <= ST_F64; type++) {
            folder = folder_with_head((SafeType)type, 0, 0);
            ok = folder_load_weights(n, t, &f.config, folder.text, &err);
            CHECK(ok && memcmp(m->shards.weights, n->shards.weights, bytes) == 0, "a stored copy of a tied head: %s",
                  ok ? "other weights" : err.text);
            // A head that is none: Transformers would take it for one, against its config.
            folder = folder_with_head((SafeType)type, 1e-3f, 0);
            CHECK_ERROR(folder_load_weights(n, t, &f.config, folder.text, &err), "lm_head.weight is not the embedding");
            folder = folder_with_head((SafeType)type, 0, 2);
            CHECK_ERROR(folder_check_weights(&f.config, folder.text, &err), "lm_head.weight is not the embedding");
        }
        folder = folder_renamed("x", "x", NULL, "other.lm_head.weight");
        CHECK_ERROR(folder_check_weights(&f.config, folder.text, &err), "other.lm_head.weight has no place");
        folder = folder_renamed("x", "x", "transformer.h.1.mlp.c_fc.bias", NULL);
        CHECK_ERROR(folder_load_weights(n, t, &f.config, folder.text, &err), "transformer.h.1.mlp.c_fc.bias");
        folder = folder_renamed("x", "x", NULL, "transformer.h.2.ln_1.weight");
        CHECK_ERROR(folder_load_weights(n, t, &f.config, folder.text, &err), "transformer.h.2.ln_1.weight");
        Config other = f.config;
        other.hidden = 95;
        Model *wrong = model_make(&other, model_shape(RECOMPUTE_NONE, 1, 1, 2, false));
        CHECK_ERROR(folder_load_weights(wrong, &wrong->shards.table, &other, f.folder.text, &err), "(24, 95)");
        model_destroy(wrong);
    }
    model_destroy(m);
    model_destroy(n);
    fixture_close(&f);

    // What we write, we read: config and weights, bit for bit.
    for (int family = 0; family < FAMILY_KINDS; family++)
        for (int tied = 0; tied < 2; tied++) {
            Config c = model_small_config(family, family == FAMILY_GPT2 ? 3 : 1, family == FAMILY_GPT2 ? 8 : 10,
                                          tied != 0),
                   back;
            c.rope_theta = family == FAMILY_GPT2 ? c.rope_theta : 123456.0;
            model_scale_rope(&c, family == FAMILY_GPT2 ? ROPE_PLAIN : 1 + (family + tied) % 4);
            Model *a = model_make(&c, model_shape(RECOMPUTE_NONE, 1, 1, 2, false)),
                  *b = model_make(&c, model_shape(RECOMPUTE_NONE, 1, 1, 2, false));
            model_randomise(a, 3);
            Path folder = test_temp("written"), path = path_of("%s/model.safetensors", folder.text);
            SafeWriter w;
            bool ok = path_make_folder(folder.text, &err) && folder_write_config(folder.text, &c, NULL, NULL, &err) &&
                      safewriter_open(&w, path.text, &err);
            if (ok) {
                disk_declare(&w, &a->shards.table, 0, a->shards.table.count, &c, "");
                safewriter_begin_data(&w);
                disk_write(&w, a, MODEL_WEIGHT, &a->shards.table, 0, a->shards.table.count, &c, 0);
                ok = safewriter_commit(&w, &err);
            }
            ok = ok && folder_read_config(&back, folder.text, &err) &&
                 folder_load_weights(b, &b->shards.table, &back, folder.text, &err);
            CHECK(ok, "%s written and read back: %s", family_name(family), ok ? "" : err.text);
            const char *other = ok ? config_difference(&c, &back) : NULL;
            CHECK(ok && !other && c.norm_eps == back.norm_eps && c.rope_theta == back.rope_theta &&
                      c.init_std == back.init_std,
                  "%s: another config came back (%s)", family_name(family), other ? other : "a real number");
            CHECK(model_same_bits(a->shards.weights, b->shards.weights, a->shards.table.elements) || sizeof(real) == 8,
                  "%s: other weights came back", family_name(family));
            model_destroy(a);
            model_destroy(b);
        }
}

// ---------------------------------------------------------------- finite differences

#ifdef REAL_DOUBLE

enum { FD_T = 13, FD_PASSES = 2, FD_PAIRS = 3 };

typedef struct {
    Model *m;
    int passes; // micro-batches of 2 and of 1 sequences
    int32_t tokens[FD_PASSES][2 * FD_T], targets[FD_PASSES][2 * FD_T], starts[2 * FD_T];
    bool documents;  // rows hold several
    bool drops;      // the loss has dropout, which passes of training alone have
    PairBatch pairs; // of both rows, of which the first FD_PAIRS - 1 lie in the first; rule OBJECTIVE_NEXT: none are
} FiniteDifference;

static double fd_loss(FiniteDifference *f, double scale) {
    double loss = 0;
    for (int i = 0; i < f->passes; i++) {
        ModelBatch batch = {f->tokens[i], f->targets[i], f->documents ? f->starts : NULL, 2 - i, FD_T};
        PairBatch pairs = f->pairs;
        pairs.count -= i;
        if (pairs.count) model_pairs(f->m, &pairs);
        loss += model_pass_of(f->m, batch, pairs.count ? 1 : scale, NULL);
    }
    return loss;
}

// The derivative of the loss along `direction` (n) from where the weights w stand: central differences
// at h and 2h, combined so that the error is of order h^4 (Richardson). h = 1e-3 on a direction of
// length one balances that against rounding: a loss of about 200 in double gives 1e-10 in a slope, and
// slopes are some 1e-2 and more (measured: relative errors up to 3e-8).
static double fd_slope(FiniteDifference *f, real *w, const double *direction, size_t n) {
    const double h = 1e-3;
    double *kept = (double *)mem_alloc(sizeof(double) * n), at[4];
    memcpy(kept, w, sizeof(double) * n);
    const double steps[4] = {h, -h, 2 * h, -2 * h};
    for (int k = 0; k < 4; k++) {
        for (size_t i = 0; i < n; i++) w[i] = kept[i] + steps[k] * direction[i];
        at[k] = fd_loss(f, f->drops ? 1 : 0);
    }
    memcpy(w, kept, sizeof(double) * n);
    free(kept);
    return (8 * (at[0] - at[1]) - (at[2] - at[3])) / (12 * h);
}

// Relative to the slope itself, but not to less than a thousandth of the tensor's gradient: a key bias
// in gpt2 has no influence at all, and other slopes may cancel.
static void fd_check(const char *what, const Param *p, const char *where, double ours, double theirs, double gradient) {
    double size = fmax(fmax(fabs(ours), fabs(theirs)), 1e-3 * gradient), error = fabs(ours - theirs) / size;
    CHECK(error <= 1e-6, "%s: %s, %s: gradient %.12g, finite differences %.12g, relative error %.2e, allowed 1e-6",
          what, p->name, where, ours, theirs, error);
}

// rule: NULL, or of pairs of answers, whose sides are documents of the rows.
static void fd_config_of(const char *what, Config c, int recompute, bool accumulate, bool documents,
                         const ObjectiveRule *rule) {
    // Sides of one token and of several, with and without a prompt; references as a model might have had them.
    static const ModelPair pairs[FD_PAIRS] = {{0, 3, 4, 1, 3, -9, -5},
                                              {4, 8, 11, 6, 9, -8, -11},
                                              {FD_T, FD_T + 1, FD_T + 6, FD_T, FD_T + 3, -4, -13}};
    static const int32_t starts[2][FD_T] = {{0, 0, 0, 3, 4, 4, 4, 4, 8, 8, 8, 11, 11}, {0, 1, 1, 1, 1, 1, 6, 6, 6, 6}};
    FiniteDifference f;
    memset(&f, 0, sizeof f);
    memcpy(f.starts, starts, sizeof starts);
    for (int t = 10; t < FD_T; t++) f.starts[FD_T + t] = t; // documents of one token
    f.documents = documents;
    f.m = model_make(&c, model_shape(recompute, 1, 2, FD_T, true));
    if (!f.m) return;
    Model *m = f.m;
    model_randomise(m, 7);
    m->logits_rows = 11; // chunks that do not divide B T
    f.passes = accumulate ? 2 : 1;
    f.drops = c.lora.dropout > 0;
    for (int i = 0; i < FD_PASSES; i++) {
        model_random_ids(f.tokens[i], 2 * FD_T, c.vocab_size, 10 + (uint64_t)i);
        model_random_ids(f.targets[i], 2 * FD_T, c.vocab_size, 20 + (uint64_t)i);
        f.targets[i][11] = -1; // not counted
    }
    if (rule) f.pairs.items = pairs, f.pairs.count = FD_PAIRS, f.pairs.rule = *rule;
    fd_loss(&f, 1);
    size_t gradients = m->shards.gradient_start[m->shards.table.segments];
    real *kept = (real *)mem_alloc(sizeof(real) * gradients); // passes with dropout add to the model's
    memcpy(kept, m->shards.gradients, sizeof(real) * gradients);
    for (int k = 0; k < m->shards.table.count; k++) {
        const Param *p = &m->shards.table.items[k];
        size_t n = p->count;
        if (!p->trained) continue;
        real *w = m->shards.weights + p->offset;
        const real *g = kept + (shards_gradient_at(&m->shards, p->segment, p->offset) - m->shards.gradients);
        double *direction = (double *)mem_alloc(sizeof(double) * n);
        // 1. a random direction of length one
        double length = 0, slope = 0, squares = 0;
        RngStream s = rng_stream(99, p->name);
        for (size_t i = 0; i < n; i++) {
            float four[4];
            rng_normal4(s, i / 4, four);
            direction[i] = (double)four[i % 4];
            length += direction[i] * direction[i];
            squares += g[i] * g[i];
        }
        for (size_t i = 0; i < n; i++) {
            direction[i] /= sqrt(length);
            slope += direction[i] * g[i];
        }
        double typical = sqrt(squares / (double)n); // of one element, and of a random direction
        fd_check(what, p, "a random direction", slope, fd_slope(&f, w, direction, n), typical);
        // 2. single elements: first, last, and some between
        for (size_t j = 0; j < 5; j++) {
            size_t i = j * (n - 1) / 4;
            char where[32];
            snprintf(where, sizeof where, "element %zu", i);
            memset(direction, 0, sizeof(double) * n);
            direction[i] = 1;
            fd_check(what, p, where, g[i], fd_slope(&f, w, direction, n), typical);
        }
        free(direction);
    }
    free(kept);
    model_destroy(m);
}

static void fd_config(const char *what, Config c, int recompute, bool accumulate, bool documents) {
    fd_config_of(what, c, recompute, accumulate, documents, NULL);
}

static void test_model_finite_differences(void) {
    fd_config("gpt2", model_small_config(FAMILY_GPT2, 3, 8, true), RECOMPUTE_NONE, false, false);
    fd_config("gpt2, own head, accumulated", model_small_config(FAMILY_GPT2, 3, 8, false), RECOMPUTE_BLOCK, true,
              false);
    fd_config("gpt2, grouped queries", model_small_config(FAMILY_GPT2, 1, 7, true), RECOMPUTE_CHEAP, true, false);
    fd_config("llama", model_small_config(FAMILY_LLAMA, 1, 10, false), RECOMPUTE_NONE, false, false);
    fd_config("llama, tied, accumulated", model_small_config(FAMILY_LLAMA, 1, 8, true), RECOMPUTE_BLOCK, true, false);
    Config groups = model_small_config(FAMILY_LLAMA, 1, 6, true);
    groups.heads = 6, groups.kv_heads = 2; // two groups of three
    fd_config("llama, two groups", groups, RECOMPUTE_NONE, true, false);
    Config biased = model_small_config(FAMILY_LLAMA, 3, 8, false);
    biased.bias = 1;
    fd_config("llama, biases", biased, RECOMPUTE_CHEAP, false, false);
    Config yarn = model_small_config(FAMILY_QWEN2, 1, 8, true);
    model_scale_rope(&yarn, ROPE_YARN);
    fd_config("qwen2, yarn", yarn, RECOMPUTE_CHEAP, false, false);
    fd_config("qwen3", model_small_config(FAMILY_QWEN3, 1, 10, true), RECOMPUTE_NONE, false, false);
    fd_config("qwen3, own head, accumulated", model_small_config(FAMILY_QWEN3, 1, 6, false), RECOMPUTE_BLOCK, true,
              false);
    fd_config("qwen3, cheap", model_small_config(FAMILY_QWEN3, 3, 8, true), RECOMPUTE_CHEAP, false, false);
    fd_config("gpt2, documents", model_small_config(FAMILY_GPT2, 3, 8, true), RECOMPUTE_BLOCK, true, true);
    Config window = model_small_config(FAMILY_MISTRAL, 1, 10, false);
    window.window = 3;
    fd_config("mistral, a window", window, RECOMPUTE_NONE, true, false);
    window = model_small_config(FAMILY_QWEN3, 3, 8, true);
    window.window = 4, layers_add(&window.whole, 0);
    fd_config("qwen3, documents and a window in the last layer", window, RECOMPUTE_CHEAP, false, true);
    fd_config("smollm3", model_small_config(FAMILY_SMOLLM3, 1, 10, true), RECOMPUTE_NONE, false, false);
    fd_config("apertus", model_small_config(FAMILY_APERTUS, 1, 8, false), RECOMPUTE_NONE, false, false);
    fd_config("apertus, cheap, accumulated", model_small_config(FAMILY_APERTUS, 3, 10, true), RECOMPUTE_CHEAP, true,
              false);
    window = model_small_config(FAMILY_SMOLLM3, 3, 8, false);
    window.window = 3, layers_add(&window.whole, 0), model_scale_rope(&window, ROPE_YARN);
    fd_config("smollm3, yarn, documents and a window in the layer without positions", window, RECOMPUTE_BLOCK, true,
              true);
}

#endif

// New weights by any number of threads: the bits of one call.
static void test_model_init(void) {
    Config c = config_of_family(FAMILY_GPT2);
    c.vocab_size = 1031, c.channels = 264, c.layers = 1, c.hidden = 1000, c.heads = c.kv_heads = 4, c.head_size = 66;
    ParamTable t = param_table(&c);
    const Param *p = param_find(&t, PARAM_wte, -1);
    float *want = (float *)mem_alloc(sizeof(float) * p->count), *got = (float *)mem_alloc(sizeof(float) * p->count);
    param_init(want, p, &c, 9, 0, p->count);
    for (int threads = 0; threads <= 7; threads++) {
        const size_t first = threads % 2 ? INIT_WEIGHTS_EACH + 4 : 0;
        InitWeights init = {got, p, &c, 9, first, p->count - first};
        memset(got, 0xff, sizeof(float) * p->count);
        init_weights(&init, threads);
        CHECK(p->count > 4 * INIT_WEIGHTS_EACH && memcmp(got, want + first, sizeof(float) * (p->count - first)) == 0,
              "%d threads make other weights", threads);
    }
    free(want);
    free(got);
    param_table_free(&t);
}

static void test_model(void) {
    static const char *const folders[] = {"gpt2",           "gpt2-untied",    "llama-untied", "llama-tied-bf16",
                                          "qwen3-tied",     "qwen3-untied",   "llama-llama3", "qwen2-yarn",
                                          "mistral-linear", "mistral-window", "qwen2-window", "qwen3-window",
                                          "smollm3",        "smollm3-bf16",   "apertus",      "apertus-bf16"};
    test_model_init();
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) fixture_check(folders[i]);
    test_model_halved();
    test_model_shards();
    test_model_update();
    for (int family = 0; family < 3; family++) test_model_muon(family);
    test_model_configs();
    test_model_folders();
#ifdef REAL_DOUBLE
    test_model_finite_differences();
#endif
}

#endif
