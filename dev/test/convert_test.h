/*
convert_test.h: what `convert` makes of GGUF files and of llm.c's checkpoints, good ones and hostile ones; and that a
folder in 16 bits is loaded with no second copy of it.

The judge of values is the folder that a file was exported from. Files that gguf-py of llama.cpp wrote, of each type and
architecture, were converted when this was written: the same tensors, and Transformers loads the folders.
*/
#include "../../llmc/files/convert.h"
#include "check.h"
#include <stdatomic.h>

static const char *const convert_models[] = {"gpt2",         "gpt2-untied",    "llama-llama3", "llama-tied-bf16",
                                             "llama-untied", "mistral-linear", "qwen2-yarn",   "qwen3-tied",
                                             "qwen3-untied", "smollm3",        "apertus",      "apertus-bf16"};
enum { CONVERT_MODELS = sizeof convert_models / sizeof *convert_models };

// Writes a file without waiting for a disk.
static bool convert_put(const char *path, const void *bytes, size_t n) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    bool ok = fd >= 0 && write(fd, bytes, n) == (ssize_t)n;
    if (fd >= 0) close(fd);
    return ok;
}

// A number as the export in this type keeps it, next to 31 others of its row.
static float convert_expected(const float *block, int i, int type) {
    if (type == DTYPE_F16) return f16_to_float(float_to_f16(block[i]));
    if (type == DTYPE_BF16) return bf16_to_float(float_to_bf16(block[i]));
    if (type != DTYPE_Q8_0) return block[i];
    float most = 0;
    for (int k = 0; k < 32; k++) most = fmaxf(most, fabsf(block[k]));
    float d = most / 127.0f;
    return f16_to_float(float_to_f16(d)) * (d > 0 ? roundf(block[i] / d) : 0);
}

// Tensor by tensor: the folder that was exported, and the one that came back.
static void convert_compare_weights(const char *from, const char *to, const Config *c, int dtype, const char *what) {
    SafeTensors a, b;
    Error err;
    err.text[0] = 0;
    bool ok = safetensors_open(&a, from, &err) && safetensors_open(&b, to, &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    for (int i = 0; i < b.count; i++) {
        const SafeTensor *y = &b.tensors[i], *x = disk_find(&a, "", y->name);
        bool vector = y->ndim == 1,
             turned = str_ends_with(y->name, "weight") && strstr(y->name, "transformer.h.") && !vector,
             kept = vector || strstr(y->name, "wpe"); // stay float32 in any file
        CHECK(x && x->elements == y->elements && x->ndim == y->ndim && x->shape[0] == y->shape[0], "%s: %s", what,
              y->name);
        if (!x || x->elements != y->elements) continue;
        float *p = (float *)mem_alloc(sizeof(float) * (size_t)x->elements),
              *q = (float *)mem_alloc(sizeof(float) * (size_t)x->elements);
        safetensors_to_f32(p, x, 0, x->elements, &err), safetensors_to_f32(q, y, 0, y->elements, &err);
        int64_t rows = y->shape[0], cols = vector ? 1 : y->shape[1], out = turned ? cols : rows,
                in = turned ? rows : cols;
        int type = kept ? DTYPE_F32 : dtype == DTYPE_Q8_0 && in % 32 ? DTYPE_F16 : dtype, wrong = 0;
        for (int64_t r = 0; r < out; r++)
            for (int64_t k = 0; k < in; k++) {
                float block[32] = {0};
                int64_t first = type == DTYPE_Q8_0 ? k / 32 * 32 : k;
                for (int64_t l = first; l < in && l < first + 32; l++)
                    block[l - first] = turned ? p[l * cols + r] : p[r * cols + l];
                float found = turned ? q[k * cols + r] : q[r * cols + k],
                      expected = convert_expected(block, (int)(k - first), type);
                // 1 / d rounds, so that a number halfway between two may fall to either: by one step of d
                bool near =
                    type == DTYPE_Q8_0 &&
                    fabsf(found - expected) <= fabsf(convert_expected(block, (int)(k - first), DTYPE_F32)) * 1e-2f;
                wrong += bits_of_float(found) != bits_of_float(expected) && !near && !(found == 0 && expected == 0);
            }
        CHECK(wrong == 0, "%s: %d numbers of %s are others", what, wrong, y->name);
        bool same_bytes = x->dtype == y->dtype && memcmp(x->data, y->data, x->bytes) == 0;
        CHECK(dtype != DTYPE_F32 || x->dtype != ST_F32 || same_bytes, "%s: %s has other bytes", what, y->name);
        CHECK(dtype != DTYPE_BF16 || x->dtype != ST_BF16 || same_bytes, "%s: %s was bf16 and has other bytes", what,
              y->name);
        free(p), free(q);
    }
    (void)c;
    int ballast = 0;
    for (int i = 0; i < a.count; i++)
        ballast += disk_is_ballast(a.tensors[i].name) || (c->tied && strcmp(a.tensors[i].name, "lm_head.weight") == 0);
    CHECK(a.count - ballast == b.count, "%s: %d tensors, expected %d", what, b.count, a.count - ballast);
    safetensors_close(&a), safetensors_close(&b);
}

// A folder through a GGUF file and back.
static void convert_round(const char *from, int dtype, bool same_hash) {
    Error err;
    Str told;
    Config a, b;
    Tokenizer t, u;
    Path file = test_temp("round.gguf"), to = test_temp("round"), what = path_of("%.300s, dtype %d", from, dtype);
    memset(&told, 0, sizeof told);
    err.text[0] = 0;
    path_remove_tree(to.text, NULL);
    bool ok = gguf_export(from, file.text, dtype, &err) && convert_run(&told, file.text, "", to.text, &err) &&
              folder_read_config(&a, from, &err) && folder_read_config(&b, to.text, &err);
    CHECK(ok, "%s: %s", what.text, err.text);
    free(told.data);
    if (!ok) return;
    if (a.family == FAMILY_MISTRAL) a.family = FAMILY_LLAMA; // a GGUF file does not say which
    const char *field = config_difference(&a, &b);
    CHECK(!field, "%s: %s is another", what.text, field ? field : "");
    for (int i = 0; i < CONFIG_KINDS; i++)
        CHECK(config_field(i)->type != FIELD_REAL || config_field(i)->close != 1e-5 ||
                  config_value(&a, i) == config_value(&b, i),
              "%s: %s is %.17g, expected %.17g", what.text, config_field(i)->name, config_value(&b, i),
              config_value(&a, i));
    ok = tokenizer_open(&t, path_of("%.2000s/tokenizer.json", from).text, &err) &&
         tokenizer_open(&u, path_of("%.2000s/tokenizer.json", to.text).text, &err);
    CHECK(ok, "%s: %s", what.text, err.text);
    if (!ok) return;
    CHECK(!same_hash || t.hash == u.hash, "%s: the tokenizer is another", what.text);
    CHECK(t.eot == u.eot && t.bos == u.bos && t.closing == u.closing && t.stop_count == u.stop_count,
          "%s: ends %d %d, %d %d", what.text, t.eot, u.eot, t.stop_count, u.stop_count);
    MappedFile sample;
    IdList x, y;
    memset(&x, 0, sizeof x), memset(&y, 0, sizeof y);
    if (file_map(&sample, "dev/test/sample_de.txt", &err)) {
        tokenizer_encode(&t, NULL, (const char *)sample.data, sample.size, &x);
        tokenizer_encode(&u, NULL, (const char *)sample.data, sample.size, &y);
        CHECK(x.count == y.count && memcmp(x.items, y.items, sizeof(int32_t) * x.count) == 0,
              "%s: a text has other ids", what.text);
        file_unmap(&sample);
    }
    free(x.items), free(y.items);
    tokenizer_free(&t), tokenizer_free(&u);
    convert_compare_weights(from, to.text, &a, dtype, what.text);
}

// ---------------------------------------------------------------- llm.c

// A checkpoint of llm.c in small, by its own order: 2 layers, 8 channels, 2 heads, 4 positions, 300 tokens in 384 rows.
// Number n of the file's numbers is (n % 251) / 8, which 16 bits hold as well.
enum { LC = 8, LT = 4, LV = 300, LVP = 384, LL = 2 };
static void convert_llmc_file(Str *s, int version) {
    static const int sizes[] = {LVP * LC,         LT * LC, LL * LC, LL * LC, LL * 3 * LC * LC, LL * 3 * LC,
                                LL * LC * LC,     LL * LC, LL * LC, LL * LC, LL * 4 * LC * LC, LL * 4 * LC,
                                LL * 4 * LC * LC, LL * LC, LC,      LC};
    int32_t h[256] = {20240326, version, LT, LV, LL, 2, LC, LVP};
    int n = 0;
    s->size = 0;
    str_add(s, h, sizeof h);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int i = 0; i < sizes[k]; i++, n++) {
            float x = (float)(n % 251) / 8;
            uint16_t half = float_to_bf16(x);
            str_add(s, version == 3 ? (void *)&x : (void *)&half, version == 3 ? 4 : 2);
        }
}

static void convert_llmc(int version) {
    Error err;
    Str file, told;
    SafeTensors st;
    Path path = test_temp("gpt2_124M.bin"), to = test_temp("llmc");
    memset(&file, 0, sizeof file), memset(&told, 0, sizeof told);
    err.text[0] = 0;
    path_remove_tree(to.text, NULL);
    convert_llmc_file(&file, version);
    const char *tokenizer = "dev/test/fixtures/models/gpt2/tokenizer.json";
    bool ok = convert_put(path.text, file.data, file.size) && convert_run(&told, path.text, tokenizer, to.text, &err) &&
              safetensors_open(&st, to.text, &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    float x[3 * LC * LC];
    const SafeTensor *wte = safetensors_find(&st, "transformer.wte.weight"),
                     *qkv = safetensors_find(&st, "transformer.h.1.attn.c_attn.weight"),
                     *last = safetensors_find(&st, "transformer.ln_f.bias");
    CHECK(wte && wte->shape[0] == LV && wte->shape[1] == LC && wte->dtype == (version == 3 ? ST_F32 : ST_BF16),
          "the embedding");
    CHECK(st.count == 2 + 2 * 12 + 2, "%d tensors", st.count);
    if (wte && safetensors_to_f32(x, wte, LC * (LV - 1), LC, &err))
        for (int i = 0; i < LC; i++)
            CHECK(x[i] == (float)((LC * (LV - 1) + i) % 251) / 8, "the last row of the embedding");
    int start = LVP * LC + LT * LC + 2 * LL * LC + 3 * LC * LC; // of the second layer's (24, 8)
    if (qkv && safetensors_to_f32(x, qkv, 0, 3 * LC * LC, &err))
        for (int r = 0; r < 3 * LC; r++)
            for (int k = 0; k < LC; k++)
                CHECK(x[k * 3 * LC + r] == (float)((start + r * LC + k) % 251) / 8, "c_attn (%d, %d)", r, k);
    int all = (int)((file.size - 1024) / (version == 3 ? 4 : 2));
    if (last && safetensors_to_f32(x, last, 0, LC, &err))
        CHECK(x[LC - 1] == (float)((all - 1) % 251) / 8, "the last number");
    safetensors_close(&st);
    // What is wrong with one.
    path_remove_tree(to.text, NULL);
    CHECK_ERROR(convert_run(&told, path.text, "", to.text, &err), "--tokenizer=FILE, of a gpt2_124M.bin");
    struct {
        int at, value;
        const char *message;
    } wrong[] = {{1, 4, "version 4"},
                 {3, 100, "only 100"},
                 {3, 400, "damaged"},
                 {4, 3, "truncated"},
                 {4, 1 << 30, "number of layers"},
                 {5, 0, "0 heads"},
                 {5, 3, "3 heads"},
                 {6, -8, "-8 channels"},
                 {6, 1 << 30, "hidden size"},
                 {2, 5, "truncated"},
                 {7, 299, "299 rows"},
                 {7, INT32_MAX, "truncated"},
                 {0, 20240801, "neither"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        convert_llmc_file(&file, version);
        memcpy(file.data + 4 * wrong[i].at, &wrong[i].value, 4);
        CHECK(convert_put(path.text, file.data, file.size), "cannot write");
        CHECK_ERROR(convert_run(&told, path.text, tokenizer, to.text, &err), wrong[i].message);
    }
    convert_llmc_file(&file, version);
    convert_put(path.text, file.data, file.size - 1);
    CHECK_ERROR(convert_run(&told, path.text, tokenizer, to.text, &err), "truncated");
    convert_put(path.text, file.data, 600);
    CHECK_ERROR(convert_run(&told, path.text, tokenizer, to.text, &err), "truncated");
    memset(file.data + 2000, 0xff, 4);
    convert_put(path.text, file.data, file.size);
    CHECK_ERROR(convert_run(&told, path.text, tokenizer, to.text, &err), "nan at number");
    FileKind kind;
    CHECK(path_look(to.text, &kind, &err) && kind == FILE_ABSENT, "a folder was left");
    free(file.data), free(told.data);
}

// ---------------------------------------------------------------- hostile files

// Where a text stands in a file; its end.
static size_t convert_behind(const Str *s, const char *text) {
    const char *p = (const char *)memmem(s->data, s->size, text, strlen(text));
    CHECK(p, "%s is not in the file", text);
    return p ? (size_t)(p - s->data) + strlen(text) : 0;
}

typedef struct {
    const char *text;  // in the file
    int behind;        // bytes behind it that are changed
    const char *bytes; // to what
    size_t n;
    const char *message;
} ConvertFault;

static void convert_fault(const Str *good, const ConvertFault *f, const char *path, const char *to) {
    Error err;
    Str bad, told;
    memset(&bad, 0, sizeof bad), memset(&told, 0, sizeof told);
    str_add(&bad, good->data, good->size);
    memcpy(bad.data + convert_behind(good, f->text) + (size_t)f->behind, f->bytes, f->n);
    CHECK(convert_put(path, bad.data, bad.size), "%s", err.text);
    CHECK_ERROR(convert_run(&told, path, "", to, &err), f->message);
    free(bad.data), free(told.data);
}

static void test_convert_faults(void) {
    Error err;
    Str good, told;
    Path file = test_temp("good.gguf"), bad = test_temp("bad.gguf"), to = test_temp("convert_out");
    FileKind kind;
    memset(&good, 0, sizeof good), memset(&told, 0, sizeof told);
    bool ok = gguf_export("dev/test/fixtures/models/llama-untied", file.text, DTYPE_F16, &err) &&
              file_read(&good, file.text, SIZE_MAX, &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    // Of a key: 4 bytes of type, then the value. Of a tensor's name: dimensions, shape, type, offset.
    const ConvertFault faults[] = {
        {"GGUF", 0, "\1\0\0\0", 4, "version 1"},
        {"GGUF", 0, "\0\0\0\3", 4, "big-endian"},
        {"GGUF", 4, "\377\377\377\377\377\377\377\177", 8, "damaged"},
        {"GGUF", 12, "\377\377\377\377\377\377\377\377", 8, "damaged"},
        {"general.architecture", 4, "\377\377\377\377\377\377\377\377", 8, "truncated or damaged"},
        {"general.architecture", 12, "mamba", 5, "general.architecture is mamba"},
        {"general.architecture", 0, "\11\0\0\0\10\0\0\0\377\377\377\377\377\377\377\377", 16, "truncated or damaged"},
        {"general.type", 12, "mmdel", 5, "general.type is mmdel"},
        {"general.alignment", 4, "\41\0\0\0", 4, "power of two"},
        {"general.alignment", 4, "\0\0\0\0", 4, "power of two"},
        {"general.alignment", 0, "\15\0\0\0", 4, "type 13"},
        {"llama.block_coun", 0, "d", 1, "block_count is missing"},
        {"llama.block_count", 4, "\0\0\0\200", 4, "block_count is 2.14748365e+09"},
        {"llama.block_count", 4, "\3\0\0\0", 4, "blk.2.attn_norm.weight is missing"},
        {"llama.block_count", 4, "\1\0\0\0", 4, "has no place"},
        {"llama.embedding_length", 4, "\31\0\0\0", 4, "has the shape"},
        {"llama.attention.head_count", 4, "\0\0\0\0", 4, "head_count is 0"},
        {"llama.rope.dimension_count", 4, "\2\0\0\0", 4, "another one of the same says"},
        {"llama.attention.layer_norm_rms_epsilon", 4, "\0\0\300\177", 4, "norm epsilon"},
        {"llama.vocab_siz", 0, "x", 1, "llama.vocab_sizx says something that this program does not compute"},
        {"output_norm.weight", 0, "\2\0\0\0", 4, "damaged"},
        {"output_norm.weight", 0, "\0\0\0\0", 4, "0 dimensions"},
        {"output_norm.weight", 0, "\5\0\0\0", 4, "5 dimensions"},
        {"output_norm.weight", 4, "\0\0\0\0\0\0\0\0", 8, "impossible shape"},
        {"output_norm.weight", 4, "\377\377\377\377\377\377\377\77", 8, "impossible shape"},
        {"output_norm.weight", 12, "\2\0\0\0", 4, "the type Q4_0 (2)"},
        {"output_norm.weight", 12, "\143\0\0\0", 4, "the type unknown (99)"},
        {"output_norm.weight", 12, "\10\0\0\0", 4, "whole blocks"},
        {"output_norm.weight", 16, "\1\0\0\0", 4, "multiple of 32"},
        {"output_norm.weight", 16, "\0\0\0\0\0\0\0\0", 8, "overlap"},
        {"output_norm.weight", 16, "\340\377\377\377\377\377\377\377", 8, "is not all in it"},
        {"blk.1.attn_norm", 0, ".wxight", 7, "blk.1.attn_norm.weight is missing"},
        {"blk.1.attn_norm.weight", -22, "blk.0.attn_norm.weight", 22, "stands twice"},
        {"tokenizer.ggml.model", 12, "bert", 4, "kind bert"},
        {"tokenizer.ggml.pre", 12, "llama-bpx", 9, "splits text as llama-bpx"},
        {"tokenizer.ggml.tokens", 8, "\0\0\0\0\0\0\0\0", 8, "truncated or damaged"},
        {"tokenizer.ggml.token_type", 16, "\6\0\0\0", 4, "has the kind 6"},
        {"tokenizer.ggml.eos_token_id", 4, "\377\377\0\0", 4, "which is no token"},
        {"tokenizer.ggml.eos_token_i", 0, "x", 1, "eos_token_id is missing"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) convert_fault(&good, &faults[i], bad.text, to.text);
    // Not a number anywhere in the data, an infinity; cut anywhere.
    str_puts(&good, "");
    ConvertFault nan = {"GGUF", (int)good.size - 36, "\377\177", 2, "every weight must be finite"};
    convert_fault(&good, &nan, bad.text, to.text);
    for (size_t n = 0; n < good.size; n += n < 400 ? 7 : 997) {
        CHECK(convert_put(bad.text, good.data, n), "%s", err.text);
        CHECK_ERROR(convert_run(&told, bad.text, "", to.text, &err), "bad.gguf");
    }
    CHECK(path_look(to.text, &kind, &err) && kind == FILE_ABSENT, "a folder was left");
    CHECK(path_look(path_of("%.3000s.convert", to.text).text, &kind, &err) && kind == FILE_ABSENT, "a folder was left");
    // Where something is, nothing is written; an empty folder is taken.
    CHECK_ERROR(convert_run(&told, file.text, "", "dev/test", &err), "something in it");
    CHECK_ERROR(convert_run(&told, file.text, "", file.text, &err), "is a file; convert writes a folder");
    CHECK_ERROR(convert_run(&told, file.text, "dev/test/fixtures/tokenizer/gpt2.json", to.text, &err),
                "tokenizer of another model");
    CHECK_ERROR(convert_run(&told, "dev/test/sample_de.txt", "", to.text, &err), "neither a GGUF file");
    CHECK(path_make_folder(to.text, &err) &&
              convert_run(&told, file.text, "dev/test/fixtures/models/llama-untied/tokenizer.json", to.text, &err),
          "%s", err.text);
    free(good.data), free(told.data);
}

// ---------------------------------------------------------------- loading without a second copy

// The most memory that this process had at a time, by a thread that looks every millisecond; 0: it cannot be seen.
typedef struct {
    pthread_t thread;
    atomic_bool stop;
    double most;
} ConvertPeak;

static double convert_resident(void) {
    long long pages = 0;
    FILE *f = file_open_read("/proc/self/statm", NULL); // no size of its own, as all of /proc
    if (!f || fscanf(f, "%*d %lld", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void *convert_watch(void *arg) {
    ConvertPeak *p = (ConvertPeak *)arg;
    while (!atomic_load(&p->stop)) {
        p->most = fmax(p->most, convert_resident());
        usleep(1000);
    }
    return NULL;
}

// Writes file `file` of 3 of a folder: every third tensor, from the last to the first, the types in turn.
static bool convert_write_third(Str *map, const char *folder, const ParamTable *t, const Config *c, int file,
                                Error *err) {
    static const SafeType types[3] = {ST_BF16, ST_F16, ST_F32};
    Path name = path_of("model-%05d-of-00003.safetensors", file + 1);
    SafeWriter w;
    uint8_t *bytes = (uint8_t *)mem_alloc(4 << 20);
    if (!safewriter_open(&w, path_of("%.2000s/%s", folder, name.text).text, err)) return false;
    for (int writing = 0; writing < 2; writing++) {
        if (writing) safewriter_begin_data(&w);
        for (int i = t->count - 1; i >= 0; i--) {
            const Param *p = &t->items[i];
            const NameRow *names = folder_names(p, c);
            SafeType type = p->rows > 4000 ? ST_BF16 : types[i % 3]; // most of it in 16 bits, as models are
            for (int j = 0; i % 3 == file && j < disk_count(names, c); j++) {
                DiskPart part = disk_part(names, p, c, j);
                int64_t shape[2] = {part.rows, p->cols};
                if (!writing) {
                    safewriter_declare(&w, part.name, type, p->is_vector ? 1 : 2, shape);
                    str_printf(map, "%s\"%s\": \"%s\"", map->size ? ", " : "", part.name, name.text);
                }
                for (int64_t at = 0, n, all = shape[0] * shape[1]; writing && at < all; at += n) {
                    n = int64_min(all - at, 1 << 20);
                    float x = (float)(i % 13 + 1) / 8;
                    uint16_t h = type == ST_F16 ? float_to_f16(x) : float_to_bf16(x);
                    size_t size = safetype_size(type);
                    for (int64_t k = 0; k < n; k++)
                        memcpy(bytes + size * (size_t)k, type == ST_F32 ? (void *)&x : (void *)&h, size);
                    safewriter_data(&w, bytes, size * (size_t)n);
                }
            }
        }
    }
    free(bytes);
    return safewriter_commit(&w, err);
}

// 150M weights in three files, tensors in any order and of three types, into a model that keeps bf16: at its peak the
// process takes no more than 1.1 times the model's own bytes.
static void test_convert_memory(void) {
    Path folder = test_temp("large");
    Error err;
    Str map;
    Dist dist;
    ModelSetup setup;
    memset(&map, 0, sizeof map), memset(&setup, 0, sizeof setup);
    dist_single(&dist);
    Config c = config_of_family(FAMILY_LLAMA);
    c.vocab_size = 32768, c.max_seq_len = 64, c.channels = 1024, c.layers = 6, c.heads = 8, c.kv_heads = 8,
    c.head_size = 128, c.hidden = 3072;
    c.tied = 0;
    ParamTable t = param_table(&c);
    bool ok = path_make_folder(folder.text, &err) && folder_write_config(folder.text, &c, NULL, NULL, &err);
    for (int f = 0; ok && f < 3; f++) ok = convert_write_third(&map, folder.text, &t, &c, f, &err);
    Str index;
    memset(&index, 0, sizeof index);
    str_printf(&index, "{\"metadata\": {}, \"weight_map\": {%s}}", map.data);
    ok = ok && file_write_all(path_of("%.2000s/model.safetensors.index.json", folder.text).text, index.data, index.size,
                              &err);
    CHECK(ok, "%s", err.text);
    free(map.data), free(index.data);
    setup.config = c, setup.batch_size = 1, setup.seq_len = 8, setup.precision = PRECISION_BF16, setup.dist = &dist;
    ConvertPeak peak;
    memset(&peak, 0, sizeof peak);
    double before = convert_resident();
    bool watched = before > 0 && pthread_create(&peak.thread, NULL, convert_watch, &peak) == 0;
    Model *m = ok ? model_create(&setup, &err) : NULL;
    const bool able = m || !strstr(err.text, "bf16 products need");
    if (!able) skip_test("memory of loading", "this CPU has no bf16 products");
    ok = m && folder_load_weights(m, &t, &c, folder.text, &err);
    CHECK(ok || !able, "%s", err.text);
    peak.most = fmax(peak.most, convert_resident());
    atomic_store(&peak.stop, true);
    if (watched) pthread_join(peak.thread, NULL);
    double own = 2.0 * (double)t.parameters, taken = peak.most - before;
    bool sanitized = false;
#if defined(__SANITIZE_ADDRESS__)
    sanitized = true; // its own memory counts, too
#endif
    if (ok && watched && !sanitized && sizeof(real) == 4)
        CHECK(taken <= 1.1 * own && taken >= own, "%.1f MB at the peak, for weights of %.1f MB", taken / 1e6,
              own / 1e6);
    for (int i = 0; ok && i < t.count; i++) {
        Param piece = param_piece(&t.items[i], t.items[i].count - 1, 1);
        float x = 0;
        model_get(m, MODEL_WEIGHT, &piece, &x, 0);
        CHECK(x == (float)(i % 13 + 1) / 8, "%s ends with %g", t.items[i].name, (double)x);
    }
    if (m) model_destroy(m);
    param_table_free(&t);
    path_remove_tree(folder.text, NULL);
}

static void test_convert(void) {
    if (sizeof(real) > sizeof(float)) return; // no arithmetic of a model: once is enough
    for (int i = 0; i < CONVERT_MODELS; i++)
        for (int dtype = DTYPE_F32; dtype <= (i % 3 ? DTYPE_F32 : DTYPE_Q8_0); dtype++)
            convert_round(path_of("dev/test/fixtures/models/%s", convert_models[i]).text, dtype, true);
    static const char *const tokenizers[] = {"added", "gpt2", "llama3", "o200k", "qwen2", "tekken", "trained"};
    for (size_t i = 0; i < sizeof tokenizers / sizeof *tokenizers; i++) {
        GgufFolder f = gguf_folder(FAMILY_QWEN3, 24, 3, 1, 8, 32);
        f.vocab = 1100;
        Path folder =
            gguf_make_folder("pattern", &f, path_of("dev/test/fixtures/tokenizer/%s.json", tokenizers[i]).text);
        convert_round(folder.text, DTYPE_F32, true);
    }
    convert_llmc(3);
    convert_llmc(5);
    test_convert_faults();
    test_convert_memory();
}
