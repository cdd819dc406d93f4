/*
cuda_reference.c: the CPU kernels in double, under names of their own, for cuda_test.cu to compare with.
Built with -DREAL_DOUBLE. Shapes are those of llmc/cpu.
*/
#ifndef REAL_DOUBLE
#error "the reference is built with -DREAL_DOUBLE"
#endif
#include "../../llmc/cpu/attention.h"
#include "../../llmc/cpu/embedding.h"
#include "../../llmc/cpu/gemm.h"
#include "../../llmc/cpu/loss.h"
#include "../../llmc/cpu/mlp.h"
#include "../../llmc/cpu/norm.h"
#include "../../llmc/cpu/optimizer.h"

static Cpu cpu;

void ref_open(void) {
    Error err;
    if (!cpu_open(&cpu, 1, false, &err)) fail("%s", err.text);
}
void ref_close(void) { cpu_close(&cpu); }
void ref_norm_forward(double *y, double *mean, double *rstd, const double *x, const double *w, const double *b, int N,
                      int C, double eps) {
    norm_forward(y, mean, rstd, x, w, b, N, C, eps, &cpu);
}
void ref_norm_backward(double *dx, double *dw, double *db, const double *dy, const double *x, const double *w,
                       const double *mean, const double *rstd, int N, int C) {
    norm_backward(dx, dw, db, dy, x, w, mean, rstd, N, C, &cpu);
}
void ref_linear_forward(double *y, const double *x, const double *w, const double *b, const double *residual, int N,
                        int C, int OC) {
    linear_forward(y, x, w, b, residual, N, C, OC, &cpu);
}
void ref_linear_backward_input(double *dx, const double *dy, const double *w, int N, int C, int OC) {
    linear_backward_input(dx, dy, w, false, N, C, OC, &cpu);
}
void ref_linear_backward_weight(double *dw, double *db, const double *dy, const double *x, int N, int C, int OC) {
    linear_backward_weight(dw, db, dy, x, N, C, OC, &cpu);
}
void ref_gelu_forward(double *y, const double *x, size_t n) { gelu_forward(y, x, n, &cpu); }
void ref_gelu_backward(double *dx, const double *dy, const double *x, size_t n) { gelu_backward(dx, dy, x, n, &cpu); }
void ref_swiglu_forward(double *y, const double *x, int N, int F) { swiglu_forward(y, x, N, F, &cpu); }
void ref_swiglu_backward(double *dx, const double *dy, const double *x, int N, int F) {
    swiglu_backward(dx, dy, x, N, F, &cpu);
}
void ref_rope_table(double *rope, int T, int HS, double theta) { rope_table(rope, T, HS, theta); }
void ref_qk_forward(double *qk, double *rstd, const double *qkv, const double *qw, const double *kw, const double *rope,
                    int first, int B, int T, int NH, int NKV, int HS, double eps) {
    qk_forward(qk, rstd, qkv, qw, kw, rope, first, B, T, NH, NKV, HS, eps, &cpu);
}
void ref_qk_backward(double *dqkv, double *dqw, double *dkw, const double *dqk, const double *qkv, const double *rstd,
                     const double *qw, const double *kw, const double *rope, int B, int T, int NH, int NKV, int HS) {
    qk_backward(dqkv, dqw, dkw, dqk, qkv, rstd, qw, kw, rope, B, T, NH, NKV, HS, &cpu);
}
void ref_embedding_forward(double *x, const int32_t *tokens, const double *wte, const double *wpe, int first, int B,
                           int T, int C) {
    embedding_forward(x, tokens, wte, wpe, first, B, T, C, &cpu);
}
void ref_embedding_backward(double *dwte, double *dwpe, const double *dx, const int32_t *tokens, int B, int T, int C,
                            int V) {
    embedding_backward(dwte, dwpe, dx, tokens, B, T, C, V, &cpu);
}
void ref_cross_entropy(double *losses, double *logits, const int32_t *targets, double dscale, int N, int V) {
    cross_entropy(losses, logits, targets, dscale, N, V, &cpu);
}
double ref_sum_of_squares(const double *x, size_t n) { return sum_of_squares(x, n, &cpu); }
void ref_adamw(double *w, double *m, double *v, const double *g, size_t n, double lr, double beta1, double beta2,
               double eps, double decay, int64_t step, double scale) {
    adamw(w, m, v, g, n, lr, beta1, beta2, eps, decay, step, scale, &cpu);
}
