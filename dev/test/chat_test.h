/*
chat_test.h: conversations: templates against Transformers (dev/test/fixtures/chat), what is refused, rows, shards, and
tokenizers that become such that chat. Training and the verb `chat`: chat_test.sh.
*/
#ifndef CHAT_TEST_H
#define CHAT_TEST_H

#include "check.h"

#define CHAT_FIXTURE "dev/test/fixtures/chat/expected.json"

// A tokenizer of the fixtures with more special tokens behind its vocabulary. names: JSON strings.
static bool chat_test_tokenizer(Tokenizer *tok, const char *base, const Json *names, Error *err) {
    Str text;
    memset(&text, 0, sizeof text);
    str_puts(&text, "");
    bool ok = file_read(&text, path_of("dev/test/fixtures/tokenizer/%s.json", base).text, 1 << 24, err) &&
              tokenizer_parse(tok, text.data, text.size, err);
    for (const Json *j = names ? names->child : NULL; ok && j; j = j->next) {
        ok = chat_append(&text, j->text, tok->vocab_size, err);
        tokenizer_free(tok);
        ok = ok && tokenizer_parse(tok, text.data, text.size, err);
    }
    free(text.data);
    return ok;
}

static bool chat_test_open(Tokenizer *tok, ChatFormat *f, Error *err) {
    return chat_test_tokenizer(tok, "trained", NULL, err) && chat_format_of(f, &chat_templates[0], tok, err);
}

// ---------------------------------------------------------------- templates

static void chat_test_conversation(const ChatFormat *f, const Json *said, const Json *expected, const char *name) {
    ChatMessage messages[16];
    int n = 0;
    IdList ids;
    TokenizerCache cache;
    memset(&ids, 0, sizeof ids);
    memset(&cache, 0, sizeof cache);
    for (const Json *j = said->child; j; j = j->next, n++) {
        messages[n].role = (ChatRole)chat_role_of(j->child->text, false);
        messages[n].text = j->child->next->text, messages[n].size = j->child->next->size;
    }
    const Json *asked = json_get(expected, "asked"), *token = asked ? asked->child : NULL;
    if (asked) { // the messages before the last, and the beginning of an answer
        const char *why = chat_render(&ids, f, &cache, messages, n - 1, true);
        bool same = !why && ids.count == asked->size;
        for (size_t i = 0; same && i < ids.count; i++, token = token->next)
            same = token->integer == ((uint32_t)ids.items[i] & CHAT_ID);
        CHECK(same, "%s: an answer is asked for with other tokens: %s", name, why ? why : "");
        ids.count = 0;
    }
    const char *why = chat_render(&ids, f, &cache, messages, n, false);
    if (json_bool(json_get(expected, "refused"), false)) {
        CHECK(why, "%s: rendered what the template refuses, or gives in serving with other tokens", name);
        tokenizer_cache_free(&cache);
        free(ids.items);
        return;
    }
    CHECK(!why, "%s: %s", name, why);
    const Json *list = json_get(expected, "ids"), *spans = json_get(expected, "spans"), *id = list->child;
    CHECK(ids.count == list->size, "%s: %zu tokens, Transformers gives %u", name, ids.count, list->size);
    int wrong = 0;
    for (size_t i = 0; i < ids.count && id; i++, id = id->next) {
        bool counts = false;
        for (const Json *s = spans->child; s; s = s->next->next)
            counts = counts || ((int64_t)i >= s->integer && (int64_t)i < s->next->integer);
        wrong += id->integer != ((uint32_t)ids.items[i] & CHAT_ID) ||
                 counts != (((uint32_t)ids.items[i] & CHAT_TARGET) != 0);
    }
    CHECK(wrong == 0, "%s: %d tokens or targets are not those of Transformers", name, wrong);
    tokenizer_cache_free(&cache);
    free(ids.items);
}

static void test_chat_templates(void) {
    Error err;
    JsonDoc doc;
    int seen = 0;
    const Json *root = json_load(&doc, CHAT_FIXTURE, &err);
    CHECK(root, "%s", err.text);
    for (const Json *g = json_get(root, "groups") ? json_get(root, "groups")->child : NULL; g; g = g->next) {
        Tokenizer tok;
        CHECK(chat_test_tokenizer(&tok, json_string(json_get(g, "tokenizer"), ""), json_get(g, "special"), &err), "%s",
              err.text);
        if (json_get(g, "eos")) { // what tokenizer_config.json would say
            tok.eot = tokenizer_special(&tok, json_string(json_get(g, "eos"), ""));
            tok.bos_named = tokenizer_special(&tok, json_string(json_get(g, "bos"), ""));
        }
        for (const Json *t = json_get(g, "templates")->child; t; t = t->next) {
            ChatFormat f;
            const ChatTemplate *row = NULL;
            for (int i = 0; i < CHAT_TEMPLATE_COUNT; i++)
                if (strcmp(chat_templates[i].sha256, json_string(json_get(t, "sha256"), "")) == 0)
                    row = &chat_templates[i];
            const char *name = json_string(json_get(t, "name"), "");
            CHECK(row && chat_format_of(&f, row, &tok, &err), "%s: %s", name, row ? err.text : "not in the table");
            const Json *said = json_get(json_get(g, "messages") ? g : root, "messages")->child;
            for (const Json *c = json_get(t, "conversations")->child; row && c; c = c->next, said = said->next)
                chat_test_conversation(&f, said, c, name);
            seen++;
        }
        tokenizer_free(&tok);
    }
    CHECK(seen >= CHAT_TEMPLATE_COUNT, "%d templates were compared, the table has %d", seen, CHAT_TEMPLATE_COUNT);
    json_free(&doc);
}

// Qwen3's template renders the last answer with a <think> block: of two at the end the first has it where the second is
// asked for, and not in the whole.
static void test_chat_two_answers(void) {
    static const ChatMessage messages[4] = {{CHAT_USER, "a", 1},
                                            {CHAT_ASSISTANT, "b", 1},
                                            {CHAT_SYSTEM, "c", 1},
                                            {CHAT_ASSISTANT, "d", 1}};
    const ChatMessage twice[3] = {messages[0], messages[1], messages[3]};
    Error err;
    Tokenizer tok;
    ChatFormat f;
    IdList ids;
    int seen = 0;
    memset(&ids, 0, sizeof ids);
    CHECK(chat_test_tokenizer(&tok, "qwen2", NULL, &err), "%s", err.text);
    for (int i = 0; i < CHAT_TEMPLATE_COUNT; i++) {
        if (strcmp(chat_templates[i].close ? chat_templates[i].close : "", "<|im_end|>") != 0 || chat_templates[i].bos)
            continue;
        CHECK(chat_format_of(&f, &chat_templates[i], &tok, &err), "%s", err.text);
        const char *why = chat_render(&ids, &f, NULL, twice, 3, false);
        CHECK((why != NULL) == f.row->think, "%s: two answers at the end: %s", f.row->name, why ? why : "rendered");
        seen += f.row->think;
        why = chat_render(&ids, &f, NULL, messages, 4, false);
        CHECK(!why, "%s: two answers with a message between: %s", f.row->name, why);
    }
    CHECK(seen == 1, "%d templates think", seen);
    free(ids.items);
    tokenizer_free(&tok);
}

// Texts that render the same are known, others are not.
static void test_chat_known(void) {
    const char *text = chat_ml_text(false);
    Str other;
    memset(&other, 0, sizeof other);
    CHECK(chat_template_find(text) && strcmp(chat_template_find(text)->name, "chatml") == 0, "our own template");
    CHECK(chat_template_find(chat_ml_text(true)) && chat_template_find(chat_ml_text(true))->bos, "our own, with bos");
    str_add(&other, text, strlen(text) - 1);
    CHECK(chat_template_find(other.data) != NULL, "without the line feed at its end");
    str_puts(&other, "\n\n");
    CHECK(!chat_template_find(other.data), "one line feed more would be rendered");
    char *escape = strstr(other.data, "\\n");
    memcpy(escape, "\n", 1), memmove(escape + 1, escape + 2, strlen(escape + 2) + 1);
    other.data[strlen(other.data) - 1] = 0;
    CHECK(chat_template_find(other.data) != NULL, "a line feed in a literal in place of its escape");
    other.size = 0;
    str_printf(&other, "\\n%s", text);
    CHECK(!chat_template_find(other.data), "\\n outside of Jinja is text");
    other.size = 0;
    str_puts(&other, text);
    *strstr(other.data, "<|im_end|>") = '[';
    CHECK(!chat_template_find(other.data), "another word");
    free(other.data);
}

// ---------------------------------------------------------------- lines

static void test_chat_lines(void) {
    static const struct {
        const char *line;
        int reason;
    } rows[] = {
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}",
         CHAT_GOOD},
        {"{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}]}",
         CHAT_GOOD},
        {"{\"conversations\": [{\"from\": \"system\", \"value\": \"\"}, {\"from\": \"user\", \"value\": \"a\"}, "
         "{\"from\": "
         "\"assistant\", \"value\": \"b\"}]}",
         CHAT_GOOD},
        {"{\"instruction\": \"a\", \"input\": \"\", \"output\": \"b\"}", CHAT_GOOD},
        {"{\"instruction\": \"a\", \"output\": \"b\", \"id\": 7}", CHAT_GOOD},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}", CHAT_BAD_UTF8},
        {"{\"messages\": [", CHAT_BAD_JSON},
        {"[1]", CHAT_BAD_JSON},
        {"{\"text\": \"a\"}", CHAT_BAD_FORM},
        {"{\"messages\": []}", CHAT_BAD_FORM},
        {"{\"messages\": \"a\"}", CHAT_BAD_FORM},
        {"{\"messages\": [{\"role\": \"user\"}]}", CHAT_BAD_FORM},
        {"{\"messages\": [[\"user\", \"a\"]]}", CHAT_BAD_FORM},
        {"{\"instruction\": \"a\", \"input\": 3, \"output\": \"b\"}", CHAT_BAD_FORM},
        {"{\"messages\": [{\"role\": \"bot\", \"content\": \"a\"}]}", CHAT_BAD_ROLE},
        {"{\"messages\": [{\"role\": \"human\", \"content\": \"a\"}]}", CHAT_BAD_ROLE},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}]}]}",
         CHAT_BAD_PARTS},
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{}]}]}", CHAT_BAD_TOOLS},
        {"{\"messages\": [{\"role\": \"tool\", \"content\": \"a\"}]}", CHAT_BAD_TOOLS},
        {"{\"tools\": [{}], \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", CHAT_BAD_TOOLS},
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}", CHAT_BAD_BEGINS},
        {"{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}",
         CHAT_BAD_BEGINS},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \" "
         "\\n\\u3000\"}]}",
         CHAT_BAD_EMPTY},
        {"{\"instruction\": \"a\", \"output\": \"\"}", CHAT_BAD_EMPTY},
        {"{\"instruction\": \"\", \"output\": \"b\"}", CHAT_BAD_NOTHING},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", CHAT_BAD_SILENT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ChatTalk talk;
        ChatReason reason = chat_talk_read(&talk, rows[i].line, strlen(rows[i].line));
        CHECK((int)reason == rows[i].reason, "%s: %s", rows[i].line,
              reason == CHAT_GOOD ? "taken" : chat_reason_name(reason));
        chat_talk_free(&talk);
    }
}

// The tokens of one question and answer; their number, -1: refused. *targets of them.
static int64_t chat_test_pair(const ChatFormat *f, const char *question, const char *answer, int64_t *targets) {
    ChatMessage m[2] = {{CHAT_USER, question, strlen(question)}, {CHAT_ASSISTANT, answer, strlen(answer)}};
    IdList ids;
    memset(&ids, 0, sizeof ids);
    const char *why = chat_render(&ids, f, NULL, m, 2, false);
    *targets = 0;
    for (size_t i = 0; i < ids.count; i++) *targets += ((uint32_t)ids.items[i] & CHAT_TARGET) != 0;
    free(ids.items);
    return why ? -1 : (int64_t)ids.count;
}

// What a server would give other tokens is refused.
static void test_chat_serving(void) {
    Error err;
    Tokenizer tok;
    ChatFormat f;
    int64_t targets;
    CHECK(chat_test_open(&tok, &f, &err), "%s", err.text);
    CHECK(chat_test_pair(&f, "Was?", "Das.", &targets) > 0 && targets > 1, "%lld targets", (long long)targets);
    CHECK(chat_test_pair(&f, "Was?", "\nDas.", &targets) < 0, "a line feed in front of an answer joins that before it");
    CHECK(chat_test_pair(&f, "\nWas?", "Das.\n", &targets) > 0, "in front of a question it may");
    CHECK(chat_test_pair(&f, "Was <|im_end|>?", "Das.", &targets) < 0, "the name of a special token");
    CHECK(chat_test_pair(&f, "Was?", "Das <|endoftext|>.", &targets) < 0, "the same in an answer");
    CHECK(chat_test_pair(&f, "Was < |im_end|>?", "Das <|im_end>.", &targets) > 0, "nearly such a name");
    ChatTemplate qwen3 = *f.row;
    qwen3.think = true;
    f.row = &qwen3;
    CHECK(chat_test_pair(&f, "Was?", "<think>\nhm\n</think>\n\nDas.", &targets) < 0, "a thought");
    CHECK(chat_test_pair(&f, "<tool_response>x</tool_response>", "Das.", &targets) < 0, "a tool's answer");
    CHECK(chat_test_pair(&f, "Was?", "Das.", &targets) > 0 && targets > 4, "%lld targets", (long long)targets);
    tokenizer_free(&tok);
}

// ---------------------------------------------------------------- rows

// Random conversations: words (n); every one has an answer.
static int64_t chat_test_words(uint32_t *words, int64_t most, int longest, uint64_t seed) {
    int64_t n = 0;
    for (uint64_t k = 0; n + longest < most; k++) {
        uint64_t random = permutation_mix(seed * 1000003 + k);
        int64_t length = 3 + (int64_t)(random % (uint64_t)(longest - 3)), first = n;
        for (int64_t i = 0; i < length; i++)
            words[n++] = (uint32_t)(i + 1) | (i && permutation_mix(random + (uint64_t)i / 3) % 2 ? CHAT_TARGET : 0);
        words[first] |= CHAT_FIRST;
        words[first + 2] |= CHAT_TARGET;
    }
    return n;
}

// The most positions of the conversation at [at, end) that end with an answer, by looking at every place.
static int64_t chat_test_length(const uint32_t *words, int64_t at, int64_t end, int64_t T) {
    for (int64_t n = int64_min(T, end - 1 - at); n > 0; n--)
        if ((words[at + n] & CHAT_TARGET) && (at + n + 1 == end || !(words[at + n + 1] & CHAT_TARGET))) return n;
    return 0;
}

static void chat_test_rows_of(const uint32_t *words, int64_t n, int64_t T) {
    ChatRows r, again;
    CHECK(chat_rows_open(&r, words, n, T) && chat_rows_open(&again, words, n, T), "rows of %lld", (long long)T);
    CHECK(r.rows == again.rows && r.conversations == again.conversations &&
              (!r.conversations || memcmp(r.items, again.items, sizeof(ChatItem) * (size_t)r.conversations) == 0),
          "the same conversations give other rows");
    int32_t *taken = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)n);
    int64_t wrong = 0, tokens = 0, left = 0, cut = 0;
    memset(taken, 0, sizeof(int32_t) * (size_t)n);
    for (int64_t row = 0; row < r.rows; row++) {
        int64_t count, sum = 0;
        const ChatItem *items = chat_rows_items(&r, row, &count);
        for (int64_t i = 0; i < count; i++) taken[items[i].at] += items[i].n, sum += items[i].n;
        wrong += count < 1 || sum > T;
        tokens += sum;
    }
    for (int64_t at = 0, end; at < n; at = end) {
        int64_t most = 0;
        for (end = at + 1; end < n && !(words[end] & CHAT_FIRST);) end++;
        int64_t length = chat_test_length(words, at, end, T);
        wrong += taken[at] != length; // each once, and as long as it can be
        for (int64_t i = at; i < end; i++) most = words[i] & CHAT_TARGET ? i - at : most;
        left += length == 0, cut += length && length < most;
    }
    CHECK(wrong == 0 && tokens == r.tokens && left == r.left && cut == r.cut,
          "T %lld: %lld faults, %lld and %lld tokens, %lld and %lld left out, %lld and %lld cut", (long long)T,
          (long long)wrong, (long long)tokens, (long long)r.tokens, (long long)left, (long long)r.left, (long long)cut,
          (long long)r.cut);
    // First fit decreasing and best fit decreasing both leave at most one row that is half empty or more.
    int64_t half = 0;
    for (int64_t row = 0; row < r.rows; row++) {
        int64_t count, sum = 0;
        const ChatItem *items = chat_rows_items(&r, row, &count);
        for (int64_t i = 0; i < count; i++) sum += items[i].n;
        half += 2 * sum <= T;
    }
    CHECK(half <= 1, "%lld of %lld rows are half empty", (long long)half, (long long)r.rows);
    free(taken);
    chat_rows_close(&r);
    chat_rows_close(&again);
}

static void test_chat_rows(void) {
    enum { MOST = 30000 };
    uint32_t *words = (uint32_t *)mem_alloc(sizeof(uint32_t) * MOST);
    ChatRows r;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        int64_t n = chat_test_words(words, MOST, seed % 2 ? 40 : 400, seed);
        for (int64_t T = 1; T <= 2000; T = T * 3 / 2 + 1) chat_test_rows_of(words, n, T);
        chat_test_rows_of(words, n, 63), chat_test_rows_of(words, n, 64), chat_test_rows_of(words, n, 65);
    }
    words[0] &= ~CHAT_FIRST;
    CHECK(!chat_rows_open(&r, words, 10, 8), "tokens before the first conversation");
    CHECK(chat_rows_open(&r, words, 0, 8) && r.rows == 0, "no tokens");
    chat_rows_close(&r);
    free(words);
}

// ---------------------------------------------------------------- shards

// Lines of conversations: number i has i % 7 + 1 turns.
static void chat_test_file(Str *text, int lines) {
    text->size = 0;
    for (int i = 0; i < lines; i++) {
        str_puts(text, "{\"messages\": [");
        for (int k = 0; k <= i % 7; k++)
            str_printf(text,
                       "%s{\"role\": \"user\", \"content\": \"Frage %d von %d\"}, {\"role\": \"assistant\", "
                       "\"content\": "
                       "\"Antwort %d auf %d\"}",
                       k ? ", " : "", k, i, k * 11, i * 13);
        str_puts(text, "]}\n");
    }
}

// The sequences of a data set hold each conversation of the lines once, with its targets and where it begins.
static void chat_test_sequences(const Dataset *d, const ChatFormat *f, const char *text, int T) {
    Error err;
    int32_t *in = (int32_t *)mem_alloc(sizeof(int32_t) * 3 * (size_t)T), *out = in + T, *starts = in + 2 * T;
    int64_t found = 0, wrong = 0, lines = 0;
    uint64_t prints[2] = {0, 0}; // of conversations as they should be, and as they are; in any order
    for (const char *line = text; *line; line = strchr(line, '\n') + 1, lines++) {
        ChatLine l;
        memset(&l, 0, sizeof l);
        l.line = (char *)(uintptr_t)line, l.n = (size_t)(strchr(line, '\n') - line);
        chat_encode_line(f, &l, NULL);
        int64_t n = chat_test_length((const uint32_t *)l.ids.items, 0, (int64_t)l.ids.count, T);
        Xxh64 print;
        xxh64_init(&print, 0);
        for (int64_t i = 0; i < n; i++) {
            uint32_t word = (uint32_t)l.ids.items[i + 1];
            int32_t pair[2] = {(int32_t)((uint32_t)l.ids.items[i] & CHAT_ID),
                               word & CHAT_TARGET ? (int32_t)(word & CHAT_ID) : -1};
            xxh64_update(&print, pair, sizeof pair);
        }
        if (n) prints[0] += xxh64_value(&print);
        free(l.ids.items);
    }
    for (int64_t s = 0; s < d->sequences; s++) {
        CHECK(dataset_sequence(d, s, in, out, starts, &err), "%s", err.text);
        for (int t = 0, end; t < T; t = end) {
            Xxh64 print;
            xxh64_init(&print, 0);
            for (end = t; end < T && starts[end] == t; end++) {
                int32_t pair[2] = {in[end], out[end]};
                xxh64_update(&print, pair, sizeof pair);
            }
            wrong += end == t;
            if (end == t) break;
            if (end - t == 1 && out[t] < 0) continue; // padding
            found++;
            wrong += out[end - 1] != f->close;
            prints[1] += xxh64_value(&print);
        }
    }
    CHECK(wrong == 0 && prints[0] == prints[1], "T %d: %lld of %lld conversations, %lld faults", T, (long long)found,
          (long long)lines, (long long)wrong);
    free(in);
}

static void test_chat_shards(void) {
    Error err;
    Tokenizer tok;
    ChatFormat f;
    ChatTokens fresh;
    Str text;
    Dataset d;
    memset(&text, 0, sizeof text);
    CHECK(chat_test_open(&tok, &f, &err) && chat_prepare(&tok, 0, &fresh, &err) && fresh.count == 2, "%s", err.text);
    chat_test_file(&text, 200);
    Path input = test_temp("chat.jsonl"), glob = test_temp("chat_train_*.bin");
    CHECK(file_write_all(input.text, text.data, text.size, &err), "%s", err.text);
    for (int shards = 0; shards < 2; shards++) {
        ChatStats stats;
        memset(&stats, 0, sizeof stats);
        ChatJob job = {&tok, input.text, 0, shards ? 1024 : 0, false, "test", NULL, false};
        CHECK(chat_tokenize_files(&job, test_temp("chat").text, &stats, &err), "%s", err.text);
        CHECK(stats.conversations[0] == 200 && stats.answers[0] == 794 && stats.lines == 200, "%lld conversations",
              (long long)stats.conversations[0]);
        for (int T = 50; T <= 500; T += 150) {
            CHECK(dataset_open(&d, glob.text, T, &err) && d.chat_template == chat_template_id(f.row) &&
                      (d.count > 1) == (shards > 0) && d.documents == 200,
                  "%s", err.text);
            d.vocab_size = tok.vocab_size;
            chat_test_sequences(&d, &f, text.data, T);
            int64_t read;
            CHECK(dataset_verify(&d, 0, 1, true, &read, &err) && dataset_unused(&d) == 0, "%s", err.text);
            BatchSource s = source_of_whole_dataset(&d);
            CHECK(s.documents && s.sequences == d.sequences, "%lld sequences", (long long)s.sequences);
            dataset_close(&d);
        }
        CHECK_ERROR(dataset_open(&d, glob.text, 3, &err), "not one answer");
    }
    // Both sides get one, whatever the hashes say; one line alone is trained on.
    for (int lines = 1; lines <= 3; lines++) {
        ChatStats stats;
        memset(&stats, 0, sizeof stats);
        chat_test_file(&text, lines);
        ChatJob job = {&tok, input.text, 0.001, 0, false, "test", NULL, false};
        CHECK(file_write_all(input.text, text.data, text.size, &err) &&
                  chat_tokenize_files(&job, test_temp("chat").text, &stats, &err) &&
                  stats.conversations[0] + stats.conversations[1] == lines && stats.conversations[1] == (lines > 1),
              "%d lines: %lld and %lld: %s", lines, (long long)stats.conversations[0],
              (long long)stats.conversations[1], err.text);
    }
    free(text.data);
    tokenizer_free(&tok);
}

// A line that is none is counted, named, and ends the verb where it shall.
static void test_chat_refusals(void) {
    Error err;
    Tokenizer tok;
    ChatFormat f;
    ChatTokens fresh;
    ChatStats stats;
    Str text;
    memset(&text, 0, sizeof text);
    memset(&stats, 0, sizeof stats);
    CHECK(chat_test_open(&tok, &f, &err) && chat_prepare(&tok, 0, &fresh, &err), "%s", err.text);
    chat_test_file(&text, 3);
    str_puts(&text, "\n{\"instruction\": \"a\", \"output\": \"\\nb\"}\n{\"messages\": 3}\n{\"messages\": 4}\n");
    Path input = test_temp("bad.jsonl");
    ChatJob job = {&tok, input.text, 0, 0, false, "test", NULL, false};
    CHECK(file_write_all(input.text, text.data, text.size, &err) &&
              chat_tokenize_files(&job, test_temp("bad").text, &stats, &err),
          "%s", err.text);
    CHECK(stats.conversations[0] == 3 && stats.bad[CHAT_BAD_FORM] == 2 && stats.bad[CHAT_BAD_RENDER] == 1 &&
              strstr(stats.first[CHAT_BAD_FORM].text, "bad.jsonl: line 6") &&
              strstr(stats.first[CHAT_BAD_RENDER].text, "line 5: an answer that has other tokens"),
          "%s; %s", stats.first[CHAT_BAD_FORM].text, stats.first[CHAT_BAD_RENDER].text);
    job.strict = true;
    memset(&stats, 0, sizeof stats);
    CHECK_ERROR(chat_tokenize_files(&job, test_temp("bad").text, &stats, &err), "line 5");
    job.strict = false;
    text.size = 0;
    str_puts(&text, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
    memset(&stats, 0, sizeof stats);
    CHECK(file_write_all(input.text, text.data, text.size, &err), "%s", err.text);
    CHECK_ERROR(chat_tokenize_files(&job, test_temp("bad").text, &stats, &err), "each has the fault");
    // A tokenizer without a template is for nobody here, and one that is not known is refused.
    Str *config = &tok.files[TOKENIZER_TEMPLATE];
    config->size = 0;
    str_puts(config, "{{ messages }}");
    CHECK_ERROR(chat_prepare(&tok, 0, &fresh, &err), "none of those that are known");
    CHECK_ERROR(chat_tokenize_files(&job, test_temp("bad").text, &stats, &err), "none of those that are known");
    free(text.data);
    tokenizer_free(&tok);
}

// ---------------------------------------------------------------- tokenizers

// What chat_prepare made is what a reader of its folder gets, and preparing that changes nothing more.
static void chat_test_folder(const Tokenizer *tok, const char *name) {
    Error err;
    Tokenizer again;
    ChatTokens fresh;
    ChatFormat f;
    Path folder = test_temp(name);
    Config c;
    CHECK(config_of_preset(&c, "llama-nano", &err), "%s", err.text);
    c.vocab_size = tok->vocab_size;
    CHECK(path_make_folder(folder.text, &err) && folder_write_config(folder.text, &c, tok, NULL, &err) &&
              tokenizer_write_folder(tok, folder.text, 64, NULL, &err) &&
              tokenizer_open(&again, path_of("%s/tokenizer.json", folder.text).text, &err),
          "%s: %s", name, err.text);
    CHECK(again.hash == tok->hash && again.eot == tok->eot && again.stop_count == tok->stop_count &&
              !again.note.text[0],
          "%s: end %d and %d, %d and %d stops, %s", name, again.eot, tok->eot, again.stop_count, tok->stop_count,
          again.note.text);
    CHECK(chat_prepare(&again, 64, &fresh, &err) && fresh.count == 0 && again.eot == tok->eot &&
              chat_format_open(&f, &again, &err) && f.close == again.eot,
          "%s: %s", name, err.text);
    tokenizer_free(&again);
}

static void test_chat_prepare(void) {
    Error err;
    Tokenizer tok, base;
    ChatTokens fresh;
    Str text;
    memset(&text, 0, sizeof text);
    // Our own: the tokens are there.
    CHECK(chat_test_tokenizer(&tok, "trained", NULL, &err), "%s", err.text);
    uint64_t hash = tok.hash;
    int end = tok.eot;
    CHECK(chat_prepare(&tok, 64, &fresh, &err) && tok.hash == hash && fresh.count == 2 &&
              fresh.ids[0] == tokenizer_special(&tok, "<|im_start|>") && tok.eot == fresh.ids[1] &&
              tokenizer_stops(&tok, end),
          "%s", err.text);
    chat_test_folder(&tok, "chat_own");
    tokenizer_free(&tok);
    // Behind the vocabulary.
    CHECK(chat_test_tokenizer(&tok, "gpt2", NULL, &err) && chat_test_tokenizer(&base, "gpt2", NULL, &err), "%s",
          err.text);
    CHECK(chat_prepare(&tok, 64, &fresh, &err) && tok.vocab_size == base.vocab_size + 2 &&
              fresh.ids[0] == base.vocab_size && fresh.ids[1] == base.vocab_size + 1,
          "%s", err.text);
    chat_test_folder(&tok, "chat_new");
    tokenizer_free(&tok);
    // In the place of reserved ones, which the folder's files name as well.
    static const char names[] = "[\"<|reserved_special_token_0|>\", \"<|reserved_special_token_1|>\"]";
    JsonDoc doc;
    const Json *root = json_parse(&doc, names, strlen(names), &err);
    CHECK(root && chat_test_tokenizer(&tok, "gpt2", root, &err), "%s", err.text);
    Str *config = &tok.files[TOKENIZER_CONFIG];
    str_printf(config, "{\"eos_token\": \"<|endoftext|>\", \"added_tokens_decoder\": {\"%d\": {\"content\": %s}}}",
               base.vocab_size, "\"<|reserved_special_token_0|>\"");
    CHECK(chat_prepare(&tok, 64, &fresh, &err) && tok.vocab_size == base.vocab_size + 2 && fresh.count == 2 &&
              fresh.ids[0] == base.vocab_size && tokenizer_special(&tok, "<|reserved_special_token_0|>") < 0,
          "%s", err.text);
    chat_test_folder(&tok, "chat_reserved");
    json_free(&doc);
    tokenizer_free(&tok);
    tokenizer_free(&base);
    // One that begins texts with a token gets the template that does.
    CHECK(chat_test_tokenizer(&tok, "llama3", NULL, &err), "%s", err.text);
    CHECK(tok.bos >= 0 && chat_prepare(&tok, 64, &fresh, &err) &&
              strcmp(tok.files[TOKENIZER_TEMPLATE].data, chat_ml_text(true)) == 0,
          "%s", err.text);
    chat_test_folder(&tok, "chat_bos");
    tokenizer_free(&tok);
    free(text.data);
}

static void test_chat(void) {
    test_chat_templates();
    test_chat_two_answers();
    test_chat_known();
    test_chat_lines();
    test_chat_serving();
    test_chat_rows();
    test_chat_shards();
    test_chat_refusals();
    test_chat_prepare();
}

#endif
