#!/usr/bin/env bash
# run_multi_node.sh: a training run on several hosts with mpirun, where there is no Slurm.
#
#   scripts/run_multi_node.sh --hostfile=FILE --device=NAME [--ranks_per_node=N] [--program=FILE] -- TRAIN_OPTION...
#
#   --hostfile=FILE       one host a line (Open MPI's form; `slots=` is not needed), reachable with ssh without a password
#   --device=NAME         GH200, H100, H200, A100 or CPU: for the cost line
#   --ranks_per_node=N    one a GPU (default: the GPUs of this host, else 1)
#   --program=FILE        at the same place on every host (default: ./train_gpt of this repository, else ./train_gpt_cpu)
#
# Repository, data and --out lie on a file system that all hosts see. --resume=auto is added: called again, it goes on from the
# newest checkpoint. SIGTERM, Ctrl-C or a terminal that is closed: the run writes a checkpoint and ends with 3. A host that does not
# answer ends the job with an error: the ranks say so after --comm_timeout, mpirun after 30 seconds. Call it on one of the hosts. Ends with the
# program's exit code: 0 finished, 3 stopped with a checkpoint, else an error. Further settings of Open MPI: OMPI_MCA_... in
# the environment. Needs Open MPI 4.1 or later; tried with 4.1.4.
set -uo pipefail

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

hostfile='' device='' program='' ranks=''
while [ $# -gt 0 ]; do
    word=$1; shift
    case $word in
        --help | -h) usage; exit 0 ;;
        --hostfile=?*) hostfile=${word#*=} ;;
        --device=?*) device=${word#*=} ;;
        --ranks_per_node=?*) ranks=${word#*=} ;;
        --program=?*) program=${word#*=} ;;
        --) break ;;
        *) fail "unknown option '$word'; options of train follow a --; see run_multi_node.sh --help" ;;
    esac
done
[ -f "$hostfile" ] || fail "--hostfile=$hostfile is no file; it holds one host a line"
[ -n "$device" ] || fail 'which --device=GH200|H100|H200|A100|CPU?'
if [ -z "$program" ]; then
    program=$root/train_gpt
    [ -x "$program" ] || program=$root/train_gpt_cpu
fi
[ -x "$program" ] || fail "$program is not there; build it with make, or name another with --program=FILE"
command -v mpirun >/dev/null || fail 'no mpirun; install Open MPI (Debian: openmpi-bin libopenmpi-dev) and build again'
if [ -z "$ranks" ]; then ranks=$(nvidia-smi --list-gpus 2>/dev/null | grep -c .); fi
whole "$ranks" || fail "--ranks_per_node=$ranks: expected a whole number"
[ "$ranks" -gt 0 ] || ranks=1
hosts=$(sed 's/#.*//' "$hostfile" | grep -c '[^[:space:]]')
[ "$hosts" -gt 0 ] || fail "$hostfile names no host"

RANKS=$((hosts * ranks)) "$root/scripts/cost.sh" --device="$device" --devices=$((hosts * ranks)) ${MFU:+--mfu="$MFU"} --program="$program" -- "$@" || [ $? -eq 2 ] || exit 1

launch=(mpirun --hostfile "$hostfile" --map-by "ppr:$ranks:node:oversubscribe" --bind-to none --tag-output
    # A host that is cut off says nothing: notice after 15 + 3 x 5 seconds, not after Open MPI's 8 minutes.
    --mca oob_tcp_keepalive_time 15 --mca oob_tcp_keepalive_intvl 5 --mca oob_tcp_keepalive_probes 3)
for name in $(compgen -e); do # settings of the user's, to every host
    case $name in NCCL_* | UCX_* | OMP_* | CUDA_* | LLMC_*) launch+=(-x "$name") ;; esac
done
if [ "$(id -u)" -eq 0 ]; then launch+=(--allow-run-as-root); fi

# In a group of its own: Ctrl-C, too, reaches the program as SIGUSR1, which mpirun passes on; at SIGTERM it would kill.
setsid "${launch[@]}" "$program" train "$@" --resume=auto &
pid=$!
trap 'kill -USR1 "$pid" 2>/dev/null' TERM INT HUP QUIT USR1 # under nohup, HUP stays ignored
# A rank that gave up on a host ends the job (MPI_Abort), and mpirun then waits for TCP to deliver that to the host that is gone: a
# quarter of an hour. When this host has had no rank for 30 seconds, that is cut short.
seen=0 without=0
name=$(basename -- "$program")
while kill -0 "$pid" 2>/dev/null; do
    sleep 1 &
    wait $! # a signal is heard meanwhile
    if pgrep -P "$pid" -x -- "${name:0:15}" >/dev/null; then
        seen=1 without=0
    elif [ $seen -eq 1 ]; then without=$((without + 1)); fi
    if [ $without -eq 30 ]; then
        echo 'run_multi_node.sh: the ranks of this host have ended and mpirun has not: some other host does not answer; ending the job' >&2
        kill -9 "$pid"
    fi
done
wait "$pid"
code=$?
case $code in
    0) echo 'run_multi_node.sh: finished' ;;
    3) echo 'run_multi_node.sh: stopped with a checkpoint; the same command goes on from it' ;;
    *) echo "run_multi_node.sh: the job ended with an error (exit code $code; above); the same command goes on from the newest checkpoint; take a host that is gone out of $hostfile" >&2 ;;
esac
exit "$code"
