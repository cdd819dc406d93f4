#!/usr/bin/env bash
# build.sh: run as root inside a container made from an image with the CUDA toolkit on Ubuntu or Debian: installs
# what the programs need and builds both into /opt/gpt.
#
#   scripts/container/build.sh [SOURCE]      default: the repository that this file is in
#
# CUDA_ARCH="80 90" (default) names the GPUs, ARCH=x86-64-v3 (default; armv8.2-a on aarch64) the CPUs: the machine that builds
# is not the one that runs.
set -euo pipefail

source=$(cd -- "${1:-$(dirname -- "${BASH_SOURCE[0]}")/../..}" && pwd)
target=/opt/gpt
case $(uname -m) in
    x86_64) arch=x86-64-v3 ;;
    aarch64) arch=armv8.2-a ;;
    *) echo "build.sh: neither x86-64 nor aarch64: $(uname -m)" >&2; exit 1 ;;
esac
[ "$(id -u)" -eq 0 ] || { echo 'build.sh: this installs packages: run it as root inside the container' >&2; exit 1; }

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# libnccl-dev is in NVIDIA's devel images; slurm's PMIx outside meets Open MPI's inside.
apt-get install -y -qq --no-install-recommends ca-certificates gcc g++ make git jq libopenmpi-dev openmpi-bin libnccl2 libnccl-dev
mkdir -p "$target"
if [ "$source" != "$target" ]; then cp -a "$source/." "$target/"; fi
make -C "$target" ARCH="${ARCH:-$arch}" CUDA_ARCH="${CUDA_ARCH:-80 90}" train_gpt_cpu train_gpt
rm -rf /var/lib/apt/lists/* "$target/build"
"$target/train_gpt_cpu" info >/dev/null
echo "build.sh: $target/train_gpt and $target/train_gpt_cpu are there"
