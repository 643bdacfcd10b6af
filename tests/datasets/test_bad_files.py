import json
import multiprocessing

import pytest

from wfvae_toolkit.datasets import BadFile, BadFileLog, TooManyBadFiles


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_path_is_written_once(tmp_path):
    path = tmp_path / 'run' / 'bad_files.jsonl'
    log = BadFileLog(path, limit=10)
    log.add([])
    assert not path.exists()
    log.add([BadFile('a.jpg', 'zero bytes'), BadFile('a.jpg', 'zero bytes')])
    log.add(iter([BadFile('a.jpg', 'other'), BadFile('b "ü"\n.jpg', 'missing')]))
    assert lines(path) == [{'path': 'a.jpg', 'reason': 'zero bytes'}, {'path': 'b "ü"\n.jpg', 'reason': 'missing'}]
    assert len(log) == 2


def test_names_that_are_not_utf8(tmp_path):
    log = BadFileLog(tmp_path / 'log', limit=1)
    log.add([BadFile('\udcff.jpg', 'missing')])
    BadFileLog(tmp_path / 'log', limit=1).add([BadFile('\udcff.jpg', 'missing')])
    assert [line['path'] for line in lines(tmp_path / 'log')] == ['\udcff.jpg']


def test_a_resumed_run_goes_on_counting(tmp_path):
    path = tmp_path / 'log'
    BadFileLog(path, limit=2).add([BadFile('a', 'x'), BadFile('b', 'x')])
    log = BadFileLog(path, limit=2)
    assert len(log) == 2
    log.add([BadFile('b', 'x')])
    with pytest.raises(TooManyBadFiles):
        log.add([BadFile('c', 'x')])
    assert [line['path'] for line in lines(path)] == ['a', 'b', 'c']


def test_the_limit_says_what_to_do(tmp_path):
    log = BadFileLog(tmp_path / 'log', limit=1, total=50, option='train_cfg.max_bad_files')
    log.add([BadFile('a', 'x')])
    with pytest.raises(TooManyBadFiles) as caught:
        log.add([BadFile('b', 'zero bytes')])
    for part in ('2 of 50', '1 are accepted', 'b (zero bytes)', str(tmp_path / 'log'), 'train_cfg.max_bad_files'):
        assert part in str(caught.value)


def test_a_torn_line_costs_only_itself(tmp_path):
    path = tmp_path / 'log'
    path.write_text('{"path": "a", "reason": "x"}\n{"path": "b", "rea')
    log = BadFileLog(path, limit=9)
    assert len(log) == 1
    log.add([BadFile('b', 'x')])
    assert json.loads(path.read_text().splitlines()[-1]) == {'path': 'b', 'reason': 'x'}
    assert len(BadFileLog(path, limit=9)) == 2


def test_a_split_has_a_log_of_its_own_in_the_same_file(tmp_path):
    path = tmp_path / 'log'
    training, validation = BadFileLog(path, limit=1), BadFileLog(path, limit=9, split='val')
    training.add([BadFile('0.png', 'x')])
    validation.add([BadFile('0.png', 'y'), BadFile('1.png', 'y')])
    training.add([BadFile('0.png', 'x')])
    assert lines(path) == [{'path': '0.png', 'reason': 'x'}, {'path': '0.png', 'reason': 'y', 'split': 'val'},
                           {'path': '1.png', 'reason': 'y', 'split': 'val'}]
    assert (len(training), len(BadFileLog(path, limit=1)), len(BadFileLog(path, limit=9, split='val'))) == (1, 1, 2)


def test_news_are_told_once_whoever_wrote_them(tmp_path):
    path = tmp_path / 'log'
    BadFileLog(path, limit=9).add([BadFile('old', 'x')])
    mine, other = BadFileLog(path, limit=9), BadFileLog(path, limit=9)
    mine.add([BadFile('a', 'x'), BadFile('old', 'x')])
    other.add([BadFile('b', 'y'), BadFile('a', 'z')])
    assert mine.news() == [BadFile('a', 'x'), BadFile('b', 'y')]
    assert mine.news() == []


def append(path, start):
    log = BadFileLog(path, limit=1000)
    for number in range(start, start + 150):
        log.add([BadFile(f'{number:04d}.jpg', 'x' * 200)])


def test_two_processes_share_a_log(tmp_path):
    path = tmp_path / 'log'
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=append, args=(path, start)) for start in (0, 75)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(line['path'] for line in lines(path)) == [f'{number:04d}.jpg' for number in range(225)]


def test_what_others_found_counts(tmp_path):
    mine, other = BadFileLog(tmp_path / 'log', limit=1), BadFileLog(tmp_path / 'log', limit=1)
    other.add([BadFile('a', 'x')])
    with pytest.raises(TooManyBadFiles):
        mine.add([BadFile('b', 'x')])
