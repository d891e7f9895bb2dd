"Weeks of made-up answers, in which something changes or nothing does."

import numpy as np
import pandas as pd

from soundclf.core.drift import find_changes

CLASSES = np.array(['cat', 'dog', 'rain', 'siren'])
CENTRES = np.random.default_rng(99).normal(size=(5, 16))  # the last one is that of a new class
NEAREST = np.linalg.norm(CENTRES[:4] - CENTRES[4], axis=1).argmin()
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
        summary[rows] += CENTRES[4] - CENTRES[kind[rows]]
        confidence[rows], unlike[rows] = rng.beta(4, 4, rows.sum()), 1 - 0.1 * rng.random(rows.sum())
        kind = np.where(rows & (rng.random(len(rows)) < 0.5), NEAREST, kind)
    best = CLASSES[kind]
    source = [f'{day} {i}' for i in np.repeat(np.arange(n), each)]
    columns = {'source': source, 'best': best, 'label': np.where(unlike > 0.95, 'unknown', best)}
    columns |= {'probability': confidence, 'unlike': unlike, 'level': level, 'rate': 44100}
    table = pd.DataFrame(columns).assign(kind='embedding', summary=list(summary))
    return table.assign(time=pd.Timestamp(day, tz='UTC'))


def week(rng, change: str = '', each: int = 1) -> pd.DataFrame:
    "A week of answers whose last three days have changed."
    days = [answers(rng, 60, day, change if day in DAYS[4:] else '', each) for day in DAYS]
    return pd.concat(days, ignore_index=True)


def found(change: str, weeks: int, each: int = 1, first: int = 1000) -> dict[str, int]:
    "In how many weeks something is found, and in how many something on a day before the change."
    alarms, early = 0, 0
    for seed in range(first, first + weeks):
        rng = np.random.default_rng(seed)
        changes = find_changes(answers(rng, 400), week(rng, change, each))
        days = set(changes.day[changes.changed])
        alarms += bool(days & set(DAYS[4:]) if change else days)
        early += bool(days & set(DAYS[:4]))
    return {'weeks': weeks, 'found': alarms, 'before_the_change': early}
