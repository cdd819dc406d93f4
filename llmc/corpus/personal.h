/*
personal.h: personal data in a text, and its replacement by typed placeholders.

    personal_mask(&out, text, n, kinds, masked)     the text with <EMAIL>, <TELEFON>, ... in their places
    personal_next(&scan, &out, &span)               one of them after the other
    PERSONAL_KINDS                                  names and placeholders; kinds are bits

    email      name@domain, and name (at) domain (dot) de. Kept: names reserved for examples, git@, scale@2x.png
    phone      +49 30 ..., 0049 ..., (030) ..., 0171...: by country code, length and grouping; a run of digits without
               any of these only behind a word such as Telefon. Behind Bestellnummer and the like it is none
    iban       length by country, mod 97
    tax_id     Steuer-ID: 11 digits, its rule of repeated digits, check digit
    vat_id     DE and 9 digits with their check digit, also as Wirtschafts-ID
    pension    Sozialversicherungsnummer, check digit
    health     Krankenversichertennummer, check digit
    id_card    Personalausweis, Reisepass: 10 characters with check digit, or 9 without, behind a word that names them
    ip         IPv4 and IPv6 that are routed in public. Kept: private, local, shared, documentation, multicast, reserved
               ranges, versions and numbers of sections

Names, addresses, dates of birth and number plates are not looked for: they need more than a pattern. What is no UTF-8
ends a word and is else left alone. Linear: what is looked at around a digit or a sign is bounded.
*/
#ifndef LLMC_PERSONAL_H
#define LLMC_PERSONAL_H

#include "../text/text.h"
#include "check_digits.h"

#define PERSONAL_KINDS(X)                                                                                              \
    X(PERSONAL_EMAIL, "email", "<EMAIL>")                                                                              \
    X(PERSONAL_PHONE, "phone", "<TELEFON>")                                                                            \
    X(PERSONAL_IBAN, "iban", "<IBAN>")                                                                                 \
    X(PERSONAL_TAX_ID, "tax_id", "<STEUER_ID>")                                                                        \
    X(PERSONAL_VAT_ID, "vat_id", "<UST_ID>")                                                                           \
    X(PERSONAL_PENSION, "pension", "<SV_NUMMER>")                                                                      \
    X(PERSONAL_HEALTH, "health", "<KV_NUMMER>")                                                                        \
    X(PERSONAL_ID_CARD, "id_card", "<AUSWEIS>")                                                                        \
    X(PERSONAL_IP, "ip", "<IP>")
#define X(id, name, mask) id,
enum { PERSONAL_KINDS(X) PERSONAL_KIND_COUNT };
#undef X
#define PERSONAL_ALL ((1u << PERSONAL_KIND_COUNT) - 1)
#define PERSONAL_LIST "email, phone, iban, tax_id, vat_id, pension, health, id_card, ip"

static inline const char *personal_name(int kind) {
    static const char *const names[] = {
#define X(id, name, mask) name,
        PERSONAL_KINDS(X)
#undef X
    };
    return names[kind];
}

static inline const char *personal_placeholder(int kind) {
    static const char *const masks[] = {
#define X(id, name, mask) mask,
        PERSONAL_KINDS(X)
#undef X
    };
    return masks[kind];
}

typedef struct {
    size_t start, end; // bytes
    int kind;
} PersonalSpan;

// {text, text, text + n, kinds}
typedef struct {
    const uint8_t *start; // of the whole text
    const uint8_t *text;  // of what is not yet in the output
    const uint8_t *end;
    unsigned kinds;
} PersonalScan;

// A digit that no digit stands before. Nothing looks further back than to `text`, where a placeholder ends, but for the
// window, which looks into the output: so a second run sees what the first one saw.
typedef struct {
    const uint8_t *text, *end, *at;
    const uint8_t *token; // start of the letters and digits of ASCII around it, at most 9 letters back
    const Str *before;    // the output up to `text`
    unsigned kinds;
} PersonalPlace;

// ---------------------------------------------------------------- characters

static inline bool personal_letter(int c) { return (c >= 'a' && c <= 'z') || check_is_capital(c); }
static inline bool personal_alnum(int c) { return personal_letter(c) || check_is_digit(c); }

static inline bool personal_of(uint32_t c, unsigned set) {
    return (1u << (unicode_class(c) & UNICODE_CLASS_MASK) & set) != 0;
}

#define PERSONAL_INSIDE (TEXT_LETTER | TEXT_NUMBER | 1u << UNICODE_M) // of a word

// Whether a letter, digit or mark ends at p, or begins there.
static inline bool personal_word_before(const uint8_t *text, const uint8_t *p) {
    uint32_t c = 0;
    if (p == text) return false;
    if (p[-1] < 0x80) return personal_alnum(p[-1]) || p[-1] == '_';
    for (int back = 2; back <= 4 && p - text >= back; back++)
        if (utf8_decode(p - back, p, &c) == back) return personal_of(c, PERSONAL_INSIDE);
    return false;
}

static inline bool personal_word_at(const uint8_t *p, const uint8_t *end) {
    uint32_t c = 0;
    if (p == end) return false;
    if (*p < 0x80) return personal_alnum(*p) || *p == '_';
    return utf8_decode(p, end, &c) && personal_of(c, PERSONAL_INSIDE);
}

// A number that goes on: ".5", ",50", "-3" behind p. A sentence's or a list's sign before a blank does not.
static inline bool personal_goes_on(const uint8_t *p, const uint8_t *end) {
    return personal_word_at(p, end) || (end - p >= 2 && strchr(".,-/:", *p) && *p && check_is_digit(p[1]));
}

// Whether a sign that joins numbers and a digit stand before p.
static inline bool personal_went_before(const uint8_t *text, const uint8_t *p) {
    return p - text >= 2 && p[-1] && strchr(".,-/:", p[-1]) && check_is_digit(p[-2]);
}

// ---------------------------------------------------------------- words that say what a number is

#define PERSONAL_WINDOW 48 // bytes before a number in which they are looked for

// Words as the window has them: small letters, each other sign of ASCII a blank. A blank in front: a word begins.
// clang-format off
#define PERSONAL_PHONE_WORDS(X) \
    X(" tel ") X("telefon") X(" fon ") X(" fax") X("telefax") X(" mobil") X(" handy") X("handynummer") X(" ruf") \
    X("anruf") X("durchwahl") X("hotline") X(" phone") X("whatsapp") X(" sms") X("erreich") X("zentrale") \
    X(" signal") X("anzurufen") X("festnetz") X("notdienst") X("☎") X("📞")
#define PERSONAL_OTHER_WORDS(X) \
    X("bestelln") X("bestell n") X("artikeln") X("artikel n") X("auftrag") X("kundenn") X("kunden n") X(" rechnung") \
    X("isbn") X("issn") X(" pzn") X(" ean") X("gtin") X("aktenzeichen") X(" az ") X("geschäftszeichen") X("konto") \
    X(" blz") X("bankleitzahl") X("serienn") X("serien n") X("seriennummer") X("teilen") X("teile n") X("kennziffer") \
    X("kennung") X(" din ") X("matrikel") X("vorgang") X("ticket") X("sendung") X("paket") X("tracking") X("charge") \
    X("lizenz") X("version") X(" plz") X("postleitzahl") X("mitglied") X("vertrag") X("inventar") X("drucksache") \
    X("katalog") X("signatur") X("modell") X("fahrgestell") X("zähler") X("register") X(" hrb") X(" hra") X("beleg") \
    X("transaktion") X("steuernummer") X(" doi") X("patent") X(" bug") X(" cve") X("los ") X("losn") X("referenz") \
    X("typ ") X("baureihe") X("§") X("commit") X(" id ") X("offset") X("koordinaten")
#define PERSONAL_CARD_WORDS(X) \
    X("ausweis") X(" pass") X("reisepass") X("passn") X(" perso") X("identitätskarte") X("id karte") X(" idd") \
    X("dokumentenn") X("passport")
#define PERSONAL_VERSION_WORDS(X) \
    X("version") X(" release") X(" kernel") X("firmware") X("build") X("update") X(" v ") X("abschnitt") X("kapitel") \
    X(" punkt") X("ziffer") X(" nr ") X("§") X(" abs ") X("ausgabe") X("treiber") X("paket") X(" oid") X("anlage") \
    X("gliederung") X("tabelle") X("abbildung") X("fassung") X("norm") X("revision") X("patch")
#define PERSONAL_IP_WORDS(X) \
    X(" ip") X("adress") X("server") X(" host") X(" ping") X("router") X("gateway") X(" dns") X("nameserver") \
    X("rechner") X("client") X("proxy") X("subnetz") X("netz") X(" whois") X("traceroute") X("knoten") X("angreifer")
#define PERSONAL_HEALTH_WORDS(X) \
    X("kranken") X("versicherten") X("versicherungsn") X("kvnr") X(" kv nr") X("gesundheitskarte") X(" egk")
// clang-format on

typedef enum {
    PERSONAL_SAYS_PHONE,
    PERSONAL_SAYS_OTHER,
    PERSONAL_SAYS_CARD,
    PERSONAL_SAYS_VERSION,
    PERSONAL_SAYS_IP,
    PERSONAL_SAYS_HEALTH
} PersonalTopic;

typedef struct {
    char text[PERSONAL_WINDOW + 3];
    int n;
    uint64_t pairs; // of two signs that stand in it, hashed to bits
} PersonalWindow;

static inline uint64_t personal_pair(const char *p) { return 1ull << ((p[0] * 7 + p[1] * 3) & 63); }

static inline void personal_window_add(PersonalWindow *w, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint8_t c = check_is_capital(p[i]) ? (uint8_t)(p[i] + 32) : p[i];
        w->text[w->n++] = (char)(c >= 0x80 || personal_letter(c) ? c : ' ');
    }
}

// Placeholders in it name nothing.
static inline void personal_window_forget(PersonalWindow *w, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (int kind = 0; text[i] == '>' && kind < PERSONAL_KIND_COUNT; kind++) {
            const char *mask = personal_placeholder(kind);
            size_t k = strlen(mask), have = i + 1 < k ? i + 1 : k;
            if (memcmp(text + i + 1 - have, mask + k - have, have) == 0) memset(w->text + 1 + i + 1 - have, ' ', have);
        }
}

static inline void personal_window(PersonalWindow *w, const PersonalPlace *place, const uint8_t *p) {
    size_t here = (size_t)(p - place->text), n = here < PERSONAL_WINDOW ? here : PERSONAL_WINDOW;
    size_t room = PERSONAL_WINDOW - n, old = place->before->size < room ? place->before->size : room;
    char *tail = place->before->data + place->before->size - old;
    w->text[0] = ' ', w->n = 1;
    if (old) {
        personal_window_add(w, (const uint8_t *)tail, old);
        personal_window_forget(w, tail, old);
    }
    personal_window_add(w, p - n, n);
    if (w->text[w->n - 1] != ' ') w->text[w->n++] = ' ';
    w->pairs = 0;
    for (int i = 0; i + 1 < w->n; i++) w->pairs |= personal_pair(w->text + i);
}

// Where the last word of a topic ends, -1: none is there.
static inline int personal_last(const PersonalWindow *w, PersonalTopic topic) {
    static const char *const words[] = {
#define X(word) word,
        PERSONAL_PHONE_WORDS(X) NULL,
        PERSONAL_OTHER_WORDS(X) NULL,
        PERSONAL_CARD_WORDS(X) NULL,
        PERSONAL_VERSION_WORDS(X) NULL,
        PERSONAL_IP_WORDS(X) NULL,
        PERSONAL_HEALTH_WORDS(X) NULL
#undef X
    };
    const char *const *word = words;
    int last = -1;
    for (int skip = topic; skip > 0; word++) skip -= *word == NULL;
    for (; *word; word++) {
        if (!(w->pairs & personal_pair(*word))) continue;
        int k = (int)strlen(*word), i = w->n - k;
        while (i >= 0 && i + k > last && memcmp(w->text + i, *word, (size_t)k) != 0) i--;
        if (i >= 0 && i + k > last) last = i + k;
    }
    return last;
}

// What stands behind makes an amount of it.
static inline bool personal_unit(const uint8_t *p, const uint8_t *end) {
    static const char *const units[] = {"\xe2\x82\xac", "%",  "$",  "euro", "eur",   "uhr", "km",
                                        "kg",           "mm", "cm", "ml",   "bytes", "kb",  "mb"};
    if (p < end && *p == ' ') p++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t k = strlen(units[i]), same = 0;
        while (same < k && p + same < end &&
               (p[same] | (check_is_capital(p[same]) ? 32 : 0)) == (uint8_t)units[i][same])
            same++;
        if (same == k && !personal_word_at(p + k, end)) return true;
    }
    return false;
}

// ---------------------------------------------------------------- e-mail

static inline bool personal_local(int c) { return personal_alnum(c) || (c && strchr("._%+-", c)); }

// The start of a name that ends at p: letters, digits, and . _ % + - inside. p: none, or more than 64 bytes.
static inline const uint8_t *personal_mail_name(const uint8_t *text, const uint8_t *p) {
    const uint8_t *start = p, *last = p;
    while (start > text && p - start <= 64) {
        if (start[-1] < 0x80) {
            if (!personal_local(start[-1])) break;
            start--;
        } else {
            int back = 2;
            uint32_t c = 0;
            while (back <= 4 && start - text >= back && utf8_decode(start - back, start, &c) != back) back++;
            if (back > 4 || start - text < back || !personal_of(c, TEXT_LETTER)) break;
            start -= back;
        }
        if (*start >= 0x80 || personal_alnum(*start) || *start == '_') last = start;
    }
    return p - start > 64 ? p : last;
}

// "(at)", "[dot]", "{punkt}" at p, blanks around it: bytes, 0: none of these.
static inline size_t personal_spelled(const uint8_t *p, const uint8_t *end, bool dot) {
    static const char *const words[] = {"at", "\xc3\xa4t", "\xc3\x84t", "dot", "punkt"};
    const uint8_t *q = p;
    while (q < end && *q == ' ' && q - p < 2) q++;
    if (q == end || (*q != '(' && *q != '[' && *q != '{')) return 0;
    q++;
    for (int i = dot ? 3 : 0; i < (dot ? 5 : 3); i++) {
        size_t k = strlen(words[i]), same = 0;
        while (same < k && q + same < end &&
               (q[same] | (check_is_capital(q[same]) ? 32 : 0)) == (uint8_t)words[i][same])
            same++;
        if (same < k || q + k == end || (q[k] != ')' && q[k] != ']' && q[k] != '}')) continue;
        q += k + 1;
        for (int blanks = 0; q < end && *q == ' ' && blanks < 2; blanks++) q++;
        return (size_t)(q - p);
    }
    return 0;
}

static inline bool personal_ends(const char *text, size_t n, const char *end) {
    size_t k = strlen(end);
    return n >= k && memcmp(text + n - k, end, k) == 0 && (n == k || end[0] == '.' || text[n - k - 1] == '.');
}

// Names that no one can have (RFC 2606), and ends of file names.
static inline bool personal_no_domain(const char *domain, size_t n) {
    static const char *const rows[] = {"example.com", "example.org", "example.net", "example.edu", ".example",
                                       ".invalid",    ".test",       ".localhost",  ".png",        ".jpg",
                                       ".jpeg",       ".gif",        ".svg",        ".webp",       ".pdf",
                                       ".css",        ".html",       ".js",         ".service",    ".target",
                                       ".timer",      ".socket",     ".mount",      ".json",       ".conf"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (personal_ends(domain, n, rows[i])) return true;
    return false;
}

// The end of the domain at p; NULL: none. Its last label is of letters, or of xn--.
static inline const uint8_t *personal_domain(const uint8_t *p, const uint8_t *end, bool spelled) {
    char domain[256];
    size_t n = 0, label = 0;
    const uint8_t *best = NULL;
    bool letters = true;
    for (int dots = 0; n < sizeof domain - 5;) {
        int length = 1;
        uint32_t c = p < end ? *p : 0;
        if (p < end && *p >= 0x80) length = utf8_decode(p, end, &c);
        bool letter = p < end && length && (c < 0x80 ? personal_letter((int)c) : personal_of(c, TEXT_LETTER));
        if (letter || (p < end && (check_is_digit((int)c) || (c == '-' && n > label)))) {
            letters &= letter;
            for (int i = 0; i < length; i++) domain[n++] = (char)(check_is_capital(p[i]) ? p[i] + 32 : p[i]);
            p += length;
            continue;
        }
        // A label ends here.
        bool top = n - label >= 2 && (letters || (n - label > 4 && memcmp(domain + label, "xn--", 4) == 0));
        if (n == label || domain[n - 1] == '-') break;
        if (dots && top) best = personal_no_domain(domain, n) ? NULL : p;
        size_t dot = p < end && *p == '.' ? 1 : spelled ? personal_spelled(p, end, true) : 0;
        if (!dot) break;
        p += dot, dots++;
        domain[n++] = '.';
        label = n, letters = true;
    }
    return best;
}

static inline bool personal_mail(const uint8_t *text, const uint8_t *end, const uint8_t *at, PersonalSpan *span) {
    const uint8_t *name_end = at, *domain = at + 1;
    if (*at != '@') {
        size_t n = personal_spelled(at, end, false);
        if (!n) return false;
        domain = at + n;
        for (int blanks = 0; name_end > text && name_end[-1] == ' ' && blanks < 2; blanks++) name_end--;
    }
    const uint8_t *name = personal_mail_name(text, name_end);
    if (name == name_end || (name_end - name == 3 && memcmp(name, "git", 3) == 0)) return false;
    const uint8_t *stop = personal_domain(domain, end, *at != '@');
    if (!stop || personal_word_at(stop, end)) return false;
    span->start = (size_t)(name - text), span->end = (size_t)(stop - text), span->kind = PERSONAL_EMAIL;
    return true;
}

// ---------------------------------------------------------------- telephone

#define PERSONAL_DIGITS 20
#define PERSONAL_GROUPS 8

typedef struct {
    char digits[PERSONAL_DIGITS + 1]; // (count)
    int count, groups, first;         // first: digits before the first separator
    int dots, slashes;
    bool fours; // all groups have four digits
    const uint8_t *start, *end;
} PersonalNumber;

// Separators at p that a digit follows: one sign, with blanks or not, "(0)", ") ". 0: the number ends.
static inline int personal_separators(const uint8_t *p, const uint8_t *end, int *depth) {
    int n = 0, signs = 0, blanks = 0, was = *depth;
    for (; n < 5 && p + n < end && !check_is_digit(p[n]); n++) {
        const uint8_t *q = p + n;
        if (*q == ' ') blanks++;
        else if (*q == '(' && *depth == 0) ++*depth;
        else if (*q == ')' && *depth == 1) --*depth;
        else if (*q == '-' || *q == '/' || *q == '.') signs++;
        else if (end - q >= 3 && q[0] == 0xe2 && q[1] == 0x80 && (q[2] == 0x93 || q[2] == 0x91)) n += 2, signs++;
        else break;
    }
    if (n > 0 && p + n < end && check_is_digit(p[n]) && signs <= 1 && blanks <= 2 &&
        !(blanks == 2 && !signs && was == *depth))
        return n;
    *depth = was;
    return 0;
}

// The digits from p on, with what separates them. False: more than a telephone number has.
static inline bool personal_number(PersonalNumber *number, const uint8_t *p, const uint8_t *end, int depth) {
    PersonalNumber before; // the parenthesis that is open
    int size = 0, opened = depth;
    memset(number, 0, sizeof *number);
    number->fours = true;
    number->start = p;
    before = *number;
    for (;;) {
        while (p < end && check_is_digit(*p) && number->count < PERSONAL_DIGITS)
            number->digits[number->count++] = (char)*p++, size++;
        number->end = p;
        if ((p < end && check_is_digit(*p)) || number->groups == PERSONAL_GROUPS) return false;
        if (number->groups++ == 0) number->first = size;
        number->fours &= size == 4;
        int was = depth, n = personal_separators(p, end, &depth);
        if (n == 0) {
            if (depth && !opened && p < end && *p == ')') return number->end = p + 1, true;
            if (depth && !opened) *number = before;
            return !(depth && opened);
        }
        // Another number begins.
        if (number->count >= 8 && p[0] == ' ' && p + n + 1 < end && p[n] == '0' && n <= 3 && check_is_digit(p[n + 1]))
            return true;
        if (depth > was) before = *number;
        if (depth < was) opened = 0;
        for (int i = 0; i < n; i++) number->dots += p[i] == '.', number->slashes += p[i] == '/';
        p += n;
        size = 0;
    }
}

// Digits of the country code at the start, 0: there is none such.
static inline int personal_country(const char *d, int n) {
    static const char *const codes[] =
        {"20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 "
         "61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98 ",
         "21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 85 87 88 96 97 99 "};
    if (n < 7) return 0;
    if (d[0] == '1' || d[0] == '7') return 1;
    for (int i = 0; i < 2; i++) // two digits, or the first two of three
        for (const char *row = codes[i]; *row; row += 3)
            if (row[0] == d[0] && row[1] == d[1]) return 2 + i;
    return 0;
}

// digits: from the country code on.
static inline bool personal_international(const char *digits, int n) {
    int country = personal_country(digits, n);
    if (!country) return false;
    if (digits[0] == '1') return n == 11 && digits[1] >= '2';
    bool german = memcmp(digits, "49", 2) == 0 || memcmp(digits, "43", 2) == 0;
    return n >= (german ? 8 : 9) && n <= (german ? 15 : 14);
}

// A number with 0 and an area code, or that of a mobile telephone.
static inline bool personal_national(const PersonalNumber *x) {
    const char *d = x->digits;
    if (d[0] != '0' || d[1] == '0' || x->count < 7 || x->count > 14) return false;
    if (d[1] != '1') return true;
    return d[2] == '5' || d[2] == '6' || d[2] == '7' || (d[2] == '8' && d[3] == '0') ||
           (d[2] == '3' && (d[3] == '7' || d[3] == '8'));
}

// What a number looks like: like none, like one if a word says so, like one, or like a town's number, without its 0.
typedef enum { PERSONAL_LOOKS_NONE, PERSONAL_LOOKS_SAID, PERSONAL_LOOKS_REAL, PERSONAL_LOOKS_LOCAL } PersonalLook;

static inline PersonalLook personal_looks(const PersonalNumber *x, bool plus, bool alone) {
    const char *d = x->digits;
    if (plus) return alone && personal_international(d, x->count) ? PERSONAL_LOOKS_REAL : PERSONAL_LOOKS_NONE;
    if (d[0] == '0' && d[1] == '0') {
        if (x->first < 2 || !personal_international(d + 2, x->count - 2)) return PERSONAL_LOOKS_NONE;
        bool near = d[2] == '4' && (d[3] == '9' || d[3] == '3' || d[3] == '1');
        return alone && x->count >= 11 && (near || x->groups > 1) ? PERSONAL_LOOKS_REAL : PERSONAL_LOOKS_SAID;
    }
    if (d[0] != '0') {
        bool ok = x->count >= 5 && x->count <= 12 && x->groups <= 4 && !x->dots && !x->slashes;
        return ok ? PERSONAL_LOOKS_LOCAL : PERSONAL_LOOKS_NONE;
    }
    if (!personal_national(x)) return PERSONAL_LOOKS_NONE;
    bool mobile = d[1] == '1' && d[2] >= '5' && d[2] <= '7' && x->count >= 11 && x->count <= 12;
    bool grouped = x->groups > 1 && x->groups <= 6 && x->first >= 3 && x->first <= 6 && x->count - x->first >= 4;
    grouped = grouped && d[x->first] != '0' && !x->dots && (!x->fours || x->groups == 2);
    return alone && (mobile || grouped) ? PERSONAL_LOOKS_REAL : PERSONAL_LOOKS_SAID;
}

static inline bool personal_phone(const PersonalPlace *place, PersonalSpan *span) {
    const uint8_t *start = place->at, *text = place->text;
    PersonalNumber x;
    PersonalWindow w;
    bool plus = start > text && start[-1] == '+';
    if (plus) start--;
    bool open = start > text && start[-1] == '(' && (plus || *place->at == '0');
    bool read = personal_number(&x, place->at, place->end, open);
    if (open && !read) read = personal_number(&x, place->at, place->end, 0), open = false; // (..., 030 123)
    if (!read || x.count < 5) return false;
    if (open && memchr(place->at, ')', (size_t)(x.end - place->at))) start--;
    bool follows = start - text >= 2 && start[-1] == ' ' && check_is_digit(start[-2]);
    PersonalLook look = personal_looks(&x, plus, !follows);
    if (look == PERSONAL_LOOKS_NONE || personal_word_before(text, start)) return false;
    if (personal_goes_on(x.end, place->end) || personal_unit(x.end, place->end)) return false;
    span->start = (size_t)(start - text), span->end = (size_t)(x.end - text), span->kind = PERSONAL_PHONE;
    if (plus) return true;
    personal_window(&w, place, start);
    int says = personal_last(&w, PERSONAL_SAYS_PHONE);
    if (look == PERSONAL_LOOKS_LOCAL && says < w.n - 12) return false; // directly behind the word
    if (look != PERSONAL_LOOKS_REAL && says < 0) return false;
    int other = personal_last(&w, PERSONAL_SAYS_OTHER);
    return says > other || (look == PERSONAL_LOOKS_REAL && other < 0);
}

// ---------------------------------------------------------------- numbers with check digits

// Letters and digits from p on, single blanks between them left out, until there are n. Their end; NULL: fewer.
static inline const uint8_t *personal_take(char *out, int n, const uint8_t *p, const uint8_t *end) {
    for (int i = 0; i < n; p++) {
        if (p == end) return NULL;
        if (*p == ' ' && i > 0 && p[-1] != ' ') continue;
        if (!personal_alnum(*p)) return NULL;
        out[i++] = (char)(*p >= 'a' ? *p - 32 : *p);
    }
    return p;
}

static inline bool personal_all_digits(const char *p, int n) {
    int i = 0;
    while (i < n && check_is_digit(p[i])) i++;
    return i == n;
}

static inline bool personal_found(PersonalSpan *span, const PersonalPlace *place, const uint8_t *end, int kind) {
    span->start = (size_t)(place->token - place->text), span->end = (size_t)(end - place->text), span->kind = kind;
    return (place->kinds & 1u << kind) != 0;
}

// DE12 3456 ..., DE123456789.
static inline bool personal_two_letters(const PersonalPlace *place, PersonalSpan *span) {
    char chars[CHECK_IBAN_MOST];
    const uint8_t *p = place->token, *end;
    const char country[3] = {(char)(*p & ~32), (char)(p[1] & ~32), 0};
    int n = check_iban_length(country);
    if (n && (end = personal_take(chars, n, p, place->end)) && !personal_word_at(end, place->end) &&
        check_iban(chars, n))
        return personal_found(span, place, end, PERSONAL_IBAN);
    if (memcmp(p, "DE", 2) != 0) return false;
    end = personal_take(chars, 11, p, place->end);
    if (!end || !personal_all_digits(chars + 2, 9) || chars[2] == '0' || !check_11_10(chars + 2, 9)) return false;
    if (place->end - end >= 6 && *end == '-' && personal_all_digits((const char *)end + 1, 5)) end += 6;
    return !personal_goes_on(end, place->end) && personal_found(span, place, end, PERSONAL_VAT_ID);
}

static inline bool personal_card(const PersonalPlace *place, PersonalSpan *span) {
    char chars[10];
    const uint8_t *p = place->token, *end = p;
    PersonalWindow w;
    while (end < place->end && personal_alnum(*end) && end - p < 11) end++;
    int n = (int)(end - p);
    if (n == 11 && end[-1] == 'D' && personal_all_digits((const char *)p, 10)) n = 10; // an old one, of a German
    if ((n != 9 && n != 10) || personal_word_at(end, place->end)) return false;
    for (int i = 0; i < n; i++) {
        chars[i] = (char)p[i];
        if (!check_is_digit(p[i]) && !(check_is_capital(p[i]) && strchr("CFGHJKLMNPRTVWXYZ", p[i]))) return false;
    }
    if (n == 9 && check_is_digit(*p)) return false;
    if (n == 10 && (!check_is_digit(chars[9]) || !check_document(chars, 10))) return false;
    personal_window(&w, place, p);
    int says = personal_last(&w, PERSONAL_SAYS_CARD);
    return says >= 0 && says > personal_last(&w, PERSONAL_SAYS_OTHER) &&
           personal_found(span, place, end, PERSONAL_ID_CARD);
}

static inline bool personal_one_letter(const PersonalPlace *place, PersonalSpan *span) {
    char chars[10];
    PersonalWindow w;
    const uint8_t *end = personal_take(chars, 10, place->token, place->end);
    if (!end || personal_goes_on(end, place->end) || !check_is_capital(*place->token) ||
        !personal_all_digits(chars + 1, 9) || !check_health(chars))
        return false;
    personal_window(&w, place, place->token); // a serial number, unless a word behind that one says otherwise
    int other = personal_last(&w, PERSONAL_SAYS_OTHER);
    return (other < 0 || personal_last(&w, PERSONAL_SAYS_HEALTH) > other) &&
           personal_found(span, place, end, PERSONAL_HEALTH);
}

// Steuer-ID: 11 digits, or 2 3 3 3. Sozialversicherungsnummer: 8 digits, a letter, 3 digits, with blanks.
static inline bool personal_only_digits(const PersonalPlace *place, PersonalSpan *span) {
    char chars[12];
    const uint8_t *p = place->token, *end = personal_take(chars, 11, p, place->end);
    if (end && personal_all_digits(chars, 11)) {
        bool grouped = end - p == 14 && p[2] == ' ' && p[6] == ' ' && p[10] == ' ';
        return (grouped || end - p == 11) && !personal_goes_on(end, place->end) && check_tax_id(chars) &&
               personal_found(span, place, end, PERSONAL_TAX_ID);
    }
    end = personal_take(chars, 12, p, place->end);
    return end && personal_all_digits(chars, 8) && check_is_capital(chars[8]) && personal_all_digits(chars + 9, 3) &&
           !personal_goes_on(end, place->end) && check_pension(chars) &&
           personal_found(span, place, end, PERSONAL_PENSION);
}

// ---------------------------------------------------------------- addresses of the internet

static inline bool personal_public_4(const int *a) {
    if (a[0] == 0 || a[0] == 10 || a[0] == 127 || a[0] >= 224) return false;
    if (a[0] == 100 && a[1] >= 64 && a[1] < 128) return false; // shared, RFC 6598
    if (a[0] == 169 && a[1] == 254) return false;
    if (a[0] == 172 && a[1] >= 16 && a[1] < 32) return false;
    if (a[0] == 192 && (a[1] == 168 || (a[1] == 0 && (a[2] == 0 || a[2] == 2)))) return false;
    if (a[0] == 198 && (a[1] == 18 || a[1] == 19 || (a[1] == 51 && a[2] == 100))) return false;
    return !(a[0] == 203 && a[1] == 0 && a[2] == 113);
}

static inline bool personal_ip4(const PersonalPlace *place, PersonalSpan *span) {
    int parts[4], most = 0;
    const uint8_t *p = place->at;
    PersonalWindow w;
    for (int i = 0; i < 4; i++) {
        const uint8_t *start = p;
        for (parts[i] = 0; p < place->end && check_is_digit(*p) && p - start < 4; p++)
            parts[i] = 10 * parts[i] + *p - '0';
        if (p == start || p - start > 3 || parts[i] > 255 || (*start == '0' && p - start > 1)) return false;
        if (parts[i] > most) most = parts[i];
        if (i < 3 && (p == place->end || *p++ != '.')) return false;
    }
    bool port = place->end - p >= 2 && (*p == ':' || *p == '/' || *p == '-');
    if (personal_word_at(p, place->end) || (!port && personal_goes_on(p, place->end)) || !personal_public_4(parts))
        return false;
    if (place->at - place->text >= 2 && place->at[-1] == '.' && personal_alnum(place->at[-2])) return false;
    personal_window(&w, place, place->at);
    int address = personal_last(&w, PERSONAL_SAYS_IP);
    if (address < 0 && parts[0] < 30 && most < 60) return false;
    if (personal_last(&w, PERSONAL_SAYS_VERSION) > address) return false;
    span->start = (size_t)(place->at - place->text), span->end = (size_t)(p - place->text), span->kind = PERSONAL_IP;
    return true;
}

static inline bool personal_hex(int c) { return check_is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// Of 2000::/3, which all that are routed in public have today; not 2001:db8::/32, 3fff::/20.
static inline bool personal_ip6(const PersonalPlace *place, PersonalSpan *span) {
    const uint8_t *p = place->at, *end = place->end;
    if ((*p != '2' && *p != '3') || end - p < 8 || p[4] != ':') return false;
    const uint8_t *before = p - 1; // a group of the same address
    while (before > place->text && p - before < 6 && personal_hex(before[-1])) before--;
    if (p > place->text && p[-1] == ':' && (before == place->text || !personal_letter(before[-1]))) return false;
    int groups = 0, gaps = 0;
    unsigned value[9] = {0};
    for (; groups < 9;) {
        int n = 0;
        for (; p < end && personal_hex(*p) && n < 5; n++, p++)
            value[groups] = value[groups] << 4 | (unsigned)(*p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10);
        if (n == 0 || n > 4) break;
        groups++;
        if (end - p >= 2 && p[0] == ':' && p[1] == ':') {
            gaps++, p += 2;
            if (p == end || !personal_hex(*p)) break;
        } else if (end - p >= 2 && p[0] == ':' && personal_hex(p[1])) p++;
        else break;
    }
    if (personal_word_at(p, end) || (end - p >= 2 && *p == ':' && personal_alnum(p[1])) || gaps > 1 || groups < 3 ||
        (gaps ? groups > 7 : groups != 8))
        return false;
    if (value[0] == 0x2001 && value[1] == 0xdb8) return false;
    if (value[0] == 0x3fff && value[1] < 0x1000) return false;
    span->start = (size_t)(place->at - place->text), span->end = (size_t)(p - place->text), span->kind = PERSONAL_IP;
    return true;
}

// ---------------------------------------------------------------- all of it

static inline bool personal_digits(PersonalPlace *place, PersonalSpan *span) {
    const uint8_t *p = place->at, *rest = p + 1;
    int letters = 0;
    while (letters < 9 && p > place->text && personal_letter(p[-1])) p--, letters++;
    place->token = p;
    if (personal_word_before(place->text, p) || personal_went_before(place->text, p)) return false;
    while (rest < place->end && check_is_digit(*rest)) rest++;
    bool several = rest - place->at > 1, plus = p > place->text && p[-1] == '+';
    if (letters == 0) {
        if ((place->kinds & 1u << PERSONAL_IP) && (personal_ip6(place, span) || personal_ip4(place, span))) return true;
        if (several && personal_only_digits(place, span)) return true;
        if ((several || plus) && (place->kinds & 1u << PERSONAL_PHONE) && personal_phone(place, span)) return true;
    }
    if (letters == 0 && p - place->text >= 3 && memcmp(p - 3, "DE ", 3) == 0 &&
        !personal_word_before(place->text, p - 3)) {
        place->token = p - 3;
        return personal_two_letters(place, span);
    }
    if (letters == 1 && personal_one_letter(place, span)) return true;
    if (letters == 2 && personal_two_letters(place, span)) return true;
    return (place->kinds & 1u << PERSONAL_ID_CARD) && (letters || several) && personal_card(place, span);
}

// The next one, or false; what stands before it, or the rest, and its placeholder go to out.
static inline bool personal_next(PersonalScan *s, Str *out, PersonalSpan *span) {
    const uint8_t *p = s->text;
    PersonalPlace place = {s->text, s->end, p, p, out, s->kinds};
    for (bool found = false; p < s->end; p++) {
        if (check_is_digit(*p)) {
            place.at = p;
            found = personal_digits(&place, span);
            while (!found && p + 1 < s->end && check_is_digit(p[1])) p++;
        } else if ((*p == '@' || *p == '(' || *p == '[' || *p == '{') && (s->kinds & 1u << PERSONAL_EMAIL))
            found = personal_mail(s->text, s->end, p, span);
        if (!found) continue;
        str_add(out, s->text, span->start);
        str_puts(out, personal_placeholder(span->kind));
        const uint8_t *from = s->text;
        s->text = from + span->end;
        span->start += (size_t)(from - s->start), span->end += (size_t)(from - s->start);
        return true;
    }
    str_add(out, s->text, (size_t)(s->end - s->text));
    return false;
}

// Appends the text with placeholders. masked[kind] (PERSONAL_KIND_COUNT) counts on. False: there was nothing to mask.
static inline bool personal_mask(Str *out, const char *text, size_t n, unsigned kinds, int64_t *masked) {
    const uint8_t *p = (const uint8_t *)text;
    PersonalScan scan = {p, p, p + n, kinds};
    PersonalSpan span;
    bool any = false;
    while (personal_next(&scan, out, &span)) any = true, masked[span.kind]++;
    return any;
}

#endif
