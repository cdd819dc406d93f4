/*
fibers.h (emulator): the threads of a thread block as fibers, where they meet, and how a block runs.

x86-64 and aarch64 switch fibers in a few instructions; other machines use ucontext.
*/
#ifndef EMU_FIBERS_H
#define EMU_FIBERS_H

#include "language.h"
#include <functional>
#include <map>
#include <sys/mman.h>
#include <utility>
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
enum { EMU_READY, EMU_BLOCK_BARRIER, EMU_WARP_MEETING, EMU_ENDED };

struct EmuFiber {
    void *sp = nullptr;
    char *stack = nullptr;
    void *fake_stack = nullptr; // AddressSanitizer's
};

// Copies that cp.async would make: done when waited for, or, with CUDA_EMU_COPIES=early, at once, and then not here.
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

struct EmuSite { // where the source calls what its threads meet in
    const char *file;
    int line;
    bool operator==(const EmuSite &o) const { return line == o.line && (file == o.file || strcmp(file, o.file) == 0); }
};
struct EmuMeeting { // of the lanes of a mask within a warp
    unsigned mask = 0, arrived = 0;
    EmuSite site = {"", 0};
    void *items[32];
    void (*combine)(void **items, unsigned lanes);
};

// Does the environment choose `other`? It may also say what is usual, or nothing.
static inline bool emu_chosen(const char *name, const char *usual, const char *other) {
    const char *text = getenv(name);
    if (!text || !*text || strcmp(text, usual) == 0) return false;
    if (strcmp(text, other) == 0) return true;
    fprintf(stderr, "error: %s=%s: expected %s or %s\n", name, text, usual, other);
    exit(1);
}

struct EmuState {
    std::vector<EmuThread> threads; // of the running thread block
    std::vector<EmuFiber *> idle;
    std::vector<EmuMeeting> meetings; // 8 for each warp
    std::vector<unsigned> alive;      // lanes of each warp that have not ended
    EmuThread *current = nullptr;
    const std::function<void()> *body = nullptr;
    void *scheduler_sp = nullptr, *scheduler_fake = nullptr;
    const void *scheduler_stack = nullptr;
    size_t scheduler_stack_size = 0;
    int waiting_at_barrier = 0;
    EmuSite barrier = {"", 0}; // where they wait
    char *dynamic_shared = nullptr;
    int order = -1;                                              // 0 forwards, 1 backwards, 2 shuffled
    bool early = emu_chosen("CUDA_EMU_COPIES", "late", "early"); // copies of cp.async
    uint64_t random = 0;
    int error = 0;
    std::map<const void *, size_t> shared_limit;
    std::map<const char *, size_t> allocations; // what kernels may touch
    size_t fibers = 0;
    unsigned long long launches = 0;
};
inline EmuState &emu = *new EmuState; // never destroyed, so that leak checkers see what it holds

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
static inline unsigned emu_awaited(int warp, unsigned mask) { return emu.alive[(size_t)warp] & mask; }

static inline void emu_refuse(const char *what) {
    fprintf(stderr, "error: emulator: block (%u,%u,%u) thread %d: %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
            emu_thread_number(), what);
    abort();
}
static inline void emu_same_site(EmuSite first, EmuSite site) {
    if (first == site) return;
    char text[400];
    snprintf(text, sizeof text, "comes to the barrier or warp operation at %s:%d while others wait at %s:%d", site.file,
             site.line, first.file, first.line);
    emu_refuse(text);
}

// Waits until every awaited lane of mask is here; the last one calls combine once for all, with each
// lane's `item` (NULL for lanes that are not there). combine may write into the items. All come from the same place.
static inline void emu_meet(EmuSite site, unsigned mask, void *item, void (*combine)(void **items, unsigned lanes)) {
    int number = emu_thread_number(), warp = number / 32, lane = number % 32;
    if (!(mask >> lane & 1)) emu_refuse("takes part in a warp operation with a mask that leaves it out");
    EmuMeeting *m = nullptr, *all = &emu.meetings[(size_t)warp * 8];
    for (int i = 0; i < 8 && !m; i++)
        if (all[i].arrived && all[i].mask == mask && all[i].combine == combine) m = &all[i];
    for (int i = 0; i < 8 && !m; i++)
        if (!all[i].arrived) {
            m = &all[i];
            m->mask = mask;
            m->combine = combine;
            m->site = site;
            for (int j = 0; j < 32; j++) m->items[j] = nullptr;
        }
    if (!m) {
        fprintf(stderr, "error: emulator: more than 8 groups of one warp wait at once\n");
        abort();
    }
    emu_same_site(m->site, site);
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

// ---------------------------------------------------------------- running a thread block

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
        if (i % 32 == 0) emu.alive[i / 32] = 0;
        emu.alive[i / 32] |= 1u << i % 32;
    }
    emu.waiting_at_barrier = 0;
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
                    if (emu.threads[at].state == EMU_ENDED) live--, emu.alive[at / 32] &= ~(1u << at % 32);
                }
            }
        }
        if (progress) continue;
        if (emu.waiting_at_barrier == live) { // threads that have ended are not waited for
            emu.waiting_at_barrier = 0;
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

#endif
