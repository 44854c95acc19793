#!/usr/bin/env bash
# Train under Slurm. GPUS_PER_NODE=0 asks for no GPU: GPUS is then the number of CPU ranks.
#     [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS= MASTER_PORT=] \
#         slurm_train.sh PARTITION JOB_NAME CONFIG [FLAGS...]
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [FLAGS of train.py...]" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "$0")" > /dev/null && pwd)
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
# Any free port will do, but the ranks must agree on it: hence here, not in python.
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
    python -u "$here/train.py" "$3" --launcher slurm "${@:4}"
