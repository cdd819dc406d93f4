/*
foreign.h: the weights of a model that another program's file holds, on their way into a model folder.

    foreign_part(&m, &part, p)           one more tensor of the folder; the reader says where its numbers lie
    foreign_types(&m, err)               in which types they will be written
    foreign_write(&m, path, err)         all of them as a safetensors file

A reader (gguf_read.h, llmc_read.h) maps its file, checks it, and fills a ForeignModel: a config, and for each tensor of
the folder, in the order of naming.h, where its numbers lie and how. Nothing is kept in memory but the rows in flight,
and one whole matrix where it has to be transposed.

Types. No number changes. What is stored in 16 bits keeps its type, q8_0 becomes float32 (a product of 11 bits and 8
fits neither of 16 bits). Programs that keep matrices in 16 bits often keep vectors in float32: where all of one's
numbers are the same in the matrices' type it is written in that, so that a folder that was in one type is so again;
else it stays float32, and config.json then says float32, so that Transformers rounds nothing.
*/
#ifndef LLMC_FOREIGN_H
#define LLMC_FOREIGN_H

#include "gguf.h"

#define FOREIGN_CHUNK ((int64_t)1 << 18) // numbers in flight; may be tuned

// One tensor of the folder, and where it comes from.
typedef struct {
    DiskPart part;       // its name and its rows of a parameter
    char from[128];      // its name in the file, for messages
    const uint8_t *data; // (rows, cols) of `type`, perhaps unaligned
    int type;            // GGML_F32 ...
    int64_t rows, cols;  // cols of a vector: 1
    int head_size;       // not 0: rows of each head change places (rotary pairs)
    bool is_vector;
    SafeType written;
} ForeignTensor;

typedef struct {
    const char *path;
    Config config;
    ParamTable table;
    ForeignTensor *tensors; // (count)
    int count;
    size_t capacity;
    SafeType type; // of all tensors, or ST_F32 where they have several
} ForeignModel;

static inline void foreign_free(ForeignModel *m) {
    if (m->table.items) param_table_free(&m->table);
    free(m->tensors);
    memset(m, 0, sizeof *m);
}

// Adds a tensor; its place in the file is still to be set.
static inline ForeignTensor *foreign_part(ForeignModel *m, const DiskPart *part, const Param *p) {
    m->tensors = (ForeignTensor *)mem_grow(m->tensors, &m->capacity, (size_t)m->count + 1, sizeof(ForeignTensor));
    ForeignTensor *t = &m->tensors[m->count++];
    memset(t, 0, sizeof *t);
    t->part = *part;
    memcpy(t->from, part->name, sizeof t->from);
    t->rows = part->rows, t->cols = p->cols;
    t->is_vector = p->is_vector;
    return t;
}

// ---------------------------------------------------------------- numbers

// out (n) = numbers first .. first + n of a type; q8_0: first and n are multiples of 32.
static inline void foreign_decode(float *out, const uint8_t *data, int type, int64_t first, int64_t n) {
    const uint8_t *p = data + gguf_bytes(type, first);
    uint16_t h;
    if (type == GGML_F32) {
        memcpy(out, p, sizeof(float) * (size_t)n);
        return;
    }
    if (type == GGML_Q8_0) {
        for (int64_t at = 0; at < n; at += GGUF_Q8_BLOCK, p += GGUF_Q8_BYTES) {
            memcpy(&h, p, 2);
            float d = f16_to_float(h);
            for (int i = 0; i < GGUF_Q8_BLOCK; i++) out[at + i] = d * (float)(int8_t)p[2 + i];
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy(&h, p + 2 * i, 2);
        out[i] = type == GGML_F16 ? f16_to_float(h) : bf16_to_float(h);
    }
}

// out (n, cols) = rows row .. row + n as the folder has them, before they are transposed. False: one is not finite.
static inline bool foreign_rows(float *out, const ForeignTensor *t, int64_t row, int64_t n, const char *path,
                                Error *err) {
    int64_t half = t->head_size / 2;
    if (!half) foreign_decode(out, t->data, t->type, row * t->cols, n * t->cols);
    for (int64_t r = 0; half && r < n; r++) { // row i of half h of a head is number 2i + h there
        int64_t in_head = (row + r) % t->head_size, source = row + r - in_head + 2 * (in_head % half) + in_head / half;
        foreign_decode(out + r * t->cols, t->data, t->type, source * t->cols, t->cols);
    }
    size_t count = (size_t)(n * t->cols), bad = disk_not_finite(out, count);
    if (bad == count) return true;
    return error_set(err, "%s: the tensor %s holds %g at number %lld; every weight must be finite", path, t->from,
                     (double)out[bad], (long long)(row * t->cols + (int64_t)bad));
}

static inline float foreign_rounded(float x, SafeType type) {
    if (type == ST_F16) return f16_to_float(float_to_f16(x));
    return type == ST_BF16 ? bf16_to_float(float_to_bf16(x)) : x;
}

// Rows of a tensor at a time: about FOREIGN_CHUNK numbers, or all, where they are to be transposed.
static inline int64_t foreign_step(const ForeignTensor *t) {
    int64_t step = int64_max(FOREIGN_CHUNK / t->cols, 1);
    return t->part.transposed ? t->rows : int64_min(step, t->rows);
}

// Whether all numbers of a tensor are the same in a type of 16 bits.
static inline bool foreign_fits(bool *fits, const ForeignTensor *t, SafeType type, const char *path, Error *err) {
    int64_t step = foreign_step(t);
    float *x = (float *)mem_alloc(sizeof(float) * (size_t)(step * t->cols));
    bool ok = true;
    *fits = true;
    for (int64_t row = 0; ok && *fits && row < t->rows; row += step) {
        int64_t n = int64_min(step, t->rows - row);
        ok = foreign_rows(x, t, row, n, path, err);
        for (int64_t i = 0; ok && i < n * t->cols; i++) *fits = *fits && foreign_rounded(x[i], type) == x[i];
    }
    free(x);
    return ok;
}

// Chooses the types that the tensors are written in.
static inline bool foreign_types(ForeignModel *m, Error *err) {
    int narrow = -1; // the one type of 16 bits that there is, ST_F32: there are several, or blocks
    for (int i = 0; i < m->count; i++) {
        int type = m->tensors[i].type;
        if (type == GGML_F32) continue;
        SafeType own = type == GGML_F16 ? ST_F16 : type == GGML_BF16 ? ST_BF16 : ST_F32;
        narrow = narrow < 0 || narrow == (int)own ? (int)own : ST_F32;
    }
    m->type = narrow < 0 ? ST_F32 : (SafeType)narrow;
    for (int i = 0; i < m->count; i++) {
        ForeignTensor *t = &m->tensors[i];
        bool fits = true;
        t->written = t->type == GGML_F16 ? ST_F16 : t->type == GGML_BF16 ? ST_BF16 : ST_F32;
        if (narrow < 0 || narrow == ST_F32 || t->type != GGML_F32) continue;
        if (!foreign_fits(&fits, t, (SafeType)narrow, m->path, err)) return false;
        if (fits) t->written = (SafeType)narrow;
        else m->type = ST_F32;
    }
    return true;
}

// ---------------------------------------------------------------- writing

static inline void foreign_encode(uint8_t *out, const float *x, size_t n, SafeType type) {
    if (type == ST_F32) memcpy(out, x, n * sizeof(float));
    for (size_t i = 0; type != ST_F32 && i < n; i++) {
        uint16_t h = type == ST_F16 ? float_to_f16(x[i]) : float_to_bf16(x[i]);
        memcpy(out + 2 * i, &h, 2);
    }
}

static inline bool foreign_write_one(SafeWriter *w, const ForeignTensor *t, const char *path, Error *err) {
    int64_t step = foreign_step(t);
    size_t most = (size_t)(step * t->cols), size = safetype_size(t->written);
    float *x = (float *)mem_alloc(sizeof(float) * most),
          *turned = (float *)mem_alloc(sizeof(float) * (t->part.transposed ? most : 1));
    uint8_t *encoded = (uint8_t *)mem_alloc(most * size);
    bool ok = true;
    for (int64_t row = 0; ok && row < t->rows; row += step) {
        int64_t n = int64_min(step, t->rows - row);
        size_t count = (size_t)(n * t->cols);
        ok = foreign_rows(x, t, row, n, path, err);
        if (ok && t->part.transposed) disk_transpose(turned, x, (int)t->rows, (int)t->cols);
        if (!ok) break;
        foreign_encode(encoded, t->part.transposed ? turned : x, count, t->written);
        safewriter_data(w, encoded, count * size);
    }
    free(x);
    free(turned);
    free(encoded);
    return ok;
}

static inline bool foreign_write(const ForeignModel *m, const char *path, Error *err) {
    SafeWriter w;
    if (!safewriter_open(&w, path, err)) return false;
    for (int i = 0; i < m->count; i++) {
        const ForeignTensor *t = &m->tensors[i];
        int64_t shape[2] = {t->part.transposed ? t->cols : t->rows, t->part.transposed ? t->rows : t->cols};
        int ndim = t->part.scalar ? 0 : t->is_vector ? 1 : 2;
        safewriter_declare(&w, t->part.name, t->written, ndim, shape);
    }
    safewriter_begin_data(&w);
    for (int i = 0; i < m->count; i++)
        if (!foreign_write_one(&w, &m->tensors[i], m->path, err)) {
            safewriter_abort(&w);
            return false;
        }
    return safewriter_commit(&w, err);
}

#endif
