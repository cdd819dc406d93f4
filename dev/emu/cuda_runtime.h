/*
cuda_runtime.h (emulator): as much of the CUDA runtime as this repository uses, on the CPU.

A test tool: it lets a host C++ compiler build the .cu files and run every kernel with sanitizers and
gdb on a machine without a GPU or a CUDA toolkit. Nothing here is fast.

How a kernel runs. `make emu` rewrites kernel<<<grid, block, shared, stream>>>(...) into
emu_launch(emu_config(grid, block, shared, stream), kernel)(...) and `extern __shared__ T name[];`
into a pointer (both with sed). Blocks run one after the other. The threads of a block are fibers:
each runs until it meets the others (__syncthreads, a shuffle, mma), then the next one runs. Device
memory is malloc memory, so AddressSanitizer sees every store; it is filled with NaN, as is dynamic
shared memory at the start of each block, so that what was never written shows.

The environment variable CUDA_EMU_ORDER sets the order in which fibers of a block, and blocks of a
grid, run: forwards (default), backwards, or shuffle:SEED. A missing barrier makes the results of
these orders differ.

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

x86-64 and aarch64 switch fibers in a few instructions; other machines use ucontext.
Needs C++17.
*/
#ifndef EMU_CUDA_RUNTIME_H
#define EMU_CUDA_RUNTIME_H

#define CUDA_EMU 1

#include <algorithm>
#include <random>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#ifdef EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

// ---------------------------------------------------------------- language

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
#define EMU_VECTOR(T, name)                                                                                            \
    struct alignas(2 * sizeof(T)) name##2 {                                                                            \
        T x, y;                                                                                                        \
    };                                                                                                                 \
    struct name##3 {                                                                                                   \
        T x, y, z;                                                                                                     \
    };                                                                                                                 \
    struct alignas(4 * sizeof(T)) name##4 {                                                                            \
        T x, y, z, w;                                                                                                  \
    };                                                                                                                 \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                  \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                          \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTOR(float, float)
EMU_VECTOR(int, int)
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
static const int warpSize = 32;

// ---------------------------------------------------------------- fibers

#if defined(__x86_64__)
// emu_switch(save, to): keeps the callee-saved registers on this stack, goes on with that one
__asm__(".text\n.weak emu_switch\n.type emu_switch,@function\nemu_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size emu_switch,.-emu_switch\n");
extern "C" void emu_switch(void **save, void *to);
static inline void *emu_first_stack(char *top, void (*entry)()) {
    void **sp = (void **)(top - 64);
    sp[0] = sp[1] = sp[2] = sp[3] = sp[4] = sp[5] = nullptr;
    sp[6] = (void *)entry; // returned to; the stack is then 8 past a multiple of 16, as after a call
    return sp;
}
#elif defined(__aarch64__)
__asm__(".text\n.weak emu_switch\n.type emu_switch,%function\nemu_switch:\n"
        "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
        "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\n"
        "stp d14,d15,[sp,#144]\nmov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
        "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
        "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\n"
        "ldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n.size emu_switch,.-emu_switch\n");
extern "C" void emu_switch(void **save, void *to);
static inline void *emu_first_stack(char *top, void (*entry)()) {
    void **sp = (void **)(top - 160);
    memset(sp, 0, 160);
    sp[11] = (void *)entry; // x30
    return sp;
}
#else
#include <ucontext.h>
static inline void emu_switch(void **save, void *to) {
    ucontext_t here;
    *save = &here;
    swapcontext(&here, (ucontext_t *)to);
}
static inline void *emu_first_stack(char *top, void (*entry)()) {
    ucontext_t *c = (ucontext_t *)(top - 4096);
    getcontext(c);
    c->uc_stack.ss_sp = top - (192 << 10);
    c->uc_stack.ss_size = (192 << 10) - 4096;
    makecontext(c, entry, 0);
    return c;
}
#endif

static const size_t EMU_STACK = 256 << 10;
enum EmuState { EMU_READY, EMU_BLOCK_BARRIER, EMU_WARP_MEETING, EMU_ENDED };

struct EmuFiber {
    void *sp = nullptr;
    char *stack = nullptr;
    void *fake_stack = nullptr; // AddressSanitizer's
};

// Copies that cp.async would make: done when waited for, never earlier.
struct EmuCopy {
    void *to;
    const void *from;
    int bytes, zeros;
};

struct EmuThread {
    int state = EMU_ENDED;
    EmuFiber *fiber = nullptr;
    uint3 index;
    std::vector<std::vector<EmuCopy>> copies; // committed groups, the last one still open
};

struct EmuMeeting { // of the lanes of a mask within a warp
    unsigned mask = 0, arrived = 0;
    void *items[32];
    void (*combine)(void **items, unsigned lanes);
};

struct EmuState_ {
    std::vector<EmuThread> threads; // of the running block
    std::vector<EmuFiber *> idle;
    std::vector<EmuMeeting> meetings; // 8 for each warp
    EmuThread *current = nullptr;
    const std::function<void()> *body = nullptr;
    void *scheduler_sp = nullptr, *scheduler_fake = nullptr;
    const void *scheduler_stack = nullptr;
    size_t scheduler_stack_size = 0;
    int waiting_at_barrier = 0, barrier_or = 0, barrier_result = 0;
    char *dynamic_shared = nullptr;
    size_t dynamic_shared_bytes = 0;
    int order = -1; // 0 forwards, 1 backwards, 2 shuffled
    uint64_t random = 0;
    int error = 0;
    std::map<const void *, size_t> shared_limit;
    size_t fibers = 0;
    unsigned long long launches = 0;
};
inline EmuState_ &emu = *new EmuState_; // never destroyed, so that leak checkers see what it holds

static inline void emu_to_scheduler(bool ending) {
    EmuFiber *f = emu.current->fiber;
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(ending ? nullptr : &f->fake_stack, emu.scheduler_stack, emu.scheduler_stack_size);
#else
    (void)ending;
#endif
    emu_switch(&f->sp, emu.scheduler_sp);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(f->fake_stack, &emu.scheduler_stack, &emu.scheduler_stack_size);
#endif
}

// Where every fiber starts, and where it comes back for another thread's work.
static inline void emu_fiber_main() {
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &emu.scheduler_stack, &emu.scheduler_stack_size);
#endif
    for (;;) {
        (*emu.body)();
        emu.current->state = EMU_ENDED;
        emu_to_scheduler(false);
    }
}

static inline EmuFiber *emu_take_fiber() {
    if (!emu.idle.empty()) {
        EmuFiber *f = emu.idle.back();
        emu.idle.pop_back();
        return f;
    }
    EmuFiber *f = new EmuFiber;
    f->stack =
        (char *)mmap(nullptr, EMU_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->stack == MAP_FAILED) {
        fprintf(stderr, "error: the emulator has no memory for another fiber's stack\n");
        exit(1);
    }
    mprotect(f->stack, 4096, PROT_NONE); // a stack that grows too far stops here
    // Tops at different places of a page, or all stacks would compete for the same few cache sets.
    size_t shift = emu.fibers++ % 57 * 576 / 64 * 64;
    f->sp = emu_first_stack(f->stack + EMU_STACK - shift, emu_fiber_main);
    return f;
}

static inline void emu_run_thread(EmuThread *t) {
    emu.current = t;
    threadIdx = t->index;
    if (!t->fiber) t->fiber = emu_take_fiber();
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&emu.scheduler_fake, t->fiber->stack + 4096, EMU_STACK - 4096);
#endif
    emu_switch(&emu.scheduler_sp, t->fiber->sp);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(emu.scheduler_fake, nullptr, nullptr);
#endif
    if (t->state == EMU_ENDED) {
        emu.idle.push_back(t->fiber);
        t->fiber = nullptr;
    }
}

static inline int emu_thread_number() {
    return (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}
static inline int emu_lane() { return emu_thread_number() % 32; }

// ---------------------------------------------------------------- meeting points

static inline void emu_release(EmuMeeting *m, int warp) {
    unsigned lanes = m->arrived;
    m->combine(m->items, lanes);
    m->mask = m->arrived = 0;
    for (int i = 0; i < 32; i++)
        if (lanes >> i & 1) emu.threads[(size_t)(warp * 32 + i)].state = EMU_READY;
}

// The lanes of a warp that have not ended, of those in mask.
static inline unsigned emu_awaited(int warp, unsigned mask) {
    unsigned lanes = 0;
    for (int i = 0; i < 32 && (size_t)(warp * 32 + i) < emu.threads.size(); i++)
        if (emu.threads[(size_t)(warp * 32 + i)].state != EMU_ENDED) lanes |= 1u << i;
    return lanes & mask;
}

// Waits until every awaited lane of mask is here; the last one calls combine once for all, with each
// lane's `item` (NULL for lanes that are not there). combine may write into the items.
static inline void emu_meet(unsigned mask, void *item, void (*combine)(void **items, unsigned lanes)) {
    int number = emu_thread_number(), warp = number / 32, lane = number % 32;
    if (!(mask >> lane & 1)) {
        fprintf(stderr,
                "error: emulator: block (%u,%u,%u) thread %d takes part in a warp operation with mask %08x, which "
                "leaves it out\n",
                blockIdx.x, blockIdx.y, blockIdx.z, number, mask);
        abort();
    }
    EmuMeeting *m = nullptr, *all = &emu.meetings[(size_t)warp * 8];
    for (int i = 0; i < 8 && !m; i++)
        if (all[i].arrived && all[i].mask == mask && all[i].combine == combine) m = &all[i];
    for (int i = 0; i < 8 && !m; i++)
        if (!all[i].arrived) {
            m = &all[i];
            m->mask = mask;
            m->combine = combine;
            for (int j = 0; j < 32; j++) m->items[j] = nullptr;
        }
    if (!m) {
        fprintf(stderr, "error: emulator: more than 8 groups of one warp wait at once\n");
        abort();
    }
    m->items[lane] = item;
    m->arrived |= 1u << lane;
    EmuThread *self = emu.current;
    self->state = EMU_WARP_MEETING;
    if (m->arrived == emu_awaited(warp, mask)) {
        emu_release(m, warp);
        return;
    }
    emu_to_scheduler(false);
}

static inline int emu_block_barrier(int value) {
    emu.barrier_or |= value;
    emu.waiting_at_barrier++;
    emu.current->state = EMU_BLOCK_BARRIER;
    emu_to_scheduler(false);
    return emu.barrier_result;
}
static inline void __syncthreads() { emu_block_barrier(0); }
static inline int __syncthreads_or(int value) { return emu_block_barrier(value != 0); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emu_meet(mask, nullptr, [](void **, unsigned) {});
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

template <typename T> struct EmuShuffle {
    T value, result;
    int from;
};
template <typename T> static inline T emu_shuffle(unsigned mask, T value, int from) {
    EmuShuffle<T> mine;
    memset((void *)&mine.result, 0xff, sizeof(T)); // what a lane that is not there gives: NaN
    mine.value = value;
    mine.from = from;
    emu_meet(mask, &mine, [](void **items, unsigned) {
        for (int i = 0; i < 32; i++) {
            EmuShuffle<T> *s = (EmuShuffle<T> *)items[i];
            if (s && items[s->from]) s->result = ((EmuShuffle<T> *)items[s->from])->value;
        }
    });
    return mine.result;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
    return emu_shuffle(mask, v, emu_lane() / width * width + (lane & (width - 1)));
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
    int self = emu_lane(), from = self ^ bits;
    return emu_shuffle(mask, v, from / width <= self / width ? from : self);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    int self = emu_lane(), from = self + (int)by;
    return emu_shuffle(mask, v, from / width == self / width ? from : self);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    int self = emu_lane(), from = self - (int)by;
    return emu_shuffle(mask, v, from >= 0 && from / width == self / width ? from : self);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned mine = predicate != 0;
    emu_meet(mask, &mine, [](void **items, unsigned) {
        unsigned all = 0;
        for (int i = 0; i < 32; i++)
            if (items[i] && *(unsigned *)items[i]) all |= 1u << i;
        for (int i = 0; i < 32; i++)
            if (items[i]) *(unsigned *)items[i] = all;
    });
    return mine;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
static inline unsigned __activemask() { return 0xffffffffu; }

// ---------------------------------------------------------------- running a grid

static inline uint64_t emu_random() { // splitmix64
    uint64_t z = emu.random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static inline void emu_ordering(std::vector<int> &order, size_t n) {
    if (emu.order < 0) {
        const char *text = getenv("CUDA_EMU_ORDER");
        emu.order = 0;
        if (text && strcmp(text, "backwards") == 0) emu.order = 1;
        else if (text && strncmp(text, "shuffle:", 8) == 0) emu.order = 2, emu.random = strtoull(text + 8, nullptr, 10);
        else if (text && *text && strcmp(text, "forwards") != 0) {
            fprintf(stderr, "error: CUDA_EMU_ORDER=%s: expected forwards, backwards or shuffle:SEED\n", text);
            exit(1);
        }
    }
    order.resize(n);
    for (size_t i = 0; i < n; i++) order[i] = (int)(emu.order == 1 ? n - 1 - i : i);
    if (emu.order == 2)
        for (size_t i = n; i > 1; i--) std::swap(order[i - 1], order[emu_random() % i]);
}

static inline void emu_deadlock() {
    static const char *what[] = {"ready", "__syncthreads", "a warp operation", "ended"};
    fprintf(stderr, "error: emulator: block (%u,%u,%u) waits in vain:", blockIdx.x, blockIdx.y, blockIdx.z);
    for (size_t i = 0, from = 0; i < emu.threads.size(); i++)
        if (i + 1 == emu.threads.size() || emu.threads[i + 1].state != emu.threads[from].state) {
            fprintf(stderr, " threads %zu-%zu: %s;", from, i, what[emu.threads[from].state]);
            from = i + 1;
        }
    fprintf(stderr, "\n");
    abort();
}

static inline void emu_run_block(const std::vector<int> &order) {
    size_t n = emu.threads.size();
    int live = (int)n;
    for (size_t i = 0; i < n; i++) {
        EmuThread *t = &emu.threads[i];
        t->state = EMU_READY;
        t->index = {(unsigned)i % blockDim.x, (unsigned)i / blockDim.x % blockDim.y,
                    (unsigned)i / blockDim.x / blockDim.y};
        t->copies.clear();
    }
    emu.waiting_at_barrier = emu.barrier_or = 0;
    while (live) {
        bool progress = false;
        for (int i : order) {
            if (emu.threads[(size_t)i].state != EMU_READY) continue;
            progress = true;
            // Its whole warp runs as far as it can before any other does: warps in step would hide a missing barrier.
            int warp = i / 32 * 32, mask = i % 32;
            for (bool again = true; again;) {
                again = false;
                for (int lane = 0; lane < 32; lane++) {
                    size_t at = (size_t)(warp + (lane ^ mask));
                    if (at >= n || emu.threads[at].state != EMU_READY) continue;
                    again = true;
                    emu_run_thread(&emu.threads[at]);
                    if (emu.threads[at].state == EMU_ENDED) live--;
                }
            }
        }
        if (progress) continue;
        if (emu.waiting_at_barrier == live) { // threads that have ended are not waited for
            emu.barrier_result = emu.barrier_or;
            emu.waiting_at_barrier = emu.barrier_or = 0;
            for (size_t i = 0; i < n; i++)
                if (emu.threads[i].state == EMU_BLOCK_BARRIER) emu.threads[i].state = EMU_READY;
            continue;
        }
        for (size_t i = 0; i < emu.meetings.size(); i++) {
            EmuMeeting *m = &emu.meetings[i];
            if (m->arrived && m->arrived == emu_awaited((int)(i / 8), m->mask)) {
                emu_release(m, (int)(i / 8));
                progress = true;
            }
        }
        if (!progress) emu_deadlock();
    }
}

// ---------------------------------------------------------------- streams

typedef int cudaError_t;
enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorNoDevice = 100,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureUnjoined = 904,
    cudaErrorStreamCaptureIsolation = 905,
    cudaErrorCapturedEvent = 907
};

// What a recorded event stands for: done once the work before it is. Of a capture: the number of it.
struct EmuTicket {
    bool done = false;
    int capture = 0;
};
typedef std::shared_ptr<EmuTicket> EmuTicketRef;

// One piece of a stream's work: something to do, a ticket to wait for, or one to hand out.
struct EmuOp {
    std::function<void()> work;
    EmuTicketRef wait, record;
};
struct EmuStream {
    std::deque<EmuOp> ops;
    int lane = -1;        // in the capture that it takes part in, or -1
    bool passing = false; // made for a graph's launch
};
typedef EmuStream *cudaStream_t;

// What a capture kept, in the order of submission; lane 0 is the stream that it began in.
struct EmuCaptured {
    int lane;
    EmuOp op;
};
typedef std::shared_ptr<std::vector<EmuCaptured>> EmuWork;

enum { EMU_EAGER, EMU_LAZY, EMU_AHEAD, EMU_SHUFFLE };
struct EmuStreams {
    int order = EMU_EAGER;
    uint64_t random = 0;
    EmuStream first;                         // the default stream
    std::vector<EmuStream *> all = {&first}; // in the order of creation
    int capture = 0, captures = 0;           // number of the running capture, 0: none; how many there were
    EmuWork captured;
    std::vector<EmuStream *> lanes; // of the running capture
    EmuStreams() {
        const char *text = getenv("CUDA_EMU_STREAMS");
        if (!text || !*text || strcmp(text, "eager") == 0) order = EMU_EAGER;
        else if (strcmp(text, "lazy") == 0) order = EMU_LAZY;
        else if (strcmp(text, "ahead") == 0) order = EMU_AHEAD;
        else if (strncmp(text, "shuffle:", 8) == 0) order = EMU_SHUFFLE, random = strtoull(text + 8, nullptr, 10);
        else {
            fprintf(stderr, "error: CUDA_EMU_STREAMS=%s: expected eager, lazy, ahead or shuffle:SEED\n", text);
            exit(1);
        }
    }
};
inline EmuStreams &emu_streams = *new EmuStreams;

static inline EmuStream *emu_stream(cudaStream_t s) { return s ? s : &emu_streams.first; }

static inline void emu_do(EmuOp &op) {
    if (op.work) op.work();
    if (op.record) op.record->done = true;
}

static inline void emu_submit_op(cudaStream_t stream, EmuOp op) {
    EmuStream *s = emu_stream(stream);
    if (s->lane >= 0) emu_streams.captured->push_back({s->lane, std::move(op)});
    else if (emu_streams.order == EMU_EAGER) emu_do(op);
    else s->ops.push_back(std::move(op));
}

// Puts work into a stream.
static inline void emu_submit(cudaStream_t stream, std::function<void()> work) {
    emu_submit_op(stream, {std::move(work), nullptr, nullptr});
}

static inline bool emu_may_go_on(const EmuStream *s) {
    return !s->ops.empty() && (!s->ops.front().wait || s->ops.front().wait->done);
}

static inline void emu_go_on(EmuStream *s) {
    EmuOp op = std::move(s->ops.front());
    s->ops.pop_front();
    emu_do(op);
}

static inline void emu_stuck() {
    fprintf(stderr, "error: emulator: a stream waits for an event that no stream will record\n");
    abort();
}

// Work in the order asked for, until the ticket is done, or, without one, until the stream is empty.
static inline void emu_run_until(EmuStream *s, const EmuTicketRef &ticket) {
    EmuStreams &e = emu_streams;
    while (ticket ? !ticket->done : !s->ops.empty()) {
        EmuStream *next = nullptr;
        if (e.order == EMU_LAZY) {
            next = s;
            for (size_t hops = 0; next && !emu_may_go_on(next); hops++) {
                EmuTicketRef wanted = next->ops.front().wait;
                next = nullptr;
                for (EmuStream *other : e.all)
                    for (EmuOp &op : other->ops)
                        if (op.record == wanted && hops < e.all.size()) next = other;
            }
        } else {
            std::vector<EmuStream *> able;
            for (EmuStream *other : e.all)
                if (emu_may_go_on(other)) able.push_back(other);
            if (!able.empty()) {
                e.random = e.random * 6364136223846793005ull + 1442695040888963407ull;
                next = e.order == EMU_AHEAD ? able.back() : able[(e.random >> 33) % able.size()];
            }
        }
        if (!next) emu_stuck();
        emu_go_on(next);
    }
}

static inline void emu_run_all() {
    EmuStreams &e = emu_streams;
    for (size_t i = 0; i < e.all.size(); i++) emu_run_until(e.all[i], nullptr);
}

struct EmuConfig {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};
static inline EmuConfig emu_config(dim3 grid, dim3 block, size_t shared = 0, cudaStream_t stream = nullptr) {
    return {grid, block, shared, stream};
}

static inline void emu_run_grid(const EmuConfig &c, const std::function<void()> &body) {
    std::vector<int> blocks, order;
    size_t n = (size_t)c.grid.x * c.grid.y * c.grid.z, threads = (size_t)c.block.x * c.block.y * c.block.z;
    gridDim = c.grid;
    blockDim = c.block;
    emu.body = &body;
    emu.threads.assign(threads, EmuThread());
    emu.meetings.assign((threads + 31) / 32 * 8, EmuMeeting());
    void *shared = nullptr;
    if (c.shared && posix_memalign(&shared, 1024, c.shared) != 0) abort();
    emu.dynamic_shared = (char *)shared;
    emu_ordering(blocks, n);
    emu_ordering(order, threads);
    for (int b : blocks) {
        blockIdx = {(unsigned)b % c.grid.x, (unsigned)b / c.grid.x % c.grid.y, (unsigned)b / c.grid.x / c.grid.y};
        if (shared) memset(shared, 0xff, c.shared);
        emu_run_block(order);
    }
    free(shared);
    emu.dynamic_shared = nullptr;
}

static inline void *emu_dynamic_shared() { return emu.dynamic_shared; }

template <typename... P> struct EmuLaunch {
    EmuConfig c;
    void (*kernel)(P...);
    void operator()(P... a) const {
        size_t threads = (size_t)c.block.x * c.block.y * c.block.z, limit = 48 << 10;
        auto found = emu.shared_limit.find((const void *)kernel);
        if (found != emu.shared_limit.end()) limit = found->second;
        if (!threads || threads > 1024 || !c.grid.x || !c.grid.y || !c.grid.z || c.grid.x > 0x7fffffffu ||
            c.grid.y > 65535 || c.grid.z > 65535 || c.shared > limit) {
            emu.error = cudaErrorInvalidConfiguration;
            return;
        }
        emu.launches++;
        EmuConfig config = c;
        void (*k)(P...) = kernel;
        emu_submit(c.stream, [=]() { emu_run_grid(config, [=]() { k(a...); }); });
    }
};
template <typename... P> static inline EmuLaunch<P...> emu_launch(EmuConfig c, void (*kernel)(P...)) {
    return {c, kernel};
}

// ---------------------------------------------------------------- device functions

static inline float __uint_as_float(unsigned u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
static inline int __float_as_int(float f) {
    int u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __int_as_float(int u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
#define __expf expf // not functions: glibc declares these names
#define __logf logf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline float __saturatef(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldcs(const T *p) { return *p; }
template <typename T> static inline T __ldcg(const T *p) { return *p; }
template <typename T> static inline void __stcs(T *p, T v) { *p = v; }
template <typename T> static inline void __stcg(T *p, T v) { *p = v; }
template <typename A, typename B> static inline typename std::common_type<A, B>::type min(A a, B b) {
    return a < b ? a : b;
}
template <typename A, typename B> static inline typename std::common_type<A, B>::type max(A a, B b) {
    return a > b ? a : b;
}
static inline int atomicAdd(int *p, int v) {
    int old = *p;
    *p += v;
    return old;
}
static inline unsigned atomicAdd(unsigned *p, unsigned v) {
    unsigned old = *p;
    *p += v;
    return old;
}
static inline unsigned atomicInc(unsigned *p, unsigned most) {
    unsigned old = *p;
    *p = old >= most ? 0 : old + 1;
    return old;
}

// cp.async: copies `bytes` and fills up to `size` with zeros, when the group is waited for.
static inline void emu_cp_async(void *to, const void *from, int size, int bytes) {
    auto &groups = emu.current->copies;
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({to, from, bytes, size - bytes});
}
static inline void emu_cp_async_commit() {
    auto &groups = emu.current->copies;
    if (groups.empty()) groups.emplace_back();
    groups.emplace_back();
}
// Until at most `pending` committed groups are under way.
static inline void emu_cp_async_wait(int pending) {
    auto &groups = emu.current->copies;
    while ((int)groups.size() - 1 > pending) {
        for (EmuCopy &c : groups.front()) {
            if (c.bytes) memcpy(c.to, c.from, (size_t)c.bytes);
            memset((char *)c.to + c.bytes, 0, (size_t)c.zeros);
        }
        groups.erase(groups.begin());
    }
}

// mma.sync.m16n8k16 bf16 x bf16 + fp32: d (16, 8) = a (16, 16) b (16, 8) + c, in the fragments of the
// PTX manual ("Matrix Fragments for mma.m16n8k16"). d may be c.
static inline void emu_mma_m16n8k16_bf16(float *d, const uint32_t *a, const uint32_t *b, const float *c) {
    struct Item {
        const uint32_t *a, *b;
        const float *c;
        float d[4];
    } mine = {a, b, c, {0, 0, 0, 0}};
    emu_meet(0xffffffffu, &mine, [](void **items, unsigned) {
        float A[16][16], B[16][8];
        for (int lane = 0; lane < 32; lane++) {
            Item *t = (Item *)items[lane];
            int g = lane / 4, i = lane % 4 * 2;
            for (int r = 0; r < 4; r++)
                for (int e = 0; e < 2; e++)
                    A[g + r % 2 * 8][i + e + r / 2 * 8] = __uint_as_float(e ? t->a[r] & 0xffff0000u : t->a[r] << 16);
            for (int r = 0; r < 2; r++)
                for (int e = 0; e < 2; e++)
                    B[i + e + r * 8][g] = __uint_as_float(e ? t->b[r] & 0xffff0000u : t->b[r] << 16);
        }
        for (int lane = 0; lane < 32; lane++) {
            Item *t = (Item *)items[lane];
            for (int r = 0; r < 4; r++) {
                int row = lane / 4 + r / 2 * 8, col = lane % 4 * 2 + r % 2;
                float sum = t->c[r];
                for (int k = 0; k < 16; k++) sum += A[row][k] * B[k][col];
                t->d[r] = sum;
            }
        }
    });
    for (int r = 0; r < 4; r++) d[r] = mine.d[r];
}

// ldmatrix.x1/.x2/.x4 (count matrices of 8 x 8 16-bit numbers), optionally transposed. row: this
// lane's row address (lanes 0-7 the rows of matrix 0, 8-15 of matrix 1, ...).
static inline void emu_ldmatrix(uint32_t *r, const void *row, int count, bool transposed) {
    struct Item {
        const void *row;
        uint32_t *r;
        int count;
        bool transposed;
    } mine = {row, r, count, transposed};
    emu_meet(0xffffffffu, &mine, [](void **items, unsigned) {
        for (int lane = 0; lane < 32; lane++) {
            Item *t = (Item *)items[lane];
            for (int m = 0; m < t->count; m++) {
                uint16_t e[2];
                for (int j = 0; j < 2; j++) {
                    int from = t->transposed ? lane % 4 * 2 + j : lane / 4,
                        col = t->transposed ? lane / 4 : lane % 4 * 2 + j;
                    const char *address = (const char *)((Item *)items[m * 8 + from])->row;
                    if ((uintptr_t)address % 16) {
                        fprintf(stderr, "error: emulator: ldmatrix row address is not a multiple of 16\n");
                        abort();
                    }
                    memcpy(&e[j], address + 2 * col, 2);
                }
                t->r[m] = e[0] | (uint32_t)e[1] << 16;
            }
        }
    });
}

// ---------------------------------------------------------------- runtime API

typedef enum {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
} cudaMemcpyKind;
typedef enum {
    cudaStreamNonBlocking = 1,
    cudaEventDisableTiming = 2,
    cudaEventDefault = 0,
    cudaHostAllocDefault = 0
} EmuFlags;
typedef enum {
    cudaFuncAttributeMaxDynamicSharedMemorySize,
    cudaFuncAttributePreferredSharedMemoryCarveout
} cudaFuncAttribute;
typedef enum {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
} cudaStreamCaptureMode;
struct EmuEvent {
    EmuTicketRef ticket;
};
typedef EmuEvent *cudaEvent_t;
struct EmuGraph {
    EmuWork work;
};
typedef EmuGraph *cudaGraph_t;
typedef EmuGraph *cudaGraphExec_t;
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, maxThreadsPerMultiProcessor, l2CacheSize, clockRate;
    struct {
        char bytes[16];
    } uuid;
    int pciDomainID, pciBusID, pciDeviceID;
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
static inline const char *cudaGetErrorName(cudaError_t e) { return e == cudaSuccess ? "cudaSuccess" : "cudaError"; }
static inline cudaError_t cudaPeekAtLastError() { return emu.error; }
static inline cudaError_t cudaGetLastError() {
    int e = emu.error;
    emu.error = 0;
    return e;
}
static inline cudaError_t cudaGetDeviceCount(int *n) { return *n = 1, cudaSuccess; }
static inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
static inline cudaError_t cudaGetDevice(int *d) { return *d = 0, cudaSuccess; }
static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "CPU emulator");
    p->totalGlobalMem = (size_t)8 << 30;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->major = 9;
    p->multiProcessorCount = 4;
    p->maxThreadsPerMultiProcessor = 2048;
    snprintf(p->uuid.bytes, sizeof p->uuid.bytes, "emu %ld", (long)getpid()); // every rank has a device of its own
    return cudaSuccess;
}
typedef enum {
    cudaDevAttrClockRate,
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrMemoryClockRate,
    cudaDevAttrGlobalMemoryBusWidth
} cudaDeviceAttr;
static inline cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int) {
    return *v = a == cudaDevAttrMultiProcessorCount ? 4 : 1000000, cudaSuccess;
}
static inline cudaError_t cudaDriverGetVersion(int *v) { return *v = 0, cudaSuccess; }
static inline cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 0, cudaSuccess; }
static inline cudaError_t cudaDeviceGetPCIBusId(char *bus, int n, int) {
    return snprintf(bus, (size_t)n, "0000:00:00.0"), cudaSuccess;
}
static inline cudaError_t cudaMemGetInfo(size_t *left, size_t *all) {
    return *left = *all = (size_t)8 << 30, cudaSuccess;
}
static inline cudaError_t cudaDeviceSynchronize() { return emu_run_all(), cudaSuccess; }
static inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (emu_stream(s)->lane >= 0) return cudaErrorStreamCaptureUnsupported;
    return emu_run_until(emu_stream(s), nullptr), cudaSuccess;
}
static inline cudaError_t cudaMalloc(void **p, size_t n) {
    if (emu_streams.capture || posix_memalign(p, 256, n ? n : 1) != 0) return cudaErrorMemoryAllocation;
    memset(*p, 0xff, n); // NaN in every format
    return cudaSuccess;
}
template <typename T> static inline cudaError_t cudaMalloc(T **p, size_t n) { return cudaMalloc((void **)p, n); }
static inline cudaError_t cudaFree(void *p) { return emu_run_all(), free(p), cudaSuccess; }
template <typename T> static inline cudaError_t cudaMallocHost(T **p, size_t n) { return cudaMalloc((void **)p, n); }
static inline cudaError_t cudaFreeHost(void *p) { return emu_run_all(), free(p), cudaSuccess; }
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
static inline cudaError_t cudaMemset(void *to, int value, size_t n) {
    return cudaMemsetAsync(to, value, n), cudaStreamSynchronize(nullptr);
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    emu_streams.all.push_back(*s = new EmuStream);
    return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int) {
    return cudaStreamCreateWithFlags(s, flags);
}
static inline cudaError_t cudaDeviceGetStreamPriorityRange(int *low, int *high) {
    return *low = 0, *high = -5, cudaSuccess;
}
static inline cudaError_t cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithFlags(s, 0); }
static inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
    if (!s) return cudaErrorInvalidValue;
    emu_run_until(s, nullptr);
    emu_streams.all.erase(std::find(emu_streams.all.begin(), emu_streams.all.end(), s));
    return delete s, cudaSuccess;
}
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) { return *e = new EmuEvent, cudaSuccess; }
static inline cudaError_t cudaEventCreate(cudaEvent_t *e) { return *e = new EmuEvent, cudaSuccess; }
static inline cudaError_t cudaEventDestroy(cudaEvent_t e) { return emu_run_all(), delete e, cudaSuccess; }
static inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s = nullptr) {
    e->ticket = std::make_shared<EmuTicket>();
    if (emu_stream(s)->lane >= 0) e->ticket->capture = emu_streams.capture;
    emu_submit_op(s, {nullptr, nullptr, e->ticket});
    return cudaSuccess;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    if (!e->ticket) return cudaSuccess;
    if (e->ticket->capture) return cudaErrorCapturedEvent;
    for (EmuStream *s : emu_streams.all)
        for (EmuOp &op : s->ops)
            if (op.record == e->ticket) return emu_run_until(s, e->ticket), cudaSuccess;
    return cudaSuccess;
}
// A stream that waits for an event of a running capture takes part in it from then on.
static inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned = 0) {
    EmuStream *s = emu_stream(stream);
    if (!e->ticket) return cudaSuccess;
    if (e->ticket->capture) {
        if (e->ticket->capture != emu_streams.capture) return cudaErrorCapturedEvent;
        if (s->lane < 0) {
            s->lane = (int)emu_streams.lanes.size();
            emu_streams.lanes.push_back(s);
        }
    } else if (s->lane >= 0) return cudaErrorStreamCaptureIsolation;
    emu_submit_op(stream, {nullptr, e->ticket, nullptr});
    return cudaSuccess;
}
static inline cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t) {
    static const char *seed = getenv("CUDA_EMU_TIMES");
    static std::minstd_rand random(seed ? (unsigned)atoi(seed) : 0);
    return *ms = seed ? (float)random() * 1e-6f : 1.0f, cudaSuccess;
}
template <typename K> static inline cudaError_t cudaFuncSetAttribute(K kernel, cudaFuncAttribute a, int value) {
    if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value > (227 << 10)) return cudaErrorInvalidValue;
        emu.shared_limit[(const void *)kernel] = (size_t)value;
    }
    return cudaSuccess;
}
static inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
    if (!s || emu_streams.capture) return cudaErrorStreamCaptureUnsupported;
    emu_streams.capture = ++emu_streams.captures;
    emu_streams.captured = std::make_shared<std::vector<EmuCaptured>>();
    emu_streams.lanes = {s};
    s->lane = 0;
    return cudaSuccess;
}
// Other streams must have come back: someone waits for what they did last.
static inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *g) {
    EmuStreams &e = emu_streams;
    *g = new EmuGraph{e.captured};
    bool joined = true;
    for (size_t lane = 1; lane < e.lanes.size(); lane++) {
        bool open = false; // work that no one waits for
        for (const EmuCaptured &c : *e.captured) {
            if (c.lane != (int)lane) continue;
            if (c.op.work && !c.op.record) open = true;
            for (const EmuCaptured &other : *e.captured)
                if (c.op.record && other.lane != (int)lane && other.op.wait == c.op.record) open = false;
        }
        joined &= !open;
    }
    for (EmuStream *s : e.lanes) s->lane = -1;
    e.capture = 0;
    e.lanes.clear();
    e.captured = nullptr;
    return joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined;
}
static inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long = 0) {
    return *e = new EmuGraph(*g), cudaSuccess;
}
// Lane 0 goes into the stream, the others into streams of their own; every launch has tickets of its own.
static inline cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t stream) {
    std::map<EmuTicket *, EmuTicketRef> tickets;
    std::vector<EmuStream *> lanes = {stream}, &all = emu_streams.all;
    for (size_t i = all.size(); i-- > 0;)
        if (all[i]->passing && all[i]->ops.empty()) { // of an earlier launch
            delete all[i];
            all.erase(all.begin() + (long)i);
        }
    auto fresh = [&](const EmuTicketRef &old) {
        EmuTicketRef &t = tickets[old.get()];
        if (old && !t) t = std::make_shared<EmuTicket>();
        return t;
    };
    for (const EmuCaptured &c : *e->work) {
        while ((int)lanes.size() <= c.lane) {
            lanes.push_back(new EmuStream);
            lanes.back()->passing = true;
            all.push_back(lanes.back());
        }
        emu_submit_op(lanes[(size_t)c.lane], {c.op.work, fresh(c.op.wait), fresh(c.op.record)});
    }
    return cudaSuccess;
}
static inline cudaError_t cudaGraphDestroy(cudaGraph_t g) { return delete g, cudaSuccess; }
static inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e) { return delete e, cudaSuccess; }

#endif
