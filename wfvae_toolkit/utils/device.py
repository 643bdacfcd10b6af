"""Where tensors live and how much they take."""

import resource
import sys

import torch


def default_device():
    """This rank's GPU if there is one, else the CPU."""
    return torch.device('cuda', torch.cuda.current_device()) if torch.cuda.is_available() else torch.device('cpu')


def peak_memory_bytes():
    """Highest GPU memory allocated, or without a GPU the process' highest resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024  # KiB on Linux
