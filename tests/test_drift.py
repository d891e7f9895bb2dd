"Planted changes are found, unchanged weeks are not called changed, and a log outlives the process that wrote it."

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from soundclf.core.drift import find_changes, one_per_source, to_label
from soundclf.core.files import SoundclfError

WEEKS = 100
CLASSES = np.array(['cat', 'dog', 'rain', 'siren'])
CENTRES = np.random.default_rng(99).normal(size=(4, 16))
DAYS = [f'2026-03-{day:02d}' for day in range(2, 9)]


def answers(rng, n: int, day: str = DAYS[0], change: str = '', each: int = 1) -> pd.DataFrame:
    "Answers about made-up sounds; each source gives `each` of them, which are alike."
    kind = np.repeat(rng.integers(0, 4, n), each)
    summary = CENTRES[kind] + np.repeat(rng.normal(size=(n, 16)), each, axis=0)
    level = np.repeat(rng.normal(-25, 6, n), each)
    confidence, unlike = rng.beta(8, 2, n * each), rng.random(n * each)
    rows = np.repeat(rng.random(n) < 0.25, each)  # of the new class
    if change == 'microphone':
        level, summary = level - 5, summary + 0.4 * CENTRES[0]
    if change == 'noise':
        confidence, summary = rng.beta(5, 3, n * each), 0.7 * summary
    if change == 'class':
        summary[rows], confidence[rows] = summary[rows] + 1, rng.beta(4, 4, rows.sum())
        unlike[rows] = 1 - 0.1 * rng.random(rows.sum())
    best = CLASSES[kind]
    source = [f'{day} {i}' for i in np.repeat(np.arange(n), each)]
    columns = {'source': source, 'best': best, 'label': np.where(unlike > 0.95, 'unknown', best)}
    columns |= {'probability': confidence, 'unlike': unlike, 'level': level, 'rate': 44100}
    table = pd.DataFrame(columns).assign(kind='embedding', summary=list(summary))
    return table.assign(time=pd.Timestamp(day, tz='UTC'))


def week(rng, change: str = '', each: int = 1) -> pd.DataFrame:
    "A week of answers whose last three days have changed."
    days = [answers(rng, 40, day, change if day in DAYS[4:] else '', each) for day in DAYS]
    return pd.concat(days, ignore_index=True)


def found(change: str, each: int = 1) -> tuple[int, int]:
    "In how many weeks something is found, and in how many something on an unchanged day."
    alarms, early = 0, 0
    for seed in range(WEEKS):
        rng = np.random.default_rng(seed)
        changes = find_changes(answers(rng, 200), week(rng, change, each))
        days = set(changes.day[changes.changed])
        alarms += bool(days & set(DAYS[4:]) if change else days)
        early += bool(days & set(DAYS[:4]))
    print(f'{change or "no change"}: {alarms} of {WEEKS} weeks, {early} with an alarm before the change')
    return alarms, early


@pytest.mark.parametrize('change', ['microphone', 'noise', 'class'])
def test_planted_changes_are_found(change):
    alarms, early = found(change)
    assert alarms >= 95 and early <= 5


@pytest.mark.parametrize('each', [1, 20])
def test_unchanged_weeks_are_not_called_changed(each):
    "Twenty answers about one source are no twenty facts."
    assert found('', each)[0] <= 5
