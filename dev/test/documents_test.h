/*
documents_test.h: the one reader of text: JSON lines against json.h, every form that documents come in, damage of each,
and that neither threads nor packing nor the size of what is read at a time change what comes out.
*/
#ifndef DOCUMENTS_TEST_H
#define DOCUMENTS_TEST_H

#include "../../llmc/text/doc_inputs.h"
#include "check.h"
#include "data_test.h"

// ---------------------------------------------------------------- JSON lines

// The same answer as json.h: both refuse, or both accept and find the same text.
static void json_line_test_one(const char *line, size_t n) {
    JsonDoc doc;
    JsonSpan found[1];
    const char *names[1] = {"text"};
    char *exact = (char *)malloc(n ? n : 1); // so that a sanitizer sees a look behind the end
    memcpy(exact, line, n);
    const Json *root = json_parse(&doc, exact, n, NULL);
    bool object = json_is(root, JSON_OBJECT), mine = json_line(exact, exact + n, names, 1, found, NULL);
    CHECK(mine == object, "%.*s is %s", (int)int64_min((int64_t)n, 300), line, mine ? "accepted" : "refused");
    const Json *text = mine && object ? json_get(root, "text") : NULL;
    if (mine && object) CHECK((found[0].from != NULL) == (text != NULL), "%.*s: the member", (int)n, line);
    if (text && found[0].from && text->type == JSON_STRING) {
        Str s;
        memset(&s, 0, sizeof s);
        str_puts(&s, "");
        json_span_string(&s, &found[0]);
        CHECK(s.size == text->size && memcmp(s.data, text->text, s.size) == 0, "%.*s: \"%s\"", (int)n, line, s.data);
        free(s.data);
    }
    if (root) json_free(&doc);
    free(exact);
}

static void test_json_line(void) {
    static const char *const lines[] =
        {"{}", "{ }", " {\"text\":\"a\"}\r", "{\"text\": \"a\", \"text\": \"b\"}",
         "{\"te\\u0078t\": \"a\\n\\\"\\\\\\/\"}", "{\"text\": \"\\u00e4\\ud83d\\ude00 \xc3\xa4\"}",
         "{\"text\": [1, -2.5e+3, {\"text\": \"x\"}], \"a\": null}",
         ("{\"text\": \"eine l\xc3\xa4ngere Zeile, die acht Bytes und mehr am St\xc3\xbc"
          "ck hat \\t und weiter geht\"}"),
         "{\"a\":[],\"b\":{},\"c\":[[]],\"d\":[{}],\"e\":true,\"f\":false,\"text\":\"\"}",
         // what is wrong
         "", "[]", "1", "{", "}", "{\"text\"}", "{\"text\":}", "{\"text\":\"a\",}", "{,}", "{\"a\":1 \"b\":2}",
         "{\"a\":1}}", "{\"a\":1} x", "{\"text\":\"a}", "{\"text\":\"a\\\"}", "{\"text\":\"\\x\"}",
         "{\"text\":\"\\u12g4\"}", "{\"text\":\"\\u12\"}", "{\"text\":\"tab\there\"}", "{\"text\":\"\xff\"}",
         "{\"a\":01}", "{\"a\":-}", "{\"a\":1.}", "{\"a\":1e}", "{\"a\":.5}", "{\"a\":+1}", "{\"a\":tru}", "{\"a\":nul",
         "{\"a\":[1,]}", "{\"a\":[,1]}", "{\"a\":[1}", "{\"a\":{\"b\":1]}", "{a:1}", "{'a':1}", "{\"a\":NaN}",
         "{\"\xed\xa0\x80\":1}"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) json_line_test_one(lines[i], strlen(lines[i]));
    // Every prefix, and every byte changed: thousands of lines that nearly are JSON.
    for (size_t i = 0; i < 9; i++) {
        char line[300];
        size_t n = strlen(lines[i]);
        for (size_t k = 0; k < n; k++) {
            json_line_test_one(lines[i], k);
            for (const char *byte = "\"\\{}[],:0e-. \x01\x80u"; *byte; byte++) {
                memcpy(line, lines[i], n);
                line[k] = *byte;
                // json.h refuses halves of surrogates, which are read as U+FFFD here.
                if (!strstr(lines[i], "\\ud83d")) json_line_test_one(line, n);
            }
        }
    }
    for (int levels = JSON_MAX_DEPTH - 2; levels < JSON_MAX_DEPTH + 2; levels++) {
        Str s;
        memset(&s, 0, sizeof s);
        str_puts(&s, "{\"a\":");
        for (int i = 0; i < levels; i++) str_puts(&s, i % 2 ? "{\"b\":" : "[");
        str_puts(&s, "1");
        for (int i = levels; i-- > 0;) str_puts(&s, i % 2 ? "}" : "]");
        str_puts(&s, "}");
        json_line_test_one(s.data, s.size);
        free(s.data);
    }
    JsonSpan found[1];
    const char *names[1] = {"t"}, *half = "{\"t\": \"a\\ud800b\\udc00c\\ud800\\u0041\"}";
    Str s;
    memset(&s, 0, sizeof s);
    CHECK(json_line(half, half + strlen(half), names, 1, found, NULL), "halves of a surrogate pair");
    json_span_string(&s, &found[0]);
    CHECK(strcmp(s.data, "a\xef\xbf\xbd"
                         "b\xef\xbf\xbd"
                         "c\xef\xbf\xbd"
                         "A") == 0,
          "halves became \"%s\"", s.data);
    free(s.data);
}

// ---------------------------------------------------------------- forms

// "NAME@OFFSET=TEXT|" of all documents in order, with META behind the text where there is some; then "!DAMAGE|".
static Str documents_test_read(const char *list, const DocSettings *settings, Error *err) {
    Str out;
    DocInputs in;
    DocBatch *batch;
    memset(&out, 0, sizeof out);
    str_puts(&out, "");
    err->text[0] = 0;
    if (!doc_inputs_open(&in, list, settings, err)) return out;
    while (doc_inputs_next(&in, &batch, err) && batch) {
        for (size_t i = 0; i < batch->count; i++) {
            const Document *d = &batch->docs[i];
            const char *slash = strrchr(d->source, '/');
            str_printf(&out, "%s@%lld=", slash ? slash + 1 : d->source, (long long)d->offset);
            str_add(&out, d->text, d->n);
            str_add(&out, d->meta, d->meta_size);
            str_puts(&out, "|");
        }
        doc_inputs_release(&in, batch);
    }
    for (int i = 0; i < in.damage.named.count; i++) {
        const char *named = in.damage.named.items[i], *colon = strstr(named, ": "), *slash = colon;
        while (slash && slash > named && slash[-1] != '/') slash--;
        str_printf(&out, "!%s|", slash ? slash : named);
    }
    doc_inputs_close(&in);
    return out;
}

static DocSettings documents_test_settings(DocSplit split) {
    DocSettings s;
    memset(&s, 0, sizeof s);
    s.split = split;
    s.field = "text";
    return s;
}

// A member of a tar: its header, its bytes, zeros up to a multiple of 512.
static void tar_test_add(Str *tar, const char *name, char type, const char *bytes, size_t n) {
    char header[512];
    unsigned sum = 0;
    memset(header, 0, sizeof header);
    snprintf(header, 100, "%s", name);
    snprintf(header + 100, 8, "0000644");
    char octal[32];
    snprintf(octal, sizeof octal, "%011llo", (unsigned long long)n);
    memcpy(header + 124, octal, 12);
    header[156] = type;
    memcpy(header + 257, "ustar\00000", 8);
    memset(header + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    str_add(tar, header, 512);
    str_add(tar, bytes, n);
    memset(header, 0, 512);
    str_add(tar, header, (512 - n % 512) % 512);
}

static void documents_test_expect(const char *name, const char *bytes, size_t n, const DocSettings *settings,
                                  const char *expected) {
    Error err;
    Path path = test_temp(name);
    CHECK(file_write_quickly(path.text, bytes, n, &err), "%s", err.text);
    Str got = documents_test_read(path.text, settings, &err);
    CHECK(!err.text[0] && strcmp(got.data, expected) == 0, "%s: \"%s\" %s, expected \"%s\"", name, got.data, err.text,
          expected);
    free(got.data);
}

static void test_documents_lines(void) {
    DocSettings s = documents_test_settings(DOC_BLANK);
    Error err;
#define LINES(text) text, sizeof text - 1
    documents_test_expect("l.jsonl",
                          LINES("{\"text\": \"eins\"}\n\n{\"text\": \"\\n zwei\\n\\nzwei \"}\r\n{\"text\": \"\"}\n"
                                "{\"text\": \"drei\"}"),
                          &s, "l.jsonl@0=eins|l.jsonl@18= zwei\n\nzwei|l.jsonl@61=drei|");
    documents_test_expect(
        "l.jsonl", LINES("{\"text\": \"eins\"}\n{\"text\": kaputt}\n{\"text\": 5}\n{\"txt\": \"a\"}\n{\"text\": \"zw"),
        &s,
        "l.jsonl@0=eins|!l.jsonl: line 2 (byte 17): not JSON: column 10: expected a value, found "
        "'k'|!l.jsonl: line 3 (byte 34): \"text\" is no string|!l.jsonl: line 4 (byte 46): \"text\" is "
        "not there|!l.jsonl: line 5 (byte 59): not JSON: column 13: expected '\"' at the end of a "
        "string, found the end of the line|");
    // What a cleaned document was made from counts, not where it lies now.
    documents_test_expect("l.jsonl",
                          LINES("{\"text\": \"a\", \"origin\": {\"source\": \"x/q.txt\", \"offset\": 77, \"sha256\": "
                                "\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"}}\n{\"text\": "
                                "\"b\", \"origin\": \"web\"}\n"),
                          &s, "q.txt@77=a|l.jsonl@139=b|");
    // Cirrus: pairs of lines.
    documents_test_expect(
        "c.json",
        LINES("{\"index\":{\"_type\":\"_doc\",\"_id\":\"1\"}}\n{\"title\":\"A\",\"text\":\"Erste Seite\"}\n"
              "{\"index\":{\"_type\":\"_doc\",\"_id\":\"2\"}}\n{\"title\":\"B\",\"text\":\"Zweite\"}\n"),
        &s, "c.json@37=Erste Seite|c.json@109=Zweite|");
    str_list_add(&s.keep, "url");
    str_list_add(&s.keep, "n");
    s.field = "content";
    documents_test_expect("k.jsonl",
                          LINES("{\"n\": [1,  2], \"content\": \"a\", \"url\": \"h\\/\"}\n{\"content\": \"b\"}\n"), &s,
                          "k.jsonl@0=a, \"url\": \"h\\/\", \"n\": [1,  2]|k.jsonl@45=b|");
    Path path = test_temp("k.jsonl");
    s.field = "text";
    Str got = documents_test_read(path.text, &s, &err);
    CHECK(strstr(err.text, "has in line 1 no \"text\", only n, content, url; name"), "the error is \"%s\"", err.text);
    free(got.data);
    str_list_free(&s.keep);
    // Mostly JSON is JSON, and a text with a line of JSON is text.
    documents_test_expect("m.txt", LINES("{\"text\": \"eins\"}\n\nund dann Text\n"), &s,
                          "m.txt@0={\"text\": \"eins\"}|m.txt@18=und dann Text|");
    s.strict = true;
    CHECK(file_write_quickly(path.text, LINES("{\"text\": \"a\"}\n{\"text\": \"b\"}\n{kaputt\n"), &err), "%s",
          err.text);
    got = documents_test_read(path.text, &s, &err);
    CHECK(strstr(err.text, "k.jsonl: line 3 (byte 28): not JSON") && strstr(err.text, "--strict=on"), "strict: \"%s\"",
          err.text);
    free(got.data);
}

static void test_documents_warc(void) {
    DocSettings s = documents_test_settings(DOC_BLANK);
    Error err;
    const char wet[] =
        "WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 5\r\n\r\nhallo\r\n\r\n"
        "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.de/\r\nContent-Type: text/plain\r\n"
        "Content-Length: 13\r\n\r\nEins\n\nEins.\n\n\r\n\r\n"
        "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: 500\r\n\r\nKurz\r\n\r\n"
        "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nDrei\r\n\r\n";
    str_list_add(&s.keep, "warc-target-uri");
    documents_test_expect("a.warc.wet", wet, sizeof wet - 1, &s,
                          "a.warc.wet@61=Eins\n\nEins., \"warc-target-uri\": \"http://a.de/\"|!a.warc.wet: byte 190: "
                          "the "
                          "file ends within a record of 500 bytes|");
    // A length that is wrong, but within the file: the record is lost, the next one is found.
    char *shorter = strstr((char *)memcpy(malloc(sizeof wet), wet, sizeof wet) + 200, "500");
    memcpy(shorter, "009", 3);
    documents_test_expect("b.warc.wet", shorter - (strstr(wet + 200, "500") - wet), sizeof wet - 1, &s,
                          "b.warc.wet@61=Eins\n\nEins., \"warc-target-uri\": \"http://a.de/\"|b.warc.wet@280=Drei|"
                          "!b.warc.wet: byte 190: a record of 9 bytes does not end where its Content-Length says|");
    free(shorter - (strstr(wet + 200, "500") - wet));
    str_list_free(&s.keep);
    memset(&s.keep, 0, sizeof s.keep);
    const char html[] =
        "WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n";
    Path path = test_temp("c.warc");
    CHECK(file_write_quickly(path.text, html, sizeof html - 1, &err), "%s", err.text);
    Str got = documents_test_read(path.text, &s, &err);
    CHECK(strstr(err.text, "HTML") && strstr(err.text, "WET"), "a WARC of pages: \"%s\"", err.text);
    free(got.data);
}

static void test_documents_tar(void) {
    DocSettings s = documents_test_settings(DOC_BLANK);
    Str tar;
    char name[200];
    memset(&tar, 0, sizeof tar);
    memset(name, 'n', 150);
    memcpy(name + 150, ".txt", 5);
    tar_test_add(&tar, "d/", '5', "", 0);
    tar_test_add(&tar, "d/a.txt", '0', "Erster\n\nText\n", 13);
    tar_test_add(&tar, "d/._a.txt", '0', "Mac", 3);
    tar_test_add(&tar, "x", 'L', name, strlen(name) + 1);
    tar_test_add(&tar, "d/short", '0', "\x89PNG\r\n\x1a\n", 8);
    tar_test_add(&tar, "d/b.jsonl", '0', "{\"text\": \"b1\"}\n{\"text\": \"b2\"}\n", 30);
    tar_test_add(&tar, "de-words.txt", '0', "1\tder\t20\n", 9);
    tar_test_add(&tar, "de-sentences.txt", '0', "1\tEin Satz.\n2\tNoch einer.\nkein Satz\n", 36);
    tar_test_add(&tar, "p", 'x', "23 path=d/from-pax.txt\n", 23);
    tar_test_add(&tar, "d/short2", '0', "\x1f\x8b\x08\0\0\0\0\0", 8);
    tar_test_add(&tar, "d/z.txt", '0', "Ende\n", 5);
    size_t whole = tar.size;
    char zeros[1024] = {0};
    str_add(&tar, zeros, sizeof zeros);
    char expected[2000];
    snprintf(
        expected, sizeof expected,
        "t.tar@1024=Erster\n\nText|t.tar@5120=b1|t.tar@5135=b2|t.tar@7168=Ein Satz.|t.tar@7180=Noch einer.|"
        "t.tar@10240=Ende|!t.tar: %s: it is not plain text but a PNG picture|!t.tar: de-sentences.txt: line 3 (byte "
        "7194): expected a number, a tab and a sentence|!t.tar: d/from-pax.txt: it is not plain text but compressed "
        "with gzip: unpack it with gunzip|",
        name);
    documents_test_expect("t.tar", tar.data, tar.size, &s, expected);
    // A broken header costs its member; a tar that ends early the last one.
    tar.data[3584 + 1024 + 20] ^= 1; // in the header of d/b.jsonl
    char *cut = strstr(expected, "t.tar@5120"), *after = strstr(expected, "t.tar@7168");
    memmove(cut, after, strlen(after) + 1);
    Error err;
    Path path = test_temp("t.tar");
    CHECK(file_write_quickly(path.text, tar.data, whole - 512, &err), "%s", err.text);
    Str got = documents_test_read(path.text, &s, &err);
    CHECK(strstr(got.data, "!t.tar: byte 4608: expected the header of a tar's member|") &&
              strstr(got.data, "t.tar@7168=Ein Satz.|") && !strstr(got.data, "b1"),
          "a broken header: \"%s\"", got.data);
    CHECK(strstr(got.data, "the tar ends within d/z.txt|") && !strstr(got.data, "Ende"), "a short tar: \"%s\"",
          got.data);
    free(got.data);
    free(tar.data);
}

static void test_documents_folder(void) {
    DocSettings s = documents_test_settings(DOC_BLANK);
    Error err;
    CHECK(path_make_folder(test_temp("folder/b/c").text, &err) &&
              file_write_quickly(test_temp("folder/z.txt").text, "Zuletzt\n\nund noch\n", 18, &err) &&
              file_write_quickly(test_temp("folder/b/c/x").text, "Tief", 4, &err) &&
              file_write_quickly(test_temp("folder/b/a.txt").text, "Zuerst", 6, &err) &&
              file_write_quickly(test_temp("folder/b/.hidden").text, "Nie", 3, &err) &&
              file_write_quickly(test_temp("folder/b/bild").text, "\x89PNG\r\n\x1a\n", 8, &err),
          "%s", err.text);
    // What tells of texts is none; another program's file of that name is.
    static const char *const manifests[][2] = {{"manifest.json", "{\n  \"corpus\": \"corpus.jsonl.zst\"}"},
                                               {"s_manifest.json", "{\n  \"shards\": {\"train\": 1}, \"x\": 2}"},
                                               {"t.manifest.json", "{\n  \"tokenizer\": \"tokenizer.json\"}"},
                                               {"b/manifest.tsv", "source\tname\tlicence\n"},
                                               {"b/c/manifest.json", "Manifest der Bienen im Mai"}};
    for (size_t i = 0; i < sizeof manifests / sizeof *manifests; i++)
        CHECK(file_write_quickly(test_temp(path_of("folder/%s", manifests[i][0]).text).text, manifests[i][1],
                                 strlen(manifests[i][1]), &err),
              "%s", err.text);
    Path folder = test_temp("folder");
    Str got = documents_test_read(folder.text, &s, &err);
    CHECK(!err.text[0] && strcmp(got.data, "a.txt@0=Zuerst|manifest.json@0=Manifest der Bienen im Mai|x@0=Tief|"
                                           "z.txt@0=Zuletzt\n\nund noch|!bild: it is not plain text "
                                           "but a PNG picture|") == 0,
          "a folder: \"%s\" %s", got.data, err.text);
    free(got.data);
    CHECK(symlink("..", test_temp("folder/b/up").text) == 0, "symlink");
    got = documents_test_read(folder.text, &s, &err);
    CHECK(strstr(err.text, "is a link to a folder that it stands in"), "a circle: \"%s\"", err.text);
    free(got.data);
    CHECK(path_make_folder(test_temp("empty").text, &err), "%s", err.text);
    got = documents_test_read(test_temp("empty").text, &s, &err);
    CHECK(strstr(err.text, "no file in"), "an empty folder: \"%s\"", err.text);
    free(got.data);
}

// ---------------------------------------------------------------- packed, and in any number of pieces

// Text of several windows with documents of all lengths, lines of blanks at the borders, and one of 3 MB.
static void documents_test_text(Str *s) {
    uint64_t x = 7;
    for (int i = 0; s->size < 5 * WINDOW_READ; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        int words = i == 900 ? 400000 : (int)(x >> 60) * (int)(x >> 59 & 15);
        for (int k = 0; k <= words; k++) str_printf(s, "Wort%d%s", k, k % 12 == 11 ? "\n" : " ");
        str_puts(s, i % 7 == 0 ? "\n \t\n\r\n  " : i % 5 == 0 ? "\n\f\n" : "\n\n");
    }
}

static void test_documents_packed(void) {
    static const char *const tools[] = {"gzip", "bzip2", "xz", "zstd"};
    Error err;
    Str text, whole;
    memset(&text, 0, sizeof text);
    documents_test_text(&text);
    Path plain = test_temp("plain/t.txt");
    CHECK(path_make_folder(test_temp("plain").text, &err) && path_make_folder(test_temp("packed").text, &err) &&
              file_write_quickly(plain.text, text.data, text.size, &err),
          "%s", err.text);
    for (size_t i = 0; i < 4; i++) {
        Path packed = test_temp("packed/t.txt"),
             command = path_of("%s -c <%.1000s >%.1000s", tools[i], plain.text, packed.text);
        if (system(path_of("command -v %s >/dev/null", tools[i]).text) != 0) {
            skip_test(path_of("documents packed by %s", tools[i]).text, "the program is not there");
            continue;
        }
        CHECK(system(command.text) == 0, "%s", command.text);
        for (int split = DOC_BLANK; split <= DOC_FILE; split++) {
            DocSettings s = documents_test_settings((DocSplit)split);
            whole = documents_test_read(plain.text, &s, &err);
            CHECK(!err.text[0] && whole.size > text.size / 2, "%s", err.text);
            Str got = documents_test_read(packed.text, &s, &err);
            CHECK(got.size == whole.size && memcmp(got.data, whole.data, got.size) == 0,
                  "%s, split %d: %zu bytes, expected %zu %s", tools[i], split, got.size, whole.size, err.text);
            free(got.data);
            // Cut off: what is whole is the same, and the damage is named. gzip gives out the most.
            Str bytes;
            memset(&bytes, 0, sizeof bytes);
            CHECK(file_read(&bytes, packed.text, (size_t)1 << 30, &err) &&
                      file_write_quickly(test_temp("packed/cut/t.txt").text, "", 0, NULL) + 1,
                  "%s", err.text);
            CHECK(path_make_folder(test_temp("packed/cut").text, &err) &&
                      file_write_quickly(test_temp("packed/cut/t.txt").text, bytes.data, bytes.size * 3 / 4, &err),
                  "%s", err.text);
            got = documents_test_read(path_of("%.1000s/t.txt", test_temp("packed/cut").text).text, &s, &err);
            char *damage = strstr(got.data, "!t.txt: ");
            CHECK(damage && strstr(damage, tools[i]) && strstr(damage, "of the unpacked file"), "%s, cut: %.300s",
                  tools[i], damage ? damage : err.text);
            size_t kept = damage ? (size_t)(damage - got.data) : 0;
            CHECK(kept < whole.size && memcmp(got.data, whole.data, kept) == 0, "%s, cut: other documents", tools[i]);
            CHECK(split == DOC_FILE ? kept == 0 : kept > 0 || i == 1, "%s, cut: %zu bytes are kept", tools[i], kept);
            free(got.data);
            free(bytes.data);
            free(whole.data);
        }
    }
    // Many files at once, in their order, whatever each holds back.
    DocSettings s = documents_test_settings(DOC_BLANK);
    Str list, expected, one = documents_test_read(plain.text, &s, &err);
    memset(&list, 0, sizeof list);
    memset(&expected, 0, sizeof expected);
    for (int i = 0; i < 9; i++) {
        str_printf(&list, "%s%s", i ? "," : "", plain.text);
        str_add(&expected, one.data, one.size);
    }
    for (int i = 0; i < 3; i++) {
        Str got = documents_test_read(list.data, &s, &err);
        CHECK(got.size == expected.size && memcmp(got.data, expected.data, got.size) == 0,
              "nine files: %zu bytes of %zu", got.size, expected.size);
        free(got.data);
    }
    free(list.data);
    free(expected.data);
    free(one.data);
    free(text.data);
}

// ---------------------------------------------------------------- ids through to the shards

// Every document that a set lists is that text: its tokens, from its first to the next one's, over the ends of
// shards, are bytes with its SHA-256, which stand in its source at its offset. Returns how many; *parts: of them.
static int64_t shard_docs_test_read(const Tokenizer *tok, const char *prefix, int side, const Str *source,
                                    int64_t *parts) {
    Error err;
    Str text;
    StrList paths;
    ShardDocs docs[64];
    int64_t count = 0;
    memset(&text, 0, sizeof text);
    memset(&paths, 0, sizeof paths);
    *parts = 0;
    Path glob = test_temp(path_of("%s_%s_*.bin", prefix, shard_sides[side]).text);
    if (!path_expand(&paths, glob.text, &err)) return 0;
    ShardDoc open; // the document under way
    bool any = false;
    for (int i = 0; i < paths.count && i < 64; i++) {
        Shard s;
        memset(&s, 0, sizeof s);
        s.path = paths.items[i];
        Path list = path_of("%.*sdocs", (int)strlen(s.path) - 3, s.path);
        bool ok =
            file_map(&s.file, s.path, &err) && shard_check(&s, &err) && shard_docs_open(&docs[i], list.text, &err);
        CHECK(ok, "%s", err.text);
        if (!ok) return 0;
        const ShardDocsHeader *h = &docs[i].header;
        CHECK(h->set == s.header.set && h->set_index == (uint32_t)i && h->set_side == (uint32_t)side &&
                  h->tokens == s.header.tokens && h->tokens_sum == s.header.checksum,
              "%s is of another shard", list.text);
        int64_t next = 0;
        for (int64_t t = 0; t <= s.header.tokens; t++) {
            bool begins = next < h->documents && t < s.header.tokens && shard_docs_item(&docs[i], next).first == t;
            bool last = t == s.header.tokens && i + 1 == paths.count;
            if (any && (begins || last)) {
                Sha256 sum;
                uint8_t digest[32];
                sha256_init(&sum);
                sha256_update(&sum, text.data, text.size);
                sha256_final(digest, &sum);
                bool part = (open.flags & SHARD_DOC_PART) != 0;
                CHECK((memcmp(digest, open.sha256, 32) == 0) != part, "document %lld is another text: %.100s",
                      (long long)count, text.data);
                CHECK(part || (open.offset + (int64_t)text.size <= (int64_t)source->size &&
                               memcmp(source->data + open.offset, text.data, text.size) == 0),
                      "document %lld does not stand at byte %lld", (long long)count, (long long)open.offset);
                count++;
                *parts += part;
                text.size = 0;
            }
            if (begins) open = shard_docs_item(&docs[i], next++), any = true;
            if (begins) CHECK(str_ends_with(docs[i].names[open.source], "ids.txt"), "the source");
            if (t == s.header.tokens || (int32_t)shard_token(&s, t) == tok->eot) continue;
            int length;
            const uint8_t *token = tokenizer_bytes(tok, (int32_t)shard_token(&s, t), &length);
            str_add(&text, token, (size_t)length);
        }
        CHECK(next == h->documents, "%lld of %lld documents", (long long)next, (long long)h->documents);
        file_unmap(&s.file);
        shard_docs_close(&docs[i]);
    }
    free(text.data);
    str_list_free(&paths);
    return count;
}

static void test_shard_docs(const Tokenizer *tok) {
    Error err;
    Str text;
    TokenizeStats stats, again;
    int64_t parts;
    memset(&text, 0, sizeof text);
    for (int i = 0; text.size < 4 * TOKENIZE_CHUNK; i++) {
        str_printf(&text, "\n\nDokument %d%s", i, i % 3 ? "" : " mit einer zweiten Zeile\nund noch einer");
        for (int k = 0; i == 700 && k < 30000; k++) str_printf(&text, "\nlang %d", k);
    }
    Path in = test_temp("ids.txt");
    CHECK(file_write_quickly(in.text, text.data, text.size, &err) &&
              data_test_run(tok, in.text, "ids", 0.2, DOC_BLANK, 30000, &stats, &err),
          "%s", err.text);
    for (int side = 0; side < 2; side++) {
        int64_t count = shard_docs_test_read(tok, "ids", side, &text, &parts);
        CHECK(count == stats.documents[side] && count > 100 && parts == 0, "%lld documents are listed of %lld",
              (long long)count, (long long)stats.documents[side]);
    }
    // Where the first documents do not tell on which side which is, all are counted first: the same shards.
    static const double fractions[] = {0.2, 1e-9, 0.999999};
    for (int i = 0; i < 3; i++) {
        TokenizeJob job = data_test_job(tok, in.text, fractions[i], DOC_BLANK, 30000);
        memset(&stats, 0, sizeof stats);
        memset(&again, 0, sizeof again);
        bool ok = tokenize_files(&job, test_temp("once").text, &stats, &err);
        job.hold = 1;
        ok = ok && tokenize_files(&job, test_temp("twice").text, &again, &err);
        CHECK(ok, "%s", err.text);
        CHECK(stats.documents[0] == again.documents[0] && stats.documents[1] == again.documents[1] &&
                  stats.documents[0] > 0 && stats.documents[1] > 0,
              "fraction %g: %lld and %lld, or %lld and %lld", fractions[i], (long long)stats.documents[0],
              (long long)stats.documents[1], (long long)again.documents[0], (long long)again.documents[1]);
        for (int side = 0; side < 2; side++)
            for (int docs = 0; docs < 2; docs++) {
                char sums[2][65];
                for (int k = 0; k < 2; k++)
                    ok = ok && sha256_file(sums[k],
                                           test_temp(path_of("%s_%s_00000.%s", k ? "twice" : "once", shard_sides[side],
                                                             shard_ending(docs))
                                                         .text)
                                               .text,
                                           &err);
                CHECK(ok && strcmp(sums[0], sums[1]) == 0, "fraction %g: the shards differ %s", fractions[i], err.text);
            }
    }
    // One document that is cut in two.
    CHECK(file_write_quickly(in.text, "eins zwei\ndrei vier\nende\n", 25, &err) &&
              data_test_run(tok, in.text, "ids", 0.3, DOC_BLANK, 0, &stats, &err) && stats.tail,
          "%s", err.text);
    for (int side = 0; side < 2; side++)
        CHECK(shard_docs_test_read(tok, "ids", side, &text, &parts) == 1 && parts == 1, "the part of a document");
    free(text.data);
    // Damage of a list is found.
    Path list = test_temp("ids_train_00000.docs");
    Str bytes;
    ShardDocs d;
    memset(&bytes, 0, sizeof bytes);
    CHECK(file_read(&bytes, list.text, 1 << 20, &err), "%s", err.text);
    for (size_t i = 0; i < bytes.size; i++) {
        bytes.data[i] ^= 4;
        CHECK(file_write_quickly(list.text, bytes.data, bytes.size, &err), "%s", err.text);
        CHECK_ERROR(shard_docs_open(&d, list.text, &err), "ids_train_00000.docs");
        bytes.data[i] ^= 4;
    }
    CHECK(file_write_quickly(list.text, bytes.data, bytes.size - 1, &err), "%s", err.text);
    CHECK_ERROR(shard_docs_open(&d, list.text, &err), "damaged or not complete");
    free(bytes.data);
}

static void test_documents(void) {
    Tokenizer tok;
    Error err;
    test_json_line();
    test_documents_lines();
    test_documents_warc();
    test_documents_tar();
    test_documents_folder();
    test_documents_packed();
    if (data_test_tokenizer(&tok, &err)) {
        test_shard_docs(&tok);
        tokenizer_free(&tok);
    } else CHECK(false, "%s", err.text);
}

#endif
