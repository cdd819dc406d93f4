#!/usr/bin/env bash
# corpus --remove through the program: ids, sums and texts out of cleaned text (plain and packed) and shards, which then
# are those of the text without the documents; a trained run whose steps are held against its own batches; the report;
# removals that are killed leave the old or the new, and repeated come to their end; what is wrong is one error.
# shellcheck disable=SC2016  # the $ of jq, not of the shell
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}" "${KILLS:=6}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
# shellcheck disable=SC2206  # a command with its options
program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
sample=$PWD/dev/test/sample_de.txt
work=$(mktemp -d)
trap 'cd /; rm -rf "$work"' EXIT
cd "$work" || exit 1

run() { "${program[@]}" "$@" >out 2>err </dev/null || { echo "error: exit $? of $*: $(head -n 2 err)" && false; }; }
refused() { # refused PATTERN OPTION...: exit code 1 and one line that matches
    local pattern=$1 code
    shift
    "${program[@]}" corpus "$@" >out 2>err </dev/null
    code=$?
    { [ $code -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -Eq -- "$pattern" err; } || { echo "error: exit $code: $(cat err)" && false; }
}
same_shards() { # same_shards A B: all files of two prefixes but the manifests
    local f n=0
    for f in "$1"_{train,val}_*; do cmp "$f" "$2${f#"$1"}" || return 1; n=$((n + 1)); done
    [ $n -gt 3 ] && [ $n -eq "$(find . -maxdepth 1 -name "$2_train_*" -o -maxdepth 1 -name "$2_val_*" | wc -l)" ]
}

# Cleaned text with a document that is there twice, under another place; shards; a run.
run bpe --input="$sample" --vocab_size=512 --out=t.json
run corpus --input="$sample" --out=clean --clean_steps=-quality --pack=none
{ cat clean/corpus.jsonl; sed -n 90p clean/corpus.jsonl | sed 's/"offset": [0-9]*/"offset": 999999/'; } >double
mv double clean/corpus.jsonl
tokenize=(tokenize --tokenizer=t.json --val_fraction=0.1 --shard_tokens=10000)
check "tokenize" run "${tokenize[@]}" --input=clean/corpus.jsonl --out=s
check "train" run train --train_data='s_train_*.bin:0.8,s_val_*.bin:0.2' --val_data='s_val_*.bin' --tokenizer=t.json --model=qwen3-nano --seq_len=64 \
    --batch_size=4 --steps=210 --checkpoint_every=70 --keep_checkpoints=0 --out=run --val_every=0 --progress=off --threads=1
line() { sed -n "$1p" clean/corpus.jsonl; }
# By line of corpus.jsonl, by sum, by place, and as a text.
line 90 >ids.txt
line 17 | jq -r .origin.sha256 >>ids.txt
line 203 | jq -r '.origin | "\(.source):\(.offset)"' >>ids.txt
line 300 | jq -r .text >text.txt
echo '{"source": "nobody knows it", "offset": 1}' >>ids.txt
cp -r clean clean0 && mkdir set0 && cp s_* set0
sed '17d; 90d; 203d; 300d; $d' clean/corpus.jsonl >without.jsonl
check "tokenize without" run "${tokenize[@]}" --input=without.jsonl --out=w
remove() { # remove REPORT OPTION...
    run corpus --remove=ids.txt,text.txt --input=clean --data='s_train_*.bin' --tokenizer=t.json --runs=run --out="$1" "${@:2}"
}

check "a removal" remove report.json
check "a removal: cleaned text is another than without" cmp clean/corpus.jsonl without.jsonl
check "a removal: shards are others than without" same_shards s w
check "what nobody found is told" grep -q 'warning: nothing was found for .*nobody knows it' err
jq -e '.removal == "done" and .verified and (.requests | map(.found)) == [4, 2, 2, 0, 2] and (.found | length) == 10 and .texts[0].removed == 5 and
    .shards[0].removed == 5 and (.runs[0].documents | length) == 5' report.json >out 2>&1
code=$?
check "report: $(jq -c '[.removal, .verified, (.requests | map(.found)), (.found | length)]' report.json)" test $code -eq 0
check "report: the file's sum" test "$(jq -r '.texts[0].sha256' report.json)" = "$(sha256sum <clean/corpus.jsonl | cut -d' ' -f1)"
check "manifest of the text" jq -e --arg sum "$(sha256sum <clean/corpus.jsonl | cut -d' ' -f1)" --argjson left "$(wc -l <without.jsonl)" '.sha256 == $sum and .kept == $left and (.removed[0].sha256 | length) == 5' clean/manifest.json
check "manifest of the shards" jq -e --argjson left "$(wc -l <without.jsonl)" '.train.documents + .val.documents == $left and (.removed[0].sha256 | length) == 5' s_manifest.json
check "manifest: the shards' own" test "$(jq -r '.shards.set' s_manifest.json)" = "$(jq -r '.shards.set' w_manifest.json)"
check "manifest: what tokenize says" cmp <(jq -S '[.train, .val, .shards.train, .shards.val]' s_manifest.json) <(jq -S '[.train, .val, .shards.train, .shards.val]' w_manifest.json)
# The run had the shards of set0: steps of a document and of what it stands beside are those of its sequences.
jq -e '.runs[0] | (.positions == 840) and (.checkpoints | map(.step)) == [70, 140, 210] and all(.documents[]; (.read_in_steps | length) >= .sequences) and
    ([.documents[].read_in_steps[0]] | length == 5) and (. as $r | all($r.checkpoints[]; .step as $s |
    .documents_learnt == ([$r.documents[] | select(any(.read_in_steps[]; . <= $s))] | length)))' report.json >out 2>&1
code=$?
check "report: the run: $(jq -c '.runs[0].checkpoints' report.json)" test $code -eq 0

# Once more, with what was removed: nothing is there, and the run has read it all the same.
check "again" remove again.json
jq -e '(.found == []) and (.texts[0].removed == 0)' again.json >out
check "again: something was found" test $? -eq 0
check "again: other steps" cmp <(jq -S '.runs' report.json) <(jq -S '.runs' again.json)
check "a checkpoint alone" run corpus --remove=ids.txt --runs=run/step_00000070 --out=one.json
check "a checkpoint alone: later steps" jq -e '.runs[0] | .steps == 70 and all(.documents[].read_in_steps[]; . <= 70)' one.json
check "a report that is there" refused 'is there already' --remove=ids.txt,text.txt --input=clean --out=again.json

# Packed text, and what is not touched: lines that stay have their bytes.
for tool in gzip bzip2 xz zstd; do
    if ! command -v $tool >/dev/null; then skip "remove_test.sh, $tool" 'the program is not there' && continue; fi
    $tool -c <clean0/corpus.jsonl >packed.x
    check "$tool" run corpus --remove=ids.txt,text.txt --input=packed.x --out=$tool.json
    check "$tool: the same lines" cmp <($tool -dc <packed.x) without.jsonl
done

# Killed: files and sets are the old or the new, and the same command with another report comes to its end. When: within
# the time that a whole removal takes on this machine.
rm -rf clean s_* && cp -r clean0 clean && cp set0/* .
length=$({ time -p run corpus --remove=ids.txt,text.txt --input=clean --data='s_*.bin' --tokenizer=t.json --out=timed.json; } 2>&1 | awk '/^real/ { print $2 }')
kills=0
for ((round = 0; round < 5 * KILLS && kills < KILLS; round++)); do
    rm -rf clean s_* && cp -r clean0 clean && cp set0/* .
    rm -f killed.json
    "${program[@]}" corpus --remove=ids.txt,text.txt --input=clean --data='s_*.bin' --tokenizer=t.json --out=killed.json >out 2>err </dev/null &
    pid=$!
    sleep "$(awk -v l="$length" -v x="$RANDOM" 'BEGIN { print (l + 0.01) * x / 32768 }')"
    kill -KILL $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null
    cmp -s clean/corpus.jsonl clean0/corpus.jsonl || cmp -s clean/corpus.jsonl without.jsonl
    check "killed, round $round: half a text" test $? -eq 0
    run info --data='s_*_0*.bin' # gives a set that is complete its names
    same_shards s w >/dev/null 2>&1 || { (cd set0 && cat s_train_* s_val_*) | cmp -s - <(cat s_train_* s_val_*); }
    check "killed, round $round: half a set" test $? -eq 0
    check "killed, round $round: again" run corpus --remove=ids.txt,text.txt --input=clean --data='s_*.bin' --tokenizer=t.json --out="after$round.json"
    check "killed, round $round: the text" cmp clean/corpus.jsonl without.jsonl
    check "killed, round $round: the shards" same_shards s w
    check "killed, round $round: the manifest" test "$(jq -r .sha256 clean/manifest.json)" = "$(sha256sum <clean/corpus.jsonl | cut -d' ' -f1)"
done
check "no removal was killed" test $kills -gt 0

cp clean0/corpus.jsonl broken.jsonl && echo '{"text": "' >>broken.jsonl
check "a broken line" refused 'line [0-9]+: not JSON.*clean it' --remove=ids.txt --input=broken.jsonl --out=x.json
check "a broken line: the file is as it was" cmp <(head -n -1 broken.jsonl) clean0/corpus.jsonl
gzip -c <clean0/corpus.jsonl | head -c 9000 >cut.gz
check "a file that breaks off" refused 'cut.gz: gzip: ' --remove=ids.txt --input=cut.gz --out=x.json
check "no tokenizer" refused 'needs --tokenizer' --remove=ids.txt --data='s_*.bin' --out=x.json
run bpe --input=without.jsonl --vocab_size=384 --out=other.json
check "another tokenizer" refused 'another tokenizer' --remove=ids.txt --data='s_*.bin' --tokenizer=other.json --out=x.json
check "nothing to remove from" refused 'needs what to remove from' --remove=ids.txt --out=x.json
check "no list" refused 'no such file' --remove=nowhere.txt --input=clean --out=x.json
check "no run" refused 'no checkpoint' --remove=ids.txt --runs=clean --out=x.json
check "no cleaned text" refused 'holds no corpus.jsonl' --remove=ids.txt --input=run --out=x.json
check "no --remove" refused 'have no effect without --remove' --input="$sample" --runs=run --out=x
rm -f s_train_00000.docs
check "no list of documents" refused 'has no list of its documents' --remove=ids.txt --data='s_*.bin' --tokenizer=t.json --out=x.json
check "an error leaves no report" test ! -e x.json
conclude
