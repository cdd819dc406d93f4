#!/usr/bin/env bash
# Runs every test of a build and adds up what they report. Called by `make test`, which sets
# BUILD (folder of the binaries), RUNNER (an emulator to run them with, or empty) and SANITIZE.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make test}" "${RUNNER=}" "${SANITIZE=0}"
# Threads that wait give their core away: the tests may share the machine.
export BUILD RUNNER SANITIZE OMP_WAIT_POLICY=passive

passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# run NAME COMMAND...: its last line must be `N passed, N failed`; anything else is one failure.
run() {
    local name=$1 line
    shift
    printf -- '--- %s\n' "$name"
    "$@" 2>&1 | tee "$log"
    local code=${PIPESTATUS[0]}
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    if [ -n "$line" ]; then
        passed=$((passed + ${line%% *}))
        line=${line#*, }
        failed=$((failed + ${line%% *}))
        if [ "$code" -ne 0 ] && [ "${line%% *}" -eq 0 ]; then failed=$((failed + 1)); fi
    else
        printf 'FAILED %s: exit code %d and no count\n' "$name" "$code"
        failed=$((failed + 1))
    fi
}

# shellcheck disable=SC2086  # RUNNER is a command with its options
{
    run "test_gpt" $RUNNER "$BUILD/test_gpt"
    run "test_gpt_double" $RUNNER "$BUILD/test_gpt_double"
    run "cuda_attention_test" $RUNNER "$BUILD/cuda_attention_test_emu"
}
for script in dev/test/*_test.sh; do
    [ "$script" != dev/test/cluster_test.sh ] || continue # needs root, Slurm, namespaces: make test-cluster
    run "$script" bash "$script"
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
