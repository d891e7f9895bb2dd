"Speed and memory as ratios against baselines measured in the same run. No figure here is asserted anywhere."

import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

from soundclf.core.audio import decode
from soundclf.core.backbones import has_weights
from soundclf.core.datasets import load_dataset
from soundclf.core.duplicates import near_duplicates
from soundclf.core.features import cached_features, extract
from soundclf.core.front_ends import features_for, front_end
from soundclf.core.results import latency, peak_memory
from soundclf.core.runtime import set_threads
from soundclf.core.splits import fold_splits
from soundclf.scratch_cnn import ReferenceCNN, SmallCNN, epoch_speedup, reference_recipe
from soundclf.tools.classifier import Classifier
from soundclf.tools.models import model_names, model_path

FIRST_ANSWER = '''
import sys
from soundclf.tools.classifier import Classifier
Classifier.load({name!r}, "onnx").predict({path!r})
assert "torch" not in sys.modules
'''
STREAM = '''
import time
import numpy as np
from soundclf.core.results import peak_memory
from soundclf.core.runtime import set_threads
from soundclf.tools.classifier import Classifier
set_threads()
model = Classifier.load("scratch", "torch")
block = np.random.default_rng(0).standard_normal(44100).astype("float32") * 0.1
start = time.perf_counter()
for _ in model.stream((block for _ in range({seconds})), sample_rate=44100):
    pass
print(time.perf_counter() - start, peak_memory())
'''
QUICKEST = '''
import sys, tempfile, time
start = time.perf_counter()
from soundclf.core.datasets import load_dataset
from soundclf.core.splits import fold_splits
from soundclf.fastai_transfer import cross_tune
table = load_dataset(sys.argv[1])
with tempfile.TemporaryDirectory() as tmp:
    predictions, _ = cross_tune(table, fold_splits(table), "mn04_as", tmp)
print(time.perf_counter() - start, (predictions.label == predictions.predicted).mean())
'''


def timed(call) -> float:  # seconds
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fresh_python(code: str, *words: str, **settings: str) -> str:
    "What a fresh Python prints."
    command = [sys.executable, '-c', code, *words]
    environment = os.environ | settings
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def seconds_of_process(code: str) -> float:
    "The shorter of two runs of a fresh Python."
    return min(timed(lambda: fresh_python(code)) for _ in range(2))


def imports():
    torch_s = seconds_of_process('import torch')
    ours = seconds_of_process('import soundclf.tools.classifier')
    said = f'import torch {torch_s:.2f} s, soundclf.tools.classifier {ours:.2f} s'
    print(f'{said}, ratio {ours / torch_s:.2f}')


def models(table):
    "The first answer and one clip, for each model that there is."
    path = table.path[0]
    wave, rate = decode(path)
    for name in model_names():
        if (model_path(name) / 'model.onnx').is_file():
            first = seconds_of_process(FIRST_ANSWER.format(name=name, path=path))
            print(f'{name}: fresh Python to the first answer through ONNX, without torch, {first:.2f} s')
        for engine in ('torch', 'onnx'):
            model = Classifier.load(name, engine)
            seconds = latency(lambda model=model: model.predict(wave, rate))
            print(f'{name}, {engine}: one clip from samples, warm, median {1000 * seconds:.1f} ms')


def streams():
    for minutes in (1, 60):
        seconds, peak = map(float, fresh_python(STREAM.format(seconds=60 * minutes)).split())
        speed = 60 * minutes / seconds
        print(f'scratch, {minutes} minutes: {speed:.0f} times real time, peak memory {peak:.0f} MB')


def epochs(table):
    train = table.iloc[fold_splits(table)[0].train].reset_index(drop=True)
    s = epoch_speedup(train)
    said = f'one clip at a time {s["reference_s"]:.2f} s, from the cache {s["cached_s"]:.2f} s'
    print(f'epoch of the ReferenceCNN, {len(train)} clips: {said}, ratio {s["ratio"]:.1f}')
    print(f'the network alone takes {s["network_s"]:.2f} s, so the ratio can be {s["bound"]:.1f} at most')
    return s


def to_accuracy(dataset: str, table, epoch_s: float):
    "From recordings to five tested folds: sound-classifier-using-cnn's way, and the quickest in the book."
    recipe, _ = reference_recipe(table)
    folds = table.fold.nunique()
    its = epoch_s * recipe.epochs * folds
    with tempfile.TemporaryDirectory() as empty:
        printed = fresh_python(QUICKEST, dataset, SOUNDCLF_DATA=empty, SOUNDCLF_QUIET='1')
    ours, accuracy = map(float, printed.split()[-2:])
    said = f'{folds} folds of {recipe.epochs} epochs, clip by clip, {its:.0f} s (from the epoch above)'
    print(f'{said}; frozen mn04_as from an empty cache {ours:.1f} s, accuracy {accuracy:.4f}')
    print(f'ratio {its / ours:.0f}')


def features(table):
    settings = features_for(table)
    front = front_end(settings)
    x = cached_features(table.path, settings)
    read = timed(lambda: cached_features(table.path, settings))
    some = timed(lambda: [extract(path, settings, front) for path in table.path[:50]])
    once = some / 50 * len(table)
    said = f'one by one {once:.2f} s, from the cache {read:.2f} s, ratio {once / read:.1f}'
    print(f'features of {len(table)} clips: {said}')
    return x


def forward(x, classes: int):
    clip = torch.from_numpy(np.array(x[:1]))
    seconds = []
    with torch.inference_mode():
        for network in (ReferenceCNN(classes).eval(), SmallCNN(classes).eval()):
            seconds.append(latency(lambda network=network: network(clip)))
    reference, small = seconds
    said = f'ReferenceCNN {1000 * reference:.1f} ms, SmallCNN {1000 * small:.1f} ms'
    print(f'one clip, forward: {said}, ratio {small / reference:.1f}')


def duplicates(table):
    found, sound = timed(lambda: near_duplicates(table)), table.duration.sum()
    print(f'near-duplicates among {len(table)} clips: {found:.1f} s, {sound / found:.0f} times real time')


if __name__ == '__main__':
    set_threads()
    table = load_dataset(sys.argv[1])
    s = epochs(table)
    if has_weights('mn04_as'):
        to_accuracy(sys.argv[1], table, s['reference_s'])
    x = features(table)
    forward(x, table.label.nunique())
    duplicates(table)
    imports()
    models(table)
    if 'scratch' in model_names():
        streams()
    print(f'peak memory {peak_memory() / 1e3:.2f} GB, features {x.nbytes / 1e9:.2f} GB')
