#!/usr/bin/env bash
# The CPU program over MPI: 1, 2, 3 and 4 ranks have the same loss curve within 1e-5, the same ranks twice
# have the same bits, resuming continues with them, however many files a checkpoint is spread over, and a rank that
# dies takes the job down.
#
#     dev/test/ranks_test.sh [long]
#
# Without a word gpt2 runs on one rank alone, for `make test`; `make test-long` runs long.
# Needs mpirun and a build with MPI; is skipped otherwise.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
program=$PWD/$BUILD/train_gpt_cpu
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
why=$(no_ranks)
if [ -n "$why" ]; then
    skip 'ranks_test.sh, several ranks of the CPU program' "$why"
    conclude
    exit
fi
export OMP_WAIT_POLICY=passive
launch=(mpirun --oversubscribe --bind-to none)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sample=$PWD/dev/test/sample_de.txt
cd "$work" || exit 1
"$program" bpe --input="$sample" --vocab_size=512 --out=tokenizer.json >out 2>&1 &&
    "$program" tokenize --tokenizer=tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=s >>out 2>&1
check "preparing: $(cat out)" test -f s_val_00000.bin

set_command() { # set_command FAMILY RANKS BATCH OUT OPTION...
    command=("${launch[@]}" -n "$2" "$program" train --threads=1 --train_data='s_train_*.bin' --val_data='s_val_*.bin' --tokenizer=tokenizer.json
        --model="$1-nano" --out="$4" --batch_size="$3" --total_batch_tokens=1152 --seq_len=48 --steps=50 --lr=3e-3 --val_every=25 --checkpoint_every=20 --progress=off "${@:5}")
}
train() { set_command "$@"; "${command[@]}" >out 2>&1; }
bits() { cat "$1"/step_00000050/model.safetensors "$1"/step_00000050/optimizer-*.safetensors | sha256sum; }
exported() { "$program" export --model="$1/step_00000050" --format=gguf --dtype=f32 --out="$1.gguf" >out 2>&1 && sha256sum <"$1.gguf"; }
# The largest relative difference between two loss curves, validation included.
distance() {
    jq -n --slurpfile a "$1/metrics.jsonl" --slurpfile b "$2/metrics.jsonl" \
        'if ($a | length) != 50 or ($b | length) != 50 then 1
         else [range(50) as $i | ($a[$i].loss / $b[$i].loss - 1), (($a[$i].val_loss // 1) / ($b[$i].val_loss // 1) - 1) | fabs] | max end'
}

for family in gpt2 qwen3; do
    train $family 1 4 ${family}_1
    check "1 rank: $(tail -n 1 out)" test -d ${family}_1/step_00000050
    if [ "$family ${1:-}" = 'gpt2 ' ]; then continue; fi
    for ranks in 2 3 4; do
        batch=$((24 / ranks / 2)) # two micro-batches of 24 sequences in all
        train $family $ranks $batch ${family}_$ranks
        train $family $ranks $batch ${family}_again_$ranks
        away=$(distance ${family}_1 ${family}_$ranks)
        check "$family on $ranks ranks: the loss curve is $away away, expected 1e-5 at most" jq -en "$away <= 1e-5"
        check "$family on $ranks ranks: two runs differ" test "$(bits ${family}_$ranks)" = "$(bits ${family}_again_$ranks)"
    done
    train $family 3 4 ${family}_zero0 --zero=0
    check "$family on 3 ranks: --zero=0 and 1 give other bits" test "$(bits ${family}_zero0)" = "$(bits ${family}_3)"
    # Whole tensors in place of ranges: the same bits but for the norm's last digits, so without clipping.
    for ranks in 2 3; do
        train $family $ranks $((24 / ranks / 2)) ${family}_ranges --grad_clip=0
        LLMC_SHARDS=tensors train $family $ranks $((24 / ranks / 2)) ${family}_tensors --grad_clip=0
        check "$family on $ranks ranks: ranges and whole tensors give other bits" test "$(bits ${family}_ranges)" = "$(bits ${family}_tensors)"
        rm -rf ${family}_ranges/step_00000050
        LLMC_SHARDS=tensors train $family $ranks $((24 / ranks / 2)) ${family}_ranges --grad_clip=0 --resume=auto
        check "$family on $ranks ranks: ranges resumed as tensors give other bits" test "$(bits ${family}_ranges)" = "$(bits ${family}_tensors)"
        rm -rf ${family}_ranges ${family}_tensors
    done
    # Resumed: on as many ranks with the same bits, on others with the same losses.
    for ranks in 4 2 1; do
        rm -rf resumed && cp -r ${family}_4 resumed && rm -rf resumed/step_00000050
        train $family $ranks $((24 / ranks / 2)) resumed --resume=auto
        if [ $ranks -eq 4 ]; then check "$family resumed on 4 ranks: other bits" test "$(bits resumed)" = "$(bits ${family}_4)"
        else
            away=$(distance ${family}_4 resumed)
            check "$family resumed on $ranks ranks: $away away" jq -en "$away <= 1e-5"
        fi
    done
done

# Matrices that Muon moves have one owner each: whoever that is, the bits are those of ranks that all do everything, and
# the losses one rank's. Resumed: on as many ranks with the same bits, on others with the same losses.
for kind in muon:2 normuon:3; do
    optimizer=${kind%:*} ranks=${kind#*:}
    train qwen3 1 4 whole --optimizer="$optimizer"
    check "$optimizer on 1 rank: $(tail -n 1 out)" test -d whole/step_00000050
    for zero in 0 1; do train qwen3 "$ranks" $((24 / ranks / 2)) zero$zero --optimizer="$optimizer" --zero=$zero; done
    check "$optimizer on $ranks ranks: --zero=0 and 1 give other bits" test "$(bits zero0)" = "$(bits zero1)"
    away=$(distance whole zero1)
    check "$optimizer on $ranks ranks: the loss curve is $away away, expected 1e-5 at most" jq -en "$away <= 1e-5"
    rm -rf zero0 && cp -r zero1 zero0 && rm -rf zero0/step_00000050
    train qwen3 "$ranks" $((24 / ranks / 2)) zero0 --optimizer="$optimizer" --resume=auto --checkpoint_files="$ranks"
    check "$optimizer resumed on $ranks ranks: other numbers" test "$(exported zero0)" = "$(exported zero1)"
    rm -rf zero0/step_00000050
    train qwen3 1 4 zero0 --optimizer="$optimizer" --resume=auto
    away=$(distance zero1 zero0)
    check "$optimizer on $ranks ranks, resumed on 1: $away away" jq -en "$away <= 1e-5"
    rm -rf zero0 zero1
    train qwen3 1 4 whole --optimizer=adamw --resume=auto
    check "a resume with another optimizer is refused: $(cat out)" grep -q '^error: whole/.* another --optimizer' out
    rm -rf whole
done

# A checkpoint spread over 3 files, each of a rank of its own: the numbers of one file, whoever reads them.
whole=$(exported qwen3_4)
for background in on off; do
    spread=(--checkpoint_files=3 "--background_checkpoints=$background")
    run=spread_$background
    train qwen3 4 3 $run "${spread[@]}"
    check "3 files, background $background: $(cd $run/step_00000050 && echo ./*)" test "$(cd $run/step_00000050 && echo *.safetensors*)" = \
        "$(echo {model,optimizer}-0000{1,2,3}-of-00003.safetensors {model,optimizer}.safetensors.index.json | tr ' ' '\n' | sort | xargs)"
    check "run.json lists and sums up all files" test "$(jq -r '.files | keys[]' $run/step_00000050/run.json | sort)" = "$(cd $run/step_00000050 && printf '%s\n' * | grep -v run.json | sort)"
    check "the index names every tensor once" test "$(jq '.weight_map | length' $run/step_00000050/model.safetensors.index.json)" -eq 24
    check "the index has the size of all tensors" test "$(jq .metadata.total_size $run/step_00000050/model.safetensors.index.json)" -gt 100000
    check "3 files, background $background: other weights: $(cat out)" test "$(exported $run)" = "$whole"
    for ranks in 4 2; do # on 2 ranks both write
        rm -rf resumed && cp -r $run resumed && rm -rf resumed/step_00000050
        train qwen3 $ranks $((24 / ranks / 2)) resumed --resume=auto "${spread[@]}"
        check "$ranks ranks write $ranks files, or 3" test -f "resumed/step_00000050/model-00001-of-0000$((ranks < 3 ? ranks : 3)).safetensors"
        if [ $ranks -eq 4 ]; then check "resumed from 3 files on 4 ranks: other weights" test "$(exported resumed)" = "$whole"
        else
            away=$(distance qwen3_4 resumed)
            check "resumed from 3 files on $ranks ranks: $away away" jq -en "$away <= 1e-5"
        fi
    done
done
cp qwen3_4/step_00000050/model.safetensors spread_off/step_00000050/
train qwen3 4 3 spread_off --resume=auto --steps=60
check "a file that is none of the checkpoint's and would be read is refused: $(cat out)" grep -q '^error: spread_off/step_00000050/model.safetensors is not part of this' out
truncate -s -8 spread_on/step_00000050/optimizer-00002-of-00003.safetensors
train qwen3 4 3 spread_on --resume=auto --steps=60
check "a damaged file of several is found, and by one rank: $(cat out)" grep -q '^error: .*optimizer-00002-of-00003.safetensors has [0-9]* bytes, expected' out

LLMC_SHARDS=halves train gpt2 2 6 refused
check "LLMC_SHARDS=halves is refused: $(cat out)" grep -q 'LLMC_SHARDS=halves, expected ranges or tensors' out
train gpt2 2 6 refused --zero=2
check "--zero=2 is refused: $(cat out)" grep -q 'zero=0 or 1' out

# A rank dies.
set_command qwen3 4 3 dying --steps=100000 --checkpoint_every=5
"${command[@]}" >out 2>&1 &
pid=$!
until compgen -G 'dying/step_*[0-9]' >/dev/null || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
victim=$(pgrep -f -- '--out=dying' | while read -r p; do [ "$(cat /proc/"$p"/comm)" = train_gpt_cpu ] && echo "$p"; done | tail -n 1)
kill -9 "$victim"
wait $pid
code=$?
check "a rank that dies ends the job with an error, not $code" test $code -ne 0
check "no rank is left" test -z "$(pgrep -f -- '--out=dying')"
check "the message names the rank: $(tail -n 5 out)" grep -Eq 'rank [0-9]+' out
last=$(find dying -maxdepth 1 -name 'step_*[0-9]' | sort | tail -n 1)
check "the last checkpoint $last is good" "$program" eval --model="$last" --data='s_val_*.bin' --seq_len=48 --val_tokens=96 >/dev/null

# The other verbs on several ranks: what one rank says, once; an error in one line.
verb() { "${launch[@]}" -n "$1" "$program" "${@:2}" >out 2>err; }
model=gpt2_1/step_00000050
verb 1 generate --model=$model --prompt=Der --tokens=12 --seed=3
cp out alone
verb 3 generate --model=$model --prompt=Der --tokens=12 --seed=3
check "3 ranks generate what one does: $(cat out)" cmp alone out
verb 1 eval --model=$model --data='s_val_*.bin' --seq_len=48
jq -c '[.loss, .tokens]' out >alone
verb 3 eval --model=$model --data='s_val_*.bin' --seq_len=48
# shellcheck disable=SC2016  # a program of jq
check "3 ranks evaluate to $(cat out), one to $(cat alone)" jq -e --slurpfile one alone '.tokens == $one[0][1] and (.loss / $one[0][0] - 1 | fabs) < 1e-6' out
for wrong in "eval --model=$model --data=none.bin" "eval --model=none/model --data=s_val_00000.bin" "eval --model=$model --data=s_val_00000.bin --seq_len=9999" \
    "generate --model=gpt2-nano" "generate --model=none/model" "generate --model=s_val_00000.bin"; do
    # shellcheck disable=SC2086  # a verb with its options
    verb 3 $wrong
    check "$wrong: $(grep -c '^error: ' err) lines of error" test "$(grep -c '^error: ' err)" -eq 1
done

conclude
