/*
process_test.h: what ends a process and what must not: the launcher's death, the wall clock, other ranks that send
nonsense, files that become shorter, closed descriptors, what OpenMP is told. Each in a process of its own.
*/
#include <sys/wait.h>

// Runs test(argument) in a child and returns its exit code, -1 for a signal. said (2048): what it wrote to stderr.
static int process_test_child(int (*test)(int), int argument, char *said) {
    int ends[2], status = 0;
    fflush(stdout);
    fflush(stderr);
    if (pipe(ends) != 0) fail("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        _exit(test(argument));
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t k; n < 2047 && (k = read(ends[0], said + n, 2047 - n)) > 0;) n += (size_t)k;
    said[n] = 0;
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// One line that begins so, and is printable.
static bool process_test_line(const char *said, const char *begin) {
    size_t n = strlen(said);
    for (size_t i = 0; i + 1 < n; i++)
        if ((unsigned char)said[i] < 32 || (unsigned char)said[i] == 127) return false;
    return n > 0 && said[n - 1] == '\n' && strncmp(said, begin, strlen(begin)) == 0;
}

// A launcher that starts a rank and is gone a moment later. Exit code 0: the rank saw both.
static int process_test_launcher(int known) {
    int ready[2];
    pid_t launcher = fork();
    if (launcher == 0) {
        char seen = 0;
        if (pipe(ready) != 0) _exit(9);
        if (fork() == 0) {
            if (known) setenv("OMPI_COMM_WORLD_RANK", "0", 1);
            Launcher l = launcher_find();
            bool there = !launcher_gone(&l), right = known ? l.parent == getppid() : l.parent == 0;
            pid_t parent = getppid();
            if (write(ready[1], there && right ? "y" : "n", 1) != 1) _exit(9);
            while (getppid() == parent) usleep(1000);
            dprintf(STDERR_FILENO, "%s ", launcher_gone(&l) ? "gone" : "there");
            Watchdog w; // of a rank that does not train
            watchdog_open(&w, 0, 3, "here", &l);
            for (int i = 0; known && i < 600; i++) usleep(100000);
            _exit(0);
        }
        _exit(read(ready[0], &seen, 1) == 1 && seen == 'y' ? 0 : 1);
    }
    int status = 1;
    waitpid(launcher, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 9;
}

// Rank 0 of two. The other one sends texts that do not end: 0 while rank 0 fails; 1 and fails; 2 fails and has no text.
static int process_test_peer(int kind) {
    int ends[2], sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) _exit(9);
    if (fork() == 0) {
        int bad = kind > 0;
        DistError text;
        memset(&text, kind == 2 ? 0 : 'A', sizeof text);
        if (kind < 2) memcpy(text.text, "\033[31m\n", 6);
        close(ends[0]);
        if (write(ends[1], &bad, sizeof bad) < 0 || write(ends[1], &text, sizeof text) < 0 ||
            write(ends[1], &bad, sizeof bad) < 0)
            _exit(1);
        for (char c; read(ends[1], &c, 1) == 1;) {}
        _exit(0);
    }
    close(ends[1]);
    RanksLine line = {0, 2, sockets};
    sockets[0] = -1, sockets[1] = ends[0];
    Dist d;
    Error err;
    dist_single(&d);
    d.size = 2;
    d.line = &line;
    error_set(&err, "of rank 0");
    dist_agree(&d, kind > 0, &err);
    return 7;
}

// A mapped file becomes shorter.
static int process_test_bus(int other) {
    Error err;
    MappedFile f;
    Path path = path_of("/tmp/process_test.%d\x1b.bin", (int)getpid());
    process_open();
    FILE *out = fopen(path.text, "w");
    for (int i = 0; out && i < 100000; i++) fputc('x', out);
    if (!out || fclose(out) != 0 || !file_map(&f, path.text, &err) || truncate(path.text, 100) != 0) _exit(9);
    unlink(path.text);
    int sum = 0;
    for (size_t i = 0; i < f.size; i++) sum += f.data[i];
    return sum == other ? 8 : 9;
}

// Descriptors 0 to 2 that are in `mask` are closed. Exit code: the number of the next file.
static int process_test_closed(int mask) {
    for (int fd = 0; fd < 3; fd++)
        if (mask >> fd & 1) close(fd);
    process_open();
    int next = open("/dev/null", O_RDONLY);
    bool silent = !(mask & 2) || write(STDOUT_FILENO, "x", 1) < 0;
    char c;
    bool empty = !(mask & 1) || read(STDIN_FILENO, &c, 1) < 0;
    return silent && empty ? next : 99;
}

// clang's libomp reads the environment when it is loaded, and says what it thinks of it in lines of its own.
#if defined(_OPENMP) && !defined(__clang__)
#define PROCESS_TEST_LIBGOMP
static const char *const process_test_numbers[] = {
    "OMP_NUM_THREADS=abc",   "OMP_NUM_THREADS=0",   "OMP_NUM_THREADS=-2",
    "OMP_NUM_THREADS=2x",    "OMP_NUM_THREADS=1e3", "OMP_NUM_THREADS=99999999999999999999",
    "OMP_THREAD_LIMIT=many", "OMP_STACKSIZE=big",   "OMP_STACKSIZE=16k",
    "OMP_STACKSIZE=64",      "GOMP_STACKSIZE=1 X",  "OMP_NUM_THREADS=2,x,",
};
enum { PROCESS_TEST_NUMBERS = sizeof process_test_numbers / sizeof process_test_numbers[0] };
// The first of these are refused; behind them some that are not.
static int process_test_threads(int i) {
    static const char *const fine[] = {"OMP_NUM_THREADS=2", "OMP_NUM_THREADS= 2 ", "OMP_NUM_THREADS=2,1",
                                       "OMP_STACKSIZE=8M",  "OMP_STACKSIZE=4096",  "OMP_NUM_THREADS="};
    Error err;
    unsetenv("OMP_NUM_THREADS");
    if (i == PROCESS_TEST_NUMBERS + (int)(sizeof fine / sizeof fine[0])) return 2;
    putenv((char *)(uintptr_t)(i < PROCESS_TEST_NUMBERS ? process_test_numbers[i] : fine[i - PROCESS_TEST_NUMBERS]));
    if (process_threads(2, &err)) return 0;
    dprintf(STDERR_FILENO, "error: %s\n", err.text);
    return 1;
}
#endif

// A shard that becomes shorter after it was opened is an error of the sequence that needs it, for both widths.
static void test_process_short_shard(void) {
    for (int vocab_size = 1000; vocab_size <= 100000; vocab_size *= 100) {
        Error err;
        Dataset d;
        int32_t ids[4000], inputs[100], targets[100];
        for (int i = 0; i < 4000; i++) ids[i] = shard_test_token(i, vocab_size);
        CHECK(shard_test_write("short", 4000, 4000, vocab_size, 1, &err), "%s", err.text);
        Path path = test_temp("short_train_00000.bin");
        CHECK(dataset_open(&d, path.text, 100, &err), "%s", err.text);
        CHECK(dataset_sequence(&d, 7, inputs, targets, NULL, &err), "%s", err.text);
        bool right = true;
        for (int t = 0; t < 100; t++) right = right && inputs[t] == ids[700 + t] && targets[t] == ids[701 + t];
        CHECK(right, "vocabulary %d: other tokens", vocab_size);
        CHECK(truncate(path.text, 4000) == 0, "%s", strerror(errno));
        CHECK(dataset_sequence(&d, 2, inputs, targets, NULL, &err), "%s", err.text);
        CHECK_ERROR(dataset_sequence(&d, 38, inputs, targets, NULL, &err), "became shorter while it was read");
        dataset_close(&d);
    }
}

static void test_process(void) {
    char said[2048];
    int code = process_test_child(process_test_launcher, 1, said);
    CHECK(code == 0 && strstr(said, "gone error: rank 3 on here, step 0: the process that started it") == said,
          "a launcher that ends: exit code %d, it is %s", code, said);
    code = process_test_child(process_test_launcher, 0, said);
    CHECK(code == 0 && strcmp(said, "there ") == 0, "a shell that ends: exit code %d, it is %s", code, said);

    struct timespec before, after, t;
    pthread_cond_t condition;
    pthread_mutex_t mutex;
    pthread_mutex_init(&mutex, NULL);
    clock_condition(&condition);
    clock_gettime(CLOCK_MONOTONIC, &before);
    t = clock_deadline(0.0625);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double from = (double)before.tv_sec + 1e-9 * (double)before.tv_nsec,
           to = (double)after.tv_sec + 1e-9 * (double)after.tv_nsec, at = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    CHECK(at - from > 0.0624 && at - to < 0.0626, "deadline %.9g s from %.9g and %.9g", at, from, to);
    pthread_mutex_lock(&mutex);
    while (pthread_cond_timedwait(&condition, &mutex, &t) == 0) {}
    pthread_mutex_unlock(&mutex);
    CHECK(clock_seconds() > from + 0.0624, "the condition waits on another clock: %.4f s", clock_seconds() - from);
    pthread_cond_destroy(&condition);

    for (int kind = 0; kind < 3; kind++) {
        static const char *const parts[] = {"error: rank 0 on ", "error: rank 1 on AAAA", "error: "};
        code = process_test_child(process_test_peer, kind, said);
        CHECK(code == 1, "a peer of kind %d: exit code %d, it said: %s", kind, code, said);
        CHECK(process_test_line(said, parts[kind]), "a peer of kind %d: it said: %s", kind, said);
        size_t most = strlen("error: rank 1 on : \n") + sizeof(DistError) - 2; // both texts, each of which has an end
        CHECK(strlen(said) <= most, "a peer of kind %d: it said %zu bytes, expected %zu", kind, strlen(said), most);
    }

    code = process_test_child(process_test_bus, 0, said);
    CHECK(code == 1, "SIGBUS: exit code %d, it said: %s", code, said);
    CHECK(process_test_line(said, "error: /tmp/process_test.") && strstr(said, "SIGBUS"), "it said: %s", said);

    int next = process_test_child(process_test_closed, 0, said);
    for (int mask = 1; mask < 8; mask++) {
        code = process_test_child(process_test_closed, mask, said);
        CHECK(code == next, "closed descriptors, mask %d: the next file is %d, expected %d", mask, code, next);
    }
#ifdef PROCESS_TEST_LIBGOMP
    for (int i = 0; (code = process_test_child(process_test_threads, i, said)) != 2; i++) {
        bool refused = i < PROCESS_TEST_NUMBERS;
        CHECK(code == refused, "environment %d: exit code %d, it said: %s", i, code, said);
        CHECK(!refused || process_test_line(said, "error: "), "environment %d: it said: %s", i, said);
    }
#endif
    test_process_short_shard();
}
