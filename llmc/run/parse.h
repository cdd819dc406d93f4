/*
parse.h: from words and config files to Options.

An option is written --name=value (an on/off option also --name alone); --config=FILE reads lines
`name = value` in its place; a later word wins. An option of another verb is an error on the command line and passed
over in a config file, so that one file can serve a whole project. An unknown one is an error that suggests the nearest
name. A number is read whole or refused: what stands behind it, or is written as in another country, is no default.

Lines of a config file: white space around names and values does not count; '#' at the start of a line or after a blank
starts a comment; quotes, of either kind, may stand around a value, and keep blanks and '#' in it. UTF-8, with or
without a byte order mark, lines ending as on Unix or Windows.
*/
#ifndef LLMC_PARSE_H
#define LLMC_PARSE_H

#include "defaults.h"
#include <ctype.h>

// The verb of this name, or -1.
static inline int verb_of(const char *name) {
    for (int v = 0; v < VERB_COUNT; v++)
        if (strcmp(verbs[v].name, name) == 0) return v;
    return -1;
}

// Edit distance, for suggestions (Levenshtein 1966); names are short.
static inline int options_distance(const char *a, const char *b) {
    int row[64];
    int n = (int)strlen(b);
    if (n > 62) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

// Index of `value` among "a|b|c", or -1.
static inline int options_choice(const char *choices, const char *value) {
    int index = 0;
    for (const char *c = choices; *c; index++) {
        size_t n = strcspn(c, "|");
        if (strlen(value) == n && memcmp(c, value, n) == 0) return index;
        c += n + (c[n] == '|');
    }
    return -1;
}

// What a number written in another way may have meant: "10.000" and "1 000" 10000, "1.000,5" 1000.5; empty: nothing
// that is clear. Groups of three digits stand between the same signs all along.
static inline Path options_number_meant(const char *text, bool whole) {
    Path meant = path_of("%s", "");
    size_t used = 0, n = strlen(text), first = strspn(text, "0123456789"), group = first;
    char between = 0;
    const char *p = text + first;
    bool grouped = first > 0 && first <= 3;
    for (; grouped && *p && strchr(".,'_ ", *p) && (!between || *p == between); p += 1 + group) {
        group = strspn(p + 1, "0123456789");
        if (group != 3) break;
        between = *p;
    }
    bool fraction = *p && strchr(".,", *p) && *p != between && p[1] && !p[1 + strspn(p + 1, "0123456789")];
    if (first == 0 || n > 40 || (*p && (whole || !fraction)) || (whole && !between)) return meant;
    if (!whole && !*p && between == ',' && (size_t)(p - text) == first + 4) p = text + first; // 0,001: a decimal comma
    for (const char *c = text; *c; c++)
        if (c >= p || (*c >= '0' && *c <= '9')) meant.text[used++] = *c == ',' ? '.' : *c;
    meant.text[used] = 0;
    return meant;
}

// A whole number of digits alone, or with an exponent (1e6, 1.5e6), which is how people write large counts. Exact: what
// is no whole number, or beyond int64_t, is refused. 10.000 is ten thousand to some and ten to others: neither here.
static inline bool options_parse_int(int64_t *out, const char *text) {
    const char *p = text + (*text == '-');
    int64_t value = 0, exponent = 0, behind = 0, digits = 0;
    bool point = false;
    for (; (*p >= '0' && *p <= '9') || (*p == '.' && !point); p++) {
        point |= *p == '.';
        if (*p == '.') continue;
        digits++, behind += point;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p - '0', &value)) return false;
    }
    if (digits == 0) return false;
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '+');
        if (!*p) return false;
        for (; *p >= '0' && *p <= '9' && exponent < 100; p++) exponent = 10 * exponent + *p - '0';
    }
    if (*p || exponent < behind || (point && exponent == 0)) return false;
    for (; value && exponent > behind; exponent--)
        if (__builtin_mul_overflow(value, 10, &value)) return false;
    *out = *text == '-' ? -value : value;
    return true;
}

// A decimal number that a double holds: no nan, inf, 0x10 nor blanks, nothing beyond the largest or below the smallest.
static inline bool options_parse_real(double *out, const char *text) {
    char *end = NULL;
    if (*text == '+' || text[strspn(text, "0123456789.eE+-")]) return false;
    errno = 0;
    *out = strtod(text, &end);
    return end != text && !*end && !errno;
}

static inline bool option_parse_number(Options *o, const Option *p, const char *value, const char *from, Error *err) {
    void *at = (char *)o + p->offset;
    bool whole = p->type == OPTION_INT, word = *p->choices != 0;
    long double x;
    if (word && strcmp(value, p->choices) == 0) {
        if (whole) *(int64_t *)at = INT_AUTO;
        else *(double *)at = LR_AUTO;
        return true;
    }
    const char *or_ = word ? " or the word " : "";
    Path bounds = whole ? path_of("%lld to %lld%s%s", (long long)p->least, (long long)p->most, or_, p->choices)
                        : path_of("%g to %g%s%s", (double)p->least, (double)p->most, or_, p->choices);
    if (!(whole ? options_parse_int((int64_t *)at, value) : options_parse_real((double *)at, value))) {
        Path meant = options_number_meant(value, whole);
        return error_set(err, "%s--%s=%.200s: expected a %snumber from %s, %s: %s", from, p->name, value,
                         whole ? "whole " : "", bounds.text,
                         whole ? "in digits alone" : "with a decimal point if any, not a comma",
                         meant.text[0] ? meant.text
                         : whole       ? "10000 or 1e4"
                                       : "0.001 or 1e-3");
    }
    x = whole ? (long double)*(int64_t *)at : (long double)*(double *)at;
    if (x >= p->least && x <= p->most) return true;
    return error_set(err, "%s--%s=%.200s: expected %s", from, p->name, value, bounds.text);
}

// Reads an option's value from text, which a TEXT or PATH option keeps. from: where it was written, for messages.
static inline bool option_parse(Options *o, const Option *p, const char *value, const char *from, Error *err) {
    void *at = (char *)o + p->offset;
    switch (p->type) {
    case OPTION_TEXT:
    case OPTION_PATH: *(const char **)at = value; return true;
    case OPTION_INT:
    case OPTION_REAL: return option_parse_number(o, p, value, from, err);
    default: {
        int index = options_choice(p->choices, value);
        if (index < 0 && p->type == OPTION_FLAG) index = options_choice("0|1", value);
        *(int *)at = index;
        if (index >= 0) return true;
        if (p->type == OPTION_FLAG) return error_set(err, "%s--%s=%.200s: expected on or off", from, p->name, value);
        return error_set(err, "%s--%s=%.200s: expected one of %s", from, p->name, value, p->choices);
    }
    }
}

// Sets one option from text. lenient: one of another verb is looked at and passed over.
static inline bool options_set(Options *o, const char *name, const char *value, bool lenient, const char *from,
                               Error *err) {
    const Option *p = option_find(name);
    const char *verb = verbs[o->verb].name, *nearest = NULL;
    if (p && !(p->verbs & 1 << o->verb)) {
        Options other;
        if (lenient) return option_parse(&other, p, value, from, err);
        return error_set(err, "%s--%s is not an option of %s; see --help", from, name, verb);
    }
    if (p && p->type <= OPTION_PATH) {
        if (p->type == OPTION_PATH && strlen(value) >= PATH_SIZE)
            return error_set(err, "%s--%s=%.60s...: a path longer than %d bytes", from, name, value, PATH_SIZE);
        str_list_add(&o->kept, p->type == OPTION_PATH ? path_home(value).text : value);
        value = o->kept.items[o->kept.count - 1];
    }
    if (p) o->given[p - option_rows] = true;
    if (p) return option_parse(o, p, value, from, err);
    for (int i = 0, best = 4; i < OPTION_COUNT; i++) {
        int d = option_rows[i].verbs & 1 << o->verb ? options_distance(name, option_rows[i].name) : best;
        if (d < best) best = d, nearest = option_rows[i].name;
    }
    if (nearest) return error_set(err, "%sunknown option --%.60s; did you mean --%s?", from, name, nearest);
    return error_set(err, "%sunknown option --%.60s; %s --help lists them", from, name, verb);
}

#define CONFIG_FILE_BYTES ((size_t)1 << 24)

// Cuts off the white space at the end.
static inline void options_trim(char *text) {
    for (char *end = text + strlen(text); end > text && isspace((unsigned char)end[-1]);) *--end = 0;
}

// Takes a value out of the rest of its line, which is changed: white space and a comment are cut off; a '#' inside a
// word is none. Quotes around a value are not part of it, and within them nothing is a comment.
static inline bool options_line_value(char **value, char *rest, const char *from, Error *err) {
    char *v = rest + strspn(rest, " \t");
    *value = v;
    if (*v == '"' || *v == '\'') {
        char *close = strchr(v + 1, *v);
        const char *behind = close ? close + 1 + strspn(close + 1, " \t") : v;
        if (!close || (*behind && *behind != '#'))
            return error_set(err,
                             "%s%s; quotes stand around a whole value or not at all (a value that begins with one "
                             "goes into quotes of the other kind)",
                             from, close ? "text behind the closing quote" : "no closing quote");
        *close = 0;
        *value = v + 1;
        return true;
    }
    char *end = v;
    while (*end && !(*end == '#' && end > rest && (end[-1] == ' ' || end[-1] == '\t'))) end++;
    *end = 0;
    options_trim(v);
    return true;
}

// One line of a config file, which is changed.
static inline bool options_read_line(Options *o, char *line, const char *from, Error *err) {
    options_trim(line);
    char *name = line + strspn(line, " \t"), *value;
    if (!*name || *name == '#') return true;
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 32 && *c != '\t')
            return error_set(err, "%sthe control character 0x%02x; expected plain text", from, (unsigned)*c);
    char *equals = strchr(name, '=');
    if (!equals || equals == name) return error_set(err, "%sexpected `name = value`", from);
    *equals = 0;
    options_trim(name);
    return options_line_value(&value, equals + 1, from, err) && options_set(o, name, value, true, from, err);
}

static inline bool options_read_config(Options *o, const char *path, Error *err) {
    Str text;
    Error why;
    memset(&text, 0, sizeof text);
    if (!file_read(&text, path, CONFIG_FILE_BYTES, &why)) {
        free(text.data);
        return error_set(err, "--config: %s", why.text);
    }
    bool ok = !memchr(text.data, 0, text.size);
    if (!ok)
        error_set(err, "--config=%s holds NUL bytes; expected UTF-8 text (perhaps it is UTF-16: save it as UTF-8)",
                  path);
    char *line = text.data + (strncmp(text.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0); // a byte order mark is no name
    for (int number = 1; ok && *line; number++) {
        char *end = line + strcspn(line, "\n"), *next = end + (*end == '\n');
        *end = 0;
        ok = options_read_line(o, line, path_of("%s:%d: ", path, number).text, err);
        line = next;
    }
    free(text.data);
    return ok;
}

static inline bool options_default(Options *o, int verb, Error *err) {
    bool ok = true;
    memset(o, 0, sizeof *o);
    o->verb = verb;
    for (int i = 0; ok && i < OPTION_COUNT; i++)
        ok = option_parse(o, &option_rows[i], option_rows[i].fallback, "default of ", err);
    return ok;
}

static inline bool options_parse_words(Options *o, int verb, int argc, char **argv, Error *err) {
    bool ok = true;
    for (int i = 0; ok && i < argc; i++) {
        const char *word = argv[i];
        if (verb == VERB_WATCH && *word != '-' && !*o->run) { // watch RUN
            ok = options_set(o, "run", word, false, "", err);
            continue;
        }
        if (strncmp(word, "--", 2) != 0 || !word[2])
            return error_set(err, "expected --name=value, found `%s`; %s --help lists the options", word,
                             verbs[verb].name);
        const char *equals = strchr(word, '=');
        size_t n = equals ? (size_t)(equals - word - 2) : strlen(word + 2);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(n < 63 ? n : 63), word + 2);
        const Option *p = option_find(name);
        if (strcmp(name, "config") == 0) {
            if (!equals || !equals[1]) return error_set(err, "--config needs a file: --config=FILE");
            if (strlen(equals) >= PATH_SIZE) return error_set(err, "--config=%.60s...: a path too long", equals + 1);
            Path file = path_home(equals + 1);
            str_list_add(&o->configs, file.text);
            ok = options_read_config(o, file.text, err);
        } else if (strcmp(name, "print_options") == 0) {
            o->print = equals ? equals + 1 : "";
        } else if (!equals && p && p->type != OPTION_FLAG && p->verbs & 1 << verb) {
            return error_set(err, "--%s needs a value: --%s=VALUE", name, name);
        } else {
            ok = options_set(o, name, equals ? equals + 1 : "on", false, "", err);
        }
    }
    return ok;
}

// Options that were not given take what is usual for a new model of the preset's size (defaults.h).
static inline bool options_by_size(Options *o, Error *err) {
    const char *usual, *settings = default_settings(o->model, o->optimizer, &usual);
    if (o->lora_rank) return true; // an adapter stands on a folder, and what is wrong with a preset is said there
    if (*usual && !o->given[GIVEN_optimizer]) {
        if (!option_parse(o, option_find("optimizer"), usual, "default of ", err)) return false;
        settings = default_settings(o->model, o->optimizer, &usual);
        str_printf(&o->by_size, "--optimizer=%s ", usual);
    }
    while (*settings) {
        size_t name = strcspn(settings, "="), all = strcspn(settings, " ");
        Path option = path_of("%.*s", (int)name, settings);
        str_list_add(&o->kept, path_of("%.*s", (int)(all - name - 1), settings + name + 1).text);
        const char *value = o->kept.items[o->kept.count - 1];
        const Option *p = option_find(option.text), *before = option_find(default_yields_to(option.text));
        settings += all + (settings[all] == ' ');
        if (o->given[p - option_rows] || o->given[before - option_rows] || !(p->verbs & 1 << o->verb)) continue;
        if (!option_parse(o, p, value, "default of ", err)) return false;
        str_printf(&o->by_size, "--%s=%s ", p->name, value);
    }
    return true;
}

// Parses argv[0..argc) (the words after the verb) into o, defaults first. On false nothing is to be freed.
static inline bool options_parse(Options *o, int verb, int argc, char **argv, Error *err) {
    bool ok = options_default(o, verb, err) && options_parse_words(o, verb, argc, argv, err);
    if (ok && (verb == VERB_TRAIN || verb == VERB_INFO)) ok = options_by_size(o, err);
    if (!ok) options_free(o);
    if (o->time_budget > 0 && !o->given[GIVEN_steps]) o->steps = STEPS_MOST;
    return ok;
}

// Checks that the options without which the verb cannot run were given.
static inline bool options_require(const Options *o, Error *err) {
    char needed[256], missing[320] = "";
    const char *verb = verbs[o->verb].name;
    snprintf(needed, sizeof needed, "%s", verbs[o->verb].needed);
    char *rest = NULL;
    for (char *name = strtok_r(needed, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        const Option *p = option_find(name); // a TEXT
        size_t n = strlen(missing);
        if (o->verb == VERB_BPE && *o->report && p == option_find("out")) continue; // it is printed
        if (!**(const char *const *)((const char *)o + p->offset))
            snprintf(missing + n, sizeof missing - n, "%s--%s=...", n ? ", " : "", name);
    }
    if (*missing) return error_set(err, "%s needs %s; %s --help says what they are", verb, missing, verb);
    if ((o->verb == VERB_EVAL || o->verb == VERB_DUMP) && o->batch_size == INT_AUTO)
        return error_set(err, "--batch_size=auto is for train, and for info with --device; give %s a number", verb);
    return true;
}

#endif
