/*
nonfinite.h: which tensor was the first that is not finite? All functions are called by all ranks.
*/
#ifndef LLMC_NONFINITE_H
#define LLMC_NONFINITE_H

#include "../files/checkpoint.h"

// Names the first tensor, in the order of computation, that holds a NaN or an infinity on any rank:
// activations of the last forward pass, of (B, T), then gradients backwards. Called by all ranks.
static inline void nonfinite_find(char name[64], Model *m, const ParamTable *t, const Config *c, const Dist *dist,
                                  int B, int T) {
    size_t rows = (size_t)B * (size_t)T, most = 0;
    ActTable acts = act_table(c, B, T, RECOMPUTE_NONE, 1, 1);
    for (int k = 0; k < ACT_KINDS; k++)
        if (rows * (size_t)acts.items[k].width > most) most = rows * (size_t)acts.items[k].width;
    for (int i = 0; i < t->count; i++)
        if (t->items[i].count > most) most = t->items[i].count;
    float *values = (float *)mem_alloc(sizeof(float) * most);
    // Tensors are numbered in that order; the lowest number of any rank is found as the largest below `end`.
    int number = 0, found = 0;
    const int end = 1 << 30;
    for (int place = PLACE_START; place <= PLACE_END; place++)
        for (int l = 0; l < (place == PLACE_LAYER ? c->layers : 1); l++)
            for (int k = 0; k < ACT_KINDS; k++, number++) {
                const Act *a = &acts.items[k];
                if (found || a->place != place || !a->present || !model_get_activation(m, k, l, values)) continue;
                if (!all_finite(values, rows * (size_t)a->width)) found = end - number;
            }
    const int gradients = number;
    for (int i = t->count - 1; i >= 0; i--, number++) {
        const Param *p = &t->items[i];
        model_get(m, MODEL_GRADIENT, p, values, dist->rank); // on all ranks: some engines spread them
        if (!found && !all_finite(values, p->count)) found = end - number;
    }
    free(values);
    found = dist_max(dist, found);
    number = end - found;
    snprintf(name, 64, "no single tensor");
    if (!found) return;
    if (number >= gradients) {
        snprintf(name, 64, "gradient of %s", t->items[t->count - 1 - (number - gradients)].name);
        return;
    }
    int layer = number / ACT_KINDS - 1; // as they were numbered: the start, the layers, the end
    const Act *a = &acts.items[number % ACT_KINDS];
    if (a->place == PLACE_LAYER) snprintf(name, 64, "activation layer.%d.%s", layer, a->name);
    else snprintf(name, 64, "activation %s", a->name);
}

// The same after an update that made something that is not: the moments come first, since weights are made of them, and
// the first moment before the second, which NorMuon makes of it.
static inline void nonfinite_find_state(char name[64], Model *m, const CheckpointTables *tables, const Dist *dist) {
    const ParamTable *t = &tables->array[0];
    size_t most = 0;
    for (int i = 0; i < t->count; i++)
        if (t->items[i].count > most) most = t->items[i].count;
    float *values = (float *)mem_alloc(sizeof(float) * most);
    // All are finite in float: then it is the copy in the type that the products read that overflowed.
    snprintf(name, 64, "a weight, rounded to 16 bits,");
    for (int turn = 0, found = 0; turn <= STATE_KINDS; turn++)
        for (int i = 0; i < t->count; i++) {
            int k = turn < STATE_KINDS ? turn : -1;
            const Param *p = &tables->array[k + 1].items[i]; // in the order of checkpoint_arrays
            model_get(m, k < 0 ? (int)MODEL_WEIGHT : MODEL_STATE + k, p, values, 0);
            if (dist->rank > 0 || found || all_finite(values, p->count)) continue;
            snprintf(name, 64, "%s%s%s", k < 0 ? "" : state_name(k), k < 0 ? "" : " of ", p->name);
            found = 1;
        }
    free(values);
    dist_broadcast(dist, name, 64);
}

#endif
