#!/usr/bin/env bash
# What bad input gets: exit code 1, one line on stderr that says what, where and what to do, nothing
# half-written. And what good input gets, verb by verb, as the contract words it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}" "${SANITIZE:=0}"
program=("$PWD/$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
sample=$PWD/dev/test/sample_de.txt

passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    printf 'FAILED %s\n' "$*"
}
run() { "${program[@]}" "$@" >out 2>err </dev/null; }
good() { # good VERB...: exit code 0 and nothing on stderr
    run "$@"
    local code=$?
    if [ $code -eq 0 ] && [ ! -s err ]; then ok; else bad "exit $code of $*: $(head -n 3 err)"; fi
}
refused() { # refused PATTERN VERB...: exit code 1 and one line that matches
    local pattern=$1
    shift
    run "$@"
    local code=$?
    if [ $code -ne 1 ]; then bad "exit $code, expected 1: $*: $(head -n 3 err)"
    elif [ "$(wc -l <err)" -ne 1 ]; then bad "$(wc -l <err) lines on stderr, expected 1: $*: $(head -n 3 err)"
    elif ! grep -Eq -- "$pattern" err; then bad "'$(cat err)' does not say '$pattern': $*"
    else ok; fi
}
warned() { # warned PATTERN VERB...: exit code 0 and one warning that matches
    local pattern=$1
    shift
    run "$@"
    local code=$?
    if [ $code -eq 0 ] && [ "$(wc -l <err)" -eq 1 ] && grep -Eq -- "^warning: .*$pattern" err; then ok; else bad "exit $code, no single warning '$pattern': $*: $(head -n 3 err)"; fi
}
absent() { # absent PATH...: nothing by these names, nor a temporary one beside them
    local path
    for path in "$@"; do
        if compgen -G "$path*" >/dev/null; then bad "left behind: $(compgen -G "$path*" | tr '\n' ' ')"; else ok; fi
    done
}

work=$(mktemp -d)
trap 'cd /; umount "$work/small" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1

# ---- the verbs, on good input
good --help
good train --help
good bpe --input="$sample" --vocab_size=512 --out=tok/tokenizer.json
good tokenize --tokenizer=tok/tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=s
for split in blank file none; do good tokenize --tokenizer=tok/tokenizer.json --input="$sample" --doc_split=$split --out=s_$split; done
data=(--train_data='s_train_*.bin' --val_data='s_val_*.bin' --tokenizer=tok/tokenizer.json)
small=(--batch_size=2 --seq_len=32)
for family in gpt2 llama qwen3; do
    good train "${data[@]}" "${small[@]}" --model=$family-nano --out=run_$family --steps=6 --val_every=3 --sample_every=5 --tokens=8 --checkpoint_every=2 --keep_checkpoints=2
    model=run_$family/step_00000006
    good generate --model=$model --prompt='Der Bäcker' --tokens=12 --temperature=0.7 --top_k=20 --top_p=0.9 --seed=4
    cp out once
    good generate --model=$model --prompt='Der Bäcker' --tokens=12 --temperature=0.7 --top_k=20 --top_p=0.9 --seed=4
    if cmp -s out once; then ok; else bad "the same seed gives another text"; fi
    if iconv -f UTF-8 -t UTF-8 out >/dev/null; then ok; else bad "generated text is not UTF-8"; fi
    if [ "$(head -c 11 out)" = 'Der Bäcker' ]; then ok; else bad "generate does not begin with the prompt: $(cat out)"; fi
    good generate --model=$model --tokens=100 # longer than the context of 32
    good generate --model=$model --prompt='Der Bäcker' --tokens=3 --precision=bf16 --kernels=emulated
    good eval --model=$model --data='s_val_*.bin' "${small[@]}"
    if jq -e '.loss > 0 and .bits_per_byte > 0 and .tokens > 0' out >/dev/null; then ok; else bad "eval: $(cat out)"; fi
    good dump --model=$model --data='s_val_*.bin' --batch_size=2 --seq_len=13 --out=$family.safetensors
    # the same model on other numbers: the backward pass is wrong from its first step on, and compare says so
    good dump --model=$family-nano --data='s_val_*.bin' --batch_size=2 --seq_len=13 --out=other.safetensors --seed=1
    good dump --model=$family-nano --data='s_val_*.bin' --batch_size=2 --seq_len=13 --out=$family-2.safetensors --seed=2
    # shellcheck disable=SC2086  # a command with its options
    $RUNNER "$OLDPWD/$BUILD/test_gpt" compare other.safetensors $family-2.safetensors >out 2>&1
    if grep -q 'goes wrong in step 11: dact.normf' out; then ok; else bad "compare: $(tail -n 2 out)"; fi
    # shellcheck disable=SC2086
    if $RUNNER "$OLDPWD/$BUILD/test_gpt" compare other.safetensors other.safetensors >out 2>&1 && ! grep -q 'goes wrong' out; then ok; else bad "compare with itself: $(tail -n 2 out)"; fi
    for dtype in f32 f16 bf16 q8_0; do good export --model=$model --format=gguf --dtype=$dtype --out=$family-$dtype.gguf; done
    good info --model=$family-124M
    # fine-tuning: a checkpoint as the start of another run
    good train "${data[@]}" "${small[@]}" --model=$model --out=run_tuned_$family --steps=2
    if [ "$(find run_$family -maxdepth 1 -name 'step_*' | wc -l)" -eq 2 ]; then ok; else bad "keep_checkpoints=2 kept $(ls run_$family)"; fi
    if jq -es 'length == 6 and all(.[]; has("step") and has("tokens") and has("loss") and has("lr") and has("grad_norm") and has("step_ms") and has("tokens_per_s") and has("mfu")) and (.[2] | has("val_loss") and has("val_bits_per_byte"))' run_$family/metrics.jsonl >/dev/null; then ok
    else bad "metrics.jsonl: $(head -n 3 run_$family/metrics.jsonl)"; fi
done
good info
good info --data='s_*.bin' --tokenizer=tok/tokenizer.json --seq_len=32
good info --model=run_llama/step_00000006

# ---- what the program says to scripts: the same as to people
holds() { # holds FILTER FILE...: jq finds it so in what the last call printed
    local filter=$1
    shift
    if jq -e "$filter" out "$@" >/dev/null; then ok; else bad "not so: $filter: $(head -c 300 out)"; fi
}
for model in gpt2-nano run_llama/step_00000006; do
    good info --model=$model --seq_len=32
    sed '/^record of the run, up to step /,$d' out >text # what account_test.sh looks at
    good info --json --model=$model --seq_len=32
    if cmp -s text <(jq -r '.model | def column(n): . + " " * ([n - length, 0] | max); def right(n): " " * ([n - length, 0] | max) + .;
        def decimals(n): . * pow(10; n) | round | tostring | if length <= n then "0" * (n + 1 - length) + . else . end | .[:-n] + "." + .[-n:];
        def GiB: . / 1073741824 | decimals(3); def M: . / 1e6 | decimals(3);
        def flops: (log10 | floor) as $e | (. / pow(10; $e) | decimals(4)) + "e+" + ($e | tostring | if length < 2 then "0" + . else . end);
        "\(.family): \(.layers) layers, \(.channels) channels, \(.heads) heads of \(.head_size) (\(.kv_heads) for keys and values), MLP \(.hidden), vocabulary \(.vocab_size), \(if .tied then "tied" else "untied" end) head, up to \(.max_seq_len) positions\n",
        "tensor     shape                times       parameters    share  decay  on disk",
        (.tensors[] | "\(.name | column(10)) \("(\(.shape | map(tostring) | join(", ")))" | column(18)) \(.times | tostring | right(7)) \(.parameters | tostring | right(16)) \(.share * 100 | decimals(2) | right(7))%  \(if .decay then "yes" else "no" end | column(6)) \(.on_disk | join(", "))\(if .transposed then " (transposed)" else "" end)"),
        "\nparameters: \(.parameters | M)M (\(.matmul_parameters | M)M in matrix products)",
        "FLOPs a token of training at T=\(.seq_len): \(.flops_per_token | flops) = \(.flops_formula)",
        (.memory as $m | "memory for training at B=\(.batch_size), T=\(.seq_len): weights \($m.weights | GiB), gradients \($m.gradients | GiB), moments \($m.moments | GiB), activations \($m.activations | GiB), buffers \($m.buffers | GiB), copy for checkpoints \($m.checkpoint_copy | GiB), scratch \($m.scratch | GiB) GiB; \($m.all | GiB) GiB in all"),
        (.eval_memory as $m | "memory for eval --tasks there: weights \($m.weights | GiB), activations \($m.activations | GiB), buffers \($m.buffers | GiB), keys and values of what tasks begin with \($m.shared | GiB) GiB; \($m.all | GiB) GiB in all")' out); then ok
    else bad "info --json of $model is not its text: $(head -c 300 out)"; fi
done
good info
cp out text
good info --json
if cmp -s <(awk 'NR > 1 { print $1, $3, $4, $5, $6, $7, $8, $9, $10 }' text) <(jq -r '.presets[] | "\(.name) \(.layers) \(.channels) \(.heads) \(.kv_heads) \(.head_size) \(.hidden) \(.vocab_size) \(.max_seq_len)"' out); then ok; else bad "presets differ: $(head -c 300 out)"; fi
good info --data='s_*.bin' --tokenizer=tok/tokenizer.json --seq_len=32
cp out text
good info --json --data='s_*.bin' --tokenizer=tok/tokenizer.json --seq_len=32
if cmp -s <(sed 's/; [0-9.]* bytes a token.*//' text) <(jq -r '(.tokenizer | "\(.path): vocabulary \(.vocab_size), end of text \(.eot), hash \(.hash)"),
    (.data.shards[] | "\(.path): \(.tokens) tokens of \(.token_bytes) bytes, \(.documents) documents, \(.bytes) bytes of text, vocabulary \(.vocab_size), tokenizer \(.tokenizer), xxh64 \(.xxh64)"),
    (.data | "\(.tokens) tokens, \(.sequences) sequences of \(.seq_len)")' out); then ok
else bad "info --json of data is not its text: $(head -c 300 out)"; fi
for verb in train bpe tokenize generate eval dump export info; do
    good $verb --help
    cp out text
    good $verb --print_options
    if cmp -s <(sed -n 's/^  --\([a-z_0-9]*\)=.*/\1/p' text | grep -vx config) <(jq -r 'keys_unsorted[]' out); then ok; else bad "$verb: --print_options and --help name other options"; fi
    holds 'all(.[]; has("type") and has("default") and has("value") and .value == .default and has("help"))'
done
printf 'lr = 2e-4\nsteps = 1e3 # of training\nout = a b\n' >config
good train --print_options=steps,lr,out,progress --config=config --lr=0.5 --progress=off
if [ "$(cat out)" = $'1000\n0.5\na b\noff' ]; then ok; else bad "--print_options=NAMES: $(cat out)"; fi
printf 'lr = auto\n' >config
good train --print_options=lr --config=config
if [ "$(cat out)" = auto ]; then ok; else bad "--lr=auto of a config file: $(cat out)"; fi
good train --print_options --lr=auto
holds '.lr | .value == "auto" and .choices == ["auto"] and .type == "real" and .most == 10'
good train --print_options --batch_size=auto
holds '.batch_size | .value == "auto" and .choices == ["auto"] and .type == "int" and .least == 1'
good info --model=gpt2-1.5B --batch_size=16 --seq_len=1024 --device=H100 --json
holds '.model.device | .recompute == "none" and .fits and .batch_size == 16 and .largest_batch.none == 20 and (.need / 1073741824 | . > 64.7 and . < 64.9)'
refused 'error: --device=TPU is not known' info --model=gpt2-nano --device=TPU
refused 'for which memory' info --model=gpt2-nano --batch_size=auto
refused 'batch_size=auto is for train' dump --model=gpt2-nano --batch_size=auto --data=x --out=y
refused 'no option --stepps' train --print_options=stepps
refused 'expected a number' train --print_options --lr=x
printf 'steps = 2\nseq_len = 32\nbatch_size = 1\nprompt = x\n' >config
good train "${data[@]}" --config=config --model=llama-nano --out=run_config
printf 'A\r\nB\xff\xfe C' >latin
good tokenize --tokenizer=tok/tokenizer.json --input="latin,$sample" --out=mixed
if grep -q '^2 bytes are not UTF-8' out; then ok; else bad "invalid bytes are not counted: $(cat out)"; fi

# ---- options
refused 'unknown verb' trian
refused 'did you mean --steps' train --step=3
refused 'expected 1 to' train --steps=0
refused 'expected 0 to 3' train --zero=4
refused 'expected 0 to 1' generate --top_p=1.5
refused 'not an option of' generate --lr=3
refused 'needs --train_data' train --model=llama-nano
refused 'expected --name=value' train steps=3
refused 'config: cannot open none' train --config=none
refused 'config: . is a folder' info --config=.
refused 'in digits alone: 10000' train --steps=10.000
refused 'not a comma: 0.001' train --lr=0,001
printf '\xef\xbb\xbfsteps = 7\r\nout = a#1 "b" # not c\r\nsample_prompt = "x # y"' >bom.conf
good train --print_options=steps,out,sample_prompt --config=bom.conf
if [ "$(cat out)" = $'7\na#1 "b"\nx # y' ]; then ok; else bad "a config file from another system: $(cat out)"; fi
printf 'out = a\0b\n' >nul.conf
refused 'NUL bytes' train --config=nul.conf
refused 'holds a line break' train --print_options=out --out=$'a\nb'
mkdir home && cp "$sample" home/a.txt
printf 'input = ~/a.txt\nout = ~/made/tok.json\n' >tilde.conf
HOME=$work/home good bpe --config=tilde.conf --vocab_size=512
# shellcheck disable=SC2088  # the program is to read the tilde
HOME=$work/home good tokenize --tokenizer='~/made/tok.json' --input='~/a.txt' --out='~/made/s'
absent '~'
if [ -f home/made/tok.json ] && compgen -G 'home/made/s_train_*' >/dev/null; then ok; else bad "~ in --out: $(ls -R home)"; fi

# ---- text and tokenizers
: >empty
printf 'kurz' >short
refused 'no such file' bpe --input=none.txt --out=t.json
refused 'no such file' bpe --input="$sample,none*.txt" --out=t.json
refused 'empty|no text' bpe --input=empty --out=t.json
refused 'merges|vocabulary' bpe --input=short --vocab_size=8192 --out=t.json
refused 'merges|vocabulary' bpe --input="$sample" --vocab_size=1000000 --out=t.json
refused 'vocab' bpe --input="$sample" --vocab_size=100 --out=t.json
refused 'cannot|No such|not a' bpe --input="$sample" --vocab_size=512 --out=/proc/none/t.json
refused 'not a regular file|directory|folder' bpe --input=/tmp --out=t.json
refused 'no such file' tokenize --tokenizer=tok/tokenizer.json --input=none --out=x
refused 'no document|empty|no text' tokenize --tokenizer=tok/tokenizer.json --input=empty --out=x
refused 'cannot open' tokenize --tokenizer=none.json --input="$sample" --out=x
refused 'short|JSON|json' tokenize --tokenizer=short --input="$sample" --out=x
refused 'cannot|No such' tokenize --tokenizer=tok/tokenizer.json --input="$sample" --out=/proc/none/x
absent t.json x_

# ---- what is no text is refused by both verbs that read text, with what to do
tokenize=(tokenize --tokenizer=tok/tokenizer.json)
refused_text() { # refused_text PATTERN FILE
    refused "$2 is not plain text.*$1" bpe --input="$2" --vocab_size=512 --out=t.json
    refused "$2 is not plain text.*$1" "${tokenize[@]}" --input="$2" --out=x
}
gzip -c "$sample" >packed.txt
for encoding in UTF-16 UTF-16LE UTF-16BE UTF-32 UTF-32LE UTF-32BE; do
    iconv -f UTF-8 -t $encoding "$sample" >wide.txt
    refused_text "${encoding%[LB]E}.*iconv" wide.txt
done
printf '{\n"text": "eins"\n}\n{\n"text": "zwei"\n}\n' >lines.json && refused_text 'JSON lines.*jq' lines.json
for own in s_train_00000.bin:'shard' tok/tokenizer.json:tokenizer run_llama/step_00000006/model.safetensors:weights llama-f16.gguf:GGUF \
    run_llama/step_00000006/config.json:config.json run_llama/metrics.jsonl:metrics; do refused_text "${own#*:}" "${own%%:*}"; done
mkfifo pipe && refused 'pipe is not a regular file' bpe --input=pipe --out=t.json
refused 'pipe is not a regular file' "${tokenize[@]}" --input=pipe --out=x
absent t.json x_
warned 'packed.txt is compressed.*byte by byte' "${tokenize[@]}" --input=packed.txt --doc_split=none --out=packed
# byte order marks are no text: the same tokenizer with and without
mkdir marked plain_text
for ((i = 0; i < 40; i++)); do
    printf 'Die Datei %d beginnt ohne oder mit einer Marke.\n' $i >plain_text/$i.txt
    { printf '\xef\xbb\xbf' && cat plain_text/$i.txt; } >marked/$i.txt
done
cp "$sample" plain_text/z.txt && cp "$sample" marked/z.txt
good bpe --input='marked/*' --vocab_size=640 --out=marked.json
good bpe --input='plain_text/*' --vocab_size=640 --out=plain.json
if cmp -s marked.json plain.json; then ok; else bad 'byte order marks are learned'; fi
cat marked/?.txt >joined.txt
warned 'byte order marks inside' "${tokenize[@]}" --input=joined.txt --out=joined
printf 'eins zwei\n<|endoftext|>\ndrei vier\n<|endoftext|>\nfuenf\n' >ended.txt
warned '<.endoftext.> stands in the text 2 times.*formfeed' "${tokenize[@]}" --input=ended.txt --out=ended
warned 'in the list twice, ./plain_text/1.txt' "${tokenize[@]}" --input=plain_text/1.txt,plain_text/2.txt,./plain_text/1.txt --out=twice
warned '1 of the input files hold no text, empty' "${tokenize[@]}" --input="$sample,empty" --out=holes
warned 'in the list twice, ./plain_text/z.txt' bpe --input=plain_text/z.txt,plain_text/1.txt,./plain_text/z.txt --vocab_size=512 --out=twice.json
warned '1 of the input files hold no text, empty' bpe --input="$sample,empty" --vocab_size=512 --out=holes.json
for name in 'Band [1999].txt' 'Kafka, Franz.txt' '{Entwurf}.txt' 'was?.txt' '*.txt'; do
    mkdir -p named && cp "$sample" "named/$name"
    good bpe --input="named/$name" --vocab_size=512 --out=named.json
    good "${tokenize[@]}" --input="named/$name" --out="named/lauf [v2]/text"
    good info --data='named/lauf [v2]/text_*_*.bin' --seq_len=32
    rm -r named
done

# ---- what is written is never what is read
cp "$sample" my.txt && ln my.txt link.txt && ln -s my.txt soft.txt
for out in my.txt ./my.txt link.txt soft.txt; do refused 'would replace.*--input' bpe --input=my.txt --vocab_size=512 --out=$out; done
refused 'would replace.*--input' bpe --input='my.t*,short' --vocab_size=512 --out=my.txt
if cmp -s my.txt "$sample"; then ok; else bad 'the text was replaced by a tokenizer'; fi
printf 'input = my.txt\nvocab_size = 512\nout = bpe.conf\n' >bpe.conf
refused 'would replace the config file' bpe --config=bpe.conf
cp -r run_llama/step_00000006 mine && ln mine/model.safetensors other_name && ln -s "$PWD/mine/config.json" other_link
for out in mine/model.safetensors mine/config.json mine/tokenizer.json mine/run.json other_name other_link; do
    refused 'is a file of --model=mine' export --model=mine --out=$out
    refused 'is a file of --model=mine' dump --model=mine --data='s_val_*.bin' --batch_size=2 --seq_len=13 --out=$out
done
refused 'would replace s_val_00000.bin, which --data' dump --model=mine --data='s_val_*.bin' --batch_size=2 --seq_len=13 --out=s_val_00000.bin
if diff -r mine run_llama/step_00000006 >/dev/null; then ok; else bad 'the model was changed'; fi
good export --model=mine --out=mine/model.gguf
good export --model=mine --out=mine/model.gguf # its own output it may write again
for out in tok/ mine pipe /dev/null /dev/stdout; do refused 'folder|device|not a file' export --model=mine --out=$out; done
if [ -p pipe ]; then ok; else bad 'the pipe was replaced'; fi
refused 'must end in a name' "${tokenize[@]}" --input=my.txt --out=tok/
refused 'device' "${tokenize[@]}" --input=my.txt --out=/dev/null
cp my.txt t_train_00000.bin
refused 't_train_00000.bin is read, and --out=./t would replace it' "${tokenize[@]}" --input=my.txt,t_train_00000.bin --out=t
if cmp -s t_train_00000.bin my.txt; then ok; else bad 'the text was replaced by a shard'; fi
cp my.txt u_val_00000.bin
refused 'u_val_00000.bin is no shard that this program wrote' "${tokenize[@]}" --input=my.txt --out=u
mkdir d e && cp my.txt d/a.txt && cp my.txt e/a.txt
good "${tokenize[@]}" --input='d/*' --out=d/text
refused 'd/text_train_00000.bin is not plain text but a shard' "${tokenize[@]}" --input='d/*' --out=d/text
good bpe --input='e/*' --vocab_size=512 --out=e/tokenizer.json
refused 'would replace.*e/tokenizer.json.*--input' bpe --input='e/*' --vocab_size=512 --out=e/tokenizer.json
mkdir run_link && ln -s "$PWD/s_train_00000.bin" run_link/run.log
refused 'run_link/run.log would replace' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_link --steps=1
mkdir run_pipe && mkfifo run_pipe/metrics.jsonl
refused 'metrics.jsonl is not a regular file' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_pipe --steps=1
# SIGTERM ends it with nothing left: 60 MB are not read when the first shard is begun
for ((i = 0; i < 800; i++)); do cat "$sample"; done >big.txt
"${program[@]}" "${tokenize[@]}" --input=big.txt --out=stopped --threads=1 >out 2>err &
pid=$!
until compgen -G '.stopped.tmp.*/train_*' >/dev/null || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
kill -TERM $pid
wait $pid
code=$?
if [ $code -eq 143 ]; then ok; else bad "SIGTERM while tokenize writes: exit $code"; fi
absent stopped_ .stopped
"${program[@]}" "${tokenize[@]}" --input=big.txt --out=stopped --threads=1 >out 2>err &
pid=$!
until compgen -G '.stopped.tmp.*/train_*' >/dev/null || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
kill -KILL $pid
wait $pid 2>/dev/null
if compgen -G 'stopped_*' >/dev/null; then bad "shards of a killed process: $(ls stopped_*)"; else ok; fi
good "${tokenize[@]}" --input=my.txt --out=stopped # what the killed one left is gone then
absent .stopped
rm big.txt

# ---- models
refused 'no model preset' train "${data[@]}" "${small[@]}" --model=gpt5 --out=unmade
refused 'no such folder' train "${data[@]}" "${small[@]}" --model=./none --out=unmade
mkdir bert && echo '{"model_type": "bert"}' >bert/config.json
refused 'model_type.*bert.*gpt2, llama, qwen3, qwen2, mistral, smollm3 and apertus' train "${data[@]}" "${small[@]}" --model=bert --out=unmade
refused 'model_type' generate --model=bert
refused 'preset, which has no weights' generate --model=llama-nano --prompt=x
# A folder that has a preset's name. A run's folder is in nobody's way; a model is named by a path.
for steps in 2 4; do good train "${data[@]}" "${small[@]}" --model=llama-nano --out=llama-nano --steps=$steps --checkpoint_every=1 --resume=auto; done
good info --model=llama-nano
refused 'the folder of that name is ./llama-nano' generate --model=llama-nano
refused 'the folder of that name is ./llama-nano' eval --model=llama-nano --data='s_val_*.bin' "${small[@]}"
refused 'the folder of that name is ./llama-nano' export --model=llama-nano --out=unmade
refused 'preset, which has no weights' export --model=qwen3-nano --out=unmade
cp -r run_gpt2/step_00000006 gpt2-nano
for verb in 'info' 'generate' 'export --out=unmade' 'eval --data=s_val_*.bin --seq_len=32' "train ${data[*]} ${small[*]} --out=unmade"; do
    set -f
    # shellcheck disable=SC2086  # a verb with its options
    refused 'name of a preset, and of a folder with a model in it: write ./gpt2-nano' $verb --model=gpt2-nano
    set +f
done
good info --model=./gpt2-nano
good generate --model=gpt2-nano/ --tokens=1
rm -r gpt2-nano llama-nano
# config.json: values of another type are refused by name, and a head that is none.
for change in 's/"n_embd": 64/"n_embd": "64"/' 's/"n_embd": 64/"n_embd": 64.0/' 's/"n_embd": 64/"n_embd": 64, "n_embd": 64/' 's/"n_embd": 64/"n_embd": 1e999/'; do
    rm -rf wrong && cp -r run_gpt2/step_00000006 wrong && sed -i "$change" wrong/config.json
    rm wrong/run.json # with its checksums
    for verb in 'info' 'generate' 'export --out=unmade' 'eval --data=s_val_*.bin --seq_len=32'; do
        # shellcheck disable=SC2086  # a verb with its options
        refused 'wrong/config.json: "n_embd" (is|stands there twice)' $verb --model=wrong
    done
done
# The shapes are those of the file, or no memory is taken: 1 GiB for this embedding.
mkdir huge && sed 's/"vocab_size": [0-9]*/"vocab_size": 4194304/' run_llama/step_00000006/config.json >huge/config.json
cp run_llama/step_00000006/model.safetensors run_llama/step_00000006/tokenizer.json huge/
for verb in 'generate' 'eval --data=s_val_*.bin --seq_len=32' "train ${data[*]} ${small[*]} --out=run_huge"; do
    set -f
    if [ -z "$RUNNER" ] && [ "$SANITIZE" != 1 ]; then ulimit -S -v 3000000; fi
    # shellcheck disable=SC2086  # a verb with its options
    refused 'embed_tokens.weight has the shape' $verb --model=huge
    ulimit -S -v unlimited
    set +f
done
# Products of options that nobody can count.
refused '4294967296 micro-batches' train "${data[@]}" --batch_size=1 --seq_len=32 --total_batch_tokens=137438953472 --model=llama-nano --out=unmade
refused 'not a multiple.*take 64' train "${data[@]}" "${small[@]}" --total_batch_tokens=16 --model=llama-nano --out=unmade
refused 'steps=549755813888 x 34359738368 tokens' train "${data[@]}" "${small[@]}" --total_batch_tokens=34359738368 --steps=549755813888 --model=llama-nano --out=unmade
refused 'batch_size=1048576 x --seq_len=16777216 x 4 heads' info --model=llama-nano --batch_size=1048576 --seq_len=16777216
refused 'master_weights' train "${data[@]}" "${small[@]}" --master_weights=none --model=llama-nano --out=run_masters
refused 'vocab_size=1024 is for presets' info --model=run_gpt2/step_00000006 --vocab_size=1024
LLMC_SHARDS=tensor refused 'LLMC_SHARDS=tensor' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_masters
SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_PROCID=x SLURM_STEP_NUM_TASKS=2 refused 'SLURM_PROCID=x: expected a whole number' generate --model=run_gpt2/step_00000006
rm -rf wrong
cp -r run_gpt2/step_00000006 cut && truncate -s -1000 cut/model.safetensors
refused 'cut/model.safetensors' generate --model=cut --prompt=x
cp -r run_gpt2/step_00000006 wrong && sed -i 's/"n_embd": 64/"n_embd": 128/' wrong/config.json
refused 'wrong/config.json.*the checkpoint is damaged' generate --model=wrong --prompt=x
rm wrong/run.json # with its checksums
refused 'shape' generate --model=wrong --prompt=x
cp -r run_gpt2/step_00000006 lost && rm lost/tokenizer.json
refused 'tokenizer.json' generate --model=lost --prompt=x
refused 'learned positions|positions' train "${data[@]}" --batch_size=1 --seq_len=64 --model=run_gpt2/step_00000006 --out=unmade
refused 'positions' eval --model=run_gpt2/step_00000006 --data='s_val_*.bin' --seq_len=64
cp -r run_llama/step_00000006 dynamic && rm dynamic/run.json
sed -i 's/"rope_type": "default"/"rope_type": "dynamic", "factor": 2.0/' dynamic/config.json
refused 'rope_type "dynamic" turns by angles' train "${data[@]}" --batch_size=1 --seq_len=64 --model=dynamic --out=unmade
good train "${data[@]}" "${small[@]}" --steps=1 --model=dynamic --out=run_dynamic
if grep -q '"dynamic", "factor": 2' run_dynamic/step_00000001/config.json; then ok; else bad "a model with dynamic scaling loses it"; fi

# ---- shards
refused 'no such file' train --train_data='none*.bin' --val_data='s_val_*.bin' --tokenizer=tok/tokenizer.json "${small[@]}" --model=llama-nano --out=unmade
refused 'sequence|tokens' train "${data[@]}" --batch_size=1 --seq_len=60000 --model=llama-nano --out=unmade
refused 'not a shard|header' train --train_data="$sample" --val_data='s_val_*.bin' --tokenizer=tok/tokenizer.json "${small[@]}" --model=llama-nano --out=unmade
good bpe --input="$sample" --vocab_size=640 --out=other.json
refused 'another tokenizer' train --train_data='s_train_*.bin' --val_data='s_val_*.bin' --tokenizer=other.json "${small[@]}" --model=llama-nano --out=unmade
cp s_train_00000.bin cut.bin && truncate -s -10 cut.bin
refused 'cut.bin' train --train_data=cut.bin --val_data='s_val_*.bin' --tokenizer=tok/tokenizer.json "${small[@]}" --model=llama-nano --out=unmade
cp s_train_00000.bin damaged.bin && printf '\xff\xff\xff\xff' | dd of=damaged.bin bs=1 seek=5000 conv=notrunc 2>/dev/null
refused 'damaged.bin.*checksum' info --data=damaged.bin --seq_len=32
refused 'multiple' train "${data[@]}" "${small[@]}" --total_batch_tokens=100 --model=llama-nano --out=unmade
damage() { cp "s_$1_00000.bin" keep.bin && printf '\x01' | dd of="s_$1_00000.bin" bs=1 seek=1500 conv=notrunc 2>/dev/null; }
for side in train val; do
    damage $side
    refused "s_${side}_00000.bin is damaged.*checksum" train "${data[@]}" "${small[@]}" --model=llama-nano --out=unmade
    refused "s_${side}_00000.bin is damaged.*checksum" eval --model=run_llama/step_00000006 --data="s_${side}_*.bin" "${small[@]}"
    refused "s_${side}_00000.bin is damaged.*checksum" dump --model=run_llama/step_00000006 --data="s_${side}_*.bin" "${small[@]}" --out=dump.safetensors
    good eval --model=run_llama/step_00000006 --data="s_${side}_*.bin" "${small[@]}" --verify=off
    mv keep.bin s_${side}_00000.bin
done
rm -rf unmade # it has no checkpoint
good train "${data[@]}" "${small[@]}" --model=llama-nano --steps=1 --val_every=0 --verify=off --out=run_unverified
if grep -q 'verify=off: the checksums of what is read were not looked at' run_unverified/run.log; then ok; else bad 'run.log does not speak of --verify=off'; fi
# validation among the training shards, under its own name, as a link and as a copy
ln s_val_00000.bin linked.bin && cp s_val_00000.bin copied.bin
for glob in 's_*.bin' 's_train_00000.bin,s_val_00000.bin' 's_train_*.bin,linked.bin' 's_train_*.bin,copied.bin'; do
    refused 'the same tokens as s_val_00000.bin' train --train_data="$glob" --val_data='s_val_*.bin' --tokenizer=tok/tokenizer.json "${small[@]}" --model=llama-nano --out=unmade
done
# sets of shards: mixed, incomplete, and small ones
half=$(mktemp -p .) && head -c 30000 "$sample" >"$half"
warned 'shard_tokens=4096' "${tokenize[@]}" --input="$sample" --doc_split=formfeed --val_fraction=0.1 --shard_tokens=4096 --out=many
good info --data='many_*.bin' --seq_len=32
many=(--train_data='many_train_*.bin' --val_data='many_val_*.bin' --tokenizer=tok/tokenizer.json --model=llama-nano --out=unmade)
mv many_train_00003.bin aside.bin
refused 'many_train_00003.bin.*missing|number 3 is missing' train "${many[@]}" "${small[@]}"
good info --data=many_train_00001.bin --seq_len=32
warned 'shard_tokens=4096' "${tokenize[@]}" --input="$half" --doc_split=formfeed --val_fraction=0.1 --shard_tokens=4096 --out=fewer
cp fewer_train_00001.bin many_train_00003.bin
refused 'different runs of tokenize' train "${many[@]}" "${small[@]}"
refused 'different runs of tokenize' eval --model=run_llama/step_00000006 --data='many_train_*.bin' "${small[@]}"
refused 'different runs of tokenize' eval --model=run_llama/step_00000006 --data="many_train_00000.bin,$PWD/many_train_00003.bin" "${small[@]}"
mv aside.bin many_train_00003.bin && cp fewer_val_00000.bin many_val_00000.bin
refused 'different runs of tokenize' train "${many[@]}" "${small[@]}"
absent unmade
# what is dropped, and a batch above all that there is, are said
warned '3[0-9]% of the training tokens are not used' train --train_data='fewer_train_*.bin' --val_data='s_train_*.bin' --tokenizer=tok/tokenizer.json --model=llama-nano --batch_size=1 --seq_len=1500 --val_every=0 --steps=1 --out=run_dropped
warned 's_train_00000.bin is among the training shards twice' train --train_data='s_train_*.bin,s_train_00000.bin' --val_data='s_val_*.bin' --tokenizer=tok/tokenizer.json --model=llama-nano "${small[@]}" --steps=1 --out=run_twice
warned 'a step takes 4096 sequences' train "${data[@]}" --model=llama-nano --batch_size=4 --seq_len=13 --total_batch_tokens=$((4096 * 13)) --steps=1 --val_every=0 --out=run_large

# ---- run folders
refused 'another run' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_llama --steps=6
refused 'another model.*family differs' train "${data[@]}" "${small[@]}" --model=qwen3-nano --out=run_llama --steps=6 --resume=auto
cp -r run_llama run_other
for change in 's/num_key_value_heads": 2/num_key_value_heads": 4/' 's/word_embeddings": true/word_embeddings": false/'; do
    sed "$change" run_llama/step_00000006/config.json >run_other/step_00000006/config.json
    refused 'config.json.*the checkpoint is damaged' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_other --steps=6 --resume=auto
    refused 'another model.*(kv_heads|tied) differs' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_other --steps=6 --resume=auto --verify=off
done
refused 'another --seed' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_llama --steps=8 --resume=auto --seed=9
refused 'another --seq_len' train "${data[@]}" --batch_size=2 --seq_len=16 --model=llama-nano --out=run_llama --steps=8 --resume=auto
refused 'another training data' train --train_data='s_blank_train_*.bin' --val_data='s_val_*.bin' --tokenizer=tok/tokenizer.json "${small[@]}" --model=llama-nano --out=run_llama --steps=8 --resume=auto
cp -r run_llama run_cut && truncate -s -8 run_cut/step_00000006/optimizer-*.safetensors
refused 'run_cut/step_00000006.*(damaged|bytes).*rename or remove' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_cut --steps=8 --resume=auto
cp -r run_llama run_damaged && printf 'x' | dd of=run_damaged/step_00000006/model.safetensors bs=1 seek=20000 conv=notrunc 2>/dev/null
refused 'checksum.*rename or remove' train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_damaged --steps=8 --resume=auto
rm -rf run_damaged/step_00000006
good train "${data[@]}" "${small[@]}" --model=llama-nano --out=run_damaged --steps=6 --resume=auto --val_every=3 --sample_every=5 --tokens=8 --checkpoint_every=2 --keep_checkpoints=2
if cmp -s run_damaged/step_00000006/model.safetensors run_llama/step_00000006/model.safetensors; then ok; else bad "going on from the checkpoint before gives other weights"; fi
touch plain
refused 'not a folder|Not a directory|File exists' train "${data[@]}" "${small[@]}" --model=llama-nano --out=plain

# ---- standard output that cannot be written: a full disk, or none. What was computed is there all the same.
unheard() { # unheard FILES VERB...: exit code 1 and one error, with standard output on a full disk; then with none
    local files=$1 code how
    shift
    for how in /dev/full closed; do
        # shellcheck disable=SC2086  # FILES is a list
        rm -rf $files
        if [ $how = closed ]; then "${program[@]}" "$@" 2>err >&- </dev/null; else "${program[@]}" "$@" 2>err >$how </dev/null; fi
        code=$?
        if [ $code -ne 1 ] || [ "$(grep -c '^error: not all that was printed could be written to standard output' err)" -ne 1 ] || [ "$(wc -l <err)" -gt 2 ]; then
            bad "standard output $how: exit $code of $*: $(head -n 3 err)"
        else ok; fi
        # shellcheck disable=SC2086
        if [ -z "$files" ] || ls -d $files >/dev/null; then ok; else bad "standard output $how: $* did not make $files"; fi
    done
}
if [ -c /dev/full ]; then
    unheard '' --help
    unheard '' eval --help
    unheard '' train --print_options
    unheard '' train --print_options=steps
    unheard '' info
    unheard '' info --json
    unheard '' info --model=llama-nano
    unheard unheard.json bpe --input="$sample" --vocab_size=512 --out=unheard.json
    unheard unheard_train_00000.bin tokenize --tokenizer=tok/tokenizer.json --input="$sample" --out=unheard
    unheard '' eval --model=run_llama/step_00000006 --data='s_val_*.bin' "${small[@]}"
    unheard '' generate --model=run_llama/step_00000006 --tokens=1
    unheard '' generate --model=run_llama/step_00000006 --tokens=200 --samples=2
    unheard unheard.safetensors dump --model=run_llama/step_00000006 --data='s_val_*.bin' --batch_size=2 --seq_len=13 --out=unheard.safetensors
    unheard unheard.gguf export --model=run_llama/step_00000006 --out=unheard.gguf
    unheard unheard_run train "${data[@]}" "${small[@]}" --model=llama-nano --out=unheard_run --steps=4 --val_every=2 --sample_every=2
    if [ "$(wc -l <unheard_run/metrics.jsonl)" -eq 4 ] && [ -d unheard_run/step_00000004 ] && grep -q '^finished: 4 steps' unheard_run/run.log; then ok; else bad "a run that nobody hears: $(tail -n 1 unheard_run/run.log)"; fi
fi

# ---- disk full: a file system of 700 kB
if mkdir small && mount -t tmpfs -o size=700k none small 2>/dev/null; then
    # Before a run it is told that the checkpoints will not fit; what happens in the middle of one: survive_test.sh.
    refused 'has room for .* more checkpoints' train "${data[@]}" "${small[@]}" --model=llama-nano --out=small/r --steps=2 --checkpoint_every=1
    if compgen -G 'small/r/step_*' >/dev/null; then bad "a half-written checkpoint: $(ls small/r)"; else ok; fi
    dd if=/dev/zero of=small/fill bs=1k 2>/dev/null
    refused 'No space left' tokenize --tokenizer=tok/tokenizer.json --input="$sample" --out=small/s
    refused 'No space left' dump --model=run_llama/step_00000006 --data='s_val_*.bin' --batch_size=2 --seq_len=13 --out=small/d
    refused 'No space left' export --model=run_llama/step_00000006 --out=small/g
    refused 'No space left' bpe --input="$sample" --vocab_size=512 --out=small/t.json
    absent small/s_ small/.s small/d small/g small/t.json
    umount small
else echo 'SKIPPED cli_test.sh, a full disk: no file system may be mounted here'; fi

printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
