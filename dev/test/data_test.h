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
#include <sys/wait.h>

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

// Shards whose names begin so; -1: not each has the list of its documents beside it, or one has no shard.
static int count_shards(const char *start) {
    StrList names;
    int bins = 0, docs = 0;
    memset(&names, 0, sizeof names);
    folder_list(&names, test_folder.text, NULL);
    for (int i = 0; i < names.count; i++) {
        if (strncmp(names.items[i], start, strlen(start)) != 0) continue;
        bins += str_ends_with(names.items[i], ".bin");
        docs += str_ends_with(names.items[i], ".docs");
    }
    str_list_free(&names);
    return bins == docs ? bins : -1;
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
                SourceRows rows = {inputs, targets, NULL};
                CHECK(s.next(&s, p, B, rows, &err), "%s", err.text);
                for (int b = 0; b < B; b++) {
                    int64_t index = permuted ? dataset_index(d, 11, p + b) : p + b;
                    CHECK(dataset_sequence(d, index, one, one + T, NULL, &err), "%s", err.text);
                    wrong += memcmp(one, inputs + b * T, sizeof(int32_t) * (size_t)T) != 0 ||
                             memcmp(one + T, targets + b * T, sizeof(int32_t) * (size_t)T) != 0;
                }
            }
    }
    BatchSource s = source_of_dataset(d, false, 0);
    CHECK(wrong == 0, "%d sequences are not those of the data set", wrong);
    SourceRows rows = {inputs, targets, NULL};
    CHECK_ERROR(s.next(&s, d->sequences - 1, 2, rows, &err), "was asked for");
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
            CHECK(dataset_sequence(&d, s, inputs, targets, NULL, &err), "%s", err.text);
            for (int t = 0; t < 33; t++)
                wrong +=
                    inputs[t] != shard_test_token(at + t, vocab) || targets[t] != shard_test_token(at + t + 1, vocab);
        }
        CHECK(wrong == 0, "%d tokens came back differently", wrong);
        CHECK_ERROR(dataset_sequence(&d, d.sequences, inputs, targets, NULL, &err), "sequence 75");
        CHECK_ERROR(dataset_sequence(&d, -1, inputs, targets, NULL, &err), "sequence -1");
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
        CHECK(dataset_sequence(&d, s, inputs, targets, NULL, &err) && inputs[0] == shard_test_token(s % 9 * 10, 500),
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
    CHECK(shard_test_write("again", 1000, 100, 500, 1, &err) && count_shards("again_") == 10, "ten shards: %s",
          err.text);
    CHECK(file_write_all(test_temp("again_notes.bin").text, "x", 1, &err), "%s", err.text);
    CHECK(shard_test_write("again", 1000, 700, 500, 1, &err) && count_files(test_folder.text, "again_") == 5,
          "two shards, their lists, and a file of another name: %s", err.text);
}

// Opens `size` bytes as a shard and reads it whole.
static bool shard_test_open(const void *bytes, size_t size, Error *err) {
    Path path = test_temp("damaged.bin");
    Dataset d;
    int32_t inputs[10], targets[10];
    int64_t read;
    if (!file_write_quickly(path.text, bytes, size, err) || !dataset_open(&d, path.text, 10, err)) return false;
    bool ok = true;
    for (int64_t s = 0; ok && s < d.sequences; s++) ok = dataset_sequence(&d, s, inputs, targets, NULL, err);
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
    for (size_t at = 0; at < size; at += at < 110 || at > 1010 ? 1 : 13) { // one flipped bit anywhere
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
        static const char *const expected[5] = {"version 4", "impossible", "impossible", "truncated", "damaged"};
        ShardHeader h;
        memcpy(&h, good, sizeof h);
        if (i == 0) h.version = 4;
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
        CHECK(dataset_sequence(&d, 2, inputs, targets, NULL, &err) && inputs[0] == (wide ? 100020 : 50020) &&
                  targets[9] == (wide ? 100030 : 50030),
              "%s", err.text);
        CHECK(dataset_verify(&d, 0, 1, true, &read, &err), "%s", err.text);
        d.vocab_size = wide ? 100025 : 50025; // a caller who knows its model
        CHECK_ERROR(dataset_sequence(&d, 2, inputs, targets, NULL, &err), "token 25");
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

// The shards of a set: what is found when some are missing, or of another run.
static void test_shard_sets(void) {
    Error err;
    Dataset d, e;
    CHECK(shard_test_write("set/a", 250, 100, 500, 1, &err), "%s", err.text);
    Path glob = test_temp("set/a_train_*.bin"), last = test_temp("set/a_train_00002.bin"),
         first = test_temp("set/a_train_00000.bin"), kept = test_temp("set/kept");
    CHECK(dataset_open(&d, glob.text, 10, &err) && d.count == 3, "%s", err.text);
    for (int i = 0; i < d.count; i++)
        CHECK(d.shards[i].header.set && d.shards[i].header.set == d.shards[0].header.set &&
                  d.shards[i].header.set_index == (uint32_t)i && d.shards[i].header.set_count == 3,
              "shard %d says what it is of", i);
    dataset_close(&d);
    // A part that was asked for by name, or by a pattern that leaves others out, is no fault.
    CHECK(dataset_open(&d, first.text, 10, &err) && d.count == 1, "%s", err.text);
    dataset_close(&d);
    CHECK(dataset_open(&d, test_temp("set/a_train_0000[01].bin").text, 10, &err) && d.count == 2, "%s", err.text);
    dataset_close(&d);
    for (int i = 0; i < 3; i++) { // a missing one is
        Path gone = test_temp(path_of("set/a_train_%05d.bin", i).text);
        CHECK(rename(gone.text, kept.text) == 0, "rename");
        CHECK_ERROR(dataset_open(&d, glob.text, 10, &err), path_of("number %d is missing", i).text);
        CHECK(dataset_open(&d, i ? first.text : last.text, 10, &err), "%s", err.text);
        dataset_close(&d);
        CHECK(rename(kept.text, gone.text) == 0, "rename");
    }
    // Shards of another run under the same prefix: of another text, and of a program that did not say which.
    CHECK(shard_test_write("set/b", 240, 100, 500, 1, &err), "%s", err.text);
    CHECK(rename(test_temp("set/b_train_00002.bin").text, last.text) == 0, "rename");
    CHECK_ERROR(dataset_open(&d, glob.text, 10, &err), "different runs of tokenize");
    CHECK_ERROR(dataset_open(&d, path_of("%.1000s,%.1000s", last.text, first.text).text, 10, &err), "different runs");
    CHECK(dataset_open(&d, last.text, 10, &err) && dataset_open(&e, first.text, 10, &err), "%s", err.text);
    const Dataset *both[2] = {&d, &e};
    CHECK_ERROR(datasets_same_sets(both, 2, &err), "different runs of tokenize");
    CHECK(datasets_same_sets(both, 1, &err), "%s", err.text);
    dataset_close(&d);
    dataset_close(&e);
    Str old;
    memset(&old, 0, sizeof old);
    CHECK(shard_test_write("set/a", 250, 100, 500, 1, &err) && file_read(&old, last.text, 1 << 20, &err), "%s",
          err.text);
    ShardHeader *h = (ShardHeader *)(void *)old.data;
    h->set = 0, h->set_side = h->set_index = 0, h->set_count = 0;
    h->header_sum = xxh64(h, sizeof *h - 8, 0);
    CHECK(file_write_all(last.text, old.data, old.size, &err), "%s", err.text);
    CHECK_ERROR(dataset_open(&d, glob.text, 10, &err), "different runs of tokenize");
    CHECK(dataset_open(&d, last.text, 10, &err), "a shard of a program that knew no sets: %s", err.text);
    dataset_close(&d);
    free(old.data);
}

// The same tokens twice; what no sequence holds; and who reads what, when several share the reading.
static void test_shard_checks(void) {
    Error err;
    Dataset d, copy, other;
    int64_t read;
    CHECK(shard_test_write("v/a", 460, 100, 500, 1, &err) && shard_test_write("v/b", 100, 100, 500, 1, &err) &&
              shard_test_write("v/c", 101, 200, 500, 1, &err),
          "%s", err.text);
    CHECK(dataset_open(&d, test_temp("v/a_train_*.bin").text, 60, &err) &&
              dataset_open(&copy, test_temp("v/b_train_*.bin").text, 10, &err) &&
              dataset_open(&other, test_temp("v/c_train_*.bin").text, 10, &err),
          "%s", err.text);
    CHECK(dataset_find_copy(&d, &copy.shards[0]) == &d.shards[0], "a copy of the first shard is found");
    CHECK(!dataset_find_copy(&d, &other.shards[0]), "a longer one is none");
    CHECK(!dataset_doubled(&d), "each shard is there once");
    dataset_close(&copy);
    Path list = path_of("%.1000s,%.1000s", test_temp("v/a_train_*.bin").text, test_temp("v/b_train_*.bin").text);
    CHECK(dataset_open(&copy, list.text, 10, &err) && dataset_doubled(&copy) == &copy.shards[5], "%s", err.text);
    // Each of the shards of 100 has one sequence of 60 and 39 tokens behind it, that of 60 none.
    double unused = 1 - 4 * 60 / (4 * 99.0 + 59);
    CHECK(fabs(dataset_unused(&d) - unused) < 1e-12, "%g of the tokens are not used, expected %g", dataset_unused(&d),
          unused);
    CHECK(dataset_unused(&other) == 0, "all of 101 tokens are used");
    dataset_close(&copy);
    dataset_close(&other);
    dataset_close(&d);
    for (int bad = 0; bad < 5; bad++) {
        Path path = test_temp(path_of("v/a_train_%05d.bin", bad).text);
        Str bytes;
        memset(&bytes, 0, sizeof bytes);
        CHECK(file_read(&bytes, path.text, 1 << 20, &err), "%s", err.text);
        bytes.data[1024 + 7 * bad] ^= 1;
        CHECK(file_write_quickly(path.text, bytes.data, bytes.size, &err) &&
                  dataset_open(&d, test_temp("v/a_train_*.bin").text, 10, &err),
              "%s", err.text);
        int found = 0;
        int64_t all = 0;
        for (int part = 0; part < 3; part++) {
            bool ok = dataset_verify(&d, part, 3, false, &read, &err);
            CHECK(ok || (strstr(err.text, path.text) && part == bad % 3), "part %d: %s", part, err.text);
            found += !ok;
            all += read;
        }
        CHECK(found == 1 && all == 5 * 1024 + 2 * 460, "%d parts found it, %lld bytes were read", found,
              (long long)all);
        dataset_close(&d);
        bytes.data[1024 + 7 * bad] ^= 1;
        CHECK(file_write_quickly(path.text, bytes.data, bytes.size, &err), "%s", err.text);
        free(bytes.data);
    }
}

// How many tokens the shards of swap/s have, and that they are one whole set.
static int64_t shard_test_tokens(Error *err) {
    Dataset d;
    int64_t read, tokens;
    if (!dataset_open(&d, test_temp("swap/s_train_*.bin").text, 10, err)) return -1;
    tokens = dataset_verify(&d, 0, 1, true, &read, err) ? d.tokens : -2;
    dataset_close(&d);
    return tokens;
}

// Every state that a killed writer can leave: all it does after the folder got its new name, up to each call.
static void test_shard_swap(void) {
    Error err;
    static const int64_t sizes[3][2] = {{250, 560}, {560, 250}, {0, 250}}; // tokens before and after
    for (int c = 0; c < 3; c++)
        for (int calls = -1; calls <= 12; calls++) {
            ShardSet set;
            ShardWriter w;
            path_remove_tree(test_temp("swap").text, NULL);
            bool ok = sizes[c][0] == 0 || shard_test_write("swap/s", sizes[c][0], 100, 500, 1, &err);
            ok = ok && shard_set_open(&set, test_temp("swap/s").text, &err);
            CHECK(ok, "%s", err.text);
            if (!ok) return;
            shardwriter_open(&w, &set, SIDE_TRAIN, 500, 1, 7, 100);
            for (int64_t at = 0; at < sizes[c][1]; at += 50) {
                int32_t ids[50];
                int64_t n = int64_min(50, sizes[c][1] - at);
                for (int64_t i = 0; i < n; i++) ids[i] = shard_test_token(at + i, 500);
                shardwriter_add(&w, ids, n, n, 1);
            }
            CHECK(shards_finish(&w, 1, &err), "%s", err.text);
            int64_t count = (int64_t)w.count;
            Path text = path_of("train %lld val 0 docs 1.\n", (long long)count), next = shard_set_new(&set.name);
            if (calls >= 0) { // what shard_set_commit does
                CHECK(file_write_all(path_of("%.3000s/set", set.staging.text).text, text.text, strlen(text.text), &err),
                      "%s", err.text);
                CHECK(rename(set.staging.text, next.text) == 0, "rename");
            }
            for (int i = 0; i < calls; i++) {
                for (int docs = 0; docs < 2; docs++) {
                    Path from = path_of("%.3000s/train_%05d.%s", next.text, i, shard_ending(docs)),
                         to = shard_file_path(&set.name, 0, i, docs);
                    if (i < count) CHECK(rename(from.text, to.text) == 0, "shard %d", i);
                    else unlink(to.text);
                }
            }
            if (calls == 12) CHECK(unlink(path_of("%.3000s/set", next.text).text) == 0, "unlink");
            close(set.lock); // the process is gone, and its lock with it
            set.lock = -1;
            signals_release(&set.hold);
            shards_abort(&set, &w, 1);

            // A reader finds one set or the other; then a writer leaves nothing of it all.
            int64_t tokens = shard_test_tokens(&err), expected = calls < 0 ? sizes[c][0] : sizes[c][1];
            CHECK(tokens == expected || (tokens == -1 && expected == 0),
                  "case %d, %d calls: %lld tokens, expected %lld: %s", c, calls, (long long)tokens, (long long)expected,
                  err.text);
            CHECK(calls < 0 || count_files(test_temp("swap").text, ".s.") == 0, "case %d, %d calls: something is left",
                  c, calls);
            if (calls < 0) { // with another process's number, which nobody has
                Path dead = path_of("%.3000s/.s.tmp.999999999", set.name.folder.text);
                CHECK(rename(set.staging.text, dead.text) == 0, "rename");
            }
            CHECK(shard_test_write("swap/s", 130, 100, 500, 1, &err) && shard_test_tokens(&err) == 130, "%s", err.text);
            CHECK(count_files(test_temp("swap").text, "") == 6,
                  "case %d, %d calls: %d names, expected two shards, their lists, . and ..", c, calls,
                  count_files(test_temp("swap").text, ""));
        }
    // What a living process writes stays, though its number is not known here: it may live on another machine.
    Path alive = test_temp("swap/.s.tmp.999999998");
    CHECK(mkdir(alive.text, 0777) == 0, "mkdir");
    int lock = open(alive.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(lock >= 0 && flock(lock, LOCK_EX) == 0, "lock");
    CHECK(shard_test_write("swap/s", 130, 100, 500, 1, &err) && count_files(test_temp("swap").text, ".s.tmp.") == 1,
          "the folder of another process");
    close(lock);
    CHECK(shard_test_write("swap/s", 130, 100, 500, 1, &err) && count_files(test_temp("swap").text, ".s.tmp.") == 0,
          "the folder of a process that is gone");
    // A folder, a device, or an input that stands where a shard is to be.
    ShardName name;
    Error why;
    FileId id;
    CHECK(shard_prefix_parse(&name, test_temp("swap/s").text, &err), "%s", err.text);
    CHECK(path_id(test_temp("swap/s_train_00001.bin").text, &id, &err), "%s", err.text);
    CHECK_ERROR(shard_set_replaces(&name, &id, 1, &err), "s_train_00001.bin is read");
    CHECK(symlink(test_temp("swap/s_train_00001.bin").text, test_temp("swap/s_val_00007.bin").text) == 0 &&
              path_id(test_temp("swap/s_val_00007.bin").text, &id, &why),
          "a link");
    CHECK_ERROR(shard_set_replaces(&name, &id, 1, &err), "is read");
    CHECK(mkdir(test_temp("swap/s_val_00000.bin").text, 0777) == 0, "mkdir");
    CHECK_ERROR(shard_set_replaces(&name, NULL, 0, &err), "s_val_00000.bin: it is not a regular file");
    // What tokenize did not write is not replaced, and not removed: a text, and shards of llm.c, of other digits.
    CHECK(rmdir(test_temp("swap/s_val_00000.bin").text) == 0 && unlink(test_temp("swap/s_val_00007.bin").text) == 0 &&
              file_write_all(test_temp("swap/s_train_00009.bin").text, "Ein Text", 8, &err),
          "%s", err.text);
    CHECK_ERROR(shard_set_replaces(&name, NULL, 0, &err), "s_train_00009.bin is no shard that this program wrote");
    CHECK(rename(test_temp("swap/s_train_00009.bin").text, test_temp("swap/s_train_000009.bin").text) == 0 &&
              shard_set_replaces(&name, NULL, 0, &err) && shard_test_write("swap/s", 50, 100, 500, 1, &err) &&
              count_files(test_temp("swap").text, "s_train_") == 3,
          "%s", err.text);
    CHECK_ERROR(shard_prefix_parse(&name, "folder/", &err), "must end in a name");
}

// ---------------------------------------------------------------- what is text

// A UTF-8 text in units of 2 or 4 bytes.
static Str reader_test_wide(const char *text, int width, bool big) {
    const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);
    Str out;
    memset(&out, 0, sizeof out);
    while (p < end) {
        uint32_t c = 0, units[2];
        int count = 1;
        p += utf8_decode(p, end, &c);
        units[0] = c;
        if (width == 2 && c > 0xffff)
            count = 2, units[0] = 0xd800 + ((c - 0x10000) >> 10), units[1] = 0xdc00 + ((c - 0x10000) & 0x3ff);
        for (int i = 0; i < count; i++)
            for (int k = 0; k < width; k++) {
                uint8_t byte = (uint8_t)(units[i] >> 8 * (big ? width - 1 - k : k));
                str_add(&out, &byte, 1);
            }
    }
    return out;
}

static void test_reader_wide(void) {
    static const char *const texts[] = {"Als Ottilie Brehm den Laden übernahm, war sie 27.\n\n„Gut“, sagte sie.\n",
                                        "Съешь же ещё этих мягких французских булок, да выпей чаю.\n",
                                        "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.\n",
                                        "Hi",
                                        "Ein 😀 und 🇩🇪 im Text.\r\n",
                                        "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。\n一二三\n",
                                        "שלום עולם, מה שלומך?\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *what = text_foreign((const uint8_t *)texts[i], strlen(texts[i]));
        CHECK(!what, "text %zu in UTF-8 is called %s", i, what);
        for (int form = 0; form < 8; form++) {
            bool big = form & 1, mark = form & 2;
            int width = form & 4 ? 4 : 2;
            Path expected = path_of("UTF-%d%s", 8 * width, mark ? ": " : big ? "BE" : "LE");
            Str marked, wide;
            memset(&marked, 0, sizeof marked);
            str_printf(&marked, "%s%s", mark ? "\xef\xbb\xbf" : "", texts[i]);
            // Long enough that the sample ends in the middle, and once at each place of a character.
            for (int longer = 0; longer < 3; longer++) {
                if (longer) str_puts(&marked, longer == 1 ? "Mehr: " : "x");
                while (longer && marked.size < 2 * TEXT_SAMPLE) str_puts(&marked, texts[i]);
                wide = reader_test_wide(marked.data, width, big);
                what = text_foreign((const uint8_t *)wide.data, wide.size);
                CHECK(what && strstr(what, mark ? path_of("UTF-%d: convert", 8 * width).text
                                                : path_of("iconv -f %s", expected.text).text),
                      "text %zu, form %d, longer %d is %s, expected %s", i, form, longer, what ? what : "text",
                      expected.text);
                free(wide.data);
            }
            free(marked.data);
        }
    }
}

static void test_reader(void) {
    static const struct {
        const char *bytes;
        size_t size;
        const char *expected; // NULL: text
    } cases[] = {
#define BYTES(text) text, sizeof text - 1
        {BYTES("\x1f\x8b\x08\x00"), "gunzip"},
        {BYTES("\xfd\x37zXZ\x00"), "unxz"},
        {BYTES("BZh91AY&SY\x01\x02"), "bunzip2"},
        {BYTES("\x28\xb5\x2f\xfd\x01"), "unzstd"},
        {BYTES("\x50\x2a\x4d\x18\x01"), "unzstd"},
        {BYTES("\x04\x22\x4d\x18\x01"), "unlz4"},
        {BYTES("\x5d\x00\x00\x80\x00"), "unlzma"},
        {BYTES("PK\x03\x04\x14\x00"), "unzip"},
        {BYTES("7z\xbc\xaf\x27\x1c"), "7z"},
        {BYTES("Rar!\x1a\x07\x01"), "unrar"},
        {BYTES("PAR1\x15\x04\x15"), "parquet"},
        {BYTES("ARROW1\x00\x00"), "arrow"},
        {BYTES("SQLite format 3\x00"), "SQLite"},
        {BYTES("%PDF-1.7\n%"), "pdftotext"},
        {BYTES("{\\rtf1\\ansi Text}"), "RTF"},
        {BYTES("%!PS-Adobe-3.0\n"), "PostScript"},
        {BYTES("\xd0\xcf\x11\xe0\xa1\xb1"), "Office"},
        {BYTES("\x89PNG\r\n\x1a\n"), "PNG"},
        {BYTES("\xff\xd8\xff\xe0"), "JPEG"},
        {BYTES("GIF89a\x01\x00"), "GIF"},
        {BYTES("RIFF\x24\x08\x00\x00WAVE"), "RIFF"},
        {BYTES("\x7f"
               "ELF\x02\x01"),
         "ELF"},
        {BYTES("\x93NUMPY\x01\x00"), "NumPy"},
        {BYTES("GGUF\x03\x00\x00\x00"), "GGUF"},
        {BYTES("\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}        "), "safetensors"},
        {BYTES("LPTshard\x01\x00\x00\x00"), "tokenize"},
        {BYTES("\x88\xd7\x34\x01\x01\x00\x00\x00"), "llm.c"},
        {BYTES("\xa1\xd8\x34\x01\x07\x00\x00\x00"), "llm.c"},
        {BYTES("{\"version\":\"1.0\",\"added_tokens\":[],\"model\":{}}"), "tokenizer.json"},
        {BYTES("{\n  \"added_tokens\": [],\n  \"model\": {\"vocab\": {}}\n}\n"), "tokenizer.json"},
        {BYTES("{\n \"architectures\": [\"GPT2LMHeadModel\"],\n \"model_type\": \"gpt2\"}"), "config.json"},
        {BYTES("{\"metadata\": {}, \"weight_map\": {}}"), "index"},
        {BYTES("{\"step\": 1, \"loss\": 5.5}\n{\"step\": 2, \"loss\": 5.1}\n"), "metrics.jsonl"},
        {BYTES("{\"text\": \"eins\"}\n{\"text\": \"zwei\"}\n"), "jq -r .text"},
        {BYTES("\xef\xbb\xbf{\"text\": \"eins\"}\n\n  {\"text\": \"zwei\"}\r\n"), "jq -r .text"},
        {BYTES("{\"text\": \"eine Zeile\"}"), "jq -r .text"},
        {BYTES("{\"text\": \"eins\"}\n{\"text\": \"zwe"), "jq -r .text"},
        {BYTES("{\n \"text\": \"eins\"\n}\n{\n \"text\": \"zwei\"\n}\n"), "jq -r .text"},
        {BYTES("[{\"text\": \"eins\"},\n {\"text\": \"zwei\"}]"), "list of records"},
        {BYTES("[\n  {\n    \"text\": \"eins\"\n  }\n]\n"), "list of records"},
        {BYTES("\x01\x02\x03\x04\x05\x06\x07\x80\x01\x02\x03\x04\x05\x06\x07\x80\x01\x02\x03\x04\x05\x06\x07\x80\x01"
               "\x02\x03"
               "\x04\x05\x06\x07\x80"),
         "other kind"},
        // Texts that begin like something else, or hold odd bytes.
        {BYTES(""), NULL},
        {BYTES("GIF8 ist kein Wort, RIFF und PAR1 auch nicht.\n"), NULL},
        {BYTES("PAR1 war der erste Parkplatz.\n"), NULL},
        {BYTES("BZh ist eine Abkürzung, PK\x03 keine.\n"), NULL},
        {BYTES("GGUF heißt das Format, LZIP ein anderes, ID3 ein drittes.\n"), NULL},
        {BYTES("LPTshard steht am Anfang.\n"), NULL},
        {BYTES("{Entwurf}\nEin Text in Klammern.\n"), NULL},
        {BYTES("{\"a\": 1}\nund dann Text\n"), NULL},
        {BYTES("{}\n{}\n"), NULL},
        {BYTES("{\"text\": \"ohne Ende\n"), NULL},
        {BYTES("{\"a\": eins}\n{\"a\": zwei}\n"), NULL},
        {BYTES("{\n  \"name\": \"quelltext\",\n  \"version\": 2\n}\n"), NULL},
        {BYTES("[1] Eine Fußnote.\n[2] Noch eine.\n"), NULL},
        {BYTES("[{eine Bemerkung}]\n"), NULL},
        {BYTES("a\0b"), NULL},
        {BYTES("Ein Text mit einem NUL \0 mitten in der Zeile, und noch mehr Text.\n"), NULL},
        {BYTES("Gr\xfc\xdf Gott, sch\xf6ne W\xe4lder in Latin-1.\n"), NULL},
        {BYTES("\x1b[1mfett\x1b[0m im Terminal\f\n"), NULL},
#undef BYTES
    };
    Error err;
    Path path = test_temp("reader.txt");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int verbatim = 0; verbatim < 2; verbatim++) {
            TextFile f;
            const char *expected = cases[i].expected;
            bool ok = file_write_quickly(path.text, cases[i].bytes, cases[i].size, &err);
            err.text[0] = 0;
            ok = ok && text_file_open(&f, path.text, verbatim, &err);
            CHECK(ok == (verbatim || !expected), "case %zu: %s", i, ok ? "was taken" : err.text);
            if (ok) CHECK(!f.foreign == !expected, "case %zu is %s", i, f.foreign ? f.foreign : "text");
            else
                CHECK(expected && strstr(err.text, expected) && strstr(err.text, path.text), "case %zu: %s", i,
                      err.text);
            if (ok) text_file_close(&f);
        }
    test_reader_wide();
    CHECK_ERROR(text_file_open(&(TextFile){{0}, 0, 0, 0}, test_folder.text, false, &err), "is a folder");
    Path fifo = test_temp("reader.fifo");
    CHECK(mkfifo(fifo.text, 0666) == 0, "mkfifo");
    CHECK_ERROR(text_file_open(&(TextFile){{0}, 0, 0, 0}, fifo.text, false, &err), "not a regular file");

    TextCounts c;
    const char text[] = "eins<|endoftext|>zwei\n<|endoftext|>\n<s>Strich</s> und\nEnde</s>\n\xef\xbb\xbf"
                        "drei\0vier";
    memset(&c, 0, sizeof c);
    text_count(&c, text, sizeof text - 1);
    CHECK(c.markers[0] == 2 && c.markers[4] == 1 && c.orders == 1 && c.zeros == 1 && c.markers[1] + c.markers[2] == 0,
          "%lld and %lld markers, %lld marks, %lld zeros", (long long)c.markers[0], (long long)c.markers[4],
          (long long)c.orders, (long long)c.zeros);
}

// ---------------------------------------------------------------- signals

static TokenizeJob data_test_job(const Tokenizer *tok, const char *inputs, double val_fraction, DocSplit split,
                                 int64_t shard_tokens) {
    TokenizeJob job;
    memset(&job, 0, sizeof job);
    job.tok = tok;
    job.inputs = inputs;
    job.docs.split = split;
    job.docs.field = "text";
    job.val_fraction = val_fraction;
    job.shard_tokens = shard_tokens;
    job.program = "test_gpt";
    return job;
}

static void signal_test_progress(const TokenizeStats *stats) {
    (void)stats;
    kill(getpid(), SIGTERM);
}

// Shards as they are before: made by a child, since a process that has had threads forks badly under qemu-user.
static bool signal_test_before(const Tokenizer *tok, const char *input) {
    Error err;
    TokenizeStats stats;
    memset(&stats, 0, sizeof stats);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        TokenizeJob job = data_test_job(tok, input, 0.2, DOC_BLANK, 0);
        bool ok = tokenize_files(&job, test_temp("killed/s").text, &stats, &err);
        if (!ok) fprintf(stderr, "%s\n", err.text);
        _exit(ok ? 0 : 1);
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// What a process does that is told to end while it writes.
static void signal_test_child(int what, const Tokenizer *tok) {
    Error err;
    TokenizeStats stats;
    OutFile f;
    char zeros[4096] = {0};
#ifdef _OPENMP
    omp_set_num_threads(1);
#endif
    memset(&stats, 0, sizeof stats);
    if (what == 0) {
        stats.progress = signal_test_progress;
        Path many = test_temp("many.txt");
        TokenizeJob job = data_test_job(tok, many.text, 0.2, DOC_BLANK, 0);
        tokenize_files(&job, test_temp("killed/s").text, &stats, &err);
    } else {
        if (what == 2) signal(SIGTERM, SIG_IGN); // as nohup does with SIGHUP
        if (!out_open(&f, test_temp("killed/file").text, &err)) _exit(2);
        kill(getpid(), SIGTERM);
        for (int i = 0; i < 1000; i++) out_write(&f, zeros, sizeof zeros);
        if (!out_commit(&f, &err)) _exit(3);
    }
    _exit(4);
}

static void signals_test_writing(const Tokenizer *tok) {
    Error err;
    Str many;
    memset(&many, 0, sizeof many);
    // More than a thread's 16 chunks, so that the signal comes before the last of them.
    for (int i = 0; many.size < 40 * TOKENIZE_CHUNK; i++) str_printf(&many, "Dokument %d und noch etwas Text\n\n", i);
    Path old = test_temp("killed/s_train_00000.bin"), in = test_temp("few.txt");
    CHECK(path_make_folder(test_temp("killed").text, &err) &&
              file_write_quickly(test_temp("many.txt").text, many.data, many.size, &err) &&
              file_write_quickly(in.text, "alpha\n\nbeta\n\ngamma\n", 19, &err) && signal_test_before(tok, in.text),
          "%s", err.text);
    free(many.data);
    char before[65], after[65];
    CHECK(sha256_file(before, old.text, &err), "%s", err.text);
    for (int what = 0; what < 3; what++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) signal_test_child(what, tok);
        int status = 0;
        CHECK(child > 0 && waitpid(child, &status, 0) == child, "no child");
        if (what < 2)
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "case %d: status %x, expected the signal", what,
                  status);
        else CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 4, "an ignored signal ends nothing: status %x", status);
        CHECK(count_files(test_temp("killed").text, "") == (what == 2 ? 8 : 7), "case %d: %d names are there", what,
              count_files(test_temp("killed").text, ""));
        CHECK(sha256_file(after, old.text, &err) && strcmp(before, after) == 0, "case %d: the old shards", what);
    }
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
    TokenizeJob job = data_test_job(tok, inputs, val_fraction, split, shard_tokens);
    memset(stats, 0, sizeof *stats);
    bool ok = tokenize_files(&job, test_temp(prefix).text, stats, err);
    str_list_free(&stats->damage.named);
    return ok;
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
    doc_begin(&reader, f.text, f.size, DOC_BLANK);
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

    static const char *const refused[][2] = {{"\x1f\x8b\x08xxxx", "not one document"},
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

// A token in front of every document, once, however often a long one is cut; and of its text nothing changes.
static void test_tokenize_begin(const Tokenizer *tok) {
    Error err;
    TokenizeStats stats;
    Dataset d;
    Str many;
    Path in = test_temp("begin.txt");
    Tokenizer begins = *tok;
    begins.bos = begins.eot + 1;
    memset(&many, 0, sizeof many);
    for (int i = 0; i < 30000; i++) str_printf(&many, "Zeile %d\n%s", i, i == 10000 ? "\f" : "");
    bool ok = file_write_quickly(in.text, many.data, many.size, &err) &&
              data_test_run(&begins, in.text, "begin", 0, DOC_FORMFEED, 0, &stats, &err) &&
              dataset_open(&d, test_temp("begin_train_00000.bin").text, 8, &err);
    CHECK(ok && many.size > 2 * TOKENIZE_CHUNK && stats.documents[0] == 2, "%s", ok ? "too little text" : err.text);
    if (!ok) return;
    const Shard *s = &d.shards[0];
    int64_t fronts = 0, wrong = 0;
    for (int64_t t = 0; t < s->header.tokens; t++) {
        if ((int)shard_token(s, t) != begins.bos) continue;
        fronts++;
        wrong += t > 0 && (int)shard_token(s, t - 1) != tok->eot;
    }
    CHECK(fronts == 2 && wrong == 0 && (int)shard_token(s, 0) == begins.bos,
          "%lld in front of documents, %lld elsewhere", (long long)fronts, (long long)wrong);
    dataset_close(&d);
    Str plain = data_test_text(&begins, "begin_train_*.bin");
    CHECK(plain.size == many.size - 1 && stats.bytes[0] == (int64_t)plain.size - 2, // 2 line feeds and \f go, 2 | come
          "%zu bytes of %zu", plain.size, many.size);
    free(plain.data);
    free(many.data);
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
    CHECK(count_shards("m3_train_") == stats.shards[0] && count_shards("m3_val_") == stats.shards[1],
          "leftovers of an earlier run");
    CHECK(data_test_run(tok, in.text, "m3", 0, DOC_BLANK, 0, &stats, &err) && count_shards("m3_") == 1,
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
        CHECK(count_shards("d_") == 2, "a failed run left %d files", count_shards("d_"));
    }
    free(many.data);
}

static void test_signals(void) {
    Error err;
    Tokenizer tok;
    bool ok = data_test_tokenizer(&tok, &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    signals_test_writing(&tok);
    tokenizer_free(&tok);
}

static void test_data(void) {
    Error err;
    Tokenizer tok;
    test_permutation();
    test_reader();
    test_shards();
    test_shard_damage();
    test_shard_sets();
    test_shard_checks();
    test_shard_swap();
    bool ok = data_test_tokenizer(&tok, &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    test_tokenize_documents(&tok);
    test_tokenize_begin(&tok);
    test_tokenize_split(&tok);
    tokenizer_free(&tok);
}

#endif
