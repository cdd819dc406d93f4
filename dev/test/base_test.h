/*
base_test.h: random numbers, options, schedules, sampling, the model tables, config.json.
*/
#ifndef BASE_TEST_H
#define BASE_TEST_H

#include "../../llmc/files/huggingface.h"
#include "../../llmc/base/child.h"
#include "../../llmc/base/rng.h"
#include "../../llmc/run/sample.h"
#include "../../llmc/run/schedule.h"
#include "check.h"

static void test_rng(void) {
    // Known answers of Random123's kat_vectors for philox4x32, 10 rounds.
    static const uint32_t known[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
         0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        const uint32_t *k = known[i];
        Philox r = philox4x32(k[0], k[1], k[2], k[3], k[4], k[5]);
        for (int j = 0; j < 4; j++)
            CHECK(r.x[j] == k[6 + j], "vector %d word %d is %08x, expected %08x", i, j, r.x[j], k[6 + j]);
    }
    // Moments of a million normal numbers; the bounds are 5 standard deviations of each estimate.
    RngStream s = rng_stream(7, "test");
    double n = 1e6, sum = 0, squares = 0, cubes = 0, fourths = 0;
    for (uint64_t b = 0; b < 250000; b++) {
        float x[4];
        rng_normal4(s, b, x);
        for (int j = 0; j < 4; j++) {
            double v = (double)x[j];
            sum += v, squares += v * v, cubes += v * v * v, fourths += v * v * v * v;
        }
    }
    CHECK(fabs(sum / n) < 5 / sqrt(n), "mean %g", sum / n);
    CHECK(fabs(squares / n - 1) < 5 * sqrt(2 / n), "variance %g", squares / n);
    CHECK(fabs(cubes / n) < 5 * sqrt(15 / n), "third moment %g", cubes / n);
    CHECK(fabs(fourths / n - 3) < 5 * sqrt(96 / n), "fourth moment %g", fourths / n);
    float a = rng_uniform(rng_stream(7, "a"), 3), b = rng_uniform(rng_stream(7, "b"), 3),
          c = rng_uniform(rng_stream(8, "a"), 3);
    CHECK(a != b && a != c, "streams of other names or seeds agree: %g %g %g", (double)a, (double)b, (double)c);
}

static bool test_parse(Options *o, int verb, const char *words, Error *err) {
    char text[512], *argv[32], *rest = NULL;
    int argc = 0;
    snprintf(text, sizeof text, "%s", words);
    for (char *w = strtok_r(text, " ", &rest); w && argc < 32; w = strtok_r(NULL, " ", &rest)) argv[argc++] = w;
    return options_parse(o, verb, argc, argv, err);
}

// A value that is not the default, as a user would write it and as it is printed.
static void test_other_value(char out[64], const Option *p) {
    Str s;
    memset(&s, 0, sizeof s);
    switch (p->type) {
    case OPTION_TEXT: str_puts(&s, "a=b c"); break;
    case OPTION_INT: str_printf(&s, "%lld", (long long)p->most - (atoll(p->fallback) == p->most)); break;
    case OPTION_REAL: json_add_number(&s, strtod(p->fallback, NULL) == p->most ? p->most / 2 : p->most); break;
    default: {
        const char *last = strrchr(p->choices, '|');
        if (last && strcmp(last + 1, p->fallback) != 0) str_puts(&s, last + 1);
        else str_add(&s, p->choices, strcspn(p->choices, "|"));
    }
    }
    snprintf(out, 64, "%s", s.data);
    free(s.data);
}

// Every option of every verb: from a word, from a config file, and seen by --print_options.
static void test_every_option(void) {
    Error err;
    Path config = test_temp("one.config");
    for (int verb = 0; verb < VERB_COUNT; verb++)
        for (const Option *p = option_rows; p < option_rows + OPTION_COUNT; p++) {
            if (!(p->verbs & 1 << verb)) continue;
            char value[64];
            test_other_value(value, p);
            Path line = path_of("%s = %s # and a comment\n", p->name, value);
            CHECK(file_write_all(config.text, line.text, strlen(line.text), &err), "%s", err.text);
            for (int file = 0; file < 2; file++) {
                Path word = file ? path_of("--config=%.3000s", config.text) : path_of("--%s=%s", p->name, value),
                     print = path_of("--print_options=%s", p->name);
                char all[] = "--print_options", *words[2] = {print.text, word.text};
                Options o;
                Str s;
                JsonDoc doc;
                memset(&s, 0, sizeof s);
                CHECK(options_parse(&o, verb, 2, words, &err) && options_print(&s, &o, &err), "%s", err.text);
                CHECK(s.size == strlen(value) + 1 && memcmp(s.data, value, strlen(value)) == 0, "%s %s gives %s",
                      verbs[verb].name, word.text, s.data);
                options_free(&o);
                words[0] = all, s.size = 0;
                CHECK(options_parse(&o, verb, 2, words, &err) && options_print(&s, &o, &err), "%s", err.text);
                const Json *j = json_get(json_parse(&doc, s.data, s.size, &err), p->name), *now = json_get(j, "value");
                CHECK(j && now && json_get(j, "default") && json_get(j, "help"), "%s: %s", p->name, s.data);
                // And the JSON says the same.
                if (p->type == OPTION_FLAG) CHECK(json_bool(now, false) == (strcmp(value, "on") == 0), "%s", p->name);
                else CHECK(now->text && strcmp(now->text, value) == 0, "%s: %s", p->name, value);
                CHECK((json_get(j, "choices") != NULL) == (*p->choices && p->type != OPTION_FLAG) &&
                          (json_get(j, "least") != NULL) == (p->type == OPTION_INT || p->type == OPTION_REAL),
                      "%s: choices or bounds", p->name);
                json_free(&doc);
                options_free(&o);
                free(s.data);
            }
        }
}

// A choice's enumerator is its place in the text.
static void test_choices(void) {
    struct {
        const char *choices, *text;
        int id;
    } rows[] = {
#define ROW(list) {CHOICES(list), NULL, 0},
#define CHOICE_ROW(id, text) {NULL, text, id},
        ROW(SCHEDULES) SCHEDULES(CHOICE_ROW) ROW(SPIKE_ACTIONS) SPIKE_ACTIONS(CHOICE_ROW) ROW(RECOMPUTES)
            RECOMPUTES(CHOICE_ROW) ROW(PRECISIONS) PRECISIONS(CHOICE_ROW) ROW(DTYPES) DTYPES(CHOICE_ROW) ROW(DOC_SPLITS)
                DOC_SPLITS(CHOICE_ROW) ROW(RESUMES) RESUMES(CHOICE_ROW) ROW(MASTERS) MASTERS(CHOICE_ROW)};
    const char *choices = "";
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].choices) choices = rows[i].choices;
        else
            CHECK(options_choice(choices, rows[i].text) == rows[i].id, "%s of %s is %d", rows[i].text, choices,
                  rows[i].id);
    }
}

// How people write numbers: read whole, or refused with what was meant.
static void test_option_numbers(void) {
    static const struct {
        const char *word;
        double value; // of an int or a real
        const char *error;
    } rows[] = {
        {"--steps=10.000", 0, "in digits alone: 10000"},
        {"--steps=131.072", 0, "in digits alone: 131072"},
        {"--steps=1.000.000", 0, "in digits alone: 1000000"},
        {"--steps=1,000,000", 0, "in digits alone: 1000000"},
        {"--steps=1'000", 0, "in digits alone: 1000"},
        {"--steps=1_000", 0, "in digits alone: 1000"},
        {"--steps=10 000", 0, "in digits alone: 10000"},
        {"--steps=10.", 0, "in digits alone: 10000 or 1e4"},
        {"--steps=10.0", 0, "in digits alone: 10000 or 1e4"},
        {"--steps=1.23.456", 0, "in digits alone: 10000 or 1e4"},
        {"--steps=1.000,5", 0, "whole number from 1 to"},
        {"--steps=1e3", 1000, NULL},
        {"--steps=1E+3", 1000, NULL},
        {"--steps=1.5e3", 1500, NULL},
        {"--steps=1.55e1", 0, "whole number"},
        {"--steps=1e-3", 0, "whole number"},
        {"--steps=1e", 0, "whole number"},
        {"--steps=1e400", 0, "whole number"},
        {"--steps=e3", 0, "whole number"},
        {"--steps=.", 0, "whole number"},
        {"--steps=0x10", 0, "whole number"},
        {"--steps=+5", 0, "whole number"},
        {"--steps= 5", 0, "whole number"},
        {"--steps=5 ", 0, "whole number"},
        {"--steps=\xd9\xa1\xd9\xa0", 0, "whole number"}, // Arabic digits
        {"--steps=10k", 0, "whole number"},
        {"--steps=1M", 0, "whole number"},
        {"--steps=", 0, "whole number"},
        {"--steps=-1", 0, "expected 1 to"},
        {"--steps=1099511627777", 0, "expected 1 to"},
        {"--steps=9223372036854775808", 0, "whole number"},
        {"--seed=4503599627370497e0", 4503599627370497.0, NULL}, // exact, though it went by an exponent
        {"--lr=0,001", 0, "not a comma: 0.001"},
        {"--lr=1,5", 0, "not a comma: 1.5"},
        {"--lr=1.000,5", 0, "not a comma: 1000.5"},
        {"--lr=1e400", 0, "expected a number"},
        {"--lr=1e-400", 0, "expected a number"},
        {"--lr=nan", 0, "expected a number"},
        {"--lr=inf", 0, "expected a number"},
        {"--lr=-inf", 0, "expected a number"},
        {"--lr=0x1p-3", 0, "expected a number"},
        {"--lr=+1", 0, "expected a number"},
        {"--lr= 1", 0, "expected a number"},
        {"--lr=1 ", 0, "expected a number"},
        {"--lr=1e", 0, "expected a number"},
        {"--lr=1-", 0, "expected a number"},
        {"--lr=1f", 0, "expected a number"},
        {"--lr=10.5", 0, "expected 0 to 10"},
        {"--lr=.5", 0.5, NULL},
        {"--lr=1e-3", 1e-3, NULL},
        {"--lr=auto", LR_AUTO, NULL},
        {"--lr=aut", 0, "expected a number from 0 to 10 or the word auto, with a decimal point"},
        {"--lr=auto ", 0, "or the word auto"},
        {"--lr=10.5", 0, "expected 0 to 10 or the word auto"},
        {"--beta1=auto", 0, "expected a number from 0 to 0.999999, with"},
        {"--beta1=1", 0, "expected 0 to 0.999999"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Options o;
        Error err;
        char word[64], *words[1] = {word};
        snprintf(word, sizeof word, "%s", rows[i].word);
        if (rows[i].error) CHECK_ERROR(options_parse(&o, VERB_TRAIN, 1, words, &err), rows[i].error);
        else {
            double found = !options_parse(&o, VERB_TRAIN, 1, words, &err) ? -1
                           : strncmp(word, "--lr", 4) == 0                ? o.lr
                           : strncmp(word, "--seed", 6) == 0              ? (double)o.seed
                                                                          : (double)o.steps;
            CHECK(found == rows[i].value, "%s is %.17g, expected %.17g", word, found, rows[i].value);
        }
        options_free(&o);
    }
}

// What stands in a config file, and what comes of it.
static void test_config_lines(void) {
    static const struct {
        const char *text;
        size_t size; // 0: strlen(text)
        const char *out, *error;
    } rows[] = {
        {"out = run#3\n", 0, "run#3", NULL},
        {"out = run #3\n", 0, "run", NULL},
        {"out =#3\n", 0, "#3", NULL},
        {"out = # nothing\nout = b # two # three", 0, "b", NULL},
        {"out = a = b", 0, "a = b", NULL},
        {"out = \"a #1 \"  # the first\n", 0, "a #1 ", NULL},
        {"out = 'a \"b\" c'", 0, "a \"b\" c", NULL},
        {"out = \"\"\nout = it's \"so\"", 0, "it's \"so\"", NULL},
        {"out = \"a\" b", 0, NULL, ":1: text behind the closing quote"},
        {"\nout = \"a", 0, NULL, ":2: no closing quote"},
        {"\xef\xbb\xbfout = a", 0, "a", NULL},
        {"out = a\r\nsteps = 5\r\n", 0, "a", NULL},
        {"out = a\rsteps = 5\n", 0, NULL, ":1: the control character 0x0d"},
        {"out = a\x1b[31m", 0, NULL, ":1: the control character 0x1b"},
        {"  out\t=\ta b\t\n\n#\n  # comment", 0, "a b", NULL},
        {"out = a\0b\n", 10, NULL, "NUL bytes"},
        {"\xff\xfeo\0u\0t\0", 8, NULL, "NUL bytes"},
        {"= a", 0, NULL, ":1: expected `name = value`"},
        {"out", 0, NULL, ":1: expected `name = value`"},
        {"steps =", 0, NULL, ":1: --steps=: expected a whole number"},
        {"steps = 10.000", 0, NULL, "in digits alone: 10000"},
        {"steps = 5 6", 0, NULL, ":1: --steps=5 6: expected a whole number"},
        {"--steps = 5", 0, NULL, "did you mean --steps?"},
        {"config = other", 0, NULL, "unknown option --config"},
        {"temperature = heiss", 0, NULL, ":1: --temperature=heiss: expected a number"},
        {"samples = 1.000\n", 0, NULL, "in digits alone: 1000"}, // of another verb, and looked at all the same
        {"out = a\nout = b\n", 0, "b", NULL},                    // a later word wins
        {"", 0, "", NULL},
    };
    Error err;
    Options o;
    Path file = test_temp("lines.config"), word = path_of("--config=%.4000s", file.text);
    char *words[1] = {word.text};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n = rows[i].size ? rows[i].size : strlen(rows[i].text);
        CHECK(file_write_all(file.text, rows[i].text, n, &err), "%s", err.text);
        if (rows[i].error) CHECK_ERROR(options_parse(&o, VERB_TRAIN, 1, words, &err), rows[i].error);
        else
            CHECK(options_parse(&o, VERB_TRAIN, 1, words, &err) && strcmp(o.out, rows[i].out) == 0, "%s: %s",
                  rows[i].text, o.out);
        options_free(&o);
    }
    // A value as long as a list of files may be.
    Str list;
    memset(&list, 0, sizeof list);
    str_puts(&list, "train_data = ");
    for (int i = 0; i < 20000; i++) str_puts(&list, "a.bin,");
    CHECK(file_write_all(file.text, list.data, list.size, &err), "%s", err.text);
    CHECK(options_parse(&o, VERB_TRAIN, 1, words, &err) && strcmp(o.train_data, list.data + 13) == 0, "%s", err.text);
    options_free(&o);
    free(list.data);
    word = path_of("--config=%.4000s", path_parent(file.text).text);
    CHECK_ERROR(options_parse(&o, VERB_TRAIN, 1, words, &err), "is a folder");
    options_free(&o);
}

// ~ is the user's folder in every option that is a path, on the command line and in a config file, and nowhere else.
static void test_option_paths(void) {
    Error err;
    char *home = getenv("HOME") ? str_copy(getenv("HOME")) : NULL;
    setenv("HOME", "/home/karla", 1);
    Path file = test_temp("paths.config");
    for (const Option *p = option_rows; p < option_rows + OPTION_COUNT; p++) {
        int verb = 0;
        if (p->type != OPTION_TEXT && p->type != OPTION_PATH) continue;
        while (!(p->verbs & 1 << verb)) verb++;
        Path line = path_of("%s = ~/x y\n", p->name), word = path_of("--%s=~/x y", p->name),
             config = path_of("--config=%.4000s", file.text);
        char *words[2] = {word.text, config.text};
        CHECK(file_write_all(file.text, line.text, strlen(line.text), &err), "%s", err.text);
        for (int i = 0; i < 2; i++) {
            Options o;
            CHECK(options_parse(&o, verb, 1, words + i, &err), "%s", err.text);
            const char *value = *(const char *const *)((const char *)&o + p->offset);
            CHECK(strcmp(value, p->type == OPTION_PATH ? "/home/karla/x y" : "~/x y") == 0, "%s: %s", words[i], value);
            options_free(&o);
        }
    }
    if (home) setenv("HOME", home, 1);
    else unsetenv("HOME");
    free(home);
}

// What a preset's size says where its user does not.
static void test_defaults_by_size(void) {
    static const struct {
        const char *words;
        int optimizer, schedule;
        double lr, muon_lr, beta2, warmup, last;
    } rows[] = {
        {"--model=llama-nano", OPTIMIZER_ADAMW, SCHEDULE_COSINE, 6e-4, 0, 0.95, 0, 0.1},
        {"--model=a/llama-5M", OPTIMIZER_ADAMW, SCHEDULE_COSINE, 6e-4, 0, 0.95, 0, 0.1},
        {"--model=llama-5M", OPTIMIZER_NORMUON, SCHEDULE_LINEAR, 0.02, 0.004, 0.99, 0.05, 0},
        {"--model=Qwen3-3m --optimizer=muon", OPTIMIZER_MUON, SCHEDULE_LINEAR, 0.02, 0.004, 0.99, 0.05, 0},
        {"--model=gpt2-3M --optimizer=adamw", OPTIMIZER_ADAMW, SCHEDULE_LINEAR, 0.001, 0, 0.99, 0.05, 0},
        {"--model=llama-5M --lora_rank=4", OPTIMIZER_ADAMW, SCHEDULE_COSINE, 6e-4, 0, 0.95, 0, 0.1},
        {"--model=llama-30M --optimizer=adamw", OPTIMIZER_ADAMW, SCHEDULE_LINEAR, 0.0005, 0, 0.99, 0.05, 0},
        {"--lr=0.003 --model=llama-5M", OPTIMIZER_NORMUON, SCHEDULE_LINEAR, 0.003, 0, 0.99, 0.05, 0},
        {"--lr=auto --model=llama-5M", OPTIMIZER_NORMUON, SCHEDULE_LINEAR, LR_AUTO, 0, 0.99, 0.05, 0},
        {"--model=llama-5M --muon_lr=0.006", OPTIMIZER_NORMUON, SCHEDULE_LINEAR, 0.02, 0.006, 0.99, 0.05, 0},
        {"--model=llama-5M --warmup_steps=7 --beta2=0.9", OPTIMIZER_NORMUON, SCHEDULE_LINEAR, 0.02, 0.004, 0.9, 0, 0},
        {"--model=llama-5M --lr_schedule=cosine", OPTIMIZER_NORMUON, SCHEDULE_COSINE, 0.02, 0.004, 0.99, 0.05, 0.1},
        {"--model=gpt2-124M", OPTIMIZER_ADAMW, SCHEDULE_COSINE, 6e-4, 0, 0.95, 0.05, 0.1},
        {"--model=llama-7B --optimizer=muon", OPTIMIZER_MUON, SCHEDULE_COSINE, 1.2e-4, 0, 0.95, 0.05, 0.1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Options o;
        Error err;
        CHECK(test_parse(&o, VERB_TRAIN, rows[i].words, &err), "%s", err.text);
        CHECK(o.optimizer == rows[i].optimizer && o.lr_schedule == rows[i].schedule && o.lr == rows[i].lr &&
                  o.muon_lr == rows[i].muon_lr && o.beta2 == rows[i].beta2 && o.warmup_fraction == rows[i].warmup &&
                  o.final_lr_fraction == rows[i].last,
              "%s: %d %d %g %g %g %g %g", rows[i].words, o.optimizer, o.lr_schedule, o.lr, o.muon_lr, o.beta2,
              o.warmup_fraction, o.final_lr_fraction);
        CHECK(trainer_options_effective(&o, &err), "%s: %s", rows[i].words, err.text);
        options_free(&o);
    }
    Options o;
    Error err;
    CHECK(test_parse(&o, VERB_INFO, "--model=llama-5M", &err) && o.optimizer == OPTIMIZER_NORMUON,
          "info and train mean the same optimizer");
    options_free(&o);
}

static void test_options(void) {
    Options o;
    Error err;
    CHECK(test_parse(&o, VERB_TRAIN, "", &err) && o.batch_size == 8 && o.lr == 6e-4 &&
              o.lr_schedule == SCHEDULE_COSINE && o.progress == 1,
          "%s", err.text);
    CHECK(test_parse(&o, VERB_TRAIN, "--steps=1e6 --lr=1e-3 --lr_schedule=wsd --progress=off --out=a=b --steps=7",
                     &err) &&
              o.steps == 7 && o.lr == 1e-3 && o.lr_schedule == SCHEDULE_WSD && o.progress == 0 &&
              strcmp(o.out, "a=b") == 0,
          "%s", err.text);
    options_free(&o);
    CHECK(test_parse(&o, VERB_TRAIN, "--progress --steps=5e3", &err) && o.progress == 1 && o.steps == 5000, "%s",
          err.text);
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--step=7", &err), "did you mean --steps?");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--warmup=7", &err), "unknown option --warmup");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--steps=0", &err), "expected 1 to");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--steps=7x", &err), "expected a whole number");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--steps=1.5", &err), "expected a whole number");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--steps=99999999999999999999", &err), "expected a whole number");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--lr=nan", &err), "expected a number");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--lr=-1", &err), "expected 0 to 10");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--lr=", &err), "expected a number");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--steps", &err), "needs a value");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--lr_schedule=cos", &err), "cosine|linear|constant|wsd");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--prompt=x", &err), "not an option of train");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "steps=7", &err), "expected --name=value");
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, "--config=/nonexistent", &err), "--config: cannot open /nonexistent");

    Path p = test_temp("train.config");
    const char *config = "# a run\nsteps = 12   # of course\n\n lr=2e-4\nprompt = of another verb\nout = a folder\n";
    CHECK(file_write_all(p.text, config, strlen(config), &err), "%s", err.text);
    Path words = path_of("--steps=3 --config=%s --lr=0.5", p.text);
    CHECK(test_parse(&o, VERB_TRAIN, words.text, &err) && o.steps == 12 && o.lr == 0.5 &&
              strcmp(o.out, "a folder") == 0,
          "%s", err.text);
    options_free(&o);
    config = "steps 12\n";
    CHECK(file_write_all(p.text, config, strlen(config), &err), "%s", err.text);
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, words.text, &err), ":1: expected `name = value`");
    config = "\nstep = 12\n";
    CHECK(file_write_all(p.text, config, strlen(config), &err), "%s", err.text);
    CHECK_ERROR(test_parse(&o, VERB_TRAIN, words.text, &err), ":2: unknown option --step; did you mean --steps?");
    CHECK(test_parse(&o, VERB_TRAIN, "--model=m", &err), "%s", err.text);
    CHECK_ERROR(options_require(&o, &err), "needs --train_data");

    // What a run records reads back as JSON with the same values.
    Str s;
    JsonDoc doc;
    memset(&s, 0, sizeof s);
    str_puts(&s, "{");
    options_json(&s, &o);
    str_puts(&s, "}");
    const Json *root = json_parse(&doc, s.data, s.size, &err);
    CHECK(root && strcmp(json_string(json_get(root, "model"), ""), "m") == 0 &&
              json_number(json_get(root, "beta2"), 0) == 0.95,
          "%s", s.data);
    if (root) json_free(&doc);
    free(s.data);
    options_free(&o);
}

static void test_schedule(void) {
    Schedule s = {SCHEDULE_COSINE, 1.0, 0.1, 0.25, 10, 110, 0};
    CHECK(schedule_lr(&s, 1) == 0.1 && schedule_lr(&s, 10) == 1.0, "warm-up: %g, %g", schedule_lr(&s, 1),
          schedule_lr(&s, 10));
    CHECK(fabs(schedule_lr(&s, 60) - 0.55) < 1e-12, "half-way down a cosine: %g", schedule_lr(&s, 60));
    CHECK(fabs(schedule_lr(&s, 110) - 0.1) < 1e-12, "the end: %g", schedule_lr(&s, 110));
    s.kind = SCHEDULE_LINEAR;
    CHECK(fabs(schedule_lr(&s, 35) - 0.775) < 1e-12 && fabs(schedule_lr(&s, 110) - 0.1) < 1e-12, "line: %g",
          schedule_lr(&s, 35));
    s.kind = SCHEDULE_CONSTANT;
    CHECK(schedule_lr(&s, 110) == 1.0, "constant: %g", schedule_lr(&s, 110));
    s.kind = SCHEDULE_WSD, s.steps = 100;
    CHECK(schedule_lr(&s, 75) == 1.0 && schedule_lr(&s, 76) < 1.0 && fabs(schedule_lr(&s, 100) - 0.1) < 1e-12,
          "wsd: %g %g", schedule_lr(&s, 76), schedule_lr(&s, 100));
    s.kind = SCHEDULE_COSINE, s.warmup = 0, s.steps = 1;
    CHECK(isfinite(schedule_lr(&s, 1)), "one step: %g", schedule_lr(&s, 1));
}

static void test_sample(void) {
    float logits[5] = {0, 2, 1, 2, -INFINITY};
    Sampler s = sampler_create(5, 0, 0, 1, 1);
    CHECK(sample_token(&s, logits, 5, 0) == 1, "greedy takes the first of the likeliest");
    s.temperature = 1;
    double want[5], sum = 0;
    for (int i = 0; i < 5; i++) sum += want[i] = exp((double)logits[i]);
    int n = 200000, counts[5] = {0};
    for (int i = 0; i < n; i++) counts[sample_token(&s, logits, 5, (uint64_t)i)]++;
    for (int i = 0; i < 5; i++) { // 5 standard deviations of a binomial
        double p = want[i] / sum;
        CHECK(fabs(counts[i] - n * p) <= 5 * sqrt(n * p * (1 - p)), "token %d: %d of %d, probability %g", i, counts[i],
              n, p);
    }
    s.top_k = 2;
    for (int i = 0; i < 1000; i++) CHECK(logits[sample_token(&s, logits, 5, (uint64_t)i)] == 2, "top_k=2");
    s.top_k = 0, s.top_p = 0.5; // the two likeliest have 0.37 and 0.37
    for (int i = 0; i < 1000; i++) CHECK(logits[sample_token(&s, logits, 5, (uint64_t)i)] == 2, "top_p=0.5");
    s.top_p = 1;
    for (int i = 0; i < 1000; i++) CHECK(sample_token(&s, logits, 2, (uint64_t)i) < 2, "tokens beyond the vocabulary");
    sampler_free(&s);
}

static void test_model_tables(void) {
    Error err;
    Config c;
    // Published sizes: 124,439,808 with 50257 tokens (Transformers, gpt2); likewise 1,557,611,200 (gpt2-xl).
    CHECK(config_of_preset(&c, "gpt2-124M", &err), "%s", err.text);
    c.vocab_size = 50257;
    ParamTable t = param_table(&c);
    CHECK(t.parameters == 124439808, "gpt2-124M has %zu parameters", t.parameters);
    param_table_free(&t);
    CHECK(config_of_preset(&c, "GPT2-1.5b", &err), "%s", err.text);
    c.vocab_size = 50257;
    t = param_table(&c);
    CHECK(t.parameters == 1557611200, "gpt2-1.5B has %zu parameters", t.parameters);
    for (int i = 0; i < t.count; i++) {
        const Param *p = &t.items[i];
        CHECK(p->offset % PARAM_ALIGN == 0 && (i == 0 || p->offset >= t.items[i - 1].offset + t.items[i - 1].count),
              "%s overlaps", p->name);
        CHECK(p->offset >= t.segment_start[p->segment] && p->offset + p->count <= t.segment_start[p->segment + 1],
              "%s lies outside its segment", p->name);
        CHECK(param_find(&t, p->kind, p->layer) == p, "%s is not found", p->name);
        bool table = p->kind == PARAM_wte || p->kind == PARAM_wpe || p->kind == PARAM_head_w;
        CHECK(p->group == (p->is_vector ? GROUP_VECTOR
                           : table      ? GROUP_EMBEDDING
                                        : GROUP_MATRIX),
              "%s: group %d", p->name, p->group);
    }
    param_table_free(&t);
    CHECK_ERROR(config_of_preset(&c, "gpt4", &err), "no model preset named gpt4");

    // Initial weights do not depend on how the tensor is cut.
    CHECK(config_of_preset(&c, "llama-nano", &err), "%s", err.text);
    t = param_table(&c);
    const Param *p = param_find(&t, PARAM_proj_w, 1);
    float *whole = (float *)mem_alloc(sizeof(float) * p->count), *cut = (float *)mem_alloc(sizeof(float) * p->count);
    param_init(whole, p, &c, 3, 0, p->count);
    for (size_t i = 0; i < p->count; i += 36) param_init(cut + i, p, &c, 3, i, p->count - i < 36 ? p->count - i : 36);
    CHECK(memcmp(whole, cut, sizeof(float) * p->count) == 0, "initial weights depend on the chunk");
    double squares = 0;
    for (size_t i = 0; i < p->count; i++) squares += (double)whole[i] * (double)whole[i];
    double std = sqrt(squares / (double)p->count), want = 0.02 / sqrt(4.0); // 4096 numbers: 5 sigma are 5.5%
    CHECK(fabs(std / want - 1) < 0.055, "std of a residual projection %g, expected %g", std, want);
    free(whole);
    free(cut);
    param_table_free(&t);
}

// Frozen kinds lie behind the trained ones of their segment, and nothing else changes place.
static void test_frozen_tables(void) {
    Error err;
    Config c;
    CHECK(config_of_preset(&c, "gpt2-nano", &err), "%s", err.text);
    bool frozen[PARAM_KINDS] = {false};
    ParamTable all = param_table(&c), same = param_table_frozen(&c, frozen);
    frozen[PARAM_wte] = frozen[PARAM_qkv_w] = frozen[PARAM_fc_b] = frozen[PARAM_normf_b] = true;
    ParamTable some = param_table_frozen(&c, frozen);
    CHECK(all.count == some.count && all.elements == some.elements && all.parameters == some.parameters,
          "freezing changes sizes");
    for (int segment = 0; segment < all.segments; segment++) {
        CHECK(all.segment_trained[segment] == all.segment_start[segment + 1], "segment %d: frozen from %zu on", segment,
              all.segment_trained[segment]);
        CHECK(some.segment_start[segment] == all.segment_start[segment] &&
                  some.segment_trained[segment] < some.segment_start[segment + 1],
              "segment %d: nothing is frozen", segment);
    }
    for (int i = 0; i < all.count; i++) {
        const Param *p = &all.items[i], *q = param_find(&some, p->kind, p->layer);
        CHECK(memcmp(&same.items[i], p, sizeof *p) == 0 && p->trained, "%s: no kind frozen is another layout", p->name);
        CHECK(q && strcmp(p->name, q->name) == 0 && q->trained == !frozen[p->kind], "%s: trained or lost", p->name);
        CHECK(q && (q->offset < some.segment_trained[q->segment]) == q->trained, "%s: on the wrong side", p->name);
        CHECK(i == 0 || some.items[i].offset >= some.items[i - 1].offset + some.items[i - 1].count, "%s overlaps",
              some.items[i].name);
    }
    param_table_free(&all);
    param_table_free(&same);
    param_table_free(&some);
}

// The sizes of the smallest preset in any family.
static Config test_family_config(int family) {
    Error err;
    Config c = config_of_family(family), sizes;
    CHECK(config_of_preset(&sizes, family == FAMILY_GPT2 ? "gpt2-nano" : "llama-nano", &err), "%s", err.text);
    for (int i = 0; i < CONFIG_KINDS; i++)
        if (config_field(i)->type == FIELD_SIZE && i != CONFIG_rope_original)
            config_set(&c, i, config_value(&sizes, i));
    c.unrotated = layers_each(family_of(family)->unrotated_step, c.layers);
    return c;
}

// All tensors of all families have names, no two the same, whose rows add up; and a naming made up here has two numbers
// in its names and many parts.
static void test_naming(void) {
    Config c;
    for (int family = 0; family < FAMILY_KINDS; family++) {
        c = test_family_config(family);
        c.bias = 1, c.tied = 0;
        ParamTable t = param_table(&c);
        for (int gguf = 0; gguf < 2; gguf++)
            for (int i = 0; i < t.count; i++) {
                const Param *p = &t.items[i];
                const Family *f = family_of(family);
                const NameRow *names = names_of(gguf ? f->gguf_naming : f->naming, p->kind);
                CHECK(names, "%s: %s has no name", f->name, p->name);
                int rows = 0;
                for (int j = 0; names && j < disk_count(names, &c); j++) {
                    DiskPart part = disk_part(names, p, &c, j);
                    CHECK(part.row == rows && *part.name && !strpbrk(part.name, "%|^"), "%s: %s", p->name, part.name);
                    rows += part.rows;
                }
                CHECK(rows == p->rows, "%s: %d of %d rows have names", p->name, rows, p->rows);
            }
        param_table_free(&t);
    }
    static const NameRow experts = {16, PARAM_fc_w, PARAM_fc_b, CONFIG_heads, "^l.%d.experts.%e.gate.%w|l.%d.%e.up.%w"};
    c.heads = 11, c.hidden = 33, c.gated = 1;
    ParamTable t = param_table(&c);
    const Param *w = param_find(&t, PARAM_fc_w, 1), *b = param_find(&t, PARAM_fc_b, 0);
    CHECK(disk_count(&experts, &c) == 22, "%d parts, expected 22", disk_count(&experts, &c));
    for (int j = 0; j < 22; j++) {
        DiskPart x = disk_part(&experts, w, &c, j), y = disk_part(&experts, b, &c, j);
        Path tail = path_of(j % 2 ? "%d.up" : "experts.%d.gate", j / 2), name = path_of("l.1.%.30s.weight", tail.text);
        CHECK(strcmp(x.name, name.text) == 0 && x.row == 3 * j && x.rows == 3 && x.transposed,
              "part %d: %s, row %d, %d rows", j, x.name, x.row, x.rows);
        name = path_of("l.0.%.30s.bias", tail.text);
        CHECK(strcmp(y.name, name.text) == 0 && y.row == 3 * j && y.rows == 3 && !y.transposed,
              "part %d: %s, row %d, %d rows", j, y.name, y.row, y.rows);
    }
    param_table_free(&t);
}

static void test_config_file(void) {
    Error err;
    static const char *const presets[] = {"gpt2-350M", "llama-1.5B", "qwen3-7B"};
    Path folder = test_temp("config");
    CHECK(path_make_folder(folder.text, &err), "%s", err.text);
    for (int i = 0; i < 3; i++) {
        Config c, back;
        CHECK(config_of_preset(&c, presets[i], &err), "%s", err.text);
        c.rope_theta = c.rope ? 123456.0 : c.rope_theta;
        CHECK(folder_write_config(folder.text, &c, NULL, NULL, &err) && folder_read_config(&back, folder.text, &err),
              "%s", err.text);
        const char *field = config_difference(&c, &back);
        CHECK(!field && c.init_std == back.init_std, "%s: %s does not come back from config.json", presets[i],
              field ? field : "init_std");
    }
    static const char *const bad[][2] = {
        {"{\"model_type\": \"bert\"}", "\"model_type\" is bert"},
        {"{}", "\"model_type\" is missing"},
        {"[]", "expected an object, found an array"},
        {"{\"model_type\": 5}", "\"model_type\" is 5, expected a string"},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 100, \"n_head\": 12}", "does not divide"},
        {"{\"model_type\": \"llama\"", "config.json"},
    };
    Path path = path_of("%s/config.json", folder.text);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Config c;
        CHECK(file_write_all(path.text, bad[i][0], strlen(bad[i][0]), &err), "%s", err.text);
        CHECK_ERROR(folder_read_config(&c, folder.text, &err), bad[i][1]);
    }
}

// Members that are added to the config.json of a small model of a family, and what the error says; NULL: accepted.
typedef struct {
    const char *families, *members, *error;
} ConfigRow;

static const char config_letters[FAMILY_KINDS + 1] = "glqwmsa"; // gpt2, llama, qwen3, qwen2, mistral, smollm3, apertus

static void test_config_rows(const ConfigRow *rows, size_t count) {
    Error err;
    for (size_t i = 0; i < count; i++)
        for (int family = 0; family < FAMILY_KINDS; family++) {
            Config c;
            JsonDoc doc;
            if (!strchr(rows[i].families, config_letters[family])) continue;
            bool windows =
                family == FAMILY_MISTRAL && !strstr(rows[i].members, "\"sliding_window\""); // it has, unless told
            Path text = path_of("{\"model_type\": \"%s\", %s%s}", family_name(family),
                                windows ? "\"sliding_window\": null, " : "", rows[i].members);
            const Json *root = json_parse(&doc, text.text, strlen(text.text), &err);
            CHECK(root, "%s: %s", text.text, err.text);
            if (rows[i].error) CHECK_ERROR(folder_parse_config(&c, root, &err), rows[i].error);
            else CHECK(folder_parse_config(&c, root, &err), "%s: %s", text.text, err.text);
            json_free(&doc);
        }
}

// Every field of Config under its names in config.json, with values of every other type and out of its range.
static void test_config_types(void) {
    static const char *const bad[FIELD_LAYERS + 1][15] = {{"\"8\"", "\"true\"", "true", "[]", "[8]", "{}", "8.0", "8.5",
                                                           "1e3", "-8", "1e999", "0", "-1", "99999999999999999999",
                                                           "1e-999"},
                                                          {"\"8\"", "\"true\"", "[]", "[8]", "{}", "8.0", "8.5", "1e3",
                                                           "-8", "1e999", "0", "-1", "99999999999999999999", "1e-999"},
                                                          {"\"8\"", "\"true\"", "true", "[]", "[8]", "{}", "8.0", "8.5",
                                                           "1e3", "-8", "1e999", "0", "-1", "99999999999999999999",
                                                           "null"},
                                                          {"\"8\"", "\"true\"", "true", "[]", "[8]", "{}", "-8",
                                                           "1e999", "-1e999", "0", "-1", "1e-999", "1e308", "null"}};
    for (int family = 0; family < FAMILY_KINDS; family++)
        for (int kind = 0; kind < CONFIG_KINDS; kind++) {
            const ConfigField *f = config_field(kind);
            for (int k = 0; name_part(f->keys[family_of(family)->keys], k).text[0]; k++)
                for (int i = 0; i < 15 && bad[f->type][i]; i++) {
                    Path name = name_part(f->keys[family_of(family)->keys], k),
                         member = path_of("\"%s\": %s", name.text, bad[f->type][i]),
                         error = path_of("\"%s\" is ", name.text);
                    char initial[2] = {config_letters[family], 0};
                    ConfigRow row = {initial, member.text, error.text};
                    test_config_rows(&row, 1);
                }
        }
}

// Fields that Config has no place for: refused unless they change nothing.
static void test_config_others(void) {
    static const ConfigRow rows[] = {
        {"glqwmsa", "\"vocab_size\": 512, \"vocab_size\": 512", "\"vocab_size\" stands there twice"},
        {"lqwmsa", "\"hidden_act\": \"gelu\"", "\"hidden_act\" is gelu"},
        {"lqwmsa", "\"hidden_act\": null", "\"hidden_act\" is null"},
        {"g", "\"activation_function\": \"relu\"", "\"activation_function\" is relu"},
        {"g", "\"activation_function\": \"gelu_pytorch_tanh\"", NULL},
        {"l", "\"mlp_bias\": null", "\"mlp_bias\" is null"},
        {"q", "\"mlp_bias\": null", "\"mlp_bias\" is null"},
        {"q", "\"num_key_value_heads\": null", NULL},
        {"glqwmsa", "\"tie_word_embeddings\": null", "\"tie_word_embeddings\" is null"},
        {"l", "\"num_key_value_heads\": null, \"head_dim\": null", NULL},
        {"q", "\"head_dim\": null", "\"head_dim\" is null"},
        {"g", "\"n_inner\": null", NULL},
        {"lqwmsa", "\"num_key_value_heads\": 5", "do not divide"},
        {"l", "\"hidden_size\": 100, \"num_attention_heads\": 12", "does not divide"},
        {"l", "\"attention_bias\": true", "\"attention_bias\" is unlike mlp_bias"},
        {"l", "\"attention_bias\": true, \"mlp_bias\": true", NULL},
        {"q", "\"attention_bias\": true", "\"attention_bias\" is true"},
        {"q", "\"mlp_bias\": true", "\"mlp_bias\" is true"},
        {"q", "\"attention_bias\": true, \"mlp_bias\": true", "no more biases in Qwen3ForCausalLM"},
        {"qwm", "\"attention_bias\": false, \"mlp_bias\": false", NULL},
        {"wm", "\"attention_bias\": true", "\"attention_bias\" is true; this program supports no more biases"},
        {"wm", "\"mlp_bias\": true", "\"mlp_bias\" is true"},
        // rotary positions
        {"lqwmsa", "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0}",
         "\"rope_scaling\" has no \"original_max_position_embeddings\", which rope_type \"llama3\" needs"},
        {"lqwmsa",
         "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
         "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}",
         NULL},
        {"lqwmsa",
         "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 4.0, "
         "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}",
         "scaled from 4 to 4 turns"},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}", NULL},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}", "factor of rotary positions 0.5"},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": \"4\"}", "\"factor\" is \"4\""},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0, \"beta_fast\": 32}",
         "\"rope_scaling.beta_fast\" is 32"},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"linear\", \"rope_type\": \"yarn\", \"factor\": 4.0}",
         "\"rope_scaling.type\" is \"linear\""},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4.0}", NULL},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"dynamic\"}", "\"rope_scaling\" has no \"factor\""},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4.0, \"beta_fast\": 32}",
         "\"rope_scaling.beta_fast\" is 32"},
        {"lqwmsa", "\"rope_scaling\": {\"type\": \"longrope\"}", "\"rope_scaling.type\" is \"longrope\""},
        {"lqwmsa", "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 5e5}", "has no \"factor\""},
        {"lqwmsa", "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 5e5, \"factor\": 4}", NULL},
        {"lqwmsa",
         "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4, \"mscale\": 1.0, \"mscale_all_dim\": 0.7, "
         "\"truncate\": false}",
         NULL},
        {"lqwmsa", "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4, \"attention_factor\": -1}",
         "factor of rotated queries and keys -1"},
        {"lqwmsa",
         "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4}, \"rope_scaling\": {\"type\": \"yarn\", "
         "\"factor\": 8}",
         "say different things (rope_factor)"},
        {"lqwmsa",
         "\"rope_parameters\": {\"rope_type\": \"default\"}, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 8}",
         "say different things (rope_scaling)"},
        {"lqwmsa", "\"rope_scaling\": {\"factor\": 4.0}", "\"rope_scaling.factor\" is 4.0"},
        {"lqwmsa", "\"rope_scaling\": {\"rope_type\": 5}", "\"rope_scaling.rope_type\" is 5"},
        {"lqwmsa", "\"rope_scaling\": \"linear\"", "\"rope_scaling\" is \"linear\", expected an object"},
        {"lqwmsa", "\"rope_scaling\": 2.0", "\"rope_scaling\" is 2.0, expected an object"},
        {"lqwmsa", "\"rope_parameters\": []", "\"rope_parameters\" is an array, expected an object"},
        {"lqwmsa", "\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e6}}",
         "\"rope_parameters.full_attention\""},
        {"lqwmsa", "\"rope_parameters\": {\"rope_theta\": \"500000.0\"}", "\"rope_theta\" is \"500000.0\""},
        {"lqwmsa", "\"rope_parameters\": {\"rope_theta\": 1e6, \"rope_theta\": 1e6}", "stands there twice"},
        {"lqwmsa", "\"rope_parameters\": {\"rope_theta\": 1e6}, \"rope_theta\": 1e4",
         "\"rope_theta\" is 10000, and 1000000"},
        {"lqwmsa", "\"rope_parameters\": {\"rope_theta\": 1e6}, \"rope_theta\": 1000000", NULL},
        {"lqwmsa", "\"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 1.0}", NULL},
        {"lqwmsa", "\"rope_parameters\": {\"partial_rotary_factor\": 0.5}",
         "\"rope_parameters.partial_rotary_factor\""},
        {"lqwmsa", "\"rope_scaling\": {}, \"rope_parameters\": null", NULL},
        {"lqwmsa", "\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\" is 0.25"},
        {"lqwmsa", "\"partial_rotary_factor\": \"1.0\"", "\"partial_rotary_factor\" is \"1.0\""},
        // windows
        {"lm", "\"use_sliding_window\": true", "\"use_sliding_window\" is true"},
        {"qws", "\"use_sliding_window\": true", NULL},
        {"lqwmsa", "\"use_sliding_window\": \"true\"", "\"use_sliding_window\" is \"true\""},
        {"m", "\"sliding_window\": 128, \"use_sliding_window\": false", "windows, which its class has"},
        {"qw", "\"use_sliding_window\": true, \"sliding_window\": 128, \"max_window_layers\": 1", NULL},
        {"qw", "\"use_sliding_window\": true, \"sliding_window\": \"128\"", "\"sliding_window\" is \"128\""},
        {"qw", "\"use_sliding_window\": true, \"sliding_window\": -1", "\"sliding_window\" is -1"},
        {"qw", "\"use_sliding_window\": true, \"max_window_layers\": 0.5", "\"max_window_layers\" is 0.5"},
        {"m", "\"sliding_window\": 8.5", "\"sliding_window\" is 8.5"},
        {"m",
         "\"num_hidden_layers\": 2, \"sliding_window\": 128, \"layer_types\": "
         "[\"sliding_attention\", \"sliding_attention\"]",
         NULL},
        {"m",
         "\"num_hidden_layers\": 2, \"sliding_window\": 128, \"layer_types\": "
         "[\"full_attention\", \"sliding_attention\"]",
         "windows in all, as its class has them"},
        {"qw",
         "\"use_sliding_window\": true, \"sliding_window\": 128, \"num_hidden_layers\": 2, \"layer_types\": "
         "[\"sliding_attention\", \"chunked_attention\"]",
         "\"layer_types\" is \"chunked_attention\""},
        {"qw",
         "\"use_sliding_window\": true, \"sliding_window\": 128, \"num_hidden_layers\": 6, \"layer_types\": "
         "[\"full_attention\", \"sliding_attention\", \"full_attention\", \"sliding_attention\", "
         "\"full_attention\", \"sliding_attention\"]",
         NULL},
        {"gl", "\"sliding_window\": 128", "\"sliding_window\" is 128"},
        {"qw", "\"sliding_window\": 128", NULL}, // which these classes do not look at by themselves
        {"m", "\"sliding_window\": 4096", NULL},
        {"m", "\"max_position_embeddings\": 4096, \"sliding_window\": 4096", NULL},
        {"lqw", "\"sliding_window\": 128, \"use_sliding_window\": false", NULL},
        {"lqwmsa", "\"sliding_window\": null", NULL},
        {"lqwmsa", "\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\", \"full_attention\"]", NULL},
        {"lqwmsa", "\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\", \"sliding_attention\"]",
         "\"layer_types\" is \"sliding_attention\""},
        {"lqwmsa", "\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\"]", "expected an array of 2"},
        {"lqwmsa", "\"layer_types\": \"full_attention\"", "\"layer_types\" is \"full_attention\", expected an array"},
        {"glqwmsa", "\"sliding_window_pattern\": 6", "\"sliding_window_pattern\" is 6"},
        {"glqwmsa", "\"attention_chunk_size\": 8192", "\"attention_chunk_size\" is 8192"},
        {"glqwma", "\"no_rope_layers\": [1, 0]", "\"no_rope_layers\" is an array"},
        {"glqwma", "\"no_rope_layer_interval\": 4", "\"no_rope_layer_interval\" is 4"},
        {"s", "\"num_hidden_layers\": 2, \"no_rope_layers\": [1, 0, 1]", NULL},
        {"s", "\"num_hidden_layers\": 2, \"no_rope_layers\": [1]", "expected an array of 2 numbers"},
        {"s", "\"num_hidden_layers\": 2, \"no_rope_layers\": [1, 2]", "\"no_rope_layers\" is 2"},
        {"s", "\"num_hidden_layers\": 2, \"no_rope_layers\": [1, \"0\"]", "\"no_rope_layers\" is \"0\""},
        {"s", "\"no_rope_layers\": 4", "\"no_rope_layers\" is 4"},
        {"s", "\"no_rope_layer_interval\": 0", "\"no_rope_layer_interval\" is 0"},
        {"s", "\"no_rope_layer_interval\": null, \"no_rope_layers\": null", NULL},
        // scales
        {"g", "\"scale_attn_weights\": false", "\"scale_attn_weights\" is false"},
        {"g", "\"scale_attn_weights\": \"true\"", "\"scale_attn_weights\" is \"true\""},
        {"g", "\"scale_attn_by_inverse_layer_idx\": true", "\"scale_attn_by_inverse_layer_idx\" is true"},
        {"g", "\"reorder_and_upcast_attn\": true", "\"reorder_and_upcast_attn\" is true"},
        {"glqwmsa", "\"attention_multiplier\": 0.0078125", "\"attention_multiplier\" is 0.0078125"},
        {"g", "\"attention_multiplier\": 0.125", NULL},
        {"q", "\"query_pre_attn_scalar\": 128", NULL},
        {"q", "\"query_pre_attn_scalar\": 256", "\"query_pre_attn_scalar\" is 256"},
        {"glqwmsa", "\"embedding_multiplier\": 12", "\"embedding_multiplier\" is 12"},
        {"glqwmsa", "\"residual_multiplier\": 0.22", "\"residual_multiplier\" is 0.22"},
        {"glqwmsa", "\"residual_multiplier\": 1.0", NULL},
        {"glqwmsa", "\"logits_scaling\": 8.0", "\"logits_scaling\" is 8.0"},
        {"glqwmsa", "\"logit_scale\": 0.0625", "\"logit_scale\" is 0.0625"},
        {"glqwmsa", "\"pretraining_tp\": 2", "\"pretraining_tp\" is 2"},
        {"glqwmsa", "\"pretraining_tp\": 1", NULL},
        {"glqwmsa", "\"final_logit_softcapping\": 30.0", "\"final_logit_softcapping\" is 30.0"},
        {"glqwmsa", "\"attn_logit_softcapping\": null", NULL},
        {"glqwmsa", "\"clip_qkv\": 8", "\"clip_qkv\" is 8"},
        // other layers
        {"glqwmsa", "\"add_cross_attention\": true", "\"add_cross_attention\" is true"},
        {"glqwmsa", "\"is_encoder_decoder\": true", "\"is_encoder_decoder\" is true"},
        {"glqwmsa", "\"quantization_config\": {\"bits\": 4}", "\"quantization_config\" is an object"},
        {"glqwmsa", "\"quantization_config\": null", NULL},
        {"glqwmsa", "\"num_experts\": 64", "\"num_experts\" is 64"},
        {"glqwmsa", "\"num_local_experts\": 8", "\"num_local_experts\" is 8"},
        {"glqwmsa", "\"n_routed_experts\": 8", "\"n_routed_experts\" is 8"},
        {"glqwmsa", "\"moe_intermediate_size\": 8", "\"moe_intermediate_size\" is 8"},
        {"glqwmsa", "\"kv_lora_rank\": 512", "\"kv_lora_rank\" is 512"},
        {"glqwmsa", "\"per_layer_config\": {\"0\": {\"intermediate_size\": 1}}", "\"per_layer_config\" is an object"},
        {"glqwmsa", "\"pruned_heads\": {\"0\": [1]}", "\"pruned_heads\" is an object"},
        {"glqwmsa", "\"pruned_heads\": {}", NULL},
        {"glqwmsa", "\"use_parallel_residual\": true", "\"use_parallel_residual\" is true"},
        {"l", "\"use_qk_norm\": true", "\"use_qk_norm\" is true"},
        // sizes under the other vocabulary's names
        {"g", "\"hidden_size\": 512",
         "\"hidden_size\" is 512, but the model's hidden size (channels) is 768 (\"n_embd\")"},
        {"g", "\"num_hidden_layers\": 2", "\"num_hidden_layers\" is 2"},
        {"g", "\"num_hidden_layers\": 12, \"hidden_size\": 768", NULL},
        {"g", "\"num_key_value_heads\": 4", "\"num_key_value_heads\" is 4"},
        {"g", "\"head_dim\": 32", "\"head_dim\" is 32"},
        {"g", "\"max_position_embeddings\": \"1024\"", "\"max_position_embeddings\" is \"1024\""},
        {"lqwmsa", "\"n_embd\": 512", "\"n_embd\" is 512"},
        {"lqwmsa", "\"n_layer\": 2.0", "\"n_layer\" is 2.0"},
        {"g", "\"n_ctx\": \"77\"", "\"n_ctx\" is \"77\""},
        // what changes nothing
        {"glqwmsa",
         "\"architectures\": null, \"torch_dtype\": \"bfloat16\", \"use_cache\": true, \"bos_token_id\": null", NULL},
        {"glqwmsa", "\"attention_dropout\": 0.1, \"transformers_version\": \"5.24.0\", \"x\": {\"y\": [1, {}]}", NULL},
    };
    test_config_rows(rows, sizeof rows / sizeof rows[0]);
}

// What is accepted is written, and comes back the same: every family with every set of switches.
static void test_config_returns(void) {
    Error err;
    Path folder = test_temp("returns"), path = path_of("%s/config.json", folder.text);
    CHECK(path_make_folder(folder.text, &err), "%s", err.text);
    int accepted = 0;
    for (int family = 0; family < FAMILY_KINDS; family++) {
        int switches[CONFIG_KINDS], n = 0;
        for (int i = 0; i < CONFIG_KINDS; i++)
            if (config_field(i)->type == FIELD_SWITCH) switches[n++] = i;
        for (int set = 0; set < 1 << n; set++) {
            Config c = test_family_config(family), back;
            for (int i = 0; i < n; i++) config_set(&c, switches[i], set >> i & 1);
            c.norm_eps = 1.0 / 3e5, c.init_std = 0.1 / 7;
            if (!folder_write_config(folder.text, &c, NULL, NULL, &err)) {
                CHECK(strstr(err.text, "no config.json of a "), "%s", err.text);
                continue;
            }
            accepted++;
            bool ok = folder_read_config(&back, folder.text, &err);
            for (int i = 0; ok && i < CONFIG_KINDS; i++)
                CHECK(config_field(i)->type == FIELD_LAYERS || config_value(&c, i) == config_value(&back, i),
                      "%s, switches %x: %s is %.17g, was %.17g", family_name(family), (unsigned)set,
                      config_field(i)->name, config_value(&back, i), config_value(&c, i));
            CHECK(ok, "%s", err.text);
        }
    }
    // all with a tied head and without, llama and smollm3 also with biases and without
    CHECK(accepted == 2 * FAMILY_KINDS + 4, "%d of the configs can be written, expected %d", accepted,
          2 * FAMILY_KINDS + 4);
    // From a file: every set of its booleans, in every family.
    static const char *const names[] = {"tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window"};
    for (int family = 0; family < FAMILY_KINDS; family++)
        for (int set = 0; set < 16; set++) {
            Config c, back;
            Path text = path_of("{\"model_type\": \"%s\"", family_name(family));
            for (int i = 0; i < 4; i++)
                text = path_of("%.2000s, \"%s\": %s", text.text, names[i], set >> i & 1 ? "true" : "false");
            text = path_of("%.2000s}", text.text);
            CHECK(file_write_all(path.text, text.text, strlen(text.text), &err), "%s", err.text);
            if (!folder_read_config(&c, folder.text, &err)) continue;
            CHECK(folder_write_config(folder.text, &c, NULL, NULL, &err) &&
                      folder_read_config(&back, folder.text, &err) && !config_difference(&c, &back),
                  "%s: %s", text.text, err.text);
        }
    Config c;
    CHECK(config_of_preset(&c, "gpt2-nano", &err), "%s", err.text);
    c.kv_heads = 2;
    CHECK_ERROR(folder_write_config(folder.text, &c, NULL, NULL, &err),
                "no config.json of a gpt2 model says its key/value heads");
}

// Sums and products of sizes.
static void test_config_batches(void) {
    static const struct {
        int64_t B, T;
        const char *error;
    } rows[] = {{8, 1024, NULL},
                {1 << 20, 1 << 24, "--batch_size=1048576 x --seq_len=16777216 x 4 heads"},
                {1 << 15, 1 << 16, "heads = 8589934592"},
                {1 << 14, 1 << 15, "--batch_size=16384"},
                {(1 << 14) - 1, 1 << 15, NULL}};
    Error err;
    Config c;
    CHECK(config_of_preset(&c, "llama-nano", &err), "%s", err.text);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].error) CHECK_ERROR(config_check_batch(&c, rows[i].B, rows[i].T, &err), rows[i].error);
        else CHECK(config_check_batch(&c, rows[i].B, rows[i].T, &err), "%s", err.text);
    }
    c.channels = 1 << 17, c.hidden = 1 << 19, c.layers = 1024, c.heads = 1;
    CHECK_ERROR(config_check_batch(&c, 1 << 15, 1 << 15, &err), "activations");
}

// ---------------------------------------------------------------- files

// The paths that a list expands to, one to a line, without the folder of the test; or the error.
static Str test_expanded(const char *folder, const char *list) {
    Str text, whole;
    StrList paths;
    Error err;
    memset(&text, 0, sizeof text);
    memset(&whole, 0, sizeof whole);
    memset(&paths, 0, sizeof paths);
    for (const char *c = list; *c; c++)
        if (*c == '@') str_puts(&whole, folder);
        else str_add(&whole, c, 1);
    bool ok = path_expand(&paths, whole.data, &err);
    for (int i = 0; i < paths.count; i++) str_printf(&text, "%s\n", paths.items[i] + strlen(folder) + 1);
    if (!ok) text.size = 0, str_puts(&text, strstr(err.text, "no such file") ? "none" : err.text);
    str_list_free(&paths);
    free(whole.data);
    return text;
}

static void test_path_lists(void) {
    static const char *const files[] = {"Band [1999].txt", "Kafka, Franz.txt",  "{Entwurf}.txt",     "a.txt",
                                        "b.txt",           "lauf [v2]/x_1.bin", "lauf [v2]/x_2.bin", ".hidden.txt"};
    static const char *const lists[][2] = {
        {"@/Band [1999].txt", "Band [1999].txt\n"},
        {"@/Kafka, Franz.txt", "Kafka, Franz.txt\n"},
        {"@/a.txt,@/Kafka, Franz.txt,@/b.txt", "a.txt\nKafka, Franz.txt\nb.txt\n"},
        {"@/{Entwurf}.txt", "{Entwurf}.txt\n"},
        {"@/lauf [v2]/x_*.bin", "lauf [v2]/x_1.bin\nlauf [v2]/x_2.bin\n"},
        {"@/lauf*/x_?.bin", "lauf [v2]/x_1.bin\nlauf [v2]/x_2.bin\n"},
        {"@/{b,a}.txt", "b.txt\na.txt\n"},
        {"@/lauf [v2]/{x_2,x_1}.bin", "lauf [v2]/x_2.bin\nlauf [v2]/x_1.bin\n"},
        {"@/[ab].txt", "a.txt\nb.txt\n"},
        {"@/?.txt,@/a.txt", "a.txt\nb.txt\na.txt\n"},
        {"@/c.txt", "none"},
        {"@/c*.txt,@/a.txt", "none"},
        {"@/a.txt,@/c.txt", "none"},
        {"@/a.txt,,@/b.txt,", "a.txt\nb.txt\n"},
    };
    Error err;
    Path folder = test_temp("lists");
    CHECK(path_make_folder(path_of("%s/lauf [v2]", folder.text).text, &err), "%s", err.text);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        CHECK(file_write_all(path_of("%s/%s", folder.text, files[i]).text, "x", 1, &err), "%s", err.text);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        Str found = test_expanded(folder.text, lists[i][0]);
        CHECK(strcmp(found.data, lists[i][1]) == 0, "%s: %s, expected %s", lists[i][0], found.data, lists[i][1]);
        free(found.data);
    }
    Str many, found;
    memset(&many, 0, sizeof many);
    for (int i = 0; i < 2000; i++) str_puts(&many, "@/a.txt,");
    found = test_expanded(folder.text, many.data);
    CHECK(found.size == 2000 * strlen("a.txt\n"), "a long list gives %zu bytes of names", found.size);
    free(many.data);
    free(found.data);
    CHECK(setenv("HOME", folder.text, 1) == 0, "HOME cannot be set");
    found = test_expanded(folder.text, "~/a.txt,~/b*");
    CHECK(strcmp(found.data, "a.txt\nb.txt\n") == 0, "~: %s", found.data);
    free(found.data);
}

// What is there is told from what cannot be seen, and what is written never goes to a place that was not meant.
static void test_files_and_links(void) {
    Error err;
    FileKind kind;
    Str text;
    OutFile out;
    memset(&text, 0, sizeof text);
    Path folder = test_temp("files"), victim = path_of("%s/victim", folder.text), to = path_of("%s/out", folder.text);
    Path dangling = path_of("%s/dangling", folder.text), fifo = path_of("%s/fifo", folder.text);
    Path left = path_of("%s/out.tmp.99999999", folder.text), own = path_of("%s.tmp.%d", to.text, (int)getpid());
    CHECK(path_make_folder(folder.text, &err) && file_write_all(victim.text, "precious", 8, &err), "%s", err.text);
    CHECK(symlink("nowhere", dangling.text) == 0 && mkfifo(fifo.text, 0600) == 0, "%s", strerror(errno));
    CHECK(path_look(path_of("%s/none", folder.text).text, &kind, &err) && kind == FILE_ABSENT, "%s", err.text);
    CHECK(path_look(folder.text, &kind, &err) && kind == FILE_FOLDER, "%s", err.text);
    CHECK(path_look(fifo.text, &kind, &err) && kind == FILE_OTHER, "%s", err.text);
    CHECK_ERROR(path_look(dangling.text, &kind, &err), "link to a file that is not there");
    CHECK_ERROR(path_look(path_of("%s/below", victim.text).text, &kind, &err), "cannot look at");
    CHECK_ERROR(file_read(&text, fifo.text, 100, &err), "not a regular file");
    CHECK_ERROR(file_read(&text, folder.text, 100, &err), "is a folder");
    CHECK_ERROR(file_read(&text, victim.text, 7, &err), "expected at most 7");
    CHECK(file_read(&text, victim.text, 8, &err) && strcmp(text.data, "precious") == 0, "%s", err.text);
    CHECK_ERROR(out_open(&out, fifo.text, &err), "a device or a pipe");
    CHECK_ERROR(out_open(&out, folder.text, &err), "it is a folder");
    // A link that somebody has put at the temporary name is not followed.
    CHECK(symlink(victim.text, own.text) == 0, "%s", strerror(errno));
    CHECK_ERROR(out_open(&out, to.text, &err), "File exists");
    unlink(own.text);
    // What dead processes left is swept, also under our own number; what a writer holds is not.
    CHECK(file_write_all(left.text, "x", 1, &err) && file_write_all(own.text, "x", 1, &err), "%s", err.text);
    CHECK(file_write_all(to.text, "new", 3, &err), "%s", err.text);
    CHECK(path_look(left.text, &kind, &err) && kind == FILE_ABSENT, "%s is still there", left.text);
    CHECK(out_open(&out, to.text, &err), "%s", err.text);
    CHECK_ERROR(file_write_all(to.text, "second", 6, &err), "File exists");
    out_write(&out, "first", 5);
    CHECK(out_commit(&out, &err) && file_read(&text, to.text, 100, &err) && strcmp(text.data, "first") == 0, "%s",
          err.text);
    // A link as target: the file behind it gets the bytes, the link stays.
    Path link_ = path_of("%s/link", folder.text);
    struct stat st;
    CHECK(symlink("out", link_.text) == 0 && file_write_all(link_.text, "through", 7, &err), "%s", err.text);
    CHECK(lstat(link_.text, &st) == 0 && S_ISLNK(st.st_mode) && file_read(&text, to.text, 100, &err) &&
              strcmp(text.data, "through") == 0,
          "the link was replaced");
    FileId of_link = {0}, of_file = {0}, of_other = {0}, of_none = {0};
    Path none = path_of("%s/none", folder.text);
    CHECK(path_id(link_.text, &of_link, &err) && path_id(to.text, &of_file, &err) &&
              path_id(victim.text, &of_other, &err) && path_id(none.text, &of_none, &err),
          "%s", err.text);
    CHECK(file_id_same(of_link, of_file), "a link is not its file");
    CHECK(!file_id_same(of_other, of_file) && !file_id_same(of_none, of_none), "two files, or none, are one");
    free(text.data);
    error_set(&err, "%s", "a\nb\x1b[31m\xff\xc2\x9b\xc3\xa4\xe2\x82");
    CHECK(strcmp(err.text, "a?b?[31m???\xc3\xa4??") == 0, "a message is `%s`", err.text);
}

// A process that is killed leaves its file to be swept, also while a program that it started still writes there; and a
// program begins where its file has been written to.
static void test_files_of_killed(void) {
    static const char *const cat[] = {"cat", NULL};
    Error err;
    FileKind kind;
    OutFile out;
    Child child;
    Str text;
    int ends[2];
    bool missing;
    memset(&text, 0, sizeof text);
    Path folder = test_temp("killed"), to = path_of("%s/out", folder.text);
    Path left = path_of("%s/out.tmp.99999999", folder.text);
    CHECK(path_make_folder(folder.text, &err) && out_open(&out, to.text, &err) && pipe2(ends, O_CLOEXEC) == 0, "%s",
          err.text);
    CHECK(write(fileno(out.stream), "head ", 5) == 5, "%s", strerror(errno));
    CHECK(child_start_writing(&child, cat, ends[0], fileno(out.stream), &missing, &err), "%s", err.text);
    close(ends[0]);
    CHECK(write(ends[1], "tail", 4) == 4, "%s", strerror(errno));
    struct stat st;
    struct timespec moment = {0, 1000000};
    // Until cat runs: it has what this process has open before it is there.
    while (fstat(fileno(out.stream), &st) == 0 && st.st_size < 9 && kill(child.pid, 0) == 0) nanosleep(&moment, NULL);
    // What the kernel does to a process that was killed: its files are closed, and its program goes on.
    CHECK(rename(out.temporary.text, left.text) == 0, "%s", strerror(errno));
    out_sweep(to.text);
    CHECK(path_look(left.text, &kind, &err) && kind == FILE_REGULAR, "a writer's file was swept");
    int held = dup(fileno(out.stream));
    fclose(out.stream);
    out.stream = NULL;
    out_sweep(to.text);
    CHECK(path_look(left.text, &kind, &err) && kind == FILE_REGULAR, "a writer's file was swept");
    close(held);
    CHECK(kill(child.pid, 0) == 0, "cat has ended");
    Path kept = path_of("%s/kept", folder.text);
    CHECK(link(left.text, kept.text) == 0, "%s", strerror(errno));
    out_sweep(to.text);
    CHECK(path_look(left.text, &kind, &err) && kind == FILE_ABSENT,
          "a killed process's file stays: its program locks it");
    close(ends[1]);
    CHECK(child_end(&child, &err), "%s", err.text);
    CHECK(file_read(&text, kept.text, 100, &err) && strcmp(text.data, "head tail") == 0, "the file is `%s`", text.data);
    out_abort(&out);
    free(text.data);
}

static void test_base(void) {
    test_rng();
    test_options();
    test_defaults_by_size();
    test_option_numbers();
    test_config_lines();
    test_option_paths();
    test_every_option();
    test_choices();
    test_schedule();
    test_sample();
    test_model_tables();
    test_frozen_tables();
    test_naming();
    test_config_file();
    test_config_types();
    test_config_others();
    test_config_returns();
    test_config_batches();
    test_path_lists();
    test_files_and_links();
    test_files_of_killed();
}

#endif
