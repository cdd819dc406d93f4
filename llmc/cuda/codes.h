/*
codes.h: weights that are kept as codes (base/quantise.h) become numbers in front of a product, as in llmc/cpu/codes.h.

codes_decode writes a matrix into memory that all layers share, in the type of the products; what that reads and writes
is little beside the product. A thread has eight numbers of one block, one access in bf16. They are those of coded_read,
rounded to the type.
*/
#ifndef LLMC_CUDA_CODES_H
#define LLMC_CUDA_CODES_H

#include "../base/quantise.h"
#include "cuda.h"

enum { CODES_EACH = 8, CODES_THREADS = 256 };

// out (q.count)
template <typename Real> __global__ void codes_kernel(Real *out, Quantised q, const QuantTables *t) {
    size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * CODES_EACH;
    if (i >= q.count) return;
    float v[CODES_EACH], scale;
    int left = q.count - i < CODES_EACH ? (int)(q.count - i) : (int)CODES_EACH;
    if (q.format == BASE_NF4) {
        const uint8_t *codes = nf4_codes(q) + i / 2;
        scale = nf4_scale(q, t->map, i / NF4_BLOCK);
        for (int k = 0; k < CODES_EACH; k++) v[k] = k < left ? scale * t->pairs[codes[k / 2]][k % 2] : 0.0f;
    } else {
        const uint8_t *block = q.bytes + i / Q8_BLOCK * Q8_BYTES;
        scale = q8_scale(block);
        for (int k = 0; k < CODES_EACH; k++)
            v[k] = k < left ? scale * (float)(int8_t)block[2 + i % Q8_BLOCK + k] : 0.0f;
    }
    store_pack(out + i, v, 0, left, left == CODES_EACH && (size_t)(out + i) % 16 == 0);
}

// out (start[count]) = all numbers of a matrix; its parts and tables lie on the device
template <typename Real> static inline void codes_decode(Real *out, const Coded *c, Device *d) {
    for (int i = 0; i < c->count; i++) {
        size_t threads = (c->parts[i].count + CODES_EACH - 1) / CODES_EACH;
        codes_kernel<Real><<<blocks_for(threads, CODES_THREADS), CODES_THREADS, 0, d->stream>>>(out + c->start[i],
                                                                                                c->parts[i], c->tables);
        LAUNCH_CHECK();
    }
}

#endif
