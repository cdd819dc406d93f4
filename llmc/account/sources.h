/*
sources.h: where the data of a run come from, as its record says it: the shards, what made them, and what that was made
of, as far back as the manifests of this program go.

    tokenize   PREFIX_manifest.json        corpus   FOLDER/manifest.json        bpe   tokenizer.manifest.json
    manifest.tsv beside a source           a table with a line of names, as scripts/corpus/debian_de.sh writes it:
                                           what the text consists of, with versions and licences

A manifest counts if it names the very bytes that are there: the set of the shards, the SHA-256 of the corpus or of the
tokenizer. What cannot be read is named ("problem") and stops nothing: a run is no worse for it, only less documented.
*/
#ifndef LLMC_SOURCES_H
#define LLMC_SOURCES_H

#include "../text/data.h"
#include "machine.h"

#define SOURCES_NAMED 1000 // of a manifest in a record; beyond them their number is told
#define SOURCES_DEPTH 8    // corpora made of corpora
#define SOURCES_TABLE 1000 // rows

// Appends a table with a line of names, tabs between, as an array of objects; false: there is none, or it is no table.
static inline bool sources_table(Str *s, const char *path) {
    FileKind kind;
    Str text;
    StrList names;
    memset(&text, 0, sizeof text);
    memset(&names, 0, sizeof names);
    bool ok = path_look(path, &kind, NULL) && kind == FILE_REGULAR && file_read(&text, path, (size_t)1 << 22, NULL);
    int row = 0;
    for (char *line = ok && text.size ? text.data : NULL, *next; line && *line && row <= SOURCES_TABLE; line = next) {
        size_t n = strcspn(line, "\n"), column = 0;
        next = line + n + (line[n] == '\n');
        line[n] = 0;
        if (row > 0) str_puts(s, row > 1 ? ", {" : "[{");
        for (char *cell = line; cell; column++) {
            char *tab = strchr(cell, '\t');
            if (tab) *tab = 0;
            if (row == 0) str_list_add(&names, cell);
            else if ((int)column < names.count) {
                str_puts(s, column ? ", " : "");
                json_escape(s, names.items[column], strlen(names.items[column]));
                str_puts(s, ": "), json_escape(s, cell, strlen(cell));
            }
            cell = tab ? tab + 1 : NULL;
        }
        if (row++ > 0) str_puts(s, "}");
    }
    if (row > 1) str_puts(s, "]");
    str_list_free(&names);
    free(text.data);
    return row > 1;
}

static inline void sources_manifest(Str *s, const Json *root, int depth);

// What made a source, where the manifest of a corpus beside it names its bytes; else what a table beside it lists.
static inline void sources_origin(Str *s, const Json *source, int depth) {
    const char *path = json_string(json_get(source, "path"), ""), *sum = json_string(json_get(source, "sha256"), "");
    Path folder = path_parent(path), manifest = path_of("%.3000s/manifest.json", folder.text),
         table = path_of("%.3000s/manifest.tsv", folder.text);
    FileKind kind;
    JsonDoc doc;
    if (!*path || depth >= SOURCES_DEPTH) return;
    Json *root =
        path_look(manifest.text, &kind, NULL) && kind == FILE_REGULAR ? json_load(&doc, manifest.text, NULL) : NULL;
    if (root && *sum && strcmp(json_string(json_get(root, "sha256"), ""), sum) == 0) {
        str_puts(s, ", \"made_by\": "), sources_manifest(s, root, depth + 1);
    } else {
        size_t before = s->size;
        str_puts(s, ", \"lists\": ");
        if (!sources_table(s, table.text)) s->size = before, s->data[before] = 0;
    }
    if (root) json_free(&doc);
}

// A manifest on one line, without its examples, and with what its sources were made of.
static inline void sources_manifest(Str *s, const Json *root, int depth) {
    static const char *const aside[] = {"examples", "damage", "by_source", "sources"};
    const Json *sources = json_get(root, "sources");
    const char *comma = "";
    str_puts(s, "{");
    for (const Json *j = root->child; j; j = j->next) {
        bool told = true;
        for (size_t i = 0; i < sizeof aside / sizeof *aside; i++) told = told && strcmp(j->key, aside[i]) != 0;
        if (!told) continue;
        str_puts(s, comma), json_escape(s, j->key, j->key_size), str_puts(s, ": "), json_copy(s, j);
        comma = ", ";
    }
    str_printf(s, "%s\"sources\": [", comma);
    int named = 0;
    for (const Json *j = json_is(sources, JSON_ARRAY) ? sources->child : NULL; j; j = j->next) {
        if (j->type != JSON_OBJECT || ++named > SOURCES_NAMED) continue;
        str_puts(s, named > 1 ? ", " : "");
        json_copy(s, j);
        s->data[--s->size] = 0; // the brace
        sources_origin(s, j, depth);
        str_puts(s, "}");
    }
    str_printf(s, "], \"source_count\": %d}", named);
}

// The manifest at a path, if it names these bytes: its member of `group` (NULL: of the root) called `key` is `value`.
static inline bool sources_load(Str *s, const char *path, const char *group, const char *key, const char *value) {
    FileKind kind;
    JsonDoc doc;
    Error err;
    if (!path_look(path, &kind, &err)) {
        str_puts(s, "{\"problem\": "), json_escape(s, err.text, strlen(err.text)), str_puts(s, "}");
        return true;
    }
    if (kind == FILE_ABSENT) return false;
    const Json *root = json_load(&doc, path, &err);
    const Json *from = root && group ? json_get(root, group) : root;
    if (root && strcmp(json_string(json_get(from, key), ""), value) != 0) {
        json_free(&doc);
        root = NULL;
        error_set(&err, "%s is of other data", path);
    }
    if (root) sources_manifest(s, root, 0), json_free(&doc);
    else str_puts(s, "{\"problem\": "), json_escape(s, err.text, strlen(err.text)), str_puts(s, "}");
    return true;
}

// The manifests of the sets that shards are of, each once, as an array.
static inline void sources_sets(Str *s, const Dataset *const *sides, int count) {
    uint64_t seen[64];
    int known = 0;
    const char *comma = "";
    str_puts(s, "[");
    for (int k = 0; k < count; k++)
        for (int i = 0; i < sides[k]->count; i++) {
            const Shard *shard = &sides[k]->shards[i];
            ShardName name;
            int n = 0;
            while (n < known && seen[n] != shard->header.set) n++;
            if (n < known || known == 64 || !shard->header.set || !shard_name_parse(&name, shard->path)) continue;
            seen[known++] = shard->header.set;
            size_t before = s->size;
            char set[20];
            snprintf(set, sizeof set, "%016" PRIx64, shard->header.set);
            str_puts(s, comma);
            if (sources_load(s, shard_manifest_path(&name).text, "shards", "set", set)) comma = ", ";
            else s->size = before, s->data[before] = 0;
        }
    str_puts(s, "]");
}

// The shards of one side: `{"documents": ..., "shards": [...]}`.
static inline void sources_side(Str *s, const Dataset *d) {
    str_printf(s, "{\"documents\": %lld, \"tokens\": %lld, \"bytes\": %lld, \"sequences\": %lld, \"shards\": [",
               (long long)d->documents, (long long)d->tokens, (long long)d->bytes, (long long)d->sequences);
    for (int i = 0; i < d->count; i++) {
        const ShardHeader *h = &d->shards[i].header;
        str_puts(s, i ? ", {\"path\": " : "{\"path\": ");
        json_escape(s, d->shards[i].path, strlen(d->shards[i].path));
        str_printf(s, ", \"tokens\": %lld, \"xxh64\": \"%016" PRIx64 "\", \"set\": \"%016" PRIx64 "\"}",
                   (long long)h->tokens, h->checksum, h->set);
    }
    str_puts(s, "]}");
}

static inline void sources_data(Str *s, const Dataset *train, const Dataset *val) {
    const Dataset *sides[2] = {train, val};
    str_puts(s, "{\"train\": "), sources_side(s, train);
    str_puts(s, ", \"val\": "), sources_side(s, val);
    str_puts(s, ", \"manifests\": "), sources_sets(s, sides, 2);
    str_puts(s, "}");
}

// Beside a tokenizer.json: tokenizer.manifest.json. A set of shards of that prefix has NAME_manifest.json.
static inline Path sources_tokenizer_manifest(const char *tokenizer) {
    size_t n = strlen(tokenizer);
    if (str_ends_with(tokenizer, ".json")) n -= 5;
    return path_of("%.*s.manifest.json", (int)int64_min((int64_t)n, 3000), tokenizer);
}

static inline void sources_tokenizer(Str *s, const char *path, uint64_t hash, int vocab_size) {
    char sum[65] = "";
    Error err;
    str_puts(s, "{\"path\": "), json_escape(s, path, strlen(path));
    str_printf(s, ", \"hash\": \"%016" PRIx64 "\", \"vocab_size\": %d", hash, vocab_size);
    if (sha256_file(sum, path, &err)) json_member(s, "sha256", sum);
    else json_member(s, "problem", err.text);
    size_t before = s->size;
    str_puts(s, ", \"manifest\": ");
    if (!sources_load(s, sources_tokenizer_manifest(path).text, NULL, "sha256", sum))
        s->size = before, s->data[before] = 0;
    str_puts(s, "}");
}

#endif
