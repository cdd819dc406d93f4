#!/usr/bin/env bash
# Adapters from outside: train --lora_rank, its folders, resuming and killing it, ranks; generate, eval and dump with
# --adapter; export, merged and alone; and what is refused.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
program=("$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$BUILD/train_gpt_cpu")
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
export OMP_WAIT_POLICY=passive
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
base=$work/base

run() { "${program[@]}" "$@" >"$work/out" 2>"$work/err"; }
said() { cat "$work/err" "$work/out" | tail -n 1; }
refused() { # refused TEXT VERB OPTION...: exit code 1, one line on stderr with TEXT in it
    local text=$1
    shift
    run "$@"
    local code=$?
    check "$1: exit code $code, expected 1: $(said)" test $code -eq 1
    check "$1: expected one line with \"$text\": $(cat "$work/err")" test "$(grep -cv '^note: ' "$work/err") $(grep -cF -- "$text" "$work/err")" = '1 1'
}
command=()
set_command() { # set_command OUT OPTION...
    local out=$1
    shift
    command=("${program[@]}" train --model="$base" --train_data="$work/s_train_*.bin" --val_data="$work/s_val_*.bin" --tokenizer="$work/tokenizer.json"
        --out="$out" --batch_size=2 --seq_len=48 --total_batch_tokens=384 --steps=8 --lr=3e-3 --warmup_steps=2 --val_every=4 --val_tokens=480
        --checkpoint_every=4 --threads=1 --lora_rank=4 --lora_alpha=8 "$@")
}
train() {
    set_command "$@"
    "${command[@]}" >"$work/out" 2>"$work/err"
}
bits() { # what a run must reproduce
    cat "$1/step_00000008/adapter_model.safetensors" "$1/step_00000008"/optimizer-*.safetensors | sha256sum
    sed -E 's/"(step_ms|tokens_per_s|mfu)": [^,}]*//g' "$1/metrics.jsonl" | sha256sum
}

run bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/tokenizer.json" &&
    run tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.1 --out="$work/s" &&
    run train --model=qwen3-nano --train_data="$work/s_train_*.bin" --val_data="$work/s_val_*.bin" --tokenizer="$work/tokenizer.json" \
        --out="$work/pre" --batch_size=2 --seq_len=48 --steps=6 --lr=3e-3 --val_every=0 --checkpoint_every=0 --threads=1
check "preparing: $(said)" test -f "$work/pre/step_00000006/model.safetensors"
cp -r "$work/pre/step_00000006" "$base"
run train --model=gpt2-nano --train_data="$work/s_train_*.bin" --val_data="$work/s_val_*.bin" --tokenizer="$work/tokenizer.json" \
    --out="$work/pre8" --batch_size=2 --seq_len=48 --steps=6 --lr=3e-3 --val_every=0 --checkpoint_every=0 --threads=1
check "preparing gpt2: $(said)" cp -r "$work/pre8/step_00000006" "$work/base8"

# A run, with dropout: its folder is PEFT's, small, and names its base.
train "$work/whole" --lora_dropout=0.2 --lora_plus=4
check "a run: $(said)" test -f "$work/whole/step_00000008/adapter_model.safetensors"
last=$work/whole/step_00000008
for file in adapter_config.json tokenizer.json run.json optimizer-00001-of-00001.safetensors; do
    check "the checkpoint has no $file" test -s "$last/$file"
done
check "the checkpoint of an adapter has a model in it" test ! -e "$last/config.json" -a ! -e "$last/model.safetensors"
for line in '"r": 4' '"lora_alpha": 8' '"lora_dropout": 0.2' '"peft_type": "LORA"' '"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]' "\"base_model_name_or_path\": \"$base\""; do
    check "adapter_config.json has no $line: $(cat "$last/adapter_config.json")" grep -qF -- "$line" "$last/adapter_config.json"
done
check "run.json does not name the base" grep -qE '"base": \{"path": "[^"]*/base", "xxh64": "[0-9a-f]{16}"\}' "$last/run.json"
check "run.log does not tell what is trained" grep -q 'adapter: rank 4' "$work/whole/run.log"
small=$(wc -c <"$last/adapter_model.safetensors") large=$(wc -c <"$base/model.safetensors")
check "the adapter has $small bytes, the model $large" test $((4 * small)) -lt "$large"
check "the base was changed" cmp -s "$base/model.safetensors" "$work/pre/step_00000006/model.safetensors"
whole=$(bits "$work/whole")

# Stopped and resumed, killed and resumed: the same bits.
train "$work/halves" --lora_dropout=0.2 --lora_plus=4 --max_minutes=0.0001
check "stopped: $(said)" test ! -d "$work/halves/step_00000008"
train "$work/halves" --lora_dropout=0.2 --lora_plus=4 --resume=auto
check "resumed: $(said)" test "$(bits "$work/halves")" = "$whole"
set_command "$work/killed" --lora_dropout=0.2 --lora_plus=4 --resume=auto
kill_at "$work/killed/step_00000004" "${command[@]}"
train "$work/killed" --lora_dropout=0.2 --lora_plus=4 --resume=auto
check "killed and resumed: $(said)" test "$(bits "$work/killed")" = "$whole"
evaluated() { sed -n 's/.*"loss": \([0-9.]*\).*/\1/p' "$work/out" | head -n 1; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0 && b > 0 && (a - b) / b < 1e-4 && (b - a) / b < 1e-4) }'; }
why=$(no_ranks)
if [ -z "$why" ]; then
    for zero in 0 1; do
        set_command "$work/ranks$zero" --lora_dropout=0.2 --lora_plus=4 --zero=$zero
        mpirun --oversubscribe --bind-to none -n 2 "${command[@]}" >"$work/out" 2>"$work/err"
        check "2 ranks, --zero=$zero, have other losses than one: $(said)" close "ranks$zero" whole loss 1e-5
    done
    check "2 ranks: --zero=0 and 1 have other bits" cmp -s "$work/ranks0/step_00000008/adapter_model.safetensors" "$work/ranks1/step_00000008/adapter_model.safetensors"
else
    skip 'adapters on two ranks' "$why"
fi

# With --adapter, merged, and without: the first two say the same, the last another thing.
run eval --model="$base" --data="$work/s_val_*.bin" --seq_len=48 --batch_size=2 --adapter="$work/whole"
check "eval --adapter=RUN: $(said)" grep -q 'step_00000008' "$work/err"
with=$(evaluated)
run export --model="$base" --adapter="$last" --merge=on --format=folder --dtype=f32 --out="$work/merged"
check "export --merge to a folder: $(said)" test -f "$work/merged/model.safetensors"
run eval --model="$work/merged" --data="$work/s_val_*.bin" --seq_len=48 --batch_size=2
merged=$(evaluated)
run eval --model="$base" --data="$work/s_val_*.bin" --seq_len=48 --batch_size=2
check "eval: with the adapter $with, merged $merged" near "$with" "$merged"
check "eval: with the adapter $with, without $(evaluated)" test -n "$with" -a "$with" != "$(evaluated)"
run generate --model="$base" --adapter="$last" --prompt="Der" --tokens=20 --temperature=0 && cp "$work/out" "$work/one"
run generate --model="$work/merged" --prompt="Der" --tokens=20 --temperature=0
check "generate: merged and unmerged say other things: $(said)" cmp -s "$work/one" "$work/out"
run dump --model="$base" --adapter="$last" --data="$work/s_val_*.bin" --batch_size=2 --seq_len=48 --out="$work/dump.safetensors"
check "dump --adapter: $(said)" grep -qa 'grad.base_model.model.model.layers.1.mlp.down_proj.lora_B.weight' "$work/dump.safetensors"
check "dump --adapter writes gradients of frozen weights" test "$(grep -ac '"grad.model.layers' "$work/dump.safetensors")" = 0
run export --model="$base" --adapter="$last" --out="$work/adapter.gguf"
check "export of the adapter alone: $(said)" grep -qa 'blk.1.ffn_down.weight.lora_b' "$work/adapter.gguf"
run export --model="$base" --adapter="$last" --merge=on --out="$work/merged.gguf"
check "export --merge to GGUF: $(said)" test -s "$work/merged.gguf"
run export --model="$base" --adapter="$last" --merge=on --format=folder --dtype=bf16 --out="$work/merged_bf16"
check "config.json does not name the type of its weights: $(said)" grep -q '"torch_dtype": "bfloat16"' "$work/merged_bf16/config.json"
run info --model="$base" --lora_rank=4 --batch_size=2 --seq_len=48
check "info --lora_rank: $(said)" grep -q 'trained: .* the adapter.s alone' "$work/out"

# On codes: their own losses, near those of the weights; resumed and by other threads the same bits; in the run's records.
for kind in nf4 q8; do
    options=("--base=$kind" --lora_dropout=0.2 --lora_plus=4)
    [ "$kind" = q8 ] && options+=(--model="$work/base8") # whose rows are of whole blocks
    train "$work/$kind" "${options[@]}"
    check "--base=$kind: $(said)" test -f "$work/$kind/step_00000008/adapter_model.safetensors"
    check "--base=$kind: run.json does not say it" grep -qE "\"base\": \{.*\"kept_as\": \"$kind\"\}" "$work/$kind/step_00000008/run.json"
    check "--base=$kind: run.log does not say it" grep -qE "kept as $kind: [0-9.]+ GiB" "$work/$kind/run.log"
    train "$work/$kind.halves" "${options[@]}" --max_minutes=0.0001
    check "--base=$kind: stopped: $(said)" test ! -d "$work/$kind.halves/step_00000008"
    train "$work/$kind.halves" "${options[@]}" --resume=auto --threads=2
    check "--base=$kind: resumed with other threads: $(said)" test "$(bits "$work/$kind.halves")" = "$(bits "$work/$kind")"
done
check "--base=nf4 has the losses of --base=full" test "$(bits "$work/nf4")" != "$whole"
check "--base=nf4 is far from --base=full" close nf4 whole loss 1e-2
check "PEFT's file says something of the codes" cmp -s "$work/nf4/step_00000008/adapter_config.json" "$last/adapter_config.json"
if [ -z "$why" ]; then
    set_command "$work/nf4.ranks" --base=nf4 --lora_dropout=0.2 --lora_plus=4 --zero=1
    mpirun --oversubscribe --bind-to none -n 2 "${command[@]}" >"$work/out" 2>"$work/err"
    check "2 ranks on codes have other losses than one: $(said)" close nf4.ranks nf4 loss 1e-5
fi
run eval --model="$base" --data="$work/s_val_*.bin" --seq_len=48 --batch_size=2 --adapter="$work/nf4"
check "eval of an adapter made on codes, on the weights: $(evaluated), one made on the weights: $with" awk -v a="$(evaluated)" -v b="$with" 'BEGIN { exit !(a > 0 && a - b < 0.01 && b - a < 0.01) }'
memory() { run info --model="$1" --lora_rank=4 --batch_size=2 --seq_len=48 --json=on "${@:2}" && jq '.model.memory.weights' "$work/out"; }
full=$(memory llama-3M) nf4=$(memory llama-3M --base=nf4) q8=$(memory llama-3M --base=q8)
# Of each of the 1,720,320 numbers in blocks 4 bytes go, and 0.516 or 1.0625 come; parts begin at multiples of 64 bytes.
check "info: the weights take $full bytes, of nf4 $nf4, of q8 $q8" \
    awk -v f="$full" -v n="$nf4" -v q="$q8" 'BEGIN { n = (f - n) / 1720320; q = (f - q) / 1720320; exit !(n > 3.483 && n < 3.484 && q > 2.937 && q < 2.938) }'

# Refused.
data=(--train_data="$work/s_train_*.bin" --val_data="$work/s_val_*.bin" --tokenizer="$work/tokenizer.json" --seq_len=48 --steps=2 --out="$work/none")
refused "is no folder with weights" train --model=qwen3-nano --lora_rank=4 "${data[@]}"
refused 'no module "c_attn"' train --model="$base" --lora_rank=4 --lora_targets=c_attn "${data[@]}"
refused "has no effect without --lora_rank" train --model="$base" --lora_dropout=0.1 "${data[@]}"
refused "has no effect without --lora_rank" train --model="$base" --base=nf4 "${data[@]}"
refused "layer.0.fcproj_w has rows of 176" train --model="$base" --lora_rank=4 --base=q8 "${data[@]}"
refused "it needs --lora_rank" info --model="$base" --base=nf4
refused "not an option of eval" eval --model="$base" --base=nf4 --data="$work/s_val_*.bin"
train "$work/nf4" --base=full --resume=auto --steps=9
check "another --base in a run's folder: $(said)" grep -qF -- 'belongs to a run with --base=nf4, not full' "$work/err"
cp -r "$base" "$work/quantised"
sed -i 's/^{/{"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true},/' "$work/quantised/config.json"
refused '"quantization_config" is an object; this program supports weights of 16 or 32 bits' train --model="$work/quantised" --verify=off --lora_rank=4 --base=nf4 "${data[@]}"
refused "stay as they are with --lora_rank" train --model="$base" --lora_rank=4 --optimizer=muon "${data[@]}"
train "$work/whole" --lora_rank=5 --resume=auto --steps=9
check "another rank in a run's folder: $(said)" grep -qF -- '--lora_rank differs' "$work/err"
run train --model="$base" "${data[@]}" --out="$work/whole" --resume=auto --steps=9 --batch_size=2 --total_batch_tokens=384
check "a run of an adapter goes on without one: $(said)" grep -qE 'another|--lora_rank is not given' "$work/err"
cp -r "$work/merged" "$work/stranger"
cp "$last/tokenizer.json" "$work/stranger/"
refused "was trained on other weights" eval --model="$work/stranger" --adapter="$last" --data="$work/s_val_*.bin" --seq_len=48
cp -r "$last" "$work/bad"
rm "$work/bad/run.json"
sed -i 's/"use_dora": false/"use_dora": true/' "$work/bad/adapter_config.json"
refused '"use_dora" is true' eval --model="$base" --adapter="$work/bad" --data="$work/s_val_*.bin" --seq_len=48
sed -i 's/"use_dora": true/"use_dora": false/; s/"r": 4/"r": 8/' "$work/bad/adapter_config.json"
refused "has the shape" eval --model="$base" --adapter="$work/bad" --data="$work/s_val_*.bin" --seq_len=48
cp "$last/adapter_config.json" "$work/bad/"
truncate -s -100 "$work/bad/adapter_model.safetensors"
refused "adapter_model.safetensors" eval --model="$base" --adapter="$work/bad" --data="$work/s_val_*.bin" --seq_len=48
printf x | dd of="$work/killed/step_00000008/adapter_model.safetensors" bs=1 seek=9000 conv=notrunc 2>/dev/null
refused "does not match its checksum" eval --model="$base" --adapter="$work/killed/step_00000008" --data="$work/s_val_*.bin" --seq_len=48
refused "no adapter_config.json" eval --model="$base" --adapter="$base" --data="$work/s_val_*.bin" --seq_len=48
refused "give --adapter" export --model="$base" --merge=on --out="$work/x.gguf"
refused "which --model=qwen3-nano is not" dump --model=qwen3-nano --adapter="$last" --data="$work/s_val_*.bin" --out="$work/x.safetensors"
conclude
