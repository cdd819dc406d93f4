/*
generate.h: text from a model, token by token (autoregressive): engine's logits, sampler's draws, tokenizer's bytes.
With a draft (draft.h) several tokens may come of a pass of the model.
*/
#ifndef LLMC_GENERATE_H
#define LLMC_GENERATE_H

#include "../text/text.h"
#include "../text/tokenizer.h"
#include "draft.h"
#include "options.h"

typedef struct {
    Model *model; // may be set later
    Draft *draft; // NULL: none
    const Tokenizer *tok;
    Sampler sampler;
    IdList prompt;
    int tokens;         // to generate, at most
    int context_length; // when it is full, the newer half of it is fed again and generation goes on
    FILE *echo;         // prints as it goes, or NULL
    size_t echoed;      // bytes of the text
} Generator;

// The prompt begins as the tokenizer begins every text. An empty one is the end-of-text token, behind which every
// document starts.
static inline Generator generator_open(const Options *o, const char *prompt, const Config *c, const Tokenizer *tok) {
    Generator g;
    memset(&g, 0, sizeof g);
    g.tok = tok;
    g.tokens = (int)o->tokens;
    g.sampler = sampler_create(c->vocab_size, o->temperature, (int)o->top_k, o->top_p, (uint64_t)o->seed);
    if (tok->bos >= 0) id_list_add(&g.prompt, tok->bos);
    tokenizer_encode(tok, NULL, prompt, strlen(prompt), &g.prompt);
    if (!g.prompt.count && tok->eot < 0)
        fail("this tokenizer has no end-of-text token to start a text with: give a prompt");
    if (!g.prompt.count) id_list_add(&g.prompt, tok->eot);
    return g;
}

static inline void generator_free(Generator *g) {
    sampler_free(&g->sampler);
    free(g->prompt.items);
}

static inline void generator_echo(Generator *g, const Str *text) {
    if (!g->echo || g->echoed == text->size) return;
    fwrite(text->data + g->echoed, 1, text->size - g->echoed, g->echo);
    fflush(g->echo);
    g->echoed = text->size;
}

// The text that follows the prompt, up to the end of text; to be freed. draw: number of the first random draw. False:
// the model's logits are none that a token can be chosen by; *out is what came before.
static inline bool generate(Str *out, Generator *g, uint64_t draw, Error *err) {
    int length = g->context_length, n = (int)g->prompt.count, filled = n < length ? n : length, next = 0;
    DraftRound round; // tokens that were made, of which `next` is the first that is not in the text
    int32_t *window = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)(length + 1));
    memcpy(window, g->prompt.items + n - filled, sizeof(int32_t) * (size_t)filled);
    Utf8Stream utf8; // only whole characters come out
    Str text;
    bool ok = true;
    memset(&round, 0, sizeof round);
    memset(&utf8, 0, sizeof utf8);
    memset(&text, 0, sizeof text);
    str_puts(&text, "");
    g->echoed = 0;
    for (int i = 0; i < g->tokens; i++) {
        if (next == round.count) {
            int room = length - filled < g->tokens - i - 1 ? length - filled : g->tokens - i - 1;
            DraftPlace at = {window, filled, round.fed, room, g->tok->vocab_size, draw + (uint64_t)i};
            next = 0;
            ok = draft_round(&round, g->draft, g->model, &g->sampler, &at, g->tok) ||
                 error_set(err, "the logits of the draft are not finite: take another --draft");
        }
        int token = ok && next < round.count ? round.tokens[next++] : -1, size;
        if (ok && token < 0)
            ok = error_set(err,
                           "the model's logits for token %d behind the prompt are not finite, though its weights are: "
                           "they are too large for its activations; take an earlier checkpoint",
                           i + 1);
        if (token < 0 || tokenizer_stops(g->tok, token)) break;
        const uint8_t *bytes = tokenizer_bytes(g->tok, token, &size);
        utf8_stream_push(&utf8, bytes, (size_t)size, &text);
        generator_echo(g, &text);
        if (g->echo && ferror(g->echo)) break; // nobody reads it
        if (filled == length) {
            filled = length / 2;
            round.fed = 0;
            memmove(window, window + length - filled, sizeof(int32_t) * (size_t)filled);
        }
        window[filled++] = token;
    }
    utf8_stream_finish(&utf8, &text);
    generator_echo(g, &text);
    free(window);
    *out = text;
    return ok;
}

#endif
