"""Try models on pictures in a browser: ``python tools/app.py MODEL... [--host 127.0.0.1] [--port 7860]``."""

import argparse

from wfvae_toolkit.utils.options import add_model_arguments, friendly_errors, whole


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description='A page on this machine: drop a picture, see its reconstruction, '
                                                 'error map, scores and latent channels.')
    add_model_arguments(parser, nargs='+')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on (default: 127.0.0.1, which only this machine reaches)')
    parser.add_argument('--port', type=whole(1), default=7860, metavar='N', help='(default: 7860)')
    parser.add_argument('--lpips', metavar='FILE',
                        help="torchvision's weights of AlexNet; the page then shows LPIPS too")
    return parser.parse_args(arguments)


@friendly_errors()
def main(arguments=None):
    options = parse_arguments(arguments)
    # Imported late: --help must not wait for torch.
    import torch

    from wfvae_toolkit.app.page import check_address, serve
    from wfvae_toolkit.inference import Reconstructor
    from wfvae_toolkit.utils.plugins import import_modules

    check_address(options.host, options.port)
    import_modules(options.imports)
    models = {path: Reconstructor.from_pretrained(path, options.weights, options.device, getattr(torch, options.dtype))
              for path in options.model}
    serve(models, options.host, options.port, options.lpips)


if __name__ == '__main__':
    main()
