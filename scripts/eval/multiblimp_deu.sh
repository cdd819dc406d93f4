#!/usr/bin/env bash
# multiblimp_deu.sh: MultiBLiMP in German: minimal pairs of agreement, by phenomenon
#
#   scripts/eval/multiblimp_deu.sh [--out=FOLDER]     -> FOLDER/multiblimp_deu.jsonl
#
# Set: jumelet/multiblimp (Jumelet et al. 2025), split train, which is all of it. As lm-evaluation-harness's multiblimp_deu.
set -euo pipefail
# shellcheck source=scripts/eval/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
options "$@"
no_examples 'the set has no split but the one that is asked'

fetch jumelet/multiblimp deu train
task multiblimp_deu '
    with(["sen", "wrong_sen"]) | {good: .sen, bad: .wrong_sen} + if .phenomenon then {group: .phenomenon} else {} end'
