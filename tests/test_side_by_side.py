"""What a notebook defines works in the processes that it starts, and gives the same digits as in one.

A class of a notebook travels by value. So does what it names, and an exception of a library that travels by
value is another class over there. Who waits for the whole machine is not passed over."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import HANGS

from soundclf.core import jobs

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import json, os, re, sys, tempfile
root = sys.argv[1]
for cell in json.load(open(f'{root}/nbs/04_fastai_transfer.ipynb'))['cells']:
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'code' and source.startswith('#| export'):
        exec(source)  # the definitions are those of __main__, as in a notebook

from soundclf.core.esc50 import synthetic
from soundclf.core.runs import weight_hashes
from soundclf.core.splits import fold_splits

small = TransferRecipe('squeezenet1_1', pretrained=False, epochs=1, freeze_epochs=1, scale=1.0)
tiny = synthetic(per_fold=2)
tiny = tiny[tiny.label.isin(['bell', 'noise', 'tone'])].reset_index(drop=True)
assert fine_tune_split.__module__ == '__main__'
found = []
for jobs in ('1', '2'):
    os.environ['SOUNDCLF_JOBS'] = jobs
    _, runs = compare_transfers(tiny, fold_splits(tiny)[:2], {'': small}, tempfile.mkdtemp(), 42)['']
    found.append(weight_hashes(runs))
print('digits', json.dumps(found))
"""


def digits(home: Path) -> list[list[str]]:
    "The hashes of two runs of chapter 4, whose definitions belong to a script: in one process, and in two."
    (home / 'script.py').write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, home / 'script.py', ROOT],
        env=os.environ | {'SOUNDCLF_DATA': str(home), 'SOUNDCLF_QUIET': '1'},
        capture_output=True,
        text=True,
        timeout=6 * HANGS,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.split('digits ')[-1])


def test_callbacks_of_a_notebook_work_in_other_processes_with_the_same_digits(tmp_path):
    alone, side_by_side = digits(tmp_path)
    assert len(set(alone)) == 2
    assert side_by_side == alone


# ---- cores that chapters share ----

WAITER = """
from soundclf.core.jobs import whole_machine
with whole_machine():
    print('has it', flush=True)
"""


@pytest.fixture
def two_cores(tmp_path, monkeypatch):
    "The lock files of two cores."
    monkeypatch.setenv('SOUNDCLF_CORES', str(tmp_path))
    monkeypatch.setenv('SOUNDCLF_JOBS', '2')
    return jobs._slots(2)


def wait_until(is_so, seconds=HANGS):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, 'this takes too long'
        time.sleep(0.02)


def test_who_waits_for_the_whole_machine_comes_before_later_runs(two_cores):
    began, over, had = [], threading.Event(), []

    def chapter():
        while not over.is_set():
            with jobs._one_core(two_cores):
                began.append(time.monotonic())
                time.sleep(0.2)

    def measure():
        with jobs.whole_machine():
            had.append((time.monotonic(), len(began)))
            time.sleep(0.5)
            had.append((time.monotonic(), len(began)))

    chapters = [threading.Thread(target=chapter) for _ in range(4)]
    for thread in chapters:
        thread.start()
    wait_until(lambda: len(began) >= 4)
    before, measurement = len(began), threading.Thread(target=measure)
    measurement.start()
    measurement.join(HANGS)
    over.set()
    for thread in [*chapters, measurement]:
        thread.join(HANGS)
    assert had and had[0][1] - before <= 2, 'later runs were given cores first'
    assert had[1][1] == had[0][1], 'a run began while the machine was held'


def test_a_killed_waiter_holds_nothing(two_cores):
    with jobs._one_core(two_cores):
        waiter = subprocess.Popen([sys.executable, '-c', WAITER], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: not jobs._is_free(*jobs._ticket(two_cores)))
        os.kill(waiter.pid, signal.SIGKILL)
        assert waiter.communicate(timeout=HANGS)[0] == ''
        taken = threading.Event()

        def other_chapter():
            with jobs._one_core(two_cores):
                taken.set()

        thread = threading.Thread(target=other_chapter, daemon=True)
        thread.start()
        assert taken.wait(HANGS)
        thread.join(HANGS)
    with jobs.whole_machine():
        assert not any(map(jobs._is_free, two_cores))
