/*
options.h: every option of every verb, in one table.

From OPTIONS come the struct, the parser, --help, the config file's names, and what a run records;
from VERBS the program's verbs. An option is written --name=value (an on/off option also --name
alone); --config=FILE reads lines `name = value` ('#' starts a comment) in its place; a later word
wins. An option of another verb is an error on the command line and passed over in a config file, so
that one file can serve a whole project. An unknown one is an error that suggests the nearest name.

The idea of one table for parser, help and documentation is that of git's parse-options and redis's
config table.
*/
#ifndef LLMC_OPTIONS_H
#define LLMC_OPTIONS_H

#include "../base/common.h"
#include "../base/json.h"
#include <ctype.h>
#include <math.h>

// X(id, name, one line, needed options)
#define VERBS(X)                                                                                                       \
    X(TRAIN, "train", "train a model, from scratch or from a folder, and write checkpoints",                           \
      "train_data,val_data,tokenizer,model,out")                                                                       \
    X(BPE, "bpe", "train a byte-level BPE tokenizer on text", "input,out")                                             \
    X(TOKENIZE, "tokenize", "turn text into token shards for training and validation", "tokenizer,input,out")          \
    X(GENERATE, "generate", "continue a prompt", "model")                                                              \
    X(EVAL, "eval", "loss of a model on token shards, in nats a token and bits per byte", "model,data")                \
    X(DUMP, "dump", "one training step: every activation, gradient and updated parameter into a file",                 \
      "model,data,out")                                                                                                \
    X(EXPORT, "export", "write a model in another format", "model,out")                                                \
    X(INFO, "info", "what a model consists of and costs; what shards hold", "")

typedef enum {
#define X(id, name, line, needed) VERB_##id,
    VERBS(X)
#undef X
        VERB_COUNT
} Verb;

enum {
    O_TRAIN = 1 << VERB_TRAIN,
    O_BPE = 1 << VERB_BPE,
    O_TOKENIZE = 1 << VERB_TOKENIZE,
    O_GENERATE = 1 << VERB_GENERATE,
    O_EVAL = 1 << VERB_EVAL,
    O_DUMP = 1 << VERB_DUMP,
    O_EXPORT = 1 << VERB_EXPORT,
    O_INFO = 1 << VERB_INFO,
    O_COMPUTE = O_TRAIN | O_GENERATE | O_EVAL | O_DUMP,
    O_ALL = (1 << VERB_COUNT) - 1
};

enum { SPIKE_WINDOW_MOST = 1024 }; // steps; two doubles each in memory and in run.json

// X(TYPE, name, default, least, most, choices, verbs, help)
// TYPE: TEXT (const char*), INT (int64_t), REAL (double), FLAG and CHOICE (int: index into choices).
// least and most bound INT and REAL, both included.
// clang-format off
#define OPTIONS(X)                                                                                                     \
    X(TEXT, model, "", 0, 0, "", O_COMPUTE | O_EXPORT | O_INFO,                                                        \
      "a preset (gpt2-124M, llama-5M, qwen3-350M, ...: see info) or a model folder: a checkpoint, a Hugging Face "     \
      "folder, or a folder with only a config.json, which then starts from random weights")                            \
    X(TEXT, train_data, "", 0, 0, "", O_TRAIN, "training shards: a file, a glob, or several with commas")              \
    X(TEXT, val_data, "", 0, 0, "", O_TRAIN, "validation shards, likewise")                                            \
    X(TEXT, data, "", 0, 0, "", O_EVAL | O_DUMP | O_INFO, "shards: a file, a glob, or several with commas")            \
    X(TEXT, tokenizer, "", 0, 0, "", O_TRAIN | O_TOKENIZE | O_INFO, "the tokenizer.json")                              \
    X(TEXT, input, "", 0, 0, "", O_BPE | O_TOKENIZE,                                                                   \
      "text files: a file, a glob, or several with commas; UTF-8 (other bytes are counted; tokenize makes byte "       \
      "tokens of them, bpe leaves them out)")                                                                          \
    X(TEXT, out, "", 0, 0, "", O_TRAIN | O_BPE | O_TOKENIZE | O_DUMP | O_EXPORT,                                       \
      "what to write: train: the run's folder; bpe: tokenizer.json; tokenize: the prefix of the shards; dump: a "      \
      ".safetensors file; export: the file")                                                                           \
    X(INT, vocab_size, 0, 0, 1 << 24, "", O_BPE | O_INFO,                                                              \
      "bpe: size of the vocabulary, special and reserved tokens included, rounded up to 128s (0: 8192); info: the "     \
      "preset's size (0: its default)")                                                                                \
    X(REAL, val_fraction, 0.01, 0, 0.9, "", O_TOKENIZE, "share of the documents that go to the validation shards")     \
    X(CHOICE, doc_split, "blank", 0, 0, "blank|formfeed|file|none", O_TOKENIZE,                                        \
      "what ends a document: blank lines, a form feed, the file's end; none: the whole file, byte for byte, is one "   \
      "document")                                                                                                      \
    X(INT, shard_tokens, 100000000, 1024, 1ll << 40, "", O_TOKENIZE, "most tokens in one shard")                       \
    X(INT, batch_size, 8, 1, 1 << 20, "", O_TRAIN | O_EVAL | O_DUMP | O_INFO, "sequences in one pass of a rank, B")      \
    X(INT, seq_len, 256, 1, 1 << 24, "", O_TRAIN | O_EVAL | O_DUMP | O_INFO,                                           \
      "tokens in a sequence, T; train: also the longest sequence that a new model is made for")                        \
    X(INT, total_batch_tokens, 0, 0, 1ll << 40, "", O_TRAIN,                                                           \
      "tokens in one update over all ranks; gradients accumulate up to it (0: batch_size x seq_len x ranks)")          \
    X(INT, steps, 1000, 1, 1ll << 40, "", O_TRAIN, "updates to make in all")                                           \
    X(REAL, lr, 6e-4, 0, 10, "", O_TRAIN | O_DUMP, "peak learning rate")                                                        \
    X(CHOICE, lr_schedule, "cosine", 0, 0, "cosine|linear|constant|wsd", O_TRAIN,                                      \
      "after the warm-up: down a half cosine, down a line, level, or level with a decay at the end")                   \
    X(INT, warmup_steps, 0, 0, 1ll << 40, "", O_TRAIN, "steps over which the learning rate rises to its peak")         \
    X(REAL, final_lr_fraction, 0.1, 0, 1, "", O_TRAIN, "learning rate of the last step, as a share of the peak")       \
    X(REAL, decay_fraction, 0.2, 0, 1, "", O_TRAIN, "wsd: share of the steps that the decay takes")                    \
    X(REAL, weight_decay, 0.1, 0, 10, "", O_TRAIN | O_DUMP, "decoupled weight decay, on matrices only")                         \
    X(REAL, beta1, 0.9, 0, 0.999999, "", O_TRAIN | O_DUMP, "AdamW: decay of the first moment")                                  \
    X(REAL, beta2, 0.95, 0, 0.999999, "", O_TRAIN | O_DUMP, "AdamW: decay of the second moment")                                \
    X(REAL, adam_eps, 1e-8, 1e-30, 1, "", O_TRAIN | O_DUMP, "AdamW: added to the root of the second moment")                    \
    X(REAL, grad_clip, 1.0, 0, 1e9, "", O_TRAIN | O_DUMP, "largest global gradient norm; longer gradients are scaled (0: off)") \
    X(INT, val_every, 100, 0, 1ll << 40, "", O_TRAIN, "validate every N steps, and at the end (0: never)")             \
    X(INT, val_tokens, 65536, 0, 1ll << 40, "", O_TRAIN | O_EVAL, "tokens to validate on, at most (0: all)")           \
    X(INT, sample_every, 0, 0, 1ll << 40, "", O_TRAIN, "print a sample every N steps (0: never)")                      \
    X(TEXT, sample_prompt, "", 0, 0, "", O_TRAIN, "how the samples start")                                             \
    X(INT, checkpoint_every, 1000, 0, 1ll << 40, "", O_TRAIN, "checkpoint every N steps, and at the end (0: only then)") \
    X(INT, keep_checkpoints, 3, 0, 1 << 30, "", O_TRAIN, "how many checkpoints to keep, the newest (0: all)")          \
    X(CHOICE, resume, "no", 0, 0, "no|auto", O_TRAIN,                                                                  \
      "auto: go on from the newest whole checkpoint in the run's folder, if there is one")                             \
    X(INT, checkpoint_files, 0, 0, 1 << 16, "", O_TRAIN,                                                               \
      "over how many files weights and moments are spread, each written by a rank of its own (0: so many that each "   \
      "holds about 40 GB at most, as far as there are ranks)")                                                         \
    X(FLAG, background_checkpoints, "on", 0, 0, "off|on", O_TRAIN,                                                     \
      "write checkpoints while training goes on, from a copy in host memory (12 bytes a parameter, shared by the "     \
      "ranks that write); off: no copy, training waits, and --comm_timeout must be longer than a write")               \
    X(REAL, max_minutes, 0, 0, 1e7, "", O_TRAIN,                                                                       \
      "stop with a checkpoint and exit code 3 this long after the start (0: off); so do SIGTERM, SIGINT, SIGUSR1, "    \
      "SIGUSR2 and a file named stop in the run's folder")                                                             \
    X(REAL, comm_timeout, 600, 0, 1e7, "", O_TRAIN,                                                                    \
      "seconds that a rank waits for others before it ends the job with an error (0: for ever); longer than a step, "  \
      "and than a checkpoint takes to be read")                                                                        \
    X(INT, spike_window, 100, 0, SPIKE_WINDOW_MOST, "", O_TRAIN,                                                       \
      "steps whose losses and gradient norms a new step is compared with (0: no step is)")                             \
    X(REAL, spike_threshold, 6, 0, 1e9, "", O_TRAIN,                                                                   \
      "a step is a spike if its loss or gradient norm is this many standard deviations above the window's mean (0: "   \
      "none is)")                                                                                                      \
    X(CHOICE, spike_action, "none", 0, 0, "none|skip|rollback", O_TRAIN,                                               \
      "none: a line in the log, and a step that is not finite is an error; skip: no update by a spike; rollback: "     \
      "back to the last checkpoint that --checkpoint_every made, and on behind the spike's data")                      \
    X(INT, spike_limit, 10, 1, 1 << 30, "", O_TRAIN, "more spikes in a row, skipped or rolled back, are an error")     \
    X(CHOICE, recompute, "auto", 0, 0, "none|cheap|block|auto", O_TRAIN | O_DUMP | O_INFO,                             \
      "what the backward pass computes again instead of keeping it: none; cheap: norms and activation functions; "     \
      "block: whole blocks; auto: cheap, but none for dump, which can write only what is kept")                        \
    X(CHOICE, precision, "auto", 0, 0, "fp32|bf16|auto", O_COMPUTE,                                                    \
      "train_gpt_cpu: operands of the matrix products, all else is fp32 (auto: fp32); train_gpt: the type that it "    \
      "was built for, of weights and activations; sums are fp32")                                                      \
    X(CHOICE, master_weights, "fp32", 0, 0, "fp32|none", O_TRAIN,                                                      \
      "train_gpt in bf16: what updates add to; none: the bf16 weights, rounded at random, 4 bytes a parameter less")   \
    X(INT, zero, 1, 0, 3, "", O_TRAIN,                                                                                 \
      "what the ranks share out instead of each keeping it: 0 nothing; 1 the optimizer's state; 2 and gradients; 3 "   \
      "and weights (2 and 3: train_gpt only)")                                                                         \
    X(INT, zero_group, 0, 0, 1 << 20, "", O_TRAIN,                                                                     \
      "train_gpt: share out among groups of N neighbouring ranks, and keep a copy in each group (0: one group)")       \
    X(TEXT, prompt, "", 0, 0, "", O_GENERATE, "text to continue (empty: start a new document)")                        \
    X(INT, tokens, 128, 1, 1 << 24, "", O_GENERATE | O_TRAIN, "tokens to generate, at most")                           \
    X(INT, samples, 1, 1, 1 << 20, "", O_GENERATE, "how many continuations to print")                                  \
    X(REAL, temperature, 0.8, 0, 100, "", O_GENERATE | O_TRAIN, "of sampling; 0 takes the likeliest token")            \
    X(INT, top_k, 50, 0, 1 << 24, "", O_GENERATE | O_TRAIN, "sample among the K likeliest tokens (0: all)")            \
    X(REAL, top_p, 0.95, 0, 1, "", O_GENERATE | O_TRAIN,                                                               \
      "sample among the likeliest tokens that together have this probability (1: all)")                                \
    X(CHOICE, format, "gguf", 0, 0, "gguf", O_EXPORT, "file format")                                                   \
    X(CHOICE, dtype, "f16", 0, 0, "f32|f16|bf16|q8_0", O_EXPORT, "data type of the matrices")                          \
    X(INT, seed, 1, 0, INT64_MAX, "", O_TRAIN | O_GENERATE | O_DUMP,                                                   \
      "of the initial weights, the order of the data, and sampling")                                                   \
    X(INT, threads, 0, 0, 4096, "", O_ALL, "CPU threads (0: as many as this process may use)")                         \
    X(FLAG, progress, "on", 0, 0, "off|on", O_TRAIN, "a live progress line; without a terminal, a line now and then")
// clang-format on

typedef const char *OptionTEXT;
typedef int64_t OptionINT;
typedef double OptionREAL;
typedef int OptionFLAG;
typedef int OptionCHOICE;

typedef struct {
#define X(type, name, fallback, least, most, choices, verbs, help) Option##type name;
    OPTIONS(X)
#undef X
    int verb;
    StrList kept; // owns the values of TEXT options
} Options;

// The choices of the table above as numbers; DocSplit stands in tokenize.h, Recompute in model.h.
enum { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT, SCHEDULE_WSD };
enum { PRECISION_FP32, PRECISION_BF16, PRECISION_AUTO };
enum { MASTER_FP32, MASTER_NONE };
enum { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0 };
enum { RESUME_NO, RESUME_AUTO };
enum { SPIKE_NONE, SPIKE_SKIP, SPIKE_ROLLBACK };
enum { RECOMPUTE_AUTO = 3 }; // after the policies of model.h

static inline const char *verb_name(int verb) {
    static const char *const names[] = {
#define X(id, name, line, needed) name,
        VERBS(X)
#undef X
    };
    return names[verb];
}

static inline const char *verb_needs(int verb) {
    static const char *const needs[] = {
#define X(id, name, line, needed) needed,
        VERBS(X)
#undef X
    };
    return needs[verb];
}

// The verb of this name, or -1.
static inline int verb_of(const char *name) {
    for (int v = 0; v < VERB_COUNT; v++)
        if (strcmp(verb_name(v), name) == 0) return v;
    return -1;
}

// Edit distance, for suggestions (Levenshtein 1966); names are short.
static inline int options_distance(const char *a, const char *b) {
    int row[64];
    int n = (int)strlen(b);
    if (n > 62) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

// Index of `value` among "a|b|c", or -1.
static inline int options_choice(const char *choices, const char *value) {
    int index = 0;
    for (const char *c = choices; *c; index++) {
        size_t n = strcspn(c, "|");
        if (strlen(value) == n && memcmp(c, value, n) == 0) return index;
        c += n + (c[n] == '|');
    }
    return -1;
}

// Writes choice number `index` of "a|b|c" into out (32 bytes).
static inline void options_choice_name(char *out, const char *choices, int index) {
    for (; index > 0 && *choices; index--) {
        choices += strcspn(choices, "|");
        choices += *choices == '|';
    }
    snprintf(out, 32, "%.*s", (int)strcspn(choices, "|"), choices);
}

static inline bool options_parse_int(int64_t *out, const char *text) {
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text) return false;
    // 1e6 and 100_000 are how people write large counts; accept the first.
    if (*end == 'e' || *end == 'E' || *end == '.') {
        double d = strtod(text, &end);
        if (*end || !(fabs(d) < 9e18) || d != floor(d)) return false;
        *out = (int64_t)d;
        return true;
    }
    if (*end || errno) return false;
    *out = v;
    return true;
}

// Sets one option from text. from: where it was written, for messages.
static inline bool options_set(Options *o, const char *name, const char *value, bool lenient, const char *from,
                               Error *err) {
    const char *nearest = NULL;
    int best = 4;
#define SET_TEXT(field, least, most, choices)                                                                          \
    str_list_add(&o->kept, value);                                                                                     \
    o->field = o->kept.items[o->kept.count - 1];
#define SET_INT(field, least, most, choices)                                                                           \
    if (!options_parse_int(&o->field, value))                                                                          \
        return error_set(err, "%s--%s=%s: expected a whole number", from, name, value);                                \
    if (o->field < (int64_t)(least) || o->field > (int64_t)(most))                                                     \
        return error_set(err, "%s--%s=%s: expected %lld to %lld", from, name, value, (long long)(least),               \
                         (long long)(most));
#define SET_REAL(field, least, most, choices)                                                                          \
    char *end = NULL;                                                                                                  \
    o->field = strtod(value, &end);                                                                                    \
    if (end == value || *end || o->field != o->field)                                                                  \
        return error_set(err, "%s--%s=%s: expected a number", from, name, value);                                      \
    if (o->field < (double)(least) || o->field > (double)(most))                                                       \
        return error_set(err, "%s--%s=%s: expected %g to %g", from, name, value, (double)(least), (double)(most));
#define SET_CHOICE(field, least, most, choices)                                                                        \
    int index = options_choice(choices, value);                                                                        \
    if (index < 0) return error_set(err, "%s--%s=%s: expected one of %s", from, name, value, choices);                 \
    o->field = index;
#define SET_FLAG(field, least, most, choices)                                                                          \
    int index = options_choice("0|1", value);                                                                          \
    if (index < 0) index = options_choice("off|on", value);                                                            \
    if (index < 0) return error_set(err, "%s--%s=%s: expected on or off", from, name, value);                          \
    o->field = index;
#define X(type, field, fallback, least, most, choices, verbs, help)                                                    \
    if (strcmp(name, #field) == 0) {                                                                                   \
        if (!((verbs) & (1 << o->verb))) {                                                                             \
            if (lenient) return true;                                                                                  \
            return error_set(err, "%s--%s is not an option of %s; see --help", from, name, verb_name(o->verb));        \
        }                                                                                                              \
        SET_##type(field, least, most, choices) return true;                                                           \
    }                                                                                                                  \
    if ((verbs) & (1 << o->verb)) {                                                                                    \
        int d = options_distance(name, #field);                                                                        \
        if (d < best) best = d, nearest = #field;                                                                      \
    }
    OPTIONS(X)
#undef X
#undef SET_TEXT
#undef SET_INT
#undef SET_REAL
#undef SET_CHOICE
#undef SET_FLAG
    if (nearest) return error_set(err, "%sunknown option --%s; did you mean --%s?", from, name, nearest);
    return error_set(err, "%sunknown option --%s; %s --help lists them", from, name, verb_name(o->verb));
}

static inline bool options_read_config(Options *o, const char *path, Error *err) {
    FILE *f = fopen(path, "r");
    if (!f) return error_set(err, "cannot open the config file %s: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    bool ok = true;
    for (int number = 1; ok && getline(&line, &capacity, f) >= 0; number++) {
        char *hash = strchr(line, '#');
        if (hash) *hash = 0;
        char *name = line + strspn(line, " \t\r\n");
        if (!*name) continue;
        Path from = path_of("%s:%d: ", path, number);
        char *equals = strchr(name, '=');
        if (!equals) {
            ok = error_set(err, "%sexpected `name = value`", from.text);
            break;
        }
        *equals = 0;
        char *value = equals + 1 + strspn(equals + 1, " \t");
        for (char *e = name + strlen(name); e > name && isspace((unsigned char)e[-1]);) *--e = 0;
        for (char *e = value + strlen(value); e > value && isspace((unsigned char)e[-1]);) *--e = 0;
        ok = options_set(o, name, value, true, from.text, err);
    }
    free(line);
    fclose(f);
    return ok;
}

// Parses argv[0..argc) (the words after the verb) into o, defaults first.
static inline bool options_parse(Options *o, int verb, int argc, char **argv, Error *err) {
    memset(o, 0, sizeof *o);
    o->verb = verb;
#define DEFAULT_TEXT(value, choices) value
#define DEFAULT_INT(value, choices) value
#define DEFAULT_REAL(value, choices) value
#define DEFAULT_CHOICE(value, choices) options_choice(choices, value)
#define DEFAULT_FLAG(value, choices) options_choice(choices, value)
#define X(type, name, fallback, least, most, choices, verbs, help) o->name = DEFAULT_##type(fallback, choices);
    OPTIONS(X)
#undef X
#undef DEFAULT_TEXT
#undef DEFAULT_INT
#undef DEFAULT_REAL
#undef DEFAULT_CHOICE
#undef DEFAULT_FLAG
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (strncmp(word, "--", 2) != 0 || !word[2])
            return error_set(err, "expected --name=value, found `%s`; %s --help lists the options", word,
                             verb_name(verb));
        const char *equals = strchr(word, '=');
        size_t n = equals ? (size_t)(equals - word - 2) : strlen(word + 2);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(n < 63 ? n : 63), word + 2);
        bool flag = false;
#define IS_TEXT 0
#define IS_INT 0
#define IS_REAL 0
#define IS_CHOICE 0
#define IS_FLAG 1
#define X(type, field, fallback, least, most, choices, verbs, help)                                                    \
    if (IS_##type && strcmp(name, #field) == 0) flag = true;
        OPTIONS(X)
#undef X
#undef IS_TEXT
#undef IS_INT
#undef IS_REAL
#undef IS_CHOICE
#undef IS_FLAG
        if (strcmp(name, "config") == 0) {
            if (!equals || !equals[1]) return error_set(err, "--config needs a file: --config=FILE");
            if (!options_read_config(o, equals + 1, err)) return false;
        } else if (equals || flag) {
            if (!options_set(o, name, equals ? equals + 1 : "on", false, "", err)) return false;
        } else {
            if (options_set(o, name, "", false, "", err) || strstr(err->text, "=:"))
                return error_set(err, "--%s needs a value: --%s=VALUE", name, name);
            return false;
        }
    }
    return true;
}

// Checks that the options without which the verb cannot run were given.
static inline bool options_require(const Options *o, Error *err) {
    char needed[256], missing[320] = "";
    snprintf(needed, sizeof needed, "%s", verb_needs(o->verb));
    char *rest = NULL;
    for (char *name = strtok_r(needed, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        bool given = true;
#define GIVEN_TEXT(value) (*(value) != 0)
#define GIVEN_INT(value) true
#define GIVEN_REAL(value) true
#define GIVEN_CHOICE(value) true
#define GIVEN_FLAG(value) true
#define X(type, field, fallback, least, most, choices, verbs, help)                                                    \
    if (strcmp(name, #field) == 0) given = GIVEN_##type(o->field);
        OPTIONS(X)
#undef X
#undef GIVEN_TEXT
#undef GIVEN_INT
#undef GIVEN_REAL
#undef GIVEN_CHOICE
#undef GIVEN_FLAG
        size_t n = strlen(missing);
        if (!given) snprintf(missing + n, sizeof missing - n, "%s--%s=...", n ? ", " : "", name);
    }
    return *missing ? error_set(err, "%s needs %s; %s --help says what they are", verb_name(o->verb), missing,
                                verb_name(o->verb))
                    : true;
}

// Appends `"name": value` pairs of the verb's options, as a run records them.
static inline void options_json(Str *s, const Options *o) {
    bool first = true;
    char choice[32];
#define JSON_TEXT(value, choices) json_escape(s, value, strlen(value));
#define JSON_INT(value, choices) str_printf(s, "%lld", (long long)(value));
#define JSON_REAL(value, choices) json_add_number(s, value);
#define JSON_CHOICE(value, choices)                                                                                    \
    options_choice_name(choice, choices, value);                                                                       \
    str_printf(s, "\"%s\"", choice);
#define JSON_FLAG(value, choices) str_puts(s, (value) ? "true" : "false");
#define X(type, name, fallback, least, most, choices, verbs, help)                                                     \
    if ((verbs) & (1 << o->verb)) {                                                                                    \
        str_printf(s, "%s\n    \"%s\": ", first ? "" : ",", #name);                                                    \
        JSON_##type(o->name, choices) first = false;                                                                   \
    }
    OPTIONS(X)
#undef X
#undef JSON_TEXT
#undef JSON_INT
#undef JSON_REAL
#undef JSON_CHOICE
#undef JSON_FLAG
}

// Prints text wrapped to 100 columns, continuing at `indent`.
static inline void options_wrap(FILE *out, const char *text, int indent, int column) {
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column + 1 + (int)n > 100) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        }
        fprintf(out, "%.*s", (int)n, text);
        column += (int)n;
        text += n;
        if (*text == ' ') {
            if (column < 100) fputc(' ', out), column++;
            text++;
        }
    }
    fputc('\n', out);
}

// The help of the program (verb < 0) or of a verb.
static inline void options_help(FILE *out, const char *program, int verb) {
    if (verb < 0) {
        fprintf(out, "usage: %s VERB --name=value ...\n\nverbs:\n", program);
#define X(id, name, line, needed) fprintf(out, "  %-10s %s\n", name, line);
        VERBS(X)
#undef X
        fprintf(out,
                "\n%s VERB --help lists a verb's options.\nexit code: 0 done; 1 an error, one line on stderr; 3 "
                "stopped "
                "early (signal or time limit) with a checkpoint written\n",
                program);
        return;
    }
    static const char *const lines[] = {
#define X(id, name, line, needed) line,
        VERBS(X)
#undef X
    };
    fprintf(out, "usage: %s %s --name=value ...\n\n%s\n\n", program, verb_name(verb), lines[verb]);
    if (*verb_needs(verb)) fprintf(out, "needed: %s\n\n", verb_needs(verb));
    char left[128], standard[64];
#define HELP_TEXT(value, choices)                                                                                      \
    snprintf(left, sizeof left, "=TEXT");                                                                              \
    snprintf(standard, sizeof standard, "%s%s%s", *(const char *)(value) ? " [" : "", (const char *)(value),           \
             *(const char *)(value) ? "]" : "");
#define HELP_INT(value, choices)                                                                                       \
    snprintf(left, sizeof left, "=N");                                                                                 \
    snprintf(standard, sizeof standard, " [%lld]", (long long)(value));
#define HELP_REAL(value, choices)                                                                                      \
    snprintf(left, sizeof left, "=X");                                                                                 \
    snprintf(standard, sizeof standard, " [%g]", (double)(value));
#define HELP_CHOICE(value, choices)                                                                                    \
    snprintf(left, sizeof left, "=%s", choices);                                                                       \
    snprintf(standard, sizeof standard, " [%s]", value);
#define HELP_FLAG(value, choices) HELP_CHOICE(value, choices)
#define X(type, name, fallback, least, most, choices, verbs, help)                                                     \
    if ((verbs) & (1 << verb)) {                                                                                       \
        HELP_##type(fallback, choices) int column = fprintf(out, "  --%s%s ", #name, left);                            \
        if (column < 28) column += fprintf(out, "%*s", 28 - column, "");                                               \
        char text[512];                                                                                                \
        snprintf(text, sizeof text, "%s%s", help, standard);                                                           \
        options_wrap(out, text, 28, column);                                                                           \
    }
    OPTIONS(X)
#undef X
#undef HELP_TEXT
#undef HELP_INT
#undef HELP_REAL
#undef HELP_CHOICE
#undef HELP_FLAG
    fprintf(out, "  --config=FILE             lines `name = value`, read in this place; a later word wins\n");
}

static inline void options_free(Options *o) { str_list_free(&o->kept); }

#endif
