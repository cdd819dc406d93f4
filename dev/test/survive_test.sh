#!/usr/bin/env bash
# What a run survives, and how it ends where it cannot: checkpoints in the background, a disk that fills up and
# empties again, spikes skipped and rolled back (with the same bits when interrupted), a rank that hangs, ranks that
# were started with other options, programs or data. Kills at random moments: resume_test.sh.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
binary=$PWD/$BUILD/train_gpt_cpu
program=("$binary")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$binary")
export OMP_WAIT_POLICY=passive

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
pid=
# shellcheck disable=SC2317  # called by the trap
leave() {
    cd /
    [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
    umount "$work/small" 2>/dev/null
    rm -rf "$work"
}
trap leave EXIT
sample=$PWD/dev/test/sample_de.txt
cd "$work" || exit 1
"${program[@]}" bpe --input="$sample" --vocab_size=512 --out=tokenizer.json >out 2>&1 &&
    "${program[@]}" tokenize --tokenizer=tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=s >>out 2>&1
check "preparing: $(cat out)" test -f s_val_00000.bin

steps=60
options=()
set_options() { # set_options OUT OPTION...
    options=(train --model=llama-nano '--train_data=s_train_*.bin' '--val_data=s_val_*.bin' --tokenizer=tokenizer.json --out="$1" --batch_size=2 --seq_len=48 --threads=1
        --steps="$steps" --lr=3e-3 --warmup_steps=5 --val_every=0 --checkpoint_every=10 --keep_checkpoints=2 --progress=off "${@:2}")
}
train() { # train OUT OPTION...
    set_options "$@"
    "${program[@]}" "${options[@]}" >out 2>err
}
start() { # the same in the background; its number in $pid
    set_options "$@"
    "${program[@]}" "${options[@]}" >out 2>err &
    pid=$!
}
finish() { # waits for what start began; its exit code in $code
    wait "$pid" 2>/dev/null
    code=$?
    pid=
}
await() { # await COMMAND...: until it succeeds, at most ten minutes
    for ((i = 0; i < 12000; i++)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    return 1
}
said() { tail -n 2 err out | tr '\n' ' '; }
bits() { # what a run must reproduce: weights, moments, metrics but for times
    local last
    last=$(printf '%s/step_%08d' "$1" $steps)
    cat "$last/model.safetensors" "$last"/optimizer-*.safetensors | sha256sum
    sed -E 's/"(step_ms|tokens_per_s|mfu)": [^,}]*//g' "$1/metrics.jsonl" | sha256sum
}
events() { jq -s '[.[] | select(.event)] | length' "$1/metrics.jsonl"; }
# A run of 400 steps a second shows each of its checkpoints for only some 50 ms: any will do.
has_checkpoint() { compgen -G "$1/step_????????" >/dev/null; }
good_checkpoints() { # every checkpoint of a run can be evaluated, and nothing half-written lies there
    local folder any=1
    for folder in "$1"/step_*; do
        "${program[@]}" eval --model="$folder" --data='s_val_*.bin' --seq_len=48 --val_tokens=96 >/dev/null || return 1
        any=0
    done
    return $any
}

# ---- checkpoints in the background are those that training waits for
train background
check "checkpoints in the background: $(said)" grep -q 'in the background' out
check "the time that training stood still is in the log" grep -Eq 'training stood still for [0-9.]+ s, [0-9.]+% of the time, for 5 checkpoints' background/run.log
train waiting --background_checkpoints=off
check "no checkpoint in the background: $(said)" bash -c '! grep -q "in the background" out'
check "a checkpoint has the same bits either way" test "$(bits background)" = "$(bits waiting)"

# ---- a disk that fills up, is emptied, and fills up again before the end
if mkdir small && mount -t tmpfs -o size=16m none small 2>/dev/null; then
    start small/run --steps=10000000
    check "the first checkpoint: $(said)" await has_checkpoint small/run
    dd if=/dev/zero of=small/fill bs=64k 2>/dev/null
    check "a full disk is reported: $(said)" await grep -q 'no checkpoint at step.*No space left.*training goes on' small/run/run.log out
    check "a warning on stderr: $(cat err)" grep -q '^warning: no checkpoint' err
    rm small/fill
    lines=$(wc -l <out)
    check "it is tried again: $(said)" await bash -c "tail -n +$lines out | grep -q 'checkpoint small/run/step_.*background'"
    dd if=/dev/zero of=small/fill bs=64k 2>/dev/null
    kill -TERM $pid
    finish
    check "no room for the last checkpoint: exit code $code" test $code -eq 1
    check "the last line says it: $(tail -n 1 err)" bash -c 'tail -n 1 err | grep -Eq "^error: no checkpoint at step [0-9]+: .*No space left.*untouched"'
    rm small/fill
    check "the checkpoints before are good: $(ls small/run)" good_checkpoints small/run
    # shellcheck disable=SC2016  # $i is jq's
    check "no line of metrics is broken" jq -es 'length > 0 and [range(length - 1) as $i | .[$i + 1].step - .[$i].step] == [range(length - 1) | 1]' small/run/metrics.jsonl
    last=$(find small/run -maxdepth 1 -name 'step_*[0-9]' | sort | tail -n 1)
    steps=$((10#${last##*_} + 20))
    train small/run --resume=auto
    check "and the run goes on from them: $(said)" test -d "$(printf 'small/run/step_%08d' $steps)"
    steps=60
    umount small
else skip 'survive_test.sh, a full disk' 'no file system may be mounted here'; fi
# Where nothing may be mounted, too: files of limited size. No checkpoint can be written, and the run still goes to its end.
set_options limited
(
    ulimit -f 64
    exec "${program[@]}" "${options[@]}" >out 2>err
)
code=$?
check "a run without checkpoints ends with 1, not $code" test $code -eq 1
check "each of them is reported: $(grep -c '^warning: no checkpoint' err) warnings" test "$(grep -c '^warning: no checkpoint' err)" -eq 5
check "it has done all its steps" test "$(wc -l <limited/metrics.jsonl)" -eq $steps
check "nothing half-written is left: $(ls limited)" bash -c '! compgen -G "limited/step_*"'

# ---- spikes. A low threshold makes some of ordinary noise.
spiky=(--spike_window=8 --spike_threshold=1.6)
train quiet --spike_window=0
train told "${spiky[@]}"
check "spikes are told: $(events told)" test "$(events told)" -gt 0
check "in the log, too" test "$(grep -c '^spike: step' told/run.log)" -eq "$(events told)"
check "telling changes no weight" cmp "quiet/step_000000$steps/model.safetensors" "told/step_000000$steps/model.safetensors"

train skipped "${spiky[@]}" --spike_action=skip --checkpoint_every=1 --keep_checkpoints=0 --spike_limit=100
skips=$(jq 'select(.event == "skip") | .step' skipped/metrics.jsonl)
check "some steps are skipped: $(said)" test -n "$skips"
updates=0
for ((step = 2; step <= steps; step++)); do
    a=$(printf 'skipped/step_%08d' $((step - 1))) b=$(printf 'skipped/step_%08d' $step)
    if grep -qx $step <<<"$skips"; then
        check "step $step was skipped and did not touch the weights" cmp "$a/model.safetensors" "$b/model.safetensors"
        check "step $step was skipped and did not touch the moments" cmp "$a"/optimizer-*.safetensors "$b"/optimizer-*.safetensors
    elif ! cmp -s "$a/model.safetensors" "$b/model.safetensors"; then updates=$((updates + 1)); fi
done
check "all other steps are updates: $updates" test $updates -eq $((steps - 1 - $(wc -l <<<"$skips")))
check "the tokens trained on are those of updates" test "$(jq .tokens "skipped/step_000000$steps/run.json")" -eq $(((updates + 1) * 96))
check "each skip says its z" jq -es '[.[] | select(.event == "skip")] | all(.[]; .z_loss > 1.6 or .z_grad_norm > 1.6)' skipped/metrics.jsonl

# Undone steps must be behind a checkpoint for a rollback, and data never seen again.
train rolled "${spiky[@]}" --spike_action=rollback --spike_limit=100
check "some steps are undone: $(said)" grep -q 'rolled back to step' rolled/run.log
undone=$(sed -nE 's/^spike: step ([0-9]+): .* rolled back to step ([0-9]+), .*/\1 \2/p' rolled/run.log | awk '{ n += $1 - $2 } END { print n + 0 }')
check "the data go on behind the spikes: $undone steps undone" test "$(jq .position "rolled/step_000000$steps/run.json")" -eq $(((steps + undone) * 2))
check "one line of metrics for each step" jq -es "[.[].step] == [range($steps) | . + 1]" rolled/metrics.jsonl
check "a rollback is in the metrics" jq -es 'any(.[]; .event == "rollback" and .event_step >= .step)' rolled/metrics.jsonl

# Interrupted by signals and by kill -9, both end with the same bits.
for action in skip rollback; do
    whole=skipped
    set -- --checkpoint_every=1 --keep_checkpoints=0
    if [ $action = rollback ]; then
        whole=rolled
        set --
    fi
    for how in USR2 KILL USR2 KILL USR2 KILL USR2 none; do
        start "parts_$action" "${spiky[@]}" --spike_action=$action --spike_limit=100 --resume=auto "$@"
        if [ $how != none ]; then # some steps after it has begun to train
            lines=0
            [ -f "parts_$action/metrics.jsonl" ] && lines=$(wc -l <"parts_$action/metrics.jsonl")
            await eval "[ \$(wc -l <parts_$action/metrics.jsonl) -ne $lines ] || ! kill -0 $pid"
            sleep 0.0$((RANDOM % 10))
            kill -$how $pid 2>/dev/null
        fi
        finish
    done
    check "$action, interrupted: exit code $code, other bits" test "$(bits "parts_$action")" = "$(bits $whole)"
done

train limit --spike_window=4 --spike_threshold=1e-9 --spike_action=skip --spike_limit=2
check "too many spikes in a row end the run, exit code $?: $(said)" grep -Eq '^error: step [0-9]+: .*3 spikes in a row, --spike_limit=2' err
train blown --lr=10 --grad_clip=0 --steps=200 --weight_decay=10 --warmup_steps=40 --adam_eps=1e-30 --spike_action=skip --spike_threshold=0 --spike_limit=3
check "what is not finite is skipped, up to the limit, exit code $?: $(said)" grep -Eq '^error: step [0-9]+: loss .*(activation|gradient).*4 spikes in a row' err
check "it is in the metrics as null" jq -es 'any(.[]; .event == "skip" and (.event_loss == null or .event_grad_norm == null))' blown/metrics.jsonl
check "no checkpoint holds it: $(ls blown)" good_checkpoints blown

# ---- ranks
why=$(no_ranks)
if [ -n "$why" ]; then
    skip 'survive_test.sh, faults of several ranks' "$why"
    conclude
    exit
fi
launch=(mpirun --oversubscribe --bind-to none)
job() { # job RANKS OUT OPTION...
    set_options "${@:2}"
    "${launch[@]}" -n "$1" "$binary" "${options[@]}" >out 2>err
}
once() { # once PATTERN: one line of the job is an error, and it says this
    test "$(cat out err | grep -c 'error: ')" -eq 1 && grep -Eq -- "$1" err
}
job 3 unmade --lr=fast
check "an error that all ranks see is said once, exit code $?: $(cat err)" once '^error: --lr=fast'
job 3 unmade --train_data=none.bin
check "a missing file is said once: $(cat err)" once '^error: no such file: none.bin'
job 3 unmade --total_batch_tokens=100
check "a wrong batch is said once: $(cat err)" once '^error: .*not a multiple'
job 3 blown_ranks --lr=10 --grad_clip=0 --steps=200 --weight_decay=10 --warmup_steps=40 --adam_eps=1e-30
check "a loss that is not finite is said once: $(cat err)" once '^error: step [0-9]+: loss .*(activation|gradient)'
job 3 spoilt_ranks --model=qwen3-nano --lr=10 --weight_decay=10 --lr_schedule=constant --warmup_steps=0 --checkpoint_every=2 --val_every=4
check "an update that makes infinite weights is said once: $(cat err)" once '^error: step [0-9]+: .*after the update [a-z0-9_. ]+ is not finite'
check "no checkpoint of 3 ranks holds them: $(ls spoilt_ranks)" good_checkpoints spoilt_ranks
check "nothing was made" bash -c '! compgen -G "unmade*"'

# Ranks that differ. mpirun starts several programs as one job, each in its own folder.
together() { # together PROGRAM_OF_RANK_0 PROGRAM_OF_THE_OTHERS FOLDER_OF_THE_OTHERS OPTION...: 3 ranks; OPTION for the others
    set_options "$work/unmade"
    "${launch[@]}" -n 1 "$1" "${options[@]}" : -n 2 -wdir "$3" "$2" "${options[@]}" "${@:4}" >out 2>err
}
together "$binary" "$binary" "$work" --beta2=0.99
check "other options: $(cat err)" once '^error: ranks 1-2 of 3 .*options.*"beta2": 0.99, rank 0 has "beta2": 0.95'
cp "$binary" other && printf 'x' >>other
together "$binary" "$work/other" "$work"
check "another program: $(cat err)" once '^error: ranks 1-2 of 3 .*the program is not the same'
mkdir elsewhere && cp tokenizer.json s_val_00000.bin elsewhere/
together "$binary" "$binary" "$work/elsewhere"
check "no data on another host: $(cat err)" once '^error: ranks 1-2 of 3 .*no such file: s_train'
head -c 20000 "$sample" >part.txt
"$binary" tokenize --tokenizer=tokenizer.json --input=part.txt --doc_split=formfeed --val_fraction=0.1 --out=elsewhere/s >/dev/null
together "$binary" "$binary" "$work/elsewhere"
check "other data on another host: $(cat err)" once '^error: ranks 1-2 of 3 .*the shard s_train_00000.bin of [0-9]+ bytes'
cp s_val_00000.bin kept.bin && printf '\1' | dd of=s_val_00000.bin bs=1 seek=1500 conv=notrunc 2>/dev/null
job 3 damaged
check "a damaged shard is found, whichever rank looks at it: $(cat err)" once 's_val_00000.bin is damaged'
mv kept.bin s_val_00000.bin
check "nothing was made" bash -c '! compgen -G "unmade*"'

# The file that stops a run, on 3 ranks; the same bits as undisturbed. Signals: signals_test.sh.
job 3 ranks_whole
job 3 ranks_waiting --background_checkpoints=off
check "checkpoints of 3 ranks have the same bits in the background and not" test "$(bits ranks_waiting)" = "$(bits ranks_whole)"
# A disk without room for checkpoints: rank 0 fails, or any that writes a file; the others must not wait for it for ever.
for how in background_checkpoints={on,off} checkpoint_files=3; do
    if ! mount -t tmpfs -o size=16m none small 2>/dev/null; then
        skip 'survive_test.sh, ranks on a full disk' 'no file system may be mounted here'
        break
    fi
    set_options small/run --steps=10000000 "--$how" --comm_timeout=60
    "${launch[@]}" -n 3 "$binary" "${options[@]}" >out 2>err &
    pid=$!
    await has_checkpoint small/run
    dd if=/dev/zero of=small/fill bs=64k 2>/dev/null
    check "3 ranks, $how, a full disk: $(said)" await grep -q 'no checkpoint at step.*training goes on' out
    kill -USR2 $pid
    finish
    check "3 ranks, $how, no room for the last checkpoint: exit code $code" test $code -eq 1
    check "one rank says it: $(tail -n 1 err)" once '^error: rank 0 on .*: no checkpoint at step [0-9]+: .*untouched'
    umount small
done
# Ranks that write in a folder that only looks like rank 0's.
if unshare -m true 2>/dev/null; then
    set_options hidden/run --checkpoint_files=2
    # shellcheck disable=SC2016  # expanded by that shell
    "${launch[@]}" -n 1 "$binary" "${options[@]}" : -n 1 unshare -m sh -c 'mkdir -p hidden && mount -t tmpfs none hidden && mkdir hidden/run && exec "$@"' - \
        "$binary" "${options[@]}" >out 2>err
    check "another folder on another host: $(cat err)" once '^error: rank 0 on .*: what rank 1 writes to hidden/run is not there for rank 0'
else skip 'survive_test.sh, another folder on another host' 'no namespaces may be made here'; fi
mkdir ranks_file # a run looks for the file once a second, the first time after its first step
touch ranks_file/stop
job 3 ranks_file --resume=auto
code=$?
check "stopped by a file with 3, not $code: $(said)" test $code -eq 3
check "no file is left to stop the next job" test ! -e ranks_file/stop
job 3 ranks_file --resume=auto
check "after the file: exit code $?, other bits" test "$(bits ranks_file)" = "$(bits ranks_whole)"
job 3 ranks_file --resume=auto
check "started again, a finished run ends with 0 at once, not $?: $(cat out)" test "$(cat out)" = "finished: ranks_file/step_000000$steps has all $steps steps"

# A rank hangs, which mpirun does not notice: the others end the job, saying for what they waited.
set_options hanging --steps=10000000 --comm_timeout=5
"${launch[@]}" -n 3 "$binary" "${options[@]}" >out 2>err &
pid=$!
check "3 ranks train: $(said)" await has_checkpoint hanging
victim=$(pgrep -f -- '--out=hanging' | while read -r p; do [ "$(cat "/proc/$p/comm")" = train_gpt_cpu ] && echo "$p"; done | tail -n 1)
begin=$SECONDS
kill -STOP "$victim"
finish
check "a rank that hangs ends the job with an error, not $code" test $code -ne 0
check "after 5 seconds, not $((SECONDS - begin))" test $((SECONDS - begin)) -ge 4
check "the message names rank, host, step and what was waited for: $(cat err)" grep -Eq "error: rank [0-9] on $(hostname), step [0-9]+: waited 5 s for: [a-z].*comm_timeout=5" err
check "the ranks end, the stopped one with them" test -z "$(pgrep -f -- '--out=hanging')"
find hanging -name '*.tmp' -exec rm -rf {} +
check "the last checkpoint is good: $(ls hanging)" good_checkpoints hanging

conclude
