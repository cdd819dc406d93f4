/*
mmla_test.h: the matrix products of Arm CPUs. Sums of a tile against the manual's steps, written out number by number,
to the bit; packing; the linear layers on them.
*/
#ifndef MMLA_TEST_H
#define MMLA_TEST_H

#include "amx_test.h"

#ifdef REAL_DOUBLE
static void test_mmla(void) {} // they are of bf16
#elif !defined(BF16_MATRIX)
static void test_mmla(void) {
    skip_test("test_gpt, matrix products of vectors", "this CPU has no BFMMLA, or this build leaves it out");
}
#else

// a + b rounded to odd: cut off, and the last bit is set where anything was lost. Denormal results are zeros, what is
// too large is infinite, every NaN the same. The error of a sum of doubles is exact (Knuth's TwoSum).
static float mmla_plain_add(double a, double b) {
    double sum = a + b, part = sum - a, lost = (a - (sum - part)) + (b - part);
    if (isnan(sum)) return amx_float_of(0x7FC00000);
    if (isinf(sum)) return (float)sum;
    uint64_t bits;
    memcpy(&bits, &sum, 8);
    if (lost != 0 && !(bits & 1)) { // an odd last bit stays: what was lost keeps it apart from its neighbours
        bits += (lost > 0) == (sum > 0) ? 1 : (uint64_t)-1;
        memcpy(&sum, &bits, 8);
    }
    if (fabs(sum) < 0x1p-126) return sum < 0 ? -0.0f : sum > 0 ? 0.0f : (float)sum;
    if (fabs(sum) >= 0x1p128) return sum < 0 ? -INFINITY : INFINITY;
    memcpy(&bits, &sum, 8);
    bool rest = bits & ((1u << 29) - 1); // of a double's 52 bits behind the point a float has 23
    bits &= ~(uint64_t)((1u << 29) - 1);
    memcpy(&sum, &bits, 8);
    return amx_float_of(amx_bits_of((float)sum) | rest);
}

// One sum of BFMMLA, from BFMatMulAdd: four numbers of a row and of a column, and what is there.
static float mmla_plain_sum(float sum, const uint32_t row[2], const uint32_t column[2]) {
    for (int pair = 0; pair < 2; pair++) {
        float product[2];
        for (int odd = 0; odd < 2; odd++) {
            int shift = odd ? 0 : 16;
            float x = amx_plain_flush(amx_float_of(row[pair] << shift & 0xFFFF0000u)),
                  y = amx_plain_flush(amx_float_of(column[pair] << shift & 0xFFFF0000u));
            double exact = (double)x * (double)y;
            product[odd] = mmla_plain_add(exact, copysign(0, exact)); // so that -0 stays
        }
        sum = mmla_plain_add((double)amx_plain_flush(sum),
                             (double)mmla_plain_add((double)product[0], (double)product[1]));
    }
    return sum;
}

static void mmla_tile_case(void) {
    enum { UNITS = 2 * MMLA_K / 2, LD = 20 };
    static uint32_t a[UNITS * MMLA_M], b[UNITS * MMLA_N];
    static real soon[MMLA_M * LD];
    vreal sums[MMLA_M][MMLA_N / VL];
    for (int variant = 0; variant < 40; variant++) {
        amx_panel(a, UNITS * MMLA_M, (uint64_t)variant, variant % 2);
        amx_panel(b, UNITS * MMLA_N, (uint64_t)variant + 100, variant % 2);
        mmla_tile(sums, (const real *)a, (const real *)b, UNITS, soon, LD);
        int wrong = 0;
        for (int i = 0; i < MMLA_M; i++)
            for (int j = 0; j < MMLA_N; j++) {
                float want = 0;
                for (int step = 0; step < UNITS / 2; step++)
                    want = mmla_plain_sum(want, a + (step * MMLA_M + i) * 2, b + (step * MMLA_N + j) * 2);
                wrong += amx_bits_of(want) != amx_bits_of(sums[i][j / VL][j % VL]);
            }
        CHECK(wrong == 0, "tile, variant %d: %d sums are not those of the manual's steps", variant, wrong);
    }
    uint32_t row[2] = {0x3F803F80, 0}, column[2] = {0x33803F80, 0}; // 1 + 2^-24: to nearest it would be 1
    CHECK(mmla_plain_sum(0, row, column) == 1 + 0x1p-23f, "rounded to odd");
}

// Both ways to pack A and B, at edges too: element (i, k) stands where the products look for it, zeros where none is.
static void mmla_pack_case(void) {
    static const int shapes[][2] = {{8, 32}, {12, 64}, {37, 71}, {70, 33}, {1, 1}, {24, 8}, {7, 31}, {25, 100}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int way = 0; way < 4; way++) {
            int rows = shapes[s][0], K = shapes[s][1], row0 = 3, k0 = 5, wrong = 0, width = way / 2 ? MMLA_M : MMLA_N;
            bool along = way % 2, of_a = way / 2;
            size_t ld = (size_t)(along ? K + k0 : rows + row0) + 2, units = (size_t)panel_units(K, UNIT_MMLA);
            size_t panels = (size_t)ceil_divide(rows, width), stride = units * (size_t)width;
            real *x = kernel_random(ld * (size_t)((along ? rows + row0 : K + k0) + 1), 3 + (unsigned)s),
                 *packed = kernel_garbage(panels * stride);
            Operand from = {x, ld, along ? LAYOUT_ALONG_K : LAYOUT_ACROSS_K};
            pack_operand(packed, stride, from, row0, row0 + rows, k0, K, of_a, UNIT_MMLA);
            for (size_t i = 0; i < panels * (size_t)width; i++)
                for (size_t k = 0; k < units * 2; k++) {
                    size_t step = k / 4 * (size_t)width * 2, pair = k % 4 / 2;
                    uint32_t bits =
                        amx_bits_of(packed[i / (size_t)width * stride + step + i % (size_t)width * 2 + pair]);
                    size_t at =
                        along ? (i + (size_t)row0) * ld + k + (size_t)k0 : (k + (size_t)k0) * ld + i + (size_t)row0;
                    float want = i < (size_t)rows && k < (size_t)K ? (float)plain_bf16((double)x[at]) : 0;
                    wrong += !amx_same(amx_float_of(k % 2 ? bits & 0xFFFF0000u : bits << 16), want);
                }
            CHECK(wrong == 0, "panels of %s from rows %s k, %d x %d: %d numbers are wrong", of_a ? "A" : "B",
                  along ? "along" : "across", rows, K, wrong);
            free(x), free(packed);
        }
}

static void test_mmla(void) {
    mmla_tile_case();
    mmla_pack_case();
    kernel_run_on("linear on matrix products of vectors", linear_case, 2 * LINEAR_SHAPES, true, KERNELS_MATRIX);
    // An emulator takes minutes for these: one large shape with weights in bf16, none by dot products of vectors.
    kernel_run_on("matrix products, weights in bf16", half_case, 2 * (LINEAR_SHAPES - 1), true, KERNELS_MATRIX);
    kernel_run_on("dot products of vectors", linear_case, 2 * (LINEAR_SHAPES - 2), true, KERNELS_VECTOR);
    amx_choice_case(true);
}
#endif

#endif
