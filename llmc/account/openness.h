/*
openness.h: report --check: what a model lacks for the classes of the Model Openness Framework and for the points of the
European Open Source AI Index, each with the reason, and the questions that nobody has answered yet.

    MOF    White, Haddad, Osborne et al., arXiv 2403.13784, and the Linux Foundation's specification 1.0 (2024): class
           III open model, II open tooling, I open science; each class includes those before it. Every component needs
           an open licence.
    OSAI   the index of Radboud University (osai-index.eu), 14 points of availability, documentation, access

What lies in the folder or stands in the record is looked up; what is published elsewhere somebody has to say. Whether a
place that somebody names really holds what it should is not looked at.
*/
#ifndef LLMC_OPENNESS_H
#define LLMC_OPENNESS_H

#include "papers.h"

// Whether a component is there: 1 yes, 0 no. why: the reason, in any case.
typedef int (*OpenLook)(const View *v, Path *why);

typedef struct {
    const char *name;
    int group;     // MOF: the class; OSAI: of 0 availability, 1 documentation, 2 access
    OpenLook look; // NULL: by the fact alone
    int fact;
} OpenRow;

static inline int open_by_fact(const View *v, Path *why, int fact) {
    const char *told = v->facts.values[fact];
    *why = told ? path_of("%.500s", told)
                : path_of("nobody has said: %.500s (%s = ...)", fact_question(fact, false), fact_key(fact));
    return told != NULL && strcasecmp(told, "no") != 0 && strcasecmp(told, "none") != 0;
}

// Licences that are open to whoever uses weights, data or code, by the Open Definition, the OSI and OpenMDW.
static inline bool open_license(const char *name) {
    static const char *const open[] = {"OpenMDW-1.0",
                                       "Apache-2.0",
                                       "MIT",
                                       "CC0-1.0",
                                       "CC-BY-4.0",
                                       "CC-BY-SA-4.0",
                                       "BSD-2-Clause",
                                       "BSD-3-Clause",
                                       "MPL-2.0",
                                       "GPL-2.0-only",
                                       "GPL-3.0-only",
                                       "GPL-2.0-or-later",
                                       "GPL-3.0-or-later",
                                       "AGPL-3.0-only",
                                       "CDLA-Permissive-2.0",
                                       "CDLA-Permissive-1.0",
                                       "ODC-By-1.0",
                                       "ODbL-1.0",
                                       "PDDL-1.0",
                                       "ISC",
                                       "Unlicense",
                                       "EUPL-1.2"};
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        if (strcasecmp(open[i], name) == 0) return true;
    return false;
}

static inline int open_model_license(const View *v, Path *why) {
    const char *told = v->facts.values[FACT_license];
    if (!told) return open_by_fact(v, why, FACT_license);
    bool open = open_license(told);
    *why = path_of(open ? "%.200s"
                        : "%.200s is none of the open licences known here: look it up at opensource.org or "
                          "opendefinition.org",
                   told);
    return open;
}

static inline int open_architecture(const View *v, Path *why) {
    *why = path_of("config.json and the source of %s, family %s", engine_name(), family_name(v->config.family));
    return 1;
}

static inline int open_weights(const View *v, Path *why) {
    int count = 0;
    for (int i = 0; i < v->files.count; i++) count += str_ends_with(v->files.items[i], ".safetensors");
    *why = path_of(count ? "%d file%s of weights in the folder" : "no weights in the folder", count,
                   count == 1 ? "" : "s");
    if (count && !v->facts.values[FACT_repository]) {
        *why = path_of("they are in the folder, and nobody has said where others get them (repository = ...)");
        return 0;
    }
    return count > 0;
}

static inline int open_results(const View *v, Path *why) {
    bool tasks = v->tasks != NULL;
    for (const Json *j = v->evaluations ? v->evaluations->child : NULL; j; j = j->next)
        tasks |= json_get(j, "task") != NULL;
    *why = path_of(tasks           ? "scores of tasks in run.json"
                   : v->validation ? "a validation in run.json, and no scores of tasks: eval --tasks=... --record"
                                   : "nothing was evaluated: eval --data=... --tasks=... --record");
    return tasks;
}

// A document of this verb in the folder.
static inline int open_document(const View *v, Path *why, const char *name) {
    FileKind kind = FILE_ABSENT;
    bool there = path_look(path_of("%.3000s/%s", v->folder.text, name).text, &kind, NULL) && kind == FILE_REGULAR;
    *why = path_of(there ? "%s" : "%s is not in the folder: write it with report --model=FOLDER", name);
    return there;
}
static inline int open_card(const View *v, Path *why) { return open_document(v, why, "README.md"); }
static inline int open_sheet(const View *v, Path *why) { return open_document(v, why, "datasheet.en.md"); }

static inline int open_hardware(const View *v, Path *why) {
    *why = path_of(v->last ? "run.json: %.300s" : "run.json does not say%.0s",
                   json_string(json_get(json_get(v->last, "machine"), "device"), "?"));
    return v->last != NULL;
}

// What this program does for everybody who has it.
static inline int open_program(const View *v, Path *why) {
    (void)v;
    *why = path_of("%s: the verbs generate and eval, and scripts; Apache-2.0", engine_name());
    return 1;
}

// Data that are named are open only if their licences are.
static inline int open_data(const View *v, Path *why) {
    if (!open_by_fact(v, why, FACT_data_access)) return 0;
    const char *told = v->facts.values[FACT_data_license];
    if (!told && v->licenses.count == 0) return open_by_fact(v, why, FACT_data_license);
    for (int i = 0; i < v->licenses.count; i++)
        if (!open_license(v->licenses.items[i])) {
            *why = path_of("the licence \"%.200s\" of some of the data is none of the open ones known here",
                           v->licenses.items[i]);
            return 0;
        }
    return 1;
}

static const OpenRow open_mof[] = {
    {"licence of the model", 3, open_model_license, NO_FACT},
    {"model architecture", 3, open_architecture, NO_FACT},
    {"model parameters, final", 3, open_weights, NO_FACT},
    {"technical report", 3, NULL, FACT_technical_report},
    {"evaluation results", 3, open_results, NO_FACT},
    {"model card", 3, open_card, NO_FACT},
    {"data card", 3, open_sheet, NO_FACT},
    {"training code", 2, NULL, FACT_training_code},
    {"inference code", 2, open_program, NO_FACT},
    {"evaluation code", 2, open_program, NO_FACT},
    {"evaluation data", 2, NULL, FACT_evaluation_data},
    {"supporting libraries and tools", 2, open_program, NO_FACT},
    {"research paper", 1, NULL, FACT_paper},
    {"datasets", 1, open_data, NO_FACT},
    {"data preprocessing code", 1, open_program, NO_FACT},
    {"model parameters, intermediate checkpoints", 1, NULL, FACT_intermediate_checkpoints},
};

// A model that was trained from random weights is its own base model.
static inline int open_base(const View *v, Path *why, OpenLook own) {
    if (!v->account) {
        *why = path_of("run.json does not say from what the weights began");
        return 0;
    }
    return v->base ? open_by_fact(v, why, FACT_base_model) : own(v, why);
}
static inline int open_base_data(const View *v, Path *why) { return open_base(v, why, open_data); }
static inline int open_base_weights(const View *v, Path *why) { return open_base(v, why, open_weights); }

static const OpenRow open_osai[] = {
    {"base model data", 0, open_base_data, NO_FACT},
    {"end user model data", 0, open_data, NO_FACT},
    {"base model weights", 0, open_base_weights, NO_FACT},
    {"end user model weights", 0, open_weights, NO_FACT},
    {"training code", 0, NULL, FACT_training_code},
    {"code documentation", 1, NULL, FACT_code_documentation},
    {"hardware architecture", 1, open_hardware, NO_FACT},
    {"preprint", 1, NULL, FACT_preprint},
    {"paper", 1, NULL, FACT_paper},
    {"model card", 1, open_card, NO_FACT},
    {"data sheet", 1, open_sheet, NO_FACT},
    {"package", 2, NULL, FACT_package},
    {"API and meta prompts", 2, NULL, FACT_api},
    {"licences", 2, open_model_license, NO_FACT},
};

// The rows of a group. Returns how many are missing.
static inline int open_group(Str *s, const View *v, const OpenRow *rows, size_t count, int group) {
    int missing = 0;
    for (const OpenRow *row = rows; row < rows + count; row++) {
        Path why;
        if (row->group != group) continue;
        int there = row->look ? row->look(v, &why) : open_by_fact(v, &why, row->fact);
        text_make_printable(why.text);
        str_printf(s, "    %-8s %s: %s\n", there ? "there" : "missing", row->name, why.text);
        missing += !there;
    }
    return missing;
}

// The whole of report --check.
static inline void openness_write(Str *s, const View *v) {
    static const char *const classes[] = {"", "Class I, open science", "Class II, open tooling",
                                          "Class III, open model"};
    static const char *const parts[] = {"availability", "documentation", "access and licensing"};
    const size_t mof = sizeof open_mof / sizeof *open_mof, osai = sizeof open_osai / sizeof *open_osai;
    int reached = 4, missing = 0, all = 0;
    str_puts(s, "Model Openness Framework (each class needs those before it)\n");
    for (int c = 3; c >= 1; c--) {
        str_printf(s, "  %s\n", classes[c]);
        missing += open_group(s, v, open_mof, mof, c);
        if (missing == 0) reached = c;
        str_printf(s, "    -> %s\n", missing ? path_of("not reached, %d missing", missing).text : "reached");
    }
    str_printf(s, "  reached: %s\n\nEuropean Open Source AI Index\n", reached < 4 ? classes[reached] : "no class");
    for (int part = 0; part < 3; part++) {
        str_printf(s, "  %s\n", parts[part]);
        all += open_group(s, v, open_osai, osai, part);
    }
    str_printf(s, "  %zu of %zu points are there\n", osai - (size_t)all, osai);
    str_puts(s, "\nOpen questions, as lines of the file for --facts\n");
    for (int fact = 0; fact < FACT_ASKED_COUNT; fact++)
        if (!v->facts.values[fact])
            str_printf(s, "\n# %s\n# %s\n%s =\n", fact_question(fact, true), fact_question(fact, false),
                       fact_key(fact));
}

#endif
