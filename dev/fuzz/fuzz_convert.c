/*
fuzz_convert.c: any bytes, given to `convert` as a GGUF file or as a checkpoint of llm.c.

    make fuzz MINUTES=60

Runs in the repository's root: a checkpoint of llm.c gets the tokenizer of dev/test/fixtures/models/gpt2. Beyond not
crashing: what was accepted is a folder that reads as any other, and that can be exported again; what was refused leaves
no folder.
*/
#define LLMC_NO_MAIN
#include "../../train_gpt_cpu.c"
#include "fuzz.h"

extern const char *const build_commit;
const char *const build_commit = "fuzz";

static Path input, output, exported;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    Path root = fuzz_folder();
    input = path_of("%.1000s/input", root.text);
    output = path_of("%.1000s/output", root.text);
    exported = path_of("%.1000s/x.gguf", root.text);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Error err;
    Str told;
    FileKind kind;
    memset(&told, 0, sizeof told);
    err.text[0] = 0;
    fuzz_write(input.text, data, size);
    REQUIRE(path_remove_tree(output.text, &err));
    const char *tokenizer = llmc_is(data, size) ? "dev/test/fixtures/models/gpt2/tokenizer.json" : "";
    if (fuzz_said(convert_run(&told, input.text, tokenizer, output.text, &err), &err)) {
        Config c;
        REQUIRE(folder_read_config(&c, output.text, &err) && folder_check_weights(&c, output.text, &err));
        fuzz_said(gguf_export(output.text, exported.text, (int)(size % 4), &err), &err);
    } else {
        REQUIRE(path_look(output.text, &kind, &err) && kind == FILE_ABSENT);
    }
    free(told.data);
    return 0;
}
