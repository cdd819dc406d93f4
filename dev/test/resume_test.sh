#!/usr/bin/env bash
# A run that is killed with SIGKILL at random moments and resumed must end with the same bits as one
# that was left alone: weights, moments, and every metric that is not a time. Also: the time limit ends
# with exit code 3 and a checkpoint; a loss that is not finite ends with 1 and none. Signals: signals_test.sh.
#
# KILLS (default 12) random kills; `KILLS=100 dev/test/resume_test.sh` for a long one.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}" "${KILLS:=12}" "${SANITIZE:=0}"
[ "$SANITIZE" = 1 ] && KILLS=4
program=("$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$BUILD/train_gpt_cpu")

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${program[@]}" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/tokenizer.json" >"$work/out" 2>&1 &&
    "${program[@]}" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.1 --out="$work/s" >>"$work/out" 2>&1
check "preparing: $(cat "$work/out")" test -f "$work/s_val_00000.bin"

steps=36
command=()
train() { # train OUT OPTION...: runs it, small steps and many checkpoints; start: the same in the background, as $!
    set_command "$@"
    "${command[@]}" >"$work/out" 2>"$work/err"
}
start() {
    set_command "$@"
    "${command[@]}" >"$work/out" 2>"$work/err" & # the program itself, not a shell around it, is what gets killed
}
set_command() {
    local out=$1
    shift
    command=("${program[@]}" train --model=qwen3-nano --train_data="$work/s_train_*.bin" --val_data="$work/s_val_*.bin" --tokenizer="$work/tokenizer.json"
        --out="$out" --batch_size=2 --seq_len=48 --total_batch_tokens=192 --steps="$steps" --lr=3e-3 --warmup_steps=5 --val_every=7 --val_tokens=480
        --checkpoint_every=4 --keep_checkpoints=2 --threads=2 "$@")
}
said() { cat "$work/err" "$work/out" | tail -n 1; }
bits() { # what a run must reproduce
    local last
    last=$(printf '%s/step_%08d' "$1" $steps)
    cat "$last/model.safetensors" "$last"/optimizer-*.safetensors "$last/config.json" | sha256sum
    sed -E 's/"(step_ms|tokens_per_s|mfu)": [^,}]*//g' "$1/metrics.jsonl" | sha256sum
}

begin=$EPOCHREALTIME
train "$work/whole" --resume=auto
check "the undisturbed run: exit code $? $(said)" test -d "$work/whole/step_000000$steps"
whole=$(bits "$work/whole")
seconds=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')

# Kills at moments spread over the length of a run: while it starts, steps, writes checkpoints, removes old ones.
kills=0
for ((round = 0; round < 40 * KILLS; round++)); do
    start "$work/killed" --resume=auto
    pid=$!
    if [ $kills -lt "$KILLS" ]; then
        sleep "$(awk -v r=$RANDOM -v s="$seconds" 'BEGIN { printf "%.3f", r / 32768 * s }')"
        if kill -9 $pid 2>/dev/null; then kills=$((kills + 1)); fi
        if wait $pid 2>/dev/null; then # it came to its end before: it is looked at, and killed from the start again
            check "killed $kills times and resumed: $(said)" test "$(bits "$work/killed")" = "$whole"
            rm -rf "$work/killed"
        fi
        for folder in "$work"/killed/step_*[0-9]; do
            if [ -d "$folder" ] && [ ! -f "$folder/run.json" ]; then check "$folder is there and not whole" false; fi
        done
    else
        wait $pid
        break
    fi
done
check "killed $kills times and resumed: $(said)" test "$(bits "$work/killed")" = "$whole"
check "metrics after the kills hold one line a step" test "$(wc -l <"$work/killed/metrics.jsonl")" -eq $steps

# The same run again has nothing to do, and says so at once: no model is made, nothing is written.
before=$(sha256sum <"$work/killed/run.log")
train "$work/killed" --resume=auto
check "resuming a finished run ends with 0, not $?" test $? -eq 0
check "it says that it is finished: $(said)" grep -q finished "$work/out"
check "it says nothing else" test "$(wc -l <"$work/out")" -eq 1
check "the log is as it was" test "$(sha256sum <"$work/killed/run.log")" = "$before"
check "nothing changed" test "$(bits "$work/killed")" = "$whole"

# A file that stops the run, and is gone afterwards.
mkdir "$work/file" && touch "$work/file/stop"
train "$work/file" --checkpoint_every=0
check "the file stop ends with 3" test $? -eq 3
check "it is removed after the checkpoint: $(ls "$work/file")" test ! -e "$work/file/stop" -a -d "$work/file/step_00000001"
train "$work/file" --checkpoint_every=0 --resume=auto
check "after the file: exit code $?" test "$(bits "$work/file")" = "$whole"

# The time limit.
train "$work/late" --max_minutes=0.000001
check "--max_minutes ends with 3" test $? -eq 3
check "--max_minutes leaves a checkpoint" test -d "$work/late/step_00000001"

# Micro-batches of other sizes see the same sequences: the same loss but for rounding.
train "$work/split" --batch_size=4
a=$(jq -r .loss <(tail -n 1 "$work/whole/metrics.jsonl")) b=$(jq -r .loss <(tail -n 1 "$work/split/metrics.jsonl"))
check "batch_size 2 and 4 give losses $a and $b, expected equal to 1e-4" awk -v a="$a" -v b="$b" 'BEGIN { exit !(a > 0 && (a - b) / a < 1e-4 && (b - a) / a < 1e-4) }'

# A learning rate that blows up: exit 1, one line that names step and tensor, earlier checkpoints good.
train "$work/blown" --lr=10 --grad_clip=0 --steps=200 --weight_decay=10 --warmup_steps=40 --adam_eps=1e-30
code=$?
if [ $code -eq 1 ]; then
    check "the message names step and tensor: $(cat "$work/err")" grep -Eq '^error: step [0-9]+: loss .*(activation|gradient)' "$work/err"
    check "the message is one line" test "$(wc -l <"$work/err")" -eq 1
    for folder in "$work"/blown/step_*; do
        check "$folder is still good" "${program[@]}" eval --model="$folder" --data="$work/s_val_*.bin" --seq_len=48 --val_tokens=96 >/dev/null
    done
fi
check "lr=10 without clipping stops the run, exit code $code" test $code -eq 1

printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
