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
    return s;
}

static inline void sampler_free(Sampler *s) {
    free(s->candidates);
    s->candidates = NULL;
}

static inline int candidate_order(const void *a, const void *b) {
    const Candidate *x = (const Candidate *)a, *y = (const Candidate *)b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

// The token for draw number `index` (each index gives an independent draw). logits: (V), finite or
// -infinity; tokens beyond `allowed` (a vocabulary smaller than the model's) are never chosen. -1: a logit is NaN or
// +infinity, or all are -infinity, and nothing can be chosen by them.
static inline int sample_token(Sampler *s, const float *logits, int allowed, uint64_t index) {
    int n = allowed < s->vocab_size ? allowed : s->vocab_size, best = 0;
    bool numbers = true;
    for (int i = 0; i < n; i++) {
        if (logits[i] > logits[best]) best = i;
        numbers &= logits[i] < (float)INFINITY; // false for a NaN
    }
    if (!numbers || logits[best] == -(float)INFINITY) return -1;
    if (s->temperature == 0 || s->top_k == 1) return best;
    for (int i = 0; i < n; i++) {
        s->candidates[i].logit = logits[i];
        s->candidates[i].id = i;
    }
    qsort(s->candidates, (size_t)n, sizeof(Candidate), candidate_order);
    if (s->top_k > 0 && s->top_k < n) n = s->top_k;
    double sum = 0, largest = s->candidates[0].logit;
    for (int i = 0; i < n; i++) sum += exp(((double)s->candidates[i].logit - largest) / s->temperature);
    double kept = 0;
    int last = 0;
    for (; last < n; last++) {
        kept += exp(((double)s->candidates[last].logit - largest) / s->temperature);
        if (kept >= s->top_p * sum) break;
    }
    if (last == n) last = n - 1;
    double dart = (double)rng_uniform(s->stream, index) * kept, run = 0;
    for (int i = 0; i <= last; i++) {
        run += exp(((double)s->candidates[i].logit - largest) / s->temperature);
        if (dart < run) return s->candidates[i].id;
    }
    return s->candidates[last].id;
}

#endif
