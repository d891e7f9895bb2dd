"Labels as people write them: spreadsheets, label tracks, stretches of recordings, one sound in two classes."

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from processes import Started
from tiny_runs import COARSE, FAST
from told import told

from soundclf.core.features import cached_features
from soundclf.core.folders import folder, labelled_clips
from soundclf.core.sound_files import left_out_text
from soundclf.core.splits import fold_splits
from soundclf.core.several_labels import label_matrix
from soundclf.core.stretches import cut_long_clips, seconds_used, sources, stretch_of
from soundclf.tools.labels import load_labels, save_label
from soundclf.tools.timeline import timeline_file

pytestmark = pytest.mark.usefixtures('home')


def write_sound(path: Path, seed: int, seconds: float = 0.6, rate: int = 8000):
    "Gliding tones, each seed with others."
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    glides = [np.sin(2 * np.pi * (f * t + g * t**2)) for f, g in rng.uniform(100, 1500, (8, 2))]
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.05 * np.sum(glides, 0), rate)


def noise(path: Path, seed: int, seconds: float = 0.6, rate: int = 8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).standard_normal(round(seconds * rate)) * 0.1
    sf.write(path, wave.astype('float32'), rate, subtype='FLOAT')


# ---- lists ----

NAMES = [f'{label}/{label}{i}.wav' for label in ('cat', 'dog') for i in range(5)]


@pytest.fixture
def sounds(tmp_path):
    for i, name in enumerate(NAMES):
        noise(tmp_path / name, i)
    return tmp_path


def rows_of(label=lambda name: name[:3], path=lambda name: name, end=''):
    return [f'{path(n)},{label(n)}{end}' for n in NAMES]


@pytest.mark.parametrize(
    'data',
    [
        '\n'.join(['path;label', *[r.replace(',', ';') for r in rows_of()]]).encode(),
        '\n'.join(['path\tlabel', *[r.replace(',', '\t') for r in rows_of()]]).encode(),
        '\n'.join(['path,label', *rows_of()]).encode('utf-8-sig'),
        '\n'.join(['path,label', *rows_of()]).encode('utf-16'),
        '\r\n'.join(['Path, LABEL ', *rows_of()]).encode(),
        '\n'.join(['path,label', *rows_of(path=lambda n: n.replace('/', '\\'))]).encode(),
    ],
    ids=['semicolon', 'tab', 'mark', 'utf16', 'capitals', 'windows'],
)
def test_a_list_as_spreadsheets_write_it(sounds, data):
    (sounds / 'labels.csv').write_bytes(data)
    table, messages = told(lambda: labelled_clips(sounds / 'labels.csv'))
    assert table.label.value_counts().to_dict() == {'cat': 5, 'dog': 5}
    assert table.sample_rate.tolist() == [8000] * 10 and messages == []
    assert set(load_labels(sounds / 'labels.csv')) == {str(sounds.resolve() / n) for n in NAMES}


def write_list(folder: Path, header: str, rows: list[str]) -> Path:
    (folder / 'labels.csv').write_text('\n'.join([header, *rows]) + '\n')
    return folder / 'labels.csv'


def test_columns_are_found_in_capitals(sounds):
    rows = [f'{n},{n[:3]},{i % 2 + 1}.0,g{i}' for i, n in enumerate(NAMES)]
    table = labelled_clips(write_list(sounds, 'Path,Label,Fold,Group', rows))
    assert table.fold.tolist() == [1, 2] * 5 and table.group[3] == 'g3'


def test_rows_without_a_label_are_left_out_and_counted(sounds):
    blank = {'cat/cat0.wav', 'cat/cat3.wav', 'dog/dog1.wav'}
    file = write_list(sounds, 'path,label', rows_of(lambda n: ' ' if n in blank else n[:3]))
    table, messages = told(lambda: folder(file))
    assert len(table) == 7 and '' not in set(table.label)
    assert left_out_text(table.attrs['left_out']) == 'not used: 3 files without a label'
    with pytest.raises(Exception, match='has no labels'):
        labelled_clips(write_list(sounds, 'path,label', rows_of(lambda n: '')))


@pytest.mark.parametrize('odd', ['Dog', 'DOG', 'd\u00f6g', 'do g'])
def test_labels_that_are_nearly_alike_are_named(sounds, odd):
    usual = {'d\u00f6g': 'do\u0308g', 'do g': 'do  g'}.get(odd, 'dog')
    label = {'dog/dog0.wav': odd, 'dog/dog1.wav': odd}
    file = write_list(sounds, 'path,label', rows_of(lambda n: label.get(n, usual if 'dog' in n else 'cat')))
    table, (message,) = told(lambda: labelled_clips(file))
    assert table.label.nunique() == 3
    assert 'differ in capitals or blanks only' in message and odd in message and usual in message


def test_blanks_around_labels_are_counted(sounds):
    blank = {'cat/cat0.wav', 'dog/dog1.wav'}
    file = write_list(sounds, 'path,label', rows_of(lambda n: f'{n[:3]} ' if n in blank else n[:3]))
    table, (message,) = told(lambda: labelled_clips(file))
    assert set(table.label) == {'cat', 'dog'}
    assert "2 labels with blanks around them (the first: 'cat ')" in message


REFUSED = [
    ('path,label,fold', rows_of(end=',1.5'), '10 folds that are not whole numbers'),
    ('path,label,fold', rows_of(end=','), '10 folds that are not whole numbers'),
    ('path,label', rows_of(end=',x'), 'line 2 has 3 cells and the header has 2'),
    ('path,label', rows_of(lambda n: 'dog|'), "label 'dog|' has an empty part".replace('|', r'\|')),
    ('path,label,Fold,fold', rows_of(end=',1,1'), "has the column 'fold' twice"),
    ('path,label,start,end', rows_of(end=',0.1,9'), 'from 0.1 to 9 s does not lie within the recording'),
    ('path,label,start,end', rows_of(end=',-1,0.2'), 'from -1 to 0.2 s'),
    ('path,label,start,end', rows_of(end=',0.3,0.3'), 'from 0.3 to 0.3 s'),
    ('path,label,start,end', rows_of(end=',a,0.3'), "'a' as start of cat/cat0.wav"),
    ('path,label,start,end', rows_of(end=',0,0.3') * 2, 'lists .* 2 times'),
    ('path,label,start,end', [*rows_of(end=',,'), 'cat/cat0.wav,cat,0,0.2'], 'lists .* 2 times'),
    (
        'path,label,start,end,group',
        ['cat/cat0.wav,cat,0,0.2,a', 'cat/cat0.wav,dog,0.2,0.4,b'],
        'into several groups',
    ),
    (
        'path,label,start,end,fold',
        ['cat/cat0.wav,cat,0,0.2,1', 'cat/cat0.wav,dog,0.2,0.4,2'],
        'several folds',
    ),
]


@pytest.mark.parametrize('header, rows, sentence', REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_a_list_that_cannot_be_meant_is_refused(sounds, header, rows, sentence):
    with pytest.raises(Exception, match=sentence):
        labelled_clips(write_list(sounds, header, rows))


def test_a_label_with_an_empty_part_is_not_written_either(sounds):
    with pytest.raises(Exception, match='empty part'):
        save_label(sounds / 'labels.csv', sounds / NAMES[0], 'dog|')
    assert not (sounds / 'labels.csv').exists()


def test_a_clip_may_have_several_labels(sounds):
    table = labelled_clips(write_list(sounds, 'path,label', rows_of(lambda n: 'dog | rain')))
    matrix, classes = label_matrix(table)
    assert classes == ['dog', 'rain'] and (matrix == 1).all()


def test_a_label_does_not_replace_those_of_stretches(sounds):
    file = write_list(sounds, 'path,label,start,end', [f'{NAMES[0]},cat,0,0.2', f'{NAMES[0]},dog,0.2,0.4'])
    before = file.read_text()
    with pytest.raises(Exception, match='has stretches'):
        save_label(file, sounds / NAMES[0], 'bird')
    assert file.read_text() == before
    save_label(file, sounds / NAMES[1], 'bird')
    assert labelled_clips(file).label.tolist() == ['cat', 'dog', 'bird']


def label_thirty(folder: Path, name: str):
    "Waits for the other process, and gives thirty labels."
    print('ready', flush=True)
    while not (folder / 'go').exists():
        time.sleep(0.001)
    for i in range(30):
        save_label(folder / 'labels.csv', folder / f'{name}-{i}.wav', name)


def test_labels_of_two_processes_are_all_kept(tmp_path):
    names = ['cat', 'dog']
    started = [Started(label_thirty, tmp_path, name) for name in names]
    assert [process.line() for process in started] == ['ready\n'] * 2
    (tmp_path / 'go').touch()
    assert [process.end() for process in started] == [(0, b'', b'')] * 2
    expected = {str(tmp_path / f'{name}-{i}.wav'): name for name in names for i in range(30)}
    assert load_labels(tmp_path / 'labels.csv') == expected


# ---- one sound under two labels ----


def test_the_same_bytes_under_two_labels_are_left_out(sounds):
    (sounds / 'dog' / 'copy.wav').write_bytes((sounds / 'cat' / 'cat1.wav').read_bytes())
    (sounds / 'cat' / 'again.wav').write_bytes((sounds / 'cat' / 'cat1.wav').read_bytes())
    table, messages = told(lambda: folder(sounds))
    (message,) = [m for m in messages if 'two labels' in m]
    assert 'cat1.wav (cat)' in message and 'copy.wav (dog)' in message
    assert {Path(p).stem for p in table.path} == {Path(n).stem for n in NAMES} - {'cat1'}
    assert left_out_text(table.attrs['left_out']) == 'not used: 3 files under two labels'


@pytest.mark.parametrize('folds', [True, False])
def test_the_same_content_under_two_labels_is_left_out(tmp_path, folds):
    for i, name in enumerate(NAMES):
        write_sound(tmp_path / name, i, 2.0)
    wave, rate = sf.read(tmp_path / NAMES[0])
    sf.write(tmp_path / 'dog' / 'quieter.flac', 0.4 * wave, rate)
    names = [*NAMES, 'dog/quieter.flac']
    rows = [f'{n},{n[:3]}' + f',{i % 2 + 1}' * folds for i, n in enumerate(names)]
    table, messages = told(lambda: folder(write_list(tmp_path, 'path,label' + ',fold' * folds, rows)))
    assert any('cat0.wav (cat) and' in m and 'quieter.flac (dog)' in m for m in messages)
    assert len(table) == 9 and not table.path.str.contains('cat0|quieter').any()


def test_a_shared_second_is_no_conflict(tmp_path):
    for i, name in enumerate(NAMES):
        write_sound(tmp_path / name, i, 4.0)
    cat, rate = sf.read(tmp_path / 'cat' / 'cat0.wav')
    dog, _ = sf.read(tmp_path / 'dog' / 'dog0.wav')
    sf.write(tmp_path / 'dog' / 'dog0.wav', np.concatenate([cat[: 2 * rate], dog[: 2 * rate]]), rate)
    table, messages = told(lambda: folder(tmp_path))
    assert len(table) == 10 and messages == []
    assert table.group.nunique() == 9  # one side of every split


def test_one_stretch_under_two_labels_is_left_out(sounds):
    rows = [f'{n},{n[:3]},0,0.3' for n in NAMES] + ['cat/cat0.wav,dog,0,0.3', 'cat/cat0.wav,dog,0.3,0.6']
    table, (message,) = told(lambda: folder(write_list(sounds, 'path,label,start,end', rows)))
    assert 'cat0.wav#t=0.000000,0.300000 (cat)' in message
    assert len(table) == 10 and table.label.value_counts().to_dict() == {'cat': 4, 'dog': 6}


# ---- stretches of long recordings ----


@pytest.fixture
def marked(tmp_path):
    "(six recordings of 40 s with label tracks, the marks as a table)"
    rng, marks = np.random.default_rng(0), []
    for i in range(6):
        file = tmp_path / 'long' / f'{i}.wav'
        noise(file, i, 40.0)
        starts = np.sort(rng.permutation(18)[:4]) * 2 + rng.uniform(0, 0.3, 4).round(3)
        lines = [
            f'{s:.6f}\t{s + 1.2:.6f}\t{label}\n' for s, label in zip(starts, ('cat', 'dog', 'cat', 'dog'))
        ]
        file.with_suffix('.txt').write_text(''.join(lines))
        marks += [(file, s, s + 1.2, label) for s, label in zip(starts, ('cat', 'dog', 'cat', 'dog'))]
    return tmp_path, pd.DataFrame(marks, columns=['file', 'start', 'end', 'label'])


def cut_by_hand(root: Path, marks: pd.DataFrame) -> Path:
    "A list of files that hold what is marked, each with its recording as the group."
    rows = []
    for i, m in enumerate(marks.itertuples()):
        wave, rate = sf.read(m.file, dtype='float32')
        (root / 'cut').mkdir(exist_ok=True)
        sf.write(
            root / 'cut' / f'{i:02d}.wav', wave[round(m.start * rate) : round(m.end * rate)], rate, 'FLOAT'
        )
        rows.append(f'{i:02d}.wav,{m.label},{m.file.stem}')
    return write_list(root / 'cut', 'path,label,group', rows)


def test_marked_stretches_have_the_features_and_the_figures_of_files_cut_by_hand(marked, tmp_path):
    from soundclf.scratch_cnn import cross_validate

    root, marks = marked
    stretches, cut = folder(root / 'long'), folder(cut_by_hand(root, marks))
    assert stretches.label.tolist() == cut.label.tolist() and len(cut) == 24
    assert stretches.fold.tolist() == cut.fold.tolist()
    assert stretches.group.nunique() == 6
    features = replace(COARSE, sample_rate=11025, f_max=5000, duration=1.5)
    np.testing.assert_array_equal(
        cached_features(sources(stretches), features), cached_features(cut.path, features)
    )
    recipe = replace(FAST, epochs=2)
    runs = [
        cross_validate(t, fold_splits(t)[:2], recipe, features, tmp_path / name)[0]
        for t, name in ((stretches, 'a'), (cut, 'b'))
    ]
    of_stretches, of_files = [r.drop(columns=['path', 'group']).reset_index(drop=True) for r in runs]
    pd.testing.assert_frame_equal(of_stretches, of_files)
    assert runs[0].path.is_unique
    path, start, end = stretch_of(runs[0].path[0])
    row = stretches[(stretches.path == path) & (stretches.start.round(6) == start)].iloc[0]
    assert row.end == pytest.approx(end) and row.label == runs[0].label[0]


def test_what_is_not_marked_is_counted(marked):
    root, marks = marked
    table = folder(root / 'long')
    assert table.attrs['left_out'] == []
    used = seconds_used(table)
    assert used.used.to_dict() == {'cat': pytest.approx(12 * 1.2), 'dog': pytest.approx(12 * 1.2)}
    assert used.recordings.tolist() == [6, 6] and used.left_out.tolist() == [0, 0]


def test_a_stretch_is_read_without_the_file(tmp_path):
    import tracemalloc

    noise(tmp_path / 'long.wav', 0, 600.0)
    (tmp_path / 'long.txt').write_text('300\t301\tcat\n400\t401\tdog\n')
    table = labelled_clips(tmp_path)
    cached_features(sources(table)[:1], COARSE)
    tracemalloc.start()
    cached_features(sources(table), COARSE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6  # the file has 19 MB as float32


def test_long_recordings_are_used_whole(tmp_path):
    for i, name in enumerate(NAMES[2:8]):
        noise(tmp_path / name, i, 20.0)
    table = folder(tmp_path)
    assert len(table) == 12 and set(table.duration) == {10.0}
    assert table.groupby('path').fold.nunique().max() == 1
    assert seconds_used(table).used.tolist() == [60.0, 60.0]


def test_the_bulk_of_the_clips_decides_their_length(tmp_path):
    for label in ('cat', 'dog'):
        for i in range(10):
            noise(tmp_path / label / f'{i}.wav', i + 10 * (label == 'dog'), 1.0)
    noise(tmp_path / 'cat' / 'long.wav', 99, 7.3)
    table = folder(tmp_path)
    assert table.duration.max() == 1.0 and len(table) == 20 + 8
    whole = seconds_used(table)
    assert whole.used['cat'] == pytest.approx(17.3) and whole.left_out['cat'] == 0
    assert folder(tmp_path, window=8.0).duration.max() == pytest.approx(7.3)


def test_a_table_without_long_clips_is_as_before(sounds):
    table = folder(sounds)
    assert list(table) == ['path', 'label', 'fold', 'group', 'duration', 'sample_rate', 'channels']
    assert cut_long_clips(table, 1.0) is table and sources(table) == table.path.tolist()


# ---- tracks, in and out ----


def test_timelines_of_several_recordings_can_be_trained_on(tmp_path):
    segments = [
        {'start': 0.0, 'end': 0.4, 'label': 'cat', 'probability': 0.9},
        {'start': 0.4, 'end': 0.6, 'label': 'dog', 'probability': 0.7},
    ]
    files = [tmp_path / f'{i}.wav' for i in range(3)]
    outs = [tmp_path / name for name in ('all.csv', 'all.selections.txt')]
    writers = [timeline_file(out, 3) for out in [*outs, tmp_path / 'tracks']]
    for i, file in enumerate(files):
        noise(file, i)
        for segment in segments:
            for writer in writers:
                writer.add_segment(segment, file.name)
    for out in outs:
        table = labelled_clips(out)
        assert table.label.tolist() == ['cat', 'dog'] * 3
        assert table.start.tolist() == [0.0, 0.4] * 3 and table.end.tolist() == [0.4, 0.6] * 3
    for track in (tmp_path / 'tracks').glob('*.txt'):
        track.rename(tmp_path / track.name)
    assert labelled_clips(tmp_path).label.tolist() == ['cat', 'dog'] * 3
    assert pd.read_csv(outs[0]).probability.tolist() == [0.9, 0.7] * 3
    assert '\t0.9000\n' in outs[1].read_text()


def test_a_track_of_one_recording_takes_no_second(tmp_path):
    track = timeline_file(tmp_path / 'a.txt')
    segment = {'start': 0.0, 'end': 0.4, 'label': 'cat', 'probability': 0.9}
    track.add_segment(segment, 'a.wav')
    with pytest.raises(Exception, match='takes the labels of one recording'):
        track.add_segment(segment, 'b.wav')
