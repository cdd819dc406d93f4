#!/usr/bin/env bash
# --train_data=A:0.7,B:0.3 through the program: a run that is stopped and resumed ends with the bits of one that was not;
# several ranks read what one reads; one source, with a weight or without, gives the same bits; metrics.jsonl, run.json
# and run.log tell how often each source was seen; what is wrong is one error.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
# shellcheck disable=SC2206  # a command with its options
program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() { "${program[@]}" "$@" >"$work/out" 2>"$work/err" || { echo "error: exit $? of $*: $(head -n 2 "$work/err")" && false; }; }
refused() { # refused PATTERN COMMAND...: exit code 1 and one line that matches
    local pattern=$1 code
    shift
    "$@" >"$work/out" 2>"$work/err"
    code=$?
    { [ $code -eq 1 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && grep -Eq -- "$pattern" "$work/err"; } || { echo "error: exit $code: $(cat "$work/err")" && false; }
}
sample=dev/test/sample_de.txt
head -c 60000 $sample >"$work/a.txt"
tail -c +60001 $sample | head -c 12000 >"$work/b.txt"
run bpe --input=$sample --vocab_size=384 --out="$work/t.json"
run bpe --input="$work/b.txt" --vocab_size=384 --out="$work/other.json"
for name in a b; do
    check "tokenize $name" run tokenize --tokenizer="$work/t.json" --input="$work/$name.txt" --val_fraction=0.1 --out="$work/$name"
done
check "tokenize c" run tokenize --tokenizer="$work/other.json" --input="$work/b.txt" --val_fraction=0 --out="$work/c"
options=(--model=qwen3-nano --val_data="$work/a_val_*.bin" --tokenizer="$work/t.json" --seq_len=32 --steps=20 --lr=3e-3 --warmup_steps=3
    --total_batch_tokens=256 --val_every=0 --checkpoint_every=7 --keep_checkpoints=0 --threads=1 --progress=off)
mixed="$work/a_train_*.bin:0.7,$work/b_train_*.bin:0.3"
train() { # train OUT DATA OPTION...
    run train --out="$work/$1" --train_data="$2" "${options[@]}" --batch_size=2 "${@:3}"
}
bits() {
    cat "$work/$1/step_00000020/model.safetensors" "$work/$1"/step_00000020/optimizer-*.safetensors
    sed -E 's/"(step_ms|tokens_per_s|mfu)": [^,}]*//g' "$work/$1/metrics.jsonl"
}
same_bits() { cmp <(bits "$1") <(bits "$2"); }

check "a mixture" train whole "$mixed"
check "the same again" train again "$mixed"
check "the same again: other bits" same_bits whole again
check "resumed: the run up to a checkpoint" train resumed "$mixed"
rm -rf "$work/resumed/step_00000014" "$work/resumed/step_00000020"
check "resumed" train resumed "$mixed" --resume=auto
check "resumed: it did not go on at step 7" grep -q 'resumed from .*step_00000007' "$work/resumed/run.log"
check "resumed: other bits" same_bits whole resumed
# 20 steps of 8 sequences: 112 of the first source and 48 of the second.
check "metrics.jsonl" test "$(tail -n 1 "$work/whole/metrics.jsonl" | jq -c '[.position, (.epochs | length)]')" = '[160,2]'
jq -e '.mix | map(.seen) == [112, 48] and (.[0].weight == 0.7) and all(.seen / .sequences - .epoch | fabs < 1e-8)' "$work/whole/step_00000020/run.json" >"$work/out" 2>&1
code=$?
check "run.json: $(jq -c .mix "$work/whole/step_00000020/run.json")" test $code -eq 0
check "run.log, before: $(grep '% from' "$work/whole/run.log")" grep -Eq '^ +70% from .*: 112 sequences of [0-9]+ to be seen, ' "$work/whole/run.log"
check "run.log, behind" grep -Eq '^ +30% from .*: 48 sequences of [0-9]+ seen, [0-9]\.[0-9]* epochs' "$work/whole/run.log"

check "one source" train plain "$work/a_train_*.bin"
check "one source with a weight" train one "$work/a_train_*.bin:1"
check "one source with a weight: other bits" same_bits plain one
check "one source: epochs of sources in metrics.jsonl" test "$(grep -c epochs "$work/plain/metrics.jsonl")" = 0

if [ -n "$(no_ranks)" ]; then skip 'mix_test.sh, several ranks' "$(no_ranks)"; else
    for ranks in 2 4; do
        mpirun --oversubscribe -n $ranks "${program[@]}" train --out="$work/r$ranks" --train_data="$mixed" "${options[@]}" --batch_size=1 >"$work/out" 2>"$work/err"
        check "$ranks ranks: $(head -n 1 "$work/err")" test -d "$work/r$ranks/step_00000020"
        # Sums over ranks are rounded in another order: as resume_test.sh and ranks_test.sh, the first step alone is alike.
        head -n 1 "$work/r$ranks/metrics.jsonl" >"$work/line" && mkdir -p "$work/f$ranks" "$work/f1" && mv "$work/line" "$work/f$ranks/metrics.jsonl"
        head -n 1 "$work/whole/metrics.jsonl" >"$work/f1/metrics.jsonl"
        check "$ranks ranks, loss of the first step" close f1 "f$ranks" loss 1e-6
        check "$ranks ranks, grad_norm of the first step" close f1 "f$ranks" grad_norm 1e-5
        check "$ranks ranks, loss" close whole "r$ranks" loss 1e-3
        cmp <(jq -c '[.position, .epochs]' "$work/whole/metrics.jsonl") <(jq -c '[.position, .epochs]' "$work/r$ranks/metrics.jsonl")
        check "$ranks ranks, epochs" test $? -eq 0
    done
fi

try=("${program[@]}" train --out="$work/bad" "${options[@]}" --batch_size=2)
check "weights that sum to something else" refused 'sum to 0.8, expected 1' "${try[@]}" --train_data="$work/a_train_*.bin:0.5,$work/b_train_*.bin:0.3"
check "a weight that is none" refused 'weight "0,5"|has the weight "' "${try[@]}" --train_data="$work/a_train_*.bin:7,$work/b_train_*.bin:3"
check "another tokenizer" refused 'another tokenizer' "${try[@]}" --train_data="$work/a_train_*.bin:0.5,$work/c_train_*.bin:0.5"
check "a source that is too short" refused 'not enough data in the source' "${try[@]}" --seq_len=7000 --total_batch_tokens=14000 --train_data="$work/a_train_*.bin:0.5,$work/b_train_*.bin:0.5"
check "a source that is not there" refused 'no such file' "${try[@]}" --train_data="$work/a_train_*.bin:0.5,$work/x_*.bin:0.5"
check "resumed with other weights" refused 'another training data' "${try[@]}" --out="$work/whole" --resume=auto --train_data="$work/a_train_*.bin:0.6,$work/b_train_*.bin:0.4"
conclude
