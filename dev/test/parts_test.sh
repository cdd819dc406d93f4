#!/usr/bin/env bash
# Cleaning in parts: by several ranks, and by runs that are killed at any time and go on. Whatever happens on the way, what
# comes out is, to the byte, what one run of one process writes.
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
command -v zstd >/dev/null || { skip parts_test.sh 'no zstd' && conclude && exit; }

# Small files, and one that makes several parts; packed, plain, damaged and empty ones; documents that come again elsewhere.
jq -Rsc 'split("\f")[] | select(length > 400) | . as $t | range(60) | {text: ($t[:300] + " Fassung \(.) vom \(. * 7). " + $t[300:] + ("\n\n" + $t[:200]) * (. % 3)), id: ., tdm_reservation: (if . == 9 then 1 else 0 end)}' "$sample" >large.jsonl
head -n 200 large.jsonl | tail -n 150 >a.jsonl
head -n 400 large.jsonl | tail -n 150 | zstd -q >b.jsonl.zst
head -n 30 large.jsonl | sed '7s/^{/{{/; 9s/"text"/"tet"/' >damaged.jsonl
cp "$sample" plain.txt
head -c 30000 large.jsonl >cut.jsonl
jq -c 'select(.id == 5) | {context: .text[:200], continuation: .text[200:330]}' large.jsonl | tail -n 5 >tasks.jsonl
inputs=plain.txt,a.jsonl,damaged.jsonl,large.jsonl,b.jsonl.zst,cut.jsonl
corpus=(corpus --input="$inputs" --clean_steps=-quality --contamination=tasks.jsonl
    --contamination_drop=on --doc_split=formfeed --keep=id --part_bytes=600e3)
run() { "${program[@]}" "$@" >out 2>err </dev/null || { echo "error: exit $? of $*: $(head -n 2 err)" && false; }; }
refused() { # refused CODE PATTERN: the program ended with 1 and one line
    { [ "$1" -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -Eq -- "$2" err; } || { echo "error: exit $1: $(cat err)" && false; }
}
same() { # same FOLDER: what one run writes, and nothing beside it
    cmp <(zstd -dcq "$1/corpus.jsonl.zst") <(zstd -dcq whole/corpus.jsonl.zst) && cmp "$1/manifest.json" whole/manifest.json &&
        test "$(find "$1" -mindepth 1 | wc -l)" = 2
}
parts() { find "$1" -path '*corpus.parts/*' -name '*.??????' 2>/dev/null | wc -l; }

check "one run" run "${corpus[@]}" --out=whole
check "all that can happen to a document is in it" jq -e '.dropped | .near_duplicate and .contaminated and .opted_out and .document_twice' whole/manifest.json
check "damage too" jq -e '.damaged >= 3 and .paragraphs_taken_out > 10' whole/manifest.json
check "in parts" run "${corpus[@]}" --resume=auto --out=parts
check "in parts: the same" same parts
check "in parts, not packed" run "${corpus[@]}" --resume=auto --pack=none --out=plain
check "not packed: the same" cmp plain/corpus.jsonl <(zstd -dcq whole/corpus.jsonl.zst)

# Kills at any time, every other one behind a part more; then with another number of threads. Each run goes on where the
# one before was.
length=$({ time -p "${program[@]}" "${corpus[@]}" --resume=auto --out=timed >out 2>&1; } 2>&1 | awk '/real/ {print $2}')
kills=0 most=0
for round in 1 2; do
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
        signal=$([ $((i % 3)) = 0 ] && echo TERM || echo KILL)
        before=$(parts "killed$round")
        "${program[@]}" "${corpus[@]}" --resume=auto --threads=$((1 + i % 3)) --out="killed$round" >out 2>err </dev/null &
        pid=$!
        if [ $((i % 2)) = 0 ]; then
            until [ "$(parts "killed$round")" -gt "$before" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.002; done
        else
            sleep "$(awk -v l="$length" -v i="$i" -v x="$RANDOM" 'BEGIN { print l * (0.2 + 0.12 * i * x / 32768) }')"
        fi
        kill -"$signal" $pid 2>/dev/null && kills=$((kills + 1))
        wait $pid 2>/dev/null
        [ -e "killed$round/manifest.json" ] && break
        check "round $round, SIG$signal: no output" test ! -e "killed$round/corpus.jsonl.zst"
        found=$(parts "killed$round")
        [ "$found" -gt "$most" ] && most=$found
    done
    check "round $round: after kills" run "${corpus[@]}" --resume=auto --out="killed$round"
    check "round $round: the same" same "killed$round"
done
check "$kills kills, and a killed run leaves $most parts" test "$most" -ge 2

# A signal that comes when the output is whole, from its packer, waits for the manifest.
mkdir -p packer
cat >packer/zstd <<EOF
#!/usr/bin/env bash
"$(command -v zstd)" "\$@" || exit
if [ "\$*" = '-q -c' ]; then kill -TERM \$PPID; fi
EOF
chmod +x packer/zstd
{ PATH=$PWD/packer:$PATH "${program[@]}" "${corpus[@]}" --out=signalled >out </dev/null; } 2>err # bash, too, says "Terminated"
check "a signal at the end" test $? -eq $((128 + 15))
check "a signal at the end: the same" same signalled

# Every part of the large file in turn is the last that a killed run wrote. All parts are left where no output can be.
mkdir -p stopped/corpus.jsonl.zst
"${program[@]}" "${corpus[@]}" --resume=auto --out=stopped >out 2>err
check "an output that cannot be" refused $? 'is a folder'
rmdir stopped/corpus.jsonl.zst
last=$(cd stopped/corpus.parts && printf '%s\n' ??????.?????? | sort -t . -k 2 | tail -n 1)
check "the large file has several parts: $last" test "$((10#${last#*.}))" -ge 3
for ((k = 10#${last#*.} - 1; k >= 0; k--)); do
    rm -rf again && cp -r stopped again
    for ((i = k + 1; i <= 10#${last#*.}; i++)); do rm -f "again/corpus.parts/${last%.*}.$(printf %06d $i)"; done
    check "behind part $k" run "${corpus[@]}" --resume=auto --out=again
    check "behind part $k: the same" same again
done

# What does not belong together; a disk that is full.
leave() { # leave FOLDER OPTION...: parts of a run that had no room for its output
    (ulimit -f 60; exec "${program[@]}" "${corpus[@]}" --resume=auto "${@:2}" --out="$1") >out 2>err </dev/null
}
mkdir -p full
leave full
check "a full disk" refused $? 'File too large|ended by signal|exit code|cannot'
check "a full disk: no output" test ! -e full/corpus.jsonl.zst
check "after a full disk" run "${corpus[@]}" --resume=auto --out=full
check "after a full disk: the same" same full
other_keep=--keep=id,tdm_reservation
leave other
check "a run that leaves parts: $(parts other)" test "$(parts other)" -ge 1
"${program[@]}" "${corpus[@]}" --resume=auto "$other_keep" --out=other >out 2>err
check "parts of another job" refused $? 'other inputs, with other options.*--resume=no'
echo '{"text": "mehr"}' >>cut.jsonl
"${program[@]}" "${corpus[@]}" --resume=auto --out=other >out 2>err
check "parts of other inputs" refused $? 'other inputs, with other options.*--resume=no'
head -c 30000 large.jsonl >cut.jsonl
first=$(find other/corpus.parts -name '*.000000' | sort | head -n 1)
head -c $(($(wc -c <"$first") / 2)) "$first" >half && mv half "$first"
"${program[@]}" "${corpus[@]}" --resume=auto --out=other >out 2>err
check "a part that was cut" refused $? 'cannot read what was written before|ends too early'

# Ranks, also where one is killed.
if [ -z "$(no_ranks)" ]; then
    ranks() { mpirun --oversubscribe --bind-to none -n "$1" "${program[@]}" "${corpus[@]}" --threads=1 "${@:2}" >out 2>err </dev/null; }
    for n in 2 4; do
        check "$n ranks" ranks "$n" --out="ranks$n"
        check "$n ranks: the same" same "ranks$n"
    done
    check "parts of another job, anew" ranks 2 --out=other
    check "anew: the same" same other
    for i in 2 5 8; do
        mpirun --oversubscribe --bind-to none -n 3 "${program[@]}" "${corpus[@]}" --threads=1 --resume=auto --out=rank_killed >out 2>err </dev/null &
        pid=$!
        sleep "$(awk -v l="$length" -v i="$i" 'BEGIN { print 0.3 + l * i / 10 }')"
        kill -KILL "$(pgrep -P "$pid" | head -n 1)" 2>/dev/null
        wait $pid 2>/dev/null
    done
    check "after ranks were killed, by two" ranks 2 --resume=auto --out=rank_killed
    check "after ranks were killed: the same" same rank_killed
    ranks 3 --input=nowhere.txt --out=x
    check "an error of all ranks is said once" test "$(grep -c '^error: no such file' err)" = 1
else skip 'parts_test.sh, ranks' "$(no_ranks)"; fi

conclude
