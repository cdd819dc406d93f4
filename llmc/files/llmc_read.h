/*
llmc_read.h: a checkpoint of llm.c's GPT-2 (gpt2_124M.bin and what its programs write) as a ForeignModel.

    llmc_read(&m, file, path, err)      file: mapped, and open as long as m

Format (llm.c's train_gpt2.py and train_gpt2.c): 256 little-endian int32, of which the first eight are magic 20240326,
version (3: float32, 5: bfloat16), positions, vocabulary, layers, heads, channels, and the vocabulary that the embedding
is padded to; then the tensors, each of a kind behind the one of the layer before, matrices as (out, in) in all of them.
The rows that pad the embedding belong to no token and are left out. The file holds no tokenizer.
*/
#ifndef LLMC_LLMC_READ_H
#define LLMC_LLMC_READ_H

#include "foreign.h"

#define LLMC_MAGIC 20240326
#define LLMC_HEADER 1024 // bytes

static inline bool llmc_is(const uint8_t *p, size_t n) {
    int32_t magic = 0;
    if (n >= sizeof magic) memcpy(&magic, p, sizeof magic);
    return magic == LLMC_MAGIC;
}

// The header; *padded: rows of the embedding.
static inline bool llmc_read_config(Config *c, int *type, int64_t *padded, const MappedFile *f, const char *path,
                                    Error *err) {
    int32_t h[8];
    Error why;
    if (f->size < LLMC_HEADER)
        return error_set(err, "%s is truncated: an llm.c checkpoint begins with %d bytes, the file has %zu", path,
                         LLMC_HEADER, f->size);
    memcpy(h, f->data, sizeof h);
    if (h[1] != 3 && h[1] != 5)
        return error_set(err, "%s is an llm.c checkpoint of version %d; expected 3 (float32) or 5 (bfloat16)", path,
                         h[1]);
    *type = h[1] == 3 ? GGML_F32 : GGML_BF16;
    *c = config_of_family(FAMILY_GPT2);
    c->max_seq_len = h[2], c->vocab_size = h[3], c->layers = h[4], c->heads = h[5], c->channels = h[6];
    *padded = h[7];
    if (c->heads < 1 || c->channels < 1 || c->channels % c->heads || *padded < c->vocab_size)
        return error_set(err,
                         "%s: the header of an llm.c checkpoint says %d heads, %d channels, %d tokens in %d rows; "
                         "it is damaged",
                         path, c->heads, c->channels, c->vocab_size, h[7]);
    c->kv_heads = c->heads, c->head_size = c->channels / c->heads;
    c->hidden = c->channels <= 1 << 17 ? 4 * c->channels : 0;
    if (!config_check(c, &why)) return error_set(err, "%s: %.800s", path, why.text);
    return true;
}

static inline bool llmc_read(ForeignModel *m, const MappedFile *f, const char *path, Error *err) {
    static const int order[] = {PARAM_wte,      PARAM_wpe,      PARAM_norm1_w, PARAM_norm1_b, PARAM_qkv_w, PARAM_qkv_b,
                                PARAM_proj_w,   PARAM_proj_b,   PARAM_norm2_w, PARAM_norm2_b, PARAM_fc_w,  PARAM_fc_b,
                                PARAM_fcproj_w, PARAM_fcproj_b, PARAM_normf_w, PARAM_normf_b};
    enum { KINDS = sizeof order / sizeof *order };
    int type = GGML_F32;
    int64_t padded = 0;
    memset(m, 0, sizeof *m);
    m->path = path;
    if (!llmc_read_config(&m->config, &type, &padded, f, path, err)) return false;
    m->table = param_table(&m->config);
    uint64_t at = LLMC_HEADER, start[PARAM_KINDS] = {0};
    for (int k = 0; k < KINDS; k++) { // sizes are bounded by config_check: no sum overflows
        const Param *once = param_find(&m->table, order[k], -1), *p = once ? once : param_find(&m->table, order[k], 0);
        uint64_t rows =
            order[k] == PARAM_wte ? (uint64_t)padded : (uint64_t)p->rows * (once ? 1u : (uint64_t)m->config.layers);
        start[order[k]] = at;
        at += gguf_bytes(type, (int64_t)(rows * (uint64_t)p->cols));
    }
    if (at != f->size)
        return error_set(err, "%s has %zu bytes, but a checkpoint of llm.c with %s has %llu: it is %s", path, f->size,
                         config_words(&m->config).text, (unsigned long long)at,
                         f->size < at ? "truncated; copy it again" : "damaged, or another file");
    for (int i = 0; i < m->table.count; i++) {
        const Param *p = &m->table.items[i];
        DiskPart part = disk_part(folder_names(p, &m->config), p, &m->config, 0);
        ForeignTensor *t = foreign_part(m, &part, p);
        t->data =
            f->data + start[p->kind] + (p->layer > 0 ? (uint64_t)p->layer : 0) * gguf_bytes(type, (int64_t)p->count);
        t->type = type;
    }
    return true;
}

#endif
