/*
follow.h: a run seen from outside, by the files of its folder alone: for the report (report_page.h) and `watch`.

    metrics.jsonl   a line a step: the curves (metrics.h)
    events.jsonl    a line for each start, stop, end, checkpoint and rollback, with the time (followers.h)
    samples.jsonl   a line for each sample

The newest start says what the run is: options, model, data. A folder of a version without events.jsonl has its newest
checkpoint for that. Files are read from where the last look ended, and from the beginning where they were replaced, as
a resume does. Nothing of a file is believed: a line that cannot be read is counted, and passed over.

A curve takes the same memory however long the run is: up to SERIES_BUCKETS ranges of steps, each with its least,
largest, mean and last value; where they are full, two become one. Nothing is dropped: a spike of one step stays.
*/
#ifndef LLMC_FOLLOW_H
#define LLMC_FOLLOW_H

#include "../base/json.h"
#include "../files/checkpoint.h"
#include <float.h>

// ---------------------------------------------------------------- curves

enum { SERIES_BUCKETS = 1024, SERIES_MOST = 256, EVENTS_MOST = 256, SAMPLES_MOST = 48 }; // buckets: about a pixel each

typedef struct {
    double sum;
    float least, most, last;
    uint32_t count;
} Bucket;

typedef struct {
    char *name;
    int64_t width;                     // steps of a bucket: bucket i is of steps i x width + 1 to (i + 1) x width
    int used;                          // buckets
    Bucket *buckets;                   // (SERIES_BUCKETS)
    int64_t count, missing, last_step; // numbers, steps that have none (null: NaN, infinite, not known)
    double first, last, least, most;
    int64_t least_step, most_step;
} Series;

static inline void bucket_add(Bucket *b, const Bucket *more) {
    if (!more->count) return;
    if (!b->count || more->least < b->least) b->least = more->least;
    if (!b->count || more->most > b->most) b->most = more->most;
    b->last = more->last;
    b->sum += more->sum;
    b->count += more->count;
}

// A step's value; steps rise, but need not be next to each other.
static inline void series_add(Series *s, int64_t step, double value) {
    int64_t at = int64_max(step, 1) - 1;
    if (!(fabs(value) <= (double)FLT_MAX)) {
        s->missing++;
        return;
    }
    while (at / s->width >= SERIES_BUCKETS) {
        for (int i = 0; i < SERIES_BUCKETS / 2; i++) {
            Bucket both = s->buckets[2 * i];
            bucket_add(&both, &s->buckets[2 * i + 1]);
            s->buckets[i] = both;
        }
        memset(s->buckets + SERIES_BUCKETS / 2, 0, SERIES_BUCKETS / 2 * sizeof(Bucket));
        s->width *= 2, s->used = (s->used + 1) / 2;
    }
    Bucket one = {value, (float)value, (float)value, (float)value, 1};
    int i = (int)(at / s->width);
    bucket_add(&s->buckets[i], &one);
    if (i >= s->used) s->used = i + 1;
    if (!s->count) s->first = value;
    if (!s->count || value < s->least) s->least = value, s->least_step = step;
    if (!s->count || value > s->most) s->most = value, s->most_step = step;
    s->last = value, s->last_step = step;
    s->count++;
}

static inline double bucket_mean(const Bucket *b) { return b->sum / b->count; }

// The mean over the newest buckets, of about n steps; NAN: there is no number.
static inline double series_recent(const Series *s, int64_t n) {
    double sum = 0, count = 0;
    for (int i = s ? s->used - 1 : -1; i >= 0 && count < (double)n; i--)
        sum += s->buckets[i].sum, count += s->buckets[i].count;
    return count > 0 ? sum / count : (double)NAN;
}

// ---------------------------------------------------------------- what happened

typedef struct {
    int64_t step;
    double time; // seconds since 1970; 0: not known
    char *kind, *text;
} RunEvent;

typedef struct {
    int64_t step;
    char *prompt, *text;
} RunSample;

// A file that is read from where the last look ended.
typedef struct {
    Path path;
    FileId id;
    off_t at;
    Str rest;       // the beginning of a line
    double changed; // when the file was, seconds since 1970; 0: there is none
} FollowFile;

typedef struct {
    Path folder, name; // name: the folder's own
    FollowFile metrics, events, samples;
    Series series[SERIES_MOST];
    int series_count;
    int64_t lines, unreadable; // lines of metrics.jsonl; of all files
    int64_t step, tokens;
    double seconds, kwh, kwh_before;                     // of all steps; of rank 0's device, and up to its last start
    RunEvent happened[EVENTS_MOST], spikes[EVENTS_MOST]; // of events.jsonl, of metrics.jsonl; the first, the newest
    int happened_count, spike_count, happened_out, spikes_out; // those between that were left out
    RunSample kept[SAMPLES_MOST], newest;                      // evenly over time; the newest of all
    int kept_count;
    int64_t sample_count, stride;
    JsonDoc doc; // of `start`
    const Json
        *start; // the newest start, or, as far as it goes, the newest checkpoint's record; NULL: neither is there
    JsonDoc model_doc; // of `model`
    const Json *model; // what the newest checkpoint says of it, where no start does (report_page.h)
    bool recorded;     // there is an events.jsonl
    int64_t starts;
    double first_time, start_time, last_time, wall, device_hours; // wall: of all starts that ended
    double devices;
} RunView;

static inline void run_event_free(RunEvent *e) {
    free(e->kind);
    free(e->text);
}

// Keeps the first and the newest.
static inline void run_event_add(RunEvent *list, int *count, int *out, RunEvent e) {
    const int half = EVENTS_MOST / 2;
    if (*count == EVENTS_MOST) {
        run_event_free(&list[half]);
        memmove(list + half, list + half + 1, (size_t)(half - 1) * sizeof *list);
        (*count)--, (*out)++;
    }
    list[(*count)++] = e;
}

static inline void run_sample_free(RunSample *s) {
    free(s->prompt);
    free(s->text);
    memset(s, 0, sizeof *s);
}

static inline void view_clear_metrics(RunView *v) {
    for (int i = 0; i < v->series_count; i++) free(v->series[i].name), free(v->series[i].buckets);
    for (int i = 0; i < v->spike_count; i++) run_event_free(&v->spikes[i]);
    v->series_count = v->spike_count = v->spikes_out = 0;
    v->lines = v->step = v->tokens = 0;
    v->seconds = v->kwh = v->kwh_before = 0;
}

static inline void view_clear_events(RunView *v) {
    for (int i = 0; i < v->happened_count; i++) run_event_free(&v->happened[i]);
    v->happened_count = v->happened_out = 0;
    if (v->start) json_free(&v->doc);
    if (v->model) json_free(&v->model_doc);
    v->start = v->model = NULL, v->recorded = false;
    v->starts = 0;
    v->first_time = v->start_time = v->last_time = v->wall = v->device_hours = v->devices = 0;
}

static inline void view_clear_samples(RunView *v) {
    for (int i = 0; i < v->kept_count; i++) run_sample_free(&v->kept[i]);
    run_sample_free(&v->newest);
    v->kept_count = 0, v->sample_count = 0, v->stride = 1;
}

static inline RunView *run_view_open(const char *folder) {
    RunView *v = (RunView *)mem_alloc(sizeof(RunView));
    v->folder = path_of("%s", folder);
    for (size_t n = strlen(v->folder.text); n > 1 && v->folder.text[n - 1] == '/'; n--) v->folder.text[n - 1] = 0;
    char *whole = realpath(folder, NULL);
    const char *slash = strrchr(whole ? whole : v->folder.text, '/');
    v->name = path_of("%.1000s", slash && slash[1] ? slash + 1 : v->folder.text);
    free(whole);
    v->metrics.path = path_of("%.3000s/metrics.jsonl", v->folder.text);
    v->events.path = path_of("%.3000s/events.jsonl", v->folder.text);
    v->samples.path = path_of("%.3000s/samples.jsonl", v->folder.text);
    v->stride = 1;
    return v;
}

static inline void run_view_close(RunView *v) {
    if (!v) return;
    view_clear_metrics(v), view_clear_events(v), view_clear_samples(v);
    free(v->metrics.rest.data), free(v->events.rest.data), free(v->samples.rest.data);
    free(v);
}

static inline const Series *view_series(const RunView *v, const char *name) {
    for (int i = 0; i < v->series_count; i++)
        if (strcmp(v->series[i].name, name) == 0) return &v->series[i];
    return NULL;
}

static inline Series *view_series_of(RunView *v, const char *name) {
    const Series *found = view_series(v, name);
    if (found || v->series_count == SERIES_MOST) return (Series *)found;
    Series *s = &v->series[v->series_count++];
    memset(s, 0, sizeof *s);
    s->name = str_copy(name);
    s->width = 1;
    s->buckets = (Bucket *)mem_alloc(SERIES_BUCKETS * sizeof(Bucket));
    return s;
}

// ---------------------------------------------------------------- lines

// A line of metrics.jsonl.
static inline void view_metrics_line(RunView *v, const Json *root) {
    int64_t step = json_integer(json_get(root, "step"), -1);
    const char *event = json_string(json_get(root, "event"), NULL);
    if (step < 0) {
        v->unreadable++;
        return;
    }
    v->lines++, v->step = step;
    v->tokens = json_integer(json_get(root, "tokens"), v->tokens);
    v->seconds += fmax(0, json_number(json_get(root, "step_ms"), 0)) / 1e3;
    double kwh = json_number(json_get(root, "gpu_energy_kwh"), -1), before = v->kwh - v->kwh_before;
    if (kwh >= 0) { // it counts from each start of a process
        if (kwh < before) v->kwh_before = v->kwh;
        v->kwh = v->kwh_before + kwh;
    }
    for (const Json *j = root->child; j; j = j->next) {
        bool known = strcmp(j->key, "step") != 0 && strncmp(j->key, "event", 5) != 0 && strncmp(j->key, "z_", 2) != 0;
        if (!known || (j->type != JSON_NUMBER && j->type != JSON_NULL)) continue;
        Series *s = view_series_of(v, j->key);
        if (s) series_add(s, step, j->type == JSON_NUMBER ? j->number : (double)NAN);
    }
    if (!event) return;
    Str text;
    memset(&text, 0, sizeof text);
    const Json *at = json_get(root, "event_step");
    str_printf(&text, "step %" PRId64 ": loss %.4g, gradient norm %.4g", json_integer(at, step),
               json_number(json_get(root, "event_loss"), (double)NAN),
               json_number(json_get(root, "event_grad_norm"), (double)NAN));
    RunEvent e = {step, 0, str_copy(event), text.data};
    run_event_add(v->spikes, &v->spike_count, &v->spikes_out, e);
}

// A line of events.jsonl. Takes the document where it is a start.
static inline bool view_events_line(RunView *v, const Json *root, JsonDoc *doc) {
    const char *kind = json_string(json_get(root, "event"), NULL), *why = json_string(json_get(root, "why"), "");
    double time = json_number(json_get(root, "time"), 0);
    if (!kind) {
        v->unreadable++;
        return false;
    }
    bool start = strcmp(kind, "start") == 0;
    if (start) { // one that was killed had no end: it lived at least as long as its last sign
        v->wall += fmax(0, v->last_time - v->start_time);
        v->device_hours += fmax(0, v->last_time - v->start_time) * v->devices / 3600;
        v->start_time = time, v->devices = fmax(1, json_number(json_get(root, "ranks"), 1));
        if (!v->starts++) v->first_time = time;
    }
    v->last_time = time;
    v->recorded = true;
    if (strcmp(kind, "checkpoint") != 0) { // the folder has those
        RunEvent e = {json_integer(json_get(root, "step"), 0), time, str_copy(kind), str_copy(why)};
        run_event_add(v->happened, &v->happened_count, &v->happened_out, e);
    }
    if (!start) return false;
    if (v->start) json_free(&v->doc);
    v->doc = *doc, v->start = root;
    return true;
}

// A line of samples.jsonl.
static inline void view_samples_line(RunView *v, const Json *root) {
    const Json *step = json_get(root, "step"), *text = json_get(root, "text");
    if (!json_is(step, JSON_NUMBER) || !json_is(text, JSON_STRING)) {
        v->unreadable++;
        return;
    }
    RunSample s = {step->integer, str_copy(json_string(json_get(root, "prompt"), "")), str_copy(text->text)};
    run_sample_free(&v->newest);
    v->newest.step = s.step, v->newest.prompt = str_copy(s.prompt), v->newest.text = str_copy(s.text);
    if (v->sample_count++ % v->stride) {
        run_sample_free(&s);
        return;
    }
    if (v->kept_count == SAMPLES_MOST) { // every second one goes, and of those to come as well
        for (int i = 0; i < SAMPLES_MOST; i++) {
            if (i % 2) run_sample_free(&v->kept[i]);
            else v->kept[i / 2] = v->kept[i];
        }
        v->kept_count = SAMPLES_MOST / 2, v->stride *= 2;
    }
    v->kept[v->kept_count++] = s;
}

static inline void view_line(RunView *v, const FollowFile *f, const char *line, size_t n) {
    JsonDoc doc;
    if (strspn(line, " \t\r\n") >= n) return;
    const Json *root = json_parse(&doc, line, n, NULL);
    if (!root) {
        v->unreadable++;
        return;
    }
    bool taken = false;
    if (f == &v->events) taken = view_events_line(v, root, &doc);
    else if (f == &v->metrics) view_metrics_line(v, root);
    else view_samples_line(v, root);
    if (!taken) json_free(&doc);
}

// ---------------------------------------------------------------- files

#define FOLLOW_PIECE ((size_t)1 << 18)
#define FOLLOW_LINE_MOST ((size_t)1 << 26) // bytes; a start has some ten thousand

static inline void view_forget(RunView *v, FollowFile *f) {
    if (f == &v->metrics) view_clear_metrics(v);
    else if (f == &v->events) view_clear_events(v);
    else view_clear_samples(v);
    f->at = 0, f->rest.size = 0;
}

// Reads what is new in a file; an absent one is empty.
static inline bool view_read(RunView *v, FollowFile *f, Error *err) {
    FileKind kind;
    struct stat st;
    if (!path_look(f->path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT) {
        view_forget(v, f);
        f->changed = 0;
        return true;
    }
    int fd = file_open(f->path.text, &st, err);
    if (fd < 0) return false;
    FileId id = {(uint64_t)st.st_dev, (uint64_t)st.st_ino};
    if (!file_id_same(id, f->id) || st.st_size < f->at) view_forget(v, f);
    f->id = id, f->changed = (double)st.st_mtim.tv_sec + 1e-9 * (double)st.st_mtim.tv_nsec;
    char *piece = (char *)mem_alloc(FOLLOW_PIECE);
    bool ok = true;
    for (ssize_t n; (n = pread(fd, piece, FOLLOW_PIECE, f->at)) != 0;) {
        if (n < 0 && errno == EINTR) continue;
        ok = n > 0 && f->rest.size + (size_t)n <= FOLLOW_LINE_MOST;
        if (!ok) error_set(err, "cannot read %s: %s", f->path.text, n < 0 ? strerror(errno) : "a line without an end");
        if (!ok) break;
        f->at += n;
        for (char *p = piece, *end = piece + n, *stop; p < end; p = stop + 1) {
            stop = (char *)memchr(p, '\n', (size_t)(end - p));
            str_add(&f->rest, p, (size_t)((stop ? stop : end) - p));
            if (!stop) break;
            view_line(v, f, f->rest.data, f->rest.size);
            f->rest.size = 0;
        }
    }
    free(piece);
    close(fd);
    return ok;
}

// The record of the newest checkpoint stands in for a start that nobody recorded.
static inline void view_take_checkpoint(RunView *v) {
    CheckpointSurvey s;
    Error err;
    if (checkpoint_survey(&s, v->folder.text, &err) && s.count) {
        Path run = path_of("%.3000s/run.json", checkpoint_folder(v->folder.text, s.steps[s.count - 1]).text);
        v->start = json_load(&v->doc, run.text, &err);
    }
    checkpoint_survey_free(&s);
}

// Brings the view up to what the folder holds now.
static inline bool view_update(RunView *v, Error *err) {
    if (v->start && !v->recorded) view_clear_events(v); // a newer checkpoint may be there
    if (!view_read(v, &v->metrics, err) || !view_read(v, &v->events, err) || !view_read(v, &v->samples, err))
        return false;
    if (!v->start) view_take_checkpoint(v);
    return true;
}

// ---------------------------------------------------------------- where it stands

typedef enum { RUN_EMPTY, RUN_GOES, RUN_QUIET, RUN_SILENT, RUN_STOPPED, RUN_FAILED, RUN_FINISHED } RunStanding;
static const char *const run_standings[] = {"no step yet", "running", "stalled", "silent",
                                            "stopped",     "failed",  "finished"};

static inline const Json *view_options(const RunView *v) { return json_get(v->start, "options"); }

static inline const Json *view_model(const RunView *v) { return v->model ? v->model : json_get(v->start, "model"); }

// The steps that it is to make; 0: not known, or as many as fit into the budget of time.
static inline int64_t view_steps(const RunView *v) {
    int64_t steps = json_integer(json_get(view_options(v), "steps"), 0);
    return json_number(json_get(view_options(v), "time_budget"), 0) > 0 && steps >= (int64_t)1 << 40 ? 0 : steps;
}

// How much of it is done, 0 to 1; NAN: not known.
static inline double view_share(const RunView *v) {
    const Series *time = view_series(v, "time_share");
    double by_steps = view_steps(v) > 0 ? (double)v->step / (double)view_steps(v) : (double)NAN;
    double share = time && time->count ? fmax(time->last, isfinite(by_steps) ? by_steps : 0) : by_steps;
    return share > 1 ? 1 : share;
}

// now: seconds since 1970. A run whose machine has died leaves no word, so one that says nothing for far longer than
// its steps take is said to be stalled; one of a version that records no end, to be silent.
static inline RunStanding view_standing(const RunView *v, double now) {
    const RunEvent *last = v->happened_count ? &v->happened[v->happened_count - 1] : NULL;
    double step = series_recent(view_series(v, "step_ms"), 20) / 1e3,
           quiet = now - fmax(v->metrics.changed, v->last_time);
    for (int i = RUN_STOPPED; last && i <= RUN_FINISHED; i++)
        if (strcmp(last->kind, run_standings[i]) == 0) return (RunStanding)i;
    if (!last && view_share(v) >= 1) return RUN_FINISHED; // of a version that records no events
    if (quiet > fmax(120, isfinite(step) ? 20 * step : 0))
        return !v->lines ? RUN_EMPTY : v->recorded ? RUN_QUIET : RUN_SILENT;
    return v->lines ? RUN_GOES : RUN_EMPTY;
}

// Seconds to go, as it seems from the newest steps; NAN: not known.
static inline double view_left(const RunView *v) {
    const Series *time = view_series(v, "time_share");
    double step = series_recent(view_series(v, "step_ms"), 50) / 1e3, limit = (double)NAN;
    double steps = view_steps(v) > 0 ? fmax(0, (double)(view_steps(v) - v->step)) * step : (double)NAN;
    if (time && time->count) limit = 60 * json_number(json_get(view_options(v), "time_budget"), 0) * (1 - time->last);
    return isfinite(limit) && isfinite(steps) ? fmin(limit, steps) : isfinite(limit) ? fmax(0, limit) : steps;
}

// Wall time of all starts, and hours of devices, as far as they are recorded; up to the last sign of life.
static inline double view_wall(const RunView *v, double *device_hours) {
    double last = fmax(v->last_time, v->metrics.changed), open = v->starts ? fmax(0, last - v->start_time) : 0;
    if (view_standing(v, last) >= RUN_STOPPED && v->starts) open = fmax(0, v->last_time - v->start_time);
    *device_hours = v->device_hours + open * v->devices / 3600;
    return v->wall + open;
}

#endif
