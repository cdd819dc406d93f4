/*
objective.h: what the tokens of pairs of answers weigh in the gradient (llmc/objective.h), from their losses.

All that changes from step to step lies on the device, so that a graph of the pass stays as it is.
*/
#ifndef LLMC_CUDA_OBJECTIVE_H
#define LLMC_CUDA_OBJECTIVE_H

#include "../objective.h"
#include "cuda.h"

enum { OBJECTIVE_THREADS = 128, OBJECTIVE_BLOCKS = 512 };

// On the device.
typedef struct {
    ObjectiveRule rule;
    double scale; // of the sum of the pairs' losses
    int count;
} DevicePairsHead;

typedef struct {
    DevicePairsHead *head;
    ModelPair *items;     // (most)
    PairNumbers *numbers; // (most)
    double *loss;         // which the sum of their losses is added to
    size_t most;          // pairs of a pass
} DevicePairs;

static inline void pairs_open(DevicePairs *p, double *loss, size_t N, Device *d) {
    p->loss = loss;
    p->most = N / 2; // a side is a token at least
    p->head = (DevicePairsHead *)device_alloc(d, sizeof(DevicePairsHead), "the pairs");
    p->items = (ModelPair *)device_alloc(d, sizeof(ModelPair) * (p->most + 1), "the pairs");
    p->numbers = (PairNumbers *)device_alloc(d, sizeof(PairNumbers) * (p->most + 1), "the pairs");
}

static inline void pairs_close(DevicePairs *p) {
    void *all[] = {p->head, p->items, p->numbers};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) cudaFree(all[i]);
}

// The pairs of the pass that is put on the stream next.
static inline void pairs_upload(DevicePairs *p, const PairBatch *pairs, Device *d) {
    DevicePairsHead head = {pairs->rule, pairs->scale, pairs->count};
    if ((size_t)pairs->count > p->most) fail("a pass of %d pairs, expected %zu at most", pairs->count, p->most);
    if (pairs->count) device_write(d, p->items, pairs->items, sizeof(ModelPair) * (size_t)pairs->count);
    device_write(d, p->head, &head, sizeof head);
}

// The sum of losses [first, end), by all threads of a block; the same on all of them.
__device__ inline double objective_sum(double *sums_smem, const float *losses, int first, int end) {
    double sum = 0;
    for (int n = first + (int)threadIdx.x; n < end; n += OBJECTIVE_THREADS) sum += (double)losses[n];
    __syncthreads();
    sums_smem[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < OBJECTIVE_THREADS; i++) sum += sums_smem[i];
    return sum;
}

// A thread block a pair.
static __global__ void objective_kernel(float *weights, PairNumbers *numbers, const float *losses,
                                        const ModelPair *items, const DevicePairsHead *head) {
    __shared__ double sums_smem[OBJECTIVE_THREADS];
    for (int i = (int)blockIdx.x; i < head->count; i += (int)gridDim.x) {
        ModelPair p = items[i];
        PairSums sums = {objective_sum(sums_smem, losses, p.chosen_answer, p.rejected),
                         objective_sum(sums_smem, losses, p.rejected_answer, p.end),
                         objective_sum(sums_smem, losses, p.chosen, p.rejected)};
        PairNumbers own;
        pair_numbers(&own, &head->rule, &p, sums);
        for (int n = p.chosen + (int)threadIdx.x; n < p.end; n += OBJECTIVE_THREADS)
            weights[n] = (float)(head->scale * pair_weight(&own, &p, n));
        if (threadIdx.x == 0) numbers[i] = own;
    }
}

// A thread a figure, over the pairs in their order.
static __global__ void objective_figures_kernel(double *figures, double *loss, const PairNumbers *numbers,
                                                const DevicePairsHead *head) {
    int k = (int)threadIdx.x;
    double sum = 0;
    for (int i = 0; i < head->count; i++) sum += numbers[i].figures[k];
    figures[k] += sum;
    if (k == PAIR_LOSS) *loss += sum;
}

// weights (N): those of tokens' losses in scale x the sum of the pairs' losses; 0 outside of pairs. losses (N).
// figures (PAIR_FIGURE_COUNT): what is told of the pairs is added; and the sum of their losses to *pairs->loss.
static inline void objective_weights(float *weights, double *figures, const float *losses, const DevicePairs *pairs,
                                     int N, Device *d) {
    CUDA_CHECK(cudaMemsetAsync(weights, 0, sizeof(float) * (size_t)N, d->stream));
    objective_kernel<<<OBJECTIVE_BLOCKS, OBJECTIVE_THREADS, 0, d->stream>>>(weights, pairs->numbers, losses,
                                                                            pairs->items, pairs->head);
    LAUNCH_CHECK();
    objective_figures_kernel<<<1, PAIR_FIGURE_COUNT, 0, d->stream>>>(figures, pairs->loss, pairs->numbers, pairs->head);
    LAUNCH_CHECK();
}

#endif
