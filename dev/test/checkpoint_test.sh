#!/usr/bin/env bash
# What a run and its readers do with checkpoints and run folders that are not as they were written: flipped bits and cuts
# in every file, names that are none, links, weights that are missing, a record of another version, metrics that nobody
# can read, other options than before. An error must never be taken for absence: a link to itself (ELOOP) stands for
# every error that is not ENOENT. A failing disk, call by call: make test-faults.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}"
program=("$PWD/$BUILD/train_gpt_cpu")
# shellcheck disable=SC2206  # a command with its options
[ -n "$RUNNER" ] && program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sample=$PWD/dev/test/sample_de.txt
cd "$work" || exit 1
"${program[@]}" bpe --input="$sample" --vocab_size=512 --out=tokenizer.json >out 2>&1 &&
    "${program[@]}" tokenize --tokenizer=tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=s >>out 2>&1
check "preparing: $(cat out)" test -f s_val_00000.bin

train() { # train OUT OPTION...
    "${program[@]}" train --model=llama-nano '--train_data=s_train_*.bin' '--val_data=s_val_*.bin' --tokenizer=tokenizer.json --out="$1" --batch_size=2 --seq_len=32 \
        --threads=1 --steps=6 --lr=3e-3 --val_every=3 --val_tokens=64 --checkpoint_every=2 --keep_checkpoints=0 --progress=off "${@:2}" >out 2>err
}
evaluate() { # evaluate FOLDER OPTION...
    "${program[@]}" eval --model="$1" '--data=s_val_*.bin' --seq_len=32 --val_tokens=64 --threads=1 "${@:2}" >out 2>err
}
said() { cat err out | tail -n 1; }
bits() { # what a run must reproduce
    cat "$1"/step_00000006/*.safetensors | sha256sum
    sed -E 's/"(step_ms|tokens_per_s|mfu)": [^,}]*//g' "$1/metrics.jsonl" | sha256sum
}
refused() { # refused PATTERN COMMAND...: exit code 1 and one line that says this
    "${@:2}"
    test $? -eq 1 && test "$(grep -c '^error: ' err)" -eq 1 && test "$(grep -vc '^warning: ' err)" -eq 1 && grep -Eq -- "$1" err && return
    cat err
    return 1
}
half() { # half OUT: the run whole, stopped after step 4
    rm -rf "$1" && mkdir "$1" && cp -r whole/step_0000000[24] whole/run.log whole/metrics.jsonl "$1"
    sed -i '5,$d' "$1/metrics.jsonl"
}

train whole --resume=auto
check "the whole run: $(said)" test -d whole/step_00000006
whole=$(bits whole)
half a
train a --resume=auto
check "resumed after step 4: $(said)" test "$(bits a)" = "$whole"

# ---- bits and cuts. Each file of a checkpoint at its beginning, in its middle and at its end.
for path in whole/step_00000004/*; do
    name=${path##*/} size=$(stat -c %s "$path")
    for at in 0 $((size / 2)) $((size - 2)); do
        half a
        file=a/step_00000004/$name
        byte=$(od -An -tu1 -j "$at" -N 1 "$file" | tr -d ' ')
        # shellcheck disable=SC2059  # the format is the byte
        printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$file" bs=1 seek="$at" conv=notrunc 2>/dev/null
        check "a bit of $name at byte $at" refused a/step_00000004 train a --resume=auto
        if [ "$at" -gt 0 ]; then
            check "in a run that is at its end" refused a/step_00000004 train a --resume=auto --steps=4
            if [[ $name != optimizer* ]]; then check "for eval" refused a/step_00000004 evaluate a/step_00000004; fi
        fi
        truncate -s "$at" "$file"
        check "$name cut at byte $at" refused a/step_00000004 train a --resume=auto
    done
    half a
    rm "a/step_00000004/$name"
    if [ "$name" = run.json ]; then continue; fi # below: no whole checkpoint
    check "without $name" refused "$name" train a --resume=auto
done
half a
sed -i '5s/[0-9]/7/' a/step_00000004/run.json
for verb in "generate --tokens=1" "info" "export --out=a.gguf" "dump --data=s_val_*.bin --batch_size=1 --seq_len=8 --out=a.safetensors" "eval --data=s_val_*.bin --seq_len=32"; do
    # shellcheck disable=SC2086  # words
    set -- $verb
    check "$1 of a damaged checkpoint" refused 'run.json does not match' bash -c '"$@" >out 2>err' - "${program[@]}" "$1" --model=a/step_00000004 "${@:2}"
done
evaluate a/step_00000004 --verify=off
check "--verify=off reads it: $(said)" grep -q loss out
check "but no run goes on from a damaged record" refused 'run.json does not match' train a --resume=auto --verify=off
half a
train a --resume=auto --verify=off
check "--verify=off is in the log: $(said)" grep -q 'verify=off: the checksums' a/run.log
check "and changes no bit" test "$(bits a)" = "$whole"
check "a tokenizer in a checkpoint: $(said)" train b --tokenizer=whole/step_00000006/tokenizer.json --steps=1
cp -r whole/step_00000006 copied && echo >>copied/tokenizer.json
check "one that is not the checkpoint's" refused 'not the file that copied/run.json lists' train c --tokenizer=copied/tokenizer.json --steps=1
# A record of the version before: no checksum of itself.
half a
record=a/step_00000004/run.json
sed -z -e 's/"format": 2/"format": 1/' -e 's/,\n  "xxh64": "[0-9a-f]*"\n}\n$/\n}\n/' whole/step_00000004/run.json >$record
check "the old record has no checksum" bash -c "! grep -q '^  .xxh64' $record"
train a --resume=auto
check "an old record is read: $(said)" test "$(bits a)" = "$whole"
check "and the log says so: $(said)" grep -q 'has no checksum of its own' a/run.log

# ---- names
twice() { cp -r "a/step_0000000$1" "a/step_$1"; }
half a && twice 2
train a --resume=auto --keep_checkpoints=1 --steps=6
check "step_2 beside step_00000002 is told: $(cat err)" grep -Eq '^warning: a/step_2 is not named as the checkpoint step_00000002 would be: it is passed over' err
check "and keeps none from being removed: $(ls a)" test "$(cd a && echo step_*)" = "step_00000006 step_2"
half a && mv a/step_00000004 a/step_4
check "the newest in another spelling" refused 'a/step_4 is not named.*rename it' train a --resume=auto
check "and for a reader" refused 'a/step_4 is not named.*rename it' evaluate a
half a && touch a/step_00000099
check "a file with a checkpoint's name" refused 'a/step_00000099 is a file' train a --resume=auto
half a && ln -s nowhere a/step_00000099
check "a link to nothing" refused 'a/step_00000099 is a link to a folder that is not there' train a --resume=auto
half a && ln -s step_00000099 a/step_00000099
check "a link that cannot be followed" refused 'cannot look at a/step_00000099' train a --resume=auto
half a && rm a/step_00000004/run.json
check "a checkpoint without run.json" refused 'a/step_00000004 has no run.json' train a --resume=auto
half a && rm a/step_00000002/run.json
train a --resume=auto
check "an older one: $(cat err)" grep -q '^warning: a/step_00000002 has no run.json' err
check "is passed over" test "$(bits a)" = "$whole"
half a && rm a/step_00000004/run.json && ln -s run.json a/step_00000004/run.json
check "a run.json that cannot be looked at" refused 'cannot look at a/step_00000004/run.json' train a --resume=auto
half a && mv a/step_00000004 elsewhere && ln -s ../elsewhere a/step_00000004
train a --resume=auto --keep_checkpoints=1
check "a checkpoint that is a link goes: $(said)" test "$(bits a)" = "$whole" -a ! -e a/step_00000004
check "and what it names stays" test -f elsewhere/run.json
half a && mv a/step_00000002 a/two && mv a/step_00000004 a/step_00000002
check "another step than the name says" refused 'of step 4, the folder.s name says 2' train a --resume=auto
rm -rf loop && ln -s loop loop
check "a run's folder that cannot be looked at" refused loop train loop --resume=auto
# What a kill leaves goes at the next start, what others put there stays.
half a && mkdir -p a/step_00000004.tmp a/step_00000006.0123abcd.tmp a/step_notes.tmp && touch a/.writer-3 a/step_00000006.0123abcd.tmp/x
train a --resume=auto
check "the leftovers of kills are gone: $(cd a && ls -A)" test "$(cd a && echo .writer* step_*.tmp)" = ".writer* step_notes.tmp"
half a && mkdir a/step_00000006.0123abcd.tmp # of a process that lives
exec 9>a/.lock && flock 9
check "a run that another process has" refused 'another process is training in a' train a --resume=auto
exec 9>&-
check "what that one writes stays" test -d a/step_00000006.0123abcd.tmp

# ---- --model=RUN: its newest checkpoint, for every verb
for verb in "generate --tokens=1" "info" "export --out=a.gguf" "dump --data=s_val_*.bin --batch_size=1 --seq_len=8 --out=a.safetensors" "eval --data=s_val_*.bin --seq_len=32" \
    "train --train_data=s_train_*.bin --val_data=s_val_*.bin --tokenizer=tokenizer.json --seq_len=32 --batch_size=2 --steps=1 --out=tuned"; do
    # shellcheck disable=SC2086  # words
    set -- $verb
    for run in whole whole/; do
        rm -rf tuned
        check "$1 --model=$run: $(said)" bash -c '"$@" >out 2>err' - "${program[@]}" "$1" --model=$run "${@:2}"
        check "says which: $(cat err)" grep -qx "note: --model=$run is a run: its newest checkpoint is taken, whole/step_00000006" err
    done
    mkdir -p empty
    check "$1 of an empty folder" refused 'no config.json, and no checkpoint' bash -c '"$@" >out 2>err' - "${program[@]}" "$1" --model=empty "${@:2}"
done
check "the weights are the checkpoint's: $(said)" grep -q '^weights from whole/step_00000006$' tuned/run.log

# ---- weights that are not where they are looked for
bare() { # bare FILE...: a folder of config.json and these
    rm -rf m r && mkdir m && cp whole/step_00000006/config.json m/
    for file; do
        : >"m/$file"
        if [[ $file == *.json ]]; then echo '{}' >"m/$file"; fi
    done
}
bare generation_config.json tokenizer_config.json special_tokens_map.json merges.txt
train r --model=m --steps=1
check "config and tokenizer files alone: random weights: $(said)" grep -q '^new weights from seed' out
for name in model-00001-of-00002.safetensors adapter_model.safetensors pytorch_model.bin model.pt model.ckpt tf_model.h5 model.gguf consolidated.00.pth \
    pytorch_model.bin.index.json model.safetensors.incomplete optimizer.pt README.md .cache weights; do
    bare "$name"
    check "a folder with $name" refused "the folder m has neither .*, but it has $name" train r --model=m --steps=1
done
bare && mkdir m/model.safetensors
check "a folder in the weights' place" refused 'm/model.safetensors is a folder' train r --model=m --steps=1
for target in ../blobs/missing model.safetensors; do # absent, and an error
    bare && ln -s $target m/model.safetensors
    check "weights that are a link to $target" refused 'm/model.safetensors' train r --model=m --steps=1
    check "and for eval" refused 'm/model.safetensors' evaluate m
    bare && ln -s $target m/model.safetensors.index.json
    check "an index that is a link to $target" refused 'm/model.safetensors.index.json' train r --model=m --steps=1
    bare && ln -s $target m/tokenizer.json
    check "a tokenizer that is a link to $target" refused 'm/tokenizer.json' train r --model=m --steps=1
    bare && rm m/config.json && ln -s $target m/config.json
    check "a config that is a link to $target" refused 'm/config.json' train r --model=m --steps=1
done

# ---- numbers that are not finite, with checksums that fit: files of another program have none
cp -r whole/step_00000006 poisoned && rm poisoned/run.json
printf '\0\0\300\177' | dd of=poisoned/model.safetensors bs=1 seek=$(($(stat -c %s poisoned/model.safetensors) - 8)) conv=notrunc 2>/dev/null
check "a NaN among the weights, eval" refused 'tensor [a-z_.0-9]+ holds -?nan at number [0-9]+' evaluate poisoned
check "a NaN among the weights, train" refused 'tensor [a-z_.0-9]+ holds -?nan at number [0-9]+' train r --model=poisoned --steps=1
train r --steps=1
check "a start that failed is in nobody's way: $(said)" grep -q ^finished out

# ---- metrics
half a
sed -i -e '2s/"loss": [0-9.]*/"loss": nan/' -e '3s/"grad_norm": [0-9.]*/"grad_norm": -Infinity/' -e '3i {"step": 3, "loss": 5.' a/metrics.jsonl
sed -i '1s/^/\n/' a/metrics.jsonl
printf '{"step": 5, "loss": 1}\n{"step": 6, "lo' >>a/metrics.jsonl
train a --resume=auto
check "the lines of all steps are kept: $(said)" jq -es '[.[].step] == [1, 2, 3, 4, 5, 6]' a/metrics.jsonl
check "what JSON does not know is null" jq -es '.[1].loss == null and .[2].grad_norm == null and .[4].loss > 2' a/metrics.jsonl
check "what cannot be read stands elsewhere" test "$(cat a/metrics.jsonl.unreadable)" = '{"step": 3, "loss": 5.'
check "the log says so: $(grep metrics a/run.log)" test "$(grep -c '^metrics.jsonl: 1 lines of steps after 4\|^metrics.jsonl: 2 lines were not JSON\|^metrics.jsonl: 1 lines could not be read' a/run.log)" -eq 3
half a && sed -i '2s/"step": 2/"step": 6/' a/metrics.jsonl # a flipped bit
train a --resume=auto
check "a line with a wrong step is not lost: $(said)" grep -q '"step": 6' a/metrics.jsonl.unreadable
check "nor are the others" jq -es '[.[].step] == [1, 3, 4, 5, 6]' a/metrics.jsonl
half a && truncate -s -1 a/metrics.jsonl # a whole line without its end
train a --resume=auto
check "a line without its end is kept: $(said)" test "$(bits a)" = "$whole"
half a && rm a/metrics.jsonl && ln -s metrics.jsonl a/metrics.jsonl
check "metrics that cannot be looked at" refused 'a/metrics.jsonl' train a --resume=auto
half a && rm a/metrics.jsonl && mkdir a/metrics.jsonl
check "a folder in their place" refused 'a/metrics.jsonl' train a --resume=auto

# ---- other options than before
half a
train a --resume=auto --lr=2e-3 --steps=8 --weight_decay=0
check "what has changed is said in one line: $(said)" grep -qx 'options changed since that checkpoint, old -> new: steps 6 -> 8, lr 0.003 -> 0.002, weight_decay 0.1 -> 0' a/run.log
half a
train a --resume=auto --progress=on
check "what changes no result is not: $(said)" bash -c '! grep -q "options changed" a/run.log'
cp -r whole/step_00000006 start
rm -rf a
train a --model=start --steps=2
mv start gone
train a --model=start --steps=3 --resume=auto
check "the folder that a run began with is gone: $(said)" grep -q '^--model=start is not there any more; the model is that of a/step_00000002' a/run.log
check "and the run goes on: $(said)" test -d a/step_00000003
check "another name is an error" refused 'start2' train a --model=start2 --steps=4 --resume=auto

# ---- several ranks, which share the reading: what one finds is said once
why=$(no_ranks)
if [ -n "$why" ]; then skip 'checkpoint_test.sh, several ranks' "$why"; else
    launch=(mpirun --oversubscribe --bind-to none -n 3)
    one=("${program[@]}")
    program=("${launch[@]}" "${one[@]}")
    once() { # once PATTERN COMMAND...: ends with an error, which one rank says
        if "${@:2}"; then return 1; fi
        test "$(grep -c '^error: ' err)" -eq 1 && grep -Eq -- "$1" err && return
        cat err
        return 1
    }
    train ranks --checkpoint_files=3 --steps=4
    check "3 ranks write 3 pairs of files: $(said)" test -f ranks/step_00000004/optimizer-00002-of-00003.safetensors
    for name in optimizer-00002-of-00003.safetensors model-00003-of-00003.safetensors tokenizer_config.json run.json; do
        rm -rf a && cp -r ranks a
        sed -i '1s/{/[/' "a/step_00000004/$name"
        check "3 ranks, a damaged $name" once "error: .*a/step_00000004/$name" train a --resume=auto --checkpoint_files=3
    done
    rm -rf a && cp -r ranks a && cp a/step_00000004/optimizer-00001-of-00003.safetensors a/step_00000004/optimizer-00001-of-00001.safetensors
    check "a file that no sum covers" once 'optimizer-00001-of-00001.safetensors is not part of this checkpoint' train a --resume=auto --checkpoint_files=3
    evaluate ranks
    check "a run's newest checkpoint is named once: $(said)" test "$(grep -c '^note: --model=ranks is a run' err)" -eq 1
    check "and evaluated: $(said)" grep -q '"loss"' out
    program=("${one[@]}")
fi

conclude
