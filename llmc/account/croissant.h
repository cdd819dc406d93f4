/*
croissant.h: croissant.json, the training data as machines read it: Croissant 1.1 (docs.mlcommons.org/croissant) with
its vocabulary for responsible AI (RAI 1.0), and where the data come from in the words of PROV-O.

Files are the shards and the text that they were made of, with the SHA-256 of their manifests; a record is a document.
Of the RAI properties those stand there that the record says or somebody has answered; the description names the open
ones.
*/
#ifndef LLMC_CROISSANT_H
#define LLMC_CROISSANT_H

#include "papers.h"

// The JSON-LD context of the specification.
static inline void croissant_context(Str *s) {
    static const char *const plain[] = {"arrayShape", "citeAs",   "column",       "containedIn",   "equivalentProperty",
                                        "extract",    "field",    "fileProperty", "fileObject",    "fileSet",
                                        "format",     "includes", "isArray",      "isLiveDataset", "jsonPath",
                                        "key",        "md5",      "parentField",  "path",          "recordSet",
                                        "references", "regex",    "repeated",     "replace",       "samplingRate",
                                        "separator",  "source",   "subField",     "transform"};
    str_puts(s, "  \"@context\": {\"@language\": \"en\", \"@vocab\": \"https://schema.org/\", \"cr\": "
                "\"http://mlcommons.org/croissant/\", \"rai\": \"http://mlcommons.org/croissant/RAI/\", \"dct\": "
                "\"http://purl.org/dc/terms/\", \"prov\": \"http://www.w3.org/ns/prov#\", \"sc\": "
                "\"https://schema.org/\", "
                "\"conformsTo\": \"dct:conformsTo\", \"data\": {\"@id\": \"cr:data\", \"@type\": \"@json\"}, "
                "\"dataType\": {\"@id\": \"cr:dataType\", \"@type\": \"@vocab\"}, \"description\": {\"@container\": "
                "\"@language\"}, \"name\": {\"@container\": \"@language\"}, \"examples\": {\"@id\": \"cr:examples\", "
                "\"@type\": \"@json\"}");
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) str_printf(s, ", \"%s\": \"cr:%s\"", plain[i], plain[i]);
    str_puts(s, "}");
}

// One file. id: of it in the document.
static inline void croissant_file(Str *s, const char *id, const Json *j, const char *path, const char *format) {
    const char *sum = json_string(json_get(j, "sha256"), "");
    const Json *bytes = json_get(j, "file_bytes") ? json_get(j, "file_bytes") : json_get(j, "bytes");
    str_puts(s, "\n    {\"@type\": \"cr:FileObject\", \"@id\": "), json_escape(s, id, strlen(id));
    json_member(s, "name", path_name(path));
    json_member(s, "contentUrl", path);
    json_member(s, "encodingFormat", format);
    if (bytes) json_member(s, "contentSize", path_of("%lld B", (long long)json_integer(bytes, 0)).text);
    json_member(s, "sha256", sum);
    str_puts(s, "}");
}

static inline const char *croissant_format(const char *path) {
    return str_ends_with(path, ".jsonl") || str_ends_with(path, ".json") ? "application/jsonlines"
           : str_ends_with(path, ".txt")                                 ? "text/plain"
           : str_ends_with(path, ".parquet")                             ? "application/x-parquet"
                                                                         : "application/octet-stream";
}

// The files of a set: first the text, then the shards. Returns how many there were before and with it.
static inline int croissant_set(Str *s, const Json *manifest, int count) {
    const Json *sources = json_get(manifest, "sources"), *files = json_get(manifest, "files");
    for (const Json *j = json_is(sources, JSON_ARRAY) ? sources->child : NULL; j; j = j->next) {
        const char *path = json_string(json_get(j, "path"), "?");
        str_puts(s, count ? "," : "");
        croissant_file(s, path_of("source-%d", count++).text, j, path, croissant_format(path));
    }
    for (const Json *j = json_is(files, JSON_ARRAY) ? files->child : NULL; j; j = j->next) {
        const char *name = json_string(json_get(j, "name"), "?");
        str_puts(s, count ? "," : "");
        croissant_file(s, path_of("shard-%d", count++).text, j, name, "application/octet-stream");
    }
    return count;
}

// A set of records for each text that Croissant's formats can describe: a line or a file is a document.
static inline void croissant_records(Str *s, const View *v) {
    const Json *manifests = json_get(v->data, "manifests");
    const char *comma = "";
    int count = 0;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next) {
        const Json *sources = json_get(m, "sources"), *files = json_get(m, "files");
        const char *field = json_string(json_get(m, "field"), "text");
        for (const Json *j = json_is(sources, JSON_ARRAY) ? sources->child : NULL; j; j = j->next, count++) {
            const char *format = croissant_format(json_string(json_get(j, "path"), ""));
            bool lines = strcmp(format, "application/jsonlines") == 0 || strstr(format, "parquet");
            if (!lines && strcmp(format, "text/plain") != 0) continue;
            Path id = path_of("documents-%d", count), text = path_of("documents-%d/text", count);
            str_printf(
                s,
                "%s\n    {\"@type\": \"cr:RecordSet\", \"@id\": \"%s\", \"name\": \"%s\", \"field\": [{\"@type\": "
                "\"cr:Field\", \"@id\": \"%s\", \"name\": \"text\", \"description\": \"the text of a document\", "
                "\"dataType\": \"sc:Text\", \"source\": {\"fileObject\": {\"@id\": \"source-%d\"}, \"extract\": {",
                comma, id.text, id.text, text.text, count);
            if (lines) str_puts(s, "\"column\": "), json_escape(s, field, strlen(field));
            else str_puts(s, "\"fileProperty\": \"content\"");
            str_puts(s, "}}}]}");
            comma = ",";
        }
        if (json_is(files, JSON_ARRAY)) count += (int)files->size;
    }
}

// `, "rai:NAME": text` of a piece of the papers, of an answer, or of both.
static inline void croissant_rai(Str *s, const View *v, const char *name, bool (*piece)(Doc *), int fact) {
    Doc d;
    memset(&d, 0, sizeof d);
    d.v = v, d.plain = true;
    str_puts(&d.s, "");
    bool told = piece && piece(&d);
    if (fact < FACT_COUNT && v->facts.values[fact]) {
        if (told) str_puts(&d.s, " ");
        str_puts(&d.s, v->facts.values[fact]);
        told = true;
    }
    if (told) str_puts(s, ",\n  "), str_printf(s, "\"rai:%s\": ", name), json_escape(s, d.s.data, d.s.size);
    free(d.s.data);
}

static inline void croissant_responsible(Str *s, const View *v) {
    static const struct {
        const char *name;
        bool (*piece)(Doc *);
        int fact;
    } rows[] = {{"dataCollection", NULL, FACT_data_collection},
                {"dataCollectionTimeframe", NULL, FACT_data_timeframe},
                {"dataPreprocessingProtocol", piece_curation, NO_FACT},
                {"dataAnnotationProtocol", NULL, FACT_annotation},
                {"dataReleaseMaintenancePlan", NULL, FACT_data_maintenance},
                {"personalSensitiveInformation", NULL, FACT_personal_data},
                {"dataSocialImpact", NULL, FACT_data_social_impact},
                {"dataBiases", NULL, FACT_data_biases},
                {"dataLimitations", NULL, FACT_data_limitations},
                {"dataUseCases", NULL, FACT_data_use_cases}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        croissant_rai(s, v, rows[i].name, rows[i].piece, rows[i].fact);
}

// What is open, by its keys: JSON has no place for a gap.
static inline void croissant_description(Str *s, const View *v) {
    static const int facts[] = {FACT_data_license,   FACT_data_collection,    FACT_data_timeframe,
                                FACT_personal_data,  FACT_data_biases,        FACT_data_limitations,
                                FACT_data_use_cases, FACT_data_social_impact, FACT_data_maintenance,
                                FACT_annotation,     FACT_data_access,        FACT_release_date};
    Str text;
    memset(&text, 0, sizeof text);
    str_printf(&text, "Training data of %s: %.0f tokens of %.0f documents.", v->name.text,
               data_number(v, "train", "tokens"), data_number(v, "train", "documents"));
    const char *comma = " OPEN, to be answered by a person: ";
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        if (v->facts.values[facts[i]] || (facts[i] == FACT_data_license && v->licenses.count)) continue;
        str_printf(&text, "%s%s", comma, fact_key(facts[i]));
        comma = ", ";
    }
    str_puts(s, ",\n  \"description\": "), json_escape(s, text.data, text.size);
    free(text.data);
}

// croissant.json. To be freed.
static inline Str croissant_write(const View *v) {
    Str s;
    memset(&s, 0, sizeof s);
    const Facts *f = &v->facts;
    const Json *manifests = json_get(v->data, "manifests");
    str_puts(&s, "{\n"), croissant_context(&s);
    str_puts(&s, ",\n  \"@type\": \"sc:Dataset\",\n  \"conformsTo\": [\"http://mlcommons.org/croissant/1.1\", "
                 "\"http://mlcommons.org/croissant/RAI/1.0\"],\n  \"name\": ");
    Path name = path_of("training data of %s", v->name.text);
    json_escape(&s, name.text, strlen(name.text));
    croissant_description(&s, v);
    if (f->values[FACT_data_license]) json_member(&s, "license", f->values[FACT_data_license]);
    else if (v->licenses.count) {
        str_puts(&s, ", \"license\": [");
        for (int i = 0; i < v->licenses.count; i++)
            str_puts(&s, i ? ", " : ""), json_escape(&s, v->licenses.items[i], strlen(v->licenses.items[i]));
        str_puts(&s, "]");
    }
    if (f->values[FACT_data_access]) json_member(&s, "url", f->values[FACT_data_access]);
    if (f->values[FACT_release_date]) json_member(&s, "datePublished", f->values[FACT_release_date]);
    if (f->values[FACT_provider]) {
        str_puts(&s, ", \"creator\": {\"@type\": \"sc:Organization\", \"name\": ");
        json_escape(&s, f->values[FACT_provider], strlen(f->values[FACT_provider]));
        str_puts(&s, "}");
    }
    json_member(&s, "version", "1.0.0");
    if (f->values[FACT_technical_report]) json_member(&s, "citeAs", f->values[FACT_technical_report]);
    str_puts(&s, ",\n  \"distribution\": [");
    int count = 0;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next)
        count = croissant_set(&s, m, count);
    str_puts(&s, "\n  ],\n  \"recordSet\": [");
    croissant_records(&s, v);
    str_puts(&s, "\n  ],\n  \"prov:wasDerivedFrom\": [");
    count = 0;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next) {
        const Json *sources = json_get(m, "sources");
        for (const Json *j = json_is(sources, JSON_ARRAY) ? sources->child : NULL; j; j = j->next) {
            const Json *origins = json_get(json_get(j, "made_by"), "sources");
            for (const Json *o = json_is(origins, JSON_ARRAY) ? origins->child : NULL; o; o = o->next) {
                const char *sum = json_string(json_get(o, "sha256"), ""), *path = json_string(json_get(o, "path"), "?");
                if (!*sum) continue;
                str_printf(&s, "%s\n    {\"@id\": \"urn:sha256:%.64s\", \"prov:label\": ", count++ ? "," : "", sum);
                json_escape(&s, path, strlen(path)), str_puts(&s, "}");
            }
        }
    }
    str_puts(&s, count ? "\n  ]" : "]");
    croissant_responsible(&s, v);
    str_puts(&s, "\n}\n");
    return s;
}

#endif
