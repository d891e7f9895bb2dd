"""Measures how time and memory grow with the number of clips: python scripts/growth.py 1000 10000

Writes short generated clips (and recordings of a minute) to a temporary folder and runs each step on them,
in a process of its own. Prints a table, and the slope of time over size in logarithms."""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

ROOT = Path(__file__).parents[1]
RATE = 16000  # Hz
STEPS = ('read', 'check', 'near_duplicates', 'features', 'folder')


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
    for i in range(n + minutes):
        file = folder / 'ab'[i % 2] / f'{i:07}.wav'
        file.parent.mkdir(parents=True, exist_ok=True)
        sf.write(file, generated(i, seconds if i < n else 60), RATE)


def run_step(step: str, folder: Path):
    "One step of what a folder of sounds goes through."
    from soundclf.core.audio import Features
    from soundclf.core.clips import clips_table
    from soundclf.core.sound_files import find_audio

    if step == 'folder':
        from soundclf.core.folders import folder as read_folder

        read_folder(folder)
        return
    files = find_audio(folder)
    table = clips_table(files, [p.parent.name for p in files])
    if step == 'check':
        from soundclf.core.checks import check_clips

        check_clips(table)
    if step == 'near_duplicates':
        from soundclf.core.duplicates import near_duplicates

        near_duplicates(table)
    if step == 'features':
        from soundclf.core.features import cached_features

        small = Features(sample_rate=RATE, duration=1.0, n_mels=32, f_max=8000.0)
        cached_features(table.path, small, folder.parent / 'features')


def peak_mb() -> float:
    "The most memory that this process held."
    import resource

    unit = 1e6 if sys.platform == 'darwin' else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measured(step: str, folder: Path) -> list[float]:  # seconds, MB
    "Time and memory of a step, in a process of its own."
    env = os.environ | {'SOUNDCLF_QUIET': '1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, __file__, '--step', step, '--folder', str(folder)]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
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
        start = time.perf_counter()
        run_step(args.step, args.folder)
        print(time.perf_counter() - start, peak_mb())
        return
    table = growth(args.steps, args.sizes, args.minutes, args.seconds)
    print_slopes(table)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table.round({'seconds': 2, 'mb': 0}).to_csv(args.out, index=False)


if __name__ == '__main__':
    main()
