"""The README.md of an exported folder: what the model is, its latents, and in which dtypes it works."""

from wfvae_toolkit.models.activations import safe_dtypes

CARD_NAME = 'README.md'
# write_statistics writes the card anew while this line is in it.
MARK = '<!-- Written by wfvae_toolkit. Remove this line before you edit, or the next measurement replaces the file. -->'


def model_card(model):
    """TrainedModel of a WFVAE2Image -> text."""
    factor, channels = 2 ** len(model.config['widths']), model.config['latent_channels']
    rows = [f'| {dtype} | {verdict} | {reason} |' for dtype, verdict, reason in safe_dtypes(
        model.meta.get('largest_activations'))]
    latents = ('Latents were measured: `config.json` holds their scale and shift.' if model.statistics else
               'Latents were never measured: `scaling_factor` is 1, and latents stay raw. '
               '`tools/measure_latents.py` of the toolkit measures them.')
    return '\n'.join([
        '---', 'library_name: diffusers', '---', '', MARK, '', '# AutoencoderWFVAE2', '',
        f'An autoencoder of images: (B, 3, H, W) in [-1, 1] <-> (B, {channels}, H/{factor}, W/{factor}). H and W are '
        f'multiples of {factor}.', '',
        '```python', 'import diffusers', '',
        "vae = diffusers.AutoModel.from_pretrained('THIS_FOLDER', trust_remote_code=True)", '```', '',
        latents, '', '## Dtypes', '', '| dtype | safe | why |', '| --- | --- | --- |', *rows, ''])
