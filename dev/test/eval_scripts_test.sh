#!/usr/bin/env bash
# scripts/eval: the German grammar set is what its script makes of its frames, and what it promises to be.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work="$(mktemp -d)/with space"
mkdir -p "$work"
trap 'rm -rf "${work%/*}"' EXIT
cd "$work" || exit 1

# ------------------------------------------------------------------ the grammar set

set=$root/scripts/eval/grammatik_de.jsonl
"$root/scripts/eval/grammatik_de.sh" --out=made.jsonl >out 2>&1
check "grammatik_de.sh: $(cat out)" test -s made.jsonl
check 'grammatik_de.jsonl is not what grammatik_de.sh makes of grammatik_de.txt; run it' cmp made.jsonl "$set"
check 'it says what it made' grep -q '1268 pairs in 24 phenomena' out
check 'a thousand pairs and more, of two sentences and a phenomenon' jq -es 'length >= 1000 and (map(keys == ["bad", "good", "group"]) | all)' "$set"
check 'twelve phenomena and more, of thirty pairs and more' jq -es 'group_by(.group) | length >= 12 and (map(length >= 30) | all)' "$set"
check 'no sentence twice, and none right here and wrong there' jq -es 'map(.good, .bad) | length == (unique | length)' "$set"
check 'each phenomenon is explained in a line' diff <("$root/scripts/eval/grammatik_de.sh" --list | cut -f 1 | sort) <(jq -r .group "$set" | sort -u)
check 'a line is a sentence' test "$("$root/scripts/eval/grammatik_de.sh" --list | grep -Ec $'^[a-z_]+\t.{30,}\\.$')" -eq 24
check 'sentences begin and end as such' jq -es 'map(.good, .bad | test("^[A-ZÄÖÜ][a-zäöüß]*[a-zäöüßA-ZÄÖÜ ,]+[.?!]$")) | all' "$set"
# One place: what two sentences begin and end with alike covers all but a few words of each.
jq -r '[.good, .bad] | @tsv' "$set" | awk -F '\t' '{
    n = split($1, good, " "); m = split($2, bad, " ")
    for (a = 0; a < n && a < m && good[a + 1] == bad[a + 1];) a++
    for (b = 0; b < n - a && b < m - a && good[n - b] == bad[m - b];) b++
    if (n - a - b > 5 || m - a - b > 5 || a + b == 0) print
}' >apart
check "pairs differ in one place: $(head -n 2 apart)" test ! -s apart
"$root/scripts/eval/grammatik_de.sh" --out=few.jsonl --pairs=7 >out 2>&1
check 'fewer pairs of each phenomenon, the first' test "$(wc -l <few.jsonl) $(grep -Fxcf few.jsonl "$set")" = '168 168'
# What is wrong with the frames is told, with its line.
mkdir -p broken/scripts/eval && cp "$root/scripts/common.sh" broken/scripts && cp "$root"/scripts/eval/grammatik_de.* broken/scripts/eval
lines=$(wc -l <broken/scripts/eval/grammatik_de.txt)
broken() { # broken TEXT LINE: with this line at the end
    cp "$root/scripts/eval/grammatik_de.txt" broken/scripts/eval && printf '%s\n' "$2" >>broken/scripts/eval/grammatik_de.txt
    broken/scripts/eval/grammatik_de.sh --out=never.jsonl >out 2>&1
    check "a frame '$2': exit code" test $? -ne 0
    check "a frame '$2': $(cat out)" grep -Eq "^grammatik_de.txt:($lines|$((lines + 1))): .*$1" out
}
broken 'not one place' 'Ein Satz ohne Wahl.'
broken 'not one place' 'Ein [a|b] Satz mit [c|d].'
broken 'no list is called nichts' 'Ein <nichts> Satz.'
broken 'the list wem stands there twice' 'wem = a; b'
broken 'twice' 'Wo ist [das|dass] Brot?'
broken 'something else in JSON' 'Er [sagt|sage] "nichts".'
check 'nothing was made of them' test ! -e never.jsonl
conclude
