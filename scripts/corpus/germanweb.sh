#!/usr/bin/env bash
# germanweb.sh: Aleph-Alpha-GermanWeb: web text chosen by models, half of it written by one
#
#   scripts/corpus/germanweb.sh [--limit=N] [--match=PATTERN] [--out=FOLDER] ...
#
# Published: 628 G words, of which 78 from Common Crawl, 235 from FineWeb-2 and 329 synthetic, by Mistral-Nemo-Instruct-2407
# (Burns et al. 2025, arXiv 2505.00022). Say in a data sheet which you took: --list shows the paths, --match chooses. Parquet,
# which our program reads through the program duckdb; text in "text".
#
# Files: Aleph-Alpha/Aleph-Alpha-GermanWeb, all parquet files, with SHA-256 (common.sh says how). HF_ENDPOINT and HF_TOKEN as
# for fineweb2_de.sh. Not tried against the server itself: there was no network.
set -euo pipefail
# shellcheck source=scripts/corpus/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
from=${HF_ENDPOINT:-https://huggingface.co} token=${HF_TOKEN:-}
title='Aleph-Alpha-GermanWeb' licence='Open Aleph License by report; read it on the page before any use'
about=https://huggingface.co/datasets/Aleph-Alpha/Aleph-Alpha-GermanWeb
options "$@"
huggingface Aleph-Alpha/Aleph-Alpha-GermanWeb ''
