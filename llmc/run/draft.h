/*
draft.h: speculative decoding: a small model proposes tokens, the model looks at all of them in one pass (Leviathan,
Kalman and Matias 2023, arXiv:2211.17192, algorithm 1).

    1. the draft draws up to k tokens, one after the other, each from its own distribution q
    2. the model's pass over the text's last token and these gives its distributions p at all of the k + 1 places
    3. a token is accepted with probability min(1, p / q); the first that is not is drawn again from max(0, p - q), and
       what was proposed behind it is forgotten; where all are accepted the model's last p gives one more

p and q are what the sampler would draw from: after temperature, top-k and top-p. So text has the distribution that it
has without a draft, and greedy text is the same wherever a pass of several tokens gives the logits of single ones: in
train_gpt_cpu to the bit, up to LINEAR_FEW_ROWS tokens a pass; in train_gpt the products of other shapes may round
otherwise. Keys and values behind the text are written over by the next pass: forgetting costs nothing.

The draws of a token hang on its number and the seed alone, those of draft, acceptance and model in streams of their
own. The model's first tokens behind the prompt are made without the draft: their time is what the speed-up is told by.
*/
#ifndef LLMC_DRAFT_H
#define LLMC_DRAFT_H

#include "load.h"
#include "sample.h"

enum { DRAFT_MOST = 32, DRAFT_PLAIN = 8 }; // tokens: proposed at a time; made without the draft, to compare

// The tokens that may come at a place, and how probable each is.
typedef struct {
    int *ids;  // (count)
    double *p; // (count)
    int count;
} DraftLikely;

typedef struct {
    LoadedModel loaded;
    Model *model; // loaded's
    int tokens;   // proposed at a time, at most
    int context;  // its positions
    Sampler sampler;
    RngStream accept;
    IdList fed;    // tokens whose keys and values it has, by position
    size_t start;  // where in the text they begin
    IdList pass;   // what the model is fed
    double *dense; // (V), zeros between two calls
    double *rest;  // (V)
    int32_t ids[DRAFT_MOST];
    DraftLikely likely[DRAFT_MOST];
    // what it came to
    int64_t proposed, accepted, passes, made;
    double seconds;            // for `made` tokens
    double plain[DRAFT_PLAIN]; // (count): for each that was made without it
    int count, plain_most;
} Draft;

// Where a text stands.
typedef struct {
    const int32_t *text; // (count)
    int count, fed;      // fed: the first so many have keys and values in the model
    int room;            // proposals that may follow
    int allowed;         // tokens of the vocabulary
    uint64_t draw;       // number of the next token's draw
} DraftPlace;

// What follows it.
typedef struct {
    int32_t tokens[DRAFT_MOST + 1];
    int count; // 0: the model's logits are none that a token can be chosen by
    int fed;   // then, of the text with these tokens
} DraftRound;

// ---------------------------------------------------------------- proposals

// Feeds what the draft has not seen of a text, and returns the logits behind it. A text that is longer than its context
// it sees from a later token on, with half of the context free for more.
static inline const float *draft_feed(Draft *d, const int32_t *text, int count) {
    size_t same = 0, n = (size_t)count;
    if (n <= d->start || n - d->start > (size_t)d->context) {
        d->start = n > (size_t)d->context ? n - (size_t)(d->context + 1) / 2 : 0;
        d->fed.count = 0;
    }
    n -= d->start, text += d->start;
    while (same < d->fed.count && same + 1 < n && d->fed.items[same] == text[same]) same++;
    d->fed.count = same;
    const float *logits = model_decode(d->model, text + same, (int)(n - same), (int)same);
    for (; same < n; same++) id_list_add(&d->fed, text[same]);
    return logits;
}

// The distribution that a sampler kept, of n tokens.
static inline void draft_likely(DraftLikely *l, const Sampler *s, int n) {
    l->count = n;
    for (int i = 0; i < n; i++) l->ids[i] = s->candidates[i].id, l->p[i] = s->weights[i] / s->kept;
}

// d->ids, their distributions, and behind the text in d->pass. Returns how many, or -1: its logits are not finite.
static inline int draft_propose(Draft *d, const DraftPlace *at, const Tokenizer *tok) {
    int most = at->room < d->tokens ? at->room : d->tokens, k = 0;
    for (bool ends = false; k < most && !ends; k++) {
        const float *logits = draft_feed(d, d->pass.items, (int)d->pass.count);
        int n = sample_keep(&d->sampler, logits, at->allowed);
        if (n < 0) return -1;
        draft_likely(&d->likely[k], &d->sampler, n);
        d->ids[k] = sample_draw(&d->sampler, n, at->draw + (uint64_t)k);
        id_list_add(&d->pass, d->ids[k]);
        ends = tok && tokenizer_stops(tok, d->ids[k]); // no text goes on behind it
    }
    return k;
}

// ---------------------------------------------------------------- the model's word

static inline double draft_chance(const DraftLikely *q, int id) {
    int i = 0;
    while (i < q->count && q->ids[i] != id) i++;
    return i < q->count ? q->p[i] : 0;
}

// A token drawn from max(0, p - q), of the n that s has kept.
static inline int draft_again(Draft *d, const Sampler *s, int n, const DraftLikely *q, uint64_t index) {
    double sum = 0;
    for (int i = 0; i < q->count; i++) d->dense[q->ids[i]] = q->p[i];
    for (int i = 0; i < n; i++) {
        double more = s->weights[i] / s->kept - d->dense[s->candidates[i].id];
        sum += d->rest[i] = more > 0 ? more : 0;
    }
    for (int i = 0; i < q->count; i++) d->dense[q->ids[i]] = 0;
    if (sum <= 0) return sample_draw(s, n, index); // p is q but for roundings
    return s->candidates[sample_pick(d->rest, n, sum, (double)rng_uniform(s->stream, index))].id;
}

// The token at a place where `proposed` was drawn from q and p is what s has kept, n tokens: it, or another.
static inline int draft_judge(Draft *d, const Sampler *s, int n, const DraftLikely *q, int proposed, uint64_t index) {
    int i = 0;
    while (i < n && s->candidates[i].id != proposed) i++;
    double p = i < n ? s->weights[i] / s->kept : 0;
    if ((double)rng_uniform(d->accept, index) * draft_chance(q, proposed) < p) return proposed;
    return draft_again(d, s, n, q, index);
}

// The tokens that follow a text: one that the model draws, or with a draft (else NULL) up to k + 1. False: the draft's
// logits are not finite.
static inline bool draft_round(DraftRound *r, Draft *d, Model *model, Sampler *s, const DraftPlace *at,
                               const Tokenizer *tok) {
    r->count = 0, r->fed = at->count;
    if (!d) {
        const float *logits = model_decode(model, at->text + at->fed, at->count - at->fed, at->fed);
        int token = sample_token(s, logits, at->allowed, at->draw);
        if (token >= 0) r->tokens[r->count++] = token;
        return true;
    }
    double start = clock_seconds();
    bool begins = at->count - at->fed != 1, plain = begins || d->count < d->plain_most;
    d->pass.count = 0;
    for (int i = 0; i < at->count; i++) id_list_add(&d->pass, at->text[i]);
    int k = plain ? 0 : draft_propose(d, at, tok);
    if (k < 0) return false;
    const float *logits = model_decode_rows(model, d->pass.items + at->fed, at->count - at->fed + k, at->fed, k + 1);
    for (int i = 0; i <= k; i++) {
        int n = sample_keep(s, logits + (size_t)i * (size_t)s->vocab_size, at->allowed), token;
        if (n < 0) break;
        uint64_t index = at->draw + (uint64_t)i;
        token = i < k ? draft_judge(d, s, n, &d->likely[i], d->ids[i], index) : sample_draw(s, n, index);
        r->tokens[r->count++] = token;
        if (i == k || token != d->ids[i]) break;
        r->fed++;
    }
    double seconds = clock_seconds() - start;
    if (!begins && plain) d->plain[d->count++] = seconds;
    if (plain) return true;
    d->passes++, d->proposed += k, d->accepted += r->fed - at->count, d->made += r->count, d->seconds += seconds;
    return true;
}

// ---------------------------------------------------------------- the folder of --draft

// The buffers, for the settings of a model's sampler.
static inline void draft_prepare(Draft *d, const Options *o, int vocab_size) {
    size_t V = (size_t)vocab_size, most = o->top_k > 0 && o->top_k < vocab_size ? (size_t)o->top_k : V;
    d->tokens = (int)o->draft_tokens;
    d->sampler = sampler_create(vocab_size, o->temperature, (int)o->top_k, o->top_p, (uint64_t)o->seed);
    d->sampler.stream = rng_stream((uint64_t)o->seed, "draft");
    d->accept = rng_stream((uint64_t)o->seed, "draft.accept");
    d->dense = (double *)mem_alloc(sizeof(double) * V);
    d->rest = (double *)mem_alloc(sizeof(double) * V);
    for (int i = 0; i < d->tokens; i++) {
        d->likely[i].ids = (int *)mem_alloc(sizeof(int) * most);
        d->likely[i].p = (double *)mem_alloc(sizeof(double) * most);
    }
}

static inline void draft_close(Draft *d) {
    for (int i = 0; i < d->tokens; i++) free(d->likely[i].ids), free(d->likely[i].p);
    sampler_free(&d->sampler);
    free(d->dense), free(d->rest), free(d->fed.items), free(d->pass.items);
    if (d->loaded.model) model_unload(&d->loaded);
}

// Is the tokenizer of a folder the one that `tok` is? option: which names it; model: whose tok is.
static inline bool draft_tokenizer(const Tokenizer *tok, const char *option, const char *folder, const char *model,
                                   Error *err) {
    Tokenizer own;
    Path path = path_of("%s/tokenizer.json", folder);
    if (!tokenizer_open(&own, path.text, err)) return false;
    bool same = own.hash == tok->hash;
    int tokens = own.vocab_size;
    tokenizer_free(&own);
    return same ? true
                : error_set(err,
                            "--%s=%s has another tokenizer (%d tokens) than %s (%d tokens), so that its numbers mean "
                            "other text: take a model that was trained with the same tokenizer.json",
                            option, folder, tokens, model, tok->vocab_size);
}

// Loads --draft, for texts of `context` positions of a model whose tokenizer is tok. On all ranks, which end together,
// with one line, if it cannot be.
static inline void draft_open(Draft *d, const Options *o, const Tokenizer *tok, int context, const Dist *dist) {
    Error err;
    Options own = *o;
    Config *c = &d->loaded.config;
    ModelSetup setup;
    memset(d, 0, sizeof *d);
    memset(&setup, 0, sizeof setup);
    own.model = o->draft, own.adapter = "";
    bool folder = false, ok = model_is_folder(&folder, o->draft, &err);
    if (ok && !folder)
        ok = error_set(&err, "--draft=%s: no such folder; name that of a trained model with the same tokenizer",
                       o->draft);
    ok = ok && draft_tokenizer(tok, "draft", o->draft, *o->adapter ? o->adapter : o->model, &err) &&
         model_config(c, &own, 0, &err);
    if (ok && c->vocab_size < tok->vocab_size)
        ok = error_set(&err, "--draft=%s has embeddings for %d tokens, its tokenizer has %d", o->draft, c->vocab_size,
                       tok->vocab_size);
    dist_agree(dist, ok, &err);
    d->context = (int)int64_min(c->max_seq_len, context);
    setup.batch_size = 1;
    setup.seq_len = d->context;
    setup.dist = dist;
    model_load(&d->loaded, &own, &setup, false);
    d->model = d->loaded.model;
    d->plain_most = DRAFT_PLAIN;
    draft_prepare(d, o, c->vocab_size);
}

static inline int draft_order(const void *a, const void *b) {
    const double *x = (const double *)a, *y = (const double *)b;
    return (*x > *y) - (*x < *y);
}

// What it came to, in a line.
static inline Path draft_said(const Draft *d) {
    double sorted[DRAFT_PLAIN], drafted = d->seconds / (double)d->made;
    memcpy(sorted, d->plain, sizeof sorted);
    qsort(sorted, (size_t)d->count, sizeof *sorted, draft_order);
    double plain = sorted[DRAFT_PLAIN / 2]; // the middle one: one that had to wait must not make the draft look good
    if (!d->passes || d->count < DRAFT_PLAIN)
        return path_of("draft: too few tokens were made to tell what it is good for");
    return path_of("draft: %lld of %lld proposed tokens accepted (%.1f%%), %.2f tokens a pass; %.2f ms a token, %.2f "
                   "without it (the middle of %d tokens): %.2f times as fast",
                   (long long)d->accepted, (long long)d->proposed,
                   d->proposed ? 100 * (double)d->accepted / (double)d->proposed : 0.0,
                   (double)d->made / (double)d->passes, 1e3 * drafted, 1e3 * plain, d->count, plain / drafted);
}

// An option that only a draft has.
static inline bool draft_options(const Options *o, Error *err) {
    return *o->draft || !o->given[GIVEN_draft_tokens]
               ? true
               : error_set(err, "--draft_tokens=%lld has no effect without --draft=FOLDER: give both, or neither",
                           (long long)o->draft_tokens);
}

#endif
