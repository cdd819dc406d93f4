/*
naming.h: what parameters are called in files, and how they are cut there.

Defines
  names_of               a parameter's row in a naming
  disk_count, disk_part  the tensors that a parameter is on disk, in the order of its rows

A naming is all rows that carry its bit. FAMILIES (model.h) says which one a family's folders have and which its GGUF
file: a family with new names brings its rows, and touches no other.

Names
  %w    "weight", or "bias" for the row's bias
  %A    of an adapter "A", or "B" for the row's second; %a: in small letters
  %d    the layer
  %e    the number of the part, where a field of CONFIG counts parts (heads, experts)
  a|b   several tensors, in the order of the parameter's rows
  ^     in front of all: matrices lie there transposed, as (in, out)
  .     in front of all: numbers without a dimension, as PyTorch has them
  =     in front of all: no tensors, but keys of the file, each an array of a number for each layer
*/
#ifndef LLMC_NAMING_H
#define LLMC_NAMING_H

#include "../model.h"

// How the rows of a parameter are cut: in as many equal parts as there are names (one name: not at all); in queries,
// keys and values; or, if it is a ConfigKind, in all names once for each of that field's count.
enum { PARTS_EQUAL = -2, PARTS_QKV = -1 };

typedef struct {
    int namings;      // bits of Naming
    int weight, bias; // ParamKind; bias -1: there is none
    int parts;
    const char *names;
} NameRow;

#define PEFT_FRONT "base_model.model." // in front of the names of adapters in PEFT's files

// NULL where a naming has no name for it.
static inline const NameRow *names_of(int naming, int kind) {
    enum {
        HF2 = NAMING_GPT2,
        HFA = NAMING_APERTUS,
        HFL = NAMING_LLAMA | HFA, // the rows of HFA alone stand before those that it does not share
        GG2 = NAMING_GGUF_GPT2,
        GGA = NAMING_GGUF_APERTUS,
        GGL = NAMING_GGUF_LLAMA | GGA,
        GG = GG2 | GGL
    };
    static const NameRow rows[] = {
        // clang-format off
        {HF2, PARAM_wte,      -1,             PARTS_EQUAL, "transformer.wte.%w"},
        {HF2, PARAM_wpe,      -1,             PARTS_EQUAL, "transformer.wpe.%w"},
        {HF2, PARAM_norm1_w,  PARAM_norm1_b,  PARTS_EQUAL, "transformer.h.%d.ln_1.%w"},
        {HF2, PARAM_qkv_w,    PARAM_qkv_b,    PARTS_EQUAL, "^transformer.h.%d.attn.c_attn.%w"},
        {HF2, PARAM_proj_w,   PARAM_proj_b,   PARTS_EQUAL, "^transformer.h.%d.attn.c_proj.%w"},
        {HF2, PARAM_norm2_w,  PARAM_norm2_b,  PARTS_EQUAL, "transformer.h.%d.ln_2.%w"},
        {HF2, PARAM_fc_w,     PARAM_fc_b,     PARTS_EQUAL, "^transformer.h.%d.mlp.c_fc.%w"},
        {HF2, PARAM_fcproj_w, PARAM_fcproj_b, PARTS_EQUAL, "^transformer.h.%d.mlp.c_proj.%w"},
        {HF2, PARAM_normf_w,  PARAM_normf_b,  PARTS_EQUAL, "transformer.ln_f.%w"},
        {HFA, PARAM_norm1_w,  -1,             PARTS_EQUAL, "model.layers.%d.attention_layernorm.%w"},
        {HFA, PARAM_norm2_w,  -1,             PARTS_EQUAL, "model.layers.%d.feedforward_layernorm.%w"},
        {HFA, PARAM_fc_w,     PARAM_fc_b,     PARTS_EQUAL, "model.layers.%d.mlp.up_proj.%w"},
        {HFA, PARAM_xielu,    -1,             PARTS_EQUAL, "model.layers.%d.mlp.act_fn.alpha_p|model.layers.%d.mlp.act_fn.alpha_n"},
        {HFA, PARAM_xielu_fixed, -1,          PARTS_EQUAL, ".model.layers.%d.mlp.act_fn.beta|model.layers.%d.mlp.act_fn.eps"},
        {HFL, PARAM_wte,      -1,             PARTS_EQUAL, "model.embed_tokens.%w"},
        {HFL, PARAM_norm1_w,  -1,             PARTS_EQUAL, "model.layers.%d.input_layernorm.%w"},
        {HFL, PARAM_qkv_w,    PARAM_qkv_b,    PARTS_QKV,   "model.layers.%d.self_attn.q_proj.%w|model.layers.%d.self_attn.k_proj.%w|model.layers.%d.self_attn.v_proj.%w"},
        {HFL, PARAM_qnorm_w,  -1,             PARTS_EQUAL, "model.layers.%d.self_attn.q_norm.%w"},
        {HFL, PARAM_knorm_w,  -1,             PARTS_EQUAL, "model.layers.%d.self_attn.k_norm.%w"},
        {HFL, PARAM_proj_w,   PARAM_proj_b,   PARTS_EQUAL, "model.layers.%d.self_attn.o_proj.%w"},
        {HFL, PARAM_norm2_w,  -1,             PARTS_EQUAL, "model.layers.%d.post_attention_layernorm.%w"},
        {HFL, PARAM_fc_w,     PARAM_fc_b,     PARTS_EQUAL, "model.layers.%d.mlp.gate_proj.%w|model.layers.%d.mlp.up_proj.%w"},
        {HFL, PARAM_fcproj_w, PARAM_fcproj_b, PARTS_EQUAL, "model.layers.%d.mlp.down_proj.%w"},
        {HFL, PARAM_normf_w,  -1,             PARTS_EQUAL, "model.norm.%w"},
        {HF2 | HFL, PARAM_head_w, -1,         PARTS_EQUAL, "lm_head.%w"},
        {HF2, PARAM_lora_qkv_a,  PARAM_lora_qkv_b,  PARTS_EQUAL, PEFT_FRONT "transformer.h.%d.attn.c_attn.lora_%A.weight"},
        {HF2, PARAM_lora_o_a,    PARAM_lora_o_b,    PARTS_EQUAL, PEFT_FRONT "transformer.h.%d.attn.c_proj.lora_%A.weight"},
        {HF2, PARAM_lora_up_a,   PARAM_lora_up_b,   PARTS_EQUAL, PEFT_FRONT "transformer.h.%d.mlp.c_fc.lora_%A.weight"},
        {HF2, PARAM_lora_down_a, PARAM_lora_down_b, PARTS_EQUAL, PEFT_FRONT "transformer.h.%d.mlp.c_proj.lora_%A.weight"},
        {HFL, PARAM_lora_q_a,    PARAM_lora_q_b,    PARTS_EQUAL, PEFT_FRONT "model.layers.%d.self_attn.q_proj.lora_%A.weight"},
        {HFL, PARAM_lora_k_a,    PARAM_lora_k_b,    PARTS_EQUAL, PEFT_FRONT "model.layers.%d.self_attn.k_proj.lora_%A.weight"},
        {HFL, PARAM_lora_v_a,    PARAM_lora_v_b,    PARTS_EQUAL, PEFT_FRONT "model.layers.%d.self_attn.v_proj.lora_%A.weight"},
        {HFL, PARAM_lora_o_a,    PARAM_lora_o_b,    PARTS_EQUAL, PEFT_FRONT "model.layers.%d.self_attn.o_proj.lora_%A.weight"},
        {NAMING_LLAMA, PARAM_lora_gate_a, PARAM_lora_gate_b, PARTS_EQUAL, PEFT_FRONT "model.layers.%d.mlp.gate_proj.lora_%A.weight"},
        {HFL, PARAM_lora_up_a,   PARAM_lora_up_b,   PARTS_EQUAL, PEFT_FRONT "model.layers.%d.mlp.up_proj.lora_%A.weight"},
        {HFL, PARAM_lora_down_a, PARAM_lora_down_b, PARTS_EQUAL, PEFT_FRONT "model.layers.%d.mlp.down_proj.lora_%A.weight"},
        {GG,  PARAM_wte,      -1,             PARTS_EQUAL, "token_embd.%w"},
        {GG,  PARAM_wpe,      -1,             PARTS_EQUAL, "position_embd.%w"},
        {GG,  PARAM_norm1_w,  PARAM_norm1_b,  PARTS_EQUAL, "blk.%d.attn_norm.%w"},
        {GG2, PARAM_qkv_w,    PARAM_qkv_b,    PARTS_EQUAL, "blk.%d.attn_qkv.%w"},
        {GGL, PARAM_qkv_w,    PARAM_qkv_b,    PARTS_QKV,   "blk.%d.attn_q.%w|blk.%d.attn_k.%w|blk.%d.attn_v.%w"},
        {GG,  PARAM_qnorm_w,  -1,             PARTS_EQUAL, "blk.%d.attn_q_norm.%w"},
        {GG,  PARAM_knorm_w,  -1,             PARTS_EQUAL, "blk.%d.attn_k_norm.%w"},
        {GG,  PARAM_proj_w,   PARAM_proj_b,   PARTS_EQUAL, "blk.%d.attn_output.%w"},
        {GG,  PARAM_norm2_w,  PARAM_norm2_b,  PARTS_EQUAL, "blk.%d.ffn_norm.%w"},
        {GG2 | GGA, PARAM_fc_w, PARAM_fc_b,   PARTS_EQUAL, "blk.%d.ffn_up.%w"},
        {GGA, PARAM_xielu,    -1,             PARTS_EQUAL, "=xielu.alpha_p|xielu.alpha_n"},
        {GGA, PARAM_xielu_fixed, -1,          PARTS_EQUAL, "=xielu.beta|xielu.eps"},
        {GGL, PARAM_fc_w,     PARAM_fc_b,     PARTS_EQUAL, "blk.%d.ffn_gate.%w|blk.%d.ffn_up.%w"},
        {GG,  PARAM_fcproj_w, PARAM_fcproj_b, PARTS_EQUAL, "blk.%d.ffn_down.%w"},
        {GG,  PARAM_normf_w,  PARAM_normf_b,  PARTS_EQUAL, "output_norm.%w"},
        {GG,  PARAM_head_w,   -1,             PARTS_EQUAL, "output.%w"},
        {GG2, PARAM_lora_qkv_a,  PARAM_lora_qkv_b,  PARTS_EQUAL, "blk.%d.attn_qkv.weight.lora_%a"},
        {GGL, PARAM_lora_q_a,    PARAM_lora_q_b,    PARTS_EQUAL, "blk.%d.attn_q.weight.lora_%a"},
        {GGL, PARAM_lora_k_a,    PARAM_lora_k_b,    PARTS_EQUAL, "blk.%d.attn_k.weight.lora_%a"},
        {GGL, PARAM_lora_v_a,    PARAM_lora_v_b,    PARTS_EQUAL, "blk.%d.attn_v.weight.lora_%a"},
        {GG,  PARAM_lora_o_a,    PARAM_lora_o_b,    PARTS_EQUAL, "blk.%d.attn_output.weight.lora_%a"},
        {NAMING_GGUF_LLAMA, PARAM_lora_gate_a, PARAM_lora_gate_b, PARTS_EQUAL, "blk.%d.ffn_gate.weight.lora_%a"},
        {GG,  PARAM_lora_up_a,   PARAM_lora_up_b,   PARTS_EQUAL, "blk.%d.ffn_up.weight.lora_%a"},
        {GG,  PARAM_lora_down_a, PARAM_lora_down_b, PARTS_EQUAL, "blk.%d.ffn_down.weight.lora_%a"},
        // clang-format on
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if ((rows[i].namings & naming) && (rows[i].weight == kind || rows[i].bias == kind)) return &rows[i];
    return NULL;
}

// Number i of names that are separated by '|'; "" behind the last.
static inline Path name_part(const char *names, int i) {
    for (; i > 0; i--) names += strcspn(names, "|") + (strchr(names, '|') != NULL);
    return path_of("%.*s", (int)strcspn(names, "|"), names);
}

// One tensor on disk: rows [row, row + rows) of a parameter, perhaps transposed.
typedef struct {
    char name[128];
    int row, rows;
    bool transposed; // (cols, rows) on disk
    bool scalar;     // without a dimension
    bool key;        // the layer's number in an array
} DiskPart;

static inline int disk_names(const NameRow *r) {
    int n = 1;
    for (const char *s = r->names; (s = strchr(s, '|')) != NULL; s++) n++;
    return n;
}

// How many tensors a parameter is on disk.
static inline int disk_count(const NameRow *r, const Config *c) {
    return disk_names(r) * (r->parts >= 0 ? (int)config_value(c, r->parts) : 1);
}

// The j-th of them.
static inline DiskPart disk_part(const NameRow *r, const Param *p, const Config *c, int j) {
    DiskPart d;
    int names = disk_names(r), NQ = c->heads * c->head_size, NK = c->kv_heads * c->head_size;
    bool marked = strchr("^.=", *r->names) != NULL;
    size_t n = 0;
    Path name = name_part(r->names + marked, j % names);
    for (const char *s = name.text; *s && n + 16 < sizeof d.name; s++) {
        if (*s != '%') d.name[n++] = *s;
        else if (*++s == 'A' || *s == 'a') d.name[n++] = (char)(p->kind == r->bias ? *s + 1 : *s);
        else if (*s == 'w') n += (size_t)snprintf(d.name + n, 16, "%s", p->kind == r->bias ? "bias" : "weight");
        else n += (size_t)snprintf(d.name + n, 16, "%d", *s == 'd' ? p->layer : j / names);
    }
    d.name[n] = 0;
    d.rows = r->parts != PARTS_QKV ? p->rows / disk_count(r, c) : j == 0 ? NQ : NK;
    d.row = r->parts != PARTS_QKV ? j * d.rows : j == 0 ? 0 : NQ + (j - 1) * NK;
    d.transposed = *r->names == '^' && !p->is_vector;
    d.scalar = *r->names == '.', d.key = *r->names == '=';
    return d;
}

// A parameter's row in the folders of its family.
static inline const NameRow *folder_names(const Param *p, const Config *c) {
    return names_of(family_of(c->family)->naming, p->kind);
}

#endif
