/*
chat_template.h: conversations as tokens, by the templates that are known: what Transformers' apply_chat_template gives.

    ChatFormat f;
    chat_format_open(&f, &tok, err)                  the template of the tokenizer's folder, ChatML where it has none
    chat_render(&out, &f, &cache, messages, n, prompt)     NULL, or why this conversation cannot be rendered

A template is a program in Jinja. None is run here: a template is known by its text, and a row of chat_templates says
what it renders, for messages of plain text without tools. One that is not known is refused, never guessed. The texts
are those of the models' own repositories; llama.cpp and TRL carry copies, by which the sums were compared.

Tokens in training are those in serving: text between special tokens is encoded by itself, as tokenizers does it, and an
answer apart from what the template puts in front of it, as a model that is asked sees it. Where both are not the same
(an answer that begins with white space that goes into one token with the line feed before it) the conversation is not
rendered but refused, and so is one that holds the name of a special token, which a server would take for the token.

What counts as a target are the answers and the token that closes each: CHAT_TARGET (chat_rows.h) is set in the token.
Qwen3's template renders the last answer with an empty <think> block, which a model has to write when it is asked, and
the answers before it without: those are never asked for in this form, and are no targets.

Mistral's templates have no beginning of an answer: it is what follows [/INST], and where they put a space before an
answer, the model writes that too. [INST] and its like are special tokens where the tokenizer has them so, and text
where it has not. Two of them put a system message before the last question alone, wherever that is: there it is
rendered for an answer that is asked for, and refused in training, where the answers before were given without it.

Llama 3.2's template puts in the date of the day; here it is the one that stands in the text for where no clock is.
*/
#ifndef LLMC_CHAT_TEMPLATE_H
#define LLMC_CHAT_TEMPLATE_H

#include "chat_rows.h"
#include "tokenizer_folder.h"

typedef enum { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_ROLES } ChatRole;

static inline const char *chat_role_name(int role) {
    static const char *const names[CHAT_ROLES] = {"system", "user", "assistant"};
    return names[role];
}

typedef struct {
    ChatRole role;
    const char *text; // (size), UTF-8
    size_t size;
} ChatMessage;

// ---------------------------------------------------------------- the table

typedef enum { SYSTEM_MESSAGE, SYSTEM_FIRST, SYSTEM_LAST, SYSTEM_NONE } ChatSystem;

// Mistral's: `before` [INST] `gap` a question `end` [/INST] `lead` an answer, eos_token, `tail`. A system message
// stands between [SYSTEM_PROMPT] `gap` and [/SYSTEM_PROMPT], or with an empty line before the first or the last
// question, or is refused; but for the first of these, questions and answers must alternate.
typedef struct {
    const char *before, *gap, *end, *lead, *tail;
    ChatSystem system;
    bool trim; // white space around an answer goes
} ChatInst;

static const char *const chat_inst_names[4] = {"[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"};

// Rows that render the same have the same name: shards say it (data.h), and may be used with each of them.
typedef struct {
    const char *name;
    const char *sha256;             // of the text, as chat_template_sum makes it
    const char *open, *named;       // special tokens before and behind the role, named: or NULL
    const char *gap, *close, *tail; // text behind the role; the special token at the end; text behind that
    const char *usual;              // the system message of a conversation without one; NULL: none
    const char *front;              // stands before every system message, which is then always there; NULL: nothing
    bool bos, trim, think;          // the token that begins a text; white space around a message goes; Qwen3's block
    const ChatInst *inst;           // what Mistral's have instead; or NULL
} ChatTemplate;

#define CHAT_ML "<|im_start|>", NULL, "\n", "<|im_end|>", "\n"
#define CHAT_LLAMA "<|start_header_id|>", "<|end_header_id|>", "\n\n", "<|eot_id|>", ""
#define CHAT_LLAMA_FRONT "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
#define CHAT_INST NULL, NULL, NULL, NULL, NULL, NULL, NULL, true, false, false
#define CHAT_THINK "<think>\n\n</think>\n\n"

static const ChatInst chat_inst_v01 = {"", " ", " ", "", " ", SYSTEM_NONE, false},
                      chat_inst_v02 = {"", " ", " ", "", "", SYSTEM_NONE, false},
                      chat_inst_v1 = {" ", " ", " ", " ", "", SYSTEM_FIRST, false},
                      chat_inst_v3 = {"", " ", "", " ", "", SYSTEM_LAST, true},
                      chat_inst_v3_tekken = {"", "", "", "", "", SYSTEM_LAST, false},
                      chat_inst_v7 = {"", " ", "", " ", "", SYSTEM_MESSAGE, false},
                      chat_inst_v7_tekken = {"", "", "", "", "", SYSTEM_MESSAGE, false};

static const ChatTemplate chat_templates[] = {
    // As it is written here, without and with the token that begins a text; as Transformers' manual has it; Unsloth's.
    {"chatml", "03496e75c42511952f1e30b01a4a03eaa166cb0a9ad2dd84b70a5d4753c25f6d", CHAT_ML, NULL, NULL, false, false,
     false, NULL},
    {"chatml-bos", "01461d9385c0415f0aafd93b6858062608e0825c2af8bce2b2b5ec5a6b9889b3", CHAT_ML, NULL, NULL, true, false,
     false, NULL},
    {"chatml", "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3", CHAT_ML, NULL, NULL, false, false,
     false, NULL},
    {"chatml", "3e3e4ccd01b95ae100e861475e34dd42d044d15858f876bb73fe2934fe1603db", CHAT_ML, NULL, NULL, false, false,
     false, NULL},
    {"qwen2", "af9c0233881b083b52ff773580215222b5440ac3d0beeeca99b76329b048f8db", CHAT_ML,
     "You are a helpful assistant", NULL, false, false, false, NULL},
    {"qwen2-dot", "793202280c0910ab26bc6eb57c8212c2417324c6d8c4efd0d10d59092ab3e3eb", CHAT_ML,
     "You are a helpful assistant.", NULL, false, false, false, NULL},
    {"qwen2-dot", "7d6302983e64f35c4ad9459413ee827d5dcfa23ba5373f58cde030c9f724f7e8", CHAT_ML, // Qwen2.5, not tuned
     "You are a helpful assistant.", NULL, false, false, false, NULL},
    {"qwen2.5", "a18cc698dd45623eb707279d08e66f7bb8d76afc89ead84016b88487b395b5cc", CHAT_ML,
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", NULL, false, false, false, NULL},
    {"qwen3", "edcd73b0e30a780c1d6f3e060c07396def3c3fa55a2c55197b10f99d1dde83e1", CHAT_ML, NULL, NULL, false, false,
     true, NULL},
    {"chatml", "aa39eed4cbfdd57aeaab518e83d06945f00df6afefba6eb985b6b85060cade95", CHAT_ML, NULL, NULL, false, false,
     false, NULL}, // Qwen3-2507 Instruct
    {"smollm2", "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", CHAT_ML,
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face", NULL, false, false, false, NULL},
    {"llama3", "b48c47f6443892716176eb200bf4ef108f64e06ca26ed0fa8ebc0a4b3992fcb2", CHAT_LLAMA, NULL, NULL, true, true,
     false, NULL}, // its first text, which always puts the beginning of an answer behind the messages
    {"llama3", "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122", CHAT_LLAMA, NULL, NULL, true, true,
     false, NULL},
    {"llama3.1", "99799a835a31e1d33c4a9c7ee8a0de3923b291a95155ed6dc8efcbd0fe1d0238", CHAT_LLAMA, NULL, CHAT_LLAMA_FRONT,
     true, true, false, NULL}, // and 3.3
    {"llama3.1", "0cac23ffd2b33ff7b039e17ee143a080053318146fdc788f1d49ed4745aa8683", CHAT_LLAMA, NULL, CHAT_LLAMA_FRONT,
     true, true, false, NULL}, // 3.2
    {"mistral-v0.1", "7e995b379ec01747807246483647cd99030abf331653f1119e16d7ac041a3495", CHAT_INST,
     &chat_inst_v01}, // 7B Instruct v0.1 as it was published
    {"mistral-v0.2", "26a59556925c987317ce5291811ba3b7f32ec4c647c400c6cc7e3a9993007ba7", CHAT_INST,
     &chat_inst_v02}, // 7B Instruct v0.2, Mixtral 8x7B
    {"mistral-v1", "1c6594f8393552ef16bbf3ddecb67d8258fb8d66339a1a092a8f8496061f02d3", CHAT_INST,
     &chat_inst_v1}, // of all three, later
    {"mistral-v3", "9074ed36d7503f0f63bd70ef4a0db1e12ec90718aef446404917f5ee3216e2f3", CHAT_INST,
     &chat_inst_v3}, // 7B Instruct v0.3, Large 2407
    {"mistral-v3-tekken", "1127255163dd25a2fd472f9901035aa9e78dc77ca33efdd010f5c8ea87e5d436", CHAT_INST,
     &chat_inst_v3_tekken}, // Nemo 2407
    {"mistral-v7", "3c4ad5fa60dd8c7ccdf82fa4225864c903e107728fcaf859fa6052cb80c92ee9", CHAT_INST,
     &chat_inst_v7}, // Large 2411
    {"mistral-v7-tekken", "d99c0a28fd4eebd7ba2cc0309651f6d7c5486024989bc42f6bb4cc558d553689", CHAT_INST,
     &chat_inst_v7_tekken}, // Small 2501
};
enum { CHAT_TEMPLATE_COUNT = sizeof chat_templates / sizeof *chat_templates };

// ChatML for a model that has no template. bos: its tokenizer begins every text with a token.
static inline const char *chat_ml_text(bool bos) {
#define CHAT_ML_TEXT                                                                                                   \
    "{%- for message in messages -%}\n"                                                                                \
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}\n"                        \
    "{%- endfor -%}\n"                                                                                                 \
    "{%- if add_generation_prompt -%}\n"                                                                               \
    "{{- '<|im_start|>assistant\\n' -}}\n"                                                                             \
    "{%- endif -%}\n"
    return bos ? "{{- bos_token -}}\n" CHAT_ML_TEXT : CHAT_ML_TEXT;
}

// SHA-256 of a template's text, which may differ in a line feed at its end, and in whether a line feed in a string
// literal of Jinja is one or its escape: both render the same.
static inline void chat_template_sum(char hex[65], const char *text) {
    Sha256 s;
    uint8_t digest[32];
    size_t n = strlen(text);
    bool code = false;
    char quote = 0;
    if (n && text[n - 1] == '\n') n--;
    sha256_init(&s);
    for (size_t i = 0, step; i < n; i += step) {
        const char *p = text + i, next = i + 1 < n ? p[1] : 0;
        step = 1;
        if (!code) {
            code = *p == '{' && (next == '{' || next == '%');
            if (code) step = 2;
        } else if (!quote) {
            if (next == '}' && (*p == '}' || *p == '%')) code = false, step = 2;
            else if (*p == '\'' || *p == '"') quote = *p;
        } else if (*p == '\\' && next) {
            step = 2;
            if (next == 'n') p = "\n";
        } else if (*p == quote) quote = 0;
        sha256_update(&s, p, step == 2 && *p == '\n' ? 1 : step);
    }
    sha256_final(digest, &s);
    sha256_hex(hex, digest);
}

static inline const ChatTemplate *chat_template_find(const char *text) {
    char sum[65];
    chat_template_sum(sum, text);
    for (int i = 0; i < CHAT_TEMPLATE_COUNT; i++)
        if (strcmp(chat_templates[i].sha256, sum) == 0) return &chat_templates[i];
    return NULL;
}

// ---------------------------------------------------------------- a tokenizer and its template

typedef struct {
    const ChatTemplate *row;
    const Tokenizer *tok;
    int open, named, close, bos; // ids; -1: the template has none
    int inst[4];                 // of chat_inst_names; -1: text
    bool starts[256];            // first bytes of the names of special tokens
} ChatFormat;

// The text of the template that the folder of a tokenizer has; *own NULL: none.
static inline bool chat_template_text(char **own, const Tokenizer *tok, Error *err) {
    StrList names, texts;
    memset(&names, 0, sizeof names);
    memset(&texts, 0, sizeof texts);
    *own = NULL;
    bool ok = tokenizer_chat_templates(&names, &texts, tok, err);
    for (int i = 0; ok && i < names.count; i++)
        if (!*own && strcmp(names.items[i], "default") == 0) *own = str_copy(texts.items[i]);
    if (ok && names.count && !*own)
        ok = error_set(err,
                       "the tokenizer has %d chat templates, and none is called default; it is \"%.60s\" that is "
                       "there: name one of them so",
                       names.count, names.items[0]);
    str_list_free(&names);
    str_list_free(&texts);
    return ok;
}

// A special token that takes white space beside it with it would give other tokens than are rendered here.
static inline bool chat_token_plain(const Tokenizer *tok, const char *name, Error *err) {
    static const char *const options[3] = {"lstrip", "rstrip", "single_word"};
    JsonDoc doc;
    const Json *root = json_parse(&doc, tok->json, tok->json_size, err), *added = json_get(root, "added_tokens");
    bool ok = root != NULL;
    for (const Json *j = added ? added->child : NULL; ok && j; j = j->next)
        for (int i = 0; ok && i < 3; i++)
            if (strcmp(json_string(json_get(j, "content"), ""), name) == 0 && json_bool(json_get(j, options[i]), false))
                ok = error_set(err,
                               "the token %s of the chat template has \"%s\": true in tokenizer.json, which is not "
                               "supported",
                               name, options[i]);
    if (root) json_free(&doc);
    return ok;
}

static inline bool chat_token(int *id, const ChatFormat *f, const char *name, Error *err) {
    *id = -1;
    if (!name) return true;
    *id = tokenizer_special(f->tok, name);
    if (*id >= 0 && tokenizer_kind(f->tok, *id) == TOKEN_SPECIAL) return chat_token_plain(f->tok, name, err);
    return error_set(err, "the chat template %s needs the special token %s, which the tokenizer has not", f->row->name,
                     name);
}

static inline bool chat_format_of(ChatFormat *f, const ChatTemplate *row, const Tokenizer *tok, Error *err) {
    memset(f, 0, sizeof *f);
    f->row = row;
    f->tok = tok;
    f->bos = row->bos ? (tok->bos >= 0 ? tok->bos : tok->bos_named) : -1;
    if (row->bos && f->bos < 0)
        return error_set(err, "the chat template %s begins with bos_token, which the tokenizer's files do not name",
                         row->name);
    for (int id = 0; id < tok->vocab_size; id++)
        if (tok->kinds[id] == TOKEN_SPECIAL) f->starts[(uint8_t)*tokenizer_name(tok, id)] = true;
    for (int i = 0; i < 4; i++) {
        f->inst[i] = row->inst ? tokenizer_special(tok, chat_inst_names[i]) : -1;
        if (f->inst[i] >= 0 && !chat_token_plain(tok, chat_inst_names[i], err)) return false;
    }
    if (row->inst && (tok->eot < 0 || tokenizer_kind(tok, tok->eot) != TOKEN_SPECIAL))
        return error_set(err,
                         "the chat template %s ends answers with eos_token, which the tokenizer's files do not name, "
                         "or "
                         "not as a special token",
                         row->name);
    if (row->inst) {
        f->open = f->named = -1, f->close = tok->eot;
        return chat_token_plain(tok, tokenizer_name(tok, tok->eot), err);
    }
    return chat_token(&f->open, f, row->open, err) && chat_token(&f->named, f, row->named, err) &&
           chat_token(&f->close, f, row->close, err);
}

// The format of a tokenizer's folder; one without a template is refused here (chat_tokens.h gives it one).
static inline bool chat_format_open(ChatFormat *f, const Tokenizer *tok, Error *err) {
    char *text, sum[65];
    if (!chat_template_text(&text, tok, err)) return false;
    if (!text) return error_set(err, "the tokenizer has no chat template");
    const ChatTemplate *row = chat_template_find(text);
    chat_template_sum(sum, text);
    bool ok = row ? chat_format_of(f, row, tok, err)
                  : error_set(err,
                              "the chat template of the tokenizer's folder is none of those that are known here (its "
                              "text has the sum %.16s; it begins \"%.60s\"): take a model with ChatML, or the template "
                              "of Llama 3, Qwen2, Qwen2.5, Qwen3, SmolLM2 or Mistral; or take chat_template out of the "
                              "folder "
                              "(chat_template.jinja, and the key in tokenizer_config.json), and ChatML is put in",
                              sum, text);
    free(text);
    return ok;
}

// ---------------------------------------------------------------- rendering

// Python's str.strip: white space of Unicode, and the separators U+001C to U+001F.
static inline bool chat_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static inline void chat_trim(const char **text, size_t *size) {
    const uint8_t *p = (const uint8_t *)*text, *end = p + *size, *last = p;
    uint32_t c;
    while (p < end) {
        int n = text_decode_valid(p, &c);
        if (!chat_is_space(c)) break;
        p += n;
    }
    for (const uint8_t *q = last = p; q < end;) {
        q += text_decode_valid(q, &c);
        if (!chat_is_space(c)) last = q;
    }
    *text = (const char *)p;
    *size = (size_t)(last - p);
}

// The name of a special token stands in a text; NULL: none does.
static inline const char *chat_special_in(const ChatFormat *f, const char *text, size_t n) {
    const Tokenizer *tok = f->tok;
    size_t i = 0;
    while (i < n && !f->starts[(uint8_t)text[i]]) i++;
    for (int id = 0; i < n && id < tok->vocab_size; id++)
        if (tok->kinds[id] == TOKEN_SPECIAL) {
            const char *name = tokenizer_name(tok, id);
            if (memmem(text + i, n - i, name, strlen(name))) return name;
        }
    return NULL;
}

typedef struct {
    const ChatFormat *f;
    TokenizerCache *cache;
    IdList *out;
    IdList apart;
    Str text; // that no special token has closed yet
    int cuts; // where an answer begins in it, and what of it a server may write itself
    size_t cut[2];
    bool same; // answers have the tokens that they have apart
} ChatRender;

// Encodes the text that waits; from `cut` on it is a target.
static inline void chat_flush(ChatRender *r) {
    size_t before = r->out->count, from = 0;
    tokenizer_encode(r->f->tok, r->cache, r->text.data, r->text.size, r->out);
    r->apart.count = 0;
    for (int i = 0; i < r->cuts; i++) {
        tokenizer_encode(r->f->tok, r->cache, r->text.data + from, r->cut[i] - from, &r->apart);
        from = r->cut[i];
        if (i == 0 && before + r->apart.count <= r->out->count)
            for (size_t k = before + r->apart.count; k < r->out->count; k++)
                r->out->items[k] = (int32_t)((uint32_t)r->out->items[k] | CHAT_TARGET);
    }
    if (r->cuts) {
        tokenizer_encode(r->f->tok, r->cache, r->text.data + from, r->text.size - from, &r->apart);
        bool same = r->apart.count == r->out->count - before;
        for (size_t k = 0; same && k < r->apart.count; k++)
            same = r->apart.items[k] == (int32_t)((uint32_t)r->out->items[before + k] & CHAT_ID);
        r->same = r->same && same;
    }
    r->text.size = 0;
    r->cuts = 0;
}

static inline void chat_add_special(ChatRender *r, int id, bool target) {
    if (id < 0) return;
    chat_flush(r);
    id_list_add(r->out, (int32_t)((uint32_t)id | (target ? CHAT_TARGET : 0)));
}

static inline void chat_add_head(ChatRender *r, ChatRole role) {
    chat_add_special(r, r->f->open, false);
    str_puts(&r->text, chat_role_name(role));
    chat_add_special(r, r->f->named, false);
    str_puts(&r->text, r->f->row->gap);
}

// think: the empty block stands before the answer. target: it counts.
static inline void chat_add_message(ChatRender *r, ChatMessage m, bool think, bool target) {
    chat_add_head(r, m.role);
    if (target) r->cut[r->cuts++] = r->text.size;
    if (think) {
        str_puts(&r->text, CHAT_THINK);
        if (target) r->cut[r->cuts++] = r->text.size;
        while (m.size && *m.text == '\n') m.text++, m.size--;
    }
    str_add(&r->text, m.text, m.size);
    chat_add_special(r, r->f->close, target);
    str_puts(&r->text, r->f->row->tail);
}

static inline void chat_add_system(ChatRender *r, const ChatMessage *first) {
    const ChatTemplate *row = r->f->row;
    Str text;
    ChatMessage m = {CHAT_SYSTEM, "", 0};
    memset(&text, 0, sizeof text);
    str_puts(&text, row->front ? row->front : row->usual);
    if (first) {
        m = *first;
        chat_trim(&m.text, &m.size);
        str_add(&text, m.text, m.size);
    }
    m.text = text.data, m.size = text.size;
    chat_add_message(r, m, false, false);
    free(text.data);
}

// A part of chat_inst_names, with text before and behind it.
static inline void chat_add_inst(ChatRender *r, const char *before, int part, const char *behind) {
    str_puts(&r->text, before);
    if (r->f->inst[part] >= 0) chat_add_special(r, r->f->inst[part], false);
    else str_puts(&r->text, chat_inst_names[part]);
    str_puts(&r->text, behind);
}

// Why Mistral's templates refuse a conversation; NULL: they do not.
static inline const char *chat_inst_refuses(const ChatInst *t, const ChatMessage *messages, int n, bool prompt) {
    if (t->system == SYSTEM_MESSAGE) return NULL;
    bool system = n && messages[0].role == CHAT_SYSTEM;
    if (system && t->system == SYSTEM_NONE) return "a system message, which the template has no place for";
    if (system && t->system == SYSTEM_LAST && !prompt)
        return "a system message, which the template puts before the last question alone, and not where it was "
               "answered";
    for (int i = system; i < n; i++)
        if (messages[i].role != ((i - system) % 2 ? CHAT_ASSISTANT : CHAT_USER))
            return "messages that are not in turn of the user and the assistant, which the template refuses";
    return NULL;
}

static inline void chat_inst_render(ChatRender *r, const ChatMessage *messages, int n) {
    const ChatInst *t = r->f->row->inst;
    const bool aside = t->system != SYSTEM_MESSAGE && n && messages[0].role == CHAT_SYSTEM;
    for (int i = aside; i < n; i++) {
        ChatMessage m = messages[i];
        if (m.role == CHAT_SYSTEM) {
            chat_add_inst(r, "", 2, t->gap);
            str_add(&r->text, m.text, m.size);
            chat_add_inst(r, "", 3, "");
        } else if (m.role == CHAT_USER) {
            chat_add_inst(r, t->before, 0, t->gap);
            if (aside && i == (t->system == SYSTEM_FIRST ? 1 : n - 1)) {
                str_add(&r->text, messages[0].text, messages[0].size);
                str_puts(&r->text, "\n\n");
            }
            str_add(&r->text, m.text, m.size);
            chat_add_inst(r, t->end, 1, "");
        } else {
            r->cut[r->cuts++] = r->text.size;
            if (t->trim) chat_trim(&m.text, &m.size);
            str_puts(&r->text, t->lead);
            str_add(&r->text, m.text, m.size);
            chat_add_special(r, r->f->close, true);
            str_puts(&r->text, t->tail);
        }
    }
}

// What a template does with other things than plain text: then it is not rendered here.
static inline const char *chat_unlike(const ChatFormat *f, const ChatMessage *m) {
    static const char start[] = "<tool_response>", end[] = "</think>";
    const size_t n = sizeof start - 1;
    if (!f->row->think) return NULL;
    if (m->role == CHAT_USER && m->size >= n && memcmp(m->text, start, n) == 0)
        return "a message that Qwen3's template takes for the answer of a tool";
    return m->role == CHAT_ASSISTANT && memmem(m->text, m->size, end, sizeof end - 1) ? "a <think> block in an answer"
                                                                                      : NULL;
}

// Appends the tokens of messages (n), with CHAT_TARGET in those that count; behind them, with `prompt`, the beginning
// of an answer: then how answers before it begin is not looked at. NULL, or why not; what was appended means nothing
// then.
static inline const char *chat_render(IdList *out, const ChatFormat *f, TokenizerCache *cache,
                                      const ChatMessage *messages, int n, bool prompt) {
    ChatRender r;
    const ChatTemplate *row = f->row;
    const char *why = NULL;
    int last_user = -1, i = 0;
    memset(&r, 0, sizeof r);
    r.f = f, r.cache = cache, r.out = out, r.same = true;
    for (int k = 0; k < n && !why; k++) {
        why = chat_unlike(f, &messages[k]);
        if (!why && chat_special_in(f, messages[k].text, messages[k].size))
            why = "the name of a special token in a text";
        if (messages[k].role == CHAT_USER) last_user = k;
    }
    bool twice = n > 1 && messages[n - 1].role == CHAT_ASSISTANT && messages[n - 2].role == CHAT_ASSISTANT;
    if (!why && !prompt && row->think && twice)
        why = "two answers at the end, the first of which Qwen3's template renders otherwise where it asks for the "
              "second";
    bool system = n && messages[0].role == CHAT_SYSTEM;
    str_puts(&r.text, "");
    chat_add_special(&r, f->bos, false);
    if (row->inst && !why) why = chat_inst_refuses(row->inst, messages, n, prompt);
    if (row->inst) {
        if (!why) chat_inst_render(&r, messages, n);
        i = n;
    } else if (row->front) chat_add_system(&r, system ? &messages[i++] : NULL);
    else if (row->usual && !system) chat_add_system(&r, NULL);
    for (; i < n && !why; i++) {
        ChatMessage m = messages[i];
        bool answer = m.role == CHAT_ASSISTANT, think = answer && row->think && i == n - 1 && i > last_user;
        if (row->trim) chat_trim(&m.text, &m.size);
        chat_add_message(&r, m, think, answer && (!row->think || think));
    }
    if (prompt && !row->inst) chat_add_head(&r, CHAT_ASSISTANT);
    chat_flush(&r);
    free(r.text.data);
    free(r.apart.items);
    if (!why && !prompt && !r.same)
        why = "an answer that has other tokens behind what the template puts before it than by itself";
    return why;
}

#endif
