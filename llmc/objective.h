/*
objective.h: what a pair of answers teaches: the losses of DPO, IPO, SimPO and ORPO, and how much each token weighs in
their gradients.

    PairNumbers r;
    pair_numbers(&r, &rule, &pair, sums)      sums: of the pair's token losses, which are negative log-probabilities

All of them are functions of sums over the tokens of an answer. So the gradient of a token's loss has a weight that is
the same for all tokens of an answer, and the model needs no more than cross entropy with a weight a row.

    c, r      log-probability of the chosen and of the rejected answer, its closing token included
    c0, r0    the same by the reference model, before training
    n         tokens of an answer
    s, z      sigmoid; label smoothing: the share of pairs that are taken to be the wrong way round

    dpo     -(1 - z) log s(b d) - z log s(-b d),  d = (c - c0) - (r - r0)        Rafailov et al. 2023, arXiv:2305.18290
    ipo     (d - 1 / (2 b))^2,  d = (c - c0) / nc - (r - r0) / nr                Azar et al. 2023, arXiv:2310.12036
    simpo   as dpo with b d = b (c / nc - r / nr) - gamma                        Meng et al. 2024, arXiv:2405.14734
    orpo    NLL - b log s(log odds(c / nc) - log odds(r / nr)),                  Hong et al. 2024, arXiv:2403.07691
            odds(x) = e^x / (1 - e^x); NLL: the mean loss of all tokens, prompts too, of the chosen sides of a step

Names, defaults, IPO's mean over tokens and ORPO's NLL are those of TRL 1.16 (DPOTrainer; experimental CPOTrainer with
cpo_alpha 0; ORPOTrainer), label smoothing that of its earlier versions.

Defines: OBJECTIVES, ObjectiveRule, ModelPair, PairBatch, PairNumbers.
*/
#ifndef LLMC_OBJECTIVE_H
#define LLMC_OBJECTIVE_H

#include "base/common.h"
#include <math.h>

#define OBJECTIVES(X)                                                                                                  \
    X(OBJECTIVE_NEXT, "next")                                                                                          \
    X(OBJECTIVE_DPO, "dpo") X(OBJECTIVE_IPO, "ipo") X(OBJECTIVE_SIMPO, "simpo") X(OBJECTIVE_ORPO, "orpo")
typedef enum { OBJECTIVES(CHOICE_ENUM) } Objective;

typedef struct {
    int objective;
    double beta, smoothing, gamma;
    double nll; // ORPO: what a token's loss counts for beside a pair's: pairs over tokens of chosen sides, of the step
} ObjectiveRule;

static inline bool objective_has_reference(int objective) {
    return objective == OBJECTIVE_DPO || objective == OBJECTIVE_IPO;
}

// Where a pair lies in a pass of B T tokens: its chosen side at [chosen, rejected), the other at [rejected, end). The
// answers' targets are at [chosen_answer, rejected) and [rejected_answer, end).
typedef struct {
    int32_t chosen, rejected, end, chosen_answer, rejected_answer;
    double chosen_reference, rejected_reference; // log-probabilities; 0 where there is no reference
} ModelPair;

// The pairs of a pass.
typedef struct {
    const ModelPair *items; // (count)
    int count;
    ObjectiveRule rule;
    double scale; // the gradient is that of scale x the sum of the pairs' losses
} PairBatch;

// What is told of pairs; TRL's names. Summed over them.
#define PAIR_FIGURES(X)                                                                                                \
    X(LOSS, "loss")                                                                                                    \
    X(CHOSEN_REWARD, "rewards/chosen")                                                                                 \
    X(REJECTED_REWARD, "rewards/rejected")                                                                             \
    X(ACCURACY, "rewards/accuracies")                                                                                  \
    X(MARGIN, "rewards/margins")                                                                                       \
    X(CHOSEN_LOGP, "logps/chosen")                                                                                     \
    X(REJECTED_LOGP, "logps/rejected")
enum {
#define X(id, name) PAIR_##id,
    PAIR_FIGURES(X)
#undef X
        PAIR_FIGURE_COUNT
};

typedef struct {
    double figures[PAIR_FIGURE_COUNT];
    // What the pair's loss gains with that of a token: of an answer, of any token of the chosen side.
    double chosen_weight, rejected_weight, nll_weight;
} PairNumbers;

// The losses of a pair's tokens, summed.
typedef struct {
    double chosen, rejected; // of the answers
    double chosen_side;      // ORPO: prompt and answer
} PairSums;

// log(1 - e^x) of x <= 0. Where a probability is 1 to the last digit the odds are taken for 10^12.
HD static inline double log_one_minus_exp(double x) { return log(fmax(-expm1(x), 1e-12)); }

// -log s(x)
HD static inline double minus_log_sigmoid(double x) { return x > 0 ? log1p(exp(-x)) : log1p(exp(x)) - x; }

HD static inline double sigmoid(double x) { return x > 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

// -(1 - z) log s(x) - z log s(-x), and in *slope its derivative.
HD static inline double preference_loss(double *slope, double x, double z) {
    *slope = z * sigmoid(x) - (1 - z) * sigmoid(-x);
    return (1 - z) * minus_log_sigmoid(x) + z * minus_log_sigmoid(-x);
}

HD static inline void pair_numbers(PairNumbers *p, const ObjectiveRule *rule, const ModelPair *pair, PairSums sums) {
    double nc = pair->rejected - pair->chosen_answer, nr = pair->end - pair->rejected_answer, b = rule->beta;
    double c = -sums.chosen, r = -sums.rejected; // log-probabilities; from here on what the loss is a function of
    double loss, slope, chosen_slope, rejected_slope, told_c, told_r;
    p->nll_weight = 0;
    if (rule->objective == OBJECTIVE_DPO || rule->objective == OBJECTIVE_IPO) {
        told_c = c, told_r = r;
        c -= pair->chosen_reference, r -= pair->rejected_reference;
    } else told_c = c /= nc, told_r = r /= nr;
    if (rule->objective == OBJECTIVE_IPO) {
        double off = c / nc - r / nr - 1 / (2 * b);
        loss = off * off;
        chosen_slope = 2 * off / nc, rejected_slope = -2 * off / nr;
    } else if (rule->objective == OBJECTIVE_ORPO) {
        double odds = c - r - (log_one_minus_exp(c) - log_one_minus_exp(r));
        loss = b * preference_loss(&slope, odds, 0) + rule->nll * sums.chosen_side;
        chosen_slope = b * slope / fmax(-expm1(c), 1e-12) / nc;
        rejected_slope = -b * slope / fmax(-expm1(r), 1e-12) / nr;
        p->nll_weight = rule->nll;
    } else {
        bool simpo = rule->objective == OBJECTIVE_SIMPO;
        loss = preference_loss(&slope, b * (c - r) - (simpo ? rule->gamma : 0), rule->smoothing);
        chosen_slope = b * slope / (simpo ? nc : 1), rejected_slope = -b * slope / (simpo ? nr : 1);
    }
    p->chosen_weight = -chosen_slope, p->rejected_weight = -rejected_slope; // a token's loss is -log p
    p->figures[PAIR_LOSS] = loss;
    p->figures[PAIR_CHOSEN_REWARD] = b * c, p->figures[PAIR_REJECTED_REWARD] = b * r;
    p->figures[PAIR_ACCURACY] = c > r;
    p->figures[PAIR_MARGIN] = b * (c - r);
    p->figures[PAIR_CHOSEN_LOGP] = told_c, p->figures[PAIR_REJECTED_LOGP] = told_r;
}

// The weight of token n, which lies in the pair.
HD static inline double pair_weight(const PairNumbers *p, const ModelPair *pair, int n) {
    bool chosen = n < pair->rejected, answer = n >= (chosen ? pair->chosen_answer : pair->rejected_answer);
    return (chosen ? p->nll_weight : 0) + (answer ? chosen ? p->chosen_weight : p->rejected_weight : 0);
}

#endif
