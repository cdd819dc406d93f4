#!/usr/bin/env bash
# The CUDA program on several ranks, emulated: NCCL's calls are carried by MPI (dev/emu/nccl.h), and the streams
# run in orders that a GPU could choose as well (CUDA_EMU_STREAMS, dev/emu/cuda_runtime.h), so that an event
# that is missing between two streams shows. Every ZeRO stage and hybrid sharding against one rank:
#   the loss curve within 1e-5 (sums over ranks round in another order: 1e-7 a step, which training multiplies);
#   the same bits on all ranks that should have them, after every update (LLMC_CHECK_RANKS);
#   the same bits in a repeat, in another order of the streams, and where ranks share out whole tensors (LLMC_SHARDS);
#   checkpoints of n ranks resumed on m.
#
#     dev/test/cuda_ranks_test.sh [short | long [FAMILY...]]
#
# Without a word a part of short, for `make test`; `make test-long` runs short.
# long: 2, 3, 4 and 8 ranks, every stage, groups, with and without micro-batches, 50 steps, each of the families
# (gpt2 llama qwen3) unless some are named: 20 to 30 minutes a family on two cores.
#
# With GPU=1 the real program, one rank a GPU, as many as there are: every stage, 50 steps.
#
# The models' sizes divide nothing, so that tensors lie across the borders of the ranks' ranges.
# Needs mpirun, jq and a build with MPI; is skipped otherwise.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}" "${GPU:=0}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
mode=${1:-few} families=("${@:2}")
[ ${#families[@]} -gt 0 ] || families=(gpt2 llama qwen3)
program=("$PWD/$BUILD/train_gpt_emu_fp32") # and what starts it
if [ "$GPU" = 1 ]; then
    mode=gpu gpus=$(nvidia-smi -L | wc -l)
    program=("$PWD/$BUILD/train_gpt_fp32")
    why=
    if [ "$gpus" -lt 2 ]; then why="$gpus GPU"; elif ! command -v mpirun >/dev/null; then why='no mpirun'; fi
else why=$(no_ranks); fi
if [ -n "$why" ]; then
    skip 'cuda_ranks_test.sh, several ranks of the CUDA program' "$why"
    conclude
    exit
fi
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 LLMC_CHECK_RANKS=1
unset CUDA_EMU_STREAMS CUDA_EMU_ORDER LLMC_GRAPHS
launch=(timeout 300 mpirun --oversubscribe --bind-to none)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sample=$PWD/dev/test/sample_de.txt
cd "$work" || exit 1
export LLMC_CACHE=$work/cache
mkdir gpt2 llama qwen3
cat >gpt2/config.json <<'END'
{"model_type": "gpt2", "activation_function": "gelu_new", "n_embd": 20, "n_head": 2, "n_inner": 52, "n_layer": 3, "n_positions": 16, "vocab_size": 391, "layer_norm_epsilon": 1e-05}
END
cat >llama/config.json <<'END'
{"model_type": "llama", "hidden_act": "silu", "hidden_size": 21, "head_dim": 10, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 43, "num_hidden_layers": 3,
 "max_position_embeddings": 64, "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "vocab_size": 389}
END
cat >qwen3/config.json <<'END'
{"model_type": "qwen3", "hidden_act": "silu", "hidden_size": 24, "head_dim": 6, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40, "num_hidden_layers": 2,
 "max_position_embeddings": 64, "rms_norm_eps": 1e-06, "tie_word_embeddings": true, "vocab_size": 384}
END
"${program[@]}" bpe --input="$sample" --vocab_size=384 --out=tokenizer.json >said 2>&1 &&
    "${program[@]}" tokenize --tokenizer=tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=s >>said 2>&1
check "preparing: $(cat said)" test -f s_val_00000.bin

# train FAMILY RANKS MICRO_BATCHES OUT OPTION...: $sequences sequences of 7 tokens a step, $steps steps
sequences=12 steps=6
train() {
    local family=$1 ranks=$2 micro=$3 out=$4
    shift 4
    "${launch[@]}" -n "$ranks" "${program[@]}" train --train_data='s_train_*.bin' --val_data='s_val_*.bin' --tokenizer=tokenizer.json --model="$family" --out="$out" \
        --batch_size=$((sequences / ranks / micro)) --total_batch_tokens=$((sequences * 7)) --seq_len=7 --steps=$steps --lr=3e-3 --val_every=$((steps / 2)) --val_tokens=91 --final_val_tokens=91 \
        --sample_every=$((steps / 2)) --tokens=6 --checkpoint_every=$((steps / 3)) --progress=off "$@" >said 2>&1
}
last() { printf '%s/step_%08d' "$1" "$steps"; }
bits() { cat "$(last "$1")"/{model,optimizer-*}.safetensors | sha256sum; }
distance() { # distance A B [NUMBER [OF]]: the largest difference between two loss curves, validation included; or of NUMBER, as a part of OF
    jq -n --slurpfile a "$1/metrics.jsonl" --slurpfile b "$2/metrics.jsonl" --argjson n "$steps" --arg number "${3:-loss}" --arg of "${4:-${3:-loss}}" \
        'if ($a | length) != $n or ($b | length) != $n then 1
         else [range($n) as $i | (($a[$i][$number] - $b[$i][$number]) / $b[$i][$of]), (if $number == "loss" then ($a[$i].val_loss // 1) / ($b[$i].val_loss // 1) - 1 else 0 end) | fabs] | max end'
}
samples() { grep '^sample' "$1/run.log"; }
# against_one FAMILY RANKS MICRO_BATCHES ZERO GROUP STREAMS AGAIN: against one rank, and again in another order of the streams
worst=0
against_one() {
    local family=$1 ranks=$2 micro=$3 zero=$4 group=$5 streams=$6 again=$7 away
    local what="$family, $ranks ranks, $micro passes, zero $zero, group $group"
    rm -rf new again
    CUDA_EMU_STREAMS=$streams train "$family" "$ranks" "$micro" new --zero="$zero" --zero_group="$group"
    check "$what, streams $streams: $(grep -m 1 error said)" test -d "$(last new)"
    away=$(distance "one_$family" new)
    check "$what, streams $streams: the loss curve is $away away, expected 1e-5 at most" jq -en "$away <= 1e-5"
    check "$what: other samples" test "$(samples new)" = "$(samples "one_$family")"
    worst=$(jq -n "[$worst, $away] | max")
    [ "$mode" != long ] || echo "$what: the loss curve is $away away"
    [ -n "$again" ] || return
    CUDA_EMU_STREAMS=$again train "$family" "$ranks" "$micro" again --zero="$zero" --zero_group="$group"
    check "$what: streams $streams and $again give other bits" test "$(bits new)" = "$(bits again)"
}

if [ "$mode" = gpu ]; then
    sequences=$((2 * gpus)) steps=51
    for family in gpt2 llama qwen3; do
        train $family 1 1 one_$family
        check "$family on 1 GPU: $(tail -n 1 said)" test -d "$(last one_$family)"
        for zero in 0 1 2 3; do against_one $family "$gpus" $((1 + zero % 2)) $zero 0 '' again; done
    done
    printf 'largest distance of a loss curve from one rank: %s\n' "$worst"
    conclude
    exit
elif [ "$mode" = long ]; then
    sequences=24 steps=51
    for family in "${families[@]}"; do
        train "$family" 1 2 "one_$family"
        check "$family on 1 rank: $(tail -n 1 said)" test -d "$(last "one_$family")"
        for ranks in 2 3 4 8; do
            passes=$((ranks == 8 ? 3 : 2))
            for zero in 0 1 2 3; do
                against_one "$family" $ranks 1 $zero 0 "shuffle:$ranks$zero" ''
                against_one "$family" $ranks $passes $zero 0 "shuffle:$ranks$zero" ahead
            done
        done
        for zero in 1 2 3; do
            against_one "$family" 4 2 $zero 2 lazy ahead
            against_one "$family" 8 1 $zero 4 ahead lazy
        done
    done
else
    for family in gpt2 llama qwen3; do
        train $family 1 1 one_$family
        check "$family on 1 rank: $(tail -n 1 said)" test -d "$(last one_$family)"
    done
    against_one gpt2 4 1 3 2 ahead lazy
    if [ "$mode" = few ]; then
        against_one llama 2 2 3 0 shuffle:2 ''
        against_one qwen3 3 1 1 0 lazy ''
    else
        against_one gpt2 2 2 0 0 ahead ''
        against_one gpt2 3 2 2 0 shuffle:1 ''
        against_one llama 3 1 1 0 lazy ahead
        against_one llama 2 2 3 0 shuffle:2 ''
        against_one qwen3 4 3 1 2 ahead ''
        against_one qwen3 2 1 2 0 lazy shuffle:4
    fi
fi
echo "largest distance of a loss curve from one rank's: $worst"

# Whole tensors in place of ranges: the same bits but for the norm's last digits, so without clipping.
deals() { # deals FAMILY RANKS ZERO
    rm -rf new again
    train "$1" "$2" 1 new --zero="$3" --grad_clip=0
    LLMC_SHARDS=tensors CUDA_EMU_STREAMS=shuffle:5 train "$1" "$2" 1 again --zero="$3" --grad_clip=0
    check "$1, $2 ranks, zero $3: ranges and whole tensors give other bits: $(grep -m 1 error said)" test "$(bits new)" = "$(bits again)"
}
deals qwen3 2 2
if [ "$mode" != few ]; then
    deals gpt2 2 1
    deals llama 3 3
fi

# Muon's matrices have one owner each: every stage and group has the bits of ranks that all do everything.
muon() { # muon OPTIMIZER FAMILY RANKS ZERO GROUP
    local of=$2_$3_$((${5:-0} > 0)) # groups add the ranks' gradients up in another order
    rm -rf new
    CUDA_EMU_STREAMS=shuffle:$4 train "$2" "$3" 1 new --optimizer="$1" --zero="$4" --zero_group="$5"
    [ -d "of_$of" ] || cp -r new "of_$of"
    check "$1, $2, $3 ranks, zero $4, group $5: other bits than without sharding: $(grep -m 1 error said)" test "$(bits new)" = "$(bits "of_$of")"
    away=$(distance "one_$1_$2" new)
    check "$1, $2, $3 ranks, zero $4, group $5: $away away from one rank, expected 1e-5 at most" jq -en "$away <= 1e-5"
}
train llama 1 1 one_normuon_llama --optimizer=normuon
train qwen3 1 1 one_muon_qwen3 --optimizer=muon
for zero in 0 $([ "$mode" = few ] || echo 1) 3; do muon normuon llama 3 "$zero" 0; done
for zero in 2 3; do muon muon qwen3 4 $zero 2; done
cp -r new resumed && rm -rf "$(last resumed)"
train qwen3 4 1 resumed --optimizer=muon --zero=1 --resume=auto --checkpoint_files=3
check "muon, resumed in one group: $(distance new resumed) away" jq -en "$(distance new resumed) <= 1e-5"
rm -rf resumed
# An adapter: nothing is trained in the segments of embedding and head.
adapter=(--model="$(last one_llama)" --lora_rank=3 --lora_dropout=0.1 --sample_every=0)
train llama 1 1 one_adapter "${adapter[@]}"
train llama 1 1 one_nf4 "${adapter[@]}" --base=nf4
rm -rf new
CUDA_EMU_STREAMS=shuffle:3 train llama 2 2 new --zero=2 "${adapter[@]}" --base=nf4
away=$(distance one_nf4 new)
check "an adapter on nf4, 2 ranks, zero 2: $away away from one rank, expected 1e-5 at most: $(grep -m 1 error said)" jq -en "$away <= 1e-5"
for zero in $([ "$mode" = few ] || echo 0 1) 2; do
    rm -rf new
    CUDA_EMU_STREAMS=shuffle:3 train llama 2 2 new --zero="$zero" "${adapter[@]}"
    away=$(distance one_adapter new)
    check "an adapter on 2 ranks, zero $zero: $away away from one rank, expected 1e-5 at most: $(grep -m 1 error said)" jq -en "$away <= 1e-5"
done
# Beside a teacher, of which each rank has the whole: the loss and what it is made of are those of one rank. The divergence
# is a difference of logarithms as large as ce, each rounded to 2^-24, 6e-8, of that.
teacher=(--teacher="$(last one_llama)" --distill_alpha=0.6 --distill_temperature=3)
train llama 1 1 one_taught "${teacher[@]}"
away=$(distance one_taught one_llama)
check "a teacher counts: $away away from a run without, expected 1e-2 at least: $(grep -m 1 error said)" jq -en "$away >= 1e-2 and $away < 1"
for zero in $([ "$mode" = few ] || echo 0 1 2) 3; do
    rm -rf new
    CUDA_EMU_STREAMS=shuffle:7 train llama 2 2 new --zero="$zero" "${teacher[@]}"
    for number in loss:loss:1e-5 ce:ce:1e-5 kl:ce:1e-7; do
        IFS=: read -r number of most <<<"$number"
        away=$(distance new one_taught "$number" "$of")
        check "beside a teacher on 2 ranks, zero $zero: $number is $away of $of away from one rank, expected $most at most: $(grep -m 1 error said)" jq -en "$away <= $most"
    done
done
# Pairs of answers, whose references the ranks compute together: the loss is a mean over those of all ranks.
pairs=${sample%/sample_de.txt}/fixtures/preferences
"${program[@]}" tokenize --format=preferences --tokenizer="$pairs/tokenizer.json" --input="$pairs/pairs.jsonl" --out=p --val_fraction=0 >said 2>&1
prefer() { # prefer RANKS OUT OPTION...
    rm -rf p_*.ref "$2"
    "${launch[@]}" -n "$1" "${program[@]}" train --model="$pairs" --tokenizer="$pairs/tokenizer.json" --train_data='p_train_*.bin' --val_data='p_train_*.bin' --out="$2" \
        --objective=dpo --batch_size=2 --seq_len=144 --total_batch_tokens=576 --steps="$steps" --lr=1e-4 --val_every=0 --progress=off "${@:3}" >said 2>&1
}
prefer 1 one_dpo
for zero in $([ "$mode" = few ] || echo 0 1 3) 2; do
    prefer 2 new --zero="$zero"
    away=$(distance one_dpo new)
    check "dpo on 2 ranks, zero $zero: $away away from one rank, expected 1e-5 at most: $(grep -m 1 error said)" jq -en "$away <= 1e-5"
done
"${launch[@]}" -n 2 "${program[0]%train_gpt_emu_fp32}cuda_model_test_emu" "$mode" >said 2>&1
check "frozen tensors on 2 ranks: $(grep -m 1 FAILED said)" grep -q '^[1-9][0-9]* passed, 0 failed' said

# In bf16 the ranks share out master weights too. A sum that rounds the other way can turn a weight's last bit,
# 2^-9 of it; a loss is a mean over many.
fp32=("${program[@]}")
program=("${program[0]%_fp32}")
for masters in fp32 $([ "$mode" = few ] || echo none); do
    rm -rf one new
    train qwen3 1 1 one --master_weights="$masters"
    CUDA_EMU_STREAMS=shuffle:6 train qwen3 3 1 new --zero=3 --master_weights="$masters"
    away=$(distance one new)
    check "bf16, master weights $masters, 3 ranks, zero 3: $away away, expected 1e-3 at most: $(grep -m 1 error said)" jq -en "$away <= 1e-3"
done
program=("${fp32[@]}")

# 4 ranks, interrupted, and resumed: on 4 with the same bits; on 2, then on 1, with the same losses.
train llama 4 1 four --zero=2
rm -rf resumed
cp -r four resumed && rm -rf "$(last resumed)"
train llama 4 1 resumed --zero=2 --resume=auto
check "resumed on 4 ranks: other bits" test "$(bits resumed)" = "$(bits four)"
every=$((steps / 3))
rm -rf resumed/step_*"$steps" resumed/step_*$((every * 2))
train llama 2 1 resumed --zero=3 --resume=auto --checkpoint_files=2
check "2 files: $(grep -m 1 error said)" test -f "$(last resumed)/optimizer-00002-of-00002.safetensors"
rm -rf "$(last resumed)"
train llama 1 1 resumed --resume=auto
away=$(distance four resumed)
check "resumed on 2 ranks, then on 1: $away away, expected 1e-5 at most" jq -en "$away <= 1e-5"

# Groups of 2 among 4 ranks, 3 files, whose writers are in both groups; then resumed from them in one group.
export_one() { "${program[0]}" export --model="$1" --format=gguf --dtype=f32 --out=x.gguf >said 2>&1 && sha256sum <x.gguf; }
for zero in $([ "$mode" = few ] || echo 1 3); do
    rm -rf whole spread
    train llama 4 1 whole --zero="$zero" --zero_group=2
    train llama 4 1 spread --zero="$zero" --zero_group=2 --checkpoint_files=3
    check "zero $zero, 3 files: $(grep -m 1 error said)" test -f "$(last spread)/model-00003-of-00003.safetensors"
    check "zero $zero, 3 files: other weights than in one" test "$(export_one "$(last spread)")" = "$(export_one "$(last whole)")"
    rm -rf "$(last spread)"
    train llama 4 1 spread --zero=2 --resume=auto
    away=$(distance whole spread)
    check "zero $zero, resumed from 3 files: $away away, expected 1e-5 at most: $(grep -m 1 error said)" jq -en "$away <= 1e-5"
done

# The ranks find each other through a file, as under srun without PMIx; what they then compute is the same.
# shellcheck disable=SC2016  # expanded by the bash that each rank starts
slurm=(env SLURM_JOB_ID=77 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 LLMC_BOOTSTRAP=. bash -c 'SLURM_PROCID=$OMPI_COMM_WORLD_RANK exec "$@"' -)
program=("${slurm[@]}" "${program[@]}")
train llama 4 1 by_file --zero=2
program=("${program[-1]}")
check "ranks that found each other through a file: $(grep -m 1 error said)" test "$(bits by_file)" = "$(bits four)"
check "the file is gone" test -z "$(find . -maxdepth 1 -name '.llmc-ranks*')"

# What cannot be is refused in one line.
train gpt2 3 1 refused --zero=1 --zero_group=2
check "a group that does not divide the ranks: $(cat said)" grep -q 'zero_group=2 does not divide the 3 ranks' said

conclude
