/*
score.h: the log likelihoods of requests (tasks.h), by forward passes over many of them at once.

Requests with the same input are one sequence, which is computed once: choices of one token behind one context (the
letters of an examination, Ja and Nein) cost one pass, not one each. Their last tokens are looked up in one row of
logits. Other choices of a context share its text, but not its computation: a pass begins at the first position.

Sequences are sorted, longest first, so that a batch holds such of about the same length, and short ones are filled up
behind their end, which causal attention does not see. Batch i is computed by rank i % ranks. Which sequences share a
batch depends on --batch_size; what is computed of one does not depend on the others, on their number, or on the length
of the batch: with train_gpt_cpu scores have the same bits for any number of ranks, threads and sequences a batch. With
train_gpt a matrix product of another shape may be summed in another order: the last digits differ.
*/
#ifndef LLMC_SCORE_H
#define LLMC_SCORE_H

#include "../engine.h"
#include "tasks.h"

// A batch has as many rows at least: for fewer train_gpt_cpu's products add up in another order (LINEAR_FEW_ROWS).
enum { SCORE_ROWS = 8 };

// Requests with the same input, in the order of ScoreRun.order.
typedef struct {
    size_t first;
    int count;
} ScoreSequence;

typedef struct {
    Model *model;
    const Dist *dist;
    int batch_size, seq_len, vocab_size; // B and T at most, V; seq_len: of the model's setup, score_seq_len or more
    // NULL, or called between batches, on rank 0: so many of all sequences are done.
    void (*progress)(int64_t done, int64_t all);
} Scorer;

// The length of sequences that a model must have room for, of its positions.
static inline int score_seq_len(const TaskSet *set, int positions) {
    return (int)int64_max(set->longest, int64_min(SCORE_ROWS, positions));
}

typedef struct {
    const Scorer *scorer;
    TaskSet *set;
    TaskRequest **order;      // (request_count) longest first, the same inputs beside each other
    ScoreSequence *sequences; // (count)
    size_t count;
    int32_t *inputs, *targets; // (B, T)
    float *losses;             // (B, T)
} ScoreRun;

static inline const int32_t *request_ids(const TaskSet *set, const TaskRequest *q) { return set->ids.items + q->at; }

static inline int score_order(const void *a, const void *b, void *context) {
    const TaskRequest *x = *(TaskRequest *const *)a, *y = *(TaskRequest *const *)b;
    const TaskSet *set = (const TaskSet *)context;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    int order = memcmp(request_ids(set, x), request_ids(set, y), sizeof(int32_t) * (size_t)(x->count - 1));
    return order ? order : x < y ? -1 : 1;
}

static inline bool score_same_input(const TaskSet *set, const TaskRequest *x, const TaskRequest *y) {
    return x->count == y->count &&
           memcmp(request_ids(set, x), request_ids(set, y), sizeof(int32_t) * (size_t)(x->count - 1)) == 0;
}

static inline void score_open(ScoreRun *run, const Scorer *scorer, TaskSet *set) {
    size_t n = set->request_count, N = (size_t)scorer->batch_size * (size_t)scorer->seq_len;
    memset(run, 0, sizeof *run);
    run->scorer = scorer, run->set = set;
    run->order = (TaskRequest **)mem_alloc(sizeof(TaskRequest *) * n);
    run->sequences = (ScoreSequence *)mem_alloc(sizeof(ScoreSequence) * n);
    run->inputs = (int32_t *)mem_alloc(sizeof(int32_t) * N);
    run->targets = (int32_t *)mem_alloc(sizeof(int32_t) * N);
    run->losses = (float *)mem_alloc(sizeof(float) * N);
    for (size_t i = 0; i < n; i++) run->order[i] = &set->requests[i];
    qsort_r(run->order, n, sizeof *run->order, score_order, set);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !score_same_input(set, run->order[i - 1], run->order[i])) run->sequences[run->count++].first = i;
        run->sequences[run->count - 1].count++;
    }
}

static inline void score_close(ScoreRun *run) {
    free(run->order);
    free(run->sequences);
    free(run->inputs);
    free(run->targets);
    free(run->losses);
}

// -log of the softmax, at a token, of a row of logits (V).
static inline double score_row_loss(const float *logits, int V, int32_t token) {
    float top = logits[0]; // not fmax of doubles: gcc 12 for aarch64 dies of that
    for (int v = 1; v < V; v++) top = logits[v] > top ? logits[v] : top;
    double most = (double)top, sum = 0;
    for (int v = 0; v < V; v++) sum += exp((double)logits[v] - most);
    return log(sum) + most - (double)logits[token];
}

// The first of the largest, as others choose among equal ones.
static inline int score_likeliest(const float *logits, int V) {
    int best = 0;
    for (int v = 1; v < V; v++)
        if (logits[v] > logits[best]) best = v;
    return best;
}

// The sequence's longest continuation.
static inline int sequence_scored(const ScoreRun *run, const ScoreSequence *s) {
    int scored = 0;
    for (int i = 0; i < s->count; i++) scored = (int)int64_max(scored, run->order[s->first + (size_t)i]->scored);
    return scored;
}

// Does somebody ask for the logits of the row that predicts token `t` (1 to count - 1)?
static inline bool sequence_asks(const ScoreRun *run, const ScoreSequence *s, int t) {
    const TaskRequest *const *q = (const TaskRequest *const *)run->order + s->first;
    for (int i = 0; i < s->count; i++)
        if (q[i]->greedy && t >= q[i]->count - q[i]->scored) return true;
    return s->count > 1 && t == q[0]->count - 1;
}

// One sequence as row b of a batch of length T.
static inline void score_fill(ScoreRun *run, const ScoreSequence *s, int b, int T) {
    const TaskRequest *q = run->order[s->first];
    const int32_t *ids = request_ids(run->set, q);
    int n = q->count - 1, scored = sequence_scored(run, s);
    int32_t *inputs = run->inputs + (size_t)b * (size_t)T, *targets = run->targets + (size_t)b * (size_t)T;
    for (int t = 0; t < T; t++) {
        inputs[t] = t < n ? ids[t] : 0;
        targets[t] = t < n && t >= n - scored ? ids[t + 1] : -1;
    }
}

// What the losses say of one sequence's requests.
static inline void score_take_losses(ScoreRun *run, const ScoreSequence *s, int b, int T) {
    for (int i = 0; i < s->count; i++) {
        TaskRequest *q = run->order[s->first + (size_t)i];
        const float *losses = run->losses + (size_t)b * (size_t)T;
        int end = s->count == 1 ? q->count : q->count - 1; // the last one by its logits, where others share the input
        double sum = 0;
        for (int t = q->count - q->scored; t < end; t++) sum += (double)losses[t - 1];
        q->loglikelihood = -sum;
        q->is_greedy = q->greedy;
    }
}

// What a row of logits, that of token t, says of them.
static inline void score_take_logits(ScoreRun *run, const ScoreSequence *s, int t, const float *logits) {
    int V = run->scorer->vocab_size, likeliest = score_likeliest(logits, V);
    for (int i = 0; i < s->count; i++) {
        TaskRequest *q = run->order[s->first + (size_t)i];
        int32_t token = request_ids(run->set, q)[t];
        if (t >= q->count - q->scored) q->is_greedy = q->is_greedy && token == likeliest;
        if (s->count > 1 && t == q->count - 1) q->loglikelihood -= score_row_loss(logits, V, token);
    }
}

// One batch of this rank, of the sequences from `first` on: n, which may be none. rows: how many rows of logits each
// rank asks for at most, which all ask for: weights may lie shared out, and then all ranks make the same passes.
static inline void score_batch(ScoreRun *run, size_t first, int n) {
    const Scorer *scorer = run->scorer;
    Model *m = scorer->model;
    int T = n ? run->order[run->sequences[first].first]->count - 1 : 1, rows = 0, asked = 0;
    T = (int)int64_max(T, int64_min(SCORE_ROWS, scorer->seq_len));
    for (int t = 0; n == 0 && t < T; t++) run->inputs[t] = 0, run->targets[t] = -1;
    for (int b = 0; b < n; b++) score_fill(run, &run->sequences[first + (size_t)b], b, T);
    ModelBatch batch = {run->inputs, run->targets, NULL, n ? n : 1, T};
    model_forward(m, &batch, 0, NULL);
    model_loss(m);
    if (n && !model_get_activation(m, ACT_losses, 0, run->losses)) fail("the losses of a pass are not kept");
    for (int b = 0; b < n; b++) score_take_losses(run, &run->sequences[first + (size_t)b], b, T);
    for (int b = 0; b < n; b++) {
        const ScoreSequence *s = &run->sequences[first + (size_t)b];
        for (int t = 1; t < run->order[s->first]->count; t++) {
            if (!sequence_asks(run, s, t)) continue;
            score_take_logits(run, s, t, model_logits(m, b * T + t - 1));
            asked++;
        }
    }
    for (rows = dist_max(scorer->dist, asked); asked < rows; asked++) model_logits(m, 0);
}

// Every rank's answers for all ranks: each request was answered by one of them.
static inline void score_share(ScoreRun *run) {
    const Dist *dist = run->scorer->dist;
    int ranks = dist->size, batch = run->scorer->batch_size;
    const size_t most = (size_t)1 << 16;
    double *values = (double *)mem_alloc(sizeof(double) * 2 * most);
    size_t *rank_of = (size_t *)mem_alloc(sizeof(size_t) * run->set->request_count);
    for (size_t i = 0; i < run->count; i++)
        for (int j = 0; j < run->sequences[i].count; j++)
            rank_of[run->order[run->sequences[i].first + (size_t)j] - run->set->requests] =
                i / (size_t)batch % (size_t)ranks;
    for (size_t from = 0; ranks > 1 && from < run->set->request_count; from += most) {
        size_t n = run->set->request_count - from < most ? run->set->request_count - from : most;
        for (size_t i = 0; i < n; i++) {
            const TaskRequest *q = &run->set->requests[from + i];
            bool mine = rank_of[from + i] == (size_t)dist->rank;
            values[2 * i] = mine ? q->loglikelihood : 0, values[2 * i + 1] = mine && q->is_greedy;
        }
        dist_sum(dist, values, (int)(2 * n));
        for (size_t i = 0; i < n; i++) {
            run->set->requests[from + i].loglikelihood = values[2 * i];
            run->set->requests[from + i].is_greedy = values[2 * i + 1] > 0;
        }
    }
    free(rank_of);
    free(values);
}

// The first request whose log likelihood is no number, or none.
static inline bool score_finite(const TaskSet *set, Error *err) {
    for (int k = 0; k < set->count; k++)
        for (size_t i = 0; i < set->tasks[k].count; i++)
            for (int j = 0; j < set->tasks[k].items[i].count; j++)
                if (!isfinite(set->requests[set->tasks[k].items[i].first + j].loglikelihood))
                    return error_set(err,
                                     "%s:%d: its log likelihood is not finite, although all weights are: they are too "
                                     "large for the model's activations; take an earlier checkpoint",
                                     set->tasks[k].path.text, set->tasks[k].items[i].line);
    return true;
}

// Answers all requests, on all ranks. False on all of them where a log likelihood is not finite.
static inline bool score(TaskSet *set, const Scorer *scorer, Error *err) {
    ScoreRun run;
    score_open(&run, scorer, set);
    size_t B = (size_t)scorer->batch_size, ranks = (size_t)scorer->dist->size;
    for (size_t round = 0; round < run.count; round += ranks * B) {
        size_t first = round + (size_t)scorer->dist->rank * B;
        int n = first < run.count ? (int)int64_min((int64_t)B, (int64_t)(run.count - first)) : 0;
        score_batch(&run, first, n);
        if (scorer->progress && scorer->dist->rank == 0)
            scorer->progress(int64_min((int64_t)(round + ranks * B), (int64_t)run.count), (int64_t)run.count);
    }
    score_share(&run);
    score_close(&run);
    return score_finite(set, err);
}

#endif
