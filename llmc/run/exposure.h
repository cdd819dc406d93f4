/*
exposure.h: which documents a run has read, in which steps, and which of its checkpoints have learnt from them.

    Exposure e;
    exposure_open(&e, "runs/a", err)     a run's folder, or one of its checkpoints; before shards are changed
    exposure_ask(&e, &list)              which of its documents were asked for
    exposure_read(&e, &list, err)        after removal_list_settle(): what was read when
    exposure_json(&s, &e)
    exposure_free(&e)

Nothing of this was written down when the run read: it is computed. What stands at a position of the run is a function
of seed and data (data.h, mix.h), which run.json names; which positions a step read stands in metrics.jsonl, whatever
ranks, batches and resumes there were. Every position up to the last step is walked through, by the function that
training itself asks. A step has read a document if a token of its text stood in one of the step's sequences, as an
input or a target; the token that closes the document is none of its text.

Of conversations a sequence is a row of whole ones (chat_rows.h), which the shard and the length of a row make. One that
is longer than a row was read up to the answer behind which it is cut, and one that no row has was not read. Where an
answer ends no list of documents says: a run on conversations is told from its shards as they were, and no more when a
removal has changed them.

The data must be those of the run: their fingerprint is held against that of run.json. Where a removal has changed the
shards since, the lists of documents that it kept (removal_shards.h) take their place.

A step whose update was refused (--spike_action=skip) has read and learnt nothing: it is listed apart. Steps that a
rollback undid left nothing in the weights, and are not listed. What a run had its first weights from (--model=FOLDER)
has read what it has read: that is for its own run to tell.
*/
#ifndef LLMC_EXPOSURE_H
#define LLMC_EXPOSURE_H

#include "../corpus/removal_shards.h"
#include "../text/mix.h"
#include "run_folder.h"

#define EXPOSURE_TRIES 100000 // states of the data that are tried, over all prefixes

// The lists of documents of one state of a set's side.
typedef struct {
    ShardDocs *docs; // (count)
    ChatRows *rows;  // (count) of conversations; of one state alone, that of today
    int count;
} ExposureVersion;

// Shards of one prefix that stand together in the training data.
typedef struct {
    ShardName name;
    int source; // of the mixture
    ExposureVersion *versions;
    int count, chosen;
} ExposureUnit;

typedef struct {
    int64_t step, from, to; // positions
    bool skipped;
} ExposureStep;

// A document that was asked for, where it stands in the data.
typedef struct {
    uint8_t sha256[32];
    char *source;
    int64_t offset;
    int64_t sequences; // that hold some of it
} ExposureDoc;

typedef struct {
    int64_t sequence, doc;
} ExposureHold;

typedef struct {
    int64_t doc, step;
    bool skipped;
} ExposureHit;

typedef struct {
    Path run;
    char *train_data, *model;
    RunState state;       // of the last checkpoint
    int64_t *checkpoints; // (checkpoint_count) steps
    int checkpoint_count;
    bool single; // a checkpoint was named, not a run
    Mix mix;
    ExposureUnit *units;
    int unit_count;
    int64_t sequences;
    ExposureStep *steps; // (step_count)
    size_t step_count, step_capacity;
    ExposureDoc *docs;
    size_t doc_count, doc_capacity;
    ExposureHold *holds; // (hold_count) ascending
    size_t hold_count, hold_capacity;
    ExposureHit *hits; // (hit_count) by document and step
    size_t hit_count, hit_capacity;
} Exposure;

static inline void exposure_free(Exposure *e) {
    for (int u = 0; u < e->unit_count; u++) {
        for (int v = 0; v < e->units[u].count; v++) {
            ExposureVersion *version = &e->units[u].versions[v];
            for (int i = 0; i < version->count; i++) {
                shard_docs_close(&version->docs[i]);
                if (version->rows) chat_rows_close(&version->rows[i]);
            }
            free(version->docs), free(version->rows);
        }
        free(e->units[u].versions);
    }
    for (size_t i = 0; i < e->doc_count; i++) free(e->docs[i].source);
    free(e->train_data), free(e->model), free(e->checkpoints), free(e->units), free(e->steps), free(e->docs);
    free(e->holds), free(e->hits);
    mix_close(&e->mix);
    memset(e, 0, sizeof *e);
}

// ---------------------------------------------------------------- the data of the run

static inline bool exposure_add_docs(ExposureVersion *v, const char *path, Error *err) {
    v->docs = (ShardDocs *)realloc(v->docs, sizeof(ShardDocs) * (size_t)(v->count + 1));
    if (!v->docs) fail("out of memory");
    if (!shard_docs_open(&v->docs[v->count], path, err)) return false;
    v->count++;
    return true;
}

// The rows of a shard of conversations, whose list was added last.
static inline bool exposure_add_rows(ExposureVersion *v, const char *path, int seq_len, Error *err) {
    Dataset d;
    Xxh64 print;
    memset(&d, 0, sizeof d);
    xxh64_init(&print, 0);
    v->rows = (ChatRows *)realloc(v->rows, sizeof(ChatRows) * (size_t)v->count);
    if (!v->rows) fail("out of memory");
    memset(&v->rows[v->count - 1], 0, sizeof(ChatRows));
    d.seq_len = seq_len;
    d.shards = (Shard *)mem_alloc(sizeof(Shard));
    bool ok = dataset_add(&d, 0, path, &print, err);
    if (ok && !removal_docs_of(&v->docs[v->count - 1], &d.shards[0].header))
        ok = error_set(err, "the list of documents beside %s is of another shard", path);
    if (ok) {
        v->rows[v->count - 1] = d.shards[0].rows;
        memset(&d.shards[0].rows, 0, sizeof(ChatRows));
    }
    dataset_close(&d);
    return ok;
}

static inline ExposureVersion *exposure_add_version(ExposureUnit *u) {
    u->versions = (ExposureVersion *)realloc(u->versions, sizeof(ExposureVersion) * (size_t)(u->count + 1));
    if (!u->versions) fail("out of memory");
    memset(&u->versions[u->count], 0, sizeof(ExposureVersion));
    return &u->versions[u->count++];
}

// What removals have kept of the sets before: SET_train_00000.docs, in the order of their names.
static inline bool exposure_add_history(ExposureUnit *u, Error *err) {
    StrList names;
    FileKind kind;
    Path folder = removal_history(&u->name);
    char before[17] = "";
    memset(&names, 0, sizeof names);
    if (!path_look(folder.text, &kind, err)) return false;
    bool ok = kind != FILE_FOLDER || folder_list(&names, folder.text, err);
    Path side = path_of("_%s_", shard_sides[u->name.side]);
    for (int i = 0; ok && i < names.count; i++) {
        const char *name = names.items[i];
        if (strlen(name) < 16 || strncmp(name + 16, side.text, strlen(side.text)) != 0 || !str_ends_with(name, ".docs"))
            continue;
        if (strncmp(before, name, 16) != 0) exposure_add_version(u);
        memcpy(before, name, 16);
        ok = exposure_add_docs(&u->versions[u->count - 1], path_of("%s/%s", folder.text, name).text, err);
    }
    str_list_free(&names);
    return ok;
}

// The shards that the run's --train_data finds today, and what removals have kept of those before.
static inline bool exposure_units(Exposure *e, Error *err) {
    bool ok = true;
    for (int k = 0; ok && k < e->mix.count; k++) {
        StrList paths;
        Error why;
        memset(&paths, 0, sizeof paths);
        ok = dataset_paths(&paths, e->mix.sources[k].list, &why) ||
             error_set(err, "%s was trained on --train_data=%.400s: %.300s; run this in the folder where train was run",
                       e->run.text, e->train_data, why.text);
        for (int i = 0; ok && i < paths.count; i++) {
            ShardName name;
            ExposureUnit *u = e->unit_count ? &e->units[e->unit_count - 1] : NULL;
            if (!shard_name_parse(&name, paths.items[i])) {
                ok = error_set(err, "%s is no shard of tokenize, and has no list of its documents", paths.items[i]);
                break;
            }
            if (!u || u->source != k || u->name.side != name.side || strcmp(u->name.base, name.base) != 0 ||
                strcmp(u->name.folder.text, name.folder.text) != 0) {
                e->units = (ExposureUnit *)realloc(e->units, sizeof *e->units * (size_t)(e->unit_count + 1));
                if (!e->units) fail("out of memory");
                u = &e->units[e->unit_count++];
                memset(u, 0, sizeof *u);
                u->name = name;
                u->source = k;
                exposure_add_version(u);
            }
            bool chat = false;
            ok = shard_file_is_chat(&chat, paths.items[i], err) &&
                 exposure_add_docs(&u->versions[0], removal_docs_path(paths.items[i]).text, err);
            ok = ok && (!chat || exposure_add_rows(&u->versions[0], paths.items[i], e->state.seq_len, err));
        }
        str_list_free(&paths);
    }
    for (int u = 0; ok && u < e->unit_count; u++)
        ok = e->units[u].versions[0].rows || exposure_add_history(&e->units[u], err);
    return ok;
}

static inline int64_t exposure_sequences(const Exposure *e, const ExposureVersion *v, int shard) {
    const ShardDocs *d = &v->docs[shard];
    if (v->rows) return v->rows[shard].rows;
    return d->header.tokens > 0 ? (d->header.tokens - 1) / e->state.seq_len : 0;
}

// The fingerprint of the chosen versions; sources get their sequences.
static inline uint64_t exposure_fingerprint(Exposure *e) {
    Xxh64 print;
    xxh64_init(&print, 0);
    e->sequences = 0;
    for (int k = 0; k < e->mix.count; k++) e->mix.sources[k].first = e->mix.sources[k].sequences = 0;
    for (int u = 0; u < e->unit_count; u++) {
        const ExposureVersion *v = &e->units[u].versions[e->units[u].chosen];
        MixSource *source = &e->mix.sources[e->units[u].source];
        if (source->sequences == 0) source->first = e->sequences;
        for (int i = 0; i < v->count; i++) {
            const ShardDocsHeader *h = &v->docs[i].header;
            xxh64_update(&print, &h->tokens, sizeof h->tokens);
            xxh64_update(&print, &h->tokens_sum, sizeof h->tokens_sum);
            source->sequences += exposure_sequences(e, v, i);
            e->sequences += exposure_sequences(e, v, i);
        }
    }
    return mix_fingerprint(&e->mix, xxh64_value(&print));
}

// Finds the state of the data that the run was trained on.
static inline bool exposure_choose(Exposure *e, Error *err) {
    for (int tries = 0; tries < EXPOSURE_TRIES; tries++) {
        if (exposure_fingerprint(e) == e->state.data) {
            for (int k = 0; k < e->mix.count; k++)
                if (e->mix.sources[k].sequences == 0) return error_set(err, "%s: a source is empty", e->run.text);
            mix_plan(&e->mix);
            return true;
        }
        int u = 0;
        while (u < e->unit_count && ++e->units[u].chosen == e->units[u].count) e->units[u++].chosen = 0;
        if (u == e->unit_count) break;
    }
    bool chat = false;
    for (int u = 0; u < e->unit_count; u++) chat = chat || e->units[u].versions[0].rows;
    if (chat)
        return error_set(err,
                         "%s was trained on other conversations than --train_data=%.400s names today; of those that a "
                         "removal has changed nobody can say in which steps they were read: give it the shards that it "
                         "had, or leave the run out of --runs",
                         e->run.text, e->train_data);
    return error_set(err,
                     "%s was trained on other data than --train_data=%.400s names today (fingerprint %016" PRIx64
                     "), so that nobody can say what it has read; give it the shards that it had",
                     e->run.text, e->train_data, e->state.data);
}

// ---------------------------------------------------------------- what each step read

// From, to: positions of the step of a line. Records of versions before have no position, but epochs.
static inline bool exposure_line(Exposure *e, const Json *root, int64_t *tokens, const char *path, Error *err) {
    ExposureStep s, *before = e->step_count ? &e->steps[e->step_count - 1] : NULL;
    const Json *position = json_get(root, "position");
    double epoch = json_number(json_get(root, "epoch"), -1) * (double)e->sequences;
    int64_t now = json_integer(json_get(root, "tokens"), -1);
    s.step = json_integer(json_get(root, "step"), -1);
    s.to = position ? json_integer(position, -1) : (int64_t)(epoch + 0.5);
    s.skipped = now == *tokens;
    s.from = s.skipped ? (before ? before->to : 0) : s.to - (now - *tokens) / e->state.seq_len;
    if (s.step != (before ? before->step + 1 : 1) || now < *tokens || s.from < 0 || s.from >= s.to ||
        (!position && (epoch < 0 || epoch > 4e8)))
        return error_set(err,
                         "%s: behind step %lld comes a line of step %lld that does not follow from it, so that nobody "
                         "can say what the run has read",
                         path, before ? (long long)before->step : 0, (long long)s.step);
    *tokens = now;
    e->steps = (ExposureStep *)mem_grow(e->steps, &e->step_capacity, e->step_count + 1, sizeof s);
    e->steps[e->step_count++] = s;
    return true;
}

static inline bool exposure_steps(Exposure *e, const char *run_dir, Error *err) {
    Path path = path_of("%s/metrics.jsonl", run_dir);
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    int64_t tokens = 0;
    FILE *f = file_open_read(path.text, err);
    bool ok = f != NULL;
    while (ok && (n = getline(&line, &capacity, f)) > 0) {
        JsonDoc doc;
        Error why;
        if (line[n - 1] != '\n') break; // a kill cut it short; its step is in no checkpoint
        const Json *root = json_parse(&doc, line, (size_t)n, &why);
        if (!root) ok = error_set(err, "%s: behind step %zu: %.300s", path.text, e->step_count, why.text);
        else {
            ok = exposure_line(e, root, &tokens, path.text, err);
            json_free(&doc);
        }
    }
    if (ok && ferror(f)) ok = error_set(err, "cannot read %s", path.text);
    if (f) fclose(f);
    free(line);
    return ok;
}

// Each checkpoint must stand where the steps lead.
static inline bool exposure_check_steps(Exposure *e, const char *run_dir, Error *err) {
    for (int i = 0; i < e->checkpoint_count; i++) {
        RunState s;
        int64_t step = e->checkpoints[i];
        Path folder = checkpoint_folder(run_dir, step);
        if (!run_state_load(&s, folder.text, err)) return false;
        int64_t to = step == 0 ? 0 : (size_t)step <= e->step_count ? e->steps[step - 1].to : -1;
        if (s.data != e->state.data || s.seed != e->state.seed || s.seq_len != e->state.seq_len || s.position != to)
            return error_set(err,
                             "%s stands at sequence %lld, %s/metrics.jsonl leads to %lld: they are not of one run, so "
                             "that nobody can say what it has read",
                             folder.text, (long long)s.position, run_dir, (long long)to);
    }
    return true;
}

// ---------------------------------------------------------------- documents

static inline void exposure_hold_row(Exposure *e, int64_t sequence, int64_t doc) {
    e->holds = (ExposureHold *)mem_grow(e->holds, &e->hold_capacity, e->hold_count + 1, sizeof *e->holds);
    e->holds[e->hold_count].sequence = sequence;
    e->holds[e->hold_count++].doc = doc;
    e->docs[doc].sequences++;
}

// at, end: the tokens of a document in a shard, whose sequences begin with number `first`.
static inline void exposure_hold(Exposure *e, int64_t first, int64_t sequences, int64_t at, int64_t end, int64_t doc) {
    int64_t T = e->state.seq_len;
    // Sequence s holds the tokens s * T to s * T + T.
    for (int64_t s = at > 0 ? (at - 1) / T : 0; at < end && s <= (end - 1) / T && s < sequences; s++)
        exposure_hold_row(e, first + s, doc);
}

// A document of the list, found in the data.
static inline void exposure_add_doc(Exposure *e, const ShardDocs *d, ShardDoc doc) {
    e->docs = (ExposureDoc *)mem_grow(e->docs, &e->doc_capacity, e->doc_count + 1, sizeof *e->docs);
    ExposureDoc *x = &e->docs[e->doc_count++];
    memcpy(x->sha256, doc.sha256, 32);
    x->source = str_copy(d->names[doc.source]);
    x->offset = doc.offset;
    x->sequences = 0;
}

static inline int exposure_item_order(const void *a, const void *b) {
    const ChatItem *x = (const ChatItem *)a, *y = (const ChatItem *)b;
    return (x->at > y->at) - (x->at < y->at);
}

// The conversations of the list in a shard, and the rows that hold them.
static inline void exposure_conversations(Exposure *e, const ShardDocs *d, const ChatRows *r, int64_t first,
                                          const RemovalList *list) {
    size_t bytes = sizeof(ChatItem) * (size_t)r->conversations;
    ChatItem *items = (ChatItem *)mem_alloc(bytes);
    if (bytes)
        memcpy(items, r->items, bytes), qsort(items, (size_t)r->conversations, sizeof *items, exposure_item_order);
    for (int64_t k = 0, i = 0; k < d->header.documents; k++) {
        ShardDoc doc = shard_docs_item(d, k);
        if (!removal_list_has(list, doc.sha256)) continue;
        exposure_add_doc(e, d, doc);
        while (i < r->conversations && items[i].at < doc.first) i++;
        if (i == r->conversations || items[i].at != doc.first) continue;
        exposure_hold_row(e, first + items[i].row, (int64_t)e->doc_count - 1);
    }
    free(items);
}

// The documents of the list in the chosen data, and the sequences that hold them.
static inline bool exposure_documents(Exposure *e, const RemovalList *list, Error *err) {
    int64_t first = 0;
    for (int u = 0; u < e->unit_count; u++) {
        const ExposureVersion *v = &e->units[u].versions[e->units[u].chosen];
        int64_t open = -1; // the document that goes on at the beginning of the shard
        for (int i = 0; i < v->count; i++) {
            const ShardDocs *d = &v->docs[i];
            if (v->rows) {
                exposure_conversations(e, d, &v->rows[i], first, list);
                first += exposure_sequences(e, v, i);
                continue;
            }
            int64_t sequences = exposure_sequences(e, v, i), n = d->header.documents, tokens = d->header.tokens;
            int64_t begin = n ? shard_docs_item(d, 0).first : tokens;
            uint32_t expected = i ? v->docs[i - 1].header.set_index + 1 : 0;
            if (begin > 0 && d->header.set_index != expected)
                return error_set(err,
                                 "%s was trained on shard %u of %s/%s without the one before, in which a document "
                                 "begins that goes on in it; nobody can say whether that was read",
                                 e->run.text, d->header.set_index, e->units[u].name.folder.text, e->units[u].name.base);
            // Whether the last one ends here, with its closing token, the next shard tells. Of the last document of
            // all that token counts.
            bool closed = i + 1 < v->count && v->docs[i + 1].header.documents > 0 &&
                          shard_docs_item(&v->docs[i + 1], 0).first == 0;
            if (open >= 0) exposure_hold(e, first, sequences, 0, n ? begin - 1 : tokens - closed, open);
            for (int64_t k = 0; k < n; k++) {
                ShardDoc doc = shard_docs_item(d, k);
                bool last = k + 1 == n;
                int64_t end = last ? tokens - closed : shard_docs_item(d, k + 1).first - 1;
                open = -1;
                if (!removal_list_has(list, doc.sha256)) continue;
                exposure_add_doc(e, d, doc);
                open = last ? (int64_t)e->doc_count - 1 : -1;
                exposure_hold(e, first, sequences, doc.first, end, (int64_t)e->doc_count - 1);
            }
            first += sequences;
        }
    }
    return true;
}

static inline int exposure_hold_order(const void *a, const void *b) {
    const ExposureHold *x = (const ExposureHold *)a, *y = (const ExposureHold *)b;
    if (x->sequence != y->sequence) return x->sequence < y->sequence ? -1 : 1;
    return (x->doc > y->doc) - (x->doc < y->doc);
}

static inline int exposure_hit_order(const void *a, const void *b) {
    const ExposureHit *x = (const ExposureHit *)a, *y = (const ExposureHit *)b;
    if (x->doc != y->doc) return x->doc < y->doc ? -1 : 1;
    return (x->step > y->step) - (x->step < y->step);
}

// Walks through all positions.
static inline void exposure_walk(Exposure *e) {
    uint8_t *held = (uint8_t *)mem_alloc((size_t)e->sequences / 8 + 1);
    qsort(e->holds, e->hold_count, sizeof *e->holds, exposure_hold_order);
    for (size_t i = 0; i < e->hold_count; i++)
        held[e->holds[i].sequence / 8] |= (uint8_t)(1 << e->holds[i].sequence % 8);
    for (size_t i = 0; i < e->step_count && e->hold_count; i++)
        for (int64_t p = e->steps[i].from; p < e->steps[i].to; p++) {
            int64_t s = mix_index(&e->mix, (uint64_t)e->state.seed, p);
            if (!(held[s / 8] >> s % 8 & 1)) continue;
            size_t low = 0, high = e->hold_count;
            while (low < high) {
                size_t middle = (low + high) / 2;
                if (e->holds[middle].sequence < s) low = middle + 1;
                else high = middle;
            }
            for (; low < e->hold_count && e->holds[low].sequence == s; low++) {
                e->hits = (ExposureHit *)mem_grow(e->hits, &e->hit_capacity, e->hit_count + 1, sizeof *e->hits);
                ExposureHit hit = {e->holds[low].doc, e->steps[i].step, e->steps[i].skipped};
                e->hits[e->hit_count++] = hit;
            }
        }
    free(held);
    if (e->hit_count) qsort(e->hits, e->hit_count, sizeof *e->hits, exposure_hit_order);
    size_t kept = 0; // a step counts once
    for (size_t i = 0; i < e->hit_count; i++)
        if (!kept || exposure_hit_order(&e->hits[kept - 1], &e->hits[i]) != 0) e->hits[kept++] = e->hits[i];
    e->hit_count = kept;
}

// ---------------------------------------------------------------- a run

// The run's folder, of which `path` may be a checkpoint; and its checkpoints.
static inline bool exposure_folder(Exposure *e, Path *run_dir, const char *path, Error *err) {
    Path plain = path_of("%s", path);
    size_t n = strlen(plain.text);
    while (n > 1 && plain.text[n - 1] == '/') plain.text[--n] = 0;
    const char *slash = strrchr(plain.text, '/');
    int64_t step = checkpoint_step(slash ? slash + 1 : plain.text);
    e->run = *run_dir = plain;
    if (step >= 0) {
        *run_dir = path_parent(plain.text);
        e->single = true;
        e->checkpoints = (int64_t *)mem_alloc(sizeof(int64_t));
        e->checkpoints[0] = step;
        e->checkpoint_count = 1;
        return true;
    }
    if (!checkpoint_list(&e->checkpoints, &e->checkpoint_count, plain.text, err)) return false;
    return e->checkpoint_count ? true : error_set(err, "%s has no checkpoint, and is no folder of a run", plain.text);
}

static inline bool exposure_record(Exposure *e, Path *run_dir, const char *path, Error *err) {
    RunRecord r;
    if (!exposure_folder(e, run_dir, path, err)) return false;
    Path last = checkpoint_folder(run_dir->text, e->checkpoints[e->checkpoint_count - 1]);
    if (!checkpoint_open(&r, last.text, err)) return false;
    const Json *options = json_get(r.root, "options");
    bool ok = run_state_read(&e->state, r.root) && e->state.seq_len > 0 && e->state.seed >= 0;
    e->train_data = str_copy(json_string(json_get(options, "train_data"), ""));
    e->model = str_copy(json_string(json_get(options, "model"), ""));
    run_record_close(&r);
    if (!ok) return run_state_wrong(last.text, err);
    return mix_parse(&e->mix, e->train_data, err);
}

// To be freed in any case.
static inline bool exposure_open(Exposure *e, const char *path, Error *err) {
    Path run_dir;
    memset(e, 0, sizeof *e);
    if (!exposure_record(e, &run_dir, path, err) || !exposure_units(e, err) || !exposure_choose(e, err) ||
        !exposure_steps(e, run_dir.text, err) || !exposure_check_steps(e, run_dir.text, err))
        return false;
    if (e->single) // what the run did behind the checkpoint is none of its
        while (e->step_count && e->steps[e->step_count - 1].step > e->checkpoints[0]) e->step_count--;
    return true;
}

static inline void exposure_ask(const Exposure *e, RemovalList *list) {
    for (int u = 0; u < e->unit_count; u++) {
        const ExposureVersion *v = &e->units[u].versions[e->units[u].chosen];
        for (int i = 0; i < v->count; i++)
            for (int64_t k = 0; k < v->docs[i].header.documents; k++) {
                RemovalDocument d;
                ShardDoc doc = shard_docs_item(&v->docs[i], k);
                memset(&d, 0, sizeof d);
                memcpy(d.sha256, doc.sha256, 32);
                d.source = v->docs[i].names[doc.source];
                d.offset = doc.offset;
                removal_list_find(list, &d);
            }
    }
}

static inline bool exposure_read(Exposure *e, const RemovalList *list, Error *err) {
    if (!exposure_documents(e, list, err)) return false;
    exposure_walk(e);
    return true;
}

// ---------------------------------------------------------------- the report

// The steps of one document, whose hits begin at number `from`.
static inline void exposure_json_steps(Str *s, const Exposure *e, size_t from, int64_t doc, bool skipped) {
    const char *comma = "";
    for (size_t i = from; i < e->hit_count && e->hits[i].doc == doc; i++) {
        if (e->hits[i].skipped != skipped) continue;
        str_printf(s, "%s%lld", comma, (long long)e->hits[i].step);
        comma = ", ";
    }
}

// Documents of which a checkpoint of that step has learnt.
static inline int64_t exposure_learnt(const Exposure *e, int64_t step) {
    int64_t n = 0, last = -1;
    for (size_t i = 0; i < e->hit_count; i++)
        if (!e->hits[i].skipped && e->hits[i].step <= step && e->hits[i].doc != last) n++, last = e->hits[i].doc;
    return n;
}

static inline void exposure_json(Str *s, const Exposure *e) {
    str_puts(s, "{\"run\": ");
    json_escape(s, e->run.text, strlen(e->run.text));
    str_puts(s, ", \"train_data\": ");
    json_escape(s, e->train_data, strlen(e->train_data));
    str_printf(s, ", \"data\": \"%016" PRIx64 "\", \"first_weights\": ", e->state.data);
    json_escape(s, e->model, strlen(e->model));
    str_printf(s, ", \"seed\": %lld, \"seq_len\": %lld, \"sequences\": %lld, \"steps\": %zu, \"positions\": %lld,\n",
               (long long)e->state.seed, (long long)e->state.seq_len, (long long)e->sequences, e->step_count,
               e->step_count ? (long long)e->steps[e->step_count - 1].to : 0);
    str_puts(s, "     \"documents\": [");
    for (size_t i = 0, hit = 0; i < e->doc_count; i++) {
        char hex[65];
        sha256_hex(hex, e->docs[i].sha256);
        str_printf(s, "%s\n      {\"sha256\": \"%s\", \"source\": ", i ? "," : "", hex);
        json_escape(s, e->docs[i].source, strlen(e->docs[i].source));
        str_printf(s, ", \"offset\": %lld, \"sequences\": %lld, \"read_in_steps\": [", (long long)e->docs[i].offset,
                   (long long)e->docs[i].sequences);
        exposure_json_steps(s, e, hit, (int64_t)i, false);
        str_puts(s, "], \"skipped_steps\": [");
        exposure_json_steps(s, e, hit, (int64_t)i, true);
        str_puts(s, "]}");
        while (hit < e->hit_count && e->hits[hit].doc == (int64_t)i) hit++;
    }
    str_puts(s, "],\n     \"checkpoints\": [");
    for (int i = 0; i < e->checkpoint_count; i++) {
        Path folder = e->single ? e->run : checkpoint_folder(e->run.text, e->checkpoints[i]);
        str_puts(s, i ? ",\n      {\"checkpoint\": " : "\n      {\"checkpoint\": ");
        json_escape(s, folder.text, strlen(folder.text));
        str_printf(s, ", \"step\": %lld, \"documents_learnt\": %lld}", (long long)e->checkpoints[i],
                   (long long)exposure_learnt(e, e->checkpoints[i]));
    }
    str_puts(s, "]}");
}

#endif
