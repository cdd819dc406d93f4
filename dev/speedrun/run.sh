#!/usr/bin/env bash
# run.sh: the German speedrun (README.md here): five minutes of training on two cores, and its score.
#
#   dev/speedrun/run.sh [--minutes=N] [OPTION...]
#
# OPTION: any of scripts/quickstart.sh, whose run this is: --config=FILE, --model=PRESET, --vocab_size=N, --out=DIR
# (default: run/speedrun in this repository; a folder that holds a finished run is only scored), --program=FILE.
#
# Prints the score, bits a byte of text over all validation documents, and its parts: tokens a second, and bits a byte
# of the training text around 1 M tokens. Ends with 1 if there is no score, also of a run that was stopped in between.
set -euo pipefail

here=$(unset CDPATH && cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/common.sh
. "$here/../../scripts/common.sh"
command -v jq >/dev/null || fail 'jq is missing; scripts/install.sh says how to get it'

out=$root/run/speedrun minutes=5 options=()
for word in "$@"; do
    case $word in
        --help | -h) usage; exit 0 ;;
        --out=?*) out=${word#*=} ;;
        --minutes=?*) minutes=${word#*=} ;;
        --*=?*) options+=("$word") ;;
        *) fail "unknown option '$word'; see run.sh --help" ;;
    esac
done
number "$minutes" || fail "--minutes=$minutes: expected a number above 0"

# The first two cores that this process may use; two threads of one core are not two.
cores=$(taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' | sed 's/-/ /' | while read -r a b; do seq "$a" "${b:-$a}"; done |
    while read -r cpu; do
        siblings=$(cat "/sys/devices/system/cpu/cpu$cpu/topology/thread_siblings_list" 2>/dev/null || echo "$cpu")
        [ "${siblings%%[,-]*}" = "$cpu" ] && echo "$cpu"
    done | head -n 2 | paste -sd ,)
[[ $cores == *,* ]] || fail "fewer than two cores may be used here"

taskset -c "$cores" "$root/scripts/quickstart.sh" --out="$out" --minutes="$minutes" ${options[@]+"${options[@]}"} || fail 'there is no finished run to score'

run=$(find "$out" -mindepth 2 -maxdepth 3 -name metrics.jsonl -printf '%T@ %h\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)
[ -n "$run" ] || fail "no run is in $out"
starts=$(grep -c '^{"step": 1,' "$run/metrics.jsonl")
[ "$starts" = 1 ] || fail "$run/metrics.jsonl holds $starts runs, expected 1"
starts=$(grep -c '^device: ' "$run/run.log")
[ "$starts" = 1 ] || fail "the run was started $starts times: a score is of one; choose another --out"
text=$(sha256sum <"$out/corpus/debian_de.txt" | cut -c1-64)
known=$(cut -c1-64 "$here/corpus.sha256")
bytes_a_token=$(sed -n 's/^training data: \([0-9]*\) tokens, [0-9]* documents, \([0-9]*\) bytes.*/\2 \1/p' "$run/run.log" | head -n 1 | awk '{ printf "%.9f", $1 / $2 }')

# Seconds: those that the budget counts, from the first step to the last update.
jq -rs --argjson bytes "$bytes_a_token" --argjson minutes "$minutes" '
    def bits: . / (2 | log) / $bytes;
    (map(select(.tokens >= 900000 and .tokens <= 1100000) | .loss) | if length > 0 then add / length | bits else null end) as $at |
    .[-1] as $last |
    "score            \($last.val_bits_per_byte) bits a byte over all \($last.val_tokens) validation tokens",
    "tokens           \($last.tokens), \($last.tokens / ($minutes * 60) | round) a second",
    "at equal tokens  \(if $at then ($at * 1000 | round / 1000) else "-" end) bits a byte of training text, mean of 0.9 to 1.1 M tokens"' "$run/metrics.jsonl"
printf 'run              %s\n' "$run"
printf 'machine          %s; cores %s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$cores"
printf 'program          %s\n' "$(grep -m 1 ', commit ' "$run/run.log")"
if [ "$text" = "$known" ]; then echo "text             the records'"
else echo "text             $text: not the records', compare it with nothing else"; fi
