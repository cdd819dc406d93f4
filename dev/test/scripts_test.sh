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

for script in scripts/*.sh scripts/corpus/*.sh scripts/container/*.sh dev/scaling.sh; do
    check "$script: bash -n" bash -n "$script"
    case $script in
        scripts/quickstart.sh | scripts/plot.sh | scripts/install.sh | scripts/corpus/debian_de.sh | scripts/cost.sh | scripts/run_multi_node.sh)
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
refuse 'quickstart.sh: a comma in the folder' 'in its name' bash scripts/quickstart.sh --out="$work/a,b"
refuse 'debian_de.sh: unknown source' 'expected wesnoth or fortunes' bash scripts/corpus/debian_de.sh --with=nothing

# install.sh where tools are missing and root is not to be had: says the one command, installs nothing.
mkdir "$work/bin"
for tool in bash sh sed cat; do ln -s "$(command -v $tool)" "$work/bin/$tool"; done
printf '#!/bin/sh\necho 1000\n' >"$work/bin/id"
printf '#!/bin/sh\ntouch "%s"\n' "$work/apt was called" >"$work/bin/apt-get"
chmod +x "$work/bin/id" "$work/bin/apt-get"
refuse 'install.sh without root' 'sudo apt-get install -y --no-install-recommends jq gnuplot-nox' env PATH="$work/bin" bash scripts/install.sh plot
check 'install.sh without root calls no apt-get' test ! -e "$work/apt was called"
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
else
    skip 'scripts_test.sh, the plot' 'no jq or no gnuplot'
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
            SLURM_ARRAY_TASK_ID="$number" SLURM_JOB_NUM_NODES=2 SLURM_NTASKS=8 SLURM_JOB_NODELIST='n[1-2]' SLURM_CPUS_PER_TASK=7 PROGRAM="$program" IMAGE="$work/image.sqsh" \
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
    printf '  steps = 1e1   # as people write\ntotal_batch_tokens=640 # and\n' >"$work/o.conf"
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
    quick() { (cd "$work" && bash "$root/scripts/quickstart.sh" --offline --model=llama-nano --vocab_size=640 --program="$root/$BUILD/train_gpt_cpu" "$@"); }
    quick --minutes=0.001 --out=q >"$work/out" 2>&1
    code=$?
    check "quick start: exit code $code: $(tail -n 3 "$work/out")" test $code -eq 0
    run=$work/q/sample_de-llama-nano-640
    check 'quick start: a checkpoint' test -s "$run/model/step_00000050/model.safetensors"
    check 'quick start: samples' has "$run/samples.txt" 'Das Programm'
    check 'quick start: says that the text is a sample' has "$work/out" 'sample text'
    check 'quick start: says the validation loss' grep -q 'Validation loss [1-9]' "$work/out"
    before=$(sha256sum "$run/model/step_00000050/model.safetensors" "$run/model/metrics.jsonl" "$run"/*.bin)
    quick --minutes=0.001 --out=q >"$work/out" 2>&1
    check 'quick start again: exit code' test $? -eq 0
    check 'quick start again: nothing is done twice' test "$before" = "$(sha256sum "$run/model/step_00000050/model.safetensors" "$run/model/metrics.jsonl" "$run"/*.bin)"
    check 'quick start again: says so' has "$work/out" 'is there: trained.'
    # Stopped: fewer steps than a minute of training, so that going on takes no time either.
    mkdir -p "$work/s"
    cp -r "$work/q/." "$work/s/"
    run=$work/s/sample_de-llama-nano-640
    rm -r "$run/model"
    sed -i 's/^steps = .*/steps = 120/; s/^checkpoint_every = .*/checkpoint_every = 0/' "$run/train.conf"
    (cd "$work" && exec setsid bash "$root/scripts/quickstart.sh" --offline --model=llama-nano --vocab_size=640 --program="$root/$BUILD/train_gpt_cpu" --out=s) >"$work/out" 2>&1 &
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
fi

conclude
