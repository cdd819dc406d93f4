#!/usr/bin/env bash
# One tokenizer from end to end: what a model's folder says of it is obeyed by every verb, and stands in the checkpoint
# of a run that starts from the folder. And GPT-2's pattern on documents that are cut: the tokens of a text are those of
# its parts.
# shellcheck disable=SC2016,SC2059  # the $ of jq; bytes as printf escapes
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
program=("$PWD/$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
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
tokens() { # tokens SHARD: its ids, two bytes each, a line for each
    od -An -v -t u2 -w2 -j 1024 "$1" | tr -d ' '
}

# ---- a folder with ends, a beginning and a chat template of its own
run bpe --input="$sample" --vocab_size=512 --out=plain/tokenizer.json
run tokenize --tokenizer=plain/tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=p
data=(--train_data='p_train_*.bin' --val_data='p_val_*.bin' --tokenizer=plain/tokenizer.json)
small=(--batch_size=2 --seq_len=32 --val_every=0 --progress=off)
check "train" run train "${data[@]}" "${small[@]}" --model=llama-nano --steps=1 --out=base
mkdir chat
for file in config.json model.safetensors model.safetensors.index.json; do cp base/step_00000001/$file chat; done
# <|reserved_0|> (500) begins every text; 496 <|endoftext|>, 498 <|im_end|>
jq '.added_tokens[4].content = "<|begin|>" | .post_processor = {type: "TemplateProcessing",
    single: [{SpecialToken: {id: "<|begin|>"}}, {Sequence: {id: "A"}}],
    special_tokens: {"<|begin|>": {ids: [500]}}}' plain/tokenizer.json >chat/tokenizer.json
echo '{"bos_token": "<|begin|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": "{{ messages }} ä"}' >chat/tokenizer_config.json
echo '{"eos_token": "<|im_end|>"}' >chat/special_tokens_map.json
echo '{"eos_token_id": [498, 496], "temperature": 0.6}' >chat/generation_config.json
echo '{{ messages }} of a file' >chat/chat_template.jinja
mkdir chat/additional_chat_templates
echo '{{ tools }}' >chat/additional_chat_templates/tool.jinja
jq '.bos_token_id = 500 | .eos_token_id = [498, 496]' chat/config.json >config && mv config chat/config.json

check "tokenize with a folder's tokenizer" run tokenize --tokenizer=chat/tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=c
cat p_train_00000.bin >plain.bin
check "every document begins and ends as the folder says" is \
    "$(tokens c_train_00000.bin | tr '\n' ' ')" \
    "500 $(tokens plain.bin | sed '$!s/^496$/498\n500/; $s/496/498/' | tr '\n' ' ')"
chat=(--model=chat --tokenizer=chat/tokenizer.json --train_data='c_train_*.bin' --val_data='c_val_*.bin')
check "train from the folder" run train "${chat[@]}" "${small[@]}" --steps=2 --checkpoint_every=1 --out=tuned
model=tuned/step_00000002
for file in tokenizer.json tokenizer_config.json special_tokens_map.json generation_config.json chat_template.jinja additional_chat_templates/tool.jinja; do
    check "$file of the checkpoint is not that of the folder" cmp chat/$file $model/$file
    # shellcheck disable=SC2016  # $file is jq's
    check "$file has no checksum" jq -e --arg file $file '.files[$file].bytes > 0' $model/run.json
done
check "config.json's ids" is "$(jq -c '[.bos_token_id, .eos_token_id]' $model/config.json)" '[500,[498,496]]'
check "train from the checkpoint" run train "${chat[@]}" --model=$model "${small[@]}" --steps=1 --out=again
check "a checkpoint's checkpoint keeps them, too" cmp chat/chat_template.jinja again/step_00000001/chat_template.jinja
check "eval" run eval --model=$model --data='c_val_*.bin' --seq_len=32
check "export" run export --model=$model --out=chat.gguf
check "the chat template in the GGUF file" grep -q 'messages }} of a file' chat.gguf
check "and the one of a name" grep -q 'tokenizer.chat_template.tool.*{{ tools }}' <(tr '\0\n' '  ' <chat.gguf)
check "generate" run generate --model=$model --prompt=Der --tokens=3

# ---- tokenizers that are not the model's
check "eval of another tokenizer's shards" refused 'another tokenizer' eval --model=$model --data='p_val_*.bin' --seq_len=32
check "dump of another tokenizer's shards" refused 'another tokenizer' dump --model=$model --data='p_val_*.bin' --batch_size=1 --seq_len=8 --out=d.safetensors
check "train from a folder with another tokenizer" refused "not the one that the model chat was trained with" train "${data[@]}" "${small[@]}" --model=chat --steps=1 --out=other
check "nothing of it" test ! -e other
# shards of llm.c do not say what made them: a resume looks at the checkpoint
{
    printf '\x88\xd8\x34\x01\x01\0\0\0\0\x04\0\0' # 20240520, 1, 1024 tokens
    head -c 1012 /dev/zero
    # shellcheck disable=SC2059  # the bytes are the format
    tokens plain.bin | head -n 1024 | while read -r id; do printf "\\x$(printf %02x $((id % 256)))\\x$(printf %02x $((id / 256)))"; done
} >llmc.bin
llmc=(--train_data=llmc.bin --val_data=llmc.bin --model=llama-nano "${small[@]}" --out=llmc --resume=auto)
check "shards of llm.c" run train "${llmc[@]}" --tokenizer=plain/tokenizer.json --steps=1
check "a resume with another tokenizer" refused 'has another tokenizer than --tokenizer=chat/tokenizer.json' train "${llmc[@]}" --tokenizer=chat/tokenizer.json --steps=2
check "shards that do not say what ends a document" is "$(jq .eos_token_id llmc/step_00000001/config.json)" 496
check "a resume with the same one" run train "${llmc[@]}" --tokenizer=plain/tokenizer.json --steps=2

# ---- ends that files do not name
jq '(.added_tokens[0].content) = "<ende>" | .added_tokens[2].content = "<|x|>"' plain/tokenizer.json >none.json
check "no end" refused 'name it by --end_token=NAME' tokenize --tokenizer=none.json --input="$sample" --out=n
check "an end that is not there" refused 'no token of this name' tokenize --tokenizer=none.json --input="$sample" --out=n --end_token='<eos>'
check "--end_token" run tokenize --tokenizer=none.json --input="$sample" --out=n --end_token='<ende>'
check "a run takes the end from its shards" run train "${small[@]}" --model=llama-nano --train_data='n_train_*.bin' --val_data='n_val_*.bin' --tokenizer=none.json --steps=1 --out=none
check "and writes it" is "$(jq -r .eos_token none/step_00000001/tokenizer_config.json) $(jq .eos_token_id none/step_00000001/config.json none/step_00000001/generation_config.json | tr '\n' ' ')" "<ende> 496 496 "
check "an end that is none of the folder's" refused 'leave the option out' tokenize --tokenizer=chat/tokenizer.json --input="$sample" --out=w --end_token='<|im_start|>'
jq '.eos_token = "<eos>"' chat/tokenizer_config.json >config && mv config chat/tokenizer_config.json
check "an end that the tokenizer has not" refused '<eos>, which tokenizer.json has not' train "${chat[@]}" "${small[@]}" --steps=1 --out=eos

# ---- GPT-2's pattern: a document of 500 kB has the tokens of its paragraphs
jq '.pre_tokenizer = {type: "ByteLevel", add_prefix_space: false, use_regex: true}' plain/tokenizer.json >gpt2.json
check "no token of two line feeds: the test tests nothing" grep -q '"ĊĊ": ' gpt2.json
paragraph='Ein Satz auf Deutsch, der eine Zeile bildet.'
for i in 1 2; do printf '%s\n\n' "$paragraph"; done >two.txt
for ((i = 0; i < 12000; i++)); do printf '%s\n\n' "$paragraph"; done >long.txt
check "tokenize two.txt" run tokenize --tokenizer=gpt2.json --input=two.txt --doc_split=file --val_fraction=0 --out=two
check "tokenize long.txt" run tokenize --tokenizer=gpt2.json --input=long.txt --doc_split=file --val_fraction=0 --out=long
# two: a paragraph, its blank line, a paragraph, the end
n=$(tokens two_train_00000.bin | wc -l) one=$(((n - 1 - 2) / 2 + 2))
check "a cut changes tokens" is "$(tokens long_train_00000.bin | wc -l)" $((12000 * one - 2 + 1))
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
