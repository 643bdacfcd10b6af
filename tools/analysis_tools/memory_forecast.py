"""Peak memory of a training: ``python tools/analysis_tools/memory_forecast.py CONFIG [--gpu-memory 80GB]``."""

import argparse

from wfvae_toolkit.utils.options import ParseOptions, add_import_argument, friendly_errors, whole


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(
        description='Count the peak memory of both turns, of validation and of a checkpoint on one GPU. Neither a GPU '
                    'nor the data is needed.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG',
                        help='a file, or package::file.py; several give a table')
    parser.add_argument('--cfg-options', nargs='+', action=ParseOptions, metavar='KEY=VALUE',
                        help='override settings: train_dataloader.batch_size=2')
    parser.add_argument('--gpu-memory', nargs='+', default=[], metavar='SIZE',
                        help='does it fit, and which is the largest batch: 24GB, 80GB (10^9 bytes) or 79.6GiB')
    parser.add_argument('--gpus', type=whole(1), default=1, metavar='N',
                        help="processes: with several, DDP's buffer of gradients counts (default: 1)")
    parser.add_argument('--check', action='store_true',
                        help='train a few iterations on drawn pictures in a process of its own, on this CPU, and '
                             'compare (Linux)')
    add_import_argument(parser)
    options = parser.parse_args(arguments)

    from wfvae_toolkit.analysis import memory
    from wfvae_toolkit.training.memory import describe
    from wfvae_toolkit.utils.config import load_config
    from wfvae_toolkit.utils.errors import SettingError
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    limits = {text: memory.parse_bytes(text) for text in options.gpu_memory}
    configs = {path: load_config(path, options.cfg_options) for path in options.configs}
    if options.check:
        for path, cfg in configs.items():
            cfg = memory.with_stand_ins(cfg)
            print(f'{path}\n\n{memory.compare(memory.Forecaster(cfg)(), memory.measure_training(cfg))}\n', flush=True)
        return
    if len(configs) > 1:
        for line in memory.table(configs, limits, options.gpus):
            print(line, flush=True)
        return
    (path, cfg), = configs.items()
    forecaster = memory.Forecaster(cfg, options.gpus)
    print(f'{path}, {forecaster.model.precision}')
    for load in forecaster.loads:
        forecast = forecaster(load)
        print('\n'.join(describe(forecast)))
        for text, limit in limits.items():
            largest = forecast.largest
            if largest.peak_bytes > limit:
                ways = '; '.join(forecaster.ways_to_fit(limit, load)) or 'no change that the toolkit knows'
                raise SettingError(f'{text}: the {largest.name} does not fit ({largest.peak_bytes / 2**30:.2f} of '
                                   f'{limit / 2**30:.2f} GiB); these would: {ways}')
            print(f'{text}: fits; largest micro-batch: {forecaster.largest_batch(limit, load)}')


if __name__ == '__main__':
    main()
