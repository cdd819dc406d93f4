/*
cuda_reference.c: the CPU kernels in double, under names of their own, for cuda_test.cu to compare with.
Built with -DREAL_DOUBLE. Shapes are those of llmc/cpu.
*/
#ifndef REAL_DOUBLE
#error "the reference is built with -DREAL_DOUBLE"
#endif
#include "../../llmc/cpu/attention.h"
#include "../../llmc/cpu/distill.h"
#include "../../llmc/cpu/embedding.h"
#include "../../llmc/cpu/gemm.h"
#include "../../llmc/cpu/loss.h"
#include "../../llmc/cpu/mlp.h"
#include "../../llmc/cpu/muon.h"
#include "../../llmc/cpu/norm.h"
#include "../../llmc/cpu/objective.h"
#include "../../llmc/cpu/optimizer.h"
#include "../../llmc/cpu/rope.h"
#include "../../llmc/cpu/xielu.h"

static Cpu cpu;

void ref_open(void) {
    Error err;
    if (!cpu_open(&cpu, 1, &err)) fail("%s", err.text);
}
void ref_close(void) { cpu_close(&cpu); }
void ref_norm_forward(double *y, double *mean, double *rstd, const double *x, const double *w, const double *b, int N,
                      int C, double eps) {
    Norm norm = {w, b, mean, rstd, N, C, eps};
    norm_forward(y, x, norm, &cpu);
}
void ref_norm_backward(double *dx, double *dw, double *db, const double *dy, const double *x, const double *w,
                       const double *mean, const double *rstd, int N, int C) {
    Norm norm = {w, NULL, (double *)mean, (double *)rstd, N, C, 0};
    norm_backward(dx, dw, db, dy, x, norm, &cpu);
}
void ref_linear_forward(double *y, const double *x, const double *w, const double *b, const double *residual, int N,
                        int C, int OC) {
    LinearShape shape = {N, C, OC};
    linear_forward(y, x, matrix_of(w), b, residual, shape, &cpu);
}
void ref_linear_backward_input(double *dx, const double *dy, const double *w, int N, int C, int OC) {
    LinearShape shape = {N, C, OC};
    linear_backward_input(dx, dy, matrix_of(w), shape, &cpu);
}
void ref_linear_backward_weight(double *dw, double *db, const double *dy, const double *x, int N, int C, int OC) {
    LinearShape shape = {N, C, OC};
    linear_backward_weight(dw, db, dy, x, shape, &cpu);
}
void ref_mlp_forward(double *mlp, const double *fc, int N, int F, int activation, bool gated) {
    mlp_forward(mlp, fc, N, F, activation, gated, &cpu);
}
void ref_mlp_backward(double *dfc, const double *dmlp, const double *fc, int N, int F, int activation, bool gated) {
    mlp_backward(dfc, dmlp, fc, N, F, activation, gated, &cpu);
}
void ref_xielu_forward(double *mlp, const double *fc, const double *learned, const double *fixed, int N, int F) {
    xielu_forward(mlp, fc, learned, fixed, N, F, &cpu);
}
void ref_xielu_backward(double *dfc, double *dlearned, const double *dmlp, const double *fc, const double *learned,
                        const double *fixed, int N, int F) {
    xielu_backward(dfc, dlearned, dmlp, fc, learned, fixed, N, F, &cpu);
}
void ref_rope_table(double *rope, int T, const Config *c) { rope_table(rope, T, c); }
void ref_qk_forward(double *qk, double *rstd, const double *qkv, const double *qw, const double *kw, const double *rope,
                    int first, int B, int T, int NH, int NKV, int HS, double eps) {
    Rotation r = {qw, kw, rstd, rope, HS, first, eps, {B, T, T, NH, NKV, HS, 1, 0, NULL}};
    qk_forward(qk, qkv, r, &cpu);
}
void ref_qk_backward(double *dqkv, double *dqw, double *dkw, const double *dqk, const double *qkv, const double *rstd,
                     const double *qw, const double *kw, const double *rope, int B, int T, int NH, int NKV, int HS) {
    Rotation r = {qw, kw, (double *)rstd, rope, HS, 0, 0, {B, T, T, NH, NKV, HS, 1, 0, NULL}};
    qk_backward(dqkv, dqw, dkw, dqk, qkv, r, &cpu);
}
void ref_embedding_forward(double *x, const int32_t *tokens, const double *wte, const double *wpe, int first, int B,
                           int T, int C) {
    embedding_forward(x, (TokenRows){tokens, NULL, first, B, T}, matrix_of(wte), matrix_of(wpe), C, &cpu);
}
void ref_embedding_backward(double *dwte, double *dwpe, const double *dx, const int32_t *tokens, int B, int T, int C,
                            int V) {
    (void)V;
    embedding_backward(dwte, dwpe, dx, (TokenRows){tokens, NULL, 0, B, T}, C, &cpu);
}
void ref_cross_entropy(double *losses, double *logits, const int32_t *targets, const double *weights, double dscale,
                       int N, int V) {
    cross_entropy(losses, logits, targets, weights, dscale, N, V, &cpu);
}
double ref_objective_weights(double *weights, double *figures, const double *losses, const PairBatch *pairs, int N) {
    return objective_weights(weights, figures, losses, pairs, N, &cpu);
}
// rule: scale, alpha, temperature. parts (2, N): cross entropy and divergence
void ref_distill(double *losses, double *parts, double *logits, const double *teacher, const int32_t *targets,
                 const double *rule, int N, int V) {
    DistillShape shape = {N, V, rule[0], rule[1], rule[2]};
    distill(losses, parts, parts + N, logits, teacher, targets, shape, &cpu);
}
double ref_sum_of_squares(const double *x, size_t n) { return sum_of_squares(x, n, &cpu); }
void ref_adamw(double *w, double *m, double *v, const double *g, size_t n, double lr, double beta1, double beta2,
               double eps, double decay, int64_t step, double scale) {
    GroupRule group = {lr, beta1, beta2, eps, decay};
    UpdateRule rule = update_rule(step, group, 0);
    ParamRun run = {w, g, {m, v}, n};
    adamw(run, &rule, GROUP_MATRIX, scale, &cpu);
}
// rule: fields as in MuonRule; a NULL row_moment is Muon.
void ref_muon(double *w, double *m, double *row_moment, const double *g, int rows, int cols, MuonRule rule, double lr,
              double decay, double scale) {
    GroupRule group = {lr, 0, 0, 0, decay};
    MuonMatrix matrix = {w, g, m, row_moment, rows, cols};
    double *scratch = (double *)mem_alloc(sizeof(double) * muon_scratch(rows, cols, MUON_SQUARES));
    muon_update(matrix, &rule, &group, scale, scratch, &cpu);
    free(scratch);
}
