/*
amx_test.h: the tile unit. Its emulation against the manual's order of sums, written out number by number; packing; the
linear layers on it; where this CPU has the unit, the same bits from both.
*/
#ifndef AMX_TEST_H
#define AMX_TEST_H

#include "kernels_test.h"

#ifdef REAL_DOUBLE
static void test_amx(void) {} // tiles are of bf16
#else

static uint32_t amx_bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static float amx_float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static float amx_plain_flush(float x) { return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x; }

// One sum of TDPBF16PS, from the manual's text: pairs of a row (n) and of a column, and what is there.
static float amx_plain_sum(float sum, const uint32_t *row, const uint32_t *column, int n) {
    float even = 0, odd = 0;
    for (int k = 0; k < n; k++) {
        even = amx_plain_flush(
            fmaf(amx_plain_flush(amx_float_of(row[k] << 16)), amx_plain_flush(amx_float_of(column[k] << 16)), even));
        odd = amx_plain_flush(fmaf(amx_plain_flush(amx_float_of(row[k] >> 16 << 16)),
                                   amx_plain_flush(amx_float_of(column[k] >> 16 << 16)), odd));
    }
    return amx_plain_flush(amx_plain_flush(sum) + amx_plain_flush(even + odd));
}

static bool amx_same(float a, float b) { return amx_bits_of(a) == amx_bits_of(b) || (isnan(a) && isnan(b)); }

// Numbers of all sizes; one in 16 is odd: denormal, 0, -0, largest, and where `infinite` also Inf and NaN.
static uint32_t amx_odd_number(uint64_t *state, bool infinite) {
    static const uint32_t odd[] = {0x0001, 0x807F, 0x0080, 0x8000, 0x0000, 0x7F7F, 0x7F80, 0xFF80, 0x7FC0};
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    uint32_t r = (uint32_t)(*state >> 32);
    if (r % 16 == 0) return odd[r / 16 % (infinite ? 9 : 6)];
    uint32_t exponent = r % 5 == 0 ? 30 + r / 8 % 180 : 120 + r / 8 % 14;
    return (r >> 31) << 15 | exponent << 7 | (r >> 20 & 0x7F);
}
static void amx_panel(uint32_t *pairs, int n, uint64_t seed, bool infinite) {
    uint64_t state = seed;
    for (int i = 0; i < n; i++) {
        uint32_t low = amx_odd_number(&state, infinite);
        pairs[i] = amx_odd_number(&state, infinite) << 16 | low;
    }
}

// Blocks of sums, from panels as they lie, against amx_plain_sum; and, where there is one, against the unit.
static void amx_block_case(bool unit) {
    enum { BLOCKS = 3, PAIRS = BLOCKS * 2 * AMX_TILE / 4, LD = 50, N = 31 * LD + 32 };
    static uint32_t a[PAIRS], b[PAIRS];
    float got[N], init[N], want[AMX_BLOCK], tiles[N];
    for (int variant = 0; variant < 8; variant++) {
        bool infinite = variant % 2, start = variant / 2 % 2;
        amx_panel(a, PAIRS, (uint64_t)variant, infinite);
        amx_panel(b, PAIRS, (uint64_t)variant + 100, infinite);
        for (int i = 0; i < N; i++) init[i] = i % 7 == 0 ? amx_float_of((uint32_t)i * 977) : (float)sin(i);
        memcpy(got, init, sizeof got);
        memcpy(tiles, init, sizeof tiles);
        amx_block(true, got, LD, start ? got : NULL, (char *)a, (char *)b, BLOCKS);
        if (unit) {
            amx_begin(false);
            amx_block(false, tiles, LD, start ? tiles : NULL, (char *)a, (char *)b, BLOCKS);
            amx_end(false);
            CHECK(memcmp(got, tiles, sizeof got) == 0, "the tile unit gives other bits than its emulation");
        }
        int wrong = 0;
        for (int i = 0; i < AMX_BLOCK; i++) {
            for (int j = 0; j < AMX_BLOCK; j++) {
                want[j] = start ? init[i * LD + j] : 0;
                for (int k = 0; k < BLOCKS; k++) {
                    uint32_t column[16];
                    for (int p = 0; p < 16; p++) column[p] = b[((k * 2 + j / 16) * 16 + p) * 16 + j % 16];
                    want[j] = amx_plain_sum(want[j], a + ((k * 2 + i / 16) * 16 + i % 16) * 16, column, 16);
                }
                wrong += !amx_same(want[j], got[i * LD + j]);
            }
            for (int j = AMX_BLOCK; j < LD && i < AMX_BLOCK - 1; j++)
                wrong += !amx_same(init[i * LD + j], got[i * LD + j]);
        }
        CHECK(wrong == 0, "block of tiles, variant %d: %d numbers are not those of the manual's order", variant, wrong);
    }
    // The order shows: the even and the odd numbers of pairs are summed apart, and first among themselves.
    uint32_t row[16] = {0}, column[16] = {0};
    for (int p = 0; p < 16; p++) column[p] = 0x3F803F80;           // 1, 1
    row[0] = 0x00004B80, row[1] = 0x00003F80, row[2] = 0x00003F80; // even: 2^24, 1, 1
    row[3] = 0x3F800000, row[4] = 0x3F800000;                      // odd: 1, 1
    CHECK(amx_plain_sum(0, row, column, 16) == 16777218,
          "sums of tiles: the even ones lose two ones, the odd keep them");
    CHECK(amx_plain_sum(amx_float_of(1), row, column, 0) == 0, "a denormal sum counts as zero");
}

// Both ways of rounding, where this build has instructions for it: any bits, among them NaN, Inf and denormals.
static void amx_rounding_case(void) {
    uint64_t state = 7;
    int wrong = 0, plain = 0;
    for (int n = 0; n < 20000; n++) {
        vreal x, y;
        for (int i = 0; i < VL; i++) {
            uint32_t bits[2];
            for (int j = 0; j < 2; j++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                bits[j] = (uint32_t)(state >> 32);
                if (n % 4 == 0) bits[j] &= 0x807FFFFFu;                      // denormal
                if (n % 4 == 1) bits[j] = (bits[j] & 0xFFFF0000u) | 0x8000u; // a tie
                if (n % 4 == 2) bits[j] |= 0x7F800000u;                      // NaN, some Inf
            }
            x[i] = amx_float_of(bits[0]);
            y[i] = amx_float_of(n % 8 == 2 ? bits[1] & 0xFF800000u : bits[1]);
        }
        vreal merged = bf16_merge_plain(x, y), pairs = bf16_pairs_plain(x, y);
#if defined(BF16_DOTS) && defined(__x86_64__)
        vreal merged_by = bf16_merge(x, y), pairs_by = bf16_pairs(x, y);
        wrong += memcmp(&merged, &merged_by, sizeof merged) != 0 || memcmp(&pairs, &pairs_by, sizeof pairs) != 0;
#endif
        for (int i = 0; i < VL; i++) {
            uint32_t m = amx_bits_of(merged[i]), p = amx_bits_of(pairs[i]);
            int k = 2 * i;
            float low = k < VL ? x[k] : y[k - VL], high = k + 1 < VL ? x[k + 1] : y[k + 1 - VL];
            float given[4] = {x[i], y[i], low, high};
            uint32_t got[4] = {m << 16, m & 0xFFFF0000u, p << 16, p & 0xFFFF0000u};
            for (int j = 0; j < 4; j++)
                plain += !amx_same(amx_float_of(got[j]), (float)plain_bf16((double)amx_plain_flush(given[j])));
        }
    }
    CHECK(wrong == 0, "rounding to bf16: %d of 20000 vectors are not those of the CPU's instructions", wrong);
    CHECK(plain == 0, "rounding to bf16: %d numbers are not the nearest", plain);
}

// All four ways to pack, at edges too: element (i, k) stands where the unit looks for it, zeros where there is none.
static void amx_pack_case(void) {
    static const int shapes[][2] = {{32, 32}, {37, 71}, {70, 33}, {1, 1}, {64, 96}, {15, 31}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int way = 0; way < 4; way++) {
            int rows = shapes[s][0], K = shapes[s][1], row0 = 3, k0 = 5, wrong = 0;
            bool along = way % 2, of_a = way / 2;
            size_t ld = (size_t)(along ? K + k0 : rows + row0) + 2, units = (size_t)panel_units(K, UNIT_TILES);
            size_t panels = (size_t)ceil_divide(rows, AMX_BLOCK), stride = units * AMX_BLOCK,
                   numbers = ld * (size_t)((along ? rows + row0 : K + k0) + 1);
            real *x = kernel_random(numbers, 3 + (unsigned)s),
                 *packed = kernel_garbage(panels * stride + PACK_AHEAD / sizeof(real));
            Operand from = {x, ld, along ? LAYOUT_ALONG_K : LAYOUT_ACROSS_K};
            pack_operand(packed, stride, from, row0, row0 + rows, k0, K, of_a, UNIT_TILES);
            for (size_t i = 0; i < panels * AMX_BLOCK; i++)
                for (size_t k = 0; k < units * 2; k++) {
                    size_t tile = (i / AMX_BLOCK) * stride + (k / AMX_K * 2 + i % AMX_BLOCK / 16) * 256,
                           pair = k % AMX_K / 2;
                    uint32_t bits = amx_bits_of(packed[tile + (of_a ? i % 16 * 16 + pair : pair * 16 + i % 16)]);
                    bool there = i < (size_t)rows && k < (size_t)K;
                    size_t at =
                        along ? (i + (size_t)row0) * ld + k + (size_t)k0 : (k + (size_t)k0) * ld + i + (size_t)row0;
                    float want = there ? (float)plain_bf16((double)x[at]) : 0;
                    wrong += !amx_same(amx_float_of(k % 2 ? bits & 0xFFFF0000u : bits << 16), want);
                }
            CHECK(wrong == 0, "tiles of %s from rows %s k, %d x %d: %d numbers are wrong", of_a ? "A" : "B",
                  along ? "along" : "across", rows, K, wrong);
            free(x), free(packed);
        }
}

// The bits that every build must give, whatever its vectors: several runs of K, edges, all three forms.
static void amx_bits_case(void) {
    enum { N = 37, C = 1101, OC = 70 };
    LinearShape shape = {N, C, OC};
    Cpu cpu;
    Error err;
    CHECK(cpu_open(&cpu, 2, &err) && cpu_choose_unit(&cpu, true, KERNELS_EMULATED, &err), "%s", err.text);
    real *x = kernel_random(N * C, 61), *w = kernel_random(OC * C, 62), *dy = kernel_random(N * OC, 63),
         *y = kernel_garbage(N * OC), *dx = kernel_garbage(N * C), *dw = kernel_zeros(OC * C);
    linear_forward(y, x, matrix_of(w), NULL, NULL, shape, &cpu);
    linear_backward_input(dx, dy, matrix_of(w), shape, &cpu);
    linear_backward_weight(dw, NULL, dy, x, shape, &cpu);
    uint64_t got =
        xxh64(dw, sizeof(real) * OC * C, xxh64(dx, sizeof(real) * N * C, xxh64(y, sizeof(real) * N * OC, 0)));
    CHECK(got == 0x6489fdc64426baa2ull, "products on emulated tiles have the hash %016" PRIx64, got);
    free(x), free(w), free(dy), free(y), free(dx), free(dw);
    cpu_close(&cpu);
}

// So many keys that they are dealt out in ranges, whose parts of dq are summed: tiles against vectors, which differ by
// what bf16 rounds.
static void amx_ranges_case(void) {
    enum { T = 2080, HS = 16, N = T * HS };
    AttentionShape shape = {1, T, T, 1, 1, HS, 0.25, 0, NULL};
    real *in = kernel_random(3 * N, 71), *dout = kernel_random(N, 72), *out[2], *d[2];
    CHECK(key_ranges(ceil_divide(T, TILE_N), T, 1) == 2, "%d keys are one range", T);
    for (int tiles = 0; tiles < 2; tiles++) {
        Cpu cpu;
        Error err;
        bool opened =
            cpu_open(&cpu, 2, &err) && cpu_choose_unit(&cpu, tiles, tiles ? KERNELS_EMULATED : KERNELS_AUTO, &err);
        CHECK(opened, "%s", err.text);
        real *lse = kernel_garbage(T);
        out[tiles] = kernel_garbage(N), d[tiles] = kernel_garbage(3 * N);
        Heads heads = {{in, HS}, {in + N, HS}, {in + 2 * N, HS}},
              gradients = {{d[tiles], HS}, {d[tiles] + N, HS}, {d[tiles] + 2 * N, HS}};
        attention_forward(out[tiles], lse, heads, shape, &cpu);
        attention_backward(gradients, dout, out[tiles], lse, heads, shape, &cpu);
        free(lse);
        cpu_close(&cpu);
    }
    for (int part = 0; part < 3; part++) {
        double squares = 0, apart = 0;
        for (int i = part * N; i < (part + 1) * N; i++) {
            double difference = (double)d[0][i] - (double)d[1][i];
            squares += (double)d[0][i] * (double)d[0][i], apart += difference * difference;
        }
        CHECK(sqrt(apart / squares) < 0x1p-7, "gradient %d of %d keys: tiles are %g of its length away from vectors",
              part, T, sqrt(apart / squares));
    }
    free(in), free(dout), free(out[0]), free(out[1]), free(d[0]), free(d[1]);
}

static void amx_choice_case(bool dots) {
    Cpu cpu;
    Error err;
    char text[160];
    CHECK(cpu_open(&cpu, 1, &err), "%s", err.text);
    CHECK_ERROR(cpu_choose_unit(&cpu, false, KERNELS_MATRIX, &err), "--precision=bf16");
    CHECK_ERROR(cpu_choose_unit(&cpu, false, KERNELS_EMULATED, &err), "--kernels=emulated");
    CHECK(cpu_choose_unit(&cpu, false, KERNELS_VECTOR, &err) && cpu.unit == UNIT_VECTORS && !cpu.bf16,
          "fp32 on vectors");
    CHECK(cpu_choose_unit(&cpu, true, KERNELS_EMULATED, &err) && cpu.unit == UNIT_TILES && cpu.emulated && cpu.bf16,
          "emulated tiles");
    CHECK(strstr(cpu_description(text, &cpu), "AMX emulated"), "the description is '%s'", text);
    const char *missing;
    Unit matrix = cpu_matrix_unit(&missing);
    if (missing) {
        CHECK_ERROR(cpu_choose_unit(&cpu, true, KERNELS_MATRIX, &err), missing);
        CHECK(cpu_choose_unit(&cpu, true, KERNELS_AUTO, &err) == dots && (!dots || cpu.unit == UNIT_DOTS),
              "auto without a matrix unit: dot products where there are any");
    } else {
        CHECK(cpu_choose_unit(&cpu, true, KERNELS_AUTO, &err) && cpu.unit == matrix && !cpu.emulated,
              "auto: the matrix unit");
        CHECK(strstr(cpu_description(text, &cpu), matrix == UNIT_MMLA ? "by BFMMLA" : "by AMX"),
              "the description is '%s'", text);
        CHECK(cpu_peak_flops(&cpu) > 0, "a peak of the matrix unit");
    }
}

static void test_amx(void) {
    bool unit = amx_missing() == NULL, dots = false;
#ifdef BF16_DOTS
    dots = true;
#endif
    if (!unit) skip_test("test_gpt, the tile unit itself", amx_missing());
    amx_rounding_case();
    amx_block_case(unit);
    amx_pack_case();
    amx_bits_case();
    amx_ranges_case();
    amx_choice_case(dots);
    kernel_run_on("linear on emulated tiles", linear_case, 2 * LINEAR_SHAPES, true, KERNELS_EMULATED);
    kernel_run_on("attention on emulated tiles", attention_case, 2 * ATTENTION_SHAPES, true, KERNELS_EMULATED);
    if (dots) kernel_run_on("dot products, weights in bf16", half_case, 2 * LINEAR_SHAPES, true, KERNELS_VECTOR);
    kernel_run_on("emulated tiles, weights in bf16", half_case, 2 * LINEAR_SHAPES, true, KERNELS_EMULATED);
    if (!unit) return;
    kernel_run_on("linear on tiles", linear_case, 2 * LINEAR_SHAPES, true, KERNELS_MATRIX);
    kernel_run_on("tiles, weights in bf16", half_case, 2 * LINEAR_SHAPES, true, KERNELS_MATRIX);
    kernel_run_on("attention on tiles", attention_case, 2 * ATTENTION_SHAPES, true, KERNELS_MATRIX);
}
#endif

#endif
