"""Write a trained model in another form: ``python tools/convert.py MODEL OUTPUT --to native``."""

import argparse

from wfvae_toolkit.utils.options import add_import_argument, friendly_errors


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='Convert a model from any form to another. The result is read '
                                                 'again and compared with the model.')
    parser.add_argument('model', metavar='MODEL', help="a run's folder, a checkpoint, an exported folder, an earlier "
                                                       '.ckpt')
    parser.add_argument('output', metavar='OUTPUT', help='native: a .pth file; other forms: a folder')
    parser.add_argument('--to', required=True, metavar='FORM',
                        help='native, earlier, diffusers, onnx, torch_export, aot_inductor')
    parser.add_argument('--weights', choices=('ema', 'raw'), default='ema', help='default: ema')
    parser.add_argument('--latent-statistics', choices=('channels', 'scalar'),
                        help='for --to diffusers: one mean and std per latent channel, or one scaling and shift '
                             'factor for pipelines that read only those (default: channels)')
    parser.add_argument('--license', metavar='ID', help="for --to diffusers: the Hub's identifier of the license that "
                                                        'you give the weights, such as apache-2.0 (default: unknown)')
    parser.add_argument('--half', action='store_true', default=None, help='for --to diffusers: weights rounded to '
                        'float16, half the size of the file')
    parser.add_argument('--force', action='store_true', help='replace OUTPUT')
    add_import_argument(parser)
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    from wfvae_toolkit.checkpoints import export_model, read_model
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    model = read_model(options.model, options.weights)
    chosen = {name: value for name in ('latent_statistics', 'license', 'half')
              if (value := getattr(options, name)) is not None}
    paths = export_model(model, options.output, options.to, options.force, **chosen)
    if model.statistics is None:
        print(f'{model.path}: its latents were never measured, and stay raw (scale 1, shift 0); '
              'tools/measure_latents.py measures them')
    print(f'{model.path} ({model.form}, {model.weights} weights) -> {", ".join(map(str, paths))}')


if __name__ == '__main__':
    main()
