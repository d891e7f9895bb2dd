"What more cores make of `make reproduce`: the schedule, and the times that it is computed from."

import json
import os
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from soundclf.core.files import SoundclfError, read_json

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'scripts'))
import cores  # noqa: E402

BEGIN = 1_750_000_000  # seconds since 1970


def chapter(*steps, after=()):
    return {'after': list(after), 'steps': [list(step) for step in steps]}


def minutes_of(chapters, n, at_once=cores.MANY, workers=0, slower=lambda k: 1.0):
    spans = cores.Schedule(chapters, cores.Machine(n, workers), at_once, slower).run()
    return max(end for _, end in spans.values()) / 60


@pytest.mark.parametrize('n, minutes', [(1, 8), (2, 4), (3, 4), (4, 2), (64, 2)])
def test_runs_of_a_step_share_the_cores(n, minutes):
    assert minutes_of({'a': chapter(['runs', [120] * 4])}, n) == pytest.approx(minutes)


def test_steps_and_chapters_wait_for_each_other():
    chapters = {
        'a': chapter(['serial', 60], ['runs', [60, 120]], ['serial', 60]),
        'b': chapter(['serial', 180], after=['a']),
        'c': chapter(['runs', [60] * 4]),
    }
    assert minutes_of(chapters, 64) == pytest.approx(1 + 2 + 1 + 3)
    chain = cores.longest_chain(chapters)
    assert chain == {'chapters': ['a', 'b'], 'minutes': 7.0}
    assert minutes_of(chapters, 64, at_once=1) == pytest.approx(8)


def test_who_measures_is_alone_and_comes_before_later_runs():
    chapters = {
        'a': chapter(['runs', [60, 60]], ['runs', [60]]),
        'b': chapter(['serial', 30], ['alone', 60]),
    }
    spans = cores.Schedule(chapters, cores.Machine(4), 2, lambda k: 1.0).run()
    assert spans == {'a': [0, 180], 'b': [0, 120]}  # b measures from 60 to 120, and a's last run waits


def test_runs_slow_each_other_as_measured():
    assert minutes_of({'a': chapter(['runs', [60] * 8])}, 8, slower=lambda k: 1 + k / 8) == pytest.approx(2)
    slower = cores.measured_slowdown()
    assert slower(2) == 1 and 1.2 < slower(16) / slower(1) < 1.3 and slower(64) == slower(16)


def test_a_cluster_takes_runs_and_leaves_the_rest_here():
    chapters = {'a': chapter(['serial', 60], ['runs', [60] * 64])}
    here, there = minutes_of(chapters, 2), minutes_of(chapters, 2, workers=64)
    assert here == pytest.approx(33) and there == pytest.approx(2 + cores.SEND / 60)


def test_chapters_wait_as_the_makefile_says():
    after = cores.makefile_chapters()
    assert after['05_optuna_tuning'] == ['03_scratch_cnn', '04_fastai_transfer'] and len(after) == 12


# ---- times of a made-up run ----


def executed(source, start, end):
    times = [datetime.fromtimestamp(BEGIN + t, timezone.utc).isoformat() for t in (start, end)]
    about = {'papermill': dict(zip(('start_time', 'end_time'), times))}
    return {'cell_type': 'code', 'source': source, 'metadata': about}


def keep_run(folder, start, end, logs=(), epochs=3):
    "A run whose files are as old as its start and its end."
    folder.mkdir(parents=True)
    (folder / 'run.lock').touch()
    about = {'kind': 'scratch', 'classes': ['a', 'b'], 'network': 'small', 'split': 'fold 1'}
    (folder / 'config.json').write_text(json.dumps(about | {'recipe': {'epochs': epochs}}))
    (folder / 'tensorboard').mkdir()
    for t in logs or [start + 5]:
        (folder / 'tensorboard' / f'events.out.tfevents.{BEGIN + t}.machine.1.0').touch()
    for name, t in (('run.lock', start), ('config.json', end)):
        os.utime(folder / name, (BEGIN + t, BEGIN + t))


@pytest.fixture
def runs(tmp_path):
    "Two chapters: the first trains three folds on two cores, the second measures while they go on."
    first = [executed('x = 1', 0, 10), executed('train()', 10, 215)]
    second = [executed('def speed():\n    return latency(f)', 0, 1), executed('speed()', 1, 240)]
    second.append(executed('draw()', 240, 250))
    (tmp_path / 'auto').mkdir()
    for name, cells in (('03_scratch_cnn', first), ('04_fastai_transfer', second)):
        (tmp_path / 'auto' / f'{name}.ipynb').write_text(json.dumps({'cells': cells}))
    for i, span in enumerate([(12, 112), (12, 108), (112, 212)]):
        keep_run(tmp_path / 'set' / 'scratch_cnn' / str(i), *span)
    return tmp_path


def test_a_run_tells_how_long_each_step_takes(runs):
    found = cores.measured(runs)
    assert found['03_scratch_cnn']['steps'] == [['serial', 15.0], ['runs', [100.0, 96.0, 100.0]]]
    alone = [step for step in found['04_fastai_transfer']['steps'] if step[1] > 1]
    assert alone == [['alone', 39.0], ['serial', 10.0]]  # from 1 to 12 and from 212 to 240
    assert all(c['is_whole'] for c in found.values())


def test_an_interrupted_run_takes_as_long_as_one_like_it(runs):
    keep_run(runs / 'set' / 'scratch_cnn' / 'late', 20, 200, logs=[25, 190, 500])
    keep_run(runs / 'set' / 'scratch_cnn' / 'copied', 190, 190)
    keep_run(runs / 'set' / 'scratch_cnn' / 'before', -500, -200, epochs=9)
    steps = cores.measured(runs)['03_scratch_cnn']
    assert sorted(steps['steps'][-1][1]) == [96.0, 100.0, 100.0, 100.0, 100.0] and not steps['is_whole']


def test_without_a_run_there_is_a_sentence(tmp_path):
    with pytest.raises(SoundclfError, match='holds no executed chapter'):
        cores.measured(tmp_path)


def test_the_tracked_answers_follow_from_the_tracked_steps():
    found = read_json(cores.FILE)
    assert cores.answers(found['chapters']) == {k: v for k, v in found.items() if k != 'chapters'}


def test_no_variable_of_the_shell_runs_into_what_make_puts_behind_it():
    text = (ROOT / 'Makefile').read_text(encoding='utf-8')
    assert '$$DATASET' in text
    assert not re.search(r'\$\$[A-Z_]+\$\(', text), 'write a space: the shell reads one longer name'
