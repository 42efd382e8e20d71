#!/usr/bin/env bash
# One study as a Slurm job, on one node or several: from the root of the repository, which all nodes see
#
#   (umask 077; ray get-auth-token --generate)   # once: ~/.ray/auth_token, the key of your clusters
#   sbatch clusters/slurm.sh car_resnet --storage /shared/results
#
# What stands behind the script goes to `tune`, with --resume: the same line begins a run and goes on with it. Shortly
# before the time is up the search ends in order and the job is put back into the queue.
# What the job asks for is yours to set, marked <-. The nodes are a Ray cluster of this job's own.
#SBATCH --job-name=raysweep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
# <- above: nodes, CPUs and GPUs of each, time; partition and account, where your site has them. USR1 goes to this
# script alone (B:), which hands it on to the search: within 120 seconds it ends at its last checkpoints.
set -euo pipefail

(($# >= 1)) || { echo "sbatch slurm.sh STUDY [flags of tune]: give the study" >&2; exit 2; }
cd "${SLURM_SUBMIT_DIR:?"this is a batch script: sbatch clusters/slurm.sh STUDY"}" # Slurm runs a copy of this file
export PATH=$PWD/.venv/bin:$PATH

address=local
if ((${SLURM_JOB_NUM_NODES:-1} > 1)); then
    # The token keeps other users of the nodes out. The port is the job's own, where two jobs share a node.
    export RAY_AUTH_MODE=token
    address=$(hostname --ip-address | cut -d' ' -f1):$((20000 + SLURM_JOB_ID % 10000))
    own=(--num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats)
    ray start --head --node-ip-address="${address%:*}" --port="${address#*:}" --dashboard-host=127.0.0.1 \
        --temp-dir="/tmp/ray-$SLURM_JOB_ID" "${own[@]}"
    srun --relative=1 --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 \
        ray start --address="$address" --block "${own[@]}" &
    # A search takes the nodes that are there when it begins.
    until (($(ray status --address="$address" | grep -c ' node_') >= SLURM_JOB_NUM_NODES)); do sleep 1; done
fi

python -m platform.tune "$@" --resume --address "$address" &
search=$!
trap 'kill -USR1 "$search"' USR1
code=0
wait "$search" || code=$?
while kill -0 "$search" 2>/dev/null; do # a signal ends a wait, not the search
    code=0
    wait "$search" || code=$?
done
if ((code == 138)); then # 128 + USR1: the time is up
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
