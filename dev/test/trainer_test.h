/*
trainer_test.h: tests of what a run stands on: spikes, refused updates, checkpoints from a copy and from the
model, the state in run.json, which old checkpoints go, the watchdog. Whole runs: the shell scripts.
*/
#ifndef TRAINER_TEST_H
#define TRAINER_TEST_H

#include "check.h"
#include "score_test.h"
#include <sys/wait.h>

static void test_spikes(void) {
    SpikeWindow w;
    SpikeRule rule = {5, 2, SPIKE_SKIP, 10};
    memset(&w, 0, sizeof w);
    for (int i = 0; i < 7; i++) {
        SpikeBounds b = spike_bounds(&w, &rule);
        CHECK((b.max_loss > 0) == (i >= 5) && (b.max_norm > 0) == (i >= 5),
              "bounds %g and %g after %d steps of a window of 5", b.max_loss, b.max_norm, i);
        spike_add(&w, rule.window, i, 10 * i + 1);
    }
    CHECK(w.count == 5 && w.loss[0] == 2 && w.loss[4] == 6 && w.grad_norm[0] == 21 && w.grad_norm[4] == 61,
          "the window holds %d values from %g to %g", w.count, w.loss[0], w.loss[w.count - 1]);
    // 2, 3, 4, 5, 6: mean 4, variance (4 + 1 + 0 + 1 + 4) / 5 = 2
    SpikeBounds b = spike_bounds(&w, &rule);
    CHECK(fabs(b.max_loss - (4 + 2 * sqrt(2))) < 1e-14 && fabs(b.max_norm - (41 + 20 * sqrt(2))) < 1e-12,
          "bounds %.17g, %.17g", b.max_loss, b.max_norm);
    double level[3] = {7, 7, 7};
    CHECK(spike_statistics(level, 3).mean == 7 && spike_statistics(level, 3).deviation == 7e-3,
          "the deviation of a level is %g", spike_statistics(level, 3).deviation);
    rule.threshold = 0;
    CHECK(spike_bounds(&w, &rule).max_loss == 0, "a threshold of 0 judges");
    rule.threshold = 2, rule.window = 3;
    spike_add(&w, rule.window, 9, 9);
    CHECK(w.count == 3 && w.loss[0] == 5 && w.loss[2] == 9,
          "a window that got smaller keeps the newest, not %d from %g", w.count, w.loss[0]);
}

static Model *trainer_test_model(const Config *c, int optimizer, bool backward) {
    static int32_t tokens[22], targets[22]; // (2, 11); model_backward reads the tokens again
    ModelSetup setup;
    Error err;
    memset(&setup, 0, sizeof setup);
    setup.config = *c;
    setup.batch_size = 2, setup.seq_len = 11;
    setup.threads = 1;
    setup.gradients = true;
    setup.muon = (MuonRule){optimizer, MUON_SCALE_RMS, MUON_JORDAN, 5, 0.95, 0.95, true, false};
    setup.dist = &model_test_dist;
    Model *m = model_create(&setup, &err);
    if (!m) fail("%s", err.text);
    model_init_weights(m, &m->shards.table, c, 5);
    for (int i = 0; backward && i < 22; i++)
        tokens[i] = (i * 7 + 3) % c->vocab_size, targets[i] = (i * 5 + 1) % c->vocab_size;
    if (backward) {
        ModelBatch batch = {tokens, targets, NULL, 2, 11};
        model_forward(m, &batch, 1.0 / 22, NULL);
        model_backward(m, true);
    }
    return m;
}

// Numbers of a row of the optimizer's state.
static size_t trainer_test_numbers(const Model *m, int kind) {
    return m->shards.state_start[kind][m->shards.table.count];
}

// An update above a bound touches nothing, and one below it does what it does without.
static void test_refused_updates(const Config *c) {
    Model *free_model = trainer_test_model(c, OPTIMIZER_ADAMW, true), *m = trainer_test_model(c, OPTIMIZER_ADAMW, true);
    size_t n = m->shards.table.elements, bytes = sizeof(real) * n;
    real *weights = (real *)mem_alloc(bytes), *gradients = (real *)mem_alloc(bytes);
    memcpy(weights, m->shards.weights, bytes);
    memcpy(gradients, m->shards.gradients, bytes);
    UpdateRule rule = update_rule(1, (GroupRule){1e-2, 0.9, 0.95, 1e-8, 0.1}, 1);
    UpdateResult r = model_update(free_model, &rule);
    CHECK(r.updated && r.loss > 0 && r.grad_norm > 0, "loss %g, norm %g", r.loss, r.grad_norm);
    for (int kind = 0; kind < 2; kind++) {
        m->loss = r.loss; // model_update took it
        rule.max_loss = kind == 0 ? r.loss * 0.9999 : 0;
        rule.max_norm = kind == 1 ? r.grad_norm * 0.9999 : 0;
        UpdateResult refused = model_update(m, &rule);
        CHECK(!refused.updated && refused.loss == r.loss && refused.grad_norm == r.grad_norm,
              "kind %d: updated %d, loss %g, norm %g", kind, refused.updated, refused.loss, refused.grad_norm);
        bool touched =
            memcmp(m->shards.weights, weights, bytes) != 0 || memcmp(m->shards.gradients, gradients, bytes) != 0;
        for (size_t i = 0; i < n; i++)
            touched |= m->shards.state[STATE_moment1][i] != 0 || m->shards.state[STATE_moment2][i] != 0;
        CHECK(!touched, "kind %d: a refused update touched weights, gradients or moments", kind);
    }
    m->loss = (double)INFINITY;
    rule.max_loss = rule.max_norm = 0;
    CHECK(!model_update(m, &rule).updated, "an update of an infinite loss is made");
    m->loss = r.loss;
    rule.max_loss = r.loss, rule.max_norm = r.grad_norm; // at the bound is not above it
    CHECK(model_update(m, &rule).updated, "an update within its bounds is refused");
    CHECK(memcmp(m->shards.weights, free_model->shards.weights, bytes) == 0 &&
              memcmp(m->shards.state[STATE_moment2], free_model->shards.state[STATE_moment2], bytes) == 0,
          "bounds change an update within them");
    free(weights);
    free(gradients);
    model_destroy(m);
    model_destroy(free_model);
}

static bool trainer_test_same(const char *a, const char *b) {
    MappedFile x, y;
    Error err;
    if (!file_map(&x, a, &err) || !file_map(&y, b, &err)) return false;
    bool same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    file_unmap(&x);
    file_unmap(&y);
    return same;
}

static void trainer_test_writer(CheckpointWriter *w, const char *run_dir, Model *m, const CheckpointTables *tables,
                                const Tokenizer *tok, const Dist *dist, bool background) {
    Error err;
    memset(w, 0, sizeof *w);
    w->run_dir = run_dir, w->model = m, w->tables = tables, w->config = &m->config;
    w->tokenizer = tok, w->dist = dist, w->copies = background;
    CHECK(checkpoint_writer_open(w, &err), "%s", err.text);
}

static void test_checkpoint_copy(const Config *c, int optimizer) {
    Error err;
    Tokenizer tok;
    CheckpointWriter w;
    Dist alone;
    RunState state, back;
    CHECK(tokenizer_load(&tok, "dev/test/fixtures/models/gpt2/tokenizer.json", &err), "%s", err.text);
    dist_single(&alone);
    CheckpointTables tables = checkpoint_tables(c, optimizer);
    Model *m = trainer_test_model(c, optimizer, true);
    UpdateRule rule = update_rule(1, (GroupRule){1e-2, 0.9, 0.95, 1e-8, 0}, 0);
    model_update(m, &rule);
    memset(&state, 0, sizeof state);
    state.step = 7, state.position = 123, state.tokens = 456, state.seed = 9, state.seq_len = 11,
    state.data = 0xfedcba9876543210u;
    state.skipped = 2, state.spikes = 1, state.spike_step = 6, state.lr = 0.1 + 0.2;
    double x = 1;
    for (int i = 0; i < 300; i++) {
        x = fmod(x * 1.618033988749895 + 0.1, 7);
        spike_add(&state.window, 256, x, x / 3e5);
    }
    Str run;
    memset(&run, 0, sizeof run);
    run_state_json(&run, &state);
    Path copied = test_temp("copied"), direct = test_temp("direct");
    for (int background = 0; background < 2; background++) {
        const char *folder = background ? copied.text : direct.text;
        CHECK(path_make_folder(folder, &err), "%s", err.text);
        trainer_test_writer(&w, folder, m, &tables, &tok, &alone, background);
        checkpoint_start(&w, state.step, run.data, 0);
        if (background) { // training goes on: what is written must not change
            for (size_t i = 0; i < m->shards.table.elements; i++) m->shards.weights[i] = 1;
            for (int k = 0; k < STATE_KINDS; k++)
                for (size_t i = 0; i < trainer_test_numbers(m, k); i++) m->shards.state[k][i] = 1;
            while (checkpoint_under_way(&w, 0.1)) {}
        }
        checkpoint_finish(&w);
        CHECK(w.ok, "%s", w.err.text);
        checkpoint_writer_close(&w);
    }
    static const char *const files[] = {"model.safetensors", "optimizer-00001-of-00001.safetensors", "config.json",
                                        "run.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        Path a = path_of("%.3000s/step_00000007/%s", copied.text, files[i]),
             b = path_of("%.3000s/step_00000007/%s", direct.text, files[i]);
        CHECK(trainer_test_same(a.text, b.text), "%s differs between a checkpoint from a copy and one from the model",
              files[i]);
    }
    Path folder = checkpoint_folder(copied.text, 7), damaged = path_of("%.3000s/model.safetensors", folder.text);
    CHECK(run_state_load(&back, folder.text, &err) && checkpoint_verify(folder.text, 0, 1, &err), "%s", err.text);
    CHECK(memcmp(&back, &state, sizeof state) == 0,
          "the state in run.json is not the one that was written: step %lld, %d values in the window",
          (long long)back.step, back.window.count);
    // What is read back is what was there: no other model of these tokens has other moments.
    Model *same = trainer_test_model(c, optimizer, true), *read = trainer_test_model(c, optimizer, false);
    model_update(same, &rule);
    CHECK(checkpoint_load_moments(read, &tables, c, folder.text, &err), "%s", err.text);
    for (int k = 0; k < STATE_KINDS; k++)
        for (size_t i = 0; i < trainer_test_numbers(same, k); i++)
            CHECK((float)same->shards.state[k][i] == (float)read->shards.state[k][i], "%s, number %zu: %g, not %g",
                  state_name(k), i, (double)read->shards.state[k][i], (double)same->shards.state[k][i]);
    model_destroy(same);
    model_destroy(read);
    // A number that is not finite: of the moments, which begin where the file's header ends.
    Path moments = path_of("%.3000s/optimizer-00001-of-00001.safetensors", folder.text);
    uint64_t header = 0;
    const float inf = INFINITY;
    FILE *poke = fopen(moments.text, "r+b");
    CHECK(poke && fread(&header, 8, 1, poke) == 1 && fseek(poke, (long)(8 + header), SEEK_SET) == 0 &&
              fwrite(&inf, 4, 1, poke) == 1 && fclose(poke) == 0,
          "%s", strerror(errno));
    CHECK_ERROR(checkpoint_load_moments(m, &tables, c, folder.text, &err), "holds inf at number 0");
    FILE *flip = fopen(damaged.text, "r+b"); // the last byte: another sum, the same size
    CHECK(flip && fseek(flip, -1, SEEK_END) == 0 && fputc(0x5a, flip) != EOF && fclose(flip) == 0, "%s",
          strerror(errno));
    CHECK_ERROR(checkpoint_verify(folder.text, 0, 1, &err), "does not match its checksum");
    CHECK(truncate(damaged.text, 1000) == 0, "%s", strerror(errno));
    CHECK_ERROR(checkpoint_verify(folder.text, 0, 1, &err), "damaged");
    // No room, or no folder: an error, and the writer goes on being usable.
    trainer_test_writer(&w, "/proc/none", m, &tables, &tok, &alone, true);
    for (int again = 0; again < 2; again++) {
        checkpoint_start(&w, 7, run.data, 0);
        while (checkpoint_under_way(&w, 0.1)) {}
        checkpoint_finish(&w);
        CHECK(!w.ok && strstr(w.err.text, "/proc/none"), "a checkpoint into /proc: %s", w.err.text);
    }
    checkpoint_writer_close(&w);
    free(run.data);
    checkpoint_tables_free(&tables);
    model_destroy(m);
    tokenizer_free(&tok);
}

static void test_prune(void) {
    static const int64_t made[] = {100, 200, 250, 270, 290};
    Error err;
    for (int rollback = 0; rollback < 2; rollback++) {
        Path run = test_temp(rollback ? "prune_rollback" : "prune");
        for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
            Path p = checkpoint_folder(run.text, made[i]), record = path_of("%.3000s/run.json", p.text);
            CHECK(path_make_folder(p.text, &err) && file_write_all(record.text, "", 0, &err), "%s", err.text);
        }
        CheckpointKeep keep = {2, 100, rollback};
        CHECK(checkpoint_prune(run.text, &keep, &err), "%s", err.text);
        int64_t *steps;
        int n;
        CHECK(checkpoint_list(&steps, &n, run.text, &err), "%s", err.text);
        CHECK(n == 2 + rollback && steps[n - 1] == 290 && steps[n - 2] == 270 && (!rollback || steps[0] == 200),
              "%d checkpoints are left, from %lld on", n, (long long)steps[0]);
        CHECK(checkpoint_regular(steps, n, 100, 280) == (rollback ? 200 : -1), "the regular one is %lld",
              (long long)checkpoint_regular(steps, n, 100, 280));
        CHECK(checkpoint_regular(steps, n, 0, 280) == -1, "without --checkpoint_every none is regular");
        free(steps);
    }
}

// Every field in turn: another value is another model, and it is named. init_std matters to new weights alone.
static void test_config_difference(const Config *c) {
    Config d = *c;
    d.norm_eps = c->norm_eps * (1 + 2e-6), d.rope_theta = c->rope_theta * (1 - 2e-6);
    CHECK(!config_difference(c, &d), "rounding makes another %s", config_difference(c, &d));
    for (int i = 0; i < CONFIG_KINDS; i++) {
        const ConfigField *f = config_field(i);
        d = *c;
        Layers none = layers_each(0, 0), one = layers_each(c->layers, c->layers);
        if (f->type == FIELD_LAYERS)
            memcpy((char *)&d + f->at, layers_equal(config_layers(c, i), &none) ? &one : &none, sizeof none);
        else
            config_set(&d, i,
                       f->type == FIELD_REAL     ? config_value(c, i) * 1.01 + 1e-9
                       : config_value(c, i) == 1 ? 0
                                                 : config_value(c, i) + 1);
        const char *named = config_difference(c, &d);
        if (i == CONFIG_init_std) CHECK(!named, "another init_std is another model");
        else CHECK(named && strcmp(named, f->name) == 0, "another %s: %s differs", f->name, named ? named : "nothing");
    }
}

// Bits a byte are counted over what is predicted: the byte count is that of the targets, which here stand for other
// text than the inputs.
static void test_bits_per_byte(const Config *c) {
    Error err;
    Tokenizer tok;
    Dataset d;
    ShardWriter w;
    ShardSet set;
    EvalResult r = {0, 0, 0, 0, false};
    int32_t ids[23]; // two sequences of 11
    Path prefix = test_temp("bits"), shard = path_of("%s_train_00000.bin", prefix.text);
    bool ok = tokenizer_load(&tok, "dev/test/fixtures/models/qwen3-untied/tokenizer.json", &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    if (!ok) return;
    int longest = 0, length, most = 0;
    for (int id = 0; id < tok.vocab_size; id++) {
        tokenizer_bytes(&tok, id, &length);
        if (length > most) longest = id, most = length;
    }
    for (int i = 0; i < 23; i++) ids[i] = i % 11 == 0 ? longest : 40 + i; // 40 and on: letters of one byte
    ids[22] = tok.eot;
    ok = shard_set_open(&set, prefix.text, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    if (!ok) return;
    shardwriter_open(&w, &set, SIDE_TRAIN, tok.vocab_size, tok.hash, 7, 100);
    shardwriter_add(&w, ids, 23, 0, 1);
    ok = shards_finish(&w, 1, &err) && shards_commit(&set, &w, 1, &err) && dataset_open(&d, shard.text, 11, &err);
    shards_abort(&set, &w, 1);
    CHECK(ok, "%s", ok ? "" : err.text);
    Model *m = trainer_test_model(c, OPTIMIZER_ADAMW, false);
    Evaluation e = {m, source_of_dataset(&d, false, 0), &tok, &model_test_dist, 2, 0, NULL, NULL};
    ok = ok && evaluate(&r, &e, &err);
    CHECK(ok && d.sequences == 2, "%s", ok ? "not two sequences" : err.text);
    int64_t bytes = tokens_text_bytes(&tok, ids + 1, 22);
    CHECK(most > 1 && bytes != tokens_text_bytes(&tok, ids, 22), "inputs and targets have the same bytes");
    CHECK(r.tokens == 22 && r.bytes == bytes, "%lld tokens of %lld bytes, expected 22 of %lld", (long long)r.tokens,
          (long long)r.bytes, (long long)bytes);
    double bits = r.loss * 22 / ((double)bytes * log(2.0));
    CHECK(fabs(r.bits_per_byte - bits) < 1e-12 * bits, "%.17g bits a byte, expected %.17g", r.bits_per_byte, bits);
    dataset_close(&d);
    tokenizer_free(&tok);
    model_destroy(m);
}

// In a process of its own: kind 0 waits too long; 1 leaves, and its waiting counts from the start again; 2 is nested,
// and waits too long in the outer one; 3 has no watchdog. Returns its exit code; what it said in said (512).
static int trainer_test_watchdog(int kind, char *said) {
    int ends[2], status = 0;
    fflush(stdout);
    fflush(stderr);
    if (pipe(ends) != 0) fail("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        Watchdog w;
        Launcher none = {0, 0};
        dup2(ends[1], STDERR_FILENO);
        watchdog_open(&w, kind == 3 ? 0 : kind == 1 ? 1e6 : 0.3, 5, "here", &none);
        watchdog_step(&w, 42);
        watchdog_enter(&w, "outer");
        if (kind == 2) {
            watchdog_enter(&w, "inner");
            watchdog_leave(&w);
        }
        if (kind == 1) {
            pthread_mutex_lock(&w.mutex);
            w.waited = 1e5;
            pthread_mutex_unlock(&w.mutex);
            watchdog_leave(&w);
            watchdog_enter(&w, "outer");
            pthread_mutex_lock(&w.mutex);
            if (w.waited > 1e4) _exit(2);
            pthread_mutex_unlock(&w.mutex);
        } else
            for (int i = 0; i < (kind == 3 ? 5 : 600); i++) usleep(100000); // until it ends the process
        watchdog_close(&w);
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t k; n < 511 && (k = read(ends[0], said + n, 511 - n)) > 0;) n += (size_t)k;
    said[n] = 0;
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_watchdog(void) {
    char said[512];
    for (int kind = 0; kind < 4; kind++) {
        bool ends = kind == 0 || kind == 2;
        int code = trainer_test_watchdog(kind, said);
        CHECK(code == ends, "kind %d: exit code %d, it said: %s", kind, code, said);
        CHECK(ends ? strstr(said, "rank 5 on here, step 42: waited 0 s for: outer") != NULL : !said[0],
              "kind %d: it said: %s", kind, said);
    }
}

// The end of text ends it, unseen: whatever token the model finds likeliest is made the end.
static void test_generate_end(const Config *c) {
    Error err;
    Options o;
    Tokenizer tok;
    char greedy[] = "--temperature=0", few[] = "--tokens=3";
    char *words[] = {greedy, few};
    CHECK(options_parse(&o, VERB_GENERATE, 2, words, &err), "%s", err.text);
    CHECK(tokenizer_load(&tok, "dev/test/fixtures/models/gpt2/tokenizer.json", &err), "%s", err.text);
    Model *m = trainer_test_model(c, OPTIMIZER_ADAMW, false);
    Generator g = generator_open(&o, "a", c, &tok);
    g.model = m;
    g.context_length = 8;
    g.prompt.items[0] = 1, g.prompt.count = 1;
    const float *logits = model_decode(m, g.prompt.items, 1, 0);
    int best = 0, most = tok.vocab_size < c->vocab_size ? tok.vocab_size : c->vocab_size;
    for (int i = 1; i < most; i++)
        if (logits[i] > logits[best]) best = i;
    Str text;
    CHECK(generate(&text, &g, 0, &err), "%s", err.text);
    CHECK(text.size > 0, "no text before the end was made one");
    free(text.data);
    tok.stops[0] = (best + 1) % most, tok.stops[1] = best, tok.stop_count = 2; // the end of documents is not among them
    CHECK(generate(&text, &g, 0, &err), "%s", err.text);
    CHECK(text.size == 0, "generated behind the end of text: %zu bytes", text.size);
    free(text.data);
    generator_free(&g);
    // A prompt begins as every text of the tokenizer does.
    for (int i = 0; i < 2; i++) {
        tok.bos = i ? 5 : -1;
        g = generator_open(&o, "a", c, &tok);
        CHECK(g.prompt.count == (size_t)(1 + i) && g.prompt.items[0] == (i ? 5 : tok.byte_ids['a']),
              "the prompt begins with %d", g.prompt.items[0]);
        generator_free(&g);
        g = generator_open(&o, "", c, &tok);
        CHECK(g.prompt.count == 1 && g.prompt.items[0] == (i ? 5 : tok.eot), "the empty prompt begins with %d",
              g.prompt.items[0]);
        generator_free(&g);
    }
    model_destroy(m);
    tokenizer_free(&tok);
    options_free(&o);
}

// Adam counts the updates that were made, the schedule all steps.
static void test_rule(void) {
    Error err;
    Options o;
    char words[3][24] = {"--lr_schedule=linear", "--steps=100", "--weight_decay=0.3"},
         *argv[] = {words[0], words[1], words[2]};
    CHECK(options_parse(&o, VERB_TRAIN, 3, argv, &err), "%s", err.text);
    Trainer *t = (Trainer *)mem_alloc(sizeof(Trainer));
    t->o = &o;
    t->schedule.kind = SCHEDULE_LINEAR, t->schedule.peak = 1e-3, t->schedule.steps = 100;
    Dist alone;
    dist_single(&alone);
    t->dist = &alone;
    t->state.step = 9, t->state.skipped = 3;
    t->lr = trainer_lr(t);
    UpdateRule rule = trainer_rule(t);
    CHECK(rule.step == 7, "step %lld, expected 9 + 1 - 3", (long long)rule.step);
    CHECK(rule.group[GROUP_MATRIX].lr == schedule_lr(&t->schedule, 10), "lr %g", rule.group[GROUP_MATRIX].lr);
    // By a budget of time, what is used of it counts, or the share of the steps if that is more.
    t->budget.limit = 60, t->budget.clock = clock_seconds;
    t->budget.marks = (BudgetMark *)mem_alloc(sizeof(BudgetMark)), t->budget.count = 1;
    t->state.position = 40;
    for (int k = 0; k < 2; k++) {
        BudgetMark mark = {40, k ? 45 : 3, 0};
        t->budget.marks[0] = mark, t->budget.next = 0;
        double lr = trainer_lr(t), want = schedule_lr_at(&t->schedule, k ? 0.75 : 0.1);
        CHECK(lr == want && t->mark == mark.seconds, "lr %g, expected %g", lr, want);
    }
    free(t->budget.marks);
    CHECK(rule.group[GROUP_MATRIX].weight_decay == 0.3 && rule.group[GROUP_VECTOR].weight_decay == 0, "weight decay");
    free(t);
    options_free(&o);
}

// What a test of --lr=auto makes of its losses. They fall by 1, so that a rise by 0.1 ends it, and at 8.3, between the
// second and the third rate, 0.7 of that was made.
static void test_lr_curve(void) {
    static const double losses[] = {9.01, 8.9, 8.1, 8, 8.09, 8.05, 8.101};
    enum { LAST = sizeof losses / sizeof *losses - 1 };
    const double nan = (double)NAN;
    Error err;
    double chosen = 0, lr = 1e-3;
    LrCurve c = lr_curve(9);
    for (int i = 0; i <= LAST; i++, lr *= LR_TEST_RATIO) {
        bool on = lr_curve_add(&c, lr, losses[i]);
        CHECK(on == (i < LAST), "%s at loss %d", on ? "it goes on" : "it ends", i);
    }
    CHECK(c.lowest == 3 && c.rose && c.count == LAST + 1, "lowest %d of %d", c.lowest, c.count);
    double at = lr_curve_falls_at(&c), want = 1.25e-3 * pow(1.25, 0.6 / 0.8);
    CHECK(fabs(at - want) < 1e-12, "the fall was made at %.17g, expected %.17g", at, want); // 1.478e-3
    static const struct {
        double share;
        int64_t steps;
        double chosen;
    } rows[] = {{1, 512, 1.6e-3}, {1, 0, 1.6e-3}, {1.6, 512, 2.5e-3},   {1, 4096, 7.9e-4},
                {1, 64, 3.2e-3},  {1, 1, 3.2e-3}, {1, 1ll << 40, 2e-4}, {1, 262144, 2e-4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK(lr_curve_choose(&chosen, &c, rows[i].share, rows[i].steps, &err) && chosen == rows[i].chosen,
              "share %g of %lld steps: %g, expected %g", rows[i].share, (long long)rows[i].steps, chosen,
              rows[i].chosen);
    Str s;
    JsonDoc doc;
    memset(&s, 0, sizeof s);
    c.loss[LAST] = nan;
    lr_curve_json(&s, &c, 0.017);
    s.data[0] = '{', str_puts(&s, "}");
    const Json *test = json_get(json_parse(&doc, s.data, s.size, &err), "lr_test");
    CHECK(json_number(json_get(test, "lr"), 0) == 0.017 && json_number(json_get(test, "start"), 0) == 9, "%s", s.data);
    CHECK(strstr(s.data, "[[0.001, 9.01], [0.00125, 8.9], ") && strstr(s.data, ", null]]"), "%s", s.data);
    json_free(&doc);
    free(s.data);
    // A loss that is not finite is too high; where it is the first, nothing fell. A small fall has a rise of its own.
    c = lr_curve(9);
    CHECK(lr_curve_add(&c, 0.1, 8) && !lr_curve_add(&c, 0.125, nan) && lr_curve_choose(&chosen, &c, 1, 0, &err) &&
              chosen == 0.1,
          "NaN behind 0.125 chooses %g", chosen);
    c = lr_curve(9);
    CHECK(!lr_curve_add(&c, 0.1, nan), "NaN goes on");
    CHECK_ERROR(lr_curve_choose(&chosen, &c, 1, 0, &err), "no more than 0 from the 9 of the start");
    c = lr_curve(9);
    CHECK(lr_curve_add(&c, 0.1, 8.997) && lr_curve_add(&c, 0.2, 9.0169) && !lr_curve_add(&c, 0.4, 9.0171),
          "a rise of less than 0.02 ends it, or one of more does not");
    c = lr_curve(9);
    CHECK(lr_curve_add(&c, 0.1, 8.9985) && !lr_curve_add(&c, 0.2, 9.1), "a fall of 0.0015, and a rise");
    CHECK_ERROR(lr_curve_choose(&chosen, &c, 1, 0, &err), "fell by no more than 0.0015 from the 9");
    // It falls up to the end.
    c = lr_curve(9), lr = LR_TEST_LOADED;
    while (lr_curve_add(&c, lr, 9 - 0.01 * c.count)) lr *= LR_TEST_RATIO;
    CHECK(lr <= LR_TEST_LAST && lr * LR_TEST_RATIO > LR_TEST_LAST && c.count < LR_TEST_MOST, "%d steps, up to %g",
          c.count, lr);
    CHECK_ERROR(lr_curve_choose(&chosen, &c, 1, 0, &err),
                "did not rise again; give --lr a number (it was lowest, 8.28");
}

static void test_trainer(void) {
    Error err;
    Config c;
    CHECK(folder_read_config(&c, "dev/test/fixtures/models/qwen3-untied", &err), "%s", err.text);
    test_spikes();
    test_rule();
    test_lr_curve();
    test_refused_updates(&c);
    test_generate_end(&c);
    test_stems();
    test_score_shared(&c);
    test_score_shots(&c);
    for (int optimizer = 0; optimizer < 3; optimizer++) test_checkpoint_copy(&c, optimizer);
    test_prune();
    test_config_difference(&c);
    test_bits_per_byte(&c);
}

#endif
