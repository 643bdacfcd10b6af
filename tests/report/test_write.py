import json
import re

import pytest

from tests.report.made import make_evaluation, make_run, read_data
from wfvae_toolkit.report import write_report
from wfvae_toolkit.utils.errors import SettingError

NAMES = [f'{number}.png' for number in range(8)]
HOSTILE = '<img src=x onerror=alert(1)>"\'&.png'


@pytest.fixture
def two(tmp_path):
    """Two runs, the second better by 1 dB."""
    first, second = make_run(tmp_path / 'first'), make_run(tmp_path / 'second', kl_weight=1e-3)
    make_evaluation(first / 'evaluation', NAMES)
    make_evaluation(second / 'evaluation', NAMES, shift=1.0)
    return first, second


def text_of(page):
    """The page's words, tags taken out."""
    return ' '.join(re.sub(r'<[^>]*>', ' ', page.read_text(encoding='utf-8')).split())


def test_two_runs(two, tmp_path):
    page = write_report(two, tmp_path / 'out')
    text = text_of(page)
    assert 'better 8 images' in text
    assert 'no difference shown 8 images' in text
    assert 'model.losses.kl.weight 1e-06 0.001' in text
    assert 'python tools/train.py' in text
    assert 'randomness.seed=7' in text
    data = read_data(page)
    assert data['labels'] == ['first', 'second']
    assert [sorted(picture['runs']) for picture in data['pictures']] == [['0', '1']] * 8
    assert all(list(picture['differences']) == ['0-1'] for picture in data['pictures'])
    # Both runs share the original.
    assert all(picture['runs']['0']['original'] == picture['runs']['1']['original'] for picture in data['pictures'])


def test_every_file_that_the_page_names_is_there_and_no_other_picture(two, tmp_path):
    page = write_report(two, tmp_path / 'out')
    named = set(re.findall(r'(?:src|href)="(?!#|data:)([^"]+)"', page.read_text(encoding='utf-8')))
    named |= set(re.findall(r'pictures/\w+\.webp', (page.parent / 'data/data.js').read_text(encoding='utf-8')))
    assert not any('//' in name for name in named)
    assert all((page.parent / name).is_file() for name in named)
    assert {f'pictures/{path.name}' for path in (page.parent / 'pictures').iterdir()} <= named


def test_the_folders_are_the_default_place(two):
    assert write_report(two[:1]) == two[0] / 'report/index.html'
    assert write_report(two) == two[0].parent / 'report/index.html'


def test_names_are_escaped(tmp_path):
    run = make_run(tmp_path / '<b>run')
    make_evaluation(run / 'evaluation', [HOSTILE, *NAMES])
    (run / 'tiny.py').write_text("model = dict(note='</script><script>alert(2)</script>')\n")
    page = write_report([run], tmp_path / 'out')
    html, script = page.read_text(encoding='utf-8'), (page.parent / 'data/data.js').read_text(encoding='utf-8')
    assert '<b>' not in html
    assert 'alert(2)</script>' not in html
    assert '<' not in script
    assert HOSTILE in read_data(page)['scores']


def test_a_run_without_scores_says_so(tmp_path):
    page = write_report([make_run(tmp_path / 'run')], tmp_path / 'out')
    text = text_of(page)
    assert 'Not scored image by image. Run: python tools/test.py' in text
    assert read_data(page)['pictures'] == []


def test_a_metric_that_one_lacks_is_no_zero(two, tmp_path):
    path = two[1] / 'evaluation/summary.json'
    summary = json.loads(path.read_text(encoding='utf-8'))
    del summary['metrics']['LPIPS']
    path.write_text(json.dumps(summary), encoding='utf-8')
    assert re.search(r'LPIPS lower is better 0\.\d+ ± 0\.1000 not scored', text_of(write_report(two, tmp_path / 'out')))


@pytest.mark.parametrize('rows', [0, 1, 15])
def test_a_run_on_its_way(tmp_path, rows):
    page = write_report([make_run(tmp_path / 'run', rows=rows)], tmp_path / 'out', live=True)
    assert ('Not finished: iteration' if rows else 'No iteration is logged yet.') in text_of(page)
    assert read_data(page)['live'] is True


def test_at_most_so_many_pictures(two, tmp_path):
    assert len(read_data(write_report(two, tmp_path / 'out', pictures=3))['pictures']) == 3
    assert len(read_data(write_report(two, tmp_path / 'out', pictures=0))['scores']) == 8
    assert list((tmp_path / 'out/pictures').iterdir()) == []


def test_the_version_changes_with_the_data_alone(two, tmp_path):
    def version():
        write_report(two, tmp_path / 'out')
        return (tmp_path / 'out/data/version.js').read_text(encoding='utf-8')

    first = version()
    assert version() == first
    make_run(two[0], rows=41)
    assert version() != first


def test_another_folder_is_left_alone(two, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('all of it')
    with pytest.raises(SettingError, match='mine: holds something that is no report'):
        write_report(two, tmp_path / 'mine')
    assert [path.name for path in (tmp_path / 'mine').iterdir()] == ['thesis.txt']


def test_an_ablation_shows_its_table(tmp_path):
    for name in ('base', 'wide'):
        run = make_run(tmp_path / f'study/{name}/seed_0')
        (run / 'ablation.json').write_text('{}')
        make_evaluation(run / 'evaluation', NAMES, shift=float(name == 'wide'))
    (tmp_path / 'study/ablation.csv').write_text(
        'config,seeds,iterations,PSNR,PSNR_std,PSNR_difference,PSNR_ci95\n'
        'base,1,40,23.0,,,\nwide,1,40,24.0,,1.0,0.2\n')
    text = text_of(write_report([tmp_path / 'study']))
    assert 'base/seed_0' in text
    assert 'wide 1 40 24.00 +1.0000 ± 0.2000 better' in text
