"""Speed, memory and share of the limit: ``python tools/analysis_tools/benchmark.py [--works ...] [--models ...]``."""

import argparse

from wfvae_toolkit.utils.options import add_import_argument, friendly_errors


@friendly_errors()
def main(arguments=None):
    parser = argparse.ArgumentParser(
        description='Measure the time of several kinds of work of several models, in turns. A ratio compares times of '
                    'one call.')
    parser.add_argument('--config', default='wfvae_toolkit::wfvae2_1024.py', help='config of the models "ours" and '
                        '"plain"')
    parser.add_argument('--works', nargs='+', default=['encode', 'decode', 'forward'], metavar='WORK',
                        help='encode decode forward validation autoencoder_turn discriminator_turn both_turns data '
                             'evaluation')
    parser.add_argument('--models', nargs='+', default=['ours', 'plain', 'AutoencoderKL'], metavar='MODEL',
                        help='ours, plain, joint, checkpointed, AutoencoderKL, AutoencoderTiny, '
                             'AutoencoderDC or a trained model; ours@bf16')
    parser.add_argument('--size', type=int, default=256, metavar='PX')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--precision', choices=['fp32', 'bf16', 'fp16'], default='fp32')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--compile', action='store_true', help='encoders and decoders through torch.compile')
    parser.add_argument('--threads', type=int, help='CPU threads (default: all)')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--no-memory', action='store_true', help='do not measure peak memory')
    parser.add_argument('--no-limit', action='store_true', help='do not measure the limit of the machine')
    parser.add_argument('--json', metavar='FILE', help='also write the rows to this file')
    add_import_argument(parser)
    options = parser.parse_args(arguments)

    import torch

    from wfvae_toolkit.analysis.benchmark import WORKS, Bench, format_rows, run_benchmark, to_json
    from wfvae_toolkit.utils.config import load_config
    from wfvae_toolkit.utils.errors import SettingError
    from wfvae_toolkit.utils.files import atomic_write
    from wfvae_toolkit.utils.plugins import import_modules

    import_modules(options.imports)
    unknown = set(options.works) - set(WORKS)
    if unknown:
        raise SettingError(f'--works {sorted(unknown)[0]}: use some of {", ".join(WORKS)}')
    if options.threads:
        torch.set_num_threads(options.threads)
    bench = Bench(load_config(options.config).model.to_dict(), options.size, options.batch, options.precision,
                  torch.device(options.device), options.compile, tuple(options.imports))
    print(f'{options.size} px, batch {options.batch}, {options.precision}, {options.device}, '
          f'torch {torch.__version__}, {torch.get_num_threads()} threads, {options.rounds} rounds')
    rows = run_benchmark(bench, options.works, options.models, options.rounds, not options.no_memory,
                         not options.no_limit, report=lambda row: print(f'{row.work} {row.model}: {row.seconds:.3f} s'))
    print('\n' + format_rows(rows))
    if options.json:
        with atomic_write(options.json, 'w') as file:
            file.write(to_json(rows))


if __name__ == '__main__':
    main()
