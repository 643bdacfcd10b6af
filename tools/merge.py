"""One model from two: ``python tools/merge.py --encoder MODEL --decoder MODEL OUTPUT.pth``."""

import argparse

from wfvae_toolkit.utils.options import add_import_argument, friendly_errors


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Put the encoder of one model and the decoder of another into a '
                                                 'native inference checkpoint. Everything that they share must agree.')
    parser.add_argument('--encoder', required=True, metavar='MODEL', help='model that gives the encoder and the '
                        'latent statistics')
    parser.add_argument('--decoder', required=True, metavar='MODEL', help='model that gives the decoder')
    parser.add_argument('output', metavar='OUTPUT', help='a .pth file')
    parser.add_argument('--weights', choices=('ema', 'raw'), default='ema', help='weights of both models; default: ema')
    parser.add_argument('--force', action='store_true', help='replace OUTPUT')
    add_import_argument(parser)
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.checkpoints import export_model, merge_models, read_model
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    model = merge_models(*(read_model(path, options.weights) for path in (options.encoder, options.decoder)))
    path, = export_model(model, options.output, 'native', options.force)
    print(f'encoder of {options.encoder}, decoder of {options.decoder} -> {path}')


if __name__ == '__main__':
    main()
