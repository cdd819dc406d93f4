/*
removal_shards.h: looking for documents in a set of shards, and writing the set again without them.

    removal_set_open(&set, "data/german", err)         both sides, with the lists of their documents (shard_docs.h)
    removal_set_visit(&set, visit, context, err)       every document
    removal_set_write(&set, &list, &tok, entry, err)   the set again; what was there before is as it was on an error
    removal_set_close(&set)

Shards are full to the same number of tokens, documents stay in their order and on their side, and the set gets
its names in the way of shard_set.h: the old one or the new one, whole. So they are the shards, byte for byte, that
`tokenize` makes of the text without the documents, with the same options. Not so where that text would be divided
otherwise: where the hash alone gave one side no document (tokenize.h: the nearest one is taken then), and where there
was but one document, which was cut in two. manifest.json still lists what was read then, and says what was removed.

The lists of documents of the set as it was stay in BASE_history/SET_train_00000.docs: they hold no text, and the order
in which a run before saw what it saw can be computed from them (exposure.h).
*/
#ifndef LLMC_REMOVAL_SHARDS_H
#define LLMC_REMOVAL_SHARDS_H

#include "../text/shard_writer.h"
#include "../text/tokenizer.h"
#include "removal_text.h"

typedef struct {
    Dataset data;    // its shards, in the order of the set
    ShardDocs *docs; // (data.count)
    int64_t documents;
} RemovalSide;

typedef struct {
    ShardName name;
    RemovalSide sides[2];
    uint64_t set; // of the headers
    int64_t removed, removed_tokens;
} RemovalSet;

static inline void removal_side_close(RemovalSide *s) {
    for (int i = 0; s->docs && i < s->data.count; i++) shard_docs_close(&s->docs[i]);
    free(s->docs);
    dataset_close(&s->data);
    memset(s, 0, sizeof *s);
}

static inline void removal_set_close(RemovalSet *set) {
    for (int side = 0; side < 2; side++) removal_side_close(&set->sides[side]);
}

static inline Path removal_docs_path(const char *shard) {
    return path_of("%.*s.docs", (int)(strlen(shard) - 4), shard); // .bin
}

// Is this the list of that shard?
static inline bool removal_docs_of(const ShardDocs *d, const ShardHeader *h) {
    return d->header.set == h->set && d->header.set_side == h->set_side && d->header.set_index == h->set_index &&
           d->header.tokens == h->tokens && d->header.tokens_sum == h->checksum;
}

static inline bool removal_docs_open(ShardDocs *d, const Shard *s, Error *err) {
    FileKind kind;
    Path path = removal_docs_path(s->path);
    memset(d, 0, sizeof *d);
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT || !s->checked)
        return error_set(err,
                         "%s has no list of its documents (%s), so that nobody knows what is in it; tokenise again "
                         "without what is to be removed",
                         s->path, path.text);
    if (!shard_docs_open(d, path.text, err)) return false;
    return removal_docs_of(d, &s->header)
               ? true
               : error_set(err, "%s is not the list of documents of %s; copy both from one set, or tokenise again",
                           path.text, s->path);
}

// Side `side` with so many shards.
static inline bool removal_side_open(RemovalSet *set, int side, int count, Error *err) {
    RemovalSide *s = &set->sides[side];
    Xxh64 print;
    xxh64_init(&print, 0);
    s->data.seq_len = 1;
    s->data.shards = (Shard *)mem_alloc((size_t)count * sizeof(Shard));
    s->docs = (ShardDocs *)mem_alloc((size_t)count * sizeof(ShardDocs));
    for (int i = 0; i < count; i++) {
        if (!dataset_add(&s->data, i, shard_path(&set->name, side, i).text, &print, err) ||
            !removal_docs_open(&s->docs[i], &s->data.shards[i], err))
            return false;
        const ShardHeader *h = &s->data.shards[i].header;
        if (!set->set) set->set = h->set;
        if (!h->set || h->set != set->set || h->set_side != (uint32_t)side || h->set_index != (uint32_t)i ||
            h->set_count != (uint64_t)count)
            return error_set(err, "%s is not shard %d of %d of one set; copy all shards of one run of tokenize",
                             s->data.shards[i].path, i, count);
        s->documents += s->docs[i].header.documents;
    }
    return true;
}

// On false nothing is left open.
static inline bool removal_set_open(RemovalSet *set, const ShardName *name, Error *err) {
    StrList names;
    ShardName found;
    int counts[2] = {0, 0};
    memset(&names, 0, sizeof names);
    memset(set, 0, sizeof *set);
    set->name = *name;
    bool ok = folder_list(&names, name->folder.text, err);
    for (int i = 0; ok && i < names.count; i++)
        if (shard_of_prefix(&found, name, names.items[i]) && !found.docs) counts[found.side]++;
    str_list_free(&names);
    for (int side = 0; ok && side < 2; side++) ok = removal_side_open(set, side, counts[side], err);
    const Dataset *a = &set->sides[0].data, *b = &set->sides[1].data;
    if (ok && a->count && b->count && a->shards[0].header.tokenizer_hash != b->shards[0].header.tokenizer_hash)
        ok = error_set(err, "the shards %s/%s were made with two tokenizers; tokenise again", name->folder.text,
                       name->base);
    if (!ok) removal_set_close(set);
    return ok;
}

static inline const ShardHeader *removal_set_header(const RemovalSet *set) {
    return &set->sides[set->sides[0].data.count ? 0 : 1].data.shards[0].header;
}

// ---------------------------------------------------------------- documents

typedef struct {
    RemovalDocument document;
    ShardDoc record;
    int side, shard; // where it begins
    int64_t tokens;  // all of them, and where they end: in shard `last`, before `end`
    int last;
    int64_t end;
} RemovalShardDoc;

typedef bool RemovalShardVisit(void *context, const RemovalShardDoc *doc, Error *err);

// The token where the document behind number i of shard s begins: in *shard, at *at; or the end of all.
static inline void removal_side_next(const RemovalSide *side, int s, int64_t i, int *shard, int64_t *at) {
    if (i + 1 < side->docs[s].header.documents) {
        *shard = s;
        *at = shard_docs_item(&side->docs[s], i + 1).first;
        return;
    }
    *shard = s;
    *at = side->data.shards[s].header.tokens;
    for (int k = s + 1; k < side->data.count; k++) {
        bool begins = side->docs[k].header.documents > 0;
        *at = begins ? shard_docs_item(&side->docs[k], 0).first : side->data.shards[k].header.tokens;
        *shard = k;
        if (begins) break;
    }
}

static inline bool removal_side_visit(const RemovalSet *set, int number, RemovalShardVisit *visit, void *context,
                                      Error *err) {
    const RemovalSide *side = &set->sides[number];
    for (int s = 0; s < side->data.count; s++)
        for (int64_t i = 0; i < side->docs[s].header.documents; i++) {
            RemovalShardDoc doc;
            memset(&doc, 0, sizeof doc);
            doc.record = shard_docs_item(&side->docs[s], i);
            memcpy(doc.document.sha256, doc.record.sha256, 32);
            doc.document.source = side->docs[s].names[doc.record.source];
            doc.document.offset = doc.record.offset;
            doc.side = number;
            doc.shard = s;
            removal_side_next(side, s, i, &doc.last, &doc.end);
            doc.tokens = doc.end - doc.record.first;
            for (int k = s; k < doc.last; k++) doc.tokens += side->data.shards[k].header.tokens;
            if (!visit(context, &doc, err)) return false;
        }
    return true;
}

static inline bool removal_set_visit(const RemovalSet *set, RemovalShardVisit *visit, void *context, Error *err) {
    return removal_side_visit(set, 0, visit, context, err) && removal_side_visit(set, 1, visit, context, err);
}

// ---------------------------------------------------------------- writing

#define REMOVAL_PIECE 65536 // tokens that are copied at a time

typedef struct {
    RemovalSet *set;
    const RemovalList *list;
    const Tokenizer *tok;
    ShardWriter writers[2];
    int32_t *ids; // (REMOVAL_PIECE)
    Str sums;     // of what is left out, for the manifest
} RemovalShards;

// Tokens [at, end) of a shard, to the end of what is written.
static inline bool removal_copy(RemovalShards *r, const Shard *s, ShardWriter *w, int64_t at, int64_t end, Error *err) {
    for (int64_t n; at < end; at += n) {
        int64_t bytes = 0, documents = 0;
        n = int64_min(REMOVAL_PIECE, end - at);
        if (!shard_is_chat(s)) n = int64_min(n, shardwriter_room(w)); // conversations are kept together
        if (s->header.token_bytes == 4) {
            if (!shard_read(s, at, r->ids, n, err)) return false;
        } else { // widened in place, front to back: what is read lies in the back half
            uint16_t *narrow = (uint16_t *)(r->ids + REMOVAL_PIECE) - n;
            if (!shard_read(s, at, narrow, n, err)) return false;
            for (int64_t i = 0; i < n; i++) {
                uint16_t id;
                memcpy(&id, narrow + i, sizeof id);
                r->ids[i] = id;
            }
        }
        for (int64_t i = 0; i < n; i++) {
            int length;
            uint32_t word = (uint32_t)r->ids[i], id = shard_is_chat(s) ? word & CHAT_ID : word;
            if (id >= (uint64_t)s->header.vocab_size)
                return shard_token_error(s, at + i, id, s->header.vocab_size, err);
            tokenizer_bytes(r->tok, (int)id, &length);
            bytes += length;
            documents += shard_is_chat(s) ? (word & CHAT_FIRST) != 0 : id == s->header.eot;
        }
        shardwriter_add(w, r->ids, n, bytes, documents);
    }
    return true;
}

static inline bool removal_shard_doc(void *context, const RemovalShardDoc *doc, Error *err) {
    RemovalShards *r = (RemovalShards *)context;
    RemovalSide *side = &r->set->sides[doc->side];
    ShardWriter *w = &r->writers[doc->side];
    if (signals_waiting(&w->set->hold)) return error_set(err, "stopped by a signal; nothing was changed");
    if (removal_list_has(r->list, doc->record.sha256)) {
        r->set->removed++;
        r->set->removed_tokens += doc->tokens;
        removal_sums_say(&r->sums, doc->record.sha256);
        return true;
    }
    ShardDoc record = doc->record;
    record.first = 0;
    if (shard_is_chat(&side->data.shards[doc->shard])) shardwriter_keep_together(w, doc->tokens);
    shardwriter_document(w, &record, doc->document.source);
    for (int s = doc->shard; s <= doc->last; s++) {
        const Shard *shard = &side->data.shards[s];
        if (!removal_copy(r, shard, w, s == doc->shard ? doc->record.first : 0,
                          s == doc->last ? doc->end : shard->header.tokens, err))
            return false;
    }
    return true;
}

// The lists of documents as they are, where the next removal finds them.
static inline Path removal_history(const ShardName *n) { return path_of("%s/%s_history", n->folder.text, n->base); }

static inline bool removal_keep_history(const RemovalSet *set, Error *err) {
    Path folder = removal_history(&set->name);
    if (!path_make_folder(folder.text, err)) return false;
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < set->sides[side].data.count; i++) {
            const MappedFile *file = &set->sides[side].docs[i].file;
            Path path =
                path_of("%s/%016llx_%s_%05d.docs", folder.text, (unsigned long long)set->set, shard_sides[side], i);
            if (!file_write_all(path.text, file->data, file->size, err)) return false;
        }
    return true;
}

static inline bool removal_set_manifest(Str *s, const RemovalShards *r, const char *entry, Error *err) {
    Path path = shard_manifest_path(&r->set->name);
    FileKind kind;
    JsonDoc doc;
    Str said;
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT)
        return error_set(err, "%s is not there, which says what the shards were made of; copy it to them", path.text);
    Json *root = json_load(&doc, path.text, err);
    if (!root) return false;
    Json *shards = json_get(root, "shards");
    const ShardWriter *w = &r->writers[r->writers[0].count ? 0 : 1];
    for (int side = 0; side < 2; side++) {
        Json *counts = json_get(root, shard_sides[side]);
        removal_json_number(&doc, shards, shard_sides[side], (int64_t)r->writers[side].count);
        removal_json_number(&doc, counts, "documents", r->writers[side].documents);
        removal_json_number(&doc, counts, "tokens", r->writers[side].tokens);
        removal_json_number(&doc, counts, "bytes", r->writers[side].bytes);
    }
    Path set = path_of("%016llx", w->count ? (unsigned long long)w->complete[0].shard.set : 0ull);
    removal_json_string(&doc, shards, "set", set.text);
    memset(&said, 0, sizeof said);
    str_printf(&said, "{%s, \"set\": \"%016llx\", \"documents\": %lld, \"tokens\": %lld, \"sha256\": [%s]}", entry,
               (unsigned long long)r->set->set, (long long)r->set->removed, (long long)r->set->removed_tokens,
               r->sums.data ? r->sums.data : "");
    removal_manifest_write(s, root, said.data);
    free(said.data);
    json_free(&doc);
    return true;
}

// entry: members of an object that the manifest gets. Nothing is written where the set has none of the list.
static inline bool removal_set_write(RemovalSet *set, const RemovalList *list, const Tokenizer *tok, const char *entry,
                                     Error *err) {
    RemovalShards r;
    ShardSet out;
    Str manifest;
    const ShardHeader *h = removal_set_header(set);
    memset(&r, 0, sizeof r);
    memset(&manifest, 0, sizeof manifest);
    r.set = set;
    r.list = list;
    r.tok = tok;
    set->removed = set->removed_tokens = 0;
    if (!shard_set_open(&out, path_of("%s/%s", set->name.folder.text, set->name.base).text, err)) return false;
    r.ids = (int32_t *)mem_alloc(sizeof(int32_t) * REMOVAL_PIECE);
    for (int side = 0; side < 2; side++) {
        const Dataset *d = &set->sides[side].data;
        int64_t full = d->count > 1 ? d->shards[0].header.tokens : d->tokens; // no shard becomes longer than it was
        for (int i = 0; h->chat_template && i < d->count; i++) full = int64_max(full, d->shards[i].header.tokens);
        ShardHeader *to = &r.writers[side].header;
        shardwriter_open(&r.writers[side], &out, side, h->vocab_size, h->tokenizer_hash, h->eot, full);
        to->version = h->version, to->token_bytes = h->token_bytes, to->chat_template = h->chat_template;
    }
    bool ok = removal_set_visit(set, removal_shard_doc, &r, err) && shards_finish(r.writers, 2, err) &&
              removal_keep_history(set, err) && removal_set_manifest(&manifest, &r, entry, err) &&
              shards_manifest(&out, &manifest, err) && shards_commit(&out, r.writers, 2, err);
    shards_abort(&out, r.writers, 2);
    free(r.ids);
    free(r.sums.data);
    free(manifest.data);
    return ok;
}

#endif
