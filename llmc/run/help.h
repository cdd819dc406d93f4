/*
help.h: what the program says of its options: --help, --print_options, and the record of a run.

    --help                       for people
    --print_options              this verb's options as JSON, with the values that the other words give them
    --print_options=NAME,NAME    those values alone, a line each, as a config file would have them: for scripts
*/
#ifndef LLMC_HELP_H
#define LLMC_HELP_H

#include "../base/json.h"
#include "parse.h"

// Is it the word that may stand in place of its number?
static inline bool option_is_word(const Option *p, const Options *o) {
    const void *at = (const char *)o + p->offset;
    if (!*p->choices) return false;
    return p->type == OPTION_INT ? *(const int64_t *)at == INT_AUTO
                                 : p->type == OPTION_REAL && *(const double *)at == LR_AUTO;
}

// Appends a value as a user would write it.
static inline void option_text(Str *s, const Option *p, const Options *o) {
    const void *at = (const char *)o + p->offset;
    switch (p->type) {
    case OPTION_TEXT:
    case OPTION_PATH: str_puts(s, *(const char *const *)at); return;
    case OPTION_INT:
        if (option_is_word(p, o)) str_puts(s, p->choices);
        else str_printf(s, "%lld", (long long)*(const int64_t *)at);
        return;
    case OPTION_REAL:
        if (option_is_word(p, o)) str_puts(s, p->choices);
        else json_add_number(s, *(const double *)at);
        return;
    default: {
        const char *choice = p->choices;
        for (int i = *(const int *)at; i > 0; i--) choice += strcspn(choice, "|") + 1;
        str_add(s, choice, strcspn(choice, "|"));
    }
    }
}

// Appends a value as JSON.
static inline void option_json(Str *s, const Option *p, const Options *o) {
    Str text;
    memset(&text, 0, sizeof text);
    option_text(&text, p, o);
    if (p->type == OPTION_FLAG) str_puts(s, strcmp(text.data, "on") == 0 ? "true" : "false");
    else if (p->type <= OPTION_PATH || p->type == OPTION_CHOICE || option_is_word(p, o))
        json_escape(s, text.data, text.size);
    else str_puts(s, text.data);
    free(text.data);
}

// Appends `"name": value` pairs of the verb's options, as a run records them.
static inline void options_json(Str *s, const Options *o) {
    const char *comma = "";
    for (const Option *p = option_rows; p < option_rows + OPTION_COUNT; p++) {
        if (!(p->verbs & 1 << o->verb)) continue;
        str_printf(s, "%s\n    \"%s\": ", comma, p->name);
        option_json(s, p, o);
        comma = ",";
    }
}

// The same on one line, as an object, for manifests: without where the output went and what changes no byte of it.
static inline void options_line(Str *s, const Options *o) {
    static const char *const aside[] = {"out", "threads", "progress", "verify", "resume", "part_bytes"};
    const char *comma = "";
    str_puts(s, "{");
    for (const Option *p = option_rows; p < option_rows + OPTION_COUNT; p++) {
        bool told = (p->verbs & 1 << o->verb) != 0;
        for (size_t i = 0; i < sizeof aside / sizeof *aside; i++) told = told && strcmp(p->name, aside[i]) != 0;
        if (!told) continue;
        str_printf(s, "%s\"%s\": ", comma, p->name);
        option_json(s, p, o);
        comma = ", ";
    }
    str_puts(s, "}");
}

// All of the verb's options as one JSON object: type, bounds, default, value in force, help.
static inline void options_describe(Str *s, const Options *o) {
    static const char *const types[] = {"text", "path", "int", "real", "flag", "choice"};
    Options usual;
    options_default(&usual, o->verb, NULL);
    const char *comma = "{";
    for (const Option *p = option_rows; p < option_rows + OPTION_COUNT; p++) {
        if (!(p->verbs & 1 << o->verb)) continue;
        str_printf(s, "%s\n  \"%s\": {\"type\": \"%s\", \"default\": ", comma, p->name, types[p->type]);
        option_json(s, p, &usual);
        str_puts(s, ", \"value\": ");
        option_json(s, p, o);
        if (p->type == OPTION_INT)
            str_printf(s, ", \"least\": %lld, \"most\": %lld", (long long)p->least, (long long)p->most);
        if (p->type == OPTION_REAL) {
            str_puts(s, ", \"least\": ");
            json_add_number(s, (double)p->least);
            str_puts(s, ", \"most\": ");
            json_add_number(s, (double)p->most);
        }
        bool words = p->type == OPTION_CHOICE || p->type == OPTION_REAL || p->type == OPTION_INT;
        for (const char *c = words ? p->choices : "", *open = ", \"choices\": ["; *c; open = ", ") {
            int n = (int)strcspn(c, "|");
            str_printf(s, "%s\"%.*s\"%s", open, n, c, c[n] ? "" : "]");
            c += n + (c[n] == '|');
        }
        str_puts(s, ", \"help\": ");
        json_escape(s, p->help, strlen(p->help));
        str_puts(s, "}");
        comma = ",";
    }
    str_puts(s, "\n}\n");
}

// Appends what --print_options asks for. Who reads values a line each would take a line break for the end of one.
static inline bool options_print(Str *s, const Options *o, Error *err) {
    char *names = str_copy(o->print), *rest = NULL;
    bool ok = true;
    if (!*o->print) options_describe(s, o);
    for (char *name = strtok_r(names, ",", &rest); ok && name; name = strtok_r(NULL, ",", &rest)) {
        const Option *p = option_find(name);
        size_t start = s->size;
        ok = p && p->verbs & 1 << o->verb;
        if (ok) option_text(s, p, o);
        if (!ok) error_set(err, "--print_options=%s: %s has no option --%s", o->print, verbs[o->verb].name, name);
        else if (s->data && memchr(s->data + start, '\n', s->size - start))
            ok = error_set(err, "--%s holds a line break, which --print_options=%s cannot show", name, o->print);
        str_puts(s, "\n");
    }
    free(names);
    return ok;
}

// Prints text wrapped to 100 columns, continuing at `indent`.
static inline void options_wrap(FILE *out, const char *text, int indent, int column) {
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column + 1 + (int)n > 100) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        }
        fprintf(out, "%.*s", (int)n, text);
        column += (int)n;
        text += n;
        if (*text == ' ') {
            if (column < 100) fputc(' ', out), column++;
            text++;
        }
    }
    fputc('\n', out);
}

// The help of the program (verb < 0) or of a verb.
static inline void options_help(FILE *out, const char *program, int verb) {
    if (verb < 0) {
        fprintf(out, "usage: %s VERB --name=value ...\n\nverbs:\n", program);
        for (int v = 0; v < VERB_COUNT; v++) fprintf(out, "  %-10s %s\n", verbs[v].name, verbs[v].line);
        fprintf(out,
                "\n%s VERB --help lists a verb's options.\nexit code: 0 done; 1 an error, one line on stderr; 3 "
                "stopped early (signal or time limit) with a checkpoint written\n",
                program);
        return;
    }
    fprintf(out, "usage: %s %s --name=value ...\n\n%s\n\n", program, verbs[verb].name, verbs[verb].line);
    if (*verbs[verb].needed) fprintf(out, "needed: %s\n\n", verbs[verb].needed);
    static const char *const values[] = {"TEXT", "PATH", "N", "X"};
    for (const Option *p = option_rows; p < option_rows + OPTION_COUNT; p++) {
        if (!(p->verbs & 1 << verb)) continue;
        bool word = (p->type == OPTION_REAL || p->type == OPTION_INT) && *p->choices;
        int column = fprintf(out, "  --%s=%s%s%s ", p->name, p->type <= OPTION_REAL ? values[p->type] : p->choices,
                             word ? "|" : "", word ? p->choices : "");
        if (column < 28) column += fprintf(out, "%*s", 28 - column, "");
        char usual[64], text[640];
        snprintf(usual, sizeof usual, "%s", p->fallback);
        if (p->type == OPTION_REAL) snprintf(usual, sizeof usual, "%g", strtod(p->fallback, NULL));
        snprintf(text, sizeof text, "%s%s%s%s", p->help, *usual ? " [" : "", usual, *usual ? "]" : "");
        options_wrap(out, text, 28, column);
    }
    fprintf(out, "  --config=FILE             lines `name = value`, read in this place; a later word wins; '#' after a "
                 "blank starts\n"
                 "                            a comment, quotes may stand around a value\n"
                 "  --print_options           these options with their values, as JSON; =NAME,NAME: values alone\n");
}

#endif
