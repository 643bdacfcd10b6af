"""Pictures out of Debian packages, which are downloaded and read, never installed."""

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
    """A row of the table: which pictures of a package are looked at."""

    package: str
    version: str
    split: str  # train or val
    kind: str  # subfolder
    licence: str
    pictures: str  # patterns of paths between blanks; `!` before one leaves out; `archive.zip//member` reaches inside

    @property
    def file_name(self):
        return f'{self.package}_{self.version.replace(":", "%3a")}_all.deb'

    def wants(self, path):
        """Whether a path is one of the pictures."""
        patterns = self.pictures.split()
        return (any(fnmatchcase(path, pattern) for pattern in patterns if pattern[0] != '!')
                and not any(fnmatchcase(path, pattern[1:]) for pattern in patterns if pattern[0] == '!'))

    def opens(self, path):
        """Whether a path is an archive with pictures in it."""
        return path.endswith(ARCHIVES) and any(
            fnmatchcase(path, pattern.partition('//')[0]) for pattern in self.pictures.split() if '//' in pattern)


def read_table(path):
    """CSV file -> list of `Package`."""
    with open(path, encoding='utf-8', newline='') as file:
        return [Package(**row) for row in csv.DictReader(file)]


def download(package, folder):
    """Path of the package's file in ``folder``, fetched with apt-get unless it is there.

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
    """Yield (path, bytes) of a package file's pictures, in its order; paths are relative, archives' members after //.

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
            raise SettingError(f'{deb} is no whole package: delete it, and it is fetched anew') from error


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
        SettingError: no such file, or one with members that are packed with zstd.
    """
    magic, version, tree, payload, names = struct.unpack_from('>4s4I', data)
    if magic != b'qres':
        raise SettingError('no Qt resource file')
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
