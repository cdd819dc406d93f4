/*
metrics.h: what is told of a step: its line in metrics.jsonl, and the progress line.
*/
#ifndef LLMC_METRICS_H
#define LLMC_METRICS_H

#include "log.h"
#include "spikes.h"

typedef struct {
    int64_t step, steps, tokens; // done, of so many, trained on
    double epoch, loss, lr, grad_norm;
    double seconds, smoothed;  // of the step; smoothed over steps
    double rate, mfu;          // tokens/s; NAN: the peak is not known
    bool validated;            // after this step
    double val_loss, val_bits; // the newest; NAN: none yet, or not known
    SpikeEvent event;
} StepMetrics;

// Appends `"name": value`; JSON knows neither NaN nor infinities.
static inline void metrics_number(Str *s, const char *name, double x) {
    if (isfinite(x)) str_printf(s, "\"%s\": %.9g", name, x);
    else str_printf(s, "\"%s\": null", name);
}

// d: of rank 0's device.
static inline void metrics_json(Str *s, const StepMetrics *m, const DeviceReadings *d) {
    str_printf(s, "{\"step\": %lld, \"tokens\": %lld, \"epoch\": %.6g, ", (long long)m->step, (long long)m->tokens,
               m->epoch);
    metrics_number(s, "loss", m->loss);
    str_printf(s, ", \"lr\": %.9g, ", m->lr);
    metrics_number(s, "grad_norm", m->grad_norm);
    str_printf(s, ", \"step_ms\": %.3f, \"tokens_per_s\": %.1f, \"mfu\": ", m->seconds * 1e3, m->rate);
    if (isfinite(m->mfu)) str_printf(s, "%.4f", m->mfu);
    else str_puts(s, "null");
    if (m->validated) {
        str_printf(s, ", \"val_loss\": %.9g", m->val_loss);
        if (isfinite(m->val_bits)) str_printf(s, ", \"val_bits_per_byte\": %.9g", m->val_bits);
    }
    const SpikeEvent *e = &m->event;
    bool event = e->action != NULL;
    if (event) str_printf(s, ", \"event\": \"%s\", \"event_step\": %lld", e->action, (long long)e->step);
    struct {
        const char *name;
        bool said;
        double value;
    } more[] = {{"event_loss", event, e->loss},
                {"event_grad_norm", event, e->grad_norm},
                {"z_loss", event, e->z_loss},
                {"z_grad_norm", event, e->z_norm},
                {"gpu_power_w", isfinite(d->power_w), d->power_w},
                {"gpu_temperature_c", isfinite(d->temperature_c), d->temperature_c},
                {"gpu_sm_mhz", isfinite(d->sm_mhz), d->sm_mhz},
                {"gpu_memory_mhz", isfinite(d->memory_mhz), d->memory_mhz},
                {"gpu_memory_gb", isfinite(d->memory_gb), d->memory_gb},
                {"gpu_energy_kwh", isfinite(d->energy_kwh), d->energy_kwh}};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        if (more[i].said) str_puts(s, ", "), metrics_number(s, more[i].name, more[i].value);
    str_puts(s, "}\n");
}

// Appends the step's line. A full disk must not end the run here: the lines are kept and tried again.
static inline void metrics_write(Log *log, const StepMetrics *m, const DeviceReadings *d, const char *run_dir) {
    Str s;
    memset(&s, 0, sizeof s);
    metrics_json(&s, m, d);
    bool before = log->pending.size > 0;
    if (!log_metrics(log, s.data, s.size) && !before)
        warn("cannot write metrics.jsonl in %s: %s; its lines are kept in memory for now", run_dir, strerror(errno));
    free(s.data);
}

static inline void metrics_progress(Log *log, const StepMetrics *m) {
    double faster = m->seconds / m->smoothed;
    char left[16], val[64] = "", share[24] = "";
    log_duration(left, (double)(m->steps - m->step) * m->smoothed);
    if (isfinite(m->val_bits)) snprintf(val, sizeof val, " | val %.4f, %.4f bits/byte", m->val_loss, m->val_bits);
    else if (isfinite(m->val_loss)) snprintf(val, sizeof val, " | val %.4f", m->val_loss);
    if (isfinite(m->mfu)) snprintf(share, sizeof share, " | mfu %.0f%%", 100 * m->mfu * faster);
    log_progress(log, "step %lld/%lld | loss %.4f%s | %.0f tokens/s%s | %s left", (long long)m->step,
                 (long long)m->steps, m->loss, val, m->rate * faster, share, left);
}

#endif
