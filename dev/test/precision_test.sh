#!/usr/bin/env bash
# --precision and --kernels of the program: what each takes, what it says and refuses; training on emulated tiles learns
# as fp32 does, with the same bits for any number of threads; --precision=auto is recorded, and a run goes on with it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
program=("$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$BUILD/train_gpt_cpu")

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive LLMC_CACHE=$work/cache

"${program[@]}" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/tokenizer.json" >"$work/out" 2>&1 &&
    "${program[@]}" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.1 --out="$work/s" >>"$work/out" 2>&1
check "preparing: $(cat "$work/out")" test -f "$work/s_val_00000.bin"

train() { # train OUT OPTION...
    "${program[@]}" train --model=llama-nano --train_data="$work/s_train_*.bin" --val_data="$work/s_val_*.bin" --tokenizer="$work/tokenizer.json" \
        --out="$work/$1" --batch_size=2 --seq_len=48 --steps=8 --lr=3e-3 --val_every=8 --val_tokens=480 --threads=1 --progress=off "${@:2}" >"$work/out" 2>"$work/err"
}
said() { cat "$work/err" "$work/out" | tail -n 1; }
device() { grep -m "${2:-1}" '^device: ' "$work/$1/run.log" | tail -n 1; }
refused() { # refused TEXT OPTION...
    train refused "${@:2}"
    check "${*:2}: the exit code is not 1" test $? -eq 1
    check "${*:2}: '$(said)' does not say '$1'" grep -qF -- "$1" "$work/err"
    check "${*:2}: a run was begun" test ! -e "$work/refused/metrics.jsonl"
}
weights() { cat "$work/$1/step_0000000${2:-8}"/{model,optimizer-*}.safetensors | sha256sum; }
loss() { jq -s '.[-1].val_loss' "$work/$1/metrics.jsonl"; }
near() { jq -en "($1 - $2) | fabs < $3" >"$work/near"; }

train fp32 --precision=fp32
check "fp32: exit code $?, $(said)" test -d "$work/fp32/step_00000008"
train usual
check "without --precision it is fp32: $(device usual)" test "$(weights usual)" = "$(weights fp32)"
refused '--precision=bf16' --kernels=matrix
refused '--precision=bf16' --kernels=emulated
refused 'auto|vector|matrix|emulated' --kernels=tiles

train tiles --precision=bf16 --kernels=emulated
check "emulated: exit code $?, $(said)" test -d "$work/tiles/step_00000008"
check "it is said: $(device tiles)" grep -qF 'AMX emulated' <<<"$(device tiles)"
check "tiles learn as fp32 does: $(loss tiles), $(loss fp32)" near "$(loss tiles)" "$(loss fp32)" 0.01
check "bf16 is rounded" test "$(weights tiles)" != "$(weights fp32)"
for threads in 2 3; do
    train tiles$threads --precision=bf16 --kernels=emulated --threads=$threads
    check "$threads threads on tiles give other bits: $(said)" test "$(weights tiles$threads)" = "$(weights tiles)"
done
train block --precision=bf16 --kernels=emulated --recompute=block
check "tiles and recomputed blocks: $(said)" test "$(weights block)" = "$(weights tiles)"

# bf16 as this CPU has it: auto takes the matrix unit where there is one.
if train bf16 --precision=bf16; then
    check "bf16 learns as fp32 does: $(loss bf16), $(loss fp32)" near "$(loss bf16)" "$(loss fp32)" 0.01
    if train matrix --precision=bf16 --kernels=matrix; then
        check "auto is matrix" test "$(weights matrix)" = "$(weights bf16)"
        check "a matrix unit: $(device matrix)" grep -q 'bf16 products by ' <<<"$(device matrix)"
        case $(device matrix) in
            *AMX*) check "AMX and its emulation" test "$(weights matrix)" = "$(weights tiles)" ;;
        esac
    else check "no matrix unit: $(said)" grep -q '^error: --kernels=matrix: ' "$work/err"; fi
else
    skip 'precision_test.sh, bf16 without emulation' 'this CPU has no instructions for it'
    check "refused with '$(said)'" grep -qF -- '--precision=fp32' "$work/err"
fi

# auto: measured, so that either may come out; what does is recorded and said.
train auto --precision=auto --steps=4 --checkpoint_every=4
check "auto: exit code $?, $(said)" test -d "$work/auto/step_00000004"
chosen=$(jq -r .precision "$work/auto/step_00000004/run.json")
check "auto recorded '$chosen'" grep -Eqx 'fp32|bf16' <<<"$chosen"
check "auto stays an option of the record" jq -e '.options.precision == "auto"' "$work/auto/step_00000004/run.json"
train auto_number --precision="$chosen" --steps=4
check "auto and what it chose give other bits" test "$(weights auto 4)" = "$(weights auto_number 4)"
# A run that was begun in fp32 or bf16 goes on so, whatever a measurement would say now.
for begun in fp32 bf16; do
    if [ $begun = bf16 ] && [ ! -d "$work/bf16" ]; then continue; fi
    train from_$begun --precision=$begun --steps=8
    train onto_$begun --precision=$begun --steps=8 --checkpoint_every=4
    rm -rf "$work/onto_$begun/step_00000008"
    train onto_$begun --precision=auto --steps=8 --checkpoint_every=4 --resume=auto
    check "begun in $begun, resumed with auto: exit code $?, $(said)" test -d "$work/onto_$begun/step_00000008"
    check "begun in $begun, resumed with auto: other bits" test "$(weights onto_$begun)" = "$(weights from_$begun)"
    check "it is recorded" test "$(jq -r .precision "$work/onto_$begun/step_00000008/run.json")" = $begun
done
"${program[@]}" eval --model="$work/fp32/step_00000008" --data="$work/s_val_*.bin" --precision=auto --seq_len=48 >"$work/out" 2>"$work/err"
code=$?
check "eval with auto: $(said)" test $code -eq 0
train emulated_auto --precision=auto --kernels=emulated
check "a matrix unit is for bf16: auto takes it, $(said)" test "$(weights emulated_auto)" = "$(weights tiles)"

conclude
