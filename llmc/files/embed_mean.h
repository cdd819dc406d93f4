/*
embed_mean.h: rows of the embedding, and of a head of its own, for tokens that nobody has trained yet: the mean of the
rows of the others, so that such a token begins as likely as any and its vector is of the usual kind (the mean is also
what Transformers' resize_token_embeddings draws new rows around).

    ParamTable t = param_table_fewer(&table, vocab_size)     a model's parameters as a folder with a smaller vocabulary
                                                             has them; folder_load_weights takes it
    embed_mean(m, &table, &c, folder, &tokens, err)
*/
#ifndef LLMC_EMBED_MEAN_H
#define LLMC_EMBED_MEAN_H

#include "../text/chat_tokens.h"
#include "huggingface.h"

static inline bool param_is_vocab(const Param *p) { return p->kind == PARAM_wte || p->kind == PARAM_head_w; }

// To be freed by param_table_fewer_free alone: it shares all but the list of parameters with t.
static inline ParamTable param_table_fewer(const ParamTable *t, int vocab_size) {
    ParamTable fewer = *t;
    fewer.items = (Param *)mem_alloc(sizeof(Param) * (size_t)t->count);
    memcpy(fewer.items, t->items, sizeof(Param) * (size_t)t->count);
    for (int i = 0; i < fewer.count; i++) {
        Param *p = &fewer.items[i];
        if (param_is_vocab(p)) p->rows = vocab_size, p->count = (size_t)p->rows * (size_t)p->cols;
    }
    return fewer;
}

static inline void param_table_fewer_free(ParamTable *t) { free(t->items); }

static inline bool chat_tokens_have(const ChatTokens *tokens, int64_t id) {
    for (int i = 0; i < tokens->count; i++)
        if (tokens->ids[i] == id) return true;
    return false;
}

// mean (cols) of a tensor's rows, but for those of tokens.
static inline bool embed_mean_of(float *mean, const SafeTensor *tensor, const ChatTokens *tokens, Error *err) {
    int64_t cols = tensor->shape[1], rows = 0;
    double *sum = (double *)mem_alloc(sizeof(double) * (size_t)cols);
    bool ok = true;
    for (int64_t r = 0; ok && r < tensor->shape[0]; r++) {
        if (chat_tokens_have(tokens, r)) continue;
        ok = safetensors_to_f32(mean, tensor, r * cols, cols, err);
        for (int64_t i = 0; ok && i < cols; i++) sum[i] += mean[i];
        rows++;
    }
    for (int64_t i = 0; i < cols; i++) mean[i] = (float)(sum[i] / (double)int64_max(rows, 1));
    free(sum);
    return ok;
}

// Reads the folder's tensors, and sets the rows of the tokens in the model. Weights may be sharded: each rank keeps its
// part.
static inline bool embed_mean(Model *m, const ParamTable *t, const Config *c, const char *folder,
                              const ChatTokens *tokens, Error *err) {
    static const int kinds[2] = {PARAM_wte, PARAM_head_w};
    SafeTensors st;
    if (!safetensors_open(&st, folder, err)) return false;
    bool ok = true;
    for (int k = 0; ok && k < 2; k++) {
        const Param *p = param_find(t, kinds[k], -1);
        if (!p || !p->count) continue;
        const SafeTensor *tensor = disk_find(&st, "", disk_part(folder_names(p, c), p, c, 0).name);
        float *mean = (float *)mem_alloc(sizeof(float) * (size_t)p->cols);
        ok = tensor && tensor->ndim == 2 && tensor->shape[1] == p->cols
                 ? embed_mean_of(mean, tensor, tokens, err)
                 : error_set(err, "%s: the tensor of %s is not (vocabulary, %d)", folder, p->name, p->cols);
        for (int i = 0; ok && i < tokens->count; i++) {
            Param piece = param_piece(p, (size_t)tokens->ids[i] * (size_t)p->cols, (size_t)p->cols);
            if (model_keeps(m, MODEL_WEIGHT, &piece)) model_set(m, MODEL_WEIGHT, &piece, mean);
        }
        free(mean);
    }
    safetensors_close(&st);
    return ok;
}

#endif
