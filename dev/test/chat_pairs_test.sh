#!/usr/bin/env bash
# scripts/chat/debian_de.jsonl, the German questions and answers, is what its README promises: enough of them, in the form
# that chat models are trained on, no question and no answer twice, short answers, clean text. Then each fault is planted
# in a copy, and must be found.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=dev/test/check.sh
. dev/test/check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
set=scripts/chat/debian_de.jsonl

# faults FILE: what is wrong with it, a line each, with the line where it is.
faults() {
    # shellcheck disable=SC2016  # a program of jq
    jq -rs '
        def plain: ascii_downcase | gsub("[[:punct:]„“–]"; "") | gsub("^ +| +$"; "");
        def twice($what): group_by(plain)[] | select(length > 1) | "\($what) twice: \(.[0])";
        def texts($role): [.[].messages[]? | select(.role == $role) | .content | strings];
        (if length < 330 then "\(length) conversations, fewer than 330" else empty end),
        (map(select(.messages[0].role == "system")) | if length < 20 then "\(length) with a system text, fewer than 20" else empty end),
        (map(select(.messages | length > 3)) | if length < 30 then "\(length) of several turns, fewer than 30" else empty end),
        (texts("user") | twice("a question")),
        (texts("assistant") | twice("an answer")),
        (to_entries[] | "line \(.key + 1): " as $at | .value
            | if keys != ["messages"] then $at + "not an object of messages"
              elif any(.messages[]; keys != ["content", "role"] or (.content | type) != "string") then $at + "a message is more or less than role and content"
              elif [.messages[].role] | join(" ") | test("^(system )?user assistant( user assistant){0,2}$") | not then $at + "other roles than (system) user assistant, one to three times"
              else (.messages[]
                | (if .content | test("^[^ ]+( [^ ]+)*$") | not then $at + "empty, or blanks too many" else empty end),
                  (if .content | test("[[:cntrl:]\\p{Cf}\u00a0`…]") then $at + "a control character, or marks of a typewriter" else empty end),
                  (if .content | gsub("„[^„“]+“"; "") | test("[„“”»«]") then $at + "quotes that are no pair of „ and “" else empty end),
                  (if .role == "assistant" then
                      (if .content | split(" ") | length < 5 or length > 80 then $at + "an answer of fewer than 5 or more than 80 words" else empty end),
                      (if .content | test("[.!?]$") | not then $at + "an answer that does not end as a sentence" else empty end),
                      (if [.content | match("[.!?]( |$)"; "g")] | length > 4 then $at + "an answer of more than four sentences" else empty end)
                   else empty end))
              end)' "$1" 2>&1
    # Escapes would hide what is meant from the last check, and from a reader.
    grep -n '[\]' "$1" | sed 's/^\([0-9]*\):.*/line \1: a backslash/'
    if ! iconv -f UTF-8 -t UTF-8 "$1" >"$work/same" 2>&1; then echo 'not in UTF-8'
    else perl -CSD -MUnicode::Normalize -ne 'print "line $.: not in NFC\n" if NFC($_) ne $_' "$1"; fi
}

faults "$set" >"$work/found"
check "$set: $(wc -l <"$work/found") faults, $(head -n 3 "$work/found")" test ! -s "$work/found"
check 'a conversation is a line' test "$(jq -s length "$set")" = "$(wc -l <"$set")"
said=$(sed -n 's/^\([0-9,]*\) conversations, \([0-9]*\) of several turns, \([0-9]*\) with a system text.*/\1 \2 \3/p' scripts/chat/README.md)
check "the README counts $said" test "${said//,/}" = \
    "$(jq -rs '"\(length) \(map(select([.messages[] | select(.role == "user")] | length > 1)) | length) \(map(select(.messages[0].role == "system")) | length)"' "$set")"

# ------------------------------------------------------------------ planted faults

# plant TEXT MESSAGE...: a conversation more, of these messages, as ROLE: CONTENT; TEXT is all that is wrong with it
plant() {
    printf '%s\n' "$1" >>"$work/wanted"
    shift
    printf '%s\n' "$@" | jq -cRn '{messages: [inputs | capture("^(?<role>[a-z]+): ?(?<content>.*)")]}' >>"$work/set"
}
cp "$set" "$work/set"
ask() { printf 'user: Was fragt die Zeile %d?' "$(wc -l <"$work/set")"; }
say() { printf 'assistant: Sie fragt nach der Zeile %d.' "$(wc -l <"$work/set")"; }
plant 'other roles' "$(say)"
plant 'other roles' "$(ask)"
plant 'other roles' "$(ask)" "$(say)" 'system: Antworte kurz.' 'assistant: Das ist nun keine Antwort.'
plant 'other roles' "$(ask)" "$(say | sed 's/assistant/bot/')"
turns=() && for n in eins zwei drei vier; do turns+=("user: Was kommt nach $n?" "assistant: Es kommt etwas nach $n."); done
plant 'other roles' "${turns[@]}"
plant 'empty, or blanks' "$(ask)" "$(say)" 'user: ' 'assistant: Darauf gibt es keine Antwort.'
plant 'empty, or blanks' "$(ask)" "$(say | sed 's/fragt/& /')"
plant 'a control character' "$(ask)" "$(say)"$'\xc2\x85.' # U+0085: jq writes it as it is
plant 'a control character' "$(ask)" "$(say) Oder"$'\xc2\xa0nicht.' # a blank that does not break
plant 'a control character, or marks' "$(ask)" "$(say) Oder… doch nicht."
plant 'a control character, or marks' "$(ask)" "$(say) \`ls\`."
plant 'quotes that are' "$(ask)" "$(say) „Nichts."
plant 'quotes that are' "$(ask)" "$(say) »Nichts«."
plant 'fewer than 5' "$(ask)" 'assistant: Das fragt sie nicht.'
plant 'more than 80' "$(ask)" "assistant: $(printf 'sehr %.0s' {1..80})gut."
plant 'does not end' "$(ask)" "$(say | tr -d .)"
plant 'four sentences' "$(ask)" "$(say) Nein. Doch. Ach so. Na gut."
plant 'not in NFC' "$(ask)" "$(say) U"$'\xcc\x88ben.'
faults "$work/set" >"$work/found"
check "planted: found is $(cat "$work/found")" test "$(wc -l <"$work/found")" -eq "$(wc -l <"$work/wanted")"
line=$(wc -l <"$set")
while read -r text; do
    line=$((line + 1))
    check "planted in line $line, '$text': found is $(grep "^line $line:" "$work/found")" grep -q "^line $line: .*$text" "$work/found"
done <"$work/wanted"

# found TEXT...: each is among what is wrong with the file
found() {
    local text
    faults "$work/set" >"$work/found"
    for text in "$@"; do check "$text: found is $(head -n 3 "$work/found")" grep -q -- "$text" "$work/found"; done
}
question=$(jq -rs '.[0].messages[0].content' "$set")
sed '3s/"content": "[^"]*/"content": "'"${question%\?} !"'/; 5{p;s/"user", "content": "/&Noch einmal: /}
    7s/Der/D\\u0065r/; 8s/"messages"/"message"/; 9s/"role": "user",/& "name": "x",/' "$set" >"$work/set"
found "a question twice: $question" 'an answer twice' 'line 8: a backslash' 'line 9: not an object' 'line 10: a message is more'
head -n 329 "$set" | grep -v '"system"' | grep -vE '("user".*){2}' >"$work/set"
found 'fewer than 330' 'system text, fewer than 20' 'of several turns, fewer than 30'
sed '7s/}]}$//; 9q' "$set" >"$work/set" && found 'parse error'
head -n 9 "$set" | iconv -f UTF-8 -t ISO-8859-1 >"$work/set" && found 'not in UTF-8'

conclude
