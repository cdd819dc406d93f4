/*
huggingface.h: model folders as Hugging Face Transformers writes and reads them.

Defines
  folder_read_config, folder_write_config    config.json <-> Config
  disk_declare, disk_write                   parameters (or gradients, moments) -> a safetensors file
  folder_load_weights                        model.safetensors (one file or several) -> the model

A config that would compute something else than this program does is refused, naming the field. The
fields and their defaults are those of GPT2Config, LlamaConfig and Qwen3Config; files of Transformers
4 (rope_theta) and 5 (rope_parameters) are both read. Tensor names may lack the leading
"transformer." or "model.", as in folders that the bare models were saved to.
*/
#ifndef LLMC_HUGGINGFACE_H
#define LLMC_HUGGINGFACE_H

#include "../engine.h"
#include "../base/json.h"
#include "../text/tokenizer_folder.h"
#include "naming.h"
#include "safetensors.h"

// ---------------------------------------------------------------- config.json

static inline bool folder_refuse(Error *err, const char *path, const char *field, const char *found,
                                 const char *supported) {
    return error_set(err, "%s: \"%s\" is %s; this program supports %s", path, field, found, supported);
}

// True if a field is absent, null or false.
static inline bool folder_is_off(const Json *root, const char *field) {
    const Json *j = json_get(root, field);
    return !j || j->type == JSON_NULL || (j->type == JSON_BOOL && !j->boolean);
}

static inline bool folder_read_rope(Config *c, const Json *root, const char *path, Error *err) {
    const Json *parameters = json_get(root, "rope_parameters"), *scaling = json_get(root, "rope_scaling");
    c->rope_theta = json_number(json_get(parameters, "rope_theta"), json_number(json_get(root, "rope_theta"), 10000.0));
    const Json *both[] = {parameters, scaling};
    for (int i = 0; i < 2; i++) {
        const char *type =
            json_string(json_get(both[i], "rope_type"), json_string(json_get(both[i], "type"), "default"));
        if (strcmp(type, "default") != 0)
            return folder_refuse(err, path, i ? "rope_scaling" : "rope_parameters", type,
                                 "rotary positions without scaling");
        if (json_number(json_get(both[i], "partial_rotary_factor"), 1.0) != 1.0)
            return folder_refuse(err, path, "partial_rotary_factor", "below 1", "rotation of the whole head");
    }
    return true;
}

// A whole number; -1, which no size may be, where something else stands there.
static inline int folder_int(const Json *j, int64_t fallback) {
    if (!j || j->type == JSON_NULL) return (int)fallback;
    int64_t value = json_integer(j, -1);
    return value >= 0 && value <= INT32_MAX ? (int)value : -1;
}

// True if a name is one of those that are separated by '|'.
static inline bool key_among(const char *keys, const char *name) {
    for (int i = 0; name_part(keys, i).text[0]; i++)
        if (strcmp(name_part(keys, i).text, name) == 0) return true;
    return false;
}

// What a field is where config.json does not say: the default of the family's class, which may follow from other
// fields.
static inline double folder_default(const Config *c, int kind, const Json *root) {
    if (kind == CONFIG_max_seq_len && family_of(c->family)->keys == KEYS_GPT2)
        return folder_int(json_get(root, "n_ctx"), c->max_seq_len); // its older name
    if (kind == CONFIG_kv_heads && !c->kv_heads) return c->heads;
    if (kind == CONFIG_head_size && !c->head_size) return c->heads > 0 ? c->channels / c->heads : 0;
    if (kind == CONFIG_hidden && !c->hidden) return (int)((int64_t)4 * c->channels);
    return config_value(c, kind);
}

static inline bool folder_read_field(Config *c, int kind, const Json *root, const char *path, Error *err) {
    const ConfigField *f = config_field(kind);
    const char *keys = f->keys[family_of(c->family)->keys];
    double fallback = folder_default(c, kind, root);
    Path first = name_part(keys, 0);
    const Json *j = *keys ? json_get(root, first.text) : NULL;
    if (f->type == FIELD_SIZE) config_set(c, kind, folder_int(j, (int64_t)fallback));
    if (f->type == FIELD_REAL) config_set(c, kind, json_number(j, fallback));
    if (f->type == FIELD_SWITCH) config_set(c, kind, json_bool(j, fallback != 0));
    if (kind == CONFIG_activation) {
        Path own = name_part(activation_names(c->activation), 0);
        const char *found = json_string(j, own.text);
        if (!key_among(activation_names(c->activation), found))
            return folder_refuse(err, path, first.text, found, own.text);
    }
    if (kind == CONFIG_bias && *keys && json_bool(json_get(root, name_part(keys, 1).text), false) != (c->bias != 0))
        return folder_refuse(err, path, first.text, "unlike mlp_bias",
                             "biases in all linear layers of a block or in none");
    return true;
}

// Fields that change what is computed and that Config has no place for.
static inline bool folder_read_others(Config *c, const Json *root, const char *path, Error *err) {
    static const struct {
        int keys;
        const char *field;
        bool on; // what is supported, and the default
        const char *supported;
    } fields[] = {{KEYS_GPT2, "scale_attn_weights", true, "true"},
                  {KEYS_GPT2, "scale_attn_by_inverse_layer_idx", false, "false"},
                  {KEYS_GPT2, "add_cross_attention", false, "false"},
                  {KEYS_LLAMA, "use_sliding_window", false, "full attention"}};
    int keys = family_of(c->family)->keys;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        bool off =
            fields[i].on ? !json_bool(json_get(root, fields[i].field), true) : folder_is_off(root, fields[i].field);
        if (fields[i].keys == keys && off == fields[i].on)
            return folder_refuse(err, path, fields[i].field, off ? "false" : "true", fields[i].supported);
    }
    if (!*config_field(CONFIG_head_size)->keys[keys] && c->heads > 0 && c->channels % c->heads)
        return error_set(err, "%s: n_head %d does not divide n_embd %d", path, c->heads, c->channels);
    return !c->rope || folder_read_rope(c, root, path, err);
}

static inline bool folder_read_config(Config *out, const char *folder, Error *err) {
    Path path = path_of("%s/config.json", folder);
    JsonDoc doc;
    const Json *root = json_load(&doc, path.text, err);
    if (!root) return false;
    const char *type = json_string(json_get(root, "model_type"), "");
    Config c = family_of(0)->config;
    for (int i = 0; i < FAMILY_KINDS; i++)
        if (strcmp(family_name(i), type) == 0) c = family_of(i)->config;
    bool ok = strcmp(family_name(c.family), type) == 0;
    if (!ok) folder_refuse(err, path.text, "model_type", *type ? type : "missing", family_list("", " and ").text);
    for (int i = 0; ok && i < CONFIG_KINDS; i++) ok = folder_read_field(&c, i, root, path.text, err);
    ok = ok && folder_read_others(&c, root, path.text, err);
    json_free(&doc);
    Error inner;
    if (ok && !config_check(&c, &inner)) ok = error_set(err, "%s: %s", path.text, inner.text);
    if (ok) *out = c;
    return ok;
}

// A field's lines of config.json.
static inline void folder_write_field(Str *s, const Config *c, int kind) {
    const ConfigField *f = config_field(kind);
    const Family *family = family_of(c->family);
    double value = config_value(c, kind);
    for (int i = 0;; i++) {
        Path key = name_part(f->keys[family->keys], i);
        if (!key.text[0]) break;
        if (strcmp(key.text, family->absent) == 0) continue;
        str_printf(s, "  \"%s\": ", key.text);
        if (f->type == FIELD_SWITCH) str_puts(s, value != 0 ? "true" : "false");
        else if (f->type == FIELD_CHOICE) str_printf(s, "\"%s\"", name_part(activation_names(c->activation), 0).text);
        else str_printf(s, "%.*g", f->type == FIELD_REAL ? 9 : 10, value);
        str_puts(s, ",\n");
    }
    if (kind == CONFIG_rope_theta && c->rope) // both spellings: Transformers 4 reads the first, 5 the second
        str_printf(s, "  \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": %.9g},\n", value);
    if (kind == CONFIG_bias) str_puts(s, family->fixed);
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

// config.json and generation_config.json. tok: whose tokens begin and end a text, and what the folder that it comes
// from said of them; NULL: nothing is known. sums: notes the files, or NULL.
static inline bool folder_write_config(const char *folder, const Config *c, const Tokenizer *tok, FileSums *sums,
                                       Error *err) {
    Str s;
    memset(&s, 0, sizeof s);
    str_printf(&s, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n", family_of(c->family)->class_name,
               family_name(c->family));
    for (int i = 0; i < CONFIG_KINDS; i++) folder_write_field(&s, c, i);
    if (tok && tok->model_ids.size) {
        str_puts(&s, tok->model_ids.data);
    } else {
        folder_write_ends(&s, tok);
        str_puts(&s, ",\n");
    }
    str_puts(&s, "  \"torch_dtype\": \"float32\",\n  \"use_cache\": true\n}\n");
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

// ---------------------------------------------------------------- parameters on disk

// The shape of a part on disk. Returns the number of dimensions.
static inline int disk_shape(int64_t shape[2], const DiskPart *part, const Param *p) {
    shape[0] = part->transposed ? p->cols : part->rows;
    shape[1] = part->transposed ? part->rows : p->cols;
    return p->is_vector ? 1 : 2;
}

// Declares parameters number first to last - 1 of a table in a safetensors file, each name behind `prefix`.
static inline void disk_declare(SafeWriter *w, const ParamTable *t, int first, int last, const Config *c,
                                const char *prefix) {
    for (int i = first; i < last; i++) {
        const Param *p = &t->items[i];
        const NameRow *names = folder_names(p, c);
        for (int j = 0; j < disk_count(names, c); j++) {
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
    for (int j = 0; j < disk_count(names, c); j++) {
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
        if (disk_part(folder_names(p, c), p, c, 0).transposed) {
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

// Refuses tensors with this prefix that no parameter used.
static inline bool disk_all_used(const SafeTensors *st, const char *used, const char *prefix, const Config *c,
                                 const char *path, Error *err) {
    for (int i = 0; i < st->count; i++) {
        const char *name = st->tensors[i].name;
        if (used[i] || strncmp(name, prefix, strlen(prefix)) != 0 || disk_is_ballast(name)) continue;
        if (c->tied && str_ends_with(name, "lm_head.weight")) continue; // a copy of the embedding
        return error_set(err, "%s: the tensor %s has no place in a %s model with this config.json", path, name,
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

// Fills the model's weights (or moments) from tensors named prefix + name. Every parameter must be
// there in its shape, every tensor of the file with this prefix must be used, and all numbers must be finite.
static inline bool disk_load(Model *m, int array, const SafeTensors *st, const ParamTable *t, const Config *c,
                             const char *prefix, const char *path, Error *err) {
    size_t most, most_turned;
    disk_sizes(&most, &most_turned, t, c);
    float *values = (float *)mem_alloc(sizeof(float) * most), *turned = (float *)mem_alloc(sizeof(float) * most_turned);
    char *used = (char *)mem_alloc((size_t)st->count + 1);
    bool ok = true;
    for (int i = 0; ok && i < t->count; i++) {
        const Param *p = &t->items[i];
        const NameRow *names = folder_names(p, c);
        for (int j = 0; ok && j < disk_count(names, c); j++) {
            DiskPart part = disk_part(names, p, c, j);
            const SafeTensor *tensor = disk_expect(st, used, prefix, &part, p, path, err);
            ok = tensor != NULL;
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
            }
        }
    }
    ok = ok && disk_all_used(st, used, prefix, c, path, err);
    free(values);
    free(turned);
    free(used);
    return ok;
}

static inline bool folder_load_weights(Model *m, const ParamTable *t, const Config *c, const char *folder, Error *err) {
    SafeTensors st;
    if (!safetensors_open(&st, folder, err)) return false; // every rank reads what it keeps of them, and no more
    bool ok = disk_load(m, MODEL_WEIGHT, &st, t, c, "", folder, err);
    safetensors_close(&st);
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

// Whether --model names a folder, not a preset, and whether the folder has weights.
static inline bool folder_look(const char *model, bool *folder, bool *weights, Error *err) {
    static const char *const files[] = {"model.safetensors", "model.safetensors.index.json"};
    FileKind kind;
    *weights = false;
    if (!path_look(model, &kind, err)) return false;
    *folder = kind == FILE_FOLDER;
    for (int i = 0; *folder && i < 2; i++) {
        if (!path_look(path_of("%s/%s", model, files[i]).text, &kind, err)) return false;
        *weights = *weights || kind != FILE_ABSENT;
    }
    return !*folder || *weights || folder_is_bare(model, err);
}

#endif
