"The log of a server: what predict logs, one sentence for a disk in trouble, and nothing lost at the end."

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import soundfile as sf
from fastapi.testclient import TestClient

from soundclf.core.files import SoundclfError
from soundclf.tools.answer_log import AnswerLog, answered_by, log_row, read_log
from soundclf.tools.answers import Prediction
from soundclf.tools.commands import run
from soundclf.tools.models import package_models
from soundclf.tools.rows import answer_row
from soundclf.tools.serve import make_app
from soundclf.tools.serve_answers import Server, Settings
from soundclf.tools.serve_log import ServedLog, Source

ROOT = Path(__file__).resolve().parent.parent
MODEL = package_models() / 'scratch'
ANSWER = Prediction('dog', 0.7, {'cat': 0.3, 'dog': 0.7}, 1, 'dog', '', 0.5, -20.0, (0.5,) * 16)


def noise(seconds: float, seed: int = 0, rate: int = 16000) -> bytes:
    "A wav file."
    out = io.BytesIO()
    wave = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))
    sf.write(out, wave, rate, format='WAV')
    return out.getvalue()


def serving(log: Path) -> TestClient:
    "A client of a server in this process."
    settings = Settings(workers=1, log=str(log))
    return TestClient(make_app(settings), base_url='http://localhost')


def post(client, *files, page: str = '/predict') -> httpx.Response:
    return client.post(page, files=[('file', file) for file in files])


def counter(text: str, name: str) -> float:
    return float(re.search(rf'^soundclf_{name} (\S+)', text, re.MULTILINE).group(1))


def test_the_log_is_that_of_predict(lone_home, tmp_path, capsys):
    sounds = {f'{i}.wav': noise(1 + 5 * (i % 2), seed=i) for i in range(10)}
    (tmp_path / 'sounds').mkdir()
    for name, data in sounds.items():
        (tmp_path / 'sounds' / name).write_bytes(data)
    assert run(['predict', str(tmp_path / 'sounds'), '--log', str(tmp_path / 'known')]) == 0
    with serving(tmp_path / 'log') as client:
        found = post(client, *sounds.items(), ('bad.wav', b'no sound'))
    assert found.status_code == 200
    known, served = read_log(tmp_path / 'known'), read_log(tmp_path / 'log')
    assert list(known) == list(served) and len(served) == 10
    known['source'] = known.source.str.split('/').str[-1]
    served['source'] = served.source.str.split(' ').str[0]
    known, served = (t.sort_values('source', ignore_index=True) for t in (known, served))
    same = ['model', 'weights', 'kind', 'source', 'label', 'best', 'note', 'rate', 'start', 'end']
    assert known[same].equals(served[same])
    for column in ('probability', 'unlike', 'level', 'summary'):
        pairs = (np.stack(t[column].map(np.atleast_1d)) for t in (known, served))
        np.testing.assert_allclose(*pairs, rtol=1e-3, atol=1e-5)
    assert run(['drift', str(tmp_path / 'log'), 'scratch', '--reference', str(tmp_path / 'known')]) == 0
    assert 'Nothing has changed' in capsys.readouterr().out
    assert {p.suffix for p in (tmp_path / 'log').iterdir()} == {'.parquet', ''}  # the report, and no audio


def test_names_of_callers_are_harmless_and_two_sounds_of_one_name_are_two(lone_home, tmp_path):
    names = ['../../etc/pass\x1b[31mwd.wav', 'x' * 2000 + '.wav', 'same.wav', 'same.wav', 'same.wav']
    sounds = [noise(0.5, seed) for seed in (0, 1, 2, 3, 3)]
    with serving(tmp_path) as client:
        found = post(client, *zip(names, sounds))
        assert found.status_code == 200
    table = read_log(tmp_path)
    assert table.source.nunique() == 4 and table.source.str.len().max() <= 220
    assert not table.source.str.contains(r'[/\\\x00-\x1f]', regex=True).any(), table.source.tolist()
    assert log_row(answer_row('\udcff.wav', ANSWER), (0, 1), 8000, {})['source'] == '?.wav'


def test_a_timeline_is_logged_window_by_window_but_never_much_more_than_its_sound(lone_home, tmp_path):
    sound = ('long.wav', noise(20))
    with serving(tmp_path) as client:
        assert post(client, sound, page='/timeline').status_code == 200
        assert post(client, sound, page='/timeline?hop=1&window=1').status_code == 200
    table = read_log(tmp_path)
    usual, dense = table[table.end - table.start > 4], table[table.end - table.start < 4]
    assert usual.start.tolist() == [0, 2.5, 5, 7.5, 10, 12.5, 15]
    assert dense.start.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert table.source.nunique() == 1


def test_a_folder_in_trouble_costs_no_answer_and_is_told_once(lone_home, tmp_path, capsys):
    folder, away = tmp_path / 'log', tmp_path / 'away'
    client = serving(folder)
    client.app.state.server.log.seconds = 0.05
    with client:
        folder.rename(away)
        folder.write_text('in the way')
        for seed in range(3):
            assert post(client, ('a.wav', noise(0.5, seed))).status_code == 200
            time.sleep(0.2)
        text = client.get('/metrics').text
        assert counter(text, 'answers_to_log') == 3 and counter(text, 'log_failures_total') > 1
        assert counter(text, 'logged_answers_total') == 0
        folder.unlink()
        away.rename(folder)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and 'cannot be written' in told[0] and 'written again; 0' in told[1], told
    assert len(read_log(folder)) == 3


def test_what_waits_has_a_limit_and_what_is_lost_is_counted(tmp_path, capsys):
    events = []
    served = ServedLog(tmp_path / 'log', MODEL, lambda *event: events.append(event), most=5)
    (tmp_path / 'log').rmdir()
    (tmp_path / 'log').write_text('in the way')
    for i in range(8):
        served.add(ANSWER, Source(f'{i}.wav', 1.0, 8000), (0, 1), answered_by(MODEL))
    assert served.waiting == 5 and served.lost == 3
    served.start()
    served.close()
    assert served.waiting == 0 and served.lost == 8 and sum(n for e, n in events if e == 'unlogged') == 8
    assert capsys.readouterr().err.count('cannot be written') == 1


def test_an_answer_that_no_file_can_hold_does_not_block_the_others(tmp_path, capsys):
    served = ServedLog(tmp_path, MODEL, seconds=0.05)
    by = answered_by(MODEL)
    served.start()
    served.add(ANSWER, Source('a.wav', 1.0, 2**40), (0, 1), by)
    while not served.lost:
        time.sleep(0.01)
    served.add(ANSWER, Source('b.wav', 1.0, 8000), (0, 1), by)
    served.close()
    assert read_log(tmp_path).source.tolist() == ['b.wav']
    assert 'cannot hold an answer' in capsys.readouterr().err


def add(served: ServedLog, name: str):
    served.add(ANSWER, Source(name, 1.0, 8000), (0, 1), answered_by(MODEL))


def test_what_comes_while_the_thread_writes_is_in_the_log(tmp_path, monkeypatch):
    served = ServedLog(tmp_path, MODEL, batch=1)
    writing, may_write, flush = threading.Event(), threading.Event(), served.log.flush

    def slow():
        if served.log.rows:
            writing.set()
            assert may_write.wait(60)
        flush()

    monkeypatch.setattr(served.log, 'flush', slow)
    served.start()
    add(served, 'first.wav')
    assert writing.wait(60)
    add(served, 'second.wav')
    closer = threading.Thread(target=served.close)
    closer.start()
    with served.changed:
        assert served.changed.wait_for(lambda: served.closed, 60)
    may_write.set()
    closer.join(60)
    assert read_log(tmp_path).source.tolist() == ['first.wav', 'second.wav'] and served.lost == 0


def test_a_thread_that_begins_after_the_end_writes_what_waits(tmp_path):
    served = ServedLog(tmp_path, MODEL)
    add(served, 'a.wav')
    served.closed = True  # as `close` does it, before the thread looks
    served.start()
    served.thread.join(60)
    assert read_log(tmp_path).source.tolist() == ['a.wav'] and served.waiting == 0


def test_answers_after_the_end_count_as_lost(tmp_path):
    events = []
    served = ServedLog(tmp_path, MODEL, lambda *event: events.append(event))
    served.start()
    add(served, 'a.wav')
    served.close()
    add(served, 'late.wav')
    assert (served.waiting, served.lost, events[-1]) == (0, 1, ('unlogged', 1))
    assert read_log(tmp_path).source.tolist() == ['a.wav']


def test_the_last_answers_of_the_workers_are_in_the_log(tmp_path, monkeypatch):
    server = Server(Settings(workers=1, log=str(tmp_path)))
    monkeypatch.setattr(server.pool, 'end', lambda: add(server.log, 'late.wav'))
    server.log.start()
    server.close()
    assert read_log(tmp_path).source.tolist() == ['late.wav'] and server.log.lost == 0


def test_a_folder_that_cannot_be_is_a_sentence_before_it_listens(tmp_path, capsys):
    (tmp_path / 'log').write_text('in the way')
    assert run(['serve', '--port', '0', '--log', str(tmp_path / 'log')]) == 1
    assert capsys.readouterr().err.count('\n') == 1


def test_large_files_are_left_alone_and_one_that_was_taken_away_is_no_trouble(tmp_path, monkeypatch):
    monkeypatch.setattr('soundclf.tools.answer_log._LARGE', 40)
    log = AnswerLog(tmp_path, MODEL, batch=2, seconds=1e6)
    for i in range(200):
        log.add(answer_row(f'{i}.wav', ANSWER), (0, 1), 8000)
    sizes = sorted(int(p.stem.split('_')[3]) - int(p.stem.split('_')[2]) for p in tmp_path.iterdir())
    assert sizes[-1] < 80 and len(read_log(tmp_path)) == 200
    log.parts[0].unlink()
    log.close()
    assert len(read_log(tmp_path)) in range(120, 200)
    with pytest.raises(SoundclfError, match='damaged'):
        next(tmp_path.iterdir()).write_bytes(b'no parquet')
        read_log(tmp_path)


@pytest.fixture
def server(tmp_path):
    "A server with a log in a process of its own, and its address."
    command = 'from soundclf.tools.commands import main\nif __name__ == "__main__": main()'
    words = ['serve', '--port', '0', '--workers', '1', '--log', str(tmp_path / 'log')]
    streams = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    with subprocess.Popen(
        [sys.executable, '-c', command, *words], start_new_session=True, env=environment, **streams
    ) as process:
        line = process.stdout.readline()
        assert 'Listening' in line, process.stderr.read()
        yield process, re.search(r'http://\S+', line).group()
        if process.poll() is None:
            process.kill()


def test_sigterm_to_all_processes_writes_the_log_and_kills_no_worker_early(server, tmp_path):
    process, address = server
    workers = [c for c in psutil.Process(process.pid).children() if 'spawn_main' in ' '.join(c.cmdline())]
    found = post(httpx.Client(base_url=address, timeout=300), *[(f'{i}.wav', noise(1, i)) for i in range(5)])
    assert found.status_code == 200
    os.killpg(process.pid, signal.SIGTERM)  # as a supervisor does it
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.splitlines() == ['Stopped. 1 requests were answered.']
    assert len(read_log(tmp_path / 'log')) == 5
    assert len(workers) == 1 and not workers[0].is_running()
