#!/usr/bin/env bash
# dev/gpu_report.sh, rehearsed: every phase with tiny sizes, from a bundle of the emulated programs under the real ones'
# names, in a folder outside of the tree; nvidia-smi, NVML and compute-sanitizer are played. Then what may go wrong on a
# machine that is there for minutes: a phase that hangs, one that fails, no time left, a signal, programs that do not start.
# And the predictions, which need no device, against arithmetic of this script's own and what README.md says.
# shellcheck disable=SC2016  # the $ of awk and of scripts that are written here
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make test}" "${RUNNER:=}" "${SANITIZE:=0}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
if [ -n "$RUNNER" ] || [ "$SANITIZE" = 1 ]; then
    skip gpu_report_test.sh 'only in the plain build'
    conclude
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
has() { grep -qF -- "$2" "$1"; }
lacks() { ! grep -qF -- "$2" "$1"; }
line() { grep -nF -m 1 -- "$2" "$1" | cut -d: -f1; } # the number of the first line that holds a text

# ------------------------------------------------------------------ the players

export PIDS=$work/pids # of what hangs

mkdir "$work/played" "$work/emu" "$work/stub"
cat >"$work/played/nvidia-smi" <<'END'
#!/usr/bin/env bash
case "$*" in
    *'-l 1'*) while :; do echo '345.60, 1755'; sleep 0.1; done ;;
    *driver_version*) echo 'NVIDIA H100 80GB HBM3, 580.1, 81559 MiB, 700.00 W, 1980 MHz, 2619 MHz, 9.0' ;;
    *compute_cap*) echo 9.0 ;;
    *=name*) echo 'NVIDIA H100 80GB HBM3' ;;
    -L) echo 'GPU 0: NVIDIA H100 80GB HBM3' ;;
esac
END
cat >"$work/played/compute-sanitizer" <<'END'
#!/usr/bin/env bash
[ "$1 $3 $4" = '--tool --error-exitcode 9' ] || { echo "error: called with $*"; exit 1; }
case "$2,${PLAYED:-}" in
    memcheck,*hang*) echo 'before it hangs' && echo $$ >>"$PIDS" && exec sleep 987 ;;
    racecheck,*fail*) echo '========= ERROR SUMMARY: 3 errors' && exit 9 ;;
esac
"${@:5}" && echo "========= ERROR SUMMARY: 0 errors, $2"
END
printf '#!/bin/sh\nprintf "compiling\\nPyTorch, compiled\\t12.50\\n"; jq -e .model.channels "$1" >&2 && test "$2 $3 $4" = "1 8 1"\n' >"$work/peer"
printf '#!/bin/sh\necho "7 passed, 0 failed"\n' >"$work/stub/passes"
chmod +x "$work"/played/* "$work/peer" "$work/stub/passes"
cat >"$work/nvml.c" <<'END'
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **d) { return *d = (void *)bus, bus[0] != '0'; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) { return *mw = 612300, !d; }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *c) { return *c = 61, !d || sensor != 0; }
int nvmlDeviceGetClockInfo(void *d, int which, unsigned *mhz) { return *mhz = which == 1 ? 1711 : 2619, !d; }
END
check 'a made NVML' "${CC:-cc}" -shared -fPIC "$work/nvml.c" -o "$work/libnvidia-ml.so.1"

for program in train_gpt train_gpt_fp32 cuda_test cuda_attention_test cuda_model_test bench_gpu; do
    emulated=${program%_fp32}_emu
    [ "$program" = "${program%_fp32}" ] || emulated=${emulated}_fp32
    ln -s "$PWD/$BUILD/$emulated" "$work/emu/$program"
done
ln -s "$PWD/$BUILD"/{train_gpt_cpu,test_gpt,commit.c} "$work/emu/"
BUILD=$work/emu dev/gpu_bundle.sh "$work/bundle" >"$work/out" 2>&1
check "gpu_bundle.sh: $(tail -n 1 "$work/out")" grep -Eq 'bundle: [0-9]+ MB, commit ' "$work/out"
check 'the bundle names the commit' has <(sed -n 's/.*= "\(.*\)";$/\1/p' "$BUILD/commit.c") "$(cat "$work/bundle/commit")"
check 'the bundle holds Python' test -z "$(find "$work/bundle" -name '*.py')"
# What `make test` runs anyway is not run again: whole programs against the CPU's.
cp "$work/stub/passes" "$work/bundle/programs/cuda_model_test"
cp "$work/stub/passes" "$work/bundle/dev/test/cuda_test.sh"

# report NAME OPTION...: from elsewhere, into $work/NAME
report() {
    local name=$1
    mkdir "$work/$name"
    (cd "$work" && exec env -u BUILD OUT="$name" PATH="$work/played:$PATH" LD_LIBRARY_PATH="$work" "${folder:-bundle}/dev/gpu_report.sh" --short "${@:2}") >"$work/$name.said" 2>&1
}
file() { echo "$work/$1"/*-NVIDIA-H100-80GB-HBM3.md; } # of a report

# ------------------------------------------------------------------ all phases

# All at once, since some wait: with limits that a busy machine keeps.
export LLMC_CACHE=$work/users_cache
report whole --phases=all --peer=./peer --limit=1000 --seconds=2000 &
whole=$!
PLAYED=hang report late --phases=memcheck,racecheck,tests --seconds=6 &
late=$!
# memcheck hangs, racecheck fails; what comes after them runs.
PLAYED=hang,fail report faults --phases=memcheck,racecheck,facts --limit=1000 --limit=memcheck:3
check "a phase that hangs and one that fails: exit code 1, not $?" test $? -eq 1
md=$(file faults)
check 'a phase that hangs is stopped' grep -Eq '^\| compute-sanitizer memcheck \| NOT FINISHED: stopped after the 3 s \|' "$md"
check 'what it printed before is kept' has "$md" 'before it hangs'
check 'one that fails: its exit code' grep -Eq '^\| compute-sanitizer racecheck \| FAILED, exit code 9 \|' "$md"
check 'and what it said' has "$md" 'ERROR SUMMARY: 3 errors'
check 'the next phase runs' grep -q '^| The machine and its ceilings | passed |' "$md"
check 'the verdict names both' has "$md" 'Did not pass: memcheck racecheck.'
# Time that is over: cut, and the rest named.
wait $late
check "no time left: exit code 1, not $?" test $? -eq 1
md=$(file late)
# Where this machine itself stood still for six seconds, memcheck never began.
check 'no time left: the running phase is cut' grep -Eq '^(\| compute-sanitizer memcheck \| NOT FINISHED: stopped after the [1-6] s of --seconds \||- memcheck: the 6 s of --seconds are over$)' "$md"
for name in racecheck tests; do check "no time left: $name is named" has "$md" "- $name: the 6 s of --seconds are over"; done
check 'no time left: said at the end of the output' has <(tail -n 3 "$work/late.said") '- tests: the 6 s of --seconds are over'
# Ended from outside while a phase runs.
mkdir "$work/signal"
(cd "$work" && exec env -u BUILD OUT=signal PLAYED=hang PATH="$work/played:$PATH" bundle/dev/gpu_report.sh --short --phases=facts,memcheck,tests) >"$work/signal.said" 2>&1 &
pid=$!
for _ in $(seq 600); do
    if [ "$(wc -l <"$PIDS")" -eq 3 ]; then break; fi # memcheck hangs
    sleep 0.1
done
check 'the report is written after every phase' has "$(file signal)" 'The machine and its ceilings | passed'
kill -TERM $pid
wait $pid
check "a signal: exit code 1, not $?" test $? -eq 1
check 'a signal: what ran stands there' has "$(file signal)" 'The machine and its ceilings | passed'
check 'a signal: so does what was running' has "$(file signal)" 'memcheck | NOT FINISHED: the report was ended |'
check 'a signal: and what it printed' has "$(file signal)" 'before it hangs'
check 'a signal: what did not run is named' has "$(file signal)" '- tests: the report was ended by a signal'
gone() { # what was killed is there until its parent has looked
    local id
    while read -r id; do
        for _ in $(seq 100); do kill -0 "$id" 2>/dev/null || continue 2; sleep 0.1; done
        return 1
    done <"$PIDS"
}
check 'nothing runs on of what hung' gone

# Programs that do not start are built; where that fails, too, all phases are named.
mkdir "$work/broken"
cp -r "$work/bundle/." "$work/broken/"
printf '#!/bin/sh\necho "libcublasLt.so.13: cannot open shared object file" >&2; exit 127\n' >"$work/broken/programs/train_gpt"
printf '#!/bin/sh\necho "$*" >>"%s/made"; for a; do case $a in BUILD=*) mkdir -p "${a#*=}" && cp %s/bundle/programs/* "${a#*=}/" ;; esac; done\n' "$work" "$work" >"$work/played/make"
chmod +x "$work/played/make"
folder=broken report built --phases=facts,bits
code=$?
check "programs that do not start: exit code 0, not $code: $(tail -n 3 "$work/built.said")" test $code -eq 0
check 'programs that do not start: said' has "$work/built.said" 'do not start, so they are built: libcublasLt.so.13'
check 'they are built for the GPU that is there' grep -q 'COMMIT=.* CUDA_ARCH=90 build-gpu' "$work/made"
check 'the build is in the report' grep -q '^| Building the programs | passed |' "$(file built)"
check 'and the phases after it' grep -q '^| Identical runs, with and without graphs | passed |' "$(file built)"
printf '#!/bin/sh\necho "no compiler here"; exit 2\n' >"$work/played/make"
rm -rf "$work/broken/build"
folder=broken report unbuilt --phases=facts,bits
check "programs that cannot be built: exit code 1, not $?" test $? -eq 1
check 'programs that cannot be built: the phases are named' has "$(file unbuilt)" '- bits: the programs do not start: '
check 'programs that cannot be built: why' has "$(file unbuilt)" 'no compiler here'
rm "$work/played/make"

# Mistakes of the caller: one line, nothing runs.
wrong() { # wrong WHAT TEXT OPTION...
    (cd "$work" && PATH="$work/played:$PATH" OUT=none bundle/dev/gpu_report.sh "${@:3}") >"$work/out" 2>&1
    code=$?
    check "$1: exit code 1, not $code, in one line: $(cat "$work/out")" test "$code $(wc -l <"$work/out")" = '1 1'
    check "$1: says so: $(cat "$work/out")" has "$work/out" "$2"
}
wrong 'an unknown phase' '--phases: speed is no phase' --phases=facts,speed
wrong 'no phase' '--phases is empty' --phases=
wrong 'a limit that is none' '--limit=facts:: expected seconds' --limit=facts:
wrong 'a number that is none' '--seconds=5m: expected a whole number' --seconds=5m
wrong 'an unknown option' 'quick: expected --phases' quick
printf '#!/bin/sh\nexit 9\n' >"$work/stub/nvidia-smi"
chmod +x "$work/stub/nvidia-smi"
PATH="$work/stub:$PATH" dev/gpu_report.sh >"$work/out" 2>&1
check "no GPU: exit code 1, not $?" test $? -eq 1
check "no GPU: $(cat "$work/out")" has "$work/out" 'nvidia-smi finds no GPU'

wait $whole
code=$?
md=$(file whole)
check "the rehearsal: exit code 0, not $code: $(tail -n 5 "$work/whole.said")" test $code -eq 0
check 'the report names the commit' has "$md" "Commit $(cat "$work/bundle/commit"), "
while IFS= read -r title; do
    check "$title: $(grep -F "| $title |" "$md")" grep -Eq "^\| $title \| passed \| [0-9]+ \| [0-9]+ \| (346, 346 \| 1755, 1755|- \| -) \|" "$md"
done <<'END'
The machine and its ceilings
Kernels and attention against the CPU in double
Speed, gpt2-124M
Speed, attention
One step, tensor by tensor, against the CPU
Speed, gpt2-1.5B
Speed, llama-1.5B
Identical runs, with and without graphs
200 steps beside those of the CPU
compute-sanitizer memcheck
compute-sanitizer racecheck
The other tests
Another program's step beside ours
END
check 'power and clocks while phases ran' has "$md" '| 346, 346 | 1755, 1755 |'
check 'what cannot run on one GPU is named' has "$md" '- ranks: 1 GPU'
check 'the facts' has "$md" '| NVIDIA H100 80GB HBM3 | 580.1 | 81559 MiB | 700.00 W | 1980 MHz | 2619 MHz | 9.0 |'
check 'the ceilings' grep -Eq '^\| bf16 product, 32 cubed \| [0-9.]+ TFLOP/s \|' "$md"
check 'every tensor, in both precisions' grep -Eq '^\| gpt2-nano \| (bf16|fp32) \| [1-9][0-9]* \| 0 \| [a-z0-9_.]+ \| [0-9.e+-]+ \| [0-9.e+-]+ \|' "$md"
check 'the same bits' has "$md" '2 steps of llama-nano, without graphs: the same bits'
check 'the curve' grep -Eq '^\| 3 \| [0-9.]+ \| [0-9.]+ \| -?0\.[0-9]+ \|' "$md"
check 'the sanitizer ran' has "$md" 'ERROR SUMMARY: 0 errors, racecheck'
check 'the other program' grep -Eq '^\| PyTorch, compiled \| 12\.50 \| 640 \| [0-9.]+ \|' "$md"
check 'beside ours and the prediction' test "$(grep -Ec '^\| (predicted by gpu_model.h|train_gpt) \| [0-9.]+ \| [0-9]+ \|' "$md")" -eq 2
check 'power and clocks, by NVML' has "$md" '612 W (now), 61 C, SM 1711 MHz, memory 2619 MHz.'
check 'which epilogues were fused' grep -Eq '^\| bias, GELU \| 256 x 8 x 64 \| (fused|a kernel of its own: [a-z, ]+) \|' "$md"
check 'a line for each step, with its prediction' test "$(grep -Ec '^[a-z0-9]+-nano, B=1 T=8, .*: [0-9.]+ ms a step, [0-9.]+ predicted; ' "$md")" -eq 3
# Every row of a kernel, of a class and of a step has a prediction.
check 'a row without prediction' awk -F' *[|] *' '
    /^\| kernel / { rows = 1; next }
    /^$/ { rows = 0 }
    rows && !/^\|---/ { n++; if (!($5 + 0 > 0) || !($6 + 0 > 0)) { print "FAILED: " $0; bad = 1 } }
    END { exit bad || n < 60 }' "$md"
check 'classes' test "$(grep -Ec '^\| (matrix products|attention|memory-bound|sum of the kernels) \| [0-9.]+ \| [0-9.]+ \| [0-9.]+ \|$' "$md")" -eq 12
tables=$(line "$md" '| The machine and its ceilings | passed') outputs=$(line "$md" '# What the phases printed beside') end=$(line "$md" '# What did not run')
check "tables first: lines $tables, $outputs, $end" test "$tables" -lt 10 -a "$(line "$md" '| PyTorch, compiled')" -lt "$outputs" -a "$outputs" -lt "$end"
check 'the output ends with the tables and the path' has <(tail -n 1 "$work/whole.said") "$(basename "$md")"
check 'few files come back' test "$(find "$work/whole" -type f | wc -l)" -eq 2
check 'whole outputs are beside' has "$work/whole/gpu_report.log" '=== kernels: exit code 0'
check 'its measurements of products are its own' test ! -e "$LLMC_CACHE"
check 'no work is left' test -z "$(find "$work/bundle/build/gpu-report" -maxdepth 1 -name 'work.*')"
mkdir "$work/again"
cp "$md" "$work/again/"
(cd "$work" && env -u BUILD OUT="$work/again" PATH="$work/played:$PATH" bundle/dev/gpu_report.sh --short --phases=ranks) >"$work/out" 2>&1
check 'a second report on one day has a name of its own' test -s "${md%/whole/*}/again/$(basename "${md%.md}")-2.md"
check 'the first is untouched' cmp "$md" "$work/again/$(basename "$md")"

# ------------------------------------------------------------------ predictions

predict() { "$BUILD/bench_gpu_emu" predict "$@"; }
predict H100 gpt2-124M 64 1024 1 >"$work/out" 2>&1
# Of an H100: 989 TFLOP/s dense, 3,350 GB/s. 65,536 tokens, C = 768, 12 heads of 64, MLP 3,072.
row() { # row NAME CALLS MILLISECONDS: within a thousandth
    check "predicted, $1: $(grep -F "| $1 |" "$work/out")" awk -F' *[|] *' -v name="$1" -v calls="$2" -v ms="$3" '
        $2 == name && NF > 6 { ok = $3 == calls && ($4 - ms) ^ 2 < (ms / 1000 + 5e-5) ^ 2 } END { exit !ok }' "$work/out"
}
calc() { awk "BEGIN { printf \"%.6f\", $1 }"; }
row 'fc product + GELU' 12 "$(calc '1e3 * 2 * 65536 * 768 * 3072 / (0.81 * 989e12)')"
row 'attention' 12 "$(calc '1e3 * 64 * 12 * 1024 * 1024 / 2 * 64 * 4 / (0.35 * 989e12)')"
row 'norm' 25 "$(calc '1e3 * 65536 * 768 * 2 * 2 / (0.9 * 3350e9)')"
row 'projection + residual' 12 "$(calc '1e3 * 2 * (3 * 65536 * 768 + 768 * 768) / (0.9 * 3350e9)')" # its bytes take longer
parameters=$("$BUILD/train_gpt_cpu" info --json --model=gpt2-124M --seq_len=1024 | jq .model.matmul_parameters)
check "the products are those of the model: $(grep 'matrix products' "$work/out")" awk -F' *[|] *' -v P="$parameters" '
    $2 == "matrix products" { share = $3 / 1e3 * 0.81 * 989e12 / (6 * P * 65536); ok = share > 0.999 && share < 1.01 } END { exit !ok }' "$work/out"
check 'the rows add up to the step' awk -F' *[|] *' '/^\| [0-9.]+ \| [0-9]+ \| [0-9.]+% \|/ { step = $2 } /\| (FLOPs|bytes) \|$/ { sum += $3 * $4 } END { exit !(step > 0 && (sum - step) ^ 2 < 0.02 ^ 2) }' "$work/out"
predict 'A100-SXM4-40GB' gpt2-124M 64 1024 1 >"$work/out" 2>&1
row 'attention' 12 "$(calc '1e3 * 64 * 12 * 1024 * 1024 / 2 * 64 * 4 / (0.6 * 312e12)')"
row 'norm' 25 "$(calc '1e3 * 65536 * 768 * 2 * 2 / (0.9 * 1555e9)')"
predict H100 llama-1.5B 8 2048 4 block >"$work/out" 2>&1
row 'norm' $((28 * 4 * 4 + 4)) "$(calc '1e3 * 16384 * 2048 * 2 * 2 / (0.9 * 3350e9)')"
# dev/bench/README.md shows what the verb prints.
while read -r preset B T passes; do
    predict H100 "$preset" "$B" "$T" "$passes" >"$work/out" 2>&1
    row=$(awk -F' *[|] *' '/^\| [0-9.]+ \| [0-9]+ \| [0-9.]+% \|/ { ms = $2; mfu = $4 } NF == 4 && $3 + 0 > 0 { of[$2] = $3 }
        END { printf "| %s | %s | %s | %s | %s |", ms, of["matrix products"], of["attention"], of["memory-bound"], mfu }' "$work/out")
    check "dev/bench/README.md has another prediction of $preset than $row" grep -Fq "| $preset, B=$B T=$T, $passes micro-batch$([ "$passes" = 1 ] || echo es) $row" dev/bench/README.md
done <<'END'
gpt2-124M 64 1024 1
gpt2-1.5B 16 1024 4
llama-1.5B 8 2048 4
END
predict H100 gpt2-124M 0 1024 >"$work/out" 2>&1
check "predict, a batch of 0: $(cat "$work/out")" has "$work/out" 'whole numbers from 1'
predict XT9000 gpt2-124M 8 1024 >"$work/out" 2>&1
check "predict, an unknown device: $(cat "$work/out")" has "$work/out" 'XT9000 is not in llmc/cuda/peak.h'
conclude
