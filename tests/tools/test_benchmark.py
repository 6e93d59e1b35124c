"""The benchmark: its arithmetic, and that the command prints a row for each thing. What it times is not tested."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from cvpack.files import read_json
from lib.config import REPOSITORY
from lib.tools.benchmark import network
from lib.tools.benchmark.__main__ import DEFAULT, main
from lib.tools.benchmark.measure import Row, compare, one_thread, take_turns

KEYS = {'section', 'name', 'value', 'against', 'ratio', 'reach', 'met'}


def fail(capsys, *arguments) -> str:
    """Runs a command line that cannot work; returns what it says on stderr."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_rows():
    assert compare('data', 'x', 3, 2).ratio == 1.5
    assert compare('data', 'x', 3, 2).met is None
    assert compare('data', 'x', 3, 2, '<= 1.5').met is True
    assert compare('data', 'x', 3, 2, '<= 1.4').met is False
    assert compare('data', 'x', 3, 2, '>= 1.6').met is False
    assert Row('data', 'x', 0.15, reach='<= 0.16').met is True
    assert Row('data', 'x', reach='<= 0.16').met is None


def test_functions_take_turns(monkeypatch):
    now, order = [0.0], []
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])

    def make(name, durations):
        durations = iter(durations)

        def function():
            order.append(name)
            now[0] += next(durations)

        return function

    medians = take_turns(3, make('a', [100, 1, 9, 2]), make('b', [100, 5, 4, 30]))
    assert ''.join(order) == 'abababab'
    assert medians == [2, 5]  # the first turn warms up
    assert take_turns(1, make('a', [100, 50, 9]), warm_up=2) == [9]


def test_one_thread_gives_the_threads_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['date'], 'date is none of data, targets'),
        (['gpu', '--minutes', 'nan'], 'nan is not a number of minutes above 0'),
        (['targets', '--repeats', '0'], 'argument --repeats: 0 is not'),
        (['data', '--root', 'nowhere'], 'nowhere has no data set in the published layout: prepare COCO'),
        (['targets', '--json', __file__ + '/rows.json'], 'rows.json cannot be written ('),
    ],
)
def test_refusals(capsys, arguments, message):
    assert message in fail(capsys, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_no_gpu(capsys):
    assert 'this machine has no CUDA device' in fail(capsys, 'step', '--device', 'cuda')
    assert 'section gpu: there is no CUDA device' in fail(capsys, 'gpu')


def test_a_few_sections(capsys, tmp_path):
    main(['targets', 'decode', '--repeats', '1', '--json', str(tmp_path / 'rows.json')])
    rows = read_json(tmp_path / 'rows.json')
    assert [row['section'] for row in rows] == ['targets', 'decode']
    printed = capsys.readouterr().out
    for row in rows:
        assert row.keys() == KEYS
        assert row['ratio'] == pytest.approx(row['value'] / row['against'])
        assert row['met'] == (row['ratio'] <= float(row['reach'].removeprefix('<= ')))
        assert f'{row["name"]}' in printed


class Slow:
    """Options whose process takes its time, once it has measured, before it waits for more work."""

    def __del__(self) -> None:
        time.sleep(1)


def measure_nothing(options: Slow, efficient: bool) -> float:
    return 1.5


@pytest.mark.timeout(100)
def test_memory_is_measured_where_sigterm_is_ignored(monkeypatch):
    """Child processes inherit that, and a Pool that ends one by SIGTERM before it waits for work waits forever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    monkeypatch.setattr(network, '_run_and_measure', measure_nothing)
    assert network._peak_memory(Slow(), True) == 1.5


@pytest.mark.slow
def test_all_sections(synthetic_coco, tmp_path):
    """The command as a user runs it. Slow: it trains the full-size network and starts a dozen processes."""
    file = tmp_path / 'rows.json'
    options = {'--repeats': 1, '--stages': 1, '--batch': 2, '--device': 'cpu', '--root': synthetic_coco, '--json': file}
    arguments = [str(part) for option in options.items() for part in option]
    process = subprocess.run(
        [sys.executable, '-m', 'lib.tools.benchmark', *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    rows = json.loads(file.read_text())
    assert list(dict.fromkeys(row['section'] for row in rows)) == [section.__name__ for section in DEFAULT]
    assert all(row.keys() == KEYS for row in rows)
    by_name = {row['name']: row for row in rows}
    # What does not depend on the machine's mood.
    assert by_name['a sample from worker to trainer, MB']['value'] == pytest.approx((256 * 192 * 3 + 17 * 3 * 4) / 1e6)
    memory = next(row for name, row in by_name.items() if 'RUN_EFFICIENT' in name)
    assert memory['ratio'] < 0.8
