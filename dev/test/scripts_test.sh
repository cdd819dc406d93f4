#!/usr/bin/env bash
# The scripts a user starts, as far as they need no network: the cleaning of German text, the plot,
# missing tools, and the quick start from the sample text with a model of 0.1M parameters:
# finished, repeated, stopped by a signal and gone on with. What needs a tool that is not
# there is skipped, which is counted.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
# shellcheck disable=SC2012  # the newest build; its name is ours
: "${BUILD:=build/$(ls -t build | head -n 1)}" "${RUNNER:=}" "${SANITIZE:=0}"

# shellcheck source=dev/test/check.sh
. dev/test/check.sh
refuse() { # refuse MESSAGE TEXT COMMAND...: the command must fail with 1, and TEXT in its stderr
    local message=$1 text=$2 code=0
    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    if [ $code -eq 1 ] && grep -qF -- "$text" "$work/err"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'FAILED %s: exit code %d, stderr: %s\n' "$message" $code "$(head -c 300 "$work/err")"
    fi
}
has() { grep -qF -- "$2" "$1"; }
lacks() { ! grep -qF -- "$2" "$1"; }
work="$(mktemp -d)/with space"
mkdir -p "$work"
trap 'rm -rf "${work%/*}"' EXIT

# ------------------------------------------------------------------ words and lint

for script in scripts/*.sh scripts/corpus/*.sh scripts/eval/*.sh scripts/container/*.sh dev/scaling.sh dev/speedrun/run.sh; do
    check "$script: bash -n" bash -n "$script"
    case $script in
        scripts/quickstart.sh | scripts/plot.sh | scripts/install.sh | scripts/corpus/debian_de.sh | scripts/eval/grammatik_de.sh | scripts/cost.sh | scripts/run_multi_node.sh | dev/speedrun/run.sh)
            bash "$script" --help >"$work/out" 2>&1
            check "$script --help: exit code" test $? -eq 0
            check "$script --help: lists its options" grep -q -- '--' "$work/out"
            refuse "$script: unknown option" 'unknown' bash "$script" --no_such_option
            ;;
    esac
    if command -v shellcheck >/dev/null; then check "$script: shellcheck" shellcheck -x "$script"; fi
done
command -v shellcheck >/dev/null || skip 'scripts_test.sh, shellcheck of the scripts' 'no shellcheck'
refuse 'quickstart.sh: no time' '--minutes=0' bash scripts/quickstart.sh --minutes=0 --out="$work/never"
refuse 'quickstart.sh: no such settings' 'there is no such file' bash scripts/quickstart.sh --config="$work/nowhere/x" --out="$work/never"
refuse 'quickstart.sh: no such program' 'there is no such program' bash scripts/quickstart.sh --program="$work/nowhere/x" --out="$work/never"
refuse 'quickstart.sh: a comma in the folder' 'in its name' bash scripts/quickstart.sh --out="$work/a,b"
# What others may have written is never run, not even as arithmetic, and adds no lines or escape sequences to a message.
# shellcheck disable=SC2016  # it must not be expanded
planted='a[$(touch "$PLANTED")]'
export PLANTED=$work/planted
refuse 'scaling.sh: a command in the environment' 'expected a number' env bw_nic="$planted" dev/scaling.sh
refuse 'steps.sh: a command in the environment' 'expected whole numbers' env BUILD="$BUILD" ROUNDS="$planted" dev/bench/steps.sh
refuse 'steps.sh: a command in its runs' 'expected name:B:T' env BUILD="$BUILD" RUNS="124M:$planted:64:fp32:1" dev/bench/steps.sh
refuse 'cost.sh: a command for a number' '--devices' bash scripts/cost.sh --device=CPU --devices="$planted" --
refuse 'cost.sh: a command for a share' '--mfu' bash scripts/cost.sh --device=CPU --devices=1 --mfu="$planted" --
refuse 'cost.sh: a number with a leading zero' '--devices=08' bash scripts/cost.sh --device=CPU --devices=08 --
refuse 'cost.sh: control characters' 'TPU?error: all is well?[31m' bash scripts/cost.sh --device=$'TPU\nerror: all is well\e[31m' --devices=1 --
check 'a message with control characters is one line' test "$(wc -l <"$work/err")" -eq 1
refuse 'debian_de.sh: unknown source' 'expected wesnoth or fortunes' bash scripts/corpus/debian_de.sh --with=nothing

# install.sh where tools are missing and root is not to be had: says the one command, installs nothing.
mkdir "$work/bin"
for tool in bash sh sed cat; do ln -s "$(command -v $tool)" "$work/bin/$tool"; done
printf '#!/bin/sh\necho 1000\n' >"$work/bin/id"
printf '#!/bin/sh\ntouch "%s"\n' "$work/apt was called" >"$work/bin/apt-get"
chmod +x "$work/bin/id" "$work/bin/apt-get"
refuse 'install.sh without root' 'sudo apt-get install -y --no-install-recommends jq gnuplot-nox' env PATH="$work/bin" bash scripts/install.sh plot
check 'install.sh without root calls no apt-get' test ! -e "$work/apt was called"
refuse 'install.sh without root, no MPI' 'go on without Open MPI: make MPI=0' env PATH="$work/bin" bash scripts/install.sh mpi
# One of two tools is not both.
printf '#!/bin/sh\n' >"$work/bin/mpicc"
chmod +x "$work/bin/mpicc"
refuse 'install.sh: mpicc without mpirun' 'openmpi-bin' env PATH="$work/bin" bash scripts/install.sh mpi
refuse 'install.sh --check' 'mandoc' env PATH="$work/bin" bash scripts/install.sh --check corpus

# ------------------------------------------------------------------ German text

if perl -MUnicode::Normalize -MDigest::SHA -e 1 2>/dev/null; then
    mkdir -p "$work/in/html" "$work/in/office" "$work/in/xml" "$work/in/text" "$work/in/fortune/usr/share/games/fortunes/de"
    # HTML: navigation and code go, entities are read, a decomposed umlaut is composed, English goes.
    printf '%s\n' '<html><head><title>x</title><style>p { color: red }</style></head><body>' \
        '<div class="navheader"><p>Zurück zum Anfang und weiter zur nächsten Seite</p></div>' \
        '<h1>Über das Gehen</h1><h2>Leer und ohne Text</h2><h2>Schuhe</h2>' \
        '<p>Wer viel geht, braucht gute Schuhe, denn der Weg ist l&auml;nger, als man' 'denkt&#46;</p>' \
        "<p>Die Sohle ist du$(printf 'u\xcc\x88')nn und die Naht ist alt.</p>" \
        '<p>This paragraph is not about shoes and it should not be in the corpus at all.</p>' \
        '<p>Geben Sie den folgenden Befehl ein:</p><pre>schuhe --groesse=43</pre><pre>int main(void) {' 'return 0;' '}</pre>' \
        '<ol><li>Man zieht den linken Schuh an.</li><li><p>Danach bindet man die Schleife.</p></li></ol>' \
        '<p>Wer viel geht, braucht gute Schuhe, denn der Weg ist länger, als man denkt.</p>' \
        '<table><tr><td>Leder</td><td>hält viele Jahre und wird mit der Zeit weich</td></tr></table></body></html>' >"$work/in/html/a.html"
    printf '%s\n' '<p>Seitenkopf mit der Suche und dem Inhalt</p><div id="DisplayArea" x="y"><p>Drücken Sie' \
        '<span class="switchinline"><span hidden="true" id="MACtext_1" class="MAC">Befehl</span><span hidden="true" id="defaulttext_1">Strg</span></span>+V, um den Text einzufügen.</p></div><div id="SearchFrame"></div>' >"$work/in/office/b.html"
    printf '%s\n' '<page xmlns="x"><info><desc>Dies ist nicht für den Text gedacht und fehlt.</desc></info><title>Energie sparen</title>' \
        '<p>Schalten Sie das Gerät mit <keyseq><key>Strg</key><key>Q</key></keyseq> aus, wenn Sie es nicht brauchen.</p></page>' >"$work/in/xml/c.page"
    printf '%s\n' 'Package: schuh' 'Description-md5: 0' 'Description-de: Werkzeug für Schuhe' ' Mit diesem Programm kann man die Schuhe eines ganzen' ' Haushalts verwalten.' ' .' \
        ' Es kennt:' '  * die Größe und die Farbe' '    von jedem Paar' '' 'Package: shoe' 'Description-md5: 1' 'Description-de: <trans>' ' <trans>' >"$work/in/apt.txt"
    printf 'Der erste Text ist kurz, aber er ist auf Deutsch.\n\f\nDer zweite Text steht nach dem Seitenvorschub und ist\nüber zwei Zeilen verteilt.\n' >"$work/in/text/d.txt"
    printf 'Es ist nicht alles Gold, was glänzt, sagte die Elster.\n%%\nUnd wer zuletzt lacht, der hat es nicht eher verstanden.\n' >"$work/in/fortune/usr/share/games/fortunes/de/e"
    plan() {
        printf '%s\t%s\t%s\n' html html "$work/in/html" office libreoffice "$work/in/office" xml xml "$work/in/xml" apt apt "$work/in/apt.txt" \
            text text "$work/in/text" fortune fortune "$work/in/fortune"
    }
    mkdir "$work/text" "$work/again"
    plan | perl scripts/corpus/german_text.pl "$work/text" >"$work/counts" 2>"$work/err"
    check 'german_text.pl: exit code' test $? -eq 0
    check "german_text.pl: no warnings: $(head -c 300 "$work/err")" test ! -s "$work/err"
    plan | perl scripts/corpus/german_text.pl "$work/again" >"$work/counts2" 2>&1
    check 'german_text.pl: the same input, the same text and digests' cmp -s "$work/counts" "$work/counts2"
    check 'german_text.pl: its SHA-256 is the file'"'"'s' has "$work/counts" "$(sha256sum <"$work/text/html.txt" | cut -c1-64)"
    html=$work/text/html.txt
    printf '%s\n' 'Über das Gehen' '' 'Schuhe' '' 'Wer viel geht, braucht gute Schuhe, denn der Weg ist länger, als man denkt.' '' 'Die Sohle ist duünn und die Naht ist alt.' '' \
        'Geben Sie den folgenden Befehl ein:' '' 'schuhe --groesse=43' '' '1. Man zieht den linken Schuh an.' '2. Danach bindet man die Schleife.' '' \
        'Leder | hält viele Jahre und wird mit der Zeit weich' >"$work/expected"
    check "HTML: $(diff "$work/expected" "$html" | head -n 6)" cmp -s "$work/expected" "$html"
    check 'LibreOffice: what is in DisplayArea, alternatives resolved' test "$(cat "$work/text/office.txt")" = 'Drücken Sie Strg+V, um den Text einzufügen.'
    check 'Mallard: title, keys, no info' test "$(cat "$work/text/xml.txt")" = $'Energie sparen\n\nSchalten Sie das Gerät mit Strg+Q aus, wenn Sie es nicht brauchen.'
    check 'descriptions: unwrapped, untranslated ones dropped' test "$(cat "$work/text/apt.txt")" = \
        $'schuh: Werkzeug für Schuhe\n\nMit diesem Programm kann man die Schuhe eines ganzen Haushalts verwalten.\n\n- die Größe und die Farbe von jedem Paar'
    check 'documents: a form feed between them' test "$(cat "$work/text/text.txt")" = \
        $'Der erste Text ist kurz, aber er ist auf Deutsch.\n\f\nDer zweite Text steht nach dem Seitenvorschub und ist über zwei Zeilen verteilt.'
    check 'fortunes: a document each' test "$(grep -c $'\f' "$work/text/fortune.txt")" = 1
    refuse 'german_text.pl: unknown kind' 'expected name TAB kind TAB path' sh -c "printf 'a\tb\tc\n' | perl '$root/scripts/corpus/german_text.pl' '$work/text'"
    if command -v mandoc >/dev/null; then
        mkdir -p "$work/in/man/usr/share/man/de/man1"
        printf '%s\n' '.TH GEHEN 1 2024-01-01 "Fuß" "Handbuch"' '.SH BEZEICHNUNG' 'gehen \- bewegt einen Menschen' '.SH ÜBERSICHT' '\fBgehen\fR [\fIOPTION\fR] und weiter in der Zeile' \
            '.SH BESCHREIBUNG' "$(for i in $(seq 1 120); do printf 'Der %d. Schritt ist nicht der letzte. ' "$i"; done)" '.SH OPTIONEN' '.TP' '\fB\-s\fR' 'geht \fIschnell\fR und ohne Pause.' '.TP' '\fB\-\-langsam\fR' 'geht so, wie es der Weg erlaubt.' \
            '.SH ÜBERSETZUNG' 'Diese Übersetzung wurde von niemandem erstellt und ist nicht da.' | gzip -n >"$work/in/man/usr/share/man/de/man1/gehen.1.gz"
        printf 'man\tman\t%s\n' "$work/in/man" | perl scripts/corpus/german_text.pl "$work/text" >"$work/out" 2>&1
        man=$work/text/man.txt
        check 'man: the name is the title' test "$(head -n 1 "$man")" = 'gehen – bewegt einen Menschen'
        check 'man: a long paragraph is one line' grep -q '^Der 1\. Schritt .* Der 120\. Schritt' "$man"
        check 'man: term and text' test "$(grep -A 1 -x -- -s "$man")" = $'-s\ngeht schnell und ohne Pause.'
        check 'man: neither synopsis nor translators' lacks "$man" ÜBERS
    else
        skip 'scripts_test.sh, German text of man pages' 'no mandoc'
    fi
else
    skip 'scripts_test.sh, German text' 'no full perl'
fi

# ------------------------------------------------------------------ plot

mkdir "$work/it's a_run"
awk 'BEGIN { for (i = 1; i <= 120; i++) printf "{\"step\": %d, \"loss\": %.3f%s}\n", i, 3 + 5 / i, i % 40 ? "" : ", \"val_loss\": 3.5"; printf "{\"step\": 1" }' >"$work/it's a_run/metrics.jsonl"
if command -v jq >/dev/null && command -v gnuplot >/dev/null; then
    bash scripts/plot.sh "$work/it's a_run" >"$work/out" 2>&1
    code=$?
    check "plot.sh: exit code $code: $(head -c 200 "$work/out")" test $code -eq 0
    check 'plot.sh: SVG' has "$work/it's a_run/loss.svg" 'validation'
    check 'plot.sh: PNG' test "$(head -c 4 "$work/it's a_run/loss.png" | tail -c 3)" = PNG
    bash scripts/plot.sh --out="$work/two" "$work/it's a_run" "$work/it's a_run" >"$work/out" 2>&1
    check 'plot.sh: two runs' test -s "$work/two.svg"
    refuse 'plot.sh: no run' 'there is no such file' bash scripts/plot.sh "$work/nowhere"
    mkdir "$work/empty" && : >"$work/empty/metrics.jsonl"
    refuse 'plot.sh: an empty run' 'has a step and a loss yet' bash scripts/plot.sh "$work/empty"
    # Names that gnuplot would run, as a line of its own and as a pipe; steps that are no numbers; a pipe in place of a file.
    # shellcheck disable=SC2016  # they must not be expanded
    for name in $'x\nsystem "touch planted"' '|touch planted;' '<touch planted' '`touch planted`'; do
        mkdir -p "$work/plots/$name"
        { printf '{"step": "1\\n2 3", "loss": 9}\n{"step": {"a": 1}, "loss": 1}\n7\n' && cat "$work/it's a_run/metrics.jsonl"; } >"$work/plots/$name/metrics.jsonl"
        (cd "$work/plots" && bash "$root/scripts/plot.sh" "$name") >"$work/out" 2>&1
        code=$?
        check "plot.sh: a run named $(printf %q "$name"): exit code $code: $(head -c 200 "$work/out")" test -s "$work/plots/$name/loss.svg"
    done
    check 'plot.sh: nothing in a name is run' test -z "$(find "$work/plots" -name planted)"
    mkdir "$work/piped" && mkfifo "$work/piped/metrics.jsonl"
    refuse 'plot.sh: a pipe' 'there is no such file' timeout 10 bash scripts/plot.sh "$work/piped"
else
    skip 'scripts_test.sh, the plot' 'no jq or no gnuplot'
fi

# ------------------------------------------------------------------ packages that are kept

if command -v dpkg-deb >/dev/null && perl -MUnicode::Normalize -MDigest::SHA -e 1 2>/dev/null && command -v mandoc >/dev/null; then
    # Two versions of a package, and stubs of apt that know the first and bring whatever stands in `sent`.
    packages=$work/packages
    for letter in a b; do
        mkdir -p "$packages/$letter/usr/share/doc/debian/FAQ/de" "$packages/$letter/DEBIAN" "$packages/$letter/usr/share/doc/debian-faq-de"
        printf 'Package: debian-faq-de\nVersion: 1:%s\nArchitecture: all\nMaintainer: x <x@y.z>\nDescription: x\n' 11.1 >"$packages/$letter/DEBIAN/control"
        printf '<p>Dies ist die Fassung %s des Textes, und sie ist nicht die andere.</p>\n' $letter >"$packages/$letter/usr/share/doc/debian/FAQ/de/x.html"
        echo "frei, $letter" >"$packages/$letter/usr/share/doc/debian-faq-de/copyright"
        dpkg-deb --root-owner-group --build "$packages/$letter" "$packages/$letter.deb" >/dev/null
    done
    mkdir "$packages/bin"
    # shellcheck disable=SC2016  # the stub expands them
    printf '#!/bin/sh\nfor word; do last=$word; done\ncase "$last" in debian-faq-de=*) echo download >>"%s"; cp "%s" debian-faq-de_1%%3a11.1_all.deb ;; esac\n' "$packages/calls" "$packages/sent" >"$packages/bin/apt-get"
    printf '#!/bin/sh\nprintf "Package: debian-faq-de\\nArchitecture: all\\nVersion: 1:11.1\\nSHA256: %s\\n\\n"\n' "$(sha256sum <"$packages/a.deb" | cut -c1-64)" >"$packages/bin/apt-cache"
    chmod +x "$packages"/bin/*
    corpus() { : >"$packages/calls" && PATH="$packages/bin:$PATH" bash scripts/corpus/debian_de.sh --out="$work/corpus" >"$work/out" 2>&1; }
    text() { grep -o 'Fassung .' "$work/corpus/debian_de.txt"; }
    cp "$packages/a.deb" "$packages/sent"
    corpus
    check "packages: a first run: exit code $?: $(tail -n 2 "$work/out")" test "$(text)" = 'Fassung a'
    cp "$packages/b.deb" "$packages/sent"
    corpus
    check "packages: one that is right is kept: $(tail -n 2 "$work/out")" test "$(text) $(wc -l <"$packages/calls")" = 'Fassung a 0'
    # A kept package that somebody has put there, a cut one, a link.
    cp "$packages/a.deb" "$packages/sent"
    for damage in other cut link; do
        rm -f "$work/corpus/debs"/*.deb
        deb=$work/corpus/debs/debian-faq-de_1%3a11.1_all.deb
        case $damage in
            other) cp "$packages/b.deb" "$deb" ;;
            cut) head -c 300 "$packages/a.deb" >"$deb" ;;
            link) ln -s "$packages/a.deb" "$deb" ;;
        esac
        corpus
        check "packages: $damage: $(tail -n 2 "$work/out")" test "$(text) $(wc -l <"$packages/calls")" = 'Fassung a 1'
        check "packages: $damage: says so" has "$work/out" 'is not what the package lists say'
        check "packages: $damage: what it led to is untouched" cmp -s "$packages/a.deb" "$packages/sent"
    done
    rm -f "$work/corpus/debs"/*.deb
    cp "$packages/b.deb" "$packages/sent"
    corpus
    check "packages: a download that is another: exit code $?, refused" has "$work/out" 'did not arrive as the package lists say'
    check 'packages: and not kept' test -z "$(find "$work/corpus/debs" -name '*.deb')"
    # Folders of others stay.
    mkdir -p "$work/mine/text" "$work/linked" && echo mine >"$work/mine/text/a"
    refuse 'a folder of others' 'not made by this script' env PATH="$packages/bin:$PATH" bash scripts/corpus/debian_de.sh --out="$work/mine"
    check 'a folder of others: untouched' test "$(cat "$work/mine/text/a")" = mine
    : >"$work/linked/.debian_de"
    ln -s "$work/mine/text" "$work/linked/text"
    refuse 'a link to a folder of others' 'is a link' env PATH="$packages/bin:$PATH" bash scripts/corpus/debian_de.sh --out="$work/linked"
    check 'a link to a folder of others: untouched' test "$(cat "$work/mine/text/a")" = mine
else
    skip 'scripts_test.sh, packages that are kept' 'no dpkg-deb, no mandoc or no full perl'
fi

# ------------------------------------------------------------------ clusters

sites=(generic jupiter juwels_booster horeka bwunicluster claix grete nhr_fau lrz_ai)
check 'every sbatch file has a test here' test "$(find scripts/slurm -name '*.sbatch' | wc -l)" -eq ${#sites[@]}
directive() { sed -n "s/^#SBATCH --$2=\([^ ]*\).*/\1/p" "$1"; } # directive FILE NAME
for site in "${sites[@]}"; do
    file=scripts/slurm/$site.sbatch
    check "$site: bash -n" bash -n "$file"
    if command -v shellcheck >/dev/null; then check "$site: shellcheck" shellcheck -x "$file" scripts/slurm/common.sh; fi
    # Without B: the signal reaches the ranks; one task of the array at a time; a later task keeps the log; 240 s for a checkpoint.
    check "$site: --signal" test "$(directive "$file" signal)" = TERM@240
    check "$site: --array is a chain" grep -Eqx '0-[0-9]+%1' <(directive "$file" array)
    check "$site: --open-mode, --output" test "$(directive "$file" open-mode) $(directive "$file" output)" = 'append %x-%A.log'
    check "$site: --time" grep -Eqx '[0-9]+:00:00' <(directive "$file" time)
    check "$site: --nodes, --cpus-per-task" test "$(directive "$file" nodes)" -ge 1 -a "$(directive "$file" cpus-per-task)" -ge 1
    gpus=$(directive "$file" gres)$(directive "$file" gpus-per-node)
    check "$site: a task for each GPU ($gpus)" test "$(directive "$file" ntasks-per-node)" = "${gpus##*:}"
    case $(directive "$file" account) in YOUR_PROJECT | '') ;; *) check "$site: an account of its own" false ;; esac
done
check 'NHR@FAU: no environment, and srun gets one all the same' grep -q '^unset SLURM_EXPORT_ENV' scripts/slurm/nhr_fau.sbatch

# What runs in a cluster, with stubs for its commands: srun starts one rank of the real program.
stubs=$work/stubs
mkdir "$stubs"
cat >"$stubs/srun" <<'END'
#!/usr/bin/env bash
if [ "$1" = --mpi=list ]; then echo '	pmix'; exit 0; fi
printf 'SRUN_CPUS_PER_TASK=%s OMP_NUM_THREADS=%s %s\n' "$SRUN_CPUS_PER_TASK" "$OMP_NUM_THREADS" "$*" >>"$CALLS"
while [[ $1 = --* ]]; do shift; done
export SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 OMP_NUM_THREADS=1
exec "$@"
END
# shellcheck disable=SC2016  # the stub expands them
for tool in module scancel; do printf '#!/bin/sh\necho %s "$@" >>"$CALLS"\n' $tool >"$stubs/$tool"; done
chmod +x "$stubs"/*
if [ -n "$RUNNER" ] || [ "$SANITIZE" = 1 ]; then
    skip 'scripts_test.sh, the sbatch files with the real program' 'only in the plain build'
else
    program=$root/$BUILD/train_gpt_cpu
    "$program" bpe --input=dev/test/sample_de.txt --vocab_size=512 --out="$work/t/tokenizer.json" >"$work/out" 2>&1 &&
        "$program" tokenize --tokenizer="$work/t/tokenizer.json" --input=dev/test/sample_de.txt --doc_split=formfeed --val_fraction=0.1 --out="$work/t/s" >>"$work/out" 2>&1
    check "clusters: preparing: $(tail -n 1 "$work/out")" test -s "$work/t/s_val_00000.bin"
    : >"$work/image.sqsh"
    printf 'model = llama-nano # of both\nsteps = 1000\nbatch_size = 2\nseq_len = 32\nval_every = 0\nthreads = 1\n' >"$work/train.conf"
    # A task of a chain, from a copy in a spool folder as slurmd makes it.
    task() { # task NUMBER SITE TRAIN_OPTION...: output in $work/out, calls of stubs in $work/calls
        local number=$1 site=$2
        shift 2
        : >"$work/calls"
        mkdir -p "$work/spool"
        cp "scripts/slurm/$site.sbatch" "$work/spool/slurm_script"
        (cd "$work" && env -u DEVICE PATH="$stubs:$PATH" CALLS="$work/calls" SLURM_SUBMIT_DIR="$root" SLURM_JOB_ID=$((77 + number)) SLURM_ARRAY_JOB_ID=77 \
            SLURM_ARRAY_TASK_ID="$number" SLURM_JOB_NUM_NODES=2 SLURM_NTASKS="${TASKS:-8}" SLURM_JOB_NODELIST='n[1-2]' SLURM_CPUS_PER_TASK=7 PROGRAM="${PLANT:-$program}" IMAGE="$work/image.sqsh" \
            bash "$work/spool/slurm_script" --config="$work/train.conf" --train_data="$work/t/s_train_*.bin" --val_data="$work/t/s_val_*.bin" \
            --tokenizer="$work/t/tokenizer.json" --steps=6 "$@") >"$work/out" 2>&1
    }
    for site in "${sites[@]}"; do
        run=$work/run_$site
        task 0 "$site" --out="$run" --max_minutes=0.000001
        code=$?
        check "$site: stopped: exit code 3, not $code: $(tail -n 3 "$work/out")" test $code -eq 3
        check "$site: says that the chain goes on" has "$work/out" "stopped with the checkpoint $run/step_00000001; the next task"
        # 6 steps of 2 x 32 tokens on 8 ranks.
        check "$site: says what it costs: $(grep cost: "$work/out")" grep -Eq '^cost: 3072 tokens \(6 steps of 512\), [0-9.e+]+ FLOPs .* GPU hours .* on 8 (GH200|H100|A100)\), [0-9.e-]+ kWh$' "$work/out"
        check "$site: srun gets the CPUs of a task" has "$work/calls" 'SRUN_CPUS_PER_TASK=7 OMP_NUM_THREADS=7 '
        check "$site: a rank that fails ends the job" has "$work/calls" '--kill-on-bad-exit=1'
        check "$site: nothing is cancelled" lacks "$work/calls" 'scancel'
        task 1 "$site" --out="$run"
        code=$?
        check "$site: finished: exit code 0, not $code: $(tail -n 3 "$work/out")" test $code -eq 0
        check "$site: went on from the checkpoint" has "$work/out" "resumed from $run/step_00000001"
        check "$site: the tasks that wait are cancelled, not this one" grep -qx 'scancel --state=PENDING 77' "$work/calls"
        task 2 "$site" --out="$run"
        check "$site: a task behind the end: exit code 0, not $?" test $? -eq 0
        check "$site: it starts nothing: $(cat "$work/calls")" lacks "$work/calls" '--resume=auto'
    done
    case $(task 0 jupiter --out="$work/run_j"; cat "$work/calls") in *'--mpi='*) check 'JUPITER: psslurm chooses the MPI' false ;; esac
    check 'generic: PMIx where srun has it' has <(task 0 generic --out="$work/run_g"; cat "$work/calls") '--mpi=pmix'
    # An error leaves the chain one more try, two without progress end it; progress between them counts.
    task 0 generic --out="$work/wrong" --tokenizer=none
    check "an error: exit code 1, not $?" test $? -eq 1
    check 'an error: the next task tries again' has "$work/out" 'tries again'
    check 'an error: nothing is cancelled' lacks "$work/calls" 'scancel'
    task 1 generic --out="$work/wrong" --tokenizer=none
    check 'twice the error: the chain ends' grep -qx 'scancel --state=PENDING 77' "$work/calls"
    task 0 generic --out="$work/wrong" --lr=none
    check "a mistake in the options: exit code 1, not $?, and it is said" has "$work/out" '--lr=none: expected a number'
    check 'a mistake in the options: the chain ends' grep -qx 'scancel --state=PENDING 77' "$work/calls"
    # Words of a config file are never run, not even as arithmetic.
    # shellcheck disable=SC2016  # it must not be expanded
    printf 'batch_size = a[$(touch "%s")]\n' "$work/was run" >"$work/evil.conf"
    task 0 generic --out="$work/wrong" --config="$work/evil.conf"
    check 'a config file with a command: refused' has "$work/out" 'expected a whole number'
    refuse 'cost.sh: a config file with a command' 'options are wrong' bash scripts/cost.sh --device=CPU --devices=1 --program="$program" -- --model=llama-nano --config="$work/evil.conf"
    check 'a config file with a command: it was not run' test ! -e "$work/was run"
    # Nor are those of the environment, of a program, and of the chain's own count of failures.
    words() { printf '%s\n' '#!/bin/sh' "printf '%s\\n' $*" >"$work/liar" && chmod +x "$work/liar"; } # words QUOTED...: a program that answers so
    refuse 'cost.sh: a command in RANKS' 'RANKS=' env RANKS="$planted" bash scripts/cost.sh --device=CPU --devices=1 --program="$program" -- --model=llama-nano
    words "m" "''" "3 '$planted' 2 8"
    refuse 'cost.sh: a program that gives a command for a number' 'for a number of steps or tokens' bash scripts/cost.sh --device=CPU --devices=1 --program="$work/liar" --
    refuse 'cost.sh: a line break in --model' 'holds a line break' bash scripts/cost.sh --device=CPU --devices=1 --program="$program" -- --model=$'llama-nano\nx'
    words "'$work/lied'" "'$planted'"
    PLANT=$work/liar task 0 generic
    check "a program that gives a command for --steps: $(tail -n 1 "$work/out")" has "$work/out" 'a line break in the name of --out'
    task 0 generic --out="$work/two"$'\n'"$planted"
    check "a line break in --out: exit code $?: $(tail -n 1 "$work/out")" has "$work/out" 'holds a line break'
    words "m" "x" "''" "3 4 2 8"
    refuse 'cost.sh: a program that gives a line too many' 'gave 7 lines for 6 options' bash scripts/cost.sh --device=CPU --devices=1 --program="$work/liar" --
    TASKS=$planted task 0 generic --out="$work/tasks"
    check "a command in SLURM_NTASKS: $(tail -n 1 "$work/out")" has "$work/out" 'expected a whole number'
    for noted in "$planted" '' 08 -1 999999999999999999999; do
        mkdir -p "$work/noted" && printf '%s\n' "$noted" >"$work/noted/.chain_failures"
        task 0 generic --out="$work/noted" --tokenizer=none
        check "a count of failures '$noted' is one failure: the chain ends: $(tail -n 1 "$work/out")" grep -qx 'scancel --state=PENDING 77' "$work/calls"
    done
    mkdir "$work/pipes" && mkfifo "$work/pipes/.chain_failures"
    task 0 generic --out="$work/pipes" --tokenizer=none
    check "a pipe in place of the count is one failure, too: $(tail -n 1 "$work/out")" has "$work/out" 'the chain ends'
    mkdir "$work/links" && echo kept >"$work/kept" && ln -s "$work/kept" "$work/links/.chain_failures"
    task 0 generic --out="$work/links" --tokenizer=none
    check 'a link in place of the count: what it leads to is untouched' test "$(cat "$work/kept")" = kept
    refuse 'run_multi_node.sh: a command for a number' '--ranks_per_node' bash scripts/run_multi_node.sh --hostfile=/etc/hosts --device=CPU --ranks_per_node="$planted" --program="$program" --
    check 'nothing that was planted was run' test ! -e "$PLANTED"
    printf '  steps = 1e1   # as people write\ntotal_batch_tokens=640 # and\n' >"$work/o.conf"
    refuse 'cost.sh: a budget of time' 'how many steps will fit' bash scripts/cost.sh --device=CPU --devices=1 --program="$program" -- --model=llama-nano --time_budget=5
    bash scripts/cost.sh --device=CPU --devices=1 --program="$program" -- --model=llama-nano --steps=5 --config="$work/o.conf" --seq_len=64 >"$work/out" 2>&1
    check "cost.sh: a config file, a later word wins: $(cat "$work/out")" has "$work/out" 'cost: 6400 tokens (10 steps of 640)'
    mkdir "$work/nojq"
    for tool in bash dirname sed awk; do ln -s "$(command -v $tool)" "$work/nojq/$tool"; done
    code=0
    PATH="$work/nojq" bash scripts/cost.sh --device=CPU --devices=1 --program="$program" -- --model=llama-nano >"$work/out" 2>&1 || code=$?
    check "cost.sh without jq: exit code 2, not $code, and one line: $(cat "$work/out")" test "$code $(wc -l <"$work/out")" = '2 1'
    task 0 generic
    check 'no --out: says so' has "$work/out" 'error: the options name no --out=FOLDER'
    refuse 'submitted from elsewhere' 'set GPT_ROOT to it' env SLURM_SUBMIT_DIR="$work" PATH="$stubs:$PATH" CALLS="$work/calls" bash "$work/spool/slurm_script"
    refuse 'LRZ without an image' 'IMAGE=' env SLURM_SUBMIT_DIR="$root" bash scripts/slurm/lrz_ai.sbatch

    # What a run costs: 1000 steps of 524,288 tokens of gpt2-124M, 7.98e8 FLOPs a token (info), 40% of 8 x 312 TFLOP/s, 600 W.
    bash scripts/cost.sh --device=A100 --devices=8 --program="$program" -- --model=gpt2-124M --seq_len=1024 --steps=1000 --total_batch_tokens=524288 >"$work/out" 2>&1
    check "cost.sh: $(cat "$work/out")" has "$work/out" 'cost: 524 Mtokens (1000 steps of 524288), 4.18e+17 FLOPs (7.98e+08 a token), 0.931 GPU hours (0.116 h on 8 A100), 0.559 kWh'
    refuse 'cost.sh: unknown device' 'expected GH200, H100, H200, A100 or CPU' bash scripts/cost.sh --device=TPU --devices=1 -- --model=llama-nano
    refuse 'cost.sh: no model' 'no --model' bash scripts/cost.sh --device=CPU --devices=1 --program="$program" --
    # mpirun with a host file.
    refuse 'run_multi_node.sh: no host file' 'one host a line' bash scripts/run_multi_node.sh --hostfile="$work/none" --device=CPU
    echo localhost >"$work/hosts"
    why=$(no_ranks)
    if [ -z "$why" ]; then
        bash scripts/run_multi_node.sh --hostfile="$work/hosts" --device=CPU --ranks_per_node=2 --program="$program" -- --config="$work/train.conf" --steps=3 --out="$work/mpi" \
            --train_data="$work/t/s_train_*.bin" --val_data="$work/t/s_val_*.bin" --tokenizer="$work/t/tokenizer.json" >"$work/out" 2>&1
        check "run_multi_node.sh on this host: exit code $?: $(tail -n 2 "$work/out")" grep -q 'run_multi_node.sh: finished' "$work/out"
        check 'run_multi_node.sh: 2 ranks' has "$work/mpi/run.log" '2 ranks'
        check 'run_multi_node.sh: cost' grep -q '^cost: 384 tokens' "$work/out"
    else
        skip 'scripts_test.sh, run_multi_node.sh' "$why"
    fi
fi
# The model of a step: its tables stand in dev/scaling.md as they are printed, and its models are the program's.
dev/scaling.sh >"$work/out" 2>&1
check 'scaling.sh: exit code' test $? -eq 0
check 'scaling.md holds what scaling.sh prints; paste it again' cmp -s "$work/out" <(sed -n '/^Assumed: /,$p' dev/scaling.md)
check 'scaling.sh: an assumption from the environment counts' has <(bw_nic=5e9 dev/scaling.sh) 'card 5 GB/s'
if [ -n "$RUNNER" ]; then skip 'scripts_test.sh, the models of scaling.sh' 'not under an emulator'; else
    while read -r preset length title; do
        "$BUILD/train_gpt_cpu" info --json --model="$preset" --seq_len="$length" >"$work/info"
        billions=$(printf '%.2f' "$(jq '.model.parameters / 1e9' "$work/info")")
        flops=$(printf '%.3g' "$(jq .model.flops_per_token "$work/info")")
        check "scaling.sh: $preset has ${billions}B parameters, $flops FLOPs a token" grep -Eq "^### $title .*: ${billions}B parameters.* ${flops/+/\\+} FLOPs" "$work/out"
    done <<'END'
gpt2-124M 1024 124M
llama-1.5B 4096 1.5B
llama-7B 4096 7B
END
fi

# ------------------------------------------------------------------ quick start

if [ -n "$RUNNER" ] || [ "$SANITIZE" = 1 ]; then
    skip 'scripts_test.sh, the quick start' 'only in the plain build'
else
    # From another folder, with a relative path to the program.
    options=(--model=llama-nano --vocab_size=640 --program="$root/$BUILD/train_gpt_cpu" --config="$root/scripts/quickstart.conf")
    quick() { (cd "$work" && bash "$root/scripts/quickstart.sh" --offline "${options[@]}" "$@"); }
    quick --minutes=0.001 --out=q >"$work/out" 2>&1
    code=$?
    check "quick start: exit code $code: $(tail -n 3 "$work/out")" test $code -eq 0
    run=$work/q/sample_de-llama-nano-640
    final=$(ls -d "$run"/model/step_*[0-9]) # 60 ms of training: one step or some
    check "quick start: a checkpoint: $final" test -s "$final/model.safetensors"
    # shellcheck disable=SC2016  # jq's variables
    check 'quick start: the decay ends with the time' jq -es --argjson lr "$(sed -n 's/^lr = //p' scripts/quickstart.conf)" --argjson share "$(sed -n 's/^final_lr_fraction = //p' scripts/quickstart.conf)" \
        '.[-1] | .time_share == 1 and (.lr - $lr * $share | fabs) < 1e-12' "$run/model/metrics.jsonl"
    check 'quick start: the score on grammar, by phenomenon' grep -Eq '^grammatik_de +1268 +[0-9.]+%' "$run/grammar.txt"
    check 'quick start: each of them' test "$(grep -Ec '^  [a-z_]+ +[0-9]+ +[0-9.]+%' "$run/grammar.txt")" -eq 24
    check 'quick start: and shows it' has "$work/out" "$(tail -n 1 "$run/grammar.txt")"
    check 'quick start: samples' has "$run/samples.txt" 'Das Programm'
    check 'quick start: says that the text is a sample' has "$work/out" 'sample text'
    check 'quick start: says the validation loss' grep -q 'Validation loss [1-9]' "$work/out"
    before=$(sha256sum "$final/model.safetensors" "$run/model/metrics.jsonl" "$run"/*.bin)
    talk=$run/chat-$((10#${final##*_}))
    mkdir "$talk" && sed 's/^steps = .*/steps = 6/' scripts/quickstart_chat.conf >"$talk/train.conf"
    quick --minutes=0.001 --out=q --chat </dev/null >"$work/out" 2>&1
    code=$?
    check "quick start again, with its second act: exit code $code: $(tail -n 3 "$work/out")" test $code -eq 0
    check 'quick start again: nothing is done twice' test "$before" = "$(sha256sum "$final/model.safetensors" "$run/model/metrics.jsonl" "$run"/*.bin)"
    check 'quick start: it answers, and says what that is worth' has "$work/out" 'It knows next to nothing'
    check 'quick start: the second act: a folder that chats' test -s "$talk/model/step_00000006/chat_template.jinja"
    check 'quick start again: says so' has "$work/out" 'is the last step in 0.001 minutes'
    # Stopped: time enough, and an end by steps, so that going on takes little.
    mkdir -p "$work/s"
    cp -r "$work/q/." "$work/s/"
    run=$work/s/sample_de-llama-nano-640
    rm -r "$run/model"
    sed -i 's/^time_budget = .*/time_budget = 100\nsteps = 120/; s/^checkpoint_every = .*/checkpoint_every = 0/' "$run/train.conf"
    (cd "$work" && exec setsid bash "$root/scripts/quickstart.sh" --offline "${options[@]}" --out=s) >"$work/out" 2>&1 &
    pid=$!
    for _ in $(seq 600); do
        if [ -e "$run/model/metrics.jsonl" ] && [ "$(wc -l <"$run/model/metrics.jsonl")" -ge 3 ]; then break; fi
        sleep 0.1
    done
    kill -TERM -- -$pid 2>/dev/null || kill -TERM $pid
    wait $pid
    check 'stopped: exit code 3' test $? -eq 3
    check 'stopped: says how to go on' has "$work/out" 'To go on where it stopped'
    steps=$(wc -l <"$run/model/metrics.jsonl")
    check "stopped: in the middle (step $steps)" test "$steps" -lt 120
    check 'stopped: a checkpoint' test -d "$run/model/$(printf 'step_%08d' "$steps")"
    quick --out=s >"$work/out" 2>&1
    check 'going on: exit code' test $? -eq 0
    check 'going on: one line a step' test "$(wc -l <"$run/model/metrics.jsonl")" -eq 120
    # Another model than that of the settings: its learning rate is to be found, for which this is too short.
    unset 'options[3]'
    quick --minutes=0.001 --out=q2 >"$work/out" 2>&1
    check 'another model: its learning rate is looked for' grep -qx 'lr = auto' "$work/q2/sample_de-llama-nano-640/train.conf"
    check 'another model: and no rate is left of the other' lacks "$work/q2/sample_de-llama-nano-640/train.conf" 'muon_lr'
    # The speedrun is the quick start, scored.
    mkdir -p "$work/speedrun/corpus"
    cp dev/test/sample_de.txt "$work/speedrun/corpus/debian_de.txt"
    echo source >"$work/speedrun/corpus/manifest.tsv"
    dev/speedrun/run.sh --minutes=0.002 --out="$work/speedrun" "${options[@]}" --config=scripts/quickstart.conf >"$work/out" 2>&1
    code=$?
    check "speedrun: exit code: $(tail -n 2 "$work/out")" test $code -eq 0
    check 'speedrun: a score' grep -Eq '^score +[1-9]\.[0-9]+ bits a byte over all [0-9]+ validation tokens' "$work/out"
    check 'speedrun: of another text' has "$work/out" "not the records'"
fi

conclude
