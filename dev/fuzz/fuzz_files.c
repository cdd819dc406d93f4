/*
fuzz_files.c: any bytes, given to the parsers of files: JSON, safetensors, shards, documents.

    make fuzz MINUTES=60

The first byte of an input chooses the parser; the rest is the file, copied to an array of exactly its size,
so that AddressSanitizer sees a read one byte past the end. Beyond not crashing, what was accepted must
keep the promises of the headers: tensors lie inside the file and are readable, JSON that is written
again reads as the same, every sequence of a dataset has tokens below the vocabulary, documents lie
inside the text in order and are not empty.
*/
#include "../../llmc/text/data.h"
#include "../../llmc/base/json.h"
#include "../../llmc/files/safetensors.h"
#include "../../llmc/text/tokenize.h"
#include "fuzz.h"

static void json_write(Str *out, const Json *j) {
    switch (j->type) {
    case JSON_NULL: str_puts(out, "null"); return;
    case JSON_BOOL: str_puts(out, j->boolean ? "true" : "false"); return;
    case JSON_NUMBER: str_add(out, j->text, j->size); return;
    case JSON_STRING: json_escape(out, j->text, j->size); return;
    default: break;
    }
    uint32_t count = 0;
    str_puts(out, j->type == JSON_ARRAY ? "[" : "{");
    for (const Json *c = j->child; c; c = c->next, count++) {
        if (count) str_puts(out, ",");
        if (j->type == JSON_OBJECT) {
            json_escape(out, c->key, c->key_size);
            str_puts(out, ":");
            REQUIRE(memchr(c->key, 0, c->key_size) || json_get(j, c->key) != NULL);
        }
        json_write(out, c);
    }
    REQUIRE(count == j->size);
    str_puts(out, j->type == JSON_ARRAY ? "]" : "}");
}

static void fuzz_json(const char *text, size_t n) {
    JsonDoc doc, again;
    Error err;
    Str once, twice;
    memset(&once, 0, sizeof once);
    memset(&twice, 0, sizeof twice);
    err.text[0] = 0;
    const Json *root = json_parse(&doc, text, n, &err);
    if (!fuzz_said(root != NULL, &err)) return;
    json_write(&once, root);
    root = json_parse(&again, once.data, once.size, &err);
    REQUIRE(root != NULL);
    json_write(&twice, root);
    REQUIRE(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
    json_free(&doc);
    json_free(&again);
    free(once.data);
    free(twice.data);
}

static void fuzz_safetensors(const uint8_t *bytes, size_t n) {
    SafeTensors st;
    MappedFile f;
    JsonDoc doc;
    Error err;
    memset(&st, 0, sizeof st);
    memset(&doc, 0, sizeof doc);
    memset(&f, 0, sizeof f);
    f.data = bytes;
    f.size = n;
    err.text[0] = 0;
    bool ok = fuzz_said(safetensors_header(&st, &doc, &f, "fuzz", &err) && safetensors_make_table(&st, &err), &err);
    size_t total = 0;
    for (int i = 0; ok && i < st.count; i++) {
        const SafeTensor *t = &st.tensors[i];
        float x[16];
        double y[16];
        int64_t count = int64_min(16, t->elements), elements = 1;
        for (int k = 0; k < t->ndim; k++) elements = t->shape[k] == 0 || elements == 0 ? 0 : elements * t->shape[k];
        total += t->bytes;
        REQUIRE(safetensors_find(&st, t->name) == t);
        REQUIRE(elements == t->elements && t->bytes == (size_t)elements * safetype_size(t->dtype));
        REQUIRE((const uint8_t *)t->data >= bytes && (const uint8_t *)t->data + t->bytes <= bytes + n);
        if (safetensors_to_f32(x, t, t->elements - count, count, &err))
            REQUIRE(safetensors_to_f64(y, t, 0, count, &err));
        REQUIRE(!safetensors_to_f32(x, t, t->elements, 1, &err));
    }
    REQUIRE(!ok || total <= n);
    free(st.tensors);
    free(st.names);
    json_free(&doc);
}

// Half of the inputs get the checksum that their header needs, since no fuzzer finds one.
static void fuzz_shard(uint8_t *bytes, size_t n) {
    Dataset d;
    Shard s;
    Error err;
    char name[] = "fuzz";
    memset(&s, 0, sizeof s);
    if (n > sizeof(ShardHeader) && bytes[n - 1] & 1) {
        uint64_t sum = xxh64(bytes, sizeof(ShardHeader) - 8, 0);
        memcpy(bytes + sizeof(ShardHeader) - 8, &sum, 8);
    }
    s.path = name;
    s.file.data = bytes;
    s.file.size = n;
    err.text[0] = 0;
    if (!fuzz_said(shard_check(&s, &err), &err)) return;
    memset(&d, 0, sizeof d);
    d.shards = &s;
    d.count = 1;
    d.seq_len = 5;
    s.sequences = s.header.tokens > 0 ? (s.header.tokens - 1) / 5 : 0;
    d.sequences = s.sequences;
    d.vocab_size = s.header.vocab_size;
    for (int64_t i = 0; i < d.sequences; i++) {
        int32_t inputs[5], targets[5];
        if (!dataset_sequence(&d, i, inputs, targets, NULL, &err)) continue;
        for (int t = 0; t < 5; t++)
            REQUIRE(inputs[t] >= 0 && targets[t] >= 0 &&
                    (!d.vocab_size || (inputs[t] < d.vocab_size && targets[t] < d.vocab_size)));
    }
    int64_t read;
    dataset_verify(&d, 0, 1, true, &read, &err);
}

// What json.h takes for an object the reader of lines takes as well, and no more but halves of surrogates.
static void fuzz_json_line(const char *text, size_t n) {
    JsonDoc doc;
    JsonSpan found[1];
    const char *names[1] = {"text"};
    const Json *root = json_parse(&doc, text, n, NULL);
    bool object = json_is(root, JSON_OBJECT), line = json_line(text, text + n, names, 1, found, NULL);
    REQUIRE(line || !object);
    REQUIRE(object || !line || memmem(text, n, "\\u", 2));
    if (line && found[0].from && *found[0].from == '"') {
        Str s;
        memset(&s, 0, sizeof s);
        json_span_string(&s, &found[0]);
        const Json *value = object ? json_get(root, "text") : NULL;
        REQUIRE(!value || (value->size == s.size && (s.size == 0 || memcmp(value->text, s.data, s.size) == 0)));
        free(s.data);
    }
    if (root) json_free(&doc);
}

static bool fuzz_take(DocParse *p, DocBatch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        const Document *d = &batch->docs[i];
        REQUIRE(d->n > 0 && d->hash == doc_hash(d->text, d->n));
        REQUIRE(d->known || d->offset >= 0);
    }
    (void)p;
    doc_batch_free(batch);
    return true;
}

// Any bytes as a file of any form: documents, damage, or an error.
static void fuzz_forms(const uint8_t *bytes, size_t n, DocSplit split) {
    static const char *const names[] = {"a.txt", "a-sentences.txt"};
    DocParse p;
    ByteWindow w;
    Error err;
    DocSettings settings;
    memset(&settings, 0, sizeof settings);
    memset(&p, 0, sizeof p);
    settings.split = split;
    settings.field = "text";
    err.text[0] = 0;
    p.settings = &settings;
    p.path = names[n % 2];
    p.give = fuzz_take;
    p.err = &err;
    window_of_memory(&w, (const char *)bytes, n, 0);
    if (!fuzz_said(doc_read_form(&p, &w, p.path, split) && doc_give(&p), &err)) p.documents = 0;
    doc_parse_free(&p);
}

static void fuzz_documents(const uint8_t *bytes, size_t n, DocSplit split) {
    TextFile f;
    DocReader r;
    const char *text, *last = (const char *)bytes;
    size_t size;
    memset(&f, 0, sizeof f);
    f.file.data = bytes;
    f.file.size = n;
    text_file_look(&f, split == DOC_NONE);
    for (doc_begin(&r, f.text, f.size, split); doc_next(&r, &text, &size); last = text + size) {
        REQUIRE(size > 0 && text >= last && text + size <= (const char *)bytes + n);
        REQUIRE(split == DOC_NONE || !text_is_space(text[size - 1]));
        REQUIRE(split != DOC_FORMFEED || !memchr(text, '\f', size));
        REQUIRE(tokenize_tail(text, size, (bytes[0] + 1) / 257.0) <= size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    size_t n = size - 1;
    uint8_t *exact = (uint8_t *)malloc(n ? n : 1);
    memcpy(exact, data + 1, n);
    switch (data[0] % 8) {
    case 0: fuzz_json((const char *)exact, n); break;
    case 1: fuzz_safetensors(exact, n); break;
    case 2: fuzz_shard(exact, n); break;
    case 3: fuzz_json_line((const char *)exact, n); break;
    default:
        fuzz_documents(exact, n, (DocSplit)(data[0] % 8 - 4));
        if (data[0] % 8 < 7) fuzz_forms(exact, n, (DocSplit)(data[0] % 8 - 4));
        break;
    }
    free(exact);
    return 0;
}
