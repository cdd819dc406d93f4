/*
data.h: tokens on disk, and the order in which training sees them.

A shard is a header of 1024 bytes and then tokens of 2 or 4 bytes, little-endian. ShardHeader below is
the format. Documents follow each other, each closed by the end-of-text token; a shard ends where it
is full, so a document may go on in the next one. Read as well: the shards of llm.c (256 int32 of
header, which begin 20240520, 1, tokens for tokens of 2 bytes and 20240801, 7, tokens for 4 bytes).

All shards that one run of `tokenize` wrote are a set, and say so in their headers: where a prefix has shards of two
sets, or a pattern finds only a part of one, that is an error (shard_set.h says how it cannot come about by itself).

A Dataset memory-maps all shards of a glob and cuts each into sequences of T + 1 tokens: T inputs, and the
same shifted by one as targets. Sequence s of a shard begins at token s * T, so that every token but
the first is a target once an epoch; the rest of a shard that does not fill a sequence is not used.

Order: training position p (a number that counts sequences from the start of the run over all ranks)
reads sequence permutation(seed, p / n, n, p % n). This shuffle is computed from p alone: resuming costs
nothing, and the number of ranks and threads and the batch size do not change what is seen when.

A shard of conversations (version 2; `tokenize --format=chat`) has tokens of 4 bytes with two flags each (chat_rows.h):
it counts in the loss; a conversation begins with it. Its sequences are rows of whole conversations, packed when it is
opened. A conversation does not go on in the next shard. A shard of pairs of answers (version 3; `tokenize
--format=preferences`) is the same, with two conversations for a pair.

Checksums are compared once a start, by all threads and the ranks of a host together (dataset_verify).
*/
#ifndef LLMC_DATA_H
#define LLMC_DATA_H

#include "../base/hash.h"
#include "chat_rows.h"
#include "shard_docs.h"
#include <pthread.h>

#define SHARD_VERSION 1
#define SHARD_CHAT 2            // the version of shards of conversations,
#define SHARD_PAIRS 3           // and of pairs of them
#define SHARD_REFERENCES ".ref" // in place of .bin: what references.h writes beside a shard of pairs
#define SHARD_TOKENS 100000000  // tokens a shard, unless asked otherwise: 200 MB

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t token_bytes;    // 2 or 4
    int64_t tokens;          // that follow the header
    int64_t documents;       // that end in this shard
    int64_t bytes;           // of UTF-8 text that the tokens stand for
    int64_t vocab_size;      // every token is below it
    uint64_t tokenizer_hash; // Tokenizer.hash
    int64_t eot;             // the token that closes a document
    uint64_t checksum;       // XXH64, seed 0, of all bytes after the header
    uint64_t set;            // what one run of tokenize wrote, by its content; 0: an old shard, which does not say
    uint32_t set_side;       // 0: training, 1: validation
    uint32_t set_index;      // of this shard among those of its side,
    uint64_t set_count;      // so many
    uint64_t chat_template;  // of conversations: hash of the name of their template (chat_template.h); else 0
    uint64_t reserved[114];  // zero
    uint64_t header_sum;     // XXH64, seed 0, of the 1016 bytes before it
} ShardHeader;

// static_assert has different names in C and C++.
typedef char shard_header_is_1024_bytes[sizeof(ShardHeader) == 1024 ? 1 : -1];

// ---------------------------------------------------------------- order

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
static inline uint64_t permutation_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// Where place i of [0, n) goes: a bijection of [0, n) for every seed and epoch, n up to 2^62.
// A Feistel network permutes the numbers of the smallest sufficient even count of bits; results from
// n upwards are fed in again until one falls below n (cycle walking: Black and Rogaway, CT-RSA 2002),
// fewer than 4 times on average. 10 bits at least, since on tiny domains a Feistel network reaches
// only some permutations. 30 to 150 ns, on tiny n some microseconds.
static inline int64_t permutation(uint64_t seed, uint64_t epoch, int64_t n, int64_t i) {
    int half = 5;
    while (half < 31 && (int64_t)1 << (2 * half) < n) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, x = (uint64_t)i;
    uint64_t key = permutation_mix(seed + 0x9e3779b97f4a7c15ull) ^ permutation_mix(~epoch * 0xd1342543de82ef95ull);
    do {
        uint64_t left = x >> half, right = x & mask;
        for (uint64_t round = 1; round <= 6; round++) {
            uint64_t next = left ^ (permutation_mix((key + round * 0x9e3779b97f4a7c15ull) ^ right) >> 32 & mask);
            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

// ---------------------------------------------------------------- reading

typedef struct {
    MappedFile file;
    int fd; // batches are read by read(2), not through the mapping: a disk that fails is an error then, not SIGBUS
    char *path;
    const uint8_t *data; // (tokens) of token_bytes each
    ShardHeader header;  // of a shard of llm.c: what is known, the rest 0
    bool checked;        // has checksums of its own
    ChatRows rows;       // of conversations; else empty
    double *references;  // (pairs, 2): log-probabilities of their answers, where somebody has put them; else NULL
    int64_t first;       // number of its first sequence
    int64_t sequences;
} Shard;

typedef struct {
    Shard *shards; // (count)
    int count;
    int seq_len;             // T
    int64_t sequences;       // of seq_len + 1 tokens, over all shards
    int64_t tokens;          // over all shards
    int64_t documents;       // 0: unknown (shards of llm.c)
    int64_t bytes;           // of text; 0: unknown
    int64_t vocab_size;      // 0: unknown; whoever knows better may set it before reading
    uint64_t tokenizer_hash; // 0: unknown
    uint64_t chat_template;  // of conversations that are among them; 0: there are none
    bool pairs;              // they are pairs
    uint64_t fingerprint;    // changes when the tokens or their order over shards change; names do not matter
} Dataset;

static inline void dataset_close(Dataset *d) {
    for (int i = 0; i < d->count; i++) {
        file_unmap(&d->shards[i].file);
        chat_rows_close(&d->shards[i].rows);
        free(d->shards[i].references);
        if (d->shards[i].fd >= 0) close(d->shards[i].fd);
        free(d->shards[i].path);
    }
    free(d->shards);
    memset(d, 0, sizeof *d);
}

static inline bool shard_is_pairs(const Shard *s) { return s->header.version == SHARD_PAIRS; }

static inline bool shard_is_chat(const Shard *s) { return s->header.version == SHARD_CHAT || shard_is_pairs(s); }

static inline uint32_t shard_token(const Shard *s, int64_t at) {
    uint16_t narrow;
    uint32_t wide;
    if (s->header.token_bytes == 2) {
        memcpy(&narrow, s->data + 2 * at, 2);
        return narrow;
    }
    memcpy(&wide, s->data + 4 * at, 4);
    return shard_is_chat(s) ? wide & CHAT_ID : wide;
}

// Fills s->header from the first bytes of a mapped file and checks them against its size.
static inline bool shard_check(Shard *s, Error *err) {
    const char *path = s->path;
    size_t size = s->file.size;
    int32_t old[3];
    uint64_t magic;
    if (size < sizeof(ShardHeader))
        return error_set(err, "%s is not a shard or is truncated: it has %zu bytes, a header has %zu", path, size,
                         sizeof(ShardHeader));
    memcpy(&s->header, s->file.data, sizeof(ShardHeader));
    memcpy(old, s->file.data, sizeof old);
    magic = s->header.magic;
    s->data = s->file.data + sizeof(ShardHeader);
    size -= sizeof(ShardHeader);

    if (old[0] == 20240520 || old[0] == 20240801) {
        int32_t version = old[0] == 20240520 ? 1 : 7;
        if (old[1] != version)
            return error_set(err, "%s is a shard of llm.c of version %d; expected version %d", path, (int)old[1],
                             (int)version);
        memset(&s->header, 0, sizeof s->header);
        s->header.token_bytes = old[0] == 20240520 ? 2 : 4;
        s->header.tokens = old[2];
    } else if (magic == SHARD_MAGIC) {
        s->checked = true;
        if (s->header.version != SHARD_VERSION && !shard_is_chat(s))
            return error_set(err, "%s is a shard of version %u; this program knows %d to %d: tokenise again", path,
                             s->header.version, SHARD_VERSION, SHARD_PAIRS);
        if (xxh64(&s->header, sizeof(ShardHeader) - 8, 0) != s->header.header_sum)
            return error_set(err,
                             "%s has a damaged header (its checksum does not match); copy it again or tokenise again",
                             path);
        if (s->header.vocab_size < 1 || s->header.vocab_size > INT32_MAX || s->header.documents < 0 ||
            s->header.bytes < 0 || (s->header.token_bytes != 2 && s->header.token_bytes != 4) ||
            shard_is_chat(s) != (s->header.chat_template != 0) || (shard_is_chat(s) && s->header.token_bytes != 4) ||
            (s->header.set &&
             (s->header.set_side > 1 || s->header.set_count > 999999999 || s->header.set_index >= s->header.set_count)))
            return error_set(err, "%s has an impossible header; tokenise again", path);
    } else if (magic == __builtin_bswap64(SHARD_MAGIC) || old[0] == (int32_t)__builtin_bswap32(20240520) ||
               old[0] == (int32_t)__builtin_bswap32(20240801)) {
        return error_set(err,
                         "%s was written on a machine of foreign byte order (big-endian); tokenise again on this one",
                         path);
    } else {
        return error_set(err,
                         "%s is not a shard: it does not begin as one; text files are made into shards by the verb "
                         "tokenize",
                         path);
    }
    // Division, since a product of a wrong count could wrap around to the right size.
    if (s->header.tokens < 0 || size % s->header.token_bytes != 0 ||
        (uint64_t)s->header.tokens != size / s->header.token_bytes)
        return error_set(err,
                         "%s is %s: its header announces %lld tokens of %u bytes, %zu bytes follow; copy it again or "
                         "tokenise again",
                         path,
                         s->header.tokens >= 0 && size / s->header.token_bytes < (uint64_t)s->header.tokens
                             ? "truncated"
                             : "damaged",
                         (long long)s->header.tokens, s->header.token_bytes, size);
    return true;
}

// Whether a file is a shard of conversations, by its first bytes.
static inline bool shard_file_is_chat(bool *chat, const char *path, Error *err) {
    struct stat st;
    ShardHeader h;
    int fd = file_open(path, &st, err);
    if (fd < 0) return false;
    bool ok = (size_t)st.st_size < sizeof h || file_read_at(fd, &h, sizeof h, 0, err);
    close(fd);
    *chat = ok && (size_t)st.st_size >= sizeof h && h.magic == SHARD_MAGIC &&
            (h.version == SHARD_CHAT || h.version == SHARD_PAIRS);
    return ok;
}

// ---------------------------------------------------------------- sets

typedef struct {
    char *prefix; // which folder, however it was spelled, and the name in it up to the side; NULL: not needed
    const Shard *shard;
} ShardOfSet;

static inline int shard_order_prefix(const void *a, const void *b) {
    const ShardOfSet *x = (const ShardOfSet *)a, *y = (const ShardOfSet *)b;
    return strcmp(x->prefix, y->prefix);
}

static inline int shard_order_set(const void *a, const void *b) {
    const ShardHeader *x = &((const ShardOfSet *)a)->shard->header, *y = &((const ShardOfSet *)b)->shard->header;
    if (x->set != y->set) return x->set < y->set ? -1 : 1;
    if (x->set_side != y->set_side) return x->set_side < y->set_side ? -1 : 1;
    return (x->set_index > y->set_index) - (x->set_index < y->set_index);
}

// Refuses shards of different sets under one prefix.
static inline bool datasets_same_sets(const Dataset *const *datasets, int n, Error *err) {
    size_t count = 0, all = 0;
    for (int k = 0; k < n; k++) all += (size_t)datasets[k]->count;
    ShardOfSet *named = (ShardOfSet *)mem_alloc(all * sizeof(ShardOfSet));
    Path folder = path_of("%s", "");
    FileId id = {0, 0};
    bool ok = true;
    for (int k = 0; ok && k < n; k++)
        for (int i = 0; ok && i < datasets[k]->count; i++) {
            ShardName name;
            if (!shard_name_parse(&name, datasets[k]->shards[i].path)) continue;
            if (strcmp(folder.text, name.folder.text) != 0) ok = path_id(name.folder.text, &id, err);
            folder = name.folder;
            named[count].prefix = str_copy(path_of("%" PRIx64 ":%" PRIx64 "/%s", id.device, id.inode, name.base).text);
            named[count++].shard = &datasets[k]->shards[i];
        }
    qsort(named, count, sizeof *named, shard_order_prefix);
    for (size_t i = 1; ok && i < count; i++) {
        const Shard *a = named[i - 1].shard, *b = named[i].shard;
        if (strcmp(named[i - 1].prefix, named[i].prefix) == 0 && a->header.set != b->header.set)
            ok = error_set(err,
                           "%s and %s are of different runs of tokenize, so that texts can be missing, or be there "
                           "twice; tokenise again, or copy all shards of one run",
                           a->path, b->path);
    }
    for (size_t i = 0; i < count; i++) free(named[i].prefix);
    free(named);
    return ok;
}

// Whether shard `number` of the set that s is of is on disk, though it was not asked for; else an error.
static inline bool shard_left_out(const Shard *s, int64_t number, Error *err) {
    ShardName name;
    FileKind kind = FILE_ABSENT;
    bool known = shard_name_parse(&name, s->path);
    Path path = shard_path(&name, (int)s->header.set_side, number);
    if (known && !path_look(path.text, &kind, err)) return false;
    return kind != FILE_ABSENT
               ? true
               : error_set(err,
                           "%s is one of %lld shards of a run of tokenize, and number %lld is missing (%s); copy it, "
                           "tokenise again, or name the shards that you want one by one",
                           s->path, (long long)s->header.set_count, (long long)number,
                           known ? path.text : shard_sides[s->header.set_side]);
}

// Where patterns were given: they must find all shards of a set, but for those that lie beside them and do not match.
static inline bool dataset_whole_sets(const Dataset *d, const char *globs, Error *err) {
    if (!strpbrk(globs, "*?[")) return true;
    ShardOfSet *sets = (ShardOfSet *)mem_alloc((size_t)d->count * sizeof(ShardOfSet));
    int count = 0;
    for (int i = 0; i < d->count; i++)
        if (d->shards[i].header.set) sets[count++].shard = &d->shards[i];
    qsort(sets, (size_t)count, sizeof *sets, shard_order_set);
    bool ok = true;
    int64_t expected = 0;
    for (int i = 0; ok && i < count; i++) {
        const ShardHeader *h = &sets[i].shard->header, *next = i + 1 < count ? &sets[i + 1].shard->header : NULL;
        for (; ok && expected < h->set_index; expected++) ok = shard_left_out(sets[i].shard, expected, err);
        expected = (int64_t)h->set_index + 1;
        if (next && next->set == h->set && next->set_side == h->set_side) continue;
        for (; ok && expected < (int64_t)h->set_count; expected++) ok = shard_left_out(sets[i].shard, expected, err);
        expected = 0;
    }
    free(sets);
    return ok;
}

// ---------------------------------------------------------------- data sets

// The files of "GLOB,FILE,...", but for the lists of documents, the manifest and the references of pairs that a wide
// pattern finds, too.
static inline bool shard_paths(StrList *paths, const char *globs, Error *err) {
    if (!path_expand(paths, globs, err)) return false;
    int kept = 0;
    for (int i = 0; i < paths->count; i++) {
        ShardName name;
        bool list = shard_name_parse_any(&name, paths->items[i]) && name.docs;
        list = list || str_ends_with(paths->items[i], SHARD_REFERENCES);
        if (list || str_ends_with(paths->items[i], SHARD_MANIFEST)) free(paths->items[i]);
        else paths->items[kept++] = paths->items[i];
    }
    paths->count = kept;
    return kept > 0 ? true : error_set(err, "no shards in %.900s, only lists of documents", globs);
}

// The files of "GLOB,FILE,...", after sets that wait for their names have got them.
static inline bool dataset_paths(StrList *paths, const char *globs, Error *err) {
    bool done = false, found = shard_paths(paths, globs, err);
    if (!found && !shard_set_settle_folders(globs, &done, err)) return false;
    ShardName name, before;
    memset(&before, 0, sizeof before);
    for (int i = 0; found && i < paths->count; i++) {
        if (!shard_name_parse(&name, paths->items[i])) continue;
        if (strcmp(name.base, before.base) == 0 && strcmp(name.folder.text, before.folder.text) == 0) continue;
        if (!shard_set_settle(&name, &done, err)) return false;
        before = name;
    }
    if (!done) return found;
    str_list_free(paths);
    return shard_paths(paths, globs, err);
}

// The rows of a shard of conversations, as its sequences.
static inline bool dataset_add_rows(Dataset *d, Shard *s, Error *err) {
    if (!shard_is_chat(s)) return true;
    if (d->chat_template && d->chat_template != s->header.chat_template)
        return error_set(err, "%s was made with another chat template than those before it: tokenise all with the same",
                         s->path);
    if (d->chat_template && d->pairs != shard_is_pairs(s))
        return error_set(err, "%s holds %s, and a shard before it %s: train on one of them at a time", s->path,
                         d->pairs ? "conversations" : "pairs of answers",
                         d->pairs ? "pairs of answers" : "conversations");
    d->chat_template = s->header.chat_template;
    d->pairs = shard_is_pairs(s);
    if (!chat_rows_open(&s->rows, (const uint32_t *)s->data, s->header.tokens, d->seq_len))
        return error_set(err, "%s is damaged: %s; tokenise again", s->path,
                         d->pairs ? "a pair has no end" : "its first token begins no conversation");
    if (s->rows.pairs != (d->pairs ? s->rows.conversations + s->rows.left : 0))
        return error_set(err, "%s is damaged: %lld of its documents are pairs, and its header says %s; tokenise again",
                         s->path, (long long)s->rows.pairs, d->pairs ? "all" : "none");
    s->sequences = s->rows.rows;
    return true;
}

// Opens shard number i and adds it to the sums.
static inline bool dataset_add(Dataset *d, int i, const char *path, Xxh64 *print, Error *err) {
    Shard *s = &d->shards[i];
    s->path = str_copy(path);
    d->count++;
    struct stat st;
    if ((s->fd = file_open(s->path, &st, err)) < 0 || !file_map(&s->file, s->path, err) || !shard_check(s, err))
        return false;
    const ShardHeader *h = &s->header, *h0 = &d->shards[0].header;
    if (h->tokenizer_hash != h0->tokenizer_hash || h->vocab_size != h0->vocab_size)
        return error_set(err,
                         "%s was made with another tokenizer than %s (hash %016llx, vocabulary %lld; hash %016llx, "
                         "vocabulary %lld): tokenise all with the same one",
                         s->path, d->shards[0].path, (unsigned long long)h->tokenizer_hash, (long long)h->vocab_size,
                         (unsigned long long)h0->tokenizer_hash, (long long)h0->vocab_size);
    s->first = d->sequences;
    if (!dataset_add_rows(d, s, err)) return false;
    if (!shard_is_chat(s)) s->sequences = h->tokens > 0 ? (h->tokens - 1) / d->seq_len : 0;
    d->sequences += s->sequences;
    d->tokens += h->tokens;
    d->documents += h->documents;
    d->bytes += h->bytes;
    // A shard without checksum is told by its size and its ends.
    size_t bytes = s->file.size, end = bytes < 65536 ? bytes : 65536;
    xxh64_update(print, &h->tokens, sizeof h->tokens);
    if (s->checked) xxh64_update(print, &h->checksum, sizeof h->checksum);
    else xxh64_update(print, s->file.data, end), xxh64_update(print, s->file.data + bytes - end, end);
    return true;
}

// Opens the shards of "GLOB,FILE,..." for sequences of seq_len + 1 tokens. On false nothing is left open.
static inline bool dataset_open(Dataset *d, const char *globs, int seq_len, Error *err) {
    memset(d, 0, sizeof *d);
    StrList paths;
    memset(&paths, 0, sizeof paths);
    bool ok = seq_len >= 1 ? dataset_paths(&paths, globs, err)
                           : error_set(err, "seq_len must be at least 1, it is %d", seq_len);
    d->seq_len = seq_len;
    d->shards = (Shard *)mem_alloc((size_t)paths.count * sizeof(Shard));
    Xxh64 print;
    xxh64_init(&print, 0);
    for (int i = 0; ok && i < paths.count; i++) ok = dataset_add(d, i, paths.items[i], &print, err);
    ok = ok && datasets_same_sets((const Dataset *const *)&d, 1, err) && dataset_whole_sets(d, globs, err);
    if (ok && d->sequences == 0 && d->chat_template)
        ok = error_set(err,
                       d->pairs ? "not one pair of %s has room for both its sides in --seq_len=%d tokens: take a "
                                  "larger one"
                                : "not one answer of the conversations in %s ends within --seq_len=%d tokens: take a "
                                  "larger one",
                       globs, seq_len);
    else if (ok && d->sequences == 0)
        ok = error_set(err,
                       "not enough data: %s has %lld tokens in %d shard%s, and a sequence needs %d in one shard; give "
                       "more text or a smaller --seq_len",
                       globs, (long long)d->tokens, d->count, d->count == 1 ? "" : "s", seq_len + 1);
    str_list_free(&paths);
    if (!ok) {
        dataset_close(d);
        return false;
    }
    d->vocab_size = d->shards[0].header.vocab_size;
    d->tokenizer_hash = d->shards[0].header.tokenizer_hash;
    d->fingerprint = xxh64_value(&print);
    return true;
}

// The first token of s from `at` on, below at + n, that the vocabulary does not have; -1: all are fine.
static inline int64_t shard_bad_token(const Shard *s, int64_t vocab_size, int64_t at, int64_t n) {
    uint64_t limit = vocab_size > 0 ? (uint64_t)vocab_size : (uint64_t)INT32_MAX + 1;
    for (int64_t i = at; i < at + n; i++)
        if (shard_token(s, i) >= limit) return i;
    return -1;
}

static inline bool shard_token_error(const Shard *s, int64_t at, uint32_t token, int64_t vocab_size, Error *err) {
    return error_set(err,
                     "%s: token %lld is %u, the vocabulary has %lld; the shard is damaged or was made with another "
                     "tokenizer",
                     s->path, (long long)at, token, (long long)vocab_size);
}

// out = n tokens of s from `at` on, as they stand in the file.
static inline bool shard_read(const Shard *s, int64_t at, void *out, int64_t n, Error *err) {
    char *to = (char *)out;
    size_t left = (size_t)n * s->header.token_bytes;
    off_t from =
        (off_t)(s->file.size - (size_t)s->header.tokens * s->header.token_bytes + (size_t)at * s->header.token_bytes);
    while (left) {
        ssize_t got = pread(s->fd, to, left, from);
        struct stat now;
        if (got == 0)
            return error_set(err, "%s became shorter while it was read: it had %zu bytes and has %lld", s->path,
                             s->file.size, fstat(s->fd, &now) == 0 ? (long long)now.st_size : 0);
        if (got < 0 && errno != EINTR) return error_set(err, "cannot read %s: %s", s->path, strerror(errno));
        if (got > 0) to += got, from += got, left -= (size_t)got;
    }
    return true;
}

// inputs, targets (T) = the T + 1 tokens of s from `at` on, of which each is in the vocabulary.
static inline bool shard_tokens(const Shard *s, int64_t vocab_size, int64_t at, int64_t T, int32_t *inputs,
                                int32_t *targets, Error *err) {
    if (s->header.token_bytes == 4) {
        if (!shard_read(s, at, inputs, 1, err) || !shard_read(s, at + 1, targets, T, err)) return false;
    } else {
        uint16_t first, *narrow = (uint16_t *)targets + T; // widened in place, front to back: each write lies behind
        if (!shard_read(s, at, &first, 1, err) || !shard_read(s, at + 1, narrow, T, err)) return false;
        inputs[0] = first;
        for (int64_t t = 0; t < T; t++) {
            uint16_t token;
            memcpy(&token, narrow + t, sizeof token);
            targets[t] = token;
        }
    }
    memcpy(inputs + 1, targets, (size_t)(T - 1) * sizeof(int32_t));
    uint32_t limit = vocab_size > 0 ? (uint32_t)vocab_size : (uint32_t)INT32_MAX + 1;
    for (int64_t t = -1; t < T; t++) {
        uint32_t token = (uint32_t)(t < 0 ? inputs[0] : targets[t]);
        if (token >= limit) return shard_token_error(s, at + t + 1, token, vocab_size, err);
    }
    return true;
}

// Tokens of sequences, and where in its sequence the document of each begins.
typedef struct {
    int32_t *inputs, *targets, *starts;
} SourceRows;

// Positions t .. t + n - 1 of a row are those of the conversation whose n + 1 tokens stand at `at`.
static inline bool shard_conversation(const Shard *s, int64_t vocab_size, int64_t at, int32_t n, int64_t t,
                                      SourceRows r, Error *err) {
    uint32_t limit = vocab_size > 0 ? (uint32_t)vocab_size : (uint32_t)CHAT_ID + 1, word;
    if (!shard_read(s, at, r.inputs + t, 1, err) || !shard_read(s, at + 1, r.targets + t, n, err)) return false;
    for (int64_t k = 0; k <= n; k++) {
        memcpy(&word, k ? r.targets + t + k - 1 : r.inputs + t, sizeof word);
        if ((word & CHAT_ID) >= limit) return shard_token_error(s, at + k, word & CHAT_ID, vocab_size, err);
        if (k < n) r.inputs[t + k] = (int32_t)(word & CHAT_ID), r.starts[t + k] = (int32_t)t;
        if (k) r.targets[t + k - 1] = word & CHAT_TARGET ? (int32_t)(word & CHAT_ID) : -1;
    }
    return true;
}

// rows (T) = a row of conversations; positions behind the last one are alone.
static inline bool shard_row(const Shard *s, int64_t vocab_size, int64_t row, int64_t T, SourceRows r, Error *err) {
    int64_t n, t = 0;
    const ChatItem *items = chat_rows_items(&s->rows, row, &n);
    for (int64_t i = 0; i < n; t += items[i++].n) {
        const ChatItem *item = &items[i];
        int32_t first = item->other ? item->other - 1 : item->n;
        if (!shard_conversation(s, vocab_size, item->at, first, t, r, err) ||
            (item->other &&
             !shard_conversation(s, vocab_size, item->at + item->other, item->n - first, t + first, r, err)))
            return false;
    }
    for (; t < T; t++) r.inputs[t] = 0, r.targets[t] = -1, r.starts[t] = (int32_t)t;
    return true;
}

// The shard that sequence `index` of [0, sequences) is in.
static inline const Shard *dataset_shard(const Dataset *d, int64_t index) {
    // The last shard that begins at or before index. One without sequences is never it: it shares its first
    // number with the shard that follows, or with the end.
    int low = 0, high = d->count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (d->shards[middle].first <= index) low = middle;
        else high = middle - 1;
    }
    return &d->shards[low];
}

// inputs, targets (T) = sequence number `index` of [0, sequences); starts (T), or NULL where there are no
// conversations: where in it the document of a token begins, 0 in a sequence of text. Safe to call from several
// threads.
static inline bool dataset_sequence(const Dataset *d, int64_t index, int32_t *inputs, int32_t *targets, int32_t *starts,
                                    Error *err) {
    if (index < 0 || index >= d->sequences)
        return error_set(err, "sequence %lld was asked for, the data has %lld", (long long)index,
                         (long long)d->sequences);
    const Shard *s = dataset_shard(d, index);
    SourceRows rows = {inputs, targets, starts};
    if (shard_is_chat(s)) return shard_row(s, d->vocab_size, index - s->first, d->seq_len, rows, err);
    if (starts) memset(starts, 0, sizeof(int32_t) * (size_t)d->seq_len);
    return shard_tokens(s, d->vocab_size, (index - s->first) * d->seq_len, d->seq_len, inputs, targets, err);
}

// What is left of a shard behind its last sequence: tokens to predict, fewer than T.
static inline int64_t shard_tail(const Shard *s, int64_t T) {
    if (shard_is_chat(s)) return 0;
    return s->header.tokens > 1 ? (s->header.tokens - 1) % T : 0;
}

// inputs, targets (T) = the tail number k (from 0) of those that there are; behind its end targets are -1.
static inline bool dataset_tail(const Dataset *d, int64_t k, int32_t *inputs, int32_t *targets, int32_t *starts,
                                Error *err) {
    const Shard *s = d->shards;
    int64_t T = d->seq_len;
    if (starts) memset(starts, 0, sizeof(int32_t) * (size_t)T);
    for (;; s++)
        if (shard_tail(s, T) > 0 && k-- == 0) break;
    int64_t n = shard_tail(s, T);
    if (!shard_tokens(s, d->vocab_size, s->sequences * T, n, inputs, targets, err)) return false;
    for (int64_t t = n; t < T; t++) inputs[t] = 0, targets[t] = -1;
    return true;
}

// The sequence that training position `position` of a run with this seed reads.
static inline int64_t dataset_index(const Dataset *d, uint64_t seed, int64_t position) {
    return permutation(seed, (uint64_t)(position / d->sequences), d->sequences, position % d->sequences);
}

// Whether a shard's tokens are those that its header speaks of; one of llm.c says nothing of them.
static inline bool shard_verify(const Shard *s, Error *err) {
    if (!s->checked) return true;
    if (s->file.mapping) madvise(s->file.mapping, s->file.size, MADV_SEQUENTIAL); // up to ten times as fast from disk
    uint64_t sum = xxh64(s->data, s->file.size - sizeof(ShardHeader), 0);
    if (s->file.mapping) madvise(s->file.mapping, s->file.size, MADV_NORMAL);
    return sum == s->header.checksum
               ? true
               : error_set(err,
                           "%s is damaged: its tokens have the checksum %016llx, its header says %016llx; copy it "
                           "again or tokenise again",
                           s->path, (unsigned long long)sum, (unsigned long long)s->header.checksum);
}

#define SHARD_VERIFY_THREADS 16 // they wait for the disk more than they compute

typedef struct {
    const Dataset *d;
    int next, parts; // shards that are still to be read: next, next + parts, ...
    bool tokens;
    int failed; // the first that is wrong, whichever thread finds it when
    Error why;
    int64_t bytes;
    pthread_mutex_t mutex;
} DatasetVerify;

static inline void *dataset_verify_thread(void *argument) {
    DatasetVerify *v = (DatasetVerify *)argument;
    Error why;
    for (;;) {
        pthread_mutex_lock(&v->mutex);
        int i = v->next;
        v->next = i < v->d->count ? i + v->parts : i;
        pthread_mutex_unlock(&v->mutex);
        if (i >= v->d->count) return NULL;
        const Shard *s = &v->d->shards[i];
        bool ok = shard_verify(s, &why);
        int64_t bad = ok && v->tokens ? shard_bad_token(s, v->d->vocab_size, 0, s->header.tokens) : -1;
        if (bad >= 0) ok = shard_token_error(s, bad, shard_token(s, bad), v->d->vocab_size, &why);
        pthread_mutex_lock(&v->mutex);
        v->bytes += s->checked || v->tokens ? (int64_t)s->file.size : 0;
        if (!ok && i < v->failed) v->failed = i, v->why = why;
        pthread_mutex_unlock(&v->mutex);
    }
}

// Reads everything once and compares the checksums: shards part, part + parts, ..., each by one thread. *bytes: how
// many were read. Tokens are looked at when they are used, unless `tokens` asks for it here.
static inline bool dataset_verify(const Dataset *d, int part, int parts, bool tokens, int64_t *bytes, Error *err) {
    DatasetVerify v;
    pthread_t threads[SHARD_VERIFY_THREADS];
    int count = (d->count - part + parts - 1) / parts, started = 0;
    memset(&v, 0, sizeof v);
    v.d = d, v.next = part, v.parts = parts, v.tokens = tokens, v.failed = d->count;
    pthread_mutex_init(&v.mutex, NULL);
    while (started < count - 1 && started < SHARD_VERIFY_THREADS &&
           pthread_create(&threads[started], NULL, dataset_verify_thread, &v) == 0)
        started++;
    dataset_verify_thread(&v); // alone, where no thread is to be had
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&v.mutex);
    *bytes = v.bytes;
    if (v.failed < d->count && err) *err = v.why;
    return v.failed == d->count;
}

// The share of the tokens that no sequence predicts: what is left at the end of each shard.
static inline double dataset_unused(const Dataset *d) {
    double there = 0;
    double used = 0;
    for (int i = 0; i < d->count; i++) {
        if (shard_is_chat(&d->shards[i])) continue;
        there += (double)int64_max(0, d->shards[i].header.tokens - 1);
        used += (double)d->shards[i].sequences * d->seq_len;
    }
    return there > 0 ? 1 - used / there : 0;
}

// The first shard that is there twice: under the same name, another, or as a copy. NULL: none is.
static inline const Shard *dataset_doubled(const Dataset *d) {
    for (int i = 1; i < d->count; i++)
        for (int k = 0; k < i; k++) {
            const Shard *a = &d->shards[k], *b = &d->shards[i];
            bool copy = a->checked && b->checked && a->header.tokens == b->header.tokens && b->header.tokens > 0 &&
                        a->header.checksum == b->header.checksum;
            if (copy || file_id_same(a->file.id, b->file.id)) return b;
        }
    return NULL;
}

// A shard of `d` that holds the same tokens as s: the same file, or a copy. NULL: there is none.
static inline const Shard *dataset_find_copy(const Dataset *d, const Shard *s) {
    for (int i = 0; i < d->count; i++) {
        const Shard *o = &d->shards[i];
        bool copy = s->checked && o->checked && s->header.tokens > 0 && s->header.tokens == o->header.tokens &&
                    s->header.checksum == o->header.checksum;
        if (!copy && !s->checked && !o->checked && s->file.size == o->file.size && s->file.size > sizeof(ShardHeader))
            copy = memcmp(s->data, o->data, s->file.size - sizeof(ShardHeader)) == 0;
        if (copy || file_id_same(s->file.id, o->file.id)) return o;
    }
    return NULL;
}

#endif
