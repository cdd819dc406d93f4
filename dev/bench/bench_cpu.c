/*
bench_cpu.c: how near the CPU kernels come to what the machine can do.

First the machine is measured: FMA rate with registers only (float or double), rate of bf16 dot
products, memory bandwidth for reading and copying. Then each kernel is timed on the shapes of real
models, and its figure is given as a share of that limit. What a table shows for people, a line of
JSON says for programs (lines that start with '{').

    bench_cpu [--threads=N] [--only=TEXT] [--seconds=S]
        --only      sections whose name contains TEXT: machine gemm bf16 gemv attention pointwise optimizer
        --seconds   time for each measurement (default 0.3)

Times are medians; the matmuls take turns, all layers' weights of one shape, then the next shape, so that
weights come from memory where they would in training and a disturbance does not fall on one shape
alone. Their limit is measured in every round.
*/
#include "../../llmc/cpu/attention.h"
#include "../../llmc/cpu/embedding.h"
#include "../../llmc/cpu/gemm.h"
#include "../../llmc/cpu/loss.h"
#include "../../llmc/cpu/mlp.h"
#include "../../llmc/cpu/norm.h"
#include "../../llmc/cpu/optimizer.h"
#include "../../llmc/cpu/peak.h"

typedef struct {
    Cpu cpu;
    const char *only;
    double seconds;
    double fma, bf16, read, copy, update; // FLOP/s, FLOP/s, bytes/s, bytes/s, bytes/s
} Bench;

// ---------------------------------------------------------------- timing

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef void (*Work)(void *context, int turn);

// Median seconds of work(context, turn); at least 3 runs after one that does not count.
static double median_seconds(Bench *bench, Work work, void *context) {
    enum { MOST = 400 };
    double times[MOST], start = clock_seconds();
    int n = 0;
    work(context, 0);
    while (n < MOST && (n < 3 || clock_seconds() - start < bench->seconds)) {
        double t = clock_seconds();
        work(context, n + 1);
        times[n++] = clock_seconds() - t;
    }
    qsort(times, (size_t)n, sizeof *times, compare_doubles);
    return times[n / 2];
}

static bool wanted(const Bench *bench, const char *section) { return !bench->only || strstr(section, bench->only); }

// One result: `amount` per second (FLOP or bytes), its limit, the unit for the table.
static void report(const char *section, const char *name, double seconds, double amount, double limit, const char *unit, double scale) {
    double rate = amount / seconds;
    printf("  %-44s %10.3f ms %9.1f %-8s %5.1f%%\n", name, seconds * 1e3, rate / scale, unit, 100 * rate / limit);
    printf("{\"section\": \"%s\", \"name\": \"%s\", \"ms\": %.5f, \"rate\": %.5g, \"limit\": %.5g, \"share\": %.4f}\n", section, name, seconds * 1e3, rate, limit, rate / limit);
}

// ---------------------------------------------------------------- the machine

// FLOP/s; a best of several runs, see peak.h
static double fma_rate(int threads, bool bf16) {
    Cpu cpu;
    memset(&cpu, 0, sizeof cpu);
    cpu.threads = threads, cpu.bf16 = bf16;
    return cpu_peak_flops(&cpu);
}

// bytes/s, counting what the program reads and what it writes. Copying also makes the caches read what
// will be overwritten, which is not counted; updating in place does not, and is AdamW's limit.
static void memory_rates(int threads, double *read, double *copy, double *update) {
    size_t n = (size_t)256 << 20;
    real *a = (real *)cpu_alloc(n), *b = (real *)cpu_alloc(n);
    *read = *copy = *update = 0;
    real total = 0;
    for (int trial = 0; trial < 5; trial++) {
        double start = clock_seconds();
        OMP(parallel num_threads(threads) reduction(+ : total))
        {
            int64_t first = 0, last = (int64_t)(n / sizeof(real));
#ifdef _OPENMP
            first = cpu_chunk((int64_t)(n / sizeof(real)), 4096, omp_get_num_threads(), omp_get_thread_num());
            last = cpu_chunk((int64_t)(n / sizeof(real)), 4096, omp_get_num_threads(), omp_get_thread_num() + 1);
#endif
            vreal s[4] = {{0}, {0}, {0}, {0}};
            for (int64_t i = first; i < last; i += 4 * VL)
                for (int j = 0; j < 4; j++) s[j] += vload(a + i + j * VL);
            total += vsum(s[0] + s[1] + s[2] + s[3]);
        }
        double rate = (double)n / (clock_seconds() - start);
        if (rate > *read) *read = rate;
        start = clock_seconds();
        OMP(parallel for num_threads(threads) schedule(static))
        for (int64_t i = 0; i < (int64_t)(n / sizeof(real)); i += VL) vstore(b + i, vload(a + i));
        rate = 2 * (double)n / (clock_seconds() - start);
        if (rate > *copy) *copy = rate;
        start = clock_seconds();
        OMP(parallel for num_threads(threads) schedule(static))
        for (int64_t i = 0; i < (int64_t)(n / sizeof(real)); i += VL) vstore(b + i, vload(b + i) * (real)0.5);
        rate = 2 * (double)n / (clock_seconds() - start);
        if (rate > *update) *update = rate;
    }
    if (total != 0) printf("  (memory was not zero)\n");
    free(a);
    free(b);
    (void)threads;
}

static void measure_machine(Bench *bench, bool print) {
    int most = bench->cpu.threads;
    for (int threads = 1;; threads = threads * 2 < most ? threads * 2 : most) {
        double fma = fma_rate(threads, false), dot = 0, read, copy, update;
#ifdef BF16_PRODUCTS
        dot = fma_rate(threads, true);
#endif
        memory_rates(threads, &read, &copy, &update);
        if (print) {
            printf("  %3d threads: FMA %.1f GFLOP/s (%s, vectors of %d bytes), bf16 dot %.1f GFLOP/s, read %.1f GB/s, copy %.1f GB/s, update %.1f GB/s\n",
                   threads, fma / 1e9, sizeof(real) == 4 ? "float" : "double", VECTOR_BYTES, dot / 1e9, read / 1e9, copy / 1e9, update / 1e9);
            printf("{\"section\": \"machine\", \"threads\": %d, \"vector_bytes\": %d, \"fma_flops\": %.5g, \"bf16_flops\": %.5g, \"read_bytes\": %.5g, \"copy_bytes\": %.5g, \"update_bytes\": %.5g}\n",
                   threads, VECTOR_BYTES, fma, dot, read, copy, update);
        }
        bench->fma = fma, bench->bf16 = dot, bench->read = read, bench->copy = copy, bench->update = update;
        if (threads == most) break;
    }
}

// ---------------------------------------------------------------- GEMM

typedef struct {
    const char *name;
    int C, OC, layers; // layers: how many of it one forward pass of gpt2 124M has
} Shape;
static const Shape shapes[] = {{"qkv 768->2304", 768, 2304, 12}, {"attention out 768->768", 768, 768, 12}, {"fc 768->3072", 768, 3072, 12}, {"fc out 3072->768", 3072, 768, 12}, {"head 768->50304", 768, 50304, 1}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct {
    const Shape *shape;
    Cpu *cpu;
    real *w, *dw, *db, *x, *y;
    int N, form;
} Linear;

static void linear_work(void *context, int turn) {
    Linear *l = (Linear *)context;
    size_t at = (size_t)(turn % l->shape->layers) * (size_t)l->shape->C * (size_t)l->shape->OC;
    if (l->form == 0) linear_forward(l->y, l->x, l->w + at, l->db, NULL, l->N, l->shape->C, l->shape->OC, l->cpu);
    else if (l->form == 1) linear_backward_input(l->x, l->y, l->w + at, false, l->N, l->shape->C, l->shape->OC, l->cpu);
    else linear_backward_weight(l->dw + at, l->shape->layers > 1 ? l->db : NULL, l->y, l->x, l->N, l->shape->C, l->shape->OC, l->cpu);
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
    if (!cpu_open(&cpu, bench->cpu.threads, bf16, &err)) {
        printf("gemm bf16: %s\n", err.text);
        return;
    }
    size_t largest = 0, rows = 4096;
    for (int i = 0; i < SHAPES; i++) {
        size_t n = (size_t)shapes[i].C * (size_t)shapes[i].OC * (size_t)shapes[i].layers;
        if (n > largest) largest = n;
    }
    Linear l;
    l.cpu = &cpu;
    l.w = (real *)cpu_alloc(largest * sizeof(real)), l.dw = (real *)cpu_alloc(largest * sizeof(real)), l.db = (real *)mem_alloc(50304 * sizeof(real));
    l.x = (real *)cpu_alloc(rows * 3072 * sizeof(real)), l.y = (real *)cpu_alloc(1024 * (size_t)50304 * sizeof(real));
    fill(l.w, largest), fill(l.x, rows * 3072), fill(l.y, 1024 * (size_t)50304);
    static const int tokens[3] = {256, 1024, 4096};
    for (int t = 0; t < 3; t++) {
        double times[SHAPES][3][ROUNDS], limit = 0;
        l.N = tokens[t];
        for (int round = -1; round < ROUNDS; round++) { // the first does not count
            limit = fmax(limit, fma_rate(cpu.threads, bf16));
            for (int i = 0; i < SHAPES; i++)
                for (l.form = 0; l.form < 3; l.form++) {
                    l.shape = &shapes[i];
                    if (l.N > 1024 && l.shape->layers == 1) continue; // its rows come in chunks
                    double start = clock_seconds();
                    for (int layer = 0; layer < l.shape->layers; layer++) linear_work(&l, layer);
                    if (round >= 0) times[i][l.form][round] = (clock_seconds() - start) / l.shape->layers;
                }
        }
        double all_seconds = 0, all_flops = 0;
        printf("%s, %d tokens, %d threads; limit %.1f GFLOP/s\n", bf16 ? "gemm bf16" : "gemm fp32", l.N, cpu.threads, limit / 1e9);
        for (int i = 0; i < SHAPES; i++)
            for (int form = 0; form < 3; form++) {
                if (l.N > 1024 && shapes[i].layers == 1) continue;
                char name[100];
                qsort(times[i][form], ROUNDS, sizeof(double), compare_doubles);
                double seconds = times[i][form][ROUNDS / 2], flops = 2.0 * l.N * shapes[i].C * shapes[i].OC;
                snprintf(name, sizeof name, "%s, %s, N=%d", shapes[i].name, forms[form], l.N);
                report(bf16 ? "gemm bf16" : "gemm fp32", name, seconds, flops, limit, "GFLOP/s", 1e9);
                all_seconds += seconds * shapes[i].layers;
                all_flops += flops * shapes[i].layers;
            }
        char name[100];
        snprintf(name, sizeof name, "all matmuls of a step, N=%d", l.N);
        report(bf16 ? "gemm bf16" : "gemm fp32", name, all_seconds, all_flops, limit, "GFLOP/s", 1e9);
    }
    free(l.w), free(l.dw), free(l.db), free(l.x), free(l.y);
    cpu_close(&cpu);
}

// ---------------------------------------------------------------- generation: one row

static void bench_gemv(Bench *bench) {
    if (!wanted(bench, "gemv")) return;
    Linear l;
    l.cpu = &bench->cpu;
    l.form = 0;
    size_t largest = (size_t)768 * 50304;
    l.w = (real *)cpu_alloc(largest * sizeof(real)), l.x = (real *)mem_alloc(4 * 3072 * sizeof(real)), l.y = (real *)mem_alloc(4 * 50304 * sizeof(real)), l.db = (real *)mem_alloc(50304 * sizeof(real));
    fill(l.w, largest), fill(l.x, 4 * 3072);
    printf("linear layers on few rows; limit %.1f GB/s of reading\n", bench->read / 1e9);
    for (l.N = 1; l.N <= 4; l.N *= 4) {
        double all = 0, bytes = 0;
        for (int i = 0; i < SHAPES; i++) {
            char name[100];
            l.shape = &shapes[i];
            double seconds = median_seconds(bench, linear_work, &l), size = (double)l.shape->C * l.shape->OC * sizeof(real);
            snprintf(name, sizeof name, "%s, N=%d", l.shape->name, l.N);
            report("gemv", name, seconds, size, bench->read, "GB/s", 1e9);
            all += seconds * l.shape->layers, bytes += size * l.shape->layers;
        }
        report("gemv", l.N == 1 ? "all linear layers of 124M, N=1" : "all linear layers of 124M, N=4", all, bytes, bench->read, "GB/s", 1e9);
    }
    free(l.w), free(l.x), free(l.y), free(l.db);
}

// ---------------------------------------------------------------- attention

typedef struct {
    Cpu *cpu;
    real *qkv, *dqkv, *out, *dout, *lse;
    int B, Tq, T, NH, HS;
} Attention;

static void attention_forward_work(void *context, int turn) {
    Attention *a = (Attention *)context;
    int C = a->NH * a->HS;
    attention_forward(a->out, a->lse, a->qkv, 3 * C, a->qkv + C, 3 * C, a->qkv + 2 * C, 3 * C, a->B, a->Tq, a->T, a->NH, a->NH, a->HS, a->cpu);
    (void)turn;
}
static void attention_backward_work(void *context, int turn) {
    Attention *a = (Attention *)context;
    int C = a->NH * a->HS;
    attention_backward(a->dqkv, 3 * C, a->dqkv + C, 3 * C, a->dqkv + 2 * C, 3 * C, a->dout, a->out, a->lse, a->qkv, 3 * C, a->qkv + C, 3 * C, a->qkv + 2 * C, 3 * C, a->B, a->T, a->NH, a->NH, a->HS, a->cpu);
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
        a.qkv = (real *)cpu_alloc(3 * n * sizeof(real)), a.dqkv = (real *)cpu_alloc(3 * n * sizeof(real)), a.out = (real *)cpu_alloc(n * sizeof(real)), a.dout = (real *)cpu_alloc(n * sizeof(real)), a.lse = (real *)cpu_alloc(n * sizeof(real));
        fill(a.qkv, 3 * n), fill(a.dout, n);
        double limit = fma_rate(a.cpu->threads, false), flops = 2.0 * (double)n * (a.T + 1);
        if (i == 0) printf("attention, causal FLOPs, %d threads; limit %.1f GFLOP/s\n", a.cpu->threads, limit / 1e9);
        char name[100];
        snprintf(name, sizeof name, "forward, B=%d T=%d NH=%d HS=%d", a.B, a.T, a.NH, a.HS);
        report("attention", name, median_seconds(bench, attention_forward_work, &a), flops, limit, "GFLOP/s", 1e9);
        snprintf(name, sizeof name, "backward, B=%d T=%d NH=%d HS=%d", a.B, a.T, a.NH, a.HS);
        report("attention", name, median_seconds(bench, attention_backward_work, &a), 2.5 * flops, limit, "GFLOP/s", 1e9);
        if (i == 1) {
            a.Tq = 1;
            report("attention", "forward, one query, B=4 T=1024 NH=12 HS=64", median_seconds(bench, attention_forward_work, &a), 2.0 * (double)n * sizeof(real), bench->read, "GB/s", 1e9);
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
    gelu_forward(s->a, s->b, (size_t)s->N * (size_t)s->C, s->cpu);
    (void)turn;
}
static void gelu_backward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    gelu_backward(s->a, s->a, s->b, (size_t)s->N * (size_t)s->C, s->cpu);
    (void)turn;
}
static void swiglu_forward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    swiglu_forward(s->a, s->b, s->N, s->C / 2, s->cpu);
    (void)turn;
}
static void swiglu_backward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    swiglu_backward(s->b, s->a, s->c, s->N, s->C / 2, s->cpu);
    (void)turn;
}
static void norm_forward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    norm_forward(s->a, s->d, s->e, s->b, s->c, s->c, s->N, s->C, (real)1e-5, s->cpu);
    (void)turn;
}
static void norm_backward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    norm_backward(s->a, s->d + 65536, s->e + 65536, s->b, s->c, s->c, s->d, s->e, s->N, s->C, s->cpu);
    (void)turn;
}
static void loss_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    cross_entropy(s->d, s->a, s->targets, (real)0.001, s->N, s->C, s->cpu);
    (void)turn;
}
static void embedding_forward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    embedding_forward(s->a, s->targets, s->b, s->c, 0, 1, s->N, s->C, s->cpu);
    (void)turn;
}
static void embedding_backward_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    embedding_backward(s->b, s->c, s->a, s->targets, 1, s->N, s->C, 50257, s->cpu);
    (void)turn;
}
static void adamw_work(void *context, int turn) {
    Streams *s = (Streams *)context;
    adamw(s->a, s->b, s->c, s->d, (size_t)s->N * (size_t)s->C, 1e-3, 0.9, 0.95, 1e-8, 0.1, turn + 1, 0.5, s->cpu);
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
        *arrays[i] = (real *)cpu_alloc(n * sizeof(real));
        fill(*arrays[i], n);
    }
    for (size_t i = 0; i < n; i++) s.c[i] = s.c[i] * s.c[i];
    s.targets = (int32_t *)mem_alloc(sizeof(int32_t) * 65536);
    for (int i = 0; i < 65536; i++) s.targets[i] = (int32_t)((uint32_t)i * 2654435761u % 50257);
    double element = sizeof(real);
    if (wanted(bench, "pointwise")) {
        printf("pointwise, bytes that must move (read once, written once); limit: copy %.1f GB/s, read %.1f GB/s\n", bench->copy / 1e9, bench->read / 1e9);
        s.N = 4096, s.C = 3072;
        double size = (double)s.N * s.C * element;
        report("pointwise", "gelu_forward 4096 x 3072", median_seconds(bench, gelu_forward_work, &s), 2 * size, bench->copy, "GB/s", 1e9);
        report("pointwise", "gelu_backward 4096 x 3072", median_seconds(bench, gelu_backward_work, &s), 3 * size, bench->copy, "GB/s", 1e9);
        report("pointwise", "swiglu_forward 4096 x 3072", median_seconds(bench, swiglu_forward_work, &s), 1.5 * size, bench->copy, "GB/s", 1e9);
        report("pointwise", "swiglu_backward 4096 x 3072", median_seconds(bench, swiglu_backward_work, &s), 2.5 * size, bench->copy, "GB/s", 1e9);
        s.N = 16384, s.C = 768;
        report("pointwise", "norm_forward 16384 x 768", median_seconds(bench, norm_forward_work, &s), 2 * size, bench->copy, "GB/s", 1e9);
        report("pointwise", "norm_backward 16384 x 768", median_seconds(bench, norm_backward_work, &s), 4 * size, bench->copy, "GB/s", 1e9);
        report("pointwise", "embedding_forward 16384 x 768", median_seconds(bench, embedding_forward_work, &s), 3 * size, bench->copy, "GB/s", 1e9);
        report("pointwise", "embedding_backward 16384 x 768", median_seconds(bench, embedding_backward_work, &s), 6 * size, bench->copy, "GB/s", 1e9);
        s.N = 256, s.C = 50257;
        report("pointwise", "cross_entropy 256 x 50257", median_seconds(bench, loss_work, &s), 2.0 * s.N * s.C * element, bench->copy, "GB/s", 1e9);
    }
    if (wanted(bench, "optimizer")) {
        s.N = 1024, s.C = 40 << 10; // 42 M parameters
        double size = (double)s.N * s.C * element;
        printf("optimizer; limit: update in place %.1f GB/s, read %.1f GB/s\n", bench->update / 1e9, bench->read / 1e9);
        double norm = median_seconds(bench, squares_work, &s), update = median_seconds(bench, adamw_work, &s);
        report("optimizer", "sum_of_squares, 42 M numbers", norm, size, bench->read, "GB/s", 1e9);
        report("optimizer", "adamw, 42 M parameters", update, 7 * size, bench->update, "GB/s", 1e9);
        double ideal = size / bench->read + 7 * size / bench->update; // each part at its own limit
        report("optimizer", "both", norm + update, 8 * size, 8 * size / ideal, "GB/s", 1e9);
    }
    for (int i = 0; i < 5; i++) free(*arrays[i]);
    free(s.targets);
}

int main(int argc, char **argv) {
    const char *missing = cpu_missing_instructions();
    if (missing) fail("this program was built for a CPU with %s, which this machine lacks; build it with make ARCH=native here", missing);
    Bench bench;
    memset(&bench, 0, sizeof bench);
    bench.seconds = 0.3;
    int threads = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--threads=", 10) == 0) threads = atoi(argv[i] + 10);
        else if (strncmp(argv[i], "--only=", 7) == 0) bench.only = argv[i] + 7;
        else if (strncmp(argv[i], "--seconds=", 10) == 0) bench.seconds = atof(argv[i] + 10);
        else fail("unknown option %s; known are --threads=N, --only=TEXT, --seconds=S", argv[i]);
    }
    Error err;
    if (!cpu_open(&bench.cpu, threads, false, &err)) fail("%s", err.text);
    printf("machine\n");
    measure_machine(&bench, true);
    bench_gemm(&bench, false);
    bench_gemm(&bench, true);
    bench_gemv(&bench);
    bench_attention(&bench);
    if (wanted(&bench, "pointwise") || wanted(&bench, "optimizer")) bench_streams(&bench);
    cpu_close(&bench.cpu);
    return 0;
}
