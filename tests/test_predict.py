"What a notebook cell cannot test of the classifier: no torch, broken files, hours of sound, the command."

import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from soundclf.core.audio import Features
from soundclf.core.datasets import load_dataset
from soundclf.core.files import NoSource, SoundclfError
from soundclf.core.results import peak_memory
from soundclf.tools.classifier import Classifier
from soundclf.tools.commands import run
from soundclf.tools.models import model_names

ROOT = Path(__file__).resolve().parent.parent
BROKEN = int(os.environ.get('SOUNDCLF_BROKEN_FILES', 10_000))


def stand_in() -> Classifier:
    "A classifier with a real front (decoding, resampling, fitting) and two made-up classes."

    def run(waves):
        loud = np.minimum(1, np.abs(waves).mean((1, 2)))
        return np.stack([loud, 1 - loud], 1)

    return Classifier(run, Features(sample_rate=16000, duration=2.0, f_max=8000), ['loud', 'quiet'])


FORMATS = (
    ('wav', 'PCM_16', None),
    ('wav', 'PCM_24', None),
    ('wav', 'FLOAT', None),
    ('wav', 'PCM_16', 'WAVEX'),
    ('wav', 'IMA_ADPCM', None),
    ('flac', 'PCM_16', None),
    ('ogg', 'VORBIS', None),
    ('mp3', 'MPEG_LAYER_III', None),
)


def seeds(folder: Path) -> list[bytes]:
    "Real files of every format, as bytes."
    wave = np.random.default_rng(0).standard_normal((4000, 2)).astype('float32') * 0.2
    found = []
    for suffix, subtype, form in FORMATS:
        path = folder / f'seed.{suffix}'
        sf.write(path, wave, 22050, subtype=subtype, format=form)
        found.append(path.read_bytes())
    return found


def flip(data: bytearray, rng: np.random.Generator):
    for i in rng.integers(0, len(data), rng.integers(1, 30)):
        data[i] = rng.integers(256)


def overwrite_a_header_field(data: bytearray, rng: np.random.Generator):
    i = int(rng.integers(0, min(80, len(data) - 4)))
    extremes = [b'\xff\xff\xff\xff', b'\x00\x00\x00\x00', b'\xff\xff\xff\x7f', b'\x01\x00\x00\x00']
    data[i : i + 4] = rng.choice([*extremes, rng.bytes(4)])


def cut(data: bytearray, rng: np.random.Generator):
    del data[int(rng.integers(0, len(data))) :]


def double_a_piece(data: bytearray, rng: np.random.Generator):
    i, n = rng.integers(0, len(data), 2)
    data[i:i] = data[n : n + int(rng.integers(1, 2000))]


def insert_a_foreign_piece(data: bytearray, rng: np.random.Generator):
    i = int(rng.integers(0, len(data)))
    data[i : i + 200] = rng.bytes(int(rng.integers(0, 400)))


DAMAGES = (flip, overwrite_a_header_field, cut, double_a_piece, insert_a_foreign_piece)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    "A damaged copy."
    copy = bytearray(data)
    DAMAGES[rng.integers(len(DAMAGES))](copy, rng)
    return bytes(copy)


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


class Count:
    "What became of many files."

    def __init__(self, clf: Classifier):
        self.clf = clf
        self.answers, self.errors, self.slowest = 0, 0, 0.0

    def ask(self, path: Path):
        start = time.process_time()  # a busy machine is none of its business
        try:
            assert np.isfinite(self.clf.predict(path).probability)
            self.answers += 1
        except SoundclfError as e:
            assert path.name in str(e) or 'recording' in str(e), e
            self.errors += 1
        self.slowest = max(self.slowest, time.process_time() - start)


def test_broken_files_give_an_answer_or_a_named_error(tmp_path):
    count, rng = Count(stand_in()), np.random.default_rng(1)
    (tmp_path / 'hand').mkdir()
    originals, target = seeds(tmp_path), tmp_path / 'broken.wav'
    before = peak_memory()
    for path in hand_made(tmp_path / 'hand'):
        count.ask(path)
    for _ in range(BROKEN):
        target.write_bytes(mutate(originals[rng.integers(len(originals))], rng))
        count.ask(target)
    grown = peak_memory() - before
    print(f'{count.answers} answers, {count.errors} named errors')
    print(f'slowest {count.slowest:.2f} s, {grown:.0f} MB more memory')
    assert count.answers and count.errors
    assert count.slowest < 5 and grown < 1000


def test_every_file_has_its_row(tmp_path):
    (tmp_path / 'hand').mkdir()
    paths = hand_made(tmp_path / 'hand')
    table = stand_in().predict_many(paths)
    assert table.path.tolist() == [str(p) for p in paths]
    assert ((table.error == '') == table.probability.notna()).all()
    assert (table.error != '').sum() > 8


def test_samples_of_every_kind_of_number():
    "Full scale is 1 for floats, the largest number for signed integers, half the range for unsigned ones."
    clf = stand_in()
    tone = np.sin(np.arange(16000) / 5)
    expected = clf.predict(tone, 16000).probability
    for kind, scale, middle in (
        ('float32', 1, 0),
        ('int16', 2**15 - 1, 0),
        ('int32', 2**31 - 1, 0),
        ('uint8', 127, 128),
        ('uint16', 2**15 - 1, 2**15),
    ):
        samples = (tone * scale + middle).round(0 if middle or scale > 1 else 9).astype(kind)
        assert clf.predict(samples, 16000).probability == pytest.approx(expected, abs=0.01), kind


MEMORY = """
import sys
sys.path.insert(0, {tests!r})
from test_predict import stand_in
from soundclf.core.results import peak_memory
n = sum(1 for _ in stand_in().stream(sys.argv[1]))
print(n, peak_memory())
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
        windows, peak = map(float, done.stdout.split())
        peaks.append(peak)
        assert windows == minutes * 60 - 1
    assert peaks[1] - peaks[0] < 200


def import_seconds(module: str) -> float:
    "The work of an import in a fresh process, which does not depend on what else the machine does."
    code = f'import time; s = time.process_time(); import {module}; print(time.process_time() - s)'
    command = [sys.executable, '-c', code]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def test_importing_the_classifier_costs_less_than_torch():
    assert import_seconds('soundclf.tools.classifier') <= 1.3 * import_seconds('torch')


@pytest.fixture(scope='module')
def torchless(tmp_path_factory):
    "A fresh environment with `soundclf[onnx]` from this source, and no torch."
    folder = tmp_path_factory.mktemp('torchless')
    venv.create(folder / 'venv')
    python = folder / 'venv' / 'bin' / 'python'
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
    wheel = [*pip, 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', folder, ROOT]
    subprocess.run(wheel, check=True)
    package = f'{next(folder.glob("*.whl"))}[onnx]'
    # What is not imported need not be compiled.
    install = [*pip, '--python', python, 'install', '-q', '--no-compile', '-c', ROOT / 'constraints.txt']
    subprocess.run([*install, package], check=True)
    return python


@pytest.mark.skipif('scratch' not in model_names(), reason='the packaged model is made by the full run')
def test_the_packaged_model_answers_without_torch(torchless, tmp_path):
    wave = np.random.default_rng(0).standard_normal(5 * 44100).astype('float32') * 0.1
    sf.write(tmp_path / 'noise.wav', wave, 44100)
    assert subprocess.run([torchless, '-c', 'import torch'], capture_output=True).returncode
    command = [torchless.parent / 'soundclf', 'predict', tmp_path / 'noise.wav', '--json']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)['probabilities']
    here = Classifier.load('scratch', 'torch').predict(tmp_path / 'noise.wav').probabilities
    assert answer.keys() == here.keys()
    assert max(abs(answer[k] - here[k]) for k in here) < 1e-4


def test_without_torch_or_a_model_there_is_a_sentence(torchless, tmp_path):
    sf.write(tmp_path / 'noise.wav', np.zeros(8000), 8000)
    (tmp_path / 'model').mkdir()
    (tmp_path / 'model' / 'config.json').write_text('{"kind": "scratch"}')
    command = [torchless.parent / 'soundclf', 'predict', 'noise.wav']
    for words, sentence in (
        (['--model', 'model'], 'needs torch'),
        (['--model', 'none'], 'There is no model'),
        (['--engine', 'onyx'], "did you mean 'onnx'?"),
    ):
        done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert sentence in done.stderr
        assert 'Traceback' not in done.stderr


def test_the_command_is_installed(capsys):
    assert run(['--help']) == 0 and 'predict' in capsys.readouterr().out
    command = Path(sys.executable).parent / 'soundclf'
    shown = subprocess.run([command, 'predct'], capture_output=True, text=True)
    assert shown.returncode == 2 and "did you mean 'predict'?" in shown.stderr


def test_the_command_has_the_accuracy_that_the_results_state(capsys):
    try:
        table = load_dataset('esc50-10')
    except NoSource as e:
        pytest.skip(str(e))
    held = table[table.fold == 1]
    capsys.readouterr()
    assert run(['predict', '--json', '--model', 'scratch', *held.path]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    answers = {line['path']: line['best'] for line in lines}  # `label` may be unknown
    results = json.loads((ROOT / 'figures' / 'esc50-10' / 'results.json').read_text())
    record = results['models']['scratch-better']['protocols']['five_folds']
    right = [answers[p] == label for p, label in zip(held.path, held.label)]
    assert np.mean(right) == pytest.approx(record['accuracy']['per_fold'][0], abs=1e-4)
