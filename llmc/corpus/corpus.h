/*
corpus.h: documents of any form -> cleaned JSON lines; what the verb `corpus` does.

    corpus_run(&job, "data/clean", &stats, err)     data/clean/corpus.jsonl.zst and data/clean/manifest.json

Steps, in this order, each of which can be left out (--clean_steps):
    repair nfc control hyphens boilerplate          clean.h: the text is mended
    personal                                        personal.h: personal data becomes placeholders. Before the judging
                                                    and the duplicates, since those of a second run see them
    opt_out                                         a document is dropped whose source says that nobody may mine it
    language                                        language.h: one that is not German is dropped
    quality                                         quality.h: one that breaks a rule is dropped
    (--contamination)                               contamination.h: what evaluation sets hold is counted, or dropped
    documents                                       one that was there before, letter by letter, is dropped
    paragraphs                                      one of CORPUS_PARAGRAPH bytes or more that was there before is taken
                                                    out, and what is left of the document is judged again
    near                                            near.h: of documents that are nearly the same one stays
The first of several equal texts stays, in the order of the input. Cleaning twice changes nothing: what a dropped
document held is not taken for something that was there.

A line of the output: {"text", "origin": {"source", "offset", "sha256"}, and what --keep names}. The origin is that of
the text before all steps, also when cleaned text is cleaned again; "near" in it: how many near duplicates, itself
included, the document stands for. The manifest counts, for each source and each step,
what it changed and dropped, with examples. Neither threads nor the size of batches change a byte of them.

Some batches at a time are mended and judged by all OpenMP threads; duplicates are found by one, in order. Memory: the
batches under way, and 32 to 64 bytes for each different document and paragraph (seen.h). Which of near duplicates stays
is known when all are read: until then the lines of the output lie in a file without a name in its folder, packed.
*/
#ifndef LLMC_CORPUS_H
#define LLMC_CORPUS_H

#include "../text/doc_inputs.h"
#include "clean.h"
#include "contamination.h"
#include "language.h"
#include "near.h"
#include "quality.h"
#include "seen.h"
#include "spool.h"
#ifdef _OPENMP
#include <omp.h>
#endif

#define CORPUS_TOGETHER ((size_t)16 << 20) // bytes of text that are cleaned at a time; may be tuned
#define CORPUS_BATCHES 500                 // and batches, each of which may hold a file open
#define CORPUS_PARAGRAPH 80                // bytes of the shortest paragraph that counts as a duplicate
#define CORPUS_INVALID 8  // one byte in so many that is no UTF-8 is no text; of German in Latin-1 one in 50
#define CORPUS_EXAMPLES 3 // dropped documents that are named, for each reason

#define CORPUS_MORE(X)                                                                                                 \
    X(CORPUS_OPT_OUT, "opt_out")                                                                                       \
    X(CORPUS_LANGUAGE, "language")                                                                                     \
    X(CORPUS_QUALITY, "quality")                                                                                       \
    X(CORPUS_DOCUMENTS, "documents") X(CORPUS_PARAGRAPHS, "paragraphs") X(CORPUS_NEAR, "near")
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
    CORPUS_OPTED_OUT,
    CORPUS_FOREIGN,
    CORPUS_CONTAMINATED,
    CORPUS_TWICE,
    CORPUS_REPEATED,
    CORPUS_NEAR_TWICE,
    CORPUS_REASON_COUNT
};
static inline const char *corpus_reason(int reason) {
    static const char *const names[] = {"empty",         "no_text",      "unsettled",      "opted_out",
                                        "not_german",    "contaminated", "document_twice", "all_paragraphs_twice",
                                        "near_duplicate"};
    return reason < QUALITY_RULE_COUNT ? quality_name(reason) : names[reason - QUALITY_RULE_COUNT];
}

#define CORPUS_PACKS(X) X(CORPUS_PACK_ZSTD, "zstd") X(CORPUS_PACK_NONE, "none")
enum { CORPUS_PACKS(CHOICE_ENUM) };

// Which of near duplicates stays. The oldest, by the first of the members CORPUS_DATES that --keep has kept.
#define CORPUS_STAYS(X) X(CORPUS_FIRST, "first") X(CORPUS_LONGEST, "longest") X(CORPUS_OLDEST, "oldest")
enum { CORPUS_STAYS(CHOICE_ENUM) };
static inline const char *corpus_date_name(int i) {
    static const char *const names[] = {"date", "WARC-Date", "timestamp", "ts"};
    return i < 4 ? names[i] : NULL;
}

typedef struct {
    const char *inputs; // "FILE,GLOB,FOLDER,..."
    DocSettings docs;
    unsigned steps; // bits
    QualityRules rules;
    double german; // least score of language.h
    int pack, near_keep;
    const char *contamination; // files that nobody should have trained on; empty: none
    bool contamination_drop;
    int64_t part_bytes; // of text in a part (parts.h)
    const char *program;
    const char *options; // what it was told, a JSON object, for the manifest; NULL: it does not say
} CorpusJob;

// Of all documents, or of those of one source.
typedef struct {
    int64_t read, read_bytes, kept, kept_bytes;
    int64_t changed[CLEAN_STEP_COUNT]; // documents
    int64_t dropped[CORPUS_REASON_COUNT], dropped_bytes[CORPUS_REASON_COUNT];
    int64_t paragraphs, paragraph_bytes; // taken out of documents that stay
    int64_t languages[LANGUAGE_COUNT];   // documents, where something can be said
    int64_t masked[PERSONAL_KIND_COUNT]; // in all that were read
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
    int language;              // -1: not known
    int reason;                // -1: kept so far
    size_t taken, taken_bytes; // paragraphs that were there before
    uint64_t keys[NEAR_BANDS];
    bool keyed;      // it has keys
    uint32_t *found; // (found_count) items of evaluation sets that it overlaps
    size_t found_count, found_capacity;
} CorpusDoc;

// What is known of a document that stays, in front of its line while nobody knows whether it does.
typedef struct {
    int64_t bytes, kept_bytes;           // of its text, before and after
    int64_t paragraphs, paragraph_bytes; // that were taken out
    int64_t origin, origin_end, size;    // of its line: where the object "origin" stands, and bytes
    int32_t file, near;                  // number of its source; near duplicates that it stood for before
} CorpusLine;

typedef struct {
    Str spare;
    QualityText quality;
    NearText near;
    ContaminationScan scan;
} CorpusThread;

typedef struct Corpus {
    const CorpusJob *job;
    DocInputs inputs;
    DocBatch *batches[CORPUS_BATCHES];
    int batch_count;
    CorpusDoc *docs; // (doc_count) of the batches; their memory is used again
    size_t doc_count, doc_capacity;
    CorpusThread *threads;
    int thread_count;
    Seen documents, paragraphs;
    Contamination contamination;
    Near near;
    int spool_file;
    Spool spool; // lines, until it is known which of them stay
    Str line;
    Error scratch;        // why that failed
    CorpusCounts *counts; // (inputs.count)
    Str examples[CORPUS_REASON_COUNT];
    int example_count[CORPUS_REASON_COUNT];
    Str lines; // of the output
    OutFile out;
    Child packer;
    int sink; // where lines are written
    int failed;
    size_t together; // bytes of text that are cleaned at a time
    CorpusStats *stats;
    void (*flush)(struct Corpus *); // what is done with the documents that were collected
    void *parts;                    // where they come from, or go (parts.h)
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

// Is it German, a text, and none that evaluation sets hold? Sets the reason why not. What is no UTF-8 is not judged.
static inline void corpus_judge(const Corpus *c, CorpusDoc *d, CorpusThread *t) {
    const uint8_t *text = (const uint8_t *)d->text.data;
    d->found_count = 0;
    if (text_valid(text, text + d->text.size) != d->text.size) return;
    if (corpus_does(c, CORPUS_LANGUAGE)) {
        double score = language_judge(d->text.data, d->text.size, &d->language);
        if (score < c->job->german) d->reason = CORPUS_FOREIGN;
        if (isnan(score)) d->language = -1; // the rules of quality say whether it is long enough
    }
    if (d->reason < 0 && corpus_does(c, CORPUS_QUALITY))
        d->reason = quality_judge(&t->quality, d->text.data, d->text.size, &c->job->rules);
    if (d->reason >= 0 || !c->contamination.file_count) return;
    if (!contamination_find(&c->contamination, &t->scan, d->text.data, d->text.size)) return;
    d->found = (uint32_t *)mem_grow(d->found, &d->found_capacity, t->scan.count, sizeof *d->found);
    memcpy(d->found, t->scan.items, t->scan.count * sizeof *d->found);
    d->found_count = t->scan.count;
    if (c->job->contamination_drop) d->reason = CORPUS_CONTAMINATED;
}

static inline void corpus_document(const Corpus *c, CorpusDoc *d, CorpusThread *t) {
    const Document *doc = d->doc;
    d->reason = -1;
    d->language = -1;
    d->found_count = 0;
    memset(&d->changed, 0, sizeof d->changed);
    memcpy(d->sha256, doc->sha256, 32);
    if (!doc->known) {
        Sha256 sum;
        sha256_init(&sum);
        sha256_update(&sum, doc->text, doc->n);
        sha256_final(d->sha256, &sum);
    }
    if (doc->opted_out) d->reason = CORPUS_OPTED_OUT;
    else if (corpus_does(c, CLEAN_REPAIR) && corpus_no_text(doc)) d->reason = CORPUS_NO_TEXT;
    if (d->reason >= 0) return;
    bool settled = clean_text(&d->text, &t->spare, doc->text, doc->n, c->job->steps, &d->changed);
    if (!settled) d->reason = CORPUS_UNSETTLED;
    else if (d->text.size == 0) d->reason = CORPUS_EMPTY;
    else corpus_judge(c, d, t);
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
    if (!settled) d->reason = CORPUS_UNSETTLED;
    else if (d->text.size == 0) d->reason = CORPUS_REPEATED;
    else corpus_judge(c, d, t);
    if (d->reason < 0 && corpus_does(c, CORPUS_DOCUMENTS) &&
        !seen_add(&c->documents, seen_hash(d->text.data, d->text.size)))
        d->reason = CORPUS_TWICE;
    if (d->reason < 0) d->taken_bytes = before - d->text.size;
}

static inline void corpus_duplicates(Corpus *c, CorpusDoc *d) {
    CorpusThread *t = &c->threads[0];
    d->taken = d->taken_bytes = 0;
    seen_mark(&c->documents, 2);
    if (corpus_does(c, CORPUS_DOCUMENTS) && !seen_add(&c->documents, d->whole)) {
        d->reason = CORPUS_TWICE;
        return;
    }
    if (!corpus_does(c, CORPUS_PARAGRAPHS)) return;
    Str left;
    memset(&left, 0, sizeof left);
    d->taken = corpus_new_paragraphs(c, d, &left);
    if (d->taken) {
        corpus_judge_again(c, d, &left, t);
        if (d->reason >= 0) seen_undo(&c->paragraphs), seen_undo(&c->documents);
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

// Dropped, with its origin (n bytes of JSON) as an example.
static inline void corpus_drop(Corpus *c, int file, int reason, int64_t bytes, const char *origin, size_t n) {
    c->counts[file].dropped[reason]++;
    c->counts[file].dropped_bytes[reason] += bytes;
    if (c->example_count[reason]++ >= CORPUS_EXAMPLES) return;
    if (c->examples[reason].size) str_puts(&c->examples[reason], ", ");
    str_add(&c->examples[reason], origin, n);
}

static inline void corpus_kept(CorpusCounts *n, const CorpusLine *l) {
    n->kept++;
    n->kept_bytes += l->kept_bytes;
    n->paragraphs += l->paragraphs;
    n->paragraph_bytes += l->paragraph_bytes;
}

static inline void corpus_line(Str *s, CorpusLine *l, const CorpusDoc *d) {
    size_t before = s->size;
    int64_t near = d->doc->near > 1 ? int64_min(d->doc->near, INT32_MAX) : 1;
    str_puts(s, "{\"text\": ");
    json_escape(s, d->text.data, d->text.size);
    str_puts(s, ", \"origin\": ");
    l->origin = (int64_t)(s->size - before);
    corpus_origin(s, d);
    l->origin_end = (int64_t)(s->size - before);
    str_add(s, d->doc->meta, d->doc->meta_size);
    str_puts(s, "}\n");
    l->size = (int64_t)(s->size - before);
    l->bytes = (int64_t)d->doc->n;
    l->kept_bytes = (int64_t)d->text.size;
    l->paragraphs = (int64_t)d->taken;
    l->paragraph_bytes = (int64_t)d->taken_bytes;
    l->file = d->file;
    l->near = (int32_t)near;
}

// How much a document is wanted among its near duplicates.
static inline uint32_t corpus_weight(const Corpus *c, const CorpusDoc *d, Str *spare) {
    if (c->job->near_keep == CORPUS_LONGEST) return d->text.size < UINT32_MAX ? (uint32_t)d->text.size : UINT32_MAX;
    const char *names[4];
    JsonSpan found[4];
    for (int i = 0; i < 4; i++) names[i] = corpus_date_name(i);
    spare->size = 0;
    if (c->job->near_keep != CORPUS_OLDEST || d->doc->meta_size < 2) return 0;
    str_puts(spare, "{");
    str_add(spare, d->doc->meta + 2, d->doc->meta_size - 2); // behind ", "
    str_puts(spare, "}");
    if (!json_line(spare->data, spare->data + spare->size, names, 4, found, NULL)) return 0;
    for (int i = 0; i < 4; i++)
        if (found[i].from && *found[i].from == '"') return near_age(found[i].from + 1);
    return 0;
}

static inline void corpus_count(Corpus *c, CorpusDoc *d) {
    CorpusCounts *n = &c->counts[d->file];
    CorpusLine l;
    n->read++;
    n->read_bytes += (int64_t)d->doc->n;
    for (int i = 0; i < CLEAN_STEP_COUNT; i++) n->changed[i] += d->changed.changed[i];
    for (int i = 0; i < PERSONAL_KIND_COUNT; i++) n->masked[i] += d->changed.masked[i];
    if (d->language >= 0) n->languages[d->language]++;
    if (d->reason < 0 || d->reason == CORPUS_CONTAMINATED)
        contamination_count(&c->contamination, d->found, d->found_count);
    if (d->reason >= 0) {
        c->line.size = 0;
        corpus_origin(&c->line, d);
        corpus_drop(c, d->file, d->reason, (int64_t)d->doc->n, c->line.data, c->line.size);
    } else if (!corpus_does(c, CORPUS_NEAR)) {
        corpus_line(&c->lines, &l, d);
        corpus_kept(n, &l);
    } else {
        c->line.size = 0;
        corpus_line(&c->line, &l, d);
        spool_put(&c->spool, &l, sizeof l);
        spool_put(&c->spool, c->line.data, c->line.size);
        uint32_t weight = corpus_weight(c, d, &c->threads[0].spare);
        if (!near_add(&c->near, d->keyed ? d->keys : NULL, weight, (uint32_t)l.near, &c->scratch)) c->failed = EIO;
        if (c->spool.failed && !c->failed && !spool_written(&c->spool, &c->scratch)) c->failed = EIO;
    }
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

// Of the documents as they are now, without paragraphs that were there before.
static inline void corpus_near_keys(Corpus *c) {
    int64_t count = corpus_does(c, CORPUS_NEAR) ? (int64_t)c->doc_count : 0;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 4) num_threads(c->thread_count)
#endif
    for (int64_t i = 0; i < count; i++) {
        CorpusDoc *d = &c->docs[i];
        int thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        if (d->reason < 0) d->keyed = near_keys(&c->threads[thread].near, d->keys, d->text.data, d->text.size);
    }
}

// What each document is by itself.
static inline void corpus_clean(Corpus *c) {
    int64_t count = (int64_t)c->doc_count;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 4) num_threads(c->thread_count)
    for (int64_t i = 0; i < count; i++) corpus_document(c, &c->docs[i], &c->threads[omp_get_thread_num()]);
#else
    for (int64_t i = 0; i < count; i++) corpus_document(c, &c->docs[i], &c->threads[0]);
#endif
}

// What it is among all, in their order; its line.
static inline void corpus_settle(Corpus *c) {
    for (size_t i = 0; i < c->doc_count; i++)
        if (c->docs[i].reason < 0) corpus_duplicates(c, &c->docs[i]);
    corpus_near_keys(c);
    for (size_t i = 0; i < c->doc_count && !c->failed; i++) {
        corpus_count(c, &c->docs[i]);
        if (c->lines.size > (size_t)1 << 20) corpus_write(c);
    }
    corpus_write(c);
    c->doc_count = 0;
}

static inline void corpus_release(Corpus *c) {
    while (c->batch_count > 0) doc_inputs_release(&c->inputs, c->batches[--c->batch_count]);
}

static inline void corpus_flush(Corpus *c) {
    corpus_clean(c);
    corpus_settle(c);
    corpus_release(c);
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
        if (!batch || bytes >= c->together || c->batch_count == CORPUS_BATCHES) {
            c->flush(c);
            bytes = 0;
        }
        if (!batch) break;
    }
    return true;
}

// ---------------------------------------------------------------- near duplicates

static inline bool corpus_near_open(Corpus *c, const char *folder, Error *err) {
    if (!corpus_does(c, CORPUS_NEAR)) return true;
    c->spool_file = file_scratch(folder, err);
    return c->spool_file >= 0 && near_open(&c->near, folder, c->job->near_keep != CORPUS_FIRST, err) &&
           spool_write_to(&c->spool, c->spool_file, c->job->pack == CORPUS_PACK_ZSTD, err);
}

static inline void corpus_near_close(Corpus *c) {
    spool_close(&c->spool);
    near_close(&c->near);
    if (c->spool_file >= 0) close(c->spool_file);
    free(c->line.data);
}

// The lines of the documents that stay, from the spool into the output.
static inline bool corpus_near_write(Corpus *c, Error *err) {
    if (!corpus_does(c, CORPUS_NEAR) || c->failed) return true;
    if (!spool_written(&c->spool, err) || !near_join(&c->near, &c->out.hold, err)) return false;
    spool_close(&c->spool);
    if (!spool_read_from(&c->spool, c->spool_file, 0, c->job->pack == CORPUS_PACK_ZSTD, err)) return false;
    for (uint32_t i = 0; i < c->near.documents && !c->failed; i++) {
        CorpusLine l;
        if (!spool_get(&c->spool, &l, sizeof l, err)) return false;
        c->line.data = (char *)mem_grow(c->line.data, &c->line.capacity, (size_t)l.size, 1);
        if (!spool_get(&c->spool, c->line.data, (size_t)l.size, err)) return false;
        const char *line = c->line.data;
        int64_t size = near_size(&c->near, i);
        if (size == 0) {
            corpus_drop(c, l.file, CORPUS_NEAR_TWICE, l.bytes, line + l.origin, (size_t)(l.origin_end - l.origin));
            continue;
        }
        corpus_kept(&c->counts[l.file], &l);
        str_add(&c->lines, line, (size_t)l.origin_end - (size > 1));
        if (size > 1) str_printf(&c->lines, ", \"near\": %lld}", (long long)size);
        str_add(&c->lines, line + l.origin_end, (size_t)(l.size - l.origin_end));
        if (c->lines.size > (size_t)1 << 20) corpus_write(c);
    }
    corpus_write(c);
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
    if (c->scratch.text[0])
        return error_set(err,
                         "%.700s; finding near duplicates takes room for the packed output again and 168 bytes a "
                         "document, in the folder of --out",
                         c->scratch.text);
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
    if (job->options) str_printf(s, ",\n  \"options\": %s", job->options);
    str_puts(s, ",\n  \"steps\": [");
    for (int i = 0; i < CORPUS_STEP_COUNT; i++) {
        if (!corpus_does(c, i)) continue;
        str_printf(s, "%s\"%s\"", comma, corpus_step(i));
        comma = ", ";
    }
    static const char *const stays[] = {CORPUS_STAYS(CHOICE_NAME)};
    str_printf(s, "],\n  \"near_keep\": \"%s\",\n  \"rules\": {", stays[job->near_keep]);
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
    if (c->contamination.file_count) {
        str_printf(s, "\n  ],\n  \"contamination\": {\"words\": %d, \"dropped\": %s, \"files\": ", CONTAMINATION_WORDS,
                   job->contamination_drop ? "true" : "false");
        contamination_describe(s, &c->contamination);
        str_puts(s, "},\n  \"examples\": {");
    } else str_puts(s, "\n  ],\n  \"examples\": {");
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
    for (size_t i = 0; i < c->doc_capacity; i++)
        free(c->docs[i].text.data), free(c->docs[i].parts), free(c->docs[i].found);
    for (int i = 0; i < c->thread_count; i++) {
        free(c->threads[i].spare.data);
        quality_free(&c->threads[i].quality);
        near_text_free(&c->threads[i].near);
        contamination_scan_free(&c->threads[i].scan);
    }
    for (int i = 0; i < CORPUS_REASON_COUNT; i++) free(c->examples[i].data);
    seen_free(&c->documents);
    seen_free(&c->paragraphs);
    corpus_near_close(c);
    contamination_close(&c->contamination);
    free(c->docs);
    free(c->threads);
    free(c->counts);
    free(c->lines.data);
    free(c);
}

static inline Path corpus_output(const char *folder, int pack) {
    return path_of("%s/corpus.jsonl%s", folder, pack == CORPUS_PACK_ZSTD ? ".zst" : "");
}

static inline Corpus *corpus_open(const CorpusJob *job, CorpusStats *stats, Error *err) {
    Corpus *c = (Corpus *)mem_alloc(sizeof(Corpus));
    if ((*job->contamination && !contamination_open(&c->contamination, job->contamination, err)) ||
        !doc_inputs_open(&c->inputs, job->inputs, &job->docs, err)) {
        contamination_close(&c->contamination);
        free(c);
        return NULL;
    }
    c->job = job;
    c->stats = stats;
    c->flush = corpus_flush;
    c->together = CORPUS_TOGETHER;
    c->thread_count = 1;
#ifdef _OPENMP
    c->thread_count = omp_get_max_threads();
#endif
    c->threads = (CorpusThread *)mem_alloc((size_t)c->thread_count * sizeof(CorpusThread));
    c->counts = (CorpusCounts *)mem_alloc((size_t)c->inputs.count * sizeof(CorpusCounts));
    spool_init(&c->spool, -1);
    c->spool_file = c->near.fd = -1;
    return c;
}

// The output of what `read` gives to corpus_settle(). Frees c.
static inline bool corpus_make(Corpus *c, const char *folder, bool (*read)(Corpus *, Error *), Error *err) {
    CorpusStats *stats = c->stats;
    Str manifest;
    SignalHold hold;
    memset(&manifest, 0, sizeof manifest);
    memset(&hold, 0, sizeof hold);
    stats->output = corpus_output(folder, c->job->pack);
    bool ok = corpus_near_open(c, folder, err) && corpus_open_output(c, err);
    if (ok) {
        Error why;
        ok = read(c, err) && corpus_near_write(c, err) && doc_inputs_sums(&c->inputs, err);
        bool closed = corpus_close_output(c, &why);
        if (ok && !closed) ok = error_set(err, "%s", why.text);
        if (ok) { // a signal waits until the manifest is there, too
            hold = c->out.hold;
            c->out.hold.held = false;
            ok = out_commit(&c->out, err);
        } else out_abort(&c->out);
    }
    for (int i = 0; i < c->inputs.count; i++) corpus_add_counts(&stats->all, &c->counts[i]);
    if (ok) {
        corpus_manifest(&manifest, c);
        ok = file_write_all(path_of("%s/manifest.json", folder).text, manifest.data, manifest.size, err);
    }
    signals_release(&hold);
    stats->damage = c->inputs.damage;
    memset(&c->inputs.damage, 0, sizeof c->inputs.damage);
    free(manifest.data);
    corpus_free(c);
    return ok;
}

// Writes FOLDER/corpus.jsonl.zst and, behind it, FOLDER/manifest.json. On false neither is new.
static inline bool corpus_run(const CorpusJob *job, const char *folder, CorpusStats *stats, Error *err) {
    double start = clock_seconds();
    if (!path_make_folder(folder, err)) return false;
    Corpus *c = corpus_open(job, stats, err);
    bool ok = c && corpus_make(c, folder, corpus_read, err);
    stats->seconds = clock_seconds() - start;
    return ok;
}

#endif
