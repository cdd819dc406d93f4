/*
cuda.h: what every CUDA kernel stands on: the number type, 128-bit packs, the device, checks.

real          the type that parameters and activations are stored in: bf16, or float when built with
              -DFLOAT32. Arithmetic is done in float everywhere, rounding happens on storing.
load_pack()   the next numbers of a row, a pack, as floats: one 128-bit access (vectorized) where the row allows it,
              number by number where it does not (a width that a pack does not divide), zeros behind
              the end. So every kernel takes every width.
Device        the GPU, the stream, scratch memory, and what gemm.h keeps.
CUDA_CHECK()  ends the process with expression, place and the library's own text.

All work of a model goes through one stream, but for what the ranks exchange (ranks.h). No kernel adds floats with
atomics and every sum has an order that depends on sizes alone: two runs give the same bits (deterministic).

Limits: sm_80 and up. Element counts of one tensor below 2^40, rows (B T) below 2^31.
*/
#ifndef LLMC_CUDA_H
#define LLMC_CUDA_H

#include "../ranks/dist.h"
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

#if CUDART_VERSION < 12000
#error "CUDA 12.0 or later is needed: put its nvcc first in PATH (make train_gpt NVCC=/usr/local/cuda-12/bin/nvcc)"
#endif

// ---------------------------------------------------------------- numbers

#ifdef FLOAT32
typedef float real;
#define REAL_NAME "fp32"
#else
typedef __nv_bfloat16 real;
#define REAL_NAME "bf16"
#endif

__host__ __device__ inline float to_float(float x) { return x; }
__host__ __device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__host__ __device__ inline void from_float(float *to, float x) { *to = x; }
__host__ __device__ inline void from_float(__nv_bfloat16 *to, float x) { *to = __float2bfloat16(x); }

// Numbers in 128 bits of a type.
template <typename Real> struct PackOf {
    enum { SIZE = 16 / sizeof(Real) };
};

// Does every row of width C start on 16 bytes (if the first does)?
template <typename Real> __host__ __device__ inline bool packs_fit(int C) { return C % (int)PackOf<Real>::SIZE == 0; }

// v = row[c .. c + P - 1], zeros from C on. whole: row + c lies on 16 bytes and c + P <= C.
template <int P, typename Real>
__device__ inline void load_pack(float (&v)[P], const Real *row, int c, int C, bool whole) {
    const int K = P / (int)PackOf<Real>::SIZE; // 128-bit accesses
    if (whole && K > 0) {
#pragma unroll
        for (int k = 0; k < K; k++) {
            Real part[PackOf<Real>::SIZE];
            int4 bits = *(const int4 *)(row + c + k * (int)PackOf<Real>::SIZE);
            memcpy(part, &bits, 16);
#pragma unroll
            for (int i = 0; i < (int)PackOf<Real>::SIZE; i++) v[k * (int)PackOf<Real>::SIZE + i] = to_float(part[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < P; i++) v[i] = c + i < C ? to_float(row[c + i]) : 0.0f;
    }
}

// row[c .. c + P - 1] = v, up to C
template <int P, typename Real>
__device__ inline void store_pack(Real *row, const float (&v)[P], int c, int C, bool whole) {
    const int K = P / (int)PackOf<Real>::SIZE;
    if (whole && K > 0) {
#pragma unroll
        for (int k = 0; k < K; k++) {
            Real part[PackOf<Real>::SIZE];
#pragma unroll
            for (int i = 0; i < (int)PackOf<Real>::SIZE; i++) from_float(&part[i], v[k * (int)PackOf<Real>::SIZE + i]);
            int4 bits;
            memcpy(&bits, part, 16);
            *(int4 *)(row + c + k * (int)PackOf<Real>::SIZE) = bits;
        }
    } else {
#pragma unroll
        for (int i = 0; i < P; i++)
            if (c + i < C) from_float(&row[c + i], v[i]);
    }
}

// Sum over the 32 lanes, on all lanes; over groups of G neighbouring lanes (a power of two).
__device__ inline float warp_sum(float x) {
#pragma unroll
    for (int bit = 16; bit > 0; bit /= 2) x += __shfl_xor_sync(0xffffffffu, x, bit);
    return x;
}
__device__ inline float warp_max(float x) {
#pragma unroll
    for (int bit = 16; bit > 0; bit /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, bit));
    return x;
}
__device__ inline float group_sum(float x, int G) {
    for (int bit = G / 2; bit > 0; bit /= 2) x += __shfl_xor_sync(0xffffffffu, x, bit);
    return x;
}

// ---------------------------------------------------------------- checks

static inline void cuda_check(cudaError_t status, const char *expression, const char *file, int line) {
    if (status != cudaSuccess) fail("%s:%d: %s: %s", file, line, expression, cudaGetErrorString(status));
}
#define CUDA_CHECK(expression) cuda_check(expression, #expression, __FILE__, __LINE__)
// After each launch; names the kernel by its launcher.
#define LAUNCH_CHECK() cuda_check(cudaGetLastError(), __func__, __FILE__, __LINE__)

// ---------------------------------------------------------------- the device

struct GemmPlans; // gemm.h

typedef struct {
    int number; // of the GPU
    char name[256];
    int major, minor, multiprocessors;
    size_t memory; // bytes
    size_t shared; // of a thread block at most, bytes
    cudaStream_t stream;
    cudaStream_t later; // where device_floats() puts copies of floats that it does not wait for; NULL: it waits for all
    float *scratch;     // for partial sums; a launcher's use ends with its last kernel
    size_t scratch_bytes;
    struct GemmPlans *plans;
    int loss_way;      // LossWay, loss.h
    int attention_way; // AttentionWay, attention.h
    bool graphs;       // graph.h; off while the model is being made
    const Dist *dist;  // whose watchdog looks at every wait
} Device;

// What a kernel may have of dynamic shared memory without asking for more: 48 KB (CUDA C++ Programming Guide,
// "Technical Specifications per Compute Capability"), of which 1 KB is left to its static variables.
#define DEVICE_SHARED_BYTES ((size_t)47 << 10)

// Asks for as much dynamic shared memory as a launch of the kernel will take.
template <typename Kernel> static inline void device_shared(Kernel kernel, size_t bytes) {
    if (bytes > DEVICE_SHARED_BYTES)
        CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

// Partial sums of a kernel never need more: launchers choose their grids so.
#define DEVICE_SCRATCH_BYTES ((size_t)64 << 20)

// How many GPUs are visible. One line when there is none that can be used, with what to do. Drivers from 525.60 on
// serve all of CUDA 12 (CUDA 12 release notes, minor version compatibility).
static inline bool device_count(int *count, Error *err) {
    int driver = 0;
    cudaError_t status = cudaGetDeviceCount(count);
    bool none = status != cudaSuccess || *count == 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    if (none && driver == 0)
        return error_set(err, "no CUDA device: this machine has no NVIDIA driver; run train_gpt_cpu on it");
    if (driver > 0 && driver < 12000)
        return error_set(err,
                         "the NVIDIA driver of this machine serves CUDA %d.%d, and CUDA 12.0 or later is needed: "
                         "update it to 525.60 or later, or run train_gpt_cpu",
                         driver / 1000, driver % 1000 / 10);
    if (none)
        return error_set(err,
                         "no CUDA device: %s; run train_gpt_cpu on this machine, or look at nvidia-smi and "
                         "CUDA_VISIBLE_DEVICES",
                         status != cudaSuccess ? cudaGetErrorString(status) : "none is visible");
    return true;
}

// The GPU for this rank: by its number on its node, modulo the GPUs that are visible, so that launchers that
// show each rank one GPU and those that show it all both work. Takes no memory on it.
static inline bool device_find(Device *d, const Dist *dist, Error *err) {
    memset(d, 0, sizeof *d);
    d->dist = dist;
    int count = 0;
    if (!device_count(&count, err)) return false;
    d->number = dist->local_rank % count;
    CUDA_CHECK(cudaSetDevice(d->number));
    cudaDeviceProp p;
    CUDA_CHECK(cudaGetDeviceProperties(&p, d->number));
    snprintf(d->name, sizeof d->name, "%s", p.name);
    d->major = p.major, d->minor = p.minor;
    d->multiprocessors = p.multiProcessorCount;
    d->memory = p.totalGlobalMem;
    d->shared = p.sharedMemPerBlockOptin;
    if (d->major < 8)
        return error_set(err, "%s has compute capability %d.%d; 8.0 (A100) or later is needed", d->name, d->major,
                         d->minor);
    return true;
}

// With its stream and scratch memory.
static inline bool device_open(Device *d, const Dist *dist, Error *err) {
    if (!device_find(d, dist, err)) return false;
    CUDA_CHECK(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
    CUDA_CHECK(cudaMalloc((void **)&d->scratch, DEVICE_SCRATCH_BYTES));
    d->scratch_bytes = DEVICE_SCRATCH_BYTES;
    return true;
}

// Bytes that are free on this rank's GPU; 0: not known.
static inline double device_free(const Dist *dist) {
    int count = 0;
    size_t left = 0, all = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return 0;
    if (cudaSetDevice(dist->local_rank % count) != cudaSuccess || cudaMemGetInfo(&left, &all) != cudaSuccess) return 0;
    return (double)left;
}

static inline void device_close(Device *d) {
    cudaFree(d->scratch);
    cudaStreamDestroy(d->stream);
    memset(d, 0, sizeof *d);
}

// Device memory of `bytes`, zeroed; ends the process with the sizes when there is none.
static inline void *device_alloc(Device *d, size_t bytes, const char *what) {
    void *p = NULL;
    if (cudaMalloc(&p, bytes ? bytes : 16) != cudaSuccess) {
        size_t left = 0, all = 0;
        cudaMemGetInfo(&left, &all);
        fail("%s needs %.2f GiB of device memory, %.2f of %.2f GiB are free on %s; try a smaller --batch_size, "
             "--recompute=block, or a higher --zero over several GPUs",
             what, (double)bytes / (1 << 30), (double)left / (1 << 30), (double)all / (1 << 30), d->name);
    }
    CUDA_CHECK(cudaMemsetAsync(p, 0, bytes, d->stream));
    return p;
}

// Waits for the device. What it does may wait for other ranks in turn, so the watchdog looks at every wait.
static inline void device_synchronize(Device *d) {
    watchdog_enter(d->dist->watchdog, "the device, or the other ranks for which it waits");
    CUDA_CHECK(cudaStreamSynchronize(d->stream));
    watchdog_leave(d->dist->watchdog);
}
static inline void device_wait(Device *d, cudaEvent_t event) {
    watchdog_enter(d->dist->watchdog, "the device, or the other ranks for which it waits");
    CUDA_CHECK(cudaEventSynchronize(event));
    watchdog_leave(d->dist->watchdog);
}

// Copies `bytes` to the device, or to the host, and waits for them.
static inline void device_write(Device *d, void *to, const void *from, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, d->stream));
    device_synchronize(d);
}
static inline void device_read(Device *d, void *to, const void *from, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, d->stream));
    device_synchronize(d);
}

// out (n) on the host = n numbers of the device
template <typename Real> static inline void device_floats(Device *d, float *out, const Real *in, size_t n) {
    if constexpr (sizeof(Real) == sizeof(float)) {
        if (d->later) CUDA_CHECK(cudaMemcpyAsync(out, in, sizeof(float) * n, cudaMemcpyDeviceToHost, d->later));
        else device_read(d, out, in, sizeof(float) * n);
    } else {
        Real *values = (Real *)mem_alloc(sizeof(Real) * n);
        device_read(d, values, in, sizeof(Real) * n);
        for (size_t i = 0; i < n; i++) out[i] = to_float(values[i]);
        free(values);
    }
}

// Milliseconds that `work`, which puts work on the stream, takes: the mean of so many runs.
template <typename Work> static inline float device_time(Device *d, int runs, Work work) {
    cudaEvent_t start, stop;
    float ms;
    CUDA_CHECK(cudaEventCreate(&start));
    CUDA_CHECK(cudaEventCreate(&stop));
    CUDA_CHECK(cudaEventRecord(start, d->stream));
    for (int i = 0; i < runs; i++) work();
    CUDA_CHECK(cudaEventRecord(stop, d->stream));
    CUDA_CHECK(cudaEventSynchronize(stop));
    CUDA_CHECK(cudaEventElapsedTime(&ms, start, stop));
    CUDA_CHECK(cudaEventDestroy(start));
    CUDA_CHECK(cudaEventDestroy(stop));
    return ms / (float)runs;
}

// ---------------------------------------------------------------- sums of partial sums

// out1 (C) and out2 (width - C) (NULL: skipped) += the sums over the rows of partial (rows, width), in a
// fixed order: 8 threads a column take every eighth row, then their sums are added one after the other.
static __global__ void add_columns_kernel(float *out1, float *out2, const float *partial, int rows, int C, int width) {
    __shared__ float part[8][33];
    int column = (int)(blockIdx.x * 32 + threadIdx.x), y = (int)threadIdx.y;
    bool wanted = column < C ? out1 != NULL : out2 && column < width;
    float sum = 0;
    if (wanted)
        for (int r = y; r < rows; r += 8) sum += partial[(size_t)r * (size_t)width + (size_t)column];
    part[y][threadIdx.x] = sum;
    __syncthreads();
    if (y || !wanted) return;
    sum = 0;
    for (int i = 0; i < 8; i++) sum += part[i][threadIdx.x];
    float *to = column < C ? out1 + column : out2 + (column - C);
    *to += sum;
}

static inline void add_columns(float *out1, float *out2, const float *partial, int rows, int C, int width, Device *d) {
    add_columns_kernel<<<(unsigned)((width + 31) / 32), dim3(32, 8), 0, d->stream>>>(out1, out2, partial, rows, C,
                                                                                     width);
    LAUNCH_CHECK();
}

// Thread blocks for n items of `each`, refusing what a grid cannot hold.
static inline unsigned blocks_for(size_t n, size_t each) {
    size_t blocks = (n + each - 1) / each;
    if (blocks > 0x7fffffffu)
        fail("a kernel over %zu items is more than a grid can hold; use a smaller --batch_size", n);
    return blocks ? (unsigned)blocks : 1;
}

#endif
