#!/usr/bin/env bash
# Train on several processes: tools/dist_train.sh CONFIG PROCESSES_PER_NODE [arguments of train.py]
# Several nodes: the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
# Without a GPU the processes run on the CPU and talk through gloo.
exec "$(dirname "${BASH_SOURCE[0]}")/misc/torchrun.sh" train.py "$@"
