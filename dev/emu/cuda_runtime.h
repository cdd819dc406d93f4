/*
cuda_runtime.h (emulator): as much of the CUDA runtime as this repository uses, on the CPU.

A test tool: it lets a host C++ compiler build the .cu files and run every kernel with sanitizers and
gdb on a machine without a GPU or a CUDA toolkit. Nothing here is fast.

How a kernel runs. `make emu` rewrites kernel<<<grid, block, shared, stream>>>(...) into
emu_launch(emu_config(grid, block, shared, stream), kernel)(...) and `extern __shared__ T name[];`
into a pointer (both with sed). Thread blocks run one after the other. Their threads are fibers:
each runs until it meets the others (__syncthreads, a shuffle, mma), then the next one runs. Device
memory is malloc memory, so AddressSanitizer sees every store; it is filled with NaN, as is dynamic
shared memory at the start of each block, so that what was never written shows.

CUDA_EMU_PTX=FILE: kernels run from the PTX that nvcc made of them, not from their source (ptx.h).
CUDA_EMU_COPIES=early: copies of cp.async arrive at once, not when they are waited for.

The environment variable CUDA_EMU_ORDER sets the order in which fibers of a thread block, and blocks of a
grid, run: forwards (default), backwards, or shuffle:SEED. A missing barrier makes the results of
these orders differ.

Another device: CUDA_EMU_MEMORY and CUDA_EMU_SHARED (bytes of it, and of shared memory a thread block), CUDA_EMU_DRIVER
(the CUDA version that the driver serves, 11040 for 11.4).

Streams: work is done when it is submitted, unless CUDA_EMU_STREAMS asks for another order that a
device could choose as well. Then work waits in its stream until the host waits for something, and is
done
    lazy          as late as allowed: only what the host waits for, and what that waits for by events
    ahead         other streams first, as far as their events let them; the first stream last
    shuffle:SEED  one piece of work at a time, of any stream that may go on
so that an event that is missing between two streams makes the results differ. During stream capture
work is kept, and runs when the graph is launched, as on a device; a capture that reaches outside
itself, or whose streams do not come together at its end, is refused, as there.

Times between events say nothing of a device: all are 1 ms, or with CUDA_EMU_TIMES=SEED made-up ones, so that what is
chosen by time is chosen otherwise.

Shuffles and barriers wait for all threads of the mask that have not ended, as on sm_70 and later
(CUDA C++ Programming Guide, "Warp Shuffle Functions"). Threads that wait for each other in vain end
the program with a message that says which and where.

fibers.h runs thread blocks, device.h is what kernels call, streams.h and graphs.h order work; here: devices, memory.
Needs C++17.
*/
#ifndef EMU_CUDA_RUNTIME_H
#define EMU_CUDA_RUNTIME_H

#define CUDA_EMU 1
#define CUDART_VERSION 12000

#include "device.h"
#include "graphs.h"
#include <unistd.h>

typedef enum { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice } cudaMemcpyKind;
typedef enum { cudaFuncAttributeMaxDynamicSharedMemorySize } cudaFuncAttribute;
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, maxThreadsPerMultiProcessor;
    struct {
        char bytes[16];
    } uuid;
};

static inline const char *cudaGetErrorString(cudaError_t e) {
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureUnjoined: return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation: return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent: return "operation not permitted on an event last recorded in a capturing stream";
    default: return "invalid argument";
    }
}
static inline cudaError_t cudaGetLastError() {
    int e = emu.error;
    emu.error = 0;
    return e;
}
static inline cudaError_t cudaGetDeviceCount(int *n) { return *n = 1, cudaSuccess; }
static inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "CPU emulator");
    p->totalGlobalMem = emu_number("CUDA_EMU_MEMORY", (size_t)8 << 30);
    p->sharedMemPerBlockOptin = emu_shared_limit();
    p->major = emu_ptx_arch() ? emu_ptx_arch() / 10 : 9;
    p->multiProcessorCount = 4;
    p->maxThreadsPerMultiProcessor = 2048;
    snprintf(p->uuid.bytes, sizeof p->uuid.bytes, "emu %ld", (long)getpid()); // every rank has a device of its own
    return cudaSuccess;
}
typedef enum {
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrMemoryClockRate,
    cudaDevAttrGlobalMemoryBusWidth
} cudaDeviceAttr;
static inline cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int) {
    return *v = a == cudaDevAttrMultiProcessorCount ? 4 : 1000000, cudaSuccess;
}
static inline cudaError_t cudaDriverGetVersion(int *v) {
    return *v = (int)emu_number("CUDA_EMU_DRIVER", 0), cudaSuccess;
}
static inline cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 0, cudaSuccess; }
static inline cudaError_t cudaDeviceGetPCIBusId(char *bus, int n, int) {
    return snprintf(bus, (size_t)n, "0000:00:00.0"), cudaSuccess;
}
static inline cudaError_t cudaMemGetInfo(size_t *left, size_t *all) {
    return *left = *all = emu_number("CUDA_EMU_MEMORY", (size_t)8 << 30), cudaSuccess;
}
static inline cudaError_t cudaMalloc(void **p, size_t n) {
    if (emu_streams.capture || posix_memalign(p, 256, n ? n : 1) != 0) return cudaErrorMemoryAllocation;
    memset(*p, 0xff, n); // NaN in every format
    emu.allocations[(const char *)*p] = n;
    return cudaSuccess;
}
template <typename T> static inline cudaError_t cudaMalloc(T **p, size_t n) { return cudaMalloc((void **)p, n); }
static inline cudaError_t cudaFree(void *p) {
    emu_run_all();
    emu.allocations.erase((const char *)p);
    return free(p), cudaSuccess;
}
template <typename T> static inline cudaError_t cudaMallocHost(T **p, size_t n) { return cudaMalloc((void **)p, n); }
static inline cudaError_t cudaFreeHost(void *p) { return cudaFree(p); }
static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind,
                                          cudaStream_t s = nullptr) {
    emu_submit(s, [=]() { memmove(to, from, n); });
    return cudaSuccess;
}
static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, n, kind), cudaStreamSynchronize(nullptr);
}
static inline cudaError_t cudaMemcpy2DAsync(void *to, size_t ldt, const void *from, size_t ldf, size_t width,
                                            size_t rows, cudaMemcpyKind, cudaStream_t s = nullptr) {
    emu_submit(s, [=]() {
        for (size_t r = 0; r < rows; r++) memmove((char *)to + r * ldt, (const char *)from + r * ldf, width);
    });
    return cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t s = nullptr) {
    emu_submit(s, [=]() { memset(to, value, n); });
    return cudaSuccess;
}
template <typename K> static inline cudaError_t cudaFuncSetAttribute(K kernel, cudaFuncAttribute, int value) {
    if ((size_t)value + emu_static_shared((const void *)kernel) > emu_shared_limit()) return cudaErrorInvalidValue;
    emu.shared_limit[(const void *)kernel] = (size_t)value;
    return cudaSuccess;
}

#endif
