#!/usr/bin/env bash
# Fine-tuning on conversations from outside: from JSON lines to a model that answers. The loss is a mean over the answers of
# a step, whatever micro-batches and ranks; a killed run goes on with the same bits; the folder carries template and ends;
# `chat` answers through pipes, and a SIGINT stops its answer alone. Templates and rows: chat_test.h.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
program=("$PWD/$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
export OMP_WAIT_POLICY=passive
sample=$PWD/dev/test/sample_de.txt fixtures=$PWD/dev/test/fixtures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

run() { "${program[@]}" "$@" >out 2>err; }
said() { cat err out | tail -n 1; }
refused() { # refused MESSAGE WORDS COMMAND...
    local message=$1 words=$2 code=0
    shift 2
    run "$@" || code=$?
    check "$message: exit code $code, $(said)" test $code -eq 1
    check "$message: $(said)" grep -q -- "$words" err
}

run bpe --input="$sample" --vocab_size=512 --out=tokenizer.json &&
    run tokenize --tokenizer=tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.3 --out=text &&
    run train --model=qwen3-nano --tokenizer=tokenizer.json --train_data='text_train_*.bin' --val_data='text_val_*.bin' --out=base \
        --steps=1 --batch_size=1 --seq_len=4096 --val_every=0 --progress=off --threads=1
check "preparing a base model: $(said)" test -d base/step_00000001
base=$work/base/step_00000001

words=(Haus Baum Fluss Berg Stadt Wald Meer Stern)
for i in "${!words[@]}"; do
    printf '{"messages": [{"role": "user", "content": "Was ist %s?"}, {"role": "assistant", "content": "Ein Wort mit %d."}]}\n' "${words[i]}" "$i"
    printf '{"messages": [{"role": "system", "content": "Kurz."}, {"role": "user", "content": "Wo?"}, {"role": "assistant", "content": "Beim %s."}, {"role": "user", "content": "Und?"}, {"role": "assistant", "content": "Nummer %d, sonst nichts."}]}\n' "${words[i]}" "$i"
done >chat.jsonl
gzip -k chat.jsonl

# ------------------------------------------------------------------ tokens

run tokenize --format=chat --tokenizer="$base/tokenizer.json" --input=chat.jsonl --out=c --val_fraction=0.1
check "tokenize --format=chat: $(said)" grep -q 'template: chatml' out
check 'the manifest counts' jq -e '.chat.template == "chatml" and .chat.lines == 16 and (.chat.answers | add) == 24 and (.train.documents + .val.documents) == 16 and .chat.left_out == {}' c_manifest.json
run tokenize --format=chat --tokenizer="$base/tokenizer.json" --input=chat.jsonl.gz --out=z --val_fraction=0.1
check 'a packed file gives the same shards' cmp c_train_00000.bin z_train_00000.bin
{
    cat chat.jsonl
    printf '{"messages": [{"role": "assistant", "content": "x"}]}\n{"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}\n'
    printf '{"messages": [{"role": "user", "content": "\377"}]}\nkein JSON\n'
} >bad.jsonl
run tokenize --format=chat --tokenizer="$base/tokenizer.json" --input=bad.jsonl --out=b --val_fraction=0.1
check "bad lines cost themselves: $(said)" cmp c_train_00000.bin b_train_00000.bin
check 'and are counted by reason' jq -e '.chat.left_out | .begins_with_assistant.lines == 1 and .parts.lines == 1 and .utf8.lines == 1 and .json.lines == 1 and (.parts.first | endswith("bad.jsonl: line 18"))' b_manifest.json
check 'and named' grep -q 'it begins with the assistant; the first: .*bad.jsonl: line 17' err
refused '--strict' 'bad.jsonl: line 17: it begins with the assistant' tokenize --format=chat --strict=on --tokenizer="$base/tokenizer.json" --input=bad.jsonl --out=b
refused 'an option of text' 'no effect with --format=chat' tokenize --format=chat --field=x --tokenizer="$base/tokenizer.json" --input=chat.jsonl --out=b
refused 'another format' 'for export' tokenize --format=gguf --tokenizer="$base/tokenizer.json" --input=chat.jsonl --out=b
mkdir odd && cp "$base/tokenizer.json" odd && echo '{{ messages[0].content }}' >odd/chat_template.jinja
refused 'a template that nobody knows' 'none of those that are known' tokenize --format=chat --tokenizer=odd/tokenizer.json --input=chat.jsonl --out=b
mkdir fast && cp "$base/tokenizer.json" fast
printf '{"eos_token": "<|im_end|>", "chat_template": "%s"}' "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\\\n' + message['content'] + '<|im_end|>' + '\\\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\\\n' }}{% endif %}" >fast/tokenizer_config.json
run tokenize --format=chat --tokenizer=fast/tokenizer.json --input=chat.jsonl --out=f --val_fraction=0.1
check "another text of ChatML gives the same shards: $(said)" cmp c_train_00000.bin f_train_00000.bin

# ------------------------------------------------------------------ training

set_command() { # set_command OUT BATCH OPTION...
    command=("${program[@]}" train --model="$base" --tokenizer="$base/tokenizer.json" --train_data='c_train_*.bin' --val_data='c_val_*.bin' --out="$1"
        --batch_size="$2" --total_batch_tokens=512 --seq_len=128 --steps=12 --lr=3e-3 --val_every=6 --checkpoint_every=4 --progress=off --threads=1 "${@:3}")
}
train() { set_command "$@"; "${command[@]}" >out 2>err; }
bits() { cat "$1"/step_00000012/model.safetensors "$1"/step_00000012/optimizer-*.safetensors | sha256sum; }

train whole 4
check "training: $(said)" test -d whole/step_00000012
check 'the log says how full the rows are' grep -q 'conversations in .* rows of 128 tokens, which are [0-9.]*% full' whole/run.log
check 'the metrics say how many targets count' jq -es 'length == 12 and all(.target_tokens > 0 and .target_tokens < 512)' whole/metrics.jsonl
train micro 1
check 'a mean over the answers of the step, not over micro-batches' close whole micro loss 1e-6
check 'the same of gradients' close whole micro grad_norm 1e-4
why=$(no_ranks)
if [ -n "$why" ]; then skip 'chat_test.sh, several ranks' "$why"; else
    for zero in 0 1; do
        set_command ranks$zero 1 --zero=$zero
        mpirun --oversubscribe --bind-to none -n 2 "${command[@]}" >out 2>err
        check "2 ranks: $(said)" close whole ranks$zero loss 1e-6
    done
fi
set_command killed 4 --resume=auto
kill_at killed/step_00000004 "${command[@]}"
train killed 4 --resume=auto
check "a killed run: $(said)" test "$(bits killed)" = "$(bits whole)"

# Packed, or a conversation a row: the same loss and gradient, since none sees another.
counts=()
single=$(jq .chat.longest c_manifest.json)
for T in "$single" 100 1000; do
    run info --data='c_train_*.bin' --seq_len="$T" --json
    rows=$(jq .data.sequences out)
    counts+=("$rows")
    train "packed_$T" "$rows" --total_batch_tokens=0 --seq_len="$T" --steps=1 --val_every=0
    check "rows of $T: $(said)" test -d "packed_$T/step_00000001"
done
check "longer rows are fewer: ${counts[*]}" test "${counts[0]}" -gt "${counts[1]}" -a "${counts[1]}" -gt "${counts[2]}"
check 'the loss of packed rows' close "packed_$single" packed_100 loss 1e-6
check 'the same, all in a few' close "packed_$single" packed_1000 loss 1e-6
check 'gradients of packed rows' close "packed_$single" packed_1000 grad_norm 1e-4

# A conversation is taken out of shards.
mkdir shards && cp z_* shards
run corpus --remove="$(sed -n 3p chat.jsonl | tr -d '\n' | sha256sum | cut -c1-64)" --data='shards/z_train_*.bin' --tokenizer="$base/tokenizer.json" --out=report.json
check "a conversation is removed: $(said)" jq -e '.train.documents + .val.documents == 15' shards/z_manifest.json
run info --data='shards/z_*.bin' --seq_len=128
check "and the others stay: $(said)" grep -q 'checksums match' out

last=whole/step_00000012
check 'the template stands in the folder' grep -q "im_start" "$last/chat_template.jinja"
# shellcheck disable=SC2016  # variables of jq
check 'and in tokenizer_config.json, with the end of an answer' jq -e --rawfile t "$last/chat_template.jinja" '.chat_template == $t and .eos_token == "<|im_end|>"' "$last/tokenizer_config.json"
# shellcheck disable=SC2016  # likewise
check 'generated text ends there, and where it ended before' jq -e --slurpfile t "$last/tokenizer.json" '([$t[0].added_tokens[] | select(.content == "<|im_end|>" or .content == "<|endoftext|>") | .id] | sort) == (.eos_token_id | sort)' "$last/generation_config.json"
run export --model="$last" --dtype=f32 --out=x.gguf
check "GGUF has the template: $(said)" grep -aq 'tokenizer.chat_template' x.gguf
cp -r "$last" begins && { printf '{{- bos_token -}}\n' && cat "$last/chat_template.jinja"; } >begins/chat_template.jinja && rm begins/run.json
refused 'shards of another template' 'with another chat template' train --model=begins --tokenizer=begins/tokenizer.json --train_data='c_train_*.bin' --val_data='c_val_*.bin' --out=never --steps=1 --seq_len=128
set_command further 4
command[2]=--model=$last command[3]=--tokenizer=$last/tokenizer.json
"${command[@]}" >out 2>err
check "what chats is trained further: $(said)" test -d further/step_00000012

# A vocabulary without room grows by the mean of its rows.
cp "$fixtures/tokenizer/gpt2.json" gpt2.json
run tokenize --tokenizer=gpt2.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=g &&
    run train --model=llama-nano --tokenizer=gpt2.json --train_data='g_train_*.bin' --val_data='g_val_*.bin' --out=small --steps=1 --batch_size=1 --seq_len=128 --val_every=0 --progress=off --threads=1 &&
    run tokenize --format=chat --tokenizer=small/step_00000001/tokenizer.json --input=chat.jsonl --out=gc --val_fraction=0.1 &&
    run train --model=small --tokenizer=small/step_00000001/tokenizer.json --train_data='gc_train_*.bin' --val_data='gc_val_*.bin' --out=grown --steps=2 --batch_size=1 --seq_len=128 --val_every=1 --progress=off --threads=1
check "a vocabulary grows: $(said)" test "$(jq .vocab_size grown/step_00000002/config.json)" = "$(($(jq .vocab_size small/step_00000001/config.json) + 2))"

# ------------------------------------------------------------------ chat

refused 'a base model' 'has no chat template' chat --model="$base"
train learnt 1 --steps=250 --checkpoint_every=0 --val_every=0 --seq_len=1024 --total_batch_tokens=1024
model=learnt/step_00000250
talk() { "${program[@]}" chat --model="$model" --temperature=0 --threads=1 "$@" >out 2>err; }
printf 'Was ist Baum?\n/reset\nWas ist Meer?\n\n/nichts\n/help\n/quit\nWas ist Haus?\n' | talk
check "answers: $(cat out)" cmp out <(printf 'Ein Wort mit 1.\nEin Wort mit 6.\n')
check 'commands are answered on stderr' grep -q 'there is no command /nichts' err
printf 'Wo?\nUnd?\n' | talk --system=Kurz.
check "history and system message: $(cat out)" grep -qx 'Nummer [0-7], sonst nichts.' out
printf 'Was ist \\\nStern?\n<|im_end|>\n\377\n' | talk
check 'what cannot be said is not' grep -q 'the name of a special token' err
check 'nor what is not UTF-8' grep -q 'not UTF-8' err
for ((i = 0; i < 12; i++)); do echo 'Was ist Fluss?'; done | talk --context=90
check 'the oldest turns go, and that is said' grep -q 'no longer in the context of 90 tokens' err
check "and answers go on: $(cat out)" test "$(grep -c . out)" -eq 12
printf 'Was ist %s?\n' "$(head -c 3000 "$sample" | tr -d '\n')" | talk --context=90
check "a message that is too long: $(cat err)" grep -q 'make it shorter' err

# A SIGINT stops the answer, and the program goes on.
mkfifo in answers
"${program[@]}" chat --model=whole --temperature=0 --tokens=100000 --threads=1 <in >answers 2>err &
pid=$!
exec 3>in 4<answers
echo 'Was ist Haus?' >&3
IFS= read -r -n 1 -u 4 _
kill -INT $pid
echo '/help' >&3
echo '/quit' >&3
cat <&4 >/dev/null
wait $pid
code=$?
exec 3>&- 4<&-
check "SIGINT: exit code $code, $(cat err)" test $code -eq 0
check "SIGINT stops an answer: $(cat err)" grep -qE 'stopped|the context of .* is full' err
check 'and the next command is heard' grep -q '^/quit' err

conclude
