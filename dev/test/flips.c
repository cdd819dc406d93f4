/*
flips.c: damaged files: one flipped bit, or an end cut off, in every part of every file of a checkpoint and of shards;
and each of these files gone.

    flips PROGRAM TEXT               every byte of what is short, and of what is long up to 400 places, evenly chosen
    flips PROGRAM TEXT --sample=N    N damages of all, evenly chosen

Whoever reads a damaged file refuses it, with exit code 1 and one line of error, or it has no consequence: output, and
weights after a resume, have the same bits. The table at the end says which it was, for each part of each file:
`refused/same` of each reader. The last line is `N passed, N failed`; each reader of each damage counts as one.
*/
#include "judge.h"
#include <stdatomic.h>
#include <sys/mman.h>

// ---------------------------------------------------------------- who reads

typedef struct {
    const char *name, *words;
    const char *copied; // "FROM>TO ...": what lies in the folder, from the folder `base`
    const char *result; // the files that must be the same, all that begin so; NULL: standard output
} Reader;

#define CHECKPOINT "cut/step_00000004/>run/step_00000004/ "
// train sees every token of its shard; no step of resume has to.
static const Reader readers[] = {
    {"resume", JUDGE_TRAIN "--model=m --keep_checkpoints=0", CHECKPOINT "s_>s_ tokenizer.json>tokenizer.json m/>m/",
     "run/step_00000006/"},
    {"train",
     "train --model=m --train_data=s_train_00000.bin --val_data=s_val_00000.bin --tokenizer=tokenizer.json --out=new "
     "--batch_size=16 --seq_len=16 --threads=1 --steps=4 --lr=3e-3 --val_every=4 --checkpoint_every=0 --progress=off",
     "s_>s_ tokenizer.json>tokenizer.json m/>m/", "new/step_00000004/"},
    {"eval", "eval --model=run/step_00000004 --data=s_val_00000.bin --seq_len=16 --batch_size=4 --threads=1",
     CHECKPOINT "s_>s_", NULL},
    {"generate", "generate --model=run/step_00000004 --prompt=Der --tokens=8 --threads=1", CHECKPOINT, NULL},
    {"export", "export --model=run/step_00000004 --out=x.gguf", CHECKPOINT, "x.gguf"},
};
enum { READERS = sizeof readers / sizeof *readers };

// ---------------------------------------------------------------- what is damaged

typedef struct {
    char file[JUDGE_PATH]; // in a reader's folder
    char name[64];         // of the part
    size_t first, last;    // its bytes: [first, last)
} Part;

typedef struct {
    int part;
    size_t at;
    int bit; // or BIT_CUT, BIT_GONE
} Damage;

enum { BIT_CUT = -1, BIT_GONE = -2 }; // the file ends here; it is not there
enum { PARTS = 128, PLACES = 400 };
typedef enum { VERDICT_REFUSED, VERDICT_SAME, VERDICT_WRONG, VERDICT_COUNT } Verdict;

static struct {
    char program[JUDGE_PATH], work[JUDGE_PATH];
    Tree base, whole[READERS]; // what an undamaged reading leaves
    TreeFile said[READERS];
    Part parts[PARTS];
    int part_count;
    Damage *damages;
    int count, capacity;
    atomic_int (*verdicts)[READERS][VERDICT_COUNT]; // (PARTS), shared by the workers
} all;

static void add_part(const char *file, const char *name, size_t first, size_t last) {
    if (all.part_count == PARTS) judge_die("more than %d parts", PARTS);
    Part *p = &all.parts[all.part_count++];
    snprintf(p->file, sizeof p->file, "%s", file);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->first = first;
    p->last = last;
}

static size_t find(const TreeFile *f, const char *text) {
    const char *at = strstr(f->data, text);
    if (!at) judge_die("%s has no %s", f->path, text);
    return (size_t)(at - f->data);
}

// The parts of a file, by its format. to: its path in a reader's folder.
static void add_parts(const TreeFile *f, const char *to) {
    static const struct {
        const char *name;
        size_t size;
    } shard[] = {{"magic", 8},     {"version", 4},  {"token width", 4},    {"tokens", 8},
                 {"documents", 8}, {"bytes", 8},    {"vocab", 8},          {"tokenizer", 8},
                 {"end token", 8}, {"checksum", 8}, {"reserved", 118 * 8}, {"header sum", 8}};
    const char *slash = strrchr(to, '/'), *name = slash ? slash + 1 : to;
    size_t n = strlen(name);
    if (strcmp(name, "run.json") == 0) {
        size_t options = find(f, "\"options\""), files = find(f, "\"files\"");
        add_part(to, "position", 0, options);
        add_part(to, "options", options, files);
        add_part(to, "files", files, f->size);
    } else if (n > 12 && strcmp(name + n - 12, ".safetensors") == 0) {
        size_t header = 8 + (unsigned char)f->data[0] + 256u * (unsigned char)f->data[1];
        add_part(to, "length", 0, 8);
        add_part(to, "header", 8, header);
        add_part(to, "numbers", header, f->size);
    } else if (n > 4 && strcmp(name + n - 4, ".bin") == 0) {
        size_t at = 0;
        for (size_t i = 0; i < sizeof shard / sizeof *shard; at += shard[i++].size)
            add_part(to, shard[i].name, at, at + shard[i].size);
        add_part(to, "text", at, f->size - 32);
        add_part(to, "tail", f->size - 32, f->size);
    } else add_part(to, "whole", 0, f->size);
}

static void add_damage(int part, size_t at, int bit) {
    if (all.count == all.capacity) {
        all.capacity = all.capacity ? 2 * all.capacity : 4096;
        all.damages = (Damage *)realloc(all.damages, (size_t)all.capacity * sizeof(Damage));
        if (!all.damages) judge_die("out of memory");
    }
    Damage d = {part, at, bit};
    all.damages[all.count++] = d;
}

// Of a short part every byte, of a very short one every bit; and ends at its first byte, in its middle, at its last.
static void add_damages(int part) {
    const Part *p = &all.parts[part];
    size_t n = p->last - p->first, places = n < PLACES ? n : PLACES;
    for (size_t i = 0; i < places; i++) {
        size_t at = p->first + i * n / places;
        for (int bit = 0; bit < 8; bit++)
            if (n <= 8 || (at * 5 + i) % 8 == (size_t)bit) add_damage(part, at, bit);
    }
    add_damage(part, p->first, BIT_CUT);
    add_damage(part, p->first + n / 2, BIT_CUT);
    add_damage(part, p->last - 1, BIT_CUT);
    if (p->first == 0) add_damage(part, 0, BIT_GONE);
}

static void make_damages(void) {
    static const char folder[] = "cut/step_00000004/";
    for (int i = 0; i < all.base.count; i++) {
        const TreeFile *f = all.base.files[i];
        char to[JUDGE_PATH];
        if (!f->data) continue;
        if (strncmp(f->path, folder, strlen(folder)) == 0) {
            snprintf(to, sizeof to, "run/%.900s", f->path + 4);
            add_parts(f, to);
        } else if (strcmp(f->path, "s_train_00000.bin") == 0 || strcmp(f->path, "s_val_00000.bin") == 0)
            add_parts(f, f->path);
    }
    for (int i = 0; i < all.part_count; i++) add_damages(i);
}

// ---------------------------------------------------------------- the verdict

static void set_up(const Reader *r, const char *folder) {
    char text[1024], *words[JUDGE_WORDS], path[JUDGE_PATH];
    judge_remove(folder);
    judge_folders(judge_path(path, folder, ""));
    snprintf(text, sizeof text, "%s", r->copied);
    for (int i = 0, n = judge_words(words, text); i < n; i++) {
        char *to = strchr(words[i], '>');
        *to++ = 0;
        tree_write(&all.base, words[i], folder, to);
    }
}

static void measure(int reader) {
    const Reader *r = &readers[reader];
    char folder[JUDGE_PATH], line[200];
    Run run;
    set_up(r, judge_path(folder, all.work, r->name));
    judge_run(&run, all.program, r->words, folder, NULL);
    if (run.code != 0) judge_die("%s: %s", r->words, judge_said(&run, line));
    tree_read(&all.whole[reader], folder);
    all.said[reader] = run.out;
    free(run.err.data);
    judge_remove(folder);
}

// The file with its damage; false: this reader has no such file.
static bool damage(const Damage *d, const char *folder) {
    char path[JUDGE_PATH];
    struct stat st;
    size_t size;
    judge_path(path, folder, all.parts[d->part].file);
    if (stat(path, &st) != 0) return false;
    char *data = judge_read(path, &size);
    if (d->bit >= 0) data[d->at] = (char)(data[d->at] ^ 1 << d->bit);
    if (d->bit == BIT_GONE) unlink(path);
    else judge_write(path, data, d->bit == BIT_CUT ? d->at : size);
    free(data);
    return true;
}

// NULL: nothing is wrong, and *verdict says whether the damage was refused.
static const char *judge(Verdict *verdict, const Run *run, const Reader *r, const char *folder) {
    const char *what = judge_errors(run);
    int reader = (int)(r - readers);
    *verdict = VERDICT_REFUSED;
    if (what || run->code == 1) return what;
    *verdict = VERDICT_SAME;
    if (!r->result) return judge_same(&run->out, &all.said[reader]) ? NULL : "taken, and the output is another";
    Tree now;
    tree_read(&now, folder);
    for (int i = 0; !what && i < all.whole[reader].count; i++) {
        const TreeFile *f = all.whole[reader].files[i];
        if (strncmp(f->path, r->result, strlen(r->result)) == 0 && !judge_same(f, tree_find(&now, f->path)))
            what = "taken, and the result is another";
    }
    tree_free(&now);
    return what;
}

static void judge_damage(const Damage *d, const char *folder) {
    const Part *p = &all.parts[d->part];
    for (int i = 0; i < READERS; i++) {
        const Reader *r = &readers[i];
        Run run;
        Verdict verdict;
        char line[200], text[900];
        set_up(r, folder);
        if (!damage(d, folder)) continue;
        judge_run(&run, all.program, r->words, folder, NULL);
        const char *what = judge(&verdict, &run, r, folder);
        if (what) {
            verdict = VERDICT_WRONG;
            int n = snprintf(text, sizeof text, "FAILED %s of %.200s, %s, byte %zu, %s %d: %s (exit code %d: %s)\n",
                             r->name, p->file, p->name, d->at,
                             d->bit == BIT_GONE ? "gone"
                             : d->bit < 0       ? "cut"
                                                : "bit",
                             d->bit, what, run.code, judge_said(&run, line));
            if (write(STDOUT_FILENO, text, (size_t)n) != n) judge_die("cannot write");
        }
        atomic_fetch_add(&all.verdicts[d->part][i][verdict], 1);
        run_free(&run);
    }
}

static void judge_share(long w, long workers, const char *folder) {
    for (long i = w; i < all.count; i += workers) judge_damage(&all.damages[i], folder);
}

static void judge_damages(void) { judge_in_parallel(sysconf(_SC_NPROCESSORS_ONLN), all.work, "damage", judge_share); }

// ---------------------------------------------------------------- the table

static void print_table(int *passed, int *failed) {
    printf("%-42s %-12s", "refused/same", "part");
    for (int i = 0; i < READERS; i++) printf(" %11s", readers[i].name);
    printf("\n");
    for (int k = 0; k < all.part_count; k++) {
        const char *file = all.parts[k].file, *slash = strrchr(file, '/');
        printf("%-42s %-12s", slash ? slash + 1 : file, all.parts[k].name);
        for (int i = 0; i < READERS; i++) {
            int refused = all.verdicts[k][i][VERDICT_REFUSED], same = all.verdicts[k][i][VERDICT_SAME],
                bad = all.verdicts[k][i][VERDICT_WRONG];
            char text[64] = "-";
            if (refused + same + bad) snprintf(text, sizeof text, "%d/%d%s", refused, same, bad ? " WRONG" : "");
            printf(" %11s", text);
            *passed += refused + same;
            *failed += bad;
        }
        printf("\n");
    }
}

int main(int argc, char **argv) {
    int sample = argc == 4 && strncmp(argv[3], "--sample=", 9) == 0 ? atoi(argv[3] + 9) : 0;
    if (argc < 3 || (argc > 3 && sample <= 0) || !realpath(argv[1], all.program))
        judge_die("expected: flips PROGRAM TEXT [--sample=N]");
    size_t bytes = sizeof *all.verdicts * PARTS;
    all.verdicts = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all.verdicts == MAP_FAILED) judge_die("out of memory");
    setenv("OMP_NUM_THREADS", "1", 1);
    judge_folder(all.work, "flips");
    judge_base(&all.base, all.program, argv[2], all.work);
    for (int i = 0; i < READERS; i++) measure(i);
    make_damages();
    int damages = all.count;
    if (sample && sample < damages) {
        for (int i = 0; i < sample; i++) all.damages[i] = all.damages[(long)i * damages / sample];
        all.count = sample;
    }
    judge_damages();
    int passed = 0, failed = 0;
    print_table(&passed, &failed);
    printf("%d of %d damages\n%d passed, %d failed\n", all.count, damages, passed, failed);
    judge_remove(all.work);
    return failed != 0;
}
