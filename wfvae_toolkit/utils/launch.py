"""torchrun whose exit status tells how the run ended: ``python -m wfvae_toolkit.utils.launch OPTIONS SCRIPT ...``.

128 + N: signal N stopped the launcher or its processes. 1: a process failed.
"""

import sys

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .signals import SIGNALS

# Options of torchrun that are newer than torch 2.6 -> what an older torchrun does in their place.
_NEWER = {
    '--shutdown-timeout': 'after a signal the processes get 30 s, whatever STOP_TIMEOUT says',
    '--signals-to-handle': 'it passes on SIGTERM, SIGINT, SIGHUP and SIGQUIT; send SIGUSR1 to the processes themselves',
}


def main(arguments=None):
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        torchrun.main(known_arguments(arguments))
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode in {128 + number for number in SIGNALS}:
            sys.exit(failure.exitcode)
        # The processes have printed the reason already; torchrun's own traceback would hide it.
        sys.exit(f'error: {reason_of(failure)}')


def known_arguments(arguments):
    """Remove the options that this torchrun does not know, and print what it does in their place."""
    help_text = torchrun.get_args_parser().format_help()
    arguments = list(arguments)
    for option, instead in _NEWER.items():
        if option in arguments and option not in help_text:
            where = arguments.index(option)
            print(f'this torchrun has no {option} {arguments[where + 1]}: {instead}', file=sys.stderr)
            del arguments[where:where + 2]
    return arguments


def reason_of(failure):
    if isinstance(failure.message, dict):  # of `friendly_errors`
        return failure.message['message']
    return f'process {failure.local_rank} ended with status {failure.exitcode}; what it printed above says why'


if __name__ == '__main__':
    main()
