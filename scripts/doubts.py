"""Trains our network again where its figure is in doubt: python scripts/doubts.py [DATASET]

Once as it is, once on folds that ignore which recording a clip was cut from, and once without bands above
16 kHz. On a GPU this takes minutes, on two cores hours. The figures go to `figures/DATASET/doubts.json`."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from soundclf.core.audio import Features
from soundclf.core.datasets import load_dataset
from soundclf.core.files import SoundclfError, write_json
from soundclf.core.front_ends import features_for
from soundclf.core.metrics import accuracy_interval
from soundclf.core.predictions import save_predictions
from soundclf.core.results import predictions_file
from soundclf.core.runtime import device_name, versions
from soundclf.core.splits import Split, fold_splits
from soundclf.scratch_cnn import Recipe, cross_validate
from soundclf.spoken_digits import clip_splits

FIGURES = Path(__file__).resolve().parents[1] / 'figures'
SEED = 42


def doubts(table: pd.DataFrame) -> dict[str, tuple[list[Split], Features]]:
    "Name of a doubt -> the splits, and what the network is given."
    splits, features = fold_splits(table), features_for(table)
    return {
        'as it is': (splits, features),
        'leaky folds': (clip_splits(table, len(splits), SEED), features),
        'no bands above 16 kHz': (splits, replace(features, f_max=16000.0)),
    }


def record_of(predictions: pd.DataFrame) -> dict[str, float]:
    "Accuracy and its interval over recordings."
    right = (predictions.label == predictions.predicted).to_numpy()
    low, high = accuracy_interval(right, predictions.group)
    return {k: round(float(v), 6) for k, v in (('accuracy', right.mean()), ('low', low), ('high', high))}


def main(dataset: str = 'esc50-10'):
    table, rows = load_dataset(dataset), []
    for name, (splits, features) in doubts(table).items():
        with tempfile.TemporaryDirectory() as tmp:
            predictions, _ = cross_validate(table, splits, Recipe(), features, tmp, SEED)
        predictions['fold'] = [i for i, split in enumerate(splits, 1) for _ in split.test]
        file = FIGURES / dataset / 'predictions' / predictions_file(f'scratch-better, {name}')
        save_predictions(predictions, file)
        where = file.relative_to(FIGURES.parent).as_posix()
        rows.append({'doubt': name, 'seed': SEED} | record_of(predictions) | {'predictions': where})
        print(rows[-1], flush=True)
    found = {'device': device_name(), 'made_with': versions(), 'rows': rows}
    write_json(found, FIGURES / dataset / 'doubts.json')


if __name__ == '__main__':
    try:
        main(*sys.argv[1:])
    except SoundclfError as e:
        sys.exit(str(e))
