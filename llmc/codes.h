/*
codes.h: which of a model's weights are kept as codes (--base), and where they lie.

Frozen matrices inside blocks are; all else stays as it is. How numbers become codes: base/quantise.h; how products read
them: cpu/codes.h, cuda/codes.h.

Defines
  base_check      can a model be kept so?
  coded_table     the table of weights, in which coded matrices have no room
  coded_of        a matrix's codes: a part for each tensor that it is in folders
  coded_sizes     bytes and largest pieces of all
  base_said       for people: how much is kept so
*/
#ifndef LLMC_CODES_H
#define LLMC_CODES_H

#include "base/quantise.h"
#include "model.h"

// Can the matrices inside blocks be kept so?
static inline bool base_check(const Config *c, int base, Error *err) {
    if (base == BASE_FULL) return true;
    if (!c->lora.rank)
        return error_set(err, "--base=%s keeps weights that stay as they are: it needs --lora_rank", base_name(base));
    ParamTable t = param_table(c);
    bool ok = true;
    for (int i = 0; ok && i < t.count; i++) {
        const Param *p = &t.items[i];
        if (base == BASE_Q8 && p->group == GROUP_MATRIX && p->cols % Q8_BLOCK)
            ok = error_set(err,
                           "--base=q8 keeps blocks of %d numbers of a row, and %s has rows of %d: take --base=nf4, "
                           "whose blocks may begin anywhere",
                           Q8_BLOCK, p->name, p->cols);
    }
    param_table_free(&t);
    return ok;
}

// The table of a program's weights. frozen (PARAM_KINDS): what is not trained; NULL: nothing. Matrices that are kept as
// codes have no room in the flat allocation: their offsets go on behind t.elements.
static inline ParamTable coded_table(const Config *c, const bool *frozen, int base) {
    static const bool none[PARAM_KINDS] = {false};
    ParamTable t = param_table_frozen(c, frozen ? frozen : none);
    size_t at = 0;
    if (base == BASE_FULL) return t;
    for (int segment = 0, i = 0; segment < t.segments; segment++) {
        t.segment_start[segment] = at;
        for (int frozen = 0; frozen < 2; frozen++) {
            if (frozen) t.segment_trained[segment] = at;
            for (; i < t.count && t.items[i].segment == segment && t.items[i].trained == !frozen; i++) {
                Param *p = &t.items[i];
                p->coded = p->group == GROUP_MATRIX && !p->trained;
                p->offset = at;
                if (!p->coded) at += (p->count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
            }
        }
    }
    t.segment_start[t.segments] = t.elements = at;
    for (int i = 0; i < t.count; i++) {
        if (!t.items[i].coded) continue;
        t.items[i].offset = at;
        at += t.items[i].count;
    }
    return t;
}

// A matrix's codes, whose place is still to be given. gpt2's queries, keys and values are one tensor in folders.
static inline Coded coded_of(const Param *p, const Config *c, int base, const QuantTables *tables) {
    Coded coded;
    int starts[4] = {0, p->rows};
    bool whole = family_of(c->family)->naming == NAMING_GPT2;
    memset(&coded, 0, sizeof coded);
    coded.count = whole ? 1 : param_matrices(starts, p, c), coded.tables = tables;
    for (int i = 0; i < coded.count; i++) {
        coded.parts[i].format = base;
        coded.parts[i].count = (size_t)(starts[i + 1] - starts[i]) * (size_t)p->cols;
        coded.start[i + 1] = coded.start[i] + coded.parts[i].count;
    }
    return coded;
}

// What codes take, in all; the numbers of the largest matrix and the bytes of the largest part's codes.
typedef struct {
    size_t bytes, matrix, part, part_blocks;
} CodedSizes;

static inline CodedSizes coded_sizes(const ParamTable *t, const Config *c, int base) {
    CodedSizes s = {0, 0, 0, 0};
    for (int i = 0; i < t->count; i++) {
        if (!t->items[i].coded) continue;
        Coded coded = coded_of(&t->items[i], c, base, NULL);
        s.bytes += coded_bytes(&coded);
        if (t->items[i].count > s.matrix) s.matrix = t->items[i].count;
        for (int k = 0; k < coded.count; k++) {
            size_t n = coded.parts[k].count, bytes = quant_bytes(base, n), blocks = nf4_blocks(n);
            if (bytes > s.part) s.part = bytes;
            if (blocks > s.part_blocks) s.part_blocks = blocks;
        }
    }
    return s;
}

// For people, behind what is said of a model: how much is kept as codes; or nothing.
static inline Path base_said(const Config *c, int base) {
    ParamTable t = param_table(c);
    double numbers = 0, bytes = 0;
    for (int i = 0; i < t.count; i++) {
        if (t.items[i].group != GROUP_MATRIX) continue;
        Coded coded = coded_of(&t.items[i], c, base, NULL);
        numbers += (double)t.items[i].count, bytes += (double)coded_bytes(&coded);
    }
    param_table_free(&t);
    return base == BASE_FULL ? path_of("%s", "")
                             : path_of("; %.2fM of its numbers, the matrices inside blocks, are kept as %s: %.3f GiB",
                                       numbers / 1e6, base_name(base), bytes / MEM_GIB);
}

#endif
