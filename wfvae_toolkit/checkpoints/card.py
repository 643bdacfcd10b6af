"""The README.md of an exported folder, which is its page on the Hugging Face Hub.

What the model is and how to use it, what it was trained on and its scores if the MODEL says so, its latents, and in
which dtypes it works.
"""

from wfvae_toolkit.models.activations import safe_dtypes
from wfvae_toolkit.utils.urls import shown_url

CARD_NAME = 'README.md'
# write_statistics writes the part that depends on measurements anew while this line is in it.
MARK = '<!-- Written by wfvae_toolkit. Remove this line before you edit, or the next measurement replaces the file. -->'
PLACE = 'THIS_FOLDER'  # push_to_hub writes the repository's name in its place
UNKNOWN_LICENSE = 'unknown'  # the Hub's own word for it
_MEASURED = '\n## Latents\n'


def model_card(model, license=None):
    """TrainedModel of a WFVAE2Image -> text.

    Args:
        model (TrainedModel): what is exported.
        license (str): the Hub's identifier, such as ``'apache-2.0'``; None: unknown.
    """
    factor, channels = 2 ** len(model.config['widths']), model.config['latent_channels']
    return '\n'.join([
        '---', f'license: {license or UNKNOWN_LICENSE}', 'library_name: diffusers', 'pipeline_tag: image-to-image',
        'tags:', '- vae', '- autoencoder', '- wavelets', '---', '', MARK, '', '# AutoencoderWFVAE2', '',
        f'An autoencoder of images: (B, 3, H, W) in [-1, 1] <-> (B, {channels}, H/{factor}, W/{factor}). H and W are '
        f'multiples of {factor}.', '',
        '```python', 'import diffusers', '',
        f"vae = diffusers.AutoModel.from_pretrained('{PLACE}', trust_remote_code=True)",
        'latents = vae.encode(images).latent_dist.mode()  # raw latents', 'images = vae.decode(latents).sample', '```',
        '', 'With wfvae_toolkit no code of the repository runs, pictures have any size, and measured latents are '
        'normalised:', '',
        '```python', 'from wfvae_toolkit.inference import Reconstructor', '',
        f"model = Reconstructor.from_pretrained('{PLACE}')",
        "model.to_pictures(model.reconstruct('photo.jpg'))[0].save('reconstruction.png')", '```', '',
        *_training(model), *_scores(model), '']) + measured_part(model)


def measured_part(model):
    """Latents and dtypes of a TrainedModel, the end of its card."""
    rows = [f'| {dtype} | {verdict} | {reason} |' for dtype, verdict, reason in safe_dtypes(
        model.meta.get('largest_activations'))]
    latents = ('Latents were measured: `config.json` holds their scale and shift.' if model.statistics else
               'Latents were never measured: `scaling_factor` is 1, and latents stay raw. '
               '`tools/measure_latents.py` of the toolkit measures them.')
    return '\n'.join([_MEASURED, latents, '', '## Dtypes', '', '| dtype | safe | why |', '| --- | --- | --- |', *rows,
                      ''])


def measured_anew(text, model):
    """The text of a card with the measurements that ``model`` has now; None if it was edited, and stays as it is."""
    if MARK not in text:
        return None
    start, found, _ = text.partition(_MEASURED)
    return start + measured_part(model) if found else model_card(model)


def _training(model):
    """Lines on the training that the checkpoint tells of."""
    run = model.meta.get('run')
    if run is None:
        return ['## Training', '', 'The file that was exported does not say what the model was trained on.']
    images = run['images_per_iteration']
    images = ', then '.join(map(str, images)) if isinstance(images, list) else images
    losses = [f'{name} ({kind})' for name, kind in _rows(run, 'model.losses').items()]
    return ['## Training', '',
            f'{model.meta["iteration"]:,} iterations of {images} images on '
            f'{_data(run, "train_dataloader")}. Losses: {", ".join(losses)}. Weights: {model.weights}.']


def _scores(model):
    """Lines on the validation at the checkpoint's iteration, of the log beside it."""
    from wfvae_toolkit.visualization.records import read_records

    rows = [row for row in read_records(model.path.parent) if row['phase'] == 'val'
            and row['iteration'] == model.meta.get('iteration')] if 'run' in model.meta else []
    names = _rows(model.meta['run'], 'val_evaluator.metrics') if rows else ()
    raw = model.weights == 'raw' and any(name.startswith('raw/') for name in (rows[-1] if rows else ()))
    scores = {name: rows[-1].get(f'raw/{name}' if raw else name) for name in names}
    scores = {name: value for name, value in scores.items() if isinstance(value, (int, float))}
    if not scores:
        return ['', '## Scores', '', 'No scores are known; `tools/test.py` of the toolkit measures them.']
    return ['', '## Scores', '', f'Of the validation during training, on {_data(model.meta["run"], "val_dataloader")}:',
            '', f'| {" | ".join(scores)} |', f'|{" --- |" * len(scores)}',
            f'| {" | ".join(f"{value:.4f}" for value in scores.values())} |']


def _rows(run, place):
    """{name: type} of the rows at ``place``, such as 'model.losses', of a run's record."""
    return {key.split('.')[2]: value for key, value in run['settings'].items()
            if key.startswith(f'{place}.') and key.count('.') == 3 and key.endswith('.type')}


def _data(run, loader):
    """'753 pictures (ImageFolder train, SyntheticImages)' of a run's record; folders by their last name alone."""
    settings, start = run['settings'], f'{loader}.dataset.'
    parts = []
    for key, value in settings.items():
        owner, _, name = key.rpartition('.')
        if not key.startswith(start) or name != 'type' or '.pipeline.' in key:
            continue
        root = shown_url(settings.get(f'{owner}.data_root'))
        parts.append(f'{value} `{str(root).rstrip("/").rpartition("/")[2]}`' if root else str(value))
    files = run['data'].get(loader, {}).get('files')
    return (f'{files:,} pictures' if files is not None else 'pictures') + f' ({", ".join(parts)})'
