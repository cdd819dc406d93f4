/*
fuzz.h: what the drivers share: a promise that ends the process when it is broken, and files in a folder of their own.

An input is any bytes; a driver gives them to readers, in this process. Whatever they are, a reader returns, says in one
line why it refuses them, and leaves no memory behind; a call of fail() inside it ends the process and is a finding too.

The files that begin a search are in dev/fuzz/corpus/DRIVER. They were written by hand or cut by head -c from
what the program itself wrote for dev/test/sample_de.txt (a checkpoint of a model of 16 channels); a first byte says
which reader is meant, as each driver explains.
*/
#ifndef FUZZ_H
#define FUZZ_H

#include "../../llmc/base/file.h"

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A reader that refuses says why, in one line. Returns ok.
static inline bool fuzz_said(bool ok, const Error *err) {
    REQUIRE(ok || (err->text[0] && !strchr(err->text, '\n')));
    return ok;
}

// A folder for this process, in memory where that can be. Nothing runs when a fuzzer ends: the next one removes what
// those that are gone left.
static inline Path fuzz_folder(void) {
    Error err;
    StrList names;
    memset(&names, 0, sizeof names);
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    folder_list(&names, root, &err);
    for (int i = 0; i < names.count; i++) {
        int pid = strncmp(names.items[i], "fuzz.", 5) == 0 ? atoi(names.items[i] + 5) : 0;
        if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH)
            path_remove_tree(path_of("%s/%.200s", root, names.items[i]).text, NULL);
    }
    str_list_free(&names);
    Path p = path_of("%s/fuzz.%d", root, (int)getpid());
    REQUIRE(mkdir(p.text, 0700) == 0);
    return p;
}

static inline void fuzz_write(const char *path, const void *bytes, size_t n) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    REQUIRE(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && close(fd) == 0);
}

// Copies a file of a folder to another folder.
static inline void fuzz_copy(const char *to, const char *from, const char *name) {
    Error err;
    Str text;
    memset(&text, 0, sizeof text);
    if (!file_read(&text, path_of("%.2000s/%.500s", from, name).text, SIZE_MAX, &err)) fail("%s", err.text);
    fuzz_write(path_of("%.2000s/%.500s", to, name).text, text.data, text.size);
    free(text.data);
}

#endif
