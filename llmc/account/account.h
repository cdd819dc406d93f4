/*
account.h: the record of a run, in run.json of every checkpoint: what it was made of, with what, on what, and what it
cost. Everything that documents say of a model (card.h and others) comes from it.

    "account": {
      "totals":      sums over all starts: starts, wall_s, device_hours, steps, flops, energy_kwh, lost_s
      "starts":      one object a start of the program, the last one up to this checkpoint: when, from which step,
                     program, commit, compiler, libraries, machine, ranks, what it cost, which options it changed
      "validation":  the newest: step, loss, bits a byte, over how many tokens;  "tasks": the newest scores
      "model":       parameters, FLOPs a token;  "data", "tokenizer": sources.h;  "base": what the weights began with
      "environment": settings of this program in the environment
    }

Sums are over what led to the checkpoint, every start up to its last one. What a start did behind it, and lost when it
was killed, stands beside that as lost_steps and lost_s, by the lines that it left in metrics.jsonl. Steps that were
undone (a rollback) or skipped count: they cost as much. FLOPs: training by config_flops_per_token(), a third of it for
a token of validation, and Muon's; samples and tasks are not counted.

A run.json of before there was this is read as well: "unrecorded_steps" says for how many steps nothing is known.
*/
#ifndef LLMC_ACCOUNT_H
#define LLMC_ACCOUNT_H

#include "../engine.h"
#include "energy.h"
#include "sources.h"

typedef struct {
    double wall_s, device_hours, steps, flops, kwh, lost_s, lost_steps, unrecorded;
    int measured; // starts whose energy was measured
} AccountSums;

typedef struct {
    double began;              // clock_seconds() at this start
    double steps, flops;       // of this start
    double lost_steps, lost_s; // that it had to make again
    bool gpu;
    double devices; // GPUs, or threads of processors, over all ranks
    Rapl rapl;
    Str start;                          // what stays of this start's object: `"started": ..., ...`
    Str model, data, tokenizer, base;   // values of the record; empty: none
    Str environment, validation, tasks; // likewise
    Str earlier;                        // the objects of the starts before, with commas
    int starts;                         // so many
    AccountSums before;                 // their sums
} Account;

// What is known at the moment of a checkpoint, over all ranks.
typedef struct {
    double wall_s, gpu_kwh, cpu_joules; // NAN: not known
} AccountNow;

static inline void account_free(Account *a) {
    Str *all[] = {&a->start,       &a->model,      &a->data,  &a->tokenizer, &a->base,
                  &a->environment, &a->validation, &a->tasks, &a->earlier};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->data);
    rapl_close(&a->rapl);
    memset(a, 0, sizeof *a);
}

// ---------------------------------------------------------------- what was before

static inline void account_sum(AccountSums *sums, const Json *start) {
    const Json *energy = json_get(start, "energy");
    double kwh = json_number(json_get(energy, "kwh"), 0);
    sums->wall_s += json_number(json_get(start, "wall_s"), 0);
    sums->device_hours += json_number(json_get(start, "device_hours"), 0);
    sums->steps += json_number(json_get(start, "steps"), 0);
    sums->flops += json_number(json_get(start, "flops"), 0);
    sums->lost_s += json_number(json_get(start, "lost_s"), 0);
    sums->lost_steps += json_number(json_get(start, "lost_steps"), 0);
    sums->kwh += kwh;
    if (strcmp(json_string(json_get(energy, "method"), ""), "measured") == 0) sums->measured++;
}

static inline void account_keep(Str *s, const Json *j) {
    s->size = 0;
    if (j && j->type != JSON_NULL) json_copy(s, j);
}

// Takes over what the record of a checkpoint says (root: of its run.json).
static inline void account_resume(Account *a, const Json *root) {
    const Json *account = json_get(root, "account"), *starts = json_get(account, "starts");
    a->before.unrecorded = account ? json_number(json_get(json_get(account, "totals"), "unrecorded_steps"), 0)
                                   : json_number(json_get(root, "step"), 0);
    for (const Json *j = json_is(starts, JSON_ARRAY) ? starts->child : NULL; j; j = j->next) {
        if (j->type != JSON_OBJECT) continue;
        str_puts(&a->earlier, "\n      "), json_copy(&a->earlier, j), str_puts(&a->earlier, ",");
        account_sum(&a->before, j);
        a->starts++;
    }
    account_keep(&a->data, json_get(account, "data"));
    account_keep(&a->tokenizer, json_get(account, "tokenizer"));
    account_keep(&a->base, json_get(account, "base"));
    account_keep(&a->validation, json_get(account, "validation"));
    account_keep(&a->tasks, json_get(account, "tasks"));
}

// Lines of metrics.jsonl of steps after `step`: what an earlier start did and lost.
static inline void account_lost(Account *a, const char *metrics, int64_t step) {
    FileKind kind;
    char *line = NULL;
    size_t capacity = 0;
    FILE *f = path_look(metrics, &kind, NULL) && kind == FILE_REGULAR ? file_open_read(metrics, NULL) : NULL;
    while (f && getline(&line, &capacity, f) > 0) {
        const char *time = strstr(line, "\"step_ms\": ");
        long long number = 0;
        if (sscanf(line, "{\"step\": %lld", &number) != 1 || number <= step || !time) continue;
        a->lost_steps++;
        a->lost_s += strtod(time + 11, NULL) / 1e3;
    }
    free(line);
    if (f) fclose(f);
}

// ---------------------------------------------------------------- this start

// On all ranks, when the model is made. counts: joins the devices of all.
static inline void account_open(Account *a, const Dist *dist, bool gpu, double threads) {
    a->gpu = gpu;
    a->devices = gpu ? 1 : threads;
    dist_sum(dist, &a->devices, 1);
    if (dist->local_rank == 0) rapl_open(&a->rapl); // a machine's counters are read once
}

// What this start is, as far as it does not change. changed: options that are others than before; device: its line.
static inline void account_describe(Account *a, const Dist *dist, const char *device, int64_t step,
                                    const char *changed) {
    Str *s = &a->start;
    str_printf(s, "\"started\": \"%s\", \"from_step\": %lld, \"program\": \"%s\", \"commit\": \"%s\", \"compiler\": ",
               machine_time().text, (long long)step, engine_name(), build_commit);
    json_escape(s, __VERSION__, strlen(__VERSION__));
    str_puts(s, ", \"libraries\": {"), machine_libraries(s);
    str_puts(s, "}, \"machine\": {"), machine_json(s, device);
    str_printf(s, "}, \"ranks\": %d, \"devices\": %.0f, \"device_kind\": \"%s\"", dist->size, a->devices,
               a->gpu ? "GPU" : "CPU thread");
    json_member(s, "changed", changed);
    if (a->lost_steps > 0) str_printf(s, ", \"lost_steps\": %.0f, \"lost_s\": %.3f", a->lost_steps, a->lost_s);
    machine_environment(&a->environment);
}

// Counts a step, and keeps counters from running over. On all ranks.
static inline void account_step(Account *a, double flops) {
    a->steps++;
    a->flops += flops;
    rapl_joules(&a->rapl, clock_seconds(), false);
}

// On all ranks.
static inline AccountNow account_now(Account *a, Model *m, const Dist *dist) {
    AccountNow now;
    double both[2];
    both[0] = a->gpu ? model_readings(m).energy_kwh : (double)NAN;
    both[1] = dist->local_rank == 0 ? rapl_joules(&a->rapl, clock_seconds(), true) : 0;
    dist_sum(dist, both, 2);
    now.wall_s = clock_seconds() - a->began;
    now.gpu_kwh = both[0], now.cpu_joules = both[1];
    return now;
}

// The energy of this start: its kWh, whether they were measured, by what or by which formula.
static inline double account_energy(Str *source, bool *measured, const Account *a, const AccountNow *now,
                                    const char *device) {
    bool rapl = isfinite(now->cpu_joules), nvml = a->gpu && isfinite(now->gpu_kwh);
    double hours = now->wall_s / 3600, watts = a->gpu ? energy_gpu_watts(device) : ENERGY_THREAD_WATTS;
    *measured = nvml || (!a->gpu && rapl);
    if (nvml) str_printf(source, "NVML's counters of %.0f GPUs", a->devices);
    if (nvml && rapl) str_puts(source, " + ");
    if (*measured && rapl) str_puts(source, "RAPL's counters of processors and their memory, whole machines");
    if (nvml && !rapl) str_puts(source, ", without processors and memory");
    if (!*measured)
        str_printf(source, "%.0f %s x %g W x %.6f h", a->devices, a->gpu ? "GPUs" : "CPU threads", watts, hours);
    if (!*measured) return a->devices * watts * hours / 1000;
    return (nvml ? now->gpu_kwh : 0) + (rapl ? now->cpu_joules / 3.6e6 : 0);
}

// ---------------------------------------------------------------- writing

static inline void account_value(Str *s, const char *name, const Str *value) {
    if (value->size) str_printf(s, ",\n    \"%s\": %s", name, value->data);
}

static inline void account_totals(Str *s, const AccountSums *t, int starts, bool gpu) {
    str_printf(s,
               "\n    \"totals\": {\"starts\": %d, \"wall_s\": %.3f, \"device_hours\": %.17g, \"device_kind\": \"%s\", "
               "\"steps\": %.0f, \"flops\": %.17g, \"energy_kwh\": %.17g, \"energy_method\": \"%s\"",
               starts, t->wall_s, t->device_hours, gpu ? "GPU" : "CPU thread", t->steps, t->flops, t->kwh,
               t->measured == starts ? "measured"
               : t->measured == 0    ? "estimated"
                                     : "partly measured");
    if (t->lost_steps > 0) str_printf(s, ", \"lost_steps\": %.0f, \"lost_s\": %.3f", t->lost_steps, t->lost_s);
    if (t->unrecorded > 0) str_printf(s, ", \"unrecorded_steps\": %.0f", t->unrecorded);
    str_puts(s, "}");
}

// The member "account" of run.json, with a comma behind it. On rank 0.
static inline void account_json(Str *s, const Account *a, const AccountNow *now, const char *device) {
    Str source;
    bool measured;
    struct rusage used;
    memset(&source, 0, sizeof source);
    double kwh = account_energy(&source, &measured, a, now, device), hours = now->wall_s / 3600 * a->devices;
    AccountSums t = a->before;
    t.wall_s += now->wall_s, t.device_hours += hours, t.steps += a->steps, t.flops += a->flops;
    t.kwh += kwh, t.measured += measured;
    t.lost_s += a->lost_s, t.lost_steps += a->lost_steps;
    getrusage(RUSAGE_SELF, &used); // ru_maxrss is in KiB on Linux
    str_puts(s, "  \"account\": {");
    account_totals(s, &t, a->starts + 1, a->gpu);
    str_printf(s, ",\n    \"starts\": [%s\n      {%s, \"wall_s\": %.3f, \"device_hours\": %.17g, \"steps\": %.0f, ",
               a->earlier.size ? a->earlier.data : "", a->start.size ? a->start.data : "", now->wall_s, hours,
               a->steps);
    str_printf(s,
               "\"flops\": %.17g, \"peak_memory_bytes\": %.0f, \"energy\": {\"kwh\": %.17g, \"method\": \"%s\", "
               "\"source\": ",
               a->flops, 1024.0 * (double)used.ru_maxrss, kwh, measured ? "measured" : "estimated");
    json_escape(s, source.data, source.size);
    str_puts(s, "}}\n    ]");
    account_value(s, "model", &a->model);
    account_value(s, "validation", &a->validation);
    account_value(s, "tasks", &a->tasks);
    account_value(s, "tokenizer", &a->tokenizer);
    account_value(s, "base", &a->base);
    account_value(s, "data", &a->data);
    str_printf(s, ",\n    \"environment\": {%s}\n  },\n", a->environment.size ? a->environment.data : "");
    free(source.data);
}

#endif
