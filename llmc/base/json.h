/*
json.h: reads and writes JSON (RFC 8259).

    JsonDoc doc;
    Json *root = json_load(&doc, "config.json", err);           // or json_parse(&doc, text, size, err)
    int layers = (int)json_integer(json_get(root, "n_layer"), 12);
    for (const Json *j = json_get(root, "merges")->child; j; j = j->next) ...
    json_free(&doc);

Every accessor takes NULL and values of another type and then gives the fallback, so lookups can be
nested without checks in between. That is for files of our own, and where the type has been looked at. In what others
wrote a value of another type is no default: json_want_... refuses it by name, and json_unique a key that stands twice.

Strict: one value and white space, nothing else; no comments, no trailing commas, no NaN; strings are
valid UTF-8 without control characters, and \u surrogates come in pairs. Limits: 4 GiB of text, 256
levels. Strings are decoded and NUL-terminated; `size` counts, since \u0000 is allowed. Where a key
stands twice, json_get gives the last one, as Python and most others do.

Memory: one node is 64 bytes; nodes and strings lie in chunks (an arena) that json_free() frees at once.
Members of an object are a list: json_get is linear, so walk large objects with child/next.
Numbers with a point are read by strtod(3), which follows the locale: leave LC_NUMERIC at "C".
*/
#ifndef LLMC_JSON_H
#define LLMC_JSON_H

#include "file.h"
#include <math.h>

typedef enum { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonType;

typedef struct Json {
    JsonType type;
    bool boolean;
    bool is_integer;    // a number without point and exponent that fits int64_t
    uint32_t key_size;  // bytes of key
    uint32_t size;      // string, number: bytes of text; array, object: number of children
    const char *key;    // a member of an object: its name; otherwise NULL
    const char *text;   // string: decoded; number: as written; both NUL-terminated
    struct Json *child; // array, object: the first element
    struct Json *next;  // the next element of the same array or object
    double number;
    int64_t integer; // where is_integer; otherwise the number cut and clamped
} Json;

#define JSON_MAX_DEPTH 256
#define JSON_CHUNK ((size_t)1 << 20)

typedef struct JsonChunk {
    struct JsonChunk *next;
    size_t used, size; // bytes after this struct
} JsonChunk;

typedef struct {
    JsonChunk *chunks;
    Json *root;
} JsonDoc;

typedef struct {
    JsonDoc *doc;
    const char *start, *p, *end;
    Error *err;
    int depth;
} JsonReader;

// ---------------------------------------------------------------- memory

static inline void json_free(JsonDoc *doc) {
    for (JsonChunk *c = doc->chunks; c;) {
        JsonChunk *next = c->next;
        free(c);
        c = next;
    }
    doc->chunks = NULL;
    doc->root = NULL;
}

// Uninitialised memory aligned to 8 bytes.
static inline void *json_alloc(JsonDoc *doc, size_t bytes) {
    bytes = (bytes + 7) / 8 * 8;
    JsonChunk *c = doc->chunks;
    if (!c || c->size - c->used < bytes) {
        size_t size = bytes > JSON_CHUNK / 4 ? bytes : c ? JSON_CHUNK : 8192; // most documents are small
        JsonChunk *fresh = (JsonChunk *)malloc(sizeof(JsonChunk) + size);
        if (!fresh) fail("out of memory: %zu bytes for a JSON document could not be allocated", size);
        fresh->used = 0;
        fresh->size = size;
        if (c && bytes > JSON_CHUNK / 4) { // a chunk of its own goes behind the one that is being filled
            fresh->next = c->next;
            c->next = fresh;
        } else {
            fresh->next = c;
            doc->chunks = fresh;
        }
        c = fresh;
    }
    void *p = (char *)(c + 1) + c->used;
    c->used += bytes;
    return p;
}

// ---------------------------------------------------------------- parsing

// "line 3, column 7: WHAT, found 'x'"
static inline bool json_error(JsonReader *r, const char *at, const char *what) {
    size_t line = 1;
    const char *line_start = r->start;
    for (const char *c = r->start; c < at; c++)
        if (*c == '\n') line++, line_start = c + 1;
    size_t column = (size_t)(at - line_start) + 1;
    if (at >= r->end)
        return error_set(r->err, "not JSON: line %zu, column %zu: %s, found the end of the text", line, column, what);
    unsigned char c = (unsigned char)*at;
    if (c >= 0x20 && c < 0x7f)
        return error_set(r->err, "not JSON: line %zu, column %zu: %s, found '%c'", line, column, what, c);
    return error_set(r->err, "not JSON: line %zu, column %zu: %s, found byte 0x%02x", line, column, what, c);
}

static inline void json_skip_space(JsonReader *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t')) r->p++;
}

// Four hexadecimal digits at r->p, which is moved behind them; -1: there are none.
static inline int json_hex4(JsonReader *r) {
    if (r->end - r->p < 4) return -1;
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->p;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
        r->p++;
    }
    return value;
}

// r->p stands behind a backslash; writes the character to out (up to 4 bytes), or returns 0.
static inline int json_escape_sequence(JsonReader *r, char *out) {
    if (r->p >= r->end) return json_error(r, r->p, "expected the rest of an escape");
    char c = *r->p++;
    switch (c) {
    case '"':
    case '\\':
    case '/': *out = c; return 1;
    case 'b': *out = '\b'; return 1;
    case 'f': *out = '\f'; return 1;
    case 'n': *out = '\n'; return 1;
    case 'r': *out = '\r'; return 1;
    case 't': *out = '\t'; return 1;
    case 'u': break;
    default: return json_error(r, r->p - 1, "expected one of \"\\/bfnrtu after a backslash");
    }
    int high = json_hex4(r);
    if (high < 0) return json_error(r, r->p, "expected four hexadecimal digits after \\u");
    if (high < 0xd800 || high > 0xdfff) return utf8_put((uint8_t *)out, (uint32_t)high);
    if (high > 0xdbff) return json_error(r, r->p - 4, "the second half of a \\u surrogate pair without the first");
    if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
        return json_error(r, r->p, "expected the second half of a \\u surrogate pair");
    r->p += 2;
    int low = json_hex4(r);
    if (low < 0xdc00 || low > 0xdfff) return json_error(r, r->p, "expected the second half of a \\u surrogate pair");
    return utf8_put((uint8_t *)out, 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00));
}

// r->p stands behind the opening quote.
static inline bool json_read_string(JsonReader *r, const char **text, uint32_t *size) {
    const char *close = r->p;
    while (close < r->end && *close != '"') close += *close == '\\' && r->end - close > 1 ? 2 : 1;
    if (close >= r->end) return json_error(r, r->end, "expected '\"' at the end of a string");
    char *out = (char *)json_alloc(r->doc, (size_t)(close - r->p) + 1); // decoding never lengthens
    *text = out;
    while (r->p < close) {
        unsigned char c = (unsigned char)*r->p;
        if (c == '\\') {
            r->p++;
            int n = json_escape_sequence(r, out);
            if (n == 0) return false;
            out += n;
        } else if (c < 0x20) {
            return json_error(r, r->p, "a control character in a string must be written as \\u");
        } else if (c < 0x80) {
            *out++ = (char)c;
            r->p++;
        } else {
            uint32_t code;
            int n = utf8_decode((const uint8_t *)r->p, (const uint8_t *)close, &code);
            if (n == 0) return json_error(r, r->p, "expected valid UTF-8 in a string");
            memcpy(out, r->p, (size_t)n);
            out += n, r->p += n;
        }
    }
    r->p = close + 1;
    *out = 0;
    *size = (uint32_t)(out - *text);
    return true;
}

static inline bool json_read_digits(JsonReader *r) {
    const char *start = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9') r->p++;
    return r->p > start ? true : json_error(r, r->p, "expected a digit");
}

static inline bool json_read_number(JsonReader *r, Json *j) {
    const char *start = r->p;
    bool negative = *r->p == '-', whole = true, fits = true;
    if (negative) r->p++;
    const char *digits = r->p;
    if (!json_read_digits(r)) return false;
    if (*digits == '0' && r->p - digits > 1) return json_error(r, digits, "a number does not start with 0");
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
    for (const char *c = digits; c < r->p && fits; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        fits = value <= (limit - digit) / 10;
        value = value * 10 + digit;
    }
    if (r->p < r->end && *r->p == '.') {
        whole = false;
        r->p++;
        if (!json_read_digits(r)) return false;
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        whole = false;
        r->p++;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-')) r->p++;
        if (!json_read_digits(r)) return false;
    }
    size_t n = (size_t)(r->p - start);
    char *text = (char *)json_alloc(r->doc, n + 1);
    memcpy(text, start, n);
    text[n] = 0;
    j->type = JSON_NUMBER;
    j->text = text;
    j->size = (uint32_t)n;
    j->is_integer = whole && fits;
    if (j->is_integer) {
        j->integer = negative ? (int64_t)(0 - value) : (int64_t)value;
        j->number = (double)j->integer;
        if (negative && value == 0) j->number = -0.0;
    } else {
        j->number = strtod(text, NULL);
        j->integer = j->number >= 9223372036854775807.0    ? INT64_MAX
                     : j->number <= -9223372036854775808.0 ? INT64_MIN
                                                           : (int64_t)j->number;
    }
    return true;
}

static inline bool json_read_word(JsonReader *r, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0) return json_error(r, r->p, "expected a value");
    r->p += n;
    return true;
}

static inline bool json_read_value(JsonReader *r, Json *j);

// Elements up to the closing bracket; r->p stands behind the opening one.
static inline bool json_read_children(JsonReader *r, Json *parent, char close) {
    if (++r->depth > JSON_MAX_DEPTH) return json_error(r, r->p - 1, "more than 256 levels");
    Json **link = &parent->child;
    json_skip_space(r);
    if (r->p < r->end && *r->p == close) r->p++;
    else
        for (;;) {
            Json *j = (Json *)json_alloc(r->doc, sizeof(Json));
            memset(j, 0, sizeof *j);
            if (close == '}') {
                if (r->p >= r->end || *r->p != '"')
                    return json_error(r, r->p, "expected '\"' before the name of a member");
                r->p++;
                if (!json_read_string(r, &j->key, &j->key_size)) return false;
                json_skip_space(r);
                if (r->p >= r->end || *r->p != ':')
                    return json_error(r, r->p, "expected ':' after the name of a member");
                r->p++;
                json_skip_space(r);
            }
            if (!json_read_value(r, j)) return false;
            *link = j;
            link = &j->next;
            parent->size++;
            json_skip_space(r);
            if (r->p < r->end && *r->p == close) {
                r->p++;
                break;
            }
            if (r->p >= r->end || *r->p != ',')
                return json_error(r, r->p, close == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
            r->p++;
            json_skip_space(r);
        }
    r->depth--;
    return true;
}

static inline bool json_read_value(JsonReader *r, Json *j) {
    char c = r->p < r->end ? *r->p : 0;
    switch (c) {
    case '{':
        r->p++;
        j->type = JSON_OBJECT;
        return json_read_children(r, j, '}');
    case '[':
        r->p++;
        j->type = JSON_ARRAY;
        return json_read_children(r, j, ']');
    case '"':
        r->p++;
        j->type = JSON_STRING;
        return json_read_string(r, &j->text, &j->size);
    case 't':
        j->type = JSON_BOOL;
        j->boolean = true;
        return json_read_word(r, "true");
    case 'f': j->type = JSON_BOOL; return json_read_word(r, "false");
    case 'n': return json_read_word(r, "null");
    default:
        return c == '-' || (c >= '0' && c <= '9') ? json_read_number(r, j) : json_error(r, r->p, "expected a value");
    }
}

// Parses a text that need not end in NUL and may be freed afterwards. NULL: err says where and why, and
// there is nothing to free. Otherwise the root, which lives until json_free(doc).
static inline Json *json_parse(JsonDoc *doc, const char *text, size_t n, Error *err) {
    doc->chunks = NULL;
    doc->root = NULL;
    if (n >= UINT32_MAX) {
        error_set(err, "a JSON text of %zu bytes is longer than 4 GiB", n);
        return NULL;
    }
    JsonReader r;
    r.doc = doc;
    r.start = r.p = text;
    r.end = text + n;
    r.err = err;
    r.depth = 0;
    Json *root = (Json *)json_alloc(doc, sizeof(Json));
    memset(root, 0, sizeof *root);
    json_skip_space(&r);
    bool ok = json_read_value(&r, root);
    if (ok) {
        json_skip_space(&r);
        if (r.p < r.end) ok = json_error(&r, r.p, "expected the end of the text");
    }
    if (!ok) {
        json_free(doc);
        return NULL;
    }
    return doc->root = root;
}

static inline int json_key_order(const void *a, const void *b) {
    const Json *x = *(const Json *const *)a, *y = *(const Json *const *)b;
    uint32_t n = x->key_size < y->key_size ? x->key_size : y->key_size;
    int order = memcmp(x->key, y->key, n);
    return order ? order : (x->key_size > y->key_size) - (x->key_size < y->key_size);
}

// Refuses an object in which a key stands twice: readers differ in which of the values they take.
static inline bool json_unique(const Json *object, Error *err) {
    if (!object || object->type != JSON_OBJECT || object->size < 2) return true;
    const Json **members = (const Json **)mem_alloc(object->size * sizeof *members);
    size_t n = 0, i = 1;
    for (const Json *j = object->child; j; j = j->next) members[n++] = j;
    qsort(members, n, sizeof *members, json_key_order);
    while (i < n && json_key_order(&members[i - 1], &members[i]) != 0) i++;
    if (i < n) error_set(err, "\"%.200s\" stands there twice", members[i]->key);
    free(members);
    return i == n;
}

#define JSON_MAX_BYTES ((size_t)1 << 30) // tokenizers of 1M tokens have 40 MB

// Parses a file, whose outermost keys must differ; errors begin with its path.
static inline Json *json_load(JsonDoc *doc, const char *path, Error *err) {
    Str text;
    Error why;
    memset(&text, 0, sizeof text);
    doc->chunks = NULL;
    doc->root = NULL;
    bool read = file_read(&text, path, JSON_MAX_BYTES, err);
    Json *root = read ? json_parse(doc, text.data, text.size, &why) : NULL;
    if (root && !json_unique(root, &why)) {
        json_free(doc);
        root = NULL;
    }
    if (read && !root) error_set(err, "%s: %.900s", path, why.text);
    free(text.data);
    return root;
}

// ---------------------------------------------------------------- looking

// The last member of that name, or NULL.
static inline Json *json_get(const Json *object, const char *key) {
    Json *found = NULL;
    if (!object || object->type != JSON_OBJECT) return NULL;
    size_t n = strlen(key);
    for (Json *j = object->child; j; j = j->next)
        if (j->key_size == n && memcmp(j->key, key, n) == 0) found = j;
    return found;
}

static inline bool json_is(const Json *j, JsonType type) { return j && j->type == type; }
static inline const char *json_string(const Json *j, const char *fallback) {
    return json_is(j, JSON_STRING) ? j->text : fallback;
}
static inline double json_number(const Json *j, double fallback) {
    return json_is(j, JSON_NUMBER) ? j->number : fallback;
}
static inline int64_t json_integer(const Json *j, int64_t fallback) {
    return json_is(j, JSON_NUMBER) && j->is_integer ? j->integer : fallback;
}
static inline bool json_bool(const Json *j, bool fallback) { return json_is(j, JSON_BOOL) ? j->boolean : fallback; }

// A value as a message shows it: "1e999", "\"500000.0\"", "an array".
static inline Path json_shown(const Json *j) {
    static const char *const types[] = {"null", "", "", "", "an array", "an object"};
    if (j->type == JSON_BOOL) return path_of("%s", j->boolean ? "true" : "false");
    if (j->type == JSON_NUMBER) return path_of("%.100s", j->text);
    return j->type == JSON_STRING ? path_of("\"%.100s\"", j->text) : path_of("%s", types[j->type]);
}

// What json_want_... say of a value that is not what was expected.
static inline bool json_unwanted(Error *err, const Json *j, const char *key, const char *expected) {
    return error_set(err, "\"%s\" is %s, expected %s", key, json_shown(j).text, expected);
}

// The member of that name; NULL where there is none, or null.
static inline const Json *json_present(const Json *object, const char *key) {
    const Json *j = json_get(object, key);
    return j && j->type != JSON_NULL ? j : NULL;
}

// json_want_... read a member of an object: *out stays as it is where it is absent or null, and false means that it is
// of another type or out of range: the error names it. A whole number has neither point nor exponent.
static inline bool json_want_integer(int64_t *out, const Json *object, const char *key, int64_t least, int64_t most,
                                     Error *err) {
    const Json *j = json_present(object, key);
    if (!j) return true;
    if (j->type != JSON_NUMBER || !j->is_integer || j->integer < least || j->integer > most)
        return json_unwanted(err, j, key,
                             path_of("a whole number from %lld to %lld", (long long)least, (long long)most).text);
    *out = j->integer;
    return true;
}

// A finite number.
static inline bool json_want_number(double *out, const Json *object, const char *key, Error *err) {
    const Json *j = json_present(object, key);
    if (!j) return true;
    if (j->type != JSON_NUMBER || !isfinite(j->number)) return json_unwanted(err, j, key, "a finite number");
    *out = j->number;
    return true;
}

static inline bool json_want_bool(bool *out, const Json *object, const char *key, Error *err) {
    const Json *j = json_present(object, key);
    if (!j) return true;
    if (j->type != JSON_BOOL) return json_unwanted(err, j, key, "true or false");
    *out = j->boolean;
    return true;
}

// A string without NUL; *out lives as long as the document.
static inline bool json_want_string(const char **out, const Json *object, const char *key, Error *err) {
    const Json *j = json_present(object, key);
    if (!j) return true;
    if (j->type != JSON_STRING || strlen(j->text) != j->size) return json_unwanted(err, j, key, "a string");
    *out = j->text;
    return true;
}

// ---------------------------------------------------------------- writing

// Appends a string with its quotes. Bytes that are not UTF-8 become U+FFFD: JSON has no way to hold them.
static inline void json_escape(Str *out, const char *text, size_t n) {
    const char *end = text + n;
    str_add(out, "\"", 1);
    for (const char *p = text; p < end;) {
        const char *plain = p;
        while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f && *p != '"' && *p != '\\') p++;
        str_add(out, plain, (size_t)(p - plain));
        if (p == end) break;
        unsigned char c = (unsigned char)*p;
        if (c >= 0x80) {
            uint32_t code;
            int length = utf8_decode((const uint8_t *)p, (const uint8_t *)end, &code);
            if (length) str_add(out, p, (size_t)length);
            else str_puts(out, "\xef\xbf\xbd");
            p += length ? length : 1;
            continue;
        }
        if (c == '"') str_puts(out, "\\\"");
        else if (c == '\\') str_puts(out, "\\\\");
        else if (c == '\n') str_puts(out, "\\n");
        else if (c == '\r') str_puts(out, "\\r");
        else if (c == '\t') str_puts(out, "\\t");
        else str_printf(out, "\\u%04x", c);
        p++;
    }
    str_add(out, "\"", 1);
}

// Appends a number with as few digits as give the same double again; NaN and infinities become null.
static inline void json_add_number(Str *out, double x) {
    char text[40];
    if (!(x - x == 0)) {
        str_puts(out, "null");
        return;
    }
    // The fewest digits that are the number again, but 600 as 600 and not 6e+02.
    for (int digits = fabs(x) >= 10 && fabs(x) < 1e15 && x == floor(x) ? 16 : 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    str_puts(out, text);
}

#endif
