/*
pair_lines.h: a pair of answers from a line of JSON, in the forms of TRL's preference data.

    {"prompt": "...", "chosen": "...", "rejected": "..."}                 a user's question and two answers to it
    {"prompt": [messages], "chosen": [message], "rejected": [message]}    a conversation, and two ends of it
    {"chosen": [messages], "rejected": [messages]}                        what both begin with is the prompt

A message is {"role", "content"}. Mixtures are read, too: a list as prompt of two texts; a text as prompt of two lists,
which hold it themselves or begin with the answer. The two sides differ in one answer of the assistant, the last message
of each; what comes before it is the same. Texts are rendered by the chat template as messages are, unlike TRL's plain
texts: what is learnt is what a server asks for.
*/
#ifndef LLMC_PAIR_LINES_H
#define LLMC_PAIR_LINES_H

#include "chat_lines.h"

static inline bool chat_message_same(const ChatMessage *a, const ChatMessage *b) {
    return a->role == b->role && a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

// prompt: of a side whose other messages are a list; those may begin with it.
static inline ChatReason pair_read_prompt(ChatTalk *t, const Json *prompt, const Json *list) {
    if (!prompt) return CHAT_GOOD;
    ChatReason reason = json_is(prompt, JSON_STRING) || json_is(prompt, JSON_ARRAY) ? CHAT_GOOD : CHAT_BAD_PAIR;
    for (const Json *j = json_is(prompt, JSON_ARRAY) ? prompt->child : NULL; j && reason == CHAT_GOOD; j = j->next)
        reason = chat_read_message(t, j, false);
    const char *role = list ? json_string(json_get(list->child, "role"), "") : "assistant";
    if (json_is(prompt, JSON_STRING) && strcmp(role, "assistant") == 0)
        chat_talk_add(t, CHAT_USER, prompt->text, prompt->size);
    return reason;
}

// A side of the line: prompt, and its answer or list of messages.
static inline ChatReason pair_read_side(ChatTalk *t, const Json *prompt, const Json *side) {
    bool list = json_is(side, JSON_ARRAY), asked = false;
    if (!list && (!json_is(side, JSON_STRING) || !prompt)) return CHAT_BAD_PAIR;
    ChatReason reason = pair_read_prompt(t, prompt, list ? side : NULL);
    int before = t->count;
    for (const Json *j = list ? side->child : NULL; j && reason == CHAT_GOOD; j = j->next)
        reason = chat_read_message(t, j, false);
    if (!list) chat_talk_add(t, CHAT_ASSISTANT, side->text, side->size);
    if (reason != CHAT_GOOD || !json_is(prompt, JSON_STRING) || before) return reason;
    for (int i = 0; i < t->count && !asked; i++) // the prompt is told twice, and must be the same
        asked = t->messages[i].role == CHAT_USER && t->messages[i].size == prompt->size &&
                memcmp(t->messages[i].text, prompt->text, prompt->size) == 0;
    return asked ? CHAT_GOOD : CHAT_BAD_PAIR;
}

// The two sides of a line, which must outlive them; sides[0] is the better one. Both to be freed in any case.
static inline ChatReason pair_read(ChatTalk sides[2], const char *line, size_t n) {
    static const char *const names[2] = {"chosen", "rejected"};
    const uint8_t *p = (const uint8_t *)line;
    memset(sides, 0, 2 * sizeof *sides);
    if (text_valid(p, p + n) != n) return CHAT_BAD_UTF8;
    const Json *root = json_parse(&sides[0].doc, line, n, NULL);
    if (!root) memset(&sides[0].doc, 0, sizeof sides[0].doc);
    if (!json_is(root, JSON_OBJECT)) return CHAT_BAD_JSON;
    if (chat_said(json_get(root, "tools"))) return CHAT_BAD_TOOLS;
    const Json *prompt = json_get(root, "prompt");
    ChatReason reason = CHAT_GOOD;
    for (int i = 0; i < 2 && reason == CHAT_GOOD; i++)
        reason = pair_read_side(&sides[i], prompt, json_get(root, names[i]));
    for (int i = 0; i < 2 && reason == CHAT_GOOD; i++) reason = chat_talk_check(&sides[i]);
    if (reason != CHAT_GOOD) return reason;
    const ChatTalk *a = &sides[0], *b = &sides[1];
    int same = 0;
    while (same < a->count && same < b->count && chat_message_same(&a->messages[same], &b->messages[same])) same++;
    if (same == a->count && same == b->count) return CHAT_BAD_SAME;
    if (same + 1 != a->count || same + 1 != b->count) return CHAT_BAD_LATER;
    bool answers = a->messages[same].role == CHAT_ASSISTANT && b->messages[same].role == CHAT_ASSISTANT;
    return answers ? CHAT_GOOD : CHAT_BAD_SILENT;
}

#endif
