/*
shard_set.h: the shards of one prefix appear together or not at all.

A run of `tokenize` writes FOLDER/BASE_train_00000.bin ... and FOLDER/BASE_val_00000.bin ..., a set. No call renames
many files at once, so:

1. The shards are written in a hidden folder, FOLDER/.BASE.tmp.PID, which its writer locks (flock). One that a killed
   process left is removed by the next that writes this prefix.
2. When all are complete and synced, the folder becomes FOLDER/.BASE.new. This one rename is the moment: a process that
   is killed before it leaves the old set, one killed after it the new.
3. The shards get their names, surplus ones of the old set go, then .BASE.new. Whoever finds .BASE.new does the same
   first (shard_set_settle), be it a writer or a reader: every call can be repeated.

Beside every shard stands the list of its documents, BASE_train_00000.docs (shard_docs.h), and beside the set
BASE_manifest.json, if its writer made them: the same holds for them.

So sets get mixed only by hand, or where .BASE.new is lost in copying; for that every header names its set (data.h).
On file systems without locks two processes may settle one set at a time; they then do the same renames.
*/
#ifndef LLMC_SHARD_SET_H
#define LLMC_SHARD_SET_H

#include "../base/file.h"

#define SHARD_MAGIC 0x647261687354504Cull      // the bytes "LPTshard"
#define SHARD_DOCS_MAGIC 0x73636f645f54504Cull // the bytes "LPT_docs": the list of a shard's documents (shard_docs.h)

#define SHARD_MANIFEST "_manifest.json"
#define SHARD_MANIFEST_START "{\n  \"shards\": " // what ours begin with

enum { SIDE_TRAIN, SIDE_VAL };
static const char *const shard_sides[2] = {"train", "val"};

#define SHARD_BASE_SIZE 224 // a name has at most 255 bytes, and BASE_train_00000.bin and .BASE.tmp.PID are names

// FOLDER/BASE_SIDE_NUMBER.bin, taken apart; or .docs.
typedef struct {
    Path folder;
    char base[SHARD_BASE_SIZE];
    int side;
    long number;
    bool docs;
} ShardName;

static inline const char *shard_ending(bool docs) { return docs ? "docs" : "bin"; }

// Folder and base of a prefix, or of any path.
static inline bool shard_prefix_parse(ShardName *n, const char *prefix, Error *err) {
    const char *slash = strrchr(prefix, '/'), *base = slash ? slash + 1 : prefix;
    memset(n, 0, sizeof *n);
    n->folder = path_parent(prefix);
    if (!*base || strlen(base) >= sizeof n->base)
        return error_set(err,
                         "the prefix of the shards must end in a name of at most %d bytes, e.g. data/german; it is "
                         "\"%.300s\"",
                         SHARD_BASE_SIZE - 1, prefix);
    memcpy(n->base, base, strlen(base));
    return true;
}

static inline bool shard_name_parse_any(ShardName *n, const char *path) {
    if (!shard_prefix_parse(n, path, NULL)) return false;
    char *dot = strrchr(n->base, '.'), *digits = dot;
    if (!dot) return false;
    n->docs = strcmp(dot + 1, shard_ending(true)) == 0;
    if (strcmp(dot + 1, shard_ending(n->docs)) != 0) return false;
    while (digits > n->base && digits[-1] >= '0' && digits[-1] <= '9') digits--;
    if (dot - digits < 5 || dot - digits > 9) return false;
    n->number = strtol(digits, NULL, 10);
    for (n->side = 0; n->side < 2; n->side++) {
        size_t size = strlen(shard_sides[n->side]) + 2; // _train_
        char *side = digits - size;
        if (digits - n->base < (ptrdiff_t)size || side[0] != '_' || digits[-1] != '_') continue;
        if (memcmp(side + 1, shard_sides[n->side], size - 2) != 0) continue;
        *side = 0;
        return true;
    }
    return false;
}

// The name of a shard, as a pattern of shards finds it.
static inline bool shard_name_parse(ShardName *n, const char *path) {
    return shard_name_parse_any(n, path) && !n->docs;
}

static inline Path shard_file_path(const ShardName *n, int side, int64_t number, bool docs) {
    return path_of("%s/%s_%s_%05lld.%s", n->folder.text, n->base, shard_sides[side], (long long)number,
                   shard_ending(docs));
}

static inline Path shard_path(const ShardName *n, int side, int64_t number) {
    return shard_file_path(n, side, number, false);
}

// Whether a file of that name would be a shard of this prefix, or its list of documents, as tokenize spells it; which
// one, in *found.
static inline bool shard_of_prefix(ShardName *found, const ShardName *n, const char *name) {
    if (!shard_name_parse_any(found, name) || strcmp(found->base, n->base) != 0) return false;
    found->folder = n->folder;
    Path path = shard_file_path(found, found->side, found->number, found->docs);
    return str_ends_with(path.text, name);
}

static inline Path shard_manifest_path(const ShardName *n) {
    return path_of("%s/%s%s", n->folder.text, n->base, SHARD_MANIFEST);
}

// Whether tokenize wrote it; those of llm.c can have the same name.
static inline bool shard_is_own(const char *path, bool *own, Error *err) {
    uint64_t magic = 0;
    FILE *f = file_open_read(path, err);
    if (!f) return false;
    size_t n = fread(&magic, 1, sizeof magic, f);
    bool failed = ferror(f) != 0;
    fclose(f);
    // One of no bytes is no loss.
    *own = n == 0 || (n == sizeof magic && (magic == SHARD_MAGIC || magic == SHARD_DOCS_MAGIC));
    return failed ? error_set(err, "cannot read %s", path) : true;
}

static inline Path shard_set_new(const ShardName *n) { return path_of("%s/.%s.new", n->folder.text, n->base); }

// ---------------------------------------------------------------- a set gets its names

// How many shards of each side .BASE.new had when it was made, and whether documents are listed beside them: counts[2].
static inline bool shard_set_counts(int64_t counts[3], const Path *folder, bool *there, Error *err) {
    FileKind kind;
    Str text;
    Path path = path_of("%s/set", folder->text);
    long long train, val, docs = 0;
    memset(&text, 0, sizeof text);
    if (!path_look(path.text, &kind, err)) return false;
    *there = kind != FILE_ABSENT;
    if (!*there) return true;
    bool ok = file_read(&text, path.text, 100, err);
    if (ok && (sscanf(text.data, "train %lld val %lld docs %lld.", &train, &val, &docs) < 2 || train < 0 || val < 0))
        ok = error_set(err, "%s is damaged; remove the folder %s and tokenise again", path.text, folder->text);
    if (ok) counts[0] = train, counts[1] = val, counts[2] = docs;
    free(text.data);
    return ok;
}

static inline bool shard_set_stuck(const ShardName *n, const char *what, const char *name, Error *err) {
    int why = errno;
    return error_set(err,
                     "the shards %s/%s are complete and still have to get their names, but cannot %s %s: %s; run this "
                     "where the folder can be written",
                     n->folder.text, n->base, what, name, strerror(why));
}

// Removes shards of an earlier run behind the last ones of a set.
static inline bool shard_set_trim(const ShardName *n, const int64_t counts[3], Error *err) {
    StrList names;
    ShardName old;
    memset(&names, 0, sizeof names);
    bool ok = folder_list(&names, n->folder.text, err);
    for (int i = 0; ok && i < names.count; i++) {
        if (!shard_of_prefix(&old, n, names.items[i])) continue;
        if (old.number < counts[old.side] && (!old.docs || counts[2])) continue;
        Path path = path_of("%s/%s", n->folder.text, names.items[i]);
        bool own;
        if (!shard_is_own(path.text, &own, err)) ok = false;
        else if (own && unlink(path.text) != 0 && errno != ENOENT) ok = shard_set_stuck(n, "remove", path.text, err);
    }
    str_list_free(&names);
    return ok;
}

static inline bool shard_set_rename(int fd, const char *from, const ShardName *n, Path to, Error *err) {
    struct stat st; // ENOENT: it has its name, unless it is still there
    if (renameat(fd, from, AT_FDCWD, to.text) == 0 ||
        (errno == ENOENT && fstatat(fd, from, &st, 0) != 0 && errno == ENOENT))
        return true;
    return shard_set_stuck(n, "rename to", to.text, err);
}

// fd: .BASE.new, locked where locks are to be had. Names are relative to it, so that a set that took its place in the
// meantime is not touched.
static inline bool shard_set_name(int fd, const ShardName *n, Error *err) {
    int64_t counts[3];
    Path folder = shard_set_new(n);
    bool there;
    if (!shard_set_counts(counts, &folder, &there, err)) return false;
    for (int side = 0; there && side < 2; side++)
        for (int64_t i = 0; i < counts[side] * (counts[2] ? 2 : 1); i++) {
            bool docs = i >= counts[side];
            int64_t number = docs ? i - counts[side] : i;
            Path from = path_of("%s_%05lld.%s", shard_sides[side], (long long)number, shard_ending(docs));
            if (!shard_set_rename(fd, from.text, n, shard_file_path(n, side, number, docs), err)) return false;
        }
    if (there && counts[2] && !shard_set_rename(fd, "manifest.json", n, shard_manifest_path(n), err)) return false;
    if (there && (!shard_set_trim(n, counts, err) || !path_sync_folder(n->folder.text, err))) return false;
    if (unlinkat(fd, "set", 0) != 0 && errno != ENOENT) return shard_set_stuck(n, "empty", folder.text, err);
    if (rmdir(folder.text) != 0 && errno != ENOENT) return shard_set_stuck(n, "remove", folder.text, err);
    return path_sync_folder(n->folder.text, err);
}

static inline void file_lock(int fd) {
    while (flock(fd, LOCK_EX) != 0 && errno == EINTR) {}
}

// Gives the shards of .BASE.new their names, if there is such a folder; waits for another process that does it.
// *done: there was one.
static inline bool shard_set_settle(const ShardName *n, bool *done, Error *err) {
    Path folder = shard_set_new(n);
    for (int tries = 0; tries < 100; tries++) {
        FileKind kind;
        FileId named;
        struct stat st;
        if (!path_look(folder.text, &kind, err)) return false;
        if (kind == FILE_ABSENT) return true;
        *done = true;
        int fd = open(folder.text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) return true;
        if (fd < 0) return error_set(err, "cannot open the folder %s: %s", folder.text, strerror(errno));
        file_lock(fd);
        bool ok = path_id(folder.text, &named, err);
        if (ok && fstat(fd, &st) != 0) ok = error_set(err, "cannot look at %s: %s", folder.text, strerror(errno));
        bool same = ok && named.device == (uint64_t)st.st_dev && named.inode == (uint64_t)st.st_ino;
        ok = ok && (!same || shard_set_name(fd, n, err));
        close(fd);
        if (!ok || same) return ok;
    }
    return error_set(err, "%s changes all the time; look for processes that write there", folder.text);
}

// The same for every set that lies in the folder of a part of "GLOB,FILE,...", whatever its name.
static inline bool shard_set_settle_folders(const char *globs, bool *done, Error *err) {
    for (const char *part = globs; *part;) {
        size_t n = strcspn(part, ",");
        ShardName name;
        FileKind kind;
        StrList names;
        memset(&names, 0, sizeof names);
        memset(&name, 0, sizeof name);
        name.folder = n < PATH_SIZE ? path_parent(path_home(path_of("%.*s", (int)n, part).text).text) : path_of(".");
        part += n + (part[n] == ',');
        bool ok = path_look(name.folder.text, &kind, err) &&
                  (kind != FILE_FOLDER || folder_list(&names, name.folder.text, err));
        for (int i = 0; ok && i < names.count; i++) {
            const char *found = names.items[i];
            size_t size = strlen(found);
            if (found[0] != '.' || size < 6 || size - 5 >= sizeof name.base || !str_ends_with(found, ".new")) continue;
            memset(name.base, 0, sizeof name.base);
            memcpy(name.base, found + 1, size - 5);
            Path mark = path_of("%s/%s/set", name.folder.text, found);
            ok = path_look(mark.text, &kind, err) && (kind == FILE_ABSENT || shard_set_settle(&name, done, err));
        }
        str_list_free(&names);
        if (!ok) return false;
    }
    return true;
}

// ---------------------------------------------------------------- writing one

typedef struct {
    ShardName name;
    Path staging; // FOLDER/.BASE.tmp.PID
    int lock;     // its file descriptor
    SignalHold hold;
} ShardSet;

// Removes what killed processes left of this prefix (see out_sweep).
static inline void shard_set_sweep(const ShardName *n) {
    StrList names;
    memset(&names, 0, sizeof names);
    folder_list(&names, n->folder.text, NULL);
    Path start = path_of(".%s.tmp.", n->base);
    size_t size = strlen(start.text);
    for (int i = 0; i < names.count; i++) {
        const char *digits = names.items[i] + size;
        if (strncmp(names.items[i], start.text, size) != 0 || !*digits || strlen(digits) > 9) continue;
        if (digits[strspn(digits, "0123456789")]) continue;
        if (atoi(digits) != (int)getpid() && (kill(atoi(digits), 0) == 0 || errno != ESRCH)) continue;
        Path left = path_of("%s/%s", n->folder.text, names.items[i]);
        int fd = open(left.text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) path_remove_tree(left.text, NULL);
        close(fd);
    }
    str_list_free(&names);
}

// A manifest that is there will be replaced: tokenize must have written it.
static inline bool shard_set_replaces_manifest(const ShardName *n, Error *err) {
    FileKind kind;
    char start[sizeof SHARD_MANIFEST_START] = "";
    Path path = shard_manifest_path(n);
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    FILE *f = file_open_read(path.text, err);
    if (!f) return false;
    size_t size = fread(start, 1, sizeof start - 1, f);
    fclose(f);
    return size == 0 || strcmp(start, SHARD_MANIFEST_START) == 0
               ? true
               : error_set(err,
                           "%s was not written by this program, and --out=%s/%s would replace it; choose another "
                           "--out, or remove it",
                           path.text, n->folder.text, n->base);
}

// The shards that are there will be replaced or removed: tokenize must have written them, and they must be none of what
// is read (inputs, in any order).
static inline bool shard_set_replaces(const ShardName *n, const FileId *inputs, size_t count, Error *err) {
    StrList names;
    ShardName old;
    memset(&names, 0, sizeof names);
    bool ok = folder_list(&names, n->folder.text, err);
    for (int i = 0; ok && i < names.count; i++) {
        FileKind kind;
        FileId id;
        if (!shard_of_prefix(&old, n, names.items[i])) continue;
        Path path = path_of("%s/%s", n->folder.text, names.items[i]);
        bool own = true;
        ok = path_look(path.text, &kind, err) && path_id(path.text, &id, err);
        if (ok && kind != FILE_REGULAR && kind != FILE_ABSENT)
            ok = error_set(err, "cannot replace %s: it is not a regular file; choose another --out", path.text);
        for (size_t k = 0; ok && k < count; k++)
            if (file_id_same(inputs[k], id))
                ok = error_set(err, "%s is read, and --out=%s/%s would replace it; choose another --out", path.text,
                               n->folder.text, n->base);
        ok = ok && (kind != FILE_REGULAR || shard_is_own(path.text, &own, err));
        if (ok && !own)
            ok = error_set(err,
                           "%s is no shard that this program wrote, and --out=%s/%s would replace it; choose another "
                           "--out, or remove it",
                           path.text, n->folder.text, n->base);
    }
    str_list_free(&names);
    return ok && shard_set_replaces_manifest(n, err);
}

// Makes the folder that the shards are written in.
static inline bool shard_set_open(ShardSet *s, const char *prefix, Error *err) {
    bool done;
    memset(s, 0, sizeof *s);
    s->lock = -1;
    if (!shard_prefix_parse(&s->name, prefix, err) || !path_make_folder(s->name.folder.text, err) ||
        !shard_set_settle(&s->name, &done, err))
        return false;
    shard_set_sweep(&s->name);
    s->staging = path_of("%s/.%s.tmp.%d", s->name.folder.text, s->name.base, (int)getpid());
    signals_hold(&s->hold);
    if (mkdir(s->staging.text, 0777) != 0) {
        error_set(err, "cannot write %s: cannot make the folder %s: %s", prefix, s->staging.text, strerror(errno));
        signals_release(&s->hold);
        return false;
    }
    s->lock = open(s->staging.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock < 0) {
        error_set(err, "cannot open the folder %s: %s", s->staging.text, strerror(errno));
        path_remove_tree(s->staging.text, NULL);
        signals_release(&s->hold);
        return false;
    }
    flock(s->lock, LOCK_EX | LOCK_NB);
    return true;
}

// Gives up: shards of an earlier run are as they were.
static inline void shard_set_abort(ShardSet *s) {
    if (s->lock < 0) return;
    path_remove_tree(s->staging.text, NULL);
    close(s->lock);
    s->lock = -1;
    signals_release(&s->hold);
}

// All shards are complete and synced in the folder: the new set takes the place of the old.
// counts: shards of each side; and 1 where their documents are listed.
static inline bool shard_set_commit(ShardSet *s, const int64_t counts[3], Error *err) {
    Path set = path_of("%s/set", s->staging.text), next = shard_set_new(&s->name);
    Path text =
        path_of("train %lld val %lld docs %lld.\n", (long long)counts[0], (long long)counts[1], (long long)counts[2]);
    bool ok = file_write_all(set.text, text.text, strlen(text.text), err), done;
    for (int tries = 0; ok && rename(s->staging.text, next.text) != 0; tries++) {
        if ((errno != EEXIST && errno != ENOTEMPTY) || tries == 100)
            ok = error_set(err, "cannot rename %s to %s: %s", s->staging.text, next.text, strerror(errno));
        else ok = shard_set_settle(&s->name, &done, err); // another process's set came in between
    }
    if (!ok) {
        shard_set_abort(s);
        return false;
    }
    ok = path_sync_folder(s->name.folder.text, err) && shard_set_name(s->lock, &s->name, err);
    close(s->lock);
    s->lock = -1;
    signals_release(&s->hold);
    return ok;
}

#endif
