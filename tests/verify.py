"Runs a profile twice from untrained networks and compares: results.json (but for measured speeds) and the hashes of all weights must be the same."
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from soundclf.core import figures_dir, read_json
from soundclf.data import dataset_name

ROOT = Path(__file__).resolve().parent.parent


def run_once(dataset: str, profile: str, seed: str) -> dict:
    "results.json of a run whose checkpoints, studies and executed notebooks start empty."
    with tempfile.TemporaryDirectory(dir=ROOT/'runs') as out:
        for notebook in ('03_scratch_cnn', '04_fastai_transfer', '05_optuna_tuning', '06_eval_confusion'):
            subprocess.run([str(Path(sys.executable).parent/'papermill'), f'nbs/{notebook}.ipynb', f'{out}/{notebook}.ipynb', '--cwd', 'nbs', '-k', 'python3',
                            '--no-progress-bar', '-p', 'dataset', dataset, '-p', 'profile', profile, '-p', 'seed', seed, '-p', 'out', os.path.relpath(out, ROOT)],
                           cwd=ROOT, check=True, capture_output=True, text=True, env=os.environ | {'SOUNDCLF_QUIET': '1', 'IN_TEST': '1'})
            print(f'  {notebook}')
        name = dataset_name(dataset)
        results = read_json(figures_dir(name, profile, os.path.relpath(out, ROOT))/'results.json')
    for model in results['models'].values(): model.pop('speed')
    return results


if __name__ == '__main__':
    dataset, profile, seed = sys.argv[1:4]
    (ROOT/'runs').mkdir(exist_ok=True)
    try:
        print('first run'); first = run_once(dataset, profile, seed)
        print('second run'); second = run_once(dataset, profile, seed)
    except subprocess.CalledProcessError as e: sys.exit(e.stderr[-3000:])
    hashes = [h for m in first['models'].values() for p in m['protocols'].values() for h in p['weights']]
    different = [k for k in first['models'] if first['models'][k] != second['models'].get(k)]
    print(f'{len(first["models"])} models, {len(set(hashes))} sets of weights: {"DIFFERENT: " + ", ".join(different) if different else "identical"}')
    sys.exit(bool(different) or first != second)
