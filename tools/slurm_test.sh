#!/usr/bin/env bash
# Test under Slurm: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [FLAGS...]
# The script may also be submitted: sbatch OPTIONS tools/slurm_test.sh ... docs/clusters.md
# describes the environment variables GPUS=8, GPUS_PER_NODE=8, CPUS_PER_TASK=5, SRUN_ARGS and
# MASTER_PORT. For 2 ranks on nodes without GPUs: GPUS=2 GPUS_PER_NODE=0 CPUS_PER_TASK=1.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [FLAGS of test.py...]" >&2
    exit 2
fi

# sbatch runs a copy of this script from its spool folder. The record of the job names the original
# script, which is in the same folder as test.py. If the record does not name it, use the folder
# from which the job was submitted.
here=$(cd -- "$(dirname -- "$0")" > /dev/null && pwd)
if [ ! -f "$here/test.py" ]; then
    original=
    if [ -n "${SLURM_JOB_ID:-}" ]; then
        original=$(scontrol show job "$SLURM_JOB_ID" |
            sed -n 's|^ *Command=\(/.*\)/slurm_test\.sh.*|\1|p') || original=
    fi
    for here in "$original" "${SLURM_SUBMIT_DIR:-$PWD}/tools"; do
        if [ -f "$here/test.py" ]; then break; fi
    done
fi
if [ ! -f "$here/test.py" ]; then
    echo "error: $here/test.py does not exist; submit from the folder that contains tools/" >&2
    exit 1
fi
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
# All ranks must use the same port, so the port is chosen here and not in Python.
export MASTER_PORT="${MASTER_PORT:-$((12000 + RANDOM % 20000))}"

per_node=${GPUS_PER_NODE:-8}
gpus=()
if [ "$per_node" -gt 0 ]; then
    gpus=(--gres="gpu:$per_node" --ntasks-per-node="$per_node")
fi
read -r -a more <<< "${SRUN_ARGS:-}"

exec srun -p "$1" \
    --job-name="$2" \
    --ntasks="${GPUS:-8}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${gpus[@]+"${gpus[@]}"} ${more[@]+"${more[@]}"} \
    python -u "$here/test.py" "$3" "$4" --launcher slurm "${@:5}"
