# make               build train_gpt_cpu (and train_gpt where the CUDA toolkit is); `make help` lists the rest
#
# Settings: ARCH=native|x86-64-v3|x86-64-v4|armv8.2-a...  what the CPU program may use (-march; native: this machine)
#           CC=gcc|clang, MPI=1|0 (default: 1 where mpicc is), OPENMP=1|0, SANITIZE=1 (address, undefined), RUNNER=qemu-...
#           NCCL=1|0 several GPUs (default: 1 where nccl.h is: NCCL_HOME, EBROOTNCCL, CPATH, the CUDA toolkit, /usr)

ifeq ($(MAKELEVEL),0)
MAKEFLAGS += --jobs=$(shell nproc)
endif

CC      ?= gcc
ifeq ($(origin CC),default)
CC      := gcc
endif
ARCH    ?= native
OPENMP  ?= 1
SANITIZE ?= 0
MPI     ?= $(if $(shell command -v mpicc 2>/dev/null),1,0)
RUNNER  ?=

COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || echo +changes)
# Contraction and fewer errno checks change no NaN or Inf; -ffast-math would, and is not used.
# Under sanitizers -O1: the checks make -O3 take minutes to compile.
CFLAGS  ?= $(if $(filter 1,$(SANITIZE)),-O1,-O3) -g
CFLAGS  += -std=c11 -pthread -march=$(ARCH) -ffp-contract=fast -fno-math-errno -fno-trapping-math
CFLAGS  += -Wall -Wextra -Wpedantic -Werror -Wno-psabi -Wno-unknown-pragmas
# GCC's scheduling before register allocation spills the GEMM's tile of sums on NEON.
CFLAGS  += $(if $(and $(findstring gcc,$(CC)),$(filter aarch64%,$(shell $(CC) -dumpmachine))),-fno-schedule-insns)
LDLIBS  := -lm
ifeq ($(OPENMP),1)
CFLAGS  += -fopenmp
endif
ifeq ($(SANITIZE),1)
# MPI libraries leak by design; the sanitized build leaves them out.
CFLAGS  += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
override MPI := 0
endif
ifeq ($(MPI),1)
MPI_CFLAGS := -DUSE_MPI -DOMPI_SKIP_MPICXX -DMPICH_SKIP_MPICXX $(addprefix -isystem ,$(patsubst -I%,%,$(filter -I%,$(shell mpicc -show 2>/dev/null))))
MPI_LIBS   := $(filter -L% -l% -Wl%,$(shell mpicc -show 2>/dev/null))
endif

# Objects of different settings lie in different folders: nothing is rebuilt without need, nothing stale is linked.
SETTINGS := $(notdir $(CC))-$(ARCH)-omp$(OPENMP)-mpi$(MPI)-san$(SANITIZE)
BUILD    := build/$(SETTINGS)

# The CUDA program: nvcc where it is, else only the emulated build. CUDA_ARCH: compute capabilities; PTX of the last
# serves later ones.
NVCC     := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ARCH ?= 80 90
NVFLAGS  ?= -O3 -lineinfo
NVFLAGS  += -std=c++17 $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$(a),code=sm_$(a))
NVFLAGS  += -gencode arch=compute_$(lastword $(CUDA_ARCH)),code=compute_$(lastword $(CUDA_ARCH))
NCCL_H   := $(firstword $(wildcard $(addsuffix /include/nccl.h,$(NCCL_HOME) $(EBROOTNCCL) $(NVCC:/bin/nvcc=)) $(addsuffix /nccl.h,$(subst :, ,$(CPATH))) \
            /usr/local/include/nccl.h /usr/include/nccl.h))
NCCL     ?= $(if $(NCCL_H),1,0)
ifeq ($(NCCL),1)
# Not where the compiler looks anyway: -isystem /usr/include would hide the C library's headers from those of C++.
NCCL_DIR   := $(filter-out /usr/include/ /usr/local/include/,$(dir $(NCCL_H)))
NCCL_FLAGS := -DUSE_NCCL $(if $(NCCL_DIR),-isystem $(NCCL_DIR))
NCCL_LIBS  := $(if $(NCCL_DIR),-L$(NCCL_DIR)../lib -Xlinker -rpath=$(NCCL_DIR)../lib) -lnccl
endif
NVLIBS   := -lcublasLt $(NCCL_LIBS) $(filter -L% -l%,$(MPI_LIBS)) -ldl

.PHONY: all help build-tests emu test test-cluster compare bench format clean
all: train_gpt_cpu $(if $(NVCC),train_gpt)

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "make train_gpt_cpu   the CPU program"
	@echo "make train_gpt       the CUDA program, for CUDA_ARCH=\"$(CUDA_ARCH)\" and later"
	@echo "make test            every test, in float and in double, and the CUDA program emulated; SANITIZE=1: under sanitizers"
	@echo "make test-cluster    Slurm, ssh, cut cables and a hundred kills, on this machine, as root; SKIP=slurm,ssh,kill,bytes"
	@echo "make emu             the CUDA program on the CPU, without GPU and CUDA toolkit: train_gpt_emu (bf16), train_gpt_emu_fp32"
	@echo "make compare         both programs on the same weights and tokens, tensor by tensor; MODEL=PRESET or FOLDER"
	@echo "make bench           this machine's limits, and each kernel and step as a share of them"
	@echo "make format          lays out every source file as .clang-format says"
	@echo "make clean           remove what was built"

$(BUILD):
	@mkdir -p $@

$(BUILD)/train_gpt_cpu: train_gpt_cpu.c Makefile | $(BUILD)
	$(CC) $(CFLAGS) $(MPI_CFLAGS) -DGIT_COMMIT='"$(COMMIT)"' -MMD -MP -o $@ $< $(LDLIBS) $(MPI_LIBS)
$(BUILD)/test_gpt: test_gpt.c Makefile | $(BUILD)
	$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(LDLIBS)
$(BUILD)/test_gpt_double: test_gpt.c Makefile | $(BUILD)
	$(CC) $(CFLAGS) -DREAL_DOUBLE -MMD -MP -o $@ $< $(LDLIBS)
$(BUILD)/bench_cpu: dev/bench/bench_cpu.c Makefile | $(BUILD)
	$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(LDLIBS)

# The emulated CUDA program (dev/emu): sed turns launches into calls in a copy of the sources, then a host compiler builds them.
CXX      ?= g++
comma    := ,
EMU      := $(BUILD)/emu
EMUFLAGS := -std=c++17 -pthread $(if $(filter 1,$(SANITIZE)),-O1 -fsanitize=address$(comma)undefined -fno-sanitize-recover=all,-O2) -g1 -Idev/emu -I$(EMU) -ffp-contract=fast
EMUFLAGS += -Wall -Wextra -Wno-unknown-pragmas $(MPI_CFLAGS) $(if $(filter 1,$(MPI)),-DUSE_NCCL)
EMULIBS  := $(MPI_LIBS) -ldl
EMU_FILES := $(patsubst %,$(EMU)/%,train_gpt.cu $(wildcard llmc/*.h llmc/*/*.h dev/test/*.cu dev/test/*.h))
EMU_TESTS := $(BUILD)/train_gpt_emu $(BUILD)/train_gpt_emu_fp32 $(BUILD)/cuda_test_emu $(BUILD)/cuda_attention_test_emu
$(EMU)/%: % dev/emu/launch.sed
	@mkdir -p $(@D)
	@sed -z -E -f dev/emu/launch.sed $< >$@
$(BUILD)/train_gpt_emu: $(EMU_FILES) $(wildcard dev/emu/*.h) Makefile
	$(CXX) $(EMUFLAGS) -DGIT_COMMIT='"$(COMMIT)"' -x c++ $(EMU)/train_gpt.cu -x none -o $@ $(EMULIBS)
$(BUILD)/train_gpt_emu_fp32: $(EMU_FILES) $(wildcard dev/emu/*.h) Makefile
	$(CXX) $(EMUFLAGS) -DFLOAT32 -DGIT_COMMIT='"$(COMMIT)"' -x c++ $(EMU)/train_gpt.cu -x none -o $@ $(EMULIBS)
$(BUILD)/cuda_reference.o: dev/test/cuda_reference.c Makefile | $(BUILD)
	$(CC) $(CFLAGS) -DREAL_DOUBLE -MMD -MP -c $< -o $@
$(BUILD)/cuda_%_emu: $(EMU_FILES) $(BUILD)/cuda_reference.o $(wildcard dev/emu/*.h) Makefile
	$(CXX) $(EMUFLAGS) -fopenmp -x c++ $(EMU)/dev/test/cuda_$*.cu -x none $(BUILD)/cuda_reference.o -o $@ $(EMULIBS)
emu: $(EMU_TESTS)

$(BUILD)/train_gpt: train_gpt.cu $(wildcard llmc/*.h llmc/*/*.h) Makefile | $(BUILD)
	$(NVCC) $(NVFLAGS) $(MPI_CFLAGS) $(NCCL_FLAGS) -DGIT_COMMIT='"$(COMMIT)"' $< -o $@ $(NVLIBS)
$(BUILD)/train_gpt_fp32: train_gpt.cu $(wildcard llmc/*.h llmc/*/*.h) Makefile | $(BUILD)
	$(NVCC) $(NVFLAGS) -DFLOAT32 $(MPI_CFLAGS) $(NCCL_FLAGS) -DGIT_COMMIT='"$(COMMIT)"' $< -o $@ $(NVLIBS)
-include $(wildcard $(BUILD)/*.d)

# The program at the top is a copy of the newest build, so that ./train_gpt_cpu is what was asked for last.
train_gpt_cpu train_gpt test_gpt: %: $(BUILD)/% FORCE
	@cmp -s $< $@ || cp $< $@
.PHONY: FORCE
FORCE:

build-tests: $(BUILD)/train_gpt_cpu $(BUILD)/test_gpt $(BUILD)/test_gpt_double
test:
	@scripts/install.sh build test
	@$(MAKE) --no-print-directory build-tests emu
	@BUILD=$(BUILD) RUNNER="$(RUNNER)" SANITIZE=$(SANITIZE) dev/test/run.sh

# Not part of test: needs root and some minutes.
test-cluster:
	@scripts/install.sh build test cluster
	@$(MAKE) --no-print-directory $(BUILD)/train_gpt_cpu
	@BUILD=$(BUILD) dev/test/cluster_test.sh $(if $(SKIP),--skip=$(SKIP))

# Both programs on the same weights and tokens, tensor by tensor; the CUDA program on the GPU where there is one, else emulated.
COMPARE_ON := $(if $(and $(NVCC),$(wildcard /dev/nvidia0)),,_emu)
compare: $(BUILD)/train_gpt_cpu $(BUILD)/test_gpt $(BUILD)/train_gpt$(COMPARE_ON) $(BUILD)/train_gpt$(COMPARE_ON)_fp32
	@BUILD=$(BUILD) CUDA=train_gpt$(COMPARE_ON) dev/test/compare.sh

bench: $(BUILD)/bench_cpu $(BUILD)/train_gpt_cpu
	$(BUILD)/bench_cpu
	BUILD=$(BUILD) dev/bench/steps.sh

# Which files `make format` lays out: all but the generated tables.
FORMATTED := $(filter-out llmc/text/unicode.h,$(shell git ls-files '*.c' '*.h' '*.cu' 2>/dev/null))
format:
	clang-format -i $(FORMATTED)

clean:
	rm -rf build train_gpt_cpu train_gpt test_gpt
