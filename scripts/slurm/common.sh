# shellcheck shell=bash
# common.sh: what every sbatch file here does once its site is set up; sourced by them, never run.
#
# The words behind the sbatch file are options of `train` (--config=FILE too); --resume=auto is added. A site file sets
#   device          GH200, H100, H200, A100 or CPU: for the cost line (scripts/cost.sh)
#   mpi             srun's --mpi: pmix, pmi2, ...; '' leaves the site's own; auto: pmix where srun has it
#   srun_options    array: binding, container
#   container       array: words between srun and the program, such as `apptainer exec --nv IMAGE`
# and a user may set in the environment of sbatch
#   GPT_ROOT        this repository, where sbatch is called from elsewhere
#   PROGRAM         the program (default $GPT_ROOT/train_gpt)
#   MFU             share of the peak for the cost line
#
# The chain: the array's tasks run one after the other (%1). Four minutes before a task's time is up every rank gets
# SIGTERM (--signal without B:, which would reach this shell only), writes a checkpoint, and ends with 3; the next task goes
# on from it. When the run is finished (0), the tasks that wait are cancelled, and one that starts all the same sees the
# last checkpoint and ends at once. A task that fails leaves the next one to try again, but two in a row
# that failed without a new checkpoint end the chain: a mistake in the options should not burn ten jobs.
# shellcheck disable=SC2154  # device, mpi, srun_options, container, in_container come from the site file
set -uo pipefail

root=${GPT_ROOT:-$SLURM_SUBMIT_DIR}
program=${PROGRAM:-$root/train_gpt}
# shellcheck source=scripts/common.sh
. "$root/scripts/common.sh"
say() { printf '%s job %s: %s\n' "$(date '+%F %T')" "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}" "$(printable "$*")"; }
end_chain() { if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then scancel --state=PENDING "$SLURM_ARRAY_JOB_ID" || true; fi; }
newest() { find "$out" -maxdepth 1 -name 'step_*[0-9]' 2>/dev/null | sort | tail -n 1; }
# How many tasks in a row have failed without a checkpoint. What is no number is a failure that could not be noted.
failures_before() {
    local noted=1
    if [ ! -e "$out/.chain_failures" ]; then noted=0
    elif [ -f "$out/.chain_failures" ]; then IFS= read -r noted <"$out/.chain_failures" || true; fi
    if ! whole "$noted"; then noted=1; fi
    echo "$noted"
}
# By a rename: what stands at the name (a pipe, a link) is replaced, never opened.
note_failures() {
    local file
    file=$(mktemp "$out/.chain_failures.XXXXXX") && echo "$1" >"$file" && mv -fT -- "$file" "$out/.chain_failures"
}

if [ ${#in_container[@]} -eq 0 ] && [ ! -x "$program" ]; then
    say "error: $program is not there; build it on the login node (make train_gpt), or name another with PROGRAM=FILE sbatch ..."
    exit 1
fi
# The options as the program reads them. A mistake in them is one for every task, but a container that did not start is not.
words=$("${in_container[@]}" "$program" train --print_options=out,steps "$@") || {
    say "error: $program does not take the options (above)"
    if [ ${#in_container[@]} -eq 0 ]; then end_chain; fi
    exit 1
}
mapfile -t line <<<"$words"
out=${line[0]} steps=${line[1]:-}
if [ -z "$out" ]; then
    say "error: the options name no --out=FOLDER; options of train follow the sbatch file"
    exit 1
fi
if [ ${#line[@]} -ne 2 ] || ! whole "$steps"; then
    say "error: $program gave ${#line[@]} lines for --out and --steps, expected 2: a line break in the name of --out?"
    exit 1
fi
case $out in -*) out=./$out ;; esac # for the tools below, which would take it for an option
for value in "$SLURM_NTASKS" "${SLURM_CPUS_PER_TASK:-1}"; do
    whole "$value" || { say "error: Slurm set '$value' for SLURM_NTASKS or SLURM_CPUS_PER_TASK: expected a whole number"; exit 1; }
done
final=$out/$(printf 'step_%08d' "$steps")
if [ -f "$final/run.json" ]; then
    say "finished before: $final is there; the chain ends"
    end_chain
    exit 0
fi
mkdir -p -- "$out" || { say "error: cannot make the folder $out (above)"; exit 1; }

# srun does not take --cpus-per-task over from sbatch since Slurm 22.05.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
export OMP_NUM_THREADS=$SRUN_CPUS_PER_TASK
units=$SLURM_NTASKS
if [ "$device" = CPU ]; then units=$((SLURM_NTASKS * SRUN_CPUS_PER_TASK)); fi

if [ "$mpi" = auto ]; then
    mpi=
    # No pipe: a grep -q that has seen enough may end srun with SIGPIPE, which pipefail takes for a no.
    if grep -qw pmix <(srun --mpi=list 2>&1); then mpi=pmix
    else export LLMC_BOOTSTRAP=$out # without PMIx the ranks meet through a file, on a disk that all nodes see
    fi
fi
if [ -n "$mpi" ]; then srun_options+=(--mpi="$mpi"); fi

say "$SLURM_JOB_NUM_NODES nodes, $SLURM_NTASKS ranks on $SLURM_JOB_NODELIST; out: $out; from: $(newest | grep . || echo 'the start')"
RANKS=$SLURM_NTASKS "${in_container[@]}" "$root/scripts/cost.sh" --device="$device" --devices="$units" ${MFU:+--mfu="$MFU"} --program="$program" -- "$@" ||
    say 'the cost could not be computed (above); the run starts all the same'

before=$(newest)
code=0
# A rank that ends with an error takes the others with it at once.
srun --kill-on-bad-exit=1 "${srun_options[@]}" "${container[@]}" "$program" train "$@" --resume=auto || code=$?
case $code in
    0)
        say "finished: $(newest)"
        rm -f "$out/.chain_failures"
        end_chain
        ;;
    3)
        say "stopped with the checkpoint $(newest); the next task of the chain goes on"
        rm -f "$out/.chain_failures"
        ;;
    *)
        failures=0
        if [ "$(newest)" = "$before" ]; then failures=$(($(failures_before) + 1)); fi
        note_failures "$failures"
        if [ "$failures" -ge 2 ]; then
            rm -f "$out/.chain_failures"
            say "error: exit code $code, twice in a row without a new checkpoint; the chain ends; what went wrong is said above"
            end_chain
        else
            say "error: exit code $code; newest checkpoint: $(newest | grep . || echo none); the next task of the chain tries again"
        fi
        ;;
esac
exit "$code"
