/*
account_test.h: what the record of a run (llmc/account/) is made by: counters of energy that start again, copies of
JSON.
*/
static void account_test_file(const char *path, const char *text) {
    Error err;
    CHECK(file_write_all(path, text, strlen(text), &err), "%s", err.text);
}

// Counters in a folder of our own, of two packages and one core, which is part of its package.
static void test_account_rapl(void) {
    static const char *const zones[] = {"intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"};
    static const char *const names[] = {"package-0\n", "dram\n", "core\n"};
    Path folder = test_temp("powercap"), energy[3];
    Error err;
    Rapl r;
    for (int i = 0; i < 3; i++) {
        Path zone = path_of("%.3000s/%s", folder.text, zones[i]);
        CHECK(path_make_folder(zone.text, &err), "%s", err.text);
        energy[i] = path_of("%.3000s/energy_uj", zone.text);
        account_test_file(path_of("%.3000s/name", zone.text).text, names[i]);
        account_test_file(path_of("%.3000s/max_energy_range_uj", zone.text).text, "10000000\n");
        account_test_file(energy[i].text, "9000000\n");
    }
    setenv("LLMC_POWERCAP", folder.text, 1);
    rapl_open(&r);
    unsetenv("LLMC_POWERCAP");
    CHECK(r.count == 2, "%d counters, expected package and dram", r.count);
    CHECK(rapl_joules(&r, 10, true) == 0, "%g J before anything was used", r.joules);
    account_test_file(energy[0].text, "9500000\n");
    account_test_file(energy[1].text, "2000000\n"); // past its end
    account_test_file(energy[2].text, "1\n");
    CHECK(rapl_joules(&r, 10.5, false) == 0, "it was read again within a second");
    double joules = rapl_joules(&r, 11.5, false);
    CHECK(fabs(joules - 3.5) < 1e-12, "%g J, expected 0.5 and, past the end, 3", joules);
    account_test_file(energy[1].text, "nothing\n");
    CHECK(!isfinite(rapl_joules(&r, 12, true)), "a counter that cannot be read any more is passed over");
    rapl_close(&r);
    rapl_open(&r); // the machine's own: there may be none
    CHECK(r.count >= 0 && (r.count > 0 || !isfinite(rapl_joules(&r, 1, true))), "energy without counters");
    rapl_close(&r);
}

static void test_account_json(void) {
    static const char text[] =
        "{\"a\": [1, -2.50, 1e3, true, null], \"b\\n\": {\"\xc3\xa4\": \"\\\"\\u0001\"}, \"c\": [], \"d\": {}}";
    JsonDoc doc;
    Error err;
    Str s;
    memset(&s, 0, sizeof s);
    const Json *root = json_parse(&doc, text, sizeof text - 1, &err);
    CHECK(root, "%s", err.text);
    if (root) json_copy(&s, root), json_free(&doc);
    CHECK(root && strcmp(s.data, text) == 0, "copied: %s", root ? s.data : "");
    free(s.data);
}

// Lines as people write them, and those that are refused, each with its number.
static void test_account_facts(void) {
    static const struct {
        const char *text, *wrong; // NULL: it is right
    } cases[] = {{"", NULL},
                 {"# nothing\n\n  \t\n", NULL},
                 {"\xef\xbb\xbfprovider = A = B \r\nlicense=MIT", NULL},
                 {"provider =\n", NULL},
                 {"provider = a\nprovider = b\n", "line 2: \"provider\" stands there twice, in line 1 before"},
                 {"\nprovider\n", "line 2: \"provider\": expected `key = value`"},
                 {"Provider = a\n", "line 1: there is no key \"Provider\""},
                 {" = a\n", "line 1: there is no key \"\""},
                 {"provider = \x1b[2J\n", "line 1: a control character"},
                 {"provider = \xff\n", "line 1: a control character, or bytes that are not UTF-8"}};
    Path path = test_temp("facts.conf");
    Facts f;
    Error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        account_test_file(path.text, cases[i].text);
        if (cases[i].wrong) {
            CHECK_ERROR(facts_load(&f, path.text, &err), cases[i].wrong);
            continue;
        }
        bool ok = facts_load(&f, path.text, &err);
        CHECK(ok, "%s", err.text);
        if (ok && i == 2)
            CHECK(strcmp(f.values[FACT_provider], "A = B") == 0 && strcmp(f.values[FACT_license], "MIT") == 0,
                  "it reads %s and %s", f.values[FACT_provider], f.values[FACT_license]);
        if (ok && i == 3) CHECK(!f.values[FACT_provider], "an empty value is an answer");
        if (ok) facts_free(&f);
    }
    CHECK(file_write_all(path.text, "license = a\0b\n", 14, &err), "%s", err.text);
    CHECK_ERROR(facts_load(&f, path.text, &err), "a NUL byte");
    CHECK(facts_load(&f, "", &err) && !f.values[0], "no file is no facts");
    // Every key has its questions, and is a word.
    for (int i = 0; i < FACT_COUNT; i++)
        CHECK(shell_plain(fact_key(i)) && *fact_question(i, false) && *fact_question(i, true), "%s", fact_key(i));
}

// What a shell reads is the word that was meant, whatever is in it.
static void test_account_shell(void) {
    static const char *const words[] =
        {"plain/path-1.bin", "two words", "it's", "$(x) `y` \"z\" \\", "", "-n", "a\nb", "*?["};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        Str s;
        char back[64] = "";
        memset(&s, 0, sizeof s);
        str_puts(&s, "printf %s "), shell_word(&s, words[i]);
        FILE *f = popen(s.data, "r");
        size_t n = f ? fread(back, 1, sizeof back - 1, f) : 0;
        CHECK(f && pclose(f) == 0 && n == strlen(words[i]) && memcmp(back, words[i], n) == 0, "%s is read as %s",
              s.data, back);
        free(s.data);
    }
    CHECK(!shell_sum("") && !shell_plain("a b") && !shell_plain("") &&
              strcmp(shell_file("../x"), "no-such-file") == 0 && strcmp(shell_file(".."), "no-such-file") == 0 &&
              strcmp(shell_file("x.bin"), "x.bin") == 0,
          "what is no word of its kind is taken for one");
}

static void test_account(void) {
    test_account_rapl();
    test_account_json();
    test_account_facts();
    test_account_shell();
}
