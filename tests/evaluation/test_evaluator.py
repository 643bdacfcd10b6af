import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import distributed

from wfvae_toolkit.evaluation import Metric, ReconstructionEvaluator, format_table, psnr, write_results
from wfvae_toolkit.evaluation.statistics import FEWEST
from wfvae_toolkit.models.perceptual import PerceptualWeightsMissing
from wfvae_toolkit.registry import EVALUATORS

PSNR = {'PSNR': dict(type='PSNR')}
BOTH = {'PSNR': dict(type='PSNR'), 'SSIM': dict(type='SSIM')}


class MeanError(Metric):
    """A third party's metric."""

    higher_is_better = False
    description = 'mean absolute error'

    def measure(self, batch):
        assert batch.latents is not None
        return (batch.reconstruction - batch.target).abs().mean((1, 2, 3))


def images(index, error=0.1, size=16):
    """(target, reconstruction) of one image of a data set, (1, 3, 16, 16) in about [-1, 1]."""
    generator = torch.Generator().manual_seed(index)
    target = torch.rand(1, 3, size, size, generator=generator) * 2 - 1
    return target, target + error * torch.randn(target.shape, generator=generator)


def feed(evaluator, indices, batch_size=1, weights_name='', error=0.1):
    for start in range(0, len(indices), batch_size):
        chunk = indices[start:start + batch_size]
        target, reconstruction = map(torch.cat, zip(*(images(i, error if i % 9 else 0.0) for i in chunk), strict=True))
        evaluator.process(weights_name, chunk, [f'{i:03}.png' for i in chunk], target, reconstruction)
    return evaluator


# protocol of one image

def test_scores_are_those_of_saved_8_bit_images():
    target, reconstruction = images(1, error=0.5)
    assert reconstruction.abs().max() > 1
    to_byte = [((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8) for x in (reconstruction, target)]
    evaluator = ReconstructionEvaluator(PSNR)
    evaluator.process('', [0], ['a.png'], target, reconstruction)
    expected = psnr(*(x.double() / 255 for x in to_byte)).item()
    assert evaluator.summarize().rows == [{'path': 'a.png', 'PSNR': pytest.approx(expected, abs=1e-5)}]


def test_continuous_scores_are_clamped_only():
    target, reconstruction = images(1, error=0.5)
    evaluator = ReconstructionEvaluator(PSNR, quantize=False)
    evaluator.process('', [0], ['a.png'], target, reconstruction)
    expected = psnr(*((x.double().clamp(-1, 1) + 1) / 2 for x in (reconstruction, target))).item()
    summary = evaluator.summarize()
    assert summary.rows[0]['PSNR'] == pytest.approx(expected, abs=1e-5)
    assert summary.protocol['quantize'] is False


def test_a_whole_level_survives_the_roundtrip():
    levels = torch.arange(256).repeat(3, 1)[None, :, None].float()
    evaluator = ReconstructionEvaluator(PSNR)
    evaluator.process('', [0], ['a'], levels / 127.5 - 1, (levels / 127.5 - 1).double() + 1e-3)
    assert evaluator.summarize().rows[0]['PSNR'] == math.inf


def test_measures_in_float32_under_autocast():
    exact, cast = (ReconstructionEvaluator({'STLPIPS': dict(type='STLPIPS')}) for _ in range(2))
    pair = images(1, size=32)
    exact.process('', [0], ['a'], *pair)
    with torch.autocast('cpu', torch.bfloat16):
        cast.process('', [0], ['a'], *pair)
    assert cast.summarize().rows == exact.summarize().rows


def test_third_party_metric_sees_latents():
    evaluator = EVALUATORS.build(dict(type='ReconstructionEvaluator', metrics={'MAE': dict(type=MeanError), **PSNR}))
    evaluator.process('', [0], ['a'], *images(1), latents=torch.zeros(1, 4, 2, 2))
    assert evaluator.summarize().protocol['MAE'] == 'mean absolute error'


def test_a_metric_gives_one_value_an_image():
    class Wrong(MeanError):
        def measure(self, batch):
            return batch.target.mean()

    evaluator = ReconstructionEvaluator({'wrong': dict(type=Wrong)})
    with pytest.raises(ValueError, match='a tensor of one value per image is needed'):
        evaluator.process('', [0], ['a'], *images(1))


# order and duplicates

def test_rows_are_in_the_order_of_the_dataset():
    summary = feed(ReconstructionEvaluator(PSNR), [3, 1, 2]).summarize()
    assert [row['path'] for row in summary.rows] == ['001.png', '002.png', '003.png']
    assert summary.images == 3


def test_an_image_counts_once():
    evaluator = feed(ReconstructionEvaluator(PSNR), [1, 2])
    feed(evaluator, [2])
    with pytest.raises(ValueError, match='image 2 was measured twice'):
        evaluator.summarize()
    evaluator.reset()
    assert feed(evaluator, [2]).summarize().images == 1


def test_every_image_has_every_value():
    evaluator = feed(ReconstructionEvaluator(PSNR), [1, 2])
    feed(evaluator, [1], weights_name='raw')
    with pytest.raises(ValueError, match=r'002\.png: only one of them has raw/PSNR'):
        evaluator.summarize()


# rows that are missing

def test_none_drops_a_metric():
    assert list(feed(ReconstructionEvaluator({**BOTH, 'SSIM': None}), [1]).summarize().metrics) == ['PSNR']


def test_optional_metric_without_weights_is_listed(tmp_path):
    lpips = dict(type='LPIPS', trunk_weights=str(tmp_path / 'absent.pth'))
    summary = feed(ReconstructionEvaluator({**PSNR, 'LPIPS': {**lpips, 'optional': True}}), [1]).summarize()
    assert list(summary.metrics) == ['PSNR']
    assert list(summary.not_computed) == ['LPIPS']
    assert 'absent.pth' in summary.not_computed['LPIPS']
    assert '\n' not in summary.not_computed['LPIPS']
    assert 'not computed: LPIPS: ' in format_table(summary)
    with pytest.raises(PerceptualWeightsMissing):
        ReconstructionEvaluator({**PSNR, 'LPIPS': lpips})


@pytest.mark.parametrize('name', ['raw/PSNR', 'path'])
def test_names_that_the_files_use_are_refused(name):
    with pytest.raises(ValueError, match='a name holds no'):
        ReconstructionEvaluator({name: dict(type='PSNR')})


# files and table

def test_files(tmp_path):
    evaluator = ReconstructionEvaluator(BOTH)
    odd = 'a, "b"\nc.png'
    for name, error in (('', 0.1), ('raw', 0.3)):
        evaluator.process(name, [0, 1], [odd, 'caf\udce9.png'], *map(torch.cat, zip(images(0, 0.0), images(1, error),
                                                                                   strict=True)))
    evaluator.skip('bad.png', 'truncated')
    evaluator.skip('bad.png', 'truncated')
    summary = evaluator.summarize({'resolution': 16})
    write_results(summary, tmp_path / 'new' / 'folder')

    def refuse(constant):
        raise AssertionError(f'{constant} is not JSON')

    written = json.loads((tmp_path / 'new/folder/summary.json').read_text('utf-8'), parse_constant=refuse)
    columns = ['PSNR', 'SSIM', 'raw/PSNR', 'raw/SSIM']
    assert list(written) == ['images', 'protocol', 'metrics', 'not_computed', 'skipped']
    assert list(written['metrics']) == columns
    assert written['images'] == 2
    assert written['skipped'] == [{'path': 'bad.png', 'reason': 'truncated'}]
    assert written['protocol']['resolution'] == 16
    assert written['metrics']['PSNR']['infinite'] == 1
    assert written['metrics']['PSNR']['mean'] > written['metrics']['raw/PSNR']['mean']
    with open(tmp_path / 'new/folder/metrics.csv', encoding='utf-8', newline='') as file:
        header, *rows = csv.reader(file)
    assert header == ['path', *columns]
    assert [row[0] for row in rows] == [odd, r'caf\udce9.png']
    assert rows[0][1] == 'inf'
    assert [float(row[4]) for row in rows] == [row['raw/SSIM'] for row in summary.rows]


def test_table_has_a_column_for_each_set_of_weights():
    evaluator = feed(ReconstructionEvaluator(BOTH), range(FEWEST + 1))
    header, _, first, *_ = format_table(evaluator.summarize()).splitlines()
    assert header.split() == ['metric', 'mean']
    assert first.startswith('PSNR ↑')
    assert first.endswith('(1 infinite)')
    feed(evaluator, range(FEWEST + 1), weights_name='raw')
    header, _, _, second, *_ = format_table(evaluator.summarize()).splitlines()
    assert header.split() == ['metric', 'EMA', 'raw']
    assert second.count(' +- ') == 2


def test_an_interval_needs_five_images():
    table = format_table(feed(ReconstructionEvaluator(PSNR), range(FEWEST - 1)).summarize())
    assert ' +- ' not in table
    assert f'{FEWEST - 1} images, 0 skipped; no intervals: they need {FEWEST} images or more' in table.splitlines()
    assert ' +- ' in format_table(feed(ReconstructionEvaluator(PSNR), range(FEWEST)).summarize())


def test_no_image_at_all_still_gives_files(tmp_path):
    evaluator = ReconstructionEvaluator(PSNR)
    evaluator.skip('bad.png', 'zero bytes')
    summary = evaluator.summarize()
    write_results(summary, tmp_path)
    assert (tmp_path / 'metrics.csv').read_text() == 'path\n'
    assert '0 images, 1 skipped' in format_table(summary)


# ranks

def test_two_ranks_equal_one_process(tmp_path):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), tmp_path], env=environment) for rank in range(2)]
    expected = asdict(evaluate(range(37), batch_size=1))
    try:
        assert [process.wait(timeout=60) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == expected
    assert expected['images'] == 36
    assert expected['metrics']['PSNR']['infinite'] == 5  # indices 0, 9, 18, 27, 36


def test_batches_do_not_change_the_result():
    single, batched = (evaluate(range(37), batch_size).metrics for batch_size in (1, 5))
    for column, entry in single.items():
        assert batched[column] == pytest.approx(entry, abs=1e-10)


def evaluate(indices, batch_size):
    """Evaluates the images of one rank, among them one that cannot be read, with both sets of weights."""
    evaluator = ReconstructionEvaluator(BOTH)
    readable = [index for index in indices if index != 5]
    feed(evaluator, readable, batch_size)
    feed(evaluator, readable, batch_size, weights_name='raw', error=0.2)
    if len(readable) < len(indices):
        evaluator.skip('005.png', 'truncated')
    return evaluator.summarize()


def run_rank(rank, folder):
    distributed.init_process_group('gloo', store=distributed.FileStore(str(folder / 'store'), 2), rank=rank,
                                   world_size=2)
    summary = evaluate(range(rank, 37, 2), batch_size=1)
    (folder / f'{rank}.json').write_text(json.dumps(asdict(summary)))
    evaluator = ReconstructionEvaluator(PSNR)
    with pytest.raises(ValueError, match='image 3 was measured twice'):  # on both ranks: none waits for the other
        feed(evaluator, [3]).summarize()
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == '__main__':
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
