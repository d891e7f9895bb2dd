"""ESC-10 and ESC-50 under their own names, whole or as far as they can be had."""

import pandas as pd
import pytest
import soundfile as sf

from soundclf.core import esc50 as esc
from soundclf.core.files import NoSource
from soundclf.core.splits import fold_splits

NOWHERE = 'http://127.0.0.1:9'  # nothing listens there


@pytest.fixture
def listed(tmp_path, monkeypatch):
    "Rows of the list, and the folder in which their clips are looked for."
    monkeypatch.setenv('SOUNDCLF_DATA', str(tmp_path))
    monkeypatch.setattr(esc, 'data_dir', lambda: tmp_path)
    monkeypatch.setattr('soundclf.core.fetch.data_dir', lambda: tmp_path)
    monkeypatch.setattr('soundclf.core.fetch.mirror_dir', lambda: None)
    files = [f'{fold}-{n}-A-0.wav' for n, fold in enumerate((1, 1, 2, 2))]
    return pd.DataFrame({'filename': files, 'category': ['dog', 'rain', 'dog', 'rain']}), tmp_path


def test_the_part_that_is_here_is_taken_and_counted(listed, capsys):
    meta, folder = listed
    (folder / 'esc50/audio').mkdir(parents=True)
    for name in meta.filename[:3]:
        sf.write(folder / 'esc50/audio' / name, [0.0], 8000)
    part = esc._available(meta, NOWHERE, 'ESC-10')
    assert part.filename.tolist() == meta.filename[:3].tolist()
    assert '3 of 4 clips can be had here, 2 of 2 categories' in capsys.readouterr().out


def test_nothing_here_is_one_sentence(listed):
    meta, _ = listed
    with pytest.raises(NoSource, match='No clip of ESC-50 is here'):
        esc._available(meta, NOWHERE, 'ESC-50')


def test_official_folds_that_share_a_recording_can_be_evaluated():
    table = pd.DataFrame({
        'path': list('abcdefgh'),
        'label': ['dog', 'rain'] * 4,
        'group': ['1', '2', '3', '4', '1', '5', '6', '7'],  # recording 1 has clips in both folds
        'fold': [1, 1, 1, 1, 2, 2, 2, 2],
    })
    with pytest.warns(UserWarning, match='fold 1: 1, fold 2: 1'):
        first, second = fold_splits(table)
    assert first.test.tolist() == [0, 1, 2, 3]
    assert first.train.tolist() == [5, 6, 7]
    assert second.test.tolist() == [4, 5, 6, 7]
    assert second.train.tolist() == [1, 2, 3]
