/*
json_line.h: one JSON object in a line, and a few of its members, at the speed of memory.

    JsonSpan found[2];
    const char *names[2] = {"text", "url"};
    json_line(p, end, names, 2, found, err)     false: no JSON object; err: "column 17: expected ..."
    json_span_string(&out, &found[0])           appends a string, decoded

As strict as json.h, whose answers the tests compare: one object and white space, valid UTF-8, no control characters in
strings, numbers and words as RFC 8259 has them, 256 levels at most. Only where the halves of a \u surrogate pair stand
alone this one is milder, since text from the web has them: each becomes U+FFFD. Nothing is built: a line of any length
costs no memory, and members that nobody asked for are only looked through. Of a key that stands twice the last counts.
*/
#ifndef LLMC_JSON_LINE_H
#define LLMC_JSON_LINE_H

#include "../base/json.h"
#include "text.h"

// A value as it is written. from == NULL: there is none of that name.
typedef struct {
    const char *from, *to;
} JsonSpan;

typedef struct {
    const char *start, *p, *end;
    const char *what; // is wrong at p
} JsonScan;

static inline bool json_scan_error(JsonScan *s, const char *at, const char *what) {
    s->p = at;
    s->what = what;
    return false;
}

static inline void json_scan_space(JsonScan *s) {
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t')) s->p++;
}

// The highest bit of each of 8 bytes that is a quotation mark, a backslash or a control character; a byte above one may
// be taken for one too, so only the lowest bit tells.
static inline uint64_t json_scan_special(uint64_t eight) {
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t quote = eight ^ (ones * '"'), slash = eight ^ (ones * '\\');
    uint64_t zero = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((eight - ones * 0x20) & ~eight);
    return zero & high;
}

// The first quotation mark, backslash or control character from p on.
static inline const char *json_scan_plain(const char *p, const char *end) {
    uint64_t eight;
    while (end - p >= 8) {
        memcpy(&eight, p, 8);
        uint64_t special = json_scan_special(eight);
        if (special) return p + __builtin_ctzll(special) / 8;
        p += 8;
    }
    while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20) p++;
    return p;
}

// What a letter behind a backslash stands for; 0: there is no such escape, or it is \u.
static inline char json_scan_escape(char c) {
    switch (c) {
    case 'n': return '\n';
    case '"':
    case '\\':
    case '/': return c;
    case 't': return '\t';
    case 'r': return '\r';
    case 'b': return '\b';
    case 'f': return '\f';
    default: return 0;
    }
}

// s->p: behind the opening quotation mark; then behind the closing one.
static inline bool json_scan_string(JsonScan *s) {
    const char *p = s->p;
    for (;;) {
        p = json_scan_plain(p, s->end);
        if (p >= s->end) return json_scan_error(s, s->end, "expected '\"' at the end of a string");
        if (*p == '"') break;
        if (*p != '\\') return json_scan_error(s, p, "a control character in a string must be written as \\u");
        if (++p >= s->end) return json_scan_error(s, s->end, "expected '\"' at the end of a string");
        if (*p == 'u') {
            for (int i = 1; i <= 4; i++)
                if (s->end - p <= i || !strchr("0123456789abcdefABCDEF", p[i]) || !p[i])
                    return json_scan_error(s, p, "expected four hexadecimal digits after \\u");
            p += 5;
        } else if (json_scan_escape(*p)) p++;
        else return json_scan_error(s, p, "an unknown escape sequence in a string");
    }
    s->p = p + 1;
    return true;
}

static inline bool json_scan_digits(JsonScan *s) {
    const char *start = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
    return s->p > start ? true : json_scan_error(s, s->p, "expected a digit");
}

static inline bool json_scan_number(JsonScan *s) {
    if (*s->p == '-') s->p++;
    const char *digits = s->p;
    if (!json_scan_digits(s)) return false;
    if (*digits == '0' && s->p - digits > 1) return json_scan_error(s, digits, "a number does not start with 0");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!json_scan_digits(s)) return false;
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-')) s->p++;
        if (!json_scan_digits(s)) return false;
    }
    return true;
}

// A string, number or word at s->p.
static inline bool json_scan_scalar(JsonScan *s) {
    static const char *const words[] = {"true", "false", "null"};
    char c = s->p < s->end ? *s->p : 0;
    if (c == '"') {
        s->p++;
        return json_scan_string(s);
    }
    if (c == '-' || (c >= '0' && c <= '9')) return json_scan_number(s);
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) < n || memcmp(s->p, words[i], n) != 0) continue;
        s->p += n;
        return true;
    }
    return json_scan_error(s, s->p, "expected a value");
}

// The name of a member and its colon.
static inline bool json_scan_name(JsonScan *s, JsonSpan *name) {
    if (s->p >= s->end || *s->p != '"') return json_scan_error(s, s->p, "expected '\"' before the name of a member");
    name->from = s->p++;
    if (!json_scan_string(s)) return false;
    name->to = s->p;
    json_scan_space(s);
    if (s->p >= s->end || *s->p != ':') return json_scan_error(s, s->p, "expected ':' after the name of a member");
    s->p++;
    json_scan_space(s);
    return true;
}

// A value of any kind at s->p. Levels are a stack of bits, 1: an object.
static inline bool json_scan_value(JsonScan *s) {
    uint8_t objects[JSON_MAX_DEPTH / 8 + 1];
    int depth = 0;
    JsonSpan name;
    for (;;) {
        json_scan_space(s);
        char c = s->p < s->end ? *s->p : 0;
        bool open = c == '{' || c == '[';
        if (open) {
            // One level stands around: the object of the line.
            if (++depth >= JSON_MAX_DEPTH) return json_scan_error(s, s->p, "more than 256 levels");
            uint8_t bit = (uint8_t)(1 << depth % 8);
            objects[depth / 8] = (uint8_t)(c == '{' ? objects[depth / 8] | bit : objects[depth / 8] & ~bit);
            s->p++;
            json_scan_space(s);
        } else if (!json_scan_scalar(s)) return false;
        for (;;) {
            if (depth == 0) return true;
            bool object = (objects[depth / 8] >> depth % 8 & 1) != 0;
            if (!open) json_scan_space(s);
            if (s->p < s->end && *s->p == (object ? '}' : ']')) {
                s->p++;
                depth--;
                open = false;
                continue;
            }
            if (!open) {
                if (s->p >= s->end || *s->p != ',')
                    return json_scan_error(s, s->p, object ? "expected ',' or '}'" : "expected ',' or ']'");
                s->p++;
                json_scan_space(s);
            }
            if (object && !json_scan_name(s, &name)) return false;
            break;
        }
    }
}

static inline int json_span_hex(const char *p) {
    int value = 0;
    for (int i = 0; i < 4; i++) value = value * 16 + (p[i] <= '9' ? p[i] - '0' : (p[i] | 32) - 'a' + 10);
    return value;
}

// Appends a string, of which the scanner has seen that it is one, decoded.
static inline void json_span_string(Str *out, const JsonSpan *span) {
    const char *p = span->from + 1, *end = span->to - 1;
    while (p < end) {
        const char *slash = (const char *)memchr(p, '\\', (size_t)(end - p));
        if (!slash) slash = end;
        str_add(out, p, (size_t)(slash - p));
        if (slash == end) break;
        p = slash + 2;
        if (slash[1] != 'u') {
            char c = json_scan_escape(slash[1]);
            str_add(out, &c, 1);
            continue;
        }
        uint8_t bytes[4];
        uint32_t c = (uint32_t)json_span_hex(p), low = 0;
        p += 4;
        if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u')
            low = (uint32_t)json_span_hex(p + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        } else if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
        str_add(out, bytes, (size_t)utf8_put(bytes, c));
    }
}

static inline bool json_span_is(const JsonSpan *name, const char *wanted) {
    size_t n = (size_t)(name->to - name->from) - 2;
    if (!memchr(name->from + 1, '\\', n)) return strlen(wanted) == n && memcmp(name->from + 1, wanted, n) == 0;
    Str text;
    memset(&text, 0, sizeof text);
    json_span_string(&text, name);
    bool same = text.size == strlen(wanted) && memcmp(text.data, wanted, text.size) == 0;
    free(text.data);
    return same;
}

static inline bool json_line_members(JsonScan *s, const char *const *names, int count, JsonSpan *found) {
    json_scan_space(s);
    if (s->p >= s->end || *s->p != '{') return json_scan_error(s, s->p, "expected '{'");
    s->p++;
    json_scan_space(s);
    if (s->p < s->end && *s->p == '}') s->p++;
    else
        for (;;) {
            JsonSpan name, value;
            if (!json_scan_name(s, &name)) return false;
            value.from = s->p;
            if (!json_scan_value(s)) return false;
            value.to = s->p;
            for (int i = 0; i < count; i++)
                if (json_span_is(&name, names[i])) found[i] = value;
            json_scan_space(s);
            if (s->p < s->end && *s->p == '}') {
                s->p++;
                break;
            }
            if (s->p >= s->end || *s->p != ',') return json_scan_error(s, s->p, "expected ',' or '}'");
            s->p++;
            json_scan_space(s);
        }
    json_scan_space(s);
    return s->p == s->end ? true : json_scan_error(s, s->p, "expected the end of the line");
}

// The members of an object that have these names (count).
static inline bool json_line(const char *p, const char *end, const char *const *names, int count, JsonSpan *found,
                             Error *err) {
    JsonScan s = {p, p, end, NULL};
    memset(found, 0, (size_t)count * sizeof *found);
    size_t valid = text_valid((const uint8_t *)p, (const uint8_t *)end);
    bool ok = valid == (size_t)(end - p) ? json_line_members(&s, names, count, found)
                                         : json_scan_error(&s, p + valid, "expected valid UTF-8");
    if (ok) return true;
    long long column = (long long)(s.p - p) + 1;
    if (s.p >= end) return error_set(err, "not JSON: column %lld: %s, found the end of the line", column, s.what);
    unsigned char c = (unsigned char)*s.p;
    if (c >= 0x20 && c < 0x7f) return error_set(err, "not JSON: column %lld: %s, found '%c'", column, s.what, c);
    return error_set(err, "not JSON: column %lld: %s, found byte 0x%02x", column, s.what, c);
}

// Its keys, for a message: "id, url, text" (of the first few).
static inline Path json_line_keys(const char *p, const char *end) {
    JsonScan s = {p, p, end, NULL};
    Path keys = path_of("%s", "");
    json_scan_space(&s);
    for (int i = 0; i < 12 && s.p < end && (*s.p == '{' || *s.p == ','); i++) {
        JsonSpan name;
        s.p++;
        json_scan_space(&s);
        if (!json_scan_name(&s, &name) || !json_scan_value(&s)) break;
        keys = path_of("%.500s%s%.*s", keys.text, i ? ", " : "", (int)int64_min(name.to - name.from - 2, 60),
                       name.from + 1);
        json_scan_space(&s);
    }
    return keys;
}

#endif
