/*
contamination_test.h: overlap of documents with evaluation sets against a search of every run of words in every text,
what words are, and that dropping does what counting says.
*/
#ifndef CONTAMINATION_TEST_H
#define CONTAMINATION_TEST_H

#include "../../llmc/corpus/corpus.h"
#include "files_test.h"
#include "check.h"

// Whether n words of `item` in a row stand in `text`; both are words with one blank before each.
static bool contamination_test_overlap(const char *item, const char *text, int n) {
    for (const char *p = item; *p; p = strchr(p + 1, ' ') ? strchr(p + 1, ' ') : "") {
        const char *end = p;
        int words = 0;
        while (*end && words < n) end += 1 + strcspn(end + 1, " "), words++;
        if (words < n) return false;
        Path run = path_of("%.*s ", (int)(end - p), p);
        if (strstr(text, run.text)) return true;
    }
    return false;
}

static int contamination_test_count(const char *text) {
    int n = 0;
    for (; *text; text++) n += *text == ' ';
    return n;
}

// Few different words, so that runs of many of them come again by chance; pieces of items stand in documents.
static void test_contamination_found(void) {
    enum { ITEMS = 120, DOCUMENTS = 400 };
    uint64_t x = 3;
    Error err;
    Contamination set;
    ContaminationScan scan;
    Str file, text, *items = (Str *)mem_alloc(ITEMS * sizeof(Str));
    int wrong = 0, found = 0, short_items = 0;
    memset(&file, 0, sizeof file);
    memset(&text, 0, sizeof text);
    memset(&scan, 0, sizeof scan);
    for (int i = 0; i < ITEMS; i++) {
        int words = i % 3 ? 5 + i % 20 : 30;
        for (int k = 0; k < words; k++)
            str_printf(&items[i], " w%d", (int)((x = x * 6364136223846793005u + 1442695040888963407u) >> 60));
        str_printf(&file, "{\"text\": \"%s\"}\n", items[i].data + 1);
        short_items += words < 8;
    }
    CHECK(file_write_quickly(test_temp("items.jsonl").text, file.data, file.size, &err), "%s", err.text);
    CHECK(contamination_open(&set, test_temp("items.jsonl").text, &err), "%s", err.text);
    CHECK(set.files[0].items == ITEMS && set.files[0].too_short == short_items, "%lld items, %lld short",
          (long long)set.files[0].items, (long long)set.files[0].too_short);
    for (int i = 0; i < DOCUMENTS; i++) {
        text.size = 0;
        for (int k = 0; k < 60 + i % 50; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            if (x >> 58 == 5) { // a piece of an item
                const Str *from = &items[(x >> 20) % ITEMS];
                const char *p = from->data;
                for (unsigned skip = (x >> 40) % 8; skip > 0 && strchr(p + 1, ' '); skip--) p = strchr(p + 1, ' ');
                str_add(&text, p, (size_t)int64_min((int64_t)strlen(p), 20 + (int64_t)((x >> 30) % 60)));
            } else str_printf(&text, " w%d", (int)(x >> 60));
        }
        str_puts(&text, " ");
        contamination_find(&set, &scan, text.data, text.size);
        found += scan.count > 0;
        for (uint32_t k = 0, at = 0; k < ITEMS; k++) {
            int words = contamination_test_count(items[k].data), n = words < 13 ? words : 13;
            bool is = n >= 8 && contamination_test_overlap(items[k].data, text.data, n),
                 said = at < scan.count && scan.items[at] == k;
            at += said;
            wrong += is != said;
        }
    }
    CHECK(wrong == 0 && found > 50 && found < DOCUMENTS, "%d wrong answers, %d documents with some", wrong, found);
    contamination_close(&set);
    contamination_scan_free(&scan);
    for (int i = 0; i < ITEMS; i++) free(items[i].data);
    free(items);
    free(file.data);
    free(text.data);
}

// Forms of items, each in a text of its own writing, and what is none of them.
static void test_contamination_forms(void) {
    static const char *const tasks =
        "{\"context\": \"Die Hauptstadt der kleinen Republik im Süden liegt an\", \"choices\": [\"einem See aus lauter "
        "grünem Glas\", \"einem Fluss "
        "ohne jeden Namen darin\"], \"answer\": 1}\n"
        "{\"good\": \"Der Hund des alten Mannes bellt laut\", \"bad\": \"Der Hund des alten Mannes bellen laut\"}\n"
        "{\"context\": \"eins zwei drei vier fünf sechs\", \"continuation\": \" sieben acht neun zehn elf zwölf "
        "dreizehn\"}\n"
        "\n"
        "{\"text\": \"zu kurz\", \"group\": \"a\"}\n";
    static const struct {
        const char *text;
        int line; // 0: none
    } cases[] = {{"So: DIE HAUPTSTADT, der kleinen Republik (im Süden) liegt\nan einem Fluss ohne jeden...", 1},
                 {"Die Hauptstadt der kleinen Republik im Süden liegt an einem See aus",
                  0}, // 12 words, then a wrong choice
                 {"an einem Fluss ohne jeden Namen darin", 0},
                 {"Eins, zwei, drei, vier, fünf, sechs, sie-ben, acht, neun, zehn, elf, zwölf; drei-zehn", 3},
                 {"eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf", 0},
                 {"zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn", 0},
                 {"Hund des alten Mannes bellt laut und", 0},
                 {"zu kurz", 0},
                 {"", 0}};
    Error err;
    Contamination set;
    ContaminationScan scan;
    memset(&scan, 0, sizeof scan);
    CHECK(file_write_quickly(test_temp("tasks.jsonl").text, tasks, strlen(tasks), &err) &&
              contamination_open(&set, test_temp("tasks.jsonl").text, &err),
          "%s", err.text);
    CHECK(set.files[0].items == 4 && set.files[0].too_short == 2, "%lld items, %lld short",
          (long long)set.files[0].items, (long long)set.files[0].too_short);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        contamination_find(&set, &scan, cases[i].text, strlen(cases[i].text));
        int line = scan.count == 1 ? (int)set.items[scan.items[0]].place : (int)-scan.count;
        CHECK(line == cases[i].line, "case %zu: line %d, expected %d", i, line, cases[i].line);
    }
    contamination_close(&set);
    const char *plain =
        "Der erste Absatz hat immerhin acht ganze Wörter.\n\n\nDer zweite hat noch eins mehr, das ist es.\n";
    CHECK(file_write_quickly(test_temp("plain.txt").text, plain, strlen(plain), &err) &&
              contamination_open(&set, test_temp("plain.txt").text, &err),
          "%s", err.text);
    const char *text =
        "Mit der erste Absatz hat immerhin acht ganze Wörter und der zweite hat noch eins mehr das ist es";
    CHECK(contamination_find(&set, &scan, text, strlen(text)) && scan.count == 2, "%zu paragraphs", scan.count);
    contamination_close(&set);
    static const char *const bad[][2] = {{"{\"frage\": \"a\"}\n", "bad.jsonl:1 has none of"},
                                         {"{\"text\": \"a\"}\n{\"text\": \n", "bad.jsonl:2: not JSON"},
                                         {"  \n", "holds nothing"},
                                         {"\xff\xfe", "is not UTF-8"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(file_write_quickly(test_temp("bad.jsonl").text, bad[i][0], strlen(bad[i][0]), &err), "%s", err.text);
        CHECK_ERROR(contamination_open(&set, test_temp("bad.jsonl").text, &err), bad[i][1]);
    }
    CHECK_ERROR(contamination_open(&set, test_temp("nowhere").text, &err), "no such file");
    contamination_scan_free(&scan);
}

static void test_contamination(void) {
    test_contamination_found();
    test_contamination_forms();
}

#endif
