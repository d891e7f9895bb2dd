"What a notebook cell cannot test: imports, packaging, processes."

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import optuna
import pytest
from processes import Started

ROOT = Path(__file__).resolve().parent.parent


LAZY = '''
import sys
import soundclf
heavy = ("numpy", "pandas", "torch", "fastai", "matplotlib")
names = {"Classifier", "load_dataset", "train_model"}
assert not [m for m in heavy if m in sys.modules]
assert names <= set(dir(soundclf)) and names <= set(soundclf.__all__)
from soundclf import Classifier, load_dataset
assert Classifier.__module__ == "soundclf.tools.classifier" and callable(load_dataset)
assert not [m for m in heavy[2:] if m in sys.modules]
import soundclf.data, soundclf.transforms, soundclf.scratch_cnn, soundclf.eval_confusion
import soundclf.core.embeddings, soundclf.tools.classifier, soundclf.tools.commands
import soundclf.tools.labels, soundclf.tools.live, soundclf.tools.timeline
print([m for m in ("fastai", "matplotlib", "seaborn", "optuna") if m in sys.modules])
from soundclf import *
assert callable(train_model)
try:
    soundclf.train_modle
except AttributeError as e:
    print(e)
'''


@pytest.fixture(scope='module')
def imported():
    "What a fresh interpreter prints while it imports more and more of the package."
    found = subprocess.run([sys.executable, '-c', LAZY], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_light_modules_import_neither_fastai_nor_matplotlib(imported):
    assert imported[0] == '[]'


def test_the_names_of_the_package_come_when_they_are_asked_for(imported):
    assert imported[1] == "module 'soundclf' has no attribute 'train_modle'"


def test_the_wheel_carries_the_checksum_lists(tmp_path):
    copy = tmp_path / 'source'
    for name in ('soundclf', 'data/manifests'):
        shutil.copytree(ROOT / name, copy / name)
    for name in ('setup.py', 'settings.ini', 'pyproject.toml'):
        shutil.copy(ROOT / name, copy)
    pip = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation']
    subprocess.run([*pip, '-w', tmp_path, copy], check=True)
    names = zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist()
    manifests = {f'soundclf/manifests/{name}.sha256' for name in ('esc50', 'weights')}
    modules = {'soundclf/data.py', 'soundclf/core/loop.py', 'soundclf/tools/classifier.py'}
    assert manifests | modules <= set(names)


def _terminal(folder):
    from soundclf.core.studies import open_study, run_study

    run_study(open_study('shared', folder), lambda trial: -(trial.suggest_float('x', -1, 1) ** 2), 12)


def test_two_terminals_work_on_one_study(tmp_path):
    from soundclf.core.studies import is_finished, open_study

    terminals = [Started(_terminal, str(tmp_path)) for _ in range(2)]
    for code, _, err in [terminal.end() for terminal in terminals]:
        assert code == 0, err
    trials = open_study('shared', tmp_path).trials
    assert 12 <= sum(map(is_finished, trials)) <= 13
    values = [t.params['x'] for t in trials if t.state == optuna.trial.TrialState.COMPLETE]
    assert len(set(values)) == len(values)


def test_reports_read_the_schema():
    "results.json of the repository follows the schema and belongs to a full run on real recordings."
    from soundclf.core.files import read_json

    results = read_json(ROOT / 'figures' / 'esc50-10' / 'results.json')
    assert (results['dataset'], results['profile']) == ('esc50-10', 'full')
    for model in results['models'].values():
        assert {'parameters', 'bytes', 'protocols', 'speed'} <= set(model)
        for protocol in model['protocols'].values():
            a = protocol['accuracy']
            assert a['low'] <= a['mean'] <= a['high'] and protocol['selection'] and protocol['weights']
            f, g = protocol['macro_f1'], protocol['accuracy_by_group']
            assert f['low'] <= f['mean'] <= f['high'] and g['low'] <= a['mean'] <= g['high']
        for protocol in filter(None, [model['protocols'].get('five_folds')]):
            assert protocol['n'] == 400 and len(protocol['accuracy']['per_fold']) == 5


def test_stored_predictions_give_the_stored_figures():
    "The numbers and intervals in results.json follow from the committed predictions."
    from soundclf.core.files import read_json
    from soundclf.core.metrics import metrics
    from soundclf.core.predictions import load_predictions
    from soundclf.core.results import protocol_record

    folder = ROOT / 'figures' / 'esc50-10'
    for name, model in read_json(folder / 'results.json')['models'].items():
        found = load_predictions(folder / 'predictions' / f'{name}.csv')
        told = model['protocols']
        if 'five_folds' in told:
            assert told['five_folds'] == protocol_record(
                found, told['five_folds']['selection'], told['five_folds']['weights']
            ), name
        halves = [told['reference_validation'], told['reference_test']]
        first = found[found.fold == found.fold.min()]
        assert sum(h['n'] for h in halves) == len(first), name
        assert (
            abs(sum(h['n'] * h['accuracy']['mean'] for h in halves) / len(first) - metrics(first)['accuracy'])
            < 1e-4
        ), name
