/*
objective.h: what the tokens of pairs of answers weigh in the gradient (llmc/objective.h), from their losses.
*/
#ifndef LLMC_CPU_OBJECTIVE_H
#define LLMC_CPU_OBJECTIVE_H

#include "../objective.h"
#include "cpu.h"

static inline double objective_sum(const real *losses, int first, int end) {
    double sum = 0;
    for (int n = first; n < end; n++) sum += (double)losses[n];
    return sum;
}

// weights (N): those of tokens' losses in scale x the sum of the pairs' losses; 0 outside of pairs. losses (N).
// figures (PAIR_FIGURE_COUNT): what is told of the pairs is added. Returns the sum of their losses.
static inline double objective_weights(real *weights, double *figures, const real *losses, const PairBatch *pairs,
                                       int N, Cpu *cpu) {
    double loss = 0;
    memset(weights, 0, sizeof(real) * (size_t)N);
    for (int i = 0; i < pairs->count; i++) {
        const ModelPair *p = &pairs->items[i];
        PairSums sums = {objective_sum(losses, p->chosen_answer, p->rejected),
                         objective_sum(losses, p->rejected_answer, p->end),
                         objective_sum(losses, p->chosen, p->rejected)};
        PairNumbers numbers;
        pair_numbers(&numbers, &pairs->rule, p, sums);
        for (int n = p->chosen; n < p->end; n++) weights[n] = (real)(pairs->scale * pair_weight(&numbers, p, n));
        for (int k = 0; k < PAIR_FIGURE_COUNT; k++) figures[k] += numbers.figures[k];
        loss += numbers.figures[PAIR_LOSS];
    }
    (void)cpu;
    return loss;
}

#endif
