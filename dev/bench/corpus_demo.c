/*
corpus_demo.c: a synthetic corpus with known faults, and what `corpus` has made of it. corpus_demo.sh runs it.

    corpus_demo make GERMAN.txt FOREIGN_FOLDER FIRST COUNT LABELS
                            documents FIRST .. FIRST+COUNT-1, JSON lines on stdout
    corpus_demo size GERMAN.txt FOREIGN_FOLDER
                            bytes of a document, on average, and how many sentences there are
    corpus_demo judge LABELS STEPS < cleaned JSON lines
                            tables in Markdown; STEPS: how many documents the manifest has as
                            not_german, document_twice, near_duplicate, with commas

A German document is one to three paragraphs of sentences drawn from GERMAN.txt (documents with form feeds between
them): sentences of five words or more, without digits, quotes and @, so that no personal data and no number stand there
but what is planted. Document i is a function of i alone, so that any process can make any part, and a duplicate its
original again. Of 1,000 documents:

    50  exact    a German document from before, letter by letter
    25  near     the same with one word in 120 (at least one a paragraph) exchanged for another
    25  far      with one word in 60
    40  foreign  one or two pieces of about 1,000 bytes of FOREIGN_FOLDER/CLASS.txt, but for de.txt
    80  personal with one to three sentences that hold personal data, by check digits where there are any
    20  decoy    with one to three sentences that hold something alike: wrong check digits, versions, private addresses

LABELS has a line for each document: number, kind, number of the original or class of the language, and how often each
kind of personal data stands in it.
*/
#include "../../llmc/base/json.h"
#include "../../llmc/corpus/personal.h"

enum { DEMO_PLAIN, DEMO_EXACT, DEMO_NEAR, DEMO_FAR, DEMO_FOREIGN, DEMO_PERSONAL, DEMO_DECOY, DEMO_KINDS };
static const char *const kind_names[DEMO_KINDS] = {"plain", "exact", "near", "far", "foreign", "personal", "decoy"};

#define CLASSES 20
#define PIECE 4096

typedef struct {
    const char *text;
    uint32_t size;
} Span;

typedef struct {
    Span *items;
    size_t count, capacity;
} Spans;

typedef struct {
    Str text;        // GERMAN.txt
    Spans sentences; // of it
    Spans words;     // of them, for exchanges
    Str foreign;     // pieces, escaped for JSON
    Spans pieces[CLASSES];
    Path names[CLASSES];
    int classes;
} Pool;

typedef struct {
    uint64_t state;
} Random;

static uint64_t random_next(Random *r) { // SplitMix64 (Steele, Lea, Flood 2014)
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static uint32_t random_below(Random *r, uint64_t n) { return (uint32_t)((random_next(r) >> 32) * n >> 32); }
static Random random_of(uint64_t document, uint64_t purpose) {
    Random r = {document * 0xd1342543de82ef95u + purpose};
    random_next(&r);
    return r;
}

static void spans_add(Spans *s, const char *text, size_t size) {
    s->items = (Span *)mem_grow(s->items, &s->capacity, s->count + 1, sizeof(Span));
    s->items[s->count].text = text;
    s->items[s->count++].size = (uint32_t)size;
}

// ---------------------------------------------------------------- what documents are made of

// Adds the sentence [p, end) and its words, if it is one that can be used.
static void pool_sentence(Pool *pool, const char *p, const char *end) {
    int words = 1;
    while (p < end && *p == ' ') p++;
    if (end - p < 40 || end - p > 300 || *p < 'A' || *p > 'Z') return;
    for (const char *q = p; q < end; q++) {
        if ((unsigned char)*q < ' ' || strchr("\"\\@|<>{}=_*#/[]:;", *q) || (*q >= '0' && *q <= '9')) return;
        words += *q == ' ';
    }
    if (words < 5) return;
    spans_add(&pool->sentences, p, (size_t)(end - p));
    for (const char *q = p; q < end;) {
        size_t n = strcspn(q, " .");
        if (n >= 5 && q + n < end) spans_add(&pool->words, q, n);
        q += n + 1;
    }
}

static void pool_german(Pool *pool, const char *path) {
    Error err;
    if (!file_read(&pool->text, path, (size_t)1 << 32, &err)) fail("%s", err.text);
    const char *p = pool->text.data, *end = p + pool->text.size, *start = p;
    for (; p < end; p++) {
        if (*p == '\n' || *p == '\f') start = p + 1;
        if ((*p != '.' && *p != '!' && *p != '?') || p + 1 == end || (p[1] != ' ' && p[1] != '\n')) continue;
        pool_sentence(pool, start, p + 1);
        start = p + 1;
    }
    if (pool->sentences.count < 1000) fail("%s has only %zu sentences that can be used", path, pool->sentences.count);
}

static void pool_foreign(Pool *pool, const char *folder) {
    Error err;
    StrList names;
    memset(&names, 0, sizeof names);
    if (!folder_list(&names, folder, &err)) fail("%s", err.text);
    Str quoted[CLASSES];
    memset(quoted, 0, sizeof quoted);
    for (int i = 0; i < names.count && pool->classes < CLASSES; i++) {
        Str text;
        memset(&text, 0, sizeof text);
        if (!str_ends_with(names.items[i], ".txt") || strcmp(names.items[i], "de.txt") == 0) continue;
        if (!file_read(&text, path_of("%s/%s", folder, names.items[i]).text, (size_t)1 << 30, &err))
            fail("%s", err.text);
        pool->names[pool->classes] = path_of("%.*s", (int)strlen(names.items[i]) - 4, names.items[i]);
        Str *q = &quoted[pool->classes];
        for (const char *p = text.data, *end = p + text.size; p < end;) {
            const char *stop = (const char *)memchr(p, '\f', (size_t)(end - p));
            if (!stop) stop = end;
            const uint8_t *bytes = (const uint8_t *)p;
            if (stop - p > 400 && stop - p < PIECE && text_valid(bytes, bytes + (stop - p)) == (size_t)(stop - p)) {
                json_escape(q, p, (size_t)(stop - p));
                str_puts(q, "\n"); // ends a piece here
            }
            p = stop + 1;
        }
        free(text.data);
        for (char *p = q->data, *end = p + q->size; p < end;) { // its quotes are left out
            char *stop = (char *)memchr(p, '\n', (size_t)(end - p));
            spans_add(&pool->pieces[pool->classes], p + 1, (size_t)(stop - p) - 2);
            p = stop + 1;
        }
        pool->classes += pool->pieces[pool->classes].count > 0;
    }
    if (pool->classes == 0) fail("%s holds no files CLASS.txt with pieces of text between form feeds", folder);
    str_list_free(&names);
}

// ---------------------------------------------------------------- personal data

static void digits(char *out, int n, Random *r) {
    for (int i = 0; i < n; i++) out[i] = (char)('0' + random_below(r, 10));
    out[n] = 0;
}
static char letter(Random *r, const char *of) { return of[random_below(r, strlen(of))]; }

// A number of a kind that its check digits prove, or if `wrong` one of this form that they do not.
static void checked(char *p, int kind, bool wrong, Random *r) {
    for (;;) {
        bool good;
        switch (kind) {
        case PERSONAL_IBAN:
            strcpy(p, "DE");
            digits(p + 2, 20, r);
            for (int c = 0; c < 100 && !wrong && !check_iban(p, 22); c++)
                p[2] = (char)('0' + c / 10), p[3] = (char)('0' + c % 10);
            good = check_iban(p, 22);
            break;
        case PERSONAL_TAX_ID:
            digits(p, 11, r);
            good = check_tax_id(p);
            break;
        case PERSONAL_VAT_ID:
            strcpy(p, "DE");
            digits(p + 2, 9, r);
            p[2] = (char)('1' + random_below(r, 9));
            good = check_11_10(p + 2, 9);
            break;
        case PERSONAL_PENSION:
            sprintf(p, "%02u%02u%02u%02u%c%02u%u", 10 + random_below(r, 70), 1 + random_below(r, 28),
                    1 + random_below(r, 12), 40 + random_below(r, 59), letter(r, "ABCDEFGHIKLMNPRSTUVW"),
                    random_below(r, 100), random_below(r, 10));
            good = check_pension(p);
            break;
        case PERSONAL_HEALTH:
            *p = letter(r, "ABCDEFGHIKLMNPRSTUVWXYZ");
            digits(p + 1, 9, r);
            good = check_health(p);
            break;
        default: // PERSONAL_ID_CARD
            p[0] = letter(r, "CFGHJKLMNPRTVWXYZ");
            for (int i = 1; i < 9; i++) p[i] = letter(r, "CFGHJKLMNPRTVWXYZ0123456789");
            p[9] = (char)('0' + random_below(r, 10)), p[10] = 0;
            good = check_document(p, 10);
        }
        if (good != wrong) return;
    }
}

static const char *const sentences[PERSONAL_KIND_COUNT][3] =
    {{"Bei Fragen wenden Sie sich bitte an %s, wir antworten gern.", "Anmeldungen nimmt das Büro unter %s entgegen.",
      "Die Unterlagen gehen bis Freitag an %s, eine Kopie bleibt hier."},
     {"Telefonisch erreichen Sie uns unter %s am Vormittag.", "Telefon: %s, werktags bis zum Abend.",
      "Rufen Sie im Notfall bitte die Nummer %s an."},
     {"Bitte überweisen Sie den Betrag auf das Konto %s bis zum Ende des Monats.",
      "Unsere Bankverbindung lautet %s bei der Sparkasse.", "Spenden erbitten wir auf das Konto %s unseres Vereins."},
     {"Ihre Steuer-ID lautet %s und gilt ein Leben lang.", "Die Identifikationsnummer %s steht auf dem Bescheid.",
      "Auf der Bescheinigung war die Steueridentifikationsnummer %s vermerkt."},
     {"Unsere USt-IdNr. ist %s, das Finanzamt hat sie bestätigt.",
      "Die Rechnung trägt die Umsatzsteuer-Identifikationsnummer %s des Händlers.",
      "Als Nummer für die Umsatzsteuer wurde %s angegeben."},
     {"Die Sozialversicherungsnummer %s steht auf dem Ausweis.", "Ihre Rentenversicherungsnummer %s haben wir notiert.",
      "Bei der Rentenversicherung führt man sie unter %s seit vielen Jahren."},
     {"Die Versichertennummer %s steht auf der Karte.",
      "Ihre Krankenversichertennummer lautet %s und bleibt immer gleich.",
      "Auf der Gesundheitskarte stand %s unter dem Namen."},
     {"Der Personalausweis %s ist noch lange gültig.",
      "Die Nummer des Ausweises lautet %s nach den Angaben der Behörde.",
      "Er legte seinen Reisepass %s vor und durfte gehen."},
     {"Der Zugriff kam von der Adresse %s mitten in der Nacht.",
      "Der Rechner %s hat die Anfrage gestellt und keine Antwort bekommen.",
      "Im Protokoll steht die IP-Adresse %s mehrmals hintereinander."}};
static const char *const decoys[] = {"Die aktuelle Version lautet %u.%u.%u und behebt viele Fehler.",
                                     "Der Drucker ist im Haus unter 192.168.%u.%u zu erreichen, sonst nirgends.",
                                     "Die Bestellnummer 47%u-%u gehört zu einem anderen Auftrag.",
                                     "Ein Beispiel für eine Adresse ist max%u@example.org im Handbuch.",
                                     "Das Werk hat die ISBN 978-3-%u-%u-4 und ist vergriffen.",
                                     "Am %u. Mai fand die Sitzung Nr. %u mit allen Mitgliedern statt."};

static void value(char *p, int kind, Random *r) {
    static const char *const first[] = {"anna", "jens", "mehmet", "lisa", "karl", "ute", "paul", "ines"};
    static const char *const last[] = {"lindner", "petersen", "oezdemir", "kurz", "weber", "brandt", "zuber", "kern"};
    static const char *const at[] = {"stadtwerke-nordau.de", "hofladen-zuber.ch", "mail.kulturhof.org",
                                     "muehlbach-verein.de", "lager24.com"};
    char n[12];
    digits(n, 8, r);
    n[0] = (char)('1' + random_below(r, 9));
    if (kind == PERSONAL_EMAIL)
        sprintf(p, "%s.%s%u@%s", first[random_below(r, 8)], last[random_below(r, 8)], random_below(r, 1000),
                at[random_below(r, 5)]);
    else if (kind == PERSONAL_PHONE && random_below(r, 2))
        sprintf(p, "+49 1%u%u %s", 5 + random_below(r, 3), random_below(r, 10), n);
    else if (kind == PERSONAL_PHONE) sprintf(p, "0%u%u1/%.7s", 2 + random_below(r, 7), 1 + random_below(r, 9), n);
    else if (kind == PERSONAL_IP)
        sprintf(p, "%u.%u.%u.%u", 77 + random_below(r, 16), 1 + random_below(r, 250), random_below(r, 256),
                1 + random_below(r, 254));
    else checked(p, kind, false, r);
}

// ---------------------------------------------------------------- documents

static int document_kind(uint64_t i) {
    Random r = random_of(i, 1);
    uint32_t at = random_below(&r, 1000);
    static const int shares[DEMO_KINDS] = {0, 50, 25, 25, 40, 80, 20};
    for (int kind = DEMO_EXACT; i >= 1000 && kind < DEMO_KINDS; kind++) {
        if (at < (uint32_t)shares[kind]) return kind;
        at -= (uint32_t)shares[kind];
    }
    return DEMO_PLAIN;
}

// A plain document from before.
static uint64_t document_original(uint64_t i) {
    Random r = random_of(i, 2);
    for (;;) {
        uint64_t original = random_next(&r) % i;
        if (document_kind(original) == DEMO_PLAIN) return original;
    }
}

// The sentences of document i, as JSON; in one of `every` words another one stands. 0: in none.
static void document_plain(Str *out, const Pool *pool, uint64_t i, uint32_t every, Random *edits) {
    Random r = random_of(i, 3);
    int paragraphs = 1 + (int)random_below(&r, 3);
    for (int k = 0; k < paragraphs; k++) {
        uint32_t count = 5 + random_below(&r, 9), next = 15; // no paragraph stays as it was
        if (k) str_puts(out, "\\n\\n");
        for (uint32_t s = 0; s < count; s++) {
            const Span *sentence = &pool->sentences.items[random_below(&r, pool->sentences.count)];
            if (s) str_puts(out, " ");
            if (every == 0) {
                str_add(out, sentence->text, sentence->size);
                continue;
            }
            for (uint32_t at = 0; at < sentence->size;) {
                uint32_t n = (uint32_t)strcspn(sentence->text + at, " ");
                if (at + n >= sentence->size) n = sentence->size - at;
                bool exchanged = next == 0 && at + n < sentence->size;
                next = exchanged ? every : next - (next > 0);
                const Span *word = &pool->words.items[random_below(edits, pool->words.count)];
                str_add(out, exchanged ? word->text : sentence->text + at, exchanged ? word->size : n);
                if (at + n < sentence->size) str_puts(out, " ");
                at += n + 1;
            }
        }
    }
}

// Document i as a line of JSON; counts: of personal data.
static int document_make(Str *out, const Pool *pool, uint64_t i, Path *of, int counts[PERSONAL_KIND_COUNT]) {
    int kind = document_kind(i);
    Random r = random_of(i, 4);
    memset(counts, 0, PERSONAL_KIND_COUNT * sizeof *counts);
    *of = path_of("-");
    str_printf(out, "{\"id\": %llu, \"text\": \"", (unsigned long long)i);
    if (kind == DEMO_EXACT || kind == DEMO_NEAR || kind == DEMO_FAR) {
        uint64_t original = document_original(i);
        *of = path_of("%llu", (unsigned long long)original);
        document_plain(out, pool, original, kind == DEMO_EXACT ? 0 : kind == DEMO_NEAR ? 120 : 60, &r);
    } else if (kind == DEMO_FOREIGN) {
        int c = (int)random_below(&r, (uint64_t)pool->classes);
        *of = pool->names[c];
        for (uint32_t n = 1 + random_below(&r, 2); n > 0; n--) {
            const Span *piece = &pool->pieces[c].items[random_below(&r, pool->pieces[c].count)];
            str_add(out, piece->text, piece->size);
            str_puts(out, "\\n\\n");
        }
    } else {
        document_plain(out, pool, i, 0, NULL);
        for (uint32_t n = kind == DEMO_PLAIN ? 0 : 1 + random_below(&r, 3); n > 0; n--) {
            char number[80];
            int what = (int)random_below(&r, PERSONAL_KIND_COUNT);
            str_puts(out, " ");
            if (kind == DEMO_PERSONAL) {
                value(number, what, &r);
                str_puts(out, path_of(sentences[what][random_below(&r, 3)], number).text);
                counts[what]++;
            } else if (random_below(&r, 2) && what != PERSONAL_EMAIL && what != PERSONAL_PHONE && what != PERSONAL_IP &&
                       what != PERSONAL_ID_CARD) {
                checked(number, what, true, &r);
                str_printf(out, "Als Muster ohne Bedeutung dient %s in dieser Anleitung.", number);
            } else {
                str_puts(out, path_of(decoys[random_below(&r, sizeof decoys / sizeof *decoys)],
                                      2 + random_below(&r, 20), 2 + random_below(&r, 200), random_below(&r, 10))
                                  .text);
            }
        }
    }
    str_puts(out, "\"}\n");
    return kind;
}

static void make(const Pool *pool, uint64_t first, uint64_t count, const char *labels) {
    FILE *f = fopen(labels, "w");
    Str line;
    memset(&line, 0, sizeof line);
    if (!f) fail("%s cannot be written: %s", labels, strerror(errno));
    for (uint64_t i = first; i < first + count; i++) {
        int counts[PERSONAL_KIND_COUNT];
        Path of;
        line.size = 0;
        int kind = document_make(&line, pool, i, &of, counts);
        if (fwrite(line.data, 1, line.size, stdout) != line.size)
            fail("the documents cannot be written: %s", strerror(errno));
        fprintf(f, "%llu\t%s\t%s", (unsigned long long)i, kind_names[kind], of.text);
        for (int k = 0; k < PERSONAL_KIND_COUNT; k++) fprintf(f, "\t%d", counts[k]);
        fputc('\n', f);
    }
    if (fclose(f) != 0) fail("%s cannot be written: %s", labels, strerror(errno));
    free(line.data);
}

// ---------------------------------------------------------------- judging

typedef struct {
    uint8_t kind, class_of, kept, counts[PERSONAL_KIND_COUNT];
    uint32_t of;
} Label;

typedef struct {
    Label *items; // (count) by number
    size_t count, capacity;
    Path classes[CLASSES];
    int class_count;
} Labels;

static void labels_read(Labels *l, const char *path) {
    FILE *f = fopen(path, "r");
    char line[400];
    if (!f) fail("%s cannot be read: %s", path, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        char kind[20], of[40];
        unsigned long long i;
        int n[PERSONAL_KIND_COUNT];
        Label label;
        memset(&label, 0, sizeof label);
        if (sscanf(line, "%llu\t%19s\t%39s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", &i, kind, of, n, n + 1, n + 2, n + 3,
                   n + 4, n + 5, n + 6, n + 7, n + 8) != 12 ||
            i != l->count)
            fail("%s: line %zu: expected a label of the document %zu: %.40s", path, l->count + 1, l->count, line);
        while (label.kind < DEMO_KINDS && strcmp(kind, kind_names[label.kind]) != 0) label.kind++;
        if (label.kind == DEMO_FOREIGN) {
            while (label.class_of < l->class_count && strcmp(l->classes[label.class_of].text, of) != 0)
                label.class_of++;
            if (label.class_of == l->class_count && l->class_count < CLASSES)
                l->classes[l->class_count++] = path_of("%s", of);
        } else label.of = (uint32_t)strtoul(of, NULL, 10);
        for (int k = 0; k < PERSONAL_KIND_COUNT; k++) label.counts[k] = (uint8_t)n[k];
        l->items = (Label *)mem_grow(l->items, &l->capacity, l->count + 1, sizeof(Label));
        l->items[l->count++] = label;
    }
    if (ferror(f)) fail("%s cannot be read: %s", path, strerror(errno));
    fclose(f);
}

typedef struct {
    int64_t planted[PERSONAL_KIND_COUNT], masked[PERSONAL_KIND_COUNT], right[PERSONAL_KIND_COUNT];
} Masks;

// Marks what is there, and counts what is masked in it.
static void judge_lines(Labels *l, Masks *m) {
    char *line = NULL;
    size_t capacity = 0;
    Error err;
    for (ssize_t n; (n = getline(&line, &capacity, stdin)) > 0;) {
        JsonDoc doc;
        const Json *root = json_parse(&doc, line, (size_t)n, &err), *text = json_get(root, "text");
        int64_t i = json_integer(json_get(root, "id"), -1);
        if (!root || !json_is(text, JSON_STRING) || i < 0 || i >= (int64_t)l->count)
            fail("the cleaned text has a line that is no document of the labels: %.100s", line);
        Label *label = &l->items[i];
        if (label->kept) fail("document %lld stands in the cleaned text twice", (long long)i);
        label->kept = 1;
        for (int k = 0; k < PERSONAL_KIND_COUNT; k++) {
            int64_t found = 0;
            if (label->kind == DEMO_FOREIGN) continue; // nobody has counted what their pages hold
            for (const char *p = text->text, *mask = personal_placeholder(k); (p = strstr(p, mask)) != NULL;
                 p += strlen(mask))
                found++;
            m->planted[k] += label->counts[k];
            m->masked[k] += found;
            m->right[k] += int64_min(found, label->counts[k]);
        }
        json_free(&doc);
    }
    free(line);
}

static double share(int64_t a, int64_t b) { return b ? (double)a / (double)b : 0; }

static void judge(const char *path, const char *steps) {
    Labels l;
    Masks m;
    int64_t n[DEMO_KINDS] = {0}, kept[DEMO_KINDS] = {0}, classes[CLASSES] = {0}, left[CLASSES] = {0}, dropped[3];
    int64_t copies[DEMO_KINDS] = {0}, caught[DEMO_KINDS] = {0};
    memset(&l, 0, sizeof l), memset(&m, 0, sizeof m);
    if (sscanf(steps, "%lld,%lld,%lld", (long long *)&dropped[0], (long long *)&dropped[1], (long long *)&dropped[2]) !=
        3)
        fail("%s: expected how many documents language, documents and near dropped", steps);
    labels_read(&l, path);
    judge_lines(&l, &m);
    for (size_t i = 0; i < l.count; i++) {
        const Label *label = &l.items[i];
        n[label->kind]++, kept[label->kind] += label->kept;
        if (label->kind == DEMO_FOREIGN) classes[label->class_of]++, left[label->class_of] += label->kept;
        bool copy = label->kind == DEMO_EXACT || label->kind == DEMO_NEAR || label->kind == DEMO_FAR;
        if (copy && l.items[label->of].kept) copies[label->kind]++, caught[label->kind] += !label->kept;
    }
    printf("| documents | planted | kept | dropped | share dropped |\n|---|---|---|---|---|\n");
    for (int k = 0; k < DEMO_KINDS; k++)
        printf("| %s | %lld | %lld | %lld | %.5f |\n", kind_names[k], (long long)n[k], (long long)kept[k],
               (long long)(n[k] - kept[k]), share(n[k] - kept[k], n[k]));
    const int64_t foreign = n[DEMO_FOREIGN] - kept[DEMO_FOREIGN], near = caught[DEMO_NEAR] + caught[DEMO_FAR];
    printf("\n| step | planted | of these dropped | recall | dropped by the step | precision at least "
           "|\n|---|---|---|---|---|---|\n");
    printf("| language | %lld | %lld | %.5f | %lld | %.5f |\n", (long long)n[DEMO_FOREIGN], (long long)foreign,
           share(foreign, n[DEMO_FOREIGN]), (long long)dropped[0], share(int64_min(foreign, dropped[0]), dropped[0]));
    printf("| documents | %lld | %lld | %.5f | %lld | %.5f |\n", (long long)copies[DEMO_EXACT],
           (long long)caught[DEMO_EXACT], share(caught[DEMO_EXACT], copies[DEMO_EXACT]), (long long)dropped[1],
           share(int64_min(caught[DEMO_EXACT], dropped[1]), dropped[1]));
    printf("| near, one word in 120 exchanged | %lld | %lld | %.5f | | |\n", (long long)copies[DEMO_NEAR],
           (long long)caught[DEMO_NEAR], share(caught[DEMO_NEAR], copies[DEMO_NEAR]));
    printf("| near, one word in 60 exchanged | %lld | %lld | %.5f | | |\n", (long long)copies[DEMO_FAR],
           (long long)caught[DEMO_FAR], share(caught[DEMO_FAR], copies[DEMO_FAR]));
    printf("| near | %lld | %lld | %.5f | %lld | %.5f |\n", (long long)(copies[DEMO_NEAR] + copies[DEMO_FAR]),
           (long long)near, share(near, copies[DEMO_NEAR] + copies[DEMO_FAR]), (long long)dropped[2],
           share(int64_min(near, dropped[2]), dropped[2]));
    printf("\n| language | planted | kept | recall |\n|---|---|---|---|\n");
    for (int c = 0; c < l.class_count; c++)
        printf("| %s | %lld | %lld | %.5f |\n", l.classes[c].text, (long long)classes[c], (long long)left[c],
               1 - share(left[c], classes[c]));
    printf("\n| personal data | in documents that were kept | masked | precision | recall |\n|---|---|---|---|---|\n");
    for (int k = 0; k < PERSONAL_KIND_COUNT; k++)
        printf("| %s | %lld | %lld | %.5f | %.5f |\n", personal_name(k), (long long)m.planted[k],
               (long long)m.masked[k], share(m.right[k], m.masked[k]), share(m.right[k], m.planted[k]));
    free(l.items);
}

int main(int argc, char **argv) {
    Pool pool;
    memset(&pool, 0, sizeof pool);
    if (argc == 4 && strcmp(argv[1], "judge") == 0) {
        judge(argv[2], argv[3]);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    bool size = argc == 4 && strcmp(argv[1], "size") == 0;
    if (!size && (argc != 7 || strcmp(argv[1], "make") != 0)) fail("corpus_demo.sh runs this: make, size or judge");
    pool_german(&pool, argv[2]);
    pool_foreign(&pool, argv[3]);
    if (size) {
        enum { SAMPLE = 4000 };
        Str text;
        Path of;
        int counts[PERSONAL_KIND_COUNT];
        memset(&text, 0, sizeof text);
        for (uint64_t i = 0; i < SAMPLE; i++) document_make(&text, &pool, 1000000 + i, &of, counts);
        printf("%zu %zu\n", text.size / SAMPLE, pool.sentences.count);
        free(text.data);
    } else make(&pool, strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10), argv[6]);
    return fflush(stdout) == 0 ? 0 : 1;
}
