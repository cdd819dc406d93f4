/*
masks_test.h: rows that hold several documents, and windows of attention, on the CPU.

  ranges      which keys a query and which queries a key sees, against the rule tried on every pair
  kernels     attention against the plain version of kernels_test.h: random documents, documents of one token, borders
              on and beside those of tiles; windows of one and longer than the row; both at once; few queries, ranges of
              keys
  apart       what lies outside is not worked on: made NaN it changes no bit, where a product with it would
  documents   embedding, rotation and their gradients: the bits of each document in a row of its own
  model       packed rows: loss and gradients of one document a row, to the rounding of another order of sums; decoding
              within windows against the whole pass

To be included after train_gpt_cpu.c, as model_test.h.
*/
#ifndef MASKS_TEST_H
#define MASKS_TEST_H

#include "amx_test.h"
#include "model_test.h"

// How rows are cut into documents.
typedef enum { CUT_NONE, CUT_RANDOM, CUT_TOKENS, CUT_TILES, CUT_BEHIND_TILES, CUT_BEFORE_TILES, CUT_LAST } MaskCut;

// starts (B, T); NULL with CUT_NONE.
static int32_t *mask_starts(int cut, int B, int T, uint64_t seed) {
    if (cut == CUT_NONE) return NULL;
    int32_t *starts = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)(B * T));
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++) {
            int at = t + (cut == CUT_BEFORE_TILES) - (cut == CUT_BEHIND_TILES);
            bool begins = t == 0 || cut == CUT_TOKENS || (cut == CUT_LAST && t == T - 1);
            if (cut == CUT_RANDOM) begins = begins || kernel_number(seed, (uint64_t)(b * T + t)) < (real)-0.9;
            if (cut >= CUT_TILES && cut <= CUT_BEFORE_TILES)
                begins = begins || at % (b % 2 ? (int)AMX_BLOCK : (int)TILE_N) == 0;
            starts[b * T + t] = begins ? t : starts[b * T + t - 1];
        }
    return starts;
}

// ---------------------------------------------------------------- ranges

static void mask_ranges_case(void) {
    static const int windows[] = {0, 1, 2, 31, 32, 49, 90, 200}, steps[] = {1, 8, 32, 48};
    enum { T = 90 };
    for (int i = 0; i < 8 * (CUT_LAST + 1); i++) {
        int32_t *starts = mask_starts(i / 8, 1, T, 3);
        AttentionShape s = {1, T, T, 1, 1, 1, 1, windows[i % 8], starts};
        int wrong = 0;
        for (int t = 0; t < T; t++) {
            int first = 0;
            while (!attention_sees(s, 0, t, first)) first++;
            wrong += attention_first(s, 0, t) != first;
        }
        for (int k = 0; k < 4; k++)
            for (int key = 0; key < T; key++) {
                int begin = key / steps[k] * steps[k], want = begin + steps[k];
                for (int t = key; t < T; t++)
                    if (attention_sees(s, 0, t, key)) want = t / steps[k] * steps[k] + steps[k];
                wrong += s.window || starts ? queries_end(s, 0, key, begin, steps[k]) != want
                                            : queries_end(s, 0, key, begin, steps[k]) < T;
            }
        CHECK(wrong == 0, "documents cut by rule %d, window %d: %d borders of what is seen are wrong", i / 8,
              windows[i % 8], wrong);
        free(starts);
    }
    AttentionShape later = {1, 3, 50, 1, 1, 1, 1, 7, NULL}; // queries at positions 47 to 49
    CHECK(attention_first(later, 0, 0) == 41 && attention_first(later, 0, 2) == 43, "a window behind a cache");
}

// ---------------------------------------------------------------- kernels

// B, Tq, Tkv, NH, NKV, HS, window, cut
static const int mask_shapes[][8] =
    {{2, 75, 75, 4, 2, 10, 0, CUT_RANDOM},         {2, 75, 75, 4, 2, 10, 0, CUT_TOKENS},
     {2, 211, 211, 2, 1, 33, 0, CUT_TILES},        {2, 211, 211, 2, 1, 33, 0, CUT_BEHIND_TILES},
     {2, 211, 211, 2, 1, 33, 0, CUT_BEFORE_TILES}, {1, 147, 147, 2, 2, 64, 0, CUT_LAST},
     {1, 331, 331, 2, 1, 33, 1, CUT_NONE},         {1, 331, 331, 2, 1, 33, 7, CUT_NONE},
     {1, 331, 331, 2, 1, 16, TILE_N, CUT_NONE},    {1, 331, 331, 2, 1, 16, 33, CUT_NONE},
     {2, 331, 331, 1, 1, 16, 100, CUT_RANDOM},     {1, 75, 75, 2, 1, 16, 400, CUT_NONE},
     {2, 13, 13, 3, 1, 8, 5, CUT_RANDOM},          {2, 1, 333, 6, 2, 64, 40, CUT_NONE},
     {1, 3, 700, 2, 1, 16, 300, CUT_NONE},         {2, 4, 4, 2, 1, 16, 0, CUT_RANDOM},
     {1, 5, 200, 2, 1, 128, 3, CUT_NONE},          {1, 20, 61, 3, 3, 24, 10, CUT_NONE},
     {1, 2080, 2080, 1, 1, 4, 700, CUT_LAST}};
enum { MASK_SHAPES = sizeof mask_shapes / sizeof mask_shapes[0] };

static void mask_case(Cpu *cpu, KernelOutputs *out, int variant) {
    const int *s = mask_shapes[variant];
    int32_t *starts = mask_starts(s[7], s[0], s[1], 5);
    AttentionShape shape = {s[0], s[1], s[2], s[3], s[4], s[5], 1 / sqrt(s[5]), s[6], starts};
    attention_check(cpu, out, shape, false);
    free(starts);
}

// ---------------------------------------------------------------- apart

// Outputs and gradients of both passes, B T NH = 1, as rows of 1 + 4 HS numbers: lse, out, dq, dk, dv.
static real *mask_passes(AttentionShape s, const real *in, const real *dout, Cpu *cpu) {
    int T = s.Tq, HS = s.HS;
    size_t n = (size_t)T * (size_t)HS;
    real *all = kernel_garbage(n * 4 + (size_t)T), *o = all + T, *d = kernel_garbage(3 * n);
    Heads heads = {{(real *)in, HS}, {(real *)in + n, HS}, {(real *)in + 2 * n, HS}},
          gradients = {{d, HS}, {d + n, HS}, {d + 2 * n, HS}};
    attention_forward(o, all, heads, s, cpu);
    attention_backward(gradients, dout, o, all, heads, s, cpu);
    memcpy(o + n, d, sizeof(real) * 3 * n);
    free(d);
    return all;
}

// What tokens from `from` to `to` - 1 give, when all before `low` and from `high` on is NaN, which shares no tile with
// anything that shares one with them.
static void mask_apart(const char *what, AttentionShape s, const int range[4], Cpu *cpu) {
    int T = s.Tq, HS = s.HS, low = range[0], from = range[1], to = range[2], high = range[3], wrong = 0;
    size_t n = (size_t)T * (size_t)HS;
    real *in = kernel_random(3 * n, 81), *dout = kernel_random(n, 82), *want = mask_passes(s, in, dout, cpu);
    for (int i = 0; i < T * HS; i++)
        for (int part = 0; part < 4 && (i / HS < low || i / HS >= high); part++)
            *(part < 3 ? in + (size_t)part * n + i : dout + i) = (real)NAN;
    real *got = mask_passes(s, in, dout, cpu);
    for (int t = from; t < to; t++)
        for (int i = 0; i < 5; i++) {
            size_t at = i ? (size_t)T + (size_t)(i - 1) * n + (size_t)t * (size_t)HS : (size_t)t;
            wrong += memcmp(want + at, got + at, sizeof(real) * (i ? (size_t)HS : 1)) != 0;
        }
    CHECK((low > 0 || high < T) && wrong == 0, "%s: NaN before %d and from %d on reach %d rows of tokens %d to %d",
          what, low, high, wrong, from, to - 1);
    free(in), free(dout), free(want), free(got);
}

static void mask_apart_case(bool bf16, int kernels) {
    enum { T = 600, HS = 20 };
    Cpu cpu;
    Error err;
    bool opened = cpu_open(&cpu, 2, &err) && cpu_choose_unit(&cpu, bf16, kernels, &err);
    CHECK(opened, "%s", opened ? "" : err.text);
    if (!opened) return;
    static const int borders[] = {0, 5, 150, 151, 240, 300, 384, 470, 480, 590, T};
    const int tile = (int)TILE_N > (int)AMX_BLOCK ? (int)TILE_N : (int)AMX_BLOCK;
    int32_t starts[T];
    for (int i = 0; i < 10; i++)
        for (int t = borders[i]; t < borders[i + 1]; t++) starts[t] = borders[i];
    AttentionShape s = {1, T, T, 1, 1, HS, 0.2, 0, starts};
    for (int i = 0; i < 10; i += 3) {
        int first = borders[i] - tile > 0 ? starts[borders[i] - tile] : 0, end = borders[i + 1] + tile;
        for (int next = 0; next < 10 && end < T; next++)
            if (borders[next + 1] >= end) { // of the documents nearby
                end = borders[next + 1];
                break;
            }
        mask_apart("documents", s, (int[]){first - tile, borders[i], borders[i + 1], end + tile}, &cpu);
    }
    for (int window = 1; window < 100; window += 60)
        for (int t = 0; t < T - 20; t += 460) {
            int reach = window + 2 * tile;
            AttentionShape w = {1, T, T, 1, 1, HS, 0.2, window, NULL};
            mask_apart("a window", w, (int[]){t - reach, t, t + 20, t + 20 + reach}, &cpu);
        }
    // A window over the whole row is none.
    AttentionShape none = {1, T, T, 1, 1, HS, 0.2, 0, NULL}, wide = none;
    wide.window = T;
    real *in = kernel_random(3 * T * HS, 83), *dout = kernel_random(T * HS, 84),
         *both[2] = {mask_passes(none, in, dout, &cpu), mask_passes(wide, in, dout, &cpu)};
    CHECK(memcmp(both[0], both[1], sizeof(real) * (T + 4 * T * HS)) == 0, "a window over all gives other bits");
    free(in), free(dout), free(both[0]), free(both[1]);
    cpu_close(&cpu);
}

// ---------------------------------------------------------------- documents

// A row of documents, and each as a row of its own.
static void mask_documents_case(Cpu *cpu, KernelOutputs *out, int variant) {
    enum { T = 61, NH = 3, NKV = 2, HS = 10, C = 37, V = 11, HEADS = NH + NKV, WIDTH = (NH + 2 * NKV) * HS };
    int32_t *starts = mask_starts(variant ? CUT_RANDOM : CUT_BEHIND_TILES, 1, T, 7), ids[T], borders[T + 1] = {0};
    int documents = 0;
    for (int t = 0; t <= T; t++)
        if (t == T || starts[t] == t) borders[documents++] = t;
    documents--;
    real *qkv = kernel_random(T * WIDTH, 91), *dqk = kernel_random(T * HEADS * HS, 92), *w = kernel_random(2 * HS, 93),
         *wte = kernel_random(V * C, 94), *wpe = kernel_random(T * C, 95), *dx = kernel_random(T * C, 96),
         *rope = kernel_random(T * HS, 97), *got[2], *rstd = kernel_garbage(T * HEADS);
    for (int t = 0; t < T; t++) ids[t] = t * t % V;
    size_t n = T * HEADS * HS, nd = T * WIDTH, nx = T * C, all = n + nd + nx + nx + V * C;
    for (int apart = 0; apart < 2; apart++) {
        real *to = got[apart] = kernel_zeros(all), *dqkv = to + n, *x = dqkv + nd, *dwpe = x + nx, *dwte = dwpe + nx;
        for (int i = 0; i < (apart ? documents : 1); i++) {
            int t = borders[i], count = (apart ? borders[i + 1] : T) - t;
            if (count < 1) fail("an empty document");
            AttentionShape shape = {1, count, count, NH, NKV, HS, 1, 0, apart ? NULL : starts};
            Rotation r = {w, w + HS, rstd, rope, HS, 0, (real)1e-6, shape};
            TokenRows tokens = {ids + t, apart ? NULL : starts, 0, 1, count};
            qk_forward(to + t * HEADS * HS, qkv + t * WIDTH, r, cpu);
            qk_backward(dqkv + t * WIDTH, NULL, NULL, dqk + t * HEADS * HS, qkv + t * WIDTH, r, cpu);
            embedding_forward(x + t * C, tokens, matrix_of(wte), matrix_of(wpe), C, cpu);
            embedding_backward(dwte, dwpe, dx + t * C, tokens, C, cpu);
        }
    }
    CHECK(memcmp(got[0], got[1], sizeof(real) * all) == 0,
          "documents in one row: other bits than in rows of their own");
    kernel_keep(out, got[0], all);
    free(starts), free(qkv), free(dqk), free(w), free(wte), free(wpe), free(dx), free(rope), free(rstd), free(got[0]),
        free(got[1]);
}

// ---------------------------------------------------------------- model

enum { MASK_B = 2, MASK_T = 13, MASK_N = MASK_B * MASK_T };
static const int mask_lengths[] = {3, 1, 6, 2, 1, 13}; // documents of two rows, in order
enum { MASK_DOCUMENTS = sizeof mask_lengths / sizeof mask_lengths[0] };

static void mask_model_case(const char *what, Config c, int recompute) {
    int32_t tokens[MASK_N], targets[MASK_N], starts[MASK_N], alone[2][MASK_DOCUMENTS * MASK_T];
    model_random_ids(tokens, MASK_N, c.vocab_size, 1);
    model_random_ids(targets, MASK_N, c.vocab_size, 2);
    memset(alone, 0, sizeof alone);
    for (int i = 0; i < MASK_DOCUMENTS * MASK_T; i++) alone[1][i] = -1;
    for (int i = 0, at = 0; i < MASK_DOCUMENTS; at += mask_lengths[i++])
        for (int t = 0; t < mask_lengths[i]; t++) {
            starts[at + t] = at % MASK_T;
            alone[0][i * MASK_T + t] = tokens[at + t], alone[1][i * MASK_T + t] = targets[at + t];
        }
    Model *packed = model_make(&c, model_shape(recompute, 2, MASK_B, MASK_T, true)),
          *apart = model_make(&c, model_shape(RECOMPUTE_NONE, 1, MASK_DOCUMENTS, MASK_T, true));
    if (!packed || !apart) return;
    model_randomise(packed, 5), model_randomise(apart, 5);
    ModelBatch rows = {tokens, targets, starts, MASK_B, MASK_T};
    double got = model_pass_of(packed, rows, 1.0 / MASK_N, NULL),
           want = model_pass(apart, alone[0], alone[1], MASK_DOCUMENTS, MASK_T, 1.0 / MASK_N, NULL);
    CHECK(fabs(got - want) <= MODEL_ORDER * want, "%s: loss %.12g of packed rows, %.12g of one document a row", what,
          got, want);
    for (int i = 0; i < packed->shards.table.count; i++) {
        const Param *p = &packed->shards.table.items[i];
        if (!p->trained) continue;
        double error = model_error_real(shards_gradient_at(&packed->shards, p->segment, p->offset),
                                        shards_gradient_at(&apart->shards, p->segment, p->offset), p->count);
        CHECK(error <= 4 * MODEL_ORDER, "%s: the gradient of %s from packed rows is off by %.2e", what, p->name, error);
    }
    // The next pass is without documents again.
    model_zero_gradients(packed), model_zero_gradients(apart);
    got = model_pass(packed, tokens, targets, MASK_B, MASK_T, 1, NULL);
    want = model_pass(apart, tokens, targets, MASK_B, MASK_T, 1, NULL);
    CHECK(got == want, "%s: loss %.12g after packed rows, %.12g after others", what, got, want);
    model_destroy(packed);
    model_destroy(apart);
}

// Logits of decoding in pieces against those of a whole pass.
static void mask_decode_case(const char *what, Config c) {
    int32_t tokens[MASK_T], targets[MASK_T];
    int V = c.vocab_size;
    float *logits = (float *)mem_alloc(sizeof(float) * (size_t)(MASK_T * V));
    Model *m = model_make(&c, model_shape(RECOMPUTE_NONE, 1, 1, MASK_T, false));
    if (!m) return;
    model_randomise(m, 5);
    model_random_ids(tokens, MASK_T, V, 1), model_random_ids(targets, MASK_T, V, 2);
    model_pass(m, tokens, targets, 1, MASK_T, 0, logits);
    for (int prompt = 1; prompt <= MASK_T; prompt += 3)
        for (int t = 0, n = prompt; t < MASK_T; t += n, n = 1) {
            double error = model_error(model_decode(m, tokens + t, n, t), logits + (t + n - 1) * V, (size_t)V);
            CHECK(error <= MODEL_LOGITS, "%s: logits of decoding %d tokens at %d are off by %.2e", what, n, t, error);
        }
    free(logits);
    model_destroy(m);
}

static void mask_models(void) {
    for (int family = 0; family < FAMILY_KINDS; family++) {
        Config c = model_small_config(family, family == FAMILY_GPT2 ? 3 : 1, 8, family % 2);
        const char *name = family_name(family);
        mask_model_case(name, c, RECOMPUTE_NONE);
        mask_model_case(name, c, RECOMPUTE_BLOCK);
        for (c.window = 1; c.window <= 16; c.window += 5) {
            mask_decode_case(name, c);
            mask_model_case(name, c, RECOMPUTE_CHEAP);
        }
        c.window = 2, c.layers = 4;
        layers_add(&c.whole, 0), layers_add(&c.whole, 2);
        CHECK(config_window(&c, 0) == 0 && config_window(&c, 1) == 2 && config_window(&c, 2) == 0 &&
                  config_window(&c, 3) == 2,
              "which layers have a window");
        mask_decode_case(name, c);
        mask_model_case(name, c, RECOMPUTE_CHEAP);
    }
}

static void test_masks(void) {
    mask_ranges_case();
    kernel_run("attention, masked", mask_case, MASK_SHAPES);
    kernel_run("documents", mask_documents_case, 2);
    mask_apart_case(false, KERNELS_AUTO);
#ifndef REAL_DOUBLE
    kernel_run_on("attention, masked, on emulated tiles", mask_case, MASK_SHAPES - 1, true, KERNELS_EMULATED);
    mask_apart_case(true, KERNELS_EMULATED);
    if (amx_missing() == NULL) {
        kernel_run_on("attention, masked, on tiles", mask_case, MASK_SHAPES, true, KERNELS_MATRIX);
        mask_apart_case(true, KERNELS_MATRIX);
    }
#endif
    mask_models();
}

#endif
