/*
streams.h (emulator): streams, events and launches; cuda_runtime.h says in which order work is done.
*/
#ifndef EMU_STREAMS_H
#define EMU_STREAMS_H

#include "fibers.h"
#include "ptx.h"
#include <algorithm>
#include <deque>
#include <memory>
#include <random>

typedef int cudaError_t;
enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureUnjoined = 904,
    cudaErrorStreamCaptureIsolation = 905,
    cudaErrorCapturedEvent = 907
};

// How much of each stream's work is sure to be done before what comes next (a vector clock), by the stream's number.
typedef std::map<int, uint64_t> EmuBefore;
static inline void emu_before(EmuBefore &all, const EmuBefore &more) {
    for (const auto &m : more) all[m.first] = std::max(all[m.first], m.second);
}

// What a recorded event stands for: done once the work before it is. Of a capture: the number of it.
struct EmuTicket {
    bool done = false;
    int capture = 0;
    EmuBefore before;
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
    int number = 0;
    uint64_t collectives = 0; // that were put into it
    EmuBefore before;         // collectives that are done before what is put into it now
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
    int numbers = 0;
    std::map<const void *, std::pair<int, uint64_t>> last_collective; // of each communicator: stream, number there
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

// A collective of a communicator. Two that may run at once, of different communicators, can wait for each other on a
// device (NCCL, "Using multiple NCCL communicators concurrently"): a stream or events must order them.
static inline void emu_collective(cudaStream_t stream, const void *communicator) {
    EmuStream *s = emu_stream(stream);
    s->before[s->number] = ++s->collectives;
    for (const auto &other : emu_streams.last_collective)
        if (other.first != communicator && s->before[other.second.first] < other.second.second) {
            fprintf(stderr, "error: emulator: collectives of two communicators may run at once, on streams that no "
                            "event orders: on a device each can keep the other from starting\n");
            abort();
        }
    emu_streams.last_collective[communicator] = {s->number, s->collectives};
}
// The host has waited: whatever is put anywhere now comes after.
static inline void emu_waited(const EmuBefore &done) {
    for (EmuStream *s : emu_streams.all) emu_before(s->before, done);
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
    emu.alive.assign((threads + 31) / 32, 0);
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
        const void *function = (const void *)kernel;
        auto found = emu.shared_limit.find(function);
        if (found != emu.shared_limit.end()) limit = found->second; // of dynamic shared memory alone
        else if (c.shared) limit -= std::min(limit, emu_static_shared(function));
        if (!threads || threads > 1024 || !c.grid.x || !c.grid.y || !c.grid.z || c.grid.x > 0x7fffffffu ||
            c.grid.y > 65535 || c.grid.z > 65535 || c.shared > limit) {
            emu.error = cudaErrorInvalidConfiguration;
            return;
        }
        emu.launches++;
        EmuConfig config = c;
        void (*k)(P...) = kernel;
        if (emu_ptx_arch()) {
            EmuArguments arguments = {std::vector<char>((const char *)&a, (const char *)&a + sizeof a)...};
            emu_submit(c.stream, [=]() { emu_ptx_run(function, config, arguments); });
        } else emu_submit(c.stream, [=]() { emu_run_grid(config, [=]() { k(a...); }); });
    }
};
template <typename... P> static inline EmuLaunch<P...> emu_launch(EmuConfig c, void (*kernel)(P...)) {
    return {c, kernel};
}

// ---------------------------------------------------------------- runtime API

enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
struct EmuEvent {
    EmuTicketRef ticket;
};
typedef EmuEvent *cudaEvent_t;

static inline cudaError_t cudaDeviceSynchronize() {
    for (EmuStream *s : emu_streams.all) emu_waited(EmuBefore(s->before));
    return emu_run_all(), cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (emu_stream(s)->lane >= 0) return cudaErrorStreamCaptureUnsupported;
    emu_waited(EmuBefore(emu_stream(s)->before));
    return emu_run_until(emu_stream(s), nullptr), cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    emu_streams.all.push_back(*s = new EmuStream);
    (*s)->number = ++emu_streams.numbers;
    return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int) {
    return cudaStreamCreateWithFlags(s, flags);
}
static inline cudaError_t cudaDeviceGetStreamPriorityRange(int *low, int *high) {
    return *low = 0, *high = -5, cudaSuccess;
}
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
    e->ticket->before = emu_stream(s)->before;
    emu_submit_op(s, {nullptr, nullptr, e->ticket});
    return cudaSuccess;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    if (!e->ticket) return cudaSuccess;
    if (e->ticket->capture) return cudaErrorCapturedEvent;
    emu_waited(EmuBefore(e->ticket->before));
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
    emu_before(s->before, e->ticket->before);
    emu_submit_op(stream, {nullptr, e->ticket, nullptr});
    return cudaSuccess;
}
static inline cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t) {
    static const char *seed = getenv("CUDA_EMU_TIMES");
    static std::minstd_rand random(seed ? (unsigned)atoi(seed) : 0);
    return *ms = seed ? (float)random() * 1e-6f : 1.0f, cudaSuccess;
}

#endif
