"""Every tracked figure follows from the tracked predictions, to the last digit."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'scripts'))
import claims  # noqa: E402


@pytest.fixture
def run(monkeypatch, capsys):
    "Runs the script; gives its exit code and what it prints."

    def outcome(*words):
        monkeypatch.setattr(sys, 'argv', ['claims.py', *words])
        return claims.main(), capsys.readouterr().out

    return outcome


def test_all_claims_are_borne_out(run):
    code, said = run()
    assert code == 0, said
    made = json.loads(claims.FILE.read_text())
    assert len(made) >= 20
    tiers = claims.BITWISE, claims.RETRAINED, claims.CONCLUSION, claims.SEED, claims.SPREAD
    assert {c['tier'] for c in made} == set(tiers)


def test_the_spread_of_seeds_is_that_of_their_predictions(run):
    made = json.loads(claims.FILE.read_text())
    of_seeds = [c for c in made if c['tier'] == claims.SEED and 'scratch-better' in c['claim']]
    (spread,) = (c for c in made if c['tier'] == claims.SPREAD)
    values = [c['value'] for c in of_seeds]
    assert len(values) == 3 and spread['predictions'] == [c['predictions'] for c in of_seeds]
    assert (spread['low'], spread['high']) == (min(values), max(values))


def test_one_changed_digit_of_a_claim_is_noticed(run, tmp_path, monkeypatch):
    written = json.loads(claims.FILE.read_text())
    written[0]['high'] = round(written[0]['high'] + 1e-6, 6)
    monkeypatch.setattr(claims, 'FILE', tmp_path / 'claims.json')
    claims.FILE.write_text(json.dumps(written))
    code, said = run()
    assert code == 1 and written[0]['claim'] in said


def test_one_changed_answer_is_noticed(run, monkeypatch):
    read = claims.predictions

    def altered(file):
        table = read(file)
        table.loc[0, 'predicted'] = 'something else'
        return table

    monkeypatch.setattr(claims, 'predictions', altered)
    code, said = run()
    assert code == 1 and 'results.json says' in said


def test_a_lost_claim_is_noticed(run, tmp_path, monkeypatch):
    written = json.loads(claims.FILE.read_text())
    monkeypatch.setattr(claims, 'FILE', tmp_path / 'claims.json')
    claims.FILE.write_text(json.dumps(written[1:]))
    code, said = run()
    assert code == 1 and 'claims.json lacks it' in said


def test_the_recipe_of_our_network_is_the_best_of_those_that_were_compared_inside_the_training_folds():
    from soundclf.scratch_cnn import Recipe

    tried = pd.read_csv(ROOT / 'figures' / 'esc50-10' / 'selection.csv')
    means = tried.groupby(['network', 'mixup', 'epochs']).accuracy.mean()
    ours = Recipe()
    assert means.idxmax() == (ours.network, ours.augment.mixup, ours.epochs)
