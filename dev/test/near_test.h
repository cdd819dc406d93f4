/*
near_test.h: near duplicates against brute force: how often documents of known similarity share a key, clusters of many
runs on disk, which one stays and for how many it stands, and what the verb corpus then drops.
*/
#ifndef NEAR_TEST_H
#define NEAR_TEST_H

#include "../../llmc/corpus/corpus.h"
#include "files_test.h"
#include "check.h"

#define NEAR_TEST_KEY 0xb27c90ba4ea809a4ull

static uint64_t near_test_random(uint64_t *x) {
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

// A text as numbers of words, and as words of letters.
typedef struct {
    uint32_t words[400];
    int count;
} NearTest;

static void near_test_text(Str *s, const NearTest *t) {
    s->size = 0;
    for (int i = 0; i < t->count; i++) {
        char word[8];
        uint32_t x = t->words[i];
        for (int k = 0; k < 7; k++, x /= 26) word[k] = (char)('a' + x % 26);
        str_printf(s, "%s%.7s", i ? " " : "", word);
    }
}

static NearTest near_test_document(uint64_t *x, int count) {
    NearTest t;
    t.count = count;
    for (int i = 0; i < count; i++) t.words[i] = (uint32_t)near_test_random(x);
    return t;
}

// Each word with chance q another one.
static NearTest near_test_edited(const NearTest *from, double q, uint64_t *x) {
    NearTest t = *from;
    for (int i = 0; i < t.count; i++)
        if ((double)near_test_random(x) < q * 2147483648.0) t.words[i] = (uint32_t)near_test_random(x);
    return t;
}

// Shared runs of five words as a share of all, counted one against the other. Words are so many that none comes twice.
static double near_test_jaccard(const NearTest *a, const NearTest *b) {
    int shared = 0, runs_a = a->count - 4, runs_b = b->count - 4;
    for (int i = 0; i < runs_a; i++)
        for (int k = 0; k < runs_b; k++)
            if (memcmp(&a->words[i], &b->words[k], 5 * sizeof a->words[0]) == 0) {
                shared++;
                break;
            }
    return (double)shared / (runs_a + runs_b - shared);
}

// Pairs of one similarity: the share of equal least values is s, that of pairs that share a key 1 - (1 - s^8)^14. Both
// within four and a half standard deviations of drawing: once in 100,000 tests by chance, and the draws are fixed.
static void test_near_curve(NearText *t) {
    static const double edits[] = {0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.12};
    enum { PAIRS = 600 };
    uint64_t x = 7, keys[2][NEAR_BANDS];
    Str text;
    memset(&text, 0, sizeof text);
    for (size_t e = 0; e < sizeof edits / sizeof edits[0]; e++) {
        double equal = 0, equal_expected = 0, equal_variance = 0, found = 0, expected = 0, variance = 0;
        for (int i = 0; i < PAIRS; i++) {
            uint32_t least[2][NEAR_HASHES];
            NearTest a = near_test_document(&x, 60 + i % 100), b = near_test_edited(&a, edits[e], &x);
            double s = near_test_jaccard(&a, &b), p = 1 - pow(1 - pow(s, NEAR_ROWS), NEAR_BANDS);
            for (int k = 0; k < 2; k++) {
                near_test_text(&text, k ? &b : &a);
                CHECK(near_keys(t, keys[k], text.data, text.size), "no keys");
                near_least(least[k], t, (size_t)(k ? b : a).count - 4);
            }
            for (int k = 0; k < NEAR_HASHES; k++) equal += least[0][k] == least[1][k];
            bool any = false;
            for (int k = 0; k < NEAR_BANDS; k++) any |= keys[0][k] == keys[1][k];
            found += any;
            equal_expected += NEAR_HASHES * s;
            equal_variance += NEAR_HASHES * s * (1 - s);
            expected += p;
            variance += p * (1 - p);
        }
        CHECK(fabs(equal - equal_expected) <= 4.5 * sqrt(equal_variance) + 1,
              "edits of %g: %.0f values are equal, expected %.0f +- %.0f", edits[e], equal, equal_expected,
              sqrt(equal_variance));
        CHECK(fabs(found - expected) <= 4.5 * sqrt(variance) + 1,
              "edits of %g: %.0f of %d pairs are found, expected %.1f +- %.1f", edits[e], found, PAIRS, expected,
              sqrt(variance));
    }
    free(text.data);
}

// What does not count: case, diacritics, signs, numbers, white space. What does.
static void test_near_words(NearText *t) {
    static const struct {
        const char *one, *two;
        bool same;
    } cases[] = {{"Schöne STRASSE! 12 Häuser", "schone strasse\n\n99  hauser", true},
                 {"ÄÖÜ Ÿ Š ŁÓDŹ Đ ΑΒΓ ЁЖ", "aou y s łodz đ αβγ еж", true},
                 {"scho\xcc\x88n und gut", "schön und gut", true},
                 {"1.234,56 Euro", "7 Euro", true},
                 {"E-Mail", "e mail", true},
                 {"ẞ und ß", "ß und ß", true},
                 {"schön und gut", "schön und güt.", true},
                 {"schön und gut", "gut und schön", false},
                 {"a7", "a", false},
                 {"ein Wort", "ein Wort mehr", false},
                 {"漢字", "漢", false}};
    uint64_t one[NEAR_BANDS], two[NEAR_BANDS];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(near_keys(t, one, cases[i].one, strlen(cases[i].one)) &&
                  near_keys(t, two, cases[i].two, strlen(cases[i].two)),
              "case %zu has no word", i);
        int same = 0;
        for (int k = 0; k < NEAR_BANDS; k++) same += one[k] == two[k];
        CHECK(same == (cases[i].same ? NEAR_BANDS : 0), "case %zu: %d keys are the same", i, same);
    }
    CHECK(!near_keys(t, one, "... -- !", 8) && !near_keys(t, one, "", 0) && !near_keys(t, one, "\xff \xc3", 3),
          "no word");
    // The keys are the file format of nothing, but what was cleaned years ago must know what is cleaned today.
    near_keys(t, one, "Ein Text, der bleibt, wie er ist.", 33);
    CHECK(one[0] == NEAR_TEST_KEY, "the first key became %016llx", (unsigned long long)one[0]);
}

// Clusters of documents with random keys, from runs of a few hundred entries, against a search from each document.
static void test_near_clusters(bool weighed, bool sized) {
    enum { N = 800, KEYS = NEAR_BANDS };
    uint64_t x = 11 + weighed, (*keys)[KEYS] = (uint64_t(*)[KEYS])mem_alloc(sizeof(uint64_t[N][KEYS]));
    uint32_t *weight = (uint32_t *)mem_alloc(N * sizeof *weight), *size = (uint32_t *)mem_alloc(N * sizeof *size);
    int *cluster = (int *)mem_alloc(N * sizeof *cluster), *open = (int *)mem_alloc(N * sizeof *open), wrong = 0,
        several = 0;
    Near near;
    Error err;
    SignalHold hold;
    memset(&hold, 0, sizeof hold);
    CHECK(near_open(&near, path_parent(test_temp("x").text).text, weighed, &err), "%s", err.text);
    near.run = 300;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < KEYS; k++)
            keys[i][k] = near_test_random(&x) % 16 ? near_test_random(&x) << 32 | near_test_random(&x) << 1
                                                   : near_test_random(&x) % 2000 << (i % 2 ? 33 : 1);
        weight[i] = (uint32_t)near_test_random(&x) % 50;
        size[i] = sized && i % 7 == 3 ? 1 + (uint32_t)near_test_random(&x) % 5 : 1;
        CHECK(near_add(&near, i % 11 ? keys[i] : NULL, weight[i], size[i], &err), "%s", err.text);
        cluster[i] = -1;
    }
    CHECK(near.runs > 20, "%zu runs", near.runs);
    CHECK(near_join(&near, &hold, &err), "%s", err.text);
    for (int i = 0; i < N; i++) {
        if (cluster[i] >= 0) continue;
        int count = 1, stays = i;
        int64_t sum = 0;
        open[0] = i, cluster[i] = i;
        for (int at = 0; at < count; at++) {
            int d = open[at];
            sum += size[d];
            if (weighed && (weight[d] > weight[stays] || (weight[d] == weight[stays] && d < stays))) stays = d;
            for (int o = 0; o < N && d % 11; o++) {
                bool shared = false;
                for (int k = 0; k < KEYS && cluster[o] < 0 && o % 11; k++)
                    for (int j = 0; j < KEYS; j++) shared |= keys[d][k] == keys[o][j];
                if (shared) cluster[o] = i, open[count++] = o;
            }
        }
        several += count > 1;
        for (int at = 0; at < count; at++) wrong += near_size(&near, open[at]) != (open[at] == stays ? sum : 0);
    }
    CHECK(wrong == 0 && several > 20, "%d documents are in the wrong cluster, %d clusters", wrong, several);
    near_close(&near);
    free(keys);
    free(weight);
    free(size);
    free(cluster);
    free(open);
}

static void test_near_age(void) {
    static const struct {
        const char *text;
        int64_t seconds; // since 1970; -1: no date
    } cases[] = {{"1970-01-01", 0},
                 {"2000-02-29T12:00:01Z", 951825601},
                 {"2024-05-31 23:59:59", 1717199999},
                 {"2026-11-27\"", 1795737600},
                 {"1969-12-31", -2},
                 {"gestern", -1},
                 {"2024-13-01", -1},
                 {"2024-05", -1},
                 {"2106-02-07T06:28:20Z", 4294967294}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t expected = cases[i].seconds == -1 ? 0
                            : cases[i].seconds < 0 ? UINT32_MAX
                                                   : UINT32_MAX - (uint32_t)int64_min(cases[i].seconds, UINT32_MAX - 1);
        CHECK(near_age(cases[i].text) == expected, "%s: %u, expected %u", cases[i].text, near_age(cases[i].text),
              expected);
    }
}

// ---------------------------------------------------------------- the verb

enum { NEAR_TEST_OPT_OUT = 99 }; // in place of who stays: what forbids mining is looked for
// Cleans JSON lines in near.jsonl of the test's folder into FOLDER, the steps `documents` and `near` alone.
static Str near_test_run(const char *inputs, const char *folder, int keep, CorpusStats *stats) {
    CorpusJob job;
    Error err;
    Str out;
    memset(&job, 0, sizeof job);
    memset(&out, 0, sizeof out);
    memset(stats, 0, sizeof *stats);
    job.inputs = inputs;
    job.docs.field = "text";
    job.steps = 1u << CORPUS_DOCUMENTS | 1u << CORPUS_NEAR;
    job.rules = quality_defaults();
    job.pack = CORPUS_PACK_NONE;
    job.near_keep = keep == NEAR_TEST_OPT_OUT ? CORPUS_FIRST : keep;
    job.docs.opt_out = keep == NEAR_TEST_OPT_OUT;
    job.program = "test_gpt";
    job.contamination = "";
    str_list_add(&job.docs.keep, "id");
    str_list_add(&job.docs.keep, "date");
    Path path = test_temp(folder);
    CHECK(corpus_run(&job, path.text, stats, &err), "%s", err.text);
    CHECK(file_read(&out, path_of("%s/corpus.jsonl", path.text).text, (size_t)1 << 30, &err), "%s", err.text);
    str_list_free(&stats->damage.named);
    str_list_free(&job.docs.keep);
    return out;
}

// "7:3 9:1 ": ids of the lines and how many they stand for.
static Str near_test_ids(const Str *lines) {
    Str ids;
    memset(&ids, 0, sizeof ids);
    str_puts(&ids, "");
    for (const char *p = lines->data, *end = p + lines->size, *to; p < end; p = to + 1) {
        static const char *const names[] = {"id", "origin"}, *const inner[] = {"near"};
        JsonSpan found[2], near[1];
        to = (const char *)memchr(p, '\n', (size_t)(end - p));
        CHECK(json_line(p, to, names, 2, found, NULL) && json_line(found[1].from, found[1].to, inner, 1, near, NULL),
              "no JSON: %.*s", (int)(to - p), p);
        str_printf(&ids, "%ld:%ld ", strtol(found[0].from, NULL, 10),
                   near[0].from ? strtol(near[0].from, NULL, 10) : 1);
    }
    return ids;
}

static void near_test_lines(const char *name, const char *spec, uint64_t seed) {
    // "A1 a2 b3": letter: the family; a capital is the original, a small one an edited copy that is shorter or longer
    Str out, text;
    Error err;
    memset(&out, 0, sizeof out);
    memset(&text, 0, sizeof text);
    for (const char *p = spec; *p;) {
        char *end;
        uint64_t family = seed + (uint64_t)(*p | 32);
        long id = strtol(p + 1, &end, 10);
        NearTest t = near_test_document(&family, 200 + (int)(id % 3));
        t.words[id % 200] = (uint32_t)id;
        near_test_text(&text, &t);
        str_printf(&out, "{\"text\": \"%s\", \"id\": %ld, \"date\": \"20%02ld-01-01\"}\n", text.data, id, 99 - id);
        p = *end ? end + 1 : end;
    }
    CHECK(file_write_quickly(test_temp(name).text, out.data, out.size, &err), "%s", err.text);
    free(out.data);
    free(text.data);
}

// Which stays, and for how many; again; and together with others that were cleaned apart.
static void test_near_stays(void) {
    static const char *const expected[] = {"1:3 2:1 3:2 ", "2:1 5:3 7:2 ", "2:1 6:3 7:2 "};
    CorpusStats stats;
    near_test_lines("near.jsonl", "a1 b2 c3 a5 a6 c7", 1);
    near_test_lines("more.jsonl", "c11 d12 c13", 1);
    for (int keep = 0; keep < 3; keep++) {
        Str lines = near_test_run(test_temp("near.jsonl").text, path_of("near%d", keep).text, keep, &stats),
            ids = near_test_ids(&lines);
        CHECK(strcmp(ids.data, expected[keep]) == 0, "keep %d: %s, expected %s", keep, ids.data, expected[keep]);
        CHECK(stats.all.kept == 3 && stats.all.dropped[CORPUS_NEAR_TWICE] == 3 && stats.all.read == 6,
              "%lld kept, %lld dropped", (long long)stats.all.kept, (long long)stats.all.dropped[CORPUS_NEAR_TWICE]);
        Str again =
            near_test_run(test_temp(path_of("near%d/corpus.jsonl", keep).text).text, "near_again", keep, &stats);
        CHECK(again.size == lines.size && memcmp(again.data, lines.data, lines.size) == 0, "again: %s", again.data);
        free(lines.data);
        free(ids.data);
        free(again.data);
    }
    Str more = near_test_run(test_temp("more.jsonl").text, "near_more", 0, &stats),
        both = near_test_run(path_of("%s,%s", test_temp("near0/corpus.jsonl").text,
                                     test_temp("near_more/corpus.jsonl").text)
                                 .text,
                             "near_both", 0, &stats),
        ids = near_test_ids(&both);
    CHECK(strcmp(ids.data, "1:3 2:1 3:4 12:1 ") == 0, "together: %s", ids.data);
    free(more.data);
    free(both.data);
    free(ids.data);
}

// Families of planted copies between documents that nothing is like, through the verb: nothing else may go, and of the
// copies as many as the curve says. One thread or three, the same bytes.
static void test_near_corpus(void) {
    enum { ALONE = 1500, PAIRS = 500 };
    uint64_t x = 5;
    Str out, text;
    Error err;
    CorpusStats stats;
    double expected = 0, variance = 0;
    memset(&out, 0, sizeof out);
    memset(&text, 0, sizeof text);
    for (int i = 0; i < ALONE + PAIRS; i++) {
        NearTest t = near_test_document(&x, 80), copy = near_test_edited(&t, 0.03, &x);
        double s = near_test_jaccard(&t, &copy), p = 1 - pow(1 - pow(s, NEAR_ROWS), NEAR_BANDS);
        near_test_text(&text, &t);
        str_printf(&out, "{\"text\": \"%s\", \"id\": %d}\n", text.data, i);
        if (i >= PAIRS) continue;
        near_test_text(&text, &copy);
        str_printf(&out, "{\"text\": \"%s\", \"id\": %d}\n", text.data, 10000 + i);
        expected += s < 1 ? p : 0; // an exact copy is not counted as a near one
        variance += p * (1 - p);
    }
    CHECK(file_write_quickly(test_temp("near.jsonl").text, out.data, out.size, &err), "%s", err.text);
#ifdef _OPENMP
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
#endif
    Str one = near_test_run(test_temp("near.jsonl").text, "near_one", 0, &stats), ids = near_test_ids(&one);
    double found = (double)stats.all.dropped[CORPUS_NEAR_TWICE];
    CHECK(fabs(found - expected) <= 4.5 * sqrt(variance) + 1, "%.0f near duplicates of %d, expected %.1f +- %.1f",
          found, PAIRS, expected, sqrt(variance));
    int originals = 0;
    for (const char *p = ids.data; *p; p = strchr(p, ' ') + 1) originals += strtol(p, NULL, 10) < 10000;
    CHECK(originals == ALONE + PAIRS, "%d of %d that are like nothing before them stay", originals, ALONE + PAIRS);
#ifdef _OPENMP
    omp_set_num_threads(3);
#endif
    Str three = near_test_run(test_temp("near.jsonl").text, "near_three", 0, &stats);
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
    CHECK(one.size == three.size && memcmp(one.data, three.data, one.size) == 0, "three threads: %zu bytes, one: %zu",
          three.size, one.size);
    free(one.data);
    free(three.data);
    free(ids.data);
    free(out.data);
    free(text.data);
}

// Members that forbid mining, as HPLT and the W3C's protocol have them. Without the step all stay.
static void test_near_opt_out(void) {
    static const char *const lines =
        "{\"text\": \"eins\", \"id\": 1, \"robotstxt\": \"allowed\"}\n{\"text\": \"zwei\", \"id\": 2, \"robotstxt\": "
        "\"disallowed\"}\n"
        "{\"text\": \"drei\", \"id\": 3, \"tdm-reservation\": 1}\n{\"text\": \"vier\", \"id\": 4, \"tdm-reservation\": "
        "\"0\"}\n"
        "{\"text\": \"funf\", \"id\": 5, \"tdm_reservation\": \"1\"}\n{\"text\": \"sechs\", \"id\": 6, "
        "\"X-Robots-Tag\": \"noarchive, NoAI\"}\n"
        "{\"text\": \"sieben\", \"id\": 7, \"x-robots-tag\": \"noindex\"}\n{\"text\": \"acht\", \"id\": 8, "
        "\"tdm_reservation\": true}\n"
        "{\"text\": \"neun\", \"id\": 9, \"meta\": {\"robotstxt\": \"disallowed\"}, \"tdm-reservation\": null}\n";
    CorpusStats stats;
    Error err;
    CHECK(file_write_quickly(test_temp("near.jsonl").text, lines, strlen(lines), &err), "%s", err.text);
    for (int look = 0; look < 2; look++) {
        Str out = near_test_run(test_temp("near.jsonl").text, "near_out", look ? NEAR_TEST_OPT_OUT : 0, &stats),
            ids = near_test_ids(&out);
        const char *expected = look ? "1:1 4:1 7:1 9:1 " : "1:1 2:1 3:1 4:1 5:1 6:1 7:1 8:1 9:1 ";
        CHECK(strcmp(ids.data, expected) == 0 && stats.all.dropped[CORPUS_OPTED_OUT] == (look ? 5 : 0), "look %d: %s",
              look, ids.data);
        free(out.data);
        free(ids.data);
    }
}

static void test_near(void) {
    NearText t;
    memset(&t, 0, sizeof t);
    test_near_words(&t);
    test_near_curve(&t);
    near_text_free(&t);
    test_near_clusters(false, false);
    test_near_clusters(true, true);
    test_near_age();
    test_near_stays();
    test_near_opt_out();
    test_near_corpus();
}

#endif
