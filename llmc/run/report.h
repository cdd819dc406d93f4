/*
report.h: the verb `report`: --run=RUN writes RUN/report.html again, or one page over several runs (report_page.h);
--model=FOLDER the papers of a model (llmc/account).
*/
#ifndef LLMC_REPORT_H
#define LLMC_REPORT_H

#include "../account/account_main.h"
#include "report_page.h"

// A folder that training has not written to is none.
static inline bool report_is_run(const char *folder, Error *err) {
    FileKind kind, here;
    if (!path_look(folder, &here, err) || !path_look(path_of("%.3000s/metrics.jsonl", folder).text, &kind, err))
        return false;
    if (here == FILE_FOLDER && kind == FILE_REGULAR) return true;
    return error_set(err, "--run=%s is no run: expected a folder that train --out wrote, with metrics.jsonl in it",
                     folder);
}

// The page of the runs of --run.
static inline bool report_runs(const Options *o, Error *err) {
    StrList runs;
    Report r;
    memset(&runs, 0, sizeof runs);
    memset(&r, 0, sizeof r);
    View one; // for its way of reading numbers
    memset(&one, 0, sizeof one);
    double grams;
    bool ok = path_expand(&runs, o->run, err);
    if (ok && *o->facts && runs.count > 1)
        ok = error_set(err, "--facts are of one run, and --run names %d", runs.count);
    ok = ok && facts_load(&r.facts, o->facts, err);
    one.facts = r.facts;
    ok = ok && view_number(&grams, &one, FACT_grid_intensity, err);
    if (ok && runs.count > REPORT_RUNS)
        ok = error_set(err, "--run names %d runs, at most %d can be compared", runs.count, REPORT_RUNS);
    for (int i = 0; ok && i < runs.count; i++) ok = report_is_run(runs.items[i], err);
    for (int i = 0; ok && i < runs.count; i++) r.views[r.count++] = run_view_open(runs.items[i]);
    Path out = *o->out ? path_of("%s", o->out)
               : ok    ? path_of("%.3000s/report.html", r.views[0]->folder.text)
                       : path_of("%s", "");
    ok = ok && report_write(&r, out.text, err);
    if (ok)
        print_line("%s: %d run%s, %lld step%s of the first", out.text, r.count, r.count == 1 ? "" : "s",
                   (long long)r.views[0]->step, r.views[0]->step == 1 ? "" : "s");
    for (int i = 0; i < r.count; i++) run_view_close(r.views[i]);
    facts_free(&r.facts);
    str_list_free(&runs);
    return ok;
}

static inline int verb_report(const Options *o, Dist *dist) {
    (void)dist;
    Error err;
    if (!*o->run == !*o->model)
        fail("report needs --run=RUN[,RUN...], for a page on runs, or --model=FOLDER, for the papers of a model");
    if (*o->model && *o->out) fail("--out is for report --run; the papers of a model lie in its folder");
    if (*o->run && o->check) fail("--check is for report --model");
    if (*o->model) return account_main(o->model, o->facts, o->check);
    if (!report_runs(o, &err)) fail("%s", err.text);
    return EXIT_DONE;
}

#endif
