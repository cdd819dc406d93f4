/*
document.h: documents for people, in German and in English, from tables of rows: a heading, or an item with what the
record says of it and what a person has answered. Where both are silent the question stands there, marked as open.
*/
#ifndef LLMC_DOCUMENT_H
#define LLMC_DOCUMENT_H

#include "results.h"

typedef struct {
    Str s;
    bool german, plain; // plain: no Markdown, for JSON and YAML
    const View *v;
} Doc;

// Who an item is for, in place of a heading's level. FOR_UNKNOWN: its source says so, but could not be looked up.
typedef enum { FOR_ANYBODY = 0, FOR_ALL = -1, FOR_AUTHORITIES = -2, FOR_UNKNOWN = -3 } DocAudience;

// A row: a heading of a level, or with a DocAudience an item. piece: writes what the record says, and returns whether
// it says anything. fact: the question that only a person can answer, FACT_COUNT: none.
typedef struct {
    int level;
    const char *en, *de;
    int fact;
    bool (*piece)(Doc *);
} DocRow;

static inline const char *said(const Doc *d, const char *en, const char *de) { return d->german ? de : en; }

// A text that somebody wrote, without what Markdown would take for a heading, a table or HTML.
static inline void doc_text(Doc *d, const char *text) {
    for (const char *c = text; *c; c++) {
        if (!d->plain && strchr("<>|`*_[]\\", *c)) str_puts(&d->s, "\\");
        str_add(&d->s, *c == '\n' ? " " : c, 1);
    }
}

static inline void doc_gap(Doc *d, int fact) {
    str_printf(&d->s, "**[%s: %s]** (`%s = ...`)", said(d, "OPEN", "OFFEN"), fact_question(fact, d->german),
               fact_key(fact));
}

// What a person has answered, or the gap.
static inline void doc_answer(Doc *d, int fact) {
    if (d->v->facts.values[fact]) doc_text(d, d->v->facts.values[fact]);
    else doc_gap(d, fact);
}

static inline void doc_rows(Doc *d, const DocRow *rows, size_t count) {
    static const char *const audiences[] = {"", "`AIO NCA DP` ", "`AIO NCA` ", "`?` "};
    for (const DocRow *row = rows; row < rows + count; row++) {
        if (row->level > 0) {
            bool apart = d->s.size < 2 || memcmp(d->s.data + d->s.size - 2, "\n\n", 2) == 0;
            str_printf(&d->s, "%s%.*s %s\n\n", apart ? "" : "\n", row->level, "######", said(d, row->en, row->de));
            continue;
        }
        str_printf(&d->s, "- %s**%s:** ", audiences[-row->level], said(d, row->en, row->de));
        bool told = row->piece && row->piece(d), asked = row->fact < FACT_COUNT;
        bool figure = row->fact == FACT_energy_kwh || row->fact == FACT_grid_intensity; // it stands in the piece
        if (told && asked && !figure && d->v->facts.values[row->fact]) str_puts(&d->s, "; "), doc_answer(d, row->fact);
        else if (!told && asked) doc_answer(d, row->fact);
        else if (!told) str_puts(&d->s, said(d, "not recorded", "nicht aufgezeichnet"));
        str_puts(&d->s, "\n");
    }
}

// ---------------------------------------------------------------- what the record says

static inline bool piece_name(Doc *d) {
    doc_text(d, d->v->name.text);
    str_printf(&d->s, said(d, ", after %.0f steps", ", nach %.0f Schritten"), d->v->step);
    return true;
}

static inline bool piece_hash(Doc *d) {
    const View *v = d->v;
    for (int i = 0; i < v->files.count; i++) {
        str_printf(&d->s, "%s`%s` SHA-256 `%s`", i ? ", " : "", v->files.items[i], v->sums.items[i]);
    }
    return v->files.count > 0;
}

static inline bool piece_tokenizer(Doc *d) {
    str_printf(&d->s,
               said(d, "byte-level BPE with a vocabulary of %d, `tokenizer.json` SHA-256 `%s`",
                    "BPE über Bytes mit einem Vokabular von %d, `tokenizer.json` SHA-256 `%s`"),
               d->v->config.vocab_size, view_sum(d->v, "tokenizer.json"));
    return true;
}

static inline bool piece_dependencies(Doc *d) {
    const Json *base = d->v->base;
    if (!d->v->account) return false;
    if (!base)
        str_puts(&d->s, said(d, "none, its weights began as random numbers",
                             "keine, seine Gewichte begannen als Zufallszahlen"));
    else {
        str_puts(&d->s, said(d, "made from the model in ", "gemacht aus dem Modell in "));
        doc_text(d, json_string(json_get(base, "path"), "?"));
        const Json *rows = json_get(base, "embeddings");
        if (rows && !json_bool(json_get(rows, "same_tokenizer"), false))
            str_printf(&d->s,
                       said(d, ", with another tokenizer: %lld rows of the embedding were copied, %lld are means",
                            ", mit anderem Tokenizer: %lld Zeilen der Einbettung sind kopiert, %lld Mittelwerte"),
                       (long long)(json_integer(json_get(rows, "same_bytes"), 0) +
                                   json_integer(json_get(rows, "same_name"), 0)),
                       (long long)(json_integer(json_get(rows, "means"), 0) +
                                   json_integer(json_get(rows, "mean_of_all"), 0)));
    }
    const Json *teacher = json_get(d->v->root, "teacher");
    if (teacher) {
        str_puts(&d->s, said(d, "; trained beside the distribution of the model in ",
                             "; trainiert neben der Verteilung des Modells in "));
        doc_text(d, json_string(json_get(teacher, "path"), "?"));
        str_printf(&d->s, said(d, ", weights of hash %s", ", Gewichte mit der Prüfsumme %s"),
                   json_string(json_get(teacher, "xxh64"), "?"));
    }
    str_puts(&d->s, ".");
    return true;
}

static inline bool piece_architecture(Doc *d) {
    const Config *c = &d->v->config;
    str_printf(&d->s, said(d, "decoder-only transformer of the family %s: ", "Decoder-Transformer der Familie %s: "),
               family_name(c->family));
    if (d->german)
        str_printf(&d->s,
                   "%d Schichten, %d Kanäle, %d Köpfe zu je %d (%d für Schlüssel und Werte), MLP %d, Vokabular %d",
                   c->layers, c->channels, c->heads, c->head_size, c->kv_heads, c->hidden, c->vocab_size);
    else str_puts(&d->s, config_words(c).text);
    str_printf(&d->s, said(d, ", %s head, up to %d positions", ", Ausgabe %s, bis zu %d Positionen"),
               c->tied ? said(d, "tied", "mit den Einbettungen geteilt") : said(d, "untied", "mit eigenen Gewichten"),
               c->max_seq_len);
    return true;
}

static inline bool piece_parameters(Doc *d) {
    str_printf(&d->s, "%zu (%.2g)", d->v->parameters, (double)d->v->parameters);
    return true;
}

// The range of the form that the number falls into.
static inline bool piece_size_range(Doc *d) {
    static const struct {
        double most;
        const char *range;
    } ranges[] = {{5e8, "1-500M"},    {5e9, "500M-5B"},    {1.5e10, "5B-15B"}, {5e10, "15B-50B"},
                  {1e11, "50B-100B"}, {5e11, "100B-500B"}, {1e12, "500B-1T"},  {INFINITY, ">1T"}};
    int i = 0;
    while ((double)d->v->parameters > ranges[i].most) i++;
    str_puts(&d->s, ranges[i].range);
    return true;
}

static inline bool piece_modality(Doc *d) {
    str_printf(&d->s,
               said(d, "text, at most %d tokens, of a vocabulary of %d",
                    "Text, höchstens %d Token, aus einem Vokabular von %d"),
               d->v->config.max_seq_len, d->v->config.vocab_size);
    return true;
}

static inline bool piece_audience(Doc *d) {
    str_puts(&d->s,
             said(d,
                  "AIO the AI Office and NCA national competent authorities, on request (Annex XI of Regulation (EU) "
                  "2024/1689), DP downstream providers (Annex XII). `?`: neither annex names the item; look it up in "
                  "the "
                  "Commission's form before it is passed on",
                  "AIO das Büro für Künstliche Intelligenz und NCA die zuständigen nationalen Behörden, auf Verlangen "
                  "(Anhang XI der Verordnung (EU) 2024/1689), DP nachgelagerte Anbieter (Anhang XII). `?`: keiner der "
                  "beiden Anhänge nennt die Angabe; vor der Weitergabe im Formular der Kommission nachsehen"));
    return true;
}

static inline bool piece_text(Doc *d) {
    str_puts(&d->s, said(d, "text", "Text"));
    return true;
}

// A number of one side of the data; 0: not known.
static inline double data_number(const View *v, const char *side, const char *name) {
    return json_number(json_get(json_get(v->data, side), name), 0);
}

static inline bool piece_data_size(Doc *d) {
    double tokens = data_number(d->v, "train", "tokens");
    if (!(tokens > 0)) return false;
    str_printf(&d->s,
               said(d, "text: %s (%.0f tokens, %.0f bytes, %.0f documents; trained on %.0f tokens)",
                    "Text: %s (%.0f Token, %.0f Byte, %.0f Dokumente; trainiert auf %.0f Token)"),
               tokens < 1e9    ? said(d, "less than 1 billion tokens", "weniger als 1 Milliarde Token")
               : tokens < 1e13 ? said(d, "1 billion to 10 trillion tokens", "1 Milliarde bis 10 Billionen Token")
                               : said(d, "more than 10 trillion tokens", "mehr als 10 Billionen Token"),
               tokens, data_number(d->v, "train", "bytes"), data_number(d->v, "train", "documents"), d->v->tokens);
    return true;
}

static inline bool piece_data_points(Doc *d) {
    if (!(data_number(d->v, "train", "tokens") > 0)) return false;
    static const char *const sides[] = {"train", "val"};
    for (int i = 0; i < 2; i++)
        str_printf(&d->s, "%s%s: %.0f %s, %.0f Token%s, %.0f %s", i ? "; " : "",
                   i ? said(d, "validation", "Validierung") : said(d, "training", "Training"),
                   data_number(d->v, sides[i], "documents"), said(d, "documents", "Dokumente"),
                   data_number(d->v, sides[i], "tokens"), said(d, "s", ""), data_number(d->v, sides[i], "bytes"),
                   said(d, "bytes of text", "Byte Text"));
    return true;
}

static inline void piece_source(Doc *d, const Json *manifest, int depth) {
    const Json *sources = json_get(manifest, "sources");
    for (const Json *j = json_is(sources, JSON_ARRAY) ? sources->child : NULL; j; j = j->next) {
        str_printf(&d->s, "\n%*s- `", 4 + 2 * depth, "");
        const char *path = json_string(json_get(j, "path"), "?"), *sum = json_string(json_get(j, "sha256"), "");
        for (const char *c = path; *c; c++) str_add(&d->s, strchr("`\n", *c) ? "?" : c, 1);
        str_puts(&d->s, "`");
        if (json_get(j, "documents"))
            str_printf(&d->s, said(d, ", %.0f documents, %.0f bytes", ", %.0f Dokumente, %.0f Byte"),
                       json_number(json_get(j, "documents"), 0), json_number(json_get(j, "bytes"), 0));
        if (*sum) str_printf(&d->s, ", SHA-256 `%.64s`", sum);
        const Json *rows = json_get(j, "lists");
        for (const Json *row = json_is(rows, JSON_ARRAY) ? rows->child : NULL; row; row = row->next) {
            str_printf(&d->s, "\n%*s- ", 6 + 2 * depth, "");
            doc_text(d, json_string(json_get(row, "source"), json_string(row->child, "?")));
            str_puts(&d->s, " "), doc_text(d, json_string(json_get(row, "version"), ""));
            str_puts(&d->s, ", "),
                doc_text(d, json_string(json_get(row, "licence"), json_string(json_get(row, "license"), "")));
        }
        if (depth < 8) piece_source(d, json_get(j, "made_by"), depth + 1);
    }
    double more = json_number(json_get(manifest, "source_count"), 0) - (sources ? sources->size : 0);
    if (more > 0) str_printf(&d->s, said(d, "\n    - and %.0f more", "\n    - und %.0f weitere"), more);
}

static inline bool piece_sources(Doc *d) {
    const Json *manifests = json_get(d->v->data, "manifests");
    size_t before = d->s.size;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next)
        piece_source(d, m, 0);
    return d->s.size > before;
}

static inline bool piece_licenses(Doc *d) {
    for (int i = 0; i < d->v->licenses.count; i++) str_puts(&d->s, i ? ", " : ""), doc_text(d, d->v->licenses.items[i]);
    return d->v->licenses.count > 0;
}

// What the verbs corpus and tokenize did to the text.
static inline void piece_cleaning(Doc *d, const Json *manifest) {
    const Json *steps = json_get(manifest, "steps"), *sources = json_get(manifest, "sources");
    if (json_is(steps, JSON_ARRAY)) {
        str_puts(&d->s, said(d, "cleaned by `corpus`, in the steps ", "bereinigt mit `corpus`, in den Schritten "));
        for (const Json *s = steps->child; s; s = s->next)
            str_printf(&d->s, "%s%s", s == steps->child ? "" : ", ", json_string(s, "?"));
        str_printf(&d->s,
                   said(d, ": %.0f of %.0f documents and %.0f of %.0f bytes stayed; ",
                        ": es blieben %.0f von %.0f Dokumenten und %.0f von %.0f Byte; "),
                   json_number(json_get(manifest, "kept"), 0), json_number(json_get(manifest, "documents"), 0),
                   json_number(json_get(manifest, "kept_bytes"), 0), json_number(json_get(manifest, "bytes"), 0));
    }
    for (const Json *s = json_is(sources, JSON_ARRAY) ? sources->child : NULL; s; s = s->next)
        if (json_get(s, "made_by")) piece_cleaning(d, json_get(s, "made_by"));
}

static inline bool piece_curation(Doc *d) {
    const Json *manifests = json_get(d->v->data, "manifests");
    size_t before = d->s.size;
    for (const Json *m = json_is(manifests, JSON_ARRAY) ? manifests->child : NULL; m; m = m->next) {
        piece_cleaning(d, m);
        str_printf(
            &d->s,
            said(d, "tokenised into %d tokens, %g of the documents held back for validation by a hash of their text. ",
                 "zerlegt in Token eines Vokabulars von %d, ein Anteil von %g der Dokumente nach einem Hash ihres "
                 "Textes für die Validierung zurückgehalten. "),
            d->v->config.vocab_size, json_number(json_get(m, "val_fraction"), 0));
    }
    return d->s.size > before;
}

static inline bool piece_training(Doc *d) {
    const View *v = d->v;
    str_printf(&d->s,
               said(d,
                    "next-token prediction with the optimizer %s, learning rate %s (schedule %s), weight decay %s, %s "
                    "tokens a sequence, precision %s, seed %s, %.0f updates on %.0f tokens",
                    "Vorhersage des nächsten Tokens mit dem Optimierer %s, Lernrate %s (Verlauf %s), Gewichtszerfall "
                    "%s, %s Token je Sequenz, Genauigkeit %s, Startwert %s, %.0f Schritte auf %.0f Token"),
               view_option(v, "optimizer"), view_option(v, "lr"), view_option(v, "lr_schedule"),
               view_option(v, "weight_decay"), view_option(v, "seq_len"),
               json_string(json_get(v->root, "precision"), "?"), view_option(v, "seed"), v->step, v->tokens);
    return v->options != NULL;
}

static inline bool piece_software(Doc *d) {
    const Json *s = d->v->last;
    if (!s) return false;
    str_printf(&d->s, said(d, "%s, commit %s, compiler ", "%s, Commit %s, Compiler "),
               json_string(json_get(s, "program"), "?"), json_string(json_get(s, "commit"), "?"));
    doc_text(d, json_string(json_get(s, "compiler"), "?"));
    const Json *libraries = json_get(s, "libraries");
    for (const Json *j = libraries ? libraries->child : NULL; j; j = j->next) {
        str_printf(&d->s, ", %s ", j->key), doc_text(d, json_string(j, "?"));
    }
    return true;
}

// What hours are counted of.
static inline const char *device_kind(const Doc *d, const Json *from) {
    const char *kind = json_string(json_get(from, "device_kind"), "?");
    return strcmp(kind, "CPU thread") == 0 ? said(d, "CPU thread", "CPU-Thread") : kind;
}

static inline bool piece_hardware(Doc *d) {
    const Json *s = d->v->last, *machine = json_get(s, "machine");
    if (!s) return false;
    doc_text(d, json_string(json_get(machine, "device"), "?"));
    str_puts(&d->s, "; ");
    doc_text(d, json_string(json_get(machine, "cpu"), "?"));
    str_printf(&d->s,
               said(d, "; ranks: %.0f, %ss: %.0f; %.1f GB of memory; ", "; Ranks: %.0f, %ss: %.0f; %.1f GB Speicher; "),
               json_number(json_get(s, "ranks"), 0), device_kind(d, s), json_number(json_get(s, "devices"), 0),
               json_number(json_get(machine, "memory_bytes"), 0) / 1e9);
    doc_text(d, json_string(json_get(machine, "system"), ""));
    return true;
}

// "; for N steps before there is no record", where that is so.
static inline void piece_unrecorded(Doc *d) {
    double steps = view_total(d->v, "unrecorded_steps");
    if (steps > 0)
        str_printf(&d->s,
                   said(d, "; of the first %.0f steps nothing is recorded",
                        "; von den ersten %.0f Schritten ist nichts aufgezeichnet"),
                   steps);
}

static inline bool piece_time(Doc *d) {
    double wall = view_total(d->v, "wall_s"), lost = view_total(d->v, "lost_s");
    if (!isfinite(wall)) return false;
    str_printf(&d->s,
               said(d, "%.6g h of wall time (starts: %.0f), %.6g %s hours",
                    "%.6g h Laufzeit (Starts: %.0f), %.6g %s-Stunden"),
               wall / 3600, view_total(d->v, "starts"), view_total(d->v, "device_hours"), device_kind(d, d->v->totals));
    if (lost > 0)
        str_printf(&d->s,
                   said(d, "; %.6g h more were lost by interruptions",
                        "; weitere %.6g h gingen durch Unterbrechungen verloren"),
                   lost / 3600);
    piece_unrecorded(d);
    return true;
}

static inline bool piece_flops(Doc *d) {
    double flops = view_total(d->v, "flops");
    if (!isfinite(flops)) return false;
    str_printf(&d->s, "%.3g FLOP", flops);
    piece_unrecorded(d);
    return true;
}

// As the form asks for it: a range for national authorities, days by the wall and of hardware for the AI Office.
static inline bool piece_time_form(Doc *d) {
    static const char *const ranges[][2] = {{"less than 1 month", "weniger als 1 Monat"},
                                            {"1 to 3 months", "1 bis 3 Monate"},
                                            {"3 to 6 months", "3 bis 6 Monate"},
                                            {"more than 6 months", "mehr als 6 Monate"}};
    double days = view_total(d->v, "wall_s") / 86400, months = days * 12 / 365.25;
    if (!isfinite(days)) return false;
    str_puts(&d->s, ranges[months < 1 ? 0 : months <= 3 ? 1 : months <= 6 ? 2 : 3][d->german]);
    str_printf(&d->s,
               said(d, "; %.3g days by the wall clock, %.3g %s days (", "; %.3g Tage nach der Uhr, %.3g %s-Tage ("),
               days, view_total(d->v, "device_hours") / 24, device_kind(d, d->v->totals));
    doc_text(d, json_string(json_get(json_get(d->v->last, "machine"), "device"), "?"));
    str_puts(&d->s, "); "), piece_time(d);
    return true;
}

#define INFERENCE_TOKENS 1e5 // a task of the size that the form gives as an example

// The forward pass, counted: a third of what a token of training takes.
static inline bool piece_inference(Doc *d) {
    double flops = json_number(json_get(json_get(d->v->account, "model"), "flops_per_token"), (double)NAN) / 3;
    if (!isfinite(flops)) return false;
    str_printf(&d->s, "%.3g FLOP", flops * INFERENCE_TOKENS);
    return true;
}

static inline bool piece_inference_method(Doc *d) {
    if (!json_get(json_get(d->v->account, "model"), "flops_per_token")) return false;
    str_printf(&d->s,
               said(d,
                    "counted, on no hardware: the forward pass over %.0f tokens in sequences of %s, a third of the "
                    "training's: %s",
                    "gezählt, auf keiner Hardware: der Vorwärtslauf über %.0f Token in Sequenzen von %s, ein Drittel "
                    "des Trainings: %s"),
               INFERENCE_TOKENS, view_option(d->v, "seq_len"),
               json_string(json_get(json_get(d->v->account, "model"), "flops_formula"), FLOPS_FORMULA));
    return true;
}

static inline bool piece_flops_method(Doc *d) {
    str_printf(&d->s,
               said(d, "counted by the program: %s; a third of it for a token of validation",
                    "vom Programm gezählt: %s; ein Drittel davon für ein Token der Validierung"),
               json_string(json_get(json_get(d->v->account, "model"), "flops_formula"), FLOPS_FORMULA));
    return true;
}

// The energy in kWh, NAN: not known. A meter counts for more than an estimate, and less than counters.
static inline double view_energy(const View *v) {
    double kwh = view_total(v, "energy_kwh"), told;
    if (view_number(&told, v, FACT_energy_kwh, NULL) && isfinite(told) && !view_measured(v)) return told;
    return kwh;
}

static inline bool piece_energy(Doc *d) {
    double kwh = view_energy(d->v);
    if (!isfinite(kwh)) return false;
    str_printf(&d->s, "%.4g MWh (%.6g kWh)", kwh / 1000, kwh);
    piece_unrecorded(d);
    return true;
}

static inline bool piece_energy_method(Doc *d) {
    const View *v = d->v;
    if (!isfinite(view_energy(v))) return false;
    if (v->facts.values[FACT_energy_kwh] && !view_measured(v)) {
        doc_answer(d, FACT_energy_method);
        return true;
    }
    const char *method = json_string(json_get(v->totals, "energy_method"), "?");
    str_puts(&d->s, strcmp(method, "measured") == 0 ? said(d, "measured", "gemessen")
                    : strcmp(method, "estimated") == 0
                        ? said(d, "estimated, not measured", "geschätzt, nicht gemessen")
                        : said(d, "partly measured, partly estimated", "teils gemessen, teils geschätzt"));
    const Json *starts = json_get(v->account, "starts");
    for (const Json *s = json_is(starts, JSON_ARRAY) ? starts->child : NULL; s; s = s->next) {
        str_puts(&d->s, s == starts->child ? ": " : "; ");
        doc_text(d, json_string(json_get(json_get(s, "energy"), "source"), "?"));
    }
    return true;
}

// Grams of CO2 equivalent, NAN: not known.
static inline double view_co2(const View *v) {
    double grams;
    return view_number(&grams, v, FACT_grid_intensity, NULL) ? grams * view_energy(v) : (double)NAN;
}

static inline bool piece_co2(Doc *d) {
    double grams = view_co2(d->v);
    if (!isfinite(grams)) return false;
    str_printf(&d->s, "%.6g g CO2e = %.6g kWh x ", grams, view_energy(d->v));
    doc_answer(d, FACT_grid_intensity);
    str_puts(&d->s, " g/kWh");
    return true;
}

static inline bool piece_validation(Doc *d) {
    const Json *val = d->v->validation;
    if (!val) return false;
    double bits = json_number(json_get(val, "bits_per_byte"), (double)NAN);
    str_printf(&d->s, said(d, "%.4f nats a token", "%.4f Nats je Token"),
               json_number(json_get(val, "loss"), (double)NAN));
    if (isfinite(bits)) str_printf(&d->s, said(d, ", %.4f bits a byte of text", ", %.4f Bit je Byte Text"), bits);
    str_printf(&d->s, said(d, ", over %.0f tokens, after step %.0f", ", über %.0f Token, nach Schritt %.0f"),
               json_number(json_get(val, "tokens"), 0), json_number(json_get(val, "step"), 0));
    return true;
}

// `acc 0.5667 +- 0.092, loss 5.43`
static inline void doc_figures(Doc *d, const Result *one) {
    for (int k = 0; k < one->count; k++) {
        const ResultFigure *f = &one->figures[k];
        str_printf(&d->s, "%s%s %.6g", k ? ", " : "", f->metric, f->value);
        if (isfinite(f->error)) str_printf(&d->s, " +- %.2g", f->error);
    }
}

// Scores of tasks, of training and of `eval --record`, and losses of further shards.
static inline bool piece_tasks(Doc *d) {
    Results r = results_of(d->v);
    size_t before = d->s.size;
    for (size_t i = 0; i < r.count; i++) {
        const Result *one = &r.items[i];
        if (strcmp(one->group, "validation") == 0) continue;
        str_puts(&d->s, "\n    - "), doc_text(d, one->name.text);
        str_puts(&d->s, ": "), doc_figures(d, one);
        str_printf(&d->s, said(d, "; after step %.0f", "; nach Schritt %.0f"), one->step);
        if (isfinite(one->items)) str_printf(&d->s, said(d, ", items: %.0f", ", Aufgaben: %.0f"), one->items);
        if (one->sha256) str_printf(&d->s, said(d, ", file SHA-256 `%.64s`", ", Datei SHA-256 `%.64s`"), one->sha256);
        if (strcmp(one->group, "evaluation") != 0) continue;
        static const char *const by[] = {"program", "commit", "precision", "date"};
        for (size_t k = 0; k < sizeof by / sizeof *by; k++)
            str_puts(&d->s, k ? ", " : "; "), doc_text(d, json_string(json_get(one->entry, by[k]), "?"));
    }
    if (d->s.size > before)
        str_puts(&d->s, said(d, "\n    - tasks are scored as lm-evaluation-harness does",
                             "\n    - Aufgaben sind bewertet wie von lm-evaluation-harness"));
    free(r.items);
    return d->s.size > before;
}

static inline bool piece_framework(Doc *d) {
    str_puts(&d->s, said(d,
                         "Hugging Face Transformers reads the folder as it is; llama.cpp and Ollama read what `export` "
                         "makes of it",
                         "Hugging Face Transformers liest den Ordner, wie er ist; llama.cpp und Ollama lesen, was "
                         "`export` daraus macht"));
    return true;
}

static inline bool piece_today(Doc *d) {
    str_printf(&d->s, "%.10s", machine_time().text);
    return true;
}

#endif
