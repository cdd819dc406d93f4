/*
rule.h: how the options move the weights: the rules of an update, by parameter group.

--lr, --weight_decay and AdamW's numbers hold for all groups, but that vectors do not decay. With --optimizer=muon or
normuon the matrices inside blocks have Muon's rule and, where it is given, a learning rate of their own, --muon_lr,
which follows the same schedule: its ratio to --lr stays. Of an adapter, B has --lora_plus times the learning rate
(LoRA+, Hayou et al. 2024, arXiv:2402.12354).
*/
#ifndef LLMC_RULE_H
#define LLMC_RULE_H

#include "options.h"

static inline MuonRule muon_rule(const Options *o) {
    MuonRule r;
    r.optimizer = o->optimizer;
    r.scale = o->muon_scale;
    r.polynomials = o->muon_polynomials;
    r.steps = (int)o->muon_steps;
    r.momentum = o->muon_momentum;
    r.beta2 = o->muon_beta2;
    r.nesterov = o->muon_nesterov;
    r.cautious = o->muon_cautious;
    return r;
}

// step: 1, 2, ... of those that updated; lr: by the schedule, whose peak is --lr or what --lr=auto chose.
static inline UpdateRule rule_of_options(const Options *o, int64_t step, double lr, double peak) {
    GroupRule adam = {lr, o->beta1, o->beta2, o->adam_eps, o->weight_decay};
    UpdateRule rule = update_rule(step, adam, o->grad_clip);
    if (o->optimizer != OPTIMIZER_ADAMW && o->muon_lr > 0 && peak > 0)
        rule.group[GROUP_MATRIX].lr = lr / peak * o->muon_lr;
    rule.group[GROUP_LORA_B].lr *= o->lora_plus;
    return rule;
}

#endif
