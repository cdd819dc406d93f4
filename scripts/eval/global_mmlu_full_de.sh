#!/usr/bin/env bash
# global_mmlu_full_de.sh: Global MMLU in German: examinations in 57 subjects, which are its groups
#
#   scripts/eval/global_mmlu_full_de.sh [--out=FOLDER] [--shots=N]     -> FOLDER/global_mmlu_full_de.jsonl, or FOLDER/global_mmlu_full_de_Nshot.jsonl
#
# Set: CohereForAI/Global-MMLU (Singh et al. 2024), split test. As lm-evaluation-harness's global_mmlu_full_de. It says
# nothing of models below about a billion parameters.
# Examples of --shots (common.sh): split dev.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
examples CohereForAI/Global-MMLU de dev

fetch CohereForAI/Global-MMLU de test
task global_mmlu_full_de '
    with(["question", "option_a", "option_b", "option_c", "option_d", "answer", "subject"])
    | {context: "\(.question | strip)\nA. \(.option_a)\nB. \(.option_b)\nC. \(.option_c)\nD. \(.option_d)\nAnswer:",
       choices: ["A", "B", "C", "D"], answer: (.answer | letter(["A", "B", "C", "D"])), group: .subject}'
