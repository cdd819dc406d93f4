/*
chat_tokenize.h: files of conversations -> tokens and what of them counts -> shards; `tokenize --format=chat`.

    ChatJob job;  ChatStats stats;
    chat_tokenize_files(&job, "data/chat", &stats, err)

Input: JSON lines (chat_lines.h), plain or packed, a file, folder, pattern or several. A line that is no conversation to
learn from costs itself: it is counted by its reason, the first of each named by file and line; `strict` ends the verb.
A conversation is on the side that a hash of its line says, as documents are (tokenize.h); both sides get at least one
where there are two. Lines are parsed and encoded by all OpenMP threads, in batches; shards depend on text, tokenizer
and options alone.

A conversation is written whole, as its template renders it, with its flags (chat_rows.h): how long rows are is the
business of whoever reads them. With ChatJob.pairs lines are pairs of answers (pair_lines.h), `tokenize
--format=preferences`: each is one document, its two sides behind each other up to the end of their answers, which alone
count.
*/
#ifndef LLMC_CHAT_TOKENIZE_H
#define LLMC_CHAT_TOKENIZE_H

#include "pair_lines.h"
#include "tokenize.h"

#define CHAT_BATCH ((size_t)8 << 20) // bytes of lines that are encoded at a time; may be tuned

typedef struct {
    const Tokenizer *tok;
    const char *inputs; // "FILE,GLOB,..."
    double val_fraction;
    int64_t shard_tokens; // 0: the usual number
    bool strict;
    const char *program, *options; // for the manifest
    bool pairs;                    // lines are pairs of answers
} ChatJob;

static inline const char *chat_job_words(const ChatJob *job) { return job->pairs ? "pair" : "conversation"; }

typedef struct {
    int64_t lines, bad[CHAT_REASON_COUNT];
    Path first[CHAT_REASON_COUNT]; // "FILE: line 17", the first of each reason
    int64_t conversations[2], answers[2], tokens[2], targets[2];
    int64_t longest;   // tokens
    int64_t untrained; // answers that the template renders otherwise when they are asked for
    int files, empty, doubles;
    Path without, doubled;
    DocDamage damage; // files and ends of files that could not be read
    double seconds;
} ChatStats;

typedef struct {
    char *line; // (n)
    size_t n;
    const DocFile *file;
    int64_t number, offset;
    ChatReason reason;
    const char *why; // it could not be rendered
    IdList ids;
    int64_t targets, answers, untrained;
    uint64_t hash;
} ChatLine;

typedef struct {
    const ChatJob *job;
    ChatFormat format;
    ChatStats *stats;
    DocInputs in;
    DocFile *file; // under way
    ShardWriter writers[2];
    ChatLine *lines; // (count), their texts and lists are used again
    size_t count, capacity, bytes;
    ChatLine *held; // (held_count) until both sides have one
    size_t held_count, held_capacity;
    DocCensus census;
    TokenizerCache *caches; // (threads)
    int threads;
    Error *err;
} ChatTokenize;

// ---------------------------------------------------------------- one conversation

static inline void chat_encode_line(const ChatFormat *f, ChatLine *l, TokenizerCache *cache) {
    ChatTalk talk;
    l->ids.count = 0;
    l->targets = l->answers = l->untrained = 0;
    l->why = NULL;
    l->reason = chat_talk_read(&talk, l->line, l->n);
    if (l->reason == CHAT_GOOD) l->why = chat_render(&l->ids, f, cache, talk.messages, talk.count, false);
    if (l->why) l->reason = CHAT_BAD_RENDER;
    for (int i = 0; i < talk.count; i++) l->answers += talk.messages[i].role == CHAT_ASSISTANT;
    int64_t closed = 0; // each answer by its last token
    for (size_t i = 0; i < l->ids.count; i++) {
        uint32_t word = (uint32_t)l->ids.items[i];
        l->targets += (word & CHAT_TARGET) != 0;
        closed += word == (CHAT_TARGET | (uint32_t)f->close);
    }
    if (l->reason == CHAT_GOOD && l->targets == 0) // Qwen3's template, and a user who speaks last
        l->reason = CHAT_BAD_RENDER, l->why = "no answer that its template renders as it would be asked for";
    l->untrained = l->answers - closed;
    l->hash = doc_hash(l->line, l->n);
    chat_talk_free(&talk);
    if (l->ids.count) l->ids.items[0] = (int32_t)((uint32_t)l->ids.items[0] | CHAT_FIRST);
}

// Appends a side of a pair: of its targets the last answer stays, with which it ends.
static inline void chat_encode_side(ChatLine *l, const ChatFormat *f, TokenizerCache *cache, const ChatTalk *talk,
                                    uint32_t flag) {
    size_t first = l->ids.count, end, answer;
    l->why = chat_render(&l->ids, f, cache, talk->messages, talk->count, false);
    for (end = l->ids.count; end > first && !((uint32_t)l->ids.items[end - 1] & CHAT_TARGET);) end--;
    for (answer = end; answer > first && ((uint32_t)l->ids.items[answer - 1] & CHAT_TARGET);) answer--;
    for (size_t i = first; i < answer; i++) l->ids.items[i] = (int32_t)((uint32_t)l->ids.items[i] & ~CHAT_TARGET);
    if (!l->why && answer <= first) l->why = "no answer that its template renders as it would be asked for";
    l->ids.count = end;
    l->targets += (int64_t)(end - answer);
    if (end > first) l->ids.items[first] = (int32_t)((uint32_t)l->ids.items[first] | flag);
}

static inline void chat_encode_pair(const ChatFormat *f, ChatLine *l, TokenizerCache *cache) {
    ChatTalk sides[2];
    size_t other = 0;
    l->ids.count = 0;
    l->targets = l->answers = l->untrained = 0;
    l->why = NULL;
    l->reason = pair_read(sides, l->line, l->n);
    for (int i = 0; i < 2 && l->reason == CHAT_GOOD && !l->why; i++, l->answers++) {
        if (i) other = l->ids.count;
        chat_encode_side(l, f, cache, &sides[i], i ? CHAT_OTHER : CHAT_FIRST);
    }
    if (l->why) l->reason = CHAT_BAD_RENDER;
    bool same = l->reason == CHAT_GOOD && l->ids.count == 2 * other; // where the template takes white space away
    for (size_t i = 1; same && i < other; i++) same = l->ids.items[i] == l->ids.items[other + i];
    if (same) l->reason = CHAT_BAD_SAME;
    l->hash = doc_hash(l->line, l->n);
    chat_talk_free(&sides[0]);
    chat_talk_free(&sides[1]);
}

// ---------------------------------------------------------------- writing

static inline void chat_write(ChatTokenize *t, const ChatLine *l, int side) {
    ShardWriter *w = &t->writers[side];
    ShardDoc doc;
    Sha256 sum;
    int64_t bytes = 0, n = (int64_t)l->ids.count;
    memset(&doc, 0, sizeof doc);
    sha256_init(&sum);
    sha256_update(&sum, l->line, l->n);
    sha256_final(doc.sha256, &sum);
    doc.offset = l->offset;
    for (int64_t i = 0; i < n; i++) {
        int length;
        tokenizer_bytes(t->job->tok, (int)((uint32_t)l->ids.items[i] & CHAT_ID), &length);
        bytes += length;
    }
    shardwriter_keep_together(w, n);
    shardwriter_document(w, &doc, l->file->path);
    shardwriter_add(w, l->ids.items, n, bytes, 1);
    ChatStats *s = t->stats;
    s->conversations[side]++;
    s->answers[side] += l->answers;
    s->tokens[side] += n;
    s->targets[side] += l->targets;
    s->untrained += l->untrained;
    s->longest = int64_max(s->longest, n);
}

// The conversations that waited, whose sides are known now.
static inline void chat_write_held(ChatTokenize *t) {
    for (size_t i = 0; i < t->held_count; i++) {
        ChatLine *l = &t->held[i];
        chat_write(t, l,
                   t->census.documents == 1 ? SIDE_TRAIN
                                            : census_side(&t->census, (int64_t)i, l->hash, t->job->val_fraction));
        free(l->line);
        free(l->ids.items);
    }
    t->held_count = 0;
}

static inline void chat_take(ChatTokenize *t, ChatLine *l) {
    double fraction = t->job->val_fraction;
    bool decided = census_decided(&t->census, fraction);
    census_add(&t->census, l->hash, l->n, fraction);
    if (decided) {
        chat_write(t, l, fraction > 0 && doc_below(l->hash, fraction) ? SIDE_VAL : SIDE_TRAIN);
        return;
    }
    t->held = (ChatLine *)mem_grow(t->held, &t->held_capacity, t->held_count + 1, sizeof(ChatLine));
    t->held[t->held_count++] = *l; // takes over its text and list
    l->line = NULL, l->n = 0;
    memset(&l->ids, 0, sizeof l->ids);
    if (census_decided(&t->census, fraction)) chat_write_held(t);
}

// A line that is none: counted, and the first of its kind named. False: `strict`.
static inline bool chat_refuse(ChatTokenize *t, const ChatLine *l) {
    ChatStats *s = t->stats;
    const char *why = l->why ? l->why : chat_reason_words(l->reason);
    if (s->bad[l->reason]++ == 0)
        s->first[l->reason] = path_of("%.2000s: line %lld%s%s", l->file->path, (long long)l->number, l->why ? ": " : "",
                                      l->why ? l->why : "");
    return !t->job->strict
               ? true
               : error_set(t->err, "%s: line %lld: %s; without --strict=on it would be left out and counted",
                           l->file->path, (long long)l->number, why);
}

// Encodes the lines that were collected, and writes them in their order.
static inline bool chat_flush_lines(ChatTokenize *t) {
    bool ok = true;
    void (*encode)(const ChatFormat *, ChatLine *, TokenizerCache *) =
        t->job->pairs ? chat_encode_pair : chat_encode_line;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 16) num_threads(t->threads)
    for (size_t i = 0; i < t->count; i++) encode(&t->format, &t->lines[i], &t->caches[omp_get_thread_num()]);
#else
    for (size_t i = 0; i < t->count; i++) encode(&t->format, &t->lines[i], &t->caches[0]);
#endif
    for (size_t i = 0; ok && i < t->count; i++) {
        ChatLine *l = &t->lines[i];
        if (l->reason != CHAT_GOOD) ok = chat_refuse(t, l);
        else chat_take(t, l);
    }
    if (signals_waiting(&t->writers[0].set->hold)) ok = error_set(t->err, "stopped by a signal; nothing was written");
    for (size_t i = 0; i < t->count; i++) free(t->lines[i].line), t->lines[i].line = NULL;
    t->count = t->bytes = 0;
    return ok;
}

// ---------------------------------------------------------------- reading

static inline bool chat_add_line(ChatTokenize *t, const char *line, size_t n, int64_t number, int64_t offset) {
    if (t->count == t->capacity) {
        size_t before = t->capacity;
        t->lines = (ChatLine *)mem_grow(t->lines, &t->capacity, t->count + 1, sizeof(ChatLine));
        memset(t->lines + before, 0, (t->capacity - before) * sizeof(ChatLine));
    }
    ChatLine *l = &t->lines[t->count++];
    l->line = (char *)mem_alloc(n + 1);
    memcpy(l->line, line, n);
    l->n = n;
    l->file = t->file;
    l->number = number, l->offset = offset;
    t->stats->lines++;
    t->file->documents++;
    t->file->text_bytes += (int64_t)n;
    t->file->print = (t->file->print ^ doc_hash(line, n)) * 0x9e3779b97f4a7c15ull;
    t->bytes += n;
    return t->bytes < CHAT_BATCH || chat_flush_lines(t);
}

static inline bool chat_read_file(ChatTokenize *t, DocFile *f) {
    ByteWindow w;
    DocParse p; // counts lines and damage
    const char *foreign = NULL;
    memset(&p, 0, sizeof p);
    p.settings = &t->in.settings, p.path = f->path, p.member = f->member, p.err = t->err;
    t->file = f;
    if (!window_open(&w, f->path, t->err)) return false;
    DocForm form = doc_form(&w, f->path, &foreign);
    bool ok = true;
    if (form != DOC_FORM_LINES && form != DOC_FORM_TEXT)
        ok = error_set(t->err, "%s is not JSON lines, as conversations and pairs are read from; write it as such first",
                       f->path);
    else if (foreign) ok = error_set(t->err, "%s is not JSON lines but %s", f->path, foreign);
    size_t n, step;
    if (ok && window_want(&w, 3) && memcmp(w.data, "\xef\xbb\xbf", 3) == 0) window_drop(&w, 3);
    for (; ok && doc_line(&p, &w, &n, &step); window_drop(&w, step))
        if (text_skip_space(w.data, w.data + n) < w.data + n) ok = chat_add_line(t, w.data, n, p.line, w.offset);
    ok = ok && doc_broken(&p, &w, w.size);
    ChatStats *s = t->stats;
    s->damage.count += p.damage.count;
    for (int i = 0; i < p.damage.named.count && s->damage.named.count < INPUTS_NAMED; i++)
        str_list_add(&s->damage.named, path_of("%.1000s: %s", f->path, p.damage.named.items[i]).text);
    if (ok && f->documents == 0 && s->empty++ == 0) s->without = path_of("%s", f->path);
    doc_parse_free(&p);
    window_close(&w);
    return ok;
}

// ---------------------------------------------------------------- the whole

static inline void chat_manifest_reasons(Str *s, const ChatStats *stats) {
    str_puts(s, ", \"left_out\": {");
    const char *comma = "";
    for (int i = 0; i < CHAT_REASON_COUNT; i++) {
        if (!stats->bad[i]) continue;
        str_printf(s, "%s\"%s\": {\"lines\": %lld, \"first\": ", comma, chat_reason_name(i), (long long)stats->bad[i]);
        json_escape(s, stats->first[i].text, strlen(stats->first[i].text));
        str_puts(s, "}");
        comma = ", ";
    }
    str_puts(s, "}");
}

static inline void chat_manifest(Str *s, const ChatTokenize *t, const ShardSet *set, const char *files) {
    const ChatJob *job = t->job;
    const ChatStats *stats = t->stats;
    shards_manifest_begin(s, t->writers, set, job->program);
    str_puts(s, ",\n  \"val_fraction\": ");
    json_add_number(s, job->val_fraction);
    str_printf(s,
               ",\n  \"chat\": {\"template\": \"%s\", \"pairs\": %s, \"lines\": %lld, \"answers\": [%lld, %lld], "
               "\"targets\": [%lld, %lld], \"longest\": %lld, \"answers_without_targets\": %lld",
               t->format.row->name, job->pairs ? "true" : "false", (long long)stats->lines,
               (long long)stats->answers[0], (long long)stats->answers[1], (long long)stats->targets[0],
               (long long)stats->targets[1], (long long)stats->longest, (long long)stats->untrained);
    chat_manifest_reasons(s, stats);
    str_puts(s, "}");
    shards_manifest_sides(s, t->writers, job->options, files);
    doc_inputs_describe(s, &t->in);
    str_puts(s, "\n}\n");
}

// Into a set of shards, and commits it.
static inline bool chat_run(ChatTokenize *t, ShardSet *set, Error *err) {
    Str manifest, files;
    bool ok = true;
    memset(&manifest, 0, sizeof manifest);
    memset(&files, 0, sizeof files);
    for (int i = 0; ok && i < t->in.count; i++) ok = chat_read_file(t, &t->in.files[i]);
    ok = ok && chat_flush_lines(t);
    if (ok) chat_write_held(t);
    if (ok && t->census.documents == 0 && !t->writers[0].failed)
        ok = error_set(err, "no %s in %lld lines of %d file%s", chat_job_words(t->job), (long long)t->stats->lines,
                       t->in.count, t->in.count == 1 ? "" : "s");
    for (int i = 0; !ok && t->census.documents == 0 && i < CHAT_REASON_COUNT; i++)
        if (t->stats->bad[i] == t->stats->lines && t->stats->lines)
            error_set(err, "no %s in %lld lines: each has the fault that %s", chat_job_words(t->job),
                      (long long)t->stats->lines, chat_reason_words(i));
    ok =
        ok && doc_inputs_sums(&t->in, err) && shards_finish(t->writers, 2, err) && shards_sums(&files, t->writers, err);
    if (ok) {
        t->in.damage = t->stats->damage; // lent
        chat_manifest(&manifest, t, set, files.data);
        memset(&t->in.damage, 0, sizeof t->in.damage);
        ok = shards_manifest(set, &manifest, err) && shards_commit(set, t->writers, 2, err);
    }
    free(manifest.data);
    free(files.data);
    return ok;
}

static inline void chat_tokenize_free(ChatTokenize *t) {
    doc_inputs_close(&t->in);
    for (size_t i = 0; i < t->capacity; i++) free(t->lines[i].line), free(t->lines[i].ids.items);
    for (size_t i = 0; i < t->held_count; i++) free(t->held[i].line), free(t->held[i].ids.items);
    for (int i = 0; i < t->threads; i++) tokenizer_cache_free(&t->caches[i]);
    free(t->lines), free(t->held), free(t->caches);
    free(t);
}

static inline uint64_t chat_template_id(const ChatTemplate *row) { return xxh64(row->name, strlen(row->name), 0); }

static inline void chat_open_writers(ChatTokenize *t, const ShardSet *set) {
    const ChatJob *job = t->job;
    for (int side = 0; side < 2; side++) {
        ShardWriter *w = &t->writers[side];
        shardwriter_open(w, set, side, job->tok->vocab_size, job->tok->hash, t->format.close, job->shard_tokens);
        w->header.version = job->pairs ? SHARD_PAIRS : SHARD_CHAT;
        w->header.token_bytes = 4;
        w->header.chat_template = chat_template_id(t->format.row);
    }
}

// job->tok: prepared (chat_tokens.h). On false nothing was written, and earlier shards are as they were.
static inline bool chat_tokenize_files(const ChatJob *job, const char *out_prefix, ChatStats *stats, Error *err) {
    double start = clock_seconds();
    ShardName name;
    ShardSet set;
    DocSettings settings;
    memset(&settings, 0, sizeof settings);
    settings.split = DOC_FILE, settings.strict = job->strict, settings.field = DOC_FIELD;
    if (!shard_prefix_parse(&name, out_prefix, err)) return false;
    ChatTokenize *t = (ChatTokenize *)mem_alloc(sizeof(ChatTokenize));
    if (!chat_format_open(&t->format, job->tok, err) || !doc_inputs_open(&t->in, job->inputs, &settings, err)) {
        free(t);
        return false;
    }
    t->job = job, t->stats = stats, t->err = err, t->threads = 1;
#ifdef _OPENMP
    t->threads = omp_get_max_threads();
#endif
    t->caches = (TokenizerCache *)mem_alloc((size_t)t->threads * sizeof(TokenizerCache));
    stats->files = t->in.count;
    bool ok = shard_set_open(&set, out_prefix, err);
    if (ok) {
        FileId *ids = doc_inputs_ids(&t->in);
        stats->doubles = doc_inputs_doubles(&t->in, ids, &stats->doubled);
        ok = shard_set_replaces(&name, ids, (size_t)t->in.count, err);
        free(ids);
        chat_open_writers(t, &set);
        ok = ok && chat_run(t, &set, err);
        shards_abort(&set, t->writers, 2);
    }
    chat_tokenize_free(t);
    stats->seconds = clock_seconds() - start;
    return ok;
}

#endif
