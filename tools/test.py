"""Score a checkpoint: ``python tools/test.py CONFIG MODEL [--resolution 256 512] [--protocol va-vae rae ours]``."""

import argparse
import sys
from pathlib import Path

from wfvae_toolkit.utils import options as shared
from wfvae_toolkit.utils.options import friendly_errors, whole


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Score a checkpoint on the validation images of a config: '
                                                 'summary.json, metrics.csv and side-by-side pictures.')
    shared.add_config_arguments(parser)
    parser.add_argument('checkpoint', metavar='MODEL',
                        help="a checkpoint, a run's folder for its newest one, an exported folder, an earlier .ckpt")
    parser.add_argument('--work-dir', help='where results go (default: evaluation/ beside the checkpoint; for a '
                                           'model that was named: work_dirs/NAME/evaluation)')
    parser.add_argument('--resolution', type=int, nargs='+', metavar='PX',
                        help='resize the short side to PX and crop the centre; several: one folder each')
    parser.add_argument('--crop', type=int, metavar='PX',
                        help='crop the centre; without --resolution nothing is resized')
    shared.add_protocol_argument(parser)
    parser.add_argument('--max-images', type=int, metavar='N', help='only the first N images')
    parser.add_argument('--pictures', type=whole(0), default=200, metavar='N',
                        help='keep at most N side-by-side pictures: the worst, the best and a random few '
                             '(default: %(default)s)')
    parser.add_argument('--no-report', action='store_true', help='write the results without a page that shows them')
    parser.add_argument('--skip-bad', action='store_true', help='exit 0 although files could not be scored, or scores '
                        'are not numbers')
    shared.add_device_argument(parser)
    shared.add_launcher_argument(parser)
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.utils import distributed
    from wfvae_toolkit.utils.config import load_config

    cfg = load_config(options.config, options.cfg_options)
    with distributed.process_group(options.launcher or cfg.get('launcher') or 'none', options.device):
        from wfvae_toolkit.evaluation import describe_faults
        from wfvae_toolkit.evaluation.checkpoint import evaluate_checkpoint
        from wfvae_toolkit.evaluation.tables import print_results

        folder = Path(options.work_dir or _beside(options.checkpoint)).expanduser()
        found = {}
        for resolution in options.resolution or [None]:
            place = folder / f'{resolution}px' if len(options.resolution or ()) > 1 else folder
            scored = evaluate_checkpoint(cfg, options.checkpoint, place, resolution, options.crop, options.max_images,
                                         options.pictures, options.protocol)
            if distributed.is_main():
                print_results({summary.protocol['protocol']: summary for summary in scored.values()},
                              {summary.protocol['protocol']: place for place, summary in scored.items()})
            found |= scored
        if distributed.is_main() and not options.no_report:
            from wfvae_toolkit.report import write_report

            print(f'report: {write_report(list(found), folder / "report", options.pictures)}')
    skipped = sum(len(summary.skipped) for summary in found.values())
    if skipped and not options.skip_bad:
        sys.exit(f'{skipped} files could not be scored; --skip-bad accepts that')
    if any(map(describe_faults, found.values())) and not options.skip_bad:
        sys.exit('some scores are not numbers; --skip-bad accepts that')


def _beside(model):
    """Where the results of a MODEL go."""
    path = Path(model).expanduser()
    if not path.exists():  # a name
        path = Path('work_dirs') / model.replace('/', '--')
    return (path.parent if path.is_file() else path) / 'evaluation'


if __name__ == '__main__':
    main()
