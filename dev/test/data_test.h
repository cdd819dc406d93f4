/*
data_test.h: shards, datasets, the order of data, and the way from text files to shards.

The tokenizer here is made by the test: the 256 bytes, three merges and the end of text; what encoding
gives is tested elsewhere. What documents should be found is written out by hand for each way of
splitting. The numbers of test_permutation() are frozen: a change would give every resumed run other data.
*/
#ifndef DATA_TEST_H
#define DATA_TEST_H

#include "../../llmc/text/source.h"
#include "../../llmc/text/tokenize.h"
#include "check.h"
#include "files_test.h"

// ---------------------------------------------------------------- order

static void test_permutation(void) {
    static const int64_t sizes[] = {1, 2, 3, 5, 7, 100, 1023, 1024, 1025, 4097, 100003};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (uint64_t seed = 0; seed < 2; seed++) {
            int64_t n = sizes[k], wrong = 0;
            char *seen = (char *)mem_alloc((size_t)n);
            for (int64_t i = 0; i < n; i++) {
                int64_t x = permutation(seed, 3 * seed, n, i);
                if (x < 0 || x >= n || seen[x]++) wrong++;
            }
            CHECK(wrong == 0, "permutation of %lld: %lld places wrong", (long long)n, (long long)wrong);
            free(seen);
        }
    static const int64_t frozen[8] = {342985,       227600,       226477,       466527,
                                      188165326466, 574581701760, 693533501970, 1062535291805};
    for (int i = 0; i < 4; i++) {
        CHECK(permutation(1337, 0, 1000000, i) == frozen[i], "permutation(1337, 0, 1000000, %d) is %lld", i,
              (long long)permutation(1337, 0, 1000000, i));
        CHECK(permutation(1337, 1, (int64_t)1 << 40, i) == frozen[4 + i], "permutation(1337, 1, 2^40, %d) is %lld", i,
              (long long)permutation(1337, 1, (int64_t)1 << 40, i));
    }
    // All 24 orders of 4 places come about equally often over epochs and over seeds: chi square with 23
    // degrees of freedom exceeds 50 once in a thousand tries of a fair source.
    for (int over = 0; over < 2; over++) {
        int count[24] = {0};
        double chi = 0;
        for (uint64_t s = 0; s < 4800; s++) {
            int64_t p[4];
            int rank = 0;
            for (int i = 0; i < 4; i++) p[i] = permutation(over ? 5 : s, over ? s : 5, 4, i);
            for (int i = 0; i < 4; i++) {
                int smaller = 0;
                for (int j = i + 1; j < 4; j++) smaller += p[j] < p[i];
                rank = rank * (4 - i) + smaller;
            }
            count[rank]++;
        }
        for (int i = 0; i < 24; i++) chi += (count[i] - 200.0) * (count[i] - 200.0) / 200.0;
        CHECK(chi < 50, "orders of 4 places are not equally frequent: chi square %.1f", chi);
    }
}

// ---------------------------------------------------------------- shards

// Token i of the made-up data.
static int32_t shard_test_token(int64_t i, int64_t vocab_size) {
    return (int32_t)(permutation_mix((uint64_t)i) % (uint64_t)vocab_size);
}

static bool shard_test_write(const char *name, int64_t tokens, int64_t limit, int64_t vocab_size, uint64_t hash,
                             Error *err) {
    ShardSet set;
    ShardWriter w;
    if (!shard_set_open(&set, test_temp(name).text, err)) return false;
    shardwriter_open(&w, &set, SIDE_TRAIN, vocab_size, hash, 7, limit);
    for (int64_t at = 0, n; at < tokens; at += n) {
        int32_t ids[700];
        n = int64_min(int64_min(700, tokens - at), shardwriter_room(&w));
        for (int64_t i = 0; i < n; i++) ids[i] = shard_test_token(at + i, vocab_size);
        shardwriter_add(&w, ids, n, 3 * n, 1);
    }
    bool ok = shards_finish(&w, 1, err) && shards_commit(&set, &w, 1, err);
    shards_abort(&set, &w, 1);
    return ok;
}

// A source's batches are the data set's sequences, in its own order and in that of every epoch, whatever their size.
static void source_test(const Dataset *d) {
    Error err;
    int T = d->seq_len, wrong = 0;
    int32_t *inputs = (int32_t *)mem_alloc(sizeof(int32_t) * 4 * (size_t)T),
            *targets = (int32_t *)mem_alloc(sizeof(int32_t) * 4 * (size_t)T),
            *one = (int32_t *)mem_alloc(sizeof(int32_t) * 2 * (size_t)T);
    for (int permuted = 0; permuted < 2; permuted++) {
        BatchSource s = source_of_dataset(d, permuted, 11);
        CHECK(s.sequences == d->sequences && s.seq_len == T && s.fingerprint == d->fingerprint, "what the source is");
        for (int B = 1; B <= 4; B += 3)
            for (int64_t p = 0; p + B <= (permuted ? 2 : 1) * d->sequences; p += B) {
                CHECK(s.next(&s, p, B, inputs, targets, &err), "%s", err.text);
                for (int b = 0; b < B; b++) {
                    int64_t index = permuted ? dataset_index(d, 11, p + b) : p + b;
                    CHECK(dataset_sequence(d, index, one, one + T, &err), "%s", err.text);
                    wrong += memcmp(one, inputs + b * T, sizeof(int32_t) * (size_t)T) != 0 ||
                             memcmp(one + T, targets + b * T, sizeof(int32_t) * (size_t)T) != 0;
                }
            }
    }
    BatchSource s = source_of_dataset(d, false, 0);
    CHECK(wrong == 0, "%d sequences are not those of the data set", wrong);
    CHECK_ERROR(s.next(&s, d->sequences - 1, 2, inputs, targets, &err), "was asked for");
    free(inputs);
    free(targets);
    free(one);
}

static void test_shards(void) {
    Error err;
    Dataset d;
    int64_t read;
    int32_t inputs[64], targets[64];
    // Width, and whether sequences fit: 2500 tokens in shards of 1000, 1000 and 500, T = 33.
    for (int wide = 0; wide < 2; wide++) {
        int64_t vocab = wide ? 70000 : 65536;
        const char *name = wide ? "wide" : "narrow";
        CHECK(shard_test_write(name, 2500, 1000, vocab, 42, &err), "%s", err.text);
        Path glob = test_temp(wide ? "wide_*.bin" : "narrow_*.bin");
        CHECK(dataset_open(&d, glob.text, 33, &err), "%s", err.text);
        CHECK(d.count == 3 && d.tokens == 2500 && d.bytes == 7500 && d.documents == 5 && d.vocab_size == vocab &&
                  d.tokenizer_hash == 42,
              "totals of the data");
        CHECK(d.shards[0].header.token_bytes == (wide ? 4u : 2u) && d.shards[0].header.eot == 7, "width of a token");
        CHECK(d.sequences == 999 / 33 + 999 / 33 + 499 / 33, "%lld sequences", (long long)d.sequences);
        CHECK(dataset_verify(&d, 0, 1, true, &read, &err) && read == 2500 * (wide ? 4 : 2) + 3 * 1024, "%s", err.text);
        int wrong = 0;
        for (int64_t s = 0; s < d.sequences; s++) {
            int64_t at = s < 30 ? s * 33 : s < 60 ? 1000 + (s - 30) * 33 : 2000 + (s - 60) * 33;
            CHECK(dataset_sequence(&d, s, inputs, targets, &err), "%s", err.text);
            for (int t = 0; t < 33; t++)
                wrong +=
                    inputs[t] != shard_test_token(at + t, vocab) || targets[t] != shard_test_token(at + t + 1, vocab);
        }
        CHECK(wrong == 0, "%d tokens came back differently", wrong);
        CHECK_ERROR(dataset_sequence(&d, d.sequences, inputs, targets, &err), "sequence 75");
        CHECK_ERROR(dataset_sequence(&d, -1, inputs, targets, &err), "sequence -1");
        for (int64_t p = 0; p < d.sequences; p++)
            wrong += dataset_index(&d, 1, p + 2 * d.sequences) != permutation(1, 2, d.sequences, p);
        CHECK(wrong == 0, "order of the third epoch");
        source_test(&d);
        uint64_t fingerprint = d.fingerprint;
        dataset_close(&d);
        CHECK_ERROR(dataset_open(&d, glob.text, 1000, &err), "1001");
        CHECK(dataset_open(&d, glob.text, 999, &err) && d.sequences == 2 && d.fingerprint == fingerprint,
              "a sequence may fill a shard");
        dataset_close(&d);
    }

    // Shards too short for a sequence, before, between and after others.
    CHECK(shard_test_write("long", 100, 1000, 500, 1, &err) && shard_test_write("short", 5, 1000, 500, 1, &err), "%s",
          err.text);
    Path a = test_temp("long_train_00000.bin"), b = test_temp("short_train_00000.bin");
    Path list = path_of("%.700s,%.700s,%.700s,%.700s,%.700s", b.text, a.text, b.text, a.text, b.text);
    CHECK(dataset_open(&d, list.text, 10, &err) && d.sequences == 18, "%lld sequences: %s", (long long)d.sequences,
          err.text);
    for (int s = 0; s < 18; s++)
        CHECK(dataset_sequence(&d, s, inputs, targets, &err) && inputs[0] == shard_test_token(s % 9 * 10, 500),
              "sequence %d begins with %d", s, inputs[0]);
    uint64_t fingerprint = d.fingerprint;
    dataset_close(&d);
    list = path_of("%.700s,%.700s,%.700s,%.700s,%.700s", a.text, b.text, b.text, a.text, b.text);
    CHECK(dataset_open(&d, list.text, 10, &err) && d.fingerprint != fingerprint,
          "another order must have another fingerprint");
    dataset_close(&d);
    CHECK_ERROR(dataset_open(&d, b.text, 10, &err), "not enough data");
    CHECK_ERROR(dataset_open(&d, b.text, 0, &err), "seq_len");
    CHECK_ERROR(dataset_open(&d, test_temp("nothing_*.bin").text, 10, &err), "nothing_*.bin");

    // Another tokenizer, or another vocabulary.
    CHECK(shard_test_write("other", 100, 1000, 500, 2, &err) && shard_test_write("wider", 100, 1000, 501, 1, &err),
          "%s", err.text);
    list = path_of("%.1000s,%.1000s", a.text, test_temp("other_train_00000.bin").text);
    CHECK_ERROR(dataset_open(&d, list.text, 10, &err), "another tokenizer");
    list = path_of("%.1000s,%.1000s", a.text, test_temp("wider_train_00000.bin").text);
    CHECK_ERROR(dataset_open(&d, list.text, 10, &err), "another tokenizer");

    // Fewer and longer shards of a second run replace all of the first.
    CHECK(shard_test_write("again", 1000, 100, 500, 1, &err) && count_files(test_folder.text, "again_") == 10,
          "ten shards: %s", err.text);
    CHECK(file_write_all(test_temp("again_notes.bin").text, "x", 1, &err), "%s", err.text);
    CHECK(shard_test_write("again", 1000, 700, 500, 1, &err) && count_files(test_folder.text, "again_") == 3,
          "two shards and a file of another name: %s", err.text);
}

// Opens `size` bytes as a shard and reads it whole.
static bool shard_test_open(const void *bytes, size_t size, Error *err) {
    Path path = test_temp("damaged.bin");
    Dataset d;
    int32_t inputs[10], targets[10];
    int64_t read;
    if (!file_write_quickly(path.text, bytes, size, err) || !dataset_open(&d, path.text, 10, err)) return false;
    bool ok = true;
    for (int64_t s = 0; ok && s < d.sequences; s++) ok = dataset_sequence(&d, s, inputs, targets, err);
    ok = ok && dataset_verify(&d, 0, 1, true, &read, err);
    dataset_close(&d);
    return ok;
}

static void test_shard_damage(void) {
    Error err;
    MappedFile f;
    CHECK(shard_test_write("good", 200, 1000, 500, 1, &err) &&
              file_map(&f, test_temp("good_train_00000.bin").text, &err),
          "%s", err.text);
    size_t size = f.size;
    uint8_t *good = (uint8_t *)mem_alloc(size + 2), *bad = (uint8_t *)mem_alloc(size + 2);
    memcpy(good, f.data, size);
    file_unmap(&f);
    CHECK(size == 1024 + 400 && shard_test_open(good, size, &err), "%s", err.text);
    int accepted = 0;
    for (size_t n = 0; n < size; n += n < 1030 || n > size - 6 ? 1 : 37) accepted += shard_test_open(good, n, &err);
    CHECK(accepted == 0, "%d truncations were accepted", accepted);
    CHECK_ERROR(shard_test_open(good, size - 2, &err), "truncated");
    CHECK_ERROR(shard_test_open(good, size + 2, &err), "damaged");
    CHECK_ERROR(shard_test_open(good, 0, &err), "0 bytes");
    for (size_t at = 0; at < size; at += at < 80 || at > 1010 ? 1 : 13) { // one flipped bit anywhere
        memcpy(bad, good, size);
        bad[at] ^= 1 << at % 8;
        accepted += shard_test_open(bad, size, &err);
    }
    CHECK(accepted == 0, "%d flipped bits were accepted", accepted);
    CHECK_ERROR(shard_test_open("This is a text, and not a shard at all.", 39, &err), "39 bytes");
    memset(bad, 'x', size);
    CHECK_ERROR(shard_test_open(bad, size, &err), "verb tokenize");
    memcpy(bad, good, size);
    for (int i = 0; i < 4; i++) { // the first eight bytes turned round
        uint8_t kept = bad[i];
        bad[i] = bad[7 - i];
        bad[7 - i] = kept;
    }
    CHECK_ERROR(shard_test_open(bad, size, &err), "byte order");

    // Headers that are consistent with their checksum and yet wrong.
    for (int i = 0; i < 5; i++) {
        static const char *const expected[5] = {"version 2", "impossible", "impossible", "truncated", "damaged"};
        ShardHeader h;
        memcpy(&h, good, sizeof h);
        if (i == 0) h.version = 2;
        if (i == 1) h.token_bytes = 0;
        if (i == 2) h.vocab_size = (int64_t)1 << 40;
        if (i == 3) h.token_bytes = 4, h.tokens = ((int64_t)1 << 62) + 100; // in 64 bits four times that is 400 again
        if (i == 4) h.tokens = -1;
        h.header_sum = xxh64(&h, sizeof h - 8, 0);
        memcpy(bad, good, size);
        memcpy(bad, &h, sizeof h);
        CHECK_ERROR(shard_test_open(bad, size, &err), expected[i]);
    }
    // A token that the vocabulary does not have: reading says which and where, also without the checksum.
    memcpy(bad, good, size);
    bad[1024 + 2 * 57] = 0xff, bad[1024 + 2 * 57 + 1] = 0xff;
    CHECK_ERROR(shard_test_open(bad, size, &err), "token 57 is 65535, the vocabulary has 500");
    memcpy(bad, good, size);
    bad[1024 + 2 * 190 + 1] = 0xff; // the last target of the last sequence
    CHECK_ERROR(shard_test_open(bad, size, &err), "token 190 is");

    // Shards of llm.c: 256 int32 (magic, version, tokens), then uint16 or uint32.
    for (int wide = 0; wide < 2; wide++) {
        uint8_t old[1024 + 4 * 31 + 1];
        int32_t head[3] = {wide ? 20240801 : 20240520, wide ? 7 : 1, 31};
        size_t old_size = 1024 + (wide ? 4u : 2u) * 31;
        memset(old, 0, sizeof old);
        memcpy(old, head, sizeof head);
        for (int i = 0; i < 31; i++) {
            uint16_t narrow = (uint16_t)(50000 + i);
            uint32_t token = 100000 + (uint32_t)i;
            if (wide) memcpy(old + 1024 + 4 * i, &token, 4);
            else memcpy(old + 1024 + 2 * i, &narrow, 2);
        }
        Path path = test_temp("old.bin");
        Dataset d;
        int64_t read;
        int32_t inputs[10], targets[10];
        CHECK(file_write_all(path.text, old, old_size, &err) && dataset_open(&d, path.text, 10, &err), "%s", err.text);
        CHECK(d.sequences == 3 && d.tokens == 31 && d.vocab_size == 0 && d.tokenizer_hash == 0 && d.bytes == 0,
              "what is known of a shard of llm.c");
        CHECK(dataset_sequence(&d, 2, inputs, targets, &err) && inputs[0] == (wide ? 100020 : 50020) &&
                  targets[9] == (wide ? 100030 : 50030),
              "%s", err.text);
        CHECK(dataset_verify(&d, 0, 1, true, &read, &err), "%s", err.text);
        d.vocab_size = wide ? 100025 : 50025; // a caller who knows its model
        CHECK_ERROR(dataset_sequence(&d, 2, inputs, targets, &err), "token 25");
        CHECK_ERROR(dataset_verify(&d, 0, 1, true, &read, &err), "token 25");
        dataset_close(&d);
        CHECK_ERROR(shard_test_open(old, old_size - 1, &err), "announces 31 tokens");
        CHECK_ERROR(shard_test_open(old, old_size - 4, &err), "truncated");
        CHECK_ERROR(shard_test_open(old, old_size + 1, &err), "damaged");
        old[4] = 9;
        CHECK_ERROR(shard_test_open(old, old_size, &err), "version 9");
        for (int i = 0; i < 2; i++) {
            uint8_t kept = old[i];
            old[i] = old[3 - i];
            old[3 - i] = kept;
        }
        CHECK_ERROR(shard_test_open(old, old_size, &err), "byte order");
    }
    free(good);
    free(bad);
}

// ---------------------------------------------------------------- text to shards

// A tokenizer of 256 bytes, three merges, end of text and reserved tokens: 384 ids.
static bool data_test_tokenizer(Tokenizer *tok, Error *err) {
    static const char *const merges[3][2] = {{"e", "r"}, {"e", "n"}, {"en", "d"}};
    uint32_t to_char[256];
    int16_t to_byte[324];
    Str s;
    memset(&s, 0, sizeof s);
    byte_names(to_char, to_byte);
    str_puts(&s, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (int id = 259; id < 384; id++) {
        Path name = id == 259 ? path_of(TOKENIZER_EOT) : path_of("<|reserved_%d|>", id);
        str_printf(&s,
                   "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                   "\"normalized\":false,\"special\":true}",
                   id > 259 ? "," : "", id, name.text);
    }
    str_puts(&s, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_"
                 "offsets\":true,\"use_regex\":true},"
                 "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"dropout\":"
                 "null,\"unk_token\":null,"
                 "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":"
                 "false,\"vocab\":{");
    for (int b = 0; b < 256; b++) {
        uint8_t utf8[4];
        json_escape(&s, (char *)utf8, (size_t)utf8_put(utf8, to_char[b]));
        str_printf(&s, ":%d,", b);
    }
    str_puts(&s, "\"er\":256,\"en\":257,\"end\":258},\"merges\":[");
    for (int i = 0; i < 3; i++) str_printf(&s, "%s[\"%s\",\"%s\"]", i ? "," : "", merges[i][0], merges[i][1]);
    str_puts(&s, "]}}");
    bool ok = tokenizer_parse(tok, s.data, s.size, err);
    free(s.data);
    return ok;
}

// All documents of PREFIX_SIDE_*.bin as bytes, each closed by '|'.
static Str data_test_text(const Tokenizer *tok, const char *pattern) {
    Str text;
    StrList paths;
    Error err;
    memset(&text, 0, sizeof text);
    memset(&paths, 0, sizeof paths);
    str_puts(&text, "");
    if (!path_expand(&paths, test_temp(pattern).text, &err)) return text;
    for (int i = 0; i < paths.count; i++) {
        Shard s;
        memset(&s, 0, sizeof s);
        s.path = paths.items[i];
        CHECK(file_map(&s.file, s.path, &err) && shard_check(&s, &err), "%s", err.text);
        int64_t bytes = 0, documents = 0;
        for (int64_t t = 0; t < s.header.tokens; t++) {
            int length;
            int32_t id = (int32_t)shard_token(&s, t);
            const uint8_t *token = tokenizer_bytes(tok, id, &length);
            str_add(&text, token, (size_t)length);
            bytes += length;
            if (id == tok->eot) str_puts(&text, "|"), documents++;
        }
        CHECK(bytes == s.header.bytes && documents == s.header.documents, "%s: %lld bytes, %lld documents", s.path,
              (long long)bytes, (long long)documents);
        file_unmap(&s.file);
    }
    str_list_free(&paths);
    return text;
}

static bool data_test_run(const Tokenizer *tok, const char *inputs, const char *prefix, double val_fraction,
                          DocSplit split, int64_t shard_tokens, TokenizeStats *stats, Error *err) {
    memset(stats, 0, sizeof *stats);
    return tokenize_files(tok, inputs, test_temp(prefix).text, val_fraction, split, shard_tokens, stats, err);
}

static void test_tokenize_documents(const Tokenizer *tok) {
    Error err;
    TokenizeStats stats;
    static const struct {
        DocSplit split;
        const char *text, *expected;
    } cases[] = {{DOC_BLANK, "eins\nzwei\n\ndrei\n", "eins\nzwei|drei|"},
                 {DOC_BLANK, "\n \n\t\n  eins \r\n zwei\r\n\r\n\r\n\r\ndrei", "  eins \r\n zwei|drei|"},
                 {DOC_BLANK, "eins", "eins|"},
                 {DOC_BLANK, "eins\n \f\nzwei", "eins\n \f\nzwei|"},
                 {DOC_BLANK, "eins\n\n \n\t\r\n", "eins|"},
                 {DOC_BLANK,
                  "\xef\xbb\xbf"
                  "eins\n\nzwei\n",
                  "eins|zwei|"},
                 {DOC_FORMFEED, "eins\n\nzwei\n\fdrei\f\f\n\f vier", "eins\n\nzwei|drei| vier|"},
                 {DOC_FILE, "\n\neins\n\nzwei\fdrei \n", "eins\n\nzwei\fdrei|"},
                 {DOC_NONE, "\xef\xbb\xbf\n\neins\n\nzwei \r\n", "\xef\xbb\xbf\n\neins\n\nzwei \r\n|"},
                 {DOC_NONE, "\n", "\n|"},
                 {DOC_FILE, "<|endoftext|> bleibt Text", "<|endoftext|> bleibt Text|"},
                 {DOC_FILE, "a\xff\xc3\xa4\xe2\x82 \x80 \xc3", "a\xff\xc3\xa4\xe2\x82 \x80 \xc3|"}};
    Path in = test_temp("in.txt");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(file_write_quickly(in.text, cases[i].text, strlen(cases[i].text), &err) &&
                  data_test_run(tok, in.text, "t", 0, cases[i].split, 0, &stats, &err),
              "%s", err.text);
        Str text = data_test_text(tok, "t_train_*.bin");
        CHECK(strcmp(text.data, cases[i].expected) == 0, "case %zu: the documents are \"%s\", expected \"%s\"", i,
              text.data, cases[i].expected);
        CHECK(stats.counts.invalid == (i == 11 ? 5 : 0), "case %zu: %lld invalid bytes", i,
              (long long)stats.counts.invalid);
        free(text.data);
    }
    // An array without a byte to spare, so that a sanitizer sees a look past the end of a file.
    TextFile f;
    DocReader reader;
    const char *document;
    size_t size;
    memset(&f, 0, sizeof f);
    char *exact = (char *)malloc(5);
    memcpy(exact, "x\n \t ", 5);
    f.file.data = (const uint8_t *)exact;
    f.file.size = 5;
    text_file_look(&f, false);
    doc_begin(&reader, &f, DOC_BLANK);
    CHECK(doc_next(&reader, &document, &size) && document == exact && size == 1 && !doc_next(&reader, &document, &size),
          "a file that ends in an empty line");
    free(exact);

    // Two files are two documents, whatever stands at the seam; and a NUL is a byte like others.
    Path in2 = test_temp("in2.txt"), both = path_of("%.1000s,%.1000s", test_temp("in.txt").text, in2.text);
    CHECK(file_write_quickly(in.text, "a\0b", 3, &err) && file_write_quickly(in2.text, "c", 1, &err) &&
              data_test_run(tok, both.text, "t", 0, DOC_BLANK, 0, &stats, &err),
          "%s", err.text);
    Str text = data_test_text(tok, "t_train_*.bin");
    CHECK(text.size == 6 && memcmp(text.data, "a\0b|c|", 6) == 0, "two files");
    free(text.data);

    static const char *const refused[][2] = {{"\x1f\x8b\x08xxxx", "gunzip"},
                                             {"\xff\xfe"
                                              "a\0",
                                              "iconv"},
                                             {"", "no text"},
                                             {"\n \n\n", "no text"}};
    for (size_t i = 0; i < 4; i++) {
        CHECK(file_write_quickly(in.text, refused[i][0], strlen(refused[i][0]), &err), "%s", err.text);
        CHECK_ERROR(data_test_run(tok, in.text, "t", 0, DOC_BLANK, 0, &stats, &err), refused[i][1]);
    }
    CHECK_ERROR(data_test_run(tok, test_temp("missing.txt").text, "t", 0, DOC_BLANK, 0, &stats, &err), "missing.txt");
    CHECK_ERROR(data_test_run(tok, test_folder.text, "t", 0, DOC_BLANK, 0, &stats, &err), "is a folder");
    CHECK_ERROR(data_test_run(tok, in2.text, "t", 1, DOC_BLANK, 0, &stats, &err), "val_fraction");
    CHECK_ERROR(data_test_run(tok, in2.text, "t/", 0, DOC_BLANK, 0, &stats, &err), "must end in a name");
    CHECK_ERROR(data_test_run(tok, in2.text, "in.txt/t", 0, DOC_BLANK, 0, &stats, &err), "in.txt");
    Tokenizer without = *tok;
    without.eot = -1;
    CHECK_ERROR(data_test_run(&without, in2.text, "t", 0, DOC_BLANK, 0, &stats, &err), "<|endoftext|>");
    text = data_test_text(tok, "t_train_*.bin");
    CHECK(text.size == 6, "a run that failed must leave the shards of the one before");
    free(text.data);
}

static void test_tokenize_split(const Tokenizer *tok) {
    Error err;
    TokenizeStats stats;
    Path in = test_temp("many.txt");
    // 1000 documents, of which each third is there twice.
    Str many;
    memset(&many, 0, sizeof many);
    for (int i = 0; i < 1000; i++)
        str_printf(&many, "Dokument %d und der Rest\nmit zwei Zeilen\n\n", i % 3 == 2 ? i - 1 : i);
    CHECK(file_write_quickly(in.text, many.data, many.size, &err) &&
              data_test_run(tok, in.text, "m", 0.2, DOC_BLANK, 0, &stats, &err),
          "%s", err.text);
    CHECK(stats.documents[0] + stats.documents[1] == 1000 && stats.documents[1] > 140 && stats.documents[1] < 260 &&
              !stats.tail,
          "%lld of 1000 documents for validation", (long long)stats.documents[1]);
    Str train = data_test_text(tok, "m_train_*.bin"), val = data_test_text(tok, "m_val_*.bin");
    int leaked = 0;
    for (char *rest = NULL, *doc = strtok_r(val.data, "|", &rest); doc; doc = strtok_r(NULL, "|", &rest))
        leaked += strstr(train.data, doc) != NULL;
    CHECK(leaked == 0, "%d documents are on both sides", leaked);
    free(train.data);
    free(val.data);

    // The same bytes for any number of threads and any cut into shards; and the order of documents is kept.
    Str whole = data_test_text(tok, "m_train_*.bin");
#ifdef _OPENMP
    int threads = omp_get_max_threads();
    omp_set_num_threads(3);
#endif
    CHECK(data_test_run(tok, in.text, "m3", 0.2, DOC_BLANK, 5000, &stats, &err) && stats.shards[0] > 3, "%s", err.text);
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
    Str parts = data_test_text(tok, "m3_train_*.bin");
    CHECK(whole.size == parts.size && memcmp(whole.data, parts.data, whole.size) == 0,
          "shards of 5000 tokens hold another text than one shard");
    free(whole.data);
    free(parts.data);

    // Leftovers: fewer shards, then none for validation.
    CHECK(data_test_run(tok, in.text, "m3", 0.2, DOC_BLANK, 20000, &stats, &err), "%s", err.text);
    CHECK(count_files(test_folder.text, "m3_train_") == stats.shards[0] &&
              count_files(test_folder.text, "m3_val_") == stats.shards[1],
          "leftovers of an earlier run");
    CHECK(data_test_run(tok, in.text, "m3", 0, DOC_BLANK, 0, &stats, &err) && count_files(test_folder.text, "m3_") == 1,
          "leftovers of validation");

    // A long text in one document is cut into chunks, more of them than one batch takes, and nothing changes
    // at the seams.
#ifdef _OPENMP
    omp_set_num_threads(1);
#endif
    str_puts(&many, "Ende");
    for (int i = 0; many.size < 18 * TOKENIZE_CHUNK; i++) str_printf(&many, " Zeile %d;\n\n\n%d und\nso weiter", i, i);
    CHECK(file_write_quickly(in.text, many.data, many.size, &err) &&
              data_test_run(tok, in.text, "l", 0, DOC_NONE, 0, &stats, &err),
          "%s", err.text);
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
    IdList ids;
    memset(&ids, 0, sizeof ids);
    tokenizer_encode(tok, NULL, many.data, many.size, &ids);
    CHECK(stats.tokens[0] == (int64_t)ids.count + 1 && stats.documents[0] == 1 && stats.bytes[0] == (int64_t)many.size,
          "%lld tokens, expected %zu", (long long)stats.tokens[0], ids.count + 1);
    Dataset d;
    int wrong = 0;
    CHECK(dataset_open(&d, test_temp("l_train_*.bin").text, 1, &err), "%s", err.text);
    for (size_t i = 0; i < ids.count; i++) wrong += (int32_t)shard_token(&d.shards[0], (int64_t)i) != ids.items[i];
    CHECK(wrong == 0, "%d tokens of %zu differ when a document is encoded in chunks", wrong, ids.count);
    dataset_close(&d);
    free(ids.items);

    // Two documents: one for each side, for any fraction. One document: its tail is for validation.
    static const double fractions[4] = {1e-9, 0.01, 0.5, 0.999999};
    for (int i = 0; i < 4; i++) {
        CHECK(file_write_quickly(in.text, "alpha\n\nbeta\n", 12, &err) &&
                  data_test_run(tok, in.text, "p", fractions[i], DOC_BLANK, 0, &stats, &err),
              "%s", err.text);
        CHECK(stats.documents[0] == 1 && stats.documents[1] == 1 && !stats.tail,
              "two documents, fraction %g: %lld and %lld", fractions[i], (long long)stats.documents[0],
              (long long)stats.documents[1]);
    }
    // Which document goes to validation depends on its text, not on its place.
    for (int i = 0; i < 2; i++) {
        const char *orders[2] = {"eins\n\nzwei\n\ndrei\n", "drei\n\neins\n\nzwei\n"};
        CHECK(file_write_quickly(in.text, orders[i], strlen(orders[i]), &err) &&
                  data_test_run(tok, in.text, i ? "s2" : "s1", 1e-9, DOC_BLANK, 0, &stats, &err),
              "%s", err.text);
    }
    train = data_test_text(tok, "s1_val_*.bin"), val = data_test_text(tok, "s2_val_*.bin");
    CHECK(strcmp(train.data, val.data) == 0, "\"%s\" for validation in one order of documents, \"%s\" in another",
          train.data, val.data);
    free(train.data);
    free(val.data);
    static const char *const single[][3] = {{"eins zwei\ndrei vier\nende\n", "eins zwei\ndrei vier\n|", "ende|"},
                                            {"eins zwei drei vier", "eins zwei drei|", " vier|"},
                                            {"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", "\xc3\xa4\xc3\xa4|",
                                             "\xc3\xa4\xc3\xa4|"},
                                            {"a", "a|", ""}};
    for (size_t i = 0; i < 4; i++) {
        CHECK(file_write_quickly(in.text, single[i][0], strlen(single[i][0]), &err) &&
                  data_test_run(tok, in.text, "q", 0.3, DOC_BLANK, 0, &stats, &err),
              "%s", err.text);
        train = data_test_text(tok, "q_train_*.bin"), val = data_test_text(tok, "q_val_*.bin");
        CHECK(strcmp(train.data, single[i][1]) == 0 && strcmp(val.data, single[i][2]) == 0,
              "the tail of a single document: \"%s\" and \"%s\"", train.data, val.data);
        CHECK(stats.tail == (i < 3), "case %zu: tail is %d", i, stats.tail);
        free(train.data);
        free(val.data);
    }

    // A full disk: one error, the shards of the run before are as they were, and no temporary files are left;
    // whether the first shard does not fit or a later one.
    CHECK(file_write_quickly(in.text, many.data, many.size, &err) &&
              data_test_run(tok, in.text, "d", 0.2, DOC_BLANK, 0, &stats, &err),
          "%s", err.text);
    char before[65], after[65];
    CHECK(sha256_file(before, test_temp("d_train_00000.bin").text, &err), "%s", err.text);
    for (int i = 0; i < 2; i++) {
        limit_file_size(50000);
        CHECK_ERROR(data_test_run(tok, in.text, "d", i ? 0.01 : 0.5, DOC_BLANK, i ? 25000 : 0, &stats, &err),
                    "cannot write");
        limit_file_size(RLIM_INFINITY);
        CHECK(sha256_file(after, test_temp("d_train_00000.bin").text, &err) && strcmp(before, after) == 0,
              "a failed run changed the shards");
        CHECK(count_files(test_folder.text, "d_") == 2, "a failed run left %d files",
              count_files(test_folder.text, "d_"));
    }
    free(many.data);
}

static void test_data(void) {
    Error err;
    Tokenizer tok;
    test_permutation();
    test_shards();
    test_shard_damage();
    bool ok = data_test_tokenizer(&tok, &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    test_tokenize_documents(&tok);
    test_tokenize_split(&tok);
    tokenizer_free(&tok);
}

#endif
