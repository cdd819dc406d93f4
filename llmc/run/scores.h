/*
scores.h: from the log likelihoods of requests (score.h) to accuracies, and what is printed of them.

As lm-evaluation-harness counts (0.4.13, lm_eval/api/task.py and metrics.py):

    acc         the choice of the highest log likelihood is the right one; of equal ones the first counts
    acc_norm    the same of log likelihoods over the choices' lengths in Unicode characters
    acc_bytes   the same over their UTF-8 bytes
    acc of a continuation: each of its tokens is the likeliest; perplexity: exp of the mean of -log likelihood
    standard errors: the sample's standard deviation (n - 1) over the root of n; null for one item
    byte_perplexity, bits_per_byte of documents: the sum of -log likelihood over the sum of bytes

Beside that: loss, the mean of -log likelihood over the tokens of what is right; perplexity's standard error by its
slope (the harness draws samples at random), and 95% confidence intervals of bits per byte and per character, in which
documents are what was drawn from many, and not their tokens: a ratio's linearised variance (Cochran, Sampling
Techniques, 1977, 6.4).
*/
#ifndef LLMC_SCORES_H
#define LLMC_SCORES_H

#include "metrics.h"
#include "tasks.h"

#define NATS_A_BIT 0.69314718055994530942

// Sums over items from which mean and standard error come.
typedef struct {
    double sum, squares;
} ScoreSums;

// X(id): yes or no of an item with choices
#define ACCURACIES(X) X(acc) X(acc_norm) X(acc_bytes)
enum {
#define X(id) SCORE_##id,
    ACCURACIES(X)
#undef X
        SCORE_ACCURACIES
};

// Of a task, or of a group of it.
typedef struct {
    int64_t items;
    ScoreSums right[SCORE_ACCURACIES], likelihood; // likelihood: log, of what is right
    double nats, tokens, bytes, chars;             // of what is right
    double bytes_variance, chars_variance;         // of nats over them, document by document
} TaskScore;

static inline void score_add(ScoreSums *s, double x) { s->sum += x, s->squares += x * x; }

static inline double score_stderr(const ScoreSums *s, int64_t n) {
    double mean = s->sum / (double)n, rest = s->squares - (double)n * mean * mean;
    return n > 1 ? sqrt(fmax(rest, 0) / (double)(n - 1) / (double)n) : (double)NAN;
}

// What the model chooses: log likelihoods over 1, characters or bytes.
static inline int item_choice(const TaskSet *set, const TaskItem *item, int accuracy) {
    const TaskRequest *q = &set->requests[item->first];
    int best = 0;
    double most = -INFINITY;
    for (int i = 0; i < item->count; i++) {
        double length = accuracy == SCORE_acc_norm    ? (double)q[i].chars
                        : accuracy == SCORE_acc_bytes ? (double)q[i].bytes
                                                      : 1;
        if (q[i].loglikelihood / length > most) best = i, most = q[i].loglikelihood / length;
    }
    return best;
}

// The requests that say how likely the right text is: one, or the windows of a document.
static inline void item_right(const Task *task, const TaskItem *item, int *first, int *count) {
    bool whole = task->form == TASK_TEXT;
    *first = item->first + (whole ? 0 : item->answer);
    *count = whole ? item->count : 1;
}

static inline void score_add_item(TaskScore *s, const TaskSet *set, const Task *task, const TaskItem *item) {
    int first, count;
    double nats = 0;
    item_right(task, item, &first, &count);
    for (int i = first; i < first + count; i++) {
        const TaskRequest *q = &set->requests[i];
        nats -= q->loglikelihood;
        s->tokens += q->scored, s->bytes += (double)q->bytes, s->chars += (double)q->chars;
    }
    s->items++;
    s->nats += nats;
    score_add(&s->likelihood, -nats);
    if (task->form == TASK_CONTINUATION) score_add(&s->right[SCORE_acc], set->requests[first].is_greedy);
    for (int k = 0; k < SCORE_ACCURACIES && (task->form == TASK_CHOICES || task->form == TASK_PAIRS); k++)
        score_add(&s->right[k], item_choice(set, item, k) == item->answer);
}

// The variance of the ratio of sums: of each document's nats against what its length alone would give.
static inline void score_add_variance(TaskScore *s, const TaskSet *set, const TaskItem *item) {
    const TaskRequest *q = &set->requests[item->first];
    double nats = 0, n = (double)s->items;
    for (int i = 0; i < item->count; i++) nats -= q[i].loglikelihood;
    double by_bytes = (nats - s->nats / s->bytes * (double)q->bytes) / s->bytes;
    double by_chars = (nats - s->nats / s->chars * (double)q->chars) / s->chars;
    if (n < 2) return;
    s->bytes_variance += n / (n - 1) * by_bytes * by_bytes;
    s->chars_variance += n / (n - 1) * by_chars * by_chars;
}

// scores (1 + groups): of the task, then of each of its groups
static inline TaskScore *task_scores(const TaskSet *set, const Task *task) {
    TaskScore *scores = (TaskScore *)mem_alloc(sizeof(TaskScore) * (size_t)(1 + task->groups.count));
    for (size_t i = 0; i < task->count; i++) {
        const TaskItem *item = &task->items[i];
        score_add_item(&scores[0], set, task, item);
        if (item->group >= 0) score_add_item(&scores[1 + item->group], set, task, item);
    }
    for (size_t i = 0; i < task->count && task->form == TASK_TEXT; i++) {
        const TaskItem *item = &task->items[i];
        score_add_variance(&scores[0], set, item);
        if (item->group >= 0) score_add_variance(&scores[1 + item->group], set, item);
    }
    return scores;
}

// ---------------------------------------------------------------- as JSON

// `, "NAME": ratio in bits, "NAME_low": ..., "NAME_high": ...`: of nats over a length, with the interval.
static inline void score_bits(Str *s, const char *name, double nats, double length, double variance, int64_t items) {
    char bound[64];
    double bits = nats / length / NATS_A_BIT, side = 1.959964 * sqrt(variance) / NATS_A_BIT;
    if (items < 2) side = (double)NAN;
    str_puts(s, ", "), metrics_number(s, name, bits);
    snprintf(bound, sizeof bound, "%s_low", name);
    str_puts(s, ", "), metrics_number(s, bound, bits - side);
    snprintf(bound, sizeof bound, "%s_high", name);
    str_puts(s, ", "), metrics_number(s, bound, bits + side);
}

// `"items": 3, "acc": 0.5, "acc_stderr": ...`
static inline void score_json(Str *s, const TaskScore *t, TaskForm form) {
    static const char *const names[SCORE_ACCURACIES][2] = {
#define X(id) {#id, #id "_stderr"},
        ACCURACIES(X)
#undef X
    };
    int accuracies = form == TASK_TEXT ? 0 : form == TASK_CONTINUATION ? 1 : SCORE_ACCURACIES;
    double n = (double)t->items, loss = t->nats / t->tokens;
    str_printf(s, "\"items\": %lld", (long long)t->items);
    for (int k = 0; k < accuracies; k++) {
        str_puts(s, ", "), metrics_number(s, names[k][0], t->right[k].sum / n);
        str_puts(s, ", "), metrics_number(s, names[k][1], score_stderr(&t->right[k], t->items));
    }
    if (form == TASK_CONTINUATION) {
        double perplexity = exp(t->nats / n);
        str_puts(s, ", "), metrics_number(s, "perplexity", perplexity);
        str_puts(s, ", "), metrics_number(s, "perplexity_stderr", perplexity * score_stderr(&t->likelihood, t->items));
    }
    str_puts(s, ", "), metrics_number(s, "loss", loss);
    if (form != TASK_TEXT) return;
    str_puts(s, ", "), metrics_number(s, "perplexity", exp(loss));
    str_puts(s, ", "), metrics_number(s, "byte_perplexity", exp(t->nats / t->bytes));
    score_bits(s, "bits_per_byte", t->nats, t->bytes, t->bytes_variance, t->items);
    score_bits(s, "bits_per_char", t->nats, t->chars, t->chars_variance, t->items);
    str_printf(s, ", \"tokens\": %.0f, \"bytes\": %.0f, \"chars\": %.0f", t->tokens, t->bytes, t->chars);
}

// A task as one object; scores: of task_scores.
static inline void task_json(Str *s, const Task *task, const TaskScore *scores) {
    str_puts(s, "{\"task\": ");
    json_escape(s, task->name.text, strlen(task->name.text));
    str_printf(s, ", \"form\": \"%s\", ", task_form_name(task->form));
    score_json(s, &scores[0], task->form);
    if (task->truncated) str_printf(s, ", \"truncated\": %lld", (long long)task->truncated);
    for (int g = 0; g < task->groups.count; g++) {
        str_puts(s, g ? ", " : ", \"groups\": {");
        json_escape(s, task->groups.items[g], strlen(task->groups.items[g]));
        str_puts(s, ": {");
        score_json(s, &scores[1 + g], task->form);
        str_puts(s, "}");
    }
    str_puts(s, task->groups.count ? "}}" : "}");
}

// `, "eval_TASK_METRIC": x`, as a line of metrics.jsonl has it.
static inline void score_metric(Str *s, const Task *task, const char *metric, double x) {
    Path key = path_of("eval_%s_%s", task->name.text, metric);
    str_puts(s, ", ");
    json_escape(s, key.text, strlen(key.text));
    if (isfinite(x)) str_printf(s, ": %.9g", x);
    else str_puts(s, ": null");
}

// What a run records of a task at a step: pairs for metrics.jsonl, and a few words for people.
static inline void task_metrics(Str *pairs, Str *words, const Task *task, const TaskScore *t) {
    double n = (double)t->items, acc = t->right[SCORE_acc].sum / n, norm = t->right[SCORE_acc_norm].sum / n;
    bool choices = task->form == TASK_CHOICES || task->form == TASK_PAIRS;
    str_printf(words, "%s%s", words->size ? "; " : "", task->name.text);
    if (task->form != TASK_TEXT) {
        double error = score_stderr(&t->right[SCORE_acc], t->items);
        score_metric(pairs, task, "acc", acc);
        score_metric(pairs, task, "acc_stderr", error);
        str_printf(words, " %.1f%%", 100 * acc);
        if (isfinite(error)) str_printf(words, " +-%.1f", 100 * error);
    }
    if (choices) score_metric(pairs, task, "acc_norm", norm);
    if (task->form == TASK_CONTINUATION) score_metric(pairs, task, "perplexity", exp(t->nats / n));
    if (task->form == TASK_TEXT) {
        score_metric(pairs, task, "bits_per_byte", t->nats / t->bytes / NATS_A_BIT);
        str_printf(words, " %.4f bits/byte", t->nats / t->bytes / NATS_A_BIT);
    }
    score_metric(pairs, task, "loss", t->nats / t->tokens);
}

// A line for every item: its place, what was chosen, and all log likelihoods.
static inline void task_items_json(Str *s, const TaskSet *set, const Task *task) {
    for (size_t i = 0; i < task->count; i++) {
        const TaskItem *item = &task->items[i];
        int first, count;
        double nats = 0;
        item_right(task, item, &first, &count);
        str_puts(s, "{\"task\": ");
        json_escape(s, task->name.text, strlen(task->name.text));
        str_printf(s, ", \"line\": %d", item->line);
        if (item->group >= 0) str_puts(s, ", \"group\": ");
        if (item->group >= 0) json_escape(s, task->groups.items[item->group], strlen(task->groups.items[item->group]));
        if (task->form == TASK_CHOICES || task->form == TASK_PAIRS)
            str_printf(s, ", \"answer\": %d, \"choice\": %d, \"choice_norm\": %d, \"choice_bytes\": %d", item->answer,
                       item_choice(set, item, SCORE_acc), item_choice(set, item, SCORE_acc_norm),
                       item_choice(set, item, SCORE_acc_bytes));
        if (task->form == TASK_CONTINUATION)
            str_printf(s, ", \"greedy\": %s", set->requests[first].is_greedy ? "true" : "false");
        for (int j = first; j < first + count; j++) nats -= set->requests[j].loglikelihood;
        if (task->form == TASK_TEXT) {
            const TaskRequest *q = &set->requests[first];
            str_puts(s, ", "), metrics_number(s, "bits_per_byte", nats / (double)q->bytes / NATS_A_BIT);
            str_puts(s, ", "), metrics_number(s, "bits_per_char", nats / (double)q->chars / NATS_A_BIT);
        }
        str_puts(s, ", \"loglikelihoods\": [");
        for (int j = 0; j < item->count; j++) {
            if (j) str_puts(s, ", ");
            json_add_number(s, set->requests[item->first + j].loglikelihood);
        }
        str_puts(s, "]}\n");
    }
}

// ---------------------------------------------------------------- for people

static inline void score_percent(Str *s, const ScoreSums *sums, int64_t items) {
    double error = score_stderr(sums, items);
    if (isfinite(error)) str_printf(s, "  %5.1f%% +-%4.1f", 100 * sums->sum / (double)items, 100 * error);
    else str_printf(s, "  %5.1f%%       ", 100 * sums->sum / (double)items);
}

// A name of at most `width` characters, filled up to them.
static inline void score_name(Str *s, const char *indent, const char *name, int width) {
    Path shown = path_of("%s%s", indent, name);
    text_make_printable(shown.text);
    str_puts(s, shown.text);
    for (int64_t n = task_chars(shown.text, strlen(shown.text)); n < width; n++) str_puts(s, " ");
}

static inline void score_row(Str *s, const TaskScore *t, TaskForm form) {
    str_printf(s, "  %7lld", (long long)t->items);
    if (form == TASK_TEXT) {
        double side = 1.959964 / NATS_A_BIT;
        str_printf(s, "  %8.3f", exp(t->nats / t->tokens));
        str_printf(s, "  %6.4f +-%6.4f", t->nats / t->bytes / NATS_A_BIT, side * sqrt(t->bytes_variance));
        str_printf(s, "  %6.4f +-%6.4f", t->nats / t->chars / NATS_A_BIT, side * sqrt(t->chars_variance));
    } else if (form == TASK_CONTINUATION) {
        score_percent(s, &t->right[SCORE_acc], t->items);
        str_printf(s, "  %10.2f", exp(t->nats / (double)t->items));
    } else {
        for (int k = 0; k < SCORE_ACCURACIES; k++) score_percent(s, &t->right[k], t->items);
    }
    str_puts(s, "\n");
}

// A table of a task and its groups; the standard error (of documents: half the 95% interval) behind each figure.
static inline void task_table(Str *s, const Task *task, const TaskScore *scores) {
    static const char *const heads[TASK_FORM_COUNT] = {"acc             acc_norm        acc_bytes",
                                                       "acc             acc_norm        acc_bytes",
                                                       "acc             perplexity",
                                                       "perplexity  bits per byte    bits per char"};
    int64_t width = task_chars(task->name.text, strlen(task->name.text));
    for (int g = 0; g < task->groups.count; g++)
        width = int64_max(width, 2 + task_chars(task->groups.items[g], strlen(task->groups.items[g])));
    width = int64_min(width, 60);
    score_name(s, "", "", (int)width);
    str_printf(s, "    items   %s\n", heads[task->form]);
    score_name(s, "", task->name.text, (int)width);
    score_row(s, &scores[0], task->form);
    for (int g = 0; g < task->groups.count; g++) {
        score_name(s, "  ", task->groups.items[g], (int)width);
        score_row(s, &scores[1 + g], task->form);
    }
}

#endif
