"Speed and memory as ratios against baselines measured in the same run. No figure here is asserted anywhere."
import resource
import sys
import time

import numpy as np
import torch

from soundclf.core import set_threads
from soundclf.data import fold_splits, load_dataset, near_duplicates
from soundclf.eval_confusion import latency
from soundclf.scratch_cnn import ReferenceCNN, SmallCNN, epoch_speedup
from soundclf.transforms import cached_features, extract, features_for, front_end


def main(dataset: str):
    set_threads()
    table = load_dataset(dataset)
    train = table.iloc[fold_splits(table)[0].train].reset_index(drop=True)
    s = epoch_speedup(train)
    print(f'epoch of the reference network, {len(train)} clips: reference way {s["reference_s"]:.2f} s, cached {s["cached_s"]:.2f} s, ratio {s["ratio"]:.1f}')
    features = features_for(table); front, classes = front_end(features), table.label.nunique()
    cached_features(table.path, features)
    start = time.perf_counter(); x = cached_features(table.path, features); read = time.perf_counter() - start
    start = time.perf_counter()
    for path in table.path[:50]: extract(path, features, front)
    once = (time.perf_counter() - start) / 50 * len(table)
    print(f'features of {len(table)} clips: computed one by one {once:.2f} s, from the cache (hashing included) {read:.2f} s, ratio {once / read:.1f}')
    clip = torch.from_numpy(np.array(x[:1]))
    with torch.inference_mode():
        small, reference = (latency(lambda net=net: net(clip)) for net in (SmallCNN(classes).eval(), ReferenceCNN(classes).eval()))
    print(f'one clip, forward: reference network {1000 * reference:.1f} ms, better network {1000 * small:.1f} ms, ratio {small / reference:.1f}')
    start = time.perf_counter(); near_duplicates(table); found = time.perf_counter() - start
    print(f'near-duplicates among {len(table)} clips: {found:.1f} s for {table.duration.sum():.0f} s of sound, {table.duration.sum() / found:.0f} times real time')
    print(f'peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB, features {x.nbytes / 1e9:.2f} GB')


if __name__ == '__main__': main(sys.argv[1])
