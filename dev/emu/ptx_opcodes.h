/*
ptx_opcodes.h (emulator): what each instruction of PTX does, and the table of them, OPCODES, at the end.

Sections named here are those of the PTX ISA 9.0, chapter "Instruction Set"; fragments of matrices are written from its
formulas. A function executes an instruction for the lanes of `m`; a result is known where its operands were.

A new instruction is a row of OPCODES, with a function above it where none fits, and a letter in Parser::operands
for a new kind of operand.

Build: without contraction (-ffp-contract=off) and with wrapping integers (-fwrapv -fno-strict-aliasing).
*/
#ifndef EMU_PTX_OPCODES_H
#define EMU_PTX_OPCODES_H

#include "ptx_warp.h"
#include <cfenv>
#include <cmath>

namespace ptx {

// ---------------------------------------------------------------- loads, stores, copies

// "Data Movement and Conversion Instructions: ld", of n neighbours
template <Space space, int n> static void load(Warp &w, const Inst &i, uint32_t m) {
    need_address(w, i, 0, m);
    uint32_t known[n] = {0};
    lanes(m, [&](int l) {
        char *marks, *p = place<space>(w, i, l, address(w, i, 0, l), i.bytes * n, false, &marks);
        for (int j = 0; j < n; j++) {
            uint64_t v = 0;
            memcpy(&v, p + j * i.bytes, (size_t)i.bytes);
            if (i.sign) v = (uint64_t)((int64_t)(v << (64 - 8 * i.bytes)) >> (64 - 8 * i.bytes));
            if (i.wide == 2) w.at<uint16_t>(i.r[j])[l] = (uint16_t)v;
            else if (i.wide == 4) w.at<uint32_t>(i.r[j])[l] = (uint32_t)v;
            else w.at<uint64_t>(i.r[j])[l] = v;
            bool all = true;
            for (int e = 0; marks && e < i.bytes; e++) all &= marks[j * i.bytes + e];
            known[j] |= (uint32_t)all << l;
        }
    });
    for (int j = 0; j < n; j++) w.know(i.r[j], m, known[j]);
}

// "Data Movement and Conversion Instructions: st"
template <Space space, int n> static void store(Warp &w, const Inst &i, uint32_t m) {
    need_address(w, i, 0, m);
    for (int j = 0; j < n && space == SPACE_GLOBAL; j++)
        need(w, i, m, w.knows(i.r[j]), "what is stored was never written, or made of such");
    lanes(m, [&](int l) {
        char *marks, *p = place<space>(w, i, l, address(w, i, 0, l), i.bytes * n, true, &marks);
        for (int j = 0; j < n; j++) {
            char *v = i.wide == 2   ? (char *)&w.at<uint16_t>(i.r[j])[l]
                      : i.wide == 4 ? (char *)&w.at<uint32_t>(i.r[j])[l]
                                    : (char *)&w.at<uint64_t>(i.r[j])[l];
            memcpy(p + j * i.bytes, v, (size_t)i.bytes);
            if (marks) memset(marks + j * i.bytes, (int)(w.knows(i.r[j]) >> l & 1), (size_t)i.bytes);
        }
    });
}

// "Data Movement and Conversion Instructions: cp.async": [to], [from], size, bytes; the rest of size becomes zeros
static void copy_now(Warp &w, const Copy &c) {
    char *to = &w.block->shared[c.to];
    if (c.bytes) memcpy(to, c.from, (size_t)c.bytes);
    memset(to + c.bytes, 0, (size_t)(c.size - c.bytes));
    memset(&w.block->shared_known[c.to], 1, (size_t)c.size);
}
static void copy_async(Warp &w, const Inst &i, uint32_t m) {
    need_address(w, i, 0, m);
    need_address(w, i, 1, m);
    need(w, i, m, w.knows(i.r[0]), "a size that was never written");
    int size = (int)i.number;
    bool only_16 = strstr(i.row->stem, ".cg.") != nullptr;
    lanes(m, [&](int l) {
        Copy c = {(uint32_t)address(w, i, 0, l), (const char *)address(w, i, 1, l), w.at<int>(i.r[0])[l], size};
        if (size != 16 && (only_16 || (size != 4 && size != 8))) fault(w, i, l, "a copy of a size that is not allowed");
        if (c.bytes < 0 || c.bytes > size) fault(w, i, l, "a copy of more than its size");
        shared(w, i, l, c.to, size, size, 2);
        if ((uint64_t)c.from % (unsigned)size)
            fault(w, i, l, "misaligned copy of " + std::to_string(size) + " bytes", " global", (uint64_t)c.from);
        if (c.bytes) global(w, i, l, (uint64_t)c.from, 1), global(w, i, l, (uint64_t)c.from + (unsigned)c.bytes - 1, 1);
        if (emu.early) copy_now(w, c);
        w.copies[l].all.push_back(c);
    });
}
static void copy_commit(Warp &w, const Inst &, uint32_t m) {
    lanes(m, [&](int l) { w.copies[l].groups.push_back(w.copies[l].all.size()); });
}
// "cp.async.wait_group": until at most so many groups of this thread are under way
static void copy_wait(Warp &w, const Inst &i, uint32_t m) {
    lanes(m, [&](int l) {
        Copies &c = w.copies[l];
        if ((int64_t)c.groups.size() <= i.number) return;
        size_t done = c.groups.size() - (size_t)i.number, n = c.groups[done - 1];
        for (size_t j = 0; j < n; j++) {
            shared(w, i, l, c.all[j].to, c.all[j].size, 1, 3);
            if (!emu.early) copy_now(w, c.all[j]);
        }
        c.all.erase(c.all.begin(), c.all.begin() + (long)n);
        c.groups.erase(c.groups.begin(), c.groups.begin() + (long)done);
        for (size_t &g : c.groups) g -= n;
    });
}

// ---------------------------------------------------------------- arithmetic, lane by lane

// Results of type D in r[0], of operands of type S in r[1], r[2], ...
template <class D, class S, class Op> static void apply(Warp &w, const Inst &i, uint32_t m) {
    D *d = w.at<D>(i.r[0]);
    const S *a = w.at<S>(i.r[1]), *b = w.at<S>(i.r[2]), *c = w.at<S>(i.r[3]);
    uint32_t known = w.knows(i.r[1]);
    if constexpr (std::is_invocable<Op, S>::value) lanes(m, [=](int l) { d[l] = Op()(a[l]); });
    else if constexpr (std::is_invocable<Op, S, S>::value) {
        known &= w.knows(i.r[2]);
        lanes(m, [=](int l) { d[l] = Op()(a[l], b[l]); });
    } else {
        known &= w.knows(i.r[2]) & w.knows(i.r[3]);
        lanes(m, [=](int l) { d[l] = Op()(a[l], b[l], c[l]); });
    }
    w.know(i.r[0], m, known);
}
template <class Op> static Run integers(Type t) {
    switch (t) {
    case T_U16:
    case T_B16: return apply<uint16_t, uint16_t, Op>;
    case T_S16: return apply<int16_t, int16_t, Op>;
    case T_U32:
    case T_B32: return apply<uint32_t, uint32_t, Op>;
    case T_S32: return apply<int32_t, int32_t, Op>;
    case T_U64:
    case T_B64: return apply<uint64_t, uint64_t, Op>;
    case T_S64: return apply<int64_t, int64_t, Op>;
    default: return nullptr;
    }
}
template <class Op> static Run floats(Type t) {
    return t == T_F32 ? (Run)apply<float, float, Op> : t == T_F64 ? (Run)apply<double, double, Op> : nullptr;
}
template <class D, class S, class Op> static Run one_type(Type) { return apply<D, S, Op>; }
template <Run run> static Run only(Type) { return run; }

// clang-format off
// "Integer Arithmetic Instructions" and "Floating-Point Instructions"; these wrap, and round to nearest
struct Add { template <class T> T operator()(T a, T b) const { return (T)(a + b); } };
struct Sub { template <class T> T operator()(T a, T b) const { return (T)(a - b); } };
struct Mul { template <class T> T operator()(T a, T b) const { return (T)(a * b); } };
struct Mad { template <class T> T operator()(T a, T b, T c) const { return (T)(a * b + c); } };
struct Neg { template <class T> T operator()(T a) const { return (T)-a; } };
struct Abs { template <class T> T operator()(T a) const { return a < 0 ? (T)-a : a; } };
struct AbsFloat { template <class T> T operator()(T a) const { return std::fabs(a); } };
struct Min { template <class T> T operator()(T a, T b) const { return a < b ? a : b; } };
struct Max { template <class T> T operator()(T a, T b) const { return a > b ? a : b; } };
// By zero: all ones, as devices give; PTX leaves it open.
struct Div { template <class T> T operator()(T a, T b) const {
                 if (b == 0) return (T)-1;
                 return (T)-1 < (T)0 && b == (T)-1 ? (T)-a : (T)(a / b); } };
struct Rem { template <class T> T operator()(T a, T b) const { return b == 0 ? a : (T)(a - Div()(a, b) * b); } };
struct DivFloat { template <class T> T operator()(T a, T b) const { return a / b; } };
// Of a NaN and a number: the number.
struct MinFloat { template <class T> T operator()(T a, T b) const { return a != a || b < a ? b : a; } };
struct MaxFloat { template <class T> T operator()(T a, T b) const { return a != a || b > a ? b : a; } };
struct Fma { float operator()(float a, float b, float c) const { return __builtin_fmaf(a, b, c); }
             double operator()(double a, double b, double c) const { return __builtin_fma(a, b, c); } };
struct Rcp { template <class T> T operator()(T a) const { return 1 / a; } };
struct Sqrt { template <class T> T operator()(T a) const { return std::sqrt(a); } };
// clang-format on

// "mul.wide", "mad.wide": twice as wide a result; mad's last operand is as wide
template <class D, class S> static void mul_wide(Warp &w, const Inst &i, uint32_t m) {
    D *d = w.at<D>(i.r[0]);
    const S *a = w.at<S>(i.r[1]), *b = w.at<S>(i.r[2]);
    lanes(m, [=](int l) { d[l] = (D)a[l] * (D)b[l]; });
    w.know(i.r[0], m, w.knows(i.r[1]) & w.knows(i.r[2]));
}
static Run pick_mul_wide(Type t) { return t == T_S32 ? mul_wide<int64_t, int32_t> : mul_wide<uint64_t, uint32_t>; }

// "fma.rm": rounds down. The loop is a function of its own, which the compiler cannot move past fesetround.
__attribute__((noinline)) static void fma_loop(float *d, const float *a, const float *b, const float *c, uint32_t m) {
    for (; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        d[l] = __builtin_fmaf(a[l], b[l], c[l]);
    }
}
static void fma_down(Warp &w, const Inst &i, uint32_t m) {
    fesetround(FE_DOWNWARD);
    fma_loop(w.at<float>(i.r[0]), w.at<float>(i.r[1]), w.at<float>(i.r[2]), w.at<float>(i.r[3]), m);
    fesetround(FE_TONEAREST);
    w.know(i.r[0], m, w.knows(i.r[1]) & w.knows(i.r[2]) & w.knows(i.r[3]));
}

static inline float flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
// "rcp.approx.ftz.f64": of the upper 32 bits of a, with zeros below the upper 32 bits of the result
static void rcp_rough(Warp &w, const Inst &i, uint32_t m) {
    double *d = w.at<double>(i.r[0]);
    const double *a = w.at<double>(i.r[1]);
    auto upper = [](double x) {
        uint64_t bits;
        memcpy(&bits, &x, sizeof bits);
        bits &= 0xffffffff00000000ull;
        memcpy(&x, &bits, sizeof x);
        return std::fabs(x) < 0x1p-1022 ? std::copysign(0.0, x) : x;
    };
    lanes(m, [&](int l) { d[l] = upper(1 / upper(a[l])); });
    w.know(i.r[0], m, w.knows(i.r[1]));
}
// "ex2": 2^x to 2 ulp; .ftz takes and gives no subnormal numbers
template <bool ftz> static void ex2(Warp &w, const Inst &i, uint32_t m) {
    float *d = w.at<float>(i.r[0]);
    const float *a = w.at<float>(i.r[1]);
    lanes(m, [&](int l) {
        float y = exp2f(ftz ? flush(a[l]) : a[l]);
        if (w.block->machine->edge && y > 0x1p-120f && y < 0x1p120f) {
            uint32_t bits = __float_as_uint(y);
            y = __uint_as_float(bits + (bits * 2654435761u >> 8) % 5 - 2);
        }
        d[l] = ftz ? flush(y) : y;
    });
    w.know(i.r[0], m, w.knows(i.r[1]));
}

// ---------------------------------------------------------------- comparison and logic

// clang-format off
// "Comparison and Selection Instructions: setp"; of floats those ending in u hold for NaN, the others but ne do not
struct Eq { template <class T> bool operator()(T a, T b) const { return a == b; } };
struct Ne { template <class T> bool operator()(T a, T b) const { return a < b || a > b; } };
struct Lt { template <class T> bool operator()(T a, T b) const { return a < b; } };
struct Le { template <class T> bool operator()(T a, T b) const { return a <= b; } };
struct Gt { template <class T> bool operator()(T a, T b) const { return a > b; } };
struct Ge { template <class T> bool operator()(T a, T b) const { return a >= b; } };
struct Leu { template <class T> bool operator()(T a, T b) const { return !(a > b); } };
struct Geu { template <class T> bool operator()(T a, T b) const { return !(a < b); } };
struct Gtu { template <class T> bool operator()(T a, T b) const { return !(a <= b); } };
// clang-format on
template <class T, class Op> static void compare(Warp &w, const Inst &i, uint32_t m) {
    const T *a = w.at<T>(i.r[1]), *b = w.at<T>(i.r[2]);
    uint32_t v = 0;
    lanes(m, [&](int l) { v |= (uint32_t)Op()(a[l], b[l]) << l; });
    w.set(i.r[0], m, v, w.knows(i.r[1]) & w.knows(i.r[2]));
}
template <class Op> static Run compares(Type t) {
    switch (t) {
    case T_U16:
    case T_B16: return compare<uint16_t, Op>;
    case T_S16: return compare<int16_t, Op>;
    case T_U32:
    case T_B32: return compare<uint32_t, Op>;
    case T_S32: return compare<int32_t, Op>;
    case T_U64:
    case T_B64: return compare<uint64_t, Op>;
    case T_S64: return compare<int64_t, Op>;
    case T_F32: return compare<float, Op>;
    case T_F64: return compare<double, Op>;
    default: return nullptr;
    }
}
// "selp": r[1] where the predicate r[3] holds, r[2] elsewhere
template <class T> static void select(Warp &w, const Inst &i, uint32_t m) {
    T *d = w.at<T>(i.r[0]);
    const T *a = w.at<T>(i.r[1]), *b = w.at<T>(i.r[2]);
    uint32_t p = w.predicate(i.r[3]);
    lanes(m, [=](int l) { d[l] = p >> l & 1 ? a[l] : b[l]; });
    w.know(i.r[0], m, w.predicate_known(i.r[3]) & ((p & w.knows(i.r[1])) | (~p & w.knows(i.r[2]))));
}
static Run pick_select(Type t) {
    int bytes = type_row(t).bytes;
    return bytes == 2 ? select<uint16_t> : bytes == 4 ? select<uint32_t> : select<uint64_t>;
}

// clang-format off
// "Logic and Shift Instructions"
struct And { template <class T> T operator()(T a, T b) const { return a & b; } };
struct Or { template <class T> T operator()(T a, T b) const { return a | b; } };
struct Xor { template <class T> T operator()(T a, T b) const { return a ^ b; } };
struct Not { template <class T> T operator()(T a) const { return (T)~a; } };
// clang-format on
// Of predicates: known where both are, or where one settles it.
template <class Op> static void logic(Warp &w, const Inst &i, uint32_t m) {
    uint32_t a = w.predicate(i.r[1]), b = w.predicate(i.r[2]);
    uint32_t ka = w.predicate_known(i.r[1]), kb = w.predicate_known(i.r[2]), known = ka & kb;
    if (std::is_same<Op, And>::value) known |= (ka & ~a) | (kb & ~b);
    if (std::is_same<Op, Or>::value) known |= (ka & a) | (kb & b);
    w.set(i.r[0], m, Op()(a, b), known);
}
static void not_predicate(Warp &w, const Inst &i, uint32_t m) {
    w.set(i.r[0], m, ~w.predicate(i.r[1]), w.predicate_known(i.r[1]));
}
static void move_predicate(Warp &w, const Inst &i, uint32_t m) {
    w.set(i.r[0], m, w.predicate(i.r[1]), w.predicate_known(i.r[1]));
}
// The amount has 32 bits; more than the width is the width.
template <class T, bool left> static void shift(Warp &w, const Inst &i, uint32_t m) {
    T *d = w.at<T>(i.r[0]);
    const T *a = w.at<T>(i.r[1]);
    const uint32_t *b = w.at<uint32_t>(i.r[2]), width = 8 * sizeof(T);
    lanes(m, [=](int l) {
        if (b[l] < width) d[l] = (T)(left ? a[l] << b[l] : a[l] >> b[l]);
        else d[l] = left ? (T)0 : (T)(a[l] >> (width - 1) >> 1);
    });
    w.know(i.r[0], m, w.knows(i.r[1]) & w.knows(i.r[2]));
}
template <bool left> static Run shifts(Type t) {
    switch (t) {
    case T_B16:
    case T_U16: return shift<uint16_t, left>;
    case T_S16: return shift<int16_t, left>;
    case T_B32:
    case T_U32: return shift<uint32_t, left>;
    case T_S32: return shift<int32_t, left>;
    case T_B64:
    case T_U64: return shift<uint64_t, left>;
    default: return shift<int64_t, left>;
    }
}
// "bfi": the low `length` bits of a, in b from `start` on
static void bfi(Warp &w, const Inst &i, uint32_t m) {
    lanes(m, [&](int l) {
        uint64_t a = w.at<uint32_t>(i.r[1])[l], b = w.at<uint32_t>(i.r[2])[l];
        unsigned start = w.at<uint32_t>(i.r[3])[l] & 255, length = w.at<uint32_t>(i.r[4])[l] & 255;
        uint64_t field = start < 32 ? ((1ull << (length < 32 ? length : 32)) - 1) << start : 0;
        w.at<uint32_t>(i.r[0])[l] = (uint32_t)((b & ~field) | (start < 32 ? a << start & field : 0));
    });
    w.know(i.r[0], m, w.knows(i.r[1]) & w.knows(i.r[2]) & w.knows(i.r[3]) & w.knows(i.r[4]));
}

// "prmt": each byte of d is one of the eight of b and a, b the upper ones, by the low three bits of its four of c; the
// fourth bit asks for the byte's sign, eight times.
static void prmt(Warp &w, const Inst &i, uint32_t m) {
    lanes(m, [&](int l) {
        uint64_t bytes = (uint64_t)w.at<uint32_t>(i.r[2])[l] << 32 | w.at<uint32_t>(i.r[1])[l];
        uint32_t c = w.at<uint32_t>(i.r[3])[l], d = 0;
        for (int k = 0; k < 4; k++, c >>= 4) {
            uint32_t byte = (uint32_t)(bytes >> (c & 7) * 8) & 255;
            d |= (c & 8 ? (byte & 128 ? 255u : 0u) : byte) << k * 8;
        }
        w.at<uint32_t>(i.r[0])[l] = d;
    });
    w.know(i.r[0], m, w.knows(i.r[1]) & w.knows(i.r[2]) & w.knows(i.r[3]));
}

// ---------------------------------------------------------------- moves and conversions

// "Data Movement and Conversion Instructions: mov, cvta, cvt"
struct Move {
    template <class T> T operator()(T a) const { return a; }
};
static Run moves(Type t) {
    int bytes = type_row(t).bytes;
    if (t == T_PRED) return move_predicate;
    return bytes == 2   ? apply<uint16_t, uint16_t, Move>
           : bytes == 4 ? apply<uint32_t, uint32_t, Move>
                        : apply<uint64_t, uint64_t, Move>;
}
// The source may lie in a wider register, of which it is the low end.
template <class D, class S> static void convert(Warp &w, const Inst &i, uint32_t m) {
    D *d = w.at<D>(i.r[0]);
    const S *a = w.at<S>(i.r[1]);
    int step = i.wide / (int)sizeof(S);
    lanes(m, [=](int l) { d[l] = (D)a[l * step]; });
    w.know(i.r[0], m, w.knows(i.r[1]));
}
template <class D> static Run converts(Type t) { // rounding to nearest
    switch (t) {
    case T_U16: return convert<D, uint16_t>;
    case T_S16: return convert<D, int16_t>;
    case T_U32: return convert<D, uint32_t>;
    case T_S32: return convert<D, int32_t>;
    case T_U64: return convert<D, uint64_t>;
    case T_S64: return convert<D, int64_t>;
    case T_F32: return convert<D, float>;
    case T_F64: return convert<D, double>;
    default: return nullptr;
    }
}
struct Saturate {
    float operator()(float a) const { return a > 0 ? a < 1 ? a : 1 : 0; }
};
static inline uint32_t to_bf16(float a) { // nearest, ties to even; NaN is 0x7fff
    uint32_t bits = __float_as_uint(a);
    return a != a ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
struct ToBf16 {
    uint16_t operator()(float a) const { return (uint16_t)to_bf16(a); }
};
struct ToBf16Pair {
    uint32_t operator()(float a, float b) const { return to_bf16(a) << 16 | to_bf16(b); }
};
struct FromBf16 {
    float operator()(uint16_t a) const { return __uint_as_float((uint32_t)a << 16); }
};
// "mov" with a vector: packs or unpacks, the first element lowest
template <class D, class S> static void pack(Warp &w, const Inst &i, uint32_t m) {
    lanes(m, [&](int l) { w.at<D>(i.r[0])[l] = (D)(w.at<S>(i.r[1])[l] | (D)w.at<S>(i.r[2])[l] << 8 * sizeof(S)); });
    w.know(i.r[0], m, w.knows(i.r[1]) & w.knows(i.r[2]));
}
template <class D, class S> static void unpack(Warp &w, const Inst &i, uint32_t m) {
    lanes(m, [&](int l) {
        S v = w.at<S>(i.r[2])[l];
        w.at<D>(i.r[0])[l] = (D)v;
        w.at<D>(i.r[1])[l] = (D)(v >> 8 * sizeof(D));
    });
    for (int j = 0; j < 2; j++) w.know(i.r[j], m, w.knows(i.r[2]));
}

// ---------------------------------------------------------------- the lanes of a warp

// All lanes of the warp must be here; .aligned
static void whole_warp(const Warp &w, const Inst &i, uint32_t m) {
    if (m != ALL) fault(w, i, m ? __builtin_ctz(~m) : 0, std::string(i.row->stem) + " without some lanes of the warp");
}
// The mask, register r, of a .sync instruction: every lane is in its own, and all that are in it are here.
static void members(Warp &w, const Inst &i, uint32_t m, int r) {
    need(w, i, m, w.knows(r), "a mask of lanes that was never written");
    lanes(m, [&](int l) {
        uint32_t mask = w.at<uint32_t>(r)[l];
        if (!(mask >> l & 1)) fault(w, i, l, std::string(i.row->stem) + " with a mask that leaves this lane out");
        if (mask & w.live & ~m)
            fault(w, i, __builtin_ctz(mask & w.live & ~m), std::string(i.row->stem) + " without this lane of its mask");
    });
}
// "shfl.sync.bfly": d|p, a, bits, clamp, mask
static void shuffle_bfly(Warp &w, const Inst &i, uint32_t m) {
    members(w, i, m, i.r[5]);
    uint32_t from[32], valid = 0, known = 0, *d = w.at<uint32_t>(i.r[0]);
    memcpy(from, w.at<uint32_t>(i.r[2]), sizeof from);
    uint32_t source = w.knows(i.r[2]);
    lanes(m, [&](int l) {
        uint32_t bits = w.at<uint32_t>(i.r[3])[l] & 31, clamp = w.at<uint32_t>(i.r[4])[l], segment = clamp >> 8 & 31;
        uint32_t last = ((uint32_t)l & segment) | (clamp & 31 & ~segment), other = (uint32_t)l ^ bits;
        bool inside = other <= last;
        if (!inside) other = (uint32_t)l;
        d[l] = from[other];
        valid |= (uint32_t)inside << l;
        known |= (m >> other & source >> other & 1) << l; // a lane that is not here gives nothing
    });
    w.know(i.r[0], m, known);
    w.set(i.r[1], m, valid, m);
}
// "vote.sync.any": p, q, mask
static void vote_any(Warp &w, const Inst &i, uint32_t m) {
    members(w, i, m, i.r[2]);
    need(w, i, m, w.predicate_known(i.r[1]), "a vote on what was never written");
    w.set(i.r[0], m, w.predicate(i.r[1]) & m ? ALL : 0, m);
}
// "bar.warp.sync": the lanes of the mask see each other's stores
static void warp_sync(Warp &w, const Inst &i, uint32_t m) {
    members(w, i, m, i.r[0]);
    w.sync++;
}

// "Warp-level Matrix Instructions: ldmatrix": four 8 x 8 matrices of 16 bits. Lane 8j + r gives the address of row r of
// matrix j; lane l gets elements 2(l mod 4) and the next of row l/4, with .trans of column l/4.
template <bool trans> static void ldmatrix(Warp &w, const Inst &i, uint32_t m) {
    whole_warp(w, i, m);
    need_address(w, i, 0, m);
    const char *rows[32], *known[32];
    for (int l = 0; l < 32; l++) {
        uint64_t at = address(w, i, 0, l);
        rows[l] = shared(w, i, l, at, 16, 16, 0);
        known[l] = &w.block->shared_known[at];
    }
    for (int j = 0; j < 4; j++) {
        uint32_t all = 0;
        for (int l = 0; l < 32; l++) {
            uint16_t e[2];
            bool both = true;
            for (int n = 0; n < 2; n++) {
                int row = trans ? 2 * (l % 4) + n : l / 4, column = trans ? l / 4 : 2 * (l % 4) + n;
                memcpy(&e[n], rows[8 * j + row] + 2 * column, 2);
                both &= known[8 * j + row][2 * column] && known[8 * j + row][2 * column + 1];
            }
            w.at<uint32_t>(i.r[j])[l] = e[0] | (uint32_t)e[1] << 16;
            all |= (uint32_t)both << l;
        }
        w.know(i.r[j], m, all);
    }
}

// Sum of c and 8 products as tensor cores have been seen to add them: aligned to the largest, 24 bits, cut off.
static float coarse_sum(float c, const float *a, const float *b) {
    double term[9], sum = 0, up, down;
    uint64_t bits[9], top = 64;
    for (int n = 0; n < 8; n++) term[n] = (double)a[n] * b[n];
    term[8] = c;
    memcpy(bits, term, sizeof bits);
    for (int n = 0; n < 9; n++) top = std::max(top, bits[n] >> 52 & 2047); // exponents, biased by 1023
    if (top == 2047) {                                                     // Inf and NaN add as ever
        for (int n = 0; n < 8; n++) c += a[n] * b[n];
        return c;
    }
    uint64_t u = (2046 - top + 23) << 52, d = (top - 23) << 52; // 2^(23 - e) and 2^(e - 23)
    memcpy(&up, &u, 8), memcpy(&down, &d, 8);
    for (int n = 0; n < 9; n++) sum += std::trunc(term[n] * up);
    sum *= down;
    float r = (float)sum;
    return std::fabs((double)r) > std::fabs(sum) ? std::nextafterf(r, 0) : r;
}

// "Warp-level Matrix Instructions: mma", section "Matrix Fragments for mma.m16n8k16 with floating point type". With
// group = lane / 4 and in = lane mod 4, element e of a lane's fragment stands in
//     A: row = group, where 0 <= e < 2 or 4 <= e < 6, else group + 8; column = 2 in + e mod 2, + 8 where e >= 4
//     B: row = 2 in + e mod 2, + 8 where e >= 2; column = group
//     C, D: row = group where e < 2, else group + 8; column = 2 in + e mod 2
static void mma_m16n8k16_bf16(Warp &w, const Inst &i, uint32_t m) {
    whole_warp(w, i, m);
    alignas(32) float A[16][16], B[16][8], C[16][8];
    bool known_a[16], known_b[8];
    memset(known_a, 1, sizeof known_a), memset(known_b, 1, sizeof known_b);
    const int *rd = &i.r[0], *ra = &i.r[4], *rb = &i.r[8], *rc = &i.r[10];
    auto element = [&](int r, int l, int e) { return __uint_as_float(w.at<uint32_t>(r)[l] >> 16 * (e % 2) << 16); };
    for (int l = 0; l < 32; l++) {
        int group = l / 4, in = l % 4;
        for (int e = 0; e < 8; e++) {
            int row = e < 2 || (e >= 4 && e < 6) ? group : group + 8, column = 2 * in + e % 2 + (e >= 4 ? 8 : 0);
            A[row][column] = element(ra[e / 2], l, e);
            known_a[row] &= w.knows(ra[e / 2]) >> l & 1;
        }
        for (int e = 0; e < 4; e++) {
            B[2 * in + e % 2 + (e >= 2 ? 8 : 0)][group] = element(rb[e / 2], l, e);
            known_b[group] &= w.knows(rb[e / 2]) >> l & 1;
            C[e < 2 ? group : group + 8][2 * in + e % 2] = w.at<float>(rc[e])[l];
        }
    }
    for (int row = 0; row < 16; row++) {
        if (!w.block->machine->edge)
            for (int k = 0; k < 16; k++)
                for (int column = 0; column < 8; column++) C[row][column] += A[row][k] * B[k][column];
        else
            for (int column = 0; column < 8; column++)
                for (int k = 0; k < 16; k += 8) {
                    float b[8];
                    for (int n = 0; n < 8; n++) b[n] = B[k + n][column];
                    C[row][column] = coarse_sum(C[row][column], &A[row][k], b);
                }
    }
    uint32_t known[4];
    for (int e = 0; e < 4; e++) known[e] = w.knows(rc[e]);
    for (int e = 0; e < 4; e++) {
        for (int l = 0; l < 32; l++) {
            int row = e < 2 ? l / 4 : l / 4 + 8, column = 2 * (l % 4) + e % 2;
            w.at<float>(rd[e])[l] = C[row][column];
            if (!known_a[row] || !known_b[column]) known[e] &= ~(1u << l);
        }
        w.know(rd[e], m, known[e]);
    }
}

// ---------------------------------------------------------------- the table of opcodes

// clang-format off
static const std::vector<Row> OPCODES = {
    // stem, types, operands, function. "Integer Arithmetic Instructions"
    {"add", "u16 s16 u32 s32 u64 s64", "T T T", integers<Add>},
    {"sub", "u16 s16 u32 s32 u64 s64", "T T T", integers<Sub>},
    {"mul.lo", "u16 s16 u32 s32 u64 s64", "T T T", integers<Mul>},
    {"mul.wide", "u32 s32", "W T T", pick_mul_wide},
    {"mad.lo", "u16 s16 u32 s32 u64 s64", "T T T T", integers<Mad>},
    {"div", "u16 s16 u32 s32 u64 s64", "T T T", integers<Div>},
    {"rem", "u16 s16 u32 s32 u64 s64", "T T T", integers<Rem>},
    {"abs", "s32", "T T", one_type<int32_t, int32_t, Abs>},
    {"neg", "s16 s32 s64", "T T", integers<Neg>},
    {"min", "u16 s16 u32 s32 u64 s64", "T T T", integers<Min>},
    {"max", "u16 s16 u32 s32 u64 s64", "T T T", integers<Max>},
    {"bfi", "b32", "T T T w w", only<bfi>},
    {"prmt", "b32", "T T T w", only<prmt>},
    // "Floating-Point Instructions"
    {"add", "f32 f64", "T T T", floats<Add>},
    {"add.rn", "f32 f64", "T T T", floats<Add>},
    {"sub", "f32 f64", "T T T", floats<Sub>},
    {"mul", "f32 f64", "T T T", floats<Mul>},
    {"mul.rn", "f32", "T T T", floats<Mul>},
    {"fma.rn", "f32 f64", "T T T T", floats<Fma>},
    {"fma.rm", "f32", "T T T T", only<fma_down>},
    {"div.rn", "f32 f64", "T T T", floats<DivFloat>},
    {"abs", "f32 f64", "T T", floats<AbsFloat>},
    {"neg", "f32 f64", "T T", floats<Neg>},
    {"min", "f32 f64", "T T T", floats<MinFloat>},
    {"max", "f32 f64", "T T T", floats<MaxFloat>},
    {"rcp.rn", "f32 f64", "T T", floats<Rcp>},
    {"rcp.approx.ftz", "f64", "T T", only<rcp_rough>},
    {"sqrt.rn", "f32 f64", "T T", floats<Sqrt>},
    {"ex2.approx", "f32", "T T", only<ex2<false>>},
    {"ex2.approx.ftz", "f32", "T T", only<ex2<true>>},
    // "Comparison and Selection Instructions"
    {"setp.eq", "u16 s16 b16 u32 s32 b32 u64 s64 b64 f32 f64", "p T T", compares<Eq>},
    {"setp.ne", "u16 s16 b16 u32 s32 b32 u64 s64 b64 f32 f64", "p T T", compares<Ne>},
    {"setp.lt", "u16 s16 u32 s32 u64 s64 f32 f64", "p T T", compares<Lt>},
    {"setp.le", "u16 s16 u32 s32 u64 s64 f32 f64", "p T T", compares<Le>},
    {"setp.gt", "u16 s16 u32 s32 u64 s64 f32 f64", "p T T", compares<Gt>},
    {"setp.ge", "u16 s16 u32 s32 u64 s64 f32 f64", "p T T", compares<Ge>},
    {"setp.leu", "f32 f64", "p T T", compares<Leu>},
    {"setp.geu", "f32 f64", "p T T", compares<Geu>},
    {"setp.gtu", "f32 f64", "p T T", compares<Gtu>},
    {"selp", "b16 u16 s16 b32 u32 s32 f32 b64 u64 s64 f64", "T T T p", pick_select},
    // "Logic and Shift Instructions"
    {"and", "b16 b32 b64", "T T T", integers<And>},
    {"or", "b16 b32 b64", "T T T", integers<Or>},
    {"xor", "b16 b32 b64", "T T T", integers<Xor>},
    {"not", "b16 b32 b64", "T T", integers<Not>},
    {"and", "pred", "p p p", only<logic<And>>},
    {"or", "pred", "p p p", only<logic<Or>>},
    {"xor", "pred", "p p p", only<logic<Xor>>},
    {"not", "pred", "p p", only<not_predicate>},
    {"shl", "b16 b32 b64", "T T w", shifts<true>},
    {"shr", "u16 s16 b16 u32 s32 b32 u64 s64 b64", "T T w", shifts<false>},
    // "Data Movement and Conversion Instructions"
    {"mov", "pred b16 u16 s16 b32 u32 s32 f32 b64 u64 s64 f64", "T T", moves},
    {"mov", "b32", "T {hh}", only<pack<uint32_t, uint16_t>>},
    {"mov", "b32", "{hh} T", only<unpack<uint16_t, uint32_t>>},
    {"mov", "b64", "T {ww}", only<pack<uint64_t, uint32_t>>},
    {"mov", "b64", "{ww} T", only<unpack<uint32_t, uint64_t>>},
    {"cvta.to.global", "u64", "T T", moves},
    {"cvt.rn.f32", "u16 s16 s32 u32 s64 u64 f64", "w x", converts<float>},
    {"cvt.f64", "f32", "d x", converts<double>},
    {"cvt.rn.f64", "s32 u32 s64 u64", "d x", converts<double>},
    {"cvt.u16", "u32 u64", "h x", converts<uint16_t>},
    {"cvt.u32", "u16 u64", "w x", converts<uint32_t>},
    {"cvt.s32", "s16 s64", "w x", converts<int32_t>},
    {"cvt.u64", "u16 u32", "d x", converts<uint64_t>},
    {"cvt.s64", "s16 s32", "d x", converts<int64_t>},
    {"cvt.sat.f32", "f32", "w T", one_type<float, float, Saturate>},
    {"cvt.f32", "bf16", "w h", one_type<float, uint16_t, FromBf16>},
    {"cvt.rn.bf16", "f32", "h w", one_type<uint16_t, float, ToBf16>},
    {"cvt.rn.bf16x2", "f32", "w w w", one_type<uint32_t, float, ToBf16Pair>},
    {"ld.global", "u8 s8 b8 u16 s16 b16 u32 s32 b32 f32 u64 s64 b64 f64", "x a", only<load<SPACE_GLOBAL, 1>>},
    {"ld.global.v2", "u32 b32 f32 u64 b64 f64", "{xx} a", only<load<SPACE_GLOBAL, 2>>},
    {"ld.global.v4", "u32 b32 f32", "{xxxx} a", only<load<SPACE_GLOBAL, 4>>},
    {"ld.shared", "u16 b16 u32 s32 b32 f32 u64 b64 f64", "x a", only<load<SPACE_SHARED, 1>>},
    {"ld.shared.v2", "u32 b32 f32 f64", "{xx} a", only<load<SPACE_SHARED, 2>>},
    {"ld.shared.v4", "u32 b32 f32", "{xxxx} a", only<load<SPACE_SHARED, 4>>},
    {"ld.local", "u32 b32 f32 u64 b64", "x a", only<load<SPACE_LOCAL, 1>>},
    {"ld.param", "u8 s8 b8 u16 s16 b16 u32 s32 b32 f32 u64 s64 b64 f64", "x a", only<load<SPACE_PARAM, 1>>},
    {"ld.param.v2", "u32 b32 f32", "{xx} a", only<load<SPACE_PARAM, 2>>},
    {"ld.param.v4", "u8 b8 u32 b32 f32", "{xxxx} a", only<load<SPACE_PARAM, 4>>},
    {"st.global", "u8 b8 u16 b16 u32 s32 b32 f32 u64 s64 b64 f64", "a x", only<store<SPACE_GLOBAL, 1>>},
    {"st.global.v2", "u32 b32 f32 f64", "a {xx}", only<store<SPACE_GLOBAL, 2>>},
    {"st.global.v4", "u32 b32 f32", "a {xxxx}", only<store<SPACE_GLOBAL, 4>>},
    {"st.shared", "u16 b16 u32 s32 b32 f32 u64 b64 f64", "a x", only<store<SPACE_SHARED, 1>>},
    {"st.shared.v2", "u32 b32 f32 f64", "a {xx}", only<store<SPACE_SHARED, 2>>},
    {"st.shared.v4", "u32 b32 f32", "a {xxxx}", only<store<SPACE_SHARED, 4>>},
    {"st.local", "u32 b32 f32 u64 b64", "a x", only<store<SPACE_LOCAL, 1>>},
    {"st.local.v4", "u32 b32 f32", "a {xxxx}", only<store<SPACE_LOCAL, 4>>},
    {"cp.async.cg.shared.global", "", "a a n w", only<copy_async>},
    {"cp.async.ca.shared.global", "", "a a n w", only<copy_async>},
    {"cp.async.commit_group", "", "", only<copy_commit>},
    {"cp.async.wait_group", "", "n", only<copy_wait>},
    // "Control Flow Instructions"
    {"bra", "", "l", only<nullptr>, FLOW_BRANCH},
    {"bra.uni", "", "l", only<nullptr>, FLOW_BRANCH},
    {"ret", "", "", only<nullptr>, FLOW_END},
    {"exit", "", "", only<nullptr>, FLOW_END},
    // "Parallel Synchronization and Communication Instructions"
    {"bar.sync", "", "n", only<nullptr>, FLOW_BARRIER},
    {"bar.warp.sync", "", "w", only<warp_sync>},
    {"shfl.sync.bfly", "b32", "w|p w w w w", only<shuffle_bfly>},
    {"vote.sync.any", "pred", "p p w", only<vote_any>},
    // "Warp-level Matrix Instructions"
    {"ldmatrix.sync.aligned.m8n8.x4.shared", "b16", "{wwww} a", only<ldmatrix<false>>},
    {"ldmatrix.sync.aligned.m8n8.x4.trans.shared", "b16", "{wwww} a", only<ldmatrix<true>>},
    {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16", "f32", "{wwww} {wwww} {ww} {wwww}", only<mma_m16n8k16_bf16>},
};
// clang-format on

} // namespace ptx

#endif
