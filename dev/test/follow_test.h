/*
follow_test.h: what a run is followed by, in pieces: checksums and encodings of TensorBoard's records, curves that keep
every extreme, text in pages, YAML and terminals. Whole runs: follow_test.sh.
*/
#ifndef FOLLOW_TEST_H
#define FOLLOW_TEST_H

#include "check.h"

// RFC 3720, B.4, and the check value of the catalogue of CRCs.
static void test_follow_records(void) {
    uint8_t zeros[32], ones[32], rising[32], falling[32];
    for (int i = 0; i < 32; i++) zeros[i] = 0, ones[i] = 0xff, rising[i] = (uint8_t)i, falling[i] = (uint8_t)(31 - i);
    CHECK(crc32c(zeros, 32) == 0x8a9136aau, "%08x", crc32c(zeros, 32));
    CHECK(crc32c(ones, 32) == 0x62a8ab43u, "%08x", crc32c(ones, 32));
    CHECK(crc32c(rising, 32) == 0x46dd794eu, "%08x", crc32c(rising, 32));
    CHECK(crc32c(falling, 32) == 0x113fdb5cu, "%08x", crc32c(falling, 32));
    CHECK(crc32c("123456789", 9) == 0xe3069283u, "%08x", crc32c("123456789", 9));
    Str s;
    memset(&s, 0, sizeof s);
    pb_integer(&s, 2, 300); // the example of the encoding's documentation, with another field
    CHECK(s.size == 3 && memcmp(s.data, "\x10\xac\x02", 3) == 0, "%zu bytes", s.size);
    s.size = 0;
    pb_integer(&s, 1, -1);
    CHECK(s.size == 11 && (uint8_t)s.data[10] == 1, "a negative number has %zu bytes", s.size);
    s.size = 0;
    pb_bytes(&s, 3, "brain.Event:2", 13);
    CHECK(s.size == 15 && memcmp(s.data,
                                 "\x1a\x0d"
                                 "brain",
                                 7) == 0,
          "%zu bytes", s.size);
    CHECK(strcmp(tb_tag("loss").text, "train/loss") == 0 && strcmp(tb_tag("eval_x_acc").text, "eval/x_acc") == 0 &&
              strcmp(tb_tag("evaluation").text, "train/evaluation") == 0,
          "%s, %s", tb_tag("eval_x_acc").text, tb_tag("evaluation").text);
    free(s.data);
}

// Whatever the number of steps: as many numbers, the same extremes and the same sum as the values themselves.
static void test_follow_series(void) {
    const int64_t lengths[] = {1, 2, 1023, 1024, 1025, 2048, 2049, 5000, 100000};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        Series s;
        memset(&s, 0, sizeof s);
        s.width = 1;
        s.buckets = (Bucket *)mem_alloc(SERIES_BUCKETS * sizeof(Bucket));
        double sum = 0, least = 1e9, most = -1e9;
        int64_t n = lengths[k], count = 0;
        for (int64_t step = 1; step <= n; step++) {
            double x = (double)(step * 7919 % 1009) - (step == n / 2 + 1 ? 5000 : 0); // and a spike of one step
            bool hole = step % 97 == 0;
            series_add(&s, step, hole ? (double)NAN : x);
            if (!hole) sum += x, least = fmin(least, x), most = fmax(most, x), count++;
        }
        double got = 0, low = 1e9, high = -1e9;
        int64_t numbers = 0;
        for (int i = 0; i < s.used; i++) {
            const Bucket *b = &s.buckets[i];
            got += b->sum, numbers += b->count;
            if (b->count) low = fmin(low, (double)b->least), high = fmax(high, (double)b->most);
        }
        CHECK(numbers == count && s.count == count && s.missing == n - count, "%lld of %lld", (long long)numbers,
              (long long)count);
        CHECK(got == sum && low == least && high == most, "sum %g, %g to %g; expected %g, %g to %g", got, low, high,
              sum, least, most); // whole numbers: no rounding
        CHECK(s.used <= SERIES_BUCKETS && s.width * s.used >= n && s.width * (s.used - 1) < n,
              "%d buckets of %lld for %lld", s.used, (long long)s.width, (long long)n);
        CHECK(s.least == least && s.least_step == (n > 1 ? n / 2 + 1 : 1), "the least is %g at %lld", s.least,
              (long long)s.least_step);
        free(s.buckets);
    }
    Series s;
    memset(&s, 0, sizeof s);
    s.width = 1;
    s.buckets = (Bucket *)mem_alloc(SERIES_BUCKETS * sizeof(Bucket));
    series_add(&s, 0, 1), series_add(&s, INT64_MAX, 2), series_add(&s, 5, (double)INFINITY), series_add(&s, 6, 1e300);
    CHECK(s.count == 2 && s.missing == 2 && s.used <= SERIES_BUCKETS && s.buckets[0].count == 1, "%lld, %lld",
          (long long)s.count, (long long)s.missing);
    free(s.buckets);
}

static void test_follow_text(void) {
    Str s;
    char name[128];
    memset(&s, 0, sizeof s);
    html_text(&s, "<a href=\"x\" id='y'>&\x1b[0m \xe2\x80\xae"
                  "abc\xff \xc3\xa4\n");
    CHECK(strcmp(s.data, "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\xef\xbf\xbd[0m \xef\xbf\xbd"
                         "abc\xef\xbf\xbd "
                         "\xc3\xa4\n") == 0,
          "%s", s.data);
    s.size = 0;
    mlflow_line(&s, "name", "it's: \"a\"\n- b");
    CHECK(strcmp(s.data, "name: 'it''s: \"a\"?- b'\n") == 0, "%s", s.data);
    mlflow_name(name, "../../etc/x y:z");
    CHECK(!strchr(name, '/') && name[0] != '.', "%s", name);
    CHECK(strcmp(number_whole(-1234567).text, "-1,234,567") == 0 && strcmp(number_whole(123).text, "123") == 0,
          "%s, %s", number_whole(-1234567).text, number_whole(123).text);
    CHECK(strcmp(number_short(4123658).text, "4.124M") == 0 && strcmp(number_short(0.00025).text, "0.00025") == 0, "%s",
          number_short(4123658).text);
    const char *text = "Die gro\xc3\x9f"
                       "e Stadt liegt am Flu\xc3\x9f, und \xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97 auch.";
    for (int width = 12; width < 60; width++) {
        s.size = 0;
        terminal_wrap(&s, text, width, 100);
        for (const char *line = s.data, *end; *line; line = end + 1) {
            int columns = 0, n = 0;
            uint32_t c = 0;
            end = strchr(line, '\n');
            for (const char *p = line; p < end; p += n) {
                n = utf8_decode((const uint8_t *)p, (const uint8_t *)end, &c);
                columns += c >= 0x2e80 ? 2 : 1;
                if (!n) break;
            }
            CHECK(n > 0 && columns <= width, "%d columns of %d: %.*s", columns, width, (int)(end - line), line);
        }
    }
    for (int i = 0; i < 2; i++) { // an axis holds its ends, in few steps
        Axis a = axis_of(i ? -3e-7 : 2.9, i ? 4e5 : 9.1, 4);
        CHECK((a.to - a.from) / a.step <= 6 && (a.to - a.from) / a.step >= 1.5, "%g to %g by %g", a.from, a.to, a.step);
    }
    free(s.data);
}

static void test_follow(void) {
    test_follow_records();
    test_follow_series();
    test_follow_text();
}

#endif
