#!/usr/bin/env bash
# german_commons.sh: German Commons: 41 sources of text under free licences, from law and newspapers to Wikipedia
#
#   scripts/corpus/german_commons.sh [--limit=N] [--match=PATTERN] [--out=FOLDER] ...
#
# Published: 35.78 M documents, 154.56 G tokens (Gienapp et al. 2025, arXiv 2510.13996). Much of it is old newspapers and
# books read by machine. --match='*wikipedia*' takes what has the word in its path: a source is a file or more, and paths name
# it. Parquet, which our program reads through the program duckdb; text in "text".
#
# Files: coral-nlp/german-commons, all parquet files, with SHA-256 (common.sh says how). HF_ENDPOINT and HF_TOKEN as for
# fineweb2_de.sh. Not tried against the server itself: there was no network.
set -euo pipefail
# shellcheck source=scripts/corpus/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
from=${HF_ENDPOINT:-https://huggingface.co} token=${HF_TOKEN:-}
title='German Commons' licence='by source, all as free as CC-BY-SA-4.0 or freer; the collection ODC-By-1.0'
about=https://huggingface.co/datasets/coral-nlp/german-commons
options "$@"
huggingface coral-nlp/german-commons ''
