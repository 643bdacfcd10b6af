"""Processes: start, sums over ranks, orderly end."""

import atexit
import contextlib
import gc
import os
import subprocess

import torch
from torch import distributed

from .device import default_device
from .errors import UserError


class LaunchError(UserError, RuntimeError):
    """The processes were not started in the way that ``--launcher`` says."""


def is_distributed():
    return distributed.is_available() and distributed.is_initialized()


def rank():
    return distributed.get_rank() if is_distributed() else 0


def world_size():
    return distributed.get_world_size() if is_distributed() else 1


def is_main():
    return rank() == 0


def average_over_ranks(tensors):
    """Replace each tensor by its mean over ranks, in place; one all-reduce a tensor, none on one rank."""
    if is_distributed():
        for tensor in tensors:
            distributed.all_reduce(tensor)
            tensor.div_(world_size())


def of_main(value):
    """Rank 0's ``value``, on every rank; anything that pickles."""
    box = [value]
    if is_distributed():
        distributed.broadcast_object_list(box)
    return box[0]


def on_main(function):
    """``function()`` of rank 0, on every rank; a UserError that it raises is raised on every rank."""
    result = error = None
    if is_main():
        try:
            result = function()
        except UserError as found:
            error = found
    result, error = of_main((result, error))
    if error is not None:
        raise error
    return result


def gather(value):
    """[rank 0's ``value``, rank 1's, ...], on every rank; anything that pickles."""
    values = [value] * world_size()
    if is_distributed():
        distributed.all_gather_object(values, value)
    return values


def sum_over_ranks(tensor):
    """Sum of every rank's ``tensor`` of one shape, on the CPU of every rank; one all-reduce, none on one rank."""
    if not is_distributed():
        return tensor.cpu()
    total = tensor.to(default_device(), copy=True)
    distributed.all_reduce(total)
    return total.cpu()


def concatenate_over_ranks(tensor):
    """Rows of rank 0, then of rank 1, and so on, on the CPU of every rank; a rank without rows passes None.

    Raises:
        ValueError: no rank has rows, or their rows differ in shape or type.
    """
    kinds = gather(None if tensor is None else (tuple(tensor.shape), tensor.dtype))
    shapes = {(shape[1:], dtype) for shape, dtype in filter(None, kinds)}
    if len(shapes) != 1:
        raise ValueError(f'rows of one shape and type are needed on all ranks; there are {sorted(map(str, shapes))}')
    if not is_distributed():
        return tensor.cpu()
    (row, dtype), = shapes
    counts = [0 if kind is None else kind[0][0] for kind in kinds]
    # All-gather takes tensors of one shape.
    padded = torch.zeros((max(counts), *row), dtype=dtype, device=default_device())
    if tensor is not None:
        padded[:len(tensor)] = tensor
    gathered = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(gathered, padded)
    return torch.cat([rows[:count].cpu() for rows, count in zip(gathered, counts, strict=True)])


def largest(number):
    """The largest of all ranks' integers; one all-reduce, none on one rank."""
    if not is_distributed():
        return number
    tensor = torch.tensor(number, device=default_device())
    distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX)
    return int(tensor)


def barrier():
    if is_distributed():
        distributed.barrier()


@contextlib.contextmanager
def process_group(launcher=None):
    """Join the processes that torchrun (``'pytorch'``) or srun (``'slurm'``) started: NCCL with GPUs, gloo without.

    Raises:
        LaunchError: the environment variables of that launcher are not set.
    """
    if launcher in (None, 'none'):
        yield
        return
    if launcher == 'slurm':
        os.environ.update(_torchrun_variables(os.environ))
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
               if name not in os.environ]
    if missing:
        raise LaunchError(f'--launcher pytorch: {", ".join(missing)} not set; start with torchrun or '
                          'tools/dist_train.sh, or use --launcher none')
    if torch.cuda.is_available():
        # srun --gpus-per-task shows each process its own GPU alone.
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']) if torch.cuda.device_count() > 1 else 0)
        _join('nccl')
    else:
        _join('gloo')
    try:
        yield
        # Without it a rank closes its sockets while another still communicates (3 of 8 runs aborted).
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _join(backend):
    # A model in a reference cycle still holds the group. Free it before the interpreter ends: gloo's threads, ended
    # together with the interpreter, once aborted a process (status -6) after it had written all files.
    atexit.register(gc.collect)
    # torchrun keeps one store over all restarts. Without a prefix, restarted processes can read the addresses of the
    # earlier ones, and their connections are refused (2 of 3 tries with gloo).
    store, rank, world_size = next(distributed.rendezvous('env://'))
    store = distributed.PrefixStore(f'attempt {os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")}', store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)


def _torchrun_variables(slurm):
    """Variables of a process that srun started -> those that torchrun would have set.

    The master is MASTER_ADDR, else the first host of the Slurm step. The port is PORT, else a number from 15000 to
    29999 that follows from the job's number; operating systems assign ports above that range.
    """
    missing = [name for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_JOB_ID', 'SLURM_STEP_NODELIST')
               if name not in slurm]
    if missing:
        raise LaunchError(f'--launcher slurm: {", ".join(missing)} not set; start with srun or tools/slurm_train.sh, '
                          'or use --launcher none')
    return {'RANK': slurm['SLURM_PROCID'], 'WORLD_SIZE': slurm['SLURM_NTASKS'], 'LOCAL_RANK': slurm['SLURM_LOCALID'],
            'MASTER_ADDR': slurm.get('MASTER_ADDR') or _first_host(slurm['SLURM_STEP_NODELIST']),
            'MASTER_PORT': slurm.get('PORT') or str(15_000 + int(slurm['SLURM_JOB_ID']) % 15_000)}


def _first_host(nodes):
    """'gpu[07-08,11]' -> 'gpu07'; Slurm itself knows how."""
    try:
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LaunchError(f'--launcher slurm: cannot find the first host of {nodes} ({error}); set '
                          'MASTER_ADDR') from error
    return hosts.stdout.split()[0]
