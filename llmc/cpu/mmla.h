/*
mmla.h: the matrix products of Arm CPUs (BFMMLA, feature BF16: Armv8.6, Neoverse V1 and later), which multiply 2 x 4 by
4 x 2 bf16 and add that to 2 x 2 sums in fp32: twice the arithmetic of a dot product of pairs, with the same loads.

    mmla_tile    sums of 8 x 12, from panels that pack.h packs

A vector holds 2 rows of A, or 2 columns of B, by 4 k; so rows that lie along k are packed without a transposition.

The unit adds four products to a sum as two pairs, each step rounded to odd, denormals as zeros (Arm Architecture
Reference Manual, BFMatMulAdd). dev/test/mmla_test.h writes that out and asks for the same bits.
*/
#ifndef LLMC_CPU_MMLA_H
#define LLMC_CPU_MMLA_H

#include "cpu.h"

// Registers: 24 of sums, 4 of rows, and 2 at a time of columns, loaded in pairs: 24 products go with 5 loads. MMLA_K: k
// in one turn of the loop, in which the 4 instructions that count must be a small part; panels are filled up to it.
enum { MMLA_M = 8, MMLA_N = 12, MMLA_K = 32 };

#ifdef BF16_MATRIX
// gcc 12 moves products behind later loads, needs more registers than there are, and copies and stores sums in the loop
// (192 products of 257 instructions); volatile assembly keeps the order below (192 of 236).
#ifdef __clang__
ALWAYS_INLINE vreal mmla_product(vreal sum, vreal a, vreal b) { return bf16_mmla(sum, a, b); }
ALWAYS_INLINE void mmla_load(vreal two[2], const real *from) { two[0] = vload(from), two[1] = vload(from + VL); }
#else
ALWAYS_INLINE vreal mmla_product(vreal sum, vreal a, vreal b) {
    __asm__ volatile("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(a), "w"(b));
    return sum;
}
ALWAYS_INLINE void mmla_load(vreal two[2], const real *from) {
    const vreal_anywhere *both = (const vreal_anywhere *)from; // both are read
    __asm__ volatile("ldp %q0, %q1, %2" : "=w"(two[0]), "=w"(two[1]) : "Ump"(both[0]), "Ump"(both[1]));
}
#endif

// sums (MMLA_M, MMLA_N) = panel of A times panel of B; units: pairs of k, a multiple of MMLA_K / 2. soon: MMLA_M rows,
// ld apart, that will be read and written next; they are prefetched one after the other.
ALWAYS_INLINE void mmla_tile(vreal sums[MMLA_M][MMLA_N / 4], const real *a, const real *b, int units, const real *soon,
                             size_t ld) {
    enum { ROWS = MMLA_M / 2, COLUMNS = MMLA_N / 2 };
    vreal s[ROWS][COLUMNS]; // 2 x 2 each
    UNROLL
    for (int i = 0; i < ROWS; i++) {
        UNROLL
        for (int j = 0; j < COLUMNS; j++) s[i][j] = (vreal){0};
    }
    int turns = units / (MMLA_K / 2);
    for (int row = 0, turn = 0; turn < turns; row++) {
        __builtin_prefetch(soon + (size_t)row * ld, 1);
        const real *end = a + (turns * (row + 1) / MMLA_M - turn) * (MMLA_M * MMLA_K / 2);
        turn = turns * (row + 1) / MMLA_M;
        while (a != end) {
            UNROLL
            for (int k = 0; k < MMLA_K / 4; k++) {
                vreal av[ROWS], bv[2];
                mmla_load(av, a + k * MMLA_M * 2);
                mmla_load(av + 2, a + k * MMLA_M * 2 + 8);
                UNROLL
                for (int j = 0; j < COLUMNS; j++) {
                    if (j % 2 == 0) mmla_load(bv, b + k * MMLA_N * 2 + j * 4);
                    UNROLL
                    for (int i = 0; i < ROWS; i++) s[i][j] = mmla_product(s[i][j], av[i], bv[j % 2]);
                }
            }
            a += MMLA_M * MMLA_K / 2, b += MMLA_N * MMLA_K / 2;
        }
    }
    UNROLL
    for (int i = 0; i < ROWS; i++) {
        UNROLL
        for (int j = 0; j < COLUMNS / 2; j++) {
            sums[2 * i][j] = lower_halves(s[i][2 * j], s[i][2 * j + 1]);
            sums[2 * i + 1][j] = upper_halves(s[i][2 * j], s[i][2 * j + 1]);
        }
    }
}
#endif

#endif
