"""Runs a profile twice from untrained networks and compares.

results.json (but for measured speeds) and the hashes of all weights must be the same.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from soundclf.core.files import read_json

ROOT = Path(__file__).resolve().parent.parent
GENERAL = ('03_scratch_cnn', '04_fastai_transfer', '05_optuna_tuning', '06_eval_confusion')
SPECIAL = ('07_spoken_digits', '08_waveform_cnn', '09_audio_tagging', '10_tabular_baselines')


def run_chapter(name: str, dataset: str, profile: str, seed: str, out: str):
    "Executes one chapter; checkpoints, studies and results go below `out`."
    papermill = str(Path(sys.executable).parent / 'papermill')
    parameters = {'dataset': dataset, 'profile': profile, 'seed': seed, 'out': os.path.relpath(out, ROOT)}
    words = [papermill, f'nbs/{name}.ipynb', f'{out}/{name}.ipynb', '--cwd', 'nbs', '-k', 'python3']
    for key, value in parameters.items():
        words += ['-p', key, value]
    environment = os.environ | {'SOUNDCLF_QUIET': '1', 'IN_TEST': '1'}
    words.append('--no-progress-bar')
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, env=environment)
    print(f'  {name}')


def run_once(dataset: str, profile: str, seed: str) -> dict[str, dict]:
    "Every results.json by data set (and the tabular models' own), of a run that starts empty."
    with tempfile.TemporaryDirectory(dir=ROOT / 'runs') as out:
        for name in GENERAL + (() if '/' in dataset else SPECIAL):
            run_chapter(name, dataset, profile, seed, out)
        results = {}
        for name in ('results', 'tabular'):
            for file in sorted(Path(out).glob(f'{profile}/*/figures/{name}.json')):
                results[f'{file.parent.parent.name}/{name}'] = read_json(file)
    for each in results.values():
        for model in each['models'].values():
            model.pop('speed')
    return results


def models_of(results: dict[str, dict]) -> dict[str, dict]:
    return {f'{name}/{k}': m for name, each in results.items() for k, m in each['models'].items()}


def compare(first: dict, second: dict) -> bool:
    "Whether two runs are the same; prints what was compared."
    models, again = models_of(first), models_of(second)
    hashes = set()
    for model in models.values():
        for protocol in model['protocols'].values():
            hashes |= set(protocol['weights'])
    different = [k for k in models if models[k] != again.get(k)]
    verdict = 'DIFFERENT: ' + ', '.join(different) if different else 'identical'
    print(f'{len(models)} models of {len(first)} data sets, {len(hashes)} sets of weights: {verdict}')
    return first == second


if __name__ == '__main__':
    (ROOT / 'runs').mkdir(exist_ok=True)
    found = []
    for turn in ('first', 'second'):
        print(f'{turn} run')
        try:
            found.append(run_once(*sys.argv[1:4]))
        except subprocess.CalledProcessError as e:
            sys.exit(e.stderr[-3000:])
    if not found[0]:
        sys.exit('No results were written: nothing was compared.')
    sys.exit(not compare(*found))
