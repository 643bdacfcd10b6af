#!/usr/bin/env bash
# tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py ...]
#   GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS in the environment; see tools/slurm_launch.sh.
set -euo pipefail
if [ "$#" -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py ...]" >&2
    exit 2
fi
tools="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec "$tools/slurm_launch.sh" "$1" "$2" "$tools/test.py" "${@:3}"
