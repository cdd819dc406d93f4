/*
bootstrap.h: ranks find each other without MPI (rendezvous) and exchange a few numbers.

For `srun` where no PMIx is: Slurm says how many ranks there are and which one this is, and nothing else.
Rank 0 listens on a TCP port and writes where into a file on the shared file system (the folder in
LLMC_BOOTSTRAP, else the working directory); the others read it and connect. The file's name carries job,
step and restart count,
    .llmc-ranks-JOB-STEP-RESTART
so that no file of another job, an earlier step or an earlier try can be taken for it; what it holds
carries a random key that both sides must know, so that a connection to some other program's port is
noticed. The file is removed once all have come.

From then on every rank has one connection to rank 0, which gathers and hands out (RanksLine): right for
single numbers and NCCL's id, and for nothing larger. A rank that ends closes its connection, which ends the
others with a message.

Limits: Linux; IPv4; as many ranks as rank 0 may open files.
*/
#ifndef LLMC_BOOTSTRAP_H
#define LLMC_BOOTSTRAP_H

#include "../base/file.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

// How long the ranks look for each other, seconds. LLMC_BOOTSTRAP_SECONDS overrides it.
#define BOOTSTRAP_SECONDS 300

typedef struct {
    int rank, size;
    int *sockets; // rank 0: (size), one to each rank, sockets[0] unused; others: (1), to rank 0
} RanksLine;

// What a rank says first.
typedef struct {
    unsigned char key[16];
    uint32_t rank, size;
} RanksHello;

// Does Slurm run this process as one of several ranks? srun sets these; the shell of a batch job lacks the step.
static inline bool bootstrap_found(int *rank, int *size) {
    if (!getenv("SLURM_JOB_ID") || !getenv("SLURM_STEP_ID") || !getenv("SLURM_PROCID")) return false;
    *size = environment_int("SLURM_STEP_NUM_TASKS", environment_int("SLURM_NTASKS", 1));
    *rank = environment_int("SLURM_PROCID", 0);
    return *size > 1 && *rank >= 0 && *rank < *size;
}

static inline Path bootstrap_path(void) {
    const char *folder = getenv("LLMC_BOOTSTRAP"), *restart = getenv("SLURM_RESTART_COUNT");
    return path_of("%s/.llmc-ranks-%s-%s-%s", folder && *folder ? folder : ".", getenv("SLURM_JOB_ID"),
                   getenv("SLURM_STEP_ID"), restart && *restart ? restart : "0");
}

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

static inline void line_set_up(int socket_) {
    int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    fcntl(socket_, F_SETFD, FD_CLOEXEC);
}

// Rank 0: listens, says where, waits for the others.
static inline bool bootstrap_listen(RanksLine *l, const char *path, double until, Error *err) {
    RanksHello hello;
    FILE *random = fopen("/dev/urandom", "rb");
    bool ok = random && fread(hello.key, sizeof hello.key, 1, random) == 1;
    if (random) fclose(random);
    if (!ok) return error_set(err, "cannot read /dev/urandom: %s", strerror(errno));
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1024) != 0 || getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        return error_set(err, "rank 0 cannot listen on a TCP port: %s", strerror(errno));
    fcntl(listener, F_SETFD, FD_CLOEXEC);
    // All addresses of this machine, those that only it can reach last.
    Str s;
    memset(&s, 0, sizeof s);
    for (size_t i = 0; i < sizeof hello.key; i++) str_printf(&s, "%02x", hello.key[i]);
    str_printf(&s, " %d", ntohs(address.sin_port));
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
    ok = file_write_all(path, s.data, s.size, err);
    free(s.data);
    for (int missing = l->size - 1; ok && missing > 0;) {
        struct pollfd wait;
        wait.fd = listener, wait.events = POLLIN;
        if (poll(&wait, 1, 200) <= 0) {
            if (clock_seconds() < until) continue;
            ok = error_set(err,
                           "rank 0 waits for %d of %d ranks in vain: do all nodes see %s, and reach this one over TCP? "
                           "LLMC_BOOTSTRAP names another shared folder",
                           missing, l->size, path);
            break;
        }
        int peer = accept(listener, NULL, NULL);
        if (peer < 0) continue;
        RanksHello theirs;
        struct timeval patience;
        patience.tv_sec = 5, patience.tv_usec = 0;
        setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (!line_receive(peer, &theirs, sizeof theirs) || memcmp(theirs.key, hello.key, sizeof hello.key) != 0 ||
            theirs.size != (uint32_t)l->size || theirs.rank < 1 || theirs.rank >= theirs.size ||
            l->sockets[theirs.rank] >= 0) {
            close(peer); // a stranger
            continue;
        }
        patience.tv_sec = 0;
        setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        line_set_up(peer);
        l->sockets[theirs.rank] = peer;
        missing--;
    }
    for (int r = 1; ok && r < l->size; r++)
        if (!line_send(l->sockets[r], hello.key, sizeof hello.key))
            ok = error_set(err, "rank 0 lost the connection to rank %d", r);
    close(listener);
    unlink(path);
    return ok;
}

// One address; -1 if no rank 0 with this key answers there.
static inline int bootstrap_try(const char *address, int port, const RanksHello *hello, double until) {
    struct sockaddr_in to;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1) return -1;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), code = 0;
    socklen_t length = sizeof code;
    struct pollfd wait;
    wait.fd = s, wait.events = POLLOUT;
    if (s < 0) return -1;
    bool ok = connect(s, (struct sockaddr *)&to, sizeof to) == 0 || (errno == EINPROGRESS && poll(&wait, 1, 2000) == 1);
    ok = ok && getsockopt(s, SOL_SOCKET, SO_ERROR, &code, &length) == 0 && code == 0 && fcntl(s, F_SETFL, 0) == 0;
    line_set_up(s);
    unsigned char key[sizeof hello->key]; // comes back once all ranks are there
    struct timeval patience;
    double left = until - clock_seconds();
    patience.tv_sec = left > 1 ? (long)left : 1, patience.tv_usec = 0;
    ok = ok && setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
         line_send(s, hello, sizeof *hello) && line_receive(s, key, sizeof key) &&
         memcmp(key, hello->key, sizeof key) == 0;
    patience.tv_sec = 0;
    if (ok && setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0) return s;
    close(s);
    return -1;
}

// The others: read where rank 0 is, and connect.
static inline bool bootstrap_connect(RanksLine *l, const char *path, double until, Error *err) {
    struct timespec pause = {0, 50000000};
    for (; clock_seconds() < until; nanosleep(&pause, NULL)) {
        Path folder = path_parent(path);
        DIR *dir = opendir(folder.text); // makes a network file system look again
        if (dir) closedir(dir);
        FILE *f = fopen(path, "r");
        char line[4096];
        bool read_ = f && fgets(line, sizeof line, f);
        if (f) fclose(f);
        if (!read_) continue;
        RanksHello hello;
        hello.rank = (uint32_t)l->rank, hello.size = (uint32_t)l->size;
        char *rest = NULL, *word = strtok_r(line, " \n", &rest);
        if (!word || strlen(word) != 2 * sizeof hello.key) continue;
        for (size_t i = 0; i < sizeof hello.key; i++) {
            unsigned byte = 0;
            sscanf(word + 2 * i, "%2x", &byte);
            hello.key[i] = (unsigned char)byte;
        }
        word = strtok_r(NULL, " \n", &rest);
        int port = word ? atoi(word) : 0;
        while ((word = strtok_r(NULL, " \n", &rest)) != NULL)
            if ((l->sockets[0] = bootstrap_try(word, port, &hello, until)) >= 0) return true;
    }
    return error_set(err,
                     "rank %d found no rank 0 through %s: do all nodes see this folder, and reach rank 0's node over "
                     "TCP? LLMC_BOOTSTRAP names another shared folder",
                     l->rank, path);
}

// NULL where it fails.
static inline RanksLine *bootstrap_open(int rank, int size, Error *err) {
    RanksLine *l = (RanksLine *)mem_alloc(sizeof(RanksLine));
    l->rank = rank, l->size = size;
    l->sockets = (int *)mem_alloc(sizeof(int) * (size_t)size);
    for (int r = 0; r < size; r++) l->sockets[r] = -1;
    Path path = bootstrap_path();
    double until = clock_seconds() + environment_int("LLMC_BOOTSTRAP_SECONDS", BOOTSTRAP_SECONDS);
    if (rank == 0 ? bootstrap_listen(l, path.text, until, err) : bootstrap_connect(l, path.text, until, err)) return l;
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
