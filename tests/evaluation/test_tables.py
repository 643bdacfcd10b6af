from dataclasses import replace

import torch

from wfvae_toolkit.evaluation import ReconstructionEvaluator, format_protocols, format_table
from wfvae_toolkit.evaluation.tables import print_results


def summaries():
    """Of one image whose PSNR is 20 dB, and NaN under the second protocol."""
    found = {}
    for name in ('ours', 'rae'):
        evaluator = ReconstructionEvaluator({'PSNR': dict(type='PSNR')}, quantize=False)
        target = torch.zeros(1, 3, 16, 16)
        made = target + (0.2 if name == 'ours' else float('nan'))
        evaluator.process('', [0], ['a.png'], target, made)
        summary = evaluator.summarize()
        protocol = {**summary.protocol, 'protocol': name, 'may_stand_beside': f'of {name}'}
        found[name] = replace(summary, protocol=protocol)
    return found


def test_one_model_under_several_protocols_is_one_table():
    lines = format_protocols(summaries()).splitlines()
    assert lines[0].split() == ['metric', 'ours', 'rae']
    assert lines[2].split() == ['PSNR', '↑', '20.0000', 'n/a', '(1', 'nan)']
    assert lines[-2:] == ['ours: of ours', 'rae: of rae']


def test_notes_stand_below_the_table_once_and_small_numbers_keep_three_digits():
    found = summaries()
    entry = {'mean': 0.001234, 'ci95': None, 'infinite': 0, 'nan': 0, 'higher_is_better': False, 'images': 1,
             'notes': ['few images', 'far from others']}
    for summary in found.values():
        summary.metrics.update({'FD': entry, 'raw/FD': entry})
    for text in (format_table(found['ours']), format_protocols(found)):
        assert '0.00123 (whole set of 1)' in text
        assert text.count('FD: few images; far from others') == 1


def test_a_table_names_its_protocol():
    text = format_table(summaries()['ours'])
    assert 'protocol: ours' in text
    assert 'may_stand_beside: of ours' in text


def test_results_are_printed_with_their_places_and_faults(capsys):
    print_results(summaries(), {'ours': 'x/ours', 'rae': 'x/rae'})
    printed = capsys.readouterr()
    assert 'written to x/rae/: summary.json' in printed.out
    assert printed.out.rstrip().endswith('rae: of rae')
    assert printed.err == 'not a number: PSNR of 1 images, the first: a.png\n'
    print_results({'ours': summaries()['ours']})
    assert 'May stand beside' not in capsys.readouterr().out
