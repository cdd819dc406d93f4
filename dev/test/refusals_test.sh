#!/usr/bin/env bash
# What dev/emu refuses, as a device would: each fault of dev/test/refusals.cu is planted and must be named, by the emulator
# of sources and, where nvcc is, by the machine that runs PTX. What one of them does not see is `-` in the list there.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make test}" "${SANITIZE:=0}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
program=$BUILD/refusals_emu ptx=build/ptx/refusals.80.ptx
ulimit -c 0 # a refusal ends the program with a signal

refused() { # refused WHAT PATTERN COMMAND...
    local what=$1 pattern=$2
    shift 2
    { "$@" >"$work/said" 2>&1; } 2>/dev/null # bash tells of the signal
    check "$what: expected '$pattern', said '$(grep -m 1 -E 'error|:' "$work/said")'" grep -Eq "$pattern" "$work/said"
}
"$program" list >"$work/list"
check "the list of faults" test "$(wc -l <"$work/list")" -ge 20
real=0
if [ "$SANITIZE" = 1 ]; then skip 'refusals_test.sh, PTX' 'only in the plain build'
elif [ -e "$ptx" ]; then real=1
else skip 'refusals_test.sh, PTX' 'no nvcc'; fi
while IFS='|' read -r number source machine; do
    [ "$source" = - ] || refused "fault $number, source" "$source" "$program" "$number"
    if [ $real = 1 ] && [ "$machine" != - ]; then refused "fault $number, PTX" "$machine" env CUDA_EMU_PTX=$ptx "$program" "$number"; fi
done <"$work/list"

if [ $real = 1 ]; then # what it cannot read is told, never guessed
    sed 's/mul\.wide\.u32/mul.wider.u32/' "$ptx" >"$work/opcode.ptx"
    refused "an opcode without a row" 'PTX: line [0-9]+: no row of the table of opcodes is this one, at .mul.wider.u32' env CUDA_EMU_PTX="$work/opcode.ptx" "$program" 4
    sed 's/never_written/another/g' "$ptx" >"$work/name.ptx"
    refused "a kernel that is not there" 'PTX: the file has no kernel .*never_written' env CUDA_EMU_PTX="$work/name.ptx" "$program" 4
    refused "a file that is not there" 'PTX: cannot read .*none' env CUDA_EMU_PTX="$work/none" "$program" 4
fi

for setting in CUDA_EMU_COPIES=soon CUDA_EMU_ORDER=sideways CUDA_EMU_STREAMS=some; do
    refused "$setting" "^error: $setting: expected " env "$setting" "$program" 19
done
if [ $real = 1 ]; then refused 'CUDA_EMU_MATH=loose' '^error: CUDA_EMU_MATH=loose: expected exact or edge' env CUDA_EMU_MATH=loose CUDA_EMU_PTX="$ptx" "$program" 4; fi

# A copy over what is still read: seen by source as two results.
late=$("$program" 19) early=$(CUDA_EMU_COPIES=early "$program" 19)
check "fault 19: late and early copies give '$late' and '$early'" test "$late" != "$early"
conclude
