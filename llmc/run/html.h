/*
html.h: pieces of a page: text that may be anybody's, numbers for people, and curves as SVG.

A chart is an SVG that is stretched to the width there is (its lines keep theirs), with the figures of its axes as text
beside it, so that they are as large on a telephone as on a screen. Of a curve there is a point for each bucket
(follow.h), about one a pixel: a band from the least to the largest value and a line of means. A bucket of one step has
no band; there the values stand as a thin line behind their running mean.
*/
#ifndef LLMC_HTML_H
#define LLMC_HTML_H

#include "follow.h"

// Appends text that means nothing but itself, in elements and in attributes: controls, signs that turn the direction of
// writing, and bytes that are no UTF-8 become U+FFFD.
static inline void html_text(Str *s, const char *text) {
    const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);
    uint32_t c = 0;
    for (int n; p < end; p += n) {
        n = utf8_decode(p, end, &c);
        bool turns = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f;
        if (!n || (c < 32 && c != '\n' && c != '\t') || (c >= 127 && c < 160) || turns) str_puts(s, "\xef\xbf\xbd");
        else if (c == '&') str_puts(s, "&amp;");
        else if (c == '<') str_puts(s, "&lt;");
        else if (c == '>') str_puts(s, "&gt;");
        else if (c == '"') str_puts(s, "&quot;");
        else if (c == '\'') str_puts(s, "&#39;");
        else str_add(s, p, (size_t)n);
        if (!n) n = 1;
    }
}

// ---------------------------------------------------------------- numbers for people

// "12,345,678".
static inline Path number_whole(int64_t x) {
    char digits[32];
    Path out;
    int n = snprintf(digits, sizeof digits, "%" PRId64, x), at = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0 && digits[i - 1] != '-') out.text[at++] = ',';
        out.text[at++] = digits[i];
    }
    out.text[at] = 0;
    return out;
}

// Four digits and k, M, G ...: "1.234M".
static inline Path number_short(double x) {
    static const char units[] = " kMGTPE";
    int unit = 0;
    if (!isfinite(x)) return path_of("%s", "\xe2\x80\x93");
    while (fabs(x) >= (unit ? 999.95 : 9999.5) && unit < 6) x /= 1000, unit++;
    if (unit) return path_of("%.4g%c", x, units[unit]);
    return x != 0 && fabs(x) < 1e-3 ? path_of("%.3g", x) : path_of("%.4g", x);
}

static inline Path number_bytes(double x) {
    return x >= 1e9   ? path_of("%.2f GB", x / 1e9)
           : x >= 1e6 ? path_of("%.1f MB", x / 1e6)
                      : path_of("%.1f kB", x / 1e3);
}

// "3 d 4 h", "2 h 05 min", "3 min 20 s", "12 s".
static inline Path number_time(double seconds) {
    if (!isfinite(seconds)) return path_of("%s", "\xe2\x80\x93");
    long long s = (long long)(fmin(fmax(seconds, 0), 1e12) + 0.5);
    if (s >= 172800) return path_of("%lld d %lld h", s / 86400, s / 3600 % 24);
    if (s >= 3600) return path_of("%lld h %02lld min", s / 3600, s / 60 % 60);
    if (s >= 60) return path_of("%lld min %02lld s", s / 60, s % 60);
    return path_of("%lld s", s);
}

// "2026-11-26 23:19 UTC".
static inline Path number_date(double seconds) {
    Path out = path_of("%s", "\xe2\x80\x93");
    time_t t = (time_t)seconds;
    struct tm parts;
    if (seconds > 0 && seconds < 1e11 && gmtime_r(&t, &parts)) strftime(out.text, 64, "%Y-%m-%d %H:%M UTC", &parts);
    return out;
}

// ---------------------------------------------------------------- axes

typedef struct {
    double from, to, step;
} Axis;

// An axis of about `parts` parts, of 1, 2 or 5 times a power of ten each.
static inline Axis axis_of(double from, double to, int parts) {
    if (!(to > from)) {
        double room = from != 0 ? fabs(from) * 0.1 : 1;
        from -= room, to += room;
    }
    double raw = (to - from) / parts, power = pow(10, floor(log10(raw))), m = raw / power;
    Axis a = {from, to, power * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10)};
    return a;
}

// A figure of an axis, with the decimals that its step asks for.
static inline Path axis_label(const Axis *a, double value) {
    double largest = fmax(fabs(a->from), fabs(a->to));
    if (fabs(value) < a->step / 1e3) return path_of("0");
    if (largest >= 1e4 || largest < 1e-3) return number_short(value);
    int decimals = (int)fmax(0, ceil(-log10(a->step) - 1e-9));
    return path_of("%.*f", decimals, value);
}

// ---------------------------------------------------------------- curves

typedef enum { CHART_NOISY = 1, CHART_ZERO = 2, CHART_CLIP = 4, CHART_DOTS = 8, CHART_MARKS = 16 } ChartFlags;

typedef struct {
    const char *title, *unit;
    double scale; // of the values
    int flags;    // noisy: a running mean before the values; zero: the axis begins there; clip: what is rare and far
                  // above is not shown; dots: values are far apart; marks: spikes and
                  // restarts are shown
} ChartLook;

typedef struct {
    const Series *series; // NULL: the run has none
    int colour;           // of the page
} ChartLine;

enum { CHART_WIDTH = 1000, CHART_HEIGHT = 200, CHART_COLOURS = 8 };
#define CHART_ROOM 0.02 // behind the last step, so that its point is seen whole; a share of the axis

static inline int chart_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// What is shown of a bucket: a curve by itself has a band, several have means alone.
static inline double bucket_least(const Bucket *b, bool alone) { return alone ? (double)b->least : bucket_mean(b); }
static inline double bucket_most(const Bucket *b, bool alone) { return alone ? (double)b->most : bucket_mean(b); }

// The value up to which a share of what is shown lies; of few values that is all of them.
static inline double chart_quantile(const ChartLine *lines, int count, double share) {
    double *all = (double *)mem_alloc(sizeof(double) * SERIES_BUCKETS * (size_t)count), found = 0;
    size_t n = 0;
    for (int k = 0; k < count; k++)
        for (int i = 0; lines[k].series && i < lines[k].series->used; i++)
            if (lines[k].series->buckets[i].count) all[n++] = bucket_most(&lines[k].series->buckets[i], count == 1);
    qsort(all, n, sizeof *all, chart_order);
    if (n) found = all[n - 1 - (size_t)((1 - share) * (double)n)];
    free(all);
    return found;
}

// The axis of values, and whether some stand above it.
static inline Axis chart_values(const ChartLine *lines, int count, const ChartLook *look, bool *above) {
    double least = (double)INFINITY, most = -(double)INFINITY, k = look->scale;
    for (int i = 0; i < count; i++)
        for (int b = 0; lines[i].series && b < lines[i].series->used; b++) {
            const Bucket *bucket = &lines[i].series->buckets[b];
            if (!bucket->count) continue;
            least = fmin(least, bucket_least(bucket, count == 1) * k);
            most = fmax(most, bucket_most(bucket, count == 1) * k);
        }
    *above = false;
    if (look->flags & CHART_CLIP) {
        double usual = chart_quantile(lines, count, 0.97) * k, room = usual + 0.25 * (usual - fmin(least, usual));
        if (room > least && room < most - 0.05 * (most - least)) *above = true, most = room;
    }
    if (look->flags & CHART_ZERO) least = fmin(least, 0);
    double margin = 0.04 * (most - least);
    return axis_of(look->flags & CHART_ZERO ? least : least - margin, most + margin, 5);
}

typedef struct {
    Axis x, y;
    double scale;
} ChartFrame;

static inline double chart_x(const ChartFrame *f, double step) {
    return CHART_WIDTH * (step - f->x.from) / (f->x.to - f->x.from);
}

static inline double chart_y(const ChartFrame *f, double value) {
    double y = CHART_HEIGHT * (1 - (value * f->scale - f->y.from) / (f->y.to - f->y.from));
    return fmin(fmax(y, -CHART_HEIGHT), 2 * CHART_HEIGHT);
}

// The step in the middle of what is there of a bucket.
static inline double bucket_step(const Series *s, int i) {
    double first = (double)i * (double)s->width + 1,
           last = fmin((double)(i + 1) * (double)s->width, (double)s->last_step);
    return s->width == 1 ? first : (first + fmax(first, last)) / 2;
}

static inline void chart_band(Str *s, const Series *series, const ChartFrame *f, int colour) {
    bool open = false;
    if (series->width == 1) return;
    str_printf(s, "<path class=\"b c%d\" d=\"", colour);
    for (int i = 0; i < series->used; i++) {
        const Bucket *b = &series->buckets[i];
        if (!b->count) continue;
        str_printf(s, "%c%.1f %.1f", open ? 'L' : 'M', chart_x(f, bucket_step(series, i)), chart_y(f, b->most));
        open = true;
    }
    for (int i = series->used - 1; i >= 0; i--) {
        const Bucket *b = &series->buckets[i];
        if (b->count) str_printf(s, "L%.1f %.1f", chart_x(f, bucket_step(series, i)), chart_y(f, b->least));
    }
    str_puts(s, open ? "Z\"/>" : "\"/>");
}

// A line through the buckets, over `smooth` of them at each; dots: a mark at each as well.
static inline void chart_path(Str *s, const Series *series, const ChartFrame *f, int smooth, const char *kind) {
    bool open = false;
    str_printf(s, "<path class=\"%s\" d=\"", kind);
    for (int i = 0; i < series->used; i++) {
        double sum = 0, count = 0;
        int reach = smooth / 2 < i ? smooth / 2 : i; // the same to both sides, so that nothing is shifted
        if (reach > series->used - 1 - i) reach = series->used - 1 - i;
        if (!series->buckets[i].count) continue;
        for (int k = i - reach; k <= i + reach; k++) sum += series->buckets[k].sum, count += series->buckets[k].count;
        str_printf(s, "%c%.1f %.1f", open ? 'L' : 'M', chart_x(f, bucket_step(series, i)), chart_y(f, sum / count));
        open = true;
    }
    str_puts(s, "\"/>");
}

static inline void chart_dots(Str *s, const Series *series, const ChartFrame *f, int colour) {
    str_printf(s, "<path class=\"d c%d\" d=\"", colour);
    for (int i = 0; i < series->used; i++)
        if (series->buckets[i].count)
            str_printf(s, "M%.1f %.1fh0", chart_x(f, bucket_step(series, i)),
                       chart_y(f, bucket_mean(&series->buckets[i])));
    str_puts(s, "\"/>");
}

static inline void chart_curve(Str *s, const ChartLine *line, const ChartFrame *f, int flags, bool alone) {
    const Series *series = line->series;
    int smooth = flags & CHART_NOISY ? series->used / 40 : 0;
    if (alone && !(flags & CHART_DOTS)) chart_band(s, series, f, line->colour);
    if (alone && smooth > 1 && series->width == 1)
        chart_path(s, series, f, 0, path_of("l thin c%d", line->colour).text);
    chart_path(s, series, f, smooth, path_of("l c%d", line->colour).text);
    if (flags & CHART_DOTS && series->count <= 200) chart_dots(s, series, f, line->colour);
}

static inline void chart_axes(Str *svg, Str *labels, const ChartFrame *f) {
    for (double v = ceil(f->y.from / f->y.step) * f->y.step; v <= f->y.to; v += f->y.step) {
        double share = (f->y.to - v) / (f->y.to - f->y.from);
        str_printf(svg, "<path class=\"g\" d=\"M0 %.1fH%d\"/>", share * CHART_HEIGHT, CHART_WIDTH);
        str_printf(labels, "<i class=\"y\" style=\"top:%.2f%%\">%s</i>", 100 * share, axis_label(&f->y, v).text);
    }
    for (double v = ceil(f->x.from / f->x.step) * f->x.step; v <= f->x.to; v += f->x.step) {
        double share = (v - f->x.from) / (f->x.to - f->x.from);
        if (share <= 1 / (1 + CHART_ROOM) + 1e-9)
            str_printf(labels, "<i class=\"x\" style=\"left:%.2f%%\">%s</i>", 100 * share,
                       v < 1e4 ? number_whole((int64_t)v).text : number_short(v).text);
    }
}

// Thin lines where something happened: spikes, and starts that resumed.
static inline void chart_marks(Str *s, const RunView *v, const ChartFrame *f) {
    str_puts(s, "<path class=\"e\" d=\"");
    for (int i = 0; i < v->spike_count; i++)
        str_printf(s, "M%.1f 0V%d", chart_x(f, (double)v->spikes[i].step), CHART_HEIGHT);
    str_puts(s, "\"/><path class=\"r\" d=\"");
    for (int i = 0; i < v->happened_count; i++)
        if (strcmp(v->happened[i].kind, "start") == 0 && v->happened[i].step > 0)
            str_printf(s, "M%.1f 0V%d", chart_x(f, (double)v->happened[i].step), CHART_HEIGHT);
    str_puts(s, "\"/>");
}

// A figure of one or several runs' curves; nothing where none has a number. marks: of this run, or NULL;
// last_step: where the axis ends.
static inline void chart(Str *s, const ChartLook *look, const ChartLine *lines, int count, const RunView *marks,
                         int64_t last_step) {
    int there = 0, newest = 0;
    int64_t missing = 0;
    bool above;
    for (int i = 0; i < count; i++)
        if (lines[i].series && lines[i].series->count) there++, newest = i, missing += lines[i].series->missing;
    if (!there) return;
    ChartFrame f;
    f.scale = look->scale;
    f.x = axis_of(0, (double)int64_max(last_step, 1), 5);
    f.x.to += CHART_ROOM * (f.x.to - f.x.from);
    f.y = chart_values(lines, count, look, &above);
    const Series *one = lines[newest].series;
    str_puts(s, "<figure><figcaption><b>");
    html_text(s, look->title);
    str_puts(s, "</b> <span>");
    html_text(s, look->unit);
    str_puts(s, "</span>");
    double mean = look->flags & CHART_NOISY ? series_recent(one, 50) : one->last;
    if (count == 1) str_printf(s, "<em>%s</em>", number_short(mean * look->scale).text);
    str_printf(s,
               "</figcaption><div class=\"p\"><svg viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" role=\"img\" "
               "data-x0=\"%.17g\" data-x1=\"%.17g\" data-y0=\"%.17g\" data-y1=\"%.17g\"><title>",
               CHART_WIDTH, CHART_HEIGHT, f.x.from, f.x.to, f.y.from, f.y.to);
    html_text(s, look->title);
    str_puts(s, "</title>");
    Str labels;
    memset(&labels, 0, sizeof labels);
    chart_axes(s, &labels, &f);
    if (marks && look->flags & CHART_MARKS) chart_marks(s, marks, &f);
    for (int i = 0; i < count; i++)
        if (lines[i].series && lines[i].series->count) chart_curve(s, &lines[i], &f, look->flags, count == 1);
    str_printf(s, "</svg>%s</div>", labels.data ? labels.data : "");
    free(labels.data);
    str_puts(s, "<p class=\"n\">");
    if (count == 1) {
        str_printf(s, "least %s at step %s, largest %s at step %s", number_short(one->least * look->scale).text,
                   number_whole(one->least_step).text, number_short(one->most * look->scale).text,
                   number_whole(one->most_step).text);
        if (one->width > 1 && !(look->flags & CHART_DOTS))
            str_printf(s, "; a point is %s steps, the band their range", number_whole(one->width).text);
    }
    if (above)
        str_puts(s, count == 1 ? "; the rare largest ones stand above the chart"
                               : "the rare largest values stand above the chart");
    if (missing)
        str_printf(s, "%s<b class=\"bad\">%s without a number</b>", count == 1 || above ? "; " : "",
                   missing == 1 ? "1 step" : path_of("%s steps", number_whole(missing).text).text);
    str_puts(s, "</p></figure>\n");
}

#endif
