/*
mix_test.h: sources by weight (mix.h). The share of each source is held against its weight at every position, what
stands at a position against plain counting, and a mixture of one source against the data set alone.
*/
#ifndef MIX_TEST_H
#define MIX_TEST_H

#include "../../llmc/text/mix.h"
#include "check.h"
#include "data_test.h"

// What is wrong with a mixture of these weights: shares before every position, the counts, the table's period.
static void mix_test_shares(const int64_t *weights, int count) {
    Mix *m = (Mix *)mem_alloc(sizeof(Mix));
    Error err;
    static const char name[] = "x";
    int64_t seen[MIX_MOST] = {0}, far = 0, wrong = 0, jobs = 0;
    for (int k = 0; k < count; k++) mix_add(m, name, name + 1, weights[k], &err), m->sources[k].sequences = 1 << 20;
    for (int k = 1; k < count; k++) m->sources[k].first = m->sources[k - 1].first + (1 << 20);
    mix_plan(m);
    int64_t positions = int64_min(3 * m->period, 3000000 / count);
    for (int64_t p = 0; p < positions; p++) {
        int k = m->turn[p % m->period];
        for (int i = 0; i < count; i++) { // |seen - weight * p| < 1, in whole numbers
            int64_t off = seen[i] * MIX_UNIT - weights[i] * p;
            far += off >= MIX_UNIT || off <= -MIX_UNIT;
            if (p % 997 < 3) wrong += mix_seen(m, i, p) != seen[i];
        }
        if (p % 101 == 0) {
            int64_t within = permutation(mix_seed(k, 5), (uint64_t)(seen[k] >> 20), 1 << 20, seen[k] % (1 << 20));
            jobs += mix_index(m, 5, p) != m->sources[k].first + within;
        }
        seen[k]++;
    }
    CHECK(far == 0, "%d sources of weights %lld, ...: %lld times a share is a sequence or more off", count,
          (long long)weights[0], (long long)far);
    CHECK(wrong == 0, "mix_seen is wrong %lld times", (long long)wrong);
    CHECK(jobs == 0, "mix_index is wrong %lld times", (long long)jobs);
    for (int k = 0; k < count; k++)
        CHECK(mix_seen(m, k, m->period) * MIX_UNIT == weights[k] * m->period, "source %d has %lld turns in a period", k,
              (long long)mix_seen(m, k, m->period));
    mix_close(m);
    free(m);
}

static void test_mix_order(void) {
    static const int64_t weights[][6] = {{700000, 300000},
                                         {500000, 500000},
                                         {999999, 1},
                                         {333333, 333333, 333334},
                                         {1, 2, 999997},
                                         {600000, 250000, 100000, 50000},
                                         {123457, 234567, 345679, 200000, 96296, 1},
                                         {1000000}};
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        int n = 0;
        int64_t sum = 0;
        while (n < 6 && weights[i][n]) sum += weights[i][n++];
        CHECK(sum == MIX_UNIT, "the test's own weights sum to %lld", (long long)sum);
        mix_test_shares(weights[i], n);
    }
    int64_t random[MIX_MOST], left = MIX_UNIT;
    for (int k = 0; k < MIX_MOST; k++) {
        random[k] = k + 1 < MIX_MOST ? 1 + (int64_t)(permutation_mix((uint64_t)k) % 15000) : left;
        left -= random[k];
    }
    CHECK(random[MIX_MOST - 1] > 0, "the test's own weights");
    mix_test_shares(random, MIX_MOST);
    // Frozen: a change would give every resumed run other data.
    static const char expected[] = "0010010001";
    Mix *m = (Mix *)mem_alloc(sizeof(Mix));
    Error err;
    CHECK(mix_parse(m, "a:0.7,b:0.3", &err), "%s", err.text);
    mix_plan(m);
    CHECK(m->period == 10, "the period is %lld", (long long)m->period);
    for (int p = 0; p < 10; p++) CHECK(m->turn[p] == expected[p] - '0', "position %d has source %d", p, m->turn[p]);
    mix_close(m);
    free(m);
}

static void test_mix_lists(void) {
    Error err;
    Mix *m = (Mix *)mem_alloc(sizeof(Mix));
    Path named = test_temp("c:0.5"), list = path_of("%s,x:0.25,%s/q:0.75", named.text, test_folder.text);
    CHECK(mix_parse(m, "a*,b,c:0.25,{d,e}:.5,v:1/f_*.bin:0.250", &err), "%s", err.text);
    CHECK(m->count == 3 && strcmp(m->sources[0].list, "a*,b,c") == 0 && strcmp(m->sources[1].list, "{d,e}") == 0 &&
              strcmp(m->sources[2].list, "v:1/f_*.bin") == 0,
          "%d sources", m->count);
    CHECK(m->sources[0].weight == 250000 && m->sources[1].weight == 500000, "the weights are others");
    mix_close(m);
    CHECK(mix_parse(m, "a,b:c,v:1/d", &err) && m->count == 1 && strcmp(m->sources[0].list, "a,b:c,v:1/d") == 0,
          "plain");
    mix_close(m);
    CHECK(file_write_all(named.text, "x", 1, &err), "%s", err.text);
    CHECK(mix_parse(m, list.text, &err) && m->count == 2 && strstr(m->sources[0].list, "c:0.5,x"),
          "a file that has a weight's look in its name: %s", err.text);
    mix_close(m);
    static const char *const wrong[][2] = {{"a:0.7,b:0.4", "sum to 1.1, expected 1"},
                                           {"a:0.7,b:0.3,c", "c has no weight"},
                                           {"a,b:0.3", "sum to 0.3"},
                                           {"a:0,b:1", "a has the weight \"0\""},
                                           {"a:1,b:-0.5", "b has the weight \"-0.5\""},
                                           {"a:0.5,b:0.5x", "b has the weight \"0.5x\""},
                                           {"a:,b:1", "a has the weight \"\""},
                                           {"a:1e-1,b:0.9", "weight \"1e-1\""},
                                           {"a:0.3333333,b:0.6666667", "at most 6 decimals"},
                                           {"a:99999999999999999999,b:0.5", "weight \"9999"},
                                           {"a:0.5.0,b:0.5", "weight \"0.5.0\""},
                                           {":0.5,b:0.5", "without files"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_ERROR(mix_parse(m, wrong[i][0], &err), wrong[i][1]);
        mix_close(m);
    }
    free(m);
}

static void test_mix_data(void) {
    Error err;
    enum { T = 16 };
    Dataset d, plain;
    Mix *m = (Mix *)mem_alloc(sizeof(Mix));
    int32_t in[3][2 * T], out[3][2 * T];
    SourceRows rows[2] = {{in[0], out[0], NULL}, {in[1], out[1], NULL}};
    Path a = test_temp("ma_train_00000.bin"), b = test_temp("mb_train_*.bin"), c = test_temp("mc_train_00000.bin"),
         e = test_temp("me_train_00000.bin");
    CHECK(shard_test_write("ma", 3000, 1 << 20, 300, 7, &err) && shard_test_write("mb", 5000, 2000, 300, 7, &err) &&
              shard_test_write("mc", 500, 1 << 20, 300, 8, &err) && shard_test_write("me", 12, 1 << 20, 300, 7, &err),
          "%s", err.text);
    Path mixed = path_of("%s:0.75,%s:0.25", a.text, b.text);
    CHECK(mix_open(m, &d, mixed.text, T, &err), "%s", err.text);
    BatchSource s = source_of_mix(m, 3);
    CHECK(m->sources[0].sequences == 187 && m->sources[1].sequences == d.sequences - 187, "%lld sequences",
          (long long)m->sources[0].sequences);
    // Any cut of the positions into batches reads the same, and what each reads is of its source.
    for (int64_t p = 0; p < 2000; p += 2) {
        bool ok = s.next(&s, p, 2, rows[0], &err) && s.next(&s, p, 1, rows[1], &err) &&
                  s.next(&s, p + 1, 1, source_rows_behind(rows[1], T), &err);
        CHECK(ok && memcmp(in[0], in[1], sizeof in[0]) == 0 && memcmp(out[0], out[1], sizeof out[0]) == 0, "%lld: %s",
              (long long)p, err.text);
        ok = dataset_sequence(&d, mix_index(m, 3, p), in[2], out[2], NULL, &err);
        CHECK(ok && memcmp(in[0], in[2], T * sizeof(int32_t)) == 0, "position %lld", (long long)p);
        CHECK((mix_index(m, 3, p) < 187) == (m->turn[p % m->period] == 0), "position %lld", (long long)p);
    }
    // An epoch of a source has each of its sequences once.
    char *read = (char *)mem_alloc((size_t)d.sequences);
    int64_t twice = 0, read_of_a = 0;
    for (int64_t p = 0; mix_seen(m, 0, p + 1) <= 187; p++) {
        int64_t index = mix_index(m, 3, p);
        if (index < 187) twice += read[index]++, read_of_a++;
    }
    CHECK(twice == 0 && read_of_a == 187, "%lld of an epoch twice, %lld in all", (long long)twice,
          (long long)read_of_a);
    free(read);
    CHECK(mix_epoch(m, 0, 1000) == 750.0 / 187, "epoch %g", mix_epoch(m, 0, 1000));
    uint64_t print = s.fingerprint;
    mix_close(m);
    dataset_close(&d);
    CHECK(mix_open(m, &d, path_of("%s:0.74,%s:0.26", a.text, b.text).text, T, &err), "%s", err.text);
    CHECK(source_of_mix(m, 3).fingerprint != print, "other weights have the same fingerprint");
    mix_close(m);
    dataset_close(&d);
    // One source, with its weight or without, is the data set alone.
    for (int with = 0; with < 2; with++) {
        CHECK(mix_open(m, &d, path_of("%s%s", b.text, with ? ":1" : "").text, T, &err) &&
                  dataset_open(&plain, b.text, T, &err),
              "%s", err.text);
        BatchSource one = source_of_mix(m, 3), same = source_of_dataset(&plain, true, 3);
        CHECK(one.fingerprint == same.fingerprint && one.sequences == same.sequences, "another fingerprint");
        for (int64_t p = 0; p < 1000; p += 2)
            CHECK(one.next(&one, p, 2, rows[0], &err) && same.next(&same, p, 2, rows[1], &err) &&
                      memcmp(in[0], in[1], sizeof in[0]) == 0 && mix_index(m, 3, p) == dataset_index(&plain, 3, p),
                  "position %lld", (long long)p);
        mix_close(m);
        dataset_close(&d);
        dataset_close(&plain);
    }
    CHECK_ERROR(mix_open(m, &d, path_of("%s:0.5,%s:0.5", a.text, c.text).text, T, &err), "another tokenizer");
    CHECK_ERROR(mix_open(m, &d, path_of("%s:0.5,%s:0.5", a.text, e.text).text, T, &err),
                "not enough data in the source");
    CHECK_ERROR(mix_open(m, &d, path_of("%s:0.5,nowhere:0.5", a.text).text, T, &err), "no such file: nowhere");
    free(m);
}

static void test_mix(void) {
    test_mix_order();
    test_mix_lists();
    test_mix_data();
}

#endif
