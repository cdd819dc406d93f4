/*
merge.h: a model folder with an adapter added to its weights, W + scale B A: export --adapter --merge --format=folder.

The folder has what the base's has, in one file of weights of one type, and the tokenizer that lies beside the adapter,
or else the base's. Large tensors are read, changed and written in pieces, but for those that lie transposed.
*/
#ifndef LLMC_MERGE_H
#define LLMC_MERGE_H

#include "gguf.h"

// Tensors of the folder, as gguf_read_rows takes them; part: how they lie on disk.
typedef struct {
    GgufTensor tensor;
    DiskPart part;
} MergeTensor;

static inline MergeTensor merge_tensor(const Param *p, int j, const SafeTensors *st, const AdapterFile *a,
                                       const Config *c, int type) {
    MergeTensor m;
    memset(&m, 0, sizeof m);
    m.part = disk_part(folder_names(p, c), p, c, j);
    m.tensor.from = disk_find(st, "", m.part.name);
    m.tensor.rows = m.part.rows, m.tensor.cols = p->cols;
    m.tensor.transposed = m.part.transposed, m.tensor.is_vector = p->is_vector;
    m.tensor.merged = a, m.tensor.param = p, m.tensor.row = m.part.row, m.tensor.type = type;
    return m;
}

static inline bool merge_write_one(SafeWriter *w, const MergeTensor *m, Error *err) {
    const GgufTensor *t = &m->tensor;
    int64_t step = t->transposed ? t->rows : int64_min(t->rows, int64_max(1, GGUF_CHUNK / t->cols));
    size_t most = (size_t)(step * t->cols);
    float *x = (float *)mem_alloc(sizeof(float) * most), *strip = (float *)mem_alloc(sizeof(float) * (size_t)step),
          *turned = t->transposed ? (float *)mem_alloc(sizeof(float) * most) : NULL;
    uint8_t *encoded = (uint8_t *)mem_alloc((size_t)gguf_bytes(t->type, (int64_t)most));
    bool ok = true;
    for (int64_t row = 0; ok && row < t->rows; row += step) {
        int64_t n = int64_min(step, t->rows - row);
        size_t count = (size_t)(n * t->cols);
        ok = gguf_read_rows(x, strip, t, row, n, err);
        if (ok && turned) disk_transpose(turned, x, (int)n, (int)t->cols);
        if (ok && !gguf_encode(encoded, turned ? turned : x, count, t->type))
            ok = error_set(err, "%s: the tensor %s has values that are not finite in this --dtype: try bf16 or f32",
                           t->from->path, t->from->name);
        if (ok) safewriter_data(w, encoded, (size_t)gguf_bytes(t->type, (int64_t)count));
    }
    free(x), free(strip), free(turned), free(encoded);
    return ok;
}

static inline bool merge_write(const char *path, const SafeTensors *st, const AdapterFile *a, const Config *c,
                               SafeType type, Error *err) {
    int stored = type == ST_F16 ? GGML_F16 : type == ST_BF16 ? GGML_BF16 : GGML_F32;
    ParamTable t = param_table(c);
    SafeWriter w;
    bool ok = disk_check(st, &t, c, "", path, err) && safewriter_open(&w, path, err), opened = ok;
    for (int writing = 0; ok && writing < 2; writing++) {
        if (writing) safewriter_begin_data(&w);
        for (int i = 0; ok && i < t.count; i++)
            for (int j = 0; ok && j < disk_count(folder_names(&t.items[i], c), c); j++) {
                MergeTensor m = merge_tensor(&t.items[i], j, st, a, c, stored);
                int64_t shape[2];
                int ndim = disk_shape(shape, &m.part, &t.items[i]);
                if (writing) ok = merge_write_one(&w, &m, err);
                else safewriter_declare(&w, m.part.name, type, ndim, shape);
            }
    }
    param_table_free(&t);
    if (opened && !ok) safewriter_abort(&w);
    return ok && safewriter_commit(&w, err);
}

// The tokenizer beside an adapter, or else its base's.
static inline bool merge_tokenizer(Tokenizer *tok, const char *base, const char *adapter, Error *err) {
    Path own = path_of("%s/tokenizer.json", adapter), usual = path_of("%s/tokenizer.json", base);
    FileKind kind = FILE_ABSENT;
    if (*adapter && !path_look(own.text, &kind, err)) return false;
    return tokenizer_open(tok, kind == FILE_ABSENT ? usual.text : own.text, err);
}

// Writes the folder `out`, which must not be there: whole, or not at all. dtype: DTYPE_F32, _F16 or _BF16.
static inline bool merge_folder(const char *base, const char *adapter, const char *out, int dtype, Error *err) {
    Config c;
    AdapterFile a;
    SafeTensors st;
    Tokenizer tok;
    FileKind kind;
    if (!path_look(out, &kind, err)) return false;
    if (kind != FILE_ABSENT) return error_set(err, "--out=%s is there: name a folder that is to be made", out);
    SafeType type = dtype == DTYPE_F16 ? ST_F16 : dtype == DTYPE_BF16 ? ST_BF16 : ST_F32;
    if (dtype == DTYPE_Q8_0) return error_set(err, "--dtype=q8_0 is for GGUF; a folder has f32, f16 or bf16");
    if (!folder_read_config(&c, base, err) || !adapter_open(&a, &c, base, adapter, err)) return false;
    if (!safetensors_open(&st, base, err)) return adapter_close(&a), false;
    bool ok = merge_tokenizer(&tok, base, adapter, err);
    if (ok) {
        Path temporary = path_of("%s.tmp", out), weights = path_of("%s/model.safetensors", temporary.text);
        ok = path_remove_tree(temporary.text, err) && path_make_folder(temporary.text, err) &&
             merge_write(weights.text, &st, &a, &c, type, err) &&
             folder_write_config_as(temporary.text, &c, &tok, type, NULL, err) &&
             tokenizer_write_folder(&tok, temporary.text, c.max_seq_len, NULL, err) &&
             path_sync_folder(temporary.text, err);
        if (ok && rename(temporary.text, out) != 0)
            ok = error_set(err, "cannot rename %s: %s", temporary.text, strerror(errno));
        if (!ok) path_remove_tree(temporary.text, NULL);
        tokenizer_free(&tok);
    }
    safetensors_close(&st);
    adapter_close(&a);
    return ok;
}

#endif
