/*
corpus.h: documents of any form -> cleaned JSON lines; what the verb `corpus` does.

    corpus_run(&job, "data/clean", &stats, err)     data/clean/corpus.jsonl.zst and data/clean/manifest.json

Steps, in this order, each of which can be left out (--clean_steps):
    repair nfc control hyphens boilerplate          clean.h: the text is mended
    personal                                        personal.h: personal data becomes placeholders. Before the judging
                                                    and the duplicates, since those of a second run see them
    language                                        language.h: one that is not German is dropped
    quality                                         quality.h: one that breaks a rule is dropped
    documents                                       one that was there before, letter by letter, is dropped
    paragraphs                                      one of CORPUS_PARAGRAPH bytes or more that was there before is taken
                                                    out, and what is left of the document is judged again
The first of several equal texts stays, in the order of the input. Cleaning twice changes nothing: what a dropped
document held is not taken for something that was there.

A line of the output: {"text", "origin": {"source", "offset", "sha256"}, and what --keep names}. The origin is that of
the text before all steps, also when cleaned text is cleaned again. The manifest counts, for each source and each step,
what it changed and dropped, with examples. Neither threads nor the size of batches change a byte of them.

Some batches at a time are mended and judged by all OpenMP threads; duplicates are found by one, in order. Memory: the
batches under way, and 32 to 64 bytes for each different document and paragraph (seen.h).
*/
#ifndef LLMC_CORPUS_H
#define LLMC_CORPUS_H

#include "../text/doc_inputs.h"
#include "clean.h"
#include "language.h"
#include "quality.h"
#include "seen.h"
#ifdef _OPENMP
#include <omp.h>
#endif

#define CORPUS_TOGETHER ((size_t)16 << 20) // bytes of text that are cleaned at a time; may be tuned
#define CORPUS_BATCHES 500                 // and batches, each of which may hold a file open
#define CORPUS_PARAGRAPH 80                // bytes of the shortest paragraph that counts as a duplicate
#define CORPUS_INVALID 8  // one byte in so many that is no UTF-8 is no text; of German in Latin-1 one in 50
#define CORPUS_EXAMPLES 3 // dropped documents that are named, for each reason

#define CORPUS_MORE(X)                                                                                                 \
    X(CORPUS_LANGUAGE, "language")                                                                                     \
    X(CORPUS_QUALITY, "quality") X(CORPUS_DOCUMENTS, "documents") X(CORPUS_PARAGRAPHS, "paragraphs")
enum { CORPUS_BEFORE_QUALITY = CLEAN_STEP_COUNT - 1, CORPUS_MORE(CHOICE_ENUM) CORPUS_STEP_COUNT };

static inline const char *corpus_step(int step) {
    static const char *const names[] = {CLEAN_STEPS(CHOICE_NAME) CORPUS_MORE(CHOICE_NAME)};
    return names[step];
}

// Why a document is dropped: a rule of quality.h, or one of these. Kept: -1.
enum {
    CORPUS_EMPTY = QUALITY_RULE_COUNT,
    CORPUS_NO_TEXT,
    CORPUS_UNSETTLED,
    CORPUS_FOREIGN,
    CORPUS_TWICE,
    CORPUS_REPEATED,
    CORPUS_REASON_COUNT
};
static inline const char *corpus_reason(int reason) {
    static const char *const names[] = {"empty",      "no_text",        "unsettled",
                                        "not_german", "document_twice", "all_paragraphs_twice"};
    return reason < QUALITY_RULE_COUNT ? quality_name(reason) : names[reason - QUALITY_RULE_COUNT];
}

#define CORPUS_PACKS(X) X(CORPUS_PACK_ZSTD, "zstd") X(CORPUS_PACK_NONE, "none")
enum { CORPUS_PACKS(CHOICE_ENUM) };

typedef struct {
    const char *inputs; // "FILE,GLOB,FOLDER,..."
    DocSettings docs;
    unsigned steps; // bits
    QualityRules rules;
    double german; // least score
    int pack;
    const char *program;
} CorpusJob;

// Of all documents, or of those of one source.
typedef struct {
    int64_t read, read_bytes, kept, kept_bytes;
    int64_t changed[CLEAN_STEP_COUNT]; // documents
    int64_t dropped[CORPUS_REASON_COUNT], dropped_bytes[CORPUS_REASON_COUNT];
    int64_t paragraphs, paragraph_bytes; // taken out of documents that stay
    int64_t languages[LANGUAGE_COUNT];   // documents, where something can be said
    int64_t masked[PERSONAL_KIND_COUNT]; // in documents that stay, before paragraphs were taken out
} CorpusCounts;

typedef struct {
    CorpusCounts all;
    Path output;
    int64_t output_bytes;
    DocDamage damage; // str_list_free(&damage.named)
    double seconds;
} CorpusStats;

// A document under way.
typedef struct {
    const Document *doc;
    int file;        // number of its source
    Str text;        // cleaned
    SeenHash *parts; // (part_count) of its paragraphs; a == 0: too short
    size_t part_count, part_capacity;
    SeenHash whole;
    CleanCounts changed;
    uint8_t sha256[32];
    int language; // -1: not known
    int reason;   // -1: kept so far
} CorpusDoc;

typedef struct {
    Str spare;
    QualityText quality;
} CorpusThread;

typedef struct {
    const CorpusJob *job;
    DocInputs inputs;
    DocBatch *batches[CORPUS_BATCHES];
    int batch_count;
    CorpusDoc *docs; // (doc_count) of the batches; their memory is used again
    size_t doc_count, doc_capacity;
    CorpusThread *threads;
    int thread_count;
    Seen documents, paragraphs;
    CorpusCounts *counts; // (inputs.count)
    Str examples[CORPUS_REASON_COUNT];
    int example_count[CORPUS_REASON_COUNT];
    Str lines; // of the output
    OutFile out;
    Child packer;
    int sink; // where lines are written
    int failed;
    CorpusStats *stats;
} Corpus;

static inline bool corpus_does(const Corpus *c, int step) { return (c->job->steps & 1u << step) != 0; }

// ---------------------------------------------------------------- one document, by any thread

// The paragraph at p, up to an empty line or the end; *next: where the next one begins.
static inline size_t corpus_paragraph(const char *p, const char *end, const char **next) {
    const char *gap = (const char *)memmem(p, (size_t)(end - p), "\n\n", 2);
    *next = gap ? gap + 2 : end;
    return (size_t)((gap ? gap : end) - p);
}

static inline void corpus_hash(CorpusDoc *d) {
    d->whole = seen_hash(d->text.data, d->text.size);
    d->part_count = 0;
    for (const char *p = d->text.data, *end = p + d->text.size, *next; p < end; p = next) {
        size_t n = corpus_paragraph(p, end, &next);
        SeenHash none = {0, 0};
        d->parts = (SeenHash *)mem_grow(d->parts, &d->part_capacity, d->part_count + 1, sizeof *d->parts);
        d->parts[d->part_count++] = n < CORPUS_PARAGRAPH ? none : seen_hash(p, n);
    }
}

// Whether repairing it would make letters of what never was a text.
static inline bool corpus_no_text(const Document *doc) {
    const uint8_t *p = (const uint8_t *)doc->text, *end = p + doc->n;
    size_t invalid = 0;
    while (p < end) {
        p += text_valid(p, end);
        size_t run = p < end ? text_invalid(p, end) : 0;
        invalid += run;
        p += run;
    }
    return invalid * CORPUS_INVALID > doc->n;
}

// Whether it is a text worth having: -1, or why not.
static inline int corpus_judge(const Corpus *c, CorpusDoc *d, CorpusThread *t) {
    const uint8_t *text = (const uint8_t *)d->text.data;
    if (d->text.size == 0) return CORPUS_EMPTY;
    if (corpus_does(c, CORPUS_LANGUAGE)) {
        double score = language_judge(d->text.data, d->text.size, &d->language);
        if (score < c->job->german) return CORPUS_FOREIGN;
        if (isnan(score)) d->language = -1; // the rules of quality say whether it is long enough
    }
    if (!corpus_does(c, CORPUS_QUALITY) || text_valid(text, text + d->text.size) < d->text.size) return -1;
    return quality_judge(&t->quality, d->text.data, d->text.size, &c->job->rules);
}

static inline void corpus_document(const Corpus *c, CorpusDoc *d, CorpusThread *t) {
    const Document *doc = d->doc;
    d->reason = -1;
    d->language = -1;
    memset(&d->changed, 0, sizeof d->changed);
    memcpy(d->sha256, doc->sha256, 32);
    if (!doc->known) {
        Sha256 sum;
        sha256_init(&sum);
        sha256_update(&sum, doc->text, doc->n);
        sha256_final(d->sha256, &sum);
    }
    if (corpus_does(c, CLEAN_REPAIR) && corpus_no_text(doc)) {
        d->reason = CORPUS_NO_TEXT;
        return;
    }
    bool settled = clean_text(&d->text, &t->spare, doc->text, doc->n, c->job->steps, &d->changed);
    d->reason = settled ? corpus_judge(c, d, t) : CORPUS_UNSETTLED;
    if (d->reason < 0) corpus_hash(d);
}

// ---------------------------------------------------------------- duplicates, in order

// Takes paragraphs out that were there before. Returns how many; what is left is in spare.
static inline size_t corpus_new_paragraphs(Corpus *c, CorpusDoc *d, Str *left) {
    size_t taken = 0, i = 0;
    left->size = 0;
    seen_mark(&c->paragraphs, d->part_count);
    for (const char *p = d->text.data, *end = p + d->text.size, *next; p < end; p = next, i++) {
        size_t n = corpus_paragraph(p, end, &next);
        if (d->parts[i].a && !seen_add(&c->paragraphs, d->parts[i])) {
            taken++;
            continue;
        }
        if (left->size) str_puts(left, "\n\n");
        str_add(left, p, n);
    }
    return taken;
}

// A document without some of its paragraphs: is it still one? It may be one that is there already.
static inline void corpus_judge_again(Corpus *c, CorpusDoc *d, const Str *left, CorpusThread *t) {
    CleanCounts changed;
    size_t before = d->text.size;
    bool settled = clean_text(&d->text, &t->spare, left->data, left->size, c->job->steps, &changed);
    d->reason = settled ? corpus_judge(c, d, t) : CORPUS_UNSETTLED;
    if (d->reason == CORPUS_EMPTY) d->reason = CORPUS_REPEATED;
    if (d->reason < 0 && corpus_does(c, CORPUS_DOCUMENTS) &&
        !seen_add(&c->documents, seen_hash(d->text.data, d->text.size)))
        d->reason = CORPUS_TWICE;
    if (d->reason < 0) c->counts[d->file].paragraph_bytes += (int64_t)(before - d->text.size);
}

static inline void corpus_duplicates(Corpus *c, CorpusDoc *d) {
    CorpusThread *t = &c->threads[0];
    seen_mark(&c->documents, 2);
    if (corpus_does(c, CORPUS_DOCUMENTS) && !seen_add(&c->documents, d->whole)) {
        d->reason = CORPUS_TWICE;
        return;
    }
    if (!corpus_does(c, CORPUS_PARAGRAPHS)) return;
    Str left;
    memset(&left, 0, sizeof left);
    size_t taken = corpus_new_paragraphs(c, d, &left);
    if (taken) {
        corpus_judge_again(c, d, &left, t);
        if (d->reason < 0) c->counts[d->file].paragraphs += (int64_t)taken;
        else seen_undo(&c->paragraphs), seen_undo(&c->documents);
    }
    free(left.data);
}

// ---------------------------------------------------------------- output

static inline void corpus_origin(Str *s, const CorpusDoc *d) {
    char hex[65];
    sha256_hex(hex, d->sha256);
    str_puts(s, "{\"source\": ");
    json_escape(s, d->doc->source, strlen(d->doc->source));
    str_printf(s, ", \"offset\": %lld, \"sha256\": \"%s\"}", (long long)d->doc->offset, hex);
}

static inline void corpus_count(Corpus *c, CorpusDoc *d) {
    CorpusCounts *n = &c->counts[d->file];
    n->read++;
    n->read_bytes += (int64_t)d->doc->n;
    for (int i = 0; i < CLEAN_STEP_COUNT; i++) n->changed[i] += d->changed.changed[i];
    if (d->language >= 0) n->languages[d->language]++;
    if (d->reason < 0) {
        for (int i = 0; i < PERSONAL_KIND_COUNT; i++) n->masked[i] += d->changed.masked[i];
        n->kept++;
        n->kept_bytes += (int64_t)d->text.size;
        str_puts(&c->lines, "{\"text\": ");
        json_escape(&c->lines, d->text.data, d->text.size);
        str_puts(&c->lines, ", \"origin\": ");
        corpus_origin(&c->lines, d);
        str_add(&c->lines, d->doc->meta, d->doc->meta_size);
        str_puts(&c->lines, "}\n");
        return;
    }
    n->dropped[d->reason]++;
    n->dropped_bytes[d->reason] += (int64_t)d->doc->n;
    if (c->example_count[d->reason]++ >= CORPUS_EXAMPLES) return;
    Str *s = &c->examples[d->reason];
    if (s->size) str_puts(s, ", ");
    corpus_origin(s, d);
}

static inline void corpus_write(Corpus *c) {
    for (size_t at = 0; at < c->lines.size && !c->failed;) {
        ssize_t n = write(c->sink, c->lines.data + at, c->lines.size - at);
        if (n >= 0) at += (size_t)n;
        else if (errno != EINTR) c->failed = errno;
    }
    c->lines.size = 0;
    if (signals_waiting(&c->out.hold)) c->failed = EINTR;
}

// Cleans what has been collected, and gives it back.
static inline void corpus_flush(Corpus *c) {
    int64_t count = (int64_t)c->doc_count;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 4) num_threads(c->thread_count)
    for (int64_t i = 0; i < count; i++) corpus_document(c, &c->docs[i], &c->threads[omp_get_thread_num()]);
#else
    for (int64_t i = 0; i < count; i++) corpus_document(c, &c->docs[i], &c->threads[0]);
#endif
    for (size_t i = 0; i < c->doc_count && !c->failed; i++) {
        if (c->docs[i].reason < 0) corpus_duplicates(c, &c->docs[i]);
        corpus_count(c, &c->docs[i]);
        if (c->lines.size > (size_t)1 << 20) corpus_write(c);
    }
    corpus_write(c);
    c->doc_count = 0;
    while (c->batch_count > 0) doc_inputs_release(&c->inputs, c->batches[--c->batch_count]);
}

static inline void corpus_collect(Corpus *c, DocBatch *batch) {
    size_t old = c->doc_capacity;
    c->docs = (CorpusDoc *)mem_grow(c->docs, &c->doc_capacity, c->doc_count + batch->count, sizeof(CorpusDoc));
    memset((void *)(c->docs + old), 0, (c->doc_capacity - old) * sizeof(CorpusDoc));
    for (size_t i = 0; i < batch->count; i++) {
        CorpusDoc *d = &c->docs[c->doc_count++];
        d->doc = &batch->docs[i];
        d->file = (int)(batch->file - c->inputs.files);
    }
    c->batches[c->batch_count++] = batch;
}

static inline bool corpus_read(Corpus *c, Error *err) {
    size_t bytes = 0;
    for (DocBatch *batch; !c->failed;) {
        if (!doc_inputs_next(&c->inputs, &batch, err)) return false;
        if (batch) {
            bytes += batch->bytes;
            corpus_collect(c, batch);
        }
        if (!batch || bytes >= CORPUS_TOGETHER || c->batch_count == CORPUS_BATCHES) {
            corpus_flush(c);
            bytes = 0;
        }
        if (!batch) break;
    }
    return true;
}

// ---------------------------------------------------------------- files

static inline bool corpus_open_output(Corpus *c, Error *err) {
    static const char *const argv[] = {"zstd", "-q", "-c", NULL};
    int ends[2];
    if (!out_open(&c->out, c->stats->output.text, err)) return false;
    c->sink = fileno(c->out.stream);
    if (c->job->pack == CORPUS_PACK_NONE) return true;
    bool missing, ok = pipe2(ends, O_CLOEXEC) == 0;
    if (!ok) error_set(err, "cannot make a pipe: %s", strerror(errno));
    else {
        ok = child_start_writing(&c->packer, argv, ends[0], c->sink, &missing, err);
        close(ends[0]);
        if (ok) c->sink = ends[1];
        else close(ends[1]);
        if (!ok && missing)
            error_set(err, "the program zstd is not there; install it (Debian: zstd), or give --pack=none");
    }
    if (!ok) out_abort(&c->out);
    return ok;
}

// Ends the packer. On false the output is to be given up.
static inline bool corpus_close_output(Corpus *c, Error *err) {
    bool ok = true;
    if (c->sink != fileno(c->out.stream)) {
        close(c->sink);
        ok = child_end(&c->packer, err);
    }
    if (c->failed == EPIPE && !ok) return false; // the packer has said why
    return ok && !c->failed ? true
           : !ok            ? false
                            : error_set(err, "cannot write %s: %s", c->stats->output.text, strerror(c->failed));
}

static inline void corpus_add_counts(CorpusCounts *to, const CorpusCounts *from) {
    int64_t *a = (int64_t *)to;
    const int64_t *b = (const int64_t *)from;
    for (size_t i = 0; i < sizeof *to / sizeof *a; i++) a[i] += b[i];
}

// Members of an object.
static inline void corpus_counts_json(Str *s, const CorpusCounts *n) {
    const char *comma = "";
    str_printf(s, "\"documents\": %lld, \"bytes\": %lld, \"kept\": %lld, \"kept_bytes\": %lld, \"changed\": {",
               (long long)n->read, (long long)n->read_bytes, (long long)n->kept, (long long)n->kept_bytes);
    for (int i = 0; i < CLEAN_STEP_COUNT; i++)
        str_printf(s, "%s\"%s\": %lld", i ? ", " : "", corpus_step(i), (long long)n->changed[i]);
    str_puts(s, "}, \"languages\": {");
    for (int i = 0; i < LANGUAGE_COUNT; i++) {
        if (!n->languages[i]) continue;
        str_printf(s, "%s\"%s\": %lld", comma, language_name(i), (long long)n->languages[i]);
        comma = ", ";
    }
    comma = "";
    str_puts(s, "}, \"masked\": {");
    for (int i = 0; i < PERSONAL_KIND_COUNT; i++)
        str_printf(s, "%s\"%s\": %lld", i ? ", " : "", personal_name(i), (long long)n->masked[i]);
    str_printf(s, "}, \"paragraphs_taken_out\": %lld, \"paragraph_bytes\": %lld, \"dropped\": {",
               (long long)n->paragraphs, (long long)n->paragraph_bytes);
    for (int i = 0; i < CORPUS_REASON_COUNT; i++) {
        if (!n->dropped[i]) continue;
        str_printf(s, "%s\"%s\": {\"documents\": %lld, \"bytes\": %lld}", comma, corpus_reason(i),
                   (long long)n->dropped[i], (long long)n->dropped_bytes[i]);
        comma = ", ";
    }
    str_puts(s, "}");
}

static inline void corpus_manifest(Str *s, const Corpus *c) {
    const CorpusJob *job = c->job;
    const char *slash = strrchr(c->stats->output.text, '/'), *comma = "";
    char sum[65];
    str_puts(s, "{\n  \"corpus\": ");
    json_escape(s, slash + 1, strlen(slash + 1));
    if (sha256_file(sum, c->stats->output.text, NULL)) str_printf(s, ", \"sha256\": \"%s\"", sum);
    str_puts(s, ",\n  \"program\": ");
    json_escape(s, job->program, strlen(job->program));
    str_puts(s, ",\n  \"steps\": [");
    for (int i = 0; i < CORPUS_STEP_COUNT; i++) {
        if (!corpus_does(c, i)) continue;
        str_printf(s, "%s\"%s\"", comma, corpus_step(i));
        comma = ", ";
    }
    str_puts(s, "],\n  \"rules\": {");
    for (int i = 0; i < QUALITY_RULE_COUNT; i++) {
        str_printf(s, "%s\"%s\": ", i ? ", " : "", quality_name(i));
        json_add_number(s, job->rules.value[i]);
    }
    str_printf(s, "},\n  \"german\": %.9g,\n  ", job->german);
    corpus_counts_json(s, &c->stats->all);
    str_puts(s, ",\n  \"by_source\": [");
    for (int i = 0; i < c->inputs.count; i++) {
        str_printf(s, "%s\n    {\"path\": ", i ? "," : "");
        json_escape(s, c->inputs.files[i].path, strlen(c->inputs.files[i].path));
        str_puts(s, ", ");
        corpus_counts_json(s, &c->counts[i]);
        str_puts(s, "}");
    }
    str_puts(s, "\n  ],\n  \"examples\": {");
    comma = "";
    for (int i = 0; i < CORPUS_REASON_COUNT; i++) {
        if (!c->examples[i].size) continue;
        str_printf(s, "%s\n    \"%s\": [%s]", comma, corpus_reason(i), c->examples[i].data);
        comma = ",";
    }
    str_puts(s, "\n  }");
    doc_inputs_describe(s, &c->inputs);
    str_puts(s, "\n}\n");
}

static inline void corpus_free(Corpus *c) {
    while (c->batch_count > 0) doc_inputs_release(&c->inputs, c->batches[--c->batch_count]);
    doc_inputs_close(&c->inputs);
    for (size_t i = 0; i < c->doc_capacity; i++) free(c->docs[i].text.data), free(c->docs[i].parts);
    for (int i = 0; i < c->thread_count; i++) {
        free(c->threads[i].spare.data);
        quality_free(&c->threads[i].quality);
    }
    for (int i = 0; i < CORPUS_REASON_COUNT; i++) free(c->examples[i].data);
    seen_free(&c->documents);
    seen_free(&c->paragraphs);
    free(c->docs);
    free(c->threads);
    free(c->counts);
    free(c->lines.data);
    free(c);
}

static inline Path corpus_output(const char *folder, int pack) {
    return path_of("%s/corpus.jsonl%s", folder, pack == CORPUS_PACK_ZSTD ? ".zst" : "");
}

// Writes FOLDER/corpus.jsonl.zst and, behind it, FOLDER/manifest.json. On false neither is new.
static inline bool corpus_run(const CorpusJob *job, const char *folder, CorpusStats *stats, Error *err) {
    double start = clock_seconds();
    Str manifest;
    memset(&manifest, 0, sizeof manifest);
    if (!path_make_folder(folder, err)) return false;
    Corpus *c = (Corpus *)mem_alloc(sizeof(Corpus));
    if (!doc_inputs_open(&c->inputs, job->inputs, &job->docs, err)) {
        free(c);
        return false;
    }
    c->job = job;
    c->stats = stats;
    c->thread_count = 1;
#ifdef _OPENMP
    c->thread_count = omp_get_max_threads();
#endif
    c->threads = (CorpusThread *)mem_alloc((size_t)c->thread_count * sizeof(CorpusThread));
    c->counts = (CorpusCounts *)mem_alloc((size_t)c->inputs.count * sizeof(CorpusCounts));
    stats->output = corpus_output(folder, job->pack);
    bool ok = corpus_open_output(c, err);
    if (ok) {
        Error why;
        ok = corpus_read(c, err);
        bool closed = corpus_close_output(c, &why);
        if (ok && !closed) ok = error_set(err, "%s", why.text);
        if (ok) ok = out_commit(&c->out, err);
        else out_abort(&c->out);
    }
    for (int i = 0; i < c->inputs.count; i++) corpus_add_counts(&stats->all, &c->counts[i]);
    if (ok) {
        corpus_manifest(&manifest, c);
        ok = file_write_all(path_of("%s/manifest.json", folder).text, manifest.data, manifest.size, err);
    }
    stats->damage = c->inputs.damage;
    memset(&c->inputs.damage, 0, sizeof c->inputs.damage);
    free(manifest.data);
    corpus_free(c);
    stats->seconds = clock_seconds() - start;
    return ok;
}

#endif
