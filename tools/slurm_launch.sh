#!/usr/bin/env bash
# tools/slurm_launch.sh PARTITION JOB_NAME SCRIPT [arguments ...]: one process of SCRIPT a GPU through srun.
#   GPUS (8) in all, GPUS_PER_NODE (8, or GPUS if less), CPUS_PER_TASK (5), SRUN_ARGS (more options of srun, which come
#   last and win), PYTHON (as in tools/launch.sh); MASTER_ADDR and PORT if the defaults do not serve.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/find_python.sh"
gpus="${GPUS:-8}"
per_node="${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}"
cpus="${CPUS_PER_TASK:-5}"
if [ "$((gpus % per_node))" -ne 0 ]; then
    echo "GPUS=$gpus: a multiple of GPUS_PER_NODE=$per_node is needed" >&2
    exit 2
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$cpus}"
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
# One process that fails ends the others, which would wait for it, a minute later: at once (--kill-on-bad-exit=1) would
# hit the last of a run that a signal stops, and turn its status 138 into 143. SRUN_ARGS is split into words on purpose.
exec srun --partition="$1" --job-name="$2" --nodes="$((gpus / per_node))" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --gres="gpu:$per_node" --cpus-per-task="$cpus" --kill-on-bad-exit=0 --wait=60 \
    ${SRUN_ARGS:-} "$PYTHON" -u "${@:3}" --launcher slurm
