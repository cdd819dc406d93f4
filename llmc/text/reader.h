/*
reader.h: text files, as every verb reads them: what is no text is refused by name, with what to do.

    TextFile f;
    text_file_open(&f, "corpus.txt", false, err);   f.text (f.size), without a byte order mark
    text_file_close(&f);

Text is UTF-8, or bytes of another 8-bit encoding, which are taken as they are and counted by whoever reads them. What
is refused: packed files, pictures, sound, programs and databases; UTF-16 and UTF-32, also without a byte order mark;
this program's own files (shards, tokenizers, weights, metrics); JSON lines, whose text stands in a field; and data with
too many control characters for a text. A NUL here and there is a byte like others.

The first TEXT_SAMPLE bytes decide. Sources of signatures: file(1)'s magic files, and the formats' own documents.
*/
#ifndef LLMC_READER_H
#define LLMC_READER_H

#include "../base/json.h"
#include "text.h"

#define TEXT_SAMPLE ((size_t)64 << 10)     // bytes that are looked at
#define TEXT_JSON_SAMPLE ((size_t)1 << 20) // of JSON lines; the first of them may be longer
#define TEXT_CONTROLS 16                   // one control character in so many bytes is no text any more

typedef struct {
    MappedFile file;
    const char *text; // behind a byte order mark
    size_t size;
    const char *foreign; // what it is, if it is no text; NULL: it is
} TextFile;

// ---------------------------------------------------------------- signatures

// Where a signature is all of printable ASCII, a text could begin so: then a control character must follow as well.
typedef struct {
    size_t at; // offset in the file
    const char *bytes;
    size_t size;
    bool printable;
    const char *what;
} TextSignature;

#define TEXT_PACKED(tool) "compressed with " tool
#define TEXT_OWN_SHARD "a shard of tokens, which the verb tokenize wrote: name the text that it was made from"
#define TEXT_LLMC " of llm.c, which holds no text: name the text that it was made from"

static inline const char *text_signature(const uint8_t *p, size_t n, bool controls) {
#define SIGNATURE(at, bytes, printable, what)                                                                          \
    { at, bytes, sizeof bytes - 1, printable, what }
    static const TextSignature rows[] = {
        SIGNATURE(0, "\x1f\x8b", false, TEXT_PACKED("gzip: unpack it with gunzip")),
        SIGNATURE(0, "\x1f\x9d", false, TEXT_PACKED("compress: unpack it with gunzip")),
        SIGNATURE(0, "\xfd\x37zXZ", false, TEXT_PACKED("xz: unpack it with unxz")),
        SIGNATURE(0, "\x5d\x00\x00", false, TEXT_PACKED("lzma: unpack it with unlzma")),
        SIGNATURE(4, "\x31\x41\x59\x26\x53\x59", false, TEXT_PACKED("bzip2: unpack it with bunzip2")),
        SIGNATURE(4, "\x17\x72\x45\x38\x50\x90", false, TEXT_PACKED("bzip2: unpack it with bunzip2")),
        SIGNATURE(0, "\x28\xb5\x2f\xfd", false, TEXT_PACKED("zstd: unpack it with unzstd")),
        SIGNATURE(1, "\x2a\x4d\x18", false, TEXT_PACKED("zstd or lz4: unpack it with unzstd or unlz4")),
        SIGNATURE(0, "\x04\x22\x4d\x18", false, TEXT_PACKED("lz4: unpack it with unlz4")),
        SIGNATURE(0, "LZIP", true, TEXT_PACKED("lzip: unpack it with lzip -d")),
        SIGNATURE(0, "PK\x03\x04", false, "a zip archive (zip, docx, epub, npz, pt): unpack it with unzip"),
        SIGNATURE(0, "PK\x05\x06", false, "an empty zip archive"),
        SIGNATURE(0, "7z\xbc\xaf", false, "a 7z archive: unpack it with 7z x"),
        SIGNATURE(0, "Rar!\x1a", false, "a rar archive: unpack it with unrar x"),
        SIGNATURE(257, "ustar", true, "a tar archive: unpack it with tar -xf"),
        SIGNATURE(0, "PAR1", true, "a parquet file: export its text column first"),
        SIGNATURE(0, "PARE", true, "a parquet file: export its text column first"),
        SIGNATURE(0, "ARROW1", true, "an arrow file: export its text column first"),
        SIGNATURE(0, "FEA1", true, "a feather file: export its text column first"),
        SIGNATURE(0, "ORC", true, "an ORC file: export its text column first"),
        SIGNATURE(0, "Obj\x01", false, "an avro file: export its text field first"),
        SIGNATURE(0, "SQLite format 3", true, "an SQLite database: export its text first"),
        SIGNATURE(0, "\x89HDF", false, "an HDF5 file: export its text first"),
        SIGNATURE(0, "\x93NUMPY", false, "a NumPy array: name the text that it was made from"),
        SIGNATURE(0, "%PDF-", false, "a PDF: extract its text with pdftotext"),
        SIGNATURE(0, "%!PS", false, "PostScript: extract its text with ps2ascii"),
        SIGNATURE(0, "{\\rtf", false, "RTF: extract its text with unrtf --text"),
        SIGNATURE(0, "\xd0\xcf\x11\xe0", false, "an old Office document: extract its text with catdoc"),
        SIGNATURE(0, "AT&TFORM", true, "a DjVu file: extract its text with djvutxt"),
        SIGNATURE(0, "\x89PNG", false, "a PNG picture"),
        SIGNATURE(0, "\xff\xd8\xff", false, "a JPEG picture"),
        SIGNATURE(0, "GIF8", true, "a GIF picture"),
        SIGNATURE(0, "II\x2a\x00", false, "a TIFF picture"),
        SIGNATURE(0, "MM\x00\x2a", false, "a TIFF picture"),
        SIGNATURE(0, "RIFF", true, "sound or a picture (RIFF)"),
        SIGNATURE(0, "OggS", true, "sound (Ogg)"),
        SIGNATURE(0, "fLaC", true, "sound (FLAC)"),
        SIGNATURE(0, "ID3", true, "sound (MP3)"),
        SIGNATURE(4, "ftyp", true, "a film (MP4)"),
        SIGNATURE(0,
                  "\x7f"
                  "ELF",
                  false, "a program (ELF)"),
        SIGNATURE(0, "LPTshard", true, TEXT_OWN_SHARD),
        SIGNATURE(0, "drahsTPL", true, TEXT_OWN_SHARD),
        SIGNATURE(0, "\x88\xd7\x34\x01", false, "a shard" TEXT_LLMC),     // 20240520
        SIGNATURE(0, "\xa1\xd8\x34\x01", false, "a shard" TEXT_LLMC),     // 20240801
        SIGNATURE(0, "\xc6\xd6\x34\x01", false, "a model" TEXT_LLMC),     // 20240326
        SIGNATURE(0, "\xc8\xd6\x34\x01", false, "a tokenizer" TEXT_LLMC), // 20240328
        SIGNATURE(0, "GGUF", true, "a model (GGUF), which holds no text"),
    };
#undef SIGNATURE
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const TextSignature *r = &rows[i];
        if (n < r->at + r->size || memcmp(p + r->at, r->bytes, r->size) != 0 || (r->printable && !controls)) continue;
        return r->what;
    }
    uint64_t header = 0; // of safetensors: its length, then JSON
    if (n >= 9) memcpy(&header, p, 8);
    bool weights = header >= 2 && header <= (uint64_t)1 << 30 && p[8] == '{' && p[7] == 0;
    return weights ? "a model's weights (safetensors), which hold no text" : NULL;
}

// ---------------------------------------------------------------- encodings

static inline bool text_is_control(uint32_t c) {
    return c < 0x20 && !(c >= '\b' && c <= '\r') && c != 0x1a &&
           c != 0x1b; // 1a: the end of old files, 1b: of terminals
}

// A character that ordinary text is made of, in a script that anybody would train on.
static inline bool text_is_common(uint32_t c) {
    return (c >= 0x20 && c < 0x250) || (c >= 0x370 && c < 0x700) || (c >= 0x900 && c < 0xe00) ||
           (c >= 0x1e00 && c < 0x2070) || (c >= 0x20a0 && c < 0x20d0) || (c >= 0x3000 && c < 0xa000) ||
           (c >= 0xac00 && c < 0xd7a4) || (c >= 0xff00 && c < 0xfff0) || c > 0xffff || c == '\n' || c == '\r' ||
           c == '\t' || c == '\f' || c == 0xfeff;
}

// Whether units of 2 or 4 bytes in this byte order are text of UTF-16 or UTF-32: no unit that cannot be, and nearly all
// of them common. 0: it is not; else 1 and the number of ASCII characters, which are fewer in the wrong order.
static inline size_t text_is_wide(const uint8_t *p, size_t n, size_t width, bool big) {
    size_t units = n / width, common = 0, ascii = 0;
    uint32_t high = 0; // a surrogate that waits for its second half
    for (size_t i = 0; i < units; i++, p += width) {
        uint32_t c = 0;
        for (size_t k = 0; k < width; k++) c |= (uint32_t)p[big ? width - 1 - k : k] << (8 * k);
        if (c > 0x10ffff || c == 0 || c == 0xfffe || c == 0xffff || text_is_control(c)) return 0;
        bool low_half = c >= 0xdc00 && c < 0xe000, high_half = c >= 0xd800 && c < 0xdc00;
        if (width == 4 && (low_half || high_half)) return 0;
        if ((high != 0) != low_half) return 0;
        high = high_half ? c : 0;
        common += low_half || high_half || text_is_common(c);
        ascii += c < 0x80;
    }
    return units > 0 && common * 100 >= units * 97 ? 1 + ascii : 0;
}

// By the byte order mark.
static inline const char *text_marked(const uint8_t *p, size_t n) {
    if (n >= 4 && (memcmp(p, "\xff\xfe\0\0", 4) == 0 || memcmp(p, "\0\0\xfe\xff", 4) == 0))
        return "UTF-32: convert it with iconv -f UTF-32 -t UTF-8";
    if (n >= 2 && (memcmp(p, "\xff\xfe", 2) == 0 || memcmp(p, "\xfe\xff", 2) == 0))
        return "UTF-16: convert it with iconv -f UTF-16 -t UTF-8";
    return NULL;
}

// Without one, by what the sample (n) looks like; NULL: 8-bit text, or no text at all.
static inline const char *text_wide(const uint8_t *p, size_t n, size_t file_size) {
    static const char *const convert[2][2] = {{"UTF-16: convert it with iconv -f UTF-16LE -t UTF-8",
                                               "UTF-16: convert it with iconv -f UTF-16BE -t UTF-8"},
                                              {"UTF-32: convert it with iconv -f UTF-32LE -t UTF-8",
                                               "UTF-32: convert it with iconv -f UTF-32BE -t UTF-8"}};
    if (!memchr(p, 0, n)) return NULL;
    for (size_t width = 4; width >= 2; width /= 2) {
        if (file_size % width != 0 && n < 64) continue; // a few bytes prove nothing
        size_t whole = n / width * width, score[2];
        for (int big = 0; big < 2; big++) {
            // The sample may end in the middle of a surrogate pair.
            score[big] = text_is_wide(p, whole, width, big);
            if (!score[big] && width == 2 && whole > 2) score[big] = text_is_wide(p, whole - 2, width, big);
        }
        if (score[0] || score[1]) return convert[width == 4][score[1] > score[0]];
    }
    return NULL;
}

// ---------------------------------------------------------------- JSON

// What a JSON object is by two of its keys.
static const char *const text_json_kinds[][3] =
    {{"model", "added_tokens", "a tokenizer (tokenizer.json), which holds no text"},
     {"model", "pre_tokenizer", "a tokenizer (tokenizer.json), which holds no text"},
     {"architectures", "model_type", "a model's config.json, which holds no text"},
     {"model_type", "vocab_size", "a model's config.json, which holds no text"},
     {"weight_map", "weight_map", "a model's index of weights, which holds no text"},
     {"tokenizer_class", "tokenizer_class", "a model's tokenizer_config.json, which holds no text"},
     {"added_tokens_decoder", "added_tokens_decoder", "a model's tokenizer_config.json, which holds no text"},
     {"eos_token_id", "eos_token_id", "a model's generation_config.json, which holds no text"},
     {"position", "files", "a checkpoint's run.json, which holds no text"},
     {"step", "loss", "the metrics of a run (metrics.jsonl), which hold no text"}};
enum { TEXT_JSON_KINDS = sizeof text_json_kinds / sizeof text_json_kinds[0] };

static inline bool text_is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v';
}

static inline const char *text_skip_space(const char *p, const char *end) {
    while (p < end && text_is_space(*p)) p++;
    return p;
}

// The end of the string that begins at p, behind its quotation mark; `end` if it has none.
static inline const char *text_json_string(const char *p, const char *end) {
    for (p++; p < end && *p != '"'; p++) p += *p == '\\' && p + 1 < end;
    return p < end ? p + 1 : end;
}

// The end of the object that begins at p, NULL: it has none before `end`. Brackets and strings alone are looked at, so
// that a file of any size costs no memory. *kind: what it is by its keys, or NULL.
static inline const char *text_json_object(const char *p, const char *end, const char **kind) {
    int depth = 0, found[TEXT_JSON_KINDS] = {0};
    *kind = NULL;
    while (p < end) {
        if (*p == '"') {
            const char *name = p + 1;
            p = text_json_string(p, end);
            size_t n = (size_t)(p - name) - 1;
            const char *colon = text_skip_space(p, end);
            if (depth != 1 || colon == end || *colon != ':') continue;
            for (int i = 0; i < 2 * TEXT_JSON_KINDS; i++) {
                const char *key = text_json_kinds[i / 2][i % 2];
                if (strlen(key) == n && memcmp(key, name, n) == 0) found[i / 2] |= 1 << i % 2;
            }
            continue;
        }
        depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        p++;
        if (depth > 0) continue;
        for (int i = TEXT_JSON_KINDS - 1; i >= 0; i--)
            if (found[i] == 3) *kind = text_json_kinds[i][2];
        return p;
    }
    return NULL;
}

// An object that has members, by the strict reader; a large one is taken at the word of its brackets.
static inline bool text_json_valid(const char *p, const char *close) {
    JsonDoc doc;
    if ((size_t)(close - p) > TEXT_JSON_SAMPLE) return true;
    const Json *root = json_parse(&doc, p, (size_t)(close - p), NULL);
    bool members = root && root->child;
    if (root) json_free(&doc);
    return members;
}

// Objects one after the other, as far as the sample goes, or one that is known; a single one over several lines may be
// somebody's source text.
static inline const char *text_json(const char *p, const char *end) {
    const char *start = text_skip_space(p, end), *kind = NULL, *other;
    int objects = 0;
    bool line = false, list = start < end && *start == '[';
    p = start = list ? text_skip_space(start + 1, end) : start;
    while (p < end && (objects == 0 || (size_t)(p - start) < TEXT_JSON_SAMPLE)) {
        const char *close = *p == '{' ? text_json_object(p, end, objects ? &other : &kind) : NULL;
        if (!close && *p == '{' && objects) break; // the last line of a file that was not written to its end
        if (!close || !text_json_valid(p, close)) return NULL;
        if (objects++ == 0) line = !memchr(p, '\n', (size_t)(close - p));
        if (list) return "a JSON list of records: write the field that holds the text into a file (jq -r '.[].text')";
        p = text_skip_space(close, end);
    }
    if (objects == 0 || kind) return kind;
    return line || objects > 1 ? "JSON lines: write the field that holds the text into a file (jq -r .text)" : NULL;
}

// ---------------------------------------------------------------- files

// What a file is, if it is not text: words for "FILE is not plain text but ..."; else NULL.
static inline const char *text_foreign(const uint8_t *data, size_t size) {
    size_t n = size < TEXT_SAMPLE ? size : TEXT_SAMPLE, controls = 0, invalid = 0;
    for (size_t i = 0; i < n; i++) controls += text_is_control(data[i]);
    for (const uint8_t *p = data, *end = data + n; p < end;) {
        p += text_valid(p, end);
        size_t run = text_invalid(p, end);
        if (p + run < end || n == size || run > 3) invalid += run; // the sample may end in a character
        p += run;
    }
    bool many = controls * TEXT_CONTROLS > n;
    const char *what = text_marked(data, n);
    if (!what) what = text_signature(data, n, controls > 0);
    if (!what && (many || invalid)) what = text_wide(data, n, size);
    if (!what) {
        const char *text = (const char *)data, *end = text + size;
        if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3;
        what = text_json(text, end);
    }
    if (!what && many && n >= 32) what = "some other kind of data: it has too many control characters for a text";
    return what;
}

// The text of a file that is mapped, behind its byte order mark; verbatim: all of it.
static inline void text_file_look(TextFile *f, bool verbatim) {
    f->text = (const char *)f->file.data;
    f->size = f->file.size;
    f->foreign = text_foreign(f->file.data, f->size);
    if (!verbatim && f->size >= 3 && memcmp(f->text, "\xef\xbb\xbf", 3) == 0) f->text += 3, f->size -= 3;
}

// Opens a file. What is no text is refused; with `verbatim` it is taken byte by byte, and f->foreign says what it is.
static inline bool text_file_open(TextFile *f, const char *path, bool verbatim, Error *err) {
    memset(f, 0, sizeof *f);
    if (!file_map(&f->file, path, err)) return false;
    text_file_look(f, verbatim);
    if (!f->foreign || verbatim) return true;
    error_set(err, "%s is not plain text but %s", path, f->foreign);
    file_unmap(&f->file);
    return false;
}

static inline void text_file_close(TextFile *f) {
    file_unmap(&f->file);
    memset(f, 0, sizeof *f);
}

static inline int text_order_id(const void *a, const void *b) {
    const FileId *x = (const FileId *)a, *y = (const FileId *)b;
    if (x->device != y->device) return x->device < y->device ? -1 : 1;
    return (x->inode > y->inode) - (x->inode < y->inode);
}

// How many files stand in a list twice, under the same name or another. *last: the place of the last of one of them.
static inline int text_doubles(const FileId *ids, size_t n, int64_t *last) {
    FileId *sorted = (FileId *)mem_alloc(n * sizeof *sorted), *first = NULL;
    int doubles = 0;
    if (n) memcpy(sorted, ids, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, text_order_id);
    for (size_t i = 1; i < n; i++)
        if (file_id_same(sorted[i - 1], sorted[i]) && doubles++ == 0) first = &sorted[i];
    *last = (int64_t)n;
    while (first && --*last > 0 && !file_id_same(ids[*last], *first)) {}
    free(sorted);
    return doubles;
}

// ---------------------------------------------------------------- what a reader should hear of

// Marks that other programs put between documents; here they are ordinary text.
#define TEXT_MARKERS(X) X("<|endoftext|>") X("<|end_of_text|>") X("<|im_end|>") X("<|eot_id|>") X("</s>")
enum { TEXT_MARKER_KINDS = 5 };

typedef struct {
    int64_t invalid;                    // bytes that are not UTF-8
    int64_t zeros;                      // NUL bytes
    int64_t orders;                     // byte order marks, which joined files have inside
    int64_t markers[TEXT_MARKER_KINDS]; // </s> counts at the end of a line alone: HTML has it, too
} TextCounts;

static inline const char *text_marker(int kind) {
    static const char *const markers[] = {
#define X(text) text,
        TEXT_MARKERS(X)
#undef X
    };
    return markers[kind];
}

static inline void text_counts_add(TextCounts *to, const TextCounts *from) {
    to->invalid += from->invalid;
    to->zeros += from->zeros;
    to->orders += from->orders;
    for (int k = 0; k < TEXT_MARKER_KINDS; k++) to->markers[k] += from->markers[k];
}

// All but invalid bytes, which whoever decodes the text sees anyway.
static inline void text_count(TextCounts *c, const char *text, size_t n) {
    const char *end = text + n;
    for (const char *p = text; (p = (const char *)memchr(p, 0, (size_t)(end - p))) != NULL; p++) c->zeros++;
    for (const char *p = text; (p = (const char *)memchr(p, '\xef', (size_t)(end - p))) != NULL; p++)
        c->orders += end - p >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0;
    for (const char *p = text; (p = (const char *)memchr(p, '<', (size_t)(end - p))) != NULL; p++)
        for (int k = p + 1 < end && (p[1] == '|' || p[1] == '/') ? 0 : TEXT_MARKER_KINDS; k < TEXT_MARKER_KINDS; k++) {
            size_t size = strlen(text_marker(k));
            if ((size_t)(end - p) < size || memcmp(p, text_marker(k), size) != 0) continue;
            c->markers[k] += p[1] == '|' || p + size == end || p[size] == '\n' || p[size] == '\r';
        }
}

// One line for each thing that a reader may not have meant. documents: there is a way to split them.
static inline void text_hints(const TextCounts *c, bool documents) {
    for (int k = 0; k < TEXT_MARKER_KINDS; k++)
        if (c->markers[k])
            warn("%s stands in the text %lld times and is read as text, not as the end of a document; %s",
                 text_marker(k), (long long)c->markers[k],
                 documents ? "put a form feed in its place and give --doc_split=formfeed" : "take it out first");
    if (c->orders)
        warn("the text has %lld byte order marks inside, as files have that were joined; take them out "
             "(sed 's/\\xef\\xbb\\xbf//g')",
             (long long)c->orders);
    if (c->zeros) warn("the text has %lld NUL bytes, which are read as text", (long long)c->zeros);
}

#endif
