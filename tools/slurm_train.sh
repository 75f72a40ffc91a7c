#!/usr/bin/env bash
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK, PORT and SRUN_ARGS come from the environment. GPUS=0 trains on
# CPUs, with PROCESSES processes (1), PROCESSES_PER_NODE of them on each node.
set -eu
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]" >&2
    exit 2
fi
tools="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python=python
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$tools/../.venv/bin/python" ]; then
    python="$tools/../.venv/bin/python"
fi
gpus="${GPUS:-4}"
if [ "$gpus" -gt 0 ]; then
    tasks="$gpus"
    per_node="${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}"
    resources=(--gres="gpu:$per_node")
else
    tasks="${PROCESSES:-1}"
    per_node="${PROCESSES_PER_NODE:-$tasks}"
    resources=()
fi
# All processes meet at this port of the first node; MMEngine reads it here.
if [ -n "${PORT:-}" ]; then
    export MASTER_PORT="$PORT"
fi
cpus="${CPUS_PER_TASK:-5}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# SRUN_ARGS is a list of words on purpose.
# shellcheck disable=SC2086
exec srun -p "$1" --job-name="$2" \
    ${resources[@]+"${resources[@]}"} --ntasks="$tasks" --ntasks-per-node="$per_node" --cpus-per-task="$cpus" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$python" -u "$tools/train.py" "$3" --work-dir="$4" --launcher=slurm "${@:5}"
