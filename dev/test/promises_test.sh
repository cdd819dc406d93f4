#!/usr/bin/env bash
# What DESIGN and STYLE promise and a machine can check: promises.pl reads the sources; every header under llmc/ compiles
# alone and twice without a warning, as C11 and as C++17, with gcc and clang (those of llmc/cpu as C11 only, which is what
# includes them; those of llmc/cuda as C++17 on the emulator); the Makefile rebuilds what a change needs and no more, and
# its help lists its targets. Then each fault is planted in a copy of the sources, and must be found.
#
#     dev/test/promises_test.sh [long]
#
# Headers by gcc as C11, those of llmc/cuda as C++17, for `make test`, which compiles all of them as C++17 in the emulated
# programs; long, for `make test-long`: by gcc and clang, as both.
# shellcheck disable=SC2016  # the $ of sed, not the shell's
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make test}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ------------------------------------------------------------------ headers

# alone COMPILER FLAG... HEADER: prints what is wrong. The functions of engine.h are defined by the programs alone.
alone() {
    "${@:1:$#-1}" -Wall -Wextra -Wpedantic -Wno-unknown-pragmas -Wno-psabi -fsyntax-only -include "${*: -1}" -include "${*: -1}" /dev/null 2>&1 |
        grep -E '(warning|error):' | grep -Ev 'engine\.h:[0-9:]* warning: .*(never defined|unused function|is not defined)' |
        sed "s|^|${1} ${2}: |" | head -n 3
}
export -f alone
# headers ROOT: a line `COMPILER FLAG... HEADER` for each that is to be compiled; launches become calls under ROOT/emu.
headers() {
    local root=$1 header
    for header in "$root"/llmc/*.h "$root"/llmc/*/*.h; do
        mkdir -p "$root/emu/$(dirname "${header#"$root"/}")"
        sed -z -E -f dev/emu/launch.sed "$header" >"$root/emu/${header#"$root"/}"
        case $header in
            */llmc/cuda/*) header="-I$PWD/dev/emu $root/emu/${header#"$root"/}" ;;
            *) for cc in gcc "${clang[@]}"; do echo "$cc -std=c11 -xc $header"; done ;;
        esac
        case $header in
            */llmc/cpu/*) continue ;;
            *emu/llmc/cuda/*) for cc in g++ "${clang[@]/%/++}"; do echo "$cc -std=c++17 -xc++ $header"; done ;;
            *) for cc in "${both[@]}"; do echo "$cc -std=c++17 -xc++ $header"; done ;;
        esac
    done
}
clang=() both=()
if [ "${1:-}" = long ]; then clang=(clang) both=(g++ clang++); fi
command -v clang++ >/dev/null || [ "${1:-}" != long ] || { clang=() both=(g++) && skip 'promises_test.sh, headers compiled by clang' 'no clang++ (Debian: clang)'; }
copy() { # the sources without fixtures
    rm -rf "$work/tree"
    mkdir -p "$work/tree/dev"
    cp -r llmc scripts Makefile ./*.c ./*.cu "$work/tree"
    cp dev/adding.md "$work/tree/dev"
    mkdir -p "$work/tree/dev/test/fixtures/models" # dev/adding.md names it
    for room in bench emu fuzz test; do mkdir -p "$work/tree/dev/$room" && cp dev/$room/*.* "$work/tree/dev/$room"; done
}
copy
headers "$work/tree" >"$work/list"
xargs -P "$(nproc)" -L 1 bash -c 'alone "$@"' alone <"$work/list" >"$work/found"
sed "s|^|FAILED |; s|$work/tree/||g" "$work/found"
wrong=$(cut -d: -f1-2 "$work/found" | sort -u | wc -l)
passed=$((passed + $(wc -l <"$work/list") - wrong)) failed=$((failed + wrong))

# ------------------------------------------------------------------ sources, Makefile

for what in engine steps kernels rooms columns functions enumerators names; do
    perl dev/test/promises.pl $what >"$work/out"
    code=$?
    check "promises.pl $what: $(head -n 20 "$work/out")" test $code -eq 0
    grep '^note:' "$work/out"
done

# A check whose message runs a command looks at that command's exit code.
# shellcheck disable=SC2016  # as it stands in the files
check "tests whose \$? is of their message" test -z "$(grep -nE '\$\(.*test \$\?' dev/test/*.sh | grep -v 'grep -nE')"

again() { make -n BUILD="$BUILD" "$@" 2>&1 | grep -oE -- '-c [^ ]+'; } # what would be compiled
lacks() { ! grep -q -- "$@"; }
check "the Makefile has 200 lines or more" test "$(wc -l <Makefile)" -lt 200
again emu build-tests >"$work/out"
check "make emu build-tests compiles again what is built: $(head -n 3 "$work/out")" test ! -s "$work/out"
again -W dev/test/kernels_test.h emu >"$work/out"
check "a CPU test rebuilds an emulated program: $(head -n 3 "$work/out")" test ! -s "$work/out"
again -W llmc/cuda/norm.h emu build-tests >"$work/out"
check "llmc/cuda/norm.h does not rebuild train_gpt_emu" grep -q emu/train_gpt.cu "$work/out"
check "llmc/cuda/norm.h rebuilds a CPU program" lacks '_cpu.c\|test_gpt.c' "$work/out"
again -W llmc/cpu/norm.h emu build-tests >"$work/out"
check "llmc/cpu/norm.h does not rebuild train_gpt_cpu" grep -q train_gpt_cpu.c "$work/out"
check "llmc/cpu/norm.h rebuilds an emulated program" lacks emu/ "$work/out"
make -s help >"$work/out"
while read -r target; do
    case $target in all | help | FORCE) continue ;; esac
    check "make help does not list $target" grep -Eq "make $target([ ;:]|$)" "$work/out"
done < <(sed -n 's/^\.PHONY: \(.*help.*\)/\1/p' Makefile | tr ' ' '\n')

# ------------------------------------------------------------------ planted faults

# mutants_list.sh: what a mutant changes stands in its file, exactly once. FROM is looked for as it is, over lines.
mutant() {
    local times
    times=$(FROM=$3 perl -0777 -ne 'my @found = /\Q$ENV{FROM}\E/g; print scalar @found' "$2")
    check "mutant '$1': its text stands ${times:-0} times in $2" test "${times:-0}" = 1
}
# shellcheck source=dev/test/mutants_list.sh
. dev/test/mutants_list.sh

# plant CHECK TEXT FILE SCRIPT: after sed SCRIPT on FILE, promises.pl CHECK must print TEXT and fail
plant() {
    cp "$work/tree/$3" "$work/kept"
    sed -i "$4" "$work/tree/$3"
    check "planted in $3, $1: the plant changes nothing" lacks_same "$work/kept" "$work/tree/$3"
    (cd "$work/tree" && perl "$OLDPWD/dev/test/promises.pl" "$1") >"$work/out"
    check "planted in $3, $1: not found" test $? -eq 1
    check "planted in $3, $1: found is $(head -n 2 "$work/out")" grep -q -- "$2" "$work/out"
    cp "$work/kept" "$work/tree/$3"
}
lacks_same() { ! cmp -s "$1" "$2"; }
plant engine "model_loss is not defined" train_gpt.cu 's/^static double model_loss(/static double model_lost(/'
plant engine "where train_gpt_cpu.c has" train_gpt.cu 's/\bmodel_zero_gradients\b/X/g; s/\bmodel_loss\b/model_zero_gradients/g; s/\bX\b/model_loss/g'
plant steps "block_forward: steps" train_gpt.cu '0,/^    \/\/ 3\. /s//    \/\/ 4. /'
plant kernels "^norm_backward: " llmc/cpu/norm.h '/void norm_backward/,/{/s/\bdx\b/gradient/'
plant rooms "from a room above" llmc/base/json.h 's|^#include "file.h"|&\n#include "../text/text.h"|'
plant rooms "which is not there" llmc/base/json.h 's|^#include "file.h"|#include "fil.h"|'
plant columns "json.h:1: 1[0-9]* columns" llmc/base/json.h "1s/.*/\/* $(printf 'x%.0s' {1..120})/"
plant functions "long_one has 1[0-9]* lines" llmc/base/json.h "\$a static inline void long_one(void) {$(printf '\\n;%.0s' {1..100})\\n}"
plant names "nothing is called param_tables" dev/adding.md 's/`param_table_state`/`param_tables`/'
plant names "llmc/files/nowhere.h is not there" dev/adding.md 's|`llmc/files/naming.h`|`llmc/files/nowhere.h`|'
plant enumerators "no common prefix: RED BLUE" llmc/base/json.h '$a typedef enum { RED, BLUE } Colour;'

# warn COMPILERS TEXT HEADER SCRIPT: so with a header that is compiled alone; COMPILERS: how many must see it
warn() {
    cp "$work/tree/$3" "$work/kept"
    sed -i "$4" "$work/tree/$3"
    headers "$work/tree" | grep -- "/$3\$" >"$work/list"
        xargs -P "$(nproc)" -L 1 bash -c 'alone "$@"' alone <"$work/list" | grep -- "$2" | cut -d: -f1 | sort -u >"$work/found"
    check "planted in $3: $(wc -l <"$work/found") of $1 compilers say '$2'" test "$(wc -l <"$work/found")" -eq "$1"
    cp "$work/kept" "$work/tree/$3"
}
n=$((1 + ${#clang[@]}))
warn $((n + ${#both[@]})) "error" llmc/base/json.h '/^#include "file.h"/d'
warn $((n + ${#both[@]})) "error" llmc/base/json.h '/^#ifndef LLMC_/d; /^#define LLMC_/d; $d'
[ $n -eq 1 ] || warn 2 "Wunused-function" llmc/base/json.h 's/^#endif$/static int forgotten(void) { return 1; }\n&/'
[ ${#both[@]} -eq 0 ] || warn ${#both[@]} "compound.literal" llmc/base/json.h '$s/^#endif$/static inline int *literal(void) { return (int[]){1}; }\n&/'
warn "$n" "error" llmc/cuda/norm.h '/^#include "cuda.h"/d'

conclude
