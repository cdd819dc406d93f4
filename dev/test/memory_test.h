/*
memory_test.h: base/memory.h and run/room.h on machines that are not there: folders with a /proc and a /sys of their
own. What a real limit does is in memory_test.sh.
*/
#include "../../llmc/run/fit.h"
#include "../../llmc/run/room.h"
#include "check.h"

// Writes root/path, with the folders that lead to it.
static void memory_file(const Path *root, const char *path, const char *text) {
    Error err;
    Path file = path_of("%.2000s%.1000s", root->text, path), folder = path_parent(file.text);
    CHECK(path_make_folder(folder.text, &err) && file_write_all(file.text, text, strlen(text), &err), "%s", err.text);
}

// One group of either version: what it may and does use.
static void memory_group(const Path *root, const char *folder, bool v2, const char *limit, const char *used,
                         const char *stat) {
    memory_file(root, path_of("%.1000s%s", folder, v2 ? "/memory.max" : "/memory.limit_in_bytes").text, limit);
    memory_file(root, path_of("%.1000s%s", folder, v2 ? "/memory.current" : "/memory.usage_in_bytes").text, used);
    memory_file(root, path_of("%.1000s%s", folder, "/memory.stat").text, stat);
}

// The tightest bound of a made-up machine must leave `left` bytes and be called by a name with `part` in it.
static void memory_expect(const Path *root, double left, const char *part, const char *what) {
    MemoryRoom room;
    memory_room(&room, root->text);
    const MemoryBound *b = memory_least(&room);
    CHECK(b && b->left == left, "%s: %.0f bytes left, expected %.0f", what, b ? b->left : -1, left);
    CHECK(b && strstr(b->name, part), "%s: the bound is %s, expected %s", what, b ? b->name : "none", part);
}

#define MEMORY_MACHINE                                                                                                 \
    "MemTotal: 9999999 kB\nMemFree: 1 kB\nMemAvailable:    4000 kB\nSwapTotal: 96 kB\nSwapFree: 96 kB\n"
#define MEMORY_V2                                                                                                      \
    "25 1 0:22 / /proc rw - proc proc rw\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 "           \
    "rw,nsdelegate\n"
#define MEMORY_V1                                                                                                      \
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup "    \
    "rw,cpu\n"                                                                                                         \
    "35 31 0:32 %s /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

static Path memory_machine(const char *name, const char *cgroup, const char *mountinfo) {
    Path root = test_temp(name);
    memory_file(&root, "/proc/meminfo", MEMORY_MACHINE);
    if (cgroup) memory_file(&root, "/proc/self/cgroup", cgroup);
    if (mountinfo) memory_file(&root, "/proc/self/mountinfo", mountinfo);
    return root;
}

static void test_memory_machine(void) {
    MemoryRoom room;
    Path root = memory_machine("memory_plain", NULL, NULL);
    memory_expect(&root, 4096 * 1024, "MemAvailable", "memory and swap");
    memory_file(&root, "/proc/sys/vm/overcommit_memory", "2\n");
    memory_file(&root, "/proc/meminfo", MEMORY_MACHINE "CommitLimit: 5000 kB\nCommitted_AS: 4900 kB\n");
    memory_expect(&root, 100 * 1024, "CommitLimit", "no credit");
    memory_file(&root, "/proc/sys/vm/overcommit_memory", "0\n");
    memory_expect(&root, 4096 * 1024, "MemAvailable", "credit: CommitLimit binds nobody");
    // Limits of the process: soft ones, and only where there are some.
    memory_file(&root, "/proc/self/status", "Name:\tx\nVmSize:\t    1000 kB\nVmData:\t     500 kB\n");
    memory_file(&root, "/proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n"
                "Max data size             unlimited            unlimited            bytes     \n"
                "Max address space         2048000              unlimited            bytes     \n");
    memory_expect(&root, 2048000 - 1024000, "ulimit -v", "address space");
    memory_file(&root, "/proc/self/limits", "Max data size   612000  unlimited  bytes\nMax address space 1 1 bytes\n");
    memory_expect(&root, 0, "ulimit -v", "more taken than allowed");
    memory_file(&root, "/proc/self/limits",
                "Max data size   612000  unlimited  bytes\nMax address space unlimited 1 bytes\n");
    memory_expect(&root, 100000, "ulimit -d", "data");
    // What cannot be read is no bound.
    root = test_temp("memory_nothing");
    memory_room(&room, root.text);
    CHECK(room.count == 0, "%d bounds without /proc", room.count);
    memory_file(&root, "/proc/meminfo", "MemFree: 1 kB\nSwapFree: 0 kB\n"); // Linux before 3.14
    memory_room(&room, root.text);
    CHECK(room.count == 0 && !memory_least(&room), "%d bounds without MemAvailable", room.count);
    static const char *const odd[] = {"",          "MemAvailable:", "MemAvailable: many kB\n", "MemAvailable: -5 kB",
                                      "\n\n:::\n", "9:memory"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        memory_file(&root, "/proc/meminfo", odd[i]);
        memory_file(&root, "/proc/self/cgroup", odd[i]);
        memory_file(&root, "/proc/self/mountinfo", odd[i]);
        memory_room(&room, root.text);
        CHECK(room.count == 0, "%d bounds of '%s'", room.count, odd[i]);
    }
    Path pipe = path_of("%.2000s/proc/meminfo", root.text);
    CHECK(unlink(pipe.text) == 0 && mkfifo(pipe.text, 0600) == 0, "mkfifo: %s", strerror(errno));
    memory_room(&room, root.text); // must come back
    CHECK(room.count == 0, "%d bounds of a pipe", room.count);
}

static void test_memory_v2(void) {
    const char *stat =
        "anon 1\nfile 999999\ninactive_anon 7\ninactive_file 600\nactive_file 300\nslab_reclaimable 100\n";
    Path root = memory_machine("memory_v2", "0::/user.slice/job\n", MEMORY_V2);
    memory_group(&root, "/sys/fs/cgroup/user.slice/job", true, "max\n", "2000\n", stat);
    memory_group(&root, "/sys/fs/cgroup/user.slice", true, "max\n", "2000\n", stat);
    memory_expect(&root, 4096 * 1024, "MemAvailable", "v2 without a limit");
    memory_group(&root, "/sys/fs/cgroup/user.slice/job", true, "1000000\n", "2000\n", stat);
    memory_file(&root, "/sys/fs/cgroup/user.slice/job/memory.swap.max", "0\n");
    memory_file(&root, "/sys/fs/cgroup/user.slice/job/memory.swap.current", "0\n");
    memory_expect(&root, 1000000 - 2000 + 1000, "/user.slice/job/memory.max", "v2: page cache counts as free");
    memory_file(&root, "/sys/fs/cgroup/user.slice/job/memory.swap.max", "700\n");
    memory_file(&root, "/sys/fs/cgroup/user.slice/job/memory.swap.current", "200\n");
    memory_expect(&root, 1000000 - 2000 + 1000 + 500, "/user.slice/job/memory.max", "v2: swap of the group");
    memory_file(&root, "/sys/fs/cgroup/user.slice/job/memory.swap.max", "max\n");
    memory_expect(&root, 1000000 - 2000 + 1000 + 96 * 1024, "/user.slice/job/memory.max", "v2: swap of the machine");
    memory_group(&root, "/sys/fs/cgroup/user.slice", true, "500000\n", "499000\n", "inactive_file 1\n");
    memory_expect(&root, 1000 + 1 + 96 * 1024, "/user.slice/memory.max", "v2: the group above is tighter");
    memory_group(&root, "/sys/fs/cgroup/user.slice", true, "500000\n", "900000\n", "");
    memory_file(&root, "/sys/fs/cgroup/user.slice/memory.swap.max", "0\n");
    memory_file(&root, "/sys/fs/cgroup/user.slice/memory.swap.current", "0\n");
    memory_expect(&root, 0, "/user.slice/memory.max", "v2: above its limit");
    // A container with a namespace of its own: the group is the root of what it sees.
    root = memory_machine("memory_v2_namespace", "0::/\n", MEMORY_V2);
    memory_group(&root, "/sys/fs/cgroup", true, "300000\n", "100000\n", "inactive_file 100000\n");
    memory_file(&root, "/sys/fs/cgroup/memory.swap.max", "0\n");
    memory_file(&root, "/sys/fs/cgroup/memory.swap.current", "0\n");
    memory_expect(&root, 300000, "/sys/fs/cgroup/memory.max", "v2: a namespace");
    memory_file(&root, "/proc/self/cgroup", "0::/../outside\n");
    memory_expect(&root, 300000, "/sys/fs/cgroup/memory.max", "v2: outside of its namespace");
    // No mountinfo: the usual place. Elsewhere, with a space in its name.
    CHECK(unlink(path_of("%.2000s/proc/self/mountinfo", root.text).text) == 0, "%s", strerror(errno));
    memory_expect(&root, 300000, "/sys/fs/cgroup/memory.max", "v2 without mountinfo");
    root = memory_machine("memory_v2_elsewhere", "0::/a b\n", "30 23 0:26 / /mnt/my\\040groups rw - cgroup2 none rw\n");
    memory_group(&root, "/mnt/my groups/a b", true, "5000\n", "1000\n", "");
    memory_expect(&root, 4000 + 96 * 1024, "/mnt/my groups/a b/memory.max", "v2 mounted elsewhere");
    // Deeper than there are places for bounds.
    Str deep;
    memset(&deep, 0, sizeof deep);
    for (int i = 0; i < 2 * MEMORY_BOUNDS; i++) str_puts(&deep, "/d");
    root = memory_machine("memory_v2_deep", path_of("0::%s\n", deep.data).text, MEMORY_V2);
    memory_group(&root, path_of("/sys/fs/cgroup%s", deep.data).text, true, "5000\n", "1000\n", "");
    memory_expect(&root, 4000 + 96 * 1024, "/memory.max", "v2, deep");
    free(deep.data);
}

static void test_memory_v1(void) {
    char mounts[1000];
    const char *stat = "cache 5\ninactive_file 1\ntotal_inactive_file 600\ntotal_active_file 400\n",
               *own = "/sys/fs/cgroup/memory/slurm/job";
    snprintf(mounts, sizeof mounts, MEMORY_V1, "/");
    Path root = memory_machine("memory_v1", "9:name=systemd:/x\n4:cpuset,memory:/slurm/job\n1:cpu:/y\n0::/\n", mounts);
    memory_group(&root, own, false, "9223372036854771712\n", "2000\n", stat);
    memory_expect(&root, 4096 * 1024, "MemAvailable", "v1 without a limit");
    memory_group(&root, own, false, "1000000\n", "2000\n", stat);
    memory_expect(&root, 1000000 - 2000 + 1000 + 96 * 1024, "/slurm/job/memory.limit_in_bytes", "v1");
    memory_file(&root, path_of("%s/memory.memsw.limit_in_bytes", own).text, "1000500\n");
    memory_file(&root, path_of("%s/memory.memsw.usage_in_bytes", own).text, "3000\n");
    memory_expect(&root, 1000500 - 3000 + 1000, "memory.memsw.limit_in_bytes", "v1: memory and swap together");
    memory_group(&root, "/sys/fs/cgroup/memory/slurm", false, "5000\n", "4000\n", "");
    memory_file(&root, "/sys/fs/cgroup/memory/slurm/memory.use_hierarchy", "0\n");
    memory_expect(&root, 1000500 - 3000 + 1000, "memory.memsw.limit_in_bytes",
                  "v1: a group above that does not count it");
    memory_file(&root, "/sys/fs/cgroup/memory/slurm/memory.use_hierarchy", "1\n");
    memory_expect(&root, 1000 + 96 * 1024, "/memory/slurm/memory.limit_in_bytes", "v1: a group above that does");
    // Docker without a namespace: the container's own group is mounted.
    snprintf(mounts, sizeof mounts, MEMORY_V1, "/docker/4f2d");
    root = memory_machine("memory_v1_docker", "4:memory:/docker/4f2d\n", mounts);
    memory_group(&root, "/sys/fs/cgroup/memory", false, "70000\n", "20000\n", "");
    memory_expect(&root, 50000 + 96 * 1024, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "v1: a container");
    memory_file(&root, "/proc/self/cgroup", "4:memory:/docker/4f2d/inner\n");
    memory_group(&root, "/sys/fs/cgroup/memory/inner", false, "30000\n", "20000\n", "");
    memory_expect(&root, 10000 + 96 * 1024, "/sys/fs/cgroup/memory/inner/memory.limit", "v1: a group in a container");
    memory_file(&root, "/proc/self/cgroup", "4:memory:/docker/4f2d99\n"); // a name that only begins alike
    memory_expect(&root, 50000 + 96 * 1024, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "v1: another container");
}

static void test_memory_room(void) {
    Error err;
    Str note;
    Dist dist;
    memset(&note, 0, sizeof note);
    dist_single(&dist);
    Path root = memory_machine("memory_room", NULL, NULL); // 4 MiB
    RoomNeed need = {{1 << 20, 1 << 20, 1 << 20, 0, 0, 0, true}, 1 << 20, 0};
    CHECK(room_check(&note, &need, "x", "y", &dist, root.text, &err), "exactly what there is: %s", err.text);
    CHECK(note.data && strstr(note.data, "memory: 0.004 GiB needed (weights 0.001, gradients 0.001, moments 0.001, the "
                                         "copy for checkpoints 0.001); 0.004 GiB left for 1 rank (MemAvailable"),
          "the note is '%s'", note.data ? note.data : "");
    need.other = 1;
    CHECK_ERROR(room_check(&note, &need, "training", "take less", &dist, root.text, &err),
                "training needs 0.004 GiB of memory (weights 0.001, gradients 0.001, moments 0.001, the copy for "
                "checkpoints 0.001), and 0.004 GiB are left (MemAvailable and SwapFree of /proc/meminfo): take less");
    setenv("LLMC_MEMORY_CHECK", "off", 1);
    CHECK(room_check(&note, &need, "x", "y", &dist, root.text, &err), "switched off: %s", err.text);
    CHECK(strstr(note.data, "not checked, LLMC_MEMORY_CHECK=off"), "the note is '%s'", note.data);
    setenv("LLMC_MEMORY_CHECK", "of", 1);
    CHECK_ERROR(room_check(&note, &need, "x", "y", &dist, root.text, &err), "LLMC_MEMORY_CHECK=of, expected on or off");
    unsetenv("LLMC_MEMORY_CHECK");
    need.model.host = false; // a device's memory is not the host's
    CHECK(room_check(&note, &need, "x", "y", &dist, root.text, &err), "a device: %s", err.text);
    need.model.host = true;
    root = test_temp("memory_none");
    note.size = 0;
    CHECK(room_check(&note, &need, "x", "y", &dist, root.text, &err), "nothing to be seen: %s", err.text);
    CHECK(strstr(note.data, "cannot be seen here: not checked"), "the note is '%s'", note.data);
    free(note.data);
}

// --recompute=auto and --batch_size=auto, at the last byte: what fits, and what does not by one.
static void test_memory_fit(void) {
    Config c;
    Error err;
    Dist dist;
    dist_single(&dist);
    CHECK(config_of_preset(&c, "gpt2-1.5B", &err), "%s", err.text);
    ModelSetup start;
    memset(&start, 0, sizeof start);
    start.config = c, start.seq_len = 1024, start.gradients = true, start.dist = &dist;
    for (int gpu = 0; gpu < 2; gpu++)
        for (int r = RECOMPUTE_NONE; r < RECOMPUTE_AUTO; r++)
            for (int batch = 1; batch < 100; batch = 3 * batch + 1)
                for (int short_of = 0; short_of < 2; short_of++) {
                    FitRoom f = {0, 0, RECOMPUTE_NONE, gpu ? 2 : 0};
                    f.room = fit_need(&start, r, batch, &f) - short_of;
                    CHECK(fit_batch(&start, r, &f) == batch - short_of, "recompute %d, B=%d: %d fit", r, batch,
                          fit_batch(&start, r, &f));
                    ModelSetup s = start;
                    s.batch_size = batch, s.recompute = RECOMPUTE_AUTO;
                    bool fits = fit_choose(&s, &f), wanted = r + short_of <= RECOMPUTE_BLOCK;
                    CHECK(fits == wanted && s.recompute == (wanted ? r + short_of : RECOMPUTE_BLOCK),
                          "recompute %d less %d: %d was chosen", r, short_of, s.recompute);
                }
    FitRoom f = {0, 48, RECOMPUTE_NONE, 2}; // batches divide the sequences of an update
    ModelSetup s = start;
    f.room = fit_need(&start, RECOMPUTE_NONE, 15, &f);
    s.recompute = RECOMPUTE_NONE;
    CHECK(fit_choose(&s, &f) && s.batch_size == 12, "of 48 sequences, where 15 fit, %d", s.batch_size);
    s = start, s.recompute = RECOMPUTE_AUTO; // both: 12 are too few tokens
    CHECK(fit_choose(&s, &f) && s.recompute == RECOMPUTE_CHEAP && s.batch_size == 16, "both: %d, %d", s.recompute,
          s.batch_size);
    s = start, s.recompute = RECOMPUTE_AUTO, f.sequences = 15; // all that there are
    CHECK(fit_choose(&s, &f) && s.recompute == RECOMPUTE_NONE && s.batch_size == 15, "15 of 15: %d, %d", s.recompute,
          s.batch_size);
    s = start, s.recompute = RECOMPUTE_AUTO, f.room = 1;
    CHECK(!fit_choose(&s, &f) && s.recompute == RECOMPUTE_BLOCK && s.batch_size == 1, "nothing fits");
    // On an H100 (the figures of the activation table: bf16, 32-bit gradients, moments and masters).
    s = start, s.batch_size = 16, s.recompute = RECOMPUTE_AUTO;
    f.room = gpu_room(0.98 * gpu_find("NVIDIA H100 80GB HBM3")->size * MEM_GIB, &dist);
    CHECK(fit_choose(&s, &f) && s.recompute == RECOMPUTE_NONE, "gpt2-1.5B, B=16 on an H100: recompute %d", s.recompute);
    CHECK(strcmp(gpu_find("NVIDIA A10G")->name, "A10G") == 0 && gpu_find("NVIDIA A10G")->bf16 == 70 &&
              gpu_find("NVIDIA A10")->bf16 == 125 && gpu_find("NVIDIA A100-SXM4-80GB")->size == 80 &&
              gpu_find("NVIDIA A100-SXM4-40GB")->size == 40 && gpu_find("NVIDIA B300 SXM6 AC")->bf16 == 2250 &&
              gpu_find("NVIDIA GB300")->bf16 == 2500 && gpu_find("NVIDIA H100 NVL")->bf16 == 836 && !gpu_find("TPU"),
          "a GPU is taken for another");
}

static void test_memory(void) {
    test_memory_fit();
    test_memory_machine();
    test_memory_v2();
    test_memory_v1();
    test_memory_room();
}
