/*
chat.h: the verb `chat`: a conversation with a model in the terminal, or through pipes.

    chat --model=FOLDER [--system=TEXT] [--draft=FOLDER]

A line is a message; one that ends with a backslash goes on in the next. What begins with a slash is a command (/help
lists them). The answer appears as it is made, in whole characters. The history is what the model's chat template makes
of it (chat_template.h); when it does not fit into the context any more, its oldest turns go, and that is said. Keys and
values of what stays the same at its beginning are kept from one answer to the next.

Ctrl-C stops the answer, which stays in the history as far as it came; at the prompt it discards the line. Ctrl-D ends.
Signals are asked for between tokens, and no handler runs. Without a terminal there is no prompt: lines come in, answers
go out, and all else goes to stderr.
*/
#ifndef LLMC_CHAT_H
#define LLMC_CHAT_H

#include "../text/chat_tokens.h"
#include "generate.h"
#include "load.h"
#include "stop.h"
#include <poll.h>

#define CHAT_PIECE 64 // tokens of a prompt between two looks for Ctrl-C; tunable
#define CHAT_LINE_MOST (1 << 20)

// X(name, what it does)
#define CHAT_COMMANDS(X)                                                                                               \
    X(help, "this list")                                                                                               \
    X(reset, "forget the conversation")                                                                                \
    X(system, "/system TEXT: set the system message and forget the conversation; alone: show it")                      \
    X(again, "answer the last message once more")                                                                      \
    X(quit, "end; so does Ctrl-D")

typedef struct {
    ChatRole role;
    Str text;
} ChatSaid;

typedef struct {
    const Options *o;
    Model *model;
    Draft *draft; // NULL: none
    ChatFormat format;
    Sampler sampler;
    TokenizerCache cache;
    Str system;     // empty: none
    ChatSaid *said; // (count), the system message not among them
    int count;
    size_t capacity;
    IdList fed;    // tokens whose keys and values the model has, by position
    int context;   // positions
    uint64_t turn; // answers so far
    bool terminal; // somebody sits there
    Str input;     // bytes that were read and not used
    bool ended;    // of the input
} Chat;

PRINTF_LIKE(2, 3) static inline void chat_note(const Chat *c, const char *format, ...) {
    Error line;
    va_list args;
    va_start(args, format);
    vsnprintf(line.text, sizeof line.text, format, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, c->terminal ? "[%s]\n" : "note: %s\n", line.text);
}

// Has Ctrl-C been pressed since the last call? Blocked since the start (chat_block_signals).
static inline bool chat_interrupted(void) {
    sigset_t set;
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    bool found = false;
    while (sigtimedwait(&set, NULL, &none) == SIGINT) found = true;
    return found;
}

// To be called before any thread is made, so that all inherit it.
static inline void chat_block_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

// ---------------------------------------------------------------- the history

static inline void chat_add(Chat *c, ChatRole role, const char *text, size_t size) {
    c->said = (ChatSaid *)mem_grow(c->said, &c->capacity, (size_t)c->count + 1, sizeof(ChatSaid));
    ChatSaid *s = &c->said[c->count++];
    memset(s, 0, sizeof *s);
    s->role = role;
    str_puts(&s->text, "");
    str_add(&s->text, text, size);
}

// Forgets messages from `from` on.
static inline void chat_forget(Chat *c, int from) {
    while (c->count > from) free(c->said[--c->count].text.data);
}

// Forgets the first message of the user and what follows it, up to the next one. False: there is no next one.
static inline bool chat_forget_oldest(Chat *c) {
    int n = 1;
    while (n < c->count && c->said[n].role != CHAT_USER) n++;
    if (n >= c->count) return false;
    for (int i = 0; i < n; i++) free(c->said[i].text.data);
    c->count -= n;
    memmove(c->said, c->said + n, (size_t)c->count * sizeof *c->said);
    return true;
}

// The tokens of the conversation and of the beginning of an answer. NULL, or why it cannot be rendered.
static inline const char *chat_history(IdList *ids, Chat *c) {
    int n = 0;
    ChatMessage *messages = (ChatMessage *)mem_alloc(sizeof(ChatMessage) * ((size_t)c->count + 1));
    if (c->system.size)
        messages[n].role = CHAT_SYSTEM, messages[n].text = c->system.data, messages[n++].size = c->system.size;
    for (int i = 0; i < c->count; i++, n++)
        messages[n].role = c->said[i].role, messages[n].text = c->said[i].text.data,
        messages[n].size = c->said[i].text.size;
    ids->count = 0;
    const char *why = chat_render(ids, &c->format, &c->cache, messages, n, true);
    for (size_t i = 0; i < ids->count; i++) ids->items[i] = (int32_t)((uint32_t)ids->items[i] & CHAT_ID);
    free(messages);
    return why;
}

// The same, within the context, with room for an answer. False: not even the last message fits, or cannot be rendered.
static inline bool chat_fit(IdList *ids, Chat *c) {
    int room = (int)int64_min(c->o->tokens, c->context / 2), forgotten = 0;
    const char *why = chat_history(ids, c);
    while (!why && (int64_t)ids->count + room > c->context && chat_forget_oldest(c)) {
        forgotten++;
        why = chat_history(ids, c);
    }
    if (why) chat_note(c, "this cannot be said: there is %s", why);
    else if ((int64_t)ids->count >= c->context)
        chat_note(c,
                  "this message has %zu tokens with what the template adds, and the context is of %d: make it shorter",
                  ids->count, c->context);
    else if (forgotten)
        chat_note(c, "the oldest %d turn%s no longer in the context of %d tokens, and forgotten", forgotten,
                  forgotten == 1 ? " is" : "s are", c->context);
    return !why && (int64_t)ids->count < c->context;
}

// ---------------------------------------------------------------- an answer

// Feeds what the model has not seen of ids, but for the last token. False: Ctrl-C.
static inline bool chat_feed(Chat *c, const IdList *ids) {
    size_t same = 0;
    while (same < c->fed.count && same + 1 < ids->count && c->fed.items[same] == ids->items[same]) same++;
    c->fed.count = same;
    while (c->fed.count + 1 < ids->count) {
        if (chat_interrupted()) return false;
        size_t n = ids->count - 1 - c->fed.count;
        if (n > CHAT_PIECE) n = CHAT_PIECE;
        model_decode(c->model, ids->items + c->fed.count, (int)n, (int)c->fed.count);
        for (size_t i = 0; i < n; i++) id_list_add(&c->fed, ids->items[c->fed.count]);
    }
    return true;
}

// Feeds all of ids and makes the answer's token i, with a draft also some behind it. False: Ctrl-C.
static inline bool chat_next(DraftRound *r, Chat *c, const IdList *ids, int64_t i) {
    if (!chat_feed(c, ids)) return false;
    int64_t room = int64_min(c->o->tokens - i - 1, c->context - (int64_t)ids->count);
    DraftPlace at = {ids->items,
                     (int)ids->count,
                     (int)c->fed.count,
                     (int)int64_min(room, DRAFT_MOST),
                     c->format.tok->vocab_size,
                     (c->turn << 32) + (uint64_t)i};
    if (!draft_round(r, c->draft, c->model, &c->sampler, &at, c->format.tok)) r->count = 0;
    id_list_add(&c->fed, ids->items[ids->count - 1]);
    for (int k = 0; k < r->fed - (int)ids->count; k++) id_list_add(&c->fed, r->tokens[k]);
    return true;
}

typedef enum { CHAT_ENDED, CHAT_STOPPED, CHAT_FULL, CHAT_CUT, CHAT_BROKEN } ChatEnd;

// Makes an answer, which appears as it is made.
static inline ChatEnd chat_answer(Chat *c, IdList *ids, Str *text) {
    const Tokenizer *tok = c->format.tok;
    Utf8Stream utf8;
    size_t shown = 0;
    ChatEnd end = CHAT_CUT;
    DraftRound round;
    int next = 0;
    memset(&round, 0, sizeof round);
    memset(&utf8, 0, sizeof utf8);
    for (int64_t i = 0; i < c->o->tokens; i++) {
        int size;
        bool more = true;
        if (next == round.count) next = 0, more = chat_next(&round, c, ids, i);
        if (!more || chat_interrupted()) {
            end = CHAT_STOPPED;
            break;
        }
        int token = next < round.count ? round.tokens[next++] : -1;
        if (token < 0 || tokenizer_stops(tok, token)) {
            end = token < 0 ? CHAT_BROKEN : CHAT_ENDED;
            break;
        }
        const uint8_t *bytes = tokenizer_bytes(tok, token, &size);
        utf8_stream_push(&utf8, bytes, (size_t)size, text);
        fwrite(text->data + shown, 1, text->size - shown, stdout);
        fflush(stdout);
        shown = text->size;
        if (ferror(stdout)) break; // nobody reads it
        if ((int64_t)ids->count + 1 >= c->context) {
            end = CHAT_FULL;
            break;
        }
        id_list_add(ids, token);
    }
    utf8_stream_finish(&utf8, text);
    fwrite(text->data + shown, 1, text->size - shown, stdout);
    fputs("\n", stdout);
    fflush(stdout);
    c->turn++;
    return end;
}

// What of an answer stays in the history: Qwen3's template leaves out what was thought, Mistral's put a space in front.
static inline void chat_keep(Chat *c, const Str *text) {
    static const char end[] = "</think>";
    const char *from = text->data, *to = text->data + text->size, *found;
    const ChatInst *inst = c->format.row->inst;
    if (inst && strncmp(from, inst->lead, strlen(inst->lead)) == 0) from += strlen(inst->lead);
    while (c->format.row->think && (found = (const char *)memmem(from, (size_t)(to - from), end, sizeof end - 1)))
        from = found + sizeof end - 1;
    while (!inst && from > text->data && from < to && *from == '\n') from++;
    chat_add(c, CHAT_ASSISTANT, from, (size_t)(to - from));
}

// Answers the last message.
static inline void chat_turn(Chat *c) {
    IdList ids;
    Str text;
    memset(&ids, 0, sizeof ids);
    memset(&text, 0, sizeof text);
    str_puts(&text, "");
    bool fits = chat_fit(&ids, c);
    ChatEnd end = fits ? chat_answer(c, &ids, &text) : CHAT_BROKEN;
    if (fits && end == CHAT_STOPPED) chat_note(c, "stopped");
    if (fits && end == CHAT_CUT && !ferror(stdout)) chat_note(c, "cut at --tokens=%lld", (long long)c->o->tokens);
    if (fits && end == CHAT_FULL) chat_note(c, "cut: the context of %d tokens is full", c->context);
    if (fits && end == CHAT_BROKEN)
        chat_note(c, "logits of the model%s are not finite, though the weights are: take an earlier checkpoint",
                  c->draft ? " or its draft" : "");
    if (text.size) chat_keep(c, &text);
    else chat_forget(c, c->count - 1); // there was no answer: as if nothing had been said
    free(text.data);
    free(ids.items);
}

// ---------------------------------------------------------------- input

// The next line, without its end. False: the input has ended. A Ctrl-C discards what was typed.
static inline bool chat_read_line(Chat *c, Str *line, const char *prompt) {
    struct pollfd in = {STDIN_FILENO, POLLIN, 0};
    if (c->terminal) fputs(prompt, stdout), fflush(stdout);
    for (;;) {
        char bytes[4096], *newline = c->input.size ? (char *)memchr(c->input.data, '\n', c->input.size) : NULL;
        size_t n = newline ? (size_t)(newline - c->input.data) : c->input.size;
        if (newline || (c->ended && n) || n > CHAT_LINE_MOST) {
            str_add(line, c->input.data, n);
            n += newline != NULL;
            memmove(c->input.data, c->input.data + n, c->input.size - n);
            c->input.size -= n;
            while (line->size && line->data[line->size - 1] == '\r') line->data[--line->size] = 0;
            return true;
        }
        if (c->ended) return false;
        if (chat_interrupted()) {
            c->input.size = 0;
            if (c->terminal) printf("\n[/quit or Ctrl-D ends]\n%s", prompt), fflush(stdout);
        }
        int ready = poll(&in, 1, 100);
        if (ready < 0 && errno != EINTR) c->ended = true;
        if (ready <= 0) continue;
        ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
        if (got > 0) str_add(&c->input, bytes, (size_t)got);
        else if (got == 0 || errno != EINTR) c->ended = true;
    }
}

// A message: a line, and those behind it as long as each ends with a backslash.
static inline bool chat_read(Chat *c, Str *message) {
    message->size = 0;
    str_puts(message, "");
    for (const char *prompt = "> "; chat_read_line(c, message, prompt); prompt = ". ") {
        if (!message->size || message->data[message->size - 1] != '\\') return true;
        message->data[message->size - 1] = '\n';
    }
    return message->size > 0;
}

static inline void chat_help(const Chat *c) {
    fflush(stdout);
#define X(name, words) fprintf(stderr, "/%-8s%s\n", #name, words);
    CHAT_COMMANDS(X)
#undef X
    fprintf(stderr, "%s\n", c->terminal ? "Ctrl-C stops an answer; a line that ends with \\ goes on in the next" : "");
}

// False: /quit.
static inline bool chat_command(Chat *c, const char *line) {
    size_t n = strcspn(line, " \t");
    const char *rest = line + n + strspn(line + n, " \t");
    int command = 0, known = -1;
#define X(name, words)                                                                                                 \
    if (n == strlen("/" #name) && memcmp(line, "/" #name, n) == 0) known = command;                                    \
    command++;
    CHAT_COMMANDS(X)
#undef X
#define X(name, words) CHAT_COMMAND_##name,
    enum { CHAT_COMMANDS(X) };
#undef X
    switch (known) {
    case CHAT_COMMAND_help: chat_help(c); break;
    case CHAT_COMMAND_quit: return false;
    case CHAT_COMMAND_reset: chat_forget(c, 0), chat_note(c, "forgotten"); break;
    case CHAT_COMMAND_system:
        if (!*rest) {
            chat_note(c, "system: %.800s", c->system.size ? c->system.data : "(none)");
            break;
        }
        chat_forget(c, 0);
        c->system.size = 0;
        str_puts(&c->system, rest);
        chat_note(c, "the system message is set, and the conversation forgotten");
        break;
    case CHAT_COMMAND_again:
        while (c->count && c->said[c->count - 1].role != CHAT_USER) chat_forget(c, c->count - 1);
        if (c->count) chat_turn(c);
        else chat_note(c, "nothing has been said yet");
        break;
    default: chat_note(c, "there is no command %.40s; /help lists them", line);
    }
    return true;
}

static inline void chat_loop(Chat *c) {
    Str message;
    memset(&message, 0, sizeof message);
    while (!ferror(stdout) && chat_read(c, &message)) {
        const uint8_t *p = (const uint8_t *)message.data;
        if (message.size == strspn(message.data, " \t\n")) continue;
        if (text_valid(p, p + message.size) != message.size) {
            chat_note(c, "that is not UTF-8");
            continue;
        }
        if (message.data[0] == '/') {
            if (!chat_command(c, message.data)) break;
            continue;
        }
        chat_add(c, CHAT_USER, message.data, message.size);
        chat_turn(c);
    }
    if (c->terminal && c->ended) fputs("\n", stdout);
    free(message.data);
}

// ---------------------------------------------------------------- the verb

static inline bool chat_open(Chat *c, Config *config, Tokenizer *tok, const Options *o, Error *err) {
    char *text;
    if (!generate_open(config, tok, o, err) || !chat_template_text(&text, tok, err)) return false;
    bool has = text != NULL;
    free(text);
    if (!has)
        return error_set(err,
                         "--model=%s has no chat template, so that it has not learnt to answer: fine-tune it "
                         "(tokenize --format=chat, then train), or continue texts with the verb generate",
                         o->model);
    if (o->context > config->max_seq_len)
        return error_set(err, "--context=%lld is longer than the model's %d positions", (long long)o->context,
                         config->max_seq_len);
    c->o = o;
    c->context = (int)(o->context ? o->context : int64_min(CHAT_CONTEXT, config->max_seq_len));
    c->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    c->sampler = sampler_create(config->vocab_size, o->temperature, (int)o->top_k, o->top_p, (uint64_t)o->seed);
    str_puts(&c->system, o->system);
    return chat_format_open(&c->format, tok, err);
}

static inline int verb_chat(const Options *o, Dist *dist) {
    Error err;
    Tokenizer tok;
    LoadedModel l;
    Chat c;
    Draft draft;
    ModelSetup setup;
    memset(&l, 0, sizeof l);
    memset(&c, 0, sizeof c);
    memset(&setup, 0, sizeof setup);
    if (!draft_options(o, &err) || !chat_open(&c, &l.config, &tok, o, &err)) fail("%s", err.text);
    setup.batch_size = 1;
    setup.seq_len = c.context;
    setup.dist = dist;
    model_load(&l, o, &setup, false);
    c.model = l.model;
    if (*o->draft) draft_open(c.draft = &draft, o, &tok, c.context, dist);
    if (c.terminal)
        chat_note(&c, "%s, template %s, context of %d tokens; /help lists the commands", o->model, c.format.row->name,
                  c.context);
    chat_loop(&c);
    if (c.draft) chat_note(&c, "%s", draft_said(&draft).text), draft_close(&draft);
    chat_forget(&c, 0);
    free(c.said), free(c.system.data), free(c.input.data), free(c.fed.items);
    tokenizer_cache_free(&c.cache);
    sampler_free(&c.sampler);
    tokenizer_free(&tok);
    model_unload(&l);
    return EXIT_DONE;
}

#endif
