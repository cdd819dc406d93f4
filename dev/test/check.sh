# shellcheck shell=bash
# check.sh: counting checks for the shell tests, as check.h does for test_gpt; sourced by them, never run.
#
#   check MESSAGE COMMAND...    counts; if the command fails, prints MESSAGE and what it said of the fault, and goes on
#   skip WHAT WHY               what cannot be tested here is said and counted: `SKIPPED WHAT: WHY`
#   close A B WHAT BOUND   the numbers called WHAT of two runs, $work/A and $work/B, differ by at most BOUND, relatively
#   kill_at PATH COMMAND...     starts it, kills it when PATH is there, and leaves it no checkpoint behind that one, if it was
#                               quicker: on a machine of any speed it stopped there
#   conclude                    the count, as the last line; fails if a check did: the script's last command
#
# run.sh and .ci/run add up the lines `N passed, N failed, N skipped` (a test that skips nothing may leave that part
# out), and list what was skipped.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # containers have no other user
passed=0 failed=0 skipped=0
check() {
    local message=$1 said
    shift
    said=$(mktemp)
    if "$@" >"$said" 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'FAILED %s\n' "$message"
        grep -E 'FAILED|error' "$said" | head -n 5
    fi
    rm -f "$said"
}
skip() {
    skipped=$((skipped + 1))
    printf 'SKIPPED %s: %s\n' "$1" "$2"
}
close() {
    # shellcheck disable=SC2154  # work: the folder of the test that reads this file
    paste <(grep -o "\"$3\": [^,}]*" "$work/$1/metrics.jsonl") <(grep -o "\"$3\": [^,}]*" "$work/$2/metrics.jsonl") |
        awk -v bound="$4" '{ d = $2 - $4; d = d < 0 ? -d : d; m = $2 < 0 ? -$2 : $2; if (NF != 4 || !(d <= bound * m)) { print "FAILED: step", NR, $2, $4; bad = 1 } } END { exit bad || NR == 0 }'
}
kill_at() {
    local path=$1 pid checkpoint
    "${@:2}" >/dev/null 2>&1 &
    pid=$!
    until [ -e "$path" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    for checkpoint in "${path%/*}"/step_*; do
        if [[ "$checkpoint" > "$path" ]]; then rm -rf "$checkpoint"; fi
    done
}
conclude() {
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" -eq 0 ]
}
# no_ranks: why several ranks cannot be started here; empty: they can.
no_ranks() {
    if [ -n "${RUNNER:-}" ]; then echo 'not under an emulator'
    elif [[ $BUILD != *mpi1* ]]; then echo 'a build without MPI'
    elif ! command -v mpirun >/dev/null; then echo 'no mpirun; scripts/install.sh mpi installs it'; fi
}
