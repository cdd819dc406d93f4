/*
defaults.h: what `train --model=PRESET` does where its user does not say: by the preset's size.

The table is read once, when the command line is: --print_options and run.json show what came of it, so that a run is
described by its options alone. Models from folders keep the defaults of options.h: what suits them is not known from
their size.
*/
#ifndef LLMC_DEFAULTS_H
#define LLMC_DEFAULTS_H

#include "options.h"

// X(size as in the preset's name, optimizer, settings beside it with AdamW alone, settings with Muon or NorMuon)
// 3M, 5M and 30M: measured with steps of 2,048 tokens (dev/bench/learning.md), but AdamW of 3M, which has that of 5M,
// and beta2 and the line to 0 beside AdamW of 5M, which are 30M's. From 124M on the rates are those of Brown et al.
// 2020, table 2.1, for steps of half a million tokens and more, and nothing is measured. nano is for tests, and has
// those of options.h.
#define PRESET_DEFAULTS(X)                                                                                             \
    X("3M", "normuon", SMALL_ADAMW "lr=0.001", SMALL_MUON " muon_momentum=0.9")                                        \
    X("5M", "normuon", SMALL_ADAMW "lr=0.001", SMALL_MUON)                                                             \
    X("30M", "normuon", SMALL_ADAMW "lr=0.0005", SMALL_MUON)                                                           \
    X("124M", "adamw", LARGE "lr=0.0006", LARGE "lr=0.0006")                                                           \
    X("350M", "adamw", LARGE "lr=0.0003", LARGE "lr=0.0003")                                                           \
    X("774M", "adamw", LARGE "lr=0.00025", LARGE "lr=0.00025")                                                         \
    X("1.5B", "adamw", LARGE "lr=0.0002", LARGE "lr=0.0002")                                                           \
    X("7B", "adamw", LARGE "lr=0.00012", LARGE "lr=0.00012")
#define SMALL_ADAMW "beta2=0.99 warmup_fraction=0.05 lr_schedule=linear final_lr_fraction=0 "
#define SMALL_MUON SMALL_ADAMW "lr=0.02 muon_lr=0.004"
#define LARGE "warmup_fraction=0.05 "

// An option that says nothing where its user has given the other one.
static inline const char *default_yields_to(const char *option) {
    static const char *const pairs[][2] = {{"muon_lr", "lr"},
                                           {"warmup_fraction", "warmup_steps"},
                                           {"final_lr_fraction", "lr_schedule"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(option, pairs[i][0]) == 0) return pairs[i][1];
    return option;
}

// The settings of a preset by name ("llama-30M"): "" where the table has no such size. optimizer: its usual one.
static inline const char *default_settings(const char *preset, int optimizer, const char **usual) {
    static const struct {
        const char *size, *usual, *adamw, *muon;
    } rows[] = {
#define X(size, usual, adamw, muon) {size, usual, adamw, muon},
        PRESET_DEFAULTS(X)
#undef X
    };
    const char *size = strchr(preset, '-');
    Config c;
    Error none;
    *usual = "";
    if (!size || !config_of_preset(&c, preset, &none)) return "";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcasecmp(size + 1, rows[i].size) != 0) continue;
        *usual = rows[i].usual;
        return optimizer == OPTIMIZER_ADAMW ? rows[i].adamw : rows[i].muon;
    }
    return "";
}

#endif
