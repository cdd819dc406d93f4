#!/usr/bin/env bash
# Cleaning that stops early: a full disk and kills leave no output that is taken for whole, and nothing beside it; the
# next run gives the bytes of one that nobody touched.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
# shellcheck disable=SC2206  # a command with its options
program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
sample=$PWD/dev/test/sample_de.txt
work=$(mktemp -d)
trap 'cd /; rm -rf "$work"' EXIT
cd "$work" || exit 1
command -v zstd >/dev/null || { skip near_test.sh 'no zstd' && conclude && exit; }

# Documents, each of which comes twenty times with other words in its middle, so that cleaning takes a while.
jq -Rsc --argjson times 20 'split("\f")[] | select(length > 400) | . as $t | range($times) | {text: ($t[:300] + " Fassung \(.) vom \(. * 7). " + $t[300:]), id: .}' "$sample" >many.jsonl
steps=all,-quality,-paragraphs
corpus=(corpus --input=many.jsonl --clean_steps="$steps" --keep=id)
run() { "${program[@]}" "$@" >out 2>err </dev/null || { echo "error: exit $? of $*: $(head -n 2 err)" && false; }; }
refused() { # refused PATTERN: the program ended with 1 and one line
    { [ "$1" -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -Eq -- "$2" err; } || { echo "error: exit $1: $(cat err)" && false; }
}
empty() { [ -z "$(ls -A "$1")" ] || { echo "error: $1 holds $(ls -A "$1")" && false; }; }
same() { cmp <(zstd -dcq "$1/corpus.jsonl.zst") <(zstd -dcq whole/corpus.jsonl.zst) && cmp "$1/manifest.json" whole/manifest.json; }

check "cleaning" run "${corpus[@]}" --threads=1 --out=whole
check "near duplicates are found" jq -e '.dropped.near_duplicate.documents > 100' whole/manifest.json
check "those that stay say for how many" test "$(zstd -dcq whole/corpus.jsonl.zst | jq -s 'map(.origin.near // 1) | add')" = \
    "$(jq '.kept + .dropped.near_duplicate.documents' whole/manifest.json)"
check "threads" run "${corpus[@]}" --threads=3 --out=threads
check "threads change nothing" same threads
"${program[@]}" "${corpus[@]}" --near_keep=oldest --out=oldest >out 2>err
check "no date is kept" refused $? '--keep must name it'

# A disk that is full: of the keys and of lines that wait, and of the output.
for blocks in 2 64; do
    mkdir -p full
    (ulimit -f $blocks; exec "${program[@]}" "${corpus[@]}" --out=full) >out 2>err </dev/null
    check "a file of at most $blocks kB" refused $? 'cannot write .*(File too large|ended by signal|exit code)'
    check "a file of at most $blocks kB leaves nothing" empty full
done

# Evaluation sets: the sentences of some documents as items. What counting finds, dropping drops; then nothing is found.
zstd -dcq whole/corpus.jsonl.zst | jq -c 'select(.id == 0) | {context: .text[:150], continuation: .text[150:250]}' | head -n 9 >tasks.jsonl
echo '{"good": "Dieser Satz steht ganz gewiss in keinem der vielen Dokumente hier.", "bad": "Nein."}' >>tasks.jsonl
check "contamination" run "${corpus[@]}" --contamination=tasks.jsonl --out=counted
check "it changes nothing" cmp <(zstd -dcq counted/corpus.jsonl.zst) <(zstd -dcq whole/corpus.jsonl.zst)
check "it is counted" jq -e '.contamination.files[0] | .items == 10 and .items_found == 9 and .documents > 100' counted/manifest.json
check "dropping" run "${corpus[@]}" --contamination=tasks.jsonl --contamination_drop=on --out=dropped
check "what is counted is dropped" test "$(jq .dropped.contaminated.documents dropped/manifest.json)" -gt 100
check "nothing is left" run corpus --input=dropped/corpus.jsonl.zst --keep=id --clean_steps="$steps" --contamination=tasks.jsonl --out=left
check "nothing is found" jq -e '.contamination.files[0].documents == 0 and .kept == .documents' left/manifest.json
"${program[@]}" "${corpus[@]}" --contamination_drop=on --out=x >out 2>err
check "dropping what nobody names" refused $? '--contamination=FILES'

# Killed and ended from outside at any time.
length=$({ time -p "${program[@]}" "${corpus[@]}" --out=timed >out 2>&1; } 2>&1 | awk '/real/ {print $2}')
for i in 1 2 3 4 5 6; do
    signal=$([ $((i % 2)) = 0 ] && echo KILL || echo TERM)
    mkdir -p ended
    "${program[@]}" "${corpus[@]}" --out=ended >out 2>err </dev/null &
    pid=$!
    sleep "$(awk -v l="$length" -v i="$i" 'BEGIN { print l * i / 10 }')"
    kill -"$signal" $pid 2>/dev/null
    wait $pid 2>/dev/null
    if [ -e ended/manifest.json ]; then check "ended before SIG$signal" same ended
    else
        check "SIG$signal: no output" test ! -e ended/corpus.jsonl.zst
        [ "$signal" = KILL ] || check "SIGTERM leaves nothing" empty ended
        check "after SIG$signal" run "${corpus[@]}" --out=ended
        check "after SIG$signal: the same" same ended
        check "after SIG$signal: two files" test "$(find ended -type f | wc -l)" = 2
    fi
    rm -rf ended
done

conclude
