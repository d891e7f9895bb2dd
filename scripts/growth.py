"""Measures how time and memory grow with the number of clips: python scripts/growth.py 1000 10000

Writes generated clips to a temporary folder and runs each step on them, in a process of its own. The slope is
that of time over size in logarithms, by the seconds of all cores, which other work on the machine changes
little. Memory is what a process holds itself: pages of files that it only maps are the system's."""

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


def make_clips(folder: Path, n: int, length: float):
    "Fills two class folders with clips."
    for name in 'ab':
        (folder / name).mkdir(parents=True)

    def write(i):
        sf.write(folder / 'ab'[i % 2] / f'{i:07}.wav', generated(i, length), RATE)

    Parallel(n_jobs=-1)(delayed(write)(i) for i in range(n))


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


def watched(step: str, folder: Path) -> tuple[float, float, float]:  # seconds, seconds of all cores, MB
    "What a step takes in this process."
    peak = Peak()
    peak.start()
    start = time.perf_counter(), time.process_time()
    WORK[step](folder)
    seconds = time.perf_counter() - start[0]
    core_seconds = time.process_time() - start[1]
    peak.look()
    return seconds, core_seconds, peak.mb


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
    from soundclf.core.results import peak_memory

    status = Path('/proc/self/status')
    if not status.exists():
        return peak_memory()
    lines = dict(line.split(':', 1) for line in status.read_text().splitlines())
    return int(lines['RssAnon'].split()[0]) / 1e3


def measured(step: str, folder: Path) -> list[float]:  # seconds, seconds of all cores, MB
    "Time and memory of a step, in a process of its own."
    own = {'PYTHONPATH': str(ROOT), 'SOUNDCLF_DATA': str(folder.parent)}
    env = os.environ | {'SOUNDCLF_QUIET': '1', 'OMP_NUM_THREADS': '1', **own}
    command = [sys.executable, __file__, '--step', step, '--folder', str(folder)]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return [float(x) for x in done.stdout.split()[-3:]]


LINE = '{:>3g} s a clip  {:<16}{:>8} clips {:>8.1f} s {:>8.1f} s of cores {:>6.0f} MB'
COLUMNS = ['length', 'step', 'clips', 'seconds', 'core_seconds', 'mb']


def growth(
    steps: list[str],  # some of `STEPS`
    sizes: list[int],  # numbers of clips
    length: float,  # of a clip, in seconds
) -> pd.DataFrame:  # with `COLUMNS`
    "The measurements of some steps at all sizes."
    rows = []
    for n in sorted(sizes):
        with tempfile.TemporaryDirectory(prefix='soundclf-growth-') as tmp:
            folder = Path(tmp) / 'clips'
            make_clips(folder, n, length)
            for step in steps:
                rows.append((length, step, n, *measured(step, folder)))
                print(LINE.format(*rows[-1]), flush=True)
    return pd.DataFrame(rows, columns=COLUMNS)


def slopes(table: pd.DataFrame) -> pd.DataFrame:  # length, step, from, to, slope, mb_per_1000
    "How the time of all cores grows between neighbouring sizes (1: with the clips), and memory per clip."
    rows = []
    for (length, step), part in table.sort_values('clips').groupby(['length', 'step'], sort=False):
        for a, b in itertools.pairwise(part.itertuples()):
            slope = np.log(b.core_seconds / a.core_seconds) / np.log(b.clips / a.clips)
            memory = 1000 * (b.mb - a.mb) / (b.clips - a.clips)
            rows.append((length, step, a.clips, b.clips, round(slope, 2), round(memory, 2)))
    return pd.DataFrame(rows, columns=['length', 'step', 'from', 'to', 'slope', 'mb_per_1000'])


def merged(file: Path, table: pd.DataFrame) -> pd.DataFrame:
    "The table with the rows of a file that it has no newer ones for; it takes the file's place."
    table = table.round({'seconds': 2, 'core_seconds': 2, 'mb': 0})
    if file.exists():
        table = pd.concat([pd.read_csv(file), table])
    table = table.drop_duplicates(['length', 'step', 'clips'], keep='last')
    table = table.sort_values(['length', 'step', 'clips'])
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(file, index=False)
    return table


def draw(table: pd.DataFrame, picture: Path):
    "Time and memory against the number of clips."
    from soundclf.core.drawing import PALETTE, legend_beside, new_figure, save_figure

    lengths = sorted(set(table.length))
    fig, axes = new_figure(len(lengths), 2, size=(11, 3.8 * len(lengths)), squeeze=False)
    for (of_time, of_memory), length in zip(axes, lengths):
        part = table[table.length == length]
        for step, color in zip(WORK, PALETTE):
            rows = part[part.step == step].sort_values('clips')
            of_time.plot(rows.clips, rows.core_seconds, '-o', color=color)
            of_memory.plot(rows.clips, rows.mb, '-o', color=color, label=step.replace('_', '-'))
        of_time.set(xscale='log', yscale='log', ylabel='seconds of all cores')
        of_memory.set(xscale='log', ylabel='memory (MB)', ylim=(0, None))
        for ax in (of_time, of_memory):
            ax.set(xlabel='recordings' if length > 1 else 'clips', title=f'{length:g} s each')
        legend_beside(of_memory)
    save_figure(fig, picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('sizes', nargs='*', type=int, help='numbers of clips')
    parser.add_argument('--length', type=float, default=1.0, help='seconds of a clip (default: 1)')
    parser.add_argument('--steps', nargs='*', choices=STEPS, default=STEPS, help='default: all')
    parser.add_argument('--out', type=Path, help='CSV file to add to; its picture lies beside it')
    parser.add_argument('--step', choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        if args.step == 'epoch':
            features(args.folder)  # an epoch reads them
        print(*watched(args.step, args.folder))
        return
    table = growth(args.steps, args.sizes, args.length)
    if args.out:
        table = merged(args.out, table)
        draw(table, args.out.with_suffix('.png'))
    print(slopes(table).to_string(index=False))


if __name__ == '__main__':
    main()
