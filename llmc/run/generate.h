/*
generate.h: text from a model, token by token: the engine's logits, the sampler's draws, the tokenizer's bytes.
*/
#ifndef LLMC_GENERATE_H
#define LLMC_GENERATE_H

#include "../engine.h"
#include "sample.h"
#include "../text/text.h"
#include "../text/tokenizer.h"

// Continues `prompt` (n tokens, at least one) by at most `count` tokens, handing each to `each` (which
// returns false to stop). Ends at end of text. When the context is full, the newer half of it is fed
// again and generation goes on. draw: number of the first random draw.
typedef bool (*TokenSink)(void *context, int token);

static inline void generate_tokens(Model *m, const Tokenizer *tok, Sampler *sampler, const int32_t *prompt, int n,
                                   int count, int context_length, uint64_t draw, TokenSink each, void *context) {
    int32_t *window = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)(context_length + 1));
    int keep = n < context_length ? n : context_length;
    memcpy(window, prompt + n - keep, sizeof(int32_t) * (size_t)keep);
    int filled = keep, fed = 0;
    for (int i = 0; i < count; i++) {
        const float *logits = model_decode(m, window + fed, filled - fed, fed);
        fed = filled;
        int token = sample_token(sampler, logits, tok->vocab_size, draw + (uint64_t)i);
        if (token == tok->eot || !each(context, token)) break;
        if (filled == context_length) {
            int half = context_length / 2;
            memmove(window, window + filled - half, sizeof(int32_t) * (size_t)half);
            filled = half;
            fed = 0;
        }
        window[filled++] = token;
    }
    free(window);
}

// Collects generated text; only whole characters come out.
typedef struct {
    const Tokenizer *tok;
    Utf8Stream utf8;
    Str text;
    FILE *echo; // prints as it goes, or NULL
} TextSink;

static inline bool text_sink(void *context, int token) {
    TextSink *s = (TextSink *)context;
    int length;
    const uint8_t *bytes = tokenizer_bytes(s->tok, token, &length);
    size_t before = s->text.size;
    utf8_stream_push(&s->utf8, bytes, (size_t)length, &s->text);
    if (s->echo) {
        fwrite(s->text.data ? s->text.data + before : "", 1, s->text.size - before, s->echo);
        fflush(s->echo);
    }
    return true;
}

// Tokens of a prompt; an empty one is the end-of-text token, behind which every document starts.
static inline void prompt_tokens(IdList *ids, const Tokenizer *tok, const char *prompt) {
    tokenizer_encode(tok, NULL, prompt, strlen(prompt), ids);
    if (ids->count > 0) return;
    if (tok->eot < 0) fail("this tokenizer has no end-of-text token to start a text with: give a prompt");
    id_list_add(ids, tok->eot);
}

#endif
