#!/usr/bin/env bash
# mutants.sh: plants one fault at a time in a copy of the tree and asks whether the tests see it. A mutant that survives
# is a missing test.
#
#   dev/test/mutants.sh [WORD...]    those whose names hold one of the words; without words all (make mutants)
#
# A mutant is a place in a file, which must be there exactly once, what stands there instead, and the test that must fail.
# The test builds and runs in the copy: `gpt AREA...` is test_gpt, `double AREA...` test_gpt_double, `cuda` the emulated
# kernels, anything else a script of this folder. Before the first mutant each of these tests must pass unharmed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=dev/test/planting.sh
. dev/test/planting.sh
# shellcheck source=dev/test/mutants_list.sh
. dev/test/mutants_list.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run_test FOLDER TEST: the exit code of a test in a copy of the tree; 99: it does not build.
run_test() {
    local folder=$1 kind=${2%% *} words=${2#* } build=build/mutant-mpi0
    if command -v mpicc >/dev/null; then build=build/mutant-mpi1; fi # tests of ranks look at the name
    [ "$words" = "$2" ] && words=
    cd "$folder" || return 98
    export CFLAGS=-O1 WERROR=0
    case $kind in
        gpt | double)
            [ "$kind" = gpt ] && kind=test_gpt || kind=test_gpt_double
            make -s BUILD="$build" "$build/$kind" || return 99
            # shellcheck disable=SC2086  # areas
            timeout 300 "$build/$kind" $words
            ;;
        cuda) make -s BUILD="$build" "$build/cuda_test_emu" && { timeout 300 "$build/cuda_test_emu" || return 1; } ;;
        *)
            make -s BUILD="$build" build-tests >/dev/null || return 99
            case $kind in cuda*) make -s BUILD="$build" emu || return 99 ;; esac
            BUILD=$build timeout 600 bash "dev/test/$kind.sh"
            ;;
    esac
}

copy_tree() { # copy_tree FOLDER: what git tracks
    mkdir -p "$1" && git ls-files -z | tar --null -T - -cf - | tar -C "$1" -xf -
}

one() { # one NUMBER: plants it and tests
    local i=$1 folder=$work/$1 code
    copy_tree "$folder"
    if ! plant "$i" "$folder"; then
        echo "STALE" >"$work/$i.result"
    else
        (run_test "$folder" "${tests[$i]}") >"$work/$i.log" 2>&1 </dev/null
        code=$?
        case $code in
            0) echo SURVIVED ;;
            99) echo "DOES NOT BUILD" ;;
            *) echo caught ;;
        esac >"$work/$i.result"
    fi
    printf '%-9s %s (%s, by %s)\n' "$(cat "$work/$i.result")" "${names[$i]}" "${files[$i]}" "${tests[$i]}"
    rm -rf "$folder"
}

# The tests themselves, unharmed: else a broken test would catch everything.
choose "$@"
copy_tree "$work/whole"
bad=0
while IFS= read -r test; do
    if ! (run_test "$work/whole" "$test") >"$work/whole.log" 2>&1 </dev/null; then
        bad=$((bad + 1))
        echo "FAILED without a mutant: $test"
        tail -n 5 "$work/whole.log"
    fi
done < <(for i in "${chosen[@]}"; do echo "${tests[$i]}"; done | sort -u)

each_chosen one
passed=0 failed=$bad
for i in "${chosen[@]}"; do
    if grep -qx caught "$work/$i.result"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
printf '%d of %d mutants caught\n%d passed, %d failed\n' "$passed" "${#chosen[@]}" "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
