/*
account_main.h: report --model=FOLDER: the papers of a model, into its folder, from its record and from what a person
has answered; report --check; and the record as `info` shows it.
*/
#ifndef LLMC_ACCOUNT_MAIN_H
#define LLMC_ACCOUNT_MAIN_H

#include "bom.h"
#include "card.h"
#include "croissant.h"
#include "openness.h"
#include "reproduce.h"

#define CARD_MARK "<!-- written by report -->\n"

// A README.md that somebody else wrote, or has changed by hand and unmarked, is not ours to replace.
static inline bool account_spares(const View *v, Error *err) {
    Path path = path_of("%.3000s/README.md", v->folder.text);
    FileKind kind;
    Str text;
    memset(&text, 0, sizeof text);
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    bool ok = file_read(&text, path.text, (size_t)1 << 26, err);
    if (ok && !(text.size && strstr(text.data, CARD_MARK)))
        ok = error_set(err, "%s was not written by report, which would replace it; move it away", path.text);
    free(text.data);
    return ok;
}

// Writes one paper and says so. Takes s.
static inline bool account_put(const View *v, const char *name, Str s, Error *err) {
    Path path = path_of("%.3000s/%s", v->folder.text, name);
    FileId facts, id;
    bool ok = path_id(path.text, &id, err) && (!v->facts.path.text[0] || path_id(v->facts.path.text, &facts, err));
    if (ok && v->facts.path.text[0] && file_id_same(facts, id))
        ok = error_set(err, "--facts=%s is a file that report would replace; give it another name", v->facts.path.text);
    ok = ok && file_write_all(path.text, s.data, s.size, err);
    free(s.data);
    if (ok) print_line("%s", path.text);
    return ok;
}

static inline bool account_papers(const View *v, Error *err) {
    Str card = card_write(v);
    str_puts(&card, "\n" CARD_MARK);
    bool ok = account_spares(v, err);
    if (!ok) free(card.data);
    ok = ok && account_put(v, "README.md", card, err);
    for (int i = 0; ok && i < 2 * PAPER_COUNT; i++)
        ok = account_put(v, path_of("%s.%s.md", papers[i / 2].name, i % 2 ? "de" : "en").text,
                         paper_write(&papers[i / 2], v, i % 2 == 1), err);
    return ok && account_put(v, "croissant.json", croissant_write(v), err) &&
           account_put(v, "bom.cdx.json", cyclonedx_write(v), err) &&
           account_put(v, "bom.spdx.json", spdx_write(v), err);
}

// The verb report, with --model. Returns the exit code; ends the process on errors.
static inline int account_main(const char *model, const char *facts, bool check) {
    View v;
    Error err;
    if (!view_open(&v, model, facts, &err)) fail("%s", err.text);
    int open = 0;
    for (int fact = 0; fact < FACT_ASKED_COUNT; fact++) open += !v.facts.values[fact];
    if (check) {
        Str s;
        memset(&s, 0, sizeof s);
        openness_write(&s, &v);
        text_make_printable_but(s.data, "\n");
        fputs(s.data, stdout);
        free(s.data);
    } else {
        if (!account_papers(&v, &err)) fail("%s", err.text);
        print_line("%d of %d questions that only a person can answer are open; report --check lists them", open,
                   (int)FACT_ASKED_COUNT);
    }
    view_close(&v);
    return 0;
}

// The verb reproduce.
static inline int reproduce_main(const char *model) {
    View v;
    Error err;
    Str s;
    memset(&s, 0, sizeof s);
    if (!view_open(&v, model, "", &err) || !reproduce_write(&s, &v, &err)) fail("%s", err.text);
    fputs(s.data, stdout);
    free(s.data);
    view_close(&v);
    return 0;
}

// The record as info shows it; false: there is none.
static inline bool account_show(Str *json, const char *folder, Error *err) {
    static const struct {
        const char *name;
        bool (*piece)(Doc *);
    } rows[] = {{"made from", piece_dependencies}, {"training", piece_training}, {"time", piece_time},
                {"computation", piece_flops},      {"energy", piece_energy},     {"by", piece_energy_method},
                {"machine", piece_hardware},       {"program", piece_software},  {"data", piece_data_points},
                {"sources", piece_sources},        {"licences", piece_licenses}, {"preparation", piece_curation},
                {"validation", piece_validation},  {"tasks", piece_tasks}};
    FileKind kind;
    View v;
    if (!path_look(path_of("%.3000s/run.json", folder).text, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    if (!view_open(&v, folder, "", err)) return false;
    if (json && v.account) str_puts(json, ", \"account\": "), json_copy(json, v.account);
    if (json && v.evaluations) str_puts(json, ", \"evaluations\": "), json_copy(json, v.evaluations);
    if (!json) printf("record of the run, up to step %.0f:\n", v.step);
    for (size_t i = 0; !json && i < sizeof rows / sizeof *rows; i++) {
        Doc d;
        memset(&d, 0, sizeof d);
        d.v = &v;
        str_puts(&d.s, "");
        if (rows[i].piece(&d)) {
            text_make_printable_but(d.s.data, "\n");
            printf("%-12s %s\n", rows[i].name, d.s.data);
        }
        free(d.s.data);
    }
    view_close(&v);
    return true;
}

#endif
