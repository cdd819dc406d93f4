/*
preflight.h: are this rank's GPU and those of the other ranks fit for a run?

device_preflight() refuses a host without GPUs, two ranks on one GPU (told by UUID, so launchers may
show each rank all devices or only its own), and a GPU whose memory waits for a repair (rows to be
remapped after ECC errors, or a remapping that failed). Uncorrectable errors since the driver was
loaded are a warning: the rows may be replaced already.

ECC is asked for through nvml.h; without NVML, or where a GPU does not say, nothing is checked.
*/
#ifndef LLMC_CUDA_PREFLIGHT_H
#define LLMC_CUDA_PREFLIGHT_H

#include "../ranks/dist.h"
#include "cuda.h"
#include "nvml.h"

typedef struct {
    char host[64], uuid[16];
} DeviceSeat;

static inline bool device_ecc(int gpu, const Dist *dist, Error *err) {
    Nvml n;
    nvml_open(&n, gpu);
    unsigned long long errors = 0;
    unsigned corrected = 0, uncorrected = 0, pending = 0, failed = 0;
    bool ok = true;
    if (n.device && n.ecc && n.ecc(n.device, NVML_UNCORRECTED, NVML_SINCE_DRIVER_LOAD, &errors) == 0 && errors > 0)
        warn("%s on %s (rank %d) has had %llu uncorrectable ECC errors since its driver was loaded", n.bus, dist->host,
             dist->rank, errors);
    if (n.device && n.rows && n.rows(n.device, &corrected, &uncorrected, &pending, &failed) == 0 && (pending || failed))
        ok = error_set(err, "the memory of GPU %s needs a repair (%s): reset the GPU, or leave %s out", n.bus,
                       failed ? "remapping a row failed" : "rows wait to be remapped after ECC errors", dist->host);
    nvml_close(&n);
    return ok;
}

// Called by all ranks together. One rank has one GPU.
static inline bool device_preflight(const Dist *dist, Error *err) {
    int count = 0;
    cudaDeviceProp p;
    memset(&p, 0, sizeof p);
    bool ok = device_count(&count, err);
    cudaError_t status = ok ? cudaGetDeviceProperties(&p, dist->local_rank % count) : cudaSuccess;
    if (status != cudaSuccess)
        ok = error_set(err, "GPU %d cannot be asked: %s; look at nvidia-smi", dist->local_rank % count,
                       cudaGetErrorString(status));
    DeviceSeat mine, *all = (DeviceSeat *)mem_alloc(sizeof(DeviceSeat) * (size_t)dist->size);
    memset(&mine, 0, sizeof mine);
    snprintf(mine.host, sizeof mine.host, "%s", dist->host);
    memcpy(mine.uuid, &p.uuid, sizeof mine.uuid);
    dist_gather(dist, all, &mine, sizeof mine);
    for (int r = 0; ok && r < dist->size; r++)
        if (r != dist->rank && memcmp(&all[r], &mine, sizeof mine) == 0)
            ok = error_set(err,
                           "shares its GPU with rank %d: %d ranks on %s, %d GPUs visible to this one; start one rank a "
                           "GPU",
                           r, dist->local_size, dist->host, count);
    free(all);
    return ok && device_ecc(dist->local_rank % count, dist, err);
}

#endif
