/*
ptx.h: the few instructions that CUDA C++ has no good word for; all PTX of the program stands here.

    smem_address        a pointer into shared memory as the instructions below take it
    ldmatrix            four 8x8 matrices of 16-bit numbers, shared memory -> registers of a warp
    mma_bf16            d (16,8) += a (16,16) b (16,8), bf16 inputs, fp32 sums
    cp_async            global -> shared memory, asynchronously, with zeros where there is nothing
    exp2_fast           2^x, 2 ulp, results below 2^-126 are zero
    pack_bf16           two floats rounded to bf16 (nearest, ties to even) in one register

Needs sm_80. Source: PTX ISA, "Warp-level matrix instructions" and "Data movement". Layout of mma's
operands, for lane = 4g + t of the warp (g 0..7, t 0..3); a pair is two bf16 in one register, the
lower index in the lower half:

    a[0] row g,   columns 2t, 2t+1      a[2] row g,   columns 2t+8, 2t+9
    a[1] row g+8, columns 2t, 2t+1      a[3] row g+8, columns 2t+8, 2t+9
    b0   rows 2t, 2t+1, column g        b1   rows 2t+8, 2t+9, column g
    d[0], d[1] row g, columns 2t, 2t+1  d[2], d[3] row g+8, columns 2t, 2t+1

So the sums of two neighbouring mma (columns 0..15), packed, are the left operand of the next one.
ldmatrix gives lane 4g + t, of matrix i, row g, columns 2t, 2t+1 (transposed: rows 2t, 2t+1, column
g); lane 8i + r holds the address of row r of matrix i: 16 bytes, aligned to 16.

Under the CPU stand-in (dev/emu, which defines CUDA_EMU) every function calls its counterpart there.
The lanes of a warp meet in it as the hardware makes them meet, all from the same place in the source. A copy begun
by cp_async happens there as late as it is allowed to, in cp_async_wait, so that code that reads too early reads what
was there before; or at once (CUDA_EMU_COPIES=early), so that what others still read is lost.
*/
#ifndef LLMC_CUDA_PTX_H
#define LLMC_CUDA_PTX_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#ifndef CUDA_EMU

typedef uint32_t SmemAddress;

__device__ inline SmemAddress smem_address(const void *p) { return (SmemAddress)__cvta_generic_to_shared(p); }

__device__ inline void ldmatrix(uint32_t (&r)[4], SmemAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

__device__ inline void ldmatrix_transposed(uint32_t (&r)[4], SmemAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 bytes, both sides aligned to 16; where !inside, zeros are written and `from` is not read.
__device__ inline void cp_async_16(SmemAddress to, const void *from, bool inside) {
    int bytes = inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
                 "r"(bytes)
                 : "memory");
}

__device__ inline void cp_async_4(SmemAddress to, const void *from, bool inside) {
    int bytes = inside ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
                 "r"(bytes)
                 : "memory");
}

__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `left` of this thread's committed groups are in flight. Other threads see what
// was copied after a __syncthreads().
template <int left> __device__ inline void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline uint32_t pack_bf16(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

#else // the CPU stand-in

typedef uintptr_t SmemAddress;

inline SmemAddress smem_address(const void *p) { return (SmemAddress)p; }
inline void ldmatrix(uint32_t (&r)[4], SmemAddress row, EMU_SITE) {
    emu_ldmatrix({file, line}, r, (const void *)row, 4, false);
}
inline void ldmatrix_transposed(uint32_t (&r)[4], SmemAddress row, EMU_SITE) {
    emu_ldmatrix({file, line}, r, (const void *)row, 4, true);
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMU_SITE) {
    const uint32_t b[2] = {b0, b1};
    emu_mma_m16n8k16_bf16({file, line}, d, a, b, d);
}

inline void cp_async_16(SmemAddress to, const void *from, bool inside) {
    emu_cp_async((void *)to, from, 16, inside ? 16 : 0);
}
inline void cp_async_4(SmemAddress to, const void *from, bool inside) {
    emu_cp_async((void *)to, from, 4, inside ? 4 : 0);
}
inline void cp_async_commit() { emu_cp_async_commit(); }

template <int left> inline void cp_async_wait() { emu_cp_async_wait(left); }

inline float exp2_fast(float x) {
    float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y; // a NaN stays one
}

inline uint32_t pack_bf16(float low, float high) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(low)) | (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high))
                                                                << 16;
}

#endif
#endif
