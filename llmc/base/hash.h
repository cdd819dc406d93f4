/*
hash.h: checksums and identities of bytes.

    Sha256    SHA-256 (FIPS 180-4): the identity of a file or a document; 180 MB/s on Zen 4, and with the
              instructions that x86 has for it (SHA extensions) 780; Armv8's are used where the build has them
              (ARCH=armv8.2-a+crypto, or native)
    Xxh64     XXH64 (the xxHash specification, github.com/Cyan4973/xxHash, doc/xxhash_spec.md): the checksum
              of tokens in a shard; runs at memory speed, finds accidents, is no protection against intent
    fnv1a64   FNV-1a (Fowler, Noll, Vo), byte by byte: keys of small tables and hashes chained over parts

All of them give the same value however the bytes are cut into calls.
*/
#ifndef LLMC_HASH_H
#define LLMC_HASH_H

#include "file.h"
#if defined(__SHA__) && defined(__SSE4_1__) && !defined(__CUDACC__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_SHA2) && !defined(__CUDACC__)
#include <arm_neon.h>
#endif

// ---------------------------------------------------------------- SHA-256

typedef struct {
    uint32_t state[8];
    uint64_t bytes;    // given so far
    uint8_t block[64]; // the last bytes % 64 of them
} Sha256;

static inline uint32_t sha256_rotate(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static inline void sha256_init(Sha256 *s) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(s, 0, sizeof *s);
    memcpy(s->state, start, sizeof start);
}

static const uint32_t sha256_constants[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
                                              0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
                                              0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
                                              0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
                                              0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
                                              0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
                                              0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
                                              0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
                                              0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
                                              0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
                                              0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// Section 6.2.2 of FIPS 180-4 over whole blocks of 64 bytes; what the instructions below are tested against.
static inline void sha256_blocks_plain(Sha256 *s, const uint8_t *p, size_t blocks) {
    for (; blocks > 0; blocks--, p += 64) {
        uint32_t w[64];
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 | (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
        for (int t = 16; t < 64; t++) {
            uint32_t s0 = sha256_rotate(w[t - 15], 7) ^ sha256_rotate(w[t - 15], 18) ^ (w[t - 15] >> 3);
            uint32_t s1 = sha256_rotate(w[t - 2], 17) ^ sha256_rotate(w[t - 2], 19) ^ (w[t - 2] >> 10);
            w[t] = w[t - 16] + s0 + w[t - 7] + s1;
        }
        uint32_t a = s->state[0], b = s->state[1], c = s->state[2], d = s->state[3];
        uint32_t e = s->state[4], f = s->state[5], g = s->state[6], h = s->state[7];
        for (int t = 0; t < 64; t++) {
            uint32_t s1 = sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25);
            uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + sha256_constants[t] + w[t];
            uint32_t s0 = sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22);
            uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1;
            d = c, c = b, b = a, a = t1 + t2;
        }
        s->state[0] += a, s->state[1] += b, s->state[2] += c, s->state[3] += d;
        s->state[4] += e, s->state[5] += f, s->state[6] += g, s->state[7] += h;
    }
}

#if defined(__SHA__) && defined(__SSE4_1__) && !defined(__CUDACC__)
// The instructions keep the state in two registers, ABEF and CDGH, and do two rounds at a time (Intel, Software
// Developer's Manual, SHA256RNDS2).
static inline void sha256_blocks(Sha256 *s, const uint8_t *p, size_t blocks) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)&s->state[0]), 0xb1),
            high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)&s->state[4]), 0x1b);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);
    for (; blocks > 0; blocks--, p += 64) {
        __m128i w[4], abef_before = abef, cdgh_before = cdgh;
        for (int i = 0; i < 4; i++) w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), swap);
        for (int i = 0; i < 16; i++) {
            __m128i now = w[i & 3], next = w[(i + 1) & 3], third = w[(i + 2) & 3], last = w[(i + 3) & 3];
            __m128i sum = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)&sha256_constants[4 * i]));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            sum = _mm_add_epi32(_mm_sha256msg1_epu32(now, next), _mm_alignr_epi8(last, third, 4));
            w[i & 3] = _mm_sha256msg2_epu32(sum, last);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);
    high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)&s->state[0], _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)&s->state[4], _mm_alignr_epi8(high, low, 8));
}
#elif defined(__ARM_FEATURE_SHA2) && !defined(__CUDACC__)
// The same. SHA256H and SHA256H2 do four rounds, each on its half of the state; SHA256SU0 and SU1 make the four words
// of w that come 16 words later (Arm, Architecture Reference Manual for A-profile, C7.2).
static inline void sha256_blocks(Sha256 *s, const uint8_t *p, size_t blocks) {
    uint32x4_t abcd = vld1q_u32(&s->state[0]), efgh = vld1q_u32(&s->state[4]);
    for (; blocks > 0; blocks--, p += 64) {
        uint32x4_t w[4], abcd_before = abcd, efgh_before = efgh;
        for (int i = 0; i < 4; i++) w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
        for (int i = 0; i < 16; i++) {
            uint32x4_t now = w[i & 3], next = w[(i + 1) & 3], third = w[(i + 2) & 3], last = w[(i + 3) & 3];
            uint32x4_t sum = vaddq_u32(now, vld1q_u32(&sha256_constants[4 * i])), abcd_now = abcd;
            abcd = vsha256hq_u32(abcd, efgh, sum);
            efgh = vsha256h2q_u32(efgh, abcd_now, sum);
            w[i & 3] = vsha256su1q_u32(vsha256su0q_u32(now, next), third, last);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(&s->state[0], abcd);
    vst1q_u32(&s->state[4], efgh);
}
#else
static inline void sha256_blocks(Sha256 *s, const uint8_t *p, size_t blocks) { sha256_blocks_plain(s, p, blocks); }
#endif

static inline void sha256_update(Sha256 *s, const void *bytes, size_t n) {
    if (n == 0) return;
    const uint8_t *p = (const uint8_t *)bytes;
    size_t kept = (size_t)(s->bytes % 64);
    s->bytes += n;
    if (kept) {
        size_t take = 64 - kept < n ? 64 - kept : n;
        memcpy(s->block + kept, p, take);
        p += take, n -= take;
        if (kept + take < 64) return;
        sha256_blocks(s, s->block, 1);
    }
    sha256_blocks(s, p, n / 64);
    if (n % 64) memcpy(s->block, p + n / 64 * 64, n % 64);
}

static inline void sha256_final(uint8_t digest[32], Sha256 *s) {
    uint64_t bits = s->bytes * 8;
    uint8_t tail[72] = {0x80};
    size_t kept = (size_t)(s->bytes % 64), zeros = (kept < 56 ? 56 : 120) - kept;
    for (int i = 0; i < 8; i++) tail[zeros + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_update(s, tail, zeros + 8);
    for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

// 64 lowercase hexadecimal digits and a NUL.
static inline void sha256_hex(char hex[65], const uint8_t digest[32]) {
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[64] = 0;
}

static inline void sha256_text(char hex[65], const void *bytes, size_t n) {
    uint8_t digest[32];
    Sha256 s;
    sha256_init(&s);
    sha256_update(&s, bytes, n);
    sha256_final(digest, &s);
    sha256_hex(hex, digest);
}

// The SHA-256 of a whole file, as sha256sum(1) prints it. Read in pieces: an error of the disk is an error, and would
// be a SIGBUS behind a mapping.
static inline bool sha256_file(char hex[65], const char *path, Error *err) {
    FILE *f = file_open_read(path, err);
    if (!f) return false;
    size_t piece = (size_t)1 << 20, n;
    uint8_t *buffer = (uint8_t *)mem_alloc(piece), digest[32];
    Sha256 s;
    sha256_init(&s);
    while ((n = fread(buffer, 1, piece, f)) > 0) sha256_update(&s, buffer, n);
    bool ok = !ferror(f) ? true : error_set(err, "cannot read %s: %s", path, strerror(errno));
    fclose(f);
    free(buffer);
    sha256_final(digest, &s);
    sha256_hex(hex, digest);
    return ok;
}

// ---------------------------------------------------------------- XXH64

#define XXH64_PRIME_1 0x9E3779B185EBCA87ull
#define XXH64_PRIME_2 0xC2B2AE3D27D4EB4Full
#define XXH64_PRIME_3 0x165667B19E3779F9ull
#define XXH64_PRIME_4 0x85EBCA77C2B2AE63ull
#define XXH64_PRIME_5 0x27D4EB2F165667C5ull

typedef struct {
    uint64_t lane[4], seed;
    uint64_t bytes;    // given so far
    uint8_t block[32]; // the last bytes % 32 of them
} Xxh64;

static inline uint64_t xxh64_rotate(uint64_t x, int n) { return (x << n) | (x >> (64 - n)); }

static inline uint64_t xxh64_round(uint64_t lane, uint64_t word) {
    return xxh64_rotate(lane + word * XXH64_PRIME_2, 31) * XXH64_PRIME_1;
}

static inline void xxh64_init(Xxh64 *s, uint64_t seed) {
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->lane[0] = seed + XXH64_PRIME_1 + XXH64_PRIME_2;
    s->lane[1] = seed + XXH64_PRIME_2;
    s->lane[2] = seed;
    s->lane[3] = seed - XXH64_PRIME_1;
}

static inline void xxh64_blocks(Xxh64 *s, const uint8_t *p, size_t blocks) {
    uint64_t a = s->lane[0], b = s->lane[1], c = s->lane[2], d = s->lane[3], w[4];
    for (; blocks > 0; blocks--, p += 32) {
        memcpy(w, p, 32);
        a = xxh64_round(a, w[0]), b = xxh64_round(b, w[1]);
        c = xxh64_round(c, w[2]), d = xxh64_round(d, w[3]);
    }
    s->lane[0] = a, s->lane[1] = b, s->lane[2] = c, s->lane[3] = d;
}

static inline void xxh64_update(Xxh64 *s, const void *bytes, size_t n) {
    if (n == 0) return;
    const uint8_t *p = (const uint8_t *)bytes;
    size_t kept = (size_t)(s->bytes % 32);
    s->bytes += n;
    if (kept) {
        size_t take = 32 - kept < n ? 32 - kept : n;
        memcpy(s->block + kept, p, take);
        p += take, n -= take;
        if (kept + take < 32) return;
        xxh64_blocks(s, s->block, 1);
    }
    xxh64_blocks(s, p, n / 32);
    if (n % 32) memcpy(s->block, p + n / 32 * 32, n % 32);
}

// The value of everything given so far; more may follow.
static inline uint64_t xxh64_value(const Xxh64 *s) {
    uint64_t h = s->seed + XXH64_PRIME_5;
    if (s->bytes >= 32) {
        h = xxh64_rotate(s->lane[0], 1) + xxh64_rotate(s->lane[1], 7) + xxh64_rotate(s->lane[2], 12) +
            xxh64_rotate(s->lane[3], 18);
        for (int i = 0; i < 4; i++) h = (h ^ xxh64_round(0, s->lane[i])) * XXH64_PRIME_1 + XXH64_PRIME_4;
    }
    h += s->bytes;
    const uint8_t *p = s->block;
    size_t n = (size_t)(s->bytes % 32);
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = xxh64_rotate(h ^ xxh64_round(0, w), 27) * XXH64_PRIME_1 + XXH64_PRIME_4;
    }
    if (n >= 4) {
        uint32_t w;
        memcpy(&w, p, 4);
        h = xxh64_rotate(h ^ w * XXH64_PRIME_1, 23) * XXH64_PRIME_2 + XXH64_PRIME_3;
        n -= 4, p += 4;
    }
    for (; n > 0; n--, p++) h = xxh64_rotate(h ^ *p * XXH64_PRIME_5, 11) * XXH64_PRIME_1;
    h = (h ^ (h >> 33)) * XXH64_PRIME_2;
    h = (h ^ (h >> 29)) * XXH64_PRIME_3;
    return h ^ (h >> 32);
}

static inline uint64_t xxh64(const void *bytes, size_t n, uint64_t seed) {
    Xxh64 s;
    xxh64_init(&s, seed);
    xxh64_update(&s, bytes, n);
    return xxh64_value(&s);
}

// ---------------------------------------------------------------- FNV-1a

#define FNV1A64_START 0xcbf29ce484222325ull

// Chains: the value for "ab" is that for "b" started from that for "a"; begin with FNV1A64_START.
static inline uint64_t fnv1a64(const void *bytes, size_t n, uint64_t start) {
    const uint8_t *p = (const uint8_t *)bytes;
    for (size_t i = 0; i < n; i++) start = (start ^ p[i]) * 0x100000001b3ull;
    return start;
}

// ---------------------------------------------------------------- files that were written

// Names, sizes and XXH64 of files: of what was meant to be in them, not of what a disk gives back.
typedef struct {
    uint64_t bytes, sum;
} FileSum;

typedef struct {
    StrList names;
    FileSum *items; // (names.count)
    size_t capacity;
} FileSums;

static inline void file_sums_add(FileSums *s, const char *name, uint64_t bytes, uint64_t sum) {
    FileSum item = {bytes, sum};
    s->items = (FileSum *)mem_grow(s->items, &s->capacity, (size_t)s->names.count + 1, sizeof item);
    s->items[s->names.count] = item;
    str_list_add(&s->names, name);
}

static inline void file_sums_free(FileSums *s) {
    str_list_free(&s->names);
    free(s->items);
    memset(s, 0, sizeof *s);
}

// file_write_all() that notes the file; sums may be NULL.
static inline bool file_write_summed(FileSums *sums, const char *path, const void *bytes, size_t n, Error *err) {
    const char *slash = strrchr(path, '/');
    if (sums) file_sums_add(sums, slash ? slash + 1 : path, n, xxh64(bytes, n, 0));
    return file_write_all(path, bytes, n, err);
}

#endif
