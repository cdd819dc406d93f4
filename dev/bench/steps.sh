#!/usr/bin/env bash
# Whole training steps (forward, backward, clip, AdamW) of train_gpt_cpu as a share of this machine's fp32
# peak, which the program measures at its start, and the peak memory of the process. A table for people,
# JSON lines for programs in $BUILD/steps.jsonl. Part of `make bench`; SHAPES="B:T ..." chooses among the
# 124M shapes (default: 4:64 4:256 4:1024 1:4096), STEPS how many (default 4: the first is not counted).
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${BUILD:?is set by make bench}" "${SHAPES:=4:64 4:256 4:1024 1:4096}" "${STEPS:=4}" "${PRECISION:=fp32}"
program=$BUILD/train_gpt_cpu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/tokenizer.json" >"$work/log"
"$program" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.3 --out="$work/s" >>"$work/log"

model() { # model NAME V C L NH T: a folder with only a config
    mkdir -p "$work/$1-$6"
    printf '{"model_type": "gpt2", "vocab_size": %d, "n_embd": %d, "n_layer": %d, "n_head": %d, "n_positions": %d}\n' "$2" "$3" "$4" "$5" "$6" >"$work/$1-$6/config.json"
}
measure() { # measure NAME B T
    local folder=$work/$1-$3 run=$work/run
    rm -rf "$run"
    "$program" train --model="$folder" --train_data="$work/s_train_*.bin" --val_data="$work/s_train_*.bin" --tokenizer="$work/tokenizer.json" --batch_size="$2" \
        --seq_len="$3" --steps="$STEPS" --val_every=0 --progress=off --precision="$PRECISION" --out="$run" >"$work/log" 2>&1 || { tail -n 1 "$work/log"; return; }
    jq -cs --arg model "$1" --arg precision "$PRECISION" --argjson B "$2" --argjson T "$3" --arg memory "$(sed -n 's/.*peak memory \([0-9.]*\) GB.*/\1/p' "$run/run.log")" \
        '.[1:] | sort_by(.step_ms) | .[length / 2 | floor] | {model: $model, precision: $precision, B: $B, T: $T, seconds: (.step_ms / 1000), share: .mfu, memory_gb: ($memory | tonumber)}' \
        "$run/metrics.jsonl" | tee -a "$BUILD/steps.jsonl" |
        jq -r '"\(.model)\t\(.precision)\t\(.B)\t\(.T)\t\(.seconds)\t\(.share * 1000 | round / 10)%\t\(.memory_gb)"' |
        awk -F'\t' '{ printf "%-8s %-5s %3d %5d %9.3f s %7s %7.2f GB\n", $1, $2, $3, $4, $5, $6, $7 }'
}
rm -f "$BUILD/steps.jsonl"
printf '%-8s %-5s %3s %5s %11s %7s %10s\n' model prec B T 'step' share memory
for shape in $SHAPES; do
    model 124M 50257 768 12 12 "${shape#*:}"
    measure 124M "${shape%:*}" "${shape#*:}"
done
model small 16384 384 6 6 256
measure small 8 256
