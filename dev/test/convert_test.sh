#!/usr/bin/env bash
# Models of others from the command line: `convert`, and `train --init_embeddings`, which goes on with another tokenizer,
# stopped and resumed with the same bits, with a record that says so.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
cpu=("$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && cpu=($RUNNER "$BUILD/train_gpt_cpu")

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive LLMC_CACHE=$work/cache
models=dev/test/fixtures/models

refused() { # refused PART OPTION...: exit code 1 and one line with PART in it
    "${cpu[@]}" "${@:2}" >"$work/out" 2>"$work/err"
    local code=$?
    check "${*:2}: exit code $code, $(head -n 2 "$work/err"); expected 1 and \"$1\"" \
        test "$code" = 1 -a "$(wc -l <"$work/err")" = 1 -a -n "$(grep -F -- "$1" "$work/err")"
}

# A GGUF file and back: the same weights, and the same words.
"${cpu[@]}" export --model=$models/qwen3-tied --dtype=f32 --out="$work/q.gguf" >"$work/out" 2>&1
"${cpu[@]}" convert --input="$work/q.gguf" --out="$work/q/" >"$work/out" 2>"$work/err"
check "convert: exit code $?, $(cat "$work/err")" grep -q "a qwen3 of 0.02M parameters" "$work/out"
for folder in $models/qwen3-tied "$work/q"; do
    "${cpu[@]}" generate --model="$folder" --prompt=Der --tokens=8 --temperature=0 --threads=1 2>&1
done >"$work/words"
check "generated text differs: $(cat "$work/words")" test "$(wc -l <"$work/words")" = 2 -a "$(sort -u "$work/words" | wc -l)" = 1
refused "something in it" convert --input="$work/q.gguf" --out="$work/q"
refused "names 2 files" convert --input="$work/q.gguf,$work/out" --out="$work/none"
refused "neither a GGUF file nor a checkpoint" convert --input=dev/test/sample_de.txt --out="$work/none"
refused "needs --input" convert --out="$work/none"
head -c 5000 "$work/q.gguf" >"$work/short.gguf"
refused "truncated" convert --input="$work/short.gguf" --out="$work/none"
check "refused, and yet $work/none is there" test ! -e "$work/none" -a ! -e "$work/none.convert"

# Two tokenizers, a model of the first, and training on with the second.
for size in 384 512; do
    "${cpu[@]}" bpe --input=dev/test/sample_de.txt --vocab_size=$size --out="$work/$size/tokenizer.json" >"$work/out" 2>&1 &&
        "${cpu[@]}" tokenize --tokenizer="$work/$size/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.1 --out="$work/$size/s" >>"$work/out" 2>&1
    check "tokenizer of $size: $(cat "$work/out")" test -f "$work/$size/s_val_00000.bin"
done
train() { # train SIZE OUT OPTION...
    options=(train --train_data="$work/$1/s_train_*.bin" --val_data="$work/$1/s_val_*.bin" --tokenizer="$work/$1/tokenizer.json" --out="$work/$2"
        --batch_size=2 --seq_len=32 --lr=1e-3 --threads=1 --progress=off "${@:3}")
    "${cpu[@]}" "${options[@]}" >"$work/out" 2>"$work/err"
}
train 384 base --model=llama-nano --steps=20
check "training: exit code $?, $(cat "$work/err")" test -d "$work/base/step_00000020"
base=$work/base/step_00000020
other=(--model="$base" --init_embeddings="$base")
train 512 whole "${other[@]}" --steps=6 --checkpoint_every=3
check "--init_embeddings: exit code $?, $(cat "$work/err")" grep -q '"vocab_size": 512' "$work/whole/step_00000006/config.json"
check "run.log: $(grep init_embeddings: "$work/whole/run.log")" grep -q 'init_embeddings: [0-9]* rows of tokens are those of the same bytes' "$work/whole/run.log"
record=$(jq -c .account.base.embeddings "$work/whole/step_00000006/run.json")
check "the record says $record" test "$(jq '.same_bytes + .same_name + .means + .mean_of_all' <<<"$record")" = 512 -a "$(jq .same_tokenizer <<<"$record")" = false
train 512 parts "${other[@]}" --steps=3 --lr_schedule=constant && train 512 parts "${other[@]}" --steps=6 --lr_schedule=constant --resume=auto
train 512 once "${other[@]}" --steps=6 --lr_schedule=constant
check "resumed bits differ: $(cat "$work/err")" cmp "$work/parts/step_00000006/model.safetensors" "$work/once/step_00000006/model.safetensors"
check "the resumed record lost its base" test "$(jq -c .account.base.embeddings "$work/parts/step_00000006/run.json")" = "$record"
train 384 same "${other[@]}" --steps=1
check "the same tokenizer: exit code $?, $(cat "$work/err")" grep -q 'both tokenizers are the same' "$work/same/run.log"
"${cpu[@]}" report --model="$work/whole/step_00000006" >"$work/out" 2>&1
check "the card does not say it: $(cat "$work/out")" grep -q 'with another tokenizer: [0-9]* rows' "$work/whole/step_00000006/README.md"

bad=("${options[@]}" --out="$work/bad")
refused "give --model=" "${bad[@]}" --model=qwen3-nano
refused "give --model=" "${bad[@]}" --model=$models/qwen3-tied
mkdir "$work/empty" && cp "$base/config.json" "$base/tokenizer.json" "$work/empty"
refused "no weights" "${bad[@]}" --model="$work/empty" --init_embeddings="$work/empty"
cp -r "$base" "$work/bare" && rm "$work/bare/tokenizer.json" "$work/bare/run.json"
refused "has no tokenizer.json" "${bad[@]}" --model="$work/bare" --init_embeddings="$work/bare"
refused "with another tokenizer" "${bad[@]}" --tokenizer="$work/512/tokenizer.json" --model="$base" --init_embeddings="$base"

conclude
