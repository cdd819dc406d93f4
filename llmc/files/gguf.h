/*
gguf.h: a model folder as one GGUF file, which llama.cpp and what is built on it load.

    gguf_export(model_folder, out_path, dtype, err)     what the verb `export` does

Format (ggml's docs/gguf.md, version 3): magic, version, number of tensors, number of key-value pairs;
the pairs; name, shape (innermost dimension first), type and offset of every tensor; then the tensors,
each on a multiple of 32 bytes. All little-endian. Keys and tensor names are those that llama.cpp reads
for the architectures gpt2, llama (mistral is one), qwen2, qwen3, smollm3 and apertus.

What is not a plain copy
  gpt2    stores its matrices as (in, out); here, as everywhere else, they are (out, in)
  llama   rotates neighbouring pairs of a head in llama.cpp, halves in Hugging Face: rows of q and k (and
          their biases) change places, head by head; qwen3 rotates halves in both
  rope    linear scaling and YaRN are keys; that of Llama 3 is a tensor rope_freqs.weight of what each pair's frequency
          is divided by. llama.cpp has YaRN only from 32 turns to 1 and with truncate: all else is refused
  window  llama.cpp ignores windows of attention in these architectures (its src/models/llama.cpp, qwen2.cpp, qwen3.cpp
          make no mask of them): refused, unless no context is longer than the window
          dynamic scaling is none up to the context's length, and is not said
  layers  without positions: in smollm3 each fourth, which no key says; others are refused, and so are what its
          src/models/smollm3.cpp does not look at, rope_freqs.weight and biases
  head    a tied head is left out: llama.cpp takes the embedding where output.weight is missing, but in apertus, where
          it is refused
  xielu   alpha_p, alpha_n, beta and eps of apertus are no tensors, but keys with a number for each layer
  types   vectors (norms, biases) and learned positions stay f32. q8_0 stores blocks of 32 along a row;
          a matrix whose rows 32 does not divide is stored as f16
  ids     the embedding may have more rows than the tokenizer has tokens: the rest is named [PADn], unused.
          llama.cpp may sample these, `generate` never does

Tokenizer. llama.cpp knows the split patterns by name and has rules that hang on the name:
"llama-bpe" and "tekken" put a BOS token in front and take a word that is in the vocabulary without merging
(ignore_merges). The first is switched off by add_bos_token (unless the file's own post-processor does
the same). The second changes nothing where every word that is in the vocabulary is also what its merges
give, which holds for whatever bpe.h trains and is checked for every token; where it does not hold, the
name is "dbrx", the same pattern without that rule. So ids of plain text are those of tokenizer_encode,
up to this: llama.cpp never normalises (a tokenizer with NFC agrees on NFC text), finds tokens that are
added but not special by its own order, and has its own version of Unicode. Ends of text and chat templates
are those of the folder's files (tokenizer_folder.h). Refused: a token that is one of the vocabulary and an added
one with other bytes, a name with a space in it, more ends than llama.cpp can be told.

Values are checked: infinity, NaN, and numbers too large for the type are errors, not files.
The file is written tensor by tensor through about a megabyte of memory, and appears when it is whole.
*/
#ifndef LLMC_GGUF_H
#define LLMC_GGUF_H

#include "../base/half.h"
#include "adapters.h"
#include "huggingface.h"
#include "../text/tokenizer_folder.h"
#include <math.h>

#define GGUF_MAGIC 0x46554747u // "GGUF"
#define GGUF_VERSION 3
#define GGUF_ALIGNMENT 32
#define GGUF_Q8_BLOCK Q8_BLOCK // numbers of a q8_0 block
#define GGUF_Q8_BYTES Q8_BYTES
#define GGUF_CHUNK ((int64_t)1 << 18) // numbers read at a time; may be tuned

// ggml's numbers of types, of metadata values, and of kinds of token.
enum { GGML_F32 = 0, GGML_F16 = 1, GGML_Q8_0 = 8, GGML_BF16 = 30 };
enum { GGUF_U32 = 4, GGUF_I32 = 5, GGUF_FLOAT = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9 };
enum { GGUF_TOKEN_NORMAL = 1, GGUF_TOKEN_CONTROL = 3, GGUF_TOKEN_USER = 4, GGUF_TOKEN_UNUSED = 5 };

// Types of the matrices that a user may ask for.
#define DTYPES(X) X(DTYPE_F32, "f32") X(DTYPE_F16, "f16") X(DTYPE_BF16, "bf16") X(DTYPE_Q8_0, "q8_0")
enum { DTYPES(CHOICE_ENUM) };

// ---------------------------------------------------------------- metadata

static inline void gguf_u32(Str *s, uint32_t x) { str_add(s, &x, 4); }
static inline void gguf_u64(Str *s, uint64_t x) { str_add(s, &x, 8); }

static inline void gguf_string(Str *s, const char *text) {
    gguf_u64(s, strlen(text));
    str_puts(s, text);
}

// Key-value pairs as they are written, and how many.
typedef struct {
    Str bytes;
    uint64_t count;
    const char *family; // in front of keys that begin with a dot
} GgufKeys;

static inline void gguf_key(GgufKeys *k, const char *name, uint32_t type) {
    Path key = path_of("%s%s", *name == '.' ? k->family : "", name);
    gguf_string(&k->bytes, key.text);
    gguf_u32(&k->bytes, type);
    k->count++;
}

static inline void gguf_key_u32(GgufKeys *k, const char *name, int value) {
    gguf_key(k, name, GGUF_U32);
    gguf_u32(&k->bytes, (uint32_t)value);
}

static inline void gguf_key_float(GgufKeys *k, const char *name, double value) {
    float f = (float)value;
    gguf_key(k, name, GGUF_FLOAT);
    str_add(&k->bytes, &f, 4);
}

static inline void gguf_key_bool(GgufKeys *k, const char *name, bool value) {
    uint8_t b = value;
    gguf_key(k, name, GGUF_BOOL);
    str_add(&k->bytes, &b, 1);
}

static inline void gguf_key_string(GgufKeys *k, const char *name, const char *value) {
    gguf_key(k, name, GGUF_STRING);
    gguf_string(&k->bytes, value);
}

// The elements follow.
static inline void gguf_key_array(GgufKeys *k, const char *name, uint32_t type, uint64_t count) {
    gguf_key(k, name, GGUF_ARRAY);
    gguf_u32(&k->bytes, type);
    gguf_u64(&k->bytes, count);
}

static inline const char *config_gguf_keys(const Config *c, int kind) {
    const char *const keys[] = {
#define X(type, id, words, least, most, close, gpt2, llama, place, gguf) gguf,
        CONFIG(X)
#undef X
    };
    return keys[kind];
}

static inline void gguf_model_keys(GgufKeys *k, const Config *c, const char *name, int file_type) {
    gguf_key_string(k, "general.architecture", k->family);
    gguf_key_string(k, "general.type", "model");
    gguf_key_string(k, "general.name", name);
    gguf_key_u32(k, "general.alignment", GGUF_ALIGNMENT);
    gguf_key_u32(k, "general.file_type", file_type);
    gguf_key_u32(k, "general.quantization_version", 2); // of the layout of q8_0 and its like
    for (int place = 1; place <= CONFIG_KINDS; place++)
        for (int i = 0; i < CONFIG_KINDS; i++) {
            if (config_field(i)->gguf_place != place) continue;
            const char *keys = config_gguf_keys(c, i);
            for (int j = 0; name_part(keys, j).text[0]; j++) {
                if (i == CONFIG_rope_scaling)
                    gguf_key_string(k, name_part(keys, j).text, rope_scaling_name(c->rope_scaling));
                else if (i == CONFIG_rope_attention) // llama.cpp multiplies with YaRN's usual factor itself
                    gguf_key_float(k, name_part(keys, j).text, c->rope_attention / rope_yarn_attention(c->rope_factor));
                else if (config_field(i)->type == FIELD_REAL)
                    gguf_key_float(k, name_part(keys, j).text, config_value(c, i));
                else gguf_key_u32(k, name_part(keys, j).text, (int)config_value(c, i));
            }
        }
}

// ---------------------------------------------------------------- tokenizer

// True if it makes no difference whether words that the vocabulary has are looked up or merged; else
// *word is the first token for which it does.
static inline bool gguf_words_merge(const Tokenizer *tok, int *word) {
    Tokenizer merging = *tok; // borrows everything
    merging.ignore_merges = false;
    IdList ids;
    memset(&ids, 0, sizeof ids);
    bool all = true;
    for (int id = 0; all && id < tok->vocab_size; id++) {
        int kind = tokenizer_kind(tok, id), n;
        const uint8_t *p = tokenizer_bytes(tok, id, &n);
        const char *name = tokenizer_name(tok, id);
        ids.count = 0;
        if (kind == TOKEN_NORMAL && tokenizer_is_word(tok, p, (size_t)n)) {
            tokenizer_encode_piece(&merging, p, (size_t)n, &ids);
            all = ids.count == 1 && ids.items[0] == id;
        } else if (kind == TOKEN_SPECIAL || kind == TOKEN_ADDED) {
            all = !tokenizer_is_word(tok, (const uint8_t *)name,
                                     strlen(name)); // llama.cpp would find its name in plain text
        }
        *word = id;
    }
    free(ids.items);
    return all;
}

// llama.cpp's name of the split pattern; NULL and an error where none gives the same ids.
static inline const char *gguf_pattern_name(const Tokenizer *tok, Error *err) {
    static const char *const names[TEXT_PATTERNS] = {"gpt-2", "llama-bpe", "qwen2", "gpt-4o", "tekken"};
    int word = 0;
    const bool whole = tok->pattern == TEXT_LLAMA3 || tok->pattern == TEXT_TEKKEN;
    if (tok->ignore_merges == whole) return names[tok->pattern];
    if (gguf_words_merge(tok, &word)) return names[tok->pattern];
    if (tok->pattern == TEXT_LLAMA3) return "dbrx";
    error_set(err,
              "the tokenizer %s merges, which llama.cpp has %s the split patterns of Llama 3 and Tekken, and token %d "
              "(\"%.60s\") is not what its merges give",
              whole ? "does not ignore" : "ignores", whole ? "not with" : "only with", word, tokenizer_name(tok, word));
    return NULL;
}

// What names of ids without a token begin with: "[PAD", or as many brackets more as make it no token's beginning.
static inline Path gguf_unused_prefix(const Tokenizer *tok) {
    Path prefix = path_of("[PAD");
    for (int id = 0; id < tok->vocab_size; id++) {
        if (strncmp(tokenizer_name(tok, id), prefix.text, strlen(prefix.text)) != 0) continue;
        prefix = path_of("[%.4000s", prefix.text);
        id = -1;
    }
    return prefix;
}

// What llama.cpp could not read as it is meant.
static inline bool gguf_check_tokens(const Tokenizer *tok, Error *err) {
    if (tok->eot < 0)
        return error_set(err, "the tokenizer has no end-of-text token; llama.cpp would take token 11 for it");
    for (int id = 0; id < tok->vocab_size; id++) {
        const char *name = tokenizer_name(tok, id);
        int n;
        const uint8_t *bytes = tokenizer_bytes(tok, id, &n);
        if (tok->kinds[id] == TOKEN_ADDED && ((size_t)n != strlen(name) || memcmp(bytes, name, (size_t)n) != 0))
            return error_set(err,
                             "token %d (\"%.60s\") is one of the vocabulary and an added one; llama.cpp would print "
                             "its "
                             "name, not what it stands for",
                             id, name);
        if (tok->kinds[id] == TOKEN_NORMAL && strchr(name, ' '))
            return error_set(err,
                             "the name of token %d (\"%.60s\") has a space in it, which parts the two halves of a "
                             "merge in GGUF",
                             id, name);
    }
    return true;
}

static inline void gguf_merge_keys(GgufKeys *k, const Tokenizer *tok) {
    // Of a pair that stands twice llama.cpp would take the first, tokenizer.h takes the last.
    uint64_t count = 0;
    for (int writing = 0; writing < 2; writing++) {
        if (writing) gguf_key_array(k, "tokenizer.ggml.merges", GGUF_STRING, count);
        for (int i = 0; i < tok->merge_count; i++) {
            int left = tok->merges[i][0], right = tok->merges[i][1];
            if (tokenizer_merge(tok, left, right)->rank != i) continue;
            count++;
            if (!writing) continue;
            gguf_u64(&k->bytes, strlen(tokenizer_name(tok, left)) + 1 + strlen(tokenizer_name(tok, right)));
            str_printf(&k->bytes, "%s %s", tokenizer_name(tok, left), tokenizer_name(tok, right));
        }
    }
}

// True if llama.cpp ends a text at a token of this name without being told (llama-vocab.cpp, special_eog_ids).
static inline bool gguf_ends_by_name(const char *name) {
    static const char *const names[] = {"<|eot_id|>",    "<|im_end|>",      "<|end|>",    "<|return|>", "<end_of_turn>",
                                        "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "<EOT>",      "_<EOT>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

// Tokens that begin and end a text. Of ends GGUF has the document's, a turn's and a message's; others must be known by
// name.
static inline bool gguf_end_keys(GgufKeys *k, const Tokenizer *tok, Error *err) {
    static const char *const more[2] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    int told = 0;
    gguf_key_u32(k, "tokenizer.ggml.bos_token_id", tok->bos_named >= 0 ? tok->bos_named : tok->eot);
    gguf_key_u32(k, "tokenizer.ggml.eos_token_id", tok->eot);
    for (int known = 0; known < 2; known++) // those first that llama.cpp does not know
        for (int i = 0; i < tok->stop_count; i++) {
            int id = tok->stops[i];
            if (id == tok->eot || gguf_ends_by_name(tokenizer_name(tok, id)) != (known != 0)) continue;
            if (told < 2) gguf_key_u32(k, more[told++], id);
            else if (!known)
                return error_set(err,
                                 "text ends at more tokens than a GGUF file can say: %d (\"%.40s\") is one too many; "
                                 "shorten eos_token_id in generation_config.json",
                                 id, tokenizer_name(tok, id));
        }
    if (tok->pad >= 0) gguf_key_u32(k, "tokenizer.ggml.padding_token_id", tok->pad);
    gguf_key_bool(k, "tokenizer.ggml.add_bos_token", tok->bos >= 0);
    gguf_key_bool(k, "tokenizer.ggml.add_eos_token", tok->closing >= 0);
    return true;
}

static inline bool gguf_chat_keys(GgufKeys *k, const Tokenizer *tok, Error *err) {
    StrList names, texts;
    memset(&names, 0, sizeof names);
    memset(&texts, 0, sizeof texts);
    bool ok = tokenizer_chat_templates(&names, &texts, tok, err);
    int others = 0;
    for (int i = 0; ok && i < names.count; i++) {
        bool is_default = strcmp(names.items[i], "default") == 0;
        others += !is_default;
        if (is_default) gguf_key_string(k, "tokenizer.chat_template", texts.items[i]);
        else gguf_key_string(k, path_of("tokenizer.chat_template.%.1000s", names.items[i]).text, texts.items[i]);
    }
    if (others) gguf_key_array(k, "tokenizer.chat_templates", GGUF_STRING, (uint64_t)others);
    for (int i = 0; others && i < names.count; i++)
        if (strcmp(names.items[i], "default") != 0) gguf_string(&k->bytes, names.items[i]);
    str_list_free(&names);
    str_list_free(&texts);
    return ok;
}

static inline bool gguf_tokenizer_keys(GgufKeys *k, const Tokenizer *tok, int vocab_size, Error *err) {
    const char *pattern = gguf_check_tokens(tok, err) ? gguf_pattern_name(tok, err) : NULL;
    if (!pattern) return false;
    gguf_key_string(k, "tokenizer.ggml.model", "gpt2");
    gguf_key_string(k, "tokenizer.ggml.pre", pattern);
    gguf_key_array(k, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)vocab_size);
    Path unused = gguf_unused_prefix(tok);
    for (int id = 0; id < vocab_size; id++) {
        if (tokenizer_kind(tok, id) == TOKEN_MISSING)
            gguf_string(&k->bytes, path_of("%.4000s%d]", unused.text, id).text);
        else gguf_string(&k->bytes, tokenizer_name(tok, id));
    }
    gguf_key_array(k, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)vocab_size);
    for (int id = 0; id < vocab_size; id++) {
        int kind = tokenizer_kind(tok, id);
        gguf_u32(&k->bytes, kind == TOKEN_NORMAL    ? GGUF_TOKEN_NORMAL
                            : kind == TOKEN_SPECIAL ? GGUF_TOKEN_CONTROL
                            : kind == TOKEN_ADDED   ? GGUF_TOKEN_USER
                                                    : GGUF_TOKEN_UNUSED);
    }
    gguf_merge_keys(k, tok);
    return gguf_end_keys(k, tok, err) && gguf_chat_keys(k, tok, err);
}

// ---------------------------------------------------------------- tensors

typedef struct {
    char name[128];            // in GGUF
    const SafeTensor *from;    // (rows, cols), or (cols, rows) where transposed, or (rows) where is_vector
    const Config *scaled;      // in place of `from`: what this config's rotary frequencies are divided by
    int64_t rows, cols;        // cols of a vector: 1
    int head_size;             // not 0: rows of each head change places (rotary pairs)
    const AdapterFile *merged; // an adapter that is added, NULL: none; to rows row .. of param
    const Param *param;
    int row;
    bool transposed, is_vector;
    bool key; // no tensor: see gguf_layer_keys
    int type; // GGML_F32 ...
    uint64_t bytes;
} GgufTensor;

static inline int gguf_tensor_type(const GgufTensor *t, int kind, int dtype) {
    if (t->is_vector || kind == PARAM_wpe || dtype == DTYPE_F32) return GGML_F32;
    if (dtype == DTYPE_BF16) return GGML_BF16;
    return dtype == DTYPE_Q8_0 && t->cols % GGUF_Q8_BLOCK == 0 ? GGML_Q8_0 : GGML_F16;
}

static inline uint64_t gguf_bytes(int type, int64_t count) {
    if (type == GGML_Q8_0) return (uint64_t)count / GGUF_Q8_BLOCK * GGUF_Q8_BYTES;
    return (uint64_t)count * (type == GGML_F32 ? 4 : 2);
}

// The tensors of the file in its order; out holds two more than st has. Everything in the folder must have a place, in
// the right shape. adapter: what is added to them, or NULL.
static inline bool gguf_plan(GgufTensor *out, int *count, const SafeTensors *st, const ParamTable *table,
                             const AdapterFile *adapter, const Config *c, int dtype, const char *folder, Error *err) {
    char *used = (char *)mem_alloc((size_t)st->count + 1);
    bool ok = true;
    const Family *family = family_of(c->family);
    *count = 0;
    for (int i = 0; ok && i < table->count; i++) {
        const Param *p = &table->items[i];
        const NameRow *names = folder_names(p, c), *gguf = names_of(family->gguf_naming, p->kind);
        for (int j = 0; ok && j < disk_count(names, c); j++) {
            DiskPart part = disk_part(names, p, c, j);
            GgufTensor *t = &out[(*count)++];
            memset(t, 0, sizeof *t);
            DiskPart there = disk_part(gguf, p, c, j);
            memcpy(t->name, there.name, sizeof t->name);
            t->key = there.key;
            t->rows = part.rows;
            t->cols = p->cols;
            t->is_vector = p->is_vector;
            t->transposed = part.transposed;
            bool turns = names->parts == PARTS_QKV ? j < 2 : p->kind == PARAM_lora_q_b || p->kind == PARAM_lora_k_b;
            if (family->gguf_pairs && turns) t->head_size = c->head_size;
            t->merged = adapter, t->param = p, t->row = part.row;
            t->type = gguf_tensor_type(t, p->kind, dtype);
            t->bytes = gguf_bytes(t->type, t->rows * t->cols);
            t->from = disk_expect(st, used, "", &part, p, folder, err);
            ok = t->from != NULL;
        }
    }
    ok = ok && disk_all_used(st, used, "", table, c, folder, err);
    free(used);
    if (!ok || c->lora.rank) return ok; // what follows is said of whole models
    if (c->window)
        return error_set(err,
                         "%s/config.json: llama.cpp has no windows of attention for %s: behind %d tokens it would "
                         "compute "
                         "something else; for a model of up to %d tokens set max_position_embeddings to %d",
                         folder, family->gguf, c->window, c->window, c->window);
    Layers unrotated = layers_each(family->unrotated_step, c->layers);
    if (!layers_equal(&unrotated, &c->unrotated))
        return error_set(err,
                         "%s/config.json: llama.cpp leaves each layer of %s whose number %d divides without positions, "
                         "and no other: \"no_rope_layers\" says something else",
                         folder, family->gguf, family->unrotated_step);
    if (c->tied && key_among(family->gguf_lacks, "tied"))
        return error_set(err, "%s/config.json: llama.cpp has no tied head for %s", folder, family->gguf);
    if (c->bias && key_among(family->gguf_lacks, "bias"))
        return error_set(err, "%s/config.json: llama.cpp has no biases for %s", folder, family->gguf);
    if (c->rope_scaling == ROPE_LLAMA3 && key_among(family->gguf_lacks, "rope_freqs"))
        return error_set(err,
                         "%s/config.json: llama.cpp has no scaling of Llama 3 for %s; take a model with yarn, or "
                         "without scaling",
                         folder, family->gguf);
    if (c->rope_scaling == ROPE_YARN && (c->rope_between || c->rope_slow != 1 || c->rope_fast != 32))
        return error_set(err, "%s/config.json: llama.cpp has YaRN only with beta_fast 32, beta_slow 1 and truncate",
                         folder);
    if (c->rope_scaling == ROPE_LLAMA3) {
        GgufTensor *t = &out[(*count)++];
        memset(t, 0, sizeof *t);
        snprintf(t->name, sizeof t->name, "rope_freqs.weight");
        t->rows = c->head_size / 2, t->cols = 1, t->is_vector = true, t->scaled = c;
        t->type = GGML_F32, t->bytes = gguf_bytes(GGML_F32, t->rows);
    }
    return ok;
}

// out (n, cols) = rows row .. row + n of a tensor as it lies in the folder, with what is merged.
static inline bool gguf_read_plain(float *out, float *strip, const GgufTensor *t, int64_t row, int64_t n, Error *err) {
    if (!t->transposed && !safetensors_to_f32(out, t->from, row * t->cols, n * t->cols, err)) return false;
    for (int64_t k = 0; t->transposed && k < t->cols; k++) {
        if (!safetensors_to_f32(strip, t->from, k * t->rows + row, n, err)) return false;
        for (int64_t r = 0; r < n; r++) out[r * t->cols + k] = strip[r];
    }
    return !t->merged || adapter_add(out, t->merged, t->param, t->row + (int)row, (int)n, err);
}

// The same as GGUF has them; strip (n) is scratch.
static inline bool gguf_read_rows(float *out, float *strip, const GgufTensor *t, int64_t row, int64_t n, Error *err) {
    for (int64_t r = 0; t->scaled && r < n; r++)
        out[r] = (float)(pow(t->scaled->rope_theta, -2.0 * (double)(row + r) / t->scaled->head_size) /
                         rope_frequency(t->scaled, (int)(row + r)));
    if (t->scaled) return true;
    if (!t->head_size) return gguf_read_plain(out, strip, t, row, n, err);
    // Row 2i + h of a head comes from row i of its half h.
    for (int64_t r = 0; r < n; r++) {
        int64_t in_head = (row + r) % t->head_size, start = row + r - in_head;
        int64_t source = start + in_head % 2 * (t->head_size / 2) + in_head / 2;
        if (!gguf_read_plain(out + r * t->cols, strip, t, source, 1, err)) return false;
    }
    return true;
}

// out = n numbers in a type; q8_0: n is a multiple of 32. False if one is not finite in it.
static inline bool gguf_encode(uint8_t *out, const float *x, size_t n, int type) {
    if (type == GGML_Q8_0) return q8_encode(out, x, n);
    uint32_t bad = 0;
    if (type == GGML_F32) {
        for (size_t i = 0; i < n; i++) bad |= (bits_of_float(x[i]) & 0x7f800000) == 0x7f800000;
        memcpy(out, x, n * sizeof(float));
        return !bad;
    }
    uint16_t infinity = type == GGML_F16 ? 0x7c00 : 0x7f80;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = type == GGML_F16 ? float_to_f16(x[i]) : float_to_bf16(x[i]);
        bad |= (h & infinity) == infinity;
        memcpy(out + 2 * i, &h, 2);
    }
    return !bad;
}

static inline void gguf_pad(OutFile *f, uint64_t written) {
    static const uint8_t zeros[GGUF_ALIGNMENT] = {0};
    out_write(f, zeros, (size_t)((GGUF_ALIGNMENT - written % GGUF_ALIGNMENT) % GGUF_ALIGNMENT));
}

static inline bool gguf_write_tensor(OutFile *f, const GgufTensor *t, Error *err) {
    int64_t step = GGUF_CHUNK / t->cols > 0 ? GGUF_CHUNK / t->cols : 1;
    if (step > t->rows) step = t->rows;
    float *x = (float *)mem_alloc(sizeof(float) * (size_t)(step * t->cols)),
          *strip = (float *)mem_alloc(sizeof(float) * (size_t)step);
    uint8_t *encoded = (uint8_t *)mem_alloc((size_t)gguf_bytes(t->type, step * t->cols));
    bool ok = true;
    for (int64_t row = 0; ok && row < t->rows; row += step) {
        int64_t n = int64_min(step, t->rows - row);
        size_t count = (size_t)(n * t->cols);
        ok = gguf_read_rows(x, strip, t, row, n, err);
        if (ok && !gguf_encode(encoded, x, count, t->type))
            ok = error_set(err, "%s: the tensor %s has values that are not finite%s", t->from->path, t->from->name,
                           t->type == GGML_F16 || t->type == GGML_Q8_0
                               ? ", or too large for f16: try --dtype=bf16 or f32"
                               : "");
        if (ok) out_write(f, encoded, (size_t)gguf_bytes(t->type, (int64_t)count));
    }
    gguf_pad(f, t->bytes);
    free(x);
    free(strip);
    free(encoded);
    return ok;
}

// ---------------------------------------------------------------- export

// The last part of a folder's path, for people to read. GGUF's strings are UTF-8, names of folders any bytes.
static inline Path gguf_model_name(const char *folder) {
    char *real = realpath(folder, NULL);
    const char *path = real ? real : folder, *slash = strrchr(path, '/');
    Utf8Stream utf8;
    Str text;
    memset(&utf8, 0, sizeof utf8);
    memset(&text, 0, sizeof text);
    if (slash && slash[1]) path = slash + 1;
    utf8_stream_push(&utf8, path, strlen(path), &text);
    utf8_stream_finish(&utf8, &text);
    Path name = path_of("%.1000s", text.data ? text.data : "");
    free(text.data);
    free(real);
    return name;
}

// The numbers of layers that are keys: an array for each, and they are no longer among the tensors.
static inline bool gguf_layer_keys(GgufKeys *k, GgufTensor *tensors, int *count, int layers, Error *err) {
    int kept = 0;
    for (int i = 0; i < *count; i++) {
        if (!tensors[i].key || tensors[i].param->layer) continue;
        gguf_key_array(k, tensors[i].name, GGUF_FLOAT, (uint64_t)layers);
        for (int j = i; j < *count; j++) {
            const SafeTensor *from = tensors[j].from;
            float x;
            if (strcmp(tensors[j].name, tensors[i].name) != 0) continue;
            if (!safetensors_to_f32(&x, from, 0, 1, err)) return false;
            if (!isfinite(x)) return error_set(err, "%s: the tensor %s is not finite", from->path, from->name);
            str_add(&k->bytes, &x, sizeof x);
        }
    }
    for (int i = 0; i < *count; i++)
        if (!tensors[i].key) tensors[kept++] = tensors[i];
    *count = kept;
    return true;
}

static inline bool gguf_write(const char *out_path, const GgufKeys *keys, const GgufTensor *tensors, int count,
                              Error *err) {
    Str head;
    memset(&head, 0, sizeof head);
    gguf_u32(&head, GGUF_MAGIC);
    gguf_u32(&head, GGUF_VERSION);
    gguf_u64(&head, (uint64_t)count);
    gguf_u64(&head, keys->count);
    str_add(&head, keys->bytes.data, keys->bytes.size);
    uint64_t offset = 0;
    for (int i = 0; i < count; i++) {
        const GgufTensor *t = &tensors[i];
        gguf_string(&head, t->name);
        gguf_u32(&head, t->is_vector ? 1 : 2);
        if (!t->is_vector) gguf_u64(&head, (uint64_t)t->cols);
        gguf_u64(&head, (uint64_t)t->rows);
        gguf_u32(&head, (uint32_t)t->type);
        gguf_u64(&head, offset);
        offset += (t->bytes + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
    }
    OutFile f;
    bool ok = out_open(&f, out_path, err);
    if (ok) {
        out_write(&f, head.data, head.size);
        gguf_pad(&f, head.size);
        for (int i = 0; ok && i < count && !f.failed; i++) ok = gguf_write_tensor(&f, &tensors[i], err);
        if (ok) ok = out_commit(&f, err);
        else out_abort(&f);
    }
    free(head.data);
    return ok;
}

static const int gguf_file_types[4] = {0, 1, 32, 7}; // llama.cpp's, by dtype

// All of the file but for what is open and who closes it. adapter: added to the weights, or NULL.
static inline bool gguf_export_model(const SafeTensors *st, const AdapterFile *adapter, const Config *c,
                                     const Tokenizer *tok, const char *model_folder, const char *out_path, int dtype,
                                     Error *err) {
    ParamTable table = param_table(c);
    GgufTensor *tensors = (GgufTensor *)mem_alloc(sizeof(GgufTensor) * (size_t)(st->count + 2));
    GgufKeys keys;
    memset(&keys, 0, sizeof keys);
    keys.family = family_of(c->family)->gguf;
    int count = 0;
    Error why;
    bool ok = tok->vocab_size <= c->vocab_size;
    if (!ok)
        error_set(err, "%s/tokenizer.json has %d tokens, the model only %d", model_folder, tok->vocab_size,
                  c->vocab_size);
    if (ok && !gguf_plan(tensors, &count, st, &table, adapter, c, dtype, model_folder, err)) ok = false;
    if (ok) {
        gguf_model_keys(&keys, c, gguf_model_name(model_folder).text, gguf_file_types[dtype]);
        ok = gguf_layer_keys(&keys, tensors, &count, c->layers, err);
    }
    if (ok) {
        ok = gguf_tokenizer_keys(&keys, tok, c->vocab_size, &why);
        if (!ok) error_set(err, "%s/tokenizer.json: %s", model_folder, why.text);
    }
    if (ok) ok = gguf_write(out_path, &keys, tensors, count, err);
    free(keys.bytes.data);
    free(tensors);
    param_table_free(&table);
    return ok;
}

// Writes the model of a folder (config.json, safetensors, tokenizer.json) as a GGUF file, with the adapter of another
// folder added to its weights (its tokenizer counts, if it has one); adapter "": none.
// dtype: DTYPE_F32, _F16, _BF16 or _Q8_0, of the matrices.
static inline bool gguf_export_merged(const char *model_folder, const char *adapter_folder, const char *out_path,
                                      int dtype, Error *err) {
    Config c;
    Tokenizer tok;
    SafeTensors st;
    AdapterFile adapter;
    FileKind kind = FILE_ABSENT;
    bool merges = *adapter_folder != 0;
    Path own = path_of("%s/tokenizer.json", adapter_folder);
    if (!folder_read_config(&c, model_folder, err) || (merges && !path_look(own.text, &kind, err))) return false;
    const char *from = kind == FILE_ABSENT ? model_folder : adapter_folder;
    if (!tokenizer_open(&tok, path_of("%s/tokenizer.json", from).text, err)) return false;
    bool opened = !merges || adapter_open(&adapter, &c, model_folder, adapter_folder, err), ok = opened;
    if (ok && (ok = safetensors_open(&st, model_folder, err))) {
        ok = gguf_export_model(&st, merges ? &adapter : NULL, &c, &tok, from, out_path, dtype, err);
        safetensors_close(&st);
    }
    if (opened && merges) adapter_close(&adapter);
    tokenizer_free(&tok);
    return ok;
}

static inline bool gguf_export(const char *model_folder, const char *out_path, int dtype, Error *err) {
    return gguf_export_merged(model_folder, "", out_path, dtype, err);
}

// Writes an adapter alone, as llama.cpp (llama-adapter.cpp) takes it beside the GGUF file of its base. It scales by
// alpha / rank, and takes an alpha of 0 for 1.
static inline bool gguf_export_adapter(const char *model_folder, const char *adapter_folder, const char *out_path,
                                       int dtype, Error *err) {
    Config c;
    AdapterFile a;
    if (!folder_read_config(&c, model_folder, err) || !adapter_open(&a, &c, model_folder, adapter_folder, err))
        return false;
    const Config *with = &a.config;
    GgufTensor *tensors = (GgufTensor *)mem_alloc(sizeof(GgufTensor) * (size_t)(a.tensors.count + 2));
    GgufKeys keys;
    memset(&keys, 0, sizeof keys);
    int count = 0;
    gguf_key_string(&keys, "general.architecture", family_of(c.family)->gguf);
    gguf_key_string(&keys, "general.type", "adapter");
    gguf_key_string(&keys, "general.name", gguf_model_name(adapter_folder).text);
    gguf_key_u32(&keys, "general.alignment", GGUF_ALIGNMENT);
    gguf_key_u32(&keys, "general.file_type", gguf_file_types[dtype]);
    gguf_key_u32(&keys, "general.quantization_version", 2);
    gguf_key_string(&keys, "adapter.type", "lora");
    gguf_key_float(&keys, "adapter.lora.alpha", lora_scale(with) * with->lora.rank);
    bool ok = lora_scale(with) != 0;
    if (!ok) error_set(err, "%s/adapter_config.json: \"lora_alpha\" is 0: the adapter adds nothing", adapter_folder);
    ok = ok && gguf_plan(tensors, &count, &a.tensors, &a.table, NULL, with, dtype, adapter_folder, err) &&
         gguf_write(out_path, &keys, tensors, count, err);
    free(keys.bytes.data);
    free(tensors);
    adapter_close(&a);
    return ok;
}

#endif
