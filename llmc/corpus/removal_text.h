/*
removal_text.h: cleaned text, JSON lines as the verb corpus writes them, plain or packed: looking for documents in it,
and writing it again without them.

    removal_text_read(&file, &list, visit, context, err)     every document of a file, in order
    removal_text_write(&file, &list, program, err)           the file again without those of the list, and its manifest

Lines that stay are not touched: their bytes are those from before. The file takes its new state by one rename, and so
does manifest.json, which is written before as manifest.json.new: whoever finds that one held against the file knows
which of the two states it is (removal_text_settle). A line that is not JSON, or a file that breaks off, is an error:
nobody can say what is in it.
*/
#ifndef LLMC_REMOVAL_TEXT_H
#define LLMC_REMOVAL_TEXT_H

#include "../text/documents.h"
#include "removal_list.h"

typedef struct {
    Path path;
    const char *field;
    int64_t documents, bytes; // all; of text
    int64_t removed, removed_bytes;
    char sha256[65]; // of the file
} RemovalText;

// A line of the file, and the document in it; sum of request: as removal_list_find says.
typedef struct {
    RemovalDocument document;
    const char *line; // (size) with its newline
    size_t size;
    bool empty; // it holds no document
} RemovalLine;

typedef bool RemovalVisit(void *context, const RemovalLine *line, Error *err);

// ---------------------------------------------------------------- reading

typedef struct {
    Str text, source, hex;
    int64_t number;
} RemovalScan;

static inline bool removal_scan_line(RemovalScan *s, RemovalLine *line, const RemovalText *file, int64_t offset,
                                     Error *err) {
    static const char *const origin_names[] = {"source", "offset", "sha256"};
    const char *names[] = {file->field, "origin"};
    JsonSpan found[2], origin[3];
    Error why;
    RemovalDocument *d = &line->document;
    const char *end = line->line + line->size;
    memset(d, 0, sizeof *d);
    line->empty = true;
    if (strspn(line->line, " \t\r\n") >= line->size) return true;
    if (!json_line(line->line, end, names, 2, found, &why))
        return error_set(err,
                         "%s: line %lld: %.500s; documents can be removed from JSON lines alone, and from lines that "
                         "are whole: clean it with corpus --input",
                         file->path.text, (long long)s->number, why.text);
    if (!found[0].from || *found[0].from != '"') return true;
    s->text.size = s->source.size = s->hex.size = 0;
    json_span_string(&s->text, &found[0]);
    str_puts(&s->text, "");
    d->text = s->text.data;
    d->n = s->text.size;
    doc_trim(&d->text, &d->n);
    line->empty = d->n == 0;
    d->source = file->path.text;
    d->offset = offset;
    bool known = found[1].from && *found[1].from == '{' &&
                 json_line(found[1].from, found[1].to, origin_names, 3, origin, NULL) && origin[0].from &&
                 *origin[0].from == '"' && origin[1].from && origin[2].from && *origin[2].from == '"';
    if (known) json_span_string(&s->source, &origin[0]), json_span_string(&s->hex, &origin[2]);
    if (known && s->hex.size == 64 && doc_hex(d->sha256, s->hex.data)) {
        str_puts(&s->source, "");
        d->source = s->source.data;
        d->offset = strtoll(origin[1].from, NULL, 10);
    } else removal_sum_of(d->sha256, d->text, d->n);
    return true;
}

// Counts documents and bytes in *file.
static inline bool removal_text_read(RemovalText *file, RemovalVisit *visit, void *context, Error *err) {
    ByteWindow w;
    RemovalScan s;
    size_t searched = 0; // of what is there no newline is in so many bytes
    memset(&s, 0, sizeof s);
    file->documents = file->bytes = 0;
    if (!window_open(&w, file->path.text, err)) return false;
    bool ok = true;
    while (ok) {
        const char *newline =
            w.size > searched ? (const char *)memchr(w.data + searched, '\n', w.size - searched) : NULL;
        if (!newline && !w.end) {
            searched = w.size;
            window_more(&w);
            continue;
        }
        size_t n = newline ? (size_t)(newline + 1 - w.data) : w.size;
        if (w.damage) ok = error_set(err, "%s: %.800s", file->path.text, w.damage->text);
        if (n == 0 || !ok) break;
        RemovalLine line;
        memset(&line, 0, sizeof line);
        line.line = w.data;
        line.size = n;
        s.number++;
        ok = removal_scan_line(&s, &line, file, w.offset, err);
        if (ok && !line.empty) file->documents++, file->bytes += (int64_t)line.document.n;
        ok = ok && visit(context, &line, err);
        window_drop(&w, n);
        searched = 0;
    }
    window_close(&w);
    free(s.text.data), free(s.source.data), free(s.hex.data);
    return ok;
}

// ---------------------------------------------------------------- the manifest

// A JSON value as the manifests are laid out: a member of the outermost object a line, and there an element of an array
// of objects a line.
static inline void removal_json_write(Str *s, const Json *j, int depth) {
    static const char *const words[] = {"false", "true"};
    bool object = j->type == JSON_OBJECT,
         lines = j->child && (depth == 0 || (depth == 1 && j->type == JSON_ARRAY && j->child->type != JSON_NUMBER));
    if (j->type == JSON_NULL) str_puts(s, "null");
    else if (j->type == JSON_BOOL) str_puts(s, words[j->boolean]);
    else if (j->type == JSON_NUMBER) str_add(s, j->text, j->size);
    else if (j->type == JSON_STRING) json_escape(s, j->text, j->size);
    if (j->type != JSON_OBJECT && j->type != JSON_ARRAY) return;
    str_puts(s, object ? "{" : "[");
    for (const Json *c = j->child; c; c = c->next) {
        if (c != j->child) str_puts(s, lines ? "," : ", ");
        if (lines) str_printf(s, "\n%*s", 2 * depth + 2, "");
        if (object) json_escape(s, c->key, c->key_size), str_puts(s, ": ");
        removal_json_write(s, c, depth + 1);
    }
    if (lines) str_printf(s, "\n%*s", 2 * depth, "");
    str_puts(s, object ? "}" : "]");
}

static inline void removal_json_number(JsonDoc *doc, const Json *object, const char *key, int64_t value) {
    Json *j = json_get(object, key);
    if (!json_is(j, JSON_NUMBER)) return;
    char *text = (char *)json_alloc(doc, 24);
    j->size = (uint32_t)snprintf(text, 24, "%lld", (long long)value);
    j->text = text;
}

static inline void removal_json_string(JsonDoc *doc, const Json *object, const char *key, const char *value) {
    Json *j = json_get(object, key);
    if (!json_is(j, JSON_STRING)) return;
    size_t n = strlen(value);
    char *text = (char *)json_alloc(doc, n + 1);
    memcpy(text, value, n + 1);
    j->text = text;
    j->size = (uint32_t)n;
}

// The manifest with `entry`, an object, behind what was removed before.
static inline void removal_manifest_write(Str *s, Json *root, const char *entry) {
    Json *removed = json_get(root, "removed");
    if (!removed) {
        removal_json_write(s, root, 0);
        s->size -= 2; // "\n}"
        str_puts(s, ",\n  \"removed\": [\n    ");
        str_puts(s, entry);
        str_puts(s, "\n  ]\n}\n");
        return;
    }
    Json raw, *last = removed->child;
    memset(&raw, 0, sizeof raw);
    raw.type = JSON_NUMBER; // written as it stands
    raw.text = entry;
    raw.size = (uint32_t)strlen(entry);
    while (last && last->next) last = last->next;
    if (last) last->next = &raw;
    else removed->child = &raw;
    removal_json_write(s, root, 0);
    str_puts(s, "\n");
    if (last) last->next = NULL;
    else removed->child = NULL;
}

// manifest.json beside the file, if it is of it: *there.
static inline bool removal_text_manifest(JsonDoc *doc, Json **root, const RemovalText *file, const char *path,
                                         Error *err) {
    const char *slash = strrchr(file->path.text, '/');
    FileKind kind;
    *root = NULL;
    if (!path_look(path, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    Json *found = json_load(doc, path, err);
    if (!found) return false;
    if (strcmp(json_string(json_get(found, "corpus"), ""), slash ? slash + 1 : file->path.text) == 0) *root = found;
    else json_free(doc);
    return true;
}

static inline Path removal_manifest_path(const RemovalText *file, bool fresh) {
    return path_of("%s/manifest.json%s", path_parent(file->path.text).text, fresh ? ".new" : "");
}

// A removal that was killed between its two renames: the manifest that is of the file as it is takes its place.
static inline bool removal_text_settle(const RemovalText *file, Error *err) {
    Path fresh = removal_manifest_path(file, true), usual = removal_manifest_path(file, false);
    JsonDoc doc;
    Json *root;
    char sum[65];
    if (!removal_text_manifest(&doc, &root, file, fresh.text, err) || !sha256_file(sum, file->path.text, err))
        return false;
    if (!root) return true;
    bool same = strcmp(json_string(json_get(root, "sha256"), ""), sum) == 0;
    json_free(&doc);
    if (same ? rename(fresh.text, usual.text) != 0 : unlink(fresh.text) != 0)
        return error_set(err, "cannot %s %s: %s", same ? "rename" : "remove", fresh.text, strerror(errno));
    return path_sync_folder(path_parent(usual.text).text, err);
}

// manifest.json.new, of the file as it will be. entry: what "removed" gets. *written: there was a manifest.
static inline bool removal_text_new_manifest(const RemovalText *file, const char *entry, bool *written, Error *err) {
    JsonDoc doc;
    Json *root;
    Str s;
    Path usual = removal_manifest_path(file, false), fresh = removal_manifest_path(file, true);
    memset(&s, 0, sizeof s);
    *written = false;
    if (!removal_text_manifest(&doc, &root, file, usual.text, err)) return false;
    if (!root) return true;
    removal_json_string(&doc, root, "sha256", file->sha256);
    removal_json_number(&doc, root, "kept", file->documents - file->removed);
    removal_json_number(&doc, root, "kept_bytes", file->bytes - file->removed_bytes);
    removal_manifest_write(&s, root, entry);
    json_free(&doc);
    bool ok = file_write_all(fresh.text, s.data, s.size, err);
    free(s.data);
    *written = ok;
    return ok;
}

// ---------------------------------------------------------------- writing

typedef struct {
    RemovalText *file;
    const RemovalList *list;
    OutFile out;
    Child packer;
    int sink;
    Str lines, sums; // sums: of what is left out, for the manifest
    int failed;
} RemovalWriter;

// Appends a sum to a list of strings.
static inline void removal_sums_say(Str *s, const uint8_t sha256[32]) {
    char hex[65];
    sha256_hex(hex, sha256);
    str_printf(s, "%s\"%s\"", s->size ? ", " : "", hex);
}

static inline void removal_writer_flush(RemovalWriter *w) {
    for (size_t at = 0; at < w->lines.size && !w->failed;) {
        ssize_t n = write(w->sink, w->lines.data + at, w->lines.size - at);
        if (n >= 0) at += (size_t)n;
        else if (errno != EINTR) w->failed = errno;
    }
    w->lines.size = 0;
    if (signals_waiting(&w->out.hold)) w->failed = EINTR;
}

static inline bool removal_writer_line(void *context, const RemovalLine *line, Error *err) {
    RemovalWriter *w = (RemovalWriter *)context;
    if (!line->empty && removal_list_has(w->list, line->document.sha256)) {
        w->file->removed++;
        w->file->removed_bytes += (int64_t)line->document.n;
        removal_sums_say(&w->sums, line->document.sha256);
        return true;
    }
    str_add(&w->lines, line->line, line->size);
    if (w->lines.size > (size_t)1 << 20) removal_writer_flush(w);
    return w->failed ? error_set(err, "cannot write %s: %s", w->file->path.text, strerror(w->failed)) : true;
}

// The program that packed the file packs it again.
static inline bool removal_writer_open(RemovalWriter *w, Error *err) {
    MappedFile file;
    int ends[2];
    if (!file_map(&file, w->file->path.text, err)) return false;
    const char *const *unpacker = window_unpacker(file.data, file.size);
    file_unmap(&file);
    if (!out_open(&w->out, w->file->path.text, err)) return false;
    w->sink = fileno(w->out.stream);
    if (!unpacker) return true;
    bool zstd = strcmp(unpacker[0], "zstd") == 0, missing = false;
    const char *const argv[] = {unpacker[0], "-c", zstd ? "-q" : NULL, NULL};
    bool ok = pipe2(ends, O_CLOEXEC) == 0 || error_set(err, "cannot make a pipe: %s", strerror(errno));
    if (ok) {
        ok = child_start_writing(&w->packer, argv, ends[0], w->sink, &missing, err);
        close(ends[0]);
        if (ok) w->sink = ends[1];
        else close(ends[1]);
    }
    if (!ok) out_abort(&w->out);
    return ok;
}

// Ends the packer; all is in the temporary file then.
static inline bool removal_writer_close(RemovalWriter *w, Error *err) {
    bool ok = true;
    Error why;
    removal_writer_flush(w);
    if (w->sink != fileno(w->out.stream)) {
        close(w->sink);
        ok = child_end(&w->packer, &why) || error_set(err, "cannot write %s: %.800s", w->file->path.text, why.text);
    }
    return !ok || !w->failed ? ok : error_set(err, "cannot write %s: %s", w->file->path.text, strerror(w->failed));
}

// Removes the documents of the list. entry: members of an object that the manifest gets, with how many they were. The
// file is as before where there is an error.
static inline bool removal_text_write(RemovalText *file, const RemovalList *list, const char *entry, Error *err) {
    RemovalWriter w;
    bool manifest = false;
    memset(&w, 0, sizeof w);
    w.file = file;
    w.list = list;
    file->removed = file->removed_bytes = 0;
    if (!removal_writer_open(&w, err)) return false;
    Error why;
    bool ok = removal_text_read(file, removal_writer_line, &w, err), closed = removal_writer_close(&w, &why);
    if (ok && !closed) ok = error_set(err, "%s", why.text);
    Str said;
    memset(&said, 0, sizeof said);
    str_printf(&said, "{%s, \"documents\": %lld, \"bytes\": %lld, \"sha256\": [%s]}", entry, (long long)file->removed,
               (long long)file->removed_bytes, w.sums.data ? w.sums.data : "");
    ok = ok && sha256_file(file->sha256, w.out.temporary.text, err) &&
         removal_text_new_manifest(file, said.data, &manifest, err);
    free(said.data);
    SignalHold hold = w.out.hold; // a signal waits until the manifest is settled
    if (ok) {
        w.out.hold.held = false;
        ok = out_commit(&w.out, err) && (!manifest || removal_text_settle(file, err));
        signals_release(&hold);
    } else out_abort(&w.out);
    free(w.lines.data), free(w.sums.data);
    return ok;
}

#endif
