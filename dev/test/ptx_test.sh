#!/usr/bin/env bash
# The PTX that nvcc makes of the kernels, executed by the emulator (dev/emu/ptx_run.cc) in place of their source, with
# everything it refuses: races, divergence, misaligned and foreign addresses, values that were never written.
#
#     dev/test/ptx_test.sh [whole]
#
# make test runs attention, three shapes on sm_90, the last one of rows with documents. whole (make test-ptx): the
# kernels' tests on sm_80 and sm_90, and of every family, in bf16 and fp32, the dump of a step against the CPU's and 8
# steps of training; two ranks with each ZeRO stage; and every kernel of the program must have run. On sm_90 the machine
# makes other choices that a device may make: copies arrive early, sums are coarse. build/ptx holds the PTX.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make test-ptx}" "${SANITIZE:=0}" "${RUNNER:=}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
why=
if [ "$SANITIZE" = 1 ]; then why='only in the plain build'
elif ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ]; then why='no nvcc'; fi
if [ -n "$why" ]; then
    skip ptx_test.sh "$why"
    conclude
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LLMC_CACHE=$work/cache OMP_NUM_THREADS=1

# on ARCH NAME COMMAND...: with the PTX of NAME for sm_ARCH
on() {
    local arch=$1 name=$2
    shift 2
    local choices=()
    [ "$arch" = 90 ] && choices=(CUDA_EMU_COPIES=early CUDA_EMU_MATH=edge)
    env "${choices[@]}" CUDA_EMU_PTX="build/ptx/$name.$arch.ptx" CUDA_EMU_PTX_RAN="$work/ran.$name" "$@"
}
# kernels ARCH TEST [SHAPE]: a test of kernels. Its own checks count, and that it was PTX that ran. The outcome goes to a
# file, for `counted`.
kernels() {
    on "$1" "$2" "$BUILD/${2}_emu" "${@:3}" >"$work/out.$2.$1.${3:-}" 2>&1
    echo "exit code $?" >>"$work/out.$2.$1.${3:-}"
}
counted() {
    local out counts
    for out in "$work"/out.*; do
        counts=$(sed -nE 's/^(CUDA kernels: )?([0-9]+) (checks )?passed, ([0-9]+) failed$/\2 \4/p' "$out")
        [ -n "$counts" ] || { counts="0 1" && printf 'FAILED %s: no count\n' "${out##*/out.}"; }
        grep -E 'FAILED|error:' "$out" | head -n 5
        passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
        check "${out##*/out.}: PTX ran" grep -Eq '^emulator: PTX for sm_[89]0: [1-9][0-9]* of ' "$out"
        check "${out##*/out.}: $(tail -n 1 "$out")" grep -qx 'exit code 0' "$out"
    done
}

if [ "${1:-}" != whole ]; then
    for shape in 3 13 35; do kernels 90 cuda_attention_test "$shape"; done
    counted
    conclude
    exit
fi

# At most two things at a time, for two cores.
kernels 80 cuda_attention_test &
kernels 90 cuda_test
kernels 80 cuda_test
wait
kernels 90 cuda_attention_test &

cpu=$BUILD/train_gpt_cpu test=$BUILD/test_gpt
check "bpe" "$cpu" bpe --input=dev/test/sample_de.txt --vocab_size=384 --out="$work/tokenizer.json"
check "tokenize" "$cpu" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --out="$work/d"
dump() { # dump OUT MODEL PROGRAM [OPTION...]
    local out=$1 model=$2
    shift 2
    "$@" dump --model="$model" --data="$work/d_train_*.bin" --batch_size=3 --seq_len=11 --out="$work/$out.safetensors"
}
options=() # more, for train
train() { # train RUN MODEL PROGRAM...
    local run=$1 model=$2
    shift 2
    "$@" train --train_data="$work/d_train_*.bin" --val_data="$work/d_val_*.bin" --tokenizer="$work/tokenizer.json" --model="$model" --seq_len=24 --lr=3e-3 \
        --val_tokens=96 --final_val_tokens=96 --val_every=4 --sample_every=0 --batch_size=2 --total_batch_tokens=96 --steps=8 --out="$work/$run" --progress=off "${options[@]}"
}
mkdir "$work/apertus"
cat >"$work/apertus/config.json" <<'END'
{"model_type": "apertus", "hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 88, "num_hidden_layers": 2, "max_position_embeddings": 64, "vocab_size": 384}
END
for model in gpt2-nano llama-nano qwen3-nano "$work/apertus"; do
    name=${model##*/}
    check "$name: dump on the CPU" dump cpu "$model" "$cpu"
    check "$name: train on the CPU" train "cpu.$name" "$model" "$cpu"
    for arch in 80 90; do
        for program in train_gpt train_gpt_fp32; do
            type=bf16 bound=1e-2 what="$name, $program on sm_$arch"
            [ $program = train_gpt_fp32 ] && type='' bound=1e-5
            check "$what: dump" dump new "$model" on $arch $program "$BUILD/${program/gpt/gpt_emu}"
            # shellcheck disable=SC2086  # type may be nothing
            check "$what: the dump is the CPU's" "$test" compare "$work/cpu.safetensors" "$work/new.safetensors" $type
            check "$what: train" train "$program.$arch.$name" "$model" on $arch $program "$BUILD/${program/gpt/gpt_emu}"
            for number in loss val_loss; do
                check "$what: $number follows the CPU's" close "cpu.$name" "$program.$arch.$name" $number $bound
            done
        done
    done
done

# What those runs leave out: other optimizers, epilogues that the library refuses, generation, rows that no packs fit in.
for optimizer in muon normuon; do
    options=("--optimizer=$optimizer")
    check "train with $optimizer" train $optimizer qwen3-nano on 80 train_gpt "$BUILD/train_gpt_emu"
done
options=()
export CUDA_EMU_REFUSE=product,bias,gelu,dgelu,bgrad LLMC_CACHE=$work/cache.apart
for program in train_gpt train_gpt_fp32; do
    check "$program without the library: train" train apart.$program gpt2-nano on 80 $program "$BUILD/${program/gpt/gpt_emu}"
    check "$program without the library: the loss follows the CPU's" close cpu.gpt2-nano apart.$program loss 1e-2
done
unset CUDA_EMU_REFUSE
check "generate" on 80 train_gpt "$BUILD/train_gpt_emu" generate --model="$work/apart.train_gpt/step_00000008" --prompt=Der --tokens=20

# An adapter with dropout; what the choices of an item begin with, computed once.
options=(--seq_len=48 --steps=1)
check "a longer context on the CPU" train long llama-nano "$cpu"
echo '{"context": "Der Hund läuft im Garten und", "choices": [" sucht dort seinen Knochen.", " sieht dort eine Katze."], "answer": 0}' >"$work/task.jsonl"
scores() { "$@" eval --model="$work/long" --tasks="$work/task.jsonl" --out="$work/items" >"$work/scores" && jq -c '[.. | numbers]' "$work/items" >"$work/numbers"; }
check "choices on the CPU" scores "$cpu"
mv "$work/numbers" "$work/numbers.cpu"
options=(--lora_rank=4 --lora_dropout=0.2)
check "an adapter on the CPU" train adapter.cpu "$work/long" "$cpu"
for program in train_gpt train_gpt_fp32; do
    bound=2e-2
    [ $program = train_gpt_fp32 ] && bound=1e-5
    check "$program: an adapter" train adapter.$program "$work/long" on 80 $program "$BUILD/${program/gpt/gpt_emu}"
    check "$program: the adapter's loss follows the CPU's" close adapter.cpu adapter.$program loss $bound
    check "$program: choices" scores on 80 $program "$BUILD/${program/gpt/gpt_emu}"
    # shellcheck disable=SC2016  # $bound is jq's
    check "$program: the choices' numbers follow the CPU's: $(cat "$work/numbers.cpu" "$work/numbers")" \
        jq -en --argjson bound $bound '[inputs] | .[0] as $a | .[1] as $b | ($a | length > 3) and ($b | length) == ($a | length) and all(range($a | length); ($a[.] - $b[.] | fabs) <= $bound * (1 + ($a[.] | fabs)))' "$work/numbers.cpu" "$work/numbers"
done
# Pairs of answers.
pairs=dev/test/fixtures/preferences
check "tokenize pairs" "$cpu" tokenize --format=preferences --tokenizer="$pairs/tokenizer.json" --input="$pairs/pairs.jsonl" --out="$work/p" --val_fraction=0
options=(--train_data="$work/p_train_*.bin" --val_data="$work/p_train_*.bin" --tokenizer="$pairs/tokenizer.json" --objective=dpo --seq_len=144 --total_batch_tokens=576
    --steps=2 --lr=1e-4 --val_every=0)
check "dpo on the CPU" train dpo.cpu "$pairs" "$cpu"
for arch in 80 90; do
    check "dpo on sm_$arch" train dpo.$arch "$pairs" on $arch train_gpt_fp32 "$BUILD/train_gpt_emu_fp32"
    check "dpo on sm_$arch: the loss follows the CPU's" close dpo.cpu dpo.$arch loss 1e-5
    check "dpo on sm_$arch: the gradient norm follows the CPU's" close dpo.cpu dpo.$arch grad_norm 1e-4
done
check "dpo in bf16" train dpo.bf16 "$pairs" on 80 train_gpt "$BUILD/train_gpt_emu"
options=(--teacher="$work/long" --seq_len=24)
check "beside a teacher on the CPU" train taught.cpu gpt2-nano "$cpu"
for program in train_gpt train_gpt_fp32; do
    bound=1e-2
    [ $program = train_gpt_fp32 ] && bound=1e-5
    check "$program: beside a teacher" train taught.$program gpt2-nano on 80 $program "$BUILD/${program/gpt/gpt_emu}"
    check "$program: its loss follows the CPU's" close taught.cpu taught.$program loss $bound
    # What is left of logarithms of about 6, 3e-3 here: a rounding of each, 2^-24, is 2e-4 of it.
    [ $program = train_gpt_fp32 ] && bound=1e-4
    check "$program: its kl follows the CPU's" close taught.cpu taught.$program kl $bound
done
options=(--lora_rank=4 --base=nf4)
check "an adapter on nf4 on the CPU" train nf4.cpu "$work/long" "$cpu"
for program in train_gpt train_gpt_fp32; do
    bound=2e-2
    [ $program = train_gpt_fp32 ] && bound=1e-5
    check "$program: an adapter on nf4" train nf4.$program "$work/long" on 80 $program "$BUILD/${program/gpt/gpt_emu}"
    check "$program: the loss on nf4 follows the CPU's" close nf4.cpu nf4.$program loss $bound
done
options=()

# Two ranks, each ZeRO stage, two micro-batches; in bf16 one stage.
why=$(no_ranks)
[ -z "$why" ] || skip 'ptx_test.sh, two ranks' "$why"
launch=(timeout 300 mpirun --oversubscribe --bind-to none -n 2)
for zero in 0 1 2 3; do
    [ -z "$why" ] || break
    options=("--zero=$zero" --batch_size=1)
    LLMC_CHECK_RANKS=1 check "two ranks, zero $zero: train" train "zero$zero" llama-nano on 90 train_gpt_fp32 "${launch[@]}" "$BUILD/train_gpt_emu_fp32"
    check "two ranks, zero $zero: the loss follows the CPU's" close cpu.llama-nano "zero$zero" loss 1e-5
done
[ -n "$why" ] || check "two ranks, zero 3, bf16: train" train zero3.bf16 llama-nano on 80 train_gpt "${launch[@]}" "$BUILD/train_gpt_emu"
wait
counted

# All that the PTX of the program holds has run, in one of these or in the kernels' tests.
for program in train_gpt train_gpt_fp32; do
    sed -nE 's/^(\.visible )?\.entry ([A-Za-z0-9_]+)\(.*/\2/p' "build/ptx/$program.80.ptx" | sort >"$work/kernels"
    left=$(sort -u "$work"/ran.* | comm -23 "$work/kernels" - | paste -sd' ')
    [ -n "$why" ] || check "$program: no test runs $left" test -z "$left"
done
conclude
