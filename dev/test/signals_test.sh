#!/usr/bin/env bash
# Ends that come from outside: signals, a reader or a terminal that goes away, descriptors that are closed from the start,
# files that become shorter while they are read, threads that are not to be had, a launcher that is killed. Training ends
# with a checkpoint, and goes on from it to the bits of an undisturbed run; every verb ends with 0, 1 or 3 and a line.
set -uo pipefail
# Whoever started this may ignore a hangup (nohup), and then all that it starts does: once more, with all as it comes.
if [ -z "${SIGNALS_AS_THEY_COME:-}" ]; then
    SIGNALS_AS_THEY_COME=1 exec perl -e '$SIG{$_} = "DEFAULT" for qw(HUP INT QUIT TERM USR1 USR2 XCPU ALRM PWR PIPE); exec @ARGV' bash "$0"
fi
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}" "${SANITIZE:=0}"
binary=$PWD/$BUILD/train_gpt_cpu
# shellcheck disable=SC2206  # RUNNER is a command with its options
program=($RUNNER "$binary")
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sample=$PWD/dev/test/sample_de.txt
cd "$work" || exit 1
bpe=(bpe --input="$sample" --vocab_size=512)
tokenize=(tokenize --tokenizer=tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1)
"${program[@]}" "${bpe[@]}" --out=tokenizer.json >out 2>&1 && "${program[@]}" "${tokenize[@]}" --out=s >>out 2>&1
check "preparing: $(cat out)" test -f s_val_00000.bin

steps=30
options=()
set_options() { # set_options OUT OPTION...
    options=(train --model=llama-nano '--train_data=s_train_*.bin' '--val_data=s_val_*.bin' --tokenizer=tokenizer.json --out="$1" --batch_size=2 --seq_len=48
        --threads=1 --steps="$steps" --lr=3e-3 --lr_schedule=constant --val_every=0 --checkpoint_every=0 --progress=off --resume=auto "${@:2}")
}
train() { # train OUT OPTION...
    set_options "$@"
    "${program[@]}" "${options[@]}" >out 2>err
}
start() { # the same in the background, without an end; its number in $pid
    set_options "$@" --steps=100000000
    "${program[@]}" "${options[@]}" >out 2>err &
    pid=$!
}
await() { # await COMMAND...: until it succeeds, or the program that was started has ended
    while kill -0 "$pid" 2>/dev/null; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.02
    done
    "$@" >/dev/null 2>&1
}
said() { tail -n 2 err out | tr '\n' ' '; }
saved() { # saved OUT: its newest step, 0 if there is none
    local last
    last=$(find "$1" -maxdepth 1 -name 'step_*[0-9]' | sort | tail -n 1)
    echo $((10#0${last##*_}))
}
bits() { cat "$(printf '%s/step_%08d' "$1" "$2")"/{model,optimizer-*}.safetensors | sha256sum; }
# goes_on OUT: it stopped with a checkpoint; some steps more, with the bits of a run that nobody touched
goes_on() {
    local end=$(($(saved "$1") + 2))
    [ $end -gt 2 ] || return 1
    rm -rf whole
    train whole --steps=$end && train "$1" --steps=$end && test "$(bits "$1" $end)" = "$(bits whole $end)"
}
one_line() { test "$(wc -l <err)" -eq 1 && grep -q '^error: ' err; } # one_line: of error, and no other

# ---- signals
for signal in HUP INT QUIT TERM USR1 USR2 XCPU ALRM PWR; do
    start "run_$signal"
    await test -s "run_$signal/metrics.jsonl"
    kill -$signal $pid
    wait $pid
    code=$?
    check "SIG$signal ends with 3, not $code: $(said)" test $code -eq 3
    check "SIG$signal: says nothing on stderr: $(cat err)" test ! -s err
    check "SIG$signal: a checkpoint, from which it goes on" goes_on "run_$signal"
done
set_options nohup
nohup "${program[@]}" "${options[@]}" >out 2>err &
pid=$!
await test -s nohup/metrics.jsonl
kill -HUP $pid
wait $pid
check "under nohup a hangup is nothing, not exit code $?: $(said)" test "$(saved nohup)" -eq $steps

# ---- a verb that writes a file, with several threads: the signal is for the one that removes what it began
for ((i = 0; i < 400; i++)); do cat "$sample"; done >big.txt
for signal in TERM HUP; do
    "${program[@]}" tokenize --tokenizer=tokenizer.json --input=big.txt --threads=4 --out=several >out 2>err &
    pid=$!
    await compgen -G '.several*'
    kill -$signal $pid
    wait $pid 2>/dev/null
    code=$?
    check "tokenize, SIG$signal: exit code $code" test $code -eq $((128 + $(kill -l $signal)))
    check "tokenize, SIG$signal, leaves nothing: $(echo .several* several*)" test -z "$(compgen -G '.several*'; compgen -G 'several*')"
done

# ---- the reader of standard output goes away
set_options piped
"${program[@]}" "${options[@]}" 2>err | head -n 1 >/dev/null
check "SIGPIPE does not end a run: exit codes ${PIPESTATUS[*]}, $(cat err)" test "$(saved piped)" -eq $steps
train whole_piped
check "and changes no bit of it" test "$(bits piped $steps)" = "$(bits whole_piped $steps)"
"${program[@]}" eval --model=piped --help | head -n 1 >/dev/null
code=${PIPESTATUS[0]}
check "SIGPIPE ends no verb: exit code $code" test "$code" -lt 128

# ---- closed descriptors: no file gets their numbers
for closed in 0 1 2 012; do
    close='' run=closed_$closed
    for ((i = 0; i < ${#closed}; i++)); do close+=" ${closed:i:1}>&-"; done
    mkdir $run
    eval '"${program[@]}" "${bpe[@]}" --out=$run/tokenizer.json >out 2>err' "$close"
    check "bpe without descriptors $closed" cmp tokenizer.json $run/tokenizer.json
    eval '"${program[@]}" "${tokenize[@]}" --out=$run/s >out 2>err' "$close"
    check "tokenize without descriptors $closed" cmp s_train_00000.bin $run/s_train_00000.bin
    set_options $run
    eval '"${program[@]}" "${options[@]}" --checkpoint_every=4 >out 2>err' "$close"
    check "train without descriptors $closed" test "$(bits $run $steps)" = "$(bits whole_piped $steps)"
    check "its log" grep -q 'finished: ' $run/run.log
    check "its metrics" jq -es "[.[].step] == [range($steps) | . + 1]" $run/metrics.jsonl
done

# ---- files that become shorter
cp s_train_00000.bin train.kept
cp s_val_00000.bin val.kept
for side in train val; do
    start "short_$side" --val_every=1
    await test -s "short_$side/metrics.jsonl"
    truncate -s 1000 "s_${side}_00000.bin"
    wait $pid
    check "$side data become shorter: exit code $?" test $? -eq 1
    check "$side data become shorter: one line, $(cat err)" one_line
    check "it names the file: $(cat err)" grep -q "s_${side}_00000.bin became shorter .*the checkpoint of step [0-9]* is written" err
    cp $side.kept "s_${side}_00000.bin"
    check "$side data are whole again: the run goes on" goes_on "short_$side"
done
if [ "$SANITIZE" = 0 ] && [ -z "$RUNNER" ]; then # sanitizers have a handler of their own
    for verb in bpe tokenize; do
        for ((i = 0; i < 400; i++)); do cat "$sample"; done >big.txt
        words=("$verb" --input=big.txt --threads=1 --out=big)
        [ $verb = tokenize ] && words+=(--tokenizer=tokenizer.json)
        "${program[@]}" "${words[@]}" >out 2>err &
        pid=$!
        await grep -q big.txt "/proc/$pid/maps" && kill -STOP $pid && truncate -s 5000 big.txt && kill -CONT $pid
        wait $pid
        code=$?
        check "$verb of a file that becomes shorter: exit code $code: $(said)" test $code -eq 1
        check "$verb names it in one line: $(cat err)" one_line
        check "$verb names it: $(cat err)" grep -q 'big.txt' err
        check "$verb leaves nothing under a good name" test ! -e big -a ! -e big_train_00000.bin
    done
fi

# ---- threads
OMP_NUM_THREADS=many train threads
check "OMP_NUM_THREADS=many: exit code $?: $(cat err)" grep -q '^error: OMP_NUM_THREADS=many in the environment' err
check "nothing was made" test ! -e threads
if [ "$SANITIZE" = 0 ] && [ -z "$RUNNER" ]; then
    (
        ulimit -v 2000000
        OMP_STACKSIZE=1G train threads --threads=8
    )
    check "threads that are not to be had: $(cat err)" one_line
    check "threads that are not to be had: $(cat err)" grep -q '8 threads cannot be started' err
    (
        ulimit -s 100
        train threads
    )
    check "small stacks: $(cat err)" grep -q '^error: stacks of 100 kB (ulimit -s)' err
fi

# ---- a launcher that is killed
if ! command -v mpirun >/dev/null || [[ $BUILD != *mpi1* ]] || [ -n "$RUNNER" ]; then
    echo 'no mpirun, or a build without MPI: launchers are not tested'
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
    exit
fi
export OMP_WAIT_POLICY=passive
launch=(mpirun --oversubscribe --bind-to none)
ranks_of() { # the processes of the run in FOLDER
    local p
    for p in $(pgrep -f -- "--out=$1( |\$)"); do if [ "$(cat "/proc/$p/comm" 2>/dev/null)" = train_gpt_cpu ]; then echo "$p"; fi; done
}
gone() { # gone FOLDER: waits until none is left, at most two minutes: they end by themselves in a second or two
    local i
    for ((i = 0; i < 1200; i++)); do
        [ -z "$(ranks_of "$1")" ] && return 0
        sleep 0.1
    done
    ranks_of "$1" | xargs -r kill -9
    return 1
}
program=("${launch[@]}" -n 2 "$binary")
# shellcheck disable=SC2016  # the wrapper's shell expands it
wrapped=("${launch[@]}" -n 2 sh -c '"$@"; exit $?' wrapper "$binary")
for how in direct wrapped; do
    run=launcher_$how
    set_options $run --steps=100000000
    command=("${program[@]}")
    [ $how = wrapped ] && command=("${wrapped[@]}")
    "${command[@]}" "${options[@]}" >out 2>err &
    pid=$!
    await test -s $run/metrics.jsonl
    kill -9 $pid
    wait $pid 2>/dev/null
    check "the launcher is killed, $how: its ranks end" gone $run
    check "the log says why, $how: $(tail -n 1 $run/run.log)" grep -q 'stopped by the end of the process that started the ranks' $run/run.log
    check "with a checkpoint, $how: $(ls $run)" goes_on $run
done
# Steps of seconds: longer than Open MPI leaves to a process whose launcher has gone.
set_options launcher_slow --steps=100000000 --total_batch_tokens=96000
"${program[@]}" "${options[@]}" >out 2>err &
pid=$!
await test -s launcher_slow/metrics.jsonl
kill -9 $pid
wait $pid 2>/dev/null
check "the launcher is killed in a long step: its ranks end" gone launcher_slow
check "with a checkpoint: $(ls launcher_slow)" test "$(saved launcher_slow)" -gt 0
set_options signal_ranks --steps=100000000
"${program[@]}" "${options[@]}" >out 2>err &
pid=$!
await test -s signal_ranks/metrics.jsonl
kill -USR2 $pid # mpirun passes it on; at SIGTERM it would kill
wait $pid
code=$?
check "2 ranks, SIGUSR2: exit code $code: $(said)" test $code -eq 3
check "2 ranks, SIGUSR2: a checkpoint, from which they go on" goes_on signal_ranks
set_options short_ranks --steps=100000000
"${program[@]}" "${options[@]}" >out 2>err &
pid=$!
await test -s short_ranks/metrics.jsonl
truncate -s 1000 s_train_00000.bin
wait $pid
check "2 ranks, data become shorter: exit code $?" test $? -eq 1
check "2 ranks, data become shorter: $(cat err)" test "$(cat out err | grep -c 'error: ')" -eq 1
check "2 ranks, data become shorter: $(cat err)" grep -q '^error: .*s_train_00000.bin became shorter' err
cp train.kept s_train_00000.bin
check "2 ranks, data are whole again" goes_on short_ranks

conclude
