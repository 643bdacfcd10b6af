import json

import pytest

from tests.report.made import make_evaluation, make_run, make_strip
from wfvae_toolkit.report.read import read_config, read_entries
from wfvae_toolkit.utils.errors import MissingFile, SettingError

NAMES = ['a.png', 'sub/b.jpg']


def test_a_run_with_its_evaluation(tmp_path):
    run = make_run(tmp_path / 'demo')
    make_evaluation(run / 'evaluation', NAMES)
    [entry] = read_entries([run])
    assert (entry.label, entry.run, len(entry.records)) == ('demo', run, 44)
    assert list(entry.evaluation.rows) == NAMES
    assert entry.config['model']['autoencoder']['widths'] == (8, 16)
    assert entry.facts['seed'] == 7


def test_an_evaluation_in_a_run_knows_the_run(tmp_path):
    make_evaluation(make_run(tmp_path / 'demo') / 'evaluation', NAMES)
    [entry] = read_entries([tmp_path / 'demo/evaluation'])
    assert (entry.label, entry.run, len(entry.records)) == ('demo', tmp_path / 'demo', 44)


def test_scores_of_another_model_in_a_run_are_not_the_run_s(tmp_path):
    run = make_run(tmp_path / 'demo')
    make_evaluation(run / 'wfvae2-tiny', NAMES, checkpoint='wfvae2-tiny')
    [entry] = read_entries([run / 'wfvae2-tiny'])
    assert (entry.label, entry.run, entry.records, entry.config) == ('wfvae2-tiny', None, [], None)


def test_several_sizes_are_an_entry_each(tmp_path):
    run = make_run(tmp_path / 'demo')
    for size in (256, 64):
        make_evaluation(run / f'evaluation/{size}px', NAMES)
    assert [entry.label for entry in read_entries([run])] == ['demo/64px', 'demo/256px']


def test_several_protocols_are_an_entry_each(tmp_path):
    run = make_run(tmp_path / 'demo')
    for place in ('ours', 'va-vae', 'pictures'):
        make_evaluation(run / f'evaluation/{place}', NAMES)
    assert [entry.label for entry in read_entries([run])] == ['demo/ours', 'demo/va-vae']
    for size in (64, 256):
        make_evaluation(tmp_path / f'scores/{size}px/rae', NAMES)
    assert [entry.label for entry in read_entries([tmp_path / 'scores'])] == ['scores/64px/rae', 'scores/256px/rae']


def test_an_ablation_is_all_its_runs(tmp_path):
    for name, seed in [('base', 0), ('base', 1), ('wide', 0)]:
        run = make_run(tmp_path / f'study/{name}/seed_{seed}')
        (run / 'ablation.json').write_text('{}')
    labels = [entry.label for entry in read_entries([tmp_path / 'study'])]
    assert labels == ['base/seed_0', 'base/seed_1', 'wide/seed_0']
    # Once its table is there, the first config leads.
    (tmp_path / 'study/ablation.csv').write_text('config\nwide\nbase\n')
    assert read_entries([tmp_path / 'study'])[0].label == 'wide/seed_0'


def test_names_that_two_share_get_longer(tmp_path):
    runs = [make_run(tmp_path / f'{place}/demo') for place in ('old', 'new')]
    assert [entry.label for entry in read_entries(runs)] == ['old/demo', 'new/demo']


def test_a_folder_given_twice_is_one_entry(tmp_path):
    run = make_run(tmp_path / 'demo')
    assert len(read_entries([run, run])) == 1


def test_a_last_line_that_is_half_written_is_left_out(tmp_path):
    run = make_run(tmp_path / 'demo')
    with open(run / 'log.jsonl', 'a') as file:
        file.write('{"phase": "train", "iter')
    assert len(read_entries([run])[0].records) == 44


def test_a_run_that_has_just_started(tmp_path):
    (tmp_path / 'run.json').write_text('{}')
    [entry] = read_entries([tmp_path])
    assert (entry.records, entry.evaluation, entry.config) == ([], None, None)


def test_pictures_of_older_evaluations_are_found_by_name(tmp_path):
    folder = make_evaluation(tmp_path / 'scores', ['a.png', 'b.png', 'b.jpg'], kept=())
    (folder / 'pictures.json').unlink()
    for name in ('a', 'b'):
        make_strip(folder / f'pictures/{name}.png', 0)
    # Nobody can say whose b.png is.
    assert list(read_entries([folder])[0].evaluation.pictures) == ['a.png']


def test_a_folder_that_is_not_there_and_one_of_something_else(tmp_path):
    with pytest.raises(MissingFile, match='nothing: no such folder'):
        read_entries([tmp_path / 'nothing'])
    with pytest.raises(SettingError, match='holds no run .* name a folder that'):
        read_entries([tmp_path])


@pytest.mark.parametrize('text', ['{', '[]', json.dumps({'images': 1})])
def test_a_damaged_summary_is_named(tmp_path, text):
    make_evaluation(tmp_path / 'scores', NAMES)
    (tmp_path / 'scores/summary.json').write_text(text)
    with pytest.raises(SettingError, match='summary.json'):
        read_entries([tmp_path / 'scores'])


def test_a_config_is_read_and_not_executed(tmp_path):
    (tmp_path / 'plain.py').write_text("a = dict(b=(1, 2), c=None)\n")
    assert read_config(tmp_path) == (tmp_path / 'plain.py', {'a': {'b': (1, 2), 'c': None}})
    (tmp_path / 'plain.py').write_text(f"open({str(tmp_path / 'made')!r}, 'w')\n")
    assert read_config(tmp_path) == (tmp_path / 'plain.py', None)
    assert not (tmp_path / 'made').exists()
