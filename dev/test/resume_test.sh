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
    for folder in "$work"/blown/step_*; do # the last may hold weights that are finite, and too large for a forward pass
        "${program[@]}" eval --model="$folder" --data="$work/s_val_*.bin" --seq_len=48 --val_tokens=96 >"$work/out" 2>"$work/err"
        code=$?
        if [ $code -eq 1 ]; then check "eval says what is not finite: $(cat "$work/err")" grep -Eq '^error: the loss of --data is .*, first at token [0-9]+ of sequence [0-9]+,' "$work/err"
        else check "$folder is still good: exit code $code" jq -e '.loss > 0' "$work/out"; fi
    done
    code=1
fi
check "lr=10 without clipping stops the run, exit code $code" test $code -eq 1

# An update that makes weights of finite numbers infinite, by options inside their bounds: no checkpoint holds them.
train "$work/spoilt" --lr=10 --weight_decay=10 --lr_schedule=constant --warmup_steps=0 --steps=60
code=$?
check "weights that overflow end the run with 1, not $code: $(said)" test $code -eq 1
check "the message names step and tensor: $(cat "$work/err")" grep -Eq '^error: step [0-9]+: loss [0-9.e+]+, gradient norm [0-9.e+]+, learning rate 10: after the update [a-z0-9_. ]+ is not finite; .*no checkpoint' "$work/err"
check "the message is one line" test "$(wc -l <"$work/err")" -eq 1
made=$(jq -es 'length' "$work/spoilt/metrics.jsonl")
check "metrics.jsonl is JSON up to the step before: $made lines" grep -q "^error: step $((made + 1)):" "$work/err"
for folder in "$work"/spoilt/step_*; do
    check "$folder is still good" "${program[@]}" eval --model="$folder" --data="$work/s_val_*.bin" --seq_len=48 --val_tokens=96
done

# The last validation is over everything, as eval does it; the others are as long as --val_tokens says.
"${program[@]}" eval --model="$work/whole/step_000000$steps" --data="$work/s_val_*.bin" --seq_len=48 --batch_size=2 --val_tokens=0 >"$work/out"
# shellcheck disable=SC2016  # $e is jq's
check "the last validation is that of eval: $(tail -n 1 "$work/whole/metrics.jsonl")" \
    jq -es --slurpfile e "$work/out" '(.[-1] | .val_loss == $e[0].loss and .val_tokens == $e[0].tokens) and all(.[:-1][] | select(.val_loss); .val_tokens == 480)' "$work/whole/metrics.jsonl"
check "the log says so" grep -Eq "^step $steps: .* over all $(jq .tokens "$work/out") tokens" "$work/whole/run.log"
train "$work/part" --final_val_tokens=100 --steps=3 --warmup_steps=0
check "--final_val_tokens" jq -es '.[-1].val_tokens == 96' "$work/part/metrics.jsonl"
# A reason to stop that comes while it goes on, here on the first look for it.
mkdir "$work/unmeasured" && touch "$work/unmeasured/stop"
train "$work/unmeasured" --steps=1 --warmup_steps=0
code=$?
check "stopped in the last validation with 3, not $code: $(said)" test $code -eq 3
check "the model is whole, its loss not known" jq -es 'length == 1 and (.[0] | has("val_loss") | not)' "$work/unmeasured/metrics.jsonl"
check "the log says so" grep -q 'in the last validation: the model is whole' "$work/unmeasured/run.log"
train "$work/unmeasured" --steps=1 --warmup_steps=0 --resume=auto
check "started again, it is finished: exit code $?, $(said)" grep -q '^finished: ' "$work/out"

# A budget of time. Its record says what a run's steps are, on a machine of any speed: here of 36 steps, which begin
# slowly, and of 10 minutes.
timed=(--time_budget=10 --steps=100000 --warmup_steps=0 --warmup_fraction=0.1 --resume=auto)
mkdir "$work/timed" "$work/timed_parts" "$work/timed_copy"
for ((i = 0; i < steps; i++)); do
    printf '{"position": %d, "step": %d, "seconds": %s}\n' $((4 * i)) $((i + 1)) "$(awk -v x=$i -v n=$((steps - 1)) 'BEGIN { printf "%.17g", 600 * x * x / n / n }')"
done | tee "$work/timed/time_budget.jsonl" >"$work/timed_parts/time_budget.jsonl"
train "$work/timed" "${timed[@]}"
check "a run by its record: exit code $? $(said)" test -d "$work/timed/step_000000$steps"
check "warm-up and cosine go by the time" jq -es 'def near(a): (. - a | fabs) < 1e-9; (.[5].lr | near(3e-3 * (25 / 1225) / 0.1)) and (.[20].time_share | . > 0.326 and . < 0.327) and (.[-1].lr | near(3e-4))' "$work/timed/metrics.jsonl"
for lines in 9 21 30; do # killed when so many steps were made
    start "$work/timed_parts" "${timed[@]}"
    pid=$!
    for ((i = 0; i < 1200; i++)); do
        if [ -f "$work/timed_parts/metrics.jsonl" ] && [ "$(wc -l <"$work/timed_parts/metrics.jsonl")" -ge $lines ]; then break; fi
        kill -0 $pid 2>/dev/null || break
        sleep 0.01
    done
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
done
train "$work/timed_parts" "${timed[@]}"
check "killed and resumed by the record: $(said)" test "$(bits "$work/timed_parts")" = "$(bits "$work/timed")"
train "$work/timed" "${timed[@]}"
check "resuming it when its time is over: exit code $?, $(said)" grep -q '^finished: .* is the last step in 10 minutes' "$work/out"

# By the clock, up to a kill; then on by the record and the clock again. The record of both gives the same run.
clock=(--time_budget=1000 --warmup_steps=0 --warmup_fraction=0.1 --resume=auto)
start "$work/clock" "${clock[@]}"
pid=$!
for ((i = 0; i < 1200; i++)); do
    if [ -f "$work/clock/metrics.jsonl" ] && [ "$(wc -l <"$work/clock/metrics.jsonl")" -ge 10 ]; then break; fi
    sleep 0.01
done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
train "$work/clock" "${clock[@]}"
cp "$work/clock/time_budget.jsonl" "$work/timed_copy/"
check "time is counted: $(said)" jq -es '.[0].seconds < .[1].seconds and .[-1].seconds > 0 and all(.[]; .seconds < 1000) and ([.[].position] == ([range(length)] | map(. * 4)))' "$work/timed_copy/time_budget.jsonl"
train "$work/timed_copy" "${clock[@]}"
check "a copy of the record gives the same bits: $(said)" test "$(bits "$work/timed_copy")" = "$(bits "$work/clock")"
train "$work/short" --time_budget=0.0001 --steps=1000000 --warmup_steps=0 # 6 ms: one step or some
check "a short budget ends by the clock: exit code $? $(said)" jq -es '.[-1] | .time_share == 1 and (.lr - 3e-4 | fabs) < 1e-12 and .val_tokens > 480' "$work/short/metrics.jsonl"
check "a budget and warm-up steps" bash -c '! "$@" 2>/dev/null' - "${program[@]}" train --time_budget=1 --warmup_steps=5
printf 'nonsense\n' >"$work/clock/time_budget.jsonl"
train "$work/clock" "${clock[@]}" --steps=60
check "a record that is none: exit code $?, $(cat "$work/err")" grep -q '^error: .*time_budget.jsonl:1: expected' "$work/err"

printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
