/*
mix.h: training data from several sources by weight: --train_data=A:0.7,B:0.3.

    Mix m;
    mix_open(&m, &data, "de_train_*.bin:0.7,law_*.bin:0.3", T, err)    all shards are in `data`, source by source
    BatchSource s = source_of_mix(&m, seed);
    mix_seen(&m, k, position)                                          sequences of source k before a position
    mix_close(&m)                                                      dataset_close(&data) is the caller's

A source is a list of files and patterns as everywhere (file.h), and what stands up to a weight is one:
A1,A2:0.7,B:0.3 are two. A weight is a colon and a decimal number of at most six decimals behind the last file of a
list; all of them sum to 1. A colon elsewhere belongs to a name, and so does a weight where a file is called so. Without
weights everything is one source, in the order and with the fingerprint that a data set has alone.

Which source stands at a position is no draw of lots. A source of weight w has its job number j (from 0) between the
positions floor(j / w) and ceil((j + 1) / w) - 1; of the jobs that may begin, the one that must end first is taken, of
equal ones that of the first source. These are the windows of proportionate fairness (Baruah, Cohen, Plaxton, Varvel:
Algorithmica 15, 1996), and on one machine the earliest deadline keeps them all: before every position each source has
had its share, w * position, to within less than one sequence. The order repeats after at most MIX_UNIT positions, since
weights are fractions of that; so what stands at a position comes from a table, whatever ranks and steps there are.

Job number j of a source reads what training position j of that source alone would read, but for the seed of the sources
behind the first: two of them do not go in step where they are of one size.
*/
#ifndef LLMC_MIX_H
#define LLMC_MIX_H

#include "../base/json.h"
#include "source.h"

#define MIX_DECIMALS 6
#define MIX_UNIT 1000000 // weights are counted in it
#define MIX_MOST 100     // sources

typedef struct {
    char *list;               // its files, as they were given
    int64_t weight;           // of MIX_UNIT
    int64_t turns;            // in a period
    int64_t first, sequences; // its sequences among those of the data set
} MixSource;

typedef struct {
    const Dataset *data;
    MixSource sources[MIX_MOST];
    int count;
    int64_t period;
    uint8_t *turn;    // (period) whose turn it is
    int32_t *earlier; // (period) turns of the same source before it
} Mix;

static inline void mix_close(Mix *m) {
    for (int k = 0; k < m->count; k++) free(m->sources[k].list);
    free(m->turn);
    free(m->earlier);
    memset(m, 0, sizeof *m);
}

// ---------------------------------------------------------------- weights

// Where the weight begins, behind its colon, if the part [text, end) of a list looks as if it had one; else NULL.
static inline const char *mix_weight_at(const char *text, const char *end) {
    const char *colon = end;
    while (colon > text && colon[-1] != ':') colon--;
    if (colon == text || memchr(colon, '/', (size_t)(end - colon))) return NULL;
    return colon == end || strchr("0123456789.+-", *colon) ? colon : NULL;
}

// A decimal number above 0 and up to 1, in MIX_UNIT; 0: it is none.
static inline int64_t mix_weight(const char *p, const char *end) {
    int64_t value = 0;
    int decimals = -1, digits = 0;
    for (; p < end; p++) {
        if (*p == '.' && decimals < 0) decimals = 0;
        else if (*p >= '0' && *p <= '9' && value <= MIX_UNIT && decimals < MIX_DECIMALS) {
            value = 10 * value + (*p - '0');
            digits++;
            decimals += decimals >= 0;
        } else return 0;
    }
    if (!digits) return 0;
    for (int i = decimals < 0 ? 0 : decimals; i < MIX_DECIMALS; i++) value *= 10;
    return value <= MIX_UNIT ? value : 0;
}

// Whether files are called as the part of a list from text to end says, colon and all.
static inline bool mix_is_name(const char *text, const char *end) {
    StrList paths;
    memset(&paths, 0, sizeof paths);
    bool found = end - text < PATH_SIZE && path_expand(&paths, path_of("%.*s", (int)(end - text), text).text, NULL);
    str_list_free(&paths);
    return found;
}

static inline bool mix_add(Mix *m, const char *text, const char *end, int64_t weight, Error *err) {
    if (m->count == MIX_MOST) return error_set(err, "more than %d sources in a mixture", MIX_MOST);
    size_t n = (size_t)(end - text);
    MixSource *s = &m->sources[m->count++];
    s->list = (char *)mem_alloc(n + 1);
    memcpy(s->list, text, n);
    s->weight = weight;
    return n ? true : error_set(err, "a weight stands without files before it in the list of training data");
}

// The sources of a list, each with its weight; without weights one of weight 1.
static inline bool mix_parse(Mix *m, const char *list, Error *err) {
    int64_t sum = 0;
    const char *start = list;
    memset(m, 0, sizeof *m);
    for (const char *part = list, *end; *part; part = *end ? end + 1 : end) {
        end = part + strcspn(part, ",");
        const char *weight = mix_weight_at(part, end);
        if (!weight || mix_is_name(start, end) || mix_is_name(part, end)) continue;
        int64_t value = mix_weight(weight, end);
        if (value == 0)
            return error_set(err,
                             "%.300s has the weight \"%.*s\"; expected a decimal number above 0 and up to 1, with at "
                             "most %d decimals, as in A:0.7,B:0.3",
                             path_of("%.*s", (int)int64_min(weight - 1 - start, 1000), start).text,
                             (int)int64_min(end - weight, 50), weight, MIX_DECIMALS);
        if (!mix_add(m, start, weight - 1, value, err)) return false;
        sum += value;
        start = *end ? end + 1 : end;
    }
    if (m->count == 0) return mix_add(m, list, list + strlen(list), MIX_UNIT, err);
    if (*start)
        return error_set(err, "%.500s has no weight, and %.300s has one: every source needs one, as in A:0.7,B:0.3",
                         start, m->sources[0].list);
    return sum == MIX_UNIT
               ? true
               : error_set(err, "the weights of %.700s sum to %.6g, expected 1", list, (double)sum / MIX_UNIT);
}

// The files of all sources as a list without weights; a list that is wrong as it is.
static inline void mix_plain(Str *s, const char *list) {
    Mix *m = (Mix *)mem_alloc(sizeof(Mix));
    if (!mix_parse(m, list, NULL)) str_puts(s, list);
    else
        for (int k = 0; k < m->count; k++) str_printf(s, "%s%s", k ? "," : "", m->sources[k].list);
    mix_close(m);
    free(m);
}

// ---------------------------------------------------------------- whose turn it is

// The table: positions of a period by earliest deadline, ceil((j + 1) * period / turns), among the jobs that may begin:
// j * period < turns * (position + 1).
static inline void mix_plan(Mix *m) {
    int64_t divisor = MIX_UNIT, done[MIX_MOST] = {0};
    for (int k = 0; k < m->count; k++)
        for (int64_t a = m->sources[k].weight; a;) {
            int64_t rest = divisor % a;
            divisor = a, a = rest;
        }
    m->period = MIX_UNIT / divisor;
    for (int k = 0; k < m->count; k++) m->sources[k].turns = m->sources[k].weight / divisor;
    m->turn = (uint8_t *)mem_alloc((size_t)m->period);
    m->earlier = (int32_t *)mem_alloc((size_t)m->period * sizeof(int32_t));
    for (int64_t p = 0; p < m->period; p++) {
        int taken = 0;
        int64_t earliest = INT64_MAX;
        for (int k = 0; k < m->count; k++) {
            int64_t turns = m->sources[k].turns, deadline = ((done[k] + 1) * m->period + turns - 1) / turns;
            if (done[k] * m->period < turns * (p + 1) && deadline < earliest) earliest = deadline, taken = k;
        }
        m->turn[p] = (uint8_t)taken;
        m->earlier[p] = (int32_t)done[taken]++;
    }
}

// Sequences of source k before a position of the run.
static inline int64_t mix_seen(const Mix *m, int k, int64_t position) {
    int64_t at = position % m->period, before = position / m->period * m->sources[k].turns;
    while (at > 0 && m->turn[at - 1] != k) at--;
    return before + (at > 0 ? m->earlier[at - 1] + 1 : 0);
}

// How often a run that stands there has seen source k.
static inline double mix_epoch(const Mix *m, int k, int64_t position) {
    return (double)mix_seen(m, k, position) / (double)m->sources[k].sequences;
}

static inline uint64_t mix_seed(int k, uint64_t seed) { return k ? permutation_mix(seed + (uint64_t)k) : seed; }

// The sequence of the data set that stands at a position.
static inline int64_t mix_index(const Mix *m, uint64_t seed, int64_t position) {
    int64_t at = position % m->period;
    int k = m->turn[at];
    const MixSource *s = &m->sources[k];
    int64_t job = position / m->period * s->turns + m->earlier[at];
    return s->first + permutation(mix_seed(k, seed), (uint64_t)(job / s->sequences), s->sequences, job % s->sequences);
}

// ---------------------------------------------------------------- data

// Which sequences of the data set are those of each source.
static inline bool mix_divide(Mix *m, const Dataset *d, Error *err) {
    int shard = 0;
    bool ok = true;
    for (int k = 0; ok && k < m->count; k++) {
        MixSource *s = &m->sources[k];
        StrList paths;
        memset(&paths, 0, sizeof paths);
        s->first = shard < d->count ? d->shards[shard].first : d->sequences;
        ok = dataset_paths(&paths, s->list, err);
        for (int i = 0; ok && i < paths.count; i++, shard++)
            if (shard >= d->count || strcmp(paths.items[i], d->shards[shard].path) != 0)
                ok = error_set(err, "the files of %.900s changed while they were looked at; try again", s->list);
        str_list_free(&paths);
        s->sequences = (shard < d->count ? d->shards[shard].first : d->sequences) - s->first;
        if (ok && s->sequences == 0)
            ok = error_set(err,
                           "not enough data in the source %.900s: it has no sequence of %d tokens in one shard; give "
                           "it more text, leave it out, or take a smaller --seq_len",
                           s->list, d->seq_len + 1);
    }
    return ok;
}

// Opens the shards of all sources. On false nothing is left open.
static inline bool mix_open(Mix *m, Dataset *d, const char *list, int seq_len, Error *err) {
    Str plain;
    memset(&plain, 0, sizeof plain);
    memset(d, 0, sizeof *d);
    bool ok = mix_parse(m, list, err);
    for (int k = 0; ok && k < m->count; k++) str_printf(&plain, "%s%s", k ? "," : "", m->sources[k].list);
    ok = ok && dataset_open(d, plain.data, seq_len, err);
    ok = ok && mix_divide(m, d, err);
    free(plain.data);
    if (!ok) {
        mix_close(m);
        dataset_close(d);
        return false;
    }
    m->data = d;
    mix_plan(m);
    return true;
}

static inline int64_t source_index_mixed(const BatchSource *s, int64_t position) {
    return mix_index((const Mix *)s->context, s->seed, position);
}

static inline bool source_next_mixed(const BatchSource *s, int64_t position, int B, SourceRows r, Error *err) {
    const Mix *m = (const Mix *)s->context;
    for (int b = 0; b < B; b++, r = source_rows_behind(r, s->seq_len))
        if (!dataset_sequence(m->data, mix_index(m, s->seed, position + b), r.inputs, r.targets, r.starts, err))
            return false;
    return true;
}

// Changes with the data, the weights and what is divided between the sources; of one source it is the data's own.
static inline uint64_t mix_fingerprint(const Mix *m, uint64_t data) {
    if (m->count == 1) return data;
    Xxh64 print;
    xxh64_init(&print, 0);
    xxh64_update(&print, &data, sizeof data);
    for (int k = 0; k < m->count; k++) {
        xxh64_update(&print, &m->sources[k].weight, sizeof(int64_t));
        xxh64_update(&print, &m->sources[k].sequences, sizeof(int64_t));
    }
    return xxh64_value(&print);
}

// The mixture must outlive the source.
static inline BatchSource source_of_mix(const Mix *m, uint64_t seed) {
    const Dataset *d = m->data;
    if (m->count == 1) return source_of_dataset(d, true, seed);
    BatchSource s = {source_next_mixed,
                     m,
                     seed,
                     d->seq_len,
                     d->sequences,
                     mix_fingerprint(m, d->fingerprint),
                     d->chat_template != 0,
                     source_index_mixed};
    return s;
}

// Members of a JSON object, for a run that stands at a position: `"mix": [{"data", "weight", "sequences", "seen",
// "epoch"}, ...]`; nothing where there is one source.
static inline void mix_json(Str *s, const Mix *m, int64_t position) {
    if (m->count == 1) return;
    for (int k = 0; k < m->count; k++) {
        const MixSource *o = &m->sources[k];
        str_puts(s, k ? ",\n    {\"data\": " : "  \"mix\": [\n    {\"data\": ");
        json_escape(s, o->list, strlen(o->list));
        str_printf(s, ", \"weight\": %g, \"sequences\": %lld, \"seen\": %lld, \"epoch\": %.9g}",
                   (double)o->weight / MIX_UNIT, (long long)o->sequences, (long long)mix_seen(m, k, position),
                   mix_epoch(m, k, position));
    }
    str_puts(s, "\n  ],\n");
}

#endif
