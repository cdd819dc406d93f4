/*
chat_inputs.h: what the verbs do with conversations, and pairs of answers, before they are trained on: `tokenize
--format=chat` and `--format=preferences`, and whether
shards of conversations and a model fit together.
*/
#ifndef LLMC_CHAT_INPUTS_H
#define LLMC_CHAT_INPUTS_H

#include "../text/chat_tokenize.h"
#include "../text/chat_tokens.h"
#include "data_checks.h"
#include "stop.h"

// ---------------------------------------------------------------- tokenize

static inline void chat_say(const ChatStats *s, const ChatJob *job, const ChatFormat *f, const ChatTokens *fresh) {
    const char *what = chat_job_words(job);
    static const char *const sides[2] = {"training", "validation"};
    for (int i = 0; i < 2; i++)
        printf("%s: %lld %ss, %lld answers, %lld tokens, of which %lld (%.1f%%) count\n", sides[i],
               (long long)s->conversations[i], what, (long long)s->answers[i], (long long)s->tokens[i],
               (long long)s->targets[i], s->tokens[i] ? 100 * (double)s->targets[i] / (double)s->tokens[i] : 0.0);
    printf("the longest %s has %lld tokens; template: %s\n", what, (long long)s->longest, f->row->name);
    for (int i = 0; i < fresh->count; i++)
        printf("%s is token %d\n", tokenizer_name(f->tok, fresh->ids[i]), (int)fresh->ids[i]);
    if (s->untrained)
        printf("%lld answers do not count: the template renders them otherwise once they are asked for\n",
               (long long)s->untrained);
    for (int i = 0; i < CHAT_REASON_COUNT; i++)
        if (s->bad[i])
            warn("left out: %lld line%s: %s; the first: %s", (long long)s->bad[i], s->bad[i] == 1 ? "" : "s",
                 chat_reason_words(i), s->first[i].text);
    for (int i = 0; i < s->damage.named.count && i < 5; i++) warn("left out: %s", s->damage.named.items[i]);
    if (s->empty) warn("%d of the input files hold no %s, %s for one", s->empty, what, s->without.text);
    if (s->doubles)
        warn("%d of the input files stand in the list twice, %s for one; their %ss are there twice", s->doubles,
             s->doubled.text, what);
}

// Options of text that conversations do not have.
static inline bool chat_options(const Options *o, Error *err) {
    const struct {
        const char *name;
        bool given;
    } others[] = {{"field", strcmp(o->field, DOC_FIELD) != 0},
                  {"end_token", *o->end_token != 0},
                  {"doc_split", o->doc_split != DOC_BLANK}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given)
            return error_set(err, "--%s has no effect with --format=%s: leave one of them out", others[i].name,
                             o->format == FORMAT_CHAT ? "chat" : "preferences");
    return true;
}

static inline int tokenize_chat(const Options *o, const char *program, const char *told) {
    Error err;
    Tokenizer tok;
    ChatTokens fresh;
    ChatFormat format;
    ChatStats stats;
    memset(&stats, 0, sizeof stats);
    ChatJob job = {&tok,
                   o->input,
                   o->val_fraction,
                   o->shard_tokens,
                   o->strict != 0,
                   program,
                   told,
                   o->format == FORMAT_PREFERENCES};
    if (!chat_options(o, &err) || !tokenizer_open(&tok, o->tokenizer, &err) || !chat_prepare(&tok, 0, &fresh, &err) ||
        !chat_format_open(&format, &tok, &err) || !chat_tokenize_files(&job, o->out, &stats, &err))
        fail("%s", err.text);
    chat_say(&stats, &job, &format, &fresh);
    if (o->val_fraction > 0 && !stats.conversations[SIDE_VAL])
        warn("there is no %s for validation, although --val_fraction=%g: give more of them", chat_job_words(&job),
             o->val_fraction);
    str_list_free(&stats.damage.named);
    tokenizer_free(&tok);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- train

// A tokenizer for shards of conversations: with its template, which must be theirs. fresh: tokens that nobody has
// trained. length: the model's positions.
static inline bool chat_inputs_tokenizer(Tokenizer *tok, ChatTokens *fresh, const Dataset *const d[2], int length,
                                         Error *err) {
    ChatFormat f;
    if (!chat_prepare(tok, length, fresh, err) || !chat_format_open(&f, tok, err)) return false;
    for (int k = 0; k < 2; k++)
        if (d[k]->chat_template && d[k]->chat_template != chat_template_id(f.row))
            return error_set(err,
                             "%s was made with another chat template than that of the model, which is %s: tokenise "
                             "again with the tokenizer.json of the model's folder",
                             d[k]->shards[0].path, f.row->name);
    return true;
}

// How full the rows are, and what was cut.
static inline void chat_inputs_log(Log *log, const Dataset *d, const char *what) {
    ChatRows sum;
    memset(&sum, 0, sizeof sum);
    for (int i = 0; i < d->count; i++) {
        const ChatRows *r = &d->shards[i].rows;
        sum.conversations += r->conversations, sum.rows += r->rows, sum.cut += r->cut, sum.left += r->left;
        sum.tokens += r->tokens, sum.targets += r->targets;
    }
    if (!d->chat_template) return;
    log_line(log, "%s: %lld %s in %lld rows of %d tokens, which are %.1f%% full; %lld tokens (%.1f%%) count", what,
             (long long)sum.conversations, d->pairs ? "pairs" : "conversations", (long long)sum.rows, d->seq_len,
             100 * (double)sum.tokens / fmax(1, (double)sum.rows * d->seq_len), (long long)sum.targets,
             100 * (double)sum.targets / fmax(1, (double)sum.tokens));
    if (d->pairs && sum.left)
        log_line(log, "%s: %lld pairs were left out, whose two sides together are longer than --seq_len=%d", what,
                 (long long)sum.left, d->seq_len);
    else if (sum.cut || sum.left)
        log_line(log,
                 "%s: %lld conversations longer than --seq_len=%d were cut behind an answer, and %lld left out, of "
                 "which "
                 "not one answer fits",
                 what, (long long)sum.cut, d->seq_len, (long long)sum.left);
}

#endif
