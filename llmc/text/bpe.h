/*
bpe.h: trains a tokenizer: byte-level BPE (Sennrich, Haddow, Birch 2016, on bytes as in GPT-2) with the
split pattern of Llama 3, or that of Qwen 2, in which every digit stands alone.

    BpeSettings s = bpe_settings(8192);
    bpe_train(&tok, "FILE,FOLDER,...", &documents, &s, &stats, err)    whatever doc_inputs.h reads
    bpe_train_text(&tok, text, n, &s, &stats, err)                     one text in memory

1. Every pre-token is counted, in parallel where OpenMP is on. Files are cut where no pre-token reaches
   over (text_safe_cut); of JSON lines, tars and the like the documents are counted, one by one. Bytes that are not
   UTF-8 are left out and counted; files that are no text are refused (reader.h).
2. The most frequent pair of neighbours becomes a token, again and again. Pairs know the words they were
   seen in, so a merge touches only these; a heap gives the next pair, its counts corrected on the way. What a
   merge does to the counts of pairs is summed up by neighbour and done at its end, and pairs that occur too
   rarely are not kept: text of nothing but distinct words, or of one long one, has many of these.
3. The result is written as a tokenizer.json and read back, so that what was trained is what is loaded.

Deterministic: of pairs with the same count the one with the smaller left id comes first, then the one
with the smaller right id. Threads and the order of files change nothing. With the same pattern, minimum
count and alphabet the merges are those of Hugging Face's BpeTrainer.

Vocabulary: 256 bytes, merged tokens, special tokens: end of text, two for chats, padding, those that were asked for,
and reserved ones for fine-tuning, BPE_SPECIALS in all or more if more were asked for. vocab_size is rounded up to a
multiple of 128.

Limits: a pair must occur min_frequency times. A pre-token longer than BPE_MAX_WORD bytes is counted in
pieces of that size. Memory: about 170 bytes a distinct pre-token.
*/
#ifndef LLMC_BPE_H
#define LLMC_BPE_H

#include "doc_inputs.h"
#include "tokenizer.h"
#ifdef _OPENMP
#include <omp.h>
#endif

#define BPE_SPECIALS 16
#define BPE_NAMED 4     // of them that always are there: bpe_names
#define BPE_ASKED 1000  // that may be asked for
#define BPE_MIN_COUNT 2 // a token that was seen once teaches nothing
#define BPE_MIN_VOCAB 384
#define BPE_MAX_VOCAB (1 << 20)
#define BPE_MAX_WORD 4096           // bytes
#define BPE_BLOCK 16                // bytes of a word that a merge reads together; may be tuned
#define BPE_CHUNK ((size_t)1 << 20) // bytes of text counted at a time by one thread

typedef struct {
    int vocab_size;
    int64_t min_frequency; // how often a pair must occur to become a token
    TextPattern pattern;   // TEXT_LLAMA3 or TEXT_QWEN2
    StrList special;       // names of special tokens that are to be there, too; the caller's
} BpeSettings;

static inline BpeSettings bpe_settings(int vocab_size) {
    BpeSettings s;
    memset(&s, 0, sizeof s);
    s.vocab_size = vocab_size;
    s.min_frequency = BPE_MIN_COUNT;
    s.pattern = TEXT_LLAMA3;
    return s;
}

typedef struct {
    int64_t bytes; // of text
    TextCounts counts;
    int empty;                // files without text
    Path without;             // the first of them
    int doubles;              // files that were named twice, under this name or another
    Path doubled;             // one of them
    DocDamage damage;         // what was left out; str_list_free(&damage.named)
    int64_t pretokens, words; // all and distinct
    int merges;
    int64_t work; // symbols read by merges, and pairs looked up: a measure of time that is the same everywhere
    double count_seconds, merge_seconds;
} BpeStats;

// ---------------------------------------------------------------- counting

typedef struct {
    uint64_t hash;
    int64_t count; // 0: free
    size_t offset; // into bytes
    size_t size;
} BpeWord;

typedef struct {
    BpeWord *slots;
    uint64_t mask;
    size_t used;
    Str bytes;
    TextPattern pattern;
    int64_t pretokens;
    TextCounts counts;
} BpeWords;

static inline void bpe_words_open(BpeWords *w, TextPattern pattern) {
    memset(w, 0, sizeof *w);
    w->pattern = pattern;
    w->slots = (BpeWord *)mem_alloc(4096 * sizeof(BpeWord));
    w->mask = 4095;
}

static inline void bpe_words_free(BpeWords *w) {
    free(w->slots);
    free(w->bytes.data);
    memset(w, 0, sizeof *w);
}

static inline void bpe_words_add(BpeWords *w, const uint8_t *p, size_t n, int64_t count) {
    uint64_t hash = tokenizer_hash_bytes(p, n), slot = hash & w->mask;
    for (;; slot = (slot + 1) & w->mask) {
        BpeWord *s = &w->slots[slot];
        if (s->count == 0) break;
        if (s->hash == hash && s->size == n && memcmp(w->bytes.data + s->offset, p, n) == 0) {
            s->count += count;
            return;
        }
    }
    BpeWord *s = &w->slots[slot];
    s->hash = hash;
    s->count = count;
    s->offset = w->bytes.size;
    s->size = n;
    str_add(&w->bytes, p, n);
    if (4 * ++w->used <= 3 * w->mask) return;
    size_t slots = 2 * ((size_t)w->mask + 1);
    BpeWord *grown = (BpeWord *)mem_alloc(slots * sizeof(BpeWord));
    for (size_t i = 0; i <= w->mask; i++) {
        if (w->slots[i].count == 0) continue;
        uint64_t to = w->slots[i].hash & (slots - 1);
        while (grown[to].count) to = (to + 1) & (slots - 1);
        grown[to] = w->slots[i];
    }
    free(w->slots);
    w->slots = grown;
    w->mask = slots - 1;
}

static inline void bpe_words_count(BpeWords *w, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    text_count(&w->counts, text, n);
    while (p < end) {
        const uint8_t *valid_end = p + text_valid(p, end);
        while (p < valid_end) {
            const uint8_t *q = text_split(w->pattern, p, valid_end);
            for (; q - p > BPE_MAX_WORD; p += BPE_MAX_WORD) bpe_words_add(w, p, BPE_MAX_WORD, 1);
            bpe_words_add(w, p, (size_t)(q - p), 1);
            w->pretokens++;
            p = q;
        }
        size_t invalid = text_invalid(p, end);
        w->counts.invalid += (int64_t)invalid;
        p += invalid;
    }
}

static inline void bpe_words_merge(BpeWords *into, const BpeWords *from) {
    for (size_t i = 0; i <= from->mask; i++) {
        const BpeWord *s = &from->slots[i];
        if (s->count) bpe_words_add(into, (const uint8_t *)from->bytes.data + s->offset, s->size, s->count);
    }
    into->pretokens += from->pretokens;
    text_counts_add(&into->counts, &from->counts);
}

// Texts that are counted together. A text is cut into parts of about BPE_CHUNK, and short ones share one.
typedef struct {
    const char *text;
    size_t n;
} BpePart;

typedef struct {
    BpePart *parts; // (count)
    size_t count, capacity;
    size_t *groups; // (group_count) numbers of first parts; a thread takes a group at a time
    size_t group_count, group_capacity, group_bytes;
    size_t bytes;
} BpeParts;

static inline void bpe_parts_add_one(BpeParts *p, const char *text, size_t n) {
    if (p->group_count == 0 || p->group_bytes + n > BPE_CHUNK) {
        p->groups = (size_t *)mem_grow(p->groups, &p->group_capacity, p->group_count + 1, sizeof *p->groups);
        p->groups[p->group_count++] = p->count;
        p->group_bytes = 0;
    }
    p->parts = (BpePart *)mem_grow(p->parts, &p->capacity, p->count + 1, sizeof *p->parts);
    p->parts[p->count].text = text;
    p->parts[p->count++].n = n;
    p->group_bytes += n;
    p->bytes += n;
}

static inline void bpe_parts_add(BpeParts *p, const char *text, size_t n) {
    while (n > BPE_CHUNK) {
        size_t cut = text_safe_cut(TEXT_LLAMA3, text, n, BPE_CHUNK); // Qwen 2's is the same
        bpe_parts_add_one(p, text, cut);
        text += cut, n -= cut;
    }
    if (n) bpe_parts_add_one(p, text, n);
}

static inline void bpe_parts_free(BpeParts *p) {
    free(p->parts);
    free(p->groups);
    memset(p, 0, sizeof *p);
}

// Counts all of them with all threads, and empties the list.
static inline void bpe_words_count_parts(BpeWords *words, BpeParts *p) {
    int64_t groups = (int64_t)p->group_count;
#ifdef _OPENMP
#pragma omp parallel if (groups > 1)
#endif
    {
        BpeWords own, *into = &own; // the first thread counts into `words`, the others join theirs to it
        bpe_words_open(&own, words->pattern);
#ifdef _OPENMP
#pragma omp master
#endif
        into = words;
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
        for (int64_t i = 0; i < groups; i++) {
            size_t end = i + 1 < groups ? p->groups[i + 1] : p->count;
            for (size_t k = p->groups[i]; k < end; k++) bpe_words_count(into, p->parts[k].text, p->parts[k].n);
        }
#ifdef _OPENMP
#pragma omp critical
#endif
        if (into == &own) bpe_words_merge(words, &own);
        bpe_words_free(&own);
    }
    p->count = p->group_count = p->group_bytes = p->bytes = 0;
}

static inline void bpe_words_count_parallel(BpeWords *words, const char *text, size_t n) {
    BpeParts parts;
    memset(&parts, 0, sizeof parts);
    bpe_parts_add(&parts, text, n);
    bpe_words_count_parts(words, &parts);
    bpe_parts_free(&parts);
}

// ---------------------------------------------------------------- merging

// A pair of ids that occurs often enough to become a token. All words that hold it are known when it first appears:
// with the text, or with the merge that made one of its two tokens.
typedef struct {
    int32_t left, right;
    int64_t count;       // exact
    uint32_t *words;     // (word_count) some may have lost the pair since
    uint32_t word_count; // in the order of the words and of their blocks
} BpePair;

typedef struct {
    uint64_t pair; // tokenizer_pair; UINT64_MAX: free
    uint32_t number;
} BpeSlot;

// A word, or a block of a long one; those of one word lie beside each other. A pair of neighbours is in the block of
// its left symbol.
typedef struct {
    uint64_t start : 48, length : 15,
        joined : 1; // symbols, of which it can lose all; goes on what the block before began
    int64_t count;
} BpeBlock;

// What a merge of (a, b) into c does to the neighbours x in front of it, and to those behind it: as many pairs (x, a)
// go as pairs (x, c) come. By x, so that a merge asks the table once for a neighbour and not for every place. Both are
// done in whole when the merge is: a pair that comes with few occurrences gets none later, and is not kept at all.
typedef struct {
    union {
        int64_t change;
        uint32_t *words; // then: where those that hold (x, c) are noted
    } is;
    uint32_t places, seen_in; // how many they are; number + 1 of the last
} BpeNeighbour;

typedef struct {
    uint32_t neighbour, word;
} BpeEvent;

typedef struct {
    BpeNeighbour *at;  // (tokens) by x
    uint32_t *touched; // (touched_count) those x that were seen in this merge
    size_t touched_count, touched_capacity;
    BpeEvent *events;
    size_t event_count, event_capacity;
} BpeSide;

typedef struct {
    int32_t *symbols;
    BpeBlock *blocks; // (block_count + 1) the last begins a word and has no symbols
    size_t block_count;
    int64_t min_count;
    BpePair *pairs;
    size_t pair_count, pair_capacity;
    BpeSlot *table;
    uint64_t mask;
    BpeSide before, behind;
    MergeHeap heap;
    int64_t work; // as in BpeStats
    // memory of the lists of words
    char **arenas;
    size_t arena_count, arena_capacity, arena_used, arena_size;
    uint32_t *spare; // (spare_count) of the list of the merge under way, which nobody reads again
    uint32_t spare_count;
} BpeTrainer;

#define BPE_ARENA ((size_t)8 << 20)

// Room for a list of words: in that of the merge under way, else in new memory.
static inline uint32_t *bpe_list(BpeTrainer *t, uint32_t words) {
    if (words <= t->spare_count) return t->spare + (t->spare_count -= words);
    size_t bytes = ((size_t)words * sizeof(uint32_t) + 7) / 8 * 8;
    if (t->arena_used + bytes > t->arena_size) {
        t->arena_size = bytes > BPE_ARENA ? bytes : BPE_ARENA;
        t->arena_used = 0;
        t->arenas = (char **)mem_grow(t->arenas, &t->arena_capacity, t->arena_count + 1, sizeof(char *));
        t->arenas[t->arena_count] = (char *)mem_alloc(t->arena_size);
        t->arena_count++;
    }
    uint32_t *list = (uint32_t *)(t->arenas[t->arena_count - 1] + t->arena_used);
    t->arena_used += bytes;
    return list;
}

static inline uint64_t bpe_slot(const BpeTrainer *t, int32_t left, int32_t right) {
    return tokenizer_mix(tokenizer_pair(left, right)) & t->mask;
}

static inline void bpe_table_open(BpeTrainer *t, size_t slots) {
    free(t->table);
    t->mask = slots - 1;
    t->table = (BpeSlot *)mem_alloc(slots * sizeof(BpeSlot));
    for (size_t i = 0; i < slots; i++) t->table[i].pair = UINT64_MAX;
}

static inline void bpe_table_add(BpeTrainer *t, uint32_t number) {
    const BpePair *p = &t->pairs[number];
    uint64_t slot = bpe_slot(t, p->left, p->right);
    while (t->table[slot].pair != UINT64_MAX) slot = (slot + 1) & t->mask;
    t->table[slot].pair = tokenizer_pair(p->left, p->right);
    t->table[slot].number = number;
}

// The number of a pair; UINT32_MAX: it was never frequent enough.
static inline uint32_t bpe_pair(const BpeTrainer *t, int32_t left, int32_t right) {
    const uint64_t pair = tokenizer_pair(left, right);
    for (uint64_t slot = bpe_slot(t, left, right);; slot = (slot + 1) & t->mask) {
        if (t->table[slot].pair == pair) return t->table[slot].number;
        if (t->table[slot].pair == UINT64_MAX) return UINT32_MAX;
    }
}

static inline void bpe_consider(BpeTrainer *t, uint32_t pair) {
    const BpePair *p = &t->pairs[pair];
    if (p->count >= t->min_count) merge_heap_push(&t->heap, -p->count, (uint32_t)p->left, (uint32_t)p->right, pair);
}

// A pair that is new; the list of its words, to be filled. NULL: it occurs too rarely ever to be merged.
static inline uint32_t *bpe_pair_add(BpeTrainer *t, int32_t left, int32_t right, int64_t count, uint32_t words) {
    if (count < t->min_count) return NULL;
    t->pairs = (BpePair *)mem_grow(t->pairs, &t->pair_capacity, t->pair_count + 1, sizeof(BpePair));
    BpePair *p = &t->pairs[t->pair_count++];
    p->left = left, p->right = right;
    p->count = count;
    p->word_count = words;
    p->words = bpe_list(t, words);
    if (2 * t->pair_count > t->mask) {
        bpe_table_open(t, 2 * ((size_t)t->mask + 1));
        for (size_t i = 0; i + 1 < t->pair_count; i++) bpe_table_add(t, (uint32_t)i);
    }
    bpe_table_add(t, (uint32_t)t->pair_count - 1);
    bpe_consider(t, (uint32_t)t->pair_count - 1);
    return p->words;
}

// One more neighbour of the token that a merge makes, in a word that occurs `count` times.
static inline void bpe_note(BpeSide *side, int32_t neighbour, uint32_t word, int64_t count) {
    BpeNeighbour *n = &side->at[neighbour];
    if (n->places == 0) {
        side->touched =
            (uint32_t *)mem_grow(side->touched, &side->touched_capacity, side->touched_count + 1, sizeof(uint32_t));
        side->touched[side->touched_count++] = (uint32_t)neighbour;
    }
    n->is.change += count;
    if (n->seen_in == word + 1) return;
    n->seen_in = word + 1;
    n->places++;
    if (side->event_count == side->event_capacity)
        side->events =
            (BpeEvent *)mem_grow(side->events, &side->event_capacity, side->event_count + 1, sizeof *side->events);
    side->events[side->event_count].neighbour = (uint32_t)neighbour;
    side->events[side->event_count++].word = word;
}

#define BPE_AHEAD 16 // lookups whose memory is asked for before the first of them is used; may be tuned

// The pairs that went: (neighbour, part) where the neighbours stand in front, else (part, neighbour). One that came
// with this merge is not in the table yet: its count is made right where it is added.
static inline void bpe_settle_lost(BpeTrainer *t, const BpeSide *side, bool front, int32_t part) {
    uint32_t numbers[BPE_AHEAD];
    for (size_t i = 0; i < side->touched_count; i += BPE_AHEAD) {
        const uint32_t *x = side->touched + i;
        size_t n = side->touched_count - i < BPE_AHEAD ? side->touched_count - i : BPE_AHEAD;
        for (size_t k = 0; k < n; k++)
            __builtin_prefetch(&t->table[front ? bpe_slot(t, (int32_t)x[k], part) : bpe_slot(t, part, (int32_t)x[k])]);
        for (size_t k = 0; k < n; k++) {
            numbers[k] = front ? bpe_pair(t, (int32_t)x[k], part) : bpe_pair(t, part, (int32_t)x[k]);
            if (numbers[k] != UINT32_MAX) __builtin_prefetch(&t->pairs[numbers[k]]);
        }
        for (size_t k = 0; k < n; k++)
            if (numbers[k] != UINT32_MAX) t->pairs[numbers[k]].count -= side->at[x[k]].is.change;
    }
    t->work += (int64_t)side->touched_count;
}

// The pairs that came, with the words that hold them. The side is empty then.
static inline void bpe_settle_gained(BpeTrainer *t, BpeSide *side, bool front, int32_t whole) {
    for (size_t i = 0; i < side->touched_count; i++) {
        int32_t x = (int32_t)side->touched[i];
        BpeNeighbour *n = &side->at[x];
        n->is.words = bpe_pair_add(t, front ? x : whole, front ? whole : x, n->is.change, n->places);
    }
    for (size_t i = 0; i < side->event_count; i++) {
        BpeNeighbour *n = &side->at[side->events[i].neighbour];
        if (n->is.words) *n->is.words++ = side->events[i].word;
    }
    for (size_t i = 0; i < side->touched_count; i++) memset(&side->at[side->touched[i]], 0, sizeof(BpeNeighbour));
    t->work += (int64_t)(side->touched_count + side->event_count);
    side->touched_count = side->event_count = 0;
}

// The block of the same word behind this one, or before it, that has symbols; UINT32_MAX: there is none.
static inline uint32_t bpe_block_behind(const BpeTrainer *t, uint32_t word) {
    while (t->blocks[word + 1].joined)
        if (t->blocks[++word].length) return word;
    return UINT32_MAX;
}
static inline uint32_t bpe_block_before(const BpeTrainer *t, uint32_t word) {
    while (t->blocks[word].joined)
        if (t->blocks[--word].length) return word;
    return UINT32_MAX;
}

// Replaces left, right by `whole` in a word, or a block of one, and notes its neighbours. What follows the last symbol
// is the first of the block behind: a pair over the seam becomes one symbol here, and that block loses one.
static inline void bpe_replace(BpeTrainer *t, uint32_t word, int32_t left, int32_t right, int32_t whole) {
    BpeBlock *b = &t->blocks[word];
    int32_t *s = t->symbols + b->start;
    uint32_t n = (uint32_t)b->length, to = 0;
    t->work += n;
    for (uint32_t i = 0; i < n;) {
        if (s[i] != left) {
            s[to++] = s[i++];
            continue;
        }
        uint32_t behind = i + 2 < n ? UINT32_MAX : bpe_block_behind(t, word);
        bool seam = i + 1 >= n;
        if ((seam && behind == UINT32_MAX) || (seam ? t->symbols[t->blocks[behind].start] : s[i + 1]) != right) {
            s[to++] = s[i++];
            continue;
        }
        uint32_t before = to > 0 ? word : bpe_block_before(t, word);
        if (seam) { // its first symbol goes
            t->blocks[behind].start++, t->blocks[behind].length--;
            if (t->blocks[behind].length == 0) behind = bpe_block_behind(t, behind);
        }
        if (before != UINT32_MAX) {
            const BpeBlock *f = &t->blocks[before];
            bpe_note(&t->before, to > 0 ? s[to - 1] : t->symbols[f->start + f->length - 1], before, b->count);
        }
        if (i + 2 < n) bpe_note(&t->behind, s[i + 2], word, b->count);
        else if (behind != UINT32_MAX) bpe_note(&t->behind, t->symbols[t->blocks[behind].start], word, b->count);
        s[to++] = whole;
        i += seam ? 1 : 2;
    }
    b->length = to;
}

// Does a merge in all words that hold its pair.
static inline void bpe_replace_all(BpeTrainer *t, uint32_t pair, int32_t whole) {
    const BpePair p = t->pairs[pair]; // t->pairs may move
    for (uint32_t i = 0; i < p.word_count; i++) {
        if (i + 2 * BPE_AHEAD < p.word_count) __builtin_prefetch(&t->blocks[p.words[i + 2 * BPE_AHEAD]]);
        if (i + BPE_AHEAD < p.word_count) {
            const BpeBlock *b = &t->blocks[p.words[i + BPE_AHEAD]];
            __builtin_prefetch(&t->symbols[b->start]);
            __builtin_prefetch(&t->symbols[b->start + b->length]);
        }
        bpe_replace(t, p.words[i], p.left, p.right, whole);
    }
    t->spare = p.words, t->spare_count = p.word_count;
    bpe_settle_lost(t, &t->before, true, p.left);
    bpe_settle_lost(t, &t->behind, false, p.right);
    // Of "abab" (whole, left) comes with the first merge and goes with the second.
    t->behind.at[p.left].is.change -= t->before.at[whole].is.change;
    bpe_settle_gained(t, &t->before, true, whole);
    bpe_settle_gained(t, &t->behind, false, whole);
    t->pairs[pair].count = 0;
}

typedef struct {
    Str bytes;       // of all tokens, one after the other
    size_t *offsets; // (tokens + 1)
    int count;
    int32_t (*merges)[2]; // (merge_count, 2) ids
    int merge_count;
    size_t merge_capacity;
} BpeVocab;

// Ends the token whose bytes were added; its id.
static inline int bpe_vocab_add(BpeVocab *v) {
    v->offsets[++v->count] = v->bytes.size;
    return v->count - 1;
}

// The name of the i-th special token.
static inline Path bpe_special(const BpeSettings *settings, int i) {
    static const char *const names[BPE_NAMED] = {TOKENIZER_EOT, "<|im_start|>", "<|im_end|>", "<|pad|>"};
    const int asked = i - BPE_NAMED;
    if (i < BPE_NAMED) return path_of("%s", names[i]);
    if (asked < settings->special.count) return path_of("%s", settings->special.items[asked]);
    return path_of("<|reserved_%d|>", asked - settings->special.count);
}

static inline int bpe_specials(const BpeSettings *settings) {
    return (int)int64_max(BPE_SPECIALS, BPE_NAMED + settings->special.count);
}

// Names that can be told from text: UTF-8, without white space, in angle or square brackets; none stands twice. (A name
// that merges could make would be two tokens in one.)
static inline bool bpe_check_special(const BpeSettings *settings, Error *err) {
    if (settings->special.count > BPE_ASKED)
        return error_set(err, "--special names %d tokens, at most %d are possible", settings->special.count, BPE_ASKED);
    for (int i = 0; i < settings->special.count; i++) {
        const char *name = settings->special.items[i];
        const size_t n = strlen(name);
        const uint8_t *p = (const uint8_t *)name, *end = p + n;
        bool angle = n > 2 && *name == '<' && name[n - 1] == '>', square = n > 2 && *name == '[' && name[n - 1] == ']';
        bool plain = text_valid(p, end) == n && n <= TOKENIZER_MAX_ADDED;
        for (int size; plain && p < end; p += size) plain = !(text_class(p, &size) & TEXT_SPACE) && *p >= ' ';
        if (!plain || !(angle || square))
            return error_set(err,
                             "--special=%.60s: expected a name in angle or square brackets without blanks, of at most "
                             "%d bytes, like <|tool|> or [TOOL]",
                             name, TOKENIZER_MAX_ADDED);
        for (int k = 0; k < bpe_specials(settings); k++)
            if (k != BPE_NAMED + i && strcmp(bpe_special(settings, k).text, name) == 0)
                return error_set(err, "--special=%.60s: there is a special token of this name already", name);
    }
    return true;
}

// The text of the tokenizer.json.
static inline void bpe_write_json(Str *out, const BpeVocab *v, const BpeSettings *settings, int vocab_size) {
    uint32_t to_char[256];
    int16_t to_byte[324];
    byte_names(to_char, to_byte);
    str_puts(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    for (int i = 0; i < vocab_size - v->count; i++) {
        Path name = bpe_special(settings, i);
        str_printf(out, "%s\n    {\"id\": %d, \"content\": ", i ? "," : "", v->count + i);
        json_escape(out, name.text, strlen(name.text));
        str_puts(out, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                      "\"special\": true}");
    }
    str_puts(out, "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {\n    \"type\": \"Sequence\",\n    "
                  "\"pretokenizers\": [\n      {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    const char *regex = text_pattern(settings->pattern).regex;
    json_escape(out, regex, strlen(regex));
    str_puts(out, "}, \"behavior\": \"Isolated\", \"invert\": false},\n      {\"type\": \"ByteLevel\", "
                  "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}\n    ]\n  },\n"
                  "  \"post_processor\": null,\n  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                  "\"trim_offsets\": true, \"use_regex\": true},\n"
                  "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n    "
                  "\"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
                  "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    "
                  "\"vocab\": {");
    Str *quoted = (Str *)mem_alloc((size_t)v->count * sizeof(Str));
    Str name;
    memset(&name, 0, sizeof name);
    for (int id = 0; id < v->count; id++) {
        name.size = 0;
        for (size_t i = v->offsets[id]; i < v->offsets[id + 1]; i++) {
            uint8_t c[4];
            str_add(&name, c, (size_t)utf8_put(c, to_char[(uint8_t)v->bytes.data[i]]));
        }
        json_escape(&quoted[id], name.data, name.size);
        str_printf(out, "%s\n      %s: %d", id ? "," : "", quoted[id].data, id);
    }
    str_puts(out, "\n    },\n    \"merges\": [");
    for (int i = 0; i < v->merge_count; i++)
        str_printf(out, "%s\n      [%s, %s]", i ? "," : "", quoted[v->merges[i][0]].data, quoted[v->merges[i][1]].data);
    str_puts(out, "\n    ]\n  }\n}\n");
    for (int id = 0; id < v->count; id++) free(quoted[id].data);
    free(quoted);
    free(name.data);
}

// The alphabet, in GPT-2's order: printable bytes first.
static inline void bpe_alphabet(BpeVocab *v, int32_t byte_ids[256]) {
    for (int pass = 0; pass < 2; pass++)
        for (int b = 0; b < 256; b++)
            if (byte_is_printable(b) == (pass == 0)) {
                uint8_t byte = (uint8_t)b;
                str_add(&v->bytes, &byte, 1);
                byte_ids[b] = bpe_vocab_add(v);
            }
}

// Words as ids of bytes, in blocks. The words themselves are given back: distinct ones take as much memory as all that
// comes.
static inline void bpe_take_words(BpeTrainer *t, BpeWords *words, const int32_t byte_ids[256]) {
    t->symbols = (int32_t *)mem_alloc(words->bytes.size * sizeof(int32_t));
    for (size_t i = 0; i <= words->mask; i++)
        if (words->slots[i].count) t->block_count += (words->slots[i].size + BPE_BLOCK - 1) / BPE_BLOCK;
    t->blocks = (BpeBlock *)mem_alloc((t->block_count + 1) * sizeof(BpeBlock));
    size_t symbol = 0, block = 0;
    for (size_t i = 0; i <= words->mask; i++) {
        const BpeWord *w = &words->slots[i];
        if (i + BPE_AHEAD <= words->mask && words->slots[i + BPE_AHEAD].count)
            __builtin_prefetch(words->bytes.data + words->slots[i + BPE_AHEAD].offset);
        if (w->count == 0) continue;
        const uint8_t *bytes = (const uint8_t *)words->bytes.data + w->offset;
        for (size_t k = 0; k < w->size; k++) t->symbols[symbol + k] = byte_ids[bytes[k]];
        for (size_t k = 0; k < w->size; k += BPE_BLOCK, block++) {
            BpeBlock *b = &t->blocks[block];
            b->start = symbol + k;
            b->length = w->size - k < BPE_BLOCK ? w->size - k : BPE_BLOCK;
            b->joined = k > 0;
            b->count = w->count;
        }
        symbol += w->size;
    }
    bpe_words_free(words);
}

// Pairs of bytes, of which there are few: a table of all of them counts them first, and then finds them.
static inline void bpe_take_pairs(BpeTrainer *t) {
    BpeNeighbour *all = (BpeNeighbour *)mem_alloc(65536 * sizeof(BpeNeighbour));
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t word = 0; word < t->block_count; word++) {
            const BpeBlock *b = &t->blocks[word];
            const int32_t *s = t->symbols + b->start;
            for (uint32_t i = 0; i + !b[1].joined < b->length; i++) { // over the seam, too
                BpeNeighbour *n = &all[s[i] << 8 | s[i + 1]];
                if (pass == 0) n->is.change += b->count;
                if (n->seen_in == word + 1) continue;
                n->seen_in = word + 1;
                if (pass == 0) n->places++;
                else if (n->is.words) *n->is.words++ = word;
            }
        }
        for (int pair = 0; pass == 0 && pair < 65536; pair++) {
            BpeNeighbour *n = &all[pair];
            n->seen_in = 0;
            n->is.words = bpe_pair_add(t, pair >> 8, pair & 255, n->is.change, n->places);
        }
    }
    free(all);
}

static inline void bpe_trainer_open(BpeTrainer *t, BpeWords *words, const int32_t byte_ids[256], int tokens,
                                    int64_t min_count) {
    memset(t, 0, sizeof *t);
    t->min_count = min_count;
    bpe_table_open(t, 65536);
    t->before.at = (BpeNeighbour *)mem_alloc((size_t)tokens * sizeof(BpeNeighbour));
    t->behind.at = (BpeNeighbour *)mem_alloc((size_t)tokens * sizeof(BpeNeighbour));
    bpe_take_words(t, words, byte_ids);
    bpe_take_pairs(t);
}

// Merges until there are `tokens` tokens or no pair is left. Every token comes from one pair only: where its bytes
// stand between borders of tokens, all earlier merges inside them went as if they stood alone.
static inline void bpe_merge(BpeTrainer *t, BpeVocab *v, int tokens) {
    while (v->count < tokens && t->heap.count > 0) {
        MergeCandidate c = merge_heap_pop(&t->heap);
        if (t->pairs[c.pair].count != -c.order) { // counts only fall while a pair waits: put it where it belongs now
            bpe_consider(t, c.pair);
            continue;
        }
        int32_t parts[2] = {(int32_t)c.left, (int32_t)c.right};
        for (int i = 0; i < 2; i++) {
            size_t from = v->offsets[parts[i]], size = v->offsets[parts[i] + 1] - from;
            v->bytes.data = (char *)mem_grow(v->bytes.data, &v->bytes.capacity, v->bytes.size + size + 1, 1);
            str_add(&v->bytes, v->bytes.data + from, size); // grown before: str_add must not move what it copies
        }
        int32_t id = bpe_vocab_add(v);
        v->merges =
            (int32_t(*)[2])mem_grow(v->merges, &v->merge_capacity, (size_t)v->merge_count + 1, sizeof *v->merges);
        memcpy(v->merges[v->merge_count++], parts, sizeof parts);
        bpe_replace_all(t, c.pair, id);
    }
}

static inline void bpe_trainer_free(BpeTrainer *t) {
    for (size_t i = 0; i < t->arena_count; i++) free(t->arenas[i]);
    free(t->arenas);
    free(t->symbols);
    free(t->blocks);
    free(t->pairs);
    free(t->table);
    free(t->before.at), free(t->before.touched), free(t->before.events);
    free(t->behind.at), free(t->behind.touched), free(t->behind.events);
    free(t->heap.items);
}

static inline bool bpe_too_few(const BpeVocab *v, const BpeSettings *settings, int vocab_size, Error *err) {
    int specials = bpe_specials(settings), possible = (v->count + specials) / 128 * 128;
    const long long least = (long long)settings->min_frequency;
    if (possible < BPE_MIN_VOCAB)
        return error_set(err,
                         "the corpus gives only %d merges of pairs that occur at least %lld times: too little text to "
                         "train a tokenizer; give more text",
                         v->merge_count, least);
    return error_set(err,
                     "the corpus gives only %d merges of pairs that occur at least %lld times, %d are needed for a "
                     "vocabulary of %d; give more text, or --vocab_size=%d",
                     v->merge_count, least, vocab_size - specials - 256, vocab_size, possible);
}

static inline bool bpe_train_words(Tokenizer *out, BpeWords *words, const BpeSettings *settings, BpeStats *stats,
                                   Error *err) {
    int V = (settings->vocab_size + 127) / 128 * 128, tokens = V - bpe_specials(settings);
    int32_t byte_ids[256];
    BpeTrainer t;
    BpeVocab v;
    Str json;
    memset(&v, 0, sizeof v);
    memset(&json, 0, sizeof json);
    v.offsets = (size_t *)mem_alloc((size_t)(V + 1) * sizeof(size_t));
    bpe_alphabet(&v, byte_ids);
    bpe_trainer_open(&t, words, byte_ids, V, settings->min_frequency);
    bpe_merge(&t, &v, tokens);
    stats->merges = v.merge_count;
    stats->work = t.work;
    bool ok = v.count == tokens || bpe_too_few(&v, settings, V, err);
    if (ok) {
        bpe_write_json(&json, &v, settings, V);
        ok = tokenizer_parse(out, json.data, json.size, err);
    }
    bpe_trainer_free(&t);
    free(json.data);
    free(v.merges);
    free(v.bytes.data);
    free(v.offsets);
    return ok;
}

// Refuses settings out of range.
static inline bool bpe_begin(Tokenizer *out, BpeWords *words, const BpeSettings *settings, BpeStats *stats,
                             Error *err) {
    memset(stats, 0, sizeof *stats);
    memset(out, 0, sizeof *out);
    if (settings->vocab_size < BPE_MIN_VOCAB || settings->vocab_size > BPE_MAX_VOCAB)
        return error_set(err, "--vocab_size=%d: expected a number from %d to %d", settings->vocab_size, BPE_MIN_VOCAB,
                         BPE_MAX_VOCAB);
    if (!bpe_check_special(settings, err)) return false;
    if ((settings->vocab_size + 127) / 128 * 128 < 256 + bpe_specials(settings))
        return error_set(err, "--vocab_size=%d has no room for 256 bytes and %d special tokens", settings->vocab_size,
                         bpe_specials(settings));
    bpe_words_open(words, settings->pattern);
    stats->count_seconds = -clock_seconds(); // bpe_finish adds the end
    return true;
}

static inline bool bpe_finish(Tokenizer *out, BpeWords *words, const BpeSettings *settings, BpeStats *stats,
                              Error *err) {
    double counted = clock_seconds();
    stats->count_seconds += counted;
    stats->pretokens = words->pretokens;
    stats->counts = words->counts;
    stats->words = (int64_t)words->used;
    bool ok;
    if (words->used == 0) ok = error_set(err, "the corpus is empty: no text to train a tokenizer on");
    else if (words->used + words->bytes.size / BPE_BLOCK >= UINT32_MAX)
        ok = error_set(err, "%zu distinct words are too many; train on a part of the corpus", words->used);
    else ok = bpe_train_words(out, words, settings, stats, err);
    stats->merge_seconds = clock_seconds() - counted;
    bpe_words_free(words);
    return ok;
}

#define BPE_TOGETHER ((size_t)64 << 20) // bytes of text that are counted at a time, unless a document has more
#define BPE_BATCHES 1000                // and batches, each of which may hold a file open

// Counts the words of all documents.
static inline bool bpe_count_inputs(BpeWords *words, DocInputs *in, BpeStats *stats, Error *err) {
    BpeParts parts;
    DocBatch *batches[BPE_BATCHES], *batch = NULL;
    int count = 0;
    bool ok = true;
    memset(&parts, 0, sizeof parts);
    do {
        ok = doc_inputs_next(in, &batch, err);
        for (size_t i = 0; batch && i < batch->count; i++) bpe_parts_add(&parts, batch->docs[i].text, batch->docs[i].n);
        if (batch) batches[count++] = batch;
        if (batch && parts.bytes < BPE_TOGETHER && count < BPE_BATCHES) continue;
        stats->bytes += (int64_t)parts.bytes;
        if (ok) bpe_words_count_parts(words, &parts);
        while (count > 0) doc_inputs_release(in, batches[--count]);
    } while (ok && batch);
    bpe_parts_free(&parts);
    return ok;
}

// Trains on "FILE,GLOB,FOLDER,...". stats may be NULL. On failure there is nothing to free.
static inline bool bpe_train(Tokenizer *out, const char *list, const DocSettings *documents,
                             const BpeSettings *settings, BpeStats *stats, Error *err) {
    BpeStats own;
    BpeWords words;
    DocInputs in;
    DocSettings whole = *documents;
    whole.whole = true;
    whole.split = DOC_FILE;
    memset(&own, 0, sizeof own);
    if (!stats) stats = &own;
    if (!doc_inputs_open(&in, list, &whole, err)) return false;
    bool ok = bpe_begin(out, &words, settings, stats, err);
    if (ok) {
        FileId *ids = doc_inputs_ids(&in);
        stats->doubles = doc_inputs_doubles(&in, ids, &stats->doubled);
        free(ids);
        ok = bpe_count_inputs(&words, &in, stats, err);
        stats->empty = in.empty;
        stats->without = in.without;
        stats->damage = in.damage;
        memset(&in.damage, 0, sizeof in.damage);
        if (!ok) bpe_words_free(&words);
    }
    doc_inputs_close(&in);
    ok = ok && bpe_finish(out, &words, settings, stats, err);
    if (stats == &own) str_list_free(&own.damage.named);
    return ok;
}

static inline bool bpe_train_text(Tokenizer *out, const char *text, size_t n, const BpeSettings *settings,
                                  BpeStats *stats, Error *err) {
    BpeStats own;
    BpeWords words;
    if (!stats) stats = &own;
    if (!bpe_begin(out, &words, settings, stats, err)) return false;
    stats->bytes = (int64_t)n;
    bpe_words_count_parallel(&words, text, n);
    return bpe_finish(out, &words, settings, stats, err);
}

#endif
