#!/usr/bin/env bash
# wikipedia_de.sh: German Wikipedia, as plain text, from the search index's dump (CirrusSearch)
#
#   scripts/corpus/wikipedia_de.sh [--date=YYYYMMDD] [--limit=N] [--out=FOLDER] ...
#
#   --date=YYYYMMDD which dump (default: the newest that is complete, or the one that FOLDER began with)
#
# Two JSON lines a page, packed by bzip2: "text" (without newlines, with references), "title", "timestamp" and others.
#
# Addresses: dumps.wikimedia.org/other/cirrus_search_index/DATE/index_name=dewiki_content/ has dewiki_content-DATE-00000.json.bz2
# and on, and the file _SUCCESS where the dump is complete; a dump a week, kept about four weeks. So found by others who read
# the server's lists in July and August 2026. The older folder other/cirrussearch ended in December 2025. Neither list has
# checksums: bzip2's own, inside the files, are looked at. Not tried against the server itself: there was no network.
set -euo pipefail
# shellcheck source=scripts/corpus/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
from=https://dumps.wikimedia.org/other/cirrus_search_index
title='German Wikipedia, articles (CirrusSearch dump)' licence='CC-BY-SA-4.0 (and GFDL); name the authors by the page'"'"'s address'
about=https://dumps.wikimedia.org/legal.html tools=bzip2
date='' words=()
for word in "$@"; do
    case $word in
        --date=?*) date=${word#*=} ;;
        *) words+=("$word") ;;
    esac
done
[[ -z $date || $date =~ ^20[0-9]{6}$ ]] || fail "--date=$date: expected a date like 20261115"
options "${words[@]}"

# links FILE: where the links of a list in HTML lead, without a folder before them
links() { grep -oE 'href="[^"]*"' "$1" | sed 's/^href="//; s/"$//; s/%3[Dd]/=/g; s|/$||; s|.*/||' || true; }
pages() { # pages DATE: its list of files, if it has one with _SUCCESS
    call "$from/$1/index_name=dewiki_content/" -s -o "$work/pages" && links "$work/pages" | grep -qx _SUCCESS
}
if [ -z "$date" ] && [ "$edition" != - ]; then date=$edition; fi
if [ -z "$date" ]; then
    get "$from/" "$work/dates"
    while read -r day; do
        if pages "$day"; then date=$day && break; fi
    done < <(links "$work/dates" | grep -E '^20[0-9]{6}$' | sort -ru)
    [ -n "$date" ] || fail "$from/ lists no complete dump of dewiki_content; see $about"
else
    pages "$date" || fail "the dump of $date is not there, or not complete ($(said)); only a few weeks are kept: take a new one, with another --out=FOLDER"
fi
edition_is "$date"
links "$work/pages" | { grep -E "^dewiki_content-$date-[0-9]+\.json\.bz2$" || true; } | LC_ALL=C sort -u |
    awk -v OFS='\t' -v at="$from/$date/index_name=dewiki_content" '{ print $0, "-", "-", at "/" $0 }' >"$work/rows"
listing <"$work/rows"
fetch_all --keep=title
