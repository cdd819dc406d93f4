#!/usr/bin/env bash
# fineweb2_de.sh: FineWeb-2, German: Common Crawl 2013 to 2024, filtered and deduplicated
#
#   scripts/corpus/fineweb2_de.sh [--limit=N] [--match=PATTERN] [--out=FOLDER] ...
#
# Published: 495,964,485 documents, 262.3 G words, 1,655 GB of text in 719 GB of files of nearly 5 GB each (the data set's
# table of languages, github.com/huggingface/fineweb-2): --limit=1 is a first try. Parquet, which our program reads through
# the program duckdb; text in "text", and "id", "url", "date", "minhash_cluster_size" and others.
#
# Files: HuggingFaceFW/fineweb-2, data/deu_Latn/train/000_00000.parquet and on; with SHA-256 (common.sh says how).
# HF_ENDPOINT: another server, as for Hugging Face's own tools; HF_TOKEN: its key to your account, where one is asked for.
# Not tried against the server itself: there was no network.
set -euo pipefail
# shellcheck source=scripts/corpus/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
from=${HF_ENDPOINT:-https://huggingface.co} token=${HF_TOKEN:-}
title='FineWeb-2, German (deu_Latn)' licence='ODC-By-1.0; Common Crawl'"'"'s terms of use'
about=https://huggingface.co/datasets/HuggingFaceFW/fineweb-2
options "$@"
huggingface HuggingFaceFW/fineweb-2 data/deu_Latn/train --keep=id,url,date
