#!/usr/bin/env bash
# scripts/corpus: each script that fetches a known corpus, against small files in its forms and under its paths that a server
# on loopback has (serve.pl): what it lists, fetches and checks, what the program then reads of it; transfers that break off,
# wrong checksums, files that are missing, servers without ranges, full disks, lists that lead elsewhere. Where there is no
# duckdb, another script plays it, over rows that are no parquet.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
root=$PWD
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
run() { $RUNNER "$root/$BUILD/train_gpt_cpu" "$@"; }
for tool in curl jq zstd bzip2 gzip flock; do
    command -v $tool >/dev/null || { skip 'corpus_scripts_test.sh' "no $tool" && conclude && exit; }
done
top=$(mktemp -d) server='' mounted=''
work="$top/with space"
trap 'cd /; [ -z "$server" ] || kill $server; [ -z "$mounted" ] || umount "$mounted"; rm -rf "$top"' EXIT
mkdir -p "$work" && cd "$work" || exit 1
unset HF_ENDPOINT HF_TOKEN

# ---- documents, and the server
jq -Rsc 'split("\n\n")[] | gsub("\\s+$"; "") | select(length > 150)' "$root/dev/test/sample_de.txt" | head -n 36 |
    jq -c '{id: "d\(input_line_number)", url: "http://a/\(length)", date: "2020-01-01T00:00:00Z", text: .}' >docs.jsonl
check "documents: $(wc -l <docs.jsonl)" test "$(wc -l <docs.jsonl)" -eq 36
part() { sed -n "$(($1 * 6 + 1)),$(($1 * 6 + 6))p" docs.jsonl; } # part N: six of them
mkdir site
perl "$root/dev/test/serve.pl" site >log 2>server.err &
server=$!
until [ -s log ] || ! kill -0 $server 2>/dev/null; do sleep 0.05; done
at=http://127.0.0.1:$(head -n 1 log)

code=0
# fetch NAME WORD...: scripts/corpus/NAME.sh; its exit code in $code, what it said in out and err. One run, one log.
fetch() {
    local script=$1
    shift
    head -n 1 log >log.port
    : >"$work/log.before" && cp log log.before
    code=0
    "$root/scripts/corpus/$script.sh" "$@" >out 2>err </dev/null || code=$?
    tail -n +$(($(wc -l <log.before) + 1)) log >asked
}
says() { grep -Eq -- "$1" out err || { echo "error: $(tail -n 3 out err)" && false; }; }
asked() { grep -Eqx -- "$1" asked || { echo "error: $(cat asked)" && false; }; }
fetched() { if [ $code -ne 0 ] || [ -s err ]; then echo "error: exit $code: $(tail -n 3 err)"; false; fi; }
# failed PATTERN: exit code 1, and the last line of stderr is the script's own and matches
failed() { if [ $code -ne 1 ] || ! tail -n 1 err | grep -Eq -- "^[a-z0-9_]+\.sh: .*$1"; then echo "error: exit $code: $(cat err)"; false; fi; }
# reads FOLDER PART...: the command that the script named reads these parts' documents, whatever their order
reads() {
    local next number
    for number in "${@:2}"; do part "$number"; done | jq -r .text | LC_ALL=C sort >expected
    next=$(sed -n 's|^Next: ./train_gpt_cpu ||p' out)
    eval "run $next --pack=none --clean_steps=nfc" >read.out 2>read.err </dev/null || { echo "error: $next: $(cat read.err)" && return 1; }
    jq -r .text "$1/clean/corpus.jsonl" | LC_ALL=C sort | diff -q expected - || { echo 'error: other documents' && false; }
}
manifest() { awk -F'\t' -v OFS=' ' -v file="$2" -v columns="$3" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } $at["name"] == file { n = split(columns, c, ","); for (i = 1; i <= n; i++) printf "%s%s", $at[c[i]], i < n ? " " : "\n" }' "$1/manifest.tsv"; }

for script in hplt_de fineweb2_de german_commons germanweb wikipedia_de leipzig_de; do
    fetch $script --help
    check "$script.sh --help" test $code -eq 0
    check "$script.sh --help: its own words and those of all" says '--match=PATTERN'
    fetch $script --nothing
    check "$script.sh: an unknown option" failed "unknown option '--nothing'"
done
# shellcheck disable=SC2016  # it must not be run
for word in --from=ftp://a --from=file:///etc --tries=0 --tries=x --limit=0 --limit=3GiB '--limit=a[$(touch planted)]' --out=a,b; do
    fetch leipzig_de "$word"
    check "leipzig_de.sh $word" failed "${word%%=*}|has one of"
done
check 'nothing was run of a word' test ! -e planted

# ------------------------------------------------------------------ HPLT: a map, MD5, JSON lines packed by zstd

hplt=site/three/sorted
mkdir -p $hplt/deu_Latn
number=0
for file in 8_1 9_2 10_1 9_1 10_2; do # as the map might have them
    part $number | zstd -q -o $hplt/deu_Latn/$file.jsonl.zst
    echo "https://data.hplt-project.org/three/sorted/deu_Latn/$file.jsonl.zst"
    number=$((number + 1))
done >$hplt/deu_Latn.map
(cd $hplt && md5sum deu_Latn/*.zst) >$hplt/deu_Latn.md5
from=--from=$at/three/sorted/
fetch hplt_de "$from" --list --out=hplt
check 'hplt: --list' fetched
check 'hplt: the best first, all with MD5' test "$(awk '/zst/ { print $1, $4 }' out | tr '\n' ' ')" = \
    '10_1.jsonl.zst md5 10_2.jsonl.zst md5 9_1.jsonl.zst md5 9_2.jsonl.zst md5 8_1.jsonl.zst md5 '
check 'hplt: licence' says 'licence   CC0'
bytes=$(cat $hplt/deu_Latn/*.zst | wc -c)
check 'hplt: size' says "size      5 of 5 files, $(awk "BEGIN { printf \"%.1f\", $bytes / 1e3 }") kB, as 127.0.0.1"
check 'hplt: --list makes nothing' test ! -e hplt
fetch hplt_de "$from" --limit=1 --out=hplt
check 'hplt: --limit=1' fetched
check 'hplt: one file' test "$(ls hplt/files)" = 10_1.jsonl.zst
check 'hplt: reads' reads hplt 2
fetch hplt_de "$from" --limit=1kB --out=few
check 'hplt: a limit below the first file takes it nevertheless' test "$(ls few/files)" = 10_1.jsonl.zst
fetch hplt_de "$from" --limit=$((bytes / 2000))kB --out=few
check "hplt: a limit in bytes: $(ls few/files)" test "$(find few/files -type f | wc -l)" -eq 2

# A transfer breaks off: the next run goes on there. One that breaks off twice more goes on by itself.
file=$hplt/deu_Latn/9_1.jsonl.zst
echo '1 cut 700' >$file.fault
fetch hplt_de "$from" --match='9_*' --tries=1 --out=hplt
check 'hplt: cut: an error' failed '1 of 2 files are missing: 9_1.jsonl.zst .*run the same command again'
check 'hplt: cut: how far' says 'broke off at 700 bytes'
check 'hplt: cut: the part is kept, and no file' test "$(stat -c %s hplt/parts/9_1.jsonl.zst) $(echo hplt/files/*)" = "700 hplt/files/10_1.jsonl.zst hplt/files/9_2.jsonl.zst"
check 'hplt: cut: the program is not named' test -z "$(grep '^Next' out)"
printf '1 cut 300\n' >$file.fault
fetch hplt_de "$from" --match='9_*' --tries=2 --out=hplt
check 'hplt: goes on' fetched
check 'hplt: goes on: from where it was cut' asked 'GET /three/sorted/deu_Latn/9_1.jsonl.zst 700 206'
check 'hplt: goes on: and again, in the same run' asked 'GET /three/sorted/deu_Latn/9_1.jsonl.zst 1000 206'
check 'hplt: what is whole is not asked for again' test -z "$(grep 'GET.*9_2' asked)"
check 'hplt: the file is the file' cmp $file hplt/files/9_1.jsonl.zst
: >$file.fault

# A wrong checksum: the file is named and gone, the others come; when the server has mended it, it comes.
cp $hplt/deu_Latn.md5 md5
sed -i 's/^[0-9a-f]* \(.*8_1\)/00000000000000000000000000000000 \1/' $hplt/deu_Latn.md5
fetch hplt_de "$from" --out=hplt
check 'hplt: a wrong checksum' failed '1 of 5 files are missing: 8_1.jsonl.zst'
check 'hplt: a wrong checksum: which, and what was found' says "expected md5:0{32}, found md5:$(md5sum <$hplt/deu_Latn/8_1.jsonl.zst | cut -c1-32); it is removed"
check 'hplt: a wrong checksum: the file is nowhere' test -z "$(find hplt -name '8_1*')"
check 'hplt: a wrong checksum: the others are there' test "$(find hplt/files -type f | wc -l)" -eq 4
cp md5 $hplt/deu_Latn.md5
# A file that is not there any more.
mv $hplt/deu_Latn/8_1.jsonl.zst kept
fetch hplt_de "$from" --out=hplt
check 'hplt: 404' failed '1 of 5 files are missing: 8_1.jsonl.zst'
check 'hplt: 404: says so' says 'not to be had: .*404; what is known here of this server'
# A server that cannot go on within a file, and says nothing of its size.
mv kept $hplt/deu_Latn/8_1.jsonl.zst
printf '%s\n' noranges nolength '1 cut 500' >$hplt/deu_Latn/8_1.jsonl.zst.fault
fetch hplt_de "$from" --tries=1 --out=hplt
check 'hplt: without a size, what is too short is known by its checksum' says '8_1|expected md5:[0-9a-f]*, found'
printf '%s\n' noranges '1 cut 500' >$hplt/deu_Latn/8_1.jsonl.zst.fault
fetch hplt_de "$from" --tries=1 --out=hplt
check 'hplt: without ranges, cut' failed '1 of 5'
fetch hplt_de "$from" --tries=1 --out=hplt
check 'hplt: without ranges' fetched
check 'hplt: without ranges: says so' says 'cannot go on within a file; from its beginning'
check 'hplt: all of it, read' reads hplt 0 1 2 3 4
check 'hplt: documents keep what the script names' jq -es 'map(.id | startswith("d")) | all' hplt/clean/corpus.jsonl
check "hplt: the manifest: $(manifest hplt 9_1.jsonl.zst source,edition,url,licence)" test "$(manifest hplt 9_1.jsonl.zst source,edition,url,bytes,sha256,published,checked)" = \
    "hplt_de 3.0 $at/three/sorted/deu_Latn/9_1.jsonl.zst $(stat -c %s $file) $(sha256sum <$file | cut -c1-64) md5:$(md5sum <$file | cut -c1-32) publisher"
check 'hplt: the manifest has each file once, and a time' test "$(cut -f 3 hplt/manifest.tsv | sort -u | wc -l) $(wc -l <hplt/manifest.tsv) $(grep -Ec $'\t20[0-9-]+T[0-9:]+Z\t' hplt/manifest.tsv)" = '6 6 5'
fetch hplt_de "$from" --out=hplt
check 'hplt: a last time: nothing is fetched' test "$code $(grep -c 'GET.*zst' asked)" = '0 0'
# What became damaged since, is found when asked for; what no manifest names is looked at.
printf x | dd of=hplt/files/9_1.jsonl.zst bs=1 seek=99 conv=notrunc status=none
fetch hplt_de "$from" --check --out=hplt
check 'hplt: --check' says '9_1.jsonl.zst is not what it was when it came'
check 'hplt: --check: mended' cmp $file hplt/files/9_1.jsonl.zst
rm hplt/manifest.tsv && printf x | dd of=hplt/files/9_2.jsonl.zst bs=1 seek=99 conv=notrunc status=none
fetch hplt_de "$from" --out=hplt
check 'hplt: without a manifest it is made again, and what is wrong fetched' test "$code $(wc -l <hplt/manifest.tsv) $(grep -c 'GET.*zst' asked)" = '0 6 1'
# The server has another file by now: nothing of the old one stays in it.
echo '1 cut 400' >$file.fault
fetch hplt_de "$from" --match=9_1.* --tries=1 --out=other
part 5 | zstd -q -f -o $file
printf 'header ETag: "2"\n' >$file.fault
(cd $hplt && md5sum deu_Latn/*.zst) >$hplt/deu_Latn.md5
fetch hplt_de "$from" --match=9_1.* --out=other
check 'hplt: another file' says 'another file by now; from its beginning'
check 'hplt: another file: it' cmp $file other/files/9_1.jsonl.zst
# A server that is busy is asked again.
printf '%s\n' '1 status 503' >$file.fault
fetch hplt_de "$from" --match=9_1.* --tries=2 --out=busy
check 'hplt: 503, and then the file' fetched

# ---- full disks
fetch_small() { (ulimit -f 1 && exec "$root/scripts/corpus/hplt_de.sh" "$from" --match=10_1.* --out=full >out 2>err </dev/null); }
fetch_small
code=$?
if [ "$(stat -c %s $hplt/deu_Latn/10_1.jsonl.zst)" -gt 1024 ]; then
    check 'a file as large as the system allows' failed 'cannot write .*full/parts/10_1.jsonl.zst, where .* are free; make room, then run the same'
    fetch hplt_de "$from" --match=10_1.* --out=full
    check 'with more room it goes on' asked 'GET /three/sorted/deu_Latn/10_1.jsonl.zst 1024 206'
    check 'and is whole' cmp $hplt/deu_Latn/10_1.jsonl.zst full/files/10_1.jsonl.zst
else check 'files are too small for this test' false; fi
mkdir disk
if mount -t tmpfs -o size=64k none disk 2>/dev/null; then
    mounted=$work/disk
    head -c 200000 /dev/urandom >$hplt/deu_Latn/7_1.jsonl.zst
    echo "x/deu_Latn/7_1.jsonl.zst" >>$hplt/deu_Latn.map
    (cd $hplt && md5sum deu_Latn/*.zst) >$hplt/deu_Latn.md5
    fetch hplt_de "$from" --match=7_1.* --out=disk/a
    check 'what does not fit' failed '200.0 kB are still to come, and [0-9.]+ kB are free in '
    check 'what does not fit is not begun' test -z "$(grep 'GET.*7_1' asked)"
    echo nolength >$hplt/deu_Latn/7_1.jsonl.zst.fault
    fetch hplt_de "$from" --match=7_1.* --out=disk/a
    check 'a disk that becomes full' failed 'cannot write .*disk/a/parts/7_1.jsonl.zst, where 0.0 MB are free'
    mount -o remount,size=1m disk
    fetch hplt_de "$from" --match=7_1.* --out=disk/a
    check 'a disk with room again' fetched
    check 'a disk with room again: it goes on' asked 'GET /three/sorted/deu_Latn/7_1.jsonl.zst [1-9][0-9]* 206'
    check 'a disk with room again: the file' cmp $hplt/deu_Latn/7_1.jsonl.zst disk/a/files/7_1.jsonl.zst
else skip 'corpus_scripts_test.sh, a small disk' 'no mount for this user'; fi

# ---- lists that lead elsewhere
for name in ../9_1.jsonl.zst '.9_1.jsonl.zst'; do
    printf '%s\n' "https://elsewhere.example/deu_Latn/$name" >$hplt/deu_Latn.map
    fetch hplt_de "$from" --out=no
    if [ "$name" = ../9_1.jsonl.zst ]; then check "hplt: only the last part of $name counts" asked '.* /three/sorted/deu_Latn/9_1.jsonl.zst .*'
    else check "hplt: the map has $name" failed 'expected addresses of files like 10_1.jsonl.zst'; fi
done
fetch hplt_de --from=http://127.0.0.1:9 --tries=1 --out=no
check 'no server' failed 'deu_Latn.map could not be fetched \(.+\); is there a network'
(flock 9 && "$root/scripts/corpus/hplt_de.sh" "$from" --out=hplt >out 2>err </dev/null) 9>hplt/.lock
code=$?
check 'two at a time' failed 'another run fetches into'

# ------------------------------------------------------------------ Hugging Face: pages of a list, SHA-256, parquet

if ! command -v duckdb >/dev/null; then
    mkdir bin
    printf '%s\n' '#!/usr/bin/env bash' "[[ \${*: -1} =~ read_parquet\\(\\'(.*)\\'\\)\\)\\ TO ]] && sed '1d; \$d' \"\${BASH_REMATCH[1]}\"" >bin/duckdb
    chmod +x bin/duckdb
    PATH=$PWD/bin:$PATH
    parquet() { { echo PAR1 && cat && printf PAR1; } >"$1"; }
    skip 'corpus_scripts_test.sh, real parquet files' 'no duckdb: a script plays it'
else
    parquet() { cat >rows.jsonl && duckdb -c "COPY (SELECT * FROM read_json('rows.jsonl', format='newline_delimited')) TO '$1' (FORMAT parquet)"; }
fi
commit=0123456789abcdef0123456789abcdef01234567
entry() { # entry PATH FILE: as the list of a tree has it
    jq -nc --arg path "$1" --arg sum "$(sha256sum <"$2" | cut -c1-64)" --argjson size "$(stat -c %s "$2")" \
        '{type: "file", oid: "ba5d19791be1dd7992e33bd61f20207b0f7f50a5", size: $size, lfs: {oid: $sum, size: $size, pointerSize: 134}, path: $path}'
}
# hub REPO FOLDER PATH...: a data set of these files, the first on one page of the list and the rest on the next
hub() {
    local repo=$1 folder=$2 path number=0 tree
    shift 2
    tree="site/api/datasets/$repo/tree/$commit${folder:+/$folder}?recursive=true&expand=false"
    mkdir -p "$(dirname "$tree")" "site/api/datasets/$repo/revision" site/cdn
    printf '{"_id": "1", "id": "%s", "sha": "%s"}' "$repo" $commit >"site/api/datasets/$repo/revision/main"
    : >page0 && : >page1
    for path in "$@"; do
        part $number | parquet rows
        mkdir -p "$(dirname "site/datasets/$repo/resolve/$commit/$path")"
        cp rows "site/cdn/${repo##*/}_$number"
        echo "to /cdn/${repo##*/}_$number" >"site/datasets/$repo/resolve/$commit/$path.fault"
        entry "$path" rows >>page$((number > 0))
        number=$((number + 1))
    done
    { echo '{"type": "directory", "oid": "0", "size": 0, "path": "data"}' && echo '{"type": "file", "oid": "0", "size": 9, "path": "README.md"}' && cat page0; } | jq -s . >"$tree"
    jq -s . page1 >"$tree&cursor=ZXlK%3D%3D"
    # the address is the real server's, whoever serves this one
    echo "header Link: <https://huggingface.co/api/datasets/$repo/tree/$commit?expand=false&recursive=true&cursor=ZXlK%3D%3D>; rel=\"next\"" >"$tree.fault"
}
hub HuggingFaceFW/fineweb-2 data/deu_Latn/train data/deu_Latn/train/000_0000{0,1,2}.parquet
export HF_ENDPOINT=$at/
echo '1 cut 900' >site/cdn/fineweb-2_1.fault
fetch fineweb2_de --tries=1 --out=fineweb
check 'fineweb2: cut' failed '1 of 3 files are missing: data/deu_Latn/train/000_00001.parquet'
fetch fineweb2_de --tries=1 --out=fineweb
check 'fineweb2: goes on' fetched
check 'fineweb2: goes on behind the redirection' asked 'GET /cdn/fineweb-2_1 900 206'
check 'fineweb2: licence, commit' says "edition   $commit"
check 'fineweb2: reads' reads fineweb 0 1 2
check 'fineweb2: the manifest' test "$(manifest fineweb data/deu_Latn/train/000_00002.parquet edition,published,checked)" = "$commit sha256:$(sha256sum <site/cdn/fineweb-2_2 | cut -c1-64) publisher"
# What a folder began with it goes on with, whatever `main` is by now.
sed -i "s/$commit/f$commit/; s/f\(.*\).\"}/f\1\"}/" site/api/datasets/HuggingFaceFW/fineweb-2/revision/main
fetch fineweb2_de --out=fineweb
check 'fineweb2: the same commit' test "$code $(grep -c 'revision/main' asked)" = '0 0'
fetch fineweb2_de --out=fineweb_new --tries=1
check 'fineweb2: main of today, which this server has no list of' failed "tree/f${commit:0:39}.*404"
echo nothing >site/cdn/fineweb-2_0
fetch fineweb2_de --limit=1 --out=wrong
check 'fineweb2: a file of another size' failed 'tree/f|1 of 1 files'
hub coral-nlp/german-commons '' web/wiki\ pedia.parquet law/gesetze-#1.parquet news/zeitung.parquet
fetch german_commons --out=commons --match='*i*'
check 'german_commons' fetched
check 'german_commons: names with odd signs, and a pattern' test "$(cd commons/files && find . -type f | LC_ALL=C sort | tr '\n' ' ')" = './news/zeitung.parquet ./web/wiki pedia.parquet '
fetch german_commons --out=commons
check 'german_commons: the rest' fetched
check 'german_commons: reads' reads commons 0 1 2
hub Aleph-Alpha/Aleph-Alpha-GermanWeb '' cc/0.parquet synthetic/0.parquet
token=hf_secret
HF_TOKEN=$token fetch germanweb --out=germanweb
check 'germanweb' fetched
check 'germanweb: licence' says 'licence   Open Aleph License'
check 'germanweb: reads' reads germanweb 0 1
check 'a token stays in no file' test -z "$(grep -rl $token germanweb out err)"
# The bytes that came are not those of the list.
printf x | dd of=site/cdn/Aleph-Alpha-GermanWeb_1 bs=1 seek=50 conv=notrunc status=none
fetch germanweb --out=germanweb2
check 'germanweb: a wrong checksum' failed '1 of 2 files are missing: synthetic/0.parquet'
printf 'status 401\n' >site/cdn/Aleph-Alpha-GermanWeb_1.fault
fetch germanweb --out=germanweb2
check 'germanweb: an account' says '401; an account may be needed'
# Lists that are none, or lead out of the folder.
tree="site/api/datasets/Aleph-Alpha/Aleph-Alpha-GermanWeb/tree/$commit?recursive=true&expand=false"
for path in a/../b.parquet /x.parquet .x.parquet $'a\nb.parquet'; do
    entry "$path" rows | jq -s . >"$tree"
    fetch germanweb --out=no2
    check "a path '$path'" failed 'with the name .*, which is none to be written here'
done
echo '{"error": "gated"}' >"$tree"
fetch germanweb --out=no2
check 'no list' failed 'expected a list of files in JSON, found \{"error": "gated"\}'
echo '[]' >"$tree" && : >"$tree.fault"
fetch germanweb --out=no2
check 'an empty list' failed 'there is nothing to fetch'
check 'nothing was written' test -z "$(find no2 -type f ! -name .lock)"
unset HF_ENDPOINT

# ------------------------------------------------------------------ Wikipedia: dumps by date, bzip2

wiki=site/other/cirrus_search_index
dump() { # dump DATE PART...
    local day=$1 folder=$wiki/$1/index_name=dewiki_content number=0 page
    mkdir -p "$folder"
    shift
    for page in "$@"; do
        part "$page" | jq -c '{index: {_type: "_doc", _id: .id}}, {title: .id, namespace: 0, text: (.text | gsub("\n"; " "))}' |
            bzip2 >"$folder/dewiki_content-$day-0000$number.json.bz2"
        number=$((number + 1))
    done
    links "$folder"
}
links() { (cd "$1" && for file in ../ *.bz2 _SUCCESS; do [ ! -e "$file" ] || echo "<a href=\"$file\">$file</a>  1"; done) >page && mv page "$1/index"; }
dump 20261108 0 1 && : >$wiki/20261108/index_name=dewiki_content/_SUCCESS && links $wiki/20261108/index_name=dewiki_content
dump 20261115 2
mkdir -p $wiki/20261101
(cd $wiki && for day in 2026*; do echo "<a href=\"$day/\">$day/</a>"; done; echo '<a href="../">up</a><a href="current/">current</a>') >$wiki/index
from=--from=$at/other/cirrus_search_index
jq -c '.text |= gsub("\n"; " ")' docs.jsonl >flat.jsonl && mv flat.jsonl docs.jsonl
fetch wikipedia_de "$from" --out=wiki
check 'wikipedia: the newest that is complete' fetched
check 'wikipedia: edition' says 'edition   20261108'
check 'wikipedia: reads' reads wiki 0 1
check 'wikipedia: bzip2 says that it is whole' test "$(manifest wiki dewiki_content-20261108-00001.json.bz2 published,checked)" = '- archive'
: >$wiki/20261115/index_name=dewiki_content/_SUCCESS && links $wiki/20261115/index_name=dewiki_content
fetch wikipedia_de "$from" --out=wiki
check 'wikipedia: a folder keeps to its dump' test "$code $(grep -c 20261115 asked)" = '0 0'
fetch wikipedia_de "$from" --out=wiki --date=20261115
check 'wikipedia: another dump in the same folder' failed 'holds edition 20261108, and this is 20261115'
fetch wikipedia_de "$from" --out=wiki15
check 'wikipedia: a newer one' says 'edition   20261115'
rm -r $wiki/20261108
fetch wikipedia_de "$from" --out=wiki
check 'wikipedia: a dump that is gone' failed 'the dump of 20261108 is not there, or not complete'
fetch wikipedia_de "$from" --date=2026-11-08 --out=x
check 'wikipedia: no date' failed 'expected a date like 20261115'
# Damage that no list of checksums would tell.
file=$wiki/20261115/index_name=dewiki_content/dewiki_content-20261115-00000.json.bz2
printf xxx | dd of=$file bs=1 seek=300 conv=notrunc status=none
fetch wikipedia_de "$from" --out=wiki_damaged
check 'wikipedia: damaged' failed '1 of 1 files are missing'
check 'wikipedia: damaged: by bzip2' says 'it is damaged: .*; it is removed'

# ------------------------------------------------------------------ Wortschatz Leipzig: sets by name, tar.gz

mkdir -p site/corpora
for number in 0 1; do
    set=deu_news_202${number}_10K
    mkdir -p $set
    part $number | jq -r .text | awk '{ print NR "\t" $0 }' >$set/$set-sentences.txt
    printf '1\tdie\t500\n2\tder\t400\n' >$set/$set-words.txt
    printf '1\thttp://a\t2020-01-01\n' >$set/$set-sources.txt
    tar -czf site/corpora/$set.tar.gz $set
done
from=--from=$at/corpora
fetch leipzig_de "$from" --sets=deu_news_2020_10K,deu_news_2021_10K,deu_none_10K,deu_news_2020_10K --out=leipzig
check 'leipzig: a set that there is not' failed '1 of 3 files are missing: deu_none_10K.tar.gz'
fetch leipzig_de "$from" --sets=deu_news_2020_10K,deu_news_2021_10K --out=leipzig
check 'leipzig' fetched
check 'leipzig: reads' reads leipzig 0 1
check 'leipzig: gzip says that it is whole' test "$(manifest leipzig deu_news_2020_10K.tar.gz source,licence,published,checked)" = 'leipzig_de CC-BY; name the Leipzig Corpora Collection (Goldhahn et al. 2012) - archive'
for sets in '' a,,b ../x 'a b'; do
    fetch leipzig_de "$from" --sets="$sets" --out=x
    check "leipzig: --sets=$sets" failed "expected names like|unknown option '--sets='"
done
check "the server said: $(head -n 2 server.err)" test ! -s server.err
conclude
