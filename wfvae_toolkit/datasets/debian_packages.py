"""Read pictures from Debian packages, which are downloaded but not installed."""

import csv
import io
import struct
import subprocess
import tarfile
import zipfile
import zlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ..utils.errors import MissingFile, MissingLibrary, SettingError

ARCHIVES = ('.zip', '.pk3', '.rcc')


class Package(NamedTuple):
    """A row of the table: a package, and which of its pictures are candidates."""

    package: str
    version: str
    split: str  # train or val
    kind: str  # subfolder
    licence: str
    pictures: str  # patterns of paths, separated by blanks; `!` excludes; `archive.zip//member` is inside an archive

    @property
    def file_name(self):
        return f'{self.package}_{self.version.replace(":", "%3a")}_all.deb'

    def wants(self, path):
        """Whether the patterns accept a path."""
        patterns = self.pictures.split()
        return (any(fnmatchcase(path, pattern) for pattern in patterns if pattern[0] != '!')
                and not any(fnmatchcase(path, pattern[1:]) for pattern in patterns if pattern[0] == '!'))

    def opens(self, path):
        """Whether a path is an archive in which a pattern looks for pictures."""
        return path.endswith(ARCHIVES) and any(
            fnmatchcase(path, pattern.partition('//')[0]) for pattern in self.pictures.split() if '//' in pattern)


def read_table(path):
    """CSV file -> list of `Package`."""
    with open(path, encoding='utf-8', newline='') as file:
        return [Package(**row) for row in csv.DictReader(file)]


def download(package, folder):
    """Path of the package's file in ``folder``; apt-get downloads it if it is not there.

    Raises:
        MissingLibrary: no apt-get or dpkg-deb here.
        MissingFile: the mirror has no such version.
    """
    path = Path(folder) / package.file_name
    if not path.exists():
        Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(['apt-get', 'download', '-qq', f'{package.package}={package.version}'], cwd=folder,
                                  capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise MissingLibrary('apt-get is needed to fetch packages: use a Debian system') from error
        if not path.exists():
            raise MissingFile(f'{package.package}={package.version}: {done.stderr.strip()}; run apt-get update')
    return path


def read_pictures(deb, package):
    """Yield (path, bytes) of the pictures in a package file. A path is relative; `//` precedes a member of an archive.

    Raises:
        SettingError: the file is damaged.
    """
    with subprocess.Popen(['dpkg-deb', '--fsys-tarfile', str(deb)], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode='r|') as files:
                for member in files:
                    path = member.name.removeprefix('./')
                    if member.isfile() and package.wants(path):
                        yield path, files.extractfile(member).read()
                    elif member.isfile() and package.opens(path):
                        for name, data in _members(path, files.extractfile(member).read()):
                            if package.wants(f'{path}//{name}'):
                                yield f'{path}//{name}', data
        except tarfile.ReadError as error:
            raise SettingError(f'{deb} is not a complete package: delete it, and the next call downloads it '
                               'again') from error


def _members(path, data):
    if path.endswith('.rcc'):
        yield from read_qt_resources(data)
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith('/'):
                yield name, archive.read(name)


def read_qt_resources(data):
    """Yield (path, bytes) of the files in a binary Qt resource file (.rcc).

    Raises:
        SettingError: the data has another format, or a member is packed with zstd.
    """
    magic, version, tree, payload, names = struct.unpack_from('>4s4I', data)
    if magic != b'qres':
        raise SettingError('not a Qt resource file')
    node_size = 14 if version == 1 else 22

    def walk(number, folder):
        at = tree + number * node_size
        name_at, flags = struct.unpack_from('>IH', data, at)
        length, = struct.unpack_from('>H', data, names + name_at)
        name = data[names + name_at + 6:names + name_at + 6 + 2 * length].decode('utf-16-be')
        path = f'{folder}/{name}' if folder else name
        if flags & 2:  # a folder
            count, first = struct.unpack_from('>2I', data, at + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        start = payload + struct.unpack_from('>I', data, at + 10)[0]
        size, = struct.unpack_from('>I', data, start)
        content = data[start + 4:start + 4 + size]
        if flags & 4:
            raise SettingError(f'{path} is packed with zstd')
        yield path, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, '')
