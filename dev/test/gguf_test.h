/*
gguf_test.h: exported GGUF files, read back by a reader of its own that shares no code with the writer.

Every fixture folder in every type: keys against config.json, tokens against tokenizer.json, and every
tensor, element by element, against the tensor of Hugging Face's name. Larger folders made here, so that
tensors are read in several pieces and rows are long enough for q8_0. Bytes of q8_0 against the Python
package gguf 0.19. Damaged and impossible input, full disks.

What only others can judge was compared outside, with llama.cpp of October 2026 on the CPU. Logits of these
fixtures against expected.safetensors, relative L2: llama and qwen3 in f32 3e-7 to 7e-7, gpt2 2e-4 (its
GELU is a table in f16), f16 1e-3, bf16 1e-2; q8_0 on larger models 2e-2 to 3e-2. Greedy continuations of
trained and of random models of all three families, llama with biases among them: the same text as
`generate` in f32 and f16. Token ids of 2.5 MB of German and of random mixtures of spaces, digits,
contractions, emoji and names of special tokens: the same as tokenizer_encode gives, for the patterns of
GPT-2, Llama 3 and Qwen 2; for GPT-4o's the same but where a combining mark without a letter precedes a
contraction. The bytes of every tensor in every type: as the Python package gguf makes them.
*/
#ifndef GGUF_TEST_H
#define GGUF_TEST_H

#include "../../llmc/files/gguf.h"
#include "tokenizer_test.h"
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#define GGUF_FIXTURES "dev/test/fixtures/models/"

// ---------------------------------------------------------------- a reader

typedef struct {
    const uint8_t *data;
    size_t size, at;
    bool ok; // false once something was read past the end
} GgufCursor;

static uint64_t gguf_take(GgufCursor *c, size_t bytes) {
    uint64_t x = 0;
    if (!c->ok || bytes > c->size - c->at) {
        c->ok = false;
        return 0;
    }
    memcpy(&x, c->data + c->at, bytes);
    c->at += bytes;
    return x;
}

static char *gguf_take_string(GgufCursor *c) {
    uint64_t n = gguf_take(c, 8);
    if (!c->ok || n > c->size - c->at) {
        c->ok = false;
        n = 0;
    }
    char *text = (char *)mem_alloc((size_t)n + 1);
    memcpy(text, c->data + c->at, (size_t)n);
    c->at += (size_t)n;
    return text;
}

typedef struct {
    char *key;
    uint32_t type, element; // element: of an array
    uint64_t count;         // of an array
    GgufCursor value;       // where the value, or the first element, begins
} GgufPair;

typedef struct {
    char *name;
    uint32_t ndim, type;
    uint64_t shape[4]; // innermost first
    uint64_t offset;
} GgufEntry;

typedef struct {
    MappedFile file;
    uint64_t pair_count, tensor_count;
    GgufPair *pairs;
    GgufEntry *tensors;
    size_t data; // where the tensors begin
} GgufFile;

static void gguf_close(GgufFile *g) {
    for (uint64_t i = 0; i < g->pair_count; i++) free(g->pairs[i].key);
    for (uint64_t i = 0; i < g->tensor_count; i++) free(g->tensors[i].name);
    free(g->pairs);
    free(g->tensors);
    file_unmap(&g->file);
}

// Bytes of a number of GGUF's type (u8 i8 u16 i16 u32 i32 f32 bool - - u64 i64 f64).
static size_t gguf_number_size(uint32_t type) {
    static const uint8_t sizes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < 13 ? sizes[type] : 0;
}

static bool gguf_open(GgufFile *g, const char *path) {
    Error err;
    memset(g, 0, sizeof *g);
    if (!file_map(&g->file, path, &err)) return false;
    GgufCursor c;
    memset(&c, 0, sizeof c);
    c.data = g->file.data, c.size = g->file.size, c.ok = true;
    bool head = gguf_take(&c, 4) == 0x46554747 && gguf_take(&c, 4) == 3;
    g->tensor_count = gguf_take(&c, 8);
    g->pair_count = gguf_take(&c, 8);
    if (!head || !c.ok || g->pair_count > 1000 || g->tensor_count > 100000) {
        g->pair_count = g->tensor_count = 0;
        return false;
    }
    g->pairs = (GgufPair *)mem_alloc(sizeof(GgufPair) * (size_t)g->pair_count);
    g->tensors = (GgufEntry *)mem_alloc(sizeof(GgufEntry) * (size_t)g->tensor_count);
    for (uint64_t i = 0; i < g->pair_count; i++) {
        GgufPair *p = &g->pairs[i];
        p->key = gguf_take_string(&c);
        p->type = p->element = (uint32_t)gguf_take(&c, 4);
        p->count = 1;
        if (p->type == 9) {
            p->element = (uint32_t)gguf_take(&c, 4);
            p->count = gguf_take(&c, 8);
        }
        p->value = c;
        for (uint64_t k = 0; c.ok && k < p->count; k++) {
            if (p->element == 8) free(gguf_take_string(&c));
            else gguf_take(&c, gguf_number_size(p->element));
        }
        c.ok = c.ok && (p->element == 8 || gguf_number_size(p->element));
    }
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        GgufEntry *t = &g->tensors[i];
        t->name = gguf_take_string(&c);
        t->ndim = (uint32_t)gguf_take(&c, 4);
        for (uint32_t d = 0; d < t->ndim && d < 4; d++) t->shape[d] = gguf_take(&c, 8);
        t->type = (uint32_t)gguf_take(&c, 4);
        t->offset = gguf_take(&c, 8);
    }
    g->data = (c.at + 31) / 32 * 32;
    return c.ok;
}

static const GgufPair *gguf_find(const GgufFile *g, const char *family, const char *name) {
    Path key = path_of("%s%s", family, name);
    for (uint64_t i = 0; i < g->pair_count; i++)
        if (strcmp(g->pairs[i].key, key.text) == 0) return &g->pairs[i];
    return NULL;
}

// The number of a key of this type, or NAN.
static double gguf_number(const GgufFile *g, const char *family, const char *name, uint32_t type) {
    const GgufPair *p = gguf_find(g, family, name);
    if (!p || p->type != type) return NAN;
    GgufCursor c = p->value;
    uint64_t bits = gguf_take(&c, gguf_number_size(type));
    return type == 6 ? (double)float_of_bits((uint32_t)bits) : (double)bits;
}

static bool gguf_is_text(const GgufFile *g, const char *name, const char *expected) {
    const GgufPair *p = gguf_find(g, "", name);
    if (!p || p->type != 8) return false;
    GgufCursor c = p->value;
    char *text = gguf_take_string(&c);
    bool same = strcmp(text, expected) == 0;
    free(text);
    return same;
}

// out (count) = all elements of a tensor as float; the bytes must lie in the file.
static bool gguf_values(float *out, const GgufFile *g, const GgufEntry *t, size_t count) {
    size_t bytes = t->type == 8 ? count / 32 * 34 : count * (t->type == 0 ? 4 : 2), start = g->data + (size_t)t->offset;
    if (start % 32 || start > g->file.size || bytes > g->file.size - start) return false;
    const uint8_t *p = g->file.data + start;
    uint16_t h;
    for (size_t i = 0; i < count; i++) {
        if (t->type == 0) {
            memcpy(&out[i], p + 4 * i, 4);
        } else if (t->type == 8) {
            memcpy(&h, p + i / 32 * 34, 2);
            out[i] = f16_to_float(h) * (float)(int8_t)p[i / 32 * 34 + 2 + i % 32];
        } else {
            memcpy(&h, p + 2 * i, 2);
            out[i] = t->type == 1 ? f16_to_float(h) : bf16_to_float(h);
        }
    }
    return true;
}

// ---------------------------------------------------------------- what is expected

// Hugging Face's name of a GGUF tensor, said once more and from the other side.
static Path gguf_hf_name(const char *name, int family) {
    bool gpt2 = family == FAMILY_GPT2;
    static const char *const pairs[][3] = {{"attn_norm", "ln_1", "input_layernorm"},
                                           {"attn_qkv", "attn.c_attn", ""},
                                           {"attn_q", "", "self_attn.q_proj"},
                                           {"attn_k", "", "self_attn.k_proj"},
                                           {"attn_v", "", "self_attn.v_proj"},
                                           {"attn_q_norm", "", "self_attn.q_norm"},
                                           {"attn_k_norm", "", "self_attn.k_norm"},
                                           {"attn_output", "attn.c_proj", "self_attn.o_proj"},
                                           {"ffn_norm", "ln_2", "post_attention_layernorm"},
                                           {"ffn_gate", "", "mlp.gate_proj"},
                                           {"ffn_up", "mlp.c_fc", "mlp.up_proj"},
                                           {"ffn_down", "mlp.c_proj", "mlp.down_proj"}};
    int layer = 0;
    char what[64] = "", end[16] = "";
    bool parts = sscanf(name, "blk.%d.%63[^.].%15s", &layer, what, end) == 3;
    if (family == FAMILY_APERTUS && parts && (strcmp(what, "attn_norm") == 0 || strcmp(what, "ffn_norm") == 0))
        return path_of("model.layers.%d.%s_layernorm.%s", layer, *what == 'a' ? "attention" : "feedforward", end);
    if (parts)
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
            if (strcmp(pairs[i][0], what) == 0)
                return path_of(gpt2 ? "transformer.h.%d.%s.%s" : "model.layers.%d.%s.%s", layer, pairs[i][gpt2 ? 1 : 2],
                               end);
    if (strcmp(name, "token_embd.weight") == 0)
        return path_of(gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight");
    if (strcmp(name, "position_embd.weight") == 0) return path_of("transformer.wpe.weight");
    if (strncmp(name, "output_norm.", 12) == 0)
        return path_of(gpt2 ? "transformer.ln_f.%s" : "model.norm.%s", name + 12);
    return path_of("%s", strcmp(name, "output.weight") == 0 ? "lm_head.weight" : "?");
}

// Compares a tensor with the one of the folder: shape, type, every element.
static void gguf_compare_tensor(const GgufFile *g, const GgufEntry *t, const SafeTensors *st, const Config *c,
                                int dtype) {
    bool gpt2 = c->family == FAMILY_GPT2;
    if (strcmp(t->name, "rope_freqs.weight") == 0) { // of two fixtures: Transformers' inv_freq of them
        static const double want[2][8] = {{0.761737108, 0.246929586, 0.0686194077, 0.0288267881, 0.0176776703,
                                           0.0108406115, 0.00664786994, 0.00407672348},
                                          {0.761737108, 0.0401357599, 0.0125000002, 0.00395284733}};
        float by[8];
        bool apertus = c->family == FAMILY_APERTUS;
        int n = apertus ? 4 : 8;
        bool read = c->head_size == 2 * n && t->ndim == 1 && t->shape[0] == (uint64_t)n && t->type == 0 &&
                    gguf_values(by, g, t, (size_t)n);
        CHECK(read, "%s: shape or type", t->name);
        for (int i = 0; read && i < n; i++)
            CHECK(fabs(pow(c->rope_theta, (double)-i / n) / (double)by[i] / want[apertus][i] - 1) < 1e-6,
                  "%s: pair %d turns by another angle than in Transformers", t->name, i);
        return;
    }
    Path name = gguf_hf_name(t->name, c->family);
    const SafeTensor *from = safetensors_find(st, name.text);
    CHECK(from, "%s comes from no tensor of the folder (%s)", t->name, name.text);
    if (!from) return;
    bool vector = from->ndim == 1, turned = gpt2 && !vector && strncmp(t->name, "blk.", 4) == 0;
    int64_t rows = vector ? 1 : from->shape[turned ? 1 : 0],
            cols = vector ? from->shape[0] : from->shape[turned ? 0 : 1];
    CHECK(t->ndim == (vector ? 1u : 2u) && t->shape[0] == (uint64_t)cols && (vector || t->shape[1] == (uint64_t)rows),
          "%s: shape", t->name);
    uint32_t type = dtype == DTYPE_F32 || vector || strcmp(t->name, "position_embd.weight") == 0 ? 0
                    : dtype == DTYPE_BF16                                                        ? 30
                    : dtype == DTYPE_Q8_0 && cols % 32 == 0                                      ? 8
                                                                                                 : 1;
    CHECK(t->type == type, "%s: type %u, expected %u", t->name, t->type, type);
    size_t count = (size_t)from->elements;
    float *values = (float *)mem_alloc(sizeof(float) * count), *original = (float *)mem_alloc(sizeof(float) * count);
    Error err;
    bool read = gguf_values(values, g, t, count) && safetensors_to_f32(original, from, 0, from->elements, &err);
    CHECK(read, "%s: its bytes are not in the file", t->name);
    // Rotary pairs: llama.cpp turns rows 2i and 2i + 1 of a head, Hugging Face rows i and i + HS/2.
    bool rotary = (c->family == FAMILY_LLAMA || c->family == FAMILY_MISTRAL || c->family == FAMILY_SMOLLM3) &&
                  (strstr(t->name, ".attn_q.") || strstr(t->name, ".attn_k."));
    size_t wrong = 0, zero = 0;
    for (size_t i = 0; read && i < count; i++) {
        size_t row = i / (size_t)cols, col = i % (size_t)cols, unit = vector ? col : row, HS = (size_t)c->head_size;
        if (rotary) unit = unit / HS * HS + (unit % HS % 2 ? HS / 2 + unit % HS / 2 : unit % HS / 2);
        size_t at = vector ? unit : turned ? col * (size_t)rows + row : unit * (size_t)cols + col;
        float x = original[at], most = 0;
        if (type == 1) x = f16_to_float(float_to_f16(x));
        if (type == 30) x = bf16_to_float(float_to_bf16(x));
        if (type == 8) {
            for (size_t k = 0; k < 32; k++) {
                size_t other =
                    turned ? (col / 32 * 32 + k) * (size_t)rows + row : unit * (size_t)cols + col / 32 * 32 + k;
                most = fmaxf(most, fabsf(original[other]));
            }
        }
        // q8_0: half a step of most / 127, and the step's own rounding to f16 (2^-11) times up to 127.
        float allowed = most / 127.0f * 0.5f + most * 0x1p-11f;
        wrong += type == 8 ? !(fabsf(values[i] - x) <= allowed) : bits_of_float(values[i]) != bits_of_float(x);
        zero += values[i] == 0;
    }
    CHECK(wrong == 0, "%s: %zu of %zu values differ from %s", t->name, wrong, count, name.text);
    CHECK(zero < count, "%s holds only zeros: the comparison says nothing", t->name);
    free(values);
    free(original);
}

static void gguf_compare_tokens(const GgufFile *g, const Json *root, int vocab_size) {
    const GgufPair *tokens = gguf_find(g, "tokenizer.ggml.", "tokens"),
                   *types = gguf_find(g, "tokenizer.ggml.", "token_type"),
                   *merges = gguf_find(g, "tokenizer.ggml.", "merges");
    CHECK(tokens && types && merges && tokens->element == 8 && types->element == 5 && merges->element == 8,
          "the tokenizer's arrays are missing or of another type");
    if (!tokens || !types || !merges) return;
    CHECK(tokens->count == (uint64_t)vocab_size && types->count == (uint64_t)vocab_size, "%llu tokens, expected %d",
          (unsigned long long)tokens->count, vocab_size);
    char **names = (char **)mem_alloc(sizeof(char *) * (size_t)tokens->count);
    int *kinds = (int *)mem_alloc(sizeof(int) * (size_t)tokens->count);
    GgufCursor a = tokens->value, b = types->value;
    for (uint64_t i = 0; i < tokens->count; i++) names[i] = gguf_take_string(&a), kinds[i] = (int)gguf_take(&b, 4);
    uint64_t same = 0, special = 0, unused = 0, repeated = 0;
    const Json *vocab = json_get(json_get(root, "model"), "vocab"), *added = json_get(root, "added_tokens");
    for (const Json *j = vocab->child; j; j = j->next) {
        int64_t id = json_integer(j, -1);
        same += id >= 0 && id < vocab_size && strcmp(names[id], j->key) == 0;
    }
    CHECK(same == vocab->size, "%llu of %u tokens have their name", (unsigned long long)same, vocab->size);
    for (const Json *j = added->child; j; j = j->next) {
        int64_t id = json_integer(json_get(j, "id"), -1);
        special += id >= 0 && id < vocab_size && strcmp(names[id], json_string(json_get(j, "content"), "")) == 0 &&
                   kinds[id] == 3;
    }
    CHECK(special == added->size && special > 0, "%llu of %u special tokens are control tokens",
          (unsigned long long)special, added->size);
    for (uint64_t i = 0; i < tokens->count; i++) {
        CHECK(kinds[i] == 1 || kinds[i] == 3 || kinds[i] == 5, "token %llu is of type %d", (unsigned long long)i,
              kinds[i]);
        unused += kinds[i] == 5;
        for (uint64_t k = 0; k < i; k++) repeated += strcmp(names[i], names[k]) == 0;
    }
    CHECK(unused == 12, "%llu unused tokens, expected 307 - 295", (unsigned long long)unused);
    CHECK(repeated == 0, "%llu names of tokens stand twice", (unsigned long long)repeated);
    const Json *list = json_get(json_get(root, "model"), "merges");
    CHECK(merges->count == list->size && merges->count > 0, "%llu merges, expected %u",
          (unsigned long long)merges->count, list->size);
    GgufCursor m = merges->value;
    for (const Json *j = list->child; j; j = j->next) {
        char *text = gguf_take_string(&m);
        Path pair = j->type == JSON_STRING
                        ? path_of("%s", j->text)
                        : path_of("%s %s", json_string(j->child, ""), json_string(j->child->next, ""));
        CHECK(strcmp(text, pair.text) == 0, "merge \"%s\", expected \"%s\"", text, pair.text);
        free(text);
    }
    for (uint64_t i = 0; i < tokens->count; i++) free(names[i]);
    free(names);
    free(kinds);
}

static void gguf_compare_keys(const GgufFile *g, const Config *c, int dtype) {
    static const int file_types[4] = {0, 1, 32, 7};
    const char *family = c->family == FAMILY_MISTRAL ? "llama" : family_name(c->family);
    struct {
        const char *key;
        int value;
    } whole[] = {{".vocab_size", c->vocab_size},           {".context_length", c->max_seq_len},
                 {".embedding_length", c->channels},       {".block_count", c->layers},
                 {".feed_forward_length", c->hidden},      {".attention.head_count", c->heads},
                 {".attention.head_count_kv", c->kv_heads}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        CHECK(gguf_number(g, family, whole[i].key, 4) == whole[i].value, "%s%s is %g, expected %d", family,
              whole[i].key, gguf_number(g, family, whole[i].key, 4), whole[i].value);
    bool gpt2 = c->family == FAMILY_GPT2;
    CHECK(gguf_number(g, family, gpt2 ? ".attention.layer_norm_epsilon" : ".attention.layer_norm_rms_epsilon", 6) ==
              (double)(float)c->norm_eps,
          "epsilon");
    if (!gpt2) {
        CHECK(gguf_number(g, family, ".attention.key_length", 4) == c->head_size &&
                  gguf_number(g, family, ".attention.value_length", 4) == c->head_size,
              "head size");
        CHECK(gguf_number(g, family, ".rope.dimension_count", 4) == c->head_size &&
                  gguf_number(g, family, ".rope.freq_base", 6) == c->rope_theta,
              "rotary positions");
    }
    if (c->rope_scaling == ROPE_LINEAR || c->rope_scaling == ROPE_YARN)
        CHECK(gguf_is_text(g, path_of("%s.rope.scaling.type", family).text,
                           c->rope_scaling == ROPE_YARN ? "yarn" : "linear") &&
                  gguf_number(g, family, ".rope.scaling.factor", 6) == c->rope_factor,
              "scaling of rotary positions");
    if (c->rope_scaling == ROPE_YARN)
        CHECK(gguf_number(g, family, ".rope.scaling.original_context_length", 4) == 16 &&
                  gguf_number(g, family, ".rope.scaling.attn_factor", 6) == 1,
              "YaRN");
    CHECK(gguf_is_text(g, "general.architecture", family) && gguf_is_text(g, "general.type", "model"), "architecture");
    CHECK(gguf_number(g, "general.", "alignment", 4) == 32 &&
              gguf_number(g, "general.", "file_type", 4) == file_types[dtype],
          "alignment or file type");
    CHECK(gguf_is_text(g, "tokenizer.ggml.model", "gpt2") && gguf_is_text(g, "tokenizer.ggml.pre",
                                                                          gpt2               ? "gpt-2"
                                                                          : family[0] != 'q' ? "llama-bpe"
                                                                                             : "qwen2"),
          "tokenizer");
    CHECK(gguf_number(g, "tokenizer.ggml.", "eos_token_id", 4) == 0 &&
              gguf_number(g, "tokenizer.ggml.", "bos_token_id", 4) == 0,
          "end of text");
    CHECK(gguf_number(g, "tokenizer.ggml.", "add_bos_token", 7) == 0 &&
              gguf_number(g, "tokenizer.ggml.", "add_eos_token", 7) == 0,
          "tokens are added to the text");
}

// The numbers of xIELU, which are keys: of each layer that of the folder.
static void gguf_compare_xielu(const GgufFile *g, const SafeTensors *st, const Config *c) {
    static const char *const names[] = {"alpha_p", "alpha_n", "beta", "eps"};
    for (int i = 0; i < 4; i++) {
        const GgufPair *p = gguf_find(g, "xielu.", names[i]);
        CHECK(p && p->type == 9 && p->element == 6 && p->count == (uint64_t)c->layers, "xielu.%s", names[i]);
        if (!p) continue;
        GgufCursor at = p->value;
        for (int l = 0; l < c->layers; l++) {
            Path name = path_of("model.layers.%d.mlp.act_fn.%s", l, names[i]);
            const SafeTensor *from = safetensors_find(st, name.text);
            float x = float_of_bits((uint32_t)gguf_take(&at, 4)), want = 0;
            Error err;
            CHECK(from && safetensors_to_f32(&want, from, 0, 1, &err) && x == want && x != 0, "%s is %g, expected %g",
                  name.text, (double)x, (double)want);
        }
    }
}

// Exports a folder and compares everything with it.
static void gguf_compare_folder(const char *folder, int dtype, bool fixture) {
    Error err;
    err.text[0] = 0;
    Path out = test_temp("model.gguf"), tokenizer = path_of("%s/tokenizer.json", folder);
    Config c = config_of_family(FAMILY_GPT2);
    SafeTensors st;
    GgufFile g;
    bool ok = folder_read_config(&c, folder, &err) && safetensors_open(&st, folder, &err);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    bool exported = gguf_export(folder, out.text, dtype, &err), opened = exported && gguf_open(&g, out.text);
    CHECK(exported, "%s", err.text);
    CHECK(opened, "%s: not a whole GGUF file", folder);
    if (opened) {
        gguf_compare_keys(&g, &c, dtype);
        int expected = st.count + (c.rope_scaling == ROPE_LLAMA3) - (c.family == FAMILY_APERTUS ? 4 * c.layers : 0);
        if (c.family == FAMILY_APERTUS) gguf_compare_xielu(&g, &st, &c);
        for (int i = 0; i < st.count; i++)
            expected -=
                disk_is_ballast(st.tensors[i].name) || (c.tied && strcmp(st.tensors[i].name, "lm_head.weight") == 0);
        CHECK(g.tensor_count == (uint64_t)expected, "%s: %llu tensors, expected %d", folder,
              (unsigned long long)g.tensor_count, expected);
        uint64_t end = 0;
        for (uint64_t i = 0; i < g.tensor_count; i++) {
            const GgufEntry *t = &g.tensors[i];
            for (uint64_t k = 0; k < i; k++) CHECK(strcmp(t->name, g.tensors[k].name) != 0, "%s stands twice", t->name);
            gguf_compare_tensor(&g, t, &st, &c, dtype);
            uint64_t count = t->shape[0] * (t->ndim > 1 ? t->shape[1] : 1),
                     bytes = t->type == 8 ? count / 32 * 34 : count * (t->type == 0 ? 4 : 2);
            CHECK(t->offset == end, "%s begins at %llu, expected %llu", t->name, (unsigned long long)t->offset,
                  (unsigned long long)end);
            end = (t->offset + bytes + 31) / 32 * 32;
        }
        CHECK(g.file.size == g.data + end, "%zu bytes, expected %llu", g.file.size, (unsigned long long)(g.data + end));
        JsonDoc doc;
        const Json *root = fixture ? json_load(&doc, tokenizer.text, &err) : NULL;
        if (root) {
            gguf_compare_tokens(&g, root, c.vocab_size);
            json_free(&doc);
        }
    }
    if (exported) gguf_close(&g);
    safetensors_close(&st);
}

// ---------------------------------------------------------------- folders made here

// A folder of one layer; `spoil` changes what it is written with.
typedef struct {
    int family, channels, heads, kv_heads, head_size, hidden, bias, vocab; // vocab 0: 307
    const char *spoiled; // name of a tensor that gets `value` as its last element, or is left out
    bool leave_out, add_one;
    float value;
} GgufFolder;

static Path gguf_make_folder(const char *name, const GgufFolder *f, const char *tokenizer) {
    Path folder = test_temp(name);
    Error err;
    err.text[0] = 0;
    Config c = config_of_family(f->family);
    c.vocab_size = f->vocab ? f->vocab : 307, c.max_seq_len = 16, c.layers = 1, c.tied = 0;
    c.channels = f->channels, c.heads = f->heads, c.kv_heads = f->kv_heads, c.head_size = f->head_size,
    c.hidden = f->hidden;
    if (f->bias) c.bias = 1;
    MappedFile text;
    bool ok = path_make_folder(folder.text, &err) && folder_write_config(folder.text, &c, NULL, NULL, &err);
    if (ok && tokenizer && file_map(&text, tokenizer, &err)) {
        Path to = path_of("%s/tokenizer.json", folder.text);
        ok = file_write_all(to.text, text.data, text.size, &err);
        file_unmap(&text);
    }
    SafeWriter w;
    Path path = path_of("%s/model.safetensors", folder.text);
    ParamTable table = param_table(&c);
    ok = ok && safewriter_open(&w, path.text, &err);
    for (int writing = 0; ok && writing < 2; writing++) {
        if (writing) safewriter_begin_data(&w);
        int seed = 0;
        for (int i = 0; i < table.count; i++) {
            const Param *p = &table.items[i];
            const NameRow *names = folder_names(p, &c);
            for (int j = 0; j < disk_count(names, &c); j++) {
                DiskPart part = disk_part(names, p, &c, j);
                bool here = f->spoiled && strcmp(f->spoiled, part.name) == 0;
                if (here && f->leave_out) continue;
                int64_t shape[2] = {part.rows + (here && f->add_one), p->cols};
                if (part.transposed) shape[0] = p->cols, shape[1] = part.rows;
                size_t count = (size_t)shape[0] * (size_t)shape[1];
                if (!writing) {
                    safewriter_declare(&w, part.name, ST_F32, p->is_vector ? 1 : 2, shape);
                    continue;
                }
                float *x = (float *)mem_alloc(sizeof(float) * (count + 3));
                RngStream s = rng_stream((uint64_t)++seed, part.name);
                for (size_t k = 0; k < count; k += 4) rng_normal4(s, k / 4, x + k);
                if (here && f->value != 0) x[count - 1] = f->value;
                safewriter_data(&w, x, count * sizeof(float));
                free(x);
            }
        }
        float extra[2] = {1, 2};
        int64_t two[1] = {2};
        if (f->spoiled && strcmp(f->spoiled, "extra") == 0) {
            if (writing) safewriter_data(&w, extra, sizeof extra);
            else safewriter_declare(&w, "model.layers.7.extra", ST_F32, 1, two);
        }
    }
    ok = ok && safewriter_commit(&w, &err);
    CHECK(ok, "%s", err.text);
    param_table_free(&table);
    return folder;
}

static GgufFolder gguf_folder(int family, int channels, int heads, int kv_heads, int head_size, int hidden) {
    GgufFolder f;
    memset(&f, 0, sizeof f);
    f.family = family, f.channels = channels, f.heads = heads, f.kv_heads = kv_heads, f.head_size = head_size,
    f.hidden = hidden;
    return f;
}

// Tensors longer than GGUF_CHUNK: pieces that end inside a head, transposed matrices in strips.
static void test_gguf_large(void) {
    GgufFolder llama = gguf_folder(FAMILY_LLAMA, 1024, 16, 2, 24, 96),
               gpt2 = gguf_folder(FAMILY_GPT2, 512, 4, 4, 128, 96);
    llama.bias = 1;
    CHECK((int64_t)16 * 24 * 1024 > GGUF_CHUNK && GGUF_CHUNK / 1024 % 24 != 0,
          "the folder does not test what it should");
    for (int dtype = DTYPE_F32; dtype <= DTYPE_Q8_0; dtype++) {
        Path a = gguf_make_folder("gguf_llama", &llama, GGUF_FIXTURES "llama-untied/tokenizer.json");
        gguf_compare_folder(a.text, dtype, false);
        Path b = gguf_make_folder("gguf_gpt2", &gpt2, GGUF_FIXTURES "gpt2/tokenizer.json");
        gguf_compare_folder(b.text, dtype, false);
    }
}

// ---------------------------------------------------------------- q8_0

static void test_gguf_q8_0(void) {
    // x[i] = 0.37 i - 5, the second half 0.0015 x^2 with every third negative, in float arithmetic.
    static const char *const expected = "852a9ea5acb4bbc2c9d1d8dfe6eef5fc040b121921282f363e454c535b626970787f0e1cee1416"
                                        "e81a1de12224d92a2dd03337c63e41bb494daf5559a26267957075867f";
    float x[64], block[32];
    uint8_t out[128]; // 64 numbers as q8_0, or 32 as f32
    char hex[2 * 68 + 1];
    for (int i = 0; i < 64; i++) {
        float ramp = (float)i * 0.37f;
        x[i] = ramp - 5.0f;
    }
    for (int i = 32; i < 64; i++) {
        float square = x[i] * x[i], scaled = 1.5f * square, sign = i % 3 == 2 ? -1.0f : 1.0f;
        x[i] = scaled * sign * 1e-3f;
    }
    CHECK(gguf_encode(out, x, 64, GGML_Q8_0), "finite numbers are refused");
    for (int i = 0; i < 68; i++) snprintf(hex + 2 * i, 3, "%02x", out[i]);
    CHECK(strcmp(hex, expected) == 0, "the blocks are %s, expected %s", hex, expected);
    memset(block, 0, sizeof block);
    memset(out, 0xff, sizeof out);
    CHECK(gguf_encode(out, block, 32, GGML_Q8_0), "zeros are refused");
    for (int i = 0; i < GGUF_Q8_BYTES; i++) CHECK(out[i] == 0, "byte %d of a block of zeros is %d", i, out[i]);
    block[7] = 1e-42f; // d is subnormal, its inverse infinite
    CHECK(gguf_encode(out, block, 32, GGML_Q8_0) && out[2 + 7] == 0, "a subnormal block is refused or not zero");
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int type = 0; type < 4; type++) {
        static const int types[4] = {GGML_F32, GGML_F16, GGML_BF16, GGML_Q8_0};
        for (int k = 0; k < 3; k++) {
            for (int i = 0; i < 32; i++) block[i] = 1.0f;
            block[31 - 5 * k] = bad[k];
            CHECK(!gguf_encode(out, block, 32, types[type]), "%g is accepted as type %d", (double)bad[k], types[type]);
        }
        for (int i = 0; i < 32; i++) block[i] = 65504.0f;
        CHECK(gguf_encode(out, block, 32, types[type]), "65504 is refused as type %d", types[type]);
        block[3] = -65520.0f; // rounds to infinity in f16; 127 times that is too much for q8_0
        CHECK(gguf_encode(out, block, 32, types[type]) == (types[type] != GGML_F16), "65520 as type %d", types[type]);
        block[3] = 127 * 65520.0f;
        CHECK(gguf_encode(out, block, 32, types[type]) == (types[type] == GGML_F32 || types[type] == GGML_BF16),
              "127 * 65520 as type %d", types[type]);
    }
}

// ---------------------------------------------------------------- tokenizers

// Puts `with` in the place of `what`, which must be there.
static void gguf_replace(Str *s, const char *what, const char *with) {
    char *at = strstr(s->data, what);
    CHECK(at, "the fixture has no %s", what);
    if (!at) return;
    Str out;
    memset(&out, 0, sizeof out);
    str_add(&out, s->data, (size_t)(at - s->data));
    str_puts(&out, with);
    str_puts(&out, at + strlen(what));
    free(s->data);
    *s = out;
}

// The name for a small tokenizer of bytes and merges; `merges` and `words` are put into its JSON.
static void gguf_check_pattern(const char *fixture, bool ignore, const char *what, const char *with,
                               const char *expected) {
    Path path = path_of(GGUF_FIXTURES "%s/tokenizer.json", fixture);
    MappedFile f;
    Error err;
    Tokenizer tok;
    Str text;
    memset(&text, 0, sizeof text);
    bool ok = file_map(&f, path.text, &err);
    if (ok) {
        str_add(&text, f.data, f.size);
        file_unmap(&f);
        if (what) gguf_replace(&text, what, with);
        if (ignore) gguf_replace(&text, "\"ignore_merges\": false", "\"ignore_merges\": true");
        ok = tokenizer_parse(&tok, text.data, text.size, &err);
    }
    CHECK(ok, "%s: %s", path.text, err.text);
    if (ok) {
        const char *name = gguf_pattern_name(&tok, &err);
        if (expected)
            CHECK(name && strcmp(name, expected) == 0, "%s: the pattern is %s, expected %s", fixture,
                  name ? name : "refused", expected);
        else CHECK(!name && strstr(err.text, "ignores merges"), "%s: not refused", fixture);
        tokenizer_free(&tok);
    }
    free(text.data);
}

static void test_gguf_patterns(void) {
    // A word whose merges are missing is found only where merges are ignored.
    const char *word = "\"vocab\": {", *more = "\"vocab\": {\"xqz\": 295, ";
    gguf_check_pattern("gpt2", false, NULL, NULL, "gpt-2");
    gguf_check_pattern("llama-untied", false, NULL, NULL, "llama-bpe");
    gguf_check_pattern("qwen3-tied", false, NULL, NULL, "qwen2");
    gguf_check_pattern("llama-untied", true, NULL, NULL, "llama-bpe");
    gguf_check_pattern("gpt2", true, NULL, NULL, "gpt-2");
    gguf_check_pattern("llama-untied", false, word, more, "dbrx");
    gguf_check_pattern("llama-untied", true, word, more, "llama-bpe");
    gguf_check_pattern("qwen3-tied", false, word, more, "qwen2");
    gguf_check_pattern("qwen3-tied", true, word, more, NULL);
    // Two words can be no pre-token, and so do not matter.
    gguf_check_pattern("llama-untied", false, word, "\"vocab\": {\"xq\xc4\xa0xz\": 295, ", "llama-bpe");
    // A special token with the name of a word would be found in plain text.
    gguf_check_pattern("llama-untied", false, "\"added_tokens\": [",
                       "\"added_tokens\": [{\"id\": 295, \"content\": \"Wort\", \"single_word\": false, \"lstrip\": "
                       "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, ",
                       "dbrx");
}

// Copies a tokenizer.json with `what` changed to `with`; what: NULL changes nothing.
static void gguf_put_tokenizer(const char *folder, const char *fixture, const char *what, const char *with) {
    Error err;
    Str text;
    memset(&text, 0, sizeof text);
    CHECK(file_read(&text, path_of(GGUF_FIXTURES "%s/tokenizer.json", fixture).text, (size_t)1 << 20, &err), "%s",
          err.text);
    if (what) gguf_replace(&text, what, with);
    test_tokenizer_put(folder, "tokenizer.json", text.data);
    free(text.data);
}

// Ends of text, what is put in front, and chat templates, as the folder's files say.
static void test_gguf_folder_files(void) {
    GgufFolder plain = gguf_folder(FAMILY_LLAMA, 32, 2, 1, 16, 32);
    Path folder = gguf_make_folder("gguf_M\xfcller", &plain, NULL), out = test_temp("said.gguf");
    static const char *const added =
        "\"added_tokens\": [{\"id\": 295, \"content\": \"<|begin|>\", \"special\": true}, {\"id\": 296, \"content\": "
        "\"<|im_end|>\", \"special\": true}, {\"id\": 297, \"content\": \"<one>\", \"special\": true}, {\"id\": 298, "
        "\"content\": \"<two>\", \"special\": true}, {\"id\": 299, \"content\": \"[[PAD9]\", \"special\": true}, "
        "{\"id\": 300, "
        "\"content\": \"[PAD305]\", \"special\": true}, ";
    Error err;
    GgufFile g;
    gguf_put_tokenizer(folder.text, "llama-untied", "\"added_tokens\": [", added);
    test_tokenizer_put(folder.text, "tokenizer_config.json",
                       "{\"eos_token\": \"<one>\", \"bos_token\": \"<|begin|>\", \"pad_token\": \"<two>\", "
                       "\"chat_template\": "
                       "[{\"name\": \"tool\", \"template\": \"T\"}, {\"name\": \"default\", \"template\": \"ä\"}]}");
    test_tokenizer_put(folder.text, "generation_config.json", "{\"eos_token_id\": [296, 0, 298, 297]}");
    bool ok = gguf_export(folder.text, out.text, DTYPE_F16, &err) && gguf_open(&g, out.text);
    CHECK(ok, "%s", err.text);
    if (ok) {
        static const struct {
            const char *key;
            double type, value;
        } keys[] = {{"eos_token_id", 4, 297}, {"eot_token_id", 4, 298},     {"eom_token_id", 4, 296}, // 0: by its name
                    {"bos_token_id", 4, 295}, {"padding_token_id", 4, 298}, {"add_bos_token", 7, 0}};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            CHECK(gguf_number(&g, "tokenizer.ggml.", keys[i].key, (uint32_t)keys[i].type) == keys[i].value,
                  "%s is %g, expected %g", keys[i].key,
                  gguf_number(&g, "tokenizer.ggml.", keys[i].key, (uint32_t)keys[i].type), keys[i].value);
        CHECK(gguf_is_text(&g, "tokenizer.chat_template", "ä") && gguf_is_text(&g, "tokenizer.chat_template.tool", "T"),
              "chat templates");
        const GgufPair *names = gguf_find(&g, "tokenizer.", "chat_templates");
        CHECK(names && names->type == 9 && names->count == 1, "names of chat templates");
        CHECK(gguf_is_text(&g, "general.name", "gguf_M\xef\xbf\xbdller"), "a folder's name that is not UTF-8");
        const GgufPair *tokens = gguf_find(&g, "tokenizer.ggml.", "tokens");
        GgufCursor c = tokens->value;
        for (int id = 0; id < 307; id++) {
            char *name = gguf_take_string(&c), expected[20];
            snprintf(expected, sizeof expected, "[[[PAD%d]", id);
            if (id > 300) CHECK(strcmp(name, expected) == 0, "token %d is %s, expected %s", id, name, expected);
            free(name);
        }
        gguf_close(&g);
    }
    test_tokenizer_put(folder.text, "generation_config.json", "{\"eos_token_id\": [298, 299, 295, 297]}");
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "more tokens than a GGUF file can say");
    // What tokenizer.json itself puts in front, and behind.
    test_tokenizer_put(folder.text, "tokenizer_config.json", "");
    test_tokenizer_put(folder.text, "generation_config.json", "");
    Path path = path_of("%s/tokenizer.json", folder.text);
    Str text;
    memset(&text, 0, sizeof text);
    gguf_put_tokenizer(folder.text, "llama-untied", "\"special_tokens\": {}",
                       "\"special_tokens\": {\"!\": {\"ids\": [1]}}");
    CHECK(file_read(&text, path.text, (size_t)1 << 20, &err), "%s", err.text);
    gguf_replace(&text, "\"single\": [", "\"single\": [{\"SpecialToken\": {\"id\": \"!\"}},");
    test_tokenizer_put(folder.text, "tokenizer.json", text.data);
    free(text.data);
    ok = gguf_export(folder.text, out.text, DTYPE_F16, &err) && gguf_open(&g, out.text);
    CHECK(ok, "%s", err.text);
    if (!ok) return;
    CHECK(gguf_number(&g, "tokenizer.ggml.", "add_bos_token", 7) == 1 &&
              gguf_number(&g, "tokenizer.ggml.", "bos_token_id", 4) == 1 &&
              gguf_number(&g, "tokenizer.ggml.", "eos_token_id", 4) == 0,
          "a token in front of every text");
    gguf_close(&g);
}

// What llama.cpp would read otherwise; and names for a hundred thousand ids without a token, in no time.
static void test_gguf_tokens(void) {
    static const struct {
        const char *more, *added, *part;
    } cases[] = {{", \"Ġx\": 256", "{\"id\": 256, \"content\": \"Ġx\", \"special\": false}, ", "an added one"},
                 {", \"a b\": 256", "", "has a space in it"}};
    Error err;
    Tokenizer tok;
    GgufKeys k;
    memset(&k, 0, sizeof k);
    k.family = "llama";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Path added = path_of("%s{\"id\": 257, \"content\": \"</s>\", \"special\": true}", cases[i].added);
        Str text = test_tokenizer_bytes_alone(cases[i].more, "\"merges\": []", added.text);
        CHECK(tokenizer_parse(&tok, text.data, text.size, &err), "%s", err.text);
        CHECK_ERROR(gguf_tokenizer_keys(&k, &tok, 300, &err), cases[i].part);
        tokenizer_free(&tok);
        free(text.data);
    }
    Str text = test_tokenizer_bytes_alone(", \"</s>\": 69000", "\"merges\": []",
                                          "{\"id\": 69000, \"content\": \"</s>\", \"special\": true}");
    CHECK(tokenizer_parse(&tok, text.data, text.size, &err), "%s", err.text);
    clock_t start = clock();
    CHECK(gguf_tokenizer_keys(&k, &tok, 100000, &err), "%s", err.text);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(seconds < 3, "%.1f s for names of 100,000 ids", seconds); // 0.05 s without sanitizers
    tokenizer_free(&tok);
    free(text.data);
    free(k.bytes.data);
}

// ---------------------------------------------------------------- errors

// Files in a folder whose names begin so.
static int gguf_count_files(const char *folder, const char *start) {
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) n += strncmp(e->d_name, start, strlen(start)) == 0;
    if (dir) closedir(dir);
    return n;
}

static void gguf_limit_files(rlim_t bytes) {
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

// The folder qwen2-yarn with something more said of YaRN, which llama.cpp has in one form.
static void test_gguf_yarn(void) {
    static const char *const files[] = {"model.safetensors", "tokenizer.json", "config.json"};
    static const char *const more[] = {"\"x\": null", "\"beta_fast\": 16", "\"beta_slow\": 2", "\"truncate\": false"};
    Path folder = test_temp("yarn"), out = test_temp("yarn.gguf");
    Error err;
    CHECK(path_make_folder(folder.text, &err), "%s", err.text);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 3; k++) {
            Str text;
            memset(&text, 0, sizeof text);
            Path from = path_of(GGUF_FIXTURES "qwen2-yarn/%s", files[k]), to = path_of("%s/%s", folder.text, files[k]);
            CHECK(file_read(&text, from.text, 1 << 20, &err), "%s", err.text);
            if (k == 2) gguf_replace(&text, "\"factor\": 4.0", path_of("\"factor\": 4.0, %s", more[i]).text);
            CHECK(file_write_all(to.text, text.data, text.size, &err), "%s", err.text);
            free(text.data);
        }
        if (i) CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "llama.cpp has YaRN only with");
        else CHECK(gguf_export(folder.text, out.text, DTYPE_F16, &err), "%s", err.text);
    }
}

// Windows, which llama.cpp does not see; with no more positions than a window has there is none.
static void test_gguf_windows(void) {
    static const char *const files[] = {"tokenizer.json", "model.safetensors", "config.json"};
    Path folder = test_temp("windows_folder"), out = test_temp("windows.gguf");
    Error err;
    CHECK(path_make_folder(folder.text, &err), "%s", err.text);
    for (int positions = 64; positions >= 7; positions -= 57) {
        for (int k = 0; k < 3; k++) {
            Str text;
            memset(&text, 0, sizeof text);
            Path from = path_of(GGUF_FIXTURES "mistral-window/%s", files[k]),
                 to = path_of("%s/%s", folder.text, files[k]);
            CHECK(file_read(&text, from.text, 1 << 20, &err), "%s", err.text);
            if (k == 2)
                gguf_replace(&text, "\"max_position_embeddings\": 64",
                             path_of("\"max_position_embeddings\": %d", positions).text);
            CHECK(file_write_all(to.text, text.data, text.size, &err), "%s", err.text);
            free(text.data);
        }
        if (positions == 64)
            CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F32, &err), "no windows of attention");
        else CHECK(gguf_export(folder.text, out.text, DTYPE_F32, &err), "%s", err.text);
    }
}

// Layers without positions, which llama.cpp has in smollm3 at places of its own; what else it does not look at there.
static void test_gguf_positions(void) {
    static const char *const files[] = {"tokenizer.json", "model.safetensors", "config.json"};
    static const char *const cases[][3] =
        {{"\"model_type\": \"smollm3\"", "\"model_type\": \"smollm3\"", NULL},
         {"\"no_rope_layers\": [", "\"no_rope_layers\": null, \"x\": [", NULL},
         {"\"no_rope_layers\": [", "\"no_rope_layers\": [1, 0, 1, 0], \"x\": [",
          "\"no_rope_layers\" says something else"},
         {"\"no_rope_layers\": [", "\"no_rope_layers\": [1, 1, 1, 1], \"x\": [",
          "each layer of smollm3 whose number 4"},
         {"\"rope_type\": \"default\"", "\"rope_type\": \"yarn\", \"factor\": 4.0", NULL},
         {"\"rope_type\": \"default\"",
          "\"rope_type\": \"llama3\", \"factor\": 4.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
          "\"original_max_position_embeddings\": 16",
          "no scaling of Llama 3 for smollm3"}};
    Path folder = test_temp("positions"), out = test_temp("positions.gguf");
    Error err;
    CHECK(path_make_folder(folder.text, &err), "%s", err.text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int k = 0; k < 3; k++) {
            Str text;
            memset(&text, 0, sizeof text);
            Path from = path_of(GGUF_FIXTURES "smollm3/%s", files[k]), to = path_of("%s/%s", folder.text, files[k]);
            CHECK(file_read(&text, from.text, 1 << 20, &err), "%s", err.text);
            if (k == 2) gguf_replace(&text, cases[i][0], cases[i][1]);
            CHECK(file_write_all(to.text, text.data, text.size, &err), "%s", err.text);
            free(text.data);
        }
        if (cases[i][2]) CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F32, &err), cases[i][2]);
        else CHECK(gguf_export(folder.text, out.text, DTYPE_F32, &err), "%s", err.text);
    }
    GgufFolder biased = gguf_folder(FAMILY_SMOLLM3, 32, 2, 1, 16, 32);
    biased.bias = 1;
    folder = gguf_make_folder("positions_biased", &biased, GGUF_FIXTURES "llama-untied/tokenizer.json");
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F32, &err), "llama.cpp has no biases for smollm3");
}

static void test_gguf_errors(void) {
    const char *tokenizer = GGUF_FIXTURES "llama-untied/tokenizer.json", *q = "model.layers.0.self_attn.q_proj.weight";
    Path place = test_temp("gguf_out"), out = path_of("%s/x.gguf", place.text), folder,
         missing = path_of("%s/nowhere/x.gguf", place.text);
    Error err;
    CHECK(path_make_folder(place.text, &err), "%s", err.text);
    GgufFolder plain = gguf_folder(FAMILY_LLAMA, 32, 2, 1, 16, 32), f = plain;
    f.spoiled = q, f.value = NAN;
    folder = gguf_make_folder("gguf_bad", &f, tokenizer);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F32, &err), "q_proj.weight has values that are not finite");
    f.value = 70000;
    folder = gguf_make_folder("gguf_bad", &f, tokenizer);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "--dtype=bf16");
    CHECK(gguf_count_files(place.text, "x.gguf") == 0, "a refused export left a file");
    gguf_compare_folder(folder.text, DTYPE_BF16, false);
    f = plain, f.spoiled = q, f.leave_out = true;
    folder = gguf_make_folder("gguf_bad", &f, tokenizer);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "q_proj.weight is missing");
    f = plain, f.spoiled = q, f.add_one = true;
    folder = gguf_make_folder("gguf_bad", &f, tokenizer);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "the shape (33, 32), expected (32, 32)");
    f = plain, f.spoiled = "extra";
    folder = gguf_make_folder("gguf_bad", &f, tokenizer);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "model.layers.7.extra has no place");
    folder = gguf_make_folder("gguf_bare", &plain, NULL);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "tokenizer.json");
    CHECK_ERROR(gguf_export(place.text, out.text, DTYPE_F16, &err), "config.json");
    folder = gguf_make_folder("gguf_bad", &plain, tokenizer);
    CHECK_ERROR(gguf_export(folder.text, missing.text, DTYPE_F16, &err), "cannot write");

    // A full disk: an error, nothing left, and what stood there before still stands.
    CHECK(file_write_all(out.text, "old", 3, &err), "%s", err.text);
    gguf_limit_files(20000);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F32, &err), "cannot write");
    gguf_limit_files(RLIM_INFINITY);
    struct stat st;
    CHECK(stat(out.text, &st) == 0 && st.st_size == 3 && gguf_count_files(place.text, "x.gguf") == 1,
          "a full disk changed the old file or left a temporary one");
    CHECK(gguf_export(folder.text, out.text, DTYPE_F32, &err) && stat(out.text, &st) == 0 && st.st_size > 20000,
          "the limit was not what failed");

    // More tokens than rows of the embedding; a tokenizer without an end of text.
    MappedFile text;
    Str changed;
    memset(&changed, 0, sizeof changed);
    CHECK(file_map(&text, tokenizer, &err), "%s", err.text);
    str_add(&changed, text.data, text.size);
    file_unmap(&text);
    Path to = path_of("%s/tokenizer.json", folder.text);
    gguf_replace(&changed, "\"vocab\": {", "\"vocab\": {\"xqz\": 400, ");
    CHECK(file_write_all(to.text, changed.data, changed.size, &err), "%s", err.text);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "has 401 tokens, the model only 307");
    gguf_replace(&changed, "\"xqz\": 400, ", "");
    gguf_replace(&changed, "<|endoftext|>", "<|other|>");
    gguf_replace(&changed, "<|endoftext|>", "<|other|>");
    CHECK(file_write_all(to.text, changed.data, changed.size, &err), "%s", err.text);
    CHECK_ERROR(gguf_export(folder.text, out.text, DTYPE_F16, &err), "no end-of-text token");
    free(changed.data);
    test_gguf_yarn();
    test_gguf_windows();
    test_gguf_positions();
}

static void test_gguf(void) {
    static const char *const fixtures[] = {"gpt2",           "gpt2-untied",  "llama-untied", "llama-tied-bf16",
                                           "qwen3-tied",     "qwen3-untied", "llama-llama3", "qwen2-yarn",
                                           "mistral-linear", "smollm3",      "apertus"};
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++)
        for (int dtype = DTYPE_F32; dtype <= DTYPE_Q8_0; dtype++) {
            Path folder = path_of(GGUF_FIXTURES "%s", fixtures[i]);
            gguf_compare_folder(folder.text, dtype, true);
        }
    test_gguf_large();
    test_gguf_q8_0();
    test_gguf_patterns();
    test_gguf_folder_files();
    test_gguf_tokens();
    test_gguf_errors();
}

#endif
