#!/usr/bin/env bash
# lambada_openai_mt_de.sh: LAMBADA in German: the last word of a passage
#
#   scripts/eval/lambada_openai_mt_de.sh [--out=FOLDER]     -> FOLDER/lambada_openai_mt_de.jsonl
#
# Set: EleutherAI/lambada_openai (machine translation of Paperno et al. 2016 as OpenAI prepared it), split test. As
# lm-evaluation-harness's lambada_openai_mt_de.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
no_examples 'the set has no split but the one that is asked'

fetch EleutherAI/lambada_openai de test
task lambada_openai_mt_de '
    with(["text"]) | .text | split(" ") | {context: (.[:-1] | join(" ")), continuation: (" " + .[-1])}'
