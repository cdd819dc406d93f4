/*
optimizer.h: the gradient norm and AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) over all
tensors in one launch, as one flat array: of everything, or of what this rank owns (ranks.h).

The device itself decides whether a step happens: a loss or norm that is not finite, or above the rule's bound, leaves
weights, moments and gradients as they are. It also says if an update made a weight or moment that is not finite, which
finite gradients can: looked at in registers, while it is stored. What changes from step to step (rate, bias
corrections) is read from device memory, so that the launches can be replayed as a graph.

Weights are held twice, as float masters and as `real` copies that the products read; or, without
masters, once as bf16, and then rounded up or down at random with the right mean (stochastic rounding,
Gupta et al. 2015, arXiv:1502.02551; random numbers: Philox, keyed by step and position).

Bound by memory: 16 bytes read and 16 written a parameter (float gradient, master and two moments; the
gradient is written because it is zeroed here), and 2 more for the bf16 copy.
*/
#ifndef LLMC_CUDA_OPTIMIZER_H
#define LLMC_CUDA_OPTIMIZER_H

#include "../base/rng.h"
#include "../model.h"
#include "cuda.h"

// UpdateRule as the device reads it.
typedef struct {
    float beta1, beta2, one_beta1, one_beta2; // one_: 1 - beta
    float rate;                               // lr / (1 - beta1^step)
    float v_scale;                            // 1 / sqrt(1 - beta2^step)
    float eps, keep;                          // keep = 1 - lr * weight decay
} AdamGroup;

typedef struct {
    AdamGroup group[GROUPS];
    float matrix_lr, matrix_decay; // Muon's: learning rate, and what a step takes off the weights
    float grad_clip;               // 0: none
    double max_loss, max_norm;     // above these there is no update; 0: no bound
    uint32_t step_low, step_high;
} AdamRule;

typedef struct {
    double loss, grad_norm;
    float clip; // what gradients are multiplied by
    int updated;
    int finite; // 0: the update made a weight or moment of this rank's that is not
} AdamResult;

static inline AdamRule adam_rule(const UpdateRule *rule) {
    AdamRule r;
    double step = (double)rule->step;
    for (int g = 0; g < GROUPS; g++) {
        const GroupRule *of = &rule->group[g];
        AdamGroup *to = &r.group[g];
        to->beta1 = (float)of->beta1, to->beta2 = (float)of->beta2;
        to->one_beta1 = (float)(1 - of->beta1), to->one_beta2 = (float)(1 - of->beta2);
        to->rate = (float)(of->lr / (1 - pow(of->beta1, step)));
        to->v_scale = (float)(1 / sqrt(1 - pow(of->beta2, step)));
        to->eps = (float)of->eps, to->keep = (float)(1 - of->lr * of->weight_decay);
    }
    r.matrix_lr = (float)rule->group[GROUP_MATRIX].lr;
    r.matrix_decay = (float)(rule->group[GROUP_MATRIX].lr * rule->group[GROUP_MATRIX].weight_decay);
    r.grad_clip = (float)rule->grad_clip, r.max_loss = rule->max_loss, r.max_norm = rule->max_norm;
    r.step_low = (uint32_t)rule->step, r.step_high = (uint32_t)((uint64_t)rule->step >> 32);
    return r;
}

// Which elements the arrays of a rank hold. Arrays of own elements are numbered 0, 1, ... All tables are on the device;
// NULL: own elements stand where they stand among all.
typedef struct {
    const size_t *start;    // (segments + 1): the first own element of a segment,
    const size_t *element;  // (segments): where it stands among all elements,
    const size_t *gradient; // (segments): and among all gradients
    int segments;
    bool whole_gradients, whole_weights; // these arrays hold the other members' elements too
} Owned;

// The segment of own element i; its place, by one of the tables.
__device__ inline int owned_segment(const Owned &o, size_t i) {
    int low = 0, high = o.start ? o.segments : 0;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (o.start[middle] <= i) low = middle;
        else high = middle;
    }
    return low;
}
__device__ inline size_t owned_at(const Owned &o, const size_t *table, int segment, size_t i) {
    return o.start ? table[segment] + (i - o.start[segment]) : i;
}

enum {
    SQUARES_BLOCKS = 1024,
    SQUARES_THREADS = 256
}; // most thread blocks; constants: the order of the sum must not depend on the device

static __global__ void squares_kernel(double *partial, const float *g, size_t n, Owned owned) {
    __shared__ double sums[SQUARES_THREADS];
    double sum = 0;
    for (size_t i = ((size_t)blockIdx.x * SQUARES_THREADS + threadIdx.x) * 4; i < n;
         i += (size_t)gridDim.x * SQUARES_THREADS * 4) {
        size_t at = owned.whole_gradients ? owned_at(owned, owned.gradient, owned_segment(owned, i), i) : i;
        float4 v = *(const float4 *)(g + at);
        sum += (double)v.x * (double)v.x + (double)v.y * (double)v.y + (double)v.z * (double)v.z +
               (double)v.w * (double)v.w;
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = SQUARES_THREADS / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + (unsigned)half];
        __syncthreads();
    }
    if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

// *total: the sum of the partial sums of squares
static __global__ void add_squares_kernel(double *total, const double *partial, int parts) {
    __shared__ double part[SQUARES_THREADS];
    double sum = 0;
    for (int i = (int)threadIdx.x; i < parts; i += SQUARES_THREADS) sum += partial[i];
    part[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    sum = 0;
    for (int i = 0; i < SQUARES_THREADS; i++) sum += part[i];
    *total = sum;
}

// *to = *loss, which goes back to zero
static __global__ void take_loss_kernel(double *to, double *loss) {
    *to = *loss;
    *loss = 0;
}

// sums (ranks, 1 + parts): of every rank the loss and sums of squares; the first `group` own all elements together.
// Added part by part, so that no digit depends on who has a part alone.
static __global__ void decide_kernel(AdamResult *result, const double *sums, int parts, int ranks, int group,
                                     const AdamRule *rule) {
    double loss = 0, squares = 0;
    for (int r = 0; r < ranks; r++) loss += sums[(size_t)r * (size_t)(1 + parts)];
    for (int part = 1; part <= parts; part++)
        for (int r = 0; r < group; r++) squares += sums[(size_t)r * (size_t)(1 + parts) + (size_t)part];
    double norm = sqrt(squares);
    result->loss = loss;
    result->grad_norm = norm;
    result->updated = isfinite(norm) && isfinite(loss) && !(rule->max_loss > 0 && loss > rule->max_loss) &&
                      !(rule->max_norm > 0 && norm > rule->max_norm);
    result->finite = 1;
    result->clip =
        rule->grad_clip > 0 && norm > (double)rule->grad_clip ? (float)((double)rule->grad_clip / norm) : 1.0f;
}

// x rounded to bf16, up with the probability of its distance from below: random 16 bits are added to
// the 16 that go away. x is finite.
__device__ inline __nv_bfloat16 round_stochastic(float x, uint32_t random16) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits += random16 & 0xffffu;
    unsigned short high = (unsigned short)(bits >> 16);
    __nv_bfloat16 out;
    memcpy(&out, &high, 2);
    return out;
}
__device__ inline float round_stochastic_to(float *, float x, uint32_t) { return x; }
__device__ inline __nv_bfloat16 round_stochastic_to(__nv_bfloat16 *, float x, uint32_t random16) {
    return round_stochastic(x, random16);
}

// What is updated: own elements, but for w and g where `owned` says that they are all. n and all ranges are multiples
// of 64 and all arrays start on 16 bytes.
template <typename Real> struct ParamRun {
    Real *w;
    float *master; // NULL: w itself is rounded stochastically
    float *g, *state[STATE_KINDS];
    const unsigned char *groups; // (n / 64): parameter groups; GROUPS: Muon's
    const unsigned *second;      // (n / 64): where moment2 of 64 elements stands, in units of 64; NULL: like the others
    size_t n;
};

template <typename Real>
__global__ void adamw_kernel(ParamRun<Real> run, Owned owned, const AdamRule *rule, AdamResult *result) {
    const int P = PackOf<Real>::SIZE;
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * P;
    if (i >= run.n || !result->updated || run.groups[i / 64] >= GROUPS) return;
    int segment = owned_segment(owned, i);
    size_t at = owned_at(owned, owned.element, segment, i);
    float *g = run.g + (owned.whole_gradients ? owned_at(owned, owned.gradient, segment, i) : i),
          *m = run.state[STATE_moment1] + i,
          *v = run.state[STATE_moment2] + (run.second ? (size_t)run.second[i / 64] * 64 + i % 64 : i);
    Real *w = run.w + (owned.whole_weights ? at : i);
    AdamGroup r = rule->group[run.groups[i / 64]];
    float clip = result->clip;
    Real stored[P];
    float wi[P], mi[P], vi[P], gi[P],
        bad = 0; // NaN: a weight, before or after it is rounded, or a second moment is not finite
    if (run.master) load_pack(wi, run.master + i, 0, P, true);
    else load_pack(wi, w, 0, P, true);
    load_pack(mi, m, 0, P, true);
    load_pack(vi, v, 0, P, true);
    load_pack(gi, g, 0, P, true);
    for (int k = 0; k < P; k++) {
        float gk = gi[k] * clip;
        mi[k] = r.beta1 * mi[k] + r.one_beta1 * gk;
        vi[k] = r.beta2 * vi[k] + r.one_beta2 * gk * gk;
        wi[k] = wi[k] * r.keep - r.rate * mi[k] / (sqrtf(vi[k]) * r.v_scale + r.eps);
        bad += (wi[k] - wi[k]) + (vi[k] - vi[k]);
        gi[k] = 0;
    }
    store_pack(m, mi, 0, P, true);
    store_pack(v, vi, 0, P, true);
    store_pack(g, gi, 0, P, true);
    if (run.master) {
        store_pack(run.master + i, wi, 0, P, true);
        store_pack(w, wi, 0, P, true);
        for (int k = 0; k < P; k++) from_float(&stored[k], wi[k]);
    } else {
        Philox random = philox4x32((uint32_t)(at / P), (uint32_t)(at / P >> 32), rule->step_low, rule->step_high,
                                   0x726f756eu, 0x64696e67u);
        for (int k = 0; k < P; k++) stored[k] = round_stochastic_to(w, wi[k], random.x[k % 4] >> (k / 4 * 16));
        for (int k = 0; k < P; k++) w[k] = stored[k];
    }
    for (int k = 0; k < P; k++) bad += to_float(stored[k]) - to_float(stored[k]);
    if (bad != 0) result->finite = 0; // whichever thread comes first
}

// g (n) = 0, if there was an update: what other members own of it
static __global__ void clear_kernel(float *g, size_t n, const AdamResult *result) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i < n && result->updated) *(float4 *)(g + i) = make_float4(0, 0, 0, 0);
}

// total (n) += part (n), n a multiple of 64
static __global__ void add_gradients_kernel(float *total, const float *part, size_t n) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i >= n) return;
    float4 a = *(const float4 *)(total + i), b = *(const float4 *)(part + i);
    *(float4 *)(total + i) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// ---------------------------------------------------------------- launchers; all pointers are on the device

// *total = the sum of squares of n own gradients
static inline void gradient_squares(double *total, const float *g, size_t n, Owned owned, Device *d) {
    if (n % 64) fail("gradient_squares: %zu numbers are no multiple of 64", n);
    unsigned blocks = blocks_for(n, SQUARES_THREADS * 4);
    if (blocks > SQUARES_BLOCKS) blocks = SQUARES_BLOCKS;
    squares_kernel<<<blocks, SQUARES_THREADS, 0, d->stream>>>((double *)d->scratch, g, n, owned);
    add_squares_kernel<<<1, SQUARES_THREADS, 0, d->stream>>>(total, (const double *)d->scratch, (int)blocks);
    LAUNCH_CHECK();
}

// *to = this rank's loss, which goes back to zero
static inline void take_loss(double *to, double *loss, Device *d) {
    take_loss_kernel<<<1, 1, 0, d->stream>>>(to, loss);
    LAUNCH_CHECK();
}

// *result from the sums (ranks, 1 + parts) of all ranks and *rule
static inline void update_decide(AdamResult *result, const double *sums, int parts, int ranks, int group,
                                 const AdamRule *rule, Device *d) {
    decide_kernel<<<1, 1, 0, d->stream>>>(result, sums, parts, ranks, group, rule);
    LAUNCH_CHECK();
}

// The update, if *result says so; gradients of own elements go back to zero. Then *result says if what it made is
// finite.
template <typename Real>
static inline void adamw(ParamRun<Real> run, Owned owned, const AdamRule *rule, AdamResult *result, Device *d) {
    if (run.n % 64) fail("adamw: %zu numbers are no multiple of 64", run.n);
    unsigned blocks = blocks_for(run.n, 256 * PackOf<Real>::SIZE);
    adamw_kernel<Real><<<blocks, 256, 0, d->stream>>>(run, owned, rule, result);
    LAUNCH_CHECK();
}

static inline void clear_gradients(float *g, size_t n, const AdamResult *result, Device *d) {
    clear_kernel<<<blocks_for(n, 1024), 256, 0, d->stream>>>(g, n, result);
    LAUNCH_CHECK();
}

static inline void add_gradients(float *total, const float *part, size_t n, cudaStream_t stream) {
    add_gradients_kernel<<<blocks_for(n, 1024), 256, 0, stream>>>(total, part, n);
    LAUNCH_CHECK();
}

#endif
