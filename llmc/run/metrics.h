/*
metrics.h: what is told of a step: its line in metrics.jsonl, and the progress line.
*/
#ifndef LLMC_METRICS_H
#define LLMC_METRICS_H

#include "../text/mix.h"
#include "log.h"
#include "spikes.h"

typedef struct {
    int64_t step, steps, tokens; // done, of so many, trained on
    int64_t targets;             // that count in the loss of the step; 0: all
    int64_t position;            // sequences read since the start of the run
    const Mix *mix;              // of the training data
    double epoch, loss, lr, grad_norm;
    double ce, kl;             // of a loss beside a teacher; NAN: there is none
    double seconds, smoothed;  // of the step; smoothed over steps
    double rate, mfu;          // tokens/s; NAN: the peak is not known
    double share;              // of --time_budget that was used; NAN: there is none
    double left;               // seconds to go, as it seems
    bool validated;            // after this step
    double val_loss, val_bits; // the newest; NAN: none yet, or not known
    int64_t val_tokens;        // that it is the mean over
    SpikeEvent event;
    const char *more, *scores, *pairs; // further `, "name": value` pairs of this line, or NULL
} StepMetrics;

// Appends `"name": value`; JSON knows neither NaN nor infinities.
static inline void metrics_number(Str *s, const char *name, double x) {
    if (isfinite(x)) str_printf(s, "\"%s\": %.9g", name, x);
    else str_printf(s, "\"%s\": null", name);
}

// The same with so many decimals.
static inline void metrics_decimals(Str *s, const char *name, double x, int decimals) {
    if (isfinite(x)) str_printf(s, "\"%s\": %.*f", name, decimals, x);
    else str_printf(s, "\"%s\": null", name);
}

// d: of rank 0's device. Every number goes through one of the two above.
static inline void metrics_json(Str *s, const StepMetrics *m, const DeviceReadings *d) {
    str_printf(s, "{\"step\": %lld, \"tokens\": %lld, ", (long long)m->step, (long long)m->tokens);
    if (m->targets) str_printf(s, "\"target_tokens\": %lld, ", (long long)m->targets);
    str_printf(s, "\"position\": %lld, ", (long long)m->position);
    metrics_number(s, "epoch", m->epoch), str_puts(s, ", ");
    for (int k = 0; m->mix && m->mix->count > 1 && k < m->mix->count; k++)
        str_printf(s, "%s%.9g%s", k ? ", " : "\"epochs\": [", mix_epoch(m->mix, k, m->position),
                   k + 1 < m->mix->count ? "" : "], ");
    metrics_number(s, "loss", m->loss), str_puts(s, ", ");
    if (isfinite(m->kl)) metrics_number(s, "ce", m->ce), str_puts(s, ", ");
    if (isfinite(m->kl)) metrics_number(s, "kl", m->kl), str_puts(s, ", ");
    metrics_number(s, "lr", m->lr), str_puts(s, ", ");
    metrics_number(s, "grad_norm", m->grad_norm), str_puts(s, ", ");
    metrics_decimals(s, "step_ms", m->seconds * 1e3, 3), str_puts(s, ", ");
    metrics_decimals(s, "tokens_per_s", m->rate, 1), str_puts(s, ", ");
    metrics_decimals(s, "mfu", m->mfu, 4);
    if (isfinite(m->share)) str_puts(s, ", "), metrics_decimals(s, "time_share", m->share, 6);
    if (m->validated) {
        str_printf(s, ", \"val_tokens\": %lld, ", (long long)m->val_tokens);
        metrics_number(s, "val_loss", m->val_loss);
        if (isfinite(m->val_bits)) str_puts(s, ", "), metrics_number(s, "val_bits_per_byte", m->val_bits);
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
    if (m->pairs) str_puts(s, m->pairs);
    if (m->more) str_puts(s, m->more);
    if (m->scores) str_puts(s, m->scores);
    str_puts(s, "}\n");
}

// Appends the step's line, which *line is then.
static inline void metrics_write(Str *line, Log *log, const StepMetrics *m, const DeviceReadings *d) {
    line->size = 0;
    metrics_json(line, m, d);
    lines_add(&log->metrics, line->data, line->size);
}

static inline void metrics_progress(Log *log, const StepMetrics *m) {
    double faster = m->seconds / m->smoothed;
    char left[16], val[64] = "", share[24] = "", of[32];
    log_duration(left, m->left);
    if (isfinite(m->val_bits)) snprintf(val, sizeof val, " | val %.4f, %.4f bits/byte", m->val_loss, m->val_bits);
    else if (isfinite(m->val_loss)) snprintf(val, sizeof val, " | val %.4f", m->val_loss);
    if (isfinite(m->mfu)) snprintf(share, sizeof share, " | mfu %.0f%%", 100 * m->mfu * faster);
    if (isfinite(m->share)) snprintf(of, sizeof of, " (%.0f%% of the time)", 100 * m->share);
    else snprintf(of, sizeof of, "/%lld", (long long)m->steps);
    log_progress(log, "step %lld%s | loss %.4f%s | %.0f tokens/s%s | %s left", (long long)m->step, of, m->loss, val,
                 m->rate * faster, share, left);
}

#endif
