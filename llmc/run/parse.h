/*
parse.h: from words and config files to Options.

An option is written --name=value (an on/off option also --name alone); --config=FILE reads lines
`name = value` ('#' starts a comment) in its place; a later word wins. An option of another verb is an
error on the command line and passed over in a config file, so that one file can serve a whole project.
An unknown one is an error that suggests the nearest name.
*/
#ifndef LLMC_PARSE_H
#define LLMC_PARSE_H

#include "options.h"
#include <ctype.h>
#include <math.h>

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

static inline bool options_parse_int(int64_t *out, const char *text) {
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text) return false;
    // 1e6 and 100_000 are how people write large counts; accept the first.
    if (*end == 'e' || *end == 'E' || *end == '.') {
        double d = strtod(text, &end);
        if (*end || !(fabs(d) < 9e18) || d != floor(d)) return false;
        *out = (int64_t)d;
        return true;
    }
    if (*end || errno) return false;
    *out = v;
    return true;
}

// Reads an option's value from text, which a TEXT option keeps. from: where it was written, for messages.
static inline bool option_parse(Options *o, const Option *p, const char *value, const char *from, Error *err) {
    void *at = (char *)o + p->offset;
    char *end = NULL;
    switch (p->type) {
    case OPTION_TEXT: *(const char **)at = value; return true;
    case OPTION_INT: {
        int64_t *n = (int64_t *)at;
        if (!options_parse_int(n, value))
            return error_set(err, "%s--%s=%s: expected a whole number", from, p->name, value);
        if (*n >= p->least && *n <= p->most) return true;
        return error_set(err, "%s--%s=%s: expected %lld to %lld", from, p->name, value, (long long)p->least,
                         (long long)p->most);
    }
    case OPTION_REAL: {
        double *x = (double *)at;
        *x = strtod(value, &end);
        if (end == value || *end || *x != *x)
            return error_set(err, "%s--%s=%s: expected a number", from, p->name, value);
        if (*x >= (double)p->least && *x <= (double)p->most) return true;
        return error_set(err, "%s--%s=%s: expected %g to %g", from, p->name, value, (double)p->least, (double)p->most);
    }
    default: {
        int index = options_choice(p->choices, value);
        if (index < 0 && p->type == OPTION_FLAG) index = options_choice("0|1", value);
        *(int *)at = index;
        if (index >= 0) return true;
        if (p->type == OPTION_FLAG) return error_set(err, "%s--%s=%s: expected on or off", from, p->name, value);
        return error_set(err, "%s--%s=%s: expected one of %s", from, p->name, value, p->choices);
    }
    }
}

// Sets one option from text. lenient: one of another verb is passed over.
static inline bool options_set(Options *o, const char *name, const char *value, bool lenient, const char *from,
                               Error *err) {
    const Option *p = option_find(name);
    const char *verb = verbs[o->verb].name, *nearest = NULL;
    if (p && !(p->verbs & 1 << o->verb)) {
        if (lenient) return true;
        return error_set(err, "%s--%s is not an option of %s; see --help", from, name, verb);
    }
    if (p && p->type == OPTION_TEXT) {
        str_list_add(&o->kept, value);
        value = o->kept.items[o->kept.count - 1];
    }
    if (p) return option_parse(o, p, value, from, err);
    for (int i = 0, best = 4; i < OPTION_COUNT; i++) {
        int d = option_rows[i].verbs & 1 << o->verb ? options_distance(name, option_rows[i].name) : best;
        if (d < best) best = d, nearest = option_rows[i].name;
    }
    if (nearest) return error_set(err, "%sunknown option --%s; did you mean --%s?", from, name, nearest);
    return error_set(err, "%sunknown option --%s; %s --help lists them", from, name, verb);
}

static inline bool options_read_config(Options *o, const char *path, Error *err) {
    FILE *f = fopen(path, "r");
    if (!f) return error_set(err, "cannot open the config file %s: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    bool ok = true;
    for (int number = 1; ok && getline(&line, &capacity, f) >= 0; number++) {
        char *hash = strchr(line, '#');
        if (hash) *hash = 0;
        char *name = line + strspn(line, " \t\r\n");
        if (!*name) continue;
        Path from = path_of("%s:%d: ", path, number);
        char *equals = strchr(name, '=');
        if (!equals) {
            ok = error_set(err, "%sexpected `name = value`", from.text);
            break;
        }
        *equals = 0;
        char *value = equals + 1 + strspn(equals + 1, " \t");
        for (char *e = name + strlen(name); e > name && isspace((unsigned char)e[-1]);) *--e = 0;
        for (char *e = value + strlen(value); e > value && isspace((unsigned char)e[-1]);) *--e = 0;
        ok = options_set(o, name, value, true, from.text, err);
    }
    free(line);
    fclose(f);
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

// Parses argv[0..argc) (the words after the verb) into o, defaults first.
static inline bool options_parse(Options *o, int verb, int argc, char **argv, Error *err) {
    bool ok = options_default(o, verb, err);
    for (int i = 0; ok && i < argc; i++) {
        const char *word = argv[i];
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
            str_list_add(&o->configs, equals + 1);
            ok = options_read_config(o, equals + 1, err);
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

// Checks that the options without which the verb cannot run were given.
static inline bool options_require(const Options *o, Error *err) {
    char needed[256], missing[320] = "";
    const char *verb = verbs[o->verb].name;
    snprintf(needed, sizeof needed, "%s", verbs[o->verb].needed);
    char *rest = NULL;
    for (char *name = strtok_r(needed, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        const Option *p = option_find(name); // a TEXT
        size_t n = strlen(missing);
        if (!**(const char *const *)((const char *)o + p->offset))
            snprintf(missing + n, sizeof missing - n, "%s--%s=...", n ? ", " : "", name);
    }
    return *missing ? error_set(err, "%s needs %s; %s --help says what they are", verb, missing, verb) : true;
}

#endif
