"What a notebook cell cannot test of the classifier: an environment without torch, thousands of broken files, hours of sound, the installed command."

import json
import os
import resource
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from soundclf.core.audio import Features
from soundclf.core.files import NoSource, SoundclfError
from soundclf.core.datasets import load_dataset
from soundclf.tools.classifier import Classifier
from soundclf.tools.models import model_names

ROOT = Path(__file__).resolve().parent.parent
BROKEN = int(os.environ.get('SOUNDCLF_BROKEN_FILES', 10_000))


def stand_in() -> Classifier:
    "A classifier with a real front (decoding, resampling, fitting) and two made-up classes."

    def run(waves):
        loud = np.minimum(1, np.abs(waves).mean((1, 2)))
        return np.stack([loud, 1 - loud], 1)

    return Classifier(run, Features(sample_rate=16000, duration=2.0, f_max=8000), ['loud', 'quiet'])


def seeds(folder: Path) -> list[bytes]:
    "Real files of every format, as bytes."
    wave = np.random.default_rng(0).standard_normal((4000, 2)).astype('float32') * 0.2
    found = []
    for suffix, subtype, form in (
        ('wav', 'PCM_16', None),
        ('wav', 'PCM_24', None),
        ('wav', 'FLOAT', None),
        ('wav', 'PCM_16', 'WAVEX'),
        ('wav', 'IMA_ADPCM', None),
        ('flac', 'PCM_16', None),
        ('ogg', 'VORBIS', None),
        ('mp3', 'MPEG_LAYER_III', None),
    ):
        path = folder / f'seed.{suffix}'
        sf.write(path, wave, 22050, subtype=subtype, format=form)
        found.append(path.read_bytes())
    return found


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    "Flipped bytes, an overwritten header field, a cut, a doubled or a foreign piece."
    data, kind = bytearray(data), rng.integers(5)
    if kind == 0:
        for i in rng.integers(0, len(data), rng.integers(1, 30)):
            data[i] = rng.integers(256)
    elif kind == 1:
        i = int(rng.integers(0, min(80, len(data) - 4)))
        data[i : i + 4] = rng.choice(
            [
                b'\xff\xff\xff\xff',
                b'\x00\x00\x00\x00',
                b'\xff\xff\xff\x7f',
                b'\x01\x00\x00\x00',
                rng.bytes(4),
            ]
        )
    elif kind == 2:
        data = data[: int(rng.integers(0, len(data)))]
    elif kind == 3:
        i, n = rng.integers(0, len(data), 2)
        data[i:i] = data[n : n + int(rng.integers(1, 2000))]
    else:
        i = int(rng.integers(0, len(data)))
        data[i : i + 200] = rng.bytes(int(rng.integers(0, 400)))
    return bytes(data)


def hand_made(folder: Path) -> list[Path]:
    "What people and programs really leave behind under an audio name."
    tone = np.sin(np.arange(8000) / 5).astype('float32')
    made = {
        'empty.wav': b'',
        'text.mp3': b'not a sound\n' * 40,
        'riff.wav': b'RIFF',
        'zeros.flac': bytes(5000),
        'id3.mp3': b'ID3\x04\x00\x00\x7f\x7f\x7f\x7f' + bytes(300),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    for name, wave, rate in (
        ('none.wav', tone[:0], 8000),
        ('nan.wav', tone * np.nan, 8000),
        ('inf.wav', np.full(8000, np.inf, 'float32'), 8000),
        ('slow.wav', tone, 1),
        ('fast.wav', tone, 2_000_000_000),
        ('one.wav', tone[:1], 8000),
        ('long.wav', np.tile(tone, 300), 8000),
    ):
        sf.write(folder / name, wave, rate, subtype='FLOAT')
    (folder / 'folder.wav').mkdir()
    (folder / 'gone.wav').symlink_to(folder / 'nowhere')
    os.mkfifo(folder / 'pipe.wav')
    return sorted(p for p in folder.iterdir() if p.name != 'seed.wav')


def test_broken_files_give_an_answer_or_a_named_error(tmp_path):
    clf, rng, slowest = stand_in(), np.random.default_rng(1), 0.0
    (tmp_path / 'hand').mkdir()
    before, answers, named = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, 0
    originals, target = seeds(tmp_path), tmp_path / 'broken.wav'

    def ask(path):
        nonlocal answers, named, slowest
        start = time.perf_counter()
        try:
            answer = clf.predict(path)
            assert np.isfinite(answer.probability)
            answers += 1
        except SoundclfError as e:
            assert path.name in str(e) or 'recording' in str(e), e
            named += 1
        slowest = max(slowest, time.perf_counter() - start)

    for path in hand_made(tmp_path / 'hand'):
        ask(path)
    for _ in range(BROKEN):
        target.write_bytes(mutate(originals[rng.integers(len(originals))], rng))
        ask(target)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f'{answers} answers, {named} named errors; slowest {slowest:.2f} s, {grown / 1e3:.0f} MB more memory'
    )
    assert answers and named and slowest < 5 and grown < 1e6


def test_every_file_has_its_row(tmp_path):
    (tmp_path / 'hand').mkdir()
    paths = hand_made(tmp_path / 'hand')
    table = stand_in().predict_many(paths)
    assert table.path.tolist() == [str(p) for p in paths]
    assert ((table.error == '') == table.probability.notna()).all() and (
        table.error != ''
    ).sum() > 8


MEMORY = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_predict import stand_in
clf = stand_in(); n = sum(1 for _ in clf.stream(sys.argv[1]))
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_length(tmp_path):
    peaks, noise = [], np.random.default_rng(0).standard_normal(8000 * 60).astype('float32') * 0.1
    for minutes in (1, 60):
        path = tmp_path / f'{minutes}.flac'
        with sf.SoundFile(path, 'w', 8000, 1) as file:
            for _ in range(minutes):
                file.write(noise)
        done = subprocess.run(
            [sys.executable, '-c', MEMORY.format(tests=str(ROOT / 'tests')), path],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        windows, peak = map(int, done.stdout.split())
        peaks.append(peak)
        assert windows == minutes * 60 - 1
    assert peaks[1] - peaks[0] < 200_000


def test_importing_predict_costs_less_than_torch():
    seconds = {}
    for module in ('torch', 'soundclf.tools.classifier'):
        code = (
            f'import time; s = time.perf_counter(); import {module}; print(time.perf_counter() - s)'
        )
        seconds[module] = min(
            float(
                subprocess.run(
                    [sys.executable, '-c', code],
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd=ROOT,
                ).stdout
            )
            for _ in range(2)
        )
    assert seconds['soundclf.tools.classifier'] <= 1.3 * seconds['torch']


@pytest.fixture(scope='module')
def torchless(tmp_path_factory):
    "A fresh environment with `soundclf[onnx]` from this source, and no torch."
    folder = tmp_path_factory.mktemp('torchless')
    venv.create(folder / 'venv', with_pip=True)
    python = folder / 'venv' / 'bin' / 'python'
    subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            'wheel',
            '-q',
            '--no-deps',
            '--no-build-isolation',
            '-w',
            folder,
            ROOT,
        ],
        check=True,
    )
    wheel = next(folder.glob('*.whl'))
    subprocess.run(
        [
            python,
            '-m',
            'pip',
            'install',
            '-q',
            '--disable-pip-version-check',
            '-c',
            ROOT / 'constraints.txt',
            f'{wheel}[onnx]',
        ],
        check=True,
    )
    return python


@pytest.mark.skipif(
    'scratch' not in model_names(), reason='the packaged model is made by the full run'
)
def test_the_packaged_model_answers_without_torch(torchless, tmp_path):
    wave = np.random.default_rng(0).standard_normal(5 * 44100).astype('float32') * 0.1
    sf.write(tmp_path / 'noise.wav', wave, 44100)
    assert subprocess.run([torchless, '-c', 'import torch'], capture_output=True).returncode
    command = [torchless.parent / 'soundclf', 'predict', tmp_path / 'noise.wav', '--json']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)['probabilities']
    here = Classifier.load('scratch', 'torch').predict(tmp_path / 'noise.wav').probabilities
    assert answer.keys() == here.keys() and max(abs(answer[k] - here[k]) for k in here) < 1e-4


def test_without_torch_or_a_model_there_is_a_sentence(torchless, tmp_path):
    sf.write(tmp_path / 'noise.wav', np.zeros(8000), 8000)
    (tmp_path / 'model').mkdir()
    (tmp_path / 'model' / 'config.json').write_text('{"kind": "scratch"}')
    for words, sentence in (
        (['--model', 'model'], 'needs torch'),
        (['--model', 'none'], 'There is no model'),
        (['--engine', 'onyx'], "did you mean 'onnx'?"),
    ):
        done = subprocess.run(
            [torchless.parent / 'soundclf', 'predict', 'noise.wav', *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert (
            done.returncode == 1 and sentence in done.stderr and 'Traceback' not in done.stderr
        ), done.stderr


def test_the_command_is_installed():
    command = Path(sys.executable).parent / 'soundclf'
    assert (
        'predict'
        in subprocess.run([command, '--help'], capture_output=True, text=True, check=True).stdout
    )
    assert subprocess.run([command, 'sing'], capture_output=True, text=True).returncode == 2


def test_the_command_has_the_accuracy_that_the_results_state():
    try:
        table = load_dataset('esc50-10')
    except NoSource as e:
        pytest.skip(str(e))
    held = table[table.fold == 1]
    said = subprocess.run(
        [
            Path(sys.executable).parent / 'soundclf',
            'predict',
            '--json',
            '--model',
            'scratch',
            *held.path,
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    answers = {a['path']: a['label'] for a in map(json.loads, said.splitlines())}
    stated = json.loads((ROOT / 'figures' / 'esc50-10' / 'results.json').read_text())['models'][
        'scratch-better'
    ]['protocols']['five_folds']['accuracy']['per_fold'][0]
    assert np.mean(
        [answers[p] == label for p, label in zip(held.path, held.label)]
    ) == pytest.approx(stated, abs=1e-4)
