/*
model.h: the one model description, shared by the CPU and the CUDA program.

Defines
  CONFIG, Config    what a model is: sizes and switches, nothing else; from the table come the struct, its check,
                    comparison and description, config.json and GGUF keys
  FAMILIES          the families: switches, defaults, names in files
  PRESETS           the sizes that have a name, in the three families
  PARAMETERS        every parameter tensor, named once: shape, place, initialisation, group, whether it is trained
  ACTIVATIONS       every intermediate tensor, named once: shape, place, lifetime
  ParamTable        the tensors of one config with their offsets in one flat allocation
  parameter counts, FLOPs, memory

Dimensions: V vocabulary, C channels, L layers, NH query heads, NKV key/value heads, HS head size,
F hidden size of the MLP, B batch, T time. QKV = (NH + 2 NKV) HS is the width of the stacked
query, key and value projections.

The families differ by switches in Config, never by copies of code:
  gpt2   LayerNorm, biases, learned positions, GELU (tanh form), tied head   Radford et al. 2019
  llama  RMSNorm, rotary positions, SwiGLU, grouped-query attention           Touvron et al. 2023
  qwen2  llama with biases of queries, keys and values                        Qwen team 2024
  qwen3  llama with an RMSNorm on each query and key head                     Qwen team 2025
  mistral  llama with a window of attention                                   Jiang et al. 2023
  smollm3  llama with layers without positions                                Bakouch et al. 2025
  apertus  qwen3 with xIELU, learned in each layer, in place of a gated MLP   Apertus team 2025

Weights are stored as (out features, in features) for every family. Where a folder has another layout or cuts a tensor
(gpt2 stores the transpose; llama stores q, k and v apart), files/naming.h says so: no other code knows.

Adding a field, a tensor or a family is adding a row.
*/
#ifndef LLMC_MODEL_H
#define LLMC_MODEL_H

#include "base/common.h"
#include "base/rng.h"
#include <math.h>

// ---------------------------------------------------------------- config

// X(id, names in config.json: the one that is written, then others that mean the same). What they compute stands in
// llmc/cpu/mlp.h and llmc/cuda/mlp.h; that of XIELU, which has numbers of its own, in xielu.h beside them.
#define ACTIVATION_FUNCTIONS(X) X(GELU_TANH, "gelu_new|gelu_pytorch_tanh") X(SILU, "silu") X(XIELU, "xielu")

// How rotary positions reach beyond the length that a model was trained with first. X(id, rope_type in config.json)
#define ROPE_SCALINGS(X)                                                                                               \
    X(ROPE_PLAIN, "default")                                                                                           \
    X(ROPE_LINEAR, "linear") X(ROPE_YARN, "yarn") X(ROPE_LLAMA3, "llama3") X(ROPE_DYNAMIC, "dynamic")
typedef enum { ROPE_SCALINGS(CHOICE_ENUM) ROPE_SCALING_KINDS } RopeScaling;

// Some of the layers, as bits: the first layer is the lowest of the first word.
enum { LAYERS_MOST = 1024 };
typedef struct {
    uint64_t bits[LAYERS_MOST / 64];
} Layers;

static inline bool layers_have(const Layers *l, int layer) { return l->bits[layer / 64] >> layer % 64 & 1; }
static inline void layers_add(Layers *l, int layer) { l->bits[layer / 64] |= (uint64_t)1 << layer % 64; }

// Each step-th of the first `layers`; step 0: none.
static inline Layers layers_each(int step, int layers) {
    Layers l;
    memset(&l, 0, sizeof l);
    for (int layer = step - 1; step > 0 && layer < layers; layer += step) layers_add(&l, layer);
    return l;
}

static inline bool layers_equal(const Layers *a, const Layers *b) { return memcmp(a, b, sizeof *a) == 0; }

// X(type, id, words for people, least, most, close, gpt2 keys, llama keys, place, GGUF key): the fields of Config.
//   type         SIZE, SWITCH (0 or 1), CHOICE (of a table), REAL or LAYERS
//   least, most  bounds, of a REAL both outside; both 0: none that hold for every model
//   close        a run resumes with a value so close, relatively; 0: with this one alone; -1: with any
//   keys         in config.json, in this order, by the two vocabularies of Transformers; "" where a family fixes the
//                value or it follows from others. Several ('|') hold the same value.
//   place, key   in GGUF: place among its keys, and key as an expression of `const Config *c`
// clang-format off
#define CONFIG(X)                                                                                                      \
    X(CHOICE, family, "family", 0, FAMILY_KINDS - 1, 0, "", "", 0, "")                                                 \
    X(SIZE, vocab_size, "vocab_size", 1, 1 << 24, 0, "vocab_size", "vocab_size", 1, ".vocab_size")                     \
    X(SIZE, max_seq_len, "max_seq_len", 1, 1 << 24, 0, "n_positions", "max_position_embeddings", 2, ".context_length") \
    X(SIZE, channels, "hidden size (channels)", 1, 1 << 17, 0, "n_embd", "hidden_size", 3, ".embedding_length")        \
    X(SIZE, layers, "number of layers", 1, LAYERS_MOST, 0, "n_layer", "num_hidden_layers", 4, ".block_count")                 \
    X(SIZE, heads, "number of heads", 1, 1024, 0, "n_head", "num_attention_heads", 6, ".attention.head_count")         \
    X(SIZE, kv_heads, "key/value heads", 1, 1024, 0, "", "num_key_value_heads", 7, ".attention.head_count_kv")         \
    X(SIZE, head_size, "head size", 1, 512, 0, "", "head_dim", 9,                                                      \
      c->rope ? ".attention.key_length|.attention.value_length|.rope.dimension_count" : "")                            \
    X(SIZE, hidden, "MLP size", 1, 1 << 19, 0, "n_inner", "intermediate_size", 5, ".feed_forward_length")              \
    X(CHOICE, activation, "activation", 0, ACTIVATION_KINDS - 1, 0, "activation_function", "hidden_act", 0, "")        \
    X(REAL, norm_eps, "norm epsilon", 1e-30, 1, 1e-5, "layer_norm_epsilon", "rms_norm_eps", 8,                             \
      c->rms_norm ? ".attention.layer_norm_rms_epsilon" : ".attention.layer_norm_epsilon")                             \
    X(REAL, rope_theta, "rope_theta", 1, 1e30, 1e-5, "", "rope_theta", 10, c->rope ? ".rope.freq_base" : "")              \
    X(SWITCH, bias, "biases", 0, 1, 0, "", "attention_bias|mlp_bias", 0, "")                                           \
    X(REAL, init_std, "initial deviation", 0, 100, -1, "initializer_range", "initializer_range", 0, "")                  \
    X(SWITCH, tied, "tied head", 0, 1, 0, "tie_word_embeddings", "tie_word_embeddings", 0, "")                         \
    X(SWITCH, rms_norm, "RMSNorm", 0, 1, 0, "", "", 0, "")                                                             \
    X(SWITCH, rope, "rotary positions", 0, 1, 0, "", "", 0, "")                                                        \
    X(SWITCH, gated, "gated MLP", 0, 1, 0, "", "", 0, "")                                                              \
    X(SWITCH, qk_norm, "QK-norm", 0, 1, 0, "", "", 0, "")                                                              \
    X(SWITCH, qkv_bias, "biases of queries, keys and values", 0, 1, 0, "", "", 0, "")                                  \
    X(CHOICE, rope_scaling, "scaling of rotary positions", 0, ROPE_SCALING_KINDS - 1, 0, "", "", 11,                              \
      c->rope_scaling == ROPE_LINEAR || c->rope_scaling == ROPE_YARN ? ".rope.scaling.type" : "")                      \
    X(REAL, rope_factor, "factor of rotary positions", 0, 0, 1e-5, "", "", 12,                                         \
      c->rope_scaling == ROPE_LINEAR || c->rope_scaling == ROPE_YARN ? ".rope.scaling.factor" : "")                    \
    X(SIZE, rope_original, "original positions", 0, 1 << 24, 0, "", "", 13,                                            \
      c->rope_scaling == ROPE_YARN ? ".rope.scaling.original_context_length" : "")                                     \
    X(REAL, rope_slow, "turns below which rotary positions are scaled", 0, 0, 1e-5, "", "", 0, "")                     \
    X(REAL, rope_fast, "turns from which rotary positions are not scaled", 0, 0, 1e-5, "", "", 0, "")                  \
    X(REAL, rope_attention, "factor of rotated queries and keys", 0, 0, 1e-5, "", "", 14,                              \
      c->rope_scaling == ROPE_YARN ? ".rope.scaling.attn_factor" : "")                                                 \
    X(SWITCH, rope_between, "scaling of rotary positions that begins between two pairs", 0, 1, 0, "", "", 0, "")       \
    X(SIZE, window, "window of attention", 0, 1 << 24, 0, "", "", 0, "")                                               \
    X(LAYERS, whole, "layers without the window", 0, 0, 0, "", "", 0, "")                                              \
    X(LAYERS, unrotated, "layers without rotary positions", 0, 0, 0, "", "", 0, "")

// X(id, name, class in config.json, GGUF architecture, vocabulary of CONFIG, naming and GGUF naming of tensors
//   (files/naming.h), llama.cpp rotates neighbouring pairs of a head (Hugging Face: halves), what of "bias", "tied" and
//   "rope_freqs" llama.cpp lacks in this architecture, each so manieth layer is without rotary positions if no list says
//   otherwise (0: none is; llama.cpp's always), keys that its class lacks, its lines of config.json that never differ,
//   norm_eps of new models,
//   and what a config.json means that leaves out what its class has a default for, in the order of CONFIG: vocab_size,
//   max_seq_len, channels, layers, heads, kv_heads (0: heads), head_size (0: channels / heads), hidden (0: 4 channels),
//   activation, norm_eps, rope_theta, bias, init_std, tied, rms_norm, rope, gated, qk_norm, qkv_bias, and how rotary
//   positions are scaled).
#define UNSCALED ROPE_PLAIN, 0, 0, 0, 0, 0, 0, 0, {{0}}, {{0}}, {0, 0, 0, 0, 0}
#define SCALED_AS_LLAMA3 ROPE_LLAMA3, 8, 8192, 1, 4, 0, 0, 0, {{0}}, {{0}}, {0, 0, 0, 0, 0}
#define FAMILIES(X)                                                                                                    \
    X(GPT2, "gpt2", "GPT2LMHeadModel", "gpt2", KEYS_GPT2, NAMING_GPT2, NAMING_GGUF_GPT2, 0, "", 0, "",                        \
      "  \"attn_pdrop\": 0.0,\n  \"embd_pdrop\": 0.0,\n  \"resid_pdrop\": 0.0,\n", 1e-5,                               \
      50257, 1024, 768, 12, 12, 0, 0, 0, ACTIVATION_GELU_TANH, 1e-5, 1e4, 1, 0.02, 1, 0, 0, 0, 0, 0, UNSCALED)          \
    X(LLAMA, "llama", "LlamaForCausalLM", "llama", KEYS_LLAMA, NAMING_LLAMA, NAMING_GGUF_LLAMA, 1, "", 0, "", "", 1e-5,       \
      32000, 2048, 4096, 32, 32, 0, 0, 11008, ACTIVATION_SILU, 1e-6, 1e4, 0, 0.02, 0, 1, 1, 1, 0, 0, UNSCALED)          \
    X(QWEN3, "qwen3", "Qwen3ForCausalLM", "qwen3", KEYS_LLAMA, NAMING_LLAMA, NAMING_GGUF_LLAMA, 0, "", 0, "mlp_bias",         \
      "  \"use_sliding_window\": false,\n", 1e-6,                                                                      \
      151936, 32768, 4096, 32, 32, 32, 128, 22016, ACTIVATION_SILU, 1e-6, 1e4, 0, 0.02, 0, 1, 1, 1, 1, 0, UNSCALED)    \
    X(QWEN2, "qwen2", "Qwen2ForCausalLM", "qwen2", KEYS_LLAMA, NAMING_LLAMA, NAMING_GGUF_LLAMA, 0, "", 0,              \
      "attention_bias|mlp_bias", "  \"use_sliding_window\": false,\n", 1e-6,                                          \
      151936, 32768, 4096, 32, 32, 32, 0, 22016, ACTIVATION_SILU, 1e-6, 1e4, 0, 0.02, 0, 1, 1, 1, 0, 1, UNSCALED)      \
    X(MISTRAL, "mistral", "MistralForCausalLM", "llama", KEYS_LLAMA, NAMING_LLAMA, NAMING_GGUF_LLAMA, 1, "", 0,        \
      "attention_bias|mlp_bias", "  \"sliding_window\": null,\n", 1e-5,                                               \
      32000, 131072, 4096, 32, 32, 8, 0, 14336, ACTIVATION_SILU, 1e-6, 1e4, 0, 0.02, 0, 1, 1, 1, 0, 0, UNSCALED)        \
    X(SMOLLM3, "smollm3", "SmolLM3ForCausalLM", "smollm3", KEYS_LLAMA, NAMING_LLAMA, NAMING_GGUF_LLAMA, 1,             \
      "bias|rope_freqs", 4, "", "  \"use_sliding_window\": false,\n", 1e-6,                                            \
      128256, 32768, 2048, 36, 16, 4, 0, 11008, ACTIVATION_SILU, 1e-6, 2e6, 0, 0.02, 1, 1, 1, 1, 0, 0, UNSCALED)          \
    X(APERTUS, "apertus", "ApertusForCausalLM", "apertus", KEYS_LLAMA, NAMING_APERTUS, NAMING_GGUF_APERTUS, 0, "tied", 0, \
      "mlp_bias", "", 1e-5,                                                                                            \
      131072, 65536, 4096, 32, 32, 0, 0, 14336, ACTIVATION_XIELU, 1e-5, 12e6, 0, 0.02, 0, 1, 1, 0, 1, 0, SCALED_AS_LLAMA3)
// clang-format on

typedef enum {
#define X(id, ...) FAMILY_##id,
    FAMILIES(X)
#undef X
        FAMILY_KINDS
} FamilyKind;

typedef enum {
#define X(id, names) ACTIVATION_##id,
    ACTIVATION_FUNCTIONS(X)
#undef X
        ACTIVATION_KINDS
} ActivationFunction;

typedef enum {
#define X(type, id, ...) CONFIG_##id,
    CONFIG(X)
#undef X
        CONFIG_KINDS
} ConfigKind;

typedef enum { FIELD_SIZE, FIELD_SWITCH, FIELD_CHOICE, FIELD_REAL, FIELD_LAYERS } ConfigType;
typedef int ConfigSIZE, ConfigSWITCH, ConfigCHOICE;
typedef double ConfigREAL;
typedef Layers ConfigLAYERS;

// A low-rank adapter (LoRA, Hu et al. 2021, arXiv:2106.09685) beside frozen weights: products of its targets, which are
// ranges of rows of a matrix, are x W^T + scale (x A^T) B^T, A (rank, in), B (out, rank). No config.json says it:
// files/adapters.h.
typedef struct {
    int rank;         // 0: none, and everything is trained
    unsigned targets; // bits 1 << LoraTarget
    int rs;           // scale alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732), else alpha / rank
    double alpha;
    double dropout; // share of x, for each target its own, that is left out in training
} Lora;

typedef struct {
#define X(type, id, ...) Config##type id;
    CONFIG(X)
#undef X
    Lora lora;
} Config;

typedef enum { KEYS_GPT2, KEYS_LLAMA } ConfigKeys;
typedef enum {
    NAMING_GPT2 = 1,
    NAMING_LLAMA = 2,
    NAMING_GGUF_GPT2 = 4,
    NAMING_GGUF_LLAMA = 8,
    NAMING_APERTUS = 16,
    NAMING_GGUF_APERTUS = 32
} Naming;

// A row of FAMILIES.
typedef struct {
    const char *name, *class_name, *gguf;
    int keys, naming, gguf_naming, gguf_pairs;
    const char *gguf_lacks;
    int unrotated_step;
    const char *absent, *fixed;
    double norm_eps;
    Config config;
} Family;

static inline const Family *family_of(int family) {
    static const Family table[] = {
#define X(id, name, class_name, gguf, keys, naming, named, pairs, lacks, step, absent, fixed, eps, ...)                \
    {name, class_name, gguf, keys, naming, named, pairs, lacks, step, absent, fixed, eps, {FAMILY_##id, __VA_ARGS__}},
        FAMILIES(X)
#undef X
    };
    return &table[family];
}

static inline const char *family_name(int family) { return family_of(family)->name; }

// The names of all families, each with `end` behind it and `last` before the last: "gpt2, llama and qwen3".
static inline Path family_list(const char *end, const char *last) {
    Path list = path_of("%s%s", family_name(0), end);
    for (int i = 1; i < FAMILY_KINDS; i++)
        list = path_of("%.2000s%s%s%s", list.text, i < FAMILY_KINDS - 1 ? ", " : last, family_name(i), end);
    return list;
}

static inline const char *activation_names(int activation) {
    static const char *const names[] = {
#define X(id, names) names,
        ACTIVATION_FUNCTIONS(X)
#undef X
    };
    return names[activation];
}

static inline const char *rope_scaling_name(int scaling) {
    static const char *const names[] = {
#define X(id, name) name,
        ROPE_SCALINGS(X)
#undef X
    };
    return names[scaling];
}

// A row of CONFIG, but for its GGUF key.
typedef struct {
    const char *name, *words;
    int type; // ConfigType
    size_t at;
    double least, most, close;
    const char *keys[2]; // ConfigKeys
    int gguf_place;
} ConfigField;

static inline const ConfigField *config_field(int kind) {
    static const ConfigField fields[] = {
#define X(type, id, words, least, most, close, gpt2, llama, place, gguf)                                               \
    {#id, words, FIELD_##type, offsetof(Config, id), least, most, close, {gpt2, llama}, place},
        CONFIG(X)
#undef X
    };
    return &fields[kind];
}

// A field of the type LAYERS.
static inline const Layers *config_layers(const Config *c, int kind) {
    return (const Layers *)(const void *)((const char *)c + config_field(kind)->at);
}

// Any other field's value.
static inline double config_value(const Config *c, int kind) {
    const char *at = (const char *)c + config_field(kind)->at;
    return config_field(kind)->type == FIELD_REAL ? *(const double *)(const void *)at : *(const int *)(const void *)at;
}

static inline void config_set(Config *c, int kind, double value) {
    char *at = (char *)c + config_field(kind)->at;
    if (config_field(kind)->type == FIELD_REAL) *(double *)(void *)at = value;
    else *(int *)(void *)at = (int)value;
}

static inline int config_qkv(const Config *c) { return (c->heads + 2 * c->kv_heads) * c->head_size; }
static inline int config_qkv_bias(const Config *c) { return c->bias || c->qkv_bias; }
static inline int config_xielu(const Config *c) { return c->activation == ACTIVATION_XIELU; }
// Of how many positions a layer's queries see the keys, their own among them; 0: of all before.
static inline int config_window(const Config *c, int layer) { return layers_have(&c->whole, layer) ? 0 : c->window; }
// Whether a layer's queries and keys are rotated.
static inline bool config_rotates(const Config *c, int layer) { return c->rope && !layers_have(&c->unrotated, layer); }
static inline int config_fc(const Config *c) { return c->gated ? 2 * c->hidden : c->hidden; }

// X(id, parameter, first of its rows, number of its rows): what an adapter can stand beside. `qkv` is for families
// whose folders have queries, keys and values in one tensor.
// clang-format off
#define LORA_TARGETS(X)                                                                                              \
    X(qkv,  qkv_w,    0,                                       config_qkv(c))                                          \
    X(q,    qkv_w,    0,                                       c->heads * c->head_size)                                \
    X(k,    qkv_w,    c->heads * c->head_size,                 c->kv_heads * c->head_size)                             \
    X(v,    qkv_w,    (c->heads + c->kv_heads) * c->head_size, c->kv_heads * c->head_size)                             \
    X(o,    proj_w,   0,                                       c->channels)                                            \
    X(gate, fc_w,     0,                                       c->hidden)                                              \
    X(up,   fc_w,     c->gated ? c->hidden : 0,                c->hidden)                                              \
    X(down, fcproj_w, 0,                                       c->channels)
// clang-format on

typedef enum {
#define X(id, ...) LORA_##id,
    LORA_TARGETS(X)
#undef X
        LORA_KINDS
} LoraTarget;

static inline bool lora_has(const Config *c, int target) { return c->lora.rank && c->lora.targets >> target & 1; }

static inline double lora_scale(const Config *c) {
    return c->lora.alpha / (c->lora.rs ? sqrt((double)c->lora.rank) : (double)c->lora.rank);
}

// Rotary positions as they are: what an object that says how they are scaled begins from.
static inline void config_unscale(Config *c) {
    const int fields[] = {CONFIG_rope_scaling, CONFIG_rope_factor,    CONFIG_rope_original, CONFIG_rope_slow,
                          CONFIG_rope_fast,    CONFIG_rope_attention, CONFIG_rope_between};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) config_set(c, fields[i], 0);
}

// The widest input of a target.
static inline int lora_width(const Config *c) {
    int width = c->channels, NQ = c->heads * c->head_size;
    if (lora_has(c, LORA_o) && NQ > width) width = NQ;
    return lora_has(c, LORA_down) && c->hidden > width ? c->hidden : width;
}

// The model without its adapter.
static inline Config config_base(const Config *c) {
    Config base = *c;
    memset(&base.lora, 0, sizeof base.lora);
    return base;
}

// A new model of a family; the sizes are yet to be chosen.
static inline Config config_of_family(int family) {
    Config c = family_of(family)->config;
    c.tied = 1;
    c.norm_eps = family_of(family)->norm_eps;
    return c;
}

// Refuses a config that the programs cannot run, naming the value that breaks the rule.
static inline bool config_check(const Config *c, Error *err) {
    for (int i = 0; i < CONFIG_KINDS; i++) {
        const ConfigField *f = config_field(i);
        for (int layer = c->layers; f->type == FIELD_LAYERS && layer < LAYERS_MOST; layer++)
            if (layers_have(config_layers(c, i), layer))
                return error_set(err, "model config: %s: number %d, of %d layers", f->words, layer, c->layers);
        if (f->type == FIELD_LAYERS) continue;
        double value = config_value(c, i);
        if (f->type == FIELD_REAL && f->least < f->most && !(value > f->least && value < f->most))
            return error_set(err, "model config: %s %g, expected above %g and below %g", f->words, value, f->least,
                             f->most);
        if (f->type != FIELD_REAL && (value < f->least || value > f->most))
            return error_set(err, "model config: %s is %.0f, expected %.0f to %.0f", f->words, value, f->least,
                             f->most);
    }
    if (c->heads % c->kv_heads)
        return error_set(err, "model config: %d key/value heads do not divide %d query heads", c->kv_heads, c->heads);
    if (c->rope && c->head_size % 2)
        return error_set(err, "model config: rotary positions need an even head size, not %d", c->head_size);
    if (c->rope_scaling && !(c->rope_factor >= 1 && c->rope_factor < 1e9))
        return error_set(err, "model config: factor of rotary positions %g, expected 1 or more", c->rope_factor);
    if ((c->rope_scaling == ROPE_YARN || c->rope_scaling == ROPE_LLAMA3) &&
        !(c->rope_original > 0 && c->rope_slow > 0 && c->rope_fast > c->rope_slow && c->rope_fast < 1e9))
        return error_set(err, "model config: rotary positions scaled from %g to %g turns over %d positions",
                         c->rope_slow, c->rope_fast, c->rope_original);
    if (c->rope_scaling == ROPE_YARN && !(c->rope_attention > 0 && c->rope_attention < 1e9))
        return error_set(err, "model config: factor of rotated queries and keys %g, expected above 0",
                         c->rope_attention);
    return true;
}

// The name of the first field in which b is another model than a; NULL: none. Rounding, as in a config.json that
// another program wrote, makes no other model.
static inline const char *config_difference(const Config *a, const Config *b) {
    for (int i = 0; i < CONFIG_KINDS; i++) {
        if (config_field(i)->type == FIELD_LAYERS) {
            if (!layers_equal(config_layers(a, i), config_layers(b, i))) return config_field(i)->name;
            continue;
        }
        double x = config_value(a, i), y = config_value(b, i), close = config_field(i)->close;
        if (close >= 0 && !(fabs(x - y) <= close * fmax(fabs(x), fabs(y)))) return config_field(i)->name;
    }
    return NULL;
}

// The numbers of some of `layers` layers, as an array of JSON.
static inline void layers_list(Str *s, const Layers *l, int layers) {
    const char *comma = "";
    str_puts(s, "[");
    for (int layer = 0; layer < layers; layer++)
        if (layers_have(l, layer)) str_printf(s, "%s%d", comma, layer), comma = ", ";
    str_puts(s, "]");
}

// All fields on one line, for machines to compare.
static inline void config_describe(Str *s, const Config *c) {
    for (int i = 0; i < CONFIG_KINDS; i++) {
        str_printf(s, "%s%s ", i ? ", " : "", config_field(i)->name);
        if (config_field(i)->type == FIELD_LAYERS) layers_list(s, config_layers(c, i), c->layers);
        else str_printf(s, "%.9g", config_value(c, i));
    }
}

// The shape in words, for people.
static inline Path config_words(const Config *c) {
    return path_of("%d layers, %d channels, %d heads of %d (%d for keys and values), MLP %d, vocabulary %d", c->layers,
                   c->channels, c->heads, c->head_size, c->kv_heads, c->hidden, c->vocab_size);
}

// What attention is asked for: Tq queries of each head see the keys of their position and before, of Tkv in all.
typedef struct {
    int B, Tq, Tkv, NH, NKV, HS;
    double scale;          // of the scores: 1 / sqrt(HS)
    int window;            // of how many positions a query sees the keys, its own among them; 0: of all
    const int32_t *starts; // (B, Tq): where in its row the document of a query begins; NULL: at 0. Else Tq == Tkv
} AttentionShape;

static inline AttentionShape attention_shape(const Config *c, int layer, int B, int Tq, int Tkv,
                                             const int32_t *starts) {
    double scale = 1 / sqrt((double)c->head_size);
    AttentionShape s = {B, Tq, Tkv, c->heads, c->kv_heads, c->head_size, scale, config_window(c, layer), starts};
    return s;
}

// G prefixes of P tokens, and B sequences that go on behind one of them with T tokens each.
typedef struct {
    int G, P, B, T, NK;
} PrefixShape;

// The first key that query t of sequence b sees; the last is that of its position, Tkv - Tq + t. From one query to the
// next it never falls: what the first of a block of queries does not see lies before all of them, and the queries that
// see a key follow each other.
HD static inline int attention_first(AttentionShape s, int b, int t) {
    int first = s.starts ? s.starts[(int64_t)b * s.Tq + t] : 0, position = s.Tkv - s.Tq + t;
    return s.window && position - s.window >= first ? position - s.window + 1 : first;
}

// The rows of a pass: B <= batch_size of T <= seq_len tokens.
typedef struct {
    const int32_t *inputs, *targets; // (B, T); a target of -1 counts nothing
    // (B, T), or NULL: a row is one document. Where in its row the document of a token begins: attention sees no key
    // before it, and positions are counted from it.
    const int32_t *starts;
    int B, T;
} ModelBatch;

// Ends the program where documents do not follow one another: what is computed would be another thing.
static inline void model_batch_check(const ModelBatch *batch) {
    for (int64_t n = 0; batch->starts && n < (int64_t)batch->B * batch->T; n++) {
        int t = (int)(n % batch->T), start = batch->starts[n];
        if (start == t || (t > 0 && start == batch->starts[n - 1])) continue;
        fail("a pass: the document of token %d of row %d begins at %d, expected %d or where that of the token before "
             "does",
             t, (int)(n / batch->T), start, t);
    }
}

// Rows of tokens, ids (B, T). starts (B, T): where in its row a token's document begins; NULL: at 0.
typedef struct {
    const int32_t *ids, *starts;
    int first, B, T; // first: the position of a document's first token
} TokenRows;

// The position of token n of all B T.
HD static inline int token_position(int first, const int32_t *starts, int T, int n) {
    return first + n % T - (starts ? starts[n] : 0);
}

// Of a linear layer on N tokens: C features in, OC out.
typedef struct {
    int N, C, OC;
} LinearShape;

// YaRN's pair of dimensions that makes so many turns over the original positions (Peng et al. 2023, arXiv:2309.00071).
static inline double rope_yarn_pair(const Config *c, double turns) {
    return c->head_size * log(c->rope_original / (turns * 2 * acos(-1.0))) / (2 * log(c->rope_theta));
}

// What pair i of a head turns by from one position to the next: theta^(-2i/HS) (Su et al. 2021, arXiv:2104.09864), or,
// scaled, a mixture of that and of its part by the factor, as Transformers' modeling_rope_utils mixes them. Dynamic
// scaling (NTK) has theta (factor T / max_seq_len - factor + 1)^(HS / (HS - 2)) for texts of T > max_seq_len tokens: up
// to there it is plain, and no model is longer here.
static inline double rope_frequency(const Config *c, int i) {
    double plain = pow(c->rope_theta, -2.0 * i / c->head_size), slower = plain / c->rope_factor, share = 0; // of plain
    if (c->rope_scaling == ROPE_PLAIN || c->rope_scaling == ROPE_DYNAMIC) return plain;
    if (c->rope_scaling == ROPE_LLAMA3) {
        double turns = c->rope_original * plain / (2 * acos(-1.0));
        share = (turns - c->rope_slow) / (c->rope_fast - c->rope_slow);
    } else if (c->rope_scaling == ROPE_YARN) {
        double first = rope_yarn_pair(c, c->rope_fast), last = rope_yarn_pair(c, c->rope_slow);
        if (!c->rope_between) first = floor(first), last = ceil(last);
        first = fmax(first, 0), last = fmin(last, c->head_size - 1);
        if (first == last) last += 0.001;
        share = 1 - (i - first) / (last - first);
    }
    share = fmin(fmax(share, 0), 1);
    return share * plain + (1 - share) * slower;
}

// YaRN's factor of queries and keys where nothing else is said.
static inline double rope_yarn_attention(double factor) { return factor > 1 ? 0.1 * log(factor) + 1 : 1; }

// rope (T + 1, HS/2, 2): cos and sin of position * frequency, times YaRN's factor; the last row turns nothing, and is
// that of layers without rotary positions.
static inline void rope_table(double *rope, int T, const Config *c) {
    double size = c->rope_scaling == ROPE_YARN ? c->rope_attention : 1;
    for (int i = 0; i < c->head_size / 2; i++) {
        double frequency = rope_frequency(c, i), *at = rope + 2 * i;
        for (int t = 0; t < T; t++, at += c->head_size)
            at[0] = size * cos(t * frequency), at[1] = size * sin(t * frequency);
        at[0] = 1, at[1] = 0;
    }
}

// Where in a table of T positions a layer's first row stands, in numbers.
static inline size_t rope_first(const Config *c, int layer, int T) {
    return config_rotates(c, layer) ? 0 : (size_t)T * (size_t)c->head_size;
}

// How many numbers further the row of the next position is.
static inline int rope_step(const Config *c, int layer) { return config_rotates(c, layer) ? c->head_size : 0; }

// ---------------------------------------------------------------- presets

// X(size, family, L, C, NH, NKV, HS, F, V, T, tied head). V is used where no tokenizer is given. Sources of the
// shapes: gpt2 124M-1.5B Radford et al. 2019; 350M and 7B (6.7B) Brown et al. 2020, table 2.1. llama and
// qwen3 have the depth and width of gpt2 up to 774M, and F between 8/3 C and 3 C: a gated MLP has three
// matrices where gpt2 has two, and F = 8/3 C gives it as many weights. 1.5B has the depth, width and heads of
// published models of that size, 7B those of Llama 3 8B (Dubey et al. 2024). smollm3-3B has the shape of SmolLM3-3B.
// clang-format off
#define PRESETS(X)                                                                                                     \
    X("nano", FAMILY_GPT2, 2, 64, 4, 4, 16, 256, 512, 256, 1)                                                          \
    X("nano", FAMILY_LLAMA, 2, 64, 4, 2, 16, 176, 512, 256, 1)                                                         \
    X("nano", FAMILY_QWEN3, 2, 64, 4, 2, 16, 176, 512, 256, 1)                                                         \
    X("3M", FAMILY_GPT2, 4, 192, 3, 3, 64, 768, 8192, 1024, 1)                                                         \
    X("3M", FAMILY_LLAMA, 4, 192, 3, 1, 64, 576, 8192, 1024, 1)                                                        \
    X("3M", FAMILY_QWEN3, 4, 192, 3, 1, 64, 576, 8192, 1024, 1)                                                        \
    X("5M", FAMILY_GPT2, 4, 256, 4, 4, 64, 1024, 8192, 1024, 1)                                                        \
    X("5M", FAMILY_LLAMA, 4, 256, 4, 2, 64, 768, 8192, 1024, 1)                                                        \
    X("5M", FAMILY_QWEN3, 4, 256, 4, 2, 64, 768, 8192, 1024, 1)                                                        \
    X("30M", FAMILY_GPT2, 6, 512, 8, 8, 64, 2048, 16384, 1024, 1)                                                      \
    X("30M", FAMILY_LLAMA, 6, 512, 8, 4, 64, 1408, 16384, 1024, 1)                                                     \
    X("30M", FAMILY_QWEN3, 6, 512, 8, 4, 64, 1408, 16384, 1024, 1)                                                     \
    X("124M", FAMILY_GPT2, 12, 768, 12, 12, 64, 3072, 50304, 1024, 1)                                                  \
    X("124M", FAMILY_LLAMA, 12, 768, 12, 4, 64, 2304, 50304, 2048, 1)                                                  \
    X("124M", FAMILY_QWEN3, 12, 768, 12, 4, 64, 2304, 50304, 2048, 1)                                                  \
    X("350M", FAMILY_GPT2, 24, 1024, 16, 16, 64, 4096, 50304, 1024, 1)                                                 \
    X("350M", FAMILY_LLAMA, 24, 1024, 16, 4, 64, 3072, 50304, 2048, 1)                                                 \
    X("350M", FAMILY_QWEN3, 24, 1024, 16, 4, 64, 3072, 50304, 2048, 1)                                                 \
    X("774M", FAMILY_GPT2, 36, 1280, 20, 20, 64, 5120, 50304, 1024, 1)                                                 \
    X("774M", FAMILY_LLAMA, 36, 1280, 20, 5, 64, 3840, 50304, 2048, 1)                                                 \
    X("774M", FAMILY_QWEN3, 36, 1280, 20, 5, 64, 3840, 50304, 2048, 1)                                                 \
    X("1.5B", FAMILY_GPT2, 48, 1600, 25, 25, 64, 6400, 50304, 1024, 1)                                                 \
    X("1.5B", FAMILY_LLAMA, 28, 2048, 16, 4, 128, 5888, 50304, 4096, 0)                                                \
    X("1.5B", FAMILY_QWEN3, 28, 2048, 16, 4, 128, 5888, 50304, 4096, 0)                                                \
    X("7B", FAMILY_GPT2, 32, 4096, 32, 32, 128, 16384, 50304, 2048, 1)                                                 \
    X("7B", FAMILY_LLAMA, 32, 4096, 32, 8, 128, 14336, 50304, 4096, 0)                                                 \
    X("7B", FAMILY_QWEN3, 32, 4096, 32, 8, 128, 14336, 50304, 4096, 0)                                                 \
    X("3B", FAMILY_SMOLLM3, 36, 2048, 16, 4, 128, 11008, 128256, 4096, 1)
// clang-format on

// The families that have presets, as family_list.
static inline Path preset_list(const char *end, const char *last) {
    bool has[FAMILY_KINDS] = {false};
    int left = 0;
#define X(size, fam, ...) left += !has[fam], has[fam] = true;
    PRESETS(X)
#undef X
    Path list = path_of("%s", "");
    for (int i = 0; i < FAMILY_KINDS; i++) {
        if (!has[i]) continue;
        list = path_of("%.2000s%s%s%s", list.text, !list.text[0] ? "" : left == 1 ? last : ", ", family_name(i), end);
        left--;
    }
    return list;
}

// "llama-124M" -> config; false if there is no such preset (the names are then in err).
static inline bool config_of_preset(Config *out, const char *name, Error *err) {
#define X(size, fam, l, c, nh, nkv, hs, f, v, t, tie)                                                                  \
    {                                                                                                                  \
        char full[64];                                                                                                 \
        snprintf(full, sizeof full, "%s-%s", family_name(fam), size);                                                  \
        if (strcasecmp(full, name) == 0) {                                                                             \
            *out = config_of_family(fam);                                                                              \
            out->layers = l, out->channels = c, out->heads = nh, out->kv_heads = nkv, out->head_size = hs;             \
            out->hidden = f, out->vocab_size = v, out->max_seq_len = t;                                                \
            out->tied = tie;                                                                                           \
            out->unrotated = layers_each(family_of(fam)->unrotated_step, l);                                           \
            return true;                                                                                               \
        }                                                                                                              \
    }
    PRESETS(X)
#undef X
    return error_set(err, "no model preset named %s; sizes: nano 3M 5M 30M 124M 350M 774M 1.5B 7B (smollm3: 3B), as %s",
                     name, preset_list("-SIZE", " or ").text);
}

// ---------------------------------------------------------------- parameters

// Where a tensor stands. The flat array is a row of segments: the embedding, one for each layer (the parameters of a
// transformer block), the head. A segment is contiguous, and the unit in which gradients are summed (reduce-scatter),
// weights gathered (all-gather) and both sharded: shards.h says which part of it a rank owns.
typedef enum { PLACE_START, PLACE_LAYER, PLACE_END } Place;

typedef enum {
    INIT_NORMAL,   // normal(0, init_std)
    INIT_RESIDUAL, // normal(0, init_std / sqrt(2 L)): writes into the residual stream (Radford et al. 2019)
    INIT_ONE,
    INIT_ZERO,
    INIT_XIELU,       // alpha_p 0.8 behind its softplus, alpha_n 0.8 behind beta and its own (Huang et al. 2024)
    INIT_XIELU_FIXED, // beta 0.5, eps -1e-6
    INIT_KAIMING      // uniform to 1 / sqrt(cols) both ways: Kaiming's with a = sqrt 5 (He et al. 2015), as PEFT has A
} Init;

// What an update rule tells apart: tables over vocabulary or positions (embeddings, the head), matrices, and vectors
// (biases, norms), which do not decay; and the two matrices of adapters.
typedef enum { GROUP_EMBEDDING, GROUP_MATRIX, GROUP_VECTOR, GROUP_LORA_A, GROUP_LORA_B, GROUPS } Group;

// X(id, rows, cols (0: a vector), place, present, init, group, trained (0: frozen, it has no gradient and no moments))
// rows, cols, present and trained are expressions of `const Config *c`; an adapter freezes all else.
// Names on disk stand in files/naming.h.
// clang-format off
#define PARAMETERS(X) \
    X(wte,      c->vocab_size,  c->channels,             PLACE_START, 1,                  INIT_NORMAL,   GROUP_EMBEDDING, !c->lora.rank) \
    X(wpe,      c->max_seq_len, c->channels,             PLACE_START, !c->rope,           INIT_NORMAL,   GROUP_EMBEDDING, !c->lora.rank) \
    X(norm1_w,  c->channels,    0,                       PLACE_LAYER, 1,                  INIT_ONE,      GROUP_VECTOR,    !c->lora.rank) \
    X(norm1_b,  c->channels,    0,                       PLACE_LAYER, !c->rms_norm,       INIT_ZERO,     GROUP_VECTOR,    !c->lora.rank) \
    X(qkv_w,    config_qkv(c),  c->channels,             PLACE_LAYER, 1,                  INIT_NORMAL,   GROUP_MATRIX,    !c->lora.rank) \
    X(qkv_b,    config_qkv(c),  0,                       PLACE_LAYER, config_qkv_bias(c), INIT_ZERO,     GROUP_VECTOR,    !c->lora.rank) \
    X(qnorm_w,  c->head_size,   0,                       PLACE_LAYER, c->qk_norm,         INIT_ONE,      GROUP_VECTOR,    !c->lora.rank) \
    X(knorm_w,  c->head_size,   0,                       PLACE_LAYER, c->qk_norm,         INIT_ONE,      GROUP_VECTOR,    !c->lora.rank) \
    X(proj_w,   c->channels,    c->heads * c->head_size, PLACE_LAYER, 1,                  INIT_RESIDUAL, GROUP_MATRIX,    !c->lora.rank) \
    X(proj_b,   c->channels,    0,                       PLACE_LAYER, c->bias,            INIT_ZERO,     GROUP_VECTOR,    !c->lora.rank) \
    X(norm2_w,  c->channels,    0,                       PLACE_LAYER, 1,                  INIT_ONE,      GROUP_VECTOR,    !c->lora.rank) \
    X(norm2_b,  c->channels,    0,                       PLACE_LAYER, !c->rms_norm,       INIT_ZERO,     GROUP_VECTOR,    !c->lora.rank) \
    X(fc_w,     config_fc(c),   c->channels,             PLACE_LAYER, 1,                  INIT_NORMAL,   GROUP_MATRIX,    !c->lora.rank) \
    X(fc_b,     config_fc(c),   0,                       PLACE_LAYER, c->bias,            INIT_ZERO,     GROUP_VECTOR,    !c->lora.rank) \
    X(xielu,       2,           0,                       PLACE_LAYER, config_xielu(c),    INIT_XIELU,       GROUP_VECTOR, !c->lora.rank) \
    X(xielu_fixed, 2,           0,                       PLACE_LAYER, config_xielu(c),    INIT_XIELU_FIXED, GROUP_VECTOR, 0) \
    X(fcproj_w, c->channels,    c->hidden,               PLACE_LAYER, 1,                  INIT_RESIDUAL, GROUP_MATRIX,    !c->lora.rank) \
    X(fcproj_b, c->channels,    0,                       PLACE_LAYER, c->bias,            INIT_ZERO,     GROUP_VECTOR,    !c->lora.rank) \
    X(normf_w,  c->channels,    0,                       PLACE_END,   1,                  INIT_ONE,      GROUP_VECTOR,    !c->lora.rank) \
    X(normf_b,  c->channels,    0,                       PLACE_END,   !c->rms_norm,       INIT_ZERO,     GROUP_VECTOR,    !c->lora.rank) \
    X(head_w,   c->vocab_size,  c->channels,             PLACE_END,   !c->tied,           INIT_NORMAL,   GROUP_EMBEDDING, !c->lora.rank) \
    X(lora_qkv_a,   c->lora.rank,               c->channels,             PLACE_LAYER, lora_has(c, LORA_qkv),   INIT_KAIMING,  GROUP_LORA_A, 1) \
    X(lora_qkv_b,   config_qkv(c),              c->lora.rank,            PLACE_LAYER, lora_has(c, LORA_qkv),   INIT_ZERO,     GROUP_LORA_B, 1) \
    X(lora_q_a,     c->lora.rank,               c->channels,             PLACE_LAYER, lora_has(c, LORA_q),     INIT_KAIMING,  GROUP_LORA_A, 1) \
    X(lora_q_b,     c->heads * c->head_size,    c->lora.rank,            PLACE_LAYER, lora_has(c, LORA_q),     INIT_ZERO,     GROUP_LORA_B, 1) \
    X(lora_k_a,     c->lora.rank,               c->channels,             PLACE_LAYER, lora_has(c, LORA_k),     INIT_KAIMING,  GROUP_LORA_A, 1) \
    X(lora_k_b,     c->kv_heads * c->head_size, c->lora.rank,            PLACE_LAYER, lora_has(c, LORA_k),     INIT_ZERO,     GROUP_LORA_B, 1) \
    X(lora_v_a,     c->lora.rank,               c->channels,             PLACE_LAYER, lora_has(c, LORA_v),     INIT_KAIMING,  GROUP_LORA_A, 1) \
    X(lora_v_b,     c->kv_heads * c->head_size, c->lora.rank,            PLACE_LAYER, lora_has(c, LORA_v),     INIT_ZERO,     GROUP_LORA_B, 1) \
    X(lora_o_a,     c->lora.rank,               c->heads * c->head_size, PLACE_LAYER, lora_has(c, LORA_o),     INIT_KAIMING,  GROUP_LORA_A, 1) \
    X(lora_o_b,     c->channels,                c->lora.rank,            PLACE_LAYER, lora_has(c, LORA_o),     INIT_ZERO,     GROUP_LORA_B, 1) \
    X(lora_gate_a,  c->lora.rank,               c->channels,             PLACE_LAYER, lora_has(c, LORA_gate),  INIT_KAIMING,  GROUP_LORA_A, 1) \
    X(lora_gate_b,  c->hidden,                  c->lora.rank,            PLACE_LAYER, lora_has(c, LORA_gate),  INIT_ZERO,     GROUP_LORA_B, 1) \
    X(lora_up_a,    c->lora.rank,               c->channels,             PLACE_LAYER, lora_has(c, LORA_up),    INIT_KAIMING,  GROUP_LORA_A, 1) \
    X(lora_up_b,    c->hidden,                  c->lora.rank,            PLACE_LAYER, lora_has(c, LORA_up),    INIT_ZERO,     GROUP_LORA_B, 1) \
    X(lora_down_a,  c->lora.rank,               c->hidden,               PLACE_LAYER, lora_has(c, LORA_down),  INIT_KAIMING,  GROUP_LORA_A, 1) \
    X(lora_down_b,  c->channels,                c->lora.rank,            PLACE_LAYER, lora_has(c, LORA_down),  INIT_ZERO,     GROUP_LORA_B, 1)
// clang-format on

typedef enum {
#define X(id, ...) PARAM_##id,
    PARAMETERS(X)
#undef X
        PARAM_KINDS
} ParamKind;

// One parameter tensor of one model.
typedef struct {
    char name[48];  // "wte", "layer.3.qkv_w"
    int kind;       // ParamKind
    int layer;      // -1 outside the layers
    int segment;    // 0 the embedding, 1 + layer, L + 1 the head
    int rows, cols; // (rows, cols), or (rows) where is_vector
    int is_vector, init, group;
    bool trained;
    bool coded;           // kept as codes (--base): outside the flat allocation, behind whose end its offset lies
    size_t offset, count; // in elements of the flat allocation
    size_t first;         // 0; of a piece: the element of the whole parameter that it begins with
} Param;

typedef struct {
    Param *items;
    int count;
    size_t elements;         // of the flat allocation, padding included
    size_t parameters;       // without padding
    int segments;            // L + 2
    size_t *segment_start;   // (segments + 1) offsets
    size_t *segment_trained; // (segments) offsets: where its frozen tensors begin; up to there it has gradients
    // index[kind * (layers + 1) + layer + 1] -> position in items, or -1; layer -1 outside the layers
    int *index;
    int layers;
} ParamTable;

// Every tensor starts on a multiple of 64 elements: aligned vectors in every data type, and even
// ranges for up to 64 ranks. Padding holds zeros and stays zero (its gradient is never written).
#define PARAM_ALIGN 64

// Lays the tensors out, the trained ones of a segment first. frozen: kinds that are frozen beside those of PARAMETERS.
static inline ParamTable param_table_frozen(const Config *c, const bool frozen[PARAM_KINDS]) {
    ParamTable t;
    memset(&t, 0, sizeof t);
    t.layers = c->layers;
    t.segments = c->layers + 2;
    size_t cells = (size_t)(PARAM_KINDS * (c->layers + 1)), offset = 0;
    t.items = (Param *)mem_alloc(sizeof(Param) * cells);
    t.segment_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(t.segments + 1));
    t.segment_trained = (size_t *)mem_alloc(sizeof(size_t) * (size_t)t.segments);
    t.index = (int *)mem_alloc(sizeof(int) * cells);
    for (size_t i = 0; i < cells; i++) t.index[i] = -1;
    for (int turn = 0; turn < 2 * t.segments; turn++) {
        int segment = turn / 2, last = t.segments - 1, layer = segment == last ? -1 : segment - 1;
        int wanted = segment == 0 ? PLACE_START : segment == last ? PLACE_END : PLACE_LAYER;
        bool training = turn % 2 == 0;
        if (training) t.segment_start[segment] = offset;
        else t.segment_trained[segment] = offset;
#define X(id, rows_, cols_, place_, present_, init_, group_, trained_)                                                 \
    if (place_ == wanted && (present_) && ((trained_) && !frozen[PARAM_##id]) == training) {                           \
        Param *p = &t.items[t.count];                                                                                  \
        if (layer < 0) snprintf(p->name, sizeof p->name, "%s", #id);                                                   \
        else snprintf(p->name, sizeof p->name, "layer.%d.%s", layer, #id);                                             \
        p->kind = PARAM_##id, p->layer = layer, p->segment = segment;                                                  \
        p->rows = rows_, p->is_vector = (cols_) == 0, p->cols = p->is_vector ? 1 : (cols_);                            \
        p->init = init_, p->group = group_, p->trained = training;                                                     \
        p->offset = offset, p->count = (size_t)p->rows * (size_t)p->cols;                                              \
        t.parameters += p->count;                                                                                      \
        offset += (p->count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;                                            \
        t.index[PARAM_##id * (t.layers + 1) + layer + 1] = t.count++;                                                  \
    }
        PARAMETERS(X)
#undef X
    }
    t.segment_start[t.segments] = t.elements = offset;
    return t;
}

static inline ParamTable param_table(const Config *c) {
    static const bool none[PARAM_KINDS] = {false};
    return param_table_frozen(c, none);
}

static inline void param_table_free(ParamTable *t) {
    free(t->items);
    free(t->segment_start);
    free(t->segment_trained);
    free(t->index);
    memset(t, 0, sizeof *t);
}

// The tensor of a kind; layer -1 outside the layers. NULL where this config has none.
static inline const Param *param_find(const ParamTable *t, int kind, int layer) {
    int i = t->index[kind * (t->layers + 1) + layer + 1];
    return i < 0 ? NULL : &t->items[i];
}

// Elements of the flat allocation: from `first` on, `count` of them.
typedef struct {
    size_t first, count;
} Range;

// The elements of a parameter that lie in a range; count 0 if there are none.
static inline Range overlap(const Param *p, Range r) {
    size_t first = p->offset > r.first ? p->offset : r.first;
    size_t end = p->offset + p->count < r.first + r.count ? p->offset + p->count : r.first + r.count;
    Range both = {first, end > first ? end - first : 0};
    return both;
}

// Elements [first, first + count) of a parameter, for model_set and model_get: large ones need not be held whole.
static inline Param param_piece(const Param *p, size_t first, size_t count) {
    Param piece = *p;
    piece.offset += first;
    piece.first += first;
    piece.count = count;
    return piece;
}

// Initial values of elements [first, first + n) of a tensor, keyed by seed and name: any rank and any
// device gets the same bits. first must be a multiple of 4.
static inline void param_init(float *out, const Param *p, const Config *c, uint64_t seed, size_t first, size_t n) {
    if (p->init == INIT_ONE || p->init == INIT_ZERO) {
        for (size_t i = 0; i < n; i++) out[i] = p->init == INIT_ONE ? 1.0f : 0.0f;
        return;
    }
    if (p->init == INIT_XIELU || p->init == INIT_XIELU_FIXED) {
        const double learned[] = {log(expm1(0.8)), log(expm1(0.8 - 0.5))}, fixed[] = {0.5, -1e-6};
        for (size_t i = 0; i < n; i++) out[i] = (float)(p->init == INIT_XIELU ? learned : fixed)[first + i];
        return;
    }
    double std = p->init == INIT_RESIDUAL ? c->init_std / sqrt(2.0 * c->layers) : c->init_std;
    RngStream s = rng_stream(seed, p->name);
    if (p->init == INIT_KAIMING) {
        double bound = 1 / sqrt((double)p->cols);
        for (size_t i = 0; i < n; i++) {
            Philox draw = rng_draw(s, (first + i) / 4);
            out[i] = (float)(bound * (2 * (double)rng_uniform_bits(draw.x[(first + i) % 4]) - 1));
        }
        return;
    }
    for (size_t i = 0; i < n; i += 4) {
        float four[4];
        rng_normal4(s, (first + i) / 4, four);
        for (size_t j = 0; j < 4 && i + j < n; j++) out[i + j] = (float)(std * (double)four[j]);
    }
}

// ---------------------------------------------------------------- optimizer

// The optimizer's state. X(id); on disk the id stands before the parameter's name. moment1: a number for every trained
// parameter. moment2: likewise, but of the matrices that Muon moves there is none, and NorMuon has one for each row.
#define OPTIMIZER_STATE(X) X(moment1) X(moment2)

typedef enum {
#define X(id) STATE_##id,
    OPTIMIZER_STATE(X)
#undef X
        STATE_KINDS
} StateKind;

static inline const char *state_name(int kind) {
    static const char *const names[] = {
#define X(id) #id,
        OPTIMIZER_STATE(X)
#undef X
    };
    return names[kind];
}

// Which rule moves the matrices inside blocks; embeddings, head and vectors have AdamW with all of them.
#define OPTIMIZERS(X) X(OPTIMIZER_ADAMW, "adamw") X(OPTIMIZER_MUON, "muon") X(OPTIMIZER_NORMUON, "normuon")
typedef enum { OPTIMIZERS(CHOICE_ENUM) } Optimizer;

// Does the optimizer treat this parameter as matrices (muon.h)?
static inline bool param_is_muon(const Param *p, int optimizer) {
    return optimizer != OPTIMIZER_ADAMW && p->group == GROUP_MATRIX;
}

// The table of a row of OPTIMIZER_STATE: the items of `weights`, in the same order, in the shape that their state has;
// count 0: they have none. Laid out like that table, or, where shapes differ, closer.
static inline ParamTable param_table_state(const ParamTable *weights, int optimizer, int kind) {
    ParamTable t = *weights;
    size_t cells = (size_t)(PARAM_KINDS * (t.layers + 1)), offset = 0;
    t.items = (Param *)mem_alloc(sizeof(Param) * cells);
    t.index = (int *)mem_alloc(sizeof(int) * cells);
    t.segment_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(t.segments + 1));
    t.segment_trained = (size_t *)mem_alloc(sizeof(size_t) * (size_t)t.segments);
    memcpy(t.items, weights->items, sizeof(Param) * (size_t)t.count);
    memcpy(t.index, weights->index, sizeof(int) * cells);
    memcpy(t.segment_start, weights->segment_start, sizeof(size_t) * (size_t)(t.segments + 1));
    memcpy(t.segment_trained, weights->segment_trained, sizeof(size_t) * (size_t)t.segments);
    if (optimizer == OPTIMIZER_ADAMW || kind != STATE_moment2) return t;
    t.parameters = 0;
    for (int i = 0, segment = -1; i <= t.count; i++) {
        for (; segment < (i < t.count ? t.items[i].segment : t.segments - 1); segment++)
            t.segment_start[segment + 1] = t.segment_trained[segment + 1] = offset;
        if (i == t.count) break;
        Param *p = &t.items[i];
        if (param_is_muon(p, optimizer)) {
            p->is_vector = 1, p->cols = 1;
            p->count = optimizer == OPTIMIZER_NORMUON ? (size_t)p->rows : 0;
        }
        p->offset = offset;
        offset += (p->count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
        if (p->trained) t.segment_trained[segment] = offset;
        t.parameters += p->count;
    }
    t.segment_start[t.segments] = t.elements = offset;
    return t;
}

// AdamW (Loshchilov and Hutter 2019), for the parameters of one group.
typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
} GroupRule;

// How far a Muon update goes, as a factor of the learning rate. RMS: 0.2 sqrt(max(rows, cols)), the size of AdamW's
// updates, whose learning rate and decay carry over (Liu et al. 2025, arXiv:2502.16982). ORIGINAL: sqrt(max(1, rows /
// cols)) (Jordan et al. 2024), with learning rates of about 0.02.
#define MUON_SCALES(X) X(MUON_SCALE_RMS, "rms") X(MUON_SCALE_ORIGINAL, "original")
typedef enum { MUON_SCALES(CHOICE_ENUM) } MuonScale;

// The polynomials of the Newton-Schulz iteration. JORDAN: one for all steps, which lifts small singular values fast and
// leaves all between 0.7 and 1.2. POLAR: the best one for each step (Amsel et al. 2025, arXiv:2505.16932).
#define MUON_POLYNOMIALS(X) X(MUON_JORDAN, "jordan") X(MUON_POLAR, "polar")
typedef enum { MUON_POLYNOMIALS(CHOICE_ENUM) } MuonPolynomials;

// What does not change from step to step; all zero: AdamW.
typedef struct {
    int optimizer; // Optimizer
    int scale;     // MuonScale
    int polynomials, steps;
    double momentum, beta2; // beta2: of NorMuon's rows
    bool nesterov, cautious;
} MuonRule;

#define MUON_EPS 1e-7

// a, b, c of a step: X = a X + b A X + c A A X, A = X X^T.
static inline const double *muon_coefficients(const MuonRule *rule, int step) {
    static const double jordan[3] = {3.4445, -4.7750, 2.0315};
    static const double polar[5][3] = {{8.156554524902461, -22.48329292557795, 15.878769915207462},
                                       {4.042929935166739, -2.808917465908714, 0.5000178451051316},
                                       {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
                                       {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
                                       {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}};
    return rule->polynomials == MUON_JORDAN ? jordan : polar[step < 4 ? step : 4];
}

// What X is multiplied by before the first step; norm: Frobenius. Polar Express wants a margin below 1.
HD static inline double muon_start(const MuonRule *rule, double norm) {
    return 1 / (rule->polynomials == MUON_JORDAN ? fmax(norm, MUON_EPS) : 1.01 * norm + 1e-6);
}

static inline double muon_scale(const MuonRule *rule, int rows, int cols) {
    if (rule->scale == MUON_SCALE_RMS) return 0.2 * sqrt(rows > cols ? rows : cols);
    return rows > cols ? sqrt((double)rows / cols) : 1;
}

// The rows of a parameter where one of its matrices begins, and where the last ends: queries, keys, values; gate, up.
// Returns how many there are.
static inline int param_matrices(int starts[4], const Param *p, const Config *c) {
    int n = 0;
    starts[n++] = 0;
    if (p->kind == PARAM_qkv_w) starts[n++] = c->heads * c->head_size;
    if (p->kind == PARAM_qkv_w) starts[n++] = (c->heads + c->kv_heads) * c->head_size;
    if (p->kind == PARAM_fc_w && c->gated) starts[n++] = c->hidden;
    starts[n] = p->rows;
    return n;
}

// FLOPs of a step of the iteration on one matrix, symmetric products counted half: m^2 n + m^3 + 2 m^2 n, m the
// smaller.
static inline double muon_flops(int rows, int cols) {
    double m = rows < cols ? rows : cols, n = rows < cols ? cols : rows;
    return 3 * m * m * n + m * m * m;
}

// Numbers of scratch memory of an update: 2 (rows, cols) and `squares` (m, m), m the smaller, each in whole
// PARAM_ALIGN.
static inline size_t muon_scratch(int rows, int cols, int squares) {
    size_t m = (size_t)(rows < cols ? rows : cols), n = (size_t)rows * (size_t)cols, pad = PARAM_ALIGN;
    return 2 * ((n + pad - 1) / pad * pad) + (size_t)squares * ((m * m + pad - 1) / pad * pad);
}

enum { GPU_MUON_SQUARES = 2 }; // of it, in train_gpt

// FLOPs of an update of a parameter by Muon.
static inline double param_muon_flops(const Param *p, const Config *c, const MuonRule *rule) {
    int starts[4], n = param_is_muon(p, rule->optimizer) && p->trained ? param_matrices(starts, p, c) : 0;
    double flops = 0;
    for (int i = 0; i < n; i++) flops += rule->steps * muon_flops(starts[i + 1] - starts[i], p->cols);
    return flops;
}

// One update, behind global-norm clipping (Pascanu et al. 2013).
typedef struct {
    GroupRule group[GROUPS];   // Muon reads lr and weight_decay of GROUP_MATRIX
    int64_t step;              // 1, 2, ...: for the bias correction
    double grad_clip;          // 0: none
    double max_loss, max_norm; // the update is refused if UpdateResult's loss or norm is above; 0: no bound
} UpdateRule;

// AdamW, the same for all groups, but that vectors do not decay.
static inline UpdateRule update_rule(int64_t step, GroupRule all, double grad_clip) {
    UpdateRule rule;
    memset(&rule, 0, sizeof rule);
    for (int g = 0; g < GROUPS; g++) rule.group[g] = all;
    rule.group[GROUP_VECTOR].weight_decay = 0;
    rule.step = step, rule.grad_clip = grad_clip;
    return rule;
}

// ---------------------------------------------------------------- activations

// How long an intermediate tensor lives. All layers share one slot of what is not kept; the backward pass computes it
// again (activation checkpointing, Chen et al. 2016, arXiv:1604.06174). --recompute chooses where the line is drawn.
typedef enum {
    LIFE_KEPT,  // always kept: the residual stream between blocks
    LIFE_BLOCK, // recomputed under --recompute=block (the whole block runs forward again)
    LIFE_CHEAP  // recomputed under --recompute=cheap and block: no matmul is needed to get it back
} Lifetime;

// AUTO is for who asks, and becomes one of the others before a model is made.
#define RECOMPUTES(X)                                                                                                  \
    X(RECOMPUTE_NONE, "none") X(RECOMPUTE_CHEAP, "cheap") X(RECOMPUTE_BLOCK, "block") X(RECOMPUTE_AUTO, "auto")
typedef enum { RECOMPUTES(CHOICE_ENUM) } Recompute;

// What computes the matrix products of train_gpt_cpu. MATRIX: the CPU's matrix unit, for bf16; EMULATED: products with
// the bits of AMX on any CPU, slowly; AUTO: the fastest that there is.
#define KERNELS(X)                                                                                                     \
    X(KERNELS_AUTO, "auto") X(KERNELS_VECTOR, "vector") X(KERNELS_MATRIX, "matrix") X(KERNELS_EMULATED, "emulated")
typedef enum { KERNELS(CHOICE_ENUM) } Kernels;

// REAL: the numbers of the program's matrices; STATISTIC: float in every CUDA build. On the CPU both are `real`.
typedef enum { TYPE_REAL, TYPE_STATISTIC } ActType;

// X(id, width a token, per_head_first, place, present, lifetime, type)
// Shape (B, T, width), or (B, width, T) where per_head_first, or (B, T) where width is 1.
// clang-format off
#define ACTIVATIONS(X)                                                                                      \
    X(embedding,     c->channels,                               0, PLACE_START, 1,            LIFE_KEPT,  TYPE_REAL)      \
    X(norm1,         c->channels,                               0, PLACE_LAYER, 1,            LIFE_CHEAP, TYPE_REAL)      \
    X(norm1_mean,    1,                                         0, PLACE_LAYER, !c->rms_norm, LIFE_BLOCK, TYPE_STATISTIC) \
    X(norm1_rstd,    1,                                         0, PLACE_LAYER, 1,            LIFE_BLOCK, TYPE_STATISTIC) \
    X(qkv,           config_qkv(c),                             0, PLACE_LAYER, 1,            LIFE_BLOCK, TYPE_REAL)      \
    X(qk,            (c->heads + c->kv_heads) * c->head_size,   0, PLACE_LAYER, c->rope,      LIFE_CHEAP, TYPE_REAL)      \
    X(qk_rstd,       c->heads + c->kv_heads,                    0, PLACE_LAYER, c->qk_norm,   LIFE_BLOCK, TYPE_STATISTIC) \
    X(attention,     c->heads * c->head_size,                   0, PLACE_LAYER, 1,            LIFE_BLOCK, TYPE_REAL)      \
    X(attention_lse, c->heads,                                  1, PLACE_LAYER, 1,            LIFE_BLOCK, TYPE_STATISTIC) \
    X(residual1,     c->channels,                               0, PLACE_LAYER, 1,            LIFE_BLOCK, TYPE_REAL)      \
    X(norm2,         c->channels,                               0, PLACE_LAYER, 1,            LIFE_CHEAP, TYPE_REAL)      \
    X(norm2_mean,    1,                                         0, PLACE_LAYER, !c->rms_norm, LIFE_BLOCK, TYPE_STATISTIC) \
    X(norm2_rstd,    1,                                         0, PLACE_LAYER, 1,            LIFE_BLOCK, TYPE_STATISTIC) \
    X(fc,            config_fc(c),                              0, PLACE_LAYER, 1,            LIFE_BLOCK, TYPE_REAL)      \
    X(mlp,           c->hidden,                                 0, PLACE_LAYER, 1,            LIFE_CHEAP, TYPE_REAL)      \
    X(residual2,     c->channels,                               0, PLACE_LAYER, 1,            LIFE_KEPT,  TYPE_REAL)      \
    X(lora_qkv, c->lora.rank, 0, PLACE_LAYER, lora_has(c, LORA_qkv), LIFE_BLOCK, TYPE_REAL) \
    X(lora_q, c->lora.rank, 0, PLACE_LAYER, lora_has(c, LORA_q), LIFE_BLOCK, TYPE_REAL) \
    X(lora_k, c->lora.rank, 0, PLACE_LAYER, lora_has(c, LORA_k), LIFE_BLOCK, TYPE_REAL) \
    X(lora_v, c->lora.rank, 0, PLACE_LAYER, lora_has(c, LORA_v), LIFE_BLOCK, TYPE_REAL) \
    X(lora_o, c->lora.rank, 0, PLACE_LAYER, lora_has(c, LORA_o), LIFE_BLOCK, TYPE_REAL) \
    X(lora_gate, c->lora.rank, 0, PLACE_LAYER, lora_has(c, LORA_gate), LIFE_BLOCK, TYPE_REAL) \
    X(lora_up, c->lora.rank, 0, PLACE_LAYER, lora_has(c, LORA_up), LIFE_BLOCK, TYPE_REAL) \
    X(lora_down, c->lora.rank, 0, PLACE_LAYER, lora_has(c, LORA_down), LIFE_BLOCK, TYPE_REAL) \
    X(lora_x, lora_width(c), 0, PLACE_START, c->lora.rank && c->lora.dropout > 0, LIFE_KEPT, TYPE_REAL) \
    X(normf,         c->channels,                               0, PLACE_END,   1,            LIFE_KEPT,  TYPE_REAL)      \
    X(normf_mean,    1,                                         0, PLACE_END,   !c->rms_norm, LIFE_KEPT,  TYPE_STATISTIC) \
    X(normf_rstd,    1,                                         0, PLACE_END,   1,            LIFE_KEPT,  TYPE_STATISTIC) \
    X(losses,        1,                                         0, PLACE_END,   1,            LIFE_KEPT,  TYPE_STATISTIC)

// The backward pass: whose gradients it makes, in the order of computation, in which step each is written and in which
// it is last read. Steps count down: 11 the head, 10 the last norm, 9 to 1 those of block_backward, 0 the embedding.
// Shape and type are the activation's. The gradients of the residual stream are one tensor, to which every block adds
// on its way down. X(id, written, last read, in place of)
#define BACKWARD(X)               \
    X(normf,     11, 10, normf)     \
    X(residual2, 10, 0,  residual2) \
    X(lora_down, 9,  9,  lora_down) \
    X(mlp,       9,  8,  mlp)       \
    X(fc,        8,  7,  fc)        \
    X(lora_up,   7,  7,  lora_up)   \
    X(lora_gate, 7,  7,  lora_gate) \
    X(norm2,     7,  6,  norm2)     \
    X(residual1, 6,  0,  residual2) \
    X(lora_o,    5,  5,  lora_o)    \
    X(attention, 5,  4,  attention) \
    X(qk,        4,  3,  qk)        \
    X(qkv,       4,  2,  qkv)       \
    X(lora_v,    2,  2,  lora_v)    \
    X(lora_k,    2,  2,  lora_k)    \
    X(lora_q,    2,  2,  lora_q)    \
    X(lora_qkv,  2,  2,  lora_qkv)  \
    X(norm1,     2,  1,  norm1)     \
    X(embedding, 1,  0,  residual2)
// clang-format on

typedef enum {
#define X(id, ...) ACT_##id,
    ACTIVATIONS(X)
#undef X
        ACT_KINDS
} ActKind;

typedef struct {
    const char *name;
    int width, per_head_first, place, present, type;
    int slots;     // 1 or L: how many layers have a slot of their own
    size_t offset; // of slot 0, in bytes; slot l follows at offset + l * stride
    size_t stride; // bytes
} Act;

typedef struct {
    Act items[ACT_KINDS];
    size_t bytes; // of them all
} ActTable;

// Lays out the activations of a (B, T) batch under a recompute policy. real_bytes, statistic_bytes: of a number of
// either type.
static inline ActTable act_table(const Config *c, int B, int T, int recompute, size_t real_bytes,
                                 size_t statistic_bytes) {
    ActTable t;
    memset(&t, 0, sizeof t);
#define X(id, width_, per_head_, place_, present_, lifetime_, type_)                                                   \
    {                                                                                                                  \
        Act *a = &t.items[ACT_##id];                                                                                   \
        int shared = (lifetime_ == LIFE_CHEAP && recompute >= RECOMPUTE_CHEAP) ||                                      \
                     (lifetime_ == LIFE_BLOCK && recompute >= RECOMPUTE_BLOCK);                                        \
        size_t numbers = (size_t)B * (size_t)T * (size_t)(width_);                                                     \
        a->name = #id, a->width = width_, a->per_head_first = per_head_, a->place = place_, a->type = type_;           \
        a->present = (present_) != 0;                                                                                  \
        a->slots = place_ == PLACE_LAYER && !shared ? c->layers : 1;                                                   \
        a->offset = t.bytes;                                                                                           \
        a->stride = (numbers + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN *                                          \
                    (type_ == TYPE_REAL ? real_bytes : statistic_bytes);                                               \
        if (a->present) t.bytes += a->stride * (size_t)a->slots;                                                       \
    }
    ACTIVATIONS(X)
#undef X
    return t;
}

// A row of BACKWARD.
typedef struct {
    int kind, written, read, in_place_of;
} BackwardRow;

static inline const BackwardRow *backward_rows(int *count) {
    static const BackwardRow rows[] = {
#define X(id, written, read, in_place_of) {ACT_##id, written, read, ACT_##in_place_of},
        BACKWARD(X)
#undef X
    };
    *count = (int)(sizeof rows / sizeof rows[0]);
    return rows;
}

// Lays out the activations' gradients. Those that do not live at the same time share memory (liveness); with `keep`
// (dump) each has a place of its own, in every layer. Of ACT_KINDS those of BACKWARD are present.
static inline ActTable backward_table(const Config *c, int B, int T, bool keep, size_t real_bytes) {
    ActTable t = act_table(c, B, T, keep ? RECOMPUTE_NONE : RECOMPUTE_BLOCK, real_bytes, real_bytes);
    int count;
    const BackwardRow *rows = backward_rows(&count);
    int there[ACT_KINDS] = {0};
    t.bytes = 0;
    for (int i = 0; i < count; i++) {
        Act *a = &t.items[rows[i].kind];
        if (!a->present) continue;
        there[rows[i].kind] = 1;
        if (!keep) a->slots = 1;
        a->offset = keep ? t.bytes : 0;
        // First fit: the lowest place at which nothing lies that is alive at the same time.
        for (int j = 0; !keep && j < i; j++) {
            const Act *b = &t.items[rows[j].kind];
            if (rows[i].in_place_of == rows[j].kind) {
                a->offset = b->offset;
                break;
            }
            bool apart = rows[i].written < rows[j].read || rows[j].written < rows[i].read;
            if (!there[rows[j].kind] || apart) continue;
            if (a->offset >= b->offset + b->stride || b->offset >= a->offset + a->stride) continue;
            a->offset = b->offset + b->stride;
            j = -1; // from the beginning: what was passed may lie here
        }
        size_t end = a->offset + a->stride * (size_t)a->slots;
        if (end > t.bytes) t.bytes = end;
    }
    for (int k = 0; k < ACT_KINDS; k++) t.items[k].present = there[k];
    return t;
}

// Where a tensor of either table begins for a layer (0 outside the layers), in bytes.
static inline size_t act_offset(const ActTable *t, int kind, int layer) {
    const Act *a = &t->items[kind];
    return a->offset + (a->slots > 1 ? (size_t)layer * a->stride : 0);
}

// Refuses batches that the programs cannot count: tokens of a pass and their heads are ints in them, and bytes of
// activations (twice: their gradients) a size_t.
static inline bool config_check_batch(const Config *c, int64_t B, int64_t T, Error *err) {
    double tokens = (double)B * (double)T, width = 0;
    if (tokens * c->heads > INT32_MAX)
        return error_set(err,
                         "--batch_size=%lld x --seq_len=%lld x %d heads = %.0f, more than the %d that a pass can have; "
                         "take a smaller --batch_size (gradients accumulate over passes: --total_batch_tokens)",
                         (long long)B, (long long)T, c->heads, tokens * c->heads, INT32_MAX);
    ActTable one = act_table(c, 1, 1, RECOMPUTE_NONE, 1, 1);
    for (int i = 0; i < ACT_KINDS; i++) width += (double)one.items[i].width * one.items[i].slots;
    if (tokens * width < 0x1p58) return true; // of numbers of 8 bytes
    return error_set(err, "--batch_size=%lld x --seq_len=%lld: the activations of %.3g tokens are %.3g numbers",
                     (long long)B, (long long)T, tokens, tokens * width);
}

// ---------------------------------------------------------------- counting

// Parameters that take part in a matrix product for every token: all matrices but the embeddings
// that are only looked up (wpe always; wte unless the head is tied to it).
static inline double config_matmul_parameters(const Config *c) {
    ParamTable t = param_table(c);
    double n = 0;
    for (int i = 0; i < t.count; i++) {
        const Param *p = &t.items[i];
        if (p->is_vector || p->kind == PARAM_wpe || (p->kind == PARAM_wte && !c->tied)) continue;
        n += (double)p->count;
    }
    param_table_free(&t);
    return n;
}

#define FLOPS_FORMULA                                                                                                  \
    "6 x matmul parameters + 6 x layers x heads x head size x T (attention counted causally), a token of training"

// Frozen matrices have no gradient, which is a third of the work on them.
#define FLOPS_FORMULA_FROZEN "less 2 x frozen matmul parameters, " FLOPS_FORMULA

static inline const char *flops_formula(const Config *c) { return c->lora.rank ? FLOPS_FORMULA_FROZEN : FLOPS_FORMULA; }

// Model FLOPs of one token in training (forward + backward) at sequence length T, by flops_formula: a
// multiply-add is 2, backward is twice forward, and a causal score matrix is half full, so that QK^T
// and PV together cost 2 T NH HS a token forward. Of a window's matrix W of T columns are full, but for a triangle.
static inline double config_flops_per_token(const Config *c, int T) {
    Config base = config_base(c);
    double frozen = c->lora.rank ? config_matmul_parameters(&base) : 0;
    double flops = 6.0 * config_matmul_parameters(c) - 2.0 * frozen;
    for (int l = 0; l < c->layers; l++) {
        double W = config_window(c, l), seen = W > 0 && W < T ? 2 * W - W * W / T : T;
        flops += 6.0 * c->heads * c->head_size * seen;
    }
    return flops;
}

#endif
