/*
fuzz_folder.c: any bytes as one file of a model folder whose other files are good.

    make fuzz MINUTES=60

Runs in the repository's root: the folders are copies of two in dev/test/fixtures/models. The first byte chooses the
file: c config.json, g generation_config.json, t tokenizer_config.json, m special_tokens_map.json, j
chat_template.jinja, k tokenizer.json, i the index of a folder with three files of weights, s model.safetensors. The
rest is the file. Beyond not crashing: config and tokenizer of a folder that was accepted are the same, tokens that
begin and end a text included, when they are written and read again; all tensors of an index are found; what is
exported is a GGUF file.
*/
#define LLMC_NO_MAIN
#include "../../train_gpt_cpu.c"
#include "fuzz.h"

extern const char *const build_commit;
const char *const build_commit = "fuzz";

// What an input may stand for, and the folder that it lies in.
static const struct {
    char letter;
    const char *name, *model;
} kinds[] = {{'c', "config.json", "llama-tied-bf16"},           {'g', "generation_config.json", "llama-tied-bf16"},
             {'t', "tokenizer_config.json", "llama-tied-bf16"}, {'k', "tokenizer.json", "llama-tied-bf16"},
             {'s', "model.safetensors", "llama-tied-bf16"},     {'i', "model.safetensors.index.json", "llama-untied"}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static Path folders[KINDS], written, exported;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    Path root = fuzz_folder();
    Error err;
    written = path_of("%.1000s/written", root.text);
    exported = path_of("%.1000s/x.gguf", root.text);
    for (int k = 0; k < KINDS; k++) {
        StrList names;
        memset(&names, 0, sizeof names);
        Path from = path_of("dev/test/fixtures/models/%s", kinds[k].model);
        folders[k] = path_of("%.1000s/%c", root.text, kinds[k].letter);
        if (!path_make_folder(folders[k].text, &err) || !folder_list(&names, from.text, &err)) fail("%s", err.text);
        for (int i = 0; i < names.count; i++)
            if (strcmp(names.items[i], "expected.safetensors") != 0)
                fuzz_copy(folders[k].text, from.text, names.items[i]);
        str_list_free(&names);
    }
    return 0;
}

// Writes config and tokenizer as a checkpoint has them, and reads them again.
static void check_written(const char *folder) {
    Config c, config;
    Tokenizer tok, again;
    Error err;
    err.text[0] = 0;
    if (!fuzz_said(folder_read_config(&c, folder, &err), &err)) return;
    if (!fuzz_said(tokenizer_open(&tok, path_of("%.1000s/tokenizer.json", folder).text, &err), &err)) return;
    REQUIRE(path_remove_tree(written.text, &err) && path_make_folder(written.text, &err));
    REQUIRE(folder_write_config(written.text, &c, &tok, NULL, &err) &&
            tokenizer_write_folder(&tok, written.text, c.max_seq_len, NULL, &err));
    if (!folder_read_config(&config, written.text, &err) ||
        !tokenizer_open(&again, path_of("%.1000s/tokenizer.json", written.text).text, &err))
        fail("what was written is refused: %s", err.text);
    const char *field = config_difference(&c, &config);
    if (field) fail("%s is another when it is read again", field);
    REQUIRE(tok.hash == again.hash && tok.vocab_size == again.vocab_size && tok.bos == again.bos);
    REQUIRE(tok.eot == again.eot && tok.stop_count == again.stop_count);
    for (int i = 0; i < tok.stop_count; i++) REQUIRE(tokenizer_stops(&again, tok.stops[i]));
    tokenizer_free(&tok);
    tokenizer_free(&again);
}

static void check_tensors(const char *folder) {
    SafeTensors st;
    Error err;
    err.text[0] = 0;
    if (!fuzz_said(safetensors_open(&st, folder, &err), &err)) return;
    for (int i = 0; i < st.count; i++) REQUIRE(safetensors_find(&st, st.tensors[i].name) == &st.tensors[i]);
    safetensors_close(&st);
}

static void check_export(const char *folder, int dtype) {
    Error err;
    MappedFile f;
    err.text[0] = 0;
    if (!fuzz_said(gguf_export(folder, exported.text, dtype, &err), &err)) return;
    REQUIRE(file_map(&f, exported.text, &err) && f.size > 24 && memcmp(f.data, "GGUF", 4) == 0);
    file_unmap(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int k = 0;
    while (k < KINDS && size > 0 && kinds[k].letter != (char)data[0]) k++;
    if (size == 0 || k == KINDS) return 0;
    const char *folder = folders[k].text;
    fuzz_write(path_of("%.1000s/%s", folder, kinds[k].name).text, data + 1, size - 1);
    if (kinds[k].letter == 'i' || kinds[k].letter == 's') check_tensors(folder);
    else check_written(folder);
    check_export(folder, (int)(size % 4));
    return 0;
}
