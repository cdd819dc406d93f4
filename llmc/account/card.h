/*
card.h: README.md, the model card as Hugging Face reads it: YAML between two lines of dashes
(huggingface.co/docs/hub/model-cards), then the card for people in English and in German (papers.h).

YAML strings are written as JSON strings, which YAML 1.2 reads as the same. What is not known is no key but a comment
with the question: an invented value would be taken for one.
*/
#ifndef LLMC_CARD_H
#define LLMC_CARD_H

#include "papers.h"

static inline void yaml_text(Str *s, const char *before, const char *text) {
    str_puts(s, before);
    json_escape(s, text, strlen(text));
    str_puts(s, "\n");
}

static inline void yaml_gap(Str *s, const char *key, int fact) {
    str_printf(s, "# %s: OPEN: %s (%s = ...)\n", key, fact_question(fact, false), fact_key(fact));
}

// A list of an answer's parts between commas, or the gap.
static inline void yaml_list(Str *s, const char *key, const View *v, int fact) {
    const char *list = v->facts.values[fact];
    if (!list) {
        yaml_gap(s, key, fact);
        return;
    }
    str_printf(s, "%s:\n", key);
    for (const char *part = list; *part; part += strcspn(part, ","), part += *part == ',') {
        part += strspn(part, " \t");
        Path one = path_of("%.*s", (int)int64_min((int64_t)strcspn(part, ","), 1000), part);
        facts_trim(one.text);
        if (one.text[0]) yaml_text(s, "- ", one.text);
    }
}

// The hub knows licences by names of its own; others are "other" with a name and a link.
static inline void yaml_license(Str *s, const View *v) {
    static const char *const known[] = {"apache-2.0",   "mit",          "cc0-1.0",   "cc-by-4.0", "cc-by-sa-4.0",
                                        "cc-by-nc-4.0", "mpl-2.0",      "gpl-3.0",   "agpl-3.0",  "lgpl-3.0",
                                        "bsd-2-clause", "bsd-3-clause", "unlicense", "eupl-1.2",  "openrail",
                                        "odc-by",       "gfdl",         "isc"};
    const char *told = v->facts.values[FACT_license], *link = v->facts.values[FACT_license_link];
    if (!told) {
        yaml_gap(s, "license", FACT_license);
        return;
    }
    size_t i = 0, count = sizeof known / sizeof *known;
    while (i < count && strcasecmp(known[i], told) != 0) i++;
    if (i < count) str_printf(s, "license: %s\n", known[i]);
    else str_puts(s, "license: other\n"), yaml_text(s, "license_name: ", told);
    if (link) yaml_text(s, "license_link: ", link);
}

// One measurement as a result of the model-index. The hub has a name of its own for the share of right answers.
static inline void yaml_result(Str *s, const Result *one) {
    bool validation = strcmp(one->group, "validation") == 0;
    str_puts(s, "  - task:\n      type: text-generation\n    dataset:\n");
    yaml_text(s, "      type: ", one->name.text);
    yaml_text(s, "      name: ", validation ? "validation documents of the training data" : one->name.text);
    if (one->sha256 || isfinite(one->items)) str_puts(s, "      args:\n");
    if (isfinite(one->items)) str_printf(s, "        items: %.0f\n", one->items);
    if (one->sha256) yaml_text(s, "        sha256: ", one->sha256);
    str_puts(s, "    metrics:\n");
    for (int k = 0; k < one->count; k++) {
        const ResultFigure *f = &one->figures[k];
        str_printf(s, "    - type: %s\n", strcmp(f->metric, "acc") == 0 ? "accuracy" : f->metric);
        yaml_text(s, "      name: ", validation && strcmp(f->metric, "loss") == 0 ? "nats a token" : f->metric);
        str_puts(s, "      value: "), json_add_number(s, f->value), str_puts(s, "\n");
        if (!isfinite(f->error)) continue;
        str_puts(s, "      args:\n        stderr: "), json_add_number(s, f->error), str_puts(s, "\n");
    }
}

// The results as a model-index: the validation, every score of the tasks, and what else was measured.
static inline void yaml_results(Str *s, const View *v) {
    Results r = results_of(v);
    bool accuracy = false;
    for (size_t i = 0; i < r.count; i++)
        for (int k = 0; k < r.items[i].count; k++) accuracy |= strcmp(r.items[i].figures[k].metric, "acc") == 0;
    str_printf(s, "metrics:\n- perplexity\n%s", accuracy ? "- accuracy\n" : "");
    if (r.count) yaml_text(s, "model-index:\n- name: ", v->name.text), str_puts(s, "  results:\n");
    for (size_t i = 0; i < r.count; i++) yaml_result(s, &r.items[i]);
    free(r.items);
}

static inline void yaml_emissions(Str *s, const View *v) {
    double grams = view_co2(v);
    if (!isfinite(grams)) {
        yaml_gap(s, "co2_eq_emissions", FACT_grid_intensity);
        return;
    }
    str_puts(s, "co2_eq_emissions:\n  emissions: "), json_add_number(s, grams);
    Doc d;
    memset(&d, 0, sizeof d);
    d.v = v, d.plain = true;
    str_puts(&d.s, "energy "), piece_energy_method(&d);
    yaml_text(s, "\n  source: ", d.s.data);
    free(d.s.data);
    str_printf(s, "  training_type: %s\n", v->base ? "fine-tuning" : "pre-training");
    if (v->facts.values[FACT_location]) yaml_text(s, "  geographical_location: ", v->facts.values[FACT_location]);
    yaml_text(s, "  hardware_used: ", json_string(json_get(json_get(v->last, "machine"), "device"), "?"));
}

// README.md. To be freed.
static inline Str card_write(const View *v) {
    Doc d;
    memset(&d, 0, sizeof d);
    d.v = v;
    Str *s = &d.s;
    str_puts(s, "---\n");
    yaml_list(s, "language", v, FACT_language);
    yaml_license(s, v);
    str_printf(s, "library_name: transformers\npipeline_tag: text-generation\ntags:\n- %s\n- text-generation\n",
               family_name(v->config.family));
    yaml_list(s, "datasets", v, FACT_datasets);
    if (v->facts.values[FACT_base_model]) {
        yaml_text(s, "base_model: ", v->facts.values[FACT_base_model]);
        str_puts(s, "base_model_relation: finetune\n");
    } else if (v->base) {
        yaml_gap(s, "base_model", FACT_base_model);
    }
    yaml_results(s, v);
    yaml_emissions(s, v);
    str_puts(s, "---\n\n# ");
    doc_text(&d, v->name.text);
    str_puts(s, "\n\n[English](#english) · [Deutsch](#deutsch)\n");
    for (int german = 0; german < 2; german++) {
        d.german = german;
        str_printf(s, "\n# %s\n", said(&d, "English", "Deutsch"));
        doc_rows(&d, paper_card, sizeof paper_card / sizeof *paper_card);
        str_printf(s, "\n%s:", said(&d, "More", "Mehr"));
        for (int i = 0; i < PAPER_COUNT; i++)
            str_printf(s, " [%s](%s.%s.md)", papers[i].name, papers[i].name, said(&d, "en", "de"));
        str_puts(s,
                 " [croissant](croissant.json) [CycloneDX](bom.cdx.json) [SPDX](bom.spdx.json) [run.json](run.json)\n");
    }
    return d.s;
}

#endif
