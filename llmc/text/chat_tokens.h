/*
chat_tokens.h: a tokenizer becomes one that chats: its tokens, its template, the end of an answer.

    ChatTokens fresh;
    chat_prepare(&tok, length, &fresh, err)

A tokenizer whose folder has a chat template keeps it. One without gets ChatML, in chat_template.jinja and in
tokenizer_config.json. <|im_start|> and <|im_end|> are, in this order: the special tokens of these names; two special
tokens that are reserved or unused by their names, which are renamed; two new ones behind the vocabulary. They are then
fresh: nobody has trained them, and their rows begin as the mean of the others (embed_mean.h).

Either way an answer's last token becomes eos_token, and generated text ends there as well as where it ended before.

What comes out is a function of the tokenizer's folder alone: `tokenize` and `train` make the same.
*/
#ifndef LLMC_CHAT_TOKENS_H
#define LLMC_CHAT_TOKENS_H

#include "chat_template.h"

typedef struct {
    int32_t ids[2];
    int count; // 0: the model has been trained with its template
} ChatTokens;

// ---------------------------------------------------------------- JSON texts

typedef struct {
    const char *key, *value; // value: JSON
} ChatMember;

// An object's text with some members (count) in place of those that it has, or behind them.
static inline bool chat_set_members(Str *text, const ChatMember *members, int count, Error *err) {
    JsonDoc doc;
    Str out;
    memset(&out, 0, sizeof out);
    const Json *root = json_parse(&doc, text->data, text->size, err);
    if (!root) return false;
    const char *comma = "{\n  ";
    for (const Json *j = root->child; j; j = j->next) {
        bool replaced = false;
        for (int i = 0; i < count; i++) replaced = replaced || strcmp(members[i].key, j->key) == 0;
        if (replaced) continue;
        str_puts(&out, comma);
        json_escape(&out, j->key, j->key_size);
        str_puts(&out, ": ");
        tokenizer_add_json(&out, j);
        comma = ",\n  ";
    }
    for (int i = 0; i < count; i++, comma = ",\n  ")
        str_printf(&out, "%s\"%s\": %s", comma, members[i].key, members[i].value);
    str_puts(&out, "\n}\n");
    json_free(&doc);
    free(text->data);
    *text = out;
    return true;
}

// Every string literal "from" in a JSON text becomes "to".
static inline void chat_rename(Str *text, const char *from, const char *to) {
    Str quoted[2], out;
    memset(quoted, 0, sizeof quoted);
    memset(&out, 0, sizeof out);
    json_escape(&quoted[0], from, strlen(from));
    json_escape(&quoted[1], to, strlen(to));
    const char *p = text->data, *end = p + text->size, *found;
    str_puts(&out, "");
    while ((found = (const char *)memmem(p, (size_t)(end - p), quoted[0].data, quoted[0].size))) {
        str_add(&out, p, (size_t)(found - p));
        str_add(&out, quoted[1].data, quoted[1].size);
        p = found + quoted[0].size;
    }
    str_add(&out, p, (size_t)(end - p));
    free(quoted[0].data), free(quoted[1].data), free(text->data);
    *text = out;
}

// A tokenizer.json with one more special token, the next free id.
static inline bool chat_append(Str *text, const char *name, int id, Error *err) {
    JsonDoc doc;
    Str list;
    memset(&list, 0, sizeof list);
    const Json *root = json_parse(&doc, text->data, text->size, err), *added = json_get(root, "added_tokens");
    if (!root) return false;
    for (const Json *j = added ? added->child : NULL; j; j = j->next) {
        str_puts(&list, j == added->child ? "[\n    " : ",\n    ");
        tokenizer_add_json(&list, j);
    }
    str_printf(&list,
               "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
               "\"normalized\": false, \"special\": true}\n  ]",
               list.size ? ",\n    " : "[\n    ", id, name);
    json_free(&doc);
    ChatMember member = {"added_tokens", list.data};
    bool ok = chat_set_members(text, &member, 1, err);
    free(list.data);
    return ok;
}

// ---------------------------------------------------------------- tokens

// A special token that has no use yet; -1: there is none.
static inline int chat_unused_token(const Tokenizer *tok) {
    for (int id = 0; id < tok->vocab_size; id++) {
        const char *name = tokenizer_name(tok, id);
        if (tok->kinds[id] == TOKEN_SPECIAL && (strstr(name, "reserved") || strstr(name, "unused"))) return id;
    }
    return -1;
}

// Takes the ids and texts of `next`, which is tok with other tokens, and keeps what the folder says.
static inline void chat_replace(Tokenizer *tok, Tokenizer *next) {
    Tokenizer old = *tok;
    memcpy(next->stops, old.stops, sizeof next->stops);
    next->stop_count = old.stop_count, next->eot = old.eot, next->end_said = old.end_said;
    next->bos_named = old.bos_named, next->pad = old.pad;
    memcpy(next->files, old.files, sizeof next->files);
    next->chat_names = old.chat_names, next->chats = old.chats, next->model_ids = old.model_ids, next->note = old.note;
    memset(old.files, 0, sizeof old.files);
    memset(&old.chat_names, 0, sizeof old.chat_names);
    memset(&old.chats, 0, sizeof old.chats);
    memset(&old.model_ids, 0, sizeof old.model_ids);
    tokenizer_free(&old);
    *tok = *next;
}

// A special token of this name, there or made.
static inline bool chat_make_token(Tokenizer *tok, const char *name, int32_t *id, Error *err) {
    *id = tokenizer_special(tok, name);
    if (*id >= 0 && tok->kinds[*id] == TOKEN_SPECIAL) return true;
    if (tokenizer_named(tok, name) >= 0)
        return error_set(err, "the tokenizer has a token %s that is not special: ChatML cannot be used with it", name);
    int unused = chat_unused_token(tok);
    Str text;
    Tokenizer next;
    Error why;
    bool ok = true;
    memset(&text, 0, sizeof text);
    str_add(&text, tok->json, tok->json_size);
    if (unused >= 0) {
        const char *from = tokenizer_name(tok, unused);
        chat_rename(&text, from, name);
        for (int i = 0; i < TOKENIZER_GENERATION; i++)
            if (tok->files[i].data) chat_rename(&tok->files[i], from, name);
    } else ok = chat_append(&text, name, tok->vocab_size, err);
    if (ok && !tokenizer_parse(&next, text.data, text.size, &why))
        ok = error_set(err, "the tokenizer cannot have a token %s: %.700s", name, why.text);
    free(text.data);
    if (!ok) return false;
    chat_replace(tok, &next);
    *id = tokenizer_special(tok, name);
    return *id >= 0 ? true : error_set(err, "the tokenizer cannot have a token %s", name);
}

// ---------------------------------------------------------------- the files

static inline void chat_quote(Str *out, const char *text) {
    memset(out, 0, sizeof *out);
    json_escape(out, text, strlen(text));
}

// eos_token_id: the end of an answer before the ends that there were.
static inline bool chat_generation_ends(Tokenizer *tok, Error *err) {
    Str list, *text = &tok->files[TOKENIZER_GENERATION];
    ChatMember member = {"eos_token_id", NULL};
    memset(&list, 0, sizeof list);
    if (!text->data) return true; // huggingface.h writes it
    str_printf(&list, "[%d", tok->eot);
    for (int i = 0; i < tok->stop_count; i++)
        if (tok->stops[i] != tok->eot) str_printf(&list, ", %d", tok->stops[i]);
    str_puts(&list, "]");
    member.value = list.data;
    bool ok = chat_set_members(text, &member, 1, err);
    free(list.data);
    return ok;
}

// close: the last token of an answer. text: a template to be written, or NULL.
static inline bool chat_dress(Tokenizer *tok, int close, const char *text, int length, Error *err) {
    const int old = tok->eot;
    Str eos, quoted, *config = &tok->files[TOKENIZER_CONFIG], *map = &tok->files[TOKENIZER_SPECIAL_MAP];
    if (tok->closing >= 0 && tok->closing != close)
        return error_set(err,
                         "tokenizer.json puts %.60s behind every text, and answers would end with %.60s: take it "
                         "out of the post_processor",
                         tokenizer_name(tok, tok->closing), tokenizer_name(tok, close));
    if (tok->bos_named < 0) tok->bos_named = old;
    if (tok->pad < 0) tok->pad = old;
    if (!config->data && !tokenizer_config_text(config, tok, length, err)) return false;
    chat_quote(&eos, tokenizer_name(tok, close));
    chat_quote(&quoted, text ? text : "");
    const ChatMember members[2] = {{"eos_token", eos.data}, {"chat_template", quoted.data}};
    bool ok =
        chat_set_members(config, members, text ? 2 : 1, err) && (!map->data || chat_set_members(map, members, 1, err));
    free(eos.data), free(quoted.data);
    if (text) {
        Str *file = &tok->files[TOKENIZER_TEMPLATE];
        file->size = 0;
        str_puts(file, text);
    }
    if (!tokenizer_stops(tok, close)) {
        if (tok->stop_count == TOKENIZER_MAX_STOPS) tok->stop_count--;
        tok->stops[tok->stop_count++] = close;
    }
    tok->eot = close;
    tok->end_said = true;
    tok->model_ids.size = 0; // config.json's lines are written anew
    return ok && chat_generation_ends(tok, err);
}

// length: positions of the model, for a tokenizer_config.json that is not there; 0: not known.
static inline bool chat_prepare(Tokenizer *tok, int length, ChatTokens *fresh, Error *err) {
    ChatFormat f;
    char *text;
    memset(fresh, 0, sizeof *fresh);
    if (!chat_template_text(&text, tok, err)) return false;
    bool known = text != NULL;
    free(text);
    if (known)
        return chat_format_open(&f, tok, err) && (tok->eot == f.close || chat_dress(tok, f.close, NULL, length, err));
    fresh->count = 2;
    return chat_make_token(tok, "<|im_start|>", &fresh->ids[0], err) &&
           chat_make_token(tok, "<|im_end|>", &fresh->ids[1], err) &&
           chat_dress(tok, fresh->ids[1], chat_ml_text(tok->bos >= 0), length, err);
}

#endif
