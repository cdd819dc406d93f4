/*
engine.h: what a program must be able to do so that trainer.h and the verbs can run it.

train_gpt_cpu.c and train_gpt.cu define struct Model and the functions below, in this order. Nothing
outside those two files does arithmetic on a model. All functions are called from one thread.
*/
#ifndef LLMC_ENGINE_H
#define LLMC_ENGINE_H

#include "codes.h"
#include "model.h"
#include "objective.h"
#include "ranks/dist.h"
#include <math.h>

typedef struct Model Model;

// The type of the matrix products' operands. USUAL: fp32 in train_gpt_cpu, which is the reference, and what train_gpt
// was built for; AUTO: bf16 where that pays (model_precision says what it became).
#define PRECISIONS(X)                                                                                                  \
    X(PRECISION_FP32, "fp32") X(PRECISION_BF16, "bf16") X(PRECISION_AUTO, "auto") X(PRECISION_USUAL, "usual")
typedef enum { PRECISIONS(CHOICE_ENUM) } Precision;

// How the ranks shard a segment's trained parameters: equal ranges, whatever tensors lie in them, or whole tensors.
typedef enum { SHARDS_RANGES, SHARDS_TENSORS } ShardsDeal;

// Muon needs whole tensors. AdamW gives the same bits with either, apart from the last digits of the gradient norm;
// LLMC_SHARDS chooses.
static inline bool shards_deal(int *deal, int optimizer, Error *err) {
    const char *choice = getenv("LLMC_SHARDS");
    bool tensors = optimizer != OPTIMIZER_ADAMW || (choice && strcmp(choice, "tensors") == 0);
    *deal = tensors ? SHARDS_TENSORS : SHARDS_RANGES;
    if (!choice || strcmp(choice, "tensors") == 0 || strcmp(choice, "ranges") == 0) return true;
    return error_set(err, "LLMC_SHARDS=%s, expected ranges or tensors", choice);
}

typedef struct {
    Config config;
    int batch_size, seq_len; // most sequences and tokens a pass: B, T
    int recompute;           // Recompute
    int precision;           // Precision
    int kernels;             // Kernels
    int threads;             // CPU threads, 0: all
    MuonRule muon;           // its optimizer also says which state there is, and how it is shared out
    bool gradients;          // backward and update will be called
    bool keep_backward;    // every gradient of an activation has a place of its own: for model_get_activation_gradient
    bool no_master;        // no float copy of weights that are stored in 16 bits
    const bool *frozen;    // (PARAM_KINDS): the kinds of parameters that are not trained; NULL: none
    int base;              // Base: how the frozen matrices inside blocks are kept
    int zero, zero_group;  // ZeRO's stage: what is sharded; over how many ranks, 0: all
    bool shares;           // model_share will be called
    bool pairs;            // model_pairs will be called
    const Config *teacher; // that model_teach will bring, and that model_memory does not count; NULL: none
    const Dist *dist;
} ModelSetup;

// Of the teacher: forward passes alone, whole on every rank.
static inline ModelSetup setup_of_teacher(const ModelSetup *model) {
    ModelSetup s;
    memset(&s, 0, sizeof s);
    s.config = *model->teacher;
    s.batch_size = model->batch_size, s.seq_len = model->seq_len;
    s.precision = model->precision, s.kernels = model->kernels;
    s.no_master = model->no_master, s.threads = model->threads;
    s.dist = model->dist;
    return s;
}

// ---------------------------------------------------------------- what is computed with a setup

// Numbers of the optimizer's state of all trained parameters.
static inline double state_numbers(const ParamTable *t, int optimizer) {
    double n = 0;
    for (int k = 0; k < STATE_KINDS; k++) {
        ParamTable s = param_table_state(t, optimizer, k);
        for (int i = 0; i < s.segments; i++) n += (double)(s.segment_trained[i] - s.segment_start[i]);
        param_table_free(&s);
    }
    return n;
}

// The most that muon_scratch says of a parameter.
static inline size_t muon_scratch_most(const ParamTable *t, const MuonRule *rule, int squares) {
    size_t most = 0;
    for (int i = 0; i < t->count; i++) {
        const Param *p = &t->items[i];
        if (!param_is_muon(p, rule->optimizer) || !p->trained) continue;
        size_t n = muon_scratch(p->rows, p->cols, squares);
        if (n > most) most = n;
    }
    return most;
}

// What an update of a parameter costs, in about FLOPs: Muon's iteration, and what is read and written.
static inline double shards_cost(const Param *p, const ModelSetup *setup) {
    return param_muon_flops(p, &setup->config, &setup->muon) + 20 * (double)p->count;
}

// Deals out the trained elements of a segment: parts (ranks), as offsets from its first element. Equal ranges lie in
// the order of the ranks. Whole tensors are cut into runs of about the same cost, of which a rank that has little so
// far gets a dear one. load (ranks): the cost of what each has, to which this segment's is added.
static inline void shards_deal_segment(Range *parts, double *load, const ParamTable *t, int segment, int ranks,
                                       int deal, const ModelSetup *setup) {
    size_t first = t->segment_start[segment], n = t->segment_trained[segment] - first;
    struct Run {
        Range range;
        double reached, cost; // at its end, of all runs so far
        bool dealt, served;   // this run; the rank of this number
    } *runs = (struct Run *)mem_alloc(sizeof(struct Run) * (size_t)ranks);
    double total = 0;
    for (int i = 0; i < t->count; i++)
        if (t->items[i].segment == segment && t->items[i].trained) total += shards_cost(&t->items[i], setup);
    for (int r = 0; r < ranks; r++) {
        size_t equal = n / PARAM_ALIGN * (size_t)(r + 1) / (size_t)ranks * PARAM_ALIGN, best = n;
        double before = 0, wanted = total * (r + 1) / ranks, reached = total;
        for (int i = 0; i < t->count; i++) { // the nearest border between tensors
            const Param *p = &t->items[i];
            if (p->segment != segment || !p->trained) continue;
            if (fabs(before - wanted) < fabs(reached - wanted)) best = p->offset - first, reached = before;
            before += shards_cost(p, setup);
        }
        runs[r].range.first = r ? runs[r - 1].range.first + runs[r - 1].range.count : 0;
        runs[r].range.count = (deal == SHARDS_RANGES ? equal : best) - runs[r].range.first;
        runs[r].reached = reached, runs[r].cost = reached - (r ? runs[r - 1].reached : 0);
    }
    for (int turn = 0; turn < ranks; turn++) {
        int run = -1, rank = -1;
        for (int r = 0; r < ranks; r++) {
            if (!runs[r].dealt && (run < 0 || runs[r].cost > runs[run].cost)) run = r;
            if (!runs[r].served && (rank < 0 || load[r] < load[rank])) rank = r;
        }
        if (deal == SHARDS_RANGES) run = rank = turn;
        parts[rank] = runs[run].range;
        load[rank] += runs[run].cost;
        runs[run].dealt = runs[rank].served = true;
    }
    free(runs);
}

// Whose keys and values model_share keeps. ROOT: of one beginning that many batches go on behind. FAMILIES: of several,
// each shared by two or more sequences of a batch.
typedef enum { SHARE_NONE, SHARE_ROOT, SHARE_FAMILIES, SHARE_SLOTS } ShareSlot;

// Tokens that a slot holds at most.
static inline size_t model_share_rows(const ModelSetup *s, int slot) {
    int most = slot == SHARE_FAMILIES && s->batch_size > 1 ? s->batch_size / 2 : 1;
    return slot == SHARE_NONE ? 0 : (size_t)most * (size_t)s->seq_len;
}

// What model_share takes, in bytes: both slots, of all layers, and one layer's keys and values of a batch that goes on
// behind them.
static inline double model_share_bytes(const ModelSetup *s, size_t real_bytes) {
    const Config *c = &s->config;
    double kept = (double)model_share_rows(s, SHARE_ROOT) + (double)model_share_rows(s, SHARE_FAMILIES);
    return 2.0 * (double)real_bytes * c->kv_heads * c->head_size *
           (kept * c->layers + (double)s->batch_size * s->seq_len);
}

// The stream of random numbers of a target's dropout. Number n ceil(C / 4) + c / 4 is that of the elements c .. c + 3
// of the run's token n.
static inline RngStream lora_stream(uint64_t seed, int layer, const char *target) {
    char name[64];
    snprintf(name, sizeof name, "dropout.%d.%s", layer, target);
    return rng_stream(seed, name);
}

// What model_create looks at first, in either program.
static inline bool setup_check(const ModelSetup *s, Error *err) {
    return config_check(&s->config, err) && config_check_batch(&s->config, s->batch_size, s->seq_len, err) &&
           base_check(&s->config, s->base, err);
}

// Which numbers of the parameters model_get and model_set mean: MODEL_STATE + a StateKind is a row of the optimizer's.
typedef enum { MODEL_WEIGHT, MODEL_GRADIENT, MODEL_STATE } ModelArray;

typedef struct {
    double loss;      // sum over the step's tokens and all ranks, nats
    double grad_norm; // before clipping, of the gradient summed over ranks
    bool updated; // false: loss or norm was not finite or above its bound; no weight, moment or gradient was touched
    bool finite;  // false: the update made a weight, or a moment that weights depend on, that is not, on any rank
} UpdateResult;

// Of the next model_forward, which must be none of training. keep: the slot in which the keys and values of its
// sequences (G, P) are kept, with those that they go on behind, if there are any. behind: another slot, of which each
// sequence goes on, at position P, behind sequence row_of[b] (B); P + T <= seq_len. SHARE_NONE: nothing is kept; they
// begin at position 0.
static void model_share(Model *m, ShareSlot keep, ShareSlot behind, const int32_t *row_of);

// Forward over a batch, adding the sum of the losses (nats) to what model_loss() and model_update() report. The caller
// keeps the batch's tokens until after model_backward.
// grad_scale != 0 prepares model_backward: the gradient will be that of grad_scale x the loss sum. The
// head's own gradients are already added here, chunk by chunk, because logits are not kept.
// logits_out: NULL, or (B, T, V) floats to write all logits to (for `dump`).
// Weights may be sharded (--zero=3): then all ranks must make as many passes; so with model_decode_rows.
static void model_forward(Model *m, const ModelBatch *batch, double grad_scale, float *logits_out);

// Which token of the run the next training pass begins with, counted over all ranks: what dropout leaves out of an
// adapter's input is a function of it and the seed. Without such a call: token 0, seed 0.
static void model_place(Model *m, uint64_t seed, int64_t token);

// Of the next model_forward, if it is one of training (grad_scale != 0): its targets are those of pairs of answers. Its
// loss, of which the gradient will be and which model_loss and model_update report, is the sum of the pairs' losses
// (objective.h). The caller keeps the items until model_forward has returned.
static void model_pairs(Model *m, const PairBatch *pairs);

// What is told of the pairs (PAIR_FIGURE_COUNT), summed since the last call, on this rank.
static void model_figures(Model *m, double *figures);

// Backward through the last forward pass; gradients accumulate until model_update or model_zero_gradients.
// last: no further pass adds to this step, so ranks may start to sum their gradients.
static void model_backward(Model *m, bool last);
static void model_zero_gradients(Model *m);

// The sum of losses since the last call of this or of model_update, on this rank, nats.
static double model_loss(Model *m);

// From now on a teacher stands beside the model, which owns it: in passes of training the loss is (1 - alpha) times
// the cross entropy and alpha temperature^2 times the Kullback-Leibler divergence from the teacher's softmax to the
// model's, both at that temperature (llmc/cpu/distill.h), and its gradient is that. The teacher has the model's
// vocabulary, was made for as many tokens, without gradients, and can no longer be used by itself; of its logits one
// chunk of rows exists at a time.
typedef struct {
    double alpha, temperature;
} DistillRule;
static void model_teach(Model *m, Model *teacher, DistillRule rule);

// The sums of the two over the targets of training passes since the last call, on this rank, in nats: without alpha and
// temperature^2. Zeros without a teacher.
typedef struct {
    double ce, kl;
} DistillSum;
static DistillSum model_taught(Model *m);

// Begins what model_update does, which then waits for it. True: the device is at the step, its batches are no longer
// needed, and the caller has time until then, in which model_send may be called and nothing else. False: nothing was
// done.
static bool model_begin_update(Model *m, const UpdateRule *rule);

// Ends a step: gradient norm over all ranks, clipping, AdamW, gradients back to zero.
static UpdateResult model_update(Model *m, const UpdateRule *rule);

// Brings the batch of the next training pass to the device ahead of model_forward, which looks whether it has that one.
static void model_send(Model *m, const ModelBatch *batch);

// Seconds that Muon's matrices have taken since model_create, on this rank; NAN where they cannot be told from the rest
// of a step.
static double model_muon_seconds(const Model *m);

// The logits (V) of a row, from 0 to B T - 1, of the last forward pass, which was none of training. The pointer is good
// until the next call. Weights may be sharded: then all ranks must call it as often.
static const float *model_logits(Model *m, int row);

// Feeds n tokens at positions position .. position + n - 1 (position + n <= seq_len) and returns the
// logits (rows, V) that follow each of the last `rows`, 1 to n and at most DECODE_ROWS. Keys and values of earlier
// positions come from the KV cache, which earlier calls filled; what they put at `position` and behind it is forgotten.
// The pointer is good until the next call.
enum { DECODE_ROWS = 64 };
static const float *model_decode_rows(Model *m, const int32_t *tokens, int n, int position, int rows);

// The logits (V) that follow the last one.
static inline const float *model_decode(Model *m, const int32_t *tokens, int n, int position) {
    return model_decode_rows(m, tokens, n, position, 1);
}

// What the program is called in messages, and one line on the device: "2 threads, AVX-512".
static const char *engine_name(void);

// Looks at this rank's devices before anything is allocated: enough of them, healthy, none used twice.
// Called by all ranks together.
static bool engine_preflight(const Dist *dist, Error *err);

// Host memory that model_get fills fastest, zeroed; NULL if there is not so much.
static void *engine_host_alloc(size_t bytes);
static void engine_host_free(void *memory);

// What model_create and the passes after it take on a rank, in bytes: all but some scratch of kernels. buffers:
// gradients of activations, logits, tables; shared: the keys and values of model_share.
typedef struct {
    double weights, gradients, moments, activations, buffers, shared;
    bool host; // of the host's memory, not of a device's
} ModelMemory;
static ModelMemory model_memory(const ModelSetup *setup);

// The bytes that a model of this rank may take, where it would be kept; 0: not known.
static double engine_memory(const Dist *dist);

// The model with all weights zero. Memory for everything is taken here.
static Model *model_create(const ModelSetup *setup, Error *err);
static void model_destroy(Model *m);
static const char *model_device(Model *m);
// FP32 or BF16.
static int model_precision(const Model *m);

// The highest rate of the arithmetic in use, FLOP/s over all threads or the device; 0: not known.
static double model_peak_flops(Model *m);

// What the device tells of itself; NAN where it does not. Energy: since model_create.
typedef struct {
    double power_w, temperature_c, sm_mhz, memory_mhz, memory_gb, energy_kwh;
} DeviceReadings;

static inline DeviceReadings no_readings(void) {
    double none = (double)NAN;
    DeviceReadings r = {none, none, none, none, none, none};
    return r;
}
static DeviceReadings model_readings(Model *m);

// Copies one parameter tensor or a piece of one (or of its gradient or moments) in or out; values: p->count floats.
// Weights and moments may be sharded over the ranks: all ranks call model_get for them, in the same order, and rank
// `to` gets the values; those of the others are scratch. Of a gradient every rank gets what it has.
static void model_set(Model *m, int array, const Param *p, const float *values);
static void model_get(Model *m, int array, const Param *p, float *values, int to);

// Between a call with true, which returns true, and one with false, model_get of what this rank keeps whole goes to
// memory of engine_host_alloc beside whatever the device does next (asynchronously): what it gives is of that moment,
// since the next update waits for it, and it is there after model_copied. Where the first call returns false all is as
// usual.
static bool model_copy(Model *m, bool begins);
// Waits for that; at once behind an update.
static void model_copied(Model *m);

// Would model_set keep anything of it on this rank? What no rank but another keeps need not be read.
static bool model_keeps(const Model *m, int array, const Param *p);

// Copies an activation of the last forward pass out; values: its shape for the last (B, T). False if it
// is not kept: the layers of a recompute policy share one slot, whose layer cannot be told.
static bool model_get_activation(Model *m, int kind, int layer, float *values);

// The same of an activation's gradient, after model_backward. Only with setup.keep_backward; false also where the
// program never makes it (a fused kernel).
static bool model_get_activation_gradient(Model *m, int kind, int layer, float *values);

// Whether no number of values (n) is NaN or infinite.
static inline bool all_finite(const float *values, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) bad |= (bits_of_float(values[i]) & 0x7f800000) == 0x7f800000;
    return !bad;
}

// ---------------------------------------------------------------- what train_gpt takes of a GPU

// Logits have so many columns that rows start on 128 bytes: of a vocabulary that is no multiple (GPT-2's 50,257),
// products would else take kernels for unaligned rows. The columns behind the vocabulary belong to rows of zeros
// behind the head's weights, which stay zero: their logits are never read, their gradients are zero.
#define GPU_VOCAB_ALIGN 64
// Most bytes of logits that exist at a time. The head works through the batch in chunks of rows of this size: large
// enough for an efficient matrix product, small beside the activations. Tunable.
#define GPU_LOGITS_BYTES ((size_t)512 << 20)

static inline int gpu_head_rows(const Config *c) {
    return (c->vocab_size + GPU_VOCAB_ALIGN - 1) / GPU_VOCAB_ALIGN * GPU_VOCAB_ALIGN;
}

// Numbers of the segments that ZeRO-2 and -3 hold whole at a time: two layers, the embedding, and a head of its own.
static inline double gpu_slots(const ParamTable *t) {
    double layer = 0, ends = 0;
    for (int s = 0; s < t->segments; s++) {
        double n = (double)(t->segment_start[s + 1] - t->segment_start[s]);
        if (s > 0 && s < t->segments - 1) layer = fmax(layer, n);
        else ends += n;
    }
    return 2 * layer + ends;
}

// real_bytes: of the numbers that weights and activations are kept in; statistics, gradients and states are floats.
static inline ModelMemory gpu_model_memory(const ModelSetup *setup, size_t real_bytes) {
    const Config *c = &setup->config;
    int B = setup->batch_size, T = setup->seq_len, ranks = setup->dist->size,
        group = setup->zero == 0        ? 1
                : setup->zero_group > 0 ? setup->zero_group
                                        : ranks,
        zero = group > 1 && setup->gradients ? setup->zero : 0;
    ParamTable t = coded_table(&setup->config, setup->frozen, setup->base);
    CodedSizes codes = coded_sizes(&t, c, setup->base);
    double trained = 0, own, size = sizeof(float), real_size = (double)real_bytes, all = (double)t.elements,
           slots = gpu_slots(&t);
    for (int i = 0; i < t.segments && setup->gradients; i++)
        trained += (double)(t.segment_trained[i] - t.segment_start[i]);
    own = trained / group;
    ActTable acts =
        act_table(c, B, T, setup->gradients ? setup->recompute : RECOMPUTE_BLOCK, real_bytes, sizeof(float));
    ModelMemory m = {real_size * (zero == 3 ? fmin(all / group + slots, 2 * all) : all),
                     size * (zero >= 2 ? own + slots : trained),
                     setup->gradients ? size * state_numbers(&t, setup->muon.optimizer) / group : 0,
                     (double)acts.bytes,
                     0,
                     setup->shares ? model_share_bytes(setup, real_bytes) : 0,
                     false};
    if (real_bytes != sizeof(float) && !setup->no_master) m.weights += size * own;
    m.weights += (double)codes.bytes;
    double logits = real_size * B * T * gpu_head_rows(c);
    m.buffers = fmin(logits, (double)GPU_LOGITS_BYTES) + real_size * (double)codes.matrix;
    if (setup->gradients) m.buffers += (double)backward_table(c, B, T, setup->keep_backward, real_bytes).bytes;
    if (setup->gradients) m.buffers += real_size * (double)muon_scratch_most(&t, &setup->muon, GPU_MUON_SQUARES);
    // Of pairs the weights of tokens, and what they are and give: a pair is two tokens at least.
    if (setup->pairs) m.buffers += (size + (double)(sizeof(ModelPair) + sizeof(PairNumbers)) / 2) * B * T;
    param_table_free(&t);
    return m;
}

// Of the bytes that are free on a GPU those that a model may take: beside it stand scratch memory and cuBLASLt's
// workspace (64 MiB each), with several ranks NCCL's buffers, small tables, and what allocations are rounded up by.
// 0: not known.
static inline double gpu_room(double left, const Dist *dist) {
    double room = 0.97 * left - 128 * 1048576.0 - (dist->size > 1 ? 1 : 0) * 1073741824.0;
    return left <= 0 ? 0 : room > 1 ? room : 1;
}

// ---------------------------------------------------------------- new weights

#define INIT_WEIGHTS_MOST ((size_t)1 << 22) // numbers at a time, a multiple of 4
#define INIT_WEIGHTS_EACH ((size_t)1 << 16) // of a thread at a time, likewise

typedef struct {
    float *values; // (count): those of p from `first` on
    const Param *p;
    const Config *config;
    uint64_t seed;
    size_t first, count;
} InitWeights;

static inline void init_weights_part(void *init, int64_t part) {
    const InitWeights *w = (const InitWeights *)init;
    size_t at = (size_t)part * INIT_WEIGHTS_EACH, left = w->count - at;
    param_init(w->values + at, w->p, w->config, w->seed, w->first + at,
               left < INIT_WEIGHTS_EACH ? left : INIT_WEIGHTS_EACH);
}

// The same bits by any number of threads; 0: all.
static inline void init_weights(InitWeights *w, int threads) {
    threads_for((int64_t)((w->count + INIT_WEIGHTS_EACH - 1) / INIT_WEIGHTS_EACH), threads, init_weights_part, w);
}

// Fresh weights from a seed: the same bits on every program, device and number of ranks (rng.h).
static inline void model_init_weights(Model *m, const ParamTable *t, const Config *c, uint64_t seed) {
    const size_t most = INIT_WEIGHTS_MOST;
    float *values = (float *)mem_alloc(sizeof(float) * most);
    for (int i = 0; i < t->count; i++) {
        const Param *p = &t->items[i];
        for (size_t first = 0; first < p->count; first += most) {
            Param piece = param_piece(p, first, p->count - first < most ? p->count - first : most);
            if (!model_keeps(m, MODEL_WEIGHT, &piece)) continue;
            InitWeights init = {values, p, c, seed, first, piece.count};
            init_weights(&init, 0);
            model_set(m, MODEL_WEIGHT, &piece, values);
        }
    }
    free(values);
}

#endif
