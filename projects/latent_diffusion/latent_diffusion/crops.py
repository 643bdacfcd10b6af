"""Random square crops of pictures, as PNG files."""

from wfvae_toolkit.datasets import BadImage, RandomCrop, open_images
from wfvae_toolkit.utils.errors import SettingError
from wfvae_toolkit.utils.files import atomic_folder
from wfvae_toolkit.utils.progress import progress
from wfvae_toolkit.utils.seeding import mix_seed, seeded

SCALE = (0.35, 1.0)  # of the picture that is cropped, as the zoo's configs have it


def write_crops(data, folder, count, size):
    """Write ``count`` crops into a folder that is not there yet, as FOLDER/NUMBER.png below the picture's first folder.

    Every picture gives as many crops, to within one. Place and scale of a crop are functions of its number.

    Args:
        data (str | Path): as of `open_images`.
        folder (Path): appears when it is complete.
        count (int): crops.
        size (int): edge in px.

    Returns:
        list[str]: path and reason of each picture that could not be read; its crops are missing.

    Raises:
        SettingError: no picture could be read.
    """
    dataset, crop, bad = open_images(data), RandomCrop(size, SCALE), []
    pictures = len(dataset)
    with atomic_folder(folder) as temporary:
        for index in progress(range(min(count, pictures)), 'pictures cropped', min(count, pictures)):
            try:
                image = dataset.load(index)
            except BadImage as error:
                bad.append(f'{dataset.path(index)}: {error.reason}')
                continue
            first, separator, _ = dataset.path(index).partition('/')
            place = temporary / first if separator else temporary
            place.mkdir(exist_ok=True)
            for number in range(index, count, pictures):
                with seeded(mix_seed('sample', 0, number)):
                    crop(image).save(place / f'{number:06}.png', compress_level=1)
        if len(bad) == min(count, pictures):
            raise SettingError(f'{data}: none of the pictures could be read; the first: {bad[0]}')
    return bad
