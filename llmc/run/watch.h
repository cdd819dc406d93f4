/*
watch.h: the verb `watch`: a run on the terminal, from any machine that sees its folder: where it stands, the curve of
its loss, the newest sample, the time left. It reads the folder's files (follow.h) and writes nothing.

    watch --run=RUN           again every --interval seconds, until the run ends; without a terminal, once
    watch --run=RUN --once    once

As wide as the terminal, or as COLUMNS says. The curve is drawn in Braille, two by four points a character, where the
locale's encoding is UTF-8, else with stars; colours only on a terminal, and not where NO_COLOR is set.
*/
#ifndef LLMC_WATCH_H
#define LLMC_WATCH_H

#include "report.h"
#include <sys/ioctl.h>

typedef struct {
    int width, height; // of the terminal
    bool braille, colours;
} Terminal;

static inline Terminal terminal_here(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    Terminal t = {80, 24, false, false};
    struct winsize size;
    bool is_one = isatty(STDOUT_FILENO) != 0;
    const char *columns = getenv("COLUMNS"), *locale = "", *no_colour = getenv("NO_COLOR"), *kind = getenv("TERM");
    for (int i = 0; i < 3 && !*locale; i++) locale = getenv(names[i]) ? getenv(names[i]) : "";
    if (is_one && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
        t.width = size.ws_col, t.height = size.ws_row;
    if (columns && atoi(columns) > 0) t.width = atoi(columns);
    t.width = (int)int64_max(30, int64_min(t.width, 400));
    t.height = (int)int64_max(16, int64_min(t.height, 200));
    t.braille = strcasestr(locale, "utf-8") || strcasestr(locale, "utf8");
    t.colours = is_one && !(no_colour && *no_colour) && !(kind && strcmp(kind, "dumb") == 0);
    return t;
}

// ---------------------------------------------------------------- text

// Columns that a character takes: 0 for those that stand on another, 2 for those of East Asia and pictures.
static inline int terminal_columns(uint32_t c) {
    if ((c >= 0x300 && c < 0x370) || (c >= 0x200b && c <= 0x200f) || (c >= 0xfe00 && c <= 0xfe0f)) return 0;
    return (c >= 0x1100 && c < 0x1160) || (c >= 0x2e80 && c < 0xa4d0) || (c >= 0xac00 && c < 0xd7a4) ||
                   (c >= 0xf900 && c < 0xfb00) || (c >= 0xff00 && c < 0xff61) || (c >= 0x1f300 && c < 0x20000) ||
                   c >= 0x20000
               ? 2
               : 1;
}

// Appends text in lines of `width` columns, at most `lines` of them; words stay whole where they can.
static inline void terminal_wrap(Str *out, const char *text, int width, int lines) {
    char *plain = str_copy(text);
    text_make_printable_but(plain, "\n");
    const char *p = plain;
    while (*p && lines-- > 0) {
        const uint8_t *q = (const uint8_t *)p, *end = q + strlen(p), *space = NULL;
        uint32_t c = 0;
        int column = 0, n = 0, room = lines == 0 && width > 20 ? width - 4 : width; // for the dots behind the last
        for (; q < end && *q != '\n'; q += n) {
            n = utf8_decode(q, end, &c);
            if (column + terminal_columns(c) > room) break;
            column += terminal_columns(c);
            if (c == ' ') space = q;
        }
        if (q < end && *q != '\n' && space && *q != ' ') q = space;
        bool more = lines == 0 && q < end && q[strspn((const char *)q, " \n")];
        str_add(out, p, (size_t)((const char *)q - p));
        str_puts(out, more && room < width ? " ...\n" : "\n");
        p = (const char *)q;
        if (*p == '\n') p++;
        else p += strspn(p, " ");
    }
    free(plain);
}

// ---------------------------------------------------------------- the curve

// The values of a curve for each of n columns, smoothed a little; NAN: none.
static inline void watch_columns(double *out, int n, const Series *s) {
    int smooth = s->used / 40;
    for (int i = 0; i < n; i++) {
        double sum = 0, count = 0;
        int from = (int)((int64_t)i * s->used / n), to = (int)int64_max((int64_t)(i + 1) * s->used / n, from + 1);
        for (int k = from - smooth / 2; k < to + smooth / 2; k++)
            if (k >= 0 && k < s->used) sum += s->buckets[k].sum, count += s->buckets[k].count;
        out[i] = count > 0 ? sum / count : (double)NAN;
    }
}

// Marks a point of a picture of `rows` x `width` characters, of `dots` x `down` points each.
static inline void watch_mark(uint8_t *cells, int width, int rows, int dots, int x, double share) {
    static const uint8_t bits[4][2] = {{1, 8}, {2, 16}, {4, 32}, {64, 128}};
    int down = dots == 2 ? 4 : 1, y = (int)((1 - share) * (rows * down - 1) + 0.5);
    if (y < 0 || y >= rows * down) return;
    cells[y / down * width + x / dots] |= dots == 2 ? bits[y % 4][x % 2] : 1;
}

static inline void watch_curve(Str *out, const Series *s, const Terminal *t, int rows) {
    enum { LABEL = 8 };
    int width = t->width - LABEL - 2, dots = t->braille ? 2 : 1, n = width * dots;
    if (!s || !s->count || width < 8) return;
    double *values = (double *)mem_alloc(sizeof(double) * (size_t)n);
    uint8_t *cells = (uint8_t *)mem_alloc((size_t)(width * rows));
    ChartLine line = {s, 0};
    watch_columns(values, n, s);
    double least = (double)INFINITY, most = chart_quantile(&line, 1, 0.97);
    for (int i = 0; i < n; i++)
        if (isfinite(values[i])) least = fmin(least, values[i]);
    most += 0.25 * (most - least); // the first steps stand above
    if (most > s->most) most = s->most;
    if (!(most > least)) most = least + fmax(1e-6, 0.01 * fabs(least));
    double before = (double)NAN;
    for (int i = 0; i < n; i++) {
        if (!isfinite(values[i])) continue;
        double share = (values[i] - least) / (most - least);
        watch_mark(cells, width, rows, dots, i, share);
        for (int k = 1; isfinite(before) && k < 4 * rows; k++) // down to it, so that steep parts hang together
            watch_mark(cells, width, rows, dots, i, before + (share - before) * k / (4 * rows));
        before = share;
    }
    for (int r = 0; r < rows; r++) {
        Path label = r == 0 ? path_of("%.4g", most) : r == rows - 1 ? path_of("%.4g", least) : path_of("%s", "");
        str_printf(out, "%*.*s %s", LABEL, LABEL, label.text, t->colours ? "\033[36m" : "");
        for (int x = 0; x < width; x++) {
            uint8_t utf8[4], cell = cells[r * width + x];
            if (t->braille) str_add(out, utf8, (size_t)utf8_put(utf8, cell ? 0x2800u + cell : ' '));
            else str_puts(out, cell ? "*" : " ");
        }
        while (out->size && out->data[out->size - 1] == ' ') out->size--;
        str_puts(out, t->colours ? "\033[0m\n" : "\n");
    }
    int last = (int)strlen(number_whole(s->last_step).text);
    str_printf(out, "%*s 1%*s%s\n", LABEL, "", (int)int64_max(1, width - 1 - last), "",
               number_whole(s->last_step).text);
    free(values), free(cells);
}

// ---------------------------------------------------------------- the picture

static inline void watch_bar(Str *out, const Terminal *t, double share) {
    int width = t->width - 8, full = (int)(share * width + 0.5);
    if (!isfinite(share)) return;
    for (int i = 0; i < width; i++)
        str_puts(out, i < full ? t->braille ? "\xe2\x94\x81" : "=" : t->braille ? "\xe2\x94\x80" : "-");
    str_printf(out, " %5.1f%%\n", 100 * share);
}

static inline void watch_figures(Str *out, const RunView *v) {
    const Series *bits = view_series(v, "val_bits_per_byte"), *val = view_series(v, "val_loss"),
                 *lr = view_series(v, "lr"), *mfu = view_series(v, "mfu"), *norm = view_series(v, "grad_norm");
    const int64_t newest = 20;
    str_printf(out, "loss %s", number_short(series_recent(view_series(v, "loss"), newest)).text);
    if (bits && bits->count)
        str_printf(out, " | validation %.4f bits/byte at step %s", bits->last, number_whole(bits->last_step).text);
    else if (val && val->count)
        str_printf(out, " | validation %.4f at step %s", val->last, number_whole(val->last_step).text);
    if (lr && lr->count) str_printf(out, " | lr %.3g", lr->last);
    if (norm && norm->count) str_printf(out, " | gradient norm %s", number_short(series_recent(norm, newest)).text);
    str_printf(out, " | %s tokens/s", number_short(series_recent(view_series(v, "tokens_per_s"), newest)).text);
    if (mfu && mfu->count) str_printf(out, " | %.3g%% of the peak", 100 * series_recent(mfu, newest));
    int spikes = v->spike_count + v->spikes_out;
    if (spikes) str_printf(out, " | %d spike%s", spikes, spikes == 1 ? "" : "s");
    str_puts(out, "\n");
}

// now: seconds since 1970.
static inline void watch_picture(Str *out, const RunView *v, const Terminal *t, double now) {
    static const char *const colours[] = {"\033[2m",  "\033[32m", "\033[31m", "\033[2m",
                                          "\033[33m", "\033[31m", "\033[32m"};
    RunStanding standing = view_standing(v, now);
    Str line;
    memset(&line, 0, sizeof line);
    str_printf(&line, "%.200s: %s", v->name.text, run_standings[standing]);
    if (standing == RUN_QUIET || standing == RUN_SILENT)
        str_printf(&line, ", no word for %s", number_time(now - v->metrics.changed).text);
    str_printf(&line, ", step %s", number_whole(v->step).text);
    if (view_steps(v)) str_printf(&line, " of %s", number_whole(view_steps(v)).text);
    str_printf(&line, ", %s tokens", number_short((double)v->tokens).text);
    if (standing == RUN_GOES && isfinite(view_left(v))) str_printf(&line, ", %s left", number_time(view_left(v)).text);
    if (t->colours) str_puts(out, colours[standing]);
    terminal_wrap(out, line.data, t->width, 3);
    if (t->colours) str_puts(out, "\033[0m");
    watch_bar(out, t, view_share(v));
    line.size = 0;
    if (v->lines) watch_figures(&line, v);
    terminal_wrap(out, line.data ? line.data : "", t->width, 4);
    watch_curve(out, view_series(v, "loss"), t, (int)int64_max(5, int64_min(14, t->height / 3)));
    if (v->sample_count) {
        line.size = 0;
        str_printf(&line, "sample at step %s: %s%s", number_whole(v->newest.step).text, v->newest.prompt,
                   v->newest.text);
        terminal_wrap(out, line.data, t->width, (int)int64_max(3, int64_min(8, t->height / 4)));
    }
    free(line.data);
}

static inline bool watch_look(Str *out, RunView *v, const Terminal *t, RunStanding *standing, Error *err) {
    out->size = 0;
    if (!view_update(v, err)) return false;
    double now = report_now();
    *standing = view_standing(v, now);
    watch_picture(out, v, t, now);
    return true;
}

static inline int verb_watch(const Options *o, Dist *dist) {
    (void)dist;
    Error err;
    Str out;
    RunStanding standing = RUN_EMPTY;
    memset(&out, 0, sizeof out);
    if (!report_is_run(o->run, &err)) fail("%s", err.text);
    RunView *v = run_view_open(o->run);
    bool once = o->once || !isatty(STDOUT_FILENO);
    for (bool first = true;; first = false) {
        Terminal t = terminal_here();
        if (!watch_look(&out, v, &t, &standing, &err)) fail("%s", err.text);
        if (!once) fputs(first ? "\033[2J\033[H" : "\033[H", stdout);
        for (const char *p = out.data, *end; *p; p = end + 1) { // each line, and what stood behind it goes
            end = strchr(p, '\n');
            printf("%.*s%s\n", (int)(end - p), p, once ? "" : "\033[K");
        }
        if (!once) fputs("\033[J", stdout);
        if (fflush(stdout) != 0) break;
        if (once || standing >= RUN_STOPPED) break;
        struct timespec wait = {(time_t)o->interval, (long)(1e9 * (o->interval - floor(o->interval)))};
        nanosleep(&wait, NULL);
    }
    run_view_close(v);
    free(out.data);
    return EXIT_DONE;
}

#endif
