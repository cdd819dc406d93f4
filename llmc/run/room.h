/*
room.h: is there room in memory for what a verb is about to take? Asked once, before anything large is allocated: else
the kernel ends the process, or one of its neighbours, with a bare "Killed" after minutes.

What is needed is a sum of what is known: the model (engine.h), the copy for checkpoints, tensors on their way from or
to disk. What there is says base/memory.h. Ranks that share a bound (a host, a cgroup) are added up. An error only where
the sum is above the bound; nothing is kept back for other programs.
*/
#ifndef LLMC_ROOM_H
#define LLMC_ROOM_H

#include "../engine.h"
#include "../files/huggingface.h"

// In bytes of host memory.
typedef struct {
    ModelMemory model;
    double copy;  // of weights and moments, for checkpoints in the background
    double other; // scratch of the verb
} RoomNeed;

static inline double model_memory_sum(const ModelMemory *m) {
    return m->weights + m->gradients + m->moments + m->activations + m->buffers + m->shared;
}

// What a device holds is not the host's.
static inline double room_sum(const RoomNeed *n) {
    return (n->model.host ? model_memory_sum(&n->model) : 0) + n->copy + n->other;
}

// Scratch between model and disk, or of new weights.
static inline double room_scratch(const ParamTable *t, const Config *c, bool fresh) {
    size_t values, turned;
    disk_sizes(&values, &turned, t, c);
    double disk = (double)(values + turned), init = fresh ? (double)INIT_WEIGHTS_MOST : 0;
    return (double)sizeof(float) * (disk > init ? disk : init);
}

// The parts of a sum that are there, as text. m: NULL, or of the model.
static inline void room_parts(Str *s, const ModelMemory *m, const RoomNeed *n) {
    const ModelMemory none = {0, 0, 0, 0, 0, 0, true};
    if (!m) m = &none;
    const struct {
        const char *name;
        double bytes;
    } parts[] = {{"weights", m->weights},
                 {"gradients", m->gradients},
                 {"moments", m->moments},
                 {"activations", m->activations},
                 {"buffers", m->buffers},
                 {"keys and values of what tasks begin with", m->shared},
                 {"the copy for checkpoints", n->copy},
                 {"scratch", n->other}};
    const char *comma = "";
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].bytes < MEM_GIB / 2000) continue;
        str_printf(s, "%s%s %.3f", comma, parts[i].name, parts[i].bytes / MEM_GIB);
        comma = ", ";
    }
}

// Does what a model takes fit into the memory of this rank's device? Of the host's memory asks room_check.
static inline bool room_on_device(const ModelMemory *m, const char *what, const char *advice, const Dist *d,
                                  Error *err) {
    const RoomNeed none = {{0, 0, 0, 0, 0, 0, false}, 0, 0};
    double room = m->host ? 0 : engine_memory(d), need = model_memory_sum(m); // 0: not known
    if (room <= 0 || need <= room || !memory_checked()) return true;
    Str parts;
    memset(&parts, 0, sizeof parts);
    room_parts(&parts, m, &none);
    error_set(err,
              "%s needs %.3f GiB of the device's memory (%s), and of what is free there a model may take %.3f GiB: %s; "
              "LLMC_MEMORY_CHECK=off in the environment starts all the same",
              what, need / MEM_GIB, parts.data ? parts.data : "", room / MEM_GIB, advice);
    free(parts.data);
    return false;
}

typedef struct {
    char host[64];
    double need;
    uint64_t ids[MEMORY_BOUNDS][2];
} RoomSeat;

// Do the ranks together fit within what each of them sees? Called by all ranks. what: who asks, "training"; advice:
// what to change; note: what was found, for the log; root: see base/memory.h.
static inline bool room_check(Str *note, const RoomNeed *n, const char *what, const char *advice, const Dist *d,
                              const char *root, Error *err) {
    MemoryRoom room;
    memory_room(&room, root);
    RoomSeat mine, *all = (RoomSeat *)mem_alloc(sizeof(RoomSeat) * (size_t)d->size);
    memset(&mine, 0, sizeof mine);
    snprintf(mine.host, sizeof mine.host, "%s", d->host);
    mine.need = room_sum(n);
    for (int i = 0; i < room.count; i++) memcpy(mine.ids[i], room.items[i].id, sizeof mine.ids[i]);
    dist_gather(d, all, &mine, sizeof mine);
    const MemoryBound *tightest = NULL;
    double together = 0, least = 0;
    int sharers = 0;
    for (int i = 0; i < room.count; i++) {
        const MemoryBound *b = &room.items[i];
        double sum = 0;
        int ranks = 0;
        for (int r = 0; r < d->size; r++) {
            bool shares = r == d->rank;
            for (int j = 0; j < MEMORY_BOUNDS && b->id[0] && !shares; j++)
                shares = strcmp(all[r].host, mine.host) == 0 && memcmp(all[r].ids[j], b->id, sizeof b->id) == 0;
            sum += shares ? all[r].need : 0;
            ranks += shares;
        }
        if (tightest && b->left - sum >= least) continue;
        tightest = b, least = b->left - sum, together = sum, sharers = ranks;
    }
    free(all);
    Str parts;
    memset(&parts, 0, sizeof parts);
    room_parts(&parts, n->model.host ? &n->model : NULL, n);
    const char *list = parts.data ? parts.data : "";
    bool ok = true;
    str_printf(note, "memory: %.3f GiB needed%s%s%s; ", mine.need / MEM_GIB, *list ? " (" : "", list, *list ? ")" : "");
    if (!tightest) str_puts(note, "how much is left cannot be seen here: not checked");
    else
        str_printf(note, "%.3f GiB left for %d rank%s (%s)", tightest->left / MEM_GIB, sharers, sharers == 1 ? "" : "s",
                   tightest->name);
    if (tightest && !memory_checked()) str_puts(note, ": not checked, LLMC_MEMORY_CHECK=off");
    else if (tightest && together > tightest->left) {
        char who[80] = "";
        if (sharers > 1) snprintf(who, sizeof who, " on %d ranks that share it", sharers);
        ok = error_set(err,
                       "%s%s needs %.3f GiB of memory (%s%s), and %.3f GiB are left (%.300s): %s, or raise that limit; "
                       "LLMC_MEMORY_CHECK=off in the environment starts all the same",
                       what, who, together / MEM_GIB, sharers > 1 ? "this rank: " : "", *list ? list : "scratch",
                       tightest->left / MEM_GIB, tightest->name, advice);
    }
    free(parts.data);
    const char *choice = getenv("LLMC_MEMORY_CHECK");
    if (choice && strcmp(choice, "on") != 0 && strcmp(choice, "off") != 0)
        ok = error_set(err, "LLMC_MEMORY_CHECK=%.100s, expected on or off", choice);
    return ok;
}

#endif
