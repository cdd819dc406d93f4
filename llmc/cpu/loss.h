/*
loss.h: cross entropy of the softmax of logits, in nats, and its gradient in place.
*/
#ifndef LLMC_CPU_LOSS_H
#define LLMC_CPU_LOSS_H

#include "cpu.h"

enum { LOSS_RUN = 1024 }; // numbers that are summed as real, a multiple of VL

// losses (N). logits (N, V): in logits, out dlogits = (softmax - onehot) * dscale; left as they are
// when dscale == 0. targets (N): in [0, V), or -1: ignored, loss 0 and gradient 0. weights (N): a row's own dscale;
// NULL: all have the same.
// A row is read three times (maximum; exponentials and their sum; scaling), once from memory.
static inline void cross_entropy(real *losses, real *logits, const int32_t *targets, const real *weights, real dscale,
                                 int N, int V, Cpu *cpu) {
    OMP(parallel for num_threads(cpu->threads) schedule(static))
    for (int n = 0; n < N; n++) {
        real *x = logits + (size_t)n * V;
        int target = targets[n], whole = V / VL * VL, rest = V - whole;
        if (target < 0) {
            losses[n] = 0;
            if (dscale != 0) memset(x, 0, sizeof(real) * (size_t)V);
            continue;
        }
        real wanted = x[target];
        vreal top = vset(x[0]);
        for (int v = 0; v < whole; v += VL) top = vmax(vload(x + v), top);
        real m = vmaximum(top);
        for (int v = whole; v < V; v++) m = x[v] > m ? x[v] : m;
        double total = 0; // of runs: a float would lose what 50,000 terms need
        for (int v = 0; v < whole;) {
            int end = whole - v < LOSS_RUN ? whole : v + LOSS_RUN;
            vreal sums = {0};
            for (; v < end; v += VL) {
                vreal e = vexp_falling(vload(x + v) - m);
                sums += e;
                if (dscale != 0) vstore(x + v, e);
            }
            total += (double)vsum(sums);
        }
        vreal last = vexp_falling(vload_part(x + whole, rest) - m);
        for (int i = 0; i < rest; i++) total += (double)last[i];
        if (dscale != 0) vstore_part(x + whole, last, rest);
        losses[n] = (real)(log(total) + (double)m - (double)wanted);
        if (dscale == 0) continue;
        real weight = weights ? weights[n] : dscale, scale = (real)((double)weight / total);
        for (int v = 0; v < whole; v += VL) vstore(x + v, vload(x + v) * scale);
        for (int v = whole; v < V; v++) x[v] *= scale;
        x[target] -= weight;
    }
    (void)cpu;
}

#endif
