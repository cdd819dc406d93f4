#!/usr/bin/env bash
# belebele_deu_Latn.sh: Belebele in German: questions on a text, with four answers
#
#   scripts/eval/belebele_deu_Latn.sh [--out=FOLDER] [--shots=N]     -> FOLDER/belebele_deu_Latn.jsonl, or FOLDER/belebele_deu_Latn_Nshot.jsonl
#
# Set: facebook/belebele (Bandarkar et al. 2023), split test. As lm-evaluation-harness's belebele_deu_Latn: the answers are
# in the prompt, and a letter is to be predicted. Its texts are longer than a model of few positions: eval --truncate.
# Examples of --shots (common.sh): the same split.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
examples facebook/belebele deu_Latn test

fetch facebook/belebele deu_Latn test
task belebele_deu_Latn '
    with(["flores_passage", "question", "mc_answer1", "mc_answer2", "mc_answer3", "mc_answer4", "correct_answer_num"])
    | {context: "P: \(.flores_passage)\nQ: \(.question | strip)\nA: \(.mc_answer1)\nB: \(.mc_answer2)\nC: \(.mc_answer3)\nD: \(.mc_answer4)\nAnswer:",
       choices: ["A", "B", "C", "D"], answer: (.correct_answer_num | tostring | letter(["1", "2", "3", "4"]))}'
