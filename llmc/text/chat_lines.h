/*
chat_lines.h: a conversation from a line of JSON.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
    {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}
    {"instruction": "...", "input": "...", "output": "..."}       input may be missing or empty

Other members are left alone. What is no conversation to learn from is told by its reason (CHAT_REASONS), and named.
*/
#ifndef LLMC_CHAT_LINES_H
#define LLMC_CHAT_LINES_H

#include "chat_template.h"

// X(id, name in the manifest, what is wrong, in words)
// clang-format off
#define CHAT_REASONS(X)                                                                                                \
    X(UTF8, utf8, "it is not UTF-8")                                                                                   \
    X(JSON, json, "it is no JSON object")                                                                              \
    X(FORM, form, "it has neither \"messages\" nor \"conversations\" nor \"instruction\" and \"output\", or they have another form") \
    X(ROLE, role, "an unknown role; known are system, user and assistant (in \"conversations\" also human and gpt)")   \
    X(PARTS, parts, "the content of a message is a list of parts; only text can be trained on")                        \
    X(TOOLS, tools, "tools are called or described, which no template is rendered with")                               \
    X(BEGINS, begins_with_assistant, "it begins with the assistant")                                                   \
    X(EMPTY, empty_answer, "an answer is empty")                                                                       \
    X(NOTHING, empty_message, "a message is empty")                                                                    \
    X(SILENT, no_answer, "the assistant does not answer")                                                              \
    X(PAIR, pair, "it has not \"chosen\" and \"rejected\", two texts behind a \"prompt\" or two lists of messages")     \
    X(SAME, same, "chosen and rejected are the same")                                                                  \
    X(LATER, differs_earlier, "chosen and rejected differ in more than the last message")                              \
    X(RENDER, render, "it cannot be rendered as a server would")
// clang-format on
#define X(id, name, words) CHAT_BAD_##id,
typedef enum { CHAT_REASONS(X) CHAT_REASON_COUNT, CHAT_GOOD = CHAT_REASON_COUNT } ChatReason;
#undef X

static inline const char *chat_reason_name(int i) {
    static const char *const names[] = {
#define X(id, name, words) #name,
        CHAT_REASONS(X)
#undef X
    };
    return names[i];
}

static inline const char *chat_reason_words(int i) {
    static const char *const all[] = {
#define X(id, name, words) words,
        CHAT_REASONS(X)
#undef X
    };
    return all[i];
}

typedef struct {
    JsonDoc doc;           // which the texts lie in
    ChatMessage *messages; // (count)
    int count;
    size_t capacity;
    Str joined; // instruction and input
} ChatTalk;

static inline void chat_talk_free(ChatTalk *t) {
    json_free(&t->doc);
    free(t->messages);
    free(t->joined.data);
    memset(t, 0, sizeof *t);
}

static inline void chat_talk_add(ChatTalk *t, ChatRole role, const char *text, size_t size) {
    t->messages = (ChatMessage *)mem_grow(t->messages, &t->capacity, (size_t)t->count + 1, sizeof(ChatMessage));
    ChatMessage m = {role, text, size};
    t->messages[t->count++] = m;
}

// older: the names of {conversations: [{from, value}]}.
static inline int chat_role_of(const char *name, bool older) {
    for (int i = 0; i < CHAT_ROLES; i++)
        if (strcmp(name, chat_role_name(i)) == 0) return i;
    if (older && strcmp(name, "human") == 0) return CHAT_USER;
    return older && strcmp(name, "gpt") == 0 ? CHAT_ASSISTANT : -1;
}

static inline bool chat_said(const Json *j) { // it is there, and not empty
    return j && j->type != JSON_NULL && !((j->type == JSON_ARRAY || j->type == JSON_STRING) && j->size == 0);
}

static inline ChatReason chat_read_message(ChatTalk *t, const Json *j, bool older) {
    const Json *role = json_get(j, older ? "from" : "role"), *content = json_get(j, older ? "value" : "content");
    if (!json_is(j, JSON_OBJECT) || !json_is(role, JSON_STRING)) return CHAT_BAD_FORM;
    int who = chat_role_of(role->text, older);
    if (chat_said(json_get(j, "tool_calls")) || chat_said(json_get(j, "function_call")) ||
        strcmp(role->text, "tool") == 0)
        return CHAT_BAD_TOOLS;
    if (who < 0) return CHAT_BAD_ROLE;
    if (json_is(content, JSON_ARRAY)) return CHAT_BAD_PARTS;
    if (!json_is(content, JSON_STRING)) return CHAT_BAD_FORM;
    chat_talk_add(t, (ChatRole)who, content->text, content->size);
    return CHAT_GOOD;
}

static inline ChatReason chat_read_instruction(ChatTalk *t, const Json *root) {
    const Json *what = json_get(root, "instruction"), *input = json_get(root, "input"), *out = json_get(root, "output");
    if (!json_is(what, JSON_STRING) || !json_is(out, JSON_STRING) || (chat_said(input) && input->type != JSON_STRING))
        return CHAT_BAD_FORM;
    str_add(&t->joined, what->text, what->size);
    if (chat_said(input)) str_puts(&t->joined, "\n\n"), str_add(&t->joined, input->text, input->size);
    str_puts(&t->joined, "");
    chat_talk_add(t, CHAT_USER, t->joined.data, t->joined.size);
    chat_talk_add(t, CHAT_ASSISTANT, out->text, out->size);
    return CHAT_GOOD;
}

static inline ChatReason chat_talk_check(const ChatTalk *t) {
    bool answered = false;
    int first = t->count && t->messages[0].role == CHAT_SYSTEM;
    if (t->count == 0) return CHAT_BAD_FORM;
    if (first < t->count && t->messages[first].role == CHAT_ASSISTANT) return CHAT_BAD_BEGINS;
    for (int i = 0; i < t->count; i++) {
        ChatMessage m = t->messages[i];
        chat_trim(&m.text, &m.size);
        answered = answered || m.role == CHAT_ASSISTANT;
        if (m.size == 0 && m.role != CHAT_SYSTEM) return m.role == CHAT_ASSISTANT ? CHAT_BAD_EMPTY : CHAT_BAD_NOTHING;
    }
    return answered ? CHAT_GOOD : CHAT_BAD_SILENT;
}

// The conversation of a line, which must outlive it no longer than this call. To be freed in any case.
static inline ChatReason chat_talk_read(ChatTalk *t, const char *line, size_t n) {
    memset(t, 0, sizeof *t);
    const uint8_t *p = (const uint8_t *)line;
    if (text_valid(p, p + n) != n) return CHAT_BAD_UTF8;
    const Json *root = json_parse(&t->doc, line, n, NULL);
    if (!root) memset(&t->doc, 0, sizeof t->doc);
    if (!json_is(root, JSON_OBJECT)) return CHAT_BAD_JSON;
    const Json *list = json_get(root, "messages");
    bool older = !list && json_get(root, "conversations");
    ChatReason reason = CHAT_GOOD;
    if (older) list = json_get(root, "conversations");
    if (chat_said(json_get(root, "tools"))) return CHAT_BAD_TOOLS;
    if (!list) reason = chat_read_instruction(t, root);
    else if (!json_is(list, JSON_ARRAY)) return CHAT_BAD_FORM;
    for (const Json *j = list ? list->child : NULL; j && reason == CHAT_GOOD; j = j->next)
        reason = chat_read_message(t, j, older);
    return reason == CHAT_GOOD ? chat_talk_check(t) : reason;
}

#endif
