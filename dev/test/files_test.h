/*
files_test.h: hashes, 16-bit formats, JSON and safetensors against values from elsewhere; checksums of checkpoints,
what a run's folder holds, which folders have weights, which lines of metrics stay.

Where the expected values come from: SHA-256 from FIPS 180-4's examples; XXH64 from the Python package
xxhash 3.8; bf16 and f16 from PyTorch 2.15; the safetensors file below from the Python package
safetensors 0.8 (save() of five tensors), so that reading is not only tested against our own writer.
*/
#ifndef FILES_TEST_H
#define FILES_TEST_H

#include "../../llmc/base/hash.h"
#include "../../llmc/base/json.h"
#include "../../llmc/files/checkpoint.h"
#include "../../llmc/run/log.h"
#include "check.h"
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

// ---------------------------------------------------------------- helpers

static Str bytes_of_hex(const char *hex) {
    Str s;
    memset(&s, 0, sizeof s);
    for (; hex[0] && hex[1]; hex += 2) {
        unsigned value = 0;
        sscanf(hex, "%2x", &value);
        char c = (char)value;
        str_add(&s, &c, 1);
    }
    return s;
}

// Without the sync of file_write_all(), which would take most of the time of tests that write many files.
static bool file_write_quickly(const char *path, const void *bytes, size_t n, Error *err) {
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(bytes, 1, n, f) == n;
    if (f) ok = fclose(f) == 0 && ok;
    return ok ? true : error_set(err, "cannot write %s", path);
}

// Lets files grow to `bytes` and no further, as a full disk would; RLIM_INFINITY lifts the limit. The
// kernel would send SIGXFSZ; ignored, write(2) fails with EFBIG.
static void limit_file_size(rlim_t bytes) {
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

// Files in a folder whose names begin with `start`.
static int count_files(const char *folder, const char *start) {
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;)
        if (strncmp(e->d_name, start, strlen(start)) == 0) n++;
    if (dir) closedir(dir);
    return n;
}

// ---------------------------------------------------------------- hashes

static void test_sha256(void) {
    static const char *const inputs[] = {"", "abc", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"};
    static const char *const expected[] = {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                                           "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                                           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"};
    char hex[65];
    uint8_t digest[32];
    Sha256 s;
    for (int i = 0; i < 3; i++) {
        sha256_init(&s);
        sha256_update(&s, inputs[i], strlen(inputs[i]));
        sha256_final(digest, &s);
        sha256_hex(hex, digest);
        CHECK(strcmp(hex, expected[i]) == 0, "SHA-256 of \"%s\" is %s", inputs[i], hex);
    }
    // A million times 'a', in pieces of every length from 0 to 300 in turn.
    char a[300];
    memset(a, 'a', sizeof a);
    sha256_init(&s);
    for (size_t left = 1000000, n = 0; left > 0; n = (n + 1) % 301) {
        size_t piece = n < left ? n : left;
        sha256_update(&s, a, piece);
        left -= piece;
    }
    sha256_final(digest, &s);
    sha256_hex(hex, digest);
    CHECK(strcmp(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0,
          "SHA-256 of a million a is %s", hex);
    // The CPU's instructions, where the build has them, against the plain way: any bytes, from any state.
    uint8_t bytes[8 * 64];
    for (uint32_t round = 0; round < 100; round++) {
        Sha256 fast, plain;
        sha256_init(&fast);
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(fnv1a64(&i, sizeof i, round) >> 32);
        for (uint32_t i = 0; round && i < 8; i++) fast.state[i] = (uint32_t)fnv1a64(&i, sizeof i, ~round);
        plain = fast;
        sha256_blocks(&fast, bytes, round % 9);
        sha256_blocks_plain(&plain, bytes, round % 9);
        CHECK(memcmp(fast.state, plain.state, sizeof fast.state) == 0, "%u blocks of SHA-256, round %u", round % 9,
              round);
    }
    Error err;
    Path path = test_temp("sha256");
    CHECK(file_write_all(path.text, "abc", 3, &err) && sha256_file(hex, path.text, &err) &&
              strcmp(hex, expected[1]) == 0,
          "sha256_file");
    CHECK_ERROR(sha256_file(hex, test_temp("missing").text, &err), "missing");
}

static void test_xxh64(void) {
    static const struct {
        size_t n;
        uint64_t plain, seeded;
    } expected[] = {{0, 0xef46db3751d8e999, 0xac75fda2929b17ef},   {1, 0x1f25c8d0bc1f4bb6, 0x79cf94f5ace37fe1},
                    {3, 0x31d2363f52e564c9, 0x96d2a5e583ddd738},   {4, 0x9bb64b7d66ee9fda, 0x4a862fbb4b73776e},
                    {7, 0x9a7b149959ce60d8, 0xddc5cf71d37a6368},   {8, 0xdab99d95c6f90092, 0xc6e75e2cbd8e07ee},
                    {12, 0xd52e407833af5133, 0x79b0b158fab0e5d6},  {31, 0xa2aa5f33cc4a6119, 0x381822f33376d6b6},
                    {32, 0x23c3c17ef790fd97, 0x9abd315470ac276a},  {33, 0x50a7cfc7ba588784, 0x72cdd3262f467933},
                    {63, 0x5e3e54b431c7493c, 0x634da7d265979e61},  {64, 0x0eb64b3ef6eeb01f, 0xbcb3847d70525180},
                    {100, 0xa61f8d4c170fe531, 0x86f549ede5ac87e2}, {1000, 0x5f235fa033f1a3fb, 0x83080310ee83cc20}};
    uint8_t data[1000];
    for (int i = 0; i < 1000; i++) data[i] = (uint8_t)(i * 7 + 3);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        CHECK(xxh64(data, expected[i].n, 0) == expected[i].plain, "XXH64 of %zu bytes", expected[i].n);
        CHECK(xxh64(data, expected[i].n, 0x9e3779b1) == expected[i].seeded, "XXH64 of %zu bytes with a seed",
              expected[i].n);
    }
    for (size_t step = 1; step < 80; step++) {
        Xxh64 s;
        xxh64_init(&s, 0);
        for (size_t at = 0; at < 1000; at += step) xxh64_update(&s, data + at, step < 1000 - at ? step : 1000 - at);
        CHECK(xxh64_value(&s) == 0x5f235fa033f1a3fb, "XXH64 in pieces of %zu bytes", step);
    }
    CHECK(fnv1a64("a", 1, FNV1A64_START) == 0xaf63dc4c8601ec8c, "FNV-1a of a");
    CHECK(fnv1a64("bar", 3, fnv1a64("foo", 3, FNV1A64_START)) == 0x85944171f73967e8, "FNV-1a of foobar");
}

// ---------------------------------------------------------------- 16-bit formats

static void test_half(void) {
    static const struct {
        uint32_t bits;
        uint16_t bf16;
    } rounding[] = {{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x7f7f7e82, 0x7f7f},
                    {0x7f7fffff, 0x7f80}, {0x000116c2, 0x0001}, {0xbdcccccd, 0xbdcd},
                    {0x3eaaaaab, 0x3eab}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80}};
    for (size_t i = 0; i < sizeof rounding / sizeof rounding[0]; i++)
        CHECK(float_to_bf16(float_of_bits(rounding[i].bits)) == rounding[i].bf16, "bf16 of %08x is %04x",
              rounding[i].bits, float_to_bf16(float_of_bits(rounding[i].bits)));
    CHECK(isnan(bf16_to_float(float_to_bf16(float_of_bits(0x7f800001)))) &&
              isnan(bf16_to_float(float_to_bf16(float_of_bits(0xffffffff)))),
          "a NaN must stay one in bf16");
    int wrong = 0;
    for (uint32_t h = 0; h < 65536; h++) { // there and back, and the value itself from its definition
        float x = f16_to_float((uint16_t)h), y = bf16_to_float((uint16_t)h);
        int exponent = h >> 10 & 31, mantissa = h & 1023;
        double value = exponent == 31 ? (mantissa ? NAN : INFINITY)
                       : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                      : ldexp(mantissa, -24);
        if (h & 0x8000) value = -value;
        if (isnan(value) ? !isnan(x) || !isnan(f16_to_float(float_to_f16(x)))
                         : (double)x != value || float_to_f16(x) != h)
            wrong++;
        if (!isnan(y) && float_to_bf16(y) != h) wrong++;
    }
    CHECK(wrong == 0, "%d of 65536 patterns do not survive f16 or bf16 -> float -> back", wrong);
    // Halfway between neighbours: to the even one. Just beside: to the nearer one.
    wrong = 0;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = f16_to_float((uint16_t)h), high = f16_to_float((uint16_t)(h + 1)), middle = 0.5f * (low + high);
        if (float_to_f16(middle) != (h & 1 ? h + 1 : h) || float_to_f16(nextafterf(middle, 0)) != h ||
            float_to_f16(nextafterf(middle, 1e9f)) != h + 1)
            wrong++;
    }
    CHECK(wrong == 0, "%d of 31743 midpoints round wrongly to f16", wrong);
    CHECK(float_to_f16(65519.9f) == 0x7bff && float_to_f16(65520.0f) == 0x7c00 && float_to_f16(-1e30f) == 0xfc00,
          "f16 must overflow to infinity");
}

// ---------------------------------------------------------------- JSON

static bool json_accepts(const char *text, size_t n, Error *err) {
    JsonDoc doc;
    // A copy without a byte to spare, so that a sanitizer sees any read past the end.
    char *exact = (char *)malloc(n ? n : 1);
    memcpy(exact, text, n);
    bool ok = json_parse(&doc, exact, n, err) != NULL;
    free(exact);
    json_free(&doc);
    return ok;
}

static void test_json(void) {
    Error err;
    static const char *const good[] = {"0",
                                       " -0 ",
                                       "1e5",
                                       "-12.50E-3",
                                       "\"\"",
                                       "[]",
                                       "{}",
                                       "[[],{}]",
                                       "true",
                                       "null",
                                       "{\"a\":{\"a\":[1,2]}}",
                                       "\"\\u00e4\\\\\\/\\\"\\b\\f\\n\\r\\t\"",
                                       "\"\\ud83d\\ude00\"",
                                       "\"\xf0\x9f\x98\x80\"",
                                       "[1,\t2\r\n]",
                                       "\"\x7f\""};
    static const char *const bad[] = {"",
                                      " ",
                                      "01",
                                      "-",
                                      "+1",
                                      ".5",
                                      "1.",
                                      "1e",
                                      "1e+",
                                      "0x1",
                                      "NaN",
                                      "Infinity",
                                      "'a'",
                                      "\"",
                                      "\"\\",
                                      "\"\\u12\"",
                                      "\"\\x41\"",
                                      "[",
                                      "]",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "{",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{1:1}",
                                      "{\"a\" 1}",
                                      "tru",
                                      "truee",
                                      "nul",
                                      "1 2",
                                      "[]]",
                                      "{}x",
                                      "//\n1",
                                      "\"\n\"",
                                      "\"\t\"",
                                      "\"\\ud800\"",
                                      "\"\\ude00\"",
                                      "\"\\ude00\\ude00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\xff\"",
                                      "\"\xc0\x80\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xe4\"",
                                      "\"\xe2\x82\"",
                                      "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(json_accepts(good[i], strlen(good[i]), &err), "%s is JSON: %s", good[i], err.text);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!json_accepts(bad[i], strlen(bad[i]), &err), "%s is not JSON", bad[i]);
    CHECK(!json_accepts("1\0", 2, &err), "a NUL after the value is not JSON");
    CHECK_ERROR(json_accepts("{\"a\": 1,\n \"b\": x}", 18, &err), "line 2, column 7");

    char deep[2 * JSON_MAX_DEPTH + 2];
    memset(deep, '[', JSON_MAX_DEPTH + 1);
    memset(deep + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
    CHECK(json_accepts(deep + 1, 2 * JSON_MAX_DEPTH, &err), "%d levels: %s", JSON_MAX_DEPTH, err.text);
    CHECK_ERROR(json_accepts(deep, 2 * JSON_MAX_DEPTH + 2, &err), "levels");

    JsonDoc doc;
    const char *text = "{\"s\": \"\\u00e4\\ud83d\\ude00\\u0000x\", \"i\": -9223372036854775808, \"j\": "
                       "9223372036854775808, \"d\": 0.1, \"e\": 1e400,"
                       " \"t\": true, \"n\": null, \"l\": [1, [2], {\"k\": 3}], \"twice\": 1, \"twice\": 2, \"o\": "
                       "{\"p\": {\"q\": \"deep\"}}}";
    const Json *root = json_parse(&doc, text, strlen(text), &err);
    CHECK(root != NULL, "%s", err.text);
    const Json *s = json_get(root, "s"), *list = json_get(root, "l");
    CHECK(s && s->size == 8 && memcmp(s->text, "\xc3\xa4\xf0\x9f\x98\x80\0x", 9) == 0, "escapes in a string");
    CHECK(json_get(root, "i") && json_get(root, "i")->is_integer && json_integer(json_get(root, "i"), 0) == INT64_MIN,
          "the smallest integer");
    CHECK(json_integer(json_get(root, "j"), 5) == 5 && json_number(json_get(root, "j"), 0) == 9223372036854775808.0,
          "one more than the largest integer");
    CHECK(json_number(json_get(root, "d"), 0) == 0.1 && isinf(json_number(json_get(root, "e"), 0)), "numbers");
    CHECK(json_bool(json_get(root, "t"), false) && json_is(json_get(root, "n"), JSON_NULL), "true and null");
    CHECK(list && list->size == 3 && json_integer(json_get(list->child->next->next, "k"), 0) == 3,
          "elements of a list");
    CHECK(json_integer(json_get(root, "twice"), 0) == 2, "of two members of the same name the last one counts");
    CHECK(strcmp(json_string(json_get(json_get(json_get(root, "o"), "p"), "q"), ""), "deep") == 0, "nested lookup");
    CHECK(strcmp(json_string(json_get(json_get(json_get(root, "x"), "p"), "q"), "none"), "none") == 0,
          "lookup in what is not there");
    CHECK(json_string(json_get(root, "i"), NULL) == NULL && json_number(s, 7) == 7 && json_bool(s, true),
          "a value of another type gives the fallback");
    json_free(&doc);

    Str out;
    memset(&out, 0, sizeof out);
    json_escape(&out, "a\"\\\n\x01\x7f\xc3\xa4\xff", 9);
    CHECK(strcmp(out.data, "\"a\\\"\\\\\\n\\u0001\\u007f\xc3\xa4\xef\xbf\xbd\"") == 0, "json_escape gives %s",
          out.data);
    CHECK(json_accepts(out.data, out.size, &err), "%s", err.text);
    static const double numbers[] = {0.0, -0.0, 1.0, 0.1, 1.0 / 3, 1e-320, 1.7976931348623157e308, -123456789.125};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        out.size = 0;
        json_add_number(&out, numbers[i]);
        root = json_parse(&doc, out.data, out.size, &err);
        double back = json_number(root, NAN);
        CHECK(memcmp(&back, &numbers[i], 8) == 0, "%.17g comes back as %.17g from %s", numbers[i], back, out.data);
        json_free(&doc);
    }
    out.size = 0;
    json_add_number(&out, INFINITY);
    CHECK(strcmp(out.data, "null") == 0, "infinity is written as %s", out.data);
    free(out.data);
    CHECK_ERROR(json_load(&doc, test_temp("missing").text, &err) != NULL, "missing");
    Path path = test_temp("broken.json");
    CHECK(file_write_all(path.text, "{", 1, &err), "%s", err.text);
    CHECK_ERROR(json_load(&doc, path.text, &err) != NULL, "broken.json");
}

// ---------------------------------------------------------------- safetensors

static bool safetensors_open_bytes(const void *bytes, size_t n, Error *err) {
    Path path = test_temp("made.safetensors");
    SafeTensors st;
    if (!file_write_quickly(path.text, bytes, n, err) || !safetensors_open(&st, path.text, err)) return false;
    safetensors_close(&st);
    return true;
}

// Length, header and `data` bytes of zeros.
static bool safetensors_open_made(const char *header, size_t data, Error *err) {
    uint8_t bytes[1024] = {0};
    uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    return safetensors_open_bytes(bytes, 8 + length + data, err);
}

static void test_safetensors_reading(void) {
    Error err;
    Str file = bytes_of_hex(
        "50010000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a227074227d2c227363616c6172223a7b"
        "226474797065223a22493634222c227368617065223a5b5d2c22646174615f6f666673657473223a5b302c385d7d2c22612e"
        "663332223a7b226474797065223a22463332222c227368617065223a5b322c335d2c22646174615f6f666673657473223a5b"
        "382c33325d7d2c22656d707479223a7b226474797065223a22463332222c227368617065223a5b302c335d2c22646174615f"
        "6f666673657473223a5b33322c33325d7d2c22622e62663136223a7b226474797065223a2242463136222c22736861706522"
        "3a5b345d2c22646174615f6f666673657473223a5b33322c34305d7d2c22632e663136223a7b226474797065223a22463136"
        "222c227368617065223a5b355d2c22646174615f6f666673657473223a5b34302c35305d7d7d202020202020070000000000"
        "00000000803f000020c0474403000000807fcdcccc3d00000080803f20c0cd3d627f003c00c1662e0100ff7b");
    Path path = test_temp("reference.safetensors");
    SafeTensors st;
    CHECK(file_write_all(path.text, file.data, file.size, &err) && safetensors_open(&st, path.text, &err), "%s",
          err.text);
    CHECK(st.count == 5 && safetensors_find(&st, "a") == NULL && safetensors_find(&st, "") == NULL, "%d tensors",
          st.count);
    const SafeTensor *a = safetensors_find(&st, "a.f32"), *b = safetensors_find(&st, "b.bf16"),
                     *c = safetensors_find(&st, "c.f16");
    const SafeTensor *scalar = safetensors_find(&st, "scalar"), *empty = safetensors_find(&st, "empty");
    CHECK(a && b && c && scalar && empty, "a tensor is missing");
    CHECK(a->dtype == ST_F32 && a->ndim == 2 && a->shape[0] == 2 && a->shape[1] == 3 && a->elements == 6 &&
              a->bytes == 24,
          "a.f32");
    int64_t seven = 0;
    memcpy(&seven, scalar->data, 8);
    CHECK(scalar->dtype == ST_I64 && scalar->ndim == 0 && scalar->elements == 1 && seven == 7, "scalar");
    CHECK(empty->elements == 0 && empty->bytes == 0 && empty->ndim == 2, "empty");
    float x[8];
    double y[8];
    const float a_expected[6] = {1.0f, -2.5f, 3.0e-40f, INFINITY, 0.1f, -0.0f};
    const float b_expected[4] = {1.0f, -2.5f, 0x1.9ap-4f, 0x1.c4p+127f},
                c_expected[5] = {1.0f, -2.5f, 0.0999755859375f, 0x1p-24f, 65504.0f};
    CHECK(safetensors_to_f32(x, a, 0, 6, &err) && memcmp(x, a_expected, sizeof a_expected) == 0, "values of a.f32");
    CHECK(safetensors_to_f32(x, b, 0, 4, &err) && memcmp(x, b_expected, sizeof b_expected) == 0, "values of b.bf16");
    CHECK(safetensors_to_f32(x, c, 1, 4, &err) && memcmp(x, c_expected + 1, 16) == 0,
          "values of c.f16 from the second on");
    CHECK(safetensors_to_f64(y, a, 4, 2, &err) && y[0] == (double)0.1f && y[1] == 0, "values of a.f32 as double");
    CHECK(safetensors_to_f32(x, a, 6, 0, &err), "no elements at the end");
    CHECK_ERROR(safetensors_to_f32(x, a, 5, 2, &err), "(2, 3)");
    CHECK_ERROR(safetensors_to_f32(x, a, -1, 2, &err), "a.f32");
    CHECK_ERROR(safetensors_to_f32(x, a, 1, INT64_MAX, &err), "a.f32");
    CHECK_ERROR(safetensors_to_f32(x, scalar, 0, 1, &err), "I64");
    safetensors_close(&st);

    // Cut anywhere, the file is refused; and so it is with a byte too many.
    int accepted = 0;
    for (size_t n = 0; n < file.size; n++) accepted += safetensors_open_bytes(file.data, n, &err);
    CHECK(accepted == 0, "%d of %zu truncations were accepted", accepted, file.size);
    CHECK_ERROR(safetensors_open_bytes(file.data, 0, &err), "empty");
    CHECK_ERROR(safetensors_open_bytes(file.data, 200, &err), "truncated");
    CHECK_ERROR(safetensors_open_bytes(file.data, file.size - 1, &err), "truncated");
    str_add(&file, "", 1);
    CHECK_ERROR(safetensors_open_bytes(file.data, file.size, &err), "1 bytes after its last tensor");
    free(file.data);

    CHECK(safetensors_open_made("{}", 0, &err), "a file without tensors: %s", err.text);
    CHECK(safetensors_open_made("{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}   ", 3, &err), "%s",
          err.text);
    CHECK(safetensors_open_made("{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,9223372036854775807,0],"
                                "\"data_offsets\":[0,0]}}",
                                0, &err),
          "%s", err.text);
    static const char *const damaged[][2] =
        {{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "4 bytes"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]}}", "whole numbers in order"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "whole numbers in order"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", "whole numbers in order"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,0]}}", "does not take"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", "9 dimensions"},
         {"{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]}}", "F4"},
         {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", "must have"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", "must have"},
         {"{\"a\":[]}", "must have"},
         {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "control"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "belong to no tensor"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
          "\"data_offsets\":[2,6]}}",
          "overlap"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
          "\"data_offsets\":[0,4]}}",
          "overlap"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],"
          "\"data_offsets\":[4,8]}}",
          "twice"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[0,64]}}", "truncated"},
         {"{\"__metadata__\":{\"a\":1},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
          "__metadata__"},
         {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", "header is damaged"},
         {"[]", "not a safetensors file"}};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++)
        CHECK_ERROR(safetensors_open_made(damaged[i][0], 8, &err), damaged[i][1]);
    CHECK_ERROR(safetensors_open_bytes("PK\3\4aaaaaaaaaaaaaa", 18, &err), "PyTorch");
    CHECK_ERROR(safetensors_open_bytes("version https://git-lfs", 23, &err), "git lfs pull");
    CHECK_ERROR(safetensors_open_bytes("\0\0\0\0\0\0\0\2{}", 10, &err), "byte order");
    CHECK_ERROR(safetensors_open_bytes("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, &err), "not a safetensors file");
    CHECK_ERROR(safetensors_open(&st, test_temp("missing").text, &err), "missing");
}

static void test_safetensors_writing(void) {
    Error err;
    Path path = test_temp("written.safetensors");
    SafeWriter w;
    SafeTensors st;
    const int64_t odd[2] = {3, 1}, many[1] = {5}, none[2] = {0, 7};
    const uint16_t halves[3] = {0x3f80, 0xc020, 0x3dcd};
    const float floats[5] = {1, 2, 3, 4, 5};
    const int64_t longs[1] = {-9};
    // Narrow types first, on purpose: the file must still have every tensor aligned.
    CHECK(safewriter_open(&w, path.text, &err), "%s", err.text);
    safewriter_metadata(&w, "step", "1\"0\n");
    safewriter_declare(&w, "half", ST_BF16, 2, odd);
    safewriter_declare(&w, "empty", ST_F32, 2, none);
    safewriter_declare(&w, "wei\xc3\x9f \"q\"", ST_F32, 1, many);
    safewriter_declare(&w, "scalar", ST_I64, 0, NULL);
    safewriter_begin_data(&w);
    safewriter_data(&w, halves, 5); // pieces that end anywhere, and one over the end of a tensor
    uint8_t rest[1 + 20];
    memcpy(rest, (const uint8_t *)halves + 5, 1);
    memcpy(rest + 1, floats, 20);
    safewriter_data(&w, rest, 4);
    safewriter_data(&w, rest + 4, 17);
    safewriter_data(&w, longs, 8);
    CHECK(safewriter_commit(&w, &err) && safetensors_open(&st, path.text, &err), "%s", err.text);
    const SafeTensor *half = safetensors_find(&st, "half"), *wide = safetensors_find(&st, "wei\xc3\x9f \"q\""),
                     *scalar = safetensors_find(&st, "scalar");
    CHECK(st.count == 4 && half && wide && scalar && safetensors_find(&st, "empty"), "%d tensors came back", st.count);
    CHECK(memcmp(half->data, halves, 6) == 0 && memcmp(wide->data, floats, 20) == 0 &&
              memcmp(scalar->data, longs, 8) == 0,
          "values came back differently");
    for (int i = 0; i < st.count; i++)
        CHECK((size_t)((const uint8_t *)st.tensors[i].data - st.files[0].data) % safetype_size(st.tensors[i].dtype) ==
                  0,
              "%s is not aligned", st.tensors[i].name);
    safetensors_close(&st);

    // Mistakes of the caller: an error, and the file that was there is left alone.
    for (int mistake = 0; mistake < 6; mistake++) {
        static const char *const expected[6] = {"less data",        "more data",  "twice",
                                                "impossible shape", "begin_data", "too late"};
        const int64_t negative[1] = {-1};
        CHECK(safewriter_open(&w, path.text, &err), "%s", err.text);
        safewriter_declare(&w, "a", ST_F32, 1, many);
        if (mistake == 2) safewriter_declare(&w, "a", ST_F32, 2, none);
        if (mistake == 3) safewriter_declare(&w, "b", ST_F32, 1, negative);
        if (mistake != 4) safewriter_begin_data(&w);
        if (mistake == 5) safewriter_declare(&w, "b", ST_F32, 1, many);
        safewriter_data(&w, floats, mistake == 0 ? 16 : 20);
        if (mistake == 1) safewriter_data(&w, floats, 1);
        CHECK_ERROR(safewriter_commit(&w, &err), expected[mistake]);
    }
    CHECK(safetensors_open(&st, path.text, &err) && st.count == 4, "the earlier file must survive a failed write");
    safetensors_close(&st);

    // A full disk: an error that names file and cause, and nothing new on disk.
    const int64_t large[1] = {1 << 20};
    float *zeros = (float *)mem_alloc(sizeof(float) << 20);
    CHECK(safewriter_open(&w, path.text, &err), "%s", err.text);
    safewriter_declare(&w, "large", ST_F32, 1, large);
    safewriter_begin_data(&w);
    limit_file_size(100000);
    safewriter_data(&w, zeros, sizeof(float) << 20);
    CHECK_ERROR(safewriter_commit(&w, &err), "written.safetensors");
    limit_file_size(RLIM_INFINITY);
    free(zeros);
    Path folder = path_parent(path.text);
    CHECK(count_files(folder.text, "written.safetensors") == 1, "a failed write left a temporary file");
    CHECK(safewriter_open(&w, path.text, &err), "%s", err.text);
    safewriter_abort(&w);
    CHECK(count_files(folder.text, "written.safetensors") == 1, "an abandoned write left a temporary file");
    CHECK_ERROR(safewriter_open(&w, test_temp("no/such/folder").text, &err), "no/such/folder");
}

static bool safetensors_write_one(const char *folder, const char *file, const char *name, float value, Error *err) {
    Path path = path_of("%.3000s/%s", folder, file);
    SafeWriter w;
    const int64_t one[1] = {1};
    if (!safewriter_open(&w, path.text, err)) return false;
    safewriter_declare(&w, name, ST_F32, 1, one);
    safewriter_begin_data(&w);
    safewriter_data(&w, &value, 4);
    return safewriter_commit(&w, err);
}

static void test_safetensors_folders(void) {
    Error err;
    SafeTensors st;
    Path folder = test_temp("sharded"), index = test_temp("sharded/model.safetensors.index.json");
    CHECK(path_make_folder(folder.text, &err), "%s", err.text);
    CHECK_ERROR(safetensors_open(&st, folder.text, &err), "neither model.safetensors nor");
    CHECK(safetensors_write_one(folder.text, "x-1.safetensors", "a", 1, &err) &&
              safetensors_write_one(folder.text, "x-2.safetensors", "b", 2, &err),
          "%s", err.text);
    static const char *const maps[][2] =
        {{"{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-2.safetensors\"}}", NULL},
         {"{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-1.safetensors\"}}", "tensor b"},
         {"{\"weight_map\":{\"a\":\"x-1.safetensors\",\"c\":\"x-2.safetensors\"}}", "tensor c"},
         {"{\"weight_map\":{\"a\":\"x-2.safetensors\",\"b\":\"x-1.safetensors\"}}", "tensor a"},
         {"{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-3.safetensors\"}}", "x-3.safetensors"},
         {"{\"weight_map\":{\"a\":\"../sharded/x-1.safetensors\"}}", "plain file name"},
         {"{\"weight_map\":{\"a\":1}}", "plain file name"},
         {"{\"weight_map\":{}}", "weight_map"},
         {"{}", "weight_map"},
         {"{", "index.json"}};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        CHECK(file_write_all(index.text, maps[i][0], strlen(maps[i][0]), &err), "%s", err.text);
        if (maps[i][1]) CHECK_ERROR(safetensors_open(&st, folder.text, &err), maps[i][1]);
        else {
            float x = 0;
            CHECK(safetensors_open(&st, folder.text, &err) && st.count == 2, "%s", err.text);
            CHECK(safetensors_to_f32(&x, safetensors_find(&st, "b"), 0, 1, &err) && x == 2, "b is %g", (double)x);
            safetensors_close(&st);
        }
    }
    const char *both =
        "{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-2.safetensors\",\"c\":\"x-3.safetensors\"}}";
    CHECK(safetensors_write_one(folder.text, "x-3.safetensors", "a", 3, &err) &&
              file_write_all(index.text, both, strlen(both), &err),
          "%s", err.text);
    CHECK_ERROR(safetensors_open(&st, folder.text, &err), "twice");
    CHECK(safetensors_write_one(folder.text, "model.safetensors", "z", 4, &err) &&
              safetensors_open(&st, folder.text, &err),
          "%s", err.text);
    CHECK(st.count == 1 && safetensors_find(&st, "z"), "model.safetensors comes before the index");
    safetensors_close(&st);
}

// Seconds to open a file of `count` empty tensors with these names, and to find each.
static double safetensors_seconds(const Str *names, int count) {
    SafeTensors st;
    Error err;
    Str text;
    memset(&text, 0, sizeof text);
    str_add(&text, "01234567{", 9);
    const char *name = names->data;
    for (int i = 0; i < count; i++, name += strlen(name) + 1)
        str_printf(&text, "%s\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "", name);
    str_puts(&text, "}");
    uint64_t length = text.size - 8;
    memcpy(text.data, &length, 8);
    Path path = test_temp("names.safetensors");
    CHECK(file_write_all(path.text, text.data, text.size, &err), "%s", err.text);
    free(text.data);
    double start = clock_seconds();
    CHECK(safetensors_open(&st, path.text, &err), "%s", err.text);
    int found = 0;
    name = names->data;
    for (int i = 0; i < count; i++, name += strlen(name) + 1) found += safetensors_find(&st, name) == &st.tensors[i];
    CHECK(found == count, "%d of %d names were found", found, count);
    CHECK(!safetensors_find(&st, "") && !safetensors_find(&st, "~"), "names that are not there were found");
    safetensors_close(&st);
    return clock_seconds() - start;
}

// Names that somebody has chosen to fall on one place of a hash table (FNV-1a, by its low bits) cost no more than
// others.
static void test_safetensors_names(void) {
    enum { NAMES = 20000 };
    const uint64_t prime = 0x100000001b3, low = (1 << 17) - 1;
    Str plain, chosen;
    memset(&plain, 0, sizeof plain);
    memset(&chosen, 0, sizeof chosen);
    int n = 0;
    for (int i = 0; i < NAMES; i++) str_printf(&plain, "plain.%08d%c", i, 0);
    for (int i = 0; n < NAMES; i++) {
        char name[32];
        int size = snprintf(name, sizeof name, "%x", i), before = n;
        uint64_t h = fnv1a64(name, (size_t)size, FNV1A64_START);
        for (int a = '0'; a <= 'z' && n == before; a++)
            for (int b = '0'; b <= 'z' && n == before && a != '\\'; b++) {
                uint64_t c = (((h ^ (uint64_t)a) * prime) ^ (uint64_t)b) * prime & low; // c ^ c is 0, and stays so
                if (b == '\\' || c == '\\' || c < '0' || c > 'z') continue;
                str_printf(&chosen, "%s%c%c%c%c", name, a, b, (int)c, 0);
                n++;
            }
    }
    double some = safetensors_seconds(&plain, NAMES), all = safetensors_seconds(&chosen, NAMES);
    CHECK(all < 10 * some + 0.2, "%.2f s for names that collide, %.2f s for others", all, some);
    free(plain.data);
    free(chosen.data);
}

// The sum that is kept while a file is written is that of the file.
static void test_sums(void) {
    Error err;
    SafeWriter w;
    Path path = test_temp("summed.safetensors");
    const int64_t many[1] = {1000}, few[1] = {3};
    float values[1003];
    uint64_t sum = 0;
    int64_t bytes = 0;
    for (int i = 0; i < 1003; i++) values[i] = (float)i * 0.37f;
    CHECK(safewriter_open(&w, path.text, &err), "%s", err.text);
    w.summed = true;
    safewriter_declare(&w, "a", ST_F32, 1, many);
    safewriter_declare(&w, "b", ST_I32, 1, few);
    safewriter_begin_data(&w);
    safewriter_data(&w, values, 777); // pieces that end anywhere
    safewriter_data(&w, (const char *)values + 777, sizeof values - 777);
    uint64_t meant = xxh64_value(&w.sum), length = w.sum.bytes;
    CHECK(safewriter_commit(&w, &err) && file_sum(&sum, &bytes, path.text, -1, &err), "%s", err.text);
    CHECK(meant == sum && length == (uint64_t)bytes,
          "sum %016" PRIx64 " of %" PRIu64 " bytes, the file has %016" PRIx64, meant, length, sum);
    CHECK(safewriter_open(&w, path.text, &err), "%s", err.text);
    w.summed = true; // tensors that do not lie as they are declared
    safewriter_declare(&w, "half", ST_F16, 1, few);
    safewriter_declare(&w, "a", ST_F32, 1, many);
    safewriter_begin_data(&w);
    safewriter_data(&w, values, 6);
    safewriter_data(&w, values, 4000);
    CHECK_ERROR(safewriter_commit(&w, &err), "in order");
    CHECK(file_sum(&sum, &bytes, path.text, 17, &err) && bytes != 17 && sum == 0, "a file of another size is read");
    CHECK_ERROR(file_sum(&sum, &bytes, test_temp("missing").text, -1, &err), "missing");
    FileSums sums;
    memset(&sums, 0, sizeof sums);
    CHECK(file_write_summed(&sums, path.text, "text", 4, &err) && file_sum(&sum, &bytes, path.text, 4, &err), "%s",
          err.text);
    CHECK(sums.names.count == 1 && strcmp(sums.names.items[0], "summed.safetensors") == 0 && sums.items[0].sum == sum &&
              sums.items[0].bytes == 4,
          "the sum of a small file");
    file_sums_free(&sums);
}

// Every bit of run.json counts, and so does its length.
static void test_run_record(void) {
    Error err;
    RunRecord r;
    Str s;
    memset(&s, 0, sizeof s);
    str_puts(&s,
             RUN_FORMAT_2 "  \"program\": \"p\",\n  \"step\": 7,\n  \"window\": {\"loss\": [1.25]},\n  \"options\": {"
                          "\n    \"lr\": 0.003\n  },\n  \"files\": {\n    \"a\": {\"bytes\": 1, \"xxh64\": "
                          "\"0123456789abcdef\"}\n  },");
    run_record_seal(&s);
    bool ok = run_record_parse(&r, s.data, s.size, "run.json", &err);
    CHECK(ok && r.sealed && json_integer(json_get(r.root, "step"), 0) == 7, "%s", ok ? "not sealed" : err.text);
    if (ok) run_record_close(&r);
    int flips = 0, cuts = 0;
    for (size_t i = 0; i < 8 * s.size; i++) {
        s.data[i / 8] ^= (char)(1 << i % 8);
        if (run_record_parse(&r, s.data, s.size, "run.json", &err)) run_record_close(&r), flips++;
        s.data[i / 8] ^= (char)(1 << i % 8);
    }
    for (size_t n = 0; n < s.size; n++)
        if (run_record_parse(&r, s.data, n, "run.json", &err)) run_record_close(&r), cuts++;
    CHECK(flips == 0 && cuts == 0, "%d flipped bits and %d cuts were not seen", flips, cuts);
    str_puts(&s, "\n");
    CHECK_ERROR(run_record_parse(&r, s.data, s.size, "run.json", &err), "run.json does not match the checksum");
    // Of the version before: no checksum. A newer one that says it is older is none.
    const char *old = RUN_FORMAT_1 "  \"step\": 7,\n  \"files\": {\n  }\n}\n";
    ok = run_record_parse(&r, old, strlen(old), "run.json", &err);
    CHECK(ok && !r.sealed, "an old record: %s", ok ? "sealed" : err.text);
    if (ok) run_record_close(&r);
    s.size--;
    memcpy(s.data, RUN_FORMAT_1, strlen(RUN_FORMAT_1));
    CHECK_ERROR(run_record_parse(&r, s.data, s.size, "run.json", &err), "damaged");
    CHECK_ERROR(run_record_parse(&r, old, 40, "run.json", &err), "run.json");
    CHECK_ERROR(run_record_parse(&r, "{}", 2, "run.json", &err), "damaged");
    CHECK_ERROR(run_record_parse(&r, "", 0, "run.json", &err), "damaged");
    const char *none = RUN_FORMAT_1 "  \"step\": 7\n}\n";
    CHECK_ERROR(run_record_parse(&r, none, strlen(none), "run.json", &err), "lists no files");
    free(s.data);
}

// More files than threads: the damaged one is found, and the first of several is named.
static void test_verify_files(void) {
    Error err;
    VerifyFile files[40];
    char names[40][16];
    Path folder = test_temp("verified");
    CHECK(path_make_folder(folder.text, &err), "%s", err.text);
    for (int i = 0; i < 40; i++) {
        int n = snprintf(names[i], sizeof names[i], "file_%d", i);
        Path path = path_of("%.2000s/%s", folder.text, names[i]);
        files[i].name = names[i], files[i].bytes = n, files[i].sum = xxh64(names[i], (size_t)n, 0);
        CHECK(file_write_quickly(path.text, names[i], (size_t)n, &err), "%s", err.text);
    }
    CHECK(verify_files(folder.text, files, 40, &err) && verify_files(folder.text, files, 0, &err), "%s", err.text);
    files[33].sum ^= 1;
    CHECK_ERROR(verify_files(folder.text, files, 40, &err), "file_33 does not match its checksum");
    files[20].bytes++;
    CHECK_ERROR(verify_files(folder.text, files, 40, &err), "file_20 has 7 bytes, expected 8");
    unlink(test_temp("verified/file_2").text);
    CHECK_ERROR(verify_files(folder.text, files, 40, &err), "file_2: No such file");
    RunRecord r;
    VerifyFile *listed;
    int count;
    static const char *const wrong[] = {"\"a\": {\"bytes\": \"1\", \"xxh64\": \"0123456789abcdef\"}",
                                        "\"a\": {\"bytes\": 1, \"xxh64\": \"0123456789abcdeg\"}",
                                        "\"a\": {\"bytes\": 1, \"xxh64\": \"123\"}",
                                        "\"a\": {\"bytes\": 1}",
                                        "\"../a\": {\"bytes\": 1, \"xxh64\": \"0123456789abcdef\"}",
                                        "\"a\": 1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Path text = path_of(RUN_FORMAT_1 "\"files\": {%s}}", wrong[i]);
        bool ok = run_record_parse(&r, text.text, strlen(text.text), "run.json", &err);
        CHECK(ok, "%s", err.text);
        if (!ok) continue;
        CHECK_ERROR(verify_list(&listed, &count, &r, "folder", VERIFY_ALL, &err), "folder/run.json is damaged");
        run_record_close(&r);
    }
}

static void make_file(const char *folder, const char *name) {
    Error err;
    Path path = path_of("%.2000s/%s", folder, name);
    CHECK(path_make_folder(path_parent(path.text).text, &err) && file_write_quickly(path.text, "", 0, &err), "%s",
          err.text);
}

static void test_checkpoint_names(void) {
    Error err;
    CheckpointSurvey s;
    Path run = test_temp("survey"), folder, loop = test_temp("survey/step_00000009");
    CHECK(checkpoint_newest(&folder, run.text, &err) && !folder.text[0], "a missing folder has a checkpoint");
    make_file(run.text, "step_00000004/run.json");
    make_file(run.text, "step_00000020/run.json");
    make_file(run.text, "step_100000000/run.json");
    make_file(run.text, "step_2/run.json");
    make_file(run.text, "step_000000020/run.json");
    make_file(run.text, "step_00000006/config.json");
    make_file(run.text, "step_00000007");
    make_file(run.text, "step_x/run.json");
    make_file(run.text, "step_00000030.tmp/run.json");
    CHECK(symlink("nowhere", test_temp("survey/step_00000008").text) == 0, "%s", strerror(errno));
    CHECK(checkpoint_survey(&s, run.text, &err), "%s", err.text);
    CHECK(s.count == 3 && s.steps[0] == 4 && s.steps[1] == 20 && s.steps[2] == 100000000, "%d steps", s.count);
    CHECK(s.odd.count == 5 && s.odd_step == 20, "%d odd names, up to step %lld", s.odd.count, (long long)s.odd_step);
    checkpoint_survey_free(&s);
    CheckpointKeep keep = {2, 0, false};
    CHECK(symlink("step_00000009", loop.text) == 0, "%s", strerror(errno));
    CHECK_ERROR(checkpoint_newest(&folder, run.text, &err), "cannot look at");
    // What cannot be looked at is told, and does not keep the others from going.
    CHECK_ERROR(checkpoint_prune(run.text, &keep, &err), "cannot look at");
    CHECK(unlink(loop.text) == 0 && checkpoint_survey(&s, run.text, &err), "%s", err.text);
    CHECK(s.count == 2 && s.steps[0] == 20, "%d checkpoints are left", s.count);
    checkpoint_survey_free(&s);
    make_file(run.text, "step_99999999999999999999/run.json");
    CHECK_ERROR(checkpoint_newest(&folder, run.text, &err), "step_99999999999999999999 is not named as");
    static const char *const swept[] = {"step_00000004.tmp", "step_4.tmp", "step_00000004.0123abcd.tmp", ".writer-3"},
                             *const kept[] = {"step_.tmp",          "step_notes.tmp",     "step_00000004.0123abc.tmp",
                                              "step_00000004",      "step_4.tmp.old",     "metrics.jsonl",
                                              "astep_00000004.tmp", "step_4.ABCDabcd.tmp"};
    for (size_t i = 0; i < sizeof swept / sizeof *swept; i++)
        CHECK(checkpoint_is_temporary(swept[i]), "%s stays", swept[i]);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        CHECK(!checkpoint_is_temporary(kept[i]), "%s is swept", kept[i]);
    // What is odd is not counted, and stays.
    keep.newest = 1;
    CHECK(checkpoint_prune(run.text, &keep, &err), "%s", err.text);
    CHECK(checkpoint_survey(&s, run.text, &err) && s.count == 1 && s.steps[0] == 100000000 && s.odd.count == 6,
          "%d are left, and %d odd names", s.count, s.odd.count);
    checkpoint_survey_free(&s);
}

// Random weights from a folder with nothing but config and tokenizer files.
static void test_bare_folders(void) {
    Error err;
    bool folder, weights;
    Path m = test_temp("bare"), loop = test_temp("bare/model.safetensors"), gone = test_temp("bare/x.safetensors");
    static const char *const small[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "chat_template.jinja"};
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) make_file(m.text, small[i]);
    CHECK(folder_look(m.text, &folder, &weights, &err) && folder && !weights, "%s", err.text);
    make_file(m.text, "x.safetensors");
    CHECK_ERROR(folder_look(m.text, &folder, &weights, &err), "x.safetensors");
    CHECK(unlink(gone.text) == 0 && symlink("nowhere", gone.text) == 0, "%s", strerror(errno));
    CHECK_ERROR(folder_look(m.text, &folder, &weights, &err), "link to a file that is not there");
    CHECK(unlink(gone.text) == 0 && symlink("model.safetensors", loop.text) == 0, "%s", strerror(errno));
    CHECK_ERROR(folder_look(m.text, &folder, &weights, &err), "cannot look at");
    CHECK(unlink(loop.text) == 0, "%s", strerror(errno));
    make_file(m.text, "model.safetensors.index.json");
    CHECK(folder_look(m.text, &folder, &weights, &err) && folder && weights, "%s", err.text);
    CHECK(folder_look("no-such-preset", &folder, &weights, &err) && !folder && !weights, "%s", err.text);
}

static void test_metrics_lines(void) {
    Error err;
    Log log;
    Str s;
    Path path = test_temp("metrics.jsonl"), aside = test_temp("metrics.jsonl.unreadable");
    const char *text = "\n"
                       "{\"step\": 1, \"loss\": nan, \"note\": \"nan, -inf\", \"lr\": -inf}\n"
                       "  \n"
                       "garbage\n"
                       "{\"step\": 9, \"loss\": 1}\n"
                       "{\"step\": 2, \"loss\": 2}\n"
                       "{\"loss\": 2}\n"
                       "{\"step\": 3, \"x\": NaN }";
    memset(&log, 0, sizeof log);
    memset(&s, 0, sizeof s);
    CHECK(file_write_quickly(path.text, text, strlen(text), &err) && log_open_metrics(&log, path.text, 3, &err), "%s",
          err.text);
    const char *expected = "{\"step\": 1, \"loss\": null, \"note\": \"nan, -inf\", \"lr\": null}\n"
                           "{\"step\": 2, \"loss\": 2}\n"
                           "{\"step\": 3, \"x\": null }\n";
    CHECK(file_read(&s, path.text, 1 << 20, &err) && strcmp(s.data, expected) == 0, "kept: %s", s.data);
    CHECK(log.metrics.size == (off_t)strlen(expected), "the size is %lld", (long long)log.metrics.size);
    lines_add(&log.metrics, "{\"step\": 4}\n", 12);
    CHECK(file_read(&s, path.text, 1 << 20, &err) && s.size == strlen(expected) + 12, "it is appended: %s", s.data);
    // That of step 9 stands before one of step 2: a step that was never made.
    CHECK(file_read(&s, aside.text, 1 << 20, &err) &&
              strcmp(s.data, "garbage\n{\"step\": 9, \"loss\": 1}\n{\"loss\": 2}\n") == 0,
          "aside: %s", s.data);
    // The line that a kill cut short is no loss; a file that cannot be read is an error, and stays as it is.
    CHECK(file_write_quickly(path.text, "{\"step\": 1}\n{\"st", 16, &err) &&
              log_open_metrics(&log, path.text, 3, &err) && file_read(&s, path.text, 100, &err) && s.size == 12,
          "%s", err.text);
    Path loop = test_temp("metrics_loop");
    CHECK(symlink("metrics_loop", loop.text) == 0, "%s", strerror(errno));
    CHECK_ERROR(log_open_metrics(&log, loop.text, 3, &err), "metrics_loop");
    CHECK_ERROR(log_open_metrics(&log, test_folder.text, 3, &err), "folder");
    free(s.data);
    CHECK(log_close(&log, &err), "%s", err.text);
}

static void test_files(void) {
    test_sums();
    test_run_record();
    test_verify_files();
    test_checkpoint_names();
    test_bare_folders();
    test_metrics_lines();
    test_sha256();
    test_xxh64();
    test_half();
    test_json();
    test_safetensors_reading();
    test_safetensors_writing();
    test_safetensors_folders();
    test_safetensors_names();
}

#endif
