/*
fit.h: --recompute=auto and --batch_size=auto, from the activation table and the memory that is there.

The least recomputation that fits; the largest batch that fits and divides the sequences of an update. Both free: the
least recomputation with which a pass has FIT_TOKENS tokens, or all that the update has; if none has, that with the
most. train_gpt_cpu keeps what "cheap" keeps at most: the machine's memory is not its own.

Chosen once, before the first step, by the rank with the least memory; a checkpoint's run.json keeps both, and a run
goes on with them: where GELU is fused, recomputing it rounds otherwise.
*/
#ifndef LLMC_FIT_H
#define LLMC_FIT_H

#include "../base/gpus.h"
#include "../engine.h"
#include "room.h"

// A pass of so many tokens fills any GPU with products that are large enough. Tunable.
#define FIT_TOKENS 16384.0
#define FIT_BATCH_MOST (1 << 16)

typedef struct {
    double room;       // bytes that a model may take
    int64_t sequences; // of an update on a rank, which batches must divide; 0: any batch will do
    int least;         // Recompute to begin with
    size_t gpu_bytes;  // of the numbers of the GPU's program that is asked about; 0: it is this program
} FitRoom;

static inline const char *recompute_name(int recompute) {
    static const char *const names[] = {RECOMPUTES(CHOICE_NAME)};
    return names[recompute];
}

// Of a model's teacher; 0: it has none. gpu_bytes: as in FitRoom.
static inline double fit_teacher(const ModelSetup *setup, size_t gpu_bytes) {
    if (!setup->teacher) return 0;
    ModelSetup s = setup_of_teacher(setup);
    ModelMemory m = gpu_bytes ? gpu_model_memory(&s, gpu_bytes) : model_memory(&s);
    return model_memory_sum(&m);
}

static inline double fit_need(const ModelSetup *setup, int recompute, int batch, const FitRoom *f) {
    ModelSetup s = *setup;
    s.recompute = recompute, s.batch_size = batch;
    ModelMemory m = f->gpu_bytes ? gpu_model_memory(&s, f->gpu_bytes) : model_memory(&s);
    return model_memory_sum(&m) + fit_teacher(&s, f->gpu_bytes);
}

static inline bool fit_fits(const ModelSetup *setup, int recompute, int64_t batch, const FitRoom *f) {
    Error none;
    return config_check_batch(&setup->config, batch, setup->seq_len, &none) &&
           fit_need(setup, recompute, (int)batch, f) <= f->room;
}

// The largest batch that fits; 0: none does.
static inline int fit_batch(const ModelSetup *setup, int recompute, const FitRoom *f) {
    int64_t low = 0, high = f->sequences > 0 ? int64_min(f->sequences, FIT_BATCH_MOST) : FIT_BATCH_MOST;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if (fit_fits(setup, recompute, middle, f)) low = middle;
        else high = middle - 1;
    }
    while (low > 1 && f->sequences > 0 && f->sequences % low) low--;
    return (int)low;
}

// Settles what is free in setup: recompute where it is RECOMPUTE_AUTO, batch_size where it is 0. False: nothing fits;
// setup then has what needs least.
static inline bool fit_choose(ModelSetup *setup, const FitRoom *f) {
    int wanted = setup->recompute, batch = setup->batch_size, most = 0;
    double enough = FIT_TOKENS;
    if (f->sequences > 0) enough = fmin(enough, (double)f->sequences * setup->seq_len);
    setup->recompute = wanted == RECOMPUTE_AUTO ? RECOMPUTE_BLOCK : wanted;
    if (!batch) setup->batch_size = 1;
    if (batch && wanted != RECOMPUTE_AUTO) return true;
    for (int r = wanted == RECOMPUTE_AUTO ? f->least : wanted; r <= RECOMPUTE_BLOCK; r++) {
        int largest = batch ? batch * (int)fit_fits(setup, r, batch, f) : fit_batch(setup, r, f);
        if (largest > most) setup->recompute = r, setup->batch_size = most = largest;
        if (wanted != RECOMPUTE_AUTO || (most && (batch || (double)most * setup->seq_len >= enough))) break;
    }
    return most > 0;
}

#endif
