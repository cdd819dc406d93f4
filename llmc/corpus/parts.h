/*
parts.h: cleaning by several ranks, and by runs that are killed and go on.

    corpus_parts_clean(&job, folder, rank, ranks, err)   all ranks: parts of cleaned documents, in FOLDER/corpus.parts
    corpus_parts_join(&job, folder, &stats, err)         then rank 0: what corpus_run() writes, to the byte

What a document is by itself (cleaned text, quality, overlap with evaluation sets) is most of the work, and needs no
other document. Inputs are dealt out in groups of files that stand together, of part_bytes or one larger file; rank r
has groups r, r + ranks, ... and writes each in parts of part_bytes of text, packed as the output is. Rank 0 then reads
the parts in the order of the inputs, finds duplicates, and writes the output. So neither the number of ranks nor where
a run was killed changes a byte. All ranks see the same files and the same FOLDER.

A part is there whole or not at all. A run that finds parts of the same job goes on behind them: documents that are in a
part are read again and not cleaned again. Parts of another job (other options, another program, inputs of other names
or sizes) are refused. Once the output is there the parts go. Disk: the packed text of what the output is made from.

The file of a part: PartHeader, then records: a CorpusDoc and a Document as they are in memory (one program reads what
it wrote itself), then the source, members, text and items that they point to. The last part of a group ends in what is
known of its files.
*/
#ifndef LLMC_PARTS_H
#define LLMC_PARTS_H

#include "corpus.h"

typedef struct {
    char magic[8];
    uint8_t job[32];
    int64_t documents;
    int64_t last; // of its group
    int64_t zero;
} PartHeader;

typedef struct {
    Corpus *corpus;
    Path folder; // FOLDER/corpus.parts
    uint8_t job[32];
    int group, part; // under way
    int64_t skip;    // documents that are in parts already
    OutFile out;
    Spool spool;
    bool open;
    int64_t documents; // in the part under way
    int64_t bytes;
} Parts;

static inline Path parts_path(const Parts *p, int group, int part) {
    return path_of("%s/%06d.%06d", p->folder.text, group, part);
}

// The first file behind a group that begins with `first`.
static inline int parts_group_end(const DocInputs *in, int first, int64_t most) {
    int64_t bytes = 0;
    int end = first;
    while (end < in->count && (end == first || bytes + in->files[end].bytes <= most)) bytes += in->files[end++].bytes;
    return end;
}

static inline void parts_hash_text(Sha256 *s, const char *text) { sha256_update(s, text, strlen(text) + 1); }

// All that decides what a part holds.
static inline void parts_job(uint8_t job[32], const Corpus *c) {
    const CorpusJob *j = c->job;
    int64_t numbers[] = {(int64_t)j->steps,
                         j->docs.split,
                         j->docs.strict,
                         j->pack,
                         j->contamination_drop,
                         j->part_bytes,
                         (int64_t)sizeof(CorpusDoc),
                         (int64_t)sizeof(Document),
                         c->inputs.count};
    Sha256 s;
    sha256_init(&s);
    parts_hash_text(&s, j->program);
    parts_hash_text(&s, j->docs.field);
    sha256_update(&s, numbers, sizeof numbers);
    sha256_update(&s, j->rules.value, sizeof j->rules.value);
    sha256_update(&s, &j->german, sizeof j->german);
    for (int i = 0; i < j->docs.keep.count; i++) parts_hash_text(&s, j->docs.keep.items[i]);
    for (int i = 0; i < c->contamination.file_count; i++) parts_hash_text(&s, c->contamination.files[i].sha256);
    for (int i = 0; i < c->inputs.count; i++) {
        parts_hash_text(&s, c->inputs.files[i].path);
        sha256_update(&s, &c->inputs.files[i].bytes, sizeof c->inputs.files[i].bytes);
    }
    sha256_final(job, &s);
}

static inline Parts *parts_open(const CorpusJob *job, const char *folder, CorpusStats *stats, Error *err) {
    Corpus *c = corpus_open(job, stats, err);
    if (!c) return NULL;
    Parts *p = (Parts *)mem_alloc(sizeof(Parts));
    p->corpus = c;
    p->folder = path_of("%s/corpus.parts", folder);
    parts_job(p->job, c);
    c->parts = p;
    return p;
}

// ---------------------------------------------------------------- writing

// The header of a part that is there; *fd: the file, to be closed. *there is false where there is none.
static inline bool parts_look(const Parts *p, int group, int part, PartHeader *h, bool *there, int *fd, Error *err) {
    Path path = parts_path(p, group, part);
    FileKind kind;
    struct stat st;
    if (!path_look(path.text, &kind, err)) return false;
    *there = kind != FILE_ABSENT;
    if (!*there) return true;
    *fd = file_open(path.text, &st, err);
    if (*fd < 0) return false;
    bool ok = (size_t)st.st_size >= sizeof *h && file_read_at(*fd, h, sizeof *h, 0, err) &&
              memcmp(h->magic, "LLMCpart", 8) == 0;
    if (ok && memcmp(h->job, p->job, sizeof h->job) == 0) return true;
    close(*fd);
    if (!ok) return error_set(err, "%s is no part of a corpus; remove %s, and start again", path.text, p->folder.text);
    return error_set(err,
                     "%s was made from other inputs, with other options or by another program; give those, or "
                     "--resume=no, which begins anew",
                     path.text);
}

static inline bool parts_begin(Parts *p, Error *err) {
    if (!out_open(&p->out, parts_path(p, p->group, p->part).text, err)) return false;
    int fd = fileno(p->out.stream);
    p->documents = 0;
    p->bytes = 0;
    p->open = lseek(fd, sizeof(PartHeader), SEEK_SET) == (off_t)sizeof(PartHeader) &&
              spool_write_to(&p->spool, fd, p->corpus->job->pack == CORPUS_PACK_ZSTD, err);
    if (!p->open) out_abort(&p->out);
    return p->open;
}

static inline bool parts_end(Parts *p, bool last, Error *err) {
    PartHeader h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, "LLMCpart", 8);
    memcpy(h.job, p->job, sizeof h.job);
    h.documents = p->documents;
    h.last = last;
    bool ok = spool_written(&p->spool, err) && file_write_at(fileno(p->out.stream), &h, sizeof h, 0, err);
    spool_close(&p->spool);
    p->open = false;
    p->part++;
    if (ok) return out_commit(&p->out, err);
    out_abort(&p->out);
    return false;
}

// A count, and as many bytes.
static inline void parts_put(Spool *s, const void *bytes, size_t n) {
    int64_t size = (int64_t)n;
    spool_put(s, &size, sizeof size);
    spool_put(s, bytes, n);
}

static inline void parts_put_document(Parts *p, const CorpusDoc *d) {
    spool_put(&p->spool, d, sizeof *d);
    spool_put(&p->spool, d->doc, sizeof *d->doc);
    parts_put(&p->spool, d->doc->source, strlen(d->doc->source));
    parts_put(&p->spool, d->doc->meta, d->doc->meta_size);
    parts_put(&p->spool, d->text.data, d->reason < 0 ? d->text.size : 0);
    parts_put(&p->spool, d->found, d->found_count * sizeof *d->found);
    p->documents++;
    p->bytes += (int64_t)(d->text.size + d->doc->meta_size);
}

// What is known of the files of the group when they have been read.
static inline void parts_put_files(Parts *p) {
    const DocInputs *in = &p->corpus->inputs;
    for (int i = in->from; i < in->to; i++) {
        const DocFile *f = &in->files[i];
        int64_t numbers[] = {f->documents,    f->text_bytes,         (int64_t)f->print,
                             f->damage.count, f->damage.named.count, f->fielded};
        spool_put(&p->spool, numbers, sizeof numbers);
        for (int k = 0; k < f->damage.named.count; k++)
            parts_put(&p->spool, f->damage.named.items[k], strlen(f->damage.named.items[k]) + 1);
    }
}

static inline void parts_flush(Corpus *c) {
    Parts *p = (Parts *)c->parts;
    size_t skip = (size_t)int64_min(p->skip, (int64_t)c->doc_count), count = c->doc_count;
    p->skip -= (int64_t)skip;
    // Those that are in a part already stand aside; their memory is used again.
    for (size_t i = skip; i < count; i++) {
        CorpusDoc kept = c->docs[i - skip];
        c->docs[i - skip] = c->docs[i];
        c->docs[i] = kept;
    }
    c->doc_count = count - skip;
    corpus_clean(c);
    for (size_t i = 0; i < c->doc_count && !c->failed; i++) {
        if (!p->open && !parts_begin(p, &c->scratch)) c->failed = EIO;
        else parts_put_document(p, &c->docs[i]);
    }
    if (p->open && !c->failed && (signals_waiting(&p->out.hold) || p->spool.failed)) {
        c->failed = p->spool.failed ? EIO : EINTR;
        if (!p->spool.failed || spool_written(&p->spool, &c->scratch))
            error_set(&c->scratch, "%s", strerror(c->failed));
    }
    if (p->open && !c->failed && p->bytes >= c->job->part_bytes && !parts_end(p, false, &c->scratch)) c->failed = EIO;
    c->doc_count = 0;
    corpus_release(c);
}

// One group, from behind the parts that are there.
static inline bool parts_clean_group(Parts *p, int group, int first, int end, Error *err) {
    Corpus *c = p->corpus;
    PartHeader h;
    bool there = true, last = false;
    p->group = group, p->part = 0, p->skip = 0;
    for (int fd; there && !last; p->part += there) {
        if (!parts_look(p, group, p->part, &h, &there, &fd, err)) return false;
        if (!there) break;
        close(fd);
        p->skip += h.documents;
        last = h.last != 0;
    }
    if (last) return true;
    doc_inputs_range(&c->inputs, first, end);
    bool ok = corpus_read(c, err);
    if (ok && c->failed) ok = error_set(err, "%s", c->scratch.text[0] ? c->scratch.text : strerror(c->failed));
    if (ok && p->skip > 0)
        ok = error_set(err, "%s holds parts of more documents than the inputs have; --resume=no begins anew",
                       p->folder.text);
    if (ok && !p->open) ok = parts_begin(p, err);
    if (ok) parts_put_files(p);
    if (ok) ok = parts_end(p, true, err);
    else if (p->open) {
        spool_close(&p->spool);
        out_abort(&p->out);
        p->open = false;
    }
    corpus_release(c);
    return ok;
}

static inline bool corpus_parts_clean(const CorpusJob *job, const char *folder, int rank, int ranks, Error *err) {
    CorpusStats stats;
    memset(&stats, 0, sizeof stats);
    Parts *p = parts_open(job, folder, &stats, err);
    if (!p) return false;
    bool ok = path_make_folder(p->folder.text, err);
    p->corpus->flush = parts_flush;
    if (job->part_bytes < (int64_t)CORPUS_TOGETHER) p->corpus->together = (size_t)job->part_bytes;
    for (int group = 0, first = 0, end; ok && first < p->corpus->inputs.count; group++, first = end) {
        end = parts_group_end(&p->corpus->inputs, first, job->part_bytes);
        if (group % ranks == rank) ok = parts_clean_group(p, group, first, end, err);
    }
    corpus_free(p->corpus);
    free(p);
    return ok;
}

// ---------------------------------------------------------------- joining

// Into `to`, which keeps its memory, ended by a NUL.
static inline bool parts_get(Spool *s, Str *to, Error *err) {
    int64_t size;
    if (!spool_get(s, &size, sizeof size, err)) return false;
    to->data = (char *)mem_grow(to->data, &to->capacity, (size_t)size + 1, 1);
    to->size = (size_t)size;
    to->data[size] = 0;
    return spool_get(s, to->data, (size_t)size, err);
}

// The strings of a document that was read: memory that is used again with its place in Corpus.docs.
typedef struct {
    Document doc;
    Str source, meta, found;
} PartDoc;

static inline bool parts_get_document(Spool *s, CorpusDoc *d, PartDoc *r, Error *err) {
    CorpusDoc kept = *d;
    if (!spool_get(s, d, sizeof *d, err) || !spool_get(s, &r->doc, sizeof r->doc, err)) {
        *d = kept;
        return false;
    }
    size_t found = d->found_count;
    d->text = kept.text;
    d->parts = kept.parts, d->part_capacity = kept.part_capacity, d->part_count = 0;
    d->found = kept.found, d->found_capacity = kept.found_capacity, d->found_count = 0;
    d->doc = &r->doc;
    if (!parts_get(s, &r->source, err) || !parts_get(s, &r->meta, err) || !parts_get(s, &d->text, err) ||
        !parts_get(s, &r->found, err))
        return false;
    r->doc.text = NULL;
    r->doc.source = r->source.data;
    r->doc.meta = r->meta.data;
    d->found = (uint32_t *)mem_grow(d->found, &d->found_capacity, found, sizeof *d->found);
    if (found) memcpy(d->found, r->found.data, found * sizeof *d->found);
    d->found_count = found;
    return true;
}

static inline bool parts_get_files(Corpus *c, Spool *s, int first, int end, Error *err) {
    Str name;
    bool ok = true;
    memset(&name, 0, sizeof name);
    for (int i = first; ok && i < end; i++) {
        DocFile *f = &c->inputs.files[i];
        int64_t numbers[6];
        ok = spool_get(s, numbers, sizeof numbers, err);
        if (!ok) break;
        f->documents = numbers[0], f->text_bytes = numbers[1], f->print = (uint64_t)numbers[2];
        f->damage.count = numbers[3], f->fielded = numbers[5] != 0;
        for (int64_t k = 0; ok && k < numbers[4]; k++) {
            ok = parts_get(s, &name, err);
            if (ok) str_list_add(&f->damage.named, name.data);
        }
        doc_inputs_finish(&c->inputs, f);
    }
    free(name.data);
    return ok;
}

// The documents that were read, so many that their text is CORPUS_TOGETHER bytes, among all.
static inline void parts_settle(Corpus *c) {
    int64_t count = (int64_t)c->doc_count;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 4) num_threads(c->thread_count)
#endif
    for (int64_t i = 0; i < count; i++)
        if (c->docs[i].reason < 0) corpus_hash(&c->docs[i]);
    corpus_settle(c);
}

static inline bool parts_join_part(Corpus *c, Spool *s, int64_t documents, PartDoc **docs, size_t *capacity,
                                   Error *err) {
    size_t bytes = 0;
    for (int64_t i = 0; i < documents && !c->failed; i++) {
        if (bytes == 0) c->doc_count = 0;
        size_t at = c->doc_count, old = c->doc_capacity, before = *capacity;
        c->docs = (CorpusDoc *)mem_grow(c->docs, &c->doc_capacity, at + 1, sizeof(CorpusDoc));
        memset((void *)(c->docs + old), 0, (c->doc_capacity - old) * sizeof(CorpusDoc));
        *docs = (PartDoc *)mem_grow(*docs, capacity, at + 1, sizeof(PartDoc));
        memset((void *)(*docs + before), 0, (*capacity - before) * sizeof(PartDoc));
        for (size_t k = 0; before != *capacity && k < at; k++) c->docs[k].doc = &(*docs)[k].doc; // they have moved
        if (!parts_get_document(s, &c->docs[at], &(*docs)[at], err)) return false;
        c->doc_count++;
        bytes += c->docs[at].text.size + 64;
        if (bytes < CORPUS_TOGETHER && i + 1 < documents) continue;
        parts_settle(c);
        bytes = 0;
    }
    return true;
}

static inline bool parts_join(Corpus *c, Error *err) {
    const Parts *p = (const Parts *)c->parts;
    PartDoc *docs = NULL;
    size_t capacity = 0;
    bool ok = true;
    for (int group = 0, first = 0, end; ok && !c->failed && first < c->inputs.count; group++, first = end) {
        end = parts_group_end(&c->inputs, first, c->job->part_bytes);
        bool last = false;
        for (int part = 0, fd = -1; ok && !last && !c->failed; part++) {
            PartHeader h;
            Spool s;
            bool there;
            ok = parts_look(p, group, part, &h, &there, &fd, err);
            if (ok && !there) ok = error_set(err, "%s is not there; start again", parts_path(p, group, part).text);
            if (!ok) break;
            ok = spool_read_from(&s, fd, sizeof h, c->job->pack == CORPUS_PACK_ZSTD, err) &&
                 parts_join_part(c, &s, h.documents, &docs, &capacity, err);
            last = h.last != 0;
            if (ok && last && !c->failed) ok = parts_get_files(c, &s, first, end, err);
            spool_close(&s);
            close(fd);
        }
    }
    for (size_t i = 0; i < capacity; i++) free(docs[i].source.data), free(docs[i].meta.data), free(docs[i].found.data);
    free(docs);
    if (ok && !c->failed && !c->inputs.fielded && !c->inputs.damage.count && strcmp(c->job->docs.field, DOC_FIELD) != 0)
        ok = error_set(err, "--field=%.200s has no effect: no JSON lines and no parquet are among the inputs",
                       c->job->docs.field);
    return ok;
}

static inline bool corpus_parts_remove(const char *folder, Error *err) {
    return path_remove_tree(path_of("%s/corpus.parts", folder).text, err);
}

static inline bool corpus_parts_join(const CorpusJob *job, const char *folder, CorpusStats *stats, Error *err) {
    Parts *p = parts_open(job, folder, stats, err);
    if (!p) return false;
    bool ok = corpus_make(p->corpus, folder, parts_join, err) && corpus_parts_remove(folder, err);
    free(p);
    return ok;
}

#endif
