import io
import shutil
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest

from wfvae_toolkit.datasets.debian_packages import Package, download, read_pictures, read_qt_resources, read_table
from wfvae_toolkit.utils.errors import MissingFile, SettingError

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / 'configs/zoo/packages.csv'


def package(pictures, version='1:2.0'):
    return Package('made-up', version, 'train', 'scenes', 'CC0-1.0', pictures)


def qt_resources(files):
    """Binary Qt resources, version 3: a root, and one folder ``pictures`` with ``files`` (name -> bytes)."""
    names, payload, at = b'', b'', {}
    for name in ('', 'pictures', *files):
        at[name] = len(names)
        names += struct.pack('>HI', len(name), 0) + name.encode('utf-16-be')
    tree = (struct.pack('>IHIIQ', at[''], 2, 1, 1, 0)
            + struct.pack('>IHIIQ', at['pictures'], 2, len(files), 2, 0))
    for number, (name, content) in enumerate(files.items()):
        packed = number % 2
        tree += struct.pack('>IHHHIQ', at[name], packed, 0, 0, len(payload), 0)
        content = struct.pack('>I', len(content)) + zlib.compress(content) if packed else content
        payload += struct.pack('>I', len(content)) + content
    start = 24
    return struct.pack('>4s5I', b'qres', 3, start, start + len(tree), start + len(tree) + len(payload), 0) + (
        tree + payload + names)


def test_patterns():
    one = package('usr/share/*.jpg *.pk3//walls/*.png !*_normal.* !*//walls/old/*')
    assert one.wants('usr/share/a/b.jpg')
    assert not one.wants('usr/lib/b.jpg')
    assert not one.wants('usr/share/b_normal.jpg')
    assert one.opens('data/x.pk3')
    assert not one.opens('data/x.zip')
    assert not package('*.jpg').opens('x.pk3')
    assert one.wants('data/x.pk3//walls/1.png')
    assert not one.wants('data/x.pk3//walls/old/1.png')
    assert one.file_name == 'made-up_1%3a2.0_all.deb'


def test_qt_resources():
    files = {'a.webp': b'123', 'long name.jpg': b'4' * 500, 'c.png': b''}
    assert dict(read_qt_resources(qt_resources(files))) == {f'pictures/{name}': data for name, data in files.items()}
    with pytest.raises(SettingError, match='not a Qt resource file'):
        list(read_qt_resources(b'RIFF' + bytes(40)))


@pytest.fixture
def deb(tmp_path):
    """A package with a picture, an archive of two, and Qt resources."""
    if shutil.which('dpkg-deb') is None:
        pytest.skip('Debian packages need dpkg-deb')
    root = tmp_path / 'made-up'
    (root / 'DEBIAN').mkdir(parents=True)
    (root / 'DEBIAN/control').write_text('Package: made-up\nVersion: 1:2.0\nArchitecture: all\nMaintainer: nobody\n'
                                         'Description: pictures\n')
    (root / 'usr/share').mkdir(parents=True)
    (root / 'usr/share/one.jpg').write_bytes(b'one')
    (root / 'usr/share/notes.txt').write_bytes(b'no picture')
    with zipfile.ZipFile(root / 'usr/share/more.pk3', 'w') as archive:
        archive.writestr('walls/two.png', b'two')
        archive.writestr('sounds/three.ogg', b'three')
    (root / 'usr/share/qt.rcc').write_bytes(qt_resources({'four.webp': b'four'}))
    file = tmp_path / package('').file_name
    subprocess.run(['dpkg-deb', '--build', '--root-owner-group', str(root), str(file)], check=True,
                   capture_output=True)
    return file


def test_pictures_of_a_package_and_of_archives_in_it(deb):
    wanted = package('usr/share/*.jpg *.pk3//*.png *.rcc//*.webp')
    assert dict(read_pictures(deb, wanted)) == {
        'usr/share/one.jpg': b'one', 'usr/share/more.pk3//walls/two.png': b'two',
        'usr/share/qt.rcc//pictures/four.webp': b'four'}
    assert download(wanted, deb.parent) == deb  # nothing is fetched


def test_a_damaged_package_is_named(deb):
    deb.write_bytes(deb.read_bytes()[:100])
    with pytest.raises(SettingError, match='is not a complete package'):
        list(read_pictures(deb, package('*.jpg')))


def test_a_version_that_does_not_exist(tmp_path, monkeypatch):
    program = tmp_path / 'apt-get'
    program.write_text('#!/bin/sh\necho "E: Version not found" >&2\nexit 100\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(MissingFile, match=r'made-up=1:2.0: E: Version not found; run apt-get update'):
        download(package('*'), tmp_path / 'packages')


def test_the_shipped_table():
    rows = read_table(ZOO)
    assert {row.split for row in rows} == {'train', 'val'}
    trained, scored = ({row.package for row in rows if row.split == split} for split in ('train', 'val'))
    assert not trained & scored
    assert all(row.version and row.licence and row.pictures for row in rows)
    assert len({row.package for row in rows}) == len(rows)


def test_zoo_data_from_a_package(tool, deb, tmp_path, capsys, monkeypatch):
    """Photographs are written, drawings and doubles are told, a second call does nothing."""
    from PIL import Image
    from skimage import data

    from wfvae_toolkit.datasets.synthetic import SyntheticImages

    def jpeg(image):
        file = io.BytesIO()
        image.save(file, 'JPEG', quality=95)
        return file.getvalue()

    drawing = SyntheticImages(size=300, kinds=dict(edges=1)).load(0)
    root = tmp_path / 'made-up'
    pictures = dict(kept_for_scores=Image.fromarray(data.chelsea()), drawing=drawing,
                    double=Image.fromarray(data.coffee()))
    for name, image in pictures.items():
        (root / f'usr/share/{name}.jpg').write_bytes(jpeg(image))
    subprocess.run(['dpkg-deb', '--build', '--root-owner-group', str(root), str(deb)], check=True,
                   capture_output=True)
    table = tmp_path / 'table.csv'
    table.write_text('package,version,split,kind,licence,pictures\n'
                     'made-up,1:2.0,train,scenes,CC0-1.0,usr/share/*.jpg\n')
    folder = tmp_path / 'zoo'
    tool('make_zoo_data')(str(table), str(folder), '--cache', str(tmp_path))
    out = capsys.readouterr().out
    assert '1 flat' in out
    assert '1 unreadable' in out
    assert '1 same as another' in out
    written = {path.name for path in (folder / 'train/scenes').iterdir()}
    assert any(name.startswith('made-up_') and name.endswith('double.jpg') for name in written)
    assert not any('coffee' in name or 'kept_for_scores' in name for name in written)
    before = (folder / 'pictures.csv').read_text()
    tool('make_zoo_data')(str(table), str(folder), '--cache', str(tmp_path))
    assert 'is complete' in capsys.readouterr().out
    assert (folder / 'pictures.csv').read_text() == before
