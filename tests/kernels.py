"""Run the numeric tests with every kind of kernel that this processor has: ``python -m tests.kernels``.

Three things choose the kernel of an operation, and with it the order of its sums: the instructions that torch itself
uses (ATEN_CPU_CAPABILITY), those that oneDNN's convolutions use (ONEDNN_MAX_CPU_ISA), and the number of threads. Every
value of the second meets every number of threads; the values of the first take turns.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Where tests compare numbers of networks. What needs no other kernel, and what is slow, runs in `make test`.
TESTS = ('models', 'losses', 'inference', 'evaluation', 'checkpoints', 'training/test_model.py',
         'training/test_objective.py', 'training/test_passes.py', 'training/test_train_step.py',
         'training/test_balance.py', 'training/test_starting.py', 'training/test_optimizers.py',
         'training/test_rows_with_autoencoder.py', 'analysis/benchmark/test_plain.py', 'hooks')
# These start processes, in which torch takes no more threads than there are cores.
STARTING = ('training/test_distributed.py', 'tools/test_resume.py', 'tools/test_latents.py',
            'tools/test_reconstruct.py')
# Name -> what the processor must have, lowest first.
ATEN = {'default': (), 'avx2': ('avx2', 'fma'), 'avx512': ('avx512f', 'avx512vl', 'avx512bw', 'avx512dq', 'fma')}
ONEDNN = {'SSE41': ('sse4_1',), 'AVX2': ('avx2',), 'AVX512_CORE': ('avx512f', 'avx512vl', 'avx512bw', 'avx512dq'),
          'AVX512_CORE_AMX': ('amx_tile', 'amx_bf16')}
THREADS = (1, 2, 4)
# Prints what torch uses, and oneDNN's own line about a convolution.
PROBE = '''
import os, torch
torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
print(torch.backends.cpu.get_cpu_capability().lower(), torch.get_num_threads())
with torch.no_grad(), torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
    torch.nn.Conv2d(16, 16, 3)(torch.ones(4, 16, 64, 64))
'''


def flags():
    """Names of this processor's instruction sets, as Linux has them."""
    return set(re.search(r'^flags\s*:(.*)$', Path('/proc/cpuinfo').read_text(encoding='utf-8'), re.M)[1].split())


def split(levels, have):
    """Names that a processor with the flags ``have`` can run, and the others."""
    able = [name for name, needs in levels.items() if have.issuperset(needs)]
    return able, [name for name in levels if name not in able]


def combinations(aten, onednn, threads=THREADS):
    """(aten, onednn, threads): each pair of the last two once, the first in turn."""
    return [(aten[(row + column) % len(aten)], isa, count)
            for row, isa in enumerate(onednn) for column, count in enumerate(threads)]


def environment(aten, onednn, threads):
    return {**os.environ, 'ATEN_CPU_CAPABILITY': aten, 'ONEDNN_MAX_CPU_ISA': onednn, 'OMP_NUM_THREADS': str(threads),
            # Threads without a core of their own wait asleep.
            'OMP_WAIT_POLICY': 'PASSIVE'}


def probe(aten, onednn, threads):
    """Raise a RuntimeError if torch or oneDNN takes no notice of its setting."""
    said = subprocess.run([sys.executable, '-c', PROBE], env=environment(aten, onednn, threads), capture_output=True,
                          text=True, check=True).stdout
    convolution = re.search(r'exec,cpu,convolution,[^,]*', said)
    used = convolution[0].partition('convolution,')[2] if convolution else 'none'
    wanted = onednn.removesuffix('_AMX').lower()  # AMX has no float32
    if not said.startswith(f'{aten} {threads}\n') or wanted not in used:
        raise RuntimeError(f'asked for {aten}, {onednn}, {threads} threads; torch says {said.splitlines()[0]}, '
                           f'oneDNN {used}')


def run(aten, onednn, threads, arguments):
    """True if the numeric tests pass with these kernels; prints a line, and pytest's end where they do not."""
    probe(aten, onednn, threads)
    start = time.monotonic()
    cores = len(os.sched_getaffinity(0))
    workers = max(1, cores // threads)
    tests = TESTS if threads > cores else TESTS + STARTING
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '--disable-warnings', '-n', str(workers), '--dist', 'loadfile',
         '-m', 'not slow and not gpu', *arguments, *(f'tests/{name}' for name in tests)],
        cwd=ROOT, env=environment(aten, onednn, threads), capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines() or done.stderr.splitlines()
    print(f'kernels: ATEN_CPU_CAPABILITY={aten} ONEDNN_MAX_CPU_ISA={onednn} OMP_NUM_THREADS={threads}: {lines[-1]} '
          f'({time.monotonic() - start:.0f} s)', flush=True)
    if done.returncode:
        print('\n'.join(lines[-60:]), flush=True)
    return done.returncode == 0


def main(arguments):
    """Arguments go to pytest. Status 1 if a combination fails."""
    have = flags()
    (aten, no_aten), (onednn, no_onednn) = split(ATEN, have), split(ONEDNN, have)
    runs = combinations(aten, onednn)
    failed = [' '.join(map(str, one)) for one in runs if not run(*one, arguments)]
    few = [f'{", ".join(STARTING)} with {count} threads' for count in THREADS if count > len(os.sched_getaffinity(0))]
    missing = [*(f'ATEN_CPU_CAPABILITY={name}' for name in no_aten),
               *(f'ONEDNN_MAX_CPU_ISA={name}' for name in no_onednn), *few]
    cannot = f'this processor could not run {", ".join(missing)}' if missing else 'this processor runs every kind'
    print(f'kernels: {len(runs) - len(failed)} of {len(runs)} combinations passed; {cannot}')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
