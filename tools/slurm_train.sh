#!/usr/bin/env bash
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS come from the environment.
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
per_node="${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}"
cpus="${CPUS_PER_TASK:-5}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# SRUN_ARGS is a list of words on purpose.
# shellcheck disable=SC2086
exec srun -p "$1" --job-name="$2" \
    --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" --cpus-per-task="$cpus" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$python" -u "$tools/train.py" "$3" --work-dir="$4" --launcher=slurm "${@:5}"
