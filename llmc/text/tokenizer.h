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

What is read: model BPE with all 256 bytes in its vocabulary; a pre-tokenizer ByteLevel (GPT-2), or Split by one of
the patterns of text.h and ByteLevel (Llama 3, Qwen 2, GPT-4o, Tekken); normalizer null or NFC; ignore_merges; a
post-processor that puts one token in front of a text, or one behind it, or both; decoder ByteLevel or null. Any other
field that would change ids or text is refused by name, and so is a field of another type than it should have.
Truncation and padding have no part in the ids of a text and are kept, not obeyed. unk_token, fuse_unk and
byte_fallback are for characters that the vocabulary lacks, and it lacks none.

Refused, too, is what Hugging Face's tokenizers reads, but reads as something else than the file says: an added token
whose id is not the next free one (it ignores the id and takes that one), a name that stands twice, a special token that
merges make from plain text. Where an added token is in the vocabulary as well, its bytes are those of the vocabulary's
(for the program and for tokenizers alike); where it is not, it stands for its own text. There tokenizers decodes a name
all of whose characters are names of bytes ("größe") to those bytes, which are not that text.

What is written: the JSON text as it was read, byte for byte; for a tokenizer that was trained here, the
text that bpe.h composed, with these ids: 0-255 bytes in GPT-2's order, then merged tokens, then special
tokens, the reserved ones last. So ids and embeddings of text tokens stay together, and a reserved token
that gets a meaning later changes no other id. vocab_size is a multiple of 128 and every id below exists.

Limits: 2^24 ids, and at most 16 times as many (and 65,536 more) as tokens; a pre-token longer than 1 GiB is cut there.
The files that stand beside a tokenizer.json are tokenizer_folder.h's.
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
#define TOKENIZER_MAX_ADDED 1024  // bytes of an added token: they bound the time of a search at one place of a text
#define TOKENIZER_MAX_PROBES 1000 // no table that is half empty gets near it, unless its names were chosen for it
#define TOKENIZER_MAX_STOPS 64

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
    uint32_t first;    // its first child; the others follow
    uint32_t children; // how many
    int32_t end;       // the added token that ends here, or -1
} AddedNode;

// The added tokens of one search as a trie, level by level, so that the nodes that are looked at most lie together.
typedef struct {
    AddedNode *nodes;    // (count); 0: the root
    uint8_t *bytes;      // (count) by which its parent leads to a node
    uint32_t roots[256]; // the node of each first byte, 0: none
    uint32_t count;
} AddedTrie;

// Files of the tokenizer's folder that are kept as they are (tokenizer_folder.h).
enum { TOKENIZER_CONFIG, TOKENIZER_SPECIAL_MAP, TOKENIZER_GENERATION, TOKENIZER_TEMPLATE, TOKENIZER_FILES };

typedef struct {
    int vocab_size; // largest id + 1
    int eot;        // id that ends a document, or -1
    int bos;        // id that the file's post-processor puts in front of every text, or -1
    int closing;    // id that it puts behind every text, or -1; then it is eot
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
    AddedTrie tries[2];

    char *json; // the file
    size_t json_size;

    // What the files beside it say (tokenizer_folder.h); without them nothing but eot.
    int32_t stops[TOKENIZER_MAX_STOPS]; // ids at which a generated text ends
    int stop_count;
    bool end_said;              // by a file; else eot is a guess from names
    int bos_named, pad;         // ids that are called so, or -1
    Str files[TOKENIZER_FILES]; // data NULL: there is none
    StrList chat_names, chats;  // additional_chat_templates/NAME.jinja: names and texts
    Str model_ids;              // lines of config.json, or empty
    Error note;                 // files that do not agree, and what was made of it; empty: they agree
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

// What comes of two neighbours; INT32_MAX as rank: nothing.
typedef struct {
    int32_t rank[TOKENIZER_SHORT], id[TOKENIZER_SHORT]; // of ids[i] and ids[i + 1]
} MergesShort;

static inline void tokenizer_merge_look(MergesShort *m, int i, const Tokenizer *tok, const int32_t *ids) {
    const TokenizerMerge *found = tokenizer_merge(tok, ids[i], ids[i + 1]);
    m->rank[i] = found ? found->rank : INT32_MAX;
    m->id[i] = found ? found->id : -1;
}

// The rule of BPE: while two neighbours have a merge, the merge of lowest rank is done, the leftmost
// first. Quadratic in n, and for short pieces the fastest.
static inline int tokenizer_merge_short(const Tokenizer *tok, const uint8_t *p, int n, int32_t *ids) {
    MergesShort m;
    for (int i = 0; i < n; i++) ids[i] = tok->byte_ids[p[i]];
    for (int i = 0; i + 1 < n; i++) tokenizer_merge_look(&m, i, tok, ids);
    for (;;) {
        int32_t rank = INT32_MAX;
        int best = 0;
        for (int i = 0; i + 1 < n; i++) rank = m.rank[i] < rank ? m.rank[i] : rank;
        if (rank == INT32_MAX) return n;
        while (m.rank[best] != rank) best++;
        ids[best] = m.id[best];
        n--;
        size_t behind = (size_t)(n - best - 1) * sizeof(int32_t);
        memmove(&ids[best + 1], &ids[best + 2], behind);
        if (behind) {
            memmove(&m.rank[best + 1], &m.rank[best + 2], behind - sizeof(int32_t));
            memmove(&m.id[best + 1], &m.id[best + 2], behind - sizeof(int32_t));
        }
        if (best > 0) tokenizer_merge_look(&m, best - 1, tok, ids);
        if (best + 1 < n) tokenizer_merge_look(&m, best, tok, ids);
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

// The same rule with a linked list and a heap: O(n log n), in memory that is larger than any cache where n is.
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

// Whether the bytes of two tokens, by themselves, become these two tokens again.
static inline bool tokenizer_stays(const Tokenizer *tok, int32_t left, int32_t right, IdList *scratch) {
    int a, b;
    const uint8_t *p = tokenizer_bytes(tok, left, &a), *q = tokenizer_bytes(tok, right, &b);
    if (a + b <= TOKENIZER_SHORT) {
        uint8_t bytes[TOKENIZER_SHORT];
        int32_t ids[TOKENIZER_SHORT];
        memcpy(bytes, p, (size_t)a);
        memcpy(bytes + a, q, (size_t)b);
        return tokenizer_merge_short(tok, bytes, a + b, ids) == 2 && ids[0] == left && ids[1] == right;
    }
    uint8_t *bytes = (uint8_t *)mem_alloc((size_t)a + (size_t)b);
    memcpy(bytes, p, (size_t)a);
    memcpy(bytes + a, q, (size_t)b);
    scratch->count = 0;
    tokenizer_merge_long(tok, bytes, (size_t)a + (size_t)b, scratch);
    free(bytes);
    return scratch->count == 2 && scratch->items[0] == left && scratch->items[1] == right;
}

// The ids of a window that stay whatever follows it, as far as a margin at its end lets one hope. *bytes: theirs.
static inline size_t tokenizer_keep(const Tokenizer *tok, const IdList *window, size_t length, size_t *bytes) {
    size_t kept = 0;
    int n;
    *bytes = 0;
    for (; kept < window->count; kept++, *bytes += (size_t)n) {
        tokenizer_bytes(tok, window->items[kept], &n);
        if (*bytes + (size_t)n + length / 4 > length) break;
    }
    return kept;
}

// The same rule for a piece of any length, in windows: O(n), in the cache. Ids of windows beside each other are right
// if the two ids at each seam stay by themselves what they are. For: as long as no merge has gone over a seam, what
// happens between two seams is what happens there alone. The first merge that goes over one joins parts of the ids at
// its two sides; since it is, of all merges, the next by rank and place, it is so among those within these two ids,
// whose bytes alone would then take the same way and not become the two. Where a seam fails, ids before it are taken
// back, and the window grows, up to the whole piece, until the place is behind.
static inline void tokenizer_merge_windows(const Tokenizer *tok, const uint8_t *p, size_t n, IdList *out) {
    const size_t first = out->count;
    size_t start = 0, wide = TOKENIZER_SHORT, back = 1, failed = 0;
    IdList window, scratch;
    memset(&window, 0, sizeof window);
    memset(&scratch, 0, sizeof scratch);
    while (start < n) {
        size_t length = wide < n - start ? wide : n - start, bytes = length;
        int32_t ids[TOKENIZER_SHORT];
        window.count = 0;
        if (length > TOKENIZER_SHORT) tokenizer_merge_long(tok, p + start, length, &window);
        else {
            int count = tokenizer_merge_short(tok, p + start, (int)length, ids);
            for (int i = 0; i < count; i++) id_list_add(&window, ids[i]);
        }
        bool stays = start == 0 || tokenizer_stays(tok, out->items[out->count - 1], window.items[0], &scratch);
        size_t kept = start + length < n ? tokenizer_keep(tok, &window, length, &bytes) : window.count;
        if (!stays) {
            if (start > failed) failed = start;
            for (size_t i = 0; i < back && out->count > first; i++) {
                int size;
                tokenizer_bytes(tok, out->items[--out->count], &size);
                start -= (size_t)size;
            }
            back *= 2;
        }
        if (!stays || kept == 0) {
            wide = wide < n / 2 ? 2 * wide : n;
            continue;
        }
        for (size_t i = 0; i < kept; i++) id_list_add(out, window.items[i]);
        start += bytes;
        if (start > failed) wide = TOKENIZER_SHORT, back = 1;
    }
    free(window.items);
    free(scratch.items);
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
        tokenizer_merge_windows(tok, p, n, out);
        return;
    }
    int32_t ids[TOKENIZER_SHORT];
    int count = tokenizer_merge_short(tok, p, (int)n, ids);
    for (int i = 0; i < count; i++) id_list_add(out, ids[i]);
}

// ---------------------------------------------------------------- cache from pre-token to ids

#define TOKENIZER_CACHE_SLOTS (1 << 20) // at most: 32 MiB; then it is emptied
#define TOKENIZER_CACHE_LENGTH 255      // longer pre-tokens are not kept
#define TOKENIZER_CACHE_PROBES 200      // slots that are looked at for one
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
    IdList ids;      // ids that do not fit into a slot
    Str bytes;       // pre-tokens that do not fit
    uint64_t owner;  // hash of the tokenizer
    Str normal;      // text in NFC
    int64_t invalid; // bytes that were not UTF-8, since somebody set it to 0
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
    for (int probes = 0;; slot = (slot + 1) & c->mask) {
        const TokenizerCached *e = &c->slots[slot];
        if (e->count == 0) break;
        if (++probes > TOKENIZER_CACHE_PROBES) { // words that were chosen for it
            tokenizer_encode_piece(tok, p, n, out);
            return;
        }
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

// The longest added token at p < end, or NULL.
static inline const AddedToken *tokenizer_added_at(const Tokenizer *tok, int stage, const uint8_t *p,
                                                   const uint8_t *end) {
    const AddedTrie *t = &tok->tries[stage];
    int32_t best = -1;
    for (uint32_t node = t->roots[*p]; node;) {
        const AddedNode *n = &t->nodes[node];
        if (n->end >= 0) best = n->end;
        if (++p == end || !n->children) break;
        const uint8_t *child = (const uint8_t *)memchr(t->bytes + n->first, *p, n->children);
        node = child ? (uint32_t)(child - t->bytes) : 0;
    }
    return best < 0 ? NULL : &tok->added[stage][best];
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
            if (tok->tries[stage].roots[*p] && (found = tokenizer_added_at(tok, stage, p, end)) != NULL) {
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
        if (cache) cache->invalid += (int64_t)invalid;
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
        free(tok->tries[stage].nodes);
        free(tok->tries[stage].bytes);
    }
    for (int i = 0; i < TOKENIZER_FILES; i++) free(tok->files[i].data);
    free(tok->model_ids.data);
    str_list_free(&tok->chat_names);
    str_list_free(&tok->chats);
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

// Slots of a hash table that holds n entries and stays half empty.
static inline uint64_t tokenizer_slots(uint64_t n) {
    uint64_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

// Names to ids while loading. Names may hold any bytes but NUL.
typedef struct {
    const char *name;
    size_t size;
    int id; // -1: free
} TokenizerName;

typedef struct {
    TokenizerName *slots;
    uint64_t mask, longest; // probes of a search
} TokenizerNames;

// What a file gives names to.
typedef struct {
    TokenizerNames vocab, added;
    const char **by_id; // (vocab_size)
} TokenizerReading;

static inline void tokenizer_names_open(TokenizerNames *names, uint64_t count) {
    uint64_t slots = tokenizer_slots(count);
    names->slots = (TokenizerName *)mem_alloc(slots * sizeof(TokenizerName));
    names->mask = slots - 1;
    names->longest = 0;
    for (uint64_t i = 0; i < slots; i++) names->slots[i].id = -1;
}

static inline TokenizerName *tokenizer_name_slot(TokenizerNames *names, const char *name, size_t n) {
    uint64_t slot = tokenizer_hash_bytes((const uint8_t *)name, n) & names->mask;
    for (uint64_t probes = 0;; slot = (slot + 1) & names->mask) {
        TokenizerName *s = &names->slots[slot];
        if (++probes > names->longest) names->longest = probes;
        if (s->id < 0 || (s->size == n && memcmp(s->name, name, n) == 0)) return s;
    }
}

static inline bool json_is_empty(const Json *j) { // null, missing or ""
    return !j || j->type == JSON_NULL || (j->type == JSON_STRING && j->size == 0);
}

// A switch that may be missing or null; where: what it stands in, for messages.
static inline bool tokenizer_read_flag(bool *out, const Json *object, const char *key, bool fallback, const char *where,
                                       Error *err) {
    const Json *j = json_get(object, key);
    *out = json_bool(j, fallback);
    if (!j || j->type == JSON_BOOL || j->type == JSON_NULL) return true;
    return error_set(err, "%s: \"%s\" must be true or false", where, key);
}

// A member that may be missing or null. False: it is of another type.
static inline bool tokenizer_read_part(const Json **out, const Json *object, const char *key, JsonType type,
                                       const char *where, Error *err) {
    static const char *const words[] = {"null", "true or false", "a number", "a string", "a list", "an object"};
    const Json *j = json_get(object, key);
    *out = json_is(j, type) ? j : NULL;
    if (!j || j->type == type || j->type == JSON_NULL) return true;
    return error_set(err, "%s: \"%s\" must be %s or null", where, key, words[type]);
}

static inline bool tokenizer_read_normalizer(Tokenizer *tok, const Json *j, Error *err) {
    if (!j || j->type == JSON_NULL) return true;
    const char *type = json_string(json_get(j, "type"), "");
    if (strcmp(type, "NFC") == 0) {
        tok->nfc = true;
        return true;
    }
    if (strcmp(type, "Sequence") == 0) {
        const Json *list;
        if (!tokenizer_read_part(&list, j, "normalizers", JSON_ARRAY, "normalizer", err)) return false;
        for (const Json *part = list ? list->child : NULL; part; part = part->next)
            if (!tokenizer_read_normalizer(tok, part, err)) return false;
        return true;
    }
    return error_set(err, "normalizer: the type \"%.40s\" is not supported; expected null or NFC", type);
}

// Split by one of the patterns, every match and everything between a pre-token of its own.
static inline bool tokenizer_read_split(Tokenizer *tok, const Json *j, Error *err) {
    const char *regex = json_string(json_get(json_get(j, "pattern"), "Regex"), "");
    const char *behavior = json_string(json_get(j, "behavior"), "");
    bool invert;
    int pattern = text_pattern_of_regex(regex);
    if (pattern < 0)
        return error_set(err,
                         "pre_tokenizer: the split pattern \"%.300s\" is not supported; expected that of GPT-2, Llama "
                         "3, Qwen 2, GPT-4o or Tekken",
                         regex);
    if (!tokenizer_read_flag(&invert, j, "invert", false, "pre_tokenizer: Split", err)) return false;
    // All patterns cover all text, so that keeping what matches and keeping everything is the same.
    if (!(strcmp(behavior, "Isolated") == 0 && !invert) && !(strcmp(behavior, "Removed") == 0 && invert))
        return error_set(err,
                         "pre_tokenizer: Split with behavior \"%.40s\", invert %s is not supported; expected Isolated, "
                         "false",
                         behavior, invert ? "true" : "false");
    tok->pattern = (TextPattern)pattern;
    return true;
}

// split: one stood in front.
static inline bool tokenizer_read_byte_level(Tokenizer *tok, const Json *j, bool split, Error *err) {
    bool prefix, regex;
    if (!tokenizer_read_flag(&prefix, j, "add_prefix_space", true, "pre_tokenizer: ByteLevel", err) ||
        !tokenizer_read_flag(&regex, j, "use_regex", true, "pre_tokenizer: ByteLevel", err))
        return false;
    if (prefix) return error_set(err, "pre_tokenizer: ByteLevel with add_prefix_space is not supported");
    if (regex && split) return error_set(err, "pre_tokenizer: ByteLevel with use_regex after Split is not supported");
    if (!regex && !split) return error_set(err, "pre_tokenizer: ByteLevel without use_regex needs a Split in front");
    if (regex) tok->pattern = TEXT_GPT2;
    return true;
}

// One of: ByteLevel with use_regex; [Split, ByteLevel without use_regex] in a Sequence.
static inline bool tokenizer_read_pre_tokenizer(Tokenizer *tok, const Json *j, Error *err) {
    const Json *first = j, *list = NULL;
    if (strcmp(json_string(json_get(j, "type"), ""), "Sequence") == 0) {
        if (!tokenizer_read_part(&list, j, "pretokenizers", JSON_ARRAY, "pre_tokenizer", err)) return false;
        first = list ? list->child : NULL;
    }
    bool split = false, byte_level = false, ok = true;
    for (const Json *part = first; ok && part; part = list ? part->next : NULL) {
        const char *type = json_string(json_get(part, "type"), "");
        if (strcmp(type, "Split") == 0 && !split && !byte_level) {
            ok = tokenizer_read_split(tok, part, err);
            split = true;
        } else if (strcmp(type, "ByteLevel") == 0 && !byte_level) {
            ok = tokenizer_read_byte_level(tok, part, split, err);
            byte_level = true;
        } else {
            return error_set(err,
                             "pre_tokenizer: \"%.40s\" is not supported here; expected ByteLevel, or Split followed by "
                             "ByteLevel",
                             type);
        }
    }
    if (ok && !byte_level)
        return error_set(err, "pre_tokenizer: ByteLevel is missing; only byte-level BPE is supported");
    return ok;
}

// Whether ids give their text back: ByteLevel, or none.
static inline bool tokenizer_read_decoder(const Json *j, Error *err) {
    if (!j || j->type == JSON_NULL) return true;
    const char *type = json_string(json_get(j, "type"), "");
    if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "Fuse") == 0) return true;
    if (strcmp(type, "Sequence") != 0)
        return error_set(err, "decoder: the type \"%.40s\" is not supported; expected ByteLevel", type);
    const Json *list;
    if (!tokenizer_read_part(&list, j, "decoders", JSON_ARRAY, "decoder", err)) return false;
    for (const Json *part = list ? list->child : NULL; part; part = part->next)
        if (!tokenizer_read_decoder(part, err)) return false;
    return true;
}

// The one id of a special token of a template.
static inline bool tokenizer_template_id(int *out, const Tokenizer *tok, const Json *j, const char *name, Error *err) {
    const Json *ids = json_get(json_get(json_get(j, "special_tokens"), name), "ids");
    int64_t id = json_is(ids, JSON_ARRAY) && ids->size == 1 ? json_integer(ids->child, -1) : -1;
    if (id < 0 || id >= tok->vocab_size || strcmp(tokenizer_name(tok, (int)id), name) != 0)
        return error_set(err,
                         "post_processor: special_tokens must give \"%.60s\" one id, that of the token of this name",
                         name);
    *out = (int)id;
    return true;
}

// What a TemplateProcessing does to a single text: [token] text [token].
static inline bool tokenizer_read_template(Tokenizer *tok, const Json *j, Error *err) {
    const Json *single = json_get(j, "single");
    bool behind = false;
    if (tok->bos >= 0 || tok->closing >= 0)
        return error_set(err, "post_processor: more than one TemplateProcessing is not supported");
    for (const Json *part = json_is(single, JSON_ARRAY) ? single->child : NULL; part; part = part->next) {
        const Json *special = json_get(part, "SpecialToken");
        if (!special && json_get(part, "Sequence") && !behind) {
            behind = true;
            continue;
        }
        int *id = behind ? &tok->closing : &tok->bos;
        const char *name = json_string(json_get(special, "id"), NULL);
        if (!name || *id >= 0)
            return error_set(err,
                             "post_processor: \"single\" must be a text with at most one token in front of it and one "
                             "behind it");
        if (!tokenizer_template_id(id, tok, j, name, err)) return false;
    }
    return behind ? true : error_set(err, "post_processor: \"single\" of TemplateProcessing has no text in it");
}

// What is put in front of every text and behind it.
static inline bool tokenizer_read_post_processor(Tokenizer *tok, const Json *j, Error *err) {
    if (!j || j->type == JSON_NULL) return true;
    const char *type = json_string(json_get(j, "type"), "");
    if (strcmp(type, "ByteLevel") == 0) return true; // offsets alone
    if (strcmp(type, "TemplateProcessing") == 0) return tokenizer_read_template(tok, j, err);
    if (strcmp(type, "Sequence") != 0)
        return error_set(err,
                         "post_processor: the type \"%.40s\" is not supported; expected null, ByteLevel or "
                         "TemplateProcessing",
                         type);
    const Json *list;
    if (!tokenizer_read_part(&list, j, "processors", JSON_ARRAY, "post_processor", err)) return false;
    for (const Json *part = list ? list->child : NULL; part; part = part->next)
        if (!tokenizer_read_post_processor(tok, part, err)) return false;
    return true;
}

// Puts an added token into the search lists.
static inline bool tokenizer_list_added(Tokenizer *tok, const Json *j, bool *searched, Error *err) {
    const Json *content = json_get(j, "content");
    static const char *const options[3] = {"single_word", "lstrip", "rstrip"};
    bool special, normalized, option;
    if (!tokenizer_read_flag(&special, j, "special", false, "added_tokens", err) ||
        !tokenizer_read_flag(&normalized, j, "normalized", !special, "added_tokens", err))
        return false;
    for (int i = 0; i < 3; i++) {
        if (!tokenizer_read_flag(&option, j, options[i], false, "added_tokens", err)) return false;
        if (option && !special)
            return error_set(err, "added_tokens: %s is not supported (token \"%.60s\")", options[i], content->text);
    }
    if (content->size > TOKENIZER_MAX_ADDED)
        return error_set(err, "added_tokens: a token has %u bytes; at most %d are supported (\"%.60s...\")",
                         content->size, TOKENIZER_MAX_ADDED, content->text);
    AddedToken *a = &tok->added[normalized][tok->added_count[normalized]++];
    Str text;
    memset(&text, 0, sizeof text);
    if (normalized && tok->nfc) text_nfc(&text, content->text, content->size);
    else str_add(&text, content->text, content->size);
    a->text = text.data;
    a->size = text.size;
    a->id = (int)json_integer(json_get(j, "id"), -1);
    a->special = special;
    if (!special) searched[normalized] = true;
    return true;
}

// By their bytes; of equal ones, which normalisation can make, the first in the file comes first.
static inline int added_token_order(const void *a, const void *b) {
    const AddedToken *x = *(const AddedToken *const *)a, *y = *(const AddedToken *const *)b;
    int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    if (order == 0 && x->size != y->size) order = x->size < y->size ? -1 : 1;
    return order ? order : x < y ? -1 : x > y;
}

// Those of the sorted tokens that go through a node.
typedef struct {
    int low, high;
    size_t depth;
} AddedRange;

static inline void tokenizer_build_trie(Tokenizer *tok, int stage) {
    AddedTrie *t = &tok->tries[stage];
    int count = tok->added_count[stage];
    size_t most = 1;
    const AddedToken **sorted = (const AddedToken **)mem_alloc(sizeof *sorted * (size_t)count);
    for (int i = 0; i < count; i++) {
        sorted[i] = &tok->added[stage][i];
        most += sorted[i]->size;
    }
    qsort(sorted, (size_t)count, sizeof *sorted, added_token_order);
    t->nodes = (AddedNode *)mem_alloc(most * sizeof(AddedNode));
    t->bytes = (uint8_t *)mem_alloc(most);
    AddedRange *ranges = (AddedRange *)mem_alloc(most * sizeof(AddedRange));
    ranges[0].high = count;
    t->count = 1;
    for (uint32_t node = 0; node < t->count; node++) {
        AddedNode *n = &t->nodes[node];
        int low = ranges[node].low, high = ranges[node].high;
        size_t depth = ranges[node].depth;
        n->first = t->count;
        n->end = -1;
        for (; low < high && sorted[low]->size == depth; low++)
            if (n->end < 0) n->end = (int32_t)(sorted[low] - tok->added[stage]);
        while (low < high) {
            uint32_t child = t->count++;
            t->bytes[child] = (uint8_t)sorted[low]->text[depth];
            ranges[child].depth = depth + 1;
            ranges[child].low = low;
            while (low < high && (uint8_t)sorted[low]->text[depth] == t->bytes[child]) low++;
            ranges[child].high = low;
            if (node == 0) t->roots[t->bytes[child]] = child;
        }
        n->children = t->count - n->first;
    }
    free(ranges);
    free(sorted);
}

// The name and id of one entry, checked.
static inline bool tokenizer_take_name(Tokenizer *tok, TokenizerReading *r, TokenizerNames *names, const Json *entry,
                                       const Json *id, TokenKind kind, Error *err) {
    const char *where = names == &r->vocab ? "model.vocab" : "added_tokens", *name = entry->text;
    size_t size = entry->size;
    if (names == &r->vocab) name = entry->key, size = entry->key_size;
    int64_t number = json_integer(id, -1);
    if (number < 0 || number >= TOKENIZER_MAX_IDS)
        return error_set(err, "%s: token \"%.60s\": the id must be a number from 0 to %d", where, name,
                         TOKENIZER_MAX_IDS - 1);
    if (size == 0 || strlen(name) != size)
        return error_set(err, "%s: token %lld: the name is empty or contains a NUL", where, (long long)number);
    if (number >= tok->vocab_size)
        return error_set(err,
                         "%s: token \"%.60s\" has the id %lld, which leaves too many ids without a token: of so few "
                         "tokens none may have more than %d",
                         where, name, (long long)number, tok->vocab_size - 1);
    TokenizerName *slot = tokenizer_name_slot(names, name, size);
    if (slot->id >= 0) return error_set(err, "%s: the token \"%.60s\" stands twice", where, name);
    if (names->longest > TOKENIZER_MAX_PROBES)
        return error_set(err, "%s: the names were chosen so that looking them up takes for ever", where);
    const char **taken = &r->by_id[number];
    if (*taken && strcmp(*taken, name) != 0)
        return error_set(err, "id %lld is given to \"%.60s\" and to \"%.60s\"", (long long)number, *taken, name);
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

// Added tokens. Hugging Face's tokenizers takes no id from the list: a name of the vocabulary keeps its id, any other
// gets the next one behind all that are there. A file in which that gives other ids would be two tokenizers.
static inline bool tokenizer_read_added(Tokenizer *tok, TokenizerReading *r, const Json *vocab, const Json *added,
                                        Error *err) {
    bool searched[2] = {false, false};
    int64_t last = -1;
    for (int stage = 0; stage < 2; stage++)
        tok->added[stage] = (AddedToken *)mem_alloc(sizeof(AddedToken) * ((size_t)added->size + 1));
    for (const Json *j = added->child; j; j = j->next) {
        const Json *content = json_get(j, "content"), *id = json_get(j, "id");
        if (!json_is(content, JSON_STRING)) return error_set(err, "added_tokens: an entry has no content");
        bool special = json_bool(json_get(j, "special"), false);
        const TokenizerName *known = tokenizer_name_slot(&r->vocab, content->text, content->size);
        int64_t given = known->id >= 0 ? known->id : last >= vocab->size ? last + 1 : vocab->size;
        if (!tokenizer_take_name(tok, r, &r->added, content, id, special ? TOKEN_SPECIAL : TOKEN_ADDED, err) ||
            !tokenizer_list_added(tok, j, searched, err))
            return false;
        if (id->integer != given && known->id >= 0)
            return error_set(err, "token \"%.60s\" has the ids %lld and %lld", content->text, (long long)given,
                             (long long)id->integer);
        if (id->integer != given)
            return error_set(err,
                             "added_tokens: \"%.60s\" has the id %lld, but Hugging Face's tokenizers would give it "
                             "%lld, "
                             "the next one that is free: list the tokens in the order of their ids, without a hole",
                             content->text, (long long)id->integer, (long long)given);
        last = int64_max(last, given);
    }
    for (int stage = 0; stage < 2; stage++) {
        if (searched[stage]) {
            tokenizer_build_trie(tok, stage);
            continue;
        } // nothing to be found but special tokens: no search
        for (int i = 0; i < tok->added_count[stage]; i++) free(tok->added[stage][i].text);
        tok->added_count[stage] = 0;
    }
    return true;
}

// The arrays by id.
static inline bool tokenizer_fill_arrays(Tokenizer *tok, TokenizerReading *r, Error *err) {
    int V = tok->vocab_size;
    size_t total = 1;
    for (int id = 0; id < V; id++) total += r->by_id[id] ? strlen(r->by_id[id]) + 1 : 0;
    tok->names = (char *)mem_alloc(total);
    tok->name_offsets = (size_t *)mem_alloc((size_t)V * sizeof(size_t));
    tok->bytes = (uint8_t *)mem_alloc(total);
    tok->byte_offsets = (size_t *)mem_alloc((size_t)(V + 1) * sizeof(size_t));
    uint32_t to_char[256];
    int16_t to_byte[324];
    byte_names(to_char, to_byte);
    size_t name_at = 1, byte_at = 0; // the empty name of missing ids is at 0
    for (int id = 0; id < V; id++) {
        const char *name = r->by_id[id];
        tok->byte_offsets[id] = byte_at;
        if (!name) continue;
        size_t size = strlen(name);
        tok->name_offsets[id] = name_at;
        memcpy(tok->names + name_at, name, size);
        name_at += size + 1;
        if (tok->kinds[id] == TOKEN_SPECIAL) continue;
        if (tokenizer_name_slot(&r->vocab, name, size)->id >= 0) { // merges may make it, whatever else it is
            byte_at += tokenizer_name_bytes(name, to_byte, tok->bytes + byte_at);
        } else {
            memcpy(tok->bytes + byte_at, name, size);
            byte_at += size;
        }
    }
    tok->byte_offsets[V] = byte_at;
    for (int b = 0; b < 256; b++) {
        char name[4];
        size_t n = (size_t)utf8_put((uint8_t *)name, to_char[b]);
        int id = tok->byte_ids[b] = tokenizer_name_slot(&r->vocab, name, n)->id;
        if (id < 0) return error_set(err, "model.vocab: no token for the byte 0x%02x; expected all 256 bytes", b);
        if (tok->kinds[id] == TOKEN_SPECIAL)
            return error_set(err, "added_tokens: the token %d of the byte 0x%02x is called special", id, b);
    }
    return true;
}

// One merge, the next in rank. `whole` is scratch.
static inline bool tokenizer_read_merge(Tokenizer *tok, TokenizerNames *names, const Json *j, Str *whole, Error *err) {
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
    if (tok->kinds[c] == TOKEN_SPECIAL)
        return error_set(err,
                         "added_tokens: \"%.60s\" is called special, but entry %d of model.merges makes it from text",
                         whole->data, tok->merge_count);
    uint64_t pair = tokenizer_pair(a, b), slot = tokenizer_mix(pair) & tok->merge_mask;
    for (int probes = 0; tok->merge_table[slot].pair != UINT64_MAX && tok->merge_table[slot].pair != pair; probes++) {
        if (probes > TOKENIZER_MAX_PROBES)
            return error_set(err, "model.merges: the pairs were chosen so that looking them up takes for ever");
        slot = (slot + 1) & tok->merge_mask;
    }
    tok->merge_table[slot].pair = pair; // where a pair stands twice the later rank counts
    tok->merge_table[slot].rank = tok->merge_count;
    tok->merge_table[slot].id = c;
    tok->merges[tok->merge_count][0] = a;
    tok->merges[tok->merge_count++][1] = b;
    return true;
}

static inline bool tokenizer_read_merges(Tokenizer *tok, TokenizerNames *names, const Json *merges, Error *err) {
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
        if (!json_is(j, JSON_STRING) || strncmp(j->text, "#version", 8) != 0) // the head of merges.txt is no merge
            ok = tokenizer_read_merge(tok, names, j, &whole, err);
    free(whole.data);
    return ok;
}

// True if some text could have a pre-token of these bytes.
static inline bool tokenizer_is_word(const Tokenizer *tok, const uint8_t *p, size_t n) {
    return n > 0 && text_valid(p, p + n) == n && text_split(tok->pattern, p, p + n) == p + n;
}

// The table of whole words, in the order of the file.
static inline bool tokenizer_fill_words(Tokenizer *tok, const Json *vocab, Error *err) {
    uint64_t slots = tokenizer_slots(vocab->size);
    tok->word_table = (int32_t *)mem_alloc(slots * sizeof(int32_t));
    tok->word_mask = slots - 1;
    memset(tok->word_table, 0xff, slots * sizeof(int32_t));
    for (const Json *j = vocab->child; j; j = j->next) {
        int id = (int)j->integer, length, probes = 0;
        if (tok->kinds[id] == TOKEN_SPECIAL && tokenizer_is_word(tok, (const uint8_t *)j->key, j->key_size))
            return error_set(err, "added_tokens: \"%.60s\" is called special, but ignore_merges makes it from text",
                             j->key);
        if (tok->kinds[id] == TOKEN_SPECIAL) continue;
        const uint8_t *word = tokenizer_bytes(tok, id, &length);
        uint64_t slot = tokenizer_hash_bytes(word, (size_t)length) & tok->word_mask;
        for (; tok->word_table[slot] >= 0; slot = (slot + 1) & tok->word_mask)
            if (++probes > TOKENIZER_MAX_PROBES)
                return error_set(err, "model.vocab: the names were chosen so that looking them up takes for ever");
        tok->word_table[slot] = id;
    }
    return true;
}

// Fills vocabulary, added tokens and merges.
static inline bool tokenizer_read_model(Tokenizer *tok, const Json *root, const Json *model, Error *err) {
    const Json *vocab = json_get(model, "vocab"), *merges, *added;
    Json none;
    memset(&none, 0, sizeof none);
    none.type = JSON_ARRAY;
    if (!tokenizer_read_flag(&tok->ignore_merges, model, "ignore_merges", false, "model", err) ||
        !tokenizer_read_part(&merges, model, "merges", JSON_ARRAY, "model", err) ||
        !tokenizer_read_part(&added, root, "added_tokens", JSON_ARRAY, "tokenizer.json", err))
        return false;
    if (!added) added = &none;
    TokenizerReading r;
    int64_t last = 0, tokens = (int64_t)vocab->size + added->size;
    for (const Json *j = vocab->child; j; j = j->next) last = int64_max(last, json_integer(j, 0));
    for (const Json *j = added->child; j; j = j->next) last = int64_max(last, json_integer(json_get(j, "id"), 0));
    // What a small file can make large. Ids beyond are refused one by one.
    tok->vocab_size = (int)int64_min(last + 1, int64_min(16 * tokens + 65536, TOKENIZER_MAX_IDS));
    tok->kinds = (uint8_t *)mem_alloc((size_t)tok->vocab_size);
    r.by_id = (const char **)mem_alloc((size_t)tok->vocab_size * sizeof(char *));
    tokenizer_names_open(&r.vocab, vocab->size);
    tokenizer_names_open(&r.added, added->size);
    bool ok = true;
    for (const Json *j = vocab->child; ok && j; j = j->next)
        ok = tokenizer_take_name(tok, &r, &r.vocab, j, j, TOKEN_NORMAL, err);
    ok = ok && tokenizer_read_added(tok, &r, vocab, added, err) && tokenizer_fill_arrays(tok, &r, err) &&
         tokenizer_read_merges(tok, &r.vocab, merges, err) &&
         (!tok->ignore_merges || tokenizer_fill_words(tok, vocab, err));
    free(r.vocab.slots);
    free(r.added.slots);
    free(r.by_id);
    return ok;
}

static inline uint64_t tokenizer_content_hash(const Tokenizer *tok) {
    uint64_t h = fnv1a64("llmc tokenizer", 14, FNV1A64_START);
    int32_t header[5] = {(int32_t)tok->pattern, tok->nfc, tok->ignore_merges, tok->vocab_size, tok->merge_count};
    h = fnv1a64(header, sizeof header, h);
    h = fnv1a64(tok->kinds, (size_t)tok->vocab_size, h);
    for (int id = 0; id < tok->vocab_size; id++)
        h = fnv1a64(tokenizer_name(tok, id), strlen(tokenizer_name(tok, id)) + 1, h);
    h = fnv1a64(tok->merges, (size_t)tok->merge_count * sizeof *tok->merges, h);
    int32_t around[2] = {tok->bos, tok->closing}; // in shards, too
    return tok->bos < 0 && tok->closing < 0 ? h : fnv1a64(around, sizeof around, h);
}

// The model's fields but for the vocabulary.
static inline bool tokenizer_check_model(const Json *model, Error *err) {
    const Json *vocab = json_get(model, "vocab"), *type = json_get(model, "type"),
               *dropout = json_get(model, "dropout");
    if (!json_is(model, JSON_OBJECT)) return error_set(err, "no \"model\": not a tokenizer.json");
    if (type && strcmp(json_string(type, ""), "BPE") != 0)
        return error_set(err, "model.type: \"%.40s\" is not supported; expected BPE", json_string(type, ""));
    if (!json_is(vocab, JSON_OBJECT) || vocab->size == 0)
        return error_set(err, "model.vocab: expected tokens and their ids");
    if (dropout && dropout->type != JSON_NULL && json_number(dropout, 1) != 0)
        return error_set(err, "model.dropout is not supported: the same text would have other ids each time");
    if (!json_is_empty(json_get(model, "continuing_subword_prefix")))
        return error_set(err, "model.continuing_subword_prefix is not supported");
    if (!json_is_empty(json_get(model, "end_of_word_suffix")))
        return error_set(err, "model.end_of_word_suffix is not supported");
    return true;
}

// The end of a text and what else is said by names, as long as no file beside says more.
static inline void tokenizer_find_end(Tokenizer *tok) {
    static const char *const names[] = {TOKENIZER_EOT, "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "</s>", "<eos>"};
    tok->eot = tok->closing;
    tok->end_said = tok->closing >= 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && tok->eot < 0; i++)
        tok->eot = tokenizer_special(tok, names[i]);
    tok->stop_count = tok->eot >= 0;
    tok->stops[0] = tok->eot;
    tok->bos_named = tok->bos;
    tok->pad = tokenizer_special(tok, "<|pad|>");
}

// Whether a generated text ends with this token.
static inline bool tokenizer_stops(const Tokenizer *tok, int id) {
    for (int i = 0; i < tok->stop_count; i++)
        if (tok->stops[i] == id) return true;
    return false;
}

// Reads the text of a tokenizer.json. On failure nothing is left to free.
static inline bool tokenizer_parse(Tokenizer *tok, const char *text, size_t size, Error *err) {
    memset(tok, 0, sizeof *tok);
    tok->bos = tok->closing = -1;
    JsonDoc doc;
    Json *root = json_parse(&doc, text, size, err);
    if (!root) return false;
    const Json *model = json_get(root, "model");
    bool ok = json_unique(root, err) && tokenizer_check_model(model, err) && json_unique(model, err) &&
              tokenizer_read_normalizer(tok, json_get(root, "normalizer"), err) &&
              tokenizer_read_pre_tokenizer(tok, json_get(root, "pre_tokenizer"), err) &&
              tokenizer_read_decoder(json_get(root, "decoder"), err) && tokenizer_read_model(tok, root, model, err) &&
              tokenizer_read_post_processor(tok, json_get(root, "post_processor"), err);
    if (ok) {
        tokenizer_find_end(tok);
        tok->hash = tokenizer_content_hash(tok);
        tok->json = (char *)mem_alloc(size + 1);
        memcpy(tok->json, text, size);
        tok->json_size = size;
    } else {
        tokenizer_free(tok);
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

#endif
