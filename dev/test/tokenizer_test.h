/*
tokenizer_test.h: Unicode, split patterns, encoding, training, tokenizer.json.

  expected ids     from Hugging Face tokenizers (dev/test/fixtures/tokenizer, whose README.md says how)
  plain versions   of what is fast or clever here: UTF-8 by the table of the standard, merging by the
                   definition, with and without cache, short and long
  bad input        every change to a tokenizer.json that would change ids is refused by name
  folders          what the files beside a tokenizer.json say is obeyed, kept and written; where they disagree
*/
#ifndef TOKENIZER_TEST_H
#define TOKENIZER_TEST_H

#include "../../llmc/text/bpe.h"
#include "../../llmc/text/tokenizer_folder.h"
#include "check.h"

#define TOKENIZER_FIXTURES "dev/test/fixtures/tokenizer/"

// ---------------------------------------------------------------- texts

static uint32_t test_tokenizer_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

// Words put together from German syllables, with umlauts, capitals, numbers, punctuation and lines; the
// frequent syllables come first. The fixture trained.json was trained on test_tokenizer_text(200000).
static void test_tokenizer_text(Str *out, size_t size) {
    static const char *const syllables[] = {"en",   "er",    "ge",   "te",   "ein",  "der",  "be",   "ung",
                                            "sch",  "ver",   "st",   "lich", "und",  "an",   "auf",  "mit",
                                            "le",   "ra",    "tion", "heit", "für",  "über", "größ", "maß",
                                            "kön",  "ßen",   "äu",   "öl",   "mo",   "ti",   "ka",   "ba",
                                            "no",   "zu",    "pro",  "fen",  "ster", "land", "haus", "wasser",
                                            "zeit", "recht", "éa",   "naï",  "ıx",   "жи",   "漢"};
    static const char *const ends[] = {" ",    " ",  " ",  " ",  " ",  " ",  ", ",  ". ", " – ",   "\n",
                                       "\n\n", ": ", " (", ") ", "  ", "! ", "'s ", "\t", "…\r\n", "-"};
    uint64_t state = 1;
    int count = (int)(sizeof syllables / sizeof *syllables);
    while (out->size < size) {
        uint32_t kind = test_tokenizer_random(&state) % 40;
        if (kind == 0) {
            str_printf(out, "%u", test_tokenizer_random(&state) % 100000);
        } else {
            int parts = 1 + (int)(test_tokenizer_random(&state) % 4);
            for (int i = 0; i < parts; i++) {
                int a = (int)(test_tokenizer_random(&state) % (uint32_t)count),
                    b = (int)(test_tokenizer_random(&state) % (uint32_t)count);
                const char *s = syllables[a < b ? a : b];
                if (i == 0 && kind < 10 && s[0] >= 'a' && s[0] <= 'z') str_printf(out, "%c%s", s[0] - 32, s + 1);
                else str_puts(out, s);
            }
        }
        str_puts(out, ends[test_tokenizer_random(&state) % (sizeof ends / sizeof *ends)]);
    }
}

// ---------------------------------------------------------------- Unicode

static void test_tokenizer_utf8(void) {
    // Every code point there and back; surrogates and what lies above are invalid.
    int wrong = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        uint8_t bytes[4];
        uint32_t back = 0;
        int n = utf8_put(bytes, c), m = utf8_decode(bytes, bytes + n, &back);
        bool surrogate = c >= 0xd800 && c < 0xe000;
        wrong += surrogate ? m != 0 : m != n || back != c || (n > 1 && utf8_decode(bytes, bytes + n - 1, &back) != 0);
    }
    CHECK(wrong == 0, "%d code points", wrong);
    // Table 3-7 of the standard, over all first three bytes.
    wrong = 0;
    for (uint32_t i = 0; i < 1 << 24; i += 7) { // 7 is odd: all low and high parts of the bytes occur
        uint8_t b[4] = {(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i, 0x80};
        uint32_t c;
        bool t1 = b[1] >= 0x80 && b[1] <= 0xbf, t2 = b[2] >= 0x80 && b[2] <= 0xbf;
        int n = b[0] < 0x80 ? 1 : b[0] >= 0xc2 && b[0] <= 0xdf && t1 ? 2 : 0;
        if ((b[0] & 0xf0) == 0xe0 && t1 && t2 && !(b[0] == 0xe0 && b[1] < 0xa0) && !(b[0] == 0xed && b[1] > 0x9f))
            n = 3;
        if (b[0] >= 0xf0 && b[0] <= 0xf4 && t1 && t2 && !(b[0] == 0xf0 && b[1] < 0x90) &&
            !(b[0] == 0xf4 && b[1] > 0x8f))
            n = 4;
        wrong += utf8_decode(b, b + 4, &c) != n;
    }
    CHECK(wrong == 0, "%d byte sequences", wrong);

    // A stream gives whole characters only, however the bytes are cut, and U+FFFD for what is none.
    static const char *const streams[][2] = {{"Größe 😀!", "Größe 😀!"},
                                             {"a\xc3", "a\xef\xbf\xbd"},
                                             {"\xf0\x9f\x98"
                                              "b",
                                              "\xef\xbf\xbd"
                                              "b"},
                                             {"\x80\xc3\xc3\xa4", "\xef\xbf\xbd\xef\xbf\xbdä"},
                                             {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
                                             {"\xe2\x82\xe2\x82\xac", "\xef\xbf\xbd€"},
                                             {"\xff\xf5\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        for (size_t step = 1; step < 6; step++) {
            Utf8Stream s;
            Str out, part;
            memset(&s, 0, sizeof s);
            memset(&out, 0, sizeof out);
            memset(&part, 0, sizeof part);
            size_t n = strlen(streams[i][0]);
            for (size_t at = 0; at < n; at += step) {
                part.size = 0;
                utf8_stream_push(&s, streams[i][0] + at, step < n - at ? step : n - at, &part);
                CHECK(part.size == 0 || text_valid((uint8_t *)part.data, (uint8_t *)part.data + part.size) == part.size,
                      "half a character in case %zu", i);
                str_add(&out, part.data, part.size);
            }
            utf8_stream_finish(&s, &out);
            CHECK(strcmp(out.data, streams[i][1]) == 0, "case %zu in steps of %zu: \"%s\"", i, step, out.data);
            free(out.data);
            free(part.data);
        }
}

static void test_tokenizer_nfc(const Json *root) {
    Str out;
    memset(&out, 0, sizeof out);
    int count = 0;
    for (const Json *pair = json_get(root, "nfc")->child; pair; pair = pair->next, count++) {
        const Json *in = pair->child, *expected = in->next;
        out.size = 0;
        text_nfc(&out, in->text, in->size);
        CHECK(out.size == expected->size && memcmp(out.data, expected->text, out.size) == 0,
              "NFC of text %d \"%s\" is \"%.*s\", expected \"%s\"", count, in->text, (int)out.size, out.data,
              expected->text);
        Str again;
        memset(&again, 0, sizeof again);
        text_nfc(&again, out.data, out.size);
        CHECK(again.size == out.size && (out.size == 0 || memcmp(again.data, out.data, out.size) == 0),
              "NFC of NFC of text %d differs", count);
        free(again.data);
    }
    CHECK(count > 50, "only %d texts", count);
    // A hundred thousand accents on one letter: sorted in linear time, none lost.
    Str marks;
    memset(&marks, 0, sizeof marks);
    str_puts(&marks, "e");
    for (int i = 0; i < 50000; i++) str_puts(&marks, "\xcc\x81\xcc\xa3"); // above, below
    out.size = 0;
    clock_t start = clock();
    text_nfc(&out, marks.data, marks.size);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(seconds < 2, "%.1f s for 200 kB of accents: quadratic?", seconds); // 5 ms without sanitizers
    CHECK(out.size == marks.size && memcmp(out.data, "\xe1\xba\xb9\xcc\xa3", 5) == 0, "%zu bytes, expected %zu",
          out.size, marks.size);
    free(marks.data);
    free(out.data);
}

// ---------------------------------------------------------------- patterns

// Appends the ends of the pre-tokens of [p, end), counted from `origin`, as an encoder of this text alone cuts it: runs
// of valid UTF-8 and of other bytes apart.
static void test_tokenizer_ends(IdList *ends, TextPattern pattern, const uint8_t *origin, const uint8_t *p,
                                const uint8_t *end) {
    while (p < end) {
        const uint8_t *valid = p + text_valid(p, end);
        while (p < valid) id_list_add(ends, (int32_t)((p = text_split(pattern, p, valid)) - origin));
        size_t invalid = text_invalid(p, end);
        for (size_t i = 0; i < invalid; i++) id_list_add(ends, (int32_t)(++p - origin));
    }
}

// Every place that text_safe_cut allows, in random texts of what patterns look at: the two parts alone have the
// pre-tokens of the whole. Returns how many cuts there were.
static int test_tokenizer_cuts(TextPattern pattern, uint64_t seed, int texts) {
    static const char *const parts[] =
        {"\n", "\n", "\n", "\r", "\r\n", " ",    " ",   "\t", "\xc2\xa0", "\xe3\x80\x80", "\f",
         "a",  "B",  "s",  "x",  "7",    "42",   "'",   "'s", "'ll",      "'RE",          ".",
         "!?", "/",  "-",  "ä",  "ß",    "漢",   "か",  "ǅ",  "ʰ",        "\xcc\x81",     "\xe2\x80\x8d",
         "😀",  "²",  "٣",  "\v", "\x1c", "\xff", "\xc3"};
    IdList whole, cut;
    int cuts = 0;
    memset(&whole, 0, sizeof whole);
    memset(&cut, 0, sizeof cut);
    for (int k = 0; k < texts; k++) {
        Str text;
        memset(&text, 0, sizeof text);
        int count = 1 + (int)(test_tokenizer_random(&seed) % 12);
        while (count-- > 0) str_puts(&text, parts[test_tokenizer_random(&seed) % (sizeof parts / sizeof *parts)]);
        const uint8_t *p = (const uint8_t *)text.data, *end = p + text.size;
        whole.count = 0;
        test_tokenizer_ends(&whole, pattern, p, p, end);
        for (size_t at = 1; at < text.size; at++) {
            if (text_safe_cut(pattern, text.data, text.size, at) != at) continue;
            cuts++;
            cut.count = 0;
            test_tokenizer_ends(&cut, pattern, p, p, p + at);
            test_tokenizer_ends(&cut, pattern, p, p + at, end);
            CHECK(cut.count == whole.count && memcmp(cut.items, whole.items, cut.count * sizeof(int32_t)) == 0,
                  "%s: cut at byte %zu of \"%s\": other pre-tokens", text_pattern(pattern).name, at, text.data);
        }
        free(text.data);
    }
    free(whole.items);
    free(cut.items);
    return cuts;
}

// Pre-tokens of all texts as an engine for regular expressions cuts them.
static void test_tokenizer_splits(const Json *root) {
    for (int pattern = 0; pattern < TEXT_PATTERNS; pattern++) {
        TextPatternInfo info = text_pattern((TextPattern)pattern);
        const Json *expected = json_get(json_get(root, "splits"), info.name);
        CHECK(expected && text_pattern_of_regex(info.regex) == pattern, "no splits for %s", info.name);
        if (!expected) continue;
        const Json *lengths = expected->child;
        int index = 0;
        for (const Json *text = json_get(root, "texts")->child; text && lengths;
             text = text->next, lengths = lengths->next, index++) {
            const uint8_t *p = (const uint8_t *)text->text, *end = p + text->size;
            const Json *length = lengths->child;
            for (; p < end && length; length = length->next) {
                const uint8_t *q = text_split((TextPattern)pattern, p, end);
                if (q - p != length->integer) break;
                p = q;
            }
            CHECK(p == end && !length, "%s, text %d \"%.60s\": other pre-tokens from byte %d on", info.name, index,
                  text->text, (int)(p - (const uint8_t *)text->text));

            // No pre-token reaches over a safe cut.
            size_t cut = text_safe_cut((TextPattern)pattern, text->text, text->size, text->size / 3);
            for (p = (const uint8_t *)text->text; p < (const uint8_t *)text->text + cut;)
                p = text_split((TextPattern)pattern, p, end);
            CHECK(p == (const uint8_t *)text->text + cut, "%s, text %d: a pre-token reaches over the cut at byte %zu",
                  info.name, index, cut);
        }
        CHECK(index > 100, "%s: %d texts", info.name, index);
        int cuts = test_tokenizer_cuts((TextPattern)pattern, 7, 20000);
        CHECK(cuts > 1000, "%s: only %d cuts", info.name, cuts);
    }
}

// ---------------------------------------------------------------- encoding

// BPE by its definition, without tables: for each rank in turn would be the same, but slower.
static void test_tokenizer_plain(const Tokenizer *tok, const uint8_t *p, size_t n, IdList *out) {
    size_t start = out->count;
    for (size_t i = 0; i < n; i++) id_list_add(out, tok->byte_ids[p[i]]);
    for (;;) {
        int best = tok->merge_count;
        size_t at = 0;
        for (size_t i = start; i + 1 < out->count; i++)
            for (int r = 0; r < best; r++)
                if (tok->merges[r][0] == out->items[i] && tok->merges[r][1] == out->items[i + 1]) best = r, at = i;
        if (best == tok->merge_count) return;
        out->items[at] = tokenizer_merge(tok, tok->merges[best][0], tok->merges[best][1])->id;
        for (size_t i = at + 1; i + 1 < out->count; i++) out->items[i] = out->items[i + 1];
        out->count--;
    }
}

static void test_tokenizer_round_trip(const Tokenizer *tok, const char *name, const IdList *ids, const char *text,
                                      size_t n, int index) {
    Str back;
    memset(&back, 0, sizeof back);
    tokenizer_decode(tok, ids->items, ids->count, &back);
    CHECK(back.size == n && (n == 0 || memcmp(back.data, text, n) == 0), "%s: text %d does not come back", name, index);
    free(back.data);
}

static void test_tokenizer_expected(const Json *root, const Json *of, Tokenizer *tok, TokenizerCache *cache) {
    const char *name = of->key;
    IdList ids;
    memset(&ids, 0, sizeof ids);
    // Twice with the cache, cold and warm, and once without.
    for (int pass = 0; pass < 3; pass++) {
        int index = 0;
        const Json *expected = json_get(of, "ids")->child;
        for (const Json *text = json_get(root, "texts")->child; text;
             text = text->next, expected = expected->next, index++) {
            ids.count = 0;
            // The text without its terminating NUL, so that sanitizers see a byte read too many.
            char *exact = (char *)malloc(text->size + !text->size);
            memcpy(exact, text->text, text->size);
            size_t n = tokenizer_encode(tok, pass < 2 ? cache : NULL, exact, text->size, &ids);
            bool same = n == ids.count && n == expected->size;
            size_t first = 0;
            for (const Json *id = expected->child; id && first < n && id->integer == ids.items[first]; id = id->next)
                first++;
            CHECK(same && first == n, "%s, pass %d, text %d \"%.60s\": %zu ids, expected %u; the first %zu agree", name,
                  pass, index, text->text, n, expected->size, first);
            if (!tok->nfc) test_tokenizer_round_trip(tok, name, &ids, exact, text->size, index);
            free(exact);
        }
        CHECK(expected == NULL && index > 100, "%s: %d texts", name, index);
    }
    const Json *expected = json_get(of, "repeats")->child;
    for (const Json *unit = json_get(root, "repeats")->child; unit; unit = unit->next, expected = expected->next) {
        Str text;
        memset(&text, 0, sizeof text);
        for (int64_t i = json_integer(unit->child->next, 0); i > 0; i--)
            str_add(&text, unit->child->text, unit->child->size);
        ids.count = 0;
        clock_t start = clock();
        tokenizer_encode(tok, NULL, text.data, text.size, &ids);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        char hash[17];
        snprintf(hash, sizeof hash, "%016" PRIx64, fnv1a64(ids.items, ids.count * sizeof(int32_t), FNV1A64_START));
        CHECK((int64_t)ids.count == json_integer(expected->child, -1) && strcmp(hash, expected->child->next->text) == 0,
              "%s: %zu bytes of \"%s\": %zu ids, hash %s", name, text.size, unit->child->text, ids.count, hash);
        CHECK(seconds < 3, "%s: %.1f s for %zu bytes: quadratic?", name, seconds,
              text.size); // 20 ms without sanitizers
        free(text.data);
    }
    free(ids.items);
}

// Random pieces of all lengths: short and long merging against the definition.
static void test_tokenizer_merging(const Tokenizer *tok) {
    uint64_t state = 99;
    IdList plain, list;
    memset(&plain, 0, sizeof plain);
    memset(&list, 0, sizeof list);
    Str text;
    memset(&text, 0, sizeof text);
    test_tokenizer_text(&text, 20000);
    for (int i = 0; i < 300; i++) {
        size_t n = 1 + test_tokenizer_random(&state) % (i % 10 ? TOKENIZER_SHORT : 300);
        uint8_t p[300];
        size_t at = test_tokenizer_random(&state) % (text.size - n);
        memcpy(p, text.data + at, n);
        if (i % 3 == 0) // few different bytes: many ties
            for (size_t k = 0; k < n; k++) p[k] = (uint8_t) "aenn "[test_tokenizer_random(&state) % 5];
        plain.count = list.count = 0;
        test_tokenizer_plain(tok, p, n, &plain);
        tokenizer_merge_long(tok, p, n, &list);
        bool same = plain.count == list.count && memcmp(plain.items, list.items, plain.count * sizeof(int32_t)) == 0;
        CHECK(same, "long merging of %zu bytes differs from the definition", n);
        list.count = 0;
        tokenizer_merge_windows(tok, p, n, &list);
        same = plain.count == list.count && memcmp(plain.items, list.items, plain.count * sizeof(int32_t)) == 0;
        CHECK(same, "merging of %zu bytes in windows differs from the definition", n);
        if (n > TOKENIZER_SHORT) continue;
        int32_t ids[TOKENIZER_SHORT];
        size_t count = (size_t)tokenizer_merge_short(tok, p, (int)n, ids);
        same = plain.count == count && memcmp(plain.items, ids, count * sizeof(int32_t)) == 0;
        CHECK(same, "short merging of %zu bytes differs from the definition", n);
    }
    free(plain.items);
    free(list.items);
    free(text.data);
}

// Any bytes come back; valid runs are encoded as texts of their own, invalid ones byte by byte.
static void test_tokenizer_invalid(const Tokenizer *tok) {
    uint64_t state = 5;
    TokenizerCache cache;
    IdList ids, parts;
    memset(&cache, 0, sizeof cache);
    memset(&ids, 0, sizeof ids);
    memset(&parts, 0, sizeof parts);
    for (int i = 0; i < 500; i++) {
        char text[64];
        size_t n = test_tokenizer_random(&state) % sizeof text;
        for (size_t k = 0; k < n; k++) {
            uint32_t r = test_tokenizer_random(&state);
            text[k] = r % 3 ? "aeEN 1.\n\xc3\xa4\xe2\x80"[r / 3 % 12] : (char)(r >> 8 & 255);
        }
        ids.count = 0;
        tokenizer_encode(tok, &cache, text, n, &ids);
        test_tokenizer_round_trip(tok, "random bytes", &ids, text, n, i);
    }
    static const char mixed[] = "Gr\xc3\xb6\xc3\x9f"
                                "e \xff\xfe Gr\xf6\xdf"
                                "e\xe2\x82";
    const size_t bounds[] = {0, 8, 10, 13, 15, 16, 18};
    ids.count = parts.count = 0;
    tokenizer_encode(tok, &cache, mixed, sizeof mixed - 1, &ids);
    for (int i = 0; i < 6; i++) {
        if (i % 2 == 0) tokenizer_encode(tok, NULL, mixed + bounds[i], bounds[i + 1] - bounds[i], &parts);
        else
            for (size_t k = bounds[i]; k < bounds[i + 1]; k++) id_list_add(&parts, tok->byte_ids[(uint8_t)mixed[k]]);
    }
    CHECK(sizeof mixed - 1 == 18 && ids.count == parts.count &&
              memcmp(ids.items, parts.items, ids.count * sizeof(int32_t)) == 0,
          "%zu ids, its parts %zu", ids.count, parts.count);
    tokenizer_cache_free(&cache);
    free(ids.items);
    free(parts.items);
}

// The cache may fill up and be emptied: the ids stay the same.
static void test_tokenizer_cache(const Tokenizer *tok) {
    TokenizerCache cache;
    IdList with, without;
    Str text;
    memset(&cache, 0, sizeof cache);
    memset(&with, 0, sizeof with);
    memset(&without, 0, sizeof without);
    memset(&text, 0, sizeof text);
    for (int i = 0; i < 30000; i++) { // a word in base 26, every fifth one long
        for (int k = i * 7919 % 30011; k > 0; k /= 26) str_printf(&text, "%c", 'a' + k % 26);
        str_puts(&text, i % 5 ? " " : "donaudampfschifffahrt ");
    }
    tokenizer_encode(tok, &cache, text.data, text.size, &with);
    tokenizer_encode(tok, NULL, text.data, text.size, &without);
    CHECK(with.count == without.count && memcmp(with.items, without.items, with.count * sizeof(int32_t)) == 0,
          "%zu ids with the cache, %zu without", with.count, without.count);
    CHECK(cache.used > 10000 && cache.mask > 4095, "the cache holds %zu words in %llu slots", cache.used,
          (unsigned long long)cache.mask + 1);
    tokenizer_cache_free(&cache);
    free(with.items);
    free(without.items);
    free(text.data);
}

// ---------------------------------------------------------------- training

static bool test_bpe(Tokenizer *out, const char *text, size_t n, int vocab_size, BpeStats *stats, Error *err) {
    BpeSettings s = bpe_settings(vocab_size);
    return bpe_train_text(out, text, n, &s, stats, err);
}

static bool test_bpe_files(Tokenizer *out, const char *list, int vocab_size, BpeStats *stats, Error *err) {
    BpeSettings s = bpe_settings(vocab_size);
    DocSettings documents;
    memset(&documents, 0, sizeof documents);
    documents.field = "text";
    return bpe_train(out, list, &documents, &s, stats, err);
}

static void test_tokenizer_training(void) {
    Error err;
    Tokenizer tok, kept, again;
    BpeStats stats;
    Str text;
    memset(&text, 0, sizeof text);
    test_tokenizer_text(&text, 200000);
    bool ok = test_bpe(&tok, text.data, text.size, 1000, &stats, &err); // rounded up to 1024
    CHECK(ok, "%s", err.text);
    ok = ok && tokenizer_load(&kept, TOKENIZER_FIXTURES "trained.json", &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    CHECK(tok.vocab_size == 1024 && tok.eot == 1024 - BPE_SPECIALS, "vocabulary %d, end of text %d", tok.vocab_size,
          tok.eot);
    CHECK(tok.json_size == kept.json_size && memcmp(tok.json, kept.json, tok.json_size) == 0,
          "not the bytes of trained.json");
    CHECK(tok.hash == kept.hash, "hash %016" PRIx64 ", that of trained.json is %016" PRIx64, tok.hash, kept.hash);
    for (int id = 0; id < tok.vocab_size; id++) {
        int length;
        tokenizer_bytes(&tok, id, &length);
        bool special = id >= tok.eot;
        CHECK(tokenizer_kind(&tok, id) == (special ? TOKEN_SPECIAL : TOKEN_NORMAL) && (length > 0) != special &&
                  *tokenizer_name(&tok, id),
              "token %d: kind %d, %d bytes, name \"%s\"", id, tokenizer_kind(&tok, id), length,
              tokenizer_name(&tok, id));
    }
    CHECK(tokenizer_special(&tok, "<|im_start|>") == tok.eot + 1 &&
              tokenizer_special(&tok, "<|im_end|>") == tok.eot + 2 && tokenizer_special(&tok, "<|none|>") == -1,
          "special tokens are not where they should be");
    // Text that looks like special tokens is text.
    IdList ids;
    memset(&ids, 0, sizeof ids);
    tokenizer_encode(&tok, NULL, "<|endoftext|><|im_start|>", 25, &ids);
    bool plain = true;
    for (size_t i = 0; i < ids.count; i++) plain = plain && tokenizer_kind(&tok, ids.items[i]) == TOKEN_NORMAL;
    CHECK(plain && ids.count > 2, "a special token was made from text");
    free(ids.items);

    // Files, in several parts and in chunks of several threads, give the same bytes as one text.
    Str files;
    memset(&files, 0, sizeof files);
    Str large;
    memset(&large, 0, sizeof large);
    for (int i = 0; i < 3; i++) {
        Path p = test_temp(i == 0 ? "bpe0.txt" : i == 1 ? "bpe1.txt" : "bpe2.txt");
        Str part;
        memset(&part, 0, sizeof part);
        for (int k = 0; k <= i * 5; k++)
            str_add(&part, text.data, text_safe_cut(TEXT_LLAMA3, text.data, text.size, text.size - 100));
        CHECK(file_write_all(p.text, part.data, part.size, &err), "%s", err.text);
        str_printf(&files, "%s%s", i ? "," : "", p.text);
        str_add(&large, part.data, part.size);
        free(part.data);
    }
    BpeWords whole, chunks;
    bpe_words_open(&whole, TEXT_LLAMA3);
    bpe_words_open(&chunks, TEXT_LLAMA3);
    bpe_words_count(&whole, large.data, large.size);
    bpe_words_count_parallel(&chunks, large.data, large.size);
    CHECK(large.size > 3 * BPE_CHUNK && whole.pretokens == chunks.pretokens && whole.used == chunks.used,
          "%lld pre-tokens, %lld in chunks", (long long)whole.pretokens, (long long)chunks.pretokens);
    bpe_words_free(&whole);
    bpe_words_free(&chunks);
    Tokenizer from_files;
    memset(&from_files, 0, sizeof from_files);
    memset(&again, 0, sizeof again);
    ok = test_bpe_files(&from_files, files.data, 1024, &stats, &err) &&
         test_bpe(&again, large.data, large.size, 1024, NULL, &err);
    CHECK(ok, "%s", err.text);
    CHECK(stats.bytes == (int64_t)large.size && stats.counts.invalid == 0 && stats.merges == 752,
          "%lld bytes, %d merges", (long long)stats.bytes, stats.merges);
    CHECK(from_files.json_size == again.json_size && memcmp(from_files.json, again.json, again.json_size) == 0,
          "files and one text give different tokenizers");

    // Saved and loaded: the same bytes, the same hash.
    Path path = test_temp("tokenizer.json"), config = test_temp("tokenizer_config.json");
    Tokenizer loaded;
    memset(&loaded, 0, sizeof loaded);
    ok = tokenizer_save(&again, path.text, &err) && tokenizer_load(&loaded, path.text, &err) &&
         tokenizer_save_config(&again, config.text, 512, NULL, &err);
    CHECK(ok && loaded.hash == again.hash && loaded.json_size == again.json_size, "%s",
          ok ? "saved and loaded differ" : err.text);
    JsonDoc doc;
    Json *root = json_load(&doc, config.text, &err);
    CHECK(root, "%s", err.text);
    if (root) {
        CHECK(json_integer(json_get(root, "model_max_length"), 0) == 512 &&
                  strcmp(json_string(json_get(root, "eos_token"), ""), TOKENIZER_EOT) == 0,
              "tokenizer_config.json");
        CHECK(json_get(root, "added_tokens_decoder")->size == BPE_SPECIALS, "%u added tokens",
              json_get(root, "added_tokens_decoder")->size);
        json_free(&doc);
    }
    test_tokenizer_merging(&tok);
    test_tokenizer_invalid(&tok);
    test_tokenizer_cache(&tok);
    tokenizer_free(&loaded);
    tokenizer_free(&from_files);
    tokenizer_free(&again);
    tokenizer_free(&kept);
    tokenizer_free(&tok);
    free(large.data);
    free(files.data);

    // Bytes that are not UTF-8 are left out of training and counted.
    str_puts(&text, "\xff\xfe\x80");
    ok = test_bpe(&tok, text.data, text.size, 1024, &stats, &err);
    CHECK(ok && stats.counts.invalid == 3, "%lld invalid bytes", (long long)stats.counts.invalid);
    tokenizer_free(&tok);
    free(text.data);

    CHECK_ERROR(test_bpe(&tok, "", 0, 1024, NULL, &err), "the corpus is empty");
    CHECK_ERROR(test_bpe(&tok, "ein kurzer Text, ein kurzer Text", 32, 8192, NULL, &err), "too little text");
    CHECK_ERROR(test_bpe(&tok, "abc", 3, 100, NULL, &err), "--vocab_size=100");
    memset(&text, 0, sizeof text);
    test_tokenizer_text(&text, 20000);
    CHECK_ERROR(test_bpe(&tok, text.data, text.size, 60000, NULL, &err), "merges");
    CHECK_ERROR(test_bpe(&tok, text.data, text.size, 60000, NULL, &err), "--vocab_size=");
    free(text.data);
    CHECK_ERROR(test_bpe_files(&tok, test_temp("missing.txt").text, 1024, NULL, &err), "missing.txt");
}

// ---------------------------------------------------------------- files of others

// The text with the first `from` replaced, to be freed.
static Str test_tokenizer_changed(const Str *text, const char *from, const char *to) {
    Str changed;
    memset(&changed, 0, sizeof changed);
    const char *at = strstr(text->data, from);
    CHECK(at != NULL, "\"%s\" is not in the fixture", from);
    if (!at) at = text->data + text->size, from = "";
    str_add(&changed, text->data, (size_t)(at - text->data));
    str_puts(&changed, to);
    str_puts(&changed, at + strlen(from));
    return changed;
}

// Parsing the text so changed must fail with an error that holds `part`.
static void test_tokenizer_refused(const Str *text, const char *from, const char *to, const char *part) {
    Error err;
    Tokenizer tok;
    Str changed = test_tokenizer_changed(text, from, to);
    CHECK_ERROR(tokenizer_parse(&tok, changed.data, changed.size, &err), part);
    free(changed.data);
}

#define TEST_TEXT "{\"Sequence\": {\"id\": \"A\"}}"
#define TEST_TOKEN(name) "{\"SpecialToken\": {\"id\": \"" name "\"}}"
#define TEST_TEMPLATE(single)                                                                                          \
    "\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, {\"type\": "             \
    "\"TemplateProcessing\", \"single\": [" single "], \"special_tokens\": {\"<|im_start|>\": {\"ids\": [1009]}, "     \
    "\"<|im_end|>\": {\"ids\": [1010]}, \"<|pad|>\": {\"ids\": [1010]}, \"two\": {\"ids\": [1, 2]}}}]}"

// What a template puts around a text; 1008: the token called <|endoftext|>.
static void test_tokenizer_post_processor(const Str *text) {
    static const struct {
        const char *to;
        int bos, closing, eot;
        bool same_hash; // as without: nothing stands in shards that did not stand there before
    } taken[] = {{"\"post_processor\": {\"type\": \"ByteLevel\", \"trim_offsets\": true}", -1, -1, 1008, true},
                 {TEST_TEMPLATE(TEST_TEXT), -1, -1, 1008, true},
                 {TEST_TEMPLATE(TEST_TOKEN("<|im_start|>") ", " TEST_TEXT), 1009, -1, 1008, false},
                 {TEST_TEMPLATE(TEST_TEXT ", " TEST_TOKEN("<|im_end|>")), -1, 1010, 1010, false},
                 {TEST_TEMPLATE(TEST_TOKEN("<|im_start|>") ", " TEST_TEXT ", " TEST_TOKEN("<|im_end|>")), 1009, 1010,
                  1010, false}};
    static const char *const refused[][2] =
        {{TEST_TEMPLATE(TEST_TOKEN("<|im_start|>") ", " TEST_TOKEN("<|im_end|>") ", " TEST_TEXT), "at most one token"},
         {TEST_TEMPLATE(TEST_TEXT ", " TEST_TEXT), "at most one token"},
         {TEST_TEMPLATE(TEST_TOKEN("<|im_start|>")), "no text in it"},
         {TEST_TEMPLATE(TEST_TOKEN("two") ", " TEST_TEXT), "one id"},
         {TEST_TEMPLATE(TEST_TOKEN("<|pad|>") ", " TEST_TEXT), "one id"},
         {TEST_TEMPLATE(TEST_TOKEN("nowhere") ", " TEST_TEXT), "one id"}};
    Error err;
    Tokenizer plain, tok;
    CHECK(tokenizer_parse(&plain, text->data, text->size, &err), "%s", err.text);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        Str changed = test_tokenizer_changed(text, "\"post_processor\": null", taken[i].to);
        bool ok = tokenizer_parse(&tok, changed.data, changed.size, &err);
        CHECK(ok, "%s", ok ? "" : err.text);
        CHECK(!ok || (tok.bos == taken[i].bos && tok.closing == taken[i].closing && tok.eot == taken[i].eot &&
                      (tok.hash == plain.hash) == taken[i].same_hash),
              "case %zu: %d in front, %d behind, end %d", i, tok.bos, tok.closing, tok.eot);
        if (ok) tokenizer_free(&tok);
        free(changed.data);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        test_tokenizer_refused(text, "\"post_processor\": null", refused[i][0], refused[i][1]);
    tokenizer_free(&plain);
}

// Other ways to write the same tokenizer: the same hash.
static void test_tokenizer_same(const Str *text) {
    static const char *const same[][2] = {{"[\"e\", \"r\"]", "\"e r\""},
                                          {"\"merges\": [", "\"merges\": [\"#version: 0.2\", "},
                                          {"\"dropout\": null", "\"dropout\": 0.0"},
                                          {"\"unk_token\": null", "\"unk_token\": \"<unk>\""},
                                          {"\"byte_fallback\": false", "\"byte_fallback\": true"},
                                          {"\"fuse_unk\": false", "\"fuse_unk\": true"},
                                          {"\"continuing_subword_prefix\": null",
                                           "\"continuing_subword_prefix\": \"\""},
                                          {"\"Isolated\", \"invert\": false", "\"Removed\", \"invert\": true"},
                                          {"\"normalizer\": null",
                                           "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": []}"}};
    Error err;
    Tokenizer plain, tok;
    CHECK(tokenizer_parse(&plain, text->data, text->size, &err), "%s", err.text);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        Str changed = test_tokenizer_changed(text, same[i][0], same[i][1]);
        bool ok = tokenizer_parse(&tok, changed.data, changed.size, &err);
        CHECK(ok && tok.hash == plain.hash, "%s: %s", same[i][1], ok ? "another hash" : err.text);
        if (ok) tokenizer_free(&tok);
        free(changed.data);
    }
    tokenizer_free(&plain);
}

// A token of the vocabulary that is listed as added, too: merges make it from " und", the search from "\u0120und", and
// it stands for " und". As tokenizers 0.23.3 encodes and decodes it.
static void test_tokenizer_twice(const Str *text) {
    Error err;
    Tokenizer tok;
    IdList ids;
    Str back;
    memset(&ids, 0, sizeof ids);
    memset(&back, 0, sizeof back);
    Str changed = test_tokenizer_changed(text, "\"added_tokens\": [",
                                         "\"added_tokens\": [{\"id\": 346, \"content\": \"Ġund\", \"special\": false, "
                                         "\"normalized\": true}, ");
    bool ok = tokenizer_parse(&tok, changed.data, changed.size, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    static const int32_t expected[4] = {256, 346, 220, 346};
    if (ok) tokenizer_encode(&tok, NULL, "er und Ġund", 12, &ids);
    CHECK(ids.count == 4 && memcmp(ids.items, expected, sizeof expected) == 0, "%zu ids", ids.count);
    if (ok) tokenizer_decode(&tok, ids.items, ids.count, &back);
    CHECK(back.data && strcmp(back.data, "er und  und") == 0, "decoded to \"%s\"", back.data ? back.data : "");
    if (ok) tokenizer_free(&tok);
    free(back.data);
    free(ids.items);
    free(changed.data);
}

// A tokenizer of the 256 bytes, with more names in its vocabulary.
static Str test_tokenizer_bytes_alone(const char *more, const char *model, const char *added) {
    Str s;
    uint32_t to_char[256];
    int16_t to_byte[324];
    memset(&s, 0, sizeof s);
    byte_names(to_char, to_byte);
    str_printf(&s,
               "{\"added_tokens\": [%s], \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, "
               "\"model\": {\"type\": \"BPE\", %s, \"vocab\": {",
               added, model);
    for (int b = 0; b < 256; b++) {
        uint8_t name[4];
        int n = utf8_put(name, to_char[b]);
        if (b) str_puts(&s, ", ");
        json_escape(&s, (const char *)name, (size_t)n);
        str_printf(&s, ": %d", b);
    }
    str_printf(&s, "%s}}}", more);
    return s;
}

// Training by the definition: the most frequent pair of neighbours, of equal ones that of the smaller ids, becomes a
// token everywhere, from left to right. ids: of words, with -1 between them.
static void test_bpe_by_definition(int32_t (*merges)[2], int count, int32_t *ids, size_t n) {
    enum { MOST = 256 + 128 };
    int64_t *counts = (int64_t *)mem_alloc(sizeof(int64_t) * MOST * MOST);
    for (int r = 0; r < count; r++) {
        int64_t best = 0;
        memset(counts, 0, sizeof(int64_t) * MOST * MOST);
        for (size_t i = 0; i + 1 < n; i++) {
            if (ids[i] < 0 || ids[i + 1] < 0) continue;
            counts[ids[i] * MOST + ids[i + 1]]++;
        }
        for (int i = 1; i < MOST * MOST; i++)
            if (counts[i] > counts[best]) best = i;
        merges[r][0] = (int32_t)(best / MOST), merges[r][1] = (int32_t)(best % MOST);
        size_t to = 0;
        for (size_t i = 0; i < n; i++) {
            bool pair = i + 1 < n && ids[i] == merges[r][0] && ids[i + 1] == merges[r][1];
            ids[to++] = pair ? 256 + r : ids[i];
            i += pair;
        }
        n = to;
    }
    free(counts);
}

// Words of many lengths, of few letters and with runs of one: merges over the borders of the blocks that long ones are
// trained in.
static void test_bpe_long_words(void) {
    uint64_t state = 21;
    for (int form = 0; form < 12; form++) {
        enum { MERGES = 384 - 256 - BPE_SPECIALS };
        Error err;
        Tokenizer tok;
        BpeVocab v;
        Str text;
        int32_t byte_ids[256], merges[MERGES][2];
        uint32_t letters = 2 + (uint32_t)form % 3;
        memset(&text, 0, sizeof text);
        memset(&v, 0, sizeof v);
        v.offsets = (size_t *)mem_alloc(257 * sizeof(size_t));
        bpe_alphabet(&v, byte_ids);
        while (text.size < 12000) {
            size_t length = 1 + test_tokenizer_random(&state) % (form % 2 ? 700 : 200);
            if (text.size) str_puts(&text, " ");
            for (size_t i = 0; i < length; i++) {
                char letter = (char)('a' + test_tokenizer_random(&state) % letters);
                size_t run = test_tokenizer_random(&state) % 8 ? 1 : 1 + test_tokenizer_random(&state) % 90;
                while (run--) str_add(&text, &letter, 1);
            }
        }
        int32_t *ids = (int32_t *)mem_alloc(sizeof(int32_t) * (2 * text.size + 1));
        size_t n = 0, size = 0;
        for (size_t i = 0; i < text.size; i++, size++) {
            if (text.data[i] == ' ' || size == BPE_MAX_WORD) ids[n++] = -1, size = 0;
            ids[n++] = byte_ids[(uint8_t)text.data[i]];
        }
        bool ok = test_bpe(&tok, text.data, text.size, 384, NULL, &err);
        CHECK(ok, "%s", ok ? "" : err.text);
        test_bpe_by_definition(merges, MERGES, ids, n);
        int same = 0;
        while (ok && same < MERGES && memcmp(tok.merges[same], merges[same], sizeof merges[0]) == 0) same++;
        CHECK(same == MERGES, "form %d: merge %d is another than by the definition", form, same);
        if (ok) tokenizer_free(&tok);
        free(ids), free(text.data), free(v.offsets), free(v.bytes.data), free(v.merges);
    }
}

// A tokenizer whose tokens are made of few letters, with the merges in any order: ranks need not rise with the tokens
// that they need, and long tokens and ties are frequent. *made: how many tokens.
static bool test_tokenizer_of_few(Tokenizer *tok, int *tokens_made, int letters, uint64_t *state, Error *err) {
    enum { MADE = 60 };
    static char tokens[MADE + 8][400];
    int parts[MADE][2], order[MADE], count = 0, made = 0;
    Str more, merges;
    memset(&more, 0, sizeof more);
    memset(&merges, 0, sizeof merges);
    for (; count < letters; count++) snprintf(tokens[count], sizeof tokens[count], "%c", 'a' + count);
    for (int tries = 0; tries < 2000 && made < MADE; tries++) {
        uint32_t last = (uint32_t)count - 1, kind = test_tokenizer_random(state) % 4; // or twice the last: long ones
        int a = (int)(kind < 2 ? last : test_tokenizer_random(state) % (uint32_t)count),
            b = (int)(kind < 1 ? last : test_tokenizer_random(state) % (uint32_t)count);
        bool fresh = strlen(tokens[a]) + strlen(tokens[b]) < 200;
        Path both = path_of("%s%s", tokens[a], tokens[b]);
        memcpy(tokens[count], both.text, 399);
        for (int i = 0; i < count; i++) fresh = fresh && strcmp(tokens[i], tokens[count]) != 0;
        if (!fresh) continue;
        parts[made][0] = a, parts[made][1] = b;
        order[made] = made;
        str_printf(&more, ", \"%s\": %d", tokens[count++], 256 + made++);
    }
    bool mixed = test_tokenizer_random(state) % 2;
    for (int i = made - 1; mixed && i > 0; i--) {
        int k = (int)(test_tokenizer_random(state) % (uint32_t)(i + 1)), kept = order[i];
        order[i] = order[k], order[k] = kept;
    }
    for (int i = 0; i < made; i++)
        str_printf(&merges, "%s[\"%s\", \"%s\"]", i ? ", " : "\"merges\": [", tokens[parts[order[i]][0]],
                   tokens[parts[order[i]][1]]);
    str_puts(&merges, "]");
    Str text = test_tokenizer_bytes_alone(more.data, merges.data, "");
    bool ok = tokenizer_parse(tok, text.data, text.size, err);
    free(text.data), free(more.data), free(merges.data);
    *tokens_made = made;
    return ok;
}

// Long pieces in windows against the heap over all of them, with tokenizers that no training gives.
static void test_tokenizer_windows(void) {
    uint64_t state = 7;
    IdList whole, windows;
    memset(&whole, 0, sizeof whole);
    memset(&windows, 0, sizeof windows);
    for (int i = 0; i < 150; i++) {
        Tokenizer tok;
        Error err;
        uint8_t p[6000];
        int letters = 1 + i % 4, wrong = 0, made = 0;
        bool ok = test_tokenizer_of_few(&tok, &made, letters, &state, &err);
        CHECK(ok, "%s", ok ? "" : err.text);
        for (int k = 0; ok && k < 20; k++) {
            size_t n = 1 + test_tokenizer_random(&state) % (k < 15 ? 600 : sizeof p);
            uint32_t period = k % 3 ? 1 + test_tokenizer_random(&state) % 100 : (uint32_t)sizeof p;
            for (size_t j = 0; j < n; j++)
                p[j] = j < period ? (uint8_t)('a' + test_tokenizer_random(&state) % (uint32_t)letters) : p[j - period];
            for (size_t j = 0; k % 4 == 3 && j < n;) { // of tokens, long ones as well
                int size, id = 256 + (int)(test_tokenizer_random(&state) % (uint32_t)made);
                const uint8_t *bytes = tokenizer_bytes(&tok, id, &size);
                for (int twice = 0; twice < 2; twice++)
                    for (int b = 0; b < size && j < n; b++) p[j++] = bytes[b];
            }
            whole.count = windows.count = 0;
            tokenizer_merge_long(&tok, p, n, &whole);
            tokenizer_merge_windows(&tok, p, n, &windows);
            wrong +=
                whole.count != windows.count || memcmp(whole.items, windows.items, whole.count * sizeof(int32_t)) != 0;
        }
        CHECK(wrong == 0, "tokenizer %d of %d letters: %d of 20 pieces in windows are others", i, letters, wrong);
        if (ok) tokenizer_free(&tok);
    }
    free(whole.items);
    free(windows.items);
}

// ignore_merges takes every word of the vocabulary, those that are added tokens as well; but not special ones, which
// text never gives.
static void test_tokenizer_whole_words(void) {
    static const char *const model = "\"ignore_merges\": true, \"merges\": []";
    Error err;
    Tokenizer tok;
    IdList ids;
    memset(&ids, 0, sizeof ids);
    Str text = test_tokenizer_bytes_alone(", \"Wort\": 256, \"ĠWort\": 257", model,
                                          "{\"id\": 257, \"content\": \"ĠWort\", \"special\": false}");
    bool ok = tokenizer_parse(&tok, text.data, text.size, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    if (ok) tokenizer_encode(&tok, NULL, "Wort Wort", 9, &ids);
    CHECK(ids.count == 2 && ids.items[0] == 256 && ids.items[1] == 257, "%zu ids", ids.count);
    if (ok) tokenizer_free(&tok);
    free(text.data);
    text =
        test_tokenizer_bytes_alone(", \"Wort\": 256", model, "{\"id\": 256, \"content\": \"Wort\", \"special\": true}");
    CHECK_ERROR(tokenizer_parse(&tok, text.data, text.size, &err), "ignore_merges makes it from text");
    free(text.data);
    free(ids.items);
}

// Small files that were made to take for ever.
static void test_tokenizer_hostile(void) {
    Error err;
    Tokenizer tok;
    Str more;
    memset(&more, 0, sizeof more);
    for (int i = 0; i < 300; i++) str_puts(&more, ", \"a\": 97"); // more words than the table of words has places
    Str text = test_tokenizer_bytes_alone(more.data, "\"ignore_merges\": true, \"merges\": []", "");
    CHECK_ERROR(tokenizer_parse(&tok, text.data, text.size, &err), "stands twice");
    free(text.data);
    // Names of 16 bytes with one hash: the second half undoes what the first did.
    uint64_t state = 3;
    int count = 0;
    more.size = 0;
    while (count < 2 * TOKENIZER_MAX_PROBES) {
        char name[17];
        uint64_t first = 0;
        for (int k = 0; k < 8; k++) first = first << 8 | (0x41 + test_tokenizer_random(&state) % 26);
        uint64_t second = tokenizer_mix(16 ^ first) ^ 0x6868686868686868u;
        bool plain = true;
        for (int k = 0; k < 8; k++) {
            uint8_t c = (uint8_t)(second >> 8 * k);
            plain = plain && c > 0x22 && c < 0x7f && c != 0x5c;
        }
        if (!plain) continue;
        memcpy(name, &first, 8);
        memcpy(name + 8, &second, 8);
        name[16] = 0;
        str_printf(&more, ", \"%s\": %d", name, 256 + count++);
    }
    text = test_tokenizer_bytes_alone(more.data, "\"merges\": []", "");
    CHECK_ERROR(tokenizer_parse(&tok, text.data, text.size, &err), "chosen");
    free(text.data);
    free(more.data);
    // An added token as long as the file.
    memset(&more, 0, sizeof more);
    str_puts(&more, "{\"id\": 256, \"special\": false, \"content\": \"");
    for (int i = 0; i < 5000; i++) str_puts(&more, "a");
    str_puts(&more, "\"}");
    text = test_tokenizer_bytes_alone("", "\"merges\": []", more.data);
    CHECK_ERROR(tokenizer_parse(&tok, text.data, text.size, &err), "at most 1024");
    free(text.data);
    free(more.data);
}

// The search for added tokens against its definition: from the left, the longest that is there, special ones skipped.
// Then twenty thousand of them: about the time of none.
static void test_tokenizer_many_added(void) {
    Error err;
    Tokenizer tok;
    Str added, list;
    char words[400][8];
    uint64_t state = 11;
    memset(&added, 0, sizeof added);
    int count = 0;
    while (count < 400) {
        int n = 1 + (int)(test_tokenizer_random(&state) % 6), twice = 0;
        for (int k = 0; k < n; k++) words[count][k] = (char)('a' + test_tokenizer_random(&state) % 4);
        words[count][n] = 0;
        for (int i = 0; i < count; i++) twice += strcmp(words[i], words[count]) == 0;
        if (twice || n == 1) continue; // single letters are the bytes' own
        str_printf(&added, "%s{\"id\": %d, \"content\": \"%s\", \"special\": %s, \"normalized\": false}",
                   count ? ", " : "", 256 + count, words[count], count % 5 ? "false" : "true");
        count++;
    }
    list = test_tokenizer_bytes_alone("", "\"merges\": []", added.data);
    bool ok = tokenizer_parse(&tok, list.data, list.size, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    IdList ids, expected;
    memset(&ids, 0, sizeof ids);
    memset(&expected, 0, sizeof expected);
    for (int round = 0; ok && round < 300; round++) {
        char text[64];
        size_t n = test_tokenizer_random(&state) % sizeof text;
        for (size_t k = 0; k < n; k++) text[k] = "abcde"[test_tokenizer_random(&state) % 5];
        ids.count = expected.count = 0;
        tokenizer_encode(&tok, NULL, text, n, &ids);
        for (size_t at = 0; at < n;) {
            int best = -1;
            size_t longest = 0;
            for (int i = 0; i < count; i++) {
                size_t m = strlen(words[i]);
                if (m > longest && m <= n - at && memcmp(words[i], text + at, m) == 0) best = i, longest = m;
            }
            if (best < 0) longest = 1;
            if (best >= 0 && best % 5) id_list_add(&expected, 256 + best);
            for (size_t k = 0; (best < 0 || best % 5 == 0) && k < longest; k++)
                id_list_add(&expected, tok.byte_ids[(uint8_t)text[at + k]]);
            at += longest;
        }
        CHECK(ids.count == expected.count && memcmp(ids.items, expected.items, ids.count * sizeof(int32_t)) == 0,
              "round %d: %zu ids, expected %zu", round, ids.count, expected.count);
    }
    if (ok) tokenizer_free(&tok);
    free(list.data);
    added.size = 0;
    for (int i = 0; i < 20000; i++)
        str_printf(&added, "%s{\"id\": %d, \"content\": \"%c%c%c%04d\", \"special\": false}", i ? ", " : "", 256 + i,
                   'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676 % 26, i);
    list = test_tokenizer_bytes_alone("", "\"merges\": []", added.data);
    ok = tokenizer_parse(&tok, list.data, list.size, &err);
    CHECK(ok, "%s", ok ? "" : err.text);
    Str text;
    memset(&text, 0, sizeof text);
    test_tokenizer_text(&text, 1000000);
    clock_t start = clock();
    if (ok) tokenizer_encode(&tok, NULL, text.data, text.size, &ids);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(seconds < 3, "%.1f s for a megabyte: one after the other?", seconds); // 0.1 s without sanitizers
    if (ok) tokenizer_free(&tok);
    free(text.data);
    free(list.data);
    free(added.data);
    free(ids.items);
    free(expected.items);
}

static void test_tokenizer_foreign(void) {
    Error err;
    MappedFile f;
    bool ok = file_map(&f, TOKENIZER_FIXTURES "trained.json", &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    Str text;
    memset(&text, 0, sizeof text);
    str_add(&text, f.data, f.size);
    file_unmap(&f);
    static const char *const refused[][3] =
        {{"\"normalizer\": null", "\"normalizer\": {\"type\": \"NFKC\"}", "NFKC"},
         {"\"normalizer\": null",
          "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Lowercase\"}]}",
          "Lowercase"},
         {"{1,3}", "{1,2}", "split pattern"},
         {"Isolated", "MergedWithNext", "MergedWithNext"},
         {"\"invert\": false", "\"invert\": true", "invert true"},
         {"\"add_prefix_space\": false", "\"add_prefix_space\": true", "add_prefix_space"},
         {"\"use_regex\": false", "\"use_regex\": true", "use_regex"},
         {"\"type\": \"ByteLevel\", \"add_prefix_space\": false", "\"type\": \"Digits\", \"add_prefix_space\": false",
          "Digits"},
         {"\"type\": \"BPE\"", "\"type\": \"Unigram\"", "Unigram"},
         {"\"dropout\": null", "\"dropout\": 0.1", "dropout"},
         {"\"continuing_subword_prefix\": null", "\"continuing_subword_prefix\": \"##\"", "continuing_subword_prefix"},
         {"\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"", "end_of_word_suffix"},
         {"\"vocab\"", "\"words\"", "model.vocab"},
         {"\"model\"", "\"modell\"", "not a tokenizer.json"},
         {"\"!\": 0", "\"!!!!\": 0", "byte 0x21"},
         {"\"!\": 0", "\"!\": -1", "the id must be"},
         {"\"!\": 0", "\"!\": 4000000000", "the id must be"},
         {"\"!\": 0", "\"!\": 1", "id 1 is given to"},
         {"\"!\": 0", "\"\": 0", "empty"},
         {"[\"e\", \"n\"]", "[\"e\", \"???\"]", "???"},
         {"[\"e\", \"n\"]", "[\"e\", \"n\", \"n\"]", "neither"},
         {"[\"e\", \"n\"]", "7", "neither"},
         {"\"content\": \"<|im_end|>\"", "\"text\": \"<|im_end|>\"", "no content"},
         {"{\n", "[\n", "JSON"},
         // another type than the field should have
         {"\"normalizer\": null", "\"normalizer\": \"\"", "normalizer"},
         {"\"use_regex\": false", "\"use_regex\": \"false\"", "use_regex"},
         {"\"add_prefix_space\": false", "\"add_prefix_space\": 0", "add_prefix_space"},
         {"\"invert\": false", "\"invert\": \"no\"", "invert"},
         {"\"type\": \"BPE\"", "\"type\": null", "model.type"},
         {"\"dropout\": null", "\"dropout\": \"0\"", "dropout"},
         {"\"ignore_merges\": false", "\"ignore_merges\": \"true\"", "ignore_merges"},
         {"\"special\": true", "\"special\": 1", "special"},
         {"\"normalized\": false", "\"normalized\": \"no\"", "normalized"},
         {"\"!\": 0", "\"!\": 0.0", "the id must be"},
         // what would print or encode otherwise
         {"\"decoder\": {\"type\": \"ByteLevel\"", "\"decoder\": {\"type\": \"Metaspace\"", "decoder"},
         {"\"post_processor\": null", "\"post_processor\": {\"type\": \"RobertaProcessing\"}", "RobertaProcessing"},
         {"\"normalizer\": null", "\"normalizer\": null, \"normalizer\": {\"type\": \"NFC\"}", "stands there twice"},
         {"\"ignore_merges\": false", "\"ignore_merges\": false, \"ignore_merges\": true", "stands there twice"},
         // two tokenizers in one file: names that stand twice, ids that Hugging Face gives otherwise
         {"\"!\": 0", "\"!\": 0, \"!\": 0", "stands twice"},
         {"\"content\": \"<|im_end|>\"", "\"content\": \"<|im_start|>\"", "stands twice"},
         {"\"id\": 1023", "\"id\": 1024", "would give it 1023"},
         {"\"id\": 1008", "\"id\": 1024", "would give it 1008"},
         {"\"!\": 0", "\"!\": 0, \"xqz\": 2000", "would give it 1009"},
         {"\"!\": 0", "\"!\": 0, \"xqz\": 16777215", "too many ids without a token"},
         {"\"id\": 1023", "\"id\": 16777215", "too many ids without a token"},
         {"\"id\": 1023, \"content\": \"<|reserved_11|>\"", "\"id\": 1023, \"content\": \"er\"",
          "has the ids 256 and 1023"},
         // special tokens that text gives
         {"\"id\": 1023, \"content\": \"<|reserved_11|>\"", "\"id\": 64, \"content\": \"a\"", "of the byte 0x61"},
         {"\"id\": 1023, \"content\": \"<|reserved_11|>\"", "\"id\": 256, \"content\": \"er\"", "makes it from text"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        test_tokenizer_refused(&text, refused[i][0], refused[i][1], refused[i][2]);
    test_tokenizer_post_processor(&text);
    test_tokenizer_same(&text);
    test_tokenizer_twice(&text);
    test_tokenizer_whole_words();
    test_tokenizer_hostile();
    Tokenizer tok;
    for (size_t n = 0; n < text.size; n += 997) { // cut anywhere
        Str cut;
        memset(&cut, 0, sizeof cut);
        str_add(&cut, text.data, n);
        CHECK_ERROR(tokenizer_parse(&tok, cut.data, n, &err), "JSON");
        free(cut.data);
    }
    CHECK_ERROR(tokenizer_load(&tok, test_temp("no_such_tokenizer.json").text, &err), "no_such_tokenizer.json");
    free(text.data);
}

// ---------------------------------------------------------------- what stands beside a tokenizer.json

// The files of a folder, "" where there is none, and what is made of them. 1008 <|endoftext|>, 1009 <|im_start|>,
// 1010 <|im_end|>, 1011 <|pad|>.
typedef struct {
    const char *config, *map, *generation, *model;
    int eot, bos, pad;
    const char *stops, *note; // ids; part of the line, "": there is none
} TestTokenizerFolder;

static void test_tokenizer_put(const char *folder, const char *name, const char *text) {
    Error err;
    Path path = path_of("%s/%s", folder, name);
    unlink(path.text);
    if (*text) CHECK(file_write_all(path.text, text, strlen(text), &err), "%s", err.text);
}

static Path test_tokenizer_folder_of(const char *name, const TestTokenizerFolder *f) {
    Error err;
    Path folder = test_temp(name), path = path_of("%s/tokenizer.json", folder.text);
    Str text;
    memset(&text, 0, sizeof text);
    CHECK(path_make_folder(folder.text, &err) &&
              file_read(&text, TOKENIZER_FIXTURES "trained.json", (size_t)1 << 20, &err) &&
              file_write_all(path.text, text.data, text.size, &err),
          "%s", err.text);
    test_tokenizer_put(folder.text, "tokenizer_config.json", f->config);
    test_tokenizer_put(folder.text, "special_tokens_map.json", f->map);
    test_tokenizer_put(folder.text, "generation_config.json", f->generation);
    test_tokenizer_put(folder.text, "config.json", f->model);
    free(text.data);
    return folder;
}

static void test_tokenizer_ends_said(void) {
    static const TestTokenizerFolder cases[] =
        {{"", "", "", "", 1008, -1, 1011, "1008", ""},
         {"{\"eos_token\": \"<|im_end|>\"}", "", "", "", 1010, -1, 1011, "1010", ""},
         {"{\"eos_token\": {\"content\": \"<|im_end|>\", \"special\": true}, \"bos_token\": \"<|im_start|>\", "
          "\"pad_token\": "
          "\"<|endoftext|>\"}",
          "{\"eos_token\": \"<|im_end|>\"}", "", "", 1010, 1009, 1008, "1010", ""},
         {"{\"eos_token\": null}", "{\"eos_token\": {\"content\": \"<|im_end|>\"}}", "", "", 1010, -1, 1011, "1010",
          ""},
         {"", "", "{\"eos_token_id\": [1010, 1008, 1009]}", "", 1010, -1, 1011, "1010 1008 1009", ""},
         {"", "", "", "{\"eos_token_id\": 1010}", 1010, -1, 1011, "1010", ""},
         {"", "", "", "{\"eos_token_id\": [1010, 1009]}", 1010, -1, 1011, "1010 1009", ""},
         {"", "", "{\"eos_token_id\": 1010}", "{\"eos_token_id\": 1008}", 1010, -1, 1011, "1010", ""},
         {"", "", "{\"eos_token_id\": null}", "{\"eos_token_id\": 1010}", 1010, -1, 1011, "1010", ""},
         // a class's default that no token has; and one that is text, where a token has the name of an end
         {"", "", "", "{\"eos_token_id\": 50256}", 1008, -1, 1011, "1008", ""},
         {"", "", "", "{\"eos_token_id\": 2}", 1008, -1, 1011, "2 1008", "config.json ends a text with token 2"},
         // the document's end is not among those of generation
         {"{\"eos_token\": \"<|endoftext|>\"}", "", "{\"eos_token_id\": 1010}", "", 1008, -1, 1011, "1010 1008",
          "generation_config.json ends a text with token 1010 (\"<|im_end|>\"), the tokenizer with 1008"},
         {"{\"add_bos_token\": false, \"add_eos_token\": null, \"add_prefix_space\": false, \"tokenizer_class\": "
          "\"PreTrainedTokenizerFast\", \"added_tokens_decoder\": {\"1008\": {\"content\": \"<|endoftext|>\"}}}",
          "", "", "", 1008, -1, 1011, "1008", ""}};
    Error err;
    Tokenizer tok;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const TestTokenizerFolder *c = &cases[i];
        Path folder = test_tokenizer_folder_of("ends", c), path = path_of("%s/tokenizer.json", folder.text);
        bool ok = tokenizer_open(&tok, path.text, &err);
        CHECK(ok, "case %zu: %s", i, ok ? "" : err.text);
        if (!ok) continue;
        char stops[200] = "";
        for (int k = 0; k < tok.stop_count; k++)
            snprintf(stops + strlen(stops), sizeof stops - strlen(stops), "%s%d", k ? " " : "", tok.stops[k]);
        CHECK(tok.eot == c->eot && tok.bos_named == c->bos && tok.pad == c->pad && strcmp(stops, c->stops) == 0,
              "case %zu: end %d, begin %d, padding %d, stops %s", i, tok.eot, tok.bos_named, tok.pad, stops);
        CHECK(*c->note ? strstr(tok.note.text, c->note) != NULL : !tok.note.text[0], "case %zu: the line is \"%s\"", i,
              tok.note.text);
        tokenizer_free(&tok);
        // Beside a file of another name they are somebody else's.
        Path other = path_of("%s/other.json", folder.text);
        CHECK(rename(path.text, other.text) == 0 && tokenizer_open(&tok, other.text, &err) && tok.eot == 1008 &&
                  tok.stop_count == 1,
              "case %zu: files beside other.json", i);
        tokenizer_free(&tok);
    }
}

// A tokenizer that puts a token in front of texts, and a config.json that names another one.
static void test_tokenizer_begins(void) {
    static const TestTokenizerFolder files = {"", "", "", "{\"bos_token_id\": 1008}", 0, 0, 0, "", ""};
    Error err;
    Tokenizer tok;
    Str text;
    memset(&text, 0, sizeof text);
    Path folder = test_tokenizer_folder_of("begins", &files), path = path_of("%s/tokenizer.json", folder.text);
    CHECK(file_read(&text, path.text, (size_t)1 << 20, &err), "%s", err.text);
    Str begins = test_tokenizer_changed(&text, "\"post_processor\": null",
                                        TEST_TEMPLATE(TEST_TOKEN("<|im_start|>") ", " TEST_TEXT));
    test_tokenizer_put(folder.text, "tokenizer.json", begins.data);
    bool ok = tokenizer_open(&tok, path.text, &err);
    CHECK(ok && tok.bos == 1009 && tok.bos_named == 1009 &&
              strstr(tok.note.text, "begins a text with token 1008 (\"<|endoftext|>\"), tokenizer.json with 1009"),
          "%s", ok ? tok.note.text : err.text);
    if (ok) tokenizer_free(&tok);
    test_tokenizer_put(folder.text, "tokenizer_config.json",
                       "{\"add_bos_token\": true, \"bos_token\": \"<|im_start|>\"}");
    test_tokenizer_put(folder.text, "config.json", "{\"bos_token_id\": 1009}");
    ok = tokenizer_open(&tok, path.text, &err);
    CHECK(ok && !tok.note.text[0], "%s", ok ? tok.note.text : err.text);
    if (ok) tokenizer_free(&tok);
    test_tokenizer_put(folder.text, "tokenizer_config.json", "{\"bos_token\": \"<|endoftext|>\"}");
    CHECK_ERROR(tokenizer_open(&tok, path.text, &err), "puts <|im_start|> in front of every text");
    test_tokenizer_put(folder.text, "tokenizer_config.json", "{\"add_bos_token\": false}");
    CHECK_ERROR(tokenizer_open(&tok, path.text, &err), "\"add_bos_token\" is false, but");
    free(begins.data);
    free(text.data);
}

static void test_tokenizer_folder_refused(void) {
    static const struct {
        const char *file, *text, *part;
    } cases[] =
        {{"tokenizer_config.json", "{\"eos_token\": \"<eos>\"}", "<eos>, which tokenizer.json has not"},
         {"tokenizer_config.json", "{\"bos_token\": \"<s>\"}", "<s>, which tokenizer.json has not"},
         {"tokenizer_config.json", "{\"pad_token\": \"[PAD]\"}", "[PAD], which tokenizer.json has not"},
         {"tokenizer_config.json", "{\"unk_token\": {\"content\": \"<unk>\"}}", "<unk>, which tokenizer.json has not"},
         {"tokenizer_config.json", "{\"additional_special_tokens\": [\"<|im_end|>\", \"<|x|>\"]}",
          "<|x|>, which tokenizer.json has not"},
         {"tokenizer_config.json", "{\"extra_special_tokens\": {\"image\": \"<|y|>\"}}",
          "<|y|>, which tokenizer.json has not"},
         {"tokenizer_config.json", "{\"eos_token\": 5}", "\"eos_token\" must be the name"},
         {"tokenizer_config.json", "{\"eos_token\": {\"id\": 5}}", "\"eos_token\" must be the name"},
         {"tokenizer_config.json", "{\"add_bos_token\": true}", "\"add_bos_token\" is true, but"},
         {"tokenizer_config.json", "{\"add_eos_token\": true}", "\"add_eos_token\" is true, but"},
         {"tokenizer_config.json", "{\"add_bos_token\": \"false\"}", "must be true or false"},
         {"tokenizer_config.json", "{\"add_prefix_space\": true}", "add_prefix_space"},
         {"tokenizer_config.json", "{\"tokenizer_class\": \"GPT2TokenizerFast\"}", "by its own rule"},
         {"tokenizer_config.json", "{\"tokenizer_class\": \"Qwen2Tokenizer\"}", "by its own rule"},
         {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"1008\": {\"content\": \"<eos>\"}}}", "<eos>"},
         {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"2000\": {\"content\": \"<|im_end|>\"}}}", "2000"},
         {"tokenizer_config.json", "{\"added_tokens_decoder\": []}", "must be an object"},
         {"tokenizer_config.json", "{\"chat_template\": 5}", "\"chat_template\" must be"},
         {"tokenizer_config.json", "{\"chat_template\": [{\"name\": \"default\"}]}", "\"chat_template\" must be"},
         {"tokenizer_config.json", "{\"chat_template\": \"a\\u0000b\"}", "\"chat_template\" must be"},
         {"tokenizer_config.json", "{\"eos_token\": \"<|im_end|>\", \"eos_token\": null}", "stands there twice"},
         {"tokenizer_config.json", "[]", "expected an object"},
         {"tokenizer_config.json", "{", "not JSON"},
         {"special_tokens_map.json", "{\"eos_token\": \"<eos>\"}", "<eos>, which tokenizer.json has not"},
         {"special_tokens_map.json", "{\"pad_token\": \"<|im_end|>\"}", "make them the same"},
         {"generation_config.json", "{\"eos_token_id\": \"1010\"}", "must be the id"},
         {"generation_config.json", "{\"eos_token_id\": [1010, -1]}", "must be the id"},
         {"generation_config.json", "{\"eos_token_id\": 1010.0}", "must be the id"},
         {"config.json", "{\"bos_token_id\": true}", "\"bos_token_id\" must be the id"},
         {"config.json", "{\"eos_token_id\": {\"a\": 1}}", "must be the id"},
         {"chat_template.jinja", "\xff", "UTF-8"}};
    static const TestTokenizerFolder plain = {"{\"pad_token\": \"<|pad|>\"}", "", "", "", 0, 0, 0, "", ""};
    Error err;
    Tokenizer tok;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Path folder = test_tokenizer_folder_of("refused", &plain), path = path_of("%s/tokenizer.json", folder.text);
        test_tokenizer_put(folder.text, cases[i].file, cases[i].text);
        CHECK_ERROR(tokenizer_open(&tok, path.text, &err), cases[i].part);
        CHECK_ERROR(tokenizer_open(&tok, path.text, &err), cases[i].file);
        test_tokenizer_put(folder.text, "chat_template.jinja", "");
    }
    // Not there is not the same as not to be read.
    Path folder = test_tokenizer_folder_of("refused", &plain), path = path_of("%s/tokenizer.json", folder.text),
         link = path_of("%s/generation_config.json", folder.text);
    CHECK(symlink("nowhere", link.text) == 0, "symlink: %s", strerror(errno));
    CHECK_ERROR(tokenizer_open(&tok, path.text, &err), "generation_config.json");
}

// --end_token, shards with an end of their own, and a model's folder that has the last word.
static void test_tokenizer_ends_chosen(void) {
    static const TestTokenizerFolder
        bare = {"", "", "", "", 0, 0, 0, "", ""},
        chat = {"{\"eos_token\": \"<|im_end|>\"}", "", "{\"eos_token_id\": [1010, 1008]}", "", 0, 0, 0, "", ""};
    Error err;
    Tokenizer tok, other;
    Path folder = test_tokenizer_folder_of("bare", &bare), said = test_tokenizer_folder_of("said", &chat),
         path = path_of("%s/tokenizer.json", folder.text);
    CHECK(tokenizer_open(&tok, path.text, &err), "%s", err.text);
    CHECK_ERROR(tokenizer_end_named(&tok, "<eos>", &err), "no token of this name");
    CHECK(tokenizer_end_named(&tok, "<|im_start|>", &err) && tok.eot == 1009 && tokenizer_stops(&tok, 1009) &&
              !tokenizer_stops(&tok, 1008),
          "an end that only a name suggests gives way to --end_token");
    CHECK(tokenizer_end_of_shards(&tok, -1, "s", &err) && tok.eot == 1009, "shards that name no end");
    CHECK(tokenizer_end_of_shards(&tok, 1010, "s", &err) && tok.eot == 1010 && tokenizer_stops(&tok, 1010),
          "an end that only a name suggests gives way to that of the shards");
    CHECK_ERROR(tokenizer_end_of_shards(&tok, 1009, "s", &err), "the documents of s end with token 1009");
    CHECK(tokenizer_of_model(&tok, said.text, &err) && tok.eot == 1010 && tokenizer_stops(&tok, 1008) &&
              tok.files[TOKENIZER_GENERATION].data && tokenizer_end_of_shards(&tok, 1008, "s", &err),
          "what a model's folder says counts: %s", err.text);
    CHECK_ERROR(tokenizer_end_named(&tok, "<|im_start|>", &err), "end a text with <|im_end|>");
    CHECK(tokenizer_end_named(&tok, "<|endoftext|>", &err) && tok.eot == 1008 && tok.stop_count == 2,
          "one of its ends");
    CHECK(tokenizer_of_model(&tok, folder.text, &err) && tok.eot == 1008 && !tok.files[TOKENIZER_GENERATION].data,
          "nothing of another folder stays");
    CHECK(tokenizer_open(&other, TOKENIZER_FIXTURES "gpt2.json", &err), "%s", err.text);
    CHECK_ERROR(tokenizer_of_model(&other, said.text, &err), "not the one that the model");
    bool same = true;
    CHECK(tokenizer_is_of(&same, other.hash, said.text, &err) && !same, "another tokenizer is called the same");
    CHECK(tokenizer_is_of(&same, tok.hash, said.text, &err) && same, "the same tokenizer is called another");
    CHECK(tokenizer_is_of(&same, 1, test_temp("no_such_folder").text, &err) && same,
          "a folder without a tokenizer has no other one");
    test_tokenizer_put(said.text, "tokenizer.json", "{}");
    CHECK_ERROR(tokenizer_is_of(&same, 1, said.text, &err), "not a tokenizer.json");
    tokenizer_free(&other);
    tokenizer_free(&tok);
}

static bool test_tokenizer_same_file(const char *a, const char *b, const char *name) {
    Error err;
    Str x, y;
    memset(&x, 0, sizeof x);
    memset(&y, 0, sizeof y);
    bool same = file_read(&x, path_of("%.2000s/%s", a, name).text, (size_t)1 << 20, &err) &&
                file_read(&y, path_of("%.2000s/%s", b, name).text, (size_t)1 << 20, &err) && x.size == y.size &&
                memcmp(x.data, y.data, x.size) == 0;
    free(x.data);
    free(y.data);
    return same;
}

// What was read is written as it was.
static void test_tokenizer_kept(void) {
    static const TestTokenizerFolder chat =
        {"{\"eos_token\": \"<|im_end|>\",   \"chat_template\": [{\"name\": \"default\", \"template\": \"A\"}, "
         "{\"name\": \"tool\", "
         "\"template\": \"B\\n\"}]}",
         "{ \"eos_token\": \"<|im_end|>\"}",
         "{\"temperature\": 0.6, \"x\": [null, {\"a\": true}], \"eos_token_id\": null}",
         "{\"eos_token_id\": [1010, 1008], \"bos_token_id\": null}",
         0,
         0,
         0,
         "",
         ""};
    static const char *const kept[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                       "chat_template.jinja"};
    Error err;
    Tokenizer tok;
    Path from = test_tokenizer_folder_of("kept", &chat), to = test_temp("written"),
         path = path_of("%s/tokenizer.json", from.text);
    StrList names, texts;
    memset(&names, 0, sizeof names);
    memset(&texts, 0, sizeof texts);
    CHECK(path_make_folder(to.text, &err) && tokenizer_open(&tok, path.text, &err), "%s", err.text);
    CHECK(tokenizer_chat_templates(&names, &texts, &tok, &err) && names.count == 2 &&
              strcmp(names.items[1], "tool") == 0 && strcmp(texts.items[0], "A") == 0 &&
              strcmp(texts.items[1], "B\n") == 0,
          "%d chat templates", names.count);
    tokenizer_free(&tok);
    test_tokenizer_put(from.text, "chat_template.jinja", "ä\n");
    str_list_free(&names);
    str_list_free(&texts);
    CHECK(tokenizer_open(&tok, path.text, &err) && tokenizer_write_folder(&tok, to.text, 512, NULL, &err), "%s",
          err.text);
    CHECK(tokenizer_chat_templates(&names, &texts, &tok, &err) && names.count == 1 &&
              strcmp(texts.items[0], "ä\n") == 0,
          "chat_template.jinja does not go before tokenizer_config.json");
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        CHECK(test_tokenizer_same_file(from.text, to.text, kept[i]), "%s is not as it was", kept[i]);
    CHECK(strcmp(tok.model_ids.data, "  \"bos_token_id\": null,\n  \"eos_token_id\": [1010, 1008],\n") == 0,
          "the lines of config.json are %s", tok.model_ids.data);
    Str generation;
    memset(&generation, 0, sizeof generation);
    CHECK(tokenizer_generation_config(&generation, &tok) &&
              strcmp(generation.data, "{\n  \"eos_token_id\": [1010, 1008],\n  \"temperature\": 0.6,\n  \"x\": [null, "
                                      "{\"a\": true}]\n}\n") == 0,
          "generation_config.json without an end becomes %s", generation.data);
    free(generation.data);
    str_list_free(&names);
    str_list_free(&texts);
    tokenizer_free(&tok);
}

static void test_tokenizer_folder(void) {
    test_tokenizer_ends_said();
    test_tokenizer_begins();
    test_tokenizer_folder_refused();
    test_tokenizer_ends_chosen();
    test_tokenizer_kept();
}

static void test_tokenizer(void) {
    Error err;
    JsonDoc doc;
    Json *root = json_load(&doc, TOKENIZER_FIXTURES "expected.json", &err);
    CHECK(root, "%s", err.text);
    if (!root) return;
    test_tokenizer_utf8();
    test_tokenizer_windows();
    test_bpe_long_words();
    test_tokenizer_nfc(root);
    test_tokenizer_splits(root);
    for (const Json *of = json_get(root, "tokenizers")->child; of; of = of->next) {
        Tokenizer tok;
        TokenizerCache cache;
        memset(&cache, 0, sizeof cache);
        Path path = path_of(TOKENIZER_FIXTURES "%s.json", of->key);
        bool ok = tokenizer_load(&tok, path.text, &err);
        CHECK(ok, "%s", err.text);
        if (!ok) continue;
        CHECK(tok.eot == json_integer(json_get(of, "eot"), -2) && tok.bos == json_integer(json_get(of, "bos"), -2) &&
                  tok.vocab_size == json_integer(json_get(of, "vocab_size"), 0),
              "%s: end of text %d, begin of text %d, vocabulary %d", of->key, tok.eot, tok.bos, tok.vocab_size);
        test_tokenizer_expected(root, of, &tok, &cache);
        tokenizer_cache_free(&cache);
        tokenizer_free(&tok);
    }
    json_free(&doc);
    test_tokenizer_training();
    test_tokenizer_foreign();
    test_tokenizer_many_added();
    test_tokenizer_folder();
}

#endif
