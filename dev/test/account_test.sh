#!/usr/bin/env bash
# The record of a run (run.json, "account"), the documents that `report` writes from it, and `reproduce`: their figures are
# those of the run, and the same text makes the same model again.
# shellcheck disable=SC2016  # the $ of jq
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
export OMP_NUM_THREADS=2

run() { "${program[@]}" "$@" >out 2>err </dev/null || { echo "error: exit $? of $*: $(head -n 2 err)" && false; }; }
refused() { # refused PATTERN VERB...: exit code 1 and one line that matches
    local pattern=$1 code
    shift
    "${program[@]}" "$@" >out 2>err </dev/null
    code=$?
    { [ $code -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -Eq -- "$pattern" err; } || { echo "error: exit $code: $(cat err)" && false; }
}
train() { # train OUT OPTION...
    local out=$1
    shift
    run train --model=qwen3-nano --train_data='a/text_train_*.bin' --val_data='a/text_val_*.bin' --tokenizer=a/tokenizer.json --out="$out" \
        --batch_size=2 --seq_len=48 --lr=3e-3 --lr_schedule=constant --val_every=10 --checkpoint_every=10 "$@"
}
account() { jq -e ".account | $1" "$2/run.json"; } # account FILTER CHECKPOINT

# ------------------------------------------------------------------ the record

check 'corpus' run corpus --input="$sample" --doc_split=blank --clean_steps=nfc,control,documents --license=CC0-1.0 --pack=none --out=c
check 'bpe' run bpe --input=c/corpus.jsonl --vocab_size=512 --out=a/tokenizer.json
check 'tokenize' run tokenize --tokenizer=a/tokenizer.json --input=c/corpus.jsonl --val_fraction=0.1 --license=CC0-1.0 --out=a/text
check 'the tokenizer has a manifest' test "$(jq -r .sha256 a/tokenizer_manifest.json)" = "$(sha256sum <a/tokenizer.json | cut -c1-64)"
check 'the shards stand in theirs' diff <(jq -r '.files[] | .sha256 + "  a/" + .name' a/text_manifest.json) <(sha256sum a/text_train_*.bin a/text_val_*.bin)
check 'and so does the input' test "$(jq -r '.sources[0].sha256' a/text_manifest.json)" = "$(sha256sum <c/corpus.jsonl | cut -c1-64)"

mkdir -p powercap/intel-rapl:0 powercap/intel-rapl:0:1 powercap/intel-rapl:1
for zone in 0:package-0 0:1:core 1:package-1; do
    folder=powercap/intel-rapl:${zone%:*}
    echo "${zone##*:}" >"$folder/name" && echo 1000000 >"$folder/energy_uj" && echo 262143328850 >"$folder/max_energy_range_uj"
done
check 'a whole run' train whole --steps=30
last=whole/step_00000030
check 'one start, all steps' account '.totals | .starts == 1 and .steps == 30 and .wall_s > 0 and .device_hours > 0' $last
validated=$(jq -s 'map(.val_tokens // 0) | add' whole/metrics.jsonl)
check 'training and validation in FLOPs' account ".totals.flops / (.model.flops_per_token * (30 * 96 + $validated / 3)) - 1 | fabs < 1e-12" $last
check 'hours are those of its threads' account '.totals | (.device_hours * 3600 / 2 - .wall_s | fabs) < 0.001' $last
check 'energy is estimated, by its formula' account '.totals.energy_method == "estimated" and (.starts[0] | .energy.kwh as $k | $k * 1000 - .device_hours * 4 | fabs < 1e-9)' $last
check 'who made it' account '.starts[0] | .program == "train_gpt_cpu" and (.commit | length) > 2 and .machine.processors > 0 and (.libraries.libc | startswith("glibc"))' $last
check 'the tokenizer' account ".tokenizer.sha256 == \"$(sha256sum <a/tokenizer.json | cut -c1-64)\"" $last
check 'the data, back to the text' account ".data.manifests[0].sources[0] | .path == \"c/corpus.jsonl\" and (.made_by.sources[0] | .path == \"$sample\" and .sha256 == \"$(sha256sum <"$sample" | cut -c1-64)\")" $last
check 'and its licence' account '.data.manifests[0] | .options.license == "CC0-1.0" and .sources[0].made_by.options.license == "CC0-1.0"' $last
check 'the newest validation' test "$(jq '.account.validation.loss' $last/run.json | cut -c1-9)" = "$(jq -s 'last.val_loss' whole/metrics.jsonl | cut -c1-9)"

LLMC_POWERCAP=powercap check 'the same with counters of energy' train parts --steps=20
check 'they count' account '.totals.energy_method == "measured" and .totals.energy_kwh == 0 and (.starts[0].energy.source | startswith("RAPL"))' parts/step_00000020
echo '{"step": 21, "tokens": 0, "step_ms": 1500.000}' >>parts/metrics.jsonl
check 'goes on' train parts --steps=30 --resume=auto
check 'sums over both starts' account '.totals as $t | .starts as $s | $t.starts == 2 and $t.steps == 30 and $t.energy_method == "partly measured"
    and ($t.wall_s - ($s | map(.wall_s) | add) | fabs) < 0.003 and $t.flops == ($s | map(.flops) | add) and $t.energy_kwh == ($s | map(.energy.kwh) | add)' parts/step_00000030
check 'what was lost stands beside them' account '.totals.lost_steps == 1 and .totals.lost_s == 1.5' parts/step_00000030
check 'what was changed' account '.starts[1].changed == "steps 20 -> 30" and .starts[1].from_step == 20' parts/step_00000030
check 'the same bits with counters and restarts' cmp $last/model.safetensors parts/step_00000030/model.safetensors

# A record of before there was this: it is read, and says what it does not know.
cp -r whole old && rm -r old/step_0000003*
sed -z -i -e 's/"format": 2/"format": 1/' -e 's/  "account": {.*\n  },\n  "options"/  "options"/' -e 's/,\n  "xxh64": "[0-9a-f]*"\n}\n$/\n}\n/' old/step_00000020/run.json
check 'preparing a record of before' jq -e 'has("account") | not' old/step_00000020/run.json
check 'a record of before: it goes on' train old --steps=30 --resume=auto
check 'and says what it does not know' account '.totals.unrecorded_steps == 20 and .totals.steps == 10' old/step_00000030
check 'with the same bits' cmp $last/model.safetensors old/step_00000030/model.safetensors

conclude
