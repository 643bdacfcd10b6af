"""Members are where `tarfile` finds them, and damage is said."""

import collections
import io
import tarfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.shard_samples import write_tar
from wfvae_toolkit.datasets.tar_members import DamagedTar, tar_members

NAMES = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0/'), min_size=1, max_size=150)


def found(data, passed_over=None):
    """Members of bytes, read through a function that gives no more than what there is."""
    return list(tar_members(lambda start, length: data[start:start + length], len(data),
                            collections.Counter() if passed_over is None else passed_over))


@given(st.lists(st.tuples(NAMES, st.binary(max_size=2000)), max_size=6),
       st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), st.sampled_from([0, 1.5]))
def test_they_are_where_tarfile_finds_them(members, form, mtime):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w', format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime if form == tarfile.PAX_FORMAT else 0
            try:
                archive.addfile(info, io.BytesIO(content))
            except ValueError:  # a name that is too long for this format
                continue
    data = buffer.getvalue()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = [(member.name, member.offset_data, member.size) for member in archive if member.isfile()]
    members = found(data)
    assert [(member.name.decode().rstrip('/'), member.start, member.size) for member in members] == expected
    for member in members:
        assert member.header_crc32 == zlib.crc32(data[member.start - 512:member.start])


def test_a_large_size_is_read_in_base_256():
    info = tarfile.TarInfo('a.jpg')
    info.size = 9 * 2**30
    header = info.tobuf(tarfile.GNU_FORMAT)
    members = tar_members(lambda start, length: (header + bytes(1024))[start:start + length] if start < 512
                          else bytes(min(length, 512)), 2**34, collections.Counter())
    assert [(member.start, member.size) for member in members] == [(512, 9 * 2**30)]


def test_other_members_are_counted(tmp_path):
    link, folder = tarfile.TarInfo('link.jpg'), tarfile.TarInfo('folder')
    link.type, link.linkname, folder.type = tarfile.SYMTYPE, 'a.jpg', tarfile.DIRTYPE
    data = write_tar(tmp_path / 'a.tar', [('a.jpg', b'1'), link, folder, ('b.jpg', b'2')]).read_bytes()
    counts = collections.Counter()
    assert [member.name for member in found(data, counts)] == [b'a.jpg', b'b.jpg']
    assert counts == {'link': 1}
    counts.clear()
    assert [member.name for member in found(data + data, counts)] == [b'a.jpg', b'b.jpg']
    assert counts == {'link': 1, 'tar file after the end of another': 1}


@pytest.mark.parametrize(('damage', 'names', 'words'), [
    (lambda data: data[:3000], [b'a.jpg'], 'cut at byte 3000: its last member should end at 4060'),
    (lambda data: data[:2100], [b'a.jpg'], 'cut inside a header at byte 2048'),
    (lambda data: data[:2048], [b'a.jpg'], 'the end mark is missing at byte 2048'),
    (lambda data: data[:2048] + b'x' * 512 + data[2560:], [b'a.jpg'], 'no tar header at byte 2048'),
    (lambda data: data[:2050] + b'?' + data[2051:], [b'a.jpg'], 'no tar header at byte 2048'),
    (lambda data: b'<html>' * 200, [], 'no tar header at byte 0'),
    (lambda data: b'\x1f\x8b' + data, [], 'a gzip file at byte 0'),
    (lambda data: b'', [], 'the end mark is missing at byte 0'),
])
def test_damage_is_said_after_the_members_before_it(tmp_path, damage, names, words):
    data = damage(write_tar(tmp_path / 'a.tar', [('a.jpg', b'1' * 1500), ('b.jpg', b'2' * 1500)]).read_bytes())
    members = tar_members(lambda start, length: data[start:start + length], len(data), collections.Counter())
    assert [next(members).name for _ in names] == names
    with pytest.raises(DamagedTar, match=words):
        next(members)
