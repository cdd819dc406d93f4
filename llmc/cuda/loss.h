/*
loss.h: cross entropy of the softmax of logits, in nats, and its gradient in place.

A row of logits is read from memory once for maximum and sum together (online softmax: the sum is rescaled when the
maximum grows; Milakov and Gimelshein 2018, arXiv:1805.02867), and replaced by its gradient. For that it is either
kept in shared memory, or read again from the L2 cache: backwards, so that this begins with what was read last. Which
of the two is measured where the program runs (loss_choose); both give the same bits. Of a number in bf16 4 bytes pass
between L2 and a multiprocessor where it is kept, 6 where it is read again.

Two thread blocks of 1024 threads a multiprocessor keep 264 rows in flight on an H100; 528 rows of 100 KB, 53 MB, were
more than its L2 holds. Its 227 KB of shared memory hold two rows of up to 57,000 bf16 numbers, an A100's 163 KB two of
up to 41,000. The logits of a whole batch never exist: the caller works in chunks.

Bound by memory: 2 bytes in and 2 out a number leave an H100's multiprocessors 34 instructions for it.
So the loops go over whole packs and ask nothing of single numbers. A row may start anywhere: what lies
before the first and behind the last 16 aligned bytes in it is done by one thread a number.
*/
#ifndef LLMC_CUDA_LOSS_H
#define LLMC_CUDA_LOSS_H

#include "cuda.h"
#include "product.h"
#include "ptx.h"

// LOSS_AHEAD: packs that a thread has in flight on their way to shared memory.
enum { LOSS_MAX_THREADS = 1024, LOSS_AHEAD = 4, LOSS_ROUNDS = 5 };
// How a row comes to its gradient: read again, or kept; also read again because it is too large to keep, because the
// numbers differed, or because there were too few rows to find out.
typedef enum { LOSS_AGAIN, LOSS_KEPT, LOSS_LARGE, LOSS_DIFFERS, LOSS_FEW } LossWay;

// How exponentials are taken: bf16 logits, off by 2^-9, as 2^(x log2(e)), where one multiply-add gives the
// exponent (2 ulp); float ones, which are compared with the CPU's, as exp(x).
template <typename Real> struct LossUnit {
    static constexpr bool FAST = sizeof(Real) == 2;
    static constexpr float TO = FAST ? 1.4426950408889634f : 1.0f, BACK = FAST ? 0.6931471805599453f : 1.0f;
    __device__ static inline float power(float x) {
        if constexpr (FAST) return exp2_fast(x);
        else return expf(x);
    }
};

// Adds v to a sum of powers relative to the maximum m, both in units. A NaN among v, an infinite or (bf16) a maximum
// above 2e38 make the sum NaN, as inf - inf is one; the maximum itself never is: no number needs to be looked at for
// that.
template <typename Real, int P> __device__ inline void loss_add(float *m, float *sum, const float (&v)[P]) {
    typedef LossUnit<Real> Unit;
    float top = v[0], s = 0;
#pragma unroll
    for (int i = 1; i < P; i++) top = fmaxf(top, v[i]);
    top = fmaxf(*m, top * Unit::TO);
#pragma unroll
    for (int i = 0; i < P; i++) s += Unit::power(fmaf(v[i], Unit::TO, -top));
    *sum = fmaf(*sum, Unit::power(*m - top), s);
    *m = top;
}

// A thread block a row, P numbers a thread at once; the block's size is a multiple of 32. KEPT: in shared memory, where
// a thread reads what it brought itself.
template <typename Real, bool KEPT>
__global__ void __launch_bounds__(LOSS_MAX_THREADS, 2)
    cross_entropy_kernel(float *losses, Real *logits, const int32_t *targets, const float *weights, float dscale, int V,
                         int ld) {
    const int P = PackOf<Real>::SIZE;
    typedef LossUnit<Real> Unit;
    __shared__ float maxima[32], sums[32];
    extern __shared__ int4 loss_row_smem[]; // KEPT: (packs)
    int n = (int)blockIdx.x, thread = (int)threadIdx.x, step = (int)blockDim.x, target = targets[n];
    Real *x = logits + (size_t)n * (size_t)ld;
    // x = `before` numbers, `packs` of them, the rest. Thread i stands for the i-th number outside of packs.
    int before = min((int)(-(uintptr_t)x % 16 / sizeof(Real)), V), packs = (V - before) / P,
        behind = before + packs * P;
    int single = thread < before ? thread : thread - before + behind;
    int4 *body = (int4 *)(x + before), next, bits;
    float v[P], one[1] = {0};
    if (target < 0) {
        if (thread == 0) losses[n] = 0;
        if (dscale == 0) return;
        for (int p = thread; p < packs; p += step) body[p] = make_int4(0, 0, 0, 0);
        if (single < V) from_float(&x[single], 0.0f);
        for (int c = V + thread; c < ld; c += step) from_float(&x[c], 0.0f);
        return;
    }

    // 1. maximum and sum, while the next packs are in flight (prefetch)
    auto bring = [&](int p) {
        if (p < packs) cp_async_16(smem_address(loss_row_smem + p), body + p, true);
        cp_async_commit();
    };
    if (KEPT)
        for (int i = 0; i < LOSS_AHEAD; i++) bring(thread + i * step);
    else if (thread < packs) next = body[thread];
    float wanted = to_float(x[target]), m = -1e38f /* finite: inf - inf is for inputs alone */, sum = 0;
    if (single < V) {
        one[0] = to_float(x[single]);
        loss_add<Real>(&m, &sum, one);
    }
#pragma unroll 1
    for (int p = thread; p < packs; p += step) {
        if (KEPT) {
            bring(p + LOSS_AHEAD * step);
            cp_async_wait<LOSS_AHEAD>();
            bits = loss_row_smem[p];
        } else {
            bits = next;
            if (p + step < packs) next = body[p + step];
        }
        load_pack(v, (const Real *)&bits, 0, P, true);
        loss_add<Real>(&m, &sum, v);
    }
    float top = warp_max(m);
    sum = warp_sum(sum * Unit::power(m - top));
    if (thread % 32 == 0) {
        maxima[thread / 32] = top;
        sums[thread / 32] = sum;
    }
    __syncthreads();
    int lane = thread % 32; // of every warp: for the row's warp of that number
    m = lane < step / 32 ? maxima[lane] : -1e38f;
    top = warp_max(m);
    sum = warp_sum(lane < step / 32 ? sums[lane] * Unit::power(m - top) : 0.0f);
    wanted = fmaf(wanted, Unit::TO, -top);
    if (thread == 0) losses[n] = logf(sum) - wanted * Unit::BACK;
    if (dscale == 0) return;
    if (weights) dscale = weights[n];

    // 2. the gradient, from the end
    float scale = dscale / sum;
    int p = thread + (packs - 1 - thread) / step * step;
    if (thread < packs) {
        if (!KEPT) next = body[p];
#pragma unroll 1
        for (; p >= 0; p -= step) {
            bits = KEPT ? loss_row_smem[p] : next;
            if (!KEPT && p >= step) next = body[p - step];
            load_pack(v, (const Real *)&bits, 0, P, true);
#pragma unroll
            for (int i = 0; i < P; i++) v[i] = Unit::power(fmaf(v[i], Unit::TO, -top)) * scale;
            store_pack((Real *)&bits, v, 0, P, true);
            body[p] = bits;
        }
    }
    if (single < V) from_float(&x[single], Unit::power(fmaf(one[0], Unit::TO, -top)) * scale);
    for (int c = V + thread; c < ld; c += step) from_float(&x[c], 0.0f);
    __syncthreads(); // the target's number is replaced once more
    if (thread == 0) from_float(&x[target], Unit::power(wanted) * scale - dscale);
}

// Of a row that is kept.
template <typename Real> static inline size_t loss_row_bytes(int V) {
    return (size_t)(V / (int)PackOf<Real>::SIZE) * 16;
}
#define LOSS_STATIC_BYTES 256 // of the kernel

// losses (N). logits (N, V), rows ld >= V apart: in logits, out dlogits = (softmax - onehot) * dscale, and zeros in the
// columns from V on, whatever was there; left as they are when dscale == 0. targets (N) on the device: in [0, V), or
// -1: ignored, loss 0 and gradient 0. weights (N) on the device: a row's own dscale; NULL: all have the same. A row
// with a NaN, +inf or nothing above -1e38 has a loss that is not finite.
template <typename Real>
static inline void cross_entropy(float *losses, Real *logits, const int32_t *targets, const float *weights,
                                 float dscale, int N, int V, int ld, Device *d) {
    const int P = PackOf<Real>::SIZE;
    int packs = V / P + 1, threads = packs < LOSS_MAX_THREADS ? (packs + 31) / 32 * 32 : LOSS_MAX_THREADS;
    bool kept = d->loss_way == LOSS_KEPT && dscale != 0; // a loss alone reads once
    size_t shared = kept ? loss_row_bytes<Real>(V) : 0;
    auto kernel = kept ? cross_entropy_kernel<Real, true> : cross_entropy_kernel<Real, false>;
    device_shared(kernel, shared);
    kernel<<<blocks_for((size_t)N, 1), (unsigned)threads, shared, d->stream>>>(losses, logits, targets, weights, dscale,
                                                                               V, ld);
    LAUNCH_CHECK();
}

// Chooses between a row that is kept and one that is read again, by their times, where both give the same numbers, on
// the first N / 2 rows of logits (N, ld), all finite; logits and losses (N) are used up. Of equal times the kept row's.
template <typename Real>
static inline void loss_choose(float *losses, Real *logits, const int32_t *targets, int N, int V, int ld, Device *d) {
    int rows = N / 2;
    size_t n = (size_t)rows * (size_t)ld;
    float best[2] = {0, 0};
    bool large = loss_row_bytes<Real>(V) + LOSS_STATIC_BYTES > d->shared;
    if (large || rows == 0) {
        d->loss_way = large ? LOSS_LARGE : LOSS_FEW;
        return;
    }
    CUDA_CHECK(cudaMemcpyAsync(logits + n, logits, sizeof(Real) * n, cudaMemcpyDeviceToDevice, d->stream));
    for (int way = LOSS_AGAIN; way <= LOSS_KEPT; way++) {
        d->loss_way = way;
        cross_entropy<Real>(losses + rows * way, logits + n * (size_t)way, targets, NULL, 1.0f, rows, V, ld, d);
    }
    bool same = !differs(logits, logits + n, n, d) && !differs(losses, losses + rows, (size_t)rows, d);
    for (int round = 0; round < LOSS_ROUNDS; round++)
        for (int way = LOSS_AGAIN; way <= LOSS_KEPT; way++) {
            d->loss_way = way;
            float ms =
                device_time(d, 1, [&]() { cross_entropy<Real>(losses, logits, targets, NULL, 1.0f, rows, V, ld, d); });
            if (round == 0 || ms < best[way]) best[way] = ms;
        }
    d->loss_way = !same ? LOSS_DIFFERS : best[LOSS_KEPT] <= best[LOSS_AGAIN] ? LOSS_KEPT : LOSS_AGAIN;
}

// Appends what was chosen.
static inline void loss_describe(Str *s, const Device *d) {
    static const char *const ways[] = {"reads logits twice (faster)", "keeps logits in shared memory (faster)",
                                       "reads logits twice (rows are too large to keep)",
                                       "reads logits twice (numbers of kept rows differ)",
                                       "reads logits twice (not measured)"};
    str_printf(s, ", the loss %s", ways[d->loss_way]);
}

static __global__ void sum_losses_kernel(double *total, const float *losses, int N) {
    __shared__ double sums[256];
    double sum = 0;
    for (int n = (int)threadIdx.x; n < N; n += 256) sum += (double)losses[n];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    sum = 0;
    for (int i = 0; i < 256; i++) sum += sums[i];
    *total += sum;
}

// *total += the sum of losses (N), in double; total on the device
static inline void sum_losses(double *total, const float *losses, int N, Device *d) {
    sum_losses_kernel<<<1, 256, 0, d->stream>>>(total, losses, N);
    LAUNCH_CHECK();
}

#endif
