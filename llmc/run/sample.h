/*
sample.h: choosing the next token from logits: temperature, top-k, top-p (nucleus, Holtzman et al. 2020).

The filters apply in the order of Hugging Face's generate: temperature, then the K likeliest, then the
smallest set of these whose probability reaches P. Ties go to the lower token id. With the same
logits, seed and index the choice is the same on every machine.
*/
#ifndef LLMC_SAMPLE_H
#define LLMC_SAMPLE_H

#include "../base/rng.h"

typedef struct {
    float logit;
    int id;
} Candidate;

typedef struct {
    double temperature; // 0: the likeliest token
    int top_k;          // 0: all
    double top_p;       // 1: all
    RngStream stream;
    Candidate *candidates; // (V)
    double *weights;       // (V), kept: their sum, of the candidates that may be drawn
    double kept;
    int vocab_size;
} Sampler;

static inline Sampler sampler_create(int vocab_size, double temperature, int top_k, double top_p, uint64_t seed) {
    Sampler s;
    s.temperature = temperature;
    s.top_k = top_k;
    s.top_p = top_p;
    s.stream = rng_stream(seed, "sample");
    s.vocab_size = vocab_size;
    s.candidates = (Candidate *)mem_alloc(sizeof(Candidate) * (size_t)vocab_size);
    s.weights = (double *)mem_alloc(sizeof(double) * (size_t)vocab_size);
    s.kept = 0;
    return s;
}

static inline void sampler_free(Sampler *s) {
    free(s->candidates);
    free(s->weights);
    s->candidates = NULL, s->weights = NULL;
}

static inline int candidate_order(const void *a, const void *b) {
    const Candidate *x = (const Candidate *)a, *y = (const Candidate *)b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

// Moves the k likeliest of n candidates to the front, in any order, by a heap whose root is the least likely of them:
// most of a vocabulary need not be sorted.
static inline void candidates_select(Candidate *c, int n, int k) {
    for (int i = 0; i < n; i++) {
        int at = i < k ? i : 0;
        Candidate x = c[i];
        if (i >= k && candidate_order(&x, &c[0]) > 0) continue;
        for (int up = (at - 1) / 2; i < k && at > 0 && candidate_order(&x, &c[up]) > 0; at = up, up = (at - 1) / 2)
            c[at] = c[up];
        for (int down = 1; i >= k && down < k; down = 2 * at + 1) {
            if (down + 1 < k && candidate_order(&c[down + 1], &c[down]) > 0) down++;
            if (candidate_order(&x, &c[down]) >= 0) break;
            c[at] = c[down], at = down;
        }
        c[at] = x;
    }
}

// What may be drawn: the first candidates, as many as it returns, likeliest first, with their weights, whose sum is
// s->kept. logits: (V), finite or -infinity; tokens beyond `allowed` (a vocabulary smaller than the model's) are never
// among them. -1: a logit is NaN or +infinity, or all are -infinity, and nothing can be chosen by them.
static inline int sample_keep(Sampler *s, const float *logits, int allowed) {
    int n = allowed < s->vocab_size ? allowed : s->vocab_size, best = 0;
    bool numbers = true;
    for (int i = 0; i < n; i++) {
        if (logits[i] > logits[best]) best = i;
        numbers &= logits[i] < (float)INFINITY; // false for a NaN
    }
    if (!numbers || logits[best] == -(float)INFINITY) return -1;
    if (s->temperature == 0 || s->top_k == 1) {
        s->candidates[0].logit = logits[best], s->candidates[0].id = best;
        s->weights[0] = s->kept = 1;
        return 1;
    }
    for (int i = 0; i < n; i++) {
        s->candidates[i].logit = logits[i];
        s->candidates[i].id = i;
    }
    if (s->top_k > 0 && s->top_k < n) {
        candidates_select(s->candidates, n, s->top_k);
        n = s->top_k;
    }
    qsort(s->candidates, (size_t)n, sizeof(Candidate), candidate_order);
    double sum = 0, largest = s->candidates[0].logit;
    for (int i = 0; i < n; i++) sum += s->weights[i] = exp(((double)s->candidates[i].logit - largest) / s->temperature);
    s->kept = 0;
    for (int i = 0; i < n; i++) {
        s->kept += s->weights[i];
        if (s->kept >= s->top_p * sum) return i + 1;
    }
    return n;
}

// Of n weights with the sum `all`, the one for a number from 0 to 1 below it.
static inline int sample_pick(const double *weights, int n, double all, double number) {
    double dart = number * all, run = 0;
    for (int i = 0; i < n; i++) {
        run += weights[i];
        if (dart < run) return i;
    }
    return n - 1;
}

// The token for draw number `index`, of the n that sample_keep returned; each index gives an independent draw.
static inline int sample_draw(const Sampler *s, int n, uint64_t index) {
    return s->candidates[sample_pick(s->weights, n, s->kept, (double)rng_uniform(s->stream, index))].id;
}

// Both; -1 as in sample_keep.
static inline int sample_token(Sampler *s, const float *logits, int allowed, uint64_t index) {
    int n = sample_keep(s, logits, allowed);
    return n < 0 ? -1 : sample_draw(s, n, index);
}

#endif
