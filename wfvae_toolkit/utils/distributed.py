"""Processes: start, sums over ranks, orderly end."""

import contextlib
import os

import torch
from torch import distributed

from .errors import UserError


class LaunchError(UserError, RuntimeError):
    """Processes that were not started as told."""


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


def barrier():
    if is_distributed():
        distributed.barrier()


@contextlib.contextmanager
def process_group(launcher='none'):
    """Join the processes that torchrun started (``launcher='pytorch'``): NCCL with GPUs, gloo without.

    Raises:
        LaunchError: ``pytorch`` without torchrun's environment variables.
    """
    if launcher == 'none':
        yield
        return
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
               if name not in os.environ]
    if missing:
        raise LaunchError(f'--launcher pytorch: {", ".join(missing)} not set; start with torchrun or '
                          'tools/dist_train.sh, or use --launcher none')
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
        distributed.init_process_group('nccl')
    else:
        distributed.init_process_group('gloo')
    try:
        yield
        # Without it a rank tears its sockets down while another still talks (3 of 8 runs aborted).
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
