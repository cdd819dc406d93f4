/*
half.h: conversions between float and the two 16-bit formats.

    bf16    bfloat16: the upper half of a float (8 bits of exponent, 7 of mantissa)
    f16     IEEE 754 binary16 (5 bits of exponent, 10 of mantissa)

To 16 bits: round to nearest, ties to even, as PyTorch, CUDA and the hardware instructions do; what
is too large becomes infinity; a NaN stays a NaN. From 16 bits: exact, subnormal numbers included.
Written without branches, so that loops over them become vector code on any machine.
*/
#ifndef LLMC_HALF_H
#define LLMC_HALF_H

#include "common.h"

HD static inline float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

HD static inline uint32_t bits_of_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float bf16_to_float(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

static inline uint16_t float_to_bf16(float x) {
    uint32_t bits = bits_of_float(x);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uint32_t nan = bits >> 16 | 0x40; // quiet; rounding could carry a NaN into infinity or into -0
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

HD static inline float f16_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, size = h & 0x7fff;
    uint32_t normal = (size << 13) + (112u << 23); // 112 = 127 - 15: the difference of the exponents' biases
    uint32_t special = normal + (112u << 23);      // infinity, NaN: exponent 255
    uint32_t tiny = bits_of_float((float)(int32_t)size * 0x1p-24f);
    return float_of_bits(sign | (size >= 0x7c00 ? special : size < 0x400 ? tiny : normal));
}

static inline uint16_t float_to_f16(float x) {
    uint32_t bits = bits_of_float(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    uint32_t normal = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13; // carries into infinity by itself
    // Below 2^-14 an addition of 0.5 puts the rounded result, in units of 2^-24, into the lowest bits.
    uint32_t tiny = bits_of_float(float_of_bits(size < 0x38800000 ? size : 0) + 0.5f) - 0x3f000000;
    uint32_t special = size > 0x7f800000 ? 0x7e00 | (size >> 13 & 0x3ff) : 0x7c00;
    return (uint16_t)(sign | (size >= 0x47800000 ? special : size < 0x38800000 ? tiny : normal));
}

#endif
