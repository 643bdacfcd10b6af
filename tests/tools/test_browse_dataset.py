import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wfvae_toolkit.datasets import build_dataloader
from wfvae_toolkit.utils.config import load_config

TINY = Path(__file__).resolve().parents[1] / 'data/configs/tiny.py'


@pytest.fixture
def browse(tool, photos, tmp_path, capsys):
    """Lines about the samples, and the sheet's pixels."""
    def run(*arguments, train=photos / 'train', val=photos / 'val'):
        output = tmp_path / 'sheets/a.png'
        tool('analysis_tools/browse_dataset')(TINY, '--output', output, *arguments, '--cfg-options',
                                              f'train_dataloader.dataset.data_root={train}',
                                              f'val_dataloader.dataset.data_root={val}')
        *lines, last = capsys.readouterr().out.splitlines()
        assert last.startswith(f'written to {output}')
        return lines, np.asarray(Image.open(output))
    return run


def test_the_sheet_is_what_training_sees(browse, photos):
    lines, sheet = browse('--count', '6')
    cfg = load_config(TINY, {'train_dataloader.dataset.data_root': str(photos / 'train')})
    loader = build_dataloader(cfg.train_dataloader, training=True, seed=cfg.randomness.seed)
    batches = list(itertools.islice(loader, 3))
    assert lines == [f'{number}  {path}  16x16 px'
                     for number, path in enumerate(path for batch in batches for path in batch.paths)]
    for number, image in enumerate(image for batch in batches for image in batch.images):
        top, left = number // 4 * (16 + 8 + 14), number % 4 * (16 + 8)
        np.testing.assert_array_equal(sheet[top:top + 16, left:left + 16], image.permute(1, 2, 0))


def test_validation_pictures_once_and_bad_ones_reported(browse, photos, tmp_path):
    root = tmp_path / 'val'
    root.mkdir()
    Image.open(photos / 'val/01.png').save(root / 'a.png')
    (root / 'b.png').touch()
    Image.open(photos / 'val/01.png').resize((20, 20)).save(root / 'c\udcff.png')
    lines, _ = browse('--split', 'val', val=root)
    assert lines == ['0  a.png  32x32 px', '1  b.png  no picture  bad: b.png (zero bytes)',
                     '2  c\\udcff.png  32x32 px  upsampled']


def test_a_substitute_is_named(browse, photos, tmp_path):
    root = tmp_path / 'train'
    root.mkdir()
    (root / 'a.png').touch()
    Image.open(photos / 'train/00.png').save(root / 'b.png')
    lines, _ = browse('--count', '2', train=root)
    assert sorted(line[3:] for line in lines) == ['b.png  16x16 px', 'b.png  16x16 px  bad: a.png (zero bytes)']


def test_settings_that_cannot_work(browse, tmp_path):
    with pytest.raises(SystemExit):
        browse('--count', '0')
    with pytest.raises(SystemExit, match='^error: train_dataloader.dataset: there is no folder'):
        browse(train=tmp_path / 'none')
