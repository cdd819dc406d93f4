#!/usr/bin/env bash
# debian_de.sh: a German corpus from the documentation that Debian and Ubuntu ship as packages.
#
#   scripts/corpus/debian_de.sh [--out=DIR] [--set=quick|all] [--with=NAME,...]
#
#   --out=DIR        where everything goes (default: run/debian_de in this repository)
#   --set=quick      about 24 MB to download, about 18 MB of clean text, about a minute (default)
#   --set=all        also installation guide, handbooks, German man pages of dpkg, apt and debhelper,
#                    help of GIMP, GnuCash and others: about 340 MB to download
#   --with=NAME,...  sources that are taken only when asked for:
#                    wesnoth   stories and dialogue of a game, GPL-2+ (130 MB to download), in no order
#                    fortunes  quotes and jokes, some by living authors whose rights are unclear
#
# Result:  DIR/debian_de.txt   UTF-8, documents separated by a form feed: tokenize --doc_split=formfeed
#          DIR/manifest.tsv    source, version, licence, bytes of clean text, SHA-256, ...
#          DIR/text/SOURCE.txt the same text by source;   DIR/copyright/SOURCE  Debian's copyright file
#          DIR/debs/           the packages as downloaded, kept for the next run, which compares their SHA-256 with the
#                              signed lists again: one that is damaged is downloaded anew
#
# Needs no root: package lists are kept in DIR/apt, apart from the system's. The same package
# versions give the same bytes. A package that the release does not have is skipped with a note.
# What text is kept, and why: german_text.pl. The licences stay those of the documentation: whoever
# passes the text on (or claims that a model is free of them) has to read DIR/copyright.
set -euo pipefail

here=$(unset CDPATH && cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/common.sh
. "$here/../common.sh"

# group | source | package, or alternatives in order | kind | folder in it, or alternatives | licence of the text
# (the licence is what the package's debian/copyright says of the documentation, read for Debian 12)
sources='
quick|manpages-de|manpages-de|man|.|GPL-3+ (some pages also others)
quick|manpages-de-dev|manpages-de-dev|man|.|GPL-3+ (some pages also others)
quick|libreoffice-help-de|libreoffice-help-de|libreoffice|usr/share/libreoffice/help/de/text|MPL-2.0
quick|lilypond-doc-html-de|lilypond-doc-html-de|html|usr/share/doc/lilypond/html|GFDL-1.1+
quick|debian-reference-de|debian-reference-de|html|usr/share/debian-reference usr/share/doc/debian-reference-common/docs|GPL-2+
quick|developers-reference-de|developers-reference-de|html|usr/share/developers-reference/de|GPL-2
quick|maint-guide-de|maint-guide-de|html|usr/share/doc/maint-guide-de/html|GPL-2+
quick|debian-faq-de|debian-faq-de|html|usr/share/doc/debian/FAQ/de|copying and changing allowed under the same notice (of its own)
quick|gnome-user-docs|gnome-user-docs-de gnome-user-docs|xml|usr/share/help/de|CC-BY-SA-3.0
quick|package-descriptions|-|apt|-|as the packages described (Debian Description Translation Project)
all|dpkg|dpkg|man|.|GPL-2+
all|dpkg-dev|dpkg-dev|man|.|GPL-2+
all|apt|apt|man|.|GPL-2+
all|debhelper|debhelper|man|.|GPL-2+
all|po4a|po4a|man|.|GPL-2+
all|installation-guide|installation-guide-amd64 installation-guide-arm64|html|usr/share/doc/installation-guide-*/de|GPL-2
all|debian-edu-doc-de|debian-edu-doc-de|html|usr/share/doc/debian-edu-doc-de|GPL-2+
all|debian-handbook|debian-handbook|html|usr/share/doc/debian-handbook/html/de-DE|CC-BY-SA-3.0 or GPL-2+
all|debian-paketmanagement-buch|debian-paketmanagement-buch|html|usr/share/doc|CC-BY-SA-4.0
all|gimp-help-de|gimp-help-de|html|usr/share/gimp/2.0/help/de|GFDL-1.2+
all|gnucash-docs|gnucash-docs|html|usr/share/doc/gnucash-docs|GFDL-1.1+
all|freeciv-data|freeciv-data|mo|usr/share/locale|GPL-2+
fortunes|fortunes-de|fortunes-de|fortune|usr/share/games/fortunes/de|mixed, see its copyright file
'
for campaign in did dm dw ei httt l low nr sof sota sotbe thot trow tsg ttb utbs; do
    sources+="wesnoth|wesnoth-$campaign|wesnoth-1.18-$campaign wesnoth-1.16-$campaign|mo|usr/share/games|GPL-2+
"
done

out=$root/run/debian_de
groups=' quick '
while [ $# -gt 0 ]; do
    word=$1; shift
    case $word in
        --out | --set | --with) [ $# -gt 0 ] || fail "$word needs a value"; word=$word=$1; shift ;;
    esac
    case $word in
        --help | -h) usage; exit 0 ;;
        --out=?*) out=${word#*=} ;;
        --set=quick) groups=' quick ' ;;
        --set=all) groups=' quick all ' ;;
        --with=*)
            IFS=, read -ra asked <<<"${word#*=}"
            for name in "${asked[@]}"; do
                case $name in
                    wesnoth | fortunes) groups="$groups$name " ;;
                    *) fail "--with: expected wesnoth or fortunes, found '$name'" ;;
                esac
            done
            ;;
        *) fail "unknown option '$word'; see debian_de.sh --help" ;;
    esac
done

for tool in apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || fail "this needs $tool, that is, Debian, Ubuntu or one of their kin"
done
"$here/../install.sh" corpus
mkdir -p -- "$out"
out=$(cd -- "$out" && pwd)
cd -- "$out"
started=$SECONDS
# What this script removes is its own: folders of these names that it did not make stay.
if [ ! -e manifest.tsv ] && [ ! -e .debian_de ]; then
    for name in apt debs text copyright debian_de.txt; do
        [[ ! -e $name && ! -L $name ]] || fail "$out/$name is there and not made by this script; choose another folder with --out=DIR"
    done
fi
: >.debian_de
for name in apt debs text copyright; do [ ! -L "$name" ] || fail "$out/$name is a link to elsewhere; remove it, or choose another folder with --out=DIR"; done

# ------------------------------------------------------------------ package lists, apart from the system's

mkdir -p apt/lists/partial apt/cache/archives/partial debs text copyright
apt_options=(
    -o "Dir::State::lists=$out/apt/lists" -o "Dir::Cache=$out/apt/cache" -o Acquire::Languages=de
    -o Acquire::Retries=3 -o APT::Sandbox::User=root
    -o Acquire::IndexTargets::deb-src::Sources::DefaultEnabled=false
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Acquire::IndexTargets::deb::CNF::DefaultEnabled=false
)
# Lists that the system already has need not be downloaded again: apt asks only whether they are current.
if ! compgen -G 'apt/lists/*_Packages*' >/dev/null; then
    find /var/lib/apt/lists -maxdepth 1 -type f ! -name lock -readable -exec cp -p -t apt/lists -- {} + 2>/dev/null || true
fi
echo 'Package lists ...'
if ! apt-get "${apt_options[@]}" -qq update 2>apt/update.log; then
    echo "  apt-get update reported errors (apt/update.log); going on with the lists that are there"
fi

# One call for all packages: lines `package version file sha256`. apt-cache fails when one of them is unknown.
names=$(cut -d'|' -f3 <<<"$sources" | tr ' ' '\n' | grep -x '[a-z].*')
# shellcheck disable=SC2086
versions=$(apt-cache "${apt_options[@]}" show --no-all-versions $names 2>/dev/null |
    awk 'function record() { if (p != "" && !(p in seen)) { seen[p] = 1; print p, v, a, s } p = v = a = s = "" }
        /^Package:/ { record(); p = $2 } /^Version:/ { v = $2 } /^Architecture:/ { a = $2 } /^SHA256:/ { s = $2 } END { record() }' || true)
facts_of() { awk -v p="$1" '$1 == p { print $2, $3, $4 }' <<<"$versions"; }
# right FILE SHA256: is it there, and what the lists say it is? One that is not makes room for a new download.
right() {
    [ -e "$1" ] || [ -L "$1" ] || return 1
    if [ -f "$1" ] && [ ! -L "$1" ] && [ "$(sha256sum <"$1" | cut -c1-64)" = "$2" ]; then return 0; fi
    echo "  $1 is not what the package lists say (SHA-256 $2); it is downloaded again"
    rm -rf -- "$1"
    return 1
}

# ------------------------------------------------------------------ download and unpack

work=$(mktemp -d "$out/unpacked.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
: >plan.part
: >versions.part
wanted=() debs=() sums=()
while IFS='|' read -r group source packages kind folder licence; do
    [[ -n $group && $groups == *" $group "* ]] || continue
    if [ "$kind" = apt ]; then
        printf '%s|%s|%s|%s|%s|%s\n' "$source" - - "$kind" "$folder" "$licence" >>versions.part
        continue
    fi
    version=
    for package in $packages; do
        read -r version architecture sum <<<"$(facts_of "$package")"
        [ -z "$version" ] || break
    done
    if [ -z "$version" ]; then
        echo "  skipped: $source (no such package in this release)"
        continue
    fi
    [[ $version =~ ^[A-Za-z0-9.+~:-]+$ && $architecture =~ ^[a-z0-9-]+$ && $sum =~ ^[0-9a-f]{64}$ ]] ||
        fail "the package lists have no version, architecture and SHA-256 of $package (see $out/apt/update.log)"
    debs+=("debs/${package}_${version//:/%3a}_$architecture.deb") sums+=("$sum")
    right "${debs[-1]}" "$sum" || wanted+=("$package=$version")
    printf '%s|%s|%s|%s|%s|%s\n' "$source" "$package" "$version" "$kind" "$folder" "$licence" >>versions.part
done <<<"$sources"

grep -qv '|apt|' versions.part || fail "apt knows none of the packages: no network, or no package sources in /etc/apt (see $out/apt/update.log)"
if [ ${#wanted[@]} -gt 0 ]; then
    echo "Downloading ${#wanted[@]} packages ..."
    (cd debs && apt-get "${apt_options[@]}" -qq download "${wanted[@]}") ||
        fail "apt-get download failed; run the same command again, what is complete is kept"
fi
for i in "${!debs[@]}"; do
    right "${debs[$i]}" "${sums[$i]}" || fail "$out/${debs[$i]} did not arrive as the package lists say; run the same command again"
done

echo 'Unpacking ...'
state=-
while IFS='|' read -r source package version kind folder licence; do
    where=$work/$source
    mkdir -p "$where"
    if [ "$kind" = apt ]; then
        while IFS= read -r list; do
            /usr/lib/apt/apt-helper cat-file "$list" >>"$where/descriptions"
            echo >>"$where/descriptions"
            # Their version: release and date of the lists they came with.
            sed -n 's/^\(Codename\|Date\): //p' "${list%_*_i18n_*}_InRelease" 2>/dev/null | paste -sd" " >>"$where/state" || true
        done < <(find apt/lists -maxdepth 1 -name '*_i18n_Translation-de*' | LC_ALL=C sort)
        if [ ! -s "$where/descriptions" ]; then
            echo "  skipped: $source (no Translation-de in this release's lists)"
            continue
        fi
        state=$(LC_ALL=C sort -u "$where/state" | paste -sd',')
        where=$where/descriptions
    else
        deb=$(printf '%s\n' "${debs[@]}" | grep -F -- "debs/${package}_${version//:/%3a}_")
        dpkg-deb -x "$deb" "$where" || fail "$out/$deb could not be unpacked (above)"
        cp -- "$where/usr/share/doc/$package/copyright" "copyright/$source" 2>/dev/null || true
        for pattern in $folder; do # the first that is there; [ -e ] sees to patterns that match nothing
            # shellcheck disable=SC2206
            found=("$work/$source"/$pattern)
            where=${found[0]}
            [ ! -e "$where" ] || break
        done
        if [ ! -e "$where" ]; then
            echo "  skipped: $source ($package $version has no $folder)"
            continue
        fi
    fi
    printf '%s\t%s\t%s\n' "$source" "$kind" "${where%/.}" >>plan.part
done <versions.part

# ------------------------------------------------------------------ clean text

echo 'Extracting German text ...'
rm -f text/*
perl "$here/german_text.pl" text <plan.part >counts.part

awk -F'\t' -v OFS='\t' -v state="$state" '
    BEGIN { print "source", "package", "version", "licence", "licence_from", "documents", "paragraphs_found", "paragraphs_kept", "bytes", "sha256" }
    FNR == NR { split($0, v, "|"); package[v[1]] = v[2]; version[v[1]] = v[3] == "-" ? state : v[3]; licence[v[1]] = v[6]; next }
    {
        notice = "copyright/" $1
        if ((getline line < notice) <= 0) notice = "-"
        print $1, package[$1], version[$1], licence[$1], notice, $2, $3, $4, $5, $6
    }
' versions.part counts.part >manifest.tsv.part

rm -f debian_de.txt.part
while IFS=$'\t' read -r source _ _ _ bytes _; do
    [ "$bytes" -gt 0 ] || continue
    if [ -s debian_de.txt.part ]; then printf '\f\n' >>debian_de.txt.part; fi
    cat "text/$source.txt" >>debian_de.txt.part
done <counts.part
[ -s debian_de.txt.part ] || fail "no German text was found in the packages; see $out/text"
mv debian_de.txt.part debian_de.txt
mv manifest.tsv.part manifest.tsv # last: where it is, everything is
rm -f plan.part versions.part counts.part

awk -F'\t' 'NR > 1 { printf "  %-28s %6d documents %8.2f MB  %s\n", $1, $6, $9 / 1e6, $4 }' manifest.tsv
printf 'debian_de.sh: %s MB of German text in %s (%d s), packages: %s MB\n' \
    "$(awk 'BEGIN { printf "%.1f", ARGV[1] / 1e6 }' "$(stat -c %s debian_de.txt)")" "$out/debian_de.txt" \
    $((SECONDS - started)) "$(du -cb -- "${debs[@]}" | awk 'END { printf "%.1f", $1 / 1e6 }')"
