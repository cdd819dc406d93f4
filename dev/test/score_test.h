/*
score_test.h: what tasks begin with is computed once (llmc/run/score.h): the work that is saved, counted, and the same
answers as without.
*/
#include "check.h"

// The answers to a set, with or without sharing, and how many tokens were computed for them.
static int64_t score_test_run(double *answers, TaskSet *set, Model *m, const Config *c, int batch_size, bool share) {
    int64_t computed = 0;
    Error err;
    Scorer scorer = {m, &model_test_dist, batch_size, c->max_seq_len, c->vocab_size, share, NULL, &computed};
    CHECK(score(set, &scorer, &err), "%s", err.text);
    for (size_t i = 0; i < set->request_count; i++) answers[i] = set->requests[i].loglikelihood;
    return computed;
}

static void test_score_shared(const Config *c) {
    enum { ITEMS = 12, CHOICES = 4, MOST = 2 * ITEMS * CHOICES };
    static const char *const words[] = {"gut", "nicht gut genug", "ganz anders als gedacht", "so"};
    Path path = test_temp("shared.jsonl");
    double plain[MOST], shared[MOST];
    Tokenizer tok;
    TaskSet set;
    Error err;
    Str s;
    memset(&s, 0, sizeof s);
    // Contexts of several lengths; each of its choices shares all of it, and the first words with no other.
    for (int i = 0; i < ITEMS; i++) {
        str_printf(&s, "{\"context\": \"Das Haus %d am Fluss steht %.*s leer und\", \"choices\": [", i, 4 * (i % 5),
                   "seit vielen Jahren nun");
        for (int k = 0; k < CHOICES; k++) str_printf(&s, "%s\"%s und so weiter\"", k ? ", " : "", words[(i + k) % 4]);
        str_puts(&s, "], \"answer\": 0}\n");
    }
    CHECK(file_write_all(path.text, s.data, s.size, &err), "%s", err.text);
    free(s.data);
    CHECK(tokenizer_load(&tok, "dev/test/fixtures/models/qwen3-untied/tokenizer.json", &err), "%s", err.text);
    TaskRules rules = {&tok, c->max_seq_len, true};
    CHECK(tasks_open(&set, path.text, &rules, &err), "%s", err.text);
    CHECK(set.request_count == ITEMS * CHOICES, "%zu requests", set.request_count);
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.config = *c, setup.batch_size = 8, setup.seq_len = c->max_seq_len, setup.threads = 1;
    setup.dist = &model_test_dist;
    Model *m = model_create(&setup, &err);
    CHECK(m, "%s", err.text);
    model_init_weights(m, &m->shards.table, c, 5);
    // What passes must compute at least: every context once but for its last tokens, of which SCORE_ROWS may stay with
    // the choices, and more by the step in which it is shared.
    int64_t all = 0, least = 0;
    for (size_t i = 0; i < set.request_count; i++) {
        const TaskRequest *q = &set.requests[i];
        int context = q->count - q->scored, kept = context - 1 > 2 * SCORE_ROWS ? context - 1 - 2 * SCORE_ROWS : 0;
        all += q->count - 1;
        least += i % CHOICES ? kept : 0;
    }
    int64_t without = score_test_run(plain, &set, m, c, 8, false), with = score_test_run(shared, &set, m, c, 8, true);
    CHECK(without >= all && least > 0 && with <= without - least / 2,
          "%lld tokens computed with sharing, %lld without, %lld in all sequences, %lld of them surely shared",
          (long long)with, (long long)without, (long long)all, (long long)least);
    printf("tasks: %lld tokens computed, %lld without sharing\n", (long long)with, (long long)without);
    for (size_t i = 0; i < set.request_count; i++)
        CHECK(fabs(shared[i] - plain[i]) <= 1e-6 * fabs(plain[i]), "request %zu: %.9g, without sharing %.9g", i,
              shared[i], plain[i]);
    for (int B = 1; B < 8; B += 2) { // a family larger than a batch as well
        score_test_run(plain, &set, m, c, B, true);
        CHECK(memcmp(plain, shared, sizeof(double) * set.request_count) == 0, "other bits with %d sequences a batch",
              B);
    }
    model_destroy(m);
    tasks_free(&set);
    tokenizer_free(&tok);
}
