/*
papers.h: the papers that are written of a model, as tables of rows (document.h), each in German and in English.

    eu_training_summary    the public summary of training content by Article 53(1)(d) of Regulation (EU) 2024/1689;
                           sections of the Commission's template (24.7.2025, adopted as C(2025) 8311 on 5.12.2025;
                           digital-strategy.ec.europa.eu), held against the summaries of Apertus (1.9.2025) and SmolLM3,
                           which follow it heading by heading
    model_documentation    the Model Documentation Form of the transparency chapter of the Code of Practice for
                           general-purpose AI (10.7.2025; digital-strategy.ec.europa.eu/en/policies/contents-code-gpai),
                           items and their order by transcriptions of it: dastra.eu's audit referential for sections 1
                           to 4, lists of its fields for 5 to 8. For whom an item is, the form says as well; the form
                           itself could not be read, so it stands here by what the law asks for: Annex XI for the AI
                           Office and national authorities, Annex XII for downstream providers (Regulation (EU)
                           2024/1689, OJ L, 12.7.2024), and where neither names an item, that it is not known
    datasheet              the questions of Gebru et al., Datasheets for Datasets (arXiv 1803.09010), by its sections
    card                   the body of the model card, in README.md behind its YAML (card.h)

The words are ours, and shorter than theirs; the sections and their order are theirs.
*/
#ifndef LLMC_PAPERS_H
#define LLMC_PAPERS_H

#include "document.h"

#define NO_FACT FACT_COUNT

// clang-format off
static const DocRow paper_summary[] = {
    {1, "Public summary of training content", "Öffentliche Zusammenfassung der Trainingsinhalte", NO_FACT, NULL},
    {0, "Version of the summary", "Fassung der Zusammenfassung", FACT_document_version, NULL},
    {0, "Last update", "Stand", NO_FACT, piece_today},
    {2, "1. General information", "1. Allgemeine Angaben", NO_FACT, NULL},
    {3, "1.1. Provider identification", "1.1. Angaben zum Anbieter", NO_FACT, NULL},
    {0, "Provider", "Anbieter", FACT_provider, NULL},
    {0, "Contact details", "Kontakt", FACT_contact, NULL},
    {0, "Authorised representative", "Bevollmächtigter", FACT_authorised_representative, NULL},
    {3, "1.2. Model identification", "1.2. Angaben zum Modell", NO_FACT, NULL},
    {0, "Versioned model name", "Modellname mit Version", NO_FACT, piece_name},
    {0, "Model dependencies", "Abhängigkeiten von anderen Modellen", FACT_base_model, piece_dependencies},
    {0, "Date of placement on the Union market", "Datum des Inverkehrbringens in der Union", FACT_union_market_date, NULL},
    {3, "1.3. Modalities, overall training data size and other characteristics", "1.3. Modalitäten, Gesamtumfang der Trainingsdaten und weitere Merkmale", NO_FACT, NULL},
    {0, "Modalities and size", "Modalitäten und Umfang", NO_FACT, piece_data_size},
    {0, "Types of content", "Arten der Inhalte", FACT_content_types, NULL},
    {0, "Latest date of data acquisition", "Letzter Zeitpunkt der Datenbeschaffung", FACT_data_latest, NULL},
    {0, "Linguistic characteristics of the overall training data", "Sprachliche Merkmale der gesamten Trainingsdaten", FACT_data_languages, NULL},
    {0, "Other relevant characteristics of the overall training data", "Weitere Merkmale der gesamten Trainingsdaten", FACT_data_characteristics, NULL},
    {0, "Tokenizer by which the size is counted", "Tokenizer, nach dem der Umfang gezählt ist", NO_FACT, piece_tokenizer},
    {2, "2. List of data sources", "2. Liste der Datenquellen", NO_FACT, NULL},
    {0, "Sources that the program recorded", "Quellen, die das Programm aufgezeichnet hat", NO_FACT, piece_sources},
    {3, "2.1. Publicly available datasets", "2.1. Öffentlich verfügbare Datensätze", NO_FACT, NULL},
    {0, "Used, and which", "Genutzt, und welche", FACT_public_datasets, NULL},
    {3, "2.2. Private non-publicly available datasets obtained from third parties", "2.2. Private, nicht öffentlich verfügbare Datensätze Dritter", NO_FACT, NULL},
    {4, "2.2.1. Datasets commercially licensed by rightsholders or their representatives", "2.2.1. Datensätze, von Rechteinhabern oder ihren Vertretern kommerziell lizenziert", NO_FACT, NULL},
    {0, "Licensed", "Lizenziert", FACT_licensed_data, NULL},
    {4, "2.2.2. Private datasets obtained from other third parties", "2.2.2. Private Datensätze, von anderen Dritten bezogen", NO_FACT, NULL},
    {0, "Obtained", "Bezogen", FACT_third_party_data, NULL},
    {3, "2.3. Data crawled and scraped from online sources", "2.3. Aus Online-Quellen gecrawlte und ausgelesene Daten", NO_FACT, NULL},
    {0, "Crawlers used, and for which content", "Crawler genutzt, und für welche Inhalte", FACT_crawled_data, NULL},
    {0, "Names of the crawlers", "Namen der Crawler", FACT_crawler_names, NULL},
    {0, "Purpose and behaviour", "Zweck und Verhalten", FACT_crawler_behaviour, NULL},
    {0, "Period of collection", "Zeitraum", FACT_crawl_period, NULL},
    {0, "Most relevant domains", "Wichtigste Domains", FACT_top_domains, NULL},
    {3, "2.4. User data", "2.4. Nutzerdaten", NO_FACT, NULL},
    {0, "Interactions with the model", "Interaktionen mit dem Modell", FACT_user_data, NULL},
    {0, "Other services and products of the provider", "Andere Dienste und Produkte des Anbieters", FACT_product_data, NULL},
    {3, "2.5. Synthetic data", "2.5. Synthetische Daten", NO_FACT, NULL},
    {0, "Made by AI for the training", "Mit KI für das Training erzeugt", FACT_synthetic_data, NULL},
    {0, "Models that made them", "Modelle, die sie erzeugten", FACT_synthetic_models, NULL},
    {3, "2.6. Other sources of data", "2.6. Andere Datenquellen", NO_FACT, NULL},
    {0, "Others", "Andere", FACT_other_data, NULL},
    {2, "3. Data processing aspects", "3. Aspekte der Datenverarbeitung", NO_FACT, NULL},
    {3, "3.1. Respect of reservation of rights from text and data mining exception or limitation", "3.1. Beachtung von Nutzungsvorbehalten gegen die Ausnahme oder Beschränkung für Text- und Data-Mining", NO_FACT, NULL},
    {0, "Signatory of the Code of Practice", "Unterzeichner des Praxisleitfadens", FACT_code_of_practice, NULL},
    {0, "Measures", "Maßnahmen", FACT_tdm_measures, NULL},
    {3, "3.2. Removal of illegal content", "3.2. Entfernung illegaler Inhalte", NO_FACT, NULL},
    {0, "Measures", "Maßnahmen", FACT_illegal_content, NULL},
    {3, "3.3. Other information (optional)", "3.3. Weitere Angaben (freiwillig)", NO_FACT, NULL},
    {0, "Processing that the program recorded", "Verarbeitung, die das Programm aufgezeichnet hat", NO_FACT, piece_curation},
    {0, "Other", "Weiteres", FACT_other_processing, NULL},
};

static const DocRow paper_form[] = {
    {1, "Model documentation form", "Formular zur Modelldokumentation", NO_FACT, NULL},
    {0, "Date this document was last updated", "Stand", NO_FACT, piece_today},
    {0, "Document version number", "Fassung des Dokuments", FACT_document_version, NULL},
    {0, "For whom the items are", "Für wen die Angaben sind", NO_FACT, piece_audience},
    {2, "1. General information", "1. Allgemeine Angaben", NO_FACT, NULL},
    {FOR_UNKNOWN, "Legal name of the provider", "Rechtlicher Name des Anbieters", FACT_provider, NULL},
    {FOR_UNKNOWN, "Model name and versions", "Modellname und Versionen", FACT_model_version, piece_name},
    {FOR_UNKNOWN, "Model authenticity", "Echtheit des Modells", NO_FACT, piece_hash},
    {FOR_ALL, "Release date", "Datum der Veröffentlichung", FACT_release_date, NULL},
    {FOR_UNKNOWN, "Union market release date", "Datum des Inverkehrbringens in der Union", FACT_union_market_date, NULL},
    {FOR_UNKNOWN, "Model dependencies", "Abhängigkeiten von anderen Modellen", FACT_base_model, piece_dependencies},
    {2, "2. Model properties", "2. Eigenschaften des Modells", NO_FACT, NULL},
    {FOR_ALL, "Model architecture", "Architektur", NO_FACT, piece_architecture},
    {FOR_AUTHORITIES, "Design specifications of the model", "Entwurf des Modells", FACT_design_rationale, NULL},
    {FOR_ALL, "Input modalities and maximum size", "Eingaben und größter Umfang", NO_FACT, piece_modality},
    {FOR_ALL, "Output modalities and maximum size", "Ausgaben und größter Umfang", NO_FACT, piece_modality},
    {FOR_ALL, "Total model size (parameters)", "Größe des Modells (Parameter)", NO_FACT, piece_parameters},
    {FOR_UNKNOWN, "Range", "Größenklasse", NO_FACT, piece_size_range},
    {2, "3. Methods of distribution and licences", "3. Verbreitung und Lizenzen", NO_FACT, NULL},
    {FOR_ALL, "Distribution channels", "Verbreitungswege", FACT_distribution, NULL},
    {FOR_ALL, "Licence", "Lizenz", FACT_license, NULL},
    {FOR_ALL, "Where the licence can be read", "Fundstelle der Lizenz", FACT_license_link, NULL},
    {FOR_UNKNOWN, "Additional assets: training code", "Weiteres: Quelltext des Trainings", FACT_training_code, NULL},
    {FOR_UNKNOWN, "Additional assets: data", "Weiteres: Daten", FACT_data_access, NULL},
    {2, "4. Use", "4. Nutzung", NO_FACT, NULL},
    {FOR_ALL, "Acceptable use policy", "Richtlinie zur zulässigen Nutzung", FACT_acceptable_use, NULL},
    {FOR_ALL, "Intended uses", "Vorgesehene Nutzung", FACT_intended_use, NULL},
    {FOR_UNKNOWN, "Restricted uses", "Eingeschränkte Nutzung", FACT_restricted_use, NULL},
    {FOR_ALL, "Type and nature of AI systems in which it can be integrated", "Art der KI-Systeme, in die es sich einbauen lässt", FACT_integration, NULL},
    {FOR_ALL, "Technical means for integration", "Technische Mittel des Einbaus", FACT_integration_means, piece_framework},
    {FOR_ALL, "Required hardware", "Nötige Hardware", FACT_required_hardware, NULL},
    {FOR_ALL, "Required software", "Nötige Software", FACT_required_software, NULL},
    {2, "5. Training process", "5. Training", NO_FACT, NULL},
    {FOR_AUTHORITIES, "Design specifications of the training process", "Ablauf des Trainings", NO_FACT, piece_training},
    {FOR_AUTHORITIES, "Decision rationale", "Gründe der Entscheidungen", FACT_training_rationale, NULL},
    {2, "6. Data used for training, testing and validation", "6. Daten für Training, Test und Validierung", NO_FACT, NULL},
    {FOR_ALL, "Data type/modality", "Art und Modalität der Daten", NO_FACT, piece_text},
    {FOR_ALL, "Data provenance: web crawling", "Herkunft: Crawling", FACT_crawled_data, NULL},
    {FOR_ALL, "Data provenance: private non-publicly available datasets obtained from third parties, commercially licensed", "Herkunft: private, nicht öffentlich verfügbare Datensätze Dritter, kommerziell lizenziert", FACT_licensed_data, NULL},
    {FOR_ALL, "Data provenance: private non-publicly available datasets obtained from third parties, others", "Herkunft: private, nicht öffentlich verfügbare Datensätze Dritter, andere", FACT_third_party_data, NULL},
    {FOR_ALL, "Data provenance: user data, of the model", "Herkunft: Nutzerdaten, des Modells", FACT_user_data, NULL},
    {FOR_ALL, "Data provenance: user data, of other services", "Herkunft: Nutzerdaten, anderer Dienste", FACT_product_data, NULL},
    {FOR_ALL, "Data provenance: publicly available datasets", "Herkunft: öffentlich verfügbare Datensätze", FACT_public_datasets, NULL},
    {FOR_ALL, "Data provenance: synthetic data that is not publicly accessible", "Herkunft: synthetische, nicht öffentlich zugängliche Daten", FACT_synthetic_data, NULL},
    {FOR_ALL, "Data provenance: data collected through other means", "Herkunft: auf anderem Weg gesammelte Daten", FACT_other_data, NULL},
    {FOR_AUTHORITIES, "How data was obtained and selected", "Wie Daten beschafft und ausgewählt wurden", FACT_data_collection, NULL},
    {FOR_ALL, "Sources that the program recorded", "Quellen, die das Programm aufgezeichnet hat", NO_FACT, piece_sources},
    {FOR_AUTHORITIES, "Number of data points", "Zahl der Datenpunkte", NO_FACT, piece_data_points},
    {FOR_AUTHORITIES, "Scope and main characteristics", "Umfang und Hauptmerkmale", FACT_data_characteristics, NULL},
    {FOR_ALL, "Data curation methodologies", "Aufbereitung", NO_FACT, piece_curation},
    {FOR_AUTHORITIES, "Measures to detect unsuitability of data sources", "Maßnahmen gegen ungeeignete Quellen", FACT_unsuitability_measures, NULL},
    {FOR_AUTHORITIES, "Measures to detect identifiable biases", "Maßnahmen gegen erkennbare Verzerrungen", FACT_bias_measures, NULL},
    {2, "7. Computational resources (during training)", "7. Rechenaufwand (des Trainings)", NO_FACT, NULL},
    {FOR_AUTHORITIES, "Training time", "Dauer des Trainings", NO_FACT, piece_time_form},
    {FOR_AUTHORITIES, "Amount of computation used for training", "Menge der Berechnungen des Trainings", NO_FACT, piece_flops},
    {FOR_AUTHORITIES, "Measurement methodology", "Messverfahren", NO_FACT, piece_flops_method},
    {FOR_AUTHORITIES, "Hardware", "Hardware", NO_FACT, piece_hardware},
    {2, "8. Energy consumption (during training and inference)", "8. Energieverbrauch (Training und Anwendung)", NO_FACT, NULL},
    {FOR_AUTHORITIES, "Amount of energy used for training", "Energie des Trainings", FACT_energy_kwh, piece_energy},
    {FOR_AUTHORITIES, "Measurement methodology", "Messverfahren", NO_FACT, piece_energy_method},
    {FOR_AUTHORITIES, "Benchmarked amount of computation used for inference", "Menge der Berechnungen der Anwendung", FACT_inference_compute, piece_inference},
    {FOR_AUTHORITIES, "Measurement methodology", "Messverfahren", NO_FACT, piece_inference_method},
};

static const DocRow paper_datasheet[] = {
    {1, "Data sheet", "Datenblatt der Daten", NO_FACT, NULL},
    {2, "Motivation", "Beweggründe", NO_FACT, NULL},
    {0, "Why, by whom, paid by whom", "Warum, von wem, von wem bezahlt", FACT_data_motivation, NULL},
    {2, "Composition", "Zusammensetzung", NO_FACT, NULL},
    {0, "What an instance is", "Was ein Beispiel ist", NO_FACT, piece_text},
    {0, "How many there are", "Wie viele es sind", NO_FACT, piece_data_points},
    {0, "Sources", "Quellen", NO_FACT, piece_sources},
    {0, "Languages", "Sprachen", FACT_data_languages, NULL},
    {0, "Other characteristics", "Weitere Merkmale", FACT_data_characteristics, NULL},
    {0, "Personal and sensitive information", "Personenbezogene und sensible Angaben", FACT_personal_data, NULL},
    {0, "Known biases", "Bekannte Verzerrungen", FACT_data_biases, NULL},
    {2, "Collection process", "Erhebung", NO_FACT, NULL},
    {0, "How the data were obtained and selected", "Wie die Daten beschafft und ausgewählt wurden", FACT_data_collection, NULL},
    {0, "Period", "Zeitraum", FACT_data_timeframe, NULL},
    {0, "Reservations of rights", "Nutzungsvorbehalte", FACT_tdm_measures, NULL},
    {2, "Preprocessing, cleaning, labelling", "Vorverarbeitung, Bereinigung, Annotation", NO_FACT, NULL},
    {0, "What was done", "Was getan wurde", NO_FACT, piece_curation},
    {0, "Annotation", "Annotation", FACT_annotation, NULL},
    {0, "Illegal content", "Illegale Inhalte", FACT_illegal_content, NULL},
    {0, "Software", "Software", NO_FACT, piece_software},
    {2, "Uses", "Nutzung", NO_FACT, NULL},
    {0, "Meant for", "Gedacht für", FACT_data_use_cases, NULL},
    {0, "Not good for", "Nicht geeignet für", FACT_data_limitations, NULL},
    {0, "Effects on people and society", "Wirkungen auf Menschen und Gesellschaft", FACT_data_social_impact, NULL},
    {2, "Distribution", "Verbreitung", NO_FACT, NULL},
    {0, "Where to get them", "Wo sie zu haben sind", FACT_data_access, NULL},
    {0, "Licences", "Lizenzen", FACT_data_license, piece_licenses},
    {2, "Maintenance", "Pflege", NO_FACT, NULL},
    {0, "By whom, until when", "Von wem, bis wann", FACT_data_maintenance, NULL},
};

static const DocRow paper_card[] = {
    {2, "Model", "Modell", NO_FACT, NULL},
    {0, "Name", "Name", FACT_model_version, piece_name},
    {0, "Provider", "Anbieter", FACT_provider, NULL},
    {0, "Contact", "Kontakt", FACT_contact, NULL},
    {0, "Architecture", "Architektur", NO_FACT, piece_architecture},
    {0, "Parameters", "Parameter", NO_FACT, piece_parameters},
    {0, "Made from", "Gemacht aus", FACT_base_model, piece_dependencies},
    {0, "Languages", "Sprachen", FACT_language, NULL},
    {0, "Licence", "Lizenz", FACT_license, NULL},
    {0, "Files", "Dateien", NO_FACT, piece_hash},
    {2, "Use", "Nutzung", NO_FACT, NULL},
    {0, "Meant for", "Gedacht für", FACT_intended_use, NULL},
    {0, "Not meant for", "Nicht gedacht für", FACT_restricted_use, NULL},
    {0, "Limits", "Grenzen", FACT_limitations, NULL},
    {0, "Risks", "Risiken", FACT_risks, NULL},
    {0, "How to load it", "Wie man es lädt", FACT_integration_means, piece_framework},
    {2, "Training data", "Trainingsdaten", NO_FACT, NULL},
    {0, "Size", "Umfang", NO_FACT, piece_data_points},
    {0, "Sources", "Quellen", NO_FACT, piece_sources},
    {0, "Licences", "Lizenzen", FACT_data_license, piece_licenses},
    {0, "Preparation", "Aufbereitung", NO_FACT, piece_curation},
    {0, "More", "Mehr", FACT_data_access, NULL},
    {2, "Training", "Training", NO_FACT, NULL},
    {0, "Procedure", "Verfahren", NO_FACT, piece_training},
    {0, "Time", "Dauer", NO_FACT, piece_time},
    {0, "Computation", "Berechnungen", NO_FACT, piece_flops},
    {0, "Cost", "Kosten", FACT_training_cost, NULL},
    {0, "Hardware", "Hardware", NO_FACT, piece_hardware},
    {0, "Software", "Software", NO_FACT, piece_software},
    {2, "Evaluation", "Auswertung", NO_FACT, NULL},
    {0, "Validation", "Validierung", NO_FACT, piece_validation},
    {0, "Tasks", "Aufgaben", NO_FACT, piece_tasks},
    {2, "Environmental impact", "Umweltwirkung", NO_FACT, NULL},
    {0, "Energy", "Energie", FACT_energy_kwh, piece_energy},
    {0, "How it is known", "Woher man das weiß", NO_FACT, piece_energy_method},
    {0, "CO2 equivalent", "CO2-Äquivalent", FACT_grid_intensity, piece_co2},
    {0, "Place", "Ort", FACT_location, NULL},
};
// clang-format on

typedef struct {
    const char *name; // of the file, without .en.md
    const DocRow *rows;
    size_t count;
} Paper;

#define PAPER(name, rows)                                                                                              \
    { name, rows, sizeof rows / sizeof *rows }
static const Paper papers[] = {PAPER("eu_training_summary", paper_summary), PAPER("model_documentation", paper_form),
                               PAPER("datasheet", paper_datasheet)};
enum { PAPER_COUNT = sizeof papers / sizeof *papers };

// A paper in one language. To be freed.
static inline Str paper_write(const Paper *p, const View *v, bool german) {
    Doc d;
    memset(&d, 0, sizeof d);
    d.german = german, d.v = v;
    doc_rows(&d, p->rows, p->count);
    str_printf(&d.s,
               said(&d,
                    "\nWritten by `report` from run.json of step %.0f; what is marked OPEN only a person can know: "
                    "`report --facts=FILE`.\n",
                    "\nGeschrieben von `report` aus run.json des Schritts %.0f; was mit OFFEN markiert ist, kann nur "
                    "ein Mensch wissen: `report --facts=DATEI`.\n"),
               v->step);
    return d.s;
}

#endif
