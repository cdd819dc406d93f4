/*
cuda_model_test.cu: what train_gpt.cu does beyond what its options reach, on one rank or, started by mpirun, on several.

  backward   gradients of activations that are kept change nothing, and times the layer's input they are the gradients
             of its weights
  finite     an update that makes a weight or moment that is not finite says so, on all ranks, and the tensor is found
  documents  rows of several documents, of others in every pass and once of none, while graphs are captured and
             replayed: loss and gradients of one document a row
  frozen     tensors that are frozen do not move and take no memory for gradients and moments; the others are updated
             with the same bits as without frozen ones, however the ranks share them out

run.sh runs it on one rank, cuda_ranks_test.sh on several. Exit code 1 if anything fails.
*/
#define LLMC_NO_MAIN
#include "../../train_gpt.cu"
#include "check.h"

enum { TEST_B = 2, TEST_T = 7, TEST_N = TEST_B * TEST_T };
static Dist test_dist, test_alone;

static Config test_config(int family, bool tied) {
    Config c = config_of_family(family);
    c.vocab_size = 67, c.max_seq_len = 16, c.layers = 2, c.channels = 20, c.hidden = 44;
    c.heads = 4, c.kv_heads = family == FAMILY_GPT2 ? 4 : 2, c.head_size = 6, c.tied = tied;
    return c;
}

static ModelSetup test_setup(const Config *c, const Dist *dist, int zero, const bool *frozen) {
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.config = *c, setup.batch_size = TEST_B, setup.seq_len = TEST_T, setup.precision = PRECISION_AUTO;
    setup.gradients = true, setup.zero = zero, setup.frozen = frozen, setup.dist = dist;
    return setup;
}

static MuonRule test_muon(int optimizer) {
    return {optimizer, MUON_SCALE_RMS, MUON_JORDAN, 5, 0.95, 0.95, true, false};
}

static Model *test_model(const ModelSetup *setup) {
    Error err;
    Model *m = model_create(setup, &err);
    if (!m) fail("%s", err.text);
    ParamTable table = param_table(&setup->config);
    model_init_weights(m, &table, &setup->config, 3);
    param_table_free(&table);
    return m;
}

// Collectives of two models' communicators must not be in flight at once.
static void test_wait(void) { CHECK(cudaDeviceSynchronize() == cudaSuccess, "the device failed"); }

static void test_pass(Model *m, bool last) {
    int32_t tokens[TEST_N + 1];
    RngStream stream = rng_stream(1, "cuda_model_test");
    for (int i = 0; i <= TEST_N; i++)
        tokens[i] =
            (int32_t)(rng_draw(stream, (uint64_t)(test_dist.rank * 100 + i)).x[0] % (uint32_t)m->config.vocab_size);
    ModelBatch batch = {tokens, tokens + 1, NULL, TEST_B, TEST_T};
    model_forward(m, &batch, 0.05, NULL);
    model_backward(m, last);
    test_wait();
}

static void test_kept(int family) {
    static const struct {
        int weight, gradient, input;
    } rows[] = {{PARAM_qkv_w, ACT_qkv, ACT_norm1},
                {PARAM_proj_w, ACT_residual1, ACT_attention},
                {PARAM_fc_w, ACT_fc, ACT_norm2},
                {PARAM_fcproj_w, ACT_residual2, ACT_mlp}};
    Config c = test_config(family, true);
    ModelSetup setup = test_setup(&c, &test_alone, 0, NULL), keep = setup;
    keep.keep_backward = true;
    Model *plain = test_model(&setup), *m = test_model(&keep);
    ParamTable table = param_table(&c);
    enum { MOST = 8192 };
    float a[MOST], b[MOST];
    test_pass(plain, false);
    test_pass(m, false);
    for (int i = 0; i < table.count; i++) {
        const Param *p = &table.items[i];
        model_get(plain, MODEL_GRADIENT, p, a, 0);
        model_get(m, MODEL_GRADIENT, p, b, 0);
        CHECK(memcmp(a, b, sizeof(float) * p->count) == 0, "keeping gradients of activations changes that of %s",
              p->name);
    }
    CHECK(!model_get_activation_gradient(plain, ACT_fc, 0, a), "a gradient that was not kept is given out");
    CHECK(!model_get_activation_gradient(m, ACT_norm1_rstd, 0, a), "a statistic has a gradient");
    CHECK(model_get_activation_gradient(m, ACT_mlp, 0, a) == (c.gated != 0),
          "a gradient inside a product is given out");
    for (int layer = 0; layer < c.layers; layer++)
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
            const Param *p = param_find(&table, rows[k].weight, layer);
            bool got = model_get_activation_gradient(m, rows[k].gradient, layer, a) &&
                       model_get_activation(m, rows[k].input, layer, b);
            CHECK(got, "%s: no gradient of its output, or no input", p->name);
            float dw[MOST];
            double away = 0, size = 0;
            model_get(m, MODEL_GRADIENT, p, dw, 0);
            for (int r = 0; got && r < p->rows; r++)
                for (int col = 0; col < p->cols; col++) {
                    double sum = 0;
                    for (int n = 0; n < TEST_N; n++) sum += (double)a[n * p->rows + r] * (double)b[n * p->cols + col];
                    away += pow(sum - (double)dw[r * p->cols + col], 2), size += sum * sum;
                }
            CHECK(size > 0 && sqrt(away / size) <= 1e-6, "%s: its gradient is not dY^T X", p->name); // fp32 sums of 14
        }
    param_table_free(&table);
    model_destroy(plain);
    model_destroy(m);
}

static void test_documents(int family, int window) {
    // of two rows, in order; the numbers are bf16, but the same ones, so that only sums of gradients have another order
    enum { MOST = 8192, DOCUMENTS = 5 };
    static const int lengths[][DOCUMENTS] = {{3, 4, 1, 5, 1}, {7, 2, 5}, {1, 6, 5, 1, 1}};
    Config c = test_config(family, true);
    c.window = window;
    ModelSetup setup = test_setup(&c, &test_alone, 0, NULL), wide = setup;
    wide.batch_size = DOCUMENTS;
    Model *m = test_model(&setup), *apart = test_model(&wide);
    for (int pass = 0; pass < 6; pass++) {
        int32_t tokens[2 * TEST_N], starts[TEST_N], alone[2][DOCUMENTS * TEST_T];
        for (int i = 0; i < 2 * TEST_N; i++) tokens[i] = (i * i * 5 + pass * 7 + i) % c.vocab_size;
        memset(alone[0], 0, sizeof alone[0]);
        memset(alone[1], 0xff, sizeof alone[1]);
        for (int i = 0, at = 0; i < DOCUMENTS; at += lengths[pass % 3][i++])
            for (int t = 0; t < lengths[pass % 3][i]; t++) {
                starts[at + t] = at % TEST_T;
                alone[0][i * TEST_T + t] = tokens[at + t], alone[1][i * TEST_T + t] = tokens[TEST_N + at + t];
            }
        bool whole = pass == 3;
        ModelBatch rows = {tokens, tokens + TEST_N, whole ? NULL : starts, TEST_B, TEST_T},
                   each = {alone[0], alone[1], NULL, DOCUMENTS, TEST_T};
        model_forward(m, &rows, 0.05, NULL);
        model_backward(m, false);
        test_wait();
        model_forward(apart, whole ? &rows : &each, 0.05, NULL);
        model_backward(apart, false);
        test_wait();
    }
    double got = model_loss(m), want = model_loss(apart);
    CHECK(fabs(got - want) <= 1e-6 * want, "family %d, window %d: loss %.9g in rows of documents, %.9g in rows of one",
          family, window, got, want);
    ParamTable table = param_table(&c);
    for (int i = 0; i < table.count; i++) {
        const Param *p = &table.items[i];
        float a[MOST], b[MOST];
        double away = 0, size = 0;
        model_get(m, MODEL_GRADIENT, p, a, 0);
        model_get(apart, MODEL_GRADIENT, p, b, 0);
        for (size_t k = 0; k < p->count; k++) away += pow((double)a[k] - (double)b[k], 2), size += pow((double)b[k], 2);
        CHECK(sqrt(away) <= 1e-5 * sqrt(size), "family %d, window %d: the gradient of %s is off by %g", family, window,
              p->name, sqrt(away / size));
    }
    param_table_free(&table);
    model_destroy(m);
    model_destroy(apart);
}

// One number on one rank is spoilt before an update: kind 0 none, 1 a weight that decays to infinity, 2 a moment.
static void test_finite(int family, int zero, int optimizer, int kind) {
    enum { MOST = 8192 };
    Config c = test_config(family, true);
    ModelSetup setup = test_setup(&c, &test_dist, zero, NULL);
    setup.muon = test_muon(optimizer);
    Model *m = test_model(&setup);
    CheckpointTables tables = checkpoint_tables(&c, optimizer);
    const Param *p = param_find(&tables.array[0], PARAM_fcproj_w, 1);
    float values[MOST];
    int array = kind == 1 ? (int)MODEL_WEIGHT : MODEL_STATE + STATE_moment1;
    test_pass(m, true);
    model_get(m, array, p, values, 0);
    dist_broadcast(&test_dist, values, sizeof(float) * p->count);
    values[p->count - 3] = kind == 1 ? 3e38f : NAN;
    if (kind > 0) model_set(m, array, p, values);
    UpdateRule rule = update_rule(1, {0.01, 0.9, 0.95, 1e-8, 0.3}, 1);
    if (kind == 1) rule.group[GROUP_MATRIX].lr = rule.group[GROUP_MATRIX].weight_decay = 10;
    UpdateResult r = model_update(m, &rule);
    CHECK(r.updated && r.finite == (kind == 0), "zero %d, optimizer %d, kind %d: updated %d, finite %d", zero,
          optimizer, kind, r.updated, r.finite);
    char name[64];
    nonfinite_find_state(name, m, &tables, &test_dist);
    static const char *const found[] = {"", "layer.1.fcproj_w", "moment1 of layer.1.fcproj_w"};
    CHECK(kind == 0 || strcmp(name, found[kind]) == 0, "zero %d, optimizer %d, kind %d: found %s", zero, optimizer,
          kind, name);
    checkpoint_tables_free(&tables);
    model_destroy(m);
}

static void test_frozen(int family, bool tied, int zero, int optimizer, const int *kinds, int count) {
    enum { MOST = 8192 };
    bool frozen[PARAM_KINDS] = {false};
    for (int i = 0; i < count; i++) frozen[kinds[i]] = true;
    Config c = test_config(family, tied);
    ModelSetup whole = test_setup(&c, &test_dist, zero, NULL), part = test_setup(&c, &test_dist, zero, frozen);
    whole.muon = part.muon = test_muon(optimizer);
    Model *all = test_model(&whole), *m = test_model(&part);
    CheckpointTables tables = checkpoint_tables(&c, optimizer);
    const ParamTable &table = tables.array[0];
    float a[MOST], b[MOST], *start = (float *)mem_alloc(sizeof(float) * table.elements);
    const Shards *s = &m->shards;
    CHECK(s->trained < all->shards.trained && s->own <= all->shards.own, "gradients or moments of what is frozen");
    for (int i = 0; i < table.count; i++) model_get(m, MODEL_WEIGHT, &table.items[i], start + table.items[i].offset, 0);
    for (int pass = 0; pass < 2; pass++) {
        test_pass(all, pass == 1);
        test_pass(m, pass == 1);
    }
    for (int i = 0; i < table.count && test_dist.size == 1; i++) {
        const Param *p = &table.items[i];
        model_get(all, MODEL_GRADIENT, p, a, 0);
        model_get(m, MODEL_GRADIENT, p, b, 0);
        if (frozen[p->kind]) memset(a, 0, sizeof(float) * p->count);
        CHECK(memcmp(a, b, sizeof(float) * p->count) == 0, "%s has another gradient", p->name);
    }
    UpdateRule rule = update_rule(1, {0.01, 0.9, 0.95, 1e-8, 0.3}, 0); // no clipping, since the norm is another
    CHECK(model_update(all, &rule).updated, "no update");
    test_wait();
    CHECK(model_update(m, &rule).updated, "no update of the trained part");
    test_wait();
    for (int i = 0; i < table.count; i++)
        for (int array = MODEL_WEIGHT; array < MODEL_STATE + STATE_KINDS; array++) {
            const Param *p = &tables.array[array < MODEL_STATE ? 0 : array - MODEL_STATE + 1].items[i];
            if (array == MODEL_GRADIENT) continue;
            model_get(all, array, p, a, 0);
            model_get(m, array, p, b, 0);
            if (frozen[p->kind] && array == MODEL_WEIGHT) memcpy(a, start + p->offset, sizeof(float) * p->count);
            else if (frozen[p->kind]) memset(a, 0, sizeof(float) * p->count);
            CHECK(test_dist.rank > 0 || memcmp(a, b, sizeof(float) * p->count) == 0,
                  "zero %d, optimizer %d, %s, array %d: not as %s", zero, optimizer, p->name, array,
                  frozen[p->kind] ? "before" : "without frozen ones");
            CHECK(!frozen[p->kind] || model_keeps(m, array, p) == (array == MODEL_WEIGHT), "%s is kept, or not",
                  p->name);
        }
    free(start);
    checkpoint_tables_free(&tables);
    model_destroy(all);
    model_destroy(m);
}

int main(int argc, char **argv) {
    dist_single(&test_alone);
    dist_open(&test_dist, &argc, &argv);
    bool few = argc > 1 && strcmp(argv[1], "few") == 0; // on several ranks: a third, every value with every other
    for (int family = 0; family < 3 && test_dist.size == 1; family++) {
        test_kept(family);
        test_documents(family, 0);
        test_documents(family, 3);
    }
    static const int matrices[] = {PARAM_qkv_w, PARAM_qkv_b, PARAM_fc_w, PARAM_fcproj_w, PARAM_qnorm_w, PARAM_norm2_w},
                     ends[] = {PARAM_wte, PARAM_wpe, PARAM_normf_w, PARAM_normf_b, PARAM_head_w};
    for (const char *deal : {"ranges", "tensors"}) {
        setenv("LLMC_SHARDS", deal, 1);
        for (int zero = 0; zero < (test_dist.size > 1 ? 4 : 1); zero++)
            for (int kind = 0; kind < 3; kind++)
                for (int optimizer = 0; optimizer < 3; optimizer++)
                    if (!few || (zero + kind + optimizer + (*deal == 't')) % 3 == 0)
                        test_finite(FAMILY_QWEN3, zero, optimizer, kind);
        for (int zero = 0; zero < (test_dist.size > 1 ? 3 : 1); zero++) {
            if (few && zero % 2 == (*deal == 't')) continue;
            test_frozen(FAMILY_GPT2, true, zero, OPTIMIZER_ADAMW, matrices, 6);
            test_frozen(FAMILY_LLAMA, false, zero, OPTIMIZER_ADAMW, ends, 5);
            test_frozen(FAMILY_QWEN3, true, zero, OPTIMIZER_ADAMW, matrices, 6);
            test_frozen(FAMILY_LLAMA, true, zero, OPTIMIZER_NORMUON, matrices + 3, 3);
        }
    }
    if (test_dist.size > 1) { // ZeRO-3 has no place for frozen weights
        Config c = test_config(FAMILY_QWEN3, true);
        bool frozen[PARAM_KINDS] = {false};
        frozen[PARAM_wte] = true;
        ModelSetup setup = test_setup(&c, &test_dist, 3, frozen);
        Error err;
        CHECK_ERROR(model_create(&setup, &err), "use --zero=2");
    }
    int failed = dist_max(&test_dist, checks_failed);
    if (test_dist.rank == 0) printf("%d passed, %d failed\n", checks_passed, failed);
    dist_close(&test_dist);
    return failed > 0;
}
