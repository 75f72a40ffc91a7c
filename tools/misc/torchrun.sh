#!/usr/bin/env bash
# What dist_train.sh and dist_test.sh share: torchrun.sh SCRIPT CONFIG PROCESSES_PER_NODE [arguments]
set -eu
tools="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ $# -lt 3 ] || ! [[ "$3" =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: tools/dist_${1%.py}.sh CONFIG ... PROCESSES_PER_NODE [arguments of $1]" >&2
    exit 2
fi
# The active environment's Python; the repository's own where none is active.
python=python
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$tools/../.venv/bin/python" ]; then
    python="$tools/../.venv/bin/python"
fi
# Processes share the cores instead of each taking all of them.
cores=$(nproc 2>/dev/null || echo 1)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > $3 ? cores / $3 : 1))}"
exec "$python" "$tools/misc/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-${MASTER_PORT:-29500}}" \
    --nproc_per_node="$3" \
    "$tools/$1" "$2" "${@:4}" --launcher pytorch
