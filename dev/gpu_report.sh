#!/usr/bin/env bash
# What a GPU says of train_gpt, in one Markdown report: right, how fast, and how far from what gpu_model.h predicts.
#
#     dev/gpu_report.sh [--phases=LIST] [--seconds=N] [--limit=[PHASE:]N] [--peer=COMMAND] [--short]
#
#   --phases   first (default), second, all, or names, separated by commas
#   --seconds  all of it, the build included, ends after N seconds (540); what did not run is named
#   --limit    a phase, or every one, is stopped after N seconds, in place of a limit of its own; may be given again
#   --peer     another program's step, beside ours: called as COMMAND INFO B T STEPS with the file that `info --json`
#              writes of the model, it prints lines `NAME<tab>MILLISECONDS A STEP`; others are ignored
#   --short    tiny sizes: the rehearsal on the emulator (dev/test/gpu_report_test.sh)
#
#   facts kernels gpt2-124M attention tensors gpt2-1.5B llama-1.5B bits curve   first: by worth, planned for 200 s of an H100
#   memcheck racecheck tests peer ranks                                         second: in a call of its own
#
# The report, ${OUT:-dev/results}/DATE-DEVICE.md, is written anew after every phase, tables first; whole outputs stand
# in gpu_report.log beside it (without OUT: in build/gpu-report). Made for a machine that is borrowed for minutes: from a
# folder of `make gpu-bundle` it runs what was built elsewhere, and builds only where that does not start. Needs a
# GPU and its driver; to build, also CUDA's compiler. Ends with 1 if a phase failed, or did not
# end or begin in time; the report says which.
# shellcheck disable=SC2317,SC2329  # phases are called by name
set -uo pipefail
export CALLER=${CALLER:-$PWD} # where --peer's command runs, and what OUT counts from
case ${OUT:-} in '' | /*) ;; *) OUT=$CALLER/$OUT ;; esac
cd "$(dirname "$0")/.." || exit 1

# ------------------------------------------------------------------ phases: each a function that prints; 77: cannot be run here

# size FULL SHORT...
size() { if [ "$SHORT" = 1 ]; then echo "$2"; else echo "$1"; fi; }
data=(--train_data="${WORK:=}/data_train_*.bin" --val_data="$WORK/data_val_*.bin" --tokenizer="$WORK/tokenizer.json")

phase_facts() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.memory,compute_cap --format=csv,noheader |
        awk 'BEGIN { print "| GPU | driver | memory | power limit | SM clock, at most | memory clock | compute capability |\n|---|---|---|---|---|---|---|" } { gsub(/, /, " | "); print "| " $0 " |" }'
    echo
    "$BUILD/bench_gpu" ceilings || return 1
    printf '\nHost: %s, %s cores; %s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -srm)"
}

phase_kernels() {
    local failed=0 few=()
    [ "$SHORT" = 0 ] || few=(3)
    "$BUILD/cuda_attention_test" "${few[@]}" || failed=1
    "$BUILD/cuda_test" "$(size '' 'adamw 1')" || failed=1
    return $failed
}

# bench PRESET B T MICRO_BATCHES STEPS: where that is too large for the GPU, half the batch and twice the micro-batches
bench() {
    local B=$2 passes=$4
    until "$BUILD/bench_gpu" "$1" "$B" "$3" "$passes" "$5" none >"$WORK/bench" 2>&1; do
        cat "$WORK/bench"
        if [ "$B" -le 1 ] || ! grep -q 'of device memory' "$WORK/bench"; then return 1; fi
        B=$((B / 2)) passes=$((passes * 2))
    done
    cat "$WORK/bench"
}
# shellcheck disable=SC2046  # words
phase_gpt2-124M() { bench $(size 'gpt2-124M 64 1024 1 30' 'gpt2-nano 1 8 1 1'); }
# shellcheck disable=SC2046
phase_gpt2-1.5B() { bench $(size 'gpt2-1.5B 16 1024 4 6' 'gpt2-nano 1 8 1 1'); }
# shellcheck disable=SC2046
phase_llama-1.5B() { bench $(size 'llama-1.5B 8 2048 4 6' 'llama-nano 1 8 1 1'); }
phase_attention() { "$BUILD/cuda_attention_test" bench; }

# dump PROGRAM MODEL FILE: one step, every tensor
dump() { "$BUILD/$1" dump --model="$2" --data="$WORK/data_train_*.bin" --batch_size="$(size 3 1)" --seq_len="$(size 70 9)" --out="$WORK/$3.safetensors"; }
phase_tensors() {
    local model kind bf16 failed=0
    echo '| model | numbers | tensors | failed | worst of its bound | relative error | bound |'
    echo '|---|---|---|---|---|---|---|'
    for model in $(size 'gpt2-nano llama-nano qwen3-nano llama-5M' gpt2-nano); do
        dump train_gpt_cpu "$model" cpu >"$WORK/said" 2>&1 || { tail -n 2 "$WORK/said"; failed=1; continue; }
        for kind in bf16 fp32; do
            dump "train_gpt$([ $kind = bf16 ] || echo _fp32)" "$model" gpu >"$WORK/said" 2>&1 || { tail -n 2 "$WORK/said"; failed=1; continue; }
            bf16=()
            [ $kind = fp32 ] || bf16=(bf16)
            "$BUILD/test_gpt" compare "$WORK/cpu.safetensors" "$WORK/gpu.safetensors" "${bf16[@]}" >"$WORK/compared" 2>&1 || failed=1
            # name (shape) largest-error relative-error bound ...
            awk -v start="| $model | $kind |" '
                match($0, /\([0-9, ]*\)/) { name = $1; split(substr($0, RSTART + RLENGTH), n, " ")
                    if (n[3] > 0 && n[3] != "inf" && (n[2] / n[3] > most || n[2] == "nan")) { most = n[2] / n[3]; worst = name; error = n[2]; bound = n[3] } }
                /tensors compared/ { print start, $1, "|", $4, "|", worst, "|", error, "|", bound, "|"; ok = 1 }
                END { exit !ok }' "$WORK/compared" || { tail -n 1 "$WORK/compared"; failed=1; }
            grep -E 'FAILED|goes wrong' "$WORK/compared" | head -n 8
        done
    done
    return $failed
}

# run PROGRAM MODEL STEPS NAME: trains into $WORK/NAME
run() {
    rm -rf "${WORK:?}/$4"
    "$BUILD/$1" train "${data[@]}" --model="$2" --steps="$3" --batch_size="$(size 8 1)" --seq_len="$(size 128 8)" --total_batch_tokens="$(size 2048 16)" --lr=6e-4 \
        --val_every=0 --checkpoint_every=0 --progress=off --out="$WORK/$4" >"$WORK/said" 2>&1 || { tail -n 3 "$WORK/said"; return 1; }
}
phase_bits() {
    local model steps failed=0 name
    model=$(size llama-30M llama-nano) steps=$(size 30 2)
    run train_gpt "$model" "$steps" a && run train_gpt "$model" "$steps" b && LLMC_GRAPHS=0 run train_gpt "$model" "$steps" c || return 1
    for name in 'b again' 'c without graphs'; do
        if cmp "$WORK"/{a,"${name%% *}"}/step_"$(printf %08d "$steps")"/model.safetensors; then echo "$steps steps of $model, ${name#* }: the same bits"; else failed=1; fi
    done
    return $failed
}
phase_curve() {
    local model steps
    model=$(size llama-5M llama-nano) steps=$(size 200 3)
    run train_gpt "$model" "$steps" gpu && run train_gpt_cpu "$model" "$steps" cpu || return 1
    paste <(grep -o '"loss": [^,]*' "$WORK/cpu/metrics.jsonl") <(grep -o '"loss": [^,]*' "$WORK/gpu/metrics.jsonl") | awk -v model="$model" -v steps="$steps" '
        BEGIN { print "| step of " model " | loss, CPU in fp32 | loss, GPU in bf16 | relative difference |\n|---|---|---|---|" }
        { d = ($4 - $2) / $2; a = d < 0 ? -d : d; if (!(a <= most)) most = a
          if (NR == 1 || NR == steps || NR % 50 == 0) printf "| %d | %s | %s | %.5f |\n", NR, $2, $4, d }
        END { printf "\nLargest relative difference: %.5f; at most 0.01 is expected.\n", most; exit !(NR == steps && most <= 0.01) }'
}

sanitize() { # sanitize TOOL: steps of small models, and attention
    local model check=(compute-sanitizer --tool "$1" --error-exitcode 9)
    command -v compute-sanitizer >/dev/null || { echo 'compute-sanitizer is not there'; return 77; }
    for model in $(size 'gpt2-nano qwen3-nano llama-nano' gpt2-nano); do
        echo "$model"
        LLMC_GRAPHS=0 "${check[@]}" "$BUILD/train_gpt" dump --model="$model" --data="$WORK/data_train_*.bin" --batch_size="$(size 2 1)" --seq_len="$(size 70 9)" \
            --out="$WORK/sanitized.safetensors" || return
    done
    "${check[@]}" "$BUILD/cuda_attention_test" 3
}
phase_memcheck() { sanitize memcheck; }
phase_racecheck() { sanitize racecheck; }

phase_tests() {
    local failed=0
    "$BUILD/cuda_model_test" || failed=1
    GPU=1 dev/test/cuda_test.sh || failed=1
    return $failed
}

phase_peer() {
    local words preset B T steps ours predicted
    [ -n "$PEER" ] || { echo 'no --peer=COMMAND was given'; return 77; }
    read -ra words <<<"$(size 'gpt2-124M 64 1024 1 20' 'gpt2-nano 1 8 1 1')"
    preset=${words[0]} B=${words[1]} T=${words[2]} steps=${words[4]}
    "$BUILD/train_gpt_cpu" info --json --model="$preset" --batch_size="$B" --seq_len="$T" >"$WORK/info.json" || return 1
    bench "${words[@]}" >"$WORK/ours" || { tail -n 3 "$WORK/ours"; return 1; }
    read -r ours predicted < <(awk -F' *[|] *' '/^\| [0-9.]+M / { split($3, ms, " "); print ms[1], $4; exit }' "$WORK/ours")
    # shellcheck disable=SC2086  # a command and its arguments
    (cd "$CALLER" && $PEER "$WORK/info.json" "$B" "$T" "$steps") >"$WORK/peer" 2>"$WORK/peer.err" || { tail -n 5 "$WORK/peer.err"; return 1; }
    { printf 'predicted by gpu_model.h\t%s\ntrain_gpt\t%s\n' "$predicted" "$ours"; cat "$WORK/peer"; } | awk -F'\t' -v ours="$ours" -v what="$preset, B=$B T=$T" -v tokens=$((B * T)) '
        BEGIN { print "| " what " | ms a step | tokens/s | tokens/s, ours = 1 |\n|---|---|---|---|" }
        NF == 2 && $2 + 0 > 0 { printf "| %s | %.2f | %.0f | %.2f |\n", $1, $2, tokens / $2 * 1e3, ours / $2; n++ }
        END { if (n < 3) { print "no line NAME<tab>MILLISECONDS came from --peer"; exit 1 } }'
}

phase_ranks() {
    local gpus
    gpus=$(nvidia-smi -L | wc -l)
    [ "$gpus" -gt 1 ] || { echo "$gpus GPU"; return 77; }
    grep -aq ncclAllReduce "$BUILD/train_gpt" || { echo 'the programs were built without NCCL'; return 77; }
    GPU=1 dev/test/cuda_ranks_test.sh
}

if [ "${1:-}" = run ]; then # run NAME: one phase, in the environment that the report has set up
    "phase_$2"
    exit
fi

# ------------------------------------------------------------------ options

fault() { echo "error: $1" >&2; exit 1; }
# NAME:GROUP:LIMIT:TITLE
phases=('facts:first:60:The machine and its ceilings' 'kernels:first:120:Kernels and attention against the CPU in double' 'gpt2-124M:first:90:Speed, gpt2-124M'
    'attention:first:60:Speed, attention' 'tensors:first:120:One step, tensor by tensor, against the CPU' 'gpt2-1.5B:first:120:Speed, gpt2-1.5B' 'llama-1.5B:first:120:Speed, llama-1.5B'
    'bits:first:90:Identical runs, with and without graphs' 'curve:first:120:200 steps beside those of the CPU' 'memcheck:second:150:compute-sanitizer memcheck'
    'racecheck:second:150:compute-sanitizer racecheck' 'tests:second:200:The other tests' 'peer:second:150:Another program'"'"'s step beside ours' 'ranks:second:300:Several GPUs against one')
declare -A limits
want=first seconds=540 PEER='' SHORT=0
for word in "$@"; do
    case $word in
        --phases=*) want=${word#*=} ;;
        --seconds=*) seconds=${word#*=} ;;
        --limit=*)
            name=${word#*=}
            [[ $name =~ ^([a-z0-9.A-Z-]+:)?[1-9][0-9]{0,5}$ ]] || fault "$word: expected seconds, a whole number from 1, or PHASE:SECONDS"
            case $name in *:*) limits[${name%%:*}]=${name#*:} ;; *) limits[every]=$name ;; esac
            ;;
        --peer=?*) PEER=${word#*=} ;;
        --short) SHORT=1 ;;
        --help) sed -n '2,/^# shellcheck/{/^# shellcheck/d; s/^# \{0,1\}//p}' "$0"; exit ;;
        *) fault "$word: expected --phases, --seconds, --limit, --peer or --short; see --help" ;;
    esac
done
[[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] || fault "--seconds=$seconds: expected a whole number from 1"
chosen=()
for name in ${want//,/ }; do
    found=0
    for phase in "${phases[@]}"; do
        IFS=: read -r is group _ <<<"$phase"
        if [ "$name" = "$is" ] || [ "$name" = "$group" ] || [ "$name" = all ]; then chosen+=("$phase") found=1; fi
    done
    [ $found = 1 ] || fault "--phases: $name is no phase; see --help"
done
[ ${#chosen[@]} -gt 0 ] || fault "--phases is empty; see --help"

device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$device" ] || fault "nvidia-smi finds no GPU on this machine; make test runs the CUDA program without one"
scratch=build/gpu-report
ready=${BUILD:-$([ -e commit ] && echo programs)} # where programs lie; a tree has none, it builds
BUILD=${ready:-$scratch/programs}
out=${OUT:-dev/results}
mkdir -p "$scratch" "$out" || exit 1
WORK=$(mktemp -d "$PWD/$scratch/work.XXXXXX") || exit 1
export BUILD WORK SHORT PEER LLMC_CACHE=$WORK/cache # each report measures its products itself
commit=$(cat commit 2>/dev/null || { git rev-parse --short=12 HEAD && git diff --quiet HEAD || echo +changes; } 2>/dev/null | tr -d '\n')
report=$out/$(date -u +%F)-$(tr -c 'A-Za-z0-9\n' - <<<"$device")
n=1
while [ -e "$report$([ $n = 1 ] || echo -$n).md" ]; do n=$((n + 1)); done
report=$report$([ $n = 1 ] || echo -$n).md
log=${OUT:-$scratch}/gpu_report.log
: >"$log"

# ------------------------------------------------------------------ the report

# Of every phase that began or could not: its name in `done_names`, and its result, seconds and limit.
done_names=() missing=() failed=()
declare -A result took allowed title told
for phase in "${phases[@]}"; do IFS=: read -r is _ _ text <<<"$phase"; title[$is]=$text; done
title[build]='Building the programs'

# readings NAME: power and SM clock that nvidia-smi saw while a phase ran: `mean, most | lowest, highest`
readings() {
    awk -F' *, *' '$1 + 0 > 0 { w = $1 + 0; c = $2 + 0; sum += w; if (w > top) top = w; if (n++ == 0 || c < low) low = c; if (c > high) high = c }
        END { if (n) printf "%.0f, %.0f | %.0f, %.0f", sum / n, top, low, high; else printf "- | -" }' "$WORK/$1.smi"
}
# shown NAME tables|rest: the tables of a phase's output with what belongs to them, or what else it printed
shown() {
    awk -v tables="$([ "$2" = tables ] && echo 1 || echo 0)" '
        { is = /^\||^### |^Power and clocks|^FLOPs a token|^Host: |^Largest / }
        is && tables { if (!/^\|/ || last !~ /^\|/) print ""; print; last = $0 }
        !is && tables { last = "" }
        !is && !tables && NF { print }' "$WORK/$1.out"
}
# headline NAME: a step's speed in a line, of each that a phase timed (bench_gpu's first table)
headline() {
    awk -F' *[|] *' '/^### / { title = substr($0, 5) }
        /^\| [0-9.]+M / { split($3, ms, " "); printf "\n%s: %s ms a step, %s predicted; %s tokens/s; MFU %s, %s predicted; %s GiB\n", title, ms[1], $4, $6, $8, $9, $10 }' "$WORK/$1.out"
}
write_report() {
    local name lines
    {
        printf '# train_gpt on %s\n\nCommit %s, %s UTC, phases %s, %d of %d s.\n\n' "$device" "${commit:-unknown}" "$(date -u '+%F %H:%M')" "$want" "$SECONDS" "$seconds"
        printf '| phase | result | s | limit | power W: mean, most | SM MHz: lowest, highest |\n|---|---|---|---|---|---|\n'
        for name in "${done_names[@]}"; do printf '| %s | %s | %s | %s | %s |\n' "${title[$name]}" "${result[$name]}" "${took[$name]}" "${allowed[$name]}" "$(readings "$name")"; done
        printf '\n%s\n' "$1"
        for name in "${done_names[@]}"; do headline "$name"; done
        for name in "${done_names[@]}"; do
            lines=$(shown "$name" tables)
            if [ -n "$lines" ]; then printf '\n## %s\n%s\n' "${title[$name]}" "$lines"; fi
        done
        printf '\n# What the phases printed beside\n'
        for name in "${done_names[@]}"; do
            lines=$(shown "$name" rest | tail -n 40 | cut -c1-220)
            # shellcheck disable=SC2016  # a fence of Markdown
            if [ -n "$lines" ]; then printf '\n## %s: %s\n\n```\n%s\n```\n' "${title[$name]}" "${result[$name]}" "$lines"; fi
        done
        printf '\n# What did not run\n\n'
        if [ ${#missing[@]} -gt 0 ]; then printf -- '- %s\n' "${missing[@]}"; else printf 'Nothing was left out.\n'; fi
    } >"$report.part" && mv "$report.part" "$report"
}

# phase NAME LIMIT COMMAND...: runs it, within the time that is left; false if it did not pass
phase() {
    local name=$1 most=${limits[$1]:-${limits[every]:-$2}} left=$((seconds - SECONDS)) from=$SECONDS before code cut=''
    shift 2
    if [ $left -lt 2 ]; then missing+=("$name: the $seconds s of --seconds are over"); told[$name]=1 late=1; return 1; fi
    if [ "$most" -gt $left ]; then most=$left cut=' of --seconds'; fi
    before=$(wc -l <"$WORK/smi") running=$name allowed[$name]=$most told[$name]=1
    timeout -k 3 "$most" "$@" >"$WORK/$name.out" 2>&1 &
    wait $!
    code=$?
    kill -KILL -- -$! 2>/dev/null # its group: a program that is still writing a checkpoint would disturb the next
    running='' took[$name]=$((SECONDS - from))
    tail -n "+$((before + 1))" "$WORK/smi" >"$WORK/$name.smi"
    { printf '=== %s: exit code %d after %d s\n' "$name" $code $((SECONDS - from)); cat "$WORK/$name.out"; } >>"$log"
    case $code in
        0) result[$name]=passed ;;
        77) missing+=("$name: $(tail -n 1 "$WORK/$name.out")"); write_report 'Unfinished.'; echo "$name: not run: $(tail -n 1 "$WORK/$name.out")"; return 1 ;;
        124 | 137) result[$name]="NOT FINISHED: stopped after the $most s$cut" failed+=("$name") ;;
        *) result[$name]="FAILED, exit code $code" failed+=("$name") ;;
    esac
    done_names+=("$name")
    write_report 'Unfinished.'
    echo "$name: ${result[$name]}, ${took[$name]} s"
    [ $code = 0 ]
}

# ended WHY: the last report, also where something ends this script from outside
ended() {
    local verdict=$1
    if [ ${#failed[@]} -gt 0 ]; then verdict="**Did not pass: ${failed[*]}.** $verdict"; fi
    write_report "$verdict"
    kill "$sampler" 2>/dev/null
    rm -rf "$WORK"
    sed '/^# What the phases printed/,$d' "$report" | head -c 9000
    sed -n '/^# What did not run/,$p' "$report"
    echo "$report"
}
stopped() {
    local phase pid
    trap '' TERM INT HUP
    for pid in $(jobs -p); do # the running phase's timeout with its group, and the sampler
        kill -TERM "$pid"
        kill -KILL -- "-$pid"
    done 2>/dev/null
    wait
    if [ -n "$running" ]; then
        done_names+=("$running") failed+=("$running") result[$running]='NOT FINISHED: the report was ended' took[$running]=-
        : >"$WORK/$running.smi"
    fi
    for phase in "${chosen[@]}"; do
        if [ -z "${told[${phase%%:*}]:-}" ]; then missing+=("${phase%%:*}: the report was ended by a signal"); fi
    done
    ended "Ended by a signal."
    exit 1
}
sampler='' running='' late=0
trap stopped TERM INT HUP
: >"$WORK/smi"
stdbuf -oL nvidia-smi -i 0 --query-gpu=power.draw,clocks.sm --format=csv,noheader,nounits -l 1 >>"$WORK/smi" 2>/dev/null &
sampler=$!

# ------------------------------------------------------------------ programs and data

programs=(train_gpt train_gpt_fp32 cuda_test cuda_attention_test cuda_model_test bench_gpu train_gpt_cpu test_gpt)
# start: do they? The tests are linked as the programs are.
start() {
    local p
    for p in "${programs[@]}"; do [ -x "$BUILD/$p" ] || { echo "$BUILD/$p is missing"; return 1; }; done
    for p in train_gpt train_gpt_fp32 train_gpt_cpu; do timeout 120 "$BUILD/$p" info >/dev/null || return 1; done
    timeout 120 "$BUILD/bench_gpu" predict H100 gpt2-nano 1 8 >/dev/null
}
libraries() { # where cuBLAS may lie beside the usual places: a toolkit, or the packages of a Python
    local folder python
    python=$(readlink -f "$(command -v python3 || echo /none)")
    for folder in /usr/local/cuda*/{lib64,targets/*/lib} /usr/lib/x86_64-linux-gnu "$(dirname "$(dirname "$(command -v python3 || echo /none/none)")")"/lib/python3*/site-packages/nvidia/*/lib \
        "${python%/bin/*}"/lib/python3*/site-packages/nvidia/*/lib; do
        if compgen -G "$folder/libcublasLt.so*" >/dev/null; then printf ':%s' "$folder"; fi
    done
}
if [ -n "$ready" ] && ! start >"$WORK/start" 2>&1; then
    LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}$(libraries)
    export LD_LIBRARY_PATH
    if ! start >"$WORK/start" 2>&1; then
        echo "the programs in $BUILD do not start, so they are built: $(tail -n 1 "$WORK/start")"
        ready='' BUILD=$scratch/programs
    fi
fi
if [ -z "$ready" ]; then
    command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
    phase build 420 make BUILD="$BUILD" COMMIT="$commit" CUDA_ARCH="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)" build-gpu
fi
if start >"$WORK/start" 2>&1 && "$BUILD/train_gpt_cpu" bpe --input=dev/test/sample_de.txt --vocab_size="$(size 512 384)" --out="$WORK/tokenizer.json" >"$WORK/start" 2>&1 &&
    "$BUILD/train_gpt_cpu" tokenize --tokenizer="$WORK/tokenizer.json" --input=dev/test/sample_de.txt --out="$WORK/data" >"$WORK/start" 2>&1; then
    for entry in "${chosen[@]}"; do
        IFS=: read -r name _ most _ <<<"$entry"
        phase "$name" "$most" "$BASH" dev/gpu_report.sh run "$name"
    done
else
    failed+=(programs)
    for phase in "${chosen[@]}"; do missing+=("${phase%%:*}: the programs do not start: $(tail -n 1 "$WORK/start")"); done
fi
ended "$([ ${#failed[@]} -gt 0 ] || echo 'What ran has passed.')$([ $late = 0 ] || echo ' Not all of it ran.')"
[ ${#failed[@]} -eq 0 ] && [ $late = 0 ]
