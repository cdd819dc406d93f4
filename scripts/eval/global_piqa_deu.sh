#!/usr/bin/env bash
# global_piqa_deu.sh: Global PIQA in German: which of several ways of doing something works
#
#   scripts/eval/global_piqa_deu.sh [--out=FOLDER]     -> FOLDER/global_piqa_parallel_deu.jsonl, global_piqa_nonparallel_deu.jsonl
#
# Sets: mrlbenchmarks/global-piqa-parallel (translated, four solutions) and -nonparallel (written in German, two), split test. As
# lm-evaluation-harness's global_piqa_parallel_cloze_deu_latn and global_piqa_nonparallel_cloze_deu_latn.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
no_examples 'the set has no split but the one that is asked'

fetch mrlbenchmarks/global-piqa-parallel deu_latn test
task global_piqa_parallel_deu '
    with(["prompt", "solution0", "solution1", "solution2", "solution3", "label"])
    | {context: .prompt, choices: [.solution0, .solution1, .solution2, .solution3], answer: (.label | tonumber)}'
fetch mrlbenchmarks/global-piqa-nonparallel deu_latn test
task global_piqa_nonparallel_deu '
    with(["prompt", "solution0", "solution1", "label"])
    | {context: .prompt, choices: [.solution0, .solution1], answer: (.label | tonumber)}'
