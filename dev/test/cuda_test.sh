#!/usr/bin/env bash
# The CUDA program against the CPU program, whole: dumps tensor by tensor, training, accumulation,
# resume, generation; all three families, both precisions. Runs the emulated builds of `make emu`, or
# with GPU=1 the real ones ($BUILD/train_gpt, $BUILD/train_gpt_fp32).
#
#     dev/test/cuda_test.sh [long]     long, for make test-long: every fixture also with fresh weights in fp32 and with
#                                      its threads in two orders, more of pairs, and 200 steps beside the CPU's; on a
#                                      GPU always
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make test}" "${GPU:=0}"
long=$([ "${1:-}$GPU" = 0 ] || echo 1)
suffix=_emu
[ "$GPU" = 1 ] && suffix=
cpu=$BUILD/train_gpt_cpu fp32=$BUILD/train_gpt${suffix}_fp32 bf16=$BUILD/train_gpt$suffix test=$BUILD/test_gpt
for file in "$cpu" "$fp32" "$bf16" "$test" "$BUILD/cuda_test$suffix"; do
    [ -x "$file" ] || { printf 'FAILED %s is missing: make emu builds it\n0 passed, 1 failed\n' "$file"; exit 1; }
done

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LLMC_CACHE=$work/cache

# The kernels, each against the CPU's in double.
"$BUILD/cuda_test$suffix" >"$work/out"
code=$?
cat "$work/out"
counts=$(sed -n 's/^CUDA kernels: \([0-9]*\) checks passed, \([0-9]*\) failed$/\1 \2/p' "$work/out")
[ -n "$counts" ] && [ "$code" -le 1 ] || counts="0 1"
passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))

fixtures=dev/test/fixtures/models
check "bpe" "$cpu" bpe --input=dev/test/sample_de.txt --vocab_size=384 --out="$work/tokenizer.json"
check "tokenize" "$cpu" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --out="$work/d"

# One step, every tensor. The fixture models have sizes that divide nothing; in bf16 they are given fresh
# weights, since theirs are large and multiply rounding errors (compare.h).
dump() { # dump PROGRAM MODEL NAME OPTION...
    local program=$1 model=$2 name=$3
    shift 3
    local data=$work/d
    case $model in */*) data=$work/$(basename "$model") ;; esac
    "$program" dump --model="$model" --data="$data"'_train_*.bin' --batch_size=3 --seq_len=11 --out="$work/$name.safetensors" "$@"
}
against() { # against MODEL PROGRAM BF16 OPTION...: a dump of PROGRAM against the CPU's
    local model=$1 program=$2 bf16=$3
    shift 3
    local what="$name ${bf16:-fp32} $*"
    check "$what: dump" dump "$program" "$model" new "$@"
    # shellcheck disable=SC2086
    check "$what: against the CPU" "$test" compare "$work/cpu.safetensors" "$work/new.safetensors" $bf16
}
for model in gpt2-nano llama-nano qwen3-nano "$fixtures"/*/; do
    name=$(basename "$model") options=
    case $model in # a fixture has a tokenizer of its own
    */*) check "$name: tokenize" "$cpu" tokenize --tokenizer="$model/tokenizer.json" --input=dev/test/sample_de.txt --out="$work/$name" ;;
    esac
    check "$name: dump on the CPU" dump "$cpu" "$model" cpu
    against "$model" "$fp32" ""
    case $model in
    */*)
        mkdir -p "$work/fresh/$name"
        cp "$model/config.json" "$work/fresh/$name/"
        model=$work/fresh/$name
        check "$name: dump on the CPU, fresh weights" dump "$cpu" "$model" cpu
        [ -z "$long" ] || against "$model" "$fp32" ""
        ;;
    *) options="--recompute=cheap --recompute=block" ;;
    esac
    for option in $options; do
        against "$model" "$fp32" "" "$option"
        against "$model" "$bf16" bf16 "$option"
    done
    if [ "$name $GPU" = 'gpt2-nano 0' ]; then # each epilogue is refused once: its kernel takes its place; likewise if
        for epilogue in bias gelu dgelu bgrad; do # one of its numbers is wrong, where that is compared
            export CUDA_EMU_REFUSE=$epilogue LLMC_CACHE=$work/cache.$epilogue
            against "$model" "$bf16" bf16
            mv "$work/new.safetensors" "$work/apart.safetensors"
            unset CUDA_EMU_REFUSE
            export CUDA_EMU_WRONG=$epilogue LLMC_CACHE=$work/cache.wrong.$epilogue
            check "$name: dump, $epilogue is wrong" dump "$bf16" "$model" new
            check "$name: what is wrong is not taken" cmp "$work/apart.safetensors" "$work/new.safetensors"
            check "$name: the file says so" grep -Eq '^([0-9]+ ){10}3 ' "$LLMC_CACHE"/gemm-*.txt
            unset CUDA_EMU_WRONG
        done
        for program in "$bf16" "$fp32"; do
            type=
            [ "$program" = "$bf16" ] && type=bf16
            CUDA_EMU_REFUSE=product,bias,bgrad LLMC_CACHE=$work/cache.product against "$model" "$program" "$type"
        done
        export LLMC_CACHE=$work/cache
    fi
    case "$name $GPU $model" in gpt2*' 0 '*/*) # bf16 of widths that the library has no algorithm for, known before or not
        for refused in odd late; do
            CUDA_EMU_REFUSE=$refused LLMC_CACHE=$work/cache.$refused against "$model" "$bf16" bf16
        done
        ;;
    esac
    against "$model" "$bf16" bf16
    cp "$work/new.safetensors" "$work/first.safetensors"
    orders=backwards
    case "$long $model" in
    1*) orders='backwards shuffle:7' ;; # on a GPU: just again
    */*) continue ;;
    esac
    for order in $orders; do
        export CUDA_EMU_ORDER=$order
        check "$name: dump, threads $order" dump "$bf16" "$model" again
        check "$name: the same bits, threads $order" cmp "$work/first.safetensors" "$work/again.safetensors"
        unset CUDA_EMU_ORDER
    done
done

# The same of adapters, of PEFT's fixtures; in bf16 of one that was trained, below: these are as large as their bases.
for name in gpt2 gpt2-mlp llama-untied qwen3-tied; do
    base=$fixtures/$name adapter=dev/test/fixtures/adapters/$name
    [ "$name" = gpt2-mlp ] && base=$fixtures/gpt2-untied
    check "adapter of $name: dump on the CPU" dump "$cpu" "$base" cpu --adapter="$adapter"
    against "$base" "$fp32" "" --adapter="$adapter"
    against "$base" "$fp32" "" --adapter="$adapter" --recompute=block
    check "adapter of $name: its gradients were compared" grep -qa 'grad.base_model.model' "$work/new.safetensors"
done

# Training.
train() { # train PROGRAM RUN OPTION...
    local program=$1 run=$2
    shift 2
    "$program" train --train_data="$work/d_train_*.bin" --val_data="$work/d_val_*.bin" --tokenizer="$work/tokenizer.json" --model=llama-nano --seq_len=24 --lr=3e-3 \
        --val_tokens=96 --final_val_tokens=96 --batch_size=2 --total_batch_tokens=96 --steps=8 --out="$work/$run" "$@"
}
same_metrics() { # but for times
    local times='s/"step_ms.*"mfu": [^,}]*//; s/, "gpu_[^,}]*//g'
    cmp <(sed "$times" "$work/$1/metrics.jsonl") <(sed "$times" "$work/$2/metrics.jsonl")
}
check "train on the CPU" train "$cpu" cpu --val_every=4
check "train in fp32" train "$fp32" fp32 --val_every=4
check "train in bf16" train "$bf16" bf16 --val_every=4
check "the log says how the loss is computed" grep -Eq '^device: .*, the loss (keeps logits in shared memory|reads logits twice) \(faster\)' "$work/bf16/run.log"
check "fp32: the loss follows the CPU's" close cpu fp32 loss 1e-5
check "fp32: the gradient norm follows the CPU's" close cpu fp32 grad_norm 1e-4
check "fp32: the validation loss follows the CPU's" close cpu fp32 val_loss 1e-5
check "bf16: the loss follows the CPU's" close cpu bf16 loss 1e-2
check "bf16: the validation loss follows the CPU's" close cpu bf16 val_loss 1e-2
if [ -n "$long" ]; then
    # At the default rate. At 3e-3 training itself multiplies any rounding: fp32 on the CPU is then 1.1% from itself
    # with other micro-batches.
    check "200 steps on the CPU" train "$cpu" cpu200 --val_every=50 --steps=200 --lr=6e-4
    check "200 steps in bf16" train "$bf16" bf16_200 --val_every=50 --steps=200 --lr=6e-4
    check "bf16: 200 steps' losses stay within 1% of the CPU's" close cpu200 bf16_200 loss 1e-2
    check "bf16: so do the validation losses" close cpu200 bf16_200 val_loss 1e-2
fi
check "train in fp32, one micro-batch" train "$fp32" whole --val_every=0 --batch_size=4
check "two micro-batches give the gradient of one batch twice as large" close fp32 whole grad_norm 1e-4
export LLMC_GRAPHS=0
check "train in bf16 without graphs" train "$bf16" eager --val_every=4
unset LLMC_GRAPHS
check "graphs do not change the bits" same_metrics bf16 eager
export CUDA_EMU_STREAMS=lazy
check "train in bf16, the host far ahead of the device" train "$bf16" lazy --val_every=4
unset CUDA_EMU_STREAMS
check "a host that runs ahead does not change the bits" same_metrics bf16 lazy
check "train in bf16 without masters" train "$bf16" rounded --val_every=0 --master_weights=none
check "without masters the loss follows" close cpu rounded loss 2e-2
check "train 3 steps and stop" train "$bf16" resumed --val_every=4 --steps=8 --checkpoint_every=3
rm -rf "$work"/resumed/step_00000006 "$work"/resumed/step_00000008
check "resume" train "$bf16" resumed --val_every=4 --steps=8 --resume=auto
check "a resumed run has the same metrics" same_metrics bf16 resumed
check "a resumed run has the same weights" cmp "$work/bf16/step_00000008/model.safetensors" "$work/resumed/step_00000008/model.safetensors"
# A checkpoint's numbers are copied beside the next step: they are those of its own step all the same.
kept=(--val_every=3 --checkpoint_every=1 --keep_checkpoints=0)
check "train with checkpoints in the foreground" train "$fp32" foreground "${kept[@]}" --background_checkpoints=off
for streams in lazy ahead; do # on a GPU: just twice
    export CUDA_EMU_STREAMS=$streams
    check "train with checkpoints in the background, streams $streams" train "$fp32" background.$streams "${kept[@]}"
    unset CUDA_EMU_STREAMS
    check "the metrics are the same" same_metrics foreground background.$streams
    for file in "$work"/foreground/step_*/*.safetensors; do
        check "the same bytes: ${file#"$work"/foreground/}" cmp "$file" "${file/foreground/background.$streams}"
    done
done
# What cannot be read is named at the step that it is of, although it is read while the step before is made; a mixture,
# so that two sources are asked.
for at in {6001..80001..400}; do
    [ -f "$work/e_train_00000.bin" ] || cp "$work/d_train_00000.bin" "$work/e_train_00000.bin"
    printf '\377\377' | dd of="$work/e_train_00000.bin" bs=1 seek="$at" conv=notrunc status=none
done
for run in unread_cpu unread; do
    program=$cpu
    [ $run = unread ] && program=$fp32
    train "$program" $run --train_data="$work/d_train_*.bin:0.7,$work/e_train_*.bin:0.3" --verify=off --val_every=0 --steps=16 >"$work/out" 2>"$work/$run.err"
    check "$run, exit code $?: $(tail -n 1 "$work/$run.err")" grep -q '^error: .*e_train_00000.bin.*the checkpoint of step' "$work/$run.err"
done
check "both programs say the same" cmp "$work/unread_cpu.err" "$work/unread.err"
check "after the same step" test "$(wc -l <"$work/unread_cpu/metrics.jsonl")" = "$(wc -l <"$work/unread/metrics.jsonl")"
cp "$work/d_train_00000.bin" "$work/e_train_00000.bin"
for run in unread whole_mix; do
    check "$run: go on, or train, with whole data" train "$fp32" $run --train_data="$work/d_train_*.bin:0.7,$work/e_train_*.bin:0.3" --verify=off --val_every=0 --steps=16 --resume=auto
done
check "as if nothing had been" same_metrics unread whole_mix
# An adapter on what the CPU trained, with dropout, which leaves out the same on both.
adapter=(--model="$work/cpu/step_00000008" --lora_rank=4 --lora_alpha=16 --lora_dropout=0.2 --val_every=4)
check "train an adapter on the CPU" train "$cpu" lora_cpu "${adapter[@]}"
check "train an adapter in fp32" train "$fp32" lora_fp32 "${adapter[@]}"
check "train an adapter in bf16" train "$bf16" lora_bf16 "${adapter[@]}"
check "an adapter in fp32: the loss follows the CPU's" close lora_cpu lora_fp32 loss 1e-5
check "an adapter in fp32: the gradient norm follows the CPU's" close lora_cpu lora_fp32 grad_norm 1e-4
check "an adapter in bf16: the loss follows the CPU's" close lora_cpu lora_bf16 loss 1e-2
name="a trained adapter" base=$work/cpu/step_00000008
check "$name: tokenize" "$cpu" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --out="$work/step_00000008"
check "$name: dump on the CPU" dump "$cpu" "$base" cpu --adapter="$work/lora_cpu"
against "$base" "$fp32" "" --adapter="$work/lora_cpu" --recompute=cheap
against "$base" "$bf16" bf16 --adapter="$work/lora_cpu"
# Beside a teacher: what the CPU trained, of another family. Its numbers come apart, too; the graph of a step holds its pass.
teacher=(--model=gpt2-nano --teacher="$work/cpu/step_00000008" --distill_alpha=0.6 --distill_temperature=3 --val_every=0 --steps=3)
check "train beside a teacher on the CPU" train "$cpu" taught_cpu "${teacher[@]}"
check "train beside a teacher in fp32" train "$fp32" taught_fp32 "${teacher[@]}"
check "train beside a teacher in bf16" train "$bf16" taught_bf16 "${teacher[@]}"
for number in loss ce; do
    check "beside a teacher in fp32: $number follows the CPU's" close taught_cpu taught_fp32 $number 1e-5
    check "beside a teacher in bf16: $number follows the CPU's" close taught_cpu taught_bf16 $number 1e-2
done
check "beside a teacher in fp32: kl follows the CPU's" close taught_cpu taught_fp32 kl 1e-4
check "beside a teacher in fp32: the gradient norm follows the CPU's" close taught_cpu taught_fp32 grad_norm 1e-4
export LLMC_GRAPHS=0
check "train beside a teacher without graphs" train "$bf16" taught_direct "${teacher[@]}"
unset LLMC_GRAPHS
check "the same weights" cmp "$work/taught_bf16/step_00000003/model.safetensors" "$work/taught_direct/step_00000003/model.safetensors"
check "train a model beside nobody" train "$bf16" untaught --model=gpt2-nano --val_every=0 --steps=3
check "train one beside a teacher that does not count" train "$bf16" looked "${teacher[@]}" --distill_alpha=0
check "the same weights, alpha 0" cmp "$work/untaught/step_00000003/model.safetensors" "$work/looked/step_00000003/model.safetensors"
check "train an adapter 3 steps and stop" train "$bf16" lora_resumed "${adapter[@]}" --checkpoint_every=3
rm -rf "$work/lora_resumed/step_00000006" "$work/lora_resumed/step_00000008"
check "resume an adapter" train "$bf16" lora_resumed "${adapter[@]}" --resume=auto
check "a resumed adapter has the same weights" cmp "$work/lora_bf16/step_00000008/adapter_model.safetensors" "$work/lora_resumed/step_00000008/adapter_model.safetensors"
# The same beside codes, which both make of the same weights.
adapter+=(--base=nf4)
check "train an adapter on nf4 on the CPU" train "$cpu" nf4_cpu "${adapter[@]}"
check "train an adapter on nf4 in fp32" train "$fp32" nf4_fp32 "${adapter[@]}"
check "train an adapter on nf4 in bf16" train "$bf16" nf4_bf16 "${adapter[@]}"
check "an adapter on nf4 in fp32: the loss follows the CPU's" close nf4_cpu nf4_fp32 loss 1e-5
check "an adapter on nf4 in fp32: the gradient norm follows the CPU's" close nf4_cpu nf4_fp32 grad_norm 1e-4
check "an adapter on nf4 in bf16: the loss follows the CPU's" close nf4_cpu nf4_bf16 loss 1e-2
losses() { grep -o '"loss": [0-9.]*' "$work/$1/metrics.jsonl"; }
check "codes change no loss" test "$(losses lora_fp32)" != "$(losses nf4_fp32)"
# Pairs of answers: their references, and objectives with weights of a row; in bf16 the losses of a few dozen tokens each
# round by 2^-9 of logits of about 5, and a pair's margin is a tenth of their sum.
pairs=dev/test/fixtures/preferences
check "tokenize pairs" "$cpu" tokenize --format=preferences --tokenizer="$pairs/tokenizer.json" --input="$pairs/pairs.jsonl" --out="$work/p" --val_fraction=0
prefer() { # prefer PROGRAM RUN OPTION...
    rm -f "$work"/p_*.ref
    train "$1" "$2" --train_data="$work/p_train_*.bin" --val_data="$work/p_train_*.bin" --tokenizer="$pairs/tokenizer.json" --model="$pairs" --seq_len=144 \
        --lr=1e-4 --total_batch_tokens=576 --steps=3 --val_every=0 "${@:3}"
}
for objective in dpo ${long:+orpo}; do
    check "$objective on the CPU" prefer "$cpu" "$objective" --objective="$objective"
    check "$objective in fp32" prefer "$fp32" "${objective}_fp32" --objective="$objective"
    for number in loss grad_norm logps/chosen logps/rejected; do
        check "$objective in fp32: $number follows the CPU's" close "$objective" "${objective}_fp32" $number 1e-5
    done
done
check "dpo in bf16" prefer "$bf16" dpo_bf16 --objective=dpo
check "dpo in bf16: the loss follows the CPU's" close dpo dpo_bf16 loss 3e-2
check "dpo in bf16: log-probabilities follow the CPU's" close dpo dpo_bf16 logps/chosen 1e-2
if [ -n "$long" ]; then
    LLMC_GRAPHS=0 check "dpo in bf16 without graphs" prefer "$bf16" dpo_eager --objective=dpo
    check "graphs do not change the bits of pairs" same_metrics dpo_bf16 dpo_eager
    check "dpo of an adapter on the CPU" prefer "$cpu" dpo_lora --objective=dpo --lora_rank=4 --lr=1e-3
    check "dpo of an adapter in fp32" prefer "$fp32" dpo_lora_fp32 --objective=dpo --lora_rank=4 --lr=1e-3
    check "dpo of an adapter: the loss follows the CPU's" close dpo_lora dpo_lora_fp32 loss 1e-5
    check "dpo of an adapter: the gradient norm follows the CPU's" close dpo_lora dpo_lora_fp32 grad_norm 1e-4
fi
check "a rate that breaks everything" "$BASH" -c '! "$@"' - "$bf16" train --train_data="$work/d_train_*.bin" --val_data="$work/d_val_*.bin" --tokenizer="$work/tokenizer.json" \
    --model=gpt2-nano --seq_len=24 --lr=1e30 --batch_size=2 --steps=8 --val_every=0 --out="$work/broken"

# A budget of time: by the same record both programs make the same steps.
for run in timed_cpu timed; do
    mkdir "$work/$run"
    for i in 0,1,1 4,2,2 8,3,5 12,4,10 16,5,20 20,6,35 24,7,50 28,8,60; do
        IFS=, read -r position step seconds <<<"$i"
        echo "{\"position\": $position, \"step\": $step, \"seconds\": $seconds}"
    done >"$work/$run/time_budget.jsonl"
done
timed=(--time_budget=1 --warmup_fraction=0.1 --val_every=4 --steps=1000)
check "train by a record on the CPU" train "$cpu" timed_cpu "${timed[@]}"
check "train by a record in fp32" train "$fp32" timed "${timed[@]}"
check "it ends with the time" test -d "$work/timed/step_00000008"
check "the rate is the same" close timed_cpu timed lr 0
check "by a record: the loss follows the CPU's" close timed_cpu timed loss 1e-5
# Weights that overflow in the update itself: one error, and no checkpoint of them.
train "$fp32" spoilt --model=qwen3-nano --lr=10 --weight_decay=10 --lr_schedule=constant --val_every=0 --steps=40 --checkpoint_every=1 --keep_checkpoints=1 >"$work/out" 2>"$work/err"
check "an update that makes infinite weights, exit code $?: $(tail -n 1 "$work/err")" grep -Eq '^error: step [0-9]+: .*after the update [a-z0-9_. ]+ is not finite' "$work/err"
check "the last checkpoint is of the step before" test -d "$work/spoilt/$(printf 'step_%08d' "$(wc -l <"$work/spoilt/metrics.jsonl")")"

# What the GPU says of itself comes from a library that is looked for at run time; here a made one, whose GPU has
# used 3.6 kJ more at every question.
if [ "$GPU" = 0 ]; then
    # shellcheck disable=SC2016  # expanded by that bash
    check "without NVML the metrics say nothing of it" "$BASH" -c '! grep -q gpu_ "$1"' - "$work/bf16/metrics.jsonl"
    cat >"$work/nvml.c" <<'END'
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **d) { return *d = (void *)bus, bus[0] != '0'; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) { return *mw = 345600, !d; }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *c) { return *c = 61, !d || sensor != 0; }
int nvmlDeviceGetClockInfo(void *d, int which, unsigned *mhz) { return *mhz = which == 1 ? 1980 : 2619, !d; }
int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *m) { return m[2] = 42500000000ull, !d; }
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *mj) { static unsigned long long sum = 5000; return *mj = sum += 3600000, !d; }
END
    check "a made NVML" "${CC:-cc}" -shared -fPIC "$work/nvml.c" -o "$work/libnvidia-ml.so.1"
    LD_LIBRARY_PATH=$work check "train with NVML" train "$fp32" nvml --val_every=0 --steps=1
    check "power, temperature, clocks, memory and energy are in the metrics" grep -q \
        '"gpu_power_w": 345.6, "gpu_temperature_c": 61, "gpu_sm_mhz": 1980, "gpu_memory_mhz": 2619, "gpu_memory_gb": 42.5, "gpu_energy_kwh": 0.001}' "$work/nvml/metrics.jsonl"
    check "the energy is in the log" grep -q 'energy: 0.00[1-9] kWh' "$work/nvml/run.log"
fi

# What is chosen by the memory, of which the emulated device has 8 GiB or what CUDA_EMU_MEMORY says.
recorded() { # recorded RUN STEP NAME
    jq -r ".$3" "$work/$1/step_$(printf '%08d' "$2")/run.json"
}
refused() { # refused LINE COMMAND...: an error in one line, and no other exit code than 1
    local line=$1
    shift
    "$@" >/dev/null 2>"$work/said"
    [ $? -eq 1 ] && [ "$(wc -l <"$work/said")" -eq 1 ] && grep -Eq "$line" "$work/said"
}
if [ "$GPU" = 0 ]; then
    few=CUDA_EMU_MEMORY=139000000 # half a megabyte beside scratch memory and workspace
    free=(--model=gpt2-nano --val_every=0 --recompute=auto)
    check "train with room" train "$bf16" roomy "${free[@]}"
    check "nothing is recomputed: $(recorded roomy 8 recompute)" test "$(recorded roomy 8 recompute)" = none
    check "the log says so" grep -Eq '^by the memory: --recompute=none, --batch_size=2: [0-9.]+ GiB of 7\.[0-9]+ that a model may take$' "$work/roomy/run.log"
    check "train without room, 3 steps" env $few "$BASH" -c "$(declare -f train); work=$work train $bf16 narrow ${free[*]} --checkpoint_every=3"
    check "blocks are recomputed: $(recorded narrow 3 recompute)" test "$(recorded narrow 3 recompute)" = block
    rm -rf "$work"/narrow/step_00000006 "$work"/narrow/step_00000008
    check "go on with room" train "$bf16" narrow "${free[@]}" --checkpoint_every=3 --resume=auto
    check "they still are: $(recorded narrow 8 recompute)" test "$(recorded narrow 8 recompute)" = block
    check "train with blocks recomputed" train "$bf16" blocks --model=gpt2-nano --val_every=0 --recompute=block
    check "the bits of both are the same" same_metrics narrow blocks
    check "train with the largest batch" train "$bf16" largest "${free[@]}" --batch_size=auto --checkpoint_every=3
    check "it is the whole update: $(recorded largest 8 batch_size)" test "$(recorded largest 8 batch_size)" = 4
    check "train with that batch" train "$bf16" four "${free[@]}" --batch_size=4
    check "the bits of both are the same, B=4" same_metrics largest four
    rm -rf "$work"/largest/step_00000006 "$work"/largest/step_00000008
    export "${few?}"
    check "go on without room" train "$bf16" largest "${free[@]}" --batch_size=auto --checkpoint_every=3 --resume=auto
    check "no sequence fits" refused '^error: --batch_size=auto: not even one sequence of 24 tokens fits' train "$bf16" none "${free[@]}" --batch_size=auto
    unset CUDA_EMU_MEMORY
    check "the same batch: $(recorded largest 8 batch_size)" test "$(recorded largest 8 batch_size)" = 4
    check "and the same bits" same_metrics largest four
    check "an update by the memory" refused '^error: --batch_size=auto needs --total_batch_tokens' train "$bf16" none "${free[@]}" --batch_size=auto --total_batch_tokens=0
    # What this GPU or this driver cannot do is said at once.
    for size in 300 160; do
        mkdir -p "$work/wide$size"
        sed -E "s/\"head_dim\": [0-9]+/\"head_dim\": $size/; s/\"vocab_size\": [0-9]+/\"vocab_size\": 384/" "$fixtures/llama-untied/config.json" >"$work/wide$size/config.json"
    done
    wide() { "$1" dump --model="$work/wide$2" --data="$work/d_train_*.bin" --batch_size=1 --seq_len=4 --out="$work/wide.safetensors"; }
    check "heads of 300" refused '^error: model config: a head size of 300; train_gpt computes heads of up to 256' wide "$bf16" 300
    check "heads of 160" wide "$bf16" 160
    export CUDA_EMU_SHARED=101376 # of sm_86 and sm_89
    check "heads of 160 on small GPUs" refused '^error: model config: a head size of 160 needs 139776 bytes of shared memory .* has 101376; ' wide "$bf16" 160
    check "heads of 16 there" dump "$bf16" gpt2-nano new
    unset CUDA_EMU_SHARED
    export CUDA_EMU_DRIVER=11040
    check "CUDA 11" refused '^error: the NVIDIA driver of this machine serves CUDA 11\.4, and CUDA 12\.0 or later is needed' dump "$bf16" gpt2-nano new
    check "CUDA 11, train" refused '^error: the NVIDIA driver of this machine serves CUDA 11\.4' train "$bf16" old
    unset CUDA_EMU_DRIVER
fi

# The products' algorithms, measured at the first start, come from the file at the next.
choices=("$LLMC_CACHE"/gemm-*.txt)
check "the file of measured choices" test -s "${choices[0]}" -a ${#choices[@]} -eq 1
cp "${choices[0]}" "$work/choices"
check "train with the file" train "$fp32" again --val_every=0 --steps=2
check "nothing is measured again" cmp "$work/choices" "${choices[0]}"
# Algorithms that the library refuses (the emulated one those of zeros) are measured again, and the file mended.
export LLMC_CACHE=$work/cache2
check "train with an empty cache" train "$fp32" first --val_every=0 --steps=2
choices=("$LLMC_CACHE"/gemm-*.txt)
sed -E -i 's/( [0-9a-f]+){8} #[0-9a-f]{16}$/ 0 0 0 0 0 0 0 0/' "${choices[0]}" # without a sum, as older versions wrote them
check "train with a broken file" train "$fp32" mended --val_every=0 --steps=2
check "a broken file changes nothing" same_metrics first mended
check "no broken choice is left" test "$(grep -Ec '( 0){8} #' "${choices[0]}")" -eq 0
# A wrong digit is seen, told and measured again; what cannot be read is told, and not written over.
cp "${choices[0]}" "$work/choices"
sed -E -i '1s/^[0-9]+/77/; 2s/ #/ 1#/' "${choices[0]}"
said=$(train "$fp32" digits --val_every=0 --steps=2 2>&1 >/dev/null)
check "wrong digits are told: $said" grep -q '^warning: .* has 2 damaged lines' <<<"$said"
check "they are measured again" cmp <(sort "$work/choices") <(sort "${choices[0]}")
mv "${choices[0]}" "$work/kept" && mkdir "${choices[0]}"
said=$(train "$fp32" unreadable --val_every=0 --steps=2 2>&1 >/dev/null)
check "a file that cannot be read is told: $said" grep -q '^warning: the measured choice of products cannot be read: .*is a folder' <<<"$said"
check "and the run goes on" test -d "$work/unreadable/step_00000002"
check "and stays as it is" test -d "${choices[0]}"
if [ "$GPU" = 0 ]; then # other times, other choices: the second algorithm, product and epilogue apart
    export LLMC_CACHE=$work/cache3 CUDA_EMU_TIMES=5
    check "train gpt2 on the CPU" train "$cpu" cpu_gpt2 --val_every=4 --model=gpt2-nano
    check "train with other times" train "$fp32" times --val_every=4 --model=gpt2-nano
    check "the log says so" grep -Eq "^device: .*, bias's gradient fused in [0-9]+ of 4 shapes \([0-9] slower\)" "$work/times/run.log"
    check "some products do without their epilogue" grep -Eq '^([0-9]+ ){10}2 ' "$LLMC_CACHE"/gemm-*.txt
    check "others do with it" grep -Eq '^([0-9]+ ){8}[2-9][0-9]* [0-9]+ 1 ' "$LLMC_CACHE"/gemm-*.txt
    check "other choices: the loss follows the CPU's" close cpu_gpt2 times loss 1e-5
    check "other choices: the gradient norm follows the CPU's" close cpu_gpt2 times grad_norm 1e-4
    unset CUDA_EMU_TIMES
fi
export LLMC_CACHE=$work/cache

# The other verbs, from a checkpoint.
model=$work/cpu/step_00000008
for verb in "generate --prompt=Der --tokens=20 --temperature=0" \
    "generate --prompt=Der --tokens=20 --temperature=0 --draft=$work/fp32" "eval --data=$work/d_val_*.bin --seq_len=24 --batch_size=4"; do
    # shellcheck disable=SC2086
    "$cpu" $verb --model="$model" 2>&1 | sed '/^draft:/d; s/, "tokens_per_s.*//; s/\("loss": [0-9]*\.[0-9]\{4\}\)[0-9]*.*/\1/' >"$work/a"
    # shellcheck disable=SC2086
    "$fp32" $verb --model="$model" 2>&1 | sed '/^draft:/d; s/, "tokens_per_s.*//; s/\("loss": [0-9]*\.[0-9]\{4\}\)[0-9]*.*/\1/' >"$work/b"
    check "${verb%% *} in fp32 as on the CPU" cmp "$work/a" "$work/b"
    # shellcheck disable=SC2086
    check "${verb%% *} in bf16" "$bf16" $verb --model="$model"
done

# The bench: here only that it runs.
for model in gpt2-nano qwen3-nano; do check "bench_gpu $model" "$BUILD/bench_gpu$suffix" "$model" 1 16 1 1; done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
