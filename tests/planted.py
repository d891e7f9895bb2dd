"Leaks and shortcuts that are planted into a set of generated clips, and whether the audit finds each."

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
from scipy.signal import butter, sosfilt

from soundclf.core.audio import resample
from soundclf.core.audit import audit
from soundclf.core.clips import clips_table
from soundclf.core.esc50 import synthetic

RATE = 8000
KINDS = ('noise', 'noise_burst', 'pulse_train', 'sawtooth')  # of the synthetic set; both classes have all


def clean_set(folder: Path, seed: int = 0) -> pd.DataFrame:
    "Clips of the synthetic set in two classes that say nothing: each has one take of every recording's kind."
    source = synthetic(seed, per_fold=4, rate=RATE)
    source = source[source.label.isin(KINDS)]
    recordings = source.drop_duplicates('group').sort_values(['label', 'fold', 'group'])
    takes = source.drop_duplicates('group').set_index('group')
    paths, labels, folds = [], [], []
    for i, group in enumerate(recordings.group):
        row = takes.loc[group]
        label = ['day', 'night'][(i + int(row.fold)) % 2]
        paths.append(folder / f'{label}-{i}.wav')
        labels.append(label)
        folds.append(int(row.fold))
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, paths[-1])
    return clips_table(paths, labels, folds)


def copied(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    "The same clips as files of their own."
    folder.mkdir(parents=True)
    paths = [shutil.copy(p, folder) for p in table.path]
    return clips_table(paths, table.label, table.fold)


def changed(table: pd.DataFrame, folder: Path, change: Callable) -> pd.DataFrame:
    "The clips, those of one class changed."
    table = copied(table, folder)
    for path in table.path[table.label == 'night']:
        wave, rate = sf.read(path)
        sf.write(path, np.clip(change(wave), -1, 1), rate)
    return table


def end_in_silence(wave):
    return np.concatenate([wave[: len(wave) * 3 // 4], np.zeros(len(wave) - len(wave) * 3 // 4)])


def begin_in_silence(wave):
    return end_in_silence(wave[::-1])[::-1]


def low_passed(wave):
    return sosfilt(butter(12, 2000, fs=RATE, output='sos'), wave)


def softer(wave):
    return 0.03 * wave / np.sqrt(np.mean(wave**2))


def with_offset(wave):
    return 0.9 * wave + 0.05


SHORTCUTS = {  # change -> (the fact that tells it, the way that takes it away)
    end_in_silence: ('silence at end', 'trimmed'),
    begin_in_silence: ('silence at start', 'trimmed'),
    low_passed: ('cutoff', 'low-passed'),
    softer: ('level', 're-levelled'),
    with_offset: ('DC offset', 'centred'),
}


def spoilt(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list, list]:
    "The clips with copies and re-encoded ones in the next fold: (table, copies, re-encoded), pairs of paths."
    table = copied(table, folder)
    copies, encoded = [], []
    for i, (path, label, fold) in enumerate(zip(table.path[::3], table.label[::3], table.fold[::3])):
        wave, rate = sf.read(path)
        to, other = fold % 5 + 1, ['.wav', '.ogg', '.flac'][i % 3]
        made = folder / f'{label}-again-{i}{other}'
        if other == '.wav':
            shutil.copy(path, made)
            copies.append((path, str(made)))
        else:
            sf.write(made, 0.6 * resample(wave[None].astype('float32'), rate, 11025)[0], 11025)
            encoded.append((path, str(made)))
        row = clips_table([made], [label], [to])
        table = pd.concat([table, row], ignore_index=True)
    return table.sort_values('path', ignore_index=True), copies, encoded


def leaks_found(clean: pd.DataFrame, folder: Path) -> tuple[dict[tuple, bool], int]:
    "Whether each planted leak is found, and how many are found that nobody planted."
    table, copies, encoded = spoilt(clean, folder)
    report = audit(table)
    doubled = {frozenset(d['paths']) for d in report['doubled'] if d['crosses']}
    near = {frozenset((p['path_a'], p['path_b'])) for p in report['near_duplicates']['across']}
    found = {('copy', *pair): frozenset(pair) in doubled for pair in copies}
    found |= {('re-encoded', *pair): frozenset(pair) in near for pair in encoded}
    return found, len((near | doubled) - {frozenset(pair) for pair in copies + encoded})


def shortcuts_found(clean: pd.DataFrame, folder: Path) -> dict[tuple, bool]:
    "Whether each planted shortcut is found."
    found = {}
    for change, (fact, _) in SHORTCUTS.items():
        telling = audit(changed(clean, folder / change.__name__, change))['telling']
        found['shortcut', fact] = fact in telling
    return found


def recall() -> dict:  # planted and found by kind, recall, found_unplanted
    "How many of the planted leaks and shortcuts are found; in two sets of clips."
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        sets = [clean_set(folder / f'clean {seed}', seed) for seed in (0, 1)]
        leaks = [leaks_found(clean, folder / f'leaks {i}') for i, clean in enumerate(sets)]
        found = leaks[0][0] | leaks[1][0] | shortcuts_found(sets[0], folder)
    kinds = pd.Series([name[0] for name in found])
    table = pd.DataFrame({'planted': 1, 'found': list(found.values())}).groupby(kinds).sum()
    missed = [' '.join(map(str, name)) for name, is_found in found.items() if not is_found]
    return {
        'by_kind': {kind: {'planted': int(n.planted), 'found': int(n.found)} for kind, n in table.iterrows()},
        'recall': round(sum(found.values()) / len(found), 6),
        'missed': missed,
        'found_unplanted': leaks[0][1] + leaks[1][1],
    }
