"Studies that four workers share, one of them killed in a trial, on a file and on a real PostgreSQL server."

import getpass
import os
import shutil
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

import optuna
import pytest
from processes import HANGS, Started

TRIALS = 20


def work(folder: str, pause: float, stops: bool):
    "One worker at the study; it may stop in trial 7, and stay there."
    from soundclf.core.studies import open_study, run_study, trial_index

    def objective(trial):
        x = trial.suggest_float('x', 0, 1)
        kind = trial.suggest_categorical('kind', ['a', 'b'])
        for step in range(6):
            trial.report(x * step, step)
            time.sleep(pause)
            if stops and trial_index(trial) == 7:
                print('in trial 7', flush=True)
                time.sleep(HANGS)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x + (kind == 'a')

    study = open_study('shared', folder, warmup=1)
    print('at work', flush=True)
    run_study(study, objective, TRIALS, n_jobs=1)


def start(folder, pause=0.05, stops=False) -> Started:
    return Started(work, str(folder), pause, stops)


def found(folder) -> list:
    "Index, value, end and parameters of every finished trial."
    from soundclf.core.studies import finished_trials, open_study

    study = open_study('shared', folder, warmup=1)
    finished = [t for t in study.trials if t.state.name in ('COMPLETE', 'PRUNED')]
    indices = [t.user_attrs['index'] for t in finished]
    assert sorted(indices) == list(range(TRIALS)), 'a trial is missing, or was done twice'
    return [(i, t.value, t.state.name, t.params) for i, t in finished_trials(study).items()]


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    "What one worker finds, on a file."
    folder = tmp_path_factory.mktemp('alone')
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('SOUNDCLF_STORAGE', raising=False)
        code, _, err = start(folder, 0.0).end()
        assert code == 0, err
        return found(folder)


def share(folder, meanwhile=None):
    "Four workers at one study; the first is killed in trial 7, while the others are at work."
    first = start(folder, 0.02, stops=True)
    assert [first.line() for _ in range(2)] == ['at work\n', 'in trial 7\n']
    others = [start(folder) for _ in range(3)]
    assert [worker.line() for worker in others] == ['at work\n'] * 3
    time.sleep(0.3)
    first.kill()
    if meanwhile:
        meanwhile()
    for worker in others:
        code, _, err = worker.end()
        assert code == 0, err


def test_four_workers_share_a_file(tmp_path, alone):
    share(tmp_path / 'shared')
    assert found(tmp_path / 'shared') == alone
    assert {'COMPLETE', 'PRUNED'} == {end for _, _, end, _ in alone}


def postgres_folder() -> Path:
    "The folder of PostgreSQL's programs, which are installed where that is possible."
    pytest.importorskip('psycopg')

    def programs():
        return sorted(Path('/usr/lib/postgresql').glob('*/bin/initdb'))

    if initdb := shutil.which('initdb'):
        return Path(initdb).parent
    if not programs() and shutil.which('apt-get') and os.geteuid() == 0:
        for words in (['update', '-q'], ['install', '-y', '-q', 'postgresql']):
            subprocess.run(['apt-get', *words], capture_output=True, timeout=HANGS)
    if not programs():
        pytest.skip('no PostgreSQL here, and it cannot be installed: install it to run this test')
    return programs()[-1].parent


@pytest.fixture
def server(tmp_path):
    "A PostgreSQL server of its own, as an ordinary user: (address, a function that stops and starts it)."
    programs = postgres_folder()
    user = 'postgres' if os.geteuid() == 0 else getpass.getuser()
    data = Path(f'/tmp/pg-{os.getpid()}')
    data.mkdir()
    shutil.chown(data, user)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]

    def run(program, *words):
        done = subprocess.run(
            [str(programs / program), *words], user=user, cwd='/tmp', stdout=subprocess.DEVNULL, timeout=HANGS
        )
        assert done.returncode == 0

    run('initdb', '-D', str(data / 'db'), '-A', 'trust', '-U', 'me', '--no-sync')
    options = f'-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data}'
    control = ['-D', str(data / 'db'), '-w', '-o', options, '-l', str(data / 'log')]
    run('pg_ctl', *control, 'start')
    yield f'postgresql://me@127.0.0.1:{port}/postgres', partial(run, 'pg_ctl', *control, '-m', 'fast')
    run('pg_ctl', '-D', str(data / 'db'), '-m', 'immediate', 'stop')
    shutil.rmtree(data)


def test_four_workers_share_a_database(tmp_path, alone, server, monkeypatch):
    address, control = server
    monkeypatch.setenv('SOUNDCLF_STORAGE', address)

    share(tmp_path / 'unused', partial(control, 'restart'))
    assert found(tmp_path / 'unused') == alone
    assert not (tmp_path / 'unused').exists()


def test_a_study_is_opened_while_the_server_starts(tmp_path, alone, server, monkeypatch):
    address, control = server
    monkeypatch.setenv('SOUNDCLF_STORAGE', address)
    control('stop')
    worker = start(tmp_path / 'unused', 0.0)
    time.sleep(2)  # it finds no server
    control('start')
    code, _, err = worker.end()
    assert code == 0, err
    assert found(tmp_path / 'unused') == alone


def test_a_torn_last_line_is_cut_off_and_its_trial_done_again(tmp_path, alone, monkeypatch):
    monkeypatch.delenv('SOUNDCLF_STORAGE', raising=False)

    def finish():
        code, _, err = start(tmp_path, 0.0).end()
        assert code == 0, err
        assert found(tmp_path) == alone

    finish()
    journal = tmp_path / 'shared.journal'
    lines = journal.read_bytes().splitlines(keepends=True)
    half = len(lines) // 2
    journal.write_bytes(b''.join(lines[:half]) + lines[half][:20])
    finish()
