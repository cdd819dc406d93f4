#!/usr/bin/env bash
# quickstart.sh: from nothing to a small German GPT: tools, program, corpus, tokenizer, training, samples, a plot.
#
#   scripts/quickstart.sh [--minutes=N] [--offline] [--out=DIR] [--model=PRESET] [--vocab_size=N] [--config=FILE]
#
#   --minutes=N      how long to train (default 5; the whole takes about two minutes more)
#   --offline        fetch nothing: train on the small sample text of this repository
#   --out=DIR        where everything goes (default: run/quickstart in this repository)
#   --model=PRESET   default qwen3-3M; train_gpt_cpu info --model=PRESET says what it is and costs
#   --vocab_size=N   default 8192 (2048 for the sample text)
#   --config=FILE    options of train (default: scripts/quickstart.conf, whose learning rates are those of qwen3-3M; for
#                    another model they are found by --lr=auto)
#   --chat           second act: teach the model to answer, on scripts/chat/debian_de.jsonl (about a minute), and talk with it
#   --program=FILE   use this program, say ./train_gpt, and build none
#
# Each stage leaves its finished work behind; run again, it goes on where it stopped, also in the
# middle of training. Ctrl-C while training writes a checkpoint first. Ends with 0: all done;
# 1: an error, with what to do; 3: stopped while training, with a checkpoint; 130: stopped elsewhere.
set -euo pipefail

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

minutes=5 offline=0 out=$root/run/quickstart model=qwen3-3M vocab_size="" program="" config="" chat=0
while [ $# -gt 0 ]; do
    word=$1; shift
    case $word in
        --minutes | --out | --model | --vocab_size | --program | --config) [ $# -gt 0 ] || fail "$word needs a value"; word=$word=$1; shift ;;
    esac
    case $word in
        --help | -h) usage; exit 0 ;;
        --minutes=?*) minutes=${word#*=} ;;
        --offline) offline=1 ;;
        --chat) chat=1 ;;
        --out=?*) out=${word#*=} ;;
        --model=?*) model=${word#*=} ;;
        --vocab_size=?*) vocab_size=${word#*=} ;;
        --config=?*) config=$(readlink -f -- "${word#*=}") || fail "$word: there is no such file" ;;
        --program=?*) program=$(readlink -f -- "${word#*=}") || fail "$word: there is no such program" ;;
        *) fail "unknown option '$word'; see quickstart.sh --help" ;;
    esac
done
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ && ! $minutes =~ ^0+(\.0+)?$ ]] || fail "--minutes=$minutes: expected a number above 0"
[[ -z $vocab_size || $vocab_size =~ ^[1-9][0-9]*$ ]] || fail "--vocab_size=$vocab_size: expected a whole number"
mkdir -p -- "$out" || fail "cannot make the folder $out; choose another with --out=DIR"
out=$(cd -- "$out" && pwd)
case $out in
    *[,*?[]*) fail "the folder $out has one of , * ? [ in its name, which lists of files cannot hold; choose another with --out=DIR" ;;
esac

again=$(printf %q "$0")
[ "$minutes" = 5 ] || again+=" --minutes=$minutes"
[ $offline = 0 ] || again+=" --offline"
[ $chat = 0 ] || again+=" --chat"
[ "$out" = "$root/run/quickstart" ] || again+=" --out=$(printf %q "$out")"
[ "$model" = qwen3-3M ] || again+=" --model=$model"
[ -z "$vocab_size" ] || again+=" --vocab_size=$vocab_size"
[ -z "$config" ] || again+=" --config=$(printf %q "$config")"
[ -z "$program" ] || again+=" --program=$(printf %q "$program")"

# Ctrl-C reaches the program that runs, too. While it trains, it finishes its step and writes a
# checkpoint; this script waits for that. Anywhere else the unfinished stage is simply done again.
training=0
interrupted() { [ $training -eq 1 ] || { echo; echo "Stopped. To go on: $again" >&2; exit 130; }; }
trap interrupted INT TERM

stage() { printf '\n[%s] %s\n' "$1" "$2"; }

# ------------------------------------------------------------------ tools and program

stage 1/7 'Tools'
tools=0
parts=(plot)
[ -n "$program" ] || parts+=(build)
[ $offline -eq 1 ] || parts+=(corpus)
"$root/scripts/install.sh" "${parts[@]}" || tools=$?
if [ $tools -ne 0 ]; then
    [ -n "$program" ] || "$root/scripts/install.sh" --check build || exit 1
    if [ $tools -eq 1 ] && [ $offline -eq 0 ]; then
        fail "run the command above, then this script again (or: $0 --offline, which needs no more than gcc and make)"
    fi
    echo 'Going on with what is there.'
fi

stage 2/7 'Program'
if [ -n "$program" ]; then
    [ -x "$program" ] || fail "--program: $program is not a program"
else
    make -C "$root" --no-print-directory train_gpt_cpu
    program=$root/train_gpt_cpu
fi
echo "$program"

# ------------------------------------------------------------------ corpus, tokenizer, shards

stage 3/7 'German text'
corpus=$out/corpus/debian_de.txt
if [ $offline -eq 0 ] && ! [ -s "$out/corpus/manifest.tsv" ]; then
    "$root/scripts/corpus/debian_de.sh" --out="$out/corpus" || {
        echo
        echo '*** No corpus could be fetched (the lines above say why).'
        offline=1
    }
fi
if [ $offline -eq 0 ]; then
    work=$out/debian_de split=formfeed
    vocab_size=${vocab_size:-8192}
else
    echo '*** Training on the small sample text of this repository instead: enough to see that everything'
    echo '*** works, far too little for a model that has learnt German.'
    corpus=$root/dev/test/sample_de.txt work=$out/sample_de split=blank
    if grep -q $'\f' "$corpus"; then split=formfeed; fi
    vocab_size=${vocab_size:-2048}
fi
echo "$corpus: $(stat -c %s "$corpus") bytes"
work=$work-$model-$vocab_size
mkdir -p "$work"
tokenizer=$work/tokenizer.json run=$work/model

stage 4/7 "Tokenizer of $vocab_size tokens"
# A finished stage is one whose stamp names the corpus that is there now.
identity="$(sha256sum <"$corpus" | cut -c1-64) $split"
if [ -e "$run/metrics.jsonl" ] && [ "$(cat "$work/identity" 2>/dev/null)" != "$identity" ]; then
    fail "the corpus is another one than this model was trained on; move $work away, or choose another folder with --out=DIR"
fi
if [ "$(cat "$work/identity" 2>/dev/null)" = "$identity" ] && [ -s "$tokenizer" ]; then
    echo "$tokenizer is there."
else
    rm -f "$work/identity"
    "$program" bpe --input="$corpus" --vocab_size="$vocab_size" --out="$tokenizer"
fi

stage 5/7 'Tokens'
if [ "$(cat "$work/identity" 2>/dev/null)" = "$identity" ]; then
    echo "$work/text_*.bin are there."
else
    "$program" tokenize --tokenizer="$tokenizer" --input="$corpus" --doc_split=$split --val_fraction=0.02 --out="$work/text"
    printf '%s\n' "$identity" >"$work/identity"
fi

# ------------------------------------------------------------------ training

stage 6/7 "Training $model for $minutes minutes"
data=(--train_data="$work/text_train_*.bin" --val_data="$work/text_val_*.bin" --tokenizer="$tokenizer" --model="$model")
if [ -s "$work/train.conf" ]; then
    echo "$work/train.conf is there, with the time that it was planned for."
else
    settings=${config:-$root/scripts/quickstart.conf}
    [ -s "$settings" ] || fail "--config: $settings is not a file with options"
    {
        printf '# Written by quickstart.sh, from %s.\ntime_budget = %s\n' "${settings##*/}" "$minutes"
        if [ -n "$config" ] || [ "$model" = qwen3-3M ]; then sed '/^#/d' "$settings"
        else sed -E '/^(#|lr =|muon_lr =)/d' "$settings" && echo 'lr = auto'; fi
    } >"$work/train.conf.part"
    mv "$work/train.conf.part" "$work/train.conf"
fi
code=0 training=1
"$program" train --config="$work/train.conf" "${data[@]}" --resume=auto --out="$run" || code=$?
training=0
if [ $code -eq 3 ]; then
    echo "Stopped; a checkpoint is in $run. To go on where it stopped: $again"
    exit 3
fi
[ $code -eq 0 ] || { echo "quickstart.sh: training ended with an error (above); when that is mended, go on with: $again" >&2; exit 1; }
final=$(find "$run" -maxdepth 1 -name 'step_*[0-9]' | sort | tail -n 1)
[ -n "$final" ] || fail "there is no checkpoint in $run"
steps=$((10#${final##*_}))

# ------------------------------------------------------------------ samples and the curve

stage 7/7 'What it has learnt'
prompts=('Das Programm' 'Dieses Paket enthält' 'Wenn Sie die Datei' 'Am nächsten Morgen')
{
    for i in "${!prompts[@]}"; do
        [ "$i" -eq 0 ] || printf '\n'
        printf -- '--- %s\n' "${prompts[$i]}"
        "$program" generate --model="$final" --prompt="${prompts[$i]}" --tokens=80 --temperature=0.7 --top_k=50 --seed="$((i + 1))" || exit 1
    done
} | tee "$work/samples.txt.part" || fail "generate failed (above)"
mv "$work/samples.txt.part" "$work/samples.txt"
echo

echo 'How often it finds the right one of two sentences likelier, by phenomenon of German grammar (by chance: half of them,'
echo 'fewer where the right one is longer; scripts/eval/grammatik_de.sh --list explains each):'
"$program" eval --model="$final" --tasks="$root/scripts/eval/grammatik_de.jsonl" --batch_size=32 --table >"$work/grammar.txt.part" || fail "eval failed (above)"
mv "$work/grammar.txt.part" "$work/grammar.txt"
cat "$work/grammar.txt"
echo

if "$root/scripts/install.sh" --check plot 2>/dev/null; then
    "$root/scripts/plot.sh" --out="$work/loss" "$run"
    plot="loss curve      $work/loss.svg and .png"
else
    plot="loss curve      not drawn: gnuplot or jq is missing; later: scripts/plot.sh '$run'"
fi
last=$(grep '"val_loss"' "$run/metrics.jsonl" | tail -n 1)
number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" <<<"$last"; }

cat <<END

Done. Validation loss $(printf '%.3f' "$(number val_loss)") nats a token, $(printf '%.3f' "$(number val_bits_per_byte)") bits a byte of text, after $steps steps.

    text            $corpus
    tokenizer       $tokenizer
    tokens          $work/text_train_00000.bin ...
    model           $final      (a Hugging Face folder)
    figures, log    $run/metrics.jsonl, run.log
    samples         $work/samples.txt
    grammar         $work/grammar.txt
    $plot

Try next:
    '$program' generate --model='$final' --prompt='Klicken Sie auf' --tokens=100
    '$program' eval --model='$final' --data='$work/text_val_*.bin'
    $0 --minutes=60 --model=llama-5M      another family, trained longer; '$program' info --model=... tells its size
    Your own text: '$program' bpe, tokenize and train, each with --help; '$work/train.conf' shows settings that work.
$([ $chat = 1 ] || echo "    $0 --chat      teach it to answer, and talk with it")
END
[ $chat = 1 ] || exit 0

# ------------------------------------------------------------------ second act: answers

stage 'second act' 'Learning to answer'
pairs=$root/scripts/chat/debian_de.jsonl talk=$work/chat-$steps
[ -s "$pairs" ] || fail "there is no $pairs, the questions and answers to learn from"
mkdir -p "$talk"
"$program" tokenize --format=chat --tokenizer="$final/tokenizer.json" --input="$pairs" --val_fraction=0.08 --out="$talk/pairs"
[ -s "$talk/train.conf" ] || cp "$root/scripts/quickstart_chat.conf" "$talk/train.conf"
code=0 training=1
"$program" train --config="$talk/train.conf" --model="$final" --tokenizer="$final/tokenizer.json" --resume=auto --out="$talk/model" \
    --train_data="$talk/pairs_train_*.bin" --val_data="$talk/pairs_val_*.bin" || code=$?
training=0
if [ $code -eq 3 ]; then
    echo "Stopped; a checkpoint is in $talk/model. To go on where it stopped: $again"
    exit 3
fi
[ $code -eq 0 ] || fail "fine-tuning ended with an error (above)"

cat <<END

A model of this size, trained for minutes, has learnt how an answer looks: German sentences about Debian, mostly well
formed. It knows next to nothing. What comes close to one of the $(grep -c . "$pairs") conversations it may get right; all else
it makes up, and commands that it names may not exist or do harm. Do not run them.

END
for question in 'Wie installiere ich ein Paket?' 'Was macht der Befehl ls?' 'Wer bist du?'; do
    printf '> %s\n' "$question"
    printf '%s\n' "$question" | "$program" chat --model="$talk/model" --temperature=0 2>/dev/null || fail "chat failed"
done
echo
if [ -t 0 ] && [ -t 1 ]; then "$program" chat --model="$talk/model" --temperature=0.5
else echo "To talk with it: '$program' chat --model='$talk/model'"; fi
