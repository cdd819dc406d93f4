/*
init_embeddings.h: --init_embeddings=FOLDER: a folder's model goes on with another tokenizer (continued pretraining).

    embeddings_config(c, tok, o, err)                 the folder's config, in the vocabulary of --tokenizer
    embeddings_check(o, err)                          are the folder's weights those of its own config?
    embeddings_load(m, &counts, t, c, tok, o, err)    all weights of the folder, the rows of tokens by the rule

The rule, for each id of --tokenizer, by the first line that holds. A row of the embedding, and of a head that is not
tied, becomes:
  1  token that stands for bytes   the row of the old token that stands for the same bytes (of two the lower id)
  2  token that stands for bytes   the mean of the rows of the ids into which the old tokenizer splits these bytes as a
                                   text of their own, an id as often as it occurs
  3  special token                 the row of the old special or added token of the same name
  4  end of a document             the row of the old tokenizer's end of a document
  5  any other, and ids that are   the mean of the rows of all old tokens
     no token
Copies are the same numbers; a mean is summed in double, in the order of the ids, and rounded once. Where both
tokenizers are the same everything is copied, rows behind the last token too, and the log says so. All else of the model
stays: no family, no size and no layer changes but vocab_size.

A mean begins where a reader of the pieces would guess: Hewitt 2021 (mean of all, for tokens of which nothing is known);
Gee et al. 2022, Fast Vocabulary Transfer (mean of pieces).
*/
#ifndef LLMC_INIT_EMBEDDINGS_H
#define LLMC_INIT_EMBEDDINGS_H

#include "../files/huggingface.h"
#include "options.h"

// How many rows came how.
typedef struct {
    bool same; // tokenizers: nothing was to do
    int64_t bytes, names, means, pieces, rest;
} EmbeddingCounts;

// Rows that a new row is the mean of: from (first[id] .. first[id + 1] - 1); none: all old tokens'.
typedef struct {
    IdList from;
    size_t *first; // (rows + 1)
    int rows;
} EmbeddingPlan;

static inline void embedding_plan_free(EmbeddingPlan *p) {
    free(p->from.items);
    free(p->first);
}

typedef struct {
    const uint8_t *bytes; // (n)
    int n, id;
} EmbeddingToken;

static inline int embedding_token_order(const void *a, const void *b) {
    const EmbeddingToken *x = (const EmbeddingToken *)a, *y = (const EmbeddingToken *)b;
    int order = memcmp(x->bytes, y->bytes, (size_t)(x->n < y->n ? x->n : y->n));
    if (order == 0 && x->n != y->n) order = x->n < y->n ? -1 : 1;
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

// The old tokens that stand for bytes, sorted. Returns how many.
static inline int embedding_tokens(EmbeddingToken *out, const Tokenizer *old) {
    int count = 0;
    for (int id = 0; id < old->vocab_size; id++) {
        int kind = tokenizer_kind(old, id), n;
        const uint8_t *bytes = tokenizer_bytes(old, id, &n);
        EmbeddingToken t = {bytes, n, id};
        if (n > 0 && (kind == TOKEN_NORMAL || kind == TOKEN_ADDED)) out[count++] = t;
    }
    qsort(out, (size_t)count, sizeof *out, embedding_token_order);
    return count;
}

// The old token of these bytes with the lowest id, or -1.
static inline int embedding_same_bytes(const EmbeddingToken *tokens, int count, const uint8_t *bytes, int n) {
    EmbeddingToken wanted = {bytes, n, -1};
    int first = 0, last = count;
    while (first < last) {
        int middle = first + (last - first) / 2;
        if (embedding_token_order(&tokens[middle], &wanted) < 0) first = middle + 1;
        else last = middle;
    }
    return first < count && tokens[first].n == n && memcmp(tokens[first].bytes, bytes, (size_t)n) == 0
               ? tokens[first].id
               : -1;
}

// rows: of the new embedding.
static inline void embedding_plan(EmbeddingPlan *p, EmbeddingCounts *counts, const Tokenizer *tok, const Tokenizer *old,
                                  int rows) {
    EmbeddingToken *tokens = (EmbeddingToken *)mem_alloc(sizeof(EmbeddingToken) * (size_t)old->vocab_size);
    int count = embedding_tokens(tokens, old);
    TokenizerCache cache;
    memset(p, 0, sizeof *p);
    memset(&cache, 0, sizeof cache);
    p->rows = rows;
    p->first = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(rows + 1));
    for (int id = 0; id < rows; id++) {
        int kind = tokenizer_kind(tok, id), n, same = -1;
        const uint8_t *bytes = tokenizer_bytes(tok, id, &n);
        bool text = n > 0 && (kind == TOKEN_NORMAL || kind == TOKEN_ADDED);
        if (text) same = embedding_same_bytes(tokens, count, bytes, n);
        else if (kind == TOKEN_SPECIAL) same = tokenizer_special(old, tokenizer_name(tok, id));
        if (same < 0 && !text && id == tok->eot) same = old->eot;
        if (same >= 0) {
            id_list_add(&p->from, same);
            *(text ? &counts->bytes : &counts->names) += 1;
        } else if (text) {
            tokenizer_encode(old, &cache, (const char *)bytes, (size_t)n, &p->from);
            counts->means++;
            counts->pieces += (int64_t)(p->from.count - p->first[id]);
        } else {
            counts->rest++;
        }
        p->first[id + 1] = p->from.count;
    }
    tokenizer_cache_free(&cache);
    free(tokens);
}

// ---------------------------------------------------------------- rows

// row (cols) of the old tensor, all of it finite.
static inline bool embedding_row(float *row, const SafeTensor *t, int id, int cols, Error *err) {
    if (!safetensors_to_f32(row, t, (int64_t)id * cols, cols, err)) return false;
    size_t bad = disk_not_finite(row, (size_t)cols);
    return bad == (size_t)cols ? true
                               : error_set(err, "%s: the tensor %s holds %g in row %d; every weight must be finite",
                                           t->path, t->name, (double)row[bad], id);
}

// out (cols) = the mean of rows ids (n) of a tensor. row, sums (cols): scratch.
static inline bool embedding_mean(float *out, float *row, double *sums, const SafeTensor *t, const int32_t *ids,
                                  size_t n, int cols, Error *err) {
    if (n == 1) return embedding_row(out, t, ids[0], cols, err);
    memset(sums, 0, sizeof(double) * (size_t)cols);
    for (size_t i = 0; i < n; i++) {
        if (!embedding_row(row, t, ids[i], cols, err)) return false;
        for (int k = 0; k < cols; k++) sums[k] += row[k];
    }
    for (int k = 0; k < cols; k++) out[k] = (float)(sums[k] / (double)n);
    return true;
}

// Sets one matrix of the model, embedding or head, by the plan. p: of the model, in its vocabulary.
static inline bool embedding_set(Model *m, const Param *p, const SafeTensor *t, const EmbeddingPlan *plan,
                                 const Tokenizer *old, Error *err) {
    int cols = p->cols, step = (int)int64_max((int64_t)DISK_PIECE / cols, 1);
    size_t row_bytes = sizeof(float) * (size_t)cols;
    step = step < plan->rows ? step : plan->rows;
    float *values = (float *)mem_alloc(row_bytes * (size_t)step), *row = (float *)mem_alloc(row_bytes),
          *average = (float *)mem_alloc(row_bytes);
    double *sums = (double *)mem_alloc(2 * row_bytes);
    IdList all;
    memset(&all, 0, sizeof all);
    for (int id = 0; id < old->vocab_size; id++)
        if (tokenizer_kind(old, id) != TOKEN_MISSING) id_list_add(&all, id);
    bool ok = embedding_mean(average, row, sums, t, all.items, all.count, cols, err);
    for (int id = 0; ok && id < plan->rows; id += step) {
        int n = plan->rows - id < step ? plan->rows - id : step;
        Param piece = param_piece(p, (size_t)id * (size_t)cols, (size_t)n * (size_t)cols);
        if (!model_keeps(m, MODEL_WEIGHT, &piece)) continue;
        for (int i = 0; ok && i < n; i++) {
            size_t first = plan->first[id + i], count = plan->first[id + i + 1] - first;
            float *out = values + (size_t)i * (size_t)cols;
            if (count) ok = embedding_mean(out, row, sums, t, plan->from.items + first, count, cols, err);
            else memcpy(out, average, row_bytes);
        }
        if (ok) model_set(m, MODEL_WEIGHT, &piece, values);
    }
    free(values), free(row), free(average), free(sums);
    free(all.items);
    return ok;
}

// ---------------------------------------------------------------- the folder

// Opens the folder's own tokenizer.
static inline bool embeddings_open_old(Tokenizer *old, const char *folder, Error *err) {
    Path path = path_of("%.3000s/tokenizer.json", folder);
    FileKind kind;
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT)
        return error_set(err,
                         "--init_embeddings=%s: the folder has no tokenizer.json, and so does not say which row is "
                         "which token's; put its own there",
                         folder);
    return tokenizer_open(old, path.text, err);
}

// c: of the folder, as it is there; gets the vocabulary of the tokenizer.
static inline bool embeddings_config(Config *c, Tokenizer *tok, const Options *o, Error *err) {
    FileId base, model;
    Tokenizer old;
    if (!path_id(o->init_embeddings, &base, err) || !path_id(o->model, &model, err)) return false;
    if (!file_id_same(base, model))
        return error_set(err, "--init_embeddings=%s takes all weights from there: give --model=%s as well, not %s",
                         o->init_embeddings, o->init_embeddings, o->model);
    if (!embeddings_open_old(&old, o->init_embeddings, err)) return false;
    bool same = old.hash == tok->hash, fits = old.vocab_size <= c->vocab_size;
    if (!fits)
        error_set(err, "%s/tokenizer.json has %d tokens, the model there only %d rows", o->init_embeddings,
                  old.vocab_size, c->vocab_size);
    tokenizer_free(&old);
    if (!fits) return false;
    if (same) return tokenizer_of_model(tok, o->model, err);
    c->vocab_size = tok->vocab_size;
    return true;
}

static inline bool embeddings_check(const Options *o, Error *err) {
    Config base;
    return folder_read_config(&base, o->init_embeddings, err) && folder_check_weights(&base, o->init_embeddings, err);
}

// Loads what does not depend on the vocabulary, then embedding and head by the plan. t, c: of the model.
static inline bool embeddings_fill(Model *m, const SafeTensors *st, const EmbeddingPlan *plan, const Tokenizer *old,
                                   const ParamTable *t, const Config *c, Error *err) {
    static const int by_token[] = {PARAM_wte, PARAM_head_w};
    ParamTable others = *t;
    others.items = (Param *)mem_alloc(sizeof(Param) * (size_t)t->count);
    memcpy(others.items, t->items, sizeof(Param) * (size_t)t->count);
    for (int i = 0; i < t->count; i++)
        for (int k = 0; k < 2; k++)
            if (t->items[i].kind == by_token[k]) others.items[i].count = 0;
    bool ok = disk_fill(m, MODEL_WEIGHT, st, &others, c, "", err);
    for (int k = 0; ok && k < 2; k++) {
        const Param *p = param_find(t, by_token[k], -1);
        if (p) ok = embedding_set(m, p, disk_find(st, "", disk_part(folder_names(p, c), p, c, 0).name), plan, old, err);
    }
    free(others.items);
    return ok;
}

static inline bool embeddings_load(Model *m, EmbeddingCounts *counts, const ParamTable *t, const Config *c,
                                   const Tokenizer *tok, const char *folder, Error *err) {
    Tokenizer old;
    SafeTensors st;
    Config base;
    memset(counts, 0, sizeof *counts);
    if (!embeddings_open_old(&old, folder, err)) return false;
    counts->same = old.hash == tok->hash;
    if (counts->same || !folder_read_config(&base, folder, err) || !safetensors_open(&st, folder, err)) {
        tokenizer_free(&old);
        return counts->same && folder_load_weights(m, t, c, folder, err);
    }
    ParamTable base_table = param_table(&base);
    EmbeddingPlan plan;
    embedding_plan(&plan, counts, tok, &old, c->vocab_size);
    bool ok = disk_check(&st, &base_table, &base, "", folder, err) && embeddings_fill(m, &st, &plan, &old, t, c, err);
    embedding_plan_free(&plan);
    param_table_free(&base_table);
    safetensors_close(&st);
    tokenizer_free(&old);
    return ok;
}

// For the log.
static inline Path embeddings_said(const EmbeddingCounts *n) {
    if (n->same) return path_of("--init_embeddings: both tokenizers are the same; all rows are copied");
    return path_of("--init_embeddings: %lld rows of tokens are those of the same bytes, %lld those of the same name, "
                   "%lld means of %.2f pieces, %lld the mean of all",
                   (long long)n->bytes, (long long)n->names, (long long)n->means,
                   n->means ? (double)n->pieces / (double)n->means : 0.0, (long long)n->rest);
}

// For the record: a member of "base".
static inline void embeddings_json(Str *s, const EmbeddingCounts *n) {
    str_printf(s,
               ", \"embeddings\": {\"same_tokenizer\": %s, \"same_bytes\": %lld, \"same_name\": %lld, \"means\": %lld, "
               "\"pieces\": %lld, \"mean_of_all\": %lld}",
               n->same ? "true" : "false", (long long)n->bytes, (long long)n->names, (long long)n->means,
               (long long)n->pieces, (long long)n->rest);
}

#endif
