/*
tokenizer_test.h: Unicode, split patterns, encoding, training, tokenizer.json.

  expected ids     from Hugging Face tokenizers (dev/test/fixtures/tokenizer, whose README.md says how)
  plain versions   of what is fast or clever here: UTF-8 by the table of the standard, merging by the
                   definition, with and without cache, short and long
  bad input        every change to a tokenizer.json that would change ids is refused by name
*/
#ifndef TOKENIZER_TEST_H
#define TOKENIZER_TEST_H

#include "../../llmc/text/bpe.h"
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
            size_t cut = text_safe_cut(text->text, text->size, text->size / 3);
            for (p = (const uint8_t *)text->text; p < (const uint8_t *)text->text + cut;)
                p = text_split((TextPattern)pattern, p, end);
            CHECK(p == (const uint8_t *)text->text + cut, "%s, text %d: a pre-token reaches over the cut at byte %zu",
                  info.name, index, cut);
        }
        CHECK(index > 100, "%s: %d texts", info.name, index);
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

static void test_tokenizer_training(void) {
    Error err;
    Tokenizer tok, kept, again;
    BpeStats stats;
    Str text;
    memset(&text, 0, sizeof text);
    test_tokenizer_text(&text, 200000);
    bool ok = bpe_train_text(&tok, text.data, text.size, 1000, &stats, &err); // rounded up to 1024
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
    StrList files;
    memset(&files, 0, sizeof files);
    Str large;
    memset(&large, 0, sizeof large);
    for (int i = 0; i < 3; i++) {
        Path p = test_temp(i == 0 ? "bpe0.txt" : i == 1 ? "bpe1.txt" : "bpe2.txt");
        Str part;
        memset(&part, 0, sizeof part);
        for (int k = 0; k <= i * 5; k++)
            str_add(&part, text.data, text_safe_cut(text.data, text.size, text.size - 100));
        CHECK(file_write_all(p.text, part.data, part.size, &err), "%s", err.text);
        str_list_add(&files, p.text);
        str_add(&large, part.data, part.size);
        free(part.data);
    }
    BpeWords whole, chunks;
    bpe_words_open(&whole);
    bpe_words_open(&chunks);
    bpe_words_count(&whole, large.data, large.size);
    bpe_words_count_parallel(&chunks, large.data, large.size);
    CHECK(large.size > 3 * BPE_CHUNK && whole.pretokens == chunks.pretokens && whole.used == chunks.used,
          "%lld pre-tokens, %lld in chunks", (long long)whole.pretokens, (long long)chunks.pretokens);
    bpe_words_free(&whole);
    bpe_words_free(&chunks);
    Tokenizer from_files;
    memset(&from_files, 0, sizeof from_files);
    memset(&again, 0, sizeof again);
    ok = bpe_train(&from_files, &files, 1024, &stats, &err) &&
         bpe_train_text(&again, large.data, large.size, 1024, NULL, &err);
    CHECK(ok, "%s", err.text);
    CHECK(stats.bytes == (int64_t)large.size && stats.invalid_bytes == 0 && stats.merges == 752,
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
    str_list_free(&files);

    // Bytes that are not UTF-8 are left out of training and counted.
    str_puts(&text, "\xff\xfe\x80");
    ok = bpe_train_text(&tok, text.data, text.size, 1024, &stats, &err);
    CHECK(ok && stats.invalid_bytes == 3, "%lld invalid bytes", (long long)stats.invalid_bytes);
    tokenizer_free(&tok);
    free(text.data);

    CHECK_ERROR(bpe_train_text(&tok, "", 0, 1024, NULL, &err), "the corpus is empty");
    CHECK_ERROR(bpe_train_text(&tok, "ein kurzer Text, ein kurzer Text", 32, 8192, NULL, &err), "too little text");
    CHECK_ERROR(bpe_train_text(&tok, "abc", 3, 100, NULL, &err), "--vocab_size=100");
    memset(&text, 0, sizeof text);
    test_tokenizer_text(&text, 20000);
    CHECK_ERROR(bpe_train_text(&tok, text.data, text.size, 60000, NULL, &err), "merges");
    CHECK_ERROR(bpe_train_text(&tok, text.data, text.size, 60000, NULL, &err), "--vocab_size=");
    free(text.data);
    memset(&files, 0, sizeof files);
    str_list_add(&files, test_temp("missing.txt").text);
    CHECK_ERROR(bpe_train(&tok, &files, 1024, NULL, &err), "missing.txt");
    str_list_free(&files);
}

// ---------------------------------------------------------------- files of others

// The text with the first `from` replaced; parsing it must fail with an error that holds `part`.
static void test_tokenizer_refused(const Str *text, const char *from, const char *to, const char *part) {
    Error err;
    Tokenizer tok;
    Str changed;
    memset(&changed, 0, sizeof changed);
    const char *at = strstr(text->data, from);
    CHECK(at != NULL, "\"%s\" is not in the fixture", from);
    if (!at) return;
    str_add(&changed, text->data, (size_t)(at - text->data));
    str_puts(&changed, to);
    str_puts(&changed, at + strlen(from));
    CHECK_ERROR(tokenizer_parse(&tok, changed.data, changed.size, &err), part);
    free(changed.data);
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
         {"{\n", "[\n", "JSON"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        test_tokenizer_refused(&text, refused[i][0], refused[i][1], refused[i][2]);
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

static void test_tokenizer(void) {
    Error err;
    JsonDoc doc;
    Json *root = json_load(&doc, TOKENIZER_FIXTURES "expected.json", &err);
    CHECK(root, "%s", err.text);
    if (!root) return;
    test_tokenizer_utf8();
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
}

#endif
