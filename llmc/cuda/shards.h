/* shards.h: where the numbers of the parameters lie, and how the ranks share them out (sharding). llmc/cpu/shards.h
has the same functions.

ranks.h says what the ZeRO stages leave out. The unit is a segment of the parameter table (model.h). Each member of a
group owns a part of what is trained of every segment: equal ranges, whatever tensors lie in them, or a run of whole
tensors (SHARDS_TENSORS), for rules that look at a whole matrix. Arrays of own elements hold the parts one behind the
other.

What a rank does not keep whole lies in a slot while a segment needs it. Two slots take turns among the layers' segments
(double buffering), one or two serve the embedding and the head: the next segment's weights arrive (prefetch), and the
last one's gradients are summed, while the GPU works on this one. shards_use() and shards_begin() say which that is.

Only trained tensors have gradients and state; in a segment they stand before the frozen ones, which ZeRO-3 keeps whole.

With --base=nf4 and q8 the frozen matrices inside blocks are kept as codes. One at a time becomes numbers, in front of
its product: shards_matrix().
*/
#ifndef LLMC_CUDA_SHARDS_H
#define LLMC_CUDA_SHARDS_H

#include "../base/hash.h"
#include "../engine.h"
#include "codes.h"
#include "cuda.h"
#include "muon.h"
#include "optimizer.h"
#include "ranks.h"

// The tensors of one layer (and those outside the layers) as pointers, named as in model.h; NULL: there is none.
template <typename Real> struct Tensors {
#define X(id, ...) Real *id;
    PARAMETERS(X)
#undef X
};
typedef Tensors<const real> Weights;
typedef Tensors<float> Gradients;

enum { SLOTS = 4 };
typedef struct {
    void *buffer[SLOTS];      // NULL: not needed
    int holds[SLOTS];         // a segment, or -1
    bool awaited[SLOTS];      // in this pass: the event was recorded
    cudaEvent_t event[SLOTS]; // weights: they are there; gradients: they were summed
} Slots;

typedef struct {
    Device *gpu;
    Dist alone; // in place of the setup's where nothing is updated: ranks have nothing to tell each other then
    Ranks ranks;
    ParamTable table; // its segments are padded: see shards_lay_out
    Config config;
    int base;   // Base
    bool check; // shards_check

    real *weights;    // (table.elements), with ZeRO-3 (own)
    float *gradients; // (trained), with ZeRO-2 and 3 (own); this and the rest only for training
    float *master;    // (own); NULL in a float build and where there are none
    uint8_t *codes;   // of matrices that are kept as codes; or NULL
    Coded *coded;     // (table.count): where, on the device
    QuantTables *tables, *tables_host;
    CodedFill fill;
    real *matrix; // (the largest): the numbers of one of them
    // The optimizer's state of own elements; of a row whose shapes are not the weights' parameter by parameter.
    MuonRule muon;
    ParamTable state_table[STATE_KINDS];
    size_t *state_start[STATE_KINDS]; // (table.count + 1): where that of a parameter begins; NULL: like own elements
    float *state[STATE_KINDS];
    real *scratch;          // of muon_update, for the largest matrix; or NULL
    unsigned char *groups;  // (own / 64): parameter groups; GROUPS: Muon's
    unsigned *second;       // (own / 64): where moment2 stands, in units of 64; NULL: like own elements
    size_t own, trained;    // elements that this rank updates; that all do
    Range *parts;           // (segments, G): what each member owns of a segment, from the segment's first element on
    size_t *gradient_start; // (segments + 1): where those of a segment begin among the trained
    size_t *own_start;      // (segments + 1): where this rank's part of a segment begins among its own elements
    Owned owned;
    Slots weight_slots, gradient_slots; // ZeRO-3; ZeRO-2 and 3
    int sum_parts; // sums of squares are added tensor by tensor where ranks have whole ones, else in one: 1
    double *sums;  // (ranks, 1 + sum_parts) on the device: loss and sums of squares of every rank
} Shards;

// ---------------------------------------------------------------- where what lies

static inline Range *shards_parts(const Shards *s, int segment) {
    return s->parts + (size_t)segment * (size_t)s->ranks.group;
}

// What a member owns of a segment, as offsets into the table's elements.
static inline Range shards_owned(const Shards *s, int segment, int member) {
    Range own = shards_parts(s, segment)[member];
    own.first += s->table.segment_start[segment];
    return own;
}

// Where an element of this rank's part of a segment stands among its own.
static inline size_t shards_index(const Shards *s, int segment, size_t element) {
    return s->own_start[segment] + (element - shards_owned(s, segment, s->ranks.member).first);
}

// What a member has of the state of a parameter (or a piece of one) of a row's table, as offsets into that table: the
// elements that it updates; of a state in another shape than the weights' the whole, if it has the tensor.
static inline Range shards_state_owned(const Shards *s, const Param *p, int member) {
    const Param *w = param_find(&s->table, p->kind, p->layer);
    Range own = shards_owned(s, w->segment, member), all = {p->offset, p->count}, none = {p->offset, 0};
    if (!w->trained) return none;
    if (p->cols != w->cols || !p->count) return overlap(w, own).count ? all : none;
    Param piece = param_piece(w, p->first, p->count);
    Range part = overlap(&piece, own);
    part.first = p->offset + (part.first - piece.offset);
    return part.count ? part : none;
}

// Where an element of a row's table, which this rank owns, stands in its array.
static inline size_t shards_state_index(const Shards *s, int kind, const Param *of, size_t element) {
    const ParamTable *t = &s->state_table[kind];
    const Param *p = param_find(t, of->kind, of->layer), *w = param_find(&s->table, of->kind, of->layer);
    if (!s->state_start[kind]) return shards_index(s, w->segment, w->offset + (element - p->offset));
    return s->state_start[kind][p - t->items] + (element - shards_state_owned(s, p, s->ranks.member).first);
}

static inline size_t shards_state_numbers(const Shards *s, int kind) {
    return s->state_start[kind] ? s->state_start[kind][s->table.count] : s->own;
}

static inline size_t shards_trained(const ParamTable *t, int segment) {
    return t->segment_trained[segment] - t->segment_start[segment];
}

// Segments that are needed at the same time have different slots: neighbouring layers; the embedding and the
// head segment where the head is the embedding.
static inline int shards_slot(const Shards *s, int segment) {
    if (segment > 0 && segment < s->table.segments - 1) return segment % 2;
    return segment > 0 && !param_find(&s->table, PARAM_head_w, -1) ? 3 : 2;
}

// Where a segment lies: in the whole array, or in its slot.
static inline real *shards_segment_weights(const Shards *s, int segment) {
    return s->ranks.zero == 3 ? (real *)s->weight_slots.buffer[shards_slot(s, segment)]
                              : s->weights + s->table.segment_start[segment];
}
static inline float *shards_segment_gradients(const Shards *s, int segment) {
    return s->ranks.zero >= 2 ? (float *)s->gradient_slots.buffer[shards_slot(s, segment)]
                              : s->gradients + s->gradient_start[segment];
}

// The pointers, by a function that says where a segment lies.
template <typename Number, typename SegmentAt>
static inline Tensors<Number> shards_tensors(const Shards *s, int layer, bool frozen_too, SegmentAt segment_at) {
    Tensors<Number> w;
#define X(id, rows, cols, place, ...)                                                                                  \
    {                                                                                                                  \
        const Param *p = param_find(&s->table, PARAM_##id, place == PLACE_LAYER ? layer : -1);                         \
        bool there = p && !p->coded && (p->trained || frozen_too);                                                     \
        w.id = there ? segment_at(s, p->segment) + (p->offset - s->table.segment_start[p->segment]) : NULL;            \
    }
    PARAMETERS(X)
#undef X
    return w;
}
static inline Weights shards_weights(const Shards *s, int layer) {
    return shards_tensors<const real>(s, layer, true, shards_segment_weights);
}
// A matrix inside a block, for the product that is put on the stream next. Codes become its numbers; a rehearsal's are
// random in any case.
static inline const real *shards_matrix(const Shards *s, int kind, int layer) {
    const Param *p = param_find(&s->table, kind, layer);
    if (!p->coded) return shards_segment_weights(s, p->segment) + (p->offset - s->table.segment_start[p->segment]);
    if (!s->ranks.quiet) codes_decode<real>(s->matrix, &s->coded[p - s->table.items], s->gpu);
    return s->matrix;
}
static inline Gradients shards_gradients(const Shards *s, int layer) {
    return shards_tensors<float>(s, layer, false, shards_segment_gradients);
}

// ---------------------------------------------------------------- opening

// Lays the table out anew: room for all rows of the head, and parts of segments (trained, frozen) that G equal ranges
// of 64 elements fit into.
static inline void shards_lay_out(ParamTable *t, const Config *c, int group) {
    size_t unit = (size_t)PARAM_ALIGN * (size_t)group, at = 0;
    for (int segment = 0, i = 0; segment < t->segments; segment++) {
        t->segment_start[segment] = at;
        for (int frozen = 0; frozen < 2; frozen++) {
            if (frozen) t->segment_trained[segment] = at;
            for (; i < t->count && t->items[i].segment == segment && t->items[i].trained == !frozen; i++) {
                Param *p = &t->items[i];
                if (p->coded) continue;
                bool head = p->kind == (c->tied ? PARAM_wte : PARAM_head_w);
                size_t count = head ? (size_t)gpu_head_rows(c) * (size_t)p->cols : p->count;
                p->offset = at;
                at += (count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
            }
            at = (at + unit - 1) / unit * unit;
        }
    }
    t->segment_start[t->segments] = t->elements = at;
    for (int i = 0; i < t->count; i++) {
        if (!t->items[i].coded) continue;
        t->items[i].offset = at;
        at += t->items[i].count;
    }
}

static inline void shards_open_codes(Shards *s, const ModelSetup *setup) {
    CodedSizes sizes = coded_sizes(&s->table, &s->config, setup->base);
    if (!sizes.bytes) return;
    s->codes = (uint8_t *)device_alloc(s->gpu, sizes.bytes, "the codes of the frozen matrices");
    s->matrix = (real *)device_alloc(s->gpu, sizeof(real) * sizes.matrix, "the numbers of a frozen matrix");
    s->tables = (QuantTables *)device_alloc(s->gpu, sizeof(QuantTables), "the levels of codes");
    s->tables_host = (QuantTables *)mem_alloc(sizeof(QuantTables));
    s->coded = (Coded *)mem_alloc(sizeof(Coded) * (size_t)s->table.count);
    s->fill.largest = (float *)mem_alloc(sizeof(float) * sizes.part_blocks);
    s->fill.bytes = (uint8_t *)mem_alloc(sizes.part);
    quant_tables(s->tables_host);
    device_write(s->gpu, s->tables, s->tables_host, sizeof(QuantTables));
    uint8_t *at = s->codes;
    for (int i = 0; i < s->table.count; i++) {
        if (!s->table.items[i].coded) continue;
        s->coded[i] = coded_of(&s->table.items[i], &s->config, setup->base, s->tables);
        coded_place(&s->coded[i], at);
        at += coded_bytes(&s->coded[i]);
    }
}

static inline void shards_slots_open(Shards *s, Slots *slots, size_t bytes) {
    size_t most[SLOTS] = {0, 0, 0, 0};
    for (int segment = 0; segment < s->table.segments; segment++) {
        const size_t *start = s->table.segment_start + segment;
        size_t *slot = &most[shards_slot(s, segment)], n = start[1] - start[0];
        if (n > *slot) *slot = n;
    }
    for (int i = 0; i < SLOTS; i++) {
        slots->holds[i] = -1;
        if (most[i]) slots->buffer[i] = device_alloc(s->gpu, bytes * most[i], "a segment shared out over the ranks");
        CUDA_CHECK(cudaEventCreateWithFlags(&slots->event[i], cudaEventDisableTiming));
    }
}

static inline void shards_slots_close(Slots *slots) {
    for (int i = 0; i < SLOTS; i++) {
        cudaFree(slots->buffer[i]);
        if (slots->event[i]) cudaEventDestroy(slots->event[i]);
    }
}

// Tables on the device: the group of every 64 own elements, and where own elements stand among all.
static inline void shards_open_tables(Shards *s) {
    int segments = s->table.segments, member = s->ranks.member;
    unsigned char *groups = (unsigned char *)mem_alloc(s->own / PARAM_ALIGN);
    unsigned *second = NULL;
    if (s->state_start[STATE_moment2]) {
        second = (unsigned *)mem_alloc(sizeof(unsigned) * (s->own / PARAM_ALIGN));
        memset(groups, GROUPS, s->own / PARAM_ALIGN); // what pads a segment has no second moment
    }
    for (int i = 0; i < s->table.count; i++) { // tensors and parts start on multiples of PARAM_ALIGN
        const Param *p = &s->table.items[i];
        Range part = overlap(p, shards_owned(s, p->segment, member));
        if (!part.count) continue;
        size_t at = shards_index(s, p->segment, part.first) / PARAM_ALIGN,
               count = (part.count + PARAM_ALIGN - 1) / PARAM_ALIGN;
        bool muon = param_is_muon(p, s->muon.optimizer);
        memset(groups + at, muon ? GROUPS : p->group, count);
        if (!second || muon) continue;
        for (size_t k = 0; k < count; k++)
            second[at + k] = (unsigned)(s->state_start[STATE_moment2][i] / PARAM_ALIGN + k);
    }
    if (second) {
        s->second =
            (unsigned *)device_alloc(s->gpu, sizeof(unsigned) * (s->own / PARAM_ALIGN), "the table of second moments");
        device_write(s->gpu, s->second, second, sizeof(unsigned) * (s->own / PARAM_ALIGN));
    }
    free(second);
    s->groups = (unsigned char *)device_alloc(s->gpu, s->own / PARAM_ALIGN, "the table of parameter groups");
    device_write(s->gpu, s->groups, groups, s->own / PARAM_ALIGN);
    free(groups);
    s->owned.whole_gradients = s->ranks.zero < 2, s->owned.whole_weights = s->ranks.zero < 3;
    if (s->own == s->table.elements) return; // own elements stand where they stand among all
    size_t n = (size_t)segments + 1, *at = (size_t *)mem_alloc(sizeof(size_t) * 3 * n);
    for (int segment = 0; segment < segments; segment++) {
        Range own = shards_owned(s, segment, member);
        at[segment] = s->own_start[segment];
        at[n + (size_t)segment] = own.first;
        at[2 * n + (size_t)segment] = s->gradient_start[segment] + (own.first - s->table.segment_start[segment]);
    }
    at[segments] = s->own, s->owned.segments = segments;
    size_t *there = (size_t *)device_alloc(s->gpu, sizeof(size_t) * 3 * n, "the table of segments");
    device_write(s->gpu, there, at, sizeof(size_t) * 3 * n);
    free(at);
    s->owned.start = there, s->owned.element = there + n, s->owned.gradient = there + 2 * n;
}

// Checks and settles who shares what with whom. Before the device is opened.
static inline bool shards_plan(Shards *s, const ModelSetup *setup, Error *err) {
    memset(s, 0, sizeof *s);
    dist_single(&s->alone);
    if (!ranks_plan(&s->ranks, setup->gradients ? setup->dist : &s->alone, setup->zero, setup->zero_group, err))
        return false;
    s->config = setup->config, s->muon = setup->muon, s->base = setup->base;
    s->table = coded_table(&setup->config, setup->frozen, setup->base);
    shards_lay_out(&s->table, &setup->config, s->ranks.group);
    for (int segment = 0; s->ranks.zero == 3 && segment < s->table.segments; segment++)
        if (s->table.segment_trained[segment] < s->table.segment_start[segment + 1])
            return error_set(err, "--zero=3 shares out all weights, but some are frozen here; use --zero=2");
    return true;
}

static inline void shards_open_state(Shards *s) {
    int n = s->table.count;
    size_t most = muon_scratch_most(&s->table, &s->muon, MUON_SQUARES);
    for (int k = 0; k < STATE_KINDS; k++) {
        ParamTable *t = &s->state_table[k];
        size_t *start = NULL;
        *t = param_table_state(&s->table, s->muon.optimizer, k);
        if (t->parameters != s->table.parameters) {
            start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(n + 1));
            for (int i = 0; i < n; i++)
                start[i + 1] =
                    start[i] + (shards_state_owned(s, &t->items[i], s->ranks.member).count + PARAM_ALIGN - 1) /
                                   PARAM_ALIGN * PARAM_ALIGN;
        }
        s->state_start[k] = start;
        s->state[k] =
            (float *)device_alloc(s->gpu, sizeof(float) * shards_state_numbers(s, k), "the optimizer's state");
    }
    if (most) s->scratch = (real *)device_alloc(s->gpu, sizeof(real) * most, "Muon's scratch memory");
}

static inline void shards_open(Shards *s, const ModelSetup *setup, int deal, Device *gpu) {
    int segments = s->table.segments, G = s->ranks.group;
    bool whole = s->ranks.zero < 2;
    s->gpu = gpu;
    ranks_open(&s->ranks);
    s->parts = (Range *)mem_alloc(sizeof(Range) * (size_t)segments * (size_t)G);
    s->gradient_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(segments + 1));
    s->own_start = (size_t *)mem_alloc(sizeof(size_t) * (size_t)(segments + 1));
    double *load = (double *)mem_alloc(sizeof(double) * (size_t)G);
    for (int segment = 0; segment < segments; segment++) {
        Range *parts = shards_parts(s, segment);
        shards_deal_segment(parts, load, &s->table, segment, G, deal, setup);
        s->gradient_start[segment + 1] = s->gradient_start[segment] + shards_trained(&s->table, segment);
        s->own_start[segment + 1] = s->own_start[segment] + parts[s->ranks.member].count;
    }
    free(load);
    s->own = s->own_start[segments], s->trained = s->gradient_start[segments];
    size_t weights = s->ranks.zero == 3 ? s->own : s->table.elements;
    s->weights = (real *)device_alloc(gpu, sizeof(real) * weights, "the weights");
    shards_open_codes(s, setup);
    if (s->ranks.zero == 3) shards_slots_open(s, &s->weight_slots, sizeof(real));
    s->sum_parts = deal == SHARDS_TENSORS ? s->table.count : 1;
    size_t sums = (size_t)(1 + s->sum_parts) * (size_t)s->ranks.dist->size;
    s->sums = (double *)device_alloc(gpu, sizeof(double) * sums, "the sums over the ranks");
    s->check = environment_int("LLMC_CHECK_RANKS", 0) != 0;
    if (!setup->gradients) return;
    if (sizeof(real) != sizeof(float) && !setup->no_master)
        s->master = (float *)device_alloc(gpu, sizeof(float) * s->own, "the master weights");
    s->gradients = (float *)device_alloc(gpu, sizeof(float) * (whole ? s->trained : s->own), "the gradients");
    if (!whole) shards_slots_open(s, &s->gradient_slots, sizeof(float));
    shards_open_state(s);
    shards_open_tables(s);
}

static inline void shards_close(Shards *s) {
    void *all[] =
        {s->weights, s->gradients,          s->master, s->groups, s->second, s->scratch, s->sums, s->codes, s->matrix,
         s->tables,  (void *)s->owned.start};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) cudaFree(all[i]);
    free(s->coded), free(s->tables_host), free(s->fill.largest), free(s->fill.bytes);
    for (int k = 0; k < STATE_KINDS; k++) {
        cudaFree(s->state[k]);
        free(s->state_start[k]);
        if (s->state_table[k].items) param_table_free(&s->state_table[k]);
    }
    shards_slots_close(&s->weight_slots);
    shards_slots_close(&s->gradient_slots);
    free(s->parts);
    free(s->gradient_start);
    free(s->own_start);
    param_table_free(&s->table);
    ranks_close(&s->ranks);
}

// ---------------------------------------------------------------- during a pass

// A pass begins with all its slots free, and ends after all that it started beside the model's stream: so a graph can
// capture it.
static inline void shards_begin_pass(Shards *s, bool forward) {
    Slots *w = &s->weight_slots;
    memset(w->awaited, 0, sizeof w->awaited);
    memset(s->gradient_slots.awaited, 0, sizeof s->gradient_slots.awaited);
    // A backward pass finds in the slots what the forward pass left there.
    for (int i = 0; i < SLOTS; i++) w->holds[i] = -1;
    for (int i = 0; !forward && i < s->table.segments; i++) w->holds[shards_slot(s, i)] = i;
    if (s->ranks.zero >= 2) ranks_fork(&s->ranks, s->gpu->stream);
}
static inline void shards_end_pass(Shards *s) { ranks_join(&s->ranks, s->gpu->stream); }

// ZeRO-3: starts to gather a segment's weights (all-gather, prefetch), while the work that follows runs.
static inline void shards_gather(Shards *s, int segment) {
    Slots *w = &s->weight_slots;
    int slot = shards_slot(s, segment);
    if (w->holds[slot] == segment) return;
    ranks_fork(&s->ranks, s->gpu->stream); // the segment that was there is no longer needed
    ranks_gather(&s->ranks, w->buffer[slot], s->weights + s->own_start[segment], shards_parts(s, segment),
                 sizeof(real));
    CUDA_CHECK(cudaEventRecord(w->event[slot], ranks_stream(&s->ranks, s->gpu->stream)));
    w->holds[slot] = segment, w->awaited[slot] = true;
}

// Work put on the stream after this may read the segment's weights; those of `next` (-1: none) are in flight.
static inline void shards_use(Shards *s, int segment, int next) {
    if (s->ranks.zero < 3 || s->ranks.quiet) return;
    Slots *w = &s->weight_slots;
    int slot = shards_slot(s, segment);
    shards_gather(s, segment);
    if (w->awaited[slot]) CUDA_CHECK(cudaStreamWaitEvent(s->gpu->stream, w->event[slot], 0));
    if (next >= 0 && shards_slot(s, next) != slot) shards_gather(s, next);
}

// Work put on the stream after this may add to the segment's gradients.
static inline void shards_begin(Shards *s, int segment) {
    if (s->ranks.zero < 2) return;
    Slots *g = &s->gradient_slots;
    int slot = shards_slot(s, segment);
    if (g->awaited[slot]) CUDA_CHECK(cudaStreamWaitEvent(s->gpu->stream, g->event[slot], 0));
    CUDA_CHECK(cudaMemsetAsync(g->buffer[slot], 0, sizeof(float) * shards_trained(&s->table, segment), s->gpu->stream));
}

// Starts to sum a segment's gradients over the ranks, as soon as this pass adds nothing more to them
// (reduce-scatter), while the work that follows runs. Gradients that this rank keeps whole wait for the last pass.
static inline void shards_sum(Shards *s, int segment, bool last) {
    Ranks *r = &s->ranks;
    if ((!last && r->zero < 2) || r->dist->size == 1 || r->quiet || !shards_trained(&s->table, segment)) return;
    Range part = shards_parts(s, segment)[r->member];
    float *g = shards_segment_gradients(s, segment), *sum = g + part.first;
    ranks_fork(r, s->gpu->stream);
    ranks_sum_inside(r, g, shards_parts(s, segment));
    if (r->zero >= 2) {
        Slots *slots = &s->gradient_slots;
        int slot = shards_slot(s, segment);
        cudaStream_t stream = ranks_stream(r, s->gpu->stream);
        float *total = s->gradients + s->own_start[segment];
        add_gradients(total, sum, part.count, stream);
        CUDA_CHECK(cudaEventRecord(slots->event[slot], stream));
        slots->awaited[slot] = true;
        sum = total;
    }
    if (last) ranks_sum_across(r, sum, part.count);
}

static inline void shards_zero_gradients(Shards *s) {
    size_t n = s->ranks.zero >= 2 ? s->own : s->trained;
    CUDA_CHECK(cudaMemsetAsync(s->gradients, 0, sizeof(float) * n, s->gpu->stream));
}

// ---------------------------------------------------------------- update

// Where the first of this rank's part of a segment's elements has its gradient.
static inline float *shards_own_gradient(const Shards *s, int segment, Range own) {
    size_t whole = s->gradient_start[segment] + (own.first - s->table.segment_start[segment]);
    return s->gradients + (s->owned.whole_gradients ? whole : shards_index(s, segment, own.first));
}

// s->sums: loss, which goes back to zero on the device, and sums of squares of every rank.
static inline void shards_totals(Shards *s, double *loss) {
    Ranks *r = &s->ranks;
    double *sums = s->sums + (size_t)r->dist->rank * (size_t)(1 + s->sum_parts);
    Owned as_they_stand;
    memset(&as_they_stand, 0, sizeof as_they_stand);
    take_loss(sums, loss, s->gpu);
    if (s->sum_parts == 1) gradient_squares(sums + 1, s->gradients, s->own, s->owned, s->gpu);
    for (int i = 0; s->sum_parts > 1 && i < s->table.count; i++) { // those of other ranks' tensors stay zero
        const Param *p = &s->table.items[i];
        Range own = overlap(p, shards_owned(s, p->segment, r->member));
        size_t padded = (own.count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
        if (!own.count || !p->trained) continue;
        gradient_squares(sums + 1 + i, shards_own_gradient(s, p->segment, own), padded, as_they_stand, s->gpu);
    }
    ranks_fork(r, s->gpu->stream);
    ranks_gather_sums(r, s->sums, 1 + s->sum_parts);
    ranks_join(r, s->gpu->stream);
}

// Muon's matrices of a segment that this rank owns, one after the other.
static inline void shards_update_matrices(Shards *s, int segment, const AdamRule *rule, AdamResult *result) {
    for (int i = 0; i < s->table.count; i++) {
        const Param *p = &s->table.items[i], *m = &s->state_table[STATE_moment1].items[i],
                    *v = &s->state_table[STATE_moment2].items[i];
        if (p->segment != segment || !param_is_muon(p, s->muon.optimizer) || !p->trained) continue;
        Range own = overlap(p, shards_owned(s, segment, s->ranks.member));
        if (!own.count) continue;
        int starts[4], n = param_matrices(starts, p, &s->config);
        size_t index = shards_index(s, segment, own.first);
        for (int j = 0; j < n; j++) {
            size_t row = (size_t)starts[j], at = row * (size_t)p->cols;
            MuonMatrix<real> matrix = {s->weights + (s->owned.whole_weights ? own.first : index) + at,
                                       s->master ? s->master + index + at : NULL,
                                       shards_own_gradient(s, segment, own) + at,
                                       s->state[STATE_moment1] + shards_state_index(s, STATE_moment1, m, m->offset) +
                                           at,
                                       NULL,
                                       own.first + at,
                                       starts[j + 1] - starts[j],
                                       p->cols};
            if (v->count)
                matrix.row_moment = s->state[STATE_moment2] + shards_state_index(s, STATE_moment2, v, v->offset) + row;
            muon_update<real>(matrix, &s->muon, rule, result, s->scratch, s->gpu);
        }
    }
}

// Updates what this rank owns, if *result says so: AdamW's tensors all at once, then Muon's; gradients are zero then.
// Everybody gets everybody's weights, all at once, or those of a segment while the next one's matrices are worked at.
// *result says if
// what this rank made is finite.
static inline void shards_update(Shards *s, const AdamRule *rule, AdamResult *result) {
    Ranks *r = &s->ranks;
    bool gather = r->zero == 1 || r->zero == 2;
    ParamRun<real> run = {s->weights, s->master, s->gradients, {NULL}, s->groups, s->second, s->own};
    for (int k = 0; k < STATE_KINDS; k++) run.state[k] = s->state[k];
    adamw<real>(run, s->owned, rule, result, s->gpu);
    bool at_once = gather && s->muon.optimizer == OPTIMIZER_ADAMW;
    if (at_once) ranks_fork(r, s->gpu->stream), ranks_group(r, true);
    for (int segment = 0; segment < s->table.segments; segment++) {
        shards_update_matrices(s, segment, rule, result);
        if (!gather) continue;
        if (!at_once) ranks_fork(r, s->gpu->stream);
        ranks_gather(r, shards_segment_weights(s, segment), s->weights + shards_owned(s, segment, r->member).first,
                     shards_parts(s, segment), sizeof(real));
    }
    if (at_once) ranks_group(r, false);
    if (r->zero == 1) clear_gradients(s->gradients, s->trained, result, s->gpu);
    if (gather) ranks_join(r, s->gpu->stream);
}

// LLMC_CHECK_RANKS=1: ends the process where ranks that should hold the same bits do not. For debugging: it
// reads everything back.
static inline void shards_check(Shards *s, int64_t step) {
    enum { CHECKS = 2 + STATE_KINDS };
    if (!s->check) return;
    Ranks *r = &s->ranks;
    int ranks = r->dist->size;
    struct {
        const char *what;
        const void *array;
        size_t bytes;
        bool everywhere; // or only on ranks of the same place in their groups
    } checks[CHECKS] = {{"weights", s->weights, sizeof(real) * (r->zero == 3 ? s->own : s->table.elements),
                         r->zero < 3},
                        {"master weights", s->master, s->master ? sizeof(float) * s->own : 0, false}};
    for (int k = 0; k < STATE_KINDS; k++)
        checks[2 + k] = {state_name(k), s->state[k], sizeof(float) * shards_state_numbers(s, k), false};
    double *hashes = (double *)mem_alloc(sizeof(double) * (size_t)ranks);
    for (int k = 0; k < CHECKS; k++) {
        void *host = mem_alloc(checks[k].bytes);
        device_read(s->gpu, host, checks[k].array, checks[k].bytes);
        memset(hashes, 0, sizeof(double) * (size_t)ranks);
        Xxh64 hash;
        xxh64_init(&hash, 0);
        xxh64_update(&hash, host, checks[k].bytes);
        hashes[r->dist->rank] = (double)(xxh64_value(&hash) >> 12); // exact in a double
        dist_sum(r->dist, hashes, ranks);
        for (int rank = 0; rank < ranks; rank++) {
            int with = checks[k].everywhere ? 0 : rank % r->group;
            if (hashes[rank] != hashes[with])
                fail("step %lld: the %s of rank %d are not those of rank %d", (long long)step, checks[k].what, rank,
                     with);
        }
        free(host);
    }
    free(hashes);
}

// ---------------------------------------------------------------- rehearsal

// Small pseudo-random numbers: products are timed on them, since zeros would run at a higher clock.
static __global__ void fill_kernel(real *x, size_t n) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) from_float(&x[i], (float)((uint32_t)i * 2654435761u >> 8) * (1.0f / 268435456.0f) - 0.03f);
}

// On: weights are such numbers and the ranks tell each other nothing. Off: weights and gradients are zero again.
static inline void shards_rehearse(Shards *s, bool on) {
    size_t n = s->ranks.zero == 3 ? s->own : s->table.elements;
    auto fill = [=](real *x, size_t count) {
        fill_kernel<<<blocks_for(count, 256), 256, 0, s->gpu->stream>>>(x, count);
        LAUNCH_CHECK();
    };
    s->ranks.quiet = on;
    if (on) fill(s->weights, n);
    if (on && s->matrix) fill(s->matrix, coded_sizes(&s->table, &s->config, s->base).matrix);
    for (int segment = 0; on && s->ranks.zero == 3 && segment < s->table.segments; segment++)
        fill(shards_segment_weights(s, segment), shards_trained(&s->table, segment));
    if (on) return;
    CUDA_CHECK(cudaMemsetAsync(s->weights, 0, sizeof(real) * n, s->gpu->stream));
    shards_zero_gradients(s);
}

// ---------------------------------------------------------------- numbers in and out: see engine.h

// The same parameter, or piece of one, in this program's own table.
static inline Param shards_param(const Shards *s, int array, const Param *p) {
    const ParamTable *t = array < MODEL_STATE ? &s->table : &s->state_table[array - MODEL_STATE];
    return param_piece(param_find(t, p->kind, p->layer), p->first, p->count);
}

// Elements of p that this rank has of an array, and where the first of them stands in it.
static inline Range shards_held(const Shards *s, int array, const Param *p, size_t *at) {
    if (array >= MODEL_STATE) {
        Range part = shards_state_owned(s, p, s->ranks.member);
        *at = part.count ? shards_state_index(s, array - MODEL_STATE, p, part.first) : 0;
        return part;
    }
    Range all = {p->offset, p->count}, own = overlap(p, shards_owned(s, p->segment, s->ranks.member));
    bool whole = (array == MODEL_WEIGHT && s->ranks.zero < 3) || (array == MODEL_GRADIENT && s->ranks.zero < 2);
    if (array == MODEL_GRADIENT && !p->trained) all.count = 0;
    if (!whole) *at = shards_index(s, p->segment, own.first);
    else if (array == MODEL_WEIGHT) *at = p->offset;
    else *at = s->gradient_start[p->segment] + (p->offset - s->table.segment_start[p->segment]);
    return whole ? all : own;
}

static inline bool shards_keeps(const Shards *s, int array, const Param *of) {
    Param p = shards_param(s, array, of);
    size_t at;
    return shards_held(s, array, &p, &at).count > 0;
}

// The part of a matrix that is complete goes to the device.
static inline void shards_set_codes(Shards *s, const Param *p, const float *values) {
    Coded c = s->coded[param_find(&s->table, p->kind, p->layer) - s->table.items];
    int done;
    c.tables = s->tables_host;
    for (size_t i = 0; i < p->count;) {
        i += coded_take(&s->fill, &c, p->first + i, values + i, p->count - i, &done);
        if (done < 0) continue;
        Quantised q = c.parts[done];
        device_write(s->gpu, q.bytes, s->fill.bytes, quant_bytes(q.format, q.count));
    }
}

static inline void shards_get_codes(Shards *s, const Param *p, float *values) {
    Coded c = s->coded[param_find(&s->table, p->kind, p->layer) - s->table.items];
    size_t bytes = coded_bytes(&c);
    uint8_t *host = (uint8_t *)mem_alloc(bytes);
    device_read(s->gpu, host, c.parts[0].bytes, bytes);
    coded_place(&c, host);
    c.tables = s->tables_host;
    coded_read(values, &c, p->first, p->count);
    free(host);
}

static inline void shards_set(Shards *s, int array, const Param *of, const float *values) {
    Param own = shards_param(s, array, of), *p = &own;
    size_t at;
    if (array == MODEL_WEIGHT && p->coded) {
        shards_set_codes(s, p, values);
        return;
    }
    Range r = shards_held(s, array, p, &at);
    if (array != MODEL_WEIGHT) {
        float *to = array == MODEL_GRADIENT ? s->gradients : s->state[array - MODEL_STATE];
        if (to && r.count) device_write(s->gpu, to + at, values + (r.first - p->offset), sizeof(float) * r.count);
        return;
    }
    Range master = overlap(p, shards_owned(s, p->segment, s->ranks.member));
    if (s->master && master.count)
        device_write(s->gpu, s->master + shards_index(s, p->segment, master.first), values + (master.first - p->offset),
                     sizeof(float) * master.count);
    real *rounded = (real *)mem_alloc(sizeof(real) * r.count);
    for (size_t i = 0; i < r.count; i++) from_float(&rounded[i], values[r.first - p->offset + i]);
    if (r.count) device_write(s->gpu, s->weights + at, rounded, sizeof(real) * r.count);
    free(rounded);
}

// values (rows, cols) on rank `to` from what the members of its group have in an array of own elements (of a row of the
// state, or kind -1: weights), piece by piece through scratch memory.
template <typename Real>
static inline void shards_collect(Shards *s, const Real *own, int kind, const Param *p, float *values, int to) {
    Ranks *r = &s->ranks;
    int rank = r->dist->rank, receiver = to % r->group;
    if (rank / r->group != to / r->group) return;
    for (int member = 0; member < r->group; member++) {
        Range part = kind < 0 ? overlap(p, shards_owned(s, p->segment, member)) : shards_state_owned(s, p, member);
        size_t most = s->gpu->scratch_bytes / sizeof(Real);
        if (rank != to && r->member != member) continue;
        for (size_t done = 0, n; done < part.count; done += n) {
            n = part.count - done < most ? part.count - done : most;
            const Real *from = NULL;
            if (r->member == member)
                from =
                    own + done +
                    (kind < 0 ? shards_index(s, p->segment, part.first) : shards_state_index(s, kind, p, part.first));
            if (member != receiver) {
                ranks_fork(r, s->gpu->stream);
                ranks_hand_over(r, s->gpu->scratch, from, sizeof(Real) * n, member, receiver);
                ranks_join(r, s->gpu->stream);
                from = (const Real *)s->gpu->scratch;
            }
            if (rank == to) device_floats(s->gpu, values + (part.first - p->offset) + done, from, n);
            else device_synchronize(s->gpu); // what the ranks do next may not need the device, and the receiver waits
        }
    }
}

static inline void shards_get(Shards *s, int array, const Param *of, float *values, int to) {
    Param own = shards_param(s, array, of), *p = &own;
    bool weight = array == MODEL_WEIGHT, here = s->ranks.dist->rank == to;
    size_t at;
    if (!weight && !p->trained) memset(values, 0, sizeof(float) * p->count); // what it has not
    else if (weight && p->coded && here) shards_get_codes(s, p, values);
    else if (weight && p->coded) return;
    else if (array >= MODEL_STATE) shards_collect(s, s->state[array - MODEL_STATE], array - MODEL_STATE, p, values, to);
    else if (weight && s->master && p->trained) shards_collect(s, s->master, -1, p, values, to);
    else if (weight && s->ranks.zero == 3) shards_collect(s, s->weights, -1, p, values, to);
    else if (weight && here) device_floats(s->gpu, values, s->weights + p->offset, p->count);
    else if (!weight) {
        Range part = shards_held(s, array, p, &at);
        if (part.count < p->count) memset(values, 0, sizeof(float) * p->count);
        if (part.count) device_floats(s->gpu, values + (part.first - p->offset), s->gradients + at, part.count);
    }
}

#endif
