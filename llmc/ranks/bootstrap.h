/*
bootstrap.h: ranks find each other without MPI (rendezvous) and exchange a few numbers.

For `srun` where no PMIx is: Slurm says how many ranks there are and which one this is, and nothing else.
Rank 0 listens on a TCP port and writes where into a file on the shared file system (the folder in
LLMC_BOOTSTRAP, else the working directory); the others read it and connect. The file's name carries cluster, job,
step and restart count,
    .llmc-ranks-CLUSTER-JOB-STEP-RESTART
so that no file of another job, an earlier step or an earlier try can be taken for it. It can be read by its user alone,
and holds two random keys: ranks show the first, and rank 0 answers with the second, so that neither side takes a
stranger for its own, not even one that sends back what it is sent. The file is removed once all have come; those that
dead jobs have left are removed when they are a day old.

Whoever connects is given BOOTSTRAP_PATIENCE seconds to show the key, while others are served; strangers may come as
they like, and the time for all (BOOTSTRAP_SECONDS) is none the longer.

From then on every rank has one connection to rank 0, which gathers and hands out (RanksLine): right for
single numbers and NCCL's id, and for nothing larger. A rank that ends closes its connection, which ends the
others with a message. Keys and numbers travel as they are: who can read along on the network is trusted.

Limits: Linux; IPv4; as many ranks as rank 0 may open files.
*/
#ifndef LLMC_BOOTSTRAP_H
#define LLMC_BOOTSTRAP_H

#include "launcher.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>

// How long the ranks look for each other, seconds. LLMC_BOOTSTRAP_SECONDS overrides it.
#define BOOTSTRAP_SECONDS 300
// What a connection gets to show its key, seconds. Longer than a packet that is lost takes to be sent again.
#define BOOTSTRAP_PATIENCE 5
// Connections that have not shown it; one more, and the oldest is closed.
#define BOOTSTRAP_GUESTS 64
// Age of files that are left over, seconds.
#define BOOTSTRAP_OLD 86400
#define BOOTSTRAP_KEY 16 // bytes

typedef struct {
    int rank, size;
    int *sockets; // rank 0: (size), one to each rank, sockets[0] unused; others: (1), to rank 0
} RanksLine;

// What is in the file, and how long the search may last.
typedef struct {
    unsigned char asked[BOOTSTRAP_KEY], answered[BOOTSTRAP_KEY];
    double until;
    const Launcher *launcher;
} Bootstrap;

// What a rank says first.
typedef struct {
    unsigned char key[BOOTSTRAP_KEY];
    uint32_t rank, size;
} RanksHello;

// A connection that has not shown its key yet.
typedef struct {
    int socket; // -1: none
    double until;
    size_t got; // bytes of hello
    RanksHello hello;
} BootstrapGuest;

// Does Slurm run this process as one of several ranks? srun sets these; the shell of a batch job lacks the step.
static inline bool bootstrap_found(int *rank, int *size) {
    if (!getenv("SLURM_JOB_ID") || !getenv("SLURM_STEP_ID") || !getenv("SLURM_PROCID")) return false;
    *size = environment_int("SLURM_STEP_NUM_TASKS", environment_int("SLURM_NTASKS", 1));
    *rank = environment_int("SLURM_PROCID", 0);
    return *size > 1 && *rank >= 0 && *rank < *size;
}

static inline Path bootstrap_path(void) {
    const char *folder = getenv("LLMC_BOOTSTRAP"), *restart = getenv("SLURM_RESTART_COUNT"),
               *cluster = getenv("SLURM_CLUSTER_NAME");
    Path name = path_of("%.500s%s%.500s-%.500s-%.500s", cluster ? cluster : "", cluster ? "-" : "",
                        getenv("SLURM_JOB_ID"), getenv("SLURM_STEP_ID"), restart && *restart ? restart : "0");
    for (char *c = name.text; *c; c++)
        if (*c == '/') *c = '_';
    return path_of("%s/.llmc-ranks-%s", folder && *folder ? folder : ".", name.text);
}

// ---------------------------------------------------------------- bytes

static inline void line_lost(const RanksLine *l, int other) {
    fail("rank %d: the connection to rank %d is gone; that rank's own message says why, or its node is down", l->rank,
         other);
}

static inline bool line_send(int socket_, const void *bytes, size_t n) {
    for (const char *p = (const char *)bytes; n;) {
        ssize_t sent = send(socket_, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        p += sent, n -= (size_t)sent;
    }
    return true;
}

static inline bool line_receive(int socket_, void *bytes, size_t n) {
    for (char *p = (char *)bytes; n;) {
        ssize_t got = recv(socket_, p, n, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        p += got, n -= (size_t)got;
    }
    return true;
}

// For a connection that is kept: blocking, without delay, and lost a minute after the other machine is.
static inline bool line_set_up(int socket_) {
    int on = 1, idle = 30, between = 10, probes = 3;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(socket_, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(socket_, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof between);
    setsockopt(socket_, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    return fcntl(socket_, F_SETFL, 0) == 0;
}

// In a time that says nothing about where they differ.
static inline bool bootstrap_same(const unsigned char *a, const unsigned char *b) {
    unsigned char differ = 0;
    for (int i = 0; i < BOOTSTRAP_KEY; i++) differ |= a[i] ^ b[i];
    return differ == 0;
}

// Shall the search end? The time is over, the launcher has ended, or the job is to (train has these signals blocked).
static inline bool bootstrap_over(const Bootstrap *b, double until) {
    sigset_t pending;
    if (clock_seconds() >= until || launcher_gone(b->launcher)) return true;
    return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) > 0 || sigismember(&pending, SIGINT) > 0 ||
                                         sigismember(&pending, SIGHUP) > 0 || sigismember(&pending, SIGQUIT) > 0);
}

// Why it has ended, for the end of a message.
static inline const char *bootstrap_reason(const Bootstrap *b) {
    if (launcher_gone(b->launcher)) return "the process that started this rank has ended";
    return clock_seconds() < b->until ? "stopped by a signal" : "LLMC_BOOTSTRAP names another shared folder";
}

// ---------------------------------------------------------------- rank 0

// Removes what dead jobs of this user have left in a folder. What cannot be looked at stays: it harms nobody.
static inline void bootstrap_sweep(const char *folder) {
    StrList names;
    memset(&names, 0, sizeof names);
    folder_list(&names, folder, NULL);
    for (int i = 0; i < names.count; i++) {
        struct stat st;
        if (strncmp(names.items[i], ".llmc-ranks-", 12) != 0 || strlen(names.items[i]) > 1000) continue;
        Path left = path_of("%.3000s/%s", folder, names.items[i]);
        if (lstat(left.text, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
            st.st_mtime < time(NULL) - BOOTSTRAP_OLD)
            unlink(left.text);
    }
    str_list_free(&names);
}

// The file: both keys, the port, and all addresses of this machine, those that only it can reach last.
static inline bool bootstrap_write(const char *path, const Bootstrap *b, int port, Error *err) {
    Str s;
    memset(&s, 0, sizeof s);
    for (int i = 0; i < BOOTSTRAP_KEY; i++) str_printf(&s, "%02x", b->asked[i]);
    for (int i = 0; i < BOOTSTRAP_KEY; i++) str_printf(&s, "%02x", b->answered[i]);
    str_printf(&s, " %d", port);
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0) {
        all = NULL;
        str_puts(&s, " 127.0.0.1");
    }
    for (int own = 0; own < 2; own++)
        for (struct ifaddrs *a = all; a; a = a->ifa_next) {
            if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET || !(a->ifa_flags & IFF_UP) ||
                ((a->ifa_flags & IFF_LOOPBACK) != 0) != own)
                continue;
            char text[INET_ADDRSTRLEN];
            struct sockaddr_in in;
            memcpy(&in, a->ifa_addr, sizeof in);
            if (inet_ntop(AF_INET, &in.sin_addr, text, sizeof text)) str_printf(&s, " %s", text);
        }
    if (all) freeifaddrs(all);
    str_puts(&s, "\n");
    uint64_t number = 0; // two jobs may have the same process number on two machines
    bool ok = getrandom(&number, sizeof number, 0) == sizeof number;
    Path temporary = path_of("%.4000s.%016" PRIx64, path, number);
    int fd = open(temporary.text, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    ok = ok && fd >= 0 && write(fd, s.data, s.size) == (ssize_t)s.size && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0 && close(fd) != 0 && ok) ok = false, why = errno;
    if (ok && rename(temporary.text, path) != 0) ok = false, why = errno;
    if (!ok && fd >= 0) unlink(temporary.text);
    free(s.data);
    return ok ? true : error_set(err, "rank 0 cannot write %s: %s", path, strerror(why));
}

static inline void bootstrap_close_guest(BootstrapGuest *g) {
    if (g->socket >= 0) close(g->socket);
    g->socket = -1;
}

// Reads on what a guest says. Once it is a rank's whole hello with the right key, the rank has its place; one that
// comes again (it had lost the connection) takes that of its first one. Returns by how many fewer ranks are missing.
static inline int bootstrap_hear(RanksLine *l, const Bootstrap *b, BootstrapGuest *g) {
    ssize_t got = recv(g->socket, (char *)&g->hello + g->got, sizeof g->hello - g->got, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got > 0) g->got += (size_t)got;
    if (got > 0 && g->got < sizeof g->hello) return 0;
    uint32_t rank = g->hello.rank;
    if (got <= 0 || !bootstrap_same(g->hello.key, b->asked) || g->hello.size != (uint32_t)l->size || rank < 1 ||
        rank >= g->hello.size || !line_set_up(g->socket) || !line_send(g->socket, b->answered, sizeof b->answered)) {
        bootstrap_close_guest(g); // a stranger
        return 0;
    }
    int first = l->sockets[rank];
    l->sockets[rank] = g->socket;
    g->socket = -1;
    if (first >= 0) close(first);
    return first < 0;
}

// Takes the next connection, in the place of the guest that has waited longest if there is no other.
static inline BootstrapGuest *bootstrap_accept(int listener, BootstrapGuest *guests) {
    int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0) return NULL;
    BootstrapGuest *g = &guests[0];
    for (int i = 1; i < BOOTSTRAP_GUESTS; i++)
        if (g->socket >= 0 && (guests[i].socket < 0 || guests[i].until < g->until)) g = &guests[i];
    bootstrap_close_guest(g);
    memset(g, 0, sizeof *g);
    g->socket = peer;
    g->until = clock_seconds() + BOOTSTRAP_PATIENCE;
    return g;
}

// A rank that has come has nothing to say yet: what poll(2) reports of it is that it has gone away. 1 more is missing.
static inline int bootstrap_left(RanksLine *l, int rank) {
    close(l->sockets[rank]);
    l->sockets[rank] = -1;
    return 1;
}

// Waits for all ranks.
static inline bool bootstrap_gather(RanksLine *l, const Bootstrap *b, int listener, const char *path, Error *err) {
    BootstrapGuest guests[BOOTSTRAP_GUESTS];
    struct pollfd *waits = (struct pollfd *)mem_alloc(sizeof(struct pollfd) * (size_t)(1 + BOOTSTRAP_GUESTS + l->size));
    int missing = l->size - 1;
    for (int i = 0; i < BOOTSTRAP_GUESTS; i++) guests[i].socket = -1;
    while (missing > 0 && !bootstrap_over(b, b->until)) {
        // Of each the descriptor, or -1, which poll(2) passes over.
        for (int i = 0; i < 1 + BOOTSTRAP_GUESTS + l->size; i++) {
            int guest = i - 1, rank = guest - BOOTSTRAP_GUESTS;
            waits[i].fd = i == 0 ? listener : guest < BOOTSTRAP_GUESTS ? guests[guest].socket : l->sockets[rank];
            waits[i].events = POLLIN;
            waits[i].revents = 0;
        }
        if (poll(waits, (nfds_t)(1 + BOOTSTRAP_GUESTS + l->size), 200) < 0) continue;
        for (int r = 1; r < l->size; r++)
            if (l->sockets[r] >= 0 && waits[1 + BOOTSTRAP_GUESTS + r].revents) missing += bootstrap_left(l, r);
        for (int i = 0; i < BOOTSTRAP_GUESTS; i++) {
            if (guests[i].socket >= 0 && waits[1 + i].revents) missing -= bootstrap_hear(l, b, &guests[i]);
            if (guests[i].socket >= 0 && clock_seconds() > guests[i].until) bootstrap_close_guest(&guests[i]);
        }
        for (int n = 0; waits[0].revents && n < BOOTSTRAP_GUESTS; n++) {
            BootstrapGuest *g = bootstrap_accept(listener, guests);
            if (!g) break;
            missing -= bootstrap_hear(l, b, g);
        }
    }
    for (int i = 0; i < BOOTSTRAP_GUESTS; i++) bootstrap_close_guest(&guests[i]);
    free(waits);
    if (!missing) return true;
    return error_set(err,
                     "rank 0 waits for %d of %d ranks in vain: do all nodes see %s, and reach this one over TCP? %s",
                     missing, l->size, path, bootstrap_reason(b));
}

// Rank 0: listens, says where, waits for the others.
static inline bool bootstrap_listen(RanksLine *l, Bootstrap *b, const char *path, Error *err) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    if (getrandom(b->asked, sizeof b->asked, 0) != sizeof b->asked ||
        getrandom(b->answered, sizeof b->answered, 0) != sizeof b->answered)
        return error_set(err, "rank 0 gets no random numbers for a key: %s", strerror(errno));
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
              listen(listener, 1024) == 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0;
    if (!ok) error_set(err, "rank 0 cannot listen on a TCP port: %s", strerror(errno));
    Path folder = path_parent(path);
    if (ok) bootstrap_sweep(folder.text);
    ok = ok && bootstrap_write(path, b, ntohs(address.sin_port), err);
    bool written = ok;
    ok = ok && bootstrap_gather(l, b, listener, path, err);
    for (int r = 1; ok && r < l->size; r++)
        if (!line_send(l->sockets[r], b->answered, sizeof b->answered))
            ok = error_set(err, "rank 0 lost the connection to rank %d", r);
    if (listener >= 0) close(listener);
    if (written) unlink(path);
    return ok;
}

// ---------------------------------------------------------------- the others

// Receives rank 0's answer; false: something else, or nothing until then.
static inline bool bootstrap_answered(int socket_, const Bootstrap *b, double until) {
    unsigned char key[BOOTSTRAP_KEY];
    for (size_t have = 0; have < sizeof key;) {
        struct pollfd wait;
        wait.fd = socket_, wait.events = POLLIN;
        if (bootstrap_over(b, until)) return false;
        if (poll(&wait, 1, 200) <= 0) continue;
        ssize_t got = recv(socket_, key + have, sizeof key - have, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) return false;
        have += (size_t)got;
    }
    return bootstrap_same(key, b->answered);
}

// One address; -1 if no rank 0 with this key answers there.
static inline int bootstrap_try(const char *address, int port, const RanksHello *hello, const Bootstrap *b) {
    struct sockaddr_in to;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1) return -1;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), code = 0;
    socklen_t length = sizeof code;
    struct pollfd wait;
    wait.fd = s, wait.events = POLLOUT;
    if (s < 0) return -1;
    double patience = clock_seconds() + BOOTSTRAP_PATIENCE;
    if (patience > b->until) patience = b->until;
    bool ok = connect(s, (struct sockaddr *)&to, sizeof to) == 0 || (errno == EINPROGRESS && poll(&wait, 1, 2000) == 1);
    // The first answer says that it is rank 0, the second that all have come.
    ok = ok && getsockopt(s, SOL_SOCKET, SO_ERROR, &code, &length) == 0 && code == 0 && line_set_up(s) &&
         line_send(s, hello, sizeof *hello) && bootstrap_answered(s, b, patience) && bootstrap_answered(s, b, b->until);
    if (ok) return s;
    close(s);
    return -1;
}

// Two hexadecimal digits; -1: they are none.
static inline int bootstrap_byte(const char *text) {
    static const char digits[] = "0123456789abcdef";
    const char *high = *text ? strchr(digits, text[0]) : NULL, *low = high && text[1] ? strchr(digits, text[1]) : NULL;
    return low ? (int)(high - digits) * 16 + (int)(low - digits) : -1;
}

// Reads the file: of this user, since nobody else may say where rank 0 is. False: not there, or not yet.
static inline bool bootstrap_read(const char *path, char *line, size_t size) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    // Network file systems may show root's files as nobody's (root squash).
    bool ours = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                (st.st_uid == geteuid() || (geteuid() == 0 && st.st_uid == 65534));
    ssize_t n = ours ? read(fd, line, size - 1) : -1;
    close(fd);
    line[n > 0 ? n : 0] = 0;
    return n > 0;
}

// The others: read where rank 0 is, and connect.
static inline bool bootstrap_connect(RanksLine *l, Bootstrap *b, const char *path, Error *err) {
    struct timespec pause = {0, 50000000};
    Path folder = path_parent(path);
    for (; !bootstrap_over(b, b->until); nanosleep(&pause, NULL)) {
        int look = open(folder.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC); // makes a network file system look again
        if (look >= 0) close(look);
        char line[4096];
        if (!bootstrap_read(path, line, sizeof line)) continue;
        RanksHello hello;
        hello.rank = (uint32_t)l->rank, hello.size = (uint32_t)l->size;
        char *rest = NULL, *word = strtok_r(line, " \n", &rest);
        bool whole = word && strlen(word) == 4 * BOOTSTRAP_KEY;
        for (int i = 0; whole && i < BOOTSTRAP_KEY; i++) {
            int asked = bootstrap_byte(word + 2 * i), answered = bootstrap_byte(word + 2 * (BOOTSTRAP_KEY + i));
            whole = asked >= 0 && answered >= 0;
            hello.key[i] = (unsigned char)asked, b->answered[i] = (unsigned char)answered;
        }
        word = whole ? strtok_r(NULL, " \n", &rest) : NULL;
        int port = word && strlen(word) == strspn(word, "0123456789") && strlen(word) <= 5 ? atoi(word) : 0;
        while (port > 0 && port < 65536 && (word = strtok_r(NULL, " \n", &rest)) != NULL)
            if ((l->sockets[0] = bootstrap_try(word, port, &hello, b)) >= 0) return true;
    }
    return error_set(err,
                     "rank %d found no rank 0 through %s: do all nodes see this folder, and reach rank 0's node over "
                     "TCP? %s",
                     l->rank, path, bootstrap_reason(b));
}

// NULL where it fails.
static inline RanksLine *bootstrap_open(int rank, int size, const Launcher *launcher, Error *err) {
    RanksLine *l = (RanksLine *)mem_alloc(sizeof(RanksLine));
    l->rank = rank, l->size = size;
    l->sockets = (int *)mem_alloc(sizeof(int) * (size_t)size);
    for (int r = 0; r < size; r++) l->sockets[r] = -1;
    Path path = bootstrap_path();
    Bootstrap b;
    memset(&b, 0, sizeof b);
    b.until = clock_seconds() + environment_int("LLMC_BOOTSTRAP_SECONDS", BOOTSTRAP_SECONDS);
    b.launcher = launcher;
    if (rank == 0 ? bootstrap_listen(l, &b, path.text, err) : bootstrap_connect(l, &b, path.text, err)) return l;
    for (int r = 0; r < size; r++)
        if (l->sockets[r] >= 0) close(l->sockets[r]);
    free(l->sockets);
    free(l);
    return NULL;
}

static inline void line_close(RanksLine *l) {
    for (int r = 0; r < l->size; r++)
        if (l->sockets[r] >= 0) close(l->sockets[r]);
    free(l->sockets);
    free(l);
}

// all (size, n bytes) = every rank's own n bytes, on every rank
static inline void line_gather(RanksLine *l, void *all, const void *own, size_t n) {
    char *to = (char *)all;
    memcpy(to + n * (size_t)l->rank, own, n);
    if (l->rank > 0) {
        if (!line_send(l->sockets[0], own, n) || !line_receive(l->sockets[0], all, n * (size_t)l->size))
            line_lost(l, 0);
        return;
    }
    for (int r = 1; r < l->size; r++)
        if (!line_receive(l->sockets[r], to + n * (size_t)r, n)) line_lost(l, r);
    for (int r = 1; r < l->size; r++)
        if (!line_send(l->sockets[r], all, n * (size_t)l->size)) line_lost(l, r);
}

// values (n bytes) = rank 0's
static inline void line_broadcast(RanksLine *l, void *values, size_t n) {
    if (l->rank > 0 && !line_receive(l->sockets[0], values, n)) line_lost(l, 0);
    for (int r = 1; l->rank == 0 && r < l->size; r++)
        if (!line_send(l->sockets[r], values, n)) line_lost(l, r);
}

#endif
