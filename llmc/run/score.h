/*
score.h: the log likelihoods of requests (tasks.h), by forward passes over many of them at once.

Requests with the same input are one sequence, which is computed once: choices of one token behind one context (the
letters of an examination, Ja and Nein) cost one pass, not one each. Their last tokens are looked up in one row of
logits. With Scorer.share what sequences of a file begin with is computed once, and the rest behind its keys and values
(model_share; prefix caching). stems.h finds it on two levels: roots, which many sequences have (the examples of a
few-shot form), each in a pass of its own once a rank; and families (the context of an item's choices, a pair up to the
word in question), those of a batch together, behind their root.

Sequences are sorted by root, by how much they share, and by family; those that share nothing by their length, longest
first. A batch has such of one root that share as much. So those of a batch are of about the same length, and short ones
are filled up behind their end, which causal attention does not see. Batch i is computed by rank i % ranks. Which
sequences share a batch depends on --batch_size; what is computed of one depends on its file alone, and not on the
others of the batch, on their number, or on the length of the batch: with train_gpt_cpu scores have the same bits for
any number of ranks, threads and sequences a batch. They differ in the last digits from those without sharing, since
attention adds up in blocks of queries, and with train_gpt, where a matrix product of another shape may be summed in
another order.
*/
#ifndef LLMC_SCORE_H
#define LLMC_SCORE_H

#include "../engine.h"
#include "stems.h"
#include "tasks.h"

// A batch has as many rows at least: for fewer train_gpt_cpu's products add up in another order (LINEAR_FEW_ROWS).
enum { SCORE_ROWS = 8 };

// Requests with the same input, in the order of ScoreRun.order.
typedef struct {
    size_t first;
    int count;
    int root, family; // of ScoreRun.stems, or -1
    int shared;       // tokens of the longer of both; 0: it has none
} ScoreSequence;

// Sequences that are computed together: --batch_size at most, or a larger family. prefix: tokens that each shares, 0:
// none do; rooted: those of them that are the root's, 0: there is none.
typedef struct {
    size_t first;
    int n, root, rooted, prefix;
} ScoreBatch;

typedef struct {
    Model *model;
    const Dist *dist;
    int batch_size, seq_len, vocab_size; // B and T at most, V; seq_len: of the model's setup, score_seq_len or more
    bool share;                          // what begins alike is computed once; no rank waits for the others' passes
    // NULL, or called between batches, on rank 0: so many of all sequences are done.
    void (*progress)(int64_t done, int64_t all);
    int64_t *computed; // NULL, or counts the tokens of this rank's passes, what they are filled up with included
} Scorer;

// The length of sequences that a model must have room for, of its positions.
static inline int score_seq_len(const TaskSet *set, int positions) {
    return (int)int64_max(set->longest, int64_min(SCORE_ROWS, positions));
}

typedef struct {
    const Scorer *scorer;
    TaskSet *set;
    TaskRequest **order;      // (request_count) by task and tokens, the same inputs beside each other
    ScoreSequence *sequences; // (count)
    size_t count;
    Stems stems;
    int *asked;          // (stems.count): the first token that any of its sequences asks for
    ScoreBatch *batches; // (batch_count)
    size_t batch_count;
    int root;                      // whose keys and values the model has, of stems; -1: none
    int32_t *inputs, *targets;     // (B, T)
    float *losses, *prefix_losses; // (B, T), (B / 2, P): of the batch's rows, and of its families behind their root
    float *root_losses;            // (T)
    int32_t *row_of, *root_row;    // (most), (B): of a batch's rows, the family; of families, the root's: 0
} ScoreRun;

static inline const int32_t *request_ids(const TaskSet *set, const TaskRequest *q) { return set->ids.items + q->at; }

static inline int score_order(const void *a, const void *b, void *context) {
    const TaskRequest *x = *(TaskRequest *const *)a, *y = *(TaskRequest *const *)b;
    const TaskSet *set = (const TaskSet *)context;
    size_t least = (size_t)int64_min(x->count, y->count) - 1;
    if (x->task != y->task) return x->task < y->task ? -1 : 1;
    int order = memcmp(request_ids(set, x), request_ids(set, y), sizeof(int32_t) * least);
    if (order) return order;
    if (x->count != y->count) return x->count < y->count ? -1 : 1;
    return x < y ? -1 : 1;
}

static inline bool score_same_input(const TaskSet *set, const TaskRequest *x, const TaskRequest *y) {
    return x->task == y->task && x->count == y->count &&
           memcmp(request_ids(set, x), request_ids(set, y), sizeof(int32_t) * (size_t)(x->count - 1)) == 0;
}

static inline int score_sequence_order(const void *a, const void *b, void *context) {
    const ScoreSequence *x = (const ScoreSequence *)a, *y = (const ScoreSequence *)b;
    TaskRequest *const *order = (TaskRequest *const *)context;
    int n = order[x->first]->count, m = order[y->first]->count;
    if (x->root != y->root) return (unsigned)x->root < (unsigned)y->root ? -1 : 1; // those without one last
    if (x->shared != y->shared) return x->shared > y->shared ? -1 : 1;
    if (x->family != y->family) return x->family < y->family ? -1 : 1;
    if (n != m) return n > m ? -1 : 1;
    return x->first < y->first ? -1 : 1;
}

// The sequence's longest continuation.
static inline int sequence_scored(const ScoreRun *run, const ScoreSequence *s) {
    int scored = 0;
    for (int i = 0; i < s->count; i++) scored = (int)int64_max(scored, run->order[s->first + (size_t)i]->scored);
    return scored;
}

// How many of its tokens a sequence may share, in steps, so that more families share as much: so that SCORE_ROWS are
// left, and the row of each token of which somebody asks whether it is the likeliest.
static inline int score_most(const ScoreRun *run, const ScoreSequence *s) {
    const TaskRequest *q = run->order[s->first];
    int most = q->count - 1 - SCORE_ROWS;
    for (int i = 0; i < s->count; i++) {
        const TaskRequest *one = run->order[s->first + (size_t)i];
        if (one->greedy) most = (int)int64_min(most, one->count - one->scored - 1);
    }
    return most > 0 ? most / SCORE_ROWS * SCORE_ROWS : 0;
}

// The tokens that two sequences of a task have in common, without the last one, behind which they differ.
static inline int score_alike(const ScoreRun *run, const ScoreSequence *x, const ScoreSequence *y) {
    const TaskRequest *p = run->order[x->first], *q = run->order[y->first];
    const int32_t *a = request_ids(run->set, p), *b = request_ids(run->set, q);
    int alike = 0, most = (int)int64_min(p->count, q->count) - 1;
    while (p->task == q->task && alike < most && a[alike] == b[alike]) alike++;
    return alike > 0 ? (alike - 1) / SCORE_ROWS * SCORE_ROWS : 0;
}

// Finds the roots and families of the sequences, which stand in the order of their tokens.
static inline void score_stems(ScoreRun *run) {
    int *alike = (int *)mem_alloc(sizeof(int) * (run->count + 1)), *most = (int *)mem_alloc(sizeof(int) * run->count);
    for (size_t i = 0; i < run->count; i++) {
        ScoreSequence *s = &run->sequences[i];
        alike[i] = i ? score_alike(run, s - 1, s) : 0, most[i] = score_most(run, s);
    }
    run->stems.step = SCORE_ROWS, run->stems.alike = alike, run->stems.most = most;
    stems_find(&run->stems, 0, run->count);
    free(alike), free(most);
    run->asked = (int *)mem_alloc(sizeof(int) * (run->stems.count + 1));
    for (size_t k = 0; k < run->stems.count; k++) {
        const Stem *stem = &run->stems.items[k];
        run->asked[k] = INT32_MAX;
        for (size_t i = stem->first; i < stem->first + stem->count; i++) {
            ScoreSequence *s = &run->sequences[i];
            *(stem->root ? &s->root : &s->family) = (int)k;
            s->shared = stem->length;
            run->asked[k] = (int)int64_min(run->asked[k], run->order[s->first]->count - sequence_scored(run, s));
        }
    }
}

// Puts sequences into batches.
static inline void score_batches(ScoreRun *run) {
    for (size_t i = 0; i < run->count; i++) run->sequences[i].root = run->sequences[i].family = -1;
    if (run->scorer->share) score_stems(run);
    qsort_r(run->sequences, run->count, sizeof *run->sequences, score_sequence_order, run->order);
    run->batches = (ScoreBatch *)mem_alloc(sizeof(ScoreBatch) * (run->count + 1));
    for (size_t i = 0; i < run->count; i += (size_t)run->batches[run->batch_count++].n) {
        ScoreBatch *batch = &run->batches[run->batch_count];
        const ScoreSequence *s = &run->sequences[i];
        size_t left = run->count - i, B = (size_t)run->scorer->batch_size, n = 0, together;
        batch->first = i, batch->root = s->root, batch->prefix = s->shared;
        batch->rooted = s->root < 0 ? 0 : run->stems.items[s->root].length;
        for (; n < left && s[n].root == s->root && s[n].shared == s->shared; n += together) {
            for (together = 1; s[n].family >= 0 && n + together < left && s[n + together].family == s[n].family;)
                together++;
            if (n > 0 && n + together > B) break;
        }
        batch->n = (int)n;
    }
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
    run->prefix_losses = (float *)mem_alloc(sizeof(float) * N);
    run->root_losses = (float *)mem_alloc(sizeof(float) * (size_t)scorer->seq_len);
    run->root_row = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)scorer->batch_size);
    run->root = -1;
    score_batches(run);
    int most = 1;
    for (size_t i = 0; i < run->batch_count; i++) most = (int)int64_max(most, run->batches[i].n);
    run->row_of = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)most);
}

static inline void score_close(ScoreRun *run) {
    free(run->order);
    free(run->sequences);
    free(run->inputs);
    free(run->targets);
    free(run->losses);
    free(run->prefix_losses);
    free(run->root_losses);
    free(run->row_of);
    free(run->root_row);
    free(run->stems.items);
    free(run->asked);
    free(run->batches);
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

// Does somebody ask for the logits of the row that predicts token `t` (1 to count - 1)?
static inline bool sequence_asks(const ScoreRun *run, const ScoreSequence *s, int t) {
    const TaskRequest *const *q = (const TaskRequest *const *)run->order + s->first;
    for (int i = 0; i < s->count; i++)
        if (q[i]->greedy && t >= q[i]->count - q[i]->scored) return true;
    return s->count > 1 && t == q[0]->count - 1;
}

// One sequence as row b of a batch of length T, from its token `from` on. The targets of tokens below `least` count
// nothing.
static inline void score_fill(ScoreRun *run, const ScoreSequence *s, int b, int T, int from, int least) {
    const TaskRequest *q = run->order[s->first];
    const int32_t *ids = request_ids(run->set, q) + from;
    int n = q->count - 1 - from;
    int32_t *inputs = run->inputs + (size_t)b * (size_t)T, *targets = run->targets + (size_t)b * (size_t)T;
    for (int t = 0; t < T; t++) {
        inputs[t] = t < n ? ids[t] : 0;
        targets[t] = t < n && from + t + 1 >= least ? ids[t + 1] : -1;
    }
}

// The loss of token t of row b of a batch: own (T), what was computed of that row. It may lie in what the row shares.
static inline float score_loss(const ScoreRun *run, const ScoreBatch *batch, int b, const float *own, int t) {
    int behind = batch->prefix - batch->rooted;
    if (t <= batch->rooted) return run->root_losses[t - 1];
    if (t > batch->prefix) return own[t - 1 - batch->prefix];
    return run->prefix_losses[(size_t)run->row_of[b] * (size_t)behind + (size_t)(t - 1 - batch->rooted)];
}

// What the losses say of the requests of row b of a batch.
static inline void score_take_losses(ScoreRun *run, const ScoreBatch *batch, int b, const float *own) {
    const ScoreSequence *s = &run->sequences[batch->first + (size_t)b];
    for (int i = 0; i < s->count; i++) {
        TaskRequest *q = run->order[s->first + (size_t)i];
        int end = s->count == 1 ? q->count : q->count - 1; // the last one by its logits, where others share the input
        double sum = 0;
        for (int t = q->count - q->scored; t < end; t++) sum += (double)score_loss(run, batch, b, own, t);
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

// A pass over rows that were filled in, and its losses.
static inline void score_pass(ScoreRun *run, float *losses, int B, int T) {
    Model *m = run->scorer->model;
    ModelBatch batch = {run->inputs, run->targets, NULL, B, T};
    model_forward(m, &batch, 0, NULL);
    model_loss(m);
    if (losses && !model_get_activation(m, ACT_losses, 0, losses)) fail("the losses of a pass are not kept");
    if (run->scorer->computed) *run->scorer->computed += (int64_t)B * T;
}

// The root of a batch, unless the model has its keys and values.
static inline void score_root(ScoreRun *run, const ScoreBatch *batch) {
    if (batch->root < 0 || batch->root == run->root) return;
    score_fill(run, &run->sequences[batch->first], 0, batch->rooted, 0, run->asked[batch->root]);
    model_share(run->scorer->model, SHARE_ROOT, SHARE_NONE, NULL);
    score_pass(run, run->root_losses, 1, batch->rooted);
    run->root = batch->root;
}

// What the families of a batch share, a row each, behind their root.
static inline void score_prefixes(ScoreRun *run, const ScoreBatch *batch) {
    const ScoreSequence *s = &run->sequences[batch->first];
    int families = 0, behind = batch->prefix - batch->rooted;
    for (int b = 0; b < batch->n; b++) {
        run->row_of[b] = b && s[b].family == s[b - 1].family ? families - 1 : families;
        if (!behind) run->row_of[b] = 0; // the root's
        if (!behind || run->row_of[b] < families) continue;
        score_fill(run, &s[b], families++, behind, batch->rooted, run->asked[s[b].family]);
    }
    if (!behind) return;
    model_share(run->scorer->model, SHARE_FAMILIES, batch->rooted ? SHARE_ROOT : SHARE_NONE, run->root_row);
    score_pass(run, run->prefix_losses, families, behind);
}

// The rows first .. first + n - 1 of a batch, behind what they share. Returns how many rows of logits they asked for.
static inline int score_rows(ScoreRun *run, const ScoreBatch *batch, int first, int n) {
    const Scorer *scorer = run->scorer;
    const ScoreSequence *s = &run->sequences[batch->first + (size_t)first];
    int P = batch->prefix, T = (int)int64_min(SCORE_ROWS, scorer->seq_len), asked = 0;
    for (int b = 0; b < n; b++) T = (int)int64_max(T, run->order[s[b].first]->count - 1 - P);
    for (int b = 0; b < n; b++)
        score_fill(run, &s[b], b, T, P, run->order[s[b].first]->count - sequence_scored(run, &s[b]));
    ShareSlot behind = !P ? SHARE_NONE : P > batch->rooted ? SHARE_FAMILIES : SHARE_ROOT;
    if (P) model_share(scorer->model, SHARE_NONE, behind, run->row_of + first);
    score_pass(run, run->losses, n, T);
    for (int b = 0; b < n; b++) score_take_losses(run, batch, first + b, run->losses + (size_t)b * (size_t)T);
    for (int b = 0; b < n; b++)
        for (int t = P + 1; t < run->order[s[b].first]->count; t++) {
            if (!sequence_asks(run, &s[b], t)) continue;
            score_take_logits(run, &s[b], t, model_logits(scorer->model, b * T + t - 1 - P));
            asked++;
        }
    return asked;
}

// A pass of a rank that has no batch.
static inline void score_nothing(ScoreRun *run) {
    int T = (int)int64_min(SCORE_ROWS, run->scorer->seq_len);
    for (int t = 0; t < T; t++) run->inputs[t] = 0, run->targets[t] = -1;
    score_pass(run, NULL, 1, T);
}

// One batch of this rank; NULL: it has none, and makes its pass all the same: weights may lie shared out, and then all
// ranks make the same passes, and ask for rows of logits equally often.
static inline void score_batch(ScoreRun *run, const ScoreBatch *batch) {
    const Scorer *scorer = run->scorer;
    int asked = 0;
    if (batch) score_root(run, batch);
    if (batch && batch->prefix) score_prefixes(run, batch);
    for (int b = 0, n; batch && b < batch->n; b += n) {
        n = (int)int64_min(scorer->batch_size, batch->n - b);
        asked += score_rows(run, batch, b, n);
    }
    if (!batch) score_nothing(run);
    for (int rows = dist_max(scorer->dist, asked); asked < rows; asked++) model_logits(scorer->model, 0);
}

// Every rank's answers for all ranks: each request was answered by one of them.
static inline void score_share(ScoreRun *run) {
    const Dist *dist = run->scorer->dist;
    int ranks = dist->size;
    const size_t most = (size_t)1 << 16;
    double *values = (double *)mem_alloc(sizeof(double) * 2 * most);
    size_t *rank_of = (size_t *)mem_alloc(sizeof(size_t) * run->set->request_count);
    for (size_t k = 0; k < run->batch_count; k++)
        for (size_t i = run->batches[k].first; i < run->batches[k].first + (size_t)run->batches[k].n; i++)
            for (int j = 0; j < run->sequences[i].count; j++)
                rank_of[run->order[run->sequences[i].first + (size_t)j] - run->set->requests] = k % (size_t)ranks;
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
    size_t ranks = (size_t)scorer->dist->size;
    for (size_t round = 0; round < run.batch_count; round += ranks) {
        size_t mine = round + (size_t)scorer->dist->rank, next = round + ranks;
        score_batch(&run, mine < run.batch_count ? &run.batches[mine] : NULL);
        if (scorer->progress && scorer->dist->rank == 0)
            scorer->progress((int64_t)(next < run.batch_count ? run.batches[next].first : run.count),
                             (int64_t)run.count);
    }
    score_share(&run);
    score_close(&run);
    return score_finite(set, err);
}

#endif
