/*
facts.h: what only a person can know of a model, from the file that `report --facts=FILE` names.

    # who we are
    provider = Stadtwerke Musterstadt GmbH
    license = Apache-2.0

Lines `key = value`; '#' at the start of a line begins a comment; white space around keys and values does not count;
UTF-8. An empty value is no answer. Keys are those of FACTS, each with its question; `report --check` lists those that
are open. An unknown key, or one that stands twice, is an error with its line.

Keys of FACTS_MEASURED are figures that the record knows: they may be given, and what differs is refused (view.h), so
that no document says what the run did not do.
*/
#ifndef LLMC_FACTS_H
#define LLMC_FACTS_H

#include "../base/file.h"

#define FACTS_BYTES ((size_t)1 << 20)

// X(key, the question in English, in German)
// clang-format off
#define FACTS_ASKED(X)                                                                                                 \
    X(provider, "Who is the provider (legal name)?", "Wer ist der Anbieter (rechtlicher Name)?")                       \
    X(contact, "How is the provider reached?", "Wie ist der Anbieter zu erreichen?")                                   \
    X(authorised_representative, "Who represents a provider from outside the Union (name, contact), or none?", "Wer vertritt einen Anbieter von außerhalb der Union (Name, Kontakt), oder niemand?") \
    X(model_name, "What is the model called?", "Wie heißt das Modell?")                                                \
    X(model_version, "Which version of it is this?", "Welche Version davon ist dies?")                                 \
    X(document_version, "Which version of these documents is this?", "Welche Version dieser Dokumente ist dies?")      \
    X(release_date, "When was it first released, through any channel (YYYY-MM-DD)?", "Wann wurde es zuerst veröffentlicht, auf welchem Weg auch immer (JJJJ-MM-TT)?") \
    X(union_market_date, "When was it placed on the Union market (YYYY-MM-DD)?", "Wann wurde es in der Union in Verkehr gebracht (JJJJ-MM-TT)?") \
    X(license, "Under which licence is the model given (SPDX)?", "Unter welcher Lizenz steht das Modell (SPDX)?")      \
    X(license_link, "Where can that licence be read?", "Wo ist diese Lizenz zu lesen?")                                \
    X(repository, "Where is the model to be had (URL)?", "Wo ist das Modell zu haben (URL)?")                          \
    X(base_model, "What is the model that it was made from called where it is published?", "Wie heißt das Modell, aus dem es gemacht wurde, dort, wo es veröffentlicht ist?") \
    X(language, "Which languages is it made for (codes, with commas: de, en)?", "Für welche Sprachen ist es gemacht (Kürzel mit Kommas: de, en)?") \
    X(datasets, "Under which names are the training data published (with commas)?", "Unter welchen Namen sind die Trainingsdaten veröffentlicht (mit Kommas)?") \
    X(distribution, "Through which channels is it distributed, with which access?", "Über welche Wege wird es verbreitet, mit welchem Zugang?") \
    X(acceptable_use, "Where is the acceptable use policy, or is there none?", "Wo steht die Richtlinie zur zulässigen Nutzung, oder gibt es keine?") \
    X(intended_use, "What is it meant to be used for?", "Wofür ist es gedacht?")                                       \
    X(restricted_use, "Which uses are restricted or prohibited?", "Welche Nutzungen sind eingeschränkt oder verboten?") \
    X(integration, "Into which kinds of AI systems can it be built?", "In welche Arten von KI-Systemen lässt es sich einbauen?") \
    X(integration_means, "What is technically needed to build it in?", "Was braucht man technisch, um es einzubauen?") \
    X(required_hardware, "Which hardware does its use need?", "Welche Hardware braucht seine Nutzung?")                \
    X(required_software, "Which software does its use need?", "Welche Software braucht seine Nutzung?")                \
    X(design_rationale, "Why is the model built as it is: choices, reasons, assumptions?", "Warum ist das Modell so gebaut: Entscheidungen, Gründe, Annahmen?") \
    X(training_rationale, "Why was it trained as it was: key decisions and reasons?", "Warum wurde es so trainiert: wichtige Entscheidungen und Gründe?") \
    X(limitations, "What can the model not do, and where does it fail?", "Was kann das Modell nicht, und wo versagt es?") \
    X(risks, "Which risks does its use carry, for whom?", "Welche Risiken birgt seine Nutzung, und für wen?")          \
    X(data_motivation, "Why were these data put together, by whom, paid by whom?", "Warum wurden diese Daten zusammengestellt, von wem, von wem bezahlt?") \
    X(data_collection, "How were the data obtained and selected?", "Wie wurden die Daten beschafft und ausgewählt?")   \
    X(data_timeframe, "In which period were they collected?", "In welchem Zeitraum wurden sie gesammelt?")             \
    X(data_latest, "What is the latest date on which data were acquired (MM/YYYY), and does collection go on?", "Wann wurden zuletzt Daten beschafft (MM/JJJJ), und geht das Sammeln weiter?") \
    X(data_languages, "What languages and varieties are in the data, in which shares?", "Welche Sprachen und Varietäten enthalten die Daten, mit welchen Anteilen?") \
    X(content_types, "Which types of text are in the data (fiction, non-fiction, science, news, law, source code, ...)?", "Welche Arten von Text enthalten die Daten (Literatur, Sachtexte, Wissenschaft, Nachrichten, Recht, Quelltext, ...)?") \
    X(data_characteristics, "What else is characteristic of the data (subjects, regions, time)?", "Was ist sonst kennzeichnend für die Daten (Themen, Gegenden, Zeit)?") \
    X(data_license, "Under which licences are the data?", "Unter welchen Lizenzen stehen die Daten?")                  \
    X(data_access, "Where can others get the data?", "Wo bekommen andere die Daten?")                                  \
    X(public_datasets, "Were publicly available datasets used (yes or no; if so: which, with links)?", "Wurden öffentlich verfügbare Datensätze genutzt (ja oder nein; wenn ja: welche, mit Links)?") \
    X(licensed_data, "Were data licensed commercially from rightsholders or their representatives (yes or no; which kinds)?", "Wurden Daten von Rechteinhabern oder ihren Vertretern kommerziell lizenziert (ja oder nein; welche Arten)?") \
    X(third_party_data, "Were private datasets obtained from other third parties (yes or no; which)?", "Wurden private Datensätze von anderen Dritten bezogen (ja oder nein; welche)?") \
    X(crawled_data, "Were data crawled or scraped by the provider or on its behalf (yes or no; which content)?", "Wurden Daten vom Anbieter oder in seinem Auftrag gecrawlt oder ausgelesen (ja oder nein; welche Inhalte)?") \
    X(crawler_names, "If so: what are the crawlers called, and who runs them?", "Wenn ja: wie heißen die Crawler, und wer betreibt sie?") \
    X(crawler_behaviour, "For what purpose, and how do they behave (robots.txt, captchas, paywalls)?", "Zu welchem Zweck, und wie verhalten sie sich (robots.txt, Captchas, Bezahlschranken)?") \
    X(crawl_period, "From when to when?", "Von wann bis wann?")                                                        \
    X(top_domains, "Which are the domains with most content (the top 10%; small and medium enterprises: 5% or 1,000)?", "Welche Domains haben den meisten Inhalt (die obersten 10 %; kleine und mittlere Unternehmen: 5 % oder 1000)?") \
    X(user_data, "Were users' interactions with the model used for training (yes or no)?", "Wurden Interaktionen von Nutzern mit dem Modell zum Training genutzt (ja oder nein)?") \
    X(product_data, "Were data from users of other services of the provider used (yes or no; which services)?", "Wurden Daten von Nutzern anderer Dienste des Anbieters genutzt (ja oder nein; welche Dienste)?") \
    X(synthetic_data, "Were synthetic data made by AI for the training (yes or no; which kind)?", "Wurden mit KI synthetische Daten für das Training erzeugt (ja oder nein; welcher Art)?") \
    X(synthetic_models, "If so: by which models?", "Wenn ja: von welchen Modellen?")                                   \
    X(other_data, "Were there other sources of data (yes or no; which)?", "Gab es andere Datenquellen (ja oder nein; welche)?") \
    X(code_of_practice, "Has the provider signed the Code of Practice for general-purpose AI (yes or no)?", "Hat der Anbieter den Praxisleitfaden für KI mit allgemeinem Verwendungszweck unterzeichnet (ja oder nein)?") \
    X(tdm_measures, "How were reservations of rights against text and data mining respected, with which protocols?", "Wie wurden Nutzungsvorbehalte gegen Text- und Data-Mining beachtet, mit welchen Protokollen?") \
    X(illegal_content, "What was done to keep illegal content out?", "Was wurde getan, um illegale Inhalte fernzuhalten?") \
    X(unsuitability_measures, "How were unsuitable data sources found and dealt with?", "Wie wurden ungeeignete Datenquellen erkannt und behandelt?") \
    X(bias_measures, "How were identifiable biases looked for, and dealt with?", "Wie wurde nach erkennbaren Verzerrungen gesucht, und was geschah damit?") \
    X(personal_data, "Do the data hold personal or sensitive information, and what was done about it?", "Enthalten die Daten personenbezogene oder sensible Angaben, und was geschah damit?") \
    X(data_biases, "Which biases do the data have?", "Welche Verzerrungen haben die Daten?")                           \
    X(data_limitations, "What are the data not good for?", "Wofür taugen die Daten nicht?")                            \
    X(data_social_impact, "What effects on people and society may their use have?", "Welche Wirkungen auf Menschen und Gesellschaft kann ihre Nutzung haben?") \
    X(data_use_cases, "What are the data meant for?", "Wofür sind die Daten gedacht?")                                 \
    X(data_maintenance, "Who maintains the data, and until when?", "Wer pflegt die Daten, und bis wann?")              \
    X(annotation, "Were the data annotated (by whom, how, how often each), or not?", "Wurden die Daten annotiert (von wem, wie, wie oft je Beispiel), oder nicht?") \
    X(other_processing, "What else is to be said of the processing of data?", "Was ist sonst zur Verarbeitung der Daten zu sagen?") \
    X(energy_kwh, "What did a meter show for the whole training (kWh, a number)?", "Was zeigte ein Zähler für das ganze Training (kWh, eine Zahl)?") \
    X(energy_method, "How was that energy measured?", "Wie wurde diese Energie gemessen?")                             \
    X(grid_intensity, "How much CO2 equivalent did a kWh cause (grams, a number), by which source?", "Wie viel CO2-Äquivalent verursachte eine kWh (Gramm, eine Zahl)?") \
    X(training_cost, "What did the training cost (money, and what that includes)?", "Was kostete das Training (Geld, und was darin enthalten ist)?") \
    X(location, "Where did the machines stand?", "Wo standen die Rechner?")                                            \
    X(inference_compute, "How much computation was measured for inference (FLOP, for which task, on which hardware)?", "Wie viel Rechnung wurde für die Anwendung gemessen (FLOP, für welche Aufgabe, auf welcher Hardware)?") \
    X(technical_report, "Where is the technical report?", "Wo steht der technische Bericht?")                          \
    X(preprint, "Where is the preprint?", "Wo steht der Vorabdruck?")                                                  \
    X(paper, "Where is the peer-reviewed paper?", "Wo steht der begutachtete Artikel?")                                \
    X(training_code, "Where can the code of the training be had, under which licence?", "Wo ist der Quelltext des Trainings zu haben, unter welcher Lizenz?") \
    X(code_documentation, "Where is that code documented?", "Wo ist dieser Quelltext dokumentiert?")                   \
    X(evaluation_data, "Where can the evaluation data be had?", "Wo sind die Daten der Auswertung zu haben?")          \
    X(intermediate_checkpoints, "Where can checkpoints from the training be had?", "Wo sind Zwischenstände des Trainings zu haben?") \
    X(package, "Under which name is it packaged for installation?", "Unter welchem Namen lässt es sich als Paket installieren?") \
    X(api, "Which public API serves it, with which system prompts?", "Welche öffentliche Schnittstelle bietet es an, mit welchen Systemprompts?")
// Figures that the record knows. X(key, what it is in English, in German)
#define FACTS_MEASURED(X)                                                                                              \
    X(architecture, "family of the model", "Familie des Modells")                                                      \
    X(parameters, "parameters", "Parameter")                                                                           \
    X(context_length, "positions", "Positionen")                                                                       \
    X(vocab_size, "size of the vocabulary", "Größe des Vokabulars")                                                    \
    X(training_tokens, "tokens trained on", "trainierte Token")                                                        \
    X(training_steps, "steps", "Schritte")                                                                             \
    X(training_flops, "FLOPs of the training", "FLOPs des Trainings")                                                  \
    X(training_hours, "hours of the training", "Stunden des Trainings")                                                \
    X(model_sha256, "SHA-256 of model.safetensors", "SHA-256 von model.safetensors")
// clang-format on
#define FACTS(X) FACTS_ASKED(X) FACTS_MEASURED(X)

#define X(key, ...) FACT_##key,
typedef enum { FACTS(X) FACT_COUNT } Fact;
#undef X
#define X(key, ...) +1
enum { FACT_ASKED_COUNT = 0 FACTS_ASKED(X) };
#undef X

// Name of a key; its question, in German or English.
static inline const char *fact_key(int fact) {
    static const char *const keys[] = {
#define X(key, ...) #key,
        FACTS(X)
#undef X
    };
    return keys[fact];
}

static inline const char *fact_question(int fact, bool german) {
    static const char *const questions[][2] = {
#define X(key, en, de) {en, de},
        FACTS(X)
#undef X
    };
    return questions[fact][german];
}

typedef struct {
    Path path;                      // of the file, empty: there is none
    const char *values[FACT_COUNT]; // NULL: not answered
    int lines[FACT_COUNT];
    Str text; // that the values lie in
} Facts;

static inline void facts_free(Facts *f) {
    free(f->text.data);
    memset(f, 0, sizeof *f);
}

// The end of a line without white space.
static inline void facts_trim(char *text) {
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r", text[n - 1])) text[--n] = 0;
}

static inline bool facts_line(Facts *f, char *line, int number, Error *err) {
    char *key = line + strspn(line, " \t"), *value = strchr(key, '=');
    facts_trim(key);
    if (!*key || *key == '#') return true;
    if (!value) return error_set(err, "%s: line %d: \"%.100s\": expected `key = value`", f->path.text, number, key);
    *value++ = 0;
    value += strspn(value, " \t");
    facts_trim(key);
    int fact = 0;
    while (fact < FACT_COUNT && strcmp(key, fact_key(fact)) != 0) fact++;
    if (fact == FACT_COUNT)
        return error_set(err, "%s: line %d: there is no key \"%.100s\"; report --check lists the open ones",
                         f->path.text, number, key);
    if (f->lines[fact])
        return error_set(err, "%s: line %d: \"%s\" stands there twice, in line %d before", f->path.text, number, key,
                         f->lines[fact]);
    f->lines[fact] = number;
    f->values[fact] = *value ? value : NULL;
    return true;
}

// On false there is nothing to free. An empty path: no facts.
static inline bool facts_load(Facts *f, const char *path, Error *err) {
    memset(f, 0, sizeof *f);
    if (!*path) return true;
    f->path = path_of("%s", path);
    bool ok = file_read(&f->text, path, FACTS_BYTES, err);
    if (ok && memchr(f->text.data ? f->text.data : "", 0, f->text.size))
        ok = error_set(err, "%s: a NUL byte is in it, expected text", path);
    char *line = f->text.data;
    if (ok && f->text.size > 2 && memcmp(line, "\xef\xbb\xbf", 3) == 0) line += 3;
    for (int number = 1; ok && line && *line; number++) {
        char *end = line + strcspn(line, "\n"), *next = *end ? end + 1 : end;
        *end = 0;
        char *shown = str_copy(line); // is there anything in it that no text has?
        text_make_printable_but(shown, "\t\r");
        if (strcmp(shown, line) != 0)
            ok = error_set(err, "%s: line %d: a control character, or bytes that are not UTF-8", path, number);
        free(shown);
        ok = ok && facts_line(f, line, number, err);
        line = next;
    }
    if (!ok) facts_free(f);
    return ok;
}

#endif
