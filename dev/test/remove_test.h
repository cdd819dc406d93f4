/*
remove_test.h: removing documents from shards, and which steps of a run have read them (removal_list.h,
removal_shards.h, exposure.h). Cleaned text, killed removals and the report are for remove_test.sh.

Every made-up document has tokens of its own, so that brute force is simple: the batches of every rank and micro-batch
of a run are read as training reads them, and a step has read a document if one of its tokens is in one of them. Shards
after a removal are held against shards that are written without the documents.
*/
#ifndef REMOVE_TEST_H
#define REMOVE_TEST_H

#include "../../llmc/run/exposure.h"
#include "chat_test.h"
#include "check.h"
#include "files_test.h"

enum { REMOVE_DOCS = 60, REMOVE_OWN = 1000, REMOVE_VOCAB = (REMOVE_DOCS + 1) * REMOVE_OWN, REMOVE_EOT = 1 };

// Tokens of document i; token k is i * REMOVE_OWN + k. Some are longer than a shard, some are one token.
static int64_t remove_test_size(int i) {
    return i == 20 ? 900 : i % 11 == 3 ? 1 : 5 + (int64_t)(permutation_mix((uint64_t)i) % 60);
}

// Document 7 and 33 are the same text.
static void remove_test_sum(uint8_t sha256[32], int i) {
    Path text = path_of("document %d", i == 33 ? 7 : i);
    removal_sum_of(sha256, text.text, strlen(text.text));
}

// Writes the documents but for those of `without` (REMOVE_DOCS flags, or NULL), every fifth to the validation side.
static bool remove_test_shards(const char *prefix, const bool *without, int64_t limit, Error *err) {
    ShardSet set;
    ShardWriter w[2];
    if (!shard_set_open(&set, prefix, err)) return false;
    for (int side = 0; side < 2; side++) shardwriter_open(&w[side], &set, side, REMOVE_VOCAB, 99, REMOVE_EOT, limit);
    for (int i = 0; i < REMOVE_DOCS; i++) {
        ShardWriter *to = &w[i % 5 == 4];
        ShardDoc doc;
        if (without && without[i]) continue;
        memset(&doc, 0, sizeof doc);
        remove_test_sum(doc.sha256, i);
        doc.offset = 100 * i;
        shardwriter_document(to, &doc, path_of("source%d", i / 25).text);
        for (int64_t k = 0, n = remove_test_size(i); k <= n; k++) {
            int32_t id = k < n ? (int32_t)((i + 1) * REMOVE_OWN + k) : REMOVE_EOT;
            shardwriter_add(to, &id, 1, k < n ? 3 : 0, k == n);
        }
    }
    Str text;
    memset(&text, 0, sizeof text);
    str_printf(&text,
               "%s{\"train\": %zu, \"val\": %zu, \"set\": \"0\"},\n  \"train\": {\"documents\": 1, \"tokens\": 2, "
               "\"bytes\": 3},\n  \"other\": [1, 2.5, null, \"x\"]\n}\n",
               SHARD_MANIFEST_START, w[0].count, w[1].count);
    bool ok = shards_finish(w, 2, err) && shards_manifest(&set, &text, err) && shards_commit(&set, w, 2, err);
    shards_abort(&set, w, 2);
    free(text.data);
    return ok;
}

// Each token but the closing one stands for three bytes, as above.
static Tokenizer remove_test_tokenizer(void) {
    Tokenizer tok;
    memset(&tok, 0, sizeof tok);
    tok.vocab_size = REMOVE_VOCAB;
    tok.bytes = (uint8_t *)mem_alloc(1);
    tok.byte_offsets = (__typeof__(tok.byte_offsets))mem_alloc(sizeof *tok.byte_offsets * (REMOVE_VOCAB + 1));
    for (int i = 0; i < REMOVE_VOCAB; i++) tok.byte_offsets[i + 1] = tok.byte_offsets[i] + (i == REMOVE_EOT ? 0 : 3);
    return tok;
}

static bool remove_test_same(const char *a, const char *b) {
    Str x, y;
    Error err;
    FileKind kind_a, kind_b;
    memset(&x, 0, sizeof x);
    memset(&y, 0, sizeof y);
    bool looked = path_look(a, &kind_a, &err) && path_look(b, &kind_b, &err);
    bool same = looked && kind_a == kind_b &&
                (kind_a == FILE_ABSENT || (file_read(&x, a, 1 << 24, &err) && file_read(&y, b, 1 << 24, &err) &&
                                           x.size == y.size && memcmp(x.data, y.data, x.size) == 0));
    free(x.data);
    free(y.data);
    return same;
}

// All shards and lists of two prefixes.
static bool remove_test_same_sets(const char *a, const char *b) {
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < 12; i++)
            for (int docs = 0; docs < 2; docs++)
                if (!remove_test_same(path_of("%s_%s_%05d.%s", a, shard_sides[side], i, shard_ending(docs)).text,
                                      path_of("%s_%s_%05d.%s", b, shard_sides[side], i, shard_ending(docs)).text))
                    return false;
    return true;
}

// A list of the documents with these numbers, -1 ends them.
static RemovalList remove_test_list(const int *numbers) {
    RemovalList list;
    Error err;
    Str text;
    Path path = test_temp("remove_ids");
    memset(&list, 0, sizeof list);
    memset(&text, 0, sizeof text);
    for (; *numbers >= 0; numbers++) {
        char hex[65];
        uint8_t sum[32];
        remove_test_sum(sum, *numbers);
        sha256_hex(hex, sum);
        str_printf(&text, "%s\n", hex);
    }
    CHECK(file_write_all(path.text, text.data, text.size, &err) && removal_list_read(&list, path.text, &err), "%s",
          err.text);
    free(text.data);
    return list;
}

// ---------------------------------------------------------------- shards

static void test_remove_shards(void) {
    static const int removed[][8] = {{0, -1},
                                     {59, -1},
                                     {20, -1},
                                     {7, -1},
                                     {3, 14, 19, 21, -1},
                                     {58, 57, 56, 55, 53, -1},
                                     {4, 9, 14, 19, 24, 29, 34, -1},
                                     {1, 2, 3, 5, 6, 8, 10, -1}};
    static const int64_t limits[3] = {150, 400, 100000};
    Error err;
    Tokenizer tok = remove_test_tokenizer();
    Path a = test_temp("rm"), b = test_temp("rw");
    ShardName name;
    RemovalSet set;
    CHECK(shard_prefix_parse(&name, a.text, &err), "%s", err.text);
    for (size_t t = 0; t < sizeof removed / sizeof *removed + 1; t++)
        for (int again = 0; again < (t < 1 ? 3 : 1); again++) { // each shard is synced: not all cases with all limits
            int64_t limit = limits[(t + (size_t)again) % 3];
            bool without[REMOVE_DOCS] = {false}, all = t == sizeof removed / sizeof *removed;
            int every[REMOVE_DOCS + 1], n = 0; // the last case: all of the validation side
            for (int i = 4; i < REMOVE_DOCS; i += 5) every[n++] = i;
            every[n] = -1;
            RemovalList list = remove_test_list(all ? every : removed[t]);
            for (int i = 0; i < REMOVE_DOCS; i++) {
                uint8_t sum[32];
                remove_test_sum(sum, i);
                without[i] = removal_list_has(&list, sum);
            }
            CHECK(without[33] == without[7], "a duplicate stays");
            CHECK(remove_test_shards(a.text, NULL, limit, &err) && remove_test_shards(b.text, without, limit, &err) &&
                      removal_set_open(&set, &name, &err),
                  "%s", err.text);
            bool ok = removal_set_write(&set, &list, &tok, "\"at\": \"now\"", &err);
            CHECK(ok, "%s", err.text);
            CHECK(remove_test_same_sets(a.text, b.text), "case %zu, shards of %lld: other shards than without", t,
                  (long long)limit);
            removal_set_close(&set);
            removal_list_free(&list);
        }
    JsonDoc doc;
    const Json *root = json_load(&doc, path_of("%s_manifest.json", a.text).text, &err);
    const Json *entry = root ? json_get(root, "removed")->child : NULL;
    CHECK(root && entry && !entry->next && json_integer(json_get(entry, "documents"), 0) == 12, "the manifest: %s",
          root ? "no entry" : err.text);
    if (root) json_free(&doc);
    // A list of documents that is of another set, and one that is not there.
    CHECK(remove_test_shards(a.text, NULL, 400, &err) && remove_test_shards(b.text, NULL, 401, &err), "%s", err.text);
    Path docs = path_of("%s_train_00001.docs", a.text);
    CHECK(rename(path_of("%s_train_00001.docs", b.text).text, docs.text) == 0, "%s", strerror(errno));
    CHECK_ERROR(removal_set_open(&set, &name, &err), "is not the list of documents of");
    CHECK(unlink(docs.text) == 0, "%s", strerror(errno));
    CHECK_ERROR(removal_set_open(&set, &name, &err), "has no list of its documents");
    free(tok.bytes);
    free(tok.byte_offsets);
}

// ---------------------------------------------------------------- runs

typedef struct {
    int ranks, B, micro; // a step: ranks x B x micro sequences
    int64_t from;        // position of its first
    bool skipped;
} RemoveTestStep;

// A run's folder with what the program writes of these steps: metrics.jsonl, and run.json of the last one.
static void remove_test_run(const char *folder, const char *train_data, const BatchSource *s, int64_t seed,
                            const RemoveTestStep *steps, int count) {
    Error err;
    Str metrics, run;
    RunState state;
    memset(&metrics, 0, sizeof metrics);
    memset(&run, 0, sizeof run);
    memset(&state, 0, sizeof state);
    for (int i = 0; i < count; i++) {
        int n = steps[i].ranks * steps[i].B * steps[i].micro;
        state.position = steps[i].from + n;
        if (!steps[i].skipped) state.tokens += (int64_t)n * s->seq_len;
        str_printf(&metrics, "{\"step\": %d, \"tokens\": %lld, \"position\": %lld, \"epoch\": %.9g, \"loss\": 1}\n",
                   i + 1, (long long)state.tokens, (long long)state.position,
                   (double)state.position / (double)s->sequences);
    }
    state.step = count;
    state.seed = seed;
    state.seq_len = s->seq_len;
    state.data = s->fingerprint;
    str_puts(&run, RUN_FORMAT_2);
    run_state_json(&run, &state);
    str_puts(&run, "  \"options\": {\"model\": \"nano\", \"train_data\": ");
    json_escape(&run, train_data, strlen(train_data));
    str_puts(&run, "},\n  \"files\": {},");
    run_record_seal(&run);
    Path step = checkpoint_folder(folder, count);
    path_remove_tree(folder, NULL);
    bool ok = path_make_folder(step.text, &err) &&
              file_write_all(path_of("%s/run.json", step.text).text, run.data, run.size, &err) &&
              file_write_all(path_of("%s/metrics.jsonl", folder).text, metrics.data, metrics.size, &err);
    CHECK(ok, "%s", err.text);
    free(metrics.data);
    free(run.data);
}

// read[doc][step]: brute force, as trainer_read reads.
static void remove_test_replay(bool (*read)[64], const BatchSource *s, const RemoveTestStep *steps, int count) {
    Error err;
    int32_t *in = (int32_t *)mem_alloc(sizeof(int32_t) * 64 * (size_t)s->seq_len), *out = in + 32 * s->seq_len;
    SourceRows rows = {in, out, NULL};
    for (int i = 0; i < count; i++)
        for (int rank = 0; rank < steps[i].ranks; rank++)
            for (int micro = 0; micro < steps[i].micro; micro++) {
                int64_t first = steps[i].from + ((int64_t)micro * steps[i].ranks + rank) * steps[i].B;
                CHECK(s->next(s, first, steps[i].B, rows, &err), "%s", err.text);
                for (int64_t t = 0; t < (int64_t)steps[i].B * s->seq_len; t++) {
                    if (in[t] >= REMOVE_OWN) read[in[t] / REMOVE_OWN - 1][i] = true;
                    if (out[t] >= REMOVE_OWN) read[out[t] / REMOVE_OWN - 1][i] = true;
                }
            }
    free(in);
}

// What exposure.h says of every document against what was read.
static void remove_test_compare(const char *folder, bool (*read)[64], const RemoveTestStep *steps, int count,
                                const char *what) {
    Error err;
    Exposure e;
    int all[REMOVE_DOCS + 1], wrong = 0, known = 0;
    for (int i = 0; i <= REMOVE_DOCS; i++) all[i] = i < REMOVE_DOCS ? i : -1;
    RemovalList list = remove_test_list(all);
    bool ok = exposure_open(&e, folder, &err) && exposure_read(&e, &list, &err);
    CHECK(ok, "%s: %s", what, err.text);
    for (size_t d = 0; ok && d < e.doc_count; d++) {
        int doc = (int)(e.docs[d].offset / 100);
        bool said[64] = {false}, skipped[64] = {false};
        for (size_t h = 0; h < e.hit_count; h++)
            if (e.hits[h].doc == (int64_t)d)
                said[e.hits[h].step - 1] = true, skipped[e.hits[h].step - 1] = e.hits[h].skipped;
        for (int i = 0; i < count; i++) {
            wrong += said[i] != read[doc][i] || (said[i] && skipped[i] != steps[i].skipped);
            known += said[i];
        }
    }
    CHECK(wrong == 0, "%s: %d steps are said to have read what they have not, or the reverse", what, wrong);
    CHECK(known > 20, "%s: only %d readings: the test shows nothing", what, known);
    exposure_free(&e);
    removal_list_free(&list);
}

// Runs over one source and over two, on all kinds of ranks and batches, over several epochs.
static void test_remove_exposure(void) {
    Error err;
    Tokenizer tok = remove_test_tokenizer();
    Path a = test_temp("ra"), b = test_temp("rb"), run = test_temp("rrun");
    CHECK(remove_test_shards(a.text, NULL, 400, &err) && remove_test_shards(b.text, NULL, 150, &err), "%s", err.text);
    Path plain = path_of("%s_train_*.bin", a.text),
         mixed = path_of("%s_train_*.bin:0.6,%s_val_*.bin:0.4", a.text, b.text);
    Mix *m = (Mix *)mem_alloc(sizeof(Mix));
    for (int form = 0; form < 2; form++)
        for (int ranks = 1; ranks <= 4; ranks++)
            for (int T = 7; T <= 61; T += 27) {
                Dataset d;
                RemoveTestStep steps[40];
                bool read[REMOVE_DOCS][64];
                int64_t position = 0;
                Path what = path_of("%s, %d ranks, T %d", form ? "two sources" : "one source", ranks, T);
                const char *list = form ? mixed.text : plain.text;
                memset(read, 0, sizeof read);
                CHECK(mix_open(m, &d, list, T, &err), "%s", err.text);
                BatchSource s = source_of_mix(m, 5);
                for (int i = 0; i < 40;
                     i++) { // resumed at step 20 with another batch; step 25 skipped; 30 after a rollback
                    RemoveTestStep step = {ranks, 1 + (T == 7) * 3, i < 20 ? 2 : 1, position, i == 25};
                    if (i == 30) step.from = position += 17;
                    steps[i] = step;
                    position += (int64_t)step.ranks * step.B * step.micro;
                }
                CHECK(T == 7 || ranks < 4 || position > 2 * d.sequences, "%s: less than two epochs", what.text);
                remove_test_run(run.text, list, &s, 5, steps, 40);
                remove_test_replay(read, &s, steps, 40);
                remove_test_compare(run.text, read, steps, 40, what.text);
                mix_close(m);
                dataset_close(&d);
                if (ranks < 4 || T < 61) continue;
                // Two removals later the same is known, from what they kept.
                static const int gone[2][4] = {{7, 20, 0, -1}, {1, 9, 59, -1}};
                for (int k = 0; k < 2; k++) {
                    const char *prefix[2] = {a.text, b.text};
                    for (int p = 0; p < 2; p++) {
                        ShardName name;
                        RemovalSet set;
                        RemovalList out = remove_test_list(gone[k]);
                        CHECK(shard_prefix_parse(&name, prefix[p], &err) && removal_set_open(&set, &name, &err) &&
                                  removal_set_write(&set, &out, &tok, "\"at\": \"now\"", &err),
                              "%s", err.text);
                        removal_set_close(&set);
                        removal_list_free(&out);
                    }
                    remove_test_compare(run.text, read, steps, 40, path_of("%s, %d removals", what.text, k + 1).text);
                }
                Exposure e;
                Path metrics = path_of("%s/metrics.jsonl", run.text), history = path_of("%s_history", a.text);
                CHECK(path_remove_tree(history.text, &err), "%s", err.text);
                CHECK_ERROR(exposure_open(&e, run.text, &err), "was trained on other data");
                exposure_free(&e);
                CHECK(remove_test_shards(a.text, NULL, 400, &err) && remove_test_shards(b.text, NULL, 150, &err), "%s",
                      err.text);
                CHECK(file_write_all(metrics.text, "{\"step\": 2, \"tokens\": 3}\n", 25, &err), "%s", err.text);
                CHECK_ERROR(exposure_open(&e, run.text, &err), "does not follow from it");
                exposure_free(&e);
                CHECK(file_write_all(metrics.text, "", 0, &err), "%s", err.text);
                CHECK_ERROR(exposure_open(&e, run.text, &err), "they are not of one run");
                exposure_free(&e);
            }
    free(m);
    free(tok.bytes);
    free(tok.byte_offsets);
}

// ---------------------------------------------------------------- lists

static void test_remove_list(void) {
    static const char hex[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // of "abc"
    Error err;
    RemovalList list;
    Path path = test_temp("ids");
    Str text;
    memset(&text, 0, sizeof text);
    str_printf(&text,
               "# a comment\n\n%s\r\n  BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD\nc:/x "
               "y.txt:17\n"
               "{\"text\": \"\\n\\nabc \\n\"}\n{\"text\": \"x\", \"origin\": {\"source\": \"s\", \"offset\": 5}}\n"
               "{\"sha256\": \"%s\"}\n",
               hex, hex);
    CHECK(file_write_all(path.text, text.data, text.size, &err) && removal_list_read(&list, path.text, &err), "%s",
          err.text);
    RemovalDocument d;
    memset(&d, 0, sizeof d);
    CHECK(list.count == 6 && list.originals.count == 1 && list.place_count == 2, "%zu requests", list.count);
    CHECK(list.requests[1].same == 0 && list.requests[3].same == 0 && list.requests[5].same == 0 &&
              list.requests[2].same == 2,
          "requests for one document are counted as several");
    d.source = "c:/x y.txt", d.offset = 17, d.sha256[0] = 1;
    CHECK(removal_list_find(&list, &d) == 2, "a place");
    d.offset = 18;
    CHECK(removal_list_find(&list, &d) == -1, "another place");
    removal_list_settle(&list);
    CHECK(removal_list_has(&list, d.sha256), "what is a duplicate of it is not found");
    d.sha256[0] = 2, d.text = "abc", d.n = 3;
    CHECK(removal_list_find(&list, &d) == 3 && list.requests[3].same == 0, "a text that has another original");
    removal_list_free(&list);
    CHECK(removal_list_read(&list, hex, &err) && list.count == 1 &&
              removal_list_has(&list, (const uint8_t *)"\xba\x78\x16\xbf"
                                                       "\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23\xb0\x03\x61"
                                                       "\xa3\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad"),
          "a sum as the option's value");
    removal_list_free(&list);
    CHECK(file_write_all(path.text, "Guten Tag.\nabc:12\n", 18, &err) && removal_list_read(&list, path.text, &err) &&
              list.count == 1 && list.texts.count == 1,
          "a text");
    removal_list_free(&list);
    static const char *const wrong[][2] = {{"s:1\nkein Name\n", "line 2 is \"kein Name\", which is no id"},
                                           {"s:1\n{\"sha256\": \"12\"}\n", "line 2 is"},
                                           {"s:1\n{\"source\": \"a\"}", "line 2 is"},
                                           {"# nothing\n\n", "names no document"},
                                           {"", "names no document"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(file_write_all(path.text, wrong[i][0], strlen(wrong[i][0]), &err), "%s", err.text);
        CHECK_ERROR(removal_list_read(&list, path.text, &err), wrong[i][1]);
        removal_list_free(&list);
    }
    free(text.data);
}

// A list that asks for the first lines of a text, and their tokens.
static RemovalList remove_test_lines(IdList *ids, const ChatFormat *f, const char *text, int lines) {
    RemovalList list;
    Error err;
    Str sums;
    Path path = test_temp("remove_lines");
    memset(&list, 0, sizeof list);
    memset(&sums, 0, sizeof sums);
    for (const char *line = text, *end; lines-- > 0; line = end + 1) {
        Sha256 sum;
        ChatLine l;
        uint8_t digest[32];
        char hex[65];
        end = strchr(line, '\n');
        memset(&l, 0, sizeof l);
        l.line = (char *)(uintptr_t)line, l.n = (size_t)(end - line);
        chat_encode_line(f, &l, NULL);
        *ids++ = l.ids;
        sha256_init(&sum);
        sha256_update(&sum, line, l.n);
        sha256_final(digest, &sum);
        sha256_hex(hex, digest);
        str_printf(&sums, "%s\n", hex);
    }
    CHECK(file_write_all(path.text, sums.data, sums.size, &err) && removal_list_read(&list, path.text, &err), "%s",
          err.text);
    free(sums.data);
    return list;
}

// read[line][step]: brute force. What stands in a row between two borders is what of one conversation has room in it.
static void remove_test_replay_chat(bool (*read)[64], const BatchSource *s, const IdList *ids,
                                    const RemoveTestStep *steps, int count) {
    Error err;
    const int T = s->seq_len;
    int64_t lengths[REMOVE_DOCS];
    int32_t *in = (int32_t *)mem_alloc(sizeof(int32_t) * 3 * (size_t)T);
    SourceRows rows = {in, in + T, in + 2 * T};
    for (int k = 0; k < REMOVE_DOCS; k++)
        lengths[k] = chat_test_length((const uint32_t *)ids[k].items, 0, (int64_t)ids[k].count, T);
    for (int i = 0; i < count; i++)
        for (int64_t p = 0; p < (int64_t)steps[i].ranks * steps[i].B * steps[i].micro; p++) {
            CHECK(s->next(s, steps[i].from + p, 1, rows, &err), "%s", err.text);
            for (int t = 0, end; t < T; t = end) {
                for (end = t + 1; end < T && rows.starts[end] == t;) end++;
                for (int k = 0; k < REMOVE_DOCS; k++) {
                    bool same = end - t == lengths[k];
                    for (int x = 0; same && x < end - t; x++)
                        same = (int32_t)((uint32_t)ids[k].items[x] & CHAT_ID) == in[t + x];
                    read[k][i] = read[k][i] || same;
                }
            }
        }
    free(in);
}

// Runs on conversations, in shards of some tokens: rows in which many have no place, rows behind whose end many
// are cut, and rows that hold all of them.
static void test_remove_conversations(void) {
    Error err;
    Tokenizer tok;
    ChatFormat f;
    ChatTokens fresh;
    ChatStats stats;
    Str text;
    IdList ids[REMOVE_DOCS];
    Path input = test_temp("remove_chat.jsonl"), prefix = test_temp("rc"), run = test_temp("rcrun"),
         glob = path_of("%s_train_*.bin", prefix.text);
    memset(&text, 0, sizeof text);
    memset(&stats, 0, sizeof stats);
    CHECK(chat_test_open(&tok, &f, &err) && chat_prepare(&tok, 0, &fresh, &err), "%s", err.text);
    chat_test_file(&text, REMOVE_DOCS);
    ChatJob job = {&tok, input.text, 0, 1024, false, "test", NULL, false};
    bool ok =
        file_write_all(input.text, text.data, text.size, &err) && chat_tokenize_files(&job, prefix.text, &stats, &err);
    CHECK(ok, "%s", err.text);
    RemovalList list = remove_test_lines(ids, &f, text.data, REMOVE_DOCS);
    Mix *m = (Mix *)mem_alloc(sizeof(Mix));
    static const int lengths[3] = {36, 165, 400};
    for (int form = 0; ok && form < 3; form++) {
        const int T = lengths[form];
        Dataset d;
        Exposure e;
        RemoveTestStep steps[30];
        bool read[REMOVE_DOCS][64];
        int64_t position = 0;
        int wrong = 0, known = 0, never = 0;
        memset(read, 0, sizeof read);
        CHECK(mix_open(m, &d, glob.text, T, &err) && d.count > 2, "%s", err.text);
        BatchSource s = source_of_mix(m, 5);
        for (int i = 0; i < 30; i++, position += 4) {
            RemoveTestStep step = {2, 1, 2, position, i == 11};
            steps[i] = step;
        }
        remove_test_run(run.text, glob.text, &s, 5, steps, 30);
        remove_test_replay_chat(read, &s, ids, steps, 30);
        ok = exposure_open(&e, run.text, &err) && exposure_read(&e, &list, &err);
        CHECK(ok && e.doc_count == REMOVE_DOCS && e.sequences == d.sequences, "T %d: %zu conversations: %s", T,
              e.doc_count, ok ? "" : err.text);
        for (size_t k = 0; ok && k < e.doc_count; k++) {
            bool said[64] = {false}, skipped[64] = {false};
            int line = 0;
            for (int64_t at = 0; at < e.docs[k].offset; at++) line += text.data[at] == '\n';
            for (size_t h = 0; h < e.hit_count; h++)
                if (e.hits[h].doc == (int64_t)k)
                    said[e.hits[h].step - 1] = true, skipped[e.hits[h].step - 1] = e.hits[h].skipped;
            for (int i = 0; i < 30; i++) {
                wrong += said[i] != read[line][i] || (said[i] && skipped[i] != steps[i].skipped);
                known += said[i];
            }
            never += e.docs[k].sequences == 0;
        }
        CHECK(wrong == 0, "T %d: %d steps are said to have read what they have not, or the reverse", T, wrong);
        CHECK(known > 60 && (never > 0) == (form == 0), "T %d: %d readings, %d never", T, known, never);
        exposure_free(&e);
        mix_close(m);
        dataset_close(&d);
    }
    // A removal later nobody knows where the answers of what is gone ended.
    ShardName name;
    RemovalSet set;
    IdList first;
    RemovalList one = remove_test_lines(&first, &f, text.data, 1);
    Exposure e;
    CHECK(shard_prefix_parse(&name, prefix.text, &err) && removal_set_open(&set, &name, &err) &&
              removal_set_write(&set, &one, &tok, "\"at\": \"now\"", &err),
          "%s", err.text);
    removal_set_close(&set);
    CHECK_ERROR(exposure_open(&e, run.text, &err), "of those that a removal has changed nobody can say");
    exposure_free(&e);
    removal_list_free(&list);
    removal_list_free(&one);
    free(first.items);
    for (int k = 0; k < REMOVE_DOCS; k++) free(ids[k].items);
    free(m);
    free(text.data);
    tokenizer_free(&tok);
}

static void test_remove(void) {
    test_remove_list();
    test_remove_shards();
    test_remove_exposure();
    test_remove_conversations();
}

#endif
