"""Photographs of the shipped model: ``python tools/make_zoo_data.py configs/zoo/packages.csv data/zoo``."""

import argparse
import csv
import io
import shutil
from collections import Counter
from pathlib import Path

from wfvae_toolkit.utils.options import friendly_errors

TRAIN_SIDE, VAL_SIDE = 768, 1024  # px, short side at most: training crops from it, scores need 512 px
NO_LICENCE = ('motorcycle_left.png', 'moon.png')  # of scikit-image, which states none for them


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description="Photographs from Debian packages, and the demo's training pictures, in FOLDER/train and "
                    'FOLDER/val. FOLDER/pictures.csv says for every picture if it was kept.')
    parser.add_argument('table', metavar='TABLE.csv', help='packages, versions, licences and which pictures')
    parser.add_argument('folder', metavar='FOLDER', help='made again, unless it is complete and was made from this '
                        'table')
    parser.add_argument('--cache', metavar='DIR', help='keep downloaded packages here (default: they are deleted)')
    return parser.parse_args(arguments)


def collect(table, cache):
    """Yield (package, path, PIL image or None, reason against it) for every picture of the table; val first."""
    from PIL import Image, UnidentifiedImageError

    from wfvae_toolkit.datasets.debian_packages import Package, download, read_pictures
    from wfvae_toolkit.datasets.demo import PHOTOS, find_photo
    from wfvae_toolkit.datasets.photographs import PhotographRule
    from wfvae_toolkit.utils.progress import progress

    def demo(split, wanted):
        for source, files in PHOTOS[split].items():
            for file in files:
                yield Package(source, '', wanted, 'scenes', 'see configs/zoo/credits.csv', ''), file, Image.open(
                    find_photo(source, file)), 'no licence stated' if file in NO_LICENCE else ''

    rule = PhotographRule()
    yield from demo('val', '')  # only compared with
    for package in progress(sorted(table, key=lambda row: row.split != 'val'), 'packages read', len(table)):
        deb = download(package, cache)
        for path, data in read_pictures(deb, package):
            try:
                image = Image.open(io.BytesIO(data))
                yield package, path, image, rule.objection(image)
            except (UnidentifiedImageError, OSError) as error:
                yield package, path, None, f'unreadable: {type(error).__name__}'
    yield from demo('train', 'train')


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    from wfvae_toolkit.datasets import to_rgb
    from wfvae_toolkit.datasets.debian_packages import read_table
    from wfvae_toolkit.datasets.photographs import SeenPictures, shrink

    folder, table = Path(options.folder), Path(options.table)
    copy = folder / table.name  # written last
    if copy.is_file() and copy.read_bytes() == table.read_bytes():
        print(f'{folder} is complete')
        return
    for old in ('train', 'val'):
        shutil.rmtree(folder / old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    cache = Path(options.cache or folder / 'packages').resolve()
    seen, counts = SeenPictures(), Counter()
    with open(folder / 'pictures.csv', 'w', encoding='utf-8', newline='') as file:
        log = csv.writer(file)
        log.writerow(['package', 'licence', 'path', 'width', 'height', 'file', 'left out'])
        for package, path, image, objection in collect(read_table(table), cache):
            target = ''
            if not objection:
                picture = shrink(to_rgb(image), VAL_SIDE if package.split == 'val' else TRAIN_SIDE)
                earlier = seen.find(picture)
                seen.add(path, picture)
                objection = 'same as another' if earlier else '' if package.split else 'kept for scores'
                if not objection:
                    target = _write(picture, folder / package.split / package.kind, package, path,
                                    counts[package, ''])
            counts[package, objection.partition(':')[0]] += 1
            log.writerow([package.package, package.licence, path, *(image.size if image else ('', '')), target,
                          objection])
    if not options.cache:
        shutil.rmtree(cache, ignore_errors=True)
    _report(counts)
    shutil.copyfile(table, copy)


def _write(picture, folder, package, path, number):
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(path).stem.replace(' ', '_')
    if package.split == 'val':
        target = folder / f'{package.package}_{number:03}_{stem}.png'
        picture.save(target)
    else:
        target = folder / f'{package.package}_{number:03}_{stem}.jpg'
        picture.save(target, quality=95, subsampling=0)
    return target.name


def _report(counts):
    print(f'{"split":6}{"kind":10}{"package":30}{"kept":>5}  left out')
    for package in dict.fromkeys(package for package, _ in counts):
        left_out = ', '.join(f'{n} {why}' for (row, why), n in counts.items() if row == package and why)
        print(f'{package.split:6}{package.kind:10}{package.package:30}{counts[package, ""]:5}  {left_out}')
    for split in ('train', 'val'):
        print(split, sum(n for (row, why), n in counts.items() if row.split == split and not why))


if __name__ == '__main__':
    main()
