/*
preflight.h: what would end a run after hours, looked for in its first seconds, before anything is
allocated.

    preflight_ranks    a sum with a known result; the same program and the same options on every rank
    preflight_same     any text that must be the same on every rank, line by line: what the data are
    preflight_disk     room for the checkpoints that the run will keep

Devices are looked at by engine_preflight(). All functions but preflight_disk are called by all ranks;
each fills its own Error, and dist_agree() says it once.
*/
#ifndef LLMC_PREFLIGHT_H
#define LLMC_PREFLIGHT_H

#include "../files/checkpoint.h"
#include "../ranks/dist.h"
#include <sys/statvfs.h>

extern const char *const build_commit; // which commit the program was built from; the Makefile links it in

// Longest text that is compared, bytes: a list of a million shards.
#define PREFLIGHT_TEXT_MOST ((uint64_t)1 << 30)

// Compares lines with those of rank 0, and names the first that differs.
static inline bool preflight_same(const Dist *d, const char *what, const char *text, Error *err) {
    if (d->size == 1) return true;
    uint64_t n = strlen(text) + 1;
    dist_broadcast(d, &n, sizeof n);
    if (n < 1 || n > PREFLIGHT_TEXT_MOST)
        fail("rank 0 announces a text of %" PRIu64 " bytes: it is another program", n);
    char *theirs = (char *)mem_alloc((size_t)n);
    if (d->rank == 0) memcpy(theirs, text, (size_t)n);
    dist_broadcast(d, theirs, (size_t)n);
    theirs[n - 1] = 0;
    bool ok = strcmp(text, theirs) == 0;
    if (!ok) {
        const char *a = text, *b = theirs;
        size_t na, nb;
        while (na = strcspn(a, "\n"), nb = strcspn(b, "\n"), na == nb && memcmp(a, b, na) == 0 && a[na] && b[nb])
            a += na + 1, b += nb + 1;
        a += strspn(a, " "), b += strspn(b, " ");
        na = strcspn(a, "\n"), nb = strcspn(b, "\n");
        na -= na > 0 && a[na - 1] == ',', nb -= nb > 0 && b[nb - 1] == ',';
        error_set(err, "%s not the same on all ranks: it has %.*s, rank 0 has %.*s", what, (int)(na < 400 ? na : 400),
                  na ? a : "nothing", (int)(nb < 400 ? nb : 400), nb ? b : "nothing");
    }
    free(theirs);
    return ok;
}

// options: as a run records them.
static inline bool preflight_ranks(const char *options, const Dist *d, Error *err) {
    double R = d->size, sums[3] = {1, (double)d->rank + 1, 0.5 * d->rank};
    dist_sum(d, sums, 3);
    bool right = sums[0] == R && sums[1] == 0.5 * R * (R + 1) && sums[2] == 0.25 * R * (R - 1) &&
                 dist_max(d, d->rank) == d->size - 1;
    if (!right)
        return error_set(err,
                         "a sum over %d ranks has a wrong result (%g, expected %g): the MPI library or the network is "
                         "broken",
                         d->size, sums[1], 0.5 * R * (R + 1));
    Str s;
    memset(&s, 0, sizeof s);
    uint64_t sum = 0;
    int64_t bytes = 0;
    Error ignored; // /proc may be missing in a container: commit and compiler still tell programs apart
    file_sum(&sum, &bytes, "/proc/self/exe", -1, &ignored);
    str_printf(&s, "%s, commit %s, compiler %s, xxh64 %016" PRIx64 " of %" PRId64 " bytes", engine_name(), build_commit,
               __VERSION__, sum, bytes);
    bool ok = preflight_same(d, "the program is", s.data, err);
    free(s.data);
    Error options_err;
    bool same = preflight_same(d, "the options are", options, &options_err); // in any case: all ranks take part
    if (ok && !same) *err = options_err;
    return ok && same;
}

// Room in the run's folder for the checkpoints that will be kept and for the one that is being written, from `step` of
// `steps` on. Checkpoints that are there count as room that they need no more. On rank 0.
static inline bool preflight_disk(const char *run_dir, const CheckpointKeep *keep, double each, int64_t step,
                                  int64_t steps, Error *err) {
    struct statvfs fs;
    if (statvfs(run_dir, &fs) != 0) {
        if (errno == ENOSYS) return true;
        return error_set(err, "cannot look at the file system of %s: %s", run_dir, strerror(errno));
    }
    if (fs.f_blocks == 0) return true; // some network file systems do not say
    int64_t *list, coming = keep->every > 0 ? (steps - 1) / keep->every - step / keep->every + 1 : 1;
    int there;
    bool listed = checkpoint_list(&list, &there, run_dir, err);
    free(list);
    if (!listed) return false;
    int64_t kept = there + coming;
    if (keep->newest > 0) kept = int64_min(kept, keep->newest + 1 + keep->rollback);
    double needed = each * (double)int64_max(kept - there, 1), room = (double)fs.f_bavail * (double)fs.f_frsize;
    if (needed <= room) return true;
    return error_set(err,
                     "%s has room for %.3f GB, and %lld more checkpoints of %.3f GB are to be kept there: make room, "
                     "choose another --out, or a smaller --keep_checkpoints",
                     run_dir, room / 1e9, (long long)int64_max(kept - there, 1), each / 1e9);
}

#endif
