/*
fuzz_run.c: any bytes as what is read besides weights and text: run.json, metrics.jsonl, a config file, a file of tasks.

    make fuzz MINUTES=60

The first byte chooses: r run.json of a checkpoint; s what stands in it between its first line and its checksum, which
no fuzzer finds; m metrics.jsonl, as a resume reads it; o options in a config file; w words of a command line, one a
line; t and u a file of tasks (in u contexts are cut). The rest is the file. Beyond not crashing: a state that was
accepted is one that a run can stand at, and comes back when it is written again; metrics that were cut to a step stay
as they are when they are cut to it again; options that were accepted are within their bounds; requests of tasks lie
inside the ids, no longer than a model of 8 positions.
*/
#define LLMC_NO_MAIN
#include "../../train_gpt_cpu.c"
#include "fuzz.h"

extern const char *const build_commit;
const char *const build_commit = "fuzz";

static Path folder;
static Tokenizer tokenizer;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    Error err;
    folder = fuzz_folder();
    if (!tokenizer_load(&tokenizer, "dev/test/fixtures/tokenizer/trained.json", &err)) fail("%s", err.text);
    return 0;
}

static void fuzz_run_json(const uint8_t *data, size_t n, bool inside) {
    RunState state, again;
    Error err;
    Str s;
    err.text[0] = 0;
    memset(&s, 0, sizeof s);
    memset(&state, 0, sizeof state); // they are compared with what lies between their fields
    memset(&again, 0, sizeof again);
    if (inside) str_puts(&s, RUN_FORMAT_2);
    str_add(&s, data, n);
    if (inside) run_record_seal(&s);
    Path path = path_of("%.1000s/run.json", folder.text);
    fuzz_write(path.text, s.data, s.size);
    fuzz_said(checkpoint_verify(folder.text, 0, 1, &err), &err);
    err.text[0] = 0;
    if (fuzz_said(run_state_load(&state, folder.text, &err), &err)) {
        REQUIRE(state.step >= 0 && state.position >= 0 && state.tokens >= 0);
        if (state.precision == PRECISION_USUAL) state.precision = PRECISION_FP32; // a record that does not say
        s.size = 0;
        str_puts(&s, RUN_FORMAT_2);
        run_state_json(&s, &state);
        str_puts(&s, "  \"files\": {},");
        run_record_seal(&s);
        fuzz_write(path.text, s.data, s.size);
        if (!run_state_load(&again, folder.text, &err)) fail("what was written is refused: %s", err.text);
        REQUIRE(memcmp(&state, &again, sizeof state) == 0);
    }
    free(s.data);
}

static void fuzz_metrics(const uint8_t *data, size_t n) {
    Path path = path_of("%.1000s/metrics.jsonl", folder.text);
    fuzz_write(path.text, data, n);
    Str once[2];
    memset(once, 0, sizeof once);
    for (int i = 0; i < 2; i++) {
        Log log;
        Error err;
        memset(&log, 0, sizeof log);
        err.text[0] = 0;
        if (!fuzz_said(log_open_metrics(&log, path.text, 5, &err), &err)) break;
        REQUIRE(log_close(&log, &err));
        REQUIRE(file_read(&once[i], path.text, SIZE_MAX, &err));
        REQUIRE(once[i].size <= n && (once[i].size == 0 || once[i].data[once[i].size - 1] == '\n'));
        REQUIRE(i == 0 || (once[0].size == once[1].size && memcmp(once[0].data, once[1].data, once[0].size) == 0));
    }
    free(once[0].data);
    free(once[1].data);
}

static void check_options(const Options *o) {
    for (int i = 0; i < OPTION_COUNT; i++) {
        const Option *p = &option_rows[i];
        const char *at = (const char *)o + p->offset;
        if (p->type == OPTION_INT) REQUIRE(*(const int64_t *)at >= p->least && *(const int64_t *)at <= p->most);
        if (p->type == OPTION_REAL)
            REQUIRE(option_is_word(p, o) ||
                    (*(const double *)at >= (double)p->least && *(const double *)at <= (double)p->most));
        if (p->type == OPTION_FLAG || p->type == OPTION_CHOICE) REQUIRE(*(const int *)at >= 0);
    }
}

// argv: copies, since the parser may write into them.
static void fuzz_options(int argc, char **argv) {
    for (int verb = 0; verb < VERB_COUNT; verb++) {
        Options o;
        Error err;
        err.text[0] = 0;
        if (fuzz_said(options_parse(&o, verb, argc, argv, &err), &err)) {
            Str s;
            JsonDoc doc;
            memset(&s, 0, sizeof s);
            check_options(&o);
            str_puts(&s, "{");
            options_json(&s, &o);
            str_puts(&s, "}");
            REQUIRE(json_parse(&doc, s.data, s.size, &err));
            json_free(&doc);
            free(s.data);
        }
        options_free(&o);
    }
}

static void fuzz_config_file(const uint8_t *data, size_t n) {
    Path path = path_of("%.1000s/options.conf", folder.text), word = path_of("--config=%.1000s", path.text);
    char *argv[] = {word.text};
    fuzz_write(path.text, data, n);
    fuzz_options(1, argv);
}

static void fuzz_words(const uint8_t *data, size_t n) {
    char *text = (char *)malloc(n + 1), *argv[8], *rest = NULL;
    int argc = 0;
    memcpy(text, data, n);
    text[n] = 0;
    for (char *w = strtok_r(text, "\n", &rest); w && argc < 8; w = strtok_r(NULL, "\n", &rest))
        if (strncmp(w, "--config", 8) != 0) argv[argc++] = w; // would read any file
    fuzz_options(argc, argv);
    free(text);
}

static void fuzz_tasks(const uint8_t *data, size_t n, bool truncate) {
    Path path = path_of("%.1000s/tasks.jsonl", folder.text);
    TaskRules rules = {&tokenizer, 8, truncate};
    TaskSet set;
    Error err;
    err.text[0] = 0;
    fuzz_write(path.text, data, n);
    if (!fuzz_said(tasks_open(&set, path.text, &rules, &err), &err)) return;
    size_t requests = 0;
    for (size_t i = 0; i < set.tasks[0].count; i++) {
        const TaskItem *item = &set.tasks[0].items[i];
        REQUIRE((size_t)item->first == requests && item->count > 0 && item->answer < item->count && item->line > 0);
        REQUIRE(item->group < set.tasks[0].groups.count);
        requests += (size_t)item->count;
    }
    REQUIRE(requests == set.request_count && set.longest <= 8);
    for (size_t i = 0; i < requests; i++) {
        TaskRequest *q = &set.requests[i];
        REQUIRE(q->scored > 0 && q->scored < q->count && q->count <= 9 && q->at + (size_t)q->count <= set.ids.count);
        for (int t = 0; t < q->count; t++) {
            int32_t id = request_ids(&set, q)[t];
            REQUIRE(id >= 0 && id < tokenizer.vocab_size);
        }
        q->loglikelihood = -(double)q->scored;
    }
    Str s;
    JsonDoc doc;
    memset(&s, 0, sizeof s);
    TaskScore *scores = task_scores(&set, &set.tasks[0]);
    task_json(&s, &set.tasks[0], scores);
    REQUIRE(json_parse(&doc, s.data, s.size, &err));
    json_free(&doc);
    task_table(&s, &set.tasks[0], scores);
    free(scores);
    free(s.data);
    tasks_free(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    switch (data[0]) {
    case 'r':
    case 's': fuzz_run_json(data + 1, size - 1, data[0] == 's'); break;
    case 'm': fuzz_metrics(data + 1, size - 1); break;
    case 'o': fuzz_config_file(data + 1, size - 1); break;
    case 'w': fuzz_words(data + 1, size - 1); break;
    case 't':
    case 'u': fuzz_tasks(data + 1, size - 1, data[0] == 'u'); break;
    default: break;
    }
    return 0;
}
