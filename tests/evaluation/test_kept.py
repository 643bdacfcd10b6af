import json

import torch

from wfvae_toolkit.evaluation import EvaluationSummary
from wfvae_toolkit.evaluation.kept import extreme_images, picture_files, random_images, write_kept

NAMES = [f'{number:03}.jpg' for number in range(100)]


def summary(count=100):
    """PSNR grows with the number; LPIPS, of which less is better, too."""
    entries = {name: {'mean': 0.0, 'ci95': None, 'infinite': 0, 'nan': 0, 'higher_is_better': better}
               for name, better in (('PSNR', True), ('LPIPS', False))}
    rows = [{'path': name, 'PSNR': float(place), 'LPIPS': place / 100} for place, name in enumerate(NAMES[:count])]
    return EvaluationSummary(count, {}, entries, {}, [], rows)


def test_a_small_set_is_kept_whole_and_a_large_one_by_chance_but_always_alike():
    assert random_images(30, 30) == set(range(30))
    assert len(random_images(1000, 30)) == 10
    assert random_images(1000, 30) == random_images(1000, 30) <= set(range(1000))
    assert random_images(5, 0) == set()


def test_worst_and_best_take_turns():
    assert set(extreme_images(summary(), 4)) == {'000.jpg', '099.jpg', '001.jpg', '098.jpg'}
    assert len(extreme_images(summary(), 1000)) == 100
    assert extreme_images(summary(), 0) == []


def test_names_keep_the_suffix_where_it_alone_differs():
    assert picture_files(['a.jpg', 'b/c.jpg', 'b/c.bmp']) == {
        'a.jpg': 'a.png', 'b/c.jpg': 'b/c.jpg.png', 'b/c.bmp': 'b/c.bmp.png'}


def test_at_most_so_many_are_written_and_listed(tmp_path):
    image = torch.zeros(1, 3, 8, 8)
    asked = []
    write_kept(summary(), tmp_path, picture_files(NAMES), lambda path: asked.append(path) or (image, image),
               asked_for=['050.jpg', 'never scored.jpg'], written=True, count=6)
    listed = json.loads((tmp_path / 'pictures.json').read_text(encoding='utf-8'))
    assert len(listed) == 6
    assert listed['050.jpg'] == 'pictures/050.png'
    # Its picture is there already.
    assert '050.jpg' not in asked
    assert {path.name for path in (tmp_path / 'pictures').iterdir()} == {name.replace('jpg', 'png') for name in asked}
