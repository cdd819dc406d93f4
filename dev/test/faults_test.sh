#!/usr/bin/env bash
# What the machine under a run can do to it: system calls, memory and threads that fail, kills at exact calls
# (faults.c, faults_run.c), damaged files (flips.c). A sample of each; all of them: `make test-faults`, or
# POINTS=all dev/test/faults_test.sh. One of them by itself: see faults_run.c.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}" "${SANITIZE:=0}" "${POINTS:=some}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
# An emulator has another C library. AddressSanitizer's library has to come first, and keeps the memory.
PRELOAD=
[ "$SANITIZE" = 1 ] && PRELOAD=$(ldd "$BUILD/train_gpt_cpu" 2>/dev/null | sed -n 's/.*libasan[^ ]* => \([^ ]*\).*/\1/p')
if [ -n "$RUNNER" ] || { [ "$SANITIZE" = 1 ] && [ -z "$PRELOAD" ]; }; then
    skip 'failing calls, damaged files' 'no library can stand in front of this program'
    conclude
    exit
fi
export PRELOAD
# Thousands of runs that sync every file: in memory where that can be, since no bit depends on the disk.
free=$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "${free:-0}" -gt 262144 ]; then TMPDIR=/dev/shm; fi
TMPDIR=$(mktemp -d -p "${TMPDIR:-/tmp}")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
compile() { "${CC:-cc}" -std=c11 -O1 -Wall -Wextra "$@"; }
compile dev/test/faults_run.c -o "$TMPDIR/faults_run" && compile dev/test/flips.c -o "$TMPDIR/flips" &&
    compile -shared -fPIC dev/test/faults.c -o "$TMPDIR/faults.so" -ldl -pthread || exit 1
calls=(--sample=150) emulated=(--sample=20) damages=(--sample=100)
[ "$SANITIZE" = 1 ] && ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
export ASAN_OPTIONS
[ "$POINTS" = all ] && calls=() emulated=(--sample=3000) damages=()
add() { # add COMMAND...: its counts; a test that ends without them has failed
    local line
    "$@" | tee "$TMPDIR/out"
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$TMPDIR/out" | tail -n 1)
    [ -z "$line" ] && line='0 passed, 1 failed'
    passed=$((passed + ${line%% *}))
    line=${line#*, }
    failed=$((failed + ${line%% *}))
}
add "$TMPDIR/faults_run" "$BUILD/train_gpt_cpu" "$TMPDIR/faults.so" dev/test/sample_de.txt "${calls[@]}"
# The CUDA program, emulated, reads and writes by the same functions, and keeps a file of its own. Memory is the
# emulator's.
if [ -x "$BUILD/train_gpt_emu_fp32" ]; then
    add "$TMPDIR/faults_run" "$BUILD/train_gpt_emu_fp32" "$TMPDIR/faults.so" dev/test/sample_de.txt --without=memory "${emulated[@]}"
fi
add "$TMPDIR/flips" "$BUILD/train_gpt_cpu" dev/test/sample_de.txt "${damages[@]}"
conclude
