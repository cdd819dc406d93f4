// Lines of conversations, by any of the known templates: the first byte says which. What is rendered has the tokens
// that it has where an answer is asked for, and counts nothing but answers.
#include "../../llmc/text/chat_tokenize.h"
#include "../../llmc/text/chat_tokens.h"
#include "fuzz.h"

static Tokenizer tok;
static ChatFormat formats[CHAT_TEMPLATE_COUNT];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const char *const names[] = {"<|start_header_id|>",
                                        "<|end_header_id|>",
                                        "<|eot_id|>",
                                        "<|im_start|>",
                                        "<|im_end|>",
                                        "<s>",
                                        "</s>",
                                        "[INST]",
                                        "[/INST]"}; // [SYSTEM_PROMPT] stays text
    Error err;
    Str text;
    (void)argc, (void)argv;
    memset(&text, 0, sizeof text);
    bool ok = file_read(&text, "dev/test/fixtures/tokenizer/o200k.json", 1 << 20, &err) &&
              tokenizer_parse(&tok, text.data, text.size, &err);
    for (size_t i = 0; ok && i < sizeof names / sizeof *names; i++) {
        ok = chat_append(&text, names[i], tok.vocab_size, &err);
        tokenizer_free(&tok);
        ok = ok && tokenizer_parse(&tok, text.data, text.size, &err);
    }
    free(text.data);
    if (!ok) fail("%s", err.text);
    tok.eot = tokenizer_special(&tok, "</s>"), tok.bos_named = tokenizer_special(&tok, "<s>");
    for (int i = 0; i < CHAT_TEMPLATE_COUNT; i++)
        if (!chat_format_of(&formats[i], &chat_templates[i], &tok, &err)) fail("%s", err.text);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ChatLine l;
    ChatTalk talk;
    IdList asked;
    if (size < 1) return 0;
    const ChatFormat *f = &formats[data[0] % CHAT_TEMPLATE_COUNT];
    memset(&l, 0, sizeof l);
    memset(&asked, 0, sizeof asked);
    l.n = size - 1;
    l.line = (char *)malloc(l.n ? l.n : 1); // exactly, for AddressSanitizer
    if (l.n) memcpy(l.line, data + 1, l.n);
    chat_encode_line(f, &l, NULL);
    REQUIRE(l.reason == CHAT_GOOD || l.reason < CHAT_REASON_COUNT);
    if (l.reason == CHAT_GOOD) {
        REQUIRE(chat_talk_read(&talk, l.line, l.n) == CHAT_GOOD && l.ids.count > 0 && l.targets > 0);
        REQUIRE(f->row->think || l.untrained == 0);
        size_t at = 0; // behind the targets before
        for (int k = 0; k < talk.count; k++) {
            if (talk.messages[k].role != CHAT_ASSISTANT || (f->row->think && k + 1 < talk.count)) continue;
            asked.count = 0;
            const char *why = chat_render(&asked, f, NULL, talk.messages, k, true);
            REQUIRE(!why && asked.count >= at && asked.count < l.ids.count);
            for (size_t i = 0; i < asked.count; i++) {
                uint32_t word = (uint32_t)l.ids.items[i];
                REQUIRE((word & CHAT_ID) == (uint32_t)asked.items[i] || ((uint32_t)asked.items[i] & CHAT_TARGET));
                REQUIRE(i < at || !(word & CHAT_TARGET));
            }
            for (at = asked.count; at < l.ids.count && ((uint32_t)l.ids.items[at] & CHAT_TARGET); at++)
                if (((uint32_t)l.ids.items[at] & CHAT_ID) == (uint32_t)f->close) break;
            REQUIRE(at < l.ids.count && ((uint32_t)l.ids.items[at] & CHAT_TARGET));
            at++;
        }
        for (; at < l.ids.count; at++) REQUIRE(!((uint32_t)l.ids.items[at] & CHAT_TARGET));
        chat_talk_free(&talk);
    }
    free(l.ids.items);
    free(l.line);
    free(asked.items);
    return 0;
}
