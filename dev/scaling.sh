#!/usr/bin/env bash
# scaling.sh: the arithmetic of dev/scaling.md: the time of a step on N GPUs of JUPITER, modelled.
#
#   dev/scaling.sh                        the tables, Markdown
#   dev/scaling.sh --all                  every stage and group size that was weighed, not only the best
#   dev/scaling.sh --bytes RANKS M        bytes that all ranks of the CPU program send in a step, for M million parameters
#
# Every assumption is a line NAME = VALUE below, with its reason in dev/scaling.md; NAME=VALUE in the environment
# replaces it (dev/scaling.sh says which it used): bw_nic=10e9 dev/scaling.sh, gpus=256 dev/scaling.sh.
set -euo pipefail

if [ "${1:-}" = --bytes ]; then
    # Each of R ranks sends R - 1 parts of its fp32 gradients to their owners, then its own part of the fp32 weights to R - 1 others.
    awk -v R="${2:?ranks}" -v M="${3:?million parameters}" 'BEGIN { printf "%d\n", 2 * (R - 1) * 4 * M * 1e6 }'
    exit
fi

assumptions=(
    peak=989e12     # dense bf16 FLOP/s of a GPU
    memory=88e9     # of 96e9 bytes: the rest is CUDA, NCCL, fragments
    bw_nvlink=360e9 # bytes/s a GPU sends to the three others of its node: 80% of 3 x 150e9
    bw_nic=21e9     # bytes/s a GPU sends out of the node: 85% of NDR200
    taper=0.5       # share of that between groups of 960 GPUs
    alpha=4e-6      # seconds a hop of a ring takes, beside its bytes
    overlap=0.8     # share of the compute time beside it under which communication hides
    contention=0.05 # of the hidden communication's time is lost to compute all the same
    b_weight=2      # bytes of a gathered weight
    b_gradient=4    # bytes of a reduced gradient
    b_state=12      # bytes of master weight and moments, per parameter
    b_checkpoint=12 # bytes written per parameter
    gpus='8 64 512 4096' # the rows of the tables
    file_bytes=40e9 # of them in one file: --checkpoint_files=0
    bw_disk=2e9     # bytes/s that one node writes to the file system
    mtbf_hours=50700 # of one GPU and its share of the node
    restart_min=10  # from a failure to the next step: detect, requeue, start, read
)
values=()
for line in "${assumptions[@]}"; do
    name=${line%%=*}
    value=${!name:-${line#*=}}
    [[ $value =~ ^[0-9.eE+-]+(\ [0-9]+)*$ ]] || { echo "scaling.sh: $name=$value: expected a number (gpus: numbers)" >&2; exit 1; }
    values+=(-v "$name=$value")
done

awk "${values[@]}" -v all="$([ "${1:-}" = --all ] && echo 1 || echo 0)" '
function min(a, b) { return a < b ? a : b }
function max(a, b) { return a > b ? a : b }

# Seconds in which s ranks gather (or reduce-scatter) a tensor of `bytes` in all, of which each holds 1/s; `calls` such calls.
function ring(bytes, s, calls,   nodes, nic, t) {
    if (s == 1) return 0
    t = bytes * (s - 1) / s / bw_nvlink
    nodes = s / 4
    nic = s > 960 ? bw_nic * taper : bw_nic
    if (nodes > 1) t = max(t, bytes * (nodes - 1) / nodes / (4 * nic)) # 4 cards carry the share of a node
    latency = calls * (s - 1) * alpha
    return t + latency
}

# One choice: stage z, group of s GPUs, recomputation of whole blocks or not. Sets step, exposed, ...; returns 0 if it does not fit.
function weigh(z, s, block,   r, act, state, gathered, tokens_gpu, micro, m, fwd, bwd, t_reduce, t_gather, t_across, hidden, window) {
    r = N / s
    gathered = 2 * (b_weight + b_gradient) * P / L # of two layers, the one at work and the next
    state = z == 0 ? (b_weight + b_gradient + b_state) * P : z == 1 ? (b_weight + b_gradient) * P + b_state * P / s : \
        z == 2 ? b_weight * P + (b_gradient + b_state) * P / s + gathered : (b_weight + b_gradient + b_state) * P / s + gathered
    # bf16 of a token: what a block keeps (residual, input of norms, q k v, attention, the two products of the MLP), or its input alone and one block at work
    act = block ? 2 * C * L + 2 * (3 * C + QKV + F3) : 2 * (3 * C + QKV + F3) * L
    act += 4 * C # logits come in chunks
    tokens_gpu = batch / N
    micro = T * int(min(tokens_gpu, (memory - state) / act) / T)
    if (micro < T) return 0
    m = int((tokens_gpu + micro - 1) / micro)
    micro = tokens_gpu / m
    fwd = micro * flops / 3 / (peak * reach)
    bwd = 2 * fwd + (block ? fwd : 0)
    compute = m * (fwd + bwd)
    # Inside a group. A stage that keeps a share of the gradients reduces in every micro-batch; stage 3 gathers twice in each.
    t_reduce = ring(b_gradient * P, s, L) * (z >= 2 ? m : 1) * (z == 0 ? 2 : 1); lat = latency * (z >= 2 ? m : 1) * (z == 0 ? 2 : 1)
    t_gather = z == 0 ? 0 : ring(b_weight * P, s, L) * (z == 3 ? 2 * m : 1); if (z > 0) lat += latency * (z == 3 ? 2 * m : 1)
    # Across the copies: an all-reduce of the share of each GPU, over its own card; once a step.
    t_across = 0
    if (r > 1) {
        t_across = 2 * b_gradient * P / s * (r - 1) / r / (N > 960 ? bw_nic * taper : bw_nic) + 2 * L * (r - 1) * alpha
        lat += 2 * L * (r - 1) * alpha
    }
    comm = t_reduce + t_gather + t_across
    # What hides: reductions beside the backward passes in which they run, gathers beside forward (stages 1 and 2: of the next
    # step) or, in stage 3, all passes; each in its own window.
    window = overlap * (z >= 2 ? m * bwd : bwd)
    exposed = max(0, t_reduce + t_across - window)
    window = overlap * (z == 3 ? m * (fwd + bwd) - min(m * bwd, t_reduce + t_across) : fwd)
    exposed += max(0, t_gather - window)
    hidden = comm - exposed
    step = compute + exposed + contention * hidden
    micro_sequences = micro / T; micros = m; held = state + micro * act
    return 1
}

function name(x) { return x >= 1e9 ? sprintf("%.2f G", x / 1e9) : sprintf("%.3g M", x / 1e6) }

function model(title, l, c, nh, nkv, hs, f, mats, v, tied, t, base, e,   i, s, z, block, best, line, tau, M, delta, lost, eff, first, why, R, b0) {
    L = l; C = c; T = t; reach = e
    QKV = (nh + 2 * nkv) * hs; F3 = mats == 3 ? 2 * f : f
    matmul = l * (c * QKV + nh * hs * c + mats * c * f) + v * c
    P = matmul + (tied ? 0 : v * c)
    flops = 6 * matmul + 6 * l * nh * hs * t
    printf "\n### %s: %.2fB parameters, T = %d, %.2fM tokens a step, %.3g FLOPs a token, %d%% of the peak alone\n\n", title, P / 1e9, t, base / 1e6, flops, 100 * e
    print "| GPUs | tokens a step | stage, group | recompute | sequences x passes | GB held | compute ms | comm. ms (hops) | exposed ms | step ms | tokens/s | share of peak | checkpoint every, lost | limit |"
    print "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    counts = split(gpus, count, " ")
    for (i = 1; i <= counts; i++) {
        N = count[i]
        b0 = batch = max(base, N * t) # a sequence for each GPU is the least
        best = 1e99; first = 1
        for (block = 0; block <= 1; block++)
            for (z = 0; z <= 3; z++)
                for (s = (z == 0 ? N : 4); s <= N; s *= 2) {
                    if (!weigh(z, s, block)) continue
                    if (all) printf "| %d | | %d, %d | %s | %d x %d | %.0f | %.0f | %.0f (%.0f) | %.0f | %.0f | | | | |\n", N, z, s, block ? "blocks" : "cheap", micro_sequences, micros, held / 1e9, 1e3 * compute, 1e3 * comm, 1e3 * lat, 1e3 * exposed, 1e3 * step
                    if (step < best * 0.995) { # of equals the one with less exchange, which is weighed first
                        best = step; bz = z; bs = s; bb = block; bms = micro_sequences; bm = micros; bheld = held
                        bcompute = compute; bcomm = comm; blat = lat; bexposed = exposed
                    }
                }
        if (best == 1e99) { printf "| %d | %.2fM | does not fit: %.0f GB of state in all, %.0f GB a GPU | | | | | | | | | | | memory |\n", N, batch / 1e6, 18 * P / 1e9, 18 * P / N / 1e9; continue }
        # Checkpoints: training waits while those who write collect what they write, one tensor after the other in a group, groups
        # at the same time; the files follow in the background. Interval: Young and Daly: the root of 2 delta M, not shorter
        # than the writing takes.
        files = min(int(b_checkpoint * P / file_bytes) + 1, N)
        M = mtbf_hours * 3600 / N; delta = b_checkpoint * P / bw_nic / min(files, N / bs)
        tau = max(sqrt(2 * delta * M), b_checkpoint * P / bw_disk / min(files, max(1, N / 4)))
        R = restart_min * 60
        lost = delta / tau + (tau / 2 + R) / M
        eff = batch * flops / N / peak / best
        why = batch > base * 1.001 ? ", batch" : ""
        if (bexposed > 0.1 * best) why = why (blat > bcomm / 2 ? ", hops" : ", network")
        if (lost > 0.05) why = why ", failures"
        if (bb) why = why ", memory"
        why = why == "" ? "compute" : substr(why, 3)
        printf "| %d | %.2fM | %s | %s | %d x %d | %.0f | %.0f | %.0f (%.0f) | %.0f | %.0f | %s | %.0f%% | %.0f min, %.1f%% | %s |\n", N, batch / 1e6, \
            bz == 0 ? "0" : bs == N ? bz ", all" : bz ", " bs, bb ? "blocks" : "cheap", bms, bm, bheld / 1e9, 1e3 * bcompute, 1e3 * bcomm, 1e3 * blat, 1e3 * bexposed, 1e3 * best, \
            name(batch / best), 100 * eff, tau / 60, 100 * lost, why
    }
}

BEGIN {
    printf "Assumed: peak %.0f TFLOP/s, memory %.0f GB, NVLink %.0f GB/s, card %.0f GB/s (x %.1f between groups), hop %.0f us, overlap %.0f%%, contention %.0f%%, bytes of weight %d, gradient %d, state %d, checkpoint %d, disk %.0f GB/s, MTBF %d h a GPU, restart %d min.\n", \
        peak / 1e12, memory / 1e9, bw_nvlink / 1e9, bw_nic / 1e9, taper, alpha * 1e6, 100 * overlap, 100 * contention, b_weight, b_gradient, b_state, b_checkpoint, bw_disk / 1e9, mtbf_hours, restart_min
    model("124M (gpt2-124M)", 12, 768, 12, 12, 64, 3072, 2, 50304, 1, 1024, 524288, 0.36)
    model("1.5B (llama-1.5B)", 28, 2048, 16, 4, 128, 5888, 3, 50304, 0, 4096, 2097152, 0.42)
    model("7B (llama-7B)", 32, 4096, 32, 8, 128, 14336, 3, 50304, 0, 4096, 4194304, 0.46)
    model("70B (shape of Llama 3)", 80, 8192, 64, 8, 128, 28672, 3, 50304, 0, 4096, 8388608, 0.46)
}'
