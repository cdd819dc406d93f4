/*
cuda_attention_test.cu: llmc/cuda/attention.h against attention in plain double arithmetic.

Runs on a GPU and, built with dev/emu, on the CPU. Checks: forward and backward, bf16 and float, head sizes with and
without tensor cores, grouped queries, T on either side of every tile size, fewer queries than keys, one query; rows
that are parts of wider ones; the guard around every output; the same bits in every run (with blocks in sections of
all heads, of one and of two; in the emulator with a thread block's threads run forwards, backwards and shuffled, and
with copies that arrive late and early, so that a missing barrier shows); NaN where it belongs and nowhere else.

    cuda_attention_test [SHAPE]    one shape only, by its number
    cuda_attention_test bench      times, causal (2 products forward, 5 backward), and what gpu_model.h predicts

Tolerances are on |x - y|_2 / |y|_2 against double on the same rounded inputs. float: sums of at most
300 terms in fp32, 3e-6. bf16: one rounding has a relative error of at most 2^-8, and of 2^-8/sqrt(3)
times the mean 0.735 of 1/mantissa = 1.7e-3 root mean square. out: P and out are rounded, independently:
2.4e-3 expected, bound 3e-3. Gradients: dS (or P) and the result are rounded, and delta is made of the
rounded out: about 3e-3 expected, bound 5e-3. Where the scores are steep, P is nearly 0 or 1 and dP -
delta cancels, so that what delta carries weighs more: bound 1.2e-2. lse: the error of a score, which
is a sum of HS products of up to 100 in fp32.
*/
#include "../../llmc/cuda/attention.h"
#include "../../llmc/cuda/peak.h"
#include "../bench/gpu_model.h"
#include "check.h"

typedef AttentionShape Shape;

static Device gpu;

static uint32_t random_state;
static float random_float(void) { // about normal
    float x = -6;
    for (int i = 0; i < 12; i++) {
        random_state = random_state * 1664525u + 1013904223u;
        x += (float)(random_state >> 8) / 16777216.0f;
    }
    return x;
}

// Numbers in device memory that the host can read and write, with 64 untouched ones behind them.
template <typename Real> struct Array {
    Real *device;
    size_t n;
    float *host; // as floats, n
};
enum { GUARD = 64 };

template <typename Real> static Array<Real> array_new(size_t n, bool random, float scale) {
    Array<Real> a;
    a.n = n;
    a.host = (float *)mem_alloc(n * sizeof(float));
    Real *bits = (Real *)mem_alloc((n + GUARD) * sizeof(Real));
    memset((void *)bits, 0xff, (n + GUARD) * sizeof(Real)); // NaN
    for (size_t i = 0; random && i < n; i++) {
        from_float(&bits[i], random_float() * scale);
        a.host[i] = to_float(bits[i]);
    }
    CUDA_CHECK(cudaMalloc((void **)&a.device, (n + GUARD) * sizeof(Real)));
    CUDA_CHECK(cudaMemcpy(a.device, bits, (n + GUARD) * sizeof(Real), cudaMemcpyHostToDevice));
    free(bits);
    return a;
}

// Reads the numbers back; their guard must be as it was.
template <typename Real> static void array_read(Array<Real> *a, const char *name) {
    Real *bits = (Real *)mem_alloc((a->n + GUARD) * sizeof(Real));
    CUDA_CHECK(cudaMemcpy(bits, a->device, (a->n + GUARD) * sizeof(Real), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < a->n; i++) a->host[i] = to_float(bits[i]);
    for (size_t i = 0; i < GUARD * sizeof(Real); i++)
        CHECK(((unsigned char *)(bits + a->n))[i] == 0xff, "byte %zu behind %s was written", i, name);
    free(bits);
}

template <typename Real> static void array_write(Array<Real> *a, size_t i, float x) {
    Real bits;
    from_float(&bits, x);
    a->host[i] = x;
    CUDA_CHECK(cudaMemcpy(a->device + i, &bits, sizeof(Real), cudaMemcpyHostToDevice));
}

template <typename Real> static void array_free(Array<Real> *a) {
    CUDA_CHECK(cudaFree(a->device));
    free(a->host);
}

// rows (N, width) inside rows of ld numbers; everything outside must still be NaN, if `outside` is set
static double relative_error(const float *x, int ld, const double *y, size_t rows, int width, bool outside) {
    double error = 0, size = 0;
    for (size_t r = 0; r < rows; r++)
        for (int c = 0; c < ld; c++) {
            if (c < width) {
                double e = x[r * (size_t)ld + (size_t)c] - y[r * (size_t)width + (size_t)c];
                error += e * e;
                size += y[r * (size_t)width + (size_t)c] * y[r * (size_t)width + (size_t)c];
            } else if (outside && x[r * (size_t)ld + (size_t)c] == x[r * (size_t)ld + (size_t)c]) return INFINITY;
        }
    return size > 0 ? sqrt(error / size) : sqrt(error);
}

// Where the documents of B rows of T tokens begin, by a rule: 0 none (NULL), 1 at random, 2 with every token, 3 on
// borders of tiles, 4 before and behind them.
static int32_t *cut(int rule, int B, int T) {
    if (!rule) return NULL;
    int32_t *starts = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)B * (size_t)T);
    random_state = 3;
    for (int n = 0; n < B * T; n++) {
        int t = n % T, beside = n / T % 2 ? 1 : -1;
        bool begins = t == 0 || (rule == 1 && random_float() > 1.7f) || rule == 2 || (rule == 3 && t % 64 == 0) ||
                      (rule == 4 && (t + beside) % 64 == 0);
        starts[n] = begins ? t : starts[n - 1];
    }
    return starts;
}

static bool sees(Shape s, int b, int t, int key) {
    int position = s.Tkv - s.Tq + t;
    return key <= position && (!s.window || position - key < s.window) &&
           (!s.starts || key >= s.starts[(size_t)b * s.Tq + t]);
}

// Scores of query row t of batch b and head h: p (n) = exp(s - lse)
static double plain_row(double *p, const float *q, int ldq, const float *k, int ldk, int b, int h, int t, Shape s) {
    int n = s.Tkv - s.Tq + t + 1, kh = h / (s.NH / s.NKV);
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        p[i] = 0;
        for (int d = 0; d < s.HS; d++)
            p[i] += (double)q[((size_t)b * s.Tq + t) * ldq + h * s.HS + d] *
                    k[((size_t)b * s.Tkv + i) * ldk + kh * s.HS + d];
        p[i] = sees(s, b, t, i) ? p[i] / sqrt((double)s.HS) : -INFINITY;
        top = fmax(top, p[i]);
    }
    for (int i = 0; i < n; i++) sum += exp(p[i] - top);
    for (int i = 0; i < n; i++) p[i] = exp(p[i] - top) / sum;
    return top + log(sum);
}

#ifdef CUDA_EMU
// Backwards, copies of cp.async arrive at once, else when they are waited for: a device may do either.
static void set_order(int order) {
    static const bool always = emu.early; // asked for by CUDA_EMU_COPIES
    emu.order = order;
    emu.early = always || order == 1;
}
#else
static void set_order(int) {}
#endif

// Sections of all heads that share keys, of one, of two (of the forward and dq kernels)
static void set_sections(int run, Shape s) {
    attention_section_bytes = run == 0 ? (size_t)24 << 20 : (size_t)run * s.Tkv * s.HS * 4;
}

static double worst_forward[2], worst_lse[2], worst_backward[2]; // [bf16]

// s.starts: of the host
template <typename Real> static void test_shape(Shape s, float scale) {
    double gradient_bound = sizeof(Real) == 4 ? 3e-6 : scale > 1 ? 1.2e-2 : 5e-3;
    constexpr bool half = sizeof(Real) == 2;
    char name[200];
    snprintf(name, sizeof name, "%s B=%d Tq=%d Tkv=%d NH=%d NKV=%d HS=%d window=%d%s", half ? "bf16" : "float", s.B,
             s.Tq, s.Tkv, s.NH, s.NKV, s.HS, s.window, s.starts ? " documents" : "");
    random_state = (uint32_t)(s.Tq * 31 + s.Tkv * 7 + s.HS);
    int width = s.NH * s.HS, kv = s.NKV * s.HS, group = s.NH / s.NKV;
    int ldq = width + 16, ldk = kv + 24, ldv = kv + 8, lddq = width + 8, lddk = kv + 32, lddv = kv + 16;
    size_t nq = (size_t)s.B * s.Tq, nk = (size_t)s.B * s.Tkv;
    Array<Real> q = array_new<Real>(nq * ldq, true, scale), k = array_new<Real>(nk * ldk, true, scale),
                v = array_new<Real>(nk * ldv, true, 1), dout = array_new<Real>(nq * width, true, 1);
    Array<Real> out = array_new<Real>(nq * width, false, 0), again = array_new<Real>(nq * width, false, 0);
    Array<float> lse = array_new<float>(nq * s.NH, false, 0);
    double *y = (double *)mem_alloc(nq * width * sizeof(double)), *l = (double *)mem_alloc(nq * s.NH * sizeof(double)),
           *p = (double *)mem_alloc(s.Tkv * sizeof(double));
    double *ydq = (double *)mem_alloc(nq * width * sizeof(double)),
           *ydk = (double *)mem_alloc(nk * kv * sizeof(double)), *ydv = (double *)mem_alloc(nk * kv * sizeof(double));

    for (int b = 0; b < s.B; b++)
        for (int h = 0; h < s.NH; h++)
            for (int t = 0; t < s.Tq; t++) {
                size_t row = (size_t)b * s.Tq + t;
                int kh = h / group, n = s.Tkv - s.Tq + t + 1;
                l[((size_t)b * s.NH + h) * s.Tq + t] = plain_row(p, q.host, ldq, k.host, ldk, b, h, t, s);
                double delta = 0;
                for (int d = 0; d < s.HS; d++) {
                    double o = 0;
                    for (int i = 0; i < n; i++) o += p[i] * v.host[((size_t)b * s.Tkv + i) * ldv + kh * s.HS + d];
                    y[row * width + h * s.HS + d] = o;
                    delta += o * dout.host[row * width + h * s.HS + d];
                }
                for (int i = 0; i < n; i++) {
                    size_t key = (size_t)b * s.Tkv + i;
                    double dp = 0;
                    for (int d = 0; d < s.HS; d++)
                        dp += (double)dout.host[row * width + h * s.HS + d] * v.host[key * ldv + kh * s.HS + d];
                    double ds = p[i] * (dp - delta) / sqrt((double)s.HS);
                    for (int d = 0; d < s.HS; d++) {
                        ydq[row * width + h * s.HS + d] += ds * k.host[key * ldk + kh * s.HS + d];
                        ydk[key * kv + kh * s.HS + d] += ds * q.host[row * ldq + h * s.HS + d];
                        ydv[key * kv + kh * s.HS + d] += p[i] * dout.host[row * width + h * s.HS + d];
                    }
                }
            }

    Shape on = s;
    size_t starts_bytes = sizeof(int32_t) * nq;
    int32_t *starts = NULL;
    if (s.starts) {
        CUDA_CHECK(cudaMalloc((void **)&starts, starts_bytes));
        CUDA_CHECK(cudaMemcpy(starts, s.starts, starts_bytes, cudaMemcpyHostToDevice));
        on.starts = starts;
    }
    set_order(0);
    set_sections(0, s);
    Heads<Real> in = {{q.device, ldq}, {k.device, ldk}, {v.device, ldv}};
    attention_forward<Real>(out.device, lse.device, in, on, &gpu);
    set_order(1);
    set_sections(2, s);
    attention_forward<Real>(again.device, NULL, in, on, &gpu);
    CUDA_CHECK(cudaDeviceSynchronize());
    array_read(&out, "out");
    array_read(&again, "out");
    array_read(&lse, "lse");
    double e = relative_error(out.host, width, y, nq, width, true), worst = 0;
    for (size_t i = 0; i < nq * s.NH; i++) worst = fmax(worst, fabs(lse.host[i] - l[i]) / fmax(1, fabs(l[i])));
    CHECK(e <= (half ? 3e-3 : 3e-6), "%s: out is off by %g", name, e);
    CHECK(worst <= 1e-6, "%s: lse is off by %g", name, worst);
    CHECK(memcmp(out.host, again.host, nq * width * sizeof(float)) == 0, "%s: out differs in a second run without lse",
          name);
    worst_forward[half] = fmax(worst_forward[half], e);
    worst_lse[half] = fmax(worst_lse[half], worst);

    if (s.Tq == s.Tkv) {
        Array<Real> dq = array_new<Real>(nq * lddq, false, 0), dk = array_new<Real>(nk * lddk, false, 0),
                    dv = array_new<Real>(nk * lddv, false, 0);
        float *first = (float *)mem_alloc((nq * lddq + nk * lddk + nk * lddv) * sizeof(float));
        for (int run = 0; run < 3; run++) {
            set_order(run);
            set_sections(run, s);
            // scratch memory holds all sequences, one of them, or all but one
            size_t numbers = (size_t)s.NH * s.Tq * sizeof(float);
            gpu.scratch_bytes = run == 0   ? DEVICE_SCRATCH_BYTES
                                : run == 1 ? numbers
                                           : numbers * (s.B > 1 ? s.B - 1 : 1);
            Heads<Real> d = {{dq.device, lddq}, {dk.device, lddk}, {dv.device, lddv}};
            attention_backward<Real>(d, dout.device, out.device, lse.device, in, on, &gpu);
            CUDA_CHECK(cudaDeviceSynchronize());
            array_read(&dq, "dq");
            array_read(&dk, "dk");
            array_read(&dv, "dv");
            Array<Real> *parts[] = {&dq, &dk, &dv};
            float *at = first;
            for (int i = 0; i < 3; at += parts[i++]->n) {
                if (run > 0)
                    CHECK(memcmp(at, parts[i]->host, parts[i]->n * sizeof(float)) == 0,
                          "%s: gradient %d differs in run %d", name, i, run + 1);
                memcpy(at, parts[i]->host, parts[i]->n * sizeof(float));
            }
        }
        double eq = relative_error(dq.host, lddq, ydq, nq, width, true),
               ek = relative_error(dk.host, lddk, ydk, nk, kv, true),
               ev = relative_error(dv.host, lddv, ydv, nk, kv, true);
        // With one key dS is 0 but for rounding: nothing to be relative to.
        bool alone = true;
        for (int n = 0; n < s.B * s.Tq; n++)
            alone = alone && (n % s.Tq == 0 || !sees(s, n / s.Tq, n % s.Tq, n % s.Tq - 1));
        if (alone) eq = ek = 0;
        CHECK(eq <= gradient_bound && ek <= gradient_bound && ev <= gradient_bound,
              "%s: dq, dk, dv are off by %g, %g, %g", name, eq, ek, ev);
        worst_backward[half] = fmax(worst_backward[half], fmax(eq, fmax(ek, ev)));
        free(first);
        array_free(&dq);
        array_free(&dk);
        array_free(&dv);
    }
    array_free(&q);
    array_free(&k);
    array_free(&v);
    array_free(&dout);
    array_free(&out);
    array_free(&again);
    array_free(&lse);
    CUDA_CHECK(cudaFree(starts));
    free(y);
    free(l);
    free(p);
    free(ydq);
    free(ydk);
    free(ydv);
}

// A NaN in one query reaches that row of out and of dq, and dk, dv of the keys it sees; no other row of out or dq.
template <typename Real> static void test_nan(int HS) {
    int n = 40, bad = 21, ld = 2 * HS, NH = 2;
    random_state = 5;
    Array<Real> q = array_new<Real>((size_t)n * ld, true, 1), k = array_new<Real>((size_t)n * ld, true, 1),
                v = array_new<Real>((size_t)n * ld, true, 1), dout = array_new<Real>((size_t)n * ld, true, 1);
    Array<Real> out = array_new<Real>((size_t)n * ld, false, 0), dq = array_new<Real>((size_t)n * ld, false, 0),
                dk = array_new<Real>((size_t)n * ld, false, 0), dv = array_new<Real>((size_t)n * ld, false, 0);
    Array<float> lse = array_new<float>((size_t)n * NH, false, 0);
    array_write(&q, (size_t)bad * ld + 3, NAN); // head 0
    Shape s = {1, n, n, NH, NH, HS, 1 / sqrt((double)HS), 0, NULL};
    Heads<Real> in = {{q.device, ld}, {k.device, ld}, {v.device, ld}},
                d = {{dq.device, ld}, {dk.device, ld}, {dv.device, ld}};
    attention_forward<Real>(out.device, lse.device, in, s, &gpu);
    attention_backward<Real>(d, dout.device, out.device, lse.device, in, s, &gpu);
    CUDA_CHECK(cudaDeviceSynchronize());
    array_read(&out, "out");
    array_read(&dq, "dq");
    array_read(&dk, "dk");
    array_read(&dv, "dv");
    for (int t = 0; t < n; t++)
        for (int d = 0; d < ld; d++) {
            size_t i = (size_t)t * ld + d;
            bool row = t == bad && d < HS, keys = t <= bad && d < HS;
            CHECK(isnan(out.host[i]) == row && isnan(dq.host[i]) == row, "HS=%d: out, dq are %g, %g at (%d, %d)", HS,
                  out.host[i], dq.host[i], t, d);
            CHECK(!keys || (isnan(dk.host[i]) && isnan(dv.host[i])),
                  "HS=%d: a NaN is lost: dk, dv are %g, %g at (%d, %d)", HS, dk.host[i], dv.host[i], t, d);
            CHECK(d < HS || !(isnan(dk.host[i]) || isnan(dv.host[i])), "HS=%d: a NaN of another head at (%d, %d)", HS,
                  t, d);
        }
    Array<Real> *all[] = {&q, &k, &v, &dout, &out, &dq, &dk, &dv};
    for (int i = 0; i < 8; i++) array_free(all[i]);
    array_free(&lse);
}

// Both ways of heads that have two come to the same numbers, forward and backward; the choice between them sees where
// they do not.
static void test_choice(int HS) {
    typedef __nv_bfloat16 Real;
    enum { T = 37, NH = 2 };
    int ld = NH * HS;
    size_t n = (size_t)T * ld;
    random_state = 9;
    Array<Real> q = array_new<Real>(n, true, 1), k = array_new<Real>(n, true, 1), v = array_new<Real>(n, true, 1),
                dout = array_new<Real>(n, true, 1), out = array_new<Real>(2 * n, false, 0);
    Array<float> lse = array_new<float>(2 * T * NH, false, 0);
    Shape s = {1, T, T, NH, NH, HS, 1 / sqrt((double)HS), 0, NULL};
    Heads<Real> in = {{q.device, ld}, {k.device, ld}, {v.device, ld}};
    Array<Real> d[2][3];
    for (int way = ATTENTION_TENSOR; way <= ATTENTION_PLAIN; way++) {
        for (Array<Real> &x : d[way]) x = array_new<Real>(n, false, 0);
        gpu.attention_way = way;
        attention_forward<Real>(out.device, lse.device, in, s, &gpu);
        attention_backward<Real>({{d[way][0].device, ld}, {d[way][1].device, ld}, {d[way][2].device, ld}}, dout.device,
                                 out.device, lse.device, in, s, &gpu);
        for (Array<Real> &x : d[way]) array_read(&x, "gradient");
    }
    for (int i = 0; i < 3; i++) {
        double *wanted = (double *)mem_alloc(sizeof(double) * n);
        for (size_t j = 0; j < n; j++) wanted[j] = d[1][i].host[j];
        double e = relative_error(d[0][i].host, ld, wanted, T, ld, true);
        CHECK(e > 0 && e <= 1e-2, "HS=%d: gradient %d of one way is %g off the other's", HS, i, e); // twice a bound
        free(wanted);
    }
    attention_choose<Real>(out.device, lse.device, in, s, 2 * T, &gpu);
    CHECK(gpu.attention_way == ATTENTION_TENSOR || gpu.attention_way == ATTENTION_PLAIN, "HS=%d: way %d", HS,
          gpu.attention_way);
    array_read(&out, "out");
    double size = 0;
    for (size_t j = 0; j < n; j++) size += out.host[j] * out.host[j];
    CHECK(size > 0, "HS=%d: nothing was computed", HS);
    array_write(&v, (size_t)ld + 1, NAN);
    attention_choose<Real>(out.device, lse.device, in, s, 2 * T, &gpu);
    CHECK(gpu.attention_way == ATTENTION_DIFFERS, "HS=%d: numbers that are none are taken for the same", HS);
    attention_choose<Real>(out.device, lse.device, in, s, 3, &gpu);
    CHECK(gpu.attention_way == ATTENTION_TENSOR, "HS=%d: one row is nothing to compare", HS);
    for (int way = 0; way < 2; way++)
        for (Array<Real> &x : d[way]) array_free(&x);
    Array<Real> *all[] = {&q, &k, &v, &dout, &out};
    for (Array<Real> *x : all) array_free(x);
    array_free(&lse);
}

#ifdef CUDA_EMU // there it only has to run
enum { BENCH_LENGTH = 8, BENCH_ROWS = 32, BENCH_WIDTH = 512, BENCH_ROUNDS = 1, BENCH_CALLS = 1 };
#else
enum { BENCH_LENGTH = 1024, BENCH_ROWS = 32768, BENCH_WIDTH = 2048, BENCH_ROUNDS = 5, BENCH_CALLS = 10 };
#endif

// Milliseconds of one call: the fastest round.
template <typename F> static double milliseconds(F call) {
    cudaEvent_t start, end;
    CUDA_CHECK(cudaEventCreate(&start));
    CUDA_CHECK(cudaEventCreate(&end));
    double best = INFINITY;
    for (int round = 0; round <= BENCH_ROUNDS; round++) { // the first one warms up
        float ms = 0;
        CUDA_CHECK(cudaEventRecord(start, gpu.stream));
        for (int i = 0; i < BENCH_CALLS; i++) call();
        CUDA_CHECK(cudaEventRecord(end, gpu.stream));
        CUDA_CHECK(cudaEventSynchronize(end));
        CUDA_CHECK(cudaEventElapsedTime(&ms, start, end));
        if (round > 0) best = fmin(best, (double)ms / BENCH_CALLS);
    }
    CUDA_CHECK(cudaEventDestroy(start));
    CUDA_CHECK(cudaEventDestroy(end));
    return best;
}

// n random numbers on the device, a million of them repeated: the host would take longer than the bench.
static __nv_bfloat16 *bench_numbers(size_t n) {
    size_t block = n < (1 << 20) ? n : 1 << 20;
    Array<__nv_bfloat16> some = array_new<__nv_bfloat16>(block, true, 1);
    __nv_bfloat16 *all = NULL;
    CUDA_CHECK(cudaMalloc((void **)&all, sizeof *all * n));
    for (size_t i = 0; i < n; i += block)
        CUDA_CHECK(
            cudaMemcpy(all + i, some.device, sizeof *all * (n - i < block ? n - i : block), cudaMemcpyDeviceToDevice));
    array_free(&some);
    return all;
}

static void bench(void) {
    typedef __nv_bfloat16 Real;
    Limits limits = limits_of(device_peak_flops(&gpu), 0, 0, 0);
    size_t rows = BENCH_ROWS, most = rows * 3 * BENCH_WIDTH;
    Real *qkv = bench_numbers(most), *dqkv = bench_numbers(most), *out = bench_numbers(rows * BENCH_WIDTH),
         *dout = bench_numbers(rows * BENCH_WIDTH);
    float *lse = NULL;
    CUDA_CHECK(cudaMalloc((void **)&lse, sizeof(float) * rows * BENCH_WIDTH / 64));
    printf("| HS | NH | NKV | B | T | forward ms | predicted | TFLOP/s | backward ms | predicted | TFLOP/s "
           "|\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < 12; i++) {
        int HS = i < 6 ? 64 : 128, t = BENCH_LENGTH << i % 6 / 2, B = BENCH_ROWS / t, NH = BENCH_WIDTH / HS,
            NKV = i % 2 ? NH / 4 : NH, ld = (NH + 2 * NKV) * HS;
        Shape s = {B, t, t, NH, NKV, HS, 1 / sqrt((double)HS), 0, NULL};
        Rows<Real> from = {qkv, ld}, to = {dqkv, ld};
        Heads<Real> in = {from, from.from(0, NH * HS), from.from(0, (NH + NKV) * HS)},
                    d = {to, to.from(0, NH * HS), to.from(0, (NH + NKV) * HS)};
        double forward = milliseconds([&]() { attention_forward<Real>(out, lse, in, s, &gpu); });
        double backward = milliseconds([&]() { attention_backward<Real>(d, dout, out, lse, in, s, &gpu); });
        double product = (double)rows * NH * (t + 1) * HS; // FLOP of one of them, half of T x T
        char predicted[2][16] = {"-", "-"};                // where peak.h does not know the device
        for (int k = 0; k < 2 && limits.attention > 0; k++)
            snprintf(predicted[k], sizeof predicted[k], "%.3f", 1e3 * (k ? 5 : 2) * product / limits.attention);
        printf("| %d | %d | %d | %d | %d | %.3f | %s | %.0f | %.3f | %s | %.0f |\n", HS, NH, NKV, B, t, forward,
               predicted[0], 2 * product / forward / 1e9, backward, predicted[1], 5 * product / backward / 1e9);
    }
    for (void *p : {(void *)qkv, (void *)dqkv, (void *)out, (void *)dout, (void *)lse}) CUDA_CHECK(cudaFree(p));
}

int main(int argc, char **argv) {
    Dist alone;
    Error err;
    dist_single(&alone);
    if (!device_open(&gpu, &alone, &err)) fail("%s", err.text);
    if (argc > 1 && strcmp(argv[1], "bench") == 0) return bench(), 0;
    static const int shapes[][8] = {
        // B, Tq, Tkv, NH, NKV, HS, window, rule of cut()
        {1, 1, 1, 1, 1, 64, 0, 0},
        {2, 17, 17, 2, 2, 64, 0, 0},
        {1, 64, 64, 2, 1, 64, 0, 0},
        {1, 65, 65, 2, 2, 64, 0, 0},
        {1, 128, 128, 1, 1, 64, 0, 0},
        {2, 193, 193, 4, 2, 64, 0, 0},
        {1, 300, 300, 1, 1, 64, 0, 0},
        {1, 5, 90, 2, 1, 64, 0, 0},
        {1, 130, 259, 1, 1, 64, 0, 0},
        {3, 1, 77, 4, 2, 64, 0, 0},
        {1, 1, 700, 2, 1, 64, 0, 0},
        {5, 140, 140, 2, 1, 64, 0, 0},
        {1, 33, 33, 2, 2, 128, 0, 0},
        {1, 129, 129, 2, 1, 128, 0, 0},
        {1, 200, 200, 2, 2, 128, 0, 0},
        {2, 40, 105, 2, 1, 128, 0, 0},
        {2, 1, 200, 2, 1, 128, 0, 0},
        {2, 37, 37, 4, 2, 16, 0, 0},
        {1, 70, 70, 3, 1, 80, 0, 0},
        {1, 1, 50, 2, 2, 16, 0, 0},
        {1, 33, 33, 1, 1, 256, 0, 0},
        {2, 9, 60, 2, 2, 40, 0, 0},
        {2, 37, 37, 2, 1, 40, 0, 0},
        // windows: 1, within a tile, a tile, over tiles, longer than all; behind a cache
        {1, 70, 70, 2, 1, 64, 1, 0},
        {1, 199, 199, 2, 1, 64, 20, 0},
        {1, 260, 260, 1, 1, 64, 64, 0},
        {1, 150, 150, 1, 1, 128, 65, 0},
        {1, 33, 33, 1, 1, 16, 7, 0},
        {1, 140, 140, 2, 2, 64, 200, 0},
        {2, 1, 333, 2, 1, 64, 40, 0},
        {1, 1, 50, 2, 2, 16, 9, 0},
        {1, 70, 300, 2, 1, 64, 90, 0},
        // documents, and both
        {2, 199, 199, 2, 1, 64, 0, 1},
        {1, 70, 70, 2, 1, 64, 0, 2},
        {2, 199, 199, 1, 1, 64, 0, 3},
        {2, 199, 199, 1, 1, 64, 0, 4},
        {5, 140, 140, 2, 1, 128, 0, 4},
        {2, 131, 131, 2, 2, 128, 50, 1},
        {3, 37, 37, 4, 2, 16, 0, 1},
        {2, 45, 45, 2, 1, 80, 11, 1},
        {3, 1, 1, 2, 1, 64, 0, 2},
    };
    int only = argc > 1 ? atoi(argv[1]) : -1;
    for (int i = 0; i < (int)(sizeof shapes / sizeof shapes[0]); i++) {
        if (only >= 0 && i != only) continue;
        const int *n = shapes[i];
        int32_t *starts = cut(n[7], n[0], n[1]);
        Shape s = {n[0], n[1], n[2], n[3], n[4], n[5], 1 / sqrt((double)n[5]), n[6], starts};
        test_shape<__nv_bfloat16>(s, 1);
        if (s.Tq < 200) test_shape<float>(s, 1);
        free(starts);
    }
    if (only < 0) {
        Shape steep = {1,  150,   150, 2,   2,
                       64, 0.125, 0,   NULL}; // scores up to about 100: the maximum of a row moves by far more than 8
        test_shape<__nv_bfloat16>(steep, 5);
        static const int sizes[] = {16, 64, 128};
        for (int i = 0; i < 3; i++) {
            test_nan<__nv_bfloat16>(sizes[i]);
            test_nan<float>(sizes[i]);
        }
        for (int HS : {64, 128}) test_choice(HS);
    }
    printf("attention: largest relative errors bf16 out %.2g gradients %.2g, float out %.2g gradients %.2g; lse %.2g "
           "%.2g\n",
           worst_forward[1], worst_backward[1], worst_forward[0], worst_backward[0], worst_lse[1], worst_lse[0]);
    printf("%d passed, %d failed\n", checks_passed, checks_failed);
    gpu.scratch_bytes = DEVICE_SCRATCH_BYTES;
    device_close(&gpu);
    return checks_failed > 0;
}
