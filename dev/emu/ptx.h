/*
ptx.h (emulator): what the emulator asks of the machine that executes PTX (ptx_parse.h reads it, ptx_run.cc runs it).

With CUDA_EMU_PTX=FILE a launch runs the PTX that nvcc made of the kernel instead of the kernel's source: so inline PTX,
fragment layouts and nvcc's own work are tested where no GPU is. FILE is what `nvcc -ptx -lineinfo` wrote; beside it may
lie FILE.info, what `ptxas -v` said of it, from which come the registers that a launch needs.
*/
#ifndef EMU_PTX_H
#define EMU_PTX_H

#include <cstddef>
#include <vector>

struct EmuConfig;
typedef std::vector<std::vector<char>> EmuArguments; // the bytes of each

// The compute capability that the PTX is for, as 80; 0: sources run, not PTX.
int emu_ptx_arch();

// Shared memory that a block of the device may have, and what a kernel's arrays of fixed size take of it. From source:
// the variables that the compiler named after the kernel, not those of functions that it calls.
size_t emu_shared_limit();
// A number of the environment, or what stands in for it.
static inline size_t emu_number(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : otherwise;
}
size_t emu_static_shared(const void *kernel);

// Runs all blocks. Whatever a device would not do, or would do differently every time, ends the program with one line.
void emu_ptx_run(const void *kernel, const EmuConfig &config, const EmuArguments &arguments);

// The name of a function of this program as the compiler and nvcc both write it; "" if sources run and nobody knows it.
const char *emu_symbol(const void *function);

#endif
