#!/usr/bin/env bash
# hplt_de.sh: HPLT 3.0, German: web text from Common Crawl and the Internet Archive, sorted by estimated quality
#
#   scripts/corpus/hplt_de.sh [--limit=N] [--match=PATTERN] [--out=FOLDER] ...
#
# JSON lines packed by zstd: text in "text", and "id", "u" (address), "ts", "doc_scores", "filter" and others. The files are
# named QUALITY_NUMBER.jsonl.zst, quality 10 (best) to 5, and come best first: --match='10_*' is the best alone.
#
# Addresses and checksums as the publishers describe them (huggingface.co/datasets/HPLT/HPLT3.0, the card, of which a stored copy
# was read): three/sorted/deu_Latn.map has an address a line, three/sorted/deu_Latn.md5 what md5sum prints of them. They put
# the packaging under CC0, and own none of the text. Not tried against the server itself: there was no network.
set -euo pipefail
# shellcheck source=scripts/corpus/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
from=https://data.hplt-project.org/three/sorted
title='HPLT 3.0, German (deu_Latn)' licence='CC0-1.0 for the packaging; the texts stay their owners'"'"
about=https://hplt-project.org/datasets/v3.0 tools=zstd
options "$@"

edition_is 3.0
get "$from/deu_Latn.map" "$work/map"
get "$from/deu_Latn.md5" "$work/md5"
# Only the last two parts of an address count: the files lie beside the map, on a mirror as well.
awk -v from="$from" -v OFS='\t' '
    { sub(/\r$/, "") }
    FNR == NR { file = $2; sub(/^.*\//, "", file); sub(/^\*/, "", file); md5[file] = tolower($1); next }
    NF { file = $0; sub(/^.*\//, "", file); split(file, part, /[_.]/)
         print -part[1], part[2], file, "-", file in md5 ? "md5:" md5[file] : "-", from "/deu_Latn/" file }
' "$work/md5" "$work/map" | LC_ALL=C sort -t $'\t' -k 1,1n -k 2,2n -k 3,3 | cut -f 3- >"$work/rows"
if grep -Evq $'^[0-9]+_[0-9]+\\.jsonl\\.zst\t' "$work/rows"; then
    fail "$from/deu_Latn.map: expected addresses of files like 10_1.jsonl.zst, found '$(grep -Ev $'^[0-9]+_[0-9]+\\.jsonl\\.zst\t' "$work/rows" | head -n 1 | cut -f 1)'"
fi
listing <"$work/rows"
fetch_all --keep=id,u
