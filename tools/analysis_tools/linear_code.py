"""The best linear code of a config's data: ``python tools/analysis_tools/linear_code.py CONFIG [--start FILE]``."""

import argparse

from wfvae_toolkit.utils.options import ParseOptions, friendly_errors, whole


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description="Fits principal components of blocks to training pictures, as many as the config's autoencoder has "
                    'latent channels, and scores them on the validation pictures: what a linear autoencoder of the '
                    'same size reaches.')
    parser.add_argument('config', metavar='CONFIG', help='file or package::file.py')
    parser.add_argument('--pictures', type=whole(1), default=200, metavar='N',
                        help="training pictures, through the validation's pipeline (default: %(default)s)")
    parser.add_argument('--start', metavar='FILE.pth', help='also write a MODEL whose weights begin at such a code, '
                                                            'for load_from')
    parser.add_argument('--cfg-options', nargs='+', action=ParseOptions, metavar='KEY=VALUE', help='settings')
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from pathlib import Path

    import torch

    from wfvae_toolkit.analysis.linear_code import LinearCode, draw_pictures, score, start_from_linear_code
    from wfvae_toolkit.checkpoints import TrainedModel, export_model
    from wfvae_toolkit.registry import AUTOENCODERS
    from wfvae_toolkit.utils.config import load_config

    cfg = load_config(options.config, options.cfg_options)
    pipeline = cfg.val_dataloader.dataset.get('pipeline', [])
    seed = cfg.randomness.seed
    train = draw_pictures({**cfg.train_dataloader.dataset, 'pipeline': pipeline}, options.pictures, seed)
    val = draw_pictures(cfg.val_dataloader.dataset)
    torch.manual_seed(seed)
    autoencoder = AUTOENCODERS.build(cfg.model.autoencoder).eval()
    factor, channels = autoencoder.downsample_factor, autoencoder.latent_channels
    code = LinearCode(train, channels, factor)
    print(f'{channels} principal components of {factor}x{factor} px: '
          f'{score(lambda images: code.decode(code.encode(images)), val):.2f} dB on {len(val)} pictures')
    if options.start:
        start_from_linear_code(autoencoder, train[:, :, :128, :128])
        print(f'the autoencoder that begins there: {score(autoencoder, val):.2f} dB')
        model = TrainedModel(cfg.model.autoencoder.to_dict(), autoencoder.state_dict(), None, Path(options.start),
                             'inference', 'ema')
        export_model(model, options.start, 'native')
        print(f'written: {options.start}')


if __name__ == '__main__':
    main()
