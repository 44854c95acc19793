#!/usr/bin/env bash
# Test on several ranks, on one or several machines. Without GPUs, the ranks run on CPUs.
#     [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] \
#         dist_test.sh CONFIG CHECKPOINT GPUS [FLAGS...]
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [FLAGS of test.py...]" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "$0")" > /dev/null && pwd)
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"

# If another program uses the port, often another training, torchrun fails with a traceback.
port=${PORT:-29500}
if [ "${NODE_RANK:-0}" = 0 ] && (: < "/dev/tcp/${MASTER_ADDR:-127.0.0.1}/$port") 2> /dev/null; then
    echo "error: PORT=$port is used by another program; set PORT to another port" >&2
    exit 1
fi

# python -m starts the torchrun of this Python and not that of another environment.
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="$port" \
    --nproc_per_node="$3" \
    "$here/test.py" "$1" "$2" --launcher pytorch "${@:4}"
