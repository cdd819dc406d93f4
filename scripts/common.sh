# shellcheck shell=bash
# common.sh: what the scripts here share but install.sh, which needs no other program; sourced, never run.
#
#   root             the folder of this repository
#   usage            prints the comment at the head of the script, to its first `set`
#   fail MESSAGE     says it on stderr under the script's name, and ends with 1
# shellcheck disable=SC2034  # root is for those who source this
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }
fail() { echo "${0##*/}: $1" >&2; exit 1; }
