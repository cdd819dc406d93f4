/*
gemm.h: linear layers, through cuBLASLt.

The product itself does what follows it (an "epilogue", fused) where the library can: bias,
residual sum (beta = 1), GELU with its input kept, GELU's backward, the gradient of a bias. Where it
cannot, for this shape and type, or is slower so, or comes to other numbers (product.h), a kernel does it; making the
plan settles which of the two, and gemm_describe() says it. In fp32 GELU is always a kernel: the library's tanh may be
approximate. A product that the library has no algorithm for is made by product().

A plan (descriptors and the algorithm) is made once for each shape and kept. While gemm_measure is on,
which model_create switches on for one pass at the start, the library's candidates are timed (autotuning);
the fastest is taken, and written to a file for the next start:
    $LLMC_CACHE, $XDG_CACHE_HOME/llmc or ~/.cache/llmc, gemm-DEVICE-VERSION-REVISION.txt
Shapes that turn up later take the library's first choice; their epilogues' numbers are compared all the same, but those
that add to gradients are not tried. Nothing is asked of it in a step.

Sums are in fp32 (TF32 is not allowed); those of split-K are added in fp32 and in a fixed order.
Matrices are (rows, columns) in C's order; the library counts them by columns, so that it computes
y^T = w x^T. Source: cuBLAS documentation, "Using the cuBLASLt API".
*/
#ifndef LLMC_CUDA_GEMM_H
#define LLMC_CUDA_GEMM_H

#include "../base/hash.h"
#include "../model.h"
#include "../ranks/dist.h"
#include "cuda.h"
#include "mlp.h"
#include "product.h"
#include <cublasLt.h>

static inline void cublas_check(cublasStatus_t status, const char *expression, const char *file, int line) {
    if (status != CUBLAS_STATUS_SUCCESS) fail("%s:%d: %s: %s", file, line, expression, cublasLtGetStatusString(status));
}
#define CUBLAS_CHECK(expression) cublas_check(expression, #expression, __FILE__, __LINE__)

template <typename Real> struct CublasType {
    static const cudaDataType_t value = sizeof(Real) == 4 ? CUDA_R_32F : CUDA_R_16BF;
};

// All that an algorithm depends on; compared and stored as numbers.
typedef struct {
    int m, n, k; // D (m, n), by columns
    int transa, transb;
    int in, out;    // cudaDataType_t
    int accumulate; // beta = 1
    int epilogue;   // cublasLtEpilogue_t
    int alignment;  // bytes that all matrices start on, a power of two up to 256
    int ldb, ldd;   // from a column of B to the next, and of D and C; 0: as wide as they are. Not stored: with them the
                    // library's first choice is taken
} GemmKey;

// How a product is made: by the library, with its epilogue; or apart, because the library has nothing for it, is
// slower with the epilogue, or comes to other numbers. Kept in the file.
typedef enum { GEMM_NONE, GEMM_FUSED, GEMM_SLOWER, GEMM_DIFFERS, GEMM_WAYS } GemmWay;

typedef struct {
    GemmKey key;
    int way;      // GemmWay; other than FUSED: the caller goes another way
    int compared; // with the other way
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algo;
} GemmPlan;

typedef struct {
    GemmKey key;
    int way; // as in GemmPlan
    cublasLtMatmulAlgo_t algo;
} GemmChoice;

struct GemmPlans {
    cublasLtHandle_t handle;
    void *workspace;
    GemmPlan *items;
    size_t count, capacity, last; // last: the plan of the newest product
    GemmChoice *known;            // from the file, and those measured now
    size_t known_count, known_capacity;
    bool measure, changed;
    bool unread; // the file is there and could not be read
    Path path;   // empty: no file
};

#define GEMM_WORKSPACE_BYTES ((size_t)64 << 20)
#define GEMM_REVISION 2                    // of what a line of the file means
#define GEMM_FILE_BYTES ((size_t)16 << 20) // a line has 150
// Every candidate is timed in ROUNDS rounds of TRIALS runs, the fastest round counts: the first plans meet a GPU that
// still raises its clock.
enum { GEMM_CANDIDATES = 16, GEMM_ROUNDS = 3, GEMM_TRIALS = 3 };

// ---------------------------------------------------------------- the file of measured choices

// A line of the file: the key, the way, the algorithm's 8 words, and # with the XXH64 of all before it, which files
// of older versions lack. A wrong digit would be another algorithm: other bits, or a product that fails.
static inline bool gemm_read_choice(GemmChoice *c, char *line) {
    unsigned long long a[8];
    GemmKey *k = &c->key;
    char *mark = strchr(line, '#');
    int end = 0;
    memset(c, 0, sizeof *c); // of the key, which is compared byte by byte, the file has no pitches
    if (mark && strtoull(mark + 1, NULL, 16) != xxh64(line, (size_t)(mark - line), 0)) return false;
    if (mark) *mark = 0;
    if (sscanf(line, "%d %d %d %d %d %d %d %d %d %d %d %llx %llx %llx %llx %llx %llx %llx %llx %n", &k->m, &k->n, &k->k,
               &k->transa, &k->transb, &k->in, &k->out, &k->accumulate, &k->epilogue, &k->alignment, &c->way, &a[0],
               &a[1], &a[2], &a[3], &a[4], &a[5], &a[6], &a[7], &end) != 19 ||
        line[end] || c->way < 0 || c->way >= GEMM_WAYS)
        return false;
    for (int i = 0; i < 8; i++) c->algo.data[i] = a[i];
    return true;
}

#define GEMM_OTHERS "this start measures again and may choose others, whose sums round otherwise"

static inline void gemm_read_choices(struct GemmPlans *p) {
    Str text;
    Error err;
    FileKind kind = FILE_ABSENT;
    int damaged = 0;
    memset(&text, 0, sizeof text);
    if (!p->path.text[0]) return;
    p->unread = !path_look(p->path.text, &kind, &err) ||
                (kind != FILE_ABSENT && !file_read(&text, p->path.text, GEMM_FILE_BYTES, &err));
    if (p->unread) warn("the measured choice of products cannot be read: %.900s; " GEMM_OTHERS, err.text);
    damaged = text.size && memchr(text.data, 0, text.size); // nothing behind it is seen
    char *rest = NULL;
    for (char *line = text.size ? strtok_r(text.data, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        GemmChoice c;
        if (!gemm_read_choice(&c, line)) {
            damaged++;
            continue;
        }
        p->known = (GemmChoice *)mem_grow(p->known, &p->known_capacity, p->known_count + 1, sizeof(GemmChoice));
        p->known[p->known_count++] = c;
    }
    if (damaged) warn("%.900s has %d damaged lines; for these, " GEMM_OTHERS, p->path.text, damaged);
    free(text.data);
}

static inline void gemm_line(Str *s, const GemmChoice *c) {
    const GemmKey *k = &c->key;
    size_t from = s->size;
    str_printf(s, "%d %d %d %d %d %d %d %d %d %d %d", k->m, k->n, k->k, k->transa, k->transb, k->in, k->out,
               k->accumulate, k->epilogue, k->alignment, c->way);
    for (int w = 0; w < 8; w++) str_printf(s, " %llx", (unsigned long long)c->algo.data[w]);
    str_puts(s, " ");
    str_printf(s, "#%016" PRIx64 "\n", xxh64(s->data + from, s->size - from, 0));
}

// A cache that cannot be written is no error: the next start measures again. But two starts may then have other bits.
// One that could not be read stays as it is.
static inline void gemm_write_choices(struct GemmPlans *p) {
    Error err;
    Str s;
    memset(&s, 0, sizeof s);
    if (!p->changed || p->unread) return;
    Path folder = path_parent(p->path.text), above = path_parent(folder.text);
    for (size_t i = 0; i < p->known_count; i++) gemm_line(&s, &p->known[i]);
    bool ok = p->path.text[0] ? path_make_folder(above.text, &err) && path_make_folder(folder.text, &err) &&
                                    file_write_all(p->path.text, s.data, s.size, &err)
                              : error_set(&err, "no LLMC_CACHE, XDG_CACHE_HOME or HOME");
    free(s.data);
    p->changed = !ok;
    if (!ok)
        warn("the measured choice of products cannot be kept: %.700s; the next start measures again and may choose "
             "others, whose sums round otherwise; set LLMC_CACHE to a folder",
             err.text);
}

static inline void gemm_open(Device *d) {
    struct GemmPlans *p = (struct GemmPlans *)mem_alloc(sizeof(struct GemmPlans));
    d->plans = p;
    CUBLAS_CHECK(cublasLtCreate(&p->handle));
    CUDA_CHECK(cudaMalloc(&p->workspace, GEMM_WORKSPACE_BYTES));
    const char *own = getenv("LLMC_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char device[128];
    snprintf(device, sizeof device, "%.100s", d->name);
    for (char *c = device; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9'))) *c = '-';
    Path folder = own && *own     ? path_of("%s", own)
                  : xdg && *xdg   ? path_of("%s/llmc", xdg)
                  : home && *home ? path_of("%s/.cache/llmc", home)
                                  : path_of("%s", "");
    if (folder.text[0])
        p->path = path_of("%s/gemm-%s-%zu-%d.txt", folder.text, device, cublasLtGetVersion(), GEMM_REVISION);
    gemm_read_choices(p);
}

static inline void gemm_close(Device *d) {
    struct GemmPlans *p = d->plans;
    for (size_t i = 0; i < p->count; i++) {
        cublasLtMatmulDescDestroy(p->items[i].desc);
        cublasLtMatrixLayoutDestroy(p->items[i].a);
        cublasLtMatrixLayoutDestroy(p->items[i].b);
        cublasLtMatrixLayoutDestroy(p->items[i].d);
    }
    free(p->items);
    free(p->known);
    cudaFree(p->workspace);
    cublasLtDestroy(p->handle);
    free(p);
    d->plans = NULL;
}

// On: plans made from now on are measured. Off: what was measured is written down.
static inline void gemm_measure(Device *d, bool on) {
    d->plans->measure = on;
    if (!on) gemm_write_choices(d->plans);
}

// Rank 0's choices on all ranks, where they have the same GPU: the same products give the same bits.
// Called by all ranks, by rank 0 after its measurement, by the others before theirs.
static inline void gemm_share_choices(Device *d, const Dist *dist) {
    struct GemmPlans *p = d->plans;
    char name[sizeof d->name];
    memcpy(name, d->name, sizeof name);
    uint64_t count = p->known_count;
    dist_broadcast(dist, name, sizeof name);
    dist_broadcast(dist, &count, sizeof count);
    name[sizeof name - 1] = 0;
    if (count > 1 << 20) fail("rank 0 announces %llu choices: it is another program", (unsigned long long)count);
    GemmChoice *choices = (GemmChoice *)mem_alloc(sizeof(GemmChoice) * (size_t)count);
    if (dist->rank == 0 && count) memcpy(choices, p->known, sizeof(GemmChoice) * (size_t)count);
    dist_broadcast(dist, choices, sizeof(GemmChoice) * (size_t)count);
    if (dist->rank > 0 && strcmp(name, d->name) == 0) {
        free(p->known);
        p->known = choices;
        p->known_count = p->known_capacity = (size_t)count;
    } else free(choices);
}

// ---------------------------------------------------------------- plans

// The operands of one product; the library's names and its order by columns.
typedef struct {
    void *D;           // (m, n)
    const void *A, *B; // op(A) (m, k), op(B) (k, n)
    const void *C;     // (m, n), times beta added when key.accumulate; may be D
    const void *bias;  // (m), or (n) for a gradient of it
    const void *aux;   // (m, n), GELU's input
    float alpha, beta; // of product and C
} GemmOperands;

static inline cublasStatus_t gemm_run(Device *d, GemmPlan *plan, const GemmOperands *o,
                                      const cublasLtMatmulAlgo_t *algo) {
    struct GemmPlans *p = d->plans;
    float beta = plan->key.accumulate ? o->beta : 0.0f;
    if (o->bias)
        CUBLAS_CHECK(
            cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o->bias, sizeof o->bias));
    if (o->aux)
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &o->aux,
                                                    sizeof o->aux));
    return cublasLtMatmul(p->handle, plan->desc, &o->alpha, o->A, plan->a, o->B, plan->b, &beta,
                          plan->key.accumulate ? o->C : o->D, plan->d, o->D, plan->d, algo, p->workspace,
                          GEMM_WORKSPACE_BYTES, d->stream);
}

// Is a plan made now to be measured?
static inline bool gemm_measures(const struct GemmPlans *p, const GemmKey *key) {
    return p->measure && !key->ldb && !key->ldd;
}

static inline GemmChoice *gemm_known(struct GemmPlans *p, const GemmKey *key) {
    for (size_t i = 0; i < p->known_count; i++)
        if (memcmp(&p->known[i].key, key, sizeof *key) == 0) return &p->known[i];
    return NULL;
}

// What was found for a plan, for the file and the other ranks.
static inline void gemm_remember(struct GemmPlans *p, const GemmPlan *plan) {
    GemmChoice *c = gemm_known(p, &plan->key);
    if (!c) {
        p->known = (GemmChoice *)mem_grow(p->known, &p->known_capacity, p->known_count + 1, sizeof(GemmChoice));
        c = &p->known[p->known_count++];
    }
    c->key = plan->key, c->way = plan->way, c->algo = plan->algo;
    p->changed = true;
}

static inline void gemm_choose(Device *d, GemmPlan *plan, const GemmOperands *o) {
    struct GemmPlans *p = d->plans;
    const GemmChoice *known = gemm_known(p, &plan->key);
    cublasLtMatmulHeuristicResult_t found[GEMM_CANDIDATES];
    bool measure = gemm_measures(p, &plan->key);
    // A file may come from a library that differs in spite of its version: what does not fit is found anew.
    if (known &&
        (known->way != GEMM_FUSED || (cublasLtMatmulAlgoCheck(p->handle, plan->desc, plan->a, plan->b, plan->d, plan->d,
                                                              &known->algo, found) == CUBLAS_STATUS_SUCCESS &&
                                      found[0].workspaceSize <= GEMM_WORKSPACE_BYTES))) {
        plan->algo = known->algo;
        plan->way = known->way;
        plan->compared = 1;
        return;
    }
    // What adds to gradients can be compared with the other way only where they may be lost.
    if (!p->measure && plan->key.epilogue == (int)CUBLASLT_EPILOGUE_BGRADB) return;
    cublasLtMatmulPreference_t preference;
    size_t workspace = GEMM_WORKSPACE_BYTES;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
             alignment = (uint32_t)plan->key.alignment;
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                      sizeof workspace));
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                                      sizeof schemes));
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                      &alignment, sizeof alignment));
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                      &alignment, sizeof alignment));
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                      &alignment, sizeof alignment));
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                                                      &alignment, sizeof alignment));
    int count = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(p->handle, plan->desc, plan->a, plan->b, plan->d, plan->d,
                                                           preference, GEMM_CANDIDATES, found, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS) return;
    // Those that run; each run also warms up.
    int works[GEMM_CANDIDATES], n = 0, best = 0;
    for (int i = 0; i < count && (measure || n == 0); i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS &&
            (!measure || gemm_run(d, plan, o, &found[i].algo) == CUBLAS_STATUS_SUCCESS))
            works[n++] = i;
    if (n == 0) return;
    float ms[GEMM_CANDIDATES];
    for (int round = 0; measure && round < GEMM_ROUNDS; round++)
        for (int k = 0; k < n; k++) {
            float t = device_time(d, GEMM_TRIALS, [=]() { CUBLAS_CHECK(gemm_run(d, plan, o, &found[works[k]].algo)); });
            if (round == 0 || t < ms[k]) ms[k] = t;
        }
    for (int k = 1; measure && k < n; k++)
        if (ms[k] < ms[best]) best = k;
    plan->algo = found[works[best]].algo;
    plan->way = GEMM_FUSED;
    if (measure) gemm_remember(p, plan);
}

static inline GemmPlan *gemm_plan(Device *d, const GemmKey *key, const GemmOperands *o) {
    struct GemmPlans *p = d->plans;
    for (p->last = 0; p->last < p->count; p->last++)
        if (memcmp(&p->items[p->last].key, key, sizeof *key) == 0) return &p->items[p->last];
    p->items = (GemmPlan *)mem_grow(p->items, &p->capacity, p->count + 1, sizeof(GemmPlan));
    GemmPlan *plan = &p->items[p->count++];
    memset(plan, 0, sizeof *plan);
    plan->key = *key;
    int32_t ta = key->transa ? CUBLAS_OP_T : CUBLAS_OP_N, tb = key->transb ? CUBLAS_OP_T : CUBLAS_OP_N;
    uint32_t epilogue = (uint32_t)key->epilogue;
    int64_t aux_ld = key->m;
    int32_t beside = key->out; // the type of bias and auxiliary matrix: the result's
    CUBLAS_CHECK(cublasLtMatmulDescCreate(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    if (o->bias) {
        CUBLAS_CHECK(
            cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o->bias, sizeof o->bias));
        CUBLAS_CHECK(
            cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &beside, sizeof beside));
    }
    if (o->aux) {
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, &beside,
                                                    sizeof beside));
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &o->aux,
                                                    sizeof o->aux));
        CUBLAS_CHECK(
            cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &aux_ld, sizeof aux_ld));
    }
    uint64_t m = (uint64_t)key->m, n = (uint64_t)key->n, k = (uint64_t)key->k;
    cudaDataType_t in = (cudaDataType_t)key->in;
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&plan->a, in, key->transa ? k : m, key->transa ? m : k,
                                            (int64_t)(key->transa ? k : m)));
    int64_t ldb = key->ldb ? key->ldb : (int64_t)(key->transb ? n : k), ldd = key->ldd ? key->ldd : (int64_t)m;
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&plan->b, in, key->transb ? n : k, key->transb ? k : n, ldb));
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&plan->d, (cudaDataType_t)key->out, m, n, ldd));
    gemm_choose(d, plan, o);
    return plan;
}

// The product of operands that the library has no algorithm for.
static inline void gemm_apart(const GemmOperands *o, const GemmKey *key, Device *d) {
    int ldb = key->ldb ? key->ldb : key->transb ? key->n : key->k;
    ProductShape s = {key->m,
                      key->n,
                      key->k,
                      key->transa,
                      key->transb,
                      o->alpha,
                      key->accumulate ? o->beta : 0,
                      ldb,
                      key->ldd ? key->ldd : key->m};
    typedef const __nv_bfloat16 Half;
    if (key->in == CUDA_R_32F)
        product((float *)o->D, (const float *)o->A, (const float *)o->B, (const float *)o->C, s, d);
    else if (key->out == CUDA_R_32F) product((float *)o->D, (Half *)o->A, (Half *)o->B, (const float *)o->C, s, d);
    else product((__nv_bfloat16 *)o->D, (Half *)o->A, (Half *)o->B, (Half *)o->C, s, d);
}

// What the operands say; key: all but alignment and accumulate. False if it has an epilogue and is to be made apart.
static inline bool gemm_operands(GemmOperands o, GemmKey key, Device *d) {
    uintptr_t bits = (uintptr_t)o.D | (uintptr_t)o.A | (uintptr_t)o.B | (uintptr_t)o.C | 256;
    key.accumulate = o.C != NULL;
    key.alignment = (int)(bits & (~bits + 1));
    GemmPlan *plan = gemm_plan(d, &key, &o);
    if (plan->way == GEMM_FUSED) {
        cublasStatus_t status = gemm_run(d, plan, &o, &plan->algo);
        if (status != CUBLAS_STATUS_NOT_SUPPORTED) CUBLAS_CHECK(status);
        if (status == CUBLAS_STATUS_SUCCESS) return true;
        plan->way = GEMM_NONE; // one that was not tried, of a shape that came after the measurement
    }
    if (key.epilogue != (int)CUBLASLT_EPILOGUE_DEFAULT) return false;
    gemm_apart(&o, &key, d);
    return true;
}

static inline const char *gemm_way_name(int way) {
    static const char *const names[GEMM_WAYS] = {"not in the library, or not tried", "fused", "slower",
                                                 "other numbers"};
    return names[way];
}

// How the products are made, for the log: of those with an epilogue how many are fused, and why not.
static inline void gemm_describe(Str *s, const Device *d) {
    static const struct {
        const char *name;
        int epilogues[2];
    } rows[] = {{"bias", {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS}},
                {"GELU", {CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS}},
                {"GELU's gradient", {CUBLASLT_EPILOGUE_DGELU, CUBLASLT_EPILOGUE_DGELU}},
                {"bias's gradient", {CUBLASLT_EPILOGUE_BGRADB, CUBLASLT_EPILOGUE_BGRADB}},
                {"", {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_DEFAULT}}};
    const struct GemmPlans *p = d->plans;
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        int count[GEMM_WAYS] = {0}, all = 0;
        for (size_t i = 0; i < p->count; i++) {
            int epilogue = p->items[i].key.epilogue;
            if (epilogue != rows[r].epilogues[0] && epilogue != rows[r].epilogues[1]) continue;
            count[p->items[i].way]++, all++;
        }
        if (!*rows[r].name && count[GEMM_NONE])
            str_printf(s, ", %d of %d products by the program's own kernel (not in the library)", count[GEMM_NONE],
                       all);
        if (!all || !*rows[r].name) continue;
        str_printf(s, ", %s fused in %d of %d shapes", rows[r].name, count[GEMM_FUSED], all);
        const char *comma = " (";
        for (int way = 0; way < GEMM_WAYS; way++) {
            if (way == GEMM_FUSED || !count[way]) continue;
            str_printf(s, "%s%d %s", comma, count[way], gemm_way_name(way));
            comma = ", ";
        }
        if (*comma == ',') str_puts(s, ")");
    }
}

template <typename Out, typename In> static inline GemmKey gemm_key(int m, int n, int k, bool transa, bool transb) {
    GemmKey key;
    memset(&key, 0, sizeof key);
    key.m = m, key.n = n, key.k = k;
    key.transa = transa, key.transb = transb;
    key.in = CublasType<In>::value, key.out = CublasType<Out>::value;
    key.epilogue = (int)CUBLASLT_EPILOGUE_DEFAULT;
    return key;
}

// D = op(A) op(B) (+ C where given) with an epilogue; false if that is to be made apart.
template <typename Out, typename In>
static inline bool gemm(Out *D, const In *A, const In *B, const Out *C, const void *bias, const void *aux, int m, int n,
                        int k, bool transa, bool transb, cublasLtEpilogue_t epilogue, Device *d) {
    GemmOperands o = {D, A, B, C, bias, aux, 1, 1};
    GemmKey key = gemm_key<Out, In>(m, n, k, transa, transb);
    key.epilogue = (int)epilogue;
    return gemm_operands(o, key, d);
}

// What a product with its epilogue writes: two arrays at most.
typedef struct {
    void *at[2];
    size_t count[2], size; // numbers, and bytes of one
    bool adds;             // to what is there
} GemmResults;

// Does `fused` come to other numbers than `apart`, beyond rounding? What adds starts from zeros, and is lost. As much
// is compared as there is memory for.
template <typename Fused, typename Apart>
static inline bool gemm_differs(Device *d, const GemmResults *r, Fused fused, Apart apart) {
    void *copy[2] = {NULL, NULL};
    size_t count[2];
    bool away = false;
    auto again = [=](auto way) {
        for (int i = 0; i < 2 && r->adds; i++)
            if (r->count[i]) CUDA_CHECK(cudaMemsetAsync(r->at[i], 0, r->size * r->count[i], d->stream));
        way();
    };
    again(fused);
    for (int i = 0; i < 2; i++) {
        count[i] = r->count[i];
        while (count[i] && cudaMalloc(&copy[i], r->size * count[i]) != cudaSuccess) {
            count[i] /= 2;
            cudaGetLastError(); // it is no error
        }
        away |= r->count[i] && !count[i];
        if (count[i])
            CUDA_CHECK(cudaMemcpyAsync(copy[i], r->at[i], r->size * count[i], cudaMemcpyDeviceToDevice, d->stream));
    }
    again(apart);
    for (int i = 0; i < 2; i++) {
        if (r->size == 4) away |= differs((const float *)copy[i], (const float *)r->at[i], count[i], d);
        else away |= differs((const __nv_bfloat16 *)copy[i], (const __nv_bfloat16 *)r->at[i], count[i], d);
        CUDA_CHECK(cudaFree(copy[i]));
    }
    return away;
}

// Does a product with its epilogue (`fused`, false where that is to be made apart) or product and kernel one after the
// other (`apart`). Their numbers are compared once for each shape, and while products are measured both are timed, and
// the faster is kept: a fused GELU writes two matrices, and on some GPUs it and a fused bias gradient were slower than
// two kernels (llm.c, pull requests 338 and 591; CUDALibrarySamples, issue 90).
template <typename Fused, typename Apart>
static inline void fused_or_apart(Device *d, GemmResults results, Fused fused, Apart apart) {
    struct GemmPlans *p = d->plans;
    if (!fused()) {
        apart();
        return;
    }
    size_t plan = p->last;
    if (p->items[plan].compared) return;
    float best[2] = {0, 0};
    apart(); // its own plan is measured first
    bool away = gemm_differs(d, &results, fused, apart);
    for (int round = 0; p->measure && !away && round < GEMM_ROUNDS; round++)
        for (int way = 0; way < 2; way++) {
            float ms = device_time(d, GEMM_TRIALS, [=]() {
                if (way) apart();
                else fused();
            });
            if (round == 0 || ms < best[way]) best[way] = ms;
        }
    p->items[plan].compared = 1;
    p->items[plan].way = away ? GEMM_DIFFERS : best[1] < best[0] ? GEMM_SLOWER : GEMM_FUSED;
    if (p->measure) gemm_remember(p, &p->items[plan]);
    if (p->items[plan].way == GEMM_FUSED) fused();
    else apart();
}

// ---------------------------------------------------------------- biases, where the library has no epilogue

// y (N, C) += b (C)
template <typename Real> __global__ void add_bias_kernel(Real *y, const Real *b, int N, int C) {
    const int P = PackOf<Real>::SIZE;
    size_t packs = (size_t)((C + P - 1) / P), i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * packs) return;
    int c = (int)(i % packs) * P;
    bool fit = packs_fit<Real>(C);
    float v[P], w[P];
    load_pack(v, y + i / packs * (size_t)C, c, C, fit);
    load_pack(w, b, c, C, fit);
    for (int k = 0; k < P; k++) v[k] += w[k];
    store_pack(y + i / packs * (size_t)C, v, c, C, fit);
}

enum { COLUMN_ROWS = 4, COLUMN_WARPS = 8 }; // of a column_sums_kernel's warp at once, of a thread block

// partial (gridDim.y, C): sums of columns over rows of dy (N, C). A warp takes COLUMN_ROWS rows at a time, all of them
// in flight at once; a thread block's warps take turns, and so do the blocks.
template <typename Real>
__global__ void __launch_bounds__(32 * COLUMN_WARPS) column_sums_kernel(float *partial, const Real *dy, int N, int C) {
    const int P = PackOf<Real>::SIZE;
    __shared__ float sums[COLUMN_WARPS][32 * P + 4];
    int c = ((int)blockIdx.x * 32 + (int)threadIdx.x) * P, y = (int)threadIdx.y;
    bool fit = packs_fit<Real>(C);
    float sum[P], v[COLUMN_ROWS][P];
    for (int i = 0; i < P; i++) sum[i] = 0;
    if (c < C)
#pragma unroll 1
        for (int n = ((int)blockIdx.y * COLUMN_WARPS + y) * COLUMN_ROWS; n < N;
             n += (int)gridDim.y * COLUMN_WARPS * COLUMN_ROWS) {
            if (fit) {
                int4 bits[COLUMN_ROWS];
#pragma unroll
                for (int r = 0; r < COLUMN_ROWS; r++)
                    bits[r] = n + r < N ? *(const int4 *)(dy + (size_t)(n + r) * (size_t)C + c) : make_int4(0, 0, 0, 0);
#pragma unroll
                for (int r = 0; r < COLUMN_ROWS; r++) load_pack(v[r], (const Real *)&bits[r], 0, P, true);
            } else {
#pragma unroll
                for (int r = 0; r < COLUMN_ROWS; r++)
                    load_pack(v[r], dy + (size_t)(n + r) * (size_t)C, c, n + r < N ? C : 0, false);
            }
            for (int i = 0; i < P; i++)
#pragma unroll
                for (int r = 0; r < COLUMN_ROWS; r++) sum[i] += v[r][i];
        }
    for (int i = 0; i < P; i++) sums[y][(int)threadIdx.x * P + i] = sum[i];
    __syncthreads();
    if (y) return;
    for (int i = 0; i < P; i++) {
        float s = 0;
        for (int w = 0; w < COLUMN_WARPS; w++) s += sums[w][(int)threadIdx.x * P + i];
        if (c + i < C) partial[(size_t)blockIdx.y * (size_t)C + (size_t)(c + i)] = s;
    }
}

// db (C) += column sums of dy (N, C)
template <typename Real> static inline void bias_backward(float *db, const Real *dy, int N, int C, Device *d) {
    // About 528 thread blocks, 4 for each of an H100's multiprocessors, at least one turn each; a constant, since the
    // order of sums must not depend on the device. Scratch: up to 256 rows of C.
    int wide = (C + 32 * (int)PackOf<Real>::SIZE - 1) / (32 * (int)PackOf<Real>::SIZE),
        turn = COLUMN_WARPS * COLUMN_ROWS, parts = (528 + wide - 1) / wide, turns = (N + turn - 1) / turn;
    size_t room = d->scratch_bytes / (sizeof(float) * (size_t)C);
    if (parts > 256) parts = 256;
    if (parts > turns) parts = turns;
    if ((size_t)parts > room) parts = (int)room;
    column_sums_kernel<Real>
        <<<dim3((unsigned)wide, (unsigned)parts), dim3(32, COLUMN_WARPS), 0, d->stream>>>(d->scratch, dy, N, C);
    LAUNCH_CHECK();
    add_columns(db, NULL, d->scratch, parts, C, C, d);
}

template <typename Real> static inline void add_bias(Real *y, const Real *b, int N, int C, Device *d) {
    const int P = PackOf<Real>::SIZE;
    add_bias_kernel<Real><<<blocks_for((size_t)N * (size_t)((C + P - 1) / P), 256), 256, 0, d->stream>>>(y, b, N, C);
    LAUNCH_CHECK();
}

// ---------------------------------------------------------------- linear layers

// y (N, OC) = x (N, C) w (OC, C)^T + b (OC or NULL) + residual (N, OC, or NULL; not y)
template <typename Real>
static inline void linear_forward(Real *y, const Real *x, const Real *w, const Real *b, const Real *residual,
                                  LinearShape s, Device *d) {
    auto apart = [=]() {
        gemm(y, w, x, residual, NULL, NULL, s.OC, s.N, s.C, true, false, CUBLASLT_EPILOGUE_DEFAULT, d);
        if (b) add_bias(y, b, s.N, s.OC, d);
    };
    auto fused = [=]() {
        return gemm(y, w, x, residual, b, NULL, s.OC, s.N, s.C, true, false, CUBLASLT_EPILOGUE_BIAS, d);
    };
    if (b) fused_or_apart(d, {{y, NULL}, {(size_t)s.N * (size_t)s.OC, 0}, sizeof(Real), false}, fused, apart);
    else apart();
}

// dx (N, C) = dy (N, OC) w (OC, C)
template <typename Real>
static inline void linear_backward_input(Real *dx, const Real *dy, const Real *w, LinearShape s, Device *d) {
    gemm(dx, w, dy, (const Real *)NULL, NULL, NULL, s.C, s.N, s.OC, false, false, CUBLASLT_EPILOGUE_DEFAULT, d);
}

// dw (OC, C) += dy (N, OC)^T x (N, C);  db (OC) += column sums of dy. NULL: not wanted.
template <typename Real>
static inline void linear_backward_weight(float *dw, float *db, const Real *dy, const Real *x, LinearShape s,
                                          Device *d) {
    auto product = [=]() {
        gemm(dw, x, dy, dw, NULL, NULL, s.C, s.OC, s.N, false, true, CUBLASLT_EPILOGUE_DEFAULT, d);
    };
    if (!dw || !db) {
        if (dw) product();
        if (db) bias_backward(db, dy, s.N, s.OC, d);
        return;
    }
    fused_or_apart(
        d, {{dw, db}, {(size_t)s.C * (size_t)s.OC, (size_t)s.OC}, sizeof(float), true},
        [=]() { // the epilogue overwrites its sums; they go to scratch memory and are added from there
            if (!gemm(dw, x, dy, dw, d->scratch, NULL, s.C, s.OC, s.N, false, true, CUBLASLT_EPILOGUE_BGRADB, d))
                return false;
            add_columns(db, NULL, d->scratch, 1, s.OC, s.OC, d);
            return true;
        },
        [=]() {
            product();
            bias_backward(db, dy, s.N, s.OC, d);
        });
}

// ---------------------------------------------------------------- linear layers with an activation behind them

typedef struct {
    int N, C, F, activation;
    bool gated; // fc is (N, 2F), else (N, F)
} MlpShape;

template <typename Real> static inline bool mlp_fuses(MlpShape s) {
    return sizeof(Real) == 2 && s.activation == ACTIVATION_GELU_TANH && !s.gated;
}

// fc = x (N, C) w^T + b (or NULL), mlp (N, F) = f(fc), or f(gate) up: in one product where the library has one
template <typename Real>
static inline void linear_mlp_forward(Real *mlp, Real *fc, const Real *x, const Real *w, const Real *b, MlpShape s,
                                      Device *d) {
    auto apart = [=]() {
        linear_forward(fc, x, w, b, (const Real *)NULL, {s.N, s.C, s.gated ? 2 * s.F : s.F}, d);
        mlp_forward(mlp, fc, s.N, s.F, s.activation, s.gated, d);
    };
    auto fused = [=]() {
        return gemm(mlp, w, x, (const Real *)NULL, b, fc, s.F, s.N, s.C, true, false,
                    b ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX, d);
    };
    size_t n = (size_t)s.N * (size_t)s.F;
    if (mlp_fuses<Real>(s)) fused_or_apart(d, {{mlp, fc}, {n, n}, sizeof(Real), false}, fused, apart);
    else apart();
}

// dmlp (N, F) = dy (N, C) w (C, F), dfc from it and fc; in one product where the library has one: dmlp is then not
// written
template <typename Real>
static inline void linear_mlp_backward(Real *dfc, Real *dmlp, const Real *dy, const Real *w, const Real *fc, MlpShape s,
                                       Device *d) {
    auto apart = [=](Real *to) {
        linear_backward_input(to, dy, w, {s.N, s.F, s.C}, d);
        mlp_backward(dfc, to, fc, s.N, s.F, s.activation, s.gated, d);
    };
    auto fused = [=]() {
        return gemm(dfc, w, dy, (const Real *)NULL, NULL, fc, s.F, s.N, s.C, false, false, CUBLASLT_EPILOGUE_DGELU, d);
    };
    size_t n = (size_t)s.N * (size_t)s.F;
    if (mlp_fuses<Real>(s)) fused_or_apart(d, {{dfc, NULL}, {n, 0}, sizeof(Real), false}, fused, [=]() { apart(dfc); });
    else apart(dmlp);
}

#endif
