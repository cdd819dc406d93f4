/*
near.h: documents that are nearly the same, by MinHash, in memory that does not grow with the text.

    near_keys(&t, keys, text, n)              the keys of a document, one a band; false: it has no word
    near_open(&near, folder, weighed, err)
    near_add(&near, keys, weight, size, err)  the next document, number near.documents; keys == NULL: like no other
    near_join(&near, &hold, err)              clusters: who shares a key, and who shares one with those
    near_size(&near, number)                  0: another one of its cluster stays; else how many documents it stands for
    near_close(&near)

A document is its set of runs of NEAR_GRAM words (shingles; a shorter one is a single run). Words are runs of letters
and digits, in small letters, without diacritics, each number a 0; punctuation and white space separate. Of each of
NEAR_BANDS x NEAR_ROWS permutations of 32 bits the least value of the set is kept. Two documents whose sets share s of
their union (Jaccard) agree in a band with s^8, and in one of 14 with 1 - (1 - s^8)^14: 0.56 at s = 0.7, 0.92 at 0.8,
0.9996 at 0.9. These are the figures of FineWeb-2's MinHash (14 x 8, 5-grams of words).

Of a cluster stays the document with the largest weight, of equals the first. Keys do not depend on other documents, and
documents that stay share none: what was cleaned once loses nothing when it is cleaned again.

Memory: a run of keys (NEAR_RUN, 48 MiB) and its copy while it is sorted, and 4 bytes a document for its cluster, 4 for
its weight where documents are weighed, 4 for its size where one comes with a size. Disk: 168 bytes a document, in a
file without a name in `folder`. At most 2^31 documents. Two keys of 64 bits that are equal by chance join two of them:
with 500 million documents one such pair is expected.

Broder, On the resemblance and containment of documents (1997); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets,
chapter 3 (bands).
*/
#ifndef LLMC_NEAR_H
#define LLMC_NEAR_H

#include "../base/hash.h"
#include "../text/text.h"

// Not to be tuned: cleaned texts know each other by them.
#define NEAR_GRAM 5
#define NEAR_BANDS 14
#define NEAR_ROWS 8
#define NEAR_HASHES (NEAR_BANDS * NEAR_ROWS)
#define NEAR_FOLDED 0x600 // code points with an entry in the table: Latin, Greek, Cyrillic

#define NEAR_RUN ((size_t)4 << 20) // keys that are sorted at a time; may be tuned
#define NEAR_READ ((size_t)1024)   // keys of a run that are read at a time, at least

// ---------------------------------------------------------------- a document

typedef struct {
    uint16_t fold[NEAR_FOLDED];              // what a character counts as; 0: it separates words
    uint32_t a[NEAR_HASHES], b[NEAR_HASHES]; // the permutations: a x + b, a odd
    bool ready;
    uint64_t *words; // (word_capacity) hashes
    uint32_t *grams; // (gram_capacity)
    size_t word_capacity, gram_capacity;
} NearText;

// One character: without diacritics, in small letters. 0: a separator; NEAR_MARK: a diacritic alone, which is nothing.
enum { NEAR_MARK = 1 };
static inline uint32_t near_character(uint32_t c, CharList *parts) {
    unsigned class_bit = 1u << (unicode_class(c) & UNICODE_CLASS_MASK);
    if (class_bit & 1u << UNICODE_M) return NEAR_MARK;
    if (!(class_bit & (TEXT_LETTER | TEXT_NUMBER))) return 0;
    if (class_bit & TEXT_NUMBER) return '0';
    if (c >= 0x3400 && c < 0xd7a4) return c; // Han and Hangul
    parts->count = 0;
    text_decompose(parts, c);
    c = parts->items[0] & 0xffffff;
    if (c - 'A' < 26 || (c >= 0xc0 && c <= 0xde) || (c >= 0x391 && c <= 0x3a9) || (c >= 0x410 && c <= 0x42f))
        return c + 32;
    if (c >= 0x400 && c <= 0x40f) return c + 80;
    if ((c >= 0x100 && c <= 0x137) || (c >= 0x14a && c <= 0x177)) return c | 1; // capitals are even there,
    if (c >= 0x139 && c <= 0x148) return c + (c & 1);                           // and odd here
    return c == 0x1e9e ? 0xdf : c;                                              // the capital sharp s
}

static inline void near_prepare(NearText *t) {
    CharList parts;
    uint64_t x = 0x4e656172; // any start will do
    memset(&parts, 0, sizeof parts);
    for (uint32_t c = 0; c < NEAR_FOLDED; c++) t->fold[c] = (uint16_t)near_character(c, &parts);
    free(parts.items);
    for (int i = 0; i < 2 * NEAR_HASHES; i++) { // SplitMix64 (Steele, Lea, Flood 2014)
        uint64_t z = x += 0x9e3779b97f4a7c15ull;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        z ^= z >> 31;
        if (i % 2) t->b[i / 2] = (uint32_t)z;
        else t->a[i / 2] = (uint32_t)z | 1;
    }
    t->ready = true;
}

static inline uint64_t near_mix(uint64_t h) {
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdull;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ull;
    return h ^ h >> 33;
}

// Past the rest of a number: digits, and the points and commas between them.
static inline const uint8_t *near_number(const uint8_t *p, const uint8_t *end) {
    while (p < end) {
        bool sign = (*p == '.' || *p == ',') && p + 1 < end && p[1] >= '0' && p[1] <= '9';
        if (!sign && (*p < '0' || *p > '9')) break;
        p++;
    }
    return p;
}

// Hashes of the words of a text (valid UTF-8) into t->words; returns how many.
static inline size_t near_words(NearText *t, const uint8_t *p, const uint8_t *end) {
    const uint64_t prime = 0x100000001b3ull;
    size_t count = 0;
    uint64_t h = 0; // of the word under way; 0: there is none
    CharList parts;
    memset(&parts, 0, sizeof parts);
    while (p <= end) {
        uint32_t c = 0, folded = 0;
        if (p < end) {
            p += text_decode_valid(p, &c);
            folded = c < NEAR_FOLDED ? t->fold[c] : near_character(c, &parts);
        } else p++;
        if (folded == NEAR_MARK) continue;
        if (folded) {
            h = ((h ? h : FNV1A64_START) ^ folded) * prime;
            if (folded == '0') p = near_number(p, end);
            continue;
        }
        if (!h) continue;
        t->words = (uint64_t *)mem_grow(t->words, &t->word_capacity, count + 1, sizeof *t->words);
        t->words[count++] = near_mix(h);
        h = 0;
    }
    free(parts.items);
    return count;
}

// Hashes of the runs of words; returns how many.
static inline size_t near_grams(NearText *t, size_t words) {
    const uint64_t prime = 0x9e3779b97f4a7c15ull;
    uint64_t h = 0, oldest = 1;
    size_t count = words >= NEAR_GRAM ? words - NEAR_GRAM + 1 : words > 0;
    t->grams = (uint32_t *)mem_grow(t->grams, &t->gram_capacity, count, sizeof *t->grams);
    for (int i = 0; i < NEAR_GRAM; i++) oldest *= prime;
    for (size_t i = 0, n = 0; i < words; i++) {
        h = h * prime + t->words[i] - (i >= NEAR_GRAM ? t->words[i - NEAR_GRAM] * oldest : 0);
        if (i + 1 >= NEAR_GRAM || i + 1 == words) t->grams[n++] = (uint32_t)(near_mix(h) >> 32);
    }
    return count;
}

static inline void near_least(uint32_t *least, const NearText *t, size_t grams) {
    for (int i = 0; i < NEAR_HASHES; i++) least[i] = UINT32_MAX;
    for (size_t k = 0; k < grams; k++)
        for (int i = 0; i < NEAR_HASHES; i++) {
            uint32_t h = t->grams[k] * t->a[i] + t->b[i];
            least[i] = h < least[i] ? h : least[i];
        }
}

// t: zeroed once, used for many texts; near_text_free() at the end. A text that is no UTF-8 is like no other.
static inline bool near_keys(NearText *t, uint64_t keys[NEAR_BANDS], const char *text, size_t n) {
    uint32_t least[NEAR_HASHES];
    if (!t->ready) near_prepare(t);
    if (text_valid((const uint8_t *)text, (const uint8_t *)text + n) != n) return false;
    size_t words = near_words(t, (const uint8_t *)text, (const uint8_t *)text + n);
    if (!words) return false;
    near_least(least, t, near_grams(t, words));
    for (int band = 0; band < NEAR_BANDS; band++)
        keys[band] = xxh64(&least[band * NEAR_ROWS], 4 * NEAR_ROWS, (uint64_t)band);
    return true;
}

// The weight of what was written at "2024-05-31T23:59:59Z" or "2024-05-31": the older, the more. Without a date: 0.
static inline uint32_t near_age(const char *text) {
    int year, month, day, hour = 0, minute = 0, second = 0;
    if (sscanf(text, "%4d-%2d-%2d%*1[T ]%2d:%2d:%2d", &year, &month, &day, &hour, &minute, &second) < 3) return 0;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > 31) return 0;
    // Days since 1970 of the Gregorian calendar, years beginning with March.
    int64_t y = year - (month <= 2), m = (month + 9) % 12,
            days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719469;
    int64_t seconds = days * 86400 + hour * 3600 + minute * 60 + second;
    return seconds < 0 ? UINT32_MAX : UINT32_MAX - (uint32_t)int64_min(seconds, UINT32_MAX - 1);
}

static inline void near_text_free(NearText *t) {
    free(t->words);
    free(t->grams);
    memset(t, 0, sizeof *t);
}

// ---------------------------------------------------------------- clusters

typedef struct {
    uint32_t high, low, document; // a key, and who has it
} NearEntry;

typedef struct {
    int fd;             // sorted runs, one behind the other
    size_t run;         // NEAR_RUN
    NearEntry *entries; // (count) of the run under way
    size_t count, capacity;
    int64_t *ends; // (runs) in entries of the file
    size_t runs, end_capacity;
    uint32_t *weights, *sizes; // (documents) or NULL
    size_t weight_capacity, size_capacity;
    bool weighed;
    uint32_t documents;
    int32_t *clusters; // (documents) who its cluster's is, or next to it; of the one that stays: minus its size
} Near;

static inline bool near_open(Near *near, const char *folder, bool weighed, Error *err) {
    memset(near, 0, sizeof *near);
    near->run = NEAR_RUN;
    near->weighed = weighed;
    near->fd = file_scratch(folder, err);
    return near->fd >= 0;
}

static inline int near_order(const void *a, const void *b) {
    const NearEntry *x = (const NearEntry *)a, *y = (const NearEntry *)b;
    if (x->high != y->high) return x->high < y->high ? -1 : 1;
    if (x->low != y->low) return x->low < y->low ? -1 : 1;
    return (x->document > y->document) - (x->document < y->document);
}

static inline bool near_spill(Near *near, Error *err) {
    if (!near->count) return true;
    int64_t before = near->runs ? near->ends[near->runs - 1] : 0;
    qsort(near->entries, near->count, sizeof(NearEntry), near_order);
    near->ends = (int64_t *)mem_grow(near->ends, &near->end_capacity, near->runs + 1, sizeof *near->ends);
    near->ends[near->runs++] = before + (int64_t)near->count;
    bool ok = file_write_at(near->fd, near->entries, near->count * sizeof(NearEntry),
                            before * (int64_t)sizeof(NearEntry), err);
    near->count = 0;
    return ok;
}

static inline bool near_add(Near *near, const uint64_t *keys, uint32_t weight, uint32_t size, Error *err) {
    uint32_t number = near->documents;
    if (number == INT32_MAX)
        return error_set(err, "near duplicates are looked for among 2^31 documents at most; clean the inputs in parts");
    if (near->weighed) {
        near->weights =
            (uint32_t *)mem_grow(near->weights, &near->weight_capacity, (size_t)number + 1, sizeof(uint32_t));
        near->weights[number] = weight;
    }
    if (size > 1 || near->sizes) {
        bool first = !near->sizes;
        near->sizes = (uint32_t *)mem_grow(near->sizes, &near->size_capacity, (size_t)number + 1, sizeof(uint32_t));
        for (uint32_t i = 0; first && i < number; i++) near->sizes[i] = 1;
        near->sizes[number] = size;
    }
    near->documents++;
    if (!keys) return true;
    near->entries = (NearEntry *)mem_grow(near->entries, &near->capacity, near->count + NEAR_BANDS, sizeof(NearEntry));
    for (int band = 0; band < NEAR_BANDS; band++) {
        NearEntry *e = &near->entries[near->count++];
        e->high = (uint32_t)(keys[band] >> 32);
        e->low = (uint32_t)keys[band];
        e->document = number;
    }
    return near->count + NEAR_BANDS <= near->run || near_spill(near, err);
}

static inline int32_t near_root(Near *near, int32_t i) {
    int32_t *up = near->clusters;
    while (up[i] >= 0) {
        if (up[up[i]] >= 0) up[i] = up[up[i]];
        i = up[i];
    }
    return i;
}

static inline void near_unite(Near *near, uint32_t one, uint32_t two) {
    int32_t a = near_root(near, (int32_t)one), b = near_root(near, (int32_t)two);
    if (a == b) return;
    bool other = near->weights && near->weights[a] != near->weights[b] ? near->weights[b] > near->weights[a] : b < a;
    int32_t stays = other ? b : a, goes = other ? a : b;
    int64_t size = (int64_t)near->clusters[stays] + near->clusters[goes];
    near->clusters[stays] = size < -INT32_MAX ? -INT32_MAX : (int32_t)size;
    near->clusters[goes] = stays;
}

// A run that is being read.
typedef struct {
    NearEntry *entries; // (room)
    size_t at, count;
    int64_t next, end; // in the file
} NearRun;

// The next entry of a run into its place; false in *more: it has no more.
static inline bool near_next(const Near *near, NearRun *r, size_t room, bool *more, Error *err) {
    *more = true;
    if (++r->at < r->count) return true;
    r->at = 0;
    r->count = (size_t)int64_min((int64_t)room, r->end - r->next);
    *more = r->count > 0;
    int64_t from = r->next;
    r->next += (int64_t)r->count;
    return file_read_at(near->fd, r->entries, r->count * sizeof(NearEntry), from * (int64_t)sizeof(NearEntry), err);
}

// Puts heap[at], which is out of order, where it belongs: the run with the least entry stands in front.
static inline void near_sift(size_t *heap, size_t count, size_t at, const NearRun *runs) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
#define NEAR_FRONT(i) (&runs[heap[i]].entries[runs[heap[i]].at])
        if (child + 1 < count && near_order(NEAR_FRONT(child + 1), NEAR_FRONT(child)) < 0) child++;
        if (near_order(NEAR_FRONT(at), NEAR_FRONT(child)) <= 0) return;
#undef NEAR_FRONT
        size_t kept = heap[at];
        heap[at] = heap[child];
        heap[child] = kept;
    }
}

static inline bool near_merge(Near *near, NearRun *runs, size_t *heap, size_t room, const SignalHold *hold,
                              Error *err) {
    size_t count = 0;
    bool more, any = false;
    NearEntry last = {0, 0, 0};
    for (size_t i = 0; i < near->runs; i++) {
        runs[i].next = i ? near->ends[i - 1] : 0;
        runs[i].end = near->ends[i];
        if (!near_next(near, &runs[i], room, &more, err)) return false;
        if (more) heap[count++] = i;
    }
    for (size_t i = count; i-- > 0;) near_sift(heap, count, i, runs);
    for (int64_t done = 1; count > 0; done++) {
        NearRun *r = &runs[heap[0]];
        const NearEntry e = r->entries[r->at];
        if (any && e.high == last.high && e.low == last.low) near_unite(near, last.document, e.document);
        last = e;
        any = true;
        if (!near_next(near, r, room, &more, err)) return false;
        if (!more) heap[0] = heap[--count];
        near_sift(heap, count, 0, runs);
        if (done % (1 << 20) == 0 && signals_waiting(hold)) return error_set(err, "%s", strerror(EINTR));
    }
    return true;
}

static inline bool near_join(Near *near, const SignalHold *hold, Error *err) {
    if (!near_spill(near, err)) return false;
    free(near->entries);
    near->entries = NULL;
    near->capacity = 0;
    near->clusters = (int32_t *)mem_alloc((size_t)near->documents * sizeof(int32_t));
    for (uint32_t i = 0; i < near->documents; i++) near->clusters[i] = near->sizes ? -(int32_t)near->sizes[i] : -1;
    if (!near->runs) return true;
    size_t room = near->run / near->runs > NEAR_READ ? near->run / near->runs : NEAR_READ;
    NearRun *runs = (NearRun *)mem_alloc(near->runs * sizeof(NearRun));
    size_t *heap = (size_t *)mem_alloc(near->runs * sizeof(size_t));
    for (size_t i = 0; i < near->runs; i++) runs[i].entries = (NearEntry *)mem_alloc(room * sizeof(NearEntry));
    bool ok = near_merge(near, runs, heap, room, hold, err);
    for (size_t i = 0; i < near->runs; i++) free(runs[i].entries);
    free(runs);
    free(heap);
    return ok;
}

static inline int64_t near_size(const Near *near, int64_t number) {
    return near->clusters[number] < 0 ? -(int64_t)near->clusters[number] : 0;
}

static inline void near_close(Near *near) {
    if (near->fd > 0) close(near->fd);
    free(near->entries);
    free(near->ends);
    free(near->weights);
    free(near->sizes);
    free(near->clusters);
    memset(near, 0, sizeof *near);
}

#endif
