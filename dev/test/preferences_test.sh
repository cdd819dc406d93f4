#!/usr/bin/env bash
# Preferences from outside: from JSON lines of pairs to a model that prefers. Fifty steps beside TRL's trainers, of every
# objective and of an adapter (dev/test/fixtures/preferences); the loss is a mean over the pairs of a step, whatever
# micro-batches, rows and ranks; references are stored, read and refused; killed and resumed; what is left out or refused.
# Losses, lines and rows: preferences_test.h.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
program=("$PWD/$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
export OMP_WAIT_POLICY=passive
base=$PWD/dev/test/fixtures/preferences
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

run() { "${program[@]}" "$@" >out 2>err; }
said() { cat err out | tail -n 1; }
refused() { # refused MESSAGE WORDS COMMAND...
    local message=$1 words=$2 code=0
    shift 2
    run "$@" || code=$?
    check "$message: exit code $code, $(said)" test $code -eq 1
    check "$message: $(said)" grep -q -- "$words" err
}
tokenize() { run tokenize --format=preferences --tokenizer="$base/tokenizer.json" "$@"; }
set_command() { # set_command OUT OBJECTIVE BATCH OPTION...
    command=("${program[@]}" train --model="$base" --tokenizer="$base/tokenizer.json" --train_data='p_train_*.bin' --val_data='p_train_*.bin' --out="$1"
        --objective="$2" --batch_size="$3" --total_batch_tokens=1024 --seq_len=256 --steps=50 --lr=1e-4 --lr_schedule=constant --weight_decay=0
        --val_every=0 --checkpoint_every=0 --progress=off --threads=1 "${@:4}")
}
train() {
    set_command "$@"
    "${command[@]}" >out 2>err
}

# ------------------------------------------------------------------ tokens

tokenize --input="$base/pairs.jsonl" --out=p --val_fraction=0
check "tokenize --format=preferences: $(said)" grep -q 'training: 8 pairs, 16 answers, 861 tokens, of which 257 (29.8%) count' out
check 'the manifest says that they are pairs' jq -e '.chat.pairs == true and .chat.template == "chatml" and .train.documents == 8 and .chat.longest == 144' p_manifest.json
{
    cat "$base/pairs.jsonl"
    printf '{"prompt": "a", "chosen": "b", "rejected": "b"}\n{"prompt": "a", "chosen": " ", "rejected": "b"}\n{"prompt": [{"role": "boss", "content": "a"}], "chosen": "b", "rejected": "c"}\n'
} >bad.jsonl
tokenize --input=bad.jsonl --out=b --val_fraction=0
check "bad lines cost themselves: $(said)" cmp p_train_00000.bin b_train_00000.bin
check 'and are counted by reason' jq -e '.chat.left_out | .same.lines == 1 and .empty_answer.lines == 1 and .role.lines == 1 and (.same.first | endswith("bad.jsonl: line 9"))' b_manifest.json
refused '--strict' 'bad.jsonl: line 9: chosen and rejected are the same' tokenize --format=preferences --strict=on --tokenizer="$base/tokenizer.json" --input=bad.jsonl --out=b
sed -n 9p bad.jsonl >worse.jsonl
refused 'only bad lines' 'no pair in 1 lines: each has the fault that chosen and rejected are the same' tokenize --format=preferences --tokenizer="$base/tokenizer.json" --input=worse.jsonl --out=b
refused 'another verb' 'are for tokenize' export --format=preferences --model="$base" --out=x

# ------------------------------------------------------------------ TRL

# The curves are those of sums in float64 and ours of floats: measured 5e-6 at most, of IPO's losses of 25.
curve() { # curve OUT NAME
    jq -e --slurpfile theirs "$base/curves.json" --arg name "$2" -s '
        . as $ours | $theirs[0][$name] as $t | ($ours | length) == 50 and ($t | length) == 7 and
        all($t | keys[]; . as $key | all(range(50); ($ours[.][$key] - $t[$key][.] | fabs) <= 1e-4))' "$1/metrics.jsonl"
}
for objective in dpo ipo simpo orpo; do
    train $objective $objective 4
    check "$objective, fifty steps beside TRL: $(said)" curve $objective $objective
done
train lora dpo 4 --lora_rank=4 --lora_alpha=8 --lr=1e-3
check "dpo of an adapter, fifty steps beside PEFT and TRL: $(said)" curve lora dpo_lora
check 'the first run computed the references' grep -q 'references: 8 pairs by the model of hash [0-9a-f]*, 0 of them stored' dpo/run.log
check 'the adapter read them' grep -q 'references: 8 pairs by the model of hash [0-9a-f]*, 8 of them stored' lora/run.log
check 'simpo has none' test "$(grep -c '^references: ' simpo/run.log)" -eq 0
check 'a model is even with itself' jq -e -n '[inputs][0] | .["rewards/margins"] == 0 and .["rewards/accuracies"] == 0 and .pairs == 8' dpo/metrics.jsonl

# ------------------------------------------------------------------ however they are cut

few=(--steps=4)
for objective in dpo orpo; do
    train ${objective}_whole $objective 4 "${few[@]}"
    train ${objective}_micro $objective 1 "${few[@]}"
    rows=$(run info --data='p_train_*.bin' --seq_len=144 --json && jq .data.sequences out)
    train ${objective}_single $objective "$rows" "${few[@]}" --total_batch_tokens=0 --seq_len=144
    check "a pair a row, nearly: $rows rows" test "$rows" -gt 6
    for way in micro single; do
        for what in loss logps/chosen logps/rejected; do
            check "$objective, $way: $what" close ${objective}_whole ${objective}_$way $what 1e-5
        done
        check "$objective, $way: the gradient" close ${objective}_whole ${objective}_$way grad_norm 1e-4
    done
done
why=$(no_ranks)
if [ -n "$why" ]; then skip 'preferences_test.sh, several ranks' "$why"; else
    for zero in 0 1; do
        rm -f p_train_00000.ref
        set_command ranks$zero dpo 1 "${few[@]}" --zero=$zero
        mpirun --oversubscribe --bind-to none -n 2 "${command[@]}" >out 2>err
        check "2 ranks, references and steps: $(said)" close dpo_whole ranks$zero loss 1e-5
        check '2 ranks: a figure' close dpo_whole ranks$zero rewards/rejected 1e-3
    done
    set_command ranks_orpo orpo 1 "${few[@]}"
    mpirun --oversubscribe --bind-to none -n 2 "${command[@]}" >out 2>err
    check "orpo, 2 ranks: $(said)" close orpo_whole ranks_orpo loss 1e-5
fi

# ------------------------------------------------------------------ references

train first dpo 4 "${few[@]}"
cp p_train_00000.ref kept.ref
train again dpo 4 "${few[@]}" --beta=0.3
check 'another beta reads the same references' cmp kept.ref p_train_00000.ref
refused 'another model' 'the references of another model' "${command[@]:${#program[@]}}" --model="$work/dpo/step_00000050" --out=other
set_command short dpo 4 "${few[@]}" --seq_len=100 --total_batch_tokens=0 --batch_size=2
rm p_train_00000.ref
"${command[@]}" >out 2>err
check "shorter rows: $(said)" grep -q 'pairs were left out, whose two sides together are longer than --seq_len=100' short/run.log
train longer dpo 4 "${few[@]}"
check 'longer rows have the missing references computed' grep -Eq 'references: 8 pairs by .*, [1-7] of them stored' longer/run.log
check "and the same losses: $(said)" close first longer loss 1e-5
printf 'x' | dd of=p_train_00000.ref bs=1 seek=200 conv=notrunc 2>/dev/null
set_command hurt dpo 4 "${few[@]}"
refused 'damaged references' 'is damaged; remove it' "${command[@]:${#program[@]}}"
rm p_train_00000.ref

# Killed, and its references gone: they are computed by the model that it began with, and the bits are the same.
bits() { cat "$1"/step_00000050/*model.safetensors "$1"/step_00000050/optimizer-*.safetensors | sha256sum; }
for kind in full adapter; do
    options=()
    [ $kind = adapter ] && options=(--lora_rank=4 --lora_dropout=0.1)
    train $kind dpo 2 "${options[@]}" --checkpoint_every=10
    set_command killed_$kind dpo 2 "${options[@]}" --checkpoint_every=10 --resume=auto
    kill_at killed_$kind/step_00000020 "${command[@]}"
    rm -f p_train_00000.ref
    "${command[@]}" >out 2>err
    check "a killed run, $kind: $(said)" test "$(bits killed_$kind)" = "$(bits $kind)"
done

# ------------------------------------------------------------------ validation, and what is refused

tokenize --input="$base/pairs.jsonl" --out=v --val_fraction=0.4
set_command valid dpo 2 --steps=4 --total_batch_tokens=0 --train_data='v_train_*' --val_data='v_val_*' --val_every=2
"${command[@]}" >out 2>err
check "validation: $(said)" jq -es 'map(select(has("val_loss"))) | length == 2 and all(.val_loss > 0 and has("val_rewards/accuracies") and has("val_logps/chosen"))' valid/metrics.jsonl
check 'and in the log' grep -Eq 'step 4: train [0-9.]+, val [0-9.]+, margin [-0-9.]+, accuracy [0-9.]+, log-probabilities .* over all [0-9]+ pairs' valid/run.log
check 'the report says what the loss is of' grep -q 'mean over pairs of answers, newest steps' valid/report.html
check 'and has the margins' grep -q 'Margin of rewards' valid/report.html
run tokenize --tokenizer="$base/tokenizer.json" --input="$OLDPWD/dev/test/sample_de.txt" --doc_split=formfeed --val_fraction=0.1 --out=text
set_command x dpo 2
refused 'pairs without an objective' 'holds pairs of answers: give --objective=' "${command[@]:${#program[@]}}" --objective=next
refused 'text with an objective' 'learns from pairs of answers' "${command[@]:${#program[@]}}" --train_data='text_train_*.bin'
refused 'a preset has no reference' 'no folder with weights' "${command[@]:${#program[@]}}" --model=qwen3-nano
refused '--lr=auto' '--lr=auto measures the loss of the next token' "${command[@]:${#program[@]}}" --lr=auto
refused 'a teacher of pairs' '^error: --teacher=.* teaches the next token, which --objective=dpo is not of' "${command[@]:${#program[@]}}" --teacher="$base"
refused 'an option of another objective' '--simpo_gamma=1 has no effect without --objective=simpo' "${command[@]:${#program[@]}}" --simpo_gamma=1
refused 'rows that are too short' 'not one pair of .* has room for both its sides' "${command[@]:${#program[@]}}" --seq_len=16 --total_batch_tokens=0
refused 'eval of pairs' 'pairs of answers' eval --model="$base" --data='p_train_*.bin' --seq_len=256
refused 'dump of pairs' 'pairs of answers' dump --model="$base" --data='p_train_*.bin' --seq_len=256 --out=d.safetensors
run corpus --remove="$(sed -n 3p "$base/pairs.jsonl" | tr -d '\n' | sha256sum | cut -c1-64)" --data='v_*.bin' --tokenizer="$base/tokenizer.json" --out=report.json
check "a pair is removed: $(said)" jq -e '.train.documents + .val.documents == 7' v_manifest.json
"${command[@]}" --train_data='v_train_*' --val_data='v_val_*' --steps=1 --total_batch_tokens=0 --out=removed >out 2>err
check "and training goes on: $(said)" test -d removed/step_00000001

conclude
