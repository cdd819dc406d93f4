/*
shards.h: where the numbers of the parameters lie, and how the ranks share them out (sharding). llmc/cuda/shards.h
has the same functions.

Every rank holds all weights, and all gradients from its tokens (data parallel). A rank sums one part of each segment's
gradients over the ranks. With --zero=1 (ZeRO stage 1, Rajbhandari et al. 2020) it keeps the optimizer's state of that
part alone, updates it, and then all get the new weights; with --zero=0 all get the summed gradients and update all.
Parts are ranges of equal size, whatever tensors lie in them, or runs of whole tensors (SHARDS_TENSORS), for rules
that look at a whole matrix.

Gradients and state exist for trained tensors alone; in a segment they stand before the frozen ones (model.h).
*/
#ifndef LLMC_CPU_SHARDS_H
#define LLMC_CPU_SHARDS_H

#include "../engine.h"
#include "optimizer.h"
#include "ranks.h"

// The tensors of one layer (and those outside the layers) as pointers, named as in model.h. NULL: there is none, or, of
// gradients, it is frozen.
typedef struct {
#define X(id, ...) real *id;
    PARAMETERS(X)
#undef X
} Weights;
typedef Weights Gradients;

typedef struct {
    Cpu *cpu;
    const Dist *dist;
    Ranks ranks;
    ParamTable table;
    int zero;
    real *weights;            // (table.elements)
    real *gradients;          // (gradient_start[segments]), this and the rest only for training
    size_t *gradient_start;   // (segments + 1): where those of a segment begin
    Range *parts;             // (segments, ranks): what each sums of a segment, from the segment's first element on
    size_t *state_start;      // (segments + 1): where the state of what this rank updates of a segment begins
    real *state[STATE_KINDS]; // (state_start[segments])
} Shards;

static inline Range *shards_parts(const Shards *s, int segment) {
    return s->parts + (size_t)segment * (size_t)s->dist->size;
}

// The elements of a segment that a rank updates, as offsets into the weights.
static inline Range shards_owned(const Shards *s, int segment, int rank) {
    size_t first = s->table.segment_start[segment];
    Range all = {first, s->table.segment_trained[segment] - first}, part = shards_parts(s, segment)[rank];
    part.first += first;
    return s->zero ? part : all;
}

// Where a rank's part of a segment begins; of the rank behind the last: where the last ends.
static inline size_t shards_cut(const Shards *s, int segment, int rank, int deal) {
    size_t first = s->table.segment_start[segment], n = s->table.segment_trained[segment] - first, cut, best = 0;
    cut = n / PARAM_ALIGN * (size_t)rank / (size_t)s->dist->size * PARAM_ALIGN;
    if (deal == SHARDS_RANGES || rank == s->dist->size) return cut;
    for (int i = 0; i < s->table.count; i++) { // the nearest border between tensors
        const Param *p = &s->table.items[i];
        if (p->segment != segment || !p->trained) continue;
        size_t at = p->offset - first;
        if ((at > cut ? at - cut : cut - at) < (best > cut ? best - cut : cut - best)) best = at;
    }
    return n - cut < (best > cut ? best - cut : cut - best) ? n : best;
}

static inline void shards_open(Shards *s, const ModelSetup *setup, int deal, Cpu *cpu) {
    static const bool none[PARAM_KINDS] = {false};
    memset(s, 0, sizeof *s);
    s->cpu = cpu, s->dist = setup->dist, s->zero = setup->zero;
    s->table = param_table_frozen(&setup->config, setup->frozen ? setup->frozen : none);
    s->weights = (real *)cpu_alloc(sizeof(real) * s->table.elements);
    if (!setup->gradients) return;
    int segments = s->table.segments, R = s->dist->size;
    ranks_open(&s->ranks, s->dist, segments);
    if (R > 1) cpu->between_kernels = ranks_between_kernels, cpu->between_context = &s->ranks;
    s->parts = (Range *)mem_alloc(sizeof(Range) * (size_t)segments * (size_t)R);
    s->gradient_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(segments + 1));
    s->state_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(segments + 1));
    for (int segment = 0; segment < segments; segment++) {
        for (int rank = 0; rank < R; rank++) {
            Range *part = &shards_parts(s, segment)[rank];
            part->first = shards_cut(s, segment, rank, deal);
            part->count = shards_cut(s, segment, rank + 1, deal) - part->first;
        }
        size_t trained = s->table.segment_trained[segment] - s->table.segment_start[segment];
        s->gradient_start[segment + 1] = s->gradient_start[segment] + trained;
        s->state_start[segment + 1] = s->state_start[segment] + shards_owned(s, segment, s->dist->rank).count;
    }
    s->gradients = (real *)cpu_alloc(sizeof(real) * s->gradient_start[segments]);
    for (int k = 0; k < STATE_KINDS; k++) s->state[k] = (real *)cpu_alloc(sizeof(real) * s->state_start[segments]);
}

static inline void shards_close(Shards *s) {
    ranks_close(&s->ranks);
    for (int k = 0; k < STATE_KINDS; k++) free(s->state[k]);
    void *all[] = {s->weights, s->gradients, s->gradient_start, s->parts, s->state_start};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    param_table_free(&s->table);
}

// ---------------------------------------------------------------- during a pass

// Where an element of the weights has its gradient, and its state on the rank that owns it.
static inline real *shards_gradient_at(const Shards *s, int segment, size_t element) {
    return s->gradients + s->gradient_start[segment] + (element - s->table.segment_start[segment]);
}
static inline real *shards_state_at(const Shards *s, int kind, int segment, size_t element) {
    return s->state[kind] + s->state_start[segment] + (element - shards_owned(s, segment, s->dist->rank).first);
}

static inline Weights shards_tensors(const Shards *s, int layer, bool gradients) {
    Weights w;
#define X(id, rows, cols, place, ...)                                                                                  \
    {                                                                                                                  \
        const Param *p = param_find(&s->table, PARAM_##id, place == PLACE_LAYER ? layer : -1);                         \
        if (!p || (gradients && !p->trained)) w.id = NULL;                                                             \
        else w.id = gradients ? shards_gradient_at(s, p->segment, p->offset) : s->weights + p->offset;                 \
    }
    PARAMETERS(X)
#undef X
    return w;
}
static inline Weights shards_weights(const Shards *s, int layer) { return shards_tensors(s, layer, false); }
static inline Gradients shards_gradients(const Shards *s, int layer) { return shards_tensors(s, layer, true); }

// Starts to sum a segment's gradients over the ranks, once the last pass will add nothing more to them; the sums go on
// between the kernels of the segments before.
static inline void shards_sum(Shards *s, int segment, bool last) {
    if (last) ranks_sum(&s->ranks, s->gradients + s->gradient_start[segment], shards_parts(s, segment));
}

static inline void shards_zero_gradients(Shards *s) {
    memset(s->gradients, 0, sizeof(real) * s->gradient_start[s->table.segments]);
}

// ---------------------------------------------------------------- update

// Waits for the sums. loss: this rank's in, the sum over all out; squares: of the gradient summed over the ranks.
static inline void shards_totals(Shards *s, double *loss, double *squares) {
    watchdog_enter(s->dist->watchdog, "sums of the gradients (ranks_wait)");
    ranks_wait(&s->ranks);
    watchdog_leave(s->dist->watchdog);
    double sums[2] = {*loss, 0};
    for (int segment = 0; segment < s->table.segments; segment++) {
        real *gradients = s->gradients + s->gradient_start[segment];
        Range part = shards_parts(s, segment)[s->dist->rank];
        sums[1] += sum_of_squares(gradients + part.first, part.count, s->cpu);
        if (!s->zero) ranks_gather(&s->ranks, gradients, shards_parts(s, segment));
    }
    ranks_gather_wait(&s->ranks);
    dist_sum(s->dist, sums, 2);
    *loss = sums[0], *squares = sums[1];
}

// Updates what this rank owns, tensor by tensor; others get finished segments meanwhile (all-gather). Zeroes gradients.
// False, on all ranks: a weight or moment is not finite now.
static inline bool shards_update(Shards *s, const UpdateRule *rule, double clip) {
    bool finite = true;
    for (int i = 0; i < s->table.count; i++) {
        const Param *p = &s->table.items[i];
        int segment = p->segment;
        Range own = overlap(p, shards_owned(s, segment, s->dist->rank));
        if (own.count) {
            ParamRun run = {s->weights + own.first, shards_gradient_at(s, segment, own.first), {NULL}, own.count};
            for (int k = 0; k < STATE_KINDS; k++) run.state[k] = shards_state_at(s, k, segment, own.first);
            finite &= adamw(run, rule, p->group, clip, s->cpu);
        }
        ranks_progress(&s->ranks);
        bool complete = i + 1 == s->table.count || s->table.items[i + 1].segment != segment;
        if (s->zero && complete)
            ranks_gather(&s->ranks, s->weights + s->table.segment_start[segment], shards_parts(s, segment));
    }
    shards_zero_gradients(s);
    watchdog_enter(s->dist->watchdog, "the other ranks' new weights (ranks_gather_wait)");
    ranks_gather_wait(&s->ranks);
    watchdog_leave(s->dist->watchdog);
    return !dist_max(s->dist, !finite);
}

// ---------------------------------------------------------------- in and out, as engine.h says

// The same parameter, or piece of one, in the table of this program, where trained tensors stand before frozen ones.
static inline Param shards_param(const Shards *s, const Param *of) {
    return param_piece(param_find(&s->table, of->kind, of->layer), of->first, of->count);
}

// Elements of p that a rank has of an array.
static inline Range shards_held(const Shards *s, int array, const Param *p, int rank) {
    Range all = {p->offset, p->count}, none = {p->offset, 0};
    if (array == MODEL_WEIGHT) return all;
    if (array == MODEL_GRADIENT) return p->trained ? all : none;
    return overlap(p, shards_owned(s, p->segment, rank));
}
static inline real *shards_at(const Shards *s, int array, const Param *p, size_t element) {
    return array == MODEL_WEIGHT     ? s->weights + element
           : array == MODEL_GRADIENT ? shards_gradient_at(s, p->segment, element)
                                     : shards_state_at(s, array - MODEL_STATE, p->segment, element);
}

static inline void shards_set(Shards *s, int array, const Param *of, const float *values) {
    Param own = shards_param(s, of), *p = &own;
    Range r = shards_held(s, array, p, s->dist->rank);
    real *to = r.count ? shards_at(s, array, p, r.first) : NULL;
    for (size_t i = 0; i < r.count; i++) to[i] = (real)values[r.first - p->offset + i];
}

static inline void shards_get(Shards *s, int array, const Param *of, float *values, int to) {
    Param own = shards_param(s, of), *p = &own;
    if (array == MODEL_WEIGHT && to != s->dist->rank) return;
    Range r = shards_held(s, array, p, s->dist->rank);
    const real *from = r.count ? shards_at(s, array, p, r.first) : NULL;
    if (!p->trained) memset(values, 0, sizeof(float) * p->count); // what it has not
    for (size_t i = 0; i < r.count; i++) values[r.first - p->offset + i] = (float)from[i];
    if (array < MODEL_STATE || !s->zero) return;
    Range *parts = (Range *)mem_alloc(sizeof(Range) * (size_t)s->dist->size);
    for (int rank = 0; rank < s->dist->size; rank++) {
        parts[rank] = shards_held(s, array, p, rank);
        parts[rank].first -= parts[rank].count ? p->offset : parts[rank].first;
    }
    watchdog_enter(s->dist->watchdog, "moments for a checkpoint (ranks_collect)");
    ranks_collect(&s->ranks, values, parts, to);
    watchdog_leave(s->dist->watchdog);
    free(parts);
}

static inline bool shards_keeps(const Shards *s, int array, const Param *of) {
    Param own = shards_param(s, of);
    return shards_held(s, array, &own, s->dist->rank).count > 0;
}

#endif
