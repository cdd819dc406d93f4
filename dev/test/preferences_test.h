/*
preferences_test.h: pairs of answers: their losses, lines and rows.

  losses      the weights of an answer's tokens are the slopes of the pair's loss, by finite differences of its loss;
              values that can be said in advance
  lines       every form of TRL's preference data, and what is left out for which reason
  rows        pairs stay whole, in one row, once; what has no room is counted; damage
  chunks      the head's two sweeps give the gradient of one sweep with the same weights
  finite differences of every objective through the model, with -DREAL_DOUBLE

To be included after model_test.h. TRL's curves: preferences_test.sh.
*/
#ifndef PREFERENCES_TEST_H
#define PREFERENCES_TEST_H

#include "../../llmc/text/pair_lines.h"
#include "check.h"
#include "model_test.h"

static ObjectiveRule preferences_rule(int objective) {
    bool smoothed = objective == OBJECTIVE_DPO || objective == OBJECTIVE_SIMPO;
    ObjectiveRule r = {objective, 0.7, smoothed ? 0.15 : 0, 0.4, 0.3};
    return r;
}

// ---------------------------------------------------------------- losses

static double preferences_loss(const ObjectiveRule *rule, const ModelPair *p, PairSums sums) {
    PairNumbers n;
    pair_numbers(&n, rule, p, sums);
    return n.figures[PAIR_LOSS];
}

static void preferences_slopes(int objective) {
    const double h = 1e-4;
    ObjectiveRule rule = preferences_rule(objective);
    ModelPair p = {3, 14, 30, 8, 21, -11.5, -17.25};
    for (int i = 0; i < 20; i++) {
        PairSums sums = {0.4 + 1.3 * i, 25.5 - 1.1 * i, 3.4 + 1.9 * i};
        PairNumbers n;
        pair_numbers(&n, &rule, &p, sums);
        const double want[3] = {n.chosen_weight, n.rejected_weight, n.nll_weight};
        for (int k = 0; k < 3; k++) {
            PairSums at[2] = {sums, sums};
            for (int s = 0; s < 2; s++) {
                double *moved = k == 0 ? &at[s].chosen : k == 1 ? &at[s].rejected : &at[s].chosen_side;
                *moved += s ? -h : h;
            }
            double slope = (preferences_loss(&rule, &p, at[0]) - preferences_loss(&rule, &p, at[1])) / (2 * h);
            // The third derivative, below 10 here, times h^2 / 6; and the rounding of losses below 1000 over h.
            CHECK(fabs(slope - want[k]) <= 1e-7 * (1 + fabs(slope)),
                  "objective %d, sum %d of pair %d: %.9g, slope %.9g", objective, k, i, want[k], slope);
        }
    }
    PairNumbers n = {{0}, 1, 2, 4};
    CHECK(pair_weight(&n, &p, 7) == 4 && pair_weight(&n, &p, 8) == 5 && pair_weight(&n, &p, 20) == 0 &&
              pair_weight(&n, &p, 21) == 2,
          "weights of prompts and answers");
}

static void preferences_values(void) {
    ModelPair p = {0, 4, 8, 2, 6, -5, -7};
    PairSums even = {5, 7, 9}, ahead = {4, 9, 9};
    PairNumbers n;
    ObjectiveRule rule = {OBJECTIVE_DPO, 0.1, 0, 0, 0};
    pair_numbers(&n, &rule, &p, even);
    CHECK(fabs(n.figures[PAIR_LOSS] - log(2)) < 1e-15 && n.figures[PAIR_MARGIN] == 0 && n.figures[PAIR_ACCURACY] == 0,
          "DPO of a model that is its reference");
    pair_numbers(&n, &rule, &p, ahead);
    CHECK(fabs(n.figures[PAIR_LOSS] - log(1 + exp(-0.3))) < 1e-15 && n.figures[PAIR_ACCURACY] == 1 &&
              n.figures[PAIR_CHOSEN_LOGP] == -4 && fabs(n.figures[PAIR_MARGIN] - 0.3) < 1e-15,
          "DPO of a model that is 3 nats ahead");
    rule.smoothing = 0.25;
    pair_numbers(&n, &rule, &p, ahead);
    CHECK(fabs(n.figures[PAIR_LOSS] - 0.75 * log(1 + exp(-0.3)) - 0.25 * log(1 + exp(0.3))) < 1e-15,
          "DPO with label smoothing");
    rule.objective = OBJECTIVE_IPO;
    pair_numbers(&n, &rule, &p, ahead); // 0.5 and -1 nats a token
    CHECK(fabs(n.figures[PAIR_LOSS] - (1.5 - 5) * (1.5 - 5)) < 1e-12, "IPO is a mean over tokens");
    rule.objective = OBJECTIVE_ORPO, rule.nll = 0;
    PairSums certain = {0, 0, 0};
    pair_numbers(&n, &rule, &p, certain);
    CHECK(isfinite(n.figures[PAIR_LOSS]) && isfinite(n.chosen_weight) && isfinite(n.rejected_weight),
          "ORPO of answers that are certain");
}

// ---------------------------------------------------------------- lines

static void preferences_lines(void) {
#define M(role, text) "{\"role\": \"" role "\", \"content\": \"" text "\"}"
    static const struct {
        const char *line;
        int reason, messages; // of a side
    } cases[] = {
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}", CHAT_GOOD, 2},
        {"{\"prompt\": [" M("system", "s") ", " M("user",
                                                  "a") "], \"chosen\": [" M("assistant",
                                                                            "b") "], \"rejected\": [" M("assistant",
                                                                                                        "c") "]}",
         CHAT_GOOD, 3},
        {"{\"chosen\": [" M("user", "a") ", " M("assistant",
                                                "b") "], \"rejected\": [" M("user", "a") ", " M("assistant", "c") "]}",
         CHAT_GOOD, 2},
        {"{\"prompt\": \"a\", \"chosen\": [" M("user", "a") ", " M("assistant",
                                                                   "b") "], \"rejected\": [" M("user",
                                                                                               "a") ", " M("assistant",
                                                                                                           "c") "]}",
         CHAT_GOOD, 2},
        {"{\"prompt\": \"x\", \"chosen\": [" M("user", "a") ", " M("assistant",
                                                                   "b") "], \"rejected\": [" M("user",
                                                                                               "a") ", " M("assistant",
                                                                                                           "c") "]}",
         CHAT_BAD_PAIR, 0},
        {"{\"prompt\": \"a\", \"chosen\": [" M("assistant", "b") "], \"rejected\": \"c\"}", CHAT_GOOD, 2},
        {"{\"prompt\": [" M("user", "a") "], \"chosen\": \"b\", \"rejected\": \"c\"}", CHAT_GOOD, 2},
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"b\"}", CHAT_BAD_SAME, 0},
        {"{\"prompt\": \"a\", \"chosen\": \"\", \"rejected\": \"b\"}", CHAT_BAD_EMPTY, 0},
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \" \\n\"}", CHAT_BAD_EMPTY, 0},
        {"{\"prompt\": \"\", \"chosen\": \"b\", \"rejected\": \"c\"}", CHAT_BAD_NOTHING, 0},
        {"{\"chosen\": \"b\", \"rejected\": \"c\"}", CHAT_BAD_PAIR, 0},
        {"{\"prompt\": \"a\", \"chosen\": \"b\"}", CHAT_BAD_PAIR, 0},
        {"{\"prompt\": 3, \"chosen\": \"b\", \"rejected\": \"c\"}", CHAT_BAD_PAIR, 0},
        {"{\"messages\": []}", CHAT_BAD_PAIR, 0},
        {"{\"chosen\": [], \"rejected\": []}", CHAT_BAD_FORM, 0},
        {"{\"prompt\": [" M("boss", "a") "], \"chosen\": \"b\", \"rejected\": \"c\"}", CHAT_BAD_ROLE, 0},
        {"{\"prompt\": [" M("assistant", "a") "], \"chosen\": \"b\", \"rejected\": \"c\"}", CHAT_BAD_BEGINS, 0},
        {"{\"prompt\": \"a\", \"chosen\": [{\"role\": \"assistant\", \"content\": []}], \"rejected\": \"c\"}",
         CHAT_BAD_PARTS, 0},
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\", \"tools\": [{}]}", CHAT_BAD_TOOLS, 0},
        {"{\"chosen\": [" M("user", "a") ", " M("assistant", "b") ", " M("user", "d") ", " M(
             "assistant", "e") "], \"rejected\": [" M("user", "a") ", " M("assistant",
                                                                          "c") ", " M("user", "d") ", " M("assistant",
                                                                                                          "f") "]}",
         CHAT_BAD_LATER, 0},
        {"{\"chosen\": [" M("user", "a") ", " M("assistant",
                                                "b") "], \"rejected\": [" M("user", "x") ", " M("assistant", "b") "]}",
         CHAT_BAD_LATER, 0},
        {"{\"chosen\": [" M("user",
                            "a") ", " M("assistant",
                                        "b") ", " M("user",
                                                    "c") "], \"rejected\": [" M("user",
                                                                                "a") ", " M("assistant",
                                                                                            "b") ", " M("user",
                                                                                                        "d") "]}",
         CHAT_BAD_SILENT, 0},
        {"[]", CHAT_BAD_JSON, 0},
        {"{\"prompt\": \"\xff\"}", CHAT_BAD_UTF8, 0},
    };
#undef M
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ChatTalk sides[2];
        int reason = pair_read(sides, cases[i].line, strlen(cases[i].line));
        CHECK(reason == cases[i].reason, "%s: reason %d, expected %d", cases[i].line, reason, cases[i].reason);
        if (reason == CHAT_GOOD)
            CHECK(sides[0].count == cases[i].messages && sides[1].count == cases[i].messages &&
                      *sides[0].messages[sides[0].count - 1].text == 'b' &&
                      *sides[1].messages[sides[1].count - 1].text == 'c',
                  "%s: other messages", cases[i].line);
        chat_talk_free(&sides[0]);
        chat_talk_free(&sides[1]);
    }
}

// ---------------------------------------------------------------- rows

// Appends a side of so many tokens, of which the last `answer` are targets.
static int64_t preferences_side(uint32_t *words, int64_t at, int n, int answer, uint32_t flag) {
    for (int i = 0; i < n; i++) words[at + i] = (uint32_t)(i + 1) | (i >= n - answer ? CHAT_TARGET : 0);
    words[at] |= flag;
    return at + n;
}

static void preferences_rows(void) {
    enum { PAIRS = 400 };
    uint32_t *words = (uint32_t *)mem_alloc(sizeof(uint32_t) * PAIRS * 100);
    int lengths[PAIRS], seen[PAIRS];
    int64_t n = 0;
    for (int i = 0; i < PAIRS; i++) {
        int first = 3 + i * 7 % 40, other = 2 + i * 13 % 50;
        n = preferences_side(words, n, first, 1 + i % 2, CHAT_FIRST);
        n = preferences_side(words, n, other, 1, CHAT_OTHER);
        lengths[i] = first + other - 2;
    }
    for (int64_t T = 10; T <= 200; T += 19) {
        ChatRows r;
        int fit = 0;
        int64_t wrong = 0;
        memset(seen, 0, sizeof seen);
        CHECK(chat_rows_open(&r, words, n, T), "rows of pairs");
        for (int i = 0; i < PAIRS; i++) fit += lengths[i] <= T;
        for (int64_t row = 0; row < r.rows; row++) {
            int64_t count, sum = 0;
            const ChatItem *items = chat_rows_items(&r, row, &count);
            for (int64_t i = 0; i < count; sum += items[i++].n) {
                seen[items[i].number]++;
                wrong += items[i].n != lengths[items[i].number] || !(words[items[i].at] & CHAT_FIRST) ||
                         !(words[items[i].at + items[i].other] & CHAT_OTHER);
            }
            wrong += sum > T;
        }
        for (int i = 0; i < PAIRS; i++) wrong += seen[i] != (lengths[i] <= T);
        CHECK(wrong == 0 && r.conversations == fit && r.left == PAIRS - fit && r.pairs == PAIRS && r.cut == 0,
              "T %lld: %lld faults, %lld of %d pairs in rows", (long long)T, (long long)wrong,
              (long long)r.conversations, fit);
        chat_rows_close(&r);
    }
    ChatRows r;
    words[lengths[0] + 1] &= ~CHAT_TARGET; // the last of the first pair
    CHECK(!chat_rows_open(&r, words, n, 100), "a side that does not end with a target");
    n = preferences_side(words, 0, 5, 2, CHAT_FIRST);
    n = preferences_side(words, n, 1, 1, CHAT_OTHER);
    CHECK(!chat_rows_open(&r, words, n, 100), "a side of one token");
    free(words);
}

// ---------------------------------------------------------------- chunks

static void preferences_chunks(void) {
    enum { T = 13 };
    static const ModelPair items[2] = {{0, 5, 11, 2, 7, -9, -5}, {T + 1, T + 6, T + 13, T + 4, T + 8, -8, -11}};
    Config c = model_small_config(FAMILY_LLAMA, 1, 8, false);
    int32_t tokens[2 * T], targets[2 * T];
    model_random_ids(tokens, 2 * T, c.vocab_size, 1), model_random_ids(targets, 2 * T, c.vocab_size, 2);
    for (int objective = OBJECTIVE_DPO; objective <= OBJECTIVE_ORPO; objective++) {
        PairBatch pairs = {items, 2, preferences_rule(objective), 0};
        Model *m[2];
        double loss[2], figures[2][PAIR_FIGURE_COUNT];
        for (int i = 0; i < 2; i++) {
            m[i] = model_make(&c, model_shape(RECOMPUTE_NONE, 1, 2, T, true));
            if (!m[i]) return;
            model_randomise(m[i], 7);
            if (i) m[i]->logits_rows = 7;
            model_pairs(m[i], &pairs);
            loss[i] = model_pass(m[i], tokens, targets, 2, T, 0.5, NULL);
            model_figures(m[i], figures[i]);
        }
        size_t n = m[0]->shards.gradient_start[m[0]->shards.table.segments];
        double error = model_error_real(m[0]->shards.gradients, m[1]->shards.gradients, n);
        CHECK(fabs(loss[0] - loss[1]) <= MODEL_ORDER * fabs(loss[0]) && error <= MODEL_ORDER,
              "objective %d in chunks: loss %.9g and %.9g, gradients off by %.2e", objective, loss[0], loss[1], error);
        CHECK(figures[0][PAIR_LOSS] == loss[0], "the loss among the figures is %.9g, expected %.9g",
              figures[0][PAIR_LOSS], loss[0]);
        model_figures(m[0], figures[0]);
        double next = model_pass(m[0], tokens, targets, 2, T, 0.5, NULL), plain = 0;
        for (int i = 0; i < 2 * T; i++) plain += (double)activations_of(m[0], 0).losses[i];
        CHECK(figures[0][PAIR_LOSS] == 0 && fabs(next - plain) <= 1e-6 * plain,
              "a pass behind one of pairs is one of tokens: loss %.9g, its tokens' %.9g", next, plain);
        model_destroy(m[0]);
        model_destroy(m[1]);
    }
}

static void test_preferences(void) {
    for (int objective = OBJECTIVE_DPO; objective <= OBJECTIVE_ORPO; objective++) preferences_slopes(objective);
    preferences_values();
    preferences_lines();
    preferences_rows();
    preferences_chunks();
#ifdef REAL_DOUBLE
    for (int objective = OBJECTIVE_DPO; objective <= OBJECTIVE_ORPO; objective++) {
        ObjectiveRule rule = preferences_rule(objective);
        rule.beta = 0.2; // so that no sigmoid is flat where random weights are far from the references
        Config c = objective % 2 ? model_small_config(FAMILY_QWEN3, 1, 8, true)
                                 : lora_small_config(FAMILY_LLAMA, "all", objective == OBJECTIVE_ORPO ? 0.4 : 0);
        c.lora.alpha = 1.5; // as in lora_test.h
        Path what = path_of("objective %d", objective);
        fd_config_of(what.text, c, objective % 3, objective % 2 == 0, true, &rule);
    }
#endif
}

#endif
