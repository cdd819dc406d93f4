/*
faults_run.c: every call of a run fails once (faults.c), and what then is there is judged.

    faults_run PROGRAM FAULTS.so TEXT                  all points
    faults_run PROGRAM FAULTS.so TEXT --sample=N       N of them, evenly chosen
    faults_run PROGRAM FAULTS.so TEXT --only=SCENARIO:CALL:N:ERRNO     one, in a folder that stays
    faults_run PROGRAM FAULTS.so TEXT --without=CALL   all other kinds of calls
    PRELOAD=libasan.so faults_run ...                  of a program with AddressSanitizer

A point is a scenario, a kind of call, the number of the call and the way it fails. After each:

    the exit code is 0, 1 or 3, with one line of error for 1 and none else; a kill is a kill
    what has a final name is whole: it is what was there before, or what the undisturbed command writes
    exit code 0: all of it is what the undisturbed command writes, and standard output, too
    else the command once more, undisturbed: it ends with the same bits, and nothing temporary is left

A set of shards is old or new as a whole; where their names came to stand side by side, whoever reads them refuses.
The last line is `N passed, N failed`, of points; faults_test.sh runs this.
*/
#include "judge.h"
#include <stdatomic.h>
#include <sys/mman.h>

typedef enum { LEAVES_RUN, LEAVES_FILES, LEAVES_NOTHING } Kind;

typedef struct {
    const char *name;
    Kind kind;
    const char *copied; // "FROM>TO ...": what lies in its folder before, from the folder `base`
    const char *words;
    const char *reader; // reads a set of files that belong together
} Scenario;

#define DATA "s_>s_ tokenizer.json>tokenizer.json m/>m/ "
static const Scenario scenarios[] = {
    {"train", LEAVES_RUN, DATA, JUDGE_TRAIN "--model=m --keep_checkpoints=0", NULL},
    {"prune", LEAVES_RUN, DATA, JUDGE_TRAIN "--model=m --keep_checkpoints=1 --background_checkpoints=off", NULL},
    {"resume", LEAVES_RUN, DATA "cut/>run/", JUDGE_TRAIN "--model=m --keep_checkpoints=0", NULL},
    {"again", LEAVES_RUN, DATA "run/>run/", JUDGE_TRAIN "--model=m --keep_checkpoints=0", NULL},
    {"tune", LEAVES_RUN, DATA "run/step_00000006/>f/", JUDGE_TRAIN "--model=f --keep_checkpoints=0", NULL},
    {"bpe", LEAVES_FILES, "a.txt>a.txt b.txt>b.txt old.json>o/t.json",
     "bpe --input=a.txt,b.txt --vocab_size=384 --out=o/t.json --threads=1", NULL},
    {"tokenize", LEAVES_FILES, "a.txt>a.txt b.txt>b.txt tokenizer.json>tokenizer.json old_>o/s_",
     JUDGE_TOKENIZE "--input=a.txt,b.txt --out=o/s", "info --data=o/s_*.bin"},
    {"export", LEAVES_FILES, "run/step_00000006/>m/ old.json>o/m.gguf", "export --model=m --out=o/m.gguf", NULL},
    {"dump", LEAVES_FILES, "run/step_00000006/>m/ s_>s_ old.json>o/d.safetensors",
     "dump --model=m --data=s_val_*.bin --batch_size=1 --seq_len=16 --threads=1 --out=o/d.safetensors", NULL},
    {"eval", LEAVES_NOTHING, "run/step_00000006/>m/ s_>s_ e.conf>e.conf", "eval --config=e.conf", NULL},
    {"generate", LEAVES_NOTHING, "run/step_00000006/>m/", "generate --model=m --prompt=Der --tokens=8 --threads=1",
     NULL},
    {"info", LEAVES_NOTHING, "run/step_00000006/>m/ s_>s_",
     "info --model=m --data=s_*.bin --tokenizer=m/tokenizer.json --json=on", NULL},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

// What a call can say, but for ENOENT where it would be believed: there is nothing, then.
static const struct {
    const char *call, *ways;
} calls[] = {
    {"open", "EACCES EIO EMFILE ENFILE ENOMEM ESTALE EINTR ELOOP ENOSPC EROFS EMFILE+ EIO+ kill cut"},
    {"read", "EIO EINTR ESTALE short EIO+ ESTALE+ kill"},
    {"write", "EIO ENOSPC EDQUOT EFBIG EINTR EPIPE short ENOSPC+ EIO+ kill torn cut"},
    {"seek", "EIO"},
    {"fsync", "EIO ENOSPC EDQUOT ESTALE EINVAL EINTR EIO+ kill cut"},
    {"close", "EIO EINTR ENOSPC EDQUOT kill cut"},
    {"rename", "EIO ENOSPC EACCES EROFS EBUSY ESTALE ENOENT after EIO+ kill cut"},
    {"mkdir", "EIO ENOSPC EACCES EROFS EMLINK ESTALE after kill"},
    {"opendir", "EACCES EIO EMFILE ENFILE ENOMEM ESTALE EINTR ESTALE+ kill"},
    {"readdir", "EIO ESTALE EINTR EIO+"},
    {"stat", "EACCES EIO ENOMEM ESTALE ELOOP ETIMEDOUT EINTR ESTALE+"},
    {"mmap", "ENOMEM ENODEV EACCES EAGAIN EPERM ENOMEM+"},
    {"unlink", "EIO EACCES EBUSY EROFS ESTALE after kill cut"},
    {"ftruncate", "EIO EINTR kill"},
    {"lock", "EAGAIN EINTR ENOLCK EIO kill"},
    {"statvfs", "EIO ENOSYS EINTR"},
    {"realpath", "EACCES EIO ENOMEM"},
    {"memory", "ENOMEM ENOMEM+"},
    {"thread", "EAGAIN EAGAIN+"},
};
enum { CALLS = sizeof calls / sizeof *calls };

typedef struct {
    int scenario, call;
    long n;
    char way[16];
} Point;

typedef struct {
    atomic_int passed[SCENARIOS], failed[SCENARIOS], missed;
} Counts;

static struct {
    char program[JUDGE_PATH], library[JUDGE_PATH], work[JUDGE_PATH];
    Tree base, old[SCENARIOS], whole[SCENARIOS]; // before, and after the undisturbed command
    TreeFile said[SCENARIOS];                    // what that says on standard output
    Point *points;
    int count, capacity;
    Counts *counts; // shared by the workers
    bool keep;
} all;

// ---------------------------------------------------------------- the undisturbed commands

static void set_up(const Scenario *s, const char *folder) {
    char text[1024], *words[JUDGE_WORDS], path[JUDGE_PATH];
    judge_remove(folder);
    judge_folders(judge_path(path, folder, ""));
    snprintf(text, sizeof text, "%s", s->copied);
    for (int i = 0, n = judge_words(words, text); i < n; i++) {
        char *to = strchr(words[i], '>');
        *to++ = 0;
        tree_write(&all.base, words[i], folder, to);
    }
}

static void add_point(int scenario, int call, long n, const char *way) {
    if (all.count == all.capacity) {
        all.capacity = all.capacity ? 2 * all.capacity : 4096;
        all.points = (Point *)realloc(all.points, (size_t)all.capacity * sizeof(Point));
        if (!all.points) judge_die("out of memory");
    }
    Point p = {scenario, call, n, ""};
    snprintf(p.way, sizeof p.way, "%s", way);
    all.points[all.count++] = p;
}

// A sanitizer's library comes before ours.
static void preload_all(char text[2 * JUDGE_PATH]) {
    const char *first = getenv("PRELOAD");
    snprintf(text, 2 * JUDGE_PATH, "LD_PRELOAD=%s %s", first ? first : "", all.library);
}

// The undisturbed command: what it leaves and says, and a point for each way in which each of its calls can fail.
static void measure(int scenario, const char *without) {
    const Scenario *s = &scenarios[scenario];
    char folder[JUDGE_PATH], preload[2 * JUDGE_PATH], count[JUDGE_PATH], counts[2 * JUDGE_PATH], line[200];
    Run r;
    set_up(s, judge_path(folder, all.work, s->name));
    tree_read(&all.old[scenario], folder);
    preload_all(preload);
    snprintf(count, sizeof count, "%.900s.counts", folder);
    snprintf(counts, sizeof counts, "FAULT_COUNT=%s", count);
    unlink(count);
    const char *const environment[] = {preload, counts, NULL};
    judge_run(&r, all.program, s->words, folder, environment);
    if (r.code != 0) judge_die("%s: %s", s->words, judge_said(&r, line));
    tree_read(&all.whole[scenario], folder);
    all.said[scenario] = r.out;
    r.out.data = NULL;
    run_free(&r);
    if (s->kind == LEAVES_RUN) { // it may leave a checkpoint of any step
        char words[2048];
        tree_free(&all.whole[scenario]);
        set_up(s, folder);
        snprintf(words, sizeof words, "%s --checkpoint_every=1 --keep_checkpoints=0", s->words);
        judge_command(all.program, folder, words);
        tree_read(&all.whole[scenario], folder);
    }
    size_t size;
    char *text = judge_read(count, &size);
    for (int c = 0; c < CALLS; c++) {
        char name[32], ways[256], *words[JUDGE_WORDS];
        if (strcmp(calls[c].call, without) == 0) continue;
        snprintf(name, sizeof name, "\n%s ", calls[c].call);
        const char *at = strncmp(text, name + 1, strlen(name + 1)) == 0 ? text - 1 : strstr(text, name);
        if (!at) judge_die("%s does not count %s", all.library, calls[c].call);
        // A last write may come when the C library closes its streams, after the counting.
        long n = atol(at + strlen(name)) + (strcmp(calls[c].call, "write") == 0);
        snprintf(ways, sizeof ways, "%s", calls[c].ways);
        int way_count = judge_words(words, ways);
        for (long i = 1; i <= n; i++)
            for (int k = 0; k < way_count; k++) add_point(scenario, c, i, words[k]);
    }
    free(text);
    judge_remove(folder);
}

// ---------------------------------------------------------------- the verdict

// A name that no reader takes: a temporary file, and the folder of a set of shards that is not yet in place.
static bool is_temporary(const char *path) { return strstr(path, ".tmp") || strstr(path, ".new/"); }

// The name of the first thing in a tree for which no later run has a use; NULL: there is none.
static const char *leftover(const Tree *t) {
    for (int i = 0; i < t->count; i++)
        if (is_temporary(t->files[i]->path)) return t->files[i]->path;
    return NULL;
}

// metrics.jsonl is that of the undisturbed run. unvalidated: up to the measurement of a step whose data could not be
// read; its weights are in a checkpoint, and a resume begins behind it.
static bool same_metrics(const Tree *now, const Tree *whole, bool unvalidated) {
    const TreeFile *a = tree_find(now, "run/metrics.jsonl"), *b = tree_find(whole, "run/metrics.jsonl");
    if (!unvalidated || !a || !b || judge_same(a, b)) return judge_same(a, b);
    TreeFile less[2];
    for (int i = 0; i < 2; i++) {
        const TreeFile *f = i ? b : a;
        less[i] = *f;
        less[i].data = (char *)malloc(f->size + 1);
        less[i].size = 0;
        for (size_t k = 0; k < f->size; k++) {
            if (strncmp(f->data + k, ", \"val_", 7) == 0) k += strcspn(f->data + k, "}\n");
            less[i].data[less[i].size++] = f->data[k];
        }
        less[i].data[less[i].size] = 0;
    }
    bool same = judge_same(&less[0], &less[1]);
    free(less[0].data);
    free(less[1].data);
    return same;
}

// Checkpoints are whole: each has all files of the undisturbed run's, and the same. NULL: fine.
static const char *wrong_run(const Tree *now, int scenario, bool finished, bool unvalidated, char message[400]) {
    const Tree *whole = &all.whole[scenario];
    const char *last = "run/step_00000006/";
    for (int i = 0; i < now->count; i++) {
        const TreeFile *f = now->files[i];
        if (strncmp(f->path, "run/step_", 9) != 0 || is_temporary(f->path)) continue;
        if (!judge_same(f, tree_find(whole, f->path))) {
            snprintf(message, 400, "%.200s is not what the undisturbed run writes", f->path);
            return message;
        }
    }
    for (int i = 0; i < whole->count; i++) {
        char folder[32];
        snprintf(folder, sizeof folder, "%.18s", whole->files[i]->path);
        bool there = strncmp(folder, "run/step_", 9) == 0 && tree_find(now, folder);
        if ((there || (finished && strcmp(folder, last) == 0)) && !tree_find(now, whole->files[i]->path)) {
            snprintf(message, 400, "%.200s is missing", whole->files[i]->path);
            return message;
        }
    }
    if (finished && !same_metrics(now, whole, unvalidated))
        return "metrics.jsonl is not what the undisturbed run writes";
    return NULL;
}

// Files are old or new, the set of them, too. NULL: fine. *mixed: the names are not those of one set, or not its files.
static const char *wrong_files(const Tree *now, int scenario, bool finished, bool *mixed, char message[400]) {
    const Tree *sets[2] = {&all.whole[scenario], &all.old[scenario]};
    bool is[2] = {true, true};
    for (int i = 0; i < now->count; i++) {
        const TreeFile *f = now->files[i];
        if (is_temporary(f->path) || strncmp(f->path, "cache/", 6) == 0) continue;
        bool any = false;
        for (int k = 0; k < 2; k++) {
            bool same = judge_same(f, tree_find(sets[k], f->path));
            // A manifest is written before what it tells of, by its SHA-256: without that it tells nothing.
            bool early = k == 1 && any && strstr(f->path, ".manifest.json") != NULL;
            is[k] = is[k] && (same || early);
            any = any || same;
        }
        if (!any) {
            snprintf(message, 400, "%.200s is neither what was there before nor what the undisturbed command writes",
                     f->path);
            return message;
        }
    }
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < sets[k]->count; i++) {
            const char *path = sets[k]->files[i]->path;
            is[k] = is[k] && (strncmp(path, "cache/", 6) == 0 || tree_find(now, path));
        }
    *mixed = !is[0] && !is[1];
    return finished && !is[0] ? "exit code 0, and its files are not there" : NULL;
}

// What is wrong with what a command left. NULL: nothing.
static const char *wrong(const Tree *now, int scenario, const Run *r, bool unvalidated, bool *mixed,
                         char message[400]) {
    bool finished = r->code == 0;
    *mixed = false;
    if (scenarios[scenario].kind == LEAVES_RUN) return wrong_run(now, scenario, finished, unvalidated, message);
    const char *what = wrong_files(now, scenario, finished, mixed, message);
    if (what || !finished) return what;
    return judge_same(&r->out, &all.said[scenario]) ? NULL : "exit code 0, and standard output is not whole";
}

// Old and new files stand side by side: their reader refuses them, or brings the new ones to their end first.
static const char *taken_in_parts(const char *folder, int scenario, char message[400]) {
    Run r;
    Tree now;
    bool mixed;
    if (!scenarios[scenario].reader) return "old and new files stand side by side";
    judge_run(&r, all.program, scenarios[scenario].reader, folder, NULL);
    tree_read(&now, folder);
    const char *what = judge_errors(&r);
    if (!what) what = wrong_files(&now, scenario, false, &mixed, message);
    if (!what && r.code == 0 && mixed) what = "a set that is half old and half new is read";
    tree_free(&now);
    run_free(&r);
    return what;
}

// The same command again, undisturbed.
static const char *wrong_after(const char *folder, int scenario, bool unvalidated, char message[400]) {
    Run r;
    Tree now;
    bool mixed;
    char line[200];
    judge_run(&r, all.program, scenarios[scenario].words, folder, NULL);
    tree_read(&now, folder);
    const char *what = judge_errors(&r);
    if (!what && r.code != 0) {
        snprintf(message, 400, "the command once more, undisturbed: exit code %d: %s", r.code, judge_said(&r, line));
        what = message;
    }
    if (!what) what = wrong(&now, scenario, &r, unvalidated, &mixed, message);
    if (!what && leftover(&now)) {
        snprintf(message, 400, "after the command once more, undisturbed, %.200s is still there", leftover(&now));
        what = message;
    }
    tree_free(&now);
    run_free(&r);
    return what;
}

static void judge_point(const Point *p, const char *folder) {
    const Scenario *s = &scenarios[p->scenario];
    char environment[5][2 * JUDGE_PATH], counts[JUDGE_PATH], message[400], line[200];
    Run r;
    Tree now;
    set_up(s, folder);
    snprintf(counts, sizeof counts, "%.900s.counts", folder);
    unlink(counts);
    preload_all(environment[0]);
    snprintf(environment[1], sizeof environment[1], "FAULT_CALL=%s", calls[p->call].call);
    snprintf(environment[2], sizeof environment[2], "FAULT_N=%ld", p->n);
    snprintf(environment[3], sizeof environment[3], "FAULT_ERRNO=%s", p->way);
    snprintf(environment[4], sizeof environment[4], "FAULT_COUNT=%s", counts);
    const char *const set[] = {environment[0], environment[1], environment[2], environment[3], environment[4], NULL};
    judge_run(&r, all.program, s->words, folder, set);
    tree_read(&now, folder);
    size_t size;
    char *counted = access(counts, F_OK) == 0 ? judge_read(counts, &size) : strdup("");
    bool fired = strncmp(counted, "fired", 5) == 0 || strstr(counted, "\nfired"), mixed, left = leftover(&now) != NULL;
    bool kill = strcmp(p->way, "kill") == 0 || strcmp(p->way, "torn") == 0 || strcmp(p->way, "cut") == 0;
    const char *what = fired && kill && r.signal == SIGKILL && !r.hung ? NULL : judge_errors(&r);
    if (!fired) atomic_fetch_add(&all.counts->missed, 1);
    if (!what) what = wrong(&now, p->scenario, &r, false, &mixed, message);
    if (!what && mixed) what = taken_in_parts(folder, p->scenario, message);
    if (!what && (r.code != 0 || left))
        what = wrong_after(folder, p->scenario, strstr(r.err.data, "s_val_") != NULL, message);
    atomic_fetch_add(what ? &all.counts->failed[p->scenario] : &all.counts->passed[p->scenario], 1);
    if (what || all.keep) {
        char text[900];
        int n = snprintf(text, sizeof text, "%s %s:%s:%ld:%s: %s (exit code %d, signal %d: %s)\n",
                         what ? "FAILED" : "passed", s->name, calls[p->call].call, p->n, p->way, what ? what : "",
                         r.code, r.signal, judge_said(&r, line));
        if (write(STDOUT_FILENO, text, (size_t)n) != n) judge_die("cannot write");
    }
    free(counted);
    tree_free(&now);
    run_free(&r);
}

// ---------------------------------------------------------------- all of them

static void judge_share(long w, long workers, const char *folder) {
    for (long i = w; i < all.count; i += workers) judge_point(&all.points[i], folder);
}

// As many at a time as there are cores; each in a folder of its own.
static void judge_points(void) {
    judge_in_parallel(all.keep ? 1 : sysconf(_SC_NPROCESSORS_ONLN), all.work, "point", judge_share);
}

// The points of a scenario's calls of one kind follow each other.
static int group_end(int i) {
    int end = i;
    while (end < all.count && all.points[end].scenario == all.points[i].scenario &&
           all.points[end].call == all.points[i].call)
        end++;
    return end;
}

// About N of the points: as many of each kind of call of each scenario, evenly chosen over its calls and ways.
static void take_sample(int n) {
    bool *chosen = (bool *)calloc((size_t)all.count, sizeof(bool));
    int quota = 0, taken = 0, total;
    if (!chosen) judge_die("out of memory");
    do {
        total = 0;
        quota++;
        for (int i = 0, end; i < all.count; i = end) {
            end = group_end(i);
            total += end - i < quota ? end - i : quota;
        }
    } while (total < n && total < all.count && quota < n);
    for (int i = 0, end; i < all.count; i = end) {
        end = group_end(i);
        int size = end - i, some = size < quota ? size : quota;
        // Multiples of the golden ratio lie evenly, and in step with no number of ways.
        for (int k = 0; k < some; k++) {
            double place = size > some ? k * 0.6180339887498949 : (double)k / size + 0.5 / size;
            chosen[i + (int)((place - (double)(long)place) * size)] = true;
        }
    }
    for (int i = 0; i < all.count; i++)
        if (chosen[i]) all.points[taken++] = all.points[i];
    all.count = taken;
    free(chosen);
}

static void take_one(const char *name) {
    int kept = 0;
    for (int i = 0; i < all.count; i++) {
        const Point *p = &all.points[i];
        char own[128];
        snprintf(own, sizeof own, "%s:%s:%ld:%s", scenarios[p->scenario].name, calls[p->call].call, p->n, p->way);
        size_t n = strlen(name);
        if (strncmp(own, name, n) == 0 && (!own[n] || own[n] == ':')) all.points[kept++] = *p;
    }
    all.count = kept;
    all.keep = kept <= 1;
}

int main(int argc, char **argv) {
    const char *sample = "0", *only = NULL, *without = "";
    for (int i = 4; i < argc; i++)
        if (strncmp(argv[i], "--sample=", 9) == 0) sample = argv[i] + 9;
        else if (strncmp(argv[i], "--only=", 7) == 0) only = argv[i] + 7;
        else if (strncmp(argv[i], "--without=", 10) == 0) without = argv[i] + 10;
        else judge_die("unknown option %s", argv[i]);
    if (argc < 4 || !realpath(argv[1], all.program) || !realpath(argv[2], all.library))
        judge_die("expected: faults_run PROGRAM FAULTS.so TEXT [--sample=N] [--only=SCENARIO:CALL:N:ERRNO]");
    judge_folder(all.work, "faults");
    all.counts = (Counts *)mmap(NULL, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all.counts == MAP_FAILED) judge_die("out of memory");
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("LLMC_CACHE", "cache", 1); // of the CUDA program; each folder has its own
    judge_base(&all.base, all.program, argv[3], all.work);
    for (int i = 0; i < SCENARIOS; i++) measure(i, without);
    int points = all.count;
    if (atoi(sample) > 0) take_sample(atoi(sample));
    if (only) take_one(only);
    judge_points();
    int passed = 0, failed = 0;
    for (int i = 0; i < SCENARIOS; i++) {
        printf("%-10s %5d passed, %d failed\n", scenarios[i].name, all.counts->passed[i], all.counts->failed[i]);
        passed += all.counts->passed[i], failed += all.counts->failed[i];
    }
    printf("%d of %d points; %d calls were not reached\n", all.count, points, all.counts->missed);
    if (all.count >= 100 && all.counts->missed > all.count / 20) {
        printf("FAILED too many calls were not reached: runs differ, or the library counts others than it lets fail\n");
        failed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    if (all.keep) printf("its folder: %s/point0\n", all.work);
    else judge_remove(all.work);
    return failed != 0;
}
