"""Runs a profile twice from untrained networks and compares.

results.json (but for measured speeds), predictions and the hashes of all weights must be the same. The second
run orders hashes of text in another way and computes its features, generated sounds and pairs anew.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from soundclf.core.files import data_dir, read_json

ROOT = Path(__file__).resolve().parent.parent
GENERAL = ('03_scratch_cnn', '04_fastai_transfer', '05_optuna_tuning', '06_eval_confusion')
SPECIAL = ('07_spoken_digits', '08_waveform_cnn', '09_audio_tagging', '10_tabular_baselines')
COMPUTED = ('features', 'pairs', 'synthetic*', '.*')  # in the data folder; the rest was downloaded


def run_chapter(name: str, parameters: dict[str, str], environment: dict[str, str]):
    "Executes one chapter, or a notebook by its path; checkpoints, studies and results go below `out`."
    papermill = str(Path(sys.executable).parent / 'papermill')
    notebook = name if name.endswith('.ipynb') else f'nbs/{name}.ipynb'
    made = ROOT / parameters['out'] / f'{Path(name).stem}.ipynb'
    words = [papermill, notebook, str(made), '--cwd', 'nbs', '-k', 'python3', '--no-progress-bar']
    for key, value in parameters.items():
        words += ['-p', key, value]
    environment = os.environ | {'SOUNDCLF_QUIET': '1', 'IN_TEST': '1'} | environment
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, env=environment)
    print(f'  {name}', flush=True)


def fresh_data(folder: Path) -> dict[str, str]:
    "Settings for a run with a data folder that holds the downloads only, and with hashes in another order."
    folder.mkdir()
    for entry in data_dir().iterdir():
        if not any(entry.match(pattern) for pattern in COMPUTED):
            (folder / entry.name).symlink_to(entry)
    other = '1729' if os.environ.get('PYTHONHASHSEED') != '1729' else '0'
    return {'SOUNDCLF_DATA': str(folder), 'PYTHONHASHSEED': other}


def run_once(chapters: list[str], parameters: dict[str, str], is_second: bool) -> tuple[dict, dict]:
    "Every results.json by data set, and the digests of every run, of a run that starts empty."
    with tempfile.TemporaryDirectory(dir=ROOT / 'runs') as tmp:
        out = Path(tmp) / 'out'
        environment = fresh_data(Path(tmp) / 'data') if is_second else {}
        out.mkdir()
        for name in chapters:
            run_chapter(name, parameters | {'out': os.path.relpath(out, ROOT)}, environment)
        return results_of(out), digests_of(out)


def results_of(out: Path) -> dict[str, dict]:
    "Every results.json (and the tabular models' own) by data set, without measured speeds."
    results = {}
    for name in ('results', 'tabular'):
        for file in sorted(out.glob(f'*/*/figures/{name}.json')):
            results[f'{file.parent.parent.name}/{name}'] = read_json(file)
    for each in results.values():
        for model in each['models'].values():
            model.pop('speed', None)
    return results


def digests_of(out: Path) -> dict[str, str]:
    "What every finished run left: the hash of its weights and a hash of its predictions."
    found = {}
    for config in sorted(out.rglob('config.json')):
        found[str(config.parent.relative_to(out))] = read_json(config).get('weights_sha256', '')
    for table in sorted(out.rglob('predictions*.csv')):
        found[str(table.relative_to(out))] = hashlib.sha256(table.read_bytes()).hexdigest()
    return found


def models_of(results: dict[str, dict]) -> dict[str, dict]:
    return {f'{name}/{k}': m for name, each in results.items() for k, m in each['models'].items()}


def compare(first: tuple[dict, dict], second: tuple[dict, dict]) -> bool:
    "Whether two runs are the same; prints what was compared, and what differs."
    models, again = models_of(first[0]), models_of(second[0])
    names = sorted(models | again | first[1] | second[1])
    one, other = models | first[1], again | second[1]
    different = [k for k in names if one.get(k) != other.get(k)]
    shown = ', '.join(different[:8]) + (f' and {len(different) - 8} more' if len(different) > 8 else '')
    verdict = f'DIFFERENT: {shown}' if different else 'identical'
    print(f'{len(models)} models of {len(first[0])} data sets, {len(first[1])} weights and tables: {verdict}')
    return first == second


def main(dataset: str, profile: str, seed: str, *chapters: str) -> int:
    "0 if two runs are the same, else 1."
    chapters = chapters or GENERAL + (() if '/' in dataset else SPECIAL)
    parameters = {'dataset': dataset, 'profile': profile, 'seed': seed}
    (ROOT / 'runs').mkdir(exist_ok=True)
    found = []
    for turn in ('first', 'second'):
        print(f'{turn} run', flush=True)
        found.append(run_once(list(chapters), parameters, turn == 'second'))
    if not any(found[0]):
        sys.exit('No results were written: nothing was compared.')
    return int(not compare(*found))


if __name__ == '__main__':
    try:
        sys.exit(main(*sys.argv[1:]))
    except subprocess.CalledProcessError as e:
        sys.exit(e.stderr[-3000:])
    except KeyboardInterrupt:
        print('Stopped before the comparison: nothing is kept.', file=sys.stderr)
        sys.exit(130)
