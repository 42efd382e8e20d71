#!/usr/bin/env bash
# Makes a machine a node of the cluster: shared storage, Python, and raysweep with the versions of requirements.lock.
# `ray up` runs it on every node, and again each time: what is done already is left as it is.
#
#   setup_node.sh STORAGE        an NFS export, server:/path, or the absolute path of a folder that all nodes share already
#   setup_node.sh STORAGE mps    also starts NVIDIA MPS, for several trials on each GPU (tune --trials-per-gpu)
set -euo pipefail

storage=${1:?"setup_node.sh STORAGE: an NFS export (server:/path) or a shared folder (/path)"}
mps=${2:-}
[[ -z $mps || $mps == mps ]] || { echo "setup_node.sh: the second word must be mps or left out, got $mps" >&2; exit 1; }
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python_version=3.11
uv_version=0.13.9 # with it the patch version of Python and the resolver are fixed too
mount_point=/mnt/raysweep

# 1. Storage. `hard`: a server that is away for a minute makes writes wait, not fail. `lookupcache=positive`: a file
# that another node has just made is seen at once.
if [[ $storage == *:/* ]]; then
    command -v mount.nfs4 >/dev/null || { sudo apt-get update -q && sudo apt-get install -q -y nfs-common; }
    sudo mkdir -p "$mount_point"
    mountpoint -q "$mount_point" || sudo mount -t nfs4 \
        -o nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,lookupcache=positive \
        "$storage" "$mount_point"
    [[ -w $mount_point ]] || sudo chown "$(id -u):$(id -g)" "$mount_point"
    storage=$mount_point
fi
[[ $storage == /* && -d $storage && -w $storage ]] || {
    echo "setup_node.sh: the shared storage must be a folder that $(id -un) can write to, got $storage" >&2
    exit 1
}

# `tune` writes to ./results unless told otherwise: on a node that is the shared storage.
mkdir -p "$storage/results"
[[ -L $project/results || ! -e $project/results ]] && ln -sfn "$storage/results" "$project/results"

# 2. Python and the project, once for each content of requirements.lock.
installed=$project/.venv/.installed-$(sha256sum "$project/requirements.lock" | cut -c1-16)
if [[ ! -e $installed ]]; then
    export PATH=$HOME/.local/bin:$PATH
    [[ $(uv --version 2>/dev/null) == "uv $uv_version"* ]] ||
        curl -LsSf "https://astral.sh/uv/$uv_version/install.sh" | env UV_NO_MODIFY_PATH=1 sh
    uv venv --quiet --clear --python "$python_version" "$project/.venv"
    uv pip install --quiet --python "$project/.venv/bin/python" -r "$project/requirements.lock"
    uv pip install --quiet --python "$project/.venv/bin/python" --no-deps -e "$project"
    touch "$installed"
fi

# 3. What every shell on this node needs: Ray's start commands, `ray exec`, `ray attach`. No key is written here.
# Downloads go to the shared storage: the images and weights that one node has fetched are there for all.
cat >"$HOME/.raysweep_node" <<END
export RAY_AUTH_MODE=token
export PATH="$project/.venv/bin:\$PATH"
export KAGGLEHUB_CACHE="$storage/cache/kagglehub" HF_HOME="$storage/cache/huggingface"
END
grep -qs raysweep_node "$HOME/.bashrc" || echo ". ~/.raysweep_node" >>"$HOME/.bashrc"

# 4. MPS, where it is asked for and the driver brings it: trials on one GPU then compute at once. It serves the processes
# of the account that has started it, and is found by them in CUDA's own place; no setting of the GPU changes.
if [[ $mps == mps ]] && command -v nvidia-cuda-mps-control >/dev/null; then
    mkdir -p "$HOME/.nvidia-mps"
    echo get_server_list | nvidia-cuda-mps-control >/dev/null 2>&1 ||
        CUDA_MPS_LOG_DIRECTORY=$HOME/.nvidia-mps nvidia-cuda-mps-control -d
fi
