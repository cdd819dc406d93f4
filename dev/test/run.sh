#!/usr/bin/env bash
# Runs every test of a build (with the word `long`: what `make test` takes a part of), one more at a time than there are
# cores, since some wait for processes that they watch, and adds up what they report. Called by `make test` and `make test-long`, which set BUILD (folder of the binaries), RUNNER (an emulator to run them with, or empty) and
# SANITIZE. The last line of a test's output that reads `N passed, N failed[, N skipped]` counts; none is one failure.
# What was skipped (`SKIPPED what: why`) is listed at the end, and the last line counts it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make test}" "${RUNNER=}" "${SANITIZE=0}"
# Threads that wait give their core away: the tests share the machine.
export BUILD RUNNER SANITIZE OMP_WAIT_POLICY=passive
unset MAKEFLAGS MFLAGS MAKELEVEL # a make inside a test is one of its own

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
# What takes longest begins first: begun late, it would run by itself when all others have ended.
tests=('bash dev/test/cuda_test.sh' 'bash dev/test/cuda_ranks_test.sh' 'bash dev/test/cli_test.sh' 'bash dev/test/chat_test.sh'
    "$RUNNER $BUILD/test_gpt" "$RUNNER $BUILD/cuda_attention_test_emu" "$RUNNER $BUILD/cuda_model_test_emu")
[ "$SANITIZE" = 1 ] || tests+=("$RUNNER $BUILD/test_gpt_double") # the same code, of which sanitizers have seen all in float
for script in dev/test/*_test.sh; do
    case $script in
    */cuda_test.sh | */cuda_ranks_test.sh | */cli_test.sh | */chat_test.sh) continue ;; # are there
    dev/test/cluster_test.sh) continue ;; # needs root and Slurm: make test-cluster
    dev/test/promises_test.sh) [ "$SANITIZE" = 1 ] && continue ;; # reads sources, which are the same in every build
    esac
    tests+=("bash $script")
done
if [ "${1:-}" = long ]; then tests=('bash dev/test/cuda_test.sh long' 'bash dev/test/cuda_ranks_test.sh short' 'bash dev/test/promises_test.sh long' 'bash dev/test/ranks_test.sh long'); fi

at_once=$(($(nproc) + 1))
{
    for i in "${!tests[@]}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
        {
            started=$SECONDS
            timeout 2400 bash -c "${tests[$i]}" >"$logs/$i" 2>&1 # a test that hangs has failed
            echo "$? $((SECONDS - started))" >"$logs/$i.code.part" && mv "$logs/$i.code.part" "$logs/$i.code"
        } &
    done
    wait
} &

passed=0 failed=0
for i in "${!tests[@]}"; do
    until [ -e "$logs/$i.code" ]; do sleep 0.2; done
    read -r code seconds <"$logs/$i.code"
    printf -- '--- %s (%d s)\n' "${tests[$i]# }" "$seconds"
    cat "$logs/$i"
    grep '^SKIPPED ' "$logs/$i" >>"$logs/skipped"
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$logs/$i" | tail -n 1)
    if [ -n "$line" ]; then
        passed=$((passed + ${line%% *}))
        line=${line#*, }
        failed=$((failed + ${line%% *}))
        if [ "$code" -ne 0 ] && [ "${line%% *}" -eq 0 ]; then
            printf 'FAILED %s: exit code %d\n' "${tests[$i]}" "$code"
            failed=$((failed + 1))
        fi
    else
        printf 'FAILED %s: exit code %d and no count\n' "${tests[$i]}" "$code"
        failed=$((failed + 1))
    fi
done
skipped=$(wc -l <"$logs/skipped")
if [ "$skipped" -gt 0 ]; then printf -- '--- skipped\n%s\n' "$(cat "$logs/skipped")"; fi
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
