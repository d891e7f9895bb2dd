"""Trains the models of a claim again, and says which tier it reached: python scripts/replicate.py [CLAIM]

CLAIM is a part of a claim's text in figures/claims.json. Without it the cheapest network is trained again, in
some minutes. What is trained goes to runs/replicate. Claims should stand other settings, which come from the
environment: SOUNDCLF_THREADS=2, SOUNDCLF_BFLOAT16=off, SOUNDCLF_DEVICE=cuda, and ATEN_CPU_CAPABILITY=default
for another instruction set. The exit code is 1 where a claim reached no tier."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from claims import FILE, ORDERS, ROOT, file_of, predictions
from verify import run_chapter

from soundclf.core.datasets import load_dataset
from soundclf.core.files import SoundclfError, read_json, write_json
from soundclf.core.front_ends import features_for
from soundclf.core.metrics import compare
from soundclf.core.predictions import save_predictions
from soundclf.core.runtime import device_name, has_fast_bfloat16, thread_count, versions
from soundclf.core.splits import fold_splits
from soundclf.fastai_transfer import TransferRecipe, audioset_recipe, cross_tune
from soundclf.scratch_cnn import Recipe, cross_validate, reference_recipe

CHEAPEST = 'accuracy of scratch-reference on esc50-10, five folds'
TEN = 'esc50-10'
TIERS = 'bitwise', 'interval', 'conclusion'  # the strictest first
SAID = {
    'bitwise': 'bitwise: every answer and every probability is the same',
    'interval': 'within the interval',
    'conclusion': 'the conclusion: the order of the models',
    'none': 'NONE',
}


def settings() -> dict:
    "What a training depends on beside its recipe and its seed."
    return {
        'device': device_name(),
        'threads': thread_count(),
        'bfloat16': has_fast_bfloat16() and os.environ.get('SOUNDCLF_BFLOAT16') != 'off',
        'instructions': torch.backends.cpu.get_cpu_capability(),
    }


def recipes(table: pd.DataFrame) -> dict:
    "The models of the ten ESC-50 classes: from random weights (recipe, features), or from pretrained ones."
    return {
        'scratch-reference': reference_recipe(table),
        'scratch-better': (Recipe(), features_for(table)),
        'imagenet-finetuned': TransferRecipe(),
        'imagenet-transfer': 'squeezenet1_1',
        'audioset-finetuned': audioset_recipe(),
        'audioset-transfer': 'mn04_as',
    }


def trained(table: pd.DataFrame, model: str, recipe, folder: Path, seed: int = 42) -> pd.DataFrame:
    "The predictions of five new networks."
    splits, is_off = fold_splits(table), os.environ.get('SOUNDCLF_BFLOAT16') == 'off'
    if isinstance(recipe, tuple):
        recipe, features = recipe
        recipe = replace(recipe, bfloat16=recipe.bfloat16 and not is_off)
        return cross_validate(table, splits, recipe, features, folder / model, seed)[0]
    return cross_tune(table, splits, recipe, folder / model, seed)[0]


def again(dataset: str, model: str, made_in: str, out: Path) -> Path:
    "The file with the predictions of a model that was trained again; a chapter trains all its models."
    if dataset == TEN:
        table = load_dataset(TEN)
        known = recipes(table)
        if model not in known:
            raise SoundclfError(f'{model} is a result of a search: `make reproduce` does it again.')
        file = out / f'{model}.csv'
        return save_predictions(trained(table, model, known[model], out), file)
    file = out / 'full' / dataset / 'figures' / 'predictions' / file_of(dataset, model).name
    if not file.is_file():
        parameters = {'dataset': 'auto', 'profile': 'full', 'seed': '42'}
        run_chapter(Path(made_in).stem, parameters | {'out': os.path.relpath(out, ROOT)}, {})
    return file


def same_clips(tracked: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    "New predictions in the order of the tracked ones, with their groups."
    if sorted(new.path) != sorted(tracked.path):
        raise SoundclfError('The clips are not those of the claim: get the same data set.')
    new = new.set_index('path').loc[tracked.path].reset_index()
    return new.assign(group=tracked.group.to_numpy())[list(tracked.columns)]


def order_holds(worse: pd.DataFrame, better: pd.DataFrame) -> bool:
    "Whether one model is better than another, with an interval that does not hold zero."
    return bool(compare(worse, better)['low'] > 0)


def tiers_of(claim: dict, tracked: list[pd.DataFrame], new: list[pd.DataFrame], orders: list[bool]) -> dict:
    "Which tiers a claim reached: one table for an accuracy, two (worse, better) for an order."
    if len(new) == 1:
        value = float((new[0].label == new[0].predicted).mean())
        conclusion = all(orders)
    else:
        value = compare(*new)['difference']
        conclusion = order_holds(*new) == claim['holds']
    found = {
        'bitwise': all(a.equals(b) for a, b in zip(tracked, new)),
        'interval': claim['low'] <= value <= claim['high'],
        'conclusion': conclusion,
    }
    reached = next((tier for tier in TIERS if found[tier]), 'none')
    return {'claim': claim['claim'], 'claimed': claim['value'], 'again': round(value, 6)} | found | {
        'reached': reached
    }


def models_of(claim: dict) -> list[tuple[str, str]]:
    "(data set, model) of a claim, whose files are named after them."
    files = claim['predictions']
    files = [files] if isinstance(files, str) else files
    return [(Path(f).parts[1], Path(f).stem) for f in files]


def orders_with(dataset: str, model: str, new: pd.DataFrame) -> list[bool]:
    "Whether each claimed order of a model with another one, as tracked, is as it was."
    found = []
    for data, *pair in ORDERS:
        files = [file_of(data, m) for m in pair]
        if data != dataset or model not in [f.stem for f in files] or not all(f.is_file() for f in files):
            continue
        before = [predictions(f) for f in files]
        after = [new if f.stem == model else p for f, p in zip(files, before)]
        found.append(order_holds(*before) == order_holds(*after))
    return found


def replicated(claim: dict, out: Path) -> dict:
    "The tiers that a claim reached, with its models trained again."
    tracked, new, orders = [], [], []
    for dataset, model in models_of(claim):
        tracked.append(predictions(file_of(dataset, model)))
        new.append(same_clips(tracked[-1], predictions(again(dataset, model, claim['made_in'], out))))
        orders += orders_with(dataset, model, new[-1])
    return tiers_of(claim, tracked, new, orders)


def asked_claims(words: str) -> list[dict]:
    "The claims whose text holds some words; what scripts made is for them to make again."
    claims = [c for c in read_json(FILE) if c['made_in'].endswith('.ipynb')]
    found = [c for c in claims if words in c['claim']]
    if not found:
        raise SoundclfError(f"No claim of a chapter holds '{words}': see figures/claims.json.")
    return found


def main(words: str = CHEAPEST) -> int:
    "0 if every claim reached a tier, else 1."
    how, found = settings(), []
    name = '-'.join(f'{k}_{v}' for k, v in how.items()).replace(' ', '_')
    out = ROOT / 'runs' / 'replicate' / name
    out.mkdir(parents=True, exist_ok=True)
    print(', '.join(f'{k} {v}' for k, v in how.items()), flush=True)
    for claim in asked_claims(words or CHEAPEST):
        print(f'{claim["claim"]}: training again', flush=True)
        found.append(replicated(claim, out))
        row = found[-1]
        print(f'  {row["claimed"]:.4f} claimed, {row["again"]:.4f} now: {SAID[row["reached"]]}', flush=True)
    write_json({'settings': how, 'made_with': versions(), 'claims': found}, out / 'replicate.json')
    return int(any(row['reached'] == 'none' for row in found))


if __name__ == '__main__':
    try:
        sys.exit(main(*sys.argv[1:]))
    except SoundclfError as e:
        sys.exit(str(e))
