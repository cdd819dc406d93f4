/*
energy.h: the energy that a run takes: measured where the machine tells, else estimated, and said which.

    GPUs         NVML's counter (llmc/cuda/nvml.h), joules since the model was made
    processors   RAPL's counters, /sys/class/powercap/intel-rapl:N/energy_uj, of packages and their memory (dram), where
                 they may be read (root alone on most systems). They count what the whole machine takes, and start
                 again at max_energy_range_uj: they are read at every step, at most once a second, so that none is
                 missed (a counter of 2^18 J at 300 W lasts a quarter of an hour).
    else         watts x hours: of a GPU what its data sheet allows it, of a thread of a processor 4 W, CodeCarbon's
                 default for processors that it does not know (codecarbon 3.3.2, core/cpu.py). An estimate, no
                 measurement: a facts file can say better.

LLMC_POWERCAP in the environment names another folder than /sys/class/powercap, for tests.
*/
#ifndef LLMC_ENERGY_H
#define LLMC_ENERGY_H

#include "../base/file.h"
#include <math.h>

#define ENERGY_THREAD_WATTS 4.0
#define RAPL_MOST 64

// A counter that starts again at its end.
typedef struct {
    Path path;
    double range, last; // microjoules
} RaplCounter;

typedef struct {
    RaplCounter *items; // (RAPL_MOST)
    int count;          // 0: there are none, or they may not be read
    double joules;      // since they were opened
    double looked;      // clock_seconds()
    bool lost;          // one could not be read any more: nothing is known
} Rapl;

// A number in a file of sysfs; -1: it cannot be read.
static inline double rapl_number(const char *path) {
    char text[64];
    FILE *f = file_open_read(path, NULL);
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    return n && text[0] >= '0' && text[0] <= '9' ? strtod(text, NULL) : -1;
}

// How far a counter has come, if it started again once at most.
static inline double rapl_advance(double last, double now, double range) {
    return now >= last ? now - last : now + fmax(range - last, 0);
}

static inline void rapl_open(Rapl *r) {
    const char *asked = getenv("LLMC_POWERCAP"), *folder = asked && *asked ? asked : "/sys/class/powercap";
    StrList names;
    memset(r, 0, sizeof *r);
    memset(&names, 0, sizeof names);
    folder_list(&names, folder, NULL);
    r->items = (RaplCounter *)mem_alloc(RAPL_MOST * sizeof(RaplCounter));
    for (int i = 0; i < names.count && r->count < RAPL_MOST; i++) {
        if (strncmp(names.items[i], "intel-rapl:", 11) != 0) continue;
        char name[32] = "";
        FILE *f = file_open_read(path_of("%s/%s/name", folder, names.items[i]).text, NULL);
        if (f && !fgets(name, (int)sizeof name, f)) name[0] = 0;
        if (f) fclose(f);
        if (strncmp(name, "package", 7) != 0 && strncmp(name, "dram", 4) != 0) continue; // cores are part of packages
        RaplCounter *c = &r->items[r->count];
        c->path = path_of("%s/%s/energy_uj", folder, names.items[i]);
        c->range = rapl_number(path_of("%s/%s/max_energy_range_uj", folder, names.items[i]).text);
        c->last = rapl_number(c->path.text);
        if (c->last >= 0 && c->range > 0) r->count++;
    }
    str_list_free(&names);
}

static inline void rapl_close(Rapl *r) {
    free(r->items);
    memset(r, 0, sizeof *r);
}

// Joules since rapl_open(), NAN: not known. now: clock_seconds(); pressing: also if it was asked a moment ago.
static inline double rapl_joules(Rapl *r, double now, bool pressing) {
    if (r->count == 0 || r->lost) return (double)NAN;
    if (!pressing && now - r->looked < 1) return r->joules;
    r->looked = now;
    for (int i = 0; i < r->count; i++) {
        RaplCounter *c = &r->items[i];
        double value = rapl_number(c->path.text);
        if (value < 0) r->lost = true;
        else r->joules += rapl_advance(c->last, value, c->range) / 1e6, c->last = value;
    }
    return r->lost ? (double)NAN : r->joules;
}

// The watts that a device is allowed, by its data sheet (of a GPU's fastest form); of another GPU those of an H100.
static inline double energy_gpu_watts(const char *device) {
    static const struct {
        const char *name;
        double watts;
    } known[] = {{"GB200", 1200}, {"B200", 1000}, {"H200", 700}, {"H100", 700}, {"A100", 400}, {"V100", 300},
                 {"L40S", 350},   {"A40", 300},   {"L4", 72},    {"T4", 70},    {"4090", 450}, {"3090", 350}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strstr(device, known[i].name)) return known[i].watts;
    return 700;
}

#endif
