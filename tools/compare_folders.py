"""Score one folder against another: ``python tools/compare_folders.py REAL RECONSTRUCTED [--work-dir DIR]``."""

import argparse
import sys
from pathlib import Path

from wfvae_toolkit.utils.options import (
    add_device_argument,
    add_image_arguments,
    add_launcher_argument,
    add_protocol_argument,
    friendly_errors,
)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='PSNR, SSIM, STLPIPS and LPIPS of pictures whose relative paths agree '
                                                 'but for the suffix. No model is needed.')
    parser.add_argument('real', metavar='REAL', help='the folder of the originals, scanned with its subfolders')
    parser.add_argument('reconstructed', metavar='RECONSTRUCTED', help='the folder of the reconstructions')
    parser.add_argument('--metrics', metavar='CONFIG', default='wfvae_toolkit::_base_/runtime.py',
                        help='config whose val_evaluator is used (default: %(default)s)')
    add_protocol_argument(parser)
    parser.add_argument('--work-dir', metavar='DIR',
                        help='write summary.json, metrics.csv, pictures and a report there')
    add_device_argument(parser)
    parser.add_argument('--allow-unmatched', action='store_true', help='score the pairs even if some pictures have no '
                        'partner')
    parser.add_argument('--skip-bad', action='store_true', help='exit 0 although pairs could not be scored, or scores '
                        'are not numbers')
    add_image_arguments(parser)
    add_launcher_argument(parser)
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    work_dir = options.work_dir and Path(options.work_dir).expanduser()
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.utils import distributed
    from wfvae_toolkit.utils.config import load_config

    evaluator_cfg = load_config(options.metrics).val_evaluator
    with distributed.process_group(options.launcher, options.device):
        from wfvae_toolkit.datasets import fixed_pipeline
        from wfvae_toolkit.evaluation import compare_by_protocols, describe_faults, write_results
        from wfvae_toolkit.evaluation.checkpoint import build_evaluators, folders_of
        from wfvae_toolkit.evaluation.tables import print_results
        from wfvae_toolkit.report import write_report
        from wfvae_toolkit.utils.device import find_device

        evaluators = build_evaluators(evaluator_cfg, options.protocol, options.resolution, options.crop)
        places = work_dir and folders_of(work_dir, evaluators)
        summaries = compare_by_protocols(
            options.real, options.reconstructed, evaluators, find_device(options.device),
            fixed_pipeline(options.resolution, options.crop), options.max_images, options.allow_unmatched,
            options.workers, options.convert_to_srgb, places)
        if distributed.is_main():
            for name, summary in summaries.items() if places else ():
                write_results(summary, places[name])
            print_results(summaries, places)
            if places:
                print(f'report: {write_report(list(places.values()), work_dir / "report")}')
    skipped = sum(len(summary.skipped) for summary in summaries.values())
    if skipped and not options.skip_bad:
        sys.exit(f'{skipped} pairs could not be scored; --skip-bad accepts that')
    if any(map(describe_faults, summaries.values())) and not options.skip_bad:
        sys.exit('some scores are not numbers; --skip-bad accepts that')


if __name__ == '__main__':
    main()
