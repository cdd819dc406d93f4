#!/usr/bin/env bash
# Ranks that find each other through a file (llmc/ranks/bootstrap.h), started as srun without PMIx starts them: the
# result of all is that of one; files of other jobs and tries are passed over; who does not come or goes away
# is missed, with a message, in time.
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
ranks() { # ranks RANK...: these in turn, a moment apart; the exit codes in $codes
    local pids=() pid
    for rank in "$@"; do
        evaluate "$rank" &
        pids+=($!)
        sleep 0.2
    done
    codes=
    for pid in "${pids[@]}"; do
        wait "$pid"
        codes+=$?
    done
}
SLURM_STEP_NUM_TASKS=1 evaluate 0
cp out0 one
one=$(sed 's/, "tokens_per_s.*//' one)
check "one rank: $(cat one)" grep -q '"loss"' one

ranks 0 1 2
check "three ranks: exit codes $codes: $(cat out1)" test "$codes" = 000
check "three ranks: $(result 0), expected $one" test "$(result 0)" = "$one"
check "the file is removed" test -z "$(find . -name '.llmc-ranks*')"

# The others first; in the way: files of another step and try, one of this name that leads nowhere, and one that leads
# to a port where somebody else listens.
echo '00000000000000000000000000000000 9 127.0.0.1' >.llmc-ranks-4711-1-0
echo '00000000000000000000000000000000 9 127.0.0.1' >.llmc-ranks-4711-2-1
echo '00000000000000000000000000000000 1 127.0.0.1' >.llmc-ranks-4711-2-0
ranks 2 1 0
check "with old files about: exit codes $codes: $(cat out1)" test "$codes" = 000
check "with old files about: $(result 0), expected $one" test "$(result 0)" = "$one"
check "old files are left alone" test -f .llmc-ranks-4711-1-0 -a -f .llmc-ranks-4711-2-1

# A rank of another key is not let in, and takes nobody's place.
export SLURM_STEP_NUM_TASKS=2 LLMC_BOOTSTRAP_SECONDS=30
rm -f .llmc-ranks*
mkdir other
evaluate 0 &
rank0=$!
until [ -s .llmc-ranks-4711-2-0 ] || ! kill -0 $rank0 2>/dev/null; do sleep 0.05; done
sed 's/^0/x/; s/^[^x]/0/; s/^x/1/' .llmc-ranks-4711-2-0 >other/.llmc-ranks-4711-2-0
LLMC_BOOTSTRAP=$work/other LLMC_BOOTSTRAP_SECONDS=2 evaluate 1
check "another key: exit code $?: $(cat out1)" grep -q 'rank 1 found no rank 0 through' out1
evaluate 1
check "behind one of another key: $(cat out1)" test $? -eq 0
wait $rank0
check "behind one of another key: exit code $? of rank 0: $(cat out0)" test "$(result 0)" = "$one"
export SLURM_STEP_NUM_TASKS=3

export LLMC_BOOTSTRAP_SECONDS=1
ranks 1 2
check "without rank 0: exit codes $codes" test "$codes" = 11
check "without rank 0: $(cat out2)" grep -q 'rank 2 found no rank 0 through' out2
ranks 0 2
check "without rank 1: exit codes $codes" test "$codes" = 11
check "without rank 1: $(cat out0)" grep -q 'rank 0 waits for 1 of 3 ranks in vain' out0
export LLMC_BOOTSTRAP_SECONDS=60

# A rank that goes away in the middle. It has nothing to evaluate with, and says so; the others notice.
evaluate 0 &
first=$!
evaluate 1 &
second=$!
SLURM_PROCID=2 "${program[@]}" eval --model="$model" --data='missing_*.bin' --seq_len=13 >out2 2>&1
wait $first
code=$?
wait $second
check "a rank that goes away: exit codes $code and $?" test $code -ne 0 -a $? -ne 0
check "a rank that goes away: $(cat out0)" grep -q 'connection to rank 2 is gone' out0

# Training sums gradients over MPI alone.
for rank in 0 1 2; do
    SLURM_PROCID=$rank "${program[@]}" train --train_data='s_train_*.bin' --val_data='s_train_*.bin' --tokenizer="$model/tokenizer.json" --model="$model" --out=run --batch_size=2 \
        --seq_len=13 --steps=2 --val_every=0 >"out$rank" 2>&1 &
done
wait
check "training without MPI is refused: $(cat out0)" grep -q '3 ranks without MPI' out0

printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
