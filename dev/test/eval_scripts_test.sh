#!/usr/bin/env bash
# scripts/eval: the German grammar set is what its script makes of its frames, and what it promises to be; known sets, served
# from a folder in the form of Hugging Face's server, become the tasks that lm-evaluation-harness makes of them
# (dev/test/fixtures/sets). Where there is no duckdb, another script plays it, over rows that are no parquet.
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
# ------------------------------------------------------------------ known sets

sets=$root/dev/test/fixtures/sets hub=${work%/*}/hub # a URL of a file has no blanks
if ! command -v duckdb >/dev/null; then
    mkdir bin
    cat >bin/duckdb <<'END'
#!/usr/bin/env bash
# duckdb -json -c "SELECT * FROM read_parquet('FILE') [LIMIT N]"
[[ $* =~ ^-json\ -c\ SELECT\ \*\ FROM\ read_parquet\(\'([^\']*)\'\)(\ LIMIT\ ([0-9]+))?$ ]] || exit 1
jq -s ".[:${BASH_REMATCH[3]:-1000000}]" "${BASH_REMATCH[1]}"
END
    chmod +x bin/duckdb
    PATH=$PWD/bin:$PATH
    parquet() { mv "$1" "$2"; }
    skip 'eval_scripts_test.sh, real parquet files' 'no duckdb: a script plays it'
else
    parquet() { duckdb -c "COPY (SELECT * FROM read_json('$1', format='newline_delimited')) TO '$2' (FORMAT parquet)" && rm "$1"; }
fi
# Each set as two files, and the list of them where the server has it.
while read -r set; do
    IFS=$'\t' read -r repo config split < <(jq -r '[.repo, .config, .split] | @tsv' <<<"$set")
    folder=$hub/api/datasets/$repo/parquet/$config
    mkdir -p "$folder/files"
    for part in 0 1; do
        jq -c --argjson part $part '.rows | .[:(length / 2 | ceil)] as $first | if $part == 0 then $first else .[($first | length):] end | .[]' <<<"$set" >"$folder/files/$split$part.json"
        if [ -s "$folder/files/$split$part.json" ]; then parquet "$folder/files/$split$part.json" "$folder/files/$split$part.parquet" && echo "file://$folder/files/$split$part.parquet"; fi
    done | jq -R . | jq -s . >"$folder/$split"
done <"$sets/rows.jsonl"
export HF_ENDPOINT=file://$hub
for script in hellaswag_de arc_de global_mmlu_full_de belebele_deu_Latn lambada_openai_mt_de multiblimp_deu paws_de xnli_de global_piqa_deu; do
    "$root/scripts/eval/$script.sh" --out=tasks >out 2>&1
    check "$script.sh: exit code $?: $(tail -n 1 out)" grep -Eq "^tasks/.*\.jsonl: [0-9]+ items$" out
done
for script in arc_de global_mmlu_full_de belebele_deu_Latn paws_de xnli_de; do
    "$root/scripts/eval/$script.sh" --out=tasks --shots=2 >out 2>&1
    check "$script.sh --shots=2: $(tail -n 1 out)" grep -Eq "^tasks/${script}_2shot\.jsonl: [0-9]+ items$" out
done
for file in "$sets"/*_*.jsonl; do check "${file##*/} is another" cmp "$file" "tasks/${file##*/}"; done
check "files: $(ls tasks)" test "$(find tasks -name '*.jsonl' | wc -l)" -eq 15
# shots TEXT SCRIPT OPTION: refused, with this text
shots() {
    "$root/scripts/eval/$2.sh" --out=none "$3" >out 2>err
    check "$2.sh $3: exit code $?: $(tail -n 1 err)" grep -q "^$2.sh: .*$1" err
}
shots 'no examples for lambada_openai_mt_de.sh: the set has no split but the one that is asked' lambada_openai_mt_de --shots=1
shots 'no examples' hellaswag_de --shots=1
shots 'there are not 3 examples for every question' belebele_deu_Latn --shots=3
check "of how many: $(head -n 1 err)" grep -q 'only 2 examples' err
shots 'there are not 3 examples' global_mmlu_full_de --shots=3
check "of which group: $(head -n 1 err)" grep -q 'only 2 examples of astronomy' err
shots 'expected a whole number from 0 to 100' xnli_de --shots=two
shots 'expected a whole number from 0 to 100' xnli_de --shots=101
check 'nothing was made of them' test -z "$(find none -name '*.jsonl')"

# refuse MESSAGE TEXT: hellaswag_de.sh must fail with 1 and one line of its own with TEXT, and leave what was there
refuse() {
    local message=$1 text=$2 code=0
    "$root/scripts/eval/hellaswag_de.sh" --out=tasks >out 2>err || code=$?
    check "$message: exit code $code" test $code -eq 1
    check "$message: $(tail -n 1 err)" grep -q "^hellaswag_de.sh: .*$text" err
    check "$message: the file that was there is another" cmp "$sets/hellaswag_de.jsonl" tasks/hellaswag_de.jsonl
}
folder=$hub/api/datasets/alexandrainst/m_hellaswag/parquet/de
HF_ENDPOINT=file://$hub/nowhere refuse 'no server' 'could not be fetched'
cp "$folder/val" list
echo '{"error": "gated"}' >"$folder/val"
refuse 'no list' 'expected a list of parquet files, found {"error": "gated"}'
echo '["https://elsewhere.example/0.parquet"]' >"$folder/val"
refuse 'a file from elsewhere' 'a file from elsewhere, https://elsewhere.example'
jq '. + ["'"file://$folder/files/9.parquet"'"]' list >"$folder/val"
refuse 'a file that is missing' 'files/9.parquet could not be fetched'
# other ROWS...: a set of these rows
other() {
    printf '%s\n' "$@" >"$folder/files/other.json"
    parquet "$folder/files/other.json" "$folder/files/other.parquet"
    jq -n --arg url "file://$folder/files/other.parquet" '[$url]' >"$folder/val"
}
other '{"activity_label": "a", "ctx_a": "b", "endings": ["c", "d"], "label": "0"}'
refuse 'a column that is missing' 'the set may have changed'
check 'is named' grep -q 'a row has no ctx_b' err
other '{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["d", "e"], "label": "?"}'
refuse 'an answer that is none' 'the set may have changed'
other '{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["[x]", "e"], "label": "0"}' '{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["d", "e"], "label": "1"}'
"$root/scripts/eval/hellaswag_de.sh" --out=some >out 2>&1
check "an empty choice: $(cat out)" grep -qx 'some/hellaswag_de.jsonl: 1 items, 1 with an empty choice left out' out
cp list "$folder/val"
: >plain
"$root/scripts/eval/hellaswag_de.sh" --out=plain >out 2>&1
check "no folder: $(tail -n 1 out)" grep -q 'cannot make the folder plain' out
mkdir few
for tool in bash dirname sed curl jq; do ln -s "$(command -v $tool)" few/$tool; done
PATH=$PWD/few "$root/scripts/eval/hellaswag_de.sh" --out=tasks >out 2>&1
check "no duckdb: $(tail -n 1 out)" grep -q 'duckdb is not there; install it' out

conclude
