#!/usr/bin/env bash
# cluster_test.sh: the ways a cluster starts, stops and breaks a run, for real, on one machine. `make test-cluster`.
#
#   slurm   Slurm (slurmctld, slurmd and munge of Debian's packages) on two hosts (network namespaces behind a switch) runs
#           scripts/slurm/generic.sbatch with srun --mpi=pmix on several ranks; tasks of the array are signalled, a rank is
#           killed, a task is requeued, a node is cut off, and each chain ends with the bits of a run that nobody touched;
#           srun without PMIx
#   ssh     scripts/run_multi_node.sh over ssh between two such hosts: one is cut off
#   kill    KILLS (100) kill -9 of a rank or of mpirun, in starts and on steps, on 1 and on 4 ranks (KILL_RANKS): the same bits
#   bytes   what a step sends, counted on the loopback interface of a namespace, against the formula of dev/scaling.md
#
#   TIMES=1 dev/test/cluster_test.sh [--skip=PART,PART...]
#
# Needs root (namespaces, slurmd). A part that cannot run is a failure, unless it is skipped in words. About 8 minutes on 2 quiet
# cores. Nothing is aimed by time: what is waited for is an event, for minutes, and how long it took is printed and not judged.
# TIMES=5 runs all parts five times (make test-cluster TIMES=5) and adds up.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
: "${BUILD:?the folder of the binaries, as make test-cluster sets it}" "${KILLS:=100}" "${KILL_RANKS:=1 4}"
program=$root/$BUILD/train_gpt_cpu

parts=' slurm ssh kill bytes '
skip=
for word in "$@"; do
    case $word in
        --skip=*) skip=,${word#*=}, ;;
        *) echo "cluster_test.sh: unknown word '$word'; expected --skip=PART,PART... of$parts" >&2; exit 1 ;;
    esac
done
for part in ${skip//,/ }; do
    [[ $parts = *" $part "* ]] || { echo "cluster_test.sh: --skip: no part $part; there are$parts" >&2; exit 1; }
done

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
if [ "${TIMES:=1}" -gt 1 ]; then
    log=$(mktemp)
    for ((i = 1; i <= TIMES; i++)); do
        printf '=== %d of %d\n' $i "$TIMES"
        TIMES=1 bash dev/test/cluster_test.sh "$@" | tee "$log"
        code=${PIPESTATUS[0]}
        check "time $i: exit code $code, $(tail -n 1 "$log")" test "$code" -eq 0
    done
    rm -f "$log"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
    exit
fi
# can PART TOOL...: shall it run, and can it? Says what is missing.
can() {
    local part=$1 missing=() tool
    shift
    if [[ $skip = *,$part,* ]]; then echo "$part: left out, as asked"; return 1; fi
    [ "$(id -u)" -eq 0 ] || missing+=('root')
    [[ $BUILD = *mpi1* ]] || missing+=('a build with MPI')
    for tool in "$@"; do command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || missing+=("$tool"); done
    if [ ${#missing[@]} -eq 0 ]; then echo "--- $part"; return 0; fi
    check "$part: cannot run without ${missing[*]} (scripts/install.sh cluster installs what it needs; --skip=$part leaves it out)" false
    return 1
}

work=$(mktemp -d)
chmod 755 "$work" # munge wants nobody else to write there, and others to read
namespaces=() daemons=()
stop() { # ends what this test started, by its own process ids
    local file name pid i
    for file in "${daemons[@]}"; do
        pid=$(cat "$file" 2>/dev/null) || continue
        kill "$pid"
        for ((i = 0; i < 200; i++)); do [ -e "/proc/$pid" ] || break; sleep 0.05; done
    done
    for name in "${namespaces[@]}"; do
        ip netns pids "$name" 2>/dev/null | xargs -r kill -9
        ip netns del "$name" 2>/dev/null
    done
    daemons=() namespaces=()
}
trap 'stop; rm -rf "$work"' EXIT
PATH=$PATH:/usr/sbin:/sbin
# Ports and names of namespaces are fixed: one of these tests at a time on a machine.
exec 7>/tmp/gpt_cluster_test.lock
flock 7
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1

"$program" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/tokenizer.json" >"$work/out" 2>&1 &&
    "$program" tokenize --tokenizer="$work/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.1 --out="$work/s" >>"$work/out" 2>&1
check "preparing: $(cat "$work/out")" test -f "$work/s_val_00000.bin"

steps=200 timeout_s=20
options=(--model=qwen3-nano --train_data="$work/s_train_*.bin" --val_data="$work/s_val_*.bin" --tokenizer="$work/tokenizer.json" --seq_len=48
    --total_batch_tokens=1152 --lr=3e-3 --warmup_steps=5 --val_every=40 --val_tokens=480 --progress=off --threads=1 "--comm_timeout=$timeout_s")
local_mpi=(mpirun --oversubscribe --bind-to none --allow-run-as-root)
step_of() { # the newest step in a run's metrics, 0 if there is none
    local line
    line=$(tail -n 1 "$1/metrics.jsonl" 2>/dev/null | sed -n 's/^{"step": \([0-9]*\),.*/\1/p')
    echo "${line:-0}"
}
reach() { # reach FOLDER STEP SECONDS: waits until the run is there
    local until=$((SECONDS + $3))
    while [ "$(step_of "$1")" -lt "$2" ]; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.02
    done
}
bits() { # what a run must reproduce: weights, moments, config, metrics but for times
    local last
    last=$(printf '%s/step_%08d' "$1" "$steps")
    cat "$last/model.safetensors" "$last"/optimizer-*.safetensors "$last/config.json" | sha256sum
    sed -E 's/"(step_ms|tokens_per_s|mfu)": [^,}]*//g' "$1/metrics.jsonl" | sha256sum
}
whole() { # whole RANKS: bits of the undisturbed run on so many ranks, in $work/whole_RANKS
    [ -d "$work/whole_$1" ] ||
        "${local_mpi[@]}" -n "$1" "$program" train "${options[@]}" --steps=$steps --batch_size=$((24 / $1)) --checkpoint_every=50 --out="$work/whole_$1" >"$work/out" 2>&1
    check "the undisturbed run on $1 ranks: $(tail -n 3 "$work/out")" test -f "$(printf '%s/whole_%d/step_%08d/run.json' "$work" "$1" $steps)"
}
# Processes of this test: ranks of the run in FOLDER.
ranks_of() {
    local p
    for p in $(pgrep -f -- "--out=$1( |\$)"); do if [ "$(cat "/proc/$p/comm" 2>/dev/null)" = train_gpt_cpu ]; then echo "$p"; fi; done
}

ranks_gone() { # ranks_gone FOLDER SECONDS: until none is left; then those that are left are killed
    local until=$((SECONDS + $2))
    while [ -n "$(ranks_of "$1")" ]; do
        if [ $SECONDS -ge $until ]; then
            ranks_of "$1" | xargs -r kill -9
            return 1
        fi
        sleep 0.1
    done
}

# ------------------------------------------------------------------ hosts

# Two hosts, gpta (10.77.0.1) and gptb (10.77.0.2), with names and addresses of their own, on a switch: cutting a host's
# cable leaves the other's link up, as in a machine room.
start_hosts() {
    local host n=0
    mkdir -p "$work/hosts"
    ip netns add gptswitch && namespaces+=(gptswitch)
    ip -n gptswitch link add bridge type bridge
    ip -n gptswitch link set bridge up
    for host in gpta gptb; do
        n=$((n + 1))
        ip netns add $host && namespaces+=("$host")
        ip -n $host link add eth0 type veth peer name $host netns gptswitch
        ip -n gptswitch link set $host master bridge up
        ip -n $host addr add 10.77.0.$n/24 dev eth0
        ip -n $host link set eth0 up
        ip -n $host link set lo up
        # What runs on a host has its name, too; a process that sleeps keeps it.
        # shellcheck disable=SC2016  # the inner shell expands them
        ip netns exec $host unshare --uts bash -c 'hostname "$1"; echo $$ >"$2"; exec sleep 3600' _ $host "$work/hosts/$host" &
        disown # no word when stop() ends it
        until [ -s "$work/hosts/$host" ]; do sleep 0.05; done
    done
}
on() { # on HOST COMMAND...
    local host=$1
    shift
    nsenter --net="/run/netns/$host" --uts="/proc/$(cat "$work/hosts/$host")/ns/uts" "$@"
}
cable() { ip -n gptswitch link set gptb "$1"; } # up or down

# ------------------------------------------------------------------ slurm

# slurmctld on gpta, a slurmd on each host. Each host has a TmpFS of its own, as a machine has its own /tmp: there Slurm's
# PMIx plugin makes a folder named after user and step, and does not start a step whose folder is there already.
# Its commands are given on gpta: slurm COMMAND...
start_slurm() {
    local cluster=$work/slurm host
    mkdir -p "$cluster/state" "$cluster/tmp.gpta" "$cluster/tmp.gptb"
    (umask 077 && head -c 1024 /dev/urandom >"$cluster/munge.key")
    daemons+=("$cluster/slurmd.gpta.pid" "$cluster/slurmd.gptb.pid" "$cluster/slurmctld.pid" "$cluster/munged.pid")
    munged --key-file="$cluster/munge.key" --socket="$cluster/munge.socket" --pid-file="$cluster/munged.pid" --log-file="$cluster/munged.log" \
        --seed-file="$cluster/munge.seed" || return 1
    cat >"$cluster/slurm.conf" <<END
ClusterName=gpttest
SlurmctldHost=gpta(10.77.0.1)
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool.%n
TmpFS=$cluster/tmp.%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.%n.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
SlurmdTimeout=20
PropagateResourceLimits=NONE
NodeName=gpta NodeAddr=10.77.0.1 CPUs=8 RealMemory=1000
NodeName=gptb NodeAddr=10.77.0.2 CPUs=8 RealMemory=1000
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    export SLURM_CONF=$cluster/slurm.conf
    slurm slurmctld || return 1
    for host in gpta gptb; do on $host slurmd || return 1; done
    nodes_idle 30
}
slurm() { on gpta "$@"; }
nodes_idle() { # nodes_idle SECONDS: waits until both are
    local until=$((SECONDS + $1))
    while [ "$(slurm sinfo -h -o '%D %T' 2>/dev/null)" != '2 idle' ]; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.2
    done
}
# Without -t, which would leave out a job in the moment in which Slurm signals it (SIGNALING).
queued() { slurm squeue -h -j "$1" 2>/dev/null | grep -c .; }
node_down() { [[ $(slurm scontrol show node gptb 2>/dev/null) = *State=DOWN* ]]; }
until_gone() { # until_gone JOB SECONDS
    local until=$((SECONDS + $2))
    while [ "$(queued "$1")" -gt 0 ]; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.2
    done
}
# submit OUT SBATCH_WORD... -- TRAIN_OPTION...: sets job
submit() {
    local out=$1 words=()
    shift
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    job=$(cd "$root" && PROGRAM=$program DEVICE=CPU slurm sbatch --parsable --gpus-per-node=0 --cpus-per-task=1 --ntasks-per-node=3 --output="$out-%a.log" "${words[@]}" \
        scripts/slurm/generic.sbatch "${options[@]}" --batch_size=8 --out="$out" "$@")
}

if can slurm slurmctld slurmd munged srun sbatch scancel mpirun jq ip nsenter unshare; then
    start_hosts && start_slurm
    check "Slurm starts: $(tail -qn 3 "$work/slurm"/*.log 2>/dev/null)" nodes_idle 0
    check 'srun has PMIx (Debian: slurm-wlm-basic-plugins)' grep -qw pmix <(srun --mpi=list 2>&1)
    whole 3
    run=$work/chain
    submit "$run" --array=0-7%1 --time=10 -- --steps=$steps --checkpoint_every=10
    check "sbatch takes scripts/slurm/generic.sbatch, job '$job'" test -n "$job"
    # Task 0: the signal that --signal=TERM@240 sends: to the steps, not to the shell.
    reach "$run" 20 300 && slurm scancel --signal=TERM "${job}_0"
    until_gone "${job}_0" 300
    check "task 0 stopped by SIGTERM with a checkpoint: $(tail -n 3 "$run-0.log")" grep -q 'stopped with the checkpoint' "$run-0.log"
    stopped=$(step_of "$run")
    check "task 0 stopped in the middle, at step $stopped" test "$stopped" -ge 20 -a "$stopped" -lt $steps
    check "3 ranks met over PMIx: $(grep -h device: "$run/run.log")" grep -q '3 ranks' "$run/run.log"
    check "the log names tokens, FLOPs, hours and kWh" grep -Eq 'cost: .*tokens.* FLOPs .* hours .* kWh' "$run-0.log"
    # Task 1: a rank dies.
    reach "$run" $((stopped + 15)) 300 && kill -9 "$(ranks_of "$run" | tail -n 1)"
    died=$SECONDS
    until_gone "${job}_1" 300
    echo "slurm: task 1 ended $((SECONDS - died)) s after its rank's death"
    check "task 1 says that it failed and that the next one tries again: $(tail -n 2 "$run-1.log")" grep -q 'error: exit code .* tries again' "$run-1.log"
    # Task 2: the node is lost: Slurm requeues the task.
    reach "$run" $((stopped + 45)) 300 && slurm scontrol requeue "${job}_2"
    until_gone "$job" 600
    check "the chain ended: $(slurm squeue -h)" test "$(queued "$job")" -eq 0
    check "task 2 was requeued: $(tail -n 2 "$run-2.log")" grep -q 'JOB REQUEUE' "$run-2.log"
    # It has to wait for two minutes then, so the next task goes on with the run, and in the end cancels it.
    check "one task finished the run: $(tail -qn 1 "$run"-*.log)" test "$(cat "$run"-*.log | grep -c ': finished: ')" -eq 1
    check "the tasks behind it did not start: $(ls "$work"/chain-*.log)" test ! -e "$run-4.log"
    check 'the chain has the bits of the undisturbed run' test "$(bits "$run")" = "$(bits "$work/whole_3")"
    # Again: nothing to do.
    submit "$run" --array=0-3%1 --time=10 -- --steps=$steps --checkpoint_every=10
    until_gone "$job" 300
    check "a finished run submitted again ends at once: $(tail -n 1 "$run-0.log")" grep -q 'finished before' "$run-0.log"
    check 'and starts no step' test "$(grep -c 'nodes, 3 ranks on' "$run-0.log")" -eq 1
    # A mistake in the options ends the chain at once, one that the program finds later after two tries.
    submit "$work/wrong" --array=0-7%1 --time=10 -- --steps=$steps --no_such_option=1
    until_gone "$job" 300
    check "a mistake in the options ends the chain: $(tail -n 1 "$work/wrong-0.log")" grep -q 'does not take the options' "$work/wrong-0.log"
    check 'at once' test ! -e "$work/wrong-1.log"
    submit "$work/late" --array=0-7%1 --time=10 -- --steps=$steps --train_data="$work/none.bin"
    until_gone "$job" 300
    check "data that are not there end the chain: $(tail -n 1 "$work/late-1.log")" grep -q 'twice in a row' "$work/late-1.log"
    check 'after two tries' test ! -e "$work/late-2.log"
    # The real thing: Slurm itself signals before the time is up. Its clock for this ticks once in half a minute.
    submit "$work/limit" --array=0-0 --time=2 --signal=TERM@60 -- --steps=1000000 --checkpoint_every=0 --val_every=0
    begin=$SECONDS
    until_gone "$job" 600
    check "--signal reached the ranks before the limit of 120 s: $(tail -n 2 "$work/limit-0.log")" grep -q 'stopped with the checkpoint' "$work/limit-0.log"
    echo "slurm: the job with a limit of 120 s ended after $((SECONDS - begin)) s"
    # Two nodes, of which one is cut off. Slurm takes the task down with the node and queues it again, or the task fails
    # before that; either way a next one waits for the node, and goes on.
    whole 2
    run=$work/nodes
    submit "$run" --nodes=2 --ntasks-per-node=1 --array=0-7%1 --time=20 -- --steps=$steps --batch_size=12 --checkpoint_every=10
    reach "$run" 35 300
    check "two nodes train: $(tail -n 3 "$run-0.log")" test "$(step_of "$run")" -ge 35
    check "on both: $(grep -h ' nodes, ' "$run-0.log")" grep -q '2 nodes, 2 ranks on gpta,gptb' "$run-0.log"
    cable down
    cut=$SECONDS
    check "a node is cut off: a rank is left after five minutes" ranks_gone "$run" 300
    echo "slurm: a node cut off at step $(step_of "$run"): ranks ended after $((SECONDS - cut)) s"
    # Whichever notices first: the rank that waits ($timeout_s s), or slurmctld, whose pings the node does not answer.
    check "the log names the node or what was waited for: $(tail -n 5 "$run-0.log")" grep -Eq \
        'error: rank [01] on gpt[ab], step [0-9]+: waited .* for: |Node failure on gptb' "$run-0.log"
    check "the run was in its middle: step $(step_of "$run")" test "$(step_of "$run")" -lt $steps
    # Slurm, too, must have noticed: only then it is the node's coming back that is tested, and not a short break.
    until node_down || [ $((SECONDS - cut)) -gt 600 ]; do sleep 0.5; done
    check "Slurm takes the node down: $(slurm scontrol show node gptb | grep State=)" node_down
    echo "slurm: the node is down to Slurm $((SECONDS - cut)) s after the cut"
    cable up
    back=$SECONDS
    until_gone "$job" 600
    check "the chain went on to the end: $(tail -qn 1 "$run"-*.log)" test "$(cat "$run"-*.log | grep -c ': finished: ')" -eq 1
    check 'from the checkpoint before the cut' grep -q "resumed from $run/step_" <(cat "$run"-*.log)
    check 'with the bits of the undisturbed run' test "$(bits "$run")" = "$(bits "$work/whole_2")"
    check "both nodes are idle again: $(slurm sinfo -h -o '%n %T')" nodes_idle 60
    echo "slurm: the run is finished and both nodes are idle $((SECONDS - back)) s after the cable is back"
    # Without PMIx the ranks of two nodes meet through a file. (Training adds up gradients over MPI or NCCL; this needs neither.)
    evaluate=("$program" eval --model="$(printf '%s/step_%08d' "$run" $steps)" --data="$work/s_val_*.bin" --seq_len=48 --batch_size=4 --threads=1)
    "${evaluate[@]}" | sed 's/, "tokens_per_s.*//' >"$work/one"
    LLMC_BOOTSTRAP=$work slurm srun --mpi=none --nodes=2 --ntasks=4 "${evaluate[@]}" 2>"$work/out" | sed 's/, "tokens_per_s.*//' >"$work/four"
    check "4 ranks on 2 nodes without PMIx evaluate as one does: $(cat "$work/four" "$work/out"), expected $(cat "$work/one")" cmp "$work/one" "$work/four"
    check "one rank evaluates: $(cat "$work/one")" grep -q '"loss"' "$work/one"
    stop
    unset SLURM_CONF
fi

# ------------------------------------------------------------------ ssh

start_sshd() {
    local ssh=$work/ssh host n=0
    mkdir -p "$ssh" /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$ssh/key" && ssh-keygen -q -t ed25519 -N '' -f "$ssh/host" || return 1
    cp "$ssh/key.pub" "$ssh/authorized"
    chmod 600 "$ssh/authorized"
    cat >"$ssh/config" <<END
Host *
    IdentityFile $ssh/key
    IdentitiesOnly yes
    User root
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
    BatchMode yes
    ConnectTimeout 10
END
    printf '10.77.0.1\n10.77.0.2\n' >"$ssh/hosts"
    for host in gpta gptb; do
        n=$((n + 1))
        on $host "$(command -v sshd)" -f /dev/null -o Port=22 -o ListenAddress=10.77.0.$n -o HostKey="$ssh/host" -o PidFile="$ssh/$host.sshd" \
            -o AuthorizedKeysFile="$ssh/authorized" -o StrictModes=no -o PermitRootLogin=yes -o UsePAM=no || return 1
    done
}
multi_node() { # multi_node OUT OPTION...: from gpta, one rank on each host, over TCP: they share a kernel, and must not notice
    on gpta env OMPI_MCA_plm_rsh_args="-F $work/ssh/config" OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=10.77.0.0/24 OMPI_MCA_oob_tcp_if_include=10.77.0.0/24 \
        OMPI_MCA_orte_tmpdir_base="$work" \
        "$root/scripts/run_multi_node.sh" --hostfile="$work/ssh/hosts" --device=CPU --ranks_per_node=1 --program="$program" -- "${options[@]}" --batch_size=12 "$@"
}

if can ssh sshd ssh ip nsenter unshare mpirun jq; then
    { start_hosts && start_sshd; } >"$work/out" 2>&1
    check "the hosts answer over ssh: $(cat "$work/out")" on gpta ssh -F "$work/ssh/config" 10.77.0.2 true
    check 'the second host has a name of its own' test "$(on gpta ssh -F "$work/ssh/config" 10.77.0.2 hostname)" = gptb
    whole 2
    run=$work/cut
    multi_node --out="$run" --steps=$steps --checkpoint_every=10 >"$work/cut.log" 2>&1 &
    pid=$!
    reach "$run" 35 300
    check "two hosts train: $(tail -n 3 "$work/cut.log")" test "$(step_of "$run")" -ge 35
    cable down
    cut=$SECONDS
    wait $pid
    code=$?
    check "a host is cut off: an error, not exit code $code" test $code -ne 0 -a $code -ne 3
    echo "ssh: a host cut off at step $(step_of "$run"): exit code $code after $((SECONDS - cut)) s"
    check "the error names the host or the rank: $(tail -n 5 "$work/cut.log")" grep -Eq '10\.77\.0\.2|gptb|rank [01]' "$work/cut.log"
    check 'and says how to go on' grep -q 'the same command goes on' "$work/cut.log"
    check "a rank is left on a host five minutes after the cut" ranks_gone "$run" 300
    echo "ssh: the last rank ended $((SECONDS - cut)) s after the cut at most"
    check "the run was in its middle: step $(step_of "$run")" test "$(step_of "$run")" -lt $steps
    cable up
    until on gpta ssh -F "$work/ssh/config" 10.77.0.2 true; do
        [ $SECONDS -lt $((cut + 900)) ] || break
        sleep 1
    done
    multi_node --out="$run" --steps=$steps --checkpoint_every=10 >"$work/cut.log" 2>&1
    check "the cable is back: the same command finishes the run, exit code $?: $(tail -n 3 "$work/cut.log")" grep -q 'run_multi_node.sh: finished' "$work/cut.log"
    check 'with the bits of the undisturbed run' test "$(bits "$run")" = "$(bits "$work/whole_2")"
    # Stopped in good order: SIGTERM to the script.
    multi_node --out="$work/term" --steps=1000000 --checkpoint_every=0 --val_every=0 >"$work/term.log" 2>&1 &
    pid=$!
    reach "$work/term" 5 300
    check "two hosts start again: $(grep -v "^\[1,0\]" "$work/term.log" | head -n 20)" test "$(step_of "$work/term")" -ge 5
    pgrep -f -- "run_multi_node.sh .*--out=$work/term" | head -n 1 | xargs -r kill -TERM
    wait $pid
    code=$?
    check "SIGTERM ends with 3, not $code" test $code -eq 3
    check "and a checkpoint: $(tail -n 3 "$work/term.log")" test -n "$(find "$work/term" -maxdepth 1 -name 'step_*[0-9]')"
    stop
fi

# ------------------------------------------------------------------ kill

# The run has no end until the kills are over, however fast the machine is or how late they come: then it goes on for 20 steps,
# and is compared with a run of as many steps. Half of the kills fall into a start, before its first step, half on a step
# behind it; waiting for parts of a second only spreads them.
kill_test() { # kill_test RANKS
    local ranks=$1 run=$work/killed_$1 kills=0 before began start=1000 pause victim early=0 writing=0 log=$work/killed.log folder steps
    local command=(train "${options[@]}" --lr_schedule=constant "--batch_size=$((24 / ranks))" --checkpoint_every=1 --keep_checkpoints=2)
    if [ "$ranks" -gt 1 ]; then command=("${local_mpi[@]}" -n "$ranks" "$program" "${command[@]}"); else command=("$program" "${command[@]}"); fi
    while [ $kills -lt "$KILLS" ]; do
        before=$(step_of "$run") began=${EPOCHREALTIME/./}
        "${command[@]}" --steps=100000000 --out="$run" --resume=auto >"$log" 2>&1 & # the program or mpirun itself, not a shell around it
        pid=$!
        if [ $((kills % 2)) -eq 0 ]; then pause=$((RANDOM % 100 * start / 100000))
        else
            if ! reach "$run" $((before + 1 + RANDOM % 6)) 600; then
                check "$ranks ranks: no step in 10 minutes: $(tail -n 3 "$log")" false
                break
            fi
            start=$(((${EPOCHREALTIME/./} - began) / 1000)) pause=$((RANDOM % 20))
        fi
        sleep "$(printf '0.%03d' $((pause < 999 ? pause : 999)))"
        victim=$( (ranks_of "$run"; if [ "$ranks" -gt 1 ]; then echo $pid; fi) | shuf -n 1)
        [ -z "$(find "$run" -maxdepth 1 -name '*step_*' ! -name 'step_*[0-9]' 2>/dev/null)" ] || writing=$((writing + 1))
        kill -9 "${victim:-$pid}" 2>/dev/null
        wait $pid 2>/dev/null
        code=$?
        # Nothing ends it but the kills; a rank that is killed makes mpirun end with an error.
        check "$ranks ranks: ended before it was killed: $(tail -n 3 "$log")" test $code -ne 0 -a $code -ne 3
        kills=$((kills + 1))
        # Ranks whose launcher was killed end by themselves; until then the run's folder is theirs.
        check "$ranks ranks: ranks are left two minutes after process $victim was killed" ranks_gone "$run" 120
        [ "$(step_of "$run")" -gt "$before" ] || early=$((early + 1))
        for folder in "$run"/step_*[0-9]; do
            if [ -d "$folder" ] && [ ! -f "$folder/run.json" ]; then check "$folder is there and not whole" false; fi
        done
    done
    steps=$(($(step_of "$run") + 20))
    "${command[@]}" --steps=$steps --out="$run" --resume=auto >"$log" 2>&1
    check "$ranks ranks: the run goes on to its end: $(tail -n 3 "$log")" test -d "$(printf '%s/step_%08d' "$run" $steps)"
    "${command[@]}" --steps=$steps --out="$run.whole" >"$work/out" 2>&1
    echo "kill: $ranks ranks: $kills kills in $((steps - 20)) steps, $early of them before the first step of their start, $writing while a checkpoint was being written"
    check "$ranks ranks: killed $kills times, the bits are others" test "$(bits "$run")" = "$(bits "$run.whole")"
    check "$ranks ranks: one line of metrics a step" test "$(wc -l <"$run/metrics.jsonl")" -eq $steps
    rm -rf "$run" "$run.whole"
}
if can kill mpirun jq shuf pgrep; then
    for ranks in $KILL_RANKS; do kill_test "$ranks"; done
fi

# ------------------------------------------------------------------ bytes

# All that R ranks send in one step of the CPU program: every rank sends all gradients but its own share, then its share of the
# new weights to all others: 2 (R - 1) x 4 bytes x parameters. TCP's and IP's headers on a loopback of 64 KiB packets are 0.1%.
traffic() { # traffic RANKS STEPS: bytes over the loopback of a namespace
    local name=gptbytes before after
    ip netns add $name
    ip -n $name link set lo up
    before=$(ip netns exec $name cat /sys/class/net/lo/statistics/tx_bytes)
    ip netns exec $name "${local_mpi[@]}" --mca btl tcp,self --mca btl_tcp_if_include lo -n "$1" "$program" train "${options[@]}" --model=llama-5M --total_batch_tokens=0 --batch_size=1 \
        --seq_len=8 --warmup_steps=0 --val_every=0 --checkpoint_every=0 --steps="$2" --out="$work/bytes_$1_$2" >"$work/out" 2>&1 || cat "$work/out" >&2
    after=$(ip netns exec $name cat /sys/class/net/lo/statistics/tx_bytes)
    ip netns del $name
    echo $((after - before))
}
if can bytes ip mpirun jq; then
    namespaces=(gptbytes) # traffic() runs in a subshell
    parameters=$("$program" info --json --model=llama-5M --vocab_size=512 | jq '.model.parameters / 1e6')
    for ranks in 2 4; do
        few=$(traffic $ranks 4) many=$(traffic $ranks 12)
        counted=$(((many - few) / 8))
        formula=$(dev/scaling.sh --bytes "$ranks" "$parameters")
        echo "bytes: $ranks ranks: counted $counted a step, formula $formula"
        check "$ranks ranks send $counted bytes a step, the formula says $formula; expected within 3% (headers, acknowledgements, loss and norm)" \
            awk -v c="$counted" -v f="$formula" 'BEGIN { exit !(f > 0 && c >= f && c < 1.03 * f) }'
    done
fi

printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
