"Training again reaches a tier with other threads, number formats and instructions, and none with other data."

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'scripts'))
import claims  # noqa: E402
import replicate  # noqa: E402

from soundclf.core.metrics import accuracy_interval  # noqa: E402

# `trained` is what `make replicate` calls; a process of its own, for a process has one set of instructions.
TRAIN = """
import sys
from dataclasses import replace
sys.path[:0] = ['scripts', 'tests']
from replicate import settings, trained
from soundclf.core.esc50 import synthetic
from soundclf.core.predictions import save_predictions
from tiny_runs import COARSE, FAST
import json, pathlib
table = synthetic(per_fold=2)
if 'shuffled' in sys.argv:
    table = table.assign(label=table.label.sample(frac=1, random_state=0).to_numpy())
out = pathlib.Path(sys.argv[1])
recipe = replace(FAST, bfloat16=True)
save_predictions(trained(table, 'tiny', (recipe, COARSE), out), out / 'tiny.csv')
print(json.dumps(settings()))
"""
ELSEWHERE = {
    'threads': {'SOUNDCLF_THREADS': '2', 'OMP_NUM_THREADS': '2'},
    'bfloat16': {'SOUNDCLF_BFLOAT16': 'off'},
    'instructions': {'ATEN_CPU_CAPABILITY': 'default'},
}


def train(folder: Path, home: Path, environment: dict, *words: str) -> tuple[pd.DataFrame, dict]:
    "The predictions of a tiny network, and the settings it was trained with."
    folder.mkdir(parents=True)
    usual = {'SOUNDCLF_JOBS': '1', 'SOUNDCLF_DEVICE': 'cpu', 'SOUNDCLF_QUIET': '1', 'OMP_NUM_THREADS': '1'}
    usual |= {'SOUNDCLF_DATA': str(home), 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', TRAIN, str(folder), *words]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | usual | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return replicate.predictions(folder / 'tiny.csv'), json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def here(tmp_path_factory):
    "The claim of a tiny network: (folder of the data, its predictions, its settings, the claim)."
    root = tmp_path_factory.mktemp('replicate')
    table, how = train(root / 'here', root / 'data', {})
    right = (table.label == table.predicted).to_numpy()
    claim = {'claim': 'tiny', **claims.digits(right.mean(), *accuracy_interval(right, table.group))}
    return root, table, how, claim


def test_the_same_settings_give_every_digit(here, tmp_path):
    root, table, how, claim = here
    new, again = train(tmp_path / 'again', root / 'data', {})
    assert again == how
    assert replicate.tiers_of(claim, [table], [new], [])['reached'] == 'bitwise'


@pytest.mark.parametrize('setting', ELSEWHERE)
def test_other_settings_stay_within_the_interval(here, tmp_path, setting):
    root, table, how, claim = here
    new, there = train(tmp_path / setting, root / 'data', ELSEWHERE[setting])
    found = replicate.tiers_of(claim, [table], [replicate.same_clips(table, new)], [])
    assert found['interval'], found
    if setting == 'bfloat16':
        assert not there['bfloat16']
    else:
        assert there[setting] != how[setting]


def test_other_labels_reach_nothing(here, tmp_path):
    root, table, _, claim = here
    new, _ = train(tmp_path / 'shuffled', root / 'data', {}, 'shuffled')
    found = replicate.tiers_of(claim, [table], [replicate.same_clips(table, new)], [False])
    assert found['reached'] == 'none' and found['again'] < claim['low']


def answers(right: int, n: int = 100) -> pd.DataFrame:
    "Predictions of which so many are right."
    paths = [f'{i:03}.wav' for i in range(n)]
    predicted = ['a' if i < right else 'b' for i in range(n)]
    return pd.DataFrame({'path': paths, 'label': 'a', 'group': paths, 'predicted': predicted})


def test_each_tier_is_told_from_the_others():
    claim = {'claim': 'c', 'value': 0.9, 'low': 0.85, 'high': 0.95}
    tracked = [answers(90)]
    for right, orders, reached in (
        (90, [True], 'bitwise'),
        (87, [True], 'interval'),
        (70, [True], 'conclusion'),
        (70, [True, False], 'none'),
    ):
        assert replicate.tiers_of(claim, tracked, [answers(right)], orders)['reached'] == reached
    order = {'claim': 'd', 'value': 0.3, 'low': 0.2, 'high': 0.4, 'holds': True}
    before = [answers(60), answers(90)]
    for pair, reached in (
        ((60, 90), 'bitwise'),
        ((62, 90), 'interval'),
        ((75, 90), 'conclusion'),
        ((90, 90), 'none'),
    ):
        new = [answers(right) for right in pair]
        assert replicate.tiers_of(order, before, new, [])['reached'] == reached


def test_claims_are_found_by_their_words_and_by_what_stands_on_them():
    (cheap,) = replicate.asked_claims(replicate.CHEAPEST)
    assert replicate.models_of(cheap) == [('esc50-10', 'scratch-reference')]
    order = next(c for c in replicate.asked_claims('fsdd') if c['tier'] == claims.CONCLUSION)
    assert replicate.models_of(order) == [('fsdd', 'v3'), ('fsdd', 'better')]
    with pytest.raises(replicate.SoundclfError, match='No claim of a chapter'):
        replicate.asked_claims('no such claim')
    same = replicate.predictions(replicate.file_of('esc50-10', 'scratch-reference'))
    assert replicate.orders_with('esc50-10', 'scratch-reference', same) == [True]
    perfect = same.assign(predicted=same.label)
    assert replicate.orders_with('esc50-10', 'scratch-reference', perfect) == [False]
