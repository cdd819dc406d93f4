/*
check.h: counting checks for test_gpt.c and the headers in dev/test/.

CHECK(condition, "what was found: %d", x)   counts; on failure prints place and message and goes on
CHECK_ERROR(call, "part of the message")    `call` uses the caller's &err, must return false (or NULL) and say this
skip_test("what", "why")                    says `SKIPPED what: why`, and counts; run.sh lists it
test_temp("name")                           a path in a folder that the test program makes and removes
*/
#ifndef CHECK_H
#define CHECK_H

#include "../../llmc/base/common.h"

static int checks_passed, checks_failed, checks_skipped;
static Path test_folder;

// Prints the first failures whole; a loop that fails a million times is one defect, not a million lines.
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (condition) checks_passed++;                                                                                \
        else if (checks_failed++ < 50) {                                                                               \
            fprintf(stderr, "FAILED %s:%d: %s: ", __FILE__, __LINE__, #condition);                                     \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
        }                                                                                                              \
    } while (0)

#define CHECK_ERROR(call, part)                                                                                        \
    do {                                                                                                               \
        err.text[0] = 0;                                                                                               \
        bool was_refused_ = !(call);                                                                                   \
        CHECK(was_refused_, "was accepted; expected an error with \"%s\"", part);                                      \
        CHECK(!was_refused_ || strstr(err.text, part), "the error is \"%s\"; expected \"%s\" in it", err.text, part);  \
        CHECK(!was_refused_ || !strchr(err.text, '\n'), "the error \"%s\" has several lines", err.text);               \
    } while (0)

static inline void skip_test(const char *what, const char *why) {
    checks_skipped++;
    printf("SKIPPED %s: %s\n", what, why);
}

static inline Path test_temp(const char *name) {
    if (!test_folder.text[0]) {
        const char *base = getenv("TMPDIR");
        test_folder = path_of("%s/test_gpt.XXXXXX", base && *base ? base : "/tmp");
        if (!mkdtemp(test_folder.text)) fail("cannot make %s: %s", test_folder.text, strerror(errno));
    }
    return path_of("%s/%s", test_folder.text, name);
}

static inline void test_temp_remove(void) {
    if (test_folder.text[0]) path_remove_tree(test_folder.text, NULL);
}

#endif
