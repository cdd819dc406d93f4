/*
distill.h: the loss of a student beside a teacher's logits (distillation; Hinton, Vinyals and Dean 2015,
arXiv:1503.02531), and its gradient in place.

    loss = (1 - a) CE + a T^2 KL(teacher_T || student_T),   p_T = softmax(logits / T)
    dloss / dlogits = (1 - a) (student_1 - onehot) + a T (student_T - teacher_T)

A thread block a row, a thread a number at a time, and three readings of both rows: maxima, sums, gradient. Not tuned:
the teacher's own passes cost far more.
*/
#ifndef LLMC_CUDA_DISTILL_H
#define LLMC_CUDA_DISTILL_H

#include "cuda.h"
#include "loss.h"

typedef struct {
    int N, V, ld;             // rows are ld apart
    float scale;              // of the gradient; 0: none is made
    float alpha, temperature; // a and T
} DistillShape;

enum { DISTILL_THREADS = 512 };

// Of a thread block, for all its threads; room (32).
__device__ inline float distill_block_max(float v, float *room) {
    v = warp_max(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    return warp_max(threadIdx.x % 32 < DISTILL_THREADS / 32 ? room[threadIdx.x % 32] : -INFINITY);
}
__device__ inline float distill_block_sum(float v, float *room) {
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    return warp_sum(threadIdx.x % 32 < DISTILL_THREADS / 32 ? room[threadIdx.x % 32] : 0.0f);
}

template <typename Real>
__global__ void __launch_bounds__(DISTILL_THREADS)
    distill_kernel(float *losses, float *ce, float *kl, Real *logits, const Real *teacher, const int32_t *targets,
                   DistillShape s) {
    __shared__ float room[32];
    int n = (int)blockIdx.x, thread = (int)threadIdx.x, target = targets[n];
    Real *x = logits + (size_t)n * (size_t)s.ld;
    const Real *t = teacher + (size_t)n * (size_t)s.ld;
    if (target < 0) {
        if (thread == 0) losses[n] = ce[n] = kl[n] = 0;
        for (int c = thread; s.scale != 0 && c < s.ld; c += DISTILL_THREADS) from_float(&x[c], 0.0f);
        return;
    }
    // 1. maxima
    float top = -INFINITY, teacher_top = -INFINITY, cold = 1.0f / s.temperature, wanted = to_float(x[target]);
    for (int c = thread; c < s.V; c += DISTILL_THREADS) {
        top = fmaxf(top, to_float(x[c]));
        teacher_top = fmaxf(teacher_top, to_float(t[c]));
    }
    top = distill_block_max(top, room);
    teacher_top = distill_block_max(teacher_top, room);
    // 2. sums of exponentials, and of the teacher's times the difference of both in the exponent
    float one = 0, student = 0, taught = 0, cross = 0;
    for (int c = thread; c < s.V; c += DISTILL_THREADS) {
        float dx = to_float(x[c]) - top, dt = to_float(t[c]) - teacher_top, e = expf(dt * cold);
        one += expf(dx), student += expf(dx * cold), taught += e;
        cross += e * ((dt - dx) * cold);
    }
    one = distill_block_sum(one, room), student = distill_block_sum(student, room);
    taught = distill_block_sum(taught, room), cross = distill_block_sum(cross, room);
    if (thread == 0) {
        ce[n] = logf(one) + top - wanted;
        kl[n] = cross / taught - logf(taught) + logf(student);
        losses[n] = (1 - s.alpha) * ce[n] + s.alpha * s.temperature * s.temperature * kl[n];
    }
    if (s.scale == 0) return;
    // 3. the gradient
    float hard = s.scale * (1 - s.alpha), soft = s.scale * s.alpha * s.temperature;
    for (int c = thread; c < s.ld; c += DISTILL_THREADS) {
        float g = 0;
        if (c < s.V) {
            float dx = to_float(x[c]) - top, dt = to_float(t[c]) - teacher_top;
            g = expf(dx) * (hard / one) + (expf(dx * cold) * (soft / student) - expf(dt * cold) * (soft / taught)) -
                (c == target ? hard : 0.0f);
        }
        from_float(&x[c], g);
    }
}

// losses, ce, kl (N): the loss above and its two parts, in nats, the second without a and T^2. logits (N, V), rows ld
// >= V apart: in the student's, out their gradient times scale, and zeros in the columns from V on; or left as they are
// when scale is 0. teacher (N, V), likewise: its logits. targets (N) on the device: in [0, V), or -1: ignored,
// everything 0.
template <typename Real>
static inline void distill(float *losses, float *ce, float *kl, Real *logits, const Real *teacher,
                           const int32_t *targets, DistillShape s, Device *d) {
    distill_kernel<Real>
        <<<blocks_for((size_t)s.N, 1), DISTILL_THREADS, 0, d->stream>>>(losses, ce, kl, logits, teacher, targets, s);
    LAUNCH_CHECK();
}

#endif
