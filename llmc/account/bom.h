/*
bom.h: what a model consists of, as machines read it: bom.cdx.json, CycloneDX 1.7 (ECMA-424), and bom.spdx.json, SPDX
3.0.1 with its AI profile. The model with its files, what it was trained on, and the program and libraries that made it.

Numbers that identify a document are made from the model's SHA-256: the same model has the same.
*/
#ifndef LLMC_BOM_H
#define LLMC_BOM_H

#include "papers.h"

// The hash by which the model is known: of its first file of weights.
static inline const char *bom_sum(const View *v) {
    for (int i = 0; i < v->files.count; i++)
        if (str_ends_with(v->files.items[i], ".safetensors")) return v->sums.items[i];
    return "0000000000000000000000000000000000000000000000000000000000000000";
}

// A UUID of version 8 (RFC 9562: of one's own making) from a SHA-256.
static inline Path bom_uuid(const char *sum) {
    return path_of("%.8s-%.4s-8%.3s-a%.3s-%.12s", sum, sum + 8, sum + 13, sum + 17, sum + 20);
}

static inline Path bom_version(const View *v) {
    const char *told = v->facts.values[FACT_model_version];
    return told ? path_of("%.200s", told) : path_of("step %.0f", v->step);
}

static inline void bom_hash(Str *s, const char *sum) {
    if (strlen(sum) == 64) str_printf(s, ", \"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]", sum);
}

// A licence by its name: it may be an SPDX expression or any words.
static inline void bom_license(Str *s, const char *name) {
    str_puts(s, ", \"licenses\": [{\"license\": {\"name\": "), json_escape(s, name, strlen(name)), str_puts(s, "}}]");
}

// ---------------------------------------------------------------- CycloneDX

// All figures that were measured, each with what it is of, and the 95% interval where its error is known.
static inline void cyclonedx_metrics(Str *s, const View *v) {
    Results r = results_of(v);
    const char *comma = "";
    str_puts(s, ", \"quantitativeAnalysis\": {\"performanceMetrics\": [");
    for (size_t i = 0; i < r.count; i++)
        for (int k = 0; k < r.items[i].count; k++, comma = ", ") {
            const Result *one = &r.items[i];
            const ResultFigure *f = &one->figures[k];
            str_printf(s, "%s{\"type\": \"%s\", \"value\": \"", comma, f->metric);
            json_add_number(s, f->value), str_puts(s, "\"");
            Path slice =
                path_of("%.2000s%s%s", one->name.text, one->sha256 ? ", SHA-256 " : "", one->sha256 ? one->sha256 : "");
            json_member(s, "slice", slice.text);
            if (isfinite(f->low) && isfinite(f->high)) {
                str_puts(s, ", \"confidenceInterval\": {\"lowerBound\": \""), json_add_number(s, f->low);
                str_puts(s, "\", \"upperBound\": \""), json_add_number(s, f->high), str_puts(s, "\"}");
            }
            str_puts(s, "}");
        }
    free(r.items);
    str_puts(s, "]}");
}

// `"NAME": ["answer"]` where there is one.
static inline void cyclonedx_answer(Str *s, const char *name, const View *v, int fact, bool *any) {
    if (!v->facts.values[fact]) return;
    str_printf(s, "%s\"%s\": [", *any ? ", " : "", name);
    json_escape(s, v->facts.values[fact], strlen(v->facts.values[fact]));
    str_puts(s, "]");
    *any = true;
}

static inline void cyclonedx_considerations(Str *s, const View *v) {
    bool any = false;
    double kwh = view_energy(v), grams = view_co2(v);
    str_puts(s, ", \"considerations\": {");
    cyclonedx_answer(s, "useCases", v, FACT_intended_use, &any);
    cyclonedx_answer(s, "technicalLimitations", v, FACT_limitations, &any);
    if (v->facts.values[FACT_risks]) {
        str_printf(s, "%s\"ethicalConsiderations\": [{\"name\": ", any ? ", " : "");
        json_escape(s, v->facts.values[FACT_risks], strlen(v->facts.values[FACT_risks])), str_puts(s, "}]");
        any = true;
    }
    if (isfinite(kwh)) {
        str_printf(s, "%s\"environmentalConsiderations\": {\"energyConsumptions\": [{\"activity\": \"%s\", ",
                   any ? ", " : "", v->base ? "fine-tuning" : "training");
        str_puts(s, "\"energyProviders\": [{\"organization\": {}, \"energySource\": \"unknown\", \"energyProvided\": "
                    "{\"value\": ");
        json_add_number(s, kwh), str_puts(s, ", \"unit\": \"kWh\"}}], \"activityEnergyCost\": {\"value\": ");
        json_add_number(s, kwh), str_puts(s, ", \"unit\": \"kWh\"}");
        if (isfinite(grams)) {
            str_puts(s, ", \"co2CostEquivalent\": {\"value\": "), json_add_number(s, grams / 1e6);
            str_puts(s, ", \"unit\": \"tCO2eq\"}");
        }
        Doc d;
        memset(&d, 0, sizeof d);
        d.v = v, d.plain = true;
        piece_energy_method(&d);
        str_puts(s, ", \"properties\": [{\"name\": \"method\", \"value\": "), json_escape(s, d.s.data, d.s.size);
        str_puts(s, "}]}]}");
        free(d.s.data);
    }
    str_puts(s, "}");
}

static inline void cyclonedx_model(Str *s, const View *v) {
    const Json *manifests = json_get(v->data, "manifests");
    str_puts(s, "{\"type\": \"machine-learning-model\", \"bom-ref\": \"model\"");
    json_member(s, "name", v->name.text);
    json_member(s, "version", bom_version(v).text);
    if (v->facts.values[FACT_provider]) {
        str_puts(s, ", \"supplier\": {\"name\": ");
        json_escape(s, v->facts.values[FACT_provider], strlen(v->facts.values[FACT_provider])), str_puts(s, "}");
    }
    bom_hash(s, bom_sum(v));
    if (v->facts.values[FACT_license]) bom_license(s, v->facts.values[FACT_license]);
    str_puts(s, ", \"components\": [");
    for (int i = 0; i < v->files.count; i++) {
        str_printf(s, "%s\n      {\"type\": \"file\"", i ? "," : "");
        json_member(s, "name", v->files.items[i]), bom_hash(s, v->sums.items[i]), str_puts(s, "}");
    }
    str_puts(s,
             "],\n      \"modelCard\": {\"modelParameters\": {\"approach\": {\"type\": \"self-supervised\"}, \"task\": "
             "\"text-generation\", \"architectureFamily\": \"transformer\"");
    json_member(s, "modelArchitecture", family_name(v->config.family));
    str_puts(s, ", \"datasets\": [");
    int count = 0;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next, count++)
        str_printf(s, "%s{\"ref\": \"data-%d\"}", count ? ", " : "", count);
    str_puts(s, "], \"inputs\": [{\"format\": \"text\"}], \"outputs\": [{\"format\": \"text\"}]}");
    cyclonedx_metrics(s, v);
    cyclonedx_considerations(s, v);
    str_printf(s,
               ", \"properties\": [{\"name\": \"parameters\", \"value\": \"%zu\"}, {\"name\": \"training_tokens\", "
               "\"value\": "
               "\"%.0f\"}, {\"name\": \"training_flops\", \"value\": \"%.17g\"}]}}",
               v->parameters, v->tokens, isfinite(view_total(v, "flops")) ? view_total(v, "flops") : 0);
}

// A set of shards: its files, and what they were made of.
static inline void cyclonedx_data(Str *s, const Json *manifest, int number) {
    const Json *shards = json_get(manifest, "shards"), *files = json_get(manifest, "files"),
               *sources = json_get(manifest, "sources");
    const char *name = json_string(json_get(shards, "prefix"), "data"),
               *license = json_string(json_get(json_get(manifest, "options"), "license"), "");
    str_printf(s, "\n    {\"type\": \"data\", \"bom-ref\": \"data-%d\"", number);
    json_member(s, "name", name);
    json_member(s, "version", json_string(json_get(shards, "set"), ""));
    if (*license) bom_license(s, license);
    str_puts(s, ", \"data\": [{\"type\": \"dataset\"");
    json_member(s, "name", name);
    str_puts(s, ", \"contents\": {\"properties\": [");
    static const char *const sides[] = {"train", "val"}, *const counts[] = {"documents", "tokens", "bytes"};
    for (int i = 0; i < 6; i++)
        str_printf(s, "%s{\"name\": \"%s_%s\", \"value\": \"%.0f\"}", i ? ", " : "", sides[i / 3], counts[i % 3],
                   json_number(json_get(json_get(manifest, sides[i / 3]), counts[i % 3]), 0));
    str_puts(s, "]}}], \"components\": [");
    const char *comma = "";
    for (int k = 0; k < 2; k++) {
        const Json *list = k ? sources : files;
        for (const Json *j = json_is(list, JSON_ARRAY) ? list->child : NULL; j; j = j->next, comma = ",") {
            str_printf(s, "%s\n      {\"type\": \"file\"", comma);
            json_member(s, "name", json_string(json_get(j, k ? "path" : "name"), "?"));
            bom_hash(s, json_string(json_get(j, "sha256"), "")), str_puts(s, "}");
        }
    }
    str_puts(s, "]}");
}

// bom.cdx.json. To be freed.
static inline Str cyclonedx_write(const View *v) {
    Str s;
    memset(&s, 0, sizeof s);
    const Json *manifests = json_get(v->data, "manifests"), *libraries = json_get(v->last, "libraries");
    str_puts(&s,
             "{\n  \"$schema\": \"http://cyclonedx.org/schema/bom-1.7.schema.json\",\n  \"bomFormat\": \"CycloneDX\",\n"
             "  \"specVersion\": \"1.7\",\n");
    str_printf(&s, "  \"serialNumber\": \"urn:uuid:%s\",\n  \"version\": 1,\n", bom_uuid(bom_sum(v)).text);
    str_printf(&s, "  \"metadata\": {\"timestamp\": \"%s\", \"tools\": {\"components\": [{\"type\": \"application\"",
               machine_time().text);
    json_member(&s, "name", engine_name());
    json_member(&s, "version", build_commit);
    str_puts(&s, "}]}, \"component\":\n    "), cyclonedx_model(&s, v), str_puts(&s, "},\n  \"components\": [");
    int data = 0, other = 0;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next) {
        str_puts(&s, data ? "," : "");
        cyclonedx_data(&s, m, data++);
    }
    str_printf(&s, "%s\n    {\"type\": \"application\", \"bom-ref\": \"program\"", data ? "," : "");
    json_member(&s, "name", json_string(json_get(v->last, "program"), engine_name()));
    json_member(&s, "version", json_string(json_get(v->last, "commit"), "unknown"));
    str_puts(&s, "}");
    for (const Json *j = libraries ? libraries->child : NULL; j; j = j->next) {
        str_printf(&s, ",\n    {\"type\": \"library\", \"bom-ref\": \"library-%d\"", other++);
        json_member(&s, "name", j->key), json_member(&s, "version", json_string(j, "?")), str_puts(&s, "}");
    }
    str_puts(&s, "\n  ],\n  \"dependencies\": [{\"ref\": \"model\", \"dependsOn\": [\"program\"");
    for (int i = 0; i < data; i++) str_printf(&s, ", \"data-%d\"", i);
    str_puts(&s, "]}, {\"ref\": \"program\", \"dependsOn\": [");
    for (int i = 0; i < other; i++) str_printf(&s, "%s\"library-%d\"", i ? ", " : "", i);
    str_puts(&s, "]}]\n}\n");
    return s;
}

// ---------------------------------------------------------------- SPDX

// The head of an element: type and identity.
static inline void spdx_element(Str *s, const char *type, const char *id, const char *base) {
    str_printf(s, ",\n    {\"type\": \"%s\", \"spdxId\": \"%s#%s\", \"creationInfo\": \"_:made\"", type, base, id);
}

static inline void spdx_entry(Str *s, const char *key, const char *value, bool *any) {
    str_puts(s, *any ? ", {\"type\": \"DictionaryEntry\", \"key\": " : "{\"type\": \"DictionaryEntry\", \"key\": ");
    json_escape(s, key, strlen(key)), json_member(s, "value", value), str_puts(s, "}");
    *any = true;
}

static inline void spdx_text(Str *s, const char *name, const View *v, bool (*piece)(Doc *)) {
    Doc d;
    memset(&d, 0, sizeof d);
    d.v = v, d.plain = true;
    if (piece(&d)) str_printf(s, ", \"%s\": ", name), json_escape(s, d.s.data, d.s.size);
    free(d.s.data);
}

// Figures by what they are of, `pairs: acc`, and their standard errors.
static inline void spdx_metrics(Str *s, const View *v) {
    Results r = results_of(v);
    bool any = false;
    for (size_t i = 0; i < r.count; i++)
        for (int k = 0; k < r.items[i].count; k++) {
            const ResultFigure *f = &r.items[i].figures[k];
            Path key = path_of("%.2000s: %s", r.items[i].name.text, f->metric);
            spdx_entry(s, key.text, path_of("%.9g", f->value).text, &any);
            if (isfinite(f->error))
                spdx_entry(s, path_of("%.2100s_stderr", key.text).text, path_of("%.9g", f->error).text, &any);
        }
    free(r.items);
}

static inline void spdx_relation(Str *s, const char *kind, const char *from, const char *to, const char *base) {
    spdx_element(s, "Relationship", path_of("%s-%s-%s", from, kind, to).text, base);
    str_printf(s, ", \"relationshipType\": \"%s\", \"from\": \"%s#%s\", \"to\": [\"%s#%s\"]}", kind, base, from, base,
               to);
}

// A place from which something can be fetched; what a person wrote may be words.
static inline const char *spdx_place(const View *v, int fact) {
    const char *told = v->facts.values[fact];
    return told && strstr(told, "://") && !strpbrk(told, " \t") ? told : "NOASSERTION";
}

// Has somebody said when the model was released, as YYYY-MM-DD?
static inline bool spdx_released(const View *v) {
    const char *told = v->facts.values[FACT_release_date];
    static const char form[] = "dddd-dd-dd";
    for (int i = 0; told && i < (int)sizeof form; i++)
        if (form[i] == 'd' ? told[i] < '0' || told[i] > '9' : told[i] != form[i]) return false;
    return told != NULL;
}

// The licence of an element, both declared and concluded, as the profiles demand; name: NULL or empty: not known.
static inline void spdx_license(Str *s, const char *of, const char *name, const char *base) {
    static const char *const kinds[] = {"hasDeclaredLicense", "hasConcludedLicense"};
    Path id = path_of("license-%.100s", of);
    if (name && *name) {
        spdx_element(s, "simplelicensing_LicenseExpression", id.text, base);
        json_member(s, "simplelicensing_licenseExpression", name), str_puts(s, "}");
    }
    for (int i = 0; i < 2; i++) {
        if (name && *name) {
            spdx_relation(s, kinds[i], of, id.text, base);
            continue;
        }
        spdx_element(s, "Relationship", path_of("%s-%s", of, kinds[i]).text, base);
        str_printf(s, ", \"relationshipType\": \"%s\", \"from\": \"%s#%s\", \"to\": [\"%s\"]}", kinds[i], base, of,
                   "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense");
    }
}

static inline void spdx_model(Str *s, const View *v, const char *base) {
    static const char *const options[] = {"optimizer",  "lr",    "lr_schedule", "weight_decay",
                                          "beta1",      "beta2", "seq_len",     "total_batch_tokens",
                                          "batch_size", "seed",  "grad_clip"};
    bool any = false;
    double kwh = view_energy(v);
    spdx_element(s, "ai_AIPackage", "model", base);
    json_member(s, "name", v->name.text);
    json_member(s, "software_packageVersion", bom_version(v).text);
    json_member(s, "software_primaryPurpose", "model");
    json_member(s, "software_downloadLocation", spdx_place(v, FACT_repository));
    if (spdx_released(v)) str_printf(s, ", \"releaseTime\": \"%sT00:00:00Z\"", v->facts.values[FACT_release_date]);
    str_printf(s, ", \"suppliedBy\": \"%s#%s\"", base, v->facts.values[FACT_provider] ? "provider" : "unknown");
    str_printf(s, ", \"verifiedUsing\": [{\"type\": \"Hash\", \"algorithm\": \"sha256\", \"hashValue\": \"%s\"}]",
               bom_sum(v));
    str_printf(s, ", \"ai_typeOfModel\": [\"transformer\", \"%s\"], \"ai_domain\": [\"natural language\"]",
               family_name(v->config.family));
    spdx_text(s, "ai_informationAboutTraining", v, piece_training);
    if (v->facts.values[FACT_intended_use])
        json_member(s, "ai_informationAboutApplication", v->facts.values[FACT_intended_use]);
    if (v->facts.values[FACT_limitations]) json_member(s, "ai_limitation", v->facts.values[FACT_limitations]);
    str_puts(s, ", \"ai_autonomyType\": \"noAssertion\", \"ai_useSensitivePersonalInformation\": \"noAssertion\"");
    if (isfinite(kwh)) {
        // xsd:decimal knows no exponent, and a reader would make one of a number.
        str_printf(s,
                   ", \"ai_energyConsumption\": {\"type\": \"ai_EnergyConsumption\", \"ai_%sEnergyConsumption\": "
                   "[{\"type\": \"ai_EnergyConsumptionDescription\", \"ai_energyQuantity\": \"%.15f\", "
                   "\"ai_energyUnit\": \"kilowattHour\"}]}",
                   v->base ? "finetuning" : "training", kwh);
    }
    str_puts(s, ", \"ai_hyperparameter\": [");
    spdx_entry(s, "parameters", path_of("%zu", v->parameters).text, &any);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        spdx_entry(s, options[i], view_option(v, options[i]), &any);
    str_puts(s, "]");
    str_puts(s, ", \"ai_metric\": ["), spdx_metrics(s, v), str_puts(s, "]}");
}

static inline void spdx_datasets(Str *s, const View *v, const char *base) {
    const Json *manifests = json_get(v->data, "manifests");
    int number = 0;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next, number++) {
        Path id = path_of("data-%d", number);
        spdx_element(s, "dataset_DatasetPackage", id.text, base);
        json_member(s, "name", json_string(json_get(json_get(m, "shards"), "prefix"), "data"));
        json_member(s, "software_packageVersion", json_string(json_get(json_get(m, "shards"), "set"), ""));
        json_member(s, "software_primaryPurpose", "data");
        str_printf(s, ", \"dataset_datasetType\": [\"text\"], \"dataset_datasetSize\": %.0f",
                   json_number(json_get(json_get(m, "train"), "bytes"), 0));
        if (v->facts.values[FACT_data_collection])
            json_member(s, "dataset_dataCollectionProcess", v->facts.values[FACT_data_collection]);
        str_printf(s, ", \"originatedBy\": [\"%s#unknown\"]", base);
        json_member(s, "software_downloadLocation", spdx_place(v, FACT_data_access)), str_puts(s, "}");
        spdx_license(s, id.text, json_string(json_get(json_get(m, "options"), "license"), NULL), base);
        spdx_relation(s, "trainedOn", "model", id.text, base);
    }
}

/*
bom.spdx.json. To be freed. By the schema and the SHACL shapes of 3.0.1 it is valid without a word from anybody. The
text of AIPackage and DatasetPackage demands more ("External properties restrictions": suppliedBy or originatedBy,
downloadLocation, releaseTime, of data also builtTime), and their profiles a declared and a concluded licence:

    who supplied it   an Agent called NOASSERTION: the range is Agent, which NoAssertionElement is not
    where, licence    NOASSERTION and NoAssertionLicense, which SPDX has for what is not known
    when released     a time, for which there is no such word: it is left out until somebody says it, and only then
                      does the document claim to conform to the profile "ai"; nobody is asked when data were released
                      and built, so that it never claims "dataset"
*/
static inline Str spdx_write(const View *v) {
    Str s;
    memset(&s, 0, sizeof s);
    const Facts *f = &v->facts;
    Path base = path_of("urn:uuid:%s", bom_uuid(bom_sum(v)).text);
    str_puts(&s, "{\n  \"@context\": \"https://spdx.org/rdf/3.0.1/spdx-context.jsonld\",\n  \"@graph\": [");
    str_printf(&s,
               "\n    {\"type\": \"CreationInfo\", \"@id\": \"_:made\", \"specVersion\": \"3.0.1\", \"created\": "
               "\"%s\", \"createdBy\": [\"%s#tool\"]}",
               machine_time().text, base.text);
    spdx_element(&s, "SoftwareAgent", "tool", base.text);
    str_printf(&s, ", \"name\": \"%s, commit %s\"}", engine_name(), build_commit);
    spdx_element(&s, "Agent", "unknown", base.text);
    str_puts(&s, ", \"name\": \"NOASSERTION\", \"comment\": \"nobody has said who this is\"}");
    if (f->values[FACT_provider]) {
        spdx_element(&s, "Organization", "provider", base.text);
        json_member(&s, "name", f->values[FACT_provider]), str_puts(&s, "}");
    }
    spdx_element(&s, "SpdxDocument", "document", base.text);
    str_printf(&s, ", \"profileConformance\": [\"core\", \"software\"%s], \"rootElement\": [\"%s#model\"]}",
               spdx_released(v) ? ", \"ai\"" : "", base.text);
    spdx_model(&s, v, base.text);
    spdx_datasets(&s, v, base.text);
    spdx_license(&s, "model", f->values[FACT_license], base.text);
    str_puts(&s, "\n  ]\n}\n");
    return s;
}

#endif
