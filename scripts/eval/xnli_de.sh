#!/usr/bin/env bash
# xnli_de.sh: XNLI in German: does a sentence follow from another, contradict it, or neither?
#
#   scripts/eval/xnli_de.sh [--out=FOLDER] [--shots=N]     -> FOLDER/xnli_de.jsonl, or FOLDER/xnli_de_Nshot.jsonl
#
# Set: facebook/xnli (Conneau et al. 2018), split validation. As lm-evaluation-harness's xnli_de: both sentences with
# "richtig? Ja,", "Auch," or "Nein," between them are the choices, without a context.
# Examples of --shots (common.sh): split train.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
examples facebook/xnli de train

fetch facebook/xnli de validation
# shellcheck disable=SC2016  # a program of jq
task xnli_de '
    with(["premise", "hypothesis", "label"])
    | . as $row | {context: "", choices: ["Ja", "Auch", "Nein" | $row.premise + ", richtig? " + . + ", " + $row.hypothesis], answer: .label}'
