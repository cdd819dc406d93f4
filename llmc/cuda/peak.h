/*
peak.h: the highest rate of a GPU's matrix arithmetic, from its name.

Dense figures (no structured sparsity) of the vendor's data sheets, with fp32 sums: bf16 on tensor
cores, or plain fp32. A GPU that is not listed has no figure, and no MFU is then reported.
*/
#ifndef LLMC_CUDA_PEAK_H
#define LLMC_CUDA_PEAK_H

#include "cuda.h"

// FLOP/s in the build's number type; 0: not known. Of several names that fit, the first counts.
static inline double device_peak_flops(const Device *d) {
    static const struct {
        const char *name;
        double bf16, fp32; // TFLOP/s
    } table[] = {
        {"GB200", 2500, 80},       {"B200", 2250, 80},     {"B100", 1750, 60},         {"GH200", 989, 67},
        {"H200 NVL", 836, 60},     {"H200", 989, 67},      {"H100 PCIe", 756, 51},     {"H100 NVL", 836, 60},
        {"H100", 989, 67},         {"H800", 989, 67},      {"H20", 148, 44},           {"A100", 312, 19.5},
        {"A800", 312, 19.5},       {"A40", 149.7, 37.4},   {"A30", 165, 10.3},         {"A10", 125, 31.2},
        {"L40S", 362, 91.6},       {"L40", 181, 90.5},     {"L4", 121, 30.3},          {"RTX 5090", 209.5, 104.8},
        {"RTX 4090", 165.2, 82.6}, {"RTX 3090", 71, 35.6}, {"RTX A6000", 154.8, 38.7}, {"RTX 6000 Ada", 364.2, 91.1},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strstr(d->name, table[i].name)) return 1e12 * (sizeof(real) == 4 ? table[i].fp32 : table[i].bf16);
    return 0;
}

#endif
