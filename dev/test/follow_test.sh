#!/usr/bin/env bash
# What a run is followed by: report.html, TensorBoard's event files (read here by a small reader of their own, checksums
# and all), MLflow's file store, `watch`. Through a kill and a resume, with hostile names and texts, numbers that are
# none, 100,000 steps, and places where nothing can be written; and the run's bits are the same with all of it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:?the folder of the binaries, as make test sets it}" "${RUNNER:=}" "${SANITIZE:=0}"
# shellcheck disable=SC2206  # a command with its options
program=($RUNNER "$PWD/$BUILD/train_gpt_cpu")
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sample=$PWD/dev/test/sample_de.txt
cd "$work" || exit 1
export LLMC_CACHE=$work/cache
"${program[@]}" bpe --input="$sample" --vocab_size=512 --out=tokenizer.json >out 2>&1 &&
    "${program[@]}" tokenize --tokenizer=tokenizer.json --input="$sample" --doc_split=formfeed --val_fraction=0.1 --out=s >>out 2>&1
check "preparing: $(cat out)" test -f s_val_00000.bin
train() { # train OUT OPTION...: the last word counts
    "${program[@]}" train --model=llama-nano '--train_data=s_train_*.bin' '--val_data=s_val_*.bin' --tokenizer=tokenizer.json --out="$1" \
        --batch_size=2 --seq_len=48 --threads=1 --lr=3e-3 --lr_schedule=constant --val_every=4 --val_tokens=480 --final_val_tokens=480 --checkpoint_every=4 \
        --keep_checkpoints=0 --sample_every=4 --sample_prompt='Der <b>Hund' --tokens=12 --progress=off --resume=auto "${@:2}" >out 2>err
}
lacks() { ! grep -q "$@"; }

# events FILE: `step TAG value` for each scalar, `step TAG "text"` for each text, `step START` and `step VERSION text`.
# Ends with 1 where a length, a checksum or a field is not as it should be.
cat >events.pl <<'PERL'
use strict; use warnings;
my @table = map { my $c = $_; $c = $c & 1 ? $c >> 1 ^ 0x82f63b78 : $c >> 1 for 1 .. 8; $c } 0 .. 255;
sub masked { my $c = 0xffffffff; $c = $c >> 8 ^ $table[($c ^ $_) & 255] for unpack 'C*', $_[0]; $c ^= 0xffffffff; return (($c >> 15 | $c << 17) + 0xa282ead8) & 0xffffffff }
sub varint { my ($b, $at) = @_; my ($x, $shift) = (0, 0); while (1) { my $c = ord substr $$b, $$at++, 1; $x |= ($c & 127) << $shift; return $x if $c < 128; $shift += 7; die "varint\n" if $shift > 63 } }
sub fields { # [number, value] of a message
    my ($b) = @_; my ($at, @found) = (0);
    while ($at < length $b) {
        my $key = varint(\$b, \$at); my ($n, $wire) = ($key >> 3, $key & 7);
        my $size = $wire == 1 ? 8 : $wire == 5 ? 4 : $wire == 2 ? varint(\$b, \$at) : 0;
        die "field $n, wire $wire\n" if $wire != 0 && !$size && $wire != 2 or $at + $size > length $b;
        push @found, [$n, $wire ? substr $b, $at, $size : varint(\$b, \$at)]; $at += $size;
    }
    return @found;
}
sub get { my ($n, $b) = @_; my ($f) = grep { $_->[0] == $n } fields($b); return $f ? $f->[1] : undef }
for my $file (@ARGV) {
    open my $in, '<:raw', $file or die "$file\n"; local $/; my $b = <$in>; my $at = 0;
    while ($at < length $b) {
        my ($n, $sum) = unpack 'Q<L<', substr $b, $at, 12;
        die "length at $at\n" if $sum != masked(substr $b, $at, 8) || $at + 16 + $n > length $b;
        my $e = substr $b, $at + 12, $n; $at += 16 + $n;
        die "record at $at\n" if unpack('L<', substr $b, $at - 4, 4) != masked($e);
        my ($time, $step) = (unpack('d<', get(1, $e)), get(2, $e)); die "time $time\n" if abs($time - time) > 86400;
        print "$step VERSION ", get(3, $e), "\n" if get(3, $e);
        print "$step START\n" if get(7, $e) && get(1, get(7, $e)) == 1;
        for (grep { $_->[0] == 1 } fields(get(5, $e) // '')) {
            my ($tag, $x, $tensor) = (get(1, $_->[1]), get(2, $_->[1]), get(8, $_->[1]));
            printf "$step $tag %.9g\n", unpack 'f<', $x if defined $x;
            next unless defined $tensor;
            my $plugin = get(1, get(1, get(9, $_->[1])));
            die "plugin $plugin, type " . get(1, $tensor) . "\n" if $plugin ne 'text' || get(1, $tensor) != 7 || get(1, get(2, get(2, $tensor))) != 1;
            my $text = get(8, $tensor); $text =~ s/\n/\\n/g; print "$step $tag \"$text\"\n";
        }
    }
}
PERL

# page FILE: what is wrong with a page: tags that do not match, anything that would be fetched, a script that is not ours
cat >page.pl <<'PERL'
use strict; use warnings; local $/; my $t = <>; my @open;
die "no doctype\n" if $t !~ /^<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">/;
die "$1 would be fetched\n" if $t =~ m{(<[^<>]*\s(?:src|href|action|background|srcset|data)\s*=[^<>]*>|\@import|url\s*\(|https?://\S*)};
die "a handler: $1\n" if $t =~ /(<[^<>]*\son\w+\s*=[^<>]*>)/;
$t =~ s{<style>.*?</style>}{}gs; my $scripts = () = $t =~ /<script/g; die "$scripts scripts\n" if $scripts != 1; $t =~ s{<script>.*?</script>}{}gs;
while ($t =~ m{<(/?)([a-zA-Z0-9]+)((?:[^<>"']|"[^"]*"|'[^']*')*?)(/?)>}g) {
    my ($end, $name, $self) = ($1, lc $2, $4);
    next if $self || $name =~ /^(meta|br)$/;
    if (!$end) { push @open, $name } elsif (!@open || pop @open ne $name) { die "</$name> closes another\n" }
}
die "open: @open\n" if @open; $t =~ s{<(/?)([a-zA-Z0-9]+|!DOCTYPE html)((?:[^<>"']|"[^"]*"|'[^']*')*?)(/?)>}{}g;
die "a bare $1\n" if $t =~ /(.{0,20}[<>].{0,20})/; die "a bare & in $1\n" if $t =~ /(.{0,20}&(?!(?:amp|lt|gt|quot|#39);).{0,20})/;
die "not a number in a path: $1\n" if $t =~ /(d="[^"]*(?:nan|inf)[^"]*")/;
PERL
page() { perl page.pl <"$1"; }

# ------------------------------------------------------------------ a run that is killed, and goes on

train run --steps=10 --mlflow=ml
check "train: $(cat err)" test "$(wc -l <run/metrics.jsonl)" -eq 10
check 'no word of it on stderr' test ! -s err
perl events.pl run/tb/* >first 2>&1
code=$?
check "TensorBoard's file: $(tail -n 1 first)" test $code -eq 0
check 'its first record' test "$(head -n 1 first)" = '0 VERSION brain.Event:2'
check 'the first step to come' grep -qx '1 START' first
check 'a file of the name that TensorBoard looks for' test "$(echo run/tb/events.out.tfevents.*)" != 'run/tb/events.out.tfevents.*'
check 'options as text' grep -q '^0 options ".*| lr | 0.003 |' first
check 'samples as text' test "$(grep -c '^[48] sample "Der <b>Hund' first)" -eq 2
# Every number of every line of the metrics, as a float holds it.
jq -r 'def tag: {loss: "train/loss", lr: "train/lr", grad_norm: "train/grad_norm", tokens: "train/tokens", position: "train/position", epoch: "train/epoch", val_loss: "validation/loss", val_bits_per_byte: "validation/bits_per_byte", val_tokens: "validation/tokens", step_ms: "speed/step_ms", tokens_per_s: "speed/tokens_per_s", mfu: "speed/mfu"}[.];
    .step as $s | to_entries[] | select(.key != "step") | "\($s) \(.key | tag) \(.value)"' run/metrics.jsonl >want
numbers() { awk 'FNR == NR { v[$1 " " $2] = $3; n++; next } $2 ~ /\// { d = v[$1 " " $2] - $3; d = d < 0 ? -d : d; m = $3 < 0 ? -$3 : $3; if (!(($1 " " $2) in v) || d > 1e-6 * m) { print "FAILED", $0, v[$1 " " $2]; bad = 1 } k++ } END { print k, "of", n; exit bad || k != n }' "$@"; }
check "the numbers of TensorBoard: $(numbers want first | tail -n 3)" numbers want first
flip() { perl -e 'local $/; $_ = <>; substr($_, length($_) / 2, 1) ^= "\x04"; print' "$1"; }
flip run/tb/events* >flipped
perl events.pl flipped >/dev/null 2>&1
check 'the reader finds a flipped bit' test $? -ne 0

# As if killed behind step 10: the newest checkpoint is that of step 8.
rm -r run/step_00000010
sed -i '$d' run/events.jsonl
train run --steps=14 --mlflow=ml
check "resume: $(cat err)" test "$(jq -s length run/metrics.jsonl)" -eq 14
check 'a second file' test "$(find run/tb -type f | wc -l)" -eq 2
second=$(find run/tb -type f | sort | tail -n 1)
perl events.pl "$second" >events
check 'steps behind the checkpoint begin again' test "$(sed -n 2p events)" = '9 START'
# What TensorBoard keeps: of a step that a later START voids, the newer.
perl events.pl "$(find run/tb -type f | sort | head -n 1)" >first
{ awk '$1 < 9' first && cat events; } | grep ' train/loss ' >kept
check 'each step once' test "$(cut -d' ' -f1 kept | tr '\n' ' ')" = '1 2 3 4 5 6 7 8 9 10 11 12 13 14 '
jq -r '"\(.step) train/loss \(.loss)"' run/metrics.jsonl >want
check 'as in the metrics' numbers want kept
check 'samples: each once' test "$(jq -c .step run/samples.jsonl | tr '\n' ' ')" = '4 8 12 '
check 'events' test "$(jq -r .event run/events.jsonl | tr '\n' ' ')" = 'start checkpoint checkpoint start checkpoint finished '
check 'a start says what the run is' jq -es '.[3] | .step == 8 and .model.parameters > 1000 and .options.lr == 0.003 and .train.tokens > 1000 and .tokenizer.vocab_size == 512' run/events.jsonl

# ------------------------------------------------------------------ MLflow

experiment=$(find ml -mindepth 1 -maxdepth 1 -type d)
folder=$(find "$experiment" -mindepth 1 -maxdepth 1 -type d)
check 'one run' test "$(echo "$folder" | wc -l)" -eq 1
check 'its id' grep -qE '/[0-9a-f]{32}$' <<<"$folder"
check 'the experiment' grep -qx 'name: gpt' "$experiment/meta.yaml"
check 'its number' grep -qx "experiment_id: '$(basename "$experiment")'" "$experiment/meta.yaml"
check 'finished' grep -qx 'status: 3' "$folder/meta.yaml"
check 'from the first start' test "$(sed -n 's/^start_time: //p' "$folder/meta.yaml")" -lt "$(sed -n 's/^end_time: //p' "$folder/meta.yaml")"
check 'a param' test "$(cat "$folder/params/lr")" = 0.003
check 'of each option' test "$(find "$folder/params" -type f | wc -l)" -eq "$(jq -s '.[0].options | length' run/events.jsonl)"
check 'tags' test "$(cat "$folder/tags/mlflow.runName")" = run
check 'each step once' test "$(awk '{ print $3 }' "$folder/metrics/loss" | tr '\n' ' ')" = '1 2 3 4 5 6 7 8 9 10 11 12 13 14 '
jq -r '"\(.step) train/loss \(.loss)"' run/metrics.jsonl >want
awk '{ print $3, "train/loss", $2 }' "$folder/metrics/loss" >kept
check 'the losses' numbers want kept
check 'validation' test "$(wc -l <"$folder/metrics/val_bits_per_byte")" -eq 4
train other --steps=1 --mlflow=ml
check 'another run beside it' test "$(find "$experiment" -mindepth 1 -maxdepth 1 -type d | wc -l)" -eq 2
rm -r other && train other --steps=1 --mlflow=ml
check 'a new run in a folder of that name is another' test "$(find "$experiment" -mindepth 1 -maxdepth 1 -type d | wc -l)" -eq 3
touch stop_me && mkdir stopped && touch stopped/stop
train stopped --steps=1000 --mlflow=ml
check 'stopped' grep -qlx 'status: 5' "$experiment"/*/meta.yaml
check 'and so say the events' jq -es '.[-1] | .event == "stopped" and (.why | test("the file"))' stopped/events.jsonl

# ------------------------------------------------------------------ the report

check "the page: $(page run/report.html 2>&1)" page run/report.html
for text in 'class="badge good">finished' '14</b><small>of 14' '2 starts' 'Training loss' 'Learning rate' 'Gradient norm' 'Validation' 'Der &lt;b&gt;Hund' \
    'Samples over time' 'Tokenizer and data' 'bytes a token' 'Parameters' 'Memory of a rank' 'Restarts and events' 'resumed' 'What it cost' 'All options' 'prefers-color-scheme:dark'; do
    check "report.html lacks $text" grep -qF -- "$text" run/report.html
done
# What it cost, as the newest checkpoint's record has it; the last step's point is not at the edge.
cost() { sed -n '/What it cost/,/<\/section>/p' "$1" | sed 's/<[^>]*>/ /g'; }
kwh=$(jq -r '.account.totals.energy_kwh' run/step_00000014/run.json) method=$(jq -r '.account.totals.energy_method' run/step_00000014/run.json)
check "energy: $(cost run/report.html | grep energy)" grep -Eq "energy +$(printf '%.4g' "$kwh" | sed 's/[.+]/\\&/g') kWh, $method: " <(cost run/report.html)
check 'device hours' grep -Eq "device hours +$(printf '%.4g' "$(jq -r '.account.totals.device_hours' run/step_00000014/run.json)" | sed 's/[.+]/\\&/g') CPU thread hours, measured" <(cost run/report.html)
check 'computation' grep -Eq "computation +$(printf '%.3e' "$(jq -r '.account.totals.flops' run/step_00000014/run.json)" | sed 's/[.+]/\\&/g') FLOP, counted" <(cost run/report.html)
check 'what only a person knows is open' test "$(cost run/report.html | grep -Ec '(CO2 equivalent|money) +open: ')" -eq 2
check 'room behind the last step' grep -q 'data-x1="14\.2[78]' run/report.html
# shellcheck disable=SC2016  # a program of awk
check "no point at the edge: $(grep -o 'class="[ld] c0" d="[^"]*' run/report.html | grep -oE '[ML][0-9.]+ ' | tr -d 'ML ' | sort -g | tail -n 1)" \
    awk '$1 > 985 { exit 1 }' <(grep -o 'class="[ld] c0" d="[^"]*' run/report.html | grep -oE '[ML][0-9.]+ ' | tr -d 'ML ')
printf 'grid_intensity = 380\ntraining_cost = 2 EUR <Strom>\n' >facts.conf
"${program[@]}" report --run=run --facts=facts.conf --out=facts.html >out 2>err
check "CO2: $(cat err) $(cost facts.html | grep CO2)" grep -Eq "CO2 equivalent +$(awk -v k="$kwh" 'BEGIN { printf "%.4g", 380 * k }' | sed 's/[.+]/\\&/g') g, $method: .* kWh x 380 g/kWh" <(cost facts.html)
check 'money' grep -q '2 EUR &lt;Strom&gt;' facts.html
check "the page with facts: $(page facts.html 2>&1)" page facts.html
cp run/report.html before.html && rm run/report.html
"${program[@]}" report --run=run >out 2>err
check "made again: $(cat err)" page run/report.html
same() { sed -E 's/[0-9]{4}-[0-9-]+ [0-9:]+ UTC//g' "$1" | sha256sum; } # but for the date
check 'made again, it is the same' test "$(same before.html)" = "$(same run/report.html)"
"${program[@]}" report --run=run,other,stopped --out=three.html >out 2>err
check "three runs: $(cat err)" page three.html
for text in '3 runs compared' 'class="k k2"' 'Options that differ' 'Newest samples' '>stopped</td>'; do check "three.html lacks $text" grep -qF -- "$text" three.html; done
check 'three curves in a chart' test "$(grep -o '<figure><figcaption><b>Training loss.*</svg>' three.html | head -n 1 | grep -o 'class="l c[0-9]"' | sort -u | wc -l)" -eq 3
refused() { # refused WHAT WORDS...: exit code 1 and one line that says it
    local code=0
    "${program[@]}" "${@:2}" >out 2>err || code=$?
    check "${*:2}: exit code $code, $(cat err)" test "$code $(grep -c "^error: .*$1" err)" = '1 1'
}
refused 'needs --run' report
refused 'no run' report --run=ml
refused 'no such file' report --run=nowhere
echo 'grid_intensity = viel' >bad.conf
refused 'bad.conf: line 1: grid_intensity = viel: expected a number' report --run=run --facts=bad.conf
refused 'facts are of one run, and --run names 2' report --run=run,other --facts=facts.conf
refused 'check is for report --model' report --run=run --check
refused 'no report' report --run=run --out=run/metrics.jsonl
refused 'is a folder' report --run=run --out=run
refused 'no run' watch --run=nowhere
refused 'needs --run' watch
check 'the metrics are whole' test "$(jq -s length run/metrics.jsonl)" -eq 14

# A run of a version that recorded no events: its newest checkpoint has options and model.
mkdir older && cp -r run/metrics.jsonl run/step_00000014 older
"${program[@]}" report --run=older >out 2>err
check "without events: $(page older/report.html 2>&1)" page older/report.html
for text in 'Memory of a rank' 'qkv_w' 'All options' 'badge good">finished'; do check "older/report.html lacks $text" grep -qF -- "$text" older/report.html; done

# Names, texts and numbers of anybody.
evil="<img src=x onerror=alert(1)>&\"'"
mkdir "$evil"
{
    printf '{"step": 1, "loss": null, "grad_norm": NaN, "lr": 1e999}\n'
    printf '{"step": 2, "loss": 3.5, "eval_<script>alert(1)</script>_acc": 0.25, "event": "<b>skip", "event_step": 2}\n'
    printf '{"step": 3, "loss": 1e308, "grad_norm": -1e308, "lr": 0, "tokens": 9e18, "step_ms": -5}\n{"step": 9007199254740993, "loss": 2}\nno JSON\n'
    printf '\001\002\377\n[1, 2]\n{"step": "four"}\n{"step": 5, "lo'
} >"$evil/metrics.jsonl"
printf '{"step": 2, "prompt": "</p><script>alert(2)</script>", "text": "\\u001b]0;owned\\u0007 \\u202e <!-- "}\n{"step": {}, "text": 1}\n' >"$evil/samples.jsonl"
printf '{"event": "start", "step": 0, "time": 1e300, "ranks": -3, "device": "<i>", "options": {"<u>": "</td>", "steps": "x"}, "model": {"family": "<s>", "tensors": 5, "memory": [1]}}\n{"event": 7}\n' >"$evil/events.jsonl"
"${program[@]}" report --run="$evil" >out 2>err
check "hostile: $(cat err)" page "$evil/report.html"
check "hostile: $(page "$evil/report.html" 2>&1)" test -s "$evil/report.html"
check 'lines that cannot be read are counted' grep -q '7 lines of the run' "$evil/report.html"
"${program[@]}" watch --run="$evil" --once >out 2>err
check "hostile, on the terminal: $(cat err)" test -s out
check 'nothing moves the terminal' lacks -P '[\x00-\x08\x0b-\x1f\x7f]' out
mkdir empty && : >empty/metrics.jsonl
"${program[@]}" report --run=empty >out 2>err
check "an empty run: $(cat err)" page empty/report.html
check 'it says so' grep -q 'no step yet' empty/report.html
"${program[@]}" watch --run=empty --once >out 2>err
check "watch: an empty run: $(cat err)" grep -q 'no step yet' out

# 100,000 steps, of which one is far off; of a version that wrote nothing but the metrics.
mkdir long
awk 'BEGIN { for (s = 1; s <= 100000; s++) printf "{\"step\": %d, \"tokens\": %d, \"loss\": %.6f, \"lr\": %.6g, \"grad_norm\": %.5g, \"step_ms\": 2.5, \"tokens_per_s\": 400000}\n", s, s * 1000, 3 + 6 * exp(-s / 900), 6e-4 * (1 - s / 100000), s == 60321 ? 38.5 : 0.5 + s % 7 / 10 }' >long/metrics.jsonl
"${program[@]}" report --run=long >out 2>err
check "100,000 steps: $(page long/report.html 2>&1)" page long/report.html
check "the page is small: $(wc -c <long/report.html)" test "$(wc -c <long/report.html)" -lt 400000
check 'a spike of one step is not lost' grep -q 'largest 38.5 at step 60,321' long/report.html
check 'a point is a range of steps' grep -q 'a point is 128 steps' long/report.html

# ------------------------------------------------------------------ watch

for locale in C C.UTF-8; do
    for columns in 30 80 200; do
        LC_ALL=$locale COLUMNS=$columns "${program[@]}" watch --run=run --once >out 2>err
        widest=$(perl -CSD -ne 'chomp; $m = length if length > ($m // 0); END { print $m }' out)
        check "watch, $locale: $widest columns of $columns" test "$widest" -le "$columns" -a "$widest" -gt $((columns / 2))
        check "watch, $locale, $columns: $(cat err)" grep -q '^run: finished, step 14' out
        check "watch, $locale, $columns: no colours" lacks $'\033' out
        check "watch, $locale, $columns: the sample" grep -q 'sample at step 12: Der' out
    done
    case $locale in
        C) check 'a curve of stars' grep -q '\*\*' out ;;
        *) check 'a curve in Braille' grep -q $'\xe2\xa0[\x81-\xbf]\|\xe2\xa1\|\xe2\xa2\|\xe2\xa3' out ;;
    esac
done
"${program[@]}" watch stopped >out 2>err
check "watch RUN: $(cat err)" grep -q '^stopped: stopped, step 1 of' out
sed -i '/finished/d' other/events.jsonl
"${program[@]}" watch other >out 2>err # a line a while ago, and no end: it is at work
check 'watch: running' grep -q '^other: running, step 1 ' out
touch -d '1 hour ago' other/metrics.jsonl
sed -i 's/"time": [0-9.]*/"time": 1000/' other/events.jsonl
"${program[@]}" watch other >out 2>err
check "watch: stalled: $(head -n 1 out)" grep -q '^other: stalled, no word for \(1 h 00\|59\|60\)' out
"${program[@]}" watch long >out 2>err
check 'watch: a run of a version before' grep -q '^long: running, step 100,000' out
touch -d '1 hour ago' long/metrics.jsonl
"${program[@]}" watch long >out 2>err
check 'watch: it has said nothing for long' grep -q '^long: silent, no word for' out

# ------------------------------------------------------------------ where nothing can be written, and the bits

train plain --steps=6 --tensorboard=off
check 'without TensorBoard' test ! -e plain/tb
mkdir -p blocked/report.html blocked/events.jsonl blocked/samples.jsonl && : >blocked/tb && : >no_store
train blocked --steps=6 --mlflow=no_store
code=$?
check "nowhere to write: exit code 0, $(head -n 3 err)" test $code -eq 0
check "blocked: the run is whole: $(cat err)" test -e blocked/step_00000006/run.json
check "one warning each: $(cat err)" test "$(grep -c '^warning: ' err)" -eq 5
check 'and nothing else' test "$(wc -l <err)" -eq 5
for run in run/step_00000004 blocked/step_00000004; do
    for file in model.safetensors optimizer-00001-of-00001.safetensors; do
        check "$run/$file: the bits of a run without all of it" cmp "$run/$file" "plain/step_00000004/$file"
    done
done
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=64k none small 2>/dev/null; then
    mkdir full && ln -s "$work/small" full/tb
    train full --steps=6
    head -c 65536 /dev/zero >small/fill 2>/dev/null
    train full --steps=10
    check "a full disk: $(cat err)" test "$(grep -c '^warning: cannot write full/tb.*No space left' err)" -eq 1
    check 'is one warning' test "$(wc -l <err)" -eq 1
    check 'the run is whole' test -e full/step_00000010/run.json
    umount small
else skip 'follow_test.sh, a full disk' 'no tmpfs can be mounted'; fi
conclude
