#!/usr/bin/env bash
# Whole training steps (forward, backward, clip, AdamW) of train_gpt_cpu as a share of this machine's peak,
# which the program measures at its start (multiply-adds on registers; with --precision=bf16 what the CPU
# has for that), the peak memory of the process, two MPI ranks of one thread against one rank of two, and
# generation as a share of reading. A table for people, JSON lines for programs in $BUILD/steps.jsonl.
# Part of `make bench`, which takes 10 minutes with ROUNDS=1. All runs take turns, ROUNDS times (default 2);
# figures are medians of STEPS steps a run (default 4, the first is not counted).
# RUNS chooses: name:B:T:precision:ranks ...
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${BUILD:?is set by make bench}" "${STEPS:=4}" "${ROUNDS:=2}"
[[ $STEPS =~ ^[1-9][0-9]{0,5}$ && $ROUNDS =~ ^[1-9][0-9]{0,5}$ ]] || { echo "steps.sh: STEPS=$STEPS ROUNDS=$ROUNDS: expected whole numbers" >&2; exit 1; }
program=$BUILD/train_gpt_cpu
threads=$(nproc)
if [ -z "${RUNS:-}" ]; then
    RUNS="124M:4:64:fp32:1 124M:4:256:fp32:1 124M:4:1024:fp32:1 124M:1:4096:fp32:1 small:8:256:fp32:1"
    if [[ $("$BUILD/bench_cpu" --only=machine) =~ '"'(bf16|tile)_flops'": '[1-9] ]]; then RUNS+=" 124M:4:256:bf16:1"; fi
    if command -v mpirun >/dev/null && [[ $BUILD == *-mpi1-* ]]; then RUNS+=" small:8:256:fp32:2 124M:4:256:fp32:2"; fi
fi
for r in $RUNS; do # words that arithmetic takes below
    [[ $r =~ ^[a-zA-Z0-9]+(:[1-9][0-9]{0,6}){2}:[a-z0-9]+:[1-9][0-9]{0,3}$ ]] || { echo "steps.sh: RUNS: $r: expected name:B:T:precision:ranks" >&2; exit 1; }
done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/tokenizer.json" >"$work/log"
"$program" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.3 --out="$work/s" >>"$work/log"

model() { # model NAME T: a folder with only a config
    local v=50257 c=768 l=12 h=12
    if [ "$1" = small ]; then v=16384 c=384 l=6 h=6; fi
    mkdir -p "$work/$1-$2"
    printf '{"model_type": "gpt2", "vocab_size": %d, "n_embd": %d, "n_layer": %d, "n_head": %d, "n_positions": %d}\n' $v $c $l $h "$2" >"$work/$1-$2/config.json"
}
run() { # run NAME B T PRECISION RANKS: appends one JSON line a counted step to $work/NAME:B:T:PRECISION:RANKS
    local out=$work/run launch=()
    if [ "$5" -gt 1 ]; then launch=(mpirun -n "$5" --bind-to none -x OMP_NUM_THREADS=$((threads / $5))); fi
    model "$1" "$3"
    rm -rf "$out"
    "${launch[@]}" "$program" train --model="$work/$1-$3" --train_data="$work/s_train_*.bin" --val_data="$work/s_train_*.bin" \
        --tokenizer="$work/tokenizer.json" --batch_size=$(($2 / $5)) --seq_len="$3" --total_batch_tokens=$(($2 * $3)) --steps="$STEPS" --val_every=0 \
        --progress=off --precision="$4" --out="$out" >"$work/log" 2>&1 || { tail -n 1 "$work/log" >&2; return 1; }
    jq -c --arg memory "$(sed -n 's/.*peak memory \([0-9.]*\) GB.*/\1/p' "$out/run.log")" \
        'select(.step > 1) | {step_ms, mfu, memory_gb: ($memory | tonumber)}' "$out/metrics.jsonl" >>"$work/$1:$2:$3:$4:$5"
}
for ((round = 0; round < ROUNDS; round++)); do
    for r in $RUNS; do IFS=: read -r name B T precision ranks <<<"$r" && run "$name" "$B" "$T" "$precision" "$ranks"; done
done

rm -f "$BUILD/steps.jsonl"
printf '%-8s %-5s %5s %3s %5s %11s %7s %10s\n' model prec ranks B T 'step' share memory
for r in $RUNS; do
    IFS=: read -r name B T precision ranks <<<"$r"
    jq -cs --arg model "$name" --arg precision "$precision" --argjson ranks "$ranks" --argjson B "$B" --argjson T "$T" \
        '. as $all | sort_by(.step_ms) | .[length / 2 | floor] | {model: $model, precision: $precision, ranks: $ranks, B: $B, T: $T,
        seconds: (.step_ms / 1000), share: .mfu, memory_gb: ($all | map(.memory_gb) | max)}' "$work/$r" | tee -a "$BUILD/steps.jsonl" |
        jq -r '"\(.model)\t\(.precision)\t\(.ranks)\t\(.B)\t\(.T)\t\(.seconds)\t\(.share * 1000 | round / 10)%\t\(.memory_gb)"' |
        awk -F'\t' '{ printf "%-8s %-5s %5d %3d %5d %9.3f s %7s %7.2f GB\n", $1, $2, $3, $4, $5, $6, $7, $8 }'
done
jq -rs 'def s(m; p; r): (map(select(.model == m and .precision == p and .ranks == r and .T == 256)) | .[0].seconds);
    (select(s("124M"; "bf16"; 1) and s("124M"; "fp32"; 1)) | "bf16 against fp32, 124M B=4 T=256: \(s("124M"; "fp32"; 1) / s("124M"; "bf16"; 1) * 100 | round / 100) times as fast"),
    (("small", "124M") as $m | select(s($m; "fp32"; 2) and s($m; "fp32"; 1)) |
        "2 ranks against 1, \($m): \(s($m; "fp32"; 1) / s($m; "fp32"; 2) * 1000 | round / 1000) times the throughput")' "$BUILD/steps.jsonl"

# Generation reads every weight of a matrix product once a token: 124.32 M floats, or as many bf16. What loading costs
# is the same for 32 and for 288 tokens.
if [[ $RUNS == *124M:4:64* ]]; then
    run 124M 4 64 fp32 1
    folder=$(echo "$work"/run/step_*)
    seconds() { # seconds TOKENS PRECISION
        local start end
        start=$(date +%s%N)
        "$program" generate --model="$folder" --prompt=Der --tokens="$1" --temperature=0 --precision="$2" >"$work/text$1"
        end=$(date +%s%N)
        echo $((end - start))
    }
    precisions=(fp32)
    if [[ $RUNS == *:bf16:* ]]; then precisions+=(bf16); fi
    for _ in 1 2 3 4 5; do
        for precision in "${precisions[@]}"; do
            read_rate=$("$BUILD/bench_cpu" --only=machine | jq -R 'fromjson? | .read_bytes' | tail -n 1)
            short=$(seconds 32 "$precision") long=$(seconds 288 "$precision")
            echo "$short $long $read_rate" >>"$work/generation-$precision"
        done
    done
    for precision in "${precisions[@]}"; do
        awk '{ print ($2 - $1) / 256e9, $3 }' "$work/generation-$precision" | sort -g | sed -n 3p |
            awk -v precision="$precision" -v bytes="$([ "$precision" = fp32 ] && echo 497.28e6 || echo 248.64e6)" '{
                printf "generation, 124M, %s, batch 1: %.1f tokens/s, %.1f GB/s of weights, %.0f%% of reading\n", precision, 1 / $1, bytes / $1 / 1e9, 100 * bytes / $1 / $2
                printf "{\"model\": \"124M\", \"precision\": \"%s\", \"generation_tokens_per_s\": %.2f, \"share_of_reading\": %.3f}\n", precision, 1 / $1, bytes / $1 / $2 >>"'"$BUILD"'/steps.jsonl" }'
    done
    jq -rs '(map(select(.generation_tokens_per_s)) | select(length == 2)) as [$fp32, $bf16] |
        "generation, bf16 against fp32: \($bf16.generation_tokens_per_s / $fp32.generation_tokens_per_s * 100 | round / 100) times the tokens"' "$BUILD/steps.jsonl"
fi
