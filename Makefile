# make               build train_gpt_cpu (and train_gpt where the CUDA toolkit is); `make help` lists the rest
#
# Settings: ARCH=native|x86-64-v3|x86-64-v4|armv8.2-a...  what the CPU program may use (-march; native: this machine)
#           CC=gcc|clang, MPI=1|0 (default: 1 where mpicc is), OPENMP=1|0, SANITIZE=1 (address, undefined), RUNNER=qemu-...
#           NCCL=1|0 several GPUs (default: 1 where nccl.h is: NCCL_HOME, EBROOTNCCL, CPATH, the CUDA toolkit, /usr)
#           WERROR=1 a warning is an error, as in CI; not for users, whose compilers may warn of more

ifeq ($(MAKELEVEL),0)
MAKEFLAGS += --jobs=$(shell nproc)
endif
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
ARCH    ?= native
OPENMP  ?= 1
SANITIZE ?= 0
WERROR  ?= 0
MPI     ?= $(if $(shell command -v mpicc 2>/dev/null),1,0)
RUNNER  ?=
WARNINGS := -Wall -Wextra -Wno-unknown-pragmas -Wno-pass-failed $(if $(filter 1,$(WERROR)),-Werror)
# pass-failed: clang says so where it does not unroll a loop for some CPU. Contraction and fewer errno checks change no NaN or Inf; -ffast-math would, and is not used.
# Under sanitizers -O1: the checks make -O3 take minutes to compile.
CFLAGS  ?= $(if $(filter 1,$(SANITIZE)),-O1,-O3) -g1
CFLAGS  += -std=c11 -pthread -march=$(ARCH) -ffp-contract=fast -fno-math-errno -fno-trapping-math $(WARNINGS) -Wpedantic -Wno-psabi
# GCC's scheduling before register allocation spills the GEMM's tile of sums on NEON.
CFLAGS  += $(if $(and $(findstring gcc,$(CC)),$(filter aarch64%,$(shell $(CC) -dumpmachine))),-fno-schedule-insns) $(if $(filter 1,$(OPENMP)),-fopenmp)
LDLIBS  := -lm -ldl
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

# nvcc where it is, else only the emulated build. CUDA_ARCH: compute capabilities; PTX of the last serves later ones.
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
NVFLAGS  += $(MPI_CFLAGS) $(NCCL_FLAGS)
NVLIBS   := -lcublasLt $(NCCL_LIBS) $(filter -L% -l%,$(MPI_LIBS)) -ldl
.PHONY: all help build-tests build-gpu gpu-bundle build-fuzz emu test test-long test-ptx test-cluster test-faults compare bench fuzz mutants ptx-mutants format lint clean FORCE
.SECONDARY: # keeps what stands between a source and a program
all: train_gpt_cpu $(if $(NVCC),train_gpt)

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "make train_gpt_cpu   the CPU program"
	@echo "make train_gpt       the CUDA program, for CUDA_ARCH=\"$(CUDA_ARCH)\" and later"
	@echo "make test            every test, in float and in double, and the CUDA program emulated; SANITIZE=1: under sanitizers"
	@echo "make test-long       what make test runs a part of: both programs on several ranks, every header by every compiler"
	@echo "make test-ptx        the PTX that nvcc makes of every kernel, executed on the CPU: kernels and whole programs, sm_80 and sm_90"
	@echo "make test-cluster    Slurm, ssh, cut cables and a hundred kills, on this machine, as root; SKIP=slurm,ssh,kill,bytes"
	@echo "make test_gpt        the C tests; make build-tests: with the programs that they need"
	@echo "make emu             the CUDA program on the CPU, without GPU and CUDA toolkit: train_gpt_emu (bf16), train_gpt_emu_fp32"
	@echo "make compare         both programs on the same weights and tokens, tensor by tensor; MODEL=PRESET or FOLDER"
	@echo "make bench           this machine's limits, and each kernel and step as a share of them"
	@echo "make build-gpu       the CUDA program, its tests and bench_gpu, for a machine with a GPU: dev/gpu_report.sh runs them;"
	@echo "make gpu-bundle      with all else that it needs in build/gpu-bundle, for a borrowed GPU (sm_90 and later, x86-64-v3)"
	@echo "make test-faults     every call of a run fails once, every part of its files is damaged: 70,000 runs; make test takes some"
	@echo "make fuzz            MINUTES=1 (or SECONDS) of each driver in dev/fuzz, with clang; make build-fuzz only builds them"
	@echo "make mutants         plants faults, one at a time, and counts those that the tests catch; ONLY=WORD some. make ptx-mutants: on PTX"
	@echo "make format          lays out every source file as .clang-format says; make lint says where that was not run; make clean removes what was built"

$(BUILD):
	@mkdir -p $@
# The commit is an object of its own, written only when it changes: then programs are linked again, and none is compiled.
COMMIT   := $(shell c=$$(git rev-parse --short=12 HEAD 2>/dev/null) && echo "$$c$$(git diff --quiet HEAD || echo +changes)" || echo unknown)
COMMIT_C := extern const char *const build_commit; const char *const build_commit = "$(COMMIT)";
ifneq ($(COMMIT_C),$(shell cat $(BUILD)/commit.c 2>/dev/null))
$(BUILD)/commit.c: FORCE
endif
$(BUILD)/commit.c: | $(BUILD)
	@echo '$(COMMIT_C)' >$@
$(BUILD)/commit.o: $(BUILD)/commit.c; @$(CC) $(CFLAGS) -c $< -o $@

# The CPU program, its tests and its bench. Where sources lie:
vpath %.c dev/bench dev/test
vpath %.cu dev/bench dev/test
$(BUILD)/train_gpt_cpu.o: CFLAGS += $(MPI_CFLAGS)
$(BUILD)/cuda_reference.o: CFLAGS += -DREAL_DOUBLE
$(BUILD)/%.o: %.c Makefile | $(BUILD)
	$(CC) $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/%_double.o: %.c Makefile | $(BUILD)
	$(CC) $(CFLAGS) -DREAL_DOUBLE -MMD -MP -c $< -o $@
$(addprefix $(BUILD)/,train_gpt_cpu test_gpt test_gpt_double bench_cpu): %: %.o $(BUILD)/commit.o
	$(CC) $(CFLAGS) $(filter %.o,$^) -o $@ $(LDLIBS) $(if $(filter %_cpu,$@),$(MPI_LIBS))

# The emulated CUDA program (dev/emu): sed turns launches into calls in a copy of the sources, then a host compiler builds them.
CXX      ?= g++
comma    := ,
EMU      := $(BUILD)/emu
EMUFLAGS := -std=c++17 -pthread $(if $(filter 1,$(SANITIZE)),-O1 -fsanitize=address$(comma)undefined -fno-sanitize-recover=all,-O2) -march=$(ARCH) -g1 -Idev/emu -I$(EMU) -ffp-contract=off
EMUFLAGS += $(WARNINGS) $(MPI_CFLAGS) $(if $(filter 1,$(MPI)),-DUSE_NCCL)
EMULIBS  := $(MPI_LIBS) -ldl
EMU_COPIES   := $(patsubst %,$(EMU)/%,train_gpt.cu $(wildcard llmc/*.h llmc/*/*.h dev/*/*.cu) dev/test/check.h dev/bench/gpu_model.h)
EMU_PROGRAMS := $(addprefix $(BUILD)/,train_gpt_emu train_gpt_emu_fp32 cuda_test_emu cuda_attention_test_emu cuda_model_test_emu bench_gpu_emu refusals_emu)
$(EMU_COPIES): $(EMU)/%: % dev/emu/launch.sed
	@mkdir -p $(@D)
	@sed -z -E -f dev/emu/launch.sed $< >$@
# Dependency files name each copy once (a/../b is b), so that no two seds write one file; before there are any, all copies are made.
$(EMU_PROGRAMS:=.o): Makefile | $(EMU_COPIES)
	$(CXX) $(EMUFLAGS) -MMD -MP -x c++ -c $(filter %/$(patsubst %_emu.o,%.cu,$(@F:_fp32.o=.o)),$(EMU_COPIES)) -o $@
	@sed -i -E ':a; s|[^/ ]+/\.\./||; ta' $(@:.o=.d)
$(BUILD)/train_gpt_emu_fp32.o: EMUFLAGS += -DFLOAT32
$(BUILD)/bench_gpu_emu: EMUFLAGS += -O0 # its figures mean nothing: it only has to run
$(BUILD)/cuda_test_emu $(BUILD)/cuda_attention_test_emu: EMUFLAGS += -fopenmp
$(BUILD)/cuda_test_emu $(BUILD)/cuda_attention_test_emu: $(BUILD)/cuda_reference.o
$(BUILD)/ptx_run.o: dev/emu/ptx_run.cc Makefile | $(BUILD)
	$(CXX) $(EMUFLAGS) $(if $(filter 0,$(SANITIZE)),-O3) -fwrapv -fno-strict-aliasing -MMD -MP -c $< -o $@
$(EMU_PROGRAMS): %: %.o $(BUILD)/ptx_run.o $(BUILD)/commit.o
	$(CXX) $(EMUFLAGS) $(filter %.o,$^) -o $@ $(EMULIBS)
emu: $(EMU_PROGRAMS)

# PTX, which the emulated programs execute where CUDA_EMU_PTX names it (dev/emu/ptx.h), and what ptxas says of it.
PTX     := $(if $(NVCC),$(foreach p,refusals cuda_test cuda_attention_test train_gpt train_gpt_fp32,build/ptx/$p.80.ptx build/ptx/$p.90.ptx))
PTX_FEW := $(filter %/refusals.80.ptx %/cuda_attention_test.90.ptx,$(PTX))
build/ptx/%.ptx: Makefile
	@mkdir -p $(@D)
	$(NVCC) -ptx -O3 -lineinfo -std=c++17 -arch=sm_$(patsubst .%,%,$(suffix $*)) $(if $(findstring _fp32,$*),-DFLOAT32) -MMD -MP -MF $@.d \
	  $(wildcard $(addsuffix $(subst _fp32,,$(basename $*)).cu,./ dev/test/)) -o $@
	$(NVCC:nvcc=ptxas) -v -arch=sm_$(patsubst .%,%,$(suffix $*)) $@ -o /dev/null 2>$@.info
test-ptx: build-tests emu $(PTX)
	@BUILD=$(BUILD) dev/test/ptx_test.sh whole

# The CUDA program itself.
GPU_PROGRAMS := $(addprefix $(BUILD)/,train_gpt train_gpt_fp32 cuda_test cuda_attention_test cuda_model_test bench_gpu)
$(BUILD)/%.o: %.cu Makefile | $(BUILD)
	$(NVCC) $(NVFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@
$(BUILD)/%_fp32.o: %.cu Makefile | $(BUILD)
	$(NVCC) $(NVFLAGS) -DFLOAT32 -MMD -MP -MF $(@:.o=.d) -c $< -o $@
$(BUILD)/cuda_test $(BUILD)/cuda_attention_test: $(BUILD)/cuda_reference.o
$(GPU_PROGRAMS): %: %.o $(BUILD)/commit.o
	$(NVCC) $(NVFLAGS) $(filter %.o,$^) -o $@ $(NVLIBS) $(if $(filter %_test,$@),-Xcompiler -fopenmp)
build-gpu: $(GPU_PROGRAMS) build-tests
gpu-bundle:
	@$(MAKE) --no-print-directory BUILD=build/gpu ARCH=x86-64-v3 CC=gcc OPENMP=1 SANITIZE=0 MPI=0 NCCL=0 CUDA_ARCH="$(if $(filter file,$(origin CUDA_ARCH)),90,$(CUDA_ARCH))" build-gpu
	@BUILD=build/gpu dev/gpu_bundle.sh build/gpu-bundle

# Any bytes, given to what reads bytes: from dev/fuzz/corpus and fixtures on. What an hour found is kept for the next: build/corpus.
FUZZERS := $(patsubst dev/fuzz/%.c,$(BUILD)/%,$(wildcard dev/fuzz/*.c))
$(FUZZERS): $(BUILD)/%: dev/fuzz/%.c Makefile | $(BUILD)
	clang -std=c11 -g -O1 $(WARNINGS) -Wno-psabi -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -MMD -MP $< -o $@ -lm
build-fuzz: $(FUZZERS)
SECONDS ?= $$((60 * $(or $(MINUTES),1)))
fuzz: $(FUZZERS:=.run)
$(FUZZERS:=.run): %.run: %
	@mkdir -p build/corpus/$(*F) && $< -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix=build/corpus/$(*F)- \
	  build/corpus/$(*F) $(wildcard dev/fuzz/corpus/$(*F) dev/test/fixtures/$(*F:fuzz_%=%)) >build/corpus/$(*F).log 2>&1 || { tail -n 50 build/corpus/$(*F).log; false; }
	@echo "$(*F): $$(sed -n 's/.*executed_units: *//p' build/corpus/$(*F).log) inputs, no finding"
-include $(wildcard $(BUILD)/*.d build/ptx/*.d)

# The program at the top is a copy of the newest build, so that ./train_gpt_cpu is what was asked for last.
train_gpt_cpu train_gpt test_gpt: %: $(BUILD)/% FORCE
	@cmp -s $< $@ || cp $< $@
FORCE:
build-tests: $(BUILD)/train_gpt_cpu $(BUILD)/test_gpt $(if $(filter 0,$(SANITIZE)),$(BUILD)/test_gpt_double) # sanitizers see all in float
test-faults: $(BUILD)/train_gpt_cpu; @BUILD=$(BUILD) CC=$(CC) POINTS=all dev/test/faults_test.sh
# First what they need; then make again, which sees the MPI that this may have brought. MPI=0: without.
test test-cluster:
	@scripts/install.sh build test $(if $(filter file,$(origin MPI)),mpi) $(if $(filter %cluster,$@),cluster)
	@$(MAKE) --no-print-directory run-$@
run-test test-long: build-tests emu $(PTX_FEW)
	@BUILD=$(BUILD) RUNNER="$(RUNNER)" SANITIZE=$(SANITIZE) dev/test/run.sh $(filter long,$(@:test-%=%))
run-test-cluster: $(BUILD)/train_gpt_cpu; @BUILD=$(BUILD) dev/test/cluster_test.sh $(if $(SKIP),--skip=$(SKIP))

# Both programs on the same weights and tokens, tensor by tensor; the CUDA program on the GPU where there is one, else emulated.
COMPARE_ON := $(if $(and $(NVCC),$(wildcard /dev/nvidia0)),,_emu)
compare: $(BUILD)/train_gpt_cpu $(BUILD)/test_gpt $(BUILD)/train_gpt$(COMPARE_ON) $(BUILD)/train_gpt$(COMPARE_ON)_fp32
	@BUILD=$(BUILD) CUDA=train_gpt$(COMPARE_ON) dev/test/compare.sh
mutants ptx-mutants:; @BUILD=$(BUILD) dev/test/$(subst -,_,$@).sh $(ONLY)
bench: $(BUILD)/bench_cpu $(BUILD)/train_gpt_cpu
	$(BUILD)/bench_cpu
	BUILD=$(BUILD) dev/bench/steps.sh
# All but the generated tables. Another version of clang-format lays out otherwise.
CLANG_FORMAT := 14
FORMATTED := $(filter-out llmc/text/unicode.h,$(shell git ls-files '*.c' '*.h' '*.cu' '*.cc' 2>/dev/null))
format:
	clang-format -i $(FORMATTED)
lint:
	@if clang-format --version 2>&1 | grep -q 'version $(CLANG_FORMAT)\.'; then clang-format --dry-run -Werror $(FORMATTED); \
	else echo "SKIPPED make lint: clang-format $(CLANG_FORMAT) is not there"; fi
clean:
	rm -rf build train_gpt_cpu train_gpt test_gpt
