/*
chat_rows.h: whole conversations packed into rows of T tokens (best fit decreasing).

    ChatRows r;
    chat_rows_open(&r, words, tokens, T)        words: a shard's tokens with their flags (chat_template.h)
    chat_rows_items(&r, row, &n)                the conversations of a row, in the order in which they lie in it
    chat_rows_close(&r)

A conversation takes the positions from its first token to the one before its last target: what follows an answer
teaches nothing. One that is longer than T is cut behind the last answer that fits, and left out if none does. The
longest come first, equal ones in the order of the shard; each goes into the row in which it leaves the least room, of
equal rows the one that was filled last, else into a new one. So rows are a function of the shard and of T alone. No row
is empty, and every conversation that has room is in one of them once.

Best fit decreasing needs at most 11/9 of the fewest rows (Johnson 1973); conversations are short beside T, and what is
left free is about a hundredth. Memory: 24 bytes a conversation.

A pair of answers (preferences) is two conversations that lie behind each other, the better one first, each up to its
last target. Both have room in one row or are left out: whoever reads a row has the whole pair, whatever the number of
rows in a pass, and a pair of which a part was cut off would be another pair.
*/
#ifndef LLMC_CHAT_ROWS_H
#define LLMC_CHAT_ROWS_H

#include "../base/common.h"

#define CHAT_TARGET 0x80000000u // of a token: it counts in the loss
#define CHAT_FIRST 0x40000000u  // a conversation begins with it
#define CHAT_OTHER 0x20000000u  // the other side of a pair begins with it
#define CHAT_ID 0x1fffffffu     // the token without them

typedef struct {
    int64_t at; // its first token in the shard
    int32_t n;  // positions: n + 1 tokens are read; of a pair those of both sides, n + 2
    int32_t row;
    int32_t other;  // of a pair: so many tokens behind `at` its other side begins; else 0
    int32_t number; // among the conversations or pairs of the shard, left out or not
} ChatItem;

typedef struct {
    ChatItem *items; // (conversations), row by row
    int64_t conversations;
    int64_t rows;
    int64_t *first; // (rows + 1) items of a row
    int64_t cut;    // behind an answer, since they are longer than T
    int64_t left;   // out: not one answer of theirs fits, or not both sides of a pair
    int64_t pairs;  // among all
    int64_t tokens, targets;
} ChatRows;

static inline void chat_rows_close(ChatRows *r) {
    free(r->items);
    free(r->first);
    memset(r, 0, sizeof *r);
}

// The conversation at [at, end): its positions up to the last target that fits in T; 0: none does.
static inline int32_t chat_rows_length(const uint32_t *words, int64_t at, int64_t end, int64_t T, int64_t *targets) {
    int64_t length = 0, seen = 0;
    for (int64_t i = at + 1; i < end && i - at <= T; i++) {
        seen += (words[i] & CHAT_TARGET) != 0;
        bool last = (words[i] & CHAT_TARGET) && (i + 1 == end || !(words[i + 1] & CHAT_TARGET));
        if (last) length = i - at, *targets = seen;
    }
    return (int32_t)length;
}

static inline bool chat_rows_more(const uint32_t *words, int64_t at, int64_t end) {
    while (at < end && !(words[at] & CHAT_TARGET)) at++;
    return at < end;
}

static inline int chat_item_longer(const void *a, const void *b) {
    const ChatItem *x = (const ChatItem *)a, *y = (const ChatItem *)b;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static inline int chat_item_row(const void *a, const void *b) {
    const ChatItem *x = (const ChatItem *)a, *y = (const ChatItem *)b;
    if (x->row != y->row) return x->row < y->row ? -1 : 1;
    return chat_item_longer(a, b);
}

// Rows with room, by how much of it they have: a list each, and a bit for every list that is not empty.
typedef struct {
    int32_t *newest; // (T + 1) the row that was filled last, -1: none
    int32_t *before; // (rows) the one before it in its list
    uint64_t *some;  // a bit for each of T + 1
    size_t capacity;
} ChatRoom;

static inline void chat_room_put(ChatRoom *room, int32_t row, int64_t left) {
    room->before[row] = room->newest[left];
    room->newest[left] = row;
    room->some[left / 64] |= 1ull << left % 64;
}

// Takes the row with the least room for n; -1: there is none. *left: its room.
static inline int32_t chat_room_take(ChatRoom *room, int64_t n, int64_t T, int64_t *left) {
    int64_t word = n / 64;
    uint64_t bits = room->some[word] & ~0ull << n % 64;
    while (!bits && 64 * (word + 1) <= T) bits = room->some[++word];
    if (!bits) return -1;
    *left = 64 * word + __builtin_ctzll(bits);
    int32_t row = room->newest[*left];
    room->newest[*left] = room->before[row];
    if (room->newest[*left] < 0) room->some[*left / 64] &= ~(1ull << *left % 64);
    return row;
}

static inline void chat_rows_pack(ChatRows *r, int64_t T) {
    ChatRoom room;
    memset(&room, 0, sizeof room);
    room.newest = (int32_t *)mem_alloc(sizeof(int32_t) * (size_t)(T + 1));
    room.some = (uint64_t *)mem_alloc(sizeof(uint64_t) * (size_t)(T / 64 + 1));
    memset(room.newest, 0xff, sizeof(int32_t) * (size_t)(T + 1));
    memset(room.some, 0, sizeof(uint64_t) * (size_t)(T / 64 + 1));
    if (r->conversations) qsort(r->items, (size_t)r->conversations, sizeof *r->items, chat_item_longer);
    for (int64_t i = 0; i < r->conversations; i++) {
        int64_t left = T, n = r->items[i].n;
        int32_t row = chat_room_take(&room, n, T, &left);
        if (row < 0) {
            row = (int32_t)r->rows++;
            room.before = (int32_t *)mem_grow(room.before, &room.capacity, (size_t)r->rows, sizeof(int32_t));
        }
        r->items[i].row = row;
        chat_room_put(&room, row, left - n);
    }
    free(room.newest), free(room.before), free(room.some);
    if (r->conversations) qsort(r->items, (size_t)r->conversations, sizeof *r->items, chat_item_row);
    r->first = (int64_t *)mem_alloc(sizeof(int64_t) * (size_t)(r->rows + 1));
    for (int64_t i = 0, row = 0; i <= r->conversations; i++)
        while (row <= (i < r->conversations ? r->items[i].row : r->rows)) r->first[row++] = i;
}

// The pair at [at, end), whose other side begins at `other`. False: a side does not end with a target.
static inline bool chat_rows_pair(ChatItem *item, const uint32_t *words, int64_t other, int64_t end, int64_t *targets) {
    int64_t at = item->at;
    if (other - at < 2 || end - other < 2 || !(words[other - 1] & words[end - 1] & CHAT_TARGET)) return false;
    item->n = (int32_t)(end - at - 2), item->other = (int32_t)(other - at);
    for (int64_t i = at + 1; i < end; i++) *targets += (words[i] & CHAT_TARGET) != 0;
    return true;
}

// words (tokens). False: the first token begins no conversation, or a pair has no end.
static inline bool chat_rows_open(ChatRows *r, const uint32_t *words, int64_t tokens, int64_t T) {
    size_t capacity = 0;
    memset(r, 0, sizeof *r);
    if (tokens > 0 && !(words[0] & CHAT_FIRST)) return false;
    for (int64_t at = 0, end, number = 0; at < tokens; at = end, number++) {
        ChatItem item = {at, 0, 0, 0, (int32_t)number};
        int64_t targets = 0, other = 0;
        for (end = at + 1; end < tokens && !(words[end] & CHAT_FIRST); end++)
            if (words[end] & CHAT_OTHER) other = end;
        r->pairs += other > 0;
        if (other && !chat_rows_pair(&item, words, other, end, &targets)) return false;
        if (!other) item.n = chat_rows_length(words, at, end, T, &targets);
        if (!item.n || item.n > T) {
            r->left++;
            continue;
        }
        if (!other) r->cut += chat_rows_more(words, at + item.n + 1, end);
        r->items = (ChatItem *)mem_grow(r->items, &capacity, (size_t)r->conversations + 1, sizeof(ChatItem));
        r->items[r->conversations++] = item;
        r->tokens += item.n;
        r->targets += targets;
    }
    chat_rows_pack(r, T);
    return true;
}

static inline const ChatItem *chat_rows_items(const ChatRows *r, int64_t row, int64_t *n) {
    *n = r->first[row + 1] - r->first[row];
    return r->items + r->first[row];
}

#endif
