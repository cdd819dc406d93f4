/*
gguf_read.h: what a GGUF file of anybody holds: keys, tensors, and through them a ForeignModel and a tokenizer.

    gguf_input_open(&g, path, err), gguf_input_parse(&g, err)     the file mapped, and everything in it checked
    gguf_read_model(&m, &g, err)                      config and tensors (foreign.h)
    gguf_read_tokenizer(&tok, &g, err)                a tokenizer.json composed of the file's keys

Nothing is believed: every length, count, type, offset and alignment is checked before it is used, names that stand
twice and tensors that overlap are refused, and so is whatever the file says beyond what this program computes: a key of
the architecture that is not known here and not zero, a tensor that has no place, a type other than f32, f16, bf16 and
q8_0. gguf.h tells what a GGUF file of ours is; this is the way back.

What a GGUF file does not say
  family      llama or mistral: it is a llama, which computes the same
  rope        Llama 3's scaling is a tensor of divisors without its four numbers. They are taken to be the largest
              divisor, 1 and 4 turns, and the original length that fits, and that has to give all divisors
  floats      0.00001 comes as 9.99999975e-06: the shortest decimal of that float is taken
  tokenizer   that of Qwen 2 has NFC, llama.cpp never normalises: "qwen2" is taken to have it. "llama-bpe" takes a word
              that is in the vocabulary without merging, unless merging gives the same for all of them. Tokens of the
              kind "unused" are rows without a token. Added tokens are found in text before it is normalised
*/
#ifndef LLMC_GGUF_READ_H
#define LLMC_GGUF_READ_H

#include "foreign.h"

#define GGUF_MOST_DIMS 4

typedef struct {
    const char *text; // (size), not NUL-terminated
    size_t size;
} GgufText;

typedef struct {
    GgufText name;
    uint32_t type; // of an array: of its elements
    bool array;
    uint64_t count;      // elements; 1 where it is no array
    const uint8_t *data; // strings: each a length and its bytes
} GgufValue;

typedef struct {
    GgufText name;
    uint32_t type;
    int ndim;
    int64_t shape[GGUF_MOST_DIMS]; // innermost first
    uint64_t offset, bytes;        // offset: from the first byte of the data
    const uint8_t *data;
    bool used;
} GgufSource;

typedef struct {
    const char *path;
    MappedFile file;
    GgufValue *keys; // (key_count) by name
    size_t key_count, key_capacity;
    GgufSource *tensors; // (tensor_count) by name
    size_t tensor_count, tensor_capacity;
} GgufInput;

static inline void gguf_input_close(GgufInput *g) {
    file_unmap(&g->file);
    free(g->keys);
    free(g->tensors);
    memset(g, 0, sizeof *g);
}

// For messages: as much of a name as a line can bear.
static inline Path gguf_shown(GgufText t) { return path_of("%.*s", (int)int64_min((int64_t)t.size, 100), t.text); }

// ---------------------------------------------------------------- bytes

typedef struct {
    const uint8_t *at, *end;
} GgufReader;

// The next n bytes, or NULL.
static inline const uint8_t *gguf_next(GgufReader *r, uint64_t n) {
    const uint8_t *p = r->at;
    if (n > (uint64_t)(r->end - r->at)) return NULL;
    r->at += n;
    return p;
}

static inline bool gguf_next_u32(uint32_t *x, GgufReader *r) {
    const uint8_t *p = gguf_next(r, 4);
    if (p) memcpy(x, p, 4);
    return p != NULL;
}

static inline bool gguf_next_u64(uint64_t *x, GgufReader *r) {
    const uint8_t *p = gguf_next(r, 8);
    if (p) memcpy(x, p, 8);
    return p != NULL;
}

static inline bool gguf_next_text(GgufText *t, GgufReader *r) {
    uint64_t n;
    if (!gguf_next_u64(&n, r)) return false;
    t->text = (const char *)gguf_next(r, n);
    t->size = (size_t)n;
    return t->text != NULL;
}

// Bytes of a value's type; 0: a string, -1: none or an array.
static inline int gguf_value_bytes(uint32_t type) {
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, -1, 8, 8, 8}; // u8 i8 u16 i16 u32 i32 f32 bool, u64 i64 f64
    return type < sizeof bytes / sizeof *bytes ? bytes[type] : -1;
}

static inline bool gguf_truncated(const GgufInput *g, const char *where, Error *err) {
    return error_set(err, "%s is truncated or damaged: it ends in %s; copy it again", g->path, where);
}

static inline bool gguf_next_value(GgufValue *v, GgufReader *r, const GgufInput *g, Error *err) {
    memset(v, 0, sizeof *v);
    v->count = 1;
    if (!gguf_next_text(&v->name, r) || !gguf_next_u32(&v->type, r)) return gguf_truncated(g, "its keys", err);
    v->array = v->type == GGUF_ARRAY;
    if (v->array && (!gguf_next_u32(&v->type, r) || !gguf_next_u64(&v->count, r)))
        return gguf_truncated(g, "its keys", err);
    int size = gguf_value_bytes(v->type);
    if (size < 0)
        return error_set(err, "%s: the key %s has a value of type %u, which no GGUF file has here; the file is damaged",
                         g->path, gguf_shown(v->name).text, v->type);
    v->data = r->at;
    if (size > 0 && (v->count > (uint64_t)(r->end - r->at) || !gguf_next(r, v->count * (uint64_t)size)))
        return gguf_truncated(g, path_of("the key %s", gguf_shown(v->name).text).text, err);
    GgufText text;
    for (uint64_t i = 0; size == 0 && i < v->count; i++)
        if (!gguf_next_text(&text, r))
            return gguf_truncated(g, path_of("the key %s", gguf_shown(v->name).text).text, err);
    return true;
}

// ---------------------------------------------------------------- tensors of the file

// What ggml calls a type that is not read here.
static inline const char *ggml_type_name(uint32_t type) {
    static const char *const names[] = {"F32",     "F16",    "Q4_0",    "Q4_1",  "Q4_2",   "Q4_3",  "Q5_0",  "Q5_1",
                                        "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
                                        "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
                                        "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16"};
    return type < sizeof names / sizeof *names ? names[type] : "unknown";
}

static inline bool gguf_next_tensor(GgufSource *t, GgufReader *r, const GgufInput *g, Error *err) {
    uint32_t dims;
    int64_t elements = 1, bytes;
    memset(t, 0, sizeof *t);
    if (!gguf_next_text(&t->name, r) || !gguf_next_u32(&dims, r)) return gguf_truncated(g, "its tensors' names", err);
    Path name = gguf_shown(t->name);
    if (dims < 1 || dims > GGUF_MOST_DIMS)
        return error_set(err, "%s: the tensor %s has %u dimensions, expected 1 to %d; the file is damaged", g->path,
                         name.text, dims, GGUF_MOST_DIMS);
    t->ndim = (int)dims;
    for (int i = 0; i < t->ndim; i++) {
        uint64_t n;
        if (!gguf_next_u64(&n, r)) return gguf_truncated(g, "its tensors' shapes", err);
        if (n < 1 || n > INT64_MAX || __builtin_mul_overflow(elements, (int64_t)n, &elements))
            return error_set(err, "%s: the tensor %s has an impossible shape; the file is damaged", g->path, name.text);
        t->shape[i] = (int64_t)n;
    }
    if (!gguf_next_u32(&t->type, r) || !gguf_next_u64(&t->offset, r))
        return gguf_truncated(g, "its tensors' offsets", err);
    if (t->type != GGML_F32 && t->type != GGML_F16 && t->type != GGML_BF16 && t->type != GGML_Q8_0)
        return error_set(err,
                         "%s: the tensor %s has the type %s (%u); expected F32, F16, BF16 or Q8_0: convert the model's "
                         "own GGUF file in one of these",
                         g->path, name.text, ggml_type_name(t->type), t->type);
    if (t->type == GGML_Q8_0 && t->shape[0] % GGUF_Q8_BLOCK)
        return error_set(err,
                         "%s: rows of %lld numbers of the tensor %s are not whole blocks of %d; the file is damaged",
                         g->path, (long long)t->shape[0], name.text, GGUF_Q8_BLOCK);
    if (__builtin_mul_overflow(elements, (int64_t)4, &bytes))
        return error_set(err, "%s: the tensor %s has an impossible shape; the file is damaged", g->path, name.text);
    t->bytes = gguf_bytes((int)t->type, elements);
    return true;
}

static inline int gguf_text_order(GgufText a, GgufText b) {
    int order = memcmp(a.text, b.text, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static inline int gguf_value_order(const void *a, const void *b) {
    return gguf_text_order(((const GgufValue *)a)->name, ((const GgufValue *)b)->name);
}

static inline int gguf_source_order(const void *a, const void *b) {
    return gguf_text_order(((const GgufSource *)a)->name, ((const GgufSource *)b)->name);
}

static inline int gguf_offset_order(const void *a, const void *b) {
    uint64_t x = ((const GgufSource *)a)->offset, y = ((const GgufSource *)b)->offset;
    return (x > y) - (x < y);
}

// NULL: there is no such key.
static inline const GgufValue *gguf_key_find(const GgufInput *g, const char *name) {
    GgufValue wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.name.text = name, wanted.name.size = strlen(name);
    return g->key_count ? (const GgufValue *)bsearch(&wanted, g->keys, g->key_count, sizeof wanted, gguf_value_order)
                        : NULL;
}

static inline GgufSource *gguf_tensor_find(const GgufInput *g, const char *name) {
    GgufSource wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.name.text = name, wanted.name.size = strlen(name);
    return g->tensor_count
               ? (GgufSource *)bsearch(&wanted, g->tensors, g->tensor_count, sizeof wanted, gguf_source_order)
               : NULL;
}

// Where the tensors lie: each on the alignment, inside the file, in no other one. header: bytes before the data, but
// for what fills up to the alignment.
static inline bool gguf_place(GgufInput *g, uint64_t header, Error *err) {
    const GgufValue *v = gguf_key_find(g, "general.alignment");
    uint32_t alignment = GGUF_ALIGNMENT;
    if (v && (v->array || v->type != GGUF_U32)) alignment = 0;
    else if (v) memcpy(&alignment, v->data, 4);
    if (alignment < 1 || alignment > 1 << 20 || (alignment & (alignment - 1)))
        return error_set(err, "%s: general.alignment must be a power of two up to 2^20; the file is damaged", g->path);
    uint64_t start = (header + alignment - 1) / alignment * alignment, size = g->file.size, end = 0;
    if (g->tensor_count) qsort(g->tensors, g->tensor_count, sizeof *g->tensors, gguf_offset_order);
    for (size_t i = 0; i < g->tensor_count; i++) {
        GgufSource *t = &g->tensors[i];
        Path name = gguf_shown(t->name);
        if (t->offset % alignment)
            return error_set(err, "%s: the tensor %s does not begin on a multiple of %u bytes; the file is damaged",
                             g->path, name.text, alignment);
        if (start > size || t->offset > size - start || t->bytes > size - start - t->offset)
            return error_set(err, "%s is truncated: the tensor %s is not all in it; copy it again", g->path, name.text);
        if (t->offset < end)
            return error_set(err, "%s: the tensors %s and %s overlap; the file is damaged", g->path,
                             gguf_shown(g->tensors[i - 1].name).text, name.text);
        end = t->offset + t->bytes;
        t->data = g->file.data + start + t->offset;
    }
    if (g->tensor_count) qsort(g->tensors, g->tensor_count, sizeof *g->tensors, gguf_source_order);
    for (size_t i = 1; i < g->tensor_count; i++)
        if (gguf_source_order(&g->tensors[i - 1], &g->tensors[i]) == 0)
            return error_set(err, "%s: the tensor %s stands twice; the file is damaged", g->path,
                             gguf_shown(g->tensors[i].name).text);
    return true;
}

static inline bool gguf_is(const uint8_t *p, size_t n) { return n >= 4 && memcmp(p, "GGUF", 4) == 0; }

// Reads the head of g->file; on false, as on true, gguf_input_close is to be called.
static inline bool gguf_input_parse(GgufInput *g, Error *err) {
    GgufReader r = {g->file.data, g->file.data + g->file.size};
    uint32_t magic = 0, version = 0;
    uint64_t tensors = 0, keys = 0;
    if (!gguf_next_u32(&magic, &r) || magic != GGUF_MAGIC) return error_set(err, "%s is not a GGUF file", g->path);
    if (!gguf_next_u32(&version, &r) || !gguf_next_u64(&tensors, &r) || !gguf_next_u64(&keys, &r))
        return gguf_truncated(g, "its head", err);
    if (version != 2 && version != 3)
        return error_set(err, "%s is a GGUF file of version %u%s; expected 2 or 3", g->path, version,
                         version == 0x03000000 || version == 0x02000000 ? " in foreign byte order (big-endian)" : "");
    for (uint64_t i = 0; i < keys; i++) { // memory grows with what was read, not with what is said
        g->keys = (GgufValue *)mem_grow(g->keys, &g->key_capacity, g->key_count + 1, sizeof *g->keys);
        if (!gguf_next_value(&g->keys[g->key_count], &r, g, err)) return false;
        g->key_count++;
    }
    if (g->key_count) qsort(g->keys, g->key_count, sizeof *g->keys, gguf_value_order);
    for (size_t i = 1; i < g->key_count; i++)
        if (gguf_value_order(&g->keys[i - 1], &g->keys[i]) == 0)
            return error_set(err, "%s: the key %s stands twice; the file is damaged", g->path,
                             gguf_shown(g->keys[i].name).text);
    for (uint64_t i = 0; i < tensors; i++) {
        g->tensors = (GgufSource *)mem_grow(g->tensors, &g->tensor_capacity, g->tensor_count + 1, sizeof *g->tensors);
        if (!gguf_next_tensor(&g->tensors[g->tensor_count], &r, g, err)) return false;
        g->tensor_count++;
    }
    return gguf_place(g, (uint64_t)(r.at - g->file.data), err);
}

static inline bool gguf_input_open(GgufInput *g, const char *path, Error *err) {
    memset(g, 0, sizeof *g);
    g->path = path;
    return file_map(&g->file, path, err) && gguf_input_parse(g, err);
}

// ---------------------------------------------------------------- keys

// The float's shortest decimal, as double.
static inline double gguf_decimal(float x) {
    char text[32];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
        snprintf(text, sizeof text, "%.9g", (double)x);
    }
    return isfinite(x) ? strtod(text, NULL) : (double)x;
}

// One number, of whatever type; false: it is none.
static inline bool gguf_value_number(double *out, const GgufValue *v) {
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        float f32;
        uint64_t u64;
        int64_t i64;
        double f64;
    } x;
    int size = gguf_value_bytes(v->type);
    if (v->array || size <= 0) return false;
    memcpy(&x, v->data, (size_t)size);
    switch (v->type) {
    case 0:
    case GGUF_BOOL: *out = x.u8; break;
    case 1: *out = x.i8; break;
    case 2: *out = x.u16; break;
    case 3: *out = x.i16; break;
    case GGUF_U32: *out = x.u32; break;
    case GGUF_I32: *out = x.i32; break;
    case GGUF_FLOAT: *out = gguf_decimal(x.f32); break;
    case 10: *out = (double)x.u64; break;
    case 11: *out = (double)x.i64; break;
    default: *out = x.f64; break;
    }
    return true;
}

// Reads a number that may be missing.
static inline bool gguf_read_number(double *out, bool *there, const GgufInput *g, const char *key, Error *err) {
    const GgufValue *v = gguf_key_find(g, key);
    *there = v != NULL;
    if (!v || gguf_value_number(out, v)) return true;
    return error_set(err, "%s: the key %s must be a number%s", g->path, key,
                     v->array ? ", the same for all layers" : "");
}

// The text of a key; NULL: it is not there, or no text.
static inline bool gguf_text_of(GgufText *t, const GgufInput *g, const char *key) {
    const GgufValue *v = gguf_key_find(g, key);
    if (!v || v->array || v->type != GGUF_STRING) return false;
    uint64_t n;
    memcpy(&n, v->data, 8);
    t->text = (const char *)v->data + 8, t->size = (size_t)n;
    return true;
}

static inline bool gguf_text_is(GgufText t, const char *text) {
    return t.size == strlen(text) && memcmp(t.text, text, t.size) == 0;
}

// The id of a token under a key; -1: it is not there.
static inline bool gguf_read_id(int *id, const GgufInput *g, const char *key, const Tokenizer *tok, Error *err) {
    double value = -1;
    bool there;
    *id = -1;
    if (!gguf_read_number(&value, &there, g, key, err)) return false;
    if (!there) return true;
    if (!(value >= 0 && value < tok->vocab_size) || tokenizer_kind(tok, (int)value) == TOKEN_MISSING)
        return error_set(err, "%s: the key %s is %.0f, which is no token", g->path, key, value);
    *id = (int)value;
    return true;
}

// ---------------------------------------------------------------- config

// Keys of an architecture that are not fields of CONFIG: what they must be, or that it does not matter.
static inline bool gguf_key_allowed(const GgufValue *v, const char *name, const Config *c) {
    static const char *const free_keys[] = {".vocab_size", ".tensor_data_layout", ".rope.scaling.finetuned",
                                            ".rope.scaling.type"};
    double value = 0;
    bool number = gguf_value_number(&value, v);
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        if (strcmp(name, free_keys[i]) == 0) return true;
    if (strcmp(name, ".attention.sliding_window") == 0 && number) return value == 0 || value >= c->max_seq_len;
    if (strcmp(name, ".attention.causal") == 0) return number && value == 1;
    if (strcmp(name, ".attention.scale") == 0 && number) return fabs(value * sqrt((double)c->head_size) - 1) < 1e-6;
    if (strcmp(name, ".rope.dimension_count") == 0 || strcmp(name, ".attention.key_length") == 0 ||
        strcmp(name, ".attention.value_length") == 0)
        return number && (value == c->head_size || !c->rope);
    if (strcmp(name, ".rope.scaling.yarn_beta_slow") == 0 || strcmp(name, ".rope.scaling.yarn_beta_fast") == 0)
        return c->rope_scaling == ROPE_YARN;
    return number && value == 0;
}

static inline bool gguf_key_is_field(const char *name, const Config *c) {
    for (int i = 0; i < CONFIG_KINDS; i++)
        if (config_field(i)->gguf_place && key_among(config_gguf_keys(c, i), name)) return true;
    return false;
}

// What a key of the architecture says and no field holds must be what this program computes.
static inline bool gguf_check_keys(const GgufInput *g, const char *architecture, const Config *c, Error *err) {
    size_t n = strlen(architecture);
    for (size_t i = 0; i < g->key_count; i++) {
        const GgufValue *v = &g->keys[i];
        if (v->name.size <= n || memcmp(v->name.text, architecture, n) != 0 || v->name.text[n] != '.') continue;
        GgufText rest = {v->name.text + n, v->name.size - n};
        Path name = gguf_shown(rest);
        if (!gguf_key_is_field(name.text, c) && !gguf_key_allowed(v, name.text, c))
            return error_set(err, "%s: the key %s says something that this program does not compute", g->path,
                             gguf_shown(v->name).text);
    }
    return true;
}

// A value that the file does not say, where llama.cpp has one for it; false: it must be there.
static inline bool gguf_default(double *value, const Config *c, int kind) {
    switch (kind) {
    case CONFIG_vocab_size: *value = 0; return true; // the embedding's rows, later
    case CONFIG_kv_heads: *value = c->heads; return true;
    case CONFIG_head_size: *value = c->heads > 0 ? c->channels / c->heads : 0; return true;
    case CONFIG_rope_theta: *value = 10000; return true;
    case CONFIG_rope_original: *value = c->max_seq_len; return true;
    case CONFIG_rope_attention: *value = 1; return true;
    default: return false;
    }
}

static inline bool gguf_read_field(Config *c, int kind, const GgufInput *g, const char *architecture, Error *err) {
    const ConfigField *f = config_field(kind);
    const char *keys = config_gguf_keys(c, kind);
    double value = 0, first = 0;
    bool found = false, there;
    for (int j = 0; name_part(keys, j).text[0]; j++) {
        Path key = path_of("%s%s", architecture, name_part(keys, j).text);
        if (!gguf_read_number(&value, &there, g, key.text, err)) return false;
        if (!there) continue;
        if (found && value != first)
            return error_set(err, "%s: the key %s is %.9g, another one of the same says %.9g", g->path, key.text, value,
                             first);
        if (f->type == FIELD_SIZE && !(value >= f->least && value <= f->most && value == floor(value)))
            return error_set(err, "%s: the key %s is %.9g, expected a whole number from %.0f to %.0f", g->path,
                             key.text, value, f->least, f->most);
        first = value, found = true;
    }
    if (!found && !gguf_default(&first, c, kind))
        return *keys ? error_set(err, "%s: the key %s%s is missing", g->path, architecture, name_part(keys, 0).text)
                     : true;
    if (kind == CONFIG_rope_attention) { // llama.cpp multiplies with YaRN's usual factor itself
        if (c->rope_scaling != ROPE_YARN) return true;
        first *= rope_yarn_attention(c->rope_factor);
    }
    if ((kind == CONFIG_rope_original && c->rope_scaling != ROPE_YARN) || (kind == CONFIG_rope_theta && !c->rope))
        return true;
    config_set(c, kind, first);
    return true;
}

static inline bool gguf_read_scaling(Config *c, const GgufInput *g, const char *architecture, Error *err) {
    Path key = path_of("%s.rope.scaling.type", architecture);
    GgufText type;
    bool there;
    if (!gguf_text_of(&type, g, key.text) || gguf_text_is(type, "none")) return true;
    if (gguf_text_is(type, rope_scaling_name(ROPE_LINEAR))) c->rope_scaling = ROPE_LINEAR;
    else if (gguf_text_is(type, rope_scaling_name(ROPE_YARN))) c->rope_scaling = ROPE_YARN;
    else
        return error_set(err, "%s: the key %s is \"%s\"; expected none, linear or yarn", g->path, key.text,
                         gguf_shown(type).text);
    if (c->rope_scaling != ROPE_YARN) return true;
    c->rope_slow = 1, c->rope_fast = 32;
    return gguf_read_number(&c->rope_slow, &there, g, path_of("%s.rope.scaling.yarn_beta_slow", architecture).text,
                            err) &&
           gguf_read_number(&c->rope_fast, &there, g, path_of("%s.rope.scaling.yarn_beta_fast", architecture).text,
                            err);
}

// Whether the divisors (head_size / 2) are those of this config, up to their rounding.
static inline bool gguf_divisors_are(const Config *c, const uint8_t *divisors) {
    for (int i = 0; i < c->head_size / 2; i++) {
        float x;
        memcpy(&x, divisors + 4 * i, 4);
        double expected = pow(c->rope_theta, -2.0 * i / c->head_size) / rope_frequency(c, i);
        if (!(fabs(x - expected) <= 1e-6 * expected)) return false;
    }
    return true;
}

// The original length that the divisor of pair i tells; 0: none, as it is 1 or the factor.
static inline double gguf_divisor_length(const Config *c, const uint8_t *divisors, int i) {
    float x;
    memcpy(&x, divisors + 4 * i, 4);
    double plain = pow(c->rope_theta, -2.0 * i / c->head_size), f = c->rope_factor,
           share = (1 / (double)x - 1 / f) / (1 - 1 / f), turns = c->rope_slow + share * (c->rope_fast - c->rope_slow);
    return share > 1e-3 && share < 1 - 1e-3 ? round(turns * 2 * acos(-1.0) / plain) : 0;
}

// Llama 3's scaling from its tensor of divisors, rope_freqs.weight.
static inline bool gguf_read_divisors(Config *c, const GgufInput *g, Error *err) {
    bool looked_at = c->rope && !key_among(family_of(c->family)->gguf_lacks, "rope_freqs");
    GgufSource *t = looked_at ? gguf_tensor_find(g, "rope_freqs.weight") : NULL;
    if (!t) return true;
    t->used = true;
    float most = 1;
    bool fits = t->type == GGML_F32 && t->ndim == 1 && t->shape[0] == c->head_size / 2 && !c->rope_scaling;
    for (int i = 0; fits && i < c->head_size / 2; i++) {
        float x;
        memcpy(&x, t->data + 4 * i, 4);
        fits = x >= 1 && x < 1e9f;
        most = fmaxf(most, x);
    }
    if (fits && most == 1) return true; // nothing is divided
    Config one = *c;
    one.rope_scaling = ROPE_LLAMA3, one.rope_factor = gguf_decimal(most), one.rope_slow = 1, one.rope_fast = 4;
    // A divisor between 1 and the factor tells the length; without one the longest power of two that gives them.
    for (int i = -1; fits && i < c->head_size / 2; i++) { // first that of all of Meta's
        double length = i < 0 ? 8192 : gguf_divisor_length(&one, t->data, i);
        if (!(length >= 1 && length <= 1 << 24)) continue;
        one.rope_original = (int)length;
        if (gguf_divisors_are(&one, t->data)) break;
    }
    for (int length = 1 << 20; fits && length >= 1 && !gguf_divisors_are(&one, t->data); length /= 2)
        one.rope_original = length;
    if (fits && gguf_divisors_are(&one, t->data)) {
        *c = one;
        return true;
    }
    return error_set(err, "%s: the divisors of rope_freqs.weight are none of Llama 3's scaling", g->path);
}

// The family of an architecture: the first that has it.
static inline int gguf_family(GgufText architecture) {
    for (int i = 0; i < FAMILY_KINDS; i++)
        if (gguf_text_is(architecture, family_of(i)->gguf)) return i;
    return -1;
}

// Fields that follow from which tensors there are.
static inline bool gguf_read_switches(Config *c, const GgufInput *g, Error *err) {
    const GgufSource *table = gguf_tensor_find(g, "token_embd.weight"), *head = gguf_tensor_find(g, "output.weight");
    if (!table || table->ndim != 2) return error_set(err, "%s: the tensor token_embd.weight is missing", g->path);
    if (!c->vocab_size) c->vocab_size = (int)int64_min(table->shape[1], 1 << 25);
    c->bias = gguf_tensor_find(g, "blk.0.attn_output.bias") != NULL;
    // A head that is the embedding once more is no head of its own.
    bool same = head && head->type == table->type && head->bytes == table->bytes &&
                memcmp(head->data, table->data, (size_t)head->bytes) == 0;
    c->tied = !head || same;
    if (same) gguf_tensor_find(g, "output.weight")->used = true;
    return true;
}

static inline bool gguf_read_config(Config *c, const GgufInput *g, Error *err) {
    GgufText architecture = {"missing", 7}, type;
    double parts = 0;
    bool there;
    Error why;
    gguf_text_of(&architecture, g, "general.architecture");
    int family = gguf_family(architecture);
    if (family < 0)
        return error_set(err, "%s: general.architecture is %s; this program has %s", g->path,
                         gguf_shown(architecture).text, family_list("", " and ").text);
    if (gguf_text_of(&type, g, "general.type") && !gguf_text_is(type, "model"))
        return error_set(err, "%s: general.type is %s, expected model", g->path, gguf_shown(type).text);
    if (!gguf_read_number(&parts, &there, g, "split.count", err)) return false;
    if (parts > 1)
        return error_set(err, "%s is one of %.0f parts; put them together with llama-gguf-split --merge", g->path,
                         parts);
    const char *name = family_of(family)->gguf;
    *c = family_of(family)->config;
    config_unscale(c);
    if (c->rope && !gguf_read_scaling(c, g, name, err)) return false;
    for (int place = 1; place <= CONFIG_KINDS; place++)
        for (int i = 0; i < CONFIG_KINDS; i++)
            if (config_field(i)->gguf_place == place && i != CONFIG_rope_scaling &&
                !gguf_read_field(c, i, g, name, err))
                return false;
    if (c->heads * c->head_size != c->channels && !gguf_key_find(g, path_of("%s.attention.key_length", name).text))
        return error_set(err, "%s: %d heads do not divide %d channels", g->path, c->heads, c->channels);
    if (!gguf_read_switches(c, g, err)) return false;
    c->unrotated = layers_each(family_of(family)->unrotated_step, c->layers);
    if (!config_check(c, &why)) return error_set(err, "%s: %.800s", g->path, why.text);
    return gguf_read_divisors(c, g, err) && gguf_check_keys(g, name, c, err);
}

// ---------------------------------------------------------------- the model

// The source of a tensor of the folder, in the right shape.
static inline bool gguf_read_part(ForeignTensor *t, const GgufInput *g, Error *err) {
    GgufSource *s = gguf_tensor_find(g, t->from);
    char found[160], expected[160];
    int64_t shape[2] = {t->is_vector ? t->rows : t->cols, t->rows};
    int ndim = t->is_vector ? 1 : 2;
    if (!s) return error_set(err, "%s: the tensor %s is missing", g->path, t->from);
    if (s->ndim != ndim || memcmp(s->shape, shape, sizeof *shape * (size_t)ndim) != 0)
        return error_set(err, "%s: the tensor %s has the shape %s, innermost first, expected %s", g->path, t->from,
                         safetensor_shape(found, s->ndim, s->shape), safetensor_shape(expected, ndim, shape));
    if (t->is_vector && s->type == GGML_Q8_0)
        return error_set(err, "%s: the vector %s is in q8_0, which llama.cpp does not write", g->path, t->from);
    t->data = s->data, t->type = (int)s->type;
    s->used = true;
    return true;
}

// The source of a layer's number that is a key: of an array of them, or one for all.
static inline bool gguf_read_layer_key(ForeignTensor *t, const GgufInput *g, int layer, int layers, Error *err) {
    const GgufValue *v = gguf_key_find(g, t->from);
    if (!v || v->type != GGUF_FLOAT || (v->array && v->count != (uint64_t)layers))
        return error_set(err, "%s: the key %s must be a number of 32 bits, or %d of them, one for each layer", g->path,
                         t->from, layers);
    t->data = v->data + (v->array ? sizeof(float) * (size_t)layer : 0), t->type = GGML_F32;
    return true;
}

static inline bool gguf_read_model(ForeignModel *m, GgufInput *g, Error *err) {
    memset(m, 0, sizeof *m);
    m->path = g->path;
    if (!gguf_read_config(&m->config, g, err)) return false;
    const Config *c = &m->config;
    const Family *family = family_of(c->family);
    m->table = param_table(c);
    for (int i = 0; i < m->table.count; i++) {
        const Param *p = &m->table.items[i];
        const NameRow *names = folder_names(p, c), *gguf = names_of(family->gguf_naming, p->kind);
        for (int j = 0; j < disk_count(names, c); j++) {
            DiskPart part = disk_part(names, p, c, j), there = disk_part(gguf, p, c, j);
            ForeignTensor *t = foreign_part(m, &part, p);
            memcpy(t->from, there.name, sizeof t->from);
            if (family->gguf_pairs && names->parts == PARTS_QKV && j < 2) t->head_size = c->head_size;
            if (!(there.key ? gguf_read_layer_key(t, g, p->layer, c->layers, err) : gguf_read_part(t, g, err)))
                return false;
        }
    }
    for (size_t i = 0; i < g->tensor_count; i++)
        if (!g->tensors[i].used)
            return error_set(err, "%s: the tensor %s has no place in a %s model with these keys", g->path,
                             gguf_shown(g->tensors[i].name).text, family_name(c->family));
    return true;
}

#endif
