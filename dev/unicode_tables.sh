#!/bin/sh
# Writes llmc/text/unicode.h from the Unicode Character Database.
#
#     dev/unicode_tables.sh FOLDER VERSION > llmc/text/unicode.h
#
# FOLDER holds UnicodeData.txt, PropList.txt, CompositionExclusions.txt and DerivedAge.txt of VERSION
# (https://www.unicode.org/Public/VERSION/ucd/; Debian's package unicode-data has an older one in
# /usr/share/unicode). UAX #44 describes the files, UAX #15 normalisation.
#
# Two versions are at work, because Hugging Face tokenizers is what the ids are compared with: its
# regular expressions know Unicode 16.0, its normaliser knows 9.0. So categories are taken from
# VERSION, and NFC_AGE bounds the age of characters that compose, decompose or are reordered. Both
# were established by asking tokenizers 0.23.3 about every code point.
set -eu
[ $# = 2 ] || { echo "usage: $0 FOLDER VERSION > llmc/text/unicode.h" >&2; exit 1; }
NFC_AGE=9.0
export LC_ALL=C
cd "$1"
awk -v version="$2" -v nfc_age="$NFC_AGE" '
function hex(s,   i, v) {
    v = 0
    for (i = 1; i <= length(s); i++) v = v * 16 + index("0123456789ABCDEF", substr(s, i, 1)) - 1
    return v
}
function range(s,   part) { # sets first, last
    sub(/[ \t]+$/, "", s)
    if (split(s, part, /\.\./) == 2) { first = hex(part[1]); last = hex(part[2]) }
    else first = last = hex(part[1])
}
function flush_line() { if (line != "") print "    " line; line = "" }
function put(s) {
    if (length(line) + length(s) > 114) flush_line()
    line = line s
}
BEGIN {
    FS = ";"
    class["Lu"] = 1; class["Lt"] = 2; class["Lm"] = 3; class["Lo"] = 4; class["Ll"] = 5
    class["Mn"] = class["Mc"] = class["Me"] = 6
    class["Nd"] = class["Nl"] = class["No"] = 7
    PAGE = 128
}
FNR == 1 { file++ }
{ sub(/#.*/, "") }
file == 1 && NF > 1 { # DerivedAge.txt
    range($1)
    if ($2 + 0 <= nfc_age + 0) for (c = first; c <= last; c++) old[c] = 1
}
file == 2 && $2 ~ /^ *White_Space *$/ { range($1); for (c = first; c <= last; c++) space[c] = 1 }
file == 3 && $1 != "" { range($1); excluded[first] = 1 }
file == 4 {
    c = hex($1)
    from = $2 ~ /, Last>$/ ? previous + 1 : c
    previous = c
    if ($3 in class) for (i = from; i <= c; i++) table[i] = class[$3]
    if (!(c in old)) next
    if ($4 > 0) ccc[c] = $4 + 0
    if ($6 != "" && $6 !~ /</) {
        n = split($6, part, " ")
        order[++decompositions] = c
        a[c] = hex(part[1])
        b[c] = n > 1 ? hex(part[2]) : 0
    }
}
END {
    for (c in space) table[c] = 8
    # A character that normalisation has to look at: it is reordered, is not allowed in NFC, or may
    # combine with what stands before it.
    for (c in ccc) attention[c] = 1
    for (i = 1; i <= decompositions; i++) {
        c = order[i]
        if (b[c] == 0 || (c in excluded) || (c in ccc) || (a[c] in ccc)) attention[c] = 1
        else { attention[b[c]] = 1; composed[++compositions] = i - 1 }
    }
    for (c = 4449; c <= 4469; c++) attention[c] = 1 # Hangul vowels U+1161..U+1175
    for (c = 4520; c <= 4546; c++) attention[c] = 1 # Hangul final consonants U+11A8..U+11C2
    for (c in attention) table[c] += 16

    print "/*"
    print "unicode.h: Unicode tables. Made by dev/unicode_tables.sh from the Unicode Character Database"
    print version " (the normalisation data: characters of Unicode " nfc_age " and older; the script says why)."
    print "Do not edit. The data is used under the Unicode Licence v3, https://www.unicode.org/license.txt,"
    print "copyright 1991-2024 Unicode, Inc."
    print ""
    print "    unicode_class(c)                the UNICODE_ class of a code point, + UNICODE_NFC_CHECK"
    print "    unicode_decompositions[]        {c, first, second or 0}: canonical, one step, sorted by c"
    print "    unicode_compositions[]          indices into it that compose, sorted by (first, second)"
    print "    unicode_combining[]             {first, last, canonical combining class}, sorted; others: 0"
    print "Hangul syllables, which follow from arithmetic, are in neither of the last three."
    print "*/"
    print "#ifndef LLMC_UNICODE_H"
    print "#define LLMC_UNICODE_H"
    print ""
    print "#include <stdint.h>"
    print ""
    print "#define UNICODE_VERSION \"" version "\""
    print ""
    print "// The general categories that tokenizers tell apart; SPACE is the property White_Space."
    print "enum {"
    print "    UNICODE_OTHER, UNICODE_LU, UNICODE_LT, UNICODE_LM, UNICODE_LO, UNICODE_LL, UNICODE_M, UNICODE_N, UNICODE_SPACE,"
    print "    UNICODE_CLASS_MASK = 15,"
    print "    UNICODE_NFC_CHECK = 16, // not in NFC, or may change together with what stands before it"
    print "};"
    print ""

    pages = 0
    for (start = 0; start < 1114112; start += PAGE) {
        s = ""
        for (c = start; c < start + PAGE; c++) s = s (c in table ? table[c] : 0) ","
        if (!(s in index_of)) { index_of[s] = pages; content[pages++] = s }
        stage[start / PAGE] = index_of[s]
    }
    print "// Page of each " PAGE " code points."
    print "static const uint16_t unicode_pages[" 1114112 / PAGE "] = {"
    for (i = 0; i < 1114112 / PAGE; i++) put(stage[i] ",")
    flush_line()
    print "};"
    print ""
    print "static const uint8_t unicode_classes[" pages * PAGE "] = {"
    for (i = 0; i < pages; i++) {
        n = split(content[i], part, ",")
        for (j = 1; j < n; j++) put(part[j] ",")
    }
    flush_line()
    print "};"
    print ""
    print "static const uint32_t unicode_decompositions[" decompositions "][3] = {"
    for (i = 1; i <= decompositions; i++) {
        c = order[i]
        put(sprintf("{0x%x, 0x%x, 0x%x},", c, a[c], b[c]))
    }
    flush_line()
    print "};"
    print ""
    # Sorting: insertion into an already nearly sorted list would do, but a merge sort is as short.
    for (i = 1; i <= compositions; i++) { c = order[composed[i] + 1]; key[i] = a[c] * 2097152 + b[c]; item[i] = composed[i] }
    for (width = 1; width < compositions; width *= 2) {
        for (lo = 1; lo <= compositions; lo += 2 * width) {
            i = lo; j = lo + width; k = lo
            while (k < lo + 2 * width && k <= compositions) {
                left = i < lo + width && i <= compositions
                right = j < lo + 2 * width && j <= compositions
                if (left && (!right || key[i] <= key[j])) { key2[k] = key[i]; item2[k++] = item[i++] }
                else { key2[k] = key[j]; item2[k++] = item[j++] }
            }
        }
        for (k = 1; k <= compositions; k++) { key[k] = key2[k]; item[k] = item2[k] }
    }
    print "static const uint16_t unicode_compositions[" compositions "] = {"
    for (i = 1; i <= compositions; i++) put(item[i] ",")
    flush_line()
    print "};"
    print ""
    ranges = 0
    for (c = 0; c < 131072; c++) {
        if (!(c in ccc)) continue
        if (ranges && to[ranges] == c - 1 && value[ranges] == ccc[c]) to[ranges] = c
        else { from_[++ranges] = c; to[ranges] = c; value[ranges] = ccc[c] }
    }
    print "static const uint32_t unicode_combining[" ranges "][3] = {"
    for (i = 1; i <= ranges; i++) put(sprintf("{0x%x, 0x%x, %d},", from_[i], to[i], value[i]))
    flush_line()
    print "};"
    print ""
    print "// c <= 0x10ffff."
    print "static inline unsigned unicode_class(uint32_t c) { return unicode_classes[(uint32_t)unicode_pages[c / " PAGE "] * " PAGE " + c % " PAGE "]; }"
    print ""
    print "#endif"
}' DerivedAge.txt PropList.txt CompositionExclusions.txt UnicodeData.txt
