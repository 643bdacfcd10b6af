"""Folders as our tools write them, made up in milliseconds."""

import csv
import json

import numpy as np
from PIL import Image

NAMES = [f'photo {number:02}.png' for number in range(12)]
CONFIG = """model = dict(
    autoencoder=dict(type='WFVAE2Image', widths=(8, 16), latent_channels=4),
    discriminator=dict(type='PatchDiscriminator'),
    losses=dict(kl=dict(type='KLLoss', weight={kl_weight})))
default_hooks = dict(discriminator=dict(start_iter=20, type='DiscriminatorWarmupHook'))
train_dataloader = dict(dataset=dict(data_root='data/photos', type='ImageFolder'))
train_cfg = dict(max_iters={max_iters})
randomness = dict(seed=None)
work_dir = '{folder}'
"""


def make_run(folder, rows=40, max_iters=40, kl_weight=1e-6):
    """A run's folder with a log of ``rows`` rows, a row an iteration, and a validation each ten."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'tiny.py').write_text(CONFIG.format(kl_weight=kl_weight, max_iters=max_iters, folder=folder),
                                    encoding='utf-8')
    (folder / 'run.json').write_text(json.dumps({
        'environment': {'device': 'a CPU', 'wfvae_toolkit': '1.0 (git abc)', 'packages': 'torch 2'}, 'seed': 7,
        'training_images': 12, 'parameters': {'encoder': 1_200_000, 'decoder': 1_600_000}}), encoding='utf-8')
    with open(folder / 'log.jsonl', 'w', encoding='utf-8') as file:
        for iteration in range(1, rows + 1):
            train = {'phase': 'train', 'iteration': iteration, 'loss': 10.0 / iteration, 'kl': None,
                     'per_pixel/pixel': 1.0 / iteration, 'kl_channel/00': 0.5, 'kl_channel/01': 1.5,
                     'seconds_per_iteration': 36.0, 'peak_memory_gib': 1.5}
            if iteration >= 20:
                train['discriminator'] = 0.7
            file.write(json.dumps(train) + '\n')
            if iteration % 10 == 0:
                val = {'phase': 'val', 'iteration': iteration, 'PSNR': 20 + iteration / 10}
                file.write(json.dumps(val) + '\n')
    return folder


def make_evaluation(folder, names, shift=0.0, side=24, kept=None, spread=0.01, pipeline='CenterCrop(size=24)',
                    checkpoint='iter_40.pth'):
    """Scores of pictures, and strips of those in ``kept`` (default: all); ``shift`` is added to each PSNR."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(int(abs(shift) * 1000))
    rows = [{'path': name, 'PSNR': 20 + place % 7 + shift + spread * generator.standard_normal(),
             'LPIPS': 0.5 - (place % 7) / 100} for place, name in enumerate(names)]
    with open(folder / 'metrics.csv', 'w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, ['path', 'PSNR', 'LPIPS'])
        writer.writeheader()
        writer.writerows(rows)

    def entry(column, better):
        values = [row[column] for row in rows]
        return {'mean': sum(values) / len(values), 'ci95': 0.1, 'infinite': 0, 'nan': 0, 'higher_is_better': better}

    (folder / 'summary.json').write_text(json.dumps({
        'images': len(names), 'protocol': {'checkpoint': checkpoint, 'pipeline': pipeline, 'quantize': True},
        'metrics': {'PSNR': entry('PSNR', True), 'LPIPS': entry('LPIPS', False)}, 'not_computed': {}, 'skipped': []}),
        encoding='utf-8')
    files = {}
    for place, name in enumerate(names):
        if kept is None or name in kept:
            files[name] = f'pictures/{place}.png'
            make_strip(folder / files[name], place, shift, side)
    (folder / 'pictures.json').write_text(json.dumps(files), encoding='utf-8')
    return folder


def make_maps(folder, names, channels=4, side=8, of=None):
    """Channel maps of some pictures of an evaluation."""
    rows = {}
    for place, name in enumerate(names):
        rows[name] = {'file': f'channels/{place}.png', 'channels': channels, 'of': of or channels}
        (folder / 'channels').mkdir(exist_ok=True)
        grey = np.random.default_rng(place).integers(0, 256, (channels * side, side), dtype=np.uint8)
        Image.fromarray(grey).save(folder / rows[name]['file'])
    (folder / 'channels.json').write_text(json.dumps(rows), encoding='utf-8')


def make_strip(path, seed, shift=0.0, side=24, height=None):
    """Input, reconstruction and error of a smooth random picture, side by side with white gaps; returns the parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height = height or side
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    original = np.asarray(small.resize((side, height), Image.Resampling.BICUBIC))
    noise = np.random.default_rng([seed, int(abs(shift) * 1000)]).integers(-12, 13, original.shape)
    reconstruction = (original + noise).clip(0, 255).astype(np.uint8)
    gap = np.full((height, 4, 3), 255, np.uint8)
    error = np.abs(original.astype(int) - reconstruction).astype(np.uint8)
    Image.fromarray(np.concatenate([original, gap, reconstruction, gap, error], axis=1)).save(path)
    return original, reconstruction


def read_data(page):
    """The object that a report's data.js hands to the page."""
    text = (page.parent / 'data/data.js').read_text(encoding='utf-8')
    return json.loads(text[text.index('(') + 1:text.rindex(', "')])
