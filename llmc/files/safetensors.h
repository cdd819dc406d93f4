/*
safetensors.h: reads and writes tensors in the safetensors format.

Format (github.com/huggingface/safetensors, README): 8 bytes with the length N of the header as a
little-endian number; N bytes of JSON, an object from each tensor's name to {dtype, shape,
data_offsets: [begin, end)} counted from the end of the header, plus "__metadata__" with strings;
then the tensors' bytes, row-major, little-endian, without gaps.

Reading: safetensors_open() takes a file, or a model folder with model.safetensors or with
model.safetensors.index.json and the files it lists (the order in which Transformers looks). The
files are memory-mapped, not copied; all tensors of all files appear in one table. Everything that the
format promises is checked before a tensor can be touched: lengths, types, shapes against sizes,
offsets, gaps, overlaps, names that stand twice, trailing bytes. A `data` pointer need not be
aligned to the type: read it with memcpy or safetensors_to_f32(). A file must not be shortened
by others while it is open (the kernel answers that with SIGBUS).

Writing: SafeWriter; declare all tensors, then stream their bytes in that order. On disk they lie
ordered by the size of their type, as the reference implementation orders them, since PyTorch can
only map tensors that are aligned. The file appears under its name when all is written (OutFile).

Limits: 8 dimensions; headers of 100 MB, as in the reference implementation; types of less than a
byte are refused.
*/
#ifndef LLMC_SAFETENSORS_H
#define LLMC_SAFETENSORS_H

#include "../base/file.h"
#include "../base/half.h"
#include "../base/hash.h"
#include "../base/json.h"

#define ST_MAX_DIMS 8
#define ST_MAX_HEADER 100000000u

// clang-format off
#define SAFE_TYPES(X) /* by size */                                                                                    \
    X(ST_BOOL, "BOOL") X(ST_U8, "U8") X(ST_I8, "I8") X(ST_F8_E5M2, "F8_E5M2") X(ST_F8_E4M3, "F8_E4M3")                 \
    X(ST_I16, "I16") X(ST_U16, "U16") X(ST_F16, "F16") X(ST_BF16, "BF16")                                              \
    X(ST_I32, "I32") X(ST_U32, "U32") X(ST_F32, "F32") X(ST_F64, "F64") X(ST_I64, "I64") X(ST_U64, "U64")
// clang-format on
typedef enum { SAFE_TYPES(CHOICE_ENUM) ST_TYPES } SafeType;

static inline const char *safetype_name(SafeType type) {
    static const char *const names[ST_TYPES] = {SAFE_TYPES(CHOICE_NAME)};
    return names[type];
}

static inline size_t safetype_size(SafeType type) {
    return type <= ST_F8_E4M3 ? 1 : type <= ST_BF16 ? 2 : type <= ST_F32 ? 4 : 8;
}

typedef struct {
    const char *name;
    const char *path; // the file it lies in
    SafeType dtype;
    int ndim;
    int64_t shape[ST_MAX_DIMS];
    int64_t elements; // the product of shape; 1 for a scalar
    size_t bytes;
    const void *data; // (elements) of dtype, perhaps unaligned
} SafeTensor;

typedef struct {
    const char *name;
    int index; // of the tensor or file that has this name
} SafeName;

typedef struct {
    SafeTensor *tensors; // (count) in the order of the headers
    int count;
    size_t capacity;
    SafeName *names;   // (count) sorted: no names that somebody chose make a search slow, as they would a hash table
    MappedFile *files; // (paths.count)
    JsonDoc *headers;  // (paths.count) own the names
    StrList paths;
} SafeTensors;

// "(2, 3)", for messages.
static inline const char *safetensor_shape(char text[160], int ndim, const int64_t *shape) {
    size_t used = (size_t)snprintf(text, 160, "(");
    for (int i = 0; i < ndim && used < 130; i++)
        used += (size_t)snprintf(text + used, 160 - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + used, 160 - used, ")");
    return text;
}

// ---------------------------------------------------------------- reading

static inline void safetensors_close(SafeTensors *st) {
    for (int i = 0; i < st->paths.count; i++) {
        file_unmap(&st->files[i]);
        json_free(&st->headers[i]);
    }
    free(st->files);
    free(st->headers);
    free(st->tensors);
    free(st->names);
    str_list_free(&st->paths);
    memset(st, 0, sizeof *st);
}

// Names what a file is that has another format than the one that was expected.
static inline const char *safetensors_foreign(const uint8_t *p, size_t n) {
    if (n >= 4 && memcmp(p, "PK\3\4", 4) == 0)
        return "; it is a zip archive, perhaps a PyTorch .bin file: convert it with Transformers "
               "(safe_serialization=True)";
    if (n >= 4 && memcmp(p, "GGUF", 4) == 0) return "; it is a GGUF file";
    if (n >= 8 && memcmp(p, "version ", 8) == 0)
        return "; it is a pointer of git-lfs: fetch the file itself with `git lfs pull`";
    if (n >= 1 && p[0] == '<') return "; it looks like a web page, perhaps an error saved by a download";
    if (n >= 9 && p[0] == 0 && p[1] == 0 && p[2] == 0 && p[3] == 0 && p[8] == '{')
        return "; its length is in foreign byte order (big-endian)";
    return "";
}

// One entry of the header. `begin` is filled for the check of the layout.
static inline bool safetensors_entry(SafeTensor *t, uint64_t *begin, const Json *entry, const uint8_t *data,
                                     size_t data_size, const char *path, Error *err) {
    memset(t, 0, sizeof *t);
    t->name = entry->key;
    t->path = path;
    for (uint32_t i = 0; i < entry->key_size; i++)
        if ((unsigned char)entry->key[i] < 0x20)
            return error_set(err, "%s: a tensor's name holds control characters; the file is damaged", path);
    const Json *shape = json_get(entry, "shape"), *offsets = json_get(entry, "data_offsets");
    const char *dtype = json_string(json_get(entry, "dtype"), NULL);
    if (!dtype || !json_is(shape, JSON_ARRAY) || !json_is(offsets, JSON_ARRAY) || offsets->size != 2)
        return error_set(err, "%s: tensor %.200s must have dtype, shape and two data_offsets; the header is damaged",
                         path, t->name);
    int type = 0;
    while (type < ST_TYPES && strcmp(dtype, safetype_name((SafeType)type)) != 0) type++;
    if (type == ST_TYPES)
        return error_set(err, "%s: tensor %.200s has the type %.40s, which is not supported", path, t->name, dtype);
    t->dtype = (SafeType)type;
    if (shape->size > ST_MAX_DIMS)
        return error_set(err, "%s: tensor %.200s has %u dimensions; at most %d are supported", path, t->name,
                         shape->size, ST_MAX_DIMS);
    bool whole = true, fits = true;
    t->elements = 1;
    for (const Json *d = shape->child; d; d = d->next) {
        int64_t size = json_integer(d, -1);
        whole = whole && size >= 0;
        t->shape[t->ndim++] = size;
        // A zero makes the product zero, however large the others are.
        if (size == 0) t->elements = 0;
        else if (whole && t->elements != 0) fits = fits && !__builtin_mul_overflow(t->elements, size, &t->elements);
    }
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] == 0) t->elements = 0, fits = true;
    int64_t first = json_integer(offsets->child, -1), last = json_integer(offsets->child->next, -1), bytes = 0;
    if (!whole || first < 0 || last < first)
        return error_set(err,
                         "%s: tensor %.200s has a shape or data_offsets that are not whole numbers in order; the "
                         "header is damaged",
                         path, t->name);
    if (!fits || __builtin_mul_overflow(t->elements, (int64_t)safetype_size(t->dtype), &bytes) ||
        bytes != last - first) {
        char text[160];
        return error_set(err,
                         "%s: tensor %.200s of shape %s and type %s does not take the %lld bytes of its data_offsets; "
                         "the header is damaged",
                         path, t->name, safetensor_shape(text, t->ndim, t->shape), dtype, (long long)(last - first));
    }
    if ((uint64_t)last > data_size)
        return error_set(err,
                         "%s is truncated: tensor %.200s ends at byte %lld of the data, the file has %zu; copy it "
                         "again",
                         path, t->name, (long long)last, data_size);
    t->bytes = (size_t)bytes;
    t->data = data + first;
    *begin = (uint64_t)first;
    return true;
}

typedef struct {
    uint64_t begin, end;
    const char *name;
} SafeSpan;

static inline int safetensors_compare_spans(const void *a, const void *b) {
    const SafeSpan *x = (const SafeSpan *)a, *y = (const SafeSpan *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

// Reads the header of one mapped file into the table.
static inline bool safetensors_header(SafeTensors *st, JsonDoc *doc, const MappedFile *f, const char *path,
                                      Error *err) {
    if (f->size < 10)
        return error_set(err, "%s is not a safetensors file: it has %zu bytes%s", path, f->size,
                         f->size ? "" : "; it is empty");
    uint64_t length;
    memcpy(&length, f->data, 8);
    if (length > ST_MAX_HEADER || f->data[8] != '{')
        return error_set(err, "%s is not a safetensors file: it does not begin with a length and a JSON object%s", path,
                         safetensors_foreign(f->data, f->size));
    if (length > f->size - 8)
        return error_set(err,
                         "%s is truncated: a header of %llu bytes is announced, the file has %zu bytes; copy it again",
                         path, (unsigned long long)length, f->size);
    Error why;
    const Json *root = json_parse(doc, (const char *)f->data + 8, (size_t)length, &why);
    if (!root) return error_set(err, "%s: the header is damaged: %.700s", path, why.text);
    const uint8_t *data = f->data + 8 + length;
    size_t data_size = f->size - 8 - (size_t)length, n = 0;
    SafeSpan *spans = (SafeSpan *)mem_alloc(root->size * sizeof(SafeSpan));
    bool ok = true;
    for (const Json *entry = root->child; ok && entry; entry = entry->next) {
        if (strcmp(entry->key, "__metadata__") == 0) {
            for (const Json *m = entry->child; m; m = m->next) ok = ok && m->type == JSON_STRING;
            if (!ok || entry->type != JSON_OBJECT)
                ok = error_set(err, "%s: __metadata__ must hold strings; the header is damaged", path);
            continue;
        }
        st->tensors = (SafeTensor *)mem_grow(st->tensors, &st->capacity, (size_t)st->count + 1, sizeof(SafeTensor));
        SafeTensor *t = &st->tensors[st->count];
        ok = safetensors_entry(t, &spans[n].begin, entry, data, data_size, path, err);
        if (!ok) break;
        spans[n].end = spans[n].begin + t->bytes;
        spans[n++].name = t->name;
        st->count++;
    }
    if (ok && n > 1) qsort(spans, n, sizeof(SafeSpan), safetensors_compare_spans);
    uint64_t end = 0;
    for (size_t i = 0; ok && i < n; end = spans[i++].end) {
        if (spans[i].begin < end)
            ok = error_set(err, "%s: the tensors %.200s and %.200s overlap; the header is damaged", path,
                           spans[i - 1].name, spans[i].name);
        else if (spans[i].begin > end)
            ok = error_set(err, "%s: %llu bytes before tensor %.200s belong to no tensor; the header is damaged", path,
                           (unsigned long long)(spans[i].begin - end), spans[i].name);
    }
    if (ok && end != data_size)
        ok = error_set(err, "%s has %llu bytes after its last tensor; it is damaged or was not written by one program",
                       path, (unsigned long long)(data_size - end));
    free(spans);
    return ok;
}

static inline bool safetensors_add_file(SafeTensors *st, const char *path, Error *err) {
    size_t n = (size_t)st->paths.count;
    st->files = (MappedFile *)realloc(st->files, (n + 1) * sizeof(MappedFile));
    st->headers = (JsonDoc *)realloc(st->headers, (n + 1) * sizeof(JsonDoc));
    if (!st->files || !st->headers) fail("out of memory");
    if (!file_map(&st->files[n], path, err)) return false;
    memset(&st->headers[n], 0, sizeof(JsonDoc));
    str_list_add(&st->paths, path);
    return safetensors_header(st, &st->headers[n], &st->files[n], st->paths.items[n], err);
}

static inline int safetensors_name_order(const void *a, const void *b) {
    const SafeName *x = (const SafeName *)a, *y = (const SafeName *)b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

// NULL: there is no tensor of that name.
static inline const SafeTensor *safetensors_find(const SafeTensors *st, const char *name) {
    int first = 0, last = st->names ? st->count : 0;
    while (first < last) {
        int middle = first + (last - first) / 2, order = strcmp(st->names[middle].name, name);
        if (order == 0) return &st->tensors[st->names[middle].index];
        if (order < 0) first = middle + 1;
        else last = middle;
    }
    return NULL;
}

static inline bool safetensors_make_table(SafeTensors *st, Error *err) {
    st->names = (SafeName *)mem_alloc((size_t)st->count * sizeof(SafeName));
    for (int i = 0; i < st->count; i++) st->names[i].name = st->tensors[i].name, st->names[i].index = i;
    qsort(st->names, (size_t)st->count, sizeof(SafeName), safetensors_name_order);
    for (int i = 1; i < st->count; i++)
        if (strcmp(st->names[i - 1].name, st->names[i].name) == 0)
            return error_set(err, "tensor %.200s stands twice: in %s and in %s", st->names[i].name,
                             st->tensors[st->names[i - 1].index].path, st->tensors[st->names[i].index].path);
    return true;
}

// Opens the files that an index names, each once, in the order in which they are first named.
static inline bool safetensors_add_files(SafeTensors *st, const char *folder, const char *index_path, const Json *map,
                                         Error *err) {
    bool ok = true;
    int n = 0;
    SafeName *files = (SafeName *)mem_alloc(map->size * sizeof(SafeName));
    for (const Json *j = map->child; ok && j; j = j->next) {
        const char *name = json_string(j, "");
        if (!*name || strchr(name, '/') || strlen(name) != j->size)
            ok = error_set(err, "%s: weight_map must give a plain file name for tensor %.200s, not \"%.200s\"",
                           index_path, j->key, name);
        files[n].name = name, files[n].index = n;
        n++;
    }
    char *again = (char *)mem_alloc(map->size); // (map->size): named before
    if (ok) qsort(files, (size_t)n, sizeof(SafeName), safetensors_name_order);
    for (int i = 1; ok && i < n; i++) again[files[i].index] = strcmp(files[i - 1].name, files[i].name) == 0;
    n = 0;
    for (const Json *j = map->child; ok && j; j = j->next)
        if (!again[n++]) ok = safetensors_add_file(st, path_of("%.3000s/%.900s", folder, json_string(j, "")).text, err);
    free(files);
    free(again);
    return ok;
}

// The files of a folder that an index lists, each once, and then whether each tensor is where the index says.
static inline bool safetensors_add_index(SafeTensors *st, const char *folder, const char *index_path, Error *err) {
    JsonDoc doc;
    const Json *map = json_get(json_load(&doc, index_path, err), "weight_map");
    if (!doc.root) return false;
    bool ok = json_is(map, JSON_OBJECT) && map->size > 0;
    if (!ok) error_set(err, "%s: expected an object weight_map from names of tensors to names of files", index_path);
    ok = ok && safetensors_add_files(st, folder, index_path, map, err) && safetensors_make_table(st, err);
    for (const Json *j = ok ? map->child : NULL; ok && j; j = j->next) {
        const SafeTensor *t = safetensors_find(st, j->key);
        if (!t || strcmp(strrchr(t->path, '/') + 1, json_string(j, "")) != 0)
            ok = error_set(err, "%s lists tensor %.200s in %.200s, but it is not there", index_path, j->key,
                           json_string(j, ""));
    }
    json_free(&doc);
    return ok;
}

// The error of a folder without weights, which says what else may be meant. Returns false.
static inline bool safetensors_none(const char *folder, const char *single, const char *index, Error *err) {
    StrList names;
    memset(&names, 0, sizeof names);
    if (!folder_list(&names, folder, err)) return false;
    const char *pickled = NULL, *shard = NULL;
    for (int i = 0; i < names.count; i++) {
        const char *name = names.items[i];
        if (str_ends_with(name, ".bin") || str_ends_with(name, ".pt") || str_ends_with(name, ".pth")) pickled = name;
        if (str_ends_with(name, ".safetensors")) shard = name;
    }
    error_set(err, "the folder %.1000s has neither %s nor %s%s%.200s%s", folder, single, index,
              pickled || shard ? "; it has " : "",
              pickled ? pickled
              : shard ? shard
                      : "",
              pickled ? ": save the model again with Transformers (safe_serialization=True)"
              : shard ? ": files without their index are read by nobody; fetch the folder again"
                      : "");
    str_list_free(&names);
    return false;
}

// Opens the file `single` of a folder, or if it is not there the files that `index` lists. On false nothing is left
// open.
static inline bool safetensors_open_folder(SafeTensors *st, const char *folder, const char *single, const char *index,
                                           Error *err) {
    memset(st, 0, sizeof *st);
    Path one = path_of("%s/%s", folder, single), list = path_of("%s/%s", folder, index);
    FileKind first, second;
    bool ok = path_look(one.text, &first, err) && path_look(list.text, &second, err);
    if (ok && first != FILE_ABSENT) ok = safetensors_add_file(st, one.text, err) && safetensors_make_table(st, err);
    else if (ok && second != FILE_ABSENT) ok = safetensors_add_index(st, folder, list.text, err);
    else if (ok) ok = safetensors_none(folder, single, index, err);
    if (!ok) safetensors_close(st);
    return ok;
}

// Opens a file or a model folder. On false nothing is left open.
static inline bool safetensors_open(SafeTensors *st, const char *file_or_folder, Error *err) {
    FileKind kind;
    if (!path_look(file_or_folder, &kind, err)) return false;
    if (kind == FILE_FOLDER)
        return safetensors_open_folder(st, file_or_folder, "model.safetensors", "model.safetensors.index.json", err);
    memset(st, 0, sizeof *st);
    bool ok = safetensors_add_file(st, file_or_folder, err) && safetensors_make_table(st, err);
    if (!ok) safetensors_close(st);
    return ok;
}

// Whether a range lies in a tensor whose type is floating; the types of 8 bits need scales and are refused.
static inline bool safetensors_check_range(const SafeTensor *t, int64_t first, int64_t count, Error *err) {
    if (t->dtype != ST_F32 && t->dtype != ST_F64 && t->dtype != ST_F16 && t->dtype != ST_BF16)
        return error_set(err, "%s: tensor %.200s has the type %s; expected F32, F64, F16 or BF16", t->path, t->name,
                         safetype_name(t->dtype));
    if (first < 0 || count < 0 || first > t->elements || count > t->elements - first) {
        char text[160];
        return error_set(err, "%s: %lld elements from %lld on were asked for of tensor %.200s, its shape is %s",
                         t->path, (long long)count, (long long)first, t->name,
                         safetensor_shape(text, t->ndim, t->shape));
    }
    return true;
}

// Elements first .. first + count have been read, and will not be soon again.
static inline void safetensors_forget(const SafeTensors *st, const SafeTensor *t, int64_t first, int64_t count) {
    const uint8_t *p = (const uint8_t *)t->data + (size_t)first * safetype_size(t->dtype);
    for (int i = 0; i < st->paths.count; i++) {
        const MappedFile *f = &st->files[i];
        if (p >= f->data && p < f->data + f->size) file_forget(f, p, (size_t)count * safetype_size(t->dtype));
    }
}

// out (count) = elements first .. first+count of a tensor of type F32, F64, F16 or BF16, as float.
static inline bool safetensors_to_f32(float *out, const SafeTensor *t, int64_t first, int64_t count, Error *err) {
    if (!safetensors_check_range(t, first, count, err)) return false;
    const uint8_t *p = (const uint8_t *)t->data + (size_t)first * safetype_size(t->dtype);
    size_t n = (size_t)count;
    if (n == 0) return true;
    uint16_t h;
    double d;
    switch (t->dtype) {
    case ST_F32: memcpy(out, p, n * 4); break;
    case ST_BF16:
        for (size_t i = 0; i < n; i++) memcpy(&h, p + 2 * i, 2), out[i] = bf16_to_float(h);
        break;
    case ST_F16:
        for (size_t i = 0; i < n; i++) memcpy(&h, p + 2 * i, 2), out[i] = f16_to_float(h);
        break;
    default:
        for (size_t i = 0; i < n; i++) memcpy(&d, p + 8 * i, 8), out[i] = (float)d;
        break;
    }
    return true;
}

// The same as double, for the build whose arithmetic is double.
static inline bool safetensors_to_f64(double *out, const SafeTensor *t, int64_t first, int64_t count, Error *err) {
    float piece[1024];
    if (!safetensors_check_range(t, first, count, err)) return false;
    if (t->dtype == ST_F64 && count > 0) memcpy(out, (const uint8_t *)t->data + 8 * first, 8 * (size_t)count);
    for (int64_t at = 0, n; t->dtype != ST_F64 && at < count; at += n) { // a float holds all other types exactly
        n = int64_min(count - at, 1024);
        safetensors_to_f32(piece, t, first + at, n, err);
        for (int64_t i = 0; i < n; i++) out[at + i] = piece[i];
    }
    return true;
}

// ---------------------------------------------------------------- writing

typedef struct {
    char *name;
    SafeType dtype;
    int ndim;
    int64_t shape[ST_MAX_DIMS];
    uint64_t bytes, offset; // offset in the data
} SafeDeclared;

typedef struct {
    OutFile out;
    Str metadata; // members of __metadata__, each followed by a comma
    SafeDeclared *tensors;
    int count;
    size_t capacity;
    uint64_t header;  // bytes before the data; 0: the data has not begun
    int current;      // the tensor that takes the next bytes
    uint64_t written; // of the current tensor
    Error mistake;    // the first wrong call; safewriter_commit reports it
    bool summed;      // set after safewriter_open: sum is kept, and the tensors are all of one size of type
    Xxh64 sum;        // of the file
} SafeWriter;

static inline bool safewriter_open(SafeWriter *w, const char *path, Error *err) {
    memset(w, 0, sizeof *w);
    xxh64_init(&w->sum, 0);
    return out_open(&w->out, path, err);
}

static inline void safewriter_bytes(SafeWriter *w, const void *bytes, size_t n) {
    if (w->summed) xxh64_update(&w->sum, bytes, n);
    out_write(&w->out, bytes, n);
}

static inline void safewriter_free(SafeWriter *w) {
    for (int i = 0; i < w->count; i++) free(w->tensors[i].name);
    free(w->tensors);
    free(w->metadata.data);
    memset(w, 0, sizeof *w);
}

// Gives up; nothing is left on disk.
static inline void safewriter_abort(SafeWriter *w) {
    out_abort(&w->out);
    safewriter_free(w);
}

static inline void safewriter_mistake(SafeWriter *w, const char *what, const char *name) {
    if (!w->mistake.text[0]) error_set(&w->mistake, "cannot write %s: %s %.200s", w->out.path.text, what, name);
}

// A line of metadata; {"format": "pt"} is always there, Transformers asks for it. Before the data begins.
static inline void safewriter_metadata(SafeWriter *w, const char *key, const char *value) {
    json_escape(&w->metadata, key, strlen(key));
    str_puts(&w->metadata, ":");
    json_escape(&w->metadata, value, strlen(value));
    str_puts(&w->metadata, ",");
}

// Announces a tensor; shape (ndim). Mistakes are kept for safewriter_commit.
static inline void safewriter_declare(SafeWriter *w, const char *name, SafeType dtype, int ndim, const int64_t *shape) {
    if (w->header || ndim < 0 || ndim > ST_MAX_DIMS || strcmp(name, "__metadata__") == 0) {
        safewriter_mistake(w, "declared too late, with more than 8 dimensions, or with a reserved name: tensor", name);
        return;
    }
    w->tensors = (SafeDeclared *)mem_grow(w->tensors, &w->capacity, (size_t)w->count + 1, sizeof(SafeDeclared));
    SafeDeclared *t = &w->tensors[w->count++];
    memset(t, 0, sizeof *t);
    t->name = str_copy(name);
    t->dtype = dtype;
    t->ndim = ndim;
    t->bytes = safetype_size(dtype);
    for (int i = 0; i < ndim; i++) {
        t->shape[i] = shape[i];
        if (shape[i] < 0 || __builtin_mul_overflow(t->bytes, (uint64_t)shape[i], &t->bytes))
            safewriter_mistake(w, "impossible shape of tensor", name);
    }
}

static inline int safetensors_compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Places the tensors, larger types first, and writes the header.
static inline void safewriter_begin_data(SafeWriter *w) {
    if (w->header) {
        safewriter_mistake(w, "the data was begun twice", "");
        return;
    }
    uint64_t offset = 0;
    Str text;
    memset(&text, 0, sizeof text);
    str_printf(&text, "{\"__metadata__\":{%s\"format\":\"pt\"}", w->metadata.data ? w->metadata.data : "");
    const char **names = (const char **)mem_alloc((size_t)w->count * sizeof(char *));
    for (size_t size = 8; size > 0; size /= 2)
        for (int i = 0; i < w->count; i++) {
            SafeDeclared *t = &w->tensors[i];
            if (safetype_size(t->dtype) != size) continue;
            t->offset = offset;
            offset += t->bytes;
            str_puts(&text, ",");
            json_escape(&text, t->name, strlen(t->name));
            str_printf(&text, ":{\"dtype\":\"%s\",\"shape\":[", safetype_name(t->dtype));
            for (int k = 0; k < t->ndim; k++) str_printf(&text, "%s%lld", k ? "," : "", (long long)t->shape[k]);
            str_printf(&text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)t->offset,
                       (unsigned long long)offset);
        }
    for (int i = 0; i < w->count; i++) names[i] = w->tensors[i].name;
    qsort(names, (size_t)w->count, sizeof(char *), safetensors_compare_names);
    for (int i = 1; i < w->count; i++)
        if (strcmp(names[i - 1], names[i]) == 0) safewriter_mistake(w, "declared twice: tensor", names[i]);
    free(names);
    str_puts(&text, "}");
    while (text.size % 8) str_puts(&text, " ");
    if (text.size > ST_MAX_HEADER) safewriter_mistake(w, "the header would be longer than 100 MB", "");
    uint64_t length = text.size;
    safewriter_bytes(w, &length, 8);
    safewriter_bytes(w, text.data, text.size);
    w->header = 8 + length;
    free(text.data);
}

// The next n bytes, in the order of declaration; pieces may end anywhere.
static inline void safewriter_data(SafeWriter *w, const void *bytes, size_t n) {
    const uint8_t *p = (const uint8_t *)bytes;
    if (!w->header) safewriter_mistake(w, "data before safewriter_begin_data", "");
    while (n > 0 && !w->mistake.text[0]) {
        while (w->current < w->count && w->written == w->tensors[w->current].bytes) w->current++, w->written = 0;
        if (w->current == w->count) {
            safewriter_mistake(w, "more data was given than declared, last tensor",
                               w->count ? w->tensors[w->count - 1].name : "(none)");
            return;
        }
        const SafeDeclared *t = &w->tensors[w->current];
        size_t piece = t->bytes - w->written < n ? (size_t)(t->bytes - w->written) : n;
        if (w->summed && w->written == 0 && w->sum.bytes != w->header + t->offset)
            safewriter_mistake(w, "a sum is kept of bytes in order alone, which those are not of tensor", t->name);
        if (w->written == 0 && !w->out.failed && ftello(w->out.stream) != (off_t)(w->header + t->offset) &&
            fseeko(w->out.stream, (off_t)(w->header + t->offset), SEEK_SET) != 0)
            w->out.failed = errno ? errno : EIO;
        safewriter_bytes(w, p, piece);
        w->written += piece;
        p += piece, n -= piece;
    }
}

// The file is whole and has its name, or there is an error and no file. The writer is freed either way.
static inline bool safewriter_commit(SafeWriter *w, Error *err) {
    if (!w->header) safewriter_mistake(w, "safewriter_begin_data was not called", "");
    while (w->current < w->count && w->written == w->tensors[w->current].bytes) w->current++, w->written = 0;
    if (w->current < w->count && !w->out.failed)
        safewriter_mistake(w, "less data was given than declared: tensor", w->tensors[w->current].name);
    bool ok = !w->mistake.text[0];
    if (ok) {
        ok = out_commit(&w->out, err);
    } else {
        out_abort(&w->out);
        error_set(err, "%.1000s", w->mistake.text);
    }
    safewriter_free(w);
    return ok;
}

#endif
