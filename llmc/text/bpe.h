/*
bpe.h: trains a tokenizer: byte-level BPE (Sennrich, Haddow, Birch 2016, on bytes as in GPT-2) with the
split pattern of Llama 3.

    bpe_train(&tok, "FILE,FOLDER,...", &settings, 8192, &stats, err)   whatever doc_inputs.h reads
    bpe_train_text(&tok, text, n, 8192, &stats, err)     one text in memory

1. Every pre-token is counted, in parallel where OpenMP is on. Files are cut where no pre-token reaches
   over (text_safe_cut); of JSON lines, tars and the like the documents are counted, one by one. Bytes that are not
   UTF-8 are left out and counted; files that are no text are refused (reader.h).
2. The most frequent pair of neighbours becomes a token, again and again. Pairs know the words they were
   seen in, so a merge touches only these; a heap gives the next pair, its counts corrected on the way.
3. The result is written as a tokenizer.json and read back, so that what was trained is what is loaded.

Deterministic: of pairs with the same count the one with the smaller left id comes first, then the one
with the smaller right id. Threads and the order of files change nothing. With the same pattern, minimum
count and alphabet the merges are those of Hugging Face's BpeTrainer.

Vocabulary: 256 bytes, merged tokens, BPE_SPECIALS special tokens: end of text, two for chats, padding,
the others reserved for fine-tuning. vocab_size is rounded up to a multiple of 128.

Limits: a pair must occur BPE_MIN_COUNT times. A pre-token longer than BPE_MAX_WORD bytes is counted in
pieces of that size. Memory: about 500 bytes a distinct pre-token.
*/
#ifndef LLMC_BPE_H
#define LLMC_BPE_H

#include "doc_inputs.h"
#include "tokenizer.h"
#ifdef _OPENMP
#include <omp.h>
#endif

#define BPE_SPECIALS 16
#define BPE_MIN_COUNT 2 // a token that was seen once teaches nothing
#define BPE_MIN_VOCAB 384
#define BPE_MAX_VOCAB (1 << 20)
#define BPE_MAX_WORD 4096           // bytes
#define BPE_BLOCK 64                // bytes of a word that a merge reads together; may be tuned
#define BPE_CHUNK ((size_t)1 << 20) // bytes of text counted at a time by one thread

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
    int64_t pretokens;
    TextCounts counts;
} BpeWords;

static inline void bpe_words_open(BpeWords *w) {
    memset(w, 0, sizeof *w);
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
    if (2 * ++w->used <= w->mask) return;
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
            const uint8_t *q = text_split(TEXT_LLAMA3, p, valid_end);
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
        size_t cut = text_safe_cut(TEXT_LLAMA3, text, n, BPE_CHUNK);
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
        BpeWords own;
        bpe_words_open(&own);
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
        for (int64_t i = 0; i < groups; i++) {
            size_t end = i + 1 < groups ? p->groups[i + 1] : p->count;
            for (size_t k = p->groups[i]; k < end; k++) bpe_words_count(&own, p->parts[k].text, p->parts[k].n);
        }
#ifdef _OPENMP
#pragma omp critical
#endif
        bpe_words_merge(words, &own);
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

// A pair of ids. All words that hold it are known when it first appears: with the text, or with the merge
// that made one of its two tokens.
typedef struct {
    int32_t left, right;
    int64_t count;       // exact
    uint32_t *words;     // (word_count); NULL while the words are among the events
    uint32_t word_count; // some may have lost the pair since
    uint32_t seen_in;    // number + 1 of the word of its latest event
} BpePair;

typedef struct {
    uint32_t pair, word;
} BpeEvent;

typedef struct {
    // words, or blocks of a long one, beside each other: a pair of neighbours is in the block of its left symbol
    int32_t *symbols; // of word i at start[i], length[i] of them
    size_t *start;    // (words)
    uint32_t *length; // (words) a block can lose all of its symbols
    int64_t *counts;  // (words)
    bool *joined;     // (words + 1) block i goes on what i - 1 began
    // pairs
    BpePair *pairs;
    size_t pair_count, pair_capacity;
    uint32_t *table; // pair number + 1; 0: free
    uint64_t mask;
    BpeEvent *events;
    size_t event_count, event_capacity;
    MergeHeap heap;
    // memory of the lists of words
    char **arenas;
    size_t arena_count, arena_capacity, arena_used, arena_size;
} BpeTrainer;

static inline void *bpe_arena(BpeTrainer *t, size_t bytes) {
    bytes = (bytes + 7) / 8 * 8;
    if (t->arena_used + bytes > t->arena_size) {
        t->arena_size = bytes > (1 << 20) ? bytes : 1 << 20;
        t->arena_used = 0;
        t->arenas = (char **)mem_grow(t->arenas, &t->arena_capacity, t->arena_count + 1, sizeof(char *));
        t->arenas[t->arena_count] = (char *)malloc(t->arena_size);
        if (!t->arenas[t->arena_count++]) fail("out of memory while training the tokenizer");
    }
    void *p = t->arenas[t->arena_count - 1] + t->arena_used;
    t->arena_used += bytes;
    return p;
}

// Number of a pair, new or known.
static inline uint32_t bpe_pair(BpeTrainer *t, int32_t left, int32_t right) {
    uint64_t slot = tokenizer_mix(tokenizer_pair(left, right)) & t->mask;
    for (; t->table[slot]; slot = (slot + 1) & t->mask) {
        const BpePair *p = &t->pairs[t->table[slot] - 1];
        if (p->left == left && p->right == right) return t->table[slot] - 1;
    }
    t->pairs = (BpePair *)mem_grow(t->pairs, &t->pair_capacity, t->pair_count + 1, sizeof(BpePair));
    BpePair *p = &t->pairs[t->pair_count++];
    memset(p, 0, sizeof *p);
    p->left = left, p->right = right;
    t->table[slot] = (uint32_t)t->pair_count;
    if (2 * t->pair_count > t->mask) {
        free(t->table);
        t->mask = 2 * t->mask + 1;
        t->table = (uint32_t *)mem_alloc((size_t)(t->mask + 1) * sizeof(uint32_t));
        for (size_t i = 0; i < t->pair_count; i++) {
            slot = tokenizer_mix(tokenizer_pair(t->pairs[i].left, t->pairs[i].right)) & t->mask;
            while (t->table[slot]) slot = (slot + 1) & t->mask;
            t->table[slot] = (uint32_t)i + 1;
        }
    }
    return (uint32_t)t->pair_count - 1;
}

// One more occurrence of a pair in a word.
static inline void bpe_gain(BpeTrainer *t, int32_t left, int32_t right, uint32_t word) {
    uint32_t number = bpe_pair(t, left, right);
    BpePair *p = &t->pairs[number];
    p->count += t->counts[word];
    if (p->seen_in == word + 1) return;
    p->seen_in = word + 1;
    p->word_count++;
    t->events = (BpeEvent *)mem_grow(t->events, &t->event_capacity, t->event_count + 1, sizeof(BpeEvent));
    t->events[t->event_count].pair = number;
    t->events[t->event_count++].word = word;
}

static inline void bpe_lose(BpeTrainer *t, int32_t left, int32_t right, uint32_t word) {
    t->pairs[bpe_pair(t, left, right)].count -= t->counts[word];
}

static inline void bpe_consider(BpeTrainer *t, uint32_t pair) {
    const BpePair *p = &t->pairs[pair];
    if (p->count >= BPE_MIN_COUNT) merge_heap_push(&t->heap, -p->count, (uint32_t)p->left, (uint32_t)p->right, pair);
}

// Moves the events into the lists of their pairs and makes these pairs candidates.
static inline void bpe_settle(BpeTrainer *t) {
    for (size_t i = 0; i < t->event_count; i++) {
        BpePair *p = &t->pairs[t->events[i].pair];
        if (!p->words) {
            p->words = (uint32_t *)bpe_arena(t, p->word_count * sizeof(uint32_t));
            p->word_count = 0;
            bpe_consider(t, t->events[i].pair);
        }
        p->words[p->word_count++] = t->events[i].word;
    }
    t->event_count = 0;
}

// The block of the same word behind this one, or before it, that has symbols; UINT32_MAX: there is none.
static inline uint32_t bpe_block_behind(const BpeTrainer *t, uint32_t word) {
    while (t->joined[word + 1])
        if (t->length[++word]) return word;
    return UINT32_MAX;
}
static inline uint32_t bpe_block_before(const BpeTrainer *t, uint32_t word) {
    while (t->joined[word])
        if (t->length[--word]) return word;
    return UINT32_MAX;
}

// Replaces left, right by `whole` in a word, or a block of one, and keeps the counts of pairs exact. What follows the
// last symbol is the first of the block behind: a pair over the seam becomes one symbol here, and that block loses one.
static inline void bpe_replace(BpeTrainer *t, uint32_t word, int32_t left, int32_t right, int32_t whole) {
    int32_t *s = t->symbols + t->start[word];
    uint32_t n = t->length[word], to = 0;
    for (uint32_t i = 0; i < n;) {
        uint32_t behind = i + 2 < n || s[i] != left ? UINT32_MAX : bpe_block_behind(t, word);
        bool seam = i + 1 >= n;
        if (s[i] != left || (seam && behind == UINT32_MAX) ||
            (seam ? t->symbols[t->start[behind]] : s[i + 1]) != right) {
            s[to++] = s[i++];
            continue;
        }
        uint32_t before = to > 0 ? word : bpe_block_before(t, word), owner = seam ? behind : word;
        if (seam) { // its first symbol goes
            t->start[behind]++, t->length[behind]--;
            if (t->length[behind] == 0) behind = bpe_block_behind(t, behind);
        }
        if (before != UINT32_MAX) {
            int32_t last = to > 0 ? s[to - 1] : t->symbols[t->start[before] + t->length[before] - 1];
            bpe_lose(t, last, left, before);
            bpe_gain(t, last, whole, before);
        }
        if (i + 2 < n || behind != UINT32_MAX) {
            int32_t next = i + 2 < n ? s[i + 2] : t->symbols[t->start[behind]];
            bpe_lose(t, right, next, owner);
            bpe_gain(t, whole, next, word);
        }
        s[to++] = whole;
        i += seam ? 1 : 2;
    }
    t->length[word] = to;
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

// The text of the tokenizer.json.
static inline void bpe_write_json(Str *out, const BpeVocab *v, int vocab_size) {
    static const char *const names[4] = {TOKENIZER_EOT, "<|im_start|>", "<|im_end|>", "<|pad|>"};
    uint32_t to_char[256];
    int16_t to_byte[324];
    byte_names(to_char, to_byte);
    str_puts(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    for (int i = 0; i < vocab_size - v->count; i++) {
        Path name = i < 4 ? path_of("%s", names[i]) : path_of("<|reserved_%d|>", i - 4);
        str_printf(out,
                   "%s\n    {\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, \"rstrip\": "
                   "false, \"normalized\": false, \"special\": true}",
                   i ? "," : "", v->count + i, name.text);
    }
    str_puts(out, "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {\n    \"type\": \"Sequence\",\n    "
                  "\"pretokenizers\": [\n      {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    const char *regex = text_pattern(TEXT_LLAMA3).regex;
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

// Words as ids of bytes, and their pairs.
static inline void bpe_take_words(BpeTrainer *t, const BpeWords *words, const int32_t byte_ids[256]) {
    t->symbols = (int32_t *)mem_alloc(words->bytes.size * sizeof(int32_t));
    size_t blocks = 0;
    for (size_t i = 0; i <= words->mask; i++)
        if (words->slots[i].count) blocks += (words->slots[i].size + BPE_BLOCK - 1) / BPE_BLOCK;
    t->start = (size_t *)mem_alloc(blocks * sizeof(size_t));
    t->length = (uint32_t *)mem_alloc(blocks * sizeof(uint32_t));
    t->counts = (int64_t *)mem_alloc(blocks * sizeof(int64_t));
    t->joined = (bool *)mem_alloc((blocks + 1) * sizeof(bool));
    t->mask = 65535;
    t->table = (uint32_t *)mem_alloc((size_t)(t->mask + 1) * sizeof(uint32_t));
    size_t symbol = 0;
    uint32_t word = 0;
    for (size_t i = 0; i <= words->mask; i++) {
        const BpeWord *w = &words->slots[i];
        if (w->count == 0) continue;
        const uint8_t *bytes = (const uint8_t *)words->bytes.data + w->offset;
        int32_t *s = t->symbols + symbol;
        for (size_t k = 0; k < w->size; k++) s[k] = byte_ids[bytes[k]];
        for (size_t k = 0; k < w->size; k++) {
            if (k % BPE_BLOCK == 0) {
                t->start[word] = symbol + k;
                t->length[word] = (uint32_t)int64_min(BPE_BLOCK, (int64_t)(w->size - k));
                t->counts[word] = w->count;
                t->joined[word++] = k > 0;
            }
            if (k + 1 < w->size) bpe_gain(t, s[k], s[k + 1], word - 1);
        }
        symbol += w->size;
    }
    bpe_settle(t);
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
        const uint32_t *list = t->pairs[c.pair].words; // t->pairs itself may move
        uint32_t count = t->pairs[c.pair].word_count;
        for (uint32_t i = 0; i < count; i++) bpe_replace(t, list[i], parts[0], parts[1], id);
        t->pairs[c.pair].count = 0;
        bpe_settle(t);
    }
}

static inline void bpe_trainer_free(BpeTrainer *t) {
    for (size_t i = 0; i < t->arena_count; i++) free(t->arenas[i]);
    free(t->arenas);
    free(t->symbols);
    free(t->start);
    free(t->length);
    free(t->counts);
    free(t->joined);
    free(t->pairs);
    free(t->table);
    free(t->events);
    free(t->heap.items);
}

static inline bool bpe_too_few(const BpeVocab *v, int vocab_size, Error *err) {
    int possible = (v->count + BPE_SPECIALS) / 128 * 128;
    if (possible < BPE_MIN_VOCAB)
        return error_set(err,
                         "the corpus gives only %d merges of pairs that occur at least %d times: too little text to "
                         "train a tokenizer; give more text",
                         v->merge_count, BPE_MIN_COUNT);
    return error_set(err,
                     "the corpus gives only %d merges of pairs that occur at least %d times, %d are needed for a "
                     "vocabulary of %d; give more text, or --vocab_size=%d",
                     v->merge_count, BPE_MIN_COUNT, vocab_size - BPE_SPECIALS - 256, vocab_size, possible);
}

static inline bool bpe_train_words(Tokenizer *out, const BpeWords *words, int vocab_size, BpeStats *stats, Error *err) {
    int V = (vocab_size + 127) / 128 * 128, tokens = V - BPE_SPECIALS;
    int32_t byte_ids[256];
    BpeTrainer t;
    BpeVocab v;
    Str json;
    memset(&t, 0, sizeof t);
    memset(&v, 0, sizeof v);
    memset(&json, 0, sizeof json);
    v.offsets = (size_t *)mem_alloc((size_t)(V + 1) * sizeof(size_t));
    bpe_alphabet(&v, byte_ids);
    bpe_take_words(&t, words, byte_ids);
    bpe_merge(&t, &v, tokens);
    stats->merges = v.merge_count;
    bool ok = v.count == tokens || bpe_too_few(&v, V, err);
    if (ok) {
        bpe_write_json(&json, &v, V);
        ok = tokenizer_parse(out, json.data, json.size, err);
    }
    bpe_trainer_free(&t);
    free(json.data);
    free(v.merges);
    free(v.bytes.data);
    free(v.offsets);
    return ok;
}

// Refuses a size out of range.
static inline bool bpe_begin(Tokenizer *out, BpeWords *words, int vocab_size, BpeStats *stats, Error *err) {
    memset(stats, 0, sizeof *stats);
    memset(out, 0, sizeof *out);
    if (vocab_size < BPE_MIN_VOCAB || vocab_size > BPE_MAX_VOCAB)
        return error_set(err, "--vocab_size=%d: expected a number from %d to %d", vocab_size, BPE_MIN_VOCAB,
                         BPE_MAX_VOCAB);
    bpe_words_open(words);
    stats->count_seconds = -clock_seconds(); // bpe_finish adds the end
    return true;
}

static inline bool bpe_finish(Tokenizer *out, BpeWords *words, int vocab_size, BpeStats *stats, Error *err) {
    double counted = clock_seconds();
    stats->count_seconds += counted;
    stats->pretokens = words->pretokens;
    stats->counts = words->counts;
    stats->words = (int64_t)words->used;
    bool ok;
    if (words->used == 0) ok = error_set(err, "the corpus is empty: no text to train a tokenizer on");
    else if (words->used + words->bytes.size / BPE_BLOCK >= UINT32_MAX)
        ok = error_set(err, "%zu distinct words are too many; train on a part of the corpus", words->used);
    else ok = bpe_train_words(out, words, vocab_size, stats, err);
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
static inline bool bpe_train(Tokenizer *out, const char *list, const DocSettings *settings, int vocab_size,
                             BpeStats *stats, Error *err) {
    BpeStats own;
    BpeWords words;
    DocInputs in;
    DocSettings whole = *settings;
    whole.whole = true;
    whole.split = DOC_FILE;
    memset(&own, 0, sizeof own);
    if (!stats) stats = &own;
    if (!doc_inputs_open(&in, list, &whole, err)) return false;
    bool ok = bpe_begin(out, &words, vocab_size, stats, err);
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
    ok = ok && bpe_finish(out, &words, vocab_size, stats, err);
    if (stats == &own) str_list_free(&own.damage.named);
    return ok;
}

static inline bool bpe_train_text(Tokenizer *out, const char *text, size_t n, int vocab_size, BpeStats *stats,
                                  Error *err) {
    BpeStats own;
    BpeWords words;
    if (!stats) stats = &own;
    if (!bpe_begin(out, &words, vocab_size, stats, err)) return false;
    stats->bytes = (int64_t)n;
    bpe_words_count_parallel(&words, text, n);
    return bpe_finish(out, &words, vocab_size, stats, err);
}

#endif
