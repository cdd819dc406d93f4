/*
clean_test.h: the steps of the verb corpus: what each mends, that nothing changes when it is done again, each rule of
quality by counts made by hand, and duplicates, which no number of threads and no batch changes.
*/
#ifndef CLEAN_TEST_H
#define CLEAN_TEST_H

#include "../../llmc/corpus/corpus.h"
#include "files_test.h"
#include "check.h"

// ---------------------------------------------------------------- cleaning

static Str clean_test(const char *text, size_t n, unsigned steps, bool *settled) {
    Str out, spare;
    CleanCounts counts;
    memset(&out, 0, sizeof out);
    memset(&spare, 0, sizeof spare);
    *settled = clean_text(&out, &spare, text, n, steps, &counts);
    free(spare.data);
    return out;
}

static void test_clean_cases(void) {
    // clang-format off
    static const struct { const char *text, *expected; } cases[] = {
        {"Grün, weiß und „gut“ – 5 € am Straßenrand", "Grün, weiß und „gut“ – 5 € am Straßenrand"},
        // encoded twice: umlauts, punctuation, signs; three times; as Latin-1, not Windows-1252
        {"GrÃ¼n, weiÃŸ, Ã„rger, Ã–l, Ãœbel, Ã¤hnlich", "Grün, weiß, Ärger, Öl, Übel, ähnlich"},
        {"â€žgutâ€œ â€“ 5 â‚¬, Â§ 3, 20Â°C, CafÃ©", "„gut“ – 5 €, § 3, 20°C, Café"},
        {"GrÃƒÂ¼n", "Grün"},
        {"wei\xc3\x83\xc2\x9f \xc3\x83\xc2\x84rger", "weiß Ärger"},
        {"São Paulo, Ågren, A‚ Â, Ã und â bleiben; Ãgypten auch", "São Paulo, Ågren, A‚ Â, Ã und â bleiben; Ãgypten auch"},
        // Latin-1 and Windows-1252 between UTF-8
        {"Gr\xfc\xdf Gott, \x84gut\x93 \x80 und ä", "Grüß Gott, „gut“ € und ä"},
        {"ein \x81 ohne Zeichen", "ein \xef\xbf\xbd ohne Zeichen"},
        // decomposed
        {"scho\xcc\x88n und a\xcc\x88hnlich", "schön und ähnlich"},
        {"A\xcc\x83\xc2\xa4", "ä"}, // what NFC makes of it was encoded twice
        // control characters and white space
        {"a\r\nb\rc\x0b" "d\xe2\x80\xa8" "e", "a\nb\nc\nd\ne"},
        {"\n\n  eins  \t\n\n\n\n  zwei\xc2\xa0 \n", "  eins\n\n  zwei"},
        {"z.\xe2\x80\xaf" "B. 5\xc2\xa0km", "z. B. 5 km"},
        {"a\x01" "b\x7f" "c\xc2\x80" "d\xe2\x80\x8b" "e\xef\xbb\xbf" "f\xe2\x80\xae" "g\xef\xbf\xbe", "abcdefg"},
        {"Fa\xe2\x80\x8dm", "Fa\xe2\x80\x8dm"}, // a joiner has a meaning
        {"Sil\xc2\xad" "ben\xc2\xad" "tren\xc2\xad \nnung", "Silbentrennung"},
        // words divided at line ends: known, not known, compounds, in small letters alone, twice
        {"Die Trennung der Tren-\nnung, hier", "Die Trennung der Trennung,\nhier"},
        {"Die Tren-\nnung hier", "Die Tren-\nnung hier"},
        {"Nord-\nsee und Ost-\nSee, Ostsee", "Nord-\nsee und Ost-\nSee, Ostsee"},
        {"abcd ef ab-\ncd-\nef abcdef", "abcd ef abcdef\nabcdef"},
        {"Haus-\nund Hof, Hausund", "Hausund\nHof, Hausund"},
        // lines of a page
        {"Text\nZum Inhalt springen\n| --- | --- |\nmehr\nIMPRESSUM | DATENSCHUTZ\n» Zurück nach oben «\nEnde", "Text\nmehr\nEnde"},
        {"Diese Website verwendet Cookies, um Inhalte zu zeigen.\nDas Impressum nennt den Verlag.", "Das Impressum nennt den Verlag."},
        {"Das Rezept für Cookies: Butter und Mehl.", "Das Rezept für Cookies: Butter und Mehl."},
        {"Impressum", ""}, {" \n\t\n", ""}, {"", ""}};
    // clang-format on
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool settled, again;
        Str got = clean_test(cases[i].text, strlen(cases[i].text), ~0u, &settled);
        CHECK(settled && strcmp(got.data, cases[i].expected) == 0, "case %zu: \"%s\", expected \"%s\"", i, got.data,
              cases[i].expected);
        Str twice = clean_test(got.data, got.size, ~0u, &again);
        CHECK(again && twice.size == got.size && memcmp(twice.data, got.data, got.size) == 0, "case %zu again: \"%s\"",
              i, twice.data);
        free(got.data);
        free(twice.data);
    }
    // Each step alone, and none.
    static const char *const all = "Ã¼ a\xcc\x88 b\x01 Trennung Tren-\nnung\nImpressum\na@b.de";
    static const char *const alone[] = {"ü a\xcc\x88 b\x01 Trennung Tren-\nnung\nImpressum\na@b.de",
                                        "Ã¼ ä b\x01 Trennung Tren-\nnung\nImpressum\na@b.de",
                                        "Ã¼ a\xcc\x88 b Trennung Tren-\nnung\nImpressum\na@b.de",
                                        "Ã¼ a\xcc\x88 b\x01 Trennung Trennung\nImpressum\na@b.de",
                                        "Ã¼ a\xcc\x88 b\x01 Trennung Tren-\nnung\na@b.de",
                                        "Ã¼ a\xcc\x88 b\x01 Trennung Tren-\nnung\nImpressum\n<EMAIL>"};
    for (int step = 0; step <= CLEAN_STEP_COUNT; step++) {
        bool settled;
        unsigned kinds = PERSONAL_ALL << CLEAN_KINDS;
        Str got = clean_test(all, strlen(all), step < CLEAN_STEP_COUNT ? 1u << step | kinds : kinds, &settled);
        const char *expected = step < CLEAN_STEP_COUNT ? alone[step] : all;
        CHECK(settled && strcmp(got.data, expected) == 0, "step %d alone: \"%s\"", step, got.data);
        free(got.data);
    }
}

// Texts of pieces that steps meet: whatever their order, cleaning again changes nothing, and UTF-8 comes out.
static void test_clean_twice(void) {
    static const char *const pieces[] = {"Ã",        "¼",        "Â",         "â",        "€",        "‚",
                                         "\xc2\xad", "-\n",      "\n",        "\n\n",     " ",        "ab",
                                         "cd",       "abcd",     "\xc3\x83",  "\xc2\xa4", "\xcc\x88", "\xcc\x83",
                                         "A",        "a",        "\r\n",      "\r",       "\xff",     "\x80",
                                         "\xe2\x80", "\xc2\xa0", "Impressum", "|",        "\x01",     "\xef\xbb\xbf",
                                         ".",        "\t",       "Ÿ",         "ƒ"};
    uint64_t x = 1;
    int unsettled = 0;
    for (int i = 0; i < 20000; i++) {
        Str s;
        memset(&s, 0, sizeof s);
        str_puts(&s, "");
        for (int k = 0; k < 2 + i % 40; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            str_puts(&s, pieces[(x >> 33) % (sizeof pieces / sizeof pieces[0])]);
        }
        bool settled, again;
        Str got = clean_test(s.data, s.size, ~0u, &settled);
        const uint8_t *p = (const uint8_t *)got.data;
        Str twice = clean_test(got.data, got.size, ~0u, &again);
        unsettled += !settled;
        CHECK(!settled || text_valid(p, p + got.size) == got.size, "text %d is no UTF-8", i);
        CHECK(!settled || (twice.size == got.size && memcmp(twice.data, got.data, got.size) == 0),
              "text %d: \"%s\", then \"%s\"", i, got.data, twice.data);
        free(s.data);
        free(got.data);
        free(twice.data);
    }
    CHECK(unsettled == 0, "%d texts do not settle", unsettled);
}

// ---------------------------------------------------------------- quality

// What a rule measures.
static double quality_test(int rule, const char *text) {
    QualityText q;
    QualityLines lines;
    bool over;
    memset(&q, 0, sizeof q);
    size_t n = strlen(text);
    quality_words(&q, (const uint8_t *)text, (const uint8_t *)text + n);
    q.characters = quality_characters(text, n);
    quality_lines(&q, &lines, text, n);
    double found = quality_measure(&q, &lines, rule, text, n, &over);
    quality_free(&q);
    return found;
}

static void quality_test_word(void *to, const uint8_t *start, const uint8_t *end, int kind) {
    Str *s = (Str *)to;
    str_add(s, start, (size_t)(end - start));
    str_puts(s, kind == WORDS_SIGN ? "- " : kind ? " " : "+ "); // signs, words with a letter, others
}

// As spaCy 3.8 cuts these, blank("de"), which the figures were fitted with; + behind words without a letter, - behind
// those of signs alone, as datatrove counts them.
static void test_words(void) {
    // clang-format off
    static const char *const cases[][2] = {
        {"Am 3. Mai z. B. bei 1.000,50 € u.a. in Nord-Süd, usw.", "Am 3.+ Mai z. B. bei 1.000,50+ €+ u.a. in Nord-Süd ,- usw. "},
        {"(--foo=bar -e foo_bar) _x_ [1] \"a\" »wie«.", "(- --foo =- bar -e foo_bar )- _- x _- [- 1+ ]- \"- a \"- »- wie «- .- "},
        {"http://a.de/b?c=d. 12:30 Uhr/Tag 10% 3-4 a/b", "http://a.de/b?c=d .- 12:30+ Uhr /- Tag 10+ %- 3+ -- 4+ a /- b "},
        {"Haus.Der Haus..Der so... gut!nein ja--nein 5€ $5 +5 +x A.B. ABC. Ende.", "Haus .- Der Haus ..- Der so ...- gut !- nein ja --- nein 5+ €+ $- 5+ +5+ +- x A.B. ABC .- Ende .- "},
        {"((((.... §5 a... „so“, E-Mail@x.de ÄÖ. größer. 20°", "(- (- (- (- ....- §+ 5+ a ...- „- so “- ,- E-Mail@x.de ÄÖ .- größer .- 20+ °+ "},
        {"", ""}, {" \n ", ""}, {".", ".- "}, {"-", "-- "}, {"a.", "a. "}, {"32. 1.000. 5%. (5).", "32.+ 1.000.+ 5+ %- .- (- 5+ )- .- "}};
    // clang-format on
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint8_t *p = (const uint8_t *)cases[i][0];
        Str got;
        memset(&got, 0, sizeof got);
        str_puts(&got, "");
        words_cut(p, p + strlen(cases[i][0]), quality_test_word, &got);
        CHECK(strcmp(got.data, cases[i][1]) == 0, "case %zu: \"%s\", expected \"%s\"", i, got.data, cases[i][1]);
        free(got.data);
    }
}

static void test_quality(void) {
    // clang-format off
    static const struct { int rule; const char *text; double expected; } cases[] = {
        {QUALITY_min_words, "Drei Wörter hier.", 3},
        {QUALITY_max_words, "eins, zwei; drei 4", 4},
        {QUALITY_max_word_length, "äöü ab, abcd", 3},                       // characters, not bytes
        {QUALITY_max_hash_share, "#a b #", 0.5},                            // words: # a b #
        {QUALITY_max_ellipsis_share, "a … b ...", 0.5},                     // words: a … b ...
        {QUALITY_max_bullet_lines, "- a\n• b\nc\n\n  - d", 0.6},             // of all lines
        {QUALITY_max_ellipsis_lines, "a...\nb… \nc ... d\n\ne", 0.4},
        {QUALITY_min_alpha_words, "a 5 b . c", 0.6},
        {QUALITY_min_stop_words, "der der und für Die", 3},                 // different ones, as they are written
        {QUALITY_dup_line_frac, "a\nb\na\n\na", 0.5},
        {QUALITY_char_dup_ratio, "äa\nb\näa", 2.0 / 5},
        {QUALITY_new_line_ratio, "a b\nc\nd", 0.5},
        {QUALITY_top_2_gram, "a b a b c", 2 * 3.0 / 9},                     // "a b" twice, with its blank
        {QUALITY_top_2_gram, "aa b cc", 4.0 / 7},                           // once each: the first
        {QUALITY_top_3_gram, "x a b c x a b c", 2 * 5.0 / 15},
        {QUALITY_top_4_gram, "a b c", 0},
        {QUALITY_dup_5_gram, "a b c d e a b c d e", 5.0 / 19},
        {QUALITY_dup_6_gram, "a b c d e a b c d e", 0},
        {QUALITY_dup_5_gram, "a a a a a a a a a a a a", 10.0 / 23},         // the second is known, and the one behind it
        {QUALITY_dup_10_gram, "a b c d e f g h i jj a b c d e f g h i jj", 11.0 / 41}};
    // clang-format on
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double found = quality_test(cases[i].rule, cases[i].text);
        CHECK(fabs(found - cases[i].expected) < 1e-12, "case %zu, %s: %.17g, expected %.17g", i,
              quality_name(cases[i].rule), found, cases[i].expected);
    }
    QualityText q;
    QualityRules rules = quality_defaults();
    memset(&q, 0, sizeof q);
    Str text;
    memset(&text, 0, sizeof text);
    for (int i = 0; i < 60; i++) str_printf(&text, "wort%c%c ", 'a' + i % 26, 'a' + i / 26);
    CHECK(quality_judge(&q, text.data, text.size, &rules) == QUALITY_min_stop_words, "a text without stop words");
    str_puts(&text, "und der Rest.");
    CHECK(quality_judge(&q, text.data, text.size, &rules) == -1, "a good text");
    CHECK(quality_judge(&q, "und der", 7, &rules) == QUALITY_min_words, "a short text");
    // A file of rules.
    Error err;
    Path path = test_temp("rules");
    const char *good = "# Regeln\n min_words = 3 # wenige\r\n\nmin_stop_words=off\n";
    CHECK(file_write_quickly(path.text, good, strlen(good), &err) && quality_rules_load(&rules, path.text, &err), "%s",
          err.text);
    CHECK(rules.value[QUALITY_min_words] == 3 && isnan(rules.value[QUALITY_min_stop_words]) &&
              rules.value[QUALITY_max_words] == 100000,
          "the rules of a file");
    CHECK(quality_judge(&q, "ganz kurzer Text", 16, &rules) == QUALITY_top_2_gram, "a short text of few pairs");
    static const char *const bad[] = {"min_word = 3",   "min_words 3",    "min_words = x",
                                      "min_words = -1", "min_words = 3x", "= 3"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(file_write_quickly(path.text, bad[i], strlen(bad[i]), &err), "%s", err.text);
        CHECK_ERROR(quality_rules_load(&rules, path.text, &err), "rules: line 1: ");
    }
    quality_free(&q);
    free(text.data);
}

// ---------------------------------------------------------------- all of it

// A paragraph of its own for every number, long enough to be compared.
static void corpus_test_paragraph(Str *s, int number) {
    uint64_t x = (uint64_t)number * 2654435761u + 12345;
    for (int k = 0; k < 60; k++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        str_printf(s, "%s%s%c%c%c", k ? " " : "",
                   k % 9 == 3    ? "und "
                   : k % 11 == 5 ? "der "
                                 : "",
                   (char)('a' + (x >> 40) % 26), (char)('a' + (x >> 48) % 26), (char)('a' + (x >> 56) % 26));
    }
    str_puts(s, ".");
}

static bool corpus_test_run(const char *inputs, const char *folder, unsigned steps, CorpusStats *stats, Error *err) {
    CorpusJob job;
    memset(&job, 0, sizeof job);
    memset(stats, 0, sizeof *stats);
    job.inputs = inputs;
    job.docs.split = DOC_FORMFEED;
    job.docs.field = "text";
    job.steps = steps;
    job.rules = quality_defaults();
    job.german = -100; // paragraphs of random letters are no language
    job.pack = CORPUS_PACK_NONE;
    job.program = "test_gpt";
    job.contamination = "";
    bool ok = corpus_run(&job, test_temp(folder).text, stats, err);
    str_list_free(&stats->damage.named);
    return ok;
}

// Documents by their paragraphs: "1 2|3": two documents. 0: a short one, which is no text by itself.
static void corpus_test_write(const char *name, const char *documents) {
    Str s;
    Error err;
    memset(&s, 0, sizeof s);
    for (const char *p = documents; *p;) {
        char *end;
        long number = strtol(p, &end, 10);
        if (number) corpus_test_paragraph(&s, (int)number);
        else str_puts(&s, "Kurz.");
        str_puts(&s, *end == '|' ? "\n\f" : "\n\n");
        p = *end ? end + 1 : end;
    }
    CHECK(file_write_quickly(test_temp(name).text, s.data, s.size, &err), "%s", err.text);
    free(s.data);
}

static Str corpus_test_read(const char *name) {
    Str s;
    Error err;
    memset(&s, 0, sizeof s);
    CHECK(file_read(&s, test_temp(name).text, (size_t)1 << 30, &err), "%s", err.text);
    return s;
}

static void test_corpus_duplicates(void) {
    // Paragraph 5 is in the third document, which is dropped (it is short without its paragraph 1), so the fifth keeps
    // its own; the fourth is the first again; of the sixth a paragraph goes; the seventh then is the second again.
    static const char *const documents = "1 2|3|1 0|1 2|0 4 5|2 6|2 3|";
    static const char *const expected[] = {"1 2", "3", "0 4 5", "6"};
    CorpusStats stats;
    Error err;
    corpus_test_write("dup.txt", documents);
    CHECK(corpus_test_run(test_temp("dup.txt").text, "dup", ~0u, &stats, &err), "%s", err.text);
    Str got = corpus_test_read("dup/corpus.jsonl");
    const char *line = got.data;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        corpus_test_write("one.txt", expected[i]);
        Str one = corpus_test_read("one.txt"), text;
        memset(&text, 0, sizeof text);
        while (one.size && one.data[one.size - 1] == '\n') one.data[--one.size] = 0;
        JsonSpan found[1];
        const char *names[1] = {"text"}, *end = strchr(line, '\n');
        CHECK(end && json_line(line, end, names, 1, found, &err), "%s", err.text);
        if (end) json_span_string(&text, &found[0]);
        CHECK(text.size == one.size && memcmp(text.data, one.data, one.size) == 0, "document %zu is \"%s\"", i,
              text.data);
        free(one.data);
        free(text.data);
        if (!end) break;
        line = end + 1;
    }
    CHECK(*line == 0, "more documents: %s", line);
    const CorpusCounts *n = &stats.all;
    CHECK(n->read == 7 && n->kept == 4 && n->dropped[CORPUS_TWICE] == 1 && n->dropped[CORPUS_REPEATED] == 1 &&
              n->dropped[QUALITY_min_words] == 1 && n->paragraphs == 1,
          "%lld read, %lld kept, %lld twice, %lld repeated, %lld too short, %lld paragraphs", (long long)n->read,
          (long long)n->kept, (long long)n->dropped[CORPUS_TWICE], (long long)n->dropped[CORPUS_REPEATED],
          (long long)n->dropped[QUALITY_min_words], (long long)n->paragraphs);
    free(got.data);
    // Without these steps all stay.
    CHECK(corpus_test_run(test_temp("dup.txt").text, "all", 1u << CLEAN_CONTROL, &stats, &err) && stats.all.kept == 7,
          "%s", err.text);
}

static void test_corpus_no_text(void) {
    CorpusStats stats;
    Error err;
    const char *text = "\xe4\xf6\xfc und noch mehr\f\xe4\xf6\xfc\xdf"
                       "abc";
    CHECK(file_write_quickly(test_temp("bytes.txt").text, text, strlen(text), &err) &&
              corpus_test_run(test_temp("bytes.txt").text, "bytes", ~0u & ~(1u << CORPUS_QUALITY), &stats, &err),
          "%s", err.text);
    CHECK(stats.all.read == 2 && stats.all.dropped[CORPUS_NO_TEXT] == 2 && stats.all.kept == 0, "%lld of %lld no text",
          (long long)stats.all.dropped[CORPUS_NO_TEXT], (long long)stats.all.read);
    CHECK(corpus_test_run(test_temp("bytes.txt").text, "bytes", 1u << CLEAN_NFC, &stats, &err) && stats.all.kept == 2,
          "without repair: %lld kept", (long long)stats.all.kept);
}

// Any number of threads, and cleaning again: the same bytes.
static void test_corpus_same(void) {
    Str text, list;
    Error err;
    CorpusStats stats;
    memset(&text, 0, sizeof text);
    memset(&list, 0, sizeof list);
    for (int file = 0; file < 5; file++) {
        text.size = 0;
        for (int i = 0; i < 900; i++) {
            for (int k = 0; k <= i % 3; k++) {
                corpus_test_paragraph(&text, 1 + (i * 7 + k * 3 + file * 500) % 2000);
                str_puts(&text, k % 2 ? "\r\n\r\n" : " \n\n\n");
            }
            if (i % 50 == 0) str_puts(&text, "Ã¼ber Tren-\nnung, Trennung\nImpressum\n");
            str_puts(&text, i % 20 == 19 ? "Noch etwas Kurzes.\n\f" : "\f");
        }
        Path path = test_temp(path_of("same%d.txt", file).text);
        CHECK(file_write_quickly(path.text, text.data, text.size, &err), "%s", err.text);
        str_printf(&list, "%s%s", file ? "," : "", path.text);
    }
#ifdef _OPENMP
    int threads = omp_get_max_threads();
#endif
    for (int i = 0; i < 3; i++) {
        const char *folder = i == 0 ? "same1" : i == 1 ? "same3" : "again";
        Path again = test_temp("same1/corpus.jsonl");
#ifdef _OPENMP
        omp_set_num_threads(i == 1 ? 3 : 1);
#endif
        CHECK(corpus_test_run(i == 2 ? again.text : list.data, folder, ~0u, &stats, &err), "%s", err.text);
        if (i == 2)
            CHECK(stats.all.kept == stats.all.read && stats.all.paragraphs == 0, "cleaning again drops something");
        else
            CHECK(stats.all.kept > 500 && stats.all.paragraphs > 100 && stats.all.dropped[CORPUS_REPEATED] > 100 &&
                      stats.all.changed[CLEAN_HYPHENS] > 0 && stats.all.changed[CLEAN_BOILERPLATE] > 0,
                  "%lld kept, %lld paragraphs, %lld repeated", (long long)stats.all.kept,
                  (long long)stats.all.paragraphs, (long long)stats.all.dropped[CORPUS_REPEATED]);
    }
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
    Str first = corpus_test_read("same1/corpus.jsonl");
    for (int i = 0; i < 2; i++) {
        Str other = corpus_test_read(i ? "again/corpus.jsonl" : "same3/corpus.jsonl");
        CHECK(first.size == other.size && memcmp(first.data, other.data, first.size) == 0, "%s: %zu bytes, %zu",
              i ? "cleaned again" : "three threads", first.size, other.size);
        free(other.data);
    }
    Str manifests[2] = {corpus_test_read("same1/manifest.json"), corpus_test_read("same3/manifest.json")};
    CHECK(manifests[0].size == manifests[1].size &&
              memcmp(manifests[0].data, manifests[1].data, manifests[0].size) == 0,
          "the manifests differ");
    // It counts all documents of every source, once.
    JsonDoc doc;
    const Json *root = json_parse(&doc, manifests[0].data, manifests[0].size, &err);
    CHECK(root, "%s", err.text);
    int64_t read = 0, kept = 0, dropped = 0;
    for (const Json *s = root ? json_get(root, "by_source")->child : NULL; s; s = s->next) {
        read += json_integer(json_get(s, "documents"), 0);
        kept += json_integer(json_get(s, "kept"), 0);
        for (const Json *d = json_get(s, "dropped")->child; d; d = d->next)
            dropped += json_integer(json_get(d, "documents"), 0);
    }
    CHECK(read == kept + dropped && read == json_integer(json_get(root, "documents"), -1), "%lld = %lld + %lld",
          (long long)read, (long long)kept, (long long)dropped);
    if (root) json_free(&doc);
    free(manifests[0].data);
    free(manifests[1].data);
    free(first.data);
    free(text.data);
    free(list.data);
}

static void test_seen(void) {
    Seen s;
    memset(&s, 0, sizeof s);
    int wrong = 0;
    for (int round = 0; round < 50; round++) {
        seen_mark(&s, 300);
        for (int i = 0; i < 300; i++) {
            int number = round * 200 + i; // a third was there before, unless it was taken back
            wrong += !seen_add(&s, seen_hash((const char *)&number, sizeof number)) !=
                     (round > 0 && i < 100 && round % 5 != 1);
        }
        if (round % 5 == 0) seen_undo(&s);
    }
    CHECK(wrong == 0, "%d wrong answers", wrong);
    seen_free(&s);
}

static void test_clean(void) {
    test_clean_cases();
    test_clean_twice();
    test_words();
    test_quality();
    test_seen();
    test_corpus_duplicates();
    test_corpus_no_text();
    test_corpus_same();
}

#endif
