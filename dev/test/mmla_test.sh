#!/usr/bin/env bash
# The loops of matrix products on Arm CPUs (BFMMLA), counted in the machine code, since no such CPU may be at hand: at
# least 80% of a loop's instructions are products, and none goes to the stack. Of a build for Arm with bf16 its program is
# looked at; else a cross compiler translates the micro-kernel alone, with the Makefile's flags.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make test}"
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cross=aarch64-linux-gnu- code=$BUILD/train_gpt_cpu
if [ "$(uname -m)" = aarch64 ]; then cross=; fi

# loops FILE LEAST: every loop without a branch in it that has 24 products or more, one for each vector of sums. Prints
# its place, products and instructions; fails unless there are LEAST loops and all are as they must be.
loops() {
    "${cross}objdump" -d --no-show-raw-insn "$1" | awk -v least="$2" -F'\t' '
        $1 ~ /^ +[0-9a-f]+:$/ {
            split($2, word, " ")
            gsub(/[ :]/, "", $1)
            at[$1] = ++n
            product[n] = product[n - 1] + (word[1] == "bfmmla")
            stack[n] = stack[n - 1] + (index($0, "[sp") > 0)
            branch = word[1] ~ /^(b|bl|br|blr|ret|b\..*|cbz|cbnz|tbz|tbnz)$/
            target = $0
            sub(/ <.*/, "", target)
            sub(/.*[ \t,]/, "", target)
            if (branch && (target in at) && at[target] > last && product[n] - product[at[target] - 1] >= 24) {
                start = at[target] - 1
                all = n - start
                products = product[n] - product[start]
                printf "loop at %s: %d products, %d instructions, %d of them to the stack\n", target, products, all, stack[n] - stack[start]
                found++
                if (products < 0.8 * all || stack[n] > stack[start]) wrong++
            }
            if (branch) last = n
        }
        END { exit !(found >= least && !wrong) }' 2>&1
}

if ! command -v "${cross}objdump" >/dev/null; then
    skip "$0" "no ${cross}objdump; .ci/run installs it"
elif [[ $BUILD == *aarch64*bf16* || -z $cross ]]; then
    if [ -n "$cross" ] || grep -qw bf16 /proc/cpuinfo; then
        # Either side of a product may be the one that is kept: a loop for each.
        check "the loops of $code: $(loops "$code" 2 | tr '\n' ';')" loops "$code" 2
    else skip "$0" 'this CPU has no BFMMLA'; fi
elif ! command -v "${cross}gcc" >/dev/null; then
    skip "$0" "no ${cross}gcc; .ci/run installs it"
else
    printf '%s\n' '#include "llmc/cpu/gemm.h"' 'void product(Target to, const real *a, const real *b, int units, int rows, int columns);' \
        'void product(Target to, const real *a, const real *b, int units, int rows, int columns) { tile_of_mmla(to, a, b, units, rows, columns); }' >"$work/product.c"
    read -ra command < <(make -n SANITIZE=0 CC="${cross}gcc" ARCH=armv8.2-a+bf16 MPI=0 -W train_gpt_cpu.c "build/aarch64-linux-gnu-gcc-armv8.2-a+bf16-omp1-mpi0-san0/train_gpt_cpu.o" | grep -e ' -c train_gpt_cpu.c')
    flags=()
    for word in "${command[@]}"; do
        if [ "$word" = -MMD ]; then break; fi
        flags+=("$word")
    done
    check 'the micro-kernel cannot be compiled' "${flags[@]}" -I. -c "$work/product.c" -o "$work/product.o"
    check "its loop: $(loops "$work/product.o" 1 | tr '\n' ';')" loops "$work/product.o" 1
fi
conclude
