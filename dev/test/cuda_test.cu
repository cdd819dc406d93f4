/*
cuda_test.cu: every kernel of llmc/cuda (but attention, which has a test of its own) against the CPU
kernels in double, in bf16 and in fp32, on shapes that divide nothing.

Inputs are rounded to the kernel's type before both sides read them, so what differs is the kernel's
own arithmetic: fp32 sums (bound 1e-5 on the relative L2 error; sums of at most 1000 terms here) and,
where the result is stored in bf16, one rounding of it (2^-8 at most: bound 4e-3).
What accumulates is called twice. Results must not depend on chance: in the emulator each test runs
with the fibers of a thread block forwards, backwards and shuffled, on a GPU three times, and the bits must be
the same.

    cuda_test [TEXT]    only the tests in whose name TEXT stands

Build: see the Makefile (emulator), or nvcc with cuda_reference.o. Exit code 1 if anything fails, or nothing was run.
*/
#include "../../llmc/cuda/codes.h"
#include "../../llmc/cuda/cuda.h"
#include "../../llmc/cuda/embedding.h"
#include "../../llmc/cuda/gemm.h"
#include "../../llmc/cuda/distill.h"
#include "../../llmc/cuda/loss.h"
#include "../../llmc/cuda/mlp.h"
#include "../../llmc/cuda/norm.h"
#include "../../llmc/cuda/muon.h"
#include "../../llmc/cuda/objective.h"
#include "../../llmc/cuda/optimizer.h"
#include "../../llmc/cuda/rope.h"
#include "../../llmc/cuda/xielu.h"
#include <string>
#include <vector>

extern "C" {
void ref_open(void);
void ref_close(void);
void ref_norm_forward(double *, double *, double *, const double *, const double *, const double *, int, int, double);
void ref_norm_backward(double *, double *, double *, const double *, const double *, const double *, const double *,
                       const double *, int, int);
void ref_linear_forward(double *, const double *, const double *, const double *, const double *, int, int, int);
void ref_linear_backward_input(double *, const double *, const double *, int, int, int);
void ref_linear_backward_weight(double *, double *, const double *, const double *, int, int, int);
void ref_mlp_forward(double *, const double *, int, int, int, bool);
void ref_mlp_backward(double *, const double *, const double *, int, int, int, bool);
void ref_xielu_forward(double *, const double *, const double *, const double *, int, int);
void ref_xielu_backward(double *, double *, const double *, const double *, const double *, const double *, int, int);
void ref_rope_table(double *, int, const Config *);
void ref_qk_forward(double *, double *, const double *, const double *, const double *, const double *, int, int, int,
                    int, int, int, double);
void ref_qk_backward(double *, double *, double *, const double *, const double *, const double *, const double *,
                     const double *, const double *, int, int, int, int, int);
void ref_embedding_forward(double *, const int32_t *, const double *, const double *, int, int, int, int);
void ref_embedding_backward(double *, double *, const double *, const int32_t *, int, int, int, int);
void ref_cross_entropy(double *, double *, const int32_t *, const double *, double, int, int);
double ref_objective_weights(double *, double *, const double *, const PairBatch *, int);
void ref_distill(double *, double *, double *, const double *, const int32_t *, const double *, int, int);
double ref_sum_of_squares(const double *, size_t);
void ref_muon(double *, double *, double *, const double *, int, int, MuonRule, double, double, double);
void ref_adamw(double *, double *, double *, const double *, size_t, double, double, double, double, double, int64_t,
               double);
}

typedef std::vector<double> Numbers;

// One thing under test: its name, and a hash of the bits of all results so far.
struct Test {
    Device *gpu;
    std::string name;
    uint64_t bits, random;
    int passed, failed;
    const char *only; // a text that stands in the names of the tests to be run
};

static uint32_t next_random(Test *t) {
    t->random = t->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(t->random >> 33);
}

// n numbers of type T on the device, and what they are worth in double. Exactly as long as asked for,
// so that AddressSanitizer sees the first byte behind.
template <typename Real> struct Array {
    Real *device = NULL;
    Numbers host;
    Test *t;
    explicit Array(Test *test, size_t n, double scale = 1, double offset = 0)
        : host(n), t(test) { // random in offset +- scale
        std::vector<Real> values(n);
        for (size_t i = 0; i < n; i++) {
            from_float(&values[i], (float)(offset + scale * ((double)next_random(t) / 1073741824.0 - 1)));
            host[i] = (double)to_float(values[i]);
        }
        CUDA_CHECK(cudaMalloc((void **)&device, sizeof(Real) * n));
        CUDA_CHECK(cudaMemcpy(device, values.data(), sizeof(Real) * n, cudaMemcpyHostToDevice));
    }
    ~Array() { cudaFree(device); }
    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;
    double *ref() { return host.data(); }
    std::vector<Real> kept;
    void keep() {
        kept.resize(host.size());
        device_read(t->gpu, kept.data(), device, sizeof(Real) * host.size());
    }
    void restore() { device_write(t->gpu, device, kept.data(), sizeof(Real) * host.size()); }
    // Compares the device's numbers with host's, which the reference has worked on.
    void check(const char *what, double bound) {
        std::vector<Real> values(host.size());
        device_synchronize(t->gpu);
        CUDA_CHECK(cudaMemcpy(values.data(), device, sizeof(Real) * host.size(), cudaMemcpyDeviceToHost));
        double difference = 0, size = 0;
        bool finite = true;
        for (size_t i = 0; i < host.size(); i++) {
            double a = (double)to_float(values[i]);
            if (!isfinite(a)) finite = false;
            difference += (a - host[i]) * (a - host[i]);
            size += host[i] * host[i];
            uint32_t b = 0;
            memcpy(&b, &values[i], sizeof(Real));
            t->bits = (t->bits ^ b) * 1099511628211ull;
        }
        double relative = size > 0 ? sqrt(difference / size) : sqrt(difference);
        if (finite && relative <= bound) t->passed++;
        else {
            t->failed++;
            printf("FAILED %s: %s: relative L2 error %.3g, bound %.3g%s\n", t->name.c_str(), what, relative, bound,
                   finite ? "" : ", not finite");
        }
    }
};

struct Tokens {
    int32_t *device = NULL;
    std::vector<int32_t> host;
    explicit Tokens(const std::vector<int32_t> &values) : host(values) {
        CUDA_CHECK(cudaMalloc((void **)&device, 4 * host.size()));
        CUDA_CHECK(cudaMemcpy(device, host.data(), 4 * host.size(), cudaMemcpyHostToDevice));
    }
    ~Tokens() { cudaFree(device); }
    Tokens(const Tokens &) = delete;
    Tokens &operator=(const Tokens &) = delete;
};

static void expect(Test *t, bool condition, const char *what) {
    if (condition) t->passed++;
    else {
        t->failed++;
        printf("FAILED %s: %s\n", t->name.c_str(), what);
    }
}

static const double FLOAT_BOUND = 1e-5;
template <typename Real> static double bound_of() { return sizeof(Real) == 4 ? FLOAT_BOUND : 4e-3; }

// ---------------------------------------------------------------- the kernels

template <typename Real> static void test_norm(Test *t, int N, int C, bool layer) {
    Array<Real> x(t, (size_t)N * C), w(t, C, 0.5, 1), b(t, C), y(t, (size_t)N * C), dy(t, (size_t)N * C),
        dx(t, (size_t)N * C);
    Array<float> mean(t, N), rstd(t, N), dw(t, C), db(t, C);
    Numbers m(N), r(N);
    Norm<Real> norm = {w.device, layer ? b.device : NULL, layer ? mean.device : NULL, rstd.device, N, C, 1e-5f};
    norm_forward<Real>(y.device, x.device, norm, t->gpu);
    ref_norm_forward(y.ref(), layer ? m.data() : NULL, r.data(), x.ref(), w.ref(), layer ? b.ref() : NULL, N, C, 1e-5);
    y.check("y", bound_of<Real>());
    rstd.host = r;
    rstd.check("rstd", FLOAT_BOUND);
    if (layer && C > 1) {
        mean.host = m;
        mean.check("mean", 1e-4); // a mean of numbers of both signs: they cancel
    }
    if (C > 2048 * (int)PackOf<Real>::SIZE) return; // longer rows than norm_backward takes
    for (int twice = 0; twice < 2; twice++) {
        norm_backward<Real>(dx.device, dw.device, layer ? db.device : NULL, dy.device, x.device, norm, t->gpu);
        ref_norm_backward(dx.ref(), dw.ref(), layer ? db.ref() : NULL, dy.ref(), x.ref(), w.ref(),
                          layer ? m.data() : NULL, r.data(), N, C);
    }
    dx.check("dx, twice", C == 1 && layer
                              ? 1e-2
                              : 1.5 * bound_of<Real>()); // two roundings; a row of one has rstd 300 times its gradient
    dw.check("dw, twice", C == 1 ? 1e-2 : FLOAT_BOUND);
    if (layer) db.check("db, twice", FLOAT_BOUND);
}

template <typename Real> static void test_linear(Test *t, int N, int C, int OC, bool bias, bool residual) {
    size_t NC = (size_t)N * C, NO = (size_t)N * OC;
    Array<Real> x(t, NC), w(t, (size_t)OC * C), b(t, OC), y(t, NO), pre(t, NO), r(t, NO), dy(t, NO), dx(t, NC),
        dpre(t, NC), act(t, NC), dact(t, NC);
    Array<float> dw(t, (size_t)OC * C), db(t, OC);
    LinearShape shape = {N, C, OC};
    linear_forward<Real>(y.device, x.device, w.device, bias ? b.device : NULL, residual ? r.device : NULL, shape,
                         t->gpu);
    ref_linear_forward(y.ref(), x.ref(), w.ref(), bias ? b.ref() : NULL, residual ? r.ref() : NULL, N, C, OC);
    y.check("forward", bound_of<Real>());
    // Without the library's GELU its input is rounded before (twice with a bias): three times the bound.
    MlpShape up = {N, C, OC, ACTIVATION_GELU_TANH, false}, down = {N, OC, C, ACTIVATION_GELU_TANH, false};
    linear_mlp_forward<Real>(y.device, pre.device, x.device, w.device, bias ? b.device : NULL, up, t->gpu);
    ref_linear_forward(pre.ref(), x.ref(), w.ref(), bias ? b.ref() : NULL, NULL, N, C, OC);
    ref_mlp_forward(y.ref(), pre.ref(), N, OC, ACTIVATION_GELU_TANH, false);
    pre.check("gelu forward, input", 1.5 * bound_of<Real>());
    y.check("gelu forward", 3 * bound_of<Real>());
    linear_backward_input<Real>(dx.device, dy.device, w.device, shape, t->gpu);
    ref_linear_backward_input(dx.ref(), dy.ref(), w.ref(), N, C, OC);
    dx.check("backward, input", bound_of<Real>());
    linear_mlp_backward<Real>(dpre.device, dact.device, dy.device, w.device, act.device, down, t->gpu);
    ref_mlp_backward(dpre.ref(), dx.ref(), act.ref(), N, C, ACTIVATION_GELU_TANH, false);
    dpre.check("backward through gelu", 2 * bound_of<Real>());
    dw.keep(), db.keep();
    t->gpu->plans->measure = true; // the epilogue is tried only now
    linear_backward_weight<Real>(dw.device, bias ? db.device : NULL, dy.device, x.device, shape, t->gpu);
    t->gpu->plans->measure = false;
    dw.restore(), db.restore();
    for (int twice = 0; twice < 2; twice++) {
        linear_backward_weight<Real>(dw.device, bias ? db.device : NULL, dy.device, x.device, shape, t->gpu);
        ref_linear_backward_weight(dw.ref(), bias ? db.ref() : NULL, dy.ref(), x.ref(), N, C, OC);
    }
    dw.check("backward, weight, twice", FLOAT_BOUND);
    db.check("backward, bias, twice", FLOAT_BOUND);
    linear_backward_weight<Real>(NULL, NULL, dy.device, x.device, shape, t->gpu); // frozen: nothing happens
    linear_backward_weight<Real>(NULL, db.device, dy.device, x.device, shape, t->gpu);
    for (int n = 0; n < N; n++)
        for (int c = 0; c < OC; c++) db.host[c] += dy.host[(size_t)n * OC + c];
    db.check("bias without epilogue", FLOAT_BOUND);
}

template <typename Real> static void test_bias(Test *t, int N, int C) {
    Array<Real> dy(t, (size_t)N * C);
    Array<float> db(t, C);
    for (int twice = 0; twice < 2; twice++) {
        bias_backward<Real>(db.device, dy.device, N, C, t->gpu);
        for (size_t i = 0; i < dy.host.size(); i++) db.host[i % (size_t)C] += dy.host[i];
    }
    db.check("sums of columns, twice", FLOAT_BOUND);
}

template <typename Real> static void test_mlp(Test *t, int N, int F) {
    static const char *const names[] = {"gelu", "gelu, gated", "silu", "silu, gated"};
    size_t n = (size_t)N * F;
    for (int k = 0; k < 2 * ACTIVATION_XIELU; k++) { // which has no gate
        bool gated = k % 2;
        Array<Real> fc(t, n * (gated ? 2 : 1), 4), mlp(t, n), dmlp(t, n), dfc(t, fc.host.size());
        mlp_forward<Real>(mlp.device, fc.device, N, F, k / 2, gated, t->gpu);
        ref_mlp_forward(mlp.ref(), fc.ref(), N, F, k / 2, gated);
        mlp.check(names[k], bound_of<Real>());
        mlp_backward<Real>(dfc.device, dmlp.device, fc.device, N, F, k / 2, gated, t->gpu);
        ref_mlp_backward(dfc.ref(), dmlp.ref(), fc.ref(), N, F, k / 2, gated);
        dfc.check(names[k], bound_of<Real>());
        if (gated) continue;
        mlp_backward<Real>(dmlp.device, dmlp.device, fc.device, N, F, k / 2, gated, t->gpu);
        dmlp.host = dfc.host;
        dmlp.check("in place", bound_of<Real>());
    }
}

// Sums of dmlp f by alpha over all of fc, twice, so that what is there stays.
template <typename Real> static void test_xielu(Test *t, int N, int F) {
    size_t n = (size_t)N * F;
    Array<Real> fc(t, n, 4), mlp(t, n), dmlp(t, n), dfc(t, n), learned(t, 2), fixed(t, 2, 0, -0.25);
    Array<float> dlearned(t, 2);
    xielu_forward<Real>(mlp.device, fc.device, learned.device, fixed.device, N, F, t->gpu);
    ref_xielu_forward(mlp.ref(), fc.ref(), learned.ref(), fixed.ref(), N, F);
    mlp.check("xielu", bound_of<Real>());
    for (int twice = 0; twice < 2; twice++) {
        xielu_backward<Real>(dfc.device, dlearned.device, dmlp.device, fc.device, learned.device, fixed.device, N, F,
                             t->gpu);
        ref_xielu_backward(dfc.ref(), dlearned.ref(), dmlp.ref(), fc.ref(), learned.ref(), fixed.ref(), N, F);
    }
    dfc.check("xielu, backward", bound_of<Real>());
    dlearned.check("xielu, alphas", FLOAT_BOUND);
    xielu_backward<Real>(dmlp.device, NULL, dmlp.device, fc.device, learned.device, fixed.device, N, F, t->gpu);
    dmlp.host = dfc.host;
    dmlp.check("xielu, in place", bound_of<Real>());
}

template <typename Real> static void test_qk(Test *t, int B, int T, int NH, int NKV, int HS, bool norm, int first) {
    size_t N = (size_t)B * T, heads = NH + NKV, wide = NH + 2 * NKV;
    Array<Real> qkv(t, N * wide * HS), qk(t, N * heads * HS), qw(t, HS, 0.5, 1), kw(t, HS, 0.5, 1),
        dqk(t, N * heads * HS), dqkv(t, N * wide * HS);
    Array<float> rstd(t, N * heads), dqw(t, HS), dkw(t, HS), rope(t, (size_t)(first + T + 1) * HS);
    Numbers r(N * heads);
    Config sizes;
    memset(&sizes, 0, sizeof sizes);
    sizes.heads = NH, sizes.kv_heads = NKV, sizes.head_size = HS, sizes.rope_theta = 10000;
    ref_rope_table(rope.ref(), first + T, &sizes);
    cudaFree(rope.device);
    rope.device = rope_open(t->gpu, first + T, &sizes);
    rope.check("table", 1e-7);
    Rotation<Real> rotation = {norm ? qw.device : NULL,
                               norm ? kw.device : NULL,
                               rstd.device,
                               rope.device,
                               HS,
                               first,
                               1e-6f,
                               attention_shape(&sizes, 0, B, T, first + T, NULL)};
    qk_forward<Real>(qk.device, qkv.device, rotation, t->gpu);
    ref_qk_forward(qk.ref(), r.data(), qkv.ref(), norm ? qw.ref() : NULL, norm ? kw.ref() : NULL, rope.ref(), first, B,
                   T, NH, NKV, HS, 1e-6);
    qk.check("forward", bound_of<Real>());
    if (norm) {
        rstd.host = r;
        rstd.check("rstd", FLOAT_BOUND);
    }
    rotation.first = 0;
    for (int twice = 0; twice < 2; twice++) {
        qk_backward<Real>(dqkv.device, norm ? dqw.device : NULL, norm ? dkw.device : NULL, dqk.device, qkv.device,
                          rotation, t->gpu);
        ref_qk_backward(dqkv.ref(), norm ? dqw.ref() : NULL, norm ? dkw.ref() : NULL, dqk.ref(), qkv.ref(), r.data(),
                        norm ? qw.ref() : NULL, norm ? kw.ref() : NULL, rope.ref(), B, T, NH, NKV, HS);
    }
    dqkv.check("backward; values untouched", norm && HS == 2 ? 2 * bound_of<Real>() : bound_of<Real>());
    dqw.check("backward, query weight, twice", FLOAT_BOUND);
    dkw.check("backward, key weight, twice", FLOAT_BOUND);
    if (norm) return;
    // A layer without positions: the row behind the last turns nothing, at any position.
    layers_add(&sizes.unrotated, 0);
    rotation.rope = rope.device + rope_first(&sizes, 0, first + T), rotation.step = rope_step(&sizes, 0);
    rotation.first = first;
    qk_forward<Real>(qk.device, qkv.device, rotation, t->gpu);
    qk_backward<Real>(dqkv.device, NULL, NULL, dqk.device, qkv.device, rotation, t->gpu);
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < heads * HS; i++) {
            qk.ref()[n * heads * HS + i] = qkv.ref()[n * wide * HS + i];
            dqkv.ref()[n * wide * HS + i] = dqk.ref()[n * heads * HS + i];
        }
    qk.check("forward, without positions", 0);
    dqkv.check("backward, without positions", 0);
}

template <typename Real>
static void test_embedding(Test *t, int B, int T, int C, int V, bool positions, bool one_token) {
    size_t N = (size_t)B * T;
    std::vector<int32_t> ids(N), groups(token_groups_size(N)), counts(V);
    for (size_t i = 0; i < N; i++) ids[i] = one_token ? V - 1 : (int32_t)(next_random(t) % (uint32_t)V);
    Tokens tokens(ids);
    token_groups(groups.data(), ids.data(), N, counts.data());
    bool zero = true;
    for (int v = 0; v < V; v++) zero = zero && counts[v] == 0;
    expect(t, zero, "token_groups leaves its counts at zero");
    Tokens g(groups);
    Array<Real> wte(t, (size_t)V * C), wpe(t, (size_t)(T + 2) * C), x(t, N * C), dx(t, N * C);
    Array<float> dwte(t, (size_t)V * C), dwpe(t, (size_t)(T + 2) * C);
    TokenRows rows = {tokens.device, NULL, 2, B, T};
    embedding_forward<Real>(x.device, rows, wte.device, positions ? wpe.device : NULL, C, t->gpu);
    ref_embedding_forward(x.ref(), ids.data(), wte.ref(), positions ? wpe.ref() : NULL, 2, B, T, C);
    x.check("forward", bound_of<Real>());
    for (int twice = 0; twice < 2; twice++) {
        EmbeddingGroups all = {token_groups_at(g.device, N), {}, B, T};
        embedding_backward<Real>(dwte.device, positions ? dwpe.device : NULL, dx.device, all, C, V, t->gpu);
        ref_embedding_backward(dwte.ref(), positions ? dwpe.ref() : NULL, dx.ref(), ids.data(), B, T, C, V);
    }
    dwte.check("backward, tokens, twice", FLOAT_BOUND);
    dwpe.check("backward, positions, twice", FLOAT_BOUND);
}

template <typename Number> static bool same_bits(Test *t, const Number *a, const Number *b, size_t n) {
    std::vector<Number> x(n), y(n);
    device_read(t->gpu, x.data(), a, sizeof(Number) * n);
    device_read(t->gpu, y.data(), b, sizeof(Number) * n);
    return memcmp((const void *)x.data(), (const void *)y.data(), sizeof(Number) * n) == 0;
}

// A choice is made between rows that are kept and rows that are read again, where they can be kept and compared.
template <typename Real> static void test_loss_choice(Test *t, int N, int V) {
    Array<Real> logits(t, (size_t)N * V, 8);
    Array<float> losses(t, N);
    Tokens targets(std::vector<int32_t>(N, V / 3));
    size_t shared = t->gpu->shared, row = (size_t)(V / (int)PackOf<Real>::SIZE) * 16 + 256;
    loss_choose<Real>(losses.device, logits.device, targets.device, N, V, V, t->gpu);
    expect(t, N > 1 ? t->gpu->loss_way == LOSS_AGAIN || t->gpu->loss_way == LOSS_KEPT : t->gpu->loss_way == LOSS_FEW,
           "the faster way is chosen");
    t->gpu->shared = row - 1;
    loss_choose<Real>(losses.device, logits.device, targets.device, N, V, V, t->gpu);
    expect(t, t->gpu->loss_way == LOSS_LARGE, "what does not fit is not kept");
    t->gpu->shared = row;
    loss_choose<Real>(losses.device, logits.device, targets.device, N, V, V, t->gpu);
    expect(t, t->gpu->loss_way != LOSS_LARGE, "what just fits may be kept");
    float one = NAN;
    CUDA_CHECK(cudaMemcpy(losses.device, &one, sizeof one, cudaMemcpyHostToDevice));
    from_float((Real *)&one, NAN);
    CUDA_CHECK(cudaMemcpy(logits.device + 1, &one, sizeof(Real), cudaMemcpyHostToDevice));
    loss_choose<Real>(losses.device, logits.device, targets.device, N, V, V, t->gpu);
    expect(t, t->gpu->loss_way == (N > 1 ? LOSS_DIFFERS : LOSS_FEW), "numbers that are not the same are no choice");
    t->gpu->shared = shared;
}

// A loss is a logarithm less a logit: where it is below 1 its error is theirs, of numbers of about 1.
static double loss_bound(const Array<float> &losses) {
    double size = 0, least = (double)losses.host.size();
    for (double x : losses.host) size += x * x;
    return size > 0 && size < least ? FLOAT_BOUND * sqrt(least / size) : FLOAT_BOUND;
}

template <typename Real> static void test_loss(Test *t, int N, int V, double dscale) {
    Array<Real> logits(t, (size_t)N * V, 8);
    Array<float> losses(t, N);
    std::vector<int32_t> ids(N);
    for (int i = 0; i < N; i++) ids[i] = i % 5 == 3 ? -1 : (int32_t)(next_random(t) % (uint32_t)V);
    Tokens targets(ids);
    Array<Real> kept(t, (size_t)N * V);
    Array<float> kept_losses(t, N);
    CUDA_CHECK(cudaMemcpy(kept.device, logits.device, sizeof(Real) * N * V, cudaMemcpyDeviceToDevice));
    t->gpu->loss_way = LOSS_AGAIN;
    cross_entropy<Real>(losses.device, logits.device, targets.device, NULL, (float)dscale, N, V, V, t->gpu);
    t->gpu->loss_way = LOSS_KEPT;
    cross_entropy<Real>(kept_losses.device, kept.device, targets.device, NULL, (float)dscale, N, V, V, t->gpu);
    expect(t,
           same_bits(t, logits.device, kept.device, (size_t)N * V) &&
               same_bits(t, losses.device, kept_losses.device, N),
           "kept in shared memory, the same bits");
    ref_cross_entropy(losses.ref(), logits.ref(), ids.data(), NULL, dscale, N, V);
    losses.check("losses", loss_bound(losses));
    logits.check(dscale == 0 ? "logits untouched" : "gradient", V == 1 ? 1e-5 : bound_of<Real>());
    double *total, host = 2.5, wanted = host;
    CUDA_CHECK(cudaMalloc((void **)&total, sizeof host));
    CUDA_CHECK(cudaMemcpy(total, &host, sizeof host, cudaMemcpyHostToDevice));
    for (int twice = 0; twice < 2; twice++) sum_losses(total, losses.device, N, t->gpu);
    device_synchronize(t->gpu);
    CUDA_CHECK(cudaMemcpy(&host, total, sizeof host, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++) wanted += 2 * losses.host[i];
    expect(t, fabs(host - wanted) <= 1e-5 * fabs(wanted), "sum_losses adds");
    cudaFree(total);
}

// rule: scale of the gradient, alpha, temperature. What lies behind a row of logits is zero after a gradient.
template <typename Real> static void test_distill(Test *t, int N, int V, int ld, const double *rule) {
    Array<Real> logits(t, (size_t)N * ld, 8), teacher(t, (size_t)N * ld, 8);
    Array<float> losses(t, N), parts(t, 2 * (size_t)N);
    std::vector<int32_t> ids(N);
    for (int i = 0; i < N; i++) ids[i] = i % 5 == 3 ? -1 : (int32_t)(next_random(t) % (uint32_t)V);
    Tokens targets(ids);
    Numbers x((size_t)N * V), y((size_t)N * V);
    for (int i = 0; i < N * V; i++) x[i] = logits.host[i / V * ld + i % V], y[i] = teacher.host[i / V * ld + i % V];
    DistillShape shape = {N, V, ld, (float)rule[0], (float)rule[1], (float)rule[2]};
    distill<Real>(losses.device, parts.device, parts.device + N, logits.device, teacher.device, targets.device, shape,
                  t->gpu);
    ref_distill(losses.ref(), parts.ref(), x.data(), y.data(), ids.data(), rule, N, V);
    for (int i = 0; rule[0] != 0 && i < N * ld; i++) logits.host[i] = i % ld < V ? x[i / ld * V + i % ld] : 0;
    losses.check("losses", FLOAT_BOUND);
    parts.check("cross entropy and divergence", FLOAT_BOUND);
    logits.check(rule[0] == 0 ? "logits untouched" : "gradient", bound_of<Real>());
    teacher.check("the teacher's logits untouched", 0);
}

// Rows ld apart: what lies behind a row is not read, and is zero after a gradient. And what is not finite: where it
// must not be lost (the loss is not finite either), and where it is as good as any number.
template <typename Real> static void test_loss_rows(Test *t, int N, int V, int ld, double dscale) {
    Array<Real> logits(t, (size_t)N * V, 8), wide(t, (size_t)N * ld, 8);
    Array<float> losses(t, N), again(t, N);
    std::vector<int32_t> ids(N);
    std::vector<Real> values((size_t)N * ld), before;
    for (int i = 0; i < N; i++) ids[i] = i % 5 == 3 ? -1 : (int32_t)(next_random(t) % (uint32_t)V);
    Tokens targets(ids);
    for (int n = 0; n < N; n++)
        for (int c = 0; c < ld; c++)
            from_float(&values[(size_t)n * ld + c], c < V        ? (float)logits.host[(size_t)n * V + c]
                                                    : c % 3 == 0 ? 1e30f
                                                    : c % 3 == 1 ? NAN
                                                                 : INFINITY);
    before = values;
    CUDA_CHECK(cudaMemcpy(wide.device, values.data(), sizeof(Real) * values.size(), cudaMemcpyHostToDevice));
    cross_entropy<Real>(losses.device, wide.device, targets.device, NULL, (float)dscale, N, V, ld, t->gpu);
    cross_entropy<Real>(again.device, logits.device, targets.device, NULL, (float)dscale, N, V, V, t->gpu);
    ref_cross_entropy(losses.ref(), logits.ref(), ids.data(), NULL, dscale, N, V);
    again.host = losses.host;
    losses.check("losses of rows apart", FLOAT_BOUND);
    again.check("losses of rows side by side", FLOAT_BOUND);
    device_synchronize(t->gpu);
    CUDA_CHECK(cudaMemcpy(values.data(), wide.device, sizeof(Real) * values.size(), cudaMemcpyDeviceToHost));
    if (dscale == 0) {
        expect(t, memcmp((const void *)values.data(), (const void *)before.data(), sizeof(Real) * values.size()) == 0,
               "rows apart are left as they are");
        return;
    }
    for (int n = 0; n < N; n++)
        for (int c = 0; c < ld; c++) wide.host[(size_t)n * ld + c] = c < V ? logits.host[(size_t)n * V + c] : 0;
    logits.check("gradient of rows side by side", bound_of<Real>());
    wide.check("gradient of rows apart", bound_of<Real>());
    bool zeros = true;
    for (int n = 0; n < N; n++)
        for (int c = V; c < ld; c++) zeros = zeros && to_float(values[(size_t)n * ld + c]) == 0;
    expect(t, zeros, "the columns behind a row are zero");
    if (ld % (int)PackOf<Real>::SIZE || V % (int)PackOf<Real>::SIZE) return; // else every row is read in the same order
    std::vector<Real> narrow((size_t)N * V);
    std::vector<float> a(N), b(N);
    CUDA_CHECK(cudaMemcpy(narrow.data(), logits.device, sizeof(Real) * narrow.size(), cudaMemcpyDeviceToHost));
    CUDA_CHECK(cudaMemcpy(a.data(), losses.device, sizeof(float) * N, cudaMemcpyDeviceToHost));
    CUDA_CHECK(cudaMemcpy(b.data(), again.device, sizeof(float) * N, cudaMemcpyDeviceToHost));
    bool same = a == b;
    for (int n = 0; n < N; n++)
        same = same && memcmp((const void *)&values[(size_t)n * ld], (const void *)&narrow[(size_t)n * V],
                              sizeof(Real) * V) == 0;
    expect(t, same, "the same bits, whatever lies behind the rows");
}

template <typename Real> static void test_loss_not_finite(Test *t, int V) {
    enum { KINDS = 7, PLACES = 4 };
    static const char *const names[KINDS] =
        {"NaN", "+inf", "two +inf", "NaN, and its target +inf", "the target -inf", "-inf everywhere", "-inf elsewhere"};
    const int places[PLACES] = {0, V / 2, V - 2, V - 1};
    for (int kind = 0; kind < KINDS; kind++)
        for (int place : places) {
            Array<Real> logits(t, (size_t)3 * V, 8);
            std::vector<Real> values(logits.host.size());
            std::vector<int32_t> ids(3, place);
            int other = (place + 1) % V;
            for (size_t i = 0; i < values.size(); i++) from_float(&values[i], (float)logits.host[i]);
            auto put = [&](int c, float x) { // into the second of three rows
                from_float(&values[(size_t)(V + c)], x);
                logits.host[(size_t)(V + c)] = (double)x;
            };
            if (kind == 0 || kind == 3) put(other, NAN);
            if (kind == 1 || kind == 2) put(other, INFINITY);
            if (kind == 2 || kind == 3) put(place, INFINITY);
            if (kind == 4) put(place, -INFINITY);
            for (int c = 0; kind == 5 && c < V; c++) put(c, -INFINITY);
            if (kind == 6) put(other, -INFINITY);
            CUDA_CHECK(cudaMemcpy(logits.device, values.data(), sizeof(Real) * values.size(), cudaMemcpyHostToDevice));
            Array<float> losses(t, 3);
            Tokens targets(ids);
            std::vector<float> got(3);
            cross_entropy<Real>(losses.device, logits.device, targets.device, NULL, 1.0f, 3, V, V, t->gpu);
            ref_cross_entropy(losses.ref(), logits.ref(), ids.data(), NULL, 1.0, 3, V);
            device_synchronize(t->gpu);
            CUDA_CHECK(cudaMemcpy(got.data(), losses.device, sizeof(float) * 3, cudaMemcpyDeviceToHost));
            expect(t, isfinite(got[0]) && isfinite(got[2]) && isfinite(got[1]) == (kind == 6), names[kind]);
            if (kind == 6) {
                losses.check(names[kind], FLOAT_BOUND);
                logits.check(names[kind], bound_of<Real>());
            }
        }
}

// Rows with weights of their own, of which one is 0; both ways have the same bits.
template <typename Real> static void test_loss_weights(Test *t, int N, int V) {
    Array<Real> logits(t, (size_t)N * V, 8), kept(t, (size_t)N * V);
    Array<float> losses(t, N), kept_losses(t, N), weights(t, N);
    std::vector<int32_t> ids(N);
    for (int i = 0; i < N; i++) ids[i] = i % 5 == 3 ? -1 : (int32_t)(next_random(t) % (uint32_t)V);
    Tokens targets(ids);
    weights.host[N / 2] = 0;
    CUDA_CHECK(cudaMemsetAsync(weights.device + N / 2, 0, sizeof(float), t->gpu->stream));
    CUDA_CHECK(cudaMemcpy(kept.device, logits.device, sizeof(Real) * N * V, cudaMemcpyDeviceToDevice));
    t->gpu->loss_way = LOSS_AGAIN;
    cross_entropy<Real>(losses.device, logits.device, targets.device, weights.device, 1.0f, N, V, V, t->gpu);
    t->gpu->loss_way = LOSS_KEPT;
    cross_entropy<Real>(kept_losses.device, kept.device, targets.device, weights.device, 1.0f, N, V, V, t->gpu);
    expect(t,
           same_bits(t, logits.device, kept.device, (size_t)N * V) &&
               same_bits(t, losses.device, kept_losses.device, N),
           "kept in shared memory, the same bits");
    ref_cross_entropy(losses.ref(), logits.ref(), ids.data(), weights.ref(), 1, N, V);
    losses.check("losses of rows with weights", loss_bound(losses));
    logits.check("gradient of rows with weights", bound_of<Real>());
}

// Pairs with and without prompts, of one token and of many; more of them than thread blocks. Twice: figures add up.
static void test_objective(Test *t, int objective, int count, int length) {
    int N = 2 * count * length + 3;
    Array<float> losses(t, N, 3, 3.5), weights(t, N);
    std::vector<ModelPair> items(count);
    for (int i = 0; i < count; i++) {
        int first = 2 * i * length, other = first + 1 + (int)(next_random(t) % (uint32_t)(2 * length - 1)),
            end = first + 2 * length;
        items[i] = {first,
                    other,
                    end,
                    first + (int)(next_random(t) % (uint32_t)(other - first)),
                    other + (int)(next_random(t) % (uint32_t)(end - other)),
                    -3.0 * length,
                    -3.5 * length};
    }
    PairBatch pairs = {items.data(), count, {objective, 0.3, 0.1, 0.4, 0.7}, 0.25};
    double *totals, host[PAIR_FIGURE_COUNT + 1], wanted[PAIR_FIGURE_COUNT] = {0};
    DevicePairs device;
    CUDA_CHECK(cudaMalloc((void **)&totals, sizeof host));
    CUDA_CHECK(cudaMemsetAsync(totals, 0, sizeof host, t->gpu->stream));
    pairs_open(&device, totals + PAIR_FIGURE_COUNT, (size_t)N, t->gpu);
    pairs_upload(&device, &pairs, t->gpu);
    double loss = 0;
    for (int twice = 0; twice < 2; twice++) {
        objective_weights(weights.device, totals, losses.device, &device, N, t->gpu);
        loss += ref_objective_weights(weights.ref(), wanted, losses.ref(), &pairs, N);
    }
    weights.check("weights of pairs", FLOAT_BOUND);
    device_synchronize(t->gpu);
    CUDA_CHECK(cudaMemcpy(host, totals, sizeof host, cudaMemcpyDeviceToHost));
    for (int k = 0; k < PAIR_FIGURE_COUNT; k++)
        expect(t, fabs(host[k] - wanted[k]) <= 1e-9 * (count + fabs(wanted[k])), "figures of pairs");
    expect(t, fabs(host[PAIR_FIGURE_COUNT] - loss) <= 1e-9 * (count + fabs(loss)), "the loss of pairs");
    pairs_close(&device);
    cudaFree(totals);
}

// kind: 0 as it should be, 1 a gradient is NaN, 2 the loss is infinite, 3 it is above its bound, 4 the norm is
template <typename Real> static void test_adamw(Test *t, size_t n, bool master, int kind, double clip) {
    Array<Real> w(t, n);
    Array<float> m(t, n, 0.1), v(t, n, 0.05, 0.06), g(t, n), W(t, n);
    std::vector<unsigned char> which(n / 64);
    for (size_t i = 0; i < which.size(); i++) which[i] = (unsigned char)(i % GROUPS);
    unsigned char *groups;
    UpdateRule update = update_rule(7, {1e-2, 0.9, 0.95, 1e-8, 0.1}, clip);
    update.group[GROUP_EMBEDDING] = {3e-2, 0.8, 0.97, 1e-6, 0.2}; // every group has numbers of its own
    AdamRule rule, *rule_device;
    AdamResult result, *result_device;
    double loss = kind == 2 ? (double)INFINITY : 3.5, *loss_device, norm = sqrt(ref_sum_of_squares(g.ref(), n));
    update.max_loss = kind == 3 ? 3.4999 : 3.5;
    update.max_norm = kind == 4 ? 0.9999 * norm : 1.0001 * norm;
    rule = adam_rule(&update);
    if (kind == 1) {
        float nan = NAN;
        CUDA_CHECK(cudaMemcpy(g.device + n / 2, &nan, 4, cudaMemcpyHostToDevice));
    }
    CUDA_CHECK(cudaMalloc((void **)&groups, which.size()));
    CUDA_CHECK(cudaMalloc((void **)&rule_device, sizeof rule));
    CUDA_CHECK(cudaMalloc((void **)&result_device, sizeof result));
    CUDA_CHECK(cudaMalloc((void **)&loss_device, sizeof loss));
    CUDA_CHECK(cudaMemcpy(groups, which.data(), which.size(), cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaMemcpy(rule_device, &rule, sizeof rule, cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaMemcpy(loss_device, &loss, sizeof loss, cudaMemcpyHostToDevice));
    double *sums_device;
    Owned everything;
    memset(&everything, 0, sizeof everything);
    CUDA_CHECK(cudaMalloc((void **)&sums_device, 2 * sizeof(double)));
    take_loss(sums_device, loss_device, t->gpu);
    gradient_squares(sums_device + 1, g.device, n, everything, t->gpu);
    update_decide(result_device, sums_device, 1, 1, 1, rule_device, t->gpu);
    ParamRun<Real> run = {w.device, master ? W.device : NULL, g.device, {m.device, v.device}, groups, NULL, n};
    adamw<Real>(run, everything, rule_device, result_device, t->gpu);
    device_synchronize(t->gpu);
    CUDA_CHECK(cudaMemcpy(&result, result_device, sizeof result, cudaMemcpyDeviceToHost));
    expect(t, result.updated == (kind == 0), "an update happens exactly when all is finite and within bounds");
    expect(t, result.finite == 1, "what an update makes, or leaves as it is, is finite");
    if (kind == 0) {
        expect(t, fabs(result.grad_norm - norm) <= 1e-6 * norm && result.loss == 3.5, "norm and loss");
        double scale = clip > 0 && norm > clip ? clip / norm : 1;
        double *masters = master ? W.ref() : w.ref();
        for (size_t i = 0; i < n; i += 64) {
            GroupRule of = update.group[which[i / 64]];
            ref_adamw(masters + i, m.ref() + i, v.ref() + i, g.ref() + i, 64, of.lr, of.beta1, of.beta2, of.eps,
                      of.weight_decay, 7, scale);
        }
        for (size_t i = 0; i < n; i++) g.host[i] = 0;
        if (master) {
            W.check("master weights", FLOAT_BOUND);
            w.host = W.host;
        }
        g.check("gradients are zeroed", 0);
        m.check("m", FLOAT_BOUND);
        v.check("v", FLOAT_BOUND);
        w.check("weights", master || sizeof(Real) == 4
                               ? bound_of<Real>()
                               : 2 * bound_of<Real>()); // stochastic rounding: up to a whole unit
    } else {
        w.check("weights untouched", 0);
        W.check("master weights untouched", 0);
        m.check("m untouched", 0);
        v.check("v untouched", 0);
    }
    cudaFree(groups);
    cudaFree(sums_device);
    cudaFree(rule_device);
    cudaFree(result_device);
    cudaFree(loss_device);
}

// One number of an update's arrays is such that finite gradients make something that is not finite; where: its place.
template <typename Real> static void test_adamw_finite(Test *t, bool master, int kind, size_t where) {
    const size_t n = 4160;
    Array<Real> w(t, n, 0, 1);
    Array<float> m(t, n, 0, 0.1), v(t, n, 0, 0.2), g(t, n, 0, 0.3), W(t, n, 0, 1);
    // Kinds: nothing; a weight that overflows, or is NaN; a moment that is NaN or infinite, or below 0; a weight that
    // only its rounding to bf16 makes infinite; the largest that does not.
    static const float values[] = {0, 3e38f, NAN, NAN, NAN, INFINITY, -1, 3.4e38f, 3.38e38f};
    static const char arrays[] = "-wwmvvvww";
    UpdateRule update = update_rule(3, {kind == 1 ? 10.0 : 1e-9, 0.9, 0.95, 1e-8, kind == 1 ? 10.0 : 0}, 0);
    AdamRule rule = adam_rule(&update), *rule_device;
    AdamResult result = {3.5, 1, 1, 1, 1}, *result_device;
    float x = values[kind];
    if (arrays[kind] == 'm') CUDA_CHECK(cudaMemcpy(m.device + where, &x, 4, cudaMemcpyHostToDevice));
    if (arrays[kind] == 'v') CUDA_CHECK(cudaMemcpy(v.device + where, &x, 4, cudaMemcpyHostToDevice));
    if (arrays[kind] == 'w' && master) CUDA_CHECK(cudaMemcpy(W.device + where, &x, 4, cudaMemcpyHostToDevice));
    if (arrays[kind] == 'w' && !master) {
        Real stored;
        from_float(&stored, kind == 7 ? 3.38e38f : x);
        CUDA_CHECK(cudaMemcpy(w.device + where, &stored, sizeof stored, cudaMemcpyHostToDevice));
    }
    unsigned char *groups;
    CUDA_CHECK(cudaMalloc((void **)&groups, n / 64));
    std::vector<unsigned char> which(n / 64, (unsigned char)GROUP_MATRIX);
    CUDA_CHECK(cudaMemcpy(groups, which.data(), n / 64, cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaMalloc((void **)&rule_device, sizeof rule));
    CUDA_CHECK(cudaMalloc((void **)&result_device, sizeof result));
    CUDA_CHECK(cudaMemcpy(rule_device, &rule, sizeof rule, cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaMemcpy(result_device, &result, sizeof result, cudaMemcpyHostToDevice));
    Owned everything;
    memset(&everything, 0, sizeof everything);
    ParamRun<Real> run = {w.device, master ? W.device : NULL, g.device, {m.device, v.device}, groups, NULL, n};
    adamw<Real>(run, everything, rule_device, result_device, t->gpu);
    device_synchronize(t->gpu);
    CUDA_CHECK(cudaMemcpy(&result, result_device, sizeof result, cudaMemcpyDeviceToHost));
    bool finite = kind == 0 || kind == 8 || (kind == 7 && !master);
    expect(t, (result.finite != 0) == finite, finite ? "a finite update is taken for another" : "it is not noticed");
    cudaFree(groups);
    cudaFree(rule_device);
    cudaFree(result_device);
}

// Weights and row moments beside the reference, by norms: the iteration is in `real`, and errors of directions that
// hardly occur grow in it (see kernels_test.h). update false: nothing may change.
template <typename Real> static void test_muon(Test *t, int rows, int cols, MuonRule muon, bool master, bool update) {
    size_t n = (size_t)rows * (size_t)cols;
    Array<Real> w(t, n), scratch(t, muon_scratch(rows, cols, MUON_SQUARES));
    Array<float> m(t, n, 0.1), v(t, (size_t)rows, 0.001, 0.002), g(t, n), W(t, n);
    UpdateRule of = update_rule(7, {1e-2, 0.9, 0.95, 1e-8, 0.1}, 1);
    AdamRule rule = adam_rule(&of), *rule_device;
    AdamResult result = {1, 1, 0.5f, update, 1}, *result_device;
    bool rows_too = muon.optimizer == OPTIMIZER_NORMUON;
    CUDA_CHECK(cudaMalloc((void **)&rule_device, sizeof rule));
    CUDA_CHECK(cudaMalloc((void **)&result_device, sizeof result));
    CUDA_CHECK(cudaMemcpy(rule_device, &rule, sizeof rule, cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaMemcpy(result_device, &result, sizeof result, cudaMemcpyHostToDevice));
    MuonMatrix<Real> s = {w.device, master ? W.device : NULL, g.device, m.device, rows_too ? v.device : NULL, 4, rows,
                          cols};
    muon_update<Real>(s, &muon, rule_device, result_device, scratch.device, t->gpu);
    device_synchronize(t->gpu);
    if (update) {
        double *to = master ? W.ref() : w.ref(), change = 0, error = 0, size = 0;
        std::vector<double> before(to, to + n);
        ref_muon(to, m.ref(), rows_too ? v.ref() : NULL, g.ref(), rows, cols, muon, 1e-2, 0.1, 0.5);
        std::vector<float> got(n);
        if (master) device_read(t->gpu, got.data(), W.device, sizeof(float) * n);
        else device_floats(t->gpu, got.data(), w.device, n);
        for (size_t i = 0; i < n; i++) {
            size += to[i] * to[i];
            change += (to[i] - before[i]) * (to[i] - before[i]), error += (to[i] - got[i]) * (to[i] - got[i]);
            g.host[i] = 0;
        }
        // bf16: a rounding of 0.2% in each of 15 products, some of which cancel. Without masters the weights themselves
        // are rounded, by up to a whole unit.
        double bound = (sizeof(Real) == 4 ? 1e-4 : 0.05) * sqrt(change);
        if (sizeof(Real) == 2 && !master) bound += sqrt(size) / 128;
        expect(t, sqrt(error) <= bound, "weights");
        m.check("m", FLOAT_BOUND);
        g.check("gradients are zeroed", 0);
        if (rows_too) v.check("row moments", sizeof(Real) == 4 ? 100 * FLOAT_BOUND : 0.05);
    } else {
        w.check("weights untouched", 0);
        W.check("master weights untouched", 0);
        m.check("m untouched", 0);
        v.check("row moments untouched", 0);
    }
    cudaFree(rule_device);
    cudaFree(result_device);
}

// Stochastic rounding must be right on average: the mean error of many roundings is far below one.
static __global__ void rounding_kernel(float *out, float x, int n) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) out[i] = to_float(round_stochastic(x, philox4x32((uint32_t)i, 0, 0, 0, 1, 2).x[0]));
}
static void test_rounding(Test *t) {
    const int n = 4096;
    Array<float> out(t, n);
    std::vector<float> values(n);
    const float x = 1.0f + 0.3f / 128; // three tenths of the way from 1 to the next bf16
    rounding_kernel<<<n / 256, 256, 0, t->gpu->stream>>>(out.device, x, n);
    LAUNCH_CHECK();
    device_synchronize(t->gpu);
    CUDA_CHECK(cudaMemcpy(values.data(), out.device, 4 * n, cudaMemcpyDeviceToHost));
    int up = 0, other = 0;
    for (int i = 0; i < n; i++)
        up += values[i] == 1.0f + 1.0f / 128, other += values[i] != 1.0f && values[i] != 1.0f + 1.0f / 128;
    expect(t, other == 0, "rounds to a neighbour");
    expect(t, fabs(up / (double)n - 0.3) < 0.03, "rounds up as often as it should"); // 4 standard deviations
}

// ---------------------------------------------------------------- all of it

#ifdef CUDA_EMU
static void set_order(int order) {
    emu.order = order;
    emu.random = 12345;
}
#else
static void set_order(int) {}
#endif

template <typename Work> static void three_times(Test *t, const std::string &name, Work work) {
    uint64_t first = 0;
    if (!strstr(name.c_str(), t->only)) return;
    t->name = name;
    for (int order = 0; order < 3; order++) {
        set_order(order);
        t->bits = 14695981039346656037ull;
        t->random = 42;
        work();
        if (order == 0) first = t->bits;
        if (t->bits == first) t->passed++;
        else {
            t->failed++;
            printf("FAILED %s: other bits when %s\n", name.c_str(),
                   order == 1 ? "threads run backwards (run 2)" : "threads run shuffled (run 3)");
        }
    }
}

// A matrix of codes in so many parts: the numbers of coded_read, rounded to the type, bit by bit.
template <typename Real> static void test_codes(Test *t, int format, int rows, int cols, int parts) {
    size_t n = (size_t)rows * (size_t)cols;
    QuantTables tables, *tables_device;
    Coded c;
    int done;
    memset(&c, 0, sizeof c);
    quant_tables(&tables);
    c.count = parts, c.tables = &tables;
    for (int i = 0; i < parts; i++) {
        c.parts[i].format = format;
        c.parts[i].count = (size_t)(rows * (i + 1) / parts - rows * i / parts) * (size_t)cols;
        c.start[i + 1] = c.start[i] + c.parts[i].count;
    }
    std::vector<float> x(n), largest(nf4_blocks(n));
    std::vector<uint64_t> bytes(coded_bytes(&c) / sizeof(uint64_t));
    for (float &v : x) v = 0.03f * ((float)next_random(t) / 1073741824.0f - 1);
    coded_place(&c, (uint8_t *)bytes.data());
    CodedFill fill = {largest.data(), NULL, 0};
    for (size_t at = 0; at < n;) at += coded_take(&fill, &c, at, x.data() + at, n - at, &done);
    coded_read(x.data(), &c, 0, n);
    Array<Real> out(t, n);
    for (size_t i = 0; i < n; i++) {
        Real rounded;
        from_float(&rounded, x[i]);
        out.host[i] = (double)to_float(rounded);
    }
    uint8_t *device = NULL;
    CUDA_CHECK(cudaMalloc((void **)&device, coded_bytes(&c)));
    CUDA_CHECK(cudaMalloc((void **)&tables_device, sizeof tables));
    device_write(t->gpu, device, bytes.data(), coded_bytes(&c));
    device_write(t->gpu, tables_device, &tables, sizeof tables);
    coded_place(&c, device);
    c.tables = tables_device;
    codes_decode<Real>(out.device, &c, t->gpu);
    out.check("numbers", 0);
    cudaFree(device);
    cudaFree(tables_device);
}

template <typename Real> static void test_type(Test *t, const std::string &type) {
    static const int rows[][2] =
        {{1, 1},    {3, 7},    {37, 40},  {5, 130},  {70, 64},   {2, 1100},
         {2, 5000}, {2, 5003}, {3, 9000}, {3, 9003}, {4300, 15}, {1100, 520}}; // the last two: several rows a thread
                                                                               // block, in turns
    for (auto &s : rows)
        for (int layer = 0; layer < 2 && s[1] <= 2048 * (int)PackOf<Real>::SIZE; layer++)
            three_times(t,
                        type + (layer ? " LayerNorm " : " RMSNorm ") + std::to_string(s[0]) + " x " +
                            std::to_string(s[1]),
                        [&]() { test_norm<Real>(t, s[0], s[1], layer != 0); });
    three_times(t, type + " LayerNorm 3 x 25000, forward", [&]() { test_norm<Real>(t, 3, 25000, true); });
    static const int products[][3] = {{1, 1, 1}, {5, 7, 3}, {33, 40, 24}, {150, 65, 136}, {2, 300, 9}};
    for (auto &s : products)
        for (int k = 0; k < 4; k++)
            three_times(t,
                        type + " linear " + std::to_string(s[0]) + " x " + std::to_string(s[1]) + " x " +
                            std::to_string(s[2]) + (k & 1 ? " bias" : "") + (k & 2 ? " residual" : ""),
                        [&]() { test_linear<Real>(t, s[0], s[1], s[2], k & 1, k & 2); });
    static const int codes[][4] = {{BASE_NF4, 1, 64, 1},   {BASE_NF4, 48, 1100, 3}, {BASE_NF4, 6, 37, 2},
                                   {BASE_NF4, 5, 129, 1},  {BASE_NF4, 1, 1, 1},     {BASE_Q8, 1, 32, 1},
                                   {BASE_Q8, 300, 160, 3}, {BASE_Q8, 7, 96, 2}};
    for (auto &s : codes)
        three_times(t,
                    type + " codes " + base_name(s[0]) + " " + std::to_string(s[1]) + " x " + std::to_string(s[2]) +
                        " in " + std::to_string(s[3]),
                    [&]() { test_codes<Real>(t, s[0], s[1], s[2], s[3]); });
    static const int biases[][2] = {{1, 5}, {31, 8}, {33, 600}, {8229, 8}, {8195, 5}}; // the last two: two turns
    for (auto &s : biases)
        three_times(t, type + " bias " + std::to_string(s[0]) + " x " + std::to_string(s[1]),
                    [&]() { test_bias<Real>(t, s[0], s[1]); });
    static const int mlps[][2] = {{1, 1}, {3, 5}, {7, 40}, {4, 259}};
    for (auto &s : mlps)
        three_times(t, type + " mlp " + std::to_string(s[0]) + " x " + std::to_string(s[1]),
                    [&]() { test_mlp<Real>(t, s[0], s[1]), test_xielu<Real>(t, s[0], s[1]); });
    three_times(t, type + " xielu, more packs than threads", [&]() { test_xielu<Real>(t, 1057, 1027); });
    static const int heads[][5] = {{1, 1, 1, 1, 2},  {2, 5, 3, 1, 6},   {2, 9, 4, 2, 16},  {1, 7, 6, 3, 64},
                                   {1, 5, 2, 1, 80}, {3, 3, 2, 2, 128}, {1, 2, 1, 1, 500}, {1, 2, 1, 1, 512}};
    for (auto &s : heads)
        for (int norm = 0; norm < 2; norm++)
            three_times(t,
                        type + " qk " + std::to_string(s[0]) + "," + std::to_string(s[1]) + "," + std::to_string(s[2]) +
                            "," + std::to_string(s[3]) + "," + std::to_string(s[4]) + (norm ? " norm" : ""),
                        [&]() { test_qk<Real>(t, s[0], s[1], s[2], s[3], s[4], norm != 0, norm ? 3 : 0); });
    static const int tables[][4] = {{1, 1, 1, 1}, {2, 5, 7, 3}, {3, 21, 40, 11}, {2, 30, 300, 1000}};
    for (auto &s : tables)
        for (int k = 0; k < 4; k++)
            three_times(t,
                        type + " embedding " + std::to_string(s[0]) + "," + std::to_string(s[1]) + "," +
                            std::to_string(s[2]) + "," + std::to_string(s[3]) + (k & 1 ? " positions" : "") +
                            (k & 2 ? " one token" : ""),
                        [&]() { test_embedding<Real>(t, s[0], s[1], s[2], s[3], k & 1, k & 2); });
    static const int losses[][2] = {{1, 2}, {6, 5}, {9, 130}, {3, 8000}, {2, 4097}};
    for (auto &s : losses)
        for (int k = 0; k < 2; k++)
            three_times(t, type + " loss " + std::to_string(s[0]) + " x " + std::to_string(s[1]),
                        [&]() { test_loss<Real>(t, s[0], s[1], k ? 0.01 : 0); });
    for (auto &s : losses)
        three_times(t, type + " loss with weights " + std::to_string(s[0]) + " x " + std::to_string(s[1]),
                    [&]() { test_loss_weights<Real>(t, s[0], s[1]); });
    for (int objective = OBJECTIVE_DPO; objective <= OBJECTIVE_ORPO; objective++)
        for (int k = 0; k < 3; k++)
            three_times(t, type + " objective " + std::to_string(objective) + ", " + std::to_string(k),
                        [&]() { test_objective(t, objective, k == 2 ? 600 : 2 * k + 1, k ? k == 2 ? 3 : 9 : 300); });
    static const int wide[][3] = {{6, 5, 6},       {9, 130, 200}, {5, 264, 320}, {2, 9000, 9024},
                                  {4, 4097, 4104}, {7, 3, 160},   {6, 77, 79}};
    for (auto &s : wide)
        for (int k = 0; k < 2; k++)
            three_times(t,
                        type + " loss " + std::to_string(s[0]) + " x " + std::to_string(s[1]) + ", rows " +
                            std::to_string(s[2]) + " apart",
                        [&]() {
                            for (int way : {LOSS_AGAIN, LOSS_KEPT}) {
                                t->gpu->loss_way = way;
                                test_loss_rows<Real>(t, s[0], s[1], s[2], k ? 0.01 : 0);
                            }
                        });
    static const double rules[][3] = {{0.01, 0.5, 2}, {0.01, 0, 1}, {0.01, 1, 3}, {0, 0.7, 0.5}};
    for (auto &s : wide)
        for (auto &rule : rules)
            three_times(t,
                        type + " distillation " + std::to_string(s[0]) + " x " + std::to_string(s[1]) + ", alpha " +
                            std::to_string(rule[1]),
                        [&]() { test_distill<Real>(t, s[0], s[1], s[2], rule); });
    for (int V : {3, 129, 400})
        three_times(t, type + " loss, not finite, " + std::to_string(V), [&]() {
            for (int way : {LOSS_AGAIN, LOSS_KEPT}) {
                t->gpu->loss_way = way;
                test_loss_not_finite<Real>(t, V);
            }
        });
    for (int N : {1, 2, 9})
        three_times(t, type + " loss, choice, " + std::to_string(N),
                    [&]() { test_loss_choice<Real>(t, N, N == 9 ? 1000 : 45); });
    for (int k = 0; k < 10; k++)
        three_times(t, type + " adamw " + std::to_string(k), [&]() {
            test_adamw<Real>(t, k < 4 ? 64 : 5056, sizeof(Real) == 2 && k % 2, k < 6 ? 0 : k - 5, k & 2 ? 1 : 0);
        });
    static const int matrices[][2] = {{64, 64}, {40, 136}, {136, 40}, {8, 24}};
    for (int k = 0; k < 8; k++)
        three_times(t, type + " muon " + std::to_string(k), [&]() {
            MuonRule muon = {k % 2 ? OPTIMIZER_NORMUON : OPTIMIZER_MUON,
                             k % 3 ? MUON_SCALE_RMS : MUON_SCALE_ORIGINAL,
                             k % 4 < 2 ? MUON_JORDAN : MUON_POLAR,
                             5,
                             0.95,
                             0.9,
                             k % 5 != 0,
                             k % 7 == 3};
            test_muon<Real>(t, matrices[k % 4][0], matrices[k % 4][1], muon, sizeof(Real) == 2 && k % 3, k != 6);
        });
    for (int kind = 0; kind < 9; kind++)
        for (size_t where : {0, 7, 2049, 4159})
            for (int master = 0; master < (sizeof(Real) == 2 ? 2 : 1); master++)
                three_times(t, type + " adamw, finite, " + std::to_string(kind),
                            [&]() { test_adamw_finite<Real>(t, master, kind, where); });
}

int main(int argc, char **argv) {
    Device gpu;
    Dist alone;
    Error err;
    dist_single(&alone);
    if (!device_open(&gpu, &alone, &err)) fail("%s", err.text);
    gemm_open(&gpu);
    ref_open();
    Test t;
    t.gpu = &gpu;
    t.passed = t.failed = 0;
    t.only = argc > 1 ? argv[1] : "";
    test_type<float>(&t, "fp32");
    test_type<__nv_bfloat16>(&t, "bf16");
    three_times(&t, "stochastic rounding", [&]() { test_rounding(&t); });
    gemm_close(&gpu);
    device_close(&gpu);
    ref_close();
    printf("CUDA kernels: %d checks passed, %d failed\n", t.passed, t.failed);
    return t.failed != 0 || t.passed == 0;
}
