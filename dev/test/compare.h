/*
compare.h: two dumps (the verb `dump`) of the same model and tokens, tensor by tensor: `test_gpt compare`.

For each tensor: shape, largest absolute error, relative L2 error |A - B| / |A|, the bound on it and
where the bound comes from. A is the reference (train_gpt_cpu), B the program under test. Exit code 1
if a bound is passed, a number is not finite, or a tensor is missing that must be there.

Bounds for fp32. Both programs add the same numbers in another order: a sum of K products is off by
about sqrt(K) 2^-24, 3e-6 for K = 4096. 1e-5 for activations; gradients pass through twice as many
sums, some of which cancel: 1e-4.

Bounds for bf16. Storing a number rounds it by a relative error of at most 2^-8, in the root mean square
1.65e-3 = U (the reference's embedding, rounded, is off by just that). Errors of different roundings
are independent, so R roundings on the way to a tensor give U sqrt(R), and the bound is 2 U sqrt(R):
the 2 is for what multiplies errors on the way (gate x up: both factors err; softmax). This holds for
weights as they are initialised; the fixture models, with weights 10 times as large on 24 channels,
multiply more (logits 2e-2, gradients 6e-2), whatever computes them. R is counted below for a tensor of layer l: 4
for what enters the layer's product (weight, norm's weight, norm, result), 2 for each layer before (the
residual stream is rounded twice a layer); gradients see the roundings forwards and backwards. No bound
is above 3e-2. Means of LayerNorm are sums that cancel: what is left is compared with what went in. So with the keys'
bias, of whose gradient the softmax takes away what is the same for every key: its bound grows by what A says was lost,
sqrt(sum of |dk|^2) / |sum of dk|. Likewise with the two numbers of xIELU, sums of one number over all of fc, which may
cancel to anything: there the 3e-2 grows, too. An adapter adds to a product's result, which is rounded once more, the
residual stream twice more a layer, and the gradient of what goes in once more.
Gradients must also point the same way: cosine >= 0.999.

updated.NAME is not an arithmetic of its own: after one step of Adam a weight has moved by the rate
times the sign of its gradient, so gradients that are zero but for rounding (the keys' bias has none)
give steps that differ in sign. Weights that start at zero are therefore shown, not judged, in bf16;
others are judged by 3e-2, and by 1e-3 in fp32.
*/
#ifndef DEV_TEST_COMPARE_H
#define DEV_TEST_COMPARE_H

#include "../../llmc/files/safetensors.h"
#include "../../llmc/model.h"
#include <math.h>

#define COMPARE_U 1.65e-3

// The layer in "act.layer.3.qkv", "grad.model.layers.3. ...", "grad.transformer.h.3. ..."; -1: none.
static inline int compare_layer(const char *name) {
    static const char *const before[] = {"layer.", "layers.", ".h."};
    for (int i = 0; i < 3; i++) {
        const char *at = strstr(name, before[i]);
        if (at) return atoi(at + strlen(before[i]));
    }
    return -1;
}

// Gradients of parameters and of activations.
static inline bool compare_is_gradient(const char *name) {
    return strncmp(name, "grad.", 5) == 0 || strncmp(name, "dact.", 5) == 0;
}

// Activations may be missing (recomputation gives them up), and their gradients (a fused kernel never makes them).
static inline bool compare_may_miss(const char *name) {
    return strncmp(name, "act.", 4) == 0 || strncmp(name, "dact.", 5) == 0;
}

static inline bool compare_has(const char *name, const char *part) { return strstr(name, part) != NULL; }

// The bound on the relative L2 error of a tensor, and its reason. INFINITY: shown, not judged.
// cancelled: compare_cancelled of it.
static inline double compare_bound(const char **reason, const char *name, int layers, bool bf16, double cancelled) {
    // What the backward pass leaves in the adapters' scratch memory is a gradient.
    bool gradient = compare_is_gradient(name) || strcmp(name, "act.lora_x") == 0,
         updated = strncmp(name, "updated.", 8) == 0;
    int layer = compare_layer(name), depth = layer >= 0 ? layer : layers;
    if (strcmp(name, "tokens") == 0 || strcmp(name, "targets") == 0) return *reason = "input", 0.0;
    if (updated) {
        bool zero_start = compare_has(name, ".bias");
        if (bf16 && zero_start)
            return *reason = "not judged: starts at 0, one step is the gradient's sign", (double)INFINITY;
        return *reason = "signs of gradients near 0", bf16 ? 3e-2 : 1e-3;
    }
    if (!bf16) {
        if (gradient) return *reason = "sums in another order, forwards and backwards", 1e-4;
        return *reason = "sums in another order", 1e-5;
    }
    double roundings = 4 + 2 * depth, most = 3e-2;
    *reason = "2 U sqrt(4 + 2 layer)";
    if (gradient) {
        roundings = 12 + 4 * layers;
        *reason = "2 U sqrt(12 + 4 layers)";
        if (compare_has(name, "norm") || compare_has(name, "ln_")) {
            roundings *= 4;
            *reason = "4 U sqrt(12 + 4 layers): a short vector of sums that cancel";
        }
    } else if (strcmp(name, "loss") == 0) {
        roundings = 0.25;
        *reason = "U: a mean over all tokens";
    } else if (strcmp(name, "act.embedding") == 0) {
        roundings = 2;
        *reason = "2 U sqrt(2): weight, result";
    } else if (compare_has(name, "mean")) {
        roundings *= 4;
        *reason = "4 U sqrt(4 + 2 layer): cancels";
    } else if (compare_has(name, "mlp") || strcmp(name, "logits") == 0) {
        roundings += 4;
        *reason = "2 U sqrt(8 + 2 layer): a product behind a product";
    }
    if (compare_has(name, "lora_")) { // A or B between what comes in and goes out
        roundings += gradient ? 6 + 2 * layers : 4;
        *reason = gradient ? "2 U sqrt(18 + 6 layers): a product behind a product"
                           : "2 U sqrt(8 + 2 layer): a product behind a product";
    }
    if (compare_has(name, "act_fn")) most *= cancelled;
    if (cancelled > 1) *reason = "2 U sqrt(12 + 4 layers), times what cancels";
    double bound = 2 * COMPARE_U * sqrt(roundings) * cancelled;
    if (bound > most) {
        *reason = "most that is allowed";
        bound = most;
    }
    return bound;
}

// A tensor's numbers as floats (integers too); NULL for a type that cannot be compared. Freed with free().
static inline float *compare_values(const SafeTensor *t, Error *err) {
    float *v = (float *)mem_alloc(sizeof(float) * (size_t)(t->elements + 1));
    if (t->dtype == ST_I32) {
        for (int64_t i = 0; i < t->elements; i++) {
            int32_t x;
            memcpy(&x, (const char *)t->data + 4 * i, 4);
            v[i] = (float)x;
        }
        return v;
    }
    if (safetensors_to_f32(v, t, 0, t->elements, err)) return v;
    free(v);
    return NULL;
}

// The same of a number of xIELU, whose gradient is the sum over fc of d x^2 above 0, or of d (e^x - 1 - x) below.
static inline double compare_cancelled_alpha(const SafeTensors *a, const SafeTensor *alpha) {
    Error err;
    bool above = compare_has(alpha->name, "alpha_p");
    const SafeTensor *t[2] = {safetensors_find(a, path_of("act.layer.%d.fc", compare_layer(alpha->name)).text),
                              safetensors_find(a, path_of("dact.layer.%d.mlp", compare_layer(alpha->name)).text)};
    if (!t[0] || !t[1] || t[0]->elements != t[1]->elements) return 1;
    float *x = compare_values(t[0], &err), *d = compare_values(t[1], &err);
    double sum = 0, squares = 0;
    if (!x || !d) fail("%s: %s", alpha->name, err.text);
    for (int64_t i = 0; i < t[0]->elements; i++) {
        double v = (double)x[i], part = (double)d[i] * (v > 0 ? v * v : expm1(v) - v);
        if ((v > 0) == above) sum += part, squares += part * part;
    }
    free(x), free(d);
    return squares > sum * sum ? sqrt(squares) / fabs(sum) : 1;
}

// How much longer the gradients of keys (N, NK) are than their sum, the gradient of their bias; 1: another tensor, or
// not longer.
static inline double compare_cancelled(const SafeTensors *a, const SafeTensor *bias) {
    Error err;
    Path name = path_of("dact.layer.%d.qkv", compare_layer(bias->name));
    const SafeTensor *t = safetensors_find(a, name.text);
    if (strncmp(bias->name, "grad.", 5) == 0 && compare_has(bias->name, "act_fn.alpha"))
        return compare_cancelled_alpha(a, bias);
    if (!t || t->ndim != 3 || strncmp(bias->name, "grad.", 5) != 0 || !compare_has(bias->name, "k_proj.bias")) return 1;
    int64_t rows = t->shape[0] * t->shape[1], width = t->shape[2], NK = bias->elements, first = width - 2 * NK;
    float *d = compare_values(t, &err);
    if (!d || first < 0) fail("%s does not go with %s", name.text, bias->name);
    double *sum = (double *)mem_alloc(sizeof(double) * (size_t)NK), squares = 0, left = 0;
    for (int64_t i = 0; i < NK; i++) {
        sum[i] = 0;
        for (int64_t r = 0; r < rows; r++) {
            double x = (double)d[r * width + first + i];
            sum[i] += x, squares += x * x;
        }
        left += sum[i] * sum[i];
    }
    free(d), free(sum);
    return left > 0 && squares > left ? sqrt(squares / left) : 1;
}

// Says which gradient of an activation is the first to be wrong, in the order in which BACKWARD computes them, and in
// which step it is written. wrong: (a->count)
static inline void compare_say_step(const SafeTensors *a, const bool *wrong, int layers) {
    int rows;
    const BackwardRow *backward = backward_rows(&rows);
    Config c = config_of_family(0);
    ActTable acts = act_table(&c, 1, 1, RECOMPUTE_NONE, 1, 1);
    for (int l = layers; l >= -1; l--) // behind the layers, the layers, before them
        for (int i = 0; i < rows; i++) {
            const Act *act = &acts.items[backward[i].kind];
            if (act->place != (l == layers ? PLACE_END : l < 0 ? PLACE_START : PLACE_LAYER)) continue;
            Path name =
                act->place == PLACE_LAYER ? path_of("dact.layer.%d.%s", l, act->name) : path_of("dact.%s", act->name);
            const SafeTensor *t = safetensors_find(a, name.text);
            if (!t || !wrong[t - a->tensors]) continue;
            printf("the backward pass goes wrong in step %d: %s\n", backward[i].written, name.text);
            return;
        }
}

// Prints the table and returns the exit code: 0, or 1 if anything is out of bounds. bf16: B was computed
// in bf16. Behind the table: where in the order of the backward pass the first gradient goes wrong.
static inline int compare_dumps(const char *path_a, const char *path_b, bool bf16) {
    SafeTensors a, b;
    Error err;
    if (!safetensors_open(&a, path_a, &err) || !safetensors_open(&b, path_b, &err)) fail("%s", err.text);
    int layers = 0, compared = 0, failed = 0;
    bool *wrong = (bool *)mem_alloc(sizeof(bool) * (size_t)(a.count + 1)); // (a.count)
    for (int i = 0; i < a.count; i++)
        if (compare_layer(a.tensors[i].name) >= layers) layers = compare_layer(a.tensors[i].name) + 1;
    printf("%-52s %-18s %10s %10s %10s %10s  %s\n", "tensor", "shape", "max abs", "rel L2", "bound", "1-cosine",
           "reason");
    for (int i = 0; i < b.count; i++)
        if (!safetensors_find(&a, b.tensors[i].name) && !compare_may_miss(b.tensors[i].name)) {
            printf("%-52s only in %s  FAILED\n", b.tensors[i].name, path_b);
            failed++;
        }
    for (int i = 0; i < a.count; i++) {
        const SafeTensor *x = &a.tensors[i], *y = safetensors_find(&b, x->name);
        char shape[160];
        safetensor_shape(shape, x->ndim, x->shape);
        if (!y) {
            bool fine = compare_may_miss(x->name);
            printf("%-52s %-18s not in %s%s\n", x->name, shape, path_b, fine ? "" : "  FAILED");
            failed += !fine;
            continue;
        }
        if (x->elements != y->elements || x->ndim != y->ndim ||
            memcmp(x->shape, y->shape, sizeof(int64_t) * (size_t)x->ndim) != 0) {
            printf("%-52s %-18s has another shape in %s  FAILED\n", x->name, shape, path_b);
            failed++;
            continue;
        }
        float *p = compare_values(x, &err), *q = p ? compare_values(y, &err) : NULL;
        if (!q) fail("%s", err.text);
        double most = 0, difference = 0, pp = 0, qq = 0, pq = 0;
        bool finite = true;
        for (int64_t k = 0; k < x->elements; k++) {
            double u = (double)p[k], v = (double)q[k], d = fabs(u - v);
            if (!isfinite(u) || !isfinite(v)) finite = false;
            if (d > most) most = d;
            difference += d * d;
            pp += u * u;
            qq += v * v;
            pq += u * v;
        }
        free(p);
        free(q);
        const char *reason;
        double bound = compare_bound(&reason, x->name, layers, bf16, compare_cancelled(&a, x)),
               relative = pp > 0           ? sqrt(difference / pp)
                          : difference > 0 ? (double)INFINITY
                                           : 0.0;
        double cosine = pp > 0 && qq > 0 ? pq / sqrt(pp) / sqrt(qq) : pp == qq ? 1.0 : 0.0;
        bool ok = finite && !(relative > bound);
        if (compare_is_gradient(x->name) && !(cosine >= 0.999)) {
            ok = false;
            reason = "cosine below 0.999";
        }
        printf("%-52s %-18s %10.2e %10.2e %10.2e %10.1e  %s%s\n", x->name, shape, most, relative, bound, 1 - cosine,
               ok       ? ""
               : finite ? "FAILED: "
                        : "FAILED, not finite: ",
               reason);
        compared++;
        failed += !ok;
        wrong[i] = !ok;
    }
    compare_say_step(&a, wrong, layers);
    free(wrong);
    printf("%d tensors compared, %d failed\n", compared, failed);
    safetensors_close(&a);
    safetensors_close(&b);
    return failed || !compared;
}

#endif
