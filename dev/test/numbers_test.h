/*
numbers_test.h: tests of numbers that are not finite, where they can come from and what is said of them; of lines that
must not be lost; of the budget of time, by a clock of the test's own.
*/
#ifndef NUMBERS_TEST_H
#define NUMBERS_TEST_H

#include "check.h"
#include "trainer_test.h"
#include <sys/resource.h>

// ---------------------------------------------------------------- updates

// One number of w, m, v or g at a time is such that the update makes something that is not finite.
static void test_adamw_finite(void) {
    enum { N = 1000 };
    Error err;
    Cpu cpu;
    CHECK(cpu_open(&cpu, 2, &err), "%s", err.text);
    real huge = sizeof(real) == 4 ? (real)3e38 : (real)1.7e308, infinity = (real)INFINITY, nan = (real)NAN;
    const struct {
        int array; // w, m, v, g; -1: none
        real value;
        double lr, decay;
        bool finite;
    } cases[] = {{-1, 0, 1e-3, 0.1, true},  {0, huge, 1e-3, 0.1, true}, {0, huge, 10, 10, false},
                 {0, nan, 1e-3, 0, false},  {1, nan, 1e-3, 0, false},   {1, infinity, 1e-3, 0, false},
                 {2, nan, 1e-3, 0, false},  {2, -1, 1e-3, 0, false},    {2, infinity, 1e-3, 0, false},
                 {3, huge, 1e-3, 0, false}, {2, huge, 1e-3, 0, true},   {1, nan, 0, 0, false}};
    real *x[4];
    for (int k = 0; k < 4; k++) x[k] = (real *)mem_alloc(sizeof(real) * N);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int at = 0; at < N; at += at < 20 || at > N - 20 ? 1 : 61) {
            for (int k = 0; k < N; k++) x[0][k] = 1, x[1][k] = (real)0.1, x[2][k] = (real)0.2, x[3][k] = (real)0.3;
            if (cases[i].array >= 0) x[cases[i].array][at] = cases[i].value;
            UpdateRule rule = update_rule(3, (GroupRule){cases[i].lr, 0.9, 0.95, 1e-8, cases[i].decay}, 0);
            ParamRun run = {x[0], x[3], {x[1], x[2]}, N};
            CHECK(adamw(run, &rule, GROUP_MATRIX, 1, &cpu) == cases[i].finite,
                  "case %zu, number %d: an update that is %sfinite is taken for another", i, at,
                  cases[i].finite ? "" : "not ");
        }
    for (int k = 0; k < 4; k++) free(x[k]);
    cpu_close(&cpu);
}

// A model's update says it, and its tensor is found; one that was not made is none of these.
static void test_spoilt_update(const Config *c) {
    SpikeBounds none;
    char name[64];
    memset(&none, 0, sizeof none);
    CheckpointTables tables = checkpoint_tables(c, OPTIMIZER_ADAMW);
    for (int kind = 0; kind < 3; kind++) {
        Model *m = trainer_test_model(c, OPTIMIZER_ADAMW, true);
        const Param *p = param_find(&m->shards.table, PARAM_fc_w, 1);
        UpdateRule rule = update_rule(1, (GroupRule){1e-2, 0.9, 0.95, 1e-8, 0.1}, 1);
        if (kind == 1) m->shards.weights[p->offset + 5] = (real)3.3e38, rule.group[p->group].lr = 10;
        if (kind == 1) rule.group[p->group].weight_decay = sizeof(real) == 4 ? 10 : 1e300;
        if (kind == 2) m->shards.state[STATE_moment1][p->offset + 5] = (real)NAN;
        UpdateResult r = model_update(m, &rule);
        CHECK(r.updated && r.finite == (kind == 0), "kind %d: updated %d, finite %d", kind, r.updated, r.finite);
        CHECK(spike_judge(&none, &r) == (kind > 0), "kind %d: taken for the other", kind);
        nonfinite_find_state(name, m, &tables, &model_test_dist);
        if (kind > 0 && (kind == 2 || sizeof(real) == 4))
            CHECK(strcmp(name, kind == 1 ? "layer.1.fc_w" : "moment1 of layer.1.fc_w") == 0, "kind %d: %s", kind, name);
        m->loss = (double)NAN;
        r = model_update(m, &rule);
        CHECK(!r.updated && r.finite, "an update that was refused is said to have spoilt something");
        model_destroy(m);
    }
    checkpoint_tables_free(&tables);
}

// ---------------------------------------------------------------- what is read, evaluated, generated, written down

// A checkpoint's weight or moment that is not finite is refused by its name, wherever it stands.
static void test_load_finite(const Config *c) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    Error err;
    Tokenizer tok;
    CheckpointWriter w;
    Dist alone;
    dist_single(&alone);
    CHECK(tokenizer_load(&tok, "dev/test/fixtures/models/gpt2/tokenizer.json", &err), "%s", err.text);
    Path run = test_temp("finite");
    CHECK(path_make_folder(run.text, &err), "%s", err.text);
    Model *m = trainer_test_model(c, OPTIMIZER_ADAMW, false);
    CheckpointTables tables = checkpoint_tables(c, OPTIMIZER_ADAMW);
    const Param *last = &m->shards.table.items[m->shards.table.count - 1];
    for (int k = 0; k < 4; k++) {
        real *x = k < 3 ? m->shards.weights + (k ? last->offset + last->count - 1 : 0) : m->shards.state[STATE_moment2];
        real kept = *x;
        *x = (real)bad[k % 3];
        trainer_test_writer(&w, run.text, m, &tables, &tok, &alone, false);
        checkpoint_start(&w, k + 1, "", 0);
        checkpoint_finish(&w);
        CHECK(w.ok, "%s", w.err.text);
        checkpoint_writer_close(&w);
        *x = kept;
        Path folder = checkpoint_folder(run.text, k + 1);
        Model *other = trainer_test_model(c, OPTIMIZER_ADAMW, false);
        if (k < 3) CHECK_ERROR(folder_load_weights(other, &m->shards.table, c, folder.text, &err), " holds ");
        else {
            CHECK(folder_load_weights(other, &m->shards.table, c, folder.text, &err), "%s", err.text);
            CHECK_ERROR(checkpoint_load_moments(other, &tables, c, folder.text, &err), "tensor moment2.");
        }
        model_destroy(other);
    }
    checkpoint_tables_free(&tables);
    model_destroy(m);
    tokenizer_free(&tok);
}

// Finite weights whose logits are not: which token of which sequence is said; nothing is generated from them.
static void test_evaluate_finite(const Config *c) {
    Error err;
    Tokenizer tok;
    Dataset d;
    ShardWriter w;
    ShardSet set;
    int32_t ids[60];
    int64_t token = 0;
    Path prefix = test_temp("nonfinite"), shard = path_of("%s_train_00000.bin", prefix.text);
    bool ok = tokenizer_load(&tok, "dev/test/fixtures/models/qwen3-untied/tokenizer.json", &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    for (int i = 0; i < 60; i++) ids[i] = 40 + i % 20;
    ids[47] = 30, ids[59] = tok.eot; // sequences of 11: position 3 of number 4 reads it
    ok = shard_set_open(&set, prefix.text, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    shardwriter_open(&w, &set, SIDE_TRAIN, tok.vocab_size, tok.hash, 7, 100);
    shardwriter_add(&w, ids, 60, 0, 1);
    ok = shards_finish(&w, 1, &err) && shards_commit(&set, &w, 1, &err) && dataset_open(&d, shard.text, 11, &err);
    shards_abort(&set, &w, 1);
    CHECK(ok, "%s", ok ? "" : err.text);
    Model *m = trainer_test_model(c, OPTIMIZER_ADAMW, false);
    Evaluation e = {m, source_of_whole_dataset(&d), &tok, &model_test_dist, 2, 0, NULL, NULL};
    EvalResult r;
    CHECK(evaluate(&r, &e, &err) && r.whole && isfinite(r.loss) && r.tokens == 59 && e.source.sequences == 6,
          "loss %g over %lld tokens of %lld sequences, expected 59 of 6", r.loss, (long long)r.tokens,
          (long long)e.source.sequences);
    CHECK(r.bytes == tokens_text_bytes(&tok, ids + 1, 59), "%lld bytes", (long long)r.bytes);
    CHECK(evaluate_find(&e, &token) == -1, "a finite loss is found not to be");
    const Param *wte = param_find(&m->shards.table, PARAM_wte, -1);
    for (int i = 0; i < wte->cols; i++) m->shards.weights[wte->offset + (size_t)(30 * wte->cols + i)] = (real)1e300;
    if (sizeof(real) == 4) // the largest floats: their squares are not finite
        for (int i = 0; i < wte->cols; i++)
            m->shards.weights[wte->offset + (size_t)(30 * wte->cols + i)] = (real)(i % 2 ? 3e38 : -3e38);
    // A norm takes such a row for zeros, or for NaN: whichever it is, what is found and the mean agree.
    CHECK(evaluate(&r, &e, &err), "%s", err.text);
    int64_t sequence = evaluate_find(&e, &token);
    CHECK(isfinite(r.loss) == (sequence == -1) && (sequence == -1 || (sequence == 4 && token == 3)),
          "loss %g, token %lld of sequence %lld", r.loss, (long long)token, (long long)sequence);
    dataset_close(&d);
    tokenizer_free(&tok);
    model_destroy(m);
}

// Weights that make logits none that a token can be chosen by: an error, and what came before is kept.
static void test_generate_finite(const Config *c) {
    Error err;
    Options o;
    Tokenizer tok;
    Str text;
    CHECK(options_parse(&o, VERB_GENERATE, 0, NULL, &err), "%s", err.text);
    CHECK(tokenizer_load(&tok, "dev/test/fixtures/models/gpt2/tokenizer.json", &err), "%s", err.text);
    Model *m = trainer_test_model(c, OPTIMIZER_ADAMW, false);
    Generator g = generator_open(&o, "a", c, &tok);
    g.model = m, g.context_length = 8, g.tokens = 3, g.prompt.items[0] = 1, g.prompt.count = 1;
    CHECK(generate(&text, &g, 0, &err), "%s", err.text);
    free(text.data);
    const Param *norm = param_find(&m->shards.table, PARAM_normf_w, -1);
    m->shards.weights[norm->offset] = (real)NAN;
    CHECK_ERROR(generate(&text, &g, 0, &err), "logits for token 1 behind the prompt are not finite");
    CHECK(text.data && text.size == 0, "text of NaN");
    free(text.data);
    generator_free(&g);
    model_destroy(m);
    tokenizer_free(&tok);
    options_free(&o);
}

static void test_sample_finite(void) {
    float x[5] = {1, 2, -INFINITY, 0, 3};
    const float wrong[] = {NAN, INFINITY};
    for (int temperature = 0; temperature < 2; temperature++) {
        Sampler s = sampler_create(5, temperature, 0, 1, 3);
        CHECK(sample_token(&s, x, 5, 0) >= 0, "-infinity is a logit");
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 2; k++) {
                float kept = x[i];
                x[i] = wrong[k];
                CHECK(sample_token(&s, x, 5, 0) == -1, "logit %d is %g, and a token is chosen", i, (double)wrong[k]);
                CHECK((sample_token(&s, x, 4, 0) == -1) == (i < 4), "logit %d of 4 is looked at, or not", i);
                x[i] = kept;
            }
        float none[2] = {-INFINITY, -INFINITY};
        CHECK(sample_token(&s, none, 2, 0) == -1, "a token that nothing speaks for is chosen");
        sampler_free(&s);
    }
}

// Whatever the numbers are, a line of the metrics is JSON.
static void test_metrics_json(void) {
    static const double values[] = {NAN, INFINITY, -INFINITY, 1e300, 0};
    static const char *const names[] = {"epoch",        "loss", "lr",       "grad_norm", "step_ms",
                                        "tokens_per_s", "mfu",  "val_loss", "z_loss",    "event_loss"};
    for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
        double x = values[k];
        StepMetrics m;
        memset(&m, 0, sizeof m);
        m.epoch = m.loss = m.lr = m.grad_norm = m.seconds = m.rate = m.mfu = m.share = m.val_loss = m.val_bits = x;
        m.seconds = x / 1e3;
        m.validated = true;
        m.event.action = "spike", m.event.loss = m.event.grad_norm = m.event.z_loss = m.event.z_norm = x;
        DeviceReadings d = {x, x, x, x, x, x};
        Str s;
        JsonDoc doc;
        Error err;
        memset(&s, 0, sizeof s);
        metrics_json(&s, &m, &d);
        const Json *root = json_parse(&doc, s.data, s.size, &err);
        CHECK(root, "%g: %s: %s", x, err.text, s.data);
        for (size_t i = 0; root && i < sizeof names / sizeof *names; i++) {
            const Json *j = json_get(root, names[i]);
            CHECK(json_is(j, isfinite(x) ? JSON_NUMBER : JSON_NULL), "%g: %s is missing or not what it is", x,
                  names[i]);
        }
        if (root) json_free(&doc);
        free(s.data);
    }
}

// ---------------------------------------------------------------- lines

// A disk without room, which a limit on the size of files stands for: no line is lost, none is written in part.
static void test_lines(void) {
    Error err;
    LineFile f;
    Str text;
    struct rlimit usual, small;
    memset(&f, 0, sizeof f);
    memset(&text, 0, sizeof text);
    Path path = test_temp("lines"), folder = test_temp("none/lines");
    CHECK_ERROR(lines_open(&f, folder.text, 0, &err), "cannot write");
    CHECK_ERROR(lines_open(&f, "/dev/null", 0, &err), "not a regular file");
    lines_finish(&f, &err);
    CHECK(file_write_all(path.text, "one\ntwo\n", 8, &err) && lines_open(&f, path.text, 4, &err), "%s", err.text);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &usual);
    small = usual, small.rlim_cur = 10;
    setrlimit(RLIMIT_FSIZE, &small);
    f.warned = true; // the warning would look like a failure of this test
    lines_add(&f, "second\n", 7);
    bool kept = f.pending.size == 7, flushed = lines_flush(&f);
    setrlimit(RLIMIT_FSIZE, &usual);
    CHECK(kept && !flushed, "a line that does not fit is not kept");
    CHECK(file_read(&text, path.text, 100, &err) && strcmp(text.data, "one\n") == 0, "the file is: %s", text.data);
    lines_add(&f, "third\n", 6);
    CHECK(lines_finish(&f, &err), "%s", err.text);
    CHECK(file_read(&text, path.text, 100, &err) && strcmp(text.data, "one\nsecond\nthird\n") == 0, "the file is: %s",
          text.data);
    CHECK(lines_open(&f, path.text, -1, &err) && f.size == 17, "goes on behind %lld bytes", (long long)f.size);
    setrlimit(RLIMIT_FSIZE, &small);
    f.warned = true;
    lines_add(&f, "lost\n", 5);
    bool complete = lines_finish(&f, &err);
    setrlimit(RLIMIT_FSIZE, &usual);
    CHECK(!complete && strstr(err.text, "last lines of") && strstr(err.text, path.text), "lost lines are not said");
    free(text.data);
}

// ---------------------------------------------------------------- the budget of time

static double numbers_test_time; // what the test's clock shows
static double numbers_test_clock(void) { return numbers_test_time; }

// A run by a budget of 100 s whose step number i takes took(i) seconds, with a validation of 3 s every 10 steps; its
// marks and their number. record: where; from: the number of the first step, of one sequence each.
static int numbers_test_run(double *marks, int most, const char *record, double (*took)(int), int from, double used) {
    Error err;
    Budget b;
    memset(&b, 0, sizeof b);
    b.limit = 100, b.clock = numbers_test_clock;
    CHECK(budget_open(&b, record, from, used, &err), "%s", err.text);
    double mark = used;
    int i = from;
    for (; i < most && mark < b.limit; i++) {
        double before = mark;
        mark = budget_begin(&b, i, i + 1, mark);
        CHECK(mark >= before && mark <= b.limit, "mark %g behind %g", mark, before);
        marks[i] = mark;
        numbers_test_time += took(i);
        budget_end(&b, mark);
        if (i % 10 == 9) numbers_test_time += 3;
    }
    CHECK(lines_finish(&b.file, &err), "%s", err.text);
    free(b.marks);
    return i;
}

static double steps_even(int i) { return i < 0 ? 0 : 0.5; }
static double steps_stall(int i) { return i == 30 ? 60 : i == 60 ? 1e3 : 0.5; }
static double steps_slow(int i) { return i % 2 ? 40 : 0.25; }
static double steps_late(int i) { return i == 0 ? 500 : 1; }

static void test_budget(void) {
    enum { MOST = 4000 };
    static double (*const tooks[])(int) = {steps_even, steps_stall, steps_slow, steps_late};
    // 100 s are 128 times 0.5 s and 12 times 3 s; 31 steps before the stall ends, and 20 behind it; ...
    static const int steps[] = {128, 51, 7, 2};
    double a[MOST], b[MOST];
    for (int k = 0; k < 4; k++) {
        Path record = path_of("%s%d", test_temp("budget").text, k);
        numbers_test_time = 1e6 * k;
        double start = numbers_test_time, last = 0;
        int n = numbers_test_run(a, MOST, record.text, tooks[k], 0, 0);
        last = tooks[k](n - 1);
        CHECK(a[n - 1] == 100 && (n < 2 || a[n - 2] < 100), "kind %d: the last of %d marks is %g", k, n, a[n - 1]);
        CHECK(n == steps[k], "kind %d: %d steps, expected %d", k, n, steps[k]);
        if (k == 0)
            CHECK(fabs(numbers_test_time - start - 100) <= 1.5 * last + 3, "%g s of 100", numbers_test_time - start);
        // The record gives the same steps by another clock: whole, and cut short by a kill at any line.
        int again = numbers_test_run(b, MOST, record.text, steps_slow, 0, 0);
        CHECK(again == n && memcmp(a, b, sizeof(double) * (size_t)n) == 0, "kind %d: %d steps again, not %d", k, again,
              n);
    }
}

// Killed behind step 40 of the record, and resumed from the checkpoint of step 20.
static void test_budget_resume(void) {
    enum { MOST = 4000 };
    double a[MOST], b[MOST];
    Error err;
    Path record = test_temp("budget_resume");
    Str text;
    memset(&text, 0, sizeof text);
    numbers_test_time = 7;
    CHECK(numbers_test_run(a, 40, record.text, steps_even, 0, 0) == 40, "40 steps do not fit");
    CHECK(file_read(&text, record.text, 1 << 20, &err), "%s", err.text);
    str_puts(&text, "{\"position\": 40, \"st"); // the line that the kill cut short
    CHECK(file_write_all(record.text, text.data, text.size, &err), "%s", err.text);
    numbers_test_time = 5000;
    int n = numbers_test_run(b, MOST, record.text, steps_slow, 20, a[19]);
    CHECK(memcmp(a + 20, b + 20, sizeof(double) * 20) == 0, "the record is not followed");
    CHECK(n > 40 && b[40] >= a[39] && b[40] <= a[39] + 80 && b[n - 1] == 100, "step 41 has %g behind %g; %d steps",
          b[40], a[39], n);
    // The whole of it again, on a third machine.
    memcpy(b, a, sizeof(double) * 20);
    int again = numbers_test_run(a, MOST, record.text, steps_stall, 0, 0);
    CHECK(again == n && memcmp(a, b, sizeof(double) * (size_t)n) == 0, "the record of both parts: %d steps, not %d",
          again, n);
    // Steps of another size are not those of the record: it ends where they begin.
    Budget other;
    memset(&other, 0, sizeof other);
    other.limit = 100, other.clock = numbers_test_clock;
    CHECK(budget_open(&other, record.text, 10, a[9], &err), "%s", err.text);
    budget_begin(&other, 10, 6, a[9]), budget_end(&other, a[10]);
    CHECK(other.recorded, "position 10 is in the record");
    budget_begin(&other, 12, 7, a[10]);
    CHECK(!other.recorded, "position 12 behind 10 is in the record");
    lines_finish(&other.file, &err);
    free(other.marks);
    memset(&other, 0, sizeof other);
    other.clock = numbers_test_clock;
    CHECK(budget_open(&other, record.text, 0, 0, &err), "%s", err.text);
    CHECK(other.count == 12 && other.marks[11].position == 12, "the record has %zu lines", other.count);
    lines_finish(&other.file, &err);
    free(other.marks);
    static const char *const wrong[] = {"{\"position\": 0, \"seconds\": 2}\n{\"position\": 0, \"seconds\": 3}\n",
                                        "{\"position\": 0, \"seconds\": 2}\n{\"position\": 1, \"seconds\": 1}\n",
                                        "{\"position\": 0, \"seconds\": 2}\n\n",
                                        "{\"position\": 0, \"seconds\": \"2\"}\n",
                                        "{\"position\": 0, \"seconds\": -1}\n",
                                        "{\"seconds\": 1}\n",
                                        "[]\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memset(&other, 0, sizeof other);
        other.limit = 100, other.clock = numbers_test_clock;
        CHECK(file_write_all(record.text, wrong[i], strlen(wrong[i]), &err), "%s", err.text);
        CHECK_ERROR(budget_open(&other, record.text, 0, 0, &err), "expected a step's position and seconds");
        lines_finish(&other.file, &err);
        free(other.marks);
    }
    free(text.data);
}

// By the share of the time the rate goes the way that it goes by steps.
static void test_schedule_share(void) {
    for (int kind = SCHEDULE_COSINE; kind <= SCHEDULE_WSD; kind++)
        for (int warm = 0; warm < 2; warm++) {
            Schedule s = {kind, 2e-3, 0.1, 0.25, 100 * warm, 1000, 0.1 * warm};
            for (int64_t step = 1; step <= 1000; step++) {
                double want = schedule_lr(&s, step), got = schedule_lr_at(&s, (double)step / 1000);
                CHECK(fabs(want - got) <= 1e-12 * want, "kind %d, step %lld: %.17g, not %.17g", kind, (long long)step,
                      got, want);
            }
            CHECK(schedule_lr_at(&s, 1) == (kind == SCHEDULE_CONSTANT ? 2e-3 : 2e-3 * 0.1), "the last is %g",
                  schedule_lr_at(&s, 1));
            CHECK(schedule_lr_at(&s, 0) == (warm ? 0 : 2e-3), "the first is %g", schedule_lr_at(&s, 0));
        }
    Schedule all = {SCHEDULE_COSINE, 1, 0.1, 0.2, 0, 1, 1}; // warm-up to the end
    CHECK(schedule_lr_at(&all, 0.5) == 0.5 && schedule_lr_at(&all, 1) == 1, "a warm-up of all the time");
}

static void test_numbers(void) {
    Error err;
    Config c;
    CHECK(folder_read_config(&c, "dev/test/fixtures/models/qwen3-untied", &err), "%s", err.text);
    test_adamw_finite();
    test_spoilt_update(&c);
    test_load_finite(&c);
    test_evaluate_finite(&c);
    test_generate_finite(&c);
    test_sample_finite();
    test_metrics_json();
    test_lines();
    test_budget();
    test_budget_resume();
    test_schedule_share();
}

#endif
