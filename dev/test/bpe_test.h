/*
bpe_test.h: training a tokenizer: hostile text by the work that it costs, the settings, any bytes there and back. That
the merges are those of the definition: tokenizer_test.h.
*/
#ifndef LLMC_BPE_TEST_H
#define LLMC_BPE_TEST_H

#include "../../llmc/text/bpe.h"
#include "check.h"

typedef enum { BPE_ONE_WORD, BPE_DISTINCT, BPE_ONE_LETTER, BPE_ACCENTS, BPE_SPACES, BPE_FORMS } BpeForm;

// n bytes of text that nobody writes.
static Str test_bpe_hostile(BpeForm form, size_t n) {
    Str s;
    uint64_t state = 3;
    memset(&s, 0, sizeof s);
    while (s.size < n) {
        uint32_t r = test_tokenizer_random(&state);
        if (form == BPE_ONE_LETTER) str_puts(&s, "a");
        else if (form == BPE_SPACES) str_puts(&s, r % 5 ? " " : "\t");
        else if (form == BPE_ACCENTS) str_printf(&s, "%c%c", 0xc3 + r % 3, 0x80 + r / 3 % 64);
        else {
            str_printf(&s, "%c", 'a' + r % 26);
            if (form == BPE_DISTINCT && s.size % 10 == 9) str_puts(&s, " ");
        }
    }
    return s;
}

// What training costs grows as the text does, and stays near what it is in other text. Bounds, by byte: a merge reads
// the block that it changes, of BPE_BLOCK symbols at most; a text of random letters becomes tokens of two to three
// letters, so about half of its bytes are merged away, each for half a block of symbols and four pairs. Reading whole
// words of BPE_MAX_WORD bytes costs hundreds.
static void test_bpe_work(void) {
    Error err;
    for (int form = 0; form < BPE_FORMS; form++) {
        int64_t work[2] = {0, 0};
        for (int twice = 0; twice < 2; twice++) {
            const size_t n = (size_t)400000 << twice;
            Str s = test_bpe_hostile((BpeForm)form, n);
            BpeSettings settings = bpe_settings(1024);
            BpeStats stats;
            Tokenizer tok;
            memset(&stats, 0, sizeof stats);
            if (bpe_train_text(&tok, s.data, s.size, &settings, &stats, &err)) tokenizer_free(&tok);
            work[twice] = stats.work;
            CHECK(stats.merges > 5, "form %d: %d merges", form, stats.merges);
            CHECK(stats.work <= 20 * (int64_t)s.size, "form %d: %lld of work on %zu bytes", form, (long long)stats.work,
                  s.size);
            free(s.data);
        }
        CHECK(work[1] <= 5 * work[0] / 2, "form %d: twice the text takes %lld of work, once %lld", form,
              (long long)work[1], (long long)work[0]);
    }
}

// Pairs that occur too rarely to be merged are not kept: of distinct words nearly all.
static void test_bpe_kept(void) {
    Str s = test_bpe_hostile(BPE_DISTINCT, 400000);
    int32_t byte_ids[256];
    size_t pairs[2];
    for (int rare = 0; rare < 2; rare++) {
        BpeVocab v;
        BpeWords words;
        BpeTrainer t;
        memset(&v, 0, sizeof v);
        v.offsets = (size_t *)mem_alloc(3000 * sizeof(size_t));
        bpe_alphabet(&v, byte_ids);
        bpe_words_open(&words, TEXT_LLAMA3);
        bpe_words_count(&words, s.data, s.size);
        bpe_trainer_open(&t, &words, byte_ids, 2048, rare ? 1 : 40);
        bpe_merge(&t, &v, 900);
        int below = 0;
        for (size_t i = 0; i < t.pair_count; i++) below += t.pairs[i].count < 0;
        CHECK(v.count == 900 && below == 0, "%d tokens, %d pairs occur less than never", v.count, below);
        pairs[rare] = t.pair_count;
        bpe_trainer_free(&t);
        bpe_words_free(&words);
        free(v.merges), free(v.bytes.data), free(v.offsets);
    }
    CHECK(10 * pairs[0] < pairs[1], "%zu pairs are kept, of %zu", pairs[0], pairs[1]);
    free(s.data);
}

// ---------------------------------------------------------------- settings

// Words whose pairs occur once, twice and three times: so many merges each.
static void test_bpe_frequency(void) {
    static const char text[] = "aa bb bb cc cc cc"; // "aa", " bb", " cc": 1 pair once, 2 pairs twice, 2 three times
    const char *const said[] = {"only 5 merges of pairs that occur at least 1 times",
                                "only 4 merges of pairs that occur at least 2 times",
                                "only 2 merges of pairs that occur at least 3 times",
                                "only 0 merges of pairs that occur at least 4 times"};
    for (int least = 1; least <= 4; least++) {
        Error err;
        Tokenizer tok;
        BpeSettings s = bpe_settings(512);
        s.min_frequency = least;
        CHECK_ERROR(bpe_train_text(&tok, text, sizeof text - 1, &s, NULL, &err), said[least - 1]);
    }
}

static void test_bpe_digits(const Str *text) {
    for (int pattern = TEXT_LLAMA3; pattern <= TEXT_QWEN2; pattern++) {
        Error err;
        Tokenizer tok;
        IdList ids;
        BpeSettings s = bpe_settings(640);
        memset(&ids, 0, sizeof ids);
        s.pattern = (TextPattern)pattern;
        bool ok = bpe_train_text(&tok, text->data, text->size, &s, NULL, &err);
        CHECK(ok, "%s", err.text);
        if (!ok) continue;
        int together = 0;
        for (int id = 0; id < tok.vocab_size; id++) {
            int n;
            const uint8_t *p = tokenizer_bytes(&tok, id, &n);
            for (int k = 0; k + 1 < n; k++) together += check_is_digit(p[k]) && check_is_digit(p[k + 1]);
        }
        CHECK((together > 0) == (pattern == TEXT_LLAMA3), "%s: %d tokens of several digits",
              text_pattern((TextPattern)pattern).name, together);
        CHECK(tok.pattern == (TextPattern)pattern, "the file asks for %s", text_pattern(tok.pattern).name);
        tokenizer_encode(&tok, NULL, "1999", 4, &ids);
        CHECK(pattern == TEXT_QWEN2 ? ids.count == 4 : ids.count < 4, "1999 is %zu tokens", ids.count);
        free(ids.items);
        tokenizer_free(&tok);
    }
}

static void test_bpe_special(const Str *text) {
    Error err;
    Tokenizer tok;
    IdList ids;
    BpeSettings s = bpe_settings(512);
    memset(&ids, 0, sizeof ids);
    str_list_add(&s.special, "<|\"tool\\|>"); // what JSON escapes
    str_list_add(&s.special, "[MÄSK]");
    bool ok = bpe_train_text(&tok, text->data, text->size, &s, NULL, &err);
    CHECK(ok, "%s", err.text);
    if (ok) {
        CHECK(tokenizer_special(&tok, "<|\"tool\\|>") == tok.eot + 4 &&
                  tokenizer_special(&tok, "[MÄSK]") == tok.eot + 5 &&
                  tokenizer_special(&tok, "<|reserved_0|>") == tok.eot + 6 &&
                  tokenizer_special(&tok, "<|reserved_9|>") == 511,
              "the special tokens are not where they should be");
        tokenizer_encode(&tok, NULL, "[MÄSK]<|\"tool\\|>", 17, &ids);
        for (size_t i = 0; i < ids.count; i++)
            CHECK(tokenizer_kind(&tok, ids.items[i]) == TOKEN_NORMAL, "plain text became the token %d", ids.items[i]);
        tokenizer_free(&tok);
    }
    free(ids.items);
    str_list_free(&s.special);
    // More than the reserved ones: the merges are fewer.
    for (int i = 0; i < 40; i++) str_list_add(&s.special, path_of("<t%d>", i).text);
    ok = bpe_train_text(&tok, text->data, text->size, &s, NULL, &err);
    CHECK(ok, "%s", err.text);
    if (ok) {
        CHECK(tok.vocab_size == 512 && tok.eot == 512 - 44 && tokenizer_special(&tok, "<t39>") == 511,
              "vocabulary %d, end %d", tok.vocab_size, tok.eot);
        tokenizer_free(&tok);
    }
    str_list_free(&s.special);
    static const char *const bad[][2] = {{"<|endoftext|>", "there is a special token of this name already"},
                                         {"<|reserved_3|>", "there is a special token of this name already"},
                                         {"und", "expected a name in angle or square brackets"},
                                         {"<>", "expected a name in angle or square brackets"},
                                         {"<a b>", "without blanks"},
                                         {"<a\xc2\xa0>", "without blanks"},
                                         {"<\xff>", "expected a name in angle or square brackets"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        str_list_add(&s.special, bad[i][0]);
        CHECK_ERROR(bpe_train_text(&tok, text->data, text->size, &s, NULL, &err), bad[i][1]);
        str_list_free(&s.special);
    }
    for (int i = 0; i < 300; i++) str_list_add(&s.special, path_of("<t%d>", i).text);
    CHECK_ERROR(bpe_train_text(&tok, text->data, text->size, &s, NULL, &err),
                "has no room for 256 bytes and 304 special");
    str_list_free(&s.special);
}

// ---------------------------------------------------------------- any bytes

static bool test_bpe_back(const Tokenizer *tok, TokenizerCache *cache, IdList *ids, Str *back, const uint8_t *p,
                          size_t n) {
    ids->count = back->size = 0;
    tokenizer_encode(tok, cache, (const char *)p, n, ids);
    tokenizer_decode(tok, ids->items, ids->count, back);
    for (size_t i = 0; i < ids->count; i++)
        if (tokenizer_kind(tok, ids->items[i]) != TOKEN_NORMAL) return false;
    return back->size == n && (n == 0 || memcmp(back->data, p, n) == 0);
}

// Every string of one and two bytes, and many longer ones.
static void test_bpe_any_bytes(const Str *text) {
    for (int pattern = TEXT_LLAMA3; pattern <= TEXT_QWEN2; pattern++) {
        Error err;
        Tokenizer tok;
        TokenizerCache cache;
        IdList ids;
        Str back;
        uint64_t state = 9;
        uint8_t bytes[200];
        int wrong = 0;
        BpeSettings s = bpe_settings(1024);
        s.pattern = (TextPattern)pattern;
        memset(&cache, 0, sizeof cache), memset(&ids, 0, sizeof ids), memset(&back, 0, sizeof back);
        bool ok = bpe_train_text(&tok, text->data, text->size, &s, NULL, &err);
        CHECK(ok, "%s", err.text);
        if (!ok) continue;
        wrong += !test_bpe_back(&tok, &cache, &ids, &back, bytes, 0);
        for (int i = 0; i < 65536 + 256; i++) {
            bytes[0] = (uint8_t)i, bytes[1] = (uint8_t)(i >> 8);
            wrong += !test_bpe_back(&tok, &cache, &ids, &back, bytes, i < 256 ? 1 : 2);
        }
        for (int i = 0; i < 50000; i++) {
            static const char often[] = "aeEN 019.\n\r\t<|>\xc3\xa4\xe2\x80\xf0\xff";
            size_t n = 3 + test_tokenizer_random(&state) % (i % 50 ? 20 : sizeof bytes - 3);
            for (size_t k = 0; k < n; k++) {
                uint32_t r = test_tokenizer_random(&state);
                bytes[k] = (uint8_t)(r % 4 ? (uint8_t)often[r / 4 % (sizeof often - 1)] : r >> 8);
            }
            wrong += !test_bpe_back(&tok, &cache, &ids, &back, bytes, n);
        }
        CHECK(wrong == 0, "%s: %d of the strings come back as others", text_pattern((TextPattern)pattern).name, wrong);
        tokenizer_cache_free(&cache);
        tokenizer_free(&tok);
        free(ids.items), free(back.data);
    }
}

static void test_bpe_training(void) {
    Str text;
    memset(&text, 0, sizeof text);
    test_tokenizer_text(&text, 100000);
    for (int i = 0; i < 400; i++) str_printf(&text, " %d 1999 2024", i * 7919);
    test_bpe_work();
    test_bpe_kept();
    test_bpe_frequency();
    test_bpe_digits(&text);
    test_bpe_special(&text);
    test_bpe_any_bytes(&text);
    free(text.data);
}

#endif
