#!/usr/bin/env bash
# leipzig_de.sh: German sentences of Wortschatz Leipzig (Leipzig Corpora Collection), from news, web and Wikipedia
#
#   scripts/corpus/leipzig_de.sh [--sets=NAME,...] [--limit=N] [--out=FOLDER] ...
#
#   --sets=NAME,... which sets (default: deu_news_2024_1M deu_news_2023_1M deu_wikipedia_2021_1M deu-de_web_2021_1M
#                   deu-at_web_2019_1M); their names: wortschatz.uni-leipzig.de/de/download/German
#
# A set has 10 thousand to a million sentences in no order, after which no text can be put together again: good for
# tokenizers and for testing, too short for training on its own. A tar.gz with NAME-sentences.txt, a number and a sentence a
# line, and tables of words, which our program leaves out.
#
# Addresses: downloads.wortschatz-leipzig.de/corpora/NAME.tar.gz, the names as users of these files have them. No checksums
# are published: gzip's own, inside the files, are looked at. Not tried against the server itself: there was no network.
set -euo pipefail
# shellcheck source=scripts/corpus/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
from=https://downloads.wortschatz-leipzig.de/corpora
title='Wortschatz Leipzig, German sentences' licence='CC-BY; name the Leipzig Corpora Collection (Goldhahn et al. 2012)'
about=https://wortschatz.uni-leipzig.de/en/download tools=gzip
sets=deu_news_2024_1M,deu_news_2023_1M,deu_wikipedia_2021_1M,deu-de_web_2021_1M,deu-at_web_2019_1M words=()
for word in "$@"; do
    case $word in
        --sets=?*) sets=${word#*=} ;;
        *) words+=("$word") ;;
    esac
done
[[ $sets =~ ^[A-Za-z0-9_-]+(,[A-Za-z0-9_-]+)*$ ]] || fail "--sets=$sets: expected names like deu_news_2024_1M, with commas between them"
options "${words[@]}"
tr ',' '\n' <<<"$sets" | awk -v OFS='\t' -v from="$from" '!seen[$0]++ { print $0 ".tar.gz", "-", "-", from "/" $0 ".tar.gz" }' >"$work/rows"
listing <"$work/rows"
fetch_all
