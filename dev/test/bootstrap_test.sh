#!/usr/bin/env bash
# Ranks that find each other through a file (llmc/ranks/bootstrap.h), started as srun without PMIx starts them: the
# result of all is that of one; files of other jobs and tries are passed over; who does not come or goes away
# is missed, with a message, in time; strangers hold nobody up.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
# shellcheck disable=SC2206  # RUNNER is a command with its options
program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sample=$PWD/dev/test/sample_de.txt model=$PWD/dev/test/fixtures/models/llama-untied
cd "$work" || exit 1
"${program[@]}" tokenize --tokenizer="$model/tokenizer.json" --input="$sample" --doc_split=formfeed --out=s >out 2>&1
check "preparing: $(cat out)" test -f s_train_00000.bin
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive SLURM_JOB_ID=4711 SLURM_STEP_ID=2 SLURM_STEP_NUM_TASKS=3 LLMC_BOOTSTRAP=$work LLMC_BOOTSTRAP_SECONDS=60
evaluate() { SLURM_PROCID=$1 "${program[@]}" eval --model="$model" --data='s_train_*.bin' --seq_len=13 --val_tokens=780 --batch_size=4 >"out$1" 2>&1; }
result() { sed 's/, "tokens_per_s.*//' "out$1"; }
ranks() { # ranks RANK...: all at once; the exit codes in $codes
    local pids=() pid
    for rank in "$@"; do
        evaluate "$rank" &
        pids+=($!)
    done
    codes=
    for pid in "${pids[@]}"; do
        wait "$pid"
        codes+=$?
    done
}
await_connections() { # await_connections PORT N: until so many are there, at most 60 s
    local i
    for ((i = 0; i < 1200; i++)); do
        [ "$(grep -c "^ *[0-9]*: [0-9A-F]*:$(printf %04X "$1") [0-9A-F:]* 01 " /proc/net/tcp)" -ge "$2" ] && return 0
        sleep 0.05
    done
    return 1
}
SLURM_STEP_NUM_TASKS=1 evaluate 0
cp out0 one
one=$(sed 's/, "tokens_per_s.*//' one)
check "one rank: $(cat one)" grep -q '"loss"' one

ranks 0 1 2
check "three ranks: exit codes $codes: $(cat out1)" test "$codes" = 000
check "three ranks: $(result 0), expected $one" test "$(result 0)" = "$one"
check "the file is removed" test -z "$(find . -name '.llmc-ranks*')"

# In the way: files of another step, try and cluster, one of this name that leads nowhere, and what dead jobs have left.
nowhere="$(printf '0%.0s' {1..64}) 1 127.0.0.1"
for name in 4711-1-0 4711-2-1 4711-2-0 other-4711-2-0 4000-0-0 4000-0-0.0123; do echo "$nowhere" >.llmc-ranks-$name; done
touch -d '2 days ago' .llmc-ranks-4000-0-0 .llmc-ranks-4000-0-0.0123
ranks 2 1 0
check "with old files about: exit codes $codes: $(cat out1)" test "$codes" = 000
check "with old files about: $(result 0), expected $one" test "$(result 0)" = "$one"
check "others' files are left alone, and those of dead jobs not: $(echo .llmc-ranks*)" test "$(echo .llmc-ranks*)" = '.llmc-ranks-4711-1-0 .llmc-ranks-4711-2-1 .llmc-ranks-other-4711-2-0'
SLURM_CLUSTER_NAME=other ranks 0 1 2
check "a cluster's name: exit codes $codes, $(echo .llmc-ranks*)" test "$codes" = 000 -a "$(echo .llmc-ranks*)" = '.llmc-ranks-4711-1-0 .llmc-ranks-4711-2-1'

# A rank of another key is not let in, and takes nobody's place.
export SLURM_STEP_NUM_TASKS=2 LLMC_BOOTSTRAP_SECONDS=60
rm -f .llmc-ranks*
file=.llmc-ranks-4711-2-0
mkdir other
start_rank0() { # with its number in $rank0 and its port in $port
    evaluate 0 &
    rank0=$!
    until [ -s $file ] || ! kill -0 $rank0 2>/dev/null; do sleep 0.05; done
    port=$(cut -d ' ' -f 2 $file)
}
start_rank0
check "the file is for its user alone: $(stat -c %a $file)" test "$(stat -c %a $file)" = 600
sed 's/^0/x/; s/^[^x]/0/; s/^x/1/' $file >other/$file
LLMC_BOOTSTRAP=$work/other LLMC_BOOTSTRAP_SECONDS=2 evaluate 1
check "another key: exit code $?: $(cat out1)" grep -q 'rank 1 found no rank 0 through' out1
# Strangers: many that say nothing, some that say too little or too much, and one that comes back with what it sends.
strangers=()
for i in {1..150}; do
    exec {stranger}<>"/dev/tcp/127.0.0.1/$port"
    strangers+=("$stranger")
    case $((i % 4)) in
        1) printf 'GET / HTTP/1.0\r\n\r\n' >&"$stranger" ;;
        2) head -c 24 /dev/zero >&"$stranger" ;;
        3) printf 'x' >&"$stranger" ;;
    esac
done 2>/dev/null
evaluate 1
code=$?
check "among strangers: $(cat out1)" test $code -eq 0
wait $rank0
check "among strangers: exit code $? of rank 0: $(cat out0)" test "$(result 0)" = "$one"
for stranger in "${strangers[@]}"; do exec {stranger}>&-; done

# Strangers come and come: the time for all is over all the same.
LLMC_BOOTSTRAP_SECONDS=2 start_rank0
for ((i = 0; i < 600; i++)); do
    exec {stranger}<>"/dev/tcp/127.0.0.1/$port" || break
    sleep 0.1
    exec {stranger}>&-
done 2>/dev/null
check "strangers hold rank 0 up" test $i -lt 600
[ $i -lt 600 ] || kill $rank0
wait $rank0
check "strangers and no rank: exit code $?: $(cat out0)" grep -q 'rank 0 waits for 1 of 2 ranks in vain' out0

# A file that leads to somebody who takes connections and says nothing, or whose user is another one: passed over.
cat >echo.pl <<'END'
use IO::Socket;
my $listener = IO::Socket::INET->new(Listen => 9, LocalAddr => '127.0.0.1') or die;
print $listener->sockport, "\n";
close STDOUT;
while (my $guest = $listener->accept) { if (sysread $guest, my $bytes, 99) { syswrite $guest, $bytes } push @kept, $guest }
END
perl echo.pl >port &
listener=$!
until [ -s port ] || ! kill -0 $listener 2>/dev/null; do sleep 0.05; done
echo "$(printf '0%.0s' {1..32})$(printf '1%.0s' {1..32}) $(cat port) 127.0.0.1" >$file
LLMC_BOOTSTRAP_SECONDS=2 evaluate 1
check "somebody who sends back what he gets is not rank 0: $(cat out1)" grep -q 'rank 1 found no rank 0 through' out1
evaluate 1 &
second=$!
evaluate 0
check "rank 0 after a file that leads astray: $(cat out0)" test "$(result 0)" = "$one"
wait $second
check "rank 1 after a file that leads astray: exit code $?: $(cat out1)" test "$(wc -c <out1)" -eq 0
kill $listener 2>/dev/null
if [ "$(id -u)" -eq 0 ]; then
    echo "$nowhere" >$file
    chown 12345 $file
    evaluate 1 &
    second=$!
    evaluate 0
    check "another user's file is in the way: $(cat out0)" test "$(result 0)" = "$one"
    wait $second
fi

# A rank that goes away before all have come is missed; it may come again.
export SLURM_STEP_NUM_TASKS=3
start_rank0
(SLURM_PROCID=1 exec "${program[@]}" eval --model="$model" --data='s_val_*.bin' --seq_len=13) >out1 2>&1 & # what is killed is the rank
first=$!
check "the first rank comes" await_connections "$port" 1
kill -9 $first
wait $first 2>/dev/null
evaluate 2 &
second=$!
evaluate 1
check "a rank that came twice: exit code $?: $(cat out1)" test ! -s out1
wait $rank0 $second
check "a rank that came twice: $(cat out0)" test "$(result 0)" = "$one"
export SLURM_STEP_NUM_TASKS=2
export SLURM_STEP_NUM_TASKS=3

export LLMC_BOOTSTRAP_SECONDS=1
ranks 1 2
check "without rank 0: exit codes $codes" test "$codes" = 11
check "without rank 0: $(cat out2)" grep -q 'rank 2 found no rank 0 through' out2
ranks 0 2
check "without rank 1: exit codes $codes" test "$codes" = 11
check "without rank 1: $(cat out0)" grep -Eq 'rank 0 waits for [12] of 3 ranks in vain' out0
export LLMC_BOOTSTRAP_SECONDS=60

# A rank that has nothing to evaluate with: all end, and rank 0 says whose fault it is, and what it was.
evaluate 0 &
first=$!
evaluate 1 &
second=$!
SLURM_PROCID=2 "${program[@]}" eval --model="$model" --data='missing_*.bin' --seq_len=13 >out2 2>&1
wait $first
code=$?
wait $second
check "a rank without data: exit codes $code and $?" test $code -ne 0 -a $? -ne 0
check "a rank without data: $(cat out0)" grep -Eq '^error: rank 2 on .*: no such file: missing_' out0
check "a rank without data: one line in all, not $(cat out0 out1 out2 | grep -c '^error')" test "$(cat out0 out1 out2 | grep -c '^error')" -eq 1

# A rank that goes away in the middle: all write, and one is killed when the first sample is there; the others notice.
: >out0
for rank in 0 1 2; do
    (SLURM_PROCID=$rank exec "${program[@]}" generate --model="$model" --prompt=Der --tokens=8 --samples=1000000) >out$rank 2>err$rank &
    all[rank]=$!
done
until [ -s out0 ] || ! kill -0 "${all[0]}" 2>/dev/null; do sleep 0.05; done
kill -9 "${all[2]}"
wait "${all[2]}" 2>/dev/null
wait "${all[0]}"
code=$?
wait "${all[1]}"
check "a rank that goes away: exit codes $code and $?" test $code -ne 0 -a $? -ne 0
check "a rank that goes away: $(cat err0)" grep -q 'connection to rank 2 is gone' err0

# Training sums gradients over MPI alone.
for rank in 0 1 2; do
    SLURM_PROCID=$rank "${program[@]}" train --train_data='s_train_*.bin' --val_data='s_train_*.bin' --tokenizer="$model/tokenizer.json" --model="$model" --out=run --batch_size=2 \
        --seq_len=13 --steps=2 --val_every=0 >"out$rank" 2>&1 &
done
wait
check "training without MPI is refused: $(cat out0)" grep -q '3 ranks without MPI' out0

printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
