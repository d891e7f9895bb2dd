"`make verify` notices what differs from run to run: order by the hash of a text, and noise in features."

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'scripts'))
import verify  # noqa: E402

PARAMETERS = 'dataset, profile, seed, out = "synthetic", "quick", 42, "runs"'
TRAINING = """
from soundclf.core.audio import Features
from soundclf.core.esc50 import synthetic
from soundclf.core.files import run_dir
from soundclf.core.splits import fold_splits
from soundclf.scratch_cnn import Recipe, train_split

small = Features(sample_rate=8000, duration=1.0, n_fft=512, hop_length=256, n_mels=16, f_max=4000)
table = synthetic(per_fold=1)
run = train_split(table, fold_splits(table)[0], Recipe(network='small', epochs=1), small,
                  run_dir('tiny', 'synthetic', profile, out))
"""
# Faults, for sitecustomize: Python runs it in every process, and the product itself is as it is.
FAULTS = {
    'none': '',
    'order by hash': """
import torch
drawn = torch.randperm
torch.randperm = lambda n, **kw: drawn(n, **kw).roll((hash('order') - BASE) % 997)
""",
    'noise in features': """
import os
import numpy as np
import soundfile
read = soundfile.SoundFile.read

def noisy(self, *args, **kw):
    wave = read(self, *args, **kw)
    rng = np.random.default_rng(list(os.urandom(8)))
    return wave + (1e-3 * rng.standard_normal(wave.shape)).astype(wave.dtype)

soundfile.SoundFile.read = noisy
""",
}


def cell(source: str, *tags: str) -> dict:
    empty = {'cell_type': 'code', 'execution_count': None, 'outputs': []}
    return empty | {'id': f'c{len(source)}', 'metadata': {'tags': list(tags)}, 'source': source}


def write_notebook(path: Path):
    "A chapter that trains one tiny network."
    kernel = {'name': 'python3', 'display_name': 'python3', 'language': 'python'}
    cells = [cell(PARAMETERS, 'parameters'), cell(TRAINING)]
    content = {'cells': cells, 'metadata': {'kernelspec': kernel}, 'nbformat': 4, 'nbformat_minor': 5}
    path.write_text(json.dumps(content))


def write_fault(folder: Path, fault: str):
    "A sitecustomize with a fault for the processes that train; BASE is the hash in the first run."
    seeded = os.environ | {'PYTHONHASHSEED': '0'}
    command = [sys.executable, '-c', "print(hash('order'))"]
    base = subprocess.run(command, capture_output=True, text=True, check=True, env=seeded).stdout
    fault = fault.replace('BASE', base.strip())
    lines = [f'    {line}' for line in ('pass', *fault.splitlines())]
    condition = "if not any('papermill' in a for a in sys.orig_argv):"
    (folder / 'sitecustomize.py').write_text('\n'.join(['import sys', condition, *lines]))


@pytest.fixture(scope='module')
def once(tmp_path_factory):
    "A function that runs the tiny chapter with a fault, and the run of it without one."
    tmp = tmp_path_factory.mktemp('verify')
    write_notebook(tmp / 'tiny.ipynb')
    (tmp / 'data').mkdir()
    (ROOT / 'runs').mkdir(exist_ok=True)
    parameters = {'dataset': 'synthetic', 'profile': 'quick', 'seed': '42'}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SOUNDCLF_DATA', str(tmp / 'data'))
        patch.setenv('PYTHONHASHSEED', '0')
        patch.setenv('PYTHONPATH', f'{tmp}{os.pathsep}{ROOT}')

        def run(fault, is_second):
            write_fault(tmp, fault)
            return verify.run_once([str(tmp / 'tiny.ipynb')], parameters, is_second)

        yield run, run(FAULTS['order by hash'], False)


@pytest.mark.parametrize('name', FAULTS)
def test_verify_notices(once, name, monkeypatch, capsys):
    run, first = once
    found = [first, run(FAULTS[name], True)]
    monkeypatch.setattr(verify, 'run_once', lambda *_: found.pop(0))
    is_different = verify.main('synthetic', 'quick', '42', 'tiny')
    assert is_different == (name != 'none')
    verdict = 'DIFFERENT: quick/synthetic/tiny' if is_different else 'identical'
    assert verdict in capsys.readouterr().out
