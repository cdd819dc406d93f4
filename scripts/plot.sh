#!/usr/bin/env bash
# plot.sh: draws the loss curves of runs from their metrics.jsonl.
#
#   scripts/plot.sh [--out=PREFIX] RUN_DIR...      writes PREFIX.svg and PREFIX.png
#
#   --out=PREFIX   default: RUN_DIR/loss of the first run
#
# For each run: training loss of each step (thin), its mean over about a fiftieth of the run (thick),
# validation loss (points), all in nats a token. A step that a resumed run did twice counts once.
# Needs jq and gnuplot (Debian: jq, gnuplot-nox).
set -euo pipefail

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

out=
runs=()
while [ $# -gt 0 ]; do
    word=$1; shift
    case $word in
        --help | -h) usage; exit 0 ;;
        --out) [ $# -gt 0 ] || fail "--out needs a value"; out=$1; shift ;;
        --out=?*) out=${word#*=} ;;
        -*) fail "unknown option '$word'; see plot.sh --help" ;;
        *) runs+=("${word%/}") ;;
    esac
done
[ ${#runs[@]} -gt 0 ] || fail "expected a run's folder (the one that holds metrics.jsonl); see plot.sh --help"
for tool in jq gnuplot; do
    command -v "$tool" >/dev/null || fail "this needs $tool; run scripts/install.sh plot"
done
out=${out:-${runs[0]}/loss}

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# Text of others between gnuplot's single quotes: a quote doubled, no line breaks. Names of files are this script's own:
# gnuplot runs those that begin with | or <.
quoted() { local text; text=$(printable "$1"); printf '%s' "${text//\'/\'\'}"; }
style=
colours=('#1f5fa8' '#c4501b' '#2b8a3e' '#7b3fa0' '#8a6d1a')
for i in "${!runs[@]}"; do
    metrics=${runs[$i]}/metrics.jsonl
    # A pipe, too, is no file: reading it would never end.
    [[ -f $metrics && -r $metrics ]] || fail "$metrics: there is no such file; expected the folder that train --out=... wrote"
    # A killed run may leave half a line at the end: fromjson? passes over it. Of what is there only numbers are taken.
    jq -rR 'fromjson? | objects | select(.step | type == "number") | [.step, .loss, .val_loss] | map(if type == "number" then . else "-" end) | join(" ")' <"$metrics" |
        awk '{ if (!($1 in loss)) order[++n] = $1; if ($2 != "-" || !($1 in loss)) loss[$1] = $2; if ($3 != "-") val[$1] = $3 }
             END { for (i = 1; i <= n; i++) { s = order[i]; print s, loss[s], (s in val) ? val[s] : "-" } }' |
        sort -n >"$work/all$i"
    awk '$2 != "-" { print $1, $2 }' "$work/all$i" >"$work/train$i"
    awk '$3 != "-" { print $1, $3 }' "$work/all$i" >"$work/val$i"
    [ -s "$work/train$i" ] || fail "$metrics: no line in it has a step and a loss yet"
    # A centred mean; near both ends over as many steps as there are on the shorter side.
    awk '{ x[NR] = $1; sum[NR] = sum[NR - 1] + $2 }
         END { h = int(NR / 100); for (i = 1; i <= NR; i++) {
                   w = h; if (i - 1 < w) w = i - 1; if (NR - i < w) w = NR - i
                   print x[i], (sum[i + w] - sum[i - w - 1]) / (2 * w + 1) } }' "$work/train$i" >"$work/mean$i"
    # gnuplot takes two quotes for one inside quotes; an underscore would lower the next letter.
    name=$(quoted "$(basename -- "$(cd -- "${runs[$i]}" && pwd)")")
    colour=${colours[$((i % ${#colours[@]}))]}
    if [ ${#runs[@]} -eq 1 ]; then train_title='training, mean' val_title='validation'; else train_title="$name, training, mean" val_title="$name, validation"; fi
    style+="${style:+, }'train$i' with lines lw 0.5 lc rgb '#50${colour#\#}' notitle"
    style+=", 'mean$i' with lines lw 2 lc rgb '$colour' title '$train_title'"
    if [ -s "$work/val$i" ]; then
        style+=", 'val$i' with linespoints lw 1.5 dt 2 pt 7 ps 0.6 lc rgb '#d03030' title '$val_title'"
    fi
done

title=$(quoted "$(basename -- "$(cd -- "${runs[0]}" && pwd)")")
for format in svg png; do
    case $format in
        svg) terminal="svg size 900,540 dynamic enhanced background '#ffffff' font 'sans,13'" ;;
        png) terminal="pngcairo size 1200,720 enhanced background '#ffffff' font 'sans,13'" ;;
    esac
    (cd -- "$work" && exec gnuplot) 2>"$work/log" <<END || fail "gnuplot: $(head -n 3 "$work/log" | tr '\n' ' ')"
set terminal $terminal
set output 'plot.$format'
set title 'Loss, $title' noenhanced
set xlabel 'step'
set ylabel 'nats a token'
set grid lc rgb '#dddddd'
set border 3
set tics nomirror
set key top right
plot $style
END
    # Beside its target first, under a name that nobody has: then it is there whole or not at all.
    part=$(mktemp -- "$out.$format.XXXXXX") || fail "cannot write $out.$format (above)"
    if ! { cat -- "$work/plot.$format" >"$part" && chmod "$(printf '%o' $((0666 & ~$(umask))))" -- "$part" && mv -fT -- "$part" "$out.$format"; }; then
        rm -f -- "$part"
        fail "cannot write $out.$format (above)"
    fi
done
echo "plot.sh: wrote $(printable "$out").svg and .png"
