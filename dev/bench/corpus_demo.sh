#!/usr/bin/env bash
# `corpus` on text whose faults are known: 10 GB made from German text by corpus_demo.c, with duplicates, near duplicates,
# other languages and personal data planted in it, a label for each document. What it kept and dropped, precision and recall
# of each kind, time, memory and CPU go to dev/results/DATE-corpus.md.
#
#   BUILD=build/... dev/bench/corpus_demo.sh
#
#   BUILD             folder of the program, as make sets it
#   BYTES=10000000000 size of the text; on disk it takes about as much again in all
#   WORK=FOLDER       where documents, labels and output go (build/corpus_demo); is kept, and documents of the same size are
#                     taken again
#   GERMAN=FILE       German documents between form feeds (default: scripts/corpus/debian_de.sh fetches them into WORK)
#   FOREIGN=FOLDER    pieces of text by language, CLASS.txt (default: dev/bench/languages.sh fetches them into WORK)
#   RESULT=FILE       the report (dev/results/DATE-corpus.md)
#
# Needs jq and zstd. On 2 cores about 10 minutes; documents are made by as many processes as there are cores.
# shellcheck disable=SC2016  # the backquotes of Markdown
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${BUILD:?the folder of train_gpt_cpu, as make sets it}" "${BYTES:=10000000000}" "${WORK:=build/corpus_demo}" "${CC:=cc}"
: "${RESULT:=dev/results/$(date +%F)-corpus.md}"
program=$BUILD/train_gpt_cpu parts=8
[[ $BYTES =~ ^[1-9][0-9]{6,13}$ ]] || { echo "corpus_demo.sh: BYTES=$BYTES: expected a number of bytes, a million or more" >&2; exit 1; }
for tool in jq zstd "$CC"; do command -v "$tool" >/dev/null || { echo "corpus_demo.sh: $tool is not there; install it" >&2; exit 1; }; done
mkdir -p "$WORK" "$(dirname "$RESULT")"
free=$(df -Pk "$WORK" | awk 'NR == 2 {printf "%.0f", $4 * 1024}')
(( free > BYTES + BYTES / 10 )) || { echo "corpus_demo.sh: $WORK has $free bytes left, about $((BYTES + BYTES / 10)) are needed; set WORK, or BYTES to less" >&2; exit 1; }

# ---- what it is made of
if [ -z "${GERMAN:-}" ]; then
    GERMAN=$WORK/debian_de/debian_de.txt
    [ -s "$GERMAN" ] || scripts/corpus/debian_de.sh --out="$WORK/debian_de"
fi
if [ -z "${FOREIGN:-}" ]; then
    FOREIGN=$WORK/languages/held
    [ -s "$FOREIGN/nl.txt" ] || dev/bench/languages.sh "$WORK/languages" "$WORK/languages/table.h"
fi
"$CC" -O2 -std=c11 -D_GNU_SOURCE -Wno-unknown-pragmas dev/bench/corpus_demo.c -o "$WORK/demo" -lm
read -r mean sentences < <("$WORK/demo" size "$GERMAN" "$FOREIGN")
count=$((BYTES / mean / parts)) # documents of a part

# ---- documents and labels
part() { # part NUMBER
    local name=$WORK/in/part_$1
    "$WORK/demo" make "$GERMAN" "$FOREIGN" $(($1 * count)) "$count" "$name.tsv" | zstd -1 -qf -o "$name.jsonl.zst"
    zstd -3 -qf --rm "$name.tsv" -o "$name.labels.zst"
}
export -f part
export WORK GERMAN FOREIGN count
made=$(cat "$WORK/made" 2>/dev/null || true) wanted="$count $(cksum "$WORK/demo" "$GERMAN" | awk '{printf "%s ", $1}')"
start=$SECONDS
if [ "$made" != "$wanted" ]; then
    rm -rf "$WORK/in" "$WORK/made" && mkdir "$WORK/in"
    seq 0 $((parts - 1)) | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'part {}'
    echo "$wanted" >"$WORK/made"
fi
making=$((SECONDS - start))

# ---- corpus, watched: seconds, CPU seconds of it and of the packers, and its largest resident memory
TIMEFORMAT='%R %U %S'
watched() { # watched NAME OPTION...: $WORK/NAME.said, .peak (kB), .time
    local name=$1 pid
    shift
    rm -rf "${WORK:?}/$name"
    { time {
        "$program" corpus "$@" --out="$WORK/$name" >"$WORK/$name.said" 2>&1 &
        pid=$!
        while kill -0 $pid 2>/dev/null; do
            awk '/^VmHWM/ {print $2}' "/proc/$pid/status" 2>/dev/null || true
            sleep 0.3
        done | awk '$1 > most {most = $1} END {print most + 0}' >"$WORK/$name.peak"
        wait $pid || { tail -n 2 "$WORK/$name.said" >&2 && exit 1; }
    }; } 2>"$WORK/$name.time"
}
inputs=$(printf "$WORK/in/part_%d.jsonl.zst," $(seq 0 $((parts - 1))))
watched clean --input="${inputs%,}" --keep=id
watched german --input="$GERMAN" --doc_split=formfeed
steps=$(jq -r '[.dropped.not_german, .dropped.document_twice, .dropped.near_duplicate] | map(.documents // 0) | join(",")' "$WORK/clean/manifest.json")
start=$SECONDS
for ((i = 0; i < parts; i++)); do zstd -dcq "$WORK/in/part_$i.labels.zst"; done >"$WORK/labels.tsv"
zstd -dcq "$WORK/clean/corpus.jsonl.zst" | "$WORK/demo" judge "$WORK/labels.tsv" "$steps" >"$WORK/judged.md"
rm "$WORK/labels.tsv"
judging=$((SECONDS - start))

# ---- the report
run() { # run NAME: a run's figures as rows
    local seconds user system peak bytes
    read -r seconds user system <"$WORK/$1.time"
    peak=$(cat "$WORK/$1.peak") bytes=$(jq .bytes "$WORK/$1/manifest.json")
    jq -r '"| documents | \(.documents) read, \(.kept) kept |\n| text | \(.bytes / 1e6 | round) MB read, \(.kept_bytes / 1e6 | round) MB kept |"' "$WORK/$1/manifest.json"
    awk -v s="$seconds" -v u="$user" -v k="$system" -v p="$peak" -v b="$bytes" -v n="$(nproc)" 'BEGIN {
        printf "| time | %.1f s: %.1f MB/s |\n", s, b / 1e6 / s
        printf "| CPU, with the packers | %.1f s: %.1f MB/s a core; %.2f of %d cores were at work |\n", u + k, b / 1e6 / (u + k), (u + k) / s, n
        printf "| memory of the program, at most | %.0f MB |\n", p / 1024 }'
}
dropped() { # dropped NAME: by step
    printf '\n| why | documents dropped | MB |\n|---|---|---|\n'
    jq -r '.dropped | to_entries[] | "| \(.key) | \(.value.documents) | \(.value.bytes / 1e4 | round / 100) |"' "$WORK/$1/manifest.json"
    jq -r '"\nParagraphs taken out of documents that stay: \(.paragraphs_taken_out), \(.paragraph_bytes / 1e4 | round / 100) MB."' "$WORK/$1/manifest.json"
}
{
    printf '# corpus on %.1f GB whose faults are known\n\n' "$(awk -v b="$BYTES" 'BEGIN {print b / 1e9}')"
    printf '%s; %s; %s threads of %s; %s.\n' "$(date +%F)" "$(jq -r .program "$WORK/clean/manifest.json")" "$(nproc)" \
        "$(awk -F': ' '/^model name/ {print $2; exit}' /proc/cpuinfo)" "$(uname -sr)"
    printf 'By `BYTES=%s dev/bench/corpus_demo.sh`, which says what it is made of: %d sentences of German documentation in Debian,\n' "$BYTES" "$sentences"
    printf 'drawn anew for each document, and what is planted. %d documents of %d bytes on average, in %d files, zstd.\n' $((parts * count)) "$mean" $parts
    if [ "$made" = "$wanted" ]; then printf 'They were there from a run before'; else printf 'They were made in %d s' $making; fi
    printf ', and judged in %d s.\n\n| | all steps |\n|---|---|\n' $judging
    run clean
    printf '\n## What was planted\n\nOf duplicates those are counted whose original was kept. Precision: at least that many of the documents that the step\n'
    printf 'dropped were planted for it. Near duplicates have one word in so many exchanged for another, in each paragraph at least one.\n'
    printf 'A plain document is one of German sentences alone: what is dropped of these was lost to rules of quality or chance.\n\n'
    cat "$WORK/judged.md"
    printf '\n## What was dropped\n'
    dropped clean
    printf '\n## The German text itself\n\nAll that debian_de.sh gave, documents between form feeds; nobody has labelled it.\n\n| | all steps |\n|---|---|\n'
    run german
    dropped german
} >"$RESULT"
echo "$RESULT"
