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

// A model of random weights for batches of 8.
static Model *score_test_model(const Config *c) {
    ModelSetup setup;
    Error err;
    memset(&setup, 0, sizeof setup);
    setup.config = *c, setup.batch_size = 8, setup.seq_len = c->max_seq_len, setup.threads = 1, setup.shares = true;
    setup.dist = &model_test_dist;
    Model *m = model_create(&setup, &err);
    CHECK(m, "%s", err.text);
    model_init_weights(m, &m->shards.table, c, 5);
    return m;
}

static uint64_t stems_test_random(int round, int index) {
    Philox p = rng_draw(rng_stream((uint64_t)round, "stems"), (uint64_t)index);
    return (uint64_t)p.x[1] << 32 | p.x[0];
}

// The roots and families of sequences over a small alphabet: they lie in each other as they must, what they save is
// what was returned, and no stem alone saves more.
static void test_stems(void) {
    enum { MOST = 120, LONG = 90 };
    int roots = 0, inner = 0;
    for (int round = 0; round < 300; round++) {
        int alike[MOST], most[MOST], n = 2 + (int)(stems_test_random(round, 0) % (MOST - 1));
        for (int i = 0; i < n; i++) {
            uint64_t r = stems_test_random(round, 1 + i), kind = r % 64;
            alike[i] = i == 0 || kind == 0 ? 0 : 8 * (int)((round % 3 ? 1 : 5) + r / 64 % (kind < 30 ? 3 : 6));
            most[i] = round % 2 || r / 1024 % 8 ? LONG : 8 * (int)(r / 8192 % 10);
        }
        Stems s = {8, alike, most, NULL, 0, 0};
        int64_t saved = stems_find(&s, 0, (size_t)n), counted = 0, single = 0;
        size_t until[2] = {0, 0}, inside = 0; // ends of the last family and the last root
        for (size_t k = 0; k < s.count; k++) {
            const Stem *stem = &s.items[k];
            size_t end = stem->first + stem->count;
            int base = 0;
            CHECK(stem->first >= until[stem->root] && end <= (size_t)n, "stem %zu of round %d overlaps", k, round);
            until[stem->root] = end;
            if (stem->root) inside = k, roots++;
            bool within = !stem->root && until[1] > stem->first;
            CHECK(!within || end <= until[1], "a family of round %d leaves its root", round);
            if (within) base = s.items[inside].length, inner++;
            CHECK(stem->root ? stem->count >= STEM_MANY && stem->length >= STEM_ROOT
                             : stem->count >= 2 && stem->count < STEM_MANY && stem->length - base >= 8,
                  "stem %zu of round %d: %zu sequences, %d tokens behind %d", k, round, stem->count, stem->length,
                  base);
            for (size_t i = stem->first; i < end; i++)
                CHECK((i == stem->first || alike[i] >= stem->length) && most[i] >= stem->length,
                      "sequence %zu of round %d does not begin with its stem", i, round);
            counted += (int64_t)(stem->count - 1) * (stem->length - base);
        }
        CHECK(counted == saved, "round %d: %lld tokens saved, %lld returned", round, (long long)counted,
              (long long)saved);
        for (int i = 0; i < n && round % 2; i++) // each may share all that it has in common
            for (int k = i + 1, common = INT32_MAX; k < n; k++) {
                common = (int)int64_min(common, alike[k]);
                bool may = k - i + 1 < STEM_MANY || common >= STEM_ROOT;
                if (may && (int64_t)(k - i) * common > single) single = (int64_t)(k - i) * common;
            }
        CHECK(saved >= single, "round %d: %lld tokens saved, one stem alone saves %lld", round, (long long)saved,
              (long long)single);
        free(s.items);
    }
    CHECK(roots > 20 && inner > 20, "%d roots, %d families in them: too few to tell", roots, inner);
}

// A few-shot form: examples that all questions of a group begin with, which are computed once, and questions whose
// choices share theirs behind them.
static void test_score_shots(const Config *config) {
    enum { GROUPS = 2, ITEMS = 40, CHOICES = 3, REQUESTS = GROUPS * ITEMS * CHOICES };
    static const char *const words[] = {"an der alten Mauer", "im Hof hinter dem Haus", "gar nicht"};
    Config config_long = *config, *c = &config_long;
    Path path = test_temp("shots.jsonl");
    double plain[REQUESTS], shared[REQUESTS];
    Tokenizer tok;
    TaskSet set;
    Error err;
    Str s;
    memset(&s, 0, sizeof s);
    c->max_seq_len = 256;
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < ITEMS; i++) {
            str_puts(&s, "{\"context\": \"");
            for (int k = 0; k < 4; k++)
                str_printf(&s, "Frage: Wo steht der Baum Nummer %d?\\nAntwort: %s\\n\\n", 7 * g + k, words[k % 3]);
            str_printf(&s,
                       "Frage: Wo liegt der Stein mit der Nummer %d?\\nAntwort:\", \"choices\": [\"%s\", \"%s\", "
                       "\"%s\"], \"answer\": 0}\n",
                       i, words[i % 3], words[(i + 1) % 3], words[(i + 2) % 3]);
        }
    CHECK(file_write_all(path.text, s.data, s.size, &err), "%s", err.text);
    free(s.data);
    CHECK(tokenizer_load(&tok, "dev/test/fixtures/models/qwen3-untied/tokenizer.json", &err), "%s", err.text);
    TaskRules rules = {&tok, c->max_seq_len, false};
    CHECK(tasks_open(&set, path.text, &rules, &err), "%s", err.text);
    CHECK(set.request_count == REQUESTS, "%zu requests", set.request_count);
    // What is left where both are shared: of a question what it and its choices have of their own.
    int64_t all = 0, examples = 0, questions = 0;
    for (int i = 0; i < REQUESTS; i += CHOICES) {
        const TaskRequest *q = &set.requests[i], *next = &set.requests[(i + CHOICES) % REQUESTS];
        int alike = 0;
        while (request_ids(&set, q)[alike] == request_ids(&set, next)[alike]) alike++;
        for (int k = 0; k < CHOICES; k++) all += q[k].count - 1;
        if (i % (ITEMS * CHOICES) == 0) examples = alike;
        questions += q->count - q->scored - alike;
    }
    Model *m = score_test_model(c);
    int64_t without = score_test_run(plain, &set, m, c, 8, false), with = score_test_run(shared, &set, m, c, 8, true);
    // Each sequence keeps SCORE_ROWS and the rest of a step, which is as much, of what it might share on either level;
    // and a batch is as long as its longest row.
    int64_t most = GROUPS * examples + questions + REQUESTS * (4 * SCORE_ROWS + 8);
    CHECK(examples > 80 && without >= all && with <= most && 3 * with < without,
          "%lld tokens computed with sharing, %lld expected at most, %lld without", (long long)with, (long long)most,
          (long long)without);
    printf("few-shot tasks: %lld tokens computed, %lld without sharing\n", (long long)with, (long long)without);
    for (int i = 0; i < REQUESTS; i++)
        CHECK(fabs(shared[i] - plain[i]) <= 1e-6 * fabs(plain[i]), "request %d: %.9g, without sharing %.9g", i,
              shared[i], plain[i]);
    for (int B = 1; B < 8; B += 3) {
        score_test_run(plain, &set, m, c, B, true);
        CHECK(memcmp(plain, shared, sizeof plain) == 0, "other bits with %d sequences a batch", B);
    }
    model_destroy(m);
    tasks_free(&set);
    tokenizer_free(&tok);
}

static void test_score_shared(const Config *c) {
    int rows = SCORE_ROWS;
    CHECK(rows > LINEAR_FEW_ROWS && rows > ATTENTION_FEW_QUERIES, "batches have rows of two kinds");
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
    Model *m = score_test_model(c);
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
