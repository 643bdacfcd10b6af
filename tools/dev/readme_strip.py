"""The README's strip, originals above: ``python tools/dev/readme_strip.py MODEL OUT.webp PICTURE...``."""

import argparse

from wfvae_toolkit.utils.options import friendly_errors

SIZE, GAP = 256, 4  # px


@friendly_errors()
def main():
    parser = argparse.ArgumentParser(description='Pictures, 256 px, above their reconstructions: one WebP file.')
    parser.add_argument('model', metavar='MODEL')
    parser.add_argument('output', metavar='OUT.webp')
    parser.add_argument('pictures', metavar='PICTURE', nargs='+')
    options = parser.parse_args()
    # Imported late: --help must not wait for torch.
    import torch
    from PIL import Image

    from wfvae_toolkit.datasets import fixed_pipeline, open_images
    from wfvae_toolkit.inference import Reconstructor
    from wfvae_toolkit.utils.pixels import from_bytes

    paths, model = options.pictures, Reconstructor.from_pretrained(options.model)
    strip = Image.new('RGB', (len(paths) * (SIZE + GAP) - GAP, 2 * SIZE + GAP), 'white')
    for column, path in enumerate(paths):
        image = from_bytes(open_images(path, fixed_pipeline(SIZE, SIZE))[0].image[None])
        pair = model.to_pictures(torch.cat([image, model.reconstruct(image)]))
        for row, picture in enumerate(pair):
            strip.paste(picture, (column * (SIZE + GAP), row * (SIZE + GAP)))
    strip.save(options.output, quality=92, method=6)


if __name__ == '__main__':
    main()
