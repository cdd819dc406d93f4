#!/usr/bin/env bash
# Everything there is to know about train_gpt on this machine's GPU, in one Markdown report:
# build, comparison with the CPU program, compute-sanitizer, two identical runs, speed.
#
#     dev/gpu_report.sh [quick]      quick: no sanitizer, and only the first benchmark
#
# Writes dev/results/DATE-DEVICE.md. Needs a GPU, the CUDA toolkit (nvcc) and a C compiler; takes about
# ten minutes. Ends with 1 if anything failed; the report says what.
# shellcheck disable=SC2317  # the functions are called by name, through section
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
mode=${1:-full}
export BUILD=build/gpu-report GPU=1
mkdir -p "$BUILD" dev/results

command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || { echo "error: nvcc is not in PATH: install the CUDA toolkit, or load its module" >&2; exit 1; }
device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$device" ] || { echo "error: nvidia-smi finds no GPU on this machine" >&2; exit 1; }
commit=$(git rev-parse --short=12 HEAD)$(git diff --quiet HEAD || echo +changes)
report=dev/results/$(date -u +%Y-%m-%d)-$(echo "$device" | tr -c 'A-Za-z0-9\n' '-').md
failed=0

# section TITLE COMMAND...: its output as a block, and whether it succeeded
section() {
    local title=$1 start=$SECONDS
    shift
    echo "$title" >&2
    "$@" >"$BUILD/out" 2>&1
    local code=$?
    [ $code -eq 0 ] || failed=1
    {
        printf '## %s\n\n%s, %d s\n\n```\n' "$title" "$([ $code -eq 0 ] && echo passed || echo "FAILED (exit code $code)")" $((SECONDS - start))
        tail -n 60 "$BUILD/out" | cut -c1-220
        printf '```\n\n'
    } >>"$report"
}

build() { # for this GPU alone, by the Makefile's rules
    make BUILD="$BUILD" CUDA_ARCH="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)" build-gpu
}

prepare() {
    "$BUILD/train_gpt_cpu" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$BUILD/tokenizer.json" &&
        "$BUILD/train_gpt_cpu" tokenize --tokenizer="$BUILD/tokenizer.json" --input=dev/test/sample_de.txt --out="$BUILD/data"
}

sanitize() { # sanitize TOOL: one training step of two small models, and the kernel tests under memcheck
    local tool=$1 model
    for model in gpt2-nano qwen3-nano llama-5M; do
        LLMC_GRAPHS=0 compute-sanitizer --tool "$tool" --error-exitcode 9 "$BUILD/train_gpt" dump --model="$model" --data="$BUILD/data_train_*.bin" --batch_size=2 --seq_len=70 \
            --out="$BUILD/sanitized.safetensors" || return 1
    done
    [ "$tool" != memcheck ] || compute-sanitizer --tool memcheck --error-exitcode 9 "$BUILD/cuda_test"
}

twice() { # the same run in two folders must leave the same bits
    local run
    for run in a b; do
        rm -rf "$BUILD/run-$run"
        "$BUILD/train_gpt" train --train_data="$BUILD/data_train_*.bin" --val_data="$BUILD/data_val_*.bin" --tokenizer="$BUILD/tokenizer.json" --model=llama-30M --batch_size=8 \
            --seq_len=256 --total_batch_tokens=4096 --steps=30 --val_every=0 --out="$BUILD/run-$run" | tail -n 3 || return 1
    done
    cmp "$BUILD/run-a/step_00000030/model.safetensors" "$BUILD/run-b/step_00000030/model.safetensors" && echo "30 steps of llama-30M: the same bits"
}

{
    printf '# train_gpt on %s\n\nCommit %s, %s UTC.\n\n```\n' "$device" "$commit" "$(date -u '+%Y-%m-%d %H:%M')"
    nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.memory,compute_cap --format=csv
    nvcc --version | tail -n 2
    printf '%s\n```\n\n' "$(uname -srm)"
} >"$report"

section "Build" build
section "Data" prepare
section "Attention against the CPU" "$BUILD/cuda_attention_test"
section "Kernels and whole program against the CPU" dev/test/cuda_test.sh
if [ "$mode" = full ] && command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck initcheck synccheck; do section "compute-sanitizer $tool" sanitize $tool; done
fi
section "Two identical runs" twice
if grep -aq ncclAllReduce "$BUILD/train_gpt"; then section "Several GPUs against one" dev/test/cuda_ranks_test.sh; fi

# Speed. Each line: preset, B, T, micro-batches, steps, recompute.
printf '## Speed\n\n' >>"$report"
benchmarks=$(
    cat <<'END'
gpt2-124M 64 1024 1 20 none
gpt2-1.5B 8 1024 4 10 cheap
llama-1.5B 4 2048 4 10 cheap
END
)
[ "$mode" = quick ] && benchmarks=$(echo "$benchmarks" | head -n 1)
while read -r preset B T passes steps recompute; do
    echo "speed: $preset" >&2
    nvidia-smi --query-gpu=power.draw,temperature.gpu,clocks.sm,clocks.mem --format=csv,noheader -l 1 >"$BUILD/nvidia-smi" 2>/dev/null &
    monitor=$!
    # Too large for this GPU: half the batch, twice the micro-batches.
    while ! "$BUILD/bench_gpu" "$preset" "$B" "$T" "$passes" "$steps" "$recompute" >"$BUILD/out" 2>&1; do
        if [ "$B" -le 1 ]; then
            failed=1
            break
        fi
        B=$((B / 2)) passes=$((passes * 2))
    done
    kill $monitor
    { cat "$BUILD/out"; printf '\nHighest power draw while this ran, temperature, clocks: %s\n\n' "$(sort -rn "$BUILD/nvidia-smi" | head -n 1)"; } >>"$report"
done <<<"$benchmarks"

printf '%s\n' "$([ $failed -eq 0 ] && echo 'Everything passed.' || echo 'Something FAILED: see above.')" >>"$report"
echo "$report"
exit $failed
