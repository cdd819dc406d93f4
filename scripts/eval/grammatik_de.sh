#!/usr/bin/env bash
# grammatik_de.sh: makes the German grammar set: minimal pairs of a right and a wrong sentence, by phenomenon.
#
#   scripts/eval/grammatik_de.sh [--out=FILE] [--pairs=N] [--list]
#
#   --out=FILE   where the pairs go (default: grammatik_de.jsonl beside this script), in the form that
#                train_gpt_cpu eval --tasks=FILE reads: {"good": "...", "bad": "...", "group": "PHENOMENON"}
#   --pairs=N    of each phenomenon, at most (default 56)
#   --list       print the phenomena with what they are about, and make nothing
#
# The frames and words are in grammatik_de.txt, whose head says how they are written. The same files give the same pairs.
# Frames take turns, each with the next entry of its list, so that all of them are in whatever N is.
set -euo pipefail

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"

here=$root/scripts/eval out="" pairs=56 list=0
for word in "$@"; do
    case $word in
        --help | -h) usage; exit 0 ;;
        --out=?*) out=${word#*=} ;;
        --pairs=?*) pairs=${word#*=} ;;
        --list) list=1 ;;
        *) fail "unknown option '$word'; see grammatik_de.sh --help" ;;
    esac
done
if ! whole "$pairs" || [ "$pairs" -eq 0 ]; then fail "--pairs=$pairs: expected a whole number above 0"; fi
if [ $list -eq 1 ]; then
    sed -n 's/^== \([a-z_]*\): \(.*\)/\1\t\2/p' "$here/grammatik_de.txt"
    exit 0
fi
out=${out:-$here/grammatik_de.jsonl}
trap 'rm -f "$out.part"' EXIT
LC_ALL=C.UTF-8 awk -v most="$pairs" '
    function wrong(what) { printf "grammatik_de.txt:%d: %s\n", NR, what >"/dev/stderr"; failed = 1; exit 1 }
    # The k-th sentence of a frame, with a list, if it has one, in place of its name.
    function filled(frame, k,   name, entry, high) {
        if (!match(frame, /<\^?[a-z]+>/)) return frame
        name = substr(frame, RSTART + 1, RLENGTH - 2)
        high = sub(/^\^/, "", name)
        entry = entries[name, k % count[name]]
        if (high) entry = capital(entry)
        return substr(frame, 1, RSTART - 1) entry substr(frame, RSTART + RLENGTH)
    }
    # With a capital at the start, of both words where it starts with two.
    function capital(text,   end) {
        if (substr(text, 1, 1) != "[") return toupper(substr(text, 1, 1)) substr(text, 2)
        end = index(text, "|")
        return "[" toupper(substr(text, 2, 1)) substr(text, 3, end - 2) toupper(substr(text, end + 1, 1)) substr(text, end + 2)
    }
    # Sets open, bar and shut, the places of [, | and ] in a sentence; are they there once, in this order?
    function places(sentence) {
        open = index(sentence, "["); bar = index(sentence, "|"); shut = index(sentence, "]")
        return gsub(/[[]/, "[", sentence) == 1 && gsub(/[|]/, "|", sentence) == 1 && index(substr(sentence, shut + 1), "]") == 0 &&
            open + 1 < bar && bar + 1 < shut
    }
    function emit(sentence,   good, bad, before, behind) {
        if (!places(sentence)) wrong("not one place with [good|bad]: " sentence)
        before = substr(sentence, 1, open - 1); behind = substr(sentence, shut + 1)
        good = before substr(sentence, open + 1, bar - open - 1) behind
        bad = before substr(sentence, bar + 1, shut - bar - 1) behind
        if (good == bad || (good in seen) || (bad in seen)) wrong("a sentence stands there twice: " sentence)
        seen[good] = seen[bad] = 1
        printf "{\"good\": \"%s\", \"bad\": \"%s\", \"group\": \"%s\"}\n", good, bad, group
    }
    # What was read of a phenomenon becomes pairs.
    function finish(   round, f, more, n, k, made) {
        made = 0
        for (round = 0; made < most; round++) {
            more = 0
            for (f = 0; f < frames && made < most; f++) {
                n = sizes[f]
                if (round >= n) continue
                k = (round + 3 * f) % n
                emit(filled(frame[f], k))
                made++; more = 1
            }
            if (!more) break
        }
        frames = 0
    }
    /^#/ || /^ *$/ { next }
    /["\\\t]/ { wrong("a sign that stands for something else in JSON") }
    /^== / {
        finish()
        if (!match($0, /^== [a-z_]+: /)) wrong("expected == NAME: what it is about")
        group = substr($0, 4, RLENGTH - 5)
        next
    }
    /^[a-z]+ = / {
        name = $1
        if (name in count) wrong("the list " name " stands there twice")
        sub(/^[a-z]+ = /, "")
        count[name] = split($0, words, "; ")
        for (i = 1; i <= count[name]; i++) entries[name, i - 1] = words[i]
        next
    }
    {
        sizes[frames] = 1
        if (match($0, /<\^?[a-z]+>/)) {
            name = substr($0, RSTART + 1, RLENGTH - 2)
            sub(/^\^/, "", name)
            if (!(name in count)) wrong("no list is called " name)
            sizes[frames] = count[name]
        }
        frame[frames++] = $0
    }
    END { if (!failed) finish() }
' "$here/grammatik_de.txt" >"$out.part"
mv "$out.part" "$out"
echo "$out: $(wc -l <"$out") pairs in $(sed 's/.*"group": "//; s/".*//' "$out" | sort -u | wc -l) phenomena"
