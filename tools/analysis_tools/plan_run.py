"""Hours, memory and data of a training: ``python tools/analysis_tools/plan_run.py CONFIG --gpus 8``."""

import argparse

from wfvae_toolkit.utils.options import add_config_arguments, add_import_argument, friendly_errors, whole


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(
        description='Estimate a training from its counted work and from stated rates. Nothing is measured, and neither '
                    'a GPU nor the data is needed.')
    add_config_arguments(parser)
    parser.add_argument('--gpus', type=whole(1), default=8, metavar='N', help='of the whole run (default: 8)')
    parser.add_argument('--gpus-per-machine', type=whole(1), default=8, metavar='N', help='default: 8')
    parser.add_argument('--gpu', default='H100', metavar='NAME', help='H100, H200, A100 or RTX4090 (default: H100)')
    for name, default, what in (
            ('matrix-share', 0.5, "of the data sheet's FLOP/s that kernels reach"),
            ('memory-share', 0.8, "of the memory's bytes/s that kernels reach"),
            ('link-share', 0.7, "of the links' bytes/s that NCCL reaches"),
            ('network-gbit', 100.0, 'Gbit/s between machines, of each'),
            ('image-mb', 3.0, 'MB of a file'), ('decode-ms', 65.0, 'ms of a core for a file'),
            ('disk-gb', 1.0, 'GB/s for checkpoints')):
        parser.add_argument(f'--{name}', type=float, default=default, help=f'{what} (default: {default:g})')
    parser.add_argument('--cores', type=whole(1), default=64, metavar='N', help='of a machine (default: 64)')
    parser.add_argument('--val-images', type=whole(1), default=1000, metavar='N', help='default: 1000')
    parser.add_argument('--growth', action='store_true',
                        help='also print how the cost grows with pixels, batch and GPUs')
    parser.add_argument('--measure', action='store_true',
                        help='also time turns of the config and the order of a dataset on this processor')
    add_import_argument(parser)
    options = parser.parse_args(arguments)

    from wfvae_toolkit.analysis import plan
    from wfvae_toolkit.analysis.memory import Forecaster
    from wfvae_toolkit.utils.config import load_config
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    gpu = plan.find_gpu(options.gpu)
    rates = plan.Rates(options.matrix_share, options.memory_share, options.link_share, options.network_gbit * 1e9 / 8,
                       options.image_mb * 1e6, options.decode_ms / 1e3, options.cores, options.val_images,
                       options.disk_gb * 1e9)
    cfg = load_config(options.config, options.cfg_options)
    forecaster = Forecaster(cfg, options.gpus)
    hours = 0
    for number, stage in enumerate(forecaster.stages):
        made = plan.make_plan(cfg, forecaster, options.gpus, options.gpus_per_machine, gpu, rates, number)
        hours += made.hours
        name = options.config if len(forecaster.stages) == 1 else f'{options.config} from iteration {stage.start_iter}'
        print('\n'.join(plan.describe_plan(made, name, options.gpu, gpu, rates)), flush=True)
    if len(forecaster.stages) > 1:
        print(f'all stages: {hours:,.0f} hours, {hours * options.gpus:,.0f} GPU hours')
    for wanted, lines in ((options.growth, plan.growth(cfg, forecaster, gpu, rates)),
                          (options.measure, plan.measured_growth(cfg))):
        if wanted:
            print()
            for line in lines:
                print(line, flush=True)


if __name__ == '__main__':
    main()
