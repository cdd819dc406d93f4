# shellcheck shell=bash
# common.sh: what the scripts here share that fetch a known set and turn it into tasks for eval --tasks; sourced, never run.
#
#   options "$@"                  --out=FOLDER (default: run/eval in this repository), --help
#   fetch DATASET CONFIG SPLIT    its rows, from Hugging Face: the parquet files into which it turns every public set, read
#                                 by duckdb
#   task NAME PROGRAM             the rows that were fetched last -> FOLDER/NAME.jsonl, by a program of jq behind rules.jq
#
# Needs curl, jq and duckdb. HF_ENDPOINT: another server, as for Hugging Face's own tools; HF_TOKEN: for sets that ask for one.
# Rows with an empty choice are left out, and counted: there is nothing to predict in them.
#
# Datasets, configurations, splits and columns are those of lm-evaluation-harness 0.4.13's task files; the card of Global-MMLU
# on Hugging Face names the same columns (subject, question, option_a to option_d, answer).

# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"

endpoint=${HF_ENDPOINT:-https://huggingface.co}
endpoint=${endpoint%/}
out=$root/run/eval
options() {
    local word tool
    for word in "$@"; do
        case $word in
            --help | -h) usage; exit 0 ;;
            --out=?*) out=${word#*=} ;;
            *) fail "unknown option '$word'; see ${0##*/} --help" ;;
        esac
    done
    for tool in curl jq duckdb; do
        command -v "$tool" >/dev/null || fail "$tool is not there; install it (curl, jq: apt-get; duckdb: duckdb.org, or pip install duckdb-cli)"
    done
    mkdir -p -- "$out" || fail "cannot make the folder $out; choose another with --out=FOLDER"
    parts=$(mktemp -d)
    trap 'rm -rf "$parts"' EXIT
}

get() { # get URL FILE
    local header=()
    [ -z "${HF_TOKEN:-}" ] || header=(-H "Authorization: Bearer $HF_TOKEN")
    curl -fsSL --retry 3 --proto-redir =https ${header[@]+"${header[@]}"} -o "$2" -- "$1" ||
        fail "$1 could not be fetched (curl's line above says why); is there a network, and is the set public?"
}

fetch() {
    local url n=0
    : >"$parts/rows.jsonl"
    get "$endpoint/api/datasets/$1/parquet/$2/$3" "$parts/list"
    jq -er 'if type == "array" and length > 0 and all(type == "string") then .[] else error end' "$parts/list" >"$parts/urls" 2>/dev/null ||
        fail "$endpoint/api/datasets/$1/parquet/$2/$3: expected a list of parquet files, found $(head -c 200 "$parts/list")"
    while read -r url; do
        case $url in "$endpoint"/*) ;; *) fail "$1: a file from elsewhere, $url; expected one of $endpoint" ;; esac
        n=$((n + 1))
        get "$url" "$parts/$n.parquet"
        # `duckdb -json` prints an array, or for no rows nothing.
        duckdb -json -c "SELECT * FROM read_parquet('$parts/$n.parquet')" >"$parts/$n.json" </dev/null || fail "$url: duckdb cannot read it (above)"
        jq -c '.[]' "$parts/$n.json" >>"$parts/rows.jsonl" || fail "$url: what duckdb gave is no JSON"
    done <"$parts/urls"
}

task() {
    local made left
    jq -c "$(cat "$root/scripts/eval/rules.jq") $2" "$parts/rows.jsonl" >"$parts/all.jsonl" || fail "$1: the rows are not as expected (above); the set may have changed"
    jq -c 'select((.choices // [.good, .bad, .continuation] - [null]) | all(. != ""))' "$parts/all.jsonl" >"$parts/task.jsonl"
    made=$(wc -l <"$parts/task.jsonl") left=$(($(wc -l <"$parts/all.jsonl") - $(wc -l <"$parts/task.jsonl")))
    [ "$made" -gt 0 ] || fail "$1: no rows were fetched"
    if ! cp "$parts/task.jsonl" "$out/$1.jsonl.part" || ! mv "$out/$1.jsonl.part" "$out/$1.jsonl"; then fail "cannot write $out/$1.jsonl"; fi
    echo "$out/$1.jsonl: $made items$([ "$left" -eq 0 ] || echo ", $left with an empty choice left out")"
}
