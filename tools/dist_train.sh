#!/usr/bin/env bash
# tools/dist_train.sh CONFIG N [arguments of tools/train.py ...]
#   N processes on this machine: one a GPU, or gloo processes on the CPU where there is none.
#   Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment of each; see tools/launch.sh.
set -euo pipefail
if [ "$#" -lt 2 ]; then
    echo "usage: $0 CONFIG N [arguments of train.py ...]" >&2
    exit 2
fi
tools="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec "$tools/launch.sh" "$2" "$tools/train.py" "$1" --launcher pytorch "${@:3}"
