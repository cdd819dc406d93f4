#!/usr/bin/env bash
# train_option.sh: the value that train would see for one of its options.
#
#   scripts/train_option.sh NAME DEFAULT TRAIN_OPTION...
#
# Reads words `--NAME=value`, and lines `NAME = value` of --config=FILE in their place; a later word wins.
set -euo pipefail

name=${1:?a name} value=$2
shift 2
for word in "$@"; do
    case $word in
        "--$name="*) value=${word#*=} ;;
        --config=?*)
            [ -r "${word#*=}" ] || { echo "train_option.sh: error: cannot read ${word#*=}, which --config names" >&2; exit 1; }
            found=$(sed -n "s/#.*//; s/[[:space:]]*\$//; s/^[[:space:]]*${name}[[:space:]]*=[[:space:]]*/=/p" "${word#*=}" | tail -n 1)
            if [ -n "$found" ]; then value=${found#=}; fi
            ;;
    esac
done
printf '%s\n' "$value"
