/*
bench_cpu.c: how near the CPU kernels come to what the machine can do.

Each kernel is timed on the shapes of real models, in turns with the limit that binds it: multiply-adds
(or bf16 dot products) on registers alone, or memory that is read, copied, or updated in place. Figures
are medians and shares of the limit's median, so that what disturbs the machine for a while disturbs both.
What a table shows for people, a line of JSON says for programs (lines that start with '{').

    bench_cpu [--threads=N] [--only=TEXT] [--seconds=S]
        --only      sections whose name contains TEXT: machine, gemm fp32, gemm bf16, gemv, attention, pointwise,
                    optimizer
        --seconds   time for each measurement (default 0.3)

In the matmuls the shapes take turns, too, each through the weights of 12 layers, so that weights come
from memory where they would in training.
*/
#include "../../llmc/cpu/attention.h"
#include "../../llmc/cpu/embedding.h"
#include "../../llmc/cpu/gemm.h"
#include "../../llmc/cpu/loss.h"
#include "../../llmc/cpu/mlp.h"
#include "../../llmc/cpu/norm.h"
#include "../../llmc/cpu/optimizer.h"
#include "../../llmc/cpu/peak.h"
#include "../../llmc/cpu/unit.h"

// What binds a kernel, and what its figure is a share of.
typedef enum { LIMIT_FMA, LIMIT_DOTS, LIMIT_TILES, LIMIT_READ, LIMIT_COPY, LIMIT_UPDATE, LIMITS } Limit;
static const char *const limit_names[LIMITS] = {"FMA", "bf16 dot", "bf16 tiles", "read", "copy", "update"};

enum { MEMORY_BYTES = 256 << 20 }; // far beyond any L3

typedef struct {
    Cpu cpu;
    const char *only;
    double seconds;
    real *from, *to; // (MEMORY_BYTES) each
} Bench;

// ---------------------------------------------------------------- timing

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef void (*Work)(void *context, int turn);

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    return values[n / 2];
}

static bool wanted(const Bench *bench, const char *section) { return !bench->only || strstr(section, bench->only); }

// One result: `amount` FLOP or bytes in `seconds`, and the limit in the same unit.
static void report(const char *section, const char *name, double seconds, double amount, double limit, bool flops) {
    double rate = amount / seconds;
    printf("  %-46s %10.3f ms %9.1f of %6.1f %-8s %5.1f%%\n", name, seconds * 1e3, rate / 1e9, limit / 1e9,
           flops ? "GFLOP/s" : "GB/s", 100 * rate / limit);
    printf("{\"section\": \"%s\", \"name\": \"%s\", \"ms\": %.5f, \"rate\": %.5g, \"limit\": %.5g, \"share\": %.4f}\n",
           section, name, seconds * 1e3, rate, limit, rate / limit);
}

// ---------------------------------------------------------------- the machine

// bytes/s, counting what the program reads and what it writes. Copying also makes the caches read what
// will be overwritten, which is not counted; updating in place does not, and is AdamW's limit.
static double memory_rate(const Bench *bench, Limit limit, int threads) {
    const int64_t n = MEMORY_BYTES / (int64_t)sizeof(real);
    const real *from = bench->from;
    real *to = bench->to;
    volatile real sink;
    double start = clock_seconds();
    if (limit == LIMIT_READ) {
        real total = 0;
        OMP(parallel for num_threads(threads) schedule(static, 1) reduction(+ : total))
        for (int part = 0; part < threads; part++) {
            int64_t last = cpu_chunk(n, 4096, threads, part + 1);
            vreal s[4] = {{0}, {0}, {0}, {0}};
            for (int64_t i = cpu_chunk(n, 4096, threads, part); i < last; i += 4 * VL)
                for (int j = 0; j < 4; j++) s[j] += vload(from + i + j * VL);
            total += vsum(s[0] + s[1] + s[2] + s[3]);
        }
        sink = total;
        (void)sink;
    } else if (limit == LIMIT_COPY) {
        OMP(parallel for num_threads(threads) schedule(static))
        for (int64_t i = 0; i < n; i += VL) vstore(to + i, vload(from + i));
    } else {
        OMP(parallel for num_threads(threads) schedule(static))
        for (int64_t i = 0; i < n; i += VL) vstore(to + i, vload(to + i) * (real)0.5);
    }
    return (limit == LIMIT_READ ? 1 : 2) * (double)MEMORY_BYTES / (clock_seconds() - start);
}

static double limit_rate(const Bench *bench, Limit limit, int threads) {
    if (limit > LIMIT_TILES) return memory_rate(bench, limit, threads);
    static const Kernels kernels[] = {KERNELS_VECTOR, KERNELS_VECTOR, KERNELS_MATRIX};
    Cpu cpu;
    Error err;
    bool there = cpu_open(&cpu, threads, &err) && cpu_choose_unit(&cpu, limit != LIMIT_FMA, kernels[limit], &err);
    return there ? cpu_peak_flops(&cpu) : 0;
}

static void bench_machine(Bench *bench) {
    int most = bench->cpu.threads;
    for (int threads = 1;; threads = threads * 2 < most ? threads * 2 : most) {
        printf("  %3d thread%s", threads, threads == 1 ? ": " : "s:");
        double rates[LIMITS];
        for (int limit = 0; limit < LIMITS; limit++) {
            double trials[5];
            for (int i = 0; i < 5; i++) trials[i] = limit_rate(bench, (Limit)limit, threads);
            rates[limit] = median(trials, 5);
            if (rates[limit] > 0)
                printf(" %s %.1f %s%s", limit_names[limit], rates[limit] / 1e9,
                       limit <= LIMIT_TILES ? "GFLOP/s" : "GB/s", limit + 1 < LIMITS ? "," : "\n");
        }
        printf("{\"section\": \"machine\", \"threads\": %d, \"vector_bytes\": %d, \"real_bytes\": %d, \"fma_flops\": "
               "%.5g, \"bf16_flops\": %.5g, \"tile_flops\": %.5g, \"read_bytes\": %.5g, \"copy_bytes\": %.5g, "
               "\"update_bytes\": %.5g}\n",
               threads, VECTOR_BYTES, (int)sizeof(real), rates[LIMIT_FMA], rates[LIMIT_DOTS], rates[LIMIT_TILES],
               rates[LIMIT_READ], rates[LIMIT_COPY], rates[LIMIT_UPDATE]);
        if (threads == most) break;
    }
}

typedef void (*Work)(void *context, int turn);

// Times work(context, turn) and its limit in turns, and reports medians; at least 5 turns after one that
// does not count. amount: FLOP or bytes of one run. Returns the median seconds.
static double measure(Bench *bench, const char *section, const char *name, Work work, void *context, double amount,
                      Limit limit) {
    enum { MOST = 200 };
    double times[MOST], limits[MOST], spent = 0;
    int n = 0;
    work(context, 0);
    while (n < MOST && (n < 5 || spent < bench->seconds)) {
        limits[n] = limit_rate(bench, limit, bench->cpu.threads);
        double start = clock_seconds();
        work(context, n + 1);
        times[n] = clock_seconds() - start;
        spent += times[n++];
    }
    double seconds = median(times, n);
    report(section, name, seconds, amount, median(limits, n), limit <= LIMIT_TILES);
    return seconds;
}

// ---------------------------------------------------------------- GEMM

typedef struct {
    const char *name;
    int C, OC, layers; // layers: how many of it one forward pass of gpt2 124M has
} Shape;
static const Shape shapes[] = {{"qkv 768->2304", 768, 2304, 12},
                               {"attention out 768->768", 768, 768, 12},
                               {"fc 768->3072", 768, 3072, 12},
                               {"fc out 3072->768", 3072, 768, 12},
                               {"head 768->50304", 768, 50304, 1}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct {
    const Shape *shape;
    Cpu *cpu;
    real *w, *dw, *db, *x, *y;
    const uint16_t *half; // instead of w, or NULL
    int N, form;
} Linear;

static void linear_work(void *context, int turn) {
    Linear *l = (Linear *)context;
    size_t at = (size_t)(turn % l->shape->layers) * (size_t)l->shape->C * (size_t)l->shape->OC;
    LinearShape s = {l->N, l->shape->C, l->shape->OC};
    Matrix w = {l->half ? NULL : l->w + at, l->half ? l->half + at : NULL, NULL};
    if (l->form == 0) linear_forward(l->y, l->x, w, l->db, NULL, s, l->cpu);
    else if (l->form == 1) linear_backward_input(l->x, l->y, w, s, l->cpu);
    else linear_backward_weight(l->dw + at, l->shape->layers > 1 ? l->db : NULL, l->y, l->x, s, l->cpu);
}

static void fill(real *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = (real)((double)((i * 2654435761u) % 1000) / 1000 - 0.5);
}

enum { ROUNDS = 7 }; // odd; turns that all shapes take, so that a disturbance does not fall on one of them alone

static void bench_gemm(Bench *bench, bool bf16) {
    static const char *forms[3] = {"forward", "backward input", "backward weight"};
    Cpu cpu;
    Error err;
    if (!wanted(bench, bf16 ? "gemm bf16" : "gemm fp32")) return;
    if (!cpu_open(&cpu, bench->cpu.threads, &err) || !cpu_choose_unit(&cpu, bf16, KERNELS_AUTO, &err)) {
        printf("gemm bf16: %s\n", err.text);
        return;
    }
    size_t largest = 0, rows = 4096;
    for (int i = 0; i < SHAPES; i++) {
        size_t n = (size_t)shapes[i].C * (size_t)shapes[i].OC * (size_t)shapes[i].layers;
        if (n > largest) largest = n;
    }
    Linear l;
    l.cpu = &cpu, l.half = NULL;
    l.w = (real *)mem_alloc(largest * sizeof(real)), l.dw = (real *)mem_alloc(largest * sizeof(real)),
    l.db = (real *)mem_alloc(50304 * sizeof(real));
    l.x = (real *)mem_alloc(rows * 3072 * sizeof(real)), l.y = (real *)mem_alloc(1024 * (size_t)50304 * sizeof(real));
    fill(l.w, largest), fill(l.x, rows * 3072), fill(l.y, 1024 * (size_t)50304);
    static const int tokens[3] = {256, 1024, 4096};
    for (int t = 0; t < 3; t++) {
        double times[SHAPES][3][ROUNDS], limits[ROUNDS];
        l.N = tokens[t];
        for (int round = -1; round < ROUNDS; round++) { // the first does not count
            double rate = cpu_peak_flops(&cpu);
            if (round >= 0) limits[round] = rate;
            for (int i = 0; i < SHAPES; i++)
                for (l.form = 0; l.form < 3; l.form++) {
                    l.shape = &shapes[i];
                    if (l.N > 1024 && l.shape->layers == 1) continue; // its rows come in chunks
                    double start = clock_seconds();
                    for (int layer = 0; layer < l.shape->layers; layer++) linear_work(&l, layer);
                    if (round >= 0) times[i][l.form][round] = (clock_seconds() - start) / l.shape->layers;
                }
        }
        double all_seconds = 0, all_flops = 0, limit = median(limits, ROUNDS);
        printf("%s, %d tokens, %d threads\n", bf16 ? "gemm bf16" : "gemm fp32", l.N, cpu.threads);
        for (int i = 0; i < SHAPES; i++)
            for (int form = 0; form < 3; form++) {
                if (l.N > 1024 && shapes[i].layers == 1) continue;
                char name[100];
                double seconds = median(times[i][form], ROUNDS), flops = 2.0 * l.N * shapes[i].C * shapes[i].OC;
                snprintf(name, sizeof name, "%s, %s, N=%d", shapes[i].name, forms[form], l.N);
                report(bf16 ? "gemm bf16" : "gemm fp32", name, seconds, flops, limit, true);
                all_seconds += seconds * shapes[i].layers;
                all_flops += flops * shapes[i].layers;
            }
        char name[100];
        snprintf(name, sizeof name, "all matmuls of a step, N=%d", l.N);
        report(bf16 ? "gemm bf16" : "gemm fp32", name, all_seconds, all_flops, limit, true);
    }
    free(l.w), free(l.dw), free(l.db), free(l.x), free(l.y);
    cpu_close(&cpu);
}

// ---------------------------------------------------------------- generation: one row

// One shape in all its layers, or (shape NULL) all shapes: what one token reads.
static void gemv_work(void *context, int turn) {
    Linear l = *(Linear *)context;
    for (int i = 0; i < SHAPES; i++) {
        if (l.shape && l.shape != &shapes[i]) continue;
        Linear one = l;
        one.shape = &shapes[i];
        for (int layer = 0; layer < shapes[i].layers; layer++) linear_work(&one, layer);
    }
    (void)turn;
}

static void bench_gemv(Bench *bench) {
    if (!wanted(bench, "gemv")) return;
    Linear l;
    l.cpu = &bench->cpu;
    l.form = 0, l.half = NULL;
    size_t largest = (size_t)768 * 50304;
    l.w = (real *)mem_alloc(largest * sizeof(real)), l.x = (real *)mem_alloc(4 * 3072 * sizeof(real)),
    l.y = (real *)mem_alloc(4 * 50304 * sizeof(real)), l.db = (real *)mem_alloc(50304 * sizeof(real));
    fill(l.w, largest), fill(l.x, 4 * 3072);
    uint16_t *half = (uint16_t *)mem_alloc(largest * sizeof *half); // zeros: the values do not matter
    double weights = 0;
    for (int i = 0; i < SHAPES; i++) weights += (double)shapes[i].layers * shapes[i].C * shapes[i].OC;
    printf("linear layers on few rows\n");
    for (int turn = 0; turn < 4; turn++) {
        bool bf16 = turn % 2;
        double size = bf16 ? sizeof *half : sizeof(real);
        const char *type = bf16 ? ", bf16 weights" : "";
        char name[100];
        l.N = turn < 2 ? 1 : 4, l.half = bf16 ? half : NULL;
        for (int i = 0; i < SHAPES; i++) {
            l.shape = &shapes[i];
            snprintf(name, sizeof name, "%s, all layers, N=%d%s", l.shape->name, l.N, type);
            measure(bench, "gemv", name, gemv_work, &l, (double)l.shape->layers * l.shape->C * l.shape->OC * size,
                    LIMIT_READ);
        }
        l.shape = NULL;
        snprintf(name, sizeof name, "all linear layers of 124M, N=%d%s", l.N, type);
        measure(bench, "gemv", name, gemv_work, &l, weights * size, LIMIT_READ);
    }
    free(half);
    free(l.w), free(l.x), free(l.y), free(l.db);
}

// ---------------------------------------------------------------- attention

typedef struct {
    Cpu *cpu;
    real *qkv, *dqkv, *out, *dout, *lse;
    int B, Tq, T, NH, HS;
} Attention;

static Heads bench_heads(real *qkv, int C) {
    Heads h = {{qkv, 3 * C}, {qkv + C, 3 * C}, {qkv + 2 * C, 3 * C}};
    return h;
}
static void attention_forward_work(void *context, int turn) {
    Attention *a = (Attention *)context;
    AttentionShape shape = {a->B, a->Tq, a->T, a->NH, a->NH, a->HS, 1 / sqrt((double)a->HS), 0, NULL};
    attention_forward(a->out, a->lse, bench_heads(a->qkv, a->NH * a->HS), shape, a->cpu);
    (void)turn;
}
static void attention_backward_work(void *context, int turn) {
    Attention *a = (Attention *)context;
    int C = a->NH * a->HS;
    AttentionShape shape = {a->B, a->T, a->T, a->NH, a->NH, a->HS, 1 / sqrt((double)a->HS), 0, NULL};
    attention_backward(bench_heads(a->dqkv, C), a->dout, a->out, a->lse, bench_heads(a->qkv, C), shape, a->cpu);
    (void)turn;
}

// FLOPs are counted causally: half of T x T, 2 products forward, 5 backward.
static void bench_attention(Bench *bench) {
    if (!wanted(bench, "attention")) return;
    static const int cases[][4] = {{4, 256, 12, 64}, {4, 1024, 12, 64}, {1, 4096, 12, 64}, {1, 2048, 16, 128}};
    for (int i = 0; i < 4; i++) {
        Attention a;
        a.cpu = &bench->cpu;
        a.B = cases[i][0], a.T = a.Tq = cases[i][1], a.NH = cases[i][2], a.HS = cases[i][3];
        size_t n = (size_t)a.B * (size_t)a.T * (size_t)a.NH * (size_t)a.HS;
        a.qkv = (real *)mem_alloc(3 * n * sizeof(real)), a.dqkv = (real *)mem_alloc(3 * n * sizeof(real)),
        a.out = (real *)mem_alloc(n * sizeof(real)), a.dout = (real *)mem_alloc(n * sizeof(real)),
        a.lse = (real *)mem_alloc(n * sizeof(real));
        fill(a.qkv, 3 * n), fill(a.dout, n);
        double flops = 2.0 * (double)n * (a.T + 1);
        if (i == 0) printf("attention, causal FLOPs, %d threads\n", a.cpu->threads);
        char name[100];
        snprintf(name, sizeof name, "forward, B=%d T=%d NH=%d HS=%d", a.B, a.T, a.NH, a.HS);
        measure(bench, "attention", name, attention_forward_work, &a, flops, LIMIT_FMA);
        snprintf(name, sizeof name, "backward, B=%d T=%d NH=%d HS=%d", a.B, a.T, a.NH, a.HS);
        measure(bench, "attention", name, attention_backward_work, &a, 2.5 * flops, LIMIT_FMA);
        if (i == 1) {
            a.Tq = 1;
            measure(bench, "attention", "forward, one query, B=4 T=1024 NH=12 HS=64", attention_forward_work, &a,
                    2.0 * (double)n * sizeof(real), LIMIT_READ);
        }
        free(a.qkv), free(a.dqkv), free(a.out), free(a.dout), free(a.lse);
    }
}

// ---------------------------------------------------------------- what memory limits

typedef struct {
    Cpu *cpu;
    real *a, *b, *c, *d, *e;
    int32_t *targets;
    int N, C;
} Streams;

static void gelu_forward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    mlp_forward(s->a, s->b, s->N, s->C, ACTIVATION_GELU_TANH, false, s->cpu);
    (void)turn;
}
static void gelu_backward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    mlp_backward(s->a, s->a, s->b, s->N, s->C, ACTIVATION_GELU_TANH, false, s->cpu);
    (void)turn;
}
static void swiglu_forward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    mlp_forward(s->a, s->b, s->N, s->C / 2, ACTIVATION_SILU, true, s->cpu);
    (void)turn;
}
static void swiglu_backward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    mlp_backward(s->b, s->a, s->c, s->N, s->C / 2, ACTIVATION_SILU, true, s->cpu);
    (void)turn;
}
static void norm_forward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    Norm norm = {s->c, s->c, s->d, s->e, s->N, s->C, (real)1e-5};
    norm_forward(s->a, s->b, norm, s->cpu);
    (void)turn;
}
static void norm_backward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    Norm norm = {s->c, s->c, s->d, s->e, s->N, s->C, (real)1e-5};
    norm_backward(s->a, s->d + 65536, s->e + 65536, s->b, s->c, norm, s->cpu);
    (void)turn;
}
static void loss_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    cross_entropy(s->d, s->a, s->targets, NULL, (real)0.001, s->N, s->C, s->cpu);
    (void)turn;
}
static void embedding_forward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    embedding_forward(s->a, (TokenRows){s->targets, NULL, 0, 1, s->N}, matrix_of(s->b), matrix_of(s->c), s->C, s->cpu);
    (void)turn;
}
static void embedding_backward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    embedding_backward(s->b, s->c, s->a, (TokenRows){s->targets, NULL, 0, 1, s->N}, s->C, s->cpu);
    (void)turn;
}
static void adamw_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    GroupRule group = {1e-3, 0.9, 0.95, 1e-8, 0.1};
    UpdateRule rule = update_rule(turn + 1, group, 0);
    ParamRun run = {s->a, s->d, {s->b, s->c}, (size_t)s->N * (size_t)s->C};
    adamw(run, &rule, GROUP_MATRIX, 0.5, s->cpu);
}
static void squares_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    s->e[0] = (real)sum_of_squares(s->d, (size_t)s->N * (size_t)s->C, s->cpu);
    (void)turn;
}

static void bench_streams(Bench *bench) {
    Streams s;
    s.cpu = &bench->cpu;
    size_t n = (size_t)48 << 20; // 192 MB each as float: far beyond any L3
    real **arrays[5] = {&s.a, &s.b, &s.c, &s.d, &s.e};
    for (int i = 0; i < 5; i++) {
        *arrays[i] = (real *)mem_alloc(n * sizeof(real));
        fill(*arrays[i], n);
    }
    for (size_t i = 0; i < n; i++) s.c[i] = s.c[i] * s.c[i];
    s.targets = (int32_t *)mem_alloc(sizeof(int32_t) * 65536);
    for (int i = 0; i < 65536; i++) s.targets[i] = (int32_t)((uint32_t)i * 2654435761u % 50257);
    double element = sizeof(real);
    if (wanted(bench, "pointwise")) {
        printf("pointwise, bytes that must move (read once, written once)\n");
        s.N = 4096, s.C = 3072;
        double size = (double)s.N * s.C * element;
        measure(bench, "pointwise", "gelu_forward 4096 x 3072", gelu_forward_work, &s, 2 * size, LIMIT_COPY);
        measure(bench, "pointwise", "gelu_backward 4096 x 3072", gelu_backward_work, &s, 3 * size, LIMIT_COPY);
        measure(bench, "pointwise", "swiglu_forward 4096 x 3072", swiglu_forward_work, &s, 1.5 * size, LIMIT_COPY);
        measure(bench, "pointwise", "swiglu_backward 4096 x 3072", swiglu_backward_work, &s, 2.5 * size, LIMIT_COPY);
        s.N = 16384, s.C = 768;
        measure(bench, "pointwise", "norm_forward 16384 x 768", norm_forward_work, &s, 2 * size, LIMIT_COPY);
        measure(bench, "pointwise", "norm_backward 16384 x 768", norm_backward_work, &s, 4 * size, LIMIT_COPY);
        measure(bench, "pointwise", "embedding_forward 16384 x 768", embedding_forward_work, &s, 3 * size, LIMIT_COPY);
        measure(bench, "pointwise", "embedding_backward 16384 x 768", embedding_backward_work, &s, 6 * size,
                LIMIT_COPY);
        s.N = 256, s.C = 50257;
        measure(bench, "pointwise", "cross_entropy 256 x 50257", loss_work, &s, 2.0 * s.N * s.C * element, LIMIT_COPY);
    }
    if (wanted(bench, "optimizer")) {
        s.N = 1024, s.C = 40 << 10; // 42 M parameters
        double size = (double)s.N * s.C * element;
        printf("optimizer\n");
        measure(bench, "optimizer", "sum_of_squares, 42 M numbers", squares_work, &s, size, LIMIT_READ);
        measure(bench, "optimizer", "adamw, 42 M parameters", adamw_work, &s, 7 * size, LIMIT_UPDATE);
    }
    for (int i = 0; i < 5; i++) free(*arrays[i]);
    free(s.targets);
}

int main(int argc, char **argv) {
    const char *missing = cpu_missing_instructions();
    if (missing)
        fail("this program was built for a CPU with %s, which this machine lacks; build it with make ARCH=native here",
             missing);
    Bench bench;
    memset(&bench, 0, sizeof bench);
    bench.seconds = 0.3;
    int threads = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--threads=", 10) == 0) threads = int_or_fail(argv[i] + 10, "--threads");
        else if (strncmp(argv[i], "--only=", 7) == 0) bench.only = argv[i] + 7;
        else if (strncmp(argv[i], "--seconds=", 10) == 0) bench.seconds = atof(argv[i] + 10);
        else fail("unknown option %s; known are --threads=N, --only=TEXT, --seconds=S", argv[i]);
    }
    if (!(bench.seconds > 0 && bench.seconds < 1e4)) fail("--seconds=%g: expected a number above 0", bench.seconds);
    Error err;
    if (!cpu_open(&bench.cpu, threads, &err)) fail("%s", err.text);
    bench.from = (real *)mem_alloc(MEMORY_BYTES), bench.to = (real *)mem_alloc(MEMORY_BYTES);
    if (wanted(&bench, "machine")) bench_machine(&bench);
    bench_gemm(&bench, false);
    bench_gemm(&bench, true);
    bench_gemv(&bench);
    bench_attention(&bench);
    if (wanted(&bench, "pointwise") || wanted(&bench, "optimizer")) bench_streams(&bench);
    free(bench.from), free(bench.to);
    cpu_close(&bench.cpu);
    return 0;
}
