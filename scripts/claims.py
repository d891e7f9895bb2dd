"""Recomputes every claim from the tracked predictions: python scripts/claims.py [write]

A claim is an accuracy with its interval over groups, the order of two models, or the spread of several seeds.
`write` makes figures/claims.json anew; without it, one changed digit is an error."""

import json
import sys
from itertools import product
from pathlib import Path

import pandas as pd

from soundclf.core.files import read_json, write_json
from soundclf.core.metrics import accuracy_interval, compare
from soundclf.core.results import predictions_file

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / 'figures' / 'claims.json'
CHAPTERS = {
    'esc50-10': '06_eval_confusion',
    'fsdd': '07_spoken_digits',
    'cats_dogs': '08_waveform_cnn',
    'fsdkaggle2018': '09_audio_tagging',
    'urbansound8k': '10_tabular_baselines',
}
PROTOCOLS = {  # of the predictions in a file, by what is added to the model's name
    'esc50-10': {'': 'five_folds'},
    'fsdd': {'': 'speaker_folds'},
    'cats_dogs': {'-seconds': 'five_folds_seconds', '': 'five_folds'},
    'fsdkaggle2018': {'': 'five_folds'},
    'urbansound8k': {', random split': 'random_split', '': 'ten_folds'},
}
ORDERS = [  # data set, model, the one that is said to be better
    ('esc50-10', 'scratch-reference', 'scratch-better'),
    ('esc50-10', 'scratch-better', 'audioset-transfer'),
    ('fsdd', 'v3', 'better'),
    ('cats_dogs', 'reference', 'better'),
    ('fsdkaggle2018', 'reference', 'better'),
    ('urbansound8k', 'lightgbm, order-free', 'vote'),
]
BITWISE = 'bitwise on one kind of CPU'
RETRAINED = 'within the interval when trained again elsewhere'
CONCLUSION = 'the order of two models'
SEED = 'another seed on a GPU'
SPREAD = 'the range of several seeds on a GPU'


def file_of(dataset: str, model: str, suffix: str = '') -> Path:
    "The predictions of a model."
    return ROOT / 'figures' / dataset / 'predictions' / predictions_file(model + suffix)


def predictions(file: Path) -> pd.DataFrame:
    "A tracked table; it need not have probabilities, which `load_predictions` asks for."
    text = dict.fromkeys(('path', 'label', 'predicted', 'group'), str)
    return pd.read_csv(file, dtype=text, keep_default_na=False)


def accuracy_claim(dataset: str, model: str, suffix: str, protocol: str) -> dict:
    "An accuracy, as the predictions give it."
    file = file_of(dataset, model, suffix)
    table = predictions(file)
    right = (table.label == table.predicted).to_numpy()
    frozen = model.endswith(('-transfer', 'frozen')) or dataset == 'urbansound8k'
    return {
        'claim': f'accuracy of {model} on {dataset}, {protocol.replace("_", " ")}',
        **digits(right.mean(), *accuracy_interval(right, table.group)),
        'clips': len(table),
        'groups': int(table.group.nunique()),
        'tier': BITWISE if frozen else RETRAINED,
        'made_in': f'nbs/{CHAPTERS[dataset]}.ipynb',
        'predictions': file.relative_to(ROOT).as_posix(),
    }


def digits(value: float, low: float, high: float) -> dict[str, float]:
    "A value and its interval, as they are written."
    return {k: round(float(v), 6) for k, v in (('value', value), ('low', low), ('high', high))}


def order_claim(dataset: str, worse: str, better: str) -> dict:
    "The difference of two models on the same clips."
    files = file_of(dataset, worse), file_of(dataset, better)
    found = compare(*map(predictions, files))
    return {
        'claim': f'{better} against {worse} on {dataset}: difference in accuracy',
        **digits(found['difference'], found['low'], found['high']),
        'holds': bool(found['low'] > 0),
        'tier': CONCLUSION,
        'made_in': f'nbs/{CHAPTERS[dataset]}.ipynb',
        'predictions': [f.relative_to(ROOT).as_posix() for f in files],
    }


def accuracies() -> list[tuple[dict, dict]]:
    "(claim, its record in results.json) of all tracked predictions."
    found = []
    for dataset, protocols in PROTOCOLS.items():
        models = read_json(ROOT / 'figures' / dataset / 'results.json')['models']
        for model, (suffix, protocol) in product(models, protocols.items()):
            record = models[model]['protocols'].get(protocol)
            if record and file_of(dataset, model, suffix).is_file():
                found.append((accuracy_claim(dataset, model, suffix, protocol), record))
    return found


def orders() -> list[dict]:
    "The claims about two models whose predictions are tracked."
    there = [o for o in ORDERS if all(file_of(o[0], model).is_file() for model in o[1:])]
    return [order_claim(*order) for order in there]


def seeds() -> list[tuple[dict, dict]]:
    "(claim, its record in devices.json) of every training on a GPU."
    dataset, made_in = 'esc50-10', 'scripts/devices.py'
    machines = read_json(ROOT / 'figures' / dataset / 'devices.json')['machines']
    rows, found = [row for m in machines for row in m.get('folds_gpu', ())], []
    for row in rows:
        suffix = f', GPU, seed {row["seed"]}'
        claim = accuracy_claim(dataset, row['model'], suffix, 'five_folds')
        claim['claim'] += suffix
        accuracy = {'mean': row['accuracy']}
        record = {'accuracy': accuracy, 'accuracy_by_group': {k: row[k] for k in ('low', 'high')}}
        found.append((claim | {'tier': SEED, 'made_in': made_in}, record))
    return found


def spreads(of_seeds: list[dict]) -> list[dict]:
    "The mean of each model's seeds, between the lowest and the highest."
    found = []
    for name in dict.fromkeys(claim['claim'].partition(', GPU')[0] for claim in of_seeds):
        rows = [c for c in of_seeds if c['claim'].startswith(f'{name}, GPU')]
        values = [c['value'] for c in rows]
        if len(values) > 1:
            claim = {'claim': f'{name}, mean and range of {len(values)} seeds on a GPU'}
            claim |= digits(sum(values) / len(values), min(values), max(values))
            more = {'tier': SPREAD, 'made_in': rows[0]['made_in']}
            found.append(claim | more | {'predictions': [c['predictions'] for c in rows]})
    return found


def unlike_results(made: list[tuple[dict, dict]]) -> list[str]:
    "The claims whose digits are not those of results.json."
    wrong = []
    for claim, record in made:
        written = digits(record['accuracy']['mean'], **record['accuracy_by_group'])
        measured = {k: claim[k] for k in written}
        if written != measured:
            wrong.append(f'{claim["claim"]}: results.json says {written}, the predictions {measured}')
    return wrong


def unlike_claims(made: list[dict]) -> list[str]:
    "The claims whose digits are not those of claims.json."
    written = {c['claim']: c for c in read_json(FILE)} if FILE.is_file() else {}
    now = {c['claim']: c for c in made}
    lost = [f'{name}: claims.json lacks it' for name in now.keys() - written.keys()]
    lost += [f'{name}: no predictions bear it out' for name in written.keys() - now.keys()]
    changed = [
        f'{name}: claims.json says {json.dumps(written[name])}, the predictions {json.dumps(now[name])}'
        for name in now.keys() & written.keys()
        if now[name] != written[name]
    ]
    return sorted(lost + changed)


def as_text(claim: dict) -> str:
    "One line of what is claimed."
    interval = f'{claim["value"]:7.4f} ({claim["low"]:.4f} to {claim["high"]:.4f})'
    doubt = '' if claim.get('holds', True) else ' (not shown: the interval holds zero)'
    return f'{interval}  {claim["claim"]}{doubt}'


def main() -> int:
    found, of_seeds = accuracies(), seeds()
    made = [claim for claim, _ in found + of_seeds] + orders()
    made += spreads([claim for claim, _ in of_seeds])
    if sys.argv[1:] == ['write']:
        write_json(made, FILE)
    wrong = unlike_results(found + of_seeds) + unlike_claims(made)
    for sentence in wrong:
        print(sentence)
    for claim in made if not wrong else ():
        print(as_text(claim))
    print(f'{len(made)} claims recomputed from the predictions, {len(wrong)} not borne out.')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
