/*
test_gpt.c: the tests of what is computed. The areas stand in dev/test/AREA_test.h, the watchdog in trainer_test.h.

    test_gpt              all areas;   test_gpt AREA ...   some of them
    test_gpt compare A B        two files of `dump`, tensor by tensor: B was computed in fp32
    test_gpt compare A B bf16   B was computed in bf16

Built twice: with float, and as test_gpt_double with -DREAL_DOUBLE, where the backward pass is held
against finite differences. What the programs do from outside (bad input, kill and resume, the
scripts) is tested by the shell scripts in dev/test; `make test` runs everything.

Exits with 1 if a check failed. Every tolerance stands beside its reason.
*/
#define LLMC_NO_MAIN
#include "train_gpt_cpu.c"

#include "dev/test/check.h"

#include "dev/test/account_test.h"
#include "dev/test/base_test.h"
#include "dev/test/chat_test.h"
#include "dev/test/clean_test.h"
#include "dev/test/compare.h"
#include "dev/test/contamination_test.h"
#include "dev/test/data_test.h"
#include "dev/test/documents_test.h"
#include "dev/test/files_test.h"
#include "dev/test/follow_test.h"
#include "dev/test/gguf_test.h"
#include "dev/test/convert_test.h"
#include "dev/test/embeddings_test.h"
#include "dev/test/amx_test.h"
#include "dev/test/kernels_test.h"
#include "dev/test/language_test.h"
#include "dev/test/draft_test.h"
#include "dev/test/lora_test.h"
#include "dev/test/distill_test.h"
#include "dev/test/masks_test.h"
#include "dev/test/memory_test.h"
#include "dev/test/mix_test.h"
#include "dev/test/mmla_test.h"
#include "dev/test/model_test.h"
#include "dev/test/near_test.h"
#include "dev/test/numbers_test.h"
#include "dev/test/personal_test.h"
#include "dev/test/preferences_test.h"
#include "dev/test/process_test.h"
#include "dev/test/quantise_test.h"
#include "dev/test/remove_test.h"
#include "dev/test/tokenizer_test.h"
#include "dev/test/bpe_test.h"
#include "dev/test/trainer_test.h"

int main(int argc, char **argv) {
    const char *missing = cpu_missing_instructions();
    if (missing) fail("this binary was built for CPUs with %s, which this one lacks", missing);
    if (argc > 1 && strcmp(argv[1], "compare") == 0) {
        if (argc < 4 || argc > 5 || (argc == 5 && strcmp(argv[4], "bf16") != 0))
            fail("expected: test_gpt compare A.safetensors B.safetensors [bf16]");
        return compare_dumps(argv[2], argv[3], argc == 5);
    }
    // X(area): the functions test_AREA. Those of watchdog, process and signals fork, and come before any thread is
    // made: under qemu-user a child of a process with threads can make none.
// clang-format off
#define AREAS(X)                                                                                                       \
    X(watchdog) X(process) X(signals)                                                                                  \
    X(base) X(files) X(tokenizer) X(bpe_training) X(data) X(mix) X(remove) X(documents) X(clean) X(personal)           \
    X(language) X(near) X(chat) X(contamination) X(kernels) X(amx) X(mmla) X(memory) X(model) X(draft) X(lora)         \
    X(quantise) X(distill) X(masks) X(preferences) X(gguf)                                                             \
    X(convert)                                                                                                         \
    X(embeddings) X(follow) X(trainer) X(numbers) X(account)
    // clang-format on
    int matched = 0;
#define X(area)                                                                                                        \
    {                                                                                                                  \
        bool wanted = argc < 2;                                                                                        \
        for (int i = 1; i < argc; i++) wanted |= strcmp(argv[i], #area) == 0;                                          \
        if (wanted) {                                                                                                  \
            int passed = checks_passed, failed = checks_failed;                                                        \
            double start = clock_seconds();                                                                            \
            test_##area();                                                                                             \
            printf("%-10s %7d passed, %d failed (%.1f s)\n", #area, checks_passed - passed, checks_failed - failed,    \
                   clock_seconds() - start);                                                                           \
            fflush(stdout);                                                                                            \
            matched++;                                                                                                 \
        }                                                                                                              \
    }
    AREAS(X)
#undef X
    test_temp_remove();
    if (!matched) fail("no such area: %s", argv[1]);
    printf("%d passed, %d failed, %d skipped\n", checks_passed, checks_failed, checks_skipped);
    return checks_failed != 0;
}
