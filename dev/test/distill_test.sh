#!/usr/bin/env bash
# A small model and a large one from outside: generate and chat with --draft, train with --teacher: its numbers, what a
# checkpoint keeps of it, resuming and killing it, ranks, conversations, adapters; and what is refused.
# shellcheck disable=SC2016  # variables of jq
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
program=("$PWD/$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
export OMP_WAIT_POLICY=passive
sample=$PWD/dev/test/sample_de.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

run() { "${program[@]}" "$@" >out 2>err; }
said() { cat err out 2>/dev/null | tail -n 1; }
refused() { # refused TEXT VERB OPTION...: exit code 1, one line on stderr with TEXT in it
    local text=$1
    shift
    run "$@"
    local code=$?
    check "$1: exit code $code, expected 1: $(said)" test $code -eq 1
    check "$1: expected one line with \"$text\": $(cat err)" test "$(grep -cv '^note: ' err) $(grep -cF -- "$text" err)" = '1 1'
}
command=()
set_command() { # set_command OUT OPTION...
    local out=$1
    shift
    command=("${program[@]}" train --model=llama-nano --train_data='s_train_*.bin' --val_data='s_val_*.bin' --tokenizer=tokenizer.json
        --out="$out" --batch_size=2 --seq_len=48 --total_batch_tokens=384 --steps=8 --lr=3e-3 --warmup_steps=2 --val_every=4 --val_tokens=480
        --checkpoint_every=4 --threads=1 "$@")
}
train() {
    set_command "$@"
    "${command[@]}" >out 2>err
}
bits() { # what a run must reproduce
    cat "$1/step_00000008/model.safetensors" "$1/step_00000008"/optimizer-*.safetensors | sha256sum
    sed -E 's/"(step_ms|tokens_per_s|mfu)": [^,}]*//g' "$1/metrics.jsonl" | sha256sum
}
last() { tail -n 1 "$1/metrics.jsonl"; }

run bpe --input="$sample" --vocab_size=512 --out=tokenizer.json && run bpe --input="$sample" --vocab_size=384 --out=other.json &&
    run tokenize --tokenizer=tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=s &&
    run tokenize --tokenizer=other.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=o
train large --model=qwen3-nano --steps=30
check "preparing: $(said)" test -d large/step_00000030
large=large/step_00000030
train stranger --train_data='o_train_*.bin' --val_data='o_val_*.bin' --tokenizer=other.json --steps=2
check "preparing: $(said)" test -d stranger/step_00000002
train short --seq_len=24
check "preparing: $(said)" test -d short/step_00000008

# Beside a teacher: its parts are told, kept and named.
train plain
check "without a teacher: $(said)" test -d plain/step_00000008
train whole --teacher=large
check "with a teacher, a run: $(said)" test -d whole/step_00000008
taught=whole/step_00000008
hash=$(jq -r .teacher.xxh64 $taught/run.json)
check "run.json names it: $(jq -c .teacher $taught/run.json)" jq -e --arg path "$large" \
    '.teacher.path == $path and (.teacher.xxh64 | length) == 16 and .teacher.alpha == 0.5 and .teacher.temperature == 2' $taught/run.json
check 'the loss is 0.5 ce + 0.5 x 2^2 kl' jq -es 'length == 8 and all(.[]; (.loss - 0.5 * .ce - 2 * .kl | fabs) < 1e-5 and .kl > 0)' whole/metrics.jsonl
check 'without a teacher there are no parts' jq -es 'all(.[]; has("ce") or has("kl") | not)' plain/metrics.jsonl
check 'run.log tells of it' grep -q "^teacher: $large, .*hash $hash; the loss is 0.5 of cross entropy" whole/run.log
check 'run.log tells the parts' grep -Eq '^step 4: train [0-9.]+ \(ce [0-9.]+, kl [0-9.]+\), val ' whole/run.log
check 'the loss at the start is told apart' jq -en --argjson a "$(head -n 1 plain/metrics.jsonl)" --argjson b "$(head -n 1 whole/metrics.jsonl)" '($a.loss - $b.ce | fabs) < 1e-5'
cp -r $taught card && run report --model=card
check "the model card names it: $(said)" grep -q "trained beside the distribution of the model in .*hash $hash" card/README.md
refused 'was trained beside the model' reproduce --model=$taught
run eval --model=$taught --data='s_val_*.bin' --seq_len=48
check "eval is cross entropy: $(said)" jq -e --argjson v "$(last whole)" '(.loss - $v.val_loss | fabs) < 1e-4' out
train looked --teacher=large --distill_alpha=0
check 'alpha 0: the same weights' cmp looked/step_00000008/model.safetensors plain/step_00000008/model.safetensors
run info --model=llama-nano --vocab_size=512 --seq_len=48 --batch_size=2 --json && mv out alone.json
run info --model=llama-nano --vocab_size=512 --seq_len=48 --batch_size=2 --teacher=$large --json
check "info counts it: $(jq -c .model.memory out)" jq -e --slurpfile a alone.json \
    '.model.memory.teacher > 1e5 and .model.memory.all == $a[0].model.memory.all + .model.memory.teacher' out

# Stopped and resumed, killed and resumed: the same bits. Another teacher, or none, is another run.
whole=$(bits whole)
train halves --teacher=large --max_minutes=0.0001
check "stopped: $(said)" test ! -d halves/step_00000008
cp -r halves kept
train halves --teacher=large --resume=auto
check "resumed: $(said)" test "$(bits halves)" = "$whole"
set_command killed --teacher=large --resume=auto
kill_at killed/step_00000004 "${command[@]}"
train killed --teacher=large --resume=auto
check "killed and resumed: $(said)" test "$(bits killed)" = "$whole"
set_command kept --resume=auto
refused 'another --teacher;' "${command[@]:1}"
refused 'another --teacher (its weights differ)' "${command[@]:1}" --teacher=plain
refused 'another --distill_alpha' "${command[@]:1}" --teacher=large --distill_alpha=0.4
refused 'another --distill_temperature' "${command[@]:1}" --teacher=large --distill_temperature=3
set_command plain --resume=auto --steps=9
refused 'another --teacher;' "${command[@]:1}" --teacher=large

# What cannot teach.
set_command never
refused 'has another tokenizer than --tokenizer=tokenizer.json' "${command[@]:1}" --teacher=stranger
refused 'is longer than the 24 positions of --teacher=short' "${command[@]:1}" --teacher=short
refused 'has a vocabulary of 512, the model llama-nano of 511' info --model=llama-nano --vocab_size=511 --seq_len=16 --teacher=$large
refused 'is longer than the 24 positions of --teacher=short' info --model=llama-nano --vocab_size=512 --seq_len=48 --teacher=short/step_00000008
refused 'needs a folder with weights' "${command[@]:1}" --teacher=qwen3-nano
refused 'needs a folder with weights' "${command[@]:1}" --teacher=nowhere/at/all
refused 'has no effect without --teacher' "${command[@]:1}" --distill_alpha=0.3
refused 'distill_temperature' "${command[@]:1}" --teacher=large --distill_temperature=0
cp -r $large damaged && printf x | dd of=damaged/model.safetensors bs=1 seek=5000 conv=notrunc 2>/dev/null
refused 'damaged' "${command[@]:1}" --teacher=damaged
check 'nothing was left' test ! -d never/step_00000001

# Ranks have a teacher each: two of them make the steps of one.
why=$(no_ranks)
if [ -n "$why" ]; then skip 'distill_test.sh, two ranks' "$why"
else
    set_command ranks --teacher=large
    timeout 300 mpirun --oversubscribe --bind-to none -n 2 "${command[@]}" >out 2>err
    check "two ranks: $(said)" test -d ranks/step_00000008
    for number in loss ce kl; do check "two ranks: $number" close whole ranks $number 1e-4; done
fi

# Conversations and adapters.
for i in 1 2 3 4 5 6 7 8 9; do
    printf '{"messages": [{"role": "user", "content": "Frage %s?"}, {"role": "assistant", "content": "Antwort %s ist das Haus am See."}]}\n' $i $i
done >chat.jsonl
run tokenize --format=chat --tokenizer=$large/tokenizer.json --input=chat.jsonl --val_fraction=0.2 --out=c
chat=(--train_data='c_train_*.bin' --val_data='c_val_*.bin' --tokenizer="$large/tokenizer.json")
train answers --model=$large "${chat[@]}"
check "conversations: $(said)" test -d answers/step_00000008
train small_answers --model=plain "${chat[@]}" --teacher=answers
check "conversations beside a teacher: $(said)" jq -e '.kl > 0 and .target_tokens < .tokens' <(last small_answers)
train adapter --model=plain --teacher=large --lora_rank=4
check "an adapter beside a teacher: $(said)" jq -e '.kl > 0' <(last adapter)
train codes --model=plain --teacher=large --lora_rank=4 --base=nf4
check "on a base of codes: $(said)" jq -e '.kl > 0' <(last codes)
check 'which are not its weights' test "$(last adapter | jq .loss)" != "$(last codes | jq .loss)"
check 'its checkpoint names both' jq -e '.base and .teacher' adapter/step_00000008/run.json

# Drafts: greedy text is the very same; what is printed is text alone; the seed gives it again.
run generate --model=large --prompt='Es war' --tokens=100 --temperature=0 && mv out greedy
for k in 1 4 6; do
    run generate --model=large --prompt='Es war' --tokens=100 --temperature=0 --draft=plain --draft_tokens=$k
    check "greedy text with $k proposals" cmp out greedy
    check "$k proposals: $(said)" grep -Eq '^draft: [0-9]+ of [0-9]+ proposed tokens accepted .*, [0-9.]+ tokens a pass; .* without it .*: [0-9.]+ times as fast$' err
done
run generate --model=large --prompt='Es war' --tokens=100 --draft=large
check "the model itself is always right: $(grep ^draft err)" grep -q '(100.0%)' err
run generate --model=large --prompt='Es war' --tokens=60 --samples=2 --draft=short --seed=3 && mv out first
run generate --model=large --prompt='Es war' --tokens=60 --samples=2 --draft=short --seed=3
check 'the seed gives the text again' cmp out first
printf 'Frage 1?\n/again\n' >said_first
for draft in '' --draft=small_answers; do
    # shellcheck disable=SC2086  # an option or none
    run chat --model=answers --temperature=0 --tokens=40 $draft <said_first
    check "chat $draft: $(said)" test -s out
    mv out "chat$draft"
done
check 'greedy answers are the same' cmp chat chat--draft=small_answers
check "chat tells what it came to: $(said)" grep -q '^note: draft: ' err
refused 'has another tokenizer (384 tokens) than' generate --model=large --draft=stranger
refused 'no such folder' generate --model=large --draft=qwen3-nano
refused 'has no effect without --draft' generate --model=large --draft_tokens=3
refused 'draft_tokens' generate --model=large --draft=plain --draft_tokens=33
conclude
