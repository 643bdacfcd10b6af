"""Show the network's input: ``python tools/analysis_tools/browse_dataset.py CONFIG [--split train] [--count 16]``."""

import argparse
import itertools
from pathlib import Path

from wfvae_toolkit.utils.options import add_config_arguments, friendly_errors


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description="Write the first samples of a run, after the dataset's pipeline, on "
                                                 'one sheet, and a line about each.')
    add_config_arguments(parser)
    parser.add_argument('--split', choices=('train', 'val'), default='train')
    parser.add_argument('--count', type=int, default=16, metavar='N', help='positions 0 to N-1 (default: 16)')
    parser.add_argument('--output', metavar='FILE.png',
                        help='default: work_dirs/<name of the config>/browse_<split>.png')
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f'--count {options.count}: at least 1')
    return options


def describe(sample):
    """One line about a sample: position, path, size, whether it was enlarged, and the bad files it replaces."""
    size = 'no picture' if sample.image is None else f'{sample.image.shape[2]}x{sample.image.shape[1]} px'
    parts = [str(sample.position), sample.path, size, *(['upsampled'] if sample.upsampled else []),
             *(f'bad: {bad.path} ({bad.reason})' for bad in sample.bad)]
    return '  '.join(parts).encode('utf-8', 'backslashreplace').decode()  # a file name need not be valid UTF-8


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.datasets import build_dataloader
    from wfvae_toolkit.training.stages import read_stages
    from wfvae_toolkit.utils.config import load_config
    from wfvae_toolkit.visualization.pictures import contact_sheet, write_picture

    cfg = load_config(options.config, options.cfg_options)
    settings = {**cfg[f'{options.split}_dataloader'], 'num_workers': 0, 'persistent_workers': False}
    training, first = options.split == 'train', {}
    if training:
        stage = read_stages(cfg.train_cfg.get('stages'), settings.get('batch_size'),
                            cfg.train_cfg.get('accumulation', 1))[0]
        settings['batch_size'] = stage.batch_size
        first = dict(accumulation=stage.accumulation, size=stage.size)
    loader = build_dataloader(settings, training=training, seed=cfg.randomness.seed, **first)
    samples = []
    for key in itertools.islice(loader.sampler, options.count):
        samples.append(loader.dataset[key])
        print(describe(samples[-1]))
    output = Path(options.output or f'work_dirs/{Path(cfg.filename).stem}/browse_{options.split}.png')
    output.parent.mkdir(parents=True, exist_ok=True)
    write_picture(contact_sheet([sample.image for sample in samples], [sample.path for sample in samples]), output)
    print(f'written to {output}; pictures of more than 512 px are shown smaller')


if __name__ == '__main__':
    main()
