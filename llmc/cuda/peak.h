/*
peak.h: the highest rates of a GPU, from its name: matrix arithmetic, and memory (base/gpus.h). A GPU that is not listed
has no figure, and no MFU is then reported.
*/
#ifndef LLMC_CUDA_PEAK_H
#define LLMC_CUDA_PEAK_H

#include "../base/gpus.h"
#include "cuda.h"

typedef Gpu DevicePeak;

// NULL: not known.
static inline const DevicePeak *device_peak(const char *name) { return gpu_find(name); }

// FLOP/s in the build's number type; 0: not known.
static inline double device_peak_flops(const Device *d) {
    const DevicePeak *p = device_peak(d->name);
    return p ? 1e12 * (sizeof(real) == 4 ? p->fp32 : p->bf16) : 0;
}

#endif
