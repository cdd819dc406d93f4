#!/usr/bin/env bash
# Memory: what info says a run takes is what it takes; where there is less, one line before the first step says what is
# needed and what is there, for one rank and for several, under ulimit and in a cgroup; nobody is killed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}" "${SANITIZE:=0}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
if [ -n "$RUNNER" ] || [ "$SANITIZE" = 1 ]; then # both take memory of their own
    skip 'memory_test.sh, memory of the process' 'only in the plain build'
    conclude
    exit
fi
program=$PWD/$BUILD/train_gpt_cpu sample=$PWD/dev/test/sample_de.txt
work=$(mktemp -d)
group=
trap '[ -z "$group" ] || rmdir "$group"; rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive
"$program" bpe --input="$sample" --vocab_size=512 --out=t.json >out 2>&1 && "$program" tokenize --tokenizer=t.json --input="$sample" --val_fraction=0.3 --out=s >>out 2>&1
check "preparing: $(cat out)" test -f s_val_00000.bin

train() { # train OUT OPTION...
    "${launch[@]}" "$program" train --train_data='s_train_*' --val_data='s_val_*' --tokenizer=t.json --out="$1" --steps=2 --val_every=0 --checkpoint_every=1 --progress=off --optimizer=adamw "${@:2}" >out 2>err
}
launch=()
# The largest part in turn: weights, activations, all of a middling model. Beside the sum there are the program, libraries and
# stacks: 20 to 30 MB.
for shape in llama-30M:1:32 llama-5M:16:256 gpt2-nano:64:256; do
    IFS=: read -r model B T <<<"$shape"
    train run --model="$model" --batch_size="$B" --seq_len="$T"
    check "$shape trains: $(cat err)" test -d run/step_00000002
    "$program" info --json --model=run/step_00000002 --batch_size="$B" --seq_len="$T" >about
    peak=$(sed -n 's/.*peak memory \([0-9.]*\) GB.*/\1/p' run/run.log)
    # shellcheck disable=SC2016  # $peak is jq's
    check "$shape: the peak is $peak GB, info says $(jq .model.memory.all about) bytes" jq -e --argjson peak "$peak" \
        '(.model.memory.all / 1e9) as $sum | $peak > $sum * 0.98 and $peak < $sum * 1.02 + 0.045' about
    check "$shape: info's parts add up" jq -e '.model.memory | .all == .weights + .gradients + .moments + .activations + .buffers + .checkpoint_copy + .scratch' about
    check "$shape: what was needed and there is in the log" grep -Eq '^memory: [0-9.]+ GiB needed \(.*\); [0-9.]+ GiB left for 1 rank \(.+\)$' run/run.log
    mv run "run_$model"
done

# What eval --tasks keeps of what tasks begin with: keys and values of a root (T tokens) and of families (B / 2 times T) of
# all layers, and one layer's of B T tokens.
"$program" info --json --model="$work/run_llama-5M/step_00000002" --batch_size=16 --seq_len=256 >about
# shellcheck disable=SC2016  # a program of jq
check 'info: keys and values of shared beginnings' jq -e '.model as $c | $c.eval_memory
    | .shared == 2 * 4 * $c.kv_heads * $c.head_size * (9 * 256 * $c.layers + 16 * 256) and .all == .weights + .activations + .buffers + .shared' about

# Pairs of answers: a weight of 4 bytes for each token.
"$program" info --json --model=run_llama-5M/step_00000002 --batch_size=16 --seq_len=256 --objective=dpo >pairs
check 'info: weights of the tokens of pairs' jq -en '[inputs.model] | .[1].memory.buffers - .[0].memory.buffers == 4 * 16 * 256 and .[0].eval_memory == .[1].eval_memory' about pairs

short() { # short MESSAGE PATTERN COMMAND...: one line of error with this in it, and exit code 1
    local message=$1 pattern=$2 code=0
    shift 2
    "$@" || code=$?
    check "$message: exit code $code: $(head -n 3 err)" test "$code $(wc -l <err)" = '1 1'
    check "$message: $(cat err)" grep -Eq -- "$pattern" err
}
limited() { (ulimit -v "$1" && "${@:2}"); } # limited KB COMMAND...
verb() { "$program" "$@" >out 2>err; }
model=$work/run_llama-30M/step_00000002
short 'ulimit -v, train' '^error: training needs 0\.[4-9][0-9]* GiB of memory \(weights 0.067, .*copy for checkpoints.*\), and 0\.[0-9]+ GiB are left \(.*ulimit -v\): take a smaller --batch_size.*LLMC_MEMORY_CHECK=off' \
    limited 500000 train none --model=llama-30M --batch_size=4 --seq_len=32
check 'nothing was written' test -z "$(find none -name 'step*' -o -name '*.log' 2>/dev/null)"
short 'ulimit -v, dump' '^error: dump needs .* left \(.*ulimit -v\)' limited 300000 verb dump --model="$model" --data='s_val_*' --batch_size=2 --seq_len=32 --out=x
short 'ulimit -v, eval' '^error: eval needs .* left \(.*ulimit -v\)' limited 450000 verb eval --model="$work/run_gpt2-nano/step_00000002" --data='s_val_*' --batch_size=4096 --seq_len=256
sentence=$(printf 'Das Haus am Ufer %.0s' {1..20})
printf '{"context": "%s", "choices": ["ja", "nein"], "answer": 0}\n' "$sentence" >tasks.jsonl
short 'ulimit -v, eval --tasks' '^error: eval needs .*keys and values of what tasks begin with [0-9.]+.* left \(.*ulimit -v\)' limited 450000 verb eval --model="$work/run_gpt2-nano/step_00000002" --tasks=tasks.jsonl --batch_size=4096
# Matrices and tables as bf16: 2 bytes a number.
short 'ulimit -v, eval in bf16' '^error: eval needs .*\(weights 0\.03[34], ' limited 300000 verb eval --model="$model" --data='s_val_*' --batch_size=4096 --seq_len=32 --precision=bf16 --kernels=emulated
LLMC_MEMORY_CHECK=off short 'no check' '^error: out of memory: [0-9.]+ GiB could not be allocated' limited 500000 train none --model=llama-30M --batch_size=4 --seq_len=32

# A cgroup of either version.
for top in "/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:[^:]*memory[^:]*://p' /proc/self/cgroup)" /sys/fs/cgroup/memory /sys/fs/cgroup; do
    [ -f "$top/memory.limit_in_bytes" ] || [ -f "$top/memory.max" ] || [ "$top" = /sys/fs/cgroup ] || continue
    group=$top/llmc_test_$$
    if mkdir "$group" 2>/dev/null; then
        limit=$group/memory.limit_in_bytes
        [ -f "$limit" ] || limit=$group/memory.max
        if { echo 600000000 >"$limit"; } 2>/dev/null && (echo "$BASHPID" >"$group/cgroup.procs") 2>/dev/null; then break; fi
        rmdir "$group"
    fi
    group=
done
# shellcheck disable=SC2317  # called by name
inside() { (echo "$BASHPID" >"$group/cgroup.procs" && "$@"); } # inside COMMAND...
if [ -z "$group" ]; then skip 'memory_test.sh, a cgroup' 'no cgroup may be made here'; else
    short 'a cgroup, train' "^error: training needs 2\.[0-9]+ GiB .* 0\.[45][0-9]* GiB are left \($group/memory\.(max|limit_in_bytes)\)" inside train none --model=gpt2-124M --batch_size=4 --seq_len=64
    inside train fits --model=llama-5M --batch_size=4 --seq_len=64
    check "a cgroup in which it fits: exit code $?: $(cat err)" test -d fits/step_00000002
    # A file that was read before lies in the cgroup's page cache, and is no reason to refuse.
    echo 200000000 >"$limit"
    head -c 400000000 /dev/zero >large
    inside cat large >/dev/null
    inside train cached --model=llama-5M --batch_size=4 --seq_len=64
    check "a cgroup full of page cache: exit code $?: $(cat err)" test -d cached/step_00000002
    rm large
    echo 600000000 >"$limit"
    why=$(no_ranks)
    if [ -n "$why" ]; then skip 'memory_test.sh, ranks in one cgroup' "$why"; else
        # Together too much, each alone not.
        launch=(mpirun --oversubscribe --bind-to none -n 3)
        inside train ranks --model=llama-30M --batch_size=1 --seq_len=32 --zero=0
        check "3 ranks in one cgroup: one line of error: $(cat err)" test "$(grep -c '^error: ' err)" -eq 1
        check "3 ranks in one cgroup: $(cat err)" grep -Eq '^error: .*training on 3 ranks that share it needs 1\.[0-9]+ GiB of memory \(this rank: .* left \(.*llmc_test_' err
        launch=(mpirun --oversubscribe --bind-to none -n 1)
        [ "$(id -u)" -eq 0 ] || unset 'launch[-1]'
        inside train one --model=llama-30M --batch_size=1 --seq_len=32 --zero=0
        check "1 rank in the same cgroup: $(cat err)" test -d one/step_00000002
    fi
fi
conclude
