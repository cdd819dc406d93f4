/*
device.h (emulator): what kernels call: barriers, shuffles, and the operations of llmc/cuda/ptx.h.
*/
#ifndef EMU_DEVICE_H
#define EMU_DEVICE_H

#include "fibers.h"

#define EMU_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE() // of the call

static inline void __syncthreads(EMU_SITE) {
    if (emu.waiting_at_barrier++) emu_same_site(emu.barrier, {file, line});
    emu.barrier = {file, line};
    emu.current->state = EMU_BLOCK_BARRIER;
    emu_to_scheduler(false);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_SITE) {
    emu_meet({file, line}, mask, nullptr, [](void **, unsigned) {});
}

template <typename T> struct EmuShuffle {
    T value, result;
    int from;
};
template <typename T> static inline T emu_shuffle(EmuSite site, unsigned mask, T value, int from) {
    EmuShuffle<T> mine;
    memset((void *)&mine.result, 0xff, sizeof(T)); // what a lane that is not there gives: NaN
    mine.value = value;
    mine.from = from;
    emu_meet(site, mask, &mine, [](void **items, unsigned) {
        for (int i = 0; i < 32; i++) {
            EmuShuffle<T> *s = (EmuShuffle<T> *)items[i];
            if (s && items[s->from]) s->result = ((EmuShuffle<T> *)items[s->from])->value;
        }
    });
    return mine.result;
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, EMU_SITE) {
    int self = emu_lane(), from = self ^ bits;
    return emu_shuffle<T>({file, line}, mask, v, from / width <= self / width ? from : self);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_SITE) {
    unsigned mine = predicate != 0;
    emu_meet({file, line}, mask, &mine, [](void **items, unsigned) {
        unsigned all = 0;
        for (int i = 0; i < 32; i++)
            if (items[i] && *(unsigned *)items[i]) all |= 1u << i;
        for (int i = 0; i < 32; i++)
            if (items[i]) *(unsigned *)items[i] = all;
    });
    return mine;
}
static inline int __any_sync(unsigned mask, int predicate, EMU_SITE) {
    return __ballot_sync(mask, predicate, file, line) != 0;
}

// What a launch bound says is checked where the kernel starts (launch.sed puts it there).
static inline void emu_launch_bounds(unsigned threads, unsigned = 0) {
    if (blockDim.x * blockDim.y * blockDim.z > threads) emu_refuse("more threads than the kernel's __launch_bounds__");
}

// cp.async: copies `bytes` and fills up to `size` with zeros, when the group is waited for or at once.
static inline void emu_copy(const EmuCopy &c) {
    if (c.bytes) memcpy(c.to, c.from, (size_t)c.bytes);
    memset((char *)c.to + c.bytes, 0, (size_t)c.zeros);
}
static inline void emu_cp_async(void *to, const void *from, int size, int bytes) {
    if ((uintptr_t)to % (unsigned)size || (uintptr_t)from % (unsigned)size)
        emu_refuse("cp.async: an address that is not a multiple of the size");
    if (emu.early) return emu_copy({to, from, bytes, size - bytes});
    auto &groups = emu.current->copies;
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({to, from, bytes, size - bytes});
}
static inline void emu_cp_async_commit() {
    auto &groups = emu.current->copies;
    if (groups.empty()) groups.emplace_back();
    groups.emplace_back();
}
// Waits until at most `pending` committed groups are in flight.
static inline void emu_cp_async_wait(int pending) {
    auto &groups = emu.current->copies;
    while ((int)groups.size() - 1 > pending) {
        for (EmuCopy &c : groups.front()) emu_copy(c);
        groups.erase(groups.begin());
    }
}

// mma.sync.m16n8k16 bf16 x bf16 + fp32: d (16, 8) = a (16, 16) b (16, 8) + c, in the fragments of the
// PTX manual ("Matrix Fragments for mma.m16n8k16"). d may be c.
static inline void emu_mma_m16n8k16_bf16(EmuSite site, float *d, const uint32_t *a, const uint32_t *b, const float *c) {
    struct Item {
        const uint32_t *a, *b;
        const float *c;
        float d[4];
    } mine = {a, b, c, {0, 0, 0, 0}};
    emu_meet(site, 0xffffffffu, &mine, [](void **items, unsigned) {
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
static inline void emu_ldmatrix(EmuSite site, uint32_t *r, const void *row, int count, bool transposed) {
    struct Item {
        const void *row;
        uint32_t *r;
        int count;
        bool transposed;
    } mine = {row, r, count, transposed};
    emu_meet(site, 0xffffffffu, &mine, [](void **items, unsigned) {
        for (int lane = 0; lane < 32; lane++) {
            Item *t = (Item *)items[lane];
            for (int m = 0; m < t->count; m++) {
                uint16_t e[2];
                for (int j = 0; j < 2; j++) {
                    int from = t->transposed ? lane % 4 * 2 + j : lane / 4,
                        col = t->transposed ? lane / 4 : lane % 4 * 2 + j;
                    const char *address = (const char *)((Item *)items[m * 8 + from])->row;
                    if ((uintptr_t)address % 16) emu_refuse("ldmatrix: a row's address is not a multiple of 16");
                    memcpy(&e[j], address + 2 * col, 2);
                }
                t->r[m] = e[0] | (uint32_t)e[1] << 16;
            }
        }
    });
}

#endif
