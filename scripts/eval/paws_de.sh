#!/usr/bin/env bash
# paws_de.sh: PAWS-X in German: does one sentence say what the other says?
#
#   scripts/eval/paws_de.sh [--out=FOLDER] [--shots=N]     -> FOLDER/paws_de.jsonl, or FOLDER/paws_de_Nshot.jsonl
#
# Set: google-research-datasets/paws-x (Yang et al. 2019), split test. As lm-evaluation-harness's paws_de: both sentences with
# "richtig? Nein," or "richtig? Ja," between them are the choices, without a context.
# Examples of --shots (common.sh): split train.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
examples google-research-datasets/paws-x de train

fetch google-research-datasets/paws-x de test
# shellcheck disable=SC2016  # a program of jq
task paws_de '
    with(["label"]) | select((.sentence1 // "") != "" and (.sentence2 // "") != "")
    | (.sentence1 | detokenize | strip | if test("[.,;]\\z") then .[:-1] else . end) as $one
    | (.sentence2 | detokenize | strip | (.[:1] | lower) + .[1:]) as $two
    | {context: "", delimiter: "", choices: [$one + ", richtig? Nein, " + $two, $one + ", richtig? Ja, " + $two], answer: .label}'
