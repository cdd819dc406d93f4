# shellcheck shell=bash
# common.sh: what the scripts here share that fetch a known corpus; sourced, never run. debian_de.sh goes its own way.
#
# A script sets title, licence, about (the page that says so), from (the base address) and tools, and then:
#
#   options "$@"            the words below; a script takes its own ones out before
#   get URL FILE            one small file of the publisher's: a listing, checksums
#   edition_is NAME         which of several editions this is; a folder holds one
#   listing                 reads what there is: lines `name TAB bytes TAB checksum TAB url`, bytes and checksum as far as
#                           the publisher says them (- : not), a checksum as md5:HEX or sha256:HEX
#   fetch_all HINT          shows it, fetches it, checks it, and says how our program reads it
#   huggingface REPO FOLDER in place of the last four: the parquet files of a data set there
#
# Words of all of them:
#   --out=FOLDER    where it goes (default: run/NAME in this repository): FOLDER/files, FOLDER/manifest.tsv
#   --from=URL      another server with the same paths, such as a mirror
#   --match=PATTERN only files whose name fits this pattern of the shell, such as '*web*'
#   --limit=N       only the first N files; --limit=20GB (kB, MB, GB, TB): as many as that holds, at least one
#   --list          says what would be fetched, and fetches nothing
#   --check         reads what is there already once more, and compares it with the manifest
#   --tries=N       how often a transfer that brings nothing more is tried (default 6), with longer and longer pauses
#
# Whatever ends a run, the same command goes on: whole files stay, one that was cut goes on where it was cut (HTTP ranges),
# unless the server has another file by now. A file is put into FOLDER/files when its checksum is right; where the publisher
# has none, gzip's, bzip2's or zstd's own inside it. One that is wrong or missing is named, costs itself and nothing else,
# and makes the exit code 1. manifest.tsv has a line a file: source, edition, name, url, fetched, licence, bytes, sha256,
# published (the publisher's checksum), checked (against: publisher, archive or nothing).
#
# Names and addresses come from servers: a name must be one that stays in FOLDER, and every address begins with --from.

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"

name=${0##*/} name=${name%.sh} title='' licence='' about='' from='' token='' tools=''
out='' match='' limit='' list=0 check=0 tries=6 edition=- count=0
again='run the same command again: it goes on where this one stopped'

# bytes TEXT: 20GB as a number; fails if it is none
bytes() {
    [[ $1 =~ ^([1-9][0-9]{0,5})([kMGT])B$ ]] || return 1
    case ${BASH_REMATCH[2]} in
        k) echo "${BASH_REMATCH[1]}000" ;;
        M) echo "${BASH_REMATCH[1]}000000" ;;
        G) echo "${BASH_REMATCH[1]}000000000" ;;
        T) echo "${BASH_REMATCH[1]}000000000000" ;;
    esac
}
human() { awk 'BEGIN { n = ARGV[1]; u = "bytes"; if (n >= 1e9) { n /= 1e9; u = "GB" } else if (n >= 1e6) { n /= 1e6; u = "MB" } else if (n >= 1e3) { n /= 1e3; u = "kB" } printf(u == "bytes" ? "%d %s" : "%.1f %s", n, u) }' "$1"; }
size() { if [ -e "$1" ]; then stat -c %s -- "$1"; else echo 0; fi; }

options() {
    local word tool
    for word in "$@"; do
        case $word in
            --help | -h)
                usage
                sed -n '/^# Words of all/,/^#$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
                exit 0
                ;;
            --out=?*) out=${word#*=} ;;
            --from=?*) from=${word#*=} ;;
            --match=?*) match=${word#*=} ;;
            --limit=?*) limit=${word#*=} ;;
            --tries=?*) tries=${word#*=} ;;
            --list) list=1 ;;
            --check) check=1 ;;
            *) fail "unknown option '$word'; see $name.sh --help" ;;
        esac
    done
    from=${from%/}
    [[ $from =~ ^https?://[^[:space:]]+$ ]] || fail "--from=$from: expected an address that begins with https:// or http://"
    [[ $from != https:* ]] || secure=(--proto-redir '=https')
    [[ $tries =~ ^[1-9][0-9]?$ ]] || fail "--tries=$tries: expected 1 to 99"
    if ! [[ $limit =~ ^([1-9][0-9]{0,8})?$ ]] && ! bytes "$limit" >/dev/null; then
        fail "--limit=$limit: expected a number of files, or of bytes such as 500MB or 20GB"
    fi
    for tool in curl jq sha256sum md5sum flock $tools; do
        command -v "$tool" >/dev/null || fail "$tool is not there; install it (Debian: apt-get install curl jq coreutils util-linux gzip bzip2 zstd)"
    done
    out=${out:-$root/run/$name}
    case $out in *[,*?[]*) fail "the folder $out has one of , * ? [ in its name, which lists of files cannot hold; choose another with --out=FOLDER" ;; esac
    work=$(mktemp -d)
    trap 'rm -rf -- "$work"' EXIT
    (umask 077 && printf '%s' "${token:+Authorization: Bearer $token}" >"$work/header")
    if [ $list = 0 ]; then
        if ! mkdir -p -- "$out/files" "$out/parts" || ! out=$(cd -- "$out" && pwd); then fail "cannot make the folder $out; choose another with --out=FOLDER"; fi
        exec 9>"$out/.lock"
        flock -n 9 || fail "another run fetches into $out; wait for it, or choose another folder with --out=FOLDER"
    fi
    [ ! -e "$out/edition" ] || edition=$(head -c 200 -- "$out/edition")
}

# ------------------------------------------------------------------ small files

# call URL WORD...: curl with what every call needs; its exit code; the server's answer in $status, curl's words in $said
secure=() status=000 said=''
call() {
    local url=$1 code=0
    shift
    curl -L -f --proto '=https,http' "${secure[@]}" -H "@$work/header" --connect-timeout 30 --speed-limit 100 --speed-time 60 \
        -w '%{http_code} %{errormsg}' "$@" -- "$url" >"$work/status" || code=$?
    read -r status said <"$work/status" || true
    return $code
}
pause() { sleep $(($1 < 6 ? 1 << ($1 - 1) : 60)); }
advice() {
    case $status in
        401 | 403) echo "an account may be needed: accept the terms at $about, and set HF_TOKEN, where it is Hugging Face" ;;
        404 | 410) echo "what is known here of this server's paths is out of date, or --from is another server; see $about" ;;
        *) echo "is there a network? If so, $again" ;;
    esac
}

# get URL FILE [HEADERS]: tried again as long as it is the server's or the network's fault
get() {
    local try code
    for ((try = 1; ; try++)); do
        code=0
        call "$1" -s -o "$2" -D "${3:-/dev/null}" || code=$?
        [ $code != 0 ] || return 0
        if [ $code = 22 ] && [[ $status != 429 && $status != 5?? ]]; then break; fi
        [ $try -lt "$tries" ] || break
        pause $try
    done
    fail "$1 could not be fetched ($said); $(advice)"
}

# ------------------------------------------------------------------ what there is

edition_is() {
    if [ "$edition" != - ] && [ "$edition" != "$1" ]; then
        fail "$out holds edition $edition, and this is $1; choose another folder with --out=FOLDER"
    fi
    edition=$1
}

# A name stays below the folder: no part of it is empty or begins with a dot, and it has no backslash or control character.
safe_name() { [[ ${#1} -le 200 && $1 =~ ^[^./\\[:cntrl:]][^/\\[:cntrl:]]*(/[^./\\[:cntrl:]][^/\\[:cntrl:]]*)*$ ]]; }

listing() {
    local file size sum url tag held=0 most
    while IFS=$'\t' read -r file size sum url; do
        # shellcheck disable=SC2053  # it is a pattern
        [[ -z $match || $file == $match ]] || continue
        safe_name "$file" || fail "$from lists a file with the name '$file', which is none to be written here"
        [[ $size == - ]] || whole "$size" || fail "$from lists $file with '$size' bytes; expected a number"
        [[ $sum =~ ^(-|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$ ]] || fail "$from lists $file with the checksum '$sum'; expected MD5 or SHA-256"
        [[ $url == "$from"/* ]] || fail "$file would come from elsewhere, $url; expected an address that begins with $from"
        printf '%s\t%s\t%s\t%s\n' "$file" "$size" "$sum" "$url"
    done >"$work/named"
    count=$(wc -l <"$work/named")
    [ "$count" -gt 0 ] || fail "there is nothing to fetch at $from${match:+: no name fits --match=$match}"
    if [[ $limit =~ ^[0-9]+$ ]]; then sed -i "${limit}q" "$work/named"; fi
    most=$(bytes "$limit" || echo 0)
    sizes
    : >"$work/take"
    while IFS=$'\t' read -r file size sum url tag; do
        [ "$size" = - ] || held=$((held + size))
        if [ "$most" -gt 0 ] && [ $held -gt "$most" ] && [ -s "$work/take" ]; then break; fi
        printf '%s\t%s\t%s\t%s\t%s\n' "$file" "$size" "$sum" "$url" "$tag" >>"$work/take"
    done <"$work/sized"
}

# Asks the server for the sizes that its lists have not, and for what tells one version of a file from the next.
sizes() {
    if ! cut -f 2 "$work/named" | grep -qx -- -; then
        sed $'s/$/\t-/' "$work/named" >"$work/sized"
        return
    fi
    cut -f 4 "$work/named" | sed 's/["\\]/\\&/g; s/^/url = "/; s/$/"/' >"$work/urls"
    curl -sLI --proto '=https,http' "${secure[@]}" -H "@$work/header" --connect-timeout 30 --max-time 300 -w '== %{http_code}\n' -K "$work/urls" |
        tr -d '\r' | awk '
            function reset() { bytes = "-"; tag = "-" }
            BEGIN { reset() }
            /^HTTP\// { reset() }
            tolower($1) == "content-length:" && $2 ~ /^[0-9]+$/ { bytes = $2 }
            tolower($1) == "etag:" || (tolower($1) == "last-modified:" && tag == "-") { tag = $0; gsub(/[^A-Za-z0-9:"\/ -]/, "?", tag) }
            $1 == "==" { if ($2 != 200) reset(); print bytes "\t" tag "\t" $2; reset() }' >"$work/heads" || true
    grep -qv $'\t000$' "$work/heads" || fail "$from does not answer; is there a network? If so, $again"
    paste "$work/named" "$work/heads" | awk -F'\t' -v OFS='\t' '{ print $1, $2 == "-" && $5 != "" ? $5 : $2, $3, $4, $6 != "" ? $6 : "-" }' >"$work/sized"
}

# ------------------------------------------------------------------ fetching

fetch_all() {
    local total unknown files file size sum url tag wrong=() at=0
    read -r files total unknown < <(awk -F'\t' '{ n++; if ($2 == "-") u++; else b += $2 } END { printf "%d %.0f %d\n", n, b, u }' "$work/take")
    echo "$name.sh: $title"
    echo "  licence   $licence"
    echo "            $about"
    [ "$edition" = - ] || echo "  edition   $edition"
    echo "  size      $files of $count files, $(human "$total")$([ "$unknown" = 0 ] || echo " and $unknown of unknown size"), as ${from#*://} says today"
    if [ $list = 1 ]; then
        while IFS=$'\t' read -r file size sum url tag; do
            [ "$size" = - ] || size=$(human "$size")
            printf '  %-52s %10s  %s\n' "$(printable "$file")" "${size/#-/?}" "${sum%%:*}"
        done <"$work/take"
        exit 0
    fi
    if [ "$edition" != - ]; then echo "$edition" >"$out/edition" || full edition; fi
    room
    echo "  into      $out"
    while IFS=$'\t' read -r file size sum url tag <&8; do
        at=$((at + 1))
        if there "$file" "$size" "$sum" "$url"; then continue; fi
        echo "  $at/$files $(printable "$file")$([ "$size" = - ] || echo ", $(human "$size")")"
        if transfer "$file" "$url" "$size" "$sum $tag" && accept "$file" "$url" "$sum"; then continue; fi
        wrong+=("$file")
    done 8<"$work/take"
    echo "$name.sh: $((files - ${#wrong[@]})) of $files files are whole, in $out/files; $out/manifest.tsv says what they are"
    if [ ${#wrong[@]} -gt 0 ]; then fail "${#wrong[@]} of $files files are missing: ${wrong[*]:0:10} (the lines above say why); $again"; fi
    find "$out/parts" -depth -mindepth 1 -type d -empty -delete
    echo "Next: ./train_gpt_cpu corpus --input=$(printf %q "$out/files") --out=$(printf %q "$out/clean")${1:+ $1}"
}

# Does what is still to come fit? Nothing is fetched if it does not.
room() {
    local file size rest=0 free
    while IFS=$'\t' read -r file size _; do
        [ "$size" = - ] || [ -e "$out/files/$file" ] || rest=$((rest + size - $(size "$out/parts/$file")))
    done <"$work/take"
    free=$(df -Pk -- "$out" | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')
    if [ -n "$free" ] && [ $rest -gt "$free" ]; then
        fail "$(human $rest) are still to come, and $(human "$free") are free in $out; make room, choose another folder with --out=FOLDER, or take less with --limit=N"
    fi
}
full() { fail "cannot write $out/$1, where $(df -Pk -- "$out" | awk 'NR == 2 { printf "%.1f MB", $4 / 1024 }') are free; make room, then $again"; }

# there FILE BYTES SUM URL: is it there whole? One that the manifest has not, or has otherwise, is looked at.
there() {
    local path=$out/files/$1 row
    [ -e "$path" ] || [ -L "$path" ] || return 1
    if [ -L "$path" ] || [ ! -f "$path" ]; then fail "$path is no plain file; remove it"; fi
    row=$(manifest_row "$1")
    if [ "$(cut -f 7,9 <<<"$row")" = "$(size "$path")"$'\t'"$3" ] && [[ $2 == - || $2 == "$(size "$path")" ]]; then
        [ $check = 1 ] || return 0
        [ "$(sha256sum <"$path" | cut -c1-64)" != "$(cut -f 8 <<<"$row")" ] || return 0
        echo "  $(printable "$1") is not what it was when it came (SHA-256 in manifest.tsv); it is fetched again"
        rm -f -- "$path"
        return 1
    fi
    echo "  $(printable "$1") is there, and not as manifest.tsv has it; looking at it"
    if ! mkdir -p -- "$(dirname -- "$out/parts/$1")" || ! mv -- "$path" "$out/parts/$1"; then full "parts/$1"; fi
    if [[ $2 == - || $2 == "$(size "$out/parts/$1")" ]] && accept "$1" "$4" "$3"; then return 0; fi
    rm -f -- "$out/parts/$1"
    return 1
}
manifest_row() { [ ! -e "$out/manifest.tsv" ] || FILE=$1 awk -F'\t' 'NR > 1 && $3 == ENVIRON["FILE"]' "$out/manifest.tsv"; }

# transfer FILE URL BYTES IDENTITY -> $out/parts/FILE, whole; false: not to be had
transfer() {
    local part=$out/parts/$1 try=1 before after code bar=(-s)
    [ ! -t 2 ] || bar=(--progress-bar)
    mkdir -p -- "$(dirname -- "$part")" || full "parts/$1"
    if [ -e "$part" ] && [ "$(cat -- "$part.of" 2>/dev/null)" != "$2 $3 $4" ]; then
        echo "    the server has another file by now; from its beginning"
        rm -f -- "$part"
    fi
    printf '%s\n' "$2 $3 $4" >"$part.of" || full "parts/$1.of"
    while :; do
        before=$(size "$part") code=0
        if [[ $3 != - && $before -ge $3 ]]; then break; fi
        [ "$before" = 0 ] || echo "    on from $(human "$before")"
        call "$2" "${bar[@]}" -C - -o "$part" || code=$?
        after=$(size "$part")
        case $code in
            0) if [[ $3 == - || $after -ge $3 ]]; then break; fi ;;
            22)
                # Nothing behind the end: where nobody said the size, this is what a whole file looks like.
                if [[ $status == 416 && $3 == - && $before -gt 0 ]]; then break; fi
                if [[ $status == 416 ]]; then
                    rm -f -- "$part"
                elif [[ $status != 408 && $status != 429 && $status != 5?? ]]; then
                    echo "    not to be had: $said; $(advice)" >&2
                    return 1
                fi
                ;;
            33)
                echo "    this server cannot go on within a file; from its beginning"
                rm -f -- "$part"
                continue
                ;;
            23 | 153) full "parts/$1" ;; # 153: by SIGXFSZ
        esac
        # A try that goes on and brings more is not counted.
        if [ "$before" -gt 0 ] && [ "$after" -gt "$before" ]; then try=1; fi
        if [ $try -ge "$tries" ]; then
            case $code in 5 | 6 | 7) fail "$from cannot be reached ($said); $again" ;; esac
            echo "    broke off at $(human "$after"): $said" >&2
            return 1
        fi
        pause $try
        try=$((try + 1))
    done
    if [[ $3 != - && $(size "$part") != "$3" ]]; then
        echo "    $(size "$part") bytes came, and the server has $3; they are removed" >&2
        rm -f -- "$part" "$part.of"
        return 1
    fi
}

# accept FILE URL SUM: $out/parts/FILE is what the publisher says, and takes its place; false: it is not, and is gone
accept() {
    local part=$out/parts/$1 checked=publisher sha have=- why=''
    sha=$(sha256sum <"$part" | cut -c1-64)
    case $3 in
        sha256:*) have=sha256:$sha ;;
        md5:*) have=md5:$(md5sum <"$part" | cut -c1-32) ;;
    esac
    if [ "$have" != "$3" ]; then
        why="its checksum is wrong: expected $3, found $have"
    elif [ "$3" = - ]; then
        checked=archive
        case $1 in
            *.gz) why=$(gzip -t <"$part" 2>&1) || why="it is damaged: $why" ;;
            *.bz2) why=$(bzip2 -t <"$part" 2>&1) || why="it is damaged: $why" ;;
            *.zst) why=$(zstd -tq <"$part" 2>&1) || why="it is damaged: $why" ;;
            *) checked=nothing ;;
        esac
    fi
    if [ -n "$why" ]; then
        echo "    $(printable "${why//$'\n'/ }" | head -c 300); it is removed" >&2
        rm -f -- "$part" "$part.of"
        return 1
    fi
    if ! mkdir -p -- "$(dirname -- "$out/files/$1")" || ! mv -- "$part" "$out/files/$1"; then full "files/$1"; fi
    rm -f -- "$part.of"
    if ! {
        printf 'source\tedition\tname\turl\tfetched\tlicence\tbytes\tsha256\tpublished\tchecked\n' &&
            { [ ! -e "$out/manifest.tsv" ] || FILE=$1 awk -F'\t' 'NR > 1 && $3 != ENVIRON["FILE"]' "$out/manifest.tsv"; } &&
            printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$edition" "$1" "$2" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
                "$licence" "$(size "$out/files/$1")" "$sha" "$3" $checked
    } >"$out/manifest.tsv.part" || ! mv -- "$out/manifest.tsv.part" "$out/manifest.tsv"; then full manifest.tsv; fi
}

# ------------------------------------------------------------------ Hugging Face

# The parquet files in a folder of a data set (empty: in all of it) of the commit that `main` is today, or that the folder
# began with. Addresses as its clients have them (huggingface_hub; docs.rs/hf-hub, listing.rs; huggingface.js,
# ListFileEntry): api/datasets/REPO/revision/main -> sha; api/datasets/REPO/tree/SHA/FOLDER?recursive=true -> an array of
# {type, path, size, lfs: {oid}}, in pages that a Link header with rel="next" chains by a cursor; lfs.oid is the SHA-256.
huggingface() {
    local repo=$1 folder=$2 hint=${3:-} url cursor='' page=0
    if [ "$edition" = - ]; then
        get "$from/api/datasets/$repo/revision/main" "$work/revision"
        edition=$(jq -r '.sha? | strings' "$work/revision" 2>/dev/null || true)
    fi
    [[ $edition =~ ^[0-9a-f]{40}$ ]] || fail "$from/api/datasets/$repo: expected the commit that main is, 40 hexadecimal digits, found '$edition'"
    : >"$work/rows"
    while :; do
        url="$from/api/datasets/$repo/tree/$edition${folder:+/$folder}?recursive=true&expand=false$cursor"
        get "$url" "$work/tree" "$work/headers"
        jq -r --arg to "$from/datasets/$repo/resolve/$edition/" '
            .[] | select(.type == "file" and (.path | endswith(".parquet")))
            | [.path, (.lfs.size // .size), (if .lfs.oid then "sha256:" + .lfs.oid else "-" end), $to + (.path | split("/") | map(@uri) | join("/"))] | @tsv' \
            "$work/tree" >>"$work/rows" 2>/dev/null || fail "$url: expected a list of files in JSON, found $(head -c 200 "$work/tree")"
        cursor=$(tr -d '\r' <"$work/headers" | sed -n 's/^[Ll]ink: *<[^>]*[?&]cursor=\([A-Za-z0-9%_=.~+-]*\)[^>]*> *; *rel="next".*/\&cursor=\1/p' | tail -n 1)
        page=$((page + 1))
        [ -n "$cursor" ] || break
        [ $page -lt 1000 ] || fail "$url: the list of files does not end"
    done
    LC_ALL=C sort -t $'\t' -k 1,1 "$work/rows" >"$work/sorted"
    listing <"$work/sorted"
    fetch_all "$hint"
}
