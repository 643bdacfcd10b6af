"""All steps on a laptop: score the shipped model; train, score and export configs/wfvae2_demo.py; list the results."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/wfvae2_demo.py'
SHIPPED = 'wfvae2-tiny'
# A distance of sets that needs no download. Over two pictures it is an example, which its remarks say.
SETS = ('--cfg-options', 'val_evaluator.metrics.FD_stlpips.type=FrechetDistance',
        'val_evaluator.metrics.FD_stlpips.features=stlpips-alex')


def main(arguments=None):
    parser = argparse.ArgumentParser(description='Score the shipped model; train the demo, score and export it. '
                                                 'A second call resumes where the first one stopped; a finished run is '
                                                 'not trained again.')
    parser.add_argument('--work-dir', default='work_dirs/demo')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='settings of the training')
    options = parser.parse_args(arguments)
    work_dir = Path(options.work_dir)
    run('tools/test.py', CONFIG, SHIPPED, '--work-dir', work_dir / SHIPPED, '--no-report', *SETS)
    print(f'\n{SHIPPED} made the pictures in {work_dir / SHIPPED}/pictures/: input, reconstruction, error. '
          'Now a network of the same size is trained from nothing.', flush=True)
    start = time.monotonic()
    run('tools/train.py', CONFIG, '--work-dir', work_dir, '--resume',
        *(['--cfg-options', *options.cfg_options] if options.cfg_options else []))
    trained = time.monotonic()
    run('tools/test.py', CONFIG, work_dir, '--work-dir', work_dir / 'evaluation', '--no-report', *SETS)
    tested = time.monotonic()
    run('tools/measure_latents.py', work_dir, 'data/demo/train', '--crop', 256)
    run('tools/convert.py', work_dir, work_dir / 'exported', '--to', 'diffusers', '--force')
    run('tools/report.py', work_dir, work_dir / SHIPPED, '--out', work_dir / 'report')
    print(report(work_dir, train_s=trained - start, test_s=tested - trained))


def run(*command):
    """Run a step in its own process; if it fails, this program fails."""
    command = [str(part) for part in command]
    print(f'\n$ python {" ".join(command)}', flush=True)
    status = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


def report(work_dir, train_s, test_s):
    """Scores, files to open, next command."""
    folder = ROOT / work_dir
    metrics, shipped = (json.loads((folder / place / 'summary.json').read_text(encoding='utf-8'))['metrics']
                        for place in ('evaluation', SHIPPED))
    names = [name for name in metrics if not name.startswith('raw/')]
    lines = ['', f'demo: {train_s / 60:.1f} min of training, {test_s:.0f} s of evaluation',
             '', f'{"256 px, never seen":<20}{"EMA":>9}{"raw":>9}{SHIPPED:>14}']
    for name in names:
        lines.append(f'{name:<20}{metrics[name]["mean"]:>9.4f}{metrics[f"raw/{name}"]["mean"]:>9.4f}'
                     f'{shipped[name]["mean"]:>14.4f}')
    files = {'report/index.html': 'all of it on one page', 'curves.png': 'losses',
             'evaluation/pictures/': 'input, reconstruction, error of chelsea and flower',
             f'{SHIPPED}/pictures/': 'the same by the shipped model',
             'pictures/': 'the same pictures while it trained', 'evaluation/summary.json': 'scores and their protocol',
             'evaluation/metrics.csv': 'one row an image', 'log.jsonl': 'every logged value',
             'exported/': 'the model for diffusers, latents normalised'}
    lines += ['', 'open', *(f'  {work_dir / file!s:<42} {what}' for file, what in files.items()), '', 'next',
              '  .venv/bin/python tools/train.py configs/wfvae2_demo.py --work-dir work_dirs/without_wavelet_loss '
              '--cfg-options model.losses.wavelet=None',
              f'  .venv/bin/python tools/reconstruct.py {work_dir} PICTURE_OR_FOLDER OUTPUT',
              f'  .venv/bin/tensorboard --logdir {work_dir}']
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
