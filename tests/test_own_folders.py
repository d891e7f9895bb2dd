"Folders that mean something else than they seem, and what of them is not used."

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import soundfile as sf
from told import told

from soundclf.core.checks import check_clips
from soundclf.core.datasets import dataset_name, load_dataset
from soundclf.core.files import SoundclfError
from soundclf.core.folders import folder, clips_with_one_label, labelled_clips
from soundclf.core.sound_files import left_out_text

pytestmark = pytest.mark.usefixtures('home')


def write(root: Path, *names: str, silent: bool = False):
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        wave = np.random.default_rng(crc32(name.encode())).standard_normal(4800) * 0.1
        sf.write(file, 0 * wave if silent else wave, 8000)


def inside(*folders: str, n: int = 3) -> list[str]:
    return [f'{f}/{i}.wav' for f in folders for i in range(n)]


@pytest.mark.parametrize(
    'names, sentence',
    [
        (
            inside('train/cat', 'train/dog', 'test/cat', 'test/dog'),
            r'folders test, train, which are no classes',
        ),
        (inside('Train/cat', 'Val/cat', 'misc'), 'folders Train, Val, which are no classes'),
        (inside('training', 'validation'), 'which are no classes'),
        (inside('audio/cat', 'audio/dog'), 'has one folder, audio, with folders'),
        (inside('fold1', 'fold2'), 'has folds and no class folders in them: expected fold1/CLASS/FILE.wav'),
        (inside('cat', 'dog|'), 'has an empty part'),
        (['0.wav', '1.wav'], 'has no sounds in class folders and no label tracks'),
    ],
)
def test_layouts_that_mean_something_else_are_refused(tmp_path, names, sentence):
    write(tmp_path, *names)
    with pytest.raises(SoundclfError, match=sentence):
        labelled_clips(tmp_path)


@pytest.mark.parametrize('names', [inside('train', 'tram'), inside('test', 'dog'), inside('fold', 'crease')])
def test_classes_that_are_named_like_sets_are_classes(tmp_path, names):
    write(tmp_path, *names)
    assert labelled_clips(tmp_path).label.nunique() == 2


def test_folders_of_folds_are_folds(tmp_path):
    write(tmp_path, *inside(*[f'fold{k}/{label}' for k in range(1, 11) for label in ('cat', 'dog')], n=1))
    table = folder(tmp_path)
    assert set(table.label) == {'cat', 'dog'}
    assert [f'fold{f}' for f in table.fold] == [Path(p).parts[-3] for p in table.path]


def test_what_is_not_used_is_counted(tmp_path):
    write(tmp_path, *inside('cat', 'dog'), '@eaDir/cat/0.wav', *[f'loose{i}.wav' for i in range(3)])
    (tmp_path / 'bird').mkdir()
    table = folder(tmp_path)
    assert set(table.label) == {'cat', 'dog'} and len(table) == 6
    text = left_out_text(table.attrs['left_out'])
    assert text == 'not used: folder bird (empty), 3 files outside class folders'


def test_a_list_in_the_folder_is_pointed_to(tmp_path):
    write(tmp_path, '0.wav')
    (tmp_path / 'labels.csv').write_text('path,label\n0.wav,cat\n')
    with pytest.raises(SoundclfError, match='its labels.csv is a list: give '):
        labelled_clips(tmp_path)


def test_a_folder_named_like_a_data_set_is_a_folder(tmp_path, monkeypatch):
    write(tmp_path / 'synthetic', *inside('cat', 'dog', n=4))
    monkeypatch.chdir(tmp_path)
    assert dataset_name('synthetic') == 'own-synthetic'
    assert set(load_dataset('synthetic').label) == {'cat', 'dog'}
    monkeypatch.chdir(tmp_path / 'synthetic')
    assert dataset_name('synthetic') == 'synthetic'


def test_silent_clips_are_named_by_class(tmp_path, capsys):
    write(tmp_path, *inside('cat', 'dog', n=5))
    for i in range(3):
        write(tmp_path, f'dog/silent{i}.wav', silent=True)
        wave = np.zeros(4800 + i)  # not the same bytes
        sf.write(tmp_path / f'dog/silent{i}.wav', wave, 8000)
    table = folder(tmp_path)
    assert 'left out: silent clips (3 of dog; the first: ' in capsys.readouterr().out
    assert len(table) == 10  # silence leaves a class that has other sounds


CUTS = [
    f'{s}/machine{2 * m + (s == "bad")}_{i:03d}.wav'
    for s in ('good', 'bad')
    for m in range(4)
    for i in range(3)
]


def test_names_of_cuts_raise_the_question_and_a_pattern_answers_it(tmp_path):
    write(tmp_path, *CUTS)
    table, (message,) = told(lambda: folder(tmp_path))
    assert table.group.nunique() == 24
    assert 'machine1_000 and machine1_001 may be cuts of one recording (8 such beginnings)' in message
    assert "--group-by '(.*)_[0-9]+'" in message
    grouped, messages = told(lambda: load_dataset(str(tmp_path), group_by=r'(.*)_\d+'))
    assert messages == [] and grouped.group.nunique() == 8
    assert grouped.groupby('group').fold.nunique().max() == 1
    for wrong, sentence in (('(', 'not a regular expression'), ('x_(.*)', 'fits no name')):
        with pytest.raises(SoundclfError, match=sentence):
            folder(tmp_path, group_by=wrong)


@pytest.mark.parametrize('names', [['cat/cat_{}.wav', 'dog/dog_{}.wav'], ['cat/{}.wav', 'dog/{}.wav']])
def test_names_that_count_recordings_raise_no_question(tmp_path, names):
    write(tmp_path, *[n.format(i) for n in names for i in range(4)])
    assert told(lambda: folder(tmp_path))[1] == []


def test_classes_with_dollars_survive_their_figure(tmp_path):
    from soundclf.core.confusion import plot_confusions
    from soundclf.core.predictions import predictions_table

    classes = ['US$ {coins$', 'dog']
    write(tmp_path, *inside(*classes))
    table = folder(tmp_path)
    proba = np.eye(2)[(table.label == 'dog').to_numpy(int)]
    fig = plot_confusions({'a': predictions_table(table, np.arange(len(table)), proba, classes)}, cols=1)
    fig.canvas.draw()
    assert any(
        t.get_text().replace('\\', '') == classes[0]
        for t in fig.findobj(match=lambda a: hasattr(a, 'get_text'))
    )


def test_a_plus_in_the_name_of_a_folder_joins_two_labels(tmp_path):
    write(tmp_path, *inside('cat', 'dog', 'cat+dog', 'rock+roll'))
    assert set(labelled_clips(tmp_path).label) == {'cat', 'dog', 'cat|dog', 'rock+roll'}


def test_silent_files_are_no_conflict_and_stretches_no_duplicates(tmp_path, capsys):
    "Silence sounds the same under any label, and one file may hold many clips."
    write(tmp_path, *(f'{c}/{i}.wav' for c in ('cat', 'dog') for i in range(4)))
    write(tmp_path, 'cat/nothing.wav', 'dog/nothing.wav', silent=True)
    long = np.random.default_rng(5).normal(size=40000) * 0.1
    sf.write(tmp_path / 'cat' / 'long.wav', long, 8000)
    (tmp_path / 'cat' / 'long.txt').write_text('0.5\t1.1\tcat\n2.0\t2.6\tdog\n3.5\t4.1\tdog\n')
    table = folder(tmp_path)
    assert [f.reason for f in table.attrs['left_out'] if f.path.name == 'nothing.wav'] == ['silent'] * 2
    assert 'left out: silent clips (1 of cat, 1 of dog; the first: ' in capsys.readouterr().out
    assert len(table) == 11 and (check_clips(table).problem != 'duplicate').all()
    judged = clips_with_one_label(tmp_path)
    assert sorted(judged.path) == sorted(table.path)
