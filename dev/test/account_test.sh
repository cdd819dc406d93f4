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
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive

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
echo '{}' >foreign.manifest.json
check 'a foreign file in its place' refused 'foreign.manifest.json was not written by this program' bpe --input=c/corpus.jsonl --vocab_size=512 --out=foreign.json
mkdir beside && cp "$sample" beside/text.txt
check 'a tokenizer beside its text' run bpe --input='beside/*' --vocab_size=512 --out=beside/tokenizer.json
check 'is none of its own sources' test "$(jq -r '[.sources[].path] | join(" ")' beside/tokenizer.manifest.json)" = beside/text.txt
check 'tokenize' run tokenize --tokenizer=a/tokenizer.json --input=c/corpus.jsonl --val_fraction=0.1 --license=CC0-1.0 --out=a/text
check 'the tokenizer has a manifest' test "$(jq -r .sha256 a/tokenizer.manifest.json)" = "$(sha256sum <a/tokenizer.json | cut -c1-64)"
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

# ------------------------------------------------------------------ the papers

papers='README.md bom.cdx.json bom.spdx.json croissant.json datasheet.de.md datasheet.en.md eu_training_summary.de.md eu_training_summary.en.md model_documentation.de.md model_documentation.en.md'
check 'report' run report --model=$last
check 'its papers' test "$(cd $last && printf '%s ' README.md bom.* croissant.json datasheet.* eu_* model_doc*)" = "$papers "
sum=$(sha256sum <$last/model.safetensors | cut -c1-64) parameters=$(jq .account.model.parameters $last/run.json) bits=$(jq .account.validation.bits_per_byte $last/run.json)
kwh=$(jq .account.totals.energy_kwh $last/run.json)
front=$(awk '/^---$/ { n++; next } n == 1' $last/README.md)
for key in library_name pipeline_tag tags metrics model-index; do check "the card has $key" grep -q "^$key:" <<<"$front"; done
for key in license language datasets co2_eq_emissions; do check "the card asks for $key" grep -q "^# $key: OPEN" <<<"$front"; done
check 'the figures of the card are those of the run' grep -q "value: $bits\$" <<<"$front"
check 'and its text names the model' grep -q "$sum" $last/README.md
for language in 'en OPEN' 'de OFFEN'; do
    for section in 1 1.1 1.2 1.3 2 2.1 2.2 2.2.1 2.2.2 2.3 2.4 2.5 2.6 3 3.1 3.2 3.3; do
        check "the summary has section $section, ${language% *}" grep -Eq "^#+ ${section//./\\.}\. " $last/eu_training_summary."${language% *}".md
    done
    for section in 1 2 3 4 5 6 7 8; do
        check "the form has section $section, ${language% *}" grep -q "^## $section\. " $last/model_documentation."${language% *}".md
    done
    check "gaps are marked, ${language% *}" test "$(grep -c "\[${language#* }: " "$last/eu_training_summary.${language% *}.md")" -gt 20
    form=$last/model_documentation.${language% *}.md
    check "the form: for whom, ${language% *}" grep -q ' NCA .*2024/1689.* DP .*`?`' "$form"
    check "each item of its sections, ${language% *}: $(grep -c '^- `' "$form") of $(sed -n '/^## 1/,$p' "$form" | grep -c '^- ')" \
        test "$(sed -n '/^## 1/,$p' "$form" | grep -Ec '^- `(AIO NCA DP|AIO NCA|\?)` \*\*')" -eq "$(sed -n '/^## 1/,$p' "$form" | grep -c '^- ')"
    check "energy is for authorities alone, ${language% *}" test "$(sed -n '/^## 8/,$p' "$form" | grep '^- ' | grep -vc '^- `AIO NCA` ')" -eq 0
    check "the data sheet's items are for anybody, ${language% *}" test "$(grep -c '^- `' "$last/datasheet.${language% *}.md")" -eq 0
    check "no gap is filled, ${language% *}" grep -q "provider = \.\.\." $last/model_documentation."${language% *}".md
done
check 'the size class' grep -q 'less than 1 billion tokens' $last/eu_training_summary.en.md
check 'the form: parameters' grep -q ": \*\* *$parameters\|:\*\* $parameters " $last/model_documentation.en.md
check 'the data sheet names the text' grep -q "$(sha256sum <"$sample" | cut -c1-64)" $last/datasheet.de.md
check 'CycloneDX' jq -e --arg sum "$sum" --argjson kwh "$kwh" '.bomFormat == "CycloneDX" and .specVersion == "1.7" and (.serialNumber | test("^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$"))
    and (.metadata.component | .type == "machine-learning-model" and .hashes[0].content == $sum
        and .modelCard.considerations.environmentalConsiderations.energyConsumptions[0].activityEnergyCost.value == $kwh)
    and (.components | map(.type) | unique == ["application", "data", "library"]) and ([.. | .["bom-ref"]? // empty] | length == (unique | length))' $last/bom.cdx.json
check 'SPDX' jq -e --arg sum "$sum" '.["@graph"] | (map(.type) | index("ai_AIPackage") and index("dataset_DatasetPackage") and index("SpdxDocument"))
    and (map(select(.type == "ai_AIPackage"))[0].verifiedUsing[0].hashValue == $sum) and (map(select(.relationshipType == "trainedOn")) | length == 1)' $last/bom.spdx.json
check 'what it must say and does not know' jq -e '.["@graph"] | (map(select(.type == "ai_AIPackage"))[0] as $m | map(select(.spdxId == $m.suppliedBy))[0].name == "NOASSERTION"
    and $m.software_downloadLocation == "NOASSERTION" and ($m | has("releaseTime") | not) and ($m.ai_energyConsumption.ai_trainingEnergyConsumption[0].ai_energyQuantity | test("^[0-9]+[.][0-9]+$")))
    and ([.[] | select(.type | test("Package$")) | .spdxId] as $p | [.[] | select(.relationshipType == "hasDeclaredLicense" or .relationshipType == "hasConcludedLicense") | .from] | sort == ([$p[], $p[]] | sort))
    and (map(select(.type == "SpdxDocument"))[0].profileConformance == ["core", "software"])' $last/bom.spdx.json
check 'the form: computation of inference' grep -q "computation used for inference:\*\* $(printf '%.3g' "$(jq '.account.model.flops_per_token / 3 * 1e5' $last/run.json)") FLOP$" $last/model_documentation.en.md
check 'and the range of its training time' grep -q 'Training time:\*\* less than 1 month; ' $last/model_documentation.en.md
check 'Croissant' jq -e --arg sum "$(sha256sum <a/text_train_00000.bin | cut -c1-64)" '(.conformsTo | index("http://mlcommons.org/croissant/1.1")) != null and .license == ["CC0-1.0"]
    and (.distribution | map(.sha256) | index($sum)) and .recordSet[0].field[0].source.fileObject["@id"] == "source-0" and .distribution[0].name == "corpus.jsonl"
    and has("rai:dataPreprocessingProtocol") and (has("rai:dataBiases") | not) and (.description | test("OPEN.*data_biases"))' $last/croissant.json

cat >facts.conf <<'END'
# who we are
provider = Stadtwerke "Nord" <GmbH>
license = Apache-2.0
language = de, en
grid_intensity = 400
release_date = 2026-11-01
repository = https://example.org/nord
END
echo "parameters = $parameters" >>facts.conf
check 'with facts' run report --model=whole --facts=facts.conf
check 'answers stand in the card' grep -q '^license: apache-2.0$' $last/README.md
check 'and in the form' grep -q 'Stadtwerke "Nord" \\<GmbH\\>' $last/model_documentation.de.md
check 'CO2 is energy by intensity' test "$(awk '$1 == "emissions:" { print $2 }' $last/README.md)" = "$(jq -n "$kwh * 400")"
check 'they count' grep -q '^70 of 76 questions' out
check 'SPDX: what is known now' jq -e '.["@graph"] | (map(select(.type == "ai_AIPackage"))[0] as $m | map(select(.spdxId == $m.suppliedBy))[0].type == "Organization"
    and $m.releaseTime == "2026-11-01T00:00:00Z" and $m.software_downloadLocation == "https://example.org/nord") and (map(select(.type == "SpdxDocument"))[0].profileConformance | index("ai") != null)' $last/bom.spdx.json
check 'a foreign README stays' bash -c "cp $last/README.md kept && echo mine >$last/README.md"
check 'a foreign README.md is not replaced' refused 'README.md was not written by report' report --model=$last
mv kept $last/README.md

wrong() { # wrong PATTERN LINE: a facts file with such a line is refused
    printf 'provider = x\n%b\n' "$2" >wrong.conf
    check "facts: $2" refused "$1" report --model=$last --facts=wrong.conf
}
wrong 'line 2: there is no key "providre"' 'providre = x'
wrong 'line 2: "provider" stands there twice, in line 1' 'provider = y'
wrong 'line 2: "no sign": expected `key = value`' 'no sign'
wrong 'line 2: a control character' 'contact = \x1b[1m'
wrong "line 2 says parameters = 7, and the record .*run.json has $parameters;" 'parameters = 7'
wrong "line 2 says training_tokens = 1e6, and the record .* has 2880;" 'training_tokens = 1e6'
wrong 'line 2: context_length = 48 tokens: expected a number' 'context_length = 48 tokens'
wrong 'line 2 says architecture = gpt2, and the record .* has qwen3;' 'architecture = gpt2'
wrong 'line 2 says base_model = a/b, and the record .* began with new weights' 'base_model = a/b'
wrong "line 2 says data_license = MIT, and the record .* names CC0-1.0" 'data_license = MIT'
wrong "line 2 says model_sha256 = 0, and the record .* has $sum" 'model_sha256 = 0'
printf 'training_flops = %s\nmodel_sha256 = %s\ntraining_tokens = 2880\ndata_license = CC0-1.0\n' "$(jq '.account.totals.flops * 1.005' $last/run.json)" "$sum" >right.conf
check 'figures that agree are taken' run report --model=$last --facts=right.conf
check 'no facts file' refused 'nothing.conf' report --model=$last --facts=nothing.conf
check 'a folder without a record' refused 'has no run.json' report --model="$OLDPWD/dev/test/fixtures/models/qwen3-tied"

check 'report --check' run report --model=$last --check
check 'three classes and what is missing for them' test "$(grep -c '    -> ' out)" -eq 3
check 'fourteen points' grep -q '^  3 of 14 points are there' out
check 'with reasons' grep -q 'missing  technical report: nobody has said: .*technical_report = ' out
check 'and the open questions' test "$(grep -c '^[a-z_0-9]* =$' out)" -eq 76
check 'info shows the record' run info --model=$last
check 'info: its figures' grep -q "^energy .*$(printf '%.6g' "$kwh") kWh" out
check 'info: as JSON' bash -c "'${program[0]}' info --model=$last --json | jq -e '.account.totals.steps == 30'"

# ------------------------------------------------------------------ results of eval, in the record

tasks=$OLDPWD/dev/test/fixtures/tasks
evaluate() { run eval --model=$last --tasks="$tasks/pairs.jsonl,$tasks/text.jsonl" --data='a/text_val_*.bin' --seq_len=48 --truncate "$@"; }
cp $last/run.json before.json
check 'eval' evaluate
check 'without --record nothing is kept' cmp before.json $last/run.json
check 'eval --record' evaluate --record
check 'it says so' grep -qx "note: $last/run.json: 3 of 3 results recorded" err
cp out printed.jsonl
check 'what is before stays as it is' cmp -n $(($(wc -c <before.json) - 35)) before.json $last/run.json
check 'the figures are those that were printed' jq -e --slurpfile printed printed.jsonl '.evaluations as $e | ($e | map(.task // "data")) == ["data", "pairs", "text"]
    and $e[0].loss == $printed[0].loss and $e[0].tokens == $printed[0].tokens
    and ($e[1] | del(.sha256, .program, .commit, .precision, .date)) == $printed[1] and $e[2].bits_per_byte == $printed[2].bits_per_byte' $last/run.json
check 'with the file, who and when' jq -e --arg sum "$(sha256sum <"$tasks/pairs.jsonl" | cut -c1-64)" '.evaluations[1] | .sha256 == $sum and .items == 30 and .acc_stderr > 0
    and .program == "train_gpt_cpu" and (.commit | length) > 2 and .precision == "fp32" and (.date | test("^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:]{8}Z$"))' $last/run.json
check 'the checksums hold: it can be read, and gone on from' run generate --model=$last --prompt=Der --tokens=1
cp $last/run.json recorded.json
check 'once more' evaluate --record
check 'the same results are not written again' cmp recorded.json $last/run.json
check 'and it says so' grep -qx "note: $last/run.json: 0 of 3 results recorded, the others stood there" err
check 'in bf16' evaluate --record --precision=bf16
check 'later results take the place of earlier ones' jq -e --slurpfile old recorded.json '(.evaluations | length == 3 and map(.precision) == ["bf16", "bf16", "bf16"])
    and (.evaluations | map(.task)) == ($old[0].evaluations | map(.task))' $last/run.json
check 'fp32 again' evaluate --record
{ cat "$tasks/pairs.jsonl" && echo '{"good": "Das ist gut.", "bad": "Das sind gut."}'; } >pairs.jsonl
check 'another file of that name' run eval --model=$last --tasks=pairs.jsonl --record
check 'is another result' jq -e '.evaluations | length == 4 and (map(select(.task == "pairs") | .items) == [30, 31])' $last/run.json
check 'report' run report --model=whole --facts=facts.conf
acc=$(jq '.evaluations[1].acc' $last/run.json) file=$(jq -r '.evaluations[1].sha256' $last/run.json) error=$(jq '.evaluations[1].acc_stderr' $last/run.json)
front=$(awk '/^---$/ { n++; next } n == 1' $last/README.md)
check 'the model-index has them' grep -A 9 '^      name: "pairs"$' <<<"$front"
check 'its figures, items and file' test "$(grep -A 9 '^      name: "pairs"$' <<<"$front" | head -n 10 | tr -s ' \n' ' ')" = " name: \"pairs\" args: items: 30 sha256: \"$file\" metrics: - type: accuracy name: \"acc\" value: $acc args: stderr: $error "
check 'as often as they are recorded' test "$(grep -c '^      name: "pairs"$' <<<"$front")" -eq 2
check 'CycloneDX has them, with their interval' jq -e --argjson acc "$acc" --argjson error "$error" --arg slice "pairs, SHA-256 $file" '.metadata.component.modelCard.quantitativeAnalysis.performanceMetrics
    | map(select(.type == "acc" and .slice == $slice)) | length == 1 and (.[0].value | tonumber) == $acc
    and (.[0].confidenceInterval | (.upperBound | tonumber) - (.lowerBound | tonumber) - 2 * 1.959964 * $error | fabs < 1e-6)' $last/bom.cdx.json
check 'and SPDX' jq -e --argjson acc "$acc" '.["@graph"][] | select(.type == "ai_AIPackage") | .ai_metric | map(select(.key == "pairs: acc") | .value | tonumber)[0] == $acc' $last/bom.spdx.json
check 'the card says them' grep -q "^    - pairs: acc .*items: 30, file SHA-256 .$file.; train" <(sed 's/\\//g' $last/README.md)
check 'info shows them' bash -c "'${program[0]}' info --model=$last --json | jq -e '.evaluations | length == 4'"
check 'a score of training gives way to it' run train --model=qwen3-nano --train_data='a/text_train_*.bin' --val_data='a/text_val_*.bin' --tokenizer=a/tokenizer.json --out=scored --batch_size=2 --seq_len=48 --steps=2 \
    --eval_tasks="$tasks/pairs.jsonl,$tasks/text.jsonl" --truncate
check 'eval --record on it' run eval --model=scored --tasks="$tasks/pairs.jsonl" --record
check 'report on it' run report --model=scored
check 'each task stands once' test "$(grep -c '^      name: "\(pairs\|text\)"$' scored/step_00000002/README.md)" -eq 2
cp -r $last foreign && rm foreign/run.json
check 'a model of somebody else' refused 'this program did not train that model; leave --record out' eval --model=foreign --tasks="$tasks/pairs.jsonl" --record
check 'nothing was computed' test ! -s out
check 'a run that goes on leaves them behind' train whole --steps=32 --resume=auto
check 'they are of the weights before' jq -e 'has("evaluations") | not' whole/step_00000032/run.json
rm -rf whole/step_00000032

# ------------------------------------------------------------------ once more

again() { sh again.sh "${program[0]}" "$1" >out 2>err || { echo "error: $(tail -n 2 err out)" && false; }; }
check 'reproduce' run reproduce --model=$last
cp out again.sh
check 'it is a script for sh' sh -n again.sh
check 'what the memory chose, and how it was cut' grep -qE -- "^ +--recompute=(cheap|block) \\\\$" again.sh
check 'from the text on' grep -qF "$(sha256sum <"$sample" | cut -c1-64)  $sample" again.sh
if [ -z "$RUNNER" ]; then
    check 'made again, from nothing' again again
    check 'it is the same' test "$(sha256sum <again/model/step_00000030/model.safetensors | cut -c1-64)" = "$sum"
    sed -i 's/--seed=1/--seed=2/' again.sh
    check 'another seed is found' bash -c '! sh again.sh "$@" >out 2>&1 && grep -q "^error: .*expected" out' - "${program[0]}" other
    check 'a run by time' train timed --time_budget=0.01 --warmup_fraction=0.1
    timed=$(printf '%s\n' timed/step_* | tail -n 1)
    check 'reproduce a run by time' run reproduce --model="$timed"
    cp out again.sh
    check 'made again, by the marks of its clock' again timed_again
    check 'the same number of steps, and bits' cmp "$timed/model.safetensors" "timed_again/model/${timed#*/}/model.safetensors"
else skip 'account_test.sh, made again' 'the script runs the program without its emulator'; fi
check 'one that changed on its way' refused 'changed options \(steps 20 -> 30\)' reproduce --model=parts/step_00000030
check 'a record of before' refused 'says|does not say' reproduce --model=old/step_00000020
train tuned --model=$last --steps=12 || check "fine-tuning: $(cat err)" false
check 'fine-tuned: what it was made from' account '.base.path == "whole/step_00000030" and .base.totals.steps == 30 and (.base.files | has("model.safetensors"))' tuned/step_00000012
check 'fine-tuned: report' run report --model=tuned
check 'fine-tuned: the form says so' grep -q 'Model dependencies:\*\* made from the model in whole/step' tuned/step_00000012/model_documentation.en.md
check 'fine-tuned: reproduce names it' refused 'began with the weights of whole/step' reproduce --model=tuned/step_00000012

# Words of a record that would be commands are none.
sed -z -e 's/"format": 2/"format": 1/' -e 's/,\n  "xxh64": "[0-9a-f]*"\n}\n$/\n}\n/' -e 's/"device": "[^"]*"/"device": "\\n touch hostile"/' \
    -e 's/"environment": {[^}]*}/"environment": {"LLMC_X; touch hostile; Y": "1", "LLMC_Z": "$(touch hostile)"}/' -i whole/step_00000030/run.json
check 'a hostile record' run reproduce --model=$last
cp out again.sh
if [ -z "$RUNNER" ]; then check 'made again all the same' again hostile_again; fi
check 'and nothing else was done' test ! -e hostile

conclude
