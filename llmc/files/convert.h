/*
convert.h: a GGUF file, or a checkpoint of llm.c, as a model folder that this program, Transformers and others read.

    convert_run(&told, input, tokenizer, out, err)     what the verb `convert` does

Reads f32, f16, bf16 and q8_0, from any program, of the architectures that this one has (gguf_read.h), and llm.c's GPT-2
(llmc_read.h). The folder is written beside its name, read again as any model folder is, and gets the name when all is
well; what a killed process leaves is called OUT.convert, and the next one removes it.

Tokenizer. A GGUF file has one, which becomes tokenizer.json; with --tokenizer its tokens must be those of the file, and
what stands beside that tokenizer.json counts. A checkpoint of llm.c has none: --tokenizer must be given.
*/
#ifndef LLMC_CONVERT_H
#define LLMC_CONVERT_H

#include "gguf_tokenizer.h"
#include "llmc_read.h"

// An input that is open.
typedef struct {
    GgufInput gguf; // of llm.c's the file alone
    ForeignModel model;
    Tokenizer tokenizer;
    bool has_tokenizer;
} ConvertInput;

static inline void convert_close(ConvertInput *in) {
    foreign_free(&in->model);
    gguf_input_close(&in->gguf);
    if (in->has_tokenizer) tokenizer_free(&in->tokenizer);
    memset(in, 0, sizeof *in);
}

// Which format it is, and all that the file says.
static inline bool convert_open_model(ConvertInput *in, const char *input, Error *err) {
    const MappedFile *f = &in->gguf.file;
    in->gguf.path = input;
    if (!file_map(&in->gguf.file, input, err)) return false;
    if (gguf_is(f->data, f->size))
        return gguf_input_parse(&in->gguf, err) && gguf_read_model(&in->model, &in->gguf, err);
    if (llmc_is(f->data, f->size)) return llmc_read(&in->model, f, input, err);
    return error_set(err, "%s is neither a GGUF file nor a checkpoint of llm.c's GPT-2%s", input,
                     safetensors_foreign(f->data, f->size));
}

static inline bool convert_open_tokenizer(ConvertInput *in, const char *input, const char *tokenizer, Error *err) {
    const bool gguf = gguf_is(in->gguf.file.data, in->gguf.file.size), own = gguf && gguf_has_tokenizer(&in->gguf);
    if (!*tokenizer && !own)
        return error_set(err, "%s has no tokenizer: give its tokenizer.json as --tokenizer=FILE%s", input,
                         gguf ? "" : ", of a gpt2_124M.bin that of GPT-2, as its folder at Hugging Face has it");
    in->has_tokenizer = *tokenizer ? tokenizer_open(&in->tokenizer, tokenizer, err)
                                   : gguf_read_tokenizer(&in->tokenizer, &in->gguf, err);
    if (!in->has_tokenizer || (*tokenizer && own && !gguf_same_tokens(&in->tokenizer, &in->gguf, tokenizer, err)))
        return false;
    if (in->tokenizer.vocab_size <= in->model.config.vocab_size) return true;
    return error_set(err, "%s has %d tokens, the model in %s only %d", *tokenizer ? tokenizer : "its tokenizer",
                     in->tokenizer.vocab_size, input, in->model.config.vocab_size);
}

// What was written must say the same when it is read.
static inline bool convert_check(const ConvertInput *in, const char *folder, Error *err) {
    Config c;
    Tokenizer tok;
    if (!folder_read_config(&c, folder, err) || !folder_check_weights(&c, folder, err) ||
        !tokenizer_open(&tok, path_of("%.3000s/tokenizer.json", folder).text, err))
        return false;
    const char *field = config_difference(&in->model.config, &c);
    bool ok = !field && tok.hash == in->tokenizer.hash && tok.eot == in->tokenizer.eot;
    tokenizer_free(&tok);
    if (field) return error_set(err, "%s: a config.json cannot say its %s", in->model.path, field);
    return ok ? true : error_set(err, "%s: its tokenizer is another one when it is read again", in->model.path);
}

static inline bool convert_write(ConvertInput *in, const char *folder, Error *err) {
    const Config *c = &in->model.config;
    return foreign_types(&in->model, err) && path_make_folder(folder, err) &&
           foreign_write(&in->model, path_of("%.3000s/model.safetensors", folder).text, err) &&
           tokenizer_write_folder(&in->tokenizer, folder, c->max_seq_len, NULL, err) &&
           folder_write_config_as(folder, c, &in->tokenizer, in->model.type, NULL, err) &&
           convert_check(in, folder, err) && path_sync_folder(folder, err);
}

// --out must be free, so that nothing is mixed with what was there.
static inline bool convert_out_free(const char *out, Error *err) {
    FileKind kind;
    StrList names;
    memset(&names, 0, sizeof names);
    if (!path_look(out, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    if (kind != FILE_FOLDER) return error_set(err, "--out=%s is a file; convert writes a folder", out);
    bool ok = folder_list(&names, out, err), empty = names.count == 0;
    str_list_free(&names);
    if (!ok || empty) return ok;
    return error_set(err, "--out=%s is a folder with something in it; choose another --out", out);
}

// told: gets what was converted, in words.
static inline bool convert_run(Str *told, const char *input, const char *tokenizer, const char *out, Error *err) {
    ConvertInput in;
    Path folder = path_of("%s", out), work;
    memset(&in, 0, sizeof in);
    for (size_t n = strlen(folder.text); n > 1 && folder.text[n - 1] == '/'; n--) folder.text[n - 1] = 0;
    work = path_of("%.4000s.convert", folder.text);
    bool ok = convert_out_free(folder.text, err) && convert_open_model(&in, input, err) &&
              convert_open_tokenizer(&in, input, tokenizer, err) && path_remove_tree(work.text, err);
    bool begun = ok;
    ok = ok && convert_write(&in, work.text, err);
    if (ok && rename(work.text, folder.text) != 0)
        ok = error_set(err, "cannot rename %s to %s: %s", work.text, folder.text, strerror(errno));
    ok = ok && path_sync_folder(path_parent(folder.text).text, err);
    if (begun && !ok) path_remove_tree(work.text, NULL);
    if (ok)
        str_printf(told, "a %s of %.2fM parameters, %s, %s, with a tokenizer of %d tokens",
                   family_name(in.model.config.family), (double)in.model.table.parameters / 1e6,
                   config_words(&in.model.config).text, folder_type_name(in.model.type), in.tokenizer.vocab_size);
    convert_close(&in);
    return ok;
}

#endif
