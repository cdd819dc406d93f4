/*
shards.h: where the numbers of the parameters lie, and how the ranks share them out (sharding). llmc/cuda/shards.h
has the same functions.

Every rank holds all weights, and all gradients from its tokens (data parallel). A rank sums one part of each segment's
gradients over the ranks. With --zero=1 (ZeRO stage 1, Rajbhandari et al. 2020) it keeps the optimizer's state of that
part alone, updates it, and then all get the new weights; with --zero=0 all get the summed gradients and update all.
Parts are ranges of equal size, whatever tensors lie in them, or runs of whole tensors (SHARDS_TENSORS), for rules
that look at a whole matrix.

Gradients and state exist for trained tensors alone; in a segment they stand before the frozen ones (model.h).

Where nothing is trained and products are in bf16, matrices and tables are kept as bf16 alone: half the memory, and half
of it to read for each token that is generated. Products of many rows round them anyway; they get the same bits.

With --base=nf4 and q8 the frozen matrices inside blocks are kept as codes, which are made of pieces as these are read:
no other copy of them is ever whole.
*/
#ifndef LLMC_CPU_SHARDS_H
#define LLMC_CPU_SHARDS_H

#include "../engine.h"
#include "muon.h"
#include "optimizer.h"
#include "ranks.h"

// The tensors of one layer (and those outside the layers) as pointers, named as in model.h. NULL: there is none, or, of
// gradients, it is frozen. Weights of matrices and tables are a Matrix.
#define WEIGHT_GROUP_EMBEDDING Matrix
#define WEIGHT_GROUP_MATRIX Matrix
#define WEIGHT_GROUP_VECTOR const real *
#define WEIGHT_GROUP_LORA_A Matrix
#define WEIGHT_GROUP_LORA_B Matrix
typedef struct {
#define X(id, rows, cols, place, present, init, group, ...) WEIGHT_##group id;
    PARAMETERS(X)
#undef X
} Weights;
#undef WEIGHT_GROUP_EMBEDDING
#undef WEIGHT_GROUP_MATRIX
#undef WEIGHT_GROUP_VECTOR
#undef WEIGHT_GROUP_LORA_A
#undef WEIGHT_GROUP_LORA_B
typedef struct {
#define X(id, ...) real *id;
    PARAMETERS(X)
#undef X
} Gradients;

typedef struct {
    Cpu *cpu;
    const Dist *dist;
    Ranks ranks;
    ParamTable table;
    int zero;
    Config config;
    real *weights;        // (table.elements); with halves: the vectors alone, (vector_start[table.count])
    uint16_t *halves;     // (table.elements): matrices and tables as bf16, in their places; or NULL
    size_t *vector_start; // (table.count + 1), with halves: where a parameter begins in weights
    uint8_t *codes;       // of matrices that are kept as codes; or NULL
    Coded *coded;         // (table.count): where
    QuantTables *tables;
    CodedFill fill;
    real *gradients;        // (gradient_start[segments]), this and the rest only for training
    size_t *gradient_start; // (segments + 1): where those of a segment begin
    Range *parts;           // (segments, ranks): what each sums of a segment, from the segment's first element on
    // The optimizer's state of what this rank updates, parameter by parameter, each from a multiple of PARAM_ALIGN on.
    MuonRule muon;
    ParamTable state_table[STATE_KINDS];
    size_t *state_start[STATE_KINDS]; // (table.count + 1): where that of a parameter begins
    real *state[STATE_KINDS];         // (state_start[kind][table.count])
    real *scratch;                    // of muon_update, for the largest matrix; or NULL
    double muon_seconds;              // spent in it
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

// What a rank has of the state of a parameter (or a piece of one) of a row's table, as offsets into that table: the
// elements that it updates; of a state in another shape than the weights' the whole, if it has the tensor.
static inline Range shards_state_owned(const Shards *s, const Param *p, int rank) {
    const Param *w = param_find(&s->table, p->kind, p->layer);
    Range own = shards_owned(s, w->segment, rank), all = {p->offset, p->count}, none = {p->offset, 0};
    if (!w->trained) return none;
    if (p->cols != w->cols || !p->count) return overlap(w, own).count ? all : none;
    Param piece = param_piece(w, p->first, p->count);
    Range part = overlap(&piece, own);
    part.first = p->offset + (part.first - piece.offset);
    return part.count ? part : none;
}

static inline bool weights_halved(const ModelSetup *setup) {
    return !setup->gradients && setup->precision == PRECISION_BF16;
}

// Where each parameter begins in an array of vectors alone: start (table.count + 1).
static inline void vector_starts(size_t *start, const ParamTable *t) {
    start[0] = 0;
    for (int i = 0; i < t->count; i++)
        start[i + 1] = start[i] + (t->items[i].group == GROUP_VECTOR ? cpu_align(t->items[i].count) : 0);
}

// Bytes of the weights.
static inline double shards_weight_bytes(const ParamTable *t, const ModelSetup *setup) {
    double codes = (double)coded_sizes(t, &setup->config, setup->base).bytes;
    if (!weights_halved(setup)) return codes + (double)sizeof(real) * (double)t->elements;
    size_t *start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(t->count + 1));
    vector_starts(start, t);
    double bytes = (double)sizeof(real) * (double)start[t->count] + (double)sizeof(uint16_t) * (double)t->elements;
    free(start);
    return bytes;
}

static inline void shards_open_state(Shards *s) {
    int n = s->table.count;
    for (int k = 0; k < STATE_KINDS; k++) {
        ParamTable *t = &s->state_table[k];
        *t = param_table_state(&s->table, s->muon.optimizer, k);
        size_t *start = s->state_start[k] = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(n + 1));
        for (int i = 0; i < n; i++)
            start[i + 1] = start[i] + cpu_align(shards_state_owned(s, &t->items[i], s->dist->rank).count);
        s->state[k] = (real *)mem_alloc(sizeof(real) * start[n]);
    }
    size_t most = muon_scratch_most(&s->table, &s->muon, MUON_SQUARES);
    if (most) s->scratch = (real *)mem_alloc(sizeof(real) * most);
}

static inline void shards_open_codes(Shards *s, const ModelSetup *setup) {
    CodedSizes sizes = coded_sizes(&s->table, &s->config, setup->base);
    if (!sizes.bytes) return;
    s->codes = (uint8_t *)mem_alloc(sizes.bytes);
    s->coded = (Coded *)mem_alloc(sizeof(Coded) * (size_t)s->table.count);
    s->tables = (QuantTables *)mem_alloc(sizeof(QuantTables));
    s->fill.largest = (float *)mem_alloc(sizeof(float) * sizes.part_blocks);
    quant_tables(s->tables);
    uint8_t *at = s->codes;
    for (int i = 0; i < s->table.count; i++) {
        if (!s->table.items[i].coded) continue;
        s->coded[i] = coded_of(&s->table.items[i], &s->config, setup->base, s->tables);
        coded_place(&s->coded[i], at);
        at += coded_bytes(&s->coded[i]);
    }
}

static inline void shards_open(Shards *s, const ModelSetup *setup, int deal, Cpu *cpu) {
    memset(s, 0, sizeof *s);
    s->cpu = cpu, s->dist = setup->dist, s->zero = setup->zero, s->muon = setup->muon;
    s->config = setup->config;
    s->table = coded_table(&setup->config, setup->frozen, setup->base);
    shards_open_codes(s, setup);
    size_t full = s->table.elements;
    if (weights_halved(setup)) {
        s->halves = (uint16_t *)mem_alloc(sizeof(uint16_t) * s->table.elements);
        s->vector_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(s->table.count + 1));
        vector_starts(s->vector_start, &s->table);
        full = s->vector_start[s->table.count];
    }
    s->weights = (real *)mem_alloc(sizeof(real) * full);
    if (!setup->gradients) return;
    int segments = s->table.segments, R = s->dist->size;
    ranks_open(&s->ranks, s->dist, segments);
    if (R > 1) cpu->between_kernels = ranks_between_kernels, cpu->between_context = &s->ranks;
    s->parts = (Range *)mem_alloc(sizeof(Range) * (size_t)segments * (size_t)R);
    s->gradient_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(segments + 1));
    double *load = (double *)mem_alloc(sizeof(double) * (size_t)R);
    for (int segment = 0; segment < segments; segment++) {
        shards_deal_segment(shards_parts(s, segment), load, &s->table, segment, R, deal, setup);
        size_t trained = s->table.segment_trained[segment] - s->table.segment_start[segment];
        s->gradient_start[segment + 1] = s->gradient_start[segment] + trained;
    }
    free(load);
    s->gradients = (real *)mem_alloc(sizeof(real) * s->gradient_start[segments]);
    shards_open_state(s);
}

static inline void shards_close(Shards *s) {
    ranks_close(&s->ranks);
    for (int k = 0; k < STATE_KINDS; k++) {
        free(s->state[k]);
        free(s->state_start[k]);
        if (s->state_table[k].items) param_table_free(&s->state_table[k]);
    }
    void *all[] = {s->weights,   s->halves,         s->vector_start, s->codes,   s->coded,       s->tables,
                   s->gradients, s->gradient_start, s->parts,        s->scratch, s->fill.largest};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    param_table_free(&s->table);
}

// ---------------------------------------------------------------- during a pass

// Where an element of the weights has its gradient; an element of a state's table its place on the rank that owns it.
static inline real *shards_gradient_at(const Shards *s, int segment, size_t element) {
    return s->gradients + s->gradient_start[segment] + (element - s->table.segment_start[segment]);
}
static inline real *shards_state_at(const Shards *s, int kind, const Param *of, size_t element) {
    const Param *p = param_find(&s->state_table[kind], of->kind, of->layer);
    size_t start = s->state_start[kind][p - s->state_table[kind].items];
    return s->state[kind] + start + (element - shards_state_owned(s, p, s->dist->rank).first);
}

// Where a weight is: an element of a parameter, or of a piece of one.
static inline Matrix shards_weight_at(const Shards *s, const Param *p, size_t element) {
    if (p->coded) return (Matrix){NULL, NULL, &s->coded[param_find(&s->table, p->kind, p->layer) - s->table.items]};
    if (!s->halves) return matrix_of(s->weights + element);
    if (p->group != GROUP_VECTOR) return (Matrix){NULL, s->halves + element, NULL};
    const Param *whole = param_find(&s->table, p->kind, p->layer);
    return matrix_of(s->weights + s->vector_start[whole - s->table.items] + (element - whole->offset));
}

static inline Weights shards_weights(const Shards *s, int layer) {
    Weights w;
#define VALUE_GROUP_EMBEDDING(matrix) matrix
#define VALUE_GROUP_MATRIX(matrix) matrix
#define VALUE_GROUP_VECTOR(matrix) matrix.full
#define VALUE_GROUP_LORA_A(matrix) matrix
#define VALUE_GROUP_LORA_B(matrix) matrix
#define X(id, rows, cols, place, present, init, group, ...)                                                            \
    {                                                                                                                  \
        const Param *p = param_find(&s->table, PARAM_##id, place == PLACE_LAYER ? layer : -1);                         \
        Matrix matrix = p ? shards_weight_at(s, p, p->offset) : matrix_of(NULL);                                       \
        w.id = VALUE_##group(matrix);                                                                                  \
    }
    PARAMETERS(X)
#undef X
#undef VALUE_GROUP_EMBEDDING
#undef VALUE_GROUP_MATRIX
#undef VALUE_GROUP_VECTOR
#undef VALUE_GROUP_LORA_A
#undef VALUE_GROUP_LORA_B
    return w;
}
static inline Gradients shards_gradients(const Shards *s, int layer) {
    Gradients d;
#define X(id, rows, cols, place, ...)                                                                                  \
    {                                                                                                                  \
        const Param *p = param_find(&s->table, PARAM_##id, place == PLACE_LAYER ? layer : -1);                         \
        d.id = p && p->trained ? shards_gradient_at(s, p->segment, p->offset) : NULL;                                  \
    }
    PARAMETERS(X)
#undef X
    return d;
}

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
    // Loss, then the squares of each tensor of this rank: added in the order of the table on all ranks, so that with
    // whole tensors no digit depends on who has which.
    int n = s->table.count;
    double *sums = (double *)mem_alloc(sizeof(double) * (size_t)(n + 1));
    sums[0] = *loss, *squares = 0;
    for (int i = 0; i < n; i++) {
        const Param *p = &s->table.items[i];
        Range part = shards_parts(s, p->segment)[s->dist->rank];
        part.first += s->table.segment_start[p->segment];
        part = overlap(p, part);
        if (part.count) sums[i + 1] = sum_of_squares(shards_gradient_at(s, p->segment, part.first), part.count, s->cpu);
    }
    for (int segment = 0; segment < s->table.segments; segment++) {
        real *gradients = s->gradients + s->gradient_start[segment];
        if (!s->zero) ranks_gather(&s->ranks, gradients, shards_parts(s, segment));
    }
    ranks_gather_wait(&s->ranks);
    dist_sum(s->dist, sums, n + 1);
    *loss = sums[0];
    for (int i = 0; i < n; i++) *squares += sums[i + 1];
    free(sums);
}

// Updates what this rank owns of a parameter. False: a new weight or moment is not finite.
static inline bool shards_update_one(Shards *s, const Param *p, Range own, const UpdateRule *rule, double clip) {
    real *w = s->weights + own.first, *state[STATE_KINDS] = {NULL};
    const real *g = shards_gradient_at(s, p->segment, own.first);
    for (int k = 0; k < STATE_KINDS; k++) {
        const Param *of = param_find(&s->state_table[k], p->kind, p->layer);
        Range part = shards_state_owned(s, of, s->dist->rank);
        if (part.count) state[k] = shards_state_at(s, k, of, part.first);
    }
    if (!param_is_muon(p, s->muon.optimizer)) {
        ParamRun run = {w, g, {NULL}, own.count};
        for (int k = 0; k < STATE_KINDS; k++) run.state[k] = state[k];
        return adamw(run, rule, p->group, clip, s->cpu);
    }
    bool finite = true;
    double started = clock_seconds();
    int starts[4], n = param_matrices(starts, p, &s->config);
    for (int i = 0; i < n; i++) {
        size_t row = (size_t)starts[i], at = row * (size_t)p->cols;
        MuonMatrix matrix = {w + at, g + at, state[STATE_moment1] + at, NULL, starts[i + 1] - starts[i], p->cols};
        if (state[STATE_moment2]) matrix.row_moment = state[STATE_moment2] + row;
        finite &= muon_update(matrix, &s->muon, &rule->group[p->group], clip, s->scratch, s->cpu);
    }
    s->muon_seconds += clock_seconds() - started;
    return finite;
}

// Updates what this rank owns, tensor by tensor; others get finished segments meanwhile (all-gather). Zeroes gradients.
// False, on all ranks: a weight or moment is not finite now.
static inline bool shards_update(Shards *s, const UpdateRule *rule, double clip) {
    bool finite = true;
    for (int i = 0; i < s->table.count; i++) {
        const Param *p = &s->table.items[i];
        int segment = p->segment;
        Range own = overlap(p, shards_owned(s, segment, s->dist->rank));
        if (own.count) finite &= shards_update_one(s, p, own, rule, clip);
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
static inline Param shards_param(const Shards *s, int array, const Param *of) {
    const ParamTable *t = array < MODEL_STATE ? &s->table : &s->state_table[array - MODEL_STATE];
    return param_piece(param_find(t, of->kind, of->layer), of->first, of->count);
}

// Elements of p that a rank has of an array.
static inline Range shards_held(const Shards *s, int array, const Param *p, int rank) {
    Range all = {p->offset, p->count}, none = {p->offset, 0};
    if (array == MODEL_WEIGHT) return all;
    if (array == MODEL_GRADIENT) return p->trained ? all : none;
    return shards_state_owned(s, p, rank);
}
static inline real *shards_at(const Shards *s, int array, const Param *p, size_t element) {
    return array == MODEL_WEIGHT     ? (real *)shards_weight_at(s, p, element).full
           : array == MODEL_GRADIENT ? shards_gradient_at(s, p->segment, element)
                                     : shards_state_at(s, array - MODEL_STATE, p, element);
}

static inline void shards_set(Shards *s, int array, const Param *of, const float *values) {
    Param own = shards_param(s, array, of), *p = &own;
    Range r = shards_held(s, array, p, s->dist->rank);
    if (array == MODEL_WEIGHT && p->coded) {
        const Coded *c = shards_weight_at(s, p, p->offset).codes;
        int done;
        for (size_t i = 0; i < p->count;) i += coded_take(&s->fill, c, p->first + i, values + i, p->count - i, &done);
        return;
    }
    if (array == MODEL_WEIGHT && s->halves && p->group != GROUP_VECTOR) {
        half_store(s->halves + p->offset, values, p->count);
        return;
    }
    real *to = r.count ? shards_at(s, array, p, r.first) : NULL;
    for (size_t i = 0; i < r.count; i++) to[i] = (real)values[r.first - p->offset + i];
}

static inline void shards_get(Shards *s, int array, const Param *of, float *values, int to) {
    Param own = shards_param(s, array, of), *p = &own;
    if (array == MODEL_WEIGHT && to != s->dist->rank) return;
    Range r = shards_held(s, array, p, s->dist->rank);
    if (array == MODEL_WEIGHT && p->coded) {
        coded_read(values, shards_weight_at(s, p, p->offset).codes, p->first, p->count);
        return;
    }
    if (array == MODEL_WEIGHT && s->halves && p->group != GROUP_VECTOR) {
        half_widen(values, s->halves + p->offset, p->count);
        return;
    }
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
    Param own = shards_param(s, array, of);
    return shards_held(s, array, &own, s->dist->rank).count > 0;
}

#endif
