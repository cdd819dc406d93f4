/*
tensorboard.h: TensorBoard's event files, RUN/tb/events.out.tfevents.TIME.HOST.PID: curves, samples and options.

A file is a TFRecord file (tensorflow/core/lib/io/record_writer.h): for each record its length in 8 bytes, a checksum of
these, the record, a checksum of that. A checksum is CRC32C (Castagnoli, RFC 3720), rotated right by 15 bits, plus
0xa282ead8. A record is a message Event (tensorflow/core/util/event.proto) as protocol buffers encode it:

    Event    1 wall_time (double)   2 step   3 file_version   5 summary   7 session_log
    Summary  1 value (repeated)              SessionLog  1 status: 1 is START
    Value    1 tag   2 simple_value (float)   8 tensor   9 metadata{1 plugin_data{1 plugin_name}}
    Tensor   1 dtype: 7 is a string   2 tensor_shape{2 dim{1 size}}   8 string_val

Each start of a run writes a file of its own, named so that it comes behind those that are there. Its second record is a
START at the first step to come: TensorBoard forgets what earlier files say of that step and those behind it, so a run
that was killed and resumed, or rolled back, shows every step once.
*/
#ifndef LLMC_TENSORBOARD_H
#define LLMC_TENSORBOARD_H

#include "../base/json.h"
#include "append.h"

// CRC32C of n bytes, four bits at a time.
static inline uint32_t crc32c(const void *bytes, size_t n) {
    static const uint32_t of_four[16] = {0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u, 0x417b1dbcu, 0x5125dad3u,
                                         0x61c69362u, 0x7198540du, 0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u,
                                         0xc38d26c4u, 0xd3d3e1abu, 0xe330a81au, 0xf36e6f75u};
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= ((const uint8_t *)bytes)[i];
        crc = crc >> 4 ^ of_four[crc & 15];
        crc = crc >> 4 ^ of_four[crc & 15];
    }
    return ~crc;
}

static inline uint32_t tb_mask(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; }

// ---------------------------------------------------------------- protocol buffers

static inline void pb_varint(Str *s, uint64_t x) {
    for (; x >= 128; x >>= 7) {
        uint8_t byte = (uint8_t)(x | 128);
        str_add(s, &byte, 1);
    }
    uint8_t byte = (uint8_t)x;
    str_add(s, &byte, 1);
}

typedef enum { PB_VARINT = 0, PB_DOUBLE = 1, PB_BYTES = 2, PB_FLOAT = 5 } PbWire;

static inline void pb_key(Str *s, int field, PbWire wire) { pb_varint(s, (uint64_t)field << 3 | (uint64_t)wire); }

static inline void pb_integer(Str *s, int field, int64_t x) {
    pb_key(s, field, PB_VARINT);
    pb_varint(s, (uint64_t)x);
}

static inline void pb_bytes(Str *s, int field, const void *bytes, size_t n) {
    pb_key(s, field, PB_BYTES);
    pb_varint(s, n);
    str_add(s, bytes, n);
}

// A message inside a message; `inner` is empty afterwards.
static inline void pb_message(Str *s, int field, Str *inner) {
    pb_bytes(s, field, inner->data, inner->size);
    inner->size = 0;
}

// ---------------------------------------------------------------- records

// Appends a record of a TFRecord file.
static inline void tb_record(Str *out, const Str *event) {
    uint64_t n = event->size;
    uint32_t sums[2] = {tb_mask(crc32c(&n, sizeof n)), tb_mask(crc32c(event->data, event->size))};
    str_add(out, &n, sizeof n);
    str_add(out, &sums[0], sizeof sums[0]);
    str_add(out, event->data, event->size);
    str_add(out, &sums[1], sizeof sums[1]);
}

static inline double tb_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// An event with what stands in `body`, encoded, behind time and step.
static inline void tb_event(Str *out, int64_t step, double now, const Str *body) {
    Str e;
    memset(&e, 0, sizeof e);
    pb_key(&e, 1, PB_DOUBLE);
    str_add(&e, &now, sizeof now);
    pb_integer(&e, 2, step);
    str_add(&e, body->data, body->size);
    tb_record(out, &e);
    free(e.data);
}

// Everything up to a step begins again here: steps from this one on in earlier files are void.
static inline void tb_start(Str *out, int64_t step) {
    Str log, body;
    memset(&log, 0, sizeof log);
    memset(&body, 0, sizeof body);
    pb_integer(&log, 1, 1);
    pb_message(&body, 7, &log);
    tb_event(out, step, tb_now(), &body);
    free(log.data), free(body.data);
}

// The name of a curve: TensorBoard groups by what stands before the first slash.
static inline Path tb_tag(const char *key) {
    static const char *const names[][2] = {{"loss", "train/loss"},
                                           {"lr", "train/lr"},
                                           {"grad_norm", "train/grad_norm"},
                                           {"val_loss", "validation/loss"},
                                           {"val_bits_per_byte", "validation/bits_per_byte"},
                                           {"val_tokens", "validation/tokens"},
                                           {"step_ms", "speed/step_ms"},
                                           {"tokens_per_s", "speed/tokens_per_s"},
                                           {"mfu", "speed/mfu"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key, names[i][0]) == 0) return path_of("%s", names[i][1]);
    static const char *const groups[] = {"eval", "gpu", "event", "val"};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        size_t n = strlen(groups[i]);
        if (strncmp(key, groups[i], n) == 0 && key[n] == '_') return path_of("%s/%.1000s", groups[i], key + n + 1);
    }
    return path_of("train/%.1000s", key);
}

// Appends the event of a line of metrics.jsonl. A loss or norm that was no number is NaN; what is not known is left
// out.
static inline void tb_scalars(Str *out, int64_t step, const Json *line, double now) {
    Str value, summary, body;
    memset(&value, 0, sizeof value);
    memset(&summary, 0, sizeof summary);
    memset(&body, 0, sizeof body);
    for (const Json *j = line->child; j; j = j->next) {
        bool lost = j->type == JSON_NULL && (strcmp(j->key, "loss") == 0 || strcmp(j->key, "grad_norm") == 0);
        if (strcmp(j->key, "step") == 0 || (j->type != JSON_NUMBER && !lost)) continue;
        Path tag = tb_tag(j->key);
        float x = lost ? (float)NAN : (float)fmax(-3e38, fmin(3e38, j->number));
        pb_bytes(&value, 1, tag.text, strlen(tag.text));
        pb_key(&value, 2, PB_FLOAT);
        str_add(&value, &x, sizeof x);
        pb_message(&summary, 1, &value);
    }
    if (summary.size) {
        pb_message(&body, 5, &summary);
        tb_event(out, step, now, &body);
    }
    free(value.data), free(summary.data), free(body.data);
}

// Appends a text, which TensorBoard reads as Markdown.
static inline void tb_text(Str *out, int64_t step, const char *tag, const Str *text) {
    static const char plugin[] = "text";
    Str inner, tensor, value, body;
    memset(&inner, 0, sizeof inner);
    memset(&tensor, 0, sizeof tensor);
    memset(&value, 0, sizeof value);
    memset(&body, 0, sizeof body);
    pb_bytes(&value, 1, tag, strlen(tag));
    pb_integer(&inner, 1, 1); // a dimension of 1
    pb_message(&body, 2, &inner);
    pb_integer(&tensor, 1, 7);
    pb_message(&tensor, 2, &body);
    pb_bytes(&tensor, 8, text->data, text->size);
    pb_message(&value, 8, &tensor);
    pb_bytes(&inner, 1, plugin, sizeof plugin - 1);
    pb_message(&tensor, 1, &inner);
    pb_message(&value, 9, &tensor);
    pb_message(&tensor, 1, &value);
    pb_message(&body, 5, &tensor);
    tb_event(out, step, tb_now(), &body);
    free(inner.data), free(tensor.data), free(value.data), free(body.data);
}

// ---------------------------------------------------------------- files

#define TB_NAME "events.out.tfevents."

// Opens a new file in a folder. first: the step to come.
static inline bool tb_open(AppendFile *f, const char *folder, const char *host, int64_t first) {
    static const char version[] = "brain.Event:2";
    StrList names;
    Error err;
    memset(&names, 0, sizeof names);
    f->path = path_of("%.3000s", folder);
    if (!path_make_folder(folder, &err) || !folder_list(&names, folder, &err)) {
        append_warn(f, err.text);
        return false;
    }
    long long stamp =
        (long long)time(NULL); // clocks of machines differ, and files are read in the order of their names
    for (int i = 0; i < names.count; i++)
        if (strncmp(names.items[i], TB_NAME, strlen(TB_NAME)) == 0) {
            long long other = atoll(names.items[i] + strlen(TB_NAME));
            if (other >= stamp && other < 9999999999ll) stamp = other + 1;
        }
    str_list_free(&names);
    if (!append_open(f, path_of("%.3000s/" TB_NAME "%010lld.%.64s.%d", folder, stamp, host, (int)getpid()).text))
        return false;
    Str out, body;
    memset(&out, 0, sizeof out);
    memset(&body, 0, sizeof body);
    pb_bytes(&body, 3, version, sizeof version - 1);
    tb_event(&out, 0, tb_now(), &body);
    tb_start(&out, first);
    append_add(f, out.data, out.size);
    free(out.data), free(body.data);
    return true;
}

#endif
