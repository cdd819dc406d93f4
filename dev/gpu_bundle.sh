#!/usr/bin/env bash
# Puts together what dev/gpu_report.sh needs on a machine where nothing can be built or installed: make gpu-bundle.
#
#     BUILD=FOLDER dev/gpu_bundle.sh TO
#
# TO/programs holds the programs of BUILD without their symbols, TO/commit says what they were made of, and the sources
# stand beside, for the tests and for a build where the programs do not start. At most 40 MB: on a borrowed machine
# the copy takes time as well.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${BUILD:?the folder of the programs, as make gpu-bundle sets it}"
to=${1:?where to}
rm -rf "$to"
mkdir -p "$to/programs"
git ls-files -z | while IFS= read -r -d '' file; do
    case $file in dev/results/* | dev/fuzz/corpus/*) ;; *) if [ -e "$file" ]; then printf '%s\0' "$file"; fi ;; esac
done | xargs -0 cp --parents -t "$to"
for program in train_gpt train_gpt_fp32 cuda_test cuda_attention_test cuda_model_test bench_gpu train_gpt_cpu test_gpt; do
    strip -o "$to/programs/$program" "$BUILD/$program"
done
sed -n 's/.*= "\(.*\)";$/\1/p' "$BUILD/commit.c" >"$to/commit"
size=$(du -sm "$to" | cut -f1)
[ "$size" -le 40 ] || { echo "error: $to has $size MB, at most 40 are expected: fewer architectures in CUDA_ARCH make the programs smaller" >&2; exit 1; }
echo "$to: $size MB, commit $(cat "$to/commit"); on the other machine: $to/dev/gpu_report.sh"
