/*
cublasLt.h (emulator): the calls of cuBLASLt that llmc/cuda/gemm.h makes, as plain loops with the same
epilogues. Products of bf16 are exact in float and summed in float; with TF32, factors are rounded to 10
bits behind the point; a result is rounded once, after the epilogue. What the real library refuses (a
GELU auxiliary matrix whose leading dimension is not a multiple of 8) the heuristic here refuses too, so
that the unfused path is tested, and an epilogue whose bias or auxiliary matrix has no type or another one than the
result.
CUDA_EMU_REFUSE=NAME[,NAME] refuses more: bias, gelu, dgelu, bgrad; product, all others; odd, products in bf16 with a
width that is no multiple of 8; late, such when they are run and not before. CUDA_EMU_WRONG=EPILOGUE[,...] (of the
first four) makes one number of what the epilogue writes 3/4 too large.

Preferences bind: an algorithm is offered for the workspace, reductions and alignments that were asked for, and a
product that gives it less is an error. The second algorithm is one that splits k, as far as can be seen from outside:
it needs a workspace, which it spoils, and leave to reduce in the compute type. Its sums are the first one's.
Matrices are stored by columns, as in BLAS.
*/
#ifndef EMU_CUBLASLT_H
#define EMU_CUBLASLT_H

#include "cuda_bf16.h"
#include <cmath>

typedef enum {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_NOT_SUPPORTED = 15
} cublasStatus_t;
typedef enum { CUBLAS_OP_N, CUBLAS_OP_T } cublasOperation_t;
typedef enum { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 } cublasComputeType_t;
typedef enum { CUDA_R_32F = 0, CUDA_R_16BF = 14 } cudaDataType_t;
typedef enum {
    CUBLASLT_EPILOGUE_DEFAULT = 1,
    CUBLASLT_EPILOGUE_BIAS = 4,
    CUBLASLT_EPILOGUE_GELU_AUX = 32 | 128,
    CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 32 | 128 | 4,
    CUBLASLT_EPILOGUE_DGELU = 64 | 128,
    CUBLASLT_EPILOGUE_BGRADB = 512
} cublasLtEpilogue_t;
typedef enum {
    CUBLASLT_MATMUL_DESC_TRANSA = 3,
    CUBLASLT_MATMUL_DESC_TRANSB = 4,
    CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
    CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8,
    CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER = 11,
    CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD = 12,
    CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE = 22,
    CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26
} cublasLtMatmulDescAttributes_t;
typedef enum {
    CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
    CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
} cublasLtMatmulPreferenceAttributes_t;
enum { CUBLASLT_REDUCTION_SCHEME_NONE = 0, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2 };

struct EmuMatmul {
    bool tf32;
    int transa, transb;
    uint32_t epilogue;
    void *bias, *aux;
    int64_t aux_ld;
    int32_t bias_type, aux_type; // -1: not set
};
struct EmuLayout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
};
typedef void *cublasLtHandle_t;
typedef EmuMatmul *cublasLtMatmulDesc_t;
typedef EmuLayout *cublasLtMatrixLayout_t;
struct EmuPreference { // as the library has them where none is set
    uint64_t workspace = 0;
    uint32_t schemes = ~0u, alignment[4] = {256, 256, 256, 256}; // of A, B, C, D
};
typedef EmuPreference *cublasLtMatmulPreference_t;
typedef struct {
    uint64_t data[8]; // number (0: none), bytes of workspace, alignment of A, B, C, D
} cublasLtMatmulAlgo_t;
typedef struct {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    cublasStatus_t state;
} cublasLtMatmulHeuristicResult_t;

static inline const char *cublasLtGetStatusString(cublasStatus_t s) {
    return s == CUBLAS_STATUS_SUCCESS ? "success" : "invalid value or not supported";
}
static inline size_t cublasLtGetVersion() { return 0; }
static inline cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) { return *h = nullptr, CUBLAS_STATUS_SUCCESS; }
static inline cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
static inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                                                      cudaDataType_t) {
    *d = new EmuMatmul{compute == CUBLAS_COMPUTE_32F_FAST_TF32,
                       CUBLAS_OP_N,
                       CUBLAS_OP_N,
                       CUBLASLT_EPILOGUE_DEFAULT,
                       nullptr,
                       nullptr,
                       0,
                       -1,
                       -1};
    return CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
    return delete d, CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a,
                                                            const void *v, size_t n) {
    switch (a) {
    case CUBLASLT_MATMUL_DESC_TRANSA: memcpy(&d->transa, v, n); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: memcpy(&d->transb, v, n); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: memcpy(&d->epilogue, v, n); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: memcpy(&d->bias, v, n); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: memcpy(&d->aux, v, n); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: memcpy(&d->aux_ld, v, n); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE: memcpy(&d->aux_type, v, n); break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: memcpy(&d->bias_type, v, n); break;
    }
    return CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t type, uint64_t rows,
                                                        uint64_t cols, int64_t ld) {
    *l = new EmuLayout{type, rows, cols, ld};
    return ld >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
static inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    return delete l, CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
    return *p = new EmuPreference, CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
    return delete p, CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                                  cublasLtMatmulPreferenceAttributes_t a, const void *v,
                                                                  size_t n) {
    void *to = &p->workspace;
    if (a == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) to = &p->schemes;
    else if (a >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)
        to = &p->alignment[a - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
    if (n != (to == &p->workspace ? 8u : 4u)) return CUBLAS_STATUS_INVALID_VALUE;
    return memcpy(to, v, n), CUBLAS_STATUS_SUCCESS;
}

static inline const char *emu_epilogue(uint32_t epilogue) {
    return epilogue == CUBLASLT_EPILOGUE_BIAS      ? "bias"
           : epilogue == CUBLASLT_EPILOGUE_DGELU   ? "dgelu"
           : epilogue == CUBLASLT_EPILOGUE_BGRADB  ? "bgrad"
           : epilogue == CUBLASLT_EPILOGUE_DEFAULT ? "product"
                                                   : "gelu";
}
// Is this name in the list of an environment variable?
static inline bool emu_listed(const char *variable, const char *name) {
    static const char *const names[] = {"bias", "gelu", "dgelu", "bgrad", "product", "odd", "late"};
    const char *list = getenv(variable);
    bool listed = false;
    for (const char *at = list ? list : ""; *at; at += strcspn(at, ","), at += *at == ',') {
        size_t n = strcspn(at, ",");
        bool known = false;
        for (const char *each : names) known |= strlen(each) == n && strncmp(each, at, n) == 0;
        if (!known) {
            fprintf(stderr, "error: %s=%s: expected some of", variable, list);
            for (const char *each : names) fprintf(stderr, " %s", each);
            fprintf(stderr, ", with commas\n");
            exit(1);
        }
        listed |= strlen(name) == n && strncmp(name, at, n) == 0;
    }
    return listed;
}
// A product in bf16 one of whose matrices has rows that do not lie on 16 bytes.
static inline bool emu_odd(const EmuLayout *a, const EmuLayout *b, const EmuLayout *d) {
    return a->type == CUDA_R_16BF && (a->ld % 8 || b->ld % 8 || d->ld % 8);
}
static inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d,
                                                            cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                            cublasLtMatrixLayout_t, cublasLtMatrixLayout_t out,
                                                            cublasLtMatmulPreference_t p, int wanted,
                                                            cublasLtMatmulHeuristicResult_t *results, int *found) {
    *found = 0;
    if ((d->epilogue & 128) && (d->aux_ld % 8 || !d->aux || (uintptr_t)d->aux % 16)) return CUBLAS_STATUS_NOT_SUPPORTED;
    bool wants_bias = d->epilogue == CUBLASLT_EPILOGUE_BGRADB || (d->epilogue & (uint32_t)CUBLASLT_EPILOGUE_BIAS) != 0;
    if ((wants_bias && d->bias_type != out->type) || ((d->epilogue & 128) && d->aux_type != out->type))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (emu_listed("CUDA_EMU_REFUSE", emu_epilogue(d->epilogue)) ||
        (emu_listed("CUDA_EMU_REFUSE", "odd") && emu_odd(a, b, out)))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (uint64_t number = 1; number <= 2 && *found < wanted; number++) {
        uint64_t workspace = number == 1 ? 0 : out->rows * out->cols * 4;
        if (workspace > p->workspace || (number == 2 && !(p->schemes & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)))
            continue;
        cublasLtMatmulHeuristicResult_t *r = &results[(*found)++];
        memset(r, 0, sizeof *r);
        r->algo.data[0] = number, r->algo.data[1] = r->workspaceSize = workspace;
        for (int i = 0; i < 4; i++) r->algo.data[2 + i] = p->alignment[i];
    }
    return CUBLAS_STATUS_SUCCESS;
}

// Is it one of this library's? Not one of an older library, from a file.
static inline bool emu_known(const cublasLtMatmulAlgo_t *algo) {
    bool known = algo->data[0] == 1 || algo->data[0] == 2;
    for (int i = 0; i < 4; i++) known &= algo->data[2 + i] != 0;
    return known;
}
static inline cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                                     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                     cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *algo,
                                                     cublasLtMatmulHeuristicResult_t *result) {
    memset(result, 0, sizeof *result);
    result->workspaceSize = algo->data[1];
    return emu_known(algo) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static inline float emu_element(const void *p, cudaDataType_t type, size_t i) {
    return type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)p)[i]) : ((const float *)p)[i];
}
static inline void emu_store(void *p, cudaDataType_t type, size_t i, float v) {
    if (type == CUDA_R_16BF) ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
    else ((float *)p)[i] = v;
}
// GELU in its tanh form, and its slope
static inline float emu_gelu(float x) { return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x))); }
static inline float emu_gelu_slope(float x) {
    float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 3 * 0.044715f * x * x);
}

static inline float emu_tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & ~0x1fffu;
    memcpy(&x, &bits, 4);
    return x;
}

// rows x k floats, k contiguous, of op(A) or of the transpose of op(B)
static inline std::vector<float> emu_panel(const void *p, const EmuLayout &l, bool k_is_rows, bool tf32) {
    size_t rows = k_is_rows ? l.cols : l.rows, k = k_is_rows ? l.rows : l.cols;
    std::vector<float> out(rows * k);
    for (size_t c = 0; c < l.cols; c++)
        for (size_t r = 0; r < l.rows; r++)
            out[k_is_rows ? c * k + r : r * k + c] = emu_element(p, l.type, r + c * (size_t)l.ld);
    for (float &x : out)
        if (tf32) x = emu_tf32(x);
    return out;
}

static inline void emu_matmul(EmuMatmul e, float alpha, const void *A, EmuLayout la, const void *B, EmuLayout lb,
                              float beta, const void *C, EmuLayout lc, void *D, EmuLayout ld) {
    std::vector<float> a = emu_panel(A, la, e.transa == CUBLAS_OP_T, e.tf32),
                       b = emu_panel(B, lb, e.transb == CUBLAS_OP_N, e.tf32);
    size_t m = ld.rows, n = ld.cols, k = a.size() / m;
    for (size_t j = 0; j < n; j++) {
        if (e.epilogue == CUBLASLT_EPILOGUE_BGRADB) {
            float sum = 0;
            for (size_t i = 0; i < k; i++) sum += b[j * k + i];
            emu_store(e.bias, ld.type, j, sum);
        }
        for (size_t i = 0; i < m; i++) {
            const float *x = &a[i * k], *y = &b[j * k];
            float s[16] = {0}, sum = 0;
            size_t l = 0;
            for (; l + 16 <= k; l += 16)
                for (int v = 0; v < 16; v++) s[v] += x[l + (size_t)v] * y[l + (size_t)v];
            for (; l < k; l++) sum += x[l] * y[l];
            for (int v = 0; v < 16; v++) sum += s[v];
            sum *= alpha;
            if (beta != 0) sum += beta * emu_element(C, lc.type, i + j * (size_t)lc.ld);
            if (e.epilogue & CUBLASLT_EPILOGUE_BIAS) sum += emu_element(e.bias, ld.type, i);
            if ((e.epilogue & ~4u) == CUBLASLT_EPILOGUE_GELU_AUX) {
                emu_store(e.aux, ld.type, i + j * (size_t)e.aux_ld, sum);
                sum = emu_gelu(sum);
            }
            if (e.epilogue == CUBLASLT_EPILOGUE_DGELU)
                sum *= emu_gelu_slope(emu_element(e.aux, ld.type, i + j * (size_t)e.aux_ld));
            emu_store(D, ld.type, i + j * (size_t)ld.ld, sum);
        }
    }
    if (e.epilogue == CUBLASLT_EPILOGUE_DEFAULT || !emu_listed("CUDA_EMU_WRONG", emu_epilogue(e.epilogue))) return;
    bool gradient = e.epilogue == CUBLASLT_EPILOGUE_BGRADB;
    void *spoilt = gradient ? e.bias : D;
    size_t last = gradient ? n - 1 : m - 1 + (n - 1) * (size_t)ld.ld;
    emu_store(spoilt, ld.type, last, 1.75f * emu_element(spoilt, ld.type, last));
}

static inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *A,
                                            cublasLtMatrixLayout_t la, const void *B, cublasLtMatrixLayout_t lb,
                                            const void *beta, const void *C, cublasLtMatrixLayout_t lc, void *D,
                                            cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t *algo,
                                            void *workspace, size_t bytes, cudaStream_t stream) {
    if (!algo || !emu_known(algo)) return CUBLAS_STATUS_INVALID_VALUE;
    const void *pointers[] = {A, B, C, D};
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)pointers[i] % algo->data[2 + i]) return CUBLAS_STATUS_INVALID_VALUE;
    if (emu_listed("CUDA_EMU_REFUSE", "late") && emu_odd(la, lb, ld)) return CUBLAS_STATUS_NOT_SUPPORTED;
    size_t needed = algo->data[1];
    if (needed && (bytes < needed || !workspace || (uintptr_t)workspace % 16)) return CUBLAS_STATUS_INVALID_VALUE;
    if ((d->epilogue & 128) && (uintptr_t)d->aux % 16) return CUBLAS_STATUS_INVALID_VALUE;
    EmuMatmul e = *d;
    EmuLayout a = *la, b = *lb, c = *lc, out = *ld;
    float x = *(const float *)alpha, y = *(const float *)beta;
    emu_submit(stream, [=]() {
        if (needed) memset(workspace, 0xff, needed); // NaN: nobody else may keep anything there
        emu_matmul(e, x, A, a, B, b, y, C, c, D, out);
    });
    return CUBLAS_STATUS_SUCCESS;
}

#endif
