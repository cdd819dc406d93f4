/*
quantise.h: matrices as codes of 4 or 8 bits: what --base keeps of frozen weights.

    nf4   NormalFloat of 4 bits with double quantisation (QLoRA, Dettmers et al. 2023, arXiv:2305.14314), as
          bitsandbytes stores it. Blocks of 64 numbers, row after row of a matrix: each number, over the largest of its
          block, becomes the nearest of 16 levels. The largest ones (absmax), less their mean, are quantised in turn, in
          groups of 256, to the nearest of 256 levels (the signed dynamic map of 8 bits). 4.127 bits a number.
    q8    GGUF's Q8_0: blocks of 32 numbers of a row, a scale in f16 and 32 int8. 8.5 bits a number.

Defines
  Quantised                     a matrix of codes
  quant_bytes                   what it takes
  quant_tables                  the levels, made once
  quant_numbers, quant_finish   numbers -> codes, in pieces
  quant_read                    codes -> numbers
  Coded                         a matrix of weights whose parts are tensors of their own in folders

Rounding of nf4 is that of bitsandbytes 0.50: of its code for any device (backends/default), which its CUDA kernels
follow but for what lies within a rounding of the middle between two levels. Its library for CPUs looks the largest
ones up in a table of 65,536 steps, and is off by a level now and then. Their mean is a sum in double, rounded once;
PyTorch's sum hangs on its threads and device, and differs in the last digits. The 256 levels are those that PyTorch
makes on a CPU with AVX2, rounding by rounding. No code depends on the compiler's contraction of sums and products.

From codes to numbers: level x largest, each product and sum rounded to float, as in bitsandbytes.
*/
#ifndef LLMC_QUANTISE_H
#define LLMC_QUANTISE_H

#include "half.h"
#include "threads.h"
#include <math.h>

#define BASES(X) X(BASE_FULL, "full") X(BASE_NF4, "nf4") X(BASE_Q8, "q8")
typedef enum { BASES(CHOICE_ENUM) } Base;

static inline const char *base_name(int base) {
    static const char *const names[] = {BASES(CHOICE_NAME)};
    return names[base];
}

enum {
    NF4_BLOCK = 64,
    NF4_GROUP = 256,
    NF4_LEVELS = 16,
    NF4_MAP = 256,
    Q8_BLOCK = 32,
    Q8_BYTES = 34 // of a block: the scale in f16, then the numbers as int8
};

// count numbers in quant_bytes:
//   nf4   float (1 + groups): the mean of the blocks' largest, then the largest difference to it of each group
//         uint8 (ceil(count / 2)): two codes, the first in the upper four bits
//         uint8 (blocks): levels of the blocks' largest
//   q8    blocks
typedef struct {
    int format; // Base
    size_t count;
    uint8_t *bytes;
} Quantised;

HD static inline size_t nf4_blocks(size_t count) { return (count + NF4_BLOCK - 1) / NF4_BLOCK; }
HD static inline size_t nf4_groups(size_t count) { return (nf4_blocks(count) + NF4_GROUP - 1) / NF4_GROUP; }
HD static inline float *nf4_scales(Quantised q) { return (float *)(void *)q.bytes; }
HD static inline uint8_t *nf4_codes(Quantised q) { return q.bytes + sizeof(float) * (1 + nf4_groups(q.count)); }
HD static inline uint8_t *nf4_largest(Quantised q) { return nf4_codes(q) + (q.count + 1) / 2; }

static inline size_t quant_block(int format) { return format == BASE_NF4 ? NF4_BLOCK : Q8_BLOCK; }

static inline size_t quant_bytes(int format, size_t count) {
    if (format == BASE_Q8) return (count + Q8_BLOCK - 1) / Q8_BLOCK * Q8_BYTES;
    return sizeof(float) * (1 + nf4_groups(count)) + (count + 1) / 2 + nf4_blocks(count);
}

// ---------------------------------------------------------------- levels

// Source: bitsandbytes/functional.py, get_4bit_type.
static inline float nf4_level(int code) {
    static const float levels[NF4_LEVELS] = {-1.0f,
                                             -0.6961928009986877f,
                                             -0.5250730514526367f,
                                             -0.39491748809814453f,
                                             -0.28444138169288635f,
                                             -0.18477343022823334f,
                                             -0.09105003625154495f,
                                             0.0f,
                                             0.07958029955625534f,
                                             0.16093020141124725f,
                                             0.24611230194568634f,
                                             0.33791524171829224f,
                                             0.44070982933044434f,
                                             0.5626170039176941f,
                                             0.7229568362236023f,
                                             1.0f};
    return levels[code];
}

typedef struct {
    float map[NF4_MAP];     // the levels of 8 bits, rising
    float pairs[256][2];    // the levels of 4 bits that a byte means
    float map_end[NF4_MAP]; // up to where a number belongs to a level; the last one's is infinity
    float end[NF4_LEVELS];  // likewise, of 4 bits
} QuantTables;

// Boundary number j of n equal parts of [0.1, 1], as PyTorch's linspace makes it: from the nearer end, rounded once.
static inline float nf4_boundary(int j, int n) {
    float width = 1.0f - 0.1f, step = width / (float)n;
    double from_end = 1.0 - (double)step * (n - j), from_start = (double)0.1f + (double)step * j;
    return (float)(j < (n + 1) / 2 ? from_start : from_end);
}

// The dynamic map (Dettmers 2015, arXiv:1511.04561): of each power of ten from 1e-6 to 1 twice as many levels as of the
// one before, the middles of equal parts; both signs, 0 and 1.
static inline void quant_tables(QuantTables *t) {
    static const float powers[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
    int above = NF4_MAP / 2;
    t->map[127] = 0, t->map[NF4_MAP - 1] = 1;
    for (int i = 0; i < 7; i++)
        for (int j = 0, n = 1 << i; j < n; j++, above++) {
            float middle = (nf4_boundary(j, n) + nf4_boundary(j + 1, n)) / 2.0f, level = middle * powers[i];
            t->map[above] = level, t->map[254 - above] = -level;
        }
    for (int i = 0; i < NF4_MAP; i++) t->map_end[i] = i < 255 ? (t->map[i] + t->map[i + 1]) / 2.0f : (float)INFINITY;
    for (int i = 0; i < NF4_LEVELS; i++)
        t->end[i] = i < 15 ? (nf4_level(i) + nf4_level(i + 1)) / 2.0f : (float)INFINITY;
    for (int i = 0; i < 256; i++) t->pairs[i][0] = nf4_level(i >> 4), t->pairs[i][1] = nf4_level(i & 15);
}

// ---------------------------------------------------------------- numbers -> codes

// Of n numbers, by size.
static inline float quant_largest(const float *x, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

// x over the largest of its block: by its reciprocal in whole blocks, divided in the one at the end.
static inline float quant_share(float x, float largest, float inverse, bool whole) {
    float share = whole ? x * inverse : x / (largest > 1e-38f ? largest : 1e-38f);
    return share > 1 ? 1 : share < -1 ? -1 : share;
}

// Whole bytes: the blocks begin at even numbers.
static inline void nf4_encode(uint8_t *codes, const float *x, size_t n, float largest, const QuantTables *t) {
    float inverse = 1.0f / (largest > 1e-38f ? largest : 1e-38f);
    uint8_t code[NF4_BLOCK + 1];
    for (size_t i = 0; i < n; i++) {
        float share = quant_share(x[i], largest, inverse, n == NF4_BLOCK);
        int level = 0;
        for (int k = 0; k < NF4_LEVELS - 1; k++) level += share > t->end[k];
        code[i] = (uint8_t)level;
    }
    if (n % 2) code[n] = 7; // bitsandbytes' zero behind an odd end
    for (size_t i = 0; i < n; i += 2) codes[i / 2] = (uint8_t)(code[i] << 4 | code[i + 1]);
}

// Blocks of 32 numbers d q, d: the largest / 127 as f16. False if a number is not finite or d is too large for f16; the
// block is infinite then.
static inline bool q8_encode(uint8_t *out, const float *x, size_t n) {
    bool finite = true;
    for (; n > 0; n -= Q8_BLOCK, x += Q8_BLOCK, out += Q8_BYTES) {
        float sum = 0, d = quant_largest(x, Q8_BLOCK) / 127.0f, inverse = d > 0 ? 1.0f / d : 0.0f;
        for (int i = 0; i < Q8_BLOCK; i++) sum += x[i] - x[i]; // NaN if one is not finite
        uint16_t h = float_to_f16(d);
        // Below 2^-128 the inverse would be infinite; such a block is zero in any case, as d is in f16.
        if (!isfinite(inverse)) inverse = 0;
        bool fits = sum == 0 && (h & 0x7c00) != 0x7c00;
        if (!fits) h = 0x7c00, finite = false;
        memcpy(out, &h, 2);
        for (int i = 0; i < Q8_BLOCK; i++) out[2 + i] = fits ? (uint8_t)(int8_t)roundf(x[i] * inverse) : 1;
    }
    return finite;
}

#define QUANT_EACH ((size_t)1 << 16) // numbers of a thread at a time, whole blocks

typedef struct {
    Quantised q;
    float *largest;
    size_t first, count;
    const float *x;
    const QuantTables *tables;
} QuantJob;

static inline void quant_part(void *job, int64_t part) {
    const QuantJob *j = (const QuantJob *)job;
    size_t at = (size_t)part * QUANT_EACH, end = at + QUANT_EACH < j->count ? at + QUANT_EACH : j->count;
    if (j->q.format == BASE_Q8) {
        q8_encode(j->q.bytes + (j->first + at) / Q8_BLOCK * Q8_BYTES, j->x + at, end - at);
        return;
    }
    for (; at < end; at += NF4_BLOCK) {
        size_t n = end - at < (size_t)NF4_BLOCK ? end - at : (size_t)NF4_BLOCK, block = (j->first + at) / NF4_BLOCK;
        j->largest[block] = quant_largest(j->x + at, n);
        if (n < NF4_BLOCK && j->largest[block] < 1e-38f) j->largest[block] = 1e-38f;
        nf4_encode(nf4_codes(j->q) + (j->first + at) / 2, j->x + at, n, j->largest[block], j->tables);
    }
}

// Numbers first .. first + n - 1, finite; first is that of a block, and so is the end, or it is the matrix's. q8: a
// multiple of 32. largest (nf4_blocks): gets those of the blocks, for quant_finish. threads: at most, 0: all.
static inline void quant_numbers(Quantised q, float *largest, size_t first, const float *x, size_t n,
                                 const QuantTables *t, int threads) {
    QuantJob job = {q, largest, first, n, x, t};
    threads_for((int64_t)((n + QUANT_EACH - 1) / QUANT_EACH), threads, quant_part, &job);
}

// The level of 8 bits that a number between -1 and 1 belongs to.
static inline uint8_t nf4_map_level(float x, const QuantTables *t) {
    int low = 0;
    for (int step = NF4_MAP / 2; step > 0; step /= 2)
        if (x > t->map_end[low + step - 1]) low += step;
    return (uint8_t)low;
}

// After the last of its numbers: the largest ones become codes themselves. They are changed.
static inline void quant_finish(Quantised q, float *largest, const QuantTables *t) {
    size_t blocks = nf4_blocks(q.count);
    double sum = 0;
    if (q.format != BASE_NF4) return;
    for (size_t i = 0; i < blocks; i++) sum += (double)largest[i];
    float mean = (float)(sum / (double)blocks), *scales = nf4_scales(q);
    uint8_t *levels = nf4_largest(q);
    scales[0] = mean;
    for (size_t first = 0; first < blocks; first += NF4_GROUP) {
        size_t n = blocks - first < (size_t)NF4_GROUP ? blocks - first : (size_t)NF4_GROUP;
        float *x = largest + first;
        for (size_t i = 0; i < n; i++) x[i] -= mean;
        float most = quant_largest(x, n), inverse = 1.0f / (most > 1e-38f ? most : 1e-38f);
        scales[1 + first / NF4_GROUP] = n < NF4_GROUP && most < 1e-38f ? 1e-38f : most;
        for (size_t i = 0; i < n; i++)
            levels[first + i] = nf4_map_level(quant_share(x[i], most, inverse, n == NF4_GROUP), t);
    }
}

// ---------------------------------------------------------------- codes -> numbers

// The largest of a block. map (NF4_MAP)
HD static inline float nf4_scale(Quantised q, const float *map, size_t block) {
    const float *scales = nf4_scales(q);
    float level = map[nf4_largest(q)[block]], group = scales[1 + block / NF4_GROUP];
#ifdef __CUDA_ARCH__
    return __fadd_rn(__fmul_rn(level, group), scales[0]);
#else
    volatile float product = level * group; // so that no compiler makes one operation of it and the sum
    return product + scales[0];
#endif
}

HD static inline float q8_scale(const uint8_t *block) {
    uint16_t h;
    memcpy(&h, block, 2);
    return f16_to_float(h);
}

// out (n) = numbers first .. first + n - 1
static inline void quant_read(float *out, Quantised q, const QuantTables *t, size_t first, size_t n) {
    size_t block = quant_block(q.format);
    for (size_t i = first, end = first + n; i < end;) {
        size_t stop = (i / block + 1) * block < end ? (i / block + 1) * block : end;
        const uint8_t *q8 = q.bytes + i / Q8_BLOCK * Q8_BYTES, *codes = nf4_codes(q);
        float scale = q.format == BASE_Q8 ? q8_scale(q8) : nf4_scale(q, t->map, i / NF4_BLOCK);
        for (; i < stop; i++)
            *out++ =
                scale * (q.format == BASE_Q8 ? (float)(int8_t)q8[2 + i % Q8_BLOCK] : t->pairs[codes[i / 2]][i % 2]);
    }
}

// ---------------------------------------------------------------- matrices of weights

// A parameter's matrix as codes; each part is a tensor of its own in folders (queries, keys, values; gate, up).
typedef struct {
    Quantised parts[3];
    size_t start[4]; // the first number of each part, and the end of the last
    int count;
    const QuantTables *tables;
} Coded;

// Bytes of its parts, each from a multiple of 64 on.
static inline size_t coded_bytes(const Coded *c) {
    size_t bytes = 0;
    for (int i = 0; i < c->count; i++) bytes += (quant_bytes(c->parts[i].format, c->parts[i].count) + 63) / 64 * 64;
    return bytes;
}

// Where the parts lie, from `bytes` on.
static inline void coded_place(Coded *c, uint8_t *bytes) {
    for (int i = 0; i < c->count; i++) {
        c->parts[i].bytes = bytes;
        bytes += (quant_bytes(c->parts[i].format, c->parts[i].count) + 63) / 64 * 64;
    }
}

// Numbers on their way into codes: a part at a time, from its first number to its last.
typedef struct {
    float *largest; // (nf4_blocks of the largest part)
    uint8_t *bytes; // where the codes of the part are made; NULL: in their place
    size_t seen;    // numbers of the part so far
} CodedFill;

// Takes numbers first .. of the matrix, up to n of them, up to the end of a part. Returns how many; *done: the part
// that is complete now, or -1.
static inline size_t coded_take(CodedFill *f, const Coded *c, size_t first, const float *x, size_t n, int *done) {
    int i = 0;
    while (first >= c->start[i + 1]) i++;
    Quantised q = c->parts[i];
    size_t at = first - c->start[i], taken = c->start[i + 1] - first < n ? c->start[i + 1] - first : n;
    if (f->bytes) q.bytes = f->bytes;
    if (at != f->seen || (at + taken < q.count && (at + taken) % quant_block(q.format)))
        fail("a matrix becomes codes from number %zu on, expected %zu, in whole blocks", at, f->seen);
    quant_numbers(q, f->largest, at, x, taken, c->tables, 0);
    f->seen = at + taken < q.count ? at + taken : 0;
    if (!f->seen) quant_finish(q, f->largest, c->tables);
    *done = f->seen ? -1 : i;
    return taken;
}

// out (n) = numbers first .. first + n - 1
static inline void coded_read(float *out, const Coded *c, size_t first, size_t n) {
    for (int i = 0; i < c->count; i++) {
        size_t from = first > c->start[i] ? first : c->start[i],
               end = first + n < c->start[i + 1] ? first + n : c->start[i + 1];
        if (from < end) quant_read(out + (from - first), c->parts[i], c->tables, from - c->start[i], end - from);
    }
}

#endif
