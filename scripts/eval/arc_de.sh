#!/usr/bin/env bash
# arc_de.sh: ARC in German: questions of natural science with three to five answers
#
#   scripts/eval/arc_de.sh [--out=FOLDER] [--shots=N]     -> FOLDER/arc_de.jsonl, or FOLDER/arc_de_Nshot.jsonl
#
# Set: alexandrainst/m_arc (Okapi's machine translation of Clark et al. 2018, the hard part), split test. As
# lm-evaluation-harness's arc_de: its prompt is in English.
# Examples of --shots (common.sh): split train.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
examples alexandrainst/m_arc de train

fetch alexandrainst/m_arc de test
task arc_de '
    with(["instruction", "option_a", "answer"])
    | {context: ("Question: " + (.instruction | preprocess) + "\nAnswer:"),
       choices: [.option_a, .option_b, .option_c, .option_d, .option_e | select(. != null and . != "") | preprocess],
       answer: (.answer | letter(["A", "B", "C", "D", "E"]))}'
