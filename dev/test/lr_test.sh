#!/usr/bin/env bash
# train --lr=auto: the test before the first step chooses a number and leaves no other trace. A run with it ends with the
# same bits as one that was given that number: new and from a folder, with AdamW and Muon, accumulated, by a budget of
# time, on several ranks, in the CUDA program (emulated), killed and resumed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
program=("$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$BUILD/train_gpt_cpu")
cpu=("${program[@]}")

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive LLMC_CACHE=$work/cache

"${cpu[@]}" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/tokenizer.json" >"$work/out" 2>&1 &&
    "${cpu[@]}" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.1 --out="$work/s" >>"$work/out" 2>&1
check "preparing: $(cat "$work/out")" test -f "$work/s_val_00000.bin"

set_command() { # set_command OUT OPTION...
    command=("${program[@]}" train --model=qwen3-nano --train_data="$work/s_train_*.bin" --val_data="$work/s_val_*.bin" --tokenizer="$work/tokenizer.json"
        --out="$work/$1" --batch_size=2 --seq_len=48 --total_batch_tokens=384 --steps=12 --warmup_fraction=0.3 --val_every=6 --val_tokens=480
        --checkpoint_every=4 --threads=1 --progress=off "${@:2}")
}
train() {
    set_command "$@"
    "${command[@]}" >"$work/out" 2>"$work/err"
}
said() { cat "$work/err" "$work/out" | tail -n 1; }
bits() { # what both must have: numbers, and metrics but for times and the test
    cat "$work/$1/step_00000012/model.safetensors" "$work/$1"/step_00000012/optimizer-*.safetensors | sha256sum
    jq -c 'del(.step_ms, .tokens_per_s, .mfu, .lr_test)' "$work/$1/metrics.jsonl" | sha256sum
}
chosen() { jq .lr "$work/$1/step_00000012/run.json"; }
same() { # same NAME OPTION...: with auto, and with the number that it chose
    train "$1_auto" --lr=auto "${@:2}"
    check "$1: exit code $?, $(said)" test -d "$work/$1_auto/step_00000012"
    train "$1_number" "--lr=$(chosen "$1_auto")" "${@:2}"
    check "$1: auto and its number $(chosen "$1_auto") give other bits: $(said)" test "$(bits "$1_auto")" = "$(bits "$1_number")"
}

same adamw
same muon --optimizer=muon --batch_size=4
same apart --optimizer=normuon --muon_lr=6e-3
curve() { jq -c .lr_test.curve "$work/$1/metrics.jsonl" | head -n 1; }
check "with --muon_lr the test is that of --lr alone: $(curve apart_auto)" jq -en "$(curve muon_auto)[8][1] - $(curve apart_auto)[8][1] > 0.01"
check "it is said: $(grep -e --lr=auto "$work/adamw_auto/run.log")" grep -Eq "^--lr=auto: $(chosen adamw_auto); in a test of [0-9]+ steps .* times 1 for the optimizer and 2.00 for the length; .* is undone" "$work/adamw_auto/run.log"
check "and the schedule is drawn once, behind it" test "$(grep -oE '^(learning rate:|--lr=auto:)' "$work/adamw_auto/run.log" | xargs)" = '--lr=auto: learning rate:'
# shellcheck disable=SC2016  # $lr is jq's
check "the metrics: a line a step, and the curve in the first" jq -es --argjson lr "$(chosen adamw_auto)" \
    'length == 12 and (.[1:] | all(has("lr_test") | not)) and (.[0].lr_test | .lr == $lr and .start > .curve[30][1] and .curve[0][0] == 1e-5 and (.curve | length > 25 and all(length == 2)))' "$work/adamw_auto/metrics.jsonl"
check "the options are recorded as they were given" jq -e '.options.lr == "auto"' "$work/adamw_auto/step_00000004/run.json"
check "a run with a number records none" jq -e '.lr == 0 and .options.lr > 0' "$work/adamw_number/step_00000004/run.json"

# Other text for a model that has learnt something.
train base --lr=6e-3 --steps=150
tuning=(--model="$work/base/step_00000150" --train_data="$work/s_val_*.bin" --val_data="$work/s_train_*.bin" --total_batch_tokens=96)
same tuned "${tuning[@]}"
check "a model that has learnt gets less, $(chosen tuned_auto), from 1e-6 on" jq -en "$(chosen tuned_auto) < $(chosen adamw_auto) and $(jq -s '.[0].lr_test.curve[0][0]' "$work/tuned_auto/metrics.jsonl") == 1e-6"

# Killed in the test, and behind its first checkpoint.
for line in '^new weights' '^checkpoint '; do
    set_command killed --lr=auto --optimizer=muon --batch_size=4 --resume=auto
    "${command[@]}" >"$work/out" 2>"$work/err" &
    pid=$!
    until grep -qs "$line" "$work/killed/run.log" || ! kill -0 $pid 2>/dev/null; do sleep 0.002; done
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
done
rm -rf "$work"/killed/step_00000008 "$work"/killed/step_00000012 # if it was too late
train killed --lr=auto --optimizer=muon --batch_size=4 --resume=auto
check "resumed: $(said)" grep -q "^--lr=auto: $(chosen muon_auto), as it was chosen" "$work/out"
check "killed and resumed, it has other bits" test "$(bits killed)" = "$(bits muon_auto)"
check "and another curve" test "$(curve killed)" = "$(curve muon_auto)"

# A budget of time: the test is not of it. The record says what the steps are.
mkdir "$work/timed_auto" "$work/timed_number"
for ((i = 0; i < 12; i++)); do
    printf '{"position": %d, "step": %d, "seconds": %s}\n' $((8 * i)) $((i + 1)) "$(awk -v x=$i 'BEGIN { printf "%.17g", 600 * x / 11 }')"
done | tee "$work/timed_auto/time_budget.jsonl" >"$work/timed_number/time_budget.jsonl"
same timed --time_budget=10 --resume=auto
check "by time: half of what 12 steps get, $(chosen timed_auto) of $(chosen adamw_auto)" jq -en "$(chosen adamw_auto) / $(chosen timed_auto) | . > 1.9 and . < 2.1"
rm -rf "$work/timed_auto/step_00000012"
train timed_auto --lr=auto --time_budget=10 --resume=auto
check "resumed by time, it has other bits: $(said)" test "$(bits timed_auto)" = "$(bits timed_number)"
train brief --lr=auto --time_budget=1e-6
check "no time for it: exit code $?, $(said)" grep -q '^error: --lr=auto: its test would take .* more than a quarter of --time_budget' "$work/err"

# What cannot be chosen by, and who cannot choose.
refused() { # refused REGEX COMMAND...
    "${@:2}" >"$work/out" 2>"$work/err"
    local code=$?
    check "exit code $code, expected 1 and $1: $(said)" test $code -eq 1 -a "$(grep -cE "^error: $1" "$work/err")" -eq 1
}
set_command adamw_number --lr=auto --resume=auto --steps=20
refused '--lr=auto chooses before the first step, and .*step_00000012 stands at step 12 .*give --lr one' "${command[@]}"
set_command lost "${tuning[@]}" --lr=auto --optimizer=muon --muon_lr=10
refused '--lr=auto: in a test with learning rates from 1e-06 to .* the loss fell by no more than .*; give --lr a number' "${command[@]}"
refused '--lr=auto chooses for the many steps of train, and dump makes one: give --lr a number' \
    "${program[@]}" dump --model=llama-nano --data="$work/s_val_00000.bin" --out="$work/dump.safetensors" --lr=auto
refused '--lr is not an option of info' "${program[@]}" info --lr=auto
refused '--lr=Auto: expected a number from 0 to 10 or the word auto' "${program[@]}" train --lr=Auto
set_command alone --lr=1e-3 --muon_lr=1e-2
refused "--muon_lr=0.01 has no effect without --optimizer=muon or normuon: give both, or neither" "${command[@]}"
for given in --muon_scale=original --muon_momentum=0.9 --muon_nesterov=off --muon_steps=3 --muon_polynomials=polar --muon_cautious=on \
    '--optimizer=muon --muon_beta2=0.9' --decay_fraction=0.5 '--lr_schedule=constant --final_lr_fraction=0.5' --sample_prompt=Die --spike_limit=3; do
    read -ra words <<<"$given"
    set_command alone --lr=1e-3 "${words[@]}"
    refused "${words[-1]} has no effect without .*: give both, or neither" "${command[@]}"
done
printf 'lr = auto # and not a number\n' >"$work/config"
check "auto in a config file" test "$("${program[@]}" train --config="$work/config" --print_options=lr)" = auto
# Stopped in it.
mkdir "$work/stopped" && touch "$work/stopped/stop"
train stopped --lr=auto
code=$?
check "stopped in the test with 3, not $code: $(said)" test $code -eq 3 -a "$(grep -c '^stopped by the file .* in the test of --lr=auto' "$work/out")" -eq 1
train stopped --lr=auto # there is no step and no checkpoint that would make it another run
check "and begun again: exit code $?, $(said)" test "$(bits stopped)" = "$(bits adamw_auto)"

why=$(no_ranks)
if [ -n "$why" ]; then skip 'lr_test.sh, several ranks' "$why"; else
    program=(mpirun --oversubscribe --bind-to none)
    program+=(-n 4 "${cpu[@]}")
    same ranks --batch_size=1 --optimizer=muon
    check "4 ranks choose $(chosen ranks_auto), one $(chosen muon_auto)" test "$(chosen ranks_auto)" = "$(chosen muon_auto)"
fi
if [ ! -x "$BUILD/train_gpt_emu_fp32" ]; then skip 'lr_test.sh, the CUDA program' 'make emu builds it'; else
    program=("$BUILD/train_gpt_emu_fp32")
    small=(--batch_size=2 --seq_len=16 --total_batch_tokens=64 --val_every=0)
    same emulated "${small[@]}"
    cuda=$(chosen emulated_auto)
    program=("${cpu[@]}")
    train small --lr=auto "${small[@]}"
    check "the CUDA program chooses $cuda, the CPU program $(chosen small)" test "$cuda" = "$(chosen small)"
fi

conclude
