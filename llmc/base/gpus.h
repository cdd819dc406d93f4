/*
gpus.h: what NVIDIA's GPUs can do, by their names.

Dense figures (no structured sparsity) of the vendor's data sheets, with fp32 sums: bf16 on tensor cores, or plain fp32,
in TFLOP/s; the memory's bandwidth, and its size in GB, which the driver counts as GiB and keeps one or two percent of.
A10G: the data sheet for Amazon's instances; B200 and B300: an eighth of HGX B200's and B300's (both 36 PFLOP/s in bf16
with sparsity, half of that without, and 600 TFLOP/s in fp32); GB200 and GB300: a 72nd of NVL72's.
*/
#ifndef LLMC_GPUS_H
#define LLMC_GPUS_H

#include "common.h"

typedef struct {
    const char *name;  // part of what the driver calls it
    double bf16, fp32; // TFLOP/s
    double memory;     // GB/s
    double size;       // of it, GiB
} Gpu;

// NULL: not known. Of several names that fit, the first counts.
static inline const Gpu *gpu_find(const char *name) {
    static const Gpu table[] = {
        {"GB300", 2500, 80, 8000, 279},
        {"B300", 2250, 75, 8000, 270},
        {"GB200", 2500, 80, 8000, 186},
        {"B200", 2250, 75, 8000, 180},
        {"B100", 1750, 60, 8000, 180},
        {"GH200", 989, 67, 4000, 96},
        {"H200 NVL", 836, 60, 4800, 141},
        {"H200", 989, 67, 4800, 141},
        {"H100 PCIe", 756, 51, 2000, 80},
        {"H100 NVL", 836, 60, 3900, 94},
        {"H100", 989, 67, 3350, 80},
        {"H800", 989, 67, 3350, 80},
        {"H20", 148, 44, 4000, 96},
        {"A100-SXM4-40GB", 312, 19.5, 1555, 40},
        {"A100-PCIE-40GB", 312, 19.5, 1555, 40},
        {"A100", 312, 19.5, 2039, 80},
        {"A800", 312, 19.5, 2039, 80},
        {"A40", 149.7, 37.4, 696, 48},
        {"A30", 165, 10.3, 933, 24},
        {"A10G", 70, 35, 600, 24},
        {"A10", 125, 31.2, 600, 24},
        {"L40S", 362, 91.6, 864, 48},
        {"L40", 181, 90.5, 864, 48},
        {"L4", 121, 30.3, 300, 24},
        {"RTX 5090", 209.5, 104.8, 1792, 32},
        {"RTX 4090", 165.2, 82.6, 1008, 24},
        {"RTX 3090", 71, 35.6, 936, 24},
        {"RTX A6000", 154.8, 38.7, 768, 48},
        {"RTX 6000 Ada", 364.2, 91.1, 960, 48},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strstr(name, table[i].name)) return &table[i];
    return NULL;
}

#endif
