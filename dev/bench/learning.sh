#!/usr/bin/env bash
# learning.sh: how much a token teaches: the same model and tokens with several settings, several seeds each.
#
#   dev/bench/learning.sh --data=PREFIX --tokenizer=FILE --out=FOLDER [OPTION...] NAME='OPTIONS OF train'...
#
# The first NAME is what the others are compared with. --data: shards PREFIX_train_*.bin and PREFIX_val_*.bin.
#   --model=llama-30M   --steps=320   --batch_size=8   --seq_len=256   --seeds=1,2,3   --threads=0   --program=FILE
#   --val_every=20      steps between two validations, on 16,384 tokens
# A run that is finished is not made again, so that a killed series goes on where it stopped. Runs take turns by seeds.
# Prints a table, writes it to FOLDER/learning.md and the curves of validation to FOLDER/learning.svg. Needs jq and gnuplot.
set -euo pipefail

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/common.sh"
for tool in jq gnuplot; do
    command -v "$tool" >/dev/null || fail "this needs $tool; run scripts/install.sh plot"
done

data='' tokenizer='' out='' model=llama-30M steps=320 batch_size=8 seq_len=256 seeds=1,2,3 threads=0 val_every=20 program=$root/train_gpt_cpu
arms=()
for word in "$@"; do
    case $word in
        --help | -h) usage; exit 0 ;;
        --data=?* | --tokenizer=?* | --out=?* | --model=?* | --program=?* | --seeds=?* | --steps=?* | --batch_size=?* | --seq_len=?* | --threads=?* | --val_every=?*)
            name=${word%%=*}
            printf -v "${name#--}" %s "${word#*=}"
            ;;
        -*) fail "unknown option '$word'; see learning.sh --help" ;;
        [a-z]*=*) arms+=("$word") ;;
        *) fail "$word: expected NAME='OPTIONS OF train', the name in small letters" ;;
    esac
done
[[ $data && $tokenizer && $out && ${#arms[@]} -gt 0 ]] || fail 'needs --data, --tokenizer, --out and at least one NAME=OPTIONS; see learning.sh --help'
IFS=, read -ra seed_list <<<"$seeds"
mkdir -p "$out"

bits() { jq -r 'select(.val_bits_per_byte) | "\(.step) \(.val_bits_per_byte)"' "$1/metrics.jsonl"; }
for seed in "${seed_list[@]}"; do
    for arm in "${arms[@]}"; do
        run=$out/${arm%%=*}_$seed
        [ ! -s "$run/score" ] || continue
        rm -rf "$run"
        read -ra options <<<"${arm#*=}"
        "$program" train --model="$model" --train_data="${data}_train_*.bin" --val_data="${data}_val_*.bin" --tokenizer="$tokenizer" \
            --out="$run" --seed="$seed" --steps="$steps" --batch_size="$batch_size" --seq_len="$seq_len" --threads="$threads" \
            --val_every="$val_every" --val_tokens=16384 --final_val_tokens=16384 --checkpoint_every=0 --tensorboard=off --progress=off \
            "${options[@]}" >"$run.log" 2>&1 || fail "$run: $(tail -n 1 "$run.log")"
        "$program" eval --model="$run" --data="${data}_val_*.bin" --val_tokens=0 --seq_len="$seq_len" --threads="$threads" >"$run/whole" 2>>"$run.log" || fail "$run: $(tail -n 1 "$run.log")"
        jq -er '.bits_per_byte' "$run/whole" >"$run/score" || fail "$run/whole: no bits a byte"
        rm -rf "$run"/step_*
    done
done

# The mean of what the first arm has at its end, on the tokens of the curve, and the step at which a run is as good.
goal=$(for seed in "${seed_list[@]}"; do bits "$out/${arms[0]%%=*}_$seed" | tail -n 1; done | awk '{ sum += $2 } END { printf "%.6f", sum / NR }')
reached() {
    bits "$1" | awk -v goal="$goal" '$2 <= goal && !found { found = 1; step = NR > 1 ? was + ($1 - was) * (bits - goal) / (bits - $2) : $1 } { was = $1; bits = $2 }
        END { if (found) printf "%.0f", step; else printf "-" }'
}
{
    printf '%s, %s steps of %s tokens (%s x %s), seeds %s. Bits a byte over all validation tokens; steps until a run is as good on 16,384 of them as %s is at its end (%s).\n\n' \
        "$model" "$steps" "$((batch_size * seq_len))" "$batch_size" "$seq_len" "$seeds" "${arms[0]%%=*}" "$goal"
    echo '| | bits a byte, by seed | mean | steps, by seed | of the steps | options |'
    echo '|---|---|---|---|---|---|'
    for arm in "${arms[@]}"; do
        name=${arm%%=*} scores='' reaches=''
        for seed in "${seed_list[@]}"; do
            scores+="$(awk '{ printf "%.3f", $1 }' "$out/${name}_$seed/score") "
            if [ "$arm" = "${arms[0]}" ]; then reaches+="$steps "; else reaches+="$(reached "$out/${name}_$seed") "; fi
        done
        awk -v name="$name" -v scores="$scores" -v reaches="$reaches" -v steps="$steps" -v options="${arm#*=}" 'BEGIN {
            n = split(scores, score, " "); split(reaches, step, " ")
            for (i = 1; i <= n; i++) { sum += score[i]; all += step[i]; if (step[i] == "-") never = 1 }
            gsub(" ", ", ", scores); gsub(" ", ", ", reaches); sub(", $", "", scores); sub(", $", "", reaches)
            printf "| %s | %s | %.3f | %s | %s | `%s` |\n", name, scores, sum / n, reaches, never ? "not reached" : sprintf("%.0f%%", 100 * all / n / steps), options
        }'
    done
} | tee "$out/learning.md"

colours=('#1f5fa8' '#c4501b' '#2b8a3e' '#7b3fa0' '#8a6d1a')
plot=
for i in "${!arms[@]}"; do
    title="title '${arms[$i]%%=*}'"
    for seed in "${seed_list[@]}"; do
        bits "$out/${arms[$i]%%=*}_$seed" >"$out/${arms[$i]%%=*}_$seed/curve"
        plot+="${plot:+, }'$out/${arms[$i]%%=*}_$seed/curve' with lines lw 1.5 lc rgb '${colours[$((i % ${#colours[@]}))]}' $title"
        title=notitle
    done
done
gnuplot <<END
set terminal svg size 900,560 font 'sans-serif,13' background '#ffffff'
set output '$out/learning.svg'
set xlabel 'steps of $((batch_size * seq_len)) tokens'
set ylabel 'validation, bits a byte'
set title '$model, one curve a seed'
set grid lc rgb '#dddddd'
plot $plot, $goal with lines dt 2 lc rgb '#888888' title 'end of ${arms[0]%%=*}'
END
printf 'curves           %s\n' "$out/learning.svg"
