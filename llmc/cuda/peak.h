/*
peak.h: the highest rates of a GPU, from its name: matrix arithmetic, and memory.

Dense figures (no structured sparsity) of the vendor's data sheets, with fp32 sums: bf16 on tensor
cores, or plain fp32; and the bandwidth of its memory. A GPU that is not listed has no figure, and no
MFU is then reported.
*/
#ifndef LLMC_CUDA_PEAK_H
#define LLMC_CUDA_PEAK_H

#include "cuda.h"

typedef struct {
    const char *name;
    double bf16, fp32; // TFLOP/s
    double memory;     // GB/s
} DevicePeak;

// NULL: not known. Of several names that stand in `name`, the first counts.
static inline const DevicePeak *device_peak(const char *name) {
    static const DevicePeak table[] = {
        {"GB200", 2500, 80, 8000},
        {"B200", 2250, 80, 8000},
        {"B100", 1750, 60, 8000},
        {"GH200", 989, 67, 4000},
        {"H200 NVL", 836, 60, 4800},
        {"H200", 989, 67, 4800},
        {"H100 PCIe", 756, 51, 2000},
        {"H100 NVL", 836, 60, 3900},
        {"H100", 989, 67, 3350},
        {"H800", 989, 67, 3350},
        {"H20", 148, 44, 4000},
        {"A100-SXM4-40GB", 312, 19.5, 1555},
        {"A100-PCIE-40GB", 312, 19.5, 1555},
        {"A100", 312, 19.5, 2039},
        {"A800", 312, 19.5, 2039},
        {"A40", 149.7, 37.4, 696},
        {"A30", 165, 10.3, 933},
        {"A10", 125, 31.2, 600},
        {"L40S", 362, 91.6, 864},
        {"L40", 181, 90.5, 864},
        {"L4", 121, 30.3, 300},
        {"RTX 5090", 209.5, 104.8, 1792},
        {"RTX 4090", 165.2, 82.6, 1008},
        {"RTX 3090", 71, 35.6, 936},
        {"RTX A6000", 154.8, 38.7, 768},
        {"RTX 6000 Ada", 364.2, 91.1, 960},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strstr(name, table[i].name)) return &table[i];
    return NULL;
}

// FLOP/s in the build's number type; 0: not known.
static inline double device_peak_flops(const Device *d) {
    const DevicePeak *p = device_peak(d->name);
    return p ? 1e12 * (sizeof(real) == 4 ? p->fp32 : p->bf16) : 0;
}

#endif
