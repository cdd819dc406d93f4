/*
embeddings_test.h: --init_embeddings: every row of a small model by hand, and the rest of it unchanged.
*/
#include "../../llmc/run/init_embeddings.h"
#include "check.h"

// A tokenizer.json of 256 bytes in GPT-2's order, merges of names ("a b"), and special tokens, in this order of ids.
static void embeddings_tokenizer(const char *folder, const char *const *merges, const char *const *specials) {
    uint32_t to_char[256];
    int16_t to_byte[324];
    Error err;
    Str s;
    int id = 0;
    memset(&s, 0, sizeof s);
    byte_names(to_char, to_byte);
    str_puts(&s, "{\"version\": \"1.0\", \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
                 "\"add_prefix_space\": false, \"use_regex\": true}, \"model\": {\"type\": \"BPE\", \"vocab\": {");
    for (int pass = 0; pass < 2; pass++)
        for (int b = 0; b < 256; b++) {
            uint8_t c[4];
            if (byte_is_printable(b) != (pass == 0)) continue;
            str_puts(&s, id ? ", " : "");
            json_escape(&s, (const char *)c, (size_t)utf8_put(c, to_char[b]));
            str_printf(&s, ": %d", id++);
        }
    for (int i = 0; merges[i]; i++) {
        const char *space = strchr(merges[i], ' ');
        str_printf(&s, ", \"%.*s%s\": %d", (int)(space - merges[i]), merges[i], space + 1, id++);
    }
    str_puts(&s, "}, \"merges\": [");
    for (int i = 0; merges[i]; i++) str_printf(&s, "%s\"%s\"", i ? ", " : "", merges[i]);
    str_puts(&s, "]}, \"added_tokens\": [");
    for (int i = 0; specials[i]; i++)
        str_printf(&s, "%s{\"id\": %d, \"content\": \"%s\", \"special\": true, \"normalized\": false}", i ? ", " : "",
                   id++, specials[i]);
    str_puts(&s, "]}");
    CHECK(path_make_folder(folder, &err) &&
              file_write_all(path_of("%.2000s/tokenizer.json", folder).text, s.data, s.size, &err),
          "%s", err.text);
    free(s.data);
}

static float embeddings_number(const SafeTensors *st, const char *name, int row, int col) {
    const SafeTensor *t = safetensors_find(st, name);
    float x = 0;
    if (t) safetensors_to_f32(&x, t, row * t->shape[1] + col, 1, NULL);
    return x;
}

// Old: 256 bytes, 256 "ab", 257 "cd", 258 "abcd", 259 <|end_of_text|>, 260 <|user|>; the model has 307 rows.
// New: 256 bytes, 256 "cd", 257 "ef", 258 "cdef", 259 "ab", 260 "abc", 261 "aba", 262 <|endoftext|>, 263 <|user|>,
// 264 <|new|>.
static void test_embeddings(void) {
    static const char *const old_merges[] = {"a b", "c d", "ab cd", NULL}, *const old_specials[] = {"<|end_of_text|>",
                                                                                                    "<|user|>", NULL};
    static const char *const new_merges[] = {"c d", "e f", "cd ef", "a b", "ab c", "ab a", NULL},
                             *const new_specials[] = {"<|endoftext|>", "<|user|>", "<|new|>", NULL};
    Error err;
    Path other = test_temp("german");
    GgufFolder f = gguf_folder(FAMILY_LLAMA, 24, 3, 1, 8, 32);
    Path folder = gguf_make_folder("base", &f, NULL);
    Options o;
    Tokenizer tok, old;
    Config c;
    Dist dist;
    ModelSetup setup;
    EmbeddingCounts n;
    SafeTensors st;
    memset(&o, 0, sizeof o), memset(&setup, 0, sizeof setup);
    dist_single(&dist);
    o.init_embeddings = o.model = folder.text;
    o.tokenizer = other.text;
    embeddings_tokenizer(other.text, new_merges, new_specials);
    bool ok = tokenizer_open(&tok, path_of("%.2000s/tokenizer.json", other.text).text, &err) &&
              folder_read_config(&c, folder.text, &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    CHECK_ERROR(embeddings_config(&c, &tok, &o, &err), "has no tokenizer.json");
    embeddings_tokenizer(folder.text, old_merges, old_specials);
    ok = embeddings_config(&c, &tok, &o, &err) && embeddings_check(&o, &err) &&
         safetensors_open(&st, folder.text, &err) &&
         tokenizer_open(&old, path_of("%.2000s/tokenizer.json", folder.text).text, &err);
    CHECK(ok && c.vocab_size == 265, "%d rows: %s", c.vocab_size, err.text);
    if (!ok) return;
    ParamTable t = param_table(&c);
    setup.config = c, setup.batch_size = 1, setup.seq_len = 8, setup.dist = &dist;
    Model *m = model_create(&setup, &err);
    ok = m && embeddings_load(m, &n, &t, &c, &tok, folder.text, &err);
    CHECK(ok, "%s", err.text);
    // 'a' is byte 97: of those that print the 65th, from '!' on. b, c, d, e, f follow.
    enum { ID_A = 64, ID_B, ID_C, ID_D, ID_E, ID_F };
    const struct {
        int row, from[4], count; // count 0: the mean of all 261 old tokens
    } rows[] = {{ID_A, {ID_A}, 1},
                {255, {255}, 1},
                {256, {257}, 1},
                {257, {ID_E, ID_F}, 2},
                {258, {257, ID_E, ID_F}, 3},
                {259, {256}, 1},
                {260, {256, ID_C}, 2},
                {261, {256, ID_A}, 2},
                {262, {259}, 1},
                {263, {260}, 1},
                {264, {0}, 0}};
    static const int kinds[2] = {PARAM_wte, PARAM_head_w};
    static const char *const names[2] = {"model.embed_tokens.weight", "lm_head.weight"};
    for (int k = 0; ok && k < 2; k++) {
        const Param *p = param_find(&t, kinds[k], -1);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            for (int col = 0; col < c.channels; col++) {
                Param one = param_piece(p, (size_t)(rows[i].row * c.channels + col), 1);
                float found = 0, expected;
                double sum = 0;
                for (int j = 0; j < rows[i].count; j++) sum += embeddings_number(&st, names[k], rows[i].from[j], col);
                for (int j = 0; j < 261 && !rows[i].count; j++) sum += embeddings_number(&st, names[k], j, col);
                expected = (float)(sum / (rows[i].count ? rows[i].count : 261));
                model_get(m, MODEL_WEIGHT, &one, &found, 0);
                CHECK(bits_of_float(found) == bits_of_float(expected), "%s (%d, %d) is %.9g, expected %.9g", names[k],
                      rows[i].row, col, (double)found, (double)expected);
            }
    }
    CHECK(n.bytes == 256 + 2 && n.names == 2 && n.means == 4 && n.pieces == 9 && n.rest == 1 && !n.same, "%s",
          embeddings_said(&n).text);
    for (int i = 0; ok && i < t.count; i++) { // all else as it was
        const Param *p = &t.items[i];
        if (p->kind == PARAM_wte || p->kind == PARAM_head_w) continue;
        DiskPart part = disk_part(folder_names(p, &c), p, &c, 0);
        Param one = param_piece(p, p->cols > 1 ? (size_t)p->cols : 0, 1);
        float found = 0, expected = 0;
        const SafeTensor *from = safetensors_find(&st, part.name);
        model_get(m, MODEL_WEIGHT, &one, &found, 0);
        CHECK(from && safetensors_to_f32(&expected, from, p->cols > 1 ? p->cols : 0, 1, &err) && found == expected,
              "%s", p->name);
    }
    if (m) model_destroy(m);
    param_table_free(&t);
    // With the model's own tokenizer nothing is to do; with another folder's model it is not clear what is meant.
    CHECK(folder_read_config(&c, folder.text, &err) && embeddings_config(&c, &old, &o, &err) && c.vocab_size == 307,
          "%s", err.text);
    t = param_table(&c);
    setup.config = c;
    m = model_create(&setup, &err);
    CHECK(m && embeddings_load(m, &n, &t, &c, &old, folder.text, &err) && n.same, "%s", err.text);
    const Param *wte = param_find(&t, PARAM_wte, -1);
    Param last = param_piece(wte, wte->count - 1, 1);
    float x = 0;
    if (m) model_get(m, MODEL_WEIGHT, &last, &x, 0);
    CHECK(x == embeddings_number(&st, names[0], 306, c.channels - 1), "the last row");
    if (m) model_destroy(m);
    param_table_free(&t);
    o.model = other.text;
    CHECK_ERROR(embeddings_config(&c, &tok, &o, &err), "give --model=");
    safetensors_close(&st);
    tokenizer_free(&tok), tokenizer_free(&old);
}
