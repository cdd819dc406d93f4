/*
ptx_warp.h (emulator): the state of a block that runs PTX, what its threads may not do, and how that is told.

    Block, Warp    shared memory; registers, with marks of the lanes that were written; where each lane stands
    Word           who touched 4 bytes of shared memory, so that races are seen
    fault          one line: what, kernel, line of source, thread, address; then the program ends
*/
#ifndef EMU_PTX_WARP_H
#define EMU_PTX_WARP_H

#include "cuda_runtime.h"
#include "ptx_parse.h"
#include <climits>
#include <cxxabi.h>
#include <set>
#include <unordered_map>

namespace ptx {

static const uint32_t ALL = 0xffffffffu;

// ---------------------------------------------------------------- the state of a block

struct Copy { // of cp.async
    uint32_t to;
    const char *from;
    int bytes, size;
};
struct Copies { // of one thread, not done: those of committed groups first
    std::vector<Copy> all;
    std::vector<size_t> groups; // where each committed group ends
};

// Who touched 4 bytes of shared memory since the last barrier of the block (epoch), and since his warp's last (sync).
struct Word {
    uint32_t written = 0, write_sync = 0, read = 0, read_sync = 0; // epochs and syncs
    uint32_t warps = 0, lanes = 0;                                 // that read: warps, and lanes of the last one
    int16_t writer = -1, reader_warp = -1, copies = 0;             // a thread; a warp; copies under way
};

struct Block;
struct Warp {
    Block *block;
    int number = 0;
    std::vector<uint32_t> file;  // registers: 32 words a slot
    std::vector<uint32_t> known; // of each slot: the lanes that have been written
    std::vector<uint32_t> predicates, predicates_known;
    std::vector<char> local, local_known; // of each lane in turn
    int pc[32];
    uint32_t live = 0, sync = 1;
    int waits_at = -1; // a barrier's instruction
    Copies copies[32];

    template <class T> T *at(int slot) { return (T *)&file[(size_t)slot * 32]; }
    uint32_t knows(int slot) const { return known[(size_t)slot]; }
    uint32_t predicate(int p) const { return predicates[(size_t)p]; }
    uint32_t predicate_known(int p) const { return predicates_known[(size_t)p]; }
    void know(int slot, uint32_t m, uint32_t what) { known[(size_t)slot] = (known[(size_t)slot] & ~m) | (what & m); }
    void set(int p, uint32_t m, uint32_t value, uint32_t what) {
        predicates[(size_t)p] = (predicates[(size_t)p] & ~m) | (value & m);
        predicates_known[(size_t)p] = (predicates_known[(size_t)p] & ~m) | (what & m);
    }
};

struct Machine { // what all blocks share
    Module module;
    bool edge = false; // CUDA_EMU_MATH
    std::unordered_map<uint64_t, std::string> symbols;
    bool named = false;                                    // symbols and static_shared were asked for
    std::unordered_map<std::string, size_t> static_shared; // of functions, by name, as the compiler laid it out
    std::set<std::string> ran;
    uint64_t executed = 0;
};

struct Block {
    Machine *machine;
    const Kernel *kernel;
    const char *params;
    std::vector<char> shared, shared_known;
    std::vector<Word> words;
    uint32_t epoch = 1;
    std::vector<Warp> warps;
    const char *from = nullptr, *to = nullptr; // the allocation that was used last
};

// Lanes of m, one after the other; of a whole warp in a loop that the compiler can unroll.
template <class F> static inline void lanes(uint32_t m, F f) {
    if (m == ALL) {
#pragma GCC ivdep
        for (int l = 0; l < 32; l++) f(l);
    } else
        for (; m; m &= m - 1) f(__builtin_ctz(m));
}

static std::string place_text(const Module &m, const Kernel &k, int where) {
    std::string text;
    for (int hops = 0; where >= 0 && hops < 20; where = k.places[(size_t)where].caller, hops++) {
        auto file = m.files.find(k.places[(size_t)where].file);
        std::string name = file == m.files.end() ? "?" : file->second;
        size_t room = name.rfind('/'), above = room ? name.rfind('/', room - 1) : room;
        if (above != std::string::npos) name = name.substr(above + 1);
        text += (hops ? ", called at " : " at ") + name + ":" + std::to_string(k.places[(size_t)where].line);
    }
    return text;
}

[[noreturn]] static void fault(const Warp &w, const Inst &i, int lane, const std::string &what, const char *space = "",
                               uint64_t address = 0) {
    const Block &b = *w.block;
    char where[300], *name = abi::__cxa_demangle(b.kernel->name.c_str(), nullptr, nullptr, nullptr);
    unsigned t = (unsigned)(w.number * 32 + lane);
    snprintf(where, sizeof where, ": block (%u,%u,%u) thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z,
             t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y);
    std::string text = what + ": " + (name ? name : b.kernel->name.c_str()) +
                       place_text(b.machine->module, *b.kernel, i.where) + where;
    snprintf(where, sizeof where, "%s address 0x%llx", space, (unsigned long long)address);
    die(text + (*space ? where : ""));
}

// The value must have been written in the lanes of m.
static inline void need(const Warp &w, const Inst &i, uint32_t m, uint32_t known, const char *what) {
    if (m & ~known) fault(w, i, __builtin_ctz(m & ~known), what);
}

// ---------------------------------------------------------------- memory

// Of the address operand n, in lane l.
static inline uint64_t address(Warp &w, const Inst &i, int n, int l) {
    const Address &a = i.at[n];
    uint64_t base = a.base < 0 ? 0 : a.bytes == 8 ? w.at<uint64_t>(a.base)[l] : w.at<uint32_t>(a.base)[l];
    return base + (uint64_t)a.offset;
}
static inline void need_address(Warp &w, const Inst &i, int n, uint32_t m) {
    if (i.at[n].base >= 0) need(w, i, m, w.knows(i.at[n].base), "an address that was never written");
}

static char *global(Warp &w, const Inst &i, int l, uint64_t at, int bytes) {
    Block &b = *w.block;
    const char *p = (const char *)at;
    if (at % (unsigned)bytes) fault(w, i, l, "misaligned access of " + std::to_string(bytes) + " bytes", " global", at);
    if (p < b.from || p + bytes > b.to) {
        auto found = emu.allocations.upper_bound(p);
        if (found == emu.allocations.begin() || p + bytes > (--found)->first + found->second)
            fault(w, i, l, "access of " + std::to_string(bytes) + " bytes outside of every allocation", " global", at);
        b.from = found->first, b.to = found->first + found->second;
    }
    return (char *)at;
}

static void race(Warp &w, const Inst &i, int l, const char *what, size_t word) {
    fault(w, i, l, std::string("a race: ") + what, " shared", word * 4);
}
static void race_read(Warp &w, const Inst &i, int l, Word &x, size_t at) {
    Block &b = *w.block;
    if (x.copies) race(w, i, l, "a copy to what is read here is under way", at);
    if (x.written == b.epoch && x.writer != w.number * 32 + l) {
        if (x.writer / 32 != w.number) race(w, i, l, "another warp wrote this since the last barrier", at);
        if (x.write_sync == w.sync) race(w, i, l, "another lane wrote this since the warp's last barrier", at);
    }
    if (x.read != b.epoch) x.read = b.epoch, x.warps = 0, x.reader_warp = -1;
    if (x.reader_warp != w.number || x.read_sync != w.sync) x.lanes = 0;
    x.warps |= 1u << w.number, x.reader_warp = (int16_t)w.number, x.read_sync = w.sync, x.lanes |= 1u << l;
}
// copies: of this word under way that the write is (0: an ordinary write; 1: a copy begins; -1: one ends)
static void race_write(Warp &w, const Inst &i, int l, Word &x, size_t at, int copies) {
    Block &b = *w.block;
    if (copies < 1 && x.copies + copies) race(w, i, l, "a copy to what is written here is under way", at);
    if (x.written == b.epoch && x.writer != w.number * 32 + l) {
        if (x.writer / 32 != w.number) race(w, i, l, "another warp wrote this since the last barrier", at);
        if (x.write_sync == w.sync) race(w, i, l, "another lane wrote this since the warp's last barrier", at);
    }
    if (x.read == b.epoch && copies >= 0) {
        if (x.warps & ~(1u << w.number)) race(w, i, l, "another warp read this since the last barrier", at);
        if (x.reader_warp == w.number && x.read_sync == w.sync && (x.lanes & ~(1u << l)))
            race(w, i, l, "another lane read this since the warp's last barrier", at);
    }
    x.copies = (int16_t)(x.copies + copies);
    x.written = b.epoch, x.writer = (int16_t)(w.number * 32 + l), x.write_sync = w.sync;
}

// A place in shared memory; aligned as asked for. write: 0 read, 1 write, 2 a copy begins, 3 a copy ends
static char *shared(Warp &w, const Inst &i, int l, uint64_t at, int bytes, int align, int write) {
    Block &b = *w.block;
    if (at % (unsigned)align)
        fault(w, i, l, "misaligned access, to a multiple of " + std::to_string(align), " shared", at);
    if (at + (unsigned)bytes > b.shared.size())
        fault(w, i, l, "access of " + std::to_string(bytes) + " bytes outside of shared memory", " shared", at);
    for (size_t word = at / 4; word <= (at + (unsigned)bytes - 1) / 4; word++)
        if (write) race_write(w, i, l, b.words[word], word, write == 1 ? 0 : write == 2 ? 1 : -1);
        else race_read(w, i, l, b.words[word], word);
    return &b.shared[at];
}

enum Space { SPACE_GLOBAL, SPACE_SHARED, SPACE_LOCAL, SPACE_PARAM };

// The place, and in *known the first of as many marks, or NULL.
template <Space space>
static inline char *place(Warp &w, const Inst &i, int l, uint64_t at, int bytes, bool write, char **known) {
    Block &b = *w.block;
    *known = nullptr;
    if (space == SPACE_GLOBAL) return global(w, i, l, at, bytes);
    if (space == SPACE_SHARED) {
        char *p = shared(w, i, l, at, bytes, bytes, write);
        *known = &b.shared_known[at];
        return p;
    }
    size_t size = space == SPACE_LOCAL ? b.kernel->local_bytes : b.kernel->param_bytes;
    if (at % (unsigned)bytes) fault(w, i, l, "misaligned access", " local", at);
    if (at + (unsigned)bytes > size) fault(w, i, l, "access outside of local memory or parameters", " local", at);
    if (space == SPACE_PARAM) return (char *)b.params + at;
    *known = &w.local_known[(size_t)l * size + at];
    return &w.local[(size_t)l * size + at];
}

} // namespace ptx

#endif
