"""Errors that are one line and an exit code, and those that keep their traceback."""

import os
import subprocess
import sys

import pytest

from cvpack.errors import InputError, exits_cleanly


def test_input_errors_are_one_line(capsys):
    @exits_cleanly
    def main():
        raise InputError('a.json is not json: get it again')

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: a.json is not json: get it again\n'


LOST = """
import threading, time
from cvpack.errors import PeerLost, exits_cleanly

@exits_cleanly
def main():
    threading.Thread(target=time.sleep, args=(60,)).start()
    print('so far')
    raise PeerLost('another process died')

main()
"""


def test_nothing_is_waited_for_once_another_process_is_lost():
    """As a GPU's driver does wait for a collective that never ends, here a thread."""
    process = subprocess.run([sys.executable, '-c', LOST], capture_output=True, text=True, timeout=30)
    assert process.returncode == 4
    assert (process.stdout, process.stderr) == ('so far\n', 'error: another process died\n')


@pytest.mark.parametrize(('what', 'seconds', 'exit_code'), [('PeerLost', 60, 4), ('InputError', 0, 2)])
def test_the_exit_code_needs_no_console(what, seconds, exit_code):
    """As behind a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    code = LOST.replace('PeerLost', what).replace('60', str(seconds)).replace("    print('so far')\n", '')
    process = subprocess.Popen([sys.executable, '-c', code], stderr=writer)
    os.close(writer)
    assert process.wait(30) == exit_code


@pytest.mark.parametrize('name', ['n' * 300, 'loop'])
def test_paths_that_cannot_be_looked_at_are_one_line(capsys, tmp_path, name):
    (tmp_path / 'loop').symlink_to('loop')

    with pytest.raises(SystemExit) as stop:
        exits_cleanly(lambda: (tmp_path / name).stat())()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith(f'error: {tmp_path}') and error.count('\n') == 1
    assert error.endswith('): name another path\n') and len(error) < 400


def test_errors_of_other_files_keep_their_traceback():
    @exits_cleanly
    def main():
        raise OSError(5, 'Input/output error', 'a.json')

    with pytest.raises(OSError, match='Input/output'):
        main()


def test_bugs_keep_their_traceback():
    @exits_cleanly
    def main():
        raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug'):
        main()
