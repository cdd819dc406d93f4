/*
report_page.h: RUN/report.html, one page that tells of a run, or compares several: curves, samples, tokenizer and data,
the model and its memory, restarts and events, what it cost. It stands alone: no network, no other file.

    report_write()    the page of a run's folder as it stands now; the training loop calls it at each checkpoint and at
                      the end, the verb `report` whenever somebody wants it
*/
#ifndef LLMC_REPORT_PAGE_H
#define LLMC_REPORT_PAGE_H

#include "html.h"
#include "info.h"
#include "parse.h"
#include "preflight.h"
#include "report_style.h"

#define REPORT_HEAD "<!DOCTYPE html>\n<html lang=\"en\">"
enum { REPORT_RUNS = 32 };

static inline double report_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---------------------------------------------------------------- rows

static inline void report_row(Str *s, const char *name, const char *value) {
    str_puts(s, "<tr><td class=\"soft\">");
    html_text(s, name);
    str_puts(s, "</td><td>");
    html_text(s, value);
    str_puts(s, "</td></tr>\n");
}

static inline void report_tile(Str *s, const char *name, const char *value, const char *more) {
    str_puts(s, "<div class=\"tile\"><span>");
    html_text(s, name);
    str_puts(s, "</span><b>");
    html_text(s, value);
    str_puts(s, "</b><small>");
    html_text(s, more);
    str_puts(s, "</small></div>\n");
}

// A member's name in words; an element of a list has none.
static inline Path report_words(const Json *j) {
    Path words = path_of("%.200s", j->key ? j->key : "");
    for (char *c = words.text; *c; c++)
        if (*c == '_') *c = ' ';
    return words;
}

// A value of a record as text.
static inline void report_value(Str *s, const Json *j) {
    if (json_is(j, JSON_BOOL)) str_puts(s, j->boolean ? "on" : "off");
    else if (json_is(j, JSON_NUMBER) || json_is(j, JSON_STRING)) str_add(s, j->text, j->size);
    else str_puts(s, "");
}

// ---------------------------------------------------------------- curves

typedef struct {
    const char *key;
    ChartLook look;
} ReportChart;

static const ReportChart report_charts[] = {
    {"loss", {"Training loss", "nats a token", 1, CHART_NOISY | CHART_CLIP | CHART_MARKS}},
    {"val_bits_per_byte", {"Validation", "bits a byte of text", 1, CHART_DOTS | CHART_CLIP}},
    {"val_loss", {"Validation loss", "nats a token", 1, CHART_DOTS | CHART_CLIP}},
    {"rewards/margins", {"Margin of rewards", "chosen less rejected", 1, CHART_NOISY}},
    {"rewards/accuracies", {"Pairs in the right order", "%, training", 100, CHART_NOISY | CHART_ZERO}},
    {"val_rewards/accuracies", {"Pairs in the right order", "%, validation", 100, CHART_DOTS | CHART_ZERO}},
    {"kl", {"Distance from the teacher", "nats a token", 1, CHART_NOISY | CHART_ZERO}},
    {"lr", {"Learning rate", "", 1, CHART_ZERO}},
    {"grad_norm", {"Gradient norm", "before clipping", 1, CHART_NOISY | CHART_ZERO | CHART_CLIP | CHART_MARKS}},
    {"tokens_per_s", {"Speed", "tokens a second", 1, CHART_NOISY | CHART_ZERO}},
    {"mfu", {"Share of the peak", "% of FLOP/s", 100, CHART_NOISY | CHART_ZERO}},
    {"gpu_power_w", {"Power", "W, GPU of rank 0", 1, CHART_NOISY | CHART_ZERO}},
    {"gpu_temperature_c",
     {"Temperature",
      "\xc2\xb0"
      "C, GPU of rank 0",
      1, CHART_NOISY}},
    {"gpu_memory_gb", {"Memory", "GB, GPU of rank 0", 1, CHART_ZERO}},
};
enum { REPORT_CHARTS = sizeof report_charts / sizeof *report_charts };

typedef struct {
    RunView *views[REPORT_RUNS];
    int count;
    Facts facts; // --facts of a single run: what only a person knows of its cost
} Report;

// What the loss of a run is counted in: that of --objective has no tokens.
static inline const char *report_loss_unit(const RunView *v) {
    return view_series(v, "rewards/margins") ? "mean over pairs of answers" : "nats a token";
}

static inline void report_curve(Str *s, const Report *r, const char *key, const ChartLook *look, int64_t steps) {
    ChartLine lines[REPORT_RUNS];
    ChartLook own = *look;
    if (strcmp(key, "loss") == 0 || strcmp(key, "val_loss") == 0) own.unit = report_loss_unit(r->views[0]);
    for (int i = 0; i < r->count; i++)
        lines[i].series = view_series(r->views[i], key), lines[i].colour = i % CHART_COLOURS;
    chart(s, &own, lines, r->count, r->count == 1 ? r->views[0] : NULL, steps);
}

// A score of an evaluation that is worth a curve: eval_TASK_METRIC.
static inline bool report_is_score(const char *key) {
    return strncmp(key, "eval_", 5) == 0 && !str_ends_with(key, "_stderr") && !str_ends_with(key, "_loss");
}

static inline void report_curves(Str *s, const Report *r) {
    int64_t steps = 0;
    for (int i = 0; i < r->count; i++) steps = int64_max(steps, r->views[i]->step);
    str_puts(s, "<h2>Curves</h2>\n<div class=\"charts\">\n");
    for (int i = 0; i < REPORT_CHARTS; i++) report_curve(s, r, report_charts[i].key, &report_charts[i].look, steps);
    for (int i = 0; i < r->count; i++)
        for (int k = 0; k < r->views[i]->series_count; k++) {
            const char *key = r->views[i]->series[k].name;
            bool shown = !report_is_score(key);
            for (int before = 0; before < i && !shown; before++) shown = view_series(r->views[before], key) != NULL;
            if (shown) continue;
            bool percent = str_ends_with(key, "_acc") || str_ends_with(key, "_acc_norm");
            ChartLook look = {key + 5, percent ? "%" : "evaluation", percent ? 100.0 : 1.0, CHART_DOTS};
            report_curve(s, r, key, &look, steps);
        }
    str_puts(s, "</div>\n");
    if (steps == 0) str_puts(s, "<p class=\"sub\">There is no step yet.</p>\n");
}

static inline void report_scores(Str *s, const RunView *v) {
    bool any = false;
    for (int i = 0; i < v->series_count; i++) {
        const Series *c = &v->series[i];
        if (!report_is_score(c->name) || !c->count) continue;
        bool percent = str_ends_with(c->name, "_acc") || str_ends_with(c->name, "_acc_norm");
        double scale = percent ? 100 : 1;
        const Series *error = view_series(v, path_of("%.500s_stderr", c->name).text);
        if (!any)
            str_puts(s, "<section><h2>Evaluation</h2>\n<div class=\"card\"><table><tr><th>score</th><th "
                        "class=\"r\">first</th>"
                        "<th class=\"r\">newest</th><th class=\"r\">at step</th></tr>\n");
        any = true;
        str_puts(s, "<tr><td>");
        html_text(s, c->name + 5);
        str_printf(s, "</td><td class=\"r\">%s%s</td><td class=\"r\">%s", number_short(c->first * scale).text,
                   percent ? " %" : "", number_short(c->last * scale).text);
        if (error && error->count) str_printf(s, " \xc2\xb1 %.2g", error->last * scale);
        str_printf(s, "%s</td><td class=\"r\">%s</td></tr>\n", percent ? " %" : "", number_whole(c->last_step).text);
    }
    if (any) str_puts(s, "</table></div></section>\n");
}

// ---------------------------------------------------------------- head

static inline const char *report_badge(RunStanding standing) {
    return standing == RUN_FINISHED  ? "good"
           : standing == RUN_QUIET   ? "bad"
           : standing == RUN_STOPPED ? "warn"
                                     : "soft";
}

static inline void report_head(Str *s, const char *title) {
    str_puts(s,
             REPORT_HEAD "<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, "
                         "initial-scale=1\"><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                         "style-src 'unsafe-inline'; script-src 'unsafe-inline'\"><title>");
    html_text(s, title);
    str_puts(s, "</title>\n<style>\n");
    for (size_t i = 0; i < sizeof report_style / sizeof *report_style; i++) str_puts(s, report_style[i]);
    str_puts(s, "</style></head>\n<body><main>\n");
}

static inline void report_foot(Str *s, double now) {
    str_printf(s, "<footer>Written %s by %s, commit ", number_date(now).text, engine_name());
    html_text(s, build_commit);
    str_printf(s, ".</footer>\n</main>\n<script>%s</script></body></html>\n", report_script);
}

// The model in a few words.
static inline void report_model_words(Str *s, const RunView *v) {
    const Json *model = view_model(v);
    double parameters = json_number(json_get(model, "parameters"), (double)NAN);
    if (model)
        str_printf(s, "%s, %sM parameters", json_string(json_get(model, "family"), "model"),
                   number_short(parameters / 1e6).text);
    else str_puts(s, json_string(json_get(view_options(v), "model"), ""));
}

static inline void report_title(Str *s, const RunView *v, double now) {
    RunStanding standing = view_standing(v, now);
    Str words;
    memset(&words, 0, sizeof words);
    report_model_words(&words, v);
    str_puts(s, "<h1>");
    html_text(s, v->name.text);
    str_printf(s, "<span class=\"badge %s\">%s</span></h1>\n<p class=\"sub\">", report_badge(standing),
               run_standings[standing]);
    html_text(s, words.data ? words.data : "");
    const char *device = json_string(json_get(v->start, "device"), NULL);
    if (device) {
        int64_t ranks = json_integer(json_get(v->start, "ranks"), 1);
        str_puts(s, " on ");
        html_text(s, device);
        if (ranks > 1) str_printf(s, ", %" PRId64 " ranks", ranks);
    }
    if (v->first_time > 0) str_printf(s, "; begun %s", number_date(v->first_time).text);
    str_printf(s, "; as of %s</p>\n", number_date(now).text);
    free(words.data);
    double share = view_share(v);
    if (isfinite(share)) str_printf(s, "<div class=\"bar\"><i style=\"width:%.1f%%\"></i></div>\n", 100 * share);
}

static inline void report_tiles(Str *s, const RunView *v, double now) {
    const Series *loss = view_series(v, "loss"), *bits = view_series(v, "val_bits_per_byte"),
                 *val = view_series(v, "val_loss"), *mfu = view_series(v, "mfu");
    double hours, wall = view_wall(v, &hours), mean = v->seconds > 0 ? (double)v->tokens / v->seconds : (double)NAN;
    RunStanding standing = view_standing(v, now);
    Path of = view_steps(v) ? path_of("of %s", number_whole(view_steps(v)).text) : path_of("%s", "");
    if (isfinite(view_share(v)) && standing == RUN_GOES)
        of = path_of("%.100s, %s left", of.text, number_time(view_left(v)).text);
    str_puts(s, "<div class=\"tiles\">\n");
    report_tile(s, "Steps", number_whole(v->step).text, of.text);
    report_tile(s, "Tokens", number_short((double)v->tokens).text, "trained on");
    if (loss && loss->count)
        report_tile(s, "Training loss", number_short(series_recent(loss, 50)).text,
                    path_of("%s, newest steps", report_loss_unit(v)).text);
    if (bits && bits->count)
        report_tile(s, "Validation", number_short(bits->last).text,
                    path_of("bits a byte, step %s", number_whole(bits->last_step).text).text);
    else if (val && val->count)
        report_tile(s, "Validation", number_short(val->last).text,
                    path_of("%s, step %s", report_loss_unit(v), number_whole(val->last_step).text).text);
    report_tile(s, "Speed", number_short(mean).text, "tokens a second, in steps");
    if (mfu && mfu->count)
        report_tile(s, "Share of the peak", path_of("%.3g %%", 100 * series_recent(mfu, mfu->count)).text,
                    "mean of all steps");
    if (v->starts)
        report_tile(s, "Time", number_time(wall).text,
                    path_of("%lld start%s", (long long)v->starts, v->starts == 1 ? "" : "s").text);
    else report_tile(s, "Time", number_time(v->seconds).text, "in steps");
    if (v->kwh > 0)
        report_tile(s, "Energy", path_of("%.3g kWh", v->kwh * fmax(1, v->devices)).text,
                    v->devices > 1 ? "rank 0's GPU, times the ranks" : "of the GPU alone");
    str_puts(s, "</div>\n");
}

// ---------------------------------------------------------------- samples

static inline void report_sample(Str *s, const char *head, const RunSample *sample) {
    str_puts(s, "<div class=\"card sample\"><h3>");
    html_text(s, head);
    str_puts(s, "</h3><p><mark>");
    html_text(s, sample->prompt);
    str_puts(s, "</mark>");
    html_text(s, sample->text);
    str_puts(s, "</p></div>\n");
}

// The first, the newest, and some between, the newest first.
static inline void report_samples(Str *s, const RunView *v) {
    const int shown = 8, n = v->kept_count;
    if (!v->sample_count) return;
    str_puts(s, "<h2>Samples over time</h2>\n");
    report_sample(s, path_of("Step %s, the newest", number_whole(v->newest.step).text).text, &v->newest);
    int last = -1, of = n < shown ? n : shown;
    for (int i = of - 1; i >= 0; i--) {
        int at = of > 1 ? (int)((int64_t)i * (n - 1) / (of - 1)) : 0;
        if (at == last || v->kept[at].step == v->newest.step) continue;
        last = at;
        report_sample(s, path_of("Step %s", number_whole(v->kept[at].step).text).text, &v->kept[at]);
    }
    if (v->sample_count > of)
        str_printf(s, "<p class=\"n\">Some of %s samples; all stand in samples.jsonl.</p>\n",
                   number_whole(v->sample_count).text);
}

// ---------------------------------------------------------------- what the run is

// What a start would have recorded of the model, from the newest checkpoint of a run that has no such record.
static inline void report_add_model(RunView *v) {
    CheckpointSurvey survey;
    Options o;
    Config c;
    Str json;
    Error err;
    if (v->recorded || v->model || !v->start || !options_default(&o, VERB_INFO, &err)) return;
    memset(&json, 0, sizeof json);
    bool ok = checkpoint_survey(&survey, v->folder.text, &err) && survey.count;
    Path folder = checkpoint_folder(v->folder.text, ok ? survey.steps[survey.count - 1] : 0);
    o.model = folder.text;
    o.batch_size = int64_max(1, json_integer(json_get(view_options(v), "batch_size"), 1));
    o.seq_len = int64_max(1, json_integer(json_get(view_options(v), "seq_len"), 1));
    if (ok && folder_read_config(&c, folder.text, &err) && config_check_batch(&c, o.batch_size, o.seq_len, &err)) {
        Dist one;
        dist_single(&one);
        str_puts(&json, "{");
        info_model(&json, &c, &o, &one);
        str_puts(&json, "}");
        v->model = json_get(json_parse(&v->model_doc, json.data, json.size, &err), "model");
    }
    free(json.data);
    options_free(&o);
    checkpoint_survey_free(&survey);
}

static inline void report_model(Str *s, const RunView *v) {
    const Json *model = view_model(v), *tensors = json_get(model, "tensors"), *memory = json_get(model, "memory");
    if (!model) return;
    str_puts(s, "<section><h2>Model</h2>\n<div class=\"card\"><table>\n");
    for (const Json *j = model->child; j; j = j->next) {
        bool plain = j->type == JSON_NUMBER || j->type == JSON_STRING || j->type == JSON_BOOL;
        if (!plain || !j->key || strcmp(j->key, "flops_formula") == 0 || strcmp(j->key, "name") == 0) continue;
        Str value;
        memset(&value, 0, sizeof value);
        if (j->is_integer) str_puts(&value, number_whole(j->integer).text);
        else if (j->type == JSON_NUMBER) str_puts(&value, number_short(j->number).text);
        else report_value(&value, j);
        report_row(s, report_words(j).text, value.data);
        free(value.data);
    }
    str_puts(s, "</table></div></section>\n<section><h2>Parameters</h2>\n<div "
                "class=\"card\"><table><tr><th>tensor</th><th>shape</th>"
                "<th class=\"r\">times</th><th class=\"r\">parameters</th><th class=\"r\">share</th></tr>\n");
    for (const Json *t = tensors ? tensors->child : NULL; t; t = t->next) {
        str_puts(s, "<tr><td><code>");
        html_text(s, json_string(json_get(t, "name"), ""));
        str_puts(s, "</code></td><td class=\"w\">");
        const Json *shape = json_get(t, "shape");
        for (const Json *d = shape ? shape->child : NULL; d; d = d->next)
            str_printf(s, "%s%" PRId64, d == shape->child ? "" : " \xc3\x97 ", json_integer(d, 0));
        str_printf(s, "</td><td class=\"r\">%s</td><td class=\"r\">%s</td><td class=\"r\">%.1f %%</td></tr>\n",
                   number_whole(json_integer(json_get(t, "times"), 0)).text,
                   number_whole(json_integer(json_get(t, "parameters"), 0)).text,
                   100 * json_number(json_get(t, "share"), 0));
    }
    str_puts(s, "</table></div>\n");
    if (memory) str_puts(s, "<h2>Memory of a rank</h2>\n<div class=\"card\"><table>\n");
    for (const Json *j = memory ? memory->child : NULL; j; j = j->next) {
        bool all = j->key && strcmp(j->key, "all") == 0;
        report_row(s, all ? "in all" : report_words(j).text, number_bytes(json_number(j, 0)).text);
    }
    const char *found = json_string(json_get(v->start, "memory"), "");
    if (memory) str_puts(s, "</table></div>\n<p class=\"n\">");
    html_text(s, memory ? found : "");
    str_puts(s, memory ? "</p></section>\n" : "</section>\n");
}

static inline void report_dataset(Str *s, const char *name, const Json *d) {
    if (!d) return;
    double tokens = json_number(json_get(d, "tokens"), 0), bytes = json_number(json_get(d, "bytes"), 0);
    Path line = path_of("%s tokens, %s documents, %s of text, %lld shard%s", number_short(tokens).text,
                        number_whole(json_integer(json_get(d, "documents"), 0)).text, number_bytes(bytes).text,
                        (long long)json_integer(json_get(d, "shards"), 0),
                        json_integer(json_get(d, "shards"), 0) == 1 ? "" : "s");
    report_row(s, name, line.text);
    if (tokens > 0 && bytes > 0)
        report_row(s,
                   "\xe2\x80\x83"
                   "bytes a token",
                   path_of("%.3f", bytes / tokens).text);
}

static inline void report_data(Str *s, const RunView *v) {
    const Json *tok = json_get(v->start, "tokenizer"), *o = view_options(v);
    if (!v->start) return;
    str_puts(s, "<section><h2>Tokenizer and data</h2>\n<div class=\"card\"><table>\n");
    report_row(s, "tokenizer", json_string(json_get(tok, "path"), json_string(json_get(o, "tokenizer"), "")));
    if (tok) {
        report_row(s, "vocabulary", number_whole(json_integer(json_get(tok, "vocab_size"), 0)).text);
        report_row(s, "hash", json_string(json_get(tok, "hash"), ""));
    }
    report_row(s, "training files", json_string(json_get(o, "train_data"), ""));
    report_dataset(s, "training data", json_get(v->start, "train"));
    report_row(s, "validation files", json_string(json_get(o, "val_data"), ""));
    report_dataset(s, "validation data", json_get(v->start, "val"));
    const Series *epoch = view_series(v, "epoch");
    if (epoch && epoch->count) report_row(s, "epochs", path_of("%.3g", epoch->last).text);
    str_puts(s, "</table></div></section>\n");
}

// Device hours, computation and energy as the record of the newest checkpoint has them, and what comes of that.
static inline void report_record(Str *s, const RunView *v, const Facts *facts) {
    JsonDoc doc;
    Error err;
    int64_t *steps;
    int count;
    double hours, wall = view_wall(v, &hours);
    bool listed = checkpoint_list(&steps, &count, v->folder.text, &err) && count > 0;
    Path path = path_of("%.3000s/run.json", checkpoint_folder(v->folder.text, listed ? steps[count - 1] : 0).text);
    const Json *root = listed ? json_load(&doc, path.text, &err) : NULL, *account = json_get(root, "account"),
               *totals = json_get(account, "totals"), *starts = json_get(account, "starts"), *newest = NULL;
    double none = (double)NAN, kwh = json_number(json_get(totals, "energy_kwh"), none), grams = none;
    for (const Json *j = json_is(starts, JSON_ARRAY) ? starts->child : NULL; j; j = j->next) newest = j;
    const char *method = json_string(json_get(totals, "energy_method"), ""), *said = facts->values[FACT_grid_intensity],
               *price = facts->values[FACT_training_cost];
    if (totals) {
        report_row(s, "recorded up to step", number_whole(json_integer(json_get(root, "step"), 0)).text);
        report_row(s, "device hours",
                   path_of("%.4g %s hours, measured", json_number(json_get(totals, "device_hours"), none),
                           json_string(json_get(totals, "device_kind"), "device"))
                       .text);
        report_row(s, "computation", path_of("%.3e FLOP, counted", json_number(json_get(totals, "flops"), none)).text);
        report_row(s, "energy",
                   path_of("%.4g kWh, %s: %.500s", kwh, *method ? method : "not said how",
                           json_string(json_get(json_get(newest, "energy"), "source"), "?"))
                       .text);
    } else if (v->starts && wall > 0)
        report_row(s, "device hours",
                   path_of("%.4g%s", hours, v->devices > 1 ? path_of(" on %.0f ranks", v->devices).text : "").text);
    if (!totals && v->kwh > 0)
        report_row(s, "energy",
                   path_of("%.4g kWh, measured, of the GPU%s", v->kwh * fmax(1, v->devices),
                           v->devices > 1 ? "s (that of rank 0, times the ranks)" : " alone")
                       .text);
    else if (!totals)
        report_row(s, "energy", "not known yet: no device says what it draws, and no checkpoint has a record");
    if (said) grams = strtod(said, NULL); // checked when it was read
    if (said && isfinite(kwh))
        report_row(s, "CO2 equivalent",
                   path_of("%.4g g, %s: %.4g kWh x %.4g g/kWh", kwh * grams, *method ? method : "not said how", kwh,
                           grams)
                       .text);
    else
        report_row(s, "CO2 equivalent",
                   "open: grams a kWh stand in a facts file (grid_intensity); report --facts=FILE");
    report_row(s, "money", price ? price : "open: only a person knows (training_cost); report --facts=FILE");
    if (root) json_free(&doc);
    free(steps);
}

static inline void report_cost(Str *s, const RunView *v, const Facts *facts) {
    double hours, wall = view_wall(v, &hours), flops = json_number(json_get(v->start, "flops_per_token"), (double)NAN);
    if (!isfinite(flops)) flops = json_number(json_get(view_model(v), "flops_per_token"), (double)NAN);
    const Series *mfu = view_series(v, "mfu");
    str_puts(s, "<section><h2>What it cost</h2>\n<div class=\"card\"><table>\n");
    if (v->starts) { report_row(s, "wall time", number_time(wall).text); }
    report_row(s, "in steps",
               path_of("%s%s", number_time(v->seconds).text,
                       v->starts && wall > 0 && v->seconds <= wall
                           ? path_of(", %.1f %% of the wall time", 100 * v->seconds / wall).text
                           : "")
                   .text);
    report_row(s, "steps, tokens", path_of("%s, %s", number_whole(v->step).text, number_whole(v->tokens).text).text);
    if (isfinite(flops)) report_row(s, "model FLOPs", path_of("%.3e", flops * (double)v->tokens).text);
    if (mfu && mfu->count)
        report_row(s, "mean share of the peak", path_of("%.3g %%", 100 * series_recent(mfu, mfu->count)).text);
    report_record(s, v, facts);
    str_puts(s, "</table></div></section>\n");
}

static inline void report_event(Str *s, const RunEvent *e) {
    str_printf(s, "<tr><td class=\"w\">%s</td><td class=\"r\">%s</td><td class=\"w\">", number_date(e->time).text,
               number_whole(e->step).text);
    html_text(s, e->kind);
    str_puts(s, "</td><td>");
    html_text(s, e->text);
    str_puts(s, "</td></tr>\n");
}

static inline void report_events(Str *s, const RunView *v) {
    int out = v->happened_out + v->spikes_out;
    str_puts(s, "<section><h2>Restarts and events</h2>\n<div class=\"card tall\">");
    if (!v->happened_count && !v->spike_count) str_puts(s, "<p class=\"sub\">None.</p>");
    else str_puts(s, "<table><tr><th>time</th><th class=\"r\">step</th><th>what</th><th></th></tr>\n");
    int spike = 0; // those have no time: before what was noted at a later step
    for (int i = 0; i < v->happened_count; i++) {
        bool start = strcmp(v->happened[i].kind, "start") == 0;
        while (!start && spike < v->spike_count && v->spikes[spike].step <= v->happened[i].step)
            report_event(s, &v->spikes[spike++]);
        report_event(s, &v->happened[i]);
    }
    while (spike < v->spike_count) report_event(s, &v->spikes[spike++]);
    if (v->happened_count || v->spike_count) str_puts(s, "</table>");
    if (out) str_printf(s, "<p class=\"n\">%d more between them stand in events.jsonl and metrics.jsonl.</p>", out);
    if (v->unreadable)
        str_printf(s, "<p class=\"n bad\">%s lines of the run's files could not be read.</p>",
                   number_whole(v->unreadable).text);
    str_puts(s, "</div></section>\n");
}

static inline void report_options(Str *s, const RunView *v) {
    const Json *o = view_options(v);
    if (!o) return;
    str_puts(s, "<details><summary>All options</summary><div class=\"card\"><table>\n");
    for (const Json *j = o->child; j; j = j->next) {
        Str value;
        memset(&value, 0, sizeof value);
        report_value(&value, j);
        report_row(s, j->key ? j->key : "", value.data);
        free(value.data);
    }
    str_puts(s, "</table></div></details>\n");
}

// ---------------------------------------------------------------- pages

static inline void report_one(Str *s, const Report *r, double now) {
    const RunView *v = r->views[0];
    report_title(s, v, now);
    report_tiles(s, v, now);
    report_curves(s, r);
    report_samples(s, v);
    str_puts(s, "<div class=\"cols\">\n");
    report_scores(s, v);
    report_cost(s, v, &r->facts);
    report_data(s, v);
    report_events(s, v);
    report_model(s, v);
    str_puts(s, "</div>\n");
    report_options(s, v);
}

static inline void report_compared(Str *s, const Report *r, double now) {
    str_printf(s,
               "<h1>%d runs compared</h1><p class=\"sub\">as of %s</p>\n<h2>Runs</h2>\n<div "
               "class=\"card\"><table><tr><th>run</th>"
               "<th>state</th><th class=\"r\">steps</th><th class=\"r\">tokens</th><th class=\"r\">loss</th><th "
               "class=\"r\">bits a byte"
               "</th><th class=\"r\">best</th><th class=\"r\">tokens/s</th><th class=\"r\">peak</th><th "
               "class=\"r\">time in steps</th>"
               "<th>model</th></tr>\n",
               r->count, number_date(now).text);
    for (int i = 0; i < r->count; i++) {
        const RunView *v = r->views[i];
        const Series *bits = view_series(v, "val_bits_per_byte"), *mfu = view_series(v, "mfu");
        RunStanding standing = view_standing(v, now);
        double none = (double)NAN;
        str_printf(s, "<tr><td><span class=\"k k%d\"></span>", i % CHART_COLOURS);
        html_text(s, v->name.text);
        str_printf(s, "</td><td class=\"w %s\">%s</td><td class=\"r\">%s</td><td class=\"r\">%s</td>",
                   report_badge(standing), run_standings[standing], number_whole(v->step).text,
                   number_short((double)v->tokens).text);
        const double figures[] = {series_recent(view_series(v, "loss"), 50), bits && bits->count ? bits->last : none,
                                  bits && bits->count ? bits->least : none,
                                  v->seconds > 0 ? (double)v->tokens / v->seconds : none};
        for (int k = 0; k < 4; k++) str_printf(s, "<td class=\"r\">%s</td>", number_short(figures[k]).text);
        str_printf(s, "<td class=\"r\">%s</td><td class=\"r\">%s</td><td>",
                   mfu && mfu->count ? path_of("%.3g %%", 100 * series_recent(mfu, mfu->count)).text : "\xe2\x80\x93",
                   number_time(v->seconds).text);
        Str words;
        memset(&words, 0, sizeof words);
        report_model_words(&words, v);
        html_text(s, words.data ? words.data : "");
        free(words.data);
        str_puts(s, "</td></tr>\n");
    }
    str_puts(s, "</table></div>\n");
}

// Is an option not the same in all runs that have a record?
static inline bool report_differs(const Report *r, const char *name) {
    Str first, other;
    bool differ = false, any = false;
    memset(&first, 0, sizeof first);
    memset(&other, 0, sizeof other);
    for (int i = 0; i < r->count; i++) {
        const Json *options = view_options(r->views[i]);
        Str *s = any ? &other : &first;
        if (!options) continue;
        s->size = 0;
        report_value(s, json_get(options, name));
        differ |= any && strcmp(first.data, other.data) != 0;
        any = true;
    }
    free(first.data), free(other.data);
    return differ;
}

static inline void report_differences(Str *s, const Report *r) {
    bool any = false;
    Str value;
    memset(&value, 0, sizeof value);
    for (int row = 0; row < OPTION_COUNT; row++) {
        const char *name = option_rows[row].name;
        if (!(option_rows[row].verbs & O_TRAIN) || strcmp(name, "out") == 0 || !report_differs(r, name)) continue;
        if (!any) str_puts(s, "<h2>Options that differ</h2>\n<div class=\"card\"><table><tr><th>option</th>");
        for (int i = 0; !any && i < r->count; i++) {
            str_puts(s, "<th>");
            html_text(s, r->views[i]->name.text);
            str_puts(s, "</th>");
        }
        str_puts(s, any ? "<tr><td>" : "</tr>\n<tr><td>");
        any = true;
        html_text(s, name);
        for (int i = 0; i < r->count; i++) {
            value.size = 0;
            report_value(&value, json_get(view_options(r->views[i]), name));
            str_puts(s, "</td><td>");
            html_text(s, view_options(r->views[i]) ? value.data : "not recorded");
        }
        str_puts(s, "</td></tr>\n");
    }
    if (any) str_puts(s, "</table></div>\n");
    free(value.data);
}

static inline void report_newest_samples(Str *s, const Report *r) {
    bool any = false;
    for (int i = 0; i < r->count; i++) {
        const RunView *v = r->views[i];
        if (!v->sample_count) continue;
        if (!any) str_puts(s, "<h2>Newest samples</h2>\n");
        any = true;
        report_sample(s, path_of("%.500s, step %s", v->name.text, number_whole(v->newest.step).text).text, &v->newest);
    }
}

// The page of views that are up to date; now: seconds since 1970.
static inline void report_page(Str *s, const Report *r, double now) {
    report_head(s, r->count == 1 ? r->views[0]->name.text : path_of("%d runs compared", r->count).text);
    if (r->count == 1) report_one(s, r, now);
    else {
        report_compared(s, r, now);
        report_curves(s, r);
        report_newest_samples(s, r);
        report_differences(s, r);
    }
    report_foot(s, now);
}

// Writes the page; what stands under its name and is no report stays.
static inline bool report_write(const Report *r, const char *path, Error *err) {
    FileKind kind;
    Str page, old;
    memset(&page, 0, sizeof page);
    memset(&old, 0, sizeof old);
    for (int i = 0; i < r->count; i++)
        if (!view_update(r->views[i], err)) return false;
    if (!path_look(path, &kind, err)) return false;
    bool ok = kind != FILE_REGULAR || file_read(&old, path, (size_t)1 << 28, err);
    if (ok && old.size && strncmp(old.data, "<!DOCTYPE html>", 15) != 0)
        ok = error_set(err, "%s is there and is no report; rename it, or choose another --out", path);
    for (int i = 0; ok && i < r->count; i++) report_add_model(r->views[i]);
    if (ok) report_page(&page, r, report_now());
    ok = ok && file_write_all(path, page.data, page.size, err);
    free(page.data), free(old.data);
    return ok;
}

#endif
