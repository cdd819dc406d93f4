#!/usr/bin/env bash
# cost.sh: what a training run costs, before it is started: tokens, FLOPs, device hours, kWh.
#
#   scripts/cost.sh --device=NAME --devices=N [--mfu=X] [--program=FILE] -- TRAIN_OPTION...
#
#   --device=NAME    GH200, H100, H200, A100, or CPU (then N counts cores)
#   --devices=N      how many of them the run uses
#   --mfu=X          share of the peak that training reaches (default 0.40 on GPUs, 0.50 on CPUs)
#   --program=FILE   asked for the FLOPs a token: default ./train_gpt, else ./train_gpt_cpu, of this repository
#   TRAIN_OPTION     as for `train`; --model, --tokenizer, --steps, --total_batch_tokens, --batch_size and
#                    --seq_len count, from --config files too
#
# FLOPs a token are those of `train_gpt info` (6 x the weights in matrix products + attention). Watts are the
# makers' design power of the device, plus a share of its host where that is apart: what is drawn is less, by 10-30%
# as others have seen it. Validation, checkpoints and waiting in the queue are not in it. Needs jq; ends with 2 where it is not.
set -euo pipefail

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

device='' devices='' mfu='' program=''
while [ $# -gt 0 ]; do
    word=$1; shift
    case $word in
        --help | -h) usage; exit 0 ;;
        --device=?*) device=${word#*=} ;;
        --devices=?*) devices=${word#*=} ;;
        --mfu=?*) mfu=${word#*=} ;;
        --program=?*) program=${word#*=} ;;
        --) break ;;
        *) fail "unknown option '$word'; see cost.sh --help" ;;
    esac
done
{ whole "$devices" && [ "$devices" -gt 0 ]; } || fail "--devices=$devices: expected a whole number above 0"

# Peak: dense bf16 TFLOP/s of a device (CPU: fp32 of a core with AVX-512 at 3.6 GHz, measured). Watts: GH200: 680 for the
# superchip with its 72 cores, as JSC states for JUPITER; H100, H200: 700, A100 (SXM): 400, NVIDIA's data sheets.
# Host: of a node with 4 GPUs and two CPUs of 280 W, memory and network, a fourth (assumed); GH200: network alone.
case $device in
    GH200) peak=989 watts=680 host=40 reach=0.40 ;;
    H100 | H200) peak=989 watts=700 host=200 reach=0.40 ;;
    A100) peak=312 watts=400 host=200 reach=0.40 ;;
    CPU) peak=0.115 watts=6 host=2 reach=0.50 ;;
    *) fail "--device=$device: expected GH200, H100, H200, A100 or CPU" ;;
esac
mfu=${mfu:-$reach}
{ number "$mfu" && awk -v x="$mfu" 'BEGIN { exit !(x + 0 > 0 && x + 0 <= 1) }'; } || fail "--mfu=$mfu: expected a number above 0, at most 1"
if [ -z "$program" ]; then
    program=$root/train_gpt
    [ -x "$program" ] || program=$root/train_gpt_cpu
fi
[ -x "$program" ] || fail "$program is not there; build it with make, or name another with --program=FILE"

command -v jq >/dev/null || { echo 'cost.sh: no jq, which reads what the program says of a model; install it (Debian: jq)' >&2; exit 2; }

words=$("$program" train --print_options=model,tokenizer,steps,total_batch_tokens,batch_size,seq_len "$@") || fail 'the train options are wrong (above)'
mapfile -t line <<<"$words"
[ ${#line[@]} -eq 6 ] || fail "$program gave ${#line[@]} lines for 6 options: a line break in the name of --model or --tokenizer?"
model=${line[0]} tokenizer=${line[1]} steps=${line[2]} total=${line[3]} batch=${line[4]} length=${line[5]}
[ "$steps" != 1099511627776 ] || fail 'nobody knows how many steps will fit into --time_budget; give --steps for the cost of so many'
[ -n "$model" ] || fail 'the train options name no --model'
for value in "$steps" "$total" "$batch" "$length"; do whole "$value" || fail "$program gave '$value' for a number of steps or tokens"; done
ranks=$devices
if [ "$device" = CPU ]; then ranks=${RANKS:-1}; fi
whole "$ranks" || fail "RANKS=$ranks: expected a whole number"

of=(--json --model="$model" --seq_len="$length")
if [ -f "$tokenizer" ] && [ ! -d "$model" ]; then # a folder has its own vocabulary
    size=$("$program" info --json --tokenizer="$tokenizer" | jq .tokenizer.vocab_size) || size=''
    whole "$size" || fail "$program info --tokenizer=$tokenizer failed (above)"
    of+=(--vocab_size="$size")
fi
flops=$("$program" info "${of[@]}" | jq .model.flops_per_token) || flops=''
number "$flops" || fail "$program info --model=$model failed (above)"

awk -v device="$device" -v n="$devices" -v mfu="$mfu" -v peak="$peak" -v watts="$watts" -v host="$host" -v steps="$steps" -v total="$total" \
    -v pass="$batch $length $ranks" -v flops="$flops" '
function big(x) { return x >= 1e12 ? sprintf("%.3g T", x / 1e12) : x >= 1e9 ? sprintf("%.3g G", x / 1e9) : x >= 1e6 ? sprintf("%.3g M", x / 1e6) : sprintf("%.0f ", x) }
BEGIN {
    split(pass, p, " ")
    if (total == 0) total = p[1] * p[2] * p[3]
    tokens = steps * total
    seconds = tokens * flops / (peak * 1e12 * mfu) # of one device
    unit = device == "CPU" ? "CPU core" : "GPU"
    printf "cost: %stokens (%.0f steps of %.0f), %.3g FLOPs (%.3g a token), %.3g %s hours (%.3g h on %d %s), %.3g kWh\n", big(tokens), steps, total, tokens * flops, flops, seconds / 3600, unit, seconds / 3600 / n, n, device == "CPU" ? "CPU cores" : device, seconds / 3.6e6 * (watts + host)
    printf "      assumed: %g%% of the peak of %g TFLOP/s, %g + %g W for a device and its share of the host, nothing for cooling\n", 100 * mfu, peak, watts, host
}'
