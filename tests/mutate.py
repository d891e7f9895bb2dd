"""Breaks one line after the other in a copy of the package and tells which test notices.

`python tests/mutate.py --only core/splits` takes the lines of some modules; `--kind leak` those of one kind.
The exit code is 1 where a leak survives or fewer than 95 of 100 lines are noticed, 2 where a line is stale.
"""

import argparse
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
LEAST = 0.95  # share of the lines that must be noticed
PATIENCE = 400  # seconds for one check; a line that makes it hang is noticed
FILES = ('settings.ini', 'setup.py', 'pyproject.toml', 'app.py')
FOLDERS = ('soundclf', 'nbs', 'tests', 'figures', 'data/manifests', '.streamlit')
LEFT_OUT = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'runs')
SETTINGS = {
    'MPLBACKEND': 'Agg',
    'OMP_NUM_THREADS': '1',
    'PYTHONDONTWRITEBYTECODE': '1',
    'SOUNDCLF_DATASET': 'synthetic',
    'SOUNDCLF_JOBS': '1',
    'SOUNDCLF_QUIET': '1',
}
GUARDS = 'tests/test_leaks.py tests/test_properties.py'
LEAK = 'tests/test_leaks.py -k '
LEFT = 'tests/test_left_out.py'
PROPERTIES = 'tests/test_properties.py'
FIRST = {  # module -> the part of the guards that knows it best
    'audio_tagging': LEAK + 'tagger',
    'core/audio': PROPERTIES,
    'core/batches': LEAK + 'weights',
    'core/duplicates': PROPERTIES,
    'core/embeddings': LEAK + 'probe',
    'core/esc50': LEAK + 'groups',
    'core/fastai_blocks': LEAK + 'fine_tuning',
    'core/fastai_table': LEAK + 'fastai',
    'core/features': LEAK + 'features',
    'core/folders': LEAK + 'copy',
    'core/keys': LEAK + 'key',
    'core/levels': PROPERTIES,
    'core/loop': LEAK + 'average',
    'core/metrics': PROPERTIES,
    'core/predictions': PROPERTIES,
    'core/runs': LEAK + 'changed_weights',
    'core/second_probes': LEAK + 'seconds',
    'core/segments': LEAK + 'waveform',
    'core/splits': PROPERTIES,
    'core/table_search': LEAK + 'svm',
    'core/tags': LEAK + 'groups',
    'core/urban': PROPERTIES,
    'fastai_transfer': LEAK + 'fine_tuning',
    'optuna_tuning': LEAK + 'searches',
    'scratch_cnn': LEAK + 'scratch',
    'tabular_baselines': LEAK + 'without_the_test',
    'tools/labels': 'tests/test_labels.py -k two_processes',
    'tools/timeline': PROPERTIES,
    'tools/training': LEAK + 'model_is_measured',
    'tools/windows': PROPERTIES,
}
MORE = {  # start of a module's name -> tests beside its notebook and the guards
    'audio_tagging': 'tests/test_audio_tagging.py',
    'core/audit': 'tests/test_audit.py',
    'core/backbones': 'tests/test_backbones.py',
    'core/calibration': 'tests/test_unknown.py -k fold',
    'core/conformal': 'tests/test_unknown.py -k fold',
    'core/drift': LEFT + ' tests/test_drift.py -k "comparisons or source"',
    'core/esc50': 'tests/test_fetch.py',
    'core/fetch': 'tests/test_fetch.py',
    'core/keys': 'tests/test_keys.py',
    'core/jobs': 'tests/test_side_by_side.py',
    'core/learning_curve': 'tests/test_figures.py',
    'core/loop': 'tests/test_scratch_cnn.py',
    'core/runs': 'tests/test_scratch_cnn.py',
    'core/shortcut_losses': LEFT,
    'core/shortcuts': 'tests/test_figures.py',
    'core/store': 'tests/test_audio_tagging.py',
    'core/tags': 'nbs/09_audio_tagging.ipynb',
    'core/wave_augment': 'tests/test_waveform_cnn.py',
    'scratch_cnn': 'tests/test_scratch_cnn.py',
    'tools/answer_log': 'tests/test_drift.py -k killed',
    'tools/app': 'tests/test_app.py',
    'tools/classifier': 'tests/test_predict.py',
    'tools/commands': 'tests/test_predict.py',
    'tools/drift_report': LEFT,
    'tools/engines': 'tests/test_predict.py',
    'tools/fitting': LEFT + ' tests/test_unknown.py -k "coverage or threshold_is or does_not_help"',
    'tools/left_out': LEFT,
    'tools/serve': 'tests/test_serve.py -k "token or refusals"',
    'tools/labels': 'tests/test_predict.py',
    'waveform_cnn': 'tests/test_waveform_cnn.py',
}


class Found(NamedTuple):
    "What became of one broken line."

    by: str  # the test that noticed; empty if none did
    seconds: float


def notebook_of(module: str) -> Path | None:  # inside the repository
    "The notebook that exports a module."
    folder, _, name = module.rpartition('/')
    found = [p for p in (ROOT / 'nbs' / folder).glob('*.ipynb') if re.sub(r'^\d+_', '', p.stem) == name]
    return found[0].relative_to(ROOT) if found else None


def checks_of(module: str) -> list[str]:
    "What should notice a broken line, the likeliest first."
    own = [str(notebook_of(module)), *(test for start, test in MORE.items() if module.startswith(start))]
    return [FIRST[module], GUARDS, *own] if module in FIRST else [*own, GUARDS]


def stale(mutant: Mutant) -> str:  # a sentence; empty for a line that can be broken
    "Why a line cannot be broken."
    module = (ROOT / 'soundclf' / f'{mutant.module}.py').read_text(encoding='utf-8')
    cells = exported_cells(json.loads((ROOT / notebook_of(mutant.module)).read_text(encoding='utf-8')))
    there, in_cells = module.count(mutant.old), sum(source(c).count(mutant.old) for c in cells)
    if (there, in_cells) == (1, 1):
        return ''
    return f'{mutant.module} has {mutant.old!r} {there} times, and {in_cells} times in its notebook.'


def source(cell: dict) -> str:
    return ''.join(cell['source'])


def exported_cells(notebook: dict) -> list[dict]:
    return [c for c in notebook['cells'] if source(c).startswith('#| export')]


def copy_to(folder: Path):
    "What the tests need of the repository."
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
    for name in FILES:
        shutil.copy(ROOT / name, folder)


def break_line(folder: Path, mutant: Mutant):
    "Puts the other text into the module and into the notebook that exports it."
    module = folder / 'soundclf' / f'{mutant.module}.py'
    module.write_text(module.read_text(encoding='utf-8').replace(mutant.old, mutant.new), encoding='utf-8')
    file = folder / notebook_of(mutant.module)
    notebook = json.loads(file.read_text(encoding='utf-8'))
    for cell in exported_cells(notebook):
        cell['source'] = source(cell).replace(mutant.old, mutant.new)
    file.write_text(json.dumps(notebook), encoding='utf-8')


def run_check(folder: Path, check: str) -> str:  # the test that failed; empty where all is well
    "Runs tests, or the cells of a notebook, in a copy."
    programs = Path(sys.executable).parent
    if check.endswith('.ipynb'):
        command = [str(programs / 'nbdev_test'), '--path', check, '--n_workers', '0']
    else:
        quick = ['-x', '-q', '-p', 'no:cacheprovider', '--no-header', '--tb=no']
        command = [sys.executable, '-m', 'pytest', *quick, *shlex.split(check)]
    env = os.environ | SETTINGS | {'PYTHONPATH': str(folder), 'SOUNDCLF_DATA': str(folder / 'data')}
    options = {'cwd': folder, 'env': env, 'capture_output': True, 'text': True, 'timeout': PATIENCE}
    try:
        done = subprocess.run(command, **options)
    except subprocess.TimeoutExpired:
        return f'{check} (hangs)'
    if done.returncode == 5:  # pytest's code for nothing selected
        sys.exit(f'{check} selects no test: mend FIRST.')
    if not done.returncode:
        return ''
    named = re.search(r'^(?:FAILED|ERROR) (\S+)', done.stdout, re.M)
    return named.group(1) if named else check


@functools.cache
def holds(check: str) -> bool:
    "Whether a check passes while no line is broken."
    if check.split()[0] in GUARDS and check != GUARDS:
        return holds(GUARDS)
    with tempfile.TemporaryDirectory() as tmp:
        copy_to(Path(tmp))
        return not run_check(Path(tmp), check)


def try_out(mutant: Mutant, trust: bool) -> Found:
    "Which test notices a broken line, and after how long."
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as tmp:
        copy_to(Path(tmp))
        break_line(Path(tmp), mutant)
        for check in checks_of(mutant.module):
            noticed = run_check(Path(tmp), check)
            if noticed and not trust and not holds(check):
                print(f'{check} fails although nothing is broken: mend it first.', flush=True)
            elif noticed:
                return Found(noticed, time.perf_counter() - start)
    return Found('', time.perf_counter() - start)


def report(found: dict[Mutant, Found]) -> int:  # exit code
    "Prints the score and the lines that nobody noticed."
    missed = [m for m, f in found.items() if not f.by]
    score = 1 - len(missed) / len(found)
    print(f'\n{len(found) - len(missed)} of {len(found)} broken lines were noticed ({score:.3f}).')
    for m in missed:
        print(f'survives: {m.module}, {m.kind}: {m.old} -> {m.new}')
    return int(score < LEAST or any(m.kind == 'leak' for m in missed))


def main() -> int:  # exit code
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--only', default='', help='modules whose name has this in it')
    parser.add_argument('--kind', default='', help='leak, key, value, metric, safety or tool')
    parser.add_argument('--trust', action='store_true', help='the tests are known to pass as they are')
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if args.only in m.module and args.kind in m.kind]
    if not chosen:
        parser.error('there is no such line')
    if reasons := [reason for m in chosen if (reason := stale(m))]:
        print('\n'.join(['Lines of tests/mutants.py are stale:', *reasons]))
        return 2
    found = {}
    for m in chosen:
        found[m] = try_out(m, args.trust)
        by, seconds = found[m]
        print(f'{m.kind:<6} {m.module:<22} {seconds:4.0f} s  {by or "NOBODY":<60} {m.old[:60]}', flush=True)
    return report(found)


if __name__ == '__main__':
    sys.exit(main())
