#!/usr/bin/env bash
# bpe from outside: its options reach tokenizer.json, the checkpoint and the GGUF file; threads change nothing; --report
# counts what other programs count of the same text, and says so as a table and as JSON.
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
refused() { # refused PATTERN VERB...: exit code 1 and one line that matches
    local pattern=$1 code
    shift
    "${program[@]}" "$@" >out 2>err </dev/null
    code=$?
    { [ $code -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -Eq -- "$pattern" err; } || { echo "error: exit $code: $(cat err)" && false; }
}
is() { [ "$1" = "$2" ] || { echo "error: $1, expected $2" && false; }; }

# ---- options
for ((i = 0; i < 300; i++)); do echo "Im Jahr $((1700 + i)) waren es $((i * 7919))."; done >numbers.txt
bpe=(bpe --input="$sample,numbers.txt" --vocab_size=640)
for threads in 1 3; do check "bpe, $threads threads" run "${bpe[@]}" --special='<|tool|>,[MASK]' --digits=single --threads=$threads --out=t$threads/tokenizer.json; done
check "threads change a tokenizer" cmp t1/tokenizer.json t3/tokenizer.json
check "special tokens in tokenizer.json" is "$(jq -c '[.added_tokens[] | select(.special) | [.id, .content]][4:7]' t1/tokenizer.json)" '[[628,"<|tool|>"],[629,"[MASK]"],[630,"<|reserved_0|>"]]'
check "single digits" jq -e '.pre_tokenizer.pretokenizers[0].pattern.Regex | contains("|\\p{N}|")' t1/tokenizer.json
check "single digits: no token of two" jq -e '[.model.vocab | keys[] | select(test("[0-9][0-9]"))] | length == 0' t1/tokenizer.json
check "bpe, three digits" run "${bpe[@]}" --out=three/tokenizer.json
check "up to three digits: tokens of two and three, of no more" jq -e '[.model.vocab | keys[] | select(test("[0-9][0-9]"))] | length > 0 and all(test("[0-9]{4}") | not)' three/tokenizer.json
check "tokenize" run tokenize --tokenizer=t1/tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=s
check "train" run train --model=llama-nano --train_data='s_train_*' --val_data='s_val_*' --tokenizer=t1/tokenizer.json --out=run --steps=1 --batch_size=1 --seq_len=32 --val_every=0 --progress=off
check "special tokens of the checkpoint" is "$(jq -c '.added_tokens_decoder["628", "629"].content' run/step_00000001/tokenizer_config.json | tr '\n' ' ')" '"<|tool|>" "[MASK]" '
check "export" run export --model=run/step_00000001 --out=m.gguf
for part in 'tokenizer.ggml.pre.{1,20}qwen2' '<\|tool\|>.{1,20}\[MASK\]'; do
    check "the GGUF file has no $part" grep -qaE "$part" <(LC_ALL=C tr '\0-\037\n' ' ' <m.gguf)
done
check "--min_frequency" refused 'pairs that occur at least 100000 times' "${bpe[@]}" --min_frequency=100000 --out=x.json
check "--special without brackets" refused '--special=tool: expected a name in angle or square brackets' "${bpe[@]}" --special=tool --out=x.json
check "--special that is there" refused 'a special token of this name already' "${bpe[@]}" --special='<a>,<a>' --out=x.json

# ---- --report: of a text that awk counts as well
printf 'Die Dampfschifffahrt hat Dampf.\nDer Dampf und die Schifffahrt\n' >a.txt
for i in 1 2 3; do echo "Dampf $i Schifffahrt  Ende"; done >>a.txt
printf 'Straße\n' >b.txt
check "report" run bpe --report=t1/tokenizer.json,three/tokenizer.json --input=a.txt,b.txt --json=on
cp out report.json
for name in t1 three; do
    check "tokenize a.txt, $name" run tokenize --tokenizer=$name/tokenizer.json --input=a.txt --doc_split=none --val_fraction=0 --out="$name/a"
    grep -o ' [0-9]* tokens' out | head -n 1 | tr -dc '0-9\n' >"$name/tokens"
done
check "tokens are those of tokenize, but for the end" is "$(jq -c '.sources[0].tokens' report.json)" "[$(($(cat t1/tokens) - 1)),$(($(cat three/tokens) - 1))]"
check "words are those of wc" is "$(jq -c '[.sources[].words, .all.words]' report.json)" "[$(wc -w <a.txt),1,$(cat a.txt b.txt | wc -w)]"
check "bytes" is "$(jq -c '[.sources[].source, .all.bytes]' report.json)" "[\"a.txt\",\"b.txt\",$(cat a.txt b.txt | wc -c)]"
check "ratios" jq -e '.all | (.tokens[0] / .words - .tokens_per_word[0] | fabs) < 1e-6 and (.bytes / .tokens[1] - .bytes_per_token[1] | fabs) < 1e-6' report.json
check "the compound, at its seam" is "$(jq -c '[.compounds.different, .compounds.longest[0].parts]' report.json)" '[1,["Dampf","","schifffahrt"]]'
check "its pieces are its letters" is "$(jq -r '.compounds.longest[0].tokens[] | gsub("[|]"; "")' report.json | sort -u)" Dampfschifffahrt
check "unused and used are what text can become" jq -e 'all(.tokenizers[]; .text_tokens == 624 and .unused < 624 and .unused > 500)' report.json
check "report as a table" run bpe --report=t1/tokenizer.json,three/tokenizer.json --input=a.txt,b.txt
check "a row for each source" is "$(grep -cE '^(a.txt|b.txt|all) ' out)" 6
check "the compound's pieces" grep -q '^  Dampf + schifffahrt$' out
check "threads change a report" is "$("${program[@]}" bpe --report=t1/tokenizer.json --input=a.txt,b.txt --json=on --threads=3)" "$("${program[@]}" bpe --report=t1/tokenizer.json --input=a.txt,b.txt --json=on --threads=1)"
check "a report that would train" refused '--out, --special and --license have no effect' bpe --report=t1/tokenizer.json --input=a.txt --out=y.json
check "a tokenizer that is not there" refused 'none.json' bpe --report=none.json --input=a.txt
check "--json without --report" refused '--json is for bpe --report' "${bpe[@]}" --json=on --out=x.json
check "no --out without --report" refused 'bpe needs --out=' bpe --input=a.txt
: >empty.txt
check "no words" refused 'holds no words|no text' bpe --report=t1/tokenizer.json --input=empty.txt
conclude
