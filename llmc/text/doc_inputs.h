/*
doc_inputs.h: the documents of many files, in the order of the files, whoever reads them when.

    DocInputs in;
    doc_inputs_open(&in, "FILE,GLOB,FOLDER,...", &settings, err)   what is no text is refused here
    while (doc_inputs_next(&in, &batch, err) && batch)             batches, in order
        ... doc_inputs_release(&in, batch)                         when its texts are done with
    doc_inputs_close(&in)

A folder stands for all files in it and below, sorted by byte value, without those whose names begin with a dot and
without what tells of texts beside them: manifest.tsv, and the manifests of `corpus`, `tokenize` and `bpe`. Each file is
one document, unless it is JSON lines or another form with documents of its own (documents.h).

INPUTS_READERS threads read ahead, a file each, and stop where a file has INPUTS_AHEAD bytes that nobody took: several
unpackers run at once, and memory stays bounded. What comes out, and in which order, does not depend on them.
*/
#ifndef LLMC_DOC_INPUTS_H
#define LLMC_DOC_INPUTS_H

#include "documents.h"
#include <pthread.h>

#define INPUTS_READERS 4               // files under way; may be tuned
#define INPUTS_AHEAD ((size_t)8 << 20) // bytes of text that wait for their turn, of a file; may be tuned
#define INPUTS_NAMED 100               // damages that are named in all

typedef struct DocFile {
    char *path;
    FileId id;
    int64_t bytes;   // on disk
    bool member;     // of a folder
    char sha256[65]; // of the file as it lies on the disk; empty until doc_inputs_sums()
    // while it is read, under the lock:
    DocBatch *first, *last;
    size_t waiting; // bytes in them
    bool done;
    Error *failed; // why it could not be read, or NULL
    int uses;      // batches that were taken and not released, and one while it is read
    MappedFile mapping;
    DocDamage damage;
    int64_t documents;
    bool fielded;       // JSON lines or rows of a table were among them
    int64_t text_bytes; // of them
    uint64_t print;     // of their hashes, in order
} DocFile;

typedef struct {
    DocSettings settings;
    DocFile *files; // (count)
    int count;
    int64_t bytes; // on disk, of all
    int from, to;  // the files that are read: all, or those of doc_inputs_range
    int next;      // file that a reader takes next
    int turn;      // file whose batches are given out
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t readers[INPUTS_READERS];
    int reader_count;
    int strange; // with DOC_NONE: files that are no text
    Error what;  // and what the first of them is
    // of the files that are done:
    int empty;    // without a document
    Path without; // one of them
    bool fielded; // some hold JSON lines or rows of a table
    DocDamage damage;
} DocInputs;

// ---------------------------------------------------------------- the list

typedef struct InputsFolder {
    FileId id;
    const struct InputsFolder *above; // the folder that it was found in, or NULL
} InputsFolder;

// What this program and its scripts write about texts, in the folder where these are.
static inline bool doc_inputs_manifest(const char *path, int fd) {
    static const char *const starts[] = {"{\n  \"corpus\": \"", "{\n  \"shards\": {", "{\n  \"tokenizer\": \""};
    char start[20];
    Error err;
    if (str_ends_with(path, "/manifest.tsv")) return true;
    if (!str_ends_with(path, "manifest.json") || !file_read_at(fd, start, sizeof start, 0, &err)) return false;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (memcmp(start, starts[i], strlen(starts[i])) == 0) return true;
    return false;
}

static inline bool doc_inputs_add(DocInputs *in, size_t *capacity, const char *path, const InputsFolder *above,
                                  Error *err) {
    FileKind kind;
    if (!path_look(path, &kind, err)) return false;
    if (kind == FILE_FOLDER) {
        StrList names;
        InputsFolder own = {{0, 0}, above};
        memset(&names, 0, sizeof names);
        bool ok = path_id(path, &own.id, err);
        for (const InputsFolder *f = above; ok && f; f = f->above)
            if (file_id_same(f->id, own.id)) ok = error_set(err, "%s is a link to a folder that it stands in", path);
        ok = ok && folder_list(&names, path, err);
        for (int i = 0; ok && i < names.count; i++)
            if (names.items[i][0] != '.')
                ok = doc_inputs_add(in, capacity, path_of("%s/%s", path, names.items[i]).text, &own, err);
        str_list_free(&names);
        return ok;
    }
    struct stat st;
    int fd = file_open(path, &st, err);
    if (fd < 0) return false;
    bool manifest = above && doc_inputs_manifest(path, fd);
    close(fd);
    if (manifest) return true;
    in->files = (DocFile *)mem_grow(in->files, capacity, (size_t)in->count + 1, sizeof(DocFile));
    DocFile *f = &in->files[in->count++];
    memset(f, 0, sizeof *f);
    f->path = str_copy(path);
    f->id.device = (uint64_t)st.st_dev, f->id.inode = (uint64_t)st.st_ino;
    f->bytes = (int64_t)st.st_size;
    f->member = above != NULL;
    in->bytes += f->bytes;
    return true;
}

// Whether a file that somebody named holds text: before hours of work, not behind them. A packed one tells later.
static inline bool doc_inputs_look(DocInputs *in, const DocFile *f, Error *err) {
    ByteWindow w;
    MappedFile file;
    const char *foreign = NULL;
    bool verbatim = in->settings.split == DOC_NONE;
    if (f->member && !verbatim) return true;
    if (!file_map(&file, f->path, err)) return false;
    window_of_memory(&w, (const char *)file.data, file.size, 0);
    if (verbatim) foreign = text_foreign(file.data, file.size);
    else if (!window_unpacker(file.data, file.size)) doc_form(&w, f->path, &foreign);
    file_unmap(&file);
    if (foreign && verbatim && in->strange++ == 0) error_set(&in->what, "%s is %s", f->path, foreign);
    return !foreign || verbatim ? true : error_set(err, "%s is not plain text but %s", f->path, foreign);
}

// The files' identities, in their order; to be freed.
static inline FileId *doc_inputs_ids(const DocInputs *in) {
    FileId *ids = (FileId *)mem_alloc((size_t)in->count * sizeof(FileId));
    for (int i = 0; i < in->count; i++) ids[i] = in->files[i].id;
    return ids;
}

// How many files stand in the list twice, under the same name or another; ids: of the files. *one of them.
static inline int doc_inputs_doubles(const DocInputs *in, const FileId *ids, Path *one) {
    int64_t last;
    int doubles = text_doubles(ids, (size_t)in->count, &last);
    if (doubles) *one = path_of("%s", in->files[last].path);
    return doubles;
}

// ---------------------------------------------------------------- reading

typedef struct {
    DocParse p; // first: `give` gets it
    DocInputs *in;
} InputsReader;

static inline bool doc_inputs_give(DocParse *p, DocBatch *batch) {
    DocInputs *in = ((InputsReader *)p)->in;
    DocFile *f = p->file;
    pthread_mutex_lock(&in->lock);
    while (!in->stop && f->waiting > INPUTS_AHEAD) pthread_cond_wait(&in->changed, &in->lock);
    bool stop = in->stop;
    if (!stop) {
        if (f->last) f->last->next = batch;
        else f->first = batch;
        f->last = batch;
        f->waiting += batch->bytes + batch->count * sizeof(Document);
        f->text_bytes += (int64_t)batch->bytes;
        for (size_t i = 0; i < batch->count; i++) f->print = (f->print ^ batch->docs[i].hash) * 0x9e3779b97f4a7c15ull;
        f->uses++;
        pthread_cond_broadcast(&in->changed);
    }
    pthread_mutex_unlock(&in->lock);
    if (stop) doc_batch_free(batch);
    return !stop;
}

// With the lock: one use less. The last gives back the mapping.
static inline void doc_inputs_unuse(DocFile *f) {
    if (--f->uses == 0) file_unmap(&f->mapping);
}

static inline void doc_inputs_read(DocInputs *in, DocFile *f) {
    InputsReader r;
    ByteWindow w;
    Error err;
    memset(&r, 0, sizeof r);
    memset(&w, 0, sizeof w);
    err.text[0] = 0;
    r.in = in;
    r.p.settings = &in->settings;
    r.p.path = f->path;
    r.p.member = f->member;
    r.p.file = f;
    r.p.give = doc_inputs_give;
    r.p.err = &err;
    bool ok = doc_read_file(&r.p, &w);
    pthread_mutex_lock(&in->lock);
    f->mapping = w.file;
    memset(&w.file, 0, sizeof w.file);
    f->damage = r.p.damage;
    f->documents = r.p.documents;
    f->fielded = r.p.fielded;
    memset(&r.p.damage, 0, sizeof r.p.damage);
    if (!ok && err.text[0]) {
        f->failed = (Error *)mem_alloc(sizeof(Error));
        *f->failed = err;
    }
    f->done = true;
    doc_inputs_unuse(f);
    pthread_cond_broadcast(&in->changed);
    pthread_mutex_unlock(&in->lock);
    window_close(&w);
    doc_parse_free(&r.p);
}

static inline void *doc_inputs_reader(void *inputs) {
    DocInputs *in = (DocInputs *)inputs;
    pthread_mutex_lock(&in->lock);
    for (;;) {
        while (!in->stop && in->next < in->to && in->next >= in->turn + INPUTS_READERS)
            pthread_cond_wait(&in->changed, &in->lock);
        if (in->stop || in->next == in->to) break;
        DocFile *f = &in->files[in->next++];
        f->uses = 1;
        pthread_mutex_unlock(&in->lock);
        doc_inputs_read(in, f);
        pthread_mutex_lock(&in->lock);
    }
    pthread_mutex_unlock(&in->lock);
    return NULL;
}

// ---------------------------------------------------------------- giving out

// Ends the threads. What nobody took is gone.
static inline void doc_inputs_stop(DocInputs *in) {
    pthread_mutex_lock(&in->lock);
    in->stop = true;
    pthread_cond_broadcast(&in->changed);
    pthread_mutex_unlock(&in->lock);
    for (int i = 0; i < in->reader_count; i++) pthread_join(in->readers[i], NULL);
    in->reader_count = 0;
    in->stop = false;
    for (int i = 0; i < in->count; i++) {
        DocFile *f = &in->files[i];
        while (f->first) {
            DocBatch *next = f->first->next;
            doc_batch_free(f->first);
            f->first = next;
        }
        f->last = NULL;
        file_unmap(&f->mapping);
        str_list_free(&f->damage.named);
        free(f->failed);
        f->failed = NULL;
        f->waiting = 0;
        f->done = false;
        f->damage.count = f->documents = f->text_bytes = 0;
        f->print = 0;
    }
    str_list_free(&in->damage.named);
    in->damage.count = 0;
    in->turn = in->next = in->from;
    in->empty = 0;
}

static inline void doc_inputs_close(DocInputs *in) {
    doc_inputs_stop(in);
    for (int i = 0; i < in->count; i++) free(in->files[i].path);
    free(in->files);
    pthread_mutex_destroy(&in->lock);
    pthread_cond_destroy(&in->changed);
    memset(in, 0, sizeof *in);
}

// Starts the threads, at the first document that is asked for. They leave signals to whoever asks, but for those that a
// thread raises itself: a mapped file that became shorter is SIGBUS in the thread that reads it (process.h).
static inline bool doc_inputs_start(DocInputs *in, Error *err) {
    sigset_t all, before;
    int why = 0;
    sigfillset(&all);
    sigdelset(&all, SIGBUS), sigdelset(&all, SIGSEGV), sigdelset(&all, SIGFPE), sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (!why && in->reader_count < INPUTS_READERS && in->reader_count < in->count) {
        why = pthread_create(&in->readers[in->reader_count], NULL, doc_inputs_reader, in);
        if (!why) in->reader_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (in->reader_count) return true; // fewer do it as well
    return error_set(err, "cannot start a thread that reads: %s; raise the limits (ulimit -u, ulimit -v)",
                     strerror(why));
}

// On false there is nothing to close.
static inline bool doc_inputs_open(DocInputs *in, const char *list, const DocSettings *settings, Error *err) {
    StrList paths;
    size_t capacity = 0;
    memset(in, 0, sizeof *in);
    memset(&paths, 0, sizeof paths);
    in->settings = *settings;
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->changed, NULL);
    bool ok = path_expand(&paths, list, err);
    for (int i = 0; ok && i < paths.count; i++) ok = doc_inputs_add(in, &capacity, paths.items[i], NULL, err);
    in->to = in->count;
    if (ok && in->count == 0) ok = error_set(err, "no file in %.900s", list);
    for (int i = 0; ok && i < in->count; i++) ok = doc_inputs_look(in, &in->files[i], err);
    str_list_free(&paths);
    if (!ok) doc_inputs_close(in);
    return ok;
}

// A file is done: what is to be said of it.
static inline void doc_inputs_finish(DocInputs *in, DocFile *f) {
    if (f->documents == 0 && f->damage.count == 0 && in->empty++ == 0) in->without = path_of("%s", f->path);
    in->fielded |= f->fielded;
    in->damage.count += f->damage.count;
    for (int i = 0; i < f->damage.named.count && in->damage.named.count < INPUTS_NAMED; i++)
        str_list_add(&in->damage.named, path_of("%.1000s: %s", f->path, f->damage.named.items[i]).text);
}

// The next batch, in *batch; NULL: there is no more. false: a file could not be read.
static inline bool doc_inputs_next(DocInputs *in, DocBatch **batch, Error *err) {
    *batch = NULL;
    if (!in->reader_count && !doc_inputs_start(in, err)) return false;
    pthread_mutex_lock(&in->lock);
    bool ok = true;
    while (ok && in->turn < in->to) {
        DocFile *f = &in->files[in->turn];
        if (f->first) {
            *batch = f->first;
            f->first = f->first->next;
            if (!f->first) f->last = NULL;
            f->waiting -= (*batch)->bytes + (*batch)->count * sizeof(Document);
            (*batch)->next = NULL;
            pthread_cond_broadcast(&in->changed);
            break;
        }
        if (!f->done) {
            pthread_cond_wait(&in->changed, &in->lock);
            continue;
        }
        if (f->failed) ok = error_set(err, "%s", f->failed->text);
        doc_inputs_finish(in, f);
        in->turn++;
        pthread_cond_broadcast(&in->changed);
    }
    bool over = ok && in->turn == in->to && in->to - in->from == in->count && !*batch;
    pthread_mutex_unlock(&in->lock);
    if (over && !in->fielded && !in->damage.count && strcmp(in->settings.field, DOC_FIELD) != 0)
        return error_set(err, "--field=%.200s has no effect: no JSON lines and no parquet are among the inputs",
                         in->settings.field);
    return ok;
}

// The texts of a batch are done with. Frees it.
static inline void doc_inputs_release(DocInputs *in, DocBatch *batch) {
    pthread_mutex_lock(&in->lock);
    doc_inputs_unuse(batch->file);
    pthread_mutex_unlock(&in->lock);
    doc_batch_free(batch);
}

// From the first file again; every batch was released.
static inline void doc_inputs_rewind(DocInputs *in) { doc_inputs_stop(in); }

// Files [from, to) alone, from the first on; every batch was released.
static inline void doc_inputs_range(DocInputs *in, int from, int to) {
    in->from = from;
    in->to = to;
    doc_inputs_stop(in);
}

// Reads all files once more, several at a time: their SHA-256, by which somebody else can know them again.
static inline bool doc_inputs_sums(DocInputs *in, Error *err) {
    int wrong = in->count; // the first in their order counts
    Error first;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1)
#endif
    for (int i = 0; i < in->count; i++) {
        Error why;
        if (in->files[i].sha256[0] || sha256_file(in->files[i].sha256, in->files[i].path, &why)) continue;
#ifdef _OPENMP
#pragma omp critical(doc_inputs_wrong)
#endif
        if (i < wrong) wrong = i, first = why;
    }
    return wrong == in->count ? true : error_set(err, "%.1000s", first.text);
}

// A member of a JSON object: the files as they lie on the disk.
static inline void doc_inputs_list(Str *s, const DocInputs *in) {
    str_puts(s, ",\n  \"sources\": [");
    for (int i = 0; i < in->count; i++) {
        str_printf(s, "%s\n    {\"path\": ", i ? "," : "");
        json_escape(s, in->files[i].path, strlen(in->files[i].path));
        str_printf(s, ", \"sha256\": \"%s\", \"file_bytes\": %lld}", in->files[i].sha256,
                   (long long)in->files[i].bytes);
    }
    str_puts(s, "\n  ]");
}

// Members of a JSON object: the files with what was in them, and the damage.
static inline void doc_inputs_describe(Str *s, const DocInputs *in) {
    str_puts(s, ",\n  \"sources\": [");
    for (int i = 0; i < in->count; i++) {
        const DocFile *f = &in->files[i];
        str_printf(s, "%s\n    {\"path\": ", i ? "," : "");
        json_escape(s, f->path, strlen(f->path));
        if (f->sha256[0]) str_printf(s, ", \"sha256\": \"%s\"", f->sha256);
        str_printf(s, ", \"file_bytes\": %lld, \"documents\": %lld, \"bytes\": %lld, \"print\": \"%016llx\"}",
                   (long long)f->bytes, (long long)f->documents, (long long)f->text_bytes,
                   (unsigned long long)f->print);
    }
    str_printf(s, "\n  ],\n  \"damaged\": %lld, \"damage\": [", (long long)in->damage.count);
    for (int i = 0; i < in->damage.named.count; i++) {
        str_printf(s, "%s\n    ", i ? "," : "");
        json_escape(s, in->damage.named.items[i], strlen(in->damage.named.items[i]));
    }
    str_puts(s, in->damage.named.count ? "\n  ]" : "]");
}

#endif
