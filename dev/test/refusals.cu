/*
refusals.cu: faults, planted one at a time; what dev/emu must refuse, as a device would or should. refusals_test.sh runs
them, from source and, where nvcc is, from its PTX.

    refusals list        a line for each fault: NUMBER|SOURCE|PTX, where the last two are what is said of it by the
                             emulator of sources and by the machine that runs PTX; - where it sees nothing
    refusals NUMBER      plants it

Kernels read what decides their fate from arguments, so that no compiler can see it.
*/
#include "../../llmc/cuda/cuda.h"
#include "../../llmc/cuda/ptx.h"
#ifdef USE_NCCL
#include <nccl.h>
#endif

typedef struct {
    const char *source, *ptx;
} Fault;

static __global__ void misaligned(float *p, int at) { *(float *)((char *)p + at) = 1; }
static __global__ void outside(float *p, int at) { p[at] += 1; }
static __global__ void outside_shared(float *p, int at) {
    __shared__ float s[32];
    s[(int)threadIdx.x + at] = 1;
    __syncthreads();
    p[threadIdx.x] = s[threadIdx.x];
}
static __global__ void never_written(float *p, int at) {
    __shared__ float s[64];
    s[threadIdx.x] = 1;
    __syncthreads();
    p[threadIdx.x] = s[(int)threadIdx.x + at];
}
static __global__ void branch_on_never_written(float *p, int at) {
    __shared__ float s[64];
    s[threadIdx.x] = 1;
    __syncthreads();
    if (s[(int)threadIdx.x + at] > 2) p[threadIdx.x] = 1;
}
static __global__ void no_barrier(float *p, int) { // 64 threads
    __shared__ float s[64];
    s[threadIdx.x] = 0;
    __syncthreads();
    s[threadIdx.x] = (float)threadIdx.x;
    p[threadIdx.x] = s[63 - threadIdx.x];
}
static __global__ void no_warp_barrier(float *p, int) {
    __shared__ float s[32];
    s[threadIdx.x] = (float)threadIdx.x;
    p[threadIdx.x] = s[31 - threadIdx.x];
}
static __global__ void barrier_for_some(float *p, int some) {
    if ((int)threadIdx.x < some) __syncthreads();
    p[threadIdx.x] = 1;
    if ((int)threadIdx.x >= some) __syncthreads();
}
static __global__ void other_barrier(float *p, int some) { // 64 threads, one warp each
    if ((int)threadIdx.x < some) {
        p[threadIdx.x] = 1;
        __syncthreads();
        p[threadIdx.x + 64] = 3;
    } else {
        p[threadIdx.x + 64] = 2;
        __syncthreads();
        p[threadIdx.x] = 4;
    }
}
static __global__ void shuffle_for_some(float *p, int some) {
    float v = (float)threadIdx.x;
    if ((int)threadIdx.x < some) v += __shfl_xor_sync(0xffffffffu, v, 1);
    __syncthreads();
    p[threadIdx.x] = v;
}
static __global__ void mask_without(float *p, int some) {
    p[threadIdx.x] = __shfl_xor_sync(some ? 0x0000ffffu : 0xffffffffu, (float)threadIdx.x, 1);
}
static __global__ void ldmatrix_apart(float *p, int some) {
    __shared__ __align__(16) uint32_t s[256];
    for (int i = (int)threadIdx.x; i < 256; i += 32) s[i] = (uint32_t)i;
    __syncthreads();
    uint32_t r[4];
    if ((int)threadIdx.x < some) {
        ldmatrix(r, smem_address(&s[threadIdx.x * 4]));
        r[0] *= 3;
    } else {
        ldmatrix(r, smem_address(&s[(threadIdx.x ^ 1) * 4]));
        r[1] *= 5;
    }
    p[threadIdx.x] = (float)(r[0] + r[1] + r[2] + r[3]);
}
static __global__ void __launch_bounds__(64) bounded(float *p, int) { p[threadIdx.x] = 1; }
static __global__ void much_shared(float *p, int at) {
    __shared__ float fixed[4096]; // 16 KB
    extern __shared__ float wanted[];
    fixed[threadIdx.x] = wanted[threadIdx.x] = 1;
    __syncthreads();
    p[threadIdx.x] = fixed[(int)threadIdx.x + at] + wanted[threadIdx.x];
}
static __global__ void copy(float *p, int at, int from) {
    __shared__ __align__(16) float s[128];
    s[threadIdx.x] = s[threadIdx.x + 32] = s[threadIdx.x + 64] = s[threadIdx.x + 96] = 0;
    __syncthreads();
    if (threadIdx.x < 4) cp_async_16(smem_address((char *)&s[threadIdx.x * 4] + at), (char *)(p + 64) + from, true);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    p[threadIdx.x] = s[threadIdx.x];
}
static __global__ void copy_not_awaited(float *p, int) {
    __shared__ __align__(16) float s[128];
    cp_async_16(smem_address(&s[threadIdx.x * 4]), p, true);
    cp_async_commit();
    p[threadIdx.x] = s[threadIdx.x * 4];
    cp_async_wait<0>();
}
// The copy may come before or after the read of what it overwrites; p[0] tells which.
static __global__ void copy_over_a_read(float *p, int) {
    __shared__ __align__(16) float s[128];
    for (int i = 0; i < 4; i++) s[(int)threadIdx.x * 4 + i] = 7;
    __syncthreads();
    cp_async_16(smem_address(&s[threadIdx.x * 4]), p + 64, true);
    cp_async_commit();
    __syncwarp();
    p[threadIdx.x] = s[127 - threadIdx.x];
    __syncwarp();
    cp_async_wait<0>();
}
template <int n> static __global__ void many_registers(float *p, int at) { // n numbers alive at once
    float v[n];
#pragma unroll
    for (int i = 0; i < n; i++) v[i] = p[(size_t)at * (size_t)i + threadIdx.x % 32];
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < n; i++) sum += v[i] * v[n - 1 - i] * (float)(i + at);
    p[threadIdx.x % 32] = sum;
}

#define LAUNCH(kernel, threads, shared, ...) kernel<<<1, threads, shared>>>(__VA_ARGS__)

static void said(const char *what) {
    cudaError_t e = cudaGetLastError();
    if (e == cudaSuccess) e = cudaDeviceSynchronize();
    printf("%s: %s\n", what, cudaGetErrorString(e));
}

#ifdef USE_NCCL
// Sums of two communicators on two streams, which an event orders or does not.
static void collectives(bool ordered) {
    ncclComm_t a = NULL, b = NULL;
    ncclUniqueId id;
    cudaStream_t one, two;
    cudaEvent_t event;
    float *x;
    ncclGetUniqueId(&id);
    ncclCommInitRank(&a, 1, id, 0);
    ncclCommSplit(a, 0, 0, &b, NULL);
    cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaMalloc((void **)&x, 8);
    ncclAllReduce(x, x, 1, ncclFloat32, ncclSum, a, one);
    cudaEventRecord(event, one);
    if (ordered) cudaStreamWaitEvent(two, event, 0);
    ncclAllReduce(x + 1, x + 1, 1, ncclFloat32, ncclSum, b, two);
    said("collectives");
}
#endif

enum { NUMBERS = 128 };
static const Fault faults[] = {
    {"-", "misaligned access of 4 bytes: .*misaligned.*refusals.cu:.*thread \\(0,0,0\\) global address 0x"},
    {"-", "access of 4 bytes outside of every allocation: .*outside.*address 0x"},
    {"-", "access of 4 bytes outside of every allocation"}, // freed
    {"-", "access of 4 bytes outside of shared memory"},
    {"-", "what is stored was never written"},
    {"-", "a branch on what was never written"},
    {"-", "a race: another warp .* this since the last barrier"},
    {"-", "a race: another lane wrote this since the warp's last barrier"},
    {"comes to the barrier or warp operation at .* while others wait at",
     "bar.sync in code that some lanes of the warp do not reach"},
    {"comes to the barrier or warp operation at .* while others wait at",
     "warps of a block wait at different barriers"},
    {"waits in vain", "shfl.sync.bfly without this lane of its mask"},
    {"a mask that leaves it out", "shfl.sync.bfly with a mask that leaves this lane out"},
    {"comes to the barrier or warp operation at .* while others wait at",
     "ldmatrix.sync.aligned.* without some lanes of the warp"},
    {"more threads than the kernel's __launch_bounds__", "more threads than its __launch_bounds__ of 64"},
    {"shared: invalid configuration", "shared: invalid configuration"},
    {"attribute: invalid argument", "attribute: invalid argument"},
    {"cp.async: an address that is not a multiple of the size", "misaligned access, to a multiple of 16"},
    {"cp.async: an address that is not a multiple of the size", "misaligned copy of 16 bytes"},
    {"-", "a race: a copy to what is read here is under way"},
    {"-", "a race: a copy to what is read here is under way"}, // early and late differ: refusals_test.sh
    {"-", "registers, of 65536"},
    {"collectives of two communicators may run at once", "collectives of two communicators may run at once"},
};

static void plant(int number) {
    float *p;
    CUDA_CHECK(cudaMalloc((void **)&p, NUMBERS * sizeof *p));
    CUDA_CHECK(cudaMemsetAsync(p, 0, NUMBERS * sizeof *p, NULL));
    switch (number) {
    case 0: LAUNCH(misaligned, 1, 0, p, 2); break;
    case 1: LAUNCH(outside, 1, 0, p, NUMBERS); break;
    case 2: cudaFree(p), LAUNCH(outside, 1, 0, p, 0); break;
    case 3: LAUNCH(outside_shared, 32, 0, p, 1); break;
    case 4: LAUNCH(never_written, 32, 0, p, 32); break;
    case 5: LAUNCH(branch_on_never_written, 32, 0, p, 32); break;
    case 6: LAUNCH(no_barrier, 64, 0, p, 0); break;
    case 7: LAUNCH(no_warp_barrier, 32, 0, p, 0); break;
    case 8: LAUNCH(barrier_for_some, 32, 0, p, 16); break;
    case 9: LAUNCH(other_barrier, 64, 0, p, 32); break;
    case 10: LAUNCH(shuffle_for_some, 32, 0, p, 16); break;
    case 11: LAUNCH(mask_without, 32, 0, p, 1); break;
    case 12: LAUNCH(ldmatrix_apart, 32, 0, p, 16); break;
    case 13: LAUNCH(bounded, 128, 0, p, 0); break;
    case 14: LAUNCH(much_shared, 32, 40 << 10, p, 0), said("shared"); break;
    case 15:
        printf("attribute: %s\n",
               cudaGetErrorString(cudaFuncSetAttribute(much_shared, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       (227 << 10) - 16000)));
        break;
    case 16: LAUNCH(copy, 32, 0, p, 8, 0); break;
    case 17: LAUNCH(copy, 32, 0, p, 0, 4); break;
    case 18: LAUNCH(copy_not_awaited, 32, 0, p, 0); break;
    case 19: LAUNCH(copy_over_a_read, 32, 0, p, 0); break;
    case 20: LAUNCH(many_registers<120>, 1024, 0, p, 1); break;
#ifdef USE_NCCL
    case 21: collectives(true), puts("in order: fine"), collectives(false); break;
#endif
    default: fail("no fault %d", number);
    }
    cudaDeviceSynchronize();
    if (number != 2) {
        float first;
        cudaMemcpy(&first, p, sizeof first, cudaMemcpyDeviceToHost);
        printf("first number: %g\n", (double)first);
    }
}

int main(int argc, char **argv) {
    int n = (int)(sizeof faults / sizeof *faults);
#ifndef USE_NCCL
    n--; // the last one
#endif
    if (argc != 2) fail("usage: refusals list|NUMBER");
    if (strcmp(argv[1], "list") == 0)
        for (int i = 0; i < n; i++) printf("%d|%s|%s\n", i, faults[i].source, faults[i].ptx);
    else plant(atoi(argv[1]));
    return 0;
}
