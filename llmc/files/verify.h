/*
verify.h: whether a checkpoint is what was written: the checksum of run.json itself, and those that it holds of all
other files.

run.json is written with "format": 2 and ends with a line of its own,

      "xxh64": "0123456789abcdef"
    }

the XXH64 of every byte before that line: any flipped bit and any cut is seen. "format": 1 is what was written before
there was that line, and is still read. A model folder without run.json is a foreign one, and has no checksums.

Files are read by several threads, each a file at a time, and read ahead by the kernel, so that a disk is kept busy.
*/
#ifndef LLMC_VERIFY_H
#define LLMC_VERIFY_H

#include "../base/hash.h"
#include "../base/json.h"
#include <pthread.h>

// ---------------------------------------------------------------- run.json

#define RUN_FORMAT_1 "{\n  \"format\": 1,\n"
#define RUN_FORMAT_2 "{\n  \"format\": 2,\n"
#define RUN_RECORD_MOST ((size_t)1 << 26) // bytes; it holds some hundred lines

// The line with the checksum of all before it, and the end of the object.
static inline Path run_record_tail(uint64_t sum) { return path_of("\n  \"xxh64\": \"%016" PRIx64 "\"\n}\n", sum); }

// Ends a text that began with RUN_FORMAT_2 and whose last member is followed by a comma.
static inline void run_record_seal(Str *s) { str_puts(s, run_record_tail(xxh64(s->data, s->size, 0)).text); }

typedef struct {
    JsonDoc doc;
    const Json *root;
    bool sealed; // false: of format 1, which has no checksum of itself
} RunRecord;

static inline void run_record_close(RunRecord *r) { json_free(&r->doc); }

// Parses the text of a run.json. from: its path, for messages. On false there is nothing to close.
static inline bool run_record_parse(RunRecord *r, const char *text, size_t n, const char *from, Error *err) {
    size_t head = sizeof RUN_FORMAT_2 - 1, tail = strlen(run_record_tail(0).text);
    memset(r, 0, sizeof *r);
    bool old = n >= head && memcmp(text, RUN_FORMAT_1, head) == 0;
    r->sealed = n >= head + tail && memcmp(text, RUN_FORMAT_2, head) == 0;
    if (!old && !r->sealed)
        return error_set(err, "%s is damaged, or of another program: it does not begin as a checkpoint's record does",
                         from);
    if (r->sealed && memcmp(text + n - tail, run_record_tail(xxh64(text, n - tail, 0)).text, tail) != 0)
        return error_set(err, "%s does not match the checksum in its last line", from);
    Error why;
    r->root = json_parse(&r->doc, text, n, &why);
    if (!r->root) return error_set(err, "%s: %.800s", from, why.text);
    if (json_is(json_get(r->root, "files"), JSON_OBJECT) && !(old && json_get(r->root, "xxh64"))) return true;
    run_record_close(r);
    return error_set(err, "%s is damaged: it lists no files, or is not of the format that it names", from);
}

// ---------------------------------------------------------------- files

#define VERIFY_PIECE ((size_t)1 << 20)
#define VERIFY_AHEAD ((int64_t)1 << 25) // bytes that the kernel is asked for before they are needed

// XXH64 and size of a file; with expected >= 0, of a file that has another size only that. Read in pieces, not mapped:
// mapped pages would count as this process's memory.
static inline bool file_sum(uint64_t *sum, int64_t *bytes, const char *path, int64_t expected, Error *err) {
    struct stat st;
    Xxh64 state;
    *sum = 0;
    int fd = file_open(path, &st, err);
    if (fd < 0) return false;
    *bytes = st.st_size;
    if (expected >= 0 && expected != *bytes) {
        close(fd);
        return true;
    }
    uint8_t *buffer = (uint8_t *)mem_alloc(VERIFY_PIECE);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    xxh64_init(&state, 0);
    bool ok = true;
    for (int64_t at = 0, asked = 0;;) {
        if (at >= asked) { // half of what was asked for is still to come when the next is asked for
            posix_fadvise(fd, at, VERIFY_AHEAD, POSIX_FADV_WILLNEED);
            asked = at + VERIFY_AHEAD / 2;
        }
        ssize_t n = read(fd, buffer, VERIFY_PIECE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) ok = error_set(err, "cannot read %s: %s", path, strerror(errno));
        if (n <= 0) break;
        xxh64_update(&state, buffer, (size_t)n);
        at += n;
    }
    *sum = xxh64_value(&state);
    *bytes = (int64_t)state.bytes;
    free(buffer);
    close(fd);
    return ok;
}

typedef struct {
    const char *name; // in its folder
    int64_t bytes;    // expected
    uint64_t sum;     // likewise
} VerifyFile;

typedef struct {
    const char *folder;
    const VerifyFile *files; // (count)
    int count;
    int next; // the first that no thread has taken
    pthread_mutex_t mutex;
    int wrong; // the first with a fault, guarded; count: none
    Error err; // what it is
} VerifyWork;

// Is a file what it is expected to be?
static inline bool verify_file(const char *folder, const VerifyFile *f, Error *err) {
    Path path = path_of("%.3000s/%.1000s", folder, f->name);
    uint64_t sum = 0;
    int64_t bytes = 0;
    if (!file_sum(&sum, &bytes, path.text, f->bytes, err)) return false;
    if (bytes != f->bytes)
        return error_set(err, "%s has %lld bytes, expected %lld", path.text, (long long)bytes, (long long)f->bytes);
    return sum == f->sum ? true : error_set(err, "%s does not match its checksum", path.text);
}

static inline void *verify_thread(void *argument) {
    VerifyWork *w = (VerifyWork *)argument;
    Error err;
    for (int i; (i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->count;) {
        if (verify_file(w->folder, &w->files[i], &err)) continue;
        pthread_mutex_lock(&w->mutex);
        if (i < w->wrong) w->wrong = i, w->err = err;
        pthread_mutex_unlock(&w->mutex);
    }
    return NULL;
}

// Looks at all files, in as many threads as there are processors and files. The first fault in their order counts.
static inline bool verify_files(const char *folder, const VerifyFile *files, int count, Error *err) {
    VerifyWork w;
    pthread_t threads[16];
    memset(&w, 0, sizeof w);
    w.folder = folder, w.files = files, w.count = w.wrong = count;
    pthread_mutex_init(&w.mutex, NULL);
    int64_t processors = (int64_t)sysconf(_SC_NPROCESSORS_ONLN), wanted = int64_min(int64_min(count, processors), 16);
    int started = 0;
    // This thread does its share: without others it does all.
    while (started < wanted - 1 && pthread_create(&threads[started], NULL, verify_thread, &w) == 0) started++;
    verify_thread(&w);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&w.mutex);
    return w.wrong == count ? true : error_set(err, "%.1000s", w.err.text);
}

// What is looked at: what a model consists of, or the optimizer's state, too.
typedef enum { VERIFY_MODEL, VERIFY_ALL } VerifyPart;

// The files that a record lists, with their sums; (*count) of them, to be freed; names are the record's. False: the
// list is damaged.
static inline bool verify_list(VerifyFile **files, int *count, const RunRecord *r, const char *folder, VerifyPart part,
                               Error *err) {
    const Json *list = json_get(r->root, "files");
    *count = 0;
    *files = (VerifyFile *)mem_alloc(sizeof(VerifyFile) * (size_t)list->size);
    for (const Json *j = list->child; j; j = j->next) {
        const char *sum = json_string(json_get(j, "xxh64"), "");
        int64_t bytes = json_integer(json_get(j, "bytes"), -1);
        if (bytes < 0 || strlen(sum) != 16 || sum[strspn(sum, "0123456789abcdef")] || !*j->key || *j->key == '/' ||
            strstr(j->key, "..") || strlen(j->key) != j->key_size) {
            free(*files);
            return error_set(err, "%s/run.json is damaged: it gives no size and checksum of %.200s", folder, j->key);
        }
        if (part == VERIFY_MODEL && strncmp(j->key, "optimizer", 9) == 0) continue;
        VerifyFile *f = &(*files)[(*count)++];
        f->name = j->key;
        f->bytes = bytes;
        f->sum = strtoull(sum, NULL, 16);
    }
    return true;
}

#endif
