/*
verbs.h: the verbs but for `train` (trainer.h), `eval`, `dump` and `info`, and the entry that both programs share.

A verb is a row of VERBS (options.h) and the function of its name. It prints its result to stdout and, if something is
wrong, one line to stderr; exit codes are those of --help. program_main() is what main() calls.
*/
#ifndef LLMC_VERBS_H
#define LLMC_VERBS_H

#include "../base/process.h"
#include "../files/convert.h"
#include "../files/merge.h"
#include "chat.h"
#include "dump.h"
#include "eval.h"
#include "fertility.h"
#include "info.h"
#include "outputs.h"
#include "remove.h"
#include "report.h"
#include "trainer.h"
#include "watch.h"

// ---------------------------------------------------------------- bpe, tokenize

// Bytes that are not UTF-8, and from one in 200 on what they may be.
static inline void verb_say_invalid(const TextCounts *c, int64_t bytes, const char *what) {
    if (c->invalid)
        printf("%lld bytes are not UTF-8 and %s%s\n", (long long)c->invalid, what,
               c->invalid * 200 > bytes ? "; Latin-1 becomes UTF-8 by iconv -f ISO-8859-1 -t UTF-8" : "");
}

static inline void verb_say_files(int empty, const Path *without, int doubles, const Path *doubled) {
    if (empty) warn("%d of the input files hold no text, %s for one", empty, without->text);
    if (doubles)
        warn("%d of the input files stand in the list twice, %s for one; their text is there twice", doubles,
             doubled->text);
}

// What was left out: how much, and the first of it by name.
static inline void verb_say_damage(DocDamage *d) {
    const int shown = d->named.count < 5 ? d->named.count : 5;
    for (int i = 0; i < shown; i++) warn("left out: %s", d->named.items[i]);
    if (d->count > shown) warn("left out: %lld more", (long long)(d->count - shown));
    str_list_free(&d->named);
}

// How documents are read.
static inline DocSettings verb_documents(const Options *o) {
    DocSettings s;
    memset(&s, 0, sizeof s);
    s.split = (DocSplit)o->doc_split;
    s.strict = o->strict;
    s.field = o->field;
    return s;
}

// What a tokenizer was made of, for its manifest; before anything is written, since it may lie where the text
// does. The text is not parsed again.
static inline bool verb_bpe_sources(Str *s, const Options *o, Error *err) {
    DocInputs in;
    DocSettings documents = verb_documents(o);
    if (!doc_inputs_open(&in, o->input, &documents, err)) return false;
    bool ok = doc_inputs_sums(&in, err);
    if (ok) doc_inputs_list(s, &in);
    doc_inputs_close(&in);
    return ok;
}

// Adds the parts of "a,b,c".
static inline void verb_split(StrList *out, const char *list) {
    for (const char *part = list; *part; part += strcspn(part, ","), part += *part == ',') {
        size_t n = strcspn(part, ",");
        if (n) str_list_add(out, path_of("%.*s", (int)int64_min((int64_t)n, 1000), part).text);
    }
}

#define BPE_MANIFEST_START "{\n  \"tokenizer\": "

// A manifest that is there will be replaced: it must be one, and none of the files that are read.
static inline bool verb_bpe_spares(const Options *o, Error *err) {
    Path path = sources_tokenizer_manifest(o->out);
    FileKind kind;
    Str text;
    memset(&text, 0, sizeof text);
    if (!path_look(path.text, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    bool ok = output_spares_inputs(o, path.text, err) && file_read(&text, path.text, JSON_MAX_BYTES, err);
    if (ok && text.size && strncmp(text.data, BPE_MANIFEST_START, sizeof BPE_MANIFEST_START - 1) != 0)
        ok = error_set(err,
                       "%s was not written by this program, and would be replaced; choose another --out, or move it",
                       path.text);
    free(text.data);
    return ok;
}

// Beside the tokenizer, and before it: it names it by its SHA-256, and tells nothing where that is not there.
static inline bool verb_bpe_manifest(const Tokenizer *tok, const Str *sources, const Options *o, Error *err) {
    Str s;
    char sum[65];
    uint8_t digest[32];
    Sha256 state;
    memset(&s, 0, sizeof s);
    sha256_init(&state);
    sha256_update(&state, tok->json, tok->json_size);
    sha256_final(digest, &state);
    sha256_hex(sum, digest);
    str_printf(&s, BPE_MANIFEST_START "\"tokenizer.json\", \"sha256\": \"%s\",\n  \"program\": ", sum);
    json_escape(&s, engine_name(), strlen(engine_name()));
    str_printf(&s, ", \"commit\": \"%s\",\n  \"options\": ", build_commit);
    options_line(&s, o);
    str_add(&s, sources->data, sources->size);
    str_puts(&s, "\n}\n");
    bool ok = file_write_all(sources_tokenizer_manifest(o->out).text, s.data, s.size, err);
    free(s.data);
    return ok;
}

static inline void verb_bpe_report(const Options *o) {
    Error err;
    DocDamage damage;
    DocSettings documents = verb_documents(o);
    documents.whole = true; // white space counts, as in training
    documents.split = DOC_FILE;
    memset(&damage, 0, sizeof damage);
    if (*o->out || *o->special || *o->license)
        fail("--report trains no tokenizer: --out, --special and --license have no effect with it");
    if (!fertility_report(o->report, o->input, &documents, o->json, &damage, &err)) fail("%s", err.text);
    verb_say_damage(&damage);
}

static inline int verb_bpe(const Options *o, Dist *dist) {
    (void)dist;
    if (*o->report) {
        verb_bpe_report(o);
        return EXIT_DONE;
    }
    if (o->json) fail("--json is for bpe --report");
    Error err;
    Tokenizer tok;
    BpeStats stats;
    DocSettings documents = verb_documents(o);
    Str sources;
    memset(&sources, 0, sizeof sources);
    memset(&stats, 0, sizeof stats);
    BpeSettings settings = bpe_settings(o->vocab_size ? (int)o->vocab_size : 8192);
    settings.pattern = o->digits == DIGITS_SINGLE ? TEXT_QWEN2 : TEXT_LLAMA3;
    settings.min_frequency = o->min_frequency;
    verb_split(&settings.special, o->special);
    double start = clock_seconds();
    if (!verb_bpe_spares(o, &err) || !bpe_train(&tok, o->input, &documents, &settings, &stats, &err))
        fail("%s", err.text);
    double trained = clock_seconds() - start;
    if (!verb_bpe_sources(&sources, o, &err) || !verb_bpe_manifest(&tok, &sources, o, &err) ||
        !tokenizer_save(&tok, o->out, &err))
        fail("%s", err.text);
    free(sources.data);
    str_list_free(&settings.special);
    print_line("%s: vocabulary of %d with %d merges, from %.2f MB of text with %lld distinct words of %lld, in %.1f s",
               o->out, tok.vocab_size, stats.merges, (double)stats.bytes / 1e6, (long long)stats.words,
               (long long)stats.pretokens, trained);
    verb_say_invalid(&stats.counts, stats.bytes, "were left out");
    verb_say_files(stats.empty, &stats.without, stats.doubles, &stats.doubled);
    verb_say_damage(&stats.damage);
    text_hints(&stats.counts, false);
    tokenizer_free(&tok);
    return EXIT_DONE;
}

static inline void tokenize_progress(const TokenizeStats *s) {
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r%.0f MB of text", (double)s->done_bytes / 1e6);
}

// What a user may not have meant.
static inline void tokenize_hints(const Options *o, TokenizeStats *s) {
    if (s->strange)
        warn("%s; --doc_split=none reads %s byte by byte all the same", s->what.text,
             s->strange > 1 ? "it and others like it" : "it");
    verb_say_files(s->empty, &s->without, s->doubles, &s->doubled);
    verb_say_damage(&s->damage);
    if (!s->strange) text_hints(&s->counts, true);
    if (o->val_fraction > 0 && s->tokens[SIDE_VAL] == 0)
        warn("there is no validation text, although --val_fraction=%g: the only document cannot be cut; give more text",
             o->val_fraction);
    if (s->shards[SIDE_TRAIN] > 1 && o->shard_tokens < 65536)
        warn("--shard_tokens=%lld: a shard is cut into sequences of --seq_len, and what is left of each is not used: "
             "up "
             "to --seq_len tokens of %lld",
             (long long)o->shard_tokens, (long long)o->shard_tokens);
}

static inline int verb_tokenize(const Options *o, Dist *dist) {
    (void)dist;
    Error err;
    Tokenizer tok;
    TokenizeStats stats;
    memset(&stats, 0, sizeof stats);
    stats.progress = tokenize_progress;
    Path program = path_of("%s, commit %s", engine_name(), build_commit);
    Str told;
    memset(&told, 0, sizeof told);
    options_line(&told, o);
    if (o->format == FORMAT_GGUF || o->format == FORMAT_FOLDER)
        fail("--format=gguf and folder are for export; the input of tokenize is text, chat or preferences");
    if (o->format == FORMAT_CHAT || o->format == FORMAT_PREFERENCES) {
        int code = tokenize_chat(o, program.text, told.data);
        free(told.data);
        return code;
    }
    TokenizeJob job = {&tok, o->input, verb_documents(o), o->val_fraction, o->shard_tokens, 0, program.text, told.data};
    if (!tokenizer_open(&tok, o->tokenizer, &err) ||
        (*o->end_token && !tokenizer_end_named(&tok, o->end_token, &err)) ||
        !tokenize_files(&job, o->out, &stats, &err))
        fail("%s", err.text);
    if (isatty(STDERR_FILENO)) fputc('\n', stderr);
    static const char *const sides[2] = {"training", "validation"};
    for (int i = 0; i < 2; i++)
        printf("%s: %lld documents, %lld tokens, %lld bytes of text (%.3f bytes a token), %d shard%s\n", sides[i],
               (long long)stats.documents[i], (long long)stats.tokens[i], (long long)stats.bytes[i],
               stats.tokens[i] ? (double)stats.bytes[i] / (double)stats.tokens[i] : 0.0, stats.shards[i],
               stats.shards[i] == 1 ? "" : "s");
    if (tok.note.text[0]) printf("%s\n", tok.note.text);
    if (stats.tail) printf("there is only one document: its end became the validation text\n");
    verb_say_invalid(&stats.counts, stats.input_bytes, "became byte tokens");
    tokenize_hints(o, &stats);
    printf("%.1f MB/s\n", (double)(stats.bytes[0] + stats.bytes[1]) / 1e6 / (stats.seconds > 0 ? stats.seconds : 1e-9));
    free(told.data);
    tokenizer_free(&tok);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- corpus

// Names of a list as bits; -NAME: all but some. name(i): the i-th of count.
static inline bool verb_bits(unsigned *bits, const char *option, const char *list, const char *(*name)(int), int count,
                             Error *err) {
    StrList names;
    const unsigned all = (1u << count) - 1;
    bool ok = true;
    memset(&names, 0, sizeof names);
    verb_split(&names, list);
    *bits = names.count && (names.items[0][0] == '-' || strcmp(names.items[0], "all") == 0) ? all : 0;
    for (int i = 0; ok && i < names.count; i++) {
        const char *word = names.items[i] + (names.items[i][0] == '-');
        int k = 0;
        while (k < count && strcmp(word, name(k)) != 0) k++;
        if (k < count && word > names.items[i]) *bits &= ~(1u << k);
        else if (k < count) *bits |= 1u << k;
        else if (strcmp(word, "all") != 0)
            ok = error_set(err, "%s: there is no \"%.100s\"; corpus --help lists them", option, word);
    }
    str_list_free(&names);
    return ok;
}

static inline bool verb_corpus_steps(CorpusJob *job, const Options *o, Error *err) {
    unsigned kinds;
    bool ok = verb_bits(&job->steps, "--clean_steps", o->clean_steps, corpus_step, CORPUS_STEP_COUNT, err) &&
              verb_bits(&kinds, "--personal", o->personal, personal_name, PERSONAL_KIND_COUNT, err);
    if (ok) job->steps |= kinds << CLEAN_KINDS;
    return ok;
}

static inline bool verb_corpus_dated(const StrList *keep) {
    for (int i = 0; i < keep->count; i++)
        for (int k = 0; corpus_date_name(k); k++)
            if (strcmp(keep->items[i], corpus_date_name(k)) == 0) return true;
    return false;
}

static inline bool verb_corpus_job(CorpusJob *job, const Options *o, Error *err) {
    memset(job, 0, sizeof *job);
    if (!*o->input) return error_set(err, "corpus needs --input=...; corpus --help says what it is");
    if (*o->data || *o->tokenizer || *o->runs)
        return error_set(err, "--data, --tokenizer and --runs have no effect without --remove");
    job->inputs = o->input;
    job->docs = verb_documents(o);
    job->rules = quality_defaults();
    job->german = o->german;
    job->pack = o->pack;
    job->near_keep = o->near_keep;
    job->contamination = o->contamination;
    job->contamination_drop = o->contamination_drop;
    job->part_bytes = o->part_bytes;
    verb_split(&job->docs.keep, o->keep);
    if (job->docs.keep.count > DOC_KEEP_MOST)
        return error_set(err, "--keep names %d members, at most %d can be kept", job->docs.keep.count, DOC_KEEP_MOST);
    for (int i = 0; i < job->docs.keep.count; i++)
        if (strcmp(job->docs.keep.items[i], "text") == 0 || strcmp(job->docs.keep.items[i], "origin") == 0)
            return error_set(err, "--keep=%s: the output has a \"%s\" of its own", o->keep, job->docs.keep.items[i]);
    if (o->contamination_drop && !*o->contamination)
        return error_set(err, "--contamination_drop=on drops what --contamination=FILES names: give it");
    if (job->near_keep == CORPUS_OLDEST && !verb_corpus_dated(&job->docs.keep))
        return error_set(err,
                         "--near_keep=oldest goes by a member date, WARC-Date, timestamp or ts: --keep must name it");
    if (o->doc_split == DOC_NONE)
        return error_set(err,
                         "--doc_split=none reads files byte for byte; corpus wants documents: blank, formfeed, file");
    Path output = corpus_output(o->out, o->pack), manifest = path_of("%s/manifest.json", o->out);
    bool steps = verb_corpus_steps(job, o, err);
    job->docs.opt_out = (job->steps & 1u << CORPUS_OPT_OUT) != 0;
    return steps && (!*o->rules || quality_rules_load(&job->rules, o->rules, err)) &&
           output_spares_inputs(o, output.text, err) && output_spares_inputs(o, manifest.text, err);
}

// By one process, or by ranks and in parts. Rank 0 gets what is to be said.
static inline void verb_corpus_run(const CorpusJob *job, const Options *o, CorpusStats *stats, Dist *dist) {
    Error err;
    double start = clock_seconds();
    if (dist->size == 1 && o->resume == RESUME_NO) {
        if (!corpus_run(job, o->out, stats, &err)) fail("%s", err.text);
        return;
    }
    bool anew = dist->rank == 0 && o->resume == RESUME_NO;
    dist_agree(dist, !anew || corpus_parts_remove(o->out, &err), &err);
    dist_agree(dist, corpus_parts_clean(job, o->out, dist->rank, dist->size, &err), &err);
    dist_agree(dist, dist->rank > 0 || corpus_parts_join(job, o->out, stats, &err), &err);
    stats->seconds = clock_seconds() - start;
}

static inline int verb_corpus(const Options *o, Dist *dist) {
    if (*o->remove) {
        Error one;
        dist_agree(dist, dist->size == 1 || error_set(&one, "--remove is for one process: start it without mpirun"),
                   &one);
        return verb_remove(o);
    }
    Error err;
    CorpusJob job;
    CorpusStats stats;
    memset(&stats, 0, sizeof stats);
    Path program = path_of("%s, commit %s", engine_name(), build_commit);
    bool ok = verb_corpus_job(&job, o, &err);
    Str told;
    memset(&told, 0, sizeof told);
    options_line(&told, o);
    job.program = program.text, job.options = told.data;
    dist_agree(dist, ok, &err);
    verb_corpus_run(&job, o, &stats, dist);
    if (dist->rank > 0) return EXIT_DONE;
    const CorpusCounts *n = &stats.all;
    print_line("%s: %lld of %lld documents, %.2f of %.2f MB of text", stats.output.text, (long long)n->kept,
               (long long)n->read, (double)n->kept_bytes / 1e6, (double)n->read_bytes / 1e6);
    for (int i = 0; i < CLEAN_STEP_COUNT; i++)
        if (n->changed[i]) printf("%-22s changed %lld documents\n", corpus_step(i), (long long)n->changed[i]);
    for (int i = 0; i < PERSONAL_KIND_COUNT; i++)
        if (n->masked[i]) printf("%-22s masked %lld times\n", personal_name(i), (long long)n->masked[i]);
    for (int i = 0; i < CORPUS_REASON_COUNT; i++)
        if (n->dropped[i])
            printf("%-22s dropped %lld documents, %.2f MB\n", corpus_reason(i), (long long)n->dropped[i],
                   (double)n->dropped_bytes[i] / 1e6);
    if (n->paragraphs)
        printf("%-22s took out %lld paragraphs, %.2f MB, of documents that stay\n", "paragraphs",
               (long long)n->paragraphs, (double)n->paragraph_bytes / 1e6);
    verb_say_damage(&stats.damage);
    printf("%.1f MB/s\n", (double)n->read_bytes / 1e6 / (stats.seconds > 0 ? stats.seconds : 1e-9));
    str_list_free(&job.docs.keep);
    free(told.data);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- generate

static inline int verb_generate(const Options *o, Dist *dist) {
    Error err;
    Tokenizer tok;
    LoadedModel l;
    Draft draft;
    memset(&l, 0, sizeof l);
    dist_agree(dist, draft_options(o, &err) && generate_open(&l.config, &tok, o, &err), &err);
    if (tok.note.text[0] && dist->rank == 0) warn("%s", tok.note.text);
    Generator g = generator_open(o, o->prompt, &l.config, &tok);
    g.echo = dist->rank == 0 ? stdout : NULL;
    g.context_length = (int)int64_min(l.config.max_seq_len, (int64_t)g.prompt.count + o->tokens);
    ModelSetup setup;
    memset(&setup, 0, sizeof setup);
    setup.batch_size = 1;
    setup.seq_len = g.context_length;
    setup.dist = dist;
    model_load(&l, o, &setup, false);
    g.model = l.model;
    if (*o->draft) draft_open(g.draft = &draft, o, &tok, g.context_length, dist);
    for (int64_t i = 0, deaf = 0; i < o->samples && !deaf; i++) { // deaf: nobody reads what rank 0 prints
        Str text;
        if (dist->rank == 0) fputs(o->prompt, stdout);
        dist_agree(dist, generate(&text, &g, (uint64_t)i << 32, &err), &err);
        if (dist->rank == 0) fputs(i + 1 < o->samples ? "\n\n" : "\n", stdout);
        free(text.data);
        deaf = dist_max(dist, ferror(stdout) != 0);
    }
    fflush(stdout);
    if (g.draft && dist->rank == 0) fprintf(stderr, "%s\n", draft_said(&draft).text);
    if (g.draft) draft_close(&draft);
    generator_free(&g);
    tokenizer_free(&tok);
    model_unload(&l);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- export

static inline int verb_export(const Options *o, Dist *dist) {
    (void)dist;
    Error err;
    bool folder;
    if (o->format == FORMAT_TEXT || o->format == FORMAT_CHAT || o->format == FORMAT_PREFERENCES)
        fail("--format=text, chat and preferences are for tokenize; export writes gguf, or a folder");
    if (!model_is_folder(&folder, o->model, &err)) fail("%s", err.text);
    Config preset;
    if (!folder && config_of_preset(&preset, o->model, &err))
        fail("--model=%s is a preset, which has no weights; name the folder of a trained model%s", o->model,
             model_folder_beside(o->model).text);
    if ((o->merge || o->format == FORMAT_FOLDER) && !*o->adapter)
        fail("--merge and --format=folder are for a model and its adapter: give --adapter=FOLDER");
    if (o->format == FORMAT_FOLDER && !o->merge)
        fail("--format=folder writes a model with its adapter in its weights: give --merge=on; the adapter alone is a "
             "folder already, %s",
             o->adapter);
    if (o->format == FORMAT_FOLDER) {
        if (!merge_folder(o->model, o->adapter, o->out, o->dtype, &err)) fail("%s", err.text);
        print_line("%s: the model %s with the adapter %s", o->out, o->model, o->adapter);
        return EXIT_DONE;
    }
    bool alone = *o->adapter && !o->merge;
    if (!(alone ? gguf_export_adapter(o->model, o->adapter, o->out, o->dtype, &err)
                : gguf_export_merged(o->model, o->adapter, o->out, o->dtype, &err)))
        fail("%s", err.text);
    struct stat st;
    int fd = file_open(o->out, &st, &err); // is what was written there?
    if (fd < 0) fail("%s", err.text);
    close(fd);
    print_line("%s: %.1f MB", o->out, (double)st.st_size / 1e6);
    return EXIT_DONE;
}

static inline int verb_convert(const Options *o, Dist *dist) {
    (void)dist;
    Error err;
    StrList inputs;
    Str told;
    memset(&inputs, 0, sizeof inputs);
    memset(&told, 0, sizeof told);
    if (!path_expand(&inputs, o->input, &err)) fail("%s", err.text);
    if (inputs.count != 1) fail("--input=%s names %d files; convert takes one", o->input, inputs.count);
    if (!convert_run(&told, inputs.items[0], o->tokenizer, o->out, &err)) fail("%s", err.text);
    print_line("%s: %s", o->out, told.data);
    str_list_free(&inputs);
    free(told.data);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- reproduce

static inline int verb_reproduce(const Options *o, Dist *dist) {
    (void)dist;
    return reproduce_main(o->model);
}

// ---------------------------------------------------------------- the entry

static inline int program_run(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        options_help(argc < 2 ? stderr : stdout, engine_name(), -1);
        return argc < 2 ? 1 : EXIT_DONE;
    }
    int verb = verb_of(argv[1]);
    if (verb < 0) fail("unknown verb `%s`; %s --help lists the verbs", argv[1], engine_name());
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            options_help(stdout, engine_name(), verb);
            return EXIT_DONE;
        }
    static int (*const functions[VERB_COUNT])(const Options *, Dist *) = {
#define X(id, name, ranks, line, needed) verb_##name,
        VERBS(X)
#undef X
    };
    Options o;
    Error err;
    bool ok = options_parse(&o, verb, argc - 2, argv + 2, &err);
    if (o.print) {
        Str s;
        memset(&s, 0, sizeof s);
        if (!ok || !options_print(&s, &o, &err)) fail("%s", err.text);
        fputs(s.data, stdout);
        free(s.data);
        options_free(&o);
        return EXIT_DONE;
    }
    ok = ok && options_require(&o, &err) && process_threads((int)o.threads, &err);
    Dist dist;
    dist_single(&dist);
    if (verb == VERB_TRAIN) stop_block_signals();
    if (verb == VERB_CHAT) chat_block_signals();
    if (verbs[verb].ranks) dist_open(&dist, &argc, &argv);
    dist_agree(&dist, ok, &err); // with wrong options, too, so that one rank says it
    dist_agree(&dist, model_prepare(&o, &dist, &err), &err);
    // --out=DIR/file: DIR need not be there yet.
    dist_agree(&dist, outputs_check(&o, &err) && outputs_folder(&o, &err), &err);
    if (*o.out && verb != VERB_TRAIN) signals_threads();
    Watchdog watchdog; // for the launcher's end; train has one that does more
    bool watched = verbs[verb].ranks && verb != VERB_TRAIN;
    if (watched) {
        watchdog_open(&watchdog, 0, dist.rank, dist.host, &dist.launcher);
        dist.watchdog = &watchdog;
    }
    int code = functions[verb](&o, &dist);
    dist.watchdog = NULL;
    if (watched) watchdog_close(&watchdog);
    if (verbs[verb].ranks) dist_close(&dist);
    options_free(&o);
    return code;
}

// What was printed must have arrived: a result on a full disk, or for a reader that has gone, is none. A run that
// stopped keeps its exit code, since its checkpoint is good.
static inline int program_end(int code) {
    static const char lost[] = "not all that was printed could be written to standard output";
    bool before = ferror(stdout) != 0;
    errno = 0;
    bool ok = fflush(stdout) == 0 && !before;
    if (ok)
        ok = close(STDOUT_FILENO) == 0 || errno == EBADF || errno == EINTR; // file systems may refuse as late as here
    if (ok) return code;
    const char *why = before || !errno ? "" : strerror(errno), *colon = *why ? ": " : "";
    if (code == EXIT_DONE) fail("%s%s%s", lost, colon, why);
    warn("%s%s%s", lost, colon, why);
    return code;
}

static inline int program_main(int argc, char **argv) { return program_end(program_run(argc, argv)); }

#endif
