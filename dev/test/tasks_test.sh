#!/usr/bin/env bash
# eval --tasks: every log likelihood, choice, accuracy and standard error against those of lm-evaluation-harness on a
# small model (dev/test/fixtures/tasks, whose README says how they were made), with and without a begin token; the same
# bits for any batch, threads and ranks; the emulated CUDA program against the CPU's; train --eval_tasks; every kind of bad line.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
# shellcheck disable=SC2206  # a command with its options
program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
build=$PWD/$BUILD tasks=$PWD/dev/test/fixtures/tasks model=$PWD/dev/test/fixtures/models/qwen3-tied
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=2 LLMC_CACHE=$work/cache
all=$tasks/choices.jsonl,$tasks/pairs.jsonl,$tasks/continuation.jsonl,$tasks/text.jsonl
score() { "${program[@]}" eval --precision=fp32 --model="$1" --tasks="$all" --truncate --out="$2" "${@:3}" >out 2>err; }

# ------------------------------------------------------------------ the harness's figures

# What differs from EXPECTED in the results (out) and the items of a run, a line each. Log likelihoods are sums of 1 to 64
# float losses of about 6: 2e-5 of the sum is what two orders of summation leave of float's 24 bits.
differences() { # differences EXPECTED ITEMS TOLERANCE
    # shellcheck disable=SC2016  # a program of jq
    jq -rn --slurpfile want "$1" --slurpfile got "$2" --slurpfile results out --argjson off "$3" '
        def far($a; $b): ($a - $b | fabs) > $off * ([1, ($a | fabs)] | max);
        def metrics($what; $want; $got): $want | to_entries[]
            | select(($got[.key] | type) != "number" or (if .key | test("acc") then (.value - $got[.key] | fabs) > 1e-6 else far(.value; $got[.key]) end))
            | "\($what): \(.key) is \($got[.key]), expected \(.value)";
        $want[0] | to_entries[] | .key as $task | .value as $w
        | ($results | map(select(.task == $task))[0]) as $r | ($got | map(select(.task == $task))) as $items
        | metrics($task; $w.results; $r),
          ($w.groups | to_entries[] | metrics("\($task), \(.key)"; .value; $r.groups[.key])),
          (if ($items | length) != ($w.items | length) then "\($task): \($items | length) items" else empty end),
          (range($w.items | length) as $i | $w.items[$i] as $x | $items[$i] as $y
            | (if $task == "text" then [$y.loglikelihoods | add] else $y.loglikelihoods end) as $lls | "\($task), line \($x.line): " as $at
            | (if $x.line != $y.line or ($lls | length) != ($x.loglikelihoods | length) then $at + "other requests" else
                (range($lls | length) as $j | select(far($x.loglikelihoods[$j]; $lls[$j])) | $at + "\($lls[$j]), expected \($x.loglikelihoods[$j])") end),
              (if $x.greedy != null and $x.greedy != $y.greedy then $at + "greedy is \($y.greedy)" else empty end),
              (select($y.answer != null) | {acc: "choice", acc_norm: "choice_norm", acc_bytes: "choice_bytes"} | to_entries[]
                | select($x[.key] != null and ($x[.key] == 1) != ($y[.value] == $y.answer)) | $at + "\(.value) is \($y[.value])"))'
}
equal() { # equal WHAT EXPECTED ITEMS TOLERANCE
    differences "$2" "$3" "$4" >said 2>&1
    check "$1: $(wc -l <said) differences, $(head -n 3 said)" test ! -s said
}
score "$model" items.jsonl
check "eval: $(head -n 2 err)" test "$(wc -l <out)" -eq 4
cp out results.jsonl
equal 'as the harness' "$tasks/plain.json" items.jsonl 2e-5
check "the fixture's items: $(wc -l <items.jsonl)" test "$(wc -l <items.jsonl)" -ge 100
check 'some contexts were cut' jq -es '.[0].truncated > 3' out
check 'and some continuations are the likeliest' jq -es 'map(select(.greedy)) | length > 3' items.jsonl
# The comparison finds a difference, of a likelihood and of a choice.
sed '3s/"loglikelihoods": \[-/&1/' items.jsonl >changed.jsonl
differences "$tasks/plain.json" changed.jsonl 2e-5 >said
check 'a changed log likelihood is found' test "$(wc -l <said)" -eq 1
sed 's/"choice_norm": 0/"choice_norm": 1/' items.jsonl >changed.jsonl
differences "$tasks/plain.json" changed.jsonl 2e-5 >said
check 'changed choices are found' test "$(wc -l <said)" -gt 3

# A tokenizer that puts a begin token before every text.
cp -r "$model" bos
# shellcheck disable=SC2016  # a program of jq
jq '(.added_tokens[] | select(.content == "<|endoftext|>").id) as $id | .post_processor = {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [$id], "tokens": ["<|endoftext|>"]}}}' "$model/tokenizer.json" >bos/tokenizer.json
score bos bos.jsonl
equal 'with a begin token' "$tasks/bos.json" bos.jsonl 2e-5
differences "$tasks/bos.json" items.jsonl 2e-5 >said
check 'which the begin token changes' test "$(wc -l <said)" -gt 50

# Documents: ratios and their intervals, by domain, from the items and the texts alone.
score "$model" items.jsonl
# shellcheck disable=SC2016  # a program of jq
jq -rn --slurpfile items items.jsonl --slurpfile texts "$tasks/text.jsonl" --slurpfile results out '
    def interval($d; $of): ($d | length) as $n | ($d | map(.nats) | add) as $nats | ($d | map(.[$of]) | add) as $size
        | (1.959964 * ($n / ($n - 1) * ($d | map((.nats - $nats / $size * .[$of]) | . * .) | add) | sqrt) / $size) as $side
        | [$nats / $size, $nats / $size - $side, $nats / $size + $side] | map(. / (2 | log));
    def far($a; $b): ($a - $b | fabs) > 1e-6 * ($a | fabs);
    [$items | map(select(.task == "text")) | . as $i | range(length) as $k
        | {nats: (0 - ($i[$k].loglikelihoods | add)), bytes: ($texts[$k].text | utf8bytelength), chars: ($texts[$k].text | length), group: $texts[$k].group, said: $i[$k]}] as $d
    | ($results | map(select(.task == "text"))[0]) as $r
    | ($d[] | select(far(.nats / .bytes / (2 | log); .said.bits_per_byte) or far(.nats / .chars / (2 | log); .said.bits_per_char)) | "line \(.said.line): \(.said)"),
      ([[$d, $r], [($d | map(select(.group == "Brief"))), $r.groups.Brief], [($d | map(select(.group == "Buch"))), $r.groups.Buch]][] as [$some, $said]
        | {byte: "bytes", char: "chars"} | to_entries[] | ("bits_per_" + .key) as $name | interval($some; .value) as $want
        | ["", "_low", "_high"] | to_entries[] | select(far($want[.key]; $said[$name + .value])) | "\($name)\(.value): \($said[$name + .value]), expected \($want[.key])"),
      (if $r.tokens > 0 and $r.bytes == ($d | map(.bytes) | add) and $r.chars == ($d | map(.chars) | add) and far(($r.loss | exp); $r.perplexity) == false then empty else "sums: \($r)" end)' >said 2>&1
check "documents: $(head -n 3 said)" test ! -s said

# ------------------------------------------------------------------ batches, threads, ranks, the CUDA program

for how in '--batch_size=1' '--batch_size=3 --threads=1' '--batch_size=64 --threads=3'; do
    # shellcheck disable=SC2086
    score "$model" other.jsonl $how
    check "eval $how: other bits" cmp items.jsonl other.jsonl
    check "eval $how: other results" cmp results.jsonl out
done
why=$(no_ranks)
if [ -n "$why" ]; then skip 'tasks_test.sh, several ranks' "$why"; else
    launch=(mpirun --oversubscribe --bind-to none)
    for ranks in 2 3; do
        OMP_NUM_THREADS=1 "${launch[@]}" -n $ranks "$build/train_gpt_cpu" eval --precision=fp32 --model="$model" --tasks="$all" --truncate --out=other.jsonl --batch_size=5 >out 2>err
        check "$ranks ranks: other bits; $(head -n 2 err)" cmp items.jsonl other.jsonl
        check "$ranks ranks: other results" cmp results.jsonl out
    done
fi
if [ -n "$RUNNER" ] || ! [ -x "$build/train_gpt_emu_fp32" ]; then skip 'tasks_test.sh, the emulated CUDA program' 'it was not built'; else
    "$build/train_gpt_emu_fp32" eval --model="$model" --tasks="$all" --truncate --out=other.jsonl --batch_size=16 >out 2>err
    equal "the CUDA program; $(head -n 2 err)" "$tasks/plain.json" other.jsonl 2e-5
    CUDA_EMU_MEMORY=139000000 "$build/train_gpt_emu_fp32" eval --model="$model" --tasks="$all" --truncate --batch_size=64 >out 2>err
    check "a device with little memory: $(cat err)" grep -Eq "^error: eval needs [0-9.]+ GiB of the device's memory \(.*keys and values of what tasks begin with [0-9.]+\), and .* may take [0-9.]+ GiB: take a smaller --batch_size" err
    check 'the CUDA program in bf16' "$build/train_gpt_emu" eval --model="$model" --tasks="$tasks/pairs.jsonl" --batch_size=16
fi

# ------------------------------------------------------------------ what is printed

"${program[@]}" eval --model="$model" --tasks="$all" --truncate --table >out 2>err
check "the table: $(head -n 3 out)" grep -Eq '^  größer +12 +[0-9.]+% \+- *[0-9.]+' out
check 'of documents' grep -Eq '^text +13 +[0-9.]+  [0-9.]+ \+-[0-9.]+' out
"${program[@]}" tokenize --tokenizer="$model/tokenizer.json" --input="$tasks/../../sample_de.txt" --val_fraction=0.5 --out=s >out 2>&1
"${program[@]}" eval --model="$model" --data='s_val_*.bin' --seq_len=16 --val_tokens=160 --tasks="$tasks/pairs.jsonl" >out 2>err
check "shards and tasks in one call: $(head -n 2 err)" jq -es 'length == 2 and .[0].tokens == 160 and .[1].items == 30' out

# ------------------------------------------------------------------ in training

"${program[@]}" bpe --input="$tasks/../../sample_de.txt" --vocab_size=512 --out=t.json >out 2>&1 &&
    "${program[@]}" tokenize --tokenizer=t.json --input="$tasks/../../sample_de.txt" --doc_split=formfeed --val_fraction=0.1 --out=u >>out 2>&1
check "preparing: $(cat out)" test -f u_val_00000.bin
train=("${program[@]}" train --precision=fp32 --model=llama-nano --train_data='u_train_*.bin' --val_data='u_val_*.bin' --tokenizer=t.json --batch_size=3 --seq_len=40
    --steps=5 --lr=3e-3 --val_every=3 --val_tokens=200 --checkpoint_every=4 --progress=off)
"${train[@]}" --out=without >out 2>&1
"${train[@]}" --out=with --eval_tasks="$all" --eval_every=2 --truncate >out 2>err
check "training with tasks: $(head -n 2 err)" test -d with/step_00000005
check "the log tells them" grep -Eq '^step 4: choices [0-9.]+% \+-[0-9.]+; pairs [0-9.]+%' with/run.log
check 'steps 2, 4 and the last have scores, others not' jq -es 'map(select(has("eval_pairs_acc")) | .step) == [2, 4, 5]' with/metrics.jsonl
check 'all of them' jq -es '.[4] | [.eval_choices_acc_norm, .eval_pairs_acc_stderr, .eval_continuation_perplexity, .eval_text_bits_per_byte, .val_loss] | map(type == "number") | all' with/metrics.jsonl
check 'they change no bits of the training' cmp without/step_00000005/model.safetensors with/step_00000005/model.safetensors
"${program[@]}" eval --precision=fp32 --model=with/step_00000004 --tasks="$all" --truncate >out 2>err
# shellcheck disable=SC2016  # a program of jq
check "they are those of eval on the checkpoint: $(head -n 2 err)" jq -en --slurpfile m with/metrics.jsonl --slurpfile e out '
    $m[3] as $m | ($e | map({key: .task, value: .}) | from_entries) as $e
    | [($m.eval_choices_acc == $e.choices.acc), ($m.eval_choices_acc_norm == $e.choices.acc_norm), ($m.eval_pairs_acc_stderr == $e.pairs.acc_stderr),
       ($m.eval_continuation_perplexity == $e.continuation.perplexity), ($m.eval_text_bits_per_byte == $e.text.bits_per_byte), ($m.eval_pairs_loss == $e.pairs.loss)] | all'
"${train[@]}" --out=never --eval_tasks="$all" >out 2>err
check "a context longer than --seq_len: $(head -n 2 err)" grep -Eq '^error: .*jsonl:[0-9]+: the context has .* 40 positions; --truncate' err
check 'is told before the first step' test ! -e never/run.log
"${train[@]}" --out=never --eval_every=2 >out 2>err
check "--eval_every alone: $(head -n 2 err)" grep -q '^error: --eval_every=2 has no effect without --eval_tasks' err

# ------------------------------------------------------------------ bad lines

# bad TEXT LINE...: a file of these lines is refused, before the model is loaded, with its name and what TEXT says
bad() {
    local text=$1 code=0
    shift
    printf '%s\n' "$@" >bad.jsonl
    "${program[@]}" eval --model="$model" --tasks=bad.jsonl --out=never.jsonl >out 2>err </dev/null || code=$?
    check "bad line ${!#}: exit code $code" test $code -eq 1
    check "bad line ${!#}: $(head -n 2 err)" grep -Eq "^error: bad\.jsonl:$#: .*$text" err
    check "bad line ${!#}: $(wc -l <err) lines" test "$(wc -l <err) $(wc -c <out)" = '1 0'
}
good='{"context": "Es ist", "choices": ["gut", "schlecht"], "answer": 0}'
long=$(printf 'Wort %.0s' {1..40})
bad 'not JSON: column 3: expected' "$good" '{ context: 1}'
bad 'expected the end of the text' "$good" '{"context": "a", "choices": ["b", "c"], "answer": 0} {}'
bad 'not JSON: .*UTF-8' "$good" $'{"context": "\xff", "choices": ["b", "c"], "answer": 0}'
bad 'an array, expected an object' "$good" "" '[1, 2]'
bad '"answer" stands there twice' '{"context": "a", "choices": ["b", "c"], "answer": 0, "answer": 1}'
bad 'expected "context", "choices" and "answer"' '{"context": "a"}'
bad '"choices" is missing, expected an array of two' '{"context": "a", "answer": 0}'
bad '"choices" is an empty array' '{"context": "a", "choices": [], "answer": 0}'
bad '"choices" is an array of one' '{"context": "a", "choices": ["b"], "answer": 0}'
bad '"choices" is "bc"' '{"context": "a", "choices": "bc", "answer": 0}'
bad 'choice 1 is empty' '{"context": "a", "choices": ["b", ""], "answer": 0}'
bad 'choice 1 is 3, expected' '{"context": "a", "choices": ["b", 3], "answer": 0}'
bad '"answer" is 2, expected the number of a choice, from 0 to 1' "$good" "$good" '{"context": "a", "choices": ["b", "c"], "answer": 2}'
bad '"answer" is -1,' '{"context": "a", "choices": ["b", "c"], "answer": -1}'
bad '"answer" is "A",' '{"context": "a", "choices": ["b", "c"], "answer": "A"}'
bad '"answer" is missing' '{"context": "a", "choices": ["b", "c"]}'
bad '"context" is missing' '{"choices": ["b", "c"], "answer": 0}'
bad '"context" is 1, expected a string' '{"context": 1, "choices": ["b", "c"], "answer": 0}'
bad '"delimiter" is 1,' '{"context": "a", "choices": ["b", "c"], "answer": 0, "delimiter": 1}'
bad '"group" is 1,' '{"context": "a", "choices": ["b", "c"], "answer": 0, "group": 1}'
bad 'white space alone' '{"context": " \u2003\n", "choices": ["b", "c"], "answer": 0}'
bad 'the context has [0-9]+ tokens .* the model 64 positions; --truncate cuts' "$good" "{\"context\": \"$long\", \"choices\": [\"b\", \"c\"], \"answer\": 0}"
bad 'to be predicted has [0-9]+ tokens, and the model 64' "{\"context\": \"a\", \"choices\": [\"b\", \"$long$long\"], \"answer\": 0}"
bad 'of the form pairs, and line 1 of the form choices; a file has one form' "$good" '{"good": "a", "bad": "b"}'
bad 'keys of two forms, choices and pairs' '{"choices": ["a", "b"], "answer": 0, "context": "", "good": "a", "bad": "b"}'
bad '"bad" is missing' '{"good": "a"}'
bad 'are the same' '{"good": "a", "bad": "a"}'
bad '"continuation" is empty' '{"context": "a", "continuation": ""}'
bad '"text" is empty' '{"text": "a"}' '{"text": ""}'
refused() { # refused TEXT OPTION...
    local text=$1 code=0
    shift
    "${program[@]}" eval --model="$model" "$@" >out 2>err </dev/null || code=$?
    check "eval $*: exit code $code, $(head -n 2 err)" test $code -eq 1
    check "eval $*: $(head -n 2 err)" grep -Eq -- "^error: .*$text" err
}
: >empty.jsonl
refused 'empty.jsonl holds no lines' --tasks=empty.jsonl
refused 'no such file: none.jsonl' --tasks=none.jsonl
refused 'two tasks of one name' --tasks="$tasks/pairs.jsonl,$tasks/pairs.jsonl"
refused '--data=..., --tasks=... or both'
refused 'would replace .*pairs.jsonl, which --tasks names' --tasks="$tasks/pairs.jsonl" --out="$tasks/pairs.jsonl"
refused 'for the items of --tasks' --data='s_val_*.bin' --out=x.jsonl
refused '--table has no effect without --tasks' --data='s_val_*.bin' --table
refused '--truncate has no effect without --tasks' --data='s_val_*.bin' --truncate
cp -r "$model" bare && rm bare/tokenizer*.json
"${program[@]}" eval --model=bare --tasks="$tasks/pairs.jsonl" >out 2>err
check "no tokenizer: $(cat err)" grep -q '^error: --tasks are texts, and there is no bare/tokenizer.json' err
check 'nothing was written for a bad file' test ! -e never.jsonl
conclude
