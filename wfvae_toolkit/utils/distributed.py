"""Processes: start, sums over ranks, orderly end."""

import atexit
import contextlib
import gc
import os
import subprocess
from contextvars import ContextVar

import torch
from torch import distributed

from . import peers
from .device import chosen_number, default_device, set_device_number, using_device
from .errors import UserError

_BACKENDS = {'cuda': 'nccl', 'xpu': 'xccl'}  # kind of device -> how ranks speak


class LaunchError(UserError, RuntimeError):
    """The processes were not started in the way that ``--launcher`` says."""


_alone = ContextVar('alone', default=False)


def is_distributed():
    return not _alone.get() and distributed.is_available() and distributed.is_initialized()


@contextlib.contextmanager
def alone():
    """Inside the block this process is the only one: no function of this module communicates."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


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
def process_group(launcher=None, device=None):
    """Join the processes that torchrun (``'pytorch'``) or srun (``'slurm'``) started; inside, ``device`` is used.

    They speak by NCCL on CUDA and ROCm, by XCCL on XPU, else by gloo.

    Args:
        launcher (str): None or ``'none'``: this process alone.
        device (str): see `using_device`.

    Raises:
        LaunchError: the environment variables of that launcher are not set, or all ranks would share one device.
        PeerLost: another process did not come, ended or does not answer (``PEER_TIMEOUT``).
    """
    with using_device(device), _joined(launcher):
        yield


@contextlib.contextmanager
def _joined(launcher):
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
    kind, several = default_device().type, int(os.environ['WORLD_SIZE']) > 1
    if kind != 'cpu':
        if several and kind not in _BACKENDS:
            raise LaunchError(f'{os.environ["WORLD_SIZE"]} processes: torch joins none on {kind}; use one process, or '
                              '--device cpu')
        if several and chosen_number() is not None:
            raise LaunchError(f'--device {default_device()} with {os.environ["WORLD_SIZE"]} processes: give the kind '
                              f'alone, --device {kind}; every process takes a device of its own')
        # srun --gpus-per-task shows each process its own GPU alone.
        set_device_number(int(os.environ['LOCAL_RANK']) if torch.accelerator.device_count() > 1 else 0)
    met = _join(_BACKENDS.get(kind, 'gloo'))
    try:
        with peers.name_lost_peers(*met):
            yield
            # Without it a rank closes its sockets while another still communicates (3 of 8 runs aborted).
            distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _join(backend):
    """(store, Peers by rank, own rank) of the new default group."""
    # A model in a reference cycle still holds the group. Free it before the interpreter ends: gloo's threads, ended
    # together with the interpreter, once aborted a process (status -6) after it had written all files.
    atexit.register(gc.collect)
    # torchrun keeps one store over all restarts. Without a prefix, restarted processes can read the addresses of the
    # earlier ones, and their connections are refused (2 of 3 tries with gloo).
    timeout = peers.timeout_from(os.environ)
    limits = {'timeout': timeout} if timeout else {}
    store, rank, world_size = next(distributed.rendezvous('env://', **limits))
    store = distributed.PrefixStore(f'attempt {os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")}', store)
    met = peers.meet(store, rank, world_size, os.environ['MASTER_ADDR'], os.environ['MASTER_PORT'])
    with peers.name_lost_peers(store, met, rank):
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size, **limits)
    return store, met, rank


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
