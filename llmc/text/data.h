/*
data.h: tokens on disk, and the order in which training sees them.

A shard is a header of 1024 bytes and then tokens of 2 or 4 bytes, little-endian. ShardHeader below is
the format. Documents follow each other, each closed by the end-of-text token; a shard ends where it
is full, so a document may go on in the next one. Read as well: the shards of llm.c (256 int32 of
header, which begin 20240520, 1, tokens for tokens of 2 bytes and 20240801, 7, tokens for 4 bytes).

A Dataset memory-maps all shards of a glob and cuts each into sequences of T + 1 tokens: T inputs, and the
same shifted by one as targets. Sequence s of a shard begins at token s * T, so that every token but
the first is a target once an epoch; the rest of a shard that does not fill a sequence is not used.

Order: training position p (a number that counts sequences from the start of the run over all ranks)
reads sequence permutation(seed, p / n, n, p % n). This shuffle is computed from p alone: resuming costs
nothing, and the number of ranks and threads and the batch size do not change what is seen when.

ShardWriter writes shards to temporary names; they get their names together when all are complete.
*/
#ifndef LLMC_DATA_H
#define LLMC_DATA_H

#include "../base/file.h"
#include "../base/hash.h"

#define SHARD_MAGIC 0x647261687354504Cull // the bytes "LPTshard"
#define SHARD_VERSION 1
#define SHARD_TOKENS 100000000 // tokens a shard, unless asked otherwise: 200 MB

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
    uint64_t reserved[118];  // zero
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
    uint64_t fingerprint;    // changes when the tokens or their order over shards change; names do not matter
} Dataset;

static inline void dataset_close(Dataset *d) {
    for (int i = 0; i < d->count; i++) {
        file_unmap(&d->shards[i].file);
        if (d->shards[i].fd >= 0) close(d->shards[i].fd);
        free(d->shards[i].path);
    }
    free(d->shards);
    memset(d, 0, sizeof *d);
}

static inline uint32_t shard_token(const Shard *s, int64_t at) {
    uint16_t narrow;
    uint32_t wide;
    if (s->header.token_bytes == 2) {
        memcpy(&narrow, s->data + 2 * at, 2);
        return narrow;
    }
    memcpy(&wide, s->data + 4 * at, 4);
    return wide;
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
        if (s->header.version != SHARD_VERSION)
            return error_set(err, "%s is a shard of version %u; this program knows version %d: tokenise again", path,
                             s->header.version, SHARD_VERSION);
        if (xxh64(&s->header, sizeof(ShardHeader) - 8, 0) != s->header.header_sum)
            return error_set(err,
                             "%s has a damaged header (its checksum does not match); copy it again or tokenise again",
                             path);
        if (s->header.vocab_size < 1 || s->header.vocab_size > INT32_MAX || s->header.documents < 0 ||
            s->header.bytes < 0 || (s->header.token_bytes != 2 && s->header.token_bytes != 4))
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

// Opens the shards of "GLOB,FILE,..." for sequences of seq_len + 1 tokens. On false nothing is left open.
static inline bool dataset_open(Dataset *d, const char *glob_list, int seq_len, Error *err) {
    memset(d, 0, sizeof *d);
    StrList paths;
    memset(&paths, 0, sizeof paths);
    bool ok = seq_len >= 1 ? path_expand(&paths, glob_list, err)
                           : error_set(err, "seq_len must be at least 1, it is %d", seq_len);
    d->seq_len = seq_len;
    d->shards = (Shard *)mem_alloc((size_t)paths.count * sizeof(Shard));
    Xxh64 print;
    xxh64_init(&print, 0);
    for (int i = 0; ok && i < paths.count; i++) {
        Shard *s = &d->shards[i];
        struct stat st;
        s->path = str_copy(paths.items[i]);
        d->count++;
        if ((s->fd = file_open(s->path, &st, err)) < 0 || !file_map(&s->file, s->path, err) || !shard_check(s, err)) {
            ok = false;
            break;
        }
        const ShardHeader *h = &s->header, *h0 = &d->shards[0].header;
        if (h->tokenizer_hash != h0->tokenizer_hash || h->vocab_size != h0->vocab_size) {
            ok = error_set(err,
                           "%s was made with another tokenizer than %s (hash %016llx, vocabulary %lld; hash %016llx, "
                           "vocabulary %lld): tokenise all with the same one",
                           s->path, d->shards[0].path, (unsigned long long)h->tokenizer_hash, (long long)h->vocab_size,
                           (unsigned long long)h0->tokenizer_hash, (long long)h0->vocab_size);
            break;
        }
        s->first = d->sequences;
        s->sequences = h->tokens > 0 ? (h->tokens - 1) / seq_len : 0;
        d->sequences += s->sequences;
        d->tokens += h->tokens;
        d->documents += h->documents;
        d->bytes += h->bytes;
        // A shard without checksum is told by its size and its ends.
        size_t bytes = s->file.size, end = bytes < 65536 ? bytes : 65536;
        xxh64_update(&print, &h->tokens, sizeof h->tokens);
        if (s->checked) xxh64_update(&print, &h->checksum, sizeof h->checksum);
        else xxh64_update(&print, s->file.data, end), xxh64_update(&print, s->file.data + bytes - end, end);
    }
    if (ok && d->sequences == 0)
        ok = error_set(err,
                       "not enough data: %s has %lld tokens in %d shard%s, and a sequence needs %d in one shard; give "
                       "more text or a smaller --seq_len",
                       glob_list, (long long)d->tokens, d->count, d->count == 1 ? "" : "s", seq_len + 1);
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

// inputs, targets (T) = sequence number `index` of [0, sequences). Safe to call from several threads.
static inline bool dataset_sequence(const Dataset *d, int64_t index, int32_t *inputs, int32_t *targets, Error *err) {
    if (index < 0 || index >= d->sequences)
        return error_set(err, "sequence %lld was asked for, the data has %lld", (long long)index,
                         (long long)d->sequences);
    // The last shard that begins at or before index. One without sequences is never it: it shares its first
    // number with the shard that follows, or with the end.
    int low = 0, high = d->count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (d->shards[middle].first <= index) low = middle;
        else high = middle - 1;
    }
    const Shard *s = &d->shards[low];
    return shard_tokens(s, d->vocab_size, (index - s->first) * d->seq_len, d->seq_len, inputs, targets, err);
}

// The sequence that training position `position` of a run with this seed reads.
static inline int64_t dataset_index(const Dataset *d, uint64_t seed, int64_t position) {
    return permutation(seed, (uint64_t)(position / d->sequences), d->sequences, position % d->sequences);
}

// Reads everything once: all checksums, and all tokens against the vocabulary.
static inline bool dataset_verify(const Dataset *d, Error *err) {
    for (int i = 0; i < d->count; i++) {
        const Shard *s = &d->shards[i];
        uint64_t sum = s->checked ? xxh64(s->data, s->file.size - sizeof(ShardHeader), 0) : 0;
        if (s->checked && sum != s->header.checksum)
            return error_set(err,
                             "%s is damaged: its tokens have the checksum %016llx, its header says %016llx; copy it "
                             "again or tokenise again",
                             s->path, (unsigned long long)sum, (unsigned long long)s->header.checksum);
        int64_t bad = shard_bad_token(s, d->vocab_size, 0, s->header.tokens);
        if (bad >= 0) return shard_token_error(s, bad, shard_token(s, bad), d->vocab_size, err);
    }
    return true;
}

// ---------------------------------------------------------------- writing

// Writes PREFIX_00000.bin, PREFIX_00001.bin, ... Errors stick: shardwriter_finish() reports the first.
typedef struct {
    Path prefix;
    ShardHeader header; // of the open shard
    Xxh64 sum;
    OutFile out;
    bool open;
    int64_t limit;              // tokens a shard
    StrList temporaries, paths; // the complete shards and the names they will get
    int64_t tokens, documents, bytes;
    int failed; // errno of the first failure
} ShardWriter;

static inline void shardwriter_open(ShardWriter *w, const char *prefix, int64_t vocab_size, uint64_t tokenizer_hash,
                                    int64_t eot, int64_t limit) {
    memset(w, 0, sizeof *w);
    w->prefix = path_of("%.4000s", prefix);
    w->limit = limit > 0 ? limit : SHARD_TOKENS;
    w->header.magic = SHARD_MAGIC;
    w->header.version = SHARD_VERSION;
    w->header.token_bytes = vocab_size <= 65536 ? 2 : 4;
    w->header.vocab_size = vocab_size;
    w->header.tokenizer_hash = tokenizer_hash;
    w->header.eot = eot;
}

// Tokens that still fit into the shard that is being written; at least 1.
static inline int64_t shardwriter_room(const ShardWriter *w) {
    return w->open ? w->limit - w->header.tokens : w->limit;
}

// Writes the header over its place and closes the file, which keeps its temporary name.
static inline void shardwriter_close_shard(ShardWriter *w) {
    if (!w->open) return;
    w->open = false;
    w->header.checksum = xxh64_value(&w->sum);
    w->header.header_sum = xxh64(&w->header, sizeof(ShardHeader) - 8, 0);
    OutFile *f = &w->out;
    errno = 0;
    if (!f->failed && fseeko(f->stream, 0, SEEK_SET) != 0) f->failed = errno ? errno : EIO;
    out_write(f, &w->header, sizeof(ShardHeader));
    if (!f->failed && fflush(f->stream) != 0) f->failed = errno ? errno : EIO;
    if (!f->failed && fsync(fileno(f->stream)) != 0 && errno != EINVAL) f->failed = errno;
    if (fclose(f->stream) != 0 && !f->failed) f->failed = errno ? errno : EIO;
    f->stream = NULL;
    if (!w->failed) w->failed = f->failed;
    str_list_add(&w->temporaries, f->temporary.text);
    str_list_add(&w->paths, f->path.text);
}

// ids (n), n <= shardwriter_room(): tokens that stand for text_bytes bytes and close `documents` documents.
static inline void shardwriter_add(ShardWriter *w, const int32_t *ids, int64_t n, int64_t text_bytes,
                                   int64_t documents) {
    uint16_t narrow[4096];
    if (w->failed || n == 0) return;
    if (!w->open) {
        Error ignored;
        Path path = path_of("%s_%05d.bin", w->prefix.text, w->paths.count);
        errno = 0;
        if (!out_open(&w->out, path.text, &ignored)) {
            w->failed = errno ? errno : EIO;
            return;
        }
        w->open = true;
        w->header.tokens = w->header.documents = w->header.bytes = 0;
        w->header.checksum = w->header.header_sum = 0;
        xxh64_init(&w->sum, 0);
        ShardHeader empty;
        memset(&empty, 0, sizeof empty);
        out_write(&w->out, &empty, sizeof empty);
    }
    if (w->header.token_bytes == 4) {
        xxh64_update(&w->sum, ids, (size_t)n * 4);
        out_write(&w->out, ids, (size_t)n * 4);
    } else {
        for (int64_t i = 0; i < n; i += 4096) {
            int64_t piece = int64_min(4096, n - i);
            for (int64_t k = 0; k < piece; k++) narrow[k] = (uint16_t)ids[i + k];
            xxh64_update(&w->sum, narrow, (size_t)piece * 2);
            out_write(&w->out, narrow, (size_t)piece * 2);
        }
    }
    w->failed = w->out.failed;
    w->header.tokens += n, w->tokens += n;
    w->header.bytes += text_bytes, w->bytes += text_bytes;
    w->header.documents += documents, w->documents += documents;
    if (w->header.tokens >= w->limit) shardwriter_close_shard(w);
}

// Gives up; nothing is left on disk, and shards of an earlier run are as they were.
static inline void shardwriter_abort(ShardWriter *w) {
    if (w->open) out_abort(&w->out);
    w->open = false;
    for (int i = 0; i < w->temporaries.count; i++) unlink(w->temporaries.items[i]);
    str_list_free(&w->temporaries);
    str_list_free(&w->paths);
}

// All shards are complete on disk, under temporary names; or nothing is left of them.
static inline bool shardwriter_finish(ShardWriter *w, Error *err) {
    shardwriter_close_shard(w);
    if (!w->failed) return true;
    error_set(err, "cannot write %s_%05d.bin: %s", w->prefix.text, w->paths.count ? w->paths.count - 1 : 0,
              strerror(w->failed));
    shardwriter_abort(w);
    return false;
}

// Whether a file of that name would be a shard of this writer's prefix; its number in *number.
static inline bool shardwriter_owns(const char *base, const char *name, long *number) {
    size_t n = strlen(base);
    if (strncmp(name, base, n) != 0 || name[n] != '_') return false;
    const char *digits = name + n + 1;
    size_t count = strspn(digits, "0123456789");
    *number = strtol(digits, NULL, 10);
    return count >= 5 && count <= 9 && strcmp(digits + count, ".bin") == 0;
}

// After shardwriter_finish(): gives the shards their names and removes those with higher numbers that an
// earlier run left.
static inline bool shardwriter_commit(ShardWriter *w, Error *err) {
    bool ok = true;
    int count = w->paths.count;
    for (int i = 0; ok && i < count; i++)
        if (rename(w->temporaries.items[i], w->paths.items[i]) != 0)
            ok = error_set(err, "cannot rename %s to %s: %s", w->temporaries.items[i], w->paths.items[i],
                           strerror(errno));
    shardwriter_abort(w);
    Path folder = path_parent(w->prefix.text);
    const char *slash = strrchr(w->prefix.text, '/'), *base = slash ? slash + 1 : w->prefix.text;
    StrList names;
    long number = 0;
    memset(&names, 0, sizeof names);
    ok = ok && folder_list(&names, folder.text, err);
    for (int i = 0; ok && i < names.count; i++) {
        if (!shardwriter_owns(base, names.items[i], &number) || number < count) continue;
        Path old = path_of("%.3000s/%.1000s", folder.text, names.items[i]);
        if (unlink(old.text) != 0)
            ok = error_set(err, "cannot remove %s of an earlier run: %s", old.text, strerror(errno));
    }
    str_list_free(&names);
    return ok && path_sync_folder(folder.text, err);
}

#endif
