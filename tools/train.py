"""Train an autoencoder: ``python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]]``."""

import argparse
import os
import sys
from pathlib import Path

from wfvae_toolkit.utils.options import (
    add_config_arguments,
    add_device_argument,
    add_launcher_argument,
    friendly_errors,
)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Train an autoencoder.')
    add_config_arguments(parser)
    parser.add_argument('--work-dir', help='where everything is written (default: work_dirs/<name of the config>)')
    parser.add_argument('--resume', nargs='?', const=True, default=False, metavar='CHECKPOINT', type=os.path.expanduser,
                        help='resume from CHECKPOINT, or from the newest one of the work dir, if there is one')
    parser.add_argument('--resume-drop', nargs='+', choices=('discriminator', 'optimizers', 'early_stop'), default=[],
                        help='parts of the checkpoint that start afresh')
    add_device_argument(parser)
    add_launcher_argument(parser)
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.utils.config import load_config
    from wfvae_toolkit.utils.distributed import process_group
    from wfvae_toolkit.utils.signals import tell_launcher

    cfg = load_config(options.config, options.cfg_options)
    cfg.work_dir = os.path.expanduser(
        options.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(cfg.filename).stem}')
    # The command line overrides the config.
    cfg.resume = options.resume or cfg.get('resume') or False
    cfg.resume_drop = options.resume_drop or cfg.get('resume_drop') or []
    cfg.launcher = options.launcher or cfg.get('launcher') or 'none'
    with process_group(cfg.launcher, options.device):
        from wfvae_toolkit.training import TrainingRunner

        runner = TrainingRunner.from_cfg(cfg)
        runner.train()
    if runner.train_loop.stopped_by:
        tell_launcher(runner.train_loop.stopped_by)
        sys.exit(128 + runner.train_loop.stopped_by)


if __name__ == '__main__':
    main()
