"""Bad and odd pictures, each made by a function that writes it to a path, with what becomes of it.

An outcome is ``Picture(size, pixel)``: decoded, upright size in px and the colour of the top left pixel, within
``tolerance`` levels; or ``Bad(reason)``: substituted in training, an error in evaluation, whose message holds
``reason`` in upper or lower case.
"""

import io
import os
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

RED, GREEN, BLUE, WHITE = (250, 0, 0), (0, 250, 0), (0, 0, 250), (255, 255, 255)


class Picture(NamedTuple):
    """It is decoded."""

    size: tuple[int, int]
    pixel: tuple[int, int, int]
    tolerance: int = 0

    def __str__(self):
        about = 'about ' if self.tolerance else ''
        return f'decoded: {self.size[0]}x{self.size[1]} px, top left {about}{self.pixel}'


class Bad(NamedTuple):
    """It is not used."""

    reason: str

    def __str__(self):
        return f'bad: {self.reason}'


class OddFile(NamedTuple):
    """What a user may have."""

    what: str
    name: str
    write: object  # callable: path -> None
    outcome: Picture | Bad


def corners(width=12, height=8, mode='RGB'):
    """A red picture with a green top left, a blue bottom right and a white bottom left, 4 px each."""
    pixels = np.full((height, width, 3), RED, np.uint8)
    pixels[:4, :4], pixels[-4:, -4:], pixels[-4:, :4] = GREEN, BLUE, WHITE
    return Image.fromarray(pixels).convert(mode)


def noise(edge=64):
    """A picture that compresses badly: half of its file is half of its rows."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (edge, edge, 3), dtype=np.uint8))


def saved(image, form, **options):
    """A writer of the image in a format of Pillow."""
    return lambda path: image.save(path, form, **options)


def raw(data):
    return lambda path: path.write_bytes(data)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def truncated(form, **options):
    data = encoded(noise(), form, **options)
    return raw(data[:len(data) // 2])


def turned(orientation, form='PNG'):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(corners(), form, exif=exif)


def png(width, height, *chunks, bits=8, colour=2):
    """A PNG of given chunks, or without any picture data."""
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0)
    chunks = (header, *(chunks or (b'IDAT' + zlib.compress(b''),)), b'IEND')
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk)) for chunk in chunks)


def png_rows(width, height, samples, **header):
    """A PNG from its samples, (height, bytes a row), none filtered."""
    rows = b''.join(b'\0' + row.tobytes() for row in samples)
    return png(width, height, b'IDAT' + zlib.compress(rows), **header)


def interlaced():
    """Adam7, which Pillow does not write: pass by pass."""
    pixels, data = np.asarray(corners()), b''
    for top, left, down, right in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
                                   (1, 0, 2, 1)):
        data += b''.join(b'\0' + row.tobytes() for row in pixels[top::down, left::right])
    header = b'IHDR' + struct.pack('>IIBBBBB', 12, 8, 8, 2, 0, 0, 1)
    chunks = header, b'IDAT' + zlib.compress(data), b'IEND'
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk)) for chunk in chunks)


def unreadable(path):
    corners().save(path)
    path.chmod(0)  # root reads it all the same: the test asks the system


def animation(form):
    frames = [Image.new('RGB', (12, 8), colour) for colour in (GREEN, RED, BLUE)]
    return saved(frames[0], form, save_all=True, append_images=frames[1:], **({} if form in ('GIF', 'TIFF') else
                                                                             {'lossless': True}))


def transparent(mode):
    """Opaque green on the left, clear on the right; the top left is half clear."""
    rgba = Image.new('RGBA', (12, 8), (0, 250, 0, 255))
    rgba.putpixel((0, 0), (0, 0, 0, 0))
    return rgba.convert(mode)


def display_p3():
    """An ICC profile (version 2, 500 bytes) like that of a phone's photographs: P3 primaries, gamma 2.2."""
    def xyz(*values):
        return b'XYZ ' + bytes(4) + b''.join(struct.pack('>i', round(value * 65536)) for value in values)

    name = b'Display P3\0'
    curve = b'curv' + bytes(4) + struct.pack('>IHxx', 1, round(2.2 * 256))
    tags = {
        b'desc': b'desc' + bytes(4) + struct.pack('>I', len(name)) + name + bytes(78),
        b'cprt': b'text' + bytes(4) + b'none\0', b'wtpt': xyz(0.9642, 1, 0.8249),
        b'rXYZ': xyz(0.5151, 0.2412, -0.0011), b'gXYZ': xyz(0.2920, 0.6922, 0.0419),
        b'bXYZ': xyz(0.1571, 0.0666, 0.7841), b'rTRC': curve, b'gTRC': curve, b'bTRC': curve}
    place, table, body = 132 + 12 * len(tags), struct.pack('>I', len(tags)), b''
    for tag, data in tags.items():
        table += tag + struct.pack('>II', place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack('>I4xI', place + len(body), 0x02400000) + b'mntrRGB XYZ ' + bytes(12) + b'acsp' + bytes(28)
    header += struct.pack('>iii', 63190, 65536, 54061)
    return header.ljust(128, b'\0') + table + body


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
PALETTE = corners().quantize(4)
PLAIN = Picture((12, 8), GREEN)
LOSSY = Picture((12, 8), GREEN, 25)
TURNED = {1: ((12, 8), GREEN), 2: ((12, 8), RED), 3: ((12, 8), BLUE), 4: ((12, 8), WHITE), 5: ((8, 12), GREEN),
          6: ((8, 12), WHITE), 7: ((8, 12), BLUE), 8: ((8, 12), RED)}
DAMAGED = 'not an image, or its header is damaged'

FILES = [
    # damaged
    OddFile('JPEG cut in half', 'a.jpg', truncated('JPEG'), Bad('truncated')),
    OddFile('PNG cut in half', 'a.png', truncated('PNG'), Bad('truncated')),
    OddFile('WebP cut in half', 'a.webp', truncated('WEBP'), Bad('')),
    OddFile('TIFF cut in half', 'a.tif', truncated('TIFF'), Bad('')),
    OddFile('BMP cut in half', 'a.bmp', truncated('BMP'), Bad('truncated')),
    OddFile('GIF cut in half', 'gif_in.png', truncated('GIF'), Bad('truncated')),
    OddFile('only the first two bytes of a JPEG', 'a.jpg', raw(b'\xff\xd8'), Bad(DAMAGED)),
    OddFile('PNG whose end is not marked', 'a.png', raw(encoded(corners(), 'PNG').replace(
        b'IEND', b'IENX')), PLAIN),
    OddFile('PNG without picture data', 'a.png', raw(png(8, 8)), Bad('')),
    OddFile('JPEG with text after its end', 'a.jpg', raw(encoded(corners(), 'JPEG') + b'<script>' * 9), LOSSY),
    OddFile('PNG with a whole ZIP after its end', 'a.png', raw(encoded(corners(), 'PNG') + b'PK\3\4' * 99), PLAIN),
    OddFile('zero bytes', 'a.jpg', raw(b''), Bad('zero bytes')),
    OddFile('a megabyte of zeros', 'a.png', raw(bytes(2**20)), Bad(DAMAGED)),
    OddFile('text named .jpg', 'a.jpg', raw(b'hello\n'), Bad(DAMAGED)),
    OddFile('an HTML error page named .png', 'a.png', raw(b'<!doctype html><title>404</title>'), Bad(DAMAGED)),
    OddFile('SVG named .png', 'a.png', raw(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), Bad(DAMAGED)),
    OddFile('EPS, which would start Ghostscript, named .jpg', 'a.jpg', raw(
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n'), Bad(DAMAGED)),
    OddFile('PDF named .tif', 'a.tif', raw(b'%PDF-1.4\n'), Bad(DAMAGED)),
    OddFile('a pickle named .png', 'a.png', raw(b'\x80\x04cos\nsystem\n(S"false"\ntR.'), Bad(DAMAGED)),
    # sizes
    OddFile('PNG that claims 60,000 x 60,000 px', 'a.png', raw(png(60_000, 60_000)), Bad('max_pixels')),
    OddFile('PNG that claims 2^31 - 1 px a side', 'a.png', raw(png(2**31 - 1, 2**31 - 1)), Bad('max_pixels')),
    OddFile('TIFF that claims 60,000 x 60,000 px', 'a.tif', raw(encoded(Image.new('L', (3, 3)), 'TIFF').replace(
        struct.pack('<HHIHH', 256, 4, 1, 3, 0), struct.pack('<HHII', 256, 4, 1, 60_000)).replace(
        struct.pack('<HHIHH', 257, 4, 1, 3, 0), struct.pack('<HHII', 257, 4, 1, 60_000))), Bad('max_pixels')),
    OddFile('JPEG that claims 65,000 x 65,000 px', 'a.jpg', raw(encoded(Image.new('L', (8, 8)), 'JPEG').replace(
        b'\x08\x00\x08\x00\x08\x01', b'\x08' + struct.pack('>HH', 65_000, 65_000) + b'\x01')), Bad('max_pixels')),
    OddFile('PNG of 0 x 8 px', 'a.png', raw(png(0, 8)), Bad('')),
    OddFile('1 x 1 px', 'a.png', saved(Image.new('RGB', (1, 1), RED), 'PNG'), Picture((1, 1), RED)),
    OddFile('1 x 20,000 px', 'a.png', saved(Image.new('RGB', (1, 20_000), RED), 'PNG'), Picture((1, 20_000), RED)),
    OddFile('20,000 x 1 px', 'a.jpg', saved(Image.new('RGB', (20_000, 1), RED), 'JPEG'), Picture((20_000, 1), RED, 25)),
    # kinds of pixels
    OddFile('1 bit', 'a.png', saved(corners(mode='1'), 'PNG'), Picture((12, 8), (255,) * 3, 255)),
    OddFile('grey', 'a.jpg', saved(Image.new('L', (12, 8), 90), 'JPEG'), Picture((12, 8), (90,) * 3, 3)),
    OddFile('16-bit grey', 'a.png', saved(Image.fromarray(np.full((8, 12), 257 * 90, np.uint16)), 'PNG'),
            Picture((12, 8), (90,) * 3)),
    OddFile('16 bits a channel', 'a.png', raw(png_rows(2, 1, np.array([[0x1122, 0x3344, 0x5566] * 2], '>u2'), bits=16)),
            Picture((2, 1), (0x11, 0x33, 0x55))),
    OddFile('palette', 'a.png', saved(PALETTE, 'PNG'), PLAIN),
    OddFile('palette with a clear entry', 'a.png', saved(PALETTE, 'PNG', transparency=PALETTE.getpixel((0, 0))),
            Picture((12, 8), WHITE)),
    OddFile('palette index that the palette lacks', 'a.png', raw(png(
        2, 1, b'PLTE\1\2\3', b'IDAT' + zlib.compress(b'\0\7\0'), colour=3)), Picture((2, 1), (0, 0, 0), 255)),
    OddFile('grey with alpha', 'a.png', saved(transparent('LA'), 'PNG'), Picture((12, 8), WHITE)),
    OddFile('RGB with alpha', 'a.png', saved(transparent('RGBA'), 'PNG'), Picture((12, 8), WHITE)),
    OddFile('WebP with alpha', 'a.webp', saved(transparent('RGBA'), 'WEBP', lossless=True), Picture((12, 8), WHITE)),
    OddFile('one clear colour', 'a.png', saved(corners(), 'PNG', transparency=GREEN), Picture((12, 8), WHITE)),
    OddFile('CMYK JPEG, inverted as Adobe does', 'a.jpg', saved(Image.new('CMYK', (12, 8), (255, 0, 0, 0)), 'JPEG'),
            Picture((12, 8), (0, 255, 255), 3)),
    OddFile('CMYK TIFF', 'a.tif', saved(Image.new('CMYK', (12, 8), (255, 0, 0, 0)), 'TIFF'),
            Picture((12, 8), (0, 255, 255))),
    OddFile('LAB TIFF', 'a.tif', saved(Image.new('LAB', (12, 8), (137, 128, 128)), 'TIFF'),
            Picture((12, 8), (128,) * 3, 5)),
    OddFile('float TIFF from 0 to 1', 'a.tif', saved(Image.fromarray(np.full((8, 12), 0.2, np.float32)), 'TIFF'),
            Picture((12, 8), (51,) * 3)),
    OddFile('float TIFF with NaN', 'a.tif', saved(Image.fromarray(np.full((8, 12), np.nan, np.float32)), 'TIFF'),
            Bad('values nan..nan')),
    OddFile('float TIFF up to 4000', 'a.tif', saved(Image.fromarray(np.full((8, 12), 4e3, np.float32)), 'TIFF'),
            Bad('values 4000.0..4000.0')),
    OddFile('32-bit integers beyond 65,535', 'a.tif', saved(Image.fromarray(np.full((8, 12), 70_000, np.int32)),
                                                            'TIFF'), Bad('values 70000..70000')),
    # kinds of files
    OddFile('progressive JPEG', 'a.jpg', saved(corners(), 'JPEG', progressive=True), LOSSY),
    OddFile('interlaced PNG', 'a.png', raw(interlaced()), PLAIN),
    OddFile('colour profile', 'a.jpg', saved(corners(), 'JPEG', icc_profile=PROFILE), LOSSY),
    OddFile('damaged colour profile', 'a.png', saved(corners(), 'PNG', icc_profile=b'no profile'), PLAIN),
    OddFile('animated GIF named .webp', 'a.webp', animation('GIF'), PLAIN),
    OddFile('animated PNG', 'a.png', animation('PNG'), PLAIN),
    OddFile('animated WebP', 'a.webp', animation('WEBP'), PLAIN),
    OddFile('TIFF of three pages', 'a.tif', animation('TIFF'), PLAIN),
    *(OddFile(f'EXIF orientation {number}', 'a.png', turned(number), Picture(*outcome))
      for number, outcome in TURNED.items()),
    OddFile('EXIF orientation 9, which there is not', 'a.png', turned(9), PLAIN),
    OddFile('damaged EXIF', 'a.jpg', saved(corners(), 'JPEG', exif=b'Exif\0\0no such header'), LOSSY),
    # names and places
    OddFile('suffix in capitals', 'A.JPG', saved(corners(), 'JPEG'), LOSSY),
    OddFile('PNG named .jpg', 'a.jpg', saved(corners(), 'PNG'), PLAIN),
    OddFile('unicode name', 'größe 写真 🙂.png', saved(corners(), 'PNG'), PLAIN),
    OddFile('newline, tab and quotes in the name', 'a\n\t"\'.png', saved(corners(), 'PNG'), PLAIN),
    OddFile('name that is not UTF-8', os.fsdecode(b'\xff\xfe.png'), saved(corners(), 'PNG'), PLAIN),
    OddFile('name of 255 bytes', 'n' * 251 + '.png', saved(corners(), 'PNG'), PLAIN),
    OddFile('name that looks like an option', '-rf.png', saved(corners(), 'PNG'), PLAIN),
    OddFile('hidden file', '.a.png', saved(corners(), 'PNG'), PLAIN),
    OddFile('unreadable (no permission)', 'a.png', unreadable, Bad('permission denied')),
    OddFile('dangling link', 'a.png', lambda path: path.symlink_to('nowhere.png'), Bad('missing')),
    OddFile('link to itself', 'a.png', lambda path: path.symlink_to(path.name), Bad('too many')),
    OddFile('pipe, which would be waited for', 'a.png', os.mkfifo, Bad('not a regular file')),
]
