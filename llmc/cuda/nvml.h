/*
nvml.h: what the GPU says about itself: power, temperature, clocks, memory, energy, and errors of its memory.

NVIDIA's management library comes with the driver; it is looked for at run time, so that the program
builds and runs without it, and what is not to be had is NAN. The declarations follow NVIDIA's "NVML API
Reference Guide".
*/
#ifndef LLMC_CUDA_NVML_H
#define LLMC_CUDA_NVML_H

#include "../engine.h"
#include "cuda.h"
#include <dlfcn.h>

typedef struct {
    unsigned long long total, free, used;
} NvmlMemory;

enum {
    NVML_CORE_TEMPERATURE = 0,
    NVML_CLOCK_OF_SM = 1,
    NVML_CLOCK_OF_MEMORY = 2,
    NVML_UNCORRECTED = 1,
    NVML_SINCE_DRIVER_LOAD = 0
};

typedef struct {
    void *library, *device; // NULL: not to be had
    char bus[32];
    int (*power)(void *, unsigned *);                   // milliwatts
    int (*temperature)(void *, int, unsigned *);        // degrees Celsius
    int (*clock)(void *, int, unsigned *);              // MHz
    int (*memory)(void *, NvmlMemory *);                // bytes
    int (*energy)(void *, unsigned long long *);        // millijoules since the driver was loaded
    int (*ecc)(void *, int, int, unsigned long long *); // errors
    int (*rows)(void *, unsigned *, unsigned *, unsigned *,
                unsigned *); // remapped after corrected and uncorrected errors; pending; failed
    unsigned long long energy_before;
    DeviceReadings last;
    double last_read; // seconds: it is asked once a second at most, since an answer may take milliseconds
} Nvml;

static inline void nvml_open(Nvml *n, int gpu) {
    memset(n, 0, sizeof *n);
    n->last_read = -1e9;
    int (*init)(void) = NULL, (*find)(const char *, void **) = NULL;
    n->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!n->library) return;
    *(void **)&init = dlsym(n->library, "nvmlInit_v2");
    *(void **)&find = dlsym(n->library, "nvmlDeviceGetHandleByPciBusId_v2");
    *(void **)&n->power = dlsym(n->library, "nvmlDeviceGetPowerUsage");
    *(void **)&n->temperature = dlsym(n->library, "nvmlDeviceGetTemperature");
    *(void **)&n->clock = dlsym(n->library, "nvmlDeviceGetClockInfo");
    *(void **)&n->memory = dlsym(n->library, "nvmlDeviceGetMemoryInfo");
    *(void **)&n->energy = dlsym(n->library, "nvmlDeviceGetTotalEnergyConsumption");
    *(void **)&n->ecc = dlsym(n->library, "nvmlDeviceGetTotalEccErrors");
    *(void **)&n->rows = dlsym(n->library, "nvmlDeviceGetRemappedRows");
    if (!init || !find || init() != 0 || cudaDeviceGetPCIBusId(n->bus, (int)sizeof n->bus, gpu) != cudaSuccess ||
        find(n->bus, &n->device) != 0)
        n->device = NULL;
    if (n->device && (!n->energy || n->energy(n->device, &n->energy_before) != 0)) n->energy = NULL;
}

static inline void nvml_close(Nvml *n) {
    if (n->library) dlclose(n->library);
    memset(n, 0, sizeof *n);
}

static inline DeviceReadings nvml_read(Nvml *n) {
    double now = clock_seconds();
    if (now - n->last_read < 1) return n->last;
    DeviceReadings *r = &n->last;
    unsigned value = 0;
    unsigned long long energy = 0;
    NvmlMemory memory;
    memset(&memory, 0, sizeof memory);
    n->last_read = now;
    *r = no_readings();
    if (!n->device) return *r;
    if (n->power && n->power(n->device, &value) == 0) r->power_w = value / 1e3;
    if (n->temperature && n->temperature(n->device, NVML_CORE_TEMPERATURE, &value) == 0) r->temperature_c = value;
    if (n->clock && n->clock(n->device, NVML_CLOCK_OF_SM, &value) == 0) r->sm_mhz = value;
    if (n->clock && n->clock(n->device, NVML_CLOCK_OF_MEMORY, &value) == 0) r->memory_mhz = value;
    if (n->memory && n->memory(n->device, &memory) == 0) r->memory_gb = (double)memory.used / 1e9;
    if (n->energy && n->energy(n->device, &energy) == 0) r->energy_kwh = (double)(energy - n->energy_before) / 3.6e9;
    return *r;
}

#endif
