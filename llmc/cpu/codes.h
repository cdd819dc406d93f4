/*
codes.h: the numbers of weights that are kept as codes (base/quantise.h), for the products.

pack.h asks for pieces of rows on their way into panels, gemm.h for a row where few rows of x are multiplied. These are
the numbers of coded_read, bit by bit; here a byte of nf4 is looked up as the two levels that it means.
*/
#ifndef LLMC_CPU_CODES_H
#define LLMC_CPU_CODES_H

#include "cpu.h"

// out (n) = scale x the levels of numbers first .. of a block, whose codes begin at `codes`. first is even, as is n but
// at the end of a matrix.
ALWAYS_INLINE void codes_nf4(real *out, const uint8_t *codes, float scale, size_t n, const QuantTables *t) {
    float levels[NF4_BLOCK + 1];
    for (size_t i = 0; i < n; i += 2) memcpy(levels + i, t->pairs[codes[i / 2]], sizeof t->pairs[0]);
    for (size_t i = 0; i < n; i++) out[i] = (real)(scale * levels[i]);
}

ALWAYS_INLINE void codes_q8(real *out, const uint8_t *q, float scale, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (real)(scale * (float)(int8_t)q[i]);
}

// out (n) = numbers first .. first + n - 1 of a part
static inline void codes_part(real *out, Quantised q, const QuantTables *t, size_t first, size_t n) {
    const uint8_t *codes = nf4_codes(q);
    size_t i = first, end = first + n;
    if (q.format == BASE_Q8) {
        for (size_t stop; i < end; out += stop - i, i = stop) {
            const uint8_t *block = q.bytes + i / Q8_BLOCK * Q8_BYTES;
            stop = i / Q8_BLOCK * Q8_BLOCK + Q8_BLOCK < end ? i / Q8_BLOCK * Q8_BLOCK + Q8_BLOCK : end;
            if (stop - i == Q8_BLOCK) codes_q8(out, block + 2, q8_scale(block), Q8_BLOCK);
            else codes_q8(out, block + 2 + i % Q8_BLOCK, q8_scale(block), stop - i);
        }
        return;
    }
    if (i % 2 && n) { // the second number of a byte
        *out++ = (real)(nf4_scale(q, t->map, i / NF4_BLOCK) * t->pairs[codes[i / 2]][1]);
        i++;
    }
    for (size_t stop; i < end; out += stop - i, i = stop) {
        float scale = nf4_scale(q, t->map, i / NF4_BLOCK);
        stop = i / NF4_BLOCK * NF4_BLOCK + NF4_BLOCK < end ? i / NF4_BLOCK * NF4_BLOCK + NF4_BLOCK : end;
        if (stop - i == NF4_BLOCK) codes_nf4(out, codes + i / 2, scale, NF4_BLOCK, t);
        else codes_nf4(out, codes + i / 2, scale, stop - i, t);
    }
}

// out (n) = numbers first .. first + n - 1 of a matrix
static inline void codes_read(real *out, const Coded *c, size_t first, size_t n) {
    for (int i = 0; i < c->count && n > 0; i++) {
        if (first >= c->start[i + 1]) continue;
        size_t here = c->start[i + 1] - first < n ? c->start[i + 1] - first : n;
        codes_part(out, c->parts[i], c->tables, first - c->start[i], here);
        first += here, out += here, n -= here;
    }
}

#endif
