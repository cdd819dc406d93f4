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

# Two CPUs that this process may use, of two cores where there are two.
command -v taskset >/dev/null || fail 'taskset is missing; it is part of util-linux'
allowed=$(taskset -cp $$)
cpus=() cores=()
IFS=', ' read -ra ranges <<<"${allowed##*: }"
for range in "${ranges[@]}"; do
    for ((cpu = ${range%-*}; cpu <= ${range#*-}; cpu++)); do
        cpus+=("$cpu")
        siblings=$cpu
        [ ! -r "/sys/devices/system/cpu/cpu$cpu/topology/thread_siblings_list" ] || siblings=$(cat "/sys/devices/system/cpu/cpu$cpu/topology/thread_siblings_list")
        if [ "${siblings%%[,-]*}" = "$cpu" ]; then cores+=("$cpu"); fi
    done
done
[ ${#cpus[@]} -ge 2 ] || fail 'fewer than two CPUs may be used here'
note=
if [ ${#cores[@]} -lt 2 ]; then cores=("${cpus[@]}") note=', two threads of one core'; fi
pair=${cores[0]},${cores[1]}

taskset -c "$pair" "$root/scripts/quickstart.sh" --out="$out" --minutes="$minutes" ${options[@]+"${options[@]}"} || fail 'there is no finished run to score'

run=$(find "$out" -mindepth 2 -maxdepth 3 -name metrics.jsonl -printf '%T@ %h\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)
[ -n "$run" ] || fail "no run is in $out"
starts=$(grep -c '^device: ' "$run/run.log" || true)
[ "$starts" = 1 ] || fail "the run was started $starts times: a score is of one; choose another --out"
[ -s "$out/corpus/debian_de.txt" ] || fail "there is no $out/corpus/debian_de.txt: without the text of the records there is no score"
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
printf 'machine          %s; cores %s\n' "$(sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo)" "$pair$note"
printf 'program          %s\n' "$(grep -m 1 ', commit ' "$run/run.log")"
if [ "$text" = "$known" ]; then echo "text             the records'"
else echo "text             $text: not the records', compare it with nothing else"; fi
