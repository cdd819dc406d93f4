/*
rng.h: counter-based random numbers, Philox4x32-10.

A random number here is a function of (seed, stream, index) and of nothing else: no state is carried
along, so any thread, rank or device that asks for the same index gets the same bits, and resuming
needs no saved generator. A stream is named by text (a tensor's name, "sample", ...).

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
The test in dev/test holds the known answers of the authors' Random123 distribution.
*/
#ifndef LLMC_RNG_H
#define LLMC_RNG_H

#include "hash.h"
#include <math.h>

typedef struct {
    uint32_t x[4];
} Philox;

// 128 random bits, one block of the cipher (four uint32). counter: 128 bits, key: 64 bits.
HD static inline Philox philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Philox r = {{c0, c1, c2, c3}};
    return r;
}

// A named, seeded sequence. Streams of different names share nothing.
typedef struct {
    uint32_t key[2];  // from the seed
    uint32_t name[2]; // from the name
} RngStream;

static inline RngStream rng_stream(uint64_t seed, const char *name) {
    uint64_t h = fnv1a64(name, strlen(name), FNV1A64_START);
    RngStream s = {{(uint32_t)seed, (uint32_t)(seed >> 32)}, {(uint32_t)h, (uint32_t)(h >> 32)}};
    return s;
}

HD static inline Philox rng_draw(RngStream s, uint64_t index) {
    return philox4x32((uint32_t)index, (uint32_t)(index >> 32), s.name[0], s.name[1], s.key[0], s.key[1]);
}

// Uniform in [0, 1), 24 bits: every value is a float exactly.
HD static inline float rng_uniform_bits(uint32_t bits) { return (float)(bits >> 8) * (1.0f / 16777216.0f); }
HD static inline float rng_uniform(RngStream s, uint64_t index) { return rng_uniform_bits(rng_draw(s, index).x[0]); }

// Standard normal number `index` of the stream (Box and Muller 1958). One draw gives four of them;
// computed in double, so that compilers and vector widths do not change the float it rounds to.
static inline void rng_normal4(RngStream s, uint64_t draw, float out[4]) {
    Philox r = rng_draw(s, draw);
    for (int i = 0; i < 2; i++) {
        double u = ((double)r.x[2 * i] + 0.5) * (1.0 / 4294967296.0);
        double a = (double)r.x[2 * i + 1] * (6.283185307179586476925 / 4294967296.0);
        double radius = sqrt(-2.0 * log(u));
        out[2 * i] = (float)(radius * cos(a));
        out[2 * i + 1] = (float)(radius * sin(a));
    }
}

#endif
