/*
tasks.h: the files of --tasks: what a model is asked, checked and turned into tokens as lm-evaluation-harness does.

A file is JSON lines of one form:

    {"context": "...", "choices": ["...", "..."], "answer": 0}   multiple choice; "delimiter": what stands before a
                                                                 choice, one blank unless it is given
    {"good": "...", "bad": "..."}                                a minimal pair: two sentences, one of them right
    {"context": "...", "continuation": " ..."}                   the text that must follow, letter by letter (LAMBADA)
    {"text": "..."}                                              a document, of which every token counts

"group": "NAME" (of a document: its domain) puts a line into a group that is counted by itself; other keys are passed
over. All lines of all files are looked at before anything is computed; what is wrong is said with file and line.

The harness's rules (lm-evaluation-harness 0.4.13, lm_eval/api/model.py and models/huggingface.py), which decide what is
compared with what:

    - The white space at the end of a context is moved to the front of the continuation. Both are encoded as one text,
      and what is behind the tokens of the context alone is the continuation.
    - Without a context the begin token (bos_token, else eos_token) stands before the text. The tokens that a tokenizer
      puts around every text stand around contexts, too, and not around a text that has none.
    - What is longer than the model is cut from the left (--truncate; without it, it is an error here).
    - A document is read in windows as long as the model, each of which sees the token before its first one; the first
      sees the begin token.
    - Lengths are those of the text as it stands in the file: Unicode characters and UTF-8 bytes of a choice without its
      delimiter.

One difference: a text that looks like a special token is plain text here (tokenizer.h).
*/
#ifndef LLMC_TASKS_H
#define LLMC_TASKS_H

#include "../base/hash.h"
#include "../base/json.h"
#include "../text/tokenizer.h"

#define TASK_FILE_BYTES ((size_t)1 << 32)

// X(id, name in results, the keys that no other form has, one of them twice where there is one)
#define TASK_FORMS(X)                                                                                                  \
    X(TASK_CHOICES, "choices", "choices", "answer")                                                                    \
    X(TASK_PAIRS, "pairs", "good", "bad")                                                                              \
    X(TASK_CONTINUATION, "continuation", "continuation", "continuation")                                               \
    X(TASK_TEXT, "text", "text", "text")
typedef enum {
#define X(id, ...) id,
    TASK_FORMS(X)
#undef X
        TASK_FORM_COUNT
} TaskForm;

static inline const char *task_form_name(int form) {
    static const char *const names[] = {
#define X(id, name, ...) name,
        TASK_FORMS(X)
#undef X
    };
    return names[form];
}

// Tokens, of which the last `scored` are to be predicted from all that stand before them.
typedef struct {
    size_t at;            // of the first in TaskSet.ids
    int count, scored;    // count >= 2
    int64_t chars, bytes; // of the text that is predicted; of a document's windows the first has those of it all
    bool greedy;          // is it asked whether the model would have written it?
    int task;             // of TaskSet.tasks
    // The answer (score.h):
    double loglikelihood; // nats
    bool is_greedy;       // each of its tokens is the likeliest
} TaskRequest;

typedef struct {
    int line;
    int group;        // of Task.groups, or -1
    int first, count; // its requests: choices, right and wrong sentence, continuation, windows
    int answer;       // which of them is right
} TaskItem;

typedef struct {
    Path path, name; // name: of the file, without folder and ending
    char sha256[65]; // of the file
    TaskForm form;
    TaskItem *items; // (count)
    size_t count, capacity;
    StrList groups;
    int64_t truncated; // requests that were cut from the left
} Task;

typedef struct {
    Task *tasks; // (count)
    int count;
    TaskRequest *requests; // (request_count)
    size_t request_count, request_capacity;
    IdList ids;
    int longest; // tokens of a request's input, at most
} TaskSet;

// How texts become requests.
typedef struct {
    const Tokenizer *tok;
    int positions; // of the model: no input is longer
    bool truncate;
} TaskRules;

typedef struct {
    TaskSet *set;
    Task *task;
    const TaskRules *rules;
    TokenizerCache cache;
    Str text;
    IdList whole, context;
    int line;
    Error *err;
} TaskReader;

static inline void tasks_free(TaskSet *set) {
    for (int i = 0; i < set->count; i++) {
        free(set->tasks[i].items);
        str_list_free(&set->tasks[i].groups);
    }
    free(set->tasks);
    free(set->requests);
    free(set->ids.items);
    memset(set, 0, sizeof *set);
}

// `FILE:LINE: what is wrong with it`
PRINTF_LIKE(2, 3) static inline bool task_refuse(const TaskReader *r, const char *format, ...) {
    char what[700];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return error_set(r->err, "%.250s:%d: %s", r->task->path.text, r->line, what);
}

// ---------------------------------------------------------------- text to tokens

// Python's str.isspace(), by which its str.rstrip() goes.
static inline bool task_is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

// The bytes of a text (valid UTF-8) without the white space at its end.
static inline size_t task_stripped(const char *text, size_t n) {
    while (n > 0) {
        size_t at = n - 1;
        uint32_t c = 0;
        while (at > 0 && ((uint8_t)text[at] & 0xc0) == 0x80) at--;
        utf8_decode((const uint8_t *)text + at, (const uint8_t *)text + n, &c);
        if (!task_is_space(c)) break;
        n = at;
    }
    return n;
}

static inline int64_t task_chars(const char *text, size_t n) {
    int64_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((uint8_t)text[i] & 0xc0) != 0x80;
    return chars;
}

// A text with the tokens that the tokenizer puts around every text.
static inline void task_encode(TaskReader *r, IdList *out, const char *text, size_t n) {
    const Tokenizer *tok = r->rules->tok;
    out->count = 0;
    if (tok->bos >= 0) id_list_add(out, tok->bos);
    tokenizer_encode(tok, &r->cache, text, n, out);
    if (tok->closing >= 0) id_list_add(out, tok->closing);
}

// The token that stands before a text without a context, or -1.
static inline int task_prefix(const Tokenizer *tok) { return tok->bos_named >= 0 ? tok->bos_named : tok->eot; }

// Adds a request of n tokens of context and m of continuation.
static inline bool task_request(TaskReader *r, const int32_t *context, size_t n, const int32_t *continuation,
                                size_t m) {
    TaskSet *set = r->set;
    size_t most = (size_t)r->rules->positions + 1, cut = n + m > most ? n + m - most : 0;
    if (n == 0) return task_refuse(r, "the context is white space alone; leave it empty, or give it a word");
    if (m == 0) return task_refuse(r, "nothing is left to predict: the tokens of the context are all that there are");
    if (m > most - 1)
        return task_refuse(r, "what is to be predicted has %zu tokens, and the model %zu positions", m, most - 1);
    if (cut && !r->rules->truncate)
        return task_refuse(r,
                           "the context has %zu tokens and what is to be predicted %zu, and the model %zu positions; "
                           "--truncate cuts such contexts from the left, as lm-evaluation-harness does",
                           n, m, most - 1);
    r->task->truncated += cut > 0;
    set->requests =
        (TaskRequest *)mem_grow(set->requests, &set->request_capacity, set->request_count + 1, sizeof(TaskRequest));
    TaskRequest *q = &set->requests[set->request_count++];
    memset(q, 0, sizeof *q);
    q->at = set->ids.count;
    q->task = (int)(r->task - set->tasks);
    q->count = (int)(n + m - cut);
    q->scored = (int)m;
    for (size_t i = cut; i < n; i++) id_list_add(&set->ids, context[i]);
    for (size_t i = 0; i < m; i++) id_list_add(&set->ids, continuation[i]);
    if (q->count - 1 > set->longest) set->longest = q->count - 1;
    return true;
}

// A continuation behind a context, either of which may be split from the other in the middle of a token.
static inline bool task_pair(TaskReader *r, const Json *context, const char *continuation, size_t n) {
    int32_t prefix = task_prefix(r->rules->tok);
    size_t size = context ? context->size : 0;
    if (size == 0) {
        if (prefix < 0) return task_refuse(r, "the tokenizer has no token that begins a text: give a context");
        r->whole.count = 0;
        tokenizer_encode(r->rules->tok, &r->cache, continuation, n, &r->whole);
        return task_request(r, &prefix, 1, r->whole.items, r->whole.count);
    }
    r->text.size = 0;
    str_add(&r->text, context->text, size);
    str_add(&r->text, continuation, n);
    task_encode(r, &r->whole, r->text.data, r->text.size);
    task_encode(r, &r->context, context->text, task_stripped(context->text, size));
    size_t own = r->context.count, all = r->whole.count;
    return task_request(r, r->context.items, own, r->whole.items + (own < all ? own : all), own < all ? all - own : 0);
}

// A document in windows.
static inline bool task_text(TaskReader *r, const Json *text) {
    int32_t prefix = task_prefix(r->rules->tok);
    if (prefix < 0) return task_refuse(r, "the tokenizer has no token that begins a text: documents cannot be read");
    task_encode(r, &r->whole, text->text, text->size);
    size_t all = r->whole.count, most = (size_t)r->rules->positions;
    const int32_t *ids = r->whole.items;
    if (all == 0) return task_refuse(r, "\"text\" is empty");
    for (size_t done = 0; done < all;) {
        size_t n = all - done < most ? all - done : most, end = done + n;
        size_t before = done == 0 ? 1 : most - n + 1; // a last, short window reaches back as far as the model can see
        if (!task_request(r, done == 0 ? &prefix : ids + done - before, before, ids + done, n)) return false;
        done = end;
    }
    return true;
}

// ---------------------------------------------------------------- lines

// The string of that name; NULL, with an error: there is none.
static inline const Json *task_string(const TaskReader *r, const Json *root, const char *key, bool empty) {
    const Json *j = json_present(root, key);
    if (!j) task_refuse(r, "\"%s\" is missing", key);
    else if (j->type != JSON_STRING) task_refuse(r, "\"%s\" is %s, expected a string", key, json_shown(j).text);
    else if (!empty && j->size == 0) task_refuse(r, "\"%s\" is empty", key);
    else return j;
    return NULL;
}

// The text of a request that was just added, of which lengths are counted.
static inline void task_measure(TaskReader *r, size_t request, const Json *text) {
    r->set->requests[request].chars = task_chars(text->text, text->size);
    r->set->requests[request].bytes = text->size;
}

static inline bool task_read_choices(TaskReader *r, TaskItem *item, const Json *root) {
    const Json *context = task_string(r, root, "context", true), *choices = json_present(root, "choices");
    const Json *answer = json_present(root, "answer"), *delimiter = json_present(root, "delimiter");
    Str text;
    memset(&text, 0, sizeof text);
    if (!context) return false;
    if (!choices || choices->type != JSON_ARRAY || choices->size < 2)
        return task_refuse(r, "\"choices\" is %s, expected an array of two strings or more",
                           !choices                      ? "missing"
                           : choices->type != JSON_ARRAY ? json_shown(choices).text
                           : choices->size               ? "an array of one"
                                                         : "an empty array");
    if (delimiter && delimiter->type != JSON_STRING)
        return task_refuse(r, "\"delimiter\" is %s, expected a string", json_shown(delimiter).text);
    if (!answer || answer->type != JSON_NUMBER || !answer->is_integer || answer->integer < 0 ||
        answer->integer >= choices->size)
        return task_refuse(r, "\"answer\" is %s, expected the number of a choice, from 0 to %d",
                           answer ? json_shown(answer).text : "missing", (int)choices->size - 1);
    item->answer = (int)answer->integer;
    bool ok = true;
    int number = 0;
    for (const Json *j = choices->child; ok && j; j = j->next, number++) {
        if (j->type != JSON_STRING || j->size == 0)
            ok = task_refuse(r, "choice %d is %s, expected a string", number, j->size ? json_shown(j).text : "empty");
        text.size = 0;
        if (ok) str_add(&text, delimiter ? delimiter->text : " ", delimiter ? delimiter->size : 1);
        if (ok) str_add(&text, j->text, j->size);
        ok = ok && task_pair(r, context, text.data, text.size);
        if (ok) task_measure(r, r->set->request_count - 1, j);
    }
    free(text.data);
    return ok;
}

static inline bool task_read_pair(TaskReader *r, const Json *root) {
    const Json *good = task_string(r, root, "good", false), *bad = good ? task_string(r, root, "bad", false) : NULL;
    if (!bad) return false;
    if (good->size == bad->size && memcmp(good->text, bad->text, good->size) == 0)
        return task_refuse(r, "\"good\" and \"bad\" are the same");
    const Json *both[2] = {good, bad};
    for (int i = 0; i < 2; i++) {
        if (!task_pair(r, NULL, both[i]->text, both[i]->size)) return false;
        task_measure(r, r->set->request_count - 1, both[i]);
    }
    return true;
}

static inline bool task_read_continuation(TaskReader *r, const Json *root) {
    const Json *context = task_string(r, root, "context", true),
               *text = context ? task_string(r, root, "continuation", false) : NULL;
    if (!text || !task_pair(r, context, text->text, text->size)) return false;
    task_measure(r, r->set->request_count - 1, text);
    r->set->requests[r->set->request_count - 1].greedy = true;
    return true;
}

static inline bool task_read_text(TaskReader *r, const Json *root) {
    const Json *text = task_string(r, root, "text", false);
    size_t first = r->set->request_count;
    if (!text || !task_text(r, text)) return false;
    task_measure(r, first, text);
    return true;
}

// Which form a line has, -1: none or several.
static inline int task_form_of(const TaskReader *r, const Json *root) {
    static const char *const keys[TASK_FORM_COUNT][2] = {
#define X(id, name, one, other) {one, other},
        TASK_FORMS(X)
#undef X
    };
    int form = -1, also = -1;
    for (int f = 0; f < TASK_FORM_COUNT; f++)
        for (int k = 0; k < 2; k++) {
            if (!json_get(root, keys[f][k]) || form == f) continue;
            if (form >= 0) also = f;
            else form = f;
        }
    if (also >= 0)
        task_refuse(r, "keys of two forms, %s and %s; a line asks one thing", task_form_name(form),
                    task_form_name(also));
    else if (form < 0)
        task_refuse(r, "expected \"context\", \"choices\" and \"answer\", or \"good\" and \"bad\", or \"context\" and "
                       "\"continuation\", or \"text\"");
    return also >= 0 ? -1 : form;
}

static inline bool task_group(TaskReader *r, TaskItem *item, const Json *root) {
    const Json *group = json_present(root, "group");
    item->group = -1;
    if (!group) return true;
    if (group->type != JSON_STRING || group->size == 0)
        return task_refuse(r, "\"group\" is %s, expected a name", group->size ? json_shown(group).text : "empty");
    StrList *groups = &r->task->groups;
    for (int i = groups->count - 1; item->group < 0 && i >= 0; i--)
        if (strcmp(groups->items[i], group->text) == 0) item->group = i;
    if (item->group >= 0) return true;
    item->group = groups->count;
    str_list_add(groups, group->text);
    return true;
}

static inline bool task_read_item(TaskReader *r, const Json *root) {
    Task *task = r->task;
    TaskItem item;
    memset(&item, 0, sizeof item);
    item.line = r->line;
    item.first = (int)r->set->request_count;
    int form = task_form_of(r, root);
    if (form < 0) return false;
    if (task->count && form != (int)task->form)
        return task_refuse(r, "of the form %s, and line %d of the form %s; a file has one form", task_form_name(form),
                           task->items[0].line, task_form_name(task->form));
    task->form = (TaskForm)form;
    bool ok = task_group(r, &item, root);
    switch (form) {
    case TASK_CHOICES: ok = ok && task_read_choices(r, &item, root); break;
    case TASK_PAIRS: ok = ok && task_read_pair(r, root); break;
    case TASK_CONTINUATION: ok = ok && task_read_continuation(r, root); break;
    default: ok = ok && task_read_text(r, root); break;
    }
    if (!ok) return false;
    item.count = (int)(r->set->request_count - (size_t)item.first);
    task->items = (TaskItem *)mem_grow(task->items, &task->capacity, task->count + 1, sizeof(TaskItem));
    task->items[task->count++] = item;
    return r->set->request_count < INT32_MAX / 2 ? true : task_refuse(r, "more than a billion requests");
}

static inline bool task_read_line(TaskReader *r, const char *line, size_t n) {
    JsonDoc doc;
    Error why;
    Json *root = json_parse(&doc, line, n, &why);
    bool ok = root != NULL;
    const char *place = strstr(why.text, "line 1, "); // the line that is meant is the file's
    if (!ok && place) task_refuse(r, "%.*s%s", (int)(place - why.text), why.text, place + strlen("line 1, "));
    else if (!ok) task_refuse(r, "%.600s", why.text);
    else if (root->type != JSON_OBJECT) ok = task_refuse(r, "%s, expected an object {...}", json_shown(root).text);
    else if (!json_unique(root, &why)) ok = task_refuse(r, "%.600s", why.text);
    ok = ok && task_read_item(r, root);
    if (root) json_free(&doc);
    return ok;
}

static inline bool task_read(TaskReader *r) {
    Str text;
    memset(&text, 0, sizeof text);
    bool ok = file_read(&text, r->task->path.text, TASK_FILE_BYTES, r->err);
    const char *p = text.data, *end = p + text.size;
    if (ok) sha256_text(r->task->sha256, text.data, text.size);
    for (r->line = 1; ok && p < end; r->line++) {
        const char *next = (const char *)memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((next ? next : end) - p);
        if (task_stripped(p, n)) ok = task_read_line(r, p, n); // blank lines say nothing
        p += n + 1;
    }
    free(text.data);
    if (ok && r->task->count == 0) return error_set(r->err, "%s holds no lines", r->task->path.text);
    return ok;
}

// grammatik_de of scripts/eval/grammatik_de.jsonl
static inline Path task_name(const char *path) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
    return path_of("%.*s", (int)(dot && dot > base ? (size_t)(dot - base) : strlen(base)), base);
}

// Reads the files of a list (path_expand). On failure nothing is left to free.
static inline bool tasks_open(TaskSet *set, const char *files, const TaskRules *rules, Error *err) {
    StrList paths;
    TaskReader r;
    memset(set, 0, sizeof *set);
    memset(&paths, 0, sizeof paths);
    memset(&r, 0, sizeof r);
    r.set = set, r.rules = rules, r.err = err;
    bool ok = path_expand(&paths, files, err);
    if (ok) set->tasks = (Task *)mem_alloc(sizeof(Task) * (size_t)paths.count);
    for (int i = 0; ok && i < paths.count; i++) {
        r.task = &set->tasks[set->count++];
        r.task->path = path_of("%s", paths.items[i]);
        r.task->name = task_name(paths.items[i]);
        for (int j = 0; ok && j < i; j++)
            if (strcmp(set->tasks[j].name.text, r.task->name.text) == 0)
                ok = error_set(err, "%s and %s: two tasks of one name; rename one of the files", paths.items[j],
                               paths.items[i]);
        ok = ok && task_read(&r);
    }
    tokenizer_cache_free(&r.cache);
    free(r.text.data);
    free(r.whole.items);
    free(r.context.items);
    str_list_free(&paths);
    if (!ok) tasks_free(set);
    return ok;
}

#endif
