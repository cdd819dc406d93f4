#!/usr/bin/env bash
# hellaswag_de.sh: HellaSwag in German: which of four sentences goes on with a description
#
#   scripts/eval/hellaswag_de.sh [--out=FOLDER]     -> FOLDER/hellaswag_de.jsonl
#
# Set: alexandrainst/m_hellaswag (Okapi's machine translation of Zellers et al. 2019), split val. As lm-evaluation-harness's
# hellaswag_de: the second half of the context begins with a capital and is small letters otherwise; marks in brackets go.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
no_examples 'the set has no split but the one that is asked'

fetch alexandrainst/m_hellaswag de val
task hellaswag_de '
    with(["activity_label", "ctx_a", "ctx_b", "endings", "label"])
    | {context: (.activity_label + ": " + .ctx_a + " " + (.ctx_b | capitalize) | preprocess), choices: (.endings | map(preprocess)), answer: (.label | tonumber)}'
