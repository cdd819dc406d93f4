#!/usr/bin/env bash
# Files and names that somebody has chosen to do harm: pipes where files are expected (reading one never ends), small
# files that could take long (a megabyte or two of each form: seconds are far more than enough), names with line breaks
# and escape sequences in what is printed. Every one ends, with 0 or with one line of error, and prints no control character.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
# shellcheck disable=SC2206  # a command with its options
program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
sample=$PWD/dev/test/sample_de.txt fixtures=$PWD/dev/test/fixtures/models
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1
# ends MESSAGE VERB...: in time, with 0, or with 1 and one line of error; nothing that is printed moves a terminal.
ends() {
    local message=$1 code=0
    shift
    timeout -k 5 "${LIMIT:-30}" "${program[@]}" "$@" >out 2>err </dev/null || code=$?
    if [ $code -eq 0 ]; then check "$message: exit code 0, and on stderr: $(head -n 3 err)" lacks '^error' err; else
        check "$message: exit code $code, expected 1" test $code -eq 1
        check "$message: $(wc -l <err) lines on stderr: $(head -c 300 err | tr -c '[:print:]\n' '?')" test "$(grep -c '^error: ' err) $(wc -l <err)" = '1 1'
    fi
    check "$message: control characters are printed: $(tr -cd '\000-\011\013-\037\177' <out | head -c 20 | od -c | head -n 2)" test -z "$(cat out err | tr -cd '\000-\010\013-\037\177')"
}
# shellcheck disable=SC2317  # called by name
lacks() { ! grep -q -- "$@"; }
# refused MESSAGE VERB...: it ends, with an error
refused() {
    ends "$@"
    check "$1: is an error" grep -q '^error: ' err
}

"${program[@]}" bpe --input="$sample" --vocab_size=512 --out=t.json >out 2>&1 && "${program[@]}" tokenize --tokenizer=t.json --input="$sample" --val_fraction=0.3 --out=s >>out 2>&1
check "preparing: $(cat out)" test -f s_val_00000.bin
train=(train --train_data='s_train_*' --val_data='s_val_*' --tokenizer=t.json --batch_size=2 --seq_len=32 --val_every=0 --progress=off)
"${program[@]}" "${train[@]}" --model=llama-nano --steps=2 --out=run >out 2>&1
check "training: $(tail -n 1 out)" test -d run/step_00000002

# ------------------------------------------------------------------ pipes

mkfifo pipe
refused 'a pipe as config file' train --config=pipe
refused 'a pipe as shards' eval --model=run/step_00000002 --data=pipe
refused 'a pipe as tasks' eval --model=run/step_00000002 --tasks=pipe
refused 'a pipe as text, bpe' bpe --input=pipe --out=x.json
refused 'a pipe as text, tokenize' tokenize --input=pipe --tokenizer=t.json --out=x
refused 'a pipe as tokenizer' tokenize --input="$sample" --tokenizer=pipe --out=x
refused 'a pipe to write to' bpe --input="$sample" --out=pipe
for file in config.json model.safetensors model.safetensors.index.json tokenizer.json; do
    rm -rf piped && cp -r run/step_00000002 piped && rm -f "piped/$file" && mkfifo "piped/$file"
    [ $file != model.safetensors.index.json ] || rm -f piped/model.safetensors
    refused "a pipe as $file, generate" generate --model=piped --tokens=2 --prompt=a
    refused "a pipe as $file, export" export --model=piped --out=x.gguf
    if [ $file != tokenizer.json ]; then refused "a pipe as $file, train" "${train[@]}" --model=piped --steps=1 --out=x; fi
    rm -rf x
done
for file in step_00000002/run.json step_00000002/config.json step_00000002/optimizer-00001-of-00001.safetensors step_00000002 metrics.jsonl run.log; do
    rm -rf piped && cp -r run piped && rm -rf "piped/$file" && mkfifo "piped/$file"
    refused "a pipe as $file, going on" "${train[@]}" --model=llama-nano --steps=3 --out=piped --resume=auto
done

# ------------------------------------------------------------------ small files that could take long

# A folder with this text as config.json and tokenizer.json.
folder() { rm -rf slow && mkdir slow && cat >slow/config.json && cp slow/config.json slow/tokenizer.json; }
# shellcheck disable=SC2016  # perl expands them
many() { perl -e '($n, $s) = @ARGV; for my $i (0 .. $n - 1) { (my $t = $s) =~ s/#/$i/g; print $t }' "$@"; } # many N TEXT: # counts
try() { # try MESSAGE: the folder above, by all that read it
    refused "$1, eval" eval --model=slow --data='s_val_*' --seq_len=32
    refused "$1, train" "${train[@]}" --model=slow --steps=1 --out=x
    refused "$1, tokenize" tokenize --tokenizer=slow/tokenizer.json --input="$sample" --out=x
    refused "$1, export" export --model=slow --out=x.gguf
}
{ printf '{"model_type": "llama"' && many 100000 ', "k#": #' && echo '}'; } | folder
try 'many members'
{ printf '{"model_type": "llama"' && many 100000 ', "vocab_size": 64' && echo '}'; } | folder
try 'one member many times'
many 1000000 '[' | folder
try 'deep nesting'
{ printf '{"model_type": "llama", "eos_token_id": [' && many 500000 '5, ' && echo '5]}'; } | folder
try 'a long list'
{ printf '{"model_type": "llama", "vocab_size": ' && many 1000000 '1' && echo '}'; } | folder
try 'a long number'
# Weights: many empty tensors; an index of many files, most of which it names again.
model() { rm -rf slow && cp -r run/step_00000002 slow && rm slow/model.safetensors; }
header() { # header FILE TEXT: a safetensors file without data
    local size=${#2} i byte bytes=
    for ((i = 0; i < 8; i++)); do printf -v byte '\\x%02x' $((size >> 8 * i & 255)) && bytes+=$byte; done
    printf '%b%s' "$bytes" "$2" >"$1"
}
model
header slow/model.safetensors "{$(many 20000 '"tensor.#":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},')\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"
refused 'many tensors' eval --model=slow --data='s_val_*' --seq_len=32
refused 'many tensors, export' export --model=slow --out=x.gguf
model
for ((i = 0; i < 500; i++)); do header "slow/$i.safetensors" "{\"t$i\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"; done
{ printf '{"weight_map": {' && many 500 '"t#": "#.safetensors", ' && many 30000 '"x#": "0.safetensors", ' && echo '"t0": "0.safetensors"}}'; } >slow/model.safetensors.index.json
refused 'an index of many files' eval --model=slow --data='s_val_*' --seq_len=32
# The history of a run.
for what in lines blank one; do
    rm -rf slow && cp -r run slow
    case $what in
        lines) many 50000 '{"step": 1}
' >slow/metrics.jsonl ;;
        blank) many 1000000 '
' >slow/metrics.jsonl ;;
        one) { printf '{"step": 1, "x": "' && many 1000000 'x' && echo '"}'; } >slow/metrics.jsonl ;;
    esac
    ends "a history of $what" "${train[@]}" --model=llama-nano --steps=3 --out=slow --resume=auto
done
# A config file.
many 100000 'steps = 5
' >slow.conf
ends 'a config file of many lines' train --config=slow.conf --print_options=steps
{ printf '# ' && many 1000000 x; } >slow.conf
ends 'a config file of one line' train --config=slow.conf --print_options=steps
# Texts without any place at which a tokenizer would cut, or with nothing but such places.
for text in a ' ' '
' $'\xcc\x81' 7 $'\xff' $'\f\n' "'" '<|endoftext' '<|endoftext|>' $'\xe1\x84\x80\xe1\x85\xa1' '"s '; do
    many $((600000 / ${#text})) "$text" >slow.txt
    ends "bpe of many $(printf %q "$text")" bpe --input=slow.txt --vocab_size=400 --out=x.json
    for tokenizer in gpt2 qwen3-tied llama-tied-bf16; do
        ends "tokenize of many $(printf %q "$text") with $tokenizer" tokenize --tokenizer="$fixtures/$tokenizer/tokenizer.json" --input=slow.txt --out=x
    done
done

# ------------------------------------------------------------------ names in what is printed

name=$'n\nerror: all is well\e[31m\r\xc2\x9b2J\xff'
mkdir "$name" && cp t.json "$name/t.json" && cp s_train_00000.bin "$name/s_train_00000.bin" && cp s_val_00000.bin "$name/s_val_00000.bin"
ends 'a name, bpe' bpe --input="$sample" --vocab_size=512 --out="$name/x.json"
check "bpe prints one line: $(wc -l <out)" test "$(wc -l <out)" -eq 1
ends 'a name, info' info --tokenizer="$name/t.json" --data="$name/s_val_*" --seq_len=32
check "info prints one line a file: $(wc -l <out)" test "$(wc -l <out)" -eq 3
ends 'a name, train' "${train[@]}" --train_data="$name/s_train_*" --val_data="$name/s_val_*" --tokenizer="$name/t.json" --model=llama-nano --steps=2 --checkpoint_every=1 --out="$name/run"
check 'run.log holds no control characters' test -z "$(tr -cd '\000-\010\013-\037\177' <"$name/run/run.log")"
check 'no line of run.log is a name'"'"'s' lacks '^error' "$name/run/run.log"
check 'run.log is UTF-8' iconv -f UTF-8 -t UTF-8 "$name/run/run.log" -o text
ends 'a name, finished' "${train[@]}" --train_data="$name/s_train_*" --val_data="$name/s_val_*" --tokenizer="$name/t.json" --model=llama-nano --steps=2 --out="$name/run" --resume=auto
ends 'a name, dump' dump --model="$name/run/step_00000002" --data="$name/s_val_*" --batch_size=1 --seq_len=32 --out="$name/d"
ends 'a name, export' export --model="$name/run/step_00000002" --out="$name/g"
ends 'a name, eval' eval --model="$name/run/step_00000002" --data="$name/s_val_*" --seq_len=32 --val_tokens=320
refused 'a name that is not there' eval --model="$name/none/x" --data="$name/s_val_*"
refused 'an option' eval --"$name"
refused 'a verb' "$name"
refused 'a value' eval --seq_len="$name"
printf '{"model_type": "x\\nerror: all fine \\u001b[31mRED"}' >"$name/config.json"
refused 'a field of a file' eval --model="$name" --data='s_val_*'
conclude
