/*
seen.h: which texts were there before: exact duplicates of documents and of paragraphs.

    seen_add(&s, hash)           true: it is new
    seen_mark(&s), seen_undo(&s) takes back what was added since the mark

A text is known by 128 bits of XXH64 with two seeds: with 10^10 texts the chance that any two differ and share them is
below 10^-18. Memory: 16 bytes a slot, at least half of them used: 32 to 64 bytes for each different text.
*/
#ifndef LLMC_SEEN_H
#define LLMC_SEEN_H

#include "../base/hash.h"

typedef struct {
    uint64_t a, b; // a == 0: a free slot
} SeenHash;

typedef struct {
    SeenHash *slots;
    size_t mask, count;
    size_t *added; // (added_count) slots since the mark
    size_t added_count, added_capacity;
} Seen;

static inline SeenHash seen_hash(const char *text, size_t n) {
    SeenHash h = {xxh64(text, n, 11), xxh64(text, n, 12)};
    if (!h.a) h.a = 1;
    return h;
}

static inline size_t seen_place(const SeenHash *slots, size_t mask, SeenHash hash) {
    size_t at = (size_t)hash.b & mask;
    while (slots[at].a && (slots[at].a != hash.a || slots[at].b != hash.b)) at = (at + 1) & mask;
    return at;
}

// Room for n more, so that no slot moves until there are so many.
static inline void seen_reserve(Seen *s, size_t n) {
    if (s->mask && 2 * (s->count + n) <= s->mask) return;
    size_t slots = s->mask ? s->mask + 1 : 1024;
    while (2 * (s->count + n) > slots - 1) slots *= 2;
    SeenHash *grown = (SeenHash *)mem_alloc(slots * sizeof *grown);
    for (size_t i = 0; s->slots && i <= s->mask; i++)
        if (s->slots[i].a) grown[seen_place(grown, slots - 1, s->slots[i])] = s->slots[i];
    free(s->slots);
    s->slots = grown;
    s->mask = slots - 1;
}

// What is added from here on can be taken back; n: how many at most.
static inline void seen_mark(Seen *s, size_t n) {
    seen_reserve(s, n);
    s->added_count = 0;
}

static inline bool seen_add(Seen *s, SeenHash hash) {
    size_t at = seen_place(s->slots, s->mask, hash);
    if (s->slots[at].a) return false;
    s->slots[at] = hash;
    s->count++;
    s->added = (size_t *)mem_grow(s->added, &s->added_capacity, s->added_count + 1, sizeof *s->added);
    s->added[s->added_count++] = at;
    return true;
}

// The last first, so that every text is found where it was.
static inline void seen_undo(Seen *s) {
    while (s->added_count > 0) {
        memset(&s->slots[s->added[--s->added_count]], 0, sizeof *s->slots);
        s->count--;
    }
}

static inline void seen_free(Seen *s) {
    free(s->slots);
    free(s->added);
    memset(s, 0, sizeof *s);
}

#endif
