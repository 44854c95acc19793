#!/usr/bin/env bash
# Train on several ranks of this machine, or of several; on the CPU where there is no GPU.
#     [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] dist_train.sh CONFIG GPUS [FLAGS...]
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [FLAGS of train.py...]" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "$0")" > /dev/null && pwd)
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"

# torchrun ends in a traceback where another program, often another training, uses the port.
port=${PORT:-29500}
if [ "${NODE_RANK:-0}" = 0 ] && (: < "/dev/tcp/${MASTER_ADDR:-127.0.0.1}/$port") 2> /dev/null; then
    echo "error: PORT=$port is used by another program; set PORT to another port" >&2
    exit 1
fi

# torchrun under its module's name: that of this python, and no other environment's.
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="$port" \
    --nproc_per_node="$2" \
    "$here/train.py" "$1" --launcher pytorch "${@:3}"
