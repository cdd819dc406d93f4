/*
options.h: every option of every verb, and every verb, in one table each.

From OPTIONS come the struct and the rows that the parser (parse.h), --help, --print_options and what a run
records (help.h) loop over; from VERBS the program's verbs, whose functions stand in verbs.h. An option is a row;
a choice is a row of a list that makes its enum and its text, which stands in the room that uses it.

The idea of one table for parser, help and documentation is that of git's parse-options and redis's
config table.
*/
#ifndef LLMC_OPTIONS_H
#define LLMC_OPTIONS_H

#include "../corpus/parts.h"
#include "../engine.h"
#include "../files/gguf.h"
#include "../text/bpe.h"
#include "../text/tokenize.h"
#include "schedule.h"
#include "spikes.h"

// X(id, name, runs on several ranks, one line, needed options); its function is verb_NAME.
// clang-format off
#define VERBS(X)                                                                                                       \
    X(TRAIN, train, 1, "train a model, from scratch or from a folder, and write checkpoints",                          \
      "train_data,val_data,tokenizer,model,out")                                                                       \
    X(BPE, bpe, 0, "train a byte-level BPE tokenizer on text", "input,out")                                            \
    X(TOKENIZE, tokenize, 0, "turn text into token shards for training and validation", "tokenizer,input,out")         \
    X(CORPUS, corpus, 1, "clean text and take out what is there twice, into JSON lines and a manifest; --remove: take out documents", "out")   \
    X(GENERATE, generate, 1, "continue a prompt", "model")                                                             \
    X(CHAT, chat, 0, "talk with a model that has learnt to answer, in the terminal", "model")                          \
    X(EVAL, eval, 1, "loss of a model on token shards, in nats a token and bits per byte; its scores on tasks",        \
      "model")                                                                                                         \
    X(DUMP, dump, 1, "one training step: every activation, gradient and updated parameter into a file",                \
      "model,data,out")                                                                                                \
    X(EXPORT, export, 0, "write a model in another format", "model,out")                                               \
    X(CONVERT, convert, 0, "make a model folder of a GGUF file or of a checkpoint of llm.c", "input,out")               \
    X(REPORT, report, 0, "--run: a page on a run or several; --model: a model's papers from its record (card, data sheet, SBOM)", "") \
    X(REPRODUCE, reproduce, 0, "the commands that make a model again, as a script", "model")                           \
    X(WATCH, watch, 0, "a run on the terminal: where it stands, its loss, its newest sample", "run")                   \
    X(INFO, info, 0, "what a model consists of and costs; what shards hold", "")
// clang-format on

#define X(id, name, ranks, line, needed) VERB_##id,
enum { VERBS(X) VERB_COUNT };
#undef X
#define X(id, name, ranks, line, needed) O_##id = 1 << VERB_##id,
enum { VERBS(X) O_COMPUTE = O_TRAIN | O_GENERATE | O_CHAT | O_EVAL | O_DUMP, O_ALL = (1 << VERB_COUNT) - 1 };
#undef X

typedef struct {
    const char *name;
    bool ranks;
    const char *line, *needed;
} Verb;

static const Verb verbs[VERB_COUNT] = {
#define X(id, name, ranks, line, needed) {#name, ranks, line, needed},
    VERBS(X)
#undef X
};

#define RESUMES(X) X(RESUME_NO, "no") X(RESUME_AUTO, "auto")
#define FORMATS(X)                                                                                                     \
    X(FORMAT_USUAL, "usual")                                                                                           \
    X(FORMAT_TEXT, "text")                                                                                             \
    X(FORMAT_CHAT, "chat") X(FORMAT_PREFERENCES, "preferences") X(FORMAT_GGUF, "gguf") X(FORMAT_FOLDER, "folder")
#define MASTERS(X) X(MASTER_FP32, "fp32") X(MASTER_NONE, "none")
#define DIGITS(X) X(DIGITS_THREE, "three") X(DIGITS_SINGLE, "single")
enum { FORMATS(CHOICE_ENUM) };
enum { RESUMES(CHOICE_ENUM) };
enum { DIGITS(CHOICE_ENUM) };
enum { MASTERS(CHOICE_ENUM) };

#define CHAT_CONTEXT 4096 // positions of chat, unless asked otherwise or the model has fewer; tunable
#define STEPS_MOST (1ll << 40)

#define LR_AUTO (-1.0) // --lr=auto: below what a number may be
#define INT_AUTO (-1)  // --batch_size=auto likewise

#define TEXT_OF(x) TEXT_OF_(x) // a macro's value as text
#define TEXT_OF_(x) #x

// X(TYPE, name, default as a user would write it, least, most, choices, verbs, help)
// TYPE: TEXT and PATH (const char*; of a path a leading ~ is the user's folder), INT (int64_t), REAL (double), FLAG and
// CHOICE (int: index into choices). Lists of files are TEXT: path_expand reads them.
// least and most bound INT and REAL, both included. One with a choice may also be that one word, which is INT_AUTO or
// LR_AUTO.
// clang-format off
#define OPTIONS(X)                                                                                                     \
    X(PATH, model, "", 0, 0, "", O_COMPUTE | O_EXPORT | O_INFO | O_REPORT | O_REPRODUCE,                               \
      "a preset (gpt2-124M, llama-5M, qwen3-350M, ...: see info) or a model folder: a checkpoint, a run's folder "     \
      "(its newest checkpoint), a Hugging Face folder, or a folder with only a config.json and tokenizer files, "      \
      "which then starts from random weights; with a preset, train takes the optimizer and learning rates that are "   \
      "not given by its size, and says so")                                                                            \
    X(PATH, init_embeddings, "", 0, 0, "", O_TRAIN,                                                                    \
      "go on with another tokenizer than the model of this folder has, which --model names, too: rows of tokens that " \
      "both have are copied, others are means of the rows of the old tokenizer's pieces")                              \
    X(TEXT, train_data, "", 0, 0, "", O_TRAIN, "training shards: a file, a glob, or several with commas; sources by weight: A:0.7,B:0.3, where each weight is "   \
      "of all shards since the one before, and all sum to 1")              \
    X(TEXT, val_data, "", 0, 0, "", O_TRAIN, "validation shards, likewise")                                            \
    X(TEXT, data, "", 0, 0, "", O_EVAL | O_DUMP | O_INFO | O_CORPUS, "shards: a file, a glob, or several with commas")            \
    X(TEXT, tasks, "", 0, 0, "", O_EVAL,                                                                               \
      "task files, JSON lines: {context, choices, answer}, {good, bad}, {context, continuation} or {text}, with "      \
      "group where they are to be counted by groups; scored as lm-evaluation-harness does, over all of the "           \
      "model's positions (--seq_len is of --data); a file, a glob, or several with commas")                            \
    X(FLAG, truncate, "off", 0, 0, "off|on", O_EVAL | O_TRAIN,                                                         \
      "cut contexts that are longer than the model from the left, as lm-evaluation-harness does; off: an error")       \
    X(FLAG, table, "off", 0, 0, "off|on", O_EVAL, "scores of tasks as tables for people, in place of JSON")            \
    X(FLAG, record, "off", 0, 0, "off|on", O_EVAL,                                                                     \
      "keep the results in the model's run.json, from which report takes them; measured again they replace the "       \
      "earlier ones")                                                                                                  \
    X(PATH, tokenizer, "", 0, 0, "", O_TRAIN | O_TOKENIZE | O_INFO | O_CORPUS | O_CONVERT,                                 \
      "the tokenizer.json; convert: in place of that of a GGUF file, or for an llm.c checkpoint, which has none")       \
    X(TEXT, input, "", 0, 0, "", O_BPE | O_TOKENIZE | O_CORPUS | O_CONVERT,                                                                   \
      "text: a file, a folder, a glob, or several with commas; plain text, JSON lines (CirrusSearch's, too), WET, "    \
      "tar, sentences of Wortschatz Leipzig, packed or not (gzip, bzip2, xz, zstd), and parquet (program duckdb); "    \
      "UTF-8 (other bytes are counted; tokenize makes byte tokens of them, bpe leaves them out); convert: one file, "   \
      "GGUF (f32, f16, bf16, q8_0; gpt2, llama, qwen2, qwen3) or llm.c's GPT-2 (gpt2_124M.bin)")                      \
    X(TEXT, field, "text", 0, 0, "", O_BPE | O_TOKENIZE | O_CORPUS,                                                               \
      "JSON lines and parquet: the member or column that holds the text")                                              \
    X(FLAG, strict, "off", 0, 0, "off|on", O_BPE | O_TOKENIZE | O_CORPUS,                                                         \
      "damage ends the verb; off: it costs the line, record or file that it is in, is counted and named")              \
    X(TEXT, run, "", 0, 0, "", O_REPORT | O_WATCH,                                                                     \
      "folders of runs, what train had as --out: one, or for report also a glob, or several with commas")              \
    X(FLAG, once, "off", 0, 0, "off|on", O_WATCH, "look once, and end; as without a terminal")                         \
    X(REAL, interval, "2", 0.1, 86400, "", O_WATCH, "seconds between two looks")                                       \
    X(PATH, out, "", 0, 0, "", O_TRAIN | O_BPE | O_TOKENIZE | O_CORPUS | O_DUMP | O_EXPORT | O_EVAL | O_REPORT | O_CONVERT, \
      "what to write: train, corpus, convert: a folder; bpe: tokenizer.json; tokenize: the prefix of the shards; dump: a "      \
      ".safetensors file; export: the file; eval: JSON lines, each item of the tasks with its log likelihoods; "       \
      "report --run: the page (empty: report.html in the folder of the first run)")                                    \
    X(TEXT, license, "", 0, 0, "", O_BPE | O_TOKENIZE | O_CORPUS,                                                      \
      "licence of the input, an SPDX expression where there is one, for the manifest and all that is made of it")      \
    X(TEXT, remove, "", 0, 0, "", O_CORPUS,                                                                            \
      "documents to take out of cleaned text (--input, JSON lines) and of shards (--data, with --tokenizer), in "      \
      "place: a SHA-256, or a file: of ids, one a line (SHA-256 of the original, SOURCE:OFFSET, or JSON with "         \
      "\"sha256\", \"origin\" or \"text\"), or a text; duplicates go, too. --out: a report, new each time")              \
    X(TEXT, runs, "", 0, 0, "", O_CORPUS,                                                                              \
      "--remove: folders of runs, of which the report says in which steps they have read the documents")               \
    X(TEXT, keep, "", 0, 0, "", O_CORPUS,                                                                              \
      "members, columns or header fields that go with the text into the output, with commas: url,date")                \
    X(TEXT, clean_steps, "all", 0, 0, "", O_CORPUS,                                                                    \
      "what is done, with commas, in this order: repair (encodings), nfc, control (invisible characters, white space), "\
      "hyphens (words divided at line ends), boilerplate (lines of the page), personal (data are masked), opt_out "     \
      "(drops what its source forbids to mine: robotstxt, tdm-reservation, x-robots-tag), language (German or not), "   \
      "quality (rules), documents and paragraphs (what is there twice), near (what is nearly there twice); -NAME: all " \
      "but that one")                                                                                                  \
    X(REAL, german, "0", -10, 10, "", O_CORPUS,                                                                        \
      "how much likelier German than any other language a document has to be, in nats a feature of a word; higher is " \
      "stricter; German prose has 0.5 to 1.3")                                                                         \
    X(TEXT, personal, "all", 0, 0, "", O_CORPUS,                                                                       \
      "personal data that become placeholders, with commas: " PERSONAL_LIST "; -NAME: all but that one")               \
    X(PATH, rules, "", 0, 0, "", O_CORPUS,                                                                             \
      "a file of lines NAME = VALUE or NAME = off for the rules of quality (empty: those of FineWeb-2 for German; "    \
      "manifest.json lists them)")                                                                                     \
    X(CHOICE, near_keep, "first", 0, 0, CHOICES(CORPUS_STAYS), O_CORPUS,                                                \
      "which of near duplicates stays: the first of the input, the longest, or the oldest by a date, WARC-Date, "      \
      "timestamp or ts that --keep names; documents without one count as the youngest")                               \
    X(TEXT, contamination, "", 0, 0, "", O_CORPUS,                                                                     \
      "evaluation sets, task files of eval --tasks or plain text: manifest.json says which of their items stand in "  \
      "how many documents, by 13 words in a row; a file, a glob, or several with commas")                             \
    X(FLAG, contamination_drop, "off", 0, 0, "off|on", O_CORPUS, "drop the documents that --contamination finds")      \
    X(INT, part_bytes, "64e6", 1000, 1ll << 40, "", O_CORPUS,                                                          \
      "bytes of text that a rank cleans at a time, and that a killed run loses at most (--resume=auto, several ranks)")\
    X(CHOICE, pack, "zstd", 0, 0, CHOICES(CORPUS_PACKS), O_CORPUS, "how the output is packed, by the program of that name") \
    X(INT, vocab_size, "0", 0, 1 << 24, "", O_BPE | O_INFO,                                                            \
      "bpe: size of the vocabulary, special and reserved tokens included, rounded up to 128s (0: 8192); info: the "    \
      "preset's size (0: its default)")                                                                                \
    X(TEXT, report, "", 0, 0, "", O_BPE,                                                                               \
      "train nothing; what these tokenizers make of --input, which none of them should have been trained on: tokens a " \
      "word, bytes a token, compounds, unused tokens; tokenizer.json files, with commas")                              \
    X(CHOICE, digits, "three", 0, 0, CHOICES(DIGITS), O_BPE,                                                           \
      "how numbers are split before any merge: into groups of up to three digits from the left, by the pattern of "    \
      "Llama 3, or into single digits, by that of Qwen 2")                                                             \
    X(INT, min_frequency, TEXT_OF(BPE_MIN_COUNT), 1, 1ll << 40, "", O_BPE,                                             \
      "how often a pair must occur to become a token")                                                                 \
    X(TEXT, special, "", 0, 0, "", O_BPE,                                                                              \
      "names of special tokens, with commas, like <|tool|>,[MASK]: they take the place of reserved ones, and plain "   \
      "text never becomes them")                                                                                       \
    X(TEXT, end_token, "", 0, 0, "", O_TOKENIZE,                                                                       \
      "name of the token that ends a document, e.g. <eos> (empty: what the files beside the tokenizer.json say, or a " \
      "token called <|endoftext|> or the like)")                                                                       \
    X(REAL, val_fraction, "0.01", 0, 0.9, "", O_TOKENIZE, "share of the documents that go to the validation shards")   \
    X(CHOICE, doc_split, "blank", 0, 0, CHOICES(DOC_SPLITS), O_TOKENIZE | O_CORPUS,                                               \
      "what ends a document: blank lines, a form feed, the file's end; none: the whole file, byte for byte, is one "   \
      "document")                                                                                                      \
    X(INT, shard_tokens, TEXT_OF(SHARD_TOKENS), 1024, 1ll << 40, "", O_TOKENIZE, "most tokens in one shard")           \
    X(INT, batch_size, "8", 1, 1 << 20, "auto", O_TRAIN | O_EVAL | O_DUMP | O_INFO,                                    \
      "sequences in one pass of a rank, B; train: auto: the most that fit in the GPU's memory (train_gpt_cpu: in half " \
      "of what is left) and divide --total_batch_tokens; a resumed run takes what was chosen")                                                                           \
    X(INT, seq_len, "256", 1, 1 << 24, "", O_TRAIN | O_EVAL | O_DUMP | O_INFO,                                         \
      "tokens in a sequence, T; train: also the longest sequence that a new model is made for")                        \
    X(INT, total_batch_tokens, "0", 0, 1ll << 40, "", O_TRAIN,                                                         \
      "tokens in one update over all ranks; gradients accumulate up to it (0: batch_size x seq_len x ranks)")          \
    X(INT, steps, "1000", 1, STEPS_MOST, "", O_TRAIN,                                                                  \
      "updates to make in all; with --time_budget as many as fit, unless this is given: then what comes first ends")   \
    X(REAL, time_budget, "0", 0, 1e7, "", O_TRAIN,                                                                     \
      "minutes to train (0: by --steps): warm-up, level and decay go by the share of them that is used, and end with " \
      "them; RUN_DIR/time_budget.jsonl records what a resume or a copy of the run needs for the same bits")            \
    X(REAL, lr, "6e-4", 0, 10, "auto", O_TRAIN | O_DUMP,                                                               \
      "peak learning rate; train: auto: chosen by a test of some 40 steps before the first one, which leaves no other "\
      "trace and which no time budget counts; a resumed run takes what was chosen")                                    \
    X(CHOICE, lr_schedule, "cosine", 0, 0, CHOICES(SCHEDULES), O_TRAIN,                                                \
      "after the warm-up: down a half cosine, down a line, level, or level with a decay at the end")                   \
    X(INT, warmup_steps, "0", 0, 1ll << 40, "", O_TRAIN, "steps over which the learning rate rises to its peak")       \
    X(REAL, warmup_fraction, "0", 0, 1, "", O_TRAIN, "the same as a share of the steps, or of the time budget")        \
    X(REAL, final_lr_fraction, "0.1", 0, 1, "", O_TRAIN, "learning rate of the last step, as a share of the peak")     \
    X(REAL, decay_fraction, "0.2", 0, 1, "", O_TRAIN, "wsd: share of the steps, or of the time, that the decay takes") \
    X(INT, lora_rank, "0", 0, 1 << 14, "", O_TRAIN | O_INFO,                                                           \
      "train an adapter (LoRA) of this rank on the weights of --model=FOLDER, which stay as they are (0: train all)")  \
    X(REAL, lora_alpha, "32", -1e6, 1e6, "", O_TRAIN | O_INFO, "what it adds is scaled by lora_alpha / lora_rank")     \
    X(TEXT, lora_targets, "all", 0, 0, "", O_TRAIN | O_INFO,                                                           \
      "beside which matrices: all, attention, mlp, or PEFT's names with commas (q_proj,v_proj; of gpt2 c_attn, "       \
      "attn.c_proj, c_fc, mlp.c_proj)")                                                                                \
    X(REAL, lora_dropout, "0", 0, 0.99, "", O_TRAIN | O_INFO,                                                          \
      "share of the adapter's input that is left out in training")                                                     \
    X(FLAG, lora_rs, "off", 0, 0, "off|on", O_TRAIN | O_INFO, "scale by lora_alpha / sqrt(lora_rank) (rsLoRA)")        \
    X(CHOICE, base, "full", 0, 0, CHOICES(BASES), O_TRAIN | O_INFO,                                                    \
      "how the matrices inside blocks, which stay as they are with --lora_rank, are kept in memory: full: as they are "\
      "read; nf4: 4 bits a number, as bitsandbytes has them (QLoRA); q8: 8 bits, as GGUF's Q8_0")                      \
    X(REAL, lora_plus, "1", 0, 1e6, "", O_TRAIN, "learning rate of B as a multiple of that of A (LoRA+)")              \
    X(PATH, teacher, "", 0, 0, "", O_TRAIN | O_INFO,                                                                   \
      "a folder with a larger model of the same tokenizer: the loss is also how far the model's distributions are from " \
      "its own (distillation); info: what memory it takes")                                                            \
    X(REAL, distill_alpha, "0.5", 0, 1, "", O_TRAIN, "the share of that in the loss; the rest is cross entropy")       \
    X(REAL, distill_temperature, "2", 0.01, 100, "", O_TRAIN, "at which both distributions are compared")              \
    X(PATH, adapter, "", 0, 0, "", O_GENERATE | O_CHAT | O_EVAL | O_DUMP | O_EXPORT,                                          \
      "a folder with an adapter of --model: of PEFT, a checkpoint, or a run's folder (its newest checkpoint)")         \
    X(FLAG, merge, "off", 0, 0, "off|on", O_EXPORT,                                                                    \
      "write the model with --adapter added to its weights; off: the adapter alone, as llama.cpp takes it")            \
    X(REAL, weight_decay, "0.1", 0, 10, "", O_TRAIN | O_DUMP, "decoupled weight decay, on matrices only")              \
    X(REAL, beta1, "0.9", 0, 0.999999, "", O_TRAIN | O_DUMP, "AdamW: decay of the first moment")                       \
    X(REAL, beta2, "0.95", 0, 0.999999, "", O_TRAIN | O_DUMP, "AdamW: decay of the second moment")                     \
    X(REAL, adam_eps, "1e-8", 1e-30, 1, "", O_TRAIN | O_DUMP, "AdamW: added to the root of the second moment")         \
    X(CHOICE, optimizer, "adamw", 0, 0, CHOICES(OPTIMIZERS), O_TRAIN | O_DUMP | O_INFO,                                \
      "what moves the matrices inside blocks; embeddings, head and vectors have AdamW with all of them")               \
    X(CHOICE, objective, "next", 0, 0, CHOICES(OBJECTIVES), O_TRAIN | O_INFO,                                          \
      "what is learnt: next: the next token; of pairs of answers (tokenize --format=preferences) dpo, ipo (both beside " \
      "the model as it was, whose log-probabilities are stored beside the shards), simpo or orpo")                     \
    X(REAL, beta, "0.1", 1e-9, 1e9, "", O_TRAIN,                                                                       \
      "dpo, ipo, simpo: how much a log-probability is worth, and so how near the model stays to its reference; orpo: " \
      "how much the pairs weigh beside the chosen answers")                                                            \
    X(REAL, label_smoothing, "0", 0, 0.5, "", O_TRAIN, "dpo, simpo: the share of pairs that may be the wrong way round") \
    X(REAL, simpo_gamma, "0.5", 0, 1e9, "", O_TRAIN, "simpo: by how much the chosen answer should be ahead")            \
    X(REAL, muon_lr, "0", 0, 10, "", O_TRAIN | O_DUMP, "Muon: peak learning rate of its matrices (0: --lr)")           \
    X(CHOICE, muon_scale, "rms", 0, 0, CHOICES(MUON_SCALES), O_TRAIN | O_DUMP,                                         \
      "Muon: its updates are as long as AdamW's, so that --lr and --weight_decay carry over (rms), or as its authors "  \
      "have them, with learning rates of about 0.02 (original)")                                                       \
    X(REAL, muon_momentum, "0.95", 0, 0.999999, "", O_TRAIN | O_DUMP, "Muon: decay of the momentum")                   \
    X(FLAG, muon_nesterov, "on", 0, 0, "off|on", O_TRAIN | O_DUMP, "Muon: Nesterov's momentum")                              \
    X(INT, muon_steps, "5", 1, 50, "", O_TRAIN | O_DUMP, "Muon: steps of the Newton-Schulz iteration")                 \
    X(CHOICE, muon_polynomials, "jordan", 0, 0, CHOICES(MUON_POLYNOMIALS), O_TRAIN | O_DUMP,                           \
      "Muon: the iteration's coefficients: Jordan's, the same in every step, or Polar Express's")                      \
    X(REAL, muon_beta2, "0.95", 0, 0.999999, "", O_TRAIN | O_DUMP, "NorMuon: decay of the rows' mean squares")         \
    X(FLAG, muon_cautious, "off", 0, 0, "off|on", O_TRAIN | O_DUMP,                                                          \
      "Muon: decay only those weights that the update shrinks, too")                                                   \
    X(REAL, grad_clip, "1", 0, 1e9, "", O_TRAIN | O_DUMP,                                                              \
      "largest global gradient norm; longer gradients are scaled (0: off)")                                            \
    X(INT, val_every, "100", 0, 1ll << 40, "", O_TRAIN, "validate every N steps, and at the end (0: never)")           \
    X(INT, val_tokens, "65536", 0, 1ll << 40, "", O_TRAIN | O_EVAL, "tokens to validate on, at most (0: all)")         \
    X(INT, final_val_tokens, "0", 0, 1ll << 40, "", O_TRAIN,                                                           \
      "the same for the validation at the end, which no time budget counts (0: all)")                                  \
    X(TEXT, eval_tasks, "", 0, 0, "", O_TRAIN,                                                                         \
      "task files as of eval --tasks, of which metrics.jsonl gets the scores; contexts longer than --seq_len are too long") \
    X(INT, eval_every, "0", 0, 1ll << 40, "", O_TRAIN, "score them every N steps, and at the end (0: only then)")      \
    X(INT, sample_every, "0", 0, 1ll << 40, "", O_TRAIN, "print a sample every N steps (0: never)")                    \
    X(TEXT, sample_prompt, "", 0, 0, "", O_TRAIN, "how the samples start")                                             \
    X(FLAG, tensorboard, "on", 0, 0, "off|on", O_TRAIN, "write TensorBoard's event files into RUN/tb")                 \
    X(PATH, mlflow, "", 0, 0, "", O_TRAIN, "a file store of MLflow's, which the run is written to, too (empty: none)") \
    X(INT, checkpoint_every, "1000", 0, 1ll << 40, "", O_TRAIN,                                                        \
      "checkpoint every N steps, and at the end (0: only then)")                                                       \
    X(INT, keep_checkpoints, "3", 0, 1 << 30, "", O_TRAIN, "how many checkpoints to keep, the newest (0: all)")        \
    X(CHOICE, resume, "no", 0, 0, CHOICES(RESUMES), O_TRAIN | O_CORPUS,                                                           \
      "auto: go on from the newest whole checkpoint in the run's folder, if there is one; corpus: behind the parts "   \
      "that a killed run has left in OUT/corpus.parts, and leave such parts")                                          \
    X(INT, checkpoint_files, "0", 0, 1 << 16, "", O_TRAIN,                                                             \
      "over how many files weights and moments are spread, each written by a rank of its own (0: so many that each "   \
      "holds about 40 GB at most, as far as there are ranks)")                                                         \
    X(FLAG, background_checkpoints, "on", 0, 0, "off|on", O_TRAIN,                                                     \
      "write checkpoints while training goes on, from a copy in host memory (12 bytes a parameter, shared by the "     \
      "ranks that write); off: no copy, training waits, and --comm_timeout must be longer than a write")               \
    X(REAL, max_minutes, "0", 0, 1e7, "", O_TRAIN,                                                                     \
      "stop with a checkpoint and exit code 3 this long after the start (0: off); so do SIGTERM, SIGINT, SIGHUP, "     \
      "SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU, SIGALRM, SIGPWR, the end of mpirun or srun, and a file named stop in the "  \
      "run's folder")                                                                                                  \
    X(REAL, comm_timeout, "600", 0, 1e7, "", O_TRAIN,                                                                  \
      "seconds that a rank waits for others before it ends the job with an error (0: for ever); longer than a step, "  \
      "and than a checkpoint takes to be read")                                                                        \
    X(INT, spike_window, "100", 0, SPIKE_WINDOW_MOST, "", O_TRAIN,                                                     \
      "steps whose losses and gradient norms a new step is compared with (0: no step is)")                             \
    X(REAL, spike_threshold, "6", 0, 1e9, "", O_TRAIN,                                                                 \
      "a step is a spike if its loss or gradient norm is this many standard deviations above the window's mean (0: "   \
      "none is)")                                                                                                      \
    X(CHOICE, spike_action, "none", 0, 0, CHOICES(SPIKE_ACTIONS), O_TRAIN,                                             \
      "none: a line in the log, and a step that is not finite is an error; skip: no update by a spike; rollback: "     \
      "back to the last checkpoint that --checkpoint_every made, and on behind the spike's data")                      \
    X(INT, spike_limit, "10", 1, 1 << 30, "", O_TRAIN, "more spikes in a row, skipped or rolled back, are an error")   \
    X(CHOICE, recompute, "auto", 0, 0, CHOICES(RECOMPUTES), O_TRAIN | O_DUMP | O_INFO,                                 \
      "what the backward pass computes again instead of keeping it: none; cheap: norms and activation functions; "     \
      "block: whole blocks; auto: train_gpt: the least with which the batch fits in the GPU's memory; train_gpt_cpu: " \
      "cheap, or block where that does not fit; a resumed run takes what was chosen; none for dump, which can write "  \
      "only what is kept")                                                                                             \
    X(CHOICE, precision, "usual", 0, 0, CHOICES(PRECISIONS), O_COMPUTE,                                                \
      "train_gpt_cpu: operands of the matrix products, and with bf16 what generate and eval keep of matrices; all "    \
      "else is fp32 (usual: fp32; auto: bf16 if a measurement at the start finds it 1.3 times as fast, and a run "     \
      "goes on with what it began with); train_gpt: the type that it was built for, of weights and activations "       \
      "(usual, auto); sums are fp32")                                                                                  \
    X(CHOICE, kernels, "auto", 0, 0, CHOICES(KERNELS), O_COMPUTE,                                                      \
      "train_gpt_cpu: what computes the matrix products; matrix: the CPU's matrix unit (AMX, BFMMLA), for bf16; "      \
      "emulated: products with AMX's bits on any CPU, slowly; auto: the fastest there is; the log says which it was")  \
    X(CHOICE, master_weights, "fp32", 0, 0, CHOICES(MASTERS), O_TRAIN,                                                 \
      "train_gpt in bf16: what updates add to; none: the bf16 weights, rounded at random, 4 bytes a parameter less")   \
    X(INT, zero, "1", 0, 3, "", O_TRAIN,                                                                               \
      "what the ranks share out instead of each keeping it: 0 nothing; 1 the optimizer's state; 2 and gradients; 3 "   \
      "and weights (2 and 3: train_gpt only)")                                                                         \
    X(INT, zero_group, "0", 0, 1 << 20, "", O_TRAIN,                                                                   \
      "train_gpt: share out among groups of N neighbouring ranks, and keep a copy in each group (0: one group)")       \
    X(TEXT, prompt, "", 0, 0, "", O_GENERATE, "text to continue (empty: start a new document)")                        \
    X(TEXT, system, "", 0, 0, "", O_CHAT, "the system message (empty: the one that the template has for that, or none)")\
    X(INT, context, "0", 0, 1 << 24, "", O_CHAT,                                                                       \
      "positions for the history and the answer (0: the model's, at most " TEXT_OF(CHAT_CONTEXT) ")")                  \
    X(INT, tokens, "128", 1, 1 << 24, "", O_GENERATE | O_CHAT | O_TRAIN, "tokens to generate, at most")                         \
    X(PATH, draft, "", 0, 0, "", O_GENERATE | O_CHAT,                                                                  \
      "a folder with a small model of the same tokenizer, which proposes tokens: the model looks at several in a pass, " \
      "and the text has the distribution that it has without (speculative decoding)")                                  \
    X(INT, draft_tokens, "3", 1, 32, "", O_GENERATE | O_CHAT, "tokens that --draft proposes at a time")                \
    X(INT, samples, "1", 1, 1 << 20, "", O_GENERATE, "how many continuations to print")                                \
    X(REAL, temperature, "0.8", 0, 100, "", O_GENERATE | O_CHAT | O_TRAIN, "of sampling; 0 takes the likeliest token")          \
    X(INT, top_k, "50", 0, 1 << 24, "", O_GENERATE | O_CHAT | O_TRAIN, "sample among the K likeliest tokens (0: all)")          \
    X(REAL, top_p, "0.95", 0, 1, "", O_GENERATE | O_CHAT | O_TRAIN,                                                             \
      "sample among the likeliest tokens that together have this probability (1: all)")                                \
    X(CHOICE, format, "usual", 0, 0, CHOICES(FORMATS), O_EXPORT | O_TOKENIZE,                                          \
      "export: the file's: gguf, or folder: a Hugging Face model folder, of a model with its adapter merged; "          \
      "tokenize: the input's: text, or chat: JSON lines {messages: [{role, content}]}, also "                           \
      "{conversations: [{from, value}]} and {instruction, input, output}, by the chat template of the tokenizer's "     \
      "folder (ChatML where it has none); preferences: pairs of answers, {prompt, chosen, rejected} as texts or lists " \
      "of messages, by the same template; usual: gguf, text")                                                           \
    X(CHOICE, dtype, "f16", 0, 0, CHOICES(DTYPES), O_EXPORT, "data type of the matrices")                              \
    X(INT, seed, "1", 0, INT64_MAX, "", O_TRAIN | O_GENERATE | O_CHAT | O_DUMP,                                                 \
      "of the initial weights, the order of the data, and sampling")                                                   \
    X(PATH, facts, "", 0, 0, "", O_REPORT,                                                                             \
      "a file of lines `key = value`: what only a person can know; report --check lists the keys that are open")       \
    X(FLAG, check, "off", 0, 0, "off|on", O_REPORT,                                                                    \
      "write nothing; say what is missing for the Model Openness Framework and the European Open Source AI Index")     \
    X(TEXT, device, "", 0, 0, "", O_INFO,                                                                              \
      "a GPU (H100, A100, RTX 4090, ...): what train_gpt in bf16 needs of its memory, and what fits in it")            \
    X(FLAG, json, "off", 0, 0, "off|on", O_INFO | O_BPE, "one JSON object in place of text (bpe: of --report)")                \
    X(FLAG, verify, "on", 0, 0, "off|on", O_COMPUTE | O_EXPORT | O_INFO | O_REPORT | O_REPRODUCE,                       \
      "look at the checksums of all that is read, checkpoints and shards, once at the start; a damaged file is an "    \
      "error. off: files of terabytes start sooner, and run.log says so")                                              \
    X(INT, threads, "0", 0, 4096, "", O_ALL, "CPU threads (0: as many as this process may use)")                       \
    X(FLAG, progress, "on", 0, 0, "off|on", O_TRAIN, "a live progress line; without a terminal, a line now and then")
// clang-format on

typedef const char *OptionTEXT;
typedef const char *OptionPATH;
typedef int64_t OptionINT;
typedef double OptionREAL;
typedef int OptionFLAG;
typedef int OptionCHOICE;

enum {
#define X(type, name, ...) GIVEN_##name,
    OPTIONS(X)
#undef X
        OPTION_COUNT
};

typedef struct {
#define X(type, name, fallback, least, most, choices, verbs, help) Option##type name;
    OPTIONS(X)
#undef X
    int verb;
    bool given[OPTION_COUNT]; // by a word or a file
    Str by_size;              // what the size of --model's preset says: words as a user would write them
    const char *print;        // of --print_options: names with commas, empty: all; NULL: it was not given
    StrList kept;             // owns the values of TEXT and PATH options
    StrList configs;          // files that --config named
} Options;

typedef enum { OPTION_TEXT, OPTION_PATH, OPTION_INT, OPTION_REAL, OPTION_FLAG, OPTION_CHOICE } OptionType;

typedef struct {
    const char *name;
    OptionType type;
    size_t offset;           // of its field in Options
    const char *fallback;    // as a user would write it
    long double least, most; // these hold every int64_t
    const char *choices;     // "a|b|c"; of an INT or REAL: "" or a word
    int verbs;               // O_...
    const char *help;
} Option;

static const Option option_rows[] = {
#define X(type, name, fallback, least, most, choices, verbs, help)                                                     \
    {#name, OPTION_##type, offsetof(Options, name), fallback, least, most, choices, verbs, help},
    OPTIONS(X)
#undef X
};

static inline const Option *option_find(const char *name) {
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strcmp(option_rows[i].name, name) == 0) return &option_rows[i];
    return NULL;
}

static inline void options_free(Options *o) {
    str_list_free(&o->kept);
    str_list_free(&o->configs);
    free(o->by_size.data);
}

#endif
