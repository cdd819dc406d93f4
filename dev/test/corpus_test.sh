#!/usr/bin/env bash
# Text as users have it, through the program: packed files, JSON lines, folders, tars and parquet give the tokenizer and
# the shards that their plain text gives; damage is named and ends nothing, unless --strict. A program named duckdb that
# this test makes plays DuckDB: it prints what stands beside the file that it is asked for, and how it was called.
# shellcheck disable=SC2016  # the $ of scripts that are written here
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

run() { "${program[@]}" "$@" >out 2>err </dev/null || { echo "error: exit $? of $*: $(head -n 2 err)" && false; }; }
refused() { # refused PATTERN VERB...: exit code 1 and one line that matches; path: where it looks for programs
    local pattern=$1 code
    shift
    PATH=${path:-$PATH} "${program[@]}" "$@" >out 2>err </dev/null
    code=$?
    { [ $code -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -Eq -- "$pattern" err; } || { echo "error: exit $code: $(cat err)" && false; }
}
same() { # same PREFIX PREFIX: shards
    cmp "$1_train_00000.bin" "$2_train_00000.bin" && cmp "$1_val_00000.bin" "$2_val_00000.bin"
}
says() { grep -q -- "$1" err || { echo "error: $(cat err)" && false; }; }

# The sample's paragraphs as plain text, and as JSON lines; jq reads them as this program does.
cp "$sample" plain.txt
jq -Rsc 'split("\n\n")[] | sub("^[ \\t\\r\\n]+\\n"; "") | sub("[ \\t\\r\\n\\f]+$"; "") | select(. != "") | {id: 7, body: ., url: "http://a/\(length)"}' plain.txt >lines.jsonl
jq -r '.body + "\n"' lines.jsonl >paragraphs.txt
check "preparing: $(wc -l <lines.jsonl) lines" test "$(wc -l <lines.jsonl)" -gt 100
run bpe --input=plain.txt --vocab_size=512 --out=t.json
tokenize=(tokenize --tokenizer=t.json --val_fraction=0.1)
check "plain text" run "${tokenize[@]}" --input=plain.txt --out=plain
check "paragraphs" run "${tokenize[@]}" --input=paragraphs.txt --out=paragraphs

for tool in gzip bzip2 xz zstd; do
    if ! command -v $tool >/dev/null; then skip "corpus_test.sh, $tool" 'the program is not there' && continue; fi
    $tool -c <plain.txt >packed.txt
    $tool -c <lines.jsonl >packed.jsonl
    check "bpe, $tool" run bpe --input=packed.txt --vocab_size=512 --out=packed.json
    check "the same tokenizer from text that $tool packed" cmp t.json packed.json
    for threads in 1 3; do
        check "tokenize, $tool" run "${tokenize[@]}" --input=packed.txt --threads=$threads --out=packed
        check "the same shards from text that $tool packed, $threads threads" same plain packed
        check "tokenize, JSON lines, $tool" run "${tokenize[@]}" --input=packed.jsonl --field=body --threads=$threads --out=lines
        check "the same shards from JSON lines that $tool packed, $threads threads" same paragraphs lines
    done
    head -c $(($(wc -c <packed.jsonl) - 9)) packed.jsonl >cut.jsonl
    check "cut short, $tool" run "${tokenize[@]}" --input=cut.jsonl,plain.txt --field=body --out=cut
    check "cut short, $tool: it is named" says "warning: left out: cut.jsonl: $tool: "
    check "cut short, $tool: --strict" refused "cut.jsonl: $tool: .*--strict" "${tokenize[@]}" --input=cut.jsonl --field=body --strict=on --out=x
done

# ---- folders and tars: one document a file
mkdir -p files/deep
split -l 40 -d -a 3 --additional-suffix=.txt plain.txt files/deep/
check "files by name" run "${tokenize[@]}" --input='files/deep/*.txt' --doc_split=file --out=files
check "a folder" run "${tokenize[@]}" --input=files --out=folder
check "a folder is its files" same files folder
tar --sort=name -cf files.tar files/deep
gzip -c files.tar >files.tar.gz
for tar in files.tar files.tar.gz; do
    check "$tar" run "${tokenize[@]}" --input=$tar --out=tar
    check "$tar is its files" same files tar
done
check "a folder: the manifest counts its documents" test "$(jq '[.sources[].documents] | add' folder_manifest.json)" = "$(find files -type f | wc -l)"

# ---- damage in the middle
sed '7s/^{/{{/; 9s/"body"/"bdy"/' lines.jsonl >broken.jsonl
check "broken lines" run "${tokenize[@]}" --input=broken.jsonl --field=body --out=broken
check "broken line 7" says 'left out: broken.jsonl: line 7 (byte [0-9]*): not JSON: column 2'
check "line 9 without text" says 'left out: broken.jsonl: line 9 (byte [0-9]*): "body" is not there'
check "the manifest names both" test "$(jq '[.damaged, (.damage | length)] | add' broken_manifest.json)" = 4
check "no such field" refused 'lines.jsonl has in line 1 no "text", only id, body, url; .*--field' "${tokenize[@]}" --input=lines.jsonl --out=x
check "a field that nothing has" refused '^error: --field=body has no effect: no JSON lines and no parquet' "${tokenize[@]}" --input=plain.txt --field=body --out=x
check "strict" refused 'line 7 .*--strict' "${tokenize[@]}" --input=broken.jsonl --field=body --strict=on --out=x
check "a refused run writes nothing" test -z "$(compgen -G 'x_*')"

# ---- programs that are not there
mkdir nothing
gzip -c plain.txt >packed.txt
path=$work/nothing check "no gzip" refused 'packed.txt is read through the program gzip, which is not there; install it' "${tokenize[@]}" --input=packed.txt --out=x
printf 'PAR1    rest of the file    PAR1' >"it's [1].parquet"
path=$work/nothing check "no duckdb" refused 'parquet is read through the program duckdb, which is not there; .*pip install duckdb-cli' "${tokenize[@]}" --input="it's [1].parquet" --out=x

# ---- parquet
mkdir bin
printf '%s\n' '#!/bin/sh' 'printf "%s\n" "$@" >called' '[ ! -e fail ] || { cat fail >&2; exit 1; }' 'cat table.jsonl' >bin/duckdb
chmod +x bin/duckdb
cp lines.jsonl table.jsonl
export PATH=$work/bin:$PATH
check "parquet" run "${tokenize[@]}" --input="it's [1].parquet" --field=body --out=table
check "parquet's documents" same paragraphs table
check "its columns are asked for by name: $(tail -n 1 called)" grep -Fqx "COPY (SELECT \"body\" FROM read_parquet('it''s [[]1].parquet')) TO '/dev/stdout' (FORMAT JSON)" called
printf 'Binder Error: Referenced column "body" not found\nCandidates: "text"\n' >fail
check "a column that is not there" refused 'parquet cannot be read: duckdb: Binder Error: Referenced column' "${tokenize[@]}" --input="it's [1].parquet" --field=body --out=x

# ---- cleaning: JSON lines that tokenize reads; cleaned again they are the same, for any number of threads
if command -v zstd >/dev/null; then
    check "corpus" run corpus --input=lines.jsonl,plain.txt --field=body --keep=url --threads=2 --out=clean
    check "corpus, one thread, not packed" run corpus --input=lines.jsonl,plain.txt --field=body --keep=url --threads=1 --pack=none --out=clean1
    check "threads and packing change nothing" cmp <(zstd -dcq clean/corpus.jsonl.zst) clean1/corpus.jsonl
    check "corpus, again" run corpus --input=clean/corpus.jsonl.zst --keep=url --out=again
    check "cleaning twice changes nothing" cmp <(zstd -dcq clean/corpus.jsonl.zst) <(zstd -dcq again/corpus.jsonl.zst)
    check "the manifest counts what was kept" test "$(jq .kept clean/manifest.json)" = "$(zstd -dcq clean/corpus.jsonl.zst | wc -l)"
    check "what --keep names, and the origin" jq -se 'all(.[]; .origin.sha256 and (.origin.offset | type == "number")) and any(.[]; .url)' clean1/corpus.jsonl
    check "an output that is read" refused 'would replace' corpus --input=clean1/corpus.jsonl --pack=none --out=clean1
    path=$work/nothing check "no zstd" refused 'zstd is not there; .*--pack=none' corpus --input=plain.txt --out=x
else skip 'corpus_test.sh, cleaning' 'no zstd'; fi
echo 'least_words = 5' >rules
check "a rule that there is not" refused '^error: rules: line 1: "least_words = 5": expected .* one of min_words max_words' corpus --input=plain.txt --rules=rules --out=x
check "a step that there is not" refused '--clean_steps: there is no "nothing"' corpus --input=plain.txt --clean_steps=nothing --out=x
check "members that the output has" refused '"origin" of its own' corpus --input=plain.txt --keep=origin --out=x

conclude
