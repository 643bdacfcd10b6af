#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT N [arguments of tools/test.py ...]
#   N processes on this machine: one a GPU, or gloo processes on the CPU where there is none.
#   Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment of each; see tools/launch.sh.
set -euo pipefail
if [ "$#" -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT N [arguments of test.py ...]" >&2
    exit 2
fi
tools="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec "$tools/launch.sh" "$3" "$tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
