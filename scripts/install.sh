#!/usr/bin/env bash
# install.sh: sees to it that the tools a script needs are there (Debian 12, Ubuntu 24.04 and later).
#
#   scripts/install.sh [--check] PART...      PART: build mpi test cluster corpus plot lint
#
#   build   gcc make          corpus  perl mandoc gettext (for .mo files)
#   mpi     Open MPI          lint    shellcheck clang
#   plot    jq gnuplot        test    g++ jq perl gnuplot mandoc procps
#   cluster mpi, Slurm, munge, sshd, ip (for make test-cluster)
#
# Installs with apt-get as root, or with sudo where sudo asks for no password. Where it may not, it
# prints the one command to run, and ends with 1 (with 2 where apt-get failed). --check never installs.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

check_only=0
parts=()
for word in "$@"; do
    case $word in
        --help | -h) usage; exit 0 ;;
        --check) check_only=1 ;;
        build | mpi | test | cluster | corpus | plot | lint) parts+=("$word") ;;
        *) echo "install.sh: unknown word '$word'; see install.sh --help" >&2; exit 1 ;;
    esac
done
if [ ${#parts[@]} -eq 0 ]; then parts=(build corpus plot); fi

missing=()
need() { # need PACKAGE... -- COMMAND...: the command shows whether the packages are there
    local packages=()
    while [ "$1" != -- ]; do packages+=("$1"); shift; done
    shift
    if ! "$@" >/dev/null 2>&1 </dev/null; then missing+=("${packages[@]}"); fi
}
all() { # all COMMAND...: are they all there, for root or for others?
    local command
    for command in "$@"; do PATH=$PATH:/usr/sbin:/sbin command -v "$command" || return 1; done
}
for part in "${parts[@]}"; do
    case $part in
        build)
            # Another compiler may be chosen with CC; the C library's headers are needed in any case.
            need gcc libc6-dev -- sh -c "printf '#include <stdio.h>\n#include <omp.h>\n' | ${CC:-gcc} -fopenmp -E - "
            need make -- command -v make
            ;;
        test)
            need g++ -- sh -c "printf '#include <vector>\n' | ${CXX:-g++} -x c++ -E - "
            need jq -- command -v jq
            need perl -- perl -MUnicode::Normalize -MDigest::SHA -MFile::Find -e 1
            need gnuplot-nox -- command -v gnuplot
            need procps -- all pgrep
            need mandoc -- all mandoc
            ;;
        mpi) need openmpi-bin libopenmpi-dev -- all mpicc mpirun ;;
        cluster)
            need openmpi-bin libopenmpi-dev -- all mpicc mpirun
            need slurm-wlm slurm-wlm-basic-plugins -- all srun slurmctld slurmd
            need munge -- all munged
            need openssh-server openssh-client -- all sshd ssh
            need iproute2 -- all ip
            ;;
        corpus)
            need perl -- perl -MUnicode::Normalize -MDigest::SHA -MFile::Find -e 1
            need mandoc -- command -v mandoc
            need gettext -- command -v msgunfmt
            ;;
        plot)
            need jq -- command -v jq
            need gnuplot-nox -- command -v gnuplot
            ;;
        lint)
            need shellcheck -- command -v shellcheck
            need clang -- command -v clang
            ;;
    esac
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
command_line="${as_root[*]:+${as_root[*]} }apt-get update && ${as_root[*]:+${as_root[*]} }apt-get install -y --no-install-recommends ${missing[*]}"
code=1 hint=
case " ${missing[*]} " in *' openmpi-bin '*) hint='   (or go on without Open MPI: make MPI=0 ...; its tests are then skipped)' ;; esac
give_up() {
    echo "install.sh: missing: ${missing[*]}; $1. Run: $command_line$hint" >&2
    exit "$code"
}
if [ $check_only -eq 1 ]; then give_up "nothing was installed"; fi
if ! command -v apt-get >/dev/null; then give_up "there is no apt-get here: install what these Debian packages hold"; fi
if [ ${#as_root[@]} -ne 0 ] && ! { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; then
    give_up "this needs root"
fi

export DEBIAN_FRONTEND=noninteractive
echo "Installing ${missing[*]} ..."
install() { "${as_root[@]}" apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null; }
# A fresh container has no package lists, and old lists may name files that are gone: then update, and try again.
if ! install 2>/dev/null; then
    "${as_root[@]}" apt-get -qq -o Acquire::Retries=3 update || true
    install || { code=2; give_up "apt-get could not install them (is there a network?)"; }
fi
