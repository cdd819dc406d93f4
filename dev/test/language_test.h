/*
language_test.h: German or not: the sample in fixtures/languages, texts that are short, long or in another script, and
the step in the verb.
*/
#ifndef LANGUAGE_TEST_H
#define LANGUAGE_TEST_H

#include "clean_test.h"

// All 124 texts of a sentence or two are told apart, 50 German ones (also Swiss and Austrian, some with other words)
// and 74 of others; dev/bench/languages.md has thousands of pieces, and what CLD2 and fastText say.
#define LANGUAGE_PRECISION 0.98
#define LANGUAGE_RECALL 0.98

static void test_language_sample(void) {
    Str text;
    Error err;
    int lines = 0, german = 0, found = 0, right = 0, named = 0;
    memset(&text, 0, sizeof text);
    CHECK(file_read(&text, "dev/test/fixtures/languages/sample.txt", (size_t)1 << 20, &err), "%s", err.text);
    for (char *line = text.data, *next; line && *line; line = next) {
        int class_;
        char *end = strchr(line, '\n'), *bar = strchr(line, '|');
        next = end ? end + 1 : line + strlen(line);
        if (*line == '#') continue;
        *bar = 0;
        bool is = strcmp(line, "de") == 0 || strcmp(line, "mixed") == 0;
        double score = language_judge(bar + 1, (size_t)((end ? end : next) - bar - 1), &class_);
        lines++, german += is, found += score > 0, right += is && score > 0;
        named += strcmp(is ? "de" : line, language_name(class_)) == 0;
        if (is != (score > 0)) printf("language: %s is %s, %.2f: %.60s\n", line, language_name(class_), score, bar + 1);
    }
    double precision = found ? (double)right / found : 0, recall = german ? (double)right / german : 0;
    printf("language, %d texts: precision %.3f, recall %.3f of %d German ones; class right for %d\n", lines, precision,
           recall, german, named);
    CHECK(precision >= LANGUAGE_PRECISION && recall >= LANGUAGE_RECALL && german >= 50 && lines >= 120, "%d right",
          right);
    CHECK(named >= lines * 95 / 100, "the class is right for %d of %d", named, lines);
    free(text.data);
}

static void test_language_cases(void) {
    int class_, wrong = 0;
    Str text;
    memset(&text, 0, sizeof text);
    CHECK(isnan(language_judge("", 0, &class_)) && isnan(language_judge("Ja, das ist so.", 15, &class_)),
          "short texts");
    const char *greek = "Νωρίς το πρωί υπήρχε ακόμα ομίχλη πάνω από το ποτάμι";
    CHECK(language_judge(greek, strlen(greek), &class_) == -1 && class_ == LANGUAGE_other, "another script");
    // A long text is looked at in places: German with a list of code in its middle stays German.
    const char *prose =
        "Am frühen Morgen lag noch Nebel über dem Fluss, und die Fischer schoben ihre Boote ins Wasser. ";
    while (text.size < 100000) str_puts(&text, prose);
    double whole = language_judge(text.data, text.size, &class_);
    for (int i = 0; i < 500; i++) str_puts(&text, "for (int i = 0; i < n; i++) sum += values[i]; return false;\n");
    double less = language_judge(text.data, text.size, &class_);
    CHECK(whole > 0.5 && less > 0.1 && less < whole, "%.3f alone, %.3f with code", whole, less);
    // Capital letters and Latin-1 bytes as they come change no feature and end no read.
    double small =
        language_judge("die schönen äpfel über der öffnung sind heute für alle kinder und eltern", 77, &class_);
    double large =
        language_judge("DIE SCHÖNEN ÄPFEL ÜBER DER ÖFFNUNG SIND HEUTE FÜR ALLE KINDER UND ELTERN", 77, &class_);
    CHECK(small == large && small > 0.3, "%.17g in small letters, %.17g in capital ones", small, large);
    for (int i = 0; i < 256; i++) {
        char bytes[3] = {(char)i, (char)0xc3, (char)i};
        wrong += !isnan(language_judge(bytes, (size_t)(i % 4), &class_));
    }
    for (size_t i = 0; i < sizeof language_table / sizeof language_table[0]; i++)
        for (size_t k = 0; k < sizeof language_table[0] - 1; k++)
            wrong += language_table[i][k] < ']' || language_table[i][k] > '~';
    CHECK(wrong == 0, "%d wrong", wrong);
    free(text.data);
}

// The step by itself: what is not German goes and is counted; a higher threshold is stricter.
static void test_language_step(void) {
    static const char *const text =
        "Wer das Gerät zum ersten Mal einschaltet, wird nach Sprache, Zeitzone und Netzwerk gefragt.\n\f"
        "De burgemeester zei dat de begroting krap is, maar dat het zwembad gewoon open kan blijven.\n\f"
        "Kurz.\n";
    CorpusStats stats;
    Error err;
    Path path = test_temp("languages.txt");
    CHECK(file_write_quickly(path.text, text, strlen(text), &err), "%s", err.text);
    for (int strict = 0; strict < 2; strict++) {
        CorpusJob job;
        memset(&job, 0, sizeof job);
        memset(&stats, 0, sizeof stats);
        job.inputs = path.text;
        job.docs.split = DOC_FORMFEED;
        job.docs.field = "text";
        job.steps = 1u << CORPUS_LANGUAGE;
        job.german = strict ? 5 : 0;
        job.pack = CORPUS_PACK_NONE;
        job.contamination = "";
        job.part_bytes = (int64_t)1 << 30;
        job.program = "test_gpt";
        CHECK(corpus_run(&job, test_temp("languages").text, &stats, &err), "%s", err.text);
        CHECK(stats.all.kept == (strict ? 1 : 2) && stats.all.dropped[CORPUS_FOREIGN] == (strict ? 2 : 1) &&
                  stats.all.languages[LANGUAGE_de] == 1 && stats.all.languages[LANGUAGE_nl] == 1,
              "%lld kept", (long long)stats.all.kept);
    }
}

static void test_language(void) {
    test_language_sample();
    test_language_cases();
    test_language_step();
}

#endif
