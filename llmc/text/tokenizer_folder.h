/*
tokenizer_folder.h: what stands beside a tokenizer.json: the tokens that begin and end a text, the chat template.

    tokenizer_open(&tok, "FOLDER/tokenizer.json", err)   the tokenizer with what its folder says
    tokenizer_of_model(&tok, "FOLDER", err)              a model's folder: it has the last word, and this tokenizer
    tokenizer_stops(&tok, id)                            (tokenizer.h) does a generated text end here?
    tokenizer_end_named(&tok, "<eos>", err)              --end_token
    tokenizer_write_folder(&tok, folder, length, sums, err)   all of it into a checkpoint
    tokenizer_chat_templates(&names, &texts, &tok, err)  of tokenizer_config.json or chat_template.jinja

Files, as Hugging Face Transformers 4 and 5 write them; all but config.json are kept as they are, byte for byte, and
written into every checkpoint of a run that starts from the folder:

    tokenizer_config.json     bos_token, eos_token, pad_token; add_bos_token, add_eos_token; chat_template
    special_tokens_map.json   the same three tokens, in older folders
    generation_config.json    eos_token_id: a number or a list
    config.json               bos_token_id, eos_token_id, pad_token_id
    chat_template.jinja       goes before tokenizer_config.json's, and so does additional_chat_templates/NAME.jinja

The end of a document is, in this order: what tokenizer.json itself puts behind a text; eos_token; the first
eos_token_id; a token called <|endoftext|> or the like. Generated text ends there, and at every eos_token_id of
generation_config.json (without one, of config.json). Where these do not agree tok->note says so in a line, for the
verb to print.

Refused by name, because Transformers makes another tokenizer of the folder than tokenizer.json alone is: add_bos_token,
add_eos_token or bos_token against what tokenizer.json puts around a text; add_prefix_space; a class that splits text by
a rule of its own; begin and end tokens and added_tokens_decoder entries that tokenizer.json has not, or has elsewhere;
tokenizer_config.json and special_tokens_map.json that name different tokens.
*/
#ifndef LLMC_TOKENIZER_FOLDER_H
#define LLMC_TOKENIZER_FOLDER_H

#include "../base/file.h"
#include "tokenizer.h"

#define TOKENIZER_CHATS "additional_chat_templates"
#define TOKENIZER_FILE_LIMIT ((size_t)64 << 20) // bytes of a file beside tokenizer.json

static inline const char *tokenizer_file_name(int file) {
    static const char *const names[TOKENIZER_FILES] = {"tokenizer_config.json", "special_tokens_map.json",
                                                       "generation_config.json", "chat_template.jinja"};
    return names[file];
}

// ---------------------------------------------------------------- tokens by name

// The token of this name: an added one, or else one of the vocabulary; -1: none.
static inline int tokenizer_named(const Tokenizer *tok, const char *name) {
    int id = tokenizer_special(tok, name);
    for (int i = 0; id < 0 && i < tok->vocab_size; i++)
        if (tok->kinds[i] != TOKEN_MISSING && strcmp(tokenizer_name(tok, i), name) == 0) id = i;
    return id;
}

// Reads "eos_token": "<eos>" or {"content": "<eos>", ...} or null; *name NULL: not there.
static inline bool tokenizer_read_token(const char **name, const Json *root, const char *key, const char *path,
                                        Error *err) {
    const Json *j = json_get(root, key), *content = json_is(j, JSON_OBJECT) ? json_get(j, "content") : j;
    *name = json_is(content, JSON_STRING) && content->size ? content->text : NULL;
    if (!j || j->type == JSON_NULL || *name) return true;
    return error_set(err, "%s: \"%s\" must be the name of a token, an object with its content, or null", path, key);
}

static inline bool tokenizer_not_there(const char *path, const char *key, const char *name, Error *err) {
    return error_set(err,
                     "%s: \"%s\" is %.60s, which tokenizer.json has not; Transformers would add it to the vocabulary: "
                     "name "
                     "a token that is there",
                     path, key, name);
}

// The other tokens that files name: they must be there, and no more is made of them.
static inline bool tokenizer_check_others(const Tokenizer *tok, const Json *root, const char *path, Error *err) {
    static const char *const one[] = {"unk_token", "sep_token", "cls_token", "mask_token"},
                             *const many[] = {"additional_special_tokens", "extra_special_tokens"};
    const char *name;
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        if (!tokenizer_read_token(&name, root, one[i], path, err)) return false;
        if (name && tokenizer_named(tok, name) < 0) return tokenizer_not_there(path, one[i], name, err);
    }
    TokenizerNames added; // lists may be long
    tokenizer_names_open(&added, (uint64_t)tok->vocab_size);
    for (int id = 0; id < tok->vocab_size; id++) {
        if (tok->kinds[id] < TOKEN_SPECIAL) continue;
        name = tokenizer_name(tok, id);
        TokenizerName entry = {name, strlen(name), id};
        *tokenizer_name_slot(&added, name, entry.size) = entry;
    }
    bool ok = true;
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
        const Json *list = json_get(root, many[i]);
        for (const Json *j = list ? list->child : NULL; ok && j; j = j->next) { // a list, or an object of names
            name = json_string(json_is(j, JSON_OBJECT) ? json_get(j, "content") : j, "");
            if (tokenizer_name_slot(&added, name, strlen(name))->id < 0)
                ok = tokenizer_not_there(path, many[i], name, err);
        }
    }
    free(added.slots);
    return ok;
}

// The three tokens that files name; -1: not there.
enum { NAMED_BOS, NAMED_EOS, NAMED_PAD, NAMED_TOKENS };

static inline bool tokenizer_read_named(int named[NAMED_TOKENS], const Tokenizer *tok, const Json *root,
                                        const char *path, Error *err) {
    static const char *const keys[NAMED_TOKENS] = {"bos_token", "eos_token", "pad_token"};
    for (int i = 0; i < NAMED_TOKENS; i++) {
        const char *name;
        if (!tokenizer_read_token(&name, root, keys[i], path, err)) return false;
        int id = name ? tokenizer_named(tok, name) : -1;
        if (name && id < 0) return tokenizer_not_there(path, keys[i], name, err);
        if (id >= 0 && named[i] >= 0 && named[i] != id)
            return error_set(err, "%s: \"%s\" is %.60s, tokenizer_config.json says %.60s: make them the same", path,
                             keys[i], name, tokenizer_name(tok, named[i]));
        if (id >= 0) named[i] = id;
    }
    return true;
}

// ---------------------------------------------------------------- chat templates

static inline bool tokenizer_add_template(StrList *names, StrList *texts, const char *name, const Json *text) {
    if (!json_is(text, JSON_STRING) || strlen(text->text) != text->size) return false;
    str_list_add(names, name);
    str_list_add(texts, text->text);
    return true;
}

// All chat templates and their names; the one without a name is "default". Files of their own go before those of
// tokenizer_config.json, which may be one text or a list of {"name", "template"}. False: they have another form.
static inline bool tokenizer_chat_templates(StrList *names, StrList *texts, const Tokenizer *tok, Error *err) {
    const Str *jinja = &tok->files[TOKENIZER_TEMPLATE], *config = &tok->files[TOKENIZER_CONFIG];
    if (jinja->data) {
        str_list_add(names, "default");
        str_list_add(texts, jinja->data);
    }
    for (int i = 0; i < tok->chats.count; i++) {
        str_list_add(names, tok->chat_names.items[i]);
        str_list_add(texts, tok->chats.items[i]);
    }
    if (names->count || !config->data) return true;
    JsonDoc doc;
    const Json *root = json_parse(&doc, config->data, config->size, err), *j = json_get(root, "chat_template");
    if (!root) return false;
    bool ok = !j || j->type == JSON_NULL || j->type == JSON_ARRAY || tokenizer_add_template(names, texts, "default", j);
    for (const Json *one = json_is(j, JSON_ARRAY) ? j->child : NULL; ok && one; one = one->next) {
        const char *name = json_string(json_get(one, "name"), "");
        ok = *name && tokenizer_add_template(names, texts, name, json_get(one, "template"));
    }
    json_free(&doc);
    return ok ? true
              : error_set(err, "\"chat_template\" must be a text, or a list of objects with \"name\" and "
                               "\"template\"");
}

// ---------------------------------------------------------------- tokenizer_config.json

// True if Transformers 5 splits and normalises text by a rule of this class, whatever tokenizer.json says, and it is
// another one than that of tok.
static inline bool tokenizer_other_class(const Tokenizer *tok, const char *name) {
    static const struct {
        const char *name;
        TextPattern pattern;
        bool nfc;
    } classes[] = {{"GPT2Tokenizer", TEXT_GPT2, false},
                   {"CodeGenTokenizer", TEXT_GPT2, false},
                   {"GPTNeoXTokenizer", TEXT_GPT2, true},
                   {"Qwen2Tokenizer", TEXT_QWEN2, true}};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strncmp(name, classes[i].name, strlen(classes[i].name)) == 0) // the same with Fast behind it
            return tok->pattern != classes[i].pattern || tok->nfc != classes[i].nfc;
    return false;
}

// add_bos_token and add_eos_token must say what tokenizer.json does.
static inline bool tokenizer_check_around(const Tokenizer *tok, const Json *root, const char *path, Error *err) {
    static const char *const keys[2] = {"add_bos_token", "add_eos_token"}, *const words[2] = {"in front of", "behind"};
    for (int i = 0; i < 2; i++) {
        const Json *j = json_get(root, keys[i]);
        int id = i ? tok->closing : tok->bos;
        bool says;
        if (!tokenizer_read_flag(&says, root, keys[i], false, path, err)) return false;
        if (json_is(j, JSON_BOOL) && says != (id >= 0))
            return error_set(err,
                             "%s: \"%s\" is %s, but the post_processor of tokenizer.json puts %.60s %s a text; loaders "
                             "disagree which of them counts: make them the same",
                             path, keys[i], says ? "true" : "false", id < 0 ? "nothing" : tokenizer_name(tok, id),
                             words[i]);
    }
    return true;
}

// Every entry must be the token that tokenizer.json has under that id.
static inline bool tokenizer_check_decoder(const Tokenizer *tok, const Json *root, const char *path, Error *err) {
    const Json *list;
    if (!tokenizer_read_part(&list, root, "added_tokens_decoder", JSON_OBJECT, path, err)) return false;
    for (const Json *j = list ? list->child : NULL; j; j = j->next) {
        char *end;
        long long id = strtoll(j->key, &end, 10);
        const char *name = json_string(json_get(j, "content"), "");
        if (*end || !*j->key || id < 0 || id >= tok->vocab_size || strcmp(tokenizer_name(tok, (int)id), name) != 0)
            return error_set(err,
                             "%s: added_tokens_decoder gives the id %.20s to \"%.60s\", tokenizer.json does not: "
                             "Transformers would change the vocabulary",
                             path, j->key, name);
    }
    return true;
}

static inline bool tokenizer_read_config(Tokenizer *tok, int named[NAMED_TOKENS], const Json *root, const char *path,
                                         Error *err) {
    const char *name = json_string(json_get(root, "tokenizer_class"), "");
    bool prefix;
    if (tokenizer_other_class(tok, name))
        return error_set(err,
                         "%s: \"tokenizer_class\" is %.40s, which splits and normalises text by its own rule, and "
                         "tokenizer.json has another one; PreTrainedTokenizerFast would use that of the file",
                         path, name);
    if (!tokenizer_read_flag(&prefix, root, "add_prefix_space", false, path, err)) return false;
    if (prefix) return error_set(err, "%s: \"add_prefix_space\" is not supported", path);
    if (!tokenizer_check_around(tok, root, path, err) || !tokenizer_check_decoder(tok, root, path, err) ||
        !tokenizer_check_others(tok, root, path, err) || !tokenizer_read_named(named, tok, root, path, err))
        return false;
    const int around[2] = {tok->bos, tok->closing};
    for (int i = 0; i < 2; i++)
        if (around[i] >= 0 && named[i] >= 0 && named[i] != around[i])
            return error_set(err,
                             "%s: \"%s\" is %.60s, but tokenizer.json puts %.60s %s every text: make them the same",
                             path, i ? "eos_token" : "bos_token", tokenizer_name(tok, named[i]),
                             tokenizer_name(tok, around[i]), i ? "behind" : "in front of");
    return true;
}

// ---------------------------------------------------------------- ids of config.json and generation_config.json

// Ids that a file names; those without a token are passed over: they are a class's default, and nothing makes them.
typedef struct {
    int32_t items[TOKENIZER_MAX_STOPS];
    int count;
} TokenizerIds;

// Reads "eos_token_id": 2, [2, 3] or null.
static inline bool tokenizer_read_ids(TokenizerIds *ids, const Tokenizer *tok, const Json *root, const char *key,
                                      const char *path, Error *err) {
    const Json *j = json_get(root, key), *first = json_is(j, JSON_ARRAY) ? j->child : j;
    ids->count = 0;
    if (!j || j->type == JSON_NULL) return true;
    for (const Json *one = first; one; one = j->type == JSON_ARRAY ? one->next : NULL) {
        int64_t id = json_integer(one, -1);
        if (id < 0 || id > INT32_MAX)
            return error_set(err, "%s: \"%s\" must be the id of a token, a list of ids, or null", path, key);
        if (tokenizer_kind(tok, (int)id) == TOKEN_MISSING) continue;
        if (ids->count == TOKENIZER_MAX_STOPS)
            return error_set(err, "%s: \"%s\" has more than %d ids", path, key, TOKENIZER_MAX_STOPS);
        ids->items[ids->count++] = (int32_t)id;
    }
    return true;
}

// config.json's three ids as its lines, to be written as they were; empty where it says nothing of an end.
static inline void tokenizer_keep_ids(Str *lines, const Json *root) {
    static const char *const keys[3] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    const Json *end = json_get(root, "eos_token_id");
    lines->size = 0;
    for (int i = 0; i < 3 && end && end->type != JSON_NULL; i++) {
        const Json *j = json_get(root, keys[i]);
        if (!j) continue;
        str_printf(lines, "  \"%s\": ", keys[i]);
        if (j->type == JSON_ARRAY) str_puts(lines, "[");
        for (const Json *one = j->type == JSON_ARRAY ? j->child : j; one; one = one == j ? NULL : one->next)
            str_printf(lines, "%s%s", one->type == JSON_NUMBER ? one->text : "null", one != j && one->next ? ", " : "");
        if (j->type == JSON_ARRAY) str_puts(lines, "]");
        str_puts(lines, ",\n");
    }
}

// Ends and stops, and the line that says where the files do not agree. file: which named `ids`.
static inline void tokenizer_choose_end(Tokenizer *tok, const int named[NAMED_TOKENS], const TokenizerIds *ids,
                                        const char *file) {
    bool found = tok->closing >= 0 || named[NAMED_EOS] >= 0, agree = ids->count == 0;
    tok->end_said = found || ids->count > 0;
    if (tok->closing < 0 && named[NAMED_EOS] >= 0) tok->eot = named[NAMED_EOS];
    for (int i = 0; !found && i < ids->count; i++) {
        if (tok->eot >= 0 && tokenizer_kind(tok, ids->items[i]) == TOKEN_NORMAL) continue; // a class's default
        tok->eot = ids->items[i];
        found = true;
    }
    tok->stop_count = 0;
    for (int i = 0; i < ids->count; i++) {
        agree = agree || ids->items[i] == tok->eot;
        if (!tokenizer_stops(tok, ids->items[i])) tok->stops[tok->stop_count++] = ids->items[i];
    }
    if (tok->eot >= 0 && !tokenizer_stops(tok, tok->eot)) {
        if (tok->stop_count == TOKENIZER_MAX_STOPS) tok->stop_count--;
        tok->stops[tok->stop_count++] = tok->eot;
    }
    if (!agree && tok->eot >= 0)
        error_set(&tok->note,
                  "%s ends a text with token %d (\"%.40s\"), the tokenizer with %d (\"%.40s\"): generated text ends at "
                  "each of them, documents with the second",
                  file, ids->items[0], tokenizer_name(tok, ids->items[0]), tok->eot, tokenizer_name(tok, tok->eot));
}

// ---------------------------------------------------------------- reading

// The text of a file of the folder; data NULL: there is none.
static inline bool tokenizer_read_file(Str *out, const char *path, Error *err) {
    FileKind kind;
    if (!path_look(path, &kind, err)) return false;
    free(out->data);
    memset(out, 0, sizeof *out);
    if (kind == FILE_ABSENT) return true;
    str_puts(out, "");
    return file_read(out, path, TOKENIZER_FILE_LIMIT, err);
}

// True if a text is one that a GGUF file and a JSON file can hold.
static inline bool tokenizer_is_text(const Str *text) {
    const uint8_t *p = (const uint8_t *)text->data;
    return !p || (text_valid(p, p + text->size) == text->size && strlen(text->data) == text->size);
}

// additional_chat_templates/NAME.jinja, which Transformers writes where there are several.
static inline bool tokenizer_read_chats(Tokenizer *tok, const char *folder, Error *err) {
    Path place = path_of("%.3000s/" TOKENIZER_CHATS, folder);
    FileKind kind;
    StrList names;
    memset(&names, 0, sizeof names);
    str_list_free(&tok->chat_names);
    str_list_free(&tok->chats);
    if (!path_look(place.text, &kind, err)) return false;
    bool ok = kind == FILE_ABSENT || folder_list(&names, place.text, err);
    for (int i = 0; ok && i < names.count; i++) {
        if (!str_ends_with(names.items[i], ".jinja")) continue;
        Path path = path_of("%.3500s/%.500s", place.text, names.items[i]);
        Str text;
        memset(&text, 0, sizeof text);
        str_puts(&text, "");
        ok = file_read(&text, path.text, TOKENIZER_FILE_LIMIT, err);
        if (ok && !tokenizer_is_text(&text)) ok = error_set(err, "%s is not UTF-8 text", path.text);
        names.items[i][strlen(names.items[i]) - strlen(".jinja")] = 0;
        str_list_add(&tok->chat_names, names.items[i]);
        str_list_add(&tok->chats, text.data);
        free(text.data);
    }
    str_list_free(&names);
    return ok;
}

// A JSON file of the folder; *root NULL: there is none.
static inline bool tokenizer_read_json(JsonDoc *doc, const Json **root, const Str *text, const char *path, Error *err) {
    Error why;
    memset(doc, 0, sizeof *doc);
    *root = NULL;
    if (!text->data) return true;
    *root = json_parse(doc, text->data, text->size, &why);
    if (!*root || !json_unique(*root, &why)) return error_set(err, "%s: %.900s", path, why.text);
    return json_is(*root, JSON_OBJECT) ? true : error_set(err, "%s: expected an object", path);
}

// The ids of config.json or generation_config.json; *ends: its eos_token_id. What a tokenizer itself puts in front of a
// text counts, whatever they say.
static inline bool tokenizer_read_model_ids(TokenizerIds *ends, Tokenizer *tok, const Json *root, const char *path,
                                            Error *err) {
    TokenizerIds ids;
    if (!tokenizer_read_ids(&ids, tok, root, "pad_token_id", path, err) ||
        !tokenizer_read_ids(&ids, tok, root, "bos_token_id", path, err) ||
        !tokenizer_read_ids(ends, tok, root, "eos_token_id", path, err))
        return false;
    if (tok->bos >= 0 && ids.count && ids.items[0] != tok->bos)
        error_set(&tok->note,
                  "%s begins a text with token %d (\"%.40s\"), tokenizer.json with %d (\"%.40s\"): texts begin with "
                  "the "
                  "second",
                  path, ids.items[0], tokenizer_name(tok, ids.items[0]), tok->bos, tokenizer_name(tok, tok->bos));
    return true;
}

static inline bool tokenizer_check_chats(const Tokenizer *tok, const char *path, Error *err) {
    StrList names, texts;
    Error why;
    memset(&names, 0, sizeof names);
    memset(&texts, 0, sizeof texts);
    bool ok = tokenizer_chat_templates(&names, &texts, tok, &why);
    str_list_free(&names);
    str_list_free(&texts);
    return ok ? true : error_set(err, "%s: %.900s", path, why.text);
}

// Takes what the files of a folder say in place of what others said.
static inline bool tokenizer_read_beside(Tokenizer *tok, const char *folder, Error *err) {
    const int model_file = TOKENIZER_TEMPLATE; // config.json in place of the template, which is not JSON
    JsonDoc docs[TOKENIZER_FILES];
    const Json *roots[TOKENIZER_FILES];
    Path paths[TOKENIZER_FILES], model = path_of("%s/config.json", folder);
    Str config;
    memset(&config, 0, sizeof config);
    memset(docs, 0, sizeof docs);
    tokenizer_find_end(tok);
    tok->note.text[0] = 0;
    tok->model_ids.size = 0;
    int named[NAMED_TOKENS] = {-1, -1, -1};
    TokenizerIds ends, model_ends;
    bool ok = tokenizer_read_file(&config, model.text, err);
    for (int i = 0; ok && i < TOKENIZER_FILES; i++) {
        paths[i] = path_of("%s/%s", folder, tokenizer_file_name(i));
        ok = tokenizer_read_file(&tok->files[i], paths[i].text, err);
    }
    for (int i = 0; ok && i < model_file; i++)
        ok = tokenizer_read_json(&docs[i], &roots[i], &tok->files[i], paths[i].text, err);
    ok = ok && tokenizer_read_json(&docs[model_file], &roots[model_file], &config, model.text, err);
    if (ok && !tokenizer_is_text(&tok->files[TOKENIZER_TEMPLATE]))
        ok = error_set(err, "%s is not UTF-8 text", paths[TOKENIZER_TEMPLATE].text);
    if (ok && roots[TOKENIZER_CONFIG])
        ok = tokenizer_read_config(tok, named, roots[TOKENIZER_CONFIG], paths[TOKENIZER_CONFIG].text, err);
    ok = ok && tokenizer_read_chats(tok, folder, err) &&
         tokenizer_check_chats(tok, paths[TOKENIZER_CONFIG].text, err) &&
         tokenizer_read_named(named, tok, roots[TOKENIZER_SPECIAL_MAP], paths[TOKENIZER_SPECIAL_MAP].text, err) &&
         tokenizer_read_model_ids(&model_ends, tok, roots[model_file], model.text, err) &&
         tokenizer_read_model_ids(&ends, tok, roots[TOKENIZER_GENERATION], paths[TOKENIZER_GENERATION].text, err);
    if (ok) {
        bool own = ends.count > 0;
        tokenizer_keep_ids(&tok->model_ids, roots[model_file]);
        tokenizer_choose_end(tok, named, own ? &ends : &model_ends,
                             own ? paths[TOKENIZER_GENERATION].text : model.text);
        tok->bos_named = tok->bos >= 0 ? tok->bos : named[NAMED_BOS];
        if (named[NAMED_PAD] >= 0) tok->pad = named[NAMED_PAD];
    }
    for (int i = 0; i < TOKENIZER_FILES; i++) json_free(&docs[i]);
    free(config.data);
    return ok;
}

// A tokenizer.json, and what stands beside it where it has this name.
static inline bool tokenizer_open(Tokenizer *tok, const char *path, Error *err) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (!tokenizer_load(tok, path, err)) return false;
    if (strcmp(name, "tokenizer.json") != 0 || tokenizer_read_beside(tok, path_parent(path).text, err)) return true;
    tokenizer_free(tok);
    return false;
}

// Whether a folder has the tokenizer of this hash, or none.
static inline bool tokenizer_is_of(bool *same, uint64_t hash, const char *folder, Error *err) {
    Path path = path_of("%s/tokenizer.json", folder);
    FileKind kind;
    Tokenizer own;
    *same = true;
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    if (!tokenizer_load(&own, path.text, err)) return false;
    *same = own.hash == hash;
    tokenizer_free(&own);
    return true;
}

// For a run that starts from a model's folder: what the folder says counts, not what stands beside --tokenizer. Refuses
// a folder that has another tokenizer: its embeddings mean other tokens.
static inline bool tokenizer_of_model(Tokenizer *tok, const char *folder, Error *err) {
    bool same;
    if (!tokenizer_is_of(&same, tok->hash, folder, err)) return false;
    if (same) return tokenizer_read_beside(tok, folder, err);
    return error_set(err,
                     "the tokenizer is not the one that the model %s was trained with: tokenise with "
                     "--tokenizer=%s/tokenizer.json and train with it",
                     folder, folder);
}

// Takes a token for the end of documents: --end_token. Where a file names ends it must be one of them.
static inline bool tokenizer_end_named(Tokenizer *tok, const char *name, Error *err) {
    int id = tokenizer_named(tok, name);
    if (id < 0) return error_set(err, "--end_token=%s: the tokenizer has no token of this name", name);
    if (tok->end_said && (!tokenizer_stops(tok, id) || (tok->closing >= 0 && tok->closing != id)))
        return error_set(err, "--end_token=%s: the tokenizer's files end a text with %s: leave the option out", name,
                         tokenizer_name(tok, tok->eot));
    if (!tok->end_said) tok->stops[0] = id, tok->stop_count = 1;
    tok->eot = id;
    return true;
}

// The end that shards have must be one at which generated text ends; where no file names an end it is taken from them.
static inline bool tokenizer_end_of_shards(Tokenizer *tok, int64_t eot, const char *files, Error *err) {
    if (eot < 0 || eot >= tok->vocab_size) return true; // shards of llm.c do not say
    if (!tok->end_said) tok->eot = tok->stops[0] = (int)eot, tok->stop_count = 1, tok->end_said = true;
    if (tokenizer_stops(tok, (int)eot)) return true;
    return error_set(err,
                     "the documents of %s end with token %lld (\"%.40s\"), but texts of this model with %d "
                     "(\"%.40s\"): "
                     "run tokenize again with the tokenizer.json of the model's folder",
                     files, (long long)eot, tokenizer_name(tok, (int)eot), tok->eot, tokenizer_name(tok, tok->eot));
}

// ---------------------------------------------------------------- writing

// tokenizer_config.json of a tokenizer that has none, with which AutoTokenizer of Transformers loads the folder.
static inline bool tokenizer_config_text(Str *out, const Tokenizer *tok, int model_max_length, Error *err) {
    JsonDoc doc;
    Json *root = json_parse(&doc, tok->json, tok->json_size, err);
    if (!root) return false;
    int pad = tok->pad >= 0 ? tok->pad : tok->eot, bos = tok->bos_named >= 0 ? tok->bos_named : tok->eot;
    str_puts(out, "{\n  \"added_tokens_decoder\": {");
    const Json *added = json_get(root, "added_tokens");
    static const char *const options[5] = {"lstrip", "normalized", "rstrip", "single_word", "special"};
    for (const Json *j = added ? added->child : NULL; j; j = j->next) {
        const Json *content = json_get(j, "content");
        str_printf(out, "%s\n    \"%lld\": {\"content\": ", j == added->child ? "" : ",",
                   (long long)json_integer(json_get(j, "id"), 0));
        json_escape(out, content->text, content->size);
        for (int i = 0; i < 5; i++)
            str_printf(out, ", \"%s\": %s", options[i], json_bool(json_get(j, options[i]), false) ? "true" : "false");
        str_puts(out, "}");
    }
    str_puts(out, "\n  },\n  \"add_prefix_space\": false,\n  \"clean_up_tokenization_spaces\": false");
    const char *keys[3] = {"bos_token", "eos_token", "pad_token"};
    int values[3] = {bos, tok->eot, pad};
    for (int i = 0; i < 3; i++) {
        str_printf(out, ",\n  \"%s\": ", keys[i]);
        if (values[i] < 0) str_puts(out, "null");
        else json_escape(out, tokenizer_name(tok, values[i]), strlen(tokenizer_name(tok, values[i])));
    }
    str_printf(out,
               ",\n  \"model_input_names\": [\"input_ids\", \"attention_mask\"],\n  \"model_max_length\": %d,\n  "
               "\"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
               model_max_length);
    json_free(&doc);
    return true;
}

static inline bool tokenizer_save_config(const Tokenizer *tok, const char *path, int model_max_length, FileSums *sums,
                                         Error *err) {
    Str out;
    memset(&out, 0, sizeof out);
    bool ok = tokenizer_config_text(&out, tok, model_max_length, err) &&
              file_write_summed(sums, path, out.data, out.size, err);
    free(out.data);
    return ok;
}

// Appends a value as JSON.
static inline void tokenizer_add_json(Str *out, const Json *j) {
    const char *open = j->type == JSON_OBJECT ? "{" : "[", *close = j->type == JSON_OBJECT ? "}" : "]";
    switch (j->type) {
    case JSON_NULL: str_puts(out, "null"); return;
    case JSON_BOOL: str_puts(out, j->boolean ? "true" : "false"); return;
    case JSON_NUMBER: str_puts(out, j->text); return;
    case JSON_STRING: json_escape(out, j->text, j->size); return;
    default: break;
    }
    str_puts(out, open);
    for (const Json *child = j->child; child; child = child->next) {
        if (child != j->child) str_puts(out, ", ");
        if (child->key) json_escape(out, child->key, child->key_size), str_puts(out, ": ");
        tokenizer_add_json(out, child);
    }
    str_puts(out, close);
}

// The folder's generation_config.json; where it names no end of a text all are put in, the document's first: those
// of config.json would not count beside it. False: it has none.
static inline bool tokenizer_generation_config(Str *out, const Tokenizer *tok) {
    const Str *kept = &tok->files[TOKENIZER_GENERATION];
    if (!kept->data) return false;
    JsonDoc doc;
    const Json *root = json_parse(&doc, kept->data, kept->size, NULL), *end = json_get(root, "eos_token_id");
    if (tok->eot < 0 || (end && end->type != JSON_NULL)) {
        str_add(out, kept->data, kept->size);
    } else {
        str_printf(out, tok->stop_count > 1 ? "{\n  \"eos_token_id\": [%d" : "{\n  \"eos_token_id\": %d", tok->eot);
        for (int i = 0; i < tok->stop_count; i++)
            if (tok->stops[i] != tok->eot) str_printf(out, ", %d", tok->stops[i]);
        if (tok->stop_count > 1) str_puts(out, "]");
        for (const Json *j = root->child; j; j = j->next) {
            if (strcmp(j->key, "eos_token_id") == 0) continue;
            str_puts(out, ",\n  ");
            json_escape(out, j->key, j->key_size);
            str_puts(out, ": ");
            tokenizer_add_json(out, j);
        }
        str_puts(out, "\n}\n");
    }
    json_free(&doc);
    return true;
}

static inline Path tokenizer_chat_file(const Tokenizer *tok, int i) {
    return path_of(TOKENIZER_CHATS "/%.500s.jinja", tok->chat_names.items[i]);
}

// The tokenizer and the files beside it, but for config.json and generation_config.json (huggingface.h).
static inline bool tokenizer_write_folder(const Tokenizer *tok, const char *folder, int model_max_length,
                                          FileSums *sums, Error *err) {
    Path path = path_of("%s/tokenizer.json", folder);
    bool ok = file_write_summed(sums, path.text, tok->json, tok->json_size, err);
    for (int i = 0; ok && i < TOKENIZER_FILES; i++) {
        if (i == TOKENIZER_GENERATION) continue;
        path = path_of("%s/%s", folder, tokenizer_file_name(i));
        if (tok->files[i].data) ok = file_write_summed(sums, path.text, tok->files[i].data, tok->files[i].size, err);
        else if (i == TOKENIZER_CONFIG) ok = tokenizer_save_config(tok, path.text, model_max_length, sums, err);
    }
    if (!ok || !tok->chats.count) return ok;
    Path chats = path_of("%.3000s/" TOKENIZER_CHATS, folder);
    ok = path_make_folder(chats.text, err);
    for (int i = 0; ok && i < tok->chats.count; i++) {
        path = path_of("%.3000s/%.1000s", folder, tokenizer_chat_file(tok, i).text);
        ok = file_write_all(path.text, tok->chats.items[i], strlen(tok->chats.items[i]), err);
    }
    return ok && path_sync_folder(chats.text, err);
}

#endif
