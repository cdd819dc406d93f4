/*
documents.h: what documents stand in a file, whatever its form; the one way in which text is read.

    DocParse p;                     one file, from its beginning to its end; doc_inputs.h runs many at once
    doc_read_file(&p)               gives batches of documents to p.give

Forms, by what the first bytes are, also of a file that gzip, bzip2, xz or zstd packed (window.h):
    text        plain text, cut as DocSplit says
    lines       JSON lines (JSONL): the text of a line stands in --field; members named by --keep go with it
    cirrus      CirrusSearch dumps of MediaWiki: JSON lines in pairs, of which the second has the text
    leipzig     sentences of Wortschatz Leipzig: NAME-sentences.txt, a number and a sentence in a line
    warc        records of type `conversion` and plain text (WET). HTML is refused by name: what is text in a page is
                another program's art (trafilatura, resiliparse), and a bad extractor ruins a corpus
    tar         every regular file in it is read like a file of its own
    parquet     through the program duckdb, which writes JSON lines

Damage costs what is damaged: a line of JSON, a record, a member of a tar, the document under way where a packed file
breaks off. It is counted and named (line, byte of the unpacked file) and ends nothing, unless `strict`. A file that is
no text is an error if somebody named it, and damage in a folder or a tar.

Every document knows where it stood: `source` and `offset`, in bytes of the unpacked file (of the text, the line or the
record; of a parquet file: its row). One that this program has cleaned has them, and the SHA-256 of its original,
in a member "origin", which then counts.
*/
#ifndef LLMC_DOCUMENTS_H
#define LLMC_DOCUMENTS_H

#include "../base/hash.h"
#include "json_line.h"
#include "reader.h"
#include "window.h"

#define DOC_MOST ((size_t)1 << 30)    // bytes of a document that is not mapped; a longer one is damage
#define DOC_BATCH ((size_t)512 << 10) // bytes of text in a batch, about
#define DOC_BATCH_DOCUMENTS 4096      // and documents
#define DOC_NAMED 20                  // damages of a file that are named; the others are counted
#define DOC_KEEP_MOST 32              // members that --keep may name
#define DOC_OPT_OUTS 5                // members by which a source says that nobody may mine a text (doc_opted_out)

#define DOC_SPLITS(X) X(DOC_BLANK, "blank") X(DOC_FORMFEED, "formfeed") X(DOC_FILE, "file") X(DOC_NONE, "none")
typedef enum { DOC_SPLITS(CHOICE_ENUM) } DocSplit;

#define DOC_FIELD "text" // DocSettings.field, where nobody says another

typedef struct {
    DocSplit split;
    bool whole;        // plain text is one document with all of its white space
    bool strict;       // damage is an error
    bool opt_out;      // members that forbid mining are looked for
    const char *field; // of JSON lines and parquet: where the text is
    StrList keep;      // members that go with it, at most DOC_KEEP_MOST
} DocSettings;

typedef struct {
    const char *text; // (n)
    size_t n;
    uint64_t hash; // doc_hash of the text
    const char *source;
    int64_t offset;
    uint8_t sha256[32]; // of the original, where it is known
    bool known;
    bool opted_out;   // its source says that nobody may mine it
    int64_t near;     // near duplicates that it stands for, itself included; 0: nobody has counted
    const char *meta; // (meta_size) members of a JSON object, a comma and a space before each
    size_t meta_size;
} Document;

typedef struct DocBlock {
    struct DocBlock *next;
    size_t used, size; // bytes behind this struct
} DocBlock;

struct DocFile;
typedef struct DocBatch {
    struct DocBatch *next;
    struct DocFile *file; // whose mapping the texts may lie in
    Document *docs;       // (count)
    size_t count, capacity;
    size_t bytes; // of text
    DocBlock *blocks;
} DocBatch;

typedef struct {
    int64_t count;
    StrList named; // the first DOC_NAMED: "line 17: ..."
} DocDamage;

typedef struct DocParse {
    const DocSettings *settings;
    const char *path;
    bool member;        // of a folder: found, not named
    bool mapped;        // texts may lie where they are; false: they are copied
    const char *inside; // the member of a tar that is being read, or NULL
    struct DocFile *file;
    DocBatch *batch;
    DocDamage damage;
    int64_t documents;
    // Takes over a batch. false: nobody wants more.
    bool (*give)(struct DocParse *p, DocBatch *batch);
    Error *err;
    // of JSON lines:
    const char *names[DOC_KEEP_MOST + DOC_OPT_OUTS + 3];
    JsonSpan found[DOC_KEEP_MOST + DOC_OPT_OUTS + 3];
    int64_t line; // number of the line under way
    bool rows;    // lines are rows of a table, whose bytes nobody knows
    bool fielded; // there were some: settings->field was looked for
    Str text, meta, origin;
} DocParse;

// ---------------------------------------------------------------- batches

static inline void doc_batch_free(DocBatch *b) {
    for (DocBlock *block = b->blocks; block;) {
        DocBlock *next = block->next;
        free(block);
        block = next;
    }
    free(b->docs);
    free(b);
}

// A copy that lives as long as the batch.
static inline const char *doc_batch_copy(DocBatch *b, const char *bytes, size_t n) {
    DocBlock *block = b->blocks;
    if (!block || block->size - block->used < n) {
        size_t size = block ? DOC_BATCH : 4096; // many files are small
        if (n > size / 4) size = n > DOC_BATCH / 4 ? n : DOC_BATCH;
        block = (DocBlock *)malloc(sizeof(DocBlock) + size);
        if (!block) fail("out of memory: a document of %zu bytes", n);
        block->used = 0;
        block->size = size;
        block->next = b->blocks;
        b->blocks = block;
    }
    char *copy = (char *)(block + 1) + block->used;
    if (n) memcpy(copy, bytes, n);
    block->used += n;
    return copy;
}

static inline bool doc_give(DocParse *p) {
    DocBatch *b = p->batch;
    p->batch = NULL;
    return !b || p->give(p, b);
}

// The document to be filled in, in a batch with room.
static inline Document *doc_new(DocParse *p) {
    if (!p->batch) {
        p->batch = (DocBatch *)calloc(1, sizeof(DocBatch));
        if (!p->batch) fail("out of memory: a batch of documents");
        p->batch->file = p->file;
    }
    DocBatch *b = p->batch;
    b->docs = (Document *)mem_grow(b->docs, &b->capacity, b->count + 1, sizeof(Document));
    Document *d = &b->docs[b->count++];
    memset(d, 0, sizeof *d);
    d->source = p->path;
    return d;
}

// What all but `none` leave out: empty lines in front, white space at the end.
static inline const char *doc_skip_empty_lines(const char *p, const char *end);
static inline void doc_trim(const char **text, size_t *n) {
    const char *start = doc_skip_empty_lines(*text, *text + *n), *end = *text + *n;
    while (end > start && text_is_space(end[-1])) end--;
    *text = start;
    *n = (size_t)(end - start);
}

static inline uint64_t doc_hash(const char *text, size_t n) { return xxh64(text, n, 0x56414c); }

// A document that stands at `offset`, in the batch.
static inline Document *doc_fill(DocParse *p, const char *text, size_t n, int64_t offset, bool copy) {
    Document *d = doc_new(p);
    d->text = copy ? doc_batch_copy(p->batch, text, n) : text;
    d->n = n;
    d->hash = p->settings->whole ? 0 : doc_hash(text, n); // whole texts are counted, not compared
    d->offset = offset;
    if (p->meta.size) {
        d->meta = doc_batch_copy(p->batch, p->meta.data, p->meta.size);
        d->meta_size = p->meta.size;
    }
    p->documents++;
    p->batch->bytes += n;
    return d;
}

// Gives the batch away if it is full; false: stop.
static inline bool doc_full(DocParse *p) {
    return (p->batch->bytes < DOC_BATCH && p->batch->count < DOC_BATCH_DOCUMENTS) || doc_give(p);
}

static inline bool doc_add(DocParse *p, const char *text, size_t n, int64_t offset, bool copy) {
    doc_fill(p, text, n, offset, copy);
    return doc_full(p);
}

// Something costs what it is in, and is named; false: stop.
PRINTF_LIKE(2, 3) static inline bool doc_damage(DocParse *p, const char *format, ...) {
    Error what;
    va_list args;
    va_start(args, format);
    vsnprintf(what.text, sizeof what.text, format, args);
    va_end(args);
    if (p->inside) {
        Path in = path_of("%.300s: %.700s", p->inside, what.text);
        memcpy(what.text, in.text, sizeof what.text - 1);
    }
    text_make_printable(what.text);
    p->damage.count++;
    if (p->damage.named.count < DOC_NAMED) str_list_add(&p->damage.named, what.text);
    if (!p->settings->strict) return true;
    return error_set(p->err, "%s: %.900s; without --strict=on it would be left out and counted", p->path, what.text);
}

// What is wrong with a file, "PATH is ...": damage where it was found in a folder or a tar, else an error.
static inline bool doc_refuse(DocParse *p, const Error *what) {
    if (!p->member && !p->inside) return error_set(p->err, "%s", what->text);
    size_t n = strlen(p->path);
    bool named = strncmp(what->text, p->path, n) == 0; // damage is printed behind the path
    return doc_damage(p, "%s%.900s", named ? "it" : "", what->text + (named ? n : 0));
}

// ---------------------------------------------------------------- plain text

typedef struct {
    const char *p, *end; // of the text not yet read
    DocSplit split;
} DocReader;

// The line at p is empty: where the next one begins. Otherwise p.
static inline const char *doc_skip_empty_line(const char *p, const char *end) {
    const char *c = p;
    while (c < end && (*c == ' ' || *c == '\t' || *c == '\r')) c++;
    return c == end ? end : *c == '\n' ? c + 1 : p;
}

static inline const char *doc_skip_empty_lines(const char *p, const char *end) {
    for (;;) {
        const char *next = doc_skip_empty_line(p, end);
        if (next == p) return p;
        p = next;
    }
}

static inline void doc_begin(DocReader *r, const char *text, size_t n, DocSplit split) {
    r->p = text;
    r->end = text + n;
    r->split = split;
}

// The next document of a text, not empty; false: there is no more.
static inline bool doc_next(DocReader *r, const char **text, size_t *n) {
    while (r->p < r->end) {
        const char *start = r->p, *end = r->end;
        r->p = r->end;
        if (r->split == DOC_FORMFEED) {
            const char *feed = (const char *)memchr(start, '\f', (size_t)(end - start));
            if (feed) end = feed, r->p = feed + 1;
        }
        if (r->split != DOC_NONE) start = doc_skip_empty_lines(start, end);
        if (r->split == DOC_BLANK) {
            for (const char *line = start; line < end;) {
                const char *newline = (const char *)memchr(line, '\n', (size_t)(end - line));
                if (!newline) break;
                line = newline + 1;
                const char *next = doc_skip_empty_line(line, end);
                if (next == line) continue;
                r->p = next;
                end = newline;
            }
        }
        if (r->split != DOC_NONE)
            while (end > start && text_is_space(end[-1])) end--;
        if (end == start) continue;
        *text = start;
        *n = (size_t)(end - start);
        return true;
    }
    return false;
}

// Empty lines before a document take no room while more is read.
static inline void doc_drop_empty(ByteWindow *w) {
    const char *end = w->data + w->size, *text = doc_skip_empty_lines(w->data, end);
    if (text == end)
        while (text > w->data && text[-1] != '\n') text--;
    window_drop(w, (size_t)(text - w->data));
}

// A packed file broke off, maybe. `lost`: bytes of what was under way.
static inline bool doc_broken(DocParse *p, const ByteWindow *w, size_t lost) {
    if (!w->damage) return true;
    Path cut = path_of("%s", "");
    if (lost) cut = path_of("; the %zu bytes before it are of a document that was cut", lost);
    return doc_damage(p, "%.700s, at byte %lld of the unpacked file%s", w->damage->text,
                      (long long)(w->offset + (int64_t)w->size), cut.text);
}

// Documents up to the end of what is there; the last one only where it cannot go on. false: stop.
static inline bool doc_read_plain_part(DocParse *p, ByteWindow *w, DocSplit split) {
    DocReader r;
    const char *text, *done = w->data;
    size_t n;
    bool open = !w->end || w->damage, ok = true;
    doc_begin(&r, w->data, w->size, split);
    while (ok && doc_next(&r, &text, &n)) {
        if (open && r.p == r.end) break;
        ok = doc_add(p, text, n, w->offset + (text - w->data), !p->mapped);
        done = r.p;
    }
    window_drop(w, (size_t)(done - w->data));
    return ok;
}

static inline bool doc_read_plain(DocParse *p, ByteWindow *w, DocSplit split) {
    if (split != DOC_NONE && window_want(w, 3) && memcmp(w->data, "\xef\xbb\xbf", 3) == 0) window_drop(w, 3);
    for (;;) {
        bool last = w->end;
        if (!last && w->size > DOC_MOST)
            return doc_damage(p, "byte %lld: a document of more than %zu bytes", (long long)w->offset, DOC_MOST);
        if (p->settings->whole) {
            size_t cut = last ? w->size : text_safe_cut(TEXT_LLAMA3, w->data, w->size, 2 * DOC_BATCH);
            if (!last && cut < w->size) { // what is packed comes in pieces, which have the pre-tokens of the whole
                if (!doc_add(p, w->data, cut, w->offset, true)) return false;
                window_drop(w, cut);
                continue;
            }
            if (last && !w->damage && w->size && !doc_add(p, w->data, w->size, w->offset, !p->mapped)) return false;
        } else {
            if (split == DOC_BLANK || split == DOC_FORMFEED) doc_drop_empty(w);
            if ((last || split == DOC_BLANK || split == DOC_FORMFEED) && !doc_read_plain_part(p, w, split))
                return false;
        }
        if (last) return doc_broken(p, w, w->size);
        window_more(w);
    }
}

// ---------------------------------------------------------------- lines

// The next line, without its end; it is dropped with *step bytes. false: there is none. The last line of a file that
// broke off is none.
static inline bool doc_line(DocParse *p, ByteWindow *w, size_t *n, size_t *step) {
    size_t seen = 0;
    for (;;) {
        const char *newline = (const char *)memchr(w->data + seen, '\n', w->size - seen);
        if (newline) {
            *n = (size_t)(newline - w->data);
            *step = *n + 1;
            break;
        }
        seen = w->size;
        if (w->end || w->size > DOC_MOST) {
            if (w->size == 0 || w->damage) return false;
            *n = *step = w->size; // one that is too long is damage by itself: it is no whole JSON
            break;
        }
        window_more(w);
    }
    p->line++;
    while (*n > 0 && w->data[*n - 1] == '\r') --*n;
    return true;
}

// Members that the settings name, for json_line. 0: the text; 1: what precedes a page of a Cirrus dump; 2: our own.
enum { DOC_TEXT, DOC_INDEX, DOC_ORIGIN, DOC_KEPT };

// Members that forbid mining: HPLT's note on the site's robots.txt ("allowed", "disallowed"; its annotator.rs); the
// header of the W3C's TDM Reservation Protocol (report of 10 May 2024), 1: rights are reserved; the X-Robots-Tag,
// where noai and noimageai have become a habit that no standard has written down.
enum { DOC_ROBOTS, DOC_RESERVED, DOC_RULES = 3 };
static inline const char *doc_opt_out_name(int i) {
    static const char *const names[DOC_OPT_OUTS] = {"robotstxt", "tdm-reservation", "tdm_reservation", "x-robots-tag",
                                                    "X-Robots-Tag"};
    return names[i];
}
static inline int doc_names(DocParse *p) {
    p->names[DOC_TEXT] = p->settings->field;
    p->fielded = true;
    p->names[DOC_INDEX] = "index";
    p->names[DOC_ORIGIN] = "origin";
    for (int i = 0; i < p->settings->keep.count; i++) p->names[DOC_KEPT + i] = p->settings->keep.items[i];
    int count = DOC_KEPT + p->settings->keep.count;
    for (int i = 0; i < DOC_OPT_OUTS && p->settings->opt_out; i++) p->names[count++] = doc_opt_out_name(i);
    return count;
}

// Whether one of these members says so: "disallowed", 1 or true, or a list of rules that has noai in it.
static inline bool doc_opted_out(DocParse *p) {
    const JsonSpan *found = &p->found[DOC_KEPT + p->settings->keep.count];
    bool out = false;
    for (int i = 0; i < DOC_OPT_OUTS && p->settings->opt_out; i++) {
        if (!found[i].from) continue;
        p->origin.size = 0;
        if (*found[i].from == '"') json_span_string(&p->origin, &found[i]);
        else str_add(&p->origin, found[i].from, (size_t)(found[i].to - found[i].from));
        str_puts(&p->origin, "");
        const char *value = p->origin.data;
        if (i == DOC_ROBOTS) out |= strcmp(value, "disallowed") == 0;
        else if (i >= DOC_RULES) out |= strcasestr(value, "noai") != NULL;
        else out |= strcmp(value, "1") == 0 || strcmp(value, "true") == 0;
    }
    return out;
}

static inline void doc_keep(DocParse *p) {
    p->meta.size = 0;
    for (int i = 0; i < p->settings->keep.count; i++) {
        const JsonSpan *value = &p->found[DOC_KEPT + i];
        if (!value->from) continue;
        str_puts(&p->meta, ", ");
        json_escape(&p->meta, p->settings->keep.items[i], strlen(p->settings->keep.items[i]));
        str_puts(&p->meta, ": ");
        str_add(&p->meta, value->from, (size_t)(value->to - value->from));
    }
}

static inline bool doc_hex(uint8_t *bytes, const char *hex) {
    for (int i = 0; i < 64; i++) {
        const char *digits = "0123456789abcdef", *digit = hex[i] ? strchr(digits, hex[i]) : NULL;
        if (!digit) return false;
        bytes[i / 2] = (uint8_t)(i % 2 ? bytes[i / 2] | (digit - digits) : (digit - digits) << 4);
    }
    return hex[64] == 0;
}

// {"source": "...", "offset": 17, "sha256": "..."}, as the verb corpus writes it, and sometimes "near": 3; all else
// is somebody else's.
static inline void doc_origin(DocParse *p, Document *d) {
    static const char *const names[] = {"source", "offset", "sha256", "near"};
    JsonSpan found[4];
    const JsonSpan *value = &p->found[DOC_ORIGIN];
    if (!value->from || *value->from != '{' || !json_line(value->from, value->to, names, 4, found, NULL)) return;
    if (!found[0].from || *found[0].from != '"' || !found[1].from || !found[2].from || *found[2].from != '"') return;
    p->origin.size = 0;
    json_span_string(&p->origin, &found[2]);
    if (p->origin.size != 64 || !doc_hex(d->sha256, p->origin.data)) return;
    p->origin.size = 0;
    json_span_string(&p->origin, &found[0]);
    d->source = doc_batch_copy(p->batch, p->origin.size ? p->origin.data : "", p->origin.size + 1);
    d->offset = strtoll(found[1].from, NULL, 10);
    if (found[3].from) d->near = strtoll(found[3].from, NULL, 10);
    d->known = true;
}

// The first line that has no text: nobody wants a corpus of none.
static inline bool doc_no_field(DocParse *p, const char *line, size_t n) {
    Error what;
    error_set(&what, "%s has in line %lld no \"%.100s\", only %.500s; name the member that holds the text by --field",
              p->path, (long long)p->line, p->settings->field, json_line_keys(line, line + n).text);
    return doc_refuse(p, &what);
}

static inline bool doc_read_json_line(DocParse *p, const char *line, size_t n, int64_t offset) {
    Error why;
    const JsonSpan *text = &p->found[DOC_TEXT];
    if (!json_line(line, line + n, p->names, doc_names(p), p->found, &why))
        return doc_damage(p, "line %lld (byte %lld): %.700s", (long long)p->line, (long long)offset, why.text);
    if (!text->from && p->found[DOC_INDEX].from) return true;
    if (!text->from && p->documents == 0) return doc_no_field(p, line, n);
    if (!text->from || *text->from != '"')
        return doc_damage(p, "line %lld (byte %lld): \"%.100s\" is %s", (long long)p->line, (long long)offset,
                          p->settings->field, text->from ? "no string" : "not there");
    p->text.size = 0;
    json_span_string(&p->text, text);
    const char *start = p->text.data;
    size_t size = p->text.size;
    if (size) doc_trim(&start, &size);
    if (size == 0) return true;
    doc_keep(p);
    bool opted_out = doc_opted_out(p);
    Document *d = doc_fill(p, start, size, offset, true);
    d->opted_out = opted_out;
    doc_origin(p, d);
    return doc_full(p);
}

static inline bool doc_read_lines(DocParse *p, ByteWindow *w) {
    size_t n, step;
    if (window_want(w, 3) && memcmp(w->data, "\xef\xbb\xbf", 3) == 0) window_drop(w, 3);
    for (p->line = 0; doc_line(p, w, &n, &step); window_drop(w, step))
        if (text_skip_space(w->data, w->data + n) < w->data + n &&
            !doc_read_json_line(p, w->data, n, p->rows ? p->line - 1 : w->offset))
            return false;
    p->meta.size = 0;
    return doc_broken(p, w, w->size);
}

// "17<tab>Ein Satz.", of which the sentence is the document.
static inline bool doc_read_sentences(DocParse *p, ByteWindow *w) {
    size_t n, step;
    for (p->line = 0; doc_line(p, w, &n, &step); window_drop(w, step)) {
        const char *tab = (const char *)memchr(w->data, '\t', n), *text = tab ? tab + 1 : w->data;
        size_t digits = 0, size = n - (size_t)(text - w->data);
        while (digits < n && w->data[digits] >= '0' && w->data[digits] <= '9') digits++;
        if (n == 0) continue;
        if (!tab || digits == 0 || w->data + digits != tab) {
            if (!doc_damage(p, "line %lld (byte %lld): expected a number, a tab and a sentence", (long long)p->line,
                            (long long)w->offset))
                return false;
            continue;
        }
        doc_trim(&text, &size);
        if (size && !doc_add(p, text, size, w->offset, !p->mapped)) return false;
    }
    return doc_broken(p, w, w->size);
}

// ---------------------------------------------------------------- WARC

typedef struct {
    size_t size;    // of the header, with its empty line
    int64_t length; // of what follows
    bool text, page;
} WarcRecord;

// A header field of the record at p; NULL: it has none of that name. *n: bytes of its value.
static inline const char *warc_field(const char *p, size_t size, const char *name, size_t *n) {
    const char *end = p + size;
    size_t length = strlen(name);
    for (const char *line = p; line < end;) {
        const char *newline = (const char *)memchr(line, '\n', (size_t)(end - line));
        if (!newline) return NULL;
        if ((size_t)(newline - line) > length && line[length] == ':' && strncasecmp(line, name, length) == 0) {
            const char *value = line + length + 1, *to = newline;
            while (value < to && (*value == ' ' || *value == '\t')) value++;
            while (to > value && (to[-1] == '\r' || to[-1] == ' ')) to--;
            *n = (size_t)(to - value);
            return value;
        }
        line = newline + 1;
    }
    return NULL;
}

static inline bool warc_is(const char *value, size_t n, const char *word) {
    size_t length = strlen(word);
    return value && n >= length && strncasecmp(value, word, length) == 0;
}

// Reads the header of a record. false: there is none here.
static inline bool warc_header(WarcRecord *r, ByteWindow *w) {
    const size_t most = (size_t)1 << 20; // bytes of a header
    const char *end = NULL;
    size_t n;
    memset(r, 0, sizeof *r);
    if (!window_want(w, 8) || memcmp(w->data, "WARC/1.", 7) != 0) return false;
    while (!(end = (const char *)memmem(w->data, w->size < most ? w->size : most, "\r\n\r\n", 4)))
        if (w->size >= most || !window_more(w)) return false;
    r->size = (size_t)(end - w->data) + 4;
    const char *length = warc_field(w->data, r->size, "Content-Length", &n);
    if (!length || n == 0 || n > 18 || strspn(length, "0123456789") < n) return false;
    r->length = strtoll(length, NULL, 10);
    const char *type = warc_field(w->data, r->size, "WARC-Type", &n);
    r->text = warc_is(type, n, "conversion") || warc_is(type, n, "resource");
    r->page = warc_is(type, n, "response");
    type = warc_field(w->data, r->size, "Content-Type", &n);
    r->text = r->text && warc_is(type, n, "text/plain");
    return true;
}

// After damage: to the next thing that looks like a record. false: there is none.
static inline bool warc_find(ByteWindow *w) {
    for (window_drop(w, w->size ? 1 : 0);;) {
        const char *next = (const char *)memmem(w->data, w->size, "\r\nWARC/1.", 9);
        if (next) {
            window_drop(w, (size_t)(next - w->data) + 2);
            return true;
        }
        if (w->size > 8) window_drop(w, w->size - 8);
        if (!window_more(w)) return false;
    }
}

// Header fields that --keep names, as strings.
static inline void warc_keep(DocParse *p, const ByteWindow *w, const WarcRecord *r) {
    p->meta.size = 0;
    for (int i = 0; i < p->settings->keep.count; i++) {
        size_t n;
        const char *name = p->settings->keep.items[i], *value = warc_field(w->data, r->size, name, &n);
        if (!value) continue;
        str_puts(&p->meta, ", ");
        json_escape(&p->meta, name, strlen(name));
        str_puts(&p->meta, ": ");
        json_escape(&p->meta, value, n);
    }
}

static inline bool doc_read_warc(DocParse *p, ByteWindow *w) {
    WarcRecord r;
    while (window_want(w, 1)) {
        if (w->data[0] == '\r' || w->data[0] == '\n') {
            window_drop(w, 1);
            continue;
        }
        int64_t at = w->offset;
        if (!warc_header(&r, w) || (r.text && (uint64_t)r.length > DOC_MOST)) {
            if (w->end && w->damage) break;
            if (!doc_damage(p, "byte %lld: expected a WARC record with its Content-Length", (long long)at))
                return false;
            if (!warc_find(w)) break;
            continue;
        }
        if (r.page) {
            Error what;
            error_set(&what,
                      "%s is a WARC of pages as they were fetched (HTML); extract their text first (trafilatura, "
                      "resiliparse, warc2text), or take the WET files",
                      p->path);
            return doc_refuse(p, &what);
        }
        size_t size = r.size + (size_t)r.length;
        if (!r.text) {
            if (!window_skip(w, (int64_t)size)) break;
            continue;
        }
        if (!window_want(w, size)) {
            if (w->damage) break;
            return doc_damage(p, "byte %lld: the file ends within a record of %lld bytes", (long long)at,
                              (long long)r.length);
        }
        if (window_want(w, size + 4) && memcmp(w->data + size, "\r\n\r\n", 4) != 0) {
            if (!doc_damage(p, "byte %lld: a record of %lld bytes does not end where its Content-Length says",
                            (long long)at, (long long)r.length))
                return false;
            if (!warc_find(w)) break;
            continue;
        }
        const char *text = w->data + r.size;
        size_t n = (size_t)r.length;
        warc_keep(p, w, &r);
        doc_trim(&text, &n);
        if (n && !doc_add(p, text, n, at, !p->mapped)) return false;
        window_drop(w, size);
    }
    p->meta.size = 0;
    return doc_broken(p, w, w->size);
}

// ---------------------------------------------------------------- what a file is

typedef enum {
    DOC_FORM_TEXT,
    DOC_FORM_LINES,
    DOC_FORM_SENTENCES,
    DOC_FORM_WARC,
    DOC_FORM_TAR,
    DOC_FORM_PARQUET,
    DOC_FORM_NONE
} DocForm;

enum { TAR_BLOCK = 512 };
// The number at p in octal digits, or in bits where the first byte has its highest set; -1: there is none.
static inline int64_t tar_number(const uint8_t *p, int n) {
    int64_t value = 0;
    if (p[0] & 0x80) {
        value = p[0] & 0x3f;
        for (int i = 1; i < n; i++) {
            if (value >> 54) return -1;
            value = value << 8 | p[i];
        }
        return p[0] & 0x40 ? -1 : value;
    }
    int i = 0;
    while (i < n && p[i] == ' ') i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) value = value * 8 + (p[i] - '0');
    return i == n || p[i] == 0 || p[i] == ' ' ? value : -1;
}

// A header is known by its sum, which counts itself as blanks (POSIX 1003.1, pax, "ustar Interchange Format").
static inline bool tar_header_valid(const uint8_t *p) {
    int64_t sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : p[i];
    return memcmp(p + 257, "ustar", 5) == 0 && tar_number(p + 148, 8) == sum;
}

// A line "17<tab>..."
static inline bool doc_numbered(const char *p, const char *end) {
    const char *c = p;
    while (c < end && *c >= '0' && *c <= '9') c++;
    return c > p && c < end && *c == '\t';
}

// Most lines at the beginning are JSON objects: so are those of a file with a broken line among them. {} is no record.
static inline bool doc_is_lines(ByteWindow *w) {
    const size_t longest = (size_t)64 << 20; // first line that is waited for
    while (w->size < longest && !memchr(w->data, '\n', w->size) && window_more(w)) {}
    const char *p = w->data, *end = p + w->size;
    int64_t lines = 0, objects = 0;
    if (w->size >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) p += 3;
    p = text_skip_space(p, end);
    if (p == end || *p != '{') return false;
    while (p < end && (lines == 0 || (size_t)(p - w->data) < TEXT_JSON_SAMPLE)) {
        const char *newline = (const char *)memchr(p, '\n', (size_t)(end - p)), *to = newline ? newline : end;
        JsonSpan none;
        if (!newline && !w->end) break;
        if (text_skip_space(p, to) < to) {
            bool object = json_line(p, to, NULL, 0, &none, NULL) && *json_line_keys(p, to).text;
            if (!newline && !object && lines) break; // a file that was not written to its end
            lines++;
            objects += object;
        }
        p = newline ? newline + 1 : end;
    }
    return 2 * objects > lines;
}

// name: of the file, or of the member of a tar. *foreign: what it is, if it holds no text.
static inline DocForm doc_form(ByteWindow *w, const char *name, const char **foreign) {
    window_want(w, TEXT_JSON_SAMPLE);
    const char *p = w->data, *end = p + w->size, *start = text_skip_space(p, end), *kind = NULL;
    *foreign = NULL;
    if (w->size >= TAR_BLOCK && tar_header_valid((const uint8_t *)p)) return DOC_FORM_TAR;
    if (w->size >= 8 && memcmp(p, "WARC/1.", 7) == 0) return DOC_FORM_WARC;
    if (w->end && w->size >= 12 && memcmp(p, "PAR1", 4) == 0 && memcmp(end - 4, "PAR1", 4) == 0)
        return DOC_FORM_PARQUET;
    if (doc_numbered(p, end)) {
        static const char *const rest[] = {"-words.txt", "-co_n.txt",    "-co_s.txt", "-inv_so.txt",
                                           "-inv_w.txt", "-sources.txt", "-meta.txt"};
        if (str_ends_with(name, "-sentences.txt")) return DOC_FORM_SENTENCES;
        for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
            if (str_ends_with(name, rest[i])) return DOC_FORM_NONE; // tables of Wortschatz Leipzig beside the sentences
    }
    if (str_ends_with(name, "-import.sql")) return DOC_FORM_NONE;
    if (start < end && *start == '{' && text_json_object(start, end, &kind) && kind) *foreign = kind;
    if (!*foreign && doc_is_lines(w)) return DOC_FORM_LINES;
    if (!*foreign) *foreign = text_foreign((const uint8_t *)w->data, w->size);
    return DOC_FORM_TEXT;
}

// ---------------------------------------------------------------- files

static inline bool doc_read_form(DocParse *p, ByteWindow *w, const char *name, DocSplit split);

// A member of a tar, which lies in memory whole.
static inline bool tar_member(DocParse *p, const char *data, size_t size, int64_t offset, const char *name) {
    const char *slash = strrchr(name, '/');
    if ((slash ? slash[1] : name[0]) == '.' || size == 0) return true; // what file managers leave behind
    ByteWindow w;
    window_of_memory(&w, data, size, offset);
    p->inside = name;
    bool ok = doc_read_form(p, &w, name, DOC_FILE);
    p->inside = NULL;
    return ok;
}

// "27 path=NAME\n" records of a pax header: the name and size of the member behind it.
static inline void tar_pax(const char *data, size_t n, Str *name, int64_t *size) {
    for (const char *p = data, *end = data + n; p < end;) {
        char *key;
        if (*p < '1' || *p > '9') return;
        unsigned long long length = strtoull(p, &key, 10);
        if (length > (size_t)(end - p) || length < 3 || *key != ' ' || p[length - 1] != '\n') return;
        const char *last = p + length - 1;
        if (last - key > 6 && memcmp(key, " path=", 6) == 0) {
            name->size = 0;
            str_add(name, key + 6, (size_t)(last - key - 6));
        } else if (last - key > 6 && memcmp(key, " size=", 6) == 0) *size = strtoll(key + 6, NULL, 10);
        p += length;
    }
}

// The name that a header holds, unless one stands before it.
static inline void tar_name(Str *name, const uint8_t *header) {
    const char *prefix = (const char *)header + 345, *own = (const char *)header;
    if (name->size) return;
    if (*prefix && memcmp(header + 257, "ustar", 6) == 0) {
        str_add(name, prefix, strnlen(prefix, 155));
        str_puts(name, "/");
    }
    str_add(name, own, strnlen(own, 100));
}

static inline bool doc_read_tar(DocParse *p, ByteWindow *w) {
    Str name; // of the member that comes
    int64_t long_size = -1;
    bool ok = true, lost = false;
    memset(&name, 0, sizeof name);
    str_puts(&name, "");
    while (ok && window_want(w, TAR_BLOCK)) {
        const uint8_t *header = (const uint8_t *)w->data;
        bool zero = header[0] == 0 && memcmp(header, header + 1, TAR_BLOCK - 1) == 0;
        int64_t size = tar_number(header + 124, 12), at = w->offset;
        char type = (char)header[156];
        if (zero || !tar_header_valid(header) || size < 0) {
            if (!zero && !lost) ok = doc_damage(p, "byte %lld: expected the header of a tar's member", (long long)at);
            lost = !zero;
            window_drop(w, TAR_BLOCK);
            continue;
        }
        lost = false;
        bool file = type == '0' || type == 0 || type == '7', about = type == 'L' || type == 'x';
        if (long_size >= 0 && !about) size = long_size, long_size = -1;
        if (!about) tar_name(&name, header);
        if (((!file && !about) || (uint64_t)size > DOC_MOST) && type != 'L') {
            if (file) ok = doc_damage(p, "%.300s has %lld bytes, more than %zu", name.data, (long long)size, DOC_MOST);
            if (!window_skip(w, TAR_BLOCK + (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK)) break;
        } else {
            if (!window_want(w, TAR_BLOCK + (size_t)size)) {
                if (!w->damage) ok = doc_damage(p, "byte %lld: the tar ends within %.300s", (long long)at, name.data);
                break;
            }
            const char *data = w->data + TAR_BLOCK;
            if (type == 'L') name.size = 0, str_add(&name, data, strnlen(data, (size_t)size));
            else if (type == 'x') tar_pax(data, (size_t)size, &name, &long_size);
            else ok = tar_member(p, data, (size_t)size, at + TAR_BLOCK, name.data);
            if (!window_skip(w, TAR_BLOCK + (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK)) break;
        }
        if (!about) name.size = 0, name.data[0] = 0;
    }
    free(name.data);
    return ok && doc_broken(p, w, w->size);
}

// An identifier or a string of SQL: the quotation mark doubled. patterns: signs that DuckDB takes for a pattern in a
// file's name stand in brackets.
static inline void parquet_quote(Str *out, const char *text, char quote, bool patterns) {
    str_add(out, &quote, 1);
    for (; *text; text++) {
        bool sign = patterns && strchr("*?[", *text);
        if (*text == quote) str_add(out, text, 1);
        if (sign) str_puts(out, "[");
        str_add(out, text, 1);
        if (sign) str_puts(out, "]");
    }
    str_add(out, &quote, 1);
}

static inline bool doc_read_parquet(DocParse *p) {
    Str query;
    ByteWindow w;
    memset(&query, 0, sizeof query);
    str_puts(&query, "COPY (SELECT ");
    parquet_quote(&query, p->settings->field, '"', false);
    for (int i = 0; i < p->settings->keep.count; i++) {
        str_puts(&query, ", ");
        parquet_quote(&query, p->settings->keep.items[i], '"', false);
    }
    str_puts(&query, " FROM read_parquet(");
    parquet_quote(&query, p->path, '\'', true);
    str_puts(&query, ")) TO '/dev/stdout' (FORMAT JSON)");
    const char *const argv[] = {"duckdb", "-init", "/dev/null", "-c", query.data, NULL};
    bool ok = window_of_program(&w, argv, -1, p->path,
                                "one file, without root: pip install duckdb-cli, or https://duckdb.org", p->err);
    free(query.data);
    if (!ok) return false;
    p->rows = true;
    p->mapped = false;
    // What it refuses at once is no damage: a column that is not there, a file of another kind.
    if (!window_more(&w) && w.damage) {
        Error what;
        error_set(&what, "%s cannot be read: %.700s", p->path, w.damage->text);
        ok = doc_refuse(p, &what);
    } else ok = doc_read_lines(p, &w);
    window_close(&w);
    return ok;
}

static inline bool doc_read_form(DocParse *p, ByteWindow *w, const char *name, DocSplit split) {
    const char *foreign;
    Error what;
    switch (doc_form(w, name, &foreign)) {
    case DOC_FORM_LINES: return doc_read_lines(p, w);
    case DOC_FORM_SENTENCES: return doc_read_sentences(p, w);
    case DOC_FORM_WARC: return doc_read_warc(p, w);
    case DOC_FORM_TAR:
        if (!p->inside) return doc_read_tar(p, w);
        return doc_damage(p, "a tar in a tar; unpack it first");
    case DOC_FORM_PARQUET:
        if (!p->inside && w->file.mapping) return doc_read_parquet(p);
        return doc_damage(p, "a parquet file in a tar or packed; unpack it first");
    case DOC_FORM_NONE: return true;
    case DOC_FORM_TEXT: break;
    }
    if (!foreign) return doc_read_plain(p, w, split);
    error_set(&what, "%s is not plain text but %s", p->path, foreign);
    return doc_refuse(p, &what);
}

// One file. The window stays open where texts lie in its mapping: the caller closes it.
static inline bool doc_read_file(DocParse *p, ByteWindow *w) {
    Error what;
    if (p->settings->split == DOC_NONE) {
        MappedFile file;
        if (!file_map(&file, p->path, p->err)) return false;
        window_of_memory(w, (const char *)file.data, file.size, 0);
        w->file = file;
        p->mapped = true;
        return doc_read_plain(p, w, DOC_NONE) && doc_give(p);
    }
    if (!window_open(w, p->path, &what)) return doc_refuse(p, &what);
    p->mapped = !w->packed;
    return doc_read_form(p, w, p->path, p->member ? DOC_FILE : p->settings->split) && doc_give(p);
}

static inline void doc_parse_free(DocParse *p) {
    if (p->batch) doc_batch_free(p->batch);
    str_list_free(&p->damage.named);
    free(p->text.data);
    free(p->meta.data);
    free(p->origin.data);
}

#endif
