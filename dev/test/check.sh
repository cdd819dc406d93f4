# shellcheck shell=bash
# check.sh: counting checks for the shell tests, as check.h does for test_gpt; sourced by them, never run.
#
#   check MESSAGE COMMAND...    counts; if the command fails, prints MESSAGE and goes on. What it says on stdout is not shown
#
# A test ends with `printf '%d passed, %d failed\n' $passed $failed` and fails if $failed is not 0.
passed=0 failed=0
check() {
    local message=$1
    shift
    if "$@" >/dev/null; then passed=$((passed + 1)); else failed=$((failed + 1)); printf 'FAILED %s\n' "$message"; fi
}
