"""torchrun whose exit status says how its processes ended: ``python -m wfvae_toolkit.utils.launch OPTIONS SCRIPT ...``.

128 + N if they were stopped by signal N or the launcher was, 1 if one failed.
"""

import sys

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .signals import SIGNALS


def main(arguments=None):
    try:
        torchrun.main(arguments)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode in {128 + number for number in SIGNALS}:
            sys.exit(failure.exitcode)
        # torchrun's own traceback would bury the reason, which the processes have printed already.
        sys.exit(f'error: {reason_of(failure)}')


def reason_of(failure):
    if isinstance(failure.message, dict):  # of `friendly_errors`
        return failure.message['message']
    return f'process {failure.local_rank} ended with status {failure.exitcode}; what it printed above says why'


if __name__ == '__main__':
    main()
