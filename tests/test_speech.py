"The frozen speech embedding: missing or forged files, and probes that must not meet the test speaker."

import numpy as np
import pandas as pd
import pytest

from soundclf.core import speech
from soundclf.core.clips import targets
from soundclf.core.files import NoSource, SoundclfError
from soundclf.core.speech import KINDS, Probe, choose_probe, fetch_speech, probe_speech, speech_is_missing
from soundclf.core.splits import fold_splits

FEW = [Probe(kind=kind) for kind in KINDS]


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    "A data folder and a mirror that are empty, and no network."
    monkeypatch.setenv('SOUNDCLF_DATA', f'{tmp_path}/data')
    monkeypatch.setenv('SOUNDCLF_MIRROR', f'{tmp_path}/mirror')

    def fail(target, url, digest):
        raise NoSource(f'{target.name} cannot be downloaded: connect to a network.')

    monkeypatch.setattr('soundclf.core.fetch._download', fail)
    return tmp_path


@pytest.fixture
def words():
    "Made-up embeddings of four speakers: a direction for each digit, an offset for each speaker."
    rng, table = np.random.default_rng(0), pd.DataFrame({'label': list('0123456789') * 24})
    voice = np.arange(len(table)) // 60
    files = [f'{i}.wav' for i in range(len(table))]
    table = table.assign(path=files, fold=voice + 1, group=voice.astype(str))
    centre = rng.normal(size=(10, 96))[targets(table)] + 0.5 * rng.normal(size=(4, 96))[voice]
    return table, centre[:, None, None] + rng.normal(size=(len(table), 3, 9, 96))


def test_missing_files_are_one_sentence(nothing_here):
    assert 'speech_melspectrogram.onnx' in speech_is_missing()


def test_a_forged_file_is_named(nothing_here):
    file = nothing_here / 'mirror' / 'weights' / 'speech_melspectrogram.onnx'
    file.parent.mkdir(parents=True)
    file.write_bytes(b'another network')
    with pytest.raises(SoundclfError, match='speech_melspectrogram.onnx has SHA-256'):
        fetch_speech()


def test_the_test_speaker_has_no_part_in_choice_and_fit(words):
    table, windows = words
    split, rng = fold_splits(table)[0], np.random.default_rng(1)
    garbled, other = windows.copy(), table.copy()
    garbled[split.test] = 100 * rng.normal(size=garbled[split.test].shape)
    other.loc[split.test, 'label'] = rng.permutation(table.label.iloc[split.test])
    assert choose_probe(garbled, other, split.train, FEW) == choose_probe(windows, table, split.train, FEW)

    garbled[split.test[:5]] = windows[split.test[:5]]
    scores = [c for c in probe_speech(windows, table, split, FEW)[0] if c.startswith('p_')]
    clean = probe_speech(windows, table, split, FEW)[0][scores][:5]
    pd.testing.assert_frame_equal(clean, probe_speech(garbled, other, split, FEW)[0][scores][:5])


def test_training_speakers_are_left_out_whole(words, monkeypatch):
    table, windows = words
    split, seen = fold_splits(table)[0], []

    def watch(windows, y, train, judged, probes):
        seen.append((set(table.group.iloc[train]), set(table.group.iloc[judged])))
        return [np.eye(10)[y[judged]] for _ in probes]

    monkeypatch.setattr(speech, 'speech_proba', watch)
    assert choose_probe(windows, table, split.train, FEW) == FEW[0]
    assert len(seen) == 3
    for train, judged in seen:
        assert not train & judged
        assert not set(table.group.iloc[split.test]) & (train | judged)
