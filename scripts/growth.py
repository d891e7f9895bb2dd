"""Measures how time and memory grow with the number of clips: python scripts/growth.py 1000 10000

Writes short generated clips (and recordings of a minute) to a temporary folder and runs each step on them,
in a process of its own. Prints a table, and the slope of time over size in logarithms. Memory is what a
process holds itself: pages of files that it only maps are the system's, which takes them back at need."""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
from joblib import Parallel, delayed

ROOT = Path(__file__).parents[1]
RATE = 16000  # Hz


def generated(seed: int, seconds: float) -> np.ndarray:
    "Noise with four gliding tones that come and go."
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.02 * rng.standard_normal(len(time))
    for _ in range(4):
        glide = rng.uniform(150, 3500) + rng.uniform(-50, 50) * time
        tone = np.sin(2 * np.pi * glide * time + rng.uniform(0, 6))
        swell = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(1, 8) * time)
        wave += rng.uniform(0.05, 0.2) * tone * swell
    return wave


def make_clips(folder: Path, n: int, minutes: int, seconds: float):
    "Fills two class folders with clips, and some recordings of a minute."
    for name in 'ab':
        (folder / name).mkdir(parents=True)

    def write(i):
        sf.write(folder / 'ab'[i % 2] / f'{i:07}.wav', generated(i, seconds if i < n else 60), RATE)

    Parallel(n_jobs=-1)(delayed(write)(i) for i in range(n + minutes))


def read(folder: Path) -> pd.DataFrame:
    "The clips table of a folder, read without any check."
    from soundclf.core.clips import clips_table
    from soundclf.core.sound_files import find_audio

    files = find_audio(folder)
    return clips_table(files, [p.parent.name for p in files])


def check(folder: Path):
    from soundclf.core.checks import check_clips

    check_clips(read(folder))


def near_duplicates(folder: Path):
    from soundclf.core.duplicates import near_duplicates

    near_duplicates(read(folder))


def small_features():
    "The features of a clip of one second."
    from soundclf.core.audio import Features

    return Features(sample_rate=RATE, duration=1.0, n_mels=32, f_max=8000.0)


def features(folder: Path):
    from soundclf.core.features import cached_features

    cached_features(read(folder).path, small_features())


def epoch(folder: Path):
    "One epoch on four fifths of the clips, and the answers for the others."
    from soundclf.transforms import Augment
    from soundclf.core.splits import fold_splits, grouped_folds
    from soundclf.scratch_cnn import Recipe, train_split

    table = read(folder)
    table['fold'] = grouped_folds(table, 5)
    recipe = Recipe(epochs=1, augment=Augment(crop=small_features().frames))
    train_split(table, fold_splits(table)[0], recipe, small_features(), folder.parent / 'runs')


def predict(folder: Path):
    "The answers of the packaged model, one after the other as `soundclf predict` writes them."
    from soundclf.core.sound_files import find_audio
    from soundclf.tools.classifier import Classifier

    for _ in Classifier.load().predict_each(find_audio(folder)):
        pass


def read_folder(folder: Path):
    "All that `train` and `audit` do with a folder first: check, near-duplicates, groups."
    from soundclf.core.folders import folder as read_all

    read_all(folder)


WORK = {
    'read': read,
    'check': check,
    'near_duplicates': near_duplicates,
    'features': features,
    'epoch': epoch,
    'predict': predict,
    'folder': read_folder,
}
STEPS = tuple(WORK)


class Peak(threading.Thread):
    "Watches how much memory this process holds itself."

    def __init__(self):
        super().__init__(daemon=True)
        self.mb = 0.0

    def run(self):
        while True:
            self.look()
            time.sleep(0.02)

    def look(self):
        self.mb = max(self.mb, held_mb())


def held_mb() -> float:
    "Memory of this process without the files it maps; where the system does not tell, its peak with them."
    import resource

    status = Path('/proc/self/status')
    if status.exists():
        lines = dict(line.split(':', 1) for line in status.read_text().splitlines())
        return int(lines['RssAnon'].split()[0]) / 1e3
    unit = 1e6 if sys.platform == 'darwin' else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measured(step: str, folder: Path) -> list[float]:  # seconds, MB
    "Time and memory of a step, in a process of its own."
    own = {'PYTHONPATH': str(ROOT), 'SOUNDCLF_DATA': str(folder.parent)}
    env = os.environ | {'SOUNDCLF_QUIET': '1', 'OMP_NUM_THREADS': '1', **own}
    command = [sys.executable, __file__, '--step', step, '--folder', str(folder)]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return [float(x) for x in done.stdout.split()[-2:]]


def growth(
    steps: list[str],  # some of `STEPS`
    sizes: list[int],  # numbers of clips
    minutes: int,  # recordings of a minute added to each
    seconds: float,  # length of a clip
) -> pd.DataFrame:  # step, clips, seconds, mb
    "The measurements of some steps at all sizes."
    rows = []
    for n in sorted(sizes):
        with tempfile.TemporaryDirectory(prefix='soundclf-growth-') as tmp:
            folder = Path(tmp) / 'clips'
            make_clips(folder, n, minutes, seconds)
            for step in steps:
                rows.append((step, n + minutes, *measured(step, folder)))
                print('{:<16}{:>9} clips {:>9.1f} s {:>7.0f} MB'.format(*rows[-1]), flush=True)
    return pd.DataFrame(rows, columns=['step', 'clips', 'seconds', 'mb'])


def print_slopes(table: pd.DataFrame):
    "The slope of time over size between neighbouring sizes, and the growth of memory."
    for step, rows in table.groupby('step', sort=False):
        for a, b in itertools.pairwise(rows.itertuples()):
            slope = np.log(b.seconds / a.seconds) / np.log(b.clips / a.clips)
            memory = 100 * (b.mb / a.mb - 1)
            print(f'{step:<16} {a.clips} to {b.clips}: slope {slope:.2f}, memory {memory:+.0f} %')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('sizes', nargs='*', type=int, help='numbers of clips')
    parser.add_argument('--minutes', type=int, default=0, help='recordings of a minute added to each size')
    parser.add_argument('--seconds', type=float, default=1.0, help='length of a clip')
    parser.add_argument('--steps', nargs='*', choices=STEPS, default=STEPS, help='default: all')
    parser.add_argument('--out', type=Path, help='CSV file to write')
    parser.add_argument('--step', choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        peak = Peak()
        peak.start()
        start = time.perf_counter()
        WORK[args.step](args.folder)
        seconds = time.perf_counter() - start
        peak.look()
        print(seconds, peak.mb)
        return
    table = growth(args.steps, args.sizes, args.minutes, args.seconds)
    print_slopes(table)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table.round({'seconds': 2, 'mb': 0}).to_csv(args.out, index=False)


if __name__ == '__main__':
    main()
