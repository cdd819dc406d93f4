/*
prefix.h: keys and values of text that several sequences begin with: computed once, and joined with those of what
follows in each. Copies only, so that attention reads the same numbers as without.
*/
#ifndef LLMC_CUDA_PREFIX_H
#define LLMC_CUDA_PREFIX_H

#include "attention_plain.h"
#include "cuda.h"

// kept (2, N, NK) = keys and values of N rows
template <typename Real> static inline void prefix_keep(Real *kept, Heads<Real> h, int N, int NK, Device *d) {
    Rows<Real> both[] = {h.k, h.v};
    size_t row = sizeof(Real) * (size_t)NK;
    for (Rows<Real> from : both) {
        CUDA_CHECK(cudaMemcpy2DAsync(kept, row, from.at, sizeof(Real) * (size_t)from.ld, row, (size_t)N,
                                     cudaMemcpyDeviceToDevice, d->stream));
        kept += (size_t)N * (size_t)NK;
    }
}

// A thread for each number.
template <typename Real>
__global__ void prefix_join_kernel(Real *joined, const Real *kept, Heads<Real> h, const int32_t *row_of,
                                   PrefixShape s) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, NK = (size_t)s.NK, all = (size_t)(s.P + s.T);
    if (i >= 2 * (size_t)s.B * all * NK) return;
    size_t column = i % NK, t = i / NK % all, b = i / NK / all % (size_t)s.B, which = i / NK / all / (size_t)s.B;
    Rows<Real> own = which ? h.v : h.k;
    if (t < (size_t)s.P) joined[i] = kept[((which * (size_t)s.G + (size_t)row_of[b]) * (size_t)s.P + t) * NK + column];
    else joined[i] = own.at[(b * (size_t)s.T + t - (size_t)s.P) * (size_t)own.ld + column];
}

// joined (2, B, P + T, NK): of row b the P keys and values of prefix row_of[b], then its own T. kept (2, G, P, NK);
// row_of on the device.
template <typename Real>
static inline void prefix_join(Real *joined, const Real *kept, Heads<Real> h, const int32_t *row_of, PrefixShape s,
                               Device *d) {
    size_t n = 2 * (size_t)s.B * (size_t)(s.P + s.T) * (size_t)s.NK;
    prefix_join_kernel<Real><<<blocks_for(n, 256), 256, 0, d->stream>>>(joined, kept, h, row_of, s);
    LAUNCH_CHECK();
}

#endif
