/*
tokenizer.h: text to token ids and back: byte-level BPE as in tokenizer.json of Hugging Face tokenizers.

    tokenizer_load(&tok, "tokenizer.json", err)
    TokenizerCache cache = {0};  IdList ids = {0};                 one cache a thread
    tokenizer_encode(&tok, &cache, text, n, &ids);                 appends; plain text only
    tokenizer_bytes(&tok, id, &length)                             what a token stands for
    tokenizer_free(&tok); tokenizer_cache_free(&cache); free(ids.items);

What encode gives is what Hugging Face gives for the same file with add_special_tokens=False and
encode_special_tokens=True: text that looks like a special token is plain text. (Added tokens that the
file does not call special are found in the text, there and here.)

Bytes that are not UTF-8, which Hugging Face cannot be given at all: the text is cut into maximal runs of
valid and of invalid bytes; a valid run is encoded as a text of its own, an invalid one becomes one byte
token for each byte. So any bytes come back unchanged (unless the file asks for NFC).

What is read: model BPE with all 256 bytes in its vocabulary; a pre-tokenizer ByteLevel (GPT-2), or Split
by one of the patterns of text.h and ByteLevel (Llama 3, Qwen 2, GPT-4o); normalizer null or NFC;
ignore_merges. Any other field that would change the ids is refused by name. Truncation, padding,
post-processor and decoder have no part in the ids of plain text and are kept, not obeyed.

What is written: the JSON text as it was read, byte for byte; for a tokenizer that was trained here, the
text that bpe.h composed, with these ids: 0-255 bytes in GPT-2's order, then merged tokens, then special
tokens, the reserved ones last. So ids and embeddings of text tokens stay together, and a reserved token
that gets a meaning later changes no other id. vocab_size is a multiple of 128 and every id below exists.

Limits: 2^24 ids; a pre-token longer than 1 GiB is cut there.
*/
#ifndef LLMC_TOKENIZER_H
#define LLMC_TOKENIZER_H

#include "../base/file.h"
#include "../base/hash.h"
#include "../base/json.h"
#include "text.h"

#define TOKENIZER_MAX_IDS (1 << 24)
#define TOKENIZER_MAX_PIECE ((size_t)1 << 30)
#define TOKENIZER_EOT "<|endoftext|>"

typedef enum {
    TOKEN_MISSING, // no token has this id: only in files of others
    TOKEN_NORMAL,  // bytes or merged
    TOKEN_SPECIAL, // never made from text; stands for no bytes
    TOKEN_ADDED    // not special: found in text before everything else
} TokenKind;

typedef struct {
    uint64_t pair;    // tokenizer_pair; UINT64_MAX: free
    int32_t rank, id; // id of the whole
} TokenizerMerge;

// An added token, searched for in text.
typedef struct {
    char *text; // (size)
    size_t size;
    int id;
    bool special;
} AddedToken;

typedef struct {
    int vocab_size; // largest id + 1
    int eot;        // id of end of text, or -1
    int bos;        // id that the file's post-processor puts in front of every text, or -1
    uint64_t hash;  // of everything that decides ids and their meaning

    TextPattern pattern;
    bool nfc, ignore_merges;

    uint8_t *kinds;        // (vocab_size) TokenKind
    char *names;           // NUL-terminated names as in the file, one after the other
    size_t *name_offsets;  // (vocab_size)
    uint8_t *bytes;        // what the tokens stand for, one after the other
    size_t *byte_offsets;  // (vocab_size + 1)
    int32_t byte_ids[256]; // token of each byte

    int merge_count;
    int32_t (*merges)[2]; // (merge_count, 2) left, right, by rank
    TokenizerMerge *merge_table;
    uint64_t merge_mask; // slots - 1

    int32_t *word_table; // ids by bytes, -1: free; only with ignore_merges
    uint64_t word_mask;

    AddedToken *added[2]; // [1]: searched after normalisation; only where one is not special
    int added_count[2];
    bool added_first[2][256]; // first bytes

    char *json; // the file
    size_t json_size;
} Tokenizer;

typedef struct {
    int32_t *items;
    size_t count, capacity;
} IdList;

static inline void id_list_add(IdList *list, int32_t id) {
    if (list->count == list->capacity)
        list->items = (int32_t *)mem_grow(list->items, &list->capacity, list->count + 1, sizeof(int32_t));
    list->items[list->count++] = id;
}

// ---------------------------------------------------------------- bytes as characters

// GPT-2's names of bytes: printable characters of Latin-1 stand for themselves, the other 68 bytes are
// U+0100 upwards in their order (encoder.py of the GPT-2 release, ByteLevel in Hugging Face tokenizers).
static inline bool byte_is_printable(int byte) { return (byte > 32 && byte < 127) || (byte > 160 && byte != 173); }

static inline void byte_names(uint32_t to_char[256], int16_t to_byte[324]) {
    uint32_t next = 256;
    for (int i = 0; i < 324; i++) to_byte[i] = -1;
    for (int b = 0; b < 256; b++) {
        to_char[b] = byte_is_printable(b) ? (uint32_t)b : next++;
        to_byte[to_char[b]] = (int16_t)b;
    }
}

// ---------------------------------------------------------------- lookups

static inline uint64_t tokenizer_mix(uint64_t x) {
    x *= 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

// Two ids as one number; UINT64_MAX is no pair.
static inline uint64_t tokenizer_pair(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline uint64_t tokenizer_hash_bytes(const uint8_t *p, size_t n) {
    uint64_t h = n, eight;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&eight, p, 8);
        h = tokenizer_mix(h ^ eight);
    }
    eight = 0;
    if (n >= 4) { // two loads that overlap
        uint32_t low, last;
        memcpy(&low, p, 4);
        memcpy(&last, p + n - 4, 4);
        eight = (uint64_t)last << 32 | low;
    } else if (n > 0) {
        eight = (uint64_t)p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16;
    }
    return tokenizer_mix(tokenizer_mix(h ^ eight));
}

// The merge of two ids, or NULL.
static inline const TokenizerMerge *tokenizer_merge(const Tokenizer *tok, int32_t left, int32_t right) {
    uint64_t pair = tokenizer_pair(left, right);
    for (uint64_t slot = tokenizer_mix(pair) & tok->merge_mask;; slot = (slot + 1) & tok->merge_mask) {
        const TokenizerMerge *m = &tok->merge_table[slot];
        if (m->pair == pair) return m;
        if (m->pair == UINT64_MAX) return NULL;
    }
}

// The bytes that a token stands for, not NUL-terminated; special tokens and missing ids stand for none.
static inline const uint8_t *tokenizer_bytes(const Tokenizer *tok, int id, int *length) {
    if (id < 0 || id >= tok->vocab_size) {
        *length = 0;
        return tok->bytes;
    }
    *length = (int)(tok->byte_offsets[id + 1] - tok->byte_offsets[id]);
    return tok->bytes + tok->byte_offsets[id];
}

// The name of a token as in the file: bytes as characters, e.g. "Ġund", or "<|endoftext|>".
static inline const char *tokenizer_name(const Tokenizer *tok, int id) {
    return id >= 0 && id < tok->vocab_size ? tok->names + tok->name_offsets[id] : "";
}

static inline TokenKind tokenizer_kind(const Tokenizer *tok, int id) {
    return id >= 0 && id < tok->vocab_size ? (TokenKind)tok->kinds[id] : TOKEN_MISSING;
}

// The id of a special or added token, or -1.
static inline int tokenizer_special(const Tokenizer *tok, const char *name) {
    for (int id = tok->vocab_size - 1; id >= 0; id--)
        if (tok->kinds[id] >= TOKEN_SPECIAL && strcmp(tokenizer_name(tok, id), name) == 0) return id;
    return -1;
}

// The token that stands for exactly these bytes; -1: none. Needs word_table.
static inline int tokenizer_word(const Tokenizer *tok, const uint8_t *p, size_t n) {
    for (uint64_t slot = tokenizer_hash_bytes(p, n) & tok->word_mask;; slot = (slot + 1) & tok->word_mask) {
        int id = tok->word_table[slot], length;
        if (id < 0) return -1;
        const uint8_t *bytes = tokenizer_bytes(tok, id, &length);
        if ((size_t)length == n && memcmp(bytes, p, n) == 0) return id;
    }
}

// ---------------------------------------------------------------- merging

#define TOKENIZER_SHORT 48 // bytes up to which scanning for the best pair beats a heap

// The rule of BPE: while two neighbours have a merge, the merge of lowest rank is done, the leftmost
// first. Quadratic in n, and for short pieces the fastest.
static inline int tokenizer_merge_short(const Tokenizer *tok, const uint8_t *p, int n, int32_t *ids) {
    const TokenizerMerge *merges[TOKENIZER_SHORT]; // of ids[i] and ids[i + 1]
    for (int i = 0; i < n; i++) ids[i] = tok->byte_ids[p[i]];
    for (int i = 0; i + 1 < n; i++) merges[i] = tokenizer_merge(tok, ids[i], ids[i + 1]);
    for (;;) {
        int best = -1, rank = INT32_MAX;
        for (int i = 0; i + 1 < n; i++)
            if (merges[i] && merges[i]->rank < rank) rank = merges[i]->rank, best = i;
        if (best < 0) return n;
        ids[best] = merges[best]->id;
        n--;
        for (int i = best + 1; i < n; i++) ids[i] = ids[i + 1];
        for (int i = best + 1; i + 1 < n; i++) merges[i] = merges[i + 1];
        if (best > 0) merges[best - 1] = tokenizer_merge(tok, ids[best - 1], ids[best]);
        if (best + 1 < n) merges[best] = tokenizer_merge(tok, ids[best], ids[best + 1]);
    }
}

// A merge that may come next: in a text, or (bpe.h) in training. Of equal ones the smaller left, then right comes
// first.
typedef struct {
    int64_t order;        // the smallest comes first: the rank; in training minus the count
    uint32_t left, right; // positions in the text; in training ids
    uint32_t pair;        // the rank; in training the pair's number
} MergeCandidate;

typedef struct {
    MergeCandidate *items; // (count) a binary heap
    size_t count, capacity;
} MergeHeap;

static inline bool merge_before(const MergeCandidate *a, const MergeCandidate *b) {
    if (a->order != b->order) return a->order < b->order;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static inline void merge_heap_push(MergeHeap *heap, int64_t order, uint32_t left, uint32_t right, uint32_t pair) {
    MergeCandidate c = {order, left, right, pair};
    heap->items = (MergeCandidate *)mem_grow(heap->items, &heap->capacity, heap->count + 1, sizeof(MergeCandidate));
    size_t i = heap->count++;
    for (; i > 0 && merge_before(&c, &heap->items[(i - 1) / 2]); i = (i - 1) / 2)
        heap->items[i] = heap->items[(i - 1) / 2];
    heap->items[i] = c;
}

static inline MergeCandidate merge_heap_pop(MergeHeap *heap) {
    MergeCandidate top = heap->items[0], last = heap->items[--heap->count];
    size_t i = 0, n = heap->count;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && merge_before(&heap->items[child + 1], &heap->items[child])) child++;
        if (!merge_before(&heap->items[child], &last)) break;
        heap->items[i] = heap->items[child];
        i = child;
    }
    if (n > 0) heap->items[i] = last;
    return top;
}

// Makes the neighbours at left and right a candidate, if they have a merge.
static inline void tokenizer_consider(MergeHeap *heap, const Tokenizer *tok, const int32_t *ids, uint32_t left,
                                      uint32_t right) {
    const TokenizerMerge *m = tokenizer_merge(tok, ids[left], ids[right]);
    if (m) merge_heap_push(heap, m->rank, left, right, (uint32_t)m->rank);
}

// The same rule with a linked list and a heap: O(n log n).
static inline void tokenizer_merge_long(const Tokenizer *tok, const uint8_t *p, size_t n, IdList *out) {
    const uint32_t none = UINT32_MAX;
    int32_t *ids = (int32_t *)mem_alloc(n * sizeof(int32_t)); // -1: merged into the one before
    uint32_t *next = (uint32_t *)mem_alloc(n * sizeof(uint32_t)),
             *previous = (uint32_t *)mem_alloc(n * sizeof(uint32_t));
    MergeHeap heap;
    memset(&heap, 0, sizeof heap);
    for (size_t i = 0; i < n; i++) {
        ids[i] = tok->byte_ids[p[i]];
        next[i] = i + 1 < n ? (uint32_t)i + 1 : none;
        previous[i] = i > 0 ? (uint32_t)i - 1 : none;
    }
    for (size_t i = 0; i + 1 < n; i++) tokenizer_consider(&heap, tok, ids, (uint32_t)i, (uint32_t)i + 1);
    while (heap.count > 0) {
        MergeCandidate c = merge_heap_pop(&heap);
        const int32_t *pair = tok->merges[c.pair];
        // Out of date where one of the two has changed since; ids never come back at the same place.
        if (ids[c.left] != pair[0] || next[c.left] != c.right || ids[c.right] != pair[1]) continue;
        ids[c.left] = tokenizer_merge(tok, pair[0], pair[1])->id;
        ids[c.right] = -1;
        uint32_t after = next[c.left] = next[c.right];
        if (after != none) {
            previous[after] = c.left;
            tokenizer_consider(&heap, tok, ids, c.left, after);
        }
        if (previous[c.left] != none) tokenizer_consider(&heap, tok, ids, previous[c.left], c.left);
    }
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0) id_list_add(out, ids[i]);
    free(ids);
    free(next);
    free(previous);
    free(heap.items);
}

// One pre-token without the cache.
static inline void tokenizer_encode_piece(const Tokenizer *tok, const uint8_t *p, size_t n, IdList *out) {
    if (tok->ignore_merges) {
        int id = tokenizer_word(tok, p, n);
        if (id >= 0) {
            id_list_add(out, id);
            return;
        }
    }
    if (n > TOKENIZER_SHORT) {
        tokenizer_merge_long(tok, p, n, out);
        return;
    }
    int32_t ids[TOKENIZER_SHORT];
    int count = tokenizer_merge_short(tok, p, (int)n, ids);
    for (int i = 0; i < count; i++) id_list_add(out, ids[i]);
}

// ---------------------------------------------------------------- cache from pre-token to ids

#define TOKENIZER_CACHE_SLOTS (1 << 20) // at most: 32 MiB; then it is emptied
#define TOKENIZER_CACHE_LENGTH 255      // longer pre-tokens are not kept
#define TOKENIZER_BATCH 32              // pre-tokens; 16 to 64 are equally fast

// 32 bytes: two of them fill a cache line.
typedef struct {
    uint64_t key[2]; // up to 15 bytes and their number in the last; longer ones: hash, and 0xff in the last
    uint32_t count;  // of ids; 0: a free slot
    int32_t ids[3];  // up to 2 ids with a long key, then the offset of the bytes is the third; up to 3 otherwise
} TokenizerCached;   // more ids than fit: ids[0] is their offset in the store

// {0} is empty. Belongs to one thread and one tokenizer.
typedef struct {
    TokenizerCached *slots;
    uint64_t mask;
    size_t used;
    IdList ids;     // ids that do not fit into a slot
    Str bytes;      // pre-tokens that do not fit
    uint64_t owner; // hash of the tokenizer
    Str normal;     // text in NFC
} TokenizerCache;

static inline void tokenizer_cache_free(TokenizerCache *c) {
    free(c->slots);
    free(c->ids.items);
    free(c->bytes.data);
    free(c->normal.data);
    memset(c, 0, sizeof *c);
}

static inline void tokenizer_cache_empty(TokenizerCache *c, size_t slots) {
    free(c->slots);
    c->slots = (TokenizerCached *)mem_alloc(slots * sizeof(TokenizerCached));
    c->mask = slots - 1;
    c->used = 0;
    c->ids.count = 0;
    c->bytes.size = 0;
}

static inline uint64_t tokenizer_cache_hash(const uint64_t key[2]) {
    return tokenizer_mix(key[0] ^ tokenizer_mix(key[1]));
}

static inline void tokenizer_cache_grow(TokenizerCache *c) {
    size_t slots = (size_t)c->mask + 1;
    if (slots >= TOKENIZER_CACHE_SLOTS) {
        tokenizer_cache_empty(c, slots);
        return;
    }
    TokenizerCached *grown = (TokenizerCached *)mem_alloc(2 * slots * sizeof(TokenizerCached));
    uint64_t mask = 2 * slots - 1;
    for (size_t i = 0; i < slots; i++) {
        if (c->slots[i].count == 0) continue;
        uint64_t slot = tokenizer_cache_hash(c->slots[i].key) & mask;
        while (grown[slot].count) slot = (slot + 1) & mask;
        grown[slot] = c->slots[i];
    }
    free(c->slots);
    c->slots = grown;
    c->mask = mask;
}

// A pre-token on its way through the cache.
typedef struct {
    const uint8_t *p;
    size_t n;
    uint64_t key[2], hash;
} TokenizerPiece;

// 16 bytes may be read from p where `roomy`.
static inline void tokenizer_piece_key(TokenizerPiece *piece, const uint8_t *p, size_t n, bool roomy) {
    uint64_t *key = piece->key;
    piece->p = p;
    piece->n = n;
    if (n > 15) {
        key[0] = tokenizer_hash_bytes(p, n);
        key[1] = (uint64_t)0xff << 56 | n;
    } else if (roomy) {
        memcpy(key, p, 16);
        key[0] &= UINT64_MAX >> (n < 8 ? 64 - 8 * n : 0);
        key[1] = n > 8 ? key[1] & (UINT64_MAX >> (128 - 8 * n)) : 0;
        key[1] |= (uint64_t)n << 56;
    } else {
        key[0] = key[1] = 0;
        memcpy(key, p, n);
        key[1] |= (uint64_t)n << 56;
    }
    piece->hash = tokenizer_cache_hash(key);
}

static inline void tokenizer_encode_cached(const Tokenizer *tok, TokenizerCache *c, const TokenizerPiece *piece,
                                           IdList *out) {
    const uint64_t *key = piece->key;
    const uint8_t *p = piece->p;
    size_t n = piece->n;
    bool is_long = n > 15;
    uint64_t slot = piece->hash & c->mask;
    uint32_t fits = is_long ? 2 : 3;
    for (;; slot = (slot + 1) & c->mask) {
        const TokenizerCached *e = &c->slots[slot];
        if (e->count == 0) break;
        if (e->key[0] != key[0] || e->key[1] != key[1]) continue;
        if (is_long && memcmp(c->bytes.data + (uint32_t)e->ids[2], p, n) != 0) continue;
        out->items = (int32_t *)mem_grow(out->items, &out->capacity, out->count + e->count + 3, sizeof(int32_t));
        int32_t *to = out->items + out->count;
        if (e->count <= fits) memcpy(to, e->ids, 3 * sizeof(int32_t)); // always three: no branch on the count
        else memcpy(to, c->ids.items + (uint32_t)e->ids[0], e->count * sizeof(int32_t));
        out->count += e->count;
        return;
    }
    size_t start = out->count;
    tokenizer_encode_piece(tok, p, n, out);
    if (n > TOKENIZER_CACHE_LENGTH) return;
    if (2 * c->used > c->mask || c->bytes.size > INT32_MAX - 4096 || c->ids.count > INT32_MAX - 4096) {
        tokenizer_cache_grow(c);
        for (slot = piece->hash & c->mask; c->slots[slot].count;) slot = (slot + 1) & c->mask;
    }
    TokenizerCached *e = &c->slots[slot];
    e->key[0] = key[0], e->key[1] = key[1];
    e->count = (uint32_t)(out->count - start);
    c->used++;
    if (e->count <= fits) {
        for (uint32_t i = 0; i < e->count; i++) e->ids[i] = out->items[start + i];
    } else {
        e->ids[0] = (int32_t)c->ids.count;
        for (size_t i = start; i < out->count; i++) id_list_add(&c->ids, out->items[i]);
    }
    if (is_long) {
        e->ids[2] = (int32_t)c->bytes.size;
        str_add(&c->bytes, p, n);
    }
}

// ---------------------------------------------------------------- encoding

// Valid UTF-8 in normal form without added tokens.
static inline void tokenizer_encode_pieces(const Tokenizer *tok, TokenizerCache *cache, const uint8_t *p,
                                           const uint8_t *end, IdList *out) {
    // In batches: splitting runs ahead, so that the slots are in the processor's cache when they are needed.
    TokenizerPiece batch[TOKENIZER_BATCH];
    while (p < end) {
        int count = 0;
        for (; p < end && count < TOKENIZER_BATCH; count++) {
            const uint8_t *q = text_split(tok->pattern, p, end);
            if ((size_t)(q - p) > TOKENIZER_MAX_PIECE) q = p + TOKENIZER_MAX_PIECE;
            if (cache) {
                tokenizer_piece_key(&batch[count], p, (size_t)(q - p), end - p >= 16);
                __builtin_prefetch(&cache->slots[batch[count].hash & cache->mask]);
            } else {
                tokenizer_encode_piece(tok, p, (size_t)(q - p), out);
            }
            p = q;
        }
        for (int i = 0; cache && i < count; i++) tokenizer_encode_cached(tok, cache, &batch[i], out);
    }
}

// The longest added token at p, or NULL.
static inline const AddedToken *tokenizer_added_at(const Tokenizer *tok, int stage, const uint8_t *p,
                                                   const uint8_t *end) {
    const AddedToken *best = NULL;
    for (int i = 0; i < tok->added_count[stage]; i++) {
        const AddedToken *a = &tok->added[stage][i];
        if ((size_t)(end - p) >= a->size && memcmp(p, a->text, a->size) == 0 && (!best || a->size > best->size))
            best = a;
    }
    return best;
}

// Valid UTF-8. Stage 0: added tokens that are looked for in the text as it is; then normalisation;
// stage 1: added tokens that are looked for afterwards. Special tokens take part in the search, since they
// may hide others, and are then treated as text.
static inline void tokenizer_encode_valid(const Tokenizer *tok, TokenizerCache *cache, const uint8_t *p,
                                          const uint8_t *end, int stage, IdList *out) {
    const uint8_t *start = p; // of the text not yet encoded
    for (;;) {
        const AddedToken *found = NULL;
        if (tok->added_count[stage] == 0) p = end;
        while (p < end) {
            if (tok->added_first[stage][*p] && (found = tokenizer_added_at(tok, stage, p, end)) != NULL) {
                if (!found->special) break;
                p += found->size;
                found = NULL;
            } else {
                p++;
            }
        }
        if (p > start && stage == 1) {
            tokenizer_encode_pieces(tok, cache, start, p, out);
        } else if (p > start && tok->nfc) {
            Str own;
            memset(&own, 0, sizeof own);
            Str *normal = cache ? &cache->normal : &own;
            normal->size = 0;
            text_nfc(normal, (const char *)start, (size_t)(p - start));
            const uint8_t *text = (const uint8_t *)normal->data;
            tokenizer_encode_valid(tok, cache, text, text + normal->size, 1, out);
            free(own.data);
        } else if (p > start) {
            tokenizer_encode_valid(tok, cache, start, p, 1, out);
        }
        if (!found) return;
        id_list_add(out, found->id);
        start = p += found->size;
    }
}

// Appends the ids of n bytes, which may be anything, to out; returns how many. Never makes special tokens.
// With a cache (of this thread) repeated words cost one lookup.
static inline size_t tokenizer_encode(const Tokenizer *tok, TokenizerCache *cache, const char *text, size_t n,
                                      IdList *out) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    size_t before = out->count;
    if (cache && (!cache->slots || cache->owner != tok->hash)) {
        tokenizer_cache_empty(cache, 4096);
        cache->owner = tok->hash;
    }
    while (p < end) {
        size_t valid = text_valid(p, end);
        if (valid) tokenizer_encode_valid(tok, cache, p, p + valid, 0, out);
        p += valid;
        size_t invalid = text_invalid(p, end);
        for (size_t i = 0; i < invalid; i++) id_list_add(out, tok->byte_ids[p[i]]);
        p += invalid;
    }
    return out->count - before;
}

// Appends the bytes of ids; special tokens and ids out of range give none.
static inline void tokenizer_decode(const Tokenizer *tok, const int32_t *ids, size_t n, Str *out) {
    for (size_t i = 0; i < n; i++) {
        int length;
        const uint8_t *bytes = tokenizer_bytes(tok, ids[i], &length);
        str_add(out, bytes, (size_t)length);
    }
}

// ---------------------------------------------------------------- loading

static inline void tokenizer_free(Tokenizer *tok) {
    for (int stage = 0; stage < 2; stage++) {
        for (int i = 0; i < tok->added_count[stage]; i++) free(tok->added[stage][i].text);
        free(tok->added[stage]);
    }
    free(tok->kinds);
    free(tok->names);
    free(tok->name_offsets);
    free(tok->bytes);
    free(tok->byte_offsets);
    free(tok->merges);
    free(tok->merge_table);
    free(tok->word_table);
    free(tok->json);
    memset(tok, 0, sizeof *tok);
}

// Names to ids while loading, and back. Names may hold any bytes but NUL.
typedef struct {
    const char *name;
    size_t size;
    int id; // -1: free
} TokenizerName;

typedef struct {
    TokenizerName *slots;
    uint64_t mask;
    const char **by_id; // (vocab_size)
} TokenizerNames;

static inline TokenizerName *tokenizer_name_slot(const TokenizerNames *names, const char *name, size_t n) {
    for (uint64_t slot = tokenizer_hash_bytes((const uint8_t *)name, n) & names->mask;;
         slot = (slot + 1) & names->mask) {
        TokenizerName *s = &names->slots[slot];
        if (s->id < 0 || (s->size == n && memcmp(s->name, name, n) == 0)) return s;
    }
}

static inline bool json_is_empty(const Json *j) { // null, missing or ""
    return !j || j->type == JSON_NULL || (j->type == JSON_STRING && j->size == 0);
}

static inline bool tokenizer_read_normalizer(Tokenizer *tok, const Json *j, Error *err) {
    if (json_is_empty(j)) return true;
    const char *type = json_string(json_get(j, "type"), "");
    if (strcmp(type, "NFC") == 0) {
        tok->nfc = true;
        return true;
    }
    if (strcmp(type, "Sequence") == 0) {
        const Json *list = json_get(j, "normalizers");
        for (const Json *part = list ? list->child : NULL; part; part = part->next)
            if (!tokenizer_read_normalizer(tok, part, err)) return false;
        return true;
    }
    return error_set(err, "normalizer: the type \"%.40s\" is not supported; expected null or NFC", type);
}

// One of: ByteLevel with use_regex; [Split, ByteLevel without use_regex] in a Sequence.
static inline bool tokenizer_read_pre_tokenizer(Tokenizer *tok, const Json *j, Error *err) {
    const Json *parts[2] = {j, NULL};
    int count = 1;
    if (strcmp(json_string(json_get(j, "type"), ""), "Sequence") == 0) {
        const Json *list = json_get(j, "pretokenizers");
        count = 0;
        for (const Json *part = list ? list->child : NULL; part; part = part->next) {
            if (count == 2)
                return error_set(err, "pre_tokenizer: a Sequence of more than two parts is not supported; expected "
                                      "Split and ByteLevel");
            parts[count++] = part;
        }
    }
    bool split = false, byte_level = false;
    for (int i = 0; i < count; i++) {
        const char *type = json_string(json_get(parts[i], "type"), "");
        if (strcmp(type, "Split") == 0 && !split && !byte_level) {
            const char *regex = json_string(json_get(json_get(parts[i], "pattern"), "Regex"), "");
            const char *behavior = json_string(json_get(parts[i], "behavior"), "");
            bool invert = json_bool(json_get(parts[i], "invert"), false);
            int pattern = text_pattern_of_regex(regex);
            if (pattern < 0)
                return error_set(err,
                                 "pre_tokenizer: the split pattern \"%.300s\" is not supported; expected that of "
                                 "GPT-2, Llama 3, Qwen 2 or GPT-4o",
                                 regex);
            // All patterns cover all text, so that keeping what matches and keeping everything is the same.
            if (!(strcmp(behavior, "Isolated") == 0 && !invert) && !(strcmp(behavior, "Removed") == 0 && invert))
                return error_set(err,
                                 "pre_tokenizer: Split with behavior \"%.40s\", invert %s is not supported; expected "
                                 "Isolated, false",
                                 behavior, invert ? "true" : "false");
            tok->pattern = (TextPattern)pattern;
            split = true;
        } else if (strcmp(type, "ByteLevel") == 0 && !byte_level) {
            if (json_bool(json_get(parts[i], "add_prefix_space"), true))
                return error_set(err, "pre_tokenizer: ByteLevel with add_prefix_space is not supported");
            bool use_regex = json_bool(json_get(parts[i], "use_regex"), true);
            if (use_regex && split)
                return error_set(err, "pre_tokenizer: ByteLevel with use_regex after Split is not supported");
            if (!use_regex && !split)
                return error_set(err, "pre_tokenizer: ByteLevel without use_regex needs a Split in front");
            if (use_regex) tok->pattern = TEXT_GPT2;
            byte_level = true;
        } else {
            return error_set(err,
                             "pre_tokenizer: \"%.40s\" is not supported here; expected ByteLevel, or Split followed by "
                             "ByteLevel",
                             type);
        }
    }
    if (!byte_level) return error_set(err, "pre_tokenizer: ByteLevel is missing; only byte-level BPE is supported");
    return true;
}

// A token that the post-processor puts in front of a text.
static inline int tokenizer_read_bos(const Json *j) {
    const char *type = json_string(json_get(j, "type"), "");
    if (strcmp(type, "Sequence") == 0) {
        const Json *list = json_get(j, "processors");
        for (const Json *part = list ? list->child : NULL; part; part = part->next) {
            int id = tokenizer_read_bos(part);
            if (id >= 0) return id;
        }
    }
    if (strcmp(type, "TemplateProcessing") == 0) {
        const Json *single = json_get(j, "single");
        const char *name = json_string(json_get(json_get(single ? single->child : NULL, "SpecialToken"), "id"), NULL);
        const Json *ids = name ? json_get(json_get(json_get(j, "special_tokens"), name), "ids") : NULL;
        if (ids && ids->child) return (int)json_integer(ids->child, -1);
    }
    return -1;
}

// Puts an added token into the search lists.
static inline bool tokenizer_read_added(Tokenizer *tok, const Json *j, Error *err) {
    const Json *content = json_get(j, "content");
    bool special = json_bool(json_get(j, "special"), false),
         normalized = json_bool(json_get(j, "normalized"), !special);
    if (!special) {
        static const char *const options[3] = {"single_word", "lstrip", "rstrip"};
        for (int i = 0; i < 3; i++)
            if (json_bool(json_get(j, options[i]), false))
                return error_set(err, "added_tokens: %s is not supported (token \"%.60s\")", options[i], content->text);
    }
    AddedToken *list =
        (AddedToken *)realloc(tok->added[normalized], sizeof(AddedToken) * (size_t)(tok->added_count[normalized] + 1));
    if (!list) fail("out of memory");
    tok->added[normalized] = list;
    AddedToken *a = &list[tok->added_count[normalized]++];
    Str text;
    memset(&text, 0, sizeof text);
    if (normalized && tok->nfc) text_nfc(&text, content->text, content->size);
    else str_add(&text, content->text, content->size);
    a->text = text.data;
    a->size = text.size;
    a->id = (int)json_integer(json_get(j, "id"), -1);
    a->special = special;
    tok->added_first[normalized][(uint8_t)text.data[0]] = true;
    return true;
}

// The name and id of one entry, checked.
static inline bool tokenizer_take_name(Tokenizer *tok, TokenizerNames *names, const char *name, size_t size,
                                       const Json *id, TokenKind kind, Error *err) {
    int64_t number = json_integer(id, -1);
    if (number < 0 || number >= TOKENIZER_MAX_IDS)
        return error_set(err, "token \"%.60s\": the id must be a number from 0 to %d", name, TOKENIZER_MAX_IDS - 1);
    if (size == 0 || strlen(name) != size)
        return error_set(err, "token %lld: the name is empty or contains a NUL", (long long)number);
    TokenizerName *slot = tokenizer_name_slot(names, name, size);
    const char **taken = &names->by_id[number];
    if (*taken && strcmp(*taken, name) != 0)
        return error_set(err, "id %lld is given to \"%.60s\" and to \"%.60s\"", (long long)number, *taken, name);
    if (slot->id >= 0 && slot->id != number)
        return error_set(err, "token \"%.60s\" has the ids %d and %lld", name, slot->id, (long long)number);
    slot->name = name;
    slot->size = size;
    slot->id = (int)number;
    *taken = name;
    tok->kinds[number] = (uint8_t)kind;
    return true;
}

// The bytes that a name stands for; a name with a character that is no byte's stands for itself.
static inline size_t tokenizer_name_bytes(const char *name, const int16_t to_byte[324], uint8_t *out) {
    const uint8_t *p = (const uint8_t *)name, *end = p + strlen(name);
    size_t n = 0;
    while (p < end) {
        uint32_t c;
        p += text_decode_valid(p, &c);
        if (c >= 324 || to_byte[c] < 0) {
            memcpy(out, name, strlen(name));
            return strlen(name);
        }
        out[n++] = (uint8_t)to_byte[c];
    }
    return n;
}

// Names, ids and kinds of all tokens, and the lists of those that are searched for.
static inline bool tokenizer_read_names(Tokenizer *tok, TokenizerNames *names, const Json *vocab, const Json *added,
                                        Error *err) {
    for (const Json *j = vocab->child; j; j = j->next)
        if (!tokenizer_take_name(tok, names, j->key, j->key_size, j, TOKEN_NORMAL, err)) return false;
    bool searched[2] = {false, false};
    for (const Json *j = added ? added->child : NULL; j; j = j->next) {
        const Json *content = json_get(j, "content");
        bool special = json_bool(json_get(j, "special"), false);
        if (!json_is(content, JSON_STRING)) return error_set(err, "added_tokens: an entry has no content");
        if (!tokenizer_take_name(tok, names, content->text, content->size, json_get(j, "id"),
                                 special ? TOKEN_SPECIAL : TOKEN_ADDED, err) ||
            !tokenizer_read_added(tok, j, err))
            return false;
        if (!special) searched[json_bool(json_get(j, "normalized"), true)] = true;
    }
    for (int stage = 0; stage < 2; stage++) { // nothing to be found but special tokens: no search
        if (searched[stage]) continue;
        for (int i = 0; i < tok->added_count[stage]; i++) free(tok->added[stage][i].text);
        tok->added_count[stage] = 0;
    }
    return true;
}

// The arrays by id.
static inline bool tokenizer_fill_arrays(Tokenizer *tok, const TokenizerNames *names, Error *err) {
    int V = tok->vocab_size;
    size_t total = 1;
    for (int id = 0; id < V; id++) total += names->by_id[id] ? strlen(names->by_id[id]) + 1 : 0;
    tok->names = (char *)mem_alloc(total);
    tok->name_offsets = (size_t *)mem_alloc((size_t)V * sizeof(size_t));
    tok->bytes = (uint8_t *)mem_alloc(total);
    tok->byte_offsets = (size_t *)mem_alloc((size_t)(V + 1) * sizeof(size_t));
    uint32_t to_char[256];
    int16_t to_byte[324];
    byte_names(to_char, to_byte);
    size_t name_at = 1, byte_at = 0; // the empty name of missing ids is at 0
    for (int id = 0; id < V; id++) {
        const char *name = names->by_id[id];
        tok->byte_offsets[id] = byte_at;
        if (!name) continue;
        size_t size = strlen(name);
        tok->name_offsets[id] = name_at;
        memcpy(tok->names + name_at, name, size);
        name_at += size + 1;
        if (tok->kinds[id] == TOKEN_NORMAL) byte_at += tokenizer_name_bytes(name, to_byte, tok->bytes + byte_at);
        if (tok->kinds[id] != TOKEN_ADDED) continue;
        memcpy(tok->bytes + byte_at, name, size);
        byte_at += size;
    }
    tok->byte_offsets[V] = byte_at;
    for (int b = 0; b < 256; b++) {
        char name[4];
        size_t n = (size_t)utf8_put((uint8_t *)name, to_char[b]);
        tok->byte_ids[b] = tokenizer_name_slot(names, name, n)->id;
        if (tok->byte_ids[b] < 0)
            return error_set(err, "model.vocab: no token for the byte 0x%02x; expected all 256 bytes", b);
    }
    return true;
}

// One merge, the next in rank. `whole` is scratch.
static inline bool tokenizer_read_merge(Tokenizer *tok, const TokenizerNames *names, const Json *j, Str *whole,
                                        Error *err) {
    const char *left = j->text, *right, *space = json_is(j, JSON_STRING) ? strchr(left, ' ') : NULL;
    size_t left_size, right_size;
    if (j->type == JSON_ARRAY && j->size == 2 && json_is(j->child, JSON_STRING) &&
        json_is(j->child->next, JSON_STRING)) {
        left = j->child->text, left_size = j->child->size;
        right = j->child->next->text, right_size = j->child->next->size;
    } else if (space && space == strrchr(left, ' ')) {
        left_size = (size_t)(space - left);
        right = space + 1, right_size = j->size - left_size - 1;
    } else {
        return error_set(err, "model.merges: entry %d is neither [\"a\", \"b\"] nor \"a b\"", tok->merge_count);
    }
    whole->size = 0;
    str_add(whole, left, left_size);
    str_add(whole, right, right_size);
    int a = tokenizer_name_slot(names, left, left_size)->id, b = tokenizer_name_slot(names, right, right_size)->id;
    int c = tokenizer_name_slot(names, whole->data, whole->size)->id;
    if (a < 0 || b < 0 || c < 0)
        return error_set(err,
                         "model.merges: entry %d (\"%.60s\" and \"%.60s\") names a token that model.vocab does not "
                         "have",
                         tok->merge_count, left, right);
    uint64_t pair = tokenizer_pair(a, b), slot = tokenizer_mix(pair) & tok->merge_mask;
    while (tok->merge_table[slot].pair != UINT64_MAX && tok->merge_table[slot].pair != pair)
        slot = (slot + 1) & tok->merge_mask;
    tok->merge_table[slot].pair = pair; // where a pair stands twice the later rank counts
    tok->merge_table[slot].rank = tok->merge_count;
    tok->merge_table[slot].id = c;
    tok->merges[tok->merge_count][0] = a;
    tok->merges[tok->merge_count++][1] = b;
    return true;
}

// Slots of a hash table that holds n entries and stays half empty.
static inline uint64_t tokenizer_slots(uint64_t n) {
    uint64_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

static inline bool tokenizer_read_merges(Tokenizer *tok, const TokenizerNames *names, const Json *merges, Error *err) {
    size_t count = merges ? merges->size : 0;
    uint64_t slots = tokenizer_slots(count);
    tok->merges = (int32_t(*)[2])mem_alloc(count * sizeof *tok->merges);
    tok->merge_table = (TokenizerMerge *)mem_alloc(slots * sizeof(TokenizerMerge));
    tok->merge_mask = slots - 1;
    for (uint64_t i = 0; i < slots; i++) tok->merge_table[i].pair = UINT64_MAX;
    Str whole;
    memset(&whole, 0, sizeof whole);
    bool ok = true;
    for (const Json *j = merges ? merges->child : NULL; ok && j; j = j->next)
        ok = tokenizer_read_merge(tok, names, j, &whole, err);
    free(whole.data);
    return ok;
}

// The table of whole words, in the order of the file.
static inline void tokenizer_fill_words(Tokenizer *tok, const Json *vocab) {
    uint64_t slots = tokenizer_slots((uint64_t)tok->vocab_size);
    tok->word_table = (int32_t *)mem_alloc(slots * sizeof(int32_t));
    tok->word_mask = slots - 1;
    memset(tok->word_table, 0xff, slots * sizeof(int32_t));
    for (const Json *j = vocab->child; j; j = j->next) {
        int id = (int)j->integer, length;
        if (tok->kinds[id] != TOKEN_NORMAL) continue;
        const uint8_t *word = tokenizer_bytes(tok, id, &length);
        uint64_t slot = tokenizer_hash_bytes(word, (size_t)length) & tok->word_mask;
        while (tok->word_table[slot] >= 0) slot = (slot + 1) & tok->word_mask;
        tok->word_table[slot] = id;
    }
}

// Fills vocabulary, added tokens and merges.
static inline bool tokenizer_read_model(Tokenizer *tok, const Json *root, Error *err) {
    const Json *model = json_get(root, "model"), *vocab = json_get(model, "vocab"), *merges = json_get(model, "merges"),
               *added = json_get(root, "added_tokens");
    TokenizerNames names;
    uint64_t slots = tokenizer_slots((uint64_t)vocab->size + (added ? added->size : 0));
    names.slots = (TokenizerName *)mem_alloc(slots * sizeof(TokenizerName));
    names.mask = slots - 1;
    for (uint64_t i = 0; i < slots; i++) names.slots[i].id = -1;
    int64_t last = 0;
    for (const Json *j = vocab->child; j; j = j->next) last = int64_max(last, json_integer(j, 0));
    for (const Json *j = added ? added->child : NULL; j; j = j->next)
        last = int64_max(last, json_integer(json_get(j, "id"), 0));
    tok->vocab_size = (int)int64_min(last + 1, TOKENIZER_MAX_IDS); // ids beyond are refused one by one
    tok->kinds = (uint8_t *)mem_alloc((size_t)tok->vocab_size);
    names.by_id = (const char **)mem_alloc((size_t)tok->vocab_size * sizeof(char *));
    tok->ignore_merges = json_bool(json_get(model, "ignore_merges"), false);
    bool ok = tokenizer_read_names(tok, &names, vocab, added, err) && tokenizer_fill_arrays(tok, &names, err) &&
              tokenizer_read_merges(tok, &names, merges, err);
    if (ok && tok->ignore_merges) tokenizer_fill_words(tok, vocab);
    free(names.slots);
    free(names.by_id);
    return ok;
}

static inline uint64_t tokenizer_content_hash(const Tokenizer *tok) {
    uint64_t h = fnv1a64("llmc tokenizer", 14, FNV1A64_START);
    int32_t header[5] = {(int32_t)tok->pattern, tok->nfc, tok->ignore_merges, tok->vocab_size, tok->merge_count};
    h = fnv1a64(header, sizeof header, h);
    h = fnv1a64(tok->kinds, (size_t)tok->vocab_size, h);
    for (int id = 0; id < tok->vocab_size; id++)
        h = fnv1a64(tokenizer_name(tok, id), strlen(tokenizer_name(tok, id)) + 1, h);
    return fnv1a64(tok->merges, (size_t)tok->merge_count * sizeof *tok->merges, h);
}

// Reads the text of a tokenizer.json. On failure nothing is left to free.
static inline bool tokenizer_parse(Tokenizer *tok, const char *text, size_t size, Error *err) {
    static const char *const eot_names[] = {TOKENIZER_EOT, "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "</s>"};
    memset(tok, 0, sizeof *tok);
    JsonDoc doc;
    Json *root = json_parse(&doc, text, size, err);
    if (!root) return false;
    const Json *model = json_get(root, "model"), *vocab = json_get(model, "vocab");
    const char *type = json_string(json_get(model, "type"), "BPE");
    bool ok = false;
    if (!json_is(model, JSON_OBJECT)) error_set(err, "no \"model\": not a tokenizer.json");
    else if (strcmp(type, "BPE") != 0) error_set(err, "model.type: \"%.40s\" is not supported; expected BPE", type);
    else if (!json_is(vocab, JSON_OBJECT) || vocab->size == 0)
        error_set(err, "model.vocab: expected tokens and their ids");
    else if (json_number(json_get(model, "dropout"), 0) != 0) error_set(err, "model.dropout is not supported");
    else if (!json_is_empty(json_get(model, "continuing_subword_prefix")))
        error_set(err, "model.continuing_subword_prefix is not supported");
    else if (!json_is_empty(json_get(model, "end_of_word_suffix")))
        error_set(err, "model.end_of_word_suffix is not supported");
    else
        ok = tokenizer_read_normalizer(tok, json_get(root, "normalizer"), err) &&
             tokenizer_read_pre_tokenizer(tok, json_get(root, "pre_tokenizer"), err) &&
             tokenizer_read_model(tok, root, err);
    if (ok) {
        tok->bos = tokenizer_read_bos(json_get(root, "post_processor"));
        if (tokenizer_kind(tok, tok->bos) == TOKEN_MISSING) tok->bos = -1;
        tok->eot = -1;
        for (size_t i = 0; i < sizeof eot_names / sizeof *eot_names && tok->eot < 0; i++)
            tok->eot = tokenizer_special(tok, eot_names[i]);
        tok->hash = tokenizer_content_hash(tok);
        tok->json = (char *)mem_alloc(size + 1);
        memcpy(tok->json, text, size);
        tok->json_size = size;
    } else {
        tokenizer_free(tok);
        for (char *c = err ? err->text : NULL; c && *c; c++) // a message may quote names from the file
            if ((unsigned char)*c < ' ') *c = '?';
    }
    json_free(&doc);
    return ok;
}

static inline bool tokenizer_load(Tokenizer *tok, const char *path, Error *err) {
    MappedFile f;
    Error why;
    why.text[0] = 0;
    memset(tok, 0, sizeof *tok);
    if (!file_map(&f, path, err)) return false;
    bool ok = tokenizer_parse(tok, (const char *)f.data, f.size, &why);
    file_unmap(&f);
    return ok ? true : error_set(err, "%s: %.900s", path, why.text);
}

// ---------------------------------------------------------------- saving

static inline bool tokenizer_save(const Tokenizer *tok, const char *path, Error *err) {
    return file_write_all(path, tok->json, tok->json_size, err);
}

// tokenizer_config.json, with which AutoTokenizer of Transformers loads the folder. sums: notes the file, or NULL.
static inline bool tokenizer_save_config(const Tokenizer *tok, const char *path, int model_max_length, FileSums *sums,
                                         Error *err) {
    JsonDoc doc;
    Json *root = json_parse(&doc, tok->json, tok->json_size, err);
    if (!root) return false;
    Str out;
    memset(&out, 0, sizeof out);
    int pad = tokenizer_special(tok, "<|pad|>"), bos = tok->bos >= 0 ? tok->bos : tok->eot;
    if (pad < 0) pad = tok->eot;
    str_puts(&out, "{\n  \"added_tokens_decoder\": {");
    const Json *added = json_get(root, "added_tokens");
    static const char *const options[5] = {"lstrip", "normalized", "rstrip", "single_word", "special"};
    for (const Json *j = added ? added->child : NULL; j; j = j->next) {
        const Json *content = json_get(j, "content");
        str_printf(&out, "%s\n    \"%lld\": {\"content\": ", j == added->child ? "" : ",",
                   (long long)json_integer(json_get(j, "id"), 0));
        json_escape(&out, content->text, content->size);
        for (int i = 0; i < 5; i++)
            str_printf(&out, ", \"%s\": %s", options[i], json_bool(json_get(j, options[i]), false) ? "true" : "false");
        str_puts(&out, "}");
    }
    str_puts(&out, "\n  },\n  \"add_prefix_space\": false,\n  \"clean_up_tokenization_spaces\": false");
    const char *keys[3] = {"bos_token", "eos_token", "pad_token"};
    int values[3] = {bos, tok->eot, pad};
    for (int i = 0; i < 3; i++) {
        str_printf(&out, ",\n  \"%s\": ", keys[i]);
        if (values[i] < 0) str_puts(&out, "null");
        else json_escape(&out, tokenizer_name(tok, values[i]), strlen(tokenizer_name(tok, values[i])));
    }
    str_printf(&out,
               ",\n  \"model_input_names\": [\"input_ids\", \"attention_mask\"],\n  \"model_max_length\": %d,\n  "
               "\"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
               model_max_length);
    bool ok = file_write_summed(sums, path, out.data, out.size, err);
    free(out.data);
    json_free(&doc);
    return ok;
}

#endif
