"""``make gpu``: tests and benchmark of a machine with a GPU: ``python -m tests.gpu [--minutes N] [--out DIR]``.

The parts run one after the other, each in processes of its own. What does not fit into the minutes is left out and
named. Status 1: a part failed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
GRACE_S = 15  # that a part may take after its deadline, to write what it has


def main(arguments=None):
    parser = argparse.ArgumentParser(prog='python -m tests.gpu', description='Tests and benchmark on a GPU.')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda', help='cpu: the same parts, small')
    parser.add_argument('--minutes', type=float, default=10, help='for all parts together (default: 10)')
    parser.add_argument('--out', default='work_dirs/gpu', metavar='DIR', help='for results and logs')
    parser.add_argument('--parts', nargs='+', choices=('benchmark', 'tests', 'more'), metavar='PART',
                        default=['benchmark', 'tests', 'more'],
                        help='benchmark (1024 px, eager), tests, more (the other sizes, compiled); in this order')
    options = parser.parse_args(arguments)
    out = Path(options.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    end = time.time() + 60 * options.minutes
    # Until when each part may take, as a share of the whole.
    shares = {'benchmark': 0.4, 'tests': 0.75, 'more': 1.0}
    results = []
    for part in options.parts:
        share = 1.0 if part == options.parts[-1] else shares[part]
        deadline = end - 60 * options.minutes * (1 - share) - GRACE_S
        print(f'gpu: {part}, at most {max(0, deadline - time.time()):.0f} s', flush=True)
        start = time.time()
        if start > deadline:
            results.append({'part': part, 'failed': [], 'left_out': ['all of it'], 'seconds': 0.0})
            continue
        run = run_tests if part == 'tests' else run_benchmark
        results.append({'part': part, **run(part, options.device, out, deadline), 'seconds': time.time() - start})
        _write(out, options, results)
    _write(out, options, results)
    print(report(results))
    return int(any(result['failed'] for result in results))


def _write(out, options, results):
    (out / 'gpu.json').write_text(json.dumps({'device': options.device, 'parts': results}, indent=2) + '\n')


def run_tests(part, device, out, deadline):
    """The tests marked gpu; {'failed': [...], 'left_out': [...], 'passed': int}."""
    environment = {'GPU_TESTS_DEADLINE': str(deadline), 'GPU_TESTS_DEVICE': device}
    # One GPU serves several processes: most of their time goes into their start and the comparison on the CPU.
    cores = os.cpu_count() or 1
    workers = max(1, min(6, cores // 2)) if device == 'cuda' else 0
    environment['OMP_NUM_THREADS'] = str(max(1, cores // max(1, workers))) if device == 'cuda' else '1'
    report = out / 'tests.xml'
    report.unlink(missing_ok=True)
    note = _run([sys.executable, '-m', 'pytest', 'tests/gpu', '-m', 'gpu', '-n', str(workers), '--dist', 'worksteal',
                 '-vv', '-rA', f'--junitxml={report}'], environment, device, out / 'tests.log', deadline)
    if not report.is_file():
        return {**_from_log(out / 'tests.log'), 'left_out': [f'what follows: {note or "pytest wrote no report"}']}
    found = {'failed': [], 'left_out': [], 'passed': 0}
    for case in ElementTree.parse(report).iter('testcase'):
        name = f'{case.get("classname", "").rpartition(".")[2]}::{case.get("name")}'
        wrong = next((case.find(kind) for kind in ('failure', 'error') if case.find(kind) is not None), None)
        if wrong is not None:
            found['failed'].append(f'{name}: {(wrong.get("message") or "").splitlines()[0][:300]}')
        elif case.find('skipped') is not None:
            found['left_out'].append(f'{name} ({case.find("skipped").get("message")})')
        else:
            found['passed'] += 1
    return found


def _from_log(log):
    """Tests that ended before pytest was killed, by its verbose lines."""
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    ended = re.compile(r'::\S+ (PASSED|FAILED|ERROR)|(PASSED|FAILED|ERROR) .*::')
    results = [line.split() for line in lines if ended.search(line)]
    found = {next(word for word in words if '::' in word): set(words) for words in results}
    failed = [f'{name}: see tests.log' for name, words in found.items() if words & {'FAILED', 'ERROR'}]
    return {'failed': failed or ([] if found else ['pytest: see tests.log']), 'passed': len(found) - len(failed)}


def run_benchmark(part, device, out, deadline):
    """Works of tests.gpu.measure; {'failed': [...], 'left_out': [...], 'rows': [...], ...}."""
    results = out / f'{part}.json'
    results.unlink(missing_ok=True)
    note = _run([sys.executable, '-m', 'tests.gpu.measure', part, '--device', device, '--deadline', str(deadline),
                 '--out', str(results)], {}, device, out / f'{part}.log', deadline)
    found = {'failed': [], 'left_out': [], 'rows': []}
    if results.is_file():
        found = json.loads(results.read_text(encoding='utf-8'))
    if note:
        found['failed'].append(f'{part}: {note}')
    return found


def _run(command, environment, device, log, deadline):
    """Run until the deadline; None, or what went wrong. The output goes to ``log``."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    environment = {**os.environ, 'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1', **environment}
    if device == 'cpu':
        environment['CUDA_VISIBLE_DEVICES'] = ''
    with open(log, 'w', encoding='utf-8') as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            status = process.wait(deadline - time.time() + GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            return f'killed {GRACE_S} s after its deadline; {_last_line(log)}'
    return None if status in (0, 1) else f'status {status}; {_last_line(log)}'


def _last_line(log):
    lines = log.read_text(encoding='utf-8', errors='replace').split('\n')
    return next((line for line in reversed(lines) if line.strip()), 'no output')[:300]


def report(results):
    """Results of the parts -> Markdown."""
    lines = []
    rows = [row for result in results for row in result.get('rows', [])]
    if rows:
        lines += ['', '| px x batch | mode | work | model | ms | images/s | time / ours | limit / time | peak GiB |',
                  '| --- | --- | --- | --- | --- | --- | --- | --- | --- |']
        lines += [f'| {row["size"]} x {row["batch"]} | {row["mode"]} | {row["work"]} | {row["model"]} | '
                  f'{1e3 * row["seconds"]:.1f} | {row["images_per_second"]:.1f} | {row["times_first"]:.2f} | '
                  f'{_cell(row["limit_ratio"], 1)} | {_cell(row["peak_bytes"], 2**30)} |' for row in rows]
    for result in results:
        lines += ['', f'{result["part"]}: {result["seconds"]:.0f} s'
                  + (f', {result["passed"]} tests passed' if 'passed' in result else '')
                  + f', {len(result["failed"])} failed, {len(result["left_out"])} left out']
        lines += [f'  goal {goal}' for goal in result.get('goals', [])]
        lines += [f'  FAILED {name}' for name in result['failed']]
        lines += [f'  left out: {", ".join(result["left_out"])}'] if result['left_out'] else []
    return '\n'.join(lines)


def _cell(value, unit):
    return '' if value is None else f'{value / unit:.2f}'


if __name__ == '__main__':
    sys.exit(main())
