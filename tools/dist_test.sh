#!/usr/bin/env bash
# Test on several processes: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES_PER_NODE [arguments of test.py]
# Several nodes: the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -eu
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT PROCESSES_PER_NODE [arguments of test.py]" >&2
    exit 2
fi
exec "$(dirname "${BASH_SOURCE[0]}")/misc/torchrun.sh" test.py "$1" "$3" "$2" "${@:4}"
