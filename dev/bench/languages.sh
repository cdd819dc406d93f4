#!/usr/bin/env bash
# languages.sh: makes llmc/corpus/language_table.h anew, from text in Debian's packages.
#
#   dev/bench/languages.sh [FOLDER [TABLE]]     default: build/languages; FOLDER/held: text that was not counted, by class
#
# Downloads man pages of 14 languages (manpages-*, GPL-2+ and others) and messages of KDE's libraries (libkf5*-data,
# LGPL-2.1+), and counts them; code is this repository's and that of Perl's and Python's libraries (Artistic, PSF). What
# goes into the table is counts of three letters and of words, no text. Another release of Debian, or other sources here,
# give a slightly different table: then measure again (languages.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-build/languages}
mkdir -p "$folder/debs" "$folder/text" "$folder/held"
mapfile -t kde < <(apt-cache pkgnames libkf5 | grep -- '-data$' | sort)
languages=(da nl sv fr nb es it pl pt-br "fi" hu cs ro de)
(
    cd "$folder/debs"
    for package in manpages manpages-dev manpages-de-dev "${languages[@]/#/manpages-}" "${kde[@]}"; do
        compgen -G "${package}_*.deb" >/dev/null || apt-get download -q "$package" || echo "left out: $package"
    done
)
for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/text"; done
perl dev/bench/languages.pl "$folder/text" "${2:-llmc/corpus/language_table.h}" "$folder/held"
