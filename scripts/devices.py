"""Measures what an epoch costs on each device here: python scripts/devices.py NAME [DATASET]

NAME says which machine this is, for the table in `figures/DATASET/devices.json`. With a GPU, the five folds
are trained on it with three seeds. `python scripts/devices.py draw` draws the table anew."""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from soundclf.core.batches import on_device, training_batches
from soundclf.core.clips import class_names, targets
from soundclf.core.datasets import load_dataset
from soundclf.core.drawing import PALETTE, new_figure, save_figure
from soundclf.core.features import cached_features, fit_normalize
from soundclf.core.files import SoundclfError, read_json, write_json
from soundclf.core.front_ends import features_for
from soundclf.core.jobs import named_side_by_side, side_by_side
from soundclf.core.loop import Trainer
from soundclf.core.metrics import accuracy_interval
from soundclf.core.results import predictions_file
from soundclf.core.runs import pooled
from soundclf.core.runtime import computing_on, has_fast_bfloat16, seed_everything, stop_workers, versions
from soundclf.core.splits import fold_splits
from soundclf.core.stretches import sources
from soundclf.scratch_cnn import Recipe, build_network, reference_recipe, train_split

FIGURES = Path(__file__).resolve().parents[1] / 'figures'
SEEDS = 42, 43, 44


def recipes(table: pd.DataFrame) -> dict:
    "Name of a recipe -> (the recipe, what its network is given)."
    return {'scratch-better': (Recipe(), features_for(table)), 'scratch-reference': reference_recipe(table)}


def epoch_seconds(dataset: str, name: str, device: str, epochs: int = 3) -> float:
    "The median time of an epoch of a recipe on one device; the first epoch doesn't count."
    table = load_dataset(dataset)
    recipe, features = recipes(table)[name]
    rows, classes = fold_splits(table)[0].train, len(class_names(table))
    cached = cached_features(sources(table), features)
    g = seed_everything(42, device)
    x, normalize = on_device(cached, g.device), fit_normalize(cached, rows).to(g.device)
    trainer = Trainer(build_network(recipe.network, classes), recipe, len(rows) // recipe.batch_size, device)
    seconds = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        trainer.run_epoch(training_batches(x, targets(table), rows, classes, recipe, normalize, g))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def job_counts() -> list[int]:
    "One job, half as many as cores, as many as cores."
    cores = os.cpu_count()
    return sorted({1, max(1, cores // 2), cores})


def epochs_side_by_side(dataset: str) -> dict[str, float]:
    "Number of jobs -> seconds of an epoch of our network in each, on the CPU."
    found = {}
    for n in job_counts():
        with computing_on('cpu'):
            jobs = [(dataset, 'scratch-better', 'cpu')] * n
            found[str(n)] = round(float(np.mean(side_by_side(epoch_seconds, jobs, n_jobs=n))), 3)
        stop_workers()
    return found


def folds_on_gpu(dataset: str) -> list[dict]:
    "Accuracy and interval of five folds, for each recipe and seed; the predictions go beside the others."
    table, jobs, start = load_dataset(dataset), {}, time.perf_counter()
    splits = fold_splits(table)
    with computing_on('cuda'), tempfile.TemporaryDirectory() as tmp:
        for name, (recipe, features) in recipes(table).items():
            cached_features(sources(table), features)  # once, before the runs ask for them
            for seed in SEEDS if name == 'scratch-better' else SEEDS[:1]:
                jobs[name, seed] = [(table, split, recipe, features, tmp, seed) for split in splits]
        found = named_side_by_side(train_split, jobs)
        answers = {of: pooled(runs)[0] for of, runs in found.items()}
    seconds = round(time.perf_counter() - start, 1)
    rows = [kept(dataset, *of, predictions) for of, predictions in answers.items()]
    return [row | {'seconds_of_all_trained_together': seconds} for row in rows]


def kept(dataset: str, name: str, seed: int, predictions: pd.DataFrame) -> dict:
    "Writes predictions, and what they come to."
    file = FIGURES / dataset / 'predictions' / predictions_file(f'{name}, GPU, seed {seed}')
    predictions.to_csv(file, index=False, float_format='%.6f')
    right = (predictions.label == predictions.predicted).to_numpy()
    low, high = accuracy_interval(right, predictions.group)
    digits = {'accuracy': float(right.mean()), 'low': low, 'high': high}
    rounded = {k: round(float(v), 6) for k, v in digits.items()}
    where = file.relative_to(FIGURES.parent).as_posix()
    about = {'model': name, 'seed': seed, 'gpu': torch.cuda.get_device_name()}
    return about | rounded | {'predictions': where}


def measured(name: str, dataset: str) -> dict:
    "All that is measured on this machine."
    print('epochs on one core')
    single = {model: epoch_seconds(dataset, model, 'cpu') for model in recipes(load_dataset(dataset))}
    machine = {
        'machine': name,
        'made_with': versions() | {'bfloat16': has_fast_bfloat16('cpu')},
        'cores': os.cpu_count(),
        'epoch_core_s': {k: round(v, 3) for k, v in single.items()},
    }
    print('epochs side by side')
    machine['epoch_by_jobs_s'] = epochs_side_by_side(dataset)
    if torch.cuda.is_available():
        print('epochs and five folds on the GPU')
        gpu = {model: epoch_seconds(dataset, model, 'cuda') for model in single}
        machine['gpu'] = torch.cuda.get_device_name()
        machine['tensorfloat32'] = torch.backends.cudnn.allow_tf32
        machine['epoch_gpu_s'] = {k: round(v, 3) for k, v in gpu.items()}
        machine['folds_gpu'] = folds_on_gpu(dataset)
    return machine


def bars(machines: list[dict]) -> list[tuple[str, float]]:
    "(what, seconds of an epoch of our network) of all machines, slowest first."
    found = []
    for m in machines:
        found.append((f'one core,\n{m["machine"]}', m['epoch_core_s']['scratch-better']))
        if 'gpu' in m:
            found.append((m['gpu'], m['epoch_gpu_s']['scratch-better']))
    return sorted(found, key=lambda bar: -bar[1])


def draw(machines: list[dict], dataset: str):
    "Seconds of an epoch, and what is left of a core's speed when all others work, too."
    fig, (a, b) = new_figure(1, 2, size=(11, 3.4))
    names, seconds = zip(*bars(machines))
    a.plot(seconds, names, 'o', color=PALETTE[0], ms=9)
    for at, value in enumerate(seconds):
        a.text(value * 1.25, at, f'{value:.2g} s', va='center')
    a.set(xscale='log', xlim=(0.05, 20), xlabel='an epoch of our network (s)', ylim=(len(names) - 0.5, -0.5))
    a.set_xticks([0.1, 1, 10], ['0.1', '1', '10'])
    a.grid(axis='x', alpha=0.3)
    for m, color in zip(machines, PALETTE):
        by_jobs = {int(n): s for n, s in m['epoch_by_jobs_s'].items()}
        speed = [100 * by_jobs[1] / s for s in by_jobs.values()]
        b.plot(list(by_jobs), speed, 'o-', color=color, label=m['machine'])
    b.set(xlabel='runs side by side', ylabel='speed of each (% of one alone)', ylim=(0, 105))
    b.set_xticks([1, 2, 4, 8, 16])
    b.legend()
    save_figure(fig, FIGURES / dataset / 'devices.png')


def main(name: str, dataset: str = 'esc50-10'):
    file = FIGURES / dataset / 'devices.json'
    machines = read_json(file)['machines'] if file.is_file() else []
    if name != 'draw':
        machines = [m for m in machines if m['machine'] != name] + [measured(name, dataset)]
        write_json({'machines': machines}, file)
    draw(machines, dataset)


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except SoundclfError as e:
        sys.exit(str(e))
