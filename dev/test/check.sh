# shellcheck shell=bash
# check.sh: counting checks for the shell tests, as check.h does for test_gpt; sourced by them, never run.
#
#   check MESSAGE COMMAND...    counts; if the command fails, prints MESSAGE and what it said of the fault, and goes on
#
# A test ends with `printf '%d passed, %d failed\n' $passed $failed` and fails if $failed is not 0.
passed=0 failed=0
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
