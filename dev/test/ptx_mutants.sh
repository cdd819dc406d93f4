#!/usr/bin/env bash
# ptx_mutants.sh: plants one fault at a time in llmc/cuda/ptx.h and in the kernels, and asks what sees it: the kernels' tests
# on PTX, with all that the machine refuses, and the same tests from source. Prints the table that dev/emu/README.md holds.
#
#   dev/test/ptx_mutants.sh [WORD...]    those whose names hold one of the words; without words all (make ptx-mutants)
#
# Every fault must be seen on PTX. Those in the half of ptx.h that sources never compile cannot be seen from source. Needs
# nvcc. SOURCE=0 leaves the last column out, for which the emulated tests are built once a fault.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?is set by make ptx-mutants}" "${SOURCE:=1}"
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { echo 'SKIPPED ptx_mutants.sh: no nvcc' && echo '0 passed, 0 failed, 1 skipped' && exit; }
# TEST of a mutant: attention or kernels.
# shellcheck source=dev/test/planting.sh
. dev/test/planting.sh
p=llmc/cuda/ptx.h a=llmc/cuda/attention.h
mutant "ldmatrix_transposed does not transpose" $p 'x4.trans.shared' 'x4.shared' attention
mutant "ldmatrix transposes" $p 'm8n8.x4.shared' 'm8n8.x4.trans.shared' attention
mutant "ldmatrix gives matrices 1 and 2 in each other's place" $p 'x4.shared.b16 {%0, %1, %2, %3}' 'x4.shared.b16 {%0, %2, %1, %3}' attention
mutant "a pair's halves are swapped" $p '"f"(high), "f"(low)' '"f"(low), "f"(high)' attention
mutant "mma: a1 and a2 swapped" $p '"r"(a[1]), "r"(a[2])' '"r"(a[2]), "r"(a[1])' attention
mutant "mma: b0 and b1 swapped" $p '"r"(b0), "r"(b1))' '"r"(b1), "r"(b0))' attention
mutant "mma: d1 and d2 swapped" $p '"+f"(d[1]), "+f"(d[2])' '"+f"(d[2]), "+f"(d[1])' attention
mutant "waits for all groups but one" $p '"n"(left)' '"n"(left + 1)' attention
mutant "copies are never committed" $p 'asm volatile("cp.async.commit_group;" ::: "memory");' '' attention
mutant "16 bytes: no zeros where there is nothing" $p 'inside ? 16 : 0;' '16;' attention
mutant "4 bytes: nothing is copied" $p 'inside ? 4 : 0;' 'inside ? 0 : 0;' attention
mutant "8 of 16 bytes are copied" $p 'inside ? 16 : 0;' 'inside ? 8 : 0;' attention
mutant "exp2_fast negates" $p 'ex2.approx.ftz.f32 %0, %1;' 'neg.f32 %0, %1;' attention
mutant "K is loaded before all have read it" $a '        cp_async_wait<0>();
        __syncthreads(); // V is there, K has been read by all
        if (tile + 1 < tiles) tile_load<KEYS, HS, THREADS>(k_smem, in.k.from(0, kh * HS), end - Tkv + key + KEYS, end);' \
    '        cp_async_wait<0>();
        if (tile + 1 < tiles) tile_load<KEYS, HS, THREADS>(k_smem, in.k.from(0, kh * HS), end - Tkv + key + KEYS, end);
        __syncthreads();' attention
mutant "V is overwritten while it is read" $a '        __syncthreads(); // K is there, V has been read by all' '' attention
mutant "dQ: the next stage is not waited for" $a '            tile_multiply<HS, M, N>(dq_rmem, ds_rmem, k_smem + step * HS * 2);
        }
        cp_async_wait<0>();' '            tile_multiply<HS, M, N>(dq_rmem, ds_rmem, k_smem + step * HS * 2);
        }' attention
mutant "a warp reads its tile before its lanes have written it" $a '    __syncwarp();
    constexpr int PIECES' '    constexpr int PIECES' attention
mutant "delta: a barrier less" $a '    __syncthreads(); // delta is written, the own tiles have been read' '' attention
mutant "rows past the end are read" $a '(int64_t)min(r, end - 1) * x.ld, r < end)' '(int64_t)r * x.ld, true)' attention
mutant "rows past the end are written" $a 'if (row < rows)
            *(uint4 *)' 'if (row < M * 16)
            *(uint4 *)' attention
mutant "the maximum of a row misses two lanes" $a 'x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));' 'x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1 + 3));' attention
mutant "the vote leaves half of the warp out" $a '__any_sync(0xffffffffu, grows)' '__any_sync(0x0000ffffu, grows)' attention
mutant "sums start with what was there" llmc/cuda/gemm.h 'for (int i = 0; i < P; i++) sum[i] = 0;' '' kernels
mutant "norm: a barrier less" llmc/cuda/norm.h 'sums[turn][warp] = make_float2(s1, s2);
        __syncthreads();' 'sums[turn][warp] = make_float2(s1, s2);' kernels
mutant "columns are added before all are there" llmc/cuda/cuda.h '    part[y][threadIdx.x] = sum;
    __syncthreads();' '    part[y][threadIdx.x] = sum;' kernels
mutant "some threads leave before the barrier" llmc/cuda/cuda.h '    part[y][threadIdx.x] = sum;
    __syncthreads();
    if (y || !wanted) return;' '    part[y][threadIdx.x] = sum;
    if (threadIdx.x % 2 && !wanted) return;
    __syncthreads();
    if (y || !wanted) return;' kernels
mutant "one column too many" llmc/cuda/cuda.h 'out2 && column < width;' 'out2 && column <= width;' kernels
mutant "packs where rows are not aligned" llmc/cuda/cuda.h 'return C % (int)PackOf<Real>::SIZE == 0;' 'return C % 2 == 0;' kernels
mutant "fewer threads than are launched" llmc/cuda/loss.h '__launch_bounds__(LOSS_MAX_THREADS, 2)' '__launch_bounds__(LOSS_MAX_THREADS / 4, 2)' kernels

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy_tree() { # copy_tree FOLDER: what git tracks, and what was built of it, so that only what a fault changes is built anew
    mkdir -p "$1" && { git ls-files -z && find "$BUILD" -type f \( -path '*/emu/*' -o -name '*.d' -o -name '*.o' \) -print0; } | tar --null -T - -cf - | tar -C "$1" -xf -
}

# said COMMAND...: what it says first of a fault; nothing: it passes
said() {
    local code
    timeout 300 "$@" >"$work/$at.said" 2>&1 && return
    code=$?
    grep -m 1 -oE 'error: emulator: (PTX: )?[^:]*: ?[^:(]*|FAILED .*|error: .*' "$work/$at.said" | sed -E 's/error: emulator: (PTX: )?//; s/^FAILED.*/wrong numbers/' | head -c 90 | grep . || echo "exit code $code"
}
# judge FOLDER TEST: said of the tests in a folder with a built program; CUDA_EMU_PTX decides what runs
judge() {
    local folder=$1 copies out
    if [ "$2" = kernels ]; then said "$folder/$BUILD/cuda_test_emu"; return; fi
    for copies in late early; do
        for shape in 3 13; do
            out=$(CUDA_EMU_COPIES=$copies said "$folder/$BUILD/cuda_attention_test_emu" $shape)
            [ -z "$out" ] || { echo "$out" && return; }
        done
    done
}
program_of() { [ "$1" = kernels ] && echo cuda_test || echo cuda_attention_test; }

one() { # one NUMBER
    local at=$1 folder=$work/$1 program ptx source=
    program=$(program_of "${tests[$at]}")
    copy_tree "$folder"
    if ! plant "$at" "$folder"; then
        ptx=STALE
    elif ! "$nvcc" -ptx -O3 -lineinfo -std=c++17 -arch=sm_80 "$folder/dev/test/$program.cu" -o "$work/$at.ptx" >"$work/$at.nvcc" 2>&1; then
        ptx="DOES NOT COMPILE"
    else
        # The host's half is unharmed: what the fault changes there, a launch would not see.
        ptx=$(CUDA_EMU_PTX=$work/$at.ptx judge . "${tests[$at]}")
        if [ "${files[$at]}" = $p ]; then source='cannot see it'
        elif [ "$SOURCE" = 0 ]; then source='not asked'
        elif ! (cd "$folder" && make -s BUILD="$BUILD" "$BUILD/${program}_emu") >"$work/$at.make" 2>&1; then source='does not build'
        else source=$(judge "$folder" "${tests[$at]}"); fi
    fi
    printf '| %s | %s | %s | %s |\n' "${names[$at]}" "$(basename "${files[$at]}")" "${ptx:-NOT SEEN}" "${source:-not seen}" >"$work/$at.row"
    cat "$work/$at.row"
    rm -rf "$folder"
}

choose "$@"
make -s BUILD="$BUILD" "$BUILD/cuda_test_emu" "$BUILD/cuda_attention_test_emu" >"$work/make" 2>&1 ||
    { tail -n 5 "$work/make" && echo '0 passed, 1 failed' && exit 1; }
failed=0
for test in attention kernels; do # unharmed, both must pass, or everything would seem to be caught
    at=$test
    program=$(program_of $test)
    "$nvcc" -ptx -O3 -lineinfo -std=c++17 -arch=sm_80 dev/test/"$program".cu -o "$work/$test.ptx"
    for ptx in "$work/$test.ptx" ''; do
        out=$(CUDA_EMU_PTX=$ptx judge . $test)
        [ -z "$out" ] || { failed=$((failed + 1)) && echo "FAILED without a fault: $test $ptx: $out"; }
    done
done
printf '| fault | file | on PTX | from source |\n|---|---|---|---|\n'
each_chosen one
passed=0 seen=0
for i in "${chosen[@]}"; do
    if grep -Eq '\| (NOT SEEN|STALE|DOES NOT COMPILE) \|' "$work/$i.row"; then failed=$((failed + 1)); else passed=$((passed + 1)); fi
    grep -Eq '\| (not seen|cannot see it|not asked|does not build) \|$' "$work/$i.row" || seen=$((seen + 1))
done
printf '%d of %d faults seen on PTX, %d of them from source\n%d passed, %d failed\n' "$passed" "${#chosen[@]}" "$seen" "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
