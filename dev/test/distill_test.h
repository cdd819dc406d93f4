/*
distill_test.h: training beside a teacher on the CPU.

  the kernel     losses, their parts and the gradient against a plain version in double: vocabularies on and beside
                 whole vectors, temperatures, shares, targets that do not count; numbers that are not finite
  the model      with -DREAL_DOUBLE finite differences of every tensor; alpha 0 is the ordinary step, to the bit; a
                 teacher that is the model itself: no divergence, and the gradient is a share of that of cross entropy;
                 micro-batches, chunks of logits, documents, adapters
  a curve        fifty steps of a plain loop in PyTorch (dev/test/fixtures/distill)
  room           what the teacher takes is what model_memory says of it

To be included after lora_test.h.
*/
#ifndef DISTILL_TEST_H
#define DISTILL_TEST_H

#include "check.h"
#include "lora_test.h"

// ---------------------------------------------------------------- the kernel

typedef struct {
    double ce, kl, loss, *gradient; // (V)
} DistillPlain;

static void distill_softmax(double *p, const real *x, int V, double temperature) {
    double top = (double)x[0], sum = 0;
    for (int v = 0; v < V; v++) // not fmax of doubles: gcc 12 for aarch64 dies of that
        if ((double)x[v] > top) top = (double)x[v];
    for (int v = 0; v < V; v++) sum += p[v] = exp(((double)x[v] - top) / temperature);
    for (int v = 0; v < V; v++) p[v] /= sum;
}

// One row by the formulas. p: room (3, V).
static void distill_plain(DistillPlain *out, double *p, const real *x, const real *t, int target, DistillShape s) {
    int V = s.V;
    double a = (double)s.alpha, T = (double)s.temperature, *one = p, *student = p + V, *teacher = p + 2 * V;
    distill_softmax(one, x, V, 1), distill_softmax(student, x, V, T), distill_softmax(teacher, t, V, T);
    out->ce = -log(one[target]), out->kl = 0;
    for (int v = 0; v < V; v++)
        if (teacher[v] > 0) out->kl += teacher[v] * (log(teacher[v]) - log(student[v]));
    out->loss = (1 - a) * out->ce + a * T * T * out->kl;
    for (int v = 0; v < V; v++)
        out->gradient[v] = (double)s.scale * ((1 - a) * (one[v] - (v == target)) + a * T * (student[v] - teacher[v]));
}

static void distill_kernel_case(int V, double alpha, double temperature, Cpu *cpu) {
    enum { N = 5 };
    // Exponents of up to 20 are rounded to 20 eps and so are the exponentials; sums of up to 64 in a lane add 64.
    const double bound = 128 * REAL_EPS;
    DistillShape s = {N, V, (real)0.25, (real)alpha, (real)temperature};
    size_t n = (size_t)N * (size_t)V;
    real *x = kernel_random(n, 1), *t = kernel_random(n, 2), *kept = (real *)mem_alloc(sizeof(real) * n), losses[N],
         ce[N], kl[N];
    double *p = kernel_doubles(3 * (size_t)V);
    int32_t targets[N];
    DistillPlain want = {0, 0, 0, kernel_doubles((size_t)V)};
    for (size_t i = 0; i < n; i++) x[i] *= 5, t[i] *= 5;
    for (int i = 0; i < N; i++) targets[i] = i == 2 ? -1 : (i * 7919) % V;
    targets[4] = V - 1;
    memcpy(kept, x, sizeof(real) * n);
    for (int made = 0; made < 2; made++) {
        s.scale = made ? (real)0.25 : 0;
        distill(losses, ce, kl, x, t, targets, s, cpu);
        CHECK(made || memcmp(x, kept, sizeof(real) * n) == 0, "V %d: logits changed, though no gradient is made", V);
        for (int i = 0; i < N; i++) {
            const real *got = x + (size_t)i * (size_t)V;
            if (targets[i] < 0) {
                double sum = 0;
                for (int v = 0; v < V; v++) sum += fabs((double)got[v]);
                CHECK(losses[i] == 0 && ce[i] == 0 && kl[i] == 0 && (!made || sum == 0), "V %d: an ignored target", V);
                continue;
            }
            distill_plain(&want, p, kept + (size_t)i * (size_t)V, t + (size_t)i * (size_t)V, targets[i], s);
            double size = 1 + want.ce + want.kl + 10 / temperature;
            CHECK(fabs((double)ce[i] - want.ce) <= bound * size && fabs((double)kl[i] - want.kl) <= bound * size,
                  "V %d, T %g, row %d: %g and %g, expected %g and %g", V, temperature, i, (double)ce[i], (double)kl[i],
                  want.ce, want.kl);
            CHECK(fabs((double)losses[i] - want.loss) <= bound * size * (1 + alpha * temperature * temperature),
                  "V %d, T %g, row %d: loss %g, expected %g", V, temperature, i, (double)losses[i], want.loss);
            double most = 0;
            for (int v = 0; made && v < V; v++) { // the size of what is added and taken away there
                double parts =
                    (1 - alpha) * (p[v] + (v == targets[i])) + alpha * temperature * (p[V + v] + p[2 * V + v]) + 1e-30;
                double off = fabs((double)got[v] - want.gradient[v]) / ((double)s.scale * parts);
                if (!(off <= most)) most = off; // NaN, too
            }
            CHECK(most <= bound, "V %d, alpha %g, T %g, row %d: the gradient is off by %.2e of its parts", V, alpha,
                  temperature, i, most);
        }
    }
    for (int which = 0; which < 2; which++) { // what is not finite stays so
        memcpy(x, kept, sizeof(real) * n);
        (which ? t : x)[V / 2] = (real)NAN;
        distill(losses, ce, kl, x, t, targets, s, cpu);
        CHECK(!isfinite((double)losses[0]) && isfinite((double)losses[1]), "V %d: a NaN gives a loss of %g, %g", V,
              (double)losses[0], (double)losses[1]);
    }
    free(x), free(t), free(kept), free(p), free(want.gradient);
}

static void distill_kernel_cases(void) {
    static const int sizes[] = {1, 2, 7, 16, 17, 67, 1024, 1030, 3001};
    static const double rules[][2] = {{0.5, 2}, {0, 1}, {1, 3}, {0.9, 0.5}};
    Cpu cpu;
    Error err;
    CHECK(cpu_open(&cpu, 2, &err), "cpu_open");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int k = 0; k < 4; k++) distill_kernel_case(sizes[i], rules[k][0], rules[k][1], &cpu);
    cpu_close(&cpu);
}

// ---------------------------------------------------------------- the model

// A model of a family beside a teacher of another one; teacher NULL: without.
static Model *distill_test_model(const Config *c, const Config *teacher, double alpha, double temperature) {
    Model *m = model_make(c, model_shape(RECOMPUTE_CHEAP, 2, 2, 13, true));
    model_randomise(m, 5);
    if (!teacher) return m;
    Model *t = model_make(teacher, model_shape(RECOMPUTE_NONE, 2, 2, 13, false));
    model_randomise(t, teacher == c ? 5 : 6);
    model_teach(m, t, (DistillRule){alpha, temperature});
    return m;
}

static size_t distill_numbers(const Model *m) { return m->shards.gradient_start[m->shards.table.segments]; }

static void distill_check_model(int family, int other) {
    Config c = model_small_config(family, family == FAMILY_GPT2 ? 3 : 1, 8, family == FAMILY_QWEN3),
           big = model_small_config(other, other == FAMILY_GPT2 ? 3 : 1, 8, other == FAMILY_LLAMA);
    big.layers = 3, big.hidden = 41;
    LoraBatch b = lora_batch(&c);
    for (int i = 0; i < 26; i += 5) b.targets[i] = -1;
    const char *name = family_name(family);
    Model *plain = distill_test_model(&c, NULL, 0, 1);
    size_t n = distill_numbers(plain), bytes = sizeof(real) * n;
    double loss = model_pass(plain, b.tokens, b.targets, 2, 13, 0.1, NULL);
    // 1. alpha 0
    Model *m = distill_test_model(&c, &big, 0, 2);
    CHECK(model_pass(m, b.tokens, b.targets, 2, 13, 0.1, NULL) == loss &&
              memcmp(m->shards.gradients, plain->shards.gradients, bytes) == 0,
          "%s: alpha 0 is not the ordinary step", name);
    DistillSum sum = model_taught(m);
    CHECK(fabs(sum.ce - loss) <= 1e-5 * loss && sum.kl > 0.1, "%s: parts %g and %g of a loss of %g", name, sum.ce,
          sum.kl, loss);
    CHECK(model_taught(m).ce == 0, "the parts are counted twice");
    model_pass(m, b.tokens, b.targets, 2, 13, 0, NULL);
    CHECK(model_taught(m).ce == 0, "an evaluation counts as training");
    model_destroy(m);
    // 2. the teacher is the model
    m = distill_test_model(&c, &c, 0.25, 2);
    double share = model_pass(m, b.tokens, b.targets, 2, 13, 0.1, NULL);
    sum = model_taught(m);
    CHECK(fabs(sum.kl) <= 1e-6 * 26 && fabs(share - 0.75 * loss) <= 1e-5 * loss,
          "%s: beside itself a divergence of %g and a loss of %g, expected 0 and %g", name, sum.kl, share, 0.75 * loss);
    real *want = (real *)mem_alloc(bytes);
    for (size_t i = 0; i < n; i++) want[i] = (real)0.75 * plain->shards.gradients[i];
    double error = model_error_real(m->shards.gradients, want, n);
    CHECK(error <= MODEL_ORDER, "%s: beside itself the gradient is off by %.2e", name, error);
    model_destroy(m), model_destroy(plain);
    // 3. one sequence a pass, and a chunk of logits for every four rows
    m = distill_test_model(&c, &big, 0.6, 3);
    loss = model_pass(m, b.tokens, b.targets, 2, 13, 0.1, NULL);
    DistillSum all = model_taught(m);
    memcpy(want, m->shards.gradients, bytes);
    for (int way = 0; way < 2; way++) {
        model_zero_gradients(m);
        if (way) m->logits_rows = 4;
        share = 0;
        for (int i = 0; i < (way ? 1 : 2); i++)
            share += model_pass(m, b.tokens + 13 * i, b.targets + 13 * i, way ? 2 : 1, 13, 0.1, NULL);
        sum = model_taught(m);
        error = model_error_real(m->shards.gradients, want, n);
        CHECK(fabs(share - loss) <= 1e-5 * loss && fabs(sum.kl - all.kl) <= 1e-5 * all.kl && error <= MODEL_ORDER,
              "%s: cut otherwise (%d): loss %g, expected %g; gradients off by %.2e", name, way, share, loss, error);
    }
    // 4. an evaluation is cross entropy
    CHECK(fabs(model_pass(m, b.tokens, b.targets, 2, 13, 0, NULL) - all.ce) <= 1e-5 * all.ce,
          "%s: a validation is more than cross entropy", name);
    free(want), free(b.logits);
    model_destroy(m);
}

#ifdef REAL_DOUBLE
// Central differences of the loss in some numbers of every tensor that is trained.
static void distill_check_differences(Config c, const int32_t *starts) {
    const double h = 1e-5, scale = 0.1;
    Config big = model_small_config(FAMILY_LLAMA, 1, 8, false);
    LoraBatch b = lora_batch(&c);
    for (int i = 0; i < 26; i += 5) b.targets[i] = -1;
    ModelBatch batch = {b.tokens, b.targets, starts, 2, 13};
    Model *m = distill_test_model(&c, &big, 0.6, 3);
    model_pass_of(m, batch, scale, NULL);
    size_t n = distill_numbers(m);
    real *gradients = (real *)mem_alloc(sizeof(real) * n);
    memcpy(gradients, m->shards.gradients, sizeof(real) * n);
    ParamTable table = c.lora.rank ? param_table_adapter(&c) : param_table(&c);
    for (int i = 0; i < table.count; i++) {
        const Param *p = param_find(&m->shards.table, table.items[i].kind, table.items[i].layer);
        float *own = (float *)mem_alloc(sizeof(float) * p->count);
        memcpy(m->shards.gradients, gradients, sizeof(real) * n); // forward passes add to the head's
        model_get(m, MODEL_GRADIENT, p, own, 0);
        double largest = 0;
        for (size_t k = 0; k < p->count; k++) // not fmax of doubles: gcc 12 for aarch64 dies of that
            if (fabs((double)own[k]) > largest) largest = fabs((double)own[k]);
        for (size_t k = 0; k < p->count; k += p->count / 5 + 1) {
            real *w = m->shards.weights + p->offset + k, kept = *w;
            double side[2];
            for (int up = 0; up < 2; up++) {
                *w = kept + (up ? h : -h);
                model_forward(m, &batch, scale, NULL);
                side[up] = scale * model_loss(m);
            }
            *w = kept;
            double slope = (side[1] - side[0]) / (2 * h);
            // h^2 of a third derivative, and 1e-16 of the loss by h; gradients come as floats.
            CHECK(fabs(slope - (double)own[k]) <= 1e-6 * largest + 1e-8, "%s, number %zu: %.9g, by differences %.9g",
                  p->name, k, (double)own[k], slope);
        }
        free(own);
    }
    param_table_free(&table);
    free(gradients), free(b.logits);
    model_destroy(m);
}

static void distill_check_all_differences(void) {
    int32_t starts[26];
    for (int i = 0; i < 26; i++) starts[i] = i % 13 < 5 ? 0 : 5; // two documents a row
    distill_check_differences(model_small_config(FAMILY_QWEN3, 1, 8, true), NULL);
    distill_check_differences(model_small_config(FAMILY_QWEN3, 1, 8, false), starts);
    distill_check_differences(lora_small_config(FAMILY_LLAMA, "all", 0), NULL);
}
#endif

// ---------------------------------------------------------------- a curve, room

static void distill_check_curve(void) {
    Error err;
    SafeTensors e;
    Config c, big;
    const char *student = MODEL_FIXTURES "qwen3-tied", *teacher = MODEL_FIXTURES "llama-untied";
    bool ok = safetensors_open(&e, "dev/test/fixtures/distill/expected.safetensors", &err) &&
              folder_read_config(&c, student, &err) && folder_read_config(&big, teacher, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    if (!ok) return;
    const SafeTensor *tokens = safetensors_find(&e, "tokens"), *curve = safetensors_find(&e, "curve");
    const int32_t *ids = (const int32_t *)(const void *)tokens->data,
                  *targets = (const int32_t *)(const void *)safetensors_find(&e, "targets")->data;
    const float *want = (const float *)(const void *)curve->data;
    int B = (int)tokens->shape[0], T = (int)tokens->shape[1], count = 0;
    Model *m = model_make(&c, model_shape(RECOMPUTE_NONE, 1, B, T, true)),
          *t = model_make(&big, model_shape(RECOMPUTE_NONE, 1, B, T, false));
    ok = folder_load_weights(m, &m->shards.table, &c, student, &err) &&
         folder_load_weights(t, &t->shards.table, &big, teacher, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    model_teach(m, t, (DistillRule){0.7, 2.5});
    for (int i = 0; i < B * T; i++) count += targets[i] >= 0;
    CHECK(count == 21 && curve->shape[0] == 50, "%d targets, %lld steps", count, (long long)curve->shape[0]);
    GroupRule adam = {1e-3, 0.9, 0.95, 1e-8, 0.1};
    UpdateRule rule = update_rule(0, adam, 1);
    for (int step = 0; step < 50; step++, want += 3) {
        ModelBatch batch = {ids, targets, NULL, B, T};
        model_forward(m, &batch, 1.0 / count, NULL);
        model_backward(m, true);
        rule.step = step + 1;
        double loss = model_update(m, &rule).loss / count;
        DistillSum sum = model_taught(m);
        CHECK(fabs(loss - (double)want[2]) <= 1e-4 && fabs(sum.ce / count - (double)want[0]) <= 1e-4 &&
                  fabs(sum.kl / count - (double)want[1]) <= 1e-4,
              "step %d: ce %.7f, kl %.7f, loss %.7f; PyTorch %.7f, %.7f, %.7f", step + 1, sum.ce / count,
              sum.kl / count, loss, (double)want[0], (double)want[1], (double)want[2]);
    }
    model_destroy(m);
    safetensors_close(&e);
}

// What the room check counts for a teacher is what its model takes: of weights and activations, and no gradient.
static void distill_check_room(void) {
    Config c = model_small_config(FAMILY_QWEN3, 1, 8, true), big = model_small_config(FAMILY_LLAMA, 1, 8, false);
    ModelSetup setup = model_setup(&c, model_shape(RECOMPUTE_NONE, 1, 2, 13, true)), beside;
    CHECK(fit_teacher(&setup, 0) == 0, "a model without a teacher has one in memory");
    setup.teacher = &big, setup.zero = 1;
    beside = setup_of_teacher(&setup);
    ModelMemory m = model_memory(&beside);
    ParamTable t = param_table(&big);
    CHECK(m.gradients == 0 && m.moments == 0 && m.weights >= (double)(sizeof(real) * t.parameters) &&
              fit_teacher(&setup, 0) == model_memory_sum(&m),
          "a teacher of %zu parameters: %.0f bytes of weights, %.0f of gradients, %.0f of moments", t.parameters,
          m.weights, m.gradients, m.moments);
    param_table_free(&t);
    FitRoom f = {0, 0, RECOMPUTE_NONE, 0};
    double with = fit_need(&setup, RECOMPUTE_NONE, 2, &f);
    setup.teacher = NULL;
    CHECK(with - fit_need(&setup, RECOMPUTE_NONE, 2, &f) == model_memory_sum(&m), "--batch_size=auto leaves it out");
}

static void test_distill(void) {
    distill_kernel_cases();
    distill_check_model(FAMILY_GPT2, FAMILY_LLAMA);
    distill_check_model(FAMILY_LLAMA, FAMILY_QWEN3);
    distill_check_model(FAMILY_QWEN3, FAMILY_GPT2);
#ifdef REAL_DOUBLE
    distill_check_all_differences();
#endif
    distill_check_curve();
    distill_check_room();
}

#endif
