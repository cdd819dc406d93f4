/*
huggingface.h: model folders as Hugging Face Transformers writes and reads them.

Defines
  folder_read_config, folder_write_config    config.json <-> Config
  disk_declare, disk_write                   parameters (or gradients, moments) -> a safetensors file
  folder_load_weights                        model.safetensors (one file or several) -> the model

A config that would compute something else than this program does is refused, naming the field. The
fields and their defaults are those of GPT2Config, LlamaConfig, Qwen3Config, Qwen2Config, MistralConfig, SmolLM3Config
and ApertusConfig; files of Transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters) are both read. Tensor
names may lack the leading "transformer." or "model.", as in folders that the bare models were saved to.
*/
#ifndef LLMC_HUGGINGFACE_H
#define LLMC_HUGGINGFACE_H

#include "../engine.h"
#include "../base/json.h"
#include "../text/tokenizer_folder.h"
#include "naming.h"
#include "safetensors.h"

// ---------------------------------------------------------------- config.json

static inline bool folder_refuse(Error *err, const char *field, const char *found, const char *supported) {
    return error_set(err, "\"%s\" is %s; this program supports %s", field, found, supported);
}

// True if a name is one of those that are separated by '|'.
static inline bool key_among(const char *keys, const char *name) {
    size_t n = strlen(name);
    for (const char *key = keys; *key; key += *key == '|') {
        size_t length = strcspn(key, "|");
        if (length == n && memcmp(key, name, n) == 0) return true;
        key += length;
    }
    return false;
}

// What a field is where config.json does not say: the default of the family's class, which may follow from other
// fields.
static inline double folder_default(const Config *c, int kind) {
    if (kind == CONFIG_kv_heads && !c->kv_heads) return c->heads;
    if (kind == CONFIG_head_size && !c->head_size) return c->channels / c->heads;
    if (kind == CONFIG_hidden && !c->hidden) return 4 * c->channels;
    return config_value(c, kind);
}

// Reads a number of the config from one key.
static inline bool folder_read_number(double *value, const ConfigField *f, const Json *root, const char *key,
                                      Error *err) {
    int64_t whole = 0;
    bool on = *value != 0, there = json_present(root, key) != NULL;
    if (f->type == FIELD_REAL) {
        if (!json_want_number(value, root, key, err)) return false;
        if (!there || f->least >= f->most || (*value > f->least && *value < f->most)) return true;
        Path bounds = path_of("a number above %g and below %g", f->least, f->most);
        return json_unwanted(err, json_get(root, key), key, bounds.text);
    }
    if (f->type == FIELD_SWITCH) {
        if (!json_want_bool(&on, root, key, err)) return false;
        *value = on;
        return true;
    }
    if (!json_want_integer(&whole, root, key, (int64_t)f->least, (int64_t)f->most, err)) return false;
    if (there) *value = (double)whole;
    return true;
}

static inline bool folder_read_activation(Config *c, const Json *root, const char *key, Error *err) {
    Path own = name_part(activation_names(c->activation), 0);
    const char *found = own.text;
    if (!json_want_string(&found, root, key, err)) return false;
    return key_among(activation_names(c->activation), found) || folder_refuse(err, key, found, own.text);
}

static inline bool folder_read_field(Config *c, int kind, const Json *root, Error *err) {
    const ConfigField *f = config_field(kind);
    const Family *family = family_of(c->family);
    const char *keys = f->keys[family->keys];
    if (f->type == FIELD_LAYERS) return true; // folder_read_unrotated, folder_read_windows
    Path first = name_part(keys, 0), second = name_part(keys, 1);
    double value = folder_default(c, kind), other = value;
    // What follows from other fields may be null; Transformers refuses null elsewhere, too.
    bool follows = f->type == FIELD_SIZE && (config_value(&family->config, kind) == 0 || kind == CONFIG_kv_heads);
    for (int i = 0; i < 2 && !follows; i++) {
        const Json *j = json_get(root, i ? second.text : first.text);
        if (json_is(j, JSON_NULL))
            return json_unwanted(err, j, i ? second.text : first.text, "a value; leave it out to have the default");
    }
    if (kind == CONFIG_kv_heads && json_is(json_get(root, first.text), JSON_NULL)) value = c->heads;
    if (kind == CONFIG_activation) return folder_read_activation(c, root, first.text, err);
    // n_ctx is an older name of n_positions, which comes first.
    if (kind == CONFIG_max_seq_len && family->keys == KEYS_GPT2 && !folder_read_number(&value, f, root, "n_ctx", err))
        return false;
    if (*keys && !folder_read_number(&value, f, root, first.text, err)) return false;
    config_set(c, kind, value);
    if (!second.text[0]) return true;
    // Several keys of one field: they must agree. What the class lacks is off in it.
    if (!folder_read_number(&other, f, root, second.text, err)) return false;
    if (key_among(family->absent, second.text) && (value != 0 || other != 0))
        return folder_refuse(err, value != 0 ? first.text : second.text, "true",
                             path_of("no more biases in %s than its class has", family->class_name).text);
    return value == other || folder_refuse(err, first.text, path_of("unlike %s", second.text).text,
                                           "biases in all linear layers of a block or in none");
}

// What a field must be that changes what is computed and that Config has no place for.
typedef enum { NEUTRAL_OFF, NEUTRAL_ON, NEUTRAL_ONE } Neutral;

static inline bool json_is_neutral(const Json *j, Neutral neutral) {
    if (neutral == NEUTRAL_ON) return j->type == JSON_BOOL && j->boolean;
    if (neutral == NEUTRAL_ONE) return j->type == JSON_NUMBER && j->number == 1;
    return j->type == JSON_NUMBER ? j->number == 0 : j->type == JSON_BOOL ? !j->boolean : j->size == 0;
}

// The fields of this kind that models of Transformers have. Its classes of our families read few of them and would
// pass over the others; but who wrote them meant them, and other programs read them. keys: of which vocabulary, -1: of
// both. The second table has parts of names: num_experts, n_routed_experts, moe_layer_freq ...
static inline bool folder_read_others(const Config *c, const Json *root, Error *err) {
    int keys = family_of(c->family)->keys;
    const struct {
        int keys;
        Neutral neutral;
        const char *names, *supported;
    } rows[] = {
        {KEYS_GPT2, NEUTRAL_ON, "scale_attn_weights", "true"},
        {KEYS_GPT2, NEUTRAL_OFF, "scale_attn_by_inverse_layer_idx|reorder_and_upcast_attn", "false"},
        {-1, NEUTRAL_ONE,
         "pretraining_tp|partial_rotary_factor|rotary_pct|rope_ratio|logit_scale|logits_scaling|embedding_scale|"
         "scale_emb|residual_scale|attn_scale|route_scale",
         "1"},
        {-1, NEUTRAL_OFF,
         "add_cross_attention|is_encoder_decoder|pruned_heads|per_layer_config|"
         "use_parallel_residual|parallel_attn|qkv_bias|use_qkv_bias|use_bias|bias|"
         "attention_out_bias|clip_qkv|attention_chunk_size|attention_window|window_size|sliding_window_size|"
         "original_max_position_embeddings|sliding_window_pattern|global_attn_every_n_layers|layer_rope_theta|"
         "use_bidirectional_attention|position_embedding_type|hidden_activation|multi_query|scale_depth|"
         "dim_model_base|rotary_dim|rope_interleave|use_post_norm|norm_after|norm_type|hidden_size_per_layer_input|"
         "num_kv_shared_layers|mlp_layer_types|swiglu_limit|scale_embedding|attn_temperature_tuning|attn_config",
         "none"},
        {-1, c->qk_norm ? NEUTRAL_ON : NEUTRAL_OFF, "use_qk_norm|qk_norm|qk_layernorm",
         c->qk_norm ? "true, which its class is" : "none"},
        {-1, NEUTRAL_OFF, "quantization_config|compression_config",
         "weights of 16 or 32 bits: take the folder that this one was made from (train --lora_rank=N --base=nf4 or q8 "
         "makes codes of it in memory)"},
    };
    static const struct {
        Neutral neutral;
        const char *part;
    } parts[] = {{NEUTRAL_OFF, "expert"},    {NEUTRAL_OFF, "moe_"},    {NEUTRAL_OFF, "_moe"},
                 {NEUTRAL_OFF, "router"},    {NEUTRAL_OFF, "softcap"}, {NEUTRAL_ONE, "multiplier"},
                 {NEUTRAL_OFF, "lora_rank"}, {NEUTRAL_OFF, "alibi"},   {NEUTRAL_OFF, "mup"},
                 {NEUTRAL_OFF, "mrope"},     {NEUTRAL_OFF, "quantiz"}};
    double root_size = sqrt((double)c->head_size);
    for (const Json *j = root->child; j; j = j->next) {
        bool scale = strcmp(j->key, "attention_multiplier") == 0, length = strcmp(j->key, "query_pre_attn_scalar") == 0;
        if (j->type == JSON_NULL) continue;
        if (scale || length) { // what the scores are multiplied with; or what it is the root of
            double one = scale ? j->number * root_size : j->number / c->head_size;
            if (fabs(one - 1) < 1e-6) continue;
            return folder_refuse(err, j->key, json_shown(j).text, "scores over the root of the head size");
        }
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            if ((rows[i].keys == keys || rows[i].keys < 0) && key_among(rows[i].names, j->key) &&
                !json_is_neutral(j, rows[i].neutral))
                return folder_refuse(err, j->key, json_shown(j).text, rows[i].supported);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            if (strstr(j->key, parts[i].part) && !json_is_neutral(j, parts[i].neutral))
                return folder_refuse(err, j->key, json_shown(j).text, parts[i].neutral == NEUTRAL_ONE ? "1" : "none");
    }
    return true;
}

// Layers without rotary positions: those of a list, 0 in it and not 1, or else each so manieth.
static inline bool folder_read_unrotated(Config *c, const Json *root, Error *err) {
    static const char *const keys[] = {"no_rope_layers", "no_rope_layer_interval"};
    int64_t step = family_of(c->family)->unrotated_step, layer = 0;
    const Json *list = json_present(root, keys[0]);
    for (int i = 0; !step && i < 2; i++) {
        const Json *j = json_present(root, keys[i]);
        if (j && !json_is_neutral(j, NEUTRAL_OFF)) return folder_refuse(err, keys[i], json_shown(j).text, "none");
    }
    if (!step) return true;
    if (!json_want_integer(&step, root, keys[1], 1, 1 << 24, err)) return false;
    if (!list) {
        c->unrotated = layers_each((int)step, c->layers);
        return true;
    }
    if (list->type != JSON_ARRAY || list->size < (uint32_t)c->layers)
        return json_unwanted(err, list, keys[0], path_of("an array of %d numbers", c->layers).text);
    for (const Json *j = list->child; j && layer < c->layers; j = j->next, layer++) {
        if (j->type != JSON_NUMBER || (j->number != 0 && j->number != 1))
            return folder_refuse(err, keys[0], json_shown(j).text,
                                 "1 for a layer with rotary positions, 0 for another");
        if (j->number == 0) layers_add(&c->unrotated, (int)layer);
    }
    return true;
}

// The lines of config.json on layers without rotary positions, of a family that has them: the list, and where there is
// one the interval, which some programs read.
static inline void folder_write_unrotated(Str *s, const Config *c) {
    if (!family_of(c->family)->unrotated_step) return;
    str_puts(s, "  \"no_rope_layers\": [");
    for (int l = 0; l < c->layers; l++) str_printf(s, "%s%d", l ? ", " : "", config_rotates(c, l));
    str_puts(s, "],\n");
    for (int step = 1; step <= c->layers; step++) {
        Layers each = layers_each(step, c->layers);
        if (!layers_equal(&each, &c->unrotated)) continue;
        str_printf(s, "  \"no_rope_layer_interval\": %d,\n", step);
        break;
    }
}

// Which layers have a window, by the strings of layer_types. idle: windows change nothing.
static inline bool folder_read_layer_types(Config *c, const Json *types, bool idle, Error *err) {
    int layer = 0;
    if (types->type != JSON_ARRAY || types->size != (uint32_t)c->layers)
        return json_unwanted(err, types, "layer_types", path_of("an array of %d strings", c->layers).text);
    for (const Json *j = types->child; j; j = j->next, layer++) {
        bool slides = j->type == JSON_STRING && strcmp(j->text, "sliding_attention") == 0;
        if (!slides && (j->type != JSON_STRING || strcmp(j->text, "full_attention") != 0))
            return folder_refuse(err, "layer_types", json_shown(j).text, "\"full_attention\" or \"sliding_attention\"");
        if (slides && !c->window && !idle)
            return folder_refuse(err, "layer_types", json_shown(j).text,
                                 "\"full_attention\" in every layer of a model without a window");
        if (!slides) layers_add(&c->whole, layer);
    }
    return true;
}

// Windows of attention, as the family's class has them: mistral in every layer, of 4096 if nothing is said; qwen2,
// qwen3 and smollm3 if told so, in the layers of layer_types; without it the first two from max_window_layers on, and
// smollm3 in layers without rotary positions; the others never, and a llama that says no more than its window's length
// was not meant so. One as long as the model's positions changes nothing.
static inline bool folder_read_windows(Config *c, const Json *root, Error *err) {
    const char *fixed = family_of(c->family)->fixed;
    const bool by_rotation = family_of(c->family)->unrotated_step > 0;
    const Json *window = json_present(root, "sliding_window"), *types = json_present(root, "layer_types"),
               *use = json_present(root, "use_sliding_window");
    bool always = strstr(fixed, "\"sliding_window\"") != NULL, can = strstr(fixed, "use_sliding_window") != NULL,
         on = always;
    int64_t length = by_rotation ? 0 : 4096, from = 28;
    if (can && !json_want_bool(&on, root, "use_sliding_window", err)) return false;
    if (on && json_get(root, "sliding_window") && (!window || json_is_neutral(window, NEUTRAL_OFF))) length = 0;
    else if (on && !json_want_integer(&length, root, "sliding_window", 1, 1 << 24, err)) return false;
    if (!can && use && !json_is_neutral(use, NEUTRAL_OFF) != (always && length > 0))
        return folder_refuse(err, "use_sliding_window", json_shown(use).text,
                             always && length > 0 ? "windows, which its class has unless \"sliding_window\" is null"
                                                  : "full attention");
    if (can && !by_rotation && !json_want_integer(&from, root, "max_window_layers", 0, 1 << 24, err)) return false;
    if (!always && !can && window && !use && !json_is_neutral(window, NEUTRAL_OFF) &&
        !(window->type == JSON_NUMBER && window->number >= c->max_seq_len))
        return folder_refuse(err, "sliding_window", json_shown(window).text, "full attention");
    c->window = on && length < c->max_seq_len ? (int)length : 0;
    if (types && !folder_read_layer_types(c, types, on && length, err)) return false;
    for (int l = 0; can && !types && l < c->layers; l++)
        if (by_rotation ? config_rotates(c, l) : l < from) layers_add(&c->whole, l);
    const Layers none = layers_each(0, 0), all = layers_each(1, c->layers);
    if (always && c->window && !layers_equal(&c->whole, &none))
        return folder_refuse(err, "layer_types", "\"full_attention\" in some layers",
                             "windows in all, as its class has them");
    if (layers_equal(&c->whole, &all)) c->window = 0;
    if (!c->window) c->whole = none;
    return true;
}

// The lines of config.json on windows, where a model has them.
static inline void folder_write_windows(Str *s, const Config *c) {
    str_printf(s, "  \"sliding_window\": %d,\n", c->window);
    if (!strstr(family_of(c->family)->fixed, "use_sliding_window")) return;
    int first = 0;
    while (!config_window(c, first)) first++;
    str_puts(s, "  \"use_sliding_window\": true,\n");
    if (!family_of(c->family)->unrotated_step) str_printf(s, "  \"max_window_layers\": %d,\n", first);
    str_puts(s, "  \"layer_types\": [");
    for (int l = 0; l < c->layers; l++)
        str_printf(s, "%s\"%s\"", l ? ", " : "", config_window(c, l) ? "sliding_attention" : "full_attention");
    str_puts(s, "],\n");
}

// A size under the name that the other vocabulary has for it: Transformers takes some of these for its own (n_embd and
// hidden_size of gpt2). One that says something else is a mistake.
static inline bool folder_read_aliases(const Config *c, const Json *root, Error *err) {
    int keys = family_of(c->family)->keys;
    for (int i = 0; i < CONFIG_KINDS; i++) {
        const ConfigField *f = config_field(i);
        const char *alias = f->keys[!keys], *own = f->keys[keys];
        double value = config_value(c, i), other = value;
        if (f->type != FIELD_SIZE || strcmp(alias, own) == 0) continue;
        if (*alias && !folder_read_number(&other, f, root, alias, err)) return false;
        if (value != other)
            return error_set(err, "\"%s\" is %.0f, but the model's %s is %.0f%s%s%s", alias, other, f->words, value,
                             *own ? " (\"" : "", own, *own ? "\")" : "");
    }
    return true;
}

// The members of rope_parameters (Transformers 5) or rope_scaling (4) that say how rotary positions are scaled: which
// scalings have them, which need them, and what they are otherwise.
typedef struct {
    const char *key;
    int field, scalings, needed; // ConfigKind; bits 1 << RopeScaling
    double otherwise;            // 0: see folder_read_scaling
} RopeKey;

enum { ROPE_KEYS = 8, ROPE_BITS = 1 << ROPE_LINEAR | 1 << ROPE_YARN | 1 << ROPE_LLAMA3 | 1 << ROPE_DYNAMIC };
static const RopeKey rope_keys[ROPE_KEYS] = {
    {"factor", CONFIG_rope_factor, ROPE_BITS, ROPE_BITS, 0},
    {"original_max_position_embeddings", CONFIG_rope_original, 1 << ROPE_YARN | 1 << ROPE_LLAMA3, 1 << ROPE_LLAMA3, 0},
    {"low_freq_factor", CONFIG_rope_slow, 1 << ROPE_LLAMA3, 1 << ROPE_LLAMA3, 0},
    {"high_freq_factor", CONFIG_rope_fast, 1 << ROPE_LLAMA3, 1 << ROPE_LLAMA3, 0},
    {"beta_slow", CONFIG_rope_slow, 1 << ROPE_YARN, 0, 1},
    {"beta_fast", CONFIG_rope_fast, 1 << ROPE_YARN, 0, 32},
    {"attention_factor", CONFIG_rope_attention, 1 << ROPE_YARN, 0, 0},
    {"truncate", CONFIG_rope_between, 1 << ROPE_YARN, 0, 0}, // false: between
};

// Which scaling an object names, under rope_type or under its older name; that of nothing is ROPE_PLAIN.
static inline bool folder_read_scaling_name(int *scaling, const Json *object, const char *name, Error *err) {
    static const char *const types[] = {"rope_type", "type"};
    int found = -1;
    for (int i = 0; i < 2; i++) {
        const Json *j = json_present(object, types[i]);
        int one = -1;
        if (!j) continue;
        for (int k = 0; j->type == JSON_STRING && k < ROPE_SCALING_KINDS; k++)
            if (strcmp(j->text, rope_scaling_name(k)) == 0) one = k;
        if (one < 0 || (found >= 0 && one != found))
            return folder_refuse(err, path_of("%s.%s", name, types[i]).text, json_shown(j).text,
                                 found < 0 ? "default, linear, dynamic, yarn and llama3" : "one rope_type");
        found = one;
    }
    *scaling = found < 0 ? ROPE_PLAIN : found;
    return true;
}

// Scaling as one object says it: sets the fields of c that belong to it. Only members of its kind may stand there.
static inline bool folder_read_scaling(Config *c, const Json *object, const char *name, Error *err) {
    double sizes[2] = {0, 0}; // mscale, mscale_all_dim: the attention factor in other words
    if (!folder_read_scaling_name(&c->rope_scaling, object, name, err)) return false;
    int bit = 1 << c->rope_scaling;
    for (const Json *j = object->child; j; j = j->next) {
        bool known =
            strcmp(j->key, "rope_theta") == 0 || strcmp(j->key, "rope_type") == 0 || strcmp(j->key, "type") == 0;
        known |= strcmp(j->key, "partial_rotary_factor") == 0 && json_is_neutral(j, NEUTRAL_ONE);
        known |=
            c->rope_scaling == ROPE_YARN && (strcmp(j->key, "mscale") == 0 || strcmp(j->key, "mscale_all_dim") == 0);
        for (int i = 0; i < ROPE_KEYS; i++)
            known |= strcmp(j->key, rope_keys[i].key) == 0 && (rope_keys[i].scalings & bit);
        if (!known && j->type != JSON_NULL)
            return folder_refuse(err, path_of("%s.%.200s", name, j->key).text, json_shown(j).text,
                                 path_of("rotary positions of whole heads, scaled as rope_type \"%s\" has it",
                                         rope_scaling_name(c->rope_scaling))
                                     .text);
    }
    for (int i = 0; i < ROPE_KEYS; i++) {
        const RopeKey *k = &rope_keys[i];
        double value = k->otherwise;
        if (!(k->scalings & bit)) continue;
        if (!json_present(object, k->key) && (k->needed & bit))
            return error_set(err, "\"%s\" has no \"%s\", which rope_type \"%s\" needs", name, k->key,
                             rope_scaling_name(c->rope_scaling));
        if (k->field == CONFIG_rope_between) value = 1;
        if (k->field == CONFIG_rope_original) value = c->max_seq_len;
        if (json_present(object, k->key) && !folder_read_number(&value, config_field(k->field), object, k->key, err))
            return false;
        config_set(c, k->field, k->field == CONFIG_rope_between ? value == 0 : value);
    }
    if (c->rope_scaling != ROPE_YARN) return true;
    const ConfigField *f = config_field(CONFIG_rope_attention);
    if ((json_present(object, "mscale") && !folder_read_number(&sizes[0], f, object, "mscale", err)) ||
        (json_present(object, "mscale_all_dim") && !folder_read_number(&sizes[1], f, object, "mscale_all_dim", err)))
        return false;
    if (c->rope_attention != 0) return true;
    double longer = rope_yarn_attention(c->rope_factor) - 1;
    c->rope_attention = sizes[0] != 0 && sizes[1] != 0 ? (sizes[0] * longer + 1) / (sizes[1] * longer + 1) : longer + 1;
    return true;
}

// Rotary positions: rope_theta beside the other fields (Transformers 4) or in rope_parameters (5), scaling there or
// in rope_scaling (4). What stands twice must agree.
static inline bool folder_read_rope(Config *c, const Json *root, Error *err) {
    static const char *const objects[] = {"rope_parameters", "rope_scaling"};
    bool there = json_present(root, "rope_theta") != NULL, scaled = false, said = false;
    for (int i = 0; i < 2; i++) {
        const Json *object = json_present(root, objects[i]);
        Config one = *c;
        double theta = c->rope_theta;
        if (!object) continue;
        said = true;
        if (object->type != JSON_OBJECT) return json_unwanted(err, object, objects[i], "an object");
        config_unscale(&one);
        if (!json_unique(object, err) || !folder_read_scaling(&one, object, objects[i], err)) return false;
        if (!folder_read_number(&theta, config_field(CONFIG_rope_theta), object, "rope_theta", err)) return false;
        if (there && json_present(object, "rope_theta") && theta != c->rope_theta)
            return error_set(err, "\"rope_theta\" is %.9g, and %.9g in \"%s\"", c->rope_theta, theta, objects[i]);
        there = there || json_present(object, "rope_theta");
        const char *other = scaled ? config_difference(c, &one) : NULL;
        if (other) return error_set(err, "\"rope_parameters\" and \"rope_scaling\" say different things (%s)", other);
        scaled = scaled || object->child;
        if (object->child) *c = one;
        c->rope_theta = theta;
    }
    if (c->rope_scaling && !said && (there || json_get(root, objects[1])))
        return error_set(err,
                         "\"rope_theta\" or a \"rope_scaling\" of null without \"rope_parameters\": Transformers 4 "
                         "and 5 read that in two ways in this class; say \"rope_parameters\"");
    return true;
}

// The config in what stands in a config.json; errors name the field.
static inline bool folder_parse_config(Config *c, const Json *root, Error *err) {
    const char *type = "missing";
    if (root->type != JSON_OBJECT) return error_set(err, "expected an object, found %s", json_shown(root).text);
    if (!json_unique(root, err) || !json_want_string(&type, root, "model_type", err)) return false;
    *c = family_of(0)->config;
    for (int i = 0; i < FAMILY_KINDS; i++)
        if (strcmp(family_name(i), type) == 0) *c = family_of(i)->config;
    if (strcmp(family_name(c->family), type) != 0)
        return folder_refuse(err, "model_type", type, family_list("", " and ").text);
    const Family *family = family_of(c->family);
    bool divides = !family->config.head_size; // so this class asks for
    for (int i = 0; i < CONFIG_KINDS; i++)
        if (!folder_read_field(c, i, root, err)) return false;
    if (divides && c->channels % c->heads)
        return error_set(err, "\"%s\" %d does not divide \"%s\" %d", config_field(CONFIG_heads)->keys[family->keys],
                         c->heads, config_field(CONFIG_channels)->keys[family->keys], c->channels);
    return folder_read_aliases(c, root, err) && folder_read_unrotated(c, root, err) &&
           folder_read_windows(c, root, err) && folder_read_others(c, root, err) &&
           (!c->rope || folder_read_rope(c, root, err)) && config_check(c, err);
}

// Scaling of rotary positions as an object that is still open.
static inline void folder_write_scaling(Str *s, const Config *c, const char *name) {
    str_printf(s, "  \"%s\": {\"rope_type\": \"%s\"", name, rope_scaling_name(c->rope_scaling));
    for (int i = 0; i < ROPE_KEYS; i++) {
        const RopeKey *k = &rope_keys[i];
        if (!(k->scalings & 1 << c->rope_scaling)) continue;
        str_printf(s, ", \"%s\": ", k->key);
        if (k->field == CONFIG_rope_between) str_puts(s, c->rope_between ? "false" : "true");
        else json_add_number(s, config_value(c, k->field));
    }
}

// A field's lines of config.json.
static inline void folder_write_field(Str *s, const Config *c, int kind) {
    const ConfigField *f = config_field(kind);
    const Family *family = family_of(c->family);
    double value = f->type == FIELD_LAYERS ? 0 : config_value(c, kind);
    for (int i = 0;; i++) {
        Path key = name_part(f->keys[family->keys], i);
        if (!key.text[0]) break;
        if (key_among(family->absent, key.text)) continue;
        str_printf(s, "  \"%s\": ", key.text);
        if (f->type == FIELD_SWITCH) str_puts(s, value != 0 ? "true" : "false");
        else if (f->type == FIELD_CHOICE) str_printf(s, "\"%s\"", name_part(activation_names(c->activation), 0).text);
        else json_add_number(s, value);
        str_puts(s, ",\n");
    }
    if (kind == CONFIG_rope_theta && c->rope) { // both spellings: Transformers 4 reads the first, 5 the second
        folder_write_scaling(s, c, "rope_parameters");
        str_puts(s, ", \"rope_theta\": ");
        json_add_number(s, value);
        str_puts(s, "},\n");
        if (c->rope_scaling) {
            folder_write_scaling(s, c, "rope_scaling");
            str_puts(s, "},\n");
        } else if (family->config.rope_scaling) { // which Transformers 4 takes for granted
            str_puts(s, "  \"rope_scaling\": null,\n");
        }
    }
    if (kind == CONFIG_bias) folder_write_unrotated(s, c);
    if (kind == CONFIG_bias && c->window) folder_write_windows(s, c);
    else if (kind == CONFIG_bias) str_puts(s, family->fixed);
}

// Whether a config comes back from what config.json says of it: what cannot be written is not to be trained.
static inline bool folder_config_returns(const Config *c, Error *err) {
    Str s;
    JsonDoc doc;
    Config back;
    Error why;
    memset(&s, 0, sizeof s);
    str_printf(&s, "{\"model_type\": \"%s\",\n", family_name(c->family));
    for (int i = 0; i < CONFIG_KINDS; i++) folder_write_field(&s, c, i);
    str_puts(&s, "\"use_cache\": true}");
    const Json *root = json_parse(&doc, s.data, s.size, &why);
    bool ok = root && folder_parse_config(&back, root, &why);
    const char *field = NULL;
    for (int i = 0; ok && !field && i < CONFIG_KINDS; i++) {
        bool same = config_field(i)->type == FIELD_LAYERS ? layers_equal(config_layers(c, i), config_layers(&back, i))
                                                          : config_value(c, i) == config_value(&back, i);
        if (!same) field = config_field(i)->words;
    }
    if (root) json_free(&doc);
    free(s.data);
    if (!ok) return error_set(err, "no config.json of a %s model says it: %.800s", family_name(c->family), why.text);
    return field ? error_set(err, "no config.json of a %s model says its %s", family_name(c->family), field) : true;
}

static inline bool folder_read_config(Config *out, const char *folder, Error *err) {
    Path path = path_of("%s/config.json", folder);
    JsonDoc doc;
    Error why;
    Config c;
    const Json *root = json_load(&doc, path.text, err);
    if (!root) return false;
    bool ok = folder_parse_config(&c, root, &why) && folder_config_returns(&c, &why);
    json_free(&doc);
    if (ok) *out = c;
    return ok ? true : error_set(err, "%s: %.900s", path.text, why.text);
}

static inline void folder_write_id(Str *s, const char *key, int id) {
    str_printf(s, "  \"%s\": ", key);
    if (id < 0) str_puts(s, "null");
    else str_printf(s, "%d", id);
}

// Where a text begins and ends, as lines: the document's end first, then the other ends.
static inline void folder_write_ends(Str *s, const Tokenizer *tok) {
    int end = tok ? tok->eot : -1, bos = tok && tok->bos_named >= 0 ? tok->bos_named : end;
    folder_write_id(s, "bos_token_id", bos);
    str_puts(s, ",\n");
    if (!tok || tok->stop_count < 2) {
        folder_write_id(s, "eos_token_id", end);
        return;
    }
    str_printf(s, "  \"eos_token_id\": [%d", end);
    for (int i = 0; i < tok->stop_count; i++)
        if (tok->stops[i] != end) str_printf(s, ", %d", tok->stops[i]);
    str_puts(s, "]");
}

// In PyTorch's words.
static inline const char *folder_type_name(SafeType type) {
    return type == ST_F16 ? "float16" : type == ST_BF16 ? "bfloat16" : "float32";
}

// config.json and generation_config.json. tok: whose tokens begin and end a text, and what the folder that it comes
// from said of them; NULL: nothing is known. type: of the weights. sums: notes the files, or NULL.
static inline bool folder_write_config_as(const char *folder, const Config *c, const Tokenizer *tok, SafeType type,
                                          FileSums *sums, Error *err) {
    Str s;
    Error why;
    memset(&s, 0, sizeof s);
    if (!folder_config_returns(c, &why)) return error_set(err, "cannot write %s/config.json: %.800s", folder, why.text);
    str_printf(&s, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n", family_of(c->family)->class_name,
               family_name(c->family));
    for (int i = 0; i < CONFIG_KINDS; i++) folder_write_field(&s, c, i);
    if (tok && tok->model_ids.size) {
        str_puts(&s, tok->model_ids.data);
    } else {
        folder_write_ends(&s, tok);
        str_puts(&s, ",\n");
    }
    str_printf(&s, "  \"torch_dtype\": \"%s\",\n  \"use_cache\": true\n}\n", folder_type_name(type));
    Path path = path_of("%s/config.json", folder);
    bool ok = file_write_summed(sums, path.text, s.data, s.size, err);
    s.size = 0;
    if (!tok || !tokenizer_generation_config(&s, tok)) {
        str_puts(&s, "{\n");
        folder_write_ends(&s, tok);
        str_puts(&s, ",\n");
        folder_write_id(&s, "pad_token_id", !tok ? -1 : tok->pad >= 0 ? tok->pad : tok->eot);
        str_puts(&s, "\n}\n");
    }
    path = path_of("%s/generation_config.json", folder);
    ok = ok && file_write_summed(sums, path.text, s.data, s.size, err);
    free(s.data);
    return ok;
}

static inline bool folder_write_config(const char *folder, const Config *c, const Tokenizer *tok, FileSums *sums,
                                       Error *err) {
    return folder_write_config_as(folder, c, tok, ST_F32, sums, err);
}

// ---------------------------------------------------------------- parameters on disk

// The shape of a part on disk. Returns the number of dimensions.
static inline int disk_shape(int64_t shape[2], const DiskPart *part, const Param *p) {
    shape[0] = part->transposed ? p->cols : part->rows;
    shape[1] = part->transposed ? part->rows : p->cols;
    return part->scalar ? 0 : p->is_vector ? 1 : 2;
}

// Declares parameters number first to last - 1 of a table in a safetensors file, each name behind `prefix`.
static inline void disk_declare(SafeWriter *w, const ParamTable *t, int first, int last, const Config *c,
                                const char *prefix) {
    for (int i = first; i < last; i++) {
        const Param *p = &t->items[i];
        const NameRow *names = folder_names(p, c);
        for (int j = 0; p->count && j < disk_count(names, c); j++) {
            DiskPart part = disk_part(names, p, c, j);
            int64_t shape[2];
            int ndim = disk_shape(shape, &part, p);
            safewriter_declare(w, path_of("%s%s", prefix, part.name).text, ST_F32, ndim, shape);
        }
    }
}

// Copies (rows, cols) to (cols, rows), in tiles that fit the first cache.
static inline void disk_transpose(float *out, const float *in, int rows, int cols) {
    const int tile = 32;
    for (int r0 = 0; r0 < rows; r0 += tile)
        for (int c0 = 0; c0 < cols; c0 += tile)
            for (int r = r0; r < rows && r < r0 + tile; r++)
                for (int k = c0; k < cols && k < c0 + tile; k++)
                    out[(size_t)k * (size_t)rows + (size_t)r] = in[(size_t)r * (size_t)cols + (size_t)k];
}

#define DISK_PIECE ((size_t)1 << 22) // numbers in flight between model and disk at a time

// The most numbers in flight at a time, and of a tensor that has to be transposed whole.
static inline void disk_sizes(size_t *values, size_t *turned, const ParamTable *t, const Config *c) {
    *values = *turned = 0;
    for (int i = 0; i < t->count; i++) {
        const Param *p = &t->items[i];
        bool transposed = disk_part(folder_names(p, c), p, c, 0).transposed;
        size_t held = transposed || p->count < DISK_PIECE ? p->count : DISK_PIECE;
        if (held > *values) *values = held;
        if (transposed && p->count > *turned) *turned = p->count;
    }
}

// Writes one parameter that disk_declare announced. values (rows, cols), turned: scratch, see disk_sizes.
static inline void disk_write_one(SafeWriter *w, const Param *p, const Config *c, const float *values, float *turned) {
    const NameRow *names = folder_names(p, c);
    for (int j = 0; p->count && j < disk_count(names, c); j++) {
        DiskPart part = disk_part(names, p, c, j);
        const float *from = values + (size_t)part.row * (size_t)p->cols;
        size_t count = (size_t)part.rows * (size_t)p->cols;
        if (part.transposed) disk_transpose(turned, from, part.rows, p->cols);
        safewriter_data(w, part.transposed ? turned : from, count * sizeof(float));
    }
}

// Writes what disk_declare announced, from the model's weights, gradients or moments, on rank `to`. w is NULL on
// the ranks that only hand over their part (model_get).
static inline void disk_write(SafeWriter *w, Model *m, int array, const ParamTable *t, int first, int last,
                              const Config *c, int to) {
    size_t most, most_turned;
    disk_sizes(&most, &most_turned, t, c);
    float *values = (float *)mem_alloc(sizeof(float) * most), *turned = (float *)mem_alloc(sizeof(float) * most_turned);
    for (int i = first; i < last; i++) {
        const Param *p = &t->items[i];
        if (p->count && disk_part(folder_names(p, c), p, c, 0).transposed) {
            model_get(m, array, p, values, to);
            if (w) disk_write_one(w, p, c, values, turned);
            continue;
        }
        // The parts follow each other as the rows do.
        for (size_t at = 0; at < p->count; at += DISK_PIECE) {
            Param piece = param_piece(p, at, p->count - at < DISK_PIECE ? p->count - at : DISK_PIECE);
            model_get(m, array, &piece, values, to);
            if (w) safewriter_data(w, values, sizeof(float) * piece.count);
        }
    }
    free(values);
    free(turned);
}

// Tensors that files carry and no model needs: masks and tables that Transformers once stored.
static inline bool disk_is_ballast(const char *name) {
    return str_ends_with(name, ".attn.bias") || str_ends_with(name, ".attn.masked_bias") ||
           str_ends_with(name, ".rotary_emb.inv_freq");
}

// Finds a tensor by its name, or by its name without the leading "transformer." or "model.".
static inline const SafeTensor *disk_find(const SafeTensors *st, const char *prefix, const char *name) {
    Path full = path_of("%s%s", prefix, name);
    const SafeTensor *t = safetensors_find(st, full.text);
    if (t) return t;
    const char *dot = strchr(name, '.');
    if (!dot || (strncmp(name, "transformer.", 12) != 0 && strncmp(name, "model.", 6) != 0)) return NULL;
    full = path_of("%s%s", prefix, dot + 1);
    return safetensors_find(st, full.text);
}

// The tensor that is a part; NULL and an error where it is missing or has another shape. used: of st's tensors.
static inline const SafeTensor *disk_expect(const SafeTensors *st, char *used, const char *prefix, const DiskPart *part,
                                            const Param *p, const char *path, Error *err) {
    const SafeTensor *t = disk_find(st, prefix, part->name);
    char found[160], expected[160];
    int64_t shape[2];
    int ndim = disk_shape(shape, part, p);
    if (!t) error_set(err, "%s: the tensor %s%s is missing", path, prefix, part->name);
    else if (t->ndim != ndim || memcmp(t->shape, shape, sizeof *shape * (size_t)ndim) != 0)
        error_set(err, "%s: the tensor %s has the shape %s, expected %s", path, t->name,
                  safetensor_shape(found, t->ndim, t->shape), safetensor_shape(expected, ndim, shape));
    else {
        used[t - st->tensors] = 1;
        return t;
    }
    return NULL;
}

// Whether two tensors hold the same numbers, of whatever type.
static inline bool disk_equal(bool *equal, const SafeTensor *a, const SafeTensor *b, Error *err) {
    enum { PIECE = 4096 };
    float x[PIECE], y[PIECE];
    *equal = a->ndim == b->ndim && memcmp(a->shape, b->shape, sizeof *a->shape * (size_t)a->ndim) == 0;
    if (!*equal || (a->dtype == b->dtype && memcmp(a->data, b->data, a->bytes) == 0)) return true;
    for (int64_t at = 0; *equal && at < a->elements; at += PIECE) {
        int64_t n = int64_min(PIECE, a->elements - at);
        if (!safetensors_to_f32(x, a, at, n, err) || !safetensors_to_f32(y, b, at, n, err)) return false;
        for (int64_t i = 0; i < n; i++) *equal = *equal && x[i] == y[i];
    }
    return true;
}

// A stored head under tie_word_embeddings must be the copy of the embedding that it is said to be: Transformers takes
// one that is not for a head of its own, against its config.
static inline bool disk_check_tied(const SafeTensors *st, const SafeTensor *head, const ParamTable *t, const Config *c,
                                   const char *path, Error *err) {
    const Param *wte = param_find(t, PARAM_wte, -1);
    const SafeTensor *embedding = disk_find(st, "", disk_part(folder_names(wte, c), wte, c, 0).name);
    bool equal = false;
    if (embedding && !disk_equal(&equal, head, embedding, err)) return false;
    return equal ? true
                 : error_set(err,
                             "%s: %s is not the embedding, though config.json says \"tie_word_embeddings\": true; say "
                             "false there to keep this head, or take it out of the file",
                             path, head->name);
}

// Refuses tensors with this prefix that no parameter used.
static inline bool disk_all_used(const SafeTensors *st, const char *used, const char *prefix, const ParamTable *t,
                                 const Config *c, const char *path, Error *err) {
    for (int i = 0; i < st->count; i++) {
        const SafeTensor *tensor = &st->tensors[i];
        if (used[i] || strncmp(tensor->name, prefix, strlen(prefix)) != 0 || disk_is_ballast(tensor->name)) continue;
        if (c->tied && !*prefix && strcmp(tensor->name, "lm_head.weight") == 0) {
            if (!disk_check_tied(st, tensor, t, c, path, err)) return false;
            continue;
        }
        return error_set(err, "%s: the tensor %s has no place in a %s model with this config.json", path, tensor->name,
                         family_name(c->family));
    }
    return true;
}

// The first of x (n) that is not finite, n: all are. One pass over what lies in the cache.
static inline size_t disk_not_finite(const float *x, size_t n) {
    const uint32_t exponent = 0x7f800000u;
    uint32_t bits;
    int bad = 0;
    for (size_t i = 0; i < n; i++) { // without a way out, so that it is done with vectors
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    for (size_t i = 0; bad && i < n; i++)
        if (!isfinite(x[i])) return i;
    return n;
}

// Whether the tensors named prefix + name are the model's: every parameter is there in its shape, and every tensor of
// the file with this prefix is used. No memory is taken for them.
static inline bool disk_check(const SafeTensors *st, const ParamTable *t, const Config *c, const char *prefix,
                              const char *path, Error *err) {
    char *used = (char *)mem_alloc((size_t)st->count + 1);
    bool ok = true;
    for (int i = 0; ok && i < t->count; i++) {
        const Param *p = &t->items[i];
        const NameRow *names = folder_names(p, c);
        for (int j = 0; ok && p->count && j < disk_count(names, c); j++) {
            DiskPart part = disk_part(names, p, c, j);
            ok = disk_expect(st, used, prefix, &part, p, path, err) != NULL;
        }
    }
    ok = ok && disk_all_used(st, used, prefix, t, c, path, err);
    free(used);
    return ok;
}

// Fills the model's weights (or moments) from tensors named prefix + name, as disk_check found them; all numbers must
// be finite. Parameters of a table whose count is 0 are passed over.
static inline bool disk_fill(Model *m, int array, const SafeTensors *st, const ParamTable *t, const Config *c,
                             const char *prefix, Error *err) {
    size_t most, most_turned;
    disk_sizes(&most, &most_turned, t, c);
    float *values = (float *)mem_alloc(sizeof(float) * most), *turned = (float *)mem_alloc(sizeof(float) * most_turned);
    bool ok = true;
    for (int i = 0; ok && i < t->count; i++) {
        const Param *p = &t->items[i];
        const NameRow *names = folder_names(p, c);
        for (int j = 0; ok && p->count && j < disk_count(names, c); j++) {
            DiskPart part = disk_part(names, p, c, j);
            const SafeTensor *tensor = disk_find(st, prefix, part.name);
            size_t start = (size_t)part.row * (size_t)p->cols, count = (size_t)part.rows * (size_t)p->cols,
                   held = part.transposed ? count : DISK_PIECE;
            for (size_t first = 0; ok && first < count; first += held) {
                Param piece = param_piece(p, start + first, count - first < held ? count - first : held);
                if (!model_keeps(m, array, &piece)) continue;
                ok = safetensors_to_f32(part.transposed ? turned : values, tensor, (int64_t)first, (int64_t)piece.count,
                                        err);
                size_t bad = ok ? disk_not_finite(part.transposed ? turned : values, piece.count) : piece.count;
                if (bad < piece.count)
                    ok = error_set(err, "%s: the tensor %s holds %g at number %zu; every weight must be finite",
                                   tensor->path, tensor->name, (double)(part.transposed ? turned : values)[bad],
                                   first + bad);
                if (ok && part.transposed) disk_transpose(values, turned, p->cols, part.rows);
                if (ok) model_set(m, array, &piece, values);
                safetensors_forget(st, tensor, (int64_t)first, (int64_t)piece.count);
            }
        }
    }
    free(values);
    free(turned);
    return ok;
}

static inline bool disk_load(Model *m, int array, const SafeTensors *st, const ParamTable *t, const Config *c,
                             const char *prefix, const char *path, Error *err) {
    return disk_check(st, t, c, prefix, path, err) && disk_fill(m, array, st, t, c, prefix, err);
}

// The weights of all but an adapter.
static inline bool folder_load_weights(Model *m, const ParamTable *t, const Config *c, const char *folder, Error *err) {
    SafeTensors st;
    Config base = config_base(c);
    ParamTable own = param_table(&base);
    bool ok = safetensors_open(&st, folder, err); // every rank reads what it keeps of them, and no more
    if (ok) {
        ok = disk_load(m, MODEL_WEIGHT, &st, c->lora.rank ? &own : t, &base, "", folder, err);
        safetensors_close(&st);
    }
    param_table_free(&own);
    return ok;
}

// The files that may stand in a folder whose model begins with random weights: what describes a model and a tokenizer.
static inline bool folder_file_is_small(const char *name) {
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.model",
                                        "chat_template.jinja",
                                        "chat_template.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

// A folder without weights under the names that are read: *none if it holds nothing but config and tokenizer files. All
// else is a model whose weights are missing, cut short or in another format, and random ones are not what was meant.
static inline bool folder_is_bare(const char *folder, Error *err) {
    StrList names;
    FileKind kind;
    memset(&names, 0, sizeof names);
    bool ok = folder_list(&names, folder, err);
    for (int i = 0; ok && i < names.count; i++) {
        const char *name = names.items[i];
        ok = path_look(path_of("%s/%s", folder, name).text, &kind, err);
        if (!ok || (kind == FILE_REGULAR && folder_file_is_small(name))) continue;
        if (kind == FILE_FOLDER && strcmp(name, "additional_chat_templates") == 0) continue;
        bool pickled = str_ends_with(name, ".bin") || str_ends_with(name, ".pt") || str_ends_with(name, ".pth");
        ok = error_set(err,
                       "the folder %.300s has neither model.safetensors nor model.safetensors.index.json, but it has "
                       "%.200s: %s; only a folder with nothing but config and tokenizer files starts from random "
                       "weights",
                       folder, name,
                       pickled ? "save the model again with Transformers (safe_serialization=True)"
                               : "fetch the weights again, or move it away");
    }
    str_list_free(&names);
    return ok;
}

// Whether a folder's weights are those of its config: before memory is taken for a model that is not there.
static inline bool folder_check_weights(const Config *c, const char *folder, Error *err) {
    SafeTensors st;
    Config base = config_base(c);
    if (!safetensors_open(&st, folder, err)) return false;
    ParamTable t = param_table(&base);
    bool ok = disk_check(&st, &t, &base, "", folder, err);
    param_table_free(&t);
    safetensors_close(&st);
    return ok;
}

// Whether --model names a folder, not a preset. The name of a preset is the preset, also where a run's folder has that
// name; but where a model lies in a folder of that name, it is not clear what is meant. A path with '/' is a folder.
static inline bool model_is_folder(bool *folder, const char *model, Error *err) {
    FileKind kind, config;
    Config preset;
    Error unknown;
    if (!path_look(model, &kind, err)) return false;
    *folder = kind == FILE_FOLDER;
    if (!*folder || strchr(model, '/') || !config_of_preset(&preset, model, &unknown)) return true;
    *folder = false;
    if (!path_look(path_of("%s/config.json", model).text, &config, err)) return false;
    return config == FILE_ABSENT
               ? true
               : error_set(err,
                           "--model=%s is the name of a preset, and of a folder with a model in it: write ./%s for "
                           "the folder; to have the preset, rename the folder",
                           model, model);
}

// For messages about a preset that has no weights: ./NAME, where there is a folder of its name.
static inline Path model_folder_beside(const char *model) {
    FileKind kind = FILE_ABSENT;
    Error err;
    bool there = path_look(model, &kind, &err) && kind == FILE_FOLDER;
    return there ? path_of("; the folder of that name is ./%s", model) : path_of("%s", "");
}

// Whether --model names a folder, not a preset, and whether the folder has weights.
static inline bool folder_look(const char *model, bool *folder, bool *weights, Error *err) {
    static const char *const files[] = {"model.safetensors", "model.safetensors.index.json"};
    FileKind kind;
    *weights = false;
    if (!model_is_folder(folder, model, err)) return false;
    for (int i = 0; *folder && i < 2; i++) {
        if (!path_look(path_of("%s/%s", model, files[i]).text, &kind, err)) return false;
        *weights = *weights || kind != FILE_ABSENT;
    }
    return !*folder || *weights || folder_is_bare(model, err);
}

#endif
