# shellcheck shell=bash
# common.sh: what the scripts here share that fetch a known set and turn it into tasks for eval --tasks; sourced, never run.
#
#   options "$@"                  --out=FOLDER (default: run/eval in this repository), --shots=N, --help
#   fetch DATASET CONFIG SPLIT    its rows, from Hugging Face: the parquet files into which it turns every public set, read
#                                 by duckdb
#   examples DATASET CONFIG SPLIT with --shots=N: where the examples come from; before fetch
#   no_examples WHY               there are none: --shots is an error
#   task NAME PROGRAM             the rows that were fetched last -> FOLDER/NAME.jsonl, by a program of jq behind rules.jq
#
# --shots=N: N solved questions stand before each one, as the harness writes them: the context, the delimiter (" " unless the
# task says another), the right choice and an empty line. They are the first N of the split that the harness takes examples
# from, of the question's group where there are groups, without the question itself where it is of that split. That is the
# harness's sampler first_n, which its task files name for global_mmlu_full_de and belebele_deu_Latn; for the others it draws
# anew for every question unless it is told fewshot_config: {sampler: first_n}. The file is NAME_Nshot.jsonl.
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
out=$root/run/eval shots=0 examples_of=""
options() {
    local word tool
    for word in "$@"; do
        case $word in
            --help | -h) usage; exit 0 ;;
            --out=?*) out=${word#*=} ;;
            --shots=*) shots=${word#*=} ;;
            *) fail "unknown option '$word'; see ${0##*/} --help" ;;
        esac
    done
    if ! whole "$shots" || [ "$shots" -gt 100 ]; then fail "--shots=$shots: expected a whole number from 0 to 100"; fi
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

fetch() { # fetch DATASET CONFIG SPLIT [clause]: clause: what stands behind the table's name in SQL
    local url n=0
    rows_of=$1/$2/$3
    : >"$parts/rows.jsonl"
    get "$endpoint/api/datasets/$1/parquet/$2/$3" "$parts/list"
    jq -er 'if type == "array" and length > 0 and all(type == "string") then .[] else error end' "$parts/list" >"$parts/urls" 2>/dev/null ||
        fail "$endpoint/api/datasets/$1/parquet/$2/$3: expected a list of parquet files, found $(head -c 200 "$parts/list")"
    while read -r url; do
        case $url in "$endpoint"/*) ;; *) fail "$1: a file from elsewhere, $url; expected one of $endpoint" ;; esac
        n=$((n + 1))
        get "$url" "$parts/$n.parquet"
        # `duckdb -json` prints an array, or for no rows nothing.
        duckdb -json -c "SELECT * FROM read_parquet('$parts/$n.parquet')${4:-}" >"$parts/$n.json" </dev/null || fail "$url: duckdb cannot read it (above)"
        jq -c '.[]' "$parts/$n.json" >>"$parts/rows.jsonl" || fail "$url: what duckdb gave is no JSON"
    done <"$parts/urls"
}

examples() {
    [ "$shots" -gt 0 ] || return 0
    fetch "$1" "$2" "$3" ' LIMIT 2000' # of each file: more than is needed, and less than all of a training split
    mv "$parts/rows.jsonl" "$parts/examples.jsonl"
    examples_of=$rows_of
}
no_examples() { [ "$shots" -eq 0 ] || fail "--shots=$shots: there are no examples for ${0##*/}: $1"; }

turn() { # turn NAME ROWS PROGRAM: rows -> tasks on standard output, each with the row that it is of
    jq -c "$(cat "$root/scripts/eval/rules.jq") . as \$row_of_set | ($3) | .row = \$row_of_set" "$2" || fail "$1: the rows are not as expected (above); the set may have changed"
}

task() {
    local made left name=$1
    turn "$1" "$parts/rows.jsonl" "$2" >"$parts/all.jsonl"
    if [ "$shots" -gt 0 ]; then
        name=$1_${shots}shot
        turn "$1" "$parts/examples.jsonl" "$2" >"$parts/solved.jsonl"
        # shellcheck disable=SC2016  # a program of jq
        jq -c --slurpfile solved "$parts/solved.jsonl" --argjson n "$shots" --argjson own "$([ "$examples_of" = "$rows_of" ] && echo true || echo false)" '
            . as $item | [limit($n; $solved[] | select(.group == $item.group and (($own and .row == $item.row) | not)))] as $shots
            | if ($shots | length) < $n then error("only \($shots | length) examples\(if .group then " of \(.group)" else "" end)") else . end
            | .context = ($shots | map(.context + (.delimiter // " ") + (.choices[.answer] // error("no answer: \(tojson[:200])")) + "\n\n") | join("")) + .context' \
            "$parts/all.jsonl" >"$parts/shots.jsonl" || fail "$1: there are not $shots examples for every question (above); take a smaller --shots"
        mv "$parts/shots.jsonl" "$parts/all.jsonl"
    fi
    jq -c 'del(.row) | select((.choices // [.good, .bad, .continuation] - [null]) | all(. != ""))' "$parts/all.jsonl" >"$parts/task.jsonl"
    made=$(wc -l <"$parts/task.jsonl") left=$(($(wc -l <"$parts/all.jsonl") - $(wc -l <"$parts/task.jsonl")))
    [ "$made" -gt 0 ] || fail "$1: no rows were fetched"
    if ! cp "$parts/task.jsonl" "$out/$name.jsonl.part" || ! mv "$out/$name.jsonl.part" "$out/$name.jsonl"; then fail "cannot write $out/$name.jsonl"; fi
    echo "$out/$name.jsonl: $made items$([ "$left" -eq 0 ] || echo ", $left with an empty choice left out")"
}
