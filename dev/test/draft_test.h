/*
draft_test.h: speculative decoding (llmc/run/draft.h) on the CPU.

  selection      the likeliest of a heap are those of a whole sort
  rows           logits of several rows of one pass: to the bit those of single ones, up to LINEAR_FEW_ROWS
  the judge      tokens drawn from q and judged by p have the distribution p, for every kind of filter; as many are
                 accepted as the sum of min(p, q) says
  texts          three tokens of a model with a draft have the probabilities that the model gives them
  greedy         the very same text with any draft and any number of proposals, over the end of the context and with a
                 draft whose own is shorter; the model itself as draft is always right; ends; the same seed again
  not numbers    logits of the draft, of the model

Statistics: the draws are functions of seed and index, so that a test always sees the same ones. Of a right sampler
Pearson's chi-square is above DRAFT_BOUND once in a million draws of everything (Wilson and Hilferty 1931); that a wrong
one is far above it is tested with q in the place of p. To be included after model_test.h.
*/
#ifndef DRAFT_TEST_H
#define DRAFT_TEST_H

#include "check.h"
#include "model_test.h"

// The point above which chi-square with k degrees of freedom is once in a million.
static double draft_bound(double k) { return k * pow(1 - 2 / (9 * k) + 4.7534 * sqrt(2 / (9 * k)), 3); }

// Pearson's statistic of counts (n) of `all` draws against probabilities p (n); *free: degrees of freedom.
static double draft_chi_square(const int64_t *counts, const double *p, int n, double all, double *freedom) {
    double sum = 0;
    *freedom = -1;
    for (int i = 0; i < n; i++) {
        if (p[i] > 0) sum += pow((double)counts[i] - all * p[i], 2) / (all * p[i]), ++*freedom;
        else if (counts[i]) return INFINITY; // impossible, and drawn
    }
    return sum;
}

static Options draft_test_options(double temperature, int top_k, double top_p, int tokens) {
    Options o;
    memset(&o, 0, sizeof o);
    o.temperature = temperature, o.top_k = top_k, o.top_p = top_p, o.draft_tokens = tokens, o.seed = 11;
    return o;
}

static void draft_test_selection(void) {
    enum { N = 97 };
    Candidate all[N], some[N];
    for (int k = 1; k <= N; k++) {
        for (int i = 0; i < N; i++) {
            all[i].id = i;
            all[i].logit = (float)((i * 31 + k * 7) % 23); // many of them the same
            some[i] = all[i];
        }
        qsort(all, N, sizeof *all, candidate_order);
        candidates_select(some, N, k);
        qsort(some, (size_t)k, sizeof *some, candidate_order);
        int wrong = 0;
        for (int i = 0; i < k; i++) wrong += some[i].id != all[i].id;
        CHECK(wrong == 0, "%d of the %d likeliest are others", wrong, k);
    }
}

// The definition: softmax at a temperature, the k likeliest, then the smallest set of these that reaches top_p.
static void draft_test_plain(double *p, const float *logits, int V, const Options *o) {
    double all = 0, some = 0;
    bool in[32] = {false};
    for (int i = 0; i < V; i++) {
        int before = 0;
        for (int j = 0; j < V; j++) before += logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
        in[i] = o->top_k == 0 || before < o->top_k;
        p[i] = in[i] ? exp((double)logits[i] / o->temperature) : 0;
        all += p[i];
    }
    for (int i = 0; i < V; i++) {
        double before = 0;
        for (int j = 0; j < V; j++)
            if (logits[j] > logits[i] || (logits[j] == logits[i] && j < i)) before += p[j];
        in[i] = in[i] && before < o->top_p * all;
    }
    for (int i = 0; i < V; i++) some += p[i] = in[i] ? p[i] : 0;
    for (int i = 0; i < V; i++) p[i] /= some;
}

static void draft_test_judge(double temperature, int top_k, double top_p, double other) {
    enum { V = 12, DRAWS = 100000 };
    Options o = draft_test_options(temperature, top_k, top_p, 1);
    Sampler s = sampler_create(V, temperature, top_k, top_p, 11);
    Draft d;
    memset(&d, 0, sizeof d);
    draft_prepare(&d, &o, V);
    float model[V], draft[V];
    double p[V], q[V], together = 0, freedom;
    RngStream stream = rng_stream(5, "draft_test");
    for (int i = 0; i < V; i++) {
        model[i] = 3 * rng_uniform(stream, (uint64_t)i);
        draft[i] = model[i] + (float)other * (rng_uniform(stream, (uint64_t)(100 + i)) - 0.5f);
    }
    draft_test_plain(p, model, V, &o), draft_test_plain(q, draft, V, &o);
    for (int i = 0; i < V; i++) together += p[i] < q[i] ? p[i] : q[i];
    int64_t counts[V] = {0}, proposed[V] = {0}, accepted = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        int n = sample_keep(&d.sampler, draft, V), id = sample_draw(&d.sampler, n, i);
        draft_likely(&d.likely[0], &d.sampler, n);
        n = sample_keep(&s, model, V);
        int token = draft_judge(&d, &s, n, &d.likely[0], id, i);
        counts[token]++, proposed[id]++, accepted += token == id;
    }
    double chi = draft_chi_square(counts, p, V, DRAWS, &freedom);
    CHECK(chi <= draft_bound(freedom), "temperature %g, top_k %d, top_p %g: chi-square %g with %g degrees of freedom",
          temperature, top_k, top_p, chi, freedom);
    chi = draft_chi_square(proposed, q, V, DRAWS, &freedom);
    CHECK(chi <= draft_bound(freedom), "proposals: chi-square %g with %g degrees of freedom", chi, freedom);
    chi = draft_chi_square(proposed, p, V, DRAWS, &freedom);
    CHECK(other == 0 || chi > 10 * draft_bound(freedom), "what was proposed passes for what the model says: %g", chi);
    double deviation = sqrt(DRAWS * together * (1 - together)); // binomial; a token drawn again is never the same
    CHECK(fabs((double)accepted - DRAWS * together) <= 5 * deviation + 1e-6, "%lld of %d accepted, expected %.1f",
          (long long)accepted, DRAWS, DRAWS * together);
    for (int i = 0; i < V; i++) CHECK(d.dense[i] == 0, "dense[%d] is %g after a call", i, d.dense[i]);
    draft_close(&d);
    sampler_free(&s);
}

// ---------------------------------------------------------------- models

static Model *draft_test_model(int vocab_size, int seq_len, uint64_t seed, float sharper) {
    Config c = model_small_config(FAMILY_QWEN3, 1, 8, false);
    c.vocab_size = vocab_size, c.max_seq_len = seq_len;
    Model *m = model_make(&c, model_shape(RECOMPUTE_NONE, 1, 1, seq_len, false));
    model_randomise(m, seed);
    const Param *head = param_find(&m->shards.table, c.tied ? PARAM_wte : PARAM_head_w, -1);
    for (size_t i = 0; i < head->count; i++) m->shards.weights[head->offset + i] *= (real)sharper;
    return m;
}

static void draft_test_rows(void) {
    enum { T = 20, V = 40 };
    int32_t tokens[T];
    Model *m = draft_test_model(V, T, 3, 1), *one = draft_test_model(V, T, 3, 1);
    for (int i = 0; i < T; i++) tokens[i] = i * 7 % V;
    for (int n = 1; n <= T; n++)
        for (int rows = 1; rows <= n; rows += n > 3 ? 3 : 1) {
            for (int i = 0; i < T - n; i++) model_decode(m, tokens + i, 1, i), model_decode(one, tokens + i, 1, i);
            const float *all = model_decode_rows(m, tokens + T - n, n, T - n, rows);
            for (int i = 0; i < n; i++) {
                const float *next = model_decode(one, tokens + T - n + i, 1, T - n + i);
                if (i < n - rows) continue;
                const float *row = all + (i - n + rows) * V;
                double error = model_error(row, next, V);
                bool same = memcmp(row, next, sizeof(float) * V) == 0;
                CHECK(n > LINEAR_FEW_ROWS ? error <= MODEL_LOGITS : same, "row %d of %d, of %d tokens: off by %.2e", i,
                      rows, n, error);
            }
        }
    model_destroy(m), model_destroy(one);
}

// The probabilities of all texts of three tokens behind a prompt, against texts made with the draft.
static void draft_test_texts(int k, double temperature, int top_k, double top_p) {
    enum { V = 5, TEXTS = 6000, CELLS = V * V * V };
    Options o = draft_test_options(temperature, top_k, top_p, k);
    Model *m = draft_test_model(V, 8, 3, 2), *small = draft_test_model(V, 8, 4, 2);
    Sampler s = sampler_create(V, temperature, top_k, top_p, 11);
    Draft d;
    memset(&d, 0, sizeof d);
    draft_prepare(&d, &o, V);
    d.model = small, d.context = 8;
    double exact[CELLS], p[V], freedom;
    int64_t counts[CELLS] = {0};
    int32_t text[8] = {1, 2};
    for (int cell = 0; cell < CELLS; cell++) {
        int32_t ids[5] = {1, 2, cell / (V * V), cell / V % V, cell % V};
        exact[cell] = 1;
        for (int i = 2; i < 5; i++) {
            draft_test_plain(p, model_decode(m, ids, i, 0), V, &o);
            exact[cell] *= p[ids[i]];
        }
    }
    for (uint64_t i = 0; i < TEXTS; i++) {
        DraftRound r;
        int count = 2, fed = 0;
        while (count < 5) {
            DraftPlace at = {text, count, fed, 5 - count - 1, V, (i << 32) + (uint64_t)count};
            CHECK(draft_round(&r, &d, m, &s, &at, NULL) && r.count >= 1 && count + r.count <= 5, "%d tokens behind %d",
                  r.count, count);
            for (int j = 0; j < r.count; j++) text[count++] = r.tokens[j];
            fed = r.fed;
        }
        counts[(text[2] * V + text[3]) * V + text[4]]++;
    }
    double chi = draft_chi_square(counts, exact, CELLS, TEXTS, &freedom);
    CHECK(chi <= draft_bound(freedom), "texts with %d proposals: chi-square %g with %g degrees of freedom", k, chi,
          freedom);
    CHECK(d.proposed > 0 && d.accepted > 0 && d.accepted < d.proposed, "%lld of %lld accepted", (long long)d.accepted,
          (long long)d.proposed);
    d.loaded.model = NULL;
    draft_close(&d);
    sampler_free(&s);
    model_destroy(m), model_destroy(small);
}

// ---------------------------------------------------------------- generate

typedef struct {
    Tokenizer tok;
    Model *model, *same, *other, *shorter;
} DraftTest;

enum { DRAFT_TEST_CONTEXT = 24, DRAFT_TEST_V = 300 };

// A text of `tokens`, with a draft or, NULL, without; *d: what it came to. NULL: an error.
static char *draft_test_text(DraftTest *t, Model *draft, const Options *o, int tokens, Draft *d) {
    static Error err;
    Generator g;
    Str text;
    memset(&g, 0, sizeof g);
    memset(d, 0, sizeof *d);
    g.model = t->model, g.tok = &t->tok, g.tokens = tokens, g.context_length = DRAFT_TEST_CONTEXT;
    g.sampler = sampler_create(DRAFT_TEST_V, o->temperature, (int)o->top_k, o->top_p, (uint64_t)o->seed);
    id_list_add(&g.prompt, 7), id_list_add(&g.prompt, 8);
    if (draft) {
        draft_prepare(d, o, DRAFT_TEST_V);
        d->model = draft, d->context = draft->setup.seq_len;
        g.draft = d;
    }
    bool ok = generate(&text, &g, 5, &err);
    generator_free(&g);
    if (draft) draft_close(d);
    if (ok) return text.data;
    free(text.data);
    return NULL;
}

static void draft_test_greedy(DraftTest *t) {
    Options o = draft_test_options(0, 0, 1, 1);
    Draft d;
    Model *drafts[] = {t->same, t->other, t->shorter};
    static const char *const names[] = {"the model itself", "another model", "one of a shorter context"};
    char *want = draft_test_text(t, NULL, &o, 70, &d);
    for (int i = 0; i < 3; i++)
        for (int k = 1; k < LINEAR_FEW_ROWS; k++) {
            o.draft_tokens = k;
            char *text = draft_test_text(t, drafts[i], &o, 70, &d);
            CHECK(strcmp(text, want) == 0, "%d proposals of %s: the greedy text is \"%s\", without \"%s\"", k, names[i],
                  text, want);
            CHECK(d.proposed > 0, "nothing was proposed");
            CHECK(i > 0 ? d.accepted < d.proposed : d.accepted == d.proposed, "%lld of %lld accepted of %s",
                  (long long)d.accepted, (long long)d.proposed, names[i]);
            free(text);
        }
    o.temperature = 0.7, o.top_k = 1; // greedy, too
    char *text = draft_test_text(t, t->other, &o, 70, &d);
    CHECK(strcmp(text, want) == 0, "top_k=1: another text");
    free(text), free(want);
}

static void draft_test_same(DraftTest *t) {
    static const double filters[][3] = {{1, 0, 1}, {0.8, 50, 0.95}, {1.5, 0, 0.9}, {0.3, 3, 1}};
    Draft d;
    for (int i = 0; i < 4; i++) {
        Options o = draft_test_options(filters[i][0], (int)filters[i][1], filters[i][2], 1 + i % 4);
        char *text = draft_test_text(t, t->same, &o, 60, &d);
        CHECK(d.proposed > 20 && d.accepted == d.proposed, "of the model's own proposals %lld of %lld are accepted",
              (long long)d.accepted, (long long)d.proposed);
        free(text);
        text = draft_test_text(t, t->other, &o, 60, &d);
        char *again = draft_test_text(t, t->other, &o, 60, &d);
        o.seed++;
        char *seed = draft_test_text(t, t->other, &o, 60, &d);
        CHECK(strcmp(text, again) == 0, "the same seed gives another text");
        CHECK(strcmp(text, seed) != 0, "another seed gives the same text");
        free(text), free(again), free(seed);
    }
}

// An end token among what is accepted: whichever token of the greedy text is made one, the text stops before it.
static void draft_test_ends(DraftTest *t) {
    Options o = draft_test_options(0, 0, 1, 4);
    Draft d;
    int32_t ids[40] = {7, 8};
    int stops = t->tok.stop_count, first = t->tok.stops[0];
    for (int n = 2; n < 12; n++) { // within the context: no window
        const float *logits = model_decode(t->model, ids, n, 0);
        int best = 0;
        for (int i = 1; i < DRAFT_TEST_V; i++) best = logits[i] > logits[best] ? i : best;
        ids[n] = best;
        t->tok.stops[0] = best, t->tok.stop_count = 1;
        char *plain = draft_test_text(t, NULL, &o, 20, &d), *text = draft_test_text(t, t->same, &o, 20, &d);
        CHECK(strcmp(text, plain) == 0, "an end at token %d: \"%s\", without a draft \"%s\"", n - 2, text, plain);
        free(plain), free(text);
    }
    t->tok.stops[0] = first, t->tok.stop_count = stops;
}

static void draft_test_numbers(DraftTest *t) {
    Options o = draft_test_options(1, 0, 1, 3);
    Draft d;
    Model *wrong[] = {t->other, t->model};
    for (int i = 0; i < 2; i++) {
        Model *m = wrong[i];
        const Param *p = param_find(&m->shards.table, PARAM_normf_w, -1);
        real *w = m->shards.weights + p->offset, kept = *w;
        *w = (real)NAN;
        char *text = draft_test_text(t, t->other, &o, 30, &d);
        CHECK(text == NULL, "logits of the %s are not finite, and there is a text", i ? "model" : "draft");
        *w = kept;
    }
}

static void test_draft(void) {
    static const double filters[][3] = {{1, 0, 1}, {0.8, 5, 1}, {1.3, 0, 0.7}, {0.7, 6, 0.9}, {1, 1, 1}};
    Error err;
    DraftTest t;
    draft_test_selection();
    for (int i = 0; i < 4; i++) draft_test_judge(filters[i][0], (int)filters[i][1], filters[i][2], 3);
    draft_test_judge(0.9, 0, 0.95, 0);
    draft_test_rows();
    draft_test_texts(1, 1, 0, 1);
    draft_test_texts(2, 0.9, 4, 0.98);
    draft_test_texts(4, 1.2, 0, 1);
    memset(&t, 0, sizeof t);
    CHECK(tokenizer_load(&t.tok, "dev/test/fixtures/models/gpt2/tokenizer.json", &err), "%s", err.text);
    t.tok.stop_count = 0; // texts of any length
    t.tok.vocab_size = t.tok.vocab_size < DRAFT_TEST_V ? t.tok.vocab_size : DRAFT_TEST_V;
    t.model = draft_test_model(DRAFT_TEST_V, DRAFT_TEST_CONTEXT, 3, 1);
    t.same = draft_test_model(DRAFT_TEST_V, DRAFT_TEST_CONTEXT, 3, 1);
    t.other = draft_test_model(DRAFT_TEST_V, DRAFT_TEST_CONTEXT, 5, 1);
    t.shorter = draft_test_model(DRAFT_TEST_V, 9, 3, 1);
    draft_test_greedy(&t);
    draft_test_same(&t);
    draft_test_ends(&t);
    draft_test_numbers(&t);
    model_destroy(t.model), model_destroy(t.same), model_destroy(t.other), model_destroy(t.shorter);
    tokenizer_free(&t.tok);
}

#endif
