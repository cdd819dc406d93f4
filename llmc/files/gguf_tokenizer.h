/*
gguf_tokenizer.h: the tokenizer of a GGUF file as a tokenizer.json and what stands beside it.

    gguf_has_tokenizer(&g)                        is there one?
    gguf_read_tokenizer(&tok, &g, err)            composed and read as any tokenizer.json is (tokenizer.h)
    gguf_same_tokens(&tok, &g, err)               does a tokenizer.json name its tokens as the file does?

Only byte-level BPE, which GGUF calls "gpt2", with a split pattern of text.h. See gguf_read.h for what a GGUF file does
not say and what is taken for it.
*/
#ifndef LLMC_GGUF_TOKENIZER_H
#define LLMC_GGUF_TOKENIZER_H

#include "gguf_read.h"

// The tokens and merges of a file.
typedef struct {
    GgufText *tokens; // (count)
    uint8_t *kinds;   // (count) TokenKind
    int count;
    int last;         // the last id that has a token
    int loose;        // from this id on added tokens need no entry in the vocabulary
    int bos, closing; // what is put around a text, or -1
    TextPattern pattern;
    bool llama; // its pre-tokenizer is llama-bpe, or has the same rules
} GgufVocab;

static inline void gguf_vocab_free(GgufVocab *v) {
    free(v->tokens);
    free(v->kinds);
}

static inline bool gguf_has_tokenizer(const GgufInput *g) { return gguf_key_find(g, "tokenizer.ggml.tokens") != NULL; }

// llama.cpp's name of the split pattern, back.
static inline bool gguf_read_pattern(GgufVocab *v, const GgufInput *g, Error *err) {
    static const struct {
        const char *name;
        TextPattern pattern;
        bool llama;
    } rows[] = {{"gpt-2", TEXT_GPT2, false},     {"llama-bpe", TEXT_LLAMA3, true}, {"llama3", TEXT_LLAMA3, true},
                {"llama-v3", TEXT_LLAMA3, true}, {"dbrx", TEXT_LLAMA3, false},     {"smaug-bpe", TEXT_LLAMA3, false},
                {"qwen2", TEXT_QWEN2, false},    {"gpt-4o", TEXT_O200K, false},    {"tekken", TEXT_TEKKEN, true}};
    GgufText model = {"missing", 7}, name = {"missing", 7};
    gguf_text_of(&model, g, "tokenizer.ggml.model");
    gguf_text_of(&name, g, "tokenizer.ggml.pre");
    if (!gguf_text_is(model, "gpt2"))
        return error_set(err,
                         "%s: its tokenizer is of the kind %s (llama: SentencePiece); this program has byte-level BPE "
                         "alone, which GGUF calls gpt2",
                         g->path, gguf_shown(model).text);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (gguf_text_is(name, rows[i].name)) {
            v->pattern = rows[i].pattern, v->llama = rows[i].llama;
            return true;
        }
    return error_set(err,
                     "%s: its tokenizer splits text as %s (tokenizer.ggml.pre); this program has gpt-2, llama-bpe, "
                     "dbrx, "
                     "qwen2, gpt-4o and tekken",
                     g->path, gguf_shown(name).text);
}

// Names and kinds of all tokens.
static inline bool gguf_read_tokens(GgufVocab *v, const GgufInput *g, Error *err) {
    const GgufValue *names = gguf_key_find(g, "tokenizer.ggml.tokens"),
                    *types = gguf_key_find(g, "tokenizer.ggml.token_type");
    if (!names || !names->array || names->type != GGUF_STRING || names->count < 1 || names->count > TOKENIZER_MAX_IDS)
        return error_set(err, "%s: tokenizer.ggml.tokens must be a list of 1 to %d names", g->path, TOKENIZER_MAX_IDS);
    if (types && (!types->array || gguf_value_bytes(types->type) != 4 || types->type == GGUF_FLOAT ||
                  types->count != names->count))
        return error_set(err,
                         "%s: tokenizer.ggml.token_type must be a list of as many whole numbers as there are tokens",
                         g->path);
    v->count = (int)names->count;
    v->tokens = (GgufText *)mem_alloc(sizeof(GgufText) * (size_t)v->count);
    v->kinds = (uint8_t *)mem_alloc((size_t)v->count);
    v->last = -1;
    GgufReader r = {names->data, g->file.data + g->file.size};
    bool whole = true; // no id so far that is not in the vocabulary
    for (int id = 0; id < v->count; id++) {
        int32_t type = GGUF_TOKEN_NORMAL;
        if (types) memcpy(&type, types->data + 4 * (size_t)id, 4);
        gguf_next_text(&v->tokens[id], &r); // gguf_next_value has walked over all of them
        if (type < GGUF_TOKEN_NORMAL || type > GGUF_TOKEN_UNUSED)
            return error_set(err, "%s: the token %d has the kind %d; a byte-level tokenizer has 1 to 5", g->path, id,
                             type);
        v->kinds[id] = type == GGUF_TOKEN_CONTROL  ? TOKEN_SPECIAL
                       : type == GGUF_TOKEN_USER   ? TOKEN_ADDED
                       : type == GGUF_TOKEN_UNUSED ? TOKEN_MISSING
                                                   : TOKEN_NORMAL;
        if (v->kinds[id] != TOKEN_MISSING) v->last = id;
        if (v->kinds[id] == TOKEN_NORMAL) v->loose = id + 1;
    }
    // Hugging Face gives an added token the next free id: one that is not so must stand in the vocabulary as well.
    for (int id = 0; id <= v->last; id++) whole = whole && v->kinds[id] != TOKEN_MISSING;
    if (!whole) v->loose = v->last + 1;
    return true;
}

// A token that stands under a key, as an id of the vocabulary; -1: there is none.
static inline bool gguf_vocab_id(int *id, const GgufVocab *v, const GgufInput *g, const char *key, Error *err) {
    double value = -1;
    bool there;
    *id = -1;
    if (!gguf_read_number(&value, &there, g, key, err)) return false;
    if (!there) return true;
    if (!(value >= 0 && value < v->count) || v->kinds[(int)value] == TOKEN_MISSING)
        return error_set(err, "%s: the key %s is %.9g, which is no token", g->path, key, value);
    *id = (int)value;
    return true;
}

// What llama.cpp puts around a text: a BOS token for llama-bpe and tekken, unless the file says otherwise.
static inline bool gguf_read_around(GgufVocab *v, const GgufInput *g, Error *err) {
    double first = v->llama, last = 0;
    bool there;
    if (!gguf_read_number(&first, &there, g, "tokenizer.ggml.add_bos_token", err) ||
        !gguf_read_number(&last, &there, g, "tokenizer.ggml.add_eos_token", err) ||
        !gguf_vocab_id(&v->bos, v, g, "tokenizer.ggml.bos_token_id", err) ||
        !gguf_vocab_id(&v->closing, v, g, "tokenizer.ggml.eos_token_id", err))
        return false;
    if (first == 0) v->bos = -1;
    if (last == 0) v->closing = -1;
    return true;
}

// ---------------------------------------------------------------- tokenizer.json

static inline void gguf_json_text(Str *s, GgufText t) { json_escape(s, t.text, t.size); }

static inline void gguf_json_added(Str *s, const GgufVocab *v) {
    const char *comma = "";
    str_puts(s, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    for (int id = 0; id < v->count; id++) {
        if (v->kinds[id] != TOKEN_SPECIAL && v->kinds[id] != TOKEN_ADDED) continue;
        str_printf(s, "%s\n    {\"id\": %d, \"content\": ", comma, id);
        gguf_json_text(s, v->tokens[id]);
        str_printf(s,
                   ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                   "\"special\": "
                   "%s}",
                   v->kinds[id] == TOKEN_SPECIAL ? "true" : "false");
        comma = ",";
    }
    str_puts(s, "\n  ],\n");
}

static inline void gguf_json_split(Str *s, const GgufVocab *v) {
    const char *regex = text_pattern(v->pattern).regex;
    str_printf(s, "  \"normalizer\": %s,\n  \"pre_tokenizer\": ",
               v->pattern == TEXT_QWEN2 ? "{\"type\": \"NFC\"}" : "null");
    if (v->pattern == TEXT_GPT2) {
        str_puts(s,
                 "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}");
    } else {
        str_puts(s,
                 "{\"type\": \"Sequence\", \"pretokenizers\": [\n    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        json_escape(s, regex, strlen(regex));
        str_puts(s, "}, \"behavior\": \"Isolated\", \"invert\": false},\n    {\"type\": \"ByteLevel\", "
                    "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}]}");
    }
    str_puts(s, ",\n");
}

// What is put around one text, and around two.
static inline void gguf_json_around(Str *s, const GgufVocab *v, int texts) {
    str_printf(s, "    \"%s\": [", texts == 1 ? "single" : "pair");
    for (int i = 0; i < texts; i++)
        for (int place = 0; place < 3; place++) {
            int id = place == 0 ? v->bos : place == 2 ? v->closing : -1;
            if (place != 1 && id < 0) continue;
            if (i || (place && v->bos >= 0) || place == 2) str_puts(s, ", ");
            if (place == 1) str_printf(s, "{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}", 'A' + i, i);
            else {
                str_puts(s, "{\"SpecialToken\": {\"id\": ");
                gguf_json_text(s, v->tokens[id]);
                str_printf(s, ", \"type_id\": %d}}", i);
            }
        }
    str_puts(s, "],\n");
}

static inline void gguf_json_processor(Str *s, const GgufVocab *v) {
    if (v->bos < 0 && v->closing < 0) {
        str_puts(s, "  \"post_processor\": null,\n");
        return;
    }
    str_puts(s, "  \"post_processor\": {\n    \"type\": \"TemplateProcessing\",\n");
    gguf_json_around(s, v, 1);
    gguf_json_around(s, v, 2);
    str_puts(s, "    \"special_tokens\": {");
    for (int i = 0; i < 2; i++) {
        int id = i ? v->closing : v->bos;
        if (id < 0 || (i && id == v->bos)) continue;
        if (i && v->bos >= 0) str_puts(s, ", ");
        gguf_json_text(s, v->tokens[id]);
        str_puts(s, ": {\"id\": ");
        gguf_json_text(s, v->tokens[id]);
        str_printf(s, ", \"ids\": [%d], \"tokens\": [", id);
        gguf_json_text(s, v->tokens[id]);
        str_puts(s, "]}");
    }
    str_puts(s, "}\n  },\n");
}

static inline bool gguf_json_merges(Str *s, const GgufInput *g, Error *err) {
    const GgufValue *merges = gguf_key_find(g, "tokenizer.ggml.merges");
    if (!merges || !merges->array || merges->type != GGUF_STRING)
        return error_set(err, "%s: tokenizer.ggml.merges must be a list of texts", g->path);
    GgufReader r = {merges->data, g->file.data + g->file.size};
    GgufText t;
    str_puts(s, "\n    },\n    \"merges\": [");
    for (uint64_t i = 0; i < merges->count && gguf_next_text(&t, &r); i++) {
        const char *space = t.size ? (const char *)memchr(t.text, ' ', t.size) : NULL;
        size_t left = space ? (size_t)(space - t.text) : 0;
        GgufText a = {t.text, left}, b = {t.text + left + 1, t.size - left - 1};
        if (!left || b.size < 1 || memchr(b.text, ' ', b.size))
            return error_set(err, "%s: entry %llu of tokenizer.ggml.merges (\"%s\") is no pair of tokens", g->path,
                             (unsigned long long)i, gguf_shown(t).text);
        str_puts(s, i ? ",\n      [" : "\n      [");
        gguf_json_text(s, a);
        str_puts(s, ", ");
        gguf_json_text(s, b);
        str_puts(s, "]");
    }
    str_puts(s, "\n    ]\n  }\n}\n");
    return true;
}

// tokenizer.json as text.
static inline bool gguf_compose(Str *s, const GgufVocab *v, const GgufInput *g, bool ignore_merges, Error *err) {
    const char *comma = "";
    s->size = 0;
    gguf_json_added(s, v);
    gguf_json_split(s, v);
    gguf_json_processor(s, v);
    str_printf(s,
               "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
               "\"use_regex\": true},\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    "
               "\"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    "
               "\"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": %s,\n    \"vocab\": {",
               ignore_merges ? "true" : "false");
    for (int id = 0; id < v->loose; id++) {
        if (v->kinds[id] == TOKEN_MISSING) continue;
        str_printf(s, "%s\n      ", comma);
        gguf_json_text(s, v->tokens[id]);
        str_printf(s, ": %d", id);
        comma = ",";
    }
    return gguf_json_merges(s, g, err);
}

// ---------------------------------------------------------------- what stands beside it

// The tokens at which a text ends, in the file's order.
static inline bool gguf_read_ends(Tokenizer *tok, const GgufVocab *v, const GgufInput *g, Error *err) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int eot = -1, bos = -1, pad = -1;
    tok->stop_count = 0;
    for (int i = 0; i < 3; i++) {
        int id;
        if (!gguf_vocab_id(&id, v, g, keys[i], err)) return false;
        if (i == 0) eot = id;
        if (id >= 0 && !tokenizer_stops(tok, id)) tok->stops[tok->stop_count++] = id;
    }
    if (!gguf_vocab_id(&bos, v, g, "tokenizer.ggml.bos_token_id", err) ||
        !gguf_vocab_id(&pad, v, g, "tokenizer.ggml.padding_token_id", err))
        return false;
    if (eot < 0)
        return error_set(err, "%s: tokenizer.ggml.eos_token_id is missing, which says where a text ends", g->path);
    tok->eot = eot, tok->end_said = true;
    tok->bos_named = bos;
    tok->pad = pad;
    return true;
}

static inline bool gguf_read_chats(Tokenizer *tok, const GgufInput *g, Error *err) {
    static const char plain[] = "tokenizer.chat_template";
    const size_t n = sizeof plain - 1;
    for (size_t i = 0; i < g->key_count; i++) {
        const GgufValue *v = &g->keys[i];
        GgufText text, name = {v->name.text + n, v->name.size - (v->name.size < n ? v->name.size : n)};
        if (v->name.size < n || memcmp(v->name.text, plain, n) != 0 || (name.size && name.text[0] != '.')) continue;
        Path key = path_of("%.*s", (int)int64_min((int64_t)v->name.size, 1000), v->name.text);
        Str copy;
        memset(&copy, 0, sizeof copy);
        if (!gguf_text_of(&text, g, key.text))
            return error_set(err, "%s: the key %s must be a text", g->path, gguf_shown(v->name).text);
        str_add(&copy, text.text, text.size);
        bool named = name.size > 1,
             good = tokenizer_is_text(&copy) && (name.size != 1) && !memchr(key.text, '/', strlen(key.text));
        if (good && named) str_list_add(&tok->chat_names, key.text + n + 1), str_list_add(&tok->chats, copy.data);
        if (!good || named) free(copy.data);
        else tok->files[TOKENIZER_TEMPLATE] = copy;
        if (!good)
            return error_set(err, "%s: the key %s is no chat template: its name or its text cannot be one of a file",
                             g->path, gguf_shown(v->name).text);
    }
    return true;
}

// The file's own tokenizer. On failure nothing is left to free.
static inline bool gguf_read_tokenizer(Tokenizer *tok, const GgufInput *g, Error *err) {
    GgufVocab v;
    Str text;
    Error why;
    int word;
    memset(&v, 0, sizeof v);
    memset(&text, 0, sizeof text);
    memset(tok, 0, sizeof *tok);
    why.text[0] = 0;
    bool ok = gguf_read_pattern(&v, g, err) && gguf_read_tokens(&v, g, err) && gguf_read_around(&v, g, err) &&
              gguf_compose(&text, &v, g, false, err);
    bool read = ok && tokenizer_parse(tok, text.data, text.size, &why);
    if (read && v.llama && !gguf_words_merge(tok, &word)) { // words are taken whole, and it makes a difference
        tokenizer_free(tok);
        read = ok = gguf_compose(&text, &v, g, true, err);
        read = read && tokenizer_parse(tok, text.data, text.size, &why);
    }
    if (ok && !read) ok = error_set(err, "%s: its tokenizer cannot be a tokenizer.json: %.700s", g->path, why.text);
    ok = ok && gguf_read_ends(tok, &v, g, err) && gguf_read_chats(tok, g, err);
    if (read && !ok) tokenizer_free(tok);
    gguf_vocab_free(&v);
    free(text.data);
    return ok;
}

// Whether a tokenizer.json names its tokens as the file does.
static inline bool gguf_same_tokens(const Tokenizer *tok, const GgufInput *g, const char *path, Error *err) {
    GgufVocab v;
    memset(&v, 0, sizeof v);
    bool ok = gguf_read_tokens(&v, g, err);
    for (int id = 0; ok && id < tok->vocab_size; id++) {
        const char *name = tokenizer_name(tok, id);
        if (tokenizer_kind(tok, id) == TOKEN_MISSING || (id < v.count && gguf_text_is(v.tokens[id], name))) continue;
        ok = error_set(err, "%s calls token %d \"%.60s\", %s calls it \"%s\": it is the tokenizer of another model",
                       path, id, name, g->path, id < v.count ? gguf_shown(v.tokens[id]).text : "nothing");
    }
    gguf_vocab_free(&v);
    return ok;
}

#endif
