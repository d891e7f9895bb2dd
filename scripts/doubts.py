"""Trains our network again where its figure is in doubt: python scripts/doubts.py [DATASET]

Once on folds that ignore which recording a clip was cut from, and once without bands above 16 kHz. On a GPU
this takes minutes, on two cores one to three hours. If you stop it, start it again, and it goes on. The
figures go to `figures/DATASET/doubts.json`."""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from soundclf.core.audio import Features
from soundclf.core.datasets import load_dataset
from soundclf.core.features import cached_features
from soundclf.core.files import SoundclfError, run_dir, write_json
from soundclf.core.front_ends import features_for
from soundclf.core.jobs import named_side_by_side
from soundclf.core.metrics import accuracy_interval
from soundclf.core.predictions import save_predictions
from soundclf.core.results import predictions_file
from soundclf.core.runs import Run, pooled
from soundclf.core.runtime import device_name, versions
from soundclf.core.splits import Split, fold_splits
from soundclf.core.stretches import sources
from soundclf.scratch_cnn import Recipe, train_split
from soundclf.spoken_digits import clip_splits

FIGURES = Path(__file__).resolve().parents[1] / 'figures'
SEED = 42


def doubts(table: pd.DataFrame) -> dict[str, tuple[list[Split], Features]]:
    "Name of a doubt -> the splits, and what the network is given."
    splits, features = fold_splits(table), features_for(table)
    return {
        'leaky folds': (clip_splits(table, len(splits), SEED), features),
        'no bands above 16 kHz': (splits, replace(features, f_max=16000.0)),
    }


def record_of(predictions: pd.DataFrame) -> dict[str, float]:
    "Accuracy and its interval over recordings."
    right = (predictions.label == predictions.predicted).to_numpy()
    low, high = accuracy_interval(right, predictions.group)
    return {k: round(float(v), 6) for k, v in (('accuracy', right.mean()), ('low', low), ('high', high))}


def kept(dataset: str, name: str, splits: list[Split], runs: list[Run]) -> dict:
    "Writes the predictions of a doubt, and what they come to."
    predictions, _ = pooled(runs)
    predictions['fold'] = [i for i, split in enumerate(splits, 1) for _ in split.test]
    file = FIGURES / dataset / 'doubts' / predictions_file(name)
    save_predictions(predictions, file)
    where = file.relative_to(FIGURES.parent).as_posix()
    return {'doubt': name, 'seed': SEED} | record_of(predictions) | {'predictions': where}


def main(dataset: str = 'esc50-10'):
    table, jobs = load_dataset(dataset), {}
    folder, asked = run_dir('doubts', dataset, 'full', 'runs'), doubts(table)
    for name, (splits, features) in asked.items():
        cached_features(sources(table), features)  # once, before the runs ask for them
        jobs[name] = [(table, split, Recipe(), features, folder, SEED) for split in splits]
    found = named_side_by_side(train_split, jobs)
    rows = [kept(dataset, name, asked[name][0], runs) for name, runs in found.items()]
    made = {'device': device_name(), 'made_with': versions()}
    print(write_json(made | {'rows': rows}, FIGURES / dataset / 'doubts.json'))


if __name__ == '__main__':
    try:
        main(*sys.argv[1:])
    except SoundclfError as e:
        sys.exit(str(e))
