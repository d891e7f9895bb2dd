"Runs a profile twice from untrained networks and compares: results.json (but for measured speeds) and the hashes of all weights must be the same."

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from soundclf.core.files import read_json

ROOT = Path(__file__).resolve().parent.parent
SPINE = ('03_scratch_cnn', '04_fastai_transfer', '05_optuna_tuning', '06_eval_confusion')
STUDIES = ('07_spoken_digits', '08_waveform_cnn', '09_audio_tagging', '10_tabular_baselines')


def run_once(dataset: str, profile: str, seed: str) -> dict[str, dict]:
    "Every results.json (and the tabular models' own, of ESC-50), by data set, of a run whose checkpoints, studies and executed notebooks start empty."
    with tempfile.TemporaryDirectory(dir=ROOT / 'runs') as out:
        for notebook in SPINE + (() if '/' in dataset else STUDIES):
            subprocess.run(
                [
                    str(Path(sys.executable).parent / 'papermill'),
                    f'nbs/{notebook}.ipynb',
                    f'{out}/{notebook}.ipynb',
                    '--cwd',
                    'nbs',
                    '-k',
                    'python3',
                    '--no-progress-bar',
                    '-p',
                    'dataset',
                    dataset,
                    '-p',
                    'profile',
                    profile,
                    '-p',
                    'seed',
                    seed,
                    '-p',
                    'out',
                    os.path.relpath(out, ROOT),
                ],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {'SOUNDCLF_QUIET': '1', 'IN_TEST': '1'},
            )
            print(f'  {notebook}')
        results = {
            f'{file.parent.parent.name}/{file.stem}': read_json(file)
            for name in ('results', 'tabular')
            for file in sorted(Path(out).glob(f'{profile}/*/figures/{name}.json'))
        }
    for each in results.values():
        for model in each['models'].values():
            model.pop('speed')
    return results


if __name__ == '__main__':
    dataset, profile, seed = sys.argv[1:4]
    (ROOT / 'runs').mkdir(exist_ok=True)
    try:
        print('first run')
        first = run_once(dataset, profile, seed)
        print('second run')
        second = run_once(dataset, profile, seed)
    except subprocess.CalledProcessError as e:
        sys.exit(e.stderr[-3000:])
    if not first:
        sys.exit('No results were written: nothing was compared.')
    models = {f'{name}/{k}': m for name, each in first.items() for k, m in each['models'].items()}
    again = {f'{name}/{k}': m for name, each in second.items() for k, m in each['models'].items()}
    hashes = {h for m in models.values() for p in m['protocols'].values() for h in p['weights']}
    different = [k for k in models if models[k] != again.get(k)]
    print(
        f'{len(models)} models of {len(first)} data sets, {len(hashes)} sets of weights: {"DIFFERENT: " + ", ".join(different) if different else "identical"}'
    )
    sys.exit(bool(different) or first != second)
