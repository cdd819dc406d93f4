/*
remove.h: corpus --remove: documents out of cleaned text and shards, and a report that can stand as evidence.

    verb_remove(o)

1. What is asked for is looked up everywhere: duplicates, which share the SHA-256 of their original, go with it.
2. For each of --runs: which steps have read it, which checkpoints have learnt from it (exposure.h).
3. The report is written with "state": "begun": what was found and where.
4. Shards, then cleaned text, each file or set in one rename. In this order, since a text that was asked for is found in
   the cleaned text alone: who repeats a removal that was killed finds it again.
5. All is read again: nothing of it may be there. Then the report is written anew, with "state": "done".

A report is never written over. One that says "begun" is of a removal that did not end. Repeated with another
--out, it finds what is still there, and manifest.json of text and shards says what the first took out.
Not touched: the sources that were cleaned (cleaning them again brings the documents back; the same list removes them
again), shards that --data does not name, and models.
*/
#ifndef LLMC_REMOVE_H
#define LLMC_REMOVE_H

#include "exposure.h"
#include "outputs.h"
#include "preflight.h"
#include "stop.h"
#include <time.h>

typedef struct {
    const Options *o;
    RemovalList list;
    RemovalText *texts; // (text_count)
    int text_count;
    RemovalSet *sets; // (set_count)
    int set_count;
    Exposure *runs; // (run_count)
    int run_count;
    int *locks; // (lock_count) of the folders
    int lock_count;
    Tokenizer tok;
    Str found;      // the report's list of documents and where they were
    int64_t places; // of them
    char began[32], ended[32];
} Remove;

static inline void remove_now(char text[32]) {
    time_t now = time(NULL);
    struct tm t;
    gmtime_r(&now, &t);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &t);
}

// One removal at a time in a folder: two would each bring back what the other has taken out.
static inline bool remove_lock(Remove *r, const char *folder, Error *err) {
    struct stat mine, other;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &mine) != 0) {
        if (fd >= 0) close(fd);
        return error_set(err, "cannot open the folder %s: %s", folder, strerror(errno));
    }
    for (int i = 0; i < r->lock_count; i++)
        if (fstat(r->locks[i], &other) == 0 && other.st_dev == mine.st_dev && other.st_ino == mine.st_ino) {
            close(fd);
            return true;
        }
    r->locks = (int *)realloc(r->locks, sizeof(int) * (size_t)(r->lock_count + 1));
    if (!r->locks) fail("out of memory");
    r->locks[r->lock_count++] = fd;
    return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK
               ? true
               : error_set(err, "another process removes documents in %s; wait for it", folder);
}

// ---------------------------------------------------------------- what is given

static inline bool remove_open_texts(Remove *r, Error *err) {
    StrList paths;
    memset(&paths, 0, sizeof paths);
    bool ok = !*r->o->input || path_expand(&paths, r->o->input, err);
    r->texts = (RemovalText *)mem_alloc(sizeof(RemovalText) * (size_t)(2 * paths.count));
    for (int i = 0; ok && i < paths.count; i++) {
        FileKind kind;
        int before = r->text_count;
        ok = path_look(paths.items[i], &kind, err);
        if (ok && kind != FILE_FOLDER) r->texts[r->text_count++].path = path_of("%s", paths.items[i]);
        for (int pack = 0; ok && kind == FILE_FOLDER && pack < 2; pack++) { // one that corpus made
            Path inside = corpus_output(paths.items[i], pack);
            FileKind there;
            ok = path_look(inside.text, &there, err);
            if (ok && there != FILE_ABSENT) r->texts[r->text_count++].path = inside;
        }
        if (ok && r->text_count == before)
            ok = error_set(err, "%s holds no corpus.jsonl.zst and no corpus.jsonl; name the files of cleaned text",
                           paths.items[i]);
    }
    str_list_free(&paths);
    for (int i = 0; ok && i < r->text_count; i++) {
        r->texts[i].field = r->o->field;
        ok = remove_lock(r, path_parent(r->texts[i].path.text).text, err) && removal_text_settle(&r->texts[i], err);
    }
    return ok;
}

// The sets of the shards that --data names: all of a set, whatever part of it is named.
static inline bool remove_open_sets(Remove *r, Error *err) {
    StrList paths;
    memset(&paths, 0, sizeof paths);
    bool ok = !*r->o->data || dataset_paths(&paths, r->o->data, err);
    r->sets = (RemovalSet *)mem_alloc(sizeof(RemovalSet) * (size_t)paths.count);
    for (int i = 0; ok && i < paths.count; i++) {
        ShardName name;
        bool known = false;
        if (!shard_name_parse(&name, paths.items[i])) {
            ok = error_set(err, "%s is no shard that tokenize wrote; tokenise again without what is to be removed",
                           paths.items[i]);
            break;
        }
        for (int k = 0; k < r->set_count; k++)
            known |= strcmp(r->sets[k].name.base, name.base) == 0 &&
                     strcmp(r->sets[k].name.folder.text, name.folder.text) == 0;
        if (known) continue;
        ok = remove_lock(r, name.folder.text, err) && removal_set_open(&r->sets[r->set_count], &name, err);
        r->set_count += ok;
    }
    str_list_free(&paths);
    const Options *o = r->o;
    if (ok && r->set_count && !*o->tokenizer)
        return error_set(err, "--data needs --tokenizer, the one that the shards were made with: they say how many "
                              "bytes of text they stand for");
    if (!ok || !r->set_count) return ok;
    if (!tokenizer_open(&r->tok, o->tokenizer, err)) return false;
    for (int k = 0; k < r->set_count; k++)
        if (removal_set_header(&r->sets[k])->tokenizer_hash != r->tok.hash)
            return error_set(err, "the shards %s/%s were made with another tokenizer than --tokenizer=%s",
                             r->sets[k].name.folder.text, r->sets[k].name.base, o->tokenizer);
    return true;
}

static inline bool remove_open(Remove *r, Error *err) {
    const Options *o = r->o;
    FileKind kind;
    if (!*o->input && !*o->data && !*o->runs)
        return error_set(err, "--remove needs what to remove from: --input (cleaned text), --data (shards), or --runs "
                              "(what has read it)");
    if (!output_check_file(o, err) || !path_look(o->out, &kind, err)) return false;
    if (kind != FILE_ABSENT)
        return error_set(err, "--out=%s is there already, and a report is not written over; choose another --out",
                         o->out);
    if (!removal_list_read(&r->list, o->remove, err) || !remove_open_texts(r, err) || !remove_open_sets(r, err))
        return false;
    for (int k = 0; k < r->set_count; k++)
        for (int side = 0; side < 2; side++) {
            int64_t bytes;
            if (r->sets[k].sides[side].data.count &&
                !dataset_verify(&r->sets[k].sides[side].data, 0, 1, false, &bytes, err))
                return false;
        }
    return true;
}

static inline void remove_close(Remove *r) {
    for (int k = 0; k < r->set_count; k++) removal_set_close(&r->sets[k]);
    for (int k = 0; k < r->run_count; k++) exposure_free(&r->runs[k]);
    for (int k = 0; k < r->lock_count; k++) close(r->locks[k]);
    if (r->set_count) tokenizer_free(&r->tok);
    removal_list_free(&r->list);
    free(r->texts), free(r->sets), free(r->runs), free(r->locks), free(r->found.data);
    free(r);
}

// ---------------------------------------------------------------- looking

static inline bool remove_ask_text(void *context, const RemovalLine *line, Error *err) {
    (void)err;
    if (!line->empty) removal_list_find(&((Remove *)context)->list, &line->document);
    return true;
}

static inline bool remove_ask_shard(void *context, const RemovalShardDoc *doc, Error *err) {
    (void)err;
    removal_list_find(&((Remove *)context)->list, &doc->document);
    return true;
}

// A document that goes, for the report.
static inline void remove_note(Remove *r, const RemovalDocument *d, const char *in, int64_t amount, const char *unit) {
    char hex[65];
    int64_t request = removal_sums_find(&r->list.originals, d->sha256);
    sha256_hex(hex, d->sha256);
    r->list.requests[r->list.requests[request].same].found++;
    str_printf(&r->found, "%s\n    {\"sha256\": \"%s\", \"request\": %lld, \"source\": ", r->places++ ? "," : "", hex,
               (long long)r->list.requests[request].same);
    json_escape(&r->found, d->source, strlen(d->source));
    str_printf(&r->found, ", \"offset\": %lld, \"in\": ", (long long)d->offset);
    json_escape(&r->found, in, strlen(in));
    str_printf(&r->found, ", \"%s\": %lld}", unit, (long long)amount);
}

typedef struct {
    Remove *r;
    const RemovalText *text;
    const RemovalSet *set;
    int64_t found;
} RemoveLook;

static inline bool remove_look_text(void *context, const RemovalLine *line, Error *err) {
    RemoveLook *look = (RemoveLook *)context;
    (void)err;
    if (line->empty || !removal_list_has(&look->r->list, line->document.sha256)) return true;
    look->found++;
    remove_note(look->r, &line->document, look->text->path.text, (int64_t)line->document.n, "bytes");
    return true;
}

static inline bool remove_look_shard(void *context, const RemovalShardDoc *doc, Error *err) {
    RemoveLook *look = (RemoveLook *)context;
    (void)err;
    if (!removal_list_has(&look->r->list, doc->document.sha256)) return true;
    look->found++;
    remove_note(look->r, &doc->document, shard_path(&look->set->name, doc->side, doc->shard).text, doc->tokens,
                "tokens");
    return true;
}

static inline bool remove_open_runs(Remove *r, Error *err) {
    StrList paths;
    memset(&paths, 0, sizeof paths);
    bool ok = !*r->o->runs || path_expand(&paths, r->o->runs, err);
    r->runs = (Exposure *)mem_alloc(sizeof(Exposure) * (size_t)paths.count);
    for (int i = 0; ok && i < paths.count; i++) {
        ok = exposure_open(&r->runs[r->run_count++], paths.items[i], err);
        if (ok) exposure_ask(&r->runs[r->run_count - 1], &r->list);
    }
    str_list_free(&paths);
    return ok;
}

// Twice: whom an id names is known when all was asked, and only then who is its duplicate.
static inline bool remove_look(Remove *r, Error *err) {
    for (int i = 0; i < r->text_count; i++)
        if (!removal_text_read(&r->texts[i], remove_ask_text, r, err)) return false;
    for (int i = 0; i < r->set_count; i++)
        if (!removal_set_visit(&r->sets[i], remove_ask_shard, r, err)) return false;
    if (!remove_open_runs(r, err)) return false;
    removal_list_settle(&r->list);
    for (int i = 0; i < r->run_count; i++)
        if (!exposure_read(&r->runs[i], &r->list, err)) return false;
    for (int i = 0; i < r->text_count; i++) {
        RemoveLook look = {r, &r->texts[i], NULL, 0};
        if (!removal_text_read(&r->texts[i], remove_look_text, &look, err)) return false;
        r->texts[i].removed = look.found;
    }
    for (int i = 0; i < r->set_count; i++) {
        RemoveLook look = {r, NULL, &r->sets[i], 0};
        if (!removal_set_visit(&r->sets[i], remove_look_shard, &look, err)) return false;
        r->sets[i].removed = look.found;
    }
    return true;
}

// ---------------------------------------------------------------- the report

static inline void remove_report_sets(Str *s, const Remove *r) {
    str_puts(s, "],\n  \"shards\": [");
    for (int i = 0; i < r->set_count; i++) {
        const RemovalSet *set = &r->sets[i];
        str_puts(s, i ? ",\n    {\"prefix\": " : "\n    {\"prefix\": ");
        Path prefix = path_of("%s/%s", set->name.folder.text, set->name.base);
        json_escape(s, prefix.text, strlen(prefix.text));
        str_printf(s, ", \"set\": \"%016" PRIx64 "\", \"removed\": %lld, \"documents\": %lld, \"files\": [", set->set,
                   (long long)set->removed, (long long)(set->sides[0].documents + set->sides[1].documents));
        for (int side = 0, n = 0; side < 2; side++)
            for (int k = 0; k < set->sides[side].data.count; k++) {
                const Shard *shard = &set->sides[side].data.shards[k];
                str_puts(s, n++ ? ", {\"path\": " : "{\"path\": ");
                json_escape(s, shard->path, strlen(shard->path));
                str_printf(s, ", \"tokens\": %lld, \"xxh64\": \"%016" PRIx64 "\"}", (long long)shard->header.tokens,
                           shard->header.checksum);
            }
        str_puts(s, "]}");
    }
}

// state: "begun", with the files as they are before, or "done", with those behind.
static inline bool remove_report(const Remove *r, const char *state, Error *err) {
    Str s;
    memset(&s, 0, sizeof s);
    str_printf(&s, "{\n  \"removal\": \"%s\",\n  \"began\": \"%s\",\n", state, r->began);
    if (*r->ended) str_printf(&s, "  \"ended\": \"%s\",\n", r->ended);
    str_puts(&s, "  \"program\": ");
    Path program = path_of("%s, commit %s", engine_name(), build_commit);
    json_escape(&s, program.text, strlen(program.text));
    str_puts(&s, ",\n  \"requests\": [");
    for (size_t i = 0; i < r->list.count; i++) {
        const RemovalRequest *q = &r->list.requests[i];
        str_printf(&s, "%s\n    {\"number\": %zu, \"id\": ", i ? "," : "", i);
        json_escape(&s, q->said, strlen(q->said));
        if (q->same != (int64_t)i) str_printf(&s, ", \"same_as\": %lld", (long long)q->same);
        str_printf(&s, ", \"found\": %lld}", (long long)r->list.requests[q->same].found);
    }
    str_printf(&s, "\n  ],\n  \"found\": [%s%s],\n  \"texts\": [", r->found.data ? r->found.data : "",
               r->places ? "\n  " : "");
    for (int i = 0; i < r->text_count; i++) {
        char sum[65];
        str_puts(&s, i ? ",\n    {\"path\": " : "\n    {\"path\": ");
        json_escape(&s, r->texts[i].path.text, strlen(r->texts[i].path.text));
        if (!sha256_file(sum, r->texts[i].path.text, err)) {
            free(s.data);
            return false;
        }
        str_printf(&s, ", \"removed\": %lld, \"documents\": %lld, \"bytes\": %lld, \"sha256\": \"%s\"}",
                   (long long)r->texts[i].removed, (long long)r->texts[i].documents, (long long)r->texts[i].bytes, sum);
    }
    remove_report_sets(&s, r);
    str_puts(&s, "],\n  \"runs\": [");
    for (int i = 0; i < r->run_count; i++) {
        str_puts(&s, i ? ",\n    " : "\n    ");
        exposure_json(&s, &r->runs[i]);
    }
    str_printf(&s, "],\n  \"verified\": %s\n}\n", *r->ended ? "true" : "false");
    bool ok = file_write_all(r->o->out, s.data, s.size, err);
    free(s.data);
    return ok;
}

// ---------------------------------------------------------------- doing it

static inline bool remove_still(const char *where, Error *err) {
    return error_set(err,
                     "%s still holds a document that was to be removed: something else has written there; run "
                     "it again with another --out",
                     where);
}

static inline bool remove_absent_text(void *context, const RemovalLine *line, Error *err) {
    const RemoveLook *look = (const RemoveLook *)context;
    bool there = !line->empty && removal_list_has(&look->r->list, line->document.sha256);
    return !there || remove_still(look->text->path.text, err);
}

static inline bool remove_absent_shard(void *context, const RemovalShardDoc *doc, Error *err) {
    const RemoveLook *look = (const RemoveLook *)context;
    return !removal_list_has(&look->r->list, doc->document.sha256) || remove_still(look->set->name.base, err);
}

// Opens a set anew, reads all of it, and looks that nothing of the list is there.
static inline bool remove_verify_set(Remove *r, RemovalSet *set, Error *err) {
    ShardName name = set->name;
    int64_t removed = set->removed, bytes;
    RemoveLook look = {r, NULL, set, 0};
    removal_set_close(set);
    bool ok = removal_set_open(set, &name, err);
    set->name = name;
    set->removed = removed;
    for (int side = 0; ok && side < 2; side++)
        ok = !set->sides[side].data.count || dataset_verify(&set->sides[side].data, 0, 1, true, &bytes, err);
    return ok && removal_set_visit(set, remove_absent_shard, &look, err);
}

static inline bool remove_do(Remove *r, Error *err) {
    Str entry;
    memset(&entry, 0, sizeof entry);
    str_printf(&entry, "\"at\": \"%s\", \"report\": ", r->began);
    json_escape(&entry, r->o->out, strlen(r->o->out));
    bool ok = true;
    for (int i = 0; ok && i < r->set_count; i++)
        if (r->sets[i].removed) ok = removal_set_write(&r->sets[i], &r->list, &r->tok, entry.data, err);
    for (int i = 0; ok && i < r->text_count; i++)
        if (r->texts[i].removed) ok = removal_text_write(&r->texts[i], &r->list, entry.data, err);
    for (int i = 0; ok && i < r->set_count; i++) ok = remove_verify_set(r, &r->sets[i], err);
    for (int i = 0; ok && i < r->text_count; i++) {
        RemoveLook look = {r, &r->texts[i], NULL, 0};
        ok = removal_text_read(&r->texts[i], remove_absent_text, &look, err);
    }
    free(entry.data);
    return ok;
}

static inline void remove_say(const Remove *r) {
    int64_t found = 0;
    for (size_t i = 0; i < r->list.count; i++) found += r->list.requests[r->list.requests[i].same].found > 0;
    print_line("%s: %lld of %zu requests found, in %lld places", r->o->out, (long long)found, r->list.count,
               (long long)r->places);
    for (int i = 0; i < r->text_count; i++)
        print_line("%s: %lld documents taken out, %lld stay", r->texts[i].path.text, (long long)r->texts[i].removed,
                   (long long)r->texts[i].documents);
    for (int i = 0; i < r->set_count; i++)
        print_line("%s/%s: %lld documents taken out, %lld stay", r->sets[i].name.folder.text, r->sets[i].name.base,
                   (long long)r->sets[i].removed,
                   (long long)(r->sets[i].sides[0].documents + r->sets[i].sides[1].documents));
    for (int i = 0; i < r->run_count; i++) {
        const Exposure *e = &r->runs[i];
        int64_t first = INT64_MAX, learnt = exposure_learnt(e, INT64_MAX);
        for (size_t k = 0; k < e->hit_count; k++)
            if (!e->hits[k].skipped) first = int64_min(first, e->hits[k].step);
        if (learnt)
            print_line("%s: has learnt from %lld of them, first in step %lld", e->run.text, (long long)learnt,
                       (long long)first);
        else print_line("%s: has learnt from none of them", e->run.text);
    }
    bool *read = (bool *)mem_alloc(r->list.count);
    for (int i = 0; i < r->run_count; i++)
        for (size_t k = 0; k < r->runs[i].doc_count; k++)
            read[r->list.requests[removal_sums_find(&r->list.originals, r->runs[i].docs[k].sha256)].same] = true;
    for (size_t i = 0; i < r->list.count; i++)
        if (r->list.requests[r->list.requests[i].same].found == 0 && !read[r->list.requests[i].same])
            warn("nothing was found for %.300s", r->list.requests[i].said);
    free(read);
}

static inline int verb_remove(const Options *o) {
    Remove *r = (Remove *)mem_alloc(sizeof(Remove));
    Error err;
    r->o = o;
    remove_now(r->began);
    bool ok = remove_open(r, &err) && remove_look(r, &err) && remove_report(r, "begun", &err) && remove_do(r, &err);
    if (ok) {
        remove_now(r->ended);
        ok = remove_report(r, "done", &err);
    }
    if (!ok) fail("%s", err.text);
    remove_say(r);
    remove_close(r);
    return EXIT_DONE;
}

#endif
