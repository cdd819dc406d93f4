/*
judge.h: runs a program in a folder, and compares what it left with what it should have left; for faults_run.c and
flips.c. Stands on the C library alone: a judge that shares code with the accused would share its faults.

    Tree      the files of a folder, in memory: tree_read, tree_write, tree_find
    judge_run runs a command in a folder; its exit code, signal, standard output and error
    judge_errors  were the lines on stderr what an exit code asks for?
    judge_same    are two files the same, but for figures that are times?

The judge itself ends with a message and exit code 2 where it cannot go on.
*/
#ifndef JUDGE_H
#define JUDGE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JUDGE_SECONDS 60 // after that a run hangs
enum { JUDGE_PATH = 1024, JUDGE_WORDS = 64, JUDGE_TREE = 256 };

__attribute__((format(printf, 1, 2), noreturn)) static inline void judge_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("the test itself failed: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

// ---------------------------------------------------------------- files

typedef struct {
    char path[JUDGE_PATH]; // below the folder; a folder ends in '/'
    char *data;
    size_t size;
} TreeFile;

typedef struct {
    TreeFile *files[JUDGE_TREE];
    int count;
} Tree;

static inline char *judge_path(char out[JUDGE_PATH], const char *folder, const char *name) {
    if (snprintf(out, JUDGE_PATH, "%s/%s", folder, name) >= JUDGE_PATH) judge_die("%s/%s is too long", folder, name);
    return out;
}

static inline char *judge_read(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) judge_die("cannot read %s: %s", path, strerror(errno));
    char *data = (char *)malloc((size_t)st.st_size + 1);
    *size = fread(data, 1, (size_t)st.st_size, f);
    data[*size] = 0;
    fclose(f);
    return data;
}

static inline void judge_write(const char *path, const char *data, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        judge_die("cannot write %s: %s", path, strerror(errno));
}

static inline void tree_add(Tree *t, const char *path, char *data, size_t size) {
    if (t->count == JUDGE_TREE) judge_die("more than %d files", JUDGE_TREE);
    TreeFile *f = (TreeFile *)calloc(1, sizeof *f);
    snprintf(f->path, sizeof f->path, "%s", path);
    f->data = data;
    f->size = size;
    t->files[t->count++] = f;
}

static inline void tree_read_below(Tree *t, const char *root, const char *below) {
    char folder[JUDGE_PATH], path[JUDGE_PATH], whole[JUDGE_PATH];
    DIR *dir = opendir(judge_path(folder, root, below));
    if (!dir) judge_die("cannot open %s: %s", folder, strerror(errno));
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s%.255s", below, e->d_name);
        if (lstat(judge_path(whole, root, path), &st) != 0) judge_die("cannot look at %s", whole);
        if (S_ISDIR(st.st_mode)) {
            strcat(path, "/");
            tree_add(t, path, NULL, 0);
            tree_read_below(t, root, path);
        } else {
            size_t size;
            char *data = judge_read(whole, &size);
            tree_add(t, path, data, size);
        }
    }
    closedir(dir);
}

static inline void tree_read(Tree *t, const char *root) {
    memset(t, 0, sizeof *t);
    tree_read_below(t, root, "");
}

static inline void tree_free(Tree *t) {
    for (int i = 0; i < t->count; i++) {
        free(t->files[i]->data);
        free(t->files[i]);
    }
    t->count = 0;
}

static inline const TreeFile *tree_find(const Tree *t, const char *path) {
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->files[i]->path, path) == 0) return t->files[i];
    return NULL;
}

static inline void judge_remove(const char *path) {
    struct stat st;
    if (lstat(path, &st) != 0) return;
    if (!S_ISDIR(st.st_mode)) {
        unlink(path);
        return;
    }
    DIR *dir = opendir(path);
    if (!dir) judge_die("cannot open %s: %s", path, strerror(errno));
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char inner[JUDGE_PATH];
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            judge_remove(judge_path(inner, path, e->d_name));
    }
    closedir(dir);
    if (rmdir(path) != 0) judge_die("cannot remove %s: %s", path, strerror(errno));
}

// Makes the folders that lead to a file.
static inline void judge_folders(const char *path) {
    char part[JUDGE_PATH];
    for (const char *c = strchr(path + 1, '/'); c; c = strchr(c + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(c - path), path);
        if (mkdir(part, 0777) != 0 && errno != EEXIST) judge_die("cannot make %s: %s", part, strerror(errno));
    }
}

// Writes FROM of a tree (a file, or all that begins with it) below a folder, as TO.
static inline void tree_write(const Tree *t, const char *from, const char *folder, const char *to) {
    size_t n = strlen(from);
    bool any = false;
    for (int i = 0; i < t->count; i++) {
        const TreeFile *f = t->files[i];
        char name[2 * JUDGE_PATH], path[JUDGE_PATH];
        if (strncmp(f->path, from, n) != 0) continue;
        any = true;
        snprintf(name, sizeof name, "%s%s", to, f->path + n);
        judge_folders(judge_path(path, folder, name));
        if (f->data) judge_write(path, f->data, f->size);
    }
    if (!any) judge_die("there is no %s to copy", from);
}

// The text without the figures of these names, each between ": " and ',', '}' or the line's end, and without speeds and
// what follows "in" and is a time to the line's end.
static inline char *judge_mask(const char *data, size_t size, size_t *masked) {
    static const char own_sum[] = "\"xxh64\": "; // of run.json, over options that are left out here; not those of files
    static const char *const keys[] =
        {"\"step_ms\": ",          "\"tokens_per_s\": ",           "\"mfu\": ", "\"keep_checkpoints\": ",
         "\"checkpoint_every\": ", "\"background_checkpoints\": ", own_sum};
    char *out = (char *)malloc(size + 1);
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        size_t skip = 0;
        for (size_t k = 0; data[i] == '"' && k < sizeof keys / sizeof *keys; k++)
            if (size - i > strlen(keys[k]) && memcmp(data + i, keys[k], strlen(keys[k])) == 0 &&
                (keys[k] != own_sum || (i > 2 && memcmp(data + i - 3, "\n  ", 3) == 0)))
                skip = strlen(keys[k]);
        bool first = i == 0 || data[i - 1] == '\n', behind = i > 3 && memcmp(data + i - 4, " in ", 4) == 0;
        size_t digits = first || behind ? strspn(data + i, "0123456789.") : 0;
        if (digits && strncmp(data + i + digits, first ? " MB/s" : " s\n", first ? 5 : 3) == 0) skip = digits;
        // Of a record, "account" says when and how long: all of it goes, up to the line that ends it.
        static const char account[] = "  \"account\": {", end[] = "\n  },";
        const char *close = size - i > sizeof account && memcmp(data + i, account, sizeof account - 1) == 0
                                ? strstr(data + i, end)
                                : NULL;
        if (close) {
            i = (size_t)(close - data) + sizeof end - 1;
            continue;
        }
        if (!skip) {
            out[n++] = data[i++];
            continue;
        }
        for (i += skip; i < size && !strchr(",}\n", data[i]);) i++;
    }
    out[n] = 0;
    *masked = n;
    return out;
}

static inline bool judge_same(const TreeFile *a, const TreeFile *b) {
    if (!a || !b) return false;
    if (a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0)) return true;
    if (!a->data || !b->data || (a->size > 3 && b->size > 3 && memchr(a->data, 0, a->size))) return false;
    size_t n, m;
    char *x = judge_mask(a->data, a->size, &n), *y = judge_mask(b->data, b->size, &m);
    bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

// ---------------------------------------------------------------- running

typedef struct {
    int code;   // exit code, or -1
    int signal; // that ended it, or 0
    bool hung;
    TreeFile out, err; // standard output and error
} Run;

static inline void run_free(Run *r) {
    free(r->out.data);
    free(r->err.data);
    memset(r, 0, sizeof *r);
}

// Words of a command; a blank ends one. Writes into text.
static inline int judge_words(char *words[JUDGE_WORDS], char *text) {
    int n = 0;
    char *rest = NULL;
    for (char *w = strtok_r(text, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
        if (n == JUDGE_WORDS - 1) judge_die("a command of more than %d words", JUDGE_WORDS);
        words[n++] = w;
    }
    words[n] = NULL;
    return n;
}

// Waits for a child; one that takes too long is ended.
static inline void judge_wait(Run *r, pid_t pid) {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    struct timespec left = {JUDGE_SECONDS, 0};
    int status;
    pid_t done;
    while ((done = waitpid(pid, &status, WNOHANG)) == 0)
        if (sigtimedwait(&child, NULL, &left) < 0 && errno == EAGAIN) {
            r->hung = true;
            kill(pid, SIGKILL);
        }
    if (done < 0) judge_die("waitpid: %s", strerror(errno));
    r->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    r->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

// Runs PROGRAM WORDS in a folder. environment: "NAME=VALUE" ..., NULL at the end; streams go to FOLDER.out, FOLDER.err.
static inline void judge_run(Run *r, const char *program, const char *words, const char *folder,
                             const char *const *environment) {
    char text[4096], *argv[JUDGE_WORDS], out[JUDGE_PATH], err[JUDGE_PATH];
    memset(r, 0, sizeof *r);
    snprintf(text, sizeof text, "program %s", words);
    judge_words(argv, text);
    snprintf(out, sizeof out, "%s.out", folder);
    snprintf(err, sizeof err, "%s.err", folder);
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before);
    pid_t pid = fork();
    if (pid < 0) judge_die("fork: %s", strerror(errno));
    if (pid == 0) {
        int to = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0666), errors = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (to < 0 || errors < 0 || chdir(folder) != 0 || dup2(to, 1) < 0 || dup2(errors, 2) < 0) _exit(126);
        for (int i = 0; environment && environment[i]; i++) putenv((char *)(size_t)environment[i]);
        sigprocmask(SIG_SETMASK, &before, NULL);
        close(to);
        close(errors);
        execv(program, argv);
        _exit(127);
    }
    judge_wait(r, pid);
    r->out.data = judge_read(out, &r->out.size);
    r->err.data = judge_read(err, &r->err.size);
}

// NULL, or what is wrong with how a run ended: 0 and 3 with no line of error, 1 with one, the last; warnings before it.
static inline const char *judge_errors(const Run *r) {
    if (r->hung) return "it hangs";
    if (r->signal) return "a signal ended it";
    if (r->code != 0 && r->code != 1 && r->code != 3) return "its exit code is neither 0 nor 1 nor 3";
    int errors = 0;
    for (const char *line = r->err.data; *line;) {
        const char *end = strchr(line, '\n');
        if (!end) return "a line on stderr has no end";
        if (errors) return "a line follows that of the error";
        if (strncmp(line, "error: ", 7) == 0) errors++;
        else if (strncmp(line, "warning: ", 9) != 0) return "a line on stderr is neither error nor warning";
        line = end + 1;
    }
    if (errors != (r->code == 1)) return errors ? "an error with an exit code other than 1" : "exit code 1, no error";
    return NULL;
}

// For messages: the last line that a run said on stderr, or else on stdout.
static inline const char *judge_said(const Run *r, char line[200]) {
    const char *text = r->err.size ? r->err.data : r->out.data;
    size_t n = strlen(text), end = n && text[n - 1] == '\n' ? n - 1 : n, begin = end;
    while (begin > 0 && text[begin - 1] != '\n') begin--;
    snprintf(line, 200, "%.*s", (int)(end - begin < 190 ? end - begin : 190), text + begin);
    return line;
}

// ---------------------------------------------------------------- what both begin with

// A model of 8,000 parameters, 9 shards and 6 steps: the whole run takes 20 ms.
#define JUDGE_TRAIN                                                                                                    \
    "train --train_data=s_train_*.bin --val_data=s_val_*.bin --tokenizer=tokenizer.json --out=run --batch_size=1 "     \
    "--seq_len=16 --threads=1 --steps=6 --lr=3e-3 --val_every=3 --val_tokens=32 --checkpoint_every=2 --progress=off "  \
    "--resume=auto "
#define JUDGE_TOKENIZE "tokenize --tokenizer=tokenizer.json --val_fraction=0.2 --shard_tokens=1024 --threads=1 "

// A fresh folder where TMPDIR says.
static inline void judge_folder(char path[JUDGE_PATH], const char *name) {
    const char *base = getenv("TMPDIR");
    snprintf(path, JUDGE_PATH, "%.900s/%s.XXXXXX", base && *base ? base : "/tmp", name);
    if (!mkdtemp(path)) judge_die("cannot make %s: %s", path, strerror(errno));
}

static inline void judge_command(const char *program, const char *folder, const char *words) {
    Run r;
    char line[200];
    judge_run(&r, program, words, folder, NULL);
    if (r.code != 0) judge_die("%s: %s", words, judge_said(&r, line));
    run_free(&r);
}

// Makes WORK/base and reads it: texts a, b, c; a tokenizer of a and b, and an old one; shards s of a and b, and old
// ones of c; m, which is only a config.json; a whole run, and in `cut` one whose last checkpoint is of step 4, and
// whose metrics go on to step 6.
static inline void judge_base(Tree *made, const char *program, const char *text_path, const char *work) {
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 384, \"hidden_size\": 16, \"num_hidden_layers\": 1, "
        "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 8, \"intermediate_size\": 32, "
        "\"max_position_embeddings\": 32, \"tie_word_embeddings\": true, \"rms_norm_eps\": 1e-5}\n";
    static const char eval[] =
        "model = m\ndata = s_val_*.bin\nseq_len = 16\nbatch_size = 1\nval_tokens = 64\nthreads = 1\n";
    char base[JUDGE_PATH], path[JUDGE_PATH];
    size_t size;
    char *text = judge_read(text_path, &size);
    if (size < 12000) judge_die("%s is too short", text_path);
    judge_path(base, work, "base");
    judge_folders(judge_path(path, base, "m/config.json"));
    judge_write(path, config, sizeof config - 1);
    judge_write(judge_path(path, base, "a.txt"), text, 6000);
    judge_write(judge_path(path, base, "b.txt"), text + 6000, 4000);
    judge_write(judge_path(path, base, "c.txt"), text + 2000, 4000);
    judge_write(judge_path(path, base, "e.conf"), eval, sizeof eval - 1);
    free(text);
    judge_command(program, base, "bpe --input=a.txt,b.txt --vocab_size=384 --out=tokenizer.json --threads=1");
    judge_command(program, base, "bpe --input=c.txt --vocab_size=512 --out=old.json --threads=1");
    judge_command(program, base, JUDGE_TOKENIZE "--input=a.txt,b.txt --out=s");
    judge_command(program, base, JUDGE_TOKENIZE "--input=c.txt --out=old");
    judge_command(program, base, JUDGE_TRAIN "--model=m --keep_checkpoints=0");
    tree_read(made, base);
    tree_write(made, "run/", base, "cut/");
    judge_remove(judge_path(path, base, "cut/step_00000006"));
    tree_free(made);
    tree_read(made, base);
}

// ---------------------------------------------------------------- many at a time

// Process number w of `workers` does share(w, workers, WORK/NAMEw), whose part are the items w, w + workers, ...; all
// must end well.
static inline void judge_in_parallel(long workers, const char *work, const char *name,
                                     void (*share)(long w, long workers, const char *folder)) {
    fflush(stdout);
    for (long w = 0; w < workers; w++) {
        char folder[JUDGE_PATH];
        snprintf(folder, sizeof folder, "%.900s/%s%ld", work, name, w);
        pid_t pid = fork();
        if (pid < 0) judge_die("fork: %s", strerror(errno));
        if (pid > 0) continue;
        share(w, workers, folder);
        exit(0);
    }
    int status;
    for (long w = 0; w < workers; w++)
        if (wait(&status) < 0 || status != 0) judge_die("a worker ended with status %d", status);
}

#endif
