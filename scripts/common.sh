# shellcheck shell=bash
# common.sh: what the scripts here share but install.sh, which needs no other program; sourced, never run.
#
#   root             the folder of this repository
#   usage            prints the comment at the head of the script, to its first `set`
#   fail MESSAGE     says it on stderr under the script's name, and ends with 1
#   printable TEXT   with a ? for each control character: a name from a file cannot add lines or escape sequences
#   whole TEXT       is it a whole number of at most 15 digits, without leading zeros?
#   number TEXT      is it a decimal number that is not negative?
#
# Words from options, files, other programs and the environment go through whole or number before any $(( )), [[ -eq ]] or
# array subscript: bash evaluates a text in those, and a[$(command)] would be run.
# shellcheck disable=SC2034  # root is for those who source this
unset CDPATH # it would make cd print
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }
printable() { local LC_ALL=C.UTF-8; printf '%s' "${1//[[:cntrl:]]/?}"; }
fail() { printf '%s: %s\n' "${0##*/}" "$(printable "$1")" >&2; exit 1; }
whole() { [[ $1 =~ ^(0|[1-9][0-9]{0,14})$ ]]; }
number() { [[ $1 =~ ^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$ ]]; }
