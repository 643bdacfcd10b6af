#!/usr/bin/env bash
# tools/launch.sh N SCRIPT [arguments ...]: N processes of SCRIPT on this machine through torchrun.
#   NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1), PORT (a free one; to be given when NNODES is above 1),
#   MAX_RESTARTS (0): how often all processes are started again, from the newest checkpoint, after one has failed;
#   STOP_TIMEOUT (120): seconds that they get after a signal to finish an iteration and write a checkpoint;
#   PEER_TIMEOUT (torch's: 1800 with gloo, 600 with NCCL): seconds to wait for a process that does not answer;
#   PYTHON (the activated environment's, else this checkout's .venv, else python3).
set -euo pipefail
count="$1"
shift
. "$(dirname "${BASH_SOURCE[0]}")/find_python.sh"
case "$count" in ''|*[!0-9]*|0) echo "N is '$count': a number of processes from 1 is needed" >&2; exit 2 ;; esac
if [ "${NNODES:-1}" -gt 1 ] && [ -z "${PORT:-}" ]; then
    echo "NNODES=$NNODES: set the same PORT on every machine" >&2
    exit 2
fi
port="${PORT:-$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')}"
# Without it torchrun gives each process one thread, whatever the machine has.
cores="$("$PYTHON" -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores / count > 0 ? cores / count : 1))}"
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
exec "$PYTHON" -m wfvae_toolkit.utils.launch --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "$port" --nproc-per-node "$count" \
    --max-restarts "${MAX_RESTARTS:-0}" --shutdown-timeout "${STOP_TIMEOUT:-120}" \
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 "$@"
