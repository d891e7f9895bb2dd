"""Five-fold accuracy of a network in eight bits beside float32: python scripts/int8.py [--runs runs/full]

Takes the fold models that figures/esc50-10/results.json names, exports each to ONNX, and sets the scales
with clips of its training folds. Both files answer the fold that it left out, of which no recording is among
those clips.
Writes figures/esc50-10/int8.json."""

import argparse
import shutil
import tempfile
from pathlib import Path

import pandas as pd

from soundclf.core.datasets import load_dataset
from soundclf.core.files import SoundclfError, read_json, write_json
from soundclf.core.results import protocol_record
from soundclf.tools.classifier import Classifier
from soundclf.tools.engines import export_onnx
from soundclf.tools.quantisation import calibration_rows, quantise
from soundclf.tools.training import evaluate_model

ROOT = Path(__file__).resolve().parent.parent
DATASET, MODEL, STUDY = 'esc50-10', 'scratch-better', 'scratch_cnn'
SELECTION = 'nothing: the models were finished before'


def fold_models(runs: Path) -> list[Path]:
    "The folders of the fold models, in the order of the folds."
    results = read_json(ROOT / 'figures' / DATASET / 'results.json')
    wanted = results['models'][MODEL]['protocols']['five_folds']['weights']
    configs = sorted((runs / DATASET / STUDY).glob('*/config.json'))
    found = {read_json(c)['weights_sha256'][:16]: c.parent for c in configs}
    if lost := [w for w in wanted if w not in found]:
        count = f'{len(lost)} of {len(wanted)} fold models'
        raise SoundclfError(f'{count} are not in {runs}: run chapter 3 first.')
    return [found[w] for w in wanted]


def both_files(run: Path, folder: Path, training: pd.DataFrame) -> dict[str, Path]:
    "A fold model as two ONNX files."
    for name in ('config.json', 'model.safetensors'):
        shutil.copyfile(run / name, folder / name)
    source = export_onnx(folder)
    clips = training[calibration_rows(training.label, training.group)]
    return {'float32': source, 'int8': quantise(source, folder / 'model.int8.onnx', clips)}


def main(runs: Path):
    table = load_dataset(DATASET)
    predictions, sizes = {'float32': [], 'int8': []}, {}
    for fold, run in enumerate(fold_models(runs), 1):
        with tempfile.TemporaryDirectory() as tmp:
            test = table[table.fold == fold].reset_index(drop=True)
            training = table[(table.fold != fold) & ~table.group.isin(test.group)]
            files = both_files(run, Path(tmp), training)
            for name, file in files.items():
                found, record = evaluate_model(Classifier.load(file), test)
                predictions[name].append(found)
                sizes[name] = file.stat().st_size
                accuracy = record['accuracy']['mean']
                print(f'fold {fold}, {name}: {accuracy:.4f}, {sizes[name]:,} bytes', flush=True)
    records = {name: protocol_record(pd.concat(p), SELECTION) for name, p in predictions.items()}
    same = [(a.predicted.values == b.predicted.values).mean() for a, b in zip(*predictions.values())]
    found = {name: {'bytes': sizes[name], 'five_folds': record} for name, record in records.items()}
    about = {'dataset': DATASET, 'model': MODEL, 'same_answer': round(float(sum(same) / len(same)), 6)}
    print(write_json(about | found, ROOT / 'figures' / DATASET / 'int8.json'))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=Path, default=ROOT / 'runs' / 'full')
    main(parser.parse_args().runs)
