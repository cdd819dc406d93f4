/*
mlflow.h: a run in MLflow's file store, --mlflow=FOLDER, which `mlflow ui --backend-store-uri FOLDER` shows:

    FOLDER/EXPERIMENT/meta.yaml                       "gpt", or the experiment of that name that is there
    FOLDER/EXPERIMENT/RUN/meta.yaml                   times, status: 1 running, 3 finished, 4 failed, 5 stopped
    FOLDER/EXPERIMENT/RUN/metrics/NAME                lines "MILLISECONDS VALUE STEP"
    FOLDER/EXPERIMENT/RUN/params/NAME, tags/NAME      a file for each option, and for what made the run

RUN is a hash of the run's folder, its seed and its data, so that a resume goes on in it: lines of steps that it will
make again are taken out first. A new run in the same folder takes the next free name. The format is that of MLflow's
mlflow/store/tracking/file_store.py, read back with MLflow 3.17 (which wants MLFLOW_ALLOW_FILE_STORE=true).
*/
#ifndef LLMC_MLFLOW_H
#define LLMC_MLFLOW_H

#include "../base/hash.h"
#include "../base/json.h"
#include "append.h"
#include "help.h"
#include "preflight.h"

#define MLFLOW_EXPERIMENT "gpt"
enum { MLFLOW_METRICS = 256, MLFLOW_RUNNING = 1, MLFLOW_FINISHED = 3, MLFLOW_FAILED = 4, MLFLOW_KILLED = 5 };

typedef struct {
    char name[128];
    Str lines; // that its file has not got yet
} MlflowMetric;

typedef struct {
    bool open, warned;
    Path store, folder; // of the run
    char experiment[64], run[33];
    Str name;
    int64_t started; // milliseconds since 1970
    MlflowMetric metrics[MLFLOW_METRICS];
    int count;
} Mlflow;

static inline int64_t mlflow_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline bool mlflow_failed(Mlflow *m, const char *why) {
    if (!m->warned) warn("--mlflow=%s: %s; training goes on without it", m->store.text, why);
    m->warned = true;
    return false;
}

// A name as MLflow takes it, and as no path leads out of its folder: letters, digits, _ - . and blanks.
static inline void mlflow_name(char out[128], const char *name) {
    size_t n = 0;
    for (; *name && n < 127; name++) {
        bool plain = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') || (*name >= '0' && *name <= '9');
        out[n] = plain || (n > 0 && strchr("_-. ", *name)) ? *name : '_';
        n++;
    }
    out[n] = 0;
}

// A text in YAML's single quotes.
static inline void mlflow_line(Str *s, const char *key, const char *text) {
    char *plain = str_copy(text);
    text_make_printable(plain);
    str_printf(s, "%s: '", key);
    for (const char *p = plain; *p; p++) str_add(s, *p == '\'' ? "''" : p, *p == '\'' ? 2 : 1);
    str_puts(s, "'\n");
    free(plain);
}

static inline bool mlflow_write(Mlflow *m, const char *path, const char *text, size_t n) {
    Error err;
    return file_write_all(path, text, n, &err) ? true : mlflow_failed(m, err.text);
}

// ---------------------------------------------------------------- experiment and run

// The value of a line `key: value` of a small YAML file, without quotes.
static inline void yaml_value(char *out, size_t size, const Str *text, const char *key) {
    size_t n = strlen(key);
    out[0] = 0;
    for (const char *line = text->data; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, key, n) != 0 || line[n] != ':') continue;
        const char *value = line + n + 1 + strspn(line + n + 1, " '\"");
        snprintf(out, size, "%.*s", (int)strcspn(value, "'\"\n"), value);
    }
}

// The experiment of the store that is called so; a new one where there is none.
static inline bool mlflow_experiment(Mlflow *m) {
    StrList names;
    Str text;
    Error err;
    memset(&names, 0, sizeof names);
    memset(&text, 0, sizeof text);
    if (!folder_list(&names, m->store.text, &err)) return mlflow_failed(m, err.text);
    for (int i = 0; i < names.count && !*m->experiment; i++) {
        char name[64];
        Path meta = path_of("%.3000s/%.500s/meta.yaml", m->store.text, names.items[i]);
        if (strlen(names.items[i]) >= sizeof m->experiment || !file_read(&text, meta.text, 1 << 16, NULL)) continue;
        yaml_value(name, sizeof name, &text, "name");
        if (strcmp(name, MLFLOW_EXPERIMENT) == 0) snprintf(m->experiment, sizeof m->experiment, "%s", names.items[i]);
    }
    str_list_free(&names);
    bool known = *m->experiment != 0;
    if (!known) { // numbers of 18 digits are what MLflow takes
        unsigned long long id =
            (unsigned long long)(xxh64(MLFLOW_EXPERIMENT, strlen(MLFLOW_EXPERIMENT), 0) % 900000000000000000ull);
        snprintf(m->experiment, sizeof m->experiment, "%llu", 100000000000000000ull + id);
        Path folder = path_of("%.3000s/%s", m->store.text, m->experiment);
        text.size = 0;
        mlflow_line(&text, "artifact_location", folder.text);
        str_printf(&text, "creation_time: %" PRId64 "\n", mlflow_now());
        mlflow_line(&text, "experiment_id", m->experiment);
        str_printf(&text, "last_update_time: %" PRId64 "\nlifecycle_stage: active\nname: " MLFLOW_EXPERIMENT "\n",
                   mlflow_now());
        known = path_make_folder(folder.text, &err)
                    ? mlflow_write(m, path_of("%.3500s/meta.yaml", folder.text).text, text.data, text.size)
                    : mlflow_failed(m, err.text);
    }
    free(text.data);
    return known;
}

static inline bool mlflow_meta(Mlflow *m, int status) {
    Str s;
    memset(&s, 0, sizeof s);
    mlflow_line(&s, "artifact_uri", path_of("%.3000s/artifacts", m->folder.text).text);
    if (status == MLFLOW_RUNNING) str_puts(&s, "end_time: null\n");
    else str_printf(&s, "end_time: %" PRId64 "\n", mlflow_now());
    str_puts(&s, "entry_point_name: ''\n");
    mlflow_line(&s, "experiment_id", m->experiment);
    str_puts(&s, "lifecycle_stage: active\n");
    mlflow_line(&s, "run_id", m->run);
    mlflow_line(&s, "run_name", m->name.data);
    mlflow_line(&s, "run_uuid", m->run);
    str_printf(&s,
               "source_name: ''\nsource_type: 4\nsource_version: ''\nstart_time: %" PRId64
               "\nstatus: %d\ntags: []\nuser_id: ''\n",
               m->started, status);
    bool ok = mlflow_write(m, path_of("%.3000s/meta.yaml", m->folder.text).text, s.data, s.size);
    free(s.data);
    return ok;
}

// Takes the lines of steps > last out of the metrics.
static inline bool mlflow_cut(Mlflow *m, int64_t last) {
    StrList names;
    Str text;
    Error err;
    memset(&names, 0, sizeof names);
    memset(&text, 0, sizeof text);
    Path folder = path_of("%.3000s/metrics", m->folder.text);
    bool ok = folder_list(&names, folder.text, &err);
    for (int i = 0; ok && i < names.count; i++) {
        Path path = path_of("%.3500s/%.500s", folder.text, names.items[i]);
        if (!(ok = file_read(&text, path.text, (size_t)1 << 31, &err))) break;
        size_t kept = 0;
        for (char *line = text.data, *end; line < text.data + text.size; line = end + 1) {
            end = (char *)memchr(line, '\n', (size_t)(text.data + text.size - line));
            if (!end) break; // cut short by a kill
            *end = 0;
            const char *step = strrchr(line, ' ');
            size_t n = (size_t)(end - line) + 1;
            *end = '\n';
            if (!step || atoll(step) > last) continue;
            memmove(text.data + kept, line, n);
            kept += n;
        }
        if (kept < text.size) ok = file_write_all(path.text, text.data, kept, &err);
        // MLflow does not read an empty file.
        if (ok && kept == 0 && unlink(path.text) != 0 && errno != ENOENT)
            ok = error_set(&err, "cannot remove %s: %s", path.text, strerror(errno));
    }
    str_list_free(&names);
    free(text.data);
    return ok ? true : mlflow_failed(m, err.text);
}

// The run's folder: that of the run which goes on behind step `last`, or, for a new one (0), one that is not there yet.
static inline bool mlflow_find_run(Mlflow *m, uint64_t identity, int64_t last) {
    Path found;
    Error err;
    char run[33] = "";
    for (int number = 0;; number++) {
        snprintf(run, sizeof run, "%016" PRIx64 "%016" PRIx64, identity, xxh64(&number, sizeof number, identity));
        FileKind kind;
        found = path_of("%.3000s/%s/%s", m->store.text, m->experiment, run);
        if (!path_look(found.text, &kind, &err)) return mlflow_failed(m, err.text);
        if (last > 0 && kind == FILE_ABSENT && number > 0) break; // the newest is the one before
        m->folder = found;
        memcpy(m->run, run, sizeof run);
        if (kind == FILE_ABSENT) break;
    }
    return true;
}

// ---------------------------------------------------------------- writing

// Not synced one by one: there are a hundred.
static inline void mlflow_file(Mlflow *m, const char *kind, const char *name, const char *text) {
    char plain[128];
    AppendFile f;
    memset(&f, 0, sizeof f);
    f.warned = m->warned;
    mlflow_name(plain, name);
    if (append_open(&f, path_of("%.3000s/%s/%s", m->folder.text, kind, plain).text)) {
        if (f.size == 0 || ftruncate(f.fd, 0) == 0) append_add(&f, text, strlen(text));
        else append_warn(&f, strerror(errno));
    }
    append_close(&f);
    m->warned = f.warned;
}

// A run in the store. run_dir: its folder; what: seed and data; last: the step that it goes on behind, 0: a new one.
static inline void mlflow_open(Mlflow *m, const Options *o, uint64_t what, int64_t last) {
    Error err;
    Str text;
    memset(&text, 0, sizeof text);
    char *store = NULL, *run_dir = realpath(o->out, NULL);
    m->store = path_of("%s", o->mlflow);
    if (!path_make_folder(o->mlflow, &err)) mlflow_failed(m, err.text);
    else if ((store = realpath(o->mlflow, NULL)) != NULL) m->store = path_of("%.3000s", store);
    const char *whole = run_dir ? run_dir : o->out, *slash = strrchr(whole, '/');
    bool ok = store && mlflow_experiment(m) && mlflow_find_run(m, xxh64(whole, strlen(whole), what), last);
    static const char *const rooms[] = {"metrics", "params", "tags", "artifacts"};
    for (int i = 0; ok && i < 4; i++)
        if (!path_make_folder(path_of("%.3000s/%s", m->folder.text, rooms[i]).text, &err))
            ok = mlflow_failed(m, err.text);
    str_puts(&m->name, slash && slash[1] ? slash + 1 : whole);
    m->started = mlflow_now();
    Path meta = path_of("%.3000s/meta.yaml", m->folder.text);
    char began[32] = "";
    if (ok && file_read(&text, meta.text, 1 << 16, NULL)) yaml_value(began, sizeof began, &text, "start_time");
    if (atoll(began) > 0) m->started = atoll(began);
    m->open = ok && mlflow_cut(m, last) && mlflow_meta(m, MLFLOW_RUNNING);
    for (const Option *p = option_rows; m->open && p < option_rows + OPTION_COUNT; p++) {
        if (!(p->verbs & 1 << o->verb)) continue;
        text.size = 0;
        option_text(&text, p, o);
        if (text.size > 5900) text.data[text.size = 5900] = 0; // MLflow takes 6,000
        if (text.data) text_make_printable(text.data);
        mlflow_file(m, "params", p->name, text.size ? text.data : "");
    }
    if (m->open) {
        mlflow_file(m, "tags", "mlflow.runName", m->name.data);
        mlflow_file(m, "tags", "mlflow.source.name", engine_name());
        mlflow_file(m, "tags", "mlflow.source.type", "LOCAL");
        mlflow_file(m, "tags", "mlflow.source.git.commit", build_commit);
        mlflow_file(m, "tags", "run_folder", whole);
    }
    free(text.data), free(store), free(run_dir);
}

// Takes the numbers of a line of metrics.jsonl, for the next mlflow_flush().
static inline void mlflow_step(Mlflow *m, int64_t step, const Json *line) {
    int64_t now = mlflow_now();
    for (const Json *j = line->child; m->open && j; j = j->next) {
        char name[128];
        if (j->type != JSON_NUMBER || strcmp(j->key, "step") == 0) continue;
        mlflow_name(name, j->key);
        int i = 0;
        while (i < m->count && strcmp(m->metrics[i].name, name) != 0) i++;
        if (i == MLFLOW_METRICS) continue;
        if (i == m->count) memcpy(m->metrics[m->count++].name, name, sizeof name);
        str_printf(&m->metrics[i].lines, "%" PRId64 " %.17g %" PRId64 "\n", now, j->number, step);
    }
}

static inline void mlflow_flush(Mlflow *m) {
    for (int i = 0; m->open && i < m->count; i++) {
        AppendFile f;
        memset(&f, 0, sizeof f);
        f.warned = m->warned;
        Str *lines = &m->metrics[i].lines;
        if (lines->size && append_open(&f, path_of("%.3000s/metrics/%s", m->folder.text, m->metrics[i].name).text))
            append_add(&f, lines->data, lines->size);
        append_close(&f);
        m->warned = f.warned;
        lines->size = 0;
    }
}

// The run goes on behind an earlier step.
static inline void mlflow_rollback(Mlflow *m, int64_t last) {
    mlflow_flush(m);
    if (m->open) mlflow_cut(m, last);
}

static inline void mlflow_close(Mlflow *m, int status) {
    mlflow_flush(m);
    if (m->open) mlflow_meta(m, status);
    for (int i = 0; i < m->count; i++) free(m->metrics[i].lines.data);
    free(m->name.data);
    m->open = false, m->count = 0;
}

#endif
