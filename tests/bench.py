"Speed and memory as ratios against baselines measured in the same run. No figure here is asserted anywhere."

import resource
import subprocess
import sys
import time

import numpy as np
import torch

from soundclf.core.runtime import set_threads
from soundclf.core.audio import decode
from soundclf.core.splits import fold_splits
from soundclf.core.datasets import load_dataset
from soundclf.core.duplicates import near_duplicates
from soundclf.core.results import latency
from soundclf.tools.classifier import Classifier
from soundclf.tools.models import model_names, model_path
from soundclf.scratch_cnn import ReferenceCNN, SmallCNN, epoch_speedup
from soundclf.core.features import cached_features, extract
from soundclf.core.front_ends import features_for, front_end


def seconds_of_process(code: str) -> float:
    "The shorter of two runs of a fresh Python."

    def once():
        start = time.perf_counter()
        subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
        return time.perf_counter() - start

    return min(once(), once())


def use(table):
    "The models in use: import, first answer, one clip, an hour."
    torch_s, predict_s = (seconds_of_process(f'import {m}') for m in ('torch', 'soundclf.tools.classifier'))
    print(
        f'fresh Python: import torch {torch_s:.2f} s, import soundclf.tools.classifier {predict_s:.2f} s, ratio {predict_s / torch_s:.2f}'
    )
    path, wave = table.path[0], decode(table.path[0])
    for name in model_names():
        if (model_path(name) / 'model.onnx').is_file():
            answer = f'from soundclf.tools.classifier import Classifier; Classifier.load({name!r}, "onnx").predict({path!r}); import sys; assert "torch" not in sys.modules'
            print(
                f'{name}: fresh Python to the first answer through ONNX, without torch, {seconds_of_process(answer):.2f} s'
            )
        for engine in ('torch', 'onnx'):
            clf = Classifier.load(name, engine)
            print(
                f'{name}, {engine}: one clip from samples, warm, median {1000 * latency(lambda: clf.predict(*wave)):.1f} ms'
            )
    if 'scratch' not in model_names():
        return
    for minutes in (1, 60):
        code = f'''import itertools, numpy as np, resource, time
from soundclf.core.runtime import set_threads; set_threads()
from soundclf.tools.classifier import Classifier
clf = Classifier.load("scratch", "torch"); block = np.random.default_rng(0).standard_normal(44100).astype("float32") * 0.1
s = time.perf_counter(); n = sum(1 for _ in clf.stream((block for _ in range({60 * minutes})), sample_rate=44100))
print(time.perf_counter() - s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)'''
        seconds, peak = map(
            float,
            subprocess.run(
                [sys.executable, '-c', code], check=True, capture_output=True, text=True
            ).stdout.split(),
        )
        print(
            f'scratch, {minutes} minutes streamed: {60 * minutes / seconds:.0f} times real time, peak memory {peak:.0f} MB'
        )


def main(dataset: str):
    set_threads()
    table = load_dataset(dataset)
    train = table.iloc[fold_splits(table)[0].train].reset_index(drop=True)
    s = epoch_speedup(train)
    print(
        f'epoch of the reference network, {len(train)} clips: reference way {s["reference_s"]:.2f} s, cached {s["cached_s"]:.2f} s, ratio {s["ratio"]:.1f}; the network alone {s["network_s"]:.2f} s, so at most {s["bound"]:.1f} by any data path'
    )
    features = features_for(table)
    front, classes = front_end(features), table.label.nunique()
    cached_features(table.path, features)
    start = time.perf_counter()
    x = cached_features(table.path, features)
    read = time.perf_counter() - start
    start = time.perf_counter()
    for path in table.path[:50]:
        extract(path, features, front)
    once = (time.perf_counter() - start) / 50 * len(table)
    print(
        f'features of {len(table)} clips: computed one by one {once:.2f} s, from the cache (hashing included) {read:.2f} s, ratio {once / read:.1f}'
    )
    clip = torch.from_numpy(np.array(x[:1]))
    with torch.inference_mode():
        small, reference = (
            latency(lambda net=net: net(clip))
            for net in (SmallCNN(classes).eval(), ReferenceCNN(classes).eval())
        )
    print(
        f'one clip, forward: reference network {1000 * reference:.1f} ms, better network {1000 * small:.1f} ms, ratio {small / reference:.1f}'
    )
    start = time.perf_counter()
    near_duplicates(table)
    found = time.perf_counter() - start
    print(
        f'near-duplicates among {len(table)} clips: {found:.1f} s for {table.duration.sum():.0f} s of sound, {table.duration.sum() / found:.0f} times real time'
    )
    use(table)
    print(
        f'peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB, features {x.nbytes / 1e9:.2f} GB'
    )


if __name__ == '__main__':
    main(sys.argv[1])
