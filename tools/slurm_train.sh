#!/usr/bin/env bash
# tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py ...]
#   GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS in the environment; see tools/slurm_launch.sh.
set -euo pipefail
if [ "$#" -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of train.py ...]" >&2
    exit 2
fi
tools="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec "$tools/slurm_launch.sh" "$1" "$2" "$tools/train.py" "${@:3}"
