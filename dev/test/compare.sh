#!/usr/bin/env bash
# `make compare`: one step of train_gpt_cpu and of the CUDA program ($CUDA, and $CUDA_fp32) on the same weights
# and tokens, tensor by tensor. MODEL: a preset or a folder (default: the three nano presets).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make compare}" "${CUDA:?is set by make compare}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$BUILD/train_gpt_cpu" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/tokenizer.json" >/dev/null &&
    "$BUILD/train_gpt_cpu" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --out="$work/s" >/dev/null || exit 1
failed=0
for model in ${MODEL:-gpt2-nano llama-nano qwen3-nano}; do
    dump() { "$BUILD/$1" dump --model="$model" --data="$work/s_train_*.bin" --batch_size=2 --seq_len=45 --out="$work/$1.safetensors" >/dev/null; }
    for program in train_gpt_cpu "$CUDA" "${CUDA}_fp32"; do dump "$program" || exit 1; done
    printf '\n%s, fp32\n' "$model"
    "$BUILD/test_gpt" compare "$work/train_gpt_cpu.safetensors" "$work/${CUDA}_fp32.safetensors" || failed=1
    printf '\n%s, bf16\n' "$model"
    "$BUILD/test_gpt" compare "$work/train_gpt_cpu.safetensors" "$work/$CUDA.safetensors" bf16 || failed=1
done
exit $failed
