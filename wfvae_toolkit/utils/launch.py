"""torchrun whose exit status says how its processes ended: ``python -m wfvae_toolkit.utils.launch OPTIONS SCRIPT ...``.

128 + N if they were stopped by signal N or the launcher was, 1 if one failed.
"""

import sys

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .signals import SIGNALS


def main(arguments=None):
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        torchrun.main(arguments if knows_timeout() else without_timeout(arguments))
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode in {128 + number for number in SIGNALS}:
            sys.exit(failure.exitcode)
        # torchrun's own traceback would bury the reason, which the processes have printed already.
        sys.exit(f'error: {reason_of(failure)}')


def knows_timeout():
    """Whether this torchrun takes ``--shutdown-timeout``; that of torch 2.6 does not."""
    return '--shutdown-timeout' in torchrun.get_args_parser().format_help()


def without_timeout(arguments):
    """The arguments without ``--shutdown-timeout SECONDS``; says what holds in its place."""
    where = arguments.index('--shutdown-timeout')
    print(f'this torchrun has no --shutdown-timeout: after a signal the processes get its own 30 s, not '
          f'{arguments[where + 1]} s (STOP_TIMEOUT)', file=sys.stderr)
    return arguments[:where] + arguments[where + 2:]


def reason_of(failure):
    if isinstance(failure.message, dict):  # of `friendly_errors`
        return failure.message['message']
    return f'process {failure.local_rank} ended with status {failure.exitcode}; what it printed above says why'


if __name__ == '__main__':
    main()
