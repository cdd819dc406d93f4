# What mutants.sh and ptx_mutants.sh share, to be sourced: a list of faults, which of them are wanted, and how one is planted.
# shellcheck shell=bash
names=() files=() from=() to=() tests=() chosen=()
mutant() { # mutant NAME FILE FROM TO TEST: FROM stands in the file once, TO is what stands there instead
    names+=("$1") files+=("$2") from+=("$3") to+=("$4") tests+=("$5")
}
choose() { # choose [WORD...]: the numbers of those whose names hold one of the words; without words all
    local i word
    for i in "${!names[@]}"; do
        [ $# -gt 0 ] || chosen+=("$i")
        for word in "$@"; do case ${names[$i]} in *"$word"*) chosen+=("$i") && break ;; esac; done
    done
}
plant() { # plant NUMBER FOLDER: in the tree there; 1 if its text does not stand in the file just once
    FROM=${from[$1]} TO=${to[$1]} perl -0pi -e '
        BEGIN { $n = 0 } $n += s/\Q$ENV{FROM}\E/$ENV{TO}/g; END { exit($n == 1 ? 0 : 1) }' "$2/${files[$1]}"
}
each_chosen() { # each_chosen COMMAND: with the number of each, as many at a time as there are CPUs
    local i
    for i in "${chosen[@]}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
        "$1" "$i" &
    done
    wait
}
