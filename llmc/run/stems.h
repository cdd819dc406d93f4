/*
stems.h: which sequences of tokens begin alike, and what of that is worth computing once (score.h).

Sequences stand in the order of their tokens, so that those that begin alike are neighbours. Of what a run of neighbours
begins with, a stem, there are two kinds:

    root      of STEM_MANY sequences or more: examples that stand before every question of a file. It is computed alone,
              once, and batches go on behind it.
    family    of fewer: the choices of an item, a pair up to the word in question, questions on a text. It is computed
              together with other families of a batch, behind their root if they have one.

A sequence has one root and one family at most. Chosen are those that leave the fewest tokens to compute: in the tree of
common beginnings (a suffix tree's internal nodes, found by the least of what neighbours have in common), each node is
held against what the nodes below it save.
*/
#ifndef LLMC_STEMS_H
#define LLMC_STEMS_H

#include "../base/common.h"

// Tunable: a root's pass has one row, which fills no device, so it has to serve many and be long.
enum { STEM_MANY = 32, STEM_ROOT = 32 };

typedef struct {
    size_t first, count; // of the sequences
    int length;          // tokens; a family's begin with its root's
    bool root;
} Stem;

typedef struct {
    int step;         // least tokens of a stem, and of a family behind its root
    const int *alike; // (n): tokens that a sequence has in common with the one before, 0 for the first
    const int *most;  // (n): tokens of a sequence that may be shared
    Stem *items;      // (count): in the order of `first`, a root before its families
    size_t count, capacity;
} Stems;

static inline void stems_add(Stems *s, size_t from, size_t to, int length, bool root) {
    s->items = (Stem *)mem_grow(s->items, &s->capacity, s->count + 1, sizeof(Stem));
    Stem stem = {from, to - from, length, root};
    s->items[s->count++] = stem;
}

// What the sequences from .. to - 1, two or more, have in common.
static inline int stems_common(const Stems *s, size_t from, size_t to) {
    int common = s->alike[from + 1];
    for (size_t i = from + 2; i < to; i++) common = (int)int64_min(common, s->alike[i]);
    return common;
}

// How much of that all of them may share.
static inline int stems_length(const Stems *s, size_t from, size_t to, int common) {
    for (size_t i = from; i < to; i++) common = (int)int64_min(common, s->most[i]);
    return common;
}

// The end of those from `from` on that have more than that in common.
static inline size_t stems_part(const Stems *s, size_t from, size_t to, int common) {
    size_t i = from + 1;
    while (i < to && s->alike[i] > common) i++;
    return i;
}

// What from .. to - 1 save as families of `length` tokens, `base` of them shared already: one, or several of even size
// if they are too many. Takes them in place of the stems from `before` on, which save `apart`, where it is no less.
// Returns the tokens that are saved.
static inline int64_t stems_together(Stems *s, size_t from, size_t to, int length, int base, size_t before,
                                     int64_t apart) {
    size_t n = to - from, parts = (n + STEM_MANY - 2) / (STEM_MANY - 1);
    int64_t together = (int64_t)(n - parts) * (length - base);
    if (length - base < s->step || together < apart) return apart;
    s->count = before;
    for (size_t k = 0; k < parts; k++) stems_add(s, from + n * k / parts, from + n * (k + 1) / parts, length, false);
    return together;
}

// Adds the families of from .. to - 1, behind `base` tokens that are shared already. Returns the tokens that they save.
static inline int64_t stems_families(Stems *s, size_t from, size_t to, int base) {
    if (to - from < 2) return 0;
    int common = stems_common(s, from, to);
    int64_t apart = 0;
    size_t before = s->count;
    for (size_t i = from, end; i < to; i = end) {
        end = stems_part(s, i, to, common);
        apart += stems_families(s, i, end, base);
    }
    return stems_together(s, from, to, stems_length(s, from, to, common), base, before, apart);
}

// Adds roots and families of from .. to - 1. Returns the tokens that they save.
static inline int64_t stems_find(Stems *s, size_t from, size_t to) {
    if (to - from < STEM_MANY) return stems_families(s, from, to, 0);
    int common = stems_common(s, from, to), length = stems_length(s, from, to, common);
    int64_t behind_it = (int64_t)(to - from - 1) * length, apart = 0;
    size_t before = s->count;
    for (size_t i = from, end; i < to; i = end) {
        end = stems_part(s, i, to, common);
        apart += stems_find(s, i, end);
    }
    if (length < STEM_ROOT) return stems_together(s, from, to, length, 0, before, apart);
    size_t root = s->count;
    stems_add(s, from, to, length, true);
    for (size_t i = from, end; i < to; i = end) {
        end = stems_part(s, i, to, common);
        behind_it += stems_families(s, i, end, length);
    }
    if (behind_it <= apart) {
        s->count = root;
        return apart;
    }
    s->count -= root - before;
    memmove(s->items + before, s->items + root, sizeof(Stem) * (s->count - before));
    return behind_it;
}

#endif
